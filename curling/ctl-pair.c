/*
 * A pair: the two QEMUs that a command is about
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-pair.h"
#include "ctl-setting.h"

/* Whoever waits for a pair looks at it so often. */
#define LOOK_MS 100

/* ---- pairs.conf --------------------------------------------------------- */

static const char *const pair_keys[] = {
    "sender", "receiver", "address", "back-address", "allow-plaintext", NULL
};

/* The files, the first one first: a name counts where it comes first. */
static char **conf_paths(void)
{
    const char *given = g_getenv("CURLING_PAIRS");
    char **paths = g_new0(char *, 3);

    if (given && *given) {
        paths[0] = g_strdup(given);
        return paths;
    }
    paths[0] = g_build_filename(g_get_user_config_dir(), "curling",
                                "pairs.conf", NULL);
    paths[1] = g_strdup("/etc/curling/pairs.conf");
    return paths;
}

/* NULL without @err: there is no such file. */
static GKeyFile *read_conf(const char *path, GError **err)
{
    g_autoptr(GKeyFile) conf = g_key_file_new();
    GError *why = NULL;

    if (g_key_file_load_from_file(conf, path, G_KEY_FILE_NONE, &why)) {
        return g_steal_pointer(&conf);
    }
    if (!g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s: %s", path,
                    why->message);
    }
    g_error_free(why);
    return NULL;
}

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

static CtlPair *pair_new(const char *name)
{
    CtlPair *pair = g_new0(CtlPair, 1);

    pair->name = g_strdup(name);
    pair->settings = g_ptr_array_new_with_free_func(g_free);
    return pair;
}

static bool check_endpoints(const CtlPair *pair, GError **err)
{
    if (g_str_equal(pair->ends[0].endpoint->text,
                    pair->ends[1].endpoint->text)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "sender and receiver are "
                    "both %s; they are two QEMUs",
                    pair->ends[0].endpoint->text);
        return false;
    }
    return true;
}

/* *@to stays NULL where @key is missing; false: @err, it is no text. */
static bool take_text(CtlPair *pair, GKeyFile *conf, const char *key,
                      char **to, GError **err)
{
    if (!g_key_file_has_key(conf, pair->name, key, NULL)) {
        return true;
    }
    *to = g_key_file_get_string(conf, pair->name, key, err);
    return *to;
}

static bool take_endpoint(CtlPair *pair, GKeyFile *conf, int index,
                          const char *key, GError **err)
{
    g_autofree char *text = NULL;

    if (!take_text(pair, conf, key, &text, err)) {
        return false;
    }
    if (!text) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "pair %s has no \"%s\"",
                    pair->name, key);
        return false;
    }
    pair->ends[index].endpoint = ctl_endpoint_parse(text, err);
    return pair->ends[index].endpoint;
}

/* A key that is a setting, or is taken for one. */
static bool take_setting(CtlPair *pair, GKeyFile *conf, const char *key,
                         GError **err)
{
    g_autofree char *text = NULL;
    const char *nearest = ctl_nearest(key, pair_keys);
    const CtlSetting *setting = ctl_setting_find(key, nearest ? NULL : err);
    g_autoptr(CtlJson) value = NULL;

    if (!setting) {
        if (nearest) {
            g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "unknown key %s; "
                        "did you mean %s?", key, nearest);
        }
        return false;
    }
    if (!take_text(pair, conf, key, &text, err)) {
        return false;
    }
    value = ctl_setting_parse(setting, key, text, err);
    if (!value) {
        return false;
    }
    g_ptr_array_add(pair->settings, g_strdup(key));
    g_ptr_array_add(pair->settings, g_steal_pointer(&text));
    return true;
}

static bool take_settings(CtlPair *pair, GKeyFile *conf, GError **err)
{
    g_auto(GStrv) keys = g_key_file_get_keys(conf, pair->name, NULL, NULL);

    for (char **key = keys; *key; key++) {
        if (!g_strv_contains(pair_keys, *key) &&
            !take_setting(pair, conf, *key, err)) {
            return false;
        }
    }
    return true;
}

static bool take_keys(CtlPair *pair, GKeyFile *conf, GError **err)
{
    GError *why = NULL;

    if (!take_text(pair, conf, "address", &pair->address, err) ||
        !take_text(pair, conf, "back-address", &pair->back_address, err)) {
        return false;
    }
    pair->allow_plaintext = g_key_file_get_boolean(conf, pair->name,
                                                   "allow-plaintext", &why);
    if (g_error_matches(why, G_KEY_FILE_ERROR,
                        G_KEY_FILE_ERROR_INVALID_VALUE)) {
        g_error_free(why);
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "allow-plaintext is "
                    "true or false");
        return false;
    }
    g_clear_error(&why);
    return take_endpoint(pair, conf, 0, "sender", err) &&
           take_endpoint(pair, conf, 1, "receiver", err) &&
           check_endpoints(pair, err);
}

