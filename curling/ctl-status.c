/*
 * curlingctl status: how pairs stand
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"
#include "ctl-pairsconf.h"
#include "ctl-verdict.h"

static gboolean as_json;

static const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "as JSON: a list of pairs",
      NULL },
    { NULL }
};

static const char *pair_title(const CtlPair *pair)
{
    return pair->name ? pair->name : "the pair";
}

/* "round 12, 35 ms ago", or "". */
static char *round_words(const CtlEnd *end)
{
    int64_t round = ctl_json_int(end->info, "last-round.number", -1);
    int64_t lag_ms = ctl_json_amount(end->info, "lag-ms");
    g_autofree char *lag = NULL;

    if (round < 0) {
        return g_strdup("");
    }
    if (lag_ms < 0) {
        return g_strdup_printf("round %" G_GINT64_FORMAT, round);
    }
    lag = ctl_about_time(lag_ms * 1000);
    return g_strdup_printf("round %" G_GINT64_FORMAT ", %s old", round, lag);
}

static void print_end(CtlPair *pair, const CtlEnd *end)
{
    g_autofree char *round = round_words(end);
    g_autoptr(GError) why = NULL;

    ctl_say("  %-9s %s: ", ctl_pair_role_of(pair, end), end->endpoint->text);
    if (!ctl_end_need(end, &why)) {
        /* The sentence begins with the endpoint too. */
        const char *text = why->message;

        if (g_str_has_prefix(text, end->endpoint->text)) {
            text += strlen(end->endpoint->text) + 2;
        }
        ctl_say("%s\n", text);
        return;
    }
    ctl_say("%s%s%s, guest %s\n", ctl_end_state(end), *round ? ", " : "", round,
            ctl_json_text(end->status, "status", "?"));
}

static void print_figures(const CtlJson *info)
{
    static const char *const parts[] = { "p50", "p99", "max" };

    if (ctl_json_get(info, "pause-us.p50")) {
        ctl_say("  pauses   ");
        for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
            g_autofree char *path = g_strconcat("pause-us.", parts[i], NULL);
            g_autofree char *time = ctl_about_time(ctl_json_int(info, path,
                                                                0));

            ctl_say("%s %s %s", i ? "," : "", parts[i], time);
        }
        ctl_say("\n");
    }
    if (ctl_json_get(info, "last-round")) {
        g_autofree char *bytes =
            ctl_about_bytes(MAX(ctl_json_amount(info, "last-round.bytes"), 0));
        g_autofree char *ship =
            ctl_about_time(MAX(ctl_json_amount(info, "last-round.ship-us"), 0));

        ctl_say("  a round   %" G_GINT64_FORMAT " dirty pages, %s sent, at the "
                "receiver after %s\n",
                ctl_json_int(info, "last-round.dirty-pages", 0), bytes, ship);
    }
}

static void print_warnings(const CtlJson *info)
{
    const CtlJson *warnings = ctl_json_get(info, "warnings");

    for (size_t i = 0; i < ctl_json_count(warnings, NULL); i++) {
        g_autofree char *text = ctl_quote(ctl_json_text(
            ctl_json_at(warnings, i), NULL, ""), 300);

        ctl_say("  warning   %s\n", text);
    }
}

static void print_connection(CtlPair *pair)
{
    const CtlJson *sender = ctl_pair_sender(pair)->info;
    const CtlJson *receiver = ctl_pair_receiver(pair)->info;
    const char *address = ctl_json_text(sender, "address", NULL);
    g_autofree char *quoted = NULL;

    if (!address) {
        address = ctl_json_text(receiver, "address", NULL);
    }
    if (!address || g_str_equal(ctl_end_state(ctl_pair_receiver(pair)),
                                "active")) {
        return;
    }
    quoted = ctl_quote(address, 200);
    ctl_say("  rounds    to %s, %s", quoted, ctl_json_bool(sender, "tls") ?
            "encrypted" : "not encrypted");
    if (receiver) {
        ctl_say("; on silence: %s, guard: %s",
                ctl_json_text(receiver, "on-silence", "?"),
                ctl_json_text(receiver, "guard", "?"));
    }
    ctl_say("\n");
}

static void print_screen(CtlPair *pair)
{
    g_autofree char *why = NULL;
    CtlVerdict verdict = ctl_pair_verdict(pair, &why);

    ctl_say("%s: %s%s%s\n", pair_title(pair), ctl_verdict_word(verdict),
            why ? ": " : "", why ? why : "");
    if (pair->swapped) {
        ctl_say("  roles     have swapped: the sender is %s now\n",
                ctl_pair_sender(pair)->endpoint->text);
    }
    print_end(pair, ctl_pair_sender(pair));
    print_end(pair, ctl_pair_receiver(pair));
    print_connection(pair);
    print_figures(ctl_pair_sender(pair)->info);
    print_warnings(ctl_pair_sender(pair)->info);
}

static void print_row(CtlPair *pair)
{
    g_autofree char *why = NULL;
    CtlVerdict verdict = ctl_pair_verdict(pair, &why);
    const CtlEnd *sender = ctl_pair_sender(pair);
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    int64_t lag_ms = ctl_json_amount(sender->info, "lag-ms");
    g_autofree char *lag = lag_ms < 0 ? g_strdup("-") :
                           ctl_about_time(lag_ms * 1000);

    ctl_say("%-16s %-14s %-12s %-12s %-8s%s\n", pair_title(pair),
            ctl_verdict_word(verdict),
            *ctl_end_state(sender) ? ctl_end_state(sender) : "no answer",
            *ctl_end_state(receiver) ? ctl_end_state(receiver) : "no answer",
            lag, pair->swapped ? " swapped" : "");
}

