/*
 * One frame: encode, decode, validate; pure functions
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "crc32c.h"
#include "frame.h"

typedef struct FrameType {
    const char *name;
    uint32_t min_bytes;         /* of the payload */
    uint32_t max_bytes;
} FrameType;

static const FrameType frame_types[] = {
    [CURLING_TYPE_HELLO] = {
        "HELLO", CURLING_HELLO_DESCRIPTION,
        CURLING_HELLO_DESCRIPTION + CURLING_DESCRIPTION_MAX,
    },
    [CURLING_TYPE_WELCOME] = {
        "WELCOME", CURLING_WELCOME_BYTES, CURLING_WELCOME_BYTES,
    },
    [CURLING_TYPE_REJECT] = {
        "REJECT", CURLING_REJECT_TEXT, CURLING_REJECT_TEXT + CURLING_TEXT_MAX,
    },
    [CURLING_TYPE_ROUND_BEGIN] = {
        "ROUND_BEGIN", CURLING_BEGIN_BYTES, CURLING_BEGIN_BYTES,
    },
    [CURLING_TYPE_DATA] = { "DATA", 1, CURLING_PAYLOAD_MAX },
    [CURLING_TYPE_ROUND_END] = {
        "ROUND_END", CURLING_END_SIZE, CURLING_END_SIZE,
    },
    [CURLING_TYPE_RECEIVED] = { "RECEIVED", 0, 0 },
    [CURLING_TYPE_APPLIED] = {
        "APPLIED", CURLING_APPLIED_BYTES, CURLING_APPLIED_BYTES,
    },
    [CURLING_TYPE_FAILED] = { "FAILED", 0, CURLING_TEXT_MAX },
    [CURLING_TYPE_HEARTBEAT] = {
        "HEARTBEAT", CURLING_HEARTBEAT_BYTES, CURLING_HEARTBEAT_BYTES,
    },
    [CURLING_TYPE_STOP] = { "STOP", 0, 0 },
    [CURLING_TYPE_STOP_ACK] = { "STOP_ACK", 0, 0 },
    [CURLING_TYPE_SUPERSEDED] = { "SUPERSEDED", 0, 0 },
    [CURLING_TYPE_POWEROFF] = { "POWEROFF", 0, 0 },
    [CURLING_TYPE_FENCE] = {
        "FENCE", CURLING_FENCE_BYTES, CURLING_FENCE_BYTES,
    },
    [CURLING_TYPE_FENCED] = { "FENCED", 0, 0 },
};

#define N_FRAME_TYPES (sizeof(frame_types) / sizeof(frame_types[0]))

static_assert(N_FRAME_TYPES == CURLING_TYPE_FENCED + 1,
              "frame_types ends with the last type of wire.h");
static_assert(CURLING_HELLO_DESCRIPTION + CURLING_DESCRIPTION_MAX <=
              CURLING_PAYLOAD_MAX, "the longest HELLO fits a frame");
static_assert(CURLING_HEADER_MAGIC == 0, "a header begins with its magic");
static_assert(CURLING_HEADER_CRC + 4 == CURLING_HEADER_BYTES,
              "the header's checksum is its last field");

void curling_put_u16(uint8_t *to, uint16_t value)
{
    to[0] = value >> 8;
    to[1] = value & 0xff;
}

void curling_put_u32(uint8_t *to, uint32_t value)
{
    curling_put_u16(to, value >> 16);
    curling_put_u16(to + 2, value & 0xffff);
}

void curling_put_u64(uint8_t *to, uint64_t value)
{
    curling_put_u32(to, value >> 32);
    curling_put_u32(to + 4, value & 0xffffffff);
}

uint16_t curling_get_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] << 8 | from[1]);
}

uint32_t curling_get_u32(const uint8_t *from)
{
    return (uint32_t)curling_get_u16(from) << 16 | curling_get_u16(from + 2);
}

