/*
 * What several commands show a person: findings, a bar of progress
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_REPORT_H
#define CURLING_CTL_REPORT_H

#include <stdio.h>
#include "ctl-examine.h"

/* What is to be examined, by what the command line (@address may be NULL) and
 * pairs.conf say.  Strings belong to @pair and the caller. */
void ctl_pair_examination(CtlPair *pair, const char *address,
                          bool allow_plaintext, CtlExamination *wanted);

/* A line for each finding, and one for what to do; only those that are as
 * grave as @least or graver. */
void ctl_report_findings(FILE *to, const GPtrArray *findings,
                         CtlSeverity least);

/*
 * On stderr: a bar on a terminal, which the next call draws anew; elsewhere a
 * line for each tenth.  @took_us is how long it took to get to @done of
 * @total bytes.
 */
void ctl_report_progress(uint64_t done, uint64_t total, int64_t took_us);

/* The bar is gone; nothing where there was none. */
void ctl_report_progress_end(void);

#endif
