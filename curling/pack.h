/*
 * Packing: the records of a round in fewer octets
 *
 * What is staged while the guest is paused are whole pages.  The packer works
 * on the staged copy, once the guest runs again: pages of zeroes, pages that
 * did not change, deltas against old copies, and whole payloads through a
 * codec such as zstd.
 *
 *      staged frame -> [zeroes, deltas] -> [codec] -> the same frame, shorter
 *
 * Old copies are what the receiver's RAM is once it has applied all that was
 * packed so far.  So after a round that the receiver may not have, or not
 * have as it was packed, curling_packer_forget() has to come.
 *
 * Threads: one; curling_packer_copies_bytes() any.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_PACK_H
#define CURLING_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "ram.h"
#include "round.h"

/*
 * A codec, from whoever has one.  Constant; a context belongs to one thread
 * at a time.
 */
typedef struct CurlingCodec {
    void *(*context_new)(void);                 /* NULL without memory */
    void (*context_free)(void *context);        /* takes NULL */
    /* Octets written to @to, 0 if they would be more than @max_bytes. */
    size_t (*pack)(void *context, const uint8_t *from, size_t len_bytes,
                   uint8_t *to, size_t max_bytes);
    /* Octets written to @to, -1 if they would be more than @max_bytes, or if
     * @from is not what pack() makes.  @from is hostile. */
    ssize_t (*unpack)(void *context, const uint8_t *from, size_t len_bytes,
                      uint8_t *to, size_t max_bytes);
} CurlingCodec;

/* What is done to a round: any of these together. */
#define CURLING_PACK_NONE 0
#define CURLING_PACK_DELTA 1
#define CURLING_PACK_CODEC 2
#define CURLING_PACK_METHODS 4          /* so many combinations */
/* Also: see what deltas would do, or do, to one page in CURLING_SAMPLE. */
#define CURLING_PACK_SAMPLE 4
#define CURLING_SAMPLE 16

/* What came of a round; times include all its parts. */
typedef struct CurlingPacked {
    uint64_t raw_bytes;         /* payloads as they were staged */
    uint64_t bytes;             /* and as they are shipped */
    int64_t delta_ns;           /* what deltas took, or their sample, */
    uint64_t delta_bytes;       /* for so many octets of pages */
    uint64_t judged_raw_bytes;  /* of these, pages that had a copy, or could
                                 * get none, */
    uint64_t judged_bytes;      /* and what is left, or would be */
    int64_t codec_ns;           /* what the codec took, */
    uint64_t codec_raw_bytes;   /* for so many octets, */
    uint64_t codec_bytes;       /* of which so many are left */
} CurlingPacked;

typedef struct CurlingPacker CurlingPacker;

/* @layout and @codec: borrowed; @codec may be NULL.  NULL without memory;
 * freed with curling_packer_free(), which takes NULL. */
CurlingPacker *curling_packer_new(const CurlingRamLayout *layout,
                                  const CurlingCodec *codec);
void curling_packer_free(CurlingPacker *packer);

/* What old copies may take, and take now. */
void curling_packer_set_limit(CurlingPacker *packer, uint64_t limit_bytes);
uint64_t curling_packer_copies_bytes(const CurlingPacker *packer);

/*
 * A round begins, to be packed by @method.  @against: it is one against a
 * held round, whose device state and pages deltas may refer to; else there
 * are no deltas.
 */
void curling_packer_begin(CurlingPacker *packer, unsigned int method,
                          bool against);

/*
 * Pack the frames of an OPEN @round that are not finished yet.  Frames only
 * get shorter, so this cannot fail; a frame of which nothing is left goes.
 */
void curling_packer_pack(CurlingPacker *packer, CurlingRound *round);

/* Of the round at hand, so far. */
const CurlingPacked *curling_packer_result(const CurlingPacker *packer);

/* The round is whole: the next one is against it. */
void curling_packer_end(CurlingPacker *packer);

/* What the receiver has is not what was packed. */
void curling_packer_forget(CurlingPacker *packer);

/* ---- At the receiver ----------------------------------------------------- */

/* Room to unpack one payload at a time into. */
typedef struct CurlingUnpacker CurlingUnpacker;

/* @codec: borrowed, may be NULL.  As curling_packer_new(). */
CurlingUnpacker *curling_unpacker_new(const CurlingCodec *codec);
void curling_unpacker_free(CurlingUnpacker *unpacker);

/*
 * If the payload is a ZSTD record, *@payload and *@len_bytes become what is in
 * it, borrowed until the next call; else they stay.  Returns 0, or
 * -EPROTO for what cannot be unpacked; what could be once can be again.
 */
int curling_unpack(CurlingUnpacker *unpacker, const uint8_t **payload,
                   size_t *len_bytes, CurlingError *err);

#endif
