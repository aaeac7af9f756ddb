#!/bin/bash
# Fault: the sender is killed; its switch still thinks that the guest's
# address is behind the sender's port.
# Invariant: after a takeover, and not before, the receiver announces the
# guest's address to the network, as QEMU does after a migration.
source "$(dirname "$0")/functions.sh"

mac=52:54:00:12:34:99

# announced NAME: has it sent a RARP packet (type 0x8035) of this address?
announced() {
    python3 - "$T/$1.pcap" "$mac" <<'PYTHON'
import sys
data = open(sys.argv[1], "rb").read()
mac = bytes.fromhex(sys.argv[2].replace(":", ""))
sys.exit(0 if b"\xff" * 6 + mac + b"\x80\x35" in data else 1)
PYTHON
}

network() {
    network=(-netdev "user,id=net0" -device "virtio-net-pci,netdev=net0,mac=$mac"
             -object "filter-dump,id=dump,netdev=net0,file=$T/$1.pcap")
}

network receiver
start_receiver receiver "${network[@]}"
network sender
start_vm sender "${network[@]}"
wait_count sender 3
protect sender receiver
assert_counting sender
! announced receiver || fail "a receiver that stands by announces the guest"
kill_vm sender
wait_state receiver active
poll 10 announced receiver || fail "no announcement after the takeover"
assert_counting receiver
assert_no_bad receiver
