#!/bin/bash
# Fault: messages that are lost, late or cut off in one direction, crashes and
# SIGSTOP of either side, timers and operators, in any order.
# Invariant: never two guests, whatever the order; a takeover begins from a
# whole round, and from none that is older than what the sender knows of; when
# the faults are over, one guest is protected or has been taken over.
#
# spin searches all that one sender and one receiver may do, each decision by
# curling/failover.c itself: model/failover.pml says what else is assumed, and
# what the words in the table below are.  That the model can fail is tried
# out: without each of its assumptions, and with changed cells of the tables
# of failover.c, it must find what it looks for.
#
# Two messages are under way in each direction; with LONG=1 four.

set -euo pipefail
export LC_ALL=C
unset WITH CHANGE PAIRS

top=$(cd "$(dirname "$0")/.." && pwd)
for tool in spin gcc; do
    command -v "$tool" > /dev/null || { echo "skip: needs '$tool'"; exit 77; }
done
words=2
[ -z "${LONG-}" ] || words=4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# --- The verifiers

# The enums of failover.h: constants for the model, texts for C.  C also says
# whether the constants are right.
make_names() {
    awk '
    /^typedef enum/ { n = 0; list = "" }
    /^    CURLING_[A-Z_]+,/ {
        name = substr($1, 1, index($1, ",") - 1)
        print "#define", substr(name, 9), n > "names.h"
        print "_Static_assert(" name " == " n ", \"\");" > "names-in-c.h"
        list = list "    \"" substr(name, 9) "\",\n"
        n++
    }
    /^} Curling[A-Za-z]+;/ && n {
        print "static const char *const " substr($2, 1, length($2) - 1) \
              "_names[] = {\n" list "};" > "names-in-c.h"
        n = 0
    }' "$top/curling/failover.h"
}

# compile PROGRAM FLAG...: pan.c is not ours to warn of
compile() {
    gcc -O1 -w -DCOLLAPSE -DNOREDUCE -DMEMLIM=1200 "${@:2}" -I. \
        -iquote "$top/curling" -o "$1" pan.c "$top/curling/failover.c"
}

cd "$work"
make_names
cp "$top/tests/model/failover.pml" .
spin -DWORDS="$words" -a failover.pml > spin.log 2>&1 || true
if [ ! -f pan.c ]; then
    cat spin.log >&2
    fail "spin does not take the model"
fi
# For assertions, and for the formula
compile safe -DSAFETY -DNOCLAIM & safe_pid=$!
compile live
wait "$safe_pid"

# --- Runs

