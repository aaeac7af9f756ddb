#!/bin/bash
# Fault: the sender of a guest with a TPM dies; the state of the TPM is that of
# another process (swtpm), asked for in each pause and told at a takeover.
# Invariant: the receiver's TPM is that of the last round: what the firmware
# measured is in its registers, and the guest goes on.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/devices.sh"

requires swtpm --version

# serve NAME MODEL: a TPM of its own for NAME; its options in $tpm
serve() {
    mkdir "$T/$1.tpm"
    start "$1.swtpm" swtpm socket --tpm2 --tpmstate "dir=$T/$1.tpm" \
        --ctrl "type=unixio,path=$T/$1.swtpm"
    poll 10 test -S "$T/$1.swtpm"
    tpm=(-chardev "socket,id=tpm,path=$T/$1.swtpm"
         -tpmdev "emulator,id=tpm0,chardev=tpm" -device "$2,tpmdev=tpm0")
}

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64 MACHINE=q35
for model in tpm-tis tpm-crb; do
    serve "receiver-$model" "$model"
    start_receiver "receiver-$model" "${tpm[@]}"
    serve "sender-$model" "$model"
    start_vm "sender-$model" "${tpm[@]}"
    wait_count "sender-$model" 3
    protect "sender-$model" "receiver-$model"
    assert_counting "sender-$model" 20
    # It stays paused, so that its devices can be saved.
    monitor "sender-$model" stop > /dev/null
    round=$(monitor "sender-$model" curling-checkpoint --get round)
    monitor "receiver-$model" poll query-curling \
        --until "last-round.number>=$round" > /dev/null
    save_devices "sender-$model" "$T/saved"
    kill_vm "sender-$model"
    wait_state "receiver-$model" active
    save_devices "receiver-$model" "$T/loaded"
    same_devices "$T/saved" "$T/loaded" || fail "the devices differ"
    grep -qa tpm-emulator "$T/saved" || fail "no TPM is saved"
    monitor "receiver-$model" cont > /dev/null
    assert_counting "receiver-$model"
    assert_no_bad "sender-$model"
    assert_no_bad "receiver-$model"
done
