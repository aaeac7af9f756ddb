/*
 * The pairs that have names, and the one that the command line gives
 *
 * Names are in ~/.config/curling/pairs.conf and /etc/curling/pairs.conf: see
 * pairs.conf(5).  CURLING_PAIRS in the environment is another file.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_PAIRSCONF_H
#define CURLING_CTL_PAIRSCONF_H

#include "ctl-pair.h"

/*
 * The pair of --sender and --receiver if both are given, else the one of that
 * @name; where @name is NULL too, the only pair there is.  NULL: @err.
 */
CtlPair *ctl_pair_find(const char *name, GError **err);

/* The same, but a setting in pairs.conf that is wrong is only complained of:
 * for all but protect, as a failover must not fail for it. */
CtlPair *ctl_pair_find_roughly(const char *name, GError **err);

/* The names of all pairs, sorted; freed with g_strfreev().  A file that cannot
 * be read has no pairs; @err (may be NULL) is set then. */
char **ctl_pair_names(GError **err);

#endif
