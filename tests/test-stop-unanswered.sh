#!/bin/bash
# Fault: the receiver is frozen (SIGSTOP) when its sender ends the session by
# migrate_cancel, quit or SIGTERM; between rounds, or in one that has filled
# the socket, so that STOP finds no room.
# Invariant: the sender ends all the same, and says that STOP was not
# acknowledged; a guest that goes on there is not started by the receiver when
# it wakes: it hears the STOP that waited for it, and listens.  Of a sender
# that is gone it hears a STOP that is in the socket; else that was a death.
# timeout: 180
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128
unheard="the receiver does not know and may start the guest: STOP was not \
acknowledged: no answer"

# patient NAME: a peer that sleeps is no silence
patient() {
    monitor "$1" curling-set '{"peer-timeout-ms": 30000}' > /dev/null
}

# freeze between|inside SENDER RECEIVER: protect the guest of this sender, and
# freeze the receiver between two rounds, or inside one
freeze() {
    local settings='{"rounds": "delta", "max-bandwidth": 0, "interval-ms": '

    if [ "$1" = between ]; then
        monitor "$2" curling-set "$settings 3600000}" > /dev/null
        protect "$2" "$3"
        kill -STOP "${pid[$3]}"
    else
        monitor "$2" curling-set "$settings 100}" > /dev/null
        protect "$2" "$3"
        # A round of four seconds; then, as fast as it goes, into the socket.
        monitor "$2" curling-set '{"rounds": "full", "max-bandwidth": 20000000,
                                   "interval-ms": 0}' > /dev/null
        monitor "$3" poll query-curling \
                --until "memory-bytes.used>=16000000" > /dev/null ||
            fail "no full round comes to $3"
        kill -STOP "${pid[$3]}"
        monitor "$2" curling-set '{"max-bandwidth": 0}' > /dev/null
    fi
    assert_counting "$2"
}

# wakes RECEIVER STATE: it goes on, and becomes this
wakes() {
    kill -CONT "${pid[$1]}"
    wait_state "$1" "$2" 10
}

# listens RECEIVER: it heard STOP and forgot the guest
listens() {
    wakes "$1" listening
    [ "$(monitor "$1" query-status --get status)" = inmigrate ] ||
        fail "$1 left inmigrate"
    assert_silent "$1"
}

# end SENDER quit|term: it is soon gone, and says what it leaves behind
end() {
    if [ "$2" = quit ]; then
        # It may be gone before it has answered.
        monitor "$1" quit > /dev/null 2>&1 || true
    else
        kill -TERM "${pid[$1]}"
    fi
    wait_exit "$1" 0
    grep -q "curling: ended on request; $unheard" "$T/$1.err" ||
        fail "the sender does not say that: $(< "$T/$1.err")"
}

boot() {
    start_vm sender
    patient sender
    wait_count sender 2
}

start_receiver receiver
patient receiver
boot
for where in between inside; do
    echo "migrate_cancel $where"
    freeze "$where" sender receiver
    reason=$(monitor sender wait-event CURLING_STATE \
                     --where data.state=stopped --run migrate_cancel \
                     --get data.reason)
    [[ $reason == *"$unheard" ]] || fail "the sender says: $reason"
    [[ $(monitor sender query-curling --get last-error) == *"$unheard" ]] ||
        fail "last-error does not say that"
    assert_counting sender
    listens receiver
    assert_counting sender
done

echo "quit between"
freeze between sender receiver
end sender quit
listens receiver
assert_no_bad sender

echo "SIGTERM between"
boot
freeze between sender receiver
end sender term
listens receiver

# Now STOP got no further than the sender, whose end is all that is heard.
echo "quit inside"
boot
freeze inside sender receiver
end sender quit
wakes receiver active
assert_counting receiver
assert_no_bad receiver

echo "SIGTERM inside"
start_receiver second
patient second
freeze inside receiver second
end receiver term
wakes second active
assert_counting second
assert_no_bad second
