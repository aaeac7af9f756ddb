/*
 * The last thousand values of a figure, and their percentiles
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_STATS_H
#define CURLING_STATS_H

#include <stdint.h>

#define CURLING_STATS_VALUES 1000

/* Zeroed = empty.  One writer; a reader needs the writer's lock. */
typedef struct CurlingStats {
    uint64_t values[CURLING_STATS_VALUES];
    uint32_t next;              /* where the next value goes */
    uint32_t count;             /* at most CURLING_STATS_VALUES */
} CurlingStats;

void curling_stats_add(CurlingStats *stats, uint64_t value);

/* The value that @percent (1 to 100) of the kept ones do not exceed (nearest
 * rank); 0 when empty. */
uint64_t curling_stats_percentile(const CurlingStats *stats,
                                  unsigned int percent);

#endif
