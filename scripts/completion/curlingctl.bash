# bash completion for curlingctl(1)
#
# Commands, options, pairs, settings and values: curlingctl itself tells them
# all.  Needs bash alone, not the package bash-completion.
#
# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash

# _curlingctl() has what these functions share:
#   program       the curlingctl to ask
#   words, cur    what stands before the word to complete, and that word as far
#                 as the cursor
#   candidates    whole words; one that ends with =, : or / may go on

# bash cuts words at = and : too; here they end at blanks, as curlingctl will
# see them.
__curlingctl_read_words() {
    local rest=${COMP_LINE:0:COMP_POINT} trimmed word i

    for ((i = 0; i <= COMP_CWORD; i++)); do
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$trimmed
        if ((i == 0)) || [[ $trimmed != "$rest" ]]; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
        rest=${trimmed#"$word"}
    done
    cur=${words[-1]}
    words=("${words[@]:1:${#words[@]} - 2}")
}

# Set lines to what curlingctl says to these arguments, in English.
__curlingctl_ask() {
    mapfile -t lines < <(LC_ALL=C "$program" "$@" 2> /dev/null < /dev/null)
}

# __curlingctl_add_all BEFORE WORD...: words as they are to be typed
__curlingctl_add_all() {
    local before=$1 word

    shift
    for word in "$@"; do
        printf -v word %q "$word"
        candidates+=("$before$word")
    done
}

# __curlingctl_add_paths BEFORE PATH -S|-f: sockets or files, and folders
__curlingctl_add_paths() {
    local path

    for path in "${2//\\/}"*; do
        if [[ -d $path ]]; then
            __curlingctl_add_all "$1" "$path/"
        elif test "$3" "$path"; then
            __curlingctl_add_all "$1" "$path"
        fi
    done
}

# __curlingctl_add KIND BEFORE VALUE: KIND is what --help calls it, BEFORE is
# the part of the word before VALUE
__curlingctl_add() {
    local lines

    case $1 in
    EP)
        candidates+=("$2"{unix:,tcp:,ssh://})
        [[ $3 != unix:* ]] || __curlingctl_add_paths "$2unix:" "${3#unix:}" -S
        ;;
    URI)
        candidates+=("$2curling:"{tcp:,unix:})
        ;;
    FILE)
        __curlingctl_add_paths "$2" "$3" -f
        ;;
    PATH)
        __curlingctl_add_paths "$2" "$3" -S
        ;;
    NAME=VALUE)
        if [[ $3 == *=* ]]; then
            __curlingctl_ask complete values "${3%%=*}"
            __curlingctl_add_all "$2${3%%=*}=" "${lines[@]}"
        else
            __curlingctl_ask complete settings
            candidates+=("${lines[@]/%/=}")
            candidates=("${candidates[@]/#/"$2"}")
        fi
        ;;
    NAME)
        __curlingctl_ask complete settings
        __curlingctl_add_all "$2" "${lines[@]}"
        ;;
    VALUE)
        __curlingctl_ask complete values "${arguments[-1]}"
        __curlingctl_add_all "$2" "${lines[@]}"
        ;;
    PAIR|PAIR...)
        __curlingctl_ask complete pairs
        __curlingctl_add_all "$2" "${lines[@]}"
        ;;
    esac
}

# Of a command with these arguments before cur, which takes kinds.  A pair may
# be left out.
__curlingctl_add_argument() {
    local lines at=${#arguments[@]}

    if [[ ${kinds[0]-} == PAIR... ]]; then
        at=0
    elif [[ ${kinds[0]-} == PAIR && ${#kinds[@]} -gt 1 ]]; then
        __curlingctl_ask complete pairs
        if ((at == 0)); then
            __curlingctl_add "${kinds[1]}" '' "$cur"
        elif [[ " ${lines[*]@Q} " != *" ${arguments[0]@Q} "* ]]; then
            kinds=("${kinds[@]:1}")
        fi
    fi
    __curlingctl_add "${kinds[at]-}" '' "$cur"
}

# __curlingctl_add_of COMMAND WORD...: these words stand between it and cur
__curlingctl_add_of() {
    local lines line kinds arguments=() pending='' word only=''
    local -A takes=()           # what an option takes: takes[--set]=NAME=VALUE

    __curlingctl_ask "$1" --help
    line=${lines[1]#*\[OPTION*\]}
    read -r -a kinds <<< "${line//[][]/}"
    for line in "${lines[@]}"; do
        [[ ! $line =~ ^'  '(-., )?(--[a-z-]+)(=([A-Z=]+))?(' '|$) ]] ||
            takes[${BASH_REMATCH[2]}]=${BASH_REMATCH[4]}
    done
    shift
    for word in "$@"; do
        if [[ -n $pending ]]; then
            pending=
        elif [[ -n $only || $word != -?* ]]; then
            arguments+=("${word//[\\\'\"]/}")
        elif [[ $word == -- ]]; then
            only=1
        else
            [[ $word != --@(sender|receiver)* || ${kinds[0]-} != PAIR* ]] ||
                kinds=("${kinds[@]:1}")
            pending=${takes[$word]-}
        fi
    done
    if [[ -n $pending ]]; then
        __curlingctl_add "$pending" '' "$cur"
    elif [[ -n $only || $cur != -* ]]; then
        __curlingctl_add_argument
    elif [[ $cur == --*=* ]]; then
        __curlingctl_add "${takes[${cur%%=*}]-}" "${cur%%=*}=" "${cur#*=}"
    else
        for word in "${!takes[@]}"; do
            candidates+=("$word${takes[$word]:+=}")
        done
    fi
}

_curlingctl() {
    local program=$1 words=() cur candidates=() lines candidate cutters kept=
    local i=0

    type -t -- "$program" > /dev/null || program=curlingctl
    __curlingctl_read_words
    __curlingctl_ask complete commands
    while [[ ${words[i]-} == --timeout* ]]; do
        [[ ${words[i++]} == *=* ]] || ((++i))
    done
    if ((i < ${#words[@]})); then
        [[ " ${lines[*]} " != *" ${words[i]} "* ]] ||
            __curlingctl_add_of "${words[@]:i}"
    elif ((i == ${#words[@]})); then
        candidates=("${lines[@]}")
        [[ $cur != -* ]] || candidates=(--timeout= --help --version)
    fi
    # bash keeps what stands before the last of these.
    cutters=${COMP_WORDBREAKS//[^=:]/}
    [[ -z $cutters ]] || kept=${cur%"${cur##*["$cutters"]}"}
    COMPREPLY=()
    for candidate in "${candidates[@]}"; do
        [[ $candidate == "$cur"* ]] || continue
        [[ $candidate == *[=:/] ]] || candidate+=' '
        COMPREPLY+=("${candidate#"$kept"}")
    done
}
complete -o nospace -F _curlingctl curlingctl
