# What the tests of takeovers share; to be sourced after functions.sh.
# shellcheck shell=bash
#
# A chain: whoever took the guest over is the next sender, so only the first
# guest has to boot.  At any time $sender runs the guest, $receiver holds its
# rounds, and the proxy $link is between them.

# shellcheck disable=SC2034  # of start_vm
RAM_MB=128
# shellcheck disable=SC2034  # of start_vm
APPEND="curling.mb=32 curling.tick=20 curling.pages=300 curling.verify=500"
sender=
receiver=
link=
machines=0
declare -A trace_fd=()          # trace events of a VM can be read here

# What a test wants of each new machine: JSON for curling-set
sender_settings='{"interval-ms": 10, "reconnect-ms": 50}'
receiver_settings='{}'
machine_args=()                 # and options of all of them

# random LOW HIGH: set $number to one in this range
# shellcheck disable=SC2034  # for the tests
random() { number=$(($1 + (RANDOM << 15 | RANDOM) % ($2 - $1 + 1))); }

# print_seed: SEED=N in the environment repeats the random choices of a run
print_seed() {
    local seed=${SEED:-$((${EPOCHREALTIME/./} % 32768))}

    RANDOM=$seed
    echo "SEED=$seed"
}

# --- The chain

# start_machine NAME ARGS...
start_machine() {
    local name=$1 fd

    shift
    mkfifo "$T/$name.trace"
    exec {fd}<> "$T/$name.trace"
    trace_fd[$name]=$fd
    start_vm "$name" -D "$T/$name.trace" \
        ${machine_args+"${machine_args[@]}"} "$@"
}

# start_sender: the first one, whose guest boots
start_sender() {
    sender=machine0
    start_machine "$sender"
    wait_count "$sender" 3
}

# new_receiver: it, and a proxy in front of it
new_receiver() {
    machines=$((machines + 1))
    receiver=machine$machines
    link=link$machines
    start_machine "$receiver" -incoming "$(receiver_uri "$receiver")"
    monitor "$receiver" curling-set "$receiver_settings" > /dev/null
    watch_first_word "$receiver"
    start_proxy "$link" "$(receiver_addr "$receiver")"
}

# start_protection: without waiting for any of it
start_protection() {
    monitor "$sender" curling-set "$sender_settings" > /dev/null
    # shellcheck disable=SC2154
    monitor "$sender" migrate \
        "{\"uri\": \"curling:${proxy_addr[$link]}\"}" > /dev/null
}

# next_link: a new receiver protects the guest
next_link() {
    new_receiver
    start_protection
    wait_protected
}

wait_protected() {
    wait_state "$sender" protected
    wait_state "$receiver" standby
    assert_silent "$receiver"
}

# take_place: the receiver runs the guest; now it is a sender
take_place() {
    local fd=${trace_fd[$sender]}

    [ -z "${pid[$sender]-}" ] || kill_vm "$sender"
    kill_process "$link"
    [ -z "${pid[$receiver.first]-}" ] || wait_exit "$receiver.first"
    exec {fd}>&-
    sender=$receiver
}

# --- Rounds

# commit_round: force a round and wait until it is committed; sets $round, and
# $count to one that the guest had reached before
commit_round() {
    count=$(serial_count "$sender")
    round=$(monitor "$sender" curling-checkpoint --get round)
    monitor "$sender" poll query-curling --until "last-round.number>=$round" \
        > /dev/null || fail "round $round is not committed"
}

# proxy_faults WHEN ACTION...: all at the same place, in this order
proxy_faults() {
    local when=$1 lines='' action

    shift
    for action; do
        lines+=${lines:+$'\n'}$when:$action
    done
    [[ $(proxy "$link" "$lines") == ok* ]] || fail "the proxy refuses $lines"
}

# forwarded DIRECTION FRAME: number of the last round whose FRAME went through
# the proxy; -1 if there is none
forwarded() {
    awk -v way="$1" -v frame="$2" -v round=-1 \
        '$3 == way && $4 == frame && $5 != "round=-" {
             round = substr($5, 7)
         }
         END { print round }' "$T/$link.log"
}

# on_trace NAME EVENT COMMAND...: run COMMAND right when it happens next
on_trace() {
    local name=$1 event=$2 line='' deadline=$((SECONDS + 20))

    shift 2
    monitor "$name" trace-event-set-state \
        "{\"name\": \"$event\", \"enable\": true}" > /dev/null
    until [[ $line == "$event "* ]]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$name: no trace of $event"
        read -r -t 20 -u "${trace_fd[$name]}" line || true
    done
    "$@"
    # Nobody reads what comes next: a pipe that is full would hold QEMU up.
    monitor "$name" trace-event-set-state \
        "{\"name\": \"$event\", \"enable\": false}" > /dev/null 2>&1 || true
}

