/*
 * Ends and refusals of sessions, without QEMU
 *
 * A guest that powers off, rounds that cannot be loaded, takeovers that
 * cannot be done yet, operators, strangers and crowds at the door.
 * Invariants: what could not be loaded is never started; a session that goes
 * on holds what it held; who speaks another protocol is told so.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pair.h"

static uint64_t held_by(Standby *standby)
{
    CurlingReceiverInfo info;

    curling_receiver_query(standby->core, &info);
    return info.held;
}

static void test_power_off(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_sender_stop(pair.sender, CURLING_TYPE_POWEROFF,
                                         5000, &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 3);
    assert_true(held_by(pair.standby) == CURLING_ROUND_NONE);
    /* It is told after the state; the next sender waits its turn. */
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_true(held == CURLING_ROUND_NONE);
    assert_true(pair.standby->powered_off);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* Rounds until one cannot be loaded; the errno that the sender hears. */
static int rounds_until_broken(Pair *pair, CurlingError *err)
{
    int ret = 0;

    pair->standby->load = refuse_round_2;
    for (unsigned int i = 0; i < 6 && ret == 0; i++) {
        ret = send_round(pair, ANSWERED, err);
    }
    return ret;
}

static void test_resync_after_a_round_that_cannot_be_loaded(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(rounds_until_broken(&pair, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "no such device"));
    wait_state(pair.standby, CURLING_STATE_FAILED, 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, true,
                                               NULL), -ENOENT);

    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_true(held == CURLING_ROUND_NONE);
    assert_int_equal(send_kind(&pair, CURLING_KIND_SYNC, ANSWERED,
                               &err), 0);
    wait_state(pair.standby, CURLING_STATE_STANDBY, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, true,
                                               NULL), 0);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, pair.next - 1);
    assert_memory_equal(pair.standby->machine.ram, pair.machine.ram,
                        sizeof(pair.machine.ram));
    pair_free(&pair);
}

/* Whoever it was that failed, another session may begin. */
static void test_other_session_after_failure(void **state)
{
    CurlingSender *other = sender_new(2);
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(rounds_until_broken(&pair, &err), -EBADMSG);
    wait_state(pair.standby, CURLING_STATE_FAILED, 0);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err), 0);
    assert_true(held == CURLING_ROUND_NONE);
    wait_state(pair.standby, CURLING_STATE_SYNCING, 0);
    curling_sender_free(other);
    pair_free(&pair);
}

/* The sender dies, and the takeover ends with @code: in @state. */
static void take_over_in_vain(Pair *pair, int code, CurlingState state)
{
    CurlingReceiverInfo info;
    CurlingError err;

    pair_init(pair, 1);
    pair->standby->settings.close_grace_ms = 0;
    pair->standby->not_now = code;
    assert_int_equal(send_round(pair, ANSWERED, &err), 0);
    curling_sender_free(pair->sender);
    pair->sender = NULL;
    wait_state(pair->standby, state, 0);
    assert_true(pair->standby->taken == CURLING_ROUND_NONE);
    curling_receiver_query(pair->standby->core, &info);
    assert_string_equal(info.last_error.text, "the disk is in use");
}

/* A disk that is still locked: the operator tries again. */
static void test_takeover_that_must_wait(void **state)
{
    CurlingError err;
    Pair pair;

    (void)state;
    take_over_in_vain(&pair, -EBUSY, CURLING_STATE_SUSPECT);
    assert_int_equal(curling_receiver_failover(pair.standby->core, false,
                                               &err), 0);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, 0);
    pair_free(&pair);
}

