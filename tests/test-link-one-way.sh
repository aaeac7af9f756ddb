#!/bin/bash
# Fault: the connection is lost; when the sender comes back, what it says
# arrives, but nothing comes back to it, or something damaged does.
# Invariant: a connection of its session that is open is a sender that lives:
# the receiver does not take over.  Once the link is whole, rounds go on.
# timeout: 60
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

hellos() { grep -c ' HELLO ' "$T/$link.log"; }
hellos_reached() { [ "$(hellos)" -ge "$1" ]; }

# The defaults of all settings that have to do with it
sender_settings='{"interval-ms": 10}'
start_sender
next_link
for answer in corrupt=1 stall-back; do
    commit_round
    before=$(hellos)
    proxy_faults before=WELCOME "$answer"
    proxy_faults now cut
    # One that is not answered, and one that is
    poll 20 hellos_reached $((before + 2)) ||
        fail "$answer: the sender did not come back twice"
    wait_state "$sender" protected
    wait_protected
    commit_round
done
kill_vm "$sender"
assert_taken_over
