#!/bin/bash
# Fault: a disk fails while rounds follow each other without a break, and stops
# the guest (rerror=stop, werror=stop): in a pause, when the round waits for
# the disk, or between two; and the user says cont and stop in between.  Or the
# sender dies while its guest is stopped by an error.
# Invariant: each error stops the guest, and it stays stopped until cont; after
# stop it does not run, whatever the disk and the rounds do; when the disk is
# well it runs on, protected, whether its requests are loaded at each round
# (eager) or at the takeover.  A guest that an error had stopped is paused at
# the receiver, and cont runs it there: the request that failed is done again.
# timeout: 180
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/disk.sh"

errors=100

cat > "$T/press.py" <<'PYTHON'
import json, random, socket, sys, time

errors = int(sys.argv[2])
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(20)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rb")
failed = 0

def ask(command):
    global failed
    monitor.sendall(b'{"execute": "%s"}\n' % command.encode())
    while True:
        answer = json.loads(lines.readline())
        failed += answer.get("event") == "BLOCK_IO_ERROR"
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            sys.exit("%s: %s" % (command, answer["error"]["desc"]))

def status():
    return ask("query-status")["status"]

def stays_stopped(what, passing):
    """For a moment the status may be one of @passing: a round that began
    before shows as finish-migrate, an error is told before it stops."""
    deadline = time.monotonic() + 10
    while status() in passing:
        if time.monotonic() > deadline:
            sys.exit("the guest is %s after %s" % (status(), what))
    for i in range(5):
        now = status()
        if now not in ("paused", "io-error", "finish-migrate"):
            sys.exit("the guest is %s after %s" % (now, what))
        time.sleep(0.002)

json.loads(lines.readline())
ask("qmp_capabilities")
presses = 0
while failed < errors:
    before = failed
    ask("cont")
    if random.random() < 0.5:
        time.sleep(random.uniform(0, 0.003))
        ask("stop")
        presses += 1
        stays_stopped("stop", ["finish-migrate"])
        continue
    deadline = time.monotonic() + 20
    while failed == before:
        status()
        if time.monotonic() > deadline:
            sys.exit("no error within 20 s: %d of %d" % (failed, errors))
    stays_stopped("error %d" % failed, ["finish-migrate", "running"])
print("%d errors, %d times stop" % (failed, presses))
PYTHON

# start_both OF APPLY RULES: a sender whose disk $T/disk fails reads or writes
# (OF) by these rules of blkdebug, and a receiver that loads devices so
start_both() {
    local of=$1 apply=$2 file=driver=file,node-name=bad,filename=$T/disk
    local disk=driver=blkdebug,node-name=bad,image.driver=file
    local device=virtio-blk-pci,drive=bad,bootindex=0,rerror=stop,werror=stop

    if [ "$of" = read ]; then
        disk+=,read-only=on
        file+=,read-only=on
    fi
    disk+=,image.filename=$T/disk$3
    start_receiver receiver -blockdev "$file" -device "$device"
    monitor receiver curling-set "{\"apply\": \"$apply\"}" > /dev/null
    start_vm sender -S -blockdev "$disk" -device "$device"
    [ "$of" = read ] ||
        monitor sender curling-set '{"disks": "unsafe-ahead"}' > /dev/null
    monitor sender curling-set '{"interval-ms": 0}' > /dev/null
    protect sender receiver
}

# try_errors OF APPLY: reads or writes fail, so many times; then all is well
try_errors() {
    local of=$1 times=$errors rules='' i

    [ "$of" = write ] || times=$((errors + 1))  # QEMU's own, before the guest's
    for ((i = 0; i < times; i++)); do
        rules+=,inject-error.$i.event=none,inject-error.$i.once=on
        rules+=,inject-error.$i.iotype=$of
    done
    echo "each $of fails, $2"
    start_both "$of" "$2" "$rules"
    python3 -SE "$T/press.py" "$T/sender.qmp" "$errors" || fail "the errors"
    assert_silent sender
    monitor sender poll query-status --until status!=finish-migrate > /dev/null
    monitor sender cont > /dev/null
    assert_counting sender
    assert_no_bad sender
    [ "$(monitor sender query-curling --get state)" = protected ] ||
        fail "the errors cost the guest its protection"
    assert_silent receiver
    kill_vm sender
    wait_state receiver active
    assert_counting receiver
    assert_no_bad receiver
    kill_vm receiver
}

# try_death OF APPLY: reads or writes of sector 1000 fail, and the sender dies
# when that has stopped its guest
try_death() {
    local count round

    echo "the sender dies after a $1 that failed, $2"
    start_both "$1" "$2" ",inject-error.0.event=none,inject-error.0.iotype=$1,\
inject-error.0.sector=1000"
    monitor sender cont > /dev/null
    monitor sender poll query-status --until status=io-error > /dev/null ||
        fail "no error stops the guest"
    count=$(serial_count sender)
    round=$(monitor sender curling-checkpoint --get round)
    monitor sender poll query-curling --until "last-round.number>=$round" \
        > /dev/null || fail "a guest stopped by an error is not protected"
    kill_vm sender
    wait_state receiver active
    [ "$(monitor receiver query-status --get status)" = paused ] ||
        fail "a guest stopped by an error is" \
             "$(monitor receiver query-status --get status) after the takeover"
    assert_silent receiver
    monitor receiver cont > /dev/null
    assert_counting receiver
    [ "$(serial_first_count receiver)" -eq $((count + 1)) ] ||
        fail "the guest went on at $(serial_first_count receiver)," \
             "it was at $count"
    assert_no_bad receiver
    kill_vm receiver
}

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64
cp "$BOOT_SECTOR" "$T/disk"
try_errors read lazy
make_disk "$T/disk"
try_death read lazy
make_disk "$T/disk" writes
try_errors write lazy
try_errors write eager
try_death write eager
