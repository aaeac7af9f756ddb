#!/bin/bash
# Fault: somebody asks a sender or a receiver for what would break the session,
# or for what cannot be.
# Invariant: it is refused in one sentence, the guest goes on and stays
# protected; what is not refused (system_reset, stop, cont at the receiver) does
# no harm: the takeover starts the right guest, or leaves it paused where that
# was asked for.
# timeout: 240
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128 APPEND="curling.mb=32"

# nothing_happened: both are what they were
nothing_happened() {
    [ "$(monitor sender query-curling --get state,rounds-discarded)" = \
      $'protected\t0' ] || fail "the sender is disturbed: $1"
    [ "$(monitor receiver query-curling --get state,rounds-discarded)" = \
      $'standby\t0' ] || fail "the receiver is disturbed: $1"
}

# job_refused NAME COMMAND ARGUMENTS TEXT: a job that says so
job_refused() {
    monitor "$1" "$2" "$3" > /dev/null
    monitor "$1" poll query-jobs --until 0.status=concluded > /dev/null
    [[ $(monitor "$1" query-jobs --get 0.error) == *"$4"* ]] ||
        fail "$2 says $(monitor "$1" query-jobs), expected $4"
    monitor "$1" job-dismiss '{"id": "job"}' > /dev/null
    nothing_happened "$2"
}

to() { echo "{\"uri\": \"$1\"}"; }

# --- Addresses

# not_started TEXT ARGS...: QEMU ends with that sentence
not_started() {
    local text=$1 status=0

    shift
    timeout 20 "$QEMU" -nodefaults -display none -accel tcg "$@" \
        < /dev/null 2> "$T/not-started" || status=$?
    [ "$status" -eq 1 ] || fail "QEMU $* ends with $status"
    [[ $(< "$T/not-started") == *"$text"* ]] ||
        fail "QEMU $* says $(< "$T/not-started"), expected $text"
}

not_started "expected curling:tcp:HOST:PORT or curling:unix:PATH, got" \
            -incoming curling:udp:here
not_started "error parsing address 'here'" -incoming curling:tcp:here
not_started "expected curling:tcp:HOST:PORT or curling:unix:PATH, got" \
            -incoming curling:

not_started "Curling cannot be used with -icount" \
            -icount shift=auto -incoming "curling:unix:$T/icount"

TRANSPORT=tcp start_receiver receiver
taken=$(receiver_addr receiver)
not_started "Address already in use" -incoming "curling:$taken"

