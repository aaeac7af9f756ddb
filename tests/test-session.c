/*
 * Whole sessions, without QEMU
 *
 * A recorded session is fed to a receiver with every fault that bytes can
 * have: cut after each of them, each bit of a header flipped, frames dropped,
 * repeated and swapped.  Invariant: the receiver takes over from exactly the
 * rounds that were whole before the fault, with exactly their memory.  Then a
 * real sender and a real receiver, with connections that break.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ram.h"
#include "receiver.h"
#include "sender.h"

#define PAGE 4096
#define BLOCKS 2
#define PAGES_0 5
#define PAGES_1 2
#define PAGES (PAGES_0 + PAGES_1)
#define ROUNDS 5
#define DEVICE_BYTES 300
#define FRAMES_MAX 64
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

/* ---- The recording ------------------------------------------------------- */

static struct {
    uint8_t *bytes;
    size_t len;
    struct {
        size_t at;
        size_t len;
        uint8_t type;
    } frames[FRAMES_MAX];
    unsigned int n_frames;
    Machine after[ROUNDS];      /* the machine of each round */
} tape;

static void tape_add(const uint8_t *bytes, size_t len)
{
    tape.bytes = realloc(tape.bytes, tape.len + len);
    assert_non_null(tape.bytes);
    memcpy(tape.bytes + tape.len, bytes, len);
    for (size_t at = 0; at < len; ) {
        CurlingHeader header;
        size_t frame_len;

        assert_int_equal(curling_frame_decode(bytes + at, &header, NULL), 0);
        frame_len = CURLING_HEADER_BYTES + header.length_bytes;
        assert_true(tape.n_frames < FRAMES_MAX);
        tape.frames[tape.n_frames].at = tape.len + at;
        tape.frames[tape.n_frames].len = frame_len;
        tape.frames[tape.n_frames].type = header.type;
        tape.n_frames++;
        at += frame_len;
    }
    tape.len += len;
}

static void tape_add_frame(uint8_t type, uint64_t round, const void *payload,
                           size_t len)
{
    uint8_t wire[CURLING_HEADER_BYTES + 1024];
    CurlingHeader header = { .type = type, .round = round };

    tape_add(wire, curling_frame_build(&header, payload, len, wire));
}

static void tape_add_round(const CurlingRound *round)
{
    uint8_t begin[CURLING_BEGIN_BYTES];
    uint8_t end[CURLING_END_SIZE];
    uint64_t number = curling_round_number(round);
    const uint8_t *span;
    size_t cursor = 0;
    size_t len;

    curling_round_get_begin(round, begin);
    curling_round_get_end(round, end);
    tape_add_frame(CURLING_TYPE_ROUND_BEGIN, number, begin, sizeof(begin));
    while ((span = curling_round_span(round, &cursor, &len))) {
        tape_add(span, len);
    }
    tape_add_frame(CURLING_TYPE_ROUND_END, number, end, sizeof(end));
}

static int record(void **state)
{
    static Machine machine;
    uint8_t hello[CURLING_HELLO_DESCRIPTION + sizeof(DESCRIPTION) - 1] = { 7 };
    CurlingPool *pool = curling_pool_new(0);
    CurlingRound *round = curling_round_new(pool);
    Memory memory;

    (void)state;
    memory_init(&memory, &machine);
    curling_put_u32(hello + CURLING_HELLO_HEARTBEAT_MS, 250);
    curling_put_u32(hello + CURLING_HELLO_PEER_TIMEOUT_MS, 1000);
    curling_put_u64(hello + CURLING_HELLO_COMMITTED, CURLING_ROUND_NONE);
    memcpy(hello + CURLING_HELLO_DESCRIPTION, DESCRIPTION,
           sizeof(DESCRIPTION) - 1);
    tape_add_frame(CURLING_TYPE_HELLO, CURLING_ROUND_NONE, hello,
                   sizeof(hello));
    for (unsigned int i = 0; i < ROUNDS; i++) {
        machine_step(&machine, i);
        stage(round, &memory, &machine, i,
              i == 0 ? CURLING_KIND_SYNC :
              i == 3 ? CURLING_KIND_FULL : CURLING_KIND_DELTA);
        curling_round_seal(round);
        tape_add_round(round);
        curling_round_discard(round);
        tape.after[i] = machine;
    }
    curling_round_free(round);
    curling_pool_free(pool);
    return 0;
}