uint64_t curling_get_u64(const uint8_t *from)
{
    return (uint64_t)curling_get_u32(from) << 32 | curling_get_u32(from + 4);
}

void curling_frame_encode(const CurlingHeader *header, uint8_t *wire)
{
    curling_put_u32(wire + CURLING_HEADER_MAGIC, CURLING_WIRE_MAGIC);
    curling_put_u16(wire + CURLING_HEADER_VERSION, CURLING_WIRE_VERSION);
    wire[CURLING_HEADER_TYPE] = header->type;
    wire[CURLING_HEADER_FLAGS] = header->flags;
    curling_put_u32(wire + CURLING_HEADER_GENERATION, header->generation);
    curling_put_u32(wire + CURLING_HEADER_SEQUENCE, header->sequence);
    curling_put_u64(wire + CURLING_HEADER_ROUND, header->round);
    curling_put_u32(wire + CURLING_HEADER_LENGTH, header->length_bytes);
    curling_put_u32(wire + CURLING_HEADER_PAYLOAD_CRC, header->payload_crc);
    curling_put_u32(wire + CURLING_HEADER_RESERVED, 0);
    curling_put_u32(wire + CURLING_HEADER_CRC,
                    curling_crc32c(0, wire, CURLING_HEADER_CRC));
}

/* Who has connected to the wrong door, by the first octets that came. */
static const char *guess_protocol(uint32_t magic)
{
    switch (magic) {
    case 0x5145564d:            /* "QEVM" */
        return "; this is a plain migration, use migrate curling:... or a "
               "receiver without curling:";
    case 0x47455420:            /* "GET " */
    case 0x48454144:            /* "HEAD" */
    case 0x504f5354:            /* "POST" */
    case 0x48545450:            /* "HTTP" */
        return "; this is HTTP, not Curling";
    default:
        break;
    }
    switch (magic >> 16) {
    case 0x1503:                /* a TLS alert */
    case 0x1603:                /* a TLS handshake */
        return "; the peer uses TLS, set tls-creds on both sides or on none";
    default:
        return "";
    }
}

int curling_frame_check_magic(const uint8_t *wire, CurlingError *err)
{
    uint32_t magic = curling_get_u32(wire + CURLING_HEADER_MAGIC);

    if (magic != CURLING_WIRE_MAGIC) {
        return curling_error_set(err, -EPROTO,
                                 "not a frame: got magic 0x%08" PRIx32
                                 ", expected 0x%08" PRIx32 "%s",
                                 magic, (uint32_t)CURLING_WIRE_MAGIC,
                                 guess_protocol(magic));
    }
    return 0;
}

static int check_header(const uint8_t *wire, CurlingError *err)
{
    int ret = curling_frame_check_magic(wire, err);
    uint16_t version = curling_get_u16(wire + CURLING_HEADER_VERSION);
    uint32_t crc = curling_get_u32(wire + CURLING_HEADER_CRC);
    uint32_t crc_expected;
    uint8_t unknown_flags;
    uint32_t reserved;
    uint32_t length;

    if (ret < 0) {
        return ret;
    }
    /* Before the checksum: another version may have it elsewhere. */
    if (version != CURLING_WIRE_VERSION) {
        return curling_error_set(err, -EPROTO,
                                 "frame of wire version %u, expected %u",
                                 version, CURLING_WIRE_VERSION);
    }
    crc_expected = curling_crc32c(0, wire, CURLING_HEADER_CRC);
    if (crc != crc_expected) {
        return curling_error_set(err, -EPROTO,
                                 "damaged frame header: got checksum 0x%08"
                                 PRIx32 ", expected 0x%08" PRIx32,
                                 crc, crc_expected);
    }
    unknown_flags = wire[CURLING_HEADER_FLAGS] & ~CURLING_FLAG_OPTIONAL;
    if (unknown_flags) {
        return curling_error_set(err, -EPROTO,
                                 "frame with unknown flags: got 0x%02x, "
                                 "expected no other than 0x%02x",
                                 wire[CURLING_HEADER_FLAGS],
                                 CURLING_FLAG_OPTIONAL);
    }
    reserved = curling_get_u32(wire + CURLING_HEADER_RESERVED);
    if (reserved) {
        return curling_error_set(err, -EPROTO,
                                 "reserved field of a frame header: got 0x%08"
                                 PRIx32 ", expected 0", reserved);
    }
    length = curling_get_u32(wire + CURLING_HEADER_LENGTH);
    if (length > CURLING_PAYLOAD_MAX) {
        return curling_error_set(err, -EPROTO,
                                 "frame too long: got %" PRIu32
                                 " bytes, expected at most %u",
                                 length, CURLING_PAYLOAD_MAX);
    }
    return 0;
}

