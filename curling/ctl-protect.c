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

#define LOOK_MS 200

static char *address;
static char *interval;
static char **set_options;
static gboolean allow_plaintext;

static const GOptionEntry entries[] = {
    { "address", 0, 0, G_OPTION_ARG_STRING, &address,
      "where the receiver listens, or is to listen", "URI" },
    { "interval", 0, 0, G_OPTION_ARG_STRING, &interval,
      "from one round to the next (100ms)", "TIME" },
    { "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &set_options,
      "change another setting first; may be given again", "NAME=VALUE" },
    { "allow-plaintext", 0, 0, G_OPTION_ARG_NONE, &allow_plaintext,
      "let rounds cross a network that are not encrypted", NULL },
    { NULL }
};

/* A setting that is changed at one end, and what it was there. */
typedef struct Change {
    CtlEnd *end;
    const CtlSetting *setting;
    CtlJson *value;
    CtlJson *before;            /* once it was changed */
} Change;

typedef struct Protect {
    CtlPair *pair;
    char *uri;
    GPtrArray *changes;
    bool begun;                 /* migrate was said */
    bool told_to_listen;        /* migrate-incoming was said */
    bool seen_syncing;
    int64_t began_us;
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
        CtlEnd *end = i ? ctl_pair_receiver(p->pair) : ctl_pair_sender(p->pair);

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
        now = ctl_change(change->end, change->setting, change->value, &why);
        if (!now) {
            if (was_refused(why)) {
                ctl_json_free(change->before);
                change->before = NULL;
            }
            g_propagate_error(err, why);
            return false;
        }
    }
    return true;
}

/* The last one first, as one may be changed twice. */
static void change_back(Protect *p)
{
    for (guint i = p->changes->len; i-- > 0;) {
        Change *change = g_ptr_array_index(p->changes, i);

        if (change->before && change->end->qmp) {
            g_autofree char *now = ctl_change(change->end, change->setting,
                                              change->before, NULL);
        }
    }
}

static bool has_touched(const Protect *p)
{
    for (guint i = 0; i < p->changes->len; i++) {
        const Change *change = g_ptr_array_index(p->changes, i);

        if (change->before) {
            return true;
        }
    }
    return p->begun || p->told_to_listen;
}

static bool accepts_disks(const Protect *p)
{
    for (guint i = 0; i < p->changes->len; i++) {
        const Change *change = g_ptr_array_index(p->changes, i);

        if (g_str_equal(change->setting->qmp, "disks")) {
            return g_str_equal(ctl_json_text(change->value, NULL, ""),
                               "unsafe-ahead");
        }
    }
    return false;
}

/* ---- Undoing ------------------------------------------------------------ */

/* Whatever was begun is ended; says on stderr what state that leaves. */
static void undo(Protect *p)
{
    g_autoptr(GError) why = NULL;
    bool was = false;

    ctl_interrupt_clear();
    if (!ctl_pair_ask(p->pair, ctl_deadline(), &why)) {
        ctl_complain(p->pair->name, "what was begun is not undone; see "
                     "curlingctl status");
        return;
    }
    change_back(p);
    if (p->begun && !ctl_session_end(p->pair, &was, &why)) {
        ctl_complain(p->pair->name, "the session could not be ended: %s",
                     why->message);
        return;
    }
    ctl_complain(p->pair->name, "the guest runs on at %s, not protected%s",
                 ctl_pair_sender(p->pair)->endpoint->text,
                 p->told_to_listen ? "; the receiver goes on listening" : "");
}

/* ---- Beginning ---------------------------------------------------------- */

static bool is_one_of(const char *text, const char *a, const char *b,
                      const char *c)
{
    return g_str_equal(text, a) || g_str_equal(text, b) ||
           g_str_equal(text, c);
}

/* It tries to reach a receiver, and none holds its guest. */
static bool is_alone(const CtlEnd *sender)
{
    return g_str_equal(ctl_end_role(sender), "sender") &&
           (g_str_equal(ctl_end_state(sender), "unprotected") ||
            g_str_equal(ctl_end_state(sender), "connecting"));
}

static bool is_in_session(const CtlEnd *sender)
{
    return is_alone(sender) ||
           (g_str_equal(ctl_end_role(sender), "sender") &&
            (g_str_equal(ctl_end_state(sender), "protected") ||
             g_str_equal(ctl_end_state(sender), "syncing")));
}

static bool has_same_session(CtlPair *pair)
{
    const char *one = ctl_json_text(ctl_pair_sender(pair)->info, "session",
                                    NULL);
    const char *other = ctl_json_text(ctl_pair_receiver(pair)->info,
                                      "session", NULL);

    return one && other && g_str_equal(one, other);
}

/* Does the sender go to where this receiver listens? */
static bool goes_there(Protect *p)
{
    CtlExamination wanted = { .hosts = false };
    g_autofree char *uri = NULL;

    ctl_pair_examination(p->pair, address, allow_plaintext, &wanted);
    uri = ctl_address_of(p->pair, wanted.address, NULL);
    return uri && g_str_equal(uri, ctl_json_text(
        ctl_pair_sender(p->pair)->info, "address", ""));
}

/*
 * Does a session with this receiver go on already, or will it, as the sender
 * tries to get there?  One that has lost its receiver is ended, so that
 * another one can begin.
 */
