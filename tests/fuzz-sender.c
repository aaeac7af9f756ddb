/*
 * Fuzz: a sender, and the answers of receivers that mean it harm
 *
 * Input: an octet (1: cancelled from the start), then up to PEERS_MAX
 * connections, each an octet (how it ends: ENDING_*) and frames and events as
 * in fuzz.h, ended by octet 255.  On each the sender connects, ships rounds
 * until something fails, stops and disconnects.  After the event
 * EVENT_AFTER a receiver goes on once the sender has said that many frames.
 * Invariants: every call comes back; who is told of an error is told why; a
 * round counts as received only if a receiver said so; what the sender says
 * is well-formed, and every frame goes out whole; every connection is given
 * back, and nothing is left.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel.h"
#include "fuzz.h"
#include "hello.h"
#include "ram.h"
#include "sender.h"

#define PEERS_MAX 4
#define ROUNDS 3
#define SILENCES_MAX 2000       /* of 5 ms: 10 s */
#define DESCRIPTION "machine=fuzz\n"

/* Events */
enum {
    EVENT_PAUSE = FUZZ_EVENT_FIRST,     /* 1 to 16 times 0 to 120 ms */
    EVENT_AFTER,                        /* that many frames of the sender */
    EVENT_CANCEL,
    EVENT_KICK,
    EVENT_TIMEOUT,                      /* peer-timeout-ms: 100 + 8 times it */
    EVENT_WRITES,
    EVENT_YANK,
};

/* Modulo 4; octet / 4 is how much */
enum {
    WRITE_ALL,
    WRITE_PIECES,
    WRITE_LATER,
    WRITE_CLOSED,
};

/* Modulo 4 */
enum {
    ENDING_CLOSE,
    ENDING_RESET,
    ENDING_ERROR,
    ENDING_SILENCE,
};
#define ENDING_POWEROFF 4       /* of the sender's guest */

typedef struct Fuzz Fuzz;

typedef struct Peer {
    CurlingChannel channel;
    Fuzz *fuzz;
    FuzzStream stream;
    uint8_t ending;

    /* who reads */
    unsigned int next;          /* frame or event */
    size_t at;                  /* in the stream */
    unsigned int pauses;
    unsigned int pause_ms;
    unsigned int silences;

    /* protected by the fuzz's lock */
    bool released;
    uint8_t writes;
    uint8_t *said;
    size_t said_bytes;
    unsigned int frames_said;
} Peer;

struct Fuzz {
    CurlingSender *sender;
    CurlingPool *pool;
    CurlingRound *round;
    FuzzRam ram;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* protected by @lock */
    bool claimed[255];          /* a receiver said that it has this round */
};

/* ---- Connections --------------------------------------------------------- */

static void check_frame(const CurlingHeader *header, const uint8_t *payload)
{
    must(curling_frame_check_type(header, NULL) == 0);
    must(curling_frame_check_payload(header, payload, NULL) == 0);
    must(header->type == CURLING_TYPE_HELLO ||
         header->type == CURLING_TYPE_ROUND_BEGIN ||
         header->type == CURLING_TYPE_DATA ||
         header->type == CURLING_TYPE_ROUND_END ||
         header->type == CURLING_TYPE_HEARTBEAT ||
         header->type == CURLING_TYPE_STOP ||
         header->type == CURLING_TYPE_POWEROFF);
}

static void hear_locked(Peer *peer, const uint8_t *bytes, size_t len)
{
    CurlingHeader header;
    size_t at = 0;

    peer->said = realloc(peer->said, peer->said_bytes + len);
    must(peer->said);
    memcpy(peer->said + peer->said_bytes, bytes, len);
    peer->said_bytes += len;
    while (peer->said_bytes - at >= CURLING_HEADER_BYTES) {
        must(curling_frame_decode(peer->said + at, &header, NULL) == 0);
        if (peer->said_bytes - at < CURLING_HEADER_BYTES +
                                    header.length_bytes) {
            break;
        }
        check_frame(&header, peer->said + at + CURLING_HEADER_BYTES);
        at += CURLING_HEADER_BYTES + header.length_bytes;
        peer->frames_said++;
        pthread_cond_broadcast(&peer->fuzz->cond);
    }
    peer->said_bytes -= at;
    memmove(peer->said, peer->said + at, peer->said_bytes);
}

static ssize_t write_locked(Peer *peer, const uint8_t *bytes, size_t len)
{
    size_t much = peer->writes / 4;

    switch (peer->writes % 4) {
    case WRITE_PIECES:
        len = len < 1 + 16 * much ? len : 1 + 16 * much;
        break;
    case WRITE_LATER:
        fuzz_clock_pass(4);
        peer->writes = much ? peer->writes - 4 : WRITE_ALL;
        return -EAGAIN;
    case WRITE_CLOSED:
        return -EPIPE;
    }
    hear_locked(peer, bytes, len);
    return (ssize_t)len;
}