static int forget(void **state)
{
    (void)state;
    free(tape.bytes);
    return 0;
}

/* Rounds that are whole in the first @len bytes of the tape. */
static unsigned int rounds_in(size_t len)
{
    unsigned int rounds = 0;

    for (unsigned int i = 0; i < tape.n_frames; i++) {
        rounds += tape.frames[i].type == CURLING_TYPE_ROUND_END &&
                  tape.frames[i].at + tape.frames[i].len <= len;
    }
    return rounds;
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
    uint8_t device[DEVICE_BYTES];
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

    (void)device;
    assert_int_equal(len_bytes, DEVICE_BYTES);
    return standby->load ? standby->load(round, err) : 0;
}

static int op_takeover(void *opaque, uint64_t number, const uint8_t *device,
                       size_t len_bytes, CurlingError *err)
{
    Standby *standby = opaque;

    (void)err;
    assert_int_equal(len_bytes, DEVICE_BYTES);
    memcpy(standby->device, device, len_bytes);
    standby->taken = number;
    return 0;
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

static const CurlingReceiverOps ops = {
    .check = op_check,
    .applied = op_applied,
    .takeover = op_takeover,
    .state = op_state,
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
    config.settings = &standby->settings;
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

/* ---- Faults -------------------------------------------------------------- */

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

/*
 * Feed these bytes and then an end; the receiver must take over from round
 * @rounds - 1, or from none.  After an end it does that by itself; of bytes
 * that are wrong it learns nothing about the sender, and would wait for him:
 * @wrong says so, and an operator decides.
 */
static void feed(const uint8_t *bytes, size_t len, unsigned int rounds,
                 bool wrong)
{
    Standby *standby = standby_new();
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    /* All of it fits into the socket's buffer: no thread is needed. */
    write_all(fds[0], bytes, len);
    shutdown(fds[0], SHUT_WR);
    curling_receiver_offer(standby->core, fd_channel(fds[1]), fd_release,
                           "test");
    drain(fds[0]);
    close(fds[0]);
    if (rounds && wrong) {
        assert_int_equal(curling_receiver_failover(standby->core, true, NULL),
                         0);
    }
    if (rounds) {
        wait_state(standby, CURLING_STATE_ACTIVE, 0);
        assert_int_equal(standby->taken, rounds - 1);
        assert_memory_equal(standby->machine.ram, tape.after[rounds - 1].ram,
                            sizeof(standby->machine.ram));
        assert_memory_equal(standby->device, tape.after[rounds - 1].device,
                            DEVICE_BYTES);
    } else {
        /* The reader is past the connection's end when it has quit. */
        curling_receiver_quit(standby->core);
        pthread_join(standby->thread, NULL);
        standby->joined = true;
        assert_int_equal(standby->taken, CURLING_ROUND_NONE);
    }
    standby_free(standby);
}

static void test_whole(void **state)
{
    (void)state;
    feed(tape.bytes, tape.len, ROUNDS, false);
}

static void test_prefixes(void **state)
{
    (void)state;
    for (size_t len = 0; len < tape.len; len++) {
        feed(tape.bytes, len, rounds_in(len), false);
    }
}

static void flip_and_feed(size_t at, unsigned int bit)
{
    tape.bytes[at] ^= (uint8_t)(1 << bit);
    feed(tape.bytes, tape.len, rounds_in(at), true);
    tape.bytes[at] ^= (uint8_t)(1 << bit);
}

static void test_header_bits(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < tape.n_frames; i++) {
        for (size_t bit = 0; bit < CURLING_HEADER_BYTES * 8; bit++) {
            flip_and_feed(tape.frames[i].at + bit / 8, bit % 8);
        }
    }
}

static void test_payload_bits(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < tape.n_frames; i++) {
        size_t len = tape.frames[i].len - CURLING_HEADER_BYTES;

        for (size_t bit = 0; bit < len * 8; bit += 1 + len * 8 / 61) {
            flip_and_feed(tape.frames[i].at + CURLING_HEADER_BYTES + bit / 8,
                          bit % 8);
        }
    }
}

