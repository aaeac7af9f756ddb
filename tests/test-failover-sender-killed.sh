#!/bin/bash
# Fault: the sender is killed (SIGKILL): between two rounds, while it captures
# one, while it ships one, before ROUND_END, before RECEIVED comes back, while
# the receiver applies the round, during the first round's load on trial, and
# at random instants.
# Invariant: the receiver takes over from the last round it had whole, never
# from an older or a torn one; until then it runs nothing.
#
# KILLS=N in the environment kills N times (24), SEED=N repeats a run.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# killed WHEN: the proxy kills the sender there, and nothing more arrives
killed() {
    proxy_faults "$1" "kill=${pid[$sender]}" cut
    wait_exit "$sender" 137
    proxy_fired "$link" "$1:kill" || fail "the proxy has not killed at $1"
}

kill_between_rounds() {
    monitor "$sender" curling-set '{"interval-ms": 3600000}' > /dev/null
    commit_round
    kill_sender
    [ "$(forwarded '>' ROUND_BEGIN)" -eq "$round" ] ||
        fail "a round began behind round $round"
}

# The guest stands still for long enough only if the round has all of RAM.
kill_while_capturing() {
    local captured

    monitor "$sender" curling-set '{"rounds": "full"}' > /dev/null
    commit_round
    monitor "$sender" trace-event-set-state \
        '{"name": "curling_captured", "enable": true}' > /dev/null
    on_trace "$sender" curling_paused kill -KILL "${pid[$sender]}"
    wait_exit "$sender" 137
    captured=$(traced "$sender")
    [ -n "$captured" ] || killed_while_capturing=1
}

kill_while_shipping() {
    commit_round
    killed mid-round=any
    [ "$(forwarded '>' ROUND_BEGIN)" -gt "$(forwarded '>' ROUND_END)" ] ||
        fail "no round was on its way"
}

kill_before_round_end() {
    commit_round
    killed before=ROUND_END
    [ "$(forwarded '>' ROUND_BEGIN)" -gt "$(forwarded '>' ROUND_END)" ] ||
        fail "no round was on its way"
}

kill_before_received() {
    commit_round
    killed before=RECEIVED
    [ "$(forwarded '>' ROUND_END)" -gt "$(forwarded '<' RECEIVED)" ] ||
        fail "the sender knew that its last round was whole"
}

# Right after RECEIVED, the receiver applies for some milliseconds.
kill_while_applying() {
    monitor "$sender" curling-set '{"rounds": "full"}' > /dev/null
    commit_round
    killed after=RECEIVED
    [ "$(forwarded '>' ROUND_END)" -gt "$(forwarded '<' APPLIED)" ] ||
        fail "the last round was applied already"
}

kill_at_random() {
    random 0 20
    monitor "$sender" curling-set "{\"interval-ms\": $number}" > /dev/null
    commit_round
    random 0 400000
    sleep "$(printf '0.%06d' "$number")"
    kill_sender
}

# The only round there is, and not yet known to be good
kill_in_first_round() {
    new_receiver
    count=$(serial_count "$sender")
    proxy_faults after=ROUND_END,round=0 "kill=${pid[$sender]}" cut
    start_protection
    wait_exit "$sender" 137
    assert_taken_over
    take_place
}

points=(between_rounds while_capturing at_random while_shipping
        before_round_end before_received at_random while_applying
        while_capturing at_random at_random)
killed_while_capturing=
print_seed
start_sender
kill_in_first_round
for ((i = 0; i < ${KILLS:-24} - 1; i++)); do
    point=${points[i % ${#points[@]}]}
    next_link
    "kill_$point"
    assert_taken_over
    echo "killed $point: took over from round" \
         "$(monitor "$receiver" query-curling --get last-round.number)," \
         "$(($(serial_count "$sender") - $(serial_first_count "$receiver")))" \
         "counts back"
    take_place
done
[ -n "$killed_while_capturing" ] || fail "no kill came while it captured"