static ssize_t peer_write(void *opaque, const void *buf, size_t len_bytes)
{
    Peer *peer = opaque;
    ssize_t ret;

    pthread_mutex_lock(&peer->fuzz->lock);
    must(!peer->released);
    ret = write_locked(peer, buf, len_bytes);
    pthread_mutex_unlock(&peer->fuzz->lock);
    return ret;
}

/* A millisecond is enough for a sender that will say so much. */
static void wait_for_frames(Peer *peer, unsigned int frames)
{
    Fuzz *f = peer->fuzz;
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&f->lock);
    while (peer->frames_said < frames && !ret) {
        ret = pthread_cond_timedwait(&f->cond, &f->lock, &until);
    }
    pthread_mutex_unlock(&f->lock);
}

static void happen(Peer *peer, uint8_t event, uint8_t argument)
{
    CurlingSender *sender = peer->fuzz->sender;

    switch (event) {
    case EVENT_PAUSE:
        peer->pauses = 1 + argument % 16;
        peer->pause_ms = argument / 16 * 8;
        break;
    case EVENT_AFTER:
        wait_for_frames(peer, argument);
        break;
    case EVENT_CANCEL:
        curling_sender_kick(sender, true);
        break;
    case EVENT_KICK:
        curling_sender_kick(sender, false);
        break;
    case EVENT_TIMEOUT:
        curling_sender_set(sender, 100 + argument * 8, argument, argument, 0);
        break;
    case EVENT_WRITES:
        pthread_mutex_lock(&peer->fuzz->lock);
        /* What is closed stays closed. */
        if (peer->writes % 4 != WRITE_CLOSED) {
            peer->writes = argument;
        }
        pthread_mutex_unlock(&peer->fuzz->lock);
        break;
    case EVENT_YANK:
        curling_sender_yank(sender);
        break;
    }
}

static ssize_t peer_end(Peer *peer)
{
    switch (peer->ending % 4) {
    case ENDING_RESET:
        return -ECONNRESET;
    case ENDING_ERROR:
        return -EIO;
    case ENDING_SILENCE:
        /* The sender notices: there is no other end to this. */
        must(peer->silences++ < SILENCES_MAX);
        fuzz_clock_pass(5);
        return -EAGAIN;
    default:
        return 0;
    }
}

static unsigned int claim_of(uint64_t round)
{
    return round < 254 ? (unsigned int)round : 254;
}

/* The sender may believe this from here on. */
static void note_claim(Peer *peer, const FuzzFrame *frame)
{
    uint64_t round = frame->header.round;

    if (frame->broken) {
        return;
    }
    if (frame->header.type == CURLING_TYPE_WELCOME &&
        frame->header.length_bytes == CURLING_WELCOME_BYTES) {
        round = curling_get_u64(peer->stream.bytes + frame->payload +
                                CURLING_WELCOME_HELD);
    } else if (frame->header.type != CURLING_TYPE_RECEIVED) {
        return;
    }
    if (round == CURLING_ROUND_NONE) {
        return;
    }
    pthread_mutex_lock(&peer->fuzz->lock);
    peer->fuzz->claimed[claim_of(round)] = true;
    pthread_mutex_unlock(&peer->fuzz->lock);
}

static ssize_t peer_read(void *opaque, void *buf, size_t len_bytes)
{
    Peer *peer = opaque;

    while (peer->next < peer->stream.n_frames) {
        const FuzzFrame *frame = &peer->stream.frames[peer->next];
        size_t len = frame->end - peer->at;

        if (peer->pauses) {
            peer->pauses--;
            fuzz_clock_pass(peer->pause_ms);
            return -EAGAIN;
        }
        if (frame->header.type >= FUZZ_EVENT_FIRST) {
            peer->next++;
            happen(peer, frame->header.type, frame->argument);
            continue;
        }
        len = len < len_bytes ? len : len_bytes;
        memcpy(buf, peer->stream.bytes + peer->at, len);
        peer->at += len;
        if (peer->at == frame->end) {
            note_claim(peer, frame);
            peer->next++;
        }
        if (len) {
            return (ssize_t)len;
        }
    }
    return peer_end(peer);
}

static void peer_shutdown(void *opaque)
{
    (void)opaque;
}

static void peer_release(CurlingChannel *channel)
{
    Peer *peer = channel->opaque;

    pthread_mutex_lock(&peer->fuzz->lock);
    must(!peer->released);
    peer->released = true;
    pthread_mutex_unlock(&peer->fuzz->lock);
}

