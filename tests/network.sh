# Networks of a test's own; to be sourced after functions.sh.  Skips the test
# where namespaces cannot be had.
# shellcheck shell=bash

requires ip -V
requires unshare --net ip link add type veth

# A namespace lives as long as the process that holds it.
start_namespace() {
    start "$1" unshare --net sleep infinity
    poll 10 has_namespace "$1" || fail "no network namespace"
    within "$1" ip link set lo up
}

has_namespace() {
    # shellcheck disable=SC2154  # of functions.sh
    [ "$(readlink "/proc/${pid[$1]}/ns/net")" != \
      "$(readlink /proc/self/ns/net)" ]
}

# Two namespaces, here at 192.0.2.1 and there at 192.0.2.2, with a link that is
# curling0 in both
start_two_hosts() {
    start_namespace here
    start_namespace there
    ip link add curling0 netns "${pid[here]}" type veth \
        peer name curling0 netns "${pid[there]}"
    within here ip address add 192.0.2.1/24 dev curling0
    within there ip address add 192.0.2.2/24 dev curling0
    within here ip link set curling0 up
    within there ip link set curling0 up
}

# within NAMESPACE CMD...
within() {
    local namespace=$1

    shift
    nsenter --net="/proc/${pid[$namespace]}/ns/net" -- "$@"
}

# vm_within NAMESPACE NAME ARGS...
vm_within() {
    local namespace=$1 qemu=$QEMU

    shift
    cat > "$T/$1.qemu" <<WRAPPER
#!/bin/sh
exec nsenter --net=/proc/${pid[$namespace]}/ns/net -- "$qemu" "\$@"
WRAPPER
    chmod +x "$T/$1.qemu"
    QEMU=$T/$1.qemu
    start_vm "$@"
    QEMU=$qemu
}
