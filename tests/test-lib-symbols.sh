#!/bin/bash
# The library drags something in: QEMU links libcurling.a and fuzzers run it
# bare, so it may need nothing but libc (with its threads), and may not define
# a name that is not its own.
#
# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
lib=${1:-$top/build/lib/libcurling.a}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -f "$lib" ] || { echo "FAIL: there is no $lib" >&2; exit 1; }

# All of the archive in one shared object: the linker names what is missing.
if ! "${CC:-cc}" -shared -nostdlib -pthread -Wl,-z,defs \
        -Wl,--whole-archive "$lib" -Wl,--no-whole-archive -lc -lgcc \
        -o "$work/all.so" 2> "$work/errors"; then
    echo "FAIL: $lib needs more than libc:" >&2
    sed -n 's/.*undefined reference to/    /p' "$work/errors" | sort -u >&2
    grep -v 'undefined reference to' "$work/errors" >&2 || true
    exit 1
fi

nm -g --defined-only "$lib" | awk 'NF == 3 && $3 !~ /^curling_/ { print $3 }' |
    sort -u > "$work/foreign"
if [ -s "$work/foreign" ]; then
    echo "FAIL: $lib defines names that do not start with curling_:" >&2
    sed 's/^/    /' "$work/foreign" >&2
    exit 1
fi
echo "libcurling.a needs libc alone and defines curling_* alone"
