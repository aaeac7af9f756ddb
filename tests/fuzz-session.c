/*
 * Fuzz: a receiver and the senders that connect to it
 *
 * Input: policies, the pool's limit, peer timeout, which load fails; then up
 * to PEERS_MAX connections, each an octet (how it ends: ENDING_*) and frames
 * and events as in fuzz.h, ended by octet 255.  The receiver is a real one
 * with its threads, on connections in memory.
 * Invariants: what is applied, acknowledged and taken over from is a round
 * that came whole over one connection, with exactly its memory and device
 * state; what the receiver says is well-formed; memory never exceeds the
 * limit; every connection is given back; the receiver comes to rest without
 * help, and nothing is left of it.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crc32c.h"
#include "describe.h"
#include "fuzz.h"
#include "receiver.h"
#include "toy-codec.h"

#define PEERS_MAX 10
#define WHOLES_MAX (PEERS_MAX * FUZZ_FRAMES_MAX / 2)
#define DESCRIPTION "machine=fuzz\nram/a=20480\nram/b=8192\n"
#define REST_S 20
#define SILENCES_MAX 2000       /* of 5 ms: 10 s */

/* Events: what happens before the next frame is read */
enum {
    EVENT_PAUSE = FUZZ_EVENT_FIRST,     /* 1 to 16 times 0 to 120 ms */
    EVENT_FAILOVER,                     /* 1: forced */
    EVENT_LIMIT,
    EVENT_POLICIES,
    EVENT_WRITES,                       /* how they go from now on: WRITE_* */
    EVENT_CHOP,                         /* the next read gives so much */
    EVENT_CONNECT,                      /* the next peer, beside this one */
    EVENT_QUIT,
    EVENT_RESET,
    EVENT_YANK,
};

/* Modulo 8; octet / 8 is how often or how much */
enum {
    WRITE_ALL,
    WRITE_LATER,
    WRITE_PIECES,
    WRITE_NOTHING,
    WRITE_CLOSED,
    WRITE_RESET,
    WRITE_ERROR,
};

/* Modulo 8 */
enum {
    ENDING_CLOSE,
    ENDING_RESET,
    ENDING_ERROR,
    ENDING_SILENCE,
};
#define ENDING_NEXT_AT_ONCE 8   /* the next peer comes in time */

typedef struct Fuzz Fuzz;

typedef struct Peer {
    CurlingChannel channel;
    Fuzz *fuzz;
    FuzzStream stream;
    uint8_t ending;
    bool shut;                  /* atomic */

    /* who reads */
    unsigned int next;          /* frame or event */
    size_t at;                  /* in the stream */
    unsigned int pauses;
    unsigned int pause_ms;
    size_t chop;
    unsigned int silences;

    /* the round that is coming in, as it should be understood */
    bool open;
    unsigned int begin;         /* its frames: from here on */
    uint64_t frames;
    uint64_t bytes;
    uint32_t digest;

    /* protected by the fuzz's lock */
    bool offered;
    unsigned int released;
    uint8_t writes;
    uint8_t said[CURLING_HEADER_BYTES + CURLING_ANSWER_MAX];
    size_t said_bytes;
} Peer;

/* A round that came whole. */
typedef struct Whole {
    const Peer *peer;
    unsigned int begin;
    unsigned int end;
    uint64_t number;
} Whole;

struct Fuzz {
    FuzzRam ram;
    CurlingReceiverSettings settings;
    CurlingReceiver *receiver;
    Peer *peers[PEERS_MAX];
    unsigned int n_peers;
    uint8_t load_fails_at;      /* 0: never */
    int takeover_fails;         /* errno, or 0 */

    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* protected by @lock */
    CurlingState state;
    bool quit;
    uint64_t limit;             /* the highest so far; 0: none */
    Whole wholes[WHOLES_MAX];
    unsigned int n_wholes;
    unsigned int loads;
    bool load_failed;
    bool applied;               /* there is something to take over from: */
    uint64_t number;
    uint8_t image[FUZZ_RAM_BYTES];
    uint8_t device[FUZZ_DEVICE_MAX];
    size_t device_bytes;
    bool taken;
};

/* ---- What must be true --------------------------------------------------- */

static const Whole *find_whole_locked(const Fuzz *f, uint64_t number)
{
    for (unsigned int i = f->n_wholes; i > 0; i--) {
        if (f->wholes[i - 1].number == number) {
            return &f->wholes[i - 1];
        }
    }
    return NULL;
}