# capability NAME CAPABILITY true|false
capability() {
    monitor "$1" migrate-set-capabilities "{\"capabilities\":
        [{\"capability\": \"$2\", \"state\": $3}]}" > /dev/null 2>&1
}

start_vm deferred -incoming defer
capability deferred x-ignore-shared true || fail "no such capability"
refuses deferred migrate-incoming "$(to "curling:unix:$T/d")" \
        "cannot be used with the migration capability x-ignore-shared"
capability deferred x-ignore-shared false
refuses deferred migrate-incoming "$(to "curling:$taken")" "already in use"
refuses deferred migrate-incoming "$(to curling:nowhere)" "expected curling:tcp"
[ "$(monitor deferred query-curling --get state)" = idle ] ||
    fail "a refused migrate-incoming leaves a state"
monitor deferred migrate-incoming "$(to "curling:unix:$T/d")" > /dev/null
wait_state deferred listening
refuses deferred migrate-incoming "$(to "curling:unix:$T/e")" \
        "already been started"
refuses deferred migrate "$(to "curling:$taken")" "incoming migration"
refuses deferred curling-failover '{"force": true}' "nothing to start"
kill_vm deferred TERM

start_vm sender
wait_count sender 2
refuses sender curling-failover '{}' "this QEMU is no receiver"
refuses sender curling-checkpoint '{}' "no guest is protected here"
refuses sender migrate "$(to curling:udp:x)" "expected curling:tcp:HOST:PORT"
refuses sender migrate "$(to curling:tcp:host)" "error parsing"
monitor sender migrate "$(to curling:tcp:127.0.0.1:1)" > /dev/null
wait_state sender failed
[[ $(monitor sender query-curling --get last-error) == *"refused"* ]] ||
    fail "the sender does not say that the connection was refused"

# --- Capabilities

tried=0
for name in $(python3 -c '
import json, sys
print(*[row["capability"] for row in json.load(sys.stdin)])' \
    < <(monitor sender query-migrate-capabilities)); do
    [ "$name" != events ] || continue
    # Some cannot be turned on alone, or not here.
    capability sender "$name" true || continue
    answer=$(monitor sender migrate "$(to "curling:$taken")" 2>&1) &&
        fail "migrate with the capability $name was not refused"
    [[ $answer == *"cannot be used with the migration capability $name"* ]] ||
        fail "with the capability $name migrate says: $answer"
    capability sender "$name" false || fail "$name cannot be turned off again"
    tried=$((tried + 1))
done
[ "$tried" -ge 10 ] || fail "only $tried capabilities could be turned on"
assert_counting sender
monitor sender migrate-set-parameters '{"mode": "cpr-reboot"}' > /dev/null
refuses sender migrate "$(to "curling:$taken")" "the migration mode cpr-reboot"
monitor sender migrate-set-parameters '{"mode": "normal"}' > /dev/null
[ "$(monitor receiver query-curling --get state)" = listening ] ||
    fail "one of them reached the receiver"
assert_counting sender
kill_vm sender TERM
kill_vm receiver TERM

# --- While protected

# hmp_refused NAME LINE TEXT
hmp_refused() {
    local answer

    answer=$(monitor "$1" hmp "$2")
    [[ $answer == "Error: "*"$3"* ]] || fail "$2 says '$answer', expected '$3'"
    nothing_happened "$2"
}

# both COMMAND ARGUMENTS AT-THE-SENDER AT-THE-RECEIVER
both() {
    refuses sender "$1" "$2" "$3"
    refuses receiver "$1" "$2" "$4"
    nothing_happened "$1"
}

while_protected="is not allowed while Curling protects this guest; use \
migrate_cancel first"
in_receiver="is not allowed in a receiver of Curling: it must stay as its \
command line made it"
snapshot='"job-id": "job", "tag": "t", "vmstate": "node", "devices": ["node"]'

start_receiver receiver -device virtio-rng-pci,id=rng
start_vm sender -device virtio-rng-pci,id=rng
for name in sender receiver; do         # a busy host is no silence
    monitor "$name" curling-set '{"peer-timeout-ms": 10000}' > /dev/null
done
wait_count sender 2
protect sender receiver

both device_add '{"driver": "virtio-balloon-pci", "id": "more"}' \
     "device_add $while_protected" "device_add $in_receiver"
both device_del '{"id": "rng"}' \
     "device_del $while_protected" "device_del $in_receiver"
for name in sender receiver; do
    sentence=$while_protected
    [ "$name" = sender ] || sentence=$in_receiver
    hmp_refused "$name" "savevm here" "savevm $sentence"
    hmp_refused "$name" "loadvm here" "loadvm $sentence"
    job_refused "$name" snapshot-save "{$snapshot}" "savevm $sentence"
    job_refused "$name" snapshot-load "{$snapshot}" "loadvm $sentence"
done
both migrate "$(to "curling:unix:$T/other")" "migration process in progress" \
     "waiting for an incoming migration"
both migrate "$(to "unix:$T/other")" "migration process in progress" \
     "waiting for an incoming migration"
both migrate-incoming "$(to "curling:unix:$T/other")" "-incoming" \
     "already been started"
both curling-reset '{}' "this QEMU is no receiver" "the sender is heard"
refuses sender curling-failover '{}' "this QEMU is no receiver"
refuses receiver curling-switchover '{}' "is for a sender that is protected"
both curling-checkpoint '{"no": "such"}' "unexpected" "unexpected"
refuses receiver curling-checkpoint '{}' "no guest is protected here"
refuses sender migrate-set-capabilities '{"capabilities":
    [{"capability": "xbzrle", "state": true}]}' "migration process in progress"
both migrate-start-postcopy '{}' "postcopy" "postcopy"
both migrate-continue '{"state": "device"}' "not in expected state" \
     "not in expected state"
both dump-guest-memory "{\"paging\": false, \"protocol\": \"file:$T/dump\"}" \
     "migration" "migration"
[ "$(monitor receiver query-status --get status)" = inmigrate ] ||
    fail "the receiver left inmigrate"
assert_counting sender

# --- What is not refused

# takes_over NAME FROM STATUS: it starts the guest of the one that is killed
takes_over() {
    local count

    count=$(serial_count "$2")
    monitor "$2" curling-checkpoint > /dev/null
    kill_vm "$2"
    wait_state "$1" active
    [ "$(monitor "$1" query-status --get status)" = "$3" ] ||
        fail "$1 is $(monitor "$1" query-status --get status), expected $3"
    if [ "$3" = paused ]; then
        assert_silent "$1"
        monitor "$1" cont > /dev/null
    fi
    assert_counting "$1"
    assert_no_bad "$1"
    assert_no_bad "$2"
    [ "$(serial_first_count "$1")" -ge $((count - 20)) ] ||
        fail "$1 went on at $(serial_first_count "$1"), $2 had $count"
}

# reset: the receiver, and wait for more rounds
reset() {
    monitor "$1" wait-event RESET --run system_reset > /dev/null
    [ "$(monitor "$1" query-status --get status)" = inmigrate ] ||
        fail "system_reset ends the standby of $1"
    count=$(monitor "$1" query-curling --get rounds-committed)
    monitor "$1" poll query-curling \
            --until "rounds-committed>=$((count + 3))" > /dev/null ||
        fail "no rounds come to $1 after system_reset"
}

rng=(-device "virtio-rng-pci,id=rng")
reset receiver
monitor receiver stop > /dev/null
nothing_happened "stop"
takes_over receiver sender paused

start_receiver second "${rng[@]}"
monitor second curling-set '{"apply": "eager"}' > /dev/null
protect receiver second
reset second
monitor second stop > /dev/null
monitor second cont > /dev/null
takes_over second receiver running

start_receiver third -S "${rng[@]}"
protect second third
reset third
takes_over third second paused

start_receiver fourth -S "${rng[@]}"
monitor fourth cont > /dev/null
protect third fourth
takes_over fourth third running
