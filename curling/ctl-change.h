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

/*
 * Set @setting to @value at @end, which was asked before.  Returns what it is
 * there now, as QEMU tells, for a person; freed by the caller.  NULL: @err.
 */
char *ctl_change(CtlEnd *end, const CtlSetting *setting, const CtlJson *value,
                 GError **err);

#endif
