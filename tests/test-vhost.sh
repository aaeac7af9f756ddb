#!/bin/bash
# Fault: the sender dies while another process reads a disk into its guest's
# RAM (vhost-user), and notes in a log of its own which pages it wrote.
# Invariant: the receiver has these pages too, byte for byte, and its guest
# reads on.  A disk of another process is one that the guest can write to,
# unless that process says otherwise.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/disk.sh"
source "$(dirname "$0")/ram.sh"

storage_daemon=$build/bin/qemu-storage-daemon

# serve NAME READ_ONLY: another process serves $T/disk to NAME, slowly: there
# is hardly a pause without a read under way
serve() {
    local writable=on disk=driver=throttle,node-name=disk,throttle-group=slow

    [ "$2" = off ] || writable=off
    disk+=,read-only=$2,file.driver=file,file.filename=$T/disk
    start "$1" "$storage_daemon" \
        --object throttle-group,id=slow,limits.iops-total=200 \
        --blockdev "$disk" \
        --export "type=vhost-user-blk,id=export,node-name=disk,\
writable=$writable,addr.type=unix,addr.path=$T/$1.socket"
    poll 10 test -S "$T/$1.socket"
}

# options NAME: of the machine that uses it
options() {
    printf '%s\n' -object "memory-backend-memfd,id=ram,size=64M,share=on" \
        -chardev "socket,id=disk,path=$T/$1.socket" \
        -device vhost-user-blk-pci,chardev=disk,bootindex=0,num-queues=1
}

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64 MACHINE=pc,memory-backend=ram
make_disk "$T/disk"
for name in here there; do
    serve "$name" on
done
mapfile -t there < <(options there)
mapfile -t here < <(options here)
start_receiver receiver "${there[@]}"
start_vm sender "${here[@]}"
wait_count sender 5
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
protect sender receiver
for i in 1 2 3 4 5; do
    assert_counting sender 20
    same_ram sender receiver "at comparison $i"
    monitor sender cont > /dev/null
done
assert_counting sender 20
kill_vm sender
wait_state receiver active
assert_counting receiver 20
assert_no_bad sender
assert_no_bad receiver
kill_vm receiver

for name in here there; do
    kill_process "$name"
done
serve written off
mapfile -t written < <(options written)
start_vm sender "${written[@]}"
refuses sender migrate '{"uri": "curling:tcp:127.0.0.1:1"}' \
    "virtio-backend' (vhost-user-blk) is writable"
