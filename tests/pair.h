/*
 * For tests without QEMU: a receiver over some memory, a sender, and
 * connections between them
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "offers.h"
#include "ram.h"
#include "receiver.h"
#include "sender.h"
#include "toy-codec.h"

/* Not every test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define PAGE 4096
#define BLOCKS 2
#define PAGES_0 5
#define PAGES_1 2
#define PAGES (PAGES_0 + PAGES_1)
#define DEVICE_BYTES 600
#define DESCRIPTION "machine=test\nram/a=20480\nram/b=8192\n"

/* ---- A machine: some memory and a device --------------------------------- */

typedef struct Machine {
    uint8_t ram[PAGES][PAGE];
    uint8_t device[DEVICE_BYTES];
} Machine;

typedef struct Memory {
    CurlingRamBlock blocks[BLOCKS];
    CurlingRamLayout layout;
} Memory;

static void memory_init(Memory *memory, Machine *machine)
{
    memory->blocks[0].host = machine->ram[0];
    memory->blocks[0].pages = PAGES_0;
    memory->blocks[1].host = machine->ram[PAGES_0];
    memory->blocks[1].pages = PAGES_1;
    memory->layout.page_bytes = PAGE;
    memory->layout.n_blocks = BLOCKS;
    memory->layout.blocks = memory->blocks;
    memory->layout.device_max_bytes = 1 << 20;
}

static void scribble(uint8_t *to, size_t len, unsigned int seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        to[i] = (uint8_t)(seed >> 16);
    }
}

/* What the guest did before round @number: two pages and the device change;
 * page 1 is zero in the first round and page 5 becomes zero in the third. */
static void machine_step(Machine *machine, unsigned int number)
{
    if (number == 0) {
        for (unsigned int i = 0; i < PAGES; i++) {
            scribble(machine->ram[i], PAGE, i + 1);
        }
        memset(machine->ram[1], 0, PAGE);
    } else {
        scribble(machine->ram[number % PAGES_0], PAGE, 100 + number);
        scribble(machine->ram[PAGES_0], PAGE, 200 + number);
        if (number == 2) {
            memset(machine->ram[PAGES_0], 0, PAGE);
        }
    }
    scribble(machine->device, DEVICE_BYTES, 300 + number);
}

/* Stage the round that machine_step(@number) leads to. */
static void stage(CurlingRound *round, const Memory *memory,
                  const Machine *machine, unsigned int number, uint32_t kind)
{
    CurlingError err;

    curling_round_begin(round, number, 0, kind,
                        kind == CURLING_KIND_DELTA ? number - 1 :
                                                     CURLING_ROUND_NONE);
    if (kind == CURLING_KIND_DELTA) {
        assert_int_equal(curling_ram_put_pages(round, &memory->layout, 0,
                                               number % PAGES_0, 1, false,
                                               &err), 0);
        assert_int_equal(curling_ram_put_pages(round, &memory->layout, 1, 0,
                                               1, true, &err), 0);
    } else {
        assert_int_equal(curling_ram_put_pages(round, &memory->layout, 0, 0,
                                               PAGES_0, true, &err), 0);
        assert_int_equal(curling_ram_put_pages(round, &memory->layout, 1, 0,
                                               PAGES_1, true, &err), 0);
    }
    assert_int_equal(curling_ram_put_device(round, machine->device,
                                            DEVICE_BYTES, &err), 0);
}

/* ---- A receiver ---------------------------------------------------------- */

typedef struct Standby {
    Machine machine;
    Memory memory;
    CurlingReceiverSettings settings;
    CurlingReceiver *core;
    pthread_t thread;
    bool joined;
    int (*load)(const CurlingAppliedRound *round, CurlingError *err);

    pthread_mutex_t lock;
    pthread_cond_t cond;
    CurlingState state;
    unsigned int changes;       /* of the state */
    uint64_t taken;             /* round that was taken over from, or none */
    int not_now;                /* takeovers that cannot be done, errno */
    bool powered_off;
    unsigned int not_handed;
    CurlingVitals vitals;
    char lag[200];              /* what is stuck; empty: nothing */
    uint8_t device[DEVICE_BYTES];       /* of the last load, or takeover */
} Standby;

