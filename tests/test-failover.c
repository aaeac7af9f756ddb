/*
 * Every event in every state
 *
 * Invariants: nothing is started where nothing is held; a takeover begins
 * only where a policy or an operator says so; active is for good; no other
 * state is without a way out; what could not be loaded is never started.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "failover.h"

static bool holds_a_round(CurlingState state)
{
    return state == CURLING_STATE_STANDBY || state == CURLING_STATE_CLOSED ||
           state == CURLING_STATE_SUSPECT;
}

#define FOR_ALL(state, event, disconnect, silence) \
    for (CurlingState state = 0; state < CURLING_STATE__MAX; state++) \
        for (CurlingEvent event = 0; event < CURLING_EVENT__MAX; event++) \
            for (CurlingPolicy disconnect = CURLING_POLICY_WAIT; \
                 disconnect <= CURLING_POLICY_TAKEOVER; disconnect++) \
                for (CurlingPolicy silence = CURLING_POLICY_WAIT; \
                     silence <= CURLING_POLICY_TAKEOVER; silence++)

static void test_nothing_held_nothing_started(void **unused)
{
    (void)unused;
    FOR_ALL(state, event, disconnect, silence) {
        CurlingStep step = curling_failover_step(state, event, disconnect,
                                                 silence);

        if (step.action == CURLING_ACTION_TAKEOVER) {
            assert_true(holds_a_round(state));
            assert_int_equal(step.state, CURLING_STATE_ACTIVE);
        }
        if (step.state == CURLING_STATE_ACTIVE &&
            state != CURLING_STATE_ACTIVE) {
            assert_int_equal(step.action, CURLING_ACTION_TAKEOVER);
        }
    }
}

static void test_takeover_is_wanted(void **unused)
{
    (void)unused;
    FOR_ALL(state, event, disconnect, silence) {
        CurlingStep step = curling_failover_step(state, event, disconnect,
                                                 silence);

        if (step.action != CURLING_ACTION_TAKEOVER) {
            continue;
        }
        assert_true(event == CURLING_EVENT_OPERATOR ||
                    (event == CURLING_EVENT_GRACE_OVER &&
                     state == CURLING_STATE_CLOSED &&
                     disconnect == CURLING_POLICY_TAKEOVER) ||
                    (event == CURLING_EVENT_SILENT &&
                     state != CURLING_STATE_SUSPECT &&
                     silence == CURLING_POLICY_TAKEOVER));
    }
}

static void test_refused_means_unchanged(void **unused)
{
    (void)unused;
    FOR_ALL(state, event, disconnect, silence) {
        CurlingStep step = curling_failover_step(state, event, disconnect,
                                                 silence);

        if (step.action == CURLING_ACTION_REFUSE) {
            assert_int_equal(step.state, state);
        }
        if (state == CURLING_STATE_ACTIVE) {
            assert_int_equal(step.action, CURLING_ACTION_REFUSE);
        }
    }
}

/* From each state that is not for good an operator or the sender leads out. */
static void test_ways_out(void **unused)
{
    (void)unused;
    for (CurlingState state = 0; state < CURLING_STATE__MAX; state++) {
        bool out = state == CURLING_STATE_ACTIVE;

        for (CurlingEvent event = 0; event < CURLING_EVENT__MAX; event++) {
            out |= curling_failover_step(state, event, CURLING_POLICY_WAIT,
                                         CURLING_POLICY_WAIT).state != state;
        }
        assert_true(out);
    }
}

typedef struct Path {
    CurlingEvent event;
    CurlingState state;
    CurlingAction action;
} Path;

static void follow(const Path *path, CurlingPolicy disconnect,
                   CurlingPolicy silence)
{
    CurlingState state = CURLING_STATE_LISTENING;

    for (; path->event != CURLING_EVENT__MAX; path++) {
        CurlingStep step = curling_failover_step(state, path->event,
                                                 disconnect, silence);

        assert_int_equal(step.state, path->state);
        assert_int_equal(step.action, path->action);
        state = step.state;
    }
}

#define PATH_TO_STANDBY \
    { CURLING_EVENT_WELCOMED, CURLING_STATE_SYNCING, CURLING_ACTION_NONE }, \
    { CURLING_EVENT_COMMITTED, CURLING_STATE_STANDBY, CURLING_ACTION_NONE }, \
    { CURLING_EVENT_COMMITTED, CURLING_STATE_STANDBY, CURLING_ACTION_NONE }
#define PATH_END { .event = CURLING_EVENT__MAX }

static void test_death(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_CLOSED, CURLING_STATE_CLOSED, CURLING_ACTION_GRACE },
        { CURLING_EVENT_GRACE_OVER, CURLING_STATE_ACTIVE,
          CURLING_ACTION_TAKEOVER },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_WAIT);
}

