#!/bin/bash
# Assumption: a machine reset in INMIGRATE, after device state was loaded,
# changes no block of RAM, neither main memory nor ROMs nor a screen's.
#
# The receiver resets its machine between any two loads of device state, and
# never applies again what was there before.  A reset that puts ROM images or
# tables back in place would leave a guest that nobody has seen until the
# takeover.  So: all blocks of a receiver in standby against those of its
# stopped sender, after the trial load that follows the first round, and after
# hundreds of loads and resets (apply=eager).
# timeout: 240
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"

eager_rounds=200

# try_machine MACHINE
try_machine() {
    MACHINE=$1
    start_receiver receiver "${devices[@]}" -D "$T/loads" \
        -trace curling_loaded
    start_vm sender "${devices[@]}"
    wait_count sender 3

    # A guest that stands still, and one round: one load, one reset
    monitor sender stop > /dev/null
    monitor sender curling-set '{"interval-ms": 3600000}' > /dev/null
    protect sender receiver
    wait_applied receiver 0
    same_blocks sender receiver "after the trial load ($1)"

    monitor receiver curling-set '{"apply": "eager"}' > /dev/null
    monitor sender curling-set '{"interval-ms": 0}' > /dev/null
    monitor sender cont > /dev/null
    monitor sender poll query-curling --timeout 60 \
            --until "rounds-committed>=$eager_rounds" > /dev/null ||
        fail "no $eager_rounds rounds with apply=eager"
    same_ram sender receiver "after $eager_rounds loads and resets ($1)"
    [ "$(grep -c curling_loaded "$T/loads")" -ge $((eager_rounds / 2)) ] ||
        fail "devices were loaded only" \
             "$(grep -c curling_loaded "$T/loads") times"

    assert_silent receiver
    kill_vm sender
    kill_vm receiver
}

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 SMP=2
devices=(-device VGA -netdev "user,id=net0"
         -device "virtio-net-pci,netdev=net0" -device virtio-rng-pci
         -device qemu-xhci -device usb-tablet)
try_machine pc
try_machine q35
