/*
 * One sender, one receiver, and a network that may do what it likes
 *
 * The state machines are not written down here: both functions of
 * curling/failover.c are compiled into the verifier and called, so what is
 * proven is proven of them.  Written down is what surrounds them: who says
 * what, which event a word, an end or a timer is, and what faults there are.
 * tests/test-model.sh runs this and lists what is proven.  It also makes
 * names.h, the enums of failover.h without "CURLING_", and names-in-c.h.
 *
 * Time.  There is no clock.  What is under way arrives at any later time or
 * never, and every timer may go off whenever it runs.  So a cut, in one
 * direction or in both, and its end need no words of their own: they are runs
 * in which nothing arrives for long.  One order alone is kept, that of the
 * lease:
 *
 *   The sender's lease runs from when it sent the last word that it knows to
 *   have been heard.  The receiver waits from when it last heard one.  That
 *   is no earlier, and its wait is longer by a margin.  So when the wait is
 *   over, the lease of every word that the receiver heard has been over for
 *   the margin at least, and a sender that runs has acted on it.
 *
 * So the receiver's LEASE_OVER comes unless the sender runs and is in a state
 * in which LEASE_OVER would make its guest stand still: failover.c says which
 * these are, and it is looked into whether they are enough.  See also
 * wait_is_over().  The sender's LEASE_OVER may come at any time.
 *
 * What the code around the state machines owes; without A to D two guests are
 * found, as test-model.sh shows:
 *
 *   A. Who gives up a connection and lives says so first: FAILED, SUPERSEDED
 *      or STOP_ACK here, STOP there.  That word is not overtaken by the end:
 *      no reset may destroy it.  It is also said on a connection that another
 *      one takes the place of, and when the guest is started.  A sender that
 *      has left a connection keeps it open until the next one stands, also
 *      when it is cancelled meanwhile.  Nobody else ends a connection.
 *   B. The lease is a level, not an edge: LEASE_OVER is given to the sender
 *      in every state that it would change, for as long as the lease is
 *      over; after each event, before the guest is let go, and as the first
 *      thing after SIGCONT.  (What vCPUs do between SIGCONT and that is not
 *      modelled.)
 *   C. A word that comes too late for the lease that it would renew is no
 *      word: a WELCOME, RECEIVED, FAILED or beat whose echo is that old.
 *   D. Whatever is heard makes the receiver's wait begin anew, HELLO too.
 *   E. A HELLO that comes while the guest is being started is answered when
 *      that was done, or failed.
 *
 * Left out: a second sender or session; fence-after-ms that changes in a
 * session.  Settings of the receiver may change at any time.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "names.h"

c_decl {
\#include <stdio.h>
\#include <stdlib.h>
\#include <string.h>
\#include <unistd.h>
\#include "failover.h"
\#include "names-in-c.h"

static unsigned char sender_tried[CURLING_SENDER__MAX]
                                 [CURLING_SENDER_EVENT__MAX];
static unsigned char receiver_tried[CURLING_STATE__MAX][CURLING_EVENT__MAX];

/* One cell of the tables may be another one, to see whether it is missed:
 * $CHANGE is "STATE EVENT NEW-STATE NEW-ACTION", as in names.h. */
static char changed[4][40];

static int is_changed(const char *state, const char *event)
{
    return !strcmp(changed[0], state) && !strcmp(changed[1], event);
}

static int place(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        if (!strcmp(name, names[i])) {
            return i;
        }
    }
    fprintf(stderr, "what is %s?\n", name);
    _exit(1);
}

static CurlingSenderStep sender_step(int state, int event, int talk)
{
    CurlingSenderStep step = curling_sender_step(state, event);

    sender_tried[state][event] = 1;
    if (is_changed(CurlingSenderState_names[state],
                   CurlingSenderEvent_names[event])) {
        step.state = place(changed[2], CurlingSenderState_names,
                           CURLING_SENDER__MAX);
        step.action = place(changed[3], CurlingSenderAction_names,
                            CURLING_SENDER_ACTION__MAX);
    }
    if (talk) {
        printf("    %s in %s: %s\n", CurlingSenderEvent_names[event],
               CurlingSenderState_names[state],
               CurlingSenderState_names[step.state]);
    }
    return step;
}

