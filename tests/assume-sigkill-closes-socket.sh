#!/bin/bash
# Assumption: when a process with much memory is killed, the peer of its socket
# is told so by the kernel, be it an end or a reset, soon, and after all that
# the process had written; and no helper that it started keeps the socket open.
#
# This is how a receiver knows that its sender is dead.  One exception is
# assumed as well: a TCP connection whose dead end had octets it never read is
# reset, and what was on its way may be lost; what comes is then the beginning
# of what was written, and the end is seen all the same.
# timeout: 120
source "$(dirname "$0")/functions.sh"

end_ms=2000             # 512 MiB are freed before sockets are closed

cat > "$T/killed.py" <<'PYTHON'
import os, select, signal, socket, sys, time

END_MS = int(sys.argv[1])
MEMORY = 512 << 20
WRITTEN = bytes(range(256)) * 256       # fits into the buffers of a socket

def pair(family):
    if family == "unix":
        return socket.socketpair()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    here = socket.create_connection(listener.getsockname())
    return here, listener.accept()[0]

def child(mine, ready):
    memory = bytearray(MEMORY)
    for page in range(0, MEMORY, 4096):
        memory[page] = 1
    mine.sendall(WRITTEN)
    os.write(ready, b"!")
    while True:
        signal.pause()

def read_all(ours):
    """What there is to read, and how it ended."""
    data = b""
    while True:
        try:
            part = ours.recv(65536)
        except ConnectionResetError:
            return data, "reset"
        if not part:
            return data, "end"
        data += part

def kill_one(family, unread):
    ours, his = pair(family)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        child(his, told)
    his.close()
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    if unread:
        ours.sendall(b"nobody reads this")
    hung_up = select.poll()
    hung_up.register(ours, select.POLLRDHUP)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    told = hung_up.poll(END_MS)
    took_ms = (time.monotonic() - began) * 1000
    os.waitpid(pid, 0)
    what = "%s, %s" % (family, "unread" if unread else "all read")
    if not told:
        sys.exit("%s: nothing within %d ms" % (what, END_MS))
    ours.settimeout(10)
    data, how = read_all(ours)
    ours.close()
    print("%s: %s after %.1f ms, %d of %d octets" %
          (what, how, took_ms, len(data), len(WRITTEN)))
    if not WRITTEN.startswith(data):
        sys.exit("%s: other octets than were written" % what)
    if len(data) < len(WRITTEN) and not (family == "tcp" and unread):
        sys.exit("%s: octets are missing" % what)

for i in range(3):
    for family in "unix", "tcp":
        for unread in False, True:
            kill_one(family, unread)
PYTHON
python3 -SE "$T/killed.py" "$end_ms" || fail "not as assumed"

# check_inherited NAME: its sockets are close-on-exec
check_inherited() {
    local fd flags

    for fd in "/proc/${pid[$1]}/fd"/*; do
        [[ $(readlink "$fd") == socket:* ]] || continue
        flags=$(sed -n 's/^flags:[[:space:]]*//p' \
                    "/proc/${pid[$1]}/fdinfo/${fd##*/}")
        [ $((flags & 02000000)) -ne 0 ] ||
            fail "descriptor ${fd##*/} of $1 would be inherited"
    done
}

# shellcheck disable=SC2034  # of receiver_uri
TRANSPORT=tcp RAM_MB=128
start_receiver receiver
start_vm sender
wait_count sender 1
protect sender receiver
check_inherited sender
check_inherited receiver
