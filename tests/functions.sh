# What the shell tests share; to be sourced first.
# shellcheck shell=bash
#
# A test exits 0 (passed), 1 (failed) or 77 (skipped, the reason on its last
# line).  $T is its own folder for files and sockets: gone after a success,
# kept as build/tests/log/NAME after a failure.  Every process started here
# ends with the test, however the test ends, SIGKILL included; one that hangs,
# crashes or ends unasked fails the test.
#
# The environment may set:
#   QEMU, GUEST_KERNEL, GUEST_INITRAMFS, BOOT_SECTOR, PROXY   other programs
# and a test, before the function that looks at it:
#   MACHINE (pc), ACCEL (tcg), RAM_MB (256), SMP (1)  of start_vm
#   GUEST (linux, boot-sector), APPEND (for the kernel's command line)
#   TRANSPORT (unix, tcp)   of receiver_uri and start_proxy

set -eEuo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${BUILD:-$top/build}
test_name=$(basename "$0" .sh)
log_dir=$build/tests/log/$test_name

QEMU=${QEMU:-$build/bin/qemu-system-x86_64}
GUEST_KERNEL=${GUEST_KERNEL:-$build/fetch/vmlinuz}
GUEST_INITRAMFS=${GUEST_INITRAMFS:-$top/build/guest/initramfs.cpio.gz}
BOOT_SECTOR=${BOOT_SECTOR:-$top/build/guest/boot-sector}
PROXY=${PROXY:-$build/tests/proxy}

end_timeout_s=15                # a process has this long to end
start_timeout_s=20              # and a QEMU so long to answer

declare -A pid=()               # of what runs, by name
declare -A ended=()             # exit status of what has ended
# shellcheck disable=SC2034  # for the tests
declare -A proxy_addr=()        # where a proxy listens: tcp:... or unix:...
started=()                      # all names, in order
cleanups=()

# --- Life of a test

# fail MESSAGE...
fail() {
    echo "$test_name: line ${BASH_LINENO[-2]-?}: $*" >&2
    exit 1
}

# skip REASON...
skip() {
    echo "skip: $*"
    exit 77
}

# requires CMD...: skip the test if this command fails
requires() {
    "$@" < /dev/null > /dev/null 2>&1 || skip "needs '$*'"
}

# cleanup_fn CMD...: run it when the test ends, the last one first, after all
# processes have ended
cleanup_fn() {
    cleanups=("$(printf '%q ' "$@")" ${cleanups+"${cleanups[@]}"})
}

# poll TIMEOUT_S CMD...: repeat the command until it succeeds
poll() {
    local deadline_us=$((${EPOCHREALTIME/./} + $1 * 1000000))

    shift
    until "$@"; do
        [ "${EPOCHREALTIME/./}" -lt "$deadline_us" ] || return 1
        sleep 0.05
    done
}

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

# --- Processes

# start NAME CMD...: in the background, output to $T/NAME.out and .err.  Not
# from a subshell: the process dies with the shell that started it.
start() {
    local name=$1

    shift
    [ -z "${pid[$name]-}" ] || fail "$name runs already"
    # What another one of that name said is not to be taken for this one's.
    rm -f "$T/$name.out" "$T/$name.err"
    setpriv --pdeathsig KILL -- "$@" \
        < /dev/null > "$T/$name.out" 2> "$T/$name.err" &
    pid[$name]=$!
    unset "ended[$name]"
    [[ " ${started[*]-} " == *" $name "* ]] || started+=("$name")
    echo "${pid[$name]}" > "$T/$name.pid"
}