static CurlingStep receiver_step(int state, int event, int policy, int lease,
                                 int talk)
{
    CurlingPolicies policies = {
        .on_disconnect = policy, .on_silence = policy, .lease = lease,
    };
    CurlingStep step = curling_failover_step(state, event, &policies);

    receiver_tried[state][event] = 1;
    if (is_changed(CurlingState_names[state], CurlingEvent_names[event])) {
        step.state = place(changed[2], CurlingState_names, CURLING_STATE__MAX);
        step.action = place(changed[3], CurlingAction_names,
                            CURLING_ACTION__MAX);
    }
    if (talk) {
        printf("    %s in %s: %s\n", CurlingEvent_names[event],
               CurlingState_names[state], CurlingState_names[step.state]);
    }
    return step;
}

static int is_refused_by_receiver(int state, int event)
{
    for (int n = 0; n < 8; n++) {
        CurlingPolicies policies = {
            .on_disconnect = n & 1, .on_silence = n >> 1 & 1, .lease = n & 4,
        };

        if (curling_failover_step(state, event, &policies).action !=
            CURLING_ACTION_REFUSE) {
            return 0;
        }
    }
    return 1;
}

/* Each pair of state and event that is not refused, with 1 if it was tried */
static void list_pairs(void)
{
    FILE *file = fopen(getenv("PAIRS"), "a");

    if (!file) {
        perror(getenv("PAIRS"));
        _exit(1);
    }
    for (int i = 0; i < CURLING_SENDER__MAX; i++) {
        for (int j = 0; j < CURLING_SENDER_EVENT__MAX; j++) {
            if (curling_sender_step(i, j).action != CURLING_SENDER_REFUSE) {
                fprintf(file, "%d %s %s\n", sender_tried[i][j],
                        CurlingSenderState_names[i],
                        CurlingSenderEvent_names[j]);
            }
        }
    }
    for (int i = 0; i < CURLING_STATE__MAX; i++) {
        for (int j = 0; j < CURLING_EVENT__MAX; j++) {
            if (!is_refused_by_receiver(i, j)) {
                fprintf(file, "%d %s %s\n", receiver_tried[i][j],
                        CurlingState_names[i], CurlingEvent_names[j]);
            }
        }
    }
    fclose(file);
}

static const char *words;       /* $WITH */
static int words_found;

/* Is @word one of them? */
static int with(const char *word)
{
    size_t len = strlen(word);

    for (const char *at = words; (at = strstr(at, word)); at++) {
        if ((at == words || at[-1] == ' ') && (!at[len] || at[len] == ' ')) {
            words_found++;
            return 1;
        }
    }
    return 0;
}

static void check_words(void)
{
    int n = *words != '\0';

    for (const char *at = words; *at; at++) {
        n += *at == ' ';
    }
    if (n != words_found) {
        fprintf(stderr, "%d words are not known in WITH=\"%s\"\n",
                n - words_found, words);
        _exit(1);
    }
}
}

/* ---- What is modelled: the words of $WITH ------------------------------- */

hidden byte lease;              /* fence-after-ms is set */
hidden byte silence_waits;      /* on-silence=takeover, or =any: it changes */
hidden byte silence_starts;     /* all the time; else wait */
hidden byte close_waits;        /* on-disconnect, in the same way */
hidden byte close_starts;

hidden byte crashes;            /* of processes and of hosts */
hidden byte restarts;           /* a receiver that died is started again */
hidden byte sigstop;            /* and SIGCONT, of the sender */
hidden byte failures;           /* connections given up; rounds that cannot be
                                 * loaded; hand-overs and takeovers that
                                 * cannot be done; BUSY */
hidden byte ends;               /* migrate_cancel, power-off, quit; what makes
                                 * the sender or the receiver refuse to go
                                 * on */
hidden byte switchover;         /* curling-switchover */
hidden byte failover;           /* curling-failover; without a lease, after
                                 * silence, only if the sender is dead */
hidden byte reset;              /* curling-reset */

/* What two guests are to be expected of */
hidden byte trust;              /* curling-failover in any case */
hidden byte force;              /* curling-failover with force */
hidden byte unfence;            /* curling-unfence */
hidden byte forged_ends;        /* of connections, by who is between */
hidden byte reset_overtakes;    /* not A: an end destroys the word before */
hidden byte silent_end;         /* not A: no word when a connection takes the
                                 * place of another */
hidden byte hangs_up;           /* not A: who is cancelled closes all */
hidden byte late_look;          /* not B */
hidden byte late_words;         /* not C */
hidden byte hello_is_nothing;   /* not D */

hidden byte remembers;          /* what a receiver's guest did is to last, also
                                 * when it dies and is started anew */

hidden byte always_runs;        /* the sender's guest, while the sender does */

hidden byte calms_down;         /* at some time all of this is over */
hidden byte stopped_is_well;    /* and the session may have ended before */

