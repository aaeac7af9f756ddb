/*
 * The sender's end of a session
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cond.h"
#include "hello.h"
#include "sender.h"
#include "session.h"

#define NS_PER_MS 1000000LL

/* How long a cancel waits for the peer to read what is under way. */
#define CURLING_CANCEL_MS 1000

/* How long a session whose STOP was not acknowledged is kept for it. */
#define LINGER_MS 600000

/* How long the receiver may take to start a guest that is handed over: its
 * disks may be locked for a second.  It is asked anew after that. */
#define HANDED_MS 10000

/* How long the end of a connection may take from one thread to the other. */
#define EXPLAIN_MS 500

typedef struct Connection {
    CurlingChannel *channel;
    void (*release)(CurlingChannel *channel);
} Connection;

struct CurlingSender {
    /* constant after init */
    CurlingSenderConfig config;
    CurlingHello hello;

    /* capturing thread only */
    Connection connection;
    Connection stale;           /* given up, but kept open */
    CurlingSession session;
    pthread_t listener;
    bool connected;
    int64_t handshake_ns;       /* when it must be over */
    bool met;                   /* a receiver, and which one: */
    uint64_t instance;

    /* listener thread, while there is one */
    CurlingWatch watch;

    /* atomic */
    uint32_t lease_ms;          /* as the receiver was told */

    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* protected by @lock */
    CurlingSenderInfo info;
    bool stop_acked;
    bool kicked;
    bool cancelled;
    bool yanked;                /* since the connection began */
    bool lingering;             /* the listener's: it frees all */
    int64_t linger_until_ns;
    uint64_t shipping;          /* last round whose end was sent, or none */
    int lost;                   /* errno that ended the connection, or 0 */
    CurlingError lost_error;
};

CurlingSender *curling_sender_new(const CurlingSenderConfig *config)
{
    CurlingSender *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->config = *config;
    s->config.description = NULL;
    memcpy(s->hello.session, config->session, CURLING_SESSION_ID_BYTES);
    curling_hello_session_name(config->session, s->info.session);
    s->hello.description = strdup(config->description);
    if (!s->hello.description) {
        free(s);
        return NULL;
    }
    s->info.received = CURLING_ROUND_NONE;
    s->info.applied = CURLING_ROUND_NONE;
    s->shipping = CURLING_ROUND_NONE;
    pthread_mutex_init(&s->lock, NULL);
    curling_cond_init(&s->cond);
    return s;
}

static void release(Connection *connection)
{
    if (connection->channel) {
        connection->release(connection->channel);
        connection->channel = NULL;
    }
}

