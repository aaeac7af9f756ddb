#!/bin/bash
# Fault: the sender is killed before its first round is whole.
# Invariant: the receiver starts nothing, says that it has nothing to start,
# listens again, and serves the next sender as if the dead ones had never been
# there: with the memory of none of them.
#
# SEED=N in the environment repeats a run.
# timeout: 180
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# dies WHEN: the sender does, there
dies() {
    proxy_faults "$1" "kill=${pid[$sender]}" cut
    start_protection
    wait_exit "$sender" 137
    proxy_fired "$link" "$1:kill" || fail "the proxy has not killed at $1"
    proxy "$link" clear > /dev/null

    wait_state "$receiver" listening
    [[ $(monitor "$receiver" query-curling --get last-error) == \
       *"nothing to start"* ]] ||
        fail "killed at $1: the receiver does not say that it has nothing"
    [ "$(monitor "$receiver" query-curling --get rounds-committed)" -eq 0 ] ||
        fail "killed at $1: a round was committed"
    [ "$(monitor "$receiver" query-status --get status)" = inmigrate ] ||
        fail "killed at $1: the receiver is not waiting any more"
    ! monitor "$receiver" curling-failover '{"force": true}' \
        > /dev/null 2>&1 || fail "killed at $1: something was started"
    assert_silent "$receiver"
}

print_seed

# All of its working set is at the receiver when it dies, and differs from
# the next one's: other pages, at other places.
APPEND="curling.mb=48 curling.tick=20 curling.pages=2000" start_sender
new_receiver
dies before=ROUND_END

# These die in their first second, while the firmware or the kernel starts.
random 2 12
for when in before=WELCOME before=ROUND_BEGIN mid=DATA "mid=DATA,nth=$number" \
            mid=ROUND_END; do
    deaths=$((${deaths-0} + 1))
    sender=dead$deaths
    start_machine "$sender"
    dies "$when"
done

sender=living
start_machine "$sender"
wait_count "$sender" 3
start_protection
wait_protected
commit_round
kill_vm "$sender"
assert_taken_over