static Peer *peer_new(Fuzz *f, FuzzInput *in)
{
    Peer *peer = calloc(1, sizeof(*peer));

    must(peer);
    peer->channel = (CurlingChannel) {
        .read = peer_read,
        .write = peer_write,
        .shutdown = peer_shutdown,
        .opaque = peer,
    };
    peer->fuzz = f;
    peer->ending = fuzz_u8(in);
    fuzz_stream_read(&peer->stream, in, DESCRIPTION);
    return peer;
}

static void peer_free(Peer *peer)
{
    must(peer->released);
    fuzz_stream_free(&peer->stream);
    free(peer->said);
    free(peer);
}

/* ---- The sender ---------------------------------------------------------- */

/* An error has its sentence, and is one that sender.h names. */
static int told(int ret, const CurlingError *err)
{
    static const int codes[] = {
        EPIPE, ETIMEDOUT, EREMOTEIO, ESTALE, EPROTO, ECANCELED, ECONNREFUSED,
        EBUSY, EIO, ESHUTDOWN, EBADMSG,
    };
    bool known = ret == 0;

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        known |= ret == -codes[i];
    }
    must(known);
    must(ret == 0 || (err->text[0] && strlen(err->text) < sizeof(err->text)));
    return ret;
}

static void stage(Fuzz *f, uint64_t number)
{
    curling_round_begin(f->round, number, 0,
                        number ? CURLING_KIND_DELTA : CURLING_KIND_SYNC,
                        number ? number - 1 : CURLING_ROUND_NONE);
    must(curling_ram_put_pages(f->round, &f->ram.layout, 0, 0, 2, true,
                               NULL) == 0);
    must(curling_ram_put_device(f->round, "device", 6, NULL) == 0);
    curling_round_seal(f->round);
}

static void check_received(Fuzz *f, uint64_t number)
{
    bool claimed = false;

    pthread_mutex_lock(&f->lock);
    for (unsigned int i = claim_of(number); i < 255; i++) {
        claimed |= f->claimed[i];
    }
    pthread_mutex_unlock(&f->lock);
    must(claimed);
}

static int ship(Fuzz *f, uint64_t number)
{
    CurlingError err = { "" };
    int ret;

    stage(f, number);
    ret = told(curling_sender_begin(f->sender, f->round, &err), &err);
    if (ret == 0) {
        ret = told(curling_sender_ship(f->sender, f->round, &err), &err);
    }
    if (ret == 0) {
        ret = told(curling_sender_end(f->sender, f->round, &err), &err);
    }
    if (ret == 0) {
        ret = told(curling_sender_wait_received(f->sender, number, &err),
                   &err);
    }
    if (ret == 0) {
        check_received(f, number);
        ret = told(curling_sender_sleep(f->sender, curling_clock_ns() +
                                        10000000, &err), &err);
    }
    return ret;
}

static void serve(Fuzz *f, Peer *peer)
{
    uint8_t type = peer->ending & ENDING_POWEROFF ? CURLING_TYPE_POWEROFF :
                                                    CURLING_TYPE_STOP;
    CurlingError err = { "" };
    uint64_t held = 0;
    int ret;

    ret = told(curling_sender_connect(f->sender, &peer->channel, peer_release,
                                      &held, &err), &err);
    if (ret < 0) {
        must(peer->released);
    }
    for (unsigned int i = 0; ret == 0 && i < ROUNDS; i++) {
        /* From the round on that the receiver says it has. */
        ret = ship(f, held + 1 + i);
    }
    told(curling_sender_stop(f->sender, type, 100, &err), &err);
    curling_sender_disconnect(f->sender);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    CurlingSenderConfig config = {
        .session = { 1 },
        .description = DESCRIPTION,
        .peer_timeout_ms = 200,
    };
    FuzzInput in = { data, len_bytes };
    Peer *peers[PEERS_MAX];
    unsigned int n_peers = 0;
    Fuzz f = { .sender = curling_sender_new(&config) };

    fuzz_clock_reset();
    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.cond, NULL);
    f.pool = curling_pool_new(0);
    f.round = curling_round_new(f.pool);
    fuzz_ram_init(&f.ram);
    if (fuzz_u8(&in) & 1) {
        curling_sender_kick(f.sender, true);
    }
    while (in.left && n_peers < PEERS_MAX) {
        peers[n_peers] = peer_new(&f, &in);
        serve(&f, peers[n_peers]);
        n_peers++;
    }
    curling_sender_free(f.sender);
    for (unsigned int i = 0; i < n_peers; i++) {
        peer_free(peers[i]);
    }
    curling_round_free(f.round);
    curling_pool_free(f.pool);
    fuzz_ram_destroy(&f.ram);
    pthread_cond_destroy(&f.cond);
    pthread_mutex_destroy(&f.lock);
    return 0;
}
