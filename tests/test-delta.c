/*
 * Fault: a delta that leaves something out, or says too much; one that was
 * cut or damaged; one that finds too little room.
 * Invariant: over the page that it was made against, a delta is the other
 * page, once or twice; what passes the check stays within the page, and
 * nothing is ever written beyond the room that there is.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "delta.h"

#define GUARD_BYTES 64
#define GUARD 0xa5

/* Longer than any delta of a page: one octet new, one stays, and so on */
#define ROOM_BYTES (3 * CURLING_DELTA_MAX)

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

/* Exactly as long as it is: ASan sees who reads or writes beyond. */
static uint8_t *copy_of(const uint8_t *from, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    if (len) {
        memcpy(copy, from, len);
    }
    return copy;
}

static void assert_guard(const uint8_t *guard)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        assert_int_equal(guard[i], GUARD);
    }
}

static void assert_same(const uint8_t *a, const uint8_t *b, size_t len)
{
    assert_int_equal(len ? memcmp(a, b, len) : 0, 0);
}

static void assert_message(const CurlingError *err, const char *part)
{
    if (!strstr(err->text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, part);
    }
}

/* The delta into room of exactly @max; free() it */
static uint8_t *encode(const uint8_t *old, const uint8_t *now, size_t page,
                       size_t max, ssize_t *len)
{
    uint8_t *from = copy_of(old, page);
    uint8_t *to = copy_of(now, page);
    uint8_t *delta = malloc(max + GUARD_BYTES);

    assert_non_null(delta);
    memset(delta, GUARD, max + GUARD_BYTES);
    *len = curling_delta_encode(from, to, page, delta, max);
    assert_true(*len >= -1 && *len <= (ssize_t)max);
    assert_guard(delta + max);
    assert_same(from, old, page);
    assert_same(to, now, page);
    free(from);
    free(to);
    return delta;
}

static size_t number_at(const uint8_t *delta, size_t *at)
{
    size_t number = 0;
    unsigned int shift = 0;
    uint8_t octet;

    do {
        octet = delta[(*at)++];
        number |= (size_t)(octet & 0x7f) << shift;
        shift += 7;
    } while (octet & 0x80);
    return number;
}

/* The definition, an octet at a time: how many runs a good delta has, and
 * what becomes of @page */
static size_t reference(const uint8_t *delta, size_t len, uint8_t *page,
                        size_t page_bytes)
{
    size_t runs = 0;
    size_t to = 0;

    for (size_t at = 0; at < len; runs++) {
        size_t fresh;

        to += number_at(delta, &at);
        fresh = number_at(delta, &at);
        assert_true(fresh > 0);
        while (fresh--) {
            assert_true(at < len && to < page_bytes);
            page[to++] = delta[at++];
        }
    }
    return runs;
}

/* Apply within guards, and where ASan guards; what was there is @before. */
static void apply(const uint8_t *delta, size_t len, const uint8_t *before,
                  size_t page, uint8_t *after)
{
    uint8_t *area = malloc(page + 2 * GUARD_BYTES);
    uint8_t *alone = copy_of(before, page);
    uint8_t *exact = copy_of(delta, len);

    assert_non_null(area);
    memset(area, GUARD, page + 2 * GUARD_BYTES);
    memcpy(area + GUARD_BYTES, before, page);
    curling_delta_apply(exact, len, area + GUARD_BYTES, page);
    assert_guard(area);
    assert_guard(area + GUARD_BYTES + page);
    curling_delta_apply(exact, len, alone, page);
    assert_same(alone, area + GUARD_BYTES, page);
    memcpy(after, alone, page);
    free(area);
    free(alone);
    free(exact);
}

static int check(const uint8_t *delta, size_t len, size_t page,
                 CurlingError *err)
{
    uint8_t *exact = copy_of(delta, len);
    int ret = curling_delta_check(exact, len, page, err);

    free(exact);
    return ret;
}

