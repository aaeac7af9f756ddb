/*
 * Fault: a header or payload that is damaged, foreign or of another version.
 * Invariant: it is refused with got and expected; what is not, comes out as
 * it went in, in an octet order that no machine changes.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc32c.h"
#include "frame.h"

static const CurlingHeader sample = {
    .type = CURLING_TYPE_DATA,
    .generation = 0x01020304,
    .sequence = 0x05060708,
    .round = 0x1112131415161718,
    .length_bytes = 5,
    .payload_crc = 0x9a71bb4c,
};

static const uint8_t sample_wire[CURLING_HEADER_BYTES] = {
    0x43, 0x55, 0x52, 0x4c,                             /* magic */
    0x00, 0x01,                                         /* version */
    0x05,                                               /* type */
    0x00,                                               /* flags */
    0x01, 0x02, 0x03, 0x04,                             /* generation */
    0x05, 0x06, 0x07, 0x08,                             /* sequence */
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,     /* round */
    0x00, 0x00, 0x00, 0x05,                             /* length */
    0x9a, 0x71, 0xbb, 0x4c,                             /* payload CRC */
    0x00, 0x00, 0x00, 0x00,                             /* reserved */
    0x2a, 0xd8, 0x56, 0x24,                             /* CRC */
};

static void assert_same_header(const CurlingHeader *a, const CurlingHeader *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->sequence, b->sequence);
    assert_true(a->round == b->round);
    assert_int_equal(a->length_bytes, b->length_bytes);
    assert_int_equal(a->payload_crc, b->payload_crc);
}

/* Decoding @wire fails with a sentence that has @part, and writes nothing */
static void assert_refused(const uint8_t *wire, const char *part)
{
    CurlingHeader header;
    CurlingHeader untouched;
    CurlingError err = { "" };

    memset(&header, 0xa5, sizeof(header));
    memset(&untouched, 0xa5, sizeof(untouched));
    assert_int_equal(curling_frame_decode(wire, &header, &err), -EPROTO);
    assert_memory_equal(&header, &untouched, sizeof(header));
    if (!strstr(err.text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
    }
    assert_int_equal(curling_frame_decode(wire, &header, NULL), -EPROTO);
}

/* As a peer would who believes in what it sends */
static void set_checksum(uint8_t *wire)
{
    curling_put_u32(wire + CURLING_HEADER_CRC,
                    curling_crc32c(0, wire, CURLING_HEADER_CRC));
}

static void test_integers(void **state)
{
    uint8_t bytes[32];

    (void)state;
    for (size_t at = 0; at < 8; at++) {
        memset(bytes, 0xee, sizeof(bytes));
        curling_put_u16(bytes + at, 0x0102);
        assert_memory_equal(bytes + at, "\x01\x02\xee", 3);
        assert_int_equal(curling_get_u16(bytes + at), 0x0102);

        curling_put_u32(bytes + at, 0xf1020304);
        assert_memory_equal(bytes + at, "\xf1\x02\x03\x04\xee", 5);
        assert_int_equal(curling_get_u32(bytes + at), 0xf1020304);

        curling_put_u64(bytes + at, 0xf102030405060708);
        assert_memory_equal(bytes + at,
                            "\xf1\x02\x03\x04\x05\x06\x07\x08\xee", 9);
        assert_true(curling_get_u64(bytes + at) == 0xf102030405060708);
    }
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(curling_get_u16(bytes), UINT16_MAX);
    assert_int_equal(curling_get_u32(bytes), UINT32_MAX);
    assert_true(curling_get_u64(bytes) == UINT64_MAX);
}

static void test_octets_are_fixed(void **state)
{
    uint8_t wire[CURLING_HEADER_BYTES];
    CurlingHeader header;

    (void)state;
    memset(wire, 0xa5, sizeof(wire));
    curling_frame_encode(&sample, wire);
    assert_memory_equal(wire, sample_wire, sizeof(wire));
    assert_int_equal(curling_frame_decode(sample_wire, &header, NULL), 0);
    assert_same_header(&header, &sample);
}

static void test_extremes_come_back(void **state)
{
    static const CurlingHeader extreme = {
        .type = 255,
        .flags = CURLING_FLAG_OPTIONAL,
        .generation = UINT32_MAX,
        .sequence = UINT32_MAX,
        .round = CURLING_ROUND_NONE,
        .length_bytes = CURLING_PAYLOAD_MAX,
        .payload_crc = UINT32_MAX,
    };
    static const CurlingHeader nothing = { .type = 0 };
    const CurlingHeader *headers[] = { &extreme, &nothing };

    (void)state;
    for (int i = 0; i < 2; i++) {
        uint8_t wire[CURLING_HEADER_BYTES + 1];
        CurlingHeader header;

        /* At an odd address, too */
        curling_frame_encode(headers[i], wire + 1);
        assert_int_equal(curling_frame_decode(wire + 1, &header, NULL), 0);
        assert_same_header(&header, headers[i]);
    }
}

static void test_every_bit_flip_is_refused(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 8 * CURLING_HEADER_BYTES; bit++) {
        uint8_t wire[CURLING_HEADER_BYTES];

        memcpy(wire, sample_wire, sizeof(wire));
        wire[bit / 8] ^= 1 << bit % 8;
        assert_refused(wire, "xpected");
    }
}

