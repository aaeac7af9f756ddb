#!/bin/bash
# Fault: the main loop of the sender, then of the receiver, hangs while its
# threads beat on; rounds that are due are not taken, for the link is slow.
# Invariant: that is no silence, and nothing is taken over; both sides say
# within moments of stall-ms what is stuck, by event and query-curling, and
# say so when it moves again.
# timeout: 120
source "$(dirname "$0")/functions.sh"

# wait_stuck NAME TEXT: it says what is stuck; no TEXT: nothing is any more
wait_stuck() {
    local said

    said=$(monitor "$1" poll query-curling --timeout 20 \
                   --until "lagging${2:+!}=null") ||
        fail "$1 does not say that ${2:-nothing is stuck}"
    [[ $said == *"${2-}"* ]] || fail "$1 says: $said"
}

start_vm sender
start_receiver receiver
for name in sender receiver; do
    monitor "$name" curling-set '{"peer-timeout-ms": 500, "stall-ms": 1000,
        "on-silence": "takeover"}' > /dev/null
done
wait_count sender 2
protect sender receiver
wait_stuck sender
wait_stuck receiver

echo "the sender's main loop"
hang sender
wait_stuck receiver "the main loop of the sender has not run"
[ "$(monitor receiver query-curling --get state)" = standby ] ||
    fail "a sender that beats is not heard"
let_loop_go sender
wait_stuck receiver
wait_stuck sender
# That of the sender itself was said before it could be asked.
assert_counting sender

echo "the receiver's main loop"
hang receiver
wait_stuck sender "the main loop of the receiver has not run"
assert_counting sender
let_loop_go receiver
wait_stuck sender
wait_stuck receiver

echo "rounds"
monitor sender curling-set '{"rounds": "full",
    "max-bandwidth": 2000000}' > /dev/null
[[ $(monitor receiver wait-event CURLING_LAGGING --timeout 20 \
             --get data.lagging,data.reason) == \
   true$'\t'"a round has been due for 1000 ms"* ]] ||
    fail "no event at the receiver"
wait_stuck sender "a round has been due"
assert_counting sender
monitor sender curling-set '{"rounds": "delta", "max-bandwidth": 0}' > /dev/null
wait_stuck sender
wait_stuck receiver
assert_counting sender
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "the session did not last"
assert_silent receiver
