/*
 * Unit tests of compress=auto: guests and links of known kinds
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tuner.h"

#define ROUND_BYTES (4 << 20)
#define LATENCY_NS 300000

typedef struct World {
    double link_ns;             /* of an octet */
    double delta_left;          /* of an octet, once there are copies */
    double codec_left;
    double delta_ns;            /* what they take for one */
    double codec_ns;
    uint64_t bytes;             /* of a round */
} World;

static const World world = {
    .delta_left = 1, .codec_left = 1, .delta_ns = 0.3, .codec_ns = 2,
    .bytes = ROUND_BYTES,
};

/* One round in @w, packed as the tuner chooses; what it chose. */
static unsigned int run_round(CurlingTuner *t, const World *w, bool has_codec)
{
    unsigned int method = curling_tuner_choose(t, has_codec);
    double left = (double)w->bytes;
    CurlingPacked packed = {
        .raw_bytes = w->bytes,
        .delta_bytes = w->bytes / CURLING_SAMPLE,
    };

    assert_true(method & CURLING_PACK_SAMPLE);
    if (method & CURLING_PACK_DELTA) {
        packed.delta_bytes = w->bytes;
        left *= w->delta_left;
    }
    packed.delta_ns = (int64_t)((double)packed.delta_bytes * w->delta_ns);
    packed.judged_raw_bytes = packed.delta_bytes;
    packed.judged_bytes = (uint64_t)((double)packed.delta_bytes *
                                     w->delta_left);
    if (method & CURLING_PACK_CODEC) {
        assert_true(has_codec);
        packed.codec_raw_bytes = (uint64_t)left;
        packed.codec_ns = (int64_t)(left * w->codec_ns);
        left *= w->codec_left;
        packed.codec_bytes = (uint64_t)left;
    }
    packed.bytes = (uint64_t)left;
    curling_tuner_note(t, &packed, (int64_t)(LATENCY_NS + left * w->link_ns));
    return method & ~CURLING_PACK_SAMPLE;
}

/* What most of the rounds are packed by, once all of it is known; @others is
 * how many are not. */
static unsigned int settle(CurlingTuner *t, const World *w, bool has_codec,
                           unsigned int *others)
{
    unsigned int counts[CURLING_PACK_METHODS] = { 0 };
    unsigned int most = 0;

    for (int i = 0; i < 50; i++) {
        run_round(t, w, has_codec);
    }
    for (int i = 0; i < 256; i++) {
        counts[run_round(t, w, has_codec)]++;
    }
    for (unsigned int i = 0; i < CURLING_PACK_METHODS; i++) {
        most = counts[i] > counts[most] ? i : most;
    }
    if (others) {
        *others = 256 - counts[most];
    }
    return most;
}

/* 1 Gbit/s is 8 ns for an octet, 10 Gbit/s 0.8, memory 0.1. */
static void test_where_deltas_are_worth_it(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.delta_left = 0.03;
    w.link_ns = 8;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_DELTA);
    w.link_ns = 0.8;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_DELTA);
    w.link_ns = 0.1;
    w.delta_left = 0.5;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_NONE);
}

static void test_a_fast_link_has_no_deltas(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.delta_left = 0.3;
    w.link_ns = 0.1;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_NONE);
}

static void test_where_a_codec_is_worth_it(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };
    unsigned int others;

    (void)state;
    w.codec_left = 0.4;
    w.link_ns = 8;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_CODEC);
    w.link_ns = 0.8;
    assert_int_equal(settle(&t, &w, true, &others), CURLING_PACK_NONE);
    /* A trial now and then: the guest may have changed. */
    assert_in_range(others, 256 / 64 - 1, 256 / 64 + 1);
    w.link_ns = 80;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_CODEC);
}

static void test_both(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.delta_left = 0.5;
    w.codec_left = 0.5;
    w.link_ns = 8;
    assert_int_equal(settle(&t, &w, true, NULL),
                     CURLING_PACK_DELTA | CURLING_PACK_CODEC);
    assert_int_equal(settle(&t, &w, false, NULL), CURLING_PACK_DELTA);
}

static void test_what_does_not_get_less(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.link_ns = 80;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_NONE);
}

/* A guest that changes its ways is followed. */
static void test_a_guest_that_changes(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.link_ns = 8;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_NONE);
    w.delta_left = 0.05;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_DELTA);
    w.delta_left = 0.99;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_NONE);
}

/* Costs that are about equal must not have it change its mind each round. */
static void test_no_flapping(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };
    unsigned int last = 0, changes = 0;

    (void)state;
    w.delta_left = 0.7;
    w.link_ns = 1;
    settle(&t, &w, false, NULL);
    for (int i = 0; i < 200; i++) {
        unsigned int method;

        w.delta_ns = i % 2 ? 0.29 : 0.31;
        method = run_round(&t, &w, false);
        changes += i && method != last;
        last = method;
    }
    assert_int_equal(changes, 0);
}

/* Rounds that another setting packed, or none, count as well. */
static void test_after_none(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };
    CurlingPacked raw = { .raw_bytes = ROUND_BYTES, .bytes = ROUND_BYTES };

    (void)state;
    w.delta_left = 0.03;
    w.link_ns = 8;
    for (int i = 0; i < 500; i++) {
        curling_tuner_note(&t, &raw, LATENCY_NS + 8 * ROUND_BYTES);
    }
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_DELTA);
}

/* Rounds of a few pages say nothing, and hurt nobody. */
static void test_an_idle_guest(void **state)
{
    World w = world;
    CurlingTuner t = { .rounds = 0 };

    (void)state;
    w.bytes = 8192;
    w.link_ns = 8;
    settle(&t, &w, true, NULL);
    assert_true(t.link_ns == 0);
    w.bytes = ROUND_BYTES;
    w.delta_left = 0.1;
    assert_int_equal(settle(&t, &w, true, NULL), CURLING_PACK_DELTA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_deltas_are_worth_it),
        cmocka_unit_test(test_a_fast_link_has_no_deltas),
        cmocka_unit_test(test_where_a_codec_is_worth_it),
        cmocka_unit_test(test_both),
        cmocka_unit_test(test_what_does_not_get_less),
        cmocka_unit_test(test_a_guest_that_changes),
        cmocka_unit_test(test_no_flapping),
        cmocka_unit_test(test_an_idle_guest),
        cmocka_unit_test(test_after_none),
    };

    return cmocka_run_group_tests_name("tuner", tests, NULL, NULL);
}
