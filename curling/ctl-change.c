/*
 * Change settings of a running QEMU
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "ctl-change.h"

bool ctl_ask_for_setting(CtlPair *pair, const CtlSetting *setting,
                         GError **err)
{
    switch (setting ? setting->side : CTL_SIDE_BOTH) {
    case CTL_SIDE_SENDER:
        return ctl_pair_ask_for(pair, CTL_WANT_SENDER, ctl_deadline(), err);
    case CTL_SIDE_RECEIVER:
        return ctl_pair_ask_for(pair, CTL_WANT_RECEIVER, ctl_deadline(), err);
    case CTL_SIDE_BOTH:
        break;
    }
    return ctl_pair_ask(pair, ctl_deadline(), err);
}

char *ctl_change(CtlEnd *end, const CtlSetting *setting, const CtlJson *value,
                 CtlDeadline deadline, GError **err)
{
    g_autoptr(CtlJson) done = NULL;
    CtlJson *arguments;
    CtlJson *info;

    if (!ctl_end_need(end, err)) {
        return NULL;
    }
    arguments = ctl_json_new("{}");
    ctl_json_set(arguments, setting->qmp, ctl_json_ref(value));
    done = ctl_qmp_call_json(end->qmp, deadline, err, "curling-set",
                             arguments);
    if (!done) {
        return NULL;
    }
    info = ctl_qmp_call(end->qmp, deadline, err, "query-curling", NULL);
    if (!info) {
        return NULL;
    }
    ctl_json_free(end->info);
    end->info = info;
    return ctl_setting_format(setting, ctl_json_get(info, setting->qmp));
}
