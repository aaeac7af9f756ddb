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
#include <poll.h>
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

#include "pair.h"

#define ROUNDS 5
#define FRAMES_MAX 64

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

/* ---- Faults -------------------------------------------------------------- */

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
    CurlingReceiverInfo info;
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
        curling_receiver_query(standby->core, &info);
        assert_int_equal(info.rounds_committed, 0);
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

/*
 * Only a SYNC round is loaded on trial before it counts as held: another kind
 * may not come first, whole as it is.
 */
static void test_first_round_is_no_sync(void **state)
{
    uint32_t kinds[] = { CURLING_KIND_FULL, CURLING_KIND_DELTA };

    (void)state;
    for (unsigned int i = 0; i < 2; i++) {
        size_t begin = tape.frames[1].at;
        size_t rest = tape.frames[2].at;
        uint8_t payload[CURLING_BEGIN_BYTES];
        uint8_t *bytes = malloc(tape.len);
        CurlingHeader header = { .type = CURLING_TYPE_ROUND_BEGIN };

        memcpy(bytes, tape.bytes, tape.len);
        memcpy(payload, bytes + begin + CURLING_HEADER_BYTES, sizeof(payload));
        curling_put_u32(payload + CURLING_BEGIN_KIND, kinds[i]);
        curling_frame_build(&header, payload, sizeof(payload), bytes + begin);
        feed(bytes, tape.len, 0, true);
        /* What was changed is all that was wrong. */
        curling_put_u32(payload + CURLING_BEGIN_KIND, CURLING_KIND_SYNC);
        curling_frame_build(&header, payload, sizeof(payload), bytes + begin);
        assert_memory_equal(bytes, tape.bytes, rest);
        free(bytes);
    }
}

/* Who connects and says nothing is told nothing, not even that we live. */
static void test_no_word_before_hello(void **state)
{
    Standby *standby = standby_new();
    Connect connect = { .standby = standby };
    struct pollfd pfd = { .events = POLLIN };
    uint8_t wire[CURLING_HEADER_BYTES];
    CurlingHeader header;
    pthread_t thread;
    int fds[2];

    (void)state;
    standby->settings.peer_timeout_ms = 100;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    connect.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, offer, &connect), 0);
    /* A beat would be due four times a peer timeout. */
    pfd.fd = fds[0];
    assert_int_equal(poll(&pfd, 1, 300), 0);
    write_all(fds[0], tape.bytes, tape.frames[1].at);           /* HELLO */
    assert_int_equal(recv(fds[0], wire, sizeof(wire), MSG_WAITALL),
                     sizeof(wire));
    assert_int_equal(curling_frame_decode(wire, &header, NULL), 0);
    assert_int_equal(header.type, CURLING_TYPE_WELCOME);
    pthread_join(thread, NULL);
    close(fds[0]);
    standby_free(standby);
}

