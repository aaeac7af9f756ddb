#!/bin/bash
# Fault: the receiver is another machine than the sender, or speaks another
# version of Curling.
# Invariant: it is refused at HELLO, before a byte of RAM; both sides say in
# the same words what the sender has and what the receiver has; the sender's
# state is failed, it does not try again, and its guest goes on.
# timeout: 120
source "$(dirname "$0")/functions.sh"

RAM_MB=128 APPEND="curling.mb=32"
sender_args=(-device "VGA,vgamem_mb=16" -device virtio-rng-pci)

# assert_refused WHAT TEXT: both sides say so, and nothing else happened
assert_refused() {
    local side

    wait_state sender failed
    for side in sender receiver; do
        [[ $(monitor "$side" query-curling --get last-error) == *"$2"* ]] ||
            fail "$1: the $side says" \
                 "$(monitor "$side" query-curling --get last-error)"
    done
    [ "$(monitor sender query-migrate --get status)" = failed ] ||
        fail "$1: query-migrate does not say failed"
    [ "$(monitor receiver query-curling --get state,memory-bytes.peak)" = \
      $'listening\t0' ] || fail "$1: the receiver took something"
    assert_silent receiver
}

# refused TEXT ARGS...: a receiver with these arguments is
refused() {
    local text=$1

    shift
    start_receiver receiver "$@"
    monitor sender migrate "{\"uri\": \"curling:${proxy_addr[link]}\"}" \
        > /dev/null
    assert_refused "$*" "$text"
    kill_vm receiver TERM
    cases=$((cases + 1))
}

start_vm sender "${sender_args[@]}"
start_proxy link "unix:$T/receiver.curling"
wait_count sender 2
cases=0

MACHINE=q35 \
    refused "machine differs: the sender has pc-i440fx-10.0, the receiver has \
pc-q35-10.0" "${sender_args[@]}"
MACHINE=pc-i440fx-9.2 \
    refused "the receiver has pc-i440fx-9.2" "${sender_args[@]}"
refused "cpu differs: the sender has qemu64-x86_64-cpu, the receiver has \
Nehalem-x86_64-cpu" "${sender_args[@]}" -cpu Nehalem
refused "the sender has cpu/pni on, the receiver has none" \
        "${sender_args[@]}" -cpu qemu64,-sse3
refused "the receiver has cpu/aes on, the sender has none" \
        "${sender_args[@]}" -cpu qemu64,+aes
refused "cpu/stepping differs: the sender has 1, the receiver has 7" \
        "${sender_args[@]}" -cpu qemu64,stepping=7
refused "cpu/model-id differs: the sender has QEMU Virtual CPU version 2.5+, \
the receiver has Other" "${sender_args[@]}" -cpu qemu64,model-id=Other
SMP=2 refused "cpus differs: the sender has 1, the receiver has 2" \
        "${sender_args[@]}"
SMP=1,maxcpus=2 \
    refused "cpu-topology differs: the sender has sockets=1,dies=1,modules=1,\
cores=1,threads=1,maxcpus=1, the receiver has " "${sender_args[@]}"
RAM_MB=192 \
    refused "ram/pc.ram differs: the sender has 134217728, the receiver has \
201326592" "${sender_args[@]}"
refused "/vga.vram differs: the sender has 16777216, the receiver has \
33554432" -device VGA,vgamem_mb=32 -device virtio-rng-pci
RAM_MB=128,slots=1,maxmem=1G \
    refused "the receiver has ram/more 67108864, the sender has none" \
        "${sender_args[@]}" -object memory-backend-ram,id=more,size=64M \
        -device pc-dimm,memdev=more
refused "/virtio-rng/0 version 1, the receiver has none" "${sender_args[@]:0:2}"
refused "/virtio-balloon/0 version 1, the sender has none" \
        "${sender_args[@]}" -device virtio-balloon-pci
if { true <> /dev/kvm; } 2> /dev/null; then
    ACCEL=kvm refused "accelerator differs: the sender has tcg, the receiver \
has KVM" "${sender_args[@]}"
else
    echo "without the accelerator: /dev/kvm does not open"
fi

# Each of them got a HELLO, answered with REJECT, and nothing else.
[ "$(grep -c ' > HELLO ' "$T/link.log")" -eq "$cases" ] ||
    fail "not one HELLO for each of $cases refusals"
[ "$(grep -c ' < REJECT ' "$T/link.log")" -eq "$cases" ] ||
    fail "not one REJECT for each of $cases refusals"
! grep ' > ' "$T/link.log" | grep -v -e HELLO -e HEARTBEAT ||
    fail "a sender that was refused sent this"

# What no command line makes: another version of a device and of Curling.
# answered KIND TEXT: somebody else gets HELLO once, answers, is understood
answered() {
    start "answer$1" "$top/tests/peer" answer "unix:$T/answer$1" "$T/hello" \
        "$1" "no such luck"
    poll 10 grep -qs listening "$T/answer$1.out" || fail "nobody answers"
    monitor sender migrate "{\"uri\": \"curling:unix:$T/answer$1\"}" \
        > /dev/null
    wait_state sender failed
    [[ $(monitor sender query-curling --get last-error) == *"$2"* ]] ||
        fail "$1: the sender says" \
             "$(monitor sender query-curling --get last-error)"
}

monitor sender curling-set '{"reconnect-ms": 10}' > /dev/null
answered FINAL "the receiver refuses: no such luck"
answered VERSION "frame of wire version 2, expected 1"

# crafted OLD NEW TEXT: a HELLO with that change is refused
crafted() {
    "$top/tests/peer" change "$T/hello" "$1" "$2" |
        "$top/tests/peer" say "unix:$T/receiver.curling" /dev/stdin > "$T/said"
    [[ $(< "$T/said") == "REJECT "*"$3"* ]] ||
        fail "$2: the answer is $(< "$T/said")"
    [[ $(monitor receiver query-curling --get last-error) == *"$3"* ]] ||
        fail "$2: the receiver says" \
             "$(monitor receiver query-curling --get last-error)"
    [ "$(monitor receiver query-curling --get state)" = listening ] ||
        fail "$2: the receiver does not listen any more"
}

# The receiver need not check its CPU as the sender did.
start_receiver receiver "${sender_args[@]}" -cpu qemu64,check=off
crafted version 2 "frame of wire version 2, expected 1"
crafted virtio-rng/0=version\ 1 virtio-rng/0=version\ 7 \
    "virtio-rng/0 differs: the sender has version 7, the receiver has version 1"
crafted virtio-rng/0 virtio-rng/1 \
    "virtio-rng/1 version 1, the receiver has none"
# Nobody's terminal is to obey what a stranger sends.
crafted machine= $'machine=\e[31m' "machine differs: the sender has ?[31m"

# The guest never minded, and its like is welcome.
assert_counting sender
[ "$(cat "$T"/answer*.out | grep -c HELLO)" -eq 2 ] ||
    fail "a sender that was refused for good came back"
protect sender receiver "${proxy_addr[link]}"
assert_counting sender
assert_no_bad sender
assert_silent receiver
