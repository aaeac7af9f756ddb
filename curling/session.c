/*
 * One connection between a sender and a receiver
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

/* A paced write goes out in pieces of a fiftieth of a second, so that it
 * stays even and its peer hears something all the time. */
#define PACE_PIECES 50
#define PACE_BYTES_MIN 512

static uint32_t heartbeat_for(uint32_t peer_timeout_ms)
{
    uint32_t beat_ms = peer_timeout_ms / 4;

    return beat_ms ? beat_ms : 1;
}

void curling_session_init(CurlingSession *session, CurlingChannel *channel,
                          uint32_t generation, uint32_t peer_timeout_ms)
{
    memset(session, 0, sizeof(*session));
    session->channel = channel;
    session->generation = generation;
    session->peer_timeout_ms = peer_timeout_ms;
    session->heartbeat_ms = heartbeat_for(peer_timeout_ms);
    session->heard_ns = curling_clock_ns();
    session->beat_ns = session->heard_ns;
    session->read_ns = session->heard_ns;
    session->ticked_ns = session->heard_ns;
    pthread_mutex_init(&session->write_lock, NULL);
}

void curling_session_destroy(CurlingSession *session)
{
    free(session->rest);
    pthread_mutex_destroy(&session->write_lock);
}

void curling_session_agree(CurlingSession *session, uint32_t peer_timeout_ms)
{
    uint32_t own_ms = __atomic_load_n(&session->peer_timeout_ms,
                                      __ATOMIC_RELAXED);
    uint32_t shorter_ms = own_ms < peer_timeout_ms ? own_ms : peer_timeout_ms;

    __atomic_store_n(&session->heartbeat_ms, heartbeat_for(shorter_ms),
                     __ATOMIC_RELAXED);
}

void curling_session_close(CurlingSession *session)
{
    __atomic_store_n(&session->closed, true, __ATOMIC_RELEASE);
}

static bool is_closed(const CurlingSession *session)
{
    return __atomic_load_n(&session->closed, __ATOMIC_ACQUIRE);
}

static int closed_error(CurlingError *err)
{
    return curling_error_set(err, -ECANCELED, "the connection was closed");
}

static int channel_error(const CurlingSession *session, int code,
                         const char *verb, CurlingError *err)
{
    const char *reason = session->channel->reason;

    if (reason) {
        return curling_error_set(err, code, "%s", reason);
    }
    return curling_error_set(err, code, "%s failed: %s", verb,
                             strerror(-code));
}

/* How fast to send; whoever has a deadline has no time for it. */
static uint64_t pace(const CurlingSession *session)
{
    if (__atomic_load_n(&session->write_deadline_ns, __ATOMIC_RELAXED)) {
        return 0;
    }
    return __atomic_load_n(&session->max_bandwidth, __ATOMIC_RELAXED);
}

/* Called with write_lock held. */
static void pace_locked(CurlingSession *session, size_t len_bytes)
{
    int64_t now_ns = curling_clock_ns();
    uint64_t rate = pace(session);

    if (!rate) {
        session->paced_until_ns = 0;
        return;
    }
    if (session->paced_until_ns < now_ns) {
        session->paced_until_ns = now_ns;
    }
    session->paced_until_ns += (int64_t)((double)len_bytes * NS_PER_S / rate);
    while (session->paced_until_ns > now_ns && pace(session) &&
           !is_closed(session)) {
        /* Short naps: a close must not wait for a slow pace. */
        int64_t nap_ns = session->paced_until_ns - now_ns;
        struct timespec nap = { 0 };

        if (nap_ns > CURLING_CHANNEL_TICK_MS * NS_PER_MS) {
            nap_ns = CURLING_CHANNEL_TICK_MS * NS_PER_MS;
        }
        nap.tv_nsec = nap_ns;
        nanosleep(&nap, NULL);
        now_ns = curling_clock_ns();
    }
}

/* Has the peer taken nothing for longer than may be? */
static int check_stall(CurlingSession *session, int64_t progress_ns,
                       CurlingError *err)
{
    int64_t now_ns = curling_clock_ns();
    int64_t deadline_ns = __atomic_load_n(&session->write_deadline_ns,
                                          __ATOMIC_RELAXED);
    int64_t stall_ns = NS_PER_MS * __atomic_load_n(&session->stall_ms,
                                                   __ATOMIC_RELAXED);

    if ((deadline_ns && now_ns > deadline_ns) ||
        (stall_ns && now_ns - progress_ns > stall_ns)) {
        return curling_error_set(err, -ETIMEDOUT, "the peer reads nothing");
    }
    return 0;
}