/* Of failover.c, by state of the sender: */
hidden byte holds[SENDER__MAX];     /* the guest stands still */
hidden byte parks[SENDER__MAX];     /* LEASE_OVER would make it */

inline configure()
{
    c_code {
        if (getenv("CHANGE")) {
            sscanf(getenv("CHANGE"), "%39s %39s %39s %39s", changed[0],
                   changed[1], changed[2], changed[3]);
        }
        words = getenv("WITH") ? getenv("WITH") : "";
        lease = with("lease");
        silence_waits = !with("on-silence=takeover");
        silence_starts = !silence_waits || with("on-silence=any");
        close_waits = !with("on-disconnect=takeover");
        close_starts = !close_waits || with("on-disconnect=any");
        crashes = with("crashes");
        restarts = with("restarts");
        sigstop = with("sigstop");
        failures = with("failures");
        ends = with("ends");
        switchover = with("switchover");
        failover = with("failover");
        reset = with("reset");
        trust = with("trust");
        force = with("force");
        unfence = with("unfence");
        forged_ends = with("forged-ends");
        reset_overtakes = with("reset-overtakes");
        silent_end = with("silent-end");
        hangs_up = with("hangs-up");
        late_look = with("late-look");
        late_words = with("late-words");
        hello_is_nothing = with("hello-is-nothing");
        remembers = with("remembers");
        always_runs = with("always-runs");
        calms_down = with("calms-down");
        stopped_is_well = with("stopped-is-well");
        check_words();
        for (int i = 0; i < CURLING_SENDER__MAX; i++) {
            holds[i] = curling_sender_holds_guest(i);
            parks[i] = !holds[i] && curling_sender_holds_guest(
                sender_step(i, CURLING_SENDER_LEASE_OVER, 0).state);
        }
        memset(sender_tried, 0, sizeof(sender_tried));
        if (getenv("PAIRS")) {
            atexit(list_pairs);
        }
    }
}

/* What the verifier calls what was found */
hidden byte never_two_guests = 0;
hidden byte only_whole_rounds = 0;
hidden byte never_an_older_round = 0;
hidden byte a_switchover_loses_nothing = 0;
hidden byte rounds_in_order = 0;
hidden byte what_ran_is_not_undone = 0;
hidden byte the_guest_never_stands_still = 0;

/* ---- The network -------------------------------------------------------- */

/* Rounds are numbered by threes: enough to tell older from newer, for they
 * are one apart at most. */
#define NOTHING 3
#define after(n) ((n) == NOTHING -> 0 : ((n) + 1) % 3)

/* So many are under way at a time, in each direction; then there is still
 * room for a last word, and for the end. */
#ifndef WORDS
#define WORDS 2
#endif

mtype = {
    /* of the sender; HELLO is @hello */
    Begin, End, Beat, Stop, PowerOff, Fenced,
    /* of the receiver; Beat as well */
    Empty, Held, Busy, Reject, Received, Fence, StopAck, Superseded, Failed,
    /* of the kernel, for a dead process */
    Close
};

/* What comes to the receiver on the connection that it serves, and to the
 * sender on the one that it reads.  Mostly these are the same one. */
chan to_receiver = [WORDS + 2] of { mtype, byte };
chan to_sender = [WORDS + 2] of { mtype, byte };
bool hello;                     /* a new connection says HELLO */
bool old_hello;                 /* one that its sender has given up since */

inline drain(channel)
{
    do
    :: nempty(channel) -> channel?_,_
    :: empty(channel) -> break
    od;
    skip
}

/* The end of a dead process's connection.  A reset takes along what is under
 * way; when a host dies nothing is said. */
inline close(channel)
{
    if
    :: channel!Close,0
    :: drain(channel); channel!Close,0
    :: skip
    fi
}

/* ---- What both are ------------------------------------------------------ */

mtype = { None, Dialled, Up, Current, Left };

byte s = SENDER_CONNECTING;
bool s_dead;
bool s_asleep;                  /* by SIGSTOP */
mtype s_connection = None;      /* None, Dialled (said HELLO), or Up */
byte s_round;                   /* 0: none is under way, 1: begun, 2: ended */
byte s_number = NOTHING;        /* of the last one begun */
byte s_received = NOTHING;      /* the last one known to be held */
byte s_met = NOTHING;           /* which process was the receiver */
byte s_handing;                 /* HANDING: 1: the last round is to be begun,
                                 * 2: has been, 3: FENCED is said */
bool s_owed;                    /* ended, and the lease goes on */
bool s_overdue;                 /* the lease is over for sure */