static void test_back_within_grace(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_CLOSED, CURLING_STATE_CLOSED, CURLING_ACTION_GRACE },
        { CURLING_EVENT_RESUMED, CURLING_STATE_STANDBY, CURLING_ACTION_NONE },
        { CURLING_EVENT_GRACE_OVER, CURLING_STATE_STANDBY,
          CURLING_ACTION_REFUSE },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

/* What follows silence is no proof of a death, whatever on-disconnect says. */
static void test_close_after_silence(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_SILENT, CURLING_STATE_SUSPECT, CURLING_ACTION_NONE },
        { CURLING_EVENT_CLOSED, CURLING_STATE_SUSPECT, CURLING_ACTION_NONE },
        { CURLING_EVENT_OPERATOR, CURLING_STATE_ACTIVE,
          CURLING_ACTION_TAKEOVER },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_WAIT);
}

static void test_stop(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_STOPPED, CURLING_STATE_LISTENING,
          CURLING_ACTION_DROP },
        PATH_TO_STANDBY,
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

static void test_end_before_first_round(void **unused)
{
    const Path path[] = {
        { CURLING_EVENT_WELCOMED, CURLING_STATE_SYNCING, CURLING_ACTION_NONE },
        { CURLING_EVENT_CLOSED, CURLING_STATE_LISTENING, CURLING_ACTION_DROP },
        { CURLING_EVENT_WELCOMED, CURLING_STATE_SYNCING, CURLING_ACTION_NONE },
        { CURLING_EVENT_SILENT, CURLING_STATE_LISTENING, CURLING_ACTION_DROP },
        { CURLING_EVENT_OPERATOR, CURLING_STATE_LISTENING,
          CURLING_ACTION_REFUSE },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

/* A takeover that could not be done is the operator's to try again. */
static void test_not_started(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_CLOSED, CURLING_STATE_CLOSED, CURLING_ACTION_GRACE },
        { CURLING_EVENT_NOT_STARTED, CURLING_STATE_SUSPECT,
          CURLING_ACTION_NONE },
        { CURLING_EVENT_GRACE_OVER, CURLING_STATE_SUSPECT,
          CURLING_ACTION_REFUSE },
        { CURLING_EVENT_OPERATOR, CURLING_STATE_ACTIVE,
          CURLING_ACTION_TAKEOVER },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

static void test_power_off(void **unused)
{
    const Path path[] = {
        { CURLING_EVENT_WELCOMED, CURLING_STATE_SYNCING, CURLING_ACTION_NONE },
        { CURLING_EVENT_POWERED_OFF, CURLING_STATE_LISTENING,
          CURLING_ACTION_POWEROFF },
        PATH_TO_STANDBY,
        { CURLING_EVENT_POWERED_OFF, CURLING_STATE_LISTENING,
          CURLING_ACTION_POWEROFF },
        { CURLING_EVENT_CLOSED, CURLING_STATE_LISTENING,
          CURLING_ACTION_REFUSE },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

/* After a round that cannot be loaded: nothing to start, but a new first
 * round is welcome. */
static void test_broken_and_again(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_BROKEN, CURLING_STATE_FAILED, CURLING_ACTION_GIVE_UP },
        { CURLING_EVENT_CLOSED, CURLING_STATE_FAILED, CURLING_ACTION_REFUSE },
        { CURLING_EVENT_OPERATOR, CURLING_STATE_FAILED,
          CURLING_ACTION_REFUSE },
        PATH_TO_STANDBY,
        { CURLING_EVENT_BROKEN, CURLING_STATE_FAILED, CURLING_ACTION_GIVE_UP },
        { CURLING_EVENT_RESET, CURLING_STATE_LISTENING, CURLING_ACTION_DROP },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_TAKEOVER);
}

static void test_reset(void **unused)
{
    const Path path[] = {
        { CURLING_EVENT_RESET, CURLING_STATE_LISTENING,
          CURLING_ACTION_REFUSE },
        PATH_TO_STANDBY,
        { CURLING_EVENT_RESET, CURLING_STATE_STANDBY, CURLING_ACTION_REFUSE },
        { CURLING_EVENT_SILENT, CURLING_STATE_SUSPECT, CURLING_ACTION_NONE },
        { CURLING_EVENT_RESET, CURLING_STATE_LISTENING, CURLING_ACTION_DROP },
        PATH_END,
    };

    (void)unused;
    follow(path, CURLING_POLICY_TAKEOVER, CURLING_POLICY_WAIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_held_nothing_started),
        cmocka_unit_test(test_takeover_is_wanted),
        cmocka_unit_test(test_refused_means_unchanged),
        cmocka_unit_test(test_ways_out),
        cmocka_unit_test(test_death),
        cmocka_unit_test(test_back_within_grace),
        cmocka_unit_test(test_close_after_silence),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_end_before_first_round),
        cmocka_unit_test(test_not_started),
        cmocka_unit_test(test_power_off),
        cmocka_unit_test(test_broken_and_again),
        cmocka_unit_test(test_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
