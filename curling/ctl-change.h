/*
 * Change settings of a running QEMU
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_CHANGE_H
#define CURLING_CTL_CHANGE_H

#include "ctl-pair.h"
#include "ctl-setting.h"

/* Ask the ends of @pair that @setting belongs to (NULL: both); the other one
 * may be dead, and is not waited for where that can be told. */
bool ctl_ask_for_setting(CtlPair *pair, const CtlSetting *setting,
                         GError **err);

/*
 * Set @setting to @value at @end, which was asked before.  Returns what it is
 * there now, as QEMU tells, for a person; freed by the caller.  NULL: @err.
 */
char *ctl_change(CtlEnd *end, const CtlSetting *setting, const CtlJson *value,
                 CtlDeadline deadline, GError **err);

#endif