int curling_frame_decode(const uint8_t *wire, CurlingHeader *header,
                         CurlingError *err)
{
    int ret = check_header(wire, err);

    if (ret) {
        return ret;
    }
    *header = (CurlingHeader) {
        .type = wire[CURLING_HEADER_TYPE],
        .flags = wire[CURLING_HEADER_FLAGS],
        .generation = curling_get_u32(wire + CURLING_HEADER_GENERATION),
        .sequence = curling_get_u32(wire + CURLING_HEADER_SEQUENCE),
        .round = curling_get_u64(wire + CURLING_HEADER_ROUND),
        .length_bytes = curling_get_u32(wire + CURLING_HEADER_LENGTH),
        .payload_crc = curling_get_u32(wire + CURLING_HEADER_PAYLOAD_CRC),
    };
    return 0;
}

/* NULL for a type that is none */
static const FrameType *find_type(uint8_t type)
{
    if (type >= N_FRAME_TYPES || !frame_types[type].name) {
        return NULL;
    }
    return &frame_types[type];
}

int curling_frame_check_type(const CurlingHeader *header, CurlingError *err)
{
    const FrameType *type = find_type(header->type);

    if (!type) {
        if (header->flags & CURLING_FLAG_OPTIONAL) {
            return 1;
        }
        return curling_error_set(err, -EPROTO,
                                 "frame of unknown type: got %u, expected "
                                 "1 to %u", header->type,
                                 (unsigned int)N_FRAME_TYPES - 1);
    }
    if (header->length_bytes < type->min_bytes ||
        header->length_bytes > type->max_bytes) {
        return curling_error_set(err, -EPROTO,
                                 "%s frame of wrong length: got %" PRIu32
                                 " bytes, expected %" PRIu32 " to %" PRIu32,
                                 type->name, header->length_bytes,
                                 type->min_bytes, type->max_bytes);
    }
    return 0;
}

int curling_frame_check_payload(const CurlingHeader *header,
                                const void *payload, CurlingError *err)
{
    uint32_t crc = curling_crc32c(0, payload, header->length_bytes);

    if (crc != header->payload_crc) {
        return curling_error_set(err, -EPROTO,
                                 "damaged payload of a %s frame: got checksum "
                                 "0x%08" PRIx32 ", expected 0x%08" PRIx32,
                                 curling_frame_type_name(header->type),
                                 crc, header->payload_crc);
    }
    return 0;
}

const char *curling_frame_type_name(uint8_t type)
{
    const FrameType *found = find_type(type);

    return found ? found->name : "unknown";
}

size_t curling_frame_build(CurlingHeader *header, const void *payload,
                           size_t len_bytes, uint8_t *wire)
{
    assert(len_bytes <= CURLING_PAYLOAD_MAX);
    header->length_bytes = (uint32_t)len_bytes;
    header->payload_crc = curling_crc32c(0, payload, len_bytes);
    curling_frame_encode(header, wire);
    if (len_bytes) {
        memcpy(wire + CURLING_HEADER_BYTES, payload, len_bytes);
    }
    return CURLING_HEADER_BYTES + len_bytes;
}
