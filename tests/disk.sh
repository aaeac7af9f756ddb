# A disk for the guest disk-reader; to be sourced after functions.sh.
# shellcheck shell=bash

# make_disk FILE [writes]: which the guest reads, or writes and then reads
make_disk() {
    # shellcheck disable=SC2154  # of functions.sh
    python3 -SE - "$build/guest/disk-reader" "$@" <<'PYTHON'
import struct, sys
disk = bytearray(2048 * 512)
first = open(sys.argv[1], "rb").read()
disk[:len(first)] = first
disk[508] = "writes" in sys.argv[3:]
for number in range(8, 2048):
    struct.pack_into("<I504xI", disk, number * 512, number,
                     number ^ 0xffffffff)
open(sys.argv[2], "wb").write(disk)
PYTHON
}
