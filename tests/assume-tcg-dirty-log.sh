#!/bin/bash
# Assumption: under TCG a page that a vCPU writes is in the dirty log of the
# round in which it was written or of the next, however short the rounds are.
#
# A vCPU writes by its TLB without a word to anybody; that the page is dirty is
# noted only where the TLB was told to.  Two vCPUs of TCG's threads write to
# tens of thousands of pages a second, in two blocks of RAM, in rounds without a
# break, thousands of them.  A forgotten page lies at the receiver until it is
# written again: now and then all RAM is compared, and in the end the guest
# itself looks.
# timeout: 240
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"

times=8
rounds_each=400

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 SMP=2
APPEND="curling.mb=48 curling.tick=10 curling.pages=400 curling.verify=1000"
blocks=(-object "memory-backend-ram,id=block0,size=64M"
        -object "memory-backend-ram,id=block1,size=64M"
        -numa "node,nodeid=0,cpus=0,memdev=block0"
        -numa "node,nodeid=1,cpus=1,memdev=block1")
start_receiver receiver "${blocks[@]}"
start_vm sender "${blocks[@]}"
monitor sender curling-set '{"interval-ms": 0}' > /dev/null
wait_count sender 10
protect sender receiver
for ((i = 1; i <= times; i++)); do
    monitor sender poll query-curling --timeout 60 \
            --until "rounds-committed>=$((i * rounds_each))" > /dev/null ||
        fail "no $rounds_each more rounds"
    same_ram sender receiver "after $i times $rounds_each rounds"
    monitor sender cont > /dev/null
done

assert_counting sender 100
kill_vm sender
wait_state receiver active
# Each of its pages is looked at in 100 ticks.
wait_count receiver $(($(serial_count sender) + 250))
assert_no_bad sender
assert_no_bad receiver
