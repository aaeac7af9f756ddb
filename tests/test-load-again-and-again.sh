#!/bin/bash
# Fault: a receiver loads device state again and again (apply=eager, rounds
# without a break), and each load leaves something behind.
# Invariant: the receiver's memory, threads and descriptors do not grow, and
# the takeover after it is as good as any.
# LONG=1: 3,000 loads for each machine instead of 200.
# timeout: 300
# long-timeout: 900
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/devices.sh"

# Buffers and caches grow to their size: once, by 4 to 9 MiB in all, somewhere
# in the first 800 loads; from 850 to 2,950 it was 168 KiB.  What is left behind
# by each load grows each time that we look.
warm_up=150             # loads
loads=200
[ -z "${LONG-}" ] || warm_up=1000 loads=3000
looks=4
grow_kib=2048           # some 10 KiB a load, with LONG 700 octets

# has_loaded N: device state was loaded N times
has_loaded() { [ "$(grep -c curling_loaded "$T/loads")" -ge "$1" ]; }

# measure LOADS: set $kib, $threads and $descriptors of the receiver then
measure() {
    local proc=/proc/${pid[receiver]}

    poll $((30 + $1 / 10)) has_loaded "$1" ||
        fail "only $(grep -c curling_loaded "$T/loads") loads, not $1"
    # Without the guest's RAM, which is shared here
    kib=$(awk '/^RssAnon/ { print $2 }' "$proc/status")
    threads=$(find "$proc/task" -mindepth 1 -maxdepth 1 | wc -l)
    descriptors=$(find "$proc/fd" -mindepth 1 -maxdepth 1 | wc -l)
    echo "after $1 loads: $kib KiB, $threads threads, $descriptors descriptors"
}

# again_and_again MACHINE
again_and_again() {
    local kib threads descriptors warm before look

    echo "$1"
    # shellcheck disable=SC2034  # of start_vm
    GUEST=boot-sector RAM_MB=64
    use_devices "$1"
    # shellcheck disable=SC2034  # of start_vm
    MACHINE=$1,memory-backend=mem
    devices+=(-object "memory-backend-memfd,id=mem,size=${RAM_MB}M,share=on")
    start_vm sender "${devices[@]}"
    start_receiver receiver "${devices[@]}" -D "$T/loads" -trace curling_loaded
    monitor receiver curling-set '{"apply": "eager"}' > /dev/null
    monitor sender curling-set '{"interval-ms": 0}' > /dev/null
    wait_count sender 1
    protect sender receiver

    measure $warm_up
    warm=("$kib" "$threads" "$descriptors")
    for ((look = 1; look <= looks; look++)); do
        before=$kib
        measure $((warm_up + look * loads))
        [ "$kib" -gt $((before + grow_kib)) ] || break
    done
    [ "$look" -le "$looks" ] ||
        fail "memory grew from ${warm[0]} to $kib KiB, by more than" \
             "$grow_kib KiB in each $loads loads"
    # Threads that wait for disks come and go.
    [ "$threads" -le $((warm[1] + 4)) ] ||
        fail "threads grew from ${warm[1]} to $threads"
    [ "$descriptors" -le "${warm[2]}" ] ||
        fail "descriptors grew from ${warm[2]} to $descriptors"

    assert_silent receiver
    kill_vm sender
    wait_state receiver active
    assert_counting receiver 10
    assert_no_bad receiver
    kill_vm receiver
    rm "$T/loads"
}

again_and_again pc
again_and_again q35