static int op_check(void *opaque, const CurlingHello *hello, CurlingError *err)
{
    (void)opaque;
    if (strcmp(hello->description, DESCRIPTION)) {
        return curling_error_set(err, -EINVAL, "another machine");
    }
    return 0;
}

static int op_applied(void *opaque, const CurlingAppliedRound *round,
                      const uint8_t *device, size_t len_bytes,
                      CurlingError *err)
{
    Standby *standby = opaque;

    assert_int_equal(len_bytes, DEVICE_BYTES);
    memcpy(standby->device, device, len_bytes);
    return standby->load ? standby->load(round, err) : 0;
}

/* For standby->load. */
static int refuse_round_2(const CurlingAppliedRound *round, CurlingError *err)
{
    return round->number == 2 ?
           curling_error_set(err, -EINVAL, "no such device") : 0;
}

static int op_takeover(void *opaque, uint64_t number, const uint8_t *device,
                       size_t len_bytes, CurlingError *err)
{
    Standby *standby = opaque;
    int not_now = __atomic_exchange_n(&standby->not_now, 0, __ATOMIC_RELAXED);

    assert_int_equal(len_bytes, DEVICE_BYTES);
    if (not_now) {
        return curling_error_set(err, not_now, "the disk is in use");
    }
    memcpy(standby->device, device, len_bytes);
    standby->taken = number;
    return 0;
}

static void op_powered_off(void *opaque)
{
    Standby *standby = opaque;

    standby->powered_off = true;
}

static void op_state(void *opaque, CurlingState state, const char *reason)
{
    Standby *standby = opaque;

    assert_true(strlen(reason) > 0);
    pthread_mutex_lock(&standby->lock);
    standby->state = state;
    standby->changes++;
    pthread_cond_broadcast(&standby->cond);
    pthread_mutex_unlock(&standby->lock);
}

static void op_not_handed(void *opaque, const char *reason)
{
    Standby *standby = opaque;

    assert_true(strlen(reason) > 0);
    pthread_mutex_lock(&standby->lock);
    standby->not_handed++;
    pthread_mutex_unlock(&standby->lock);
}

static void op_lagging(void *opaque, const char *reason)
{
    Standby *standby = opaque;

    pthread_mutex_lock(&standby->lock);
    snprintf(standby->lag, sizeof(standby->lag), "%s", reason ? reason : "");
    pthread_mutex_unlock(&standby->lock);
}

static const CurlingReceiverOps ops = {
    .check = op_check,
    .applied = op_applied,
    .takeover = op_takeover,
    .powered_off = op_powered_off,
    .state = op_state,
    .not_handed = op_not_handed,
    .lagging = op_lagging,
};

static void *run_receiver(void *opaque)
{
    curling_receiver_run(opaque);
    return NULL;
}

static Standby *standby_new(void)
{
    Standby *standby = calloc(1, sizeof(*standby));
    CurlingReceiverConfig config = { .ops = &ops };

    memset(&standby->machine, 0xee, sizeof(standby->machine));
    memory_init(&standby->memory, &standby->machine);
    standby->settings.peer_timeout_ms = 60000;
    standby->settings.on_disconnect = CURLING_POLICY_TAKEOVER;
    standby->settings.on_silence = CURLING_POLICY_TAKEOVER;
    standby->taken = CURLING_ROUND_NONE;
    pthread_mutex_init(&standby->lock, NULL);
    pthread_cond_init(&standby->cond, NULL);
    config.layout = &standby->memory.layout;
    config.codec = &toy_codec;
    config.settings = &standby->settings;
    config.vitals = &standby->vitals;
    config.opaque = standby;
    standby->core = curling_receiver_new(&config);
    assert_non_null(standby->core);
    assert_int_equal(pthread_create(&standby->thread, NULL, run_receiver,
                                    standby->core), 0);
    return standby;
}

static void standby_free(Standby *standby)
{
    if (!standby->joined) {
        curling_receiver_quit(standby->core);
        pthread_join(standby->thread, NULL);
    }
    curling_receiver_free(standby->core);
    pthread_cond_destroy(&standby->cond);
    pthread_mutex_destroy(&standby->lock);
    free(standby);
}

