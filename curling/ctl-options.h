/*
 * Options that all commands have
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_OPTIONS_H
#define CURLING_CTL_OPTIONS_H

#include "ctl-pair.h"

/*
 * Take what stands before the command, and the program's name, away from
 * *@argv: what is left begins with the command, or with --help or --version.
 */
bool ctl_options_take_global(int *argc, char ***argv, GError **err);

/*
 * Parse a command's options: @entries (may be NULL) are its own, @with_pair
 * adds --sender and --receiver.  @argv[0] is the command's name; what is left
 * in *@argv are its arguments, without it.  --help prints and exits.  @text, if
 * not NULL, stands below the options there.
 */
bool ctl_options_parse(const char *text, const GOptionEntry *entries,
                       bool with_pair, int *argc, char ***argv, GError **err);

/*
 * The same for a command whose arguments are a pair and then between @least
 * and @most others, which are left in *@argv; the pair, or NULL with @err.  A
 * pair's name may be missing: it is one if more than @most are there, or if
 * the first one is a pair's.
 */
CtlPair *ctl_options_parse_pair(const char *text, const GOptionEntry *entries,
                                int least, int most, int *argc, char ***argv,
                                GError **err);

#endif