# alive NAME: does the process run?  (A zombie does not.)
alive() {
    local stat

    [ -n "${pid[$1]-}" ] || return 1
    read -r stat 2> /dev/null < "/proc/${pid[$1]}/stat" || return 1
    # state and parent, behind the name of the program
    [[ ${stat##*) } =~ ^[^ZX]\ $$\  ]]
}

not_alive() { ! alive "$1"; }

# gone NAME: wait for its end, and note its exit status.  The shell's own
# words on who was killed are of no use here.
gone() {
    poll "$end_timeout_s" not_alive "$1" && collect "$1"
} 2> /dev/null

collect() {
    local status=0

    wait "${pid[$1]}" || status=$?
    ended[$1]=$status
    unset "pid[$1]"
}

# wait_exit NAME [STATUS]: it ends by itself, and so (0; 128 + signal)
wait_exit() {
    gone "$1" || fail "$1 does not end"
    [ "${ended[$1]}" -eq "${2:-0}" ] ||
        fail "$1 ended with ${ended[$1]}, expected ${2:-0}"
}

# kill_process NAME [SIGNAL]: send KILL or another signal that ends it, and
# wait until it is gone
kill_process() {
    alive "$1" || fail "$1 is to be killed, but runs no longer"
    kill -"${2:-KILL}" "${pid[$1]}"
    gone "$1" ||
        fail "$1 hangs: still there $end_timeout_s s after ${2:-KILL}"
}

# End what runs: without a word after a failure, else as the user would, and
# complain of what hung, crashed or was not there any more.
end_processes() {
    local name worst=$1

    for name in ${started+"${started[@]}"}; do
        [ -n "${pid[$name]-}" ] || continue
        if [ "$worst" -ne 0 ]; then
            ! alive "$name" || kill -KILL "${pid[$name]}"
        elif alive "$name"; then
            kill -TERM "${pid[$name]}"
        else
            collect "$name"
            echo "$test_name: $name ended unasked with ${ended[$name]}" >&2
            worst=1
        fi
    done
    for name in "${!pid[@]}"; do
        if ! gone "$name"; then
            echo "$test_name: $name hangs at its end" >&2
            worst=1
            kill -KILL "${pid[$name]}"
            gone "$name" || continue
        fi
        case ${ended[$name]} in
            0|143) ;;
            *)
                [ "$worst" -ne 0 ] ||
                    echo "$test_name: $name ended with ${ended[$name]}" >&2
                worst=1
                ;;
        esac
    done
    return "$worst"
}

# What a person wants to see of a failure; big files are not kept.
show_failure() {
    local name

    for name in ${started+"${started[@]}"}; do
        echo "--- $name: $(alive "$name" && echo runs ||
                           echo "ended ${ended[$name]-}")"
        if alive "$name" && [ -S "$T/$name.qmp2" ]; then
            monitor "$name" query-status --timeout 2 || true
            monitor "$name" query-curling --timeout 2 || true
        fi
        tail -n 10 "$T/$name.err" || true
        [ ! -f "$T/$name.serial" ] || tail -n 3 "$T/$name.serial" || true
    done >&2 2>&1
}

finish() {
    local status=$? command

    trap - EXIT ERR
    trap '' INT TERM
    set +e
    [ "$status" -eq 0 ] || [ "$status" -eq 77 ] || show_failure
    if ! end_processes "$status" && [ "$status" -eq 0 ]; then
        status=1
    fi
    for command in ${cleanups+"${cleanups[@]}"}; do
        eval "$command"
    done
    rm -rf "$log_dir"
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        find "$T" \( -type s -o -type p -o -size +64M \) -delete
        mkdir -p "$log_dir" && cp -r "$T/." "$log_dir/"
        echo "files kept in ${log_dir#"$top"/}" >&2
    fi
    rm -rf "$T"
    exit "$status"
}

# --- Virtual machines

