#!/bin/bash
# Fault: one side is not heard for a while, but lives: the sender is stopped
# (SIGSTOP), the receiver is stopped, the link stalls and is then reset, one
# of them is told by yank to give its connection up.
# Invariant: silence is no death: with on-silence=wait nobody takes over,
# however short close-grace-ms is; who is heard again goes on with no second
# copy of all of RAM; a receiver that slept does not blame its peer.  With
# on-silence=takeover the receiver takes over, and a sender that wakes is told
# so and pauses its guest.
# timeout: 180
TRANSPORT=tcp
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

yank='{"instances": [{"type": "migration"}]}'

# goes_on WHAT: rounds are committed as before, and RAM was sent once
goes_on() {
    wait_protected
    commit_round
    [ "$(grep -c 'ROUND_BEGIN round=0 ' "$T/$link.log")" -eq 1 ] ||
        fail "$1: all of RAM was sent again"
    assert_no_bad "$sender"
}

# states NAME: all that its log of trace events tells, as ROLE STATE: REASON
states() { traced "$1" | sed -n 's/^curling_state //p'; }

receiver_settings='{"close-grace-ms": 0, "peer-timeout-ms": 500}'
sender_settings='{"interval-ms": 10, "reconnect-ms": 50,
                  "peer-timeout-ms": 500}'
start_sender
next_link
commit_round

echo "the sender is stopped"
kill -STOP "${pid[$sender]}"
wait_state "$receiver" suspect
kill -CONT "${pid[$sender]}"
goes_on "a stopped sender"

echo "the receiver is stopped"
monitor "$receiver" trace-event-set-state \
    '{"name": "curling_state", "enable": true}' > /dev/null
kill -STOP "${pid[$receiver]}"
wait_state "$sender" unprotected
assert_counting "$sender" 60
kill -CONT "${pid[$receiver]}"
goes_on "a stopped receiver"
said=$(states "$receiver")
[[ $said != *suspect* ]] || fail "a receiver that slept blames its peer: $said"

echo "the link stalls, and what is left of it is reset"
proxy_faults now stall
wait_state "$receiver" suspect
wait_state "$sender" unprotected
proxy_faults now reset
assert_counting "$sender" 30
wait_state "$receiver" suspect 1
assert_silent "$receiver"
proxy_faults now resume
goes_on "a stalled link"

for side in "$sender" "$receiver"; do
    echo "yank at $side"
    hellos=$(grep -c ' HELLO ' "$T/$link.log")
    monitor "$side" yank "$yank" > /dev/null
    poll 10 eval "[ \$(grep -c ' HELLO ' '$T/$link.log') -gt $hellos ]" ||
        fail "nobody came back after yank at $side"
    goes_on "yank at $side"
done

echo "on-silence=takeover"
monitor "$receiver" curling-set '{"on-silence": "takeover"}' > /dev/null
commit_round
kill -STOP "${pid[$sender]}"
wait_state "$receiver" active
assert_counting "$receiver"
stopped=$(serial_count "$sender")
kill -CONT "${pid[$sender]}"
wait_state "$sender" fenced
[ "$(monitor "$sender" query-status --get status)" = paused ] ||
    fail "the guest of a fenced sender runs"
echo "the old guest counted $(($(serial_count "$sender") - stopped)) more"
assert_counting "$receiver" 20
assert_no_bad "$receiver"
wait_exit "$receiver.first"
