/*
 * Fault: short reads, silence, a peer that closes, resets or trickles, a
 * signal, a shutdown while somebody waits.
 * Invariant: all bytes in order or an error with its fixed meaning, no
 * later than the deadline and a tick.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "channel.h"

#define MS 1000000ll
/* What a busy machine may add to a deadline */
#define PATIENCE_NS (5000 * MS)
#define LARGE_BYTES (8u << 20)

static int64_t in_ms(int64_t ms)
{
    return curling_clock_ns() + ms * MS;
}

/* A channel that follows a script: bytes to carry (> 0) or what to return */
typedef struct Script {
    const ssize_t *steps;
    size_t n_steps;
    size_t at;
    uint8_t bytes[64];
    size_t n_bytes;
    size_t largest_wish;
} Script;

static ssize_t next_step(Script *script, size_t len)
{
    ssize_t step;

    assert_true(script->at < script->n_steps);
    step = script->steps[script->at++];
    if (len > script->largest_wish) {
        script->largest_wish = len;
    }
    if (step > 0) {
        assert_true((size_t)step <= len);
    }
    return step;
}

static ssize_t script_read(void *opaque, void *buf, size_t len)
{
    Script *script = opaque;
    ssize_t step = next_step(script, len);

    for (ssize_t i = 0; i < step; i++) {
        ((uint8_t *)buf)[i] = script->n_bytes++ & 0xff;
    }
    return step;
}

static ssize_t script_write(void *opaque, const void *buf, size_t len)
{
    Script *script = opaque;
    ssize_t step = next_step(script, len);

    if (step > 0) {
        memcpy(script->bytes + script->n_bytes, buf, step);
        script->n_bytes += step;
    }
    return step;
}

static CurlingChannel script_channel(Script *script)
{
    return (CurlingChannel) {
        .read = script_read,
        .write = script_write,
        .opaque = script,
    };
}

#define SCRIPT(array) \
    { .steps = (array), .n_steps = sizeof(array) / sizeof((array)[0]) }

static void test_short_pieces_are_joined(void **state)
{
    static const ssize_t steps[] = {
        1, -EAGAIN, 3, -EINTR, -EAGAIN, 2, 10, -EINTR, 4,
    };
    Script script = SCRIPT(steps);
    CurlingChannel channel = script_channel(&script);
    uint8_t buf[21];

    (void)state;
    memset(buf, 0xa5, sizeof(buf));
    assert_int_equal(curling_channel_read(&channel, buf, 20, in_ms(60000),
                                          NULL), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(buf[i], i);
    }
    assert_int_equal(buf[20], 0xa5);
    assert_int_equal(script.at, script.n_steps);
    assert_int_equal(script.largest_wish, 20);
}

static void test_short_writes_are_joined(void **state)
{
    static const ssize_t steps[] = { 4, -EAGAIN, -EINTR, 0, 1, 15 };
    Script script = SCRIPT(steps);
    CurlingChannel channel = script_channel(&script);
    static const char text[] = "twenty octets of txt";

    (void)state;
    assert_int_equal(curling_channel_write(&channel, text, 20, in_ms(60000),
                                           NULL), 0);
    assert_memory_equal(script.bytes, text, 20);
    assert_int_equal(script.at, script.n_steps);
    assert_int_equal(script.largest_wish, 20);
}

static void test_nothing_to_do_needs_no_channel(void **state)
{
    Script script = { .n_steps = 0 };
    CurlingChannel channel = script_channel(&script);

    (void)state;
    assert_int_equal(curling_channel_read(&channel, NULL, 0, 0, NULL), 0);
    assert_int_equal(curling_channel_write(&channel, NULL, 0, 0, NULL), 0);
}

typedef struct ErrorCase {
    ssize_t step;
    int expected;
    const char *part;
} ErrorCase;

