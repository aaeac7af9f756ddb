/*
 * What sender and receiver do about what they see
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "failover.h"

static CurlingStep step_to(CurlingState state, CurlingAction action)
{
    return (CurlingStep) { .state = state, .action = action };
}

static CurlingStep take_over(void)
{
    return step_to(CURLING_STATE_ACTIVE, CURLING_ACTION_TAKEOVER);
}

/* The sender may live: not before it must have stopped its guest. */
static CurlingStep take_over_after_lease(const CurlingPolicies *policies)
{
    return policies->lease ? step_to(CURLING_STATE_LEASED,
                                     CURLING_ACTION_LEASE) : take_over();
}

static CurlingStep suspect(void)
{
    return step_to(CURLING_STATE_SUSPECT, CURLING_ACTION_NONE);
}

/* ---- The receiver -------------------------------------------------------- */

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
    case CURLING_EVENT_FENCED:
    case CURLING_EVENT_UNANSWERED:
    case CURLING_EVENT_GRACE_OVER:
    case CURLING_EVENT_LEASE_OVER:
    case CURLING_EVENT_OPERATOR:
    case CURLING_EVENT_FORCED:
    case CURLING_EVENT_NOT_STARTED:
    case CURLING_EVENT_DECLINED:
    case CURLING_EVENT__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

/* Is the sender heard in this state? */
static bool is_heard(CurlingState state)
{
    return state == CURLING_STATE_STANDBY || state == CURLING_STATE_FENCING;
}

/* curling-failover, without force */
static CurlingStep step_operator(CurlingState state,
                                 const CurlingPolicies *policies)
{
    switch (state) {
    case CURLING_STATE_STANDBY:
        return step_to(CURLING_STATE_FENCING, CURLING_ACTION_FENCE);
    case CURLING_STATE_CLOSED:
        return take_over();
    case CURLING_STATE_SUSPECT:
        return take_over_after_lease(policies);
    default:
        /* FENCING, LEASED: it is under way. */
        return step_to(state, CURLING_ACTION_REFUSE);
    }
}

