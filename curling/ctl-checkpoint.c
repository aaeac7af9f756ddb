/*
 * curlingctl checkpoint: take a round now, and wait until it is committed
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"

typedef struct Wanted {
    int64_t round;
    char *session;
} Wanted;

static bool is_committed(CtlEnd *sender, void *opaque, GError **err)
{
    const Wanted *wanted = opaque;

    if (!ctl_end_need(sender, err)) {
        return false;
    }
    if (g_strcmp0(ctl_json_text(sender->info, "session", NULL),
                  wanted->session)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "the session has ended "
                    "before round %" G_GINT64_FORMAT " was at the receiver; "
                    "see curlingctl status", wanted->round);
        return false;
    }
    return ctl_json_int(sender->info, "last-round.number", -1) >=
           wanted->round;
}

static int take_round(CtlPair *pair, GError **err)
{
    CtlEnd *sender = ctl_pair_sender(pair);
    g_autoptr(CtlJson) answer = NULL;
    g_autofree char *session = NULL;
    Wanted wanted;
    GError *why = NULL;

    if (!ctl_end_need(sender, err)) {
        return CTL_EXIT_ERROR;
    }
    answer = ctl_qmp_call(sender->qmp, ctl_deadline(), err,
                          "curling-checkpoint", NULL);
    if (!answer) {
        return CTL_EXIT_ERROR;
    }
    session = g_strdup(ctl_json_text(sender->info, "session", NULL));
    wanted.session = session;
    wanted.round = ctl_json_int(answer, "round", 0);
    if (!ctl_end_wait(sender, is_committed, &wanted, false, ctl_deadline(),
                      &why)) {
        if (g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
            g_clear_error(&why);
            g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "round %"
                        G_GINT64_FORMAT " is not at the receiver yet; see "
                        "curlingctl status, or wait longer (--timeout)",
                        wanted.round);
        } else {
            g_propagate_error(err, why);
        }
        return CTL_EXIT_ERROR;
    }
    ctl_say("round %" G_GINT64_FORMAT " is at the receiver\n", wanted.round);
    return CTL_EXIT_OK;
}

int ctl_checkpoint_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;
    int status;

    pair = ctl_options_parse_pair("The guest's state in that round is not "
                                  "older than this command.", NULL, 0, 0,
                                  &argc, &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_pair_ask_for(pair, CTL_WANT_SENDER, ctl_deadline(), &err)) {
        return ctl_fail(pair->name, err);
    }
    status = take_round(pair, &err);
    return err ? ctl_fail(pair->name, err) : status;
}
