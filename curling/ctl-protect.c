/*
 * curlingctl protect: protect a guest, and wait until it is
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl-change.h"
#include "ctl-examine.h"
#include "ctl-options.h"
#include "ctl-report.h"
#include "ctl-session.h"

#define LOOK_MS 200             /* between two looks at the first round */
#define UNDO_MS 5000            /* what is undone waits for no end longer */

static char *address;
static char *interval;
static char **set_options;
static gboolean allow_plaintext;
static gboolean replace;

static const GOptionEntry entries[] = {
    { "address", 0, 0, G_OPTION_ARG_STRING, &address,
      "where the receiver listens, or is to listen", "URI" },
    { "interval", 0, 0, G_OPTION_ARG_STRING, &interval,
      "from one round to the next (100ms)", "TIME" },
    { "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &set_options,
      "change another setting first; may be given again", "NAME=VALUE" },
    { "allow-plaintext", 0, 0, G_OPTION_ARG_NONE, &allow_plaintext,
      "let rounds cross a network that are not encrypted", NULL },
    { "replace", 0, 0, G_OPTION_ARG_NONE, &replace,
      "end a session whose receiver is lost; make sure that it is dead",
      NULL },
    { NULL }
};

/* A setting that is changed at one end, and what it was there. */
typedef struct Change {
    CtlEnd *end;
    const CtlSetting *setting;
    CtlJson *value;
    CtlJson *before;            /* NULL: QEMU did not tell */
    bool changed;
} Change;

typedef struct Protect {
    CtlPair *pair;
    CtlEnd *sender;             /* as they were when it began */
    CtlEnd *receiver;
    char *uri;
    GPtrArray *changes;
    bool ended_before;          /* --replace ended a session */
    bool told_to_listen;        /* migrate-incoming was said */
    bool begun;                 /* migrate was said */
    char *address;              /* the sender's word for @uri, from then on */
    int64_t syncing_since_us;   /* 0: not now */
    CtlDeadline connected_by;
} Protect;

static bool was_refused(const GError *why)
{
    return g_error_matches(why, CTL_ERROR, CTL_ERROR_REFUSED) ||
           g_error_matches(why, CTL_ERROR, CTL_ERROR_NO_COMMAND);
}

/* ---- Settings ----------------------------------------------------------- */

static void change_free(void *opaque)
{
    Change *change = opaque;

    ctl_json_free(change->value);
    ctl_json_free(change->before);
    g_free(change);
}

static bool add_setting(Protect *p, const char *name, const char *text,
                        GError **err)
{
    const CtlSetting *setting = ctl_setting_find(name, err);
    g_autoptr(CtlJson) value = NULL;

    if (!setting) {
        return false;
    }
    value = ctl_setting_parse(setting, name, text, err);
    if (!value) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        CtlEnd *end = i ? p->receiver : p->sender;

        if (setting->side & (i ? CTL_SIDE_RECEIVER : CTL_SIDE_SENDER)) {
            Change *change = g_new0(Change, 1);

            change->end = end;
            change->setting = setting;
            change->value = ctl_json_ref(value);
            g_ptr_array_add(p->changes, change);
        }
    }
    return true;
}

/* Those of pairs.conf, then those of the command line. */
static bool add_settings(Protect *p, GError **err)
{
    const GPtrArray *own = p->pair->settings;

    for (guint i = 0; i + 1 < own->len; i += 2) {
        if (!add_setting(p, g_ptr_array_index(own, i),
                         g_ptr_array_index(own, i + 1), err)) {
            return false;
        }
    }
    if (interval && !add_setting(p, "interval", interval, err)) {
        return false;
    }
    for (char **option = set_options; option && *option; option++) {
        g_auto(GStrv) parts = g_strsplit(*option, "=", 2);

        if (g_strv_length(parts) != 2) {
            g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "--set %s: expected "
                        "NAME=VALUE", *option);
            return false;
        }
        if (!add_setting(p, parts[0], parts[1], err)) {
            return false;
        }
    }
    return true;
}

