#!/bin/bash
# Fault: the sender crashes and its core, with all of the guest's RAM, is
# written, which takes its time; the kernel keeps its sockets open meanwhile.
# Invariant: the takeover does not wait for the core.
# timeout: 180
source "$(dirname "$0")/functions.sh"

[[ $(< /proc/sys/kernel/core_pattern) != [/\|]* ]] ||
    skip "cores do not go to the current folder (kernel.core_pattern)"
# shellcheck disable=SC2034  # of start_vm
RAM_MB=2048 APPEND="curling.mb=700 curling.verify=30000"
cd "$T"
ulimit -c unlimited || skip "cores may not be written"
for signal in SEGV ABRT; do
    start_vm sender
    start_receiver receiver
    protect sender receiver
    assert_counting sender
    kill -"$signal" "${pid[sender]}"
    wait_state receiver active
    # A process that is gone has written its core.
    alive sender ||
        fail "$signal: the receiver took over when the core was written"
    assert_counting receiver
    assert_no_bad receiver
    wait_exit sender $((128 + $(kill -l "$signal")))
    kill_vm receiver
    compgen -G 'core*' > /dev/null || fail "no core was written"
    rm -f core*
done
