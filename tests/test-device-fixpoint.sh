#!/bin/bash
# Fault: a device is not what it was once its state was loaded; or it cannot
# migrate at all.
# Invariant: the state that a machine saves after a takeover is byte for byte
# what its sender had saved, for all devices that can migrate, in use and not,
# loaded once or many times over, and at the next takeover again.  Devices that
# cannot migrate are refused by name before a round.
# timeout: 180
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"
source "$(dirname "$0")/devices.sh"

# hand_over OLD NEW: stop the guest, and have NEW take over from that very
# state.  It stays paused, so that its devices can be saved.
hand_over() {
    monitor "$1" curling-set '{"interval-ms": 10}' > /dev/null
    protect "$1" "$2"
    monitor "$1" poll query-curling --until "rounds-committed>=$rounds" \
            > /dev/null || fail "no $rounds rounds"
    same_ram "$1" "$2" "before the takeover of $2"
    save_devices "$1" "$T/saved"
    monitor "$2" curling-failover '{"force": true}' > /dev/null
    wait_state "$2" active
    save_devices "$2" "$T/loaded"
    same_devices "$T/saved" "$T/loaded" || fail "the devices of $2 differ"
    kill_vm "$1"
}

# fixpoint MACHINE GUEST APPLY
fixpoint() {
    echo "$1, $2, apply=$3"
    GUEST=$2
    use_devices "$1"
    start_vm sender "${devices[@]}"
    start_receiver receiver "${devices[@]}"
    monitor receiver curling-set "{\"apply\": \"$3\"}" > /dev/null
    wait_count sender 3
    hand_over sender receiver

    # What was loaded is saved as well: the next one, with a guest that ran on.
    monitor receiver cont > /dev/null
    assert_counting receiver
    start_receiver next "${devices[@]}"
    hand_over receiver next
    monitor next cont > /dev/null
    assert_counting next
    assert_no_bad next
    kill_vm next
}

# refused MACHINE NAME ARGS...: migrate says that this device cannot
refused() {
    local name=$2

    GUEST=boot-sector MACHINE=$1 start_vm refused "${@:3}"
    refuses refused migrate '{"uri": "curling:tcp:127.0.0.1:1"}' \
        "State blocked by non-migratable device"
    refuses refused migrate '{"uri": "curling:tcp:127.0.0.1:1"}' "$name"
    kill_vm refused
}

RAM_MB=128 rounds=30
fixpoint pc boot-sector lazy
fixpoint q35 boot-sector eager
SMP=2 fixpoint q35 linux lazy
if [ -n "${LONG-}" ]; then
    fixpoint q35 boot-sector lazy
    fixpoint pc boot-sector eager
    SMP=2 fixpoint pc linux eager
fi

refused q35 nvme -device "nvme,serial=x"
refused q35 amd-iommu -device amd-iommu
refused pc usb-wacom -usb -device usb-wacom-tablet
