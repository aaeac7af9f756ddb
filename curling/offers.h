/*
 * Connections to a receiver, from accept until somebody serves them
 *
 * A peer that has connected has CURLING_HANDSHAKE_MS to say HELLO.  Few may
 * be in that state at once; when there are too many, the one that has taken
 * longest is dropped, so that idle connections cannot keep a sender out.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_OFFERS_H
#define CURLING_OFFERS_H

#include <pthread.h>
#include <stdbool.h>

#include "channel.h"
#include "error.h"
#include "hello.h"
#include "session.h"

/* Connections whose HELLO is being read, or that wait to be served. */
#define CURLING_OFFERS_MAX 8

typedef struct CurlingOffer CurlingOffer;
struct CurlingOffer {
    CurlingOffer *next;         /* of its list */
    CurlingChannel *channel;
    void (*release)(CurlingChannel *channel);
    CurlingHello hello;
    char peer[128];
    bool dropped;
};

typedef struct CurlingOffers {
    /* constant after init; borrowed.  @cond is signalled when an offer is
     * ready or gone. */
    pthread_mutex_t *lock;
    pthread_cond_t *cond;

    /* protected by @lock */
    CurlingOffer *greeting;     /* HELLO is being read; newest first */
    CurlingOffer *ready;        /* HELLO was read; newest first */
    unsigned int n;             /* of both */
    bool closed;                /* no more are taken */
} CurlingOffers;

/*
 * Read the HELLO of who has connected and put it among the ready ones.
 * @channel is taken: @release(@channel) is called when it is needed no more,
 * in any thread, also on failure.  @peer: what to call it.
 * @peer_timeout_ms: as curling_session_init().
 *
 * Blocks for CURLING_HANDSHAKE_MS at most, without @lock.  Any thread.
 * Returns 0, or -errno with a sentence: the connection is gone, told why if
 * it speaks Curling.
 */
int curling_offers_greet(CurlingOffers *offers, CurlingChannel *channel,
                         void (*release)(CurlingChannel *channel),
                         const char *peer, uint32_t peer_timeout_ms,
                         CurlingError *err);

/* Take out a ready one, or NULL.  Freed with curling_offer_free().  Called
 * with @lock held. */
CurlingOffer *curling_offers_take_locked(CurlingOffers *offers);

/* Put the newest ready one of this session first.  False: there is none.
 * Called with @lock held. */
bool curling_offers_prefer_locked(CurlingOffers *offers,
                                  const uint8_t *session_id,
                                  uint32_t generation);

/* Take no more; drop those that are greeting.  Called with @lock held. */
void curling_offers_close_locked(CurlingOffers *offers);

/* Releases the channel.  Takes NULL.  Without @lock. */
void curling_offer_free(CurlingOffer *offer);

/* A session for a short exchange over @offer: who reads nothing for the peer
 * timeout is not waited for. */
void curling_offer_session(const CurlingOffer *offer, CurlingSession *session,
                           uint32_t generation, uint32_t peer_timeout_ms);

#endif