static void test_every_pair_of_bit_flips_is_refused(void **state)
{
    size_t bits = 8 * CURLING_HEADER_BYTES;

    (void)state;
    for (size_t a = 0; a < bits; a++) {
        for (size_t b = a + 1; b < bits; b++) {
            uint8_t wire[CURLING_HEADER_BYTES];
            CurlingHeader header;

            memcpy(wire, sample_wire, sizeof(wire));
            wire[a / 8] ^= 1 << a % 8;
            wire[b / 8] ^= 1 << b % 8;
            assert_int_equal(curling_frame_decode(wire, &header, NULL),
                             -EPROTO);
        }
    }
}

static void test_every_byte_shift_is_refused(void **state)
{
    uint8_t stream[3 * CURLING_HEADER_BYTES];
    CurlingHeader header;

    (void)state;
    for (int i = 0; i < 3; i++) {
        memcpy(stream + i * CURLING_HEADER_BYTES, sample_wire,
               CURLING_HEADER_BYTES);
    }
    for (size_t at = 1; at < CURLING_HEADER_BYTES; at++) {
        assert_int_equal(curling_frame_decode(stream + at, &header, NULL),
                         -EPROTO);
    }
}

static void test_wrong_fields_with_right_checksum(void **state)
{
    uint8_t wire[CURLING_HEADER_BYTES];

    (void)state;
    memcpy(wire, sample_wire, sizeof(wire));
    curling_put_u32(wire + CURLING_HEADER_MAGIC, 0x47455420);
    set_checksum(wire);
    assert_refused(wire, "got magic 0x47455420, expected 0x4355524c");

    memcpy(wire, sample_wire, sizeof(wire));
    curling_put_u16(wire + CURLING_HEADER_VERSION, 2);
    set_checksum(wire);
    assert_refused(wire, "version 2, expected 1");

    memcpy(wire, sample_wire, sizeof(wire));
    wire[CURLING_HEADER_FLAGS] = 0x03;
    set_checksum(wire);
    assert_refused(wire, "got 0x03, expected no other than 0x01");

    memcpy(wire, sample_wire, sizeof(wire));
    curling_put_u32(wire + CURLING_HEADER_RESERVED, 1);
    set_checksum(wire);
    assert_refused(wire, "got 0x00000001, expected 0");

    memcpy(wire, sample_wire, sizeof(wire));
    curling_put_u32(wire + CURLING_HEADER_LENGTH, CURLING_PAYLOAD_MAX + 1);
    set_checksum(wire);
    assert_refused(wire, "got 262145 bytes, expected at most 262144");

    memcpy(wire, sample_wire, sizeof(wire));
    curling_put_u32(wire + CURLING_HEADER_LENGTH, UINT32_MAX);
    set_checksum(wire);
    assert_refused(wire, "got 4294967295 bytes");
}