/* Frames @first to @n_frames again into @to; returns its length. */
static size_t splice(uint8_t *to, const unsigned int *order, unsigned int n)
{
    size_t len = 0;

    for (unsigned int i = 0; i < n; i++) {
        memcpy(to + len, tape.bytes + tape.frames[order[i]].at,
               tape.frames[order[i]].len);
        len += tape.frames[order[i]].len;
    }
    return len;
}

static unsigned int in_order(unsigned int *order)
{
    for (unsigned int i = 0; i < tape.n_frames; i++) {
        order[i] = i;
    }
    return tape.n_frames;
}

static void test_frames_dropped_repeated_swapped(void **state)
{
    uint8_t *bytes = malloc(2 * tape.len);
    unsigned int order[FRAMES_MAX + 1];
    unsigned int n;

    (void)state;
    for (unsigned int i = 0; i < tape.n_frames; i++) {
        size_t at = tape.frames[i].at;

        n = in_order(order);
        memmove(order + i, order + i + 1, (n - i - 1) * sizeof(order[0]));
        feed(bytes, splice(bytes, order, n - 1), rounds_in(at),
             i + 1 < tape.n_frames);

        n = in_order(order);
        memmove(order + i + 1, order + i, (n - i) * sizeof(order[0]));
        feed(bytes, splice(bytes, order, n + 1),
             rounds_in(at + tape.frames[i].len), true);

        if (i + 1 < tape.n_frames) {
            n = in_order(order);
            order[i] = i + 1;
            order[i + 1] = i;
            feed(bytes, splice(bytes, order, n), rounds_in(at), true);
        }
    }
    free(bytes);
}

/* A round that verifies but cannot be loaded: nothing is ever started. */
static int refuse_third(const CurlingAppliedRound *round, CurlingError *err)
{
    return round->number == 2 ?
           curling_error_set(err, -EINVAL, "no such device") : 0;
}

static void test_round_that_cannot_be_loaded(void **state)
{
    Standby *standby = standby_new();
    Connect connect = { .standby = standby };
    CurlingReceiverInfo info;
    pthread_t thread;
    int fds[2];

    (void)state;
    standby->load = refuse_third;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    connect.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, offer, &connect), 0);
    write_all(fds[0], tape.bytes, tape.len);
    drain(fds[0]);
    pthread_join(thread, NULL);
    close(fds[0]);
    wait_state(standby, CURLING_STATE_FAILED, 0);
    assert_int_equal(standby->taken, CURLING_ROUND_NONE);
    curling_receiver_query(standby->core, &info);
    assert_string_equal(info.last_error.text, "no such device");
    assert_int_equal(curling_receiver_failover(standby->core, true, NULL),
                     -ENOENT);
    standby_free(standby);
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

static int send_round(Pair *pair, bool end, CurlingError *err)
{
    unsigned int number = pair->next++;
    int ret;

    machine_step(&pair->machine, number);
    stage(pair->round, &pair->memory, &pair->machine, number,
          number == 0 ? CURLING_KIND_SYNC : CURLING_KIND_DELTA);
    curling_round_seal(pair->round);
    ret = curling_sender_begin(pair->sender, pair->round, err);
    ret = ret ? ret : curling_sender_ship(pair->sender, pair->round, err);
    if (ret == 0 && end) {
        ret = curling_sender_end(pair->sender, pair->round, err);
        ret = ret ? ret : curling_sender_wait_received(pair->sender, number,
                                                       err);
    }
    curling_round_discard(pair->round);
    return ret;
}