static CtlJson *end_json(const CtlEnd *end)
{
    g_autoptr(GError) why = NULL;
    CtlJson *json = ctl_json_new("{s:s}", "endpoint", end->endpoint->text);

    if (end->status) {
        ctl_json_set(json, "status", ctl_json_ref(end->status));
    }
    if (end->info) {
        ctl_json_set(json, "curling", ctl_json_ref(end->info));
    }
    if (!ctl_end_need(end, &why)) {
        ctl_json_set(json, "error", ctl_json_new("s", why->message));
    }
    return json;
}

static CtlJson *pair_json(CtlPair *pair)
{
    g_autofree char *why = NULL;
    CtlVerdict verdict = ctl_pair_verdict(pair, &why);
    CtlJson *json = ctl_json_new("{s:s, s:i, s:b}", "state",
                                 ctl_verdict_word(verdict), "exit-status",
                                 ctl_verdict_exit(verdict), "swapped",
                                 pair->swapped);

    if (pair->name) {
        ctl_json_set(json, "pair", ctl_json_new("s", pair->name));
    }
    if (why) {
        ctl_json_set(json, "reason", ctl_json_new("s", why));
    }
    ctl_json_set(json, "sender", end_json(ctl_pair_sender(pair)));
    ctl_json_set(json, "receiver", end_json(ctl_pair_receiver(pair)));
    return json;
}

/* One that cannot be read does not hide the others: it is complained of, and
 * *@status says so. */
static void add_pair(GPtrArray *pairs, const char *name, CtlExit *status)
{
    GError *err = NULL;
    CtlPair *pair = ctl_pair_find_roughly(name, &err);

    if (pair) {
        g_ptr_array_add(pairs, pair);
    } else {
        *status = ctl_exit_worse(*status, ctl_fail(NULL, err));
    }
}

static void add_all_pairs(GPtrArray *pairs, CtlExit *status)
{
    GError *err = NULL;
    g_auto(GStrv) names = ctl_pair_names(&err);

    if (err) {
        *status = ctl_exit_worse(*status, ctl_fail(NULL, err));
    } else if (!*names) {
        ctl_complain(NULL, "no pairs are configured; name them in "
                     "pairs.conf(5), or give --sender and --receiver");
        *status = CTL_EXIT_USAGE;
    }
    for (char **name = names; *name; name++) {
        add_pair(pairs, *name, status);
    }
}

/* The pairs that the command line names, or all of pairs.conf. */
static GPtrArray *find_pairs(int argc, char **argv, CtlExit *status)
{
    GPtrArray *pairs =
        g_ptr_array_new_with_free_func((GDestroyNotify)ctl_pair_free);

    if (argc == 0 && (ctl_sender_option || ctl_receiver_option)) {
        add_pair(pairs, NULL, status);
    } else if (argc == 0) {
        add_all_pairs(pairs, status);
    }
    for (int i = 0; i < argc; i++) {
        add_pair(pairs, argv[i], status);
    }
    return pairs;
}

static void print_pairs(GPtrArray *pairs, bool as_table)
{
    g_autoptr(CtlJson) list = NULL;
    g_autofree char *text = NULL;

    if (as_json) {
        list = ctl_json_new("[]");
        for (guint i = 0; i < pairs->len; i++) {
            ctl_json_append(list, pair_json(g_ptr_array_index(pairs, i)));
        }
        text = ctl_json_dump(list);
        ctl_say("%s\n", text);
    } else if (!as_table) {
        print_screen(g_ptr_array_index(pairs, 0));
    } else {
        ctl_say("%-16s %-14s %-12s %-12s %s\n", "pair", "state", "sender",
                "receiver", "lag");
        for (guint i = 0; i < pairs->len; i++) {
            print_row(g_ptr_array_index(pairs, i));
        }
    }
}

int ctl_status_main(int argc, char **argv)
{
    g_autoptr(GPtrArray) pairs = NULL;
    GError *err = NULL;
    CtlExit status = CTL_EXIT_OK;

    if (!ctl_options_parse(
            "Without a name all pairs of pairs.conf are told.  Exit status: 0 "
            "protected,\n3 connecting or syncing, 4 not protected, 5 failed "
            "over, 1 error, 2 usage;\nof several pairs the worst.", entries,
            true, &argc, &argv, &err)) {
        return ctl_fail(NULL, err);
    }
    pairs = find_pairs(argc, argv, &status);
    if (pairs->len == 0) {
        return status;
    }
    if (!ctl_pair_ask_all((CtlPair **)pairs->pdata, pairs->len, ctl_deadline(),
                          &err)) {
        return ctl_fail(NULL, err);
    }
    /* One that was named is told in full. */
    print_pairs(pairs, pairs->len > 1 || (argc == 0 && !ctl_sender_option));
    for (guint i = 0; i < pairs->len; i++) {
        CtlPair *pair = g_ptr_array_index(pairs, i);

        status = ctl_exit_worse(status, ctl_verdict_exit(
                                ctl_pair_verdict(pair, NULL)));
    }
    return status;
}