/* A round that verifies but cannot be loaded: nothing is ever started. */
static void test_round_that_cannot_be_loaded(void **state)
{
    Standby *standby = standby_new();
    Connect connect = { .standby = standby };
    CurlingReceiverInfo info;
    pthread_t thread;
    int fds[2];

    (void)state;
    standby->load = refuse_round_2;
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

static void test_rounds_then_stop(void **state)
{
    CurlingSenderInfo info;
    CurlingError err;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    for (unsigned int i = 0; i < 200; i++) {
        assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    }
    curling_sender_query(pair.sender, &info);
    assert_int_equal(info.received, 199);
    assert_int_equal(curling_sender_stop(pair.sender, CURLING_TYPE_STOP, 5000,
                                         &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 3);
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* It says so to its sender first, and to itself once that connection is
 * over. */
static void wait_receiver_says(Standby *standby, const char *text)
{
    int64_t deadline_ns = curling_clock_ns() + 5000 * 1000000LL;
    CurlingReceiverInfo info;

    do {
        curling_receiver_query(standby->core, &info);
    } while (!strstr(info.last_error.text, text) &&
             curling_clock_ns() < deadline_ns && usleep(1000) == 0);
    assert_non_null(strstr(info.last_error.text, text));
}

static void wait_applied(CurlingSender *sender, uint64_t number)
{
    int64_t deadline_ns = curling_clock_ns() + 20000000000LL;
    CurlingSenderInfo info;

    do {
        assert_true(curling_clock_ns() < deadline_ns);
        usleep(200);
        curling_sender_query(sender, &info);
    } while (info.applied != number);
}

/* What the guest changes of what it changes most: little; sometimes a page
 * becomes zero, or is another one. */
static void machine_tick(Machine *machine, unsigned int number)
{
    uint8_t *page = machine->ram[number % PAGES];

    if (number % 11 == 10) {
        memset(page, 0, PAGE);
    } else if (number % 7 == 6) {
        scribble(page, PAGE, number);
    } else {
        scribble(page + number * 50 % (PAGE - 8), 8, number);
    }
    machine->ram[0][number] ^= 1;
    scribble(machine->device + number % 500, 3, number);
}

/* All of RAM, packed by @method, as the round that comes next; what did not
 * change vanishes. */
static int send_packed(Pair *pair, CurlingPacker *packer, unsigned int method,
                       int how, CurlingError *err)
{
    unsigned int number = pair->next++;
    bool against = number > 0 && number % 25 != 24;
    uint32_t kind = !number ? CURLING_KIND_SYNC :
                    against ? CURLING_KIND_DELTA : CURLING_KIND_FULL;
    int ret;

    curling_packer_begin(packer, method, against);
    curling_round_begin(pair->round, number, 0, kind,
                        against ? number - 1 : CURLING_ROUND_NONE);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        ret = curling_ram_put_pages(pair->round, &pair->memory.layout, block,
                                    0, block ? PAGES_1 : PAGES_0, number % 2,
                                    err);
        assert_int_equal(ret, 0);
    }
    ret = curling_ram_put_device(pair->round, pair->machine.device,
                                 DEVICE_BYTES, err);
    assert_int_equal(ret, 0);
    curling_packer_pack(packer, pair->round);
    curling_round_seal(pair->round);
    ret = curling_sender_begin(pair->sender, pair->round, err);
    ret = ret ? ret : curling_sender_ship(pair->sender, pair->round, err);
    if (ret == 0 && how != PART) {
        ret = curling_sender_end(pair->sender, pair->round, err);
    }
    if (ret == 0 && how == ANSWERED) {
        ret = curling_sender_wait_received(pair->sender, number, err);
    }
    curling_packer_end(packer);
    return ret;
}

/* Through intake and applier, round by round: deltas, a codec, both and none,
 * in rounds of all kinds; one round is lost. */
static void test_packed_rounds(void **state)
{
    CurlingReceiverInfo info;
    CurlingPacker *packer;
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    packer = curling_packer_new(&pair.memory.layout, &toy_codec);
    assert_non_null(packer);
    curling_packer_set_limit(packer, 16 << 20);
    machine_step(&pair.machine, 0);
    for (unsigned int i = 0; i < 200; i++) {
        unsigned int method = i / 5 % 4 ? CURLING_PACK_DELTA : 0;
        uint64_t bytes;

        method |= i / 10 % 2 ? CURLING_PACK_CODEC : 0;
        machine_tick(&pair.machine, i);
        if (i == 123) {
            assert_int_equal(send_packed(&pair, packer, method, PART, &err),
                             0);
            curling_packer_forget(packer);
            assert_int_equal(connect_pair(pair.sender, pair.standby, &held,
                                          &err), 0);
            assert_int_equal(held, i - 1);
            pair.next = i;
            machine_tick(&pair.machine, i + 1);
        }
        assert_int_equal(send_packed(&pair, packer, method, ANSWERED, &err),
                         0);
        wait_applied(pair.sender, i);
        assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                            sizeof(pair.machine.ram));
        assert_memory_equal(pair.standby->device, pair.machine.device,
                            DEVICE_BYTES);
        bytes = curling_round_bytes(pair.round);
        curling_receiver_query(pair.standby->core, &info);
        assert_true(info.last.number == i && info.last.bytes == bytes);
        /* The third with deltas in a row, and none began anew before it */
        if (i / 5 % 4 && i % 5 > 2 && i != 123 && i % 25 > 4 && i % 25 < 24) {
            assert_true(bytes < 2 * PAGE);
            assert_true(curling_round_raw_bytes(pair.round) > 4 * PAGE);
        }
    }
    curling_packer_free(packer);
    pair_free(&pair);
}

/* A delta in a round that is against none ends the connection. */
static void test_delta_in_a_full_round(void **state)
{
    CurlingPacker *packer;
    CurlingError err;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    packer = curling_packer_new(&pair.memory.layout, &toy_codec);
    assert_non_null(packer);
    curling_packer_set_limit(packer, 16 << 20);
    machine_step(&pair.machine, 0);
    for (unsigned int i = 0; i < 2; i++) {
        assert_int_equal(send_packed(&pair, packer, CURLING_PACK_DELTA,
                                     ANSWERED, &err), 0);
        wait_applied(pair.sender, i);
    }
    curling_packer_begin(packer, CURLING_PACK_DELTA, true);
    curling_round_begin(pair.round, 2, 0, CURLING_KIND_FULL,
                        CURLING_ROUND_NONE);
    pair.machine.device[0] ^= 1;
    assert_int_equal(curling_ram_put_device(pair.round, pair.machine.device,
                                            DEVICE_BYTES, &err), 0);
    curling_packer_pack(packer, pair.round);
    curling_round_seal(pair.round);
    /* It is refused while it is shipped, or soon after. */
    assert_true(curling_sender_begin(pair.sender, pair.round, &err) ||
                curling_sender_ship(pair.sender, pair.round, &err) ||
                curling_sender_end(pair.sender, pair.round, &err) ||
                curling_sender_wait_received(pair.sender, 2, &err));
    wait_receiver_says(pair.standby, "got a delta in a round that is "
                       "against no other");
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    curling_packer_free(packer);
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
        assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    }
    assert_int_equal(send_round(&pair, PART, &err), 0);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 2);
    /* What round 3 changed is owed: it is sent again, under its number. */
    pair.next = 3;
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_sender_stop(pair.sender, CURLING_TYPE_STOP, 5000,
                                         &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 3);
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    pair_free(&pair);
}

