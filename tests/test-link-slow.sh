#!/bin/bash
# Fault: the link is so slow that a round takes longer than peer-timeout-ms.
# Invariant: that is no silence: beats find their way, the guest stays
# protected and is not paused for it, and a takeover is from the last round.
# timeout: 180
# shellcheck disable=SC2034  # of functions.sh
TRANSPORT=tcp GUEST=boot-sector RAM_MB=64
source "$(dirname "$0")/functions.sh"
source "$top/tests/network.sh"

# What the sender sends waits for up to two seconds, and nothing is dropped.
start_namespace here
start_namespace there
within here ip link add wire type veth peer name wire netns "${pid[there]}"
within here ip addr add 10.99.0.1/24 dev wire
within there ip addr add 10.99.0.2/24 dev wire
within here ip link set wire up
within there ip link set wire up
requires nsenter --net="/proc/${pid[here]}/ns/net" \
    tc qdisc add dev wire root tbf rate 3mbit burst 16k latency 2s

# A round has more than half a MiB: one and a half seconds on this link.
vm_within there receiver -incoming "curling:tcp:10.99.0.2:0"
vm_within here sender -D "$T/states" -trace curling_state
wait_count sender 3
for name in sender receiver; do
    monitor "$name" curling-set \
        '{"peer-timeout-ms": 1000, "close-grace-ms": 0}' > /dev/null
done
protect sender receiver
monitor sender poll query-curling --timeout 90 --until "rounds-committed>=8" \
    > /dev/null || fail "no eight rounds: $(< "$T/states")"
ship_us=$(monitor sender query-curling --get last-round.ship-us)
[ "$ship_us" -gt 1000000 ] || fail "a round took $ship_us us: the link is fast"
! grep 'curling_state.*unprotected' "$T/states" ||
    fail "a slow link is taken for silence"
pause_us=$(monitor sender query-curling --get pause-us.max)
[ "$pause_us" -lt $((ship_us / 2)) ] ||
    fail "the guest was paused for $pause_us us"
count=$(serial_count sender)
monitor sender poll query-curling --timeout 60 --until "rounds-committed>=12" \
    > /dev/null || fail "no twelve rounds"
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad sender
assert_no_bad receiver
[ "$(serial_first_count receiver)" -gt "$count" ] ||
    fail "the receiver went on from a round before count $count"
