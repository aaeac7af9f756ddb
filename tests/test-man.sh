#!/bin/bash
# Fault: the manual tells of an option, setting, status or key that curlingctl
# does not have, or is silent about one that it has.
# Invariant: docs/man/ says what curlingctl --help, its settings and its
# sources say: commands with arguments and options, settings with choices,
# sides and defaults, exit statuses, environment, what is read of ~/.ssh/config
# and pairs.conf; what its examples say exists; mandoc has no warning.  That a
# change is noticed is tried out on changed copies.
source "$(dirname "$0")/functions.sh"

requires test -x "$build/bin/curlingctl"
requires command -v mandoc
ctl=$build/bin/curlingctl
mkdir "$T/is" "$T/said" "$T/man"

# --- What is: in files of $T/is, as the manual's are made below

# options_of TEXT: "--name", or "--name=" if it takes a value; "-n"
options_of() {
    sed -n -E 's/^  (-., )?(--[a-z-]+)[= ][A-Z].*/\1\2=/; t short
               s/^  (-., )?(--[a-z-]+).*/\1\2/; t short
               d; :short; s/, /\n/p; t; p' "$1" | sort
}

"$ctl" --help > "$T/help"
sed -n '/^Commands:/,/^$/s/^  \([a-z].*[^ ]\)  .*/\1/p' "$T/help" |
    sed 's/  .*//' | sort > "$T/is/commands"
mapfile -t commands < <(sed 's/ .*//' "$T/is/commands")
sed '/^Commands:/,/^$/d' "$T/help" | options_of /dev/stdin |
    tr -d = > "$T/is/global"
for command in "${commands[@]}"; do
    "$ctl" "$command" --help > "$T/help"
    options_of "$T/help" > "$T/is/options-$command"
done
"$ctl" get --list | while read -r name side _; do
    { echo "$name $side"; "$ctl" complete values "$name" | sort; } |
        paste -s -d ' '
done | sort > "$T/is/settings"
# The chapter's table, in milliseconds and octets
awk '/^Name +Default/ { inside = 1; next }
     inside && /^$/ { exit }
     inside && /^[a-z]/ && NF > 1 {
         sub(/-(ms|bytes)?$/, "", $1); print $1, $2
     }' "$top/docs/curling.txt" | sort > "$T/is/defaults"
sed -n 's/^ *CTL_EXIT_[A-Z_]* = \([0-9]*\),.*/\1/p' "$top/curling/ctl.h" |
    sort > "$T/is/statuses"
sed -n 's/^    { "\([A-Z][A-Za-z]*\)", take_.*/\1/p' \
    "$top/curling/ctl-sshconf.c" | sort > "$T/is/keywords"
grep -ohE 'g_getenv\("[A-Z_]+"\)' "$top"/curling/ctl-*.c | cut -d'"' -f2 |
    sort -u > "$T/is/environment"
sed -n '/pair_keys\[\] = {/,/}/p' "$top/curling/ctl-pairsconf.c" |
    grep -oE '"[a-z-]+"' | tr -d '"' | sort > "$T/is/keys"
for file in "$T"/is/*; do
    [ -s "$file" ] || fail "nothing is known of ${file##*/}"
done

# --- What the manual says: the same in $T/said

# items PAGE SECTION [SUBSECTION]: what stands after .It there
items() {
    awk -v section="$2" -v part="${3-}" '
        /^\.Sh / { in_section = substr($0, 5) == section; at = "" }
        /^\.Ss / { at = $2 }
        in_section && at == part && /^\.It / { print substr($0, 5) }' "$1"
}

# words_after MACRO PAGE SECTION [SUBSECTION]: arguments of it, of .It or in
# the text
words_after() {
    awk -v macro="$1" -v section="$3" -v part="${4-}" '
        /^\.Sh / { in_section = substr($0, 5) == section; at = "" }
        /^\.Ss / { at = $2 }
        in_section && at == part && /^\./ {
            for (i = 1; i < NF; i++) {
                if ($i == macro || $i == "." macro) { print $(i + 1) }
            }
        }' "$2"
}

# options_said PAGE SECTION [SUBSECTION]: as options_of
options_said() {
    items "$@" | awk '$1 == "Fl" {
        for (i = 1; i < NF; i++) {
            if ($i == "Fl") { print "-" $(i + 1) (/ Ar / ? "=" : "") }
        }
    }' | sort
}

