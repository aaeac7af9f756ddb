#!/bin/bash
# Assumption: bdrv_drain_all() in a pause ends all that disks are reading into
# RAM, so that RAM is captured as the device says it is.
#
# A guest reads a disk that is slow, and looks at what came.  Where the vCPUs
# stop while a read is under way, it has ended when the capture begins, and
# none ends before the guest goes on.  A takeover in the middle of it all
# starts a guest that has what it read, and reads on.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/disk.sh"

rounds=150

make_disk "$T/disk"
# A read takes some 5 ms, a round comes every 20.
# shellcheck disable=SC2034  # of start_vm
GUEST=boot-sector RAM_MB=64 BOOT_SECTOR="$T/disk,iops=200"
start_receiver receiver
start_vm sender -D "$T/trace" -trace runstate_set -trace "curling_*" \
    -trace virtio_blk_handle_read -trace virtio_blk_rw_complete
wait_count sender 2
monitor sender curling-set '{"interval-ms": 20}' > /dev/null
protect sender receiver
monitor sender poll query-curling --timeout 60 \
    --until "rounds-committed>=$rounds" > /dev/null || fail "no $rounds rounds"

read -r pauses reading unfinished late <<< "$(awk '
    /^virtio_blk_handle_read /  { reads++; if (captures) late++ }
    /^virtio_blk_rw_complete /  { reads--; if (captures) late++ }
    /^runstate_set .*\(finish-migrate\)$/ { if (reads) reading++ }
    /^curling_paused /   { pauses++; captures = 1; if (reads) unfinished++ }
    /^curling_captured / { captures = 0 }
    END { print pauses + 0, reading + 0, unfinished + 0, late + 0 }' \
    "$T/trace")"
echo "$pauses pauses, $reading of them while a disk was read;" \
     "$unfinished began to capture before it was done; $late changes meanwhile"
[ "$reading" -ge $((rounds / 10)) ] || fail "too few pauses met a read"
[ "$unfinished" = 0 ] || fail "RAM was captured while a disk was read into it"
[ "$late" = 0 ] || fail "a disk was read while RAM was captured"

kill_vm sender
wait_state receiver active
assert_counting receiver 5
assert_no_bad sender
assert_no_bad receiver
