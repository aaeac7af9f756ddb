#!/bin/bash
# Fault: the guest's clock stands still in each pause, and is KVM's (kvmclock).
# Invariant: where the guest's clock would be at TSC 0 does not change while
# rounds pause the guest: it loses nothing.  What stop and cont take from it
# is taken, so the figure can show a loss.
source "$(dirname "$0")/functions.sh"

{ : <> /dev/kvm; } 2> /dev/null || skip "/dev/kvm cannot be opened"

# The boot sector has KVM keep a struct pvclock_vcpu_time_info at 0x8000:
# version, tsc_timestamp, system_time, multiplier and shift from TSC to ns.
# clock_zero NAME: set $zero_ns
clock_zero() {
    monitor "$1" pmemsave \
        "{\"val\": 32768, \"size\": 32, \"filename\": \"$T/pvclock\"}" > /dev/null
    zero_ns=$(python3 -SE - "$T/pvclock" <<'PYTHON'
import struct, sys
version, tsc, time_ns, multiplier, shift = struct.unpack(
    "<I4xQQIbx2x", open(sys.argv[1], "rb").read())
if version == 0 or version % 2:
    sys.exit("KVM keeps no clock there")
tsc = tsc << shift if shift >= 0 else tsc >> -shift
print(time_ns - (tsc * multiplier >> 32))
PYTHON
    )
}

has_rounds() {
    [ "$(monitor sender query-curling --get rounds-committed)" -ge "$1" ]
}

# shellcheck disable=SC2034  # of start_vm
ACCEL=kvm GUEST=boot-sector RAM_MB=64
start_receiver receiver
start_vm sender
wait_count sender 3
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
clock_zero sender
before_ns=$zero_ns
began_ms=$(now_ms)
protect sender receiver
poll 30 has_rounds 100 || fail "no 100 rounds"
clock_zero sender
lost_ns=$((before_ns - zero_ns)) elapsed_ms=$(($(now_ms) - began_ms))
echo "lost $lost_ns ns in 100 rounds; pauses:" \
     "$(monitor sender query-curling --get pause-us) us"
[ "${lost_ns#-}" -le $((elapsed_ms * 100)) ] ||         # 100 ppm
    fail "the guest's clock lost $lost_ns ns in $elapsed_ms ms"

before_ns=$zero_ns
monitor sender stop > /dev/null
sleep 0.5
monitor sender cont > /dev/null
clock_zero sender
lost_ns=$((before_ns - zero_ns))
[ "$lost_ns" -ge 500000000 ] ||
    fail "half a second of 'stop' took only $lost_ns ns from the clock"

kill_vm sender
wait_state receiver active
assert_counting receiver 10
assert_no_bad receiver
