#!/bin/bash
# curlingctl with QEMUs on other hosts, which are real sshds on loopback.
# Invariant: every command works as it does on this host; a host whose key is
# not the known one is not talked to; whatever is wrong is told in a sentence
# that says what to do, and nothing hangs.
# timeout: 180
#
# It runs in a network of its own, whose only address that is not loopback's is
# that of both hosts.
if [ -z "${CURLING_OWN_NETWORK-}" ]; then
    unshare --net true 2> /dev/null ||
        { echo "skip: needs 'unshare --net'"; exit 77; }
    CURLING_OWN_NETWORK=1 exec unshare --net "$BASH" "$0"
fi
ip link set lo up
ip address add 192.0.2.9/24 dev lo
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/sshd.sh
source "$top/tests/sshd.sh"
# shellcheck source=tests/ctl.sh
source "$top/tests/ctl.sh"

start_sshd host1
start_sshd host2
# start_far_receiver NAME: where both hosts reach it
start_far_receiver() { start_vm "$1" -incoming curling:tcp:192.0.2.9:0; }

start_far_receiver receiver
start_vm sender
wait_count sender 5
sender_ep=ssh://host1$T/sender.qmp
receiver_ep=ssh://host2$T/receiver.qmp

# logins NAME: how many there were
logins() { grep -c 'Accepted publickey' "$T/$1.err" || true; }

echo "two hosts"
expect 4 '*not protected: *ssh://host1*idle*ssh://host2*listening*' ctl status
expect 1 '*error: rounds to 192.0.2.9 are not encrypted*' ctl doctor
expect 0 '*this pair can be protected' ctl doctor --allow-plaintext
[[ $said != *"clocks"* && $said == *"receiver's host has"* ]] ||
    fail "doctor did not look at the hosts: $said"
expect 0 '*-incoming defer*' ctl doctor --print-receiver
expect 0 '*protected: a round every 50ms*' \
    ctl protect --interval 50ms --allow-plaintext
expect 0 '*: protected*standby*' ctl status
expect 0 '*receiver ssh://host2*is 2s now' ctl set peer-timeout 2s
expect 0 'round * is at the receiver' ctl checkpoint
before=$(logins host1)
expect 0 '*protected round*protected round*' ctl watch --count 5 --every 100ms
[ "$(logins host1)" -eq $((before + 1)) ] ||
    fail "each look needs a connection of its own"

ctl unprotect > /dev/null

echo "a network between them"
kill_vm receiver TERM
start_vm receiver -incoming defer
expect 1 '*error: rounds to 192.0.2.9 are not encrypted*' \
    ctl doctor --address tcp:192.0.2.9:4444
[[ $said == *"the link takes "*" Mbit/s; all of RAM once is "* ]] ||
    fail "doctor did not measure the link: $said"
expect 1 '*to be reached at 127.0.0.1, which is each host*' \
    ctl doctor --address tcp:127.0.0.1:4444
expect 0 '*warning: rounds to*protected: a round*to curling:tcp:192.0.2.9:*' \
    ctl protect --address tcp:192.0.2.9:4444 --allow-plaintext

echo "one host"
receiver_ep=ssh://host1$T/receiver.qmp
before=$(logins host1)
ctl_status 0
[ "$(logins host1)" -eq $((before + 1)) ] ||
    fail "two channels need two connections"
receiver_ep=ssh://host2$T/receiver.qmp

echo "names in an address: user, port, no config"
mv "$HOME/.ssh/config" "$HOME/.ssh/config.not"
receiver_ep=ssh://$(id -un)@127.0.0.1:$sshd_port$T/receiver.qmp
sender_ep=unix:$T/sender.qmp
ctl_status 0
mv "$HOME/.ssh/config.not" "$HOME/.ssh/config"
receiver_ep=ssh://host2$T/receiver.qmp

