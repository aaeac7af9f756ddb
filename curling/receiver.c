/*
 * The receiver: takes rounds whole, applies them, and takes over
 *
 * Theory of operation
 * -------------------
 * Connections come as offers, their HELLO already read.  The reader thread
 * takes one, serves it until it ends, and asks failover.c what that end
 * means.  A session may span several connections: the sender comes back with
 * the same session id and goes on from the round that WELCOME names.
 *
 * What is "held" is the last round that was whole.  It is RAM as applied so
 * far, plus at most one sealed round on its way through the applier, plus
 * the device state of the last of them.  The first round of a session finds
 * nothing worth keeping in RAM and goes straight there; nothing is held
 * until its end has been verified.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "cond.h"
#include "hello.h"
#include "intake.h"
#include "offers.h"
#include "receiver.h"
#include "session.h"

#define NS_PER_MS 1000000LL

/* How long a takeover waits for the HELLO of somebody who has connected. */
#define HELLO_MS 300

/* How long the last word on a connection has to get there before the
 * connection is closed, if the sender does not move: the guest may depend on
 * SUPERSEDED, and nothing but a moment on FAILED. */
#define SUPERSEDED_MS 5000
#define FAILED_MS 100

/*
 * What a takeover adds to the sender's lease, for clocks that drift and for
 * what the sender's fencing takes: a fiftieth, and so many ms.
 */
#define LEASE_DRIFT 50
#define LEASE_MARGIN_MS 100

/* How the sender ended the session. */
typedef enum End {
    END_NONE,
    END_STOP,
    END_POWEROFF,
    END_FENCED,
} End;

struct CurlingReceiver {
    /* constant after init */
    CurlingReceiverConfig config;
    CurlingPool *pool;
    CurlingApplier *applier;

    /* reader thread only */
    CurlingSession session;
    CurlingOffer *serving;      /* whose connection @session is */
    CurlingIntake intake;
    uint8_t scratch[CURLING_PAYLOAD_MAX];
    uint8_t session_id[CURLING_SESSION_ID_BYTES];
    uint32_t generation;
    End end;                    /* what came on this connection */
    bool confirmed;             /* it said more than HELLO */
    uint64_t silent_bytes;      /* heard on it when it fell silent */
    int64_t heard_ns;           /* when the sender was last heard */
    int64_t fence_until_ns;     /* how long an answer to FENCE may take */
    CurlingWatch watch;
    int64_t idle_ns;            /* no first round has begun since; 0: one has */
    int64_t wait_ns;            /* when to bring up @wait_event; 0: never */
    CurlingEvent wait_event;
    CurlingError wait_reason;
    CurlingError takeover_reason;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* protected by @lock */
    CurlingState state;
    CurlingReceiverInfo info;
    CurlingOffers offers;
    bool quit;
    bool yanked;
    bool operator_asked;
    CurlingEvent operator_event;
};

