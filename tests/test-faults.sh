#!/bin/bash
# Fault: every line of faults.table, which has what is expected, in every
# phase of a session: the grid.
# Invariant: both sides come to the states of the table, and after the fault
# is mended to those behind >; the guest runs all the time, at one side only,
# with its memory intact, and never goes on from before the last round that
# was known to be committed; in the time that the table has.  Prints that.
#
# A sample of the grid, each fault once; LONG=1: all of it.  CELLS="FAULT/PHASE
# ..." chooses.
# timeout: 300
# long-timeout: 5400
# run: alone
# shellcheck disable=SC2034  # of functions.sh
TRANSPORT=tcp
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/failover.sh
source "$top/tests/failover.sh"
# shellcheck source=tests/network.sh
source "$top/tests/network.sh"
requires nft --version
requires tc -V

phases=(round0 between capturing shipping unacked applying suspect)
peer_timeout_ms=1000
states_s=20                     # longest wait for states

# --- Two hosts and what is between them, where the proxy is

declare -A host=()              # of a VM: left or right
declare -A address=([left]=10.77.1 [right]=10.77.2)

start_network() {
    local side

    start_namespace left
    start_namespace right
    start_namespace middle
    for side in left right; do
        within middle ip link add "$side" type veth peer name wire \
            netns "${pid[$side]}"
        within middle ip addr add "${address[$side]}.1/24" dev "$side"
        within "$side" ip addr add "${address[$side]}.2/24" dev wire
        within middle ip link set "$side" up
        within "$side" ip link set wire up
    done
    within middle nft add table inet faults
    within middle nft add chain inet faults input \
        '{ type filter hook input priority 0; }'
    within middle nft add chain inet faults output \
        '{ type filter hook output priority 0; }'
}

mend_network() {
    local side

    within middle nft flush table inet faults
    for side in left right; do
        within middle ip link set "$side" up
        within middle tc qdisc del dev "$side" root 2> /dev/null || true
        within "$side" tc qdisc del dev wire root 2> /dev/null || true
    done
}

# start_here SIDE NAME ARGS...
start_here() {
    host[$2]=$1
    mkfifo "$T/$2.trace"
    exec {fd}<> "$T/$2.trace"
    trace_fd[$2]=$fd
    vm_within "$1" "$2" -D "$T/$2.trace" "${@:3}"
}

other() { [ "$1" = left ] && echo right || echo left; }

# new_pair: a receiver on the other host, and a proxy on the way to it
new_pair() {
    local side proxy_command=$PROXY

    side=$(other "${host[$sender]}")
    machines=$((machines + 1))
    receiver=machine$machines
    link=link$machines
    start_here "$side" "$receiver" \
        -incoming "curling:tcp:${address[$side]}.2:0"
    monitor "$receiver" curling-set "$receiver_settings" > /dev/null
    watch_first_word "$receiver"
    cat > "$T/proxy" <<WRAPPER
#!/bin/sh
exec nsenter --net=/proc/${pid[middle]}/ns/net -- "$proxy_command" "\$@"
WRAPPER
    chmod +x "$T/proxy"
    start "$link" "$T/proxy" --listen \
        "tcp:${address[${host[$sender]}]}.1:0" \
        --connect "$(receiver_addr "$receiver")" \
        --log "$T/$link.log" --control "$T/$link.control"
    poll 10 proxy_or_end "$link" || fail "the proxy does not listen"
    proxy_addr[$link]=$(sed -n 's/^listening //p' "$T/$link.out")
}

# A receiver that died is followed by another one at its address.
new_receiver_there() {
    local address

    address=$(sed -n 's/^connect //p' "$T/$link.receiver")
    kill_process "$receiver.first"
    machines=$((machines + 1))
    receiver=machine$machines
    start_here "$(other "${host[$sender]}")" "$receiver" \
        -incoming "curling:$address"
    monitor "$receiver" curling-set "$receiver_settings" > /dev/null
    watch_first_word "$receiver"
}

