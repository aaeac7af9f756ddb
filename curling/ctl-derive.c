/*
 * A receiver's command line, derived from that of its sender
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-derive.h"

#define SUFFIX ".receiver"

/* QEMU takes its options with one dash or two. */
static const char *option_name(const char *arg)
{
    return arg[0] != '-' ? "" : arg[1] == '-' ? arg + 2 : arg + 1;
}

static bool is_among(const char *name, const char *const *names)
{
    return g_strv_contains(names, name);
}

/* @text with SUFFIX behind the path that begins at @at, and ends at a comma
 * (two are one that belongs to it). */
static char *rename_at(const char *text, size_t at)
{
    size_t end = at;

    while (text[end] && (text[end] != ',' || text[end + 1] == ',')) {
        end += text[end] == ',' ? 2 : 1;
    }
    return g_strdup_printf("%.*s" SUFFIX "%s", (int)end, text, text + end);
}

/* The value of a chardev or monitor: "unix:PATH,...", "file:PATH",
 * "socket,path=PATH,...".  Of sockets only those that QEMU serves: what it is a
 * client of, as of a TPM, keeps its name. */
static char *rename_chardev(const char *value)
{
    static const char *const prefixes[] = { "unix:", "file:", "pipe:", NULL };
    const char *path = strstr(value, ",path=");
    bool is_socket = g_str_has_prefix(value, "unix:") ||
                     g_str_has_prefix(value, "socket,");

    if (is_socket && (!strstr(value, ",server") ||
                      strstr(value, ",server=off"))) {
        return g_strdup(value);
    }
    for (const char *const *prefix = prefixes; *prefix; prefix++) {
        if (g_str_has_prefix(value, *prefix)) {
            return rename_at(value, strlen(*prefix));
        }
    }
    if (path) {
        return rename_at(value, path + strlen(",path=") - value);
    }
    return g_strdup(value);
}

/* Two servers of one address do not go together; "to=" lets QEMU search. */
static char *rename_vnc(const char *value)
{
    if (g_str_has_prefix(value, "unix:")) {
        return rename_at(value, strlen("unix:"));
    }
    if (!strchr(value, ':') || strstr(value, ",to=")) {
        return g_strdup(value);
    }
    return g_strconcat(value, ",to=99", NULL);
}

static char *rename_value(const char *option, const char *value)
{
    static const char *const chardevs[] = {
        "qmp", "qmp-pretty", "monitor", "serial", "parallel", "chardev",
        "debugcon", "mon", "gdb", NULL
    };
    static const char *const paths[] = { "pidfile", "D", NULL };

    if (is_among(option, chardevs)) {
        return rename_chardev(value);
    }
    if (is_among(option, paths)) {
        return g_strconcat(value, SUFFIX, NULL);
    }
    if (g_str_equal(option, "vnc")) {
        return rename_vnc(value);
    }
    return g_strdup(value);
}

/* How many arguments the option @name and its value are, if it is one to leave
 * out; else 0. */
static size_t left_out(const char *name)
{
    static const char *const with_value[] = { "incoming", "loadvm", NULL };

    return is_among(name, with_value) ? 2 : g_str_equal(name, "S") ? 1 : 0;
}

static void append_quoted(GString *line, const char *before, const char *arg)
{
    g_autofree char *quoted = NULL;

    /* What needs no quotes is easier to read without. */
    if (*arg && strspn(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"
                       "XYZ0123456789-_=+:,./@%") == strlen(arg)) {
        g_string_append_printf(line, "%s%s", before, arg);
        return;
    }
    quoted = g_shell_quote(arg);
    g_string_append_printf(line, "%s%s", before, quoted);
}

char *ctl_derive_receiver(const CtlJson *sender, const char *uri)
{
    size_t number = ctl_json_count(sender, NULL);
    GString *line = g_string_new(NULL);
    const char *option = "";

    append_quoted(line, "", ctl_json_text(ctl_json_at(sender, 0), NULL, ""));
    for (size_t i = 1; i < number; i++) {
        const char *arg = ctl_json_text(ctl_json_at(sender, i), NULL, "");
        const char *name = option_name(arg);
        g_autofree char *value = NULL;

        if (*name) {
            size_t skipped = left_out(name);

            if (skipped) {
                i += skipped - 1;
                continue;
            }
            append_quoted(line, " \\\n    ", arg);
            option = name;
            continue;
        }
        value = rename_value(option, arg);
        append_quoted(line, " ", value);
        option = "";
    }
    append_quoted(line, " \\\n    ", "-incoming");
    append_quoted(line, " ", uri);
    return g_string_free(line, FALSE);
}