/* There and back: @now from @old, by a delta whose length is returned */
static size_t round_trip(const uint8_t *old, const uint8_t *now, size_t page)
{
    uint8_t *after = malloc(page ? page : 1);
    CurlingError err = { "" };
    uint8_t *delta;
    ssize_t len;

    delta = encode(old, now, page, ROOM_BYTES, &len);
    assert_true(len >= 0);
    assert_true(!len == !memcmp(old, now, page));
    if (check(delta, len, page, &err)) {
        fail_msg("%s", err.text);
    }
    apply(delta, len, old, page, after);
    assert_same(after, now, page);
    apply(delta, len, after, page, after);
    assert_same(after, now, page);
    memcpy(after, old, page);
    reference(delta, len, after, page);
    assert_same(after, now, page);
    free(delta);
    free(after);
    return len;
}

static void test_octets_of_a_delta_are_fixed(void **state)
{
    static const uint8_t expected[] = {
        0, 1, 'a',
        9, 6, 'b', 'c', 0, 0, 0, 'd',
        /* 300 stay: 0x2c of the low seven bits, 2 of the next */
        0xac, 0x02, 1, 'e',
        0xc2, 0x1d, 1, 'f',
    };
    uint8_t old[4096] = { 0 };
    uint8_t now[4096] = { 0 };
    uint8_t *delta;
    ssize_t len;

    (void)state;
    now[0] = 'a';
    now[10] = 'b';
    now[11] = 'c';
    now[15] = 'd';
    now[316] = 'e';
    now[4095] = 'f';
    delta = encode(old, now, sizeof(now), 100, &len);
    assert_int_equal(len, sizeof(expected));
    assert_memory_equal(delta, expected, sizeof(expected));
    free(delta);
}

static void test_equal_pages(void **state)
{
    static const size_t sizes[] = { 4096, 4097, 65536 };
    uint8_t *page = malloc(65536);
    uint8_t *delta;
    ssize_t len;

    (void)state;
    assert_non_null(page);
    fill_random(page, 65536, 1);
    for (size_t i = 0; i < 304; i++) {
        size_t bytes = i <= 300 ? i : sizes[i - 301];

        delta = encode(page, page, bytes, 0, &len);
        assert_int_equal(len, 0);
        free(delta);
        assert_int_equal(round_trip(page, page, bytes), 0);
    }
    free(page);
}

/* One octet, wherever it is, in pages of any length */
static void test_one_octet(void **state)
{
    static const size_t sizes[] = { 4096, 65536 };
    uint8_t *old = malloc(65536);
    uint8_t *now = malloc(65536);

    (void)state;
    assert_non_null(old);
    assert_non_null(now);
    fill_random(old, 65536, 2);
    memcpy(now, old, 65536);
    for (size_t page = 1; page <= 300; page++) {
        for (size_t at = 0; at < page; at += page < 80 ? 1 : 7) {
            now[at] ^= 1 << at % 8;
            assert_int_equal(round_trip(old, now, page), at < 128 ? 3 : 4);
            now[at] = old[at];
        }
        now[page - 1] ^= 0x80;
        assert_int_equal(round_trip(old, now, page), page <= 128 ? 3 : 4);
        now[page - 1] = old[page - 1];
    }
    for (size_t i = 0; i < 2; i++) {
        for (size_t at = 0; at < sizes[i]; at += i ? 509 : 61) {
            now[at] ^= 0x10;
            assert_int_equal(round_trip(old, now, sizes[i]),
                             at < 128 ? 3 : at < 16384 ? 4 : 5);
            now[at] = old[at];
        }
        now[0] ^= 1;
        now[sizes[i] - 1] ^= 1;
        assert_int_equal(round_trip(old, now, sizes[i]), i ? 8 : 7);
        now[0] = old[0];
        now[sizes[i] - 1] = old[sizes[i] - 1];
    }
    free(old);
    free(now);
}

