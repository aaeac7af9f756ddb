#!/bin/bash
# Fault: none; a block of RAM that may grow has another length at the sender
# than at the receiver, or grows while the guest is protected, as ACPI tables
# do when firmware sets a machine up.
# Invariant: the receiver's block takes that length, before the first round,
# and the RAM of both is the same; with another length the same receiver serves
# the next session.  What grows in a session has all of RAM sent once more, but
# not before the receiver knows that what it holds is over.
# timeout: 180
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# Tables of our own make those of a machine as long as we like.
head -c 60000 /dev/zero > "$T/table"

# tables NAME: length of its block of ACPI tables
tables() {
    monitor "$1" hmp "info ramblock" |
        grep -o 'acpi/tables [^r]*' | awk '{ print $5 }'
}

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128
start_receiver receiver
before=$(tables receiver)
for n in 5 1; do
    options=()
    for ((i = 0; i < n; i++)); do
        options+=(-acpitable "sig=OEM$i,data=$T/table")
    done
    start_vm sender "${options[@]}"
    wait_count sender 2
    protect sender receiver
    [ "$(tables sender)" = "$(tables receiver)" ] ||
        fail "tables: $(tables sender) at the sender," \
             "$(tables receiver) at the receiver"
    same_ram sender receiver "with $n tables"
    monitor sender cont > /dev/null
    assert_counting sender
    if [ "$n" -gt 1 ]; then
        [ "$(tables receiver)" != "$before" ] || fail "nothing has grown"
        monitor sender migrate_cancel > /dev/null
        wait_state receiver listening
        kill_vm sender
    fi
done
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
kill_vm receiver

# --- It grows in a session

# q35's firmware adds a table of some octets (MCFG), and the block grows in
# steps of 128 KiB: find what fills one to the last octet.
MACHINE=q35
head -c 60000 /dev/zero > "$T/fixed"
tables=(-acpitable "sig=OEM1,data=$T/fixed" -acpitable "sig=OEM2,data=$T/rest")

# is_full OCTETS: with so many in the second table one step is too little
is_full() {
    local length

    head -c "$1" /dev/zero > "$T/rest"
    start_vm probe -S "${tables[@]}"
    length=$(tables probe)
    kill_vm probe
    [ "$((length))" -gt $((128 * 1024)) ]
}

low=30000 high=65000
is_full "$low" && fail "the tables of this machine are longer than thought"
is_full "$high" || fail "the tables of this machine are shorter than thought"
while [ $((high - low)) -gt 1 ]; do
    middle=$(((low + high) / 2))
    if is_full "$middle"; then
        high=$middle
    else
        low=$middle
    fi
done
head -c "$low" /dev/zero > "$T/rest"

start_vm sender -S "${tables[@]}"
start_receiver receiver "${tables[@]}"
before=$(tables sender)
protect sender receiver
session=$(monitor sender wait-event CURLING_STATE --run cont \
                  --where data.state=syncing --timeout 60 --get data.reason)
echo "grown: $session"
[ "$(tables sender)" != "$before" ] || fail "nothing has grown"
wait_state sender protected
wait_state receiver standby
[ "$(tables receiver)" = "$(tables sender)" ] ||
    fail "the receiver's block has not grown"
wait_count sender 2
same_ram sender receiver "after a block has grown"
monitor sender cont > /dev/null
assert_counting sender
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
kill_vm receiver

# --- It grows while the receiver cannot be reached, and takes over
# The old session is not left before the receiver has heard of it: only so the
# sender is told that its guest runs there.
start_vm sender -S "${tables[@]}"
start_receiver receiver "${tables[@]}"
monitor receiver curling-set \
    '{"on-silence": "takeover", "peer-timeout-ms": 500}' > /dev/null
monitor sender curling-set \
    '{"reconnect-ms": 50, "peer-timeout-ms": 500}' > /dev/null
start_proxy link "$(receiver_addr receiver)"
protect sender receiver "${proxy_addr[link]}"
before=$(tables sender)
proxy link now:stall > /dev/null
monitor sender cont > /dev/null
wait_state receiver active
wait_count sender 2
[ "$(tables sender)" != "$before" ] || fail "nothing has grown"
proxy link now:resume > /dev/null
wait_state sender fenced
[ "$(monitor sender query-status --get status)" = paused ] ||
    fail "two guests run"
