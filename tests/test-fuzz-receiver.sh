#!/bin/bash
# Fault: whoever can reach a receiver says what he wants to: sessions that are
# mutated everywhere but in what QEMU's devices load, at hundreds a second,
# some at once, some that stall.
# Invariant: the receiver lives, keeps its memory limit and its descriptors,
# answers on its monitor, loses no round that it holds to another session or
# to bad bytes, and serves a good sender at any time.  A takeover gives the RAM
# of the last round that the good one said.
#
# SESSIONS=N for another number than 2000; SEED=N repeats a run, FIRST=N begins
# with another session: what fails is named so that SEED=... FIRST=N SESSIONS=1
# says it again alone.  With LONG=1 these are 60000 at a QEMU that is built
# with the address sanitizer (make qemu-asan), if there is one: it has to end
# without a leak, too.
# timeout: 300
# long-timeout: 5000
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=16 APPEND=
devices=(-rtc clock=vm -S -no-shutdown)
sessions=${SESSIONS:-2000} first=${FIRST:-0} chunk=10000 growth_mb=48

# record: a session of three rounds, and the RAM of the last one
record() {
    local try

    sender=sender
    start_receiver recorded "${devices[@]}"
    start_vm sender "${devices[@]}"
    monitor sender curling-set '{"interval-ms": 3600000}' > /dev/null
    start recorder "$top/tests/replay" record "unix:$T/recorder.sock" \
        "$(receiver_addr recorded)" "$T/session"
    poll 10 grep -qs listening "$T/recorder.out" || fail "no recorder"
    monitor sender cont > /dev/null
    wait_count sender 1
    protect sender recorded "unix:$T/recorder.sock"
    for try in 1 2; do
        assert_counting sender 1
        [ "$try" -eq 1 ] || monitor sender stop > /dev/null
        commit_round
    done
    dump_blocks sender
    kill_process recorder TERM
    kill_vm sender
    kill_vm recorded
}

# assert_sane: no sanitizer and no assertion has said a word
assert_sane() {
    ! grep -E 'Sanitizer|runtime error|ssertion' "$T/receiver.err" ||
        fail "the receiver says so"
}

# fuzz FIRST COUNT: a receiver of its own, up to its takeover
fuzz() {
    local held answer

    start_receiver receiver "${devices[@]}"
    spoil_blocks receiver
    "$top/tests/fuzz-receiver" "$T/session" "$T/receiver.curling" \
        "$T/receiver.qmp" "${pid[receiver]}" "$growth_mb" \
        "$SEED" "$1" "$2" 200 > "$T/fuzz.out" || {
        cat "$T/fuzz.out"
        assert_sane
        fail "SEED=$SEED FIRST=N SESSIONS=1 repeats session N"
    }
    cat "$T/fuzz.out"
    read -r _ held < <(tail -n 1 "$T/fuzz.out")
    monitor receiver curling-failover '{"force": true}' > /dev/null
    wait_state receiver active
    answer=$(monitor receiver query-curling --get last-round.number)
    [ "$answer" = "$held" ] || fail "it came up from round $answer, not $held"
    dump_blocks receiver
    diff -r "$T/sender.ram" "$T/receiver.ram" ||
        fail "RAM is not that of round $held"
    rm -r "$T/receiver.ram"
    assert_alive receiver
    kill_vm receiver TERM
    assert_sane
}

SEED=${SEED:-$((${EPOCHREALTIME/./} % 32768))}
print_seed
record
if [ -n "${LONG-}" ]; then
    sessions=${SESSIONS:-60000}
    QEMU=$top/build/asan/bin/qemu-system-x86_64
    [ -x "$QEMU" ] || skip "needs a QEMU of 'make qemu-asan'"
    growth_mb=512               # what was freed is kept for a while
    export ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=8
fi
for ((end = first + sessions; first < end; first += chunk)); do
    fuzz "$first" "$((end - first < chunk ? end - first : chunk))"
done