static bool change_settings(Protect *p, GError **err)
{
    for (guint i = 0; i < p->changes->len; i++) {
        Change *change = g_ptr_array_index(p->changes, i);
        const CtlJson *before = ctl_json_get(change->end->info,
                                             change->setting->qmp);
        g_autofree char *now = NULL;
        GError *why = NULL;

        change->before = before ? ctl_json_ref(before) : NULL;
        now = ctl_change(change->end, change->setting, change->value,
                         ctl_deadline(), &why);
        /* Unless QEMU said no, it may have been changed. */
        change->changed = now || !was_refused(why);
        if (!now) {
            g_propagate_error(err, why);
            return false;
        }
    }
    return true;
}

/* The last one first, as one may be changed twice.  False: some are as they
 * were set. */
static bool change_back(Protect *p)
{
    bool all = true;

    for (guint i = p->changes->len; i-- > 0;) {
        Change *change = g_ptr_array_index(p->changes, i);

        if (change->changed) {
            g_autofree char *now =
                change->before && ctl_end_need(change->end, NULL) ?
                ctl_change(change->end, change->setting, change->before,
                           ctl_deadline(), NULL) : NULL;

            all = all && now;
        }
    }
    return all;
}

/* The last word on disks: what will be set, or @now. */
static bool accepts_disks(const Protect *p, bool now)
{
    for (guint i = p->changes->len; i-- > 0;) {
        const Change *change = g_ptr_array_index(p->changes, i);

        if (g_str_equal(change->setting->qmp, "disks")) {
            return g_str_equal(ctl_json_text(change->value, NULL, ""),
                               "unsafe-ahead");
        }
    }
    return now;
}

/* ---- Undoing ------------------------------------------------------------ */

static bool has_touched(const Protect *p)
{
    for (guint i = 0; i < p->changes->len; i++) {
        const Change *change = g_ptr_array_index(p->changes, i);

        if (change->changed) {
            return true;
        }
    }
    return p->begun || p->told_to_listen || p->ended_before;
}

/* What is undone has a time of its own. */
static void begin_undoing(void)
{
    ctl_interrupt_clear();
    if (ctl_options.timeout_ms == 0 || ctl_options.timeout_ms > UNDO_MS) {
        ctl_options.timeout_ms = UNDO_MS;
    }
}

/* How the sender is left, for a person. */
static char *tell_sender(Protect *p)
{
    const char *where = p->sender->endpoint->text;

    if (!ctl_end_need(p->sender, NULL)) {
        return g_strdup_printf("%s does not answer, so its session may go on; "
                               "see curlingctl status", where);
    }
    if (ctl_end_has_session(p->sender)) {
        return g_strdup_printf("the session of %s goes on (%s)", where,
                               ctl_end_state(p->sender));
    }
    if (g_str_equal(ctl_end_state(p->sender), "fenced")) {
        return g_strdup_printf("the guest is fenced at %s: the receiver runs "
                               "it, or may run it", where);
    }
    return g_strdup_printf("the guest is at %s (%s), not protected", where,
                           ctl_json_text(p->sender->status, "status", "?"));
}

/* Whatever was begun is ended; says on stderr what state that leaves. */
static void undo(Protect *p)
{
    g_autofree char *sender = NULL;
    bool settings;
    bool was;

    begin_undoing();
    ctl_end_ask(p->sender, ctl_deadline(), NULL);
    if (p->begun) {
        ctl_session_end(p->sender, &was, NULL);
    }
    ctl_end_ask(p->receiver, ctl_deadline(), NULL);
    ctl_end_ask(p->sender, ctl_deadline(), NULL);
    sender = tell_sender(p);
    settings = change_back(p);
    ctl_complain(p->pair->name, "%s%s%s%s", sender, settings ? "" :
                 "; not all settings could be put back", p->told_to_listen ?
                 "; the receiver goes on listening" : "", p->ended_before ?
                 "; its session with the receiver before is ended" : "");
}