/* A word that depends on how far things are. */
static CurlingStep step_held_timer(CurlingState state, CurlingEvent event,
                                   const CurlingPolicies *policies)
{
    if (event == CURLING_EVENT_UNANSWERED && state == CURLING_STATE_FENCING) {
        return step_to(CURLING_STATE_STANDBY, CURLING_ACTION_NONE);
    }
    if (event == CURLING_EVENT_GRACE_OVER && state == CURLING_STATE_CLOSED) {
        return policies->on_disconnect == CURLING_POLICY_TAKEOVER ?
               take_over() : suspect();
    }
    if (event == CURLING_EVENT_LEASE_OVER && state == CURLING_STATE_LEASED) {
        return take_over();
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

/* STANDBY, FENCING, CLOSED, LEASED and SUSPECT: a whole round is held. */
static CurlingStep step_held(CurlingState state, CurlingEvent event,
                             const CurlingPolicies *policies)
{
    switch (event) {
    case CURLING_EVENT_RESUMED:
        return step_to(CURLING_STATE_STANDBY, CURLING_ACTION_NONE);
    case CURLING_EVENT_COMMITTED:
        if (is_heard(state)) {
            return step_to(state, CURLING_ACTION_NONE);
        }
        break;
    case CURLING_EVENT_CLOSED:
        if (is_heard(state)) {
            return step_to(CURLING_STATE_CLOSED, CURLING_ACTION_GRACE);
        }
        /* A close that follows silence is no proof of a death. */
        return step_to(state, CURLING_ACTION_NONE);
    case CURLING_EVENT_SILENT:
        if (state == CURLING_STATE_SUSPECT || state == CURLING_STATE_LEASED) {
            return step_to(state, CURLING_ACTION_NONE);
        }
        /* In CLOSED: it came back, and then was not heard any more. */
        return policies->on_silence == CURLING_POLICY_TAKEOVER ?
               take_over_after_lease(policies) : suspect();
    case CURLING_EVENT_STOPPED:
        return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
    case CURLING_EVENT_POWERED_OFF:
        return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_POWEROFF);
    case CURLING_EVENT_FENCED:
    case CURLING_EVENT_FORCED:
        return take_over();
    case CURLING_EVENT_UNANSWERED:
    case CURLING_EVENT_GRACE_OVER:
    case CURLING_EVENT_LEASE_OVER:
        return step_held_timer(state, event, policies);
    case CURLING_EVENT_OPERATOR:
        return step_operator(state, policies);
    case CURLING_EVENT_RESET:
        /* While the sender is heard it would only come back. */
        if (!is_heard(state)) {
            return step_to(CURLING_STATE_LISTENING, CURLING_ACTION_DROP);
        }
        break;
    case CURLING_EVENT_NOT_STARTED:
        return suspect();
    case CURLING_EVENT_DECLINED:
        return step_to(CURLING_STATE_STANDBY, CURLING_ACTION_NONE);
    case CURLING_EVENT_BROKEN:
        return step_to(CURLING_STATE_FAILED, CURLING_ACTION_GIVE_UP);
    case CURLING_EVENT_WELCOMED:
    case CURLING_EVENT__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

CurlingStep curling_failover_step(CurlingState state, CurlingEvent event,
                                  const CurlingPolicies *policies)
{
    switch (state) {
    case CURLING_STATE_LISTENING:
    case CURLING_STATE_SYNCING:
    case CURLING_STATE_FAILED:
        return step_empty(state, event);
    case CURLING_STATE_STANDBY:
    case CURLING_STATE_FENCING:
    case CURLING_STATE_CLOSED:
    case CURLING_STATE_LEASED:
    case CURLING_STATE_SUSPECT:
        return step_held(state, event, policies);
    case CURLING_STATE_ACTIVE:
    case CURLING_STATE__MAX:
        break;
    }
    return step_to(state, CURLING_ACTION_REFUSE);
}

/* ---- The sender ---------------------------------------------------------- */

static CurlingSenderStep go(CurlingSenderState state,
                            CurlingSenderAction action)
{
    return (CurlingSenderStep) { .state = state, .action = action };
}

static CurlingSenderStep end(CurlingSenderState state)
{
    return go(state, CURLING_SENDER_END);
}

bool curling_sender_holds_guest(CurlingSenderState state)
{
    return state == CURLING_SENDER_PARKED || state == CURLING_SENDER_HANDING ||
           state == CURLING_SENDER_FENCED;
}

static bool is_connected(CurlingSenderState state)
{
    return state == CURLING_SENDER_SYNCING ||
           state == CURLING_SENDER_AWAITING ||
           state == CURLING_SENDER_PROTECTED;
}

/* May the receiver start the guest without a word to this side? */
static bool is_at_risk(CurlingSenderState state)
{
    return state == CURLING_SENDER_AWAITING ||
           state == CURLING_SENDER_PROTECTED ||
           state == CURLING_SENDER_UNPROTECTED;
}

/* The connection, or a try to get one, is over. */
static CurlingSenderStep step_lost(CurlingSenderState state, bool died)
{
    switch (state) {
    case CURLING_SENDER_CONNECTING:
        /* Somebody waits for an answer: one try. */
        return end(CURLING_SENDER_FAILED);
    case CURLING_SENDER_SYNCING:
        return go(CURLING_SENDER_ALONE, CURLING_SENDER_RETRY);
    case CURLING_SENDER_AWAITING:
    case CURLING_SENDER_PROTECTED:
        return go(died ? CURLING_SENDER_ALONE : CURLING_SENDER_UNPROTECTED,
                  CURLING_SENDER_RETRY);
    case CURLING_SENDER_HANDING:
        /* Who died does not run the guest, nor will he. */
        return go(died ? CURLING_SENDER_ALONE : state, CURLING_SENDER_RETRY);
    default:
        /* A close that follows silence is no proof of a death. */
        return go(state, CURLING_SENDER_RETRY);
    }
}

/* What has to do with stopping the guest. */
static CurlingSenderStep step_fence(CurlingSenderState state,
                                    CurlingSenderEvent event)
{
    bool handing = state == CURLING_SENDER_HANDING;
    bool parked = state == CURLING_SENDER_PARKED;

    if (event == CURLING_SENDER_LEASE_OVER && is_at_risk(state)) {
        return go(CURLING_SENDER_PARKED, CURLING_SENDER_NONE);
    }
    if (event == CURLING_SENDER_LEASE_RENEWED && parked) {
        return go(CURLING_SENDER_AWAITING, CURLING_SENDER_NONE);
    }
    if (event == CURLING_SENDER_HAND_OVER &&
        state == CURLING_SENDER_PROTECTED) {
        return go(CURLING_SENDER_HANDING, CURLING_SENDER_HAND);
    }
    if (event == CURLING_SENDER_NOT_HANDED && handing) {
        return go(CURLING_SENDER_UNPROTECTED, CURLING_SENDER_RETRY);
    }
    if (event == CURLING_SENDER_UNFENCED && (handing || parked)) {
        return go(CURLING_SENDER_ALONE, CURLING_SENDER_NONE);
    }
    return go(state, CURLING_SENDER_REFUSE);
}

/* All states but the ends. */
static CurlingSenderStep step_session(CurlingSenderState state,
                                      CurlingSenderEvent event)
{
    /* What stands still because the receiver may run it does not go on by
     * itself, whatever the reason for the end. */
    bool held = curling_sender_holds_guest(state);

    switch (event) {
    case CURLING_SENDER_WELCOME_EMPTY:
    case CURLING_SENDER_WELCOME_OTHER:
    case CURLING_SENDER_WELCOME_HELD:
        if (is_connected(state)) {
            break;
        }
        if (event == CURLING_SENDER_WELCOME_HELD) {
            return go(CURLING_SENDER_PROTECTED, CURLING_SENDER_GO_ON);
        }
        /* The one before may have run the guest, and died. */
        if (event == CURLING_SENDER_WELCOME_OTHER && held) {
            return end(CURLING_SENDER_FENCED);
        }
        return go(CURLING_SENDER_SYNCING, CURLING_SENDER_SYNC);
    case CURLING_SENDER_BUSY:
        if (is_connected(state)) {
            break;
        }
        return go(state, CURLING_SENDER_RETRY);
    case CURLING_SENDER_ENDING:
        return go(state == CURLING_SENDER_SYNCING ? CURLING_SENDER_AWAITING :
                  state, CURLING_SENDER_NONE);
    case CURLING_SENDER_COMMITTED:
        /* ALONE, with a connection that stands: after UNFENCED. */
        return go(state == CURLING_SENDER_AWAITING ||
                  state == CURLING_SENDER_ALONE ? CURLING_SENDER_PROTECTED :
                  state, CURLING_SENDER_NONE);
    case CURLING_SENDER_LOST:
    case CURLING_SENDER_DIED:
        return step_lost(state, event == CURLING_SENDER_DIED);
    case CURLING_SENDER_SUPERSEDED:
        return end(CURLING_SENDER_FENCED);
    case CURLING_SENDER_REFUSED:
    case CURLING_SENDER_BROKEN:
        return end(held ? CURLING_SENDER_FENCED : CURLING_SENDER_FAILED);
    case CURLING_SENDER_CANCELLED:
        return end(held ? CURLING_SENDER_FENCED : CURLING_SENDER_STOPPED);
    case CURLING_SENDER_LEASE_OVER:
    case CURLING_SENDER_LEASE_RENEWED:
    case CURLING_SENDER_HAND_OVER:
    case CURLING_SENDER_NOT_HANDED:
    case CURLING_SENDER_UNFENCED:
        return step_fence(state, event);
    case CURLING_SENDER_EVENT__MAX:
        break;
    }
    return go(state, CURLING_SENDER_REFUSE);
}

CurlingSenderStep curling_sender_step(CurlingSenderState state,
                                      CurlingSenderEvent event)
{
    switch (state) {
    case CURLING_SENDER_FENCED:
        if (event == CURLING_SENDER_UNFENCED) {
            return end(CURLING_SENDER_STOPPED);
        }
        break;
    case CURLING_SENDER_STOPPED:
    case CURLING_SENDER_FAILED:
        if (event == CURLING_SENDER_LEASE_OVER) {
            return go(CURLING_SENDER_FENCED, CURLING_SENDER_NONE);
        }
        break;
    case CURLING_SENDER__MAX:
        break;
    default:
        return step_session(state, event);
    }
    return go(state, CURLING_SENDER_REFUSE);
}
