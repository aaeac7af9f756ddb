#!/bin/bash
# Fault: the sender dies while its guest sleeps (suspended to RAM).
# Invariant: rounds neither wake the guest nor let go of it; it sleeps at the
# receiver as it did, and counts on where it was when it is woken.
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.tick=50 curling.sleep=80"
start_receiver receiver
start_vm sender
protect sender receiver
monitor sender poll query-status --until status=suspended > /dev/null
first=$(monitor sender curling-checkpoint --get round)
monitor sender poll query-curling --until "last-round.number>=$((first + 20))" \
    > /dev/null
count=$(serial_count sender)
kill_vm sender

wait_state receiver active
[ "$(monitor receiver query-status --get status)" = suspended ] ||
    fail "the guest does not sleep after the takeover"
assert_silent receiver
monitor receiver system_wakeup > /dev/null
wait_count receiver $((count + 20))
assert_no_bad sender
assert_no_bad receiver
first=$(serial_first_count receiver)
[ "$first" -ge "$count" ] || fail "went to sleep at $count, woke at $first"
