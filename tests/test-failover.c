/*
 * Every event in every state, of receiver and sender
 *
 * Invariants: nothing is started where nothing is held; a takeover begins
 * only where a policy, the sender or an operator says so, and with a lease
 * not before it is over; active is for good; no other state is without a way
 * out; what could not be loaded is never started; a guest that is held for
 * another one is not let go unasked.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "failover.h"

static bool holds_a_round(CurlingState state)
{
    return state == CURLING_STATE_STANDBY || state == CURLING_STATE_FENCING ||
           state == CURLING_STATE_CLOSED || state == CURLING_STATE_LEASED ||
           state == CURLING_STATE_SUSPECT;
}

static CurlingPolicies policies(unsigned int n)
{
    return (CurlingPolicies) {
        .on_disconnect = n & 1 ? CURLING_POLICY_TAKEOVER : CURLING_POLICY_WAIT,
        .on_silence = n & 2 ? CURLING_POLICY_TAKEOVER : CURLING_POLICY_WAIT,
        .lease = n & 4,
    };
}

#define POLICIES 8
#define WAIT 0
#define DISCONNECT 1
#define SILENCE 2
#define LEASE 4

/* ---- Every pair ---------------------------------------------------------- */

/*
 * One row for each state, one letter for each event, in the order of the
 * enums.  A letter is the new state, '-' refuses; a star after it: there is
 * something to do.  Lower case where policies matter:
 *   s  silence: A* by on-silence, with a lease E*; else U
 *   g  the grace is over: A* by on-disconnect; else U
 *   o  an operator: A*, with a lease E*
 */
static const char states[] = "LYSFCEUAX";
static const char *const rows[CURLING_STATE__MAX] = {
    /* welcomed, resumed, committed, closed, silent, stopped, powered off,
     * fenced, unanswered, grace, lease, operator, forced, reset, not started,
     * declined, broken */
    "Y - - - - - - - - - - - - - - - -",
    "- - S L* L* L* L* - - - - - - - - - X*",
    "- S S C* s L* L* A* - - - F* A* - U S X*",
    "- S F C* s L* L* A* S - - - A* - U S X*",
    "- S - C s L* L* A* - g - A* A* L* U S X*",
    "- S - E E L* L* A* - - A* - A* L* U S X*",
    "- S - U U L* L* A* - - - o A* L* U S X*",
    "- - - - - - - - - - - - - - - - -",
    "Y - - - - - - - - - - - - L* - - -",
};

static CurlingAction action_of(CurlingState state, CurlingEvent event)
{
    switch (state) {
    case CURLING_STATE_LISTENING:
        return event == CURLING_EVENT_POWERED_OFF ? CURLING_ACTION_POWEROFF :
                                                    CURLING_ACTION_DROP;
    case CURLING_STATE_FENCING:
        return CURLING_ACTION_FENCE;
    case CURLING_STATE_CLOSED:
        return CURLING_ACTION_GRACE;
    case CURLING_STATE_LEASED:
        return CURLING_ACTION_LEASE;
    case CURLING_STATE_ACTIVE:
        return CURLING_ACTION_TAKEOVER;
    case CURLING_STATE_FAILED:
        return CURLING_ACTION_GIVE_UP;
    default:
        fail_msg("no action leads to state %d", state);
        return CURLING_ACTION_NONE;
    }
}

static const char *by_policy(char letter, const CurlingPolicies *p)
{
    if (letter == 's' ? p->on_silence == CURLING_POLICY_WAIT :
        letter == 'g' && p->on_disconnect == CURLING_POLICY_WAIT) {
        return "U";
    }
    return letter != 'g' && p->lease ? "E*" : "A*";
}

/* The cell of @row at @n, policies looked at. */
static const char *cell(const char *row, unsigned int n,
                        const CurlingPolicies *p)
{
    while (n--) {
        row = strchr(row, ' ') + 1;
    }
    return row[0] == 's' || row[0] == 'g' || row[0] == 'o' ?
           by_policy(row[0], p) : row;
}

#define CELLS (POLICIES * CURLING_STATE__MAX * CURLING_EVENT__MAX)

/* One of all there are */
static CurlingStep step_of_cell(unsigned int n, CurlingPolicies *p,
                                CurlingState *state, CurlingEvent *event)
{
    *p = policies(n % POLICIES);
    *state = n / POLICIES % CURLING_STATE__MAX;
    *event = n / POLICIES / CURLING_STATE__MAX;
    return curling_failover_step(*state, *event, p);
}