#define s_acts (!s_dead && !s_asleep)
#define s_ended (s == SENDER_STOPPED || s == SENDER_FAILED || \
                 s == SENDER_FENCED)
#define s_guest_runs (s_acts && !holds[s])
#define s_parks (lease && parks[s] && (!s_ended || s_owed))
#define s_room (len(to_receiver) < WORDS)

byte r = STATE_LISTENING;
bool r_dead;
mtype r_connection = None;      /* None, Current: the one that the sender
                                 * reads, or Left: it has left that one */
bool r_confirmed;               /* more than HELLO came on it */
bool r_begun;                   /* a part of a round did */
byte r_held = NOTHING;          /* the last whole one */
byte r_life;                    /* which process this is */

#define r_guest_runs (!r_dead && r == STATE_ACTIVE)
#define r_heard (r == STATE_STANDBY || r == STATE_FENCING)
#define r_room (len(to_sender) < WORDS)

#define joined (s_connection == Up && r_connection == Current)

/* Faults and operators are no more.  Timers go off only for a reason: the
 * other side does not serve the connection, and nothing is under way.  Beats
 * and rounds that would change nothing are left out. */
bool calm;

#define s_is_alone (empty(to_sender) && r_connection != Current && \
                    (r_dead || !hello))
#define r_is_alone (empty(to_receiver) && \
                    (s_dead || r_connection != Current))

/* ---- The sender --------------------------------------------------------- */

hidden byte s_event, s_action, s_before;

inline sender(event)
{
    s_event = event;
    c_code {
        {
            CurlingSenderStep step = sender_step(now.s, s_event, readtrail);

            s_before = now.s;
            now.s = step.state;
            s_action = step.action;
        }
    }
}

/* What is said to a connection that the receiver has left is lost. */
inline s_say(what, n)
{
    if
    :: r_connection == Current -> to_receiver!what,n
    :: else
    fi
}

/* The connection, not the session.  It stays open. */
inline s_leave()
{
    s_connection = None;
    s_round = 0;
    drain(to_sender);
    if
    :: r_connection == Current -> r_connection = Left
    :: else
    fi;
    if
    :: hello -> hello = false; old_hello = true
    :: else
    fi
}

inline s_carry_out(last_word)
{
    if
    :: s_action == SENDER_RETRY -> s_leave()
    :: s_action == SENDER_HAND -> s_handing = 1
    :: s_action == SENDER_END ->
        s_owed = parks[s_before];
        if
        :: s != SENDER_FENCED && s_connection == Up -> s_say(last_word, 0)
        :: else ->
            s_leave();
            if
            :: hangs_up && r_connection == Left -> to_receiver!Close,0
            :: else
            fi
        fi
    :: s == SENDER_ALONE && s_before != s && s_action == SENDER_NONE ->
        s_leave()
    :: else
    fi;
    if
    :: s != SENDER_HANDING -> s_handing = 0
    :: else
    fi
}

/* B. */
inline s_look_at_lease()
{
    if
    :: s_overdue && s_parks && s_acts && !late_look ->
        sender(SENDER_LEASE_OVER)
    :: else
    fi
}

inline s_do(event)
{
    d_step {
        sender(event);
        s_carry_out(Stop);
        s_look_at_lease()
    }
}

/* Whatever the receiver says, it has heard something. */
inline s_renew()
{
    s_overdue = false;
    if
    :: lease && s == SENDER_PARKED -> sender(SENDER_LEASE_RENEWED)
    :: else
    fi
}

inline s_welcomed(event)
{
    s_connection = Up;
    s_overdue = false;
    s_received = number;
    sender(event);
    s_carry_out(Stop);
    s_say(Beat, 0)
}

inline s_hear()
{
    if
    :: word == Empty && (s_met == NOTHING || s_met == number) ->
        s_met = number;
        number = NOTHING;
        s_welcomed(SENDER_WELCOME_EMPTY)
    :: word == Empty && s_met != NOTHING && s_met != number ->
        s_met = number;
        number = NOTHING;
        s_welcomed(SENDER_WELCOME_OTHER)
    :: word == Held -> s_welcomed(SENDER_WELCOME_HELD)
    :: word == Busy -> sender(SENDER_BUSY); s_carry_out(Stop)
    :: word == Reject -> sender(SENDER_REFUSED); s_carry_out(Stop)
    :: word == Received ->
        s_round = 0;
        s_received = number;
        if
        :: coin -> s_renew(); sender(SENDER_COMMITTED)
        :: else -> sender(SENDER_COMMITTED); s_renew()
        fi
    :: word == Beat -> s_renew()
    :: word == Fence ->
        s_renew();
        sender(SENDER_HAND_OVER);
        s_carry_out(Stop)
    :: word == Superseded -> sender(SENDER_SUPERSEDED); s_carry_out(Stop)
    :: word == Failed ->
        s_renew();
        if
        :: s == SENDER_HANDING -> sender(SENDER_NOT_HANDED)
        :: else -> sender(SENDER_LOST)
        fi;
        s_carry_out(Stop)
    :: word == Close ->
        if
        :: s_connection == Up && coin -> sender(SENDER_DIED)
        :: else -> sender(SENDER_LOST)
        fi;
        s_carry_out(Stop)
    fi
}