static void destroy(CurlingSender *s)
{
    release(&s->connection);
    release(&s->stale);
    free(s->hello.description);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void curling_sender_free(CurlingSender *s)
{
    if (!s) {
        return;
    }
    curling_sender_disconnect(s);
    destroy(s);
}

void curling_sender_linger(CurlingSender *s)
{
    bool linger;

    pthread_mutex_lock(&s->lock);
    linger = s->connected && !s->stop_acked && !s->lost;
    if (linger) {
        s->lingering = true;
        s->linger_until_ns = curling_clock_ns() + LINGER_MS * NS_PER_MS;
        pthread_detach(s->listener);
    }
    pthread_mutex_unlock(&s->lock);
    if (!linger) {
        curling_sender_free(s);
    }
}

void curling_sender_kick(CurlingSender *s, bool cancel)
{
    pthread_mutex_lock(&s->lock);
    s->kicked = true;
    s->cancelled |= cancel;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

void curling_sender_yank(CurlingSender *s)
{
    pthread_mutex_lock(&s->lock);
    s->yanked = true;
    pthread_mutex_unlock(&s->lock);
}

uint32_t curling_sender_lease_ms(const CurlingSender *s)
{
    return __atomic_load_n(&s->lease_ms, __ATOMIC_RELAXED);
}

void curling_sender_set(CurlingSender *s, uint32_t peer_timeout_ms,
                        uint32_t stall_ms, uint32_t fence_after_ms,
                        uint64_t max_bandwidth)
{
    __atomic_store_n(&s->config.peer_timeout_ms, peer_timeout_ms,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&s->config.stall_ms, stall_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&s->config.fence_after_ms, fence_after_ms,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&s->config.max_bandwidth, max_bandwidth,
                     __ATOMIC_RELAXED);
}

void curling_sender_query(CurlingSender *s, CurlingSenderInfo *info)
{
    pthread_mutex_lock(&s->lock);
    *info = s->info;
    info->stop_acked = s->stop_acked;
    pthread_mutex_unlock(&s->lock);
}

/* ---- Listener thread ---------------------------------------------------- */

/* Is this about the round that is expected to be spoken of? */
static int check_round(const CurlingHeader *header, uint64_t first,
                       uint64_t last, CurlingError *err)
{
    if (last == CURLING_ROUND_NONE) {
        return curling_error_set(err, -EPROTO, "got %s of round %" PRIu64
                                 ", but no round was sent",
                                 curling_frame_type_name(header->type),
                                 header->round);
    }
    if (header->round >= first && header->round <= last) {
        return 0;
    }
    return curling_error_set(err, -EPROTO, "got %s of round %" PRIu64
                             ", expected that of round %" PRIu64,
                             curling_frame_type_name(header->type),
                             header->round, last);
}

static int note_locked(CurlingSender *s, const CurlingHeader *header,
                       const uint8_t *payload, CurlingError *err)
{
    char text[CURLING_TEXT_MAX + 1];
    int ret = 0;

    switch (header->type) {
    case CURLING_TYPE_RECEIVED:
        ret = check_round(header, s->shipping, s->shipping, err);
        if (ret == 0) {
            s->info.received = header->round;
            s->info.received_ns = curling_clock_ns();
        }
        break;
    case CURLING_TYPE_APPLIED:
        ret = check_round(header, s->info.applied == CURLING_ROUND_NONE ? 0 :
                          s->info.applied, s->shipping, err);
        if (ret < 0) {
            break;
        }
        s->info.applied = header->round;
        s->info.apply_us = curling_get_u64(payload + CURLING_APPLIED_US);
        break;
    case CURLING_TYPE_STOP_ACK:
        s->stop_acked = true;
        break;
    case CURLING_TYPE_FAILED:
        ret = curling_error_set(err, header->round == CURLING_ROUND_NONE ?
                                -EREMOTEIO : -EBADMSG,
                                "the receiver failed: %s",
                                curling_error_quote(text, sizeof(text),
                                                    payload,
                                                    header->length_bytes));
        break;
    case CURLING_TYPE_SUPERSEDED:
        ret = curling_superseded_error(header, err);
        break;
    case CURLING_TYPE_FENCE:
        if (curling_get_u32(payload + CURLING_FENCE_RESERVED) != 0) {
            ret = curling_error_set(err, -EPROTO, "got a reserved field of "
                                    "FENCE that is not 0");
            break;
        }
        s->kicked = true;
        s->info.fence_until_ns = curling_clock_ns() + NS_PER_MS *
            curling_get_u32(payload + CURLING_FENCE_TIMEOUT_MS);
        break;
    default:
        ret = curling_error_set(err, -EPROTO, "got %s from a receiver",
                                curling_frame_type_name(header->type));
        break;
    }
    return ret;
}

static int note(CurlingSender *s, const CurlingHeader *header,
                const uint8_t *payload, CurlingError *err)
{
    int ret;

    pthread_mutex_lock(&s->lock);
    ret = note_locked(s, header, payload, err);
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
    return ret;
}

/* The receiver has heard what was said at @stamp_ns, or later. */
static void note_lease(CurlingSender *s, int64_t stamp_ns)
{
    pthread_mutex_lock(&s->lock);
    if (stamp_ns > s->info.leased_ns &&
        stamp_ns <= curling_lease_clock_ns()) {
        s->info.leased_ns = stamp_ns;
    }
    pthread_mutex_unlock(&s->lock);
}

static void hear_beat(void *opaque, const CurlingBeat *beat)
{
    CurlingSender *s = opaque;

    s->watch.peer = *beat;
    if (beat->echo_ns <= INT64_MAX) {
        note_lease(s, (int64_t)beat->echo_ns);
    }
}

static void *listen_to_receiver(void *opaque)
{
    CurlingSender *s = opaque;
    uint8_t payload[CURLING_ANSWER_MAX];
    CurlingHeader header;
    CurlingError err;
    bool lingering;
    int ret;

    do {
        ret = curling_answer_recv(&s->session, &header, payload, &err);
        if (ret == 0) {
            ret = note(s, &header, payload, &err);
        }
    } while (ret == 0);

    curling_watch_end(&s->watch, s->config.lagging, s->config.opaque);
    pthread_mutex_lock(&s->lock);
    s->lost = ret;
    s->lost_error = err;
    /* An end that comes when nothing had come for long is no proof that
     * there was still somebody to end it. */
    s->info.died = ret == -EPIPE && curling_clock_ns() - s->session.read_ns <=
                   s->session.peer_timeout_ms * NS_PER_MS;
    lingering = s->lingering;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
    if (lingering) {
        curling_session_destroy(&s->session);
        destroy(s);
        return NULL;
    }
    /* Whoever is sending must not wait for a peer that nobody hears. */
    curling_session_close(&s->session);
    return NULL;
}

static int tick(void *opaque, int64_t idle_ns, CurlingError *err)
{
    CurlingSender *s = opaque;
    uint32_t timeout_ms = __atomic_load_n(&s->config.peer_timeout_ms,
                                          __ATOMIC_RELAXED);
    bool lingering;
    bool cancelled;
    bool yanked;
    bool over;

    pthread_mutex_lock(&s->lock);
    cancelled = s->cancelled;
    yanked = s->yanked;
    lingering = s->lingering;
    over = s->stop_acked || curling_clock_ns() > s->linger_until_ns;
    pthread_mutex_unlock(&s->lock);
    if (lingering) {
        return over ? -ECANCELED : 0;
    }
    __atomic_store_n(&s->session.peer_timeout_ms, timeout_ms,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&s->session.max_bandwidth,
                     __atomic_load_n(&s->config.max_bandwidth,
                                     __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    if (yanked) {
        return curling_error_set(err, -ESHUTDOWN,
                                 "the connection was given up by yank");
    }
    if (cancelled && !s->connected) {
        return curling_error_set(err, -ECANCELED, "cancelled");
    }
    if (!s->connected) {
        /* A receiver that slept will find HELLO when it wakes. */
        if (curling_clock_ns() > s->handshake_ns) {
            return curling_error_set(err, -ETIMEDOUT, "no answer to HELLO "
                                     "within %d ms", CURLING_HANDSHAKE_MS);
        }
        return 0;
    }
    curling_watch_look(&s->watch, s->config.vitals, "receiver",
                       __atomic_load_n(&s->config.stall_ms, __ATOMIC_RELAXED),
                       s->config.lagging, s->config.opaque);
    if (cancelled && !s->session.write_deadline_ns) {
        /* What is being shipped goes to its end, but not for ever. */
        __atomic_store_n(&s->session.write_deadline_ns,
                         curling_clock_ns() + CURLING_CANCEL_MS * NS_PER_MS,
                         __ATOMIC_RELAXED);
    }
    if (idle_ns > timeout_ms * NS_PER_MS) {
        return curling_error_set(err, -ETIMEDOUT, "the receiver was not heard "
                                 "for %" PRIu32 " ms (peer-timeout-ms)",
                                 timeout_ms);
    }
    return 0;
}

/* ---- Connecting --------------------------------------------------------- */

static int shake_hands(CurlingSender *s, uint64_t *held, bool *another,
                       CurlingError *err)
{
    CurlingHello hello = s->hello;
    CurlingWelcome welcome;
    CurlingSenderInfo info;
    int64_t said_ns;
    int sent;
    int ret;

    curling_sender_query(s, &info);
    hello.heartbeat_ms = s->session.heartbeat_ms;
    hello.peer_timeout_ms = s->session.peer_timeout_ms;
    hello.committed = info.received;
    hello.fence_after_ms = __atomic_load_n(&s->config.fence_after_ms,
                                           __ATOMIC_RELAXED);
    said_ns = curling_lease_clock_ns();
    s->handshake_ns = curling_clock_ns() + CURLING_HANDSHAKE_MS * NS_PER_MS;
    s->session.write_deadline_ns = s->handshake_ns;
    sent = curling_hello_send(&s->session, &hello, err);
    s->session.write_deadline_ns = 0;
    if (sent < 0 && sent != -EPIPE) {
        return sent;
    }
    /* The answer may say why HELLO was not read to its end. */
    ret = curling_welcome_recv(&s->session, &welcome, err);
    if (ret == -EPIPE) {
        return curling_error_set(err, ret, "got no answer to HELLO but the "
                                 "end of the connection; is the receiver a "
                                 "QEMU with -incoming curling:..., and does it "
                                 "want TLS (tls-creds)?");
    }
    if (ret < 0) {
        return ret;
    }
    if (memcmp(welcome.session, hello.session, CURLING_SESSION_ID_BYTES)) {
        return curling_error_set(err, -EPROTO,
                                 "got a WELCOME of another session");
    }
    if (welcome.held != CURLING_ROUND_NONE &&
        info.received != CURLING_ROUND_NONE && welcome.held < info.received) {
        return curling_error_set(err, -EPROTO, "the receiver had round %"
                                 PRIu64 " and says now that it holds round %"
                                 PRIu64, info.received, welcome.held);
    }
    *held = welcome.held;
    *another = s->met && welcome.instance != s->instance;
    s->met = true;
    s->instance = welcome.instance;
    __atomic_store_n(&s->lease_ms, hello.fence_after_ms, __ATOMIC_RELAXED);
    /* Of another process nobody knows yet what it is worth: its beats tell. */
    if (!*another) {
        note_lease(s, said_ns);
    }
    curling_session_agree(&s->session, welcome.peer_timeout_ms);
    /* The receiver goes on with this connection once it hears more of it. */
    curling_session_beat(&s->session, true);
    return 0;
}

int curling_sender_connect(CurlingSender *s, CurlingChannel *channel,
                           void (*release_fn)(CurlingChannel *channel),
                           uint64_t *held, CurlingError *err)
{
    Connection connection = { .channel = channel, .release = release_fn };
    bool another = false;
    int ret;

    curling_sender_disconnect(s);
    curling_session_init(&s->session, channel, s->config.generation,
                         s->config.peer_timeout_ms);
    s->session.max_bandwidth = s->config.max_bandwidth;
    s->session.tick = tick;
    s->session.beat = hear_beat;
    s->session.opaque = s;
    s->session.vitals = s->config.vitals;
    s->watch = (CurlingWatch) { 0 };
    pthread_mutex_lock(&s->lock);
    s->yanked = false;
    s->info.died = false;
    s->info.fence_until_ns = 0;
    s->shipping = CURLING_ROUND_NONE;
    pthread_mutex_unlock(&s->lock);
    ret = shake_hands(s, held, &another, err);
    if (ret == 0) {
        pthread_mutex_lock(&s->lock);
        s->lost = 0;
        s->info.connected = true;
        s->info.another = another;
        if (*held != CURLING_ROUND_NONE) {
            s->info.received = *held;
        }
        pthread_mutex_unlock(&s->lock);
        s->connected = true;
        if (pthread_create(&s->listener, NULL, listen_to_receiver, s)) {
            s->connected = false;
            ret = curling_error_set(err, -ENOMEM, "no thread can be made");
        }
    }
    if (ret < 0) {
        curling_session_destroy(&s->session);
        release(&connection);
        return ret;
    }
    /* The receiver serves this one now: the old one says nothing any more. */
    release(&s->stale);
    s->connection = connection;
    return 0;
}

void curling_sender_disconnect(CurlingSender *s)
{
    bool closed_by_peer;

    if (!s->connected) {
        return;
    }
    curling_session_close(&s->session);
    pthread_join(s->listener, NULL);
    curling_session_destroy(&s->session);
    s->connected = false;

    pthread_mutex_lock(&s->lock);
    s->info.connected = false;
    closed_by_peer = s->lost == -EPIPE || s->stop_acked;
    pthread_mutex_unlock(&s->lock);
    if (!closed_by_peer) {
        release(&s->stale);
        s->stale = s->connection;
        s->connection.channel = NULL;
    }
    release(&s->connection);
}

/* ---- Rounds ------------------------------------------------------------- */

/*
 * Why a send failed is what the listener heard, if it heard anything.  Of a
 * connection that the peer closed it is about to hear the end, and maybe
 * before that the reason.
 */
static int explain(CurlingSender *s, int ret, CurlingError *err)
{
    int64_t deadline_ns = curling_clock_ns() + EXPLAIN_MS * NS_PER_MS;

    pthread_mutex_lock(&s->lock);
    while (ret == -EPIPE && !s->lost && !s->cancelled &&
           curling_clock_ns() < deadline_ns) {
        curling_cond_wait_until(&s->cond, &s->lock, deadline_ns);
    }
    if (s->cancelled) {
        ret = curling_error_set(err, -ECANCELED, "cancelled");
    } else if (s->lost && s->lost != -ECANCELED) {
        ret = s->lost;
        if (err) {
            *err = s->lost_error;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return ret;
}

static int not_connected(CurlingError *err)
{
    return curling_error_set(err, -EPIPE, "there is no connection to the "
                             "receiver");
}

int curling_sender_begin(CurlingSender *s, const CurlingRound *round,
                         CurlingError *err)
{
    uint8_t begin[CURLING_BEGIN_BYTES];
    int ret;

    if (!s->connected) {
        return not_connected(err);
    }
    curling_round_get_begin(round, begin);
    ret = curling_session_send(&s->session, CURLING_TYPE_ROUND_BEGIN,
                               curling_round_number(round), begin,
                               sizeof(begin), err);
    return ret < 0 ? explain(s, ret, err) : 0;
}

static bool is_cancelled(CurlingSender *s)
{
    bool cancelled;

    pthread_mutex_lock(&s->lock);
    cancelled = s->cancelled;
    pthread_mutex_unlock(&s->lock);
    return cancelled;
}

/* Frame by frame: a cancel ends a round between two of them, and STOP can
 * follow. */
static int ship_span(CurlingSender *s, const uint8_t *span, size_t len_bytes,
                     CurlingError *err)
{
    while (len_bytes) {
        size_t frame_bytes = CURLING_HEADER_BYTES +
                             curling_get_u32(span + CURLING_HEADER_LENGTH);
        int ret = curling_session_send_frames(&s->session, span, frame_bytes,
                                              err);

        if (ret < 0) {
            return ret;
        }
        if (is_cancelled(s)) {
            return -ECANCELED;
        }
        span += frame_bytes;
        len_bytes -= frame_bytes;
    }
    return 0;
}

int curling_sender_ship(CurlingSender *s, const CurlingRound *round,
                        CurlingError *err)
{
    const uint8_t *span;
    size_t cursor = 0;
    size_t len_bytes;
    int ret = 0;

    if (!s->connected) {
        return not_connected(err);
    }
    while (ret == 0 &&
           (span = curling_round_span(round, &cursor, &len_bytes))) {
        ret = ship_span(s, span, len_bytes, err);
    }
    return ret < 0 ? explain(s, ret, err) : 0;
}

int curling_sender_end(CurlingSender *s, const CurlingRound *round,
                       CurlingError *err)
{
    uint8_t end[CURLING_END_SIZE];
    int ret;

    if (!s->connected) {
        return not_connected(err);
    }
    curling_round_get_end(round, end);
    pthread_mutex_lock(&s->lock);
    s->shipping = curling_round_number(round);
    pthread_mutex_unlock(&s->lock);
    ret = curling_session_send(&s->session, CURLING_TYPE_ROUND_END,
                               curling_round_number(round), end, sizeof(end),
                               err);
    return ret < 0 ? explain(s, ret, err) : 0;
}

int curling_sender_wait_received(CurlingSender *s, uint64_t number,
                                 CurlingError *err)
{
    int ret = 0;

    pthread_mutex_lock(&s->lock);
    while ((s->info.received == CURLING_ROUND_NONE ||
            s->info.received < number) && !s->lost && !s->cancelled) {
        pthread_cond_wait(&s->cond, &s->lock);
    }
    if (s->info.received == CURLING_ROUND_NONE || s->info.received < number) {
        ret = -EPIPE;
    }
    pthread_mutex_unlock(&s->lock);
    return ret < 0 ? explain(s, ret, err) : 0;
}

static bool is_over_locked(const CurlingSender *s)
{
    return s->cancelled || (s->connected && s->lost);
}

int curling_sender_check(CurlingSender *s, CurlingError *err)
{
    bool over;

    pthread_mutex_lock(&s->lock);
    over = is_over_locked(s);
    pthread_mutex_unlock(&s->lock);
    return over ? explain(s, -EPIPE, err) : 0;
}

int curling_sender_sleep(CurlingSender *s, int64_t deadline_ns,
                         CurlingError *err)
{
    bool over;

    pthread_mutex_lock(&s->lock);
    while (!s->kicked && !is_over_locked(s) &&
           curling_clock_ns() < deadline_ns) {
        curling_cond_wait_until(&s->cond, &s->lock, deadline_ns);
    }
    s->kicked = false;
    over = is_over_locked(s);
    pthread_mutex_unlock(&s->lock);
    return over ? explain(s, -EPIPE, err) : 0;
}

int curling_sender_fenced(CurlingSender *s, CurlingError *err)
{
    int64_t deadline_ns = curling_clock_ns() + HANDED_MS * NS_PER_MS;
    int ret;

    if (!s->connected) {
        return not_connected(err);
    }
    ret = curling_session_send(&s->session, CURLING_TYPE_FENCED,
                               CURLING_ROUND_NONE, NULL, 0, err);
    pthread_mutex_lock(&s->lock);
    while (ret == 0 && !s->lost && !s->cancelled) {
        if (curling_clock_ns() >= deadline_ns) {
            ret = curling_error_set(err, -ETIMEDOUT, "no answer to FENCED "
                                    "within %d ms", HANDED_MS);
            break;
        }
        curling_cond_wait_until(&s->cond, &s->lock, deadline_ns);
    }
    pthread_mutex_unlock(&s->lock);
    return explain(s, ret ? ret : -EPIPE, err);
}

int curling_sender_stop(CurlingSender *s, uint8_t type, uint32_t timeout_ms,
                        CurlingError *err)
{
    int64_t deadline_ns = curling_clock_ns() + timeout_ms * NS_PER_MS;
    int ret;

    if (!s->connected) {
        return not_connected(err);
    }
    ret = curling_session_post(&s->session, type, err);
    if (ret < 0) {
        return ret;
    }
    pthread_mutex_lock(&s->lock);
    while (!s->stop_acked && !s->lost && curling_clock_ns() < deadline_ns) {
        curling_cond_wait_until(&s->cond, &s->lock, deadline_ns);
    }
    if (!s->stop_acked) {
        ret = curling_error_set(err, s->lost ? s->lost : -ETIMEDOUT,
                                "%s was not acknowledged: %s",
                                curling_frame_type_name(type),
                                s->lost ? s->lost_error.text : "no answer");
    }
    pthread_mutex_unlock(&s->lock);
    return ret;
}