# search PROGRAM WORD...: output to ./out
search() {
    local command=("./$1" -b -n -m500000 -w20) status=0

    [ "$1" = safe ] || command+=(-a)
    rm -f ./*.trail
    WITH="${*:2}" "${command[@]}" > out 2>&1 || status=$?
    # Found or not, it says how it went.
    if [ "$status" -ne 0 ] || ! grep -q 'errors: [0-9]' out; then
        cat out >&2
        fail "the search ended with $status"
    fi
}

states() { awk '/states, stored/ { print $1; exit }' out; }

# proves WHAT PROGRAM WORD...: all of it is searched, and nothing found
proves() {
    local what=$1

    shift
    PAIRS=pairs search "$@"
    if ! grep -q 'errors: 0$' out ||
            grep -q 'not completed\|too small\|memory limit' out; then
        cat out >&2
        # What led to it, without what pan prints of each step
        WITH="${*:2}" "./$1" -r -S 2>&1 |
            sed '/^#processes/,$d; /^MSC/d' | tail -n 60 >&2 || true
        fail "not proven: $what"
    fi
    echo "proven: $what; $(states) states"
}

# finds NAME WHAT PROGRAM WORD...: the assertion NAME, or a cycle, is found
finds() {
    local name=$1 what=$2

    shift 2
    search "$@"
    grep -q "^pan:1: $name" out || {
        cat out >&2
        fail "not found, so the model is too weak: $what"
    }
    echo "found, as it must be: $what; $(states) states"
}

two_guests='assertion violated never_two_guests'
no_end='acceptance cycle'

faults="crashes restarts sigstop failures"
operators="switchover failover reset"
any="on-silence=any on-disconnect=any"
takeover="on-silence=takeover on-disconnect=takeover"

# shellcheck disable=SC2086  # these are words
all_runs() {
    # Never two guests, whole rounds, none too old, a switch-over that loses
    # nothing, rounds in order, no deadlock
    proves "never two guests, with a lease" \
        safe lease $any $faults $operators ends trust
    proves "never two guests, on-silence=wait and no lease" \
        safe on-disconnect=any $faults $operators ends
    proves "a sender's guest always runs, on-silence=wait and no lease" \
        safe on-disconnect=any $faults ends reset always-runs

    proves "one guest in the end, with a lease" \
        live lease $any crashes sigstop failures $operators calms-down
    proves "one guest in the end, or an operator's word is needed" \
        live lease $any $faults $operators calms-down
    proves "a fresh receiver undoes nothing that ran at the one before" \
        safe lease $any crashes restarts sigstop remembers
    proves "one guest in the end, on-silence=wait and no lease" \
        live on-disconnect=any $faults $operators calms-down
    proves "a dead sender's guest is started, with a lease" \
        live lease $takeover crashes sigstop switchover calms-down
    proves "an end in the end, of sessions that are stopped" \
        live lease $any $operators ends failures stopped-is-well calms-down

    # What is not proven, because it is not so
    finds "$two_guests" "two guests without lease, on-silence=takeover" \
        safe on-silence=takeover
    finds "$two_guests" "two guests without lease, curling-failover" \
        safe trust
    finds "$two_guests" "two guests by force" safe lease force
    finds "$two_guests" "two guests by curling-unfence" \
        safe lease unfence on-silence=takeover
    finds "$two_guests" "two guests by a forged end, no lease" \
        safe on-disconnect=takeover forged-ends
    finds "$two_guests" "two guests by a forged end, lease" \
        safe lease on-silence=takeover forged-ends
    finds "$two_guests" "two guests by a forged end in a switch-over" \
        safe switchover forged-ends
    finds "assertion violated the_guest_never_stands_still" \
        "a guest that stands still, lease" safe lease always-runs
    export CHANGE="SENDER_PARKED SENDER_WELCOME_OTHER SENDER_SYNCING SENDER_SYNC"
    finds "assertion violated what_ran_is_not_undone" "with $CHANGE" \
        safe lease on-silence=takeover crashes restarts remembers
    unset CHANGE
    finds "$no_end" "no guest after a stop while parked" \
        live lease ends calms-down

    # What is assumed
    finds "$two_guests" "two guests when a reset destroys SUPERSEDED (A)" \
        safe switchover reset-overtakes
    finds "$two_guests" "two guests when a replaced connection just ends (A)" \
        safe lease on-silence=takeover silent-end
    finds "$two_guests" "two guests when who is cancelled hangs up (A)" \
        safe on-disconnect=takeover ends hangs-up
    finds "$two_guests" "two guests when who wakes forgets the lease (B)" \
        safe lease on-silence=takeover sigstop late-look
    finds "$two_guests" "two guests when NOT_HANDED forgets the lease (B)" \
        safe lease on-silence=takeover switchover failures late-look
    finds "$two_guests" "two guests when an old WELCOME counts (C)" \
        safe lease on-silence=takeover late-words
    finds "$two_guests" "two guests when HELLO is no word (D)" \
        safe lease on-silence=takeover hello-is-nothing
}

# notices NAME PROGRAM CHANGE: found with this cell in place of failover.c's,
# "STATE EVENT NEW-STATE NEW-ACTION"
# shellcheck disable=SC2086  # the words of the first proofs
notices() {
    local also="ends trust"

    [ "$2" = safe ] || also=calms-down
    export CHANGE=$3
    finds "$1" "with $3" "$2" lease $any $faults $operators $also
    unset CHANGE
}

all_changes() {
    notices "assertion violated only_whole_rounds" safe \
        "STATE_SYNCING EVENT_SILENT STATE_ACTIVE ACTION_TAKEOVER"
    notices "$two_guests" safe \
        "STATE_STANDBY EVENT_SILENT STATE_ACTIVE ACTION_TAKEOVER"
    notices "$two_guests" safe \
        "STATE_LEASED EVENT_SILENT STATE_ACTIVE ACTION_TAKEOVER"
    notices "$two_guests" safe \
        "STATE_SUSPECT EVENT_LEASE_OVER STATE_ACTIVE ACTION_TAKEOVER"
    notices "$two_guests" safe \
        "STATE_SUSPECT EVENT_OPERATOR STATE_ACTIVE ACTION_TAKEOVER"
    notices "$two_guests" safe \
        "SENDER_AWAITING SENDER_LEASE_OVER SENDER_AWAITING SENDER_NONE"
    notices "$two_guests" safe \
        "SENDER_STOPPED SENDER_LEASE_OVER SENDER_STOPPED SENDER_NONE"
    notices "$two_guests" safe \
        "SENDER_HANDING SENDER_LOST SENDER_UNPROTECTED SENDER_RETRY"
    notices "$two_guests" safe \
        "SENDER_PROTECTED SENDER_LOST SENDER_ALONE SENDER_RETRY"
    notices "$no_end" live \
        "SENDER_PARKED SENDER_LEASE_RENEWED SENDER_PARKED SENDER_NONE"
    notices "$no_end" live \
        "STATE_LEASED EVENT_RESUMED STATE_LEASED ACTION_NONE"
}

# The pairs of state and event that failover.c does not refuse and no proof
# comes to
untried_pairs() {
    # Only by force
    echo SENDER_{PARKED,HANDING,FENCED}-SENDER_UNFENCED
    echo STATE_{STANDBY,FENCING,CLOSED,LEASED,SUSPECT}-EVENT_FORCED
    # Here the guest runs: this is what is proven
    echo SENDER_{SYNCING,AWAITING,PROTECTED}-SENDER_SUPERSEDED
    echo SENDER_{UNPROTECTED,ALONE}-SENDER_SUPERSEDED
    # The receiver knows nothing of a session that begins, or is dead
    echo SENDER_CONNECTING-SENDER_{WELCOME_OTHER,WELCOME_HELD,SUPERSEDED}
    echo SENDER_ALONE-SENDER_WELCOME_HELD
    # There is no connection, or no round has been ended
    echo SENDER_{CONNECTING,UNPROTECTED,ALONE}-SENDER_{ENDING,COMMITTED,DIED}
    echo SENDER_SYNCING-SENDER_COMMITTED
    # Only HELLO is refused
    echo SENDER_{SYNCING,AWAITING,PROTECTED}-SENDER_REFUSED
    # The sender is dead
    echo STATE_CLOSED-EVENT_{CLOSED,RESUMED,STOPPED,POWERED_OFF,FENCED}
    echo STATE_CLOSED-EVENT_DECLINED
    # A takeover at once, by force or without a lease
    echo STATE_{STANDBY,FENCING}-EVENT_NOT_STARTED
}

check_pairs() {
    awk '{ tried[$2 "-" $3] += $1 }
         END { for (pair in tried) if (!tried[pair]) print pair }' pairs |
        sort > untried
    untried_pairs | tr ' ' '\n' | sort > expected
    diff expected untried >&2 ||
        fail "other pairs of state and event than expected (<) were not tried"
    echo "tried: all pairs of state and event but the" \
         "$(wc -l < untried) that cannot be"
}

all_runs
all_changes
check_pairs
