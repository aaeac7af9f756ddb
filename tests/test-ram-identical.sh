#!/bin/bash
# Fault: a page or a device is forgotten by a round, or comes too late.
# Invariant: at a committed round, guest RAM and device state of the receiver
# are byte for byte those of the sender, with delta and with full rounds,
# however they are compressed; also where that changes from round to round
# ("mixed"), rounds are lost in between, and the receiver loads each of them
# (apply=eager).
#
# The guest is stopped and a round of it forced; then the receiver takes over
# as it was told: paused.  Both sides are dumped and compared.
# timeout: 300
source "$(dirname "$0")/functions.sh"

# dump NAME: RAM and device state of a stopped machine
dump() {
    local name=$1

    # Twice the size: what is mapped behind the 3 GiB hole is not there, and
    # what is shadowed below 1 MiB is.
    monitor "$name" pmemsave \
        "{\"val\": 0, \"size\": $((RAM_MB << 20)), \"filename\": \"$T/$name.ram\"}" \
        --timeout 60 > /dev/null
    monitor "$name" xen-save-devices-state \
        "{\"filename\": \"$T/$name.devices\", \"live\": true}" > /dev/null
}

# mix SENDER RECEIVER: change what rounds are like, again and again, and leave
# the connection now and then
mix() {
    local compress rounds cache

    monitor "$2" curling-set '{"apply": "eager"}' > /dev/null
    for cache in 0 $((4 << 20)) 0; do
        for rounds in delta full delta; do
            for compress in delta auto none zstd delta; do
                monitor "$1" curling-set "{\"rounds\": \"$rounds\",
                    \"compress\": \"$compress\",
                    \"delta-cache-bytes\": $cache}" > /dev/null
                next_rounds "$1" 3
            done
        done
        monitor "$1" yank '{"instances": [{"type": "migration"}]}' > /dev/null
        wait_state "$1" protected
    done
    monitor "$1" curling-set '{"rounds": "delta", "compress": "delta"}' \
        > /dev/null
    next_rounds "$1" 5
}

# next_rounds SENDER N: until N more are committed
next_rounds() {
    local count

    count=$(monitor "$1" query-curling --get rounds-committed)
    monitor "$1" poll query-curling --until "rounds-committed>=$((count + $2))" \
        > /dev/null || fail "$1 commits no rounds"
}

# compare MACHINE ROUNDS SMP COMPRESS
compare() {
    local sender=sender-$1-$2-$4 receiver=receiver-$1-$2-$4 round

    MACHINE=$1 SMP=$3 start_receiver "$receiver" "${devices[@]}"
    MACHINE=$1 SMP=$3 start_vm "$sender" "${devices[@]}"
    monitor "$sender" curling-set "{\"rounds\": \"$2\", \"interval-ms\": 20,
        \"compress\": \"${4/mixed/none}\"}" > /dev/null
    wait_count "$sender" 5
    protect "$sender" "$receiver"
    assert_counting "$sender" 10
    [ "$4" != mixed ] || mix "$sender" "$receiver"

    monitor "$sender" stop > /dev/null
    round=$(monitor "$sender" curling-checkpoint --get round)
    monitor "$receiver" poll query-curling --until "last-round.number>=$round" \
        > /dev/null || fail "round $round was never applied"
    [ "$(monitor "$sender" query-curling --get last-round.kind)" = "$2" ] ||
        fail "the last round was no $2 round"
    assert_silent "$receiver"
    monitor "$receiver" curling-failover '{"force": true}' > /dev/null
    wait_state "$receiver" active
    [ "$(monitor "$receiver" query-status --get status)" = paused ] ||
        fail "a guest that was stopped runs after the takeover"

    dump "$sender"
    dump "$receiver"
    cmp "$T/$sender.ram" "$T/$receiver.ram" || fail "RAM differs"
    cmp "$T/$sender.devices" "$T/$receiver.devices" ||
        fail "device state differs"
    rm "$T"/*.ram

    # It is a guest, not only its image: it goes on.
    kill_vm "$sender"
    monitor "$receiver" cont > /dev/null
    assert_counting "$receiver" 20
    assert_no_bad "$receiver"
    kill_vm "$receiver"
}

# By default the RTC goes on with the host's clock in a stopped guest, and would
# differ between two dumps of the same one.
devices=(-rtc "clock=vm" -device VGA -netdev "user,id=net0"
         -device "virtio-net-pci,netdev=net0"
         -device virtio-rng-pci -device qemu-xhci -device usb-tablet)
RAM_MB=256
compare pc delta 1 none
compare pc delta 1 delta
compare pc delta 1 zstd
compare pc delta 1 mixed
compare pc full 1 zstd
compare pc full 1 none
compare q35 delta 2 none
compare q35 delta 2 auto
compare q35 delta 2 delta
compare q35 full 2 none
