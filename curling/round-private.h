/*
 * The inside of a round, for round.c, ram.c and the tests
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_ROUND_PRIVATE_H
#define CURLING_ROUND_PRIVATE_H

#include "round.h"

/*
 * CURLING_CHUNK_BYTES at @memory:
 *
 *      0       start        finished        used
 *      | shipped | on the wire | header open | free ...
 *
 * A frame between @finished and @used has in its header only the length.
 */
typedef struct CurlingChunk {
    uint8_t *memory;
    size_t start;               /* before it: dropped */
    size_t finished;
    size_t used;
} CurlingChunk;

/* One thread only, as round.h says. */
struct CurlingRound {
    CurlingPool *pool;          /* borrowed; constant after init */
    CurlingRoundState state;

    uint64_t number;
    uint32_t generation;
    uint32_t kind;
    uint64_t base;

    CurlingChunk *chunks;
    size_t n_chunks;
    size_t chunks_allocated;

    /* The room at the end of the last chunk: the open frame */
    size_t room_bytes;          /* 0: none reserved */
    size_t filled_bytes;        /* by curling_round_fill() */

    /* Since begin, dropped frames included */
    uint64_t frames;            /* committed */
    uint64_t bytes;
    uint64_t saved_bytes;       /* by curling_round_rewrite() */
    uint64_t finished_frames;
    uint64_t finished_bytes;
    uint32_t digest;            /* of the finished ones */
    uint64_t device_bytes;      /* staged by curling_ram_put_device() */
};

/*
 * OPEN only.  Room in the frame that several records share: at least
 * @min_bytes (at most CURLING_PAYLOAD_MAX) and as much more as there is in
 * *@len_bytes, at *@room.  What curling_round_fill() then takes of it is
 * committed when the next record does not fit, or with whatever function of
 * round.h comes next.
 *
 * Returns 0; -EOVERFLOW the pool's limit, or no sequence number left;
 * -ENOMEM; -EINVAL not OPEN.
 */
int curling_round_room(CurlingRound *round, size_t min_bytes, uint8_t **room,
                       size_t *len_bytes, CurlingError *err);
void curling_round_fill(CurlingRound *round, size_t len_bytes);

/*
 * OPEN only.  Replace the payload of each frame that is not finished by what
 * @fn makes of it: it returns where the new one is, and sets *@len_bytes to a
 * length that is not above the old one; 0 removes the frame.
 */
void curling_round_rewrite(CurlingRound *round,
                           const uint8_t *(*fn)(void *opaque,
                                                const uint8_t *payload,
                                                size_t *len_bytes),
                           void *opaque);

#endif