/* After the end only STOP_ACK is waited for. */
inline s_linger()
{
    if
    :: word == StopAck -> s_owed = false; s_leave()
    :: word == Superseded || word == Failed || word == Close -> s_leave()
    :: else
    fi
}

#define s_begins (s == SENDER_SYNCING || s == SENDER_AWAITING || \
                  (s == SENDER_PROTECTED && !calm) || \
                  (s == SENDER_HANDING && s_handing == 1))

inline s_begin()
{
    s_number = after(s_received);
    s_round = 1;
    s_say(Begin, 0);
    if
    :: s == SENDER_HANDING -> s_handing = 2
    :: else
    fi
}

proctype Sender()
{
    mtype word;
    byte number;
    bool coin;          /* Close: was the receiver heard in time?  RECEIVED:
                         * which of its two meanings counts first? */

end:
    do
    :: atomic {
        s_acts && s_connection != None && nempty(to_sender) ->
        if
        :: coin = true
        :: to_sender?[Close,_] || to_sender?[Received,_] -> coin = false
        fi;
        d_step {
            to_sender?word,number;
            printf("sender hears "); printm(word); printf("\n");
            if
            :: s_ended -> s_linger()
            :: else -> s_hear()
            fi;
            s_look_at_lease();
            word = Close; number = 0; coin = false
        }
    }
    :: d_step {
        s_acts && s_connection == None && !s_ended &&
        (!calm || !r_dead || s == SENDER_CONNECTING) ->
        s_connection = Dialled;
        hello = true
    }
    :: atomic {
        s_acts && s_connection != None && !s_ended &&
        (!calm || s_is_alone) -> s_do(SENDER_LOST)
    }
    :: d_step {
        s_acts && s_connection != None && s_ended &&
        (!calm || s_is_alone) -> s_leave()
    }

    /* Words */
    :: d_step {
        s_acts && s_connection == Up && s_round == 0 && s_begins && s_room ->
        s_begin()
    }
    :: d_step {
        s_acts && s_connection == Up && s_round == 1 && !s_ended && s_room ->
        sender(SENDER_ENDING);
        s_carry_out(Stop);
        s_look_at_lease();
        s_round = 2;
        s_say(End, s_number)
    }
    :: d_step {
        s_acts && s_connection == Up && s_round == 0 && s_handing == 2 &&
        s_room ->
        s_say(Fenced, 0);
        s_handing = 3
    }
    :: d_step {
        s_acts && s_connection == Up && !s_ended && s_room &&
        (!calm || (joined && empty(to_receiver) &&
                   (r == STATE_SUSPECT || r == STATE_LEASED))) ->
        s_say(Beat, 0)
    }

    /* Time, failures, operators */
    :: atomic {
        s_acts && s_parks && (!calm || !joined) -> s_do(SENDER_LEASE_OVER)
    }
    :: atomic {
        failures && !calm && s_acts && s == SENDER_HANDING &&
        s_handing < 3 -> s_do(SENDER_NOT_HANDED)
    }
    :: atomic {
        ends && !calm && s_acts && !s_ended ->
        if
        :: s_do(SENDER_BROKEN)
        :: s_do(SENDER_CANCELLED)
        :: d_step {
            sender(SENDER_CANCELLED);
            s_carry_out(PowerOff);
            s_look_at_lease()
        }
        fi
    }
    :: atomic {
        switchover && !calm && s_acts && s == SENDER_PROTECTED ->
        s_do(SENDER_HAND_OVER)
    }
    :: atomic { unfence && !calm && s_acts -> s_do(SENDER_UNFENCED) }
    od
}

/* ---- The receiver ------------------------------------------------------- */

hidden byte r_event, r_action, r_before, r_policy;