/* What a guest may do to a page */
static void change(uint8_t *page, size_t len, unsigned int how,
                   uint64_t *seed)
{
    size_t n = 1 + next_random(seed) % 12;

    if (!len) {
        return;
    }
    switch (how % 8) {
    case 0:             /* some octets */
        while (n--) {
            page[next_random(seed) % len] = next_random(seed) & 0xff;
        }
        break;
    case 1:             /* some words where words are, in part as before */
        while (n-- && len >= 8) {
            uint8_t *word = page + next_random(seed) % (len / 8) * 8;

            for (unsigned int i = next_random(seed) % 4; i < 8; i++) {
                word[i] += next_random(seed) % 3;
            }
        }
        break;
    case 2:             /* each octet, or none, of a stretch */
        n = next_random(seed) % len;
        for (size_t i = next_random(seed) % len; i < len && n; i++, n--) {
            page[i] ^= 0x55;
        }
        break;
    case 3:             /* every other octet, or every third, ... */
        n = 2 + next_random(seed) % 9;
        for (size_t i = next_random(seed) % n; i < len; i += n) {
            page[i]++;
        }
        break;
    case 4:             /* all that is random is half the same */
        for (size_t i = 0; i < len; i++) {
            page[i] ^= next_random(seed) % 2;
        }
        break;
    case 5:
        fill_random(page, len, next_random(seed));
        break;
    case 6:
        memset(page, next_random(seed) % 2 ? 0 : 0xff, len);
        break;
    case 7:             /* both ends */
        page[0]++;
        page[len - 1]++;
        break;
    }
}

static void test_random_pages(void **state)
{
    uint8_t *old = malloc(65536);
    uint8_t *now = malloc(65536);
    uint64_t seed = 3;

    (void)state;
    assert_non_null(old);
    assert_non_null(now);
    for (unsigned int i = 0; i < 6000; i++) {
        size_t page = i % 3 == 0 ? 4096 : i % 301;

        if (i % 60 == 59) {
            page = 65536 - (i % 120 == 59 ? 0 : next_random(&seed) % 70);
        }
        if (i % 5) {
            fill_random(old, page, i);
        } else {
            memset(old, i % 2 ? 0 : 0xff, page);
        }
        memcpy(now, old, page);
        change(now, page, i / 3, &seed);
        if (i % 4 == 0) {
            change(now, page, next_random(&seed), &seed);
        }
        round_trip(old, now, page);
    }
    free(old);
    free(now);
}

/* Every room up to the length that it takes, and one more */
static void test_room(void **state)
{
    uint64_t seed = 4;

    (void)state;
    for (unsigned int i = 0; i < 120; i++) {
        size_t page = i % 2 ? 4096 : 1 + i;
        uint8_t old[4096];
        uint8_t now[4096];
        uint8_t *whole;
        ssize_t len;

        fill_random(old, page, i);
        memcpy(now, old, page);
        change(now, page, i / 2, &seed);
        whole = encode(old, now, page, ROOM_BYTES, &len);
        for (ssize_t max = 0; max <= len + 1; max += len > 300 ? 61 : 1) {
            ssize_t cut;
            uint8_t *delta = encode(old, now, page, max, &cut);

            assert_int_equal(cut, max < len ? -1 : len);
            if (cut >= 0) {
                assert_same(delta, whole, len);
            }
            free(delta);
        }
        if (len > 0) {
            ssize_t cut;

            free(encode(old, now, page, len - 1, &cut));
            assert_int_equal(cut, -1);
            free(encode(old, now, page, len, &cut));
            assert_int_equal(cut, len);
        }
        free(whole);
    }
}

