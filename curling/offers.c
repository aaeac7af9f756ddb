/*
 * Connections to a receiver, from accept until somebody serves them
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offers.h"

#define NS_PER_MS 1000000LL

void curling_offer_free(CurlingOffer *offer)
{
    if (!offer) {
        return;
    }
    offer->release(offer->channel);
    free(offer->hello.description);
    free(offer);
}

void curling_offer_session(const CurlingOffer *offer, CurlingSession *session,
                           uint32_t generation, uint32_t peer_timeout_ms)
{
    curling_session_init(session, offer->channel, generation, peer_timeout_ms);
    session->stall_ms = peer_timeout_ms;
}

static void drop_locked(CurlingOffer *offer)
{
    offer->dropped = true;
    offer->channel->shutdown(offer->channel->opaque);
}

/* Make room: whoever has taken longest to say HELLO goes. */
static void drop_oldest_locked(CurlingOffers *offers)
{
    CurlingOffer *oldest = NULL;

    for (CurlingOffer *o = offers->greeting; o; o = o->next) {
        if (!o->dropped) {
            oldest = o;
        }
    }
    if (oldest) {
        drop_locked(oldest);
    }
}

/* False: there are far too many, and those that were dropped are not gone. */
static bool begin_greeting(CurlingOffers *offers, CurlingOffer *offer)
{
    bool room;

    pthread_mutex_lock(offers->lock);
    if (offers->n >= CURLING_OFFERS_MAX) {
        drop_oldest_locked(offers);
    }
    room = offers->n < 2 * CURLING_OFFERS_MAX && !offers->closed;
    if (room) {
        offer->next = offers->greeting;
        offers->greeting = offer;
        offers->n++;
    }
    pthread_mutex_unlock(offers->lock);
    return room;
}

static void unlink_greeting_locked(CurlingOffers *offers, CurlingOffer *offer)
{
    CurlingOffer **at = &offers->greeting;

    while (*at != offer) {
        at = &(*at)->next;
    }
    *at = offer->next;
}

/* True: @offer is among the ready ones now. */
static bool end_greeting(CurlingOffers *offers, CurlingOffer *offer, int ret)
{
    bool ready;

    pthread_mutex_lock(offers->lock);
    unlink_greeting_locked(offers, offer);
    ready = ret == 0 && !offers->closed && !offer->dropped;
    if (ready) {
        offer->next = offers->ready;
        offers->ready = offer;
    } else {
        offers->n--;
    }
    pthread_cond_broadcast(offers->cond);
    pthread_mutex_unlock(offers->lock);
    return ready;
}

static int check_deadline(void *opaque, int64_t idle_ns, CurlingError *err)
{
    const int64_t *deadline_ns = opaque;

    (void)idle_ns;
    if (curling_clock_ns() > *deadline_ns) {
        return curling_error_set(err, -ETIMEDOUT, "got no HELLO within %d ms",
                                 CURLING_HANDSHAKE_MS);
    }
    return 0;
}

int curling_offers_greet(CurlingOffers *offers, CurlingChannel *channel,
                         void (*release)(CurlingChannel *channel),
                         const char *peer, uint32_t peer_timeout_ms,
                         CurlingError *err)
{
    int64_t deadline_ns = curling_clock_ns() +
                          CURLING_HANDSHAKE_MS * NS_PER_MS;
    CurlingOffer *offer = calloc(1, sizeof(*offer));
    CurlingSession session;
    int ret;

    if (!offer) {
        release(channel);
        return curling_error_set(err, -ENOMEM, "no memory for a connection");
    }
    offer->channel = channel;
    offer->release = release;
    snprintf(offer->peer, sizeof(offer->peer), "%s", peer);
    curling_offer_session(offer, &session, 0, peer_timeout_ms);
    /*
     * No beats before HELLO: nobody has asked for them yet, and the end of one
     * that was cut short would be lost with this session.
     */
    session.heartbeat_ms = UINT32_MAX;
    session.tick = check_deadline;
    session.opaque = &deadline_ns;
    if (!begin_greeting(offers, offer)) {
        /* He is not among those that are counted: no long wait for him. */
        session.stall_ms = CURLING_CHANNEL_TICK_MS;
        ret = curling_error_set(err, -EBUSY, "too many connections at once; "
                                "try again later");
        curling_reject_send(&session, CURLING_REJECT_BUSY, err->text, NULL);
        curling_session_destroy(&session);
        curling_offer_free(offer);
        return ret;
    }
    ret = curling_hello_recv(&session, &offer->hello, err);
    if (ret == -EPROTO) {
        /* Maybe it understands.  Not final: it may be the sender that counts
         * on us, and its HELLO was damaged on the way. */
        curling_reject_send(&session, CURLING_REJECT_BUSY, err->text, NULL);
    } else if (ret == -EACCES) {
        /* The channel does not believe who he says he is. */
        curling_reject_send(&session, CURLING_REJECT_FINAL, err->text, NULL);
    }
    curling_session_destroy(&session);
    if (!end_greeting(offers, offer, ret)) {
        if (offer->dropped) {
            ret = curling_error_set(err, -EBUSY, "it said no HELLO, and "
                                    "others wanted to");
        }
        curling_offer_free(offer);
        return ret < 0 ? ret : curling_error_set(err, -ECANCELED,
                                                 "the receiver ends");
    }
    return 0;
}

CurlingOffer *curling_offers_take_locked(CurlingOffers *offers)
{
    CurlingOffer *offer = offers->ready;

    if (offer) {
        offers->ready = offer->next;
        offers->n--;
    }
    return offer;
}

bool curling_offers_prefer_locked(CurlingOffers *offers,
                                  const uint8_t *session_id,
                                  uint32_t generation)
{
    CurlingOffer **at = &offers->ready;
    CurlingOffer *found;

    while (*at && ((*at)->hello.generation != generation ||
                   memcmp((*at)->hello.session, session_id,
                          CURLING_SESSION_ID_BYTES))) {
        at = &(*at)->next;
    }
    found = *at;
    if (found) {
        *at = found->next;
        found->next = offers->ready;
        offers->ready = found;
    }
    return found;
}

void curling_offers_close_locked(CurlingOffers *offers)
{
    offers->closed = true;
    for (CurlingOffer *o = offers->greeting; o; o = o->next) {
        drop_locked(o);
    }
}
