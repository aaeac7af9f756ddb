#!/bin/bash
# Fault: the sender is killed; its guest's RAM is anonymous, a memfd or a file,
# private or shared, or reaches beyond the hole below 4 GiB.
# Invariant: all RAM is the same at both sides, and the guest goes on with it.
# One file that both sides share would be written to by the receiver while the
# guest runs in it: that is refused, and so is RAM that is read-only.
# LONG=1: all RAM is compared there as well.
# timeout: 300
# long-timeout: 900
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"

# try MACHINE: a takeover; with the options $sender_memory, $receiver_memory
try() {
    MACHINE=$1
    start_receiver receiver ${receiver_memory+"${receiver_memory[@]}"}
    start_vm sender ${sender_memory+"${sender_memory[@]}"}
    monitor sender curling-set '{"interval-ms": 10}' > /dev/null
    wait_count sender 3
    protect sender receiver
    assert_counting sender 10
    if [ "$RAM_MB" -lt 1024 ] || [ -n "${LONG-}" ]; then
        same_ram sender receiver "with $1"
        monitor sender cont > /dev/null
        assert_counting sender 10
    fi
    kill_vm sender
    wait_state receiver active
    # The guest looks at all of its pages in 25 counts.
    wait_count receiver $(($(serial_count sender) + 30))
    assert_no_bad sender
    assert_no_bad receiver
    kill_vm receiver
}

# backend SENDER [RECEIVER]: try with RAM of this kind
backend() {
    echo "$*"
    sender_memory=(-object "memory-backend-$1,id=mem,size=${RAM_MB}M")
    receiver_memory=(-object "memory-backend-${2:-$1},id=mem,size=${RAM_MB}M")
    try pc,memory-backend=mem
}

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128
APPEND="curling.mb=32 curling.tick=20 curling.pages=300 curling.verify=500"
backend ram
backend memfd,share=on memfd,share=off
backend memfd,share=off memfd,share=on
backend "file,share=on,mem-path=$T/ram1" "file,share=on,mem-path=$T/ram2"
backend "file,share=off,mem-path=$T/ram1" ram

echo "more than 4 GiB, the guest's pages above the hole"
sender_memory=() receiver_memory=() RAM_MB=4608
try pc
above=$(sed -n 's/^curling-guest ready .* at=\([0-9]*\)MiB.*/\1/p' \
    "$T/sender.serial")
[ "$above" -ge 4096 ] || fail "the guest's pages are at $above MiB"
[ -z "${LONG-}" ] || try q35

# The lock that a process has on its RAM goes with it.
echo "one file for both"
RAM_MB=128 MACHINE=pc,memory-backend=mem
shared=(-object "memory-backend-file,id=mem,size=128M,share=on,mem-path=$T/ram1")
start_vm sender "${shared[@]}"
start_receiver receiver "${shared[@]}"
wait_count sender 3
refuses sender migrate "{\"uri\": \"curling:$(receiver_addr receiver)\"}" \
    "is shared with another QEMU"
assert_counting sender
assert_no_bad sender
kill_vm receiver
monitor sender migrate '{"uri": "curling:tcp:127.0.0.1:1"}' > /dev/null
wait_state sender failed
TRANSPORT=tcp
start refused "$QEMU" -nodefaults -display none -machine "$MACHINE" -m 128 \
    "${shared[@]}" -incoming "$(receiver_uri refused)"
wait_exit refused 1
grep -q "is shared with another QEMU" "$T/refused.err" ||
    fail "a receiver in the sender's memory says: $(< "$T/refused.err")"
assert_counting sender
assert_no_bad sender
kill_vm sender

echo "read-only"
truncate -s 64M "$T/nvdimm"
MACHINE=pc,nvdimm=on RAM_MB=128,slots=1,maxmem=1G
nvdimm=(-object "memory-backend-file,id=nv,readonly=on,share=on,size=64M,\
mem-path=$T/nvdimm" -device "nvdimm,memdev=nv,unarmed=on")
start_vm sender "${nvdimm[@]}"
refuses sender migrate '{"uri": "curling:tcp:127.0.0.1:1"}' \
    "RAM block nv is read-only"
start readonly "$QEMU" -nodefaults -display none -machine "$MACHINE" \
    -m "$RAM_MB" "${nvdimm[@]}" -incoming "$(receiver_uri readonly)"
wait_exit readonly 1
grep -q "RAM block nv is read-only" "$T/readonly.err" ||
    fail "a receiver with read-only RAM says: $(< "$T/readonly.err")"
