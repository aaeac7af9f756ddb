# What the tests of curlingctl share; to be sourced after functions.sh.
# shellcheck shell=bash
#
# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

CTL=${CTL:-$build/bin/curlingctl}

# No file of whoever runs the tests counts, nor his colours.
export HOME=$T/home XDG_CONFIG_HOME=$T/home/.config CURLING_PAIRS=$T/pairs.conf
unset NO_COLOR SSH_AUTH_SOCK CURLINGCTL_REMOTE
mkdir -p "$HOME"
: > "$CURLING_PAIRS"

# Where the pair is that a test is about; one may set others.
sender_ep=unix:$T/sender.qmp
receiver_ep=unix:$T/receiver.qmp

# ctl COMMAND ARGS...: about that pair
ctl() {
    local command=$1

    shift
    "$CTL" "$command" --sender "$sender_ep" --receiver "$receiver_ep" "$@"
}

# expect STATUS PATTERN CMD...: the command exits with that, and what it says
# on stdout and stderr, which is left in $said, matches the pattern
expect() {
    local want=$1 pattern=$2 status=0

    shift 2
    said=$("$@" 2>&1 < /dev/null) || status=$?
    [ "$status" -eq "$want" ] ||
        fail "'$*' exits with $status, expected $want: $said"
    # shellcheck disable=SC2053  # it is a pattern
    [[ $said == $pattern ]] || fail "'$*' says: $said, expected: $pattern"
}

# ctl_status STATUS: of the pair
ctl_status() { expect "$1" '*' ctl status; }

# A sender whose guest counts, and a receiver
start_pair() {
    start_receiver receiver
    start_vm sender
    wait_count sender 5
}
