#!/bin/bash
# Fault: the guest has disks that it can write to, and at a takeover somebody
# else may have them locked.
# Invariant: such a disk is refused by name, whatever it is made of, unless
# disks=unsafe-ahead was said, which warns; a receiver stands by without a lock,
# and starts the guest only once it has all of them; where the guest is to stay
# paused (-S), cont takes the locks.
# timeout: 180
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.mb=32"
io=$build/bin/qemu-io
img=$build/bin/qemu-img

migrate() { monitor "$1" migrate "{\"uri\": \"curling:$2\"}" > /dev/null; }

# drive IMAGE FORMAT OPTIONS...: arguments for a virtio disk
drive() {
    local image=$1 format=$2

    shift 2
    printf '%s\n' -drive \
        "if=none,id=$image,file=$T/$image,format=$format$(printf ',%s' "$@")" \
        -device "virtio-blk-pci,drive=$image,id=$image-device"
}

# refused DISK DEVICE ARGS...: with these arguments it is, by name
refused() {
    local disk=$1 device=$2

    shift 2
    start_vm other "$@"
    refuses other migrate "{\"uri\": \"curling:unix:$T/nobody\"}" \
            "disk '$disk' of device '$device' is writable: after a takeover \
it would be ahead of memory"
    [ "$(monitor other query-status --get status)" = running ] ||
        fail "the guest does not run after $*"
    kill_vm other TERM
}

# is_free IMAGE FORMAT: it can be opened for writing
is_free() { "$io" -f "$2" -c "read 0 512" "$T/$1" > /dev/null 2>&1; }

is_locked() { ! is_free "$@"; }

assert_free() { is_free "$@" || fail "$1 is locked"; }
assert_locked() { is_locked "$@" || fail "$1 is not locked"; }

for image in raw cd; do
    truncate -s 1M "$T/$image"
done
truncate -s 1440K "$T/disc"
"$img" create -q -f qcow2 "$T/qcow2" 16M
while read -r dir; do
    [ ! -f "$dir/bios-256k.bin" ] || cp "$dir/bios-256k.bin" "$T/flash"
done < <("$QEMU" -L help)

# --- Refused

mapfile -t raw < <(drive raw raw)
mapfile -t qcow2 < <(drive qcow2 qcow2)
mapfile -t read_only < <(drive raw raw readonly=on)
flash=(-drive "if=pflash,format=raw,file=$T/flash")
cds=(-drive "if=ide,media=cdrom,format=raw,file=$T/cd,id=full"
     -drive "if=ide,index=2,media=cdrom,id=empty" -device "floppy,id=floppy")
device=/machine/peripheral
refused raw $device/raw-device/virtio-backend "${raw[@]}"
refused qcow2 $device/qcow2-device/virtio-backend "${cds[@]}" "${read_only[@]}" \
        "${qcow2[@]}"
refused raw $device/raw-device/virtio-backend "${raw[@]}" -snapshot
refused pflash0 /machine/system.flash0 "${flash[@]}"

# --- A flash that firmware writes to, and a takeover with it
# Its device asks to be told when the guest goes on, at each load once more.

for apply in lazy eager; do
    start_receiver receiver "${flash[@]}"
    monitor receiver curling-set "{\"apply\": \"$apply\"}" > /dev/null
    start_vm sender "${flash[@]}"
    monitor sender curling-set '{"disks": "unsafe-ahead"}' > /dev/null
    wait_count sender 2
    protect sender receiver
    assert_counting sender
    kill_vm sender
    wait_state receiver active
    assert_counting receiver
    monitor receiver stop > /dev/null
    monitor receiver cont > /dev/null
    assert_counting receiver
    assert_no_bad receiver
    kill_vm receiver
done

# --- Not refused: what the guest cannot write to

flash=("${flash[0]}" "${flash[1]},readonly=on")
start_receiver receiver "${flash[@]}" "${cds[@]}" "${read_only[@]}"
start_vm sender "${flash[@]}" "${cds[@]}" "${read_only[@]}"
wait_count sender 2
protect sender receiver
! monitor sender query-curling --get warnings 2> /dev/null ||
    fail "the sender warns of disks that are read-only"

# Until it becomes writable: with a medium in its drive
monitor sender blockdev-change-medium "{\"id\": \"floppy\",
    \"filename\": \"$T/disc\", \"format\": \"raw\",
    \"read-only-mode\": \"read-write\"}" > /dev/null
wait_state sender failed
[[ $(monitor sender query-curling --get last-error) == \
   "disk '"*"' of device 'floppy' is writable: after a takeover"* ]] ||
    fail "the sender does not say what became writable:" \
         "$(monitor sender query-curling --get last-error)"
