#!/bin/bash
# Fault: the sender is killed while each round carries all of RAM
# (rounds=full): between rounds, in the middle of one, before its end, before
# RECEIVED comes back, and while it is applied.
# Invariant: a round that would replace everything replaces nothing before it
# is whole: the receiver takes over from the last one it had whole.
# timeout: 120
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# all_of_ram: the round before the last one that went through was a full one
all_of_ram() {
    [ "$(monitor "$receiver" query-curling --get last-round.kind)" = full ] ||
        fail "the last round is no full one"
    # Zero pages take no room, the working set does.
    [ "$(monitor "$receiver" query-curling --get last-round.bytes)" -gt \
      $((32 << 20)) ] || fail "the last round is too small to be a full one"
}

sender_settings='{"interval-ms": 10, "reconnect-ms": 50, "rounds": "full"}'
start_sender
for when in now mid-round=any before=ROUND_END before=RECEIVED \
            after=RECEIVED before=APPLIED; do
    next_link
    commit_round
    all_of_ram
    proxy_faults "$when" "kill=${pid[$sender]}" cut
    wait_exit "$sender" 137
    assert_taken_over
    all_of_ram
    take_place
done
