#!/bin/bash
# Fault: none; the benchmark is run at its shortest.
# Invariant: it comes to its end, with figures for the guest alone, Curling and
# COLO, and a verdict on each target: what it says is not judged here.
# timeout: 300
# run: alone
source "$(dirname "$0")/functions.sh"

requires unshare --net ip link add type veth
requires gnuplot --version

start bench "$top/tests/bench/bench" --short --out "$T/bench"
end_timeout_s=240
wait_exit bench
python3 -SE - "$T/bench/results.json" <<'PYTHON' || fail "$(< "$T/bench.err")"
import json, sys
results = json.load(open(sys.argv[1]))
figures = {item["system"]: item for item in results["figures"]}
for system in "alone", "curling", "colo":
    item = figures[system]
    if item["failed"] or not item["beats_per_s"] or not item["work_per_s"]:
        sys.exit("%s: %s" % (system, item))
for system in "curling", "colo":
    if figures[system]["pauses_us"]["n"] < 3:
        sys.exit("%s: %s" % (system, figures[system]))
if not figures["curling"]["takeover_us"]["n"]:
    sys.exit("no takeover: %s" % figures["curling"])
if len(results["targets"]) < 30:
    sys.exit("only %d targets" % len(results["targets"]))
PYTHON
grep -Eq "^(met|missed) .* L1: guest" "$T/bench/results.txt" ||
    fail "no verdict: $(< "$T/bench/results.txt")"
[ -s "$T/bench/pause-over-time-L1.svg" ] || fail "no chart"
