/*
 * What a receiver does about what it sees: a pure function of state, event
 * and policy
 *
 * No I/O, no clock, no lock, no memory: receiver.c feeds it events and
 * carries out its actions.  Nothing else turns an error into a takeover.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_FAILOVER_H
#define CURLING_FAILOVER_H

/*
 * LISTENING   no session.  Holds nothing, starts nothing.
 * SYNCING     a session, the first round on its way.  Nothing to start: an
 *             end of any kind leads back to LISTENING.
 * STANDBY     holds a whole round and hears the sender.
 * CLOSED      holds a whole round; the sender's kernel has just said that
 *             its end of a live connection is closed.  Within
 *             close-grace-ms a living sender comes back.
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
    CURLING_STATE_CLOSED,
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
    CURLING_EVENT_GRACE_OVER,
    CURLING_EVENT_OPERATOR,     /* curling-failover */
    CURLING_EVENT_RESET,        /* curling-reset */
    CURLING_EVENT_NOT_STARTED,  /* a takeover could not be done now */
    CURLING_EVENT_BROKEN,       /* a whole round could not be loaded */
    CURLING_EVENT__MAX,
} CurlingEvent;

typedef enum CurlingAction {
    CURLING_ACTION_NONE,
    CURLING_ACTION_DROP,        /* forget the session and what is held */
    CURLING_ACTION_POWEROFF,    /* as DROP, and end as the guest did */
    CURLING_ACTION_GRACE,       /* send GRACE_OVER after close-grace-ms */
    CURLING_ACTION_TAKEOVER,    /* start the guest from the last whole round */
    CURLING_ACTION_GIVE_UP,     /* forget what is held, start nothing */
    CURLING_ACTION_REFUSE,      /* the event does not fit the state */
    CURLING_ACTION__MAX,
} CurlingAction;

typedef enum CurlingPolicy {
    CURLING_POLICY_WAIT,
    CURLING_POLICY_TAKEOVER,
} CurlingPolicy;

typedef struct CurlingStep {
    CurlingState state;
    CurlingAction action;
} CurlingStep;

/*
 * @on_disconnect, @on_silence: the settings of these names.  Defined for
 * every pair of state and event; one that cannot happen leaves the state and
 * says REFUSE.
 */
CurlingStep curling_failover_step(CurlingState state, CurlingEvent event,
                                  CurlingPolicy on_disconnect,
                                  CurlingPolicy on_silence);

#endif
