#!/bin/bash
# curlingctl protect where something is not as it should be: a receiver that
# waits to be told, one that listens everywhere, a network without TLS, the
# wrong machine, a writable disk, nobody there, Ctrl-C in the first round.
# Invariant: it refuses what would not work, with what to do about it, and
# changes nothing then; what it began it undoes; it never hangs.
# timeout: 180
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/ctl.sh
source "$top/tests/ctl.sh"
# shellcheck source=tests/network.sh
source "$top/tests/network.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"

setting() { monitor "$1" query-curling --get "$2"; }

# new_receiver ARGS...: in place of the one before
new_receiver() {
    [ -z "${pid[receiver]-}" ] || kill_vm receiver TERM
    start_vm receiver "$@"
}

start_vm sender
wait_count sender 5

echo "nobody is there"
expect 1 '*receiver.qmp: there is no such socket; is QEMU running*' ctl protect
expect 1 '*-qmp unix*' ctl doctor

echo "a QEMU without Curling"
start stock "$top/tests/stock-qmp" "$T/stock"
poll 10 test -S "$T/stock" || fail "no stock QEMU"
sender_ep=unix:$T/stock
expect 1 '*stock: this QEMU has no Curling*move its guest into one*-incoming*' \
    ctl doctor
expect 1 '*stock: this QEMU has no Curling*nothing was changed' ctl protect
expect 1 '*stock: this QEMU has no Curling*' ctl get interval
expect 4 '*stock: this QEMU has no Curling*' ctl status
kill_process stock
sender_ep=unix:$T/sender.qmp

echo "a receiver that waits to be told"
new_receiver -incoming defer
expect 1 '*-incoming defer?; give --address*' ctl protect
sender_ep=unix:$T/receiver.qmp receiver_ep=unix:$T/sender.qmp
expect 1 '*runs no guest: it waits for one itself*right way round?*' \
    ctl protect
sender_ep=unix:$T/sender.qmp receiver_ep=unix:$T/receiver.qmp
expect 0 '*protected: *' ctl protect --address "unix:$T/rounds"
[ "$(setting sender address)" = "curling:unix:$T/rounds" ] ||
    fail "the sender goes to $(setting sender address)"
expect 0 'not protected*' ctl unprotect

echo "a session with another receiver"
expect 0 '*protected: *' ctl protect
start_receiver other
receiver_ep=unix:$T/other.qmp
expect 1 '*in a session with another receiver*curlingctl unprotect*' \
    ctl protect
expect 1 '*in a session with another receiver*' ctl protect --replace
expect 4 '*protected by another receiver, at *: these two are no pair*' \
    ctl status
# Nor is a guest of nobody's in a pair with the sender of another one.
sender_ep=unix:$T/other.qmp receiver_ep=unix:$T/sender.qmp
expect 1 '*these two are no pair*' ctl doctor
expect 1 '*these two are no pair*' ctl unprotect
expect 1 '*these two are no pair*' ctl switchover
sender_ep=unix:$T/sender.qmp receiver_ep=unix:$T/receiver.qmp
ctl_status 0
expect 0 '*note: the two are in a session: the sender is protected*' ctl doctor
ctl unprotect > /dev/null
kill_vm other TERM

echo "the receiver dies, and another one takes its place"
expect 0 '*protected: *' ctl protect
kill_vm receiver
wait_state sender unprotected
expect 4 '*the receiver is lost or cannot follow*' ctl status
expect 1 '*receiver.qmp: nobody serves this socket any more*' ctl protect
start_vm receiver -incoming "curling:unix:$T/elsewhere"
expect 1 '*may live, hold a round*say --replace; nothing was changed' ctl protect
expect 0 '*protected: *elsewhere' ctl protect --replace
kill_vm receiver
wait_state sender unprotected
start_vm receiver -incoming "curling:unix:$T/elsewhere"
expect 0 '*protected: *elsewhere' ctl protect
ctl unprotect > /dev/null

