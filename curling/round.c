/*
 * The round buffer: all or nothing
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "memory.h"
#include "round-private.h"

/* Sequence numbers are u32 and start at 0. */
#define FRAMES_MAX ((uint64_t)UINT32_MAX + 1)

static_assert(CURLING_HEADER_BYTES + CURLING_PAYLOAD_MAX <=
              CURLING_CHUNK_BYTES, "the longest frame fits a chunk");
static_assert(CURLING_CHUNK_BYTES % CURLING_HUGE_PAGE_BYTES == 0,
              "a chunk is whole huge pages");

/* How many rounds make up the time for which the most that was in use at once
 * is remembered. */
#define AGE_ROUNDS 64

struct CurlingPool {
    _Atomic uint64_t limit;     /* 0: none */
    _Atomic uint64_t now;       /* spare chunks included */
    _Atomic uint64_t peak;

    pthread_mutex_t lock;
    /* protected by @lock */
    uint8_t **spares;
    size_t n_spares;
    size_t spares_allocated;
    size_t keep;                /* so many spares at most */
    size_t most;                /* chunks in use at once, of late... */
    size_t most_before;         /* ... and in the time before */
    unsigned int rounds;
    bool ages;                  /* curling_pool_age() is called */
};

CurlingPool *curling_pool_new(uint64_t limit_bytes)
{
    CurlingPool *pool = calloc(1, sizeof(*pool));

    if (pool) {
        atomic_init(&pool->limit, limit_bytes);
        atomic_init(&pool->now, 0);
        atomic_init(&pool->peak, 0);
        pool->keep = 1;
        pthread_mutex_init(&pool->lock, NULL);
    }
    return pool;
}

static bool above_limit(CurlingPool *pool, uint64_t bytes)
{
    uint64_t limit = atomic_load(&pool->limit);

    return limit && bytes > limit;
}

static void unmap_chunk(CurlingPool *pool, uint8_t *memory)
{
    curling_memory_unmap(memory, CURLING_CHUNK_BYTES);
    atomic_fetch_sub(&pool->now, CURLING_CHUNK_BYTES);
}

static void trim_locked(CurlingPool *pool, size_t keep)
{
    while (pool->n_spares > keep) {
        unmap_chunk(pool, pool->spares[--pool->n_spares]);
    }
}

void curling_pool_free(CurlingPool *pool)
{
    if (!pool) {
        return;
    }
    trim_locked(pool, 0);
    assert(atomic_load(&pool->now) == 0);
    free(pool->spares);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static size_t used_locked(const CurlingPool *pool)
{
    return atomic_load(&pool->now) / CURLING_CHUNK_BYTES - pool->n_spares;
}

void curling_pool_age(CurlingPool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->ages = true;
    if (++pool->rounds % AGE_ROUNDS == 0) {
        pool->most_before = pool->most;
        pool->most = used_locked(pool);
    }
    pool->keep = pool->most > pool->most_before ? pool->most
                                                : pool->most_before;
    pool->keep = pool->keep ? pool->keep : 1;
    trim_locked(pool, pool->keep);
    pthread_mutex_unlock(&pool->lock);
}

void curling_pool_set_limit(CurlingPool *pool, uint64_t limit_bytes)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->limit, limit_bytes);
    while (pool->n_spares && above_limit(pool, atomic_load(&pool->now))) {
        trim_locked(pool, pool->n_spares - 1);
    }
    pthread_mutex_unlock(&pool->lock);
}

void curling_pool_trim(CurlingPool *pool)
{
    pthread_mutex_lock(&pool->lock);
    trim_locked(pool, 0);
    pool->most = pool->most_before = used_locked(pool);
    pool->keep = 1;
    pool->ages = false;
    pthread_mutex_unlock(&pool->lock);
}

uint64_t curling_pool_limit(const CurlingPool *pool)
{
    return atomic_load(&pool->limit);
}

uint64_t curling_pool_now(const CurlingPool *pool)
{
    return atomic_load(&pool->now);
}

uint64_t curling_pool_used(CurlingPool *pool)
{
    uint64_t used;

    pthread_mutex_lock(&pool->lock);
    used = used_locked(pool) * CURLING_CHUNK_BYTES;
    pthread_mutex_unlock(&pool->lock);
    return used;
}