typedef struct TypeLimits {
    uint8_t type;
    const char *name;
    uint32_t min_bytes;
    uint32_t max_bytes;
} TypeLimits;

/* Literal numbers: what the table of frame.c is held against */
static const TypeLimits type_limits[] = {
    { 1, "HELLO", 40, 40 + 65536 },
    { 2, "WELCOME", 40, 40 },
    { 3, "REJECT", 4, 4 + 1024 },
    { 4, "ROUND_BEGIN", 16, 16 },
    { 5, "DATA", 1, 262144 },
    { 6, "ROUND_END", 24, 24 },
    { 7, "RECEIVED", 0, 0 },
    { 8, "APPLIED", 8, 8 },
    { 9, "FAILED", 0, 1024 },
    { 10, "HEARTBEAT", 32, 32 },
    { 11, "STOP", 0, 0 },
    { 12, "STOP_ACK", 0, 0 },
    { 13, "SUPERSEDED", 0, 0 },
    { 14, "POWEROFF", 0, 0 },
    { 15, "FENCE", 8, 8 },
    { 16, "FENCED", 0, 0 },
};

#define N_TYPES (sizeof(type_limits) / sizeof(type_limits[0]))

static void assert_length(const TypeLimits *limits, uint8_t flags,
                          uint32_t len, int expected)
{
    CurlingHeader header = {
        .type = limits->type,
        .flags = flags,
        .length_bytes = len,
    };
    CurlingError err = { "" };

    assert_int_equal(curling_frame_check_type(&header, &err), expected);
    if (expected) {
        assert_non_null(strstr(err.text, limits->name));
        assert_non_null(strstr(err.text, "got"));
        assert_non_null(strstr(err.text, "expected"));
    }
}

static void test_length_of_every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        const TypeLimits *limits = &type_limits[i];

        for (uint8_t flags = 0; flags <= CURLING_FLAG_OPTIONAL; flags++) {
            assert_length(limits, flags, limits->min_bytes, 0);
            assert_length(limits, flags, limits->max_bytes, 0);
            assert_length(limits, flags, limits->max_bytes + 1, -EPROTO);
            assert_length(limits, flags, UINT32_MAX, -EPROTO);
            if (limits->min_bytes) {
                assert_length(limits, flags, limits->min_bytes - 1, -EPROTO);
                assert_length(limits, flags, 0, -EPROTO);
            }
        }
    }
}

static void test_names_of_all_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        assert_string_equal(curling_frame_type_name(type_limits[i].type),
                            type_limits[i].name);
    }
    assert_string_equal(curling_frame_type_name(0), "unknown");
    for (unsigned int type = N_TYPES + 1; type <= 255; type++) {
        assert_string_equal(curling_frame_type_name(type), "unknown");
    }
}

static void test_unknown_types(void **state)
{
    (void)state;
    for (unsigned int type = 0; type <= 255; type++) {
        CurlingHeader header = { .type = type };
        CurlingError err = { "" };

        if (type >= 1 && type <= N_TYPES) {
            continue;
        }
        assert_int_equal(curling_frame_check_type(&header, &err), -EPROTO);
        assert_non_null(strstr(err.text, "expected 1 to 16"));
        header.flags = CURLING_FLAG_OPTIONAL;
        assert_int_equal(curling_frame_check_type(&header, &err), 1);
        header.length_bytes = CURLING_PAYLOAD_MAX;
        assert_int_equal(curling_frame_check_type(&header, NULL), 1);
    }
}