/* A gap of up to three octets costs less than a run, at any place. */
static void test_runs_are_joined(void **state)
{
    uint8_t old[256] = { 0 };

    (void)state;
    for (size_t gap = 0; gap < 40; gap++) {
        for (size_t at = 0; at < 40; at++) {
            uint8_t now[256] = { 0 };
            uint8_t after[256] = { 0 };
            uint8_t *delta;
            size_t runs;
            ssize_t len;

            now[at] = 1;
            now[at + 1 + gap] = 2;
            delta = encode(old, now, sizeof(now), 100, &len);
            runs = reference(delta, len, after, sizeof(after));
            assert_same(after, now, sizeof(now));
            assert_int_equal(runs, gap < 4 ? 1 : 2);
            assert_int_equal(len, gap < 4 ? gap + 4 : 6);
            free(delta);
        }
    }
}

static void test_lengths_that_matter(void **state)
{
    uint8_t *old = malloc(65536);
    uint8_t *now = malloc(65536);
    uint64_t seed = 5;
    size_t len;

    (void)state;
    assert_non_null(old);
    assert_non_null(now);
    fill_random(old, 65536, 6);
    for (unsigned int i = 0; i < 500; i++) {
        memcpy(now, old, 4096);
        for (unsigned int word = 0; word < 8; word++) {
            size_t at = 8 * (64 * word + next_random(&seed) % 64);

            for (size_t j = 0; j < 8; j++) {
                now[at + j] ^= 1 + next_random(&seed) % 255;
            }
        }
        assert_in_range(round_trip(old, now, 4096), 72, 90);
    }
    /* All of it: one run */
    for (size_t i = 0; i < 65536; i++) {
        now[i] = ~old[i];
    }
    assert_int_equal(round_trip(old, now, 4096), 4096 + 3);
    assert_int_equal(round_trip(old, now, 65536), 65536 + 4);
    /* Pages that have nothing to do with each other: hardly more */
    fill_random(now, 65536, 7);
    len = round_trip(old, now, 65536);
    assert_in_range(len, 65000, 65600);
    free(old);
    free(now);
}

/* Once is as good as twice, also after a half: a delta has no XOR in it. */
static void test_apply_over_a_half(void **state)
{
    uint64_t seed = 8;

    (void)state;
    for (unsigned int i = 0; i < 200; i++) {
        uint8_t old[4096];
        uint8_t now[4096];
        uint8_t mixed[4096];
        uint8_t *delta;
        ssize_t len;

        fill_random(old, sizeof(old), i);
        memcpy(now, old, sizeof(now));
        change(now, sizeof(now), i, &seed);
        for (size_t at = 0; at < sizeof(mixed); at++) {
            mixed[at] = next_random(&seed) % 2 ? old[at] : now[at];
        }
        delta = encode(old, now, sizeof(now), ROOM_BYTES, &len);
        apply(delta, len, mixed, sizeof(mixed), mixed);
        assert_same(mixed, now, sizeof(now));
        free(delta);
    }
}

/* Whatever was made of a delta: it is refused, or means what it says. */
static bool refused_or_right(const uint8_t *delta, size_t len,
                             const uint8_t *before, size_t page)
{
    uint8_t *after = malloc(page);
    uint8_t *expected = copy_of(before, page);
    CurlingError err = { "" };
    int ret = check(delta, len, page, &err);

    assert_non_null(after);
    /* Who did not check writes no further than the page either. */
    apply(delta, len, before, page, after);
    if (ret == 0) {
        reference(delta, len, expected, page);
        assert_same(after, expected, page);
    } else {
        assert_int_equal(ret, -EPROTO);
        assert_message(&err, "got");
        assert_int_equal(check(delta, len, page, NULL), -EPROTO);
    }
    free(after);
    free(expected);
    return ret == 0;
}

/* A delta of several runs; returns its length */
static size_t sample(uint8_t *old, size_t page, uint8_t *delta, size_t room)
{
    uint8_t *now = malloc(page);
    ssize_t len;

    assert_non_null(now);
    fill_random(old, page, 9);
    memcpy(now, old, page);
    for (size_t i = 0; i < 12; i++) {
        now[0] ^= 1;
        now[page / 13 * i + i] ^= 0xff;
        now[page / 13 * i + i + 1] ^= 1;
    }
    memset(now + page - 9, 1, 9);
    len = curling_delta_encode(old, now, page, delta, room);
    assert_true(len > 40);
    free(now);
    return len;
}

