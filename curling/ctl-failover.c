/*
 * curlingctl failover: start the guest at the receiver
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <unistd.h>
#include "ctl-options.h"
#include "ctl-session.h"

static gboolean yes;
static gboolean force;

static const GOptionEntry entries[] = {
    { "yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "do not ask", NULL },
    { "force", 0, 0, G_OPTION_ARG_NONE, &force,
      "do not ask the sender, and do not wait for its lease", NULL },
    { NULL }
};

/* On stderr, where a person is even if stdout goes elsewhere. */
static void print_question(CtlPair *pair)
{
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    bool heard = g_str_equal(ctl_end_state(receiver), "standby");
    int64_t lag_ms = ctl_json_amount(receiver->info, "lag-ms");
    g_autofree char *age = ctl_about_time(1000 * MAX(lag_ms, 0));

    fprintf(stderr, "Start the guest at %s?\n"
            "It goes on from round %" G_GINT64_FORMAT ", which is %s old.\n",
            receiver->endpoint->text,
            ctl_json_int(receiver->info, "last-round.number", 0), age);
    fputs(force ? "The sender is not asked: if its guest runs, two of them "
          "run until it hears of it.\n" : heard ?
          "The sender lives: it stops its guest and hands it over, with "
          "nothing lost.\n" :
          "The receiver does not hear the sender.  If that still runs, two "
          "guests run.\n", stderr);
    fputs("[y/N] ", stderr);
}

/* Ctrl-C is an answer too. */
static bool ask_person(CtlPair *pair, GError **err)
{
    char line[16] = "";

    print_question(pair);
    if (!ctl_wait_readable(STDIN_FILENO, CTL_NEVER, NULL) ||
        !fgets(line, sizeof(line), stdin) ||
        (line[0] != 'y' && line[0] != 'Y')) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "nothing was done");
        return false;
    }
    return true;
}

static bool may_begin(CtlPair *pair, GError **err)
{
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    const char *state = ctl_end_state(receiver);

    if (!ctl_end_need(receiver, err)) {
        return false;
    }
    if (!g_str_equal(state, "standby") && !g_str_equal(state, "suspect")) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s holds no round that "
                    "it could start the guest from; its state is \"%s\"",
                    receiver->endpoint->text, state);
        return false;
    }
    return true;
}

/* The answer counts for what was shown, if that is still so. */
static bool ask_and_look_again(CtlPair *pair, GError **err)
{
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    g_autofree char *state = g_strdup(ctl_end_state(receiver));

    /* Others have their turn while a person thinks. */
    ctl_pair_close(pair);
    if (!ask_person(pair, err) ||
        !ctl_pair_ask_for(pair, CTL_WANT_RECEIVER, ctl_deadline(), err) ||
        !may_begin(pair, err)) {
        return false;
    }
    if (ctl_pair_receiver(pair) != receiver ||
        !g_str_equal(ctl_end_state(receiver), state)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is not \"%s\" any "
                    "more; nothing was done, say it again",
                    receiver->endpoint->text, state);
        return false;
    }
    return true;
}

int ctl_failover_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;

    pair = ctl_options_parse_pair("Asks first, on a terminal; elsewhere it "
                                  "needs --yes.", entries, 0, 0, &argc, &argv,
                                  &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!yes && !isatty(STDIN_FILENO)) {
        ctl_complain(pair->name, "failover asks first, and nobody is there to "
                     "answer; say --yes");
        return CTL_EXIT_USAGE;
    }
    if (!ctl_pair_ask_for(pair, CTL_WANT_RECEIVER, ctl_deadline(), &err)) {
        return ctl_fail(pair->name, err);
    }
    for (int i = 0; i < 2; i++) {
        if (g_str_equal(ctl_end_state(&pair->ends[i]), "active")) {
            ctl_say("the guest runs at %s already\n",
                    pair->ends[i].endpoint->text);
            return CTL_EXIT_OK;
        }
    }
    if (!may_begin(pair, &err)) {
        return ctl_fail(pair->name, err);
    }
    if (!yes && !ask_and_look_again(pair, &err)) {
        return ctl_fail(pair->name, err);
    }
    if (!ctl_session_take_over(pair, force, &err)) {
        return ctl_fail(pair->name, err);
    }
    ctl_say("the guest runs at %s\n",
            ctl_pair_receiver(pair)->endpoint->text);
    return CTL_EXIT_OK;
}
