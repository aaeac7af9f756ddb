/*
 * What sender and receiver do about what they see: pure functions of state,
 * event and policy
 *
 * No I/O, no clock, no lock, no memory: the callers feed events, time that
 * has passed among them, and carry out actions.  Nothing else turns an error
 * into a takeover, or stops a guest.  "make check-model" searches all that
 * the two can do together; tests/model/failover.pml says what that rests on.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_FAILOVER_H
#define CURLING_FAILOVER_H

#include <stdbool.h>

/* ---- The receiver -------------------------------------------------------- */

/*
 * LISTENING   no session.  Holds nothing, starts nothing.
 * SYNCING     a session, the first round on its way.  Nothing to start: an
 *             end of any kind leads back to LISTENING.
 * STANDBY     holds a whole round and hears the sender.
 * FENCING     as STANDBY; has asked the sender to stop its guest: FENCE.
 * CLOSED      holds a whole round; the sender's kernel has just said that
 *             its end of a live connection is closed.  Within
 *             close-grace-ms a living sender comes back.
 * LEASED      holds a whole round, hears nothing, and will start the guest
 *             once the sender must have stopped its own (fence-after-ms).
 * SUSPECT     holds a whole round, hears nothing, and cannot tell a dead
 *             sender from a cut network.  Waits for the sender or for an
 *             operator.
 * ACTIVE      took over: its guest may run.  For good.
 * FAILED      a round verified, but could not be loaded.  Nothing is ever
 *             started from it; a new first round may replace it.
 */
typedef enum CurlingState {
    CURLING_STATE_LISTENING,
    CURLING_STATE_SYNCING,
    CURLING_STATE_STANDBY,
    CURLING_STATE_FENCING,
    CURLING_STATE_CLOSED,
    CURLING_STATE_LEASED,
    CURLING_STATE_SUSPECT,
    CURLING_STATE_ACTIVE,
    CURLING_STATE_FAILED,
    CURLING_STATE__MAX,
} CurlingState;

typedef enum CurlingEvent {
    CURLING_EVENT_WELCOMED,     /* a new session begins */
    CURLING_EVENT_RESUMED,      /* the held session is back, or heard again */
    CURLING_EVENT_COMMITTED,    /* a round is whole */
    CURLING_EVENT_CLOSED,       /* end or reset of a connection that was heard
                                 * within the peer timeout */
    CURLING_EVENT_SILENT,       /* nothing heard for the peer timeout, or an
                                 * error of our own side of the connection */
    CURLING_EVENT_STOPPED,      /* the sender ends the session: STOP */
    CURLING_EVENT_POWERED_OFF,  /* its guest ended: POWEROFF */
    CURLING_EVENT_FENCED,       /* the sender has stopped its guest for this
                                 * side to start it: FENCED */
    CURLING_EVENT_UNANSWERED,   /* FENCE was not answered in time */
    CURLING_EVENT_GRACE_OVER,
    CURLING_EVENT_LEASE_OVER,
    CURLING_EVENT_OPERATOR,     /* curling-failover */
    CURLING_EVENT_FORCED,       /* curling-failover with force */
    CURLING_EVENT_RESET,        /* curling-reset */
    CURLING_EVENT_NOT_STARTED,  /* a takeover could not be done now */
    CURLING_EVENT_DECLINED,     /* the same of a guest that was handed over:
                                 * the sender is told, and goes on */
    CURLING_EVENT_BROKEN,       /* a whole round could not be loaded */
    CURLING_EVENT__MAX,
} CurlingEvent;

typedef enum CurlingAction {
    CURLING_ACTION_NONE,
    CURLING_ACTION_DROP,        /* forget the session and what is held */
    CURLING_ACTION_POWEROFF,    /* as DROP, and end as the guest did */
    CURLING_ACTION_GRACE,       /* send GRACE_OVER after close-grace-ms */
    CURLING_ACTION_LEASE,       /* send LEASE_OVER when the sender's lease is
                                 * over: counted from when it was last heard */
    CURLING_ACTION_FENCE,       /* say FENCE, and send UNANSWERED in time */
    CURLING_ACTION_TAKEOVER,    /* start the guest from the last whole round */
    CURLING_ACTION_GIVE_UP,     /* forget what is held, start nothing */
    CURLING_ACTION_REFUSE,      /* the event does not fit the state */
    CURLING_ACTION__MAX,
} CurlingAction;

typedef enum CurlingPolicy {
    CURLING_POLICY_WAIT,
    CURLING_POLICY_TAKEOVER,
} CurlingPolicy;

typedef struct CurlingPolicies {
    CurlingPolicy on_disconnect;        /* the settings of these names */
    CurlingPolicy on_silence;
    bool lease;                         /* the sender's fence-after-ms is set:
                                         * it stops its guest by itself */
} CurlingPolicies;

