/*
 * Figures of a pair at one moment: for watch, and in files for history
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SAMPLE_H
#define CURLING_CTL_SAMPLE_H

#include "ctl-pair.h"
#include "ctl-verdict.h"

typedef enum CtlFigure {
    CTL_FIGURE_PAUSE,           /* us, of the last round */
    CTL_FIGURE_DIRTY,           /* pages in it */
    CTL_FIGURE_BYTES,           /* of it, over the wire */
    CTL_FIGURE_SHIP,            /* us */
    CTL_FIGURE_RATE,            /* bytes/s since the sample before */
    CTL_FIGURE_LAG,             /* us: the age of the last round */
    CTL_FIGURE__MAX
} CtlFigure;

typedef struct CtlSample {
    int64_t time_us;            /* wall clock */
    CtlVerdict verdict;
    char session[16];           /* "" if there is none */
    int64_t round;              /* the last one; -1: none */
    int64_t committed;
    int64_t sent_bytes;         /* in all; -1: not known */
    double rounds_per_s;        /* since the sample before; -1: not known */
    int64_t figures[CTL_FIGURE__MAX];   /* -1: not known */
} CtlSample;

/* What @pair, which is open, said when it was asked last, and how much was
 * sent; @before is the sample before, or NULL. */
CtlSample ctl_sample_take(CtlPair *pair, const CtlSample *before);

/* A line of a record, and back; false: @err.  @name may be NULL. */
CtlJson *ctl_sample_json(const CtlSample *sample, const char *name);
bool ctl_sample_parse(const CtlJson *line, CtlSample *sample, GError **err);

/* "pause-us", ...: the name of a figure in records, with its unit. */
const char *ctl_figure_name(CtlFigure figure);

/* "pause", ...: for a heading. */
const char *ctl_figure_title(CtlFigure figure);

/* "1.2 ms", "12 MiB/s", "-".  Freed by the caller. */
char *ctl_figure_format(CtlFigure figure, int64_t value);

#endif