/* The last octet of @frame is on its way to the receiver. */
static void witness(Peer *peer, const FuzzFrame *frame, unsigned int index)
{
    const CurlingHeader *header = &frame->header;
    const uint8_t *payload = peer->stream.bytes + frame->payload;
    Fuzz *f = peer->fuzz;

    switch (frame->broken ? 0 : header->type) {
    case CURLING_TYPE_ROUND_BEGIN:
        peer->open = true;
        peer->begin = index;
        peer->frames = 0;
        peer->bytes = 0;
        peer->digest = 0;
        break;
    case CURLING_TYPE_DATA:
        peer->open &= header->sequence == peer->frames &&
            header->round == peer->stream.frames[peer->begin].header.round;
        peer->frames++;
        peer->bytes += header->length_bytes;
        peer->digest = curling_crc32c_portable(peer->digest,
                                               peer->stream.bytes +
                                               frame->start,
                                               CURLING_HEADER_BYTES);
        break;
    case CURLING_TYPE_ROUND_END:
        if (peer->open && header->length_bytes == CURLING_END_SIZE &&
            header->round == peer->stream.frames[peer->begin].header.round &&
            curling_get_u64(payload + CURLING_END_FRAMES) == peer->frames &&
            curling_get_u64(payload + CURLING_END_BYTES) == peer->bytes &&
            curling_get_u32(payload + CURLING_END_DIGEST) == peer->digest) {
            pthread_mutex_lock(&f->lock);
            f->wholes[f->n_wholes++] = (Whole) {
                .peer = peer,
                .begin = peer->begin,
                .end = index,
                .number = header->round,
            };
            pthread_mutex_unlock(&f->lock);
        }
        peer->open = false;
        break;
    case CURLING_TYPE_HEARTBEAT:
        break;
    default:
        peer->open &= !frame->broken && header->flags;
        break;
    }
}

static void check_memory(Fuzz *f)
{
    CurlingReceiverInfo info;

    curling_receiver_query(f->receiver, &info);
    must(info.memory_now <= info.memory_peak);
    pthread_mutex_lock(&f->lock);
    must(!f->limit || info.memory_peak <= f->limit);
    pthread_mutex_unlock(&f->lock);
}

/* Streamed: the round was in RAM before it was whole, over whatever was left
 * there by others that never became whole. */
static void check_round_locked(Fuzz *f, const Whole *whole, bool streamed)
{
    static uint8_t ram[FUZZ_RAM_BYTES];
    const uint8_t *begin = whole->peer->stream.bytes +
                           whole->peer->stream.frames[whole->begin].payload;
    uint32_t kind = curling_get_u32(begin + CURLING_BEGIN_KIND);

    must(kind <= CURLING_KIND_FULL);
    must(!f->applied || whole->number > f->number);
    must(kind != CURLING_KIND_DELTA ||
         (f->applied &&
          curling_get_u64(begin + CURLING_BEGIN_BASE) == f->number));
    must(!streamed || (kind == CURLING_KIND_SYNC && !f->applied));
    fuzz_ram_copy(&f->ram, ram);
    if (streamed) {
        memcpy(f->image, ram, sizeof(ram));
    }
    f->device_bytes = 0;
    for (unsigned int i = whole->begin; i < whole->end; i++) {
        const FuzzFrame *frame = &whole->peer->stream.frames[i];

        if (frame->header.type == CURLING_TYPE_DATA) {
            fuzz_ram_model(whole->peer->stream.bytes + frame->payload,
                           frame->header.length_bytes, f->image, f->device,
                           &f->device_bytes);
        }
    }
    /* What the next round's deltas are against */
    memset(f->device + f->device_bytes, 0,
           sizeof(f->device) - f->device_bytes);
    must(!memcmp(f->image, ram, sizeof(ram)));
}

static void check_answer_locked(Fuzz *f, const CurlingHeader *header,
                                const uint8_t *payload)
{
    must(curling_frame_check_type(header, NULL) == 0);
    must(curling_frame_check_payload(header, payload, NULL) == 0);
    switch (header->type) {
    case CURLING_TYPE_RECEIVED:
        /* The first round is not held before it has been loaded on trial. */
        must(find_whole_locked(f, header->round) && f->applied);
        break;
    case CURLING_TYPE_APPLIED:
        must(f->applied && header->round == f->number);
        break;
    case CURLING_TYPE_SUPERSEDED:
        must(f->taken);
        break;
    default:
        must(header->type == CURLING_TYPE_WELCOME ||
             header->type == CURLING_TYPE_REJECT ||
             header->type == CURLING_TYPE_FAILED ||
             header->type == CURLING_TYPE_HEARTBEAT ||
             header->type == CURLING_TYPE_STOP_ACK ||
             header->type == CURLING_TYPE_FENCE);
    }
}