static void test_errors_have_their_meaning(void **state)
{
    static const ErrorCase cases[] = {
        { 0, -EPIPE, "closed" },
        { -EPIPE, -EPIPE, "closed" },
        { -ECONNRESET, -EPIPE, "reset" },
        { -EHOSTUNREACH, -EHOSTUNREACH, "" },
        { -ETIMEDOUT, -ETIMEDOUT, "" },
        { -EPROTO, -EPROTO, "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const ssize_t steps[] = { 2, cases[i].step };
        Script script = SCRIPT(steps);
        CurlingChannel channel = script_channel(&script);
        CurlingError err = { "" };
        uint8_t buf[5];

        assert_int_equal(curling_channel_read(&channel, buf, 5, in_ms(60000),
                                              &err), cases[i].expected);
        assert_non_null(strstr(err.text, cases[i].part));
        assert_non_null(strstr(err.text, "read 2 of 5 bytes"));
        if (cases[i].step == 0) {
            continue;           /* no error of a write */
        }
        script = (Script) SCRIPT(steps);
        assert_int_equal(curling_channel_write(&channel, buf, 5,
                                               in_ms(60000), &err),
                         cases[i].expected);
        assert_non_null(strstr(err.text, cases[i].part));
        assert_non_null(strstr(err.text, "wrote 2 of 5 bytes"));
    }
}

static void test_late_caller_gets_what_is_there(void **state)
{
    static const ssize_t steps[] = { 5 };
    Script script = SCRIPT(steps);
    CurlingChannel channel = script_channel(&script);
    uint8_t buf[5];

    (void)state;
    assert_int_equal(curling_channel_read(&channel, buf, 5, in_ms(-1000),
                                          NULL), 0);
    script.at = 0;
    assert_int_equal(curling_channel_write(&channel, buf, 5, in_ms(-1000),
                                           NULL), 0);
}

static void test_trickling_peer_meets_the_deadline(void **state)
{
    static const ssize_t steps[] = { 1, 1, 1 };
    Script script = SCRIPT(steps);
    CurlingChannel channel = script_channel(&script);
    CurlingError err = { "" };
    uint8_t buf[5];

    (void)state;
    assert_int_equal(curling_channel_read(&channel, buf, 5, in_ms(-1), &err),
                     -ETIMEDOUT);
    assert_non_null(strstr(err.text, "read 1 of 5 bytes"));
    assert_int_equal(curling_channel_write(&channel, buf, 5, in_ms(-1), &err),
                     -ETIMEDOUT);
    assert_non_null(strstr(err.text, "wrote 1 of 5 bytes"));
    assert_int_equal(script.at, 2);
}

/* Both ends of a stream */
typedef struct Pair {
    int fd[2];
    CurlingChannel channel[2];
} Pair;

static void open_pair(Pair *pair)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair->fd), 0);
    for (int i = 0; i < 2; i++) {
        curling_channel_init_fd(&pair->channel[i], pair->fd[i]);
    }
}

static void close_pair(Pair *pair)
{
    close(pair->fd[0]);
    close(pair->fd[1]);
}

static void test_fd_is_made_non_blocking(void **state)
{
    Pair pair;

    (void)state;
    open_pair(&pair);
    assert_true(fcntl(pair.fd[0], F_GETFL) & O_NONBLOCK);
    close_pair(&pair);
}

static void test_fd_times_out(void **state)
{
    Pair pair;
    uint8_t *large = calloc(1, LARGE_BYTES);
    int64_t begin_ns = curling_clock_ns();
    int64_t spent_ns;

    (void)state;
    assert_non_null(large);
    open_pair(&pair);
    assert_int_equal(curling_channel_read(&pair.channel[0], large, 1,
                                          begin_ns + 50 * MS, NULL),
                     -ETIMEDOUT);
    spent_ns = curling_clock_ns() - begin_ns;
    assert_true(spent_ns >= 50 * MS);
    assert_true(spent_ns < PATIENCE_NS);

    /* More than the kernel holds, and nobody reads */
    begin_ns = curling_clock_ns();
    assert_int_equal(curling_channel_write(&pair.channel[0], large,
                                           LARGE_BYTES, begin_ns + 50 * MS,
                                           NULL), -ETIMEDOUT);
    spent_ns = curling_clock_ns() - begin_ns;
    assert_true(spent_ns >= 50 * MS);
    assert_true(spent_ns < PATIENCE_NS);
    close_pair(&pair);
    free(large);
}

/* A callback does not wait longer than a tick, nor spin */
static void test_fd_tick(void **state)
{
    Pair pair;
    static const uint8_t block[65536];
    int64_t begin_ns;
    int64_t spent_ns;
    uint8_t byte;

    (void)state;
    open_pair(&pair);
    begin_ns = curling_clock_ns();
    assert_int_equal(pair.channel[0].read(pair.channel[0].opaque, &byte, 1),
                     -EAGAIN);
    spent_ns = curling_clock_ns() - begin_ns;
    assert_true(spent_ns >= (CURLING_CHANNEL_TICK_MS - 1) * MS);
    assert_true(spent_ns < PATIENCE_NS);

    while (pair.channel[0].write(pair.channel[0].opaque, block,
                                 sizeof(block)) > 0) {
    }
    begin_ns = curling_clock_ns();
    assert_int_equal(pair.channel[0].write(pair.channel[0].opaque, block, 1),
                     -EAGAIN);
    spent_ns = curling_clock_ns() - begin_ns;
    assert_true(spent_ns >= (CURLING_CHANNEL_TICK_MS - 1) * MS);
    assert_true(spent_ns < PATIENCE_NS);
    close_pair(&pair);
}

