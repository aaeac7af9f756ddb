/*
 * Records: what the payload of a round's DATA frames means
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_RAM_H
#define CURLING_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "round.h"

/* One RAM block, at its place in the order that both sides agreed on. */
typedef struct CurlingRamBlock {
    uint8_t *host;              /* borrowed */
    uint64_t pages;
} CurlingRamBlock;

/* Constant after init; borrowed by all that use it. */
typedef struct CurlingRamLayout {
    uint32_t page_bytes;        /* a power of two, 4096 to 65536 */
    uint32_t n_blocks;
    CurlingRamBlock *blocks;
    uint64_t device_max_bytes;  /* limit of the device state */
} CurlingRamLayout;

/*
 * Stage @count pages from page @first of block @block into @round, with the
 * content that @layout points to, in as few records as fit; records of
 * several calls share a frame.  With @find_zeroes, runs of pages that are all
 * zero become ZERO records.
 * Returns 0; -EOVERFLOW (the pool's limit) or -ENOMEM, with part of the pages
 * staged; -EINVAL for pages outside of @layout or a round not OPEN.
 */
int curling_ram_put_pages(CurlingRound *round, const CurlingRamLayout *layout,
                          uint32_t block, uint64_t first, uint64_t count,
                          bool find_zeroes, CurlingError *err);

/* Stage the next @len_bytes of device state, at @data.  Errors as above. */
int curling_ram_put_device(CurlingRound *round, const void *data,
                           size_t len_bytes, CurlingError *err);

/*
 * Is @payload a sequence of whole records within @layout?  Acts on nothing.
 * @deltas: may there be deltas among them, as the round is one against a held
 * one?  A ZSTD record is to be unpacked before (pack.h), and refused here.
 * *@device_bytes (in/out; start a round with 0) is how much device state has
 * come: DEVICE records must continue it, and stay below the limit.
 * Returns 0 or -EPROTO / -EOVERFLOW with got and expected, *@device_bytes then
 * unchanged.
 */
int curling_ram_validate(const CurlingRamLayout *layout, bool deltas,
                         const uint8_t *payload, size_t len_bytes,
                         uint64_t *device_bytes, CurlingError *err);

/* Where curling_ram_apply() and curling_ram_walk() report. */
typedef struct CurlingRamSink {
    /* Pages @first to @first + @count - 1 of @block changed, or are named. */
    void (*pages)(void *opaque, uint32_t block, uint64_t first,
                  uint64_t count);
    /* The next octets of the device state. */
    void (*device)(void *opaque, const uint8_t *data, size_t len_bytes);
    /* The next @count octets of it, which are those at the same place of the
     * round before, 0 beyond its end, with @delta written over them. */
    void (*device_delta)(void *opaque, uint32_t count, const uint8_t *delta,
                         size_t len_bytes);
    void *opaque;
} CurlingRamSink;

/*
 * Write the pages of a validated @payload into the RAM of @layout and pass
 * the rest to @sink (callbacks may be NULL).  Cannot fail.
 */
void curling_ram_apply(const CurlingRamLayout *layout, const uint8_t *payload,
                       size_t len_bytes, const CurlingRamSink *sink);

/* Report what is in a validated @payload, touching no RAM. */
void curling_ram_walk(const CurlingRamLayout *layout, const uint8_t *payload,
                      size_t len_bytes, const CurlingRamSink *sink);

#endif
