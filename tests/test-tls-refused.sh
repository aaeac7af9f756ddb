#!/bin/bash
# Fault: those who should not be let in, or not be believed: TLS on one side
# only, certificates that are wrong in one of many ways, another key, names
# that tls-authz does not list, credentials that are not there.
# Invariant: each is refused before a byte of the guest is sent, both sides say
# why, the guest goes on, and the next sender is served.
TRANSPORT=tcp
RAM_MB=128
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"

last_error() { monitor "$1" query-curling --get last-error; }

says() { [[ $(last_error "$1" 2> /dev/null) == *$2* ]]; }

# refused WHAT SENDER'S-WORDS RECEIVER'S-WORDS: the sender, with what it uses
# now, is not let in
refused() {
    monitor sender migrate "{\"uri\": \"curling:$addr\"}" > /dev/null ||
        fail "$1: migrate is refused at once"
    wait_state sender failed
    says sender "$2" ||
        fail "$1: the sender says: $(last_error sender); expected: $2"
    poll 10 says receiver "$3" ||
        fail "$1: the receiver says: $(last_error receiver); expected: $3"
    wait_state receiver listening
    uses_tls sender "$([ "$1" = "a plain sender" ] && echo false || echo true)"
    echo "$1"
    echo "    sender:   $(last_error sender)"
    echo "    receiver: $(last_error receiver)"
}

# let_in: it is, and ends the session
let_in() {
    protect sender receiver
    uses_tls sender true
    uses_tls receiver true
    monitor sender migrate_cancel > /dev/null
    wait_state sender stopped
    wait_state receiver listening
}

# receiver_uses CREDS [AUTHZ]
receiver_uses() {
    monitor receiver migrate-set-parameters \
        "{\"tls-creds\": \"$1\", \"tls-authz\": \"${2-everybody}\"}" > /dev/null
}

make_ca ca
make_ca other-ca
make_cert receiver server ca ca
make_cert alice client ca ca
make_cert mallory client ca ca
make_cert stranger client other-ca ca
make_cert stranger-receiver server other-ca ca
make_cert old client ca ca expired
make_cert old-receiver server ca ca expired
make_psk key
make_psk other-key

# Who has them does not look at them: the other side must.
unlooked=sanity-check=off
start_vm receiver -incoming "$(receiver_uri receiver)" \
    -object "$(x509 receiver server)" \
    -object "$(x509 stranger-receiver server $unlooked)" \
    -object "$(x509 old-receiver server $unlooked)" \
    -object "$(psk psk-receiver server key)" \
    -object "authz-simple,id=alice-only,identity=CN=alice" \
    -object "authz-list,id=everybody,policy=allow" \
    -global migration.tls-creds=receiver
addr=$(receiver_addr receiver)
start_vm sender -object "$(x509 alice client)" -object "$(x509 mallory client)" \
    -object "$(x509 stranger client $unlooked)" \
    -object "$(x509 old client $unlooked)" \
    -object "$(psk psk client key)" -object "$(psk other-psk client other-key)" \
    -object "$(x509 receiver server)"
wait_count sender 3

refused "a plain sender" "TLS (tls-creds)" "tls-creds set on both sides"
receiver_uses ''
use_tls sender alice
refused "a plain receiver" "tls-creds set on both sides" "the peer uses TLS"

receiver_uses receiver alice-only
let_in
use_tls sender mallory
refused "a name that tls-authz does not list" \
    "the receiver refuses: the TLS peer is refused: TLS x509 authz check for CN=mallory is denied" \
    "TLS x509 authz check for CN=mallory is denied"
receiver_uses receiver nobody-has-made-this
use_tls sender alice
refused "a tls-authz that is not there" "nobody-has-made-this" \
    "nobody-has-made-this"

receiver_uses receiver
use_tls sender stranger
refused "a sender of another CA" "the receiver refuses" \
    "the TLS peer is refused"
use_tls sender old
refused "a sender whose certificate has expired" "certificate" \
    "the TLS peer is refused: The certificate"
use_tls sender alice example.org
refused "another host" "Certificate does not match the hostname example.org" \
    "does it refuse the credentials of this side?"
use_tls sender alice
receiver_uses stranger-receiver
refused "a receiver of another CA" \
    "the TLS peer is refused: The certificate hasn't got a known issuer" \
    "does it refuse the credentials of this side?"
receiver_uses old-receiver
refused "a receiver whose certificate has expired" \
    "the TLS peer is refused: The certificate" \
    "does it refuse the credentials of this side?"

receiver_uses psk-receiver
refused "a certificate, expected a key" "no TLS connection" "no TLS connection"
use_tls sender other-psk
refused "another key" "no TLS connection" "no TLS connection"
use_tls sender psk
let_in
receiver_uses receiver
refused "a key, expected a certificate" "no TLS connection" "no TLS connection"

# --- What is seen before anybody is asked

use_tls sender nonesuch
refuses sender migrate "{\"uri\": \"curling:$addr\"}" \
    "No TLS credentials with id 'nonesuch'"
use_tls sender receiver
refuses sender migrate "{\"uri\": \"curling:$addr\"}" "client endpoint"
use_tls sender everybody
refuses sender migrate "{\"uri\": \"curling:$addr\"}" \
    "No TLS credentials with id 'everybody'"

start_vm late -incoming defer -object "$(x509 receiver server)" \
    -object "$(x509 alice client)" -global migration.tls-creds=nonesuch
late=unix:$T/late.curling
uri="{\"uri\": \"curling:$late\"}"
refuses late migrate-incoming "$uri" "No TLS credentials with id 'nonesuch'"
use_tls late alice
refuses late migrate-incoming "$uri" "server endpoint"
use_tls late receiver
monitor late migrate-incoming "$uri" > /dev/null ||
    fail "migrate-incoming cannot be said again"

# --- After all that

receiver_uses receiver alice-only
use_tls sender alice
let_in

# A UNIX socket has no name that could be in a certificate.
addr=$late
monitor sender migrate "{\"uri\": \"curling:$addr\"}" > /dev/null
wait_state sender failed
says sender "No hostname for certificate validation" ||
    fail "without a name the sender says: $(last_error sender)"
use_tls sender alice localhost
protect sender late
assert_counting sender
assert_no_bad sender
kill_vm sender
wait_state late active
assert_counting late
assert_no_bad late
assert_silent receiver