uint64_t curling_pool_peak(const CurlingPool *pool)
{
    return atomic_load(&pool->peak);
}

void curling_pool_forget_peak(CurlingPool *pool)
{
    atomic_store(&pool->peak, atomic_load(&pool->now));
}

static int set_limit_error(CurlingPool *pool, uint64_t needed,
                           CurlingError *err)
{
    return curling_error_set(err, -EOVERFLOW,
                             "rounds need at least %" PRIu64 " bytes of "
                             "memory, the limit is %" PRIu64, needed,
                             atomic_load(&pool->limit));
}

static int account_chunk(CurlingPool *pool, CurlingError *err)
{
    uint64_t now = atomic_load(&pool->now);
    uint64_t peak = atomic_load(&pool->peak);
    uint64_t wanted;

    do {
        wanted = now + CURLING_CHUNK_BYTES;
        if (above_limit(pool, wanted)) {
            return set_limit_error(pool, wanted, err);
        }
    } while (!atomic_compare_exchange_weak(&pool->now, &now, wanted));

    while (peak < wanted &&
           !atomic_compare_exchange_weak(&pool->peak, &peak, wanted)) {
    }
    return 0;
}

static void note_used_locked(CurlingPool *pool)
{
    if (used_locked(pool) > pool->most) {
        pool->most = used_locked(pool);
    }
    if (pool->ages && pool->most > pool->keep) {
        pool->keep = pool->most;
    }
}

static int new_chunk(CurlingPool *pool, uint8_t **memory, CurlingError *err)
{
    int ret = account_chunk(pool, err);

    if (ret) {
        return ret;
    }
    *memory = curling_memory_map(CURLING_CHUNK_BYTES);
    if (!*memory) {
        uint64_t now = atomic_fetch_sub(&pool->now, CURLING_CHUNK_BYTES);

        return curling_error_set(err, -ENOMEM,
                                 "no memory for a round beyond %" PRIu64
                                 " bytes", now - CURLING_CHUNK_BYTES);
    }
    return 0;
}