/* ---- Beginning ---------------------------------------------------------- */

/* Does the sender go to where this receiver listens, which then is a process
 * that took the place of the one before? */
static bool goes_there(Protect *p)
{
    CtlExamination wanted = { .measure = false };
    g_autofree char *uri = NULL;

    if (!g_str_equal(ctl_end_state(p->receiver), "listening")) {
        return false;
    }
    ctl_pair_examination(p->pair, address, allow_plaintext, &wanted);
    uri = ctl_address_of(p->pair, wanted.address, NULL);
    return uri && g_str_equal(uri, ctl_json_text(p->sender->info, "address",
                                                 ""));
}

/*
 * Does a session with this receiver go on already, or will it, as the sender
 * tries to get there?  An error: one with another receiver, unless it is lost
 * and to be replaced.
 */
static bool has_begun(Protect *p, GError **err)
{
    const char *where = p->sender->endpoint->text;
    g_autofree char *to = ctl_quote(ctl_json_text(p->sender->info, "address",
                                                  "?"), 200);

    if (!ctl_end_has_session(p->sender) || !ctl_end_need(p->receiver, err)) {
        return false;
    }
    if (ctl_pair_has_session(p->pair) || goes_there(p)) {
        return true;
    }
    if (!ctl_end_has_lost_receiver(p->sender)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is in a session with "
                    "another receiver already, at %s; end that first: "
                    "curlingctl unprotect", where, to);
    } else if (!replace) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s has lost its "
                    "receiver at %s, which may live, hold a round and start "
                    "the guest; make sure that it is dead, and say --replace",
                    where, to);
    }
    return false;
}

static bool is_listening(CtlEnd *receiver, void *opaque, GError **err)
{
    (void)opaque;
    return ctl_end_need(receiver, err) &&
           g_str_equal(ctl_end_state(receiver), "listening");
}

/* Port 0 was any: the receiver says which one it took.  The host stays as it
 * was given, as what was examined. */
static bool take_port(Protect *p, GError **err)
{
    g_autofree char *bound = NULL;
    char *port = strrchr(p->uri, ':');

    if (!g_str_has_prefix(p->uri, "curling:tcp:") ||
        !g_str_equal(port, ":0")) {
        return true;
    }
    bound = ctl_address_of(p->pair, NULL, err);
    if (!bound) {
        return false;
    }
    *port = '\0';
    port = g_strconcat(p->uri, strrchr(bound, ':'), NULL);
    g_free(p->uri);
    p->uri = port;
    return true;
}

/* It is told the address, and tells which port it took. */
static bool have_it_listen(Protect *p, GError **err)
{
    g_autoptr(CtlJson) done =
        ctl_qmp_call(p->receiver->qmp, ctl_deadline(), err, "migrate-incoming",
                     "{s:s}", "uri", p->uri);

    if (!done) {
        return false;
    }
    p->told_to_listen = true;
    if (!ctl_end_wait(p->receiver, is_listening, NULL, true, ctl_deadline(),
                      err)) {
        return false;
    }
    return take_port(p, err);
}

static bool examine(Protect *p, GError **err)
{
    CtlExamination wanted = { .measure = false };
    g_autoptr(GPtrArray) findings = NULL;

    ctl_pair_examination(p->pair, address, allow_plaintext, &wanted);
    wanted.disks_accepted = accepts_disks(p, wanted.disks_accepted);
    findings = ctl_examine(p->pair, &wanted, err);
    if (!findings) {
        return false;
    }
    ctl_report_findings(stderr, findings, CTL_SEVERITY_WARNING);
    if (ctl_examine_failed(findings)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "this pair cannot be "
                    "protected as it is");
        return false;
    }
    p->uri = ctl_address_of(p->pair, wanted.address, err);
    return p->uri;
}