static void test_every_truncation(void **state)
{
    static const size_t sizes[] = { 150, 4096, 65536 };
    uint8_t *old = malloc(65536);
    uint8_t delta[200];

    (void)state;
    assert_non_null(old);
    for (size_t i = 0; i < 3; i++) {
        size_t len = sample(old, sizes[i], delta, sizeof(delta));
        size_t valid = 0;
        size_t runs;
        uint8_t *after = copy_of(old, sizes[i]);

        runs = reference(delta, len, after, sizes[i]);
        for (size_t cut = 0; cut <= len; cut++) {
            valid += refused_or_right(delta, cut, old, sizes[i]);
        }
        /* Between two runs, and at both ends */
        assert_int_equal(valid, runs + 1);
        free(after);
    }
    free(old);
}

static void test_every_bit_flip(void **state)
{
    static const size_t sizes[] = { 150, 4096, 65536 };
    uint8_t *old = malloc(65536);
    uint8_t delta[200];

    (void)state;
    assert_non_null(old);
    for (size_t i = 0; i < 3; i++) {
        size_t len = sample(old, sizes[i], delta, sizeof(delta));
        size_t valid = 0;

        for (size_t bit = 0; bit < 8 * len; bit++) {
            delta[bit / 8] ^= 1 << bit % 8;
            valid += refused_or_right(delta, len, old, sizes[i]);
            delta[bit / 8] ^= 1 << bit % 8;
        }
        assert_in_range(valid, 8, 8 * len - 8);
    }
    free(old);
}

static void test_random_octets(void **state)
{
    uint64_t seed = 10;
    uint8_t old[300];
    size_t valid = 0;

    (void)state;
    fill_random(old, sizeof(old), 11);
    for (unsigned int i = 0; i < 60000; i++) {
        uint8_t delta[40];
        size_t len = next_random(&seed) % (sizeof(delta) + 1);

        for (size_t j = 0; j < len; j++) {
            delta[j] = next_random(&seed) & (i % 2 ? 0xff : 0x07);
        }
        valid += refused_or_right(delta, len, old,
                                  1 + next_random(&seed) % sizeof(old));
    }
    assert_true(valid > 1000);
}

typedef struct BadDelta {
    uint8_t octets[12];
    size_t len;
    size_t page;
    const char *part;
} BadDelta;