echo "events"
start events "$CTL" events --sender "$sender_ep" --receiver "$receiver_ep"
heard() { [ "$(grep -c "$1" "$T/events.out")" -ge "$2" ]; }
poll 20 heard CURLINGCTL_CONNECTED 2 || fail "events hears nobody"
monitor sender migrate_cancel > /dev/null
poll 20 heard '"end":"receiver".*"state":"listening"' 1 ||
    poll 20 heard '"state":"listening".*"end":"receiver"' 1 ||
    fail "no event of the receiver: $(< "$T/events.out")"
kill_process events INT

echo "a host key that is not known"
known=$HOME/.ssh/known_hosts
cp "$known" "$T/known"
: > "$known"
expect 1 '*host key of *is not known*ssh *' ctl get on-silence
ssh-keygen -q -t ed25519 -N '' -C other -f "$T/other"
echo "[127.0.0.1]:$sshd_port $(cut -d ' ' -f 1,2 "$T/other.pub")" > "$known"
expect 1 '*host key of *is not the one*ssh-keygen * -R *' ctl get on-silence
cp "$T/known" "$known"

echo "no curlingctl there, no socket there, nobody there"
expect 1 '*host2*nosuchctl*not found*' \
    env CURLINGCTL_REMOTE=nosuchctl "$CTL" get on-silence --sender "$sender_ep" \
    --receiver "$receiver_ep"
receiver_ep=ssh://host2$T/missing.qmp
expect 1 '*missing.qmp: there is no such socket; is QEMU running*' ctl get on-silence
mv "$HOME/.ssh/id_ed25519" "$HOME/.ssh/id_ed25519.not"
receiver_ep=ssh://host2$T/receiver.qmp
expect 1 '*host2*key*' ctl get on-silence
mv "$HOME/.ssh/id_ed25519.not" "$HOME/.ssh/id_ed25519"

echo "keys from the agent"
mv "$HOME/.ssh/id_ed25519" "$HOME/.ssh/elsewhere"
start agent ssh-agent -D -a "$T/agent"
poll 10 test -S "$T/agent" || fail "no agent"
export SSH_AUTH_SOCK=$T/agent
ssh-add -q "$HOME/.ssh/elsewhere" 2> /dev/null
ctl_status 4
unset SSH_AUTH_SOCK
kill_process agent
mv "$HOME/.ssh/elsewhere" "$HOME/.ssh/id_ed25519"

echo "a switch-over, and the way back by failover"
sender_ep=ssh://host1$T/sender.qmp
expect 0 '*protected: *' ctl protect --allow-plaintext
expect 0 'the guest runs at ssh://host2*; the QEMU at ssh://host1*' \
    ctl switchover
kill_vm sender TERM
start_far_receiver sender
expect 0 '*have swapped*protected: *' ctl protect --allow-plaintext
expect 0 'the guest runs at ssh://host1*' ctl failover --yes
ctl_status 5
kill_vm receiver TERM
start_far_receiver receiver
assert_counting sender

echo "the host dies while it is watched; the guest goes on at the receiver"
expect 0 '*protected: *' ctl protect --allow-plaintext
start watch "$CTL" watch --every 200ms --sender "$sender_ep" \
    --receiver "$receiver_ep"
poll 20 grep -q 'protected round' "$T/watch.out" || fail "watch sees nothing"
kill_sshd host1
kill_vm sender
poll 20 grep -q '^[0-9:]* failed over' "$T/watch.out" ||
    fail "watch does not see the takeover: $(< "$T/watch.out")"
kill_process watch INT
[ "${ended[watch]}" -eq 5 ] || fail "watch ends with ${ended[watch]}"
expect 5 '*failed over*host1*receiver *active*' ctl status
assert_counting receiver

echo "a host that accepts and says nothing"
start silent python3 -SEuc '
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
time.sleep(60)
'
poll 10 test -s "$T/silent.out" || fail "nobody listens"
sender_ep=ssh://127.0.0.1:$(< "$T/silent.out")$T/sender.qmp
status=0
said=$("$CTL" --timeout 2s status --sender "$sender_ep" \
       --receiver "$receiver_ep" 2>&1) || status=$?
[ "$status" -eq 5 ] || fail "status exits with $status: $said"
[[ $said == *"took too long"* || $said == *"no connection within"* ]] ||
    fail "it does not say why: $said"
