/*
 * Fault: two machines, or two lengths, disagree about a checksum.
 * Invariant: every implementation, split and alignment gives the value of
 * the definition.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc32c.h"

typedef uint32_t Crc(uint32_t crc, const void *data, size_t len_bytes);

static Crc *const implementations[] = {
    curling_crc32c,
    curling_crc32c_portable,
};

#define N_IMPLEMENTATIONS \
    (sizeof(implementations) / sizeof(implementations[0]))

static const char check_string[] = "123456789";
#define CHECK_VALUE 0xe3069283

/* The definition, a bit at a time */
static uint32_t reference(uint32_t crc, const uint8_t *p, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        }
    }
    return ~crc;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 32;
}

static void fill_random(uint8_t *to, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = next_random(&seed) & 0xff;
    }
}

static void *compute(void *opaque)
{
    uint32_t *result = opaque;

    *result = curling_crc32c(0, check_string, 9);
    return NULL;
}

/* Runs first: the tables are made by whoever comes first */
static void test_first_use_in_many_threads(void **state)
{
    pthread_t threads[8];
    uint32_t results[8] = { 0 };

    (void)state;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, compute,
                                        &results[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(results[i], CHECK_VALUE);
    }
}

/* RFC 3720, B.4; the RFC prints the octets of the checksum as sent */
static void test_vectors(void **state)
{
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0x00, 0x00, [16] = 0x14, [22] = 0x04, [27] = 0x14,
        [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    uint8_t zeroes[32] = { 0 };
    uint8_t ones[32];
    uint8_t up[32];
    uint8_t down[32];

    (void)state;
    memset(ones, 0xff, sizeof(ones));
    for (int i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = 31 - i;
    }
    for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
        Crc *crc = implementations[i];

        assert_int_equal(crc(0, zeroes, 32), 0x8a9136aa);
        assert_int_equal(crc(0, ones, 32), 0x62a8ab43);
        assert_int_equal(crc(0, up, 32), 0x46dd794e);
        assert_int_equal(crc(0, down, 32), 0x113fdb5c);
        assert_int_equal(crc(0, read_command, 48), 0xd9963a56);
        assert_int_equal(crc(0, check_string, 9), CHECK_VALUE);
    }
}

static void test_nothing_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
        assert_int_equal(implementations[i](0, NULL, 0), 0);
        assert_int_equal(implementations[i](0x12345678, "", 0), 0x12345678);
    }
}

/* Each length and alignment where whole words begin or end */
static void test_short_lengths(void **state)
{
    uint8_t data[8 + 96];

    (void)state;
    fill_random(data, sizeof(data), 1);
    for (size_t at = 0; at < 8; at++) {
        for (size_t len = 0; len <= 96; len++) {
            uint32_t expected = reference(0, data + at, len);

            for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
                assert_int_equal(implementations[i](0, data + at, len),
                                 expected);
            }
        }
    }
}

/* Lengths around those where interleaved streams begin or end */
static void test_block_edges(void **state)
{
    static const size_t edges[] = {
        256, 512, 768, 1536, 2304, 4096, 8192, 12288, 13056, 24576, 37632,
    };
    size_t room = 37632 + 64;
    uint8_t *data = malloc(room);

    (void)state;
    assert_non_null(data);
    fill_random(data, room, 2);
    for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
        for (size_t at = 0; at < 8; at += 3) {
            for (size_t len = edges[e] - 9; len <= edges[e] + 17; len += 2) {
                uint32_t expected = reference(7, data + at, len);

                for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
                    assert_int_equal(implementations[i](7, data + at, len),
                                     expected);
                }
            }
        }
    }
    free(data);
}

/* One stream cut into pieces at random: crc(ab) == crc(crc(a), b) */
static void test_random_splits(void **state)
{
    size_t room = 64 * 1024;
    uint8_t *data = malloc(room);
    uint64_t seed = 3;

    (void)state;
    assert_non_null(data);
    fill_random(data, room, 4);
    for (int round = 0; round < 200; round++) {
        size_t at = next_random(&seed) % 64;
        size_t len = next_random(&seed) % (room - at);
        uint32_t expected = reference(0, data + at, len);

        for (size_t i = 0; i < N_IMPLEMENTATIONS; i++) {
            uint32_t crc = 0;
            size_t done = 0;

            while (done < len) {
                size_t most = next_random(&seed) % 2 ? 50 : 20000;
                size_t piece = next_random(&seed) % most;

                if (piece > len - done) {
                    piece = len - done;
                }
                crc = implementations[i](crc, data + at + done, piece);
                done += piece;
            }
            assert_int_equal(crc, expected);
        }
    }
    free(data);
}

/* 4 MiB of one byte set: distances longer than any stream */
static void test_implementations_agree_on_large(void **state)
{
    size_t len = 4 << 20;
    uint8_t *data = calloc(1, len + 1);
    uint32_t last = 0;

    (void)state;
    assert_non_null(data);
    for (size_t at = 1; at < len; at = at * 3 + 1) {
        uint32_t crc;

        data[at] = 0x80;
        crc = curling_crc32c(0, data + 1, len);
        assert_int_equal(crc, curling_crc32c_portable(0, data + 1, len));
        assert_int_not_equal(crc, last);
        last = crc;
    }
    free(data);
}

static void test_name_of_implementation(void **state)
{
    const char *name = curling_crc32c_implementation();

    (void)state;
    print_message("curling_crc32c() uses: %s\n", name);
    assert_true(!strcmp(name, "sse4.2") || !strcmp(name, "table"));
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        assert_string_equal(name, "sse4.2");
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_use_in_many_threads),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_nothing_changes_nothing),
        cmocka_unit_test(test_short_lengths),
        cmocka_unit_test(test_block_edges),
        cmocka_unit_test(test_random_splits),
        cmocka_unit_test(test_implementations_agree_on_large),
        cmocka_unit_test(test_name_of_implementation),
    };

    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
