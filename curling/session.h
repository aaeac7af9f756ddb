/*
 * One connection between a sender and a receiver: whole frames both ways,
 * heartbeats in between, and how long ago the peer was heard
 *
 * One thread receives (the owner: it beats as well); any thread sends.  Nothing here decides what
 * silence or an end means: that is failover.c, asked by sender.c and
 * receiver.c.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_SESSION_H
#define CURLING_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "beat.h"
#include "channel.h"
#include "error.h"
#include "frame.h"

typedef struct CurlingSession {
    /* constant after init */
    CurlingChannel *channel;            /* borrowed */
    uint32_t generation;
    /*
     * Called by curling_session_recv() at least every tick with the time
     * since a byte was last heard.  Returns 0 to go on, or the negative
     * errno to end with.
     */
    int (*tick)(void *opaque, int64_t idle_ns, CurlingError *err);
    /* Called by curling_session_recv() for each beat heard.  May be NULL. */
    void (*beat)(void *opaque, const CurlingBeat *beat);
    void *opaque;
    const CurlingVitals *vitals;        /* borrowed; what beats tell of this
                                         * side.  NULL: nothing */

    /* protected by @write_lock: a frame goes out in one piece */
    pthread_mutex_t write_lock;
    int64_t paced_until_ns;
    uint8_t *rest;                      /* goes out before all else: the end */
    size_t rest_bytes;                  /* of a frame that was begun, and what
                                         * was posted after it */

    /* atomic */
    uint32_t peer_timeout_ms;           /* after which silence counts */
    uint32_t heartbeat_ms;              /* how often this side beats */
    uint32_t stall_ms;                  /* sends fail when the peer took
                                         * nothing for so long; 0: never */
    uint64_t max_bandwidth;             /* bytes per second, 0 = unlimited */
    int64_t heard_ns;
    int64_t beat_ns;                    /* when the last beat went out */
    uint64_t stamp_ns;                  /* the peer's last one; 0: none */
    int64_t write_deadline_ns;          /* sends fail after it; 0: none */
    bool closed;                        /* curling_session_close() */

    /* receiving thread only */
    int64_t ticked_ns;
    int64_t read_ns;                    /* when the last octet came; patience
                                         * after a sleep is in heard_ns only */
    uint64_t read_bytes;
} CurlingSession;

/*
 * @peer_timeout_ms: this side's setting.  Beats go out at a quarter of it
 * until curling_session_agree() knows the peer's.
 */
void curling_session_init(CurlingSession *session, CurlingChannel *channel,
                          uint32_t generation, uint32_t peer_timeout_ms);

/* No thread may be inside any other function of @session any more. */
void curling_session_destroy(CurlingSession *session);

/* The peer waits @peer_timeout_ms: beat at a quarter of the shorter one. */
void curling_session_agree(CurlingSession *session, uint32_t peer_timeout_ms);

/*
 * Make every send and receive, under way or later, end with -ECANCELED
 * within a tick.  The channel stays open: a living sender must never look
 * dead.  Any thread.
 */
void curling_session_close(CurlingSession *session);

/*
 * Send one frame with a small payload.  Blocks while the peer reads nothing,
 * for stall_ms if that is set, but not after curling_session_close() or once
 * the channel failed.  Any thread.  Returns 0, -EPIPE, -ETIMEDOUT, -ECANCELED
 * or the channel's errno.
 */
int curling_session_send(CurlingSession *session, uint8_t type,
                         uint64_t round, const void *payload,
                         size_t len_bytes, CurlingError *err);

/*
 * Send @len_bytes of whole frames, encoded already, not faster than
 * max_bandwidth.  As curling_session_send().
 */
int curling_session_send_frames(CurlingSession *session, const uint8_t *frames,
                                size_t len_bytes, CurlingError *err);

/*
 * Send one frame without a payload, and do not wait for it: it goes out after
 * what is being sent, if need be while curling_session_recv() runs.  Any
 * thread.  Returns 0 or -ENOMEM.
 */
int curling_session_post(CurlingSession *session, uint8_t type,
                         CurlingError *err);

/*
 * Send a beat if one is due: for the receiving thread while it waits for
 * something other than the peer.  Never waits for the peer: what does not fit
 * into the socket now is left out.  @now: one is due in any case.
 */
void curling_session_beat(CurlingSession *session, bool now);

/*
 * Receive the header of the next frame of a known type; beats and unknown
 * optional frames are dealt with here.  Waits without a limit of its own:
 * @session->tick sets it.
 *
 * Returns 0; -EPROTO for bad bytes; -EPIPE at the end of the connection; what
 * tick returned; -ECANCELED after a close; the channel's errno.
 */
int curling_session_recv(CurlingSession *session, CurlingHeader *header,
                         CurlingError *err);

/* Receive and check the payload of @header into @payload. As above. */
int curling_session_recv_payload(CurlingSession *session,
                                 const CurlingHeader *header, void *payload,
                                 CurlingError *err);

#endif
