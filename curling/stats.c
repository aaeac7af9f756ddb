/*
 * The last thousand values of a figure, and their percentiles
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>

#include "stats.h"

void curling_stats_add(CurlingStats *stats, uint64_t value)
{
    uint32_t kept = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;

    stats->values[stats->next] = kept;
    stats->next = (stats->next + 1) % CURLING_STATS_VALUES;
    if (stats->count < CURLING_STATS_VALUES) {
        stats->count++;
    }
    if (kept > stats->max) {
        stats->max = kept;
    }
}

static int compare_values(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

uint32_t curling_stats_percentile(const CurlingStats *stats,
                                  unsigned int percent)
{
    uint32_t sorted[CURLING_STATS_VALUES];
    uint32_t rank;

    if (!stats->count) {
        return 0;
    }
    if (percent < 1) {
        percent = 1;
    } else if (percent > 100) {
        percent = 100;
    }
    memcpy(sorted, stats->values, stats->count * sizeof(sorted[0]));
    qsort(sorted, stats->count, sizeof(sorted[0]), compare_values);
    rank = (stats->count * percent + 99) / 100;
    return sorted[rank - 1];
}
