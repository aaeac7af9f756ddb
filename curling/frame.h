/*
 * One frame: encode, decode, validate; pure functions
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_FRAME_H
#define CURLING_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "wire.h"

/* A frame header in the host's own byte order. */
typedef struct CurlingHeader {
    uint8_t type;               /* CURLING_TYPE_* */
    uint8_t flags;              /* CURLING_FLAG_* */
    uint32_t generation;
    uint32_t sequence;          /* in its round, from 0; 0 outside rounds */
    uint64_t round;             /* CURLING_ROUND_NONE outside rounds */
    uint32_t length_bytes;      /* of the payload */
    uint32_t payload_crc;
} CurlingHeader;

/* Big-endian stores and loads at any alignment. */
void curling_put_u16(uint8_t *to, uint16_t value);
void curling_put_u32(uint8_t *to, uint32_t value);
void curling_put_u64(uint8_t *to, uint64_t value);
uint16_t curling_get_u16(const uint8_t *from);
uint32_t curling_get_u32(const uint8_t *from);
uint64_t curling_get_u64(const uint8_t *from);

/*
 * Write @header into the CURLING_HEADER_BYTES at @wire, with its checksum.
 * @header->payload_crc must be that of the payload already.
 */
void curling_frame_encode(const CurlingHeader *header, uint8_t *wire);

/* Octets of a header that tell if it is one. */
#define CURLING_MAGIC_BYTES 4

/*
 * Do the CURLING_MAGIC_BYTES at @wire begin a frame?  Who speaks another
 * protocol may never send as much as a header.  Returns 0 or -EPROTO.
 */
int curling_frame_check_magic(const uint8_t *wire, CurlingError *err);

/*
 * Read the CURLING_HEADER_BYTES at @wire into @header and check magic,
 * version, checksum, flags (none but those of wire.h), reserved field and the
 * limit of the length.
 *
 * Returns 0, or -EPROTO with got and expected in @err.  @header is written
 * only on success.  An unknown type is not an error here: see
 * curling_frame_check_type().
 */
int curling_frame_decode(const uint8_t *wire, CurlingHeader *header,
                         CurlingError *err);

/*
 * Is the frame's type known to this version, and does its payload length
 * fit the type (exact for fixed payloads, bounded for the others)?
 *
 * Returns 0; 1 for an unknown optional frame, whose payload is to be read
 * and thrown away; -EPROTO for an unknown mandatory one or a wrong length.
 */
int curling_frame_check_type(const CurlingHeader *header, CurlingError *err);

/*
 * Does @payload (@header->length_bytes) match its checksum?
 * Returns 0 or -EPROTO.
 */
int curling_frame_check_payload(const CurlingHeader *header,
                                const void *payload, CurlingError *err);

/* "HELLO" for CURLING_TYPE_HELLO; "unknown" for what is none. */
const char *curling_frame_type_name(uint8_t type);

/*
 * A small frame with its payload of @len_bytes in one buffer: sets
 * length and payload checksum of @header, encodes it and copies the payload
 * behind it.  @wire has room for CURLING_HEADER_BYTES + @len_bytes, which is
 * at most CURLING_PAYLOAD_MAX.
 * Returns that size.
 */
size_t curling_frame_build(CurlingHeader *header, const void *payload,
                           size_t len_bytes, uint8_t *wire);

#endif
