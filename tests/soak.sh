#!/bin/bash
# Fault: one after the other, at random, for MINUTES (30): whatever a session
# survives, and every kind of takeover, from one QEMU to the next and on.
# Invariant: each fault ends as it has to; the guest's memory is intact, and
# it never goes on from before the last committed round; neither memory nor
# descriptors of a sender, or of a receiver, grow with the faults it lives
# through.  SEED=N repeats the choices of a run.
#
# Not one of those that tests/run runs: make soak MINUTES=N
TRANSPORT=tcp
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"

minutes=${MINUTES:-30}
first_faults=4
fd_slack=4                      # connections may be on their way
rss_slack_kb=$((32 << 10))      # of the heap, and of chunks not yet touched

sender_settings='{"interval-ms": 10, "reconnect-ms": 50,
                  "peer-timeout-ms": 500}'
receiver_settings='{"peer-timeout-ms": 500, "close-grace-ms": 200}'
declare -A base_fds=() base_kb=()
most_fds=0
most_kb=0
declare -A times=()             # how often each fault was

# --- What a process has

fds() { find "/proc/${pid[$1]}/fd" -mindepth 1 | wc -l; }

# Beside the memory that rounds take, which has a limit of its own
rss_kb() {
    local rounds

    rounds=$(monitor "$1" query-curling --get memory-bytes.now)
    awk -v rounds="$rounds" '/^Rss:/ { print $2 - int(rounds / 1024) }' \
        "/proc/${pid[$1]}/smaps_rollup"
}

# note_base NAME N: what it has, at most, after its first faults in this role,
# of which this is the Nth
note_base() {
    local kb

    kb=$(rss_kb "$1")
    [ "$2" -gt 0 ] || base_kb[$1]=$kb
    [ "$kb" -le "${base_kb[$1]}" ] || base_kb[$1]=$kb
    base_fds[$1]=$(fds "$1")
}

# check_growth NAME: it lives on after a fault
check_growth() {
    local more_fds more_kb

    more_fds=$(($(fds "$1") - base_fds[$1]))
    more_kb=$(($(rss_kb "$1") - base_kb[$1]))
    [ "$more_fds" -le "$most_fds" ] || most_fds=$more_fds
    [ "$more_kb" -le "$most_kb" ] || most_kb=$more_kb
    [ "$more_fds" -le "$fd_slack" ] ||
        fail "$1 has $more_fds descriptors more than at first"
    [ "$more_kb" -le "$rss_slack_kb" ] ||
        fail "$1 has $more_kb KiB more than at first"
}

# --- Faults that a session survives

some_ms() {
    random "$1" "$2"
    sleep "0.$(printf '%03d' "$number")"
}

survive() {
    case $1 in
        cut | reset) proxy_faults "$2" "$1" ;;
        stall)
            proxy_faults "$2" stall
            sleep 0.2
            some_ms 0 999
            proxy_faults now resume
            ;;
        sender-stopped | receiver-stopped)
            local name=$sender

            [ "$1" = sender-stopped ] || name=$receiver
            kill -STOP "${pid[$name]}"
            some_ms 0 999
            kill -CONT "${pid[$name]}"
            ;;
        yank)
            random 0 1
            monitor "$([ "$number" = 0 ] && echo "$sender" ||
                       echo "$receiver")" \
                yank '{"instances": [{"type": "migration"}]}' > /dev/null ||
                true            # it may have none at this moment
            ;;
    esac
    poll 20 goes_on || fail "$1 $2: no rounds after it:" \
        "$(monitor "$sender" query-curling --get state) and" \
        "$(monitor "$receiver" query-curling --get state)"
    assert_silent "$receiver"
}

goes_on() {
    local before=$committed

    committed=$(monitor "$sender" query-curling --get rounds-committed)
    [ "$committed" -gt "$before" ] &&
        [ "$(monitor "$sender" query-curling --get state)" = protected ]
}

# --- Takeovers

take_over() {
    case $1 in
        killed)
            proxy_faults "$2" "kill=${pid[$sender]}"
            wait_exit "$sender" 137
            assert_taken_over
            ;;
        switch-over)
            monitor "$sender" curling-switchover > /dev/null
            assert_goes_over
            ;;
        failover)
            monitor "$receiver" curling-failover > /dev/null
            assert_goes_over
            ;;
    esac
    take_place
}

assert_goes_over() {
    wait_state "$receiver" active
    wait_state "$sender" fenced
    assert_counting "$receiver" 10
    assert_no_bad "$receiver"
}

# --- The run

places=(now mid-round=any before=ROUND_END before=RECEIVED after=RECEIVED
        before=APPLIED)
survivals=(cut reset stall sender-stopped receiver-stopped yank)
takeovers=(killed killed switch-over failover)

# pick WORD...: one of them
pick() {
    random 1 $#
    picked=${!number}
}

print_seed
until_s=$((SECONDS + 60 * minutes))
start_sender
n_takeovers=0
while [ "$SECONDS" -lt "$until_s" ]; do
    next_link
    # Long enough to see a leak, once; then many takeovers.
    random 0 12
    faults=$([ "$n_takeovers" -eq 0 ] && echo 60 || echo "$number")
    for ((n = 0; n < faults; n++)); do
        commit_round
        committed=$(monitor "$sender" query-curling --get rounds-committed)
        pick "${places[@]}"
        place=$picked
        pick "${survivals[@]}"
        survive "$picked" "$place"
        for name in "$sender" "$receiver"; do
            if [ "$n" -lt "$first_faults" ]; then
                note_base "$name" "$n"
            else
                check_growth "$name"
            fi
        done
        times[$picked]=$((${times[$picked]-0} + 1))
    done
    commit_round
    pick "${places[@]}"
    place=$picked
    pick "${takeovers[@]}"
    take_over "$picked" "$place"
    times[$picked]=$((${times[$picked]-0} + 1))
    n_takeovers=$((n_takeovers + 1))
    # What is over is not kept: the logs of a long run are large.
    rm -f "$T/link$((machines - 1)).log"
done
echo "$n_takeovers takeovers in $minutes minutes; at most $most_fds" \
     "descriptors and $most_kb KiB more than at first"
for name in "${!times[@]}"; do
    echo "  $name: ${times[$name]}"
done | sort
