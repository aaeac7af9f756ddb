/*
 * Old copies: pages as the receiver has them, for deltas against them
 *
 * Memory for copies is taken as pages get dirty, up to a limit.  At the limit
 * a page gets a copy only in place of one that was not dirty for some rounds:
 * where more is dirtied again and again than fits, a part of it has copies
 * that stay, instead of all of it copies that come too late.
 *
 * One thread; curling_copies_bytes() any.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_COPIES_H
#define CURLING_COPIES_H

#include <stdint.h>

#include "ram.h"

typedef struct CurlingCopies CurlingCopies;

/* @layout: borrowed.  Holds nothing.  NULL without memory; freed with
 * curling_copies_free(), which takes NULL. */
CurlingCopies *curling_copies_new(const CurlingRamLayout *layout);
void curling_copies_free(CurlingCopies *copies);

/* What copies may take; those beyond a lower limit go, with all others. */
void curling_copies_set_limit(CurlingCopies *copies, uint64_t limit_bytes);

/* What they take. */
uint64_t curling_copies_bytes(const CurlingCopies *copies);

/* No copy is right any more: give back all memory. */
void curling_copies_forget(CurlingCopies *copies);

/* A round begins: what was dirty long ago is measured in rounds. */
void curling_copies_begin_round(CurlingCopies *copies);

/* The copy of a page within the layout, to compare with and to bring up to
 * date; NULL if there is none. */
uint8_t *curling_copies_find(CurlingCopies *copies, uint32_t block,
                             uint64_t page);

/* Room for the copy of a page that has none, to be filled at once; NULL where
 * it gets none. */
uint8_t *curling_copies_add(CurlingCopies *copies, uint32_t block,
                            uint64_t page);

/* The copy of this page, if there is one, is right no more. */
void curling_copies_drop(CurlingCopies *copies, uint32_t block,
                         uint64_t page);

#endif