inline receiver(event)
{
    r_event = event;
    c_code {
        {
            CurlingStep step = receiver_step(now.r, r_event, r_policy, lease,
                                             readtrail);

            r_before = now.r;
            now.r = step.state;
            r_action = step.action;
        }
    }
    if
    :: r_action == ACTION_DROP || r_action == ACTION_POWEROFF ||
       r_action == ACTION_GIVE_UP -> r_held = NOTHING
    :: else
    fi
}

/* Say @last_word and give up the connection. */
inline r_leave(last_word)
{
    if
    :: r_connection == Current -> to_sender!last_word,0
    :: else
    fi;
    r_connection = None;
    r_confirmed = false;
    r_begun = false;
    drain(to_receiver)
}

/* The end of a connection is the end of a first round, but no event where a
 * round is held. */
inline r_drop_first_round()
{
    if
    :: r == STATE_SYNCING -> receiver(EVENT_CLOSED)
    :: else
    fi;
    r_action = ACTION_NONE
}

/* What will become of the event to come: whether the guest can be started, or
 * the round loaded; and what the policy is just now. */
#define POSSIBLE 0
#define NOT_NOW 1
#define NEVER 2

inline r_choose(waits, starts)
{
    if
    :: outcome = POSSIBLE
    :: failures && !calm -> outcome = NOT_NOW
    :: failures && !calm -> outcome = NEVER
    fi;
    if
    :: waits -> policy = POLICY_WAIT
    :: starts -> policy = POLICY_TAKEOVER
    fi
}

inline r_carry_out()
{
    if
    :: r_action == ACTION_TAKEOVER ->
        if
        :: r_held == NOTHING -> assert(only_whole_rounds)
        :: r_held != NOTHING && s_received != NOTHING &&
           r_held != s_received && r_held != after(s_received) ->
            assert(never_an_older_round)
        :: r_event == EVENT_FENCED && r_held != s_number ->
            assert(a_switchover_loses_nothing)
        :: else
        fi;
        if
        :: outcome == POSSIBLE -> r_leave(Superseded); r_held = NOTHING
        :: outcome == NOT_NOW ->
            r = r_before;
            if
            :: r_event == EVENT_FENCED -> receiver(EVENT_DECLINED)
            :: else -> receiver(EVENT_NOT_STARTED)
            fi;
            r_leave(Failed)
        :: outcome == NEVER ->
            r = r_before;
            receiver(EVENT_BROKEN);
            r_leave(Failed)
        fi
    :: r_action == ACTION_FENCE && r_connection == Current ->
        to_sender!Fence,0
    :: r_action == ACTION_DROP -> r_leave(Failed)
    :: else
    fi
}

inline r_do(event, waits, starts)
{
    r_choose(waits, starts);
    d_step {
        r_policy = policy;
        receiver(event);
        r_carry_out();
        outcome = 0; policy = 0
    }
}

/* A connection takes the place of the one that is served. */
inline r_accept(whose)
{
    r_drop_first_round();
    if
    :: r_connection == Current && silent_end -> to_sender!Close,0
    :: r_connection == Current && !silent_end -> to_sender!Failed,0
    :: else
    fi;
    drain(to_receiver);
    r_connection = whose;
    r_confirmed = false;
    r_begun = false;
    if
    :: r_held == NOTHING -> receiver(EVENT_WELCOMED)
    :: else
    fi;
    if
    :: whose == Current && r_held == NOTHING -> to_sender!Empty,r_life
    :: whose == Current && r_held != NOTHING -> to_sender!Held,r_held
    :: else
    fi
}

inline r_see_end()
{
    if
    :: r_confirmed && coin -> receiver(EVENT_CLOSED)
    :: r_confirmed && !coin -> receiver(EVENT_SILENT)
    :: else -> r_drop_first_round()
    fi;
    r_connection = None;
    r_confirmed = false;
    r_begun = false;
    r_carry_out()
}

/* A word came that is not HELLO. */
inline r_confirm()
{
    if
    :: r_held != NOTHING && !coin &&
       (!r_confirmed || r == STATE_SUSPECT || r == STATE_LEASED) ->
        receiver(EVENT_RESUMED)
    :: else
    fi;
    r_confirmed = true
}

inline r_commit()
{
    if
    :: !r_begun || number != after(r_held) -> assert(rounds_in_order)
    :: else
    fi;
    r_begun = false;
    if
    :: outcome == NEVER -> receiver(EVENT_BROKEN); r_leave(Failed)
    :: else ->
        r_held = number;
        receiver(EVENT_COMMITTED);
        if
        :: r_connection == Current -> to_sender!Received,r_held
        :: else
        fi
    fi
}