static void test_build(void **state)
{
    uint8_t wire[CURLING_HEADER_BYTES + 6];
    CurlingHeader header = sample;

    (void)state;
    header.length_bytes = 77;
    header.payload_crc = 77;
    memset(wire, 0xa5, sizeof(wire));
    assert_int_equal(curling_frame_build(&header, "hello", 5, wire), 45);
    assert_same_header(&header, &sample);
    assert_memory_equal(wire, sample_wire, CURLING_HEADER_BYTES);
    assert_memory_equal(wire + CURLING_HEADER_BYTES, "hello\xa5", 6);
}

static void test_build_without_payload(void **state)
{
    static const uint8_t expected[CURLING_HEADER_BYTES + 1] = {
        0x43, 0x55, 0x52, 0x4c, 0x00, 0x01, 0x0a, 0x01,
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        [36] = 0xd0, 0xad, 0xb8, 0x94, 0xa5,
    };
    uint8_t wire[CURLING_HEADER_BYTES + 1];
    CurlingHeader header = {
        .type = CURLING_TYPE_HEARTBEAT,
        .flags = CURLING_FLAG_OPTIONAL,
        .generation = UINT32_MAX,
        .round = CURLING_ROUND_NONE,
    };

    (void)state;
    memset(wire, 0xa5, sizeof(wire));
    assert_int_equal(curling_frame_build(&header, NULL, 0, wire), 40);
    assert_memory_equal(wire, expected, sizeof(wire));
    assert_int_equal(curling_frame_check_payload(&header, NULL, NULL), 0);
}

static void test_every_bit_flip_of_payload_is_refused(void **state)
{
    uint8_t payload[256];
    uint8_t wire[CURLING_HEADER_BYTES + sizeof(payload)];
    CurlingHeader header = { .type = CURLING_TYPE_DATA };

    (void)state;
    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 7);
    }
    curling_frame_build(&header, payload, sizeof(payload), wire);
    assert_int_equal(curling_frame_check_payload(&header, payload, NULL), 0);
    for (size_t bit = 0; bit < 8 * sizeof(payload); bit++) {
        CurlingError err = { "" };

        payload[bit / 8] ^= 1 << bit % 8;
        assert_int_equal(curling_frame_check_payload(&header, payload, &err),
                         -EPROTO);
        assert_non_null(strstr(err.text, "DATA"));
        assert_non_null(strstr(err.text, "got"));
        assert_non_null(strstr(err.text, "expected"));
        payload[bit / 8] ^= 1 << bit % 8;
    }
}

static void test_error_is_one_sentence(void **state)
{
    CurlingError err;
    char letters[2 * CURLING_ERROR_BYTES];

    (void)state;
    assert_int_equal(curling_error_set(&err, -EPROTO, "got %d", 3), -EPROTO);
    assert_string_equal(err.text, "got 3");
    assert_int_equal(curling_error_set(NULL, -EIO, "got %d", 3), -EIO);

    /* Around what it says already */
    assert_int_equal(curling_error_set(&err, -EIO, "DATA: %s", err.text),
                     -EIO);
    assert_string_equal(err.text, "DATA: got 3");

    memset(letters, 'x', sizeof(letters) - 1);
    letters[sizeof(letters) - 1] = 0;
    curling_error_set(&err, -EIO, "%s", letters);
    assert_int_equal(strlen(err.text), CURLING_ERROR_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_octets_are_fixed),
        cmocka_unit_test(test_extremes_come_back),
        cmocka_unit_test(test_every_bit_flip_is_refused),
        cmocka_unit_test(test_every_pair_of_bit_flips_is_refused),
        cmocka_unit_test(test_every_byte_shift_is_refused),
        cmocka_unit_test(test_wrong_fields_with_right_checksum),
        cmocka_unit_test(test_length_of_every_type),
        cmocka_unit_test(test_names_of_all_types),
        cmocka_unit_test(test_unknown_types),
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_build_without_payload),
        cmocka_unit_test(test_every_bit_flip_of_payload_is_refused),
        cmocka_unit_test(test_error_is_one_sentence),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
