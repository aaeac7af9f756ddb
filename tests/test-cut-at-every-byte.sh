#!/bin/bash
# Fault: the sender dies after any byte of what it has to send, or a bit of
# that is flipped on its way.
# Invariant: the guest comes up at the receiver as exactly the last round that
# was whole by then, RAM and devices, or, before round 0 is whole, not at all.
# A flipped bit is no proof of a death: nothing comes up by itself.
#
# A session of five rounds is recorded, with the RAM and the devices of the
# stopped guest after each of them.  It is said again to real receivers: cut
# at each end of a frame and a byte before and behind it, and at random bytes;
# then with a bit flipped at the same places.  The RAM of a receiver is full
# of rubbish before.  Where nothing came up, the same one is used once more.
#
# Does all of that with LONG=1 in the environment, else the ends of rounds and
# SAMPLE=N others (70).  SEED=N repeats a run; CASES="CASE..." (see tests/replay
# --help) does these, with RECORDING=DIR those of a recording that was kept.
# timeout: 300
# long-timeout: 3000
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=16 APPEND=
devices=(-rtc clock=vm)         # else that goes on while the guest stands still
replay=$top/tests/replay

# --- The recording: $R/session, and of each round $R/N.{ram,devices,count}

# dump NAME TO: RAM and device state of a stopped machine
dump() {
    rm -rf "$2.ram"
    dump_blocks "$1"
    mv "$T/$1.ram" "$2.ram"
    monitor "$1" xen-save-devices-state \
        "{\"filename\": \"$2.devices\", \"live\": true}" > /dev/null
}

# record_state: of the stopped guest and its last round
record_state() {
    local number

    number=$(monitor sender query-curling --get last-round.number)
    dump sender "$R/$number"
    serial_count sender > "$R/$number.count"
}

# record_round KIND: the next one, of a guest that ran meanwhile
record_round() {
    monitor sender curling-set "{\"rounds\": \"$1\"}" > /dev/null
    monitor sender cont > /dev/null
    assert_counting sender 1
    monitor sender stop > /dev/null
    commit_round
    record_state
}

# Rounds come only when they are asked for; there are heartbeats in between.
record() {
    local name

    sender=sender
    start_receiver receiver "${devices[@]}"
    start_vm sender "${devices[@]}"
    for name in sender receiver; do
        monitor "$name" curling-set \
            '{"interval-ms": 3600000, "peer-timeout-ms": 2000}' > /dev/null
    done
    start recorder "$replay" record "unix:$T/recorder.sock" \
        "$(receiver_addr receiver)" "$R/session"
    poll 10 grep -qs listening "$T/recorder.out" || fail "no recorder"
    wait_count sender 3
    monitor sender stop > /dev/null
    protect sender receiver "unix:$T/recorder.sock"
    record_state
    record_round delta
    record_round full
    record_round delta
    record_round delta
    kill_process recorder TERM
    kill_vm sender
    kill_vm receiver
}

# --- One case

# assert_nothing: the receiver holds nothing, starts nothing, and still serves
assert_nothing() {
    local answer

    answer=$("$replay" held "$R/session" "$addr") || fail "no WELCOME"
    [ "$answer" = none ] || fail "WELCOME says that round $answer is held"
    wait_state receiver listening 10
    ! monitor receiver curling-failover '{"force": true}' \
        > "$T/answer" 2>&1 || fail "the guest could be started"
    grep -q 'no round is whole' "$T/answer" ||
        fail "curling-failover says $(< "$T/answer")"
    answer=$(monitor receiver query-curling --get state,rounds-committed)
    [ "$answer" = $'listening\t0' ] ||
        fail "the receiver is (with so many rounds) $answer"
    answer=$(monitor receiver query-status --get status)
    [ "$answer" = inmigrate ] || fail "its run state is $answer"
    assert_silent receiver
}

# assert_no_death: a fault was seen, and nothing is started by itself
assert_no_death() {
    local state

    if [ "$silence" -eq 1 ]; then
        wait_state receiver suspect 10
        assert_silent receiver
        monitor receiver curling-failover > /dev/null
        return
    fi
    state=$(monitor receiver query-curling --get state)
    [ "$state" = standby ] || fail "the receiver is $state"
    [[ $(monitor receiver wait-event CURLING_NOT_HANDED_OVER \
                 --run curling-failover --get data.reason) == \
       *"there is no connection to it"* ]] || fail "nobody says why not"
    assert_silent receiver
    monitor receiver curling-failover '{"force": true}' > /dev/null
}

