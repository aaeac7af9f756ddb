#!/bin/bash
# Fault: the sender is killed; its guest's RAM is not one block, but two (as
# with NUMA nodes, or memory that was plugged in).
# Invariant: what the guest writes is seen in all blocks: its memory is intact
# after each takeover.
# timeout: 120
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

machine_args=(-object "memory-backend-ram,id=ram0,size=64M"
              -object "memory-backend-ram,id=ram1,size=64M"
              -numa "node,memdev=ram0" -numa "node,memdev=ram1")
start_sender
for ((i = 0; i < 5; i++)); do
    next_link
    commit_round
    commit_round
    kill_sender
    assert_taken_over
    take_place
done