/* One that never can be done leaves nothing to try. */
static void test_takeover_that_cannot_be(void **state)
{
    Pair pair;

    (void)state;
    take_over_in_vain(&pair, -EINVAL, CURLING_STATE_FAILED);
    assert_int_equal(curling_receiver_failover(pair.standby->core, true,
                                               NULL), -ENOENT);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

static void test_reset(void **state)
{
    CurlingSender *other = sender_new(2);
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(curling_receiver_reset(pair.standby->core, &err),
                     -ENOENT);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_receiver_reset(pair.standby->core, &err), -EBUSY);
    curling_sender_free(pair.sender);
    pair.sender = other;
    wait_state(pair.standby, CURLING_STATE_CLOSED, 0);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err),
                     -ECONNREFUSED);
    assert_non_null(strstr(err.text, "curling-reset"));
    assert_int_equal(curling_receiver_reset(pair.standby->core, &err), 0);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 0);
    assert_int_equal(connect_pair(other, pair.standby, &held, &err), 0);
    assert_true(held == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* Each side gives its connection up; the session goes on with the next. */
static void test_yank(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    pair.standby->settings.close_grace_ms = 0;
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_sender_yank(pair.sender);
    assert_int_equal(curling_sender_wait_received(pair.sender, 1, &err),
                     -ESHUTDOWN);
    assert_non_null(strstr(err.text, "yank"));
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);

    curling_receiver_yank(pair.standby->core);
    /* It lives, and says so. */
    assert_int_equal(curling_sender_wait_received(pair.sender, 2, &err),
                     -EREMOTEIO);
    assert_non_null(strstr(err.text, "yank"));
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 1);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* ---- Slow links ---------------------------------------------------------- */

typedef struct Relay {
    int from;
    int to;
} Relay;

/* Some kilobytes a second, until the end. */
static void *relay_slowly(void *opaque)
{
    const struct timespec nap = { .tv_nsec = 40000000 };
    Relay *relay = opaque;
    char bytes[512];
    ssize_t n;

    while ((n = recv(relay->from, bytes, sizeof(bytes), 0)) > 0) {
        write_all(relay->to, (uint8_t *)bytes, (size_t)n);
        nanosleep(&nap, NULL);
    }
    shutdown(relay->to, SHUT_WR);
    return NULL;
}

static void *relay_back(void *opaque)
{
    Relay *relay = opaque;
    char bytes[512];
    ssize_t n;

    while ((n = recv(relay->from, bytes, sizeof(bytes), 0)) > 0 &&
           send(relay->to, bytes, (size_t)n, MSG_NOSIGNAL) == n) {
    }
    return NULL;
}

/*
 * A cancel in the middle of a frame, on a link that takes longer for it than
 * anyone waits: the sender reports that STOP was not acknowledged, but its
 * end still is no death.
 */
static void test_stop_on_a_slow_link(void **state)
{
    Standby *standby = standby_new();
    CurlingSender *sender = sender_new(1);
    Connect connect = { .standby = standby };
    Relay there, back;
    pthread_t threads[3];
    int near[2], far[2], size = 1;
    CurlingError err;
    uint64_t held;
    Pair pair = { .standby = standby, .sender = sender };

    (void)state;
    standby->settings.close_grace_ms = 0;
    memory_init(&pair.memory, &pair.machine);
    pair.pool = curling_pool_new(0);
    pair.round = curling_round_new(pair.pool);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, near), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, far), 0);
    assert_int_equal(setsockopt(near[0], SOL_SOCKET, SO_SNDBUF, &size,
                                sizeof(size)), 0);
    there = (Relay) { near[1], far[0] };
    back = (Relay) { far[0], near[1] };
    connect.fd = far[1];
    assert_int_equal(pthread_create(&threads[0], NULL, relay_slowly, &there),
                     0);
    assert_int_equal(pthread_create(&threads[1], NULL, relay_back, &back), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, offer, &connect), 0);
    assert_int_equal(curling_sender_connect(sender, fd_channel(near[0]),
                                            fd_release, &held, &err), 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);

    machine_step(&pair.machine, 1);
    stage(pair.round, &pair.memory, &pair.machine, 1, CURLING_KIND_FULL);
    curling_round_seal(pair.round);
    assert_int_equal(curling_sender_begin(sender, pair.round, &err), 0);
    curling_sender_kick(sender, true);
    assert_int_equal(curling_sender_ship(sender, pair.round, &err),
                     -ECANCELED);
    assert_int_equal(curling_sender_stop(sender, CURLING_TYPE_STOP, 100, &err),
                     -ETIMEDOUT);
    curling_sender_linger(sender);
    wait_state(standby, CURLING_STATE_LISTENING, 3);
    assert_true(standby->taken == CURLING_ROUND_NONE);
    for (unsigned int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    close(near[1]);
    close(far[0]);
    pair.sender = NULL;
    pair_free(&pair);
}

