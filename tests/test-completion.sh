#!/bin/bash
# Fault: a shell completes a word of curlingctl's command line that the command
# does not take, leaves out one that it takes, cuts an endpoint or NAME=VALUE
# at its colons, or runs what somebody wrote into pairs.conf.
# Invariant: what a Tab offers is what "curlingctl COMMAND --help" has, and
# pairs, settings, values and sockets where they fit; in bash as its function
# answers, and in both shells as the line is after the Tab.  zsh is left out
# where it is not installed.
source "$(dirname "$0")/functions.sh"

requires test -x "$build/bin/curlingctl"
mkdir "$T/bin" "$T/dir"
cp "$build/bin/curlingctl" "$T/bin"
export PATH=$T/bin:$PATH CURLING_PAIRS=$T/pairs.conf TERM=vt100
cat > "$CURLING_PAIRS" <<PAIRS
[web1]
[two words]
[db1]
[\$(touch $T/run)]
PAIRS
python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$T/dir/socket"
touch "$T/dir/sofa" "$T/dir/record"
cd "$T"

# --- The answers of bash's function

# shellcheck source=scripts/completion/curlingctl.bash
source "$top/scripts/completion/curlingctl.bash"

# ask LINE [REST]: what completes LINE, sorted, one in each line; REST is behind
# the cursor.  bash cuts a line into words as this does.
ask() {
    local line=$1 rest=${2-}

    COMP_LINE=$line$rest
    COMP_POINT=${#line}
    read -r -a COMP_WORDS < <(printf '%s\n' "$line" |
                              sed 's/[:=]\{1,\}/ & /g')
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMP_WORDS[COMP_CWORD]+=${rest%% *}
    COMPREPLY=(stale)
    (
        # Nobody's shell has these.
        set +eEu
        trap - ERR EXIT
        _curlingctl curlingctl '' ''
        printf '%s\n' "${COMPREPLY[@]}"
    ) | sed 's/ $//; /^$/d' | sort
}

# offers LINE WORD...: exactly these complete it
offers() {
    local expected got

    got=$(ask "$1")
    expected=$(printf '%s\n' "${@:2}" | sed '/^$/d' | sort)
    [ "$got" = "$expected" ] ||
        fail "\"$1\" is completed by: ${got//$'\n'/, };" \
             "expected: ${expected//$'\n'/, }"
}

# options COMMAND: as its --help has them
options() {
    curlingctl "$1" --help |
        sed -n -E 's/^  (-., )?(--[a-z-]+)(=?).*/\2\3/p'
}

mapfile -t commands < <(curlingctl --help | sed -n '/^Commands:/,/^$/p' |
                        sed -n -E 's/^  ([a-z]+) .*/\1/p')
mapfile -t settings < <(curlingctl get --list | cut -d' ' -f1)
if [ ${#commands[@]} -lt 10 ] || [ ${#settings[@]} -lt 10 ]; then
    fail "curlingctl tells too little"
fi
pairs=(web1 db1 'two\ words' "\\\$\\(touch\\ $T/run\\)")

offers "curlingctl " "${commands[@]}"
offers "curlingctl --timeout 5s " "${commands[@]}"
offers "curlingctl --timeout=5s " "${commands[@]}"
offers "curlingctl -" --timeout= --help --version
offers "curlingctl --timeout " ''
offers "curlingctl nonsense " ''
offers "curlingctl host " ''
for command in "${commands[@]}"; do
    mapfile -t expected < <(options "$command")
    [ ${#expected[@]} -gt 1 ] || fail "$command has no options"
    offers "curlingctl $command -" "${expected[@]}"
    case $(curlingctl "$command" --help | sed -n 2p) in
    *'[PAIR]'*NAME*) expected=("${pairs[@]}" "${settings[@]}") ;;
    *'[PAIR'*) expected=("${pairs[@]}") ;;
    *) continue ;;
    esac
    offers "curlingctl $command " "${expected[@]}"
    offers "curlingctl $command --sender x --receiver=y we" ''
done
offers "curlingctl status web1 " "${pairs[@]}"
offers "curlingctl protect web1 " ''
offers "curlingctl get web1 " "${settings[@]}"
offers "curlingctl set web1 " "${settings[@]}"
offers "curlingctl set compress " none delta zstd auto
offers "curlingctl set web1 compress " none delta zstd auto
offers "curlingctl set --timeout 5s web1 on-silence " wait takeover
offers "curlingctl set --sender x --receiver y apply " lazy eager
offers "curlingctl set interval " ''
offers "curlingctl protect --set " "${settings[@]/%/=}"
offers "curlingctl protect --set=" "${settings[@]/%/=}"
offers "curlingctl protect --set=disks=" refuse unsafe-ahead
offers "curlingctl protect --sender " unix: tcp: ssh://
offers "curlingctl protect --sender unix:$T/dir/" "$T/dir/socket"
offers "curlingctl protect --address=curling:" tcp: unix:
offers "curlingctl protect --interval " ''
offers "curlingctl history $T/dir/" "$T/dir/record" "$T/dir/sofa"
offers "curlingctl protect -- -" ''
[ "$(ask "curlingctl prot" " web1")" = protect ] ||
    fail "a word before another one is not completed"
[ "$(ask "curlingctl prot" "ect --yes")" = protect ] ||
    fail "a word is not completed where the cursor is"
[ "$(COMP_WORDBREAKS=' ' ask "curlingctl set disks re")" = refuse ] ||
    fail "bash with other COMP_WORDBREAKS completes otherwise"

# --- The line after a Tab

# keys TEXT: as a person types them
keys() { printf '%b' "$1" >&8; }

# tab LINE EXPECTED: what the line is after a Tab
tab() {
    local line

    rm -f "$T/line"
    keys "${1//\\/\\\\}\\t\\x18s"
    poll 20 test -e "$T/line" || fail "$shell does not answer to \"$1\""
    line=$(< "$T/line")
    [ "$line" = "$2" ] ||
        fail "$shell makes \"$line\" of \"$1\", expected \"$2\""
}

# interact SHELL COMMAND: it runs on a terminal of its own
interact() {
    shell=$1
    rm -f "$T/keys" "$T/ready"
    mkfifo "$T/keys"
    # shellcheck disable=SC2016  # for the other bash
    start "$shell" bash -c 'exec script -qfec "$1" /dev/null < "$2"' - \
        "$2" "$T/keys"
    exec 8> "$T/keys"
    poll 20 test -e "$T/ready" || fail "$shell does not begin"
}

# All that both shells complete to a line of one word more
try_lines() {
    local c=curlingctl d=$T/dir

    tab "$c prot" "$c protect "
    tab "$c --timeout 5s sw" "$c --timeout 5s switchover "
    tab "$c protect --sen" "$c protect --sender="
    tab "$c failover --y" "$c failover --yes "
    tab "$c watch web" "$c watch web1 "
    tab "$c status web1 db" "$c status web1 db1 "
    tab "$c watch tw" "$c watch two\\ words "
    tab "$c watch \\\$" "$c watch \\\$\\(touch\\ $T/run\\) "
    tab "$c get interv" "$c get interval "
    tab "$c get web1 interv" "$c get web1 interval "
    tab "$c set compress z" "$c set compress zstd "
    tab "$c set web1 compress z" "$c set web1 compress zstd "
    tab "$c set two\\ words compress z" "$c set two\\ words compress zstd "
    tab "$c set --sender x --receiver y compress z" \
        "$c set --sender x --receiver y compress zstd "
    tab "$c get --sender x --receiver y we" \
        "$c get --sender x --receiver y we"
    tab "$c protect --set on-l" "$c protect --set on-limit="
    tab "$c protect --set=on-l" "$c protect --set=on-limit="
    tab "$c protect --set on-limit=th" "$c protect --set on-limit=throttle "
    tab "$c protect --set=on-limit=th" "$c protect --set=on-limit=throttle "
    tab "$c protect --sender un" "$c protect --sender unix:"
    tab "$c protect --sender=un" "$c protect --sender=unix:"
    tab "$c protect --sender unix:$d/so" "$c protect --sender unix:$d/socket "
    tab "$c protect --sender=unix:$d/so" "$c protect --sender=unix:$d/socket "
    tab "$c protect --sender unix:$T/di" "$c protect --sender unix:$d/"
    tab "$c protect --address curling:u" "$c protect --address curling:unix:"
    tab "$c proxy $d/so" "$c proxy $d/socket "
    tab "$c history $d/re" "$c history $d/record "
    tab "$c history --svg=$d/re" "$c history --svg=$d/record "
    tab "true; $c prot" "true; $c protect "
    tab "A=1 $c prot" "A=1 $c protect "
    tab "$T/bin/$c prot" "$T/bin/$c protect "
    tab "$c nonsense a" "$c nonsense a"
    [ ! -e "$T/run" ] || fail "$shell has run what is in pairs.conf"
    keys 'exit\r'
    exec 8>&-
    wait_exit "$shell"
}

cat > "$T/bashrc" <<RC
unset HISTFILE
source "$top/scripts/completion/curlingctl.bash"
show() {
    printf '%s\n' "\$READLINE_LINE" > "$T/line.new"
    mv "$T/line.new" "$T/line"
    READLINE_LINE= READLINE_POINT=0
}
bind -x '"\\C-xs": show'
bind 'set bell-style none'
PROMPT_COMMAND=': > "$T/ready"'
RC
interact bash "bash --noprofile --rcfile '$T/bashrc' -i"
try_lines

if ! command -v zsh > /dev/null; then
    skip "needs zsh for its part; that of bash has passed"
fi
mkdir "$T/zsh" "$T/functions"
cp "$top/scripts/completion/_curlingctl" "$T/functions"
cat > "$T/zsh/.zshrc" <<RC
fpath=("$T/functions" \$fpath)
autoload -Uz compinit
compinit -u -d "$T/zsh/dump"
show() {
    print -r -- "\$BUFFER" > "$T/line.new"
    mv "$T/line.new" "$T/line"
    BUFFER=
}
zle -N show
bindkey -e
bindkey '^Xs' show
setopt no_beep
precmd() { : > "$T/ready" }
RC
interact zsh "ZDOTDIR='$T/zsh' zsh -d -i"
try_lines

echo "both shells complete what curlingctl takes"