static int get_chunk(CurlingPool *pool, uint8_t **memory, CurlingError *err)
{
    int ret = 0;

    pthread_mutex_lock(&pool->lock);
    /* Spares are accounted; the limit may have come down since. */
    if (pool->n_spares && !above_limit(pool, atomic_load(&pool->now))) {
        *memory = pool->spares[--pool->n_spares];
    } else {
        ret = new_chunk(pool, memory, err);
    }
    if (ret == 0) {
        note_used_locked(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return ret;
}

static bool grow_spares_locked(CurlingPool *pool)
{
    size_t wanted = pool->spares_allocated ? 2 * pool->spares_allocated : 16;
    uint8_t **spares;

    if (pool->n_spares < pool->spares_allocated) {
        return true;
    }
    spares = realloc(pool->spares, wanted * sizeof(*spares));
    if (!spares) {
        return false;
    }
    pool->spares = spares;
    pool->spares_allocated = wanted;
    return true;
}

static bool keep_spare(CurlingPool *pool, uint8_t *memory)
{
    bool keep;

    pthread_mutex_lock(&pool->lock);
    keep = !above_limit(pool, atomic_load(&pool->now)) &&
           pool->n_spares < pool->keep && grow_spares_locked(pool);
    if (keep) {
        pool->spares[pool->n_spares++] = memory;
    }
    pthread_mutex_unlock(&pool->lock);
    return keep;
}

static void put_chunk(CurlingPool *pool, uint8_t *memory)
{
    if (!keep_spare(pool, memory)) {
        unmap_chunk(pool, memory);
    }
}

CurlingRound *curling_round_new(CurlingPool *pool)
{
    CurlingRound *round = calloc(1, sizeof(*round));

    if (round) {
        round->pool = pool;
    }
    return round;
}

void curling_round_free(CurlingRound *round)
{
    if (round) {
        curling_round_discard(round);
        free(round);
    }
}

void curling_round_begin(CurlingRound *round, uint64_t number,
                         uint32_t generation, uint32_t kind, uint64_t base)
{
    curling_round_discard(round);
    round->state = CURLING_ROUND_OPEN;
    round->number = number;
    round->generation = generation;
    round->kind = kind;
    round->base = base;
}

static CurlingChunk *last_chunk(const CurlingRound *round)
{
    return round->n_chunks ? &round->chunks[round->n_chunks - 1] : NULL;
}

static int grow_chunks(CurlingRound *round, CurlingError *err)
{
    size_t wanted = round->chunks_allocated ? 2 * round->chunks_allocated : 16;
    CurlingChunk *chunks;

    if (round->n_chunks < round->chunks_allocated) {
        return 0;
    }
    chunks = realloc(round->chunks, wanted * sizeof(*chunks));
    if (!chunks) {
        return curling_error_set(err, -ENOMEM, "no memory for a list of %zu "
                                 "chunks", wanted);
    }
    round->chunks = chunks;
    round->chunks_allocated = wanted;
    return 0;
}

static int add_chunk(CurlingRound *round, CurlingError *err)
{
    uint8_t *memory;
    int ret;

    ret = grow_chunks(round, err);
    if (!ret) {
        ret = get_chunk(round->pool, &memory, err);
    }
    if (!ret) {
        round->chunks[round->n_chunks++] = (CurlingChunk) { .memory = memory };
    }
    return ret;
}

/* Where the payload of the next frame goes; there is a chunk */
static uint8_t *next_payload(const CurlingRound *round)
{
    CurlingChunk *chunk = last_chunk(round);

    return chunk->memory + chunk->used + CURLING_HEADER_BYTES;
}

/* How long the payload of a next frame in the last chunk may be */
static size_t bytes_left(const CurlingRound *round)
{
    CurlingChunk *chunk = last_chunk(round);
    size_t left = chunk ? CURLING_CHUNK_BYTES - chunk->used : 0;

    return left > CURLING_HEADER_BYTES ? left - CURLING_HEADER_BYTES : 0;
}

/* The room becomes a frame without checksums. */
static void commit(CurlingRound *round, size_t len)
{
    CurlingChunk *chunk = last_chunk(round);

    assert(len <= round->room_bytes);
    round->room_bytes = 0;
    round->filled_bytes = 0;
    if (!len) {
        return;
    }
    curling_put_u32(chunk->memory + chunk->used + CURLING_HEADER_LENGTH,
                    (uint32_t)len);
    chunk->used += CURLING_HEADER_BYTES + len;
    round->frames++;
    round->bytes += len;
}

/* Commit what ram.c filled, take back what was only reserved. */
static void close_room(CurlingRound *round)
{
    if (round->room_bytes) {
        commit(round, round->filled_bytes);
    }
}

int curling_round_prepare(CurlingRound *round, uint64_t len_bytes,
                          CurlingError *err)
{
    CurlingPool *pool = round->pool;
    CurlingChunk *chunk = last_chunk(round);
    uint64_t ready = bytes_left(round);
    int ret = 0;

    if (ready) {
        curling_memory_populate(chunk->memory + chunk->used,
                                CURLING_CHUNK_BYTES - chunk->used);
    }
    pthread_mutex_lock(&pool->lock);
    ready += pool->n_spares * CURLING_CHUNK_BYTES;
    while (ret == 0 && ready < len_bytes && grow_spares_locked(pool)) {
        uint8_t *memory;

        ret = new_chunk(pool, &memory, err);
        if (ret == 0) {
            curling_memory_populate(memory, CURLING_CHUNK_BYTES);
            pool->spares[pool->n_spares++] = memory;
            ready += CURLING_CHUNK_BYTES;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return ret;
}

/* Room for a frame of @min to @max bytes; no room is reserved now. */
static int reserve(CurlingRound *round, size_t min, size_t max,
                   CurlingError *err)
{
    size_t left;
    int ret;

    if (round->state != CURLING_ROUND_OPEN) {
        return curling_error_set(err, -EINVAL, "no round is open");
    }
    if (round->frames >= FRAMES_MAX) {
        return curling_error_set(err, -EOVERFLOW, "round %" PRIu64
                                 " has %" PRIu64 " frames, more than that "
                                 "cannot be numbered", round->number,
                                 round->frames);
    }
    if (bytes_left(round) < min) {
        ret = add_chunk(round, err);
        if (ret) {
            return ret;
        }
    }
    left = bytes_left(round);
    round->room_bytes = left < max ? left : max;
    round->filled_bytes = 0;
    return 0;
}

uint8_t *curling_round_reserve(CurlingRound *round, size_t max_bytes)
{
    close_room(round);
    /* The length may be what a peer says: no assertion here. */
    if (max_bytes < 1 || max_bytes > CURLING_PAYLOAD_MAX ||
        reserve(round, max_bytes, max_bytes, NULL)) {
        return NULL;
    }
    return next_payload(round);
}

void curling_round_commit(CurlingRound *round, size_t len_bytes)
{
    commit(round, len_bytes);
}

int curling_round_room(CurlingRound *round, size_t min_bytes, uint8_t **room,
                       size_t *len_bytes, CurlingError *err)
{
    int ret;

    if (round->room_bytes - round->filled_bytes < min_bytes) {
        close_room(round);
        ret = reserve(round, min_bytes, CURLING_PAYLOAD_MAX, err);
        if (ret) {
            return ret;
        }
    }
    *room = next_payload(round) + round->filled_bytes;
    *len_bytes = round->room_bytes - round->filled_bytes;
    return 0;
}

void curling_round_fill(CurlingRound *round, size_t len_bytes)
{
    assert(len_bytes <= round->room_bytes - round->filled_bytes);
    round->filled_bytes += len_bytes;
}

static int check_appended(const CurlingRound *round,
                          const CurlingHeader *header, CurlingError *err)
{
    if (round->state != CURLING_ROUND_OPEN) {
        return curling_error_set(err, -EPROTO,
                                 "frame for round %" PRIu64 ", but no round "
                                 "is open", header->round);
    }
    if (header->type != CURLING_TYPE_DATA) {
        return curling_error_set(err, -EPROTO,
                                 "frame in round %" PRIu64 ": got %s, "
                                 "expected DATA", round->number,
                                 curling_frame_type_name(header->type));
    }
    if (header->generation != round->generation) {
        return curling_error_set(err, -EPROTO,
                                 "DATA of another generation: got %" PRIu32
                                 ", expected %" PRIu32, header->generation,
                                 round->generation);
    }
    if (header->round != round->number) {
        return curling_error_set(err, -EPROTO,
                                 "DATA of another round: got %" PRIu64
                                 ", expected %" PRIu64, header->round,
                                 round->number);
    }
    if (round->frames < FRAMES_MAX && header->sequence != round->frames) {
        return curling_error_set(err, -EPROTO,
                                 "DATA out of sequence in round %" PRIu64
                                 ": got %" PRIu32 ", expected %" PRIu64,
                                 round->number, header->sequence,
                                 round->frames);
    }
    return curling_frame_check_type(header, err);
}

int curling_round_append(CurlingRound *round, const CurlingHeader *header,
                         const uint8_t *payload, CurlingError *err)
{
    size_t len = header->length_bytes;
    CurlingChunk *chunk;
    uint8_t *wire;
    int ret;

    /* Only who stages and appends in turns has something to finish here. */
    if (round->filled_bytes || round->finished_frames != round->frames) {
        curling_round_finish_frames(round);
    }
    ret = check_appended(round, header, err);
    if (!ret && round->room_bytes < len) {
        ret = reserve(round, len, len, err);
    }
    if (!ret && !payload) {
        ret = curling_error_set(err, -EAGAIN, "there is memory again");
    }
    if (!ret) {
        ret = curling_frame_check_payload(header, payload, err);
    }
    if (ret) {
        return ret;
    }
    if (payload != next_payload(round)) {
        memmove(next_payload(round), payload, len);
    }
    chunk = last_chunk(round);
    wire = chunk->memory + chunk->used;
    commit(round, len);
    curling_frame_encode(header, wire);
    chunk->finished = chunk->used;
    round->finished_frames = round->frames;
    round->finished_bytes = round->bytes;
    round->digest = curling_crc32c(round->digest, wire, CURLING_HEADER_BYTES);
    return 0;
}

static void finish_frame(CurlingRound *round, uint8_t *wire, uint32_t len)
{
    CurlingHeader header = {
        .type = CURLING_TYPE_DATA,
        .generation = round->generation,
        .sequence = (uint32_t)round->finished_frames,
        .round = round->number,
        .length_bytes = len,
        .payload_crc = curling_crc32c(0, wire + CURLING_HEADER_BYTES, len),
    };

    curling_frame_encode(&header, wire);
    round->digest = curling_crc32c(round->digest, wire, CURLING_HEADER_BYTES);
    round->finished_frames++;
    round->finished_bytes += len;
}

void curling_round_finish_frames(CurlingRound *round)
{
    close_room(round);
    for (size_t i = 0; i < round->n_chunks; i++) {
        CurlingChunk *chunk = &round->chunks[i];

        while (chunk->finished < chunk->used) {
            uint8_t *wire = chunk->memory + chunk->finished;
            uint32_t len = curling_get_u32(wire + CURLING_HEADER_LENGTH);

            finish_frame(round, wire, len);
            chunk->finished += CURLING_HEADER_BYTES + len;
        }
    }
}

void curling_round_rewrite(CurlingRound *round,
                           const uint8_t *(*fn)(void *opaque,
                                                const uint8_t *payload,
                                                size_t *len_bytes),
                           void *opaque)
{
    close_room(round);
    for (size_t i = 0; i < round->n_chunks; i++) {
        CurlingChunk *chunk = &round->chunks[i];
        size_t from = chunk->finished;
        size_t to = chunk->finished;

        while (from < chunk->used) {
            uint8_t *old = chunk->memory + from;
            uint8_t *new = chunk->memory + to;
            size_t old_len = curling_get_u32(old + CURLING_HEADER_LENGTH);
            size_t len = old_len;
            const uint8_t *payload = fn(opaque, old + CURLING_HEADER_BYTES,
                                        &len);

            assert(len <= old_len);
            if (len) {
                memmove(new + CURLING_HEADER_BYTES, payload, len);
                curling_put_u32(new + CURLING_HEADER_LENGTH, (uint32_t)len);
                to += CURLING_HEADER_BYTES + len;
            } else {
                round->frames--;
            }
            round->bytes -= old_len - len;
            round->saved_bytes += old_len - len;
            from += CURLING_HEADER_BYTES + old_len;
        }
        chunk->used = to;
    }
}

void curling_round_seal(CurlingRound *round)
{
    if (round->state == CURLING_ROUND_OPEN) {
        curling_round_finish_frames(round);
        round->state = CURLING_ROUND_SEALED;
    }
}

int curling_round_verify(CurlingRound *round, const uint8_t *end,
                         CurlingError *err)
{
    uint64_t frames = curling_get_u64(end + CURLING_END_FRAMES);
    uint64_t bytes = curling_get_u64(end + CURLING_END_BYTES);
    uint32_t digest = curling_get_u32(end + CURLING_END_DIGEST);
    uint32_t reserved = curling_get_u32(end + CURLING_END_RESERVED);

    if (round->state != CURLING_ROUND_OPEN) {
        return curling_error_set(err, -EPROTO,
                                 "ROUND_END, but no round is open");
    }
    curling_round_finish_frames(round);
    if (frames != round->frames || bytes != round->bytes) {
        return curling_error_set(err, -EPROTO,
                                 "round %" PRIu64 " is not whole: got %" PRIu64
                                 " frames of %" PRIu64 " bytes, expected %"
                                 PRIu64 " of %" PRIu64, round->number,
                                 round->frames, round->bytes, frames, bytes);
    }
    if (digest != round->digest) {
        return curling_error_set(err, -EPROTO,
                                 "round %" PRIu64 " is damaged: got digest "
                                 "0x%08" PRIx32 ", expected 0x%08" PRIx32,
                                 round->number, round->digest, digest);
    }
    if (reserved) {
        return curling_error_set(err, -EPROTO,
                                 "reserved field of ROUND_END: got 0x%08"
                                 PRIx32 ", expected 0", reserved);
    }
    round->state = CURLING_ROUND_SEALED;
    return 0;
}

void curling_round_get_begin(const CurlingRound *round, uint8_t *begin)
{
    curling_put_u32(begin + CURLING_BEGIN_KIND, round->kind);
    curling_put_u32(begin + CURLING_BEGIN_RESERVED, 0);
    curling_put_u64(begin + CURLING_BEGIN_BASE, round->base);
}

void curling_round_get_end(const CurlingRound *round, uint8_t *end)
{
    curling_put_u64(end + CURLING_END_FRAMES, round->finished_frames);
    curling_put_u64(end + CURLING_END_BYTES, round->finished_bytes);
    curling_put_u32(end + CURLING_END_DIGEST, round->digest);
    curling_put_u32(end + CURLING_END_RESERVED, 0);
}

/* Forget everything but the pool; who called has the chunks. */
static void reset(CurlingRound *round)
{
    *round = (CurlingRound) { .pool = round->pool };
}

CurlingRound *curling_round_take(CurlingRound *round)
{
    CurlingRound *taken;

    if (round->state != CURLING_ROUND_SEALED) {
        return NULL;
    }
    taken = malloc(sizeof(*taken));
    if (taken) {
        *taken = *round;
        reset(round);
    }
    return taken;
}

void curling_round_discard(CurlingRound *round)
{
    for (size_t i = 0; i < round->n_chunks; i++) {
        put_chunk(round->pool, round->chunks[i].memory);
    }
    free(round->chunks);
    reset(round);
}

void curling_round_drop_frames(CurlingRound *round)
{
    size_t last = round->n_chunks ? round->n_chunks - 1 : 0;
    size_t kept = 0;

    for (size_t i = 0; i < round->n_chunks; i++) {
        CurlingChunk chunk = round->chunks[i];

        chunk.start = chunk.finished;
        if (i == last && chunk.finished == chunk.used && !round->room_bytes) {
            chunk = (CurlingChunk) { .memory = chunk.memory };
        }
        if (i == last || chunk.finished < chunk.used) {
            round->chunks[kept++] = chunk;
        } else {
            put_chunk(round->pool, chunk.memory);
        }
    }
    round->n_chunks = kept;
}

const uint8_t *curling_round_span(const CurlingRound *round, size_t *cursor,
                                  size_t *len_bytes)
{
    while (*cursor < round->n_chunks) {
        const CurlingChunk *chunk = &round->chunks[(*cursor)++];

        if (chunk->finished > chunk->start) {
            *len_bytes = chunk->finished - chunk->start;
            return chunk->memory + chunk->start;
        }
    }
    return NULL;
}

bool curling_round_next(const CurlingRound *round, CurlingRoundIter *iter,
                        const uint8_t **payload, size_t *len_bytes)
{
    while (iter->chunk < round->n_chunks) {
        const CurlingChunk *chunk = &round->chunks[iter->chunk];
        const uint8_t *wire;

        if (iter->offset_bytes < chunk->start) {
            iter->offset_bytes = chunk->start;
        }
        if (iter->offset_bytes < chunk->used) {
            wire = chunk->memory + iter->offset_bytes;
            *payload = wire + CURLING_HEADER_BYTES;
            *len_bytes = curling_get_u32(wire + CURLING_HEADER_LENGTH);
            iter->offset_bytes += CURLING_HEADER_BYTES + *len_bytes;
            return true;
        }
        iter->chunk++;
        iter->offset_bytes = 0;
    }
    return false;
}

CurlingRoundState curling_round_state(const CurlingRound *round)
{
    return round->state;
}

uint64_t curling_round_number(const CurlingRound *round)
{
    return round->number;
}

uint32_t curling_round_generation(const CurlingRound *round)
{
    return round->generation;
}

uint32_t curling_round_kind(const CurlingRound *round)
{
    return round->kind;
}

uint64_t curling_round_base(const CurlingRound *round)
{
    return round->base;
}

uint64_t curling_round_frames(const CurlingRound *round)
{
    return round->frames + (round->filled_bytes ? 1 : 0);
}

uint64_t curling_round_bytes(const CurlingRound *round)
{
    return round->bytes + round->filled_bytes;
}

uint64_t curling_round_raw_bytes(const CurlingRound *round)
{
    return curling_round_bytes(round) + round->saved_bytes;
}
