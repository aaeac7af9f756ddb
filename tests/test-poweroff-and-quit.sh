#!/bin/bash
# Fault: none; somebody ends a QEMU of a protected pair: quit, SIGTERM, or the
# guest's own end, between rounds, in one, or before the first is whole.
# Invariant: the end of the sender is no death: the receiver does not start a
# guest but listens again, and protects the next.  The end of the receiver
# costs the sender its protection and nothing else.
# timeout: 240
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128

# by_quit NAME, by_term NAME, by_guest NAME: end it
by_quit() {
    # It may be gone before it has answered.
    monitor "$1" quit > /dev/null 2>&1 || true
    wait_exit "$1" 0
}

by_term() {
    kill -TERM "${pid[$1]}"
    wait_exit "$1" 0
}

# As a guest that powers off: with -no-reboot a reset is the end.
by_guest() {
    monitor "$1" system_reset > /dev/null 2>&1 || true
    wait_exit "$1" 0
}

# end_sender HOW SETTINGS: start one, protect its guest, end it
end_sender() {
    start_vm sender -no-reboot
    wait_count sender 2
    protect sender receiver
    monitor sender curling-set "$2" > /dev/null
    assert_counting sender
    "by_$1" sender
    listens_again "$1 with $2"
    assert_no_bad sender
}

# listens_again AFTER: the receiver forgot the guest
listens_again() {
    wait_state receiver listening
    [ "$(monitor receiver query-status --get status)" = inmigrate ] ||
        fail "the receiver left inmigrate after $1"
    assert_silent receiver
}

start_receiver receiver
end_sender quit '{"interval-ms": 100}'
end_sender term '{"interval-ms": 100}'
end_sender guest '{"interval-ms": 100}'
end_sender quit '{"interval-ms": 0}'
end_sender term '{"interval-ms": 0, "rounds": "full"}'
# A round that takes a minute
end_sender quit '{"rounds": "full", "max-bandwidth": 1000000}'
end_sender term '{"rounds": "full", "max-bandwidth": 100000}'

# In the first round, which will take long
start_vm sender
monitor sender curling-set '{"max-bandwidth": 1000000}' > /dev/null
wait_count sender 2
addr=$(receiver_addr receiver)
monitor sender migrate "{\"uri\": \"curling:$addr\"}" > /dev/null
wait_state receiver syncing
by_quit sender
listens_again "quit in the first round"

# Now the receiver, twice
start_vm sender
monitor sender curling-set '{"reconnect-ms": 100}' > /dev/null
wait_count sender 2
for how in quit term; do
    protect sender receiver
    assert_counting sender
    "by_$how" receiver
    wait_state sender unprotected
    assert_counting sender
    # The next receiver is found where the last one was.
    start_receiver receiver
    wait_state sender protected
    wait_state receiver standby
    monitor sender migrate_cancel > /dev/null
    wait_state sender stopped
    wait_state receiver listening
done
assert_no_bad sender
assert_silent receiver
kill_vm sender TERM
kill_vm receiver TERM