/* Wait until the state has changed at least @changes times and is @state. */
static void wait_state(Standby *standby, CurlingState state,
                       unsigned int changes)
{
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&standby->lock);
    while ((standby->state != state || standby->changes < changes) && !ret) {
        ret = pthread_cond_timedwait(&standby->cond, &standby->lock, &until);
    }
    if (ret) {
        fail_msg("state %d after %u changes, expected %d after %u",
                 standby->state, standby->changes, state, changes);
    }
    pthread_mutex_unlock(&standby->lock);
}

/* ---- Connections --------------------------------------------------------- */

typedef struct FdChannel {
    CurlingChannel base;
    int fd;
} FdChannel;

static CurlingChannel *fd_channel(int fd)
{
    FdChannel *channel = calloc(1, sizeof(*channel));

    channel->fd = fd;
    curling_channel_init_fd(&channel->base, fd);
    return &channel->base;
}

static void fd_release(CurlingChannel *base)
{
    FdChannel *channel = (FdChannel *)base;

    close(channel->fd);
    free(channel);
}

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t done = send(fd, bytes, len, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return;             /* the receiver has had enough */
        }
        bytes += done;
        len -= (size_t)done;
    }
}

/* Let what the receiver says go unheard, until it has closed its end. */
static void drain(int fd)
{
    uint8_t waste[4096];

    while (recv(fd, waste, sizeof(waste), 0) > 0) {
    }
}

typedef struct Connect {
    Standby *standby;
    int fd;
} Connect;

static void *offer(void *opaque)
{
    Connect *connect = opaque;

    curling_receiver_offer(connect->standby->core, fd_channel(connect->fd),
                           fd_release, "test");
    return NULL;
}

/* ---- A real sender ------------------------------------------------------- */

typedef struct Pair {
    Standby *standby;
    CurlingSender *sender;
    Machine machine;
    Memory memory;
    CurlingPool *pool;
    CurlingRound *round;
    unsigned int next;
} Pair;

static CurlingSender *sender_new(uint8_t id)
{
    CurlingSenderConfig config = {
        .session = { id },
        .description = DESCRIPTION,
        .peer_timeout_ms = 60000,
    };
    CurlingSender *sender = curling_sender_new(&config);

    assert_non_null(sender);
    return sender;
}

static int connect_pair(CurlingSender *sender, Standby *standby,
                        uint64_t *held, CurlingError *err)
{
    Connect connect = { .standby = standby };
    pthread_t thread;
    int fds[2];
    int ret;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    connect.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, offer, &connect), 0);
    ret = curling_sender_connect(sender, fd_channel(fds[0]), fd_release, held,
                                 err);
    pthread_join(thread, NULL);
    return ret;
}

static void pair_init(Pair *pair, uint8_t id)
{
    CurlingError err;
    uint64_t held;

    memset(pair, 0, sizeof(*pair));
    pair->standby = standby_new();
    pair->standby->settings.close_grace_ms = 10000;
    pair->sender = sender_new(id);
    memory_init(&pair->memory, &pair->machine);
    pair->pool = curling_pool_new(0);
    pair->round = curling_round_new(pair->pool);
    assert_int_equal(connect_pair(pair->sender, pair->standby, &held, &err),
                     0);
    assert_true(held == CURLING_ROUND_NONE);
}

static void pair_free(Pair *pair)
{
    curling_sender_free(pair->sender);
    standby_free(pair->standby);
    curling_round_free(pair->round);
    curling_pool_free(pair->pool);
}

/* How far a round goes. */
enum { PART, WHOLE, ANSWERED };

static int send_kind(Pair *pair, uint32_t kind, int how, CurlingError *err)
{
    unsigned int number = pair->next++;
    int ret;

    machine_step(&pair->machine, number);
    stage(pair->round, &pair->memory, &pair->machine, number, kind);
    curling_round_seal(pair->round);
    ret = curling_sender_begin(pair->sender, pair->round, err);
    ret = ret ? ret : curling_sender_ship(pair->sender, pair->round, err);
    if (ret == 0 && how != PART) {
        ret = curling_sender_end(pair->sender, pair->round, err);
    }
    if (ret == 0 && how == ANSWERED) {
        ret = curling_sender_wait_received(pair->sender, number, err);
    }
    curling_round_discard(pair->round);
    return ret;
}

/* The first round of a session, or a delta. */
static int send_round(Pair *pair, int how, CurlingError *err)
{
    return send_kind(pair, pair->next == 0 ? CURLING_KIND_SYNC :
                     CURLING_KIND_DELTA, how, err);
}

#endif
