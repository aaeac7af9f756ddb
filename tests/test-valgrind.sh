#!/bin/bash
# Fault: memory is used that was freed, never written or never ours.
# Invariant: valgrind has nothing to say of the library's unit tests, nor of
# both QEMUs in a session with a first round, delta and full rounds, a
# lazy load and eager ones, a cancel, a sender that is killed, and a takeover.
# There are no suppressions: it has nothing to say of QEMU's own code either.
# Without LONG=1 only the unit tests that take seconds: a QEMU is 30 times
# slower in it.
# timeout: 300
# long-timeout: 1200
# run: alone
source "$(dirname "$0")/functions.sh"

requires valgrind --version
requires test -x "$QEMU"

# check LOG: what valgrind saw up to here; a process may have been killed
check() {
    local found

    found=$(grep -A 12 -m 1 -E \
        '^==[0-9]+== (Invalid|Conditional|Use of uninit|Syscall|Mismatched|Process terminating|[0-9,]+ bytes in .* lost)' \
        "$1") && fail "valgrind in $1: $found"
    grep -q '^==[0-9]*== Command:' "$1" || fail "valgrind did not run for $1"
}

sample=(channel describe ends frame ram round stats)
programs=("${sample[@]/#/$build/tests/test-}")
[ -z "${LONG-}" ] || programs=("$build"/tests/test-*)
for program in "${programs[@]}"; do
    [ -x "$program" ] || continue
    echo "${program##*/}"
    log=$T/${program##*/}.valgrind
    valgrind --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite --log-file="$log" "$program" \
        > "$T/unit.out" 2>&1 || fail "${program##*/} fails in valgrind: $?"
    check "$log"
done

[ -n "${LONG-}" ] || exit 0

# --- A session

real_qemu=$QEMU
export real_qemu T
QEMU=$T/qemu
cat > "$QEMU" <<'SCRIPT'
#!/bin/sh
exec valgrind --error-limit=no --num-callers=25 \
    --log-file="$T/$2.valgrind" "$real_qemu" "$@"
SCRIPT
chmod +x "$QEMU"

# shellcheck disable=SC2034  # of functions.sh
GUEST=boot-sector RAM_MB=32 end_timeout_s=60 start_timeout_s=120

# rounds N: more of them
rounds() {
    local before

    before=$(monitor sender query-curling --get rounds-committed)
    monitor sender poll query-curling --timeout 120 \
            --until "rounds-committed>=$((before + $1))" > /dev/null ||
        fail "no $1 more rounds"
}

start_receiver receiver
start_vm sender
wait_count sender 2 300
# Slow as they are, they are not to be taken for dead.
for name in sender receiver; do
    monitor "$name" curling-set '{"peer-timeout-ms": 20000}' > /dev/null
done
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
for times in once again; do
    echo "a session, $times"
    protect sender receiver
    rounds 15
    monitor sender curling-set '{"rounds": "full"}' > /dev/null
    rounds 5
    monitor receiver curling-set '{"apply": "eager"}' > /dev/null
    monitor sender curling-set '{"rounds": "delta"}' > /dev/null
    rounds 5
    if [ "$times" = once ]; then
        monitor sender migrate_cancel > /dev/null
        wait_state sender stopped
        wait_state receiver listening
    fi
done
assert_counting sender 5
kill_vm sender
wait_state receiver active
assert_counting receiver 5
assert_no_bad receiver
kill_vm receiver TERM
check "$T/sender.valgrind"
check "$T/receiver.valgrind"
