#!/bin/bash
# Fault: with fence-after-ms set, the network is cut for a while, in both
# directions or in one; the receiver dies, or is frozen; the sender is frozen,
# or its main loop hangs when it has to stop its guest; STOP is not heard.
# Invariant: the guest stands still at the sender before the receiver starts
# it, or its process is gone by then; where nobody took over it goes on by
# itself when the receiver is heard again; a receiver that is seen to die
# does not stop it.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

lease_ms=1000
sender_settings='{"interval-ms": 20, "reconnect-ms": 50,
                  "peer-timeout-ms": 400, "fence-after-ms": '$lease_ms'}'
receiver_settings='{"peer-timeout-ms": 400, "on-silence": "takeover"}'

status() { monitor "$1" query-status --get status; }

# assert_one_after_the_other: the receiver's guest began when the sender's had
# ended
assert_one_after_the_other() {
    local last first

    wait_state "$receiver" active
    wait_exit "$receiver.first"
    first=$(< "$T/$receiver.first.out")
    last=$(tail -n 1 "$T/$sender.last.out")
    [ -n "$last" ] || fail "nobody watched $sender"
    echo "$(((first - last) / 1000000)) ms between the two guests"
    [ "$first" -gt "$last" ] || fail "both ran, for $((last - first)) ns"
    kill_process "$sender.last"
    assert_counting "$receiver" 20
    assert_no_bad "$receiver"
}

# --- Nobody is heard, and the receiver takes over

for way in stall stall-forward; do
    echo "$way, and takeover"
    [ -n "$sender" ] || start_sender
    next_link
    for name in "$sender" "$receiver"; do
        [ "$(monitor "$name" query-curling --get guard)" = lease ] ||
            fail "$name does not tell of the lease"
    done
    watch_last_word "$sender"
    proxy "$link" "now:$way" > /dev/null
    assert_fenced "$sender"
    refuses "$sender" cont '{}' "the receiver runs this guest, or may run it"
    refuses "$sender" device_add '{"driver": "virtio-rng-pci"}' \
            "not allowed while Curling protects this guest"
    assert_one_after_the_other
    # The network heals.
    proxy "$link" now:resume > /dev/null
    monitor "$sender" poll query-migrate --until status=failed > /dev/null ||
        fail "a superseded sender does not end"
    [ "$(status "$sender")" = paused ] || fail "its guest goes on"
    refuses "$sender" cont '{}' "the receiver runs this guest"
    refuses "$sender" migrate '{"uri": "curling:tcp:127.0.0.1:1"}' \
            "use curling-unfence first"
    take_place
done

echo "the sender is frozen, and wakes"
next_link
watch_last_word "$sender"
kill -STOP "${pid[$sender]}"
wait_state "$receiver" active
kill -CONT "${pid[$sender]}"
wait_state "$sender" fenced
assert_counting "$receiver" 20
# Both run from waking to fencing, which the lease does not cover.
kill_process "$sender.last"
take_place

echo "its main loop hangs"
next_link
watch_last_word "$sender"
hang "$sender"
start "$sender.end" python3 -SEuc '
import os, sys, time
while os.path.exists("/proc/" + sys.argv[1]) and \
      open("/proc/%s/stat" % sys.argv[1]).read().rpartition(") ")[2][0] != "Z":
    time.sleep(0.005)
print(time.monotonic_ns())
' "${pid[$sender]}"
proxy "$link" now:stall > /dev/null
wait_exit "$sender" 137
wait_exit "$sender.end"
grep -q "this process kills itself" "$T/$sender.err" ||
    fail "the sender was not killed by itself"
assert_one_after_the_other
[ "$(< "$T/$receiver.first.out")" -gt "$(< "$T/$sender.end.out")" ] ||
    fail "the sender outlived its lease"
take_place

# --- Nobody takes over

receiver_settings='{"peer-timeout-ms": 400, "on-silence": "wait"}'
for way in stall stall-forward stall-back; do
    echo "$way, and the receiver waits"
    next_link
    watch_stalls "$sender"
    proxy "$link" "now:$way" > /dev/null
    assert_fenced "$sender"
    if [ "$way" = stall-forward ]; then
        # An operator stops the guest that the lease has stopped.
        monitor "$sender" stop > /dev/null
        proxy "$link" now:resume > /dev/null
        wait_state "$sender" protected
        [ "$(status "$sender")" = paused ] || fail "stop is forgotten"
        monitor "$sender" cont > /dev/null
    else
        proxy "$link" now:resume > /dev/null
        wait_state "$sender" protected
    fi
    wait_state "$receiver" standby
    assert_counting "$sender" 20
    assert_no_bad "$sender"
    assert_silent "$receiver"
    kill_process "$sender.stalls"
    monitor "$sender" migrate_cancel > /dev/null
    wait_state "$sender" stopped
    kill_process "$receiver.first"
    kill_vm "$receiver"
    kill_process "$link"
done

# Rounds that are taken while the guest stands still are of one that runs.
echo "the sender dies when a lease has just healed"
next_link
proxy "$link" now:stall-forward > /dev/null
wait_state "$sender" fenced
proxy "$link" now:resume > /dev/null
wait_state "$receiver" standby
kill_vm "$sender"
wait_state "$receiver" active
assert_counting "$receiver" 20
[ "$(status "$receiver")" = running ] || fail "the guest stands still"
wait_exit "$receiver.first"
take_place

echo "the receiver is frozen, and wakes"
next_link
kill -STOP "${pid[$receiver]}"
assert_fenced "$sender"
kill -CONT "${pid[$receiver]}"
wait_state "$sender" protected
wait_state "$receiver" standby
assert_counting "$sender" 20

echo "an operator knows better"
kill -STOP "${pid[$receiver]}"
wait_state "$sender" fenced
refuses "$sender" curling-unfence '{}' "use force if you know"
monitor "$sender" curling-unfence '{"force": true}' > /dev/null
wait_state "$sender" unprotected
monitor "$sender" cont > /dev/null
assert_counting "$sender" 20
kill -CONT "${pid[$receiver]}"
wait_state "$sender" protected

echo "the receiver dies"
watch_stalls "$sender"
kill_vm "$receiver"
wait_state "$sender" unprotected
sleep "$((2 * lease_ms / 1000))"
[ "$(status "$sender")" = running ] || fail "the guest was stopped"
assert_never_stopped "$sender"

echo "STOP is not heard"
monitor "$sender" migrate_cancel > /dev/null
wait_state "$sender" stopped
kill_process "$receiver.first"
kill_process "$link"
next_link
kill -STOP "${pid[$receiver]}"
monitor "$sender" migrate_cancel > /dev/null
assert_fenced "$sender"
kill -CONT "${pid[$receiver]}"
