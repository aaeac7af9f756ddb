/*
 * The applier: a thread that writes whole rounds into RAM
 *
 * One round at a time.  It is submitted by the receiver's reader, which goes
 * on reading the next one meanwhile.  The first round of a session may be
 * streamed: written by the reader as it comes, and submitted at its end.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_APPLY_H
#define CURLING_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "pack.h"
#include "ram.h"
#include "round.h"

typedef struct CurlingApplier CurlingApplier;

typedef struct CurlingAppliedRound {
    uint64_t number;
    uint32_t kind;
    uint64_t bytes;             /* payload of its DATA frames */
    uint64_t pages;
    uint64_t apply_us;
} CurlingAppliedRound;

/* Called in the applier's thread; @pages of a streamed round in the
 * reader's. */
typedef struct CurlingApplierOps {
    /* Pages were written.  May be NULL. */
    void (*pages)(void *opaque, uint32_t block, uint64_t first,
                  uint64_t count);
    /* RAM is that of @round; @device is its device state (borrowed).  Blocks
     * as long as it likes.  -errno: the round cannot be loaded. */
    int (*load)(void *opaque, const CurlingAppliedRound *round,
                const uint8_t *device, size_t len_bytes, CurlingError *err);
    /* How it ended: @ret as from @load. */
    void (*done)(void *opaque, const CurlingAppliedRound *round, int ret,
                 const CurlingError *err);
    void *opaque;
} CurlingApplierOps;

/*
 * @layout and @codec: borrowed, @codec may be NULL; @ops: copied.  Starts the
 * thread.  NULL without memory or threads.  Freed with curling_applier_free(),
 * which finishes the round under way first and takes NULL.
 */
CurlingApplier *curling_applier_new(const CurlingRamLayout *layout,
                                    const CurlingCodec *codec,
                                    const CurlingApplierOps *ops);
void curling_applier_free(CurlingApplier *applier);

/* Reader, while idle: begin a round that is streamed, and write validated
 * payload of it. */
void curling_applier_stream_begin(CurlingApplier *applier);
void curling_applier_stream(CurlingApplier *applier, const uint8_t *payload,
                            size_t len_bytes);

/*
 * Reader, while idle: apply @whole (SEALED; taken).  @device_bytes: how much
 * device state it has; @streamed: its pages are in RAM already.
 */
void curling_applier_submit(CurlingApplier *applier, CurlingRound *whole,
                            bool streamed, uint64_t device_bytes);

/* Wait until the applier is idle, until @deadline_ns at most.  True: idle. */
bool curling_applier_wait(CurlingApplier *applier, int64_t deadline_ns);

/* A round could not be loaded; @err says why.  Any thread. */
bool curling_applier_is_broken(CurlingApplier *applier, CurlingError *err);

/* While idle: what could not be loaded is forgotten. */
void curling_applier_mend(CurlingApplier *applier);

/* While idle: the device state of the last round (borrowed until the next
 * submit). */
const uint8_t *curling_applier_device(const CurlingApplier *applier,
                                      size_t *len_bytes);

#endif
