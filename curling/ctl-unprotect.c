/*
 * curlingctl unprotect: end the protection; the guest runs on
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"
#include "ctl-session.h"

int ctl_unprotect_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;
    bool was;

    pair = ctl_options_parse_pair("The receiver forgets its round and waits "
                                  "for a sender again.", NULL, 0, 0, &argc,
                                  &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_pair_ask_for(pair, CTL_WANT_SENDER, ctl_deadline(), &err) ||
        !ctl_session_end(pair, &was, &err)) {
        return ctl_fail(pair->name, err);
    }
    printf(was ? "not protected any more; the guest runs on at %s\n" :
           "the guest at %s was not protected\n",
           ctl_pair_sender(pair)->endpoint->text);
    return CTL_EXIT_OK;
}
