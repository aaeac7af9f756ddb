/*
 * Two machines that do not fit: the first difference is named
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "describe.h"

#define OURS "machine=pc\ncpus=2\nram/pc.ram=1000\nram/vga=10\n"

static void differs(const char *sender, const char *sentence)
{
    CurlingError err;

    assert_int_equal(curling_describe_compare(sender, OURS, &err), -EINVAL);
    if (!strstr(err.text, sentence)) {
        fail_msg("got '%s', expected '%s'", err.text, sentence);
    }
}

static void test_same(void **state)
{
    (void)state;
    assert_int_equal(curling_describe_compare(OURS, OURS, NULL), 0);
    assert_int_equal(curling_describe_compare("", "", NULL), 0);
}

static void test_differences(void **state)
{
    (void)state;
    differs("machine=q35\ncpus=2\nram/pc.ram=1000\nram/vga=10\n",
            "machine differs: the sender has q35, the receiver has pc");
    differs("machine=pc\ncpus=2\nram/pc.ram=1000\n",
            "the receiver has ram/vga 10, the sender has none");
    differs("machine=pc\ncpus=2\nram/pc.ram=1000\nram/rom=5\nram/vga=10\n",
            "the sender has ram/rom 5, the receiver has none");
    differs("machine=pc\ncpus=2\nram/vga=10\nram/pc.ram=1000\n",
            "another order");
    differs("machine=pc\nmachine=pc\ncpus=2\nram/pc.ram=1000\nram/vga=10\n",
            "the sender has machine pc, the receiver has none");
    differs("", "the receiver has machine pc");
}

/* A peer's bytes: no key, no end, no print, too long. */
static void test_hostile(void **state)
{
    char longest[5000];

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    differs(longest, "the sender has xxx");
    memset(longest, '\n', sizeof(longest) - 1);
    differs(longest, "the sender has");
    differs("\033[2J=\a\n", "?[2J ?");
    differs("=", "the sender has");
    differs("machine=pc", "the receiver has cpus 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