# start_vm NAME ARGS...: a QEMU whose guest boots, or with -incoming waits;
# returns when its monitor answers
start_vm() {
    local name=$1 guest

    shift
    if [ "${GUEST-linux}" = boot-sector ]; then
        guest=(-drive "if=none,id=boot,format=raw,readonly=on,file=$BOOT_SECTOR"
               -device "virtio-blk-pci,drive=boot")
    else
        # no_timer_check: a busy host can starve a TCG guest of its first ten
        # ticks, and Linux then gives up ("IO-APIC + timer doesn't work").
        guest=(-kernel "$GUEST_KERNEL" -initrd "$GUEST_INITRAMFS"
               -append "console=ttyS0 quiet no_timer_check ${APPEND-}")
    fi
    rm -f "$T/$name.serial"
    start "$name" "$QEMU" -name "$name" -nodefaults -display none \
        -machine "${MACHINE:-pc}" -accel "${ACCEL:-tcg}" \
        -m "${RAM_MB:-256}" -smp "${SMP:-1}" "${guest[@]}" \
        -chardev "file,id=serial,path=$T/$name.serial" \
        -serial chardev:serial \
        -qmp "unix:$T/$name.qmp,server=on,wait=off" \
        -qmp "unix:$T/$name.qmp2,server=on,wait=off" \
        -monitor "unix:$T/$name.hmp,server=on,wait=off" \
        "$@"
    poll "$start_timeout_s" monitor_or_end "$name"
    alive "$name" || fail "QEMU $name did not start: $(< "$T/$name.err")"
}

monitor_or_end() {
    ! alive "$1" || monitor "$1" query-status > /dev/null 2>&1
}

# qmp NAME COMMAND...: see tests/qmp.  The functions here use the second
# socket, so this one may be kept busy, by wait-event for example.
qmp() {
    local name=$1

    shift
    "$top/tests/qmp" "$T/$name.qmp" "$@"
}

monitor() {
    local name=$1

    shift
    "$top/tests/qmp" "$T/$name.qmp2" "$@"
}

# kill_vm NAME [SIGNAL]
kill_vm() { kill_process "$@"; }

# assert_alive NAME: the process is there and its monitor answers
assert_alive() {
    alive "$1" || fail "$1 is dead"
    monitor "$1" query-status --timeout 5 > /dev/null ||
        fail "the monitor of $1 does not answer"
}

# hang NAME: its main loop, which keeps the big lock, until let_loop_go NAME:
# whoever opens a pipe that nobody reads to write to it waits
hang() {
    mkfifo "$T/$1.pipe"
    (qmp "$1" pmemsave "{\"val\": 0, \"size\": 4096,
        \"filename\": \"$T/$1.pipe\"}" --timeout 60 > /dev/null 2>&1 &)
    poll 10 hangs "$1" || fail "the main loop of $1 does not hang"
}

hangs() { ! monitor "$1" query-status --timeout 1 > /dev/null 2>&1; }

let_loop_go() {
    cat "$T/$1.pipe" > /dev/null
    rm "$T/$1.pipe"
}

# --- What the guest says

# serial_count NAME: the N of the last whole "count N ok"; 0 if there is none
serial_count() {
    local line count=0

    while IFS= read -r line; do
        if [[ $line =~ ^count\ ([0-9]+)\ ok$ ]]; then
            count=${BASH_REMATCH[1]}
        fi
    done < <(tail -c 2000 "$T/$1.serial" 2> /dev/null)
    echo "$count"
}

# serial_first_count NAME: the N of the first one; 0 if there is none
serial_first_count() {
    local line

    while IFS= read -r line; do
        if [[ $line =~ ^count\ ([0-9]+)\ ok$ ]]; then
            echo "${BASH_REMATCH[1]}"
            return
        fi
    done < <(head -c 2000 "$T/$1.serial" 2> /dev/null)
    echo 0
}

count_reached() { [ "$(serial_count "$1")" -ge "$2" ]; }

# wait_count NAME N [TIMEOUT_S]: until the guest has counted to N
wait_count() {
    poll "${3:-60}" count_reached "$1" "$2" ||
        fail "the guest of $1 is at $(serial_count "$1"), not at $2," \
             "after ${3:-60} s"
}

# assert_counting NAME [TICKS]: the guest runs now: it counts on
assert_counting() {
    wait_count "$1" $(($(serial_count "$1") + ${2:-3})) 20
}

