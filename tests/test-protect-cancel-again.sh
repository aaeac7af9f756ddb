#!/bin/bash
# Fault: none; a user who ends the protection of a guest and begins it again,
# many times, with the same two processes, before the sender dies after all.
# Invariant: each cancel leaves the sender stopped and the receiver listening,
# whatever was under way; the guest never misses a count, the receiver never
# runs; no session leaves descriptors, threads or memory behind; nor does its
# RAM show in a later one.
# timeout: 240
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/ram.sh"

cycles=20
settled=4               # until this cycle both may still take what they need
slack_kib=$((8 << 10))  # translated code and freed memory come and go

open_files() { find "/proc/${pid[$1]}/fd" -mindepth 1 -maxdepth 1 | wc -l; }

threads() { find "/proc/${pid[$1]}/task" -mindepth 1 -maxdepth 1 | wc -l; }

resident_kib() {
    sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\) kB/\1/p' \
        "/proc/${pid[$1]}/status"
}

declare -A files0=() threads0=() resident0=()

# no_more_than_before NAME
no_more_than_before() {
    [ "$(open_files "$1")" -le "${files0[$1]}" ] &&
        [ "$(threads "$1")" -le "${threads0[$1]}" ]
}

# Helpers end when they are done, which may be a little later.
check_growth() {
    poll 20 no_more_than_before "$1" ||
        fail "$1 grows: $(open_files "$1") descriptors," \
             "$(threads "$1") threads, at first ${files0[$1]} and" \
             "${threads0[$1]}"
    [ "$(resident_kib "$1")" -le $((${resident0[$1]} + slack_kib)) ] ||
        fail "$1 grows: $(resident_kib "$1") KiB, at first ${resident0[$1]}"
}

note_size() {
    files0[$1]=$(open_files "$1")
    threads0[$1]=$(threads "$1")
    resident0[$1]=$(resident_kib "$1")
}

RAM_MB=128
APPEND=curling.verify=1000
start_receiver receiver
start_vm sender
wait_count sender 3

intervals=(0 20 100)
kinds=(delta full)
for ((cycle = 1; cycle <= cycles; cycle++)); do
    monitor sender curling-set "{
        \"interval-ms\": ${intervals[cycle % 3]},
        \"rounds\": \"${kinds[cycle % 2]}\",
        \"max-bandwidth\": 0}" > /dev/null
    if [ $((cycle % 5)) -eq 0 ]; then
        # Before, in or soon after the first round
        addr=$(receiver_addr receiver)
        monitor sender migrate "{\"uri\": \"curling:$addr\"}" > /dev/null
    else
        protect sender receiver
        count=$(serial_count sender)
        wait_count sender $((count + cycle % 4))
    fi
    if [ "$cycle" -eq 9 ]; then
        same_ram sender receiver "in the ninth session"
        monitor sender cont > /dev/null
    fi
    if [ "$cycle" -eq 13 ]; then
        # In a round that would take minutes
        monitor sender curling-set \
            '{"rounds": "full", "max-bandwidth": 200000}' > /dev/null
        assert_counting sender 5
    fi
    monitor sender migrate_cancel > /dev/null
    wait_state sender stopped 5
    wait_state receiver listening
    [ "$(monitor receiver query-status --get status)" = inmigrate ] ||
        fail "the receiver left inmigrate in cycle $cycle"
    [ "$(monitor sender query-status --get status)" = running ] ||
        fail "the sender does not run after cycle $cycle"
    if [ "$cycle" -eq "$settled" ]; then
        note_size sender
        note_size receiver
    fi
done
check_growth sender
check_growth receiver
assert_counting sender
assert_no_bad sender
assert_silent receiver

before=$(serial_count sender)
protect sender receiver
assert_counting sender
kill_vm sender
wait_state receiver active
last=$(serial_count sender)
wait_count receiver $((last + 20))
assert_no_bad receiver
assert_no_bad sender
first=$(serial_first_count receiver)
[ "$first" -gt "$before" ] ||
    fail "the guest went back to an earlier session: $first, not above $before"
[ "$first" -le $((last + 1)) ] ||
    fail "the guest went on at $first, the sender ended at $last"