# --- Phases: what is under way when the fault comes.  The proxy holds it up
# there, where it can.

held_up=

hold_up() {
    proxy_faults "$1" stall
    poll 20 proxy_fired "$link" "$1:stall" || fail "nothing came to $1"
    held_up=1
}

reach_phase() {
    held_up=
    if [ "$1" = round0 ]; then
        proxy_faults forward-byte=3000000 stall
        start_protection
        poll 20 proxy_fired "$link" forward-byte=3000000:stall ||
            fail "the first round does not begin"
        wait_state "$receiver" syncing
        held_up=1
        return
    fi
    start_protection
    wait_protected
    commit_round
    case $1 in
        between)
            monitor "$sender" curling-set '{"interval-ms": 3600000}' > /dev/null
            commit_round
            ;;
        capturing) on_trace "$sender" curling_paused true ;;
        shipping) hold_up mid-round=any ;;
        unacked) hold_up before=RECEIVED ;;
        applying) hold_up before=APPLIED ;;
        suspect)
            hold_up now
            wait_state "$receiver" suspect
            ;;
    esac
}

let_go() {
    [ -z "$held_up" ] || proxy "$link" now:resume > /dev/null
    held_up=
}

# --- Faults, and how they are mended

# drop there|back: what comes from the sender's host, or what goes to it
drop() {
    if [ "$1" = there ]; then
        within middle nft add rule inet faults input \
            iifname "${host[$sender]}" drop
    else
        within middle nft add rule inet faults output \
            oifname "${host[$sender]}" drop
    fi
}

slow_down() {
    local side=${host[$sender]}

    within "$side" tc qdisc add dev wire root tbf rate 1mbit burst 16k \
        latency 2s
    within middle tc qdisc add dev "$side" root tbf rate 1mbit burst 16k \
        latency 2s
}

flap() {
    local side=${host[$sender]}

    for _ in 1 2 3; do
        within middle ip link set "$side" down
        sleep 1
        within middle ip link set "$side" up
        sleep 1
    done
}

yank_it() {
    monitor "$1" yank '{"instances": [{"type": "migration"}]}' > /dev/null
}

# strike FAULT: it happens
strike() {
    case $1 in
        sender-killed) kill_sender ;;
        sender-stopped) kill -STOP "${pid[$sender]}" ;;
        sender-cut) within middle ip link set "${host[$sender]}" down ;;
        receiver-killed)
            echo "connect $(receiver_addr "$receiver")" > "$T/$link.receiver"
            kill_vm "$receiver"
            ;;
        receiver-stopped) kill -STOP "${pid[$receiver]}" ;;
        receiver-10s) kill -STOP "${pid[$receiver]}" ;;
        receiver-cut) within middle ip link set "${host[$receiver]}" down ;;
        stalled) proxy "$link" now:stall > /dev/null ;;
        1mbit) slow_down ;;
        delay-300ms) proxy "$link" now:delay=300 > /dev/null ;;
        one-way-there) drop there ;;
        one-way-back) drop back ;;
        flapping) flap ;;
        reset) proxy "$link" now:reset > /dev/null ;;
        state-flushed)
            # Of the connection that there is; new ones are as ever.
            within middle nft add rule inet faults input tcp sport \
                "$(connection_port)" drop
            within middle nft add rule inet faults output tcp dport \
                "$(connection_port)" drop
            ;;
        yank-sender) yank_it "$sender" ;;
        yank-receiver) yank_it "$receiver" ;;
        *) fail "no such fault: $1" ;;
    esac
    # What was held up goes on, into whatever there is now.
    [ "$1" = stalled ] || let_go
}

