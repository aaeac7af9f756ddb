#!/bin/bash
# Fault: five machines die one after the other, each soon after it took the
# guest over from the one before and found a new receiver.
# Invariant: what took over can be protected as what was started fresh; its
# guest, with 2 vCPUs, counts on through all of it with its memory intact, and
# each takeover goes back no further than to a round of the last session.
# timeout: 240
source "$(dirname "$0")/functions.sh"

links=5
# shellcheck disable=SC2034  # of start_vm
RAM_MB=160 SMP=2 APPEND="curling.mb=32 curling.verify=1000"
devices=(-device VGA -netdev "user,id=net0"
         -device "virtio-net-pci,netdev=net0" -device virtio-rng-pci
         -device qemu-xhci -device usb-tablet)

start_vm node0 "${devices[@]}"
wait_count node0 3
for ((i = 1; i <= links; i++)); do
    old=node$((i - 1)) new=node$i

    start_receiver "$new" "${devices[@]}"
    if [ $((i % 2)) -eq 0 ]; then
        monitor "$old" curling-set '{"rounds": "full"}' > /dev/null
    fi
    before=$(serial_count "$old")
    protect "$old" "$new"
    [ "$(monitor "$old" query-curling --get role)" = sender ] ||
        fail "$old protects its guest, but is no sender"
    assert_counting "$old" 5
    assert_silent "$new"
    kill_vm "$old"

    wait_state "$new" active
    last=$(serial_count "$old")
    wait_count "$new" $((last + 15))
    assert_no_bad "$old"
    assert_no_bad "$new"
    first=$(serial_first_count "$new")
    if [ "$first" -le "$before" ] || [ "$first" -gt $((last + 1)) ]; then
        fail "$new went on at $first, $old was protected at $before and" \
             "ended at $last"
    fi
    [ "$(monitor "$new" query-status --get status)" = running ] ||
        fail "$new is not running"
    [ "$(monitor "$new" query-cpus-fast --get 1.cpu-index)" = 1 ] ||
        fail "$new has lost a vCPU"
done