static void test_every_pair(void **unused)
{
    (void)unused;
    for (unsigned int n = 0; n < CELLS; n++) {
        CurlingPolicies p;
        CurlingState state;
        CurlingEvent event;
        CurlingStep step = step_of_cell(n, &p, &state, &event);
        const char *expected = cell(rows[state], event, &p);
        CurlingState next;

        if (expected[0] == '-') {
            assert_int_equal(step.state, state);
            assert_int_equal(step.action, CURLING_ACTION_REFUSE);
            continue;
        }
        next = (CurlingState)(strchr(states, expected[0]) - states);
        if (step.state != next) {
            fail_msg("state %d, event %d, policies %u: %d, expected %d",
                     state, event, n % POLICIES, step.state, next);
        }
        assert_int_equal(step.action, expected[1] == '*' ?
                         action_of(next, event) : CURLING_ACTION_NONE);
    }
}

/* What has to be true of each cell, whoever wrote the table. */
static void test_takeover_is_wanted(void **unused)
{
    (void)unused;
    for (unsigned int n = 0; n < CELLS; n++) {
        CurlingPolicies p;
        CurlingState state;
        CurlingEvent event;
        CurlingStep step = step_of_cell(n, &p, &state, &event);

        assert_int_equal(step.action == CURLING_ACTION_TAKEOVER,
                         step.state == CURLING_STATE_ACTIVE &&
                         state != CURLING_STATE_ACTIVE);
        if (step.action != CURLING_ACTION_TAKEOVER) {
            continue;
        }
        assert_true(holds_a_round(state));
        assert_true(event == CURLING_EVENT_FORCED ||
                    event == CURLING_EVENT_FENCED ||
                    (event == CURLING_EVENT_OPERATOR &&
                     (state == CURLING_STATE_CLOSED || !p.lease)) ||
                    (event == CURLING_EVENT_GRACE_OVER &&
                     state == CURLING_STATE_CLOSED &&
                     p.on_disconnect == CURLING_POLICY_TAKEOVER) ||
                    (event == CURLING_EVENT_LEASE_OVER &&
                     state == CURLING_STATE_LEASED) ||
                    (event == CURLING_EVENT_SILENT && !p.lease &&
                     p.on_silence == CURLING_POLICY_TAKEOVER));
    }
}

/* From each state that is not for good an operator or the sender leads out. */
static void test_ways_out(void **unused)
{
    CurlingPolicies p = policies(WAIT);

    (void)unused;
    for (CurlingState state = 0; state < CURLING_STATE__MAX; state++) {
        bool out = state == CURLING_STATE_ACTIVE;

        for (CurlingEvent event = 0; event < CURLING_EVENT__MAX; event++) {
            out |= curling_failover_step(state, event, &p).state != state;
        }
        assert_true(out);
    }
}

/* ---- Every pair of the sender's ------------------------------------------ */

/* As above; what is to be done follows from the event and the state. */
static const char sender_states[] = "CSAPUOKHFTX";
static const char *const sender_rows[CURLING_SENDER__MAX] = {
    /* welcome: empty, other, held; busy, ending, committed, lost, died, superseded,
     * refused, broken, cancelled, lease over, renewed, hand over, not handed,
     * unfenced */
    /* CONNECTING */  "S S P C C C X X F X X T - - - - -",
    /* SYNCING */     "- - - - A S O O F X X T - - - - -",
    /* AWAITING */    "- - - - A P U O F X X T K - - - -",
    /* PROTECTED */   "- - - - P P U O F X X T K - H - -",
    /* UNPROTECTED */ "S S P U U U U U F X X T K - - - -",
    /* ALONE */       "S S P O O P O O F X X T - - - - -",
    /* PARKED */      "S F P K K K K K F F F F - A - - O",
    /* HANDING */     "S F P H H H H O F F F F - - - U O",
    /* FENCED */      "- - - - - - - - - - - - - - - - T",
    /* STOPPED */     "- - - - - - - - - - - - F - - - -",
    /* FAILED */      "- - - - - - - - - - - - F - - - -",
};

static CurlingSenderAction sender_action(CurlingSenderState next,
                                         CurlingSenderEvent event)
{
    switch (event) {
    case CURLING_SENDER_WELCOME_EMPTY:
    case CURLING_SENDER_WELCOME_OTHER:
        return next == CURLING_SENDER_FENCED ? CURLING_SENDER_END :
                                               CURLING_SENDER_SYNC;
    case CURLING_SENDER_WELCOME_HELD:
        return CURLING_SENDER_GO_ON;
    case CURLING_SENDER_HAND_OVER:
        return CURLING_SENDER_HAND;
    case CURLING_SENDER_BUSY:
    case CURLING_SENDER_LOST:
    case CURLING_SENDER_DIED:
    case CURLING_SENDER_NOT_HANDED:
        return next == CURLING_SENDER_FAILED ? CURLING_SENDER_END :
                                               CURLING_SENDER_RETRY;
    case CURLING_SENDER_SUPERSEDED:
    case CURLING_SENDER_REFUSED:
    case CURLING_SENDER_BROKEN:
    case CURLING_SENDER_CANCELLED:
        return CURLING_SENDER_END;
    case CURLING_SENDER_UNFENCED:
        return next == CURLING_SENDER_STOPPED ? CURLING_SENDER_END :
                                                CURLING_SENDER_NONE;
    default:
        return CURLING_SENDER_NONE;
    }
}

