#!/bin/bash
# Fault: the sender crashes (SIGSEGV, SIGABRT) between rounds, in the middle of
# one, before its end, before RECEIVED comes back, and at random instants.
# Invariant: a crash is a death like any other: the receiver takes over from
# the last round it had whole.
#
# CRASHES=N in the environment crashes N times (10), SEED=N repeats a run.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# expect_crash SIGNAL: it ended of it
expect_crash() { wait_exit "$sender" $((128 + $(kill -l "$1"))); }

crash_between_rounds() {
    monitor "$sender" curling-set '{"interval-ms": 3600000}' > /dev/null
    commit_round
    kill -"$1" "${pid[$sender]}"
}

crash_at_random() {
    commit_round
    random 0 300000
    sleep "$(printf '0.%06d' "$number")"
    kill -"$1" "${pid[$sender]}"
}

# The proxy does not wait for the crash, so whatever the sender still does in
# its last millisecond must come to nothing.
crash_when() {
    commit_round
    proxy_faults "$2" "exec=kill -$1 ${pid[$sender]}" refuse cut
}

crash_while_shipping() { crash_when "$1" mid-round=any; }
crash_before_round_end() { crash_when "$1" before=ROUND_END; }
crash_before_received() { crash_when "$1" before=RECEIVED; }

points=(between_rounds while_shipping before_round_end before_received
        at_random)
signals=(SEGV ABRT)
ulimit -c 0                     # a core of a guest would take its time
print_seed
start_sender
for ((i = 0; i < ${CRASHES:-10}; i++)); do
    point=${points[i % ${#points[@]}]}
    signal=${signals[i % 2]}
    next_link
    "crash_$point" "$signal"
    expect_crash "$signal"
    assert_taken_over
    echo "$signal $point: took over from round" \
         "$(monitor "$receiver" query-curling --get last-round.number)"
    take_place
done
