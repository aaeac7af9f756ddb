#!/bin/bash
# Every command of curlingctl that works on a pair, against real QEMUs on this
# host.
# Invariant: it does what it says, says what it did, and its exit status tells
# how the pair stands, in every state.
# timeout: 180
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/ctl.sh
source "$top/tests/ctl.sh"

TRANSPORT=tcp
start_pair
setting() { monitor "$1" query-curling --get "$2"; }

echo "idle"
expect 4 '*not protected: nobody protects*sender*idle*receiver*listening*' \
    ctl status
expect 0 '*this pair can be protected' ctl doctor
expect 1 '*no guest is protected here*' ctl checkpoint
expect 1 '*no receiver holds a round*' ctl switchover
expect 1 '*holds no round that it could start*"listening"*' ctl failover --yes
expect 0 '*was not protected' ctl unprotect

echo "protect"
expect 0 '*protected: a round every 50ms, to curling:tcp:*' \
    ctl protect --interval 50ms --set compress=delta --set peer-timeout=2s
[ "$(setting sender interval-ms,compress,peer-timeout-ms)" = \
  $'50\tdelta\t2000' ] || fail "the sender's settings are not what was said"
[ "$(setting receiver peer-timeout-ms)" = 2000 ] ||
    fail "the receiver's settings are not what was said"
expect 0 '*: protected*protected, round*standby, round*pauses*' ctl status
expect 0 '*protected: a round every 20ms, *' ctl protect --interval 20ms
[ "$(setting sender interval-ms)" = 20 ] ||
    fail "protect changes no setting of a guest that is protected"

echo "get and set"
expect 0 20ms ctl get interval
expect 0 '*interval * 20ms *-*on-silence * - *wait*' ctl get
expect 0 '{"interval-ms":{"sender":20}}' ctl get interval --json
expect 0 '*interval*sender*compress*none, delta, zstd, auto*' "$CTL" get --list
expect 0 '*sender *: interval is 30ms now' ctl set interval 30ms
expect 0 '*: max-bandwidth is 1Gbit/s now' ctl set max-bandwidth 1Gbit
expect 0 '*: interval is 40ms now' ctl set interval-ms 40
expect 0 'sender *is 1s now*receiver *is 1s now' ctl set peer-timeout 1s
expect 0 'receiver *on-silence is wait now' ctl set on-silence wait
expect 2 '*unknown setting intreval; did you mean interval?' \
    ctl set intreval 50ms
expect 2 '*cannot be 50; give it a unit, as in 50ms or 2s' ctl set interval 50
expect 2 '*cannot be lzma; it is one of none, delta, zstd, auto' \
    ctl set compress lzma
expect 1 '*max-round-bytes*' ctl set max-round 1KiB
[ "$(setting sender interval-ms)" = 40 ] || fail "a refusal changed something"

echo "checkpoint"
ctl set interval 10min > /dev/null
before=$(setting sender rounds-committed)
expect 0 'round * is at the receiver' ctl checkpoint
[ "$(setting sender rounds-committed)" -gt "$before" ] ||
    fail "there was no round"
ctl set interval 20ms > /dev/null

echo "watch, record, history"
expect 0 '*protected round*pause*bandwidth*lag*' \
    ctl watch --count 5 --every 200ms --record "$T/record"
[[ $said != *$'\e'* ]] || fail "escape sequences reach a pipe"
[ "$(wc -l < "$T/record")" -eq 5 ] || fail "not one record for each look"
expect 0 '*time*pause*protected*the highest*' "$CTL" history "$T/record"
expect 0 'time-us,state,*' "$CTL" history --csv "$T/record"
[ "$(wc -l <<< "$said")" -eq 6 ] || fail "not a line for each record: $said"
expect 0 '' "$CTL" history --svg "$T/chart.svg" "$T/record"
grep -q '</svg>' "$T/chart.svg" || fail "no chart was drawn"
(cd "$T" && "$CTL" history --svg '|touch no' record) ||
    fail "a file cannot have every name"
[ ! -e "$T/no" ] || fail "the name of a chart was run as a command"
expect 1 '*line 1: no record of*' "$CTL" history <(echo '{"a": 1}')
expect 1 '*line 2: no JSON*' "$CTL" history <(head -n 1 "$T/record"; echo '{'
                                              echo)
expect 1 '*No such file*' "$CTL" history "$T/missing"