# Lines of examples, and what is quoted as a command
examples() {
    awk '/^\.Bd -literal/ { inside = 1; next }
         /^\.Ed/ { inside = 0 }
         inside && /\\e$/ { line = line substr($0, 1, length($0) - 2); next }
         inside { print line $0; line = "" }
         /^\.Ql curlingctl/ { print substr($0, 5) }' "$@"
}

# examples_exist PAGE...: commands and options on these lines
examples_exist() {
    local line command option known=0

    while read -r line; do
        [[ $line =~ (^|[^a-z/-])curlingctl( --timeout [^ ]+)?\ ([a-z]+) ]] ||
            continue
        command=${BASH_REMATCH[3]}
        [ -f "$T/is/options-$command" ] || {
            echo "unknown command: $line"
            return 1
        }
        known=$((known + 1))
        while read -r option; do
            grep -qxF -e "$option" -e "$option=" "$T/is/options-$command" || {
                echo "unknown option $option: $line"
                return 1
            }
        done < <(grep -oE '^[^|]*' <<< "${line#*"$command"}" |
                 grep -oE '(^| )-[a-z-]+' | tr -d ' ' || true)
    done < <(examples "$@")
    [ "$known" -gt 5 ] || { echo "only $known examples"; return 1; }
}

# 100ms, 1s, 0: as QEMU has it
plain_number() {
    case $1 in
    *[0-9]ms) echo "${1%ms}" ;;
    *[0-9]s) echo "${1%s}000" ;;
    *) echo "$1" ;;
    esac
}

# same WHAT A B: two files have the same lines; else say which have not
same() {
    diff "$2" "$3" > "$T/diff" && return
    echo "$1 (< is, > the manual says):"
    grep '^[<>]' "$T/diff"
    return 1
}

# options_agree PAGE: each command's part has its options, but for those that
# the part on all commands has
options_agree() {
    local command

    options_said "$1" "OPTIONS OF ALL COMMANDS" > "$T/said/common"
    cat "$T"/is/options-* | sort -u | grep -xFf "$T/said/common" |
        same "options of all commands" - "$T/said/common" || return
    for command in "${commands[@]}"; do
        grep -vxFf "$T/said/common" "$T/is/options-$command" > "$T/own" || true
        options_said "$1" COMMANDS "$command" > "$T/said/own"
        same "options of $command" "$T/own" "$T/said/own" || return
        # The text may name a few, and those exist too.
        words_after Fl "$1" COMMANDS "$command" | sed 's/^/-/' > "$T/said/own"
        if grep -vxFf <(tr -d = < "$T/is/options-$command") "$T/said/own"; then
            echo "are options in the text on $command"
            return 1
        fi
    done
}

