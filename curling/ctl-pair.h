/*
 * A pair: the two QEMUs that a command is about
 *
 * After a takeover the two have swapped their roles: what they say of
 * themselves counts, not what they are called.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_PAIR_H
#define CURLING_CTL_PAIR_H

#include "ctl-qmp.h"

/* One of the two, and what it said when it was asked last. */
typedef struct CtlEnd {
    CtlEndpoint *endpoint;
    CtlQmp *qmp;                /* NULL: closed */
    CtlJson *info;              /* query-curling's answer */
    CtlJson *status;            /* query-status's */
    GError *error;              /* why not */
} CtlEnd;

typedef struct CtlPair {
    char *name;                 /* NULL: from --sender and --receiver */
    CtlEnd ends[2];             /* as configured: sender, receiver */
    bool swapped;               /* see ctl_pair_ask() */
    char *address;              /* where the receiver listens; may be NULL */
    char *back_address;         /* the same, when roles have swapped */
    bool allow_plaintext;
    GPtrArray *settings;        /* char *: name, value, name, value, ... */
} CtlPair;

/* One without ends; @name (may be NULL) is copied. */
CtlPair *ctl_pair_new(const char *name);
void ctl_pair_free(CtlPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlPair, ctl_pair_free)

/* The sender and the receiver by what they said, or, where they did not say, by
 * what they are called. */
CtlEnd *ctl_pair_sender(CtlPair *pair);
CtlEnd *ctl_pair_receiver(CtlPair *pair);

void ctl_end_close(CtlEnd *end);
void ctl_pair_close(CtlPair *pair);

/*
 * Ask both ends how they are: their info, status and error, and so
 * @pair->swapped.  Connects where needed; the connections stay open.  False:
 * interrupted, @err is set; an end that does not answer is no error here.
 */
bool ctl_pair_ask(CtlPair *pair, CtlDeadline deadline, GError **err);

/*
 * The same, but do not wait for one end any longer when the other one says
 * that it is what is wanted: a sender with a session, or a receiver that holds
 * a round or runs the guest.  The other may be dead.
 */
typedef enum CtlWanted { CTL_WANT_SENDER, CTL_WANT_RECEIVER } CtlWanted;
bool ctl_pair_ask_for(CtlPair *pair, CtlWanted wanted, CtlDeadline deadline,
                      GError **err);

/* Ask @number pairs at once; no connection stays open. */
bool ctl_pair_ask_all(CtlPair **pairs, size_t number, CtlDeadline deadline,
                      GError **err);

/*
 * Look at @end again and again until @holds(@end, @opaque), which may set its
 * @err to end this.  False: @err is set, by it or ctl_wait().  With @stay_open
 * the connection is kept, so that events are heard.
 */
typedef bool CtlEndCondition(CtlEnd *end, void *opaque, GError **err);
bool ctl_end_wait(CtlEnd *end, CtlEndCondition *holds, void *opaque,
                  bool stay_open, CtlDeadline deadline, GError **err);

/* Ask @end alone.  False: interrupted, as of ctl_pair_ask(). */
bool ctl_end_ask(CtlEnd *end, CtlDeadline deadline, GError **err);

/* @end has answered and has Curling, or @err says which is not so. */
bool ctl_end_need(const CtlEnd *end, GError **err);
bool ctl_pair_need_both(CtlPair *pair, GError **err);

/* "sender" or "receiver": the role of it, see ctl_pair_sender(). */
const char *ctl_pair_role_of(CtlPair *pair, const CtlEnd *end);

/* The state that @end told: "protected", ...; "" where it said nothing. */
const char *ctl_end_state(const CtlEnd *end);

/* The role that it told: "none", "sender", "receiver"; "" likewise. */
const char *ctl_end_role(const CtlEnd *end);

/* Is it a sender that has a receiver, or looks for one? */
bool ctl_end_has_session(const CtlEnd *end);

/* And does it try to reach one that it had? */
bool ctl_end_has_lost_receiver(const CtlEnd *end);

/* Are both in one session, by what they said? */
bool ctl_pair_has_session(CtlPair *pair);

#endif
