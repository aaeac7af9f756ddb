#!/bin/bash
# Fault: the link is so slow that a round takes several times peer-timeout-ms.
# Invariant: that is no silence: beats find their way, the guest stays
# protected and is not paused for it, and a takeover is from the last round.
# timeout: 120
# shellcheck disable=SC2034  # of functions.sh
TRANSPORT=tcp GUEST=boot-sector RAM_MB=64
source "$(dirname "$0")/functions.sh"
source "$top/tests/network.sh"

start_namespace network
within network ip link set lo mtu 1500
requires nsenter --net="/proc/${pid[network]}/ns/net" \
    tc qdisc add dev lo root tbf rate 4mbit burst 16k latency 200ms

# A round has more than half a MiB: more than a second on this link.
vm_within network receiver -incoming "$(receiver_uri receiver)"
vm_within network sender -D "$T/states" -trace curling_state
wait_count sender 3
for name in sender receiver; do
    monitor "$name" curling-set \
        '{"peer-timeout-ms": 400, "close-grace-ms": 0}' > /dev/null
done
protect sender receiver
monitor sender poll query-curling --timeout 60 --until "rounds-committed>=8" \
    > /dev/null || fail "no eight rounds: $(< "$T/states")"
ship_us=$(monitor sender query-curling --get last-round.ship-us)
[ "$ship_us" -gt 800000 ] || fail "a round took $ship_us us: the link is fast"
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
