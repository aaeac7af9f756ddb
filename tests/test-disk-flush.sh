#!/bin/bash
# Fault: disks=unsafe-ahead, and the disk cannot be flushed before a round is
# committed: each flush fails, or one hangs.
# Invariant: the guest goes on, for no flush is part of a pause; no round is
# committed without its flush, and the sender says why; once flushes work
# again, rounds are committed again.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/disk.sh"

# disk_io LINE: have the sender do this to the disk, see qemu-io
disk_io() {
    local answer

    answer=$(monitor sender hmp "qemu-io -d drive \"$1\"")
    [[ ${answer,,} != *error* ]] || fail "qemu-io $1 says $answer"
}

# committed: rounds, at the sender and at the receiver
committed() {
    echo "$(monitor sender query-curling --get rounds-committed)" \
         "$(monitor receiver query-curling --get rounds-committed)"
}

# none_committed WHILE: but the guest runs, and the receiver hears the sender
none_committed() {
    local before

    before=$(committed)
    assert_counting sender 20
    [ "$(committed)" = "$before" ] ||
        fail "rounds are committed while $1: $before, then $(committed)"
    [ "$(monitor receiver query-curling --get state)" = standby ] ||
        fail "the receiver does not stand by while $1"
}

# rounds_go_on: as before
rounds_go_on() {
    local count

    wait_state sender protected
    count=$(monitor sender query-curling --get rounds-committed)
    monitor sender poll query-curling \
            --until "rounds-committed>=$((count + 5))" > /dev/null ||
        fail "no rounds are committed"
    assert_counting sender
    assert_no_bad sender
}

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64
make_disk "$T/disk" writes
# IDE, for virtio would flush each write of a BIOS.
device=ide-hd,drive=disk,bootindex=0,id=drive
raw=driver=raw,node-name=disk
# A write of zeroes, which the guest never does, has all flushes fail; the
# next one has them work (and discards fail, which the guest never does).
bad=$raw,file.driver=blkdebug,file.image.driver=file
bad+=,file.image.filename=$T/disk
bad+=,file.inject-error.0.event=pwritev_zero,file.inject-error.0.state=1
bad+=,file.inject-error.0.iotype=flush
bad+=,file.set-state.0.event=pwritev_zero,file.set-state.0.state=1
bad+=,file.set-state.0.new_state=2
bad+=,file.inject-error.1.event=pwritev_zero,file.inject-error.1.state=2
bad+=,file.inject-error.1.iotype=discard
start_receiver receiver \
    -blockdev "$raw,file.driver=file,file.filename=$T/disk" -device "$device"
start_vm sender -blockdev "$bad" -device "$device"
for name in sender receiver; do         # a busy host is no silence
    monitor "$name" curling-set '{"peer-timeout-ms": 10000}' > /dev/null
done
monitor sender curling-set '{"disks": "unsafe-ahead", "interval-ms": 10,
                             "reconnect-ms": 50}' > /dev/null
wait_count sender 3
protect sender receiver
rounds_go_on

echo "each flush fails"
disk_io "write -z 512 512"
monitor sender poll query-curling --until "rounds-discarded>=1" > /dev/null ||
    fail "a flush that fails costs no round"
none_committed "flushes fail"
monitor sender poll query-curling --until "rounds-discarded>=5" > /dev/null ||
    fail "the sender tries no further rounds"
[ "$(monitor sender query-curling --get state,last-error)" = \
  $'unprotected\ta disk cannot be flushed: Input/output error' ] ||
    fail "the sender says $(monitor sender query-curling)"
disk_io "write -z 512 512"
rounds_go_on

echo "a flush hangs"
disk_io "break flush_to_disk here"
monitor sender poll query-curling --until "lag-ms>=1000" > /dev/null ||
    fail "no flush hangs"
none_committed "a flush hangs"
[ "$(monitor sender query-curling --get pause-us.max)" -lt 1000000 ] ||
    fail "a pause waited for a flush"
disk_io "resume here"
rounds_go_on

echo "the receiver dies while a flush hangs"
disk_io "break flush_to_disk here"
monitor sender poll query-curling --until "lag-ms>=500" > /dev/null ||
    fail "no flush hangs"
kill_vm receiver
wait_state sender unprotected
assert_counting sender
disk_io "resume here"
start_receiver receiver \
    -blockdev "$raw,file.driver=file,file.filename=$T/disk" -device "$device"
wait_state sender protected 60
rounds_go_on

echo "the sender dies while a flush hangs"
disk_io "break flush_to_disk here"
monitor sender poll query-curling --until "lag-ms>=500" > /dev/null ||
    fail "no flush hangs"
assert_silent receiver
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
