#!/bin/bash
# Fault: a guest is handed over, from either side, and the receiver or the
# sender dies in the middle of it, cannot be heard, or cannot start the guest.
# Invariant: what the guest says at the receiver follows to the octet what it
# said at the sender, nothing lost and nothing twice; at no time do both run;
# a hand-over that fails leaves one guest, which runs where nobody else can
# run it, and stands still where somebody may until that is known.
# timeout: 180
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# One disk for all of them, as on shared storage: who runs the guest has it
# locked, and lets it go for the next.
truncate -s 1M "$T/disk"
# shellcheck disable=SC2034  # of failover.sh
machine_args=(-drive "file=$T/disk,format=raw,if=virtio")
sender_settings='{"interval-ms": 20, "reconnect-ms": 50,
                  "disks": "unsafe-ahead"}'

# has_disk NAME: its lock is held by this one: nobody else can write to it
has_disk() {
    monitor "$1" human-monitor-command \
        '{"command-line": "qemu-io virtio0 \"write 0 512\""}' > /dev/null
    grep -q "wrote 512/512" "$T/$1.out" || fail "$1 cannot write to its disk"
}

# is_settled: one of them runs the guest, and the other one knows
is_settled() {
    local states

    states=$(monitor "$sender" query-curling --get state)
    states+=/$(monitor "$receiver" query-curling --get state)
    [[ $states == fenced/active || $states == protected/standby ]]
}

# assert_handed_over: all of it
assert_handed_over() {
    wait_state "$receiver" active
    assert_fenced "$sender"
    refuses "$sender" cont '{}' "the receiver runs this guest"
    assert_counting "$receiver" 10
    has_disk "$receiver"
    # A line that the sender began ends at the receiver.
    cat "$T/$sender.serial" "$T/$receiver.serial" > "$T/both.serial"
    assert_no_bad both
    monitor "$sender" quit > /dev/null
    wait_exit "$sender"
    take_place
}

echo "by the sender"
start_sender
next_link
monitor "$sender" curling-switchover > /dev/null
wait_state "$sender" fenced
[ "$(monitor "$receiver" query-curling --get state,generation)" = \
  $'active\t1' ] || fail "the sender is fenced before the guest runs"
refuses "$sender" curling-switchover '{}' "is for a sender that is protected"
assert_handed_over

echo "by the receiver"
next_link
monitor "$receiver" curling-failover > /dev/null
wait_state "$receiver" active
[ "$(monitor "$receiver" query-curling --get generation)" = 2 ] ||
    fail "no new generation"
assert_handed_over

echo "from the human monitor"
next_link
printf 'curling_switchover\n' |
    timeout 10 python3 -SEc '
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(sys.stdin.read().encode())
text = b""
while text.count(b"(qemu) ") < 2:
    text += sock.recv(65536)
' "$T/$sender.hmp"
assert_handed_over

echo "the sender dies before it says FENCED"
next_link
count=$(serial_count "$sender")
proxy_faults before=FENCED "kill=${pid[$sender]}"
monitor "$sender" curling-switchover > /dev/null
wait_exit "$sender" 137
wait_state "$receiver" active
assert_guest_goes_on 20
take_place

echo "the receiver dies before it hears FENCED"
next_link
proxy_faults before=FENCED "kill=${pid[$receiver]}"
[[ $(monitor "$sender" wait-event CURLING_NOT_HANDED_OVER \
             --run curling-switchover --get data.role) == sender ]] ||
    fail "no event tells that the guest was not handed over"
wait_exit "$receiver" 137
wait_state "$sender" unprotected
assert_counting "$sender" 20
assert_no_bad "$sender"
has_disk "$sender"
monitor "$sender" migrate_cancel > /dev/null
wait_state "$sender" stopped
kill_process "$link"
kill_process "$receiver.first"

echo "the receiver's answer is lost"
next_link
proxy_faults after=FENCED stall-back
monitor "$sender" curling-switchover > /dev/null
assert_handed_over

# Nobody can know whether it has heard FENCED.
echo "the receiver is frozen when FENCED comes"
next_link
proxy_faults before=FENCED stall-forward
monitor "$sender" curling-switchover > /dev/null
poll 10 proxy_fired "$link" before=FENCED:stall-forward || fail "no FENCED came"
kill -STOP "${pid[$receiver]}"
proxy "$link" now:resume > /dev/null
assert_fenced "$sender"
[[ $(monitor "$sender" query-curling --get last-error) == *"not heard"* ]] ||
    fail "the reason is no silence"
refuses "$sender" cont '{}' "the receiver runs this guest, or may run it"
assert_paused "$sender"
kill -CONT "${pid[$receiver]}"
# It finds FENCED, or the sender's next try, whichever it looks at first.
poll 30 is_settled || fail "nobody runs the guest"
if [ "$(monitor "$receiver" query-curling --get state)" = active ]; then
    assert_handed_over
else
    echo "the guest goes on at the sender"
    assert_counting "$sender" 20
    has_disk "$sender"
    assert_no_bad "$sender"
    assert_silent "$receiver"
fi
