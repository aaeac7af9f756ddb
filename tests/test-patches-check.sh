#!/bin/bash
# Fault: a patch of the series was edited by hand, or does not apply.
# Invariant: the series applies to the unpacked source with no fuzz, exported
# again it is the same, and it edits few lines of upstream's.
source "$(dirname "$0")/functions.sh"

[ -d "$top/build/qemu/.git" ] || skip "QEMU was not built from source here"
"$top/scripts/patches-check"
