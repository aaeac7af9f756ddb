#!/bin/bash
# Fault: somebody changes the wire format in the code or in the document, and
# not in the other.
# Invariant: the chapter "Wire format" of docs/curling.txt and curling/wire.h
# have the same constants with the same values; the fields of a structure have
# the sizes that wire.h's comments say, and are in its diagram, by name, where
# the table says.  That a change is noticed is tried out on changed copies.
#
# What is read of the document, in that chapter alone:
#   CURLING_NAME  VALUE ...            a constant
#   CURLING_NAME  OFFSET  SIZE ...     a field; SIZE is u8, u16, u32, u64,
#                                      N*u8, or n*u8 for the rest
#   (CURLING_PREFIX_*):                announces the diagram of these fields
#   | cell | cell |                    eight octets of it, six columns each

set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# normal: values as decimal numbers, lines "NAME VALUE [SIZE]" in order
normal() {
    local name value size

    while read -r name value size; do
        value=${value/UINT64_MAX/0xffffffffffffffff}
        echo "$name $((value)) $size"
    done | sort
}

# Every constant of wire.h; a comment that names a type tells the size.
of_header() {
    awk '$1 == "#define" && NF >= 3 {
        size = ""
        if (match($0, /\/\* (u8|u16|u32|u64)[ :,]/)) {
            size = substr($0, RSTART + 3, RLENGTH - 4)
        } else if (match($0, /\/\* [0-9]+ octets/)) {
            size = substr($0, RSTART + 3, RLENGTH - 10) "*u8"
        }
        print $2, $3, size
    }' "$1" | normal
}

wire_chapter() {
    awk '/^[0-9]+\. / { inside = /WIRE FORMAT/ && !/^ / } inside' "$1"
}

# Every constant of the chapter's tables.  "The rest" has no size in wire.h.
of_tables() {
    wire_chapter "$1" | awk '/^    CURLING_[A-Z0-9_]+ +[0-9]/ {
        size = $3 ~ /^(u(8|16|32|64)|[0-9]+\*u8)$/ ? $3 : ""
        print $1, $2, size
    }' | normal
}

# fields_of_tables DOCUMENT: "PREFIX OFFSET SIZE NAME" of each field
fields_of_tables() {
    wire_chapter "$1" |
    awk '/^    CURLING_[A-Z0-9_]+ +[0-9]+ +(u(8|16|32|64)|[0-9n]+\*u8)/ {
        split($1, part, "_")
        name = substr($1, length(part[1] part[2]) + 3)
        size = $3
        if (size ~ /^u/) {
            size = substr(size, 2) / 8
        } else {
            sub(/\*u8/, "", size)
        }
        print part[2], $2, size, name
    }' | sort
}

# fields_of_diagrams DOCUMENT: the same, from the cells; one that ends in
# "..." is the rest
fields_of_diagrams() {
    wire_chapter "$1" | awk '
    function finish() {
        if (open) {
            print prefix, begin, rest ? "n" : end - begin, name
        }
        open = 0
    }
    match($0, /\(CURLING_[A-Z]+_\*\):$/) {
        prefix = substr($0, RSTART + 9, RLENGTH - 13)
        row = -1
        next
    }
    /^    \+-/ { border = 1; next }
    /^    \|/ && prefix {
        row++
        line = substr($0, 6)
        at = 8 * row
        while (length(line)) {
            width = index(line, "|")
            if (width % 6) {
                print prefix, "crooked", row
            }
            # A row without a border above goes on with the cell before.
            if (border || at % 8) {
                finish()
                begin = at
                open = 1
                name = toupper(substr(line, 1, width - 1))
                rest = sub(/ \.\.\. *$/, "", name)
                gsub(/^ +| +$/, "", name)
                gsub(/ /, "_", name)
                sub(/^RES\.$/, "RESERVED", name)
            }
            at += width / 6
            end = at
            line = substr(line, width + 1)
        }
        if (at != 8 * (row + 1)) {
            print prefix, "crooked", row
        }
        border = 0
        next
    }
    { finish(); if (/^    [A-Z]/) { prefix = "" } }
    END { finish() }' | sort
}