static void test_rounds_then_stop(void **state)
{
    CurlingSenderInfo info;
    CurlingError err;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    for (unsigned int i = 0; i < 200; i++) {
        assert_int_equal(send_round(&pair, true, &err), 0);
    }
    curling_sender_query(pair.sender, &info);
    assert_int_equal(info.received, 199);
    assert_int_equal(curling_sender_stop(pair.sender, 5000, &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 3);
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* The connection breaks inside round 3; the session goes on from round 2. */
static void test_session_resumes(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    for (unsigned int i = 0; i < 3; i++) {
        assert_int_equal(send_round(&pair, true, &err), 0);
    }
    assert_int_equal(send_round(&pair, false, &err), 0);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 2);
    /* What round 3 changed is owed: it is sent again, under its number. */
    pair.next = 3;
    assert_int_equal(send_round(&pair, true, &err), 0);
    assert_int_equal(send_round(&pair, true, &err), 0);
    assert_int_equal(curling_sender_stop(pair.sender, 5000, &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 3);
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    pair_free(&pair);
}

/* Another session than the one whose round is held is refused. */
static void test_other_session_refused(void **state)
{
    CurlingSender *other = sender_new(2);
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err), -EBUSY);
    assert_int_equal(send_round(&pair, true, &err), 0);
    curling_sender_free(pair.sender);
    wait_state(pair.standby, CURLING_STATE_CLOSED, 0);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err),
                     -ECONNREFUSED);
    assert_non_null(strstr(err.text, "holds round 0 of another session"));
    /* Nor does its attempt end the wait for the first one. */
    pair.sender = sender_new(1);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    wait_state(pair.standby, CURLING_STATE_STANDBY, 0);
    curling_sender_free(other);
    pair_free(&pair);
}

/* A sender that comes back too late hears who runs the guest. */
static void test_superseded(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(send_round(&pair, true, &err), 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, false,
                                               &err), -EBUSY);
    assert_int_equal(curling_receiver_failover(pair.standby->core, true,
                                               &err), 0);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, 0);
    assert_int_equal(send_round(&pair, true, &err), -EPIPE);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err),
                     -ESTALE);
    pair_free(&pair);
}

static void test_wrong_machine_refused(void **state)
{
    CurlingSenderConfig config = {
        .description = "machine=other\n",
        .peer_timeout_ms = 60000,
    };
    CurlingSender *sender = curling_sender_new(&config);
    Standby *standby = standby_new();
    CurlingError err;
    uint64_t held;

    (void)state;
    assert_int_equal(connect_pair(sender, standby, &held, &err),
                     -ECONNREFUSED);
    assert_non_null(strstr(err.text, "another machine"));
    curling_sender_free(sender);
    standby_free(standby);
}

/* Silence: the policy says wait, the receiver says suspect; a sender that is
 * heard again goes on with no resync. */
static void test_silence_and_back(void **state)
{
    CurlingReceiverInfo info;
    uint8_t answer[4096];
    Standby *standby = standby_new();
    Connect connect = { .standby = standby };
    size_t whole = tape.frames[tape.n_frames - 1].at;
    pthread_t thread;
    int fds[2];

    (void)state;
    standby->settings.peer_timeout_ms = 200;
    standby->settings.on_silence = CURLING_POLICY_WAIT;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    connect.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, offer, &connect), 0);
    /* All but the last ROUND_END. */
    write_all(fds[0], tape.bytes, whole);
    wait_state(standby, CURLING_STATE_SUSPECT, 0);
    curling_receiver_query(standby->core, &info);
    assert_int_equal(info.held, ROUNDS - 2);
    write_all(fds[0], tape.bytes + whole, tape.len - whole);
    wait_state(standby, CURLING_STATE_STANDBY, 4);
    __atomic_store_n(&standby->settings.on_silence, CURLING_POLICY_TAKEOVER,
                     __ATOMIC_RELAXED);
    wait_state(standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(standby->taken, ROUNDS - 1);
    while (recv(fds[0], answer, sizeof(answer), MSG_DONTWAIT) > 0) {
    }
    close(fds[0]);
    pthread_join(thread, NULL);
    standby_free(standby);
}

