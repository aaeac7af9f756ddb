/*
 * curlingctl set: change a setting, at the ends that it belongs to
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-options.h"
#include "ctl-change.h"

int ctl_set_main(int argc, char **argv)
{
    const CtlSetting *setting;
    g_autoptr(CtlPair) pair = NULL;
    g_autoptr(CtlJson) value = NULL;
    GError *err = NULL;
    int status = CTL_EXIT_OK;

    pair = ctl_options_parse_pair("NAME is a setting as \"curlingctl get "
                                  "--list\" names them, VALUE has a unit:\n"
                                  "set interval 50ms, set max-bandwidth "
                                  "1Gbit, set compress auto.", NULL, 2, 2,
                                  &argc, &argv, &err);
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    setting = ctl_setting_find(argv[0], &err);
    if (!setting) {
        return ctl_fail(NULL, err);
    }
    value = ctl_setting_parse(setting, argv[0], argv[1], &err);
    if (!value) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_ask_for_setting(pair, setting, &err)) {
        return ctl_fail(pair->name, err);
    }
    for (CtlSide side = CTL_SIDE_SENDER; side <= CTL_SIDE_RECEIVER; side++) {
        CtlEnd *end = side == CTL_SIDE_SENDER ? ctl_pair_sender(pair) :
                      ctl_pair_receiver(pair);
        g_autofree char *now = NULL;

        if (!(setting->side & side)) {
            continue;
        }
        now = ctl_change(end, setting, value, ctl_deadline(), &err);
        if (!now) {
            ctl_fail(pair->name, err);
            err = NULL;
            status = CTL_EXIT_ERROR;
            continue;
        }
        ctl_say("%s %s: %s is %s now\n", ctl_pair_role_of(pair, end),
                end->endpoint->text, setting->name, now);
    }
    return status;
}
