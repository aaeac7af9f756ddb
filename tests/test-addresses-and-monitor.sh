#!/bin/bash
# Fault: none; a person who types what README says.
# Invariant: tcp over IPv4 and IPv6, unix and "-incoming defer" all protect; the
# human monitor says and does what QMP does; a wrong setting is refused with
# what is allowed, and changes nothing.
# timeout: 240
source "$(dirname "$0")/functions.sh"

# prompt NAME LINE: type a line into the human monitor, wait for the next
# prompt, print what came in between
prompt() {
    python3 - "$T/$1.hmp" "$2" <<'PYTHON'
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect(sys.argv[1])
def until_prompt():
    text = b""
    while not text.endswith(b"(qemu) "):
        part = sock.recv(65536)
        if not part:
            break
        text += part
    return text.decode()
until_prompt()
sock.sendall(sys.argv[2].encode() + b"\n")
print(until_prompt())
PYTHON
}

# says NAME LINE TEXT: its answer holds TEXT
says() {
    local answer

    answer=$(prompt "$1" "$2")
    [[ $answer == *"$3"* ]] || fail "'$2' says $answer, expected '$3'"
}

# protects ADDRESS: a receiver that listens there is found and protects
protects() {
    start_vm receiver -incoming "$1"
    protect sender receiver
    [ "$(monitor receiver query-curling --get address)" = \
      "$(monitor sender query-curling --get address)" ] ||
        fail "the sides differ on the address"
    monitor sender migrate_cancel > /dev/null
    wait_state sender stopped
    wait_state receiver listening
    kill_vm receiver TERM
}

# hears ARGS...: a receiver with such a device refuses to load devices eagerly
hears() {
    start_vm receiver -incoming defer "$@"
    refuses receiver curling-set '{"apply": "eager", "interval-ms": 30}' \
            "would hear what comes in by chardev 'input'"
    says receiver "curling_set apply eager" "or use apply=lazy"
    [ "$(monitor receiver query-curling --get apply,interval-ms)" = \
      $'lazy\t100' ] || fail "a refused curling-set changed something"
    kill_vm receiver
}

start_vm sender
wait_count sender 3
protects curling:tcp:127.0.0.1:0
protects 'curling:tcp:[::1]:0'
protects "curling:unix:$T/here"

socket=socket,id=input,path=$T/input,server=on,wait=off
hears -chardev "$socket" -serial chardev:input
hears -chardev "$socket,mux=on" -mon chardev=input -device virtio-serial-pci \
      -device virtserialport,chardev=input
hears -serial null -chardev "file,id=input,path=$T/out,input-path=/dev/null" \
      -device virtio-serial-pci -device virtconsole,chardev=input
start_vm receiver -incoming defer -chardev ringbuf,id=port -serial null \
    -parallel "unix:$T/printer,server=on,wait=off" \
    -device virtio-serial-pci -device virtserialport,chardev=port
monitor receiver curling-set '{"apply": "eager"}' > /dev/null
kill_vm receiver

# defer, and the human monitor throughout
start_vm receiver -incoming defer
[ "$(monitor receiver query-curling --get state)" = idle ] ||
    fail "a receiver that was not told where to listen is not idle"
prompt receiver "migrate_incoming curling:unix:$T/deferred" > /dev/null
says receiver "info curling" "state: listening"
# Without -d it returns once the guest is protected.
prompt sender "migrate curling:unix:$T/deferred" > /dev/null
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "migrate returned before the guest was protected"
[ "$(monitor sender query-migrate --get status)" = curling ] ||
    fail "query-migrate does not say curling"
says sender "info curling" "role: sender"
says sender "info migrate" "curling"
says sender "curling_checkpoint" "round "

# No part of a pause is longer than the longest pause, and none is forgotten.
monitor sender poll query-curling --until "rounds-committed>=5" > /dev/null
monitor sender query-curling > "$T/info"
python3 -SE - "$T/info" <<'PYTHON' || fail "$(< "$T/info")"
import json, sys
pause = json.load(open(sys.argv[1]))["pause-us"]
parts = pause["split"]
longest = [parts[name]["max"] for name in ("stop", "dirty-sync", "ram",
                                           "devices", "resume")]
sys.exit(max(longest) > pause["max"] or sum(longest) + 5 < pause["max"] or
         not all(parts[name]["p50"] for name in ("stop", "devices")))
PYTHON
says sender "info curling" "  dirty sync: p50"

