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
    stats->values[stats->next] = value;
    stats->next = (stats->next + 1) % CURLING_STATS_VALUES;
    if (stats->count < CURLING_STATS_VALUES) {
        stats->count++;
    }
}

static int compare_values(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t curling_stats_percentile(const CurlingStats *stats,
                                  unsigned int percent)
{
    uint64_t sorted[CURLING_STATS_VALUES];
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
