/*
 * Memory in huge pages, for what is large and used again and again
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <sys/mman.h>

#include "memory.h"

#ifndef MADV_POPULATE_WRITE             /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/* Advice begins at a page. */
#define SMALL_PAGE_BYTES 4096

uint8_t *curling_memory_map(size_t len_bytes)
{
    uint8_t *area = mmap(NULL, len_bytes + CURLING_HUGE_PAGE_BYTES,
                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
    size_t before;
    size_t behind;

    if (area == MAP_FAILED) {
        return NULL;
    }
    before = -(uintptr_t)area % CURLING_HUGE_PAGE_BYTES;
    behind = CURLING_HUGE_PAGE_BYTES - before;
    if (before) {
        munmap(area, before);
    }
    area += before;
    munmap(area + len_bytes, behind);
    /* No more than advice: small pages do as well, only slower. */
    madvise(area, len_bytes, MADV_HUGEPAGE);
    return area;
}

void curling_memory_unmap(uint8_t *memory, size_t len_bytes)
{
    munmap(memory, len_bytes);
}

void curling_memory_populate(uint8_t *memory, size_t len_bytes)
{
    size_t begun = (uintptr_t)memory % SMALL_PAGE_BYTES;

    madvise(memory - begun, len_bytes + begun, MADV_POPULATE_WRITE);
}