# Figures are there, and fit each other: p50 <= p99 <= max, fewer bytes than
# before, none of the times 0 but that for compressing nothing.
python3 -SE - "$T/info" <<'PYTHON' || fail "$(< "$T/info")"
import json, sys
info = json.load(open(sys.argv[1]))
figures = info["statistics"]
for name, figure in figures.items():
    if not figure["p50"] <= figure["p99"] <= figure["max"]:
        sys.exit(name)
    if not figure["max"] and name != "pack-us":
        sys.exit(name + " is 0")
last = info["last-round"]
sys.exit(figures["bytes"]["max"] > figures["raw-bytes"]["max"] or
         last["bytes"] != last["raw-bytes"] or
         len(figures) != 7 or info["memory-bytes"]["old-copies"] != 0)
PYTHON
says sender "info curling" "dirty pages: p50"
says sender "info curling" "old copies: 0 bytes, limit"

# Settings: on both roles, in both monitors, while it runs
prompt sender "curling_set interval-ms 20" > /dev/null
[ "$(monitor sender query-curling --get interval-ms)" = 20 ] ||
    fail "curling_set has no effect"
monitor receiver curling-set '{"close-grace-ms": 0, "apply": "eager"}' > /dev/null
says receiver "info curling" "apply: eager"
says sender "curling_set interval-ms 99999999" "from 0 to 3600000"
says sender "curling_set compress gzip" "none or delta or zstd or auto"
says sender "curling_set delta-cache-bytes 1M" "0, or from 4194304"
says sender "curling_set intreval-ms 5" "settings are interval-ms"
says sender "curling_set rounds some" "delta or full"
refuses sender curling-set '{"interval-ms": 30, "peer-timeout-ms": 1}' \
        "must be from 100 to 3600000, got 1"
refuses sender curling-set '{"interval-ms": -5}' "from 0 to 3600000, got -5"
refuses sender curling-set '{"interval-ms": "soon"}' "from 0 to 3600000"
refuses sender curling-set '{"max-round-bytes": 1}' "0, or from 4194304"
refuses sender curling-set '{"intreval-ms": 5}' "settings are interval-ms"
refuses sender curling-set '{"rounds": "some"}' 'delta or full, got "some"'
[ "$(monitor sender query-curling --get interval-ms)" = 20 ] ||
    fail "a refused curling-set changed something"

# What does not fit is refused, and the guest goes on.
says sender "migrate curling:tcp:127.0.0.1:1" "migration process in progress"
says sender "migrate curling:ftp:nowhere" "expected curling:tcp:HOST:PORT"
says sender "curling_failover" "no receiver"
says receiver "curling_checkpoint" "no guest is protected"
says sender "curling_switchover now" "extraneous"
says receiver "curling_switchover" "is for a sender that is protected"
assert_counting sender

# The event tells what polling tells.
event=$(monitor sender wait-event CURLING_STATE --run migrate_cancel \
                --get data.state)
[ "$event" = stopped ] || fail "no event told the end"
wait_state receiver listening
[ "$(monitor sender query-migrate --get status)" = cancelled ] ||
    fail "query-migrate does not say cancelled"
assert_silent receiver

# Nobody there
prompt sender "migrate curling:unix:$T/nobody" > /dev/null
[[ $(monitor sender query-curling --get last-error) == *"No such file"* ]] ||
    fail "last-error does not say that nobody is there"
[ "$(monitor sender query-curling --get state)" = failed ] ||
    fail "an address where nobody listens is no failure"
# The receiver dies in the first round: the monitor does not wait for another.
start_vm victim -incoming "curling:unix:$T/victim"
monitor sender curling-set '{"max-bandwidth": 1000000}' > /dev/null
start prompt bash -c "$(declare -f prompt); T='$T' prompt sender \
    'migrate curling:unix:$T/victim'"
wait_state victim syncing
kill_vm victim
wait_exit prompt
[ "$(monitor sender query-curling --get state)" = unprotected ] ||
    fail "the sender does not go on trying"
prompt sender migrate_cancel > /dev/null
wait_state sender stopped
! monitor sender migrate '{"uri": "curling:udp:x"}' > /dev/null 2>&1 ||
    fail "a wrong address was taken"
monitor sender migrate-set-capabilities \
    '{"capabilities": [{"capability": "xbzrle", "state": true}]}' > /dev/null
says sender "migrate curling:unix:$T/deferred" "capability xbzrle"
assert_counting sender
assert_no_bad sender
