# Comparing the memory of two machines; to be sourced after functions.sh.
# shellcheck shell=bash
#
# All blocks of RAM are compared, ROMs and the memory of a screen with them,
# as they are in the two processes.  That needs no help from the machine, so
# it can be done while a receiver waits.

# dump_blocks NAME: into one file each in $T/NAME.ram
dump_blocks() {
    local fd

    # Opened by the shell, whose child it is: not everybody may.
    # shellcheck disable=SC2154  # of functions.sh
    exec {fd}< "/proc/${pid[$1]}/mem"
    monitor "$1" hmp "info ramblock" > "$T/$1.blocks"
    mkdir "$T/$1.ram"
    python3 -SE - "$fd" "$T/$1.blocks" "$T/$1.ram" <<'PYTHON'
import os, sys
fd, blocks, folder = int(sys.argv[1]), *sys.argv[2:]
for line in open(blocks):
    # Name, page size and its unit, offset, used, total, address, ro or rw
    field = line.split()
    if field[-1] in ("ro", "rw"):
        used, address = int(field[4], 16), int(field[6], 16)
        name = folder + "/" + field[0].replace("/", "@")
        with open(name, "wb") as file:
            while used:
                part = os.pread(fd, min(used, 1 << 24), address)
                file.write(part)
                address += len(part)
                used -= len(part)
PYTHON
    exec {fd}<&-
}

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
