#!/bin/bash
# Fault: somebody says stop in the very moment in which a round has the guest
# paused (rounds follow each other without a break here).
# Invariant: the guest is stopped whenever stop has returned, stays so, and
# runs again after cont; the protection goes on all the while.
# timeout: 120
source "$(dirname "$0")/functions.sh"

start_receiver receiver
start_vm sender
monitor sender curling-set '{"interval-ms": 0}' > /dev/null
wait_count sender 3
protect sender receiver

python3 - "$T/sender.qmp" <<'PYTHON'
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect(sys.argv[1])
lines = sock.makefile("r")
stops = resumes = 0
def say(command):
    global stops, resumes
    sock.sendall(json.dumps({"execute": command}).encode())
    while True:
        answer = json.loads(lines.readline())
        stops += answer.get("event") == "STOP"
        resumes += answer.get("event") == "RESUME"
        if "return" in answer or "error" in answer:
            return answer
json.loads(lines.readline())
say("qmp_capabilities")
for i in range(300):
    answer = say("stop")
    if "error" in answer:
        sys.exit("stop %d: %s" % (i, answer))
    for _ in range(3):
        status = say("query-status")["return"]["status"]
        # A round that began before stop shows as such for a moment.
        if status not in ("paused", "finish-migrate"):
            sys.exit("stop %d had no effect: %s" % (i, status))
    while say("query-status")["return"]["status"] != "paused":
        pass
    answer = say("cont")
    if "error" in answer:
        sys.exit("cont %d: %s" % (i, answer))
    if say("query-status")["return"]["status"] == "paused":
        sys.exit("cont %d had no effect" % i)
if (stops, resumes) != (300, 300):
    sys.exit("%d STOP and %d RESUME for 300 of each" % (stops, resumes))
PYTHON
wait_state sender protected
assert_counting sender
assert_no_bad sender
assert_silent receiver
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
