/*
 * What the unit tests of curlingctl share: sentences are looked at
 *
 * To be included after cmocka.h.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_TESTS_CTL_ASSERT_H
#define CURLING_TESTS_CTL_ASSERT_H

#include <string.h>
#include "ctl.h"

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", text, part);
    }
}

/* Nothing in it does anything to a terminal. */
static inline void assert_clean(const char *text)
{
    assert_true(g_utf8_validate(text, -1, NULL));
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        if (!g_unichar_isprint(g_utf8_get_char(c))) {
            fail_msg("U+%04X is in it", g_utf8_get_char(c));
        }
    }
}

#endif
