#!/bin/bash
# Fault: a bit of the stream is flipped, or the stream ends early: in the
# header or the payload of frames of all kinds that are on their way to the
# receiver or back, and at random bytes.
# Invariant: the receiver never applies or starts anything wrong; the guest on
# the sender never stops; both find their way back to a protected guest.
#
# FAULTS=N in the environment does N at random bytes (12), SEED=N repeats a run.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/ram.sh
source "$top/tests/ram.sh"

# random_bit: set $mask
random_bit() {
    random 0 7
    mask=$((1 << number))
}

# recovers FAULT: it was done, and rounds are committed again
recovers() {
    poll 10 proxy_fired "$link" "$1" || fail "$1 was not done"
    # Of the first state it may be the last moment.
    monitor "$sender" poll query-curling --until state=protected \
            --timeout 30 > /dev/null
    commit_round
    commit_round
    wait_protected
    assert_no_bad "$sender"
}

# spoil WHEN ACTION: at the next frame of its kind
spoil() {
    proxy_faults "$1" "$2"
    case $1 in
        # Such a frame is the first of its connection.
        *=HELLO*|*=WELCOME*) proxy_faults now cut ;;
    esac
    recovers "$1:$2"
}

# bytes_forwarded DIRECTION: on the connection at hand, by the frames in the log
bytes_forwarded() {
    awk -v way="$1" '
        / EVENT connection [0-9]+ open/ { bytes = 0 }
        $3 == way { bytes += 40 + substr($7, 5) }
        END { print bytes }' "$T/$link.log"
}

# This machine may be busy: a sender that is late is not what is tested here.
receiver_settings='{"close-grace-ms": 10000}'
print_seed
start_sender
watch_stalls "$sender"
new_receiver
# The connection that shall protect the guest is spoiled from its start on, in
# round 0 too; it is for the user to try again where migrate fails.
random_bit
proxy_faults mid=DATA,round=0,nth=20 "corrupt=$mask"
start_protection
recovers mid=DATA

for frame in ROUND_BEGIN DATA ROUND_END RECEIVED APPLIED HELLO WELCOME; do
    for place in before mid; do
        random_bit
        spoil "$place=$frame" "corrupt=$mask"
    done
    spoil "mid=$frame" truncate
done

# Within the first two megabytes or so of a round or two
for ((i = 0; i < ${FAULTS:-12}; i++)); do
    random 1 2000000
    where=forward-byte=$(($(bytes_forwarded '>') + number))
    if [ $((i % 4)) -eq 3 ]; then
        random 1 200
        where=back-byte=$(($(bytes_forwarded '<') + number))
    fi
    random_bit
    action=corrupt=$mask
    [ $((i % 3)) -ne 2 ] || action=truncate
    spoil "$where" "$action"
done
echo "$(grep -c ' HELLO ' "$T/$link.log") connections," \
     "$(grep -c ' ROUND_END ' "$T/$link.log") rounds; the longest stall of" \
     "the guest was $(longest_stall "$sender") ms"
assert_never_stopped "$sender"
same_ram "$sender" "$receiver" "after all the faults"
monitor "$sender" cont > /dev/null
commit_round

kill_vm "$sender"
kill_process "$sender.stalls"
assert_taken_over
