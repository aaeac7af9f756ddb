/*
 * Fault: two guests run, or none, because one side took the other for what it
 * is not.
 * Invariants: a sender that is heard hands its guest over or keeps it; a
 * takeover after silence waits for the sender's lease, which counts from what
 * the receiver heard; an end without a word is a death, one with a word is
 * not; who is stuck is told from who is silent.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pair.h"
#include "beat.h"

#define NS_PER_MS 1000000LL
#define LEASE_MS 400

static void nap_ms(long ms)
{
    const struct timespec nap = { .tv_nsec = ms * NS_PER_MS };

    nanosleep(&nap, NULL);
}

/* Query until @expression is true of @info. */
#define WAIT_FOR(sender, info, expression) do { \
        for (unsigned int left = 1000; left; left--) { \
            curling_sender_query(sender, &(info)); \
            if (expression) { \
                break; \
            } \
            nap_ms(10); \
        } \
        assert_true(expression); \
    } while (0)

/* ---- FENCE and FENCED ---------------------------------------------------- */

static void test_asked_and_handed_over(void **state)
{
    CurlingReceiverInfo receiver;
    CurlingSenderInfo info;
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_sender_query(pair.sender, &info);
    assert_int_equal(info.fence_until_ns, 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, false,
                                               &err), 0);
    WAIT_FOR(pair.sender, info, info.fence_until_ns);
    assert_true(info.fence_until_ns > curling_clock_ns());
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    assert_int_equal(curling_receiver_failover(pair.standby->core, false,
                                               &err), -EALREADY);

    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_sender_fenced(pair.sender, &err), -ESTALE);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, 1);
    curling_receiver_query(pair.standby->core, &receiver);
    assert_int_equal(receiver.generation, 1);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err),
                     -ESTALE);
    pair_free(&pair);
}

/* A planned switch-over: nobody asked. */
static void test_handed_over_unasked(void **state)
{
    CurlingError err;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_int_equal(curling_sender_fenced(pair.sender, &err), -ESTALE);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_int_equal(pair.standby->taken, 0);
    pair_free(&pair);
}