# assert_comes_up: as the round that is held, and goes on
assert_comes_up() {
    local answer count

    wait_state receiver active 10
    answer=$(monitor receiver query-curling \
                     --get last-round.number,rounds-committed)
    [ "$answer" = "$held"$'\t'$((held + 1)) ] ||
        fail "it came up from round (of so many) $answer, not $held"
    answer=$(monitor receiver query-status --get status)
    [ "$answer" = paused ] || fail "it is $answer, not paused"
    assert_silent receiver
    dump receiver "$T/now"
    diff -r "$R/$held.ram" "$T/now.ram" ||
        fail "RAM is not that of round $held"
    cmp "$R/$held.devices" "$T/now.devices" ||
        fail "devices are not those of round $held"

    monitor receiver cont > /dev/null
    assert_counting receiver 1
    assert_no_bad receiver
    count=$(serial_first_count receiver)
    answer=$(< "$R/$held.count")
    # The first line may be the rest of one.
    if [ "$count" -le "$answer" ] || [ "$count" -gt $((answer + 2)) ]; then
        fail "it went on at $count, and had counted to $answer"
    fi
}

# run_case: send it, and look
run_case() {
    local how received text expected=sent

    spoil_blocks receiver
    [ "$silence" -eq 0 ] || monitor receiver curling-set \
        '{"peer-timeout-ms": 2000}' > /dev/null
    read -r how received text < <("$replay" send "$R/session" "$addr" \
                                            "$case") || fail "no replay"
    echo "$what: $how, received $received, expected $held${text:+, $text}"
    [ "$fault" -eq 0 ] || expected=failed
    [[ $expected != failed || $what != *HELLO* ]] || expected=closed
    if [[ $case == *:fin ]]; then
        [ "$how" = "$expected" ] || fail "it $how, not $expected"
        [ "$received" = "$held" ] || fail "RECEIVED $received, not $held"
    else
        [ "$how" = sent ] || fail "it $how: $text"
    fi

    if [ "$held" = none ]; then
        assert_nothing
        return
    fi
    [ "$fault" -eq 0 ] || assert_no_death
    assert_comes_up
}

new_receiver() {
    TRANSPORT=unix apply=lazy
    [ $((RANDOM % 2)) -eq 0 ] || TRANSPORT=tcp
    [ $((RANDOM % 4)) -ne 0 ] || apply=eager
    start_receiver receiver "${devices[@]}"
    addr=$(receiver_addr receiver)
    monitor receiver curling-set "{\"apply\": \"$apply\",
        \"close-grace-ms\": 0, \"peer-timeout-ms\": 60000}" > /dev/null
}

print_seed
R=${RECORDING-}
if [ -z "$R" ]; then
    R=$T/recording
    mkdir "$R"
    record
fi
wanted=${CASES-${SAMPLE:-70}}
[ -z "${LONG-}" ] || wanted=all
# shellcheck disable=SC2086  # as many words as there are cases
"$replay" plan "$R/session" "$RANDOM" $wanted > "$T/plan"
echo "$(wc -c < "$R/session") bytes, $(wc -l < "$T/plan") cases"

failures=0
while read -r -u 3 case held fault where; do
    [ -n "${pid[receiver]-}" ] || new_receiver
    what="$case, $where, by ${addr%%:*}, $apply"
    # Now and then, wait until it is missed.
    silence=$((RANDOM % 8 == 0 && fault))
    [ "$held" != none ] || silence=0
    set +e
    (set -e; run_case)
    status=$?
    set -e
    if [ "$status" -ne 0 ]; then
        failures=$((failures + 1))
        echo "FAILED: $what, expected $held" >&2
        cat "$T/receiver.err" >&2
        [ "$failures" -lt 10 ] || break
    fi
    if [ "$status" -ne 0 ] || [ "$held" != none ]; then
        kill_vm receiver
    fi
done 3< "$T/plan"
[ "$failures" -eq 0 ] || fail "$failures cases failed"
