/*
 * A pair: the two QEMUs that a command is about
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "ctl-pair.h"

/* Whoever waits for an end looks at it so often. */
#define LOOK_MS 100

void ctl_pair_free(CtlPair *pair)
{
    if (!pair) {
        return;
    }
    ctl_pair_close(pair);
    for (int i = 0; i < 2; i++) {
        ctl_json_free(pair->ends[i].info);
        ctl_json_free(pair->ends[i].status);
        g_clear_error(&pair->ends[i].error);
        ctl_endpoint_free(pair->ends[i].endpoint);
    }
    if (pair->settings) {
        g_ptr_array_unref(pair->settings);
    }
    g_free(pair->name);
    g_free(pair->address);
    g_free(pair->back_address);
    g_free(pair);
}

CtlPair *ctl_pair_new(const char *name)
{
    CtlPair *pair = g_new0(CtlPair, 1);

    pair->name = g_strdup(name);
    pair->settings = g_ptr_array_new_with_free_func(g_free);
    return pair;
}

/* ---- Asking ------------------------------------------------------------- */

/* A connection that failed is of no use for the next question. */
static void end_open(CtlEnd *end)
{
    if (end->qmp && ctl_qmp_has_failed(end->qmp, NULL)) {
        ctl_end_close(end);
    }
    if (!end->qmp) {
        end->qmp = ctl_qmp_open(end->endpoint);
    }
}

void ctl_end_close(CtlEnd *end)
{
    ctl_qmp_close(end->qmp);
    end->qmp = NULL;
}

void ctl_pair_close(CtlPair *pair)
{
    for (int i = 0; i < 2; i++) {
        ctl_end_close(&pair->ends[i]);
    }
}

static void begin_questions(CtlEnd *end)
{
    ctl_json_free(end->info);
    ctl_json_free(end->status);
    end->info = NULL;
    end->status = NULL;
    g_clear_error(&end->error);
    end_open(end);
    ctl_qmp_ask(end->qmp, "query-status", NULL);
}

/* What cannot be of QEMU's query-curling is no answer. */
static void check_info(CtlEnd *end)
{
    if (end->info && (!*ctl_end_state(end) || !*ctl_end_role(end))) {
        ctl_json_free(end->info);
        end->info = NULL;
        end->error = g_error_new(CTL_ERROR, CTL_ERROR_BAD_PEER, "%s: its "
                                 "answer to query-curling has no role and "
                                 "state; is this QEMU?", end->endpoint->text);
    }
}

/* Go on with the questions to @end as far as they are answered.  True: there
 * is no more to ask. */
static bool step_end(CtlEnd *end)
{
    while (!end->error && !end->info && ctl_qmp_has_answer(end->qmp)) {
        CtlJson *answer = ctl_qmp_take_answer(end->qmp, &end->error);

        if (end->status) {
            end->info = answer;
            check_info(end);
        } else {
            end->status = answer;
            if (answer) {
                ctl_qmp_ask(end->qmp, "query-curling", NULL);
            }
        }
    }
    return end->error || end->info;
}

/* What @why has cut short; NULL: nobody wants to know any more. */
static void end_questions(CtlEnd *end, const GError *why)
{
    if (!end->error && !end->info) {
        if (why) {
            ctl_qmp_give_up(end->qmp, why);
            ctl_qmp_has_failed(end->qmp, &end->error);
        } else {
            end->error = g_error_new(CTL_ERROR, CTL_ERROR_TIMEOUT, "%s: no "
                                     "answer yet", end->endpoint->text);
            ctl_end_close(end);
        }
    }
}

bool ctl_end_has_session(const CtlEnd *end)
{
    static const char *const states[] = {
        "connecting", "syncing", "protected", "unprotected", NULL
    };

    return g_str_equal(ctl_end_role(end), "sender") &&
           g_strv_contains(states, ctl_end_state(end));
}

bool ctl_end_has_lost_receiver(const CtlEnd *end)
{
    return ctl_end_has_session(end) &&
           g_str_equal(ctl_end_state(end), "unprotected");
}

static bool has_round(const CtlEnd *end)
{
    static const char *const states[] = {
        "standby", "suspect", "active", NULL
    };

    return g_str_equal(ctl_end_role(end), "receiver") &&
           g_strv_contains(states, ctl_end_state(end));
}

/* Has @end said that it is what is wanted? */
static bool is_wanted(const CtlEnd *end, CtlWanted wanted)
{
    switch (wanted) {
    case CTL_WANT_SENDER:
        return ctl_end_has_session(end);
    case CTL_WANT_RECEIVER:
        return has_round(end);
    }
    return false;
}

bool ctl_pair_has_session(CtlPair *pair)
{
    const char *one = ctl_json_text(pair->ends[0].info, "session", NULL);
    const char *other = ctl_json_text(pair->ends[1].info, "session", NULL);

    return one && other && g_str_equal(one, other);
}

/*
 * Have the roles swapped?  They have if the one that is called receiver is a
 * sender, or runs the guest, and the other one is in its session, or gone, or
 * waits for a sender; or if that one says nothing and the other one waits for
 * it as a receiver.
 */
