#!/bin/bash
# Fault: the sender is killed while the receiver loads the devices of each
# round (apply=eager): between rounds, in the middle of one, before RECEIVED
# comes back, and during a load; with delta and with full rounds.
# Invariant: devices that were loaded a hundred times are those of the round
# that is taken over from, and the guest goes on with them.
# timeout: 120
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

machine_args=(-device VGA -netdev "user,id=net0"
              -device "virtio-net-pci,netdev=net0" -device virtio-rng-pci
              -device qemu-xhci -device usb-tablet)
receiver_settings='{"apply": "eager"}'
start_sender
for when in now mid-round=any before=RECEIVED after=RECEIVED before=APPLIED; do
    for rounds in delta full; do
        next_link
        monitor "$sender" curling-set "{\"rounds\": \"$rounds\"}" > /dev/null
        commit_round
        until [ "$(forwarded '<' APPLIED)" -ge 20 ]; do
            commit_round
        done
        proxy_faults "$when" "kill=${pid[$sender]}" cut
        wait_exit "$sender" 137
        assert_taken_over
        [ "$(monitor "$receiver" query-status --get status)" = running ] ||
            fail "the guest does not run"
        take_place
    done
done
