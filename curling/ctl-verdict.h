/*
 * How a pair stands
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_VERDICT_H
#define CURLING_CTL_VERDICT_H

#include "ctl-pair.h"

typedef enum CtlVerdict {
    CTL_VERDICT_PROTECTED,
    CTL_VERDICT_SYNCING,        /* connecting as well */
    CTL_VERDICT_UNPROTECTED,
    CTL_VERDICT_FAILED_OVER,
    CTL_VERDICT_UNKNOWN,        /* who would know does not answer */
} CtlVerdict;

/* The sender has a session, and the receiver says that it has nothing to do
 * with that: then @err says so. */
bool ctl_pair_is_mismatched(CtlPair *pair, GError **err);

/* How the pair stands, by what both said.  @why, if not NULL, becomes a
 * sentence; freed by the caller. */
CtlVerdict ctl_pair_verdict(CtlPair *pair, char **why);

CtlExit ctl_verdict_exit(CtlVerdict verdict);

/* For a person: "protected", "syncing", "not protected", "failed over",
 * "unknown". */
const char *ctl_verdict_word(CtlVerdict verdict);

#endif
