#!/bin/bash
# Fault: the guest's clock stands still in each pause, 50 times a second.
# Invariant: against the host's clock, the guest's goes as fast while rounds
# pause it as without them, to within 100 ppm; NTP mends no more than 500.
# LONG=1: for 2 minutes.
# Only under TCG: where this was written KVM loses ticks without rounds, too.
# timeout: 120
# long-timeout: 600
# run: alone
source "$(dirname "$0")/functions.sh"

limit_ppm=100
seconds=16
[ -z "${LONG-}" ] || seconds=120

# The time of the guest and that of the host, at each line of the guest's
cat > "$T/listen.py" <<'PYTHON'
import sys, time
data = b""
with open(sys.argv[1], "rb") as file:
    while True:
        part = file.read()
        if not part:
            time.sleep(0.001)
            continue
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        *lines, data = (data + part).split(b"\n")
        if lines and lines[-1].strip().isdigit():
            print(int(lines[-1]), now, flush=True)
PYTHON

# A line may be late, never early: the least late of a second's is taken for
# true, and a line is laid through all seconds from the middle of their pairs.
cat > "$T/ppm.py" <<'PYTHON'
import statistics, sys
begin, end = int(sys.argv[2]), int(sys.argv[3])
best = {}
for line in open(sys.argv[1]):
    guest, host = (int(word) for word in line.split())
    if begin <= host < end:
        second = (host - begin) // 1000000000
        best[second] = min(best.get(second, (1 << 63, 0)),
                           (host - guest, host))
points = [(host, late) for late, host in best.values()]
slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a in points for b in points
          if b[0] - a[0] > (end - begin) / 3]
print(round(-1e6 * statistics.median(slopes)))
PYTHON

host_ns() { python3 -SEc 'import time; print(time.monotonic_ns())'; }

has_time_passed() { [ "$(host_ns)" -ge "$1" ]; }

# drift: set $ppm, by which the guest's clock is too fast, from now on
drift() {
    local begin

    begin=$(host_ns)
    poll $((seconds + 20)) has_time_passed $((begin + seconds * 1000000000)) ||
        fail "time does not pass"
    ppm=$(python3 -SE "$T/ppm.py" "$T/listen.out" "$begin" \
                  $((begin + seconds * 1000000000)))
}

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.clock=1"
start_receiver receiver -serial null
start_vm sender -serial "file:$T/time"
start listen python3 -SE "$T/listen.py" "$T/time"
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
wait_count sender 3
drift
without=$ppm
protect sender receiver
rounds=$(monitor sender query-curling --get rounds-committed)
drift
rounds=$(($(monitor sender query-curling --get rounds-committed) - rounds))
echo "$without ppm without rounds, $ppm with $((rounds / seconds)) a second;" \
     "pauses: $(monitor sender query-curling --get pause-us) us"
[ $((rounds / seconds)) -ge 40 ] || fail "too few rounds to say anything"
ppm=$((ppm - without))
[ "${ppm#-}" -le "$limit_ppm" ] ||
    fail "rounds change the guest's clock by $ppm ppm"
assert_no_bad sender
kill_process listen