static void hear_locked(Peer *peer, const uint8_t *bytes, size_t len)
{
    while (len) {
        size_t want = CURLING_HEADER_BYTES;
        CurlingHeader header;
        size_t take;

        if (peer->said_bytes >= CURLING_HEADER_BYTES) {
            must(curling_frame_decode(peer->said, &header, NULL) == 0);
            want += header.length_bytes;
            must(want <= sizeof(peer->said));
        }
        take = want - peer->said_bytes;
        take = take < len ? take : len;
        memcpy(peer->said + peer->said_bytes, bytes, take);
        peer->said_bytes += take;
        bytes += take;
        len -= take;
        if (peer->said_bytes < CURLING_HEADER_BYTES) {
            return;
        }
        must(curling_frame_decode(peer->said, &header, NULL) == 0);
        if (peer->said_bytes == CURLING_HEADER_BYTES + header.length_bytes) {
            check_answer_locked(peer->fuzz, &header,
                                peer->said + CURLING_HEADER_BYTES);
            peer->said_bytes = 0;
        }
    }
}

/* ---- Connections --------------------------------------------------------- */

static void peer_release(CurlingChannel *channel);

static void connect_next(Fuzz *f)
{
    Peer *peer = NULL;

    pthread_mutex_lock(&f->lock);
    for (unsigned int i = 0; i < f->n_peers && !peer; i++) {
        peer = f->peers[i]->offered ? NULL : f->peers[i];
    }
    if (peer) {
        peer->offered = true;
    }
    pthread_mutex_unlock(&f->lock);
    if (peer) {
        curling_receiver_offer(f->receiver, &peer->channel, peer_release,
                               "fuzz");
    }
}

static void peer_release(CurlingChannel *channel)
{
    Peer *peer = channel->opaque;
    Fuzz *f = peer->fuzz;

    if (peer->ending & ENDING_NEXT_AT_ONCE) {
        connect_next(f);
    }
    pthread_mutex_lock(&f->lock);
    peer->released++;
    must(peer->released == 1);
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static void set_policies(Fuzz *f, uint8_t policies)
{
    __atomic_store_n(&f->settings.on_disconnect, policies & 1,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&f->settings.on_silence, policies >> 1 & 1,
                     __ATOMIC_RELAXED);
}

static void set_limit(Fuzz *f, uint8_t chunks)
{
    uint64_t limit = chunks % 4 * CURLING_CHUNK_BYTES;

    pthread_mutex_lock(&f->lock);
    if (!limit || (f->limit && f->limit < limit)) {
        f->limit = limit;
    }
    pthread_mutex_unlock(&f->lock);
    curling_receiver_set_limit(f->receiver, limit);
}

static void happen(Peer *peer, uint8_t event, uint8_t argument)
{
    Fuzz *f = peer->fuzz;
    CurlingError err = { "" };

    switch (event) {
    case EVENT_PAUSE:
        peer->pauses = 1 + argument % 16;
        peer->pause_ms = argument / 16 * 8;
        break;
    case EVENT_FAILOVER:
        must(curling_receiver_failover(f->receiver, argument & 1, &err) == 0 ||
             err.text[0]);
        break;
    case EVENT_LIMIT:
        set_limit(f, argument);
        break;
    case EVENT_POLICIES:
        set_policies(f, argument);
        break;
    case EVENT_WRITES:
        pthread_mutex_lock(&f->lock);
        /* What is closed stays closed. */
        if (peer->writes % 8 < WRITE_CLOSED) {
            peer->writes = argument;
        }
        pthread_mutex_unlock(&f->lock);
        break;
    case EVENT_CHOP:
        peer->chop = 1 + argument;
        break;
    case EVENT_CONNECT:
        connect_next(f);
        break;
    case EVENT_QUIT:
        curling_receiver_quit(f->receiver);
        pthread_mutex_lock(&f->lock);
        f->quit = true;
        pthread_mutex_unlock(&f->lock);
        break;
    case EVENT_RESET:
        must(curling_receiver_reset(f->receiver, &err) == 0 || err.text[0]);
        break;
    case EVENT_YANK:
        curling_receiver_yank(f->receiver);
        break;
    }
}

/* Whoever says nothing is left, unless he may come back to his round. */
static ssize_t be_silent(Peer *peer)
{
    Fuzz *f = peer->fuzz;
    bool suspect;

    pthread_mutex_lock(&f->lock);
    suspect = f->state == CURLING_STATE_SUSPECT;
    pthread_mutex_unlock(&f->lock);
    must(peer->silences < SILENCES_MAX);
    peer->silences++;
    if (suspect && peer->silences > SILENCES_MAX / 5) {
        return 0;
    }
    fuzz_clock_pass(5);
    return -EAGAIN;
}

static ssize_t peer_end(Peer *peer)
{
    switch (peer->ending % 8) {
    case ENDING_RESET:
        return -ECONNRESET;
    case ENDING_ERROR:
        return -EIO;
    case ENDING_SILENCE:
        return be_silent(peer);
    default:
        return 0;
    }
}

static ssize_t peer_read(void *opaque, void *buf, size_t len_bytes)
{
    Peer *peer = opaque;

    if (__atomic_load_n(&peer->shut, __ATOMIC_RELAXED)) {
        return 0;
    }
    check_memory(peer->fuzz);
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
        if (peer->chop) {
            len = len < peer->chop ? len : peer->chop;
            peer->chop = 0;
        }
        memcpy(buf, peer->stream.bytes + peer->at, len);
        peer->at += len;
        if (peer->at == frame->end) {
            witness(peer, frame, peer->next);
            peer->next++;
        }
        if (len) {
            return (ssize_t)len;
        }
    }
    return peer_end(peer);
}

