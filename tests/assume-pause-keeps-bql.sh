#!/bin/bash
# Assumption: from the moment the guest stands still until its state is
# captured, nobody lets go of the big lock: neither the sync of the dirty log
# nor the saving of devices, which under KVM would if the vCPUs' registers were
# not fetched before.  In a pass, while the guest runs, the sync does let go of
# it under TCG: so it belongs there and not into the pause.
source "$(dirname "$0")/functions.sh"

rounds=60

# Lines of the log: "qemu_mutex_unlock released mutex ADDRESS (FILE:LINE)"
# pauses LOG: set $pauses, $let_go (times within them), $in_passes
pauses() {
    read -r pauses let_go in_passes <<< "$(awk '
        /^qemu_mutex_unlock .*system\/cpus\.c:/ && !bql { bql = $4 }
        /^curling_round_begin / { in_pass = 1 }
        /^curling_paused /   { in_pause = 1; in_pass = 0 }
        /^curling_captured / { in_pause = 0; pauses++ }
        /^qemu_mutex_unlock / && $4 == bql {
            if (in_pause) {
                let_go++
                print > "/dev/stderr"
            } else if (in_pass && /cpu-common\.c:/) {
                in_passes++
            }
        }
        END { print pauses + 0, let_go + 0, in_passes + 0 }' "$1")"
}

# try_accel ACCEL GUEST
try_accel() {
    # shellcheck disable=SC2034  # of start_vm
    ACCEL=$1 GUEST=$2 SMP=2 RAM_MB=128
    start_receiver "receiver-$1"
    start_vm "sender-$1" -D "$T/$1.trace" -trace qemu_mutex_unlock \
        -trace "curling_*"
    wait_count "sender-$1" 3
    monitor "sender-$1" curling-set '{"interval-ms": 20}' > /dev/null
    protect "sender-$1" "receiver-$1"
    monitor "sender-$1" poll query-curling --timeout 60 \
        --until "rounds-committed>=$rounds" > /dev/null ||
        fail "no $rounds rounds under $1"
    kill_vm "sender-$1"
    kill_vm "receiver-$1"
    pauses "$T/$1.trace"
    echo "$1: $pauses pauses, the lock let go $let_go times in them and" \
         "$in_passes times in passes"
    [ "$pauses" -ge "$rounds" ] || fail "$1: only $pauses pauses are traced"
    [ "$let_go" = 0 ] || fail "$1: the big lock was let go in a pause"
}

try_accel tcg linux
[ "$in_passes" -gt 0 ] || fail "no pass is traced as one that lets go"
{ : <> /dev/kvm; } 2> /dev/null || skip "/dev/kvm cannot be opened"
try_accel kvm boot-sector
