#!/bin/bash
# Fault: rounds are larger than max-round-bytes allows, at the sender or at the
# receiver.
# Invariant: the sender stages no more than its limit: it ships a round in
# parts while the guest runs, or says why it cannot.  Of the receiver's limit
# it hears a sentence that names it, and says that the guest is unprotected
# until the limit is raised.  All the while the guest runs, and the receiver
# keeps the round that it has, and does not start it.
# timeout: 180
source "$(dirname "$0")/functions.sh"

chunk=$((4 << 20))
limit=$((8 << 20))

set_on() { monitor "$1" curling-set "$2" > /dev/null; }

# committed_more NAME N: N rounds more than now
committed_more() {
    local count

    count=$(monitor "$1" query-curling --get rounds-committed)
    monitor "$1" poll query-curling --timeout 60 \
            --until "rounds-committed>=$((count + $2))" > /dev/null ||
        fail "$1 did not commit $2 more rounds"
}

# says NAME TEXT: its last-error
says() {
    local error

    error=$(monitor "$1" query-curling --get last-error)
    [[ $error == *"$2"* ]] || fail "$1 says '$error', expected '$2'"
}

check_peak() {
    local peak

    peak=$(monitor "$1" query-curling --get memory-bytes.peak)
    [ "$peak" -lt $((limit + chunk)) ] ||
        fail "$1 had $peak bytes of rounds at a limit of $limit"
}

# 40 MiB a second, in 20 MiB a round
# shellcheck disable=SC2034  # of start_vm
RAM_MB=192 APPEND="curling.mb=64 curling.pages=1000 curling.verify=1000"
start_receiver receiver
start_vm sender
set_on sender \
    "{\"max-round-bytes\": $limit, \"interval-ms\": 500, \"reconnect-ms\": 200}"
wait_count sender 5

# In parts: the first round as well as those that follow
protect sender receiver
committed_more sender 8
check_peak sender
bytes=$(monitor sender query-curling --get last-round.bytes)
[ "$bytes" -gt "$limit" ] ||
    fail "a round of $bytes bytes is no test for a limit of $limit"
[ "$(monitor sender query-curling --get rounds-discarded)" -eq 0 ] ||
    fail "a round that can be shipped in parts was given up:" \
         "$(monitor sender query-curling --get last-error)"

# Full rounds are shipped as a whole, and this limit cannot hold one.
set_on sender '{"rounds": "full"}'
wait_state sender unprotected
says sender max-round-bytes
check_peak sender
assert_counting sender
set_on sender '{"rounds": "delta"}'
wait_state sender protected
committed_more sender 2
check_peak sender

# The receiver's limit, again and again: what is heard of it must not depend on
# who is faster.
for ((i = 0; i < 8; i++)); do
    set_on receiver "{\"max-round-bytes\": $limit}"
    wait_state sender unprotected
    says sender "does not fit into max-round-bytes ($limit);"
    says sender "the receiver failed"
    assert_counting sender
    assert_silent receiver
    state=$(monitor receiver query-curling --get state)
    [[ $state == suspect || $state == standby ]] ||
        fail "the receiver is $state"
    set_on receiver '{"max-round-bytes": 0}'
    wait_state sender protected
    committed_more sender 2
done
check_peak sender

# What large rounds left in memory is no hindrance to small ones under a lower
# limit, and goes when the session does.
set_on sender '{"max-round-bytes": 0, "rounds": "full"}'
committed_more sender 3
[ "$(monitor sender query-curling --get memory-bytes.now)" -gt $limit ] ||
    fail "full rounds take no memory"
discarded=$(monitor sender query-curling --get rounds-discarded)
set_on sender "{\"max-round-bytes\": $limit, \"rounds\": \"delta\"}"
committed_more sender 5
[ "$(monitor sender query-curling --get rounds-discarded)" = "$discarded" ] ||
    fail "rounds were given up: $(monitor sender query-curling --get last-error)"
[ "$(monitor sender query-curling --get memory-bytes.now)" -le $limit ] ||
    fail "more is held than the limit allows"

kill_vm sender
wait_state receiver active
[ "$(monitor receiver query-curling --get memory-bytes.now)" -eq 0 ] ||
    fail "a receiver that took over still holds memory for rounds"
wait_count receiver $(($(serial_count sender) + 15))
assert_no_bad sender
assert_no_bad receiver
