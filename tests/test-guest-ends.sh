#!/bin/bash
# Fault: none; the guest itself ends: it powers off, or it panics.
# Invariant: the end of the guest is no death of its sender: the receiver ends
# as a powered-off QEMU does, with -no-shutdown it stays and says so, and it
# never starts the guest.  A guest that panics and is kept (-action
# panic=pause) stays protected, and after a takeover it is paused.
# timeout: 180
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128

# begin OPTION ARGS...: a guest that ends at a count of 120, protected
begin() {
    APPEND="$1 curling.tick=50" start_vm sender "${@:2}"
    protect sender receiver
    assert_counting sender
    [ "$(serial_count sender)" -lt 120 ] || skip "this host is too slow"
}

echo "the guest powers off, and both QEMUs end"
start_receiver receiver
begin curling.poweroff=120
event=$(monitor receiver wait-event SHUTDOWN --get data.guest)
[ "$event" = True ] || [ "$event" = true ] ||
    fail "SHUTDOWN of the receiver says guest: $event"
wait_exit sender 0
wait_exit receiver 0
[ "$(wc -c < "$T/receiver.serial")" -eq 0 ] || fail "the guest ran twice"

echo "-no-shutdown: both stay"
start_receiver receiver -no-shutdown
begin curling.poweroff=120 -no-shutdown
reason=$(monitor receiver wait-event CURLING_STATE --where data.state=listening \
                 --get data.reason)
[[ $reason == *"powered off"* ]] || fail "the receiver says: $reason"
wait_state sender stopped
[ "$(monitor sender query-status --get status)" = shutdown ] ||
    fail "the sender's guest is not shut down"
[ "$(monitor receiver query-status --get status)" = inmigrate ] ||
    fail "the receiver left inmigrate"
assert_silent receiver
kill_vm sender
kill_vm receiver

echo "a panic that ends QEMU"
start_receiver receiver -device pvpanic
begin curling.panic=120 -device pvpanic
wait_exit sender 0
wait_exit receiver 0

echo "a panic that pauses the guest"
start_receiver receiver -device pvpanic
begin curling.panic=120 -device pvpanic -action panic=pause
monitor sender poll query-status --until status=guest-panicked > /dev/null
# The state of that moment is committed, and protection goes on.
round=$(monitor sender curling-checkpoint --get round)
monitor sender poll query-curling --until "last-round.number>=$round" \
    > /dev/null
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "a panic ended the protection"
kill_vm sender
wait_state receiver active
[ "$(monitor receiver query-status --get status)" = paused ] ||
    fail "a panicked guest runs after the takeover"
assert_silent receiver