/*
 * Write what can be written; *@done counts it.  Called with write_lock held.
 */
static int write_all_locked(CurlingSession *session, const uint8_t *data,
                            size_t len_bytes, size_t *done, CurlingError *err)
{
    int64_t progress_ns = curling_clock_ns();
    int ret;

    while (*done < len_bytes) {
        uint64_t rate = pace(session);
        uint64_t piece = rate / PACE_PIECES > PACE_BYTES_MIN ?
                         rate / PACE_PIECES : PACE_BYTES_MIN;
        size_t left = len_bytes - *done;
        ssize_t n;

        if (is_closed(session)) {
            return closed_error(err);
        }
        n = session->channel->write(session->channel->opaque, data + *done,
                                    rate && left > piece ? piece : left);
        if (n == -EAGAIN || n == -EINTR) {
            ret = check_stall(session, progress_ns, err);
            if (ret < 0) {
                return ret;
            }
            continue;
        }
        if (n == -ECONNRESET || n == -EPIPE) {
            return curling_error_set(err, -EPIPE,
                                     "the peer closed the connection");
        }
        if (n < 0) {
            return channel_error(session, (int)n, "writing", err);
        }
        *done += (size_t)n;
        progress_ns = curling_clock_ns();
        if (rate) {
            pace_locked(session, (size_t)n);
        }
    }
    return 0;
}

/* Called with write_lock held. */
static void drop_rest_locked(CurlingSession *session, size_t done)
{
    session->rest_bytes -= done;
    if (session->rest_bytes) {
        memmove(session->rest, session->rest + done, session->rest_bytes);
    }
}

/* Called with write_lock held. */
static int add_rest_locked(CurlingSession *session, const uint8_t *data,
                           size_t len_bytes)
{
    uint8_t *grown = realloc(session->rest, session->rest_bytes + len_bytes);

    if (!grown) {
        return -ENOMEM;
    }
    memcpy(grown + session->rest_bytes, data, len_bytes);
    session->rest = grown;
    session->rest_bytes += len_bytes;
    return 0;
}

/*
 * A frame that was begun is finished before another one begins: who gave up
 * waiting leaves the rest of it behind.  Called with write_lock held.
 */
static int write_locked(CurlingSession *session, const uint8_t *data,
                        size_t len_bytes, CurlingError *err)
{
    size_t done = 0;
    int ret = write_all_locked(session, session->rest, session->rest_bytes,
                               &done, err);

    drop_rest_locked(session, done);
    if (ret < 0) {
        return ret;
    }
    done = 0;
    ret = write_all_locked(session, data, len_bytes, &done, err);
    if (ret < 0 && done > 0 &&
        add_rest_locked(session, data + done, len_bytes - done) < 0) {
        /* Half a frame must not be followed by another one. */
        session->channel->shutdown(session->channel->opaque);
    }
    return ret;
}

static bool is_beat_due(CurlingSession *session, int64_t now_ns)
{
    int64_t last_ns = __atomic_load_n(&session->beat_ns, __ATOMIC_RELAXED);
    int64_t beat_ns = NS_PER_MS * __atomic_load_n(&session->heartbeat_ms,
                                                  __ATOMIC_RELAXED);

    /* Half a tick early rather than a tick late. */
    return now_ns - last_ns + CURLING_CHANNEL_TICK_MS * NS_PER_MS / 2 >=
           beat_ns;
}

static int add_beat_locked(CurlingSession *session, int64_t now_ns)
{
    uint8_t wire[CURLING_HEADER_BYTES + CURLING_HEARTBEAT_BYTES];
    uint8_t payload[CURLING_HEARTBEAT_BYTES];
    CurlingBeat beat = curling_beat_look(session->vitals, now_ns);
    CurlingHeader header = {
        .type = CURLING_TYPE_HEARTBEAT,
        .flags = CURLING_FLAG_OPTIONAL,
        .generation = session->generation,
        .round = CURLING_ROUND_NONE,
    };

    beat.interval_ms = __atomic_load_n(&session->heartbeat_ms,
                                       __ATOMIC_RELAXED);
    beat.stamp_ns = (uint64_t)curling_lease_clock_ns();
    beat.echo_ns = __atomic_load_n(&session->stamp_ns, __ATOMIC_RELAXED);
    curling_beat_put(&beat, payload);
    return add_rest_locked(session, wire,
                           curling_frame_build(&header, payload,
                                               sizeof(payload), wire));
}