wait_state receiver listening
assert_counting sender
assert_silent receiver
refuses sender migrate "{\"uri\": \"curling:$(receiver_addr receiver)\"}" \
        "of device 'floppy' is writable"
kill_vm sender TERM
kill_vm receiver TERM

# --- unsafe-ahead, with images that both sides share

# warned NAME N: so often on stderr
warned() {
    [ "$(grep -c "warning: disk '$1' of device .* is writable: after a \
takeover it is ahead of memory (disks=unsafe-ahead)" "$T/sender.err")" -eq \
      "$2" ] || fail "not $2 warnings of $1: $(< "$T/sender.err")"
}

# unsafe: the settings of a sender
unsafe() { monitor "$1" curling-set '{"disks": "unsafe-ahead"}' > /dev/null; }

start_receiver receiver "${qcow2[@]}" "${raw[@]}"
assert_free raw raw
assert_free qcow2 qcow2
start_vm sender "${qcow2[@]}" "${raw[@]}"
assert_locked raw raw
wait_count sender 2
unsafe sender
protect sender receiver
warned raw 1
warned qcow2 1
[[ $(monitor sender query-curling) == \
   *'"warnings": ['*"disk 'qcow2' of device"*"disk 'raw' of device"* ]] ||
    fail "query-curling.warnings is $(monitor sender query-curling)"
[[ $(monitor sender hmp "info curling") == *"disk 'raw' of device"* ]] ||
    fail "info curling does not warn: $(monitor sender hmp "info curling")"
monitor sender migrate_cancel > /dev/null
wait_state receiver listening
protect sender receiver
warned raw 2
warned qcow2 2

# Who says that a disk must not be written to means it, at any time.
monitor sender curling-set '{"disks": "refuse"}' > /dev/null
wait_state sender failed
wait_state receiver listening
unsafe sender
protect sender receiver
assert_counting sender

# The sender is gone, and somebody else has one of the images.
not_started() {
    monitor receiver curling-failover > /dev/null
    monitor receiver poll query-curling --until last-error!=null > /dev/null
    [[ $(monitor receiver query-curling --get last-error) == *" lock"* ]] ||
        fail "the receiver does not say why it cannot start:" \
             "$(monitor receiver query-curling --get last-error)"
    [ "$(monitor receiver query-curling --get state)" = suspect ] ||
        fail "a takeover that failed leaves $(
            monitor receiver query-curling --get state)"
    [ "$(monitor receiver query-status --get status)" = inmigrate ] ||
        fail "a takeover that failed leaves another run state"
    assert_silent receiver
    assert_free qcow2 qcow2
}

# lock_raw, unlock_raw: somebody else has that image, and has it no longer
mkfifo "$T/input"
exec {input}<> "$T/input"
lock_raw() {
    # shellcheck disable=SC2016
    start locker bash -c 'exec "$0" -f raw "$1" < "$2"' \
          "$io" "$T/raw" "$T/input"
    echo "read 0 512" >&"$input"
    poll 10 grep -qs "read 512/512" "$T/locker.out" || fail "nobody locked it"
}

unlock_raw() { kill_process locker TERM; }

monitor receiver curling-set '{"on-disconnect": "wait"}' > /dev/null
kill_vm sender
wait_state receiver suspect
assert_free raw raw
lock_raw
not_started
unlock_raw

# It can be tried again; then the images are the receiver's.
monitor receiver curling-failover > /dev/null
wait_state receiver active
assert_locked raw raw
assert_locked qcow2 qcow2
assert_counting receiver

# A sender that dies leaves its locks to the receiver at once.
start_receiver second "${qcow2[@]}" "${raw[@]}"
unsafe receiver
protect receiver second
kill_vm receiver
wait_state second active
assert_locked raw raw
assert_counting second

# A guest that is to stay paused needs no lock, until cont.
start_receiver third -S "${qcow2[@]}" "${raw[@]}"
unsafe second
protect second third
kill_vm second
wait_state third active
[ "$(monitor third query-status --get status)" = paused ] ||
    fail "-S at the receiver does not pause the guest"
assert_free raw raw
assert_free qcow2 qcow2
lock_raw
refuses third cont '{}' " lock"
[ "$(monitor third query-status --get status)" = paused ] ||
    fail "a cont that failed leaves another run state"
assert_silent third
unlock_raw
monitor third cont > /dev/null
assert_locked raw raw
assert_locked qcow2 qcow2
assert_counting third
for name in sender receiver second third; do
    assert_no_bad "$name"
done
