/*
 * Options that all commands have
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>
#include "ctl-options.h"
#include "ctl-pairsconf.h"
#include "ctl-setting.h"

char *ctl_sender_option;
char *ctl_receiver_option;

static bool take_timeout(const char *text, GError **err)
{
    static const CtlSetting timeout = {
        "--timeout", "--timeout", CTL_KIND_TIME, CTL_SIDE_BOTH, NULL, NULL
    };
    g_autoptr(CtlJson) value = ctl_setting_parse(&timeout, "", text, err);

    if (!value) {
        return false;
    }
    ctl_options.timeout_ms = MIN(ctl_json_int(value, NULL, 0), G_MAXINT);
    return true;
}

static gboolean parse_timeout(const char *option, const char *value,
                              gpointer opaque, GError **err)
{
    (void)option;
    (void)opaque;
    return take_timeout(value, err);
}

static const GOptionEntry pair_entries[] = {
    { "sender", 0, 0, G_OPTION_ARG_STRING, &ctl_sender_option,
      "QMP socket of the QEMU that runs the guest", "EP" },
    { "receiver", 0, 0, G_OPTION_ARG_STRING, &ctl_receiver_option,
      "QMP socket of the QEMU that stands by", "EP" },
    { NULL }
};

static const GOptionEntry common_entries[] = {
    { "timeout", 0, 0, G_OPTION_ARG_CALLBACK, (gpointer)parse_timeout,
      "how long something may take (30s; 0: for ever)", "TIME" },
    { NULL }
};

bool ctl_options_take_global(int *argc, char ***argv, GError **err)
{
    char **args = *argv + 1;

    while (*args && (g_str_equal(*args, "--timeout") ||
                     g_str_has_prefix(*args, "--timeout="))) {
        const char *value = *args + strlen("--timeout");

        value = *value == '=' ? value + 1 : args[1] ? *++args : "";
        if (!take_timeout(value, err)) {
            return false;
        }
        args++;
    }
    *argc -= args - *argv;
    *argv = args;
    return true;
}

bool ctl_options_parse(const char *text, const GOptionEntry *entries,
                       bool with_pair, int *argc, char ***argv, GError **err)
{
    const CtlCommand *command = ctl_command_find((*argv)[0]);
    g_autofree char *usage = g_strdup_printf("%s", command->arguments ?
                                             command->arguments : "");
    GOptionContext *context = g_option_context_new(usage);
    g_autofree char *prgname = g_strdup_printf("curlingctl %s",
                                               command->name);
    g_autofree char *summary = NULL;
    g_autofree char *description = NULL;
    GError *why = NULL;
    bool parsed;

    if (command->summary) {
        summary = g_strdup_printf("%c%s.", g_ascii_toupper(
                                  command->summary[0]), command->summary + 1);
        g_option_context_set_summary(context, summary);
    }
    if (text) {
        description = g_strconcat(text, "\n", NULL);
        g_option_context_set_description(context, description);
    }
    if (entries) {
        g_option_context_add_main_entries(context, entries, NULL);
    }
    if (with_pair) {
        g_option_context_add_main_entries(context, pair_entries, NULL);
    }
    g_option_context_add_main_entries(context, common_entries, NULL);
    g_set_prgname(prgname);
    parsed = g_option_context_parse(context, argc, argv, &why);
    g_set_prgname("curlingctl");
    g_option_context_free(context);
    if (!parsed) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "%s; see curlingctl %s "
                    "--help", why->message, command->name);
        g_error_free(why);
        return false;
    }
    /* The command's name, and a "--" that glib has left there */
    (*argc)--;
    (*argv)++;
    if (*argc > 0 && g_str_equal((*argv)[0], "--")) {
        (*argc)--;
        (*argv)++;
    }
    return true;
}

static bool is_pair(const char *name)
{
    g_auto(GStrv) names = ctl_pair_names(NULL);

    return g_strv_contains((const char *const *)names, name);
}

CtlPair *ctl_options_parse_pair(const char *text, const GOptionEntry *entries,
                                int least, int most, int *argc, char ***argv,
                                GError **err)
{
    const char *command = (*argv)[0];
    const char *name = NULL;
    bool given;

    if (!ctl_options_parse(text, entries, true, argc, argv, err)) {
        return NULL;
    }
    given = ctl_sender_option || ctl_receiver_option;
    if (*argc > (given ? most : most + 1) || *argc < least) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_USAGE, "too %s arguments; see "
                    "curlingctl %s --help", *argc < least ? "few" : "many",
                    command);
        return NULL;
    }
    if (!given && (*argc > most ||
                   (*argc > least && is_pair((*argv)[0])))) {
        name = (*argv)[0];
        (*argc)--;
        (*argv)++;
    }
    return g_str_equal(command, "protect") ? ctl_pair_find(name, err) :
           ctl_pair_find_roughly(name, err);
}