# traced NAME: what was traced since, all that is there
traced() {
    local line

    while read -r -t 0.01 -u "${trace_fd[$1]}" line; do
        echo "$line"
    done
}

# --- What has to be

# assert_taken_over: the receiver took over, from the last round it had whole,
# which is not older than what the sender knew to be committed, and the guest
# is intact.  $count is one that it had reached in a committed round.
assert_taken_over() {
    local whole received from

    wait_state "$receiver" active
    assert_not_before_the_end
    whole=$(forwarded '>' ROUND_END)
    received=$(forwarded '<' RECEIVED)
    from=$(monitor "$receiver" query-curling --get last-round.number)
    [ "$from" -eq "$whole" ] ||
        fail "$receiver took over from round $from, had $whole whole"
    [ "$from" -ge "$received" ] ||
        fail "$receiver took over from round $from, $received was committed"

    assert_guest_goes_on 30
}

# assert_guest_goes_on TICKS: at the receiver, intact, from one of the last
# rounds; $count is one that it had reached in a committed round
assert_guest_goes_on() {
    local first last

    assert_counting "$receiver" "$1"
    assert_no_bad "$sender"
    assert_no_bad "$receiver"
    first=$(serial_first_count "$receiver")
    last=$(serial_count "$sender")
    # The first line may be the rest of one.
    if [ "$first" -le "$count" ] || [ "$first" -gt $((last + 2)) ]; then
        fail "$receiver went on at $first; a committed round had $count, and" \
             "$sender came to $last"
    fi
}

# watch_first_word NAME: when does its guest say it?
watch_first_word() {
    start "$1.first" python3 -SEuc '
import os, sys, time
while not os.path.exists(sys.argv[1]) or not os.stat(sys.argv[1]).st_size:
    time.sleep(0.005)
print(time.monotonic_ns())
' "$T/$1.serial"
}

# assert_fenced NAME: it becomes so, and its guest stands still
assert_fenced() {
    wait_state "$1" fenced
    assert_paused "$1"
}

assert_paused() {
    [ "$(monitor "$1" query-status --get status)" = paused ] ||
        fail "the guest of $1 is not paused"
}

# watch_last_word NAME: when did its guest say the last one?
watch_last_word() {
    start "$1.last" python3 -SEuc '
import os, sys, time
size = 0
while True:
    was, size = size, os.stat(sys.argv[1]).st_size
    if size != was:
        print(time.monotonic_ns())
    time.sleep(0.005)
' "$T/$1.serial"
}

# kill_sender: and note when
killed_ns=0
kill_sender() {
    local up

    read -r up _ < /proc/uptime
    killed_ns=${up/./}0000000
    kill_vm "$sender"
}

# assert_not_before_the_end: the first word of the receiver's guest came after
# the sender was killed, or the proxy had cut its connection
assert_not_before_the_end() {
    local end_ns first

    [ -n "${pid[$receiver.first]-}" ] || return 0       # not watched
    end_ns=$(awk -v ended="$killed_ns" \
        '/ EVENT .*(cut|reset|kill)/ && $1 > ended { ended = $1 }
         END { print ended }' "$T/$link.log")
    wait_exit "$receiver.first"
    first=$(< "$T/$receiver.first.out")
    [ "$first" -gt "$end_ns" ] ||
        fail "the guest ran at $receiver $((end_ns - first)) ns too early"
}

# watch_stalls NAME: from now on, how long is its guest silent?
watch_stalls() {
    start "$1.stalls" python3 -SEuc '
import os, sys, time
size, since, longest = 0, time.monotonic(), 0
while True:
    now, was = time.monotonic(), size
    size = os.stat(sys.argv[1]).st_size
    if size != was:
        since = now
    elif int(1000 * (now - since)) > longest:
        longest = int(1000 * (now - since))
        print(longest)
    time.sleep(0.005)
' "$T/$1.serial"
}

# longest_stall NAME: of its guest, in ms
longest_stall() { tail -n 1 "$T/$1.stalls.out"; }

# assert_never_stopped NAME: since watch_stalls, its guest has counted on.  It
# may have had its hiccups, on a busy machine long ones, but to wait for a
# connection takes longer.
assert_never_stopped() {
    assert_no_bad "$1"
    [ "$(longest_stall "$1")" -lt 1000 ] ||
        fail "the guest of $1 stood still for $(longest_stall "$1") ms"
}
