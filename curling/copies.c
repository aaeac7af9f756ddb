/*
 * Old copies: pages as the receiver has them, for deltas against them
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "copies.h"
#include "memory.h"

/* Memory is taken by slabs of so much. */
#define SLAB_BYTES CURLING_HUGE_PAGE_BYTES

/* A page that was not dirty for so many rounds gives its place to others... */
#define COLD_ROUNDS 8
/* ... of which each looks at so many. */
#define LOOKS 32

/* Place of one copy: number N is in slab N / per_slab. */
typedef struct Slot {
    uint64_t page;
    uint32_t block;
    uint32_t round;             /* when it was dirty last */
    bool used;
} Slot;

struct CurlingCopies {
    const CurlingRamLayout *layout;
    uint64_t limit_bytes;
    size_t per_slab;
    uint32_t round;

    uint8_t **slabs;
    Slot *slots;                /* of all slabs */
    size_t n_slabs;
    size_t n_slots;             /* of them, that were ever used */
    size_t hand;                /* where to look for a cold one next */
    uint32_t **index;           /* of each block and page: slot + 1, or 0 */
    _Atomic uint64_t bytes;
};

CurlingCopies *curling_copies_new(const CurlingRamLayout *layout)
{
    CurlingCopies *c = calloc(1, sizeof(*c));

    if (c) {
        c->layout = layout;
        c->per_slab = SLAB_BYTES / layout->page_bytes;
    }
    return c;
}

void curling_copies_free(CurlingCopies *c)
{
    if (c) {
        curling_copies_forget(c);
        free(c);
    }
}

void curling_copies_forget(CurlingCopies *c)
{
    for (size_t i = 0; i < c->n_slabs; i++) {
        curling_memory_unmap(c->slabs[i], SLAB_BYTES);
    }
    for (uint32_t i = 0; c->index && i < c->layout->n_blocks; i++) {
        free(c->index[i]);
    }
    free(c->slabs);
    free(c->slots);
    free(c->index);
    c->slabs = NULL;
    c->slots = NULL;
    c->index = NULL;
    c->n_slabs = c->n_slots = c->hand = 0;
    atomic_store(&c->bytes, 0);
}

void curling_copies_set_limit(CurlingCopies *c, uint64_t limit_bytes)
{
    c->limit_bytes = limit_bytes;
    if (atomic_load(&c->bytes) > limit_bytes) {
        curling_copies_forget(c);
    }
}

uint64_t curling_copies_bytes(const CurlingCopies *c)
{
    return atomic_load(&c->bytes);
}

void curling_copies_begin_round(CurlingCopies *c)
{
    c->round++;
}

static uint8_t *slot_memory(CurlingCopies *c, size_t slot)
{
    return c->slabs[slot / c->per_slab] +
           slot % c->per_slab * c->layout->page_bytes;
}

uint8_t *curling_copies_find(CurlingCopies *c, uint32_t block, uint64_t page)
{
    uint32_t place = c->index && c->index[block] ? c->index[block][page] : 0;

    if (!place) {
        return NULL;
    }
    c->slots[place - 1].round = c->round;
    return slot_memory(c, place - 1);
}

void curling_copies_drop(CurlingCopies *c, uint32_t block, uint64_t page)
{
    uint32_t place = c->index && c->index[block] ? c->index[block][page] : 0;

    if (place) {
        c->index[block][page] = 0;
        c->slots[place - 1].used = false;
    }
}

static bool make_index(CurlingCopies *c, uint32_t block)
{
    if (!c->index) {
        c->index = calloc(c->layout->n_blocks, sizeof(*c->index));
    }
    if (c->index && !c->index[block]) {
        /* Large ones are not touched before they are used. */
        c->index[block] = calloc(c->layout->blocks[block].pages,
                                 sizeof(**c->index));
    }
    return c->index && c->index[block];
}

static bool add_slab(CurlingCopies *c)
{
    size_t bytes = SLAB_BYTES + c->per_slab * sizeof(*c->slots);
    uint8_t **slabs;
    Slot *slots;

    if (atomic_load(&c->bytes) + bytes > c->limit_bytes ||
        (c->n_slabs + 1) * c->per_slab >= UINT32_MAX) {
        return false;
    }
    slabs = realloc(c->slabs, (c->n_slabs + 1) * sizeof(*slabs));
    if (!slabs) {
        return false;
    }
    c->slabs = slabs;
    slots = realloc(c->slots, (c->n_slabs + 1) * c->per_slab * sizeof(*slots));
    if (!slots) {
        return false;
    }
    c->slots = slots;
    slabs[c->n_slabs] = curling_memory_map(SLAB_BYTES);
    if (!slabs[c->n_slabs]) {
        return false;
    }
    c->n_slabs++;
    atomic_fetch_add(&c->bytes, bytes);
    return true;
}

/* A place for a copy: a new one, or that of a cold page; false if all are
 * taken. */
static bool find_place(CurlingCopies *c, size_t *place)
{
    if (c->n_slots < c->n_slabs * c->per_slab || add_slab(c)) {
        *place = c->n_slots++;
        return true;
    }
    for (size_t i = 0; i < LOOKS && i < c->n_slots; i++) {
        Slot *slot;

        c->hand = (c->hand + 1) % c->n_slots;
        slot = &c->slots[c->hand];
        if (!slot->used || c->round - slot->round > COLD_ROUNDS) {
            if (slot->used) {
                c->index[slot->block][slot->page] = 0;
            }
            *place = c->hand;
            return true;
        }
    }
    return false;
}

uint8_t *curling_copies_add(CurlingCopies *c, uint32_t block, uint64_t page)
{
    size_t place;

    if (!make_index(c, block) || !find_place(c, &place)) {
        return NULL;
    }
    c->slots[place] = (Slot) {
        .page = page,
        .block = block,
        .round = c->round,
        .used = true,
    };
    c->index[block][page] = (uint32_t)place + 1;
    return slot_memory(c, place);
}
