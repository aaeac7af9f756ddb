#!/bin/bash
# Fault: a round writes to the memory of a screen behind the back of the
# device that would notice (apply=eager).
# Invariant: what the receiver's screen shows is what the sender's does, after
# each round.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"

# screen NAME: into $T/NAME.ppm
screen() {
    monitor "$1" screendump "{\"filename\": \"$T/$1.ppm\"}" > /dev/null
}

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.screen=1 vt.global_cursor_default=0"
start_receiver receiver -device VGA
monitor receiver curling-set '{"apply": "eager"}' > /dev/null
start_vm sender -device VGA
wait_count sender 3
protect sender receiver
for i in 1 2 3; do
    assert_counting sender 5
    monitor sender stop > /dev/null
    round=$(monitor sender curling-checkpoint --get round)
    wait_applied receiver "$round"
    [ ! -e "$T/sender.ppm" ] || mv "$T/sender.ppm" "$T/before.ppm"
    screen sender
    screen receiver
    cmp "$T/sender.ppm" "$T/receiver.ppm" || fail "the screens differ ($i)"
    [ ! -e "$T/before.ppm" ] || ! cmp -s "$T/sender.ppm" "$T/before.ppm" ||
        fail "the screen never changes: nothing is compared"
    monitor sender cont > /dev/null
done
