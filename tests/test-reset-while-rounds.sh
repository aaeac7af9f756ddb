#!/bin/bash
# Fault: the guest is reset while a round pauses it: two wait for its vCPUs,
# and the first of them resumes what the other needs to stand still.
# Or while a round begins, a device is in the middle of something: it waits for
# a disk, and other work of QEMU's is done in the meantime.
# Invariant: each reset is one; neither the monitor nor the rounds hang after
# it; the guest that boots again is protected and taken over as any.
# timeout: 180
source "$(dirname "$0")/functions.sh"

resets=150

# A round, and soon after, in it or before it, a reset
cat > "$T/press.py" <<'PYTHON'
import json, random, socket, sys, time

monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(10)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rb")
lines.readline()

def ask(command):
    monitor.sendall(b'{"execute": "%s"}\n' % command.encode())
    while True:
        try:
            answer = json.loads(lines.readline())
        except socket.timeout:
            sys.exit("no answer to %s within 10 s" % command)
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            sys.exit("%s: %s" % (command, answer["error"]["desc"]))

ask("qmp_capabilities")
for i in range(int(sys.argv[2])):
    ask("curling-checkpoint")
    time.sleep(random.uniform(0, 0.0005))
    ask("system_reset")
    time.sleep(random.uniform(0, 0.05))
    # In a pause it is finish-migrate, which is over soon.
    deadline = time.monotonic() + 5
    while ask("query-status")["status"] != "running":
        if time.monotonic() > deadline:
            sys.exit("the guest does not run after a reset")
PYTHON

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 SMP=2
APPEND="curling.mb=32 curling.tick=20 curling.pages=400 curling.verify=500"
start_receiver receiver
start_vm sender
wait_count sender 3
# No round but those that are asked for: who hangs is not woken by the next.
monitor sender curling-set '{"interval-ms": 3600000}' > /dev/null
protect sender receiver
python3 -SE "$T/press.py" "$T/sender.qmp" "$resets" || fail "the resets"
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
round=$(monitor sender curling-checkpoint --get round)
monitor receiver poll query-curling --until "last-round.number>=$round" \
    > /dev/null || fail "no more rounds"
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "the resets cost the guest its protection"

# It boots, counts from 1, and is taken over.
said=$(wc -c < "$T/sender.serial")
rebooted() { tail -c "+$((said + 1))" "$T/sender.serial" | grep -q '^count 20 '; }
monitor sender system_reset > /dev/null
poll 30 rebooted || fail "the guest does not boot again"
assert_silent receiver
kill_vm sender
wait_state receiver active
last=$(serial_count sender)
wait_count receiver $((last + 50))
assert_no_bad receiver
kill_vm receiver

# From a floppy disk: its controller waits for each sector, and the vCPU with
# it, in the middle of an instruction.
# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector SMP=1
cp "$BOOT_SECTOR" "$T/floppy"
truncate -s 1440K "$T/floppy"
floppy=(-drive "if=none,id=floppy,format=raw,readonly=on,file=$T/floppy"
        -device "floppy,drive=floppy" -boot order=a)
booted() { [ "$(grep -c '^count 1 ok$' "$T/sender.serial")" -ge "$boots" ]; }

start_receiver receiver "${floppy[@]}"
start_vm sender "${floppy[@]}"
wait_count sender 1
monitor sender curling-set '{"interval-ms": 0}' > /dev/null
protect sender receiver
for ((boots = 2; boots <= 25; boots++)); do
    monitor sender system_reset > /dev/null
    poll 20 booted || fail "boot $boots from a floppy disk fails"
done
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "booting cost the guest its protection"

# In the middle of it
monitor sender system_reset > /dev/null
kill_vm sender
wait_state receiver active
wait_count receiver 5
assert_no_bad receiver