static ssize_t write_locked(Peer *peer, const uint8_t *bytes, size_t len)
{
    size_t much = peer->writes / 8;

    switch (peer->writes % 8) {
    case WRITE_LATER:
        fuzz_clock_pass(4);
        peer->writes = much ? peer->writes - 8 : WRITE_ALL;
        return -EAGAIN;
    case WRITE_PIECES:
        len = len < 1 + much ? len : 1 + much;
        break;
    case WRITE_NOTHING:
        fuzz_clock_pass(4);
        return -EAGAIN;
    case WRITE_CLOSED:
        return -EPIPE;
    case WRITE_RESET:
        return -ECONNRESET;
    case WRITE_ERROR:
        return -EIO;
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
    ret = __atomic_load_n(&peer->shut, __ATOMIC_RELAXED) ? -EPIPE :
          write_locked(peer, buf, len_bytes);
    pthread_mutex_unlock(&peer->fuzz->lock);
    return ret;
}

static void peer_shutdown(void *opaque)
{
    Peer *peer = opaque;

    __atomic_store_n(&peer->shut, true, __ATOMIC_RELAXED);
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

/* ---- The receiver -------------------------------------------------------- */

static int op_check(void *opaque, const CurlingHello *hello, CurlingError *err)
{
    (void)opaque;
    return curling_describe_compare(hello->description, DESCRIPTION, err);
}

static void op_pages(void *opaque, uint32_t block, uint64_t first,
                     uint64_t count)
{
    (void)opaque;
    must(block < 2 && count > 0);
    must(first + count <= (block ? FUZZ_PAGES_1 : FUZZ_PAGES_0));
}

static int op_applied(void *opaque, const CurlingAppliedRound *round,
                      const uint8_t *device, size_t len_bytes,
                      CurlingError *err)
{
    Fuzz *f = opaque;
    CurlingReceiverInfo info;
    const Whole *whole;
    bool fails;

    curling_receiver_query(f->receiver, &info);
    pthread_mutex_lock(&f->lock);
    must(!f->load_failed && !f->taken);
    whole = find_whole_locked(f, round->number);
    must(whole);
    check_round_locked(f, whole, info.held != round->number);
    must(len_bytes == f->device_bytes && len_bytes > 0);
    must(!memcmp(device, f->device, len_bytes));
    f->applied = true;
    f->number = round->number;
    f->loads++;
    fails = f->loads == f->load_fails_at;
    f->load_failed = fails;
    pthread_mutex_unlock(&f->lock);
    return fails ? curling_error_set(err, -EINVAL, "no such device") : 0;
}

static int op_takeover(void *opaque, uint64_t number, const uint8_t *device,
                       size_t len_bytes, CurlingError *err)
{
    static uint8_t ram[FUZZ_RAM_BYTES];
    Fuzz *f = opaque;

    pthread_mutex_lock(&f->lock);
    must(f->applied && !f->load_failed && !f->taken);
    must(number == f->number);
    must(len_bytes == f->device_bytes);
    must(!memcmp(device, f->device, len_bytes));
    fuzz_ram_copy(&f->ram, ram);
    must(!memcmp(f->image, ram, sizeof(ram)));
    f->taken = !f->takeover_fails;
    pthread_mutex_unlock(&f->lock);
    return f->takeover_fails ?
           curling_error_set(err, f->takeover_fails, "not started") : 0;
}

static void op_powered_off(void *opaque)
{
    Fuzz *f = opaque;

    pthread_mutex_lock(&f->lock);
    must(!f->taken);
    pthread_mutex_unlock(&f->lock);
}

static void op_state(void *opaque, CurlingState state, const char *reason)
{
    Fuzz *f = opaque;

    must(reason[0]);
    pthread_mutex_lock(&f->lock);
    must(state != CURLING_STATE_ACTIVE || f->taken);
    f->state = state;
    if (state == CURLING_STATE_LISTENING || state == CURLING_STATE_FAILED ||
        state == CURLING_STATE_SYNCING) {
        f->applied = false;
    }
    if (state == CURLING_STATE_SYNCING) {
        /* A first round may replace one that could not be loaded. */
        f->load_failed = false;
    }
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static const CurlingReceiverOps ops = {
    .check = op_check,
    .pages = op_pages,
    .applied = op_applied,
    .takeover = op_takeover,
    .powered_off = op_powered_off,
    .state = op_state,
};

static void *run(void *opaque)
{
    curling_receiver_run(opaque);
    return NULL;
}

/* Nobody is connected, and nothing will happen any more by itself. */
static bool at_rest_locked(const Fuzz *f)
{
    if (f->quit) {
        return true;
    }
    for (unsigned int i = 0; i < f->n_peers; i++) {
        if (f->peers[i]->offered && !f->peers[i]->released) {
            return false;
        }
    }
    switch (f->state) {
    case CURLING_STATE_LISTENING:
    case CURLING_STATE_SUSPECT:
    case CURLING_STATE_ACTIVE:
    case CURLING_STATE_FAILED:
        return true;
    case CURLING_STATE_SYNCING:
    case CURLING_STATE_STANDBY:
    case CURLING_STATE_FENCING:
    case CURLING_STATE_CLOSED:
    case CURLING_STATE_LEASED:
    case CURLING_STATE__MAX:
        break;
    }
    return false;
}

static void wait_for_rest(Fuzz *f)
{
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += REST_S;
    pthread_mutex_lock(&f->lock);
    while (!at_rest_locked(f) && !ret) {
        ret = pthread_cond_timedwait(&f->cond, &f->lock, &until);
    }
    pthread_mutex_unlock(&f->lock);
    must(ret == 0);
}

static void start(Fuzz *f, FuzzInput *in, pthread_t *thread)
{
    static const uint32_t timeouts_ms[] = { 100, 200, 500, 1000 };
    uint8_t policies = fuzz_u8(in);
    CurlingReceiverConfig config = {
        .layout = &f->ram.layout,
        .codec = &toy_codec,
        .settings = &f->settings,
        .ops = &ops,
        .opaque = f,
    };

    fuzz_ram_init(&f->ram);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->cond, NULL);
    set_policies(f, policies);
    f->takeover_fails = policies & 4 ? -EIO : policies & 8 ? -EBUSY : 0;
    f->settings.close_grace_ms = 10;
    config.limit_bytes = fuzz_u8(in) % 4 * CURLING_CHUNK_BYTES;
    f->limit = config.limit_bytes;
    f->settings.peer_timeout_ms = timeouts_ms[fuzz_u8(in) % 4];
    f->load_fails_at = fuzz_u8(in);
    while (in->left && f->n_peers < PEERS_MAX) {
        f->peers[f->n_peers++] = peer_new(f, in);
    }
    f->receiver = curling_receiver_new(&config);
    must(f->receiver);
    must(pthread_create(thread, NULL, run, f->receiver) == 0);
}

static void end(Fuzz *f, pthread_t thread)
{
    curling_receiver_quit(f->receiver);
    pthread_join(thread, NULL);
    check_memory(f);
    /* Asserts that its pool is empty */
    curling_receiver_free(f->receiver);
    for (unsigned int i = 0; i < f->n_peers; i++) {
        must(f->peers[i]->offered && f->peers[i]->released == 1);
        fuzz_stream_free(&f->peers[i]->stream);
        free(f->peers[i]);
    }
    pthread_cond_destroy(&f->cond);
    pthread_mutex_destroy(&f->lock);
    fuzz_ram_destroy(&f->ram);
    free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    FuzzInput in = { data, len_bytes };
    Fuzz *f = calloc(1, sizeof(*f));
    pthread_t thread;

    must(f);
    fuzz_clock_reset();
    start(f, &in, &thread);
    for (unsigned int i = 0; i < f->n_peers; i++) {
        connect_next(f);
        wait_for_rest(f);
    }
    end(f, thread);
    return 0;
}