typedef struct CurlingStep {
    CurlingState state;
    CurlingAction action;
} CurlingStep;

/* Defined for every pair of state and event; one that cannot happen leaves
 * the state and says REFUSE. */
CurlingStep curling_failover_step(CurlingState state, CurlingEvent event,
                                  const CurlingPolicies *policies);

/* ---- The sender ---------------------------------------------------------- */

/*
 * CONNECTING  no session yet.  The guest runs.
 * SYNCING     connected; the receiver holds no round of this session.
 * AWAITING    the end of a round goes out: from here on the receiver may hold
 *             it, whether this side hears of that or not.
 * PROTECTED   connected; the receiver holds a round.
 * UNPROTECTED lost the receiver, which may live and hold a round.  The guest
 *             runs, until the lease is over where there is one.
 * ALONE       lost a receiver that holds nothing: its kernel has said that
 *             its end of a live connection is closed, or no round was ever
 *             whole.  The guest runs, lease or not.
 * PARKED      the lease is over: the guest stands still until the receiver
 *             is heard.
 * HANDING     the guest stands still for the receiver to start it; nobody
 *             but the receiver knows whether it did.
 * FENCED      the receiver took over, or may have: the guest stands still.
 * STOPPED     ended on request, or with the guest.  It runs if it did.
 * FAILED      ended with an error.  The guest runs.
 *
 * The last three are ends.  Where STOP was not acknowledged the lease goes on,
 * and its end makes FENCED of the other two.
 */
typedef enum CurlingSenderState {
    CURLING_SENDER_CONNECTING,
    CURLING_SENDER_SYNCING,
    CURLING_SENDER_AWAITING,
    CURLING_SENDER_PROTECTED,
    CURLING_SENDER_UNPROTECTED,
    CURLING_SENDER_ALONE,
    CURLING_SENDER_PARKED,
    CURLING_SENDER_HANDING,
    CURLING_SENDER_FENCED,
    CURLING_SENDER_STOPPED,
    CURLING_SENDER_FAILED,
    CURLING_SENDER__MAX,
} CurlingSenderState;

typedef enum CurlingSenderEvent {
    CURLING_SENDER_WELCOME_EMPTY,   /* connected, and nothing is held there */
    CURLING_SENDER_WELCOME_OTHER,   /* the same, by another process than the
                                     * one that was connected before */
    CURLING_SENDER_WELCOME_HELD,    /* connected, to who holds a round */
    CURLING_SENDER_BUSY,            /* the receiver says: later */
    CURLING_SENDER_ENDING,          /* the end of a round is about to go out */
    CURLING_SENDER_COMMITTED,       /* RECEIVED */
    CURLING_SENDER_LOST,            /* a connection, or a try, is no use */
    CURLING_SENDER_DIED,            /* the peer ended a connection that was
                                     * heard within the peer timeout */
    CURLING_SENDER_SUPERSEDED,      /* the receiver says that it took over */
    CURLING_SENDER_REFUSED,         /* it refuses for good */
    CURLING_SENDER_BROKEN,          /* this side cannot go on */
    CURLING_SENDER_CANCELLED,       /* migrate_cancel, quit, power-off */
    CURLING_SENDER_LEASE_OVER,      /* fence-after-ms since this side last
                                     * said what the receiver heard */
    CURLING_SENDER_LEASE_RENEWED,   /* the receiver heard a later word */
    CURLING_SENDER_HAND_OVER,       /* curling-switchover, or FENCE came */
    CURLING_SENDER_NOT_HANDED,      /* the last round failed before FENCED was
                                     * said, or the receiver cannot start */
    CURLING_SENDER_UNFENCED,        /* curling-unfence */
    CURLING_SENDER_EVENT__MAX,
} CurlingSenderEvent;

typedef enum CurlingSenderAction {
    CURLING_SENDER_NONE,
    CURLING_SENDER_RETRY,       /* find the receiver again */
    CURLING_SENDER_SYNC,        /* send all of RAM */
    CURLING_SENDER_GO_ON,       /* rounds, the next one at once */
    CURLING_SENDER_HAND,        /* stop the guest in a last round, say FENCED */
    CURLING_SENDER_END,         /* the session is over; say STOP to who hears
                                 * it, unless the state is FENCED */
    CURLING_SENDER_REFUSE,      /* the event does not fit the state */
    CURLING_SENDER_ACTION__MAX,
} CurlingSenderAction;

typedef struct CurlingSenderStep {
    CurlingSenderState state;
    CurlingSenderAction action;
} CurlingSenderStep;

/* Defined for every pair; one that cannot happen leaves the state and says
 * REFUSE.  The lease's events are only sent where there is a lease. */
CurlingSenderStep curling_sender_step(CurlingSenderState state,
                                      CurlingSenderEvent event);

/* Must the guest stand still in this state? */
bool curling_sender_holds_guest(CurlingSenderState state);

#endif