# The sender's end of its last connection to the proxy
connection_port() {
    local port

    port=$(within "${host[$sender]}" ss -Htn state established dst \
        "${address[${host[$sender]}]}.1" | awk '
        { n = split($3, part, ":"); port = part[n] } END { print port }')
    [ -n "$port" ] || fail "$cell: there is no connection"
    echo "$port"
}

mend() {
    case $1 in
        sender-stopped) kill -CONT "${pid[$sender]}" ;;
        receiver-killed) new_receiver_there ;;
        receiver-stopped) kill -CONT "${pid[$receiver]}" ;;
        receiver-10s)
            sleep 9
            kill -CONT "${pid[$receiver]}"
            ;;
        stalled) proxy "$link" now:resume > /dev/null ;;
        delay-300ms) proxy "$link" now:delay=0 > /dev/null ;;
    esac
    mend_network
}

# --- What has to be

# come_to SENDER/RECEIVER: both get to these states
come_to() {
    local want=$1 name

    for name in "$sender" "$receiver"; do
        local states=${want%%/*}

        want=${want#*/}
        case $states in
            -) ;;
            gone) [ -z "${pid[$name]-}" ] || wait_exit "$name" 137 ;;
            *) poll "$states_s" in_states "$name" "$states" ||
                fail "$cell: $name is $(monitor "$name" query-curling \
                    --get state), expected $states" ;;
        esac
    done
}

in_states() {
    [[ "|$2|" == *"|$(monitor "$1" query-curling --get state)|"* ]]
}

last_word_ns() { tail -n 1 "$T/$1.last.out"; }

# assert_taken_over_alone WOKEN_NS: the receiver's guest goes on from a round
# that is not too old, and the sender's said its last word before; if it was
# woken, before and for a moment after that.
woken_ms=0
assert_taken_over_alone() {
    local first last

    wait_exit "$receiver.first"
    first=$(< "$T/$receiver.first.out")
    last=$(last_word_ns "$sender")
    if [ -n "$1" ]; then
        woken_ms=$(((last - $1) / 1000000))
        echo "woken, the old sender's guest ran for $woken_ms ms"
        [ "$woken_ms" -lt 1000 ] || fail "it ran on"
    else
        [ "$first" -gt "$last" ] || [ "$fault" = sender-killed ] ||
            fail "$cell: both ran for $(((last - first) / 1000000)) ms"
    fi
    assert_counting "$receiver" 15
    assert_no_bad "$receiver"
    first=$(serial_first_count "$receiver")
    [ "$first" -gt "$count" ] ||
        fail "$cell: $receiver went on at $first; $count was committed"
}

now_ns() { python3 -SEc 'import time; print(time.monotonic_ns())'; }

# --- One cell

declare -A took_ms=()

# run_cell FAULT PHASE EXPECTED
run_cell() {
    local name=$1 phase=$2 expected=$3 began_ms woken=

    cell=$name/$phase
    fault=${name#lease:}
    echo "$cell"
    sender_settings='{"interval-ms": 20, "reconnect-ms": 100,
        "peer-timeout-ms": '$peer_timeout_ms', "fence-after-ms": 0}'
    receiver_settings='{"peer-timeout-ms": '$peer_timeout_ms'}'
    if [ "$name" != "$fault" ]; then
        sender_settings=${sender_settings/after-ms\": 0/after-ms\": 2000}
        receiver_settings=${receiver_settings%\}}', "on-silence": "takeover"}'
    fi
    new_pair
    watch_last_word "$sender"
    reach_phase "$phase"
    began_ms=$(now_ms)
    strike "$fault"
    come_to "${expected%%>*}"
    took_ms[$cell]=$(($(now_ms) - began_ms))
    case $fault in
        1mbit | delay-300ms)
            # Slow is not silent, however long it lasts.
            sleep $((3 * peer_timeout_ms / 1000))
            come_to "${expected%%>*}"
            assert_counting "$sender" 5
            ;;
    esac
    if [[ $expected == *'>'* ]]; then
        [ "$fault" != sender-stopped ] || woken=$(now_ns)
        # Nothing that is mended too early is seen.
        assert_no_bad "$sender"
        mend "$fault"
        come_to "${expected#*>}"
        # Where nothing need be seen in between, what counts is the end.
        [[ $expected != -/-* ]] || took_ms[$cell]=$(($(now_ms) - began_ms))
    fi
    end_cell "$expected" "$woken"
}

