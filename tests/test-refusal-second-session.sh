#!/bin/bash
# Fault: a receiver is wanted by two: a second sender while one is connected,
# another session while the round of one that is gone is held.
# Invariant: the second is told so, and the first notices nothing.  One that is
# told busy tries again and protects its guest by itself once the first has
# said migrate_cancel; a round that is held is given up only on curling-reset.
# timeout: 180
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.mb=32"

migrate() { monitor "$1" migrate "{\"uri\": \"curling:$2\"}" > /dev/null; }

last_error() { monitor "$1" query-curling --get last-error; }

has_said() { [[ $(monitor "$1" query-curling) == *"$2"* ]]; }

# says NAME TEXT: its last-error does
says() {
    poll 10 has_said "$@" ||
        fail "$1 does not say '$2': $(monitor "$1" query-curling)"
}

# noticed_nothing: the first sender
noticed_nothing() {
    ! last_error first 2> /dev/null || fail "the first sender noticed"
    [ "$(monitor first query-curling --get state,rounds-discarded)" = \
      $'protected\t0' ] || fail "the first sender is disturbed"
}

# abandon: whoever is protected loses the receiver, which holds its round
abandon() {
    kill_process link
    wait_state receiver suspect
    monitor first migrate_cancel > /dev/null
    wait_state first stopped
}

# held_is_kept: migrate is refused for good while a round of another is held
held_is_kept() {
    local held session

    held=$(monitor receiver query-curling --get last-round.number)
    session=$(monitor receiver query-curling --get session)
    migrate first "$addr"
    wait_state first failed
    says first "the receiver refuses: holds round $held of session $session"
    says first "curling-reset discards that round"
    says receiver "holds round $held of session $session, and got session"
    [ "$(monitor receiver query-curling --get state)" = suspect ] ||
        fail "the held round is gone"
    assert_counting first
}

protect_by_link() {
    start_proxy link "$addr"
    protect first receiver "${proxy_addr[link]}"
}

# A sender that was told busy comes back soon, and a busy host is no silence.
start_receiver receiver
addr=$(receiver_addr receiver)
monitor receiver curling-set \
    '{"on-disconnect": "wait", "peer-timeout-ms": 10000}' > /dev/null
refuses receiver curling-reset '{}' "no round is held"
start_vm first
monitor first curling-set '{"peer-timeout-ms": 10000}' > /dev/null
start_vm second
monitor second curling-set \
    '{"reconnect-ms": 100, "peer-timeout-ms": 10000}' > /dev/null
refuses first curling-reset '{}' "this QEMU is no receiver"
wait_count first 2
wait_count second 2

protect first receiver
[ "$(monitor first query-curling --get session)" = \
  "$(monitor receiver query-curling --get session)" ] ||
    fail "the sides differ on the session"
refuses receiver curling-reset '{}' "the sender is heard"
migrate second "$addr"
says second "another sender is connected"
says receiver "another sender is connected"
assert_counting second
[ "$(monitor second query-curling --get state)" = connecting ] ||
    fail "a sender that is told busy does not try on"
noticed_nothing
monitor first migrate_cancel > /dev/null
wait_state second protected
wait_state receiver standby

# And the other way round; a cancel ends the tries.
migrate first "$addr"
says first "another sender is connected"
monitor first migrate_cancel > /dev/null
wait_state first stopped
[ "$(monitor second query-curling --get state,rounds-discarded)" = \
  $'protected\t0' ] || fail "the second sender is disturbed"
monitor second migrate_cancel > /dev/null
wait_state receiver listening
assert_no_bad second
kill_vm second TERM

# What is held is discarded on request only, in both monitors.
protect_by_link
abandon
held_is_kept
monitor receiver curling-reset > /dev/null
wait_state receiver listening
protect_by_link
abandon
held_is_kept
[ -z "$(monitor receiver hmp curling_reset)" ] || fail "curling_reset fails"
wait_state receiver listening
protect first receiver

# Not after a takeover
monitor receiver curling-set '{"on-disconnect": "takeover"}' > /dev/null
kill_vm first
wait_state receiver active
refuses receiver curling-reset '{}' "start a new receiver"
[[ $(monitor receiver hmp curling_reset) == *"start a new receiver"* ]] ||
    fail "curling_reset is not refused"
assert_counting receiver
assert_no_bad first
assert_no_bad receiver
