#!/bin/bash
# Fault: the receiver is busy: rounds of 1 GB arrive, are applied and freed,
# as fast as they can or slowly, their devices loaded or not, and then it takes
# over.
# Invariant: its monitor answers within 100 ms at all times, and says inmigrate
# until the takeover.
#
# Time for which the one who asks, the thread that answers, or the one of the
# others that it may have to wait for, was ready to run and the machine had no
# processor for it does not count.  That forgives much to a single answer, so
# of all answers, with nothing forgiven, 99 of 100 are in time too.
# timeout: 240
# run: alone
source "$(dirname "$0")/functions.sh"

limit_ms=100

# Ask again and again, over one connection, until there is a file; say which
# answer took longest, with and without the wait for a processor.
cat > "$T/watch.py" <<'PYTHON'
import json, os, socket, sys, time

path, pid, enough = sys.argv[1:]
LIMIT_MS = 100

def queued(task):
    """For how many ms so far has this thread waited for a processor?"""
    try:
        with open("/proc/%s/schedstat" % task) as file:
            return int(file.read().split()[1]) / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0

def threads():
    tasks = ["%s/task/%s" % (pid, tid) for tid in os.listdir(
        "/proc/%s/task" % pid) if tid != pid]
    return {task: queued(task) for task in [own, main] + tasks}

def ask(command):
    global asked, slow, worst, worst_all
    before = threads()
    began = time.monotonic()
    monitor.sendall(b'{"execute": "%s"}\n' % command.encode())
    answer = {}
    while "return" not in answer:
        answer = json.loads(lines.readline())
        if "error" in answer:
            sys.exit("%s: %s" % (command, answer))
    took_ms = (time.monotonic() - began) * 1000
    waits = {task: queued(task) - then for task, then in before.items()}
    asked += 1
    worst = max(worst, (took_ms - waits.pop(own) - waits.pop(main) -
                        max(waits.values(), default=0), command))
    worst_all = max(worst_all, took_ms)
    slow += took_ms >= LIMIT_MS
    return answer["return"]

own, main = "self/task/%d" % os.getpid(), "%s/task/%s" % (pid, pid)
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(30)
monitor.connect(path)
lines = monitor.makefile("rb")
lines.readline()
asked, slow, worst, worst_all = 0, 0, (0, ""), 0
ask("qmp_capabilities")
statuses = []
while not os.path.exists(enough):
    status = ask("query-status")["status"]
    if status not in statuses[-1:]:
        statuses.append(status)
    ask("query-curling")
    time.sleep(0.002)
print("worst %.1f ms for %s, %.1f ms with waits for a processor, of %d" %
      (*worst, worst_all, asked))
print("slow", slow * 100 // asked)
print("statuses", *statuses)
PYTHON

# rounds N: as many more rounds, each of 1 GB
rounds() {
    local count bytes

    count=$(monitor sender query-curling --get rounds-committed)
    monitor sender poll query-curling --timeout 60 \
            --until "rounds-committed>=$((count + $1))" > /dev/null ||
        fail "the sender did not commit $1 more rounds"
    bytes=$(monitor sender query-curling --get last-round.bytes)
    [ "$bytes" -ge 1000000000 ] || fail "a round of only $bytes bytes"
}

RAM_MB=1300 APPEND="curling.mb=1000 curling.verify=60000"
start_receiver receiver
start_vm sender
wait_count sender 3
start watcher python3 -SE "$T/watch.py" "$T/receiver.qmp" \
    "${pid[receiver]}" "$T/enough"

# The first round, then round after round
monitor sender curling-set '{"rounds": "full", "interval-ms": 0}' > /dev/null
protect sender receiver
rounds 4
assert_counting sender

# The link as the bottleneck: what arrives trickles in for seconds.
monitor sender curling-set '{"max-bandwidth": 400000000}' > /dev/null
rounds 2
monitor sender curling-set '{"max-bandwidth": 0}' > /dev/null

# Each round's devices are loaded, by the thread that answers.
monitor receiver curling-set '{"apply": "eager"}' > /dev/null
rounds 3

assert_silent receiver
kill_vm sender
wait_state receiver active
wait_count receiver $(($(serial_count sender) + 5))
touch "$T/enough"
wait_exit watcher
assert_no_bad sender
assert_no_bad receiver

cat "$T/watcher.out"
[ "$(sed -n 's/^statuses //p' "$T/watcher.out")" = "inmigrate running" ] ||
    fail "the receiver's status was not inmigrate and then running"
worst=$(sed -n 's/^worst \([0-9]*\).*/\1/p' "$T/watcher.out")
[ "$worst" -lt "$limit_ms" ] || fail "an answer took $worst ms"
slow=$(sed -n 's/^slow //p' "$T/watcher.out")
[ "$slow" -eq 0 ] || fail "$slow % of the answers took $limit_ms ms or longer"