inline r_hear()
{
    if
    :: word == Close -> r_see_end()
    :: else ->
        r_confirm();
        if
        :: word == Begin -> r_begun = true
        :: word == End -> r_commit()
        :: word == Beat
        :: word == Stop -> receiver(EVENT_STOPPED); r_leave(StopAck)
        :: word == PowerOff -> receiver(EVENT_POWERED_OFF); r_leave(StopAck)
        :: word == Fenced -> receiver(EVENT_FENCED); r_carry_out()
        fi
    fi
}

/* The receiver's wait is over, and so is the lease of all that it has heard,
 * which is all that it can have echoed. */
inline wait_is_over()
{
    s_overdue = !s_dead;
    if
    :: !late_words -> drain(to_sender)      /* C. */
    :: else
    fi
}

proctype Receiver()
{
    mtype word;
    byte number;
    byte outcome;
    byte policy;
    bool coin;          /* Close: was the sender heard in time?  A word that
                         * ends the session: is it back before that? */

end:
    do
    :: atomic {
        !r_dead && r_connection != None && nempty(to_receiver) && r_room ->
        if
        :: to_receiver?[End,_] || to_receiver?[Fenced,_] ->
            r_choose(true, false)
        :: to_receiver?[Fenced,_] || to_receiver?[Stop,_] ||
           to_receiver?[PowerOff,_] || to_receiver?[Close,_] ->
            coin = true; r_choose(true, false)
        :: to_receiver?[Close,_] -> r_choose(silence_waits, silence_starts)
        :: else
        fi;
        d_step {
            to_receiver?word,number;
            printf("receiver hears "); printm(word); printf("\n");
            r_policy = policy;
            r_hear();
            word = Close; number = 0; coin = false; outcome = 0; policy = 0
        }
    }
    :: d_step {
        !r_dead && hello ->
        hello = false;
        if
        :: r == STATE_ACTIVE -> to_sender!Superseded,0
        :: else -> r_accept(Current)
        fi
    }
    :: d_step {
        !r_dead && old_hello ->
        old_hello = false;
        if
        :: r == STATE_ACTIVE
        :: else -> r_accept(Left)
        fi
    }
    :: atomic {
        (failures || ends) && !calm && !r_dead && hello &&
        r != STATE_ACTIVE ->
        if
        :: failures -> hello = false; to_sender!Busy,0
        :: ends -> hello = false; to_sender!Reject,0
        fi
    }
    :: d_step {
        failures && !calm && !r_dead && r_connection != None ->
        r_leave(Failed);
        r_drop_first_round()
    }
    :: d_step {
        !r_dead && r_connection == Current && r_room &&
        (!calm || (joined && empty(to_sender) && s == SENDER_PARKED)) ->
        to_sender!Beat,0
    }

    /* Time */
    :: atomic {
        !r_dead && (!calm || r_is_alone) &&
        (r_heard || r == STATE_CLOSED || r == STATE_SYNCING || !calm) ->
        r_do(EVENT_SILENT, silence_waits, silence_starts)
    }
    :: atomic {
        !r_dead && r == STATE_CLOSED ->
        r_do(EVENT_GRACE_OVER, close_waits, close_starts)
    }
    :: atomic {
        !r_dead && r == STATE_LEASED &&
        (!(s_acts && s_parks) ||
         (hello_is_nothing && r_connection != None && !r_confirmed)) ->
        d_step { wait_is_over() };
        r_do(EVENT_LEASE_OVER, true, false)
    }
    :: atomic {
        !r_dead && r == STATE_FENCING -> r_do(EVENT_UNANSWERED, true, false)
    }
    :: atomic {                 /* a timer of another time, not stopped */
        !calm && !r_dead ->
        if
        :: r != STATE_CLOSED -> r_do(EVENT_GRACE_OVER, true, true)
        :: r != STATE_LEASED -> r_do(EVENT_LEASE_OVER, true, false)
        :: r != STATE_FENCING -> r_do(EVENT_UNANSWERED, true, false)
        fi
    }

    /* Operators */
    :: atomic {
        !calm && !r_dead && r_room &&
        (trust || (failover && (r != STATE_SUSPECT || lease || s_dead))) ->
        r_do(EVENT_OPERATOR, true, false)
    }
    :: atomic {
        force && !calm && !r_dead -> r_do(EVENT_FORCED, true, false)
    }
    :: atomic {
        reset && !calm && !r_dead -> r_do(EVENT_RESET, true, false)
    }
    od
}

/* ---- The world ---------------------------------------------------------- */

