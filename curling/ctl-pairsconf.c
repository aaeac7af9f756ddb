/*
 * The pairs that have names, and the one that the command line gives
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-pairsconf.h"
#include "ctl-setting.h"

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
    g_autoptr(CtlPair) pair = ctl_pair_new(name);
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
    pair = ctl_pair_new(NULL);
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