static uint32_t setting(const uint32_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

CurlingReceiver *curling_receiver_new(const CurlingReceiverConfig *config)
{
    CurlingReceiver *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->config = *config;
    r->pool = curling_pool_new(config->limit_bytes);
    if (!r->pool || curling_intake_init(&r->intake, config->layout, r->pool,
                                        config->codec) < 0) {
        curling_intake_destroy(&r->intake);
        curling_pool_free(r->pool);
        free(r);
        return NULL;
    }
    pthread_mutex_init(&r->lock, NULL);
    curling_cond_init(&r->cond);
    r->offers = (CurlingOffers) { .lock = &r->lock, .cond = &r->cond };
    r->state = CURLING_STATE_LISTENING;
    r->info.held = CURLING_ROUND_NONE;
    return r;
}

void curling_receiver_free(CurlingReceiver *r)
{
    CurlingOffer *offer;

    if (!r) {
        return;
    }
    while ((offer = curling_offers_take_locked(&r->offers))) {
        curling_offer_free(offer);
    }
    curling_intake_destroy(&r->intake);
    curling_pool_free(r->pool);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void curling_receiver_quit(CurlingReceiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->quit = true;
    curling_offers_close_locked(&r->offers);
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
}

void curling_receiver_yank(CurlingReceiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->yanked = true;
    pthread_mutex_unlock(&r->lock);
}

void curling_receiver_set_limit(CurlingReceiver *r, uint64_t limit_bytes)
{
    curling_pool_set_limit(r->pool, limit_bytes);
}

void curling_receiver_query(CurlingReceiver *r, CurlingReceiverInfo *info)
{
    pthread_mutex_lock(&r->lock);
    *info = r->info;
    info->state = r->state;
    pthread_mutex_unlock(&r->lock);
    info->memory_now = curling_pool_now(r->pool);
    info->memory_used = curling_pool_used(r->pool);
    info->memory_peak = curling_pool_peak(r->pool);
    info->memory_limit = curling_pool_limit(r->pool);
}

/* Called with lock held. */
static CurlingStep step_locked(CurlingReceiver *r, CurlingEvent event)
{
    const CurlingReceiverSettings *settings = r->config.settings;
    CurlingPolicies policies = {
        .on_disconnect = setting(&settings->on_disconnect),
        .on_silence = setting(&settings->on_silence),
        .lease = r->info.lease_ms,
    };

    return curling_failover_step(r->state, event, &policies);
}

static void settle(CurlingReceiver *r, CurlingState state, const char *reason)
{
    bool changed;

    pthread_mutex_lock(&r->lock);
    changed = state != r->state;
    r->state = state;
    pthread_mutex_unlock(&r->lock);
    if (changed) {
        r->config.ops->state(r->config.opaque, state, reason);
    }
}

static void drop_held(CurlingReceiver *r)
{
    memset(r->session_id, 0, sizeof(r->session_id));
    pthread_mutex_lock(&r->lock);
    r->info.held = CURLING_ROUND_NONE;
    r->info.held_ns = 0;
    r->info.session[0] = '\0';
    pthread_mutex_unlock(&r->lock);
}

/*
 * Feed @event to the state machine: what is to be forgotten is, and the state
 * changes.  The rest is act()'s; a takeover changes the state only once it is
 * done.
 */
static CurlingAction happen(CurlingReceiver *r, CurlingEvent event,
                            const char *reason)
{
    CurlingStep step;

    pthread_mutex_lock(&r->lock);
    step = step_locked(r, event);
    pthread_mutex_unlock(&r->lock);
    switch (step.action) {
    case CURLING_ACTION_TAKEOVER:
        curling_error_set(&r->takeover_reason, 0, "%s", reason);
        return step.action;
    case CURLING_ACTION_REFUSE:
        return step.action;
    case CURLING_ACTION_DROP:
    case CURLING_ACTION_POWEROFF:
    case CURLING_ACTION_GIVE_UP:
        drop_held(r);
        curling_pool_trim(r->pool);
        break;
    case CURLING_ACTION_NONE:
    case CURLING_ACTION_GRACE:
    case CURLING_ACTION_LEASE:
    case CURLING_ACTION_FENCE:
    case CURLING_ACTION__MAX:
        break;
    }
    settle(r, step.state, reason);
    return step.action;
}

static bool is_heard(CurlingState state)
{
    return state == CURLING_STATE_STANDBY || state == CURLING_STATE_FENCING;
}

static CurlingState current_state(CurlingReceiver *r)
{
    CurlingState state;

    pthread_mutex_lock(&r->lock);
    state = r->state;
    pthread_mutex_unlock(&r->lock);
    return state;
}

static void note_step(CurlingReceiver *r, CurlingReceiverStep step,
                      uint64_t round)
{
    if (r->config.ops->step) {
        r->config.ops->step(r->config.opaque, step, round);
    }
}

static int take_over(CurlingReceiver *r, CurlingError *err);

/* FAILED: why this side cannot go on. */
static void send_failed(CurlingReceiver *r, uint64_t number,
                        const CurlingError *err)
{
    curling_session_send(&r->session, CURLING_TYPE_FAILED, number, err->text,
                         strnlen(err->text, sizeof(err->text)), NULL);
}

static void set_last_error(CurlingReceiver *r, const char *text)
{
    pthread_mutex_lock(&r->lock);
    curling_error_set(&r->info.last_error, 0, "%s", text);
    pthread_mutex_unlock(&r->lock);
}

/* ---- Connections -------------------------------------------------------- */

static uint32_t peer_timeout_ms(CurlingReceiver *r)
{
    return setting(&r->config.settings->peer_timeout_ms);
}

static void note_refused(CurlingReceiver *r, const char *peer,
                         const char *why)
{
    CurlingError err;

    curling_error_set(&err, 0, "connection from %s refused: %s", peer, why);
    set_last_error(r, err.text);
}

void curling_receiver_offer(CurlingReceiver *r, CurlingChannel *channel,
                            void (*release)(CurlingChannel *channel),
                            const char *peer)
{
    CurlingError err;
    int ret = curling_offers_greet(&r->offers, channel, release, peer,
                                   peer_timeout_ms(r), &err);

    if (ret < 0 && ret != -ECANCELED) {
        note_refused(r, peer, err.text);
    }
}

/* ---- Applying ----------------------------------------------------------- */

static void op_pages(void *opaque, uint32_t block, uint64_t first,
                     uint64_t count)
{
    CurlingReceiver *r = opaque;

    if (r->config.ops->pages) {
        r->config.ops->pages(r->config.opaque, block, first, count);
    }
}

static int op_load(void *opaque, const CurlingAppliedRound *round,
                   const uint8_t *device, size_t len_bytes, CurlingError *err)
{
    CurlingReceiver *r = opaque;

    return r->config.ops->applied(r->config.opaque, round, device, len_bytes,
                                  err);
}

/*
 * The applier hands its news to the sender through the reader's session.
 * That is safe: the reader does not leave a session before the applier is
 * idle.
 */
static void op_done(void *opaque, const CurlingAppliedRound *round, int ret,
                    const CurlingError *err)
{
    CurlingReceiver *r = opaque;
    uint8_t payload[CURLING_APPLIED_BYTES];

    pthread_mutex_lock(&r->lock);
    if (ret < 0) {
        r->info.last_error = *err;
    } else {
        r->info.last = *round;
    }
    pthread_mutex_unlock(&r->lock);
    if (ret < 0) {
        send_failed(r, round->number, err);
        return;
    }
    curling_put_u64(payload + CURLING_APPLIED_US, round->apply_us);
    curling_session_send(&r->session, CURLING_TYPE_APPLIED, round->number,
                         payload, sizeof(payload), NULL);
}

/* Wait until the applier has nothing to do, beating meanwhile. */
static void wait_applied(CurlingReceiver *r)
{
    while (!curling_applier_wait(r->applier, curling_clock_ns() +
                                 CURLING_CHANNEL_TICK_MS * NS_PER_MS)) {
        if (r->serving) {
            curling_session_beat(&r->session, false);
        }
    }
}

/* ---- Reading rounds ----------------------------------------------------- */

static uint64_t held_round(CurlingReceiver *r)
{
    uint64_t held;

    pthread_mutex_lock(&r->lock);
    held = r->info.held;
    pthread_mutex_unlock(&r->lock);
    return held;
}

static int begin_round(CurlingReceiver *r, const CurlingHeader *header,
                       const uint8_t *payload, CurlingError *err)
{
    int ret = curling_intake_begin(&r->intake, header, payload, held_round(r),
                                   err);

    if (ret == 0 && r->intake.streaming) {
        curling_applier_stream_begin(r->applier);
    }
    if (ret == 0) {
        r->idle_ns = 0;
        curling_pool_age(r->pool);
        note_step(r, CURLING_STEP_BEGUN, header->round);
    }
    return ret;
}

static int read_data(CurlingReceiver *r, const CurlingHeader *header,
                     CurlingError *err)
{
    uint8_t *room;
    int ret = curling_intake_room(&r->intake, header, &room, err);

    if (ret == -EOVERFLOW) {
        /* The round that is being applied will soon give back its memory. */
        wait_applied(r);
        ret = curling_intake_room(&r->intake, header, &room, err);
    }
    if (ret == 0) {
        ret = curling_session_recv_payload(&r->session, header, room, err);
    }
    if (ret == 0) {
        ret = curling_intake_data(&r->intake, header, room, err);
    }
    if (ret == 0 && r->intake.streaming) {
        curling_applier_stream(r->applier, room, header->length_bytes);
        curling_intake_streamed(&r->intake);
    }
    return ret;
}

/* The round is whole: from here on it is what a takeover starts from. */
static int commit(CurlingReceiver *r, uint64_t number, CurlingError *err)
{
    int64_t now_ns = curling_clock_ns();
    int ret;

    pthread_mutex_lock(&r->lock);
    r->info.held = number;
    r->info.held_ns = now_ns;
    r->info.rounds_committed++;
    pthread_mutex_unlock(&r->lock);
    if (r->config.vitals) {
        __atomic_store_n(&r->config.vitals->round_ns, now_ns,
                         __ATOMIC_RELAXED);
    }
    happen(r, CURLING_EVENT_COMMITTED, "the first round is whole");
    note_step(r, CURLING_STEP_COMMITTED, number);
    ret = curling_session_send(&r->session, CURLING_TYPE_RECEIVED, number,
                               NULL, 0, err);
    /* Who has closed may have said STOP before. */
    return ret == -EPIPE ? 0 : ret;
}

static int end_round(CurlingReceiver *r, const CurlingHeader *header,
                     const uint8_t *payload, CurlingError *err)
{
    CurlingRound *whole;
    int ret = curling_intake_end(&r->intake, header, payload, &whole, err);

    if (ret < 0) {
        return ret;
    }
    wait_applied(r);
    if (curling_applier_is_broken(r->applier, err)) {
        curling_round_free(whole);
        return -ECANCELED;
    }
    if (!r->intake.streaming) {
        ret = commit(r, header->round, err);
        curling_applier_submit(r->applier, whole, false,
                               r->intake.device_bytes);
        return ret;
    }
    /*
     * The first round is loaded on trial before it counts as held, so that a
     * pair that does not fit is refused here and not at the takeover.
     */
    curling_applier_submit(r->applier, whole, true, r->intake.device_bytes);
    wait_applied(r);
    if (curling_applier_is_broken(r->applier, err)) {
        return -ECANCELED;
    }
    return commit(r, header->round, err);
}

static int act_on(CurlingReceiver *r, const CurlingHeader *header,
                  CurlingError *err)
{
    int ret;

    if (header->generation != r->generation) {
        return curling_error_set(err, -ESTALE, "got a frame of generation %"
                                 PRIu32 ", expected %" PRIu32,
                                 header->generation, r->generation);
    }
    if (header->type == CURLING_TYPE_DATA) {
        return read_data(r, header, err);
    }
    ret = curling_session_recv_payload(&r->session, header, r->scratch, err);
    if (ret < 0) {
        return ret;
    }
    switch (header->type) {
    case CURLING_TYPE_ROUND_BEGIN:
        return begin_round(r, header, r->scratch, err);
    case CURLING_TYPE_ROUND_END:
        return end_round(r, header, r->scratch, err);
    case CURLING_TYPE_STOP:
    case CURLING_TYPE_POWEROFF:
        r->end = header->type == CURLING_TYPE_STOP ? END_STOP : END_POWEROFF;
        note_step(r, CURLING_STEP_STOPPED, held_round(r));
        return curling_session_send(&r->session, CURLING_TYPE_STOP_ACK,
                                    CURLING_ROUND_NONE, NULL, 0, err);
    case CURLING_TYPE_FENCED:
        if (held_round(r) == CURLING_ROUND_NONE) {
            return curling_error_set(err, -EPROTO, "got FENCED, but no round "
                                     "is held");
        }
        r->end = END_FENCED;
        return 0;
    default:
        return curling_error_set(err, -EPROTO, "got %s from a sender",
                                 curling_frame_type_name(header->type));
    }
}

/* ---- Sessions ----------------------------------------------------------- */

static void refuse(CurlingReceiver *r, CurlingOffer *offer, uint32_t kind,
                   const char *text)
{
    CurlingSession session;

    /* First: who reads the answer may look here for the same words. */
    note_refused(r, offer->peer, text);
    curling_offer_session(offer, &session, offer->hello.generation,
                          peer_timeout_ms(r));
    curling_reject_send(&session, kind, text, NULL);
    curling_session_destroy(&session);
    curling_offer_free(offer);
}

static void answer_superseded(CurlingReceiver *r, CurlingOffer *offer)
{
    CurlingSession session;

    curling_offer_session(offer, &session, r->generation + 1,
                          peer_timeout_ms(r));
    curling_session_send(&session, CURLING_TYPE_SUPERSEDED,
                         CURLING_ROUND_NONE, NULL, 0, NULL);
    curling_session_destroy(&session);
    curling_offer_free(offer);
}

static bool is_held_session(CurlingReceiver *r, const CurlingOffer *offer)
{
    return !memcmp(offer->hello.session, r->session_id,
                   CURLING_SESSION_ID_BYTES);
}

/*
 * Some connect while a session is being served.  Its own sender, come back on
 * a new connection, replaces the old one, however many others there are; they
 * are sent away.  True: leave the old connection for the first offer.
 */
static bool is_sender_back(CurlingReceiver *r)
{
    for (unsigned int i = 0; i < 2 * CURLING_OFFERS_MAX; i++) {
        CurlingOffer *offer = NULL;
        bool back;

        pthread_mutex_lock(&r->lock);
        back = curling_offers_prefer_locked(&r->offers, r->session_id,
                                            r->generation);
        if (!back) {
            offer = curling_offers_take_locked(&r->offers);
        }
        pthread_mutex_unlock(&r->lock);
        if (!offer) {
            return back;
        }
        refuse(r, offer, CURLING_REJECT_BUSY,
               "another sender is connected; try again later");
    }
    return false;
}

/*
 * Who was let in first and begins no round has nothing to lose.  He may be
 * waiting, so he stays until another one comes.
 */
static bool is_idler_in_the_way(CurlingReceiver *r)
{
    bool wanted;

    if (!r->idle_ns ||
        curling_clock_ns() - r->idle_ns < CURLING_HANDSHAKE_MS * NS_PER_MS) {
        return false;
    }
    pthread_mutex_lock(&r->lock);
    wanted = r->offers.ready;
    pthread_mutex_unlock(&r->lock);
    return wanted;
}

/* How long after the sender was last heard its guest stands still: it was
 * told so in HELLO. */
static int64_t lease_ns(CurlingReceiver *r)
{
    int64_t lease_ms;

    pthread_mutex_lock(&r->lock);
    lease_ms = r->info.lease_ms;
    pthread_mutex_unlock(&r->lock);
    return (lease_ms + lease_ms / LEASE_DRIFT + LEASE_MARGIN_MS) * NS_PER_MS;
}

/*
 * Silence ends the connection where policy says so.  Where it says wait, or
 * there is a lease to wait for, the connection is kept: who is heard again
 * goes on as if nothing was.
 */
static int judge_silence(CurlingReceiver *r, int64_t idle_ns,
                         uint32_t timeout_ms, CurlingError *err)
{
    CurlingState state = current_state(r);
    bool was_silent = state == CURLING_STATE_SUSPECT ||
                      state == CURLING_STATE_LEASED;

    if (idle_ns <= timeout_ms * NS_PER_MS) {
        /* After a sleep of its own this side has patience again, but has
         * heard nothing. */
        if (was_silent && r->confirmed &&
            r->session.read_bytes != r->silent_bytes) {
            happen(r, CURLING_EVENT_RESUMED, "the sender is heard again");
        }
        return 0;
    }
    curling_error_set(err, -ETIMEDOUT, "nothing heard for %" PRIu32
                      " ms (peer-timeout-ms)", timeout_ms);
    if (!was_silent) {
        r->silent_bytes = r->session.read_bytes;
        if (is_heard(state) && happen(r, CURLING_EVENT_SILENT, err->text) !=
                               CURLING_ACTION_TAKEOVER) {
            return 0;
        }
        return -ETIMEDOUT;
    }
    return state == CURLING_STATE_LEASED && idle_ns > lease_ns(r) ?
           -ETIMEDOUT : 0;
}

static void wait_for(CurlingReceiver *r, CurlingEvent event, uint32_t wait_ms,
                     const char *reason)
{
    r->wait_ns = curling_clock_ns() + wait_ms * NS_PER_MS;
    r->wait_event = event;
    curling_error_set(&r->wait_reason, 0, "%s", reason);
}

static bool is_wait_over(const CurlingReceiver *r)
{
    return r->wait_ns && curling_clock_ns() >= r->wait_ns;
}

static void fence_unanswered(CurlingReceiver *r, const char *why)
{
    CurlingError err;

    curling_error_set(&err, 0, "the sender was asked to stop its guest, and "
                      "%s; use force if you know that it does not run", why);
    set_last_error(r, err.text);
    happen(r, CURLING_EVENT_UNANSWERED, err.text);
    if (r->config.ops->not_handed) {
        r->config.ops->not_handed(r->config.opaque, err.text);
    }
}

/*
 * HELLO may be an old one that lay in the socket while this side slept, its
 * sender long gone to another attempt.  As long as its connection is open
 * there may be a sender, so nothing is started; but only what is heard after
 * WELCOME proves it, and only then the end of the connection is about its
 * life.
 */
static void confirm(CurlingReceiver *r)
{
    if (r->confirmed || !r->session.read_bytes) {
        return;
    }
    r->confirmed = true;
    r->wait_ns = 0;
    pthread_mutex_lock(&r->lock);
    r->info.lease_ms = r->serving->hello.fence_after_ms;
    pthread_mutex_unlock(&r->lock);
    if (current_state(r) == CURLING_STATE_FENCING) {
        fence_unanswered(r, "came back on another connection instead");
    }
    if (held_round(r) != CURLING_ROUND_NONE) {
        happen(r, CURLING_EVENT_RESUMED, "the sender is back");
    }
}

static void hear_beat(void *opaque, const CurlingBeat *beat)
{
    CurlingReceiver *r = opaque;

    r->watch.peer = *beat;
}

/* Ask the sender to stop its guest. */
static void send_fence(CurlingReceiver *r)
{
    uint8_t payload[CURLING_FENCE_BYTES];

    curling_put_u32(payload + CURLING_FENCE_TIMEOUT_MS, CURLING_FENCE_MS);
    curling_put_u32(payload + CURLING_FENCE_RESERVED, 0);
    r->fence_until_ns = curling_clock_ns() + CURLING_FENCE_MS * NS_PER_MS;
    curling_session_send(&r->session, CURLING_TYPE_FENCE, CURLING_ROUND_NONE,
                         payload, sizeof(payload), NULL);
}

/* An operator who wants the guest of a sender that is heard: over this very
 * connection.  True: nothing else is to be done about him now. */
static bool is_asked_to_fence(CurlingReceiver *r)
{
    bool asked;

    pthread_mutex_lock(&r->lock);
    asked = r->operator_asked && r->operator_event == CURLING_EVENT_OPERATOR &&
            r->state == CURLING_STATE_STANDBY && r->confirmed;
    if (asked) {
        r->operator_asked = false;
    }
    pthread_mutex_unlock(&r->lock);
    if (!asked) {
        return false;
    }
    happen(r, CURLING_EVENT_OPERATOR, "curling-failover");
    send_fence(r);
    return true;
}

static int tick(void *opaque, int64_t idle_ns, CurlingError *err)
{
    CurlingReceiver *r = opaque;
    uint32_t timeout_ms = peer_timeout_ms(r);
    bool yanked;
    bool leave;

    __atomic_store_n(&r->session.peer_timeout_ms, timeout_ms,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&r->session.stall_ms, timeout_ms, __ATOMIC_RELAXED);
    confirm(r);
    curling_watch_look(&r->watch, r->config.vitals, "sender",
                       setting(&r->config.settings->stall_ms),
                       r->config.ops->lagging, r->config.opaque);
    if (current_state(r) == CURLING_STATE_FENCING &&
        curling_clock_ns() > r->fence_until_ns) {
        fence_unanswered(r, "did not in time");
    }
    leave = !is_asked_to_fence(r);
    pthread_mutex_lock(&r->lock);
    leave = (leave && r->operator_asked) || r->quit;
    yanked = r->yanked;
    pthread_mutex_unlock(&r->lock);
    if (is_idler_in_the_way(r)) {
        return curling_error_set(err, -ECONNABORTED, "it began no round for "
                                 "%d ms, and another sender is here",
                                 CURLING_HANDSHAKE_MS);
    }
    if (is_sender_back(r)) {
        return curling_error_set(err, -ECONNABORTED,
                                 "the sender came back on a new connection");
    }
    if (leave || curling_applier_is_broken(r->applier, NULL)) {
        return curling_error_set(err, -ECANCELED,
                                 "the session is ended from this side");
    }
    if (yanked) {
        return curling_error_set(err, -ESHUTDOWN,
                                 "the connection was given up by yank");
    }
    return judge_silence(r, idle_ns, timeout_ms, err);
}

/* What is counted is counted by session. */
static void begin_counts(CurlingReceiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->info.rounds_committed = 0;
    r->info.rounds_discarded = 0;
    r->info.last = (CurlingAppliedRound) { 0 };
    r->info.lease_ms = 0;
    pthread_mutex_unlock(&r->lock);
    curling_pool_forget_peak(r->pool);
}

/* Read what still comes, so that closing does not throw away what was said:
 * until the sender closes, or comes back (where that is a sign that it has
 * heard), or for @wait_ms. */
static void drain(CurlingReceiver *r, uint32_t wait_ms, bool until_back)
{
    int64_t until_ns = curling_clock_ns() + wait_ms * NS_PER_MS;
    CurlingChannel *channel = r->session.channel;
    bool enough = false;
    ssize_t n = 1;

    while ((n > 0 || n == -EAGAIN || n == -EINTR) && !enough &&
           curling_clock_ns() < until_ns) {
        n = channel->read(channel->opaque, r->scratch, sizeof(r->scratch));
        pthread_mutex_lock(&r->lock);
        enough = (until_back && r->offers.ready) || r->quit;
        pthread_mutex_unlock(&r->lock);
    }
}

/*
 * A connection that this side gives up while it lives must not look like a
 * death: the sender is told, also where it seems to have come back on another
 * one, for that may be an old try.  Who quits is as good as dead.
 */
static void say_why(CurlingReceiver *r, int ret, const CurlingError *err)
{
    bool quit;

    pthread_mutex_lock(&r->lock);
    quit = r->quit;
    pthread_mutex_unlock(&r->lock);
    if (ret == -EPIPE || ret == -ESTALE || quit ||
        curling_applier_is_broken(r->applier, NULL)) {
        return;
    }
    __atomic_store_n(&r->session.write_deadline_ns,
                     curling_clock_ns() + FAILED_MS * NS_PER_MS,
                     __ATOMIC_RELAXED);
    send_failed(r, CURLING_ROUND_NONE, err);
    if (ret != -ETIMEDOUT && ret != -ECANCELED) {
        drain(r, FAILED_MS, ret != -ECONNABORTED);
    }
}

/*
 * FENCED: the guest stands still at the sender, and goes on there only if this
 * side says that it does not start it.  The answer must get there.
 */
static void take_what_is_handed(CurlingReceiver *r)
{
    CurlingError err;
    int ret;

    if (happen(r, CURLING_EVENT_FENCED, "the sender handed its guest over") !=
        CURLING_ACTION_TAKEOVER) {
        return;
    }
    ret = take_over(r, &err);
    if (ret == 0) {
        r->session.generation = r->generation + 1;
        curling_session_send(&r->session, CURLING_TYPE_SUPERSEDED,
                             CURLING_ROUND_NONE, NULL, 0, NULL);
        drain(r, SUPERSEDED_MS, true);
        return;
    }
    happen(r, ret == -EBUSY ? CURLING_EVENT_DECLINED : CURLING_EVENT_BROKEN,
           err.text);
    send_failed(r, CURLING_ROUND_NONE, &err);
    drain(r, SUPERSEDED_MS, true);
}

/* Serve one connection until it ends; returns the errno it ended with, 0
 * after STOP or POWEROFF. */
static int serve(CurlingReceiver *r, CurlingOffer *offer, CurlingError *err)
{
    CurlingWelcome welcome = {
        .held = held_round(r),
        .instance = r->config.instance,
    };
    CurlingHeader header;
    uint64_t number;
    int ret;

    if (!is_held_session(r, offer)) {
        begin_counts(r);
    }
    memcpy(r->session_id, offer->hello.session, CURLING_SESSION_ID_BYTES);
    memcpy(welcome.session, r->session_id, CURLING_SESSION_ID_BYTES);
    r->generation = offer->hello.generation;
    r->end = END_NONE;
    r->confirmed = false;
    r->silent_bytes = 0;
    r->idle_ns = welcome.held == CURLING_ROUND_NONE ? curling_clock_ns() : 0;
    curling_offer_session(offer, &r->session, r->generation,
                          peer_timeout_ms(r));
    r->session.tick = tick;
    r->session.beat = hear_beat;
    r->session.opaque = r;
    r->session.vitals = r->config.vitals;
    r->watch = (CurlingWatch) { 0 };
    curling_session_agree(&r->session, offer->hello.peer_timeout_ms);
    r->serving = offer;
    pthread_mutex_lock(&r->lock);
    memcpy(r->info.peer, offer->peer, sizeof(r->info.peer));
    curling_hello_session_name(r->session_id, r->info.session);
    r->info.generation = r->generation;
    /* An old HELLO may name an old lease: until this one is confirmed, the
     * longer one counts. */
    if (offer->hello.fence_after_ms > r->info.lease_ms) {
        r->info.lease_ms = offer->hello.fence_after_ms;
    }
    r->yanked = false;
    pthread_mutex_unlock(&r->lock);

    note_step(r, CURLING_STEP_CONNECTED, welcome.held);
    welcome.heartbeat_ms = r->session.heartbeat_ms;
    welcome.peer_timeout_ms = r->session.peer_timeout_ms;
    ret = curling_welcome_send(&r->session, &welcome, err);
    if (ret == 0 && welcome.held == CURLING_ROUND_NONE) {
        curling_applier_mend(r->applier);
        happen(r, CURLING_EVENT_WELCOMED, "a sender is connected");
    }
    while (ret == 0 && r->end == END_NONE) {
        ret = curling_session_recv(&r->session, &header, err);
        confirm(r);
        if (ret == 0) {
            ret = act_on(r, &header, err);
        }
    }
    if (r->end == END_NONE) {
        say_why(r, ret, err);
    }
    wait_applied(r);
    number = curling_round_number(r->intake.round);
    if (curling_intake_discard(&r->intake)) {
        pthread_mutex_lock(&r->lock);
        r->info.rounds_discarded++;
        pthread_mutex_unlock(&r->lock);
        note_step(r, CURLING_STEP_DISCARDED, number);
    }
    if (r->end == END_FENCED) {
        take_what_is_handed(r);
    }
    curling_watch_end(&r->watch, r->config.ops->lagging, r->config.opaque);
    note_step(r, CURLING_STEP_DISCONNECTED, held_round(r));
    r->heard_ns = __atomic_load_n(&r->session.heard_ns, __ATOMIC_RELAXED);
    r->serving = NULL;
    curling_session_destroy(&r->session);
    curling_offer_free(offer);
    return r->end != END_NONE ? 0 : ret;
}

/* ---- Ends --------------------------------------------------------------- */

static int take_over(CurlingReceiver *r, CurlingError *err)
{
    const uint8_t *device;
    size_t len_bytes;
    int ret;

    wait_applied(r);
    device = curling_applier_device(r->applier, &len_bytes);
    ret = r->config.ops->takeover(r->config.opaque, held_round(r), device,
                                  len_bytes, err);
    if (ret == 0) {
        pthread_mutex_lock(&r->lock);
        r->info.generation = r->generation + 1;
        pthread_mutex_unlock(&r->lock);
        settle(r, CURLING_STATE_ACTIVE, r->takeover_reason.text);
        curling_pool_trim(r->pool);
    } else {
        set_last_error(r, err->text);
    }
    return ret;
}

/* Not before the sender must have stopped its guest by itself. */
static void wait_for_lease(CurlingReceiver *r, const char *reason)
{
    r->wait_ns = r->heard_ns + lease_ns(r);
    r->wait_event = CURLING_EVENT_LEASE_OVER;
    curling_error_set(&r->wait_reason, 0, "%s", reason);
}

/* Carry out what failover.c said about what @reason tells. */
static void act(CurlingReceiver *r, CurlingAction action, const char *reason)
{
    CurlingError err;
    int ret;

    switch (action) {
    case CURLING_ACTION_POWEROFF:
        r->config.ops->powered_off(r->config.opaque);
        break;
    case CURLING_ACTION_GRACE:
        wait_for(r, CURLING_EVENT_GRACE_OVER,
                 setting(&r->config.settings->close_grace_ms), reason);
        break;
    case CURLING_ACTION_LEASE:
        wait_for_lease(r, reason);
        break;
    case CURLING_ACTION_FENCE:
        /* Who can hear it is asked by is_asked_to_fence(). */
        fence_unanswered(r, "there is no connection to it");
        break;
    case CURLING_ACTION_TAKEOVER:
        ret = take_over(r, &err);
        if (ret < 0) {
            act(r, happen(r, ret == -EBUSY ? CURLING_EVENT_NOT_STARTED :
                          CURLING_EVENT_BROKEN, err.text), err.text);
        }
        break;
    case CURLING_ACTION_NONE:
    case CURLING_ACTION_DROP:
    case CURLING_ACTION_GIVE_UP:
    case CURLING_ACTION_REFUSE:
    case CURLING_ACTION__MAX:
        break;
    }
}

static void act_on_event(CurlingReceiver *r, CurlingEvent event,
                         const char *reason)
{
    act(r, happen(r, event, reason), reason);
}

/* No round is held: whatever it was, there is nothing to start. */
static void end_of_empty(CurlingReceiver *r, const CurlingError *err)
{
    CurlingError sentence;

    curling_error_set(&sentence, 0, "%s; no round is whole, so there is "
                      "nothing to start", err->text);
    set_last_error(r, sentence.text);
    act_on_event(r, CURLING_EVENT_CLOSED, sentence.text);
}

static void wait_again(CurlingReceiver *r, const char *reason)
{
    const CurlingReceiverSettings *settings = r->config.settings;

    if (current_state(r) == CURLING_STATE_CLOSED) {
        wait_for(r, CURLING_EVENT_GRACE_OVER,
                 setting(&settings->close_grace_ms), reason);
    } else {
        wait_for(r, CURLING_EVENT_SILENT, setting(&settings->peer_timeout_ms),
                 reason);
    }
}

/* What the end of a connection is to the state machine. */
static void end_of_connection(CurlingReceiver *r, int ret,
                              const CurlingError *err)
{
    CurlingError broken;

    if (ret == 0 && r->end == END_POWEROFF) {
        act_on_event(r, CURLING_EVENT_POWERED_OFF,
                     "the guest powered off at the sender");
    } else if (ret == 0 && r->end == END_FENCED) {
        /* Done over this connection; if not, the sender comes back. */
        if (current_state(r) == CURLING_STATE_STANDBY) {
            wait_again(r, "the guest was handed over and not started");
        }
    } else if (ret == 0) {
        act_on_event(r, CURLING_EVENT_STOPPED, "the sender ended the session");
    } else if (curling_applier_is_broken(r->applier, &broken)) {
        act_on_event(r, CURLING_EVENT_BROKEN, broken.text);
    } else if (ret == -ECANCELED) {
        /* curling-failover or the end of this process */
    } else if (held_round(r) == CURLING_ROUND_NONE) {
        end_of_empty(r, err);
    } else if (ret == -EPIPE && r->confirmed) {
        act_on_event(r, CURLING_EVENT_CLOSED, err->text);
    } else if (ret == -ETIMEDOUT) {
        r->wait_ns = 0;
        set_last_error(r, err->text);
        act_on_event(r, CURLING_EVENT_SILENT, err->text);
    } else {
        /*
         * The connection is no use any more, which says nothing about the
         * sender: it has its time to come back once more.
         */
        if (r->confirmed && ret != -ECONNABORTED) {
            set_last_error(r, err->text);
        }
        wait_again(r, err->text);
    }
    if (current_state(r) == CURLING_STATE_LEASED) {
        wait_for_lease(r, err->text);
    }
}

/* May @offer be served now?  If not it is answered and gone. */
static bool admit(CurlingReceiver *r, CurlingOffer *offer)
{
    CurlingState state = current_state(r);
    CurlingError err;
    char held[CURLING_SESSION_NAME_BYTES], got[CURLING_SESSION_NAME_BYTES];
    char text[160];

    if (state == CURLING_STATE_ACTIVE) {
        if (is_held_session(r, offer)) {
            answer_superseded(r, offer);
        } else {
            refuse(r, offer, CURLING_REJECT_FINAL,
                   "this receiver took over and runs its guest; start a new "
                   "receiver");
        }
        return false;
    }
    if (held_round(r) != CURLING_ROUND_NONE && !is_held_session(r, offer)) {
        curling_hello_session_name(r->session_id, held);
        curling_hello_session_name(offer->hello.session, got);
        snprintf(text, sizeof(text), "holds round %" PRIu64 " of session %s, "
                 "and got session %s; curling-reset discards that round",
                 held_round(r), held, got);
        refuse(r, offer, CURLING_REJECT_FINAL, text);
        return false;
    }
    if (r->config.ops->check(r->config.opaque, &offer->hello, &err) < 0) {
        refuse(r, offer, CURLING_REJECT_FINAL, err.text);
        return false;
    }
    return true;
}

static void ask_locked(CurlingReceiver *r, CurlingEvent event)
{
    r->operator_asked = true;
    r->operator_event = event;
    pthread_cond_broadcast(&r->cond);
}

static int failover_locked(CurlingReceiver *r, bool force, CurlingError *err)
{
    switch (r->state) {
    case CURLING_STATE_LISTENING:
    case CURLING_STATE_SYNCING:
        return curling_error_set(err, -ENOENT, "no round is whole, so there "
                                 "is nothing to start");
    case CURLING_STATE_ACTIVE:
        return curling_error_set(err, -EALREADY, "the guest was started here "
                                 "already");
    case CURLING_STATE_FAILED:
        return curling_error_set(err, -ENOENT, "the last round could not be "
                                 "loaded, so there is nothing to start: %s",
                                 r->info.last_error.text);
    case CURLING_STATE_FENCING:
    case CURLING_STATE_LEASED:
        if (!force) {
            return curling_error_set(err, -EALREADY, "the takeover is under "
                                     "way: it waits until the sender has "
                                     "stopped the guest; use force to risk "
                                     "two running guests");
        }
        break;
    case CURLING_STATE_STANDBY:
    case CURLING_STATE_CLOSED:
    case CURLING_STATE_SUSPECT:
    case CURLING_STATE__MAX:
        break;
    }
    ask_locked(r, force ? CURLING_EVENT_FORCED : CURLING_EVENT_OPERATOR);
    return 0;
}

int curling_receiver_failover(CurlingReceiver *r, bool force,
                              CurlingError *err)
{
    int ret;

    pthread_mutex_lock(&r->lock);
    ret = failover_locked(r, force, err);
    pthread_mutex_unlock(&r->lock);
    return ret;
}

static int reset_locked(CurlingReceiver *r, CurlingError *err)
{
    switch (r->state) {
    case CURLING_STATE_LISTENING:
    case CURLING_STATE_SYNCING:
        return curling_error_set(err, -ENOENT, "no round is held, so there is "
                                 "nothing to discard");
    case CURLING_STATE_STANDBY:
    case CURLING_STATE_FENCING:
        return curling_error_set(err, -EBUSY, "the sender is heard and counts "
                                 "on this receiver; say migrate_cancel there");
    case CURLING_STATE_ACTIVE:
        return curling_error_set(err, -EALREADY, "the guest was started here; "
                                 "start a new receiver");
    case CURLING_STATE_CLOSED:
    case CURLING_STATE_LEASED:
    case CURLING_STATE_SUSPECT:
    case CURLING_STATE_FAILED:
    case CURLING_STATE__MAX:
        break;
    }
    ask_locked(r, CURLING_EVENT_RESET);
    return 0;
}

int curling_receiver_reset(CurlingReceiver *r, CurlingError *err)
{
    int ret;

    pthread_mutex_lock(&r->lock);
    ret = reset_locked(r, err);
    pthread_mutex_unlock(&r->lock);
    return ret;
}

/* The operator may have asked while a connection was served or not. */
static void check_operator(CurlingReceiver *r)
{
    CurlingEvent event;
    bool asked;

    pthread_mutex_lock(&r->lock);
    asked = r->operator_asked && !r->quit;
    event = r->operator_event;
    r->operator_asked = false;
    pthread_mutex_unlock(&r->lock);
    if (asked) {
        act_on_event(r, event, event == CURLING_EVENT_RESET ?
                     "curling-reset" : "curling-failover");
    }
}

/* Somebody has connected in time, and his HELLO is being read. */
static bool is_hello_coming_locked(const CurlingReceiver *r)
{
    return r->offers.n &&
           curling_clock_ns() < r->wait_ns + HELLO_MS * NS_PER_MS;
}

/* The next connection; NULL when what is waited for is due, or when there is
 * something else to look after. */
static CurlingOffer *next_offer(CurlingReceiver *r)
{
    CurlingOffer *offer;

    pthread_mutex_lock(&r->lock);
    while (!r->offers.ready && !r->quit && !r->operator_asked &&
           (!is_wait_over(r) || is_hello_coming_locked(r))) {
        if (is_wait_over(r)) {
            curling_cond_wait_until(&r->cond, &r->lock,
                                    r->wait_ns + HELLO_MS * NS_PER_MS);
        } else if (r->wait_ns) {
            curling_cond_wait_until(&r->cond, &r->lock, r->wait_ns);
        } else {
            pthread_cond_wait(&r->cond, &r->lock);
        }
    }
    offer = r->quit ? NULL : curling_offers_take_locked(&r->offers);
    pthread_mutex_unlock(&r->lock);
    return offer;
}

static const char *end_of_wait_says(CurlingEvent event)
{
    switch (event) {
    case CURLING_EVENT_GRACE_OVER:
        return "the sender died, and nobody came back";
    case CURLING_EVENT_LEASE_OVER:
        return "the sender has stopped its guest by now";
    default:
        return "the sender did not come back";
    }
}

/*
 * A sender has one connection at a time, and @offer is the newest: what else
 * there is of its session are tries that it gave up.  Each of them would take
 * the place of the one that lives.
 */
static void forget_old_tries(CurlingReceiver *r, const CurlingOffer *offer)
{
    CurlingOffer *old;

    do {
        pthread_mutex_lock(&r->lock);
        old = curling_offers_prefer_locked(&r->offers, offer->hello.session,
                                           offer->hello.generation) ?
              curling_offers_take_locked(&r->offers) : NULL;
        pthread_mutex_unlock(&r->lock);
        curling_offer_free(old);
    } while (old);
}

/* Nobody came back in time. */
static void end_of_wait(CurlingReceiver *r)
{
    CurlingError reason;

    r->wait_ns = 0;
    curling_error_set(&reason, 0, "%s: %s", end_of_wait_says(r->wait_event),
                      r->wait_reason.text);
    act_on_event(r, r->wait_event, reason.text);
}

static bool is_quitting(CurlingReceiver *r)
{
    bool quit;

    pthread_mutex_lock(&r->lock);
    quit = r->quit;
    pthread_mutex_unlock(&r->lock);
    return quit;
}

void curling_receiver_run(CurlingReceiver *r)
{
    CurlingApplierOps ops = {
        .pages = op_pages,
        .load = op_load,
        .done = op_done,
        .opaque = r,
    };
    CurlingError err;

    r->applier = curling_applier_new(r->config.layout, r->config.codec, &ops);
    if (!r->applier) {
        set_last_error(r, "no thread to apply rounds can be made");
        settle(r, CURLING_STATE_FAILED, "no thread to apply rounds");
        return;
    }
    while (!is_quitting(r)) {
        CurlingOffer *offer = next_offer(r);

        if (offer) {
            forget_old_tries(r, offer);
        }
        if (offer && admit(r, offer)) {
            end_of_connection(r, serve(r, offer, &err), &err);
        } else if (!offer && is_wait_over(r)) {
            end_of_wait(r);
        }
        check_operator(r);
    }
    curling_applier_free(r->applier);
}
