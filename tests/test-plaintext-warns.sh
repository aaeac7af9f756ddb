#!/bin/bash
# Fault: an operator who protects a guest over a network without TLS.
# Invariant: it works, and both sides say what it means: once on stderr, in
# query-curling's warnings, and as "tls": false.  Over loopback, where only
# this host listens, and with TLS nobody warns.
TRANSPORT=tcp
RAM_MB=128
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"
source "$top/tests/network.sh"

# warns NAME TIMES: on stderr
warns() {
    local n

    n=$(grep -c "neither encrypted nor authenticated" "$T/$1.err" || true)
    [ "$n" -eq "$2" ] || fail "$1 warns $n times, expected $2"
}

# tells_of_it NAME yes|no: in query-curling
tells_of_it() {
    local told=no

    [[ $(monitor "$1" query-curling) != *"neither encrypted"* ]] || told=yes
    [ "$told" = "$2" ] || fail "$1 tells of it: $told, expected: $2"
}

make_psk key
tls=(-object "$(psk in server key)" -object "$(psk out client key)")

start_two_hosts

vm_within there receiver -incoming curling:tcp:0.0.0.0:4444 "${tls[@]}"
vm_within here sender "${tls[@]}"
wait_count sender 3
warns sender 0
warns receiver 0

# --- With TLS there is nothing to say

monitor receiver migrate-set-parameters '{"tls-creds": "in"}' > /dev/null
use_tls sender out
protect sender receiver tcp:192.0.2.2:4444
uses_tls sender true
uses_tls receiver true
for name in sender receiver; do
    warns "$name" 0
    tells_of_it "$name" no
done
monitor sender migrate_cancel > /dev/null
wait_state receiver listening

# --- Without

monitor receiver migrate-set-parameters '{"tls-creds": ""}' > /dev/null
use_tls sender ''
protect sender receiver tcp:192.0.2.2:4444
assert_counting sender
uses_tls sender false
uses_tls receiver false

# A session that comes back on another connection says no more.
monitor receiver curling-set '{"close-grace-ms": 10000}' > /dev/null
qmp sender wait-event CURLING_STATE --where state=unprotected --run \
    '{"execute": "yank",
      "arguments": {"instances": [{"type": "migration"}]}}' > /dev/null ||
    fail "yank does not end the connection"
wait_state sender protected
for name in sender receiver; do
    warns "$name" 1
    tells_of_it "$name" yes
done
monitor receiver curling-set '{"close-grace-ms": 100}' > /dev/null
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver

# --- Over loopback

vm_within there next -incoming curling:tcp:127.0.0.1:0
monitor receiver migrate "{\"uri\": \"curling:$(receiver_addr next)\"}" \
    > /dev/null
wait_state receiver protected
uses_tls receiver false
warns receiver 1
warns next 0
tells_of_it receiver no
tells_of_it next no
