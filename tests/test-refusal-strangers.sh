#!/bin/bash
# Fault: somebody else connects to a receiver, or a sender connects to somebody
# else: plain migrations, HTTP, noise, silence, many at once.
# Invariant: last-error says what came, and the stranger is told; the sender's
# guest goes on; a good sender is served meanwhile and afterwards, and one that
# is connected notices nothing.
# timeout: 180
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm and start_receiver
RAM_MB=128 APPEND="curling.mb=32" TRANSPORT=tcp
peer=$top/tests/peer

has_said() { [[ $(monitor "$1" query-curling) == *"$2"* ]]; }

# says NAME TEXT: its last-error does
says() {
    poll 5 has_said "$@" ||
        fail "$1 does not say '$2': $(monitor "$1" query-curling)"
}

# fails URI TEXT: migrate to there does, and the guest goes on
fails() {
    monitor sender migrate "{\"uri\": \"$1\"}" > /dev/null
    assert_counting sender
    wait_state sender failed
    says sender "$2"
    [[ $(monitor sender query-migrate --get error-desc) == \
       "curling: "*"$2"* ]] ||
        fail "query-migrate says $(monitor sender query-migrate)"
}

# stranger TEXT < WHAT: send it to the receiver, which says that, here and to
# the stranger, and closes the connection at once
stranger() {
    "$peer" say "$addr" /dev/stdin > "$T/said"
    says receiver "$1"
    [[ $(< "$T/said") == "REJECT BUSY not a frame: "*"$1"* &&
       $(tail -n 1 "$T/said") == "closed after "[0-3].* ]] ||
        fail "the stranger was told $(< "$T/said")"
}

# strangers: come and go
strangers() {
    printf 'GET / HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n' |
        stranger "got magic 0x47455420, expected 0x4355524c; this is HTTP"
    head -c 9999 /dev/urandom | sed '1s/^/noise/' |
        stranger "got magic 0x6e6f6973, expected 0x4355524c"
    printf 'POST /' |
        stranger "got magic 0x504f5354, expected 0x4355524c; this is HTTP"
    printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' |
        stranger "the peer uses TLS"
}

# slow STRANGER: it was dropped when its time was over
slow() {
    local after

    wait_exit "$1"
    after=$(sed -n 's/closed after \([0-9]*\)\..*/\1/p' "$T/$1.out")
    if [ "$after" -lt 4 ] || [ "$after" -gt 8 ]; then
        fail "$1 was not dropped after 5 s but after $after s"
    fi
}

start_vm sender
start_receiver receiver
addr=$(receiver_addr receiver)
for name in sender receiver; do         # a busy host is no silence
    monitor "$name" curling-set '{"peer-timeout-ms": 10000}' > /dev/null
done
wait_count sender 2

# Plain migrations, both ways
monitor sender migrate "{\"uri\": \"$addr\"}" > /dev/null
monitor sender poll query-migrate --until status=failed > /dev/null ||
    fail "a plain migration to a curling: receiver does not fail"
says receiver "got magic 0x5145564d, expected 0x4355524c; this is a plain \
migration, use migrate curling:... or a receiver without curling:"
assert_counting sender
start_vm plain -incoming tcp:127.0.0.1:0
plain=$(monitor plain query-migrate --get socket-address.0.port)
fails "curling:tcp:127.0.0.1:$plain" "got no answer to HELLO but the end of \
the connection; is the receiver a QEMU with -incoming curling:..., and does it \
want TLS (tls-creds)?"
wait_exit plain 1

# Servers of something else, and one of nothing
start http "$peer" answer "unix:$T/http" "$T/hello" RAW \
    $'HTTP/1.0 400 Bad Request\r\n\r\n'
start nothing "$peer" answer "unix:$T/nothing" "$T/hello" NOTHING
poll 10 grep -qs listening "$T/http.out" || fail "no http"
poll 10 grep -qs listening "$T/nothing.out" || fail "no nothing"
fails "curling:unix:$T/http" "this is HTTP, not Curling"
fails "curling:unix:$T/nothing" "no answer to HELLO within 5000 ms"

# Into a receiver that holds nothing, and into one that stands by
strangers
[ "$(monitor receiver query-curling --get state)" = listening ] ||
    fail "the receiver does not listen any more"
start silent "$peer" say "$addr" /dev/null
start loris "$peer" say "$addr" "$T/hello" 100
protect sender receiver
strangers
slow silent
slow loris
says receiver "got no HELLO within 5000 ms"

# Many at once, into one that stands by and one that listens
start many "$peer" idle "$addr" 40
# At once: where the last of them need seconds to get through the listener's
# queue, the first are refused for their HELLO by then, which is said last.
says receiver "others wanted to"
poll 20 grep -qs connected "$T/many.out" || fail "40 could not connect"
assert_counting sender
[ "$(monitor sender query-curling --get state,rounds-discarded)" = \
  $'protected\t0' ] || fail "a stranger got in the way"
! monitor sender query-curling --get last-error 2> /dev/null ||
    fail "the sender noticed them"
wait_exit many

monitor sender migrate_cancel > /dev/null
wait_state receiver listening
start more "$peer" idle "$addr" 40
poll 20 grep -qs connected "$T/more.out" || fail "40 could not connect"
protect sender receiver
wait_exit more

# All of it was for nothing: the takeover is as ever.
assert_silent receiver
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad sender
assert_no_bad receiver
