/*
 * curlingctl events: print events as they come, as lines of JSON
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>
#include "ctl-options.h"

/* An end that is lost is looked for again so often. */
#define AGAIN_MS 1000

static gboolean all;

static const GOptionEntry entries[] = {
    { "all", 0, 0, G_OPTION_ARG_NONE, &all,
      "all events of QEMU, not only Curling's", NULL },
    { NULL }
};

typedef struct Listener {
    CtlPair *pair;
    CtlEnd *end;
    const char *called;         /* "sender" or "receiver" */
    bool lost;                  /* and told so */
    bool heard;                 /* it is connected, and told so */
    CtlDeadline again;          /* when to connect */
} Listener;

static void print_line(const Listener *listener, CtlJson *line)
{
    g_autofree char *text = NULL;

    ctl_json_set(line, "end", ctl_json_new("s", listener->called));
    ctl_json_set(line, "endpoint", ctl_json_new("s",
                                                listener->end->endpoint->text));
    if (listener->pair->name) {
        ctl_json_set(line, "pair", ctl_json_new("s", listener->pair->name));
    }
    text = ctl_json_dump(line);
    printf("%s\n", text);
    fflush(stdout);
}

static void print_event(const CtlJson *event, void *opaque)
{
    g_autoptr(CtlJson) line = NULL;
    const char *name = ctl_json_text(event, "event", "");

    if (all || g_str_has_prefix(name, "CURLING_")) {
        line = ctl_json_ref(event);
        print_line(opaque, line);
    }
}

/* Ours, of the connection to that end. */
static void print_own(const Listener *listener, const char *name,
                      const char *reason)
{
    int64_t now_us = g_get_real_time();
    g_autoptr(CtlJson) line =
        ctl_json_new("{s:s, s:{s:s}, s:{s:I, s:I}}", "event", name, "data",
                     "reason", reason, "timestamp",
                     "seconds", (long long)(now_us / 1000000),
                     "microseconds", (long long)(now_us % 1000000));

    print_line(listener, line);
}

static void connect_end(Listener *listener)
{
    listener->end->qmp = ctl_qmp_open(listener->end->endpoint);
    ctl_qmp_on_event(listener->end->qmp, print_event, listener);
    listener->again = ctl_deadline();
}

/* Returns when there is something to do, at the latest. */
static CtlDeadline look(Listener *listener)
{
    int64_t now = g_get_monotonic_time();
    g_autoptr(GError) why = NULL;

    if (!listener->end->qmp) {
        if (now < listener->again) {
            return listener->again;
        }
        connect_end(listener);
    }
    if (!listener->heard && ctl_qmp_is_ready(listener->end->qmp)) {
        listener->heard = true;
        listener->lost = false;
        print_own(listener, "CURLINGCTL_CONNECTED", "events are heard now");
    }
    if (!listener->heard && now >= listener->again) {
        GError *late = g_error_new_literal(CTL_ERROR, CTL_ERROR_TIMEOUT, "");

        ctl_qmp_give_up(listener->end->qmp, late);
        g_error_free(late);
    }
    if (!ctl_qmp_has_failed(listener->end->qmp, &why)) {
        return listener->heard ? CTL_NEVER : listener->again;
    }
    if (!listener->lost) {
        print_own(listener, "CURLINGCTL_LOST", why->message);
        listener->lost = true;
    }
    ctl_qmp_close(listener->end->qmp);
    listener->end->qmp = NULL;
    listener->heard = false;
    listener->again = now + AGAIN_MS * 1000;
    return listener->again;
}

int ctl_events_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    Listener listeners[2];
    GError *err = NULL;

    pair = ctl_options_parse_pair(
        "Runs until Ctrl-C.  A QMP socket serves one client at a time: give "
        "this command\none of its own.  CURLINGCTL_CONNECTED and "
        "CURLINGCTL_LOST are of the connection\nto an end; a lost one is "
        "looked for again.", entries, 0, 0, &argc, &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    for (int i = 0; i < 2; i++) {
        listeners[i] = (Listener){ .pair = pair, .end = &pair->ends[i],
                                   .called = i ? "receiver" : "sender" };
    }
    while (!ferror(stdout)) {
        CtlDeadline first = look(&listeners[0]);
        CtlDeadline second = look(&listeners[1]);
        GError *why = NULL;

        if (!ctl_wait_once(MIN(first, second), &why)) {
            /* That is how it ends. */
            g_error_free(why);
            return CTL_EXIT_OK;
        }
    }
    return CTL_EXIT_ERROR;
}
