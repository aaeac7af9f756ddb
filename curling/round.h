/*
 * The round buffer: all or nothing
 *
 * A round is kept as the frames that it has on the wire, one behind the
 * other in chunks of memory that never move: a round of 10 GB is never
 * copied to make it larger.  The sender stages into one and ships its chunks
 * as they are; the receiver reads frames into one and hands it on only when
 * ROUND_END agrees with what arrived.
 *
 *      EMPTY --begin--> OPEN --seal/verify--> SEALED --take--> EMPTY
 *        ^                |                      |
 *        +----discard-----+----------------------+
 *
 * A round is used by one thread at a time; rounds of one pool may grow in
 * several.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_ROUND_H
#define CURLING_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "frame.h"

/* Memory of a chunk; a frame never crosses the end of one. */
#define CURLING_CHUNK_BYTES (4u << 20)

typedef enum CurlingRoundState {
    CURLING_ROUND_EMPTY,
    CURLING_ROUND_OPEN,
    CURLING_ROUND_SEALED,
} CurlingRoundState;

/* Memory account that the rounds of one side share. */
typedef struct CurlingPool CurlingPool;
typedef struct CurlingRound CurlingRound;

/*
 * A pool that lets its rounds hold @limit_bytes (0: no limit) at any time.
 * Returned pool is freed with curling_pool_free() after its rounds are; NULL
 * without memory.
 */
CurlingPool *curling_pool_new(uint64_t limit_bytes);
void curling_pool_free(CurlingPool *pool);

/* A lower limit than what is held stops growth; it takes away what no round
 * uses, and nothing else. */
void curling_pool_set_limit(CurlingPool *pool, uint64_t limit_bytes);
uint64_t curling_pool_limit(const CurlingPool *pool);

/*
 * A round begins: where this is called once for each, the pool keeps as much
 * memory as rounds had in use at once of late, some 100 of them, for the next
 * ones; else one chunk.  Any thread.
 */
void curling_pool_age(CurlingPool *pool);

/* There will be no round for a while: give back what none uses. */
void curling_pool_trim(CurlingPool *pool);

/* Bytes of chunks held now, spare ones included, and the most that ever
 * were; those that rounds use. */
uint64_t curling_pool_now(const CurlingPool *pool);
uint64_t curling_pool_peak(const CurlingPool *pool);
uint64_t curling_pool_used(CurlingPool *pool);

/* The peak is what is held now. */
void curling_pool_forget_peak(CurlingPool *pool);

/*
 * An EMPTY round that takes its memory from @pool (borrowed).  Freed with
 * curling_round_free(), which takes NULL too.  NULL without memory.
 */
CurlingRound *curling_round_new(CurlingPool *pool);
void curling_round_free(CurlingRound *round);

/* EMPTY -> OPEN; what another state holds is discarded first.  @base: the
 * round a delta is against, or none. */
void curling_round_begin(CurlingRound *round, uint64_t number,
                         uint32_t generation, uint32_t kind, uint64_t base);

/*
 * See that the next @len_bytes that @round takes are in memory by then: new
 * memory costs its user a page fault and the time to clear it.  What of them
 * does not fit the pool's limit is not there (-EOVERFLOW, -ENOMEM); what is
 * there is used first all the same.
 */
int curling_round_prepare(CurlingRound *round, uint64_t len_bytes,
                          CurlingError *err);

/*
 * OPEN only.  Room for one DATA frame with a payload of up to @max_bytes (1
 * to CURLING_PAYLOAD_MAX); returns where the payload goes, NULL if the pool's
 * limit or the memory is reached (curling_round_append() with a NULL payload
 * tells which), for a length that no frame has, or in another state.  The
 * room is the round's only after curling_round_commit() with the bytes really
 * written (at most @max_bytes; 0 gives it back); a second reserve takes back
 * an uncommitted one.
 */
uint8_t *curling_round_reserve(CurlingRound *round, size_t max_bytes);

