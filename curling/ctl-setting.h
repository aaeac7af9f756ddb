/*
 * Settings by the names that people use, with units in their values
 *
 * A name is QEMU's without the unit at its end: interval for interval-ms.
 * QEMU's own name with a bare number is fine as well.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SETTING_H
#define CURLING_CTL_SETTING_H

#include "ctl-json.h"

typedef enum CtlSide {
    CTL_SIDE_SENDER = 1,
    CTL_SIDE_RECEIVER = 2,
    CTL_SIDE_BOTH = 3,
} CtlSide;

typedef enum CtlKind {
    CTL_KIND_TIME,              /* 50ms, 2s, 1min; QEMU's in ms */
    CTL_KIND_SIZE,              /* 2GiB, 100MB, 4096B; in bytes */
    CTL_KIND_RATE,              /* 1Gbit, 100Mbit/s, 50MiB/s; in bytes/s */
    CTL_KIND_CHOICE,
} CtlKind;

typedef struct CtlSetting {
    const char *name;
    const char *qmp;            /* QEMU's name for it */
    CtlKind kind;
    CtlSide side;               /* whose it is */
    const char *const *choices; /* with NULL at the end */
    const char *summary;        /* half a line */
} CtlSetting;

extern const CtlSetting ctl_settings[];         /* ends with a name of NULL */

/* By either name.  NULL: @err says so, with the nearest name. */
const CtlSetting *ctl_setting_find(const char *name, GError **err);

/* The value of @setting in @text, as curling-set takes it; NULL: @err. */
CtlJson *ctl_setting_parse(const CtlSetting *setting, const char *name,
                           const char *text, GError **err);

/* @value, of query-curling, as ctl_setting_parse() would take it again.
 * Freed by the caller. */
char *ctl_setting_format(const CtlSetting *setting, const CtlJson *value);

/* The same of any number of @kind. */
char *ctl_kind_format(CtlKind kind, uint64_t number);

#endif