echo "a receiver that listens everywhere"
new_receiver -incoming curling:tcp:0.0.0.0:0
port=$(receiver_addr receiver)
port=${port##*:}
expect 1 '*listens at all of its addresses*--address*' ctl protect
expect 0 '*protected: *' ctl protect --address "tcp:127.0.0.1:$port"
ctl unprotect > /dev/null

echo "another machine"
MACHINE=q35 RAM_MB=192 SMP=2 new_receiver -cpu Nehalem \
    -device virtio-rng-pci \
    -incoming "curling:unix:$T/receiver.curling"
expect 1 '*vCPUs: 1 at the sender, 2 at the receiver*' ctl doctor
[[ $said == *"machine type: pc-"*" at the sender, pc-q35-"* &&
   $said == *"RAM: 256 MiB at the sender, 192 MiB at the receiver"* &&
   $said == *"only the receiver has a device virtio-rng-pci"* &&
   $said == *"CPU model: "*"Nehalem"* ]] || fail "doctor says only: $said"
expect 1 '*machine type*cannot be protected as it is; nothing was changed' \
    ctl protect --interval 10ms
[ "$(setting sender interval-ms)" = 100 ] || fail "something was changed"
expect 1 '[[]{"severity":"error",*' ctl doctor --json

echo "somebody else's guest"
start_vm other
receiver_ep=unix:$T/other.qmp
expect 1 '*runs a guest of its own*-incoming*' ctl protect
receiver_ep=unix:$T/receiver.qmp
kill_vm other TERM

echo "a command line for the receiver"
new_receiver -incoming defer
expect 0 '*-incoming defer*' \
    "$CTL" doctor --print-receiver --sender "$sender_ep"
[[ $said == *"-m 256"* && $said == *"$T/sender.qmp.receiver,server=on"* ]] ||
    fail "the receiver's command line is: $said"
kill_vm receiver TERM
ctl doctor --print-receiver --address "unix:$T/rounds2" > "$T/line"
start derived bash -c "exec $(< "$T/line")"
receiver_ep=unix:$T/sender.qmp.receiver
poll 20 ctl get on-silence > /dev/null 2>&1 || fail "it does not start"
expect 0 '*protected: *' ctl protect
expect 0 'not protected*' ctl unprotect
kill_process derived TERM
receiver_ep=unix:$T/receiver.qmp

echo "a device that cannot migrate"
kill_vm sender TERM
start_vm sender -audiodev none,id=a -device virtio-sound-pci,audiodev=a
new_receiver -audiodev none,id=a -device virtio-sound-pci,audiodev=a \
    -incoming "curling:unix:$T/receiver.curling"
expect 1 '*error: the guest cannot be migrated: *take that device out*' \
    ctl doctor
expect 1 '*cannot be migrated: *nothing was changed' ctl protect
kill_vm sender TERM

echo "a writable disk"
truncate -s 1M "$T/disk"
# shellcheck disable=SC2054  # QEMU's commas
disk=(-drive "if=none,id=d,format=raw,file=$T/disk,file.locking=off"
      -device virtio-blk-pci,drive=d)
start_vm sender "${disk[@]}"
new_receiver "${disk[@]}" -incoming "curling:unix:$T/receiver.curling"
wait_count sender 5
expect 1 '*disk d is writable*--set disks=unsafe-ahead*' ctl protect
expect 0 '*warning: disk d is writable*protected: *' \
    ctl protect --set disks=unsafe-ahead
kill_vm sender TERM
kill_vm receiver

echo "a network without TLS"
start_two_hosts
make_psk key
vm_within here sender -object "$(psk out client key)"
vm_within there receiver -object "$(psk in server key)" \
    -incoming curling:tcp:192.0.2.2:4444
wait_count sender 5
expect 1 '*not encrypted*tls-creds*--allow-plaintext*' ctl protect
expect 0 '*warning: rounds*not encrypted*protected: *' \
    ctl protect --allow-plaintext
ctl unprotect > /dev/null
echo "and with it"
monitor receiver migrate-set-parameters '{"tls-creds": "in"}' > /dev/null
use_tls sender out
expect 0 '*protected: *' ctl protect
[[ $said != *encrypted* ]] || fail "it warns: $said"
expect 0 '*, encrypted*' ctl status
ctl unprotect > /dev/null
use_tls sender ""
monitor receiver migrate-set-parameters '{"tls-creds": ""}' > /dev/null

undone() {
    [ "$(setting sender interval-ms,state)" = "100	$1" ] ||
        fail "what was begun is not undone:" \
             "$(setting sender interval-ms,state)"
}

echo "a receiver that is not reached"
far=(--sender "$sender_ep" --receiver "$receiver_ep" --allow-plaintext
     --interval 10ms)
within here ip link set curling0 down
expect 1 '*cannot protect its guest: *unreachable*not protected*' \
    "$CTL" protect "${far[@]}"
undone failed
within here ip link set curling0 up
# Nobody has that address, which takes the kernel three seconds to find out.
expect 1 '*cannot be reached at curling:tcp:192.0.2.3:4444*not protected*' \
    "$CTL" --timeout 2s protect "${far[@]}" --address tcp:192.0.2.3:4444
undone stopped

echo "Ctrl-C in the first round"
monitor sender curling-set '{"max-bandwidth": 1000000}' > /dev/null
start protect "$CTL" protect "${far[@]}"
wait_state sender syncing
expect 3 '*syncing*' ctl status
kill_process protect INT
[ "${ended[protect]}" -eq 1 ] || fail "it ends with ${ended[protect]}"
grep -q "interrupted" "$T/protect.err" || fail "it does not say why"
grep -q "the guest is at .* (running), not protected" "$T/protect.err" ||
    fail "it does not say what state it left: $(< "$T/protect.err")"
undone stopped
wait_state receiver listening
monitor sender curling-set '{"max-bandwidth": 0}' > /dev/null

echo "Ctrl-C in the first round, with a receiver that is frozen"
start protect "$CTL" protect "${far[@]}"
wait_state sender syncing
kill -STOP "${pid[receiver]}"
kill -INT "${pid[protect]}"
wait_exit protect 1
grep -q "the guest is at .* (running), not protected" "$T/protect.err" ||
    fail "it does not say what state it left: $(< "$T/protect.err")"
undone stopped
kill -CONT "${pid[receiver]}"
wait_state receiver listening

echo "a receiver that dies in the first round"
start protect "$CTL" --timeout 3s protect "${far[@]}"
wait_state sender syncing
kill_vm receiver
wait_exit protect 1
grep -q "cannot be reached at" "$T/protect.err" ||
    fail "it does not say what happened: $(< "$T/protect.err")"
undone stopped

vm_within there receiver -incoming curling:tcp:192.0.2.2:4444
monitor sender curling-set '{"max-bandwidth": 0}' > /dev/null
expect 0 '*protected: *' ctl protect --allow-plaintext
assert_counting sender
assert_no_bad sender