/*
 * Make the reserved room a frame of @len_bytes.  The sender's way: header
 * and checksums are written later, by curling_round_seal().
 */
void curling_round_commit(CurlingRound *round, size_t len_bytes);

/*
 * OPEN only, the receiver's way: keep a frame that arrived.  Checks that it
 * is DATA of this round and generation, next in sequence, and that @payload
 * (in place from curling_round_reserve(), or anywhere: then copied) matches
 * its checksum.
 *
 * Returns 0; -EPROTO bad frame, or a round not OPEN; -EOVERFLOW the pool's
 * limit, or more frames than can be numbered; -ENOMEM; -EAGAIN if @payload is
 * NULL and there would be room.  The round stays OPEN and without the frame
 * on error.
 */
int curling_round_append(CurlingRound *round, const CurlingHeader *header,
                         const uint8_t *payload, CurlingError *err);

/*
 * OPEN -> SEALED, sender: write the headers and checksums of the frames that
 * curling_round_commit() left open.  Costs one pass over the data: call it
 * after the guest was resumed.  Another state stays as it is.
 */
void curling_round_seal(CurlingRound *round);

/*
 * OPEN -> SEALED, receiver: does @end, the CURLING_END_SIZE octets of
 * ROUND_END's payload, agree with what arrived?
 * Returns 0, or -EPROTO with got and expected; the round then stays OPEN.
 * -EPROTO in another state, too.
 */
int curling_round_verify(CurlingRound *round, const uint8_t *end,
                         CurlingError *err);

/* ROUND_BEGIN's and ROUND_END's payload, the latter of the finished frames
 * so far; @begin and @end have CURLING_BEGIN_BYTES, CURLING_END_SIZE. */
void curling_round_get_begin(const CurlingRound *round, uint8_t *begin);
void curling_round_get_end(const CurlingRound *round, uint8_t *end);

/*
 * SEALED only: move the content into a round of its own, which the caller
 * frees; @round is EMPTY then.  NULL without memory or in another state,
 * @round unchanged.
 */
CurlingRound *curling_round_take(CurlingRound *round);

/* Any state -> EMPTY; memory goes back to the pool, which keeps some of it
 * for the next round (curling_pool_age()) and gives back the rest. */
void curling_round_discard(CurlingRound *round);

/*
 * For a round too large to stage whole (the first one, taken while the guest
 * runs): complete the headers of the frames so far, so that
 * curling_round_span() can ship them, and later forget these while counters
 * and digest go on; frames not completed yet are kept.  OPEN only.
 */
void curling_round_finish_frames(CurlingRound *round);
void curling_round_drop_frames(CurlingRound *round);

/*
 * The frames as they go over the wire, a contiguous span at a time: start
 * with *@cursor = 0; returns the span and sets *@len_bytes, or NULL at the
 * end.  Only whole, finished frames.  Borrowed until the round changes.
 */
const uint8_t *curling_round_span(const CurlingRound *round, size_t *cursor,
                                  size_t *len_bytes);

/*
 * Payload by payload, for those who read the records: start with a zeroed
 * @iter, and again after frames were dropped; false at the end.
 */
typedef struct CurlingRoundIter {
    size_t chunk;
    size_t offset_bytes;
} CurlingRoundIter;

bool curling_round_next(const CurlingRound *round, CurlingRoundIter *iter,
                        const uint8_t **payload, size_t *len_bytes);

CurlingRoundState curling_round_state(const CurlingRound *round);
uint64_t curling_round_number(const CurlingRound *round);
uint32_t curling_round_generation(const CurlingRound *round);
uint32_t curling_round_kind(const CurlingRound *round);
uint64_t curling_round_base(const CurlingRound *round);
/* DATA frames and their payload bytes since begin. */
uint64_t curling_round_frames(const CurlingRound *round);
uint64_t curling_round_bytes(const CurlingRound *round);
/* The latter before curling_packer_pack() made them fewer. */
uint64_t curling_round_raw_bytes(const CurlingRound *round);

#endif
