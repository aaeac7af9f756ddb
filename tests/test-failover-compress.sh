#!/bin/bash
# Fault: the sender is killed while rounds are compressed, with each way of
# compress and apply: between rounds; with LONG=1 also in the middle of a
# round, before its end, before RECEIVED comes back, and while it is applied,
# and with rounds=full as well.
# Invariant: what deltas are against is what the receiver has, whatever
# happened to the rounds before: the guest goes on intact.  Bytes get fewer.
# timeout: 240
# long-timeout: 1800
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

# lose_a_round: a connection breaks within a round, and the session goes on
lose_a_round() {
    proxy_faults mid-round=any cut
    monitor "$sender" poll query-curling --until "rounds-discarded>=1" \
        > /dev/null || fail "no round was lost"
    wait_state "$sender" protected
    wait_state "$receiver" standby
}

# assert_compressed COMPRESS: and what is left is less than it was, of the
# median round: a single one may be full of what does not compress.  Pages that
# are sent for the first time have no copy that they could be less against: how
# many rounds that takes is the guest's, which is slow on a busy host.
assert_compressed() {
    poll 30 is_compressed "$1" ||
        fail "compress=$1 makes $bytes bytes of $raw"
}

is_compressed() {
    # Both of one moment, as rounds go on
    read -r raw bytes < <(monitor "$sender" query-curling \
        --get statistics.raw-bytes.p50,statistics.bytes.p50)
    # The guest writes to all of a page; auto may find that a round is sent
    # sooner as it is.
    # shellcheck disable=SC2017  # as exact as that
    case $1 in
        none | auto) [ "$bytes" -le "$raw" ] ;;
        zstd | delta) [ "$bytes" -lt $((raw / 10 * 9)) ] ;;
    esac
}

places=(now)
kinds=(delta)
if [ -n "${LONG-}" ]; then
    places=(now mid-round=any before=ROUND_END before=RECEIVED
            after=RECEIVED before=APPLIED)
    kinds=(delta full)
fi
machine_args=(-device VGA -netdev "user,id=net0"
              -device "virtio-net-pci,netdev=net0")
start_sender
for apply in lazy eager; do
    for compress in none delta zstd auto; do
        for rounds in "${kinds[@]}"; do
            for when in "${places[@]}"; do
                receiver_settings="{\"apply\": \"$apply\"}"
                sender_settings='{"interval-ms": 10, "reconnect-ms": 10,
                    "rounds": "'$rounds'", "compress": "'$compress'"}'
                next_link
                # Often enough for all of the guest's pages to have copies
                for _ in {1..10}; do
                    commit_round
                done
                lose_a_round
                for _ in {1..20}; do
                    commit_round
                done
                [ "$compress$rounds" = deltafull ] ||
                    assert_compressed "$compress"
                proxy_faults "$when" "kill=${pid[$sender]}" cut
                wait_exit "$sender" 137
                assert_taken_over
                take_place
            done
        done
    done
done