/* Who cannot start the guest says so, and does not start it later. */
static void test_receiver_cannot_start(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    pair.standby->settings.close_grace_ms = 0;
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    pair.standby->not_now = -EBUSY;
    assert_int_equal(curling_sender_fenced(pair.sender, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, "the disk is in use"));
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    wait_state(pair.standby, CURLING_STATE_STANDBY, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

static void test_nothing_to_hand_over(void **state)
{
    CurlingError err;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(curling_sender_fenced(pair.sender, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, "no round is held"));
    pair_free(&pair);
}

/* ---- Deaths -------------------------------------------------------------- */

static void test_death_is_told_from_a_word(void **state)
{
    CurlingSenderInfo info;
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_receiver_yank(pair.standby->core);
    assert_int_equal(curling_sender_wait_received(pair.sender, 1, &err),
                     -EREMOTEIO);
    curling_sender_query(pair.sender, &info);
    assert_false(info.died);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);

    curling_receiver_quit(pair.standby->core);
    assert_int_equal(curling_sender_wait_received(pair.sender, 2, &err),
                     -EPIPE);
    curling_sender_query(pair.sender, &info);
    assert_true(info.died);
    pair_free(&pair);
}

/* ---- The lease ----------------------------------------------------------- */

/* A pair whose sender, with a lease, is not connected yet */
static void leased_pair_init(Pair *pair)
{
    CurlingSenderConfig config = {
        .session = { 9 },
        .description = DESCRIPTION,
        .peer_timeout_ms = 200,
        .fence_after_ms = LEASE_MS,
    };

    pair_init(pair, 1);
    curling_sender_free(pair->sender);
    pair->sender = curling_sender_new(&config);
    assert_non_null(pair->sender);
}

/* Beats renew it, and each time from when they were sent. */
static void test_lease_is_renewed(void **state)
{
    CurlingSenderInfo info;
    CurlingError err;
    int64_t first_ns;
    uint64_t held;
    Pair pair;

    (void)state;
    leased_pair_init(&pair);
    first_ns = curling_lease_clock_ns();
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(curling_sender_lease_ms(pair.sender), LEASE_MS);
    curling_sender_query(pair.sender, &info);
    assert_true(info.leased_ns >= first_ns);
    for (unsigned int i = 0; i < 3; i++) {
        first_ns = info.leased_ns;
        WAIT_FOR(pair.sender, info, info.leased_ns > first_ns);
        assert_true(info.leased_ns <= curling_lease_clock_ns());
    }
    pair_free(&pair);
}

/*
 * A sender that is silent from some octet on: HELLO with a lease, a beat, one
 * round.  The takeover comes, but not before the lease and its margin are
 * over.
 */
static void test_takeover_waits_for_lease(void **state)
{
    CurlingReceiverInfo info;
    int64_t before_ns;
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    leased_pair_init(&pair);
    pair.standby->settings.peer_timeout_ms = 100;
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_receiver_query(pair.standby->core, &info);
    assert_int_equal(info.lease_ms, LEASE_MS);
    /* Its listener ends, and with it the beats; the connection stays open. */
    before_ns = curling_clock_ns();
    curling_sender_yank(pair.sender);
    assert_int_equal(curling_sender_wait_received(pair.sender, 1, &err),
                     -ESHUTDOWN);
    wait_state(pair.standby, CURLING_STATE_LEASED, 0);
    assert_int_equal(curling_receiver_failover(pair.standby->core, false,
                                               &err), -EALREADY);
    wait_state(pair.standby, CURLING_STATE_ACTIVE, 0);
    assert_true(curling_clock_ns() - before_ns >
                (LEASE_MS + LEASE_MS / 50) * NS_PER_MS);
    assert_int_equal(pair.standby->taken, 0);
    pair_free(&pair);
}

/* Who is heard again before that goes on. */
static void test_back_within_lease(void **state)
{
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    leased_pair_init(&pair);
    pair.standby->settings.peer_timeout_ms = 100;
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    curling_sender_yank(pair.sender);
    assert_int_equal(curling_sender_wait_received(pair.sender, 1, &err),
                     -ESHUTDOWN);
    wait_state(pair.standby, CURLING_STATE_LEASED, 0);
    pair.standby->settings.peer_timeout_ms = 60000;
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    assert_int_equal(held, 0);
    wait_state(pair.standby, CURLING_STATE_STANDBY, 0);
    assert_int_equal(send_round(&pair, ANSWERED, &err), 0);
    nap_ms(LEASE_MS + 300);
    assert_true(pair.standby->taken == CURLING_ROUND_NONE);
    pair_free(&pair);
}

/* ---- What is stuck ------------------------------------------------------- */

static char sender_lag[200];
static pthread_mutex_t lag_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_lag(void *opaque, const char *reason)
{
    (void)opaque;
    pthread_mutex_lock(&lag_lock);
    snprintf(sender_lag, sizeof(sender_lag), "%s", reason ? reason : "");
    pthread_mutex_unlock(&lag_lock);
}

static void wait_for_lag(pthread_mutex_t *lock, const char *lag,
                         const char *what)
{
    bool found = false;

    for (unsigned int left = 1000; left && !found; left--) {
        pthread_mutex_lock(lock);
        found = *what ? !!strstr(lag, what) : !*lag;
        pthread_mutex_unlock(lock);
        nap_ms(10);
    }
    if (!found) {
        fail_msg("\"%s\", expected \"%s\"", lag, what);
    }
}

static void test_stuck(void **state)
{
    CurlingVitals vitals = { .loop_ns = curling_clock_ns() };
    CurlingSenderConfig config = {
        .session = { 9 },
        .description = DESCRIPTION,
        .peer_timeout_ms = 60000,
        .stall_ms = 300,
        .vitals = &vitals,
        .lagging = note_lag,
    };
    CurlingError err;
    uint64_t held;
    Pair pair;

    (void)state;
    pair_init(&pair, 1);
    pair.standby->settings.stall_ms = 300;
    pair.standby->settings.peer_timeout_ms = 200;       /* fast beats */
    pair.standby->settings.on_silence = CURLING_POLICY_WAIT;
    curling_sender_free(pair.sender);
    pair.sender = curling_sender_new(&config);
    assert_int_equal(connect_pair(pair.sender, pair.standby, &held, &err), 0);
    /* The sender's main loop never runs again, and both sides say so. */
    wait_for_lag(&lag_lock, sender_lag, "main loop of this QEMU");
    wait_for_lag(&pair.standby->lock, pair.standby->lag,
                 "main loop of the sender");
    __atomic_store_n(&vitals.loop_ns, 0, __ATOMIC_RELAXED);
    wait_for_lag(&lag_lock, sender_lag, "");
    wait_for_lag(&pair.standby->lock, pair.standby->lag, "");
    __atomic_store_n(&vitals.due_ns, curling_clock_ns(), __ATOMIC_RELAXED);
    wait_for_lag(&lag_lock, sender_lag, "a round has been due");
    wait_for_lag(&pair.standby->lock, pair.standby->lag,
                 "a round has been due");
    __atomic_store_n(&vitals.due_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pair.standby->vitals.loop_ns, curling_clock_ns(),
                     __ATOMIC_RELAXED);
    wait_for_lag(&lag_lock, sender_lag, "main loop of the receiver");
    wait_for_lag(&pair.standby->lock, pair.standby->lag,
                 "main loop of this QEMU");
    curling_sender_disconnect(pair.sender);
    wait_for_lag(&lag_lock, sender_lag, "");
    pair_free(&pair);
}

/* A beat is what it was when it comes out of the wire. */
static void test_beat(void **state)
{
    const CurlingBeat beat = {
        1, 2, 3, 4, 0x0506070809101112, 0x1314151617181920,
    };
    uint8_t payload[CURLING_HEARTBEAT_BYTES];
    CurlingBeat got;

    (void)state;
    curling_beat_put(&beat, payload);
    got = curling_beat_get(payload);
    assert_memory_equal(&beat, &got, sizeof(beat));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked_and_handed_over),
        cmocka_unit_test(test_handed_over_unasked),
        cmocka_unit_test(test_receiver_cannot_start),
        cmocka_unit_test(test_nothing_to_hand_over),
        cmocka_unit_test(test_death_is_told_from_a_word),
        cmocka_unit_test(test_lease_is_renewed),
        cmocka_unit_test(test_takeover_waits_for_lease),
        cmocka_unit_test(test_back_within_lease),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_beat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
