#!/bin/bash
# Fault: none, then a sender that is killed, one that is not heard and comes
# back, one that hangs and is stopped: all of it under the agent for Pacemaker,
# with two instances as two nodes would have them, and what Pacemaker would do.
# Invariant: the guest is booted once; a move that is planned loses nothing of
# it, and a takeover goes back by a round or so; never do two run.  An instance
# is protected again without a word.  No guest is booted while the other node
# has it or a round of it, whether or not the cluster knows.  stop ends a
# process or does not say so.  ocf-tester has no complaints, where it is
# installed.
# timeout: 240
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"

agent=$top/scripts/ocf/curling

# --- Two nodes

# Both guests would write to the same file, so two show.
serial=file,id=serial,append=on,path=$T/guest.serial
# shellcheck disable=SC2054  # these commas are QEMU's
qemu=("$QEMU" -nodefaults -display none -machine pc -accel tcg -m 128
      -drive "if=none,id=boot,format=raw,readonly=on,file=$BOOT_SECTOR"
      -device virtio-blk-pci,drive=boot
      -chardev "$serial" -serial chardev:serial)
make_psk key
tls=(-object "$(psk in server key)" -object "$(psk out client key)"
     -global migration.tls-creds=in)
peers="a=curling:unix:$T/a.curling b=curling:unix:$T/b.curling"

# What the agent asks a cluster; scores are kept in $T/score, by node.
mkdir -p "$T/bin" "$T/score" "$T/a" "$T/b"
cat > "$T/bin/crm_attribute" <<STUB
#!/bin/bash
case \$2 in
-v) echo "\$3" > "$T/score/\$NODE" ;;
-D) rm -f "$T/score/\$NODE" ;;
esac
STUB
cat > "$T/bin/attrd_updater" <<STUB
#!/bin/bash
if [ "\${CLUSTER-}" = none ]; then
    echo "Could not connect to the cluster" >&2
    exit 102
fi
cd "$T/score" || exit
[ "\$1" = -Q ] || exit 0
for node in *; do
    [ -e "\$node" ] || {
        echo "Could not query value of \$4: attribute does not exist" >&2
        exit 105
    }
    echo "name=\"\$4\" host=\"\$node\" value=\"\$(< "\$node")\""
done
STUB
chmod +x "$T/bin/"*

# on NODE ACTION [NAME=VALUE]...: what the agent says there goes to $T/said
on() {
    env NODE="$1" PATH="$T/bin:$PATH" HA_RSCTMP="$T/$1" \
        OCF_RESOURCE_INSTANCE=vm:0 OCF_RESKEY_CRM_meta_on_node="$1" \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_interval=5000 \
        OCF_RESKEY_command="${qemu[*]} ${tls[*]}" OCF_RESKEY_tls_creds=out \
        OCF_RESKEY_listen="curling:unix:$T/$1.curling" \
        OCF_RESKEY_peer="$peers" \
        OCF_RESKEY_settings='{"interval-ms": 20, "reconnect-ms": 50}' \
        "${@:3}" "$agent" "$2" > "$T/said" 2>&1
}

# expect STATUS NODE ACTION [NAME=VALUE]...
expect() {
    local status=0

    on "${@:2}" || status=$?
    echo "--- ${*:2}: $status"
    cat "$T/said"
    [ "$status" -eq "$1" ] || fail "${*:2}: $status, expected $1"
}

said() { grep -qF -e "$1" "$T/said" || fail "it did not say '$1'"; }

# score NODE SCORE: has it this score (0: none)?
score() {
    local score=0

    [ ! -e "$T/score/$1" ] || score=$(< "$T/score/$1")
    [ "$score" = "$2" ] || fail "$1 has the score $score, expected $2"
}

qmp_of() { "$top/tests/qmp" "$T/$1/curling-vm.qmp" "${@:2}"; }

# state NODE STATE: wait for it
state() {
    qmp_of "$1" poll query-curling --until "state=$2" --timeout 20 \
           > /dev/null || fail "$1 did not become $2"
}

# QEMUs are no children of this shell: the agent's, and then nobody's.
process_of() { cat "$T/$1/curling-vm.pid"; }

signal() { kill -"$2" "$(process_of "$1")"; }

