/*
 * CRC32C (Castagnoli): the checksum of frames and rounds
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CRC32C_H
#define CURLING_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * Continue the checksum @crc over @len_bytes at @data; start with 0.
 * crc(ab) == crc32c(crc32c(0, a), b).  Reflected polynomial 0x82f63b78,
 * initial value and final xor 0xffffffff, as in iSCSI (RFC 3720).
 *
 * Uses the processor's instruction where there is one (SSE4.2, three
 * interleaved streams joined by carry-less arithmetic on a table), a table
 * of eight where not.  Any thread, never blocks.
 */
uint32_t curling_crc32c(uint32_t crc, const void *data, size_t len_bytes);

/* The table version, for tests to hold the two against each other. */
uint32_t curling_crc32c_portable(uint32_t crc, const void *data,
                                 size_t len_bytes);

/* "sse4.2" or "table". */
const char *curling_crc32c_implementation(void);

#endif