static const BadDelta bad_deltas[] = {
    { { 0 }, 1, 4096, "cut short: got 0 octets of it" },
    { { 0x80 }, 1, 4096, "cut short" },
    { { 0, 0x80 }, 2, 4096, "cut short" },
    { { 0, 1 }, 2, 4096, "cut short: got 0 octets" },
    { { 0, 3, 'a', 'b' }, 4, 4096, "cut short: got 2 octets" },
    { { 0, 1, 'a', 0 }, 4, 4096, "cut short" },
    { { 0, 0xff, 0xff, 0x7f, 'a' }, 5, 4096, "cut short: got 1 octets" },
    /* Four octets, if only of nothing */
    { { 0x80, 0x80, 0x80, 0, 1, 'a' }, 6, 4096, "cut short" },
    { { 0, 0x81, 0x80, 0x80, 0, 'a' }, 6, 4096, "cut short" },
    { { 0xff, 0xff, 0xff, 0x7f, 1, 'a' }, 6, 65536, "cut short" },
    { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 'a' },
      12, 65536, "cut short" },
    /* Nothing new */
    { { 0, 0 }, 2, 4096, "got 0 octets at 0, expected at least 1" },
    { { 5, 0 }, 2, 4096, "got 0 octets at 5, expected at least 1 below 4096" },
    { { 0, 1, 'a', 5, 0 }, 5, 4096, "got 0 octets at 6" },
    { { 0, 0x80, 0x80, 0 }, 4, 4096, "got 0 octets at 0" },
    /* Beyond the end */
    { { 0, 2, 'a', 'b' }, 4, 1, "got 2 octets at 0, expected" },
    { { 1, 1, 'a' }, 3, 1, "got 1 octets at 1, expected at least 1 below 1" },
    { { 0, 1, 'a' }, 3, 0, "below 0" },
    { { 0x80, 0x20, 1, 'a' }, 4, 4096, "got 1 octets at 4096" },
    { { 0xff, 0x1f, 2, 'a', 'b' }, 5, 4096, "got 2 octets at 4095" },
    { { 0x80, 0x80, 4, 1, 'a' }, 5, 65536, "got 1 octets at 65536" },
    { { 0xff, 0xff, 0x7f, 1, 'a' }, 5, 65536, "got 1 octets at 2097151" },
    { { 0, 1, 'a', 0xff, 0x1f, 1, 'b' }, 7, 4096, "got 1 octets at 4096" },
    { { 0, 1, 'a', 0xfe, 0x1f, 2, 'b', 'c' }, 8, 4096, "octets at 4095" },
};

static void test_check_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_deltas) / sizeof(bad_deltas[0]); i++) {
        const BadDelta *bad = &bad_deltas[i];
        uint8_t *page = calloc(1, bad->page ? bad->page : 1);
        CurlingError err = { "" };

        assert_non_null(page);
        assert_int_equal(check(bad->octets, bad->len, bad->page, &err),
                         -EPROTO);
        assert_message(&err, bad->part);
        if (bad->page) {
            assert_false(refused_or_right(bad->octets, bad->len, page,
                                          bad->page));
        }
        free(page);
    }
}

typedef struct EdgeDelta {
    uint8_t octets[12];
    size_t len;
    size_t page;
    size_t at;                  /* where the last octet, 'z', goes */
} EdgeDelta;

/* Unusual, and right */
static const EdgeDelta edge_deltas[] = {
    { { 0, 1, 'z' }, 3, 1, 0 },
    { { 0x80, 0x80, 0, 0x81, 0x80, 0, 'z' }, 7, 4096, 0 },
    { { 0xff, 0x1f, 1, 'z' }, 4, 4096, 4095 },
    { { 0xff, 0xff, 3, 1, 'z' }, 5, 65536, 65535 },
    { { 0, 1, 'a', 0xfe, 0x1f, 1, 'z' }, 7, 4096, 4095 },
    /* Runs that nobody joined */
    { { 0, 1, 'a', 0, 1, 'b', 0, 2, 'c', 'z' }, 10, 4, 3 },
};

static void test_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(edge_deltas) / sizeof(edge_deltas[0]);
         i++) {
        const EdgeDelta *edge = &edge_deltas[i];
        uint8_t *page = calloc(1, edge->page);

        assert_non_null(page);
        assert_true(refused_or_right(edge->octets, edge->len, page,
                                     edge->page));
        apply(edge->octets, edge->len, page, edge->page, page);
        assert_int_equal(page[edge->at], 'z');
        free(page);
    }
    assert_int_equal(check(NULL, 0, 4096, NULL), 0);
    assert_int_equal(check(NULL, 0, 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_octets_of_a_delta_are_fixed),
        cmocka_unit_test(test_equal_pages),
        cmocka_unit_test(test_one_octet),
        cmocka_unit_test(test_random_pages),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_runs_are_joined),
        cmocka_unit_test(test_lengths_that_matter),
        cmocka_unit_test(test_apply_over_a_half),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_bit_flip),
        cmocka_unit_test(test_random_octets),
        cmocka_unit_test(test_check_refuses),
        cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests_name("delta", tests, NULL, NULL);
}
