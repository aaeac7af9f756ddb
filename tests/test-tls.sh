#!/bin/bash
# Fault: those of other tests, under TLS: the connection is cut, reset, stalled
# or damaged, the session is cancelled, the sender is killed.
# Invariant: a session under TLS, with certificates that both sides verify or
# with a shared key, goes on, ends and takes over as one without.  That the
# connection closed is seen as such, whatever TLS misses at its end; damage to
# it is no death.
TRANSPORT=tcp                   # for RST is none on a UNIX socket
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"

# Full rounds are to be many here, and this machine may be busy.
APPEND=${APPEND/curling.mb=32/curling.mb=8}

# connections: how many were made through the proxy until now
connections() {
    proxy "$link" status | sed 's/.*made=\([0-9]*\).*/\1/'
}

made_more_than() { [ "$(connections)" -gt "$1" ]; }

# comes_back CONNECTIONS COMMAND...: the command breaks the link; the session
# goes on, on the last of so many new connections
comes_back() {
    local made before=$1

    shift
    commit_round
    made=$(($(connections) + before - 1))
    "$@"
    poll 10 made_more_than "$made" || fail "$*: the sender does not come back"
    commit_round
    wait_protected
    [ "$(monitor "$sender" query-curling --get last-round.kind)" = delta ] ||
        fail "$*: the session was not resumed"
}

# damage WHEN: a byte of the next connection, one that is in no handshake.  Of
# the first byte of a record, GnuTLS does not look at every bit.
damage() {
    proxy_faults now refuse cut
    proxy_faults "$1" corrupt=128
    proxy_faults now accept
}

# last_error NAME: or nothing
last_error() {
    monitor "$1" query-curling | sed 's/.*"last-error": "\([^"]*\)".*/\1/; t; d'
}

# no_frames: nothing that went through the proxy was in the clear
no_frames() {
    ! grep -q 'HELLO\|ROUND_' "$T/$link.log" ||
        fail "frames can be read: $(grep -m 1 'HELLO\|ROUND_' "$T/$link.log")"
}

# stall_for MS: nothing goes through the proxy for so long
stall_for() {
    local until=$(($(now_ms) + $1))

    proxy_faults now stall
    while [ "$(now_ms)" -lt "$until" ]; do
        assert_alive "$sender"
    done
    proxy_faults now resume
}

# goes_on: the receiver started the guest from one of the last rounds
goes_on() {
    wait_state "$receiver" active
    assert_not_before_the_end
    assert_guest_goes_on 20
}

# die WHAT: the sender is killed between two rounds
die() {
    local killed_ms

    commit_round
    killed_ms=$(now_ms)
    kill_sender
    monitor "$receiver" poll query-curling --until state=active \
            --interval 2 > /dev/null || fail "no takeover"
    echo "$1: active $(($(now_ms) - killed_ms)) ms after SIGKILL"
    goes_on
}

make_ca ca
make_cert receiver server ca ca
make_cert sender client ca ca
make_psk key
aes=priority=NORMAL:-CHACHA20-POLY1305
# Every machine is a receiver first and a sender then.
machine_args=(-object "$(x509 receiver server)" -object "$(x509 sender client)"
              -object "$(psk psk-receiver server key),$aes"
              -object "$(psk psk-sender client key)"
              -global migration.tls-creds=receiver)

# --- Certificates

start_sender
use_tls "$sender" sender
receiver_settings='{"close-grace-ms": 10000}'
next_link
uses_tls "$sender" true
uses_tls "$receiver" true
watch_stalls "$sender"
for action in cut reset cut reset; do
    comes_back 1 proxy_faults now "$action"
done
comes_back 2 damage forward-byte=90000
[[ $(last_error "$receiver") == *TLS* ]] ||
    fail "the receiver says of damage: $(last_error "$receiver")"
comes_back 2 damage back-byte=5000
[[ $(last_error "$sender") == *TLS* ]] ||
    fail "the sender says of damage: $(last_error "$sender")"
assert_never_stopped "$sender"
kill_process "$sender.stalls"
same_ram "$sender" "$receiver" "after cuts and damage"
monitor "$sender" cont > /dev/null
monitor "$receiver" curling-set '{"close-grace-ms": 100}' > /dev/null
no_frames
die "certificates"
take_place

# --- A shared key; the link is busy in both directions, and stalls

use_tls "$sender" psk-sender
sender_settings='{"interval-ms": 0, "rounds": "full", "peer-timeout-ms": 3000}'
receiver_settings=$sender_settings
machine_args+=(-global migration.tls-creds=psk-receiver)
next_link
uses_tls "$sender" true
uses_tls "$receiver" true
for ((i = 0; i < 6; i++)); do
    stall_for 150
    commit_round
done
wait_protected
[ "$(connections)" -eq 1 ] || fail "stalls that are short end the connection"
same_ram "$sender" "$receiver" "after many full rounds with stalls"
monitor "$sender" cont > /dev/null
assert_counting "$sender" 30

# --- A cancel is no death, nor when STOP comes late

monitor "$sender" migrate_cancel > /dev/null
wait_state "$sender" stopped 5
wait_state "$receiver" listening
monitor "$receiver" curling-set '{"peer-timeout-ms": 60000}' > /dev/null
sender_settings='{"interval-ms": 0, "rounds": "full", "peer-timeout-ms": 60000}'
start_protection
wait_protected
proxy_faults now stall
monitor "$sender" migrate_cancel > /dev/null
wait_state "$sender" stopped 5
assert_counting "$sender"
proxy_faults now resume
wait_state "$receiver" listening
assert_silent "$receiver"
no_frames

# --- It is killed in the middle of a record, as most are that send much

count=$(serial_count "$sender")
proxy_faults forward-byte=200000001 "kill=${pid[$sender]}"
start_protection
end_timeout_s=60
wait_exit "$sender" 137
goes_on
take_place

# --- Who took over and is a sender now still tells the old one

use_tls "$sender" psk-sender
sender_settings='{"interval-ms": 20, "peer-timeout-ms": 1000}'
receiver_settings=$sender_settings
next_link
kill -STOP "${pid[$sender]}"
wait_state "$receiver" suspect
monitor "$receiver" curling-failover > /dev/null
wait_state "$receiver" active
use_tls "$receiver" psk-sender
kill -CONT "${pid[$sender]}"
wait_state "$sender" fenced
assert_counting "$receiver" 10
wait_exit "$receiver.first"
