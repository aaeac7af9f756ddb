#!/bin/bash
# Fault: what "make install" puts somewhere does not work there: it is not
# readable with a umask of 077, names the tree that it was built in, lacks a
# header, a page or QEMU's firmware, or lies outside the prefix.
# Invariant: below DESTDIR and at PREFIX alone, without root, the same after
# every time, and complete: curlingctl and QEMU run there, manual pages are
# found, a program builds with the library by pkg-config; --uninstall takes all
# of it away, and nothing else.  QEMU's part is left out where it is not built.
source "$(dirname "$0")/functions.sh"

requires test -x "$build/bin/curlingctl"
requires test -f "$build/lib/libcurling.a"
requires pkg-config --version
root=$T/root
prefix=/opt/curling
at=$root$prefix

# installs [OPTION]...: as a packager does, with a umask that is of no help
installs() {
    (umask 077; DESTDIR=$root PREFIX=$prefix BUILD=$build \
        "$top/scripts/install" "$@")
}

# listing: all that is there, with modes, owners and contents
listing() {
    (cd "$root" && find . -printf '%M %U %P %l\n' | sort &&
        find . -type f -exec cksum {} + | sort)
}

mkdir -m 755 "$root"
! BUILD=$T/nothing DESTDIR=$root "$top/scripts/install" 2> "$T/said" ||
    fail "it installs what is not built"
grep -q 'make ctl' "$T/said" || fail "it says no 'make ctl': $(< "$T/said")"
[ -z "$(ls -A "$root")" ] || fail "it installs a part of what is not built"

(umask 022; mkdir -p "$at/share")
touch "$at/share/other"
installs
listing > "$T/once"
installs
listing > "$T/twice"
cmp "$T/once" "$T/twice" || fail "the second time it is not the same"

# --- Where, and who may read it

outside=$(cd "$root" && find . -not -path ".$prefix/*" \
                             -not -path ./opt -not -path ".$prefix" \
                             -not -path .)
[ -z "$outside" ] || fail "outside the prefix: $outside"
wrong=$(find "$at" -not -path "$at/share/other" \
             \( -type d -not -perm 0755 -o -type f -not -perm 0644 \
                -not -path '*/bin/*' -not -path '*/qemu-system-*' -o \
                -path '*/bin/*' -not -perm 0755 -o \
                -path '*/qemu-system-*' -not -perm 0755 \) -printf '%m %P\n')
[ -z "$wrong" ] || fail "these have the wrong mode: $wrong"
tree=$(grep -rIlF -e "$top" "$at" || true)
[ -z "$tree" ] || fail "these name the tree: $tree"
tree=$(find "$at" -type l -lname "$top/*")
[ -z "$tree" ] || fail "these are links into the tree: $tree"

# --- curlingctl, its pages and its completion

version=$("$build/bin/curlingctl" --version)
[ "$("$at/bin/curlingctl" --version)" = "$version" ] ||
    fail "the installed curlingctl is another one"
for page in 1/curlingctl 5/pairs.conf 7/curling; do
    file=$at/share/man/man${page%/*}/${page#*/}.${page%/*}
    [ -f "$file" ] || fail "there is no $file"
    ! command -v man > /dev/null ||
        [ "$(man -M "$at/share/man" -w "${page%/*}" "${page#*/}")" \
          = "$file" ] || fail "man does not find ${page#*/}(${page%/*})"
done
bash -n "$at/share/bash-completion/completions/curlingctl"
head -n 1 "$at/share/zsh/site-functions/_curlingctl" |
    grep -qx '#compdef curlingctl' || fail "zsh would not load _curlingctl"
for file in curling.txt LICENSE pairs.conf.example; do
    [ -s "$at/share/doc/curling/$file" ] || fail "$file is missing"
done
# The example is one: of each pair curlingctl only minds the setting.
export CURLING_PAIRS=$at/share/doc/curling/pairs.conf.example
mapfile -t pairs < <("$at/bin/curlingctl" complete pairs)
[ ${#pairs[@]} -gt 1 ] || fail "the example has no pairs"
for pair in "${pairs[@]}"; do
    ! "$at/bin/curlingctl" get "$pair" nonsense 2> "$T/said" ||
        fail "the setting nonsense is known"
    grep -q 'unknown setting nonsense' "$T/said" ||
        fail "the example's [$pair]: $(< "$T/said")"
done

# --- The library

{
    for header in "$at"/include/curling/*.h; do
        echo "#include <curling/${header##*/}>"
    done
    cat <<'PROGRAM'
#include <stdio.h>
int main(void)
{
    printf("%08x\n", curling_crc32c(0, "123456789", 9));
    return 0;
}
PROGRAM
} > "$T/program.c"
grep -q 'curling/sender.h' "$T/program.c" || fail "headers are missing"
! grep -q 'private\|/ctl' "$T/program.c" || fail "private headers are there"

# builds: a program with the library, as pkg-config says; its checksum is that
# of the CRC's description
builds() {
    local flags

    read -r -a flags < <(pkg-config --cflags --libs curling)
    "${CC:-cc}" -Wall -Werror -o "$T/program" "$T/program.c" "${flags[@]}"
    [ "$("$T/program")" = e3069283 ] || fail "the program counts otherwise"
}

export PKG_CONFIG_PATH=$at/lib/pkgconfig
[ "curlingctl $(pkg-config --modversion curling)" = "$version" ] ||
    fail "curling.pc has another version than curlingctl"
[ "$(pkg-config --variable=libdir curling)" = "$prefix/lib" ] ||
    fail "curling.pc has DESTDIR in it"
(export PKG_CONFIG_SYSROOT_DIR=$root; builds)

# --- QEMU

qemu=$at/libexec/curling/qemu-system-x86_64
if [ -x "$build/bin/qemu-system-x86_64" ]; then
    # A BIOS, ROMs and keymaps: it does not start without.
    (cd / && printf 'info curling\nquit\n' | timeout 60 "$qemu" -accel tcg \
        -m 64 -S -device VGA -device e1000 -device virtio-net-pci \
        -vnc "unix:$T/vnc" -monitor stdio) > "$T/said" 2>&1 ||
        fail "the installed QEMU does not start: $(< "$T/said")"
    grep -q 'state: *idle' "$T/said" || fail "it has no Curling"
    ! "$qemu" -L help | grep -F "$top" ||
        fail "it looks for firmware in the tree"
else
    echo "QEMU is not built, and so not tried"
fi

# --- Away with it

installs --uninstall
left=$(find "$root" -not -type d -not -path "$at/share/other")
[ -z "$left" ] || fail "--uninstall leaves: $left"
[ -e "$at/share/other" ] || fail "--uninstall takes what is not its own"

# Without DESTDIR, and with slashes at the end
PREFIX=$T/direct// BUILD=$build "$top/scripts/install"
(export PKG_CONFIG_PATH=$T/direct/lib/pkgconfig; builds)
"$T/direct/bin/curlingctl" --help > /dev/null
PREFIX=$T/direct BUILD=$build "$top/scripts/install" --uninstall
[ -z "$(find "$T/direct" -not -type d)" ] || fail "--uninstall leaves files"

echo "what is installed works where it is"