/* Who was let in and only beats does not keep others out for ever. */
static void test_idler_gives_way(void **state)
{
    CurlingSender *other = sender_new(2);
    int64_t begin_ns = curling_clock_ns();
    CurlingError err;
    uint64_t held;
    Pair pair;
    int ret;

    (void)state;
    pair_init(&pair, 1);
    do {
        ret = connect_pair(other, pair.standby, &held, &err);
        assert_true(ret == 0 || ret == -EBUSY);
        usleep(20000);
    } while (ret == -EBUSY);
    assert_true(curling_clock_ns() - begin_ns >=
                (CURLING_HANDSHAKE_MS - 100) * 1000000LL);
    wait_receiver_says(pair.standby, "it began no round for");
    curling_sender_free(pair.sender);
    pair.sender = other;
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
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
    wait_receiver_says(pair.standby, "another sender is connected");
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_sender_free(pair.sender);
    wait_state(pair.standby, CURLING_STATE_CLOSED, 0);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err),
                     -ECONNREFUSED);
    assert_non_null(strstr(err.text, "holds round 0 of session 01000000, and "
                           "got session 02000000"));
    wait_receiver_says(pair.standby, "holds round 0 of session 01000000");
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
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, true,
                                               &err), 0);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), -EREMOTEIO);
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

static bool is_sleepy;
static ssize_t (*read_at_once)(void *opaque, void *to, size_t len_bytes);

static ssize_t read_late(void *opaque, void *to, size_t len_bytes)
{
    const struct timespec nap = { .tv_nsec = 150000000 };

    if (__atomic_load_n(&is_sleepy, __ATOMIC_RELAXED)) {
        nanosleep(&nap, NULL);
    }
    return read_at_once(opaque, to, len_bytes);
}

/* A receiver that sleeps itself has patience again, but does not take that
 * for a word of its sender's. */
