/*
 * Deltas: what changed in a page, as runs of octets to write over it
 *
 * A page is compared with the copy of it that the receiver has.  The delta is
 * a sequence of runs: how many octets stay, how many are new, and these.
 *
 *      stay (LEB128) | new (LEB128) | new octets | stay | new | ...
 *
 * What follows the last run stays; an empty delta says that nothing changed.
 * The idea is that of Remus (Cully et al., NSDI 2008) and of XBZRLE (Svärd et
 * al., VEE 2011, as in QEMU); but what is written is the new octets and not
 * their XOR, so that a delta may be applied twice.
 *
 * All functions are pure: any thread.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_DELTA_H
#define CURLING_DELTA_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "wire.h"

/*
 * The delta from @old to @now, both of @page_bytes (at most
 * CURLING_DELTA_MAX), into @to, which has @max_bytes.  Returns its length, 0
 * for equal pages, or -1 if it would be longer than @max_bytes.
 */
ssize_t curling_delta_encode(const uint8_t *old, const uint8_t *now,
                             size_t page_bytes, uint8_t *to,
                             size_t max_bytes);

/* Is this the delta of a page of @page_bytes?  Returns 0, or -EPROTO with got
 * and expected. */
int curling_delta_check(const uint8_t *delta, size_t len_bytes,
                        size_t page_bytes, CurlingError *err);

/* Write a delta that was checked over @page, which has @page_bytes. */
void curling_delta_apply(const uint8_t *delta, size_t len_bytes,
                         uint8_t *page, size_t page_bytes);

#endif
