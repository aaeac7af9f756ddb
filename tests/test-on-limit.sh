#!/bin/bash
# Fault: a guest writes, while its pages are sent, to more than
# max-round-bytes can hold.
# Invariant: on-limit decides: stretch goes on with the round, and leaves the
# guest alone; unprotect gives it up soon, says so, and leaves the guest
# alone; throttle slows the guest down until it is protected, and lets it go
# when there is no need any more.
# timeout: 240
# run: alone
source "$(dirname "$0")/functions.sh"

set_on() { monitor "$1" curling-set "$2" > /dev/null; }

# throttle: of the sender's guest, in percent
throttle() {
    local said

    said=$(monitor sender query-migrate)
    [[ $said =~ cpu-throttle-percentage\":\ ([0-9]+) ]] || { echo 0; return; }
    echo "${BASH_REMATCH[1]}"
}

is_throttled() { [ "$(throttle)" -gt 0 ]; }
is_not_throttled() { [ "$(throttle)" -eq 0 ]; }

# 40 MiB a second, over a link of 20 with memory for 8
# shellcheck disable=SC2034  # of start_vm
RAM_MB=192 APPEND="curling.mb=64 curling.tick=20 curling.pages=200 curling.verify=1000"
start_receiver receiver
start_vm sender
wait_count sender 5
set_on sender '{"max-round-bytes": 8388608, "interval-ms": 100,
    "reconnect-ms": 1000}'
protect sender receiver

echo "stretch"
set_on sender '{"max-bandwidth": 20000000}'
committed=$(monitor sender query-curling --get rounds-committed)
sleep 4
[ "$(monitor sender query-curling --get rounds-committed)" -le \
  $((committed + 2)) ] || fail "the guest is not too fast for this link"
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "the round was given up"
is_not_throttled || fail "the guest is throttled"

echo "unprotect"
set_on sender '{"on-limit": "unprotect"}'
wait_state sender unprotected
[[ $(monitor sender query-curling --get last-error) == \
   *"does not fit into max-round-bytes"* ]] || fail "the reason is not said"
is_not_throttled || fail "the guest is throttled"
[ "$(monitor receiver query-curling --get state)" = standby ] ||
    fail "the held round is lost"
assert_counting sender

echo "throttle"
set_on sender '{"on-limit": "throttle"}'
poll 30 is_throttled || fail "the guest is not throttled"
wait_state sender protected 60
monitor sender poll query-curling --timeout 60 \
    --until "rounds-committed>=$((committed + 4))" > /dev/null ||
    fail "no rounds"
assert_counting sender
echo "$(throttle) %"
set_on sender '{"max-bandwidth": 0}'
poll 30 is_not_throttled || fail "the guest is still throttled"
[ "$(monitor sender query-curling --get state)" = protected ] ||
    fail "the guest is not protected"
assert_no_bad sender
assert_silent receiver