static bool may_load;

static int load_late(const CurlingAppliedRound *round, CurlingError *err)
{
    const struct timespec nap = { .tv_nsec = 1000000 };

    (void)round;
    (void)err;
    while (!__atomic_load_n(&may_load, __ATOMIC_ACQUIRE)) {
        nanosleep(&nap, NULL);
    }
    return 0;
}

/* STOP lies in the socket of a receiver that is busy, behind a round, and its
 * sender does not wait for the answer. */
static void test_stop_is_found_behind_a_round(void **state)
{
    CurlingReceiverInfo info;
    CurlingError err;
    Pair pair;

    (void)state;
    may_load = false;
    pair_init(&pair, 1);
    pair.standby->settings.close_grace_ms = 0;
    pair.standby->load = load_late;
    assert_int_equal(send_round(&pair, WHOLE, &err), 0);
    assert_int_equal(curling_sender_stop(pair.sender, CURLING_TYPE_STOP, 1,
                                         &err), -ETIMEDOUT);
    curling_sender_free(pair.sender);
    pair.sender = NULL;
    __atomic_store_n(&may_load, true, __ATOMIC_RELEASE);
    wait_state(pair.standby, CURLING_STATE_LISTENING, 2);
    curling_receiver_query(pair.standby->core, &info);
    assert_int_equal(info.rounds_committed, 1);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* ---- Strangers ----------------------------------------------------------- */

/* What a receiver's last-error says of who sends @bytes and goes. */
static void assert_told(const char *bytes, size_t len, const char *expected)
{
    Standby *standby = standby_new();
    CurlingReceiverInfo info;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(send(fds[0], bytes, len, MSG_NOSIGNAL), len);
    shutdown(fds[0], SHUT_WR);
    curling_receiver_offer(standby->core, fd_channel(fds[1]), fd_release,
                           "stranger");
    curling_receiver_query(standby->core, &info);
    assert_int_equal(info.state, CURLING_STATE_LISTENING);
    if (!strstr(info.last_error.text, expected)) {
        fail_msg("got \"%s\", expected \"%s\"", info.last_error.text,
                 expected);
    }
    close(fds[0]);
    standby_free(standby);
}

static void test_strangers(void **state)
{
    char bytes[64] = "GET / HTTP/1.1\r\nHost: somewhere\r\nAccept: all\r\n\r\n";

    (void)state;
    assert_told(bytes, sizeof(bytes), "this is HTTP");
    memcpy(bytes, "QEVM\0\0\0\3", 8);
    assert_told(bytes, sizeof(bytes), "this is a plain migration");
    memcpy(bytes, "\x16\x03\x01", 3);
    assert_told(bytes, sizeof(bytes), "the peer uses TLS");
    memset(bytes, 0x5a, sizeof(bytes));
    assert_told(bytes, sizeof(bytes), "got magic 0x5a5a5a5a, expected 0x");
    assert_told(bytes, 3, "closed the connection");
}

static ssize_t read_nothing_of_him(void *opaque, void *buf, size_t len_bytes)
{
    (void)opaque;
    (void)buf;
    (void)len_bytes;
    return -EACCES;
}

/* Whom the channel does not believe, he is told why, and does not insist. */
static void test_refused_by_the_channel(void **state)
{
    Standby *standby = standby_new();
    CurlingSender *sender = sender_new(1);
    CurlingReceiverInfo info;
    CurlingChannel *channel;
    CurlingError err;
    uint64_t held;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    channel = fd_channel(fds[1]);
    channel->read = read_nothing_of_him;
    channel->reason = "nobody knows him";
    curling_receiver_offer(standby->core, channel, fd_release, "stranger");
    assert_int_equal(curling_sender_connect(sender, fd_channel(fds[0]),
                                            fd_release, &held, &err),
                     -ECONNREFUSED);
    assert_non_null(strstr(err.text, "nobody knows him"));
    curling_receiver_query(standby->core, &info);
    assert_int_equal(info.state, CURLING_STATE_LISTENING);
    assert_non_null(strstr(info.last_error.text, "nobody knows him"));
    curling_sender_free(sender);
    standby_free(standby);
}

/* Many who connect and say nothing do not keep a sender out. */
static void test_crowd_at_the_door(void **state)
{
    Standby *standby = standby_new();
    CurlingSender *sender = sender_new(1);
    Connect connects[3 * CURLING_OFFERS_MAX];
    pthread_t threads[3 * CURLING_OFFERS_MAX];
    int idle[3 * CURLING_OFFERS_MAX];
    int64_t began_ns = curling_clock_ns();
    CurlingError err;
    uint64_t held;
    int fds[2];

    (void)state;
    for (unsigned int i = 0; i < 3 * CURLING_OFFERS_MAX; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        idle[i] = fds[0];
        connects[i] = (Connect) { .standby = standby, .fd = fds[1] };
        assert_int_equal(pthread_create(&threads[i], NULL, offer,
                                        &connects[i]), 0);
    }
    while (connect_pair(sender, standby, &held, &err) == -EBUSY) {
        assert_true(curling_clock_ns() - began_ns <
                    CURLING_HANDSHAKE_MS / 2 * 1000000LL);
    }
    wait_state(standby, CURLING_STATE_SYNCING, 0);
    for (unsigned int i = 0; i < 3 * CURLING_OFFERS_MAX; i++) {
        close(idle[i]);
        pthread_join(threads[i], NULL);
    }
    curling_sender_free(sender);
    standby_free(standby);
}

static void say_hello(CurlingOffers *offers, uint8_t id, int *fds)
{
    char nothing[] = "";
    CurlingHello hello = { .session = { id }, .description = nothing };
    CurlingSession session;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    curling_session_init(&session, fd_channel(fds[0]), 0, 1000);
    assert_int_equal(curling_hello_send(&session, &hello, NULL), 0);
    fd_release(session.channel);
    curling_session_destroy(&session);
    assert_int_equal(curling_offers_greet(offers, fd_channel(fds[1]),
                                          fd_release, "test", 1000, NULL), 0);
}

static void assert_next(CurlingOffers *offers, uint8_t id)
{
    CurlingOffer *offer = curling_offers_take_locked(offers);

    assert_non_null(offer);
    assert_int_equal(offer->hello.session[0], id);
    curling_offer_free(offer);
}

/* A sender that comes back is not behind those who came after it. */
static void test_sender_comes_first(void **state)
{
    const uint8_t sender[CURLING_SESSION_ID_BYTES] = { 2 };
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    CurlingOffers offers = { .lock = &lock, .cond = &cond };
    int fds[2];

    (void)state;
    assert_false(curling_offers_prefer_locked(&offers, sender, 0));
    for (uint8_t id = 1; id < 5; id++) {
        say_hello(&offers, id, fds);
    }
    assert_false(curling_offers_prefer_locked(&offers, sender, 1));
    assert_true(curling_offers_prefer_locked(&offers, sender, 0));
    assert_true(curling_offers_prefer_locked(&offers, sender, 0));
    assert_next(&offers, 2);
    assert_false(curling_offers_prefer_locked(&offers, sender, 0));
    assert_next(&offers, 4);
    assert_next(&offers, 3);
    assert_next(&offers, 1);
    assert_null(curling_offers_take_locked(&offers));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_off),
        cmocka_unit_test(test_resync_after_a_round_that_cannot_be_loaded),
        cmocka_unit_test(test_other_session_after_failure),
        cmocka_unit_test(test_takeover_that_must_wait),
        cmocka_unit_test(test_takeover_that_cannot_be),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_yank),
        cmocka_unit_test(test_stop_on_a_slow_link),
        cmocka_unit_test(test_stop_is_found_behind_a_round),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_refused_by_the_channel),
        cmocka_unit_test(test_crowd_at_the_door),
        cmocka_unit_test(test_sender_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