/*
 * An attempt to come back that its sender gave up long ago, found in the
 * socket by a receiver that slept: its end is nobody's death.
 */
static void test_stale_attempt_is_no_death(void **state)
{
    CurlingReceiverInfo info;
    CurlingError err;
    uint64_t held;
    int fds[2];
    Pair pair;

    (void)state;
    pair_init(&pair, 7);
    pair.standby->settings.close_grace_ms = 0;
    assert_int_equal(send_round(&pair, true, &err), 0);
    for (unsigned int i = 0; i < 3; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        write_all(fds[0], tape.bytes, tape.frames[1].at);       /* HELLO */
        shutdown(fds[0], SHUT_WR);
        curling_receiver_offer(pair.standby->core, fd_channel(fds[1]),
                               fd_release, "stale");
        drain(fds[0]);
        close(fds[0]);
    }
    curling_receiver_query(pair.standby->core, &info);
    assert_int_equal(info.state, CURLING_STATE_STANDBY);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    assert_int_equal(send_round(&pair, true, &err), 0);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* A sender that is frozen reads nothing: beats fill the socket, and still an
 * operator gets his takeover. */
static void test_operator_and_a_frozen_sender(void **state)
{
    Standby *standby = standby_new();
    CurlingReceiverInfo info;
    int fds[2], size = 16384, full = 0;

    (void)state;
    standby->settings.peer_timeout_ms = 100;
    standby->settings.on_silence = CURLING_POLICY_WAIT;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size,
                                sizeof(size)), 0);
    write_all(fds[0], tape.bytes, tape.len);
    curling_receiver_offer(standby->core, fd_channel(fds[1]), fd_release,
                           "frozen");
    wait_state(standby, CURLING_STATE_SUSPECT, 0);
    /* Until what the receiver says is not read nor taken any more. */
    for (unsigned int same = 0, last = 0; same < 20; ) {
        const struct timespec nap = { .tv_nsec = 50000000 };

        assert_int_equal(ioctl(fds[0], FIONREAD, &full), 0);
        same = (unsigned int)full == last ? same + 1 : 0;
        last = (unsigned int)full;
        nanosleep(&nap, NULL);
    }
    curling_receiver_query(standby->core, &info);
    assert_int_equal(info.state, CURLING_STATE_SUSPECT);
    assert_int_equal(curling_receiver_failover(standby->core, false, NULL), 0);
    wait_state(standby, CURLING_STATE_ACTIVE, 0);
    /* The last one whose RECEIVED still found room, or one that did not. */
    assert_true(info.held != CURLING_ROUND_NONE);
    assert_int_equal(standby->taken, info.held);
    assert_memory_equal(standby->machine.ram, tape.after[info.held].ram,
                        sizeof(standby->machine.ram));
    close(fds[0]);
    standby_free(standby);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_header_bits),
        cmocka_unit_test(test_payload_bits),
        cmocka_unit_test(test_frames_dropped_repeated_swapped),
        cmocka_unit_test(test_round_that_cannot_be_loaded),
        cmocka_unit_test(test_rounds_then_stop),
        cmocka_unit_test(test_session_resumes),
        cmocka_unit_test(test_other_session_refused),
        cmocka_unit_test(test_superseded),
        cmocka_unit_test(test_wrong_machine_refused),
        cmocka_unit_test(test_silence_and_back),
        cmocka_unit_test(test_stale_attempt_is_no_death),
        cmocka_unit_test(test_operator_and_a_frozen_sender),
    };

    return cmocka_run_group_tests(tests, record, forget);
}