/* With --replace, and only what has no receiver now. */
static bool end_before(Protect *p, GError **err)
{
    if (!ctl_end_ask(p->sender, ctl_deadline(), err) ||
        !ctl_end_need(p->sender, err)) {
        return false;
    }
    if (!ctl_end_has_session(p->sender)) {
        return true;
    }
    if (!replace || !ctl_end_has_lost_receiver(p->sender)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is in a session with "
                    "another receiver now", p->sender->endpoint->text);
        return false;
    }
    return ctl_session_end(p->sender, &p->ended_before, err) &&
           ctl_end_ask(p->sender, ctl_deadline(), err);
}

static bool begin(Protect *p, GError **err)
{
    g_autoptr(CtlJson) done = NULL;
    GError *why = NULL;

    if (!examine(p, err) || !change_settings(p, err) || !end_before(p, err) ||
        (ctl_is_deferred(p->receiver) && !have_it_listen(p, err))) {
        return false;
    }
    done = ctl_qmp_call(p->sender->qmp, ctl_deadline(), &why, "migrate",
                        "{s:s}", "uri", p->uri);
    /* Unless QEMU said no, it may have begun. */
    p->begun = !was_refused(why);
    if (why) {
        g_propagate_error(err, why);
    }
    return done;
}

/* ---- Waiting ------------------------------------------------------------ */

static void show_progress(Protect *p, const CtlJson *migration)
{
    int64_t total = ctl_json_amount(migration, "ram.total");
    int64_t left = ctl_json_amount(migration, "ram.remaining");

    if (total > 0 && left >= 0 && left <= total) {
        ctl_report_progress(total - left, total, g_get_monotonic_time() -
                            p->syncing_since_us);
    }
}

/* The first round takes as long as it takes, and shows how far it is. */
static void look_at_round(Protect *p, GError **err)
{
    g_autoptr(CtlJson) migration = NULL;

    if (!p->syncing_since_us) {
        p->syncing_since_us = g_get_monotonic_time();
    }
    migration = ctl_qmp_call(p->sender->qmp, ctl_deadline(), err,
                             "query-migrate", NULL);
    show_progress(p, migration);
}

/* To reach the receiver has an end, also when it is lost in the round. */
static void look_for_receiver(Protect *p, const char *last, GError **err)
{
    if (p->syncing_since_us) {
        p->syncing_since_us = 0;
        p->connected_by = ctl_deadline();
        ctl_report_progress_end();
        ctl_complain(p->pair->name, "the receiver is lost in the first round "
                     "(%s); the sender tries again", last);
    }
    if (g_get_monotonic_time() >= p->connected_by) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "the receiver cannot be "
                    "reached at %s: %s", p->uri, last);
    }
}

/* QEMU has words of its own for an address; what it said first was ours. */
static bool goes_where_it_went(Protect *p)
{
    const char *now = ctl_json_text(p->sender->info, "address", NULL);

    if (!p->address) {
        p->address = g_strdup(now);
    }
    return !now || g_str_equal(now, p->address);
}

/* One look.  True: protected.  Else goes on unless @err is set. */
static bool look(Protect *p, GError **err)
{
    g_autofree char *last = NULL;
    const char *state;

    if (!ctl_end_ask(p->sender, ctl_deadline(), err) ||
        !ctl_end_need(p->sender, err)) {
        return false;
    }
    state = ctl_end_state(p->sender);
    last = ctl_quote(ctl_json_text(p->sender->info, "last-error",
                                   "no reason given"), 400);
    if (!ctl_end_has_session(p->sender)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s cannot protect its "
                    "guest: %s", p->sender->endpoint->text, last);
    } else if (!goes_where_it_went(p)) {
        p->begun = false;
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "somebody else has begun "
                    "another session of %s", p->sender->endpoint->text);
    } else if (g_str_equal(state, "protected")) {
        return true;
    } else if (g_str_equal(state, "syncing")) {
        look_at_round(p, err);
    } else {
        look_for_receiver(p, last, err);
    }
    return false;
}