static void test_fd_peer_closes(void **state)
{
    Pair pair;
    CurlingError err = { "" };
    uint8_t buf[4];

    (void)state;
    open_pair(&pair);
    assert_int_equal(curling_channel_write(&pair.channel[1], "abc", 3,
                                           in_ms(60000), NULL), 0);
    close(pair.fd[1]);
    /* What it sent before comes first. */
    assert_int_equal(curling_channel_read(&pair.channel[0], buf, 2,
                                          in_ms(60000), NULL), 0);
    assert_int_equal(curling_channel_read(&pair.channel[0], buf, 4,
                                          in_ms(60000), &err), -EPIPE);
    assert_non_null(strstr(err.text, "closed"));
    assert_non_null(strstr(err.text, "read 1 of 4 bytes"));
    /* And no SIGPIPE, whose default would end this test */
    assert_int_equal(curling_channel_write(&pair.channel[0], "abc", 3,
                                           in_ms(60000), &err), -EPIPE);
    close(pair.fd[0]);
}

/* A UNIX socket closed with unread data resets, as TCP does. */
static void test_fd_peer_resets(void **state)
{
    Pair pair;
    CurlingError err = { "" };
    uint8_t byte;

    (void)state;
    open_pair(&pair);
    assert_int_equal(curling_channel_write(&pair.channel[0], "abc", 3,
                                           in_ms(60000), NULL), 0);
    close(pair.fd[1]);
    assert_int_equal(curling_channel_read(&pair.channel[0], &byte, 1,
                                          in_ms(60000), &err), -EPIPE);
    assert_non_null(strstr(err.text, "reset"));
    close(pair.fd[0]);
}

static void test_fd_that_is_none(void **state)
{
    CurlingChannel channel;
    uint8_t byte = 0;

    (void)state;
    curling_channel_init_fd(&channel, -1);
    assert_int_equal(curling_channel_read(&channel, &byte, 1, in_ms(60000),
                                          NULL), -EBADF);
    assert_int_equal(curling_channel_write(&channel, &byte, 1, in_ms(60000),
                                           NULL), -EBADF);
    channel.shutdown(channel.opaque);
}

/* One thread's transfer of LARGE_BYTES */
typedef struct Transfer {
    CurlingChannel *channel;
    uint8_t *data;
    size_t len;
    int64_t deadline_ns;
    int ret;
} Transfer;

static void *run_read(void *opaque)
{
    Transfer *transfer = opaque;

    transfer->ret = curling_channel_read(transfer->channel, transfer->data,
                                         transfer->len,
                                         transfer->deadline_ns, NULL);
    return NULL;
}

static void *run_write(void *opaque)
{
    Transfer *transfer = opaque;

    transfer->ret = curling_channel_write(transfer->channel, transfer->data,
                                          transfer->len,
                                          transfer->deadline_ns, NULL);
    return NULL;
}

static uint8_t *pattern(unsigned int seed)
{
    uint8_t *data = malloc(LARGE_BYTES);

    assert_non_null(data);
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        data[i] = (uint8_t)((i + seed) * 2654435761u >> 11);
    }
    return data;
}

