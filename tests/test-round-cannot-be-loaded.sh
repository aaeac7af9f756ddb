#!/bin/bash
# Fault: a pair that looks the same, but the receiver's QEMU refuses to load
# the device state: one device has another PCI id.
# Invariant: it is found after the first round, not at the takeover.  The
# receiver is "failed" and never starts that guest; the sender hears why, says
# so, tries once more and then gives up, and its guest runs on.  The receiver
# serves whoever fits, without being started anew.
# timeout: 120
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128

# watch_states NAME: from now on, each state it tells, a line each
watch_states() {
    start "$1.states" python3 -SEuc '
import json, socket, sys
qmp = socket.socket(socket.AF_UNIX)
qmp.connect(sys.argv[1])
qmp.sendall(b"{\"execute\": \"qmp_capabilities\"}\n")
rest = b""
while True:
    rest += qmp.recv(65536) or sys.exit()
    *lines, rest = rest.split(b"\n")
    for line in map(json.loads, lines):
        if line.get("event") == "CURLING_STATE":
            print(line["data"]["state"])
' "$T/$1.qmp"
}

start_receiver receiver -device "virtio-rng-pci,disable-legacy=on"
start_vm sender -device virtio-rng-pci
watch_states sender
watch_states receiver
wait_count sender 2
monitor sender migrate \
    "{\"uri\": \"curling:$(receiver_addr receiver)\"}" > /dev/null
wait_state sender failed
[[ $(monitor sender query-curling --get last-error) == \
   *"receiver failed: the device state cannot be loaded"* ]] ||
    fail "the sender does not know why:" \
         "$(monitor sender query-curling --get last-error)"
wait_state receiver failed
said=$(tr '\n' ' ' < "$T/sender.states.out")
[ "$said" = "connecting syncing unprotected syncing unprotected failed " ] ||
    [ "$said" = "connecting syncing unprotected syncing failed " ] ||
    fail "the sender went through $said"
[ "$(grep -c failed "$T/receiver.states.out")" -eq 2 ] ||
    fail "the receiver did not fail twice: $(< "$T/receiver.states.out")"
refuses receiver curling-failover '{"force": true}' "nothing to start"
assert_counting sender
kill_process sender.states
kill_vm sender
assert_silent receiver
[ "$(monitor receiver query-curling --get state)" = failed ] ||
    fail "the end of the sender changed something"

# One that fits
start_vm sender -device "virtio-rng-pci,disable-legacy=on"
wait_count sender 2
protect sender receiver
assert_counting sender
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
kill_process receiver.states
