/*
 * Memory in huge pages, for what is large and used again and again
 *
 * To touch a huge page for the first time takes one page fault, not 512: for
 * what is staged while the guest is paused that was measured to be six times
 * as fast.  And a process that dies gives them back sooner, which is what a
 * takeover waits for.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_MEMORY_H
#define CURLING_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define CURLING_HUGE_PAGE_BYTES (2u << 20)

/* @len_bytes, a multiple of CURLING_HUGE_PAGE_BYTES, of zeroes, where a huge
 * page can begin; NULL without memory.  Freed with curling_memory_unmap(). */
uint8_t *curling_memory_map(size_t len_bytes);
void curling_memory_unmap(uint8_t *memory, size_t len_bytes);

/* Have this part of it there now, not when it is first touched.  No more than
 * advice: the kernel may not know it. */
void curling_memory_populate(uint8_t *memory, size_t len_bytes);

#endif
