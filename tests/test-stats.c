/*
 * Fault: a figure that a person reads is not what was measured.
 * Invariant: percentiles are nearest ranks of the last thousand values.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stats.h"

static void add_all(CurlingStats *stats, const uint32_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        curling_stats_add(stats, values[i]);
    }
}

static void test_empty(void **state)
{
    CurlingStats stats = { .count = 0 };

    (void)state;
    for (unsigned int percent = 0; percent <= 200; percent++) {
        assert_int_equal(curling_stats_percentile(&stats, percent), 0);
    }
}

static void test_one_value(void **state)
{
    CurlingStats stats = { .count = 0 };

    (void)state;
    curling_stats_add(&stats, 42);
    for (unsigned int percent = 1; percent <= 100; percent++) {
        assert_int_equal(curling_stats_percentile(&stats, percent), 42);
    }
    assert_int_equal(stats.count, 1);
}

/* The textbook example of nearest rank, in another order */
static void test_nearest_rank(void **state)
{
    static const uint32_t values[] = { 40, 15, 50, 35, 20 };
    CurlingStats stats = { .count = 0 };

    (void)state;
    add_all(&stats, values, 5);
    assert_int_equal(curling_stats_percentile(&stats, 5), 15);
    assert_int_equal(curling_stats_percentile(&stats, 20), 15);
    assert_int_equal(curling_stats_percentile(&stats, 21), 20);
    assert_int_equal(curling_stats_percentile(&stats, 30), 20);
    assert_int_equal(curling_stats_percentile(&stats, 40), 20);
    assert_int_equal(curling_stats_percentile(&stats, 50), 35);
    assert_int_equal(curling_stats_percentile(&stats, 99), 50);
    assert_int_equal(curling_stats_percentile(&stats, 100), 50);
}

static void test_percent_out_of_range(void **state)
{
    static const uint32_t values[] = { 3, 1, 2 };
    CurlingStats stats = { .count = 0 };

    (void)state;
    add_all(&stats, values, 3);
    assert_int_equal(curling_stats_percentile(&stats, 0), 1);
    assert_int_equal(curling_stats_percentile(&stats, 101), 3);
    assert_int_equal(curling_stats_percentile(&stats, UINT32_MAX), 3);
}

/* 1 to 1000, each percentile known */
static void test_full(void **state)
{
    CurlingStats stats = { .count = 0 };

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        curling_stats_add(&stats, (i * 7) % 1000 + 1);
    }
    assert_int_equal(stats.count, 1000);
    for (unsigned int percent = 1; percent <= 100; percent++) {
        assert_int_equal(curling_stats_percentile(&stats, percent),
                         percent * 10);
    }
}

static void test_old_values_go(void **state)
{
    CurlingStats stats = { .count = 0 };

    (void)state;
    curling_stats_add(&stats, 1000000);
    for (uint32_t i = 0; i < 999; i++) {
        curling_stats_add(&stats, 5);
    }
    assert_int_equal(curling_stats_percentile(&stats, 100), 1000000);
    curling_stats_add(&stats, 6);
    assert_int_equal(stats.count, CURLING_STATS_VALUES);
    assert_int_equal(curling_stats_percentile(&stats, 100), 6);
    assert_int_equal(curling_stats_percentile(&stats, 99), 5);
    for (uint32_t i = 0; i < 2500; i++) {
        curling_stats_add(&stats, i);
    }
    assert_int_equal(curling_stats_percentile(&stats, 1), 1509);
    assert_int_equal(curling_stats_percentile(&stats, 100), 2499);
}

static void test_reading_changes_nothing(void **state)
{
    static const uint32_t values[] = { 9, 7, 8 };
    CurlingStats stats = { .count = 0 };

    (void)state;
    add_all(&stats, values, 3);
    curling_stats_percentile(&stats, 50);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stats.values[i], values[i]);
    }
    assert_int_equal(stats.next, 3);
}

static void test_large_values(void **state)
{
    CurlingStats stats = { .count = 0 };

    (void)state;
    curling_stats_add(&stats, UINT32_MAX - 1);
    curling_stats_add(&stats, (uint64_t)UINT32_MAX + 5);
    curling_stats_add(&stats, UINT64_MAX);
    assert_int_equal(curling_stats_percentile(&stats, 1), UINT32_MAX - 1);
    assert_true(curling_stats_percentile(&stats, 50) ==
                (uint64_t)UINT32_MAX + 5);
    assert_true(curling_stats_percentile(&stats, 100) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_one_value),
        cmocka_unit_test(test_nearest_rank),
        cmocka_unit_test(test_percent_out_of_range),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_old_values_go),
        cmocka_unit_test(test_reading_changes_nothing),
        cmocka_unit_test(test_large_values),
    };

    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
