/*
 * What is done to a session: end it, have the guest go over to the receiver
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "ctl-session.h"

/* ---- Its end ------------------------------------------------------------ */

static bool has_ended(CtlEnd *sender, void *opaque, GError **err)
{
    (void)opaque;
    return ctl_end_need(sender, err) && !ctl_end_has_session(sender);
}

bool ctl_session_end(CtlEnd *sender, bool *was, GError **err)
{
    g_autoptr(CtlJson) done = NULL;
    GError *why = NULL;

    *was = false;
    if (!ctl_end_need(sender, err)) {
        return false;
    }
    if (g_str_equal(ctl_end_state(sender), "fenced")) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is fenced: the "
                    "receiver runs its guest, or may run it; quit that QEMU",
                    sender->endpoint->text);
        return false;
    }
    if (!ctl_end_has_session(sender)) {
        return true;
    }
    done = ctl_qmp_call(sender->qmp, ctl_deadline(), err, "migrate_cancel",
                        NULL);
    if (!done) {
        return false;
    }
    *was = true;
    if (!ctl_end_wait(sender, has_ended, NULL, false, ctl_deadline(), &why)) {
        if (g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
            g_clear_error(&why);
            g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "%s was told to end "
                        "its session and has not yet; see curlingctl status",
                        sender->endpoint->text);
        } else {
            g_propagate_error(err, why);
        }
        return false;
    }
    return true;
}

/* ---- The guest goes over ------------------------------------------------ */

static void note_event(const CtlJson *event, void *opaque)
{
    char **refusal = opaque;

    if (g_str_equal(ctl_json_text(event, "event", ""),
                    "CURLING_NOT_HANDED_OVER") && !*refusal) {
        *refusal = ctl_quote(ctl_json_text(event, "data.reason",
                                           "no reason given"), 400);
    }
}

static bool runs_guest(CtlEnd *receiver, void *opaque, GError **err)
{
    char **refusal = opaque;

    if (g_str_equal(ctl_end_state(receiver), "active")) {
        return true;
    }
    if (*refusal) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "the guest was not "
                    "handed over: %s", *refusal);
    } else if (ctl_end_need(receiver, err) &&
               g_str_equal(ctl_end_state(receiver), "failed")) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s could not start the "
                    "guest: %s", receiver->endpoint->text,
                    ctl_json_text(receiver->info, "last-error",
                                  "no reason given"));
    }
    return false;
}

/* Say @command at @end, and wait for the receiver. */
static bool go_over(CtlPair *pair, CtlEnd *end, const char *command,
                    CtlJson *arguments, GError **err)
{
    CtlEnd *receiver = ctl_pair_receiver(pair);
    g_autofree char *refusal = NULL;
    g_autoptr(CtlJson) done = NULL;
    g_autoptr(GError) why = NULL;
    bool runs;

    ctl_qmp_on_event(end->qmp, note_event, &refusal);
    done = ctl_qmp_call_json(end->qmp, ctl_deadline(), err, command,
                             arguments);
    if (!done) {
        ctl_pair_close(pair);
        return false;
    }
    runs = ctl_end_wait(receiver, runs_guest, &refusal, true, ctl_deadline(),
                        &why);
    if (!runs && g_error_matches(why, CTL_ERROR, CTL_ERROR_TIMEOUT)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "the receiver does not "
                    "run the guest yet%s; see curlingctl status",
                    g_str_equal(ctl_json_text(receiver->info, "guard", ""),
                                "lease") ?
                    ": it waits until the sender's lease is over" : "");
    } else if (!runs && g_error_matches(why, CTL_ERROR,
                                        CTL_ERROR_INTERRUPTED)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_INTERRUPTED, "interrupted: the "
                    "guest is on its way to %s; see curlingctl status",
                    receiver->endpoint->text);
    } else if (!runs) {
        g_propagate_error(err, g_steal_pointer(&why));
    }
    /* Events have nobody to go to any more. */
    ctl_pair_close(pair);
    return runs;
}

bool ctl_session_take_over(CtlPair *pair, bool force, GError **err)
{
    return go_over(pair, ctl_pair_receiver(pair), "curling-failover",
                   ctl_json_new("{s:b}", "force", force), err);
}

bool ctl_session_hand_over(CtlPair *pair, GError **err)
{
    return go_over(pair, ctl_pair_sender(pair), "curling-switchover", NULL,
                   err);
}
