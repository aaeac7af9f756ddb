/*
 * curlingctl get: show settings
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-change.h"
#include "ctl-options.h"

static gboolean list;
static gboolean as_json;

static const GOptionEntry entries[] = {
    { "list", 0, 0, G_OPTION_ARG_NONE, &list,
      "name all settings, and what they are for", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "as JSON", NULL },
    { NULL }
};

static const char *side_word(CtlSide side)
{
    switch (side) {
    case CTL_SIDE_SENDER:
        return "sender";
    case CTL_SIDE_RECEIVER:
        return "receiver";
    case CTL_SIDE_BOTH:
        break;
    }
    return "both";
}

static void print_list(void)
{
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        g_autofree char *choices = s->choices ?
            g_strjoinv(", ", (char **)s->choices) : NULL;

        ctl_say("%-14s %-9s %s%s%s\n", s->name, side_word(s->side), s->summary,
                choices ? ": " : "", choices ? choices : "");
    }
}

/* What @setting is at @end; "-" where it is not that side's, NULL where nobody
 * knows.  Freed by the caller. */
static char *value_at(const CtlEnd *end, CtlSide side,
                      const CtlSetting *setting)
{
    const CtlJson *value = ctl_json_get(end->info, setting->qmp);

    if (!(setting->side & side)) {
        return g_strdup("-");
    }
    return value ? ctl_setting_format(setting, value) : NULL;
}

static void print_table(CtlPair *pair)
{
    ctl_say("%-14s %-14s %s\n", "", "sender", "receiver");
    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        g_autofree char *left = value_at(ctl_pair_sender(pair),
                                         CTL_SIDE_SENDER, s);
        g_autofree char *right = value_at(ctl_pair_receiver(pair),
                                          CTL_SIDE_RECEIVER, s);

        ctl_say("%-14s %-14s %s\n", s->name, left ? left : "?",
                right ? right : "?");
    }
}

static void add_value(CtlJson *to, const char *role, const CtlEnd *end,
                      CtlSide side, const CtlSetting *setting)
{
    const CtlJson *value = ctl_json_get(end->info, setting->qmp);

    if ((setting->side & side) && value) {
        ctl_json_set(to, role, ctl_json_ref(value));
    }
}

static void print_json(CtlPair *pair, const CtlSetting *only)
{
    g_autoptr(CtlJson) all = ctl_json_new("{}");
    g_autofree char *text = NULL;

    for (const CtlSetting *s = ctl_settings; s->name; s++) {
        CtlJson *values;

        if (only && s != only) {
            continue;
        }
        values = ctl_json_new("{}");
        add_value(values, "sender", ctl_pair_sender(pair), CTL_SIDE_SENDER, s);
        add_value(values, "receiver", ctl_pair_receiver(pair),
                  CTL_SIDE_RECEIVER, s);
        ctl_json_set(all, s->qmp, values);
    }
    text = ctl_json_dump(all);
    ctl_say("%s\n", text);
}

/* One value for a script; both only where they are not the same. */
static void print_one(CtlPair *pair, const CtlSetting *setting)
{
    g_autofree char *left = value_at(ctl_pair_sender(pair), CTL_SIDE_SENDER,
                                     setting);
    g_autofree char *right = value_at(ctl_pair_receiver(pair),
                                      CTL_SIDE_RECEIVER, setting);

    if (setting->side == CTL_SIDE_BOTH && g_strcmp0(left, right)) {
        ctl_say("sender %s\nreceiver %s\n", left ? left : "?",
                right ? right : "?");
    } else {
        const char *value = setting->side == CTL_SIDE_RECEIVER ? right : left;

        ctl_say("%s\n", value ? value : "?");
    }
}

/* Whose word is asked for and missing?  Complains of it. */
static bool has_answers(CtlPair *pair, CtlSide side)
{
    bool complete = true;

    for (int i = 0; i < 2; i++) {
        const CtlEnd *end = &pair->ends[i];
        GError *why = NULL;

        if ((side & (end == ctl_pair_sender(pair) ? CTL_SIDE_SENDER :
                     CTL_SIDE_RECEIVER)) && !ctl_end_need(end, &why)) {
            ctl_fail(pair->name, why);
            complete = false;
        }
    }
    return complete;
}

int ctl_get_main(int argc, char **argv)
{
    const CtlSetting *setting = NULL;
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;
    bool complete;

    pair = ctl_options_parse_pair("NAME is a setting: interval, compress, "
                                  "...; all of them without it.", entries, 0,
                                  1, &argc, &argv, &err);
    if (list) {
        g_clear_error(&err);
        print_list();
        return CTL_EXIT_OK;
    }
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (argc == 1) {
        setting = ctl_setting_find(argv[0], &err);
        if (!setting) {
            return ctl_fail(NULL, err);
        }
    }
    if (!ctl_ask_for_setting(pair, setting, &err)) {
        return ctl_fail(pair->name, err);
    }
    complete = has_answers(pair, setting ? setting->side : CTL_SIDE_BOTH);
    if (as_json) {
        print_json(pair, setting);
    } else if (!setting) {
        print_table(pair);
    } else if (complete || setting->side == CTL_SIDE_BOTH) {
        print_one(pair, setting);
    }
    return complete ? CTL_EXIT_OK : CTL_EXIT_ERROR;
}
