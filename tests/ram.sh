# Comparing the memory of two machines; to be sourced after functions.sh.
# shellcheck shell=bash
#
# All blocks of RAM are compared, ROMs and the memory of a screen with them,
# as they are in the two processes.  That needs no help from the machine, so
# it can be done while a receiver waits.

# each_block ACTION NAME: "dump" it into a file in $T/NAME.ram, or "spoil" it
each_block() {
    local fd

    # Opened by the shell, whose child it is: not everybody may.
    # shellcheck disable=SC2154  # of functions.sh
    exec {fd}<> "/proc/${pid[$2]}/mem"
    monitor "$2" hmp "info ramblock" > "$T/$2.blocks"
    /usr/bin/python3 -SE - "$1" "$fd" "$T/$2.blocks" "$T/$2.ram" <<'PYTHON'
import os, sys
action, fd, blocks, folder = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
for line in open(blocks):
    # Name, page size and its unit, offset, used, total, address, ro or rw
    field = line.split()
    if field[-1] in ("ro", "rw"):
        used, address = int(field[4], 16), int(field[6], 16)
        name = folder + "/" + field[0].replace("/", "@")
        done = 0
        with open(name if action == "dump" else os.devnull, "wb") as file:
            while used:
                size = min(used, 1 << 22)
                if action == "dump":
                    data = os.pread(fd, size, address)
                    size = len(data)
                    if data.count(0) != size:   # else a hole
                        os.pwrite(file.fileno(), data, done)
                    done += size
                    file.truncate(done)
                else:
                    size = os.pwrite(fd, b"\xa5" * size, address)
                address += size
                used -= size
PYTHON
    exec {fd}<&-
}

# dump_blocks NAME: into one file each in $T/NAME.ram
dump_blocks() {
    mkdir "$T/$1.ram"
    each_block dump "$1"
}

# spoil_blocks NAME: write rubbish into all of them
spoil_blocks() { each_block spoil "$1"; }

# same_blocks SENDER RECEIVER WHEN: the guest stands still, and the receiver
# has its last round
same_blocks() {
    local file name

    [ "$(monitor "$2" query-status --get status)" = inmigrate ] ||
        fail "$2 is not in inmigrate $3"
    dump_blocks "$1"
    dump_blocks "$2"
    for file in "$T/$1.ram"/*; do
        name=${file##*/}
        cmp "$file" "$T/$2.ram/$name" || fail "$name differs $3"
    done
    [ "$(find "$T/$2.ram" -size +1M | wc -l)" -ge 1 ] ||
        fail "$2 has no RAM: $(< "$T/$2.blocks")"
    rm -r "$T/$1.ram" "$T/$2.ram"
}

# wait_applied RECEIVER ROUND
wait_applied() {
    monitor "$1" poll query-curling --until "last-round.number>=$2" \
            > /dev/null || fail "round $2 was never applied"
}

# same_ram SENDER RECEIVER WHEN: stop the guest, force a round, compare; the
# guest stays stopped
same_ram() {
    local round

    monitor "$1" stop > /dev/null
    round=$(monitor "$1" curling-checkpoint --get round)
    wait_applied "$2" "$round"
    same_blocks "$@"
}