static bool have_swapped(CtlPair *pair)
{
    const CtlEnd *called_sender = &pair->ends[0];
    const CtlEnd *called_receiver = &pair->ends[1];
    bool waits = g_str_equal(ctl_end_role(called_sender), "receiver") ||
                 g_str_equal(ctl_json_text(called_sender->status, "status",
                                           ""), "inmigrate");

    if (!called_receiver->info) {
        return g_str_equal(ctl_end_role(called_sender), "receiver") &&
               !g_str_equal(ctl_end_state(called_sender), "active");
    }
    if (g_str_equal(ctl_end_role(called_receiver), "sender")) {
        return waits || !called_sender->info;
    }
    return g_str_equal(ctl_end_state(called_receiver), "active") && waits;
}

typedef struct Questions {
    CtlPair **pairs;
    size_t number;
    const CtlWanted *wanted;    /* NULL: wait for all of them */
    bool close;                 /* who has answered */
} Questions;

static bool are_answered(void *opaque)
{
    Questions *questions = opaque;
    bool done = true;

    for (size_t i = 0; i < questions->number * 2; i++) {
        CtlEnd *end = &questions->pairs[i / 2]->ends[i % 2];

        if (!step_end(end)) {
            done = false;
        } else if (questions->close) {
            ctl_end_close(end);
        } else if (questions->wanted && is_wanted(end, *questions->wanted)) {
            return true;
        }
    }
    return done;
}

static bool ask(Questions *questions, CtlDeadline deadline, GError **err)
{
    g_autoptr(GError) why = NULL;

    for (size_t i = 0; i < questions->number * 2; i++) {
        begin_questions(&questions->pairs[i / 2]->ends[i % 2]);
    }
    ctl_wait(are_answered, questions, deadline, &why);
    for (size_t i = 0; i < questions->number * 2; i++) {
        CtlEnd *end = &questions->pairs[i / 2]->ends[i % 2];

        end_questions(end, why);
        if (questions->close) {
            ctl_end_close(end);
        }
    }
    for (size_t i = 0; i < questions->number; i++) {
        questions->pairs[i]->swapped = have_swapped(questions->pairs[i]);
    }
    if (g_error_matches(why, CTL_ERROR, CTL_ERROR_INTERRUPTED)) {
        g_propagate_error(err, g_steal_pointer(&why));
        return false;
    }
    return true;
}

bool ctl_pair_ask_all(CtlPair **pairs, size_t number, CtlDeadline deadline,
                      GError **err)
{
    Questions questions = { pairs, number, NULL, true };

    return ask(&questions, deadline, err);
}

bool ctl_pair_ask(CtlPair *pair, CtlDeadline deadline, GError **err)
{
    Questions questions = { &pair, 1, NULL, false };

    return ask(&questions, deadline, err);
}

bool ctl_pair_ask_for(CtlPair *pair, CtlWanted wanted, CtlDeadline deadline,
                      GError **err)
{
    Questions questions = { &pair, 1, &wanted, false };

    return ask(&questions, deadline, err);
}

static bool is_end_answered(void *opaque)
{
    return step_end(opaque);
}

bool ctl_end_ask(CtlEnd *end, CtlDeadline deadline, GError **err)
{
    g_autoptr(GError) why = NULL;

    begin_questions(end);
    ctl_wait(is_end_answered, end, deadline, &why);
    end_questions(end, why);
    if (g_error_matches(why, CTL_ERROR, CTL_ERROR_INTERRUPTED)) {
        g_propagate_error(err, g_steal_pointer(&why));
        return false;
    }
    return true;
}

bool ctl_end_wait(CtlEnd *end, CtlEndCondition *holds, void *opaque,
                  bool stay_open, CtlDeadline deadline, GError **err)
{
    for (;;) {
        GError *why = NULL;

        if (!ctl_end_ask(end, MIN(deadline, ctl_deadline()), err)) {
            return false;
        }
        if (!stay_open) {
            ctl_end_close(end);
        }
        if (holds(end, opaque, &why)) {
            return true;
        }
        if (why) {
            g_propagate_error(err, why);
            return false;
        }
        if (g_get_monotonic_time() >= deadline) {
            g_set_error_literal(err, CTL_ERROR, CTL_ERROR_TIMEOUT,
                                "it takes too long");
            return false;
        }
        if (!ctl_sleep(LOOK_MS, err)) {
            return false;
        }
    }
}

CtlEnd *ctl_pair_sender(CtlPair *pair)
{
    return &pair->ends[pair->swapped];
}

CtlEnd *ctl_pair_receiver(CtlPair *pair)
{
    return &pair->ends[!pair->swapped];
}

const char *ctl_pair_role_of(CtlPair *pair, const CtlEnd *end)
{
    return end == ctl_pair_sender(pair) ? "sender" : "receiver";
}

bool ctl_end_need(const CtlEnd *end, GError **err)
{
    if (g_error_matches(end->error, CTL_ERROR, CTL_ERROR_NO_COMMAND)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_NO_COMMAND, "%s: this QEMU has "
                    "no Curling; start the guest in one that has it, or "
                    "migrate it there first (curlingctl doctor says how)",
                    end->endpoint->text);
        return false;
    }
    if (!end->info && !end->error) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "%s: no answer yet",
                    end->endpoint->text);
        return false;
    }
    if (!end->info) {
        g_propagate_error(err, g_error_copy(end->error));
        return false;
    }
    return true;
}

bool ctl_pair_need_both(CtlPair *pair, GError **err)
{
    return ctl_end_need(&pair->ends[0], err) &&
           ctl_end_need(&pair->ends[1], err);
}

const char *ctl_end_state(const CtlEnd *end)
{
    return ctl_json_text(end->info, "state", "");
}

const char *ctl_end_role(const CtlEnd *end)
{
    return ctl_json_text(end->info, "role", "");
}