static bool wait_protected(Protect *p, GError **err)
{
    GError *why = NULL;

    p->connected_by = ctl_deadline();
    for (;;) {
        bool there = look(p, &why);

        /* Others may look as well. */
        ctl_pair_close(p->pair);
        if (there || why || !ctl_sleep(LOOK_MS, &why)) {
            ctl_report_progress_end();
            if (why) {
                g_propagate_error(err, why);
            }
            return there;
        }
    }
}

static void print_summary(Protect *p)
{
    const CtlJson *info = ctl_pair_sender(p->pair)->info;
    g_autofree char *every =
        ctl_kind_format(CTL_KIND_TIME, ctl_json_int(info, "interval-ms", 0));

    ctl_say("protected: a round every %s, to %s\n",
            g_str_equal(every, "0") ? "moment" : every,
            ctl_json_text(info, "address", "?"));
}

/* Of a guest that is protected, or will be without us, only settings
 * change, and are what is undone. */
static bool join(Protect *p)
{
    g_autofree char *sender = NULL;
    GError *why = NULL;
    bool settings;

    p->uri = g_strdup(ctl_json_text(p->sender->info, "address", "?"));
    if (change_settings(p, &why) && wait_protected(p, &why)) {
        return true;
    }
    begin_undoing();
    ctl_end_ask(p->sender, ctl_deadline(), NULL);
    ctl_end_ask(p->receiver, ctl_deadline(), NULL);
    ctl_complain(p->pair->name, "%s", why->message);
    g_error_free(why);
    sender = tell_sender(p);
    settings = change_back(p);
    ctl_complain(p->pair->name, "%s; %s", sender, settings ?
                 "settings are as before" :
                 "not all settings could be put back");
    return false;
}

static bool run(Protect *p, GError **err)
{
    GError *why = NULL;
    bool begun;

    if (!ctl_pair_ask(p->pair, ctl_deadline(), err)) {
        return false;
    }
    p->sender = ctl_pair_sender(p->pair);
    p->receiver = ctl_pair_receiver(p->pair);
    if (p->pair->swapped) {
        ctl_complain(p->pair->name, "roles have swapped: the sender is %s now",
                     p->sender->endpoint->text);
    }
    begun = has_begun(p, &why);
    if (!why && add_settings(p, &why)) {
        if (begun) {
            return join(p);
        }
        if (begin(p, &why) && wait_protected(p, &why)) {
            return true;
        }
    }
    if (has_touched(p)) {
        ctl_complain(p->pair->name, "%s", why->message);
        g_error_free(why);
        undo(p);
        return false;
    }
    g_propagate_error(err, g_error_new(why->domain, why->code, "%s; nothing "
                                       "was changed", why->message));
    g_error_free(why);
    return false;
}

int ctl_protect_main(int argc, char **argv)
{
    Protect p = { NULL };
    GError *err = NULL;
    int status = CTL_EXIT_OK;

    p.pair = ctl_options_parse_pair(
        "URI is curling:tcp:HOST:PORT or curling:unix:PATH.\n"
        "Examines both ends as doctor does, and refuses what would not work.  "
        "Of a guest\nthat is protected already it waits for that and changes "
        "settings.  Ctrl-C undoes\nwhat was begun.", entries, 0, 0, &argc,
        &argv, &err);
    if (!p.pair) {
        return ctl_fail(NULL, err);
    }
    p.changes = g_ptr_array_new_with_free_func(change_free);
    if (run(&p, &err)) {
        print_summary(&p);
    } else {
        status = err ? ctl_fail(p.pair->name, err) : CTL_EXIT_ERROR;
    }
    g_ptr_array_unref(p.changes);
    g_free(p.uri);
    g_free(p.address);
    ctl_pair_free(p.pair);
    return status;
}
