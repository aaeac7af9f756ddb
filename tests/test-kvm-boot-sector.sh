#!/bin/bash
# Fault: the sender dies, and the guest is one of KVM's, whose registers,
# interrupt controllers, timer and dirty log are the kernel's.
# Invariant: the smallest of guests counts on at the receiver, its memory as it
# was left, with delta and with full rounds, paced and without a break between
# rounds; each receiver is the next sender.  And so it is under TCG.
#
# Where there is no KVM, that half is skipped, and so is the test.
# timeout: 240
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64

# hand_over OLD NEW ROUNDS INTERVAL_MS: protect, kill, see the guest go on
hand_over() {
    local old=$1 new=$2 first last

    start_receiver "$new"
    monitor "$old" curling-set "{\"rounds\": \"$3\", \"interval-ms\": $4}" \
        > /dev/null
    protect "$old" "$new"
    assert_counting "$old" 15
    assert_silent "$new"
    kill_vm "$old"

    wait_state "$new" active
    last=$(serial_count "$old")
    wait_count "$new" $((last + 15))
    assert_no_bad "$old"
    assert_no_bad "$new"
    first=$(serial_first_count "$new")
    if [ "$first" -lt 3 ] || [ "$first" -gt $((last + 1)) ]; then
        fail "the guest of $new went on at $first, $old ended at $last"
    fi
}

# chain ACCEL
chain() {
    ACCEL=$1
    start_vm "$1-0"
    wait_count "$1-0" 3
    hand_over "$1-0" "$1-1" delta 20
    hand_over "$1-1" "$1-2" full 20
    hand_over "$1-2" "$1-3" delta 0
    kill_vm "$1-3"
}

chain tcg
if ! { : <> /dev/kvm; } 2> /dev/null; then
    skip "/dev/kvm cannot be opened"
fi
chain kvm
