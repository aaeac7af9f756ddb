/*
 * How fast CRC32C is: GB/s of the processor's instruction and of the table,
 * for a page, a frame and what no cache holds
 *
 * The goal is 5 GB/s with SSE4.2, so that checksums do not limit a round.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <stdlib.h>

#include "channel.h"
#include "crc32c.h"

#define LARGEST_BYTES (64u << 20)
#define TIME_NS 200000000

typedef uint32_t Crc(uint32_t crc, const void *data, size_t len_bytes);

/* The best of five, as other work on the machine only takes away */
static double measure(Crc *crc, const uint8_t *data, size_t len_bytes)
{
    volatile uint32_t keep = 0;
    double best = 0;

    for (int run = 0; run < 5; run++) {
        int64_t begin_ns = curling_clock_ns();
        int64_t spent_ns;
        double speed;
        uint64_t done = 0;

        do {
            keep = crc(keep, data, len_bytes);
            done += len_bytes;
            spent_ns = curling_clock_ns() - begin_ns;
        } while (spent_ns < TIME_NS / 5);
        speed = (double)done / (double)spent_ns;
        best = speed > best ? speed : best;
    }
    return best;
}

static void report(const char *name, Crc *crc, const uint8_t *data)
{
    printf("%-8s %10.2f %10.2f %10.2f\n", name,
           measure(crc, data, 4096), measure(crc, data, 256 << 10),
           measure(crc, data, LARGEST_BYTES));
}

int main(void)
{
    uint8_t *data = malloc(LARGEST_BYTES);

    if (!data) {
        perror("malloc");
        return 1;
    }
    for (size_t i = 0; i < LARGEST_BYTES; i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    printf("%-8s %10s %10s %10s\n", "GB/s", "4 KiB", "256 KiB", "64 MiB");
    report(curling_crc32c_implementation(), curling_crc32c, data);
    report("table", curling_crc32c_portable, data);
    free(data);
    return 0;
}