echo "over TCP"
start_vm third -qmp tcp:127.0.0.1:20000,to=30000,server=on,wait=off
port=$(monitor third query-chardev | grep -o 'tcp:127.0.0.1:[0-9]*' |
       head -n 1)
expect 4 "*sender *$port: idle*" "$CTL" status --sender "$port" \
    --receiver "$receiver_ep"
kill_vm third TERM

echo "events"
start events "$CTL" events --sender "$sender_ep" --receiver "$receiver_ep"
connected() { [ "$(grep -c CURLINGCTL_CONNECTED "$T/events.out")" -eq 2 ]; }
poll 10 connected || fail "events hears nobody"
# Its connections are the only ones that these sockets serve.
"$top/tests/qmp" "$T/sender.qmp2" migrate_cancel > /dev/null
wait_state sender stopped
poll 10 grep -q '"end":"sender"' <(tail -f "$T/events.out") ||
    fail "no event of the sender"
poll 10 grep -q '"state":"stopped"' "$T/events.out" ||
    fail "the end of the session is no event: $(< "$T/events.out")"
expect 1 '*no greeting: a QMP socket serves one client*' \
    "$CTL" --timeout 500ms status --sender "$sender_ep" \
    --receiver "$receiver_ep"
kill_process events INT
[ "${ended[events]}" -eq 0 ] || fail "events ends with ${ended[events]}"
while IFS= read -r line; do
    python3 -c 'import json, sys; json.loads(sys.argv[1])' "$line"
done < "$T/events.out"

echo "one end does not answer"
kill -STOP "${pid[receiver]}"
expect 1 'sender *is 3s now*receiver.qmp: no greeting*' \
    "$CTL" --timeout 500ms set peer-timeout 3s --sender "$sender_ep" \
    --receiver "$receiver_ep"
# What the sender says is seen all the same, and its socket is free meanwhile.
expect 4 '*not protected round [0-9]*' ctl watch --count 2 --every 100ms
expect 4 '*on request*sender *stopped, round*receiver *serves one client*' \
    "$CTL" --timeout 500ms status --sender "$sender_ep" \
    --receiver "$receiver_ep"
kill -CONT "${pid[receiver]}"
expect 0 '*receiver *is 1s now' ctl set peer-timeout 1s

echo "proxy ends with who started it"
start proxy python3 -SEuc '
import socket, subprocess, sys
ours, theirs = socket.socketpair()
proxy = subprocess.Popen([sys.argv[1], "proxy", sys.argv[2]], stdin=theirs,
                         stdout=theirs)
theirs.close()
greeting = ours.recv(100)
assert b"QMP" in greeting, greeting
ours.close()
sys.exit(proxy.wait(timeout=10))
' "$CTL" "$T/receiver.qmp"
wait_exit proxy

echo "unprotect, and again"
expect 4 '*protection was ended on request*' ctl status
expect 0 '*protected: *' ctl protect
expect 0 'not protected any more*' ctl unprotect
wait_state receiver listening
expect 0 '*was not protected' ctl unprotect
assert_counting sender

echo "failover"
expect 0 '*protected: *' ctl protect
expect 2 '*nobody is there to answer; say --yes' ctl failover
kill -STOP "${pid[sender]}"
wait_state receiver suspect
expect 4 '*does not hear its sender*' "$CTL" --timeout 500ms status \
    --sender "$sender_ep" --receiver "$receiver_ep"
expect 0 'the guest runs at *receiver*' "$CTL" --timeout 1s failover --yes \
    --sender "$sender_ep" --receiver "$receiver_ep"
expect 5 '*failed over*' "$CTL" --timeout 500ms status --sender "$sender_ep" \
    --receiver "$receiver_ep"
assert_counting receiver
kill -CONT "${pid[sender]}"
wait_state sender fenced
expect 5 '*failed over*fenced*active*' ctl status
expect 1 '*fenced*' ctl protect
expect 1 '*is fenced*' ctl unprotect
expect 0 'the guest runs at * already' ctl failover --yes
kill_vm sender
ctl_status 5

echo "the way back, and a switch-over"
start_receiver sender
expect 5 '*roles*have swapped*' ctl status
expect 0 '*roles have swapped*protected: *' ctl protect
expect 0 '*roles*have swapped*' ctl status
expect 0 'the guest runs at *sender.qmp; the QEMU at *receiver.qmp can quit' \
    ctl switchover
ctl_status 5
assert_counting sender
assert_no_bad sender
kill_vm receiver TERM
ctl_status 5
