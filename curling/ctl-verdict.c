/*
 * How a pair stands
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "ctl-verdict.h"

CtlExit ctl_verdict_exit(CtlVerdict verdict)
{
    switch (verdict) {
    case CTL_VERDICT_PROTECTED:
        return CTL_EXIT_OK;
    case CTL_VERDICT_SYNCING:
        return CTL_EXIT_SYNCING;
    case CTL_VERDICT_UNPROTECTED:
        return CTL_EXIT_UNPROTECTED;
    case CTL_VERDICT_FAILED_OVER:
        return CTL_EXIT_FAILED_OVER;
    case CTL_VERDICT_UNKNOWN:
        break;
    }
    return CTL_EXIT_ERROR;
}

const char *ctl_verdict_word(CtlVerdict verdict)
{
    switch (verdict) {
    case CTL_VERDICT_PROTECTED:
        return "protected";
    case CTL_VERDICT_SYNCING:
        return "syncing";
    case CTL_VERDICT_UNPROTECTED:
        return "not protected";
    case CTL_VERDICT_FAILED_OVER:
        return "failed over";
    case CTL_VERDICT_UNKNOWN:
        break;
    }
    return "unknown";
}

/* What a person reads where QEMU's word for a state says little. */
static char *explain_sender(const char *state, const CtlEnd *sender)
{
    g_autofree char *last = ctl_quote(ctl_json_text(sender->info, "last-error",
                                                    ""), 300);
    const char *what;

    if (g_str_equal(state, "idle")) {
        return g_strdup("nobody protects this guest yet");
    }
    if (g_str_equal(state, "stopped")) {
        return g_strdup("protection was ended on request");
    }
    if (g_str_equal(state, "failed")) {
        what = "protection has failed";
    } else if (g_str_equal(state, "unprotected")) {
        what = "the receiver is lost or cannot follow; the sender goes on "
               "trying";
    } else {
        return g_strdup_printf("the sender's state is \"%s\", which this "
                               "curlingctl does not know", state);
    }
    return *last ? g_strdup_printf("%s: %s", what, last) : g_strdup(what);
}

/* The receiver's word where the sender does not give one. */
static CtlVerdict verdict_without_sender(CtlPair *pair, char **why)
{
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    const char *state = ctl_end_state(receiver);
    g_autoptr(GError) error = NULL;

    if (!ctl_end_need(ctl_pair_sender(pair), &error) &&
        g_error_matches(error, CTL_ERROR, CTL_ERROR_NO_COMMAND)) {
        *why = g_strdup(error->message);
        return CTL_VERDICT_UNPROTECTED;
    }
    if (g_str_equal(state, "suspect")) {
        *why = g_strdup("the receiver does not hear its sender; if that is "
                        "dead, \"curlingctl failover\" starts the guest");
        return CTL_VERDICT_UNPROTECTED;
    }
    if (g_str_equal(state, "failed") || g_str_equal(state, "listening")) {
        *why = g_strdup_printf("the receiver holds no round it could start "
                               "(%s), and the sender does not answer", state);
        return CTL_VERDICT_UNPROTECTED;
    }
    *why = g_strdup(error ? error->message : "no answer");
    return CTL_VERDICT_UNKNOWN;
}

/* Does @receiver say that it has nothing to do with @sender's session? */
static bool is_stranger(const CtlEnd *sender, const CtlEnd *receiver)
{
    const char *one = ctl_json_text(sender->info, "session", NULL);
    const char *other = ctl_json_text(receiver->info, "session", NULL);

    if (one && other) {
        return !g_str_equal(one, other);
    }
    return receiver->info &&
           (!g_str_equal(ctl_end_role(receiver), "receiver") ||
            g_str_equal(ctl_end_state(receiver), "listening"));
}

bool ctl_pair_is_mismatched(CtlPair *pair, GError **err)
{
    const CtlEnd *sender = ctl_pair_sender(pair);
    const CtlEnd *receiver = ctl_pair_receiver(pair);

    if (!ctl_end_has_session(sender) || !is_stranger(sender, receiver)) {
        return false;
    }
    g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s has a receiver at %s, "
                "which is not %s: these two are no pair",
                sender->endpoint->text,
                ctl_json_text(sender->info, "address", "?"),
                receiver->endpoint->text);
    return true;
}

static bool runs(const CtlEnd *end)
{
    return g_str_equal(ctl_json_text(end->status, "status", ""), "running");
}

/* The receiver runs the guest, or the sender thinks so. */
static char *explain_failover(CtlPair *pair)
{
    const CtlEnd *sender = ctl_pair_sender(pair);
    const CtlEnd *receiver = ctl_pair_receiver(pair);

    if (!g_str_equal(ctl_end_state(receiver), "active")) {
        return g_strdup("the sender's guest is fenced: the receiver runs it, "
                        "or may run it");
    }
    if (runs(sender) && runs(receiver)) {
        return g_strdup_printf("BOTH run the guest: the receiver took over, "
                               "and the sender does not know; end the QEMU at "
                               "%s", sender->endpoint->text);
    }
    return g_strdup("the receiver took over and runs the guest; \"curlingctl "
                    "protect\" protects it to a new receiver");
}

/* Both hold it, and nothing is stuck? */
static CtlVerdict verdict_of_protected(CtlPair *pair, char **why)
{
    const CtlEnd *sender = ctl_pair_sender(pair);
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    const char *lagging = ctl_json_text(sender->info, "lagging", NULL);

    if (is_stranger(sender, receiver)) {
        *why = g_strdup_printf("the guest is protected by another receiver, at "
                               "%s: these two are no pair",
                               ctl_json_text(sender->info, "address", "?"));
        return CTL_VERDICT_UNPROTECTED;
    }
    if (!lagging) {
        lagging = ctl_json_text(receiver->info, "lagging", NULL);
    }
    if (lagging) {
        *why = ctl_quote(lagging, 300);
        return CTL_VERDICT_UNPROTECTED;
    }
    return CTL_VERDICT_PROTECTED;
}

CtlVerdict ctl_pair_verdict(CtlPair *pair, char **why)
{
    const CtlEnd *sender = ctl_pair_sender(pair);
    const char *state = ctl_end_state(sender);
    g_autofree char *unused = NULL;

    why = why ? why : &unused;
    *why = NULL;
    if (g_str_equal(ctl_end_state(ctl_pair_receiver(pair)), "active") ||
        g_str_equal(state, "fenced")) {
        *why = explain_failover(pair);
        return CTL_VERDICT_FAILED_OVER;
    }
    if (!sender->info) {
        return verdict_without_sender(pair, why);
    }
    /* It says active as long as it is no sender, of a guest it took over. */
    if (g_str_equal(state, "active")) {
        *why = g_strdup("it took the guest over, and nobody protects it yet");
        return CTL_VERDICT_FAILED_OVER;
    }
    if (g_str_equal(ctl_end_role(sender), "receiver")) {
        *why = g_strdup_printf("neither of the two runs the guest: %s is a "
                               "receiver itself", sender->endpoint->text);
        return CTL_VERDICT_UNPROTECTED;
    }
    if (g_str_equal(state, "protected")) {
        return verdict_of_protected(pair, why);
    }
    if (g_str_equal(state, "connecting") || g_str_equal(state, "syncing")) {
        return CTL_VERDICT_SYNCING;
    }
    *why = explain_sender(state, sender);
    return CTL_VERDICT_UNPROTECTED;
}
