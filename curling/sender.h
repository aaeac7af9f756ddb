/*
 * The sender's end of a session: ships rounds and knows what became of them
 *
 * Threads: all functions belong to the one thread that captures rounds,
 * except curling_sender_kick(), curling_sender_yank(), curling_sender_set()
 * and curling_sender_query(), which any thread may call.  A thread of its own
 * hears the receiver and beats.
 *
 * A session may span several connections: after one was lost,
 * curling_sender_connect() on a new channel takes it up again.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_SENDER_H
#define CURLING_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "beat.h"
#include "channel.h"
#include "error.h"
#include "hello.h"
#include "round.h"
#include "wire.h"

typedef struct CurlingSender CurlingSender;

typedef struct CurlingSenderConfig {
    uint8_t session[CURLING_SESSION_ID_BYTES];  /* random */
    uint32_t generation;
    const char *description;    /* "key=value\n" lines; copied */
    uint32_t peer_timeout_ms;
    uint32_t stall_ms;          /* what moves no more for so long is stuck */
    uint32_t fence_after_ms;    /* the lease, for HELLO; 0: none */
    uint64_t max_bandwidth;     /* bytes per second; 0: unlimited */
    const CurlingVitals *vitals;        /* borrowed, may be NULL */
    /*
     * Something is stuck, here or at the receiver (@reason is one sentence),
     * or moves again (NULL).  Called in the thread that hears the receiver,
     * with no lock held; may not call back.  May be NULL.
     */
    CurlingLagging *lagging;
    void *opaque;
} CurlingSenderConfig;

typedef struct CurlingSenderInfo {
    char session[CURLING_SESSION_NAME_BYTES];
    bool connected;
    uint64_t received;          /* last round RECEIVED, or none */
    int64_t received_ns;        /* when */
    uint64_t applied;           /* last round APPLIED, or none */
    uint64_t apply_us;          /* what that took the receiver */
    bool another;               /* it is another process than the one of the
                                 * connection before */
    bool stop_acked;            /* the receiver has heard STOP or POWEROFF */
    bool died;                  /* the receiver ended the last connection, and
                                 * was heard just before */
    int64_t fence_until_ns;     /* FENCE: it wants the guest, and waits until
                                 * then; 0: it does not */
    int64_t leased_ns;          /* when this side last said what the receiver
                                 * is known to have heard; a point of
                                 * curling_lease_clock_ns(); 0: nothing yet */
} CurlingSenderInfo;

/* Copies @config; NULL without memory.  Not connected yet. */
CurlingSender *curling_sender_new(const CurlingSenderConfig *config);

/* Disconnects, releases channels and frees.  Takes NULL. */
void curling_sender_free(CurlingSender *sender);

/*
 * As curling_sender_free(), but when curling_sender_stop() was not answered
 * the connection is kept in the background until it is, or until the peer
 * ends it, ten minutes at most: to close it before would look like a death.
 */
void curling_sender_linger(CurlingSender *sender);

/*
 * Say HELLO over @channel (taken: @release(@channel) is called when it is
 * needed no more, also on failure) and hear WELCOME; blocks for
 * CURLING_HANDSHAKE_MS at most, less after curling_sender_kick(true).
 * *@held: the receiver's last whole round of this session, or none.
 *
 * Returns 0; -ECONNREFUSED for a REJECT that is final, -EBUSY for one that
 * is not; -ESTALE when the receiver took over: the guest runs there;
 * -ETIMEDOUT; -EPROTO; -EPIPE; -ECANCELED.
 */
int curling_sender_connect(CurlingSender *sender, CurlingChannel *channel,
                           void (*release)(CurlingChannel *channel),
                           uint64_t *held, CurlingError *err);

/*
 * Leave the connection, not the session.  The descriptor of one that the
 * peer did not close stays open until the next curling_sender_connect() or
 * curling_sender_free(): closing it would look like a death.
 */
void curling_sender_disconnect(CurlingSender *sender);

/*
 * Ship a round: ROUND_BEGIN at its start, its finished frames, and ROUND_END
 * if it is SEALED.  A round that is OPEN is shipped in parts: call
 * curling_round_finish_frames() before and curling_round_drop_frames() after.
 * Blocks as long as the receiver lives and reads nothing.
 * Returns 0, or what ended the connection (as curling_sender_wait()).
 */
int curling_sender_begin(CurlingSender *sender, const CurlingRound *round,
                         CurlingError *err);
int curling_sender_ship(CurlingSender *sender, const CurlingRound *round,
                        CurlingError *err);
int curling_sender_end(CurlingSender *sender, const CurlingRound *round,
                       CurlingError *err);

/*
 * Wait until round @number is RECEIVED.
 * Returns 0; -EPIPE closed by the peer; -ETIMEDOUT silent for peer-timeout-ms;
 * -EREMOTEIO the receiver said FAILED (its text in @err), -EBADMSG if it
 * could not load a round; -ESTALE; -EPROTO; -ESHUTDOWN after
 * curling_sender_yank(); -ECANCELED after curling_sender_kick(true).
 */
int curling_sender_wait_received(CurlingSender *sender, uint64_t number,
                                 CurlingError *err);

/* Does the connection stand?  For who waits for something else.  Returns 0, or
 * as curling_sender_wait_received(). */
int curling_sender_check(CurlingSender *sender, CurlingError *err);

/*
 * Sleep until @deadline_ns, a kick, or the end of the connection.
 * Returns 0, or as curling_sender_wait_received().
 */
int curling_sender_sleep(CurlingSender *sender, int64_t deadline_ns,
                         CurlingError *err);

/*
 * End the session, after what is being sent: @type is CURLING_TYPE_STOP, or
 * CURLING_TYPE_POWEROFF when the guest ended by itself.  Waits for the
 * acknowledgement, @timeout_ms at most.  Returns 0, -ETIMEDOUT, or what ended
 * the connection before.
 */
int curling_sender_stop(CurlingSender *sender, uint8_t type,
                        uint32_t timeout_ms, CurlingError *err);

/*
 * Say FENCED: the guest stands still here, and its last round was RECEIVED.
 * Waits for the answer, ten seconds at most.  Returns -ESTALE: the receiver
 * runs the guest; -EREMOTEIO: it does not and will not; -ETIMEDOUT or what
 * ended the connection, and nobody here knows: a new connection tells.
 */
int curling_sender_fenced(CurlingSender *sender, CurlingError *err);

/* Give up the connection: what is under way ends with -ESHUTDOWN, and the
 * session may be taken up again. */
void curling_sender_yank(CurlingSender *sender);

/*
 * Wake who sleeps.  @cancel: also make what is under way and what comes
 * return -ECANCELED, curling_sender_stop() excepted.
 */
void curling_sender_kick(CurlingSender *sender, bool cancel);

/* Settings that may change at any time; the lease, with the next HELLO. */
void curling_sender_set(CurlingSender *sender, uint32_t peer_timeout_ms,
                        uint32_t stall_ms, uint32_t fence_after_ms,
                        uint64_t max_bandwidth);

/* The lease that was told to the receiver last; 0: none.  Any thread. */
uint32_t curling_sender_lease_ms(const CurlingSender *sender);

void curling_sender_query(CurlingSender *sender, CurlingSenderInfo *info);

#endif