/* What does not fit into the socket now stays; an error is seen by whoever
 * reads or sends next.  True: something went out. */
static bool flush_locked(CurlingSession *session)
{
    ssize_t done;

    if (!session->rest_bytes) {
        return false;
    }
    done = session->channel->write(session->channel->opaque, session->rest,
                                   session->rest_bytes);
    if (done <= 0) {
        return false;
    }
    drop_rest_locked(session, (size_t)done);
    return true;
}

/*
 * A peer that reads nothing must not stop the thread that beats: a beat that
 * does not fit is dropped, and the end of one that fits in part goes out
 * before whatever is sent next.
 */
static void beat_locked(CurlingSession *session, bool now)
{
    int64_t now_ns = curling_clock_ns();

    if (session->rest_bytes) {
        flush_locked(session);
    } else if ((now || is_beat_due(session, now_ns)) &&
               add_beat_locked(session, now_ns) == 0) {
        if (flush_locked(session)) {
            __atomic_store_n(&session->beat_ns, now_ns, __ATOMIC_RELAXED);
        } else {
            session->rest_bytes = 0;
        }
    }
}

/* Who holds the lock beats after what it sends. */
void curling_session_beat(CurlingSession *session, bool now)
{
    if (pthread_mutex_trylock(&session->write_lock)) {
        return;
    }
    beat_locked(session, now);
    pthread_mutex_unlock(&session->write_lock);
}

int curling_session_send_frames(CurlingSession *session, const uint8_t *frames,
                                size_t len_bytes, CurlingError *err)
{
    int ret;

    pthread_mutex_lock(&session->write_lock);
    ret = write_locked(session, frames, len_bytes, err);
    if (ret == 0) {
        beat_locked(session, false);
    }
    pthread_mutex_unlock(&session->write_lock);
    return ret;
}

int curling_session_send(CurlingSession *session, uint8_t type,
                         uint64_t round, const void *payload,
                         size_t len_bytes, CurlingError *err)
{
    uint8_t small[CURLING_HEADER_BYTES + 64];
    uint8_t *wire = small;
    CurlingHeader header = {
        .type = type,
        .flags = type == CURLING_TYPE_HEARTBEAT ? CURLING_FLAG_OPTIONAL : 0,
        .generation = session->generation,
        .round = round,
    };
    int ret;

    if (len_bytes > sizeof(small) - CURLING_HEADER_BYTES) {
        wire = malloc(CURLING_HEADER_BYTES + len_bytes);
        if (!wire) {
            return curling_error_set(err, -ENOMEM, "no memory for a frame");
        }
    }
    ret = curling_session_send_frames(session, wire,
                                      curling_frame_build(&header, payload,
                                                          len_bytes, wire),
                                      err);
    if (wire != small) {
        free(wire);
    }
    return ret;
}

int curling_session_post(CurlingSession *session, uint8_t type,
                         CurlingError *err)
{
    uint8_t wire[CURLING_HEADER_BYTES];
    CurlingHeader header = {
        .type = type,
        .generation = session->generation,
        .round = CURLING_ROUND_NONE,
    };
    int ret;

    pthread_mutex_lock(&session->write_lock);
    ret = add_rest_locked(session, wire, curling_frame_build(&header, NULL, 0,
                                                             wire));
    flush_locked(session);
    pthread_mutex_unlock(&session->write_lock);
    return ret < 0 ? curling_error_set(err, ret, "no memory for a frame") : 0;
}

