#!/bin/bash
# Fault: the connection is cut or reset while both sides live: between two
# rounds, in the middle of one, before its end, before RECEIVED comes back;
# then for longer than close-grace-ms.
# Invariant: a sender that comes back within close-grace-ms finds its session
# as it was: the receiver starts nothing, rounds go on, none is lost and none
# is mixed up.  One that comes back too late is told so, and its guest is
# paused; until then both run.  With on-disconnect=wait nobody takes over
# before an operator says so.
# timeout: 180
TRANSPORT=tcp                   # for RST is none on a UNIX socket
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# connections: how many were made through the proxy until now
connections() {
    proxy "$link" status | sed 's/.*made=\([0-9]*\).*/\1/'
}

made_more_than() { [ "$(connections)" -gt "$1" ]; }

# comes_back WHEN ACTION: cut it so, and see the session go on
comes_back() {
    local made committed

    commit_round
    made=$(connections)
    committed=$(monitor "$receiver" query-curling --get rounds-committed)
    proxy_faults "$1" "$2"
    poll 10 made_more_than "$made" ||
        fail "$2 $1: the sender does not come back"
    commit_round
    wait_state "$sender" protected
    wait_state "$receiver" standby
    assert_silent "$receiver"
    [ "$(monitor "$receiver" query-curling --get rounds-committed)" -gt \
      "$committed" ] || fail "$2 $1: no rounds go on"
    # A resumed session needs no second copy of all of RAM.
    [ "$(monitor "$sender" query-curling --get last-round.kind)" = delta ] ||
        fail "$2 $1: the session was not resumed"
}

# from_cut_to_hello: for each cut, how long the receiver was alone, in ms
from_cut_to_hello() {
    awk '/ EVENT .*(cut|reset)/ { cut = $1 }
         $4 == "HELLO" && cut {
             printf "%d\n", ($1 - cut) / 1000000
             cut = 0
         }' "$T/$link.log" | sort -n
}

# --- It comes back in time

start_sender
watch_stalls "$sender"
# This machine may be busy; what it takes is printed below.
receiver_settings='{"close-grace-ms": 10000}'
next_link
for when in now mid-round=any before=ROUND_END before=RECEIVED \
            after=RECEIVED; do
    comes_back "$when" cut
    comes_back "$when" reset
done
[ "$(grep -c 'ROUND_BEGIN round=0 ' "$T/$link.log")" -eq 1 ] ||
    fail "all of RAM was sent more than once"
echo "the sender came back within $(from_cut_to_hello | tail -n 1) ms"
# A busy host may take its time, but not always.
[ "$(from_cut_to_hello | head -n 1)" -lt 100 ] ||
    fail "no cut was over within the default of close-grace-ms"
assert_never_stopped "$sender"
same_ram "$sender" "$receiver" "after all the cuts"
monitor "$sender" cont > /dev/null
commit_round
kill_sender
kill_process "$sender.stalls"
assert_taken_over
take_place

# --- It comes back too late

receiver_settings='{"close-grace-ms": 100}'
next_link
commit_round
proxy_faults now refuse cut
wait_state "$receiver" active
active_ms=$(now_ms)
assert_counting "$sender"       # the price of taking over without fencing
assert_counting "$receiver"
accept_ms=$(now_ms)
proxy_faults now accept
wait_state "$sender" fenced
echo "both ran for $(($(now_ms) - active_ms)) ms, the last" \
     "$(($(now_ms) - accept_ms)) of them after the link was whole again"
[ "$(monitor "$sender" query-status --get status)" = paused ] ||
    fail "the guest of a fenced sender runs"
[[ $(monitor "$sender" query-curling --get last-error) == *"took over"* ]] ||
    fail "a fenced sender does not know why"
stopped=$(serial_count "$sender")
assert_counting "$receiver" 20
assert_no_bad "$receiver"
[ "$(serial_count "$sender")" -eq "$stopped" ] ||
    fail "the guest of a fenced sender counts on"

# Nobody starts it by mistake.
refuses "$sender" cont '{}' "the receiver runs this guest"
refuses "$sender" curling-unfence '{}' "use force if you know"
refuses "$receiver" curling-unfence '{"force": true}' "is no fenced sender"
[ "$(monitor "$sender" query-curling --get state)" = fenced ] ||
    fail "a refused curling-unfence has an effect"
[ "$(monitor "$sender" query-status --get status)" = paused ] ||
    fail "a refused cont has an effect"
monitor "$sender" curling-unfence '{"force": true}' > /dev/null
wait_state "$sender" stopped
[ "$(monitor "$sender" query-status --get status)" = paused ] ||
    fail "curling-unfence starts the guest by itself"
monitor "$sender" cont > /dev/null
assert_counting "$sender"
take_place

# --- The receiver is told to wait

receiver_settings='{"close-grace-ms": 20, "on-disconnect": "wait"}'
next_link
commit_round
proxy_faults now refuse cut
wait_state "$receiver" suspect
wait_state "$sender" unprotected
assert_counting "$sender" 20
assert_silent "$receiver"
wait_state "$receiver" suspect
proxy_faults now accept
wait_protected
commit_round
[ "$(grep -c 'ROUND_BEGIN round=0 ' "$T/$link.log")" -eq 1 ] ||
    fail "all of RAM was sent more than once"
kill_sender
wait_state "$receiver" suspect
monitor "$receiver" curling-failover > /dev/null
assert_taken_over