# The guest goes on somewhere: that is the next cell's sender.
end_cell() {
    local expected=$1

    if [ "$expected" = gone/suspect ]; then
        # Nobody can tell a close after silence from a cut: an operator can.
        monitor "$receiver" curling-failover > /dev/null
        expected=gone/active
    fi
    case $expected in
        gone/listening)
            # The guest is lost, as it was not protected yet: another one.
            assert_silent "$receiver"
            forget_pair
            kill_vm "$receiver"
            start_guest
            ;;
        */active)
            wait_state "$receiver" active
            assert_taken_over_alone "$2"
            [ -z "${pid[$sender]-}" ] || kill_vm "$sender"
            forget_pair
            sender=$receiver
            ;;
        *)
            commit_after_all
            assert_no_bad "$sender"
            assert_silent "$receiver"
            monitor "$sender" migrate_cancel > /dev/null
            wait_state "$sender" stopped
            forget_pair
            kill_vm "$receiver"
            ;;
    esac
}

# The guest runs, and rounds go on.
commit_after_all() {
    assert_counting "$sender" 5
    commit_round
    [ "$(monitor "$sender" query-status --get status)" = running ] ||
        fail "$cell: the guest does not run"
}

forget_pair() {
    local name

    for name in "$sender.last" "$receiver.first"; do
        ! alive "$name" || kill_process "$name"
    done
    kill_process "$link"
}

start_guest() {
    machines=$((machines + 1))
    sender=machine$machines
    start_here left "$sender"
    wait_count "$sender" 3
}

# assert_in_time FROM-TO: so long it took, in ms.  Before its time nothing is
# silent, and no lease is over.
assert_in_time() {
    if [ "${took_ms[$cell]}" -lt "${1%-*}" ] ||
       [ "${took_ms[$cell]}" -gt "${1#*-}" ]; then
        fail "$cell took ${took_ms[$cell]} ms, expected $1"
    fi
}

# --- The grid

sample() {
    local n=0 name suspect among

    while read -r name _ _ suspect _; do
        # Where the last phase is not run, one of the others
        among=${#phases[@]}
        [ "$suspect" != . ] || among=$((among - 1))
        echo "$name/${phases[n * 3 % among]}"
        n=$((n + 1))
    done < <(grep -v '^#' "$top/tests/faults.table")
}

print_matrix() {
    local name phase

    printf '\n%-24s' "ms until all is as expected"
    printf '%10s' "${phases[@]}"
    echo
    while read -r name _; do
        printf '%-24s' "  $name"
        for phase in "${phases[@]}"; do
            printf '%10s' "${took_ms[$name/$phase]-}"
        done
        echo
    done < <(grep -v '^#' "$top/tests/faults.table")
}

if [ -n "${LONG-}" ] && [ -z "${CELLS-}" ]; then
    CELLS=all
fi
cells=${CELLS:-$(sample)}
start_network
start_guest
while read -r name round0 rounds suspect window; do
    for phase in "${phases[@]}"; do
        [[ $cells == all || " ${cells//$'\n'/ } " == *" $name/$phase "* ]] ||
            continue
        case $phase in
            round0) expected=$round0 ;;
            suspect) expected=$suspect ;;
            *) expected=$rounds ;;
        esac
        [ "$expected" != . ] || continue
        run_cell "$name" "$phase" "$expected"
        case $phase in
            round0 | suspect) ;;
            *) assert_in_time "$window" ;;
        esac
    done
done < <(grep -v '^#' "$top/tests/faults.table")
print_matrix