end_qemus() {
    local file number

    for file in "$T"/*/curling-*.pid; do
        read -r number 2> /dev/null < "$file" || continue
        ! grep -qszxF -e "$file" "/proc/$number/cmdline" ||
            kill -KILL "$number"
    done
}
cleanup_fn end_qemus
# ... and however this shell ends.
(
    trap '' INT TERM
    exec > /dev/null 2>&1
    tail --pid=$$ -s 0.5 -f /dev/null
    end_qemus
) &
guardian=$!
disown
cleanup_fn kill -KILL "$guardian"

# one_guest: nothing but one guest, whole, from the line $lines on: each count
# follows the one before
lines=0
one_guest() {
    count=$(serial_count guest)
    wait_count guest $((count + 5)) 20
    tail -n +$((lines + 1)) "$T/guest.serial" > "$T/part.serial"
    assert_no_bad part
}

# from_here: what comes now does not follow what came before
from_here() { lines=$(($(wc -l < "$T/guest.serial") + 1)); }

# set_back COUNT: a takeover from a round, after the guest had come to COUNT
set_back() {
    from_here
    wait_count guest $(($1 + 10)) 20
    one_guest
}

# --- What needs no QEMU

"$agent" meta-data | python3 -c '
import sys, xml.dom.minidom as dom
agent = dom.parse(sys.stdin).documentElement
found = {a.getAttribute("name") for a in agent.getElementsByTagName("action")}
missing = {"start", "stop", "monitor", "promote", "demote"} - found
assert not missing, missing'
expect 0 a validate-all
expect 6 a validate-all OCF_RESKEY_command=
expect 6 a validate-all OCF_RESKEY_command="$QEMU 'x"
expect 6 a validate-all OCF_RESKEY_command="$QEMU -incoming defer"
said -incoming
expect 5 a validate-all OCF_RESKEY_command=/nonexistent
expect 6 a validate-all OCF_RESKEY_listen=tcp:0:1
expect 6 a validate-all OCF_RESKEY_peer="c=curling:tcp:c:1 b=curling:tcp:b:1"
expect 6 a validate-all OCF_RESKEY_settings='interval-ms=5'
expect 6 a validate-all OCF_RESKEY_settings='{"fence-after-ms": 3000}'
expect 3 a migrate_to
expect 7 a monitor OCF_RESKEY_CRM_meta_interval=0
expect 0 a stop
expect 1 a start OCF_RESKEY_command="$QEMU -no-such-option"
said no-such-option
expect 6 a start OCF_RESKEY_settings='{"no-such-setting": 1}'
expect 7 a monitor

# --- A guest, twice

expect 0 a start
expect 0 b start
expect 0 a start
expect 0 a monitor
score a 5
[ "$(qmp_of a query-curling --get on-silence,interval-ms)" = $'wait\t20' ] ||
    fail "the receiver has other settings"

expect 0 a promote
state b standby
expect 8 a monitor
expect 8 a monitor OCF_RESKEY_CRM_meta_interval=0
expect 0 b monitor
score a 1000
score b 100
expect 0 a promote
expect 0 a notify
one_guest
echo "=== a planned move, and back"
for pair in "a b" "b a"; do
    read -r from to <<< "$pair"
    expect 0 "$from" demote
    expect 0 "$from" monitor
    expect 0 "$to" promote
    expect 8 "$to" monitor
    state "$to" protected
    state "$from" standby
done
[ "$(qmp_of a query-curling --get tls)" = true ] || fail "a does not use TLS"
one_guest

echo "=== a's process is killed; b's takeover is news to the cluster"
expect 0 b monitor
count=$(serial_count guest)
signal a KILL
state b active
set_back "$count"
expect 7 a monitor
score a 0
expect 0 b monitor
score b 2000
expect 8 b monitor OCF_RESKEY_CRM_meta_interval=0
expect 0 b monitor

echo "=== nothing is booted beside it"
expect 0 a start
expect 1 a promote
said "node b has the guest"
echo 5 > "$T/score/b"           # an old one
expect 1 a promote
said "does not take the guest"
expect 1 a promote CLUSTER=none OCF_RESKEY_peer=curling:tcp:127.0.0.1:nobody
said "cannot ask"
expect 0 a monitor
one_guest

expect 0 b promote
expect 8 b monitor
state a standby

echo "=== b is not heard; fenced, it comes back"
expect 0 a monitor
score a 100
count=$(serial_count guest)
signal b STOP
state a suspect
expect 0 a monitor
score a 90
expect 9 b monitor OCF_RESKEY_CRM_meta_timeout=3000
score b 0
expect 0 a promote
score a 1000
set_back "$count"
signal b CONT
state b fenced
from_here                       # b may have counted until it was
expect 9 b monitor
expect 0 b demote
expect 0 b monitor
expect 0 a notify               # somebody was started
state b standby
one_guest

echo "=== b is promoted while a lives and is heard"
# It depends on whether the sender can be asked to hand over.
if on b promote OCF_RESKEY_CRM_meta_timeout=4000; then
    expect 0 a demote
    expect 8 b monitor
    state a standby
    runs=b waits=a
    from_here
else
    cat "$T/said"
    runs=a waits=b
fi
one_guest

echo "=== a promoted instance hangs, and is stopped"
signal "$runs" STOP
expect 0 "$runs" stop OCF_RESKEY_CRM_meta_timeout=6000
expect 7 "$runs" monitor
count=$(serial_count guest)
expect 0 "$waits" promote
set_back "$count"
expect 0 "$runs" start

echo "=== stop hands over, too"
expect 8 "$waits" monitor
state "$runs" standby
from_here
expect 0 "$waits" stop
expect 0 "$runs" promote
one_guest
expect 0 "$runs" stop
expect 7 "$runs" monitor
# shellcheck disable=SC2062  # the pattern comes from stdin, these are files
! grep -lszxF -f - /proc/[0-9]*/cmdline <<< "$serial" || fail "a QEMU is left"
tail -n 1 "$T/guest.serial"

echo "=== ocf-tester"
if ! command -v ocf-tester > /dev/null; then
    echo "not installed (Debian: resource-agents): this part was left out"
    exit 0
fi
# Nobody has the guest by the scores, and the peer cannot be asked: so it is
# booted.  ocf-tester looks whether the user nobody may run the agent, who has
# no way into $T.
ocf=$(mktemp -d /tmp/curling-ocf.XXXXXX)
cleanup_fn rm -rf "$ocf"
chmod 755 "$ocf"
cp "$agent" "$ocf/curling"
status=0
env NODE=a PATH="$T/bin:$PATH" HA_RSCTMP="$T/a" \
    ocf-tester -n vm -o "command=${qemu[*]}" -o "listen=curling:unix:$T/c" \
    -o peer=curling:tcp:127.0.0.1:nobody -o 'settings={"interval-ms":20}' \
    "$ocf/curling" > "$T/tester.out" 2>&1 || status=$?
cat "$T/tester.out"
[ "$status" -eq 0 ] || fail "ocf-tester ended with $status"
grep -q "passed all tests" "$T/tester.out" || fail "ocf-tester did not pass"