static int housekeep(CurlingSession *session, CurlingError *err)
{
    int64_t now_ns = curling_clock_ns();
    int64_t timeout_ns = NS_PER_MS * __atomic_load_n(&session->peer_timeout_ms,
                                                     __ATOMIC_RELAXED);
    int64_t gap_ns = now_ns - session->ticked_ns;

    session->ticked_ns = now_ns;
    if (is_closed(session)) {
        return closed_error(err);
    }
    /*
     * Who slept must not blame its peer: what the peer said meanwhile is
     * still in the socket.
     */
    if (gap_ns > timeout_ns / 2) {
        __atomic_store_n(&session->heard_ns, now_ns, __ATOMIC_RELAXED);
    }
    curling_session_beat(session, false);
    if (!session->tick) {
        return 0;
    }
    return session->tick(session->opaque,
                         now_ns - __atomic_load_n(&session->heard_ns,
                                                  __ATOMIC_RELAXED), err);
}

static int read_full(CurlingSession *session, void *to, size_t len_bytes,
                     CurlingError *err)
{
    uint8_t *at = to;

    while (len_bytes) {
        ssize_t done;
        int64_t now_ns;
        int ret = 0;

        if (is_closed(session)) {
            return closed_error(err);
        }
        done = session->channel->read(session->channel->opaque, at, len_bytes);
        if (done == -EINTR) {
            continue;
        }
        if (done > 0) {
            at += done;
            len_bytes -= (size_t)done;
            session->read_bytes += (size_t)done;
            now_ns = curling_clock_ns();
            session->read_ns = now_ns;
            __atomic_store_n(&session->heard_ns, now_ns, __ATOMIC_RELAXED);
            /* A stream that never pauses must not keep us from beating. */
            if (now_ns - session->ticked_ns >
                CURLING_CHANNEL_TICK_MS * NS_PER_MS) {
                ret = housekeep(session, err);
            }
        } else if (done == -EAGAIN) {
            ret = housekeep(session, err);
        } else if (done == 0 || done == -ECONNRESET || done == -EPIPE) {
            return curling_error_set(err, -EPIPE, done == 0 ?
                                     "the peer closed the connection" :
                                     "the connection was reset");
        } else {
            return channel_error(session, (int)done, "reading", err);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int curling_session_recv_payload(CurlingSession *session,
                                 const CurlingHeader *header, void *payload,
                                 CurlingError *err)
{
    int ret = read_full(session, payload, header->length_bytes, err);

    if (ret < 0) {
        return ret;
    }
    return curling_frame_check_payload(header, payload, err);
}

/* Read and drop the payload of a frame that nobody needs. */
static int skip_payload(CurlingSession *session, const CurlingHeader *header,
                        CurlingError *err)
{
    uint8_t waste[4096];
    size_t left = header->length_bytes;

    while (left) {
        size_t len = left < sizeof(waste) ? left : sizeof(waste);
        int ret = read_full(session, waste, len, err);

        if (ret < 0) {
            return ret;
        }
        left -= len;
    }
    return 0;
}

static int hear_beat(CurlingSession *session, const CurlingHeader *header,
                     CurlingError *err)
{
    uint8_t payload[CURLING_HEARTBEAT_BYTES];
    CurlingBeat beat;
    int ret = curling_session_recv_payload(session, header, payload, err);

    if (ret < 0) {
        return ret;
    }
    beat = curling_beat_get(payload);
    __atomic_store_n(&session->stamp_ns, beat.stamp_ns, __ATOMIC_RELAXED);
    if (session->beat) {
        session->beat(session->opaque, &beat);
    }
    return 0;
}

int curling_session_recv(CurlingSession *session, CurlingHeader *header,
                         CurlingError *err)
{
    uint8_t wire[CURLING_HEADER_BYTES];
    int ret;

    for (;;) {
        /* Nobody is waited for who will never say a whole header. */
        ret = read_full(session, wire, CURLING_MAGIC_BYTES, err);
        if (ret == 0) {
            ret = curling_frame_check_magic(wire, err);
        }
        if (ret == 0) {
            ret = read_full(session, wire + CURLING_MAGIC_BYTES,
                            sizeof(wire) - CURLING_MAGIC_BYTES, err);
        }
        if (ret < 0) {
            return ret;
        }
        ret = curling_frame_decode(wire, header, err);
        if (ret < 0) {
            return ret;
        }
        ret = curling_frame_check_type(header, err);
        if (ret < 0) {
            return ret;
        }
        if (ret == 0 && header->type != CURLING_TYPE_HEARTBEAT) {
            return 0;
        }
        ret = ret == 0 ? hear_beat(session, header, err) :
                         skip_payload(session, header, err);
        if (ret < 0) {
            return ret;
        }
    }
}