static bool has_begun(Protect *p, GError **err)
{
    CtlEnd *sender = ctl_pair_sender(p->pair);
    bool was;

    if (!is_in_session(sender)) {
        return false;
    }
    if (!ctl_end_need(ctl_pair_receiver(p->pair), err)) {
        return false;
    }
    if (has_same_session(p->pair) || (is_alone(sender) && goes_there(p))) {
        return true;
    }
    if (!is_alone(sender)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is in a session with "
                    "another receiver already, at %s; end that first: "
                    "curlingctl unprotect", sender->endpoint->text,
                    ctl_json_text(sender->info, "address", "?"));
        return false;
    }
    ctl_complain(p->pair->name, "the session with the receiver at %s, which is "
                 "lost, is ended",
                 ctl_json_text(sender->info, "address", "?"));
    if (ctl_session_end(p->pair, &was, err)) {
        ctl_pair_ask(p->pair, ctl_deadline(), err);
    }
    return false;
}

static bool is_listening(CtlEnd *receiver, void *opaque, GError **err)
{
    (void)opaque;
    return ctl_end_need(receiver, err) &&
           g_str_equal(ctl_end_state(receiver), "listening");
}

static bool have_it_listen(Protect *p, GError **err)
{
    CtlEnd *receiver = ctl_pair_receiver(p->pair);
    g_autoptr(CtlJson) done =
        ctl_qmp_call(receiver->qmp, ctl_deadline(), err, "migrate-incoming",
                     "{s:s}", "uri", p->uri);

    if (!done) {
        return false;
    }
    p->told_to_listen = true;
    return ctl_end_wait(receiver, is_listening, NULL, true, ctl_deadline(),
                        err);
}

static bool begin(Protect *p, GError **err)
{
    CtlExamination wanted = { .hosts = false };
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(CtlJson) done = NULL;
    GError *why = NULL;

    ctl_pair_examination(p->pair, address, allow_plaintext, &wanted);
    wanted.disks_accepted = wanted.disks_accepted || accepts_disks(p);
    findings = ctl_examine(p->pair, &wanted, err);
    if (!findings) {
        return false;
    }
    ctl_report_findings(stderr, findings, CTL_SEVERITY_WARNING);
    if (ctl_examine_failed(findings)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "this pair cannot be "
                    "protected as it is; nothing was changed");
        return false;
    }
    p->uri = ctl_address_of(p->pair, wanted.address, err);
    if (!p->uri || !change_settings(p, err) ||
        (ctl_is_deferred(ctl_pair_receiver(p->pair)) &&
         !have_it_listen(p, err))) {
        return false;
    }
    done = ctl_qmp_call(ctl_pair_sender(p->pair)->qmp, ctl_deadline(), &why,
                        "migrate", "{s:s}", "uri", p->uri);
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
    uint64_t total = ctl_json_int(migration, "ram.total", 0);
    uint64_t left = ctl_json_int(migration, "ram.remaining", 0);

    if (total && left <= total) {
        ctl_report_progress(total - left, total,
                            g_get_monotonic_time() - p->began_us);
    }
}

static bool has_failed(const char *state)
{
    return is_one_of(state, "failed", "stopped", "fenced") ||
           g_str_equal(state, "idle");
}

/* One look.  True: protected.  Else goes on unless @err is set. */
static bool look(Protect *p, CtlDeadline connected_by, GError **err)
{
    CtlEnd *sender = ctl_pair_sender(p->pair);
    g_autoptr(CtlJson) migration = NULL;
    g_autofree char *last = NULL;
    const char *state;

    if (!ctl_pair_ask(p->pair, ctl_deadline(), err) ||
        !ctl_end_need(sender, err)) {
        return false;
    }
    state = ctl_end_state(sender);
    last = ctl_quote(ctl_json_text(sender->info, "last-error",
                                   "no reason given"), 400);
    if (g_str_equal(state, "protected")) {
        return true;
    }
    if (has_failed(state)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s cannot protect its "
                    "guest: %s", sender->endpoint->text, last);
        return false;
    }
    if (g_str_equal(state, "syncing")) {
        if (!p->seen_syncing) {
            p->seen_syncing = true;
            p->began_us = g_get_monotonic_time();
        }
        migration = ctl_qmp_call(sender->qmp, ctl_deadline(), err,
                                 "query-migrate", NULL);
        show_progress(p, migration);
    } else if (!p->seen_syncing && g_get_monotonic_time() >= connected_by) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_TIMEOUT, "the receiver cannot be "
                    "reached at %s: %s", p->uri, last);
    }
    return false;
}

static bool wait_protected(Protect *p, GError **err)
{
    CtlDeadline connected_by = ctl_deadline();
    GError *why = NULL;

    p->began_us = g_get_monotonic_time();
    for (;;) {
        bool there = look(p, connected_by, &why);

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

    printf("protected: a round every %s, to %s\n",
           g_str_equal(every, "0") ? "moment" : every,
           ctl_json_text(info, "address", "?"));
}

static bool run(Protect *p, GError **err)
{
    bool begun;
    GError *why = NULL;

    if (!ctl_pair_ask(p->pair, ctl_deadline(), err)) {
        return false;
    }
    if (p->pair->swapped) {
        ctl_complain(p->pair->name, "roles have swapped: the sender is %s now",
                     ctl_pair_sender(p->pair)->endpoint->text);
    }
    begun = has_begun(p, &why);
    if (why || !add_settings(p, &why)) {
        g_propagate_error(err, why);
        return false;
    }
    if (begun) {
        p->uri = g_strdup(ctl_json_text(ctl_pair_sender(p->pair)->info,
                                        "address", "?"));
        /* It was not begun here, so it is not undone here. */
        return change_settings(p, err) && wait_protected(p, err);
    }
    if (begin(p, &why) && wait_protected(p, &why)) {
        return true;
    }
    if (has_touched(p)) {
        ctl_complain(p->pair->name, "%s", why->message);
        g_clear_error(&why);
        undo(p);
    } else {
        g_propagate_error(err, why);
    }
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
    ctl_pair_free(p.pair);
    return status;
}
