/*
 * curlingctl switchover: hand the guest over, with nothing lost
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"
#include "ctl-session.h"
#include "ctl-verdict.h"

int ctl_switchover_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    GError *err = NULL;
    CtlEnd *sender;
    CtlEnd *receiver;

    pair = ctl_options_parse_pair("The sender stops its guest in a last round, "
                                  "and the receiver starts it from that.\nThe "
                                  "old sender can quit then.", NULL, 0, 0,
                                  &argc, &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_pair_ask(pair, ctl_deadline(), &err) ||
        !ctl_pair_need_both(pair, &err) ||
        ctl_pair_is_mismatched(pair, &err)) {
        return ctl_fail(pair->name, err);
    }
    sender = ctl_pair_sender(pair);
    receiver = ctl_pair_receiver(pair);
    if (!ctl_session_hand_over(pair, &err)) {
        return ctl_fail(pair->name, err);
    }
    ctl_say("the guest runs at %s; the QEMU at %s can quit\n",
            receiver->endpoint->text, sender->endpoint->text);
    return CTL_EXIT_OK;
}
