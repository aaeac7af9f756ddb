#!/bin/bash
# Assumption: device state begins with QEMU's magic and version, then come
# sections; nothing is in front of them, and no configuration section between.
#
# The receiver reads these eight octets itself, and has QEMU load the rest.
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64
start_vm machine -S
monitor machine xen-save-devices-state \
    "{\"filename\": \"$T/devices\", \"live\": true}" > /dev/null
begin=$(head -c 9 "$T/devices" | od -An -v -tx1 | tr -d ' \n')
# "QEVM", version 3, a full section
[ "$begin" = 5145564d0000000304 ] || fail "device state begins with $begin"
[ "$(tail -c 1 "$T/devices" | od -An -v -tx1 | tr -d ' ')" = 00 ] ||
    fail "device state does not end with its end mark"