# assert_no_bad NAME: the guest never saw a wrong page, and each of its counts
# follows the one before
assert_no_bad() {
    local bad

    bad=$(awk '/BAD|error/ { print; exit }
               /^count [0-9]+ ok$/ {
                   if (seen && $2 != last + 1) {
                       print "count " $2 " after " last
                       exit
                   }
                   seen = 1
                   last = $2
               }' "$T/$1.serial")
    [ -z "$bad" ] || fail "the guest of $1: $bad"
}

# assert_silent NAME: the guest has not said a word, as one that never ran
assert_silent() {
    [ ! -s "$T/$1.serial" ] ||
        fail "the guest of $1 ran: $(head -n 1 "$T/$1.serial")"
}

# --- Curling

# receiver_uri NAME: for -incoming
receiver_uri() {
    case ${TRANSPORT-unix} in
        tcp) echo "curling:tcp:127.0.0.1:0" ;;
        *) echo "curling:unix:$T/$1.curling" ;;
    esac
}

# start_receiver NAME ARGS...: a VM that waits for a sender
start_receiver() {
    local name=$1

    shift
    start_vm "$name" -incoming "$(receiver_uri "$name")" "$@"
}

# receiver_addr NAME: where it listens, as tcp:HOST:PORT or unix:PATH
receiver_addr() {
    local addr

    addr=$(monitor "$1" poll query-curling --until address!=null \
                   --get address)
    echo "${addr#curling:}"
}

# refuses NAME COMMAND ARGUMENTS EXPECTED: a QMP command fails and says so
refuses() {
    local answer

    answer=$(monitor "$1" "$2" "$3" 2>&1) && fail "$2 $3 was not refused"
    [[ $answer == *"$4"* ]] || fail "$2 $3 says: $answer, expected: $4"
}

# wait_state NAME STATE [TIMEOUT_S]: of query-curling
wait_state() {
    monitor "$1" poll query-curling --until "state=$2" \
            --timeout "${3:-30}" --get state > /dev/null ||
        fail "$1 did not become $2"
}

# protect SENDER RECEIVER [ADDR]: until rounds are committed; ADDR is another
# way to the receiver, such as ${proxy_addr[NAME]}
protect() {
    local addr=${3-}

    [ -n "$addr" ] || addr=$(receiver_addr "$2")
    monitor "$1" migrate "{\"uri\": \"curling:$addr\"}" > /dev/null ||
        fail "$1 refuses to migrate to curling:$addr"
    wait_state "$1" protected 60
    wait_state "$2" standby
}

# start_proxy NAME ADDR OPTIONS...: the fault proxy, see proxy --help, in
# front of ADDR; sets ${proxy_addr[NAME]}, logs to $T/NAME.log
start_proxy() {
    local name=$1 addr=$2 listen=unix:$T/$1.sock

    shift 2
    [ "${TRANSPORT-unix}" = unix ] || listen=tcp:127.0.0.1:0
    start "$name" "$PROXY" --listen "$listen" --connect "$addr" \
        --log "$T/$name.log" --control "$T/$name.control" "$@"
    poll 10 proxy_or_end "$name" || fail "proxy $name does not listen"
    alive "$name" || fail "proxy $name did not start: $(< "$T/$name.err")"
    # shellcheck disable=SC2034
    proxy_addr[$name]=$(sed -n 's/^listening //p' "$T/$name.out")
}

proxy_or_end() { ! alive "$1" || grep -qs '^listening ' "$T/$1.out"; }

# proxy NAME LINE: say this to a running proxy, for example now:cut
proxy() { "$PROXY" --control "$T/$1.control" --send "$2"; }

# proxy_fired NAME EVENT: has the proxy logged this event (a fixed string)?
proxy_fired() { grep -qF " EVENT $2" "$T/$1.log"; }

# --- Set up

T=$(mktemp -d "${TMPDIR:-/tmp}/curling.XXXXXX")
if [ ${#T} -gt 80 ]; then       # names of sockets have 107 characters
    rmdir "$T"
    T=$(mktemp -d /tmp/curling.XXXXXX)
fi
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'echo "$test_name: line $LINENO: $BASH_COMMAND" >&2' ERR
