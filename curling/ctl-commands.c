/*
 * The commands of curlingctl
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "ctl.h"

const CtlCommand ctl_commands[] = {
    { "protect", "[PAIR]", "protect a guest, and wait until it is",
      ctl_protect_main },
    { "status", "[PAIR...]", "tell how pairs stand; the exit status tells too",
      ctl_status_main },
    { "watch", "[PAIR]", "look on: rounds, pauses, what is sent",
      ctl_watch_main },
    { "get", "[PAIR] [NAME]", "show settings", ctl_get_main },
    { "set", "[PAIR] NAME VALUE", "change a setting", ctl_set_main },
    { "checkpoint", "[PAIR]", "take a round now, and wait for it",
      ctl_checkpoint_main },
    { "failover", "[PAIR]", "start the guest at the receiver",
      ctl_failover_main },
    { "switchover", "[PAIR]", "hand the guest over, with nothing lost",
      ctl_switchover_main },
    { "unprotect", "[PAIR]", "end the protection; the guest runs on",
      ctl_unprotect_main },
    { "events", "[PAIR]", "print events as they come, as lines of JSON",
      ctl_events_main },
    { "history", "FILE", "show what \"watch --record FILE\" has recorded",
      ctl_history_main },
    { "doctor", "[PAIR]", "tell what would keep a pair from being safe",
      ctl_doctor_main },
    { "proxy", "PATH", "join stdin and stdout with a UNIX socket",
      ctl_proxy_main },
    /* For curlingctl itself, and for shells */
    { "host", NULL, NULL, ctl_host_main },
    { "complete", NULL, NULL, ctl_complete_main },
    { NULL }
};

const CtlCommand *ctl_command_find(const char *name)
{
    for (const CtlCommand *c = ctl_commands; c->name; c++) {
        if (g_str_equal(name, c->name)) {
            return c;
        }
    }
    return NULL;
}