/* @rough: settings that are wrong are only complained of. */
static CtlPair *pair_from_conf(GKeyFile *conf, const char *path,
                               const char *name, bool rough, GError **err)
{
    g_autoptr(CtlPair) pair = pair_new(name);
    GError *why = NULL;

    if (!take_settings(pair, conf, &why) && rough) {
        ctl_complain(name, "%s: %s", path, why->message);
        g_clear_error(&why);
    }
    if (why || !take_keys(pair, conf, &why)) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s: [%s]: %s", path,
                    name, why->message);
        g_error_free(why);
        return NULL;
    }
    return g_steal_pointer(&pair);
}

char **ctl_pair_names(GError **err)
{
    g_auto(GStrv) paths = conf_paths();
    GPtrArray *names = g_ptr_array_new();

    for (char **path = paths; *path; path++) {
        g_autoptr(GKeyFile) conf = read_conf(*path, err && *err ? NULL : err);
        g_auto(GStrv) groups = conf ? g_key_file_get_groups(conf, NULL) : NULL;

        for (char **group = groups; group && *group; group++) {
            if (!g_ptr_array_find_with_equal_func(names, *group, g_str_equal,
                                                  NULL)) {
                g_ptr_array_add(names, g_strdup(*group));
            }
        }
    }
    g_ptr_array_sort(names, ctl_compare_words);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static CtlPair *find_named(const char *name, bool rough, GError **err)
{
    g_auto(GStrv) paths = conf_paths();
    g_auto(GStrv) names = NULL;
    g_autofree char *quoted = ctl_quote(name, 60);
    const char *nearest;

    for (char **path = paths; *path; path++) {
        GError *why = NULL;
        g_autoptr(GKeyFile) conf = read_conf(*path, &why);

        if (why) {
            g_propagate_error(err, why);
            return NULL;
        }
        if (conf && g_key_file_has_group(conf, name)) {
            return pair_from_conf(conf, *path, name, rough, err);
        }
    }
    names = ctl_pair_names(NULL);
    nearest = ctl_nearest(name, (const char *const *)names);
    if (nearest) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "unknown pair %s; did you "
                    "mean %s?", quoted, nearest);
    } else {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "unknown pair %s; pairs "
                    "are named in %s, or give --sender and --receiver", quoted,
                    paths[0]);
    }
    return NULL;
}

static CtlPair *find_pair(const char *name, bool rough, GError **err)
{
    g_autoptr(CtlPair) pair = NULL;
    g_auto(GStrv) names = NULL;
    GError *why = NULL;

    if (!ctl_sender_option && !ctl_receiver_option) {
        if (name) {
            return find_named(name, rough, err);
        }
        names = ctl_pair_names(&why);
        if (why) {
            g_propagate_error(err, why);
            return NULL;
        }
        if (g_strv_length(names) == 1) {
            return find_named(names[0], rough, err);
        }
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, names[0] ? "which pair? "
                    "Name one of those in pairs.conf, or give --sender and "
                    "--receiver" : "which pair? Give --sender and --receiver");
        return NULL;
    }
    if (name || !ctl_sender_option || !ctl_receiver_option) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, name ? "a pair is given "
                    "by its name or by --sender and --receiver, not both" :
                    "--sender and --receiver go together");
        return NULL;
    }
    pair = pair_new(NULL);
    pair->ends[0].endpoint = ctl_endpoint_parse(ctl_sender_option, err);
    if (!pair->ends[0].endpoint) {
        return NULL;
    }
    pair->ends[1].endpoint = ctl_endpoint_parse(ctl_receiver_option, err);
    if (!pair->ends[1].endpoint || !check_endpoints(pair, err)) {
        return NULL;
    }
    return g_steal_pointer(&pair);
}

CtlPair *ctl_pair_find(const char *name, GError **err)
{
    return find_pair(name, false, err);
}

CtlPair *ctl_pair_find_roughly(const char *name, GError **err)
{
    return find_pair(name, true, err);
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
 * waits for a sender; or if that one says nothing and the other one is a
 * receiver.
 */
static bool have_swapped(CtlPair *pair)
{
    const CtlEnd *called_sender = &pair->ends[0];
    const CtlEnd *called_receiver = &pair->ends[1];
    bool waits = g_str_equal(ctl_end_role(called_sender), "receiver") ||
                 g_str_equal(ctl_json_text(called_sender->status, "status",
                                           ""), "inmigrate");

    if (!called_receiver->info) {
        return g_str_equal(ctl_end_role(called_sender), "receiver");
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

/* ---- How it stands ------------------------------------------------------ */

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
