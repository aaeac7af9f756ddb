/*
 * What a receiver does about what it sees
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>

#include "failover.h"

static CurlingStep step_to(CurlingState state, CurlingAction action)
{
    return (CurlingStep) { .state = state, .action = action };
}

static CurlingStep by_policy(CurlingPolicy policy)
{
    if (policy == CURLING_POLICY_TAKEOVER) {
        return step_to(CURLING_STATE_ACTIVE, CURLING_ACTION_TAKEOVER);
    }
    return step_to(CURLING_STATE_SUSPECT, CURLING_ACTION_NONE);
}

/* LISTENING, SYNCING and FAILED: nothing is held, so nothing can be
 * started. */
static CurlingStep step_empty(CurlingState state, CurlingEvent event)
{
    bool syncing = state == CURLING_STATE_SYNCING;

    switch (event) {
    case CURLING_EVENT_WELCOMED:
        if (!syncing) {
            return step_to(CURLING_STATE_SYNCING, CURLING_ACTION_NONE);
        }
        break;
    case CURLING_EVENT_COMMITTED:
        if (syncing) {
            return step_to(CURLING_STATE_STANDBY, CURLING_ACTION_NONE);
        }
        break;
    case CURLING_EVENT_CLOSED:
    case CURLING_EVENT_SILENT:
    case CURLING_EVENT_STOPPED:
        if (syncing) {
            return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
        }
        break;
    case CURLING_EVENT_POWERED_OFF:
        if (syncing) {
            return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_POWEROFF);
        }
        break;
    case CURLING_EVENT_BROKEN:
        if (syncing) {
            return step_to(CURLING_STATE_FAILED, CURLING_ACTION_GIVE_UP);
        }
        break;
    case CURLING_EVENT_RESET:
        if (state == CURLING_STATE_FAILED) {
            return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
        }
        break;
    case CURLING_EVENT_RESUMED:
    case CURLING_EVENT_GRACE_OVER:
    case CURLING_EVENT_OPERATOR:
    case CURLING_EVENT_NOT_STARTED:
    case CURLING_EVENT__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

/* STANDBY, CLOSED and SUSPECT: a whole round is held. */
static CurlingStep step_held(CurlingState state, CurlingEvent event,
                             CurlingPolicy on_disconnect,
                             CurlingPolicy on_silence)
{
    switch (event) {
    case CURLING_EVENT_RESUMED:
        return step_to(CURLING_STATE_STANDBY, CURLING_ACTION_NONE);
    case CURLING_EVENT_COMMITTED:
        if (state == CURLING_STATE_STANDBY) {
            return step_to(state, CURLING_ACTION_NONE);
        }
        break;
    case CURLING_EVENT_CLOSED:
        if (state == CURLING_STATE_STANDBY) {
            return step_to(CURLING_STATE_CLOSED, CURLING_ACTION_GRACE);
        }
        /* A close that follows silence is no proof of a death. */
        return step_to(state, CURLING_ACTION_NONE);
    case CURLING_EVENT_SILENT:
        /* In CLOSED: it came back, and then was not heard any more. */
        if (state != CURLING_STATE_SUSPECT) {
            return by_policy(on_silence);
        }
        return step_to(state, CURLING_ACTION_NONE);
    case CURLING_EVENT_STOPPED:
        return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
    case CURLING_EVENT_POWERED_OFF:
        return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_POWEROFF);
    case CURLING_EVENT_RESET:
        /* While the sender is heard it would only come back. */
        if (state != CURLING_STATE_STANDBY) {
            return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
        }
        break;
    case CURLING_EVENT_NOT_STARTED:
        return step_to(CURLING_STATE_SUSPECT, CURLING_ACTION_NONE);
    case CURLING_EVENT_GRACE_OVER:
        if (state == CURLING_STATE_CLOSED) {
            return by_policy(on_disconnect);
        }
        break;
    case CURLING_EVENT_OPERATOR:
        return step_to(CURLING_STATE_ACTIVE, CURLING_ACTION_TAKEOVER);
    case CURLING_EVENT_BROKEN:
        return step_to(CURLING_STATE_FAILED, CURLING_ACTION_GIVE_UP);
    case CURLING_EVENT_WELCOMED:
    case CURLING_EVENT__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

CurlingStep curling_failover_step(CurlingState state, CurlingEvent event,
                                  CurlingPolicy on_disconnect,
                                  CurlingPolicy on_silence)
{
    switch (state) {
    case CURLING_STATE_LISTENING:
    case CURLING_STATE_SYNCING:
    case CURLING_STATE_FAILED:
        return step_empty(state, event);
    case CURLING_STATE_STANDBY:
    case CURLING_STATE_CLOSED:
    case CURLING_STATE_SUSPECT:
        return step_held(state, event, on_disconnect, on_silence);
    case CURLING_STATE_ACTIVE:
    case CURLING_STATE__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}
