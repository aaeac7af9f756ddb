#!/bin/bash
# Fault: the sender of a guest with a TPM dies; the state of the TPM is that of
# another process (swtpm), asked for in each pause and told at each load.
# Invariant: the receiver's TPM is that of the last round: what the firmware
# measured is in its registers, and the guest goes on; the same with a device
# state that is loaded after each round, and at the next takeover.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/devices.sh"
source "$(dirname "$0")/ram.sh"

requires swtpm --version

# serve NAME MODEL: a TPM of its own for NAME; its options in $tpm
serve() {
    rm -rf "$T/$1.tpm"
    mkdir "$T/$1.tpm"
    start "$1.swtpm" swtpm socket --tpm2 --tpmstate "dir=$T/$1.tpm" \
        --ctrl "type=unixio,path=$T/$1.swtpm"
    poll 10 test -S "$T/$1.swtpm"
    # The RTC is not to go on with the host's clock in a stopped guest.
    tpm=(-rtc "clock=vm" -chardev "socket,id=tpm,path=$T/$1.swtpm"
         -tpmdev "emulator,id=tpm0,chardev=tpm" -device "$2,tpmdev=tpm0")
}

# take_over OLD NEW MODEL APPLY: and go on, with the same devices
take_over() {
    local round

    serve "$2" "$3"
    start_receiver "$2" "${tpm[@]}"
    monitor "$2" curling-set "{\"apply\": \"$4\"}" > /dev/null
    protect "$1" "$2"
    assert_counting "$1" 20
    # It stays paused, so that its devices can be saved.
    monitor "$1" stop > /dev/null
    round=$(monitor "$1" curling-checkpoint --get round)
    wait_applied "$2" "$round"
    save_devices "$1" "$T/saved"
    grep -qa tpm-emulator "$T/saved" || fail "no TPM is saved"
    kill_vm "$1"
    wait_state "$2" active
    save_devices "$2" "$T/loaded"
    same_devices "$T/saved" "$T/loaded" || fail "the devices of $2 differ"
    monitor "$2" cont > /dev/null
    assert_counting "$2"
    assert_no_bad "$1"
    assert_no_bad "$2"
}

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64 MACHINE=q35
for model in tpm-tis tpm-crb; do
    serve "$model-0" "$model"
    start_vm "$model-0" "${tpm[@]}"
    wait_count "$model-0" 3
    take_over "$model-0" "$model-1" "$model" lazy
    take_over "$model-1" "$model-2" "$model" eager
    kill_vm "$model-2"
done