/* Both directions of both ends at once */
static void test_fd_large_both_ways(void **state)
{
    pthread_t threads[4];
    Transfer transfers[4];
    Pair pair;

    (void)state;
    open_pair(&pair);
    for (int i = 0; i < 4; i++) {
        bool writes = i < 2;

        transfers[i] = (Transfer) {
            .channel = &pair.channel[i % 2],
            .data = writes ? pattern(i) : calloc(1, LARGE_BYTES),
            .len = LARGE_BYTES,
            .deadline_ns = in_ms(120000),
            .ret = 1,
        };
        assert_non_null(transfers[i].data);
        assert_int_equal(pthread_create(&threads[i], NULL,
                                        writes ? run_write : run_read,
                                        &transfers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(transfers[i].ret, 0);
    }
    /* What one end wrote, the other read */
    assert_int_equal(memcmp(transfers[0].data, transfers[3].data,
                            LARGE_BYTES), 0);
    assert_int_equal(memcmp(transfers[1].data, transfers[2].data,
                            LARGE_BYTES), 0);
    for (int i = 0; i < 4; i++) {
        free(transfers[i].data);
    }
    close_pair(&pair);
}

/* The deadline is far; only the shutdown can end these two */
static void test_fd_shutdown_ends_who_waits(void **state)
{
    pthread_t threads[2];
    Transfer transfers[2];
    Pair pair;
    int64_t begin_ns;

    (void)state;
    open_pair(&pair);
    for (int i = 0; i < 2; i++) {
        transfers[i] = (Transfer) {
            .channel = &pair.channel[0],
            .data = pattern(i),
            .len = LARGE_BYTES,
            .deadline_ns = in_ms(600000),
            .ret = 1,
        };
    }
    assert_int_equal(pthread_create(&threads[0], NULL, run_read,
                                    &transfers[0]), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, run_write,
                                    &transfers[1]), 0);
    begin_ns = curling_clock_ns();
    pair.channel[0].shutdown(pair.channel[0].opaque);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(transfers[i].ret, -EPIPE);
    }
    assert_true(curling_clock_ns() - begin_ns < PATIENCE_NS);
    /* And later ones, too */
    assert_int_equal(curling_channel_read(&pair.channel[0],
                                          transfers[0].data, 1,
                                          in_ms(600000), NULL), -EPIPE);
    assert_int_equal(curling_channel_write(&pair.channel[0],
                                           transfers[0].data, 1,
                                           in_ms(600000), NULL), -EPIPE);
    free(transfers[0].data);
    free(transfers[1].data);
    close_pair(&pair);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* A reader whose waits a stream of signals interrupts */
static void test_fd_signals(void **state)
{
    struct sigaction action = { .sa_handler = ignore_signal };
    struct sigaction old;
    Transfer transfer;
    pthread_t thread;
    Pair pair;
    uint8_t buf[3] = { 0 };

    (void)state;
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    open_pair(&pair);
    transfer = (Transfer) {
        .channel = &pair.channel[0],
        .data = buf,
        .len = 3,
        .deadline_ns = in_ms(60000),
        .ret = 1,
    };
    assert_int_equal(pthread_create(&thread, NULL, run_read, &transfer), 0);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 200; j++) {
            assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        }
        assert_int_equal(curling_channel_write(&pair.channel[1], &"abc"[i], 1,
                                               in_ms(60000), NULL), 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(transfer.ret, 0);
    assert_memory_equal(buf, "abc", 3);
    close_pair(&pair);
    sigaction(SIGUSR1, &old, NULL);
}

/* The fuzzers' and tests' way */
static void test_fd_pipe(void **state)
{
    struct sigaction action = { .sa_handler = SIG_IGN };
    struct sigaction old;
    CurlingChannel reader;
    CurlingChannel writer;
    uint8_t buf[5] = { 0 };
    int fd[2];

    (void)state;
    assert_int_equal(sigaction(SIGPIPE, &action, &old), 0);
    assert_int_equal(pipe(fd), 0);
    curling_channel_init_fd(&reader, fd[0]);
    curling_channel_init_fd(&writer, fd[1]);
    assert_int_equal(curling_channel_write(&writer, "hello", 5, in_ms(60000),
                                           NULL), 0);
    assert_int_equal(curling_channel_read(&reader, buf, 5, in_ms(60000),
                                          NULL), 0);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(curling_channel_read(&reader, buf, 1, in_ms(10), NULL),
                     -ETIMEDOUT);
    close(fd[0]);
    assert_int_equal(curling_channel_write(&writer, "hello", 5, in_ms(60000),
                                           NULL), -EPIPE);
    close(fd[1]);

    assert_int_equal(pipe(fd), 0);
    curling_channel_init_fd(&reader, fd[0]);
    close(fd[1]);
    assert_int_equal(curling_channel_read(&reader, buf, 1, in_ms(60000),
                                          NULL), -EPIPE);
    close(fd[0]);
    sigaction(SIGPIPE, &old, NULL);
}

static void test_clock_goes_on(void **state)
{
    int64_t last_ns = curling_clock_ns();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        int64_t now_ns = curling_clock_ns();

        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_pieces_are_joined),
        cmocka_unit_test(test_short_writes_are_joined),
        cmocka_unit_test(test_nothing_to_do_needs_no_channel),
        cmocka_unit_test(test_errors_have_their_meaning),
        cmocka_unit_test(test_late_caller_gets_what_is_there),
        cmocka_unit_test(test_trickling_peer_meets_the_deadline),
        cmocka_unit_test(test_fd_is_made_non_blocking),
        cmocka_unit_test(test_fd_times_out),
        cmocka_unit_test(test_fd_tick),
        cmocka_unit_test(test_fd_peer_closes),
        cmocka_unit_test(test_fd_peer_resets),
        cmocka_unit_test(test_fd_that_is_none),
        cmocka_unit_test(test_fd_large_both_ways),
        cmocka_unit_test(test_fd_shutdown_ends_who_waits),
        cmocka_unit_test(test_fd_signals),
        cmocka_unit_test(test_fd_pipe),
        cmocka_unit_test(test_clock_goes_on),
    };

    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