# fixed_sizes FIELDS: what PREFIX_BYTES or PREFIX_SIZE must be, of those
# structures that end with a field of fixed size
fixed_sizes() {
    local prefix offset size end total

    for prefix in HEADER WELCOME BEGIN RECORD END APPLIED HEARTBEAT FENCE; do
        end=0
        while read -r _ offset size _; do
            total=$((offset + size))
            [ "$total" -le "$end" ] || end=$total
        done < <(grep "^$prefix " "$1")
        echo "$prefix $end"
    done
}

declared_sizes() {
    sed -n -E 's/^CURLING_([A-Z]+)_(BYTES|SIZE) ([0-9]+) *$/\1 \3/p' "$1" |
        grep -E '^(HEADER|WELCOME|BEGIN|RECORD|END|APPLIED|HEARTBEAT|FENCE) ' | sort
}

# same WHAT A B: A and B hold the same lines; else say which differ
same() {
    diff "$2" "$3" > "$work/diff" && return
    echo "$1 (< $(basename "$2"), > $(basename "$3")):"
    grep '^[<>]' "$work/diff"
    return 1
}

# compare WIRE_H DOCUMENT
compare() {
    of_header "$1" > "$work/wire.h"
    of_tables "$2" > "$work/tables"
    fields_of_tables "$2" > "$work/table-fields"
    fields_of_diagrams "$2" > "$work/diagram-fields"
    fixed_sizes "$work/table-fields" | sort > "$work/computed-sizes"
    declared_sizes "$work/wire.h" > "$work/declared-sizes"
    if [ ! -s "$work/wire.h" ] || [ ! -s "$work/table-fields" ]; then
        echo "nothing to compare"
        return 1
    fi
    same "constants differ" "$work/wire.h" "$work/tables" &&
    same "fields differ" "$work/table-fields" "$work/diagram-fields" &&
    same "sizes differ" "$work/declared-sizes" "$work/computed-sizes"
}

header=$top/curling/wire.h
document=$top/docs/curling.txt
if ! compare "$header" "$document"; then
    echo "FAIL: curling/wire.h and docs/curling.txt, chapter \"Wire format\"," \
         "do not say the same" >&2
    exit 1
fi

# notices WHAT CMD...: the command, a comparison, must fail
notices() {
    local what=$1

    shift
    ! "$@" > /dev/null || {
        echo "FAIL: this change was not noticed: $what" >&2
        exit 1
    }
}

# What wire.h and the tables hold, to compare changed copies with
cp "$work/wire.h" "$work/constants"

mapfile -t names < <(cut -d' ' -f1 "$work/constants")
for name in "${names[@]}"; do
    sed -E "s/^(#define $name +)[0-9A-Za-z_]+/\\177/" "$header" |
        of_header /dev/stdin > "$work/changed"
    notices "$name in wire.h" cmp -s "$work/constants" "$work/changed"
    sed -E "s/^(    $name +)[0-9a-fx]+/\\177/" "$document" |
        of_tables /dev/stdin > "$work/changed"
    notices "$name in the document" cmp -s "$work/constants" "$work/changed"
done

sed '/^#define CURLING_TYPE_STOP /d' "$header" > "$work/changed.h"
notices "a constant less in wire.h" compare "$work/changed.h" "$document"
sed '/^    CURLING_TYPE_STOP /d' "$document" > "$work/changed.txt"
notices "a constant less in the document" compare "$header" "$work/changed.txt"
sed 's/u16: RAM block/u32: RAM block/' "$header" > "$work/changed.h"
notices "a size in wire.h" compare "$work/changed.h" "$document"
for row in 'type|' 'kind ' 'us ' 'interval ms ' 'heartbeat ms ' 'digest ' \
           'session ' 'generation ' 'held '; do
    # A border that moves by one octet, another name, a row that is not there
    sed -E "/^    [|] ${row/|/[|]}/{ s/ {6}[|]/|/; s/[|]\$/      |/ }" \
        "$document" > "$work/changed.txt"
    cmp -s "$document" "$work/changed.txt" ||
        notices "a border by $row" compare "$header" "$work/changed.txt"
    sed "s/^    | $row/    | x${row#?}/" "$document" > "$work/changed.txt"
    notices "another name than $row" compare "$header" "$work/changed.txt"
    sed "/^    | $row/d" "$document" > "$work/changed.txt"
    notices "the row of $row" compare "$header" "$work/changed.txt"
done

echo "${#names[@]} constants are the same in wire.h and in" \
     "docs/curling.txt"