static void test_sleep_is_no_sign_of_life(void **state)
{
    const struct timespec while_asleep = { .tv_nsec = 800000000 };
    Standby *standby = standby_new();
    size_t whole = tape.frames[tape.n_frames - 1].at;
    CurlingChannel *channel;
    unsigned int changes;
    int fds[2];

    (void)state;
    standby->settings.peer_timeout_ms = 200;
    standby->settings.on_silence = CURLING_POLICY_WAIT;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    channel = fd_channel(fds[1]);
    read_at_once = channel->read;
    channel->read = read_late;
    write_all(fds[0], tape.bytes, whole);
    curling_receiver_offer(standby->core, channel, fd_release, "silent");
    wait_state(standby, CURLING_STATE_SUSPECT, 0);
    __atomic_store_n(&is_sleepy, true, __ATOMIC_RELAXED);
    pthread_mutex_lock(&standby->lock);
    changes = standby->changes;
    pthread_mutex_unlock(&standby->lock);
    nanosleep(&while_asleep, NULL);
    wait_state(standby, CURLING_STATE_SUSPECT, 0);
    assert_int_equal(standby->changes, changes);

    __atomic_store_n(&is_sleepy, false, __ATOMIC_RELAXED);
    write_all(fds[0], tape.bytes + whole, tape.len - whole);
    wait_state(standby, CURLING_STATE_STANDBY, changes + 1);
    close(fds[0]);
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
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
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
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* Several tries of one sender wait at once, as after a sleep: the newest is
 * served, and no other takes its place afterwards. */
static void test_only_the_newest_try_counts(void **state)
{
    const struct timespec nap = { .tv_nsec = 200000000 };
    CurlingReceiverInfo info;
    CurlingChannel *channel;
    CurlingError err;
    uint64_t held;
    int fds[4][2];
    Pair pair;

    (void)state;
    pair_init(&pair, 7);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    /* Its reader sleeps for a while in each read. */
    curling_sender_disconnect(pair.sender);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[0]), 0);
    channel = fd_channel(fds[0][1]);
    read_at_once = channel->read;
    channel->read = read_late;
    write_all(fds[0][0], tape.bytes, tape.frames[1].at);        /* HELLO */
    curling_receiver_offer(pair.standby->core, channel, fd_release, "first");
    __atomic_store_n(&is_sleepy, true, __ATOMIC_RELAXED);
    nanosleep(&nap, NULL);
    for (unsigned int i = 1; i < 4; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
        write_all(fds[i][0], tape.bytes, tape.frames[1].at);
        curling_receiver_offer(pair.standby->core, fd_channel(fds[i][1]),
                               fd_release, "try");
    }
    __atomic_store_n(&is_sleepy, false, __ATOMIC_RELAXED);
    for (unsigned int i = 0; i < 3; i++) {
        drain(fds[i][0]);       /* to its end */
    }
    nanosleep(&nap, NULL);
    /* The newest is still served: it would say so of another one. */
    curling_receiver_query(pair.standby->core, &info);
    assert_int_equal(info.state, CURLING_STATE_STANDBY);
    shutdown(fds[3][0], SHUT_WR);
    drain(fds[3][0]);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    for (unsigned int i = 0; i < 4; i++) {
        close(fds[i][0]);
    }
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
        cmocka_unit_test(test_first_round_is_no_sync),
        cmocka_unit_test(test_no_word_before_hello),
        cmocka_unit_test(test_round_that_cannot_be_loaded),
        cmocka_unit_test(test_rounds_then_stop),
        cmocka_unit_test(test_packed_rounds),
        cmocka_unit_test(test_delta_in_a_full_round),
        cmocka_unit_test(test_session_resumes),
        cmocka_unit_test(test_idler_gives_way),
        cmocka_unit_test(test_other_session_refused),
        cmocka_unit_test(test_superseded),
        cmocka_unit_test(test_wrong_machine_refused),
        cmocka_unit_test(test_silence_and_back),
        cmocka_unit_test(test_sleep_is_no_sign_of_life),
        cmocka_unit_test(test_stale_attempt_is_no_death),
        cmocka_unit_test(test_only_the_newest_try_counts),
        cmocka_unit_test(test_operator_and_a_frozen_sender),
    };

    return cmocka_run_group_tests(tests, record, forget);
}
