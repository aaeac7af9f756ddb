#!/bin/bash
# Fault: the receiver is killed (SIGKILL): in the first round, between two
# rounds, while the sender captures one, while it ships one, before RECEIVED,
# while the round is applied, and at random instants.
# Invariant: the guest on the sender never notices; it is said to be
# unprotected, and protected again once a receiver is back at that address.
#
# KILLS=N in the environment kills N times (12), SEED=N repeats a run.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# another_receiver: where the one before was
another_receiver() {
    machines=$((machines + 1))
    receiver=machine$machines
    start_machine "$receiver" -incoming "curling:$address"
}

# killed WHEN: the proxy kills the receiver there, and nothing more comes from
# it
killed() {
    proxy_faults "$1" "kill=${pid[$receiver]}" cut
    wait_exit "$receiver" 137
    proxy_fired "$link" "$1:kill" || fail "the proxy has not killed at $1"
}

kill_between_rounds() {
    monitor "$sender" curling-set '{"interval-ms": 3600000}' > /dev/null
    commit_round
    kill_vm "$receiver"
}

kill_while_capturing() {
    monitor "$sender" curling-set '{"rounds": "full"}' > /dev/null
    commit_round
    on_trace "$sender" curling_paused kill -KILL "${pid[$receiver]}"
    wait_exit "$receiver" 137
    monitor "$sender" trace-event-set-state \
        '{"name": "curling_paused", "enable": false}' > /dev/null
    traced "$sender" > /dev/null
}

kill_while_shipping() { killed mid-round=any; }
kill_before_received() { killed after=ROUND_END; }
kill_while_applying() { killed after=RECEIVED; }


kill_at_random() {
    commit_round
    random 0 300000
    sleep "$(printf '0.%06d' "$number")"
    kill_vm "$receiver"
}

# protected_again: rounds are committed
protected_again() {
    wait_protected
    commit_round
    [ "$(monitor "$sender" query-migrate --get status)" = curling ] ||
        fail "query-migrate does not say curling"
}

# unprotected: and it says so, and the guest does not care
unprotected() {
    wait_state "$sender" unprotected
    assert_counting "$sender"
    [ "$(monitor "$sender" query-status --get status)" = running ] ||
        fail "the guest on the sender does not run"
}

points=(between_rounds while_capturing while_shipping before_received
        while_applying at_random)
print_seed
start_sender
watch_stalls "$sender"

new_receiver
address=$(receiver_addr "$receiver")
proxy_faults mid=DATA,round=0 "kill=${pid[$receiver]}" cut
start_protection
wait_exit "$receiver" 137
unprotected
another_receiver
protected_again
for ((i = 0; i < ${KILLS:-12}; i++)); do
    point=${points[i % ${#points[@]}]}
    "kill_$point"
    unprotected
    another_receiver
    monitor "$sender" curling-set '{"interval-ms": 10, "rounds": "delta"}' \
        > /dev/null
    protected_again
    echo "killed $point: the longest stall of the guest until now is" \
         "$(longest_stall "$sender") ms"
done
assert_never_stopped "$sender"
same_ram "$sender" "$receiver" "after all the kills"
monitor "$sender" cont > /dev/null
commit_round

# What the last of them has is good.
kill_vm "$sender"
kill_process "$sender.stalls"
assert_taken_over
