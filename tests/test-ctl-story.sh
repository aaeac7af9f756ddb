#!/bin/bash
# The whole story as a new user would live it: two QEMUs, curlingctl protect,
# watch on a terminal, set, a sender that dies, status, protect again.
# Invariant: each step takes one command, and the terminal shows what happens:
# readable at 80x24, right after a resize, without colour where NO_COLOR says
# so.
# timeout: 120
source "$(dirname "$0")/functions.sh"
# shellcheck source=tests/ctl.sh
source "$top/tests/ctl.sh"

requires tmux -V
TRANSPORT=tcp

cat > "$CURLING_PAIRS" <<CONF
[web1]
sender=$sender_ep
receiver=$receiver_ep
interval=50ms
CONF

export LC_ALL=C.UTF-8 TERM=xterm-256color
start tmux tmux -S "$T/tmux" -f /dev/null -D
tmux() { command tmux -S "$T/tmux" -f /dev/null "$@"; }

# terminal NAME WIDTH HEIGHT CMD...: it stays when the command has ended
terminal() {
    local name=$1 width=$2 height=$3

    shift 3
    tmux new-session -d -s "$name" -x "$width" -y "$height" \
        "$(printf '%q ' "$@"); echo \"exit \$?\"; sleep infinity"
}

# on_terminal NAME PATTERN: what is shown matches it, soon
on_terminal() {
    poll 15 shows "$1" "$2" ||
        fail "terminal $1 shows: $(tmux capture-pane -p -t "$1"), expected: $2"
}

shows() {
    shown=$(tmux capture-pane -p -t "$1")
    # shellcheck disable=SC2053  # it is a pattern
    [[ $shown == $2 ]]
}

poll 10 tmux list-sessions > /dev/null 2>&1 ||
    poll 10 test -S "$T/tmux" || fail "tmux does not start"
start_pair

echo "protect, with a bar"
monitor sender curling-set '{"max-bandwidth": 20000000}' > /dev/null
terminal protect 80 24 "$CTL" protect web1 --set max-bandwidth=20MB
on_terminal protect '*first round ?=*% of 2?? MiB, * left*'
on_terminal protect '*protected: a round every 50ms*exit 0*'
ctl set max-bandwidth 0 > /dev/null

echo "watch, at 80x24"
terminal watch 80 24 "$CTL" watch web1 --every 200ms
on_terminal watch 'web1: protected*sender *protected*receiver *standby*'
on_terminal watch '*pause *ms*[▁▂▃▄▅▆▇█][▁▂▃▄▅▆▇█][▁▂▃▄▅▆▇█]*'
on_terminal watch '*dirty pages*bandwidth*/s*lag*q quit*c a round now*'
tmux capture-pane -e -p -t watch | grep -q $'\e\[[0-9;]*3[0-7]m' ||
    fail "the view has no colours"

echo "it is right after a resize"
tmux resize-window -t watch -x 60 -y 16
on_terminal watch 'web1: protected*dirty pages*q quit*c a round now*'
[ "$(tmux capture-pane -p -t watch | awk 'length > 60' | wc -l)" -eq 0 ] ||
    fail "lines are longer than the window"
tmux resize-window -t watch -x 120 -y 30
on_terminal watch 'web1: protected*dirty pages*q quit*c a round now*'
[ "$(grep -c 'web1: protected' <<< "$shown")" -eq 1 ] ||
    fail "the view is shown twice after a resize"

echo "keys"
tmux send-keys -t watch +
on_terminal watch '*interval 100ms*interval is 100ms now*'
tmux send-keys -t watch -- - -
on_terminal watch '*interval 20ms*'
[ "$(ctl get interval)" = 20ms ] || fail "the key changed nothing"
tmux send-keys -t watch c
on_terminal watch '*round * is taken*'

echo "others have their turn while it runs"
expect 0 '*interval is 30ms now' "$CTL" set web1 interval 30ms
on_terminal watch '*interval 30ms*'

echo "the sender dies"
committed=$(monitor sender query-curling --get rounds-committed)
[ "$committed" -gt 0 ] || fail "no round was committed"
kill_vm sender
on_terminal watch 'web1: failed over*receiver *active*'
expect 5 'web1: failed over*active*guest running*' "$CTL" status web1
expect 5 '*web1 *failed over*no answer *active*' "$CTL" status web1 web1
assert_counting receiver
tmux send-keys -t watch q
on_terminal watch '*exit 5*'

echo "protected again, by the same command"
start_receiver sender
expect 0 'curlingctl: web1: roles have swapped*protected: *' \
    "$CTL" protect web1
expect 0 'pair *state*web1 *protected *protected *standby *swapped' \
    "$CTL" status
expect 0 'web1: protected*have swapped*' "$CTL" status web1
assert_counting receiver
assert_no_bad receiver

echo "no colours where they are not wanted"
terminal plain 80 24 env NO_COLOR=1 "$CTL" watch web1 --every 200ms
on_terminal plain '*web1: protected*q quit*'
! tmux capture-pane -e -p -t plain | grep -q $'\e\[[0-9;]*3[0-7]m' ||
    fail "there are colours with NO_COLOR"
tmux send-keys -t plain C-c
on_terminal plain '*exit 0*'

echo "failover asks"
terminal ask 200 24 "$CTL" failover web1
on_terminal ask '*Start the guest at *hands it over*?y/N?*'
tmux send-keys -t ask n Enter
on_terminal ask '*nothing was done*exit 1*'
expect 0 '*: protected*' "$CTL" status web1
terminal ask2 200 24 "$CTL" failover web1
on_terminal ask2 '*?y/N?*'
tmux send-keys -t ask2 y Enter
on_terminal ask2 '*the guest runs at *sender.qmp*exit 0*'
assert_counting sender
