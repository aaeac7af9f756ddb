/*
 * curlingctl unprotect: end the protection; the guest runs on
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"
#include "ctl-session.h"
#include "ctl-verdict.h"

int ctl_unprotect_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;
    g_autofree char *lost = NULL;
    CtlEnd *sender;
    bool was;

    pair = ctl_options_parse_pair("The receiver forgets its round and waits "
                                  "for a sender again.", NULL, 0, 0, &argc,
                                  &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_pair_ask(pair, ctl_deadline(), &err)) {
        return ctl_fail(pair->name, err);
    }
    sender = ctl_pair_sender(pair);
    if (ctl_end_has_lost_receiver(sender)) {
        /* The one that is named may have taken its place. */
        lost = g_strdup(ctl_json_text(sender->info, "address", NULL));
    } else if (ctl_pair_is_mismatched(pair, &err)) {
        return ctl_fail(pair->name, err);
    }
    if (!ctl_session_end(sender, &was, &err)) {
        return ctl_fail(pair->name, err);
    }
    if (lost) {
        ctl_complain(pair->name, "the receiver at %s is not heard: if it "
                     "lives, it holds a round of this guest and may start it; "
                     "end that QEMU", lost);
    }
    ctl_say(was ? "not protected any more; the guest runs on at %s\n" :
            "the guest at %s was not protected\n",
            sender->endpoint->text);
    return CTL_EXIT_OK;
}