static void test_every_pair_of_sender(void **unused)
{
    (void)unused;
    for (CurlingSenderState state = 0; state < CURLING_SENDER__MAX; state++) {
        for (CurlingSenderEvent event = 0; event < CURLING_SENDER_EVENT__MAX;
             event++) {
            CurlingSenderStep step = curling_sender_step(state, event);
            char letter = sender_rows[state][2 * event];
            CurlingSenderState next;

            if (letter == '-') {
                assert_int_equal(step.state, state);
                assert_int_equal(step.action, CURLING_SENDER_REFUSE);
                continue;
            }
            next = (CurlingSenderState)(strchr(sender_states, letter) -
                                        sender_states);
            if (step.state != next) {
                fail_msg("state %d, event %d: %d, expected %d", state, event,
                         step.state, next);
            }
            assert_int_equal(step.action, sender_action(next, event));
        }
    }
}

/* A guest that stands still because it may run elsewhere goes on only when
 * the receiver has been heard, has died, or an operator says so. */
static void test_guest_is_not_let_go(void **unused)
{
    (void)unused;
    for (CurlingSenderState state = 0; state < CURLING_SENDER__MAX; state++) {
        for (CurlingSenderEvent event = 0; event < CURLING_SENDER_EVENT__MAX;
             event++) {
            CurlingSenderStep step = curling_sender_step(state, event);

            if (curling_sender_holds_guest(state) &&
                !curling_sender_holds_guest(step.state)) {
                assert_true(event == CURLING_SENDER_WELCOME_EMPTY ||
                            event == CURLING_SENDER_WELCOME_HELD ||
                            event == CURLING_SENDER_LEASE_RENEWED ||
                            event == CURLING_SENDER_NOT_HANDED ||
                            event == CURLING_SENDER_UNFENCED ||
                            (event == CURLING_SENDER_DIED &&
                             state == CURLING_SENDER_HANDING));
            }
        }
    }
}

/* ---- Paths --------------------------------------------------------------- */

typedef struct Path {
    CurlingEvent event;
    CurlingState state;
    CurlingAction action;
} Path;

static void follow(const Path *path, unsigned int n)
{
    CurlingState state = CURLING_STATE_LISTENING;
    CurlingPolicies p = policies(n);

    for (; path->event != CURLING_EVENT__MAX; path++) {
        CurlingStep step = curling_failover_step(state, path->event, &p);

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
    follow(path, DISCONNECT);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT | SILENCE);
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
    follow(path, DISCONNECT);
}

/* With a lease silence alone is not enough, nor is an operator. */
static void test_lease(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_SILENT, CURLING_STATE_LEASED, CURLING_ACTION_LEASE },
        { CURLING_EVENT_OPERATOR, CURLING_STATE_LEASED,
          CURLING_ACTION_REFUSE },
        { CURLING_EVENT_RESUMED, CURLING_STATE_STANDBY, CURLING_ACTION_NONE },
        { CURLING_EVENT_LEASE_OVER, CURLING_STATE_STANDBY,
          CURLING_ACTION_REFUSE },
        { CURLING_EVENT_SILENT, CURLING_STATE_LEASED, CURLING_ACTION_LEASE },
        { CURLING_EVENT_LEASE_OVER, CURLING_STATE_ACTIVE,
          CURLING_ACTION_TAKEOVER },
        PATH_END,
    };

    (void)unused;
    follow(path, DISCONNECT | SILENCE | LEASE);
}

/* The sender is asked first, and may not answer; what it says late counts. */
static void test_fence(void **unused)
{
    const Path path[] = {
        PATH_TO_STANDBY,
        { CURLING_EVENT_OPERATOR, CURLING_STATE_FENCING,
          CURLING_ACTION_FENCE },
        { CURLING_EVENT_UNANSWERED, CURLING_STATE_STANDBY,
          CURLING_ACTION_NONE },
        { CURLING_EVENT_FENCED, CURLING_STATE_ACTIVE,
          CURLING_ACTION_TAKEOVER },
        PATH_END,
    };

    (void)unused;
    follow(path, WAIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair),
        cmocka_unit_test(test_takeover_is_wanted),
        cmocka_unit_test(test_ways_out),
        cmocka_unit_test(test_every_pair_of_sender),
        cmocka_unit_test(test_guest_is_not_let_go),
        cmocka_unit_test(test_death),
        cmocka_unit_test(test_back_within_grace),
        cmocka_unit_test(test_close_after_silence),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_end_before_first_round),
        cmocka_unit_test(test_not_started),
        cmocka_unit_test(test_power_off),
        cmocka_unit_test(test_broken_and_again),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_lease),
        cmocka_unit_test(test_fence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