# settings_agree PAGE: an item has choices, and "(side; default)" at its end
settings_agree() {
    local name side default choices

    : > "$T/said/settings"
    : > "$T/said/defaults"
    while read -r name side default choices; do
        {
            echo "$name ${side%;}"
            tr ' ' '\n' <<< "$choices" | sed '/^$/d' | sort
        } | paste -s -d ' ' >> "$T/said/settings"
        echo "$name $(plain_number "$default")" >> "$T/said/defaults"
    done < <(awk '/^\.Sh / { inside = /SETTINGS/ }
        inside && /^\.It Cm / {
            name = $3; choices = ""
            for (i = 5; $4 == "Cm" && i <= NF; i++) {
                if ($i != "|") { choices = choices " " $i }
            }
        }
        inside && /^\.Pq / && name {
            print name, $2, $3 choices
            name = ""
        }' "$1")
    sort -o "$T/said/settings" "$T/said/settings"
    sort -o "$T/said/defaults" "$T/said/defaults"
    same "settings, sides, choices" "$T/is/settings" "$T/said/settings" &&
    same "defaults" "$T/is/defaults" "$T/said/defaults"
}

# agree DIR: all of it
agree() {
    local page=$1/curlingctl.1

    mandoc -Tlint -Wwarning "$1"/*.[1-9] || return
    mandoc -Tascii "$page" | col -b -x |
        awk '/^[A-Z]/ { inside = $0 == "COMMANDS" }
             inside && /^   [a-z]/ { print }' |
        sed 's/^ *//; s/ \.\.\./.../; s/ .*/\U&/' | sort > "$T/said/commands"
    same commands "$T/is/commands" "$T/said/commands" || return
    words_after Fl "$page" SYNOPSIS | sed 's/^/-/' | sort > "$T/said/global"
    same "options without a command" "$T/is/global" "$T/said/global" || return
    options_agree "$page" && settings_agree "$page" || return
    items "$page" "EXIT STATUS" | sort > "$T/said/statuses"
    same "exit statuses" "$T/is/statuses" "$T/said/statuses" || return
    items "$page" SSH | sed -n 's/^Cm //p' | tr -s ' ,' '\n' |
        sort > "$T/said/keywords"
    same "keywords of ssh_config" "$T/is/keywords" "$T/said/keywords" || return
    items "$page" ENVIRONMENT | sed -n 's/^Ev //p' | sort > "$T/said/all"
    # Libraries look at others.
    comm -12 "$T/is/environment" "$T/said/all" |
        same environment "$T/is/environment" - || return
    items "$1/pairs.conf.5" DESCRIPTION | sed -n 's/^Cm \([a-z-]*\) .*/\1/p' |
        sort > "$T/said/keys"
    same "keys of pairs.conf" "$T/is/keys" "$T/said/keys" || return
    examples_exist "$1"/*.[1-9]
}

agree "$top/docs/man" || fail "the manual and curlingctl do not say the same"
while read -r keyword; do
    grep -qw "$keyword" "$top/curling/ctl-sshconf.h" ||
        fail "curling/ctl-sshconf.h does not say that $keyword is read"
done < "$T/is/keywords"

# --- That it notices

tried=0

# notices PAGE SCRIPT: what sed makes of it
notices() {
    cp "$top/docs/man/"*.[1-9] "$T/man"
    sed -i -E "$2" "$T/man/$1"
    ! cmp -s "$top/docs/man/$1" "$T/man/$1" ||
        fail "sed '$2' changes nothing in $1"
    ! agree "$T/man" > "$T/out" 2>&1 || fail "not noticed in $1: $2"
    tried=$((tried + 1))
}

# Each item less, but those that are neither options, settings nor the like
items_gone() {
    local number line

    while IFS=: read -r number line; do
        notices "$1" "${number}s/.*/.It something else/"
    done < <(grep -nE "$2" "$top/docs/man/$1")
}

items_gone curlingctl.1 '^\.It Fl '
items_gone curlingctl.1 '^\.It [0-9]$'
items_gone curlingctl.1 '^\.It Cm [A-Z]'
items_gone pairs.conf.5 '^\.It Cm '
while read -r name _; do
    notices curlingctl.1 "/^\\.It Cm $name /s/$name/x$name/"
done < "$T/is/settings"
while read -r name; do
    notices curlingctl.1 "s/^\\.It Ev $name\$/.It Ev X$name/"
done < "$T/is/environment"
for command in "${commands[@]}"; do
    notices curlingctl.1 "/^\\.Ss $command /s/.*/.Ss x$command/"
done
notices curlingctl.1 's/^(\.Ss checkpoint) .*/\1 Ar pair/'
notices curlingctl.1 's/^\.It Fl -count Ar n/.It Fl -count/'
notices curlingctl.1 's/^\.It Fl -force/& Ar much/'
notices curlingctl.1 's/^(\.It Fl -csv)/.It Fl -nonsense\nText.\n\1/'
notices curlingctl.1 's/^Print a command line for a rec/See\n.Fl -force .\n&/'
notices curlingctl.1 's/lazy \| eager/lazy | eager | never/'
notices curlingctl.1 's/sender; 100ms/sender; 200ms/'
notices curlingctl.1 's/receiver; lazy/sender; lazy/'
notices curlingctl.1 's/protect --sender ssh/protect --send ssh/'
notices curlingctl.1 's/^curlingctl switchover/curlingctl turnover/'
notices curling.7 's/^\.Ql curlingctl failover/.Ql curlingctl takeover/'
notices curling.7 's/^\.Sh TLS/&\n.Fx bogus\n.Nosuchmacro/'

echo "the manual says what curlingctl has; $tried changes were noticed"
