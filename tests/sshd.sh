# Hosts that can be reached over SSH: each is an sshd of the test's own, on
# loopback; to be sourced after functions.sh.
# shellcheck shell=bash
#
# HOME=$T/home is of a user who can log in to all of them: he has a key, their
# keys are in his known_hosts, and each has its name in his config, so that
# HOME=$T/home curlingctl reaches ssh://NAME/...  What runs there has $sshd_path
# as its PATH and the same home.
#
# The environment may set SSHD, another program, and a test, before it starts
# one:
#   SSHD_KEYS (ed25519 ecdsa)   types of the host's keys; known is the first

SSHD=${SSHD:-/usr/sbin/sshd}
# shellcheck disable=SC2154  # of functions.sh
sshd_path=$build/bin:$PATH
sshd_port=                      # of the one that was started last
declare -A sshd_ports=()        # by name

requires test -x "$SSHD"
requires type ssh
requires type ssh-keygen
unset SSH_AUTH_SOCK
mkdir -m 700 "$T/home" "$T/home/.ssh"
ssh-keygen -q -t ed25519 -N '' -C test -f "$T/home/.ssh/id_ed25519"
cp "$T/home/.ssh/id_ed25519.pub" "$T/authorized_keys"
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p /run/sshd
fi

# start_sshd NAME LINES...: lines of its config come before those here.  It
# sets sshd_port, to what it was if NAME ran before.  Skips the test if nobody
# can log in, as to a locked account.
start_sshd() {
    local name=$1 dir=$T/sshd-$1 tries

    mkdir -p "$dir"
    write_sshd_config "$@"
    # No sshd takes port 0, so somebody else may have taken the one chosen.
    for ((tries = 0; tries < 20; tries++)); do
        sshd_port=${sshd_ports[$name]:-$((20000 + RANDOM % 12000))}
        start "$name" "$SSHD" -D -e -f "$dir/config" -p "$sshd_port"
        # shellcheck disable=SC2154  # of functions.sh
        poll "$start_timeout_s" sshd_listens_or_ended "$name" ||
            fail "sshd $name does not listen"
        ! alive "$name" || break
        gone "$name"
        grep -q 'Address already in use' "$T/$name.err" ||
            fail "sshd $name did not start: $(< "$T/$name.err")"
    done
    alive "$name" || fail "no port for sshd $name"
    [ -n "${sshd_ports[$name]-}" ] || introduce_sshd "$name"
    sshd_ports[$name]=$sshd_port
    far "$name" true || skip "sshd lets $(id -un) not in: $(< "$T/$name.err")"
}

write_sshd_config() {
    local name=$1 dir=$T/sshd-$1 type

    shift
    {
        [ $# -eq 0 ] || printf '%s\n' "$@"
        for type in ${SSHD_KEYS:-ed25519 ecdsa}; do
            [ -e "$dir/$type" ] ||
                ssh-keygen -q -t "$type" -N '' -C "$name" -f "$dir/$type" >&2
            echo "HostKey $dir/$type"
        done
        cat <<CONFIG
ListenAddress 127.0.0.1
PidFile none
UsePAM no
StrictModes no
AuthorizedKeysFile $T/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
PrintMotd no
SetEnv "PATH=$sshd_path" "HOME=$T/home"
CONFIG
    } > "$dir/config"
}

sshd_listens_or_ended() {
    ! alive "$1" || grep -qs '^Server listening on' "$T/$1.err"
}

# introduce_sshd NAME: to the user at $T/home
introduce_sshd() {
    local type

    read -r type _ <<< "${SSHD_KEYS:-ed25519 ecdsa}"
    echo "[127.0.0.1]:$sshd_port $(cut -d ' ' -f 1,2 "$T/sshd-$1/$type.pub")" \
        >> "$T/home/.ssh/known_hosts"
    cat >> "$T/home/.ssh/config" <<CONFIG
Host $1
    HostName 127.0.0.1
    Port $sshd_port
    User $(id -un)
CONFIG
}

# far NAME COMMAND...: for a shell there, with OpenSSH's own client
far() {
    local name=$1

    shift
    ssh -F "$T/home/.ssh/config" -i "$T/home/.ssh/id_ed25519" \
        -o BatchMode=yes -o UserKnownHostsFile="$T/home/.ssh/known_hosts" \
        "$name" "$@" < /dev/null
}

# kill_sshd NAME: the host is gone, with all its connections and what runs
# there
kill_sshd() {
    local all

    # shellcheck disable=SC2154  # of functions.sh
    kill -STOP "${pid[$1]}"     # so that it gets no more children
    all=$(descendants "${pid[$1]}")
    kill_process "$1"
    # Some end by themselves when others do.
    # shellcheck disable=SC2086  # one word for each
    [ -z "$all" ] || kill -KILL $all 2> /dev/null || :
}

# descendants PID: all processes below it
descendants() {
    local children=() child

    read -r -a children 2> /dev/null < "/proc/$1/task/$1/children" || :
    for child in ${children+"${children[@]}"}; do
        echo "$child"
        descendants "$child"
    done
}