/* What is left of a dead process is made the same each time. */
inline s_die()
{
    s_leave();
    s_dead = true;
    s_asleep = false;
    s_handing = 0;
    s_owed = false;
    s_overdue = false;
    s = SENDER_FAILED
}

/* Which process the receiver is, and how many there may be */
#define LIVES 3

bool undone;                    /* what a guest did whose receiver died */

inline r_die()
{
    undone = remembers && (undone || r == STATE_ACTIVE);
    r_dead = true;
    r_connection = None;
    r_confirmed = false;
    r_begun = false;
    r_held = NOTHING;
    r = (r == STATE_ACTIVE -> r : STATE_FAILED);
    old_hello = false;
    drain(to_receiver)
}

proctype World()
{
end:
    do
    :: atomic { s_guest_runs && r_guest_runs -> assert(never_two_guests) }
    :: atomic { s_guest_runs && undone -> assert(what_ran_is_not_undone) }
    :: atomic {
        always_runs && s_acts && holds[s] ->
        assert(the_guest_never_stands_still)
    }
    :: atomic {
        crashes && !calm && !s_dead ->
        printf("sender dies\n");
        d_step { s_die() };
        if
        :: r_connection != None -> close(to_receiver)
        :: else
        fi
    }
    :: atomic {
        crashes && !calm && !r_dead ->
        printf("receiver dies\n");
        if
        :: r_connection == Current -> close(to_sender)
        :: else
        fi;
        d_step { r_die() }
    }
    :: d_step {
        restarts && !calm && r_dead && r_life < LIVES &&
        (r != STATE_ACTIVE || !calms_down) ->       /* its guest is gone */
        printf("receiver is started again\n");
        r_dead = false;
        r_life++;
        r = STATE_LISTENING
    }
    :: d_step {
        sigstop && !calm && s_acts && !s_ended ->
        printf("sender sleeps\n");
        s_asleep = true
    }
    :: d_step {
        s_asleep ->
        printf("sender wakes\n");
        s_asleep = false;
        s_look_at_lease()
    }
    :: d_step {
        forged_ends && !calm && r_connection != None && s_room ->
        printf("the receiver's connection is ended\n");
        to_receiver!Close,0
    }
    :: d_step {
        forged_ends && !calm && s_connection == Up && r_room ->
        printf("the sender's connection is ended\n");
        to_sender!Close,0
    }
    :: d_step {
        reset_overtakes && !calm && to_sender?[Superseded,_] ->
        printf("SUPERSEDED is destroyed by a reset\n");
        to_sender?_,_;
        to_sender!Close,0
    }
    :: d_step { calms_down && !calm && !s_asleep -> calm = true }
    od
}

/* ---- What becomes of it ------------------------------------------------- */

#define both_alive (!s_dead && !r_dead)
#define is_protected (s == SENDER_PROTECTED && r == STATE_STANDBY && joined)
#define is_taken_over (s == SENDER_FENCED && r == STATE_ACTIVE)

/* A dead sender's guest was started, or there was none to start: no round was
 * whole, or it was lost or given up since. */
#define r_rests (r == STATE_ACTIVE || \
                 ((r == STATE_LISTENING || r == STATE_FAILED) && \
                  (s_received == NOTHING || failures || restarts || reset || \
                   ends)))
/* An operator has to decide. */
#define r_waits (r == STATE_SUSPECT && \
                 (failures || silence_waits || close_waits))
/* A receiver has to be started, or an operator to decide. */
#define s_rests (s == SENDER_ALONE || s == SENDER_PARKED || \
                 s == SENDER_HANDING || (s == SENDER_UNPROTECTED && !lease))

/* An operator has to say whether the guest ran at a receiver that died. */
#define s_waits (s == SENDER_FENCED && restarts && \
                 (r == STATE_LISTENING || r == STATE_FAILED))

/* Exactly one guest, and it is protected, or the other one is fenced; or the
 * session could not be begun. */
#define one_guest_is_well (both_alive && s_guest_runs != r_guest_runs && \
                           (is_protected || is_taken_over || \
                            s == SENDER_FAILED))
#define rest_is_well (s_dead && (r_dead || r_rests || r_waits)) || \
                     (!s_dead && r_dead && (s_rests || s_ended)) || \
                     (both_alive && s_waits) || \
                     (stopped_is_well && both_alive && s_ended && \
                      (r_rests || r == STATE_SUSPECT))

ltl gets_well { [] !calm || <> [] (one_guest_is_well || rest_is_well) }

init {
    d_step { configure() };
    atomic {
        run Sender();
        run Receiver();
        run World()
    }
}
