#!/bin/bash
# Fault: a peer that connects and never finishes the TLS handshake: it says
# nothing, the beginning of a hello, one byte after the other of it, or nothing
# after a handshake that went well, or resets the connection then; and a
# receiver that accepts and is silent.
# Invariant: the receiver drops them in its time and serves others meanwhile; a
# sender gives up in its time, at once when it is cancelled, and its guest goes
# on.
TRANSPORT=tcp
RAM_MB=128
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/tls.sh
source "$top/tests/tls.sh"

handshake_ms=5000               # CURLING_HANDSHAKE_MS and CURLING_TLS_MS

# start_silent NAME ADDR HOW: connect, be silent, print how many ms it took
# until the other end closed the connection
start_silent() {
    start "$1" python3 -c '
import socket, ssl, sys, time
host, port, how, folder = sys.argv[1:]
began = time.monotonic()
peer = socket.create_connection((host, int(port)))
if how in ("after", "reset"):
    context = ssl.create_default_context(cafile=folder + "/ca-cert.pem")
    context.load_cert_chain(folder + "/client-cert.pem",
                            folder + "/client-key.pem")
    peer = context.wrap_socket(peer, server_hostname="localhost")
# A record of a handshake with a hello of 4 KiB, of which there is never all
hello = b"\x16\x03\x01\x10\x04\x01\x00\x10\x00\x03\x03" + bytes(4000)
if how == "begun":
    peer.sendall(hello[:20])
print("connected", flush=True)
if how == "reset":
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    b"\x01\0\0\0\0\0\0\0")
    peer.close()
    print("closed 0")
    sys.exit()
peer.settimeout(0.02)
at = 0
while True:
    try:
        if how == "slow":
            peer.sendall(hello[at:at + 1])
            at += 1
        if peer.recv(1000) == b"":
            break
    except socket.timeout:
        pass
    except OSError:
        break
print("closed", int(1000 * (time.monotonic() - began)))
' "${2%:*}" "${2##*:}" "$3" "$T/tls/sender"
    poll 10 has_line "$1" connected || fail "$1 cannot connect"
}

says() { [[ $(monitor "$1" query-curling --get last-error) == *$2* ]]; }

has_line() { grep -qs "^$2" "$T/$1.out"; }

connected_ms() { sed -n 's/^closed //p' "$T/$1.out"; }

# start_mute: accepts, and says nothing; sets $mute to where it listens
start_mute() {
    start mute python3 -c '
import socket
listener = socket.create_server(("127.0.0.1", 0))
print("listening %d" % listener.getsockname()[1], flush=True)
while True:
    peer = listener.accept()[0]
    print("accepted", flush=True)
    while peer.recv(1000):
        pass
    print("closed", flush=True)
'
    poll 10 has_line mute listening || fail "mute does not listen"
    mute=tcp:127.0.0.1:$(sed -n 's/^listening //p' "$T/mute.out")
}

mute_count() { grep -c "^$1" "$T/mute.out" || true; }
mute_reached() { [ "$(mute_count "$1")" -ge "$2" ]; }

make_ca ca
make_cert receiver server ca ca
make_cert sender client ca ca
start_receiver receiver -object "$(x509 receiver server)" \
    -global migration.tls-creds=receiver
addr=$(receiver_addr receiver)
start_vm sender -object "$(x509 sender client)" \
    -global migration.tls-creds=sender
wait_count sender 3

# --- A receiver that is silent

start_mute
began_ms=$(now_ms)
monitor sender migrate "{\"uri\": \"curling:$mute\"}" > /dev/null
counted=$(serial_count sender)
wait_state sender failed
took_ms=$(($(now_ms) - began_ms))
[[ $(monitor sender query-curling --get last-error) == \
   "no TLS handshake within $handshake_ms ms"* ]] ||
    fail "the sender says $(monitor sender query-curling --get last-error)"
if [ "$took_ms" -lt $((handshake_ms - 100)) ] ||
   [ "$took_ms" -gt $((handshake_ms + 2000)) ]; then
    fail "the sender gave up after $took_ms ms"
fi
[ "$(serial_count sender)" -gt "$counted" ] || fail "the guest waited"
poll 10 mute_reached closed 1 || fail "the sender keeps the connection open"

monitor sender migrate "{\"uri\": \"curling:$mute\"}" > /dev/null
poll 10 mute_reached accepted 2 || fail "the sender does not connect"
began_ms=$(now_ms)
monitor sender migrate_cancel > /dev/null
wait_state sender stopped
cancel_ms=$(($(now_ms) - began_ms))
[ "$cancel_ms" -lt 3000 ] || fail "a cancel took $cancel_ms ms"
echo "a silent receiver: given up after $took_ms ms, cancelled in $cancel_ms ms"

# --- Senders that are silent

began_ms=$(now_ms)
for how in silent begun slow after; do
    start_silent "$how" "${addr#tcp:}" "$how"
done
protect sender receiver
took_ms=$(($(now_ms) - began_ms))
for how in silent begun slow after; do
    # On a busy host all of them may have had their time by now.
    alive "$how" || [ "$took_ms" -ge $((handshake_ms - 500)) ] ||
        fail "$how is gone before another one was served"
done
assert_counting sender
for how in silent begun slow after; do
    poll 10 has_line "$how" closed || fail "$how is never dropped"
    wait_exit "$how"
    echo "$how: dropped after $(connected_ms "$how") ms"
    if [ "$(connected_ms "$how")" -lt $((handshake_ms - 100)) ] ||
       [ "$(connected_ms "$how")" -gt $((handshake_ms + 2000)) ]; then
        fail "$how was dropped after $(connected_ms "$how") ms"
    fi
done
[[ $(monitor receiver query-curling --get last-error) == \
   *"got no HELLO within $handshake_ms ms"* ]] ||
    fail "the receiver says $(monitor receiver query-curling --get last-error)"
wait_state sender protected
wait_state receiver standby

start_silent reset "${addr#tcp:}" reset
wait_exit reset
poll 10 says receiver "right after the TLS handshake" ||
    fail "the receiver says $(monitor receiver query-curling --get last-error)"
assert_alive receiver

# --- More of them than the receiver gives room to

for ((i = 0; i < 20; i++)); do
    start_silent "many$i" "${addr#tcp:}" begun
done
wait_state sender protected
monitor sender migrate_cancel > /dev/null
wait_state receiver listening
protect sender receiver
assert_counting sender
kill_vm sender
wait_state receiver active
assert_counting receiver
assert_no_bad receiver
for ((i = 0; i < 20; i++)); do
    poll 10 has_line "many$i" closed || fail "many$i is never dropped"
    wait_exit "many$i"
done
