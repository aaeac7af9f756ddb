/*
 * Fault: a stream that is cut, damaged, reordered, repeated or thinned out;
 * memory that ends; calls in the wrong state.
 * Invariant: a round is whole or it is none, and every byte of its memory
 * is accounted for and given back.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "crc32c.h"
#include "memory.h"
#include "round-private.h"

#define MIB (1u << 20)
#define GIB (1u << 30)

/*
 * The library's mmap() and munmap(), to see that chunks are given back and
 * to let the system have none.
 */
static _Atomic int chunks_mapped;
static _Atomic bool refuse_chunks;
static _Atomic uintptr_t next_chunk_at;         /* 0: anywhere */

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (len == CURLING_CHUNK_BYTES + CURLING_HUGE_PAGE_BYTES) {
        if (refuse_chunks) {
            errno = ENOMEM;
            return MAP_FAILED;
        }
        chunks_mapped++;
        if (next_chunk_at) {
            addr = (void *)next_chunk_at;
        }
    }
    return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

int munmap(void *addr, size_t len)
{
    if (len == CURLING_CHUNK_BYTES) {
        chunks_mapped--;
    }
    return (int)syscall(SYS_munmap, addr, len);
}

/* A pool and two rounds of it, in every test */
typedef struct Fixture {
    CurlingPool *pool;
    CurlingRound *sender;
    CurlingRound *receiver;
} Fixture;

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof(*f));

    f->pool = curling_pool_new(0);
    f->sender = curling_round_new(f->pool);
    f->receiver = curling_round_new(f->pool);
    *state = f;
    return f->pool && f->sender && f->receiver ? 0 : -1;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    curling_round_free(f->sender);
    curling_round_free(f->receiver);
    curling_pool_free(f->pool);
    free(f);
    return chunks_mapped;
}

static void begin(CurlingRound *round)
{
    curling_round_begin(round, 7, 3, CURLING_KIND_DELTA, 6);
}

/* Content of frame @frame, so that each differs */
static void fill(uint8_t *payload, size_t len, unsigned int frame)
{
    for (size_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)((i * 31 + frame * 101) ^ (i >> 8));
    }
}

static void stage(CurlingRound *round, size_t len, unsigned int frame)
{
    uint8_t *payload = curling_round_reserve(round, len);

    assert_non_null(payload);
    fill(payload, len, frame);
    curling_round_commit(round, len);
}

/* Header and content of frame @frame of the round that begin() opens */
static CurlingHeader arriving(uint8_t *payload, size_t len,
                              unsigned int frame)
{
    CurlingHeader header = {
        .type = CURLING_TYPE_DATA,
        .generation = 3,
        .sequence = frame,
        .round = 7,
        .length_bytes = len,
    };

    fill(payload, len, frame);
    header.payload_crc = curling_crc32c(0, payload, len);
    return header;
}

/* All spans of @round, one behind the other; free() it */
static uint8_t *gather(const CurlingRound *round, size_t *len)
{
    size_t cursor = 0;
    const uint8_t *span;
    size_t span_len;
    uint8_t *all = NULL;

    *len = 0;
    while ((span = curling_round_span(round, &cursor, &span_len))) {
        assert_true(span_len > 0);
        all = realloc(all, *len + span_len);
        assert_non_null(all);
        memcpy(all + *len, span, span_len);
        *len += span_len;
    }
    return all;
}

static void assert_message(const CurlingError *err, const char *part)
{
    if (!strstr(err->text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, part);
    }
}

/* Nothing in it, nothing left of what was */
static void assert_empty(const CurlingRound *round)
{
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t cursor = 0;
    size_t len;

    assert_int_equal(curling_round_state(round), CURLING_ROUND_EMPTY);
    assert_true(curling_round_frames(round) == 0);
    assert_true(curling_round_bytes(round) == 0);
    assert_false(curling_round_next(round, &iter, &payload, &len));
    assert_null(curling_round_span(round, &cursor, &len));
}

/* A stream holds what was staged, header by header */
static void assert_stream(const uint8_t *wire, size_t len,
                          const size_t *lens, unsigned int n_frames)
{
    uint32_t sequence = 0;

    for (unsigned int i = 0; i < n_frames; i++) {
        uint8_t *expected = malloc(lens[i]);
        CurlingHeader header;

        assert_non_null(expected);
        assert_true(len >= CURLING_HEADER_BYTES + lens[i]);
        assert_int_equal(curling_frame_decode(wire, &header, NULL), 0);
        assert_int_equal(header.type, CURLING_TYPE_DATA);
        assert_int_equal(header.flags, 0);
        assert_int_equal(header.generation, 3);
        assert_int_equal(header.sequence, sequence++);
        assert_true(header.round == 7);
        assert_int_equal(header.length_bytes, lens[i]);
        wire += CURLING_HEADER_BYTES;
        assert_int_equal(curling_frame_check_payload(&header, wire, NULL), 0);
        fill(expected, lens[i], i);
        assert_int_equal(memcmp(wire, expected, lens[i]), 0);
        wire += lens[i];
        len -= CURLING_HEADER_BYTES + lens[i];
        free(expected);
    }
    assert_int_equal(len, 0);
}

static void test_accessors(void **state)
{
    Fixture *f = *state;
    uint8_t octets[CURLING_BEGIN_BYTES];
    static const uint8_t expected[CURLING_BEGIN_BYTES] = {
        0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
    };

    assert_empty(f->sender);
    curling_round_begin(f->sender, 0x1234567890, 0x87654321,
                        CURLING_KIND_FULL, 0x0102030405060708);
    assert_int_equal(curling_round_state(f->sender), CURLING_ROUND_OPEN);
    assert_true(curling_round_number(f->sender) == 0x1234567890);
    assert_int_equal(curling_round_generation(f->sender), 0x87654321);
    assert_int_equal(curling_round_kind(f->sender), CURLING_KIND_FULL);
    assert_true(curling_round_base(f->sender) == 0x0102030405060708);
    memset(octets, 0xa5, sizeof(octets));
    curling_round_get_begin(f->sender, octets);
    assert_memory_equal(octets, expected, sizeof(octets));
}

static void test_octets_of_end_are_fixed(void **state)
{
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE];
    uint8_t *wire;
    size_t len;

    begin(f->sender);
    stage(f->sender, 100, 0);
    stage(f->sender, 200, 1);
    curling_round_seal(f->sender);
    memset(end, 0xa5, sizeof(end));
    curling_round_get_end(f->sender, end);
    assert_memory_equal(end, "\0\0\0\0\0\0\0\2\0\0\0\0\0\0\x01\x2c", 16);
    assert_memory_equal(end + 20, "\0\0\0\0", 4);
    /* The digest is that of the headers, in order. */
    wire = gather(f->sender, &len);
    assert_int_equal(len, 380);
    assert_int_equal(curling_get_u32(end + CURLING_END_DIGEST),
                     curling_crc32c(curling_crc32c(0, wire, 40), wire + 140,
                                    40));
    free(wire);
}

static void test_round_of_no_frames(void **state)
{
    Fixture *f = *state;
    static const uint8_t expected[CURLING_END_SIZE] = { 0 };
    uint8_t end[CURLING_END_SIZE];
    size_t cursor = 0;
    size_t len;

    begin(f->sender);
    curling_round_seal(f->sender);
    assert_null(curling_round_span(f->sender, &cursor, &len));
    curling_round_get_end(f->sender, end);
    assert_memory_equal(end, expected, sizeof(end));
    begin(f->receiver);
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
    assert_int_equal(curling_round_state(f->receiver), CURLING_ROUND_SEALED);
    assert_true(curling_pool_peak(f->pool) == 0);
}

static void test_staged_round_on_the_wire(void **state)
{
    static const size_t lens[] = {
        1, 4096, CURLING_PAYLOAD_MAX, 17, CURLING_PAYLOAD_MAX, 2,
    };
    Fixture *f = *state;
    uint8_t *wire;
    size_t cursor = 0;
    size_t len;

    begin(f->sender);
    for (int i = 0; i < 6; i++) {
        stage(f->sender, lens[i], i);
    }
    /* Not before the headers are written */
    assert_null(curling_round_span(f->sender, &cursor, &len));
    assert_true(curling_round_frames(f->sender) == 6);
    assert_true(curling_round_bytes(f->sender) ==
                20 + 4096 + 2 * CURLING_PAYLOAD_MAX);
    curling_round_seal(f->sender);
    assert_int_equal(curling_round_state(f->sender), CURLING_ROUND_SEALED);
    wire = gather(f->sender, &len);
    assert_stream(wire, len, lens, 6);
    free(wire);
}

static void test_commit_of_less_and_of_nothing(void **state)
{
    static const size_t lens[] = { 10, 20 };
    Fixture *f = *state;
    uint8_t *first;
    uint8_t *again;
    uint8_t *wire;
    size_t len;

    begin(f->sender);
    first = curling_round_reserve(f->sender, 1000);
    assert_non_null(first);
    fill(first, 10, 0);
    curling_round_commit(f->sender, 10);
    /* A room not committed is taken back by the next one. */
    first = curling_round_reserve(f->sender, 1000);
    again = curling_round_reserve(f->sender, 2000);
    assert_ptr_equal(first, again);
    curling_round_commit(f->sender, 0);
    again = curling_round_reserve(f->sender, 20);
    assert_ptr_equal(first, again);
    fill(again, 20, 1);
    curling_round_commit(f->sender, 20);
    /* Sealing takes one back, too. */
    assert_non_null(curling_round_reserve(f->sender, 500));
    curling_round_seal(f->sender);
    assert_true(curling_round_frames(f->sender) == 2);
    wire = gather(f->sender, &len);
    assert_stream(wire, len, lens, 2);
    free(wire);
}

static void test_reserve_of_what_no_frame_holds(void **state)
{
    Fixture *f = *state;

    begin(f->sender);
    assert_null(curling_round_reserve(f->sender, 0));
    assert_null(curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX + 1));
    assert_null(curling_round_reserve(f->sender, SIZE_MAX));
    assert_non_null(curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX));
}

/* 15 of the longest frames and what is left: exactly to the last byte */
static void test_frame_at_the_end_of_a_chunk(void **state)
{
    size_t longest = CURLING_HEADER_BYTES + CURLING_PAYLOAD_MAX;
    size_t rest = CURLING_CHUNK_BYTES - 15 * longest - CURLING_HEADER_BYTES;
    Fixture *f = *state;
    size_t lens[18];
    uint8_t *wire;
    size_t cursor = 0;
    size_t len;

    begin(f->sender);
    for (int i = 0; i < 18; i++) {
        lens[i] = i == 15 ? rest : i == 16 ? 1 : CURLING_PAYLOAD_MAX;
        stage(f->sender, lens[i], i);
        assert_true(curling_pool_now(f->pool) ==
                    (i < 16 ? 1 : 2) * CURLING_CHUNK_BYTES);
    }
    curling_round_seal(f->sender);
    assert_non_null(curling_round_span(f->sender, &cursor, &len));
    assert_int_equal(len, CURLING_CHUNK_BYTES);
    wire = gather(f->sender, &len);
    assert_stream(wire, len, lens, 18);
    free(wire);
}

/* What is left of a chunk is just enough, or a byte too short. */
static void test_frame_beyond_the_end_of_a_chunk(void **state)
{
    Fixture *f = *state;

    for (size_t more = 1; more <= 50; more++) {
        size_t len = CURLING_CHUNK_BYTES - 15 * CURLING_PAYLOAD_MAX -
                     16 * CURLING_HEADER_BYTES - 60000 - more;

        begin(f->sender);
        for (int i = 0; i < 15; i++) {
            assert_non_null(curling_round_reserve(f->sender,
                                                  CURLING_PAYLOAD_MAX));
            curling_round_commit(f->sender, CURLING_PAYLOAD_MAX);
        }
        assert_non_null(curling_round_reserve(f->sender, len));
        curling_round_commit(f->sender, len);
        assert_non_null(curling_round_reserve(f->sender, 60000));
        /* 60000 + more are left, 40 of them for the header */
        assert_true(curling_pool_now(f->pool) ==
                    (more < CURLING_HEADER_BYTES ? 2 : 1) *
                    CURLING_CHUNK_BYTES);
        curling_round_discard(f->sender);
    }
}

static void test_iterate(void **state)
{
    static const size_t lens[] = { 5, CURLING_PAYLOAD_MAX, 9 };
    Fixture *f = *state;
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len;

    begin(f->sender);
    for (int i = 0; i < 60; i++) {
        stage(f->sender, lens[i % 3], i);
    }
    for (int sealed = 0; sealed < 2; sealed++) {
        iter = (CurlingRoundIter) { 0 };
        for (int i = 0; i < 60; i++) {
            uint8_t expected[9];

            assert_true(curling_round_next(f->sender, &iter, &payload, &len));
            assert_int_equal(len, lens[i % 3]);
            fill(expected, 5, i);
            assert_memory_equal(payload, expected, 5);
        }
        assert_false(curling_round_next(f->sender, &iter, &payload, &len));
        assert_false(curling_round_next(f->sender, &iter, &payload, &len));
        curling_round_seal(f->sender);
    }
}

/* The receiver's way: in place, and from elsewhere */
static void test_append(void **state)
{
    static const size_t lens[] = { 1, 300, CURLING_PAYLOAD_MAX, 40, 4096 };
    Fixture *f = *state;
    uint8_t *elsewhere = malloc(CURLING_PAYLOAD_MAX);
    uint8_t end[CURLING_END_SIZE];
    uint8_t received_end[CURLING_END_SIZE];
    uint8_t *staged;
    uint8_t *arrived;
    size_t staged_len;
    size_t arrived_len;

    assert_non_null(elsewhere);
    begin(f->sender);
    begin(f->receiver);
    for (int i = 0; i < 5; i++) {
        uint8_t *room = elsewhere;
        CurlingHeader header;

        stage(f->sender, lens[i], i);
        if (i % 2) {
            room = curling_round_reserve(f->receiver, lens[i]);
            assert_non_null(room);
        }
        header = arriving(room, lens[i], i);
        assert_int_equal(curling_round_append(f->receiver, &header, room,
                                              NULL), 0);
        assert_true(curling_round_frames(f->receiver) == (uint64_t)i + 1);
    }
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
    assert_int_equal(curling_round_state(f->receiver), CURLING_ROUND_SEALED);
    curling_round_get_end(f->receiver, received_end);
    assert_memory_equal(received_end, end, sizeof(end));
    /* Both have the octets of the wire. */
    staged = gather(f->sender, &staged_len);
    arrived = gather(f->receiver, &arrived_len);
    assert_int_equal(staged_len, arrived_len);
    assert_int_equal(memcmp(staged, arrived, staged_len), 0);
    free(staged);
    free(arrived);
    free(elsewhere);
}

/* Who stages and appends in turns has one order of frames, too. */
static void test_stage_and_append_in_turns(void **state)
{
    static const size_t lens[] = { 10, 20, 30, 40 };
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE];
    uint8_t payload[40];
    uint8_t *wire;
    size_t len;

    begin(f->sender);
    begin(f->receiver);
    for (int i = 0; i < 4; i++) {
        CurlingHeader header = arriving(payload, lens[i], i);

        stage(f->sender, lens[i], i);
        if (i % 2) {
            assert_int_equal(curling_round_append(f->receiver, &header,
                                                  payload, NULL), 0);
        } else {
            stage(f->receiver, lens[i], i);
        }
    }
    stage(f->sender, 10, 4);
    stage(f->receiver, 10, 4);
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    /* Verified without having been finished */
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
    wire = gather(f->receiver, &len);
    assert_stream(wire, len - CURLING_HEADER_BYTES - 10, lens, 4);
    free(wire);
}

/* @header is refused and leaves no trace: the right one still fits */
static void assert_append_refused(CurlingRound *round, CurlingHeader header,
                                  const uint8_t *payload, const char *part)
{
    uint64_t frames = curling_round_frames(round);
    uint64_t bytes = curling_round_bytes(round);
    CurlingError err = { "" };

    assert_int_equal(curling_round_append(round, &header, payload, &err),
                     -EPROTO);
    assert_message(&err, part);
    assert_int_equal(curling_round_state(round), CURLING_ROUND_OPEN);
    assert_true(curling_round_frames(round) == frames);
    assert_true(curling_round_bytes(round) == bytes);
}

static void test_append_refuses(void **state)
{
    Fixture *f = *state;
    uint8_t payload[300];
    CurlingHeader good;
    CurlingHeader bad;
    uint8_t end[CURLING_END_SIZE];
    unsigned int bit;

    begin(f->sender);
    begin(f->receiver);
    for (int frame = 0; frame < 3; frame++) {
        stage(f->sender, sizeof(payload), frame);
        good = arriving(payload, sizeof(payload), frame);

        bad = good;
        bad.type = CURLING_TYPE_ROUND_END;
        assert_append_refused(f->receiver, bad, payload,
                              "got ROUND_END, expected DATA");
        bad = good;
        bad.generation = 4;
        assert_append_refused(f->receiver, bad, payload, "got 4, expected 3");
        bad = good;
        bad.round = 8;
        assert_append_refused(f->receiver, bad, payload, "got 8, expected 7");
        bad = good;
        bad.sequence = frame + 1;       /* one is missing */
        assert_append_refused(f->receiver, bad, payload, "sequence");
        bad.sequence = frame - 1;       /* the last one again */
        assert_append_refused(f->receiver, bad, payload, "sequence");
        bad = good;
        bad.length_bytes = 0;
        assert_append_refused(f->receiver, bad, payload, "got 0 bytes");
        bad.length_bytes = CURLING_PAYLOAD_MAX + 1;
        assert_append_refused(f->receiver, bad, payload, "got 262145 bytes");
        bad = good;
        bad.payload_crc ^= 1;
        assert_append_refused(f->receiver, bad, payload, "damaged payload");
        for (bit = 0; bit < 8 * sizeof(payload); bit++) {
            payload[bit / 8] ^= 1 << bit % 8;
            assert_append_refused(f->receiver, good, payload,
                                  "damaged payload");
            payload[bit / 8] ^= 1 << bit % 8;
        }
        assert_int_equal(curling_round_append(f->receiver, &good, payload,
                                              NULL), 0);
    }
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
}

static void test_verify_refuses_every_bit_flip(void **state)
{
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE];
    CurlingHeader header;
    uint8_t payload[50];

    begin(f->sender);
    begin(f->receiver);
    for (int i = 0; i < 3; i++) {
        stage(f->sender, sizeof(payload), i);
        header = arriving(payload, sizeof(payload), i);
        assert_int_equal(curling_round_append(f->receiver, &header, payload,
                                              NULL), 0);
    }
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    for (size_t bit = 0; bit < 8 * sizeof(end); bit++) {
        CurlingError err = { "" };

        end[bit / 8] ^= 1 << bit % 8;
        assert_int_equal(curling_round_verify(f->receiver, end, &err),
                         -EPROTO);
        assert_message(&err, "got ");
        assert_message(&err, "expected ");
        assert_int_equal(curling_round_state(f->receiver),
                         CURLING_ROUND_OPEN);
        end[bit / 8] ^= 1 << bit % 8;
    }
    /* It stayed OPEN and is still whole. */
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
}

/* Frames missing at the end are what only ROUND_END can tell. */
static void test_verify_refuses_missing_and_more(void **state)
{
    Fixture *f = *state;
    uint8_t ends[4][CURLING_END_SIZE];
    uint8_t payload[50];
    CurlingError err = { "" };

    begin(f->sender);
    begin(f->receiver);
    for (int i = 0; i < 4; i++) {
        curling_round_get_end(f->sender, ends[i]);
        stage(f->sender, sizeof(payload), i);
        curling_round_finish_frames(f->sender);
    }
    for (int i = 0; i < 4; i++) {
        CurlingHeader header = arriving(payload, sizeof(payload), i);

        for (int j = 0; j < 4; j++) {
            if (i != j) {
                assert_int_equal(curling_round_verify(f->receiver, ends[j],
                                                      &err), -EPROTO);
            }
        }
        assert_int_equal(curling_round_append(f->receiver, &header, payload,
                                              NULL), 0);
    }
    assert_int_equal(curling_round_verify(f->receiver, ends[3], &err),
                     -EPROTO);
    assert_message(&err,
                   "got 4 frames of 200 bytes, expected 3 of 150");
}

/* What each call does to a round in each state */
static void put_into_state(CurlingRound *round, CurlingRoundState wanted)
{
    curling_round_discard(round);
    if (wanted == CURLING_ROUND_EMPTY) {
        return;
    }
    begin(round);
    stage(round, 100, 0);
    if (wanted == CURLING_ROUND_SEALED) {
        curling_round_seal(round);
    }
}

static const CurlingRoundState all_states[] = {
    CURLING_ROUND_EMPTY, CURLING_ROUND_OPEN, CURLING_ROUND_SEALED,
};

static void test_discard_in_every_state(void **state)
{
    Fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        put_into_state(f->sender, all_states[i]);
        curling_round_discard(f->sender);
        assert_empty(f->sender);
        curling_round_discard(f->sender);
        assert_empty(f->sender);
        begin(f->sender);
        assert_true(curling_round_frames(f->sender) == 0);
        assert_int_equal(curling_round_state(f->sender), CURLING_ROUND_OPEN);
    }
    /* With a room reserved, too */
    assert_non_null(curling_round_reserve(f->sender, 100));
    curling_round_discard(f->sender);
    assert_empty(f->sender);
    begin(f->sender);
    curling_round_seal(f->sender);
    assert_true(curling_round_frames(f->sender) == 0);
}

static void test_begin_in_every_state(void **state)
{
    Fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        put_into_state(f->sender, all_states[i]);
        curling_round_begin(f->sender, 8, 4, CURLING_KIND_FULL,
                            CURLING_ROUND_NONE);
        assert_int_equal(curling_round_state(f->sender), CURLING_ROUND_OPEN);
        assert_true(curling_round_frames(f->sender) == 0);
        assert_true(curling_round_number(f->sender) == 8);
    }
}

static void test_seal_in_every_state(void **state)
{
    Fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        put_into_state(f->sender, all_states[i]);
        curling_round_seal(f->sender);
        assert_int_equal(curling_round_state(f->sender),
                         all_states[i] == CURLING_ROUND_EMPTY ?
                         CURLING_ROUND_EMPTY : CURLING_ROUND_SEALED);
        assert_true(curling_round_frames(f->sender) ==
                    (all_states[i] == CURLING_ROUND_EMPTY ? 0 : 1));
    }
}

static void test_take_in_every_state(void **state)
{
    static const size_t lens[] = { 100 };
    Fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        CurlingRound *taken;
        uint8_t *wire;
        size_t len;

        put_into_state(f->sender, all_states[i]);
        taken = curling_round_take(f->sender);
        if (all_states[i] != CURLING_ROUND_SEALED) {
            assert_null(taken);
            assert_int_equal(curling_round_state(f->sender), all_states[i]);
            continue;
        }
        assert_non_null(taken);
        assert_empty(f->sender);
        assert_int_equal(curling_round_state(taken), CURLING_ROUND_SEALED);
        assert_true(curling_round_number(taken) == 7);
        assert_int_equal(curling_round_generation(taken), 3);
        assert_int_equal(curling_round_kind(taken), CURLING_KIND_DELTA);
        assert_true(curling_round_base(taken) == 6);
        /* The next one does not touch what was taken. */
        begin(f->sender);
        stage(f->sender, 100, 99);
        curling_round_seal(f->sender);
        wire = gather(taken, &len);
        assert_stream(wire, len, lens, 1);
        free(wire);
        assert_true(curling_pool_now(f->pool) == 2 * CURLING_CHUNK_BYTES);
        curling_round_free(taken);
    }
}

static void test_other_calls_in_the_wrong_state(void **state)
{
    static const CurlingRoundState wrong[] = {
        CURLING_ROUND_EMPTY, CURLING_ROUND_SEALED,
    };
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE] = { 0 };
    uint8_t payload[10];
    CurlingHeader header = arriving(payload, sizeof(payload), 0);
    CurlingError err = { "" };
    uint8_t *room;
    size_t len;

    for (int i = 0; i < 2; i++) {
        uint64_t frames;

        put_into_state(f->sender, wrong[i]);
        frames = curling_round_frames(f->sender);
        assert_null(curling_round_reserve(f->sender, 10));
        assert_int_equal(curling_round_append(f->sender, &header, payload,
                                              &err), -EPROTO);
        assert_message(&err, "no round is open");
        assert_int_equal(curling_round_room(f->sender, 10, &room, &len,
                                            &err), -EINVAL);
        curling_round_get_end(f->sender, end);
        assert_int_equal(curling_round_verify(f->sender, end, &err),
                         -EPROTO);
        assert_message(&err, "no round is open");
        curling_round_finish_frames(f->sender);
        assert_int_equal(curling_round_state(f->sender), wrong[i]);
        assert_true(curling_round_frames(f->sender) == frames);
    }
    curling_round_free(NULL);
    curling_pool_free(NULL);
}

static void test_limit(void **state)
{
    Fixture *f = *state;
    uint8_t *payload = malloc(CURLING_PAYLOAD_MAX);
    CurlingError err = { "" };
    CurlingHeader header;
    int frames = 0;

    assert_non_null(payload);
    curling_pool_set_limit(f->pool, 3 * CURLING_CHUNK_BYTES - 1);
    assert_true(curling_pool_limit(f->pool) == 3 * CURLING_CHUNK_BYTES - 1);
    begin(f->receiver);
    while (curling_round_reserve(f->receiver, CURLING_PAYLOAD_MAX)) {
        header = arriving(payload, CURLING_PAYLOAD_MAX, frames++);
        assert_int_equal(curling_round_append(f->receiver, &header, payload,
                                              NULL), 0);
    }
    assert_int_equal(frames, 30);
    assert_true(curling_pool_now(f->pool) == 2 * CURLING_CHUNK_BYTES);
    header = arriving(payload, CURLING_PAYLOAD_MAX, frames);
    assert_int_equal(curling_round_append(f->receiver, &header, payload,
                                          &err), -EOVERFLOW);
    assert_message(&err, "12582912");           /* what is needed */
    assert_message(&err, "limit is 12582911");
    /* Who could not reserve has no payload, but may ask why. */
    assert_int_equal(curling_round_append(f->receiver, &header, NULL, &err),
                     -EOVERFLOW);
    assert_true(curling_round_frames(f->receiver) == 30);
    assert_int_equal(curling_round_state(f->receiver), CURLING_ROUND_OPEN);
    /* What is shorter than the rest of the chunk still fits. */
    assert_non_null(curling_round_reserve(f->receiver, 1000));
    curling_pool_set_limit(f->pool, 3 * CURLING_CHUNK_BYTES);
    assert_int_equal(curling_round_append(f->receiver, &header, NULL, &err),
                     -EAGAIN);
    assert_int_equal(curling_round_append(f->receiver, &header, payload,
                                          &err), 0);
    assert_true(curling_pool_peak(f->pool) == 3 * CURLING_CHUNK_BYTES);
    free(payload);
}

static void test_lower_limit_takes_nothing_away(void **state)
{
    Fixture *f = *state;

    begin(f->sender);
    stage(f->sender, CURLING_PAYLOAD_MAX, 0);
    begin(f->receiver);
    stage(f->receiver, CURLING_PAYLOAD_MAX, 0);
    curling_pool_set_limit(f->pool, CURLING_CHUNK_BYTES);
    assert_true(curling_pool_now(f->pool) == 2 * CURLING_CHUNK_BYTES);
    for (int i = 1; i < 15; i++) {
        stage(f->sender, CURLING_PAYLOAD_MAX, i);
    }
    assert_null(curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX));
    /* Above the limit no spare is kept; at the limit it is. */
    curling_round_discard(f->receiver);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    curling_round_discard(f->sender);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    /* And a limit below it makes the spare unusable. */
    curling_pool_set_limit(f->pool, CURLING_CHUNK_BYTES - 1);
    begin(f->sender);
    assert_null(curling_round_reserve(f->sender, 1));
    curling_pool_set_limit(f->pool, 0);
    assert_non_null(curling_round_reserve(f->sender, 1));
    assert_true(curling_pool_peak(f->pool) == 2 * CURLING_CHUNK_BYTES);
}

static void test_no_memory(void **state)
{
    Fixture *f = *state;
    uint8_t payload[10];
    CurlingHeader header = arriving(payload, sizeof(payload), 0);
    CurlingError err = { "" };
    uint8_t *room;
    size_t len;

    begin(f->sender);
    refuse_chunks = true;
    assert_null(curling_round_reserve(f->sender, 10));
    assert_int_equal(curling_round_append(f->sender, &header, payload, &err),
                     -ENOMEM);
    assert_message(&err, "no memory");
    assert_int_equal(curling_round_append(f->sender, &header, NULL, &err),
                     -ENOMEM);
    assert_int_equal(curling_round_room(f->sender, 10, &room, &len, &err),
                     -ENOMEM);
    refuse_chunks = false;
    assert_true(curling_pool_now(f->pool) == 0);
    assert_int_equal(curling_round_append(f->sender, &header, payload, &err),
                     0);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
}

static void test_pool_keeps_one_chunk(void **state)
{
    Fixture *f = *state;
    uint8_t *first;

    begin(f->sender);
    for (int i = 0; i < 100; i++) {
        stage(f->sender, CURLING_PAYLOAD_MAX, i);
    }
    assert_int_equal(chunks_mapped, 7);
    assert_true(curling_pool_now(f->pool) == 7 * CURLING_CHUNK_BYTES);
    curling_round_discard(f->sender);
    assert_int_equal(chunks_mapped, 1);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    assert_true(curling_pool_peak(f->pool) == 7 * CURLING_CHUNK_BYTES);
    /* Which is the next one, whichever round takes it */
    refuse_chunks = true;
    begin(f->receiver);
    first = curling_round_reserve(f->receiver, 1);
    refuse_chunks = false;
    assert_non_null(first);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    assert_true(curling_pool_peak(f->pool) == 7 * CURLING_CHUNK_BYTES);
}

/* Stage so many whole chunks in a round, and give them back. */
static void run_round(Fixture *f, unsigned int chunks)
{
    curling_pool_age(f->pool);
    begin(f->sender);
    for (unsigned int i = 0; i < chunks * 15; i++) {
        stage(f->sender, CURLING_PAYLOAD_MAX, i);
    }
    assert_true(curling_pool_used(f->pool) == chunks * CURLING_CHUNK_BYTES);
    curling_round_discard(f->sender);
    assert_true(curling_pool_used(f->pool) == 0);
}

static void test_pool_keeps_what_rounds_use(void **state)
{
    Fixture *f = *state;

    run_round(f, 7);
    assert_int_equal(chunks_mapped, 7);
    /* Rounds find it again, also smaller ones, and those that are larger take
     * no more than what is missing. */
    refuse_chunks = true;
    run_round(f, 7);
    run_round(f, 2);
    refuse_chunks = false;
    assert_int_equal(chunks_mapped, 7);
    run_round(f, 9);
    assert_int_equal(chunks_mapped, 9);
    assert_true(curling_pool_now(f->pool) == 9 * CURLING_CHUNK_BYTES);
    /* After some time of smaller ones it goes. */
    for (int i = 0; i < 130; i++) {
        run_round(f, 2);
    }
    assert_int_equal(chunks_mapped, 2);
    curling_pool_trim(f->pool);
    assert_int_equal(chunks_mapped, 0);
    assert_true(curling_pool_now(f->pool) == 0);
}

/* Spares count as held: a limit below them must not stop rounds that would
 * fit. */
static void test_pool_keeps_no_more_than_the_limit(void **state)
{
    Fixture *f = *state;

    run_round(f, 9);
    assert_int_equal(chunks_mapped, 9);
    curling_pool_set_limit(f->pool, 3 * CURLING_CHUNK_BYTES + 5);
    assert_int_equal(chunks_mapped, 3);
    run_round(f, 3);
    assert_int_equal(chunks_mapped, 3);
    /* What a round uses is not taken away; then there is no room for more. */
    begin(f->sender);
    for (unsigned int i = 0; i < 3 * 15; i++) {
        stage(f->sender, CURLING_PAYLOAD_MAX, i);
    }
    curling_pool_set_limit(f->pool, CURLING_CHUNK_BYTES);
    assert_int_equal(chunks_mapped, 3);
    assert_null(curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX));
    curling_round_discard(f->sender);
    assert_true(curling_pool_now(f->pool) <= CURLING_CHUNK_BYTES);
    run_round(f, 1);
}

static void test_prepared_memory(void **state)
{
    Fixture *f = *state;

    begin(f->sender);
    assert_int_equal(curling_round_prepare(f->sender, 1, NULL), 0);
    assert_int_equal(chunks_mapped, 1);
    assert_true(curling_pool_used(f->pool) == 0);
    stage(f->sender, CURLING_PAYLOAD_MAX, 0);
    assert_int_equal(chunks_mapped, 1);
    /* The rest of a chunk counts. */
    assert_int_equal(curling_round_prepare(f->sender, CURLING_CHUNK_BYTES / 2,
                                           NULL), 0);
    assert_int_equal(chunks_mapped, 1);
    assert_int_equal(curling_round_prepare(f->sender, 2 * CURLING_CHUNK_BYTES,
                                           NULL), 0);
    assert_int_equal(chunks_mapped, 3);
    refuse_chunks = true;
    for (int i = 0; i < 40; i++) {
        stage(f->sender, CURLING_PAYLOAD_MAX, i);
    }
    assert_int_equal(curling_round_prepare(f->sender, 9 * CURLING_CHUNK_BYTES,
                                           NULL), -ENOMEM);
    refuse_chunks = false;
    curling_pool_set_limit(f->pool, 4 * CURLING_CHUNK_BYTES);
    assert_int_equal(curling_round_prepare(f->sender, 9 * CURLING_CHUNK_BYTES,
                                           NULL), -EOVERFLOW);
    assert_int_equal(chunks_mapped, 4);
}

/* Wherever the system maps them; what is too much is given back. */
static void test_chunks_begin_where_huge_pages_can(void **state)
{
    static const size_t offsets[] = {
        0, 4096, 12288, MIB, CURLING_HUGE_PAGE_BYTES - 4096,
    };
    size_t room = CURLING_CHUNK_BYTES + 3 * CURLING_HUGE_PAGE_BYTES;
    Fixture *f = *state;

    for (int i = 0; i < 5; i++) {
        uint8_t *area = mmap(NULL, room, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uintptr_t at = (uintptr_t)area;
        uint8_t *payload;
        unsigned char resident;

        assert_true(area != MAP_FAILED);
        assert_int_equal(munmap(area, room), 0);
        at += -at % CURLING_HUGE_PAGE_BYTES + offsets[i];
        next_chunk_at = at;
        begin(f->sender);
        payload = curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX);
        next_chunk_at = 0;
        assert_non_null(payload);
        payload -= CURLING_HEADER_BYTES;
        assert_int_equal((uintptr_t)payload % CURLING_HUGE_PAGE_BYTES, 0);
        if (payload > (uint8_t *)at) {
            /* The page before is nobody's. */
            assert_int_equal(mincore(payload - 4096, 4096, &resident), -1);
            assert_int_equal(errno, ENOMEM);
        }
        /* Nor is the one behind it. */
        assert_int_equal(mincore(payload + CURLING_CHUNK_BYTES, 4096,
                                 &resident), -1);
        assert_int_equal(errno, ENOMEM);
        payload[CURLING_CHUNK_BYTES - 1] = 1;
        /* Above the limit it does not become the spare one. */
        curling_pool_set_limit(f->pool, 1);
        curling_round_discard(f->sender);
        curling_pool_set_limit(f->pool, 0);
        assert_int_equal(chunks_mapped, 0);
    }
}

static void test_sequence_numbers_end(void **state)
{
    Fixture *f = *state;
    uint8_t payload[10];
    CurlingHeader header = arriving(payload, sizeof(payload), 0);
    CurlingError err = { "" };
    uint8_t *room;
    size_t len;

    begin(f->sender);
    f->sender->frames = UINT32_MAX;
    f->sender->finished_frames = UINT32_MAX;
    header.sequence = UINT32_MAX;
    assert_int_equal(curling_round_append(f->sender, &header, payload, &err),
                     0);
    assert_true(curling_round_frames(f->sender) == 4294967296);
    for (uint32_t i = 0; i < 3; i++) {
        header.sequence = UINT32_MAX - 1 + i;
        assert_int_equal(curling_round_append(f->sender, &header, payload,
                                              &err), -EOVERFLOW);
        assert_message(&err, "4294967296 frames");
    }
    assert_null(curling_round_reserve(f->sender, 10));
    assert_int_equal(curling_round_room(f->sender, 10, &room, &len, &err),
                     -EOVERFLOW);
}

/* A GiB, hardly touched: nothing is copied, all of it is given back */
static void test_large_round_does_not_move(void **state)
{
    enum { FRAMES = GIB / CURLING_PAYLOAD_MAX };
    Fixture *f = *state;
    uint64_t held = (uint64_t)CURLING_CHUNK_BYTES * ((FRAMES + 14) / 15);
    uint8_t **rooms = calloc(FRAMES, sizeof(*rooms));
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len;

    assert_non_null(rooms);
    begin(f->sender);
    for (uint32_t i = 0; i < FRAMES; i++) {
        rooms[i] = curling_round_reserve(f->sender, CURLING_PAYLOAD_MAX);
        assert_non_null(rooms[i]);
        if (i % 15 == 0) {
            assert_int_equal((uintptr_t)rooms[i] % CURLING_HUGE_PAGE_BYTES,
                             CURLING_HEADER_BYTES);
        }
        curling_put_u32(rooms[i], i);
        curling_round_commit(f->sender, CURLING_PAYLOAD_MAX);
    }
    assert_true(curling_round_bytes(f->sender) == GIB);
    assert_true(curling_pool_now(f->pool) == held);
    assert_true(curling_pool_peak(f->pool) == held);
    assert_int_equal(chunks_mapped, held / CURLING_CHUNK_BYTES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        assert_true(curling_round_next(f->sender, &iter, &payload, &len));
        assert_ptr_equal(payload, rooms[i]);
        assert_int_equal(curling_get_u32(payload), i);
        assert_int_equal(len, CURLING_PAYLOAD_MAX);
    }
    assert_false(curling_round_next(f->sender, &iter, &payload, &len));
    free(rooms);
    curling_round_discard(f->sender);
    assert_int_equal(chunks_mapped, 1);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    assert_true(curling_pool_peak(f->pool) == held);
}

/* A round shipped in pieces is, on the wire, the round shipped whole. */
static void test_streaming(void **state)
{
    Fixture *f = *state;
    uint8_t whole_end[CURLING_END_SIZE];
    uint8_t end[CURLING_END_SIZE];
    uint8_t *whole;
    size_t whole_len;
    size_t at = 0;

    begin(f->sender);
    for (int i = 0; i < 100; i++) {
        stage(f->sender, 100000 + i, i);
    }
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, whole_end);
    whole = gather(f->sender, &whole_len);
    curling_round_discard(f->sender);

    begin(f->sender);
    for (int i = 0; i < 100; i++) {
        stage(f->sender, 100000 + i, i);
        if (i % 7 == 0 || i % 50 == 49) {
            uint8_t *piece;
            size_t len;

            curling_round_finish_frames(f->sender);
            piece = gather(f->sender, &len);
            assert_true(at + len <= whole_len);
            assert_int_equal(memcmp(whole + at, piece, len), 0);
            at += len;
            free(piece);
            curling_round_drop_frames(f->sender);
            assert_true(curling_pool_now(f->pool) <=
                        2 * CURLING_CHUNK_BYTES);
            piece = gather(f->sender, &len);
            assert_null(piece);
            assert_true(curling_round_frames(f->sender) == (uint64_t)i + 1);
        }
    }
    assert_int_equal(at, whole_len);
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    assert_memory_equal(end, whole_end, sizeof(end));
    free(whole);
}

/* The receiver's twin: drop after each frame, verify at the end */
static void test_streaming_receiver(void **state)
{
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE];

    begin(f->sender);
    begin(f->receiver);
    for (int i = 0; i < 50; i++) {
        CurlingHeader header;
        uint8_t *room;

        stage(f->sender, 200000, i);
        room = curling_round_reserve(f->receiver, 200000);
        assert_non_null(room);
        header = arriving(room, 200000, i);
        assert_int_equal(curling_round_append(f->receiver, &header, room,
                                              NULL), 0);
        curling_round_drop_frames(f->receiver);
        assert_int_equal(f->receiver->n_chunks, 1);
        assert_int_equal(f->receiver->chunks[0].used, 0);
    }
    curling_round_seal(f->sender);
    curling_round_get_end(f->sender, end);
    assert_int_equal(curling_round_verify(f->receiver, end, NULL), 0);
    assert_true(curling_round_frames(f->receiver) == 50);
}

/* Dropping forgets what was finished, never what was not shipped. */
static void test_drop_keeps_what_is_not_finished(void **state)
{
    static const size_t lens[] = { 100, 200, 300, 400, 500 };
    Fixture *f = *state;
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    uint8_t *wire;
    size_t len;

    begin(f->sender);
    curling_round_drop_frames(f->sender);
    stage(f->sender, lens[0], 0);
    stage(f->sender, lens[1], 1);
    curling_round_finish_frames(f->sender);
    wire = gather(f->sender, &len);
    stage(f->sender, lens[2], 2);
    curling_round_drop_frames(f->sender);
    curling_round_drop_frames(f->sender);
    stage(f->sender, lens[3], 3);
    assert_true(curling_round_next(f->sender, &iter, &payload, &len));
    assert_int_equal(len, 300);
    assert_true(curling_round_next(f->sender, &iter, &payload, &len));
    assert_int_equal(len, 400);
    assert_false(curling_round_next(f->sender, &iter, &payload, &len));
    free(wire);

    curling_round_finish_frames(f->sender);
    wire = gather(f->sender, &len);
    assert_int_equal(len, 80 + 700);
    assert_int_equal(curling_get_u32(wire + CURLING_HEADER_SEQUENCE), 2);
    free(wire);
    curling_round_drop_frames(f->sender);
    stage(f->sender, lens[4], 4);
    curling_round_seal(f->sender);
    wire = gather(f->sender, &len);
    assert_int_equal(len, 40 + 500);
    assert_int_equal(curling_get_u32(wire + CURLING_HEADER_SEQUENCE), 4);
    free(wire);
    assert_true(curling_round_frames(f->sender) == 5);
    assert_true(curling_round_bytes(f->sender) == 1500);
}

/* Over several chunks, the unfinished part begins in the middle */
static void test_drop_over_chunks(void **state)
{
    Fixture *f = *state;
    size_t expected = 0;
    uint8_t *wire;
    size_t len;

    begin(f->sender);
    for (int i = 0; i < 40; i++) {
        stage(f->sender, 250000, i);
    }
    curling_round_finish_frames(f->sender);
    for (int i = 40; i < 80; i++) {
        stage(f->sender, 250000, i);
        expected += CURLING_HEADER_BYTES + 250000;
    }
    /* 16 frames in each chunk: two were finished, one in the middle */
    assert_true(curling_pool_now(f->pool) == 5 * CURLING_CHUNK_BYTES);
    curling_round_drop_frames(f->sender);
    assert_int_equal(f->sender->n_chunks, 3);
    assert_true(curling_pool_now(f->pool) == 4 * CURLING_CHUNK_BYTES);
    curling_round_seal(f->sender);
    wire = gather(f->sender, &len);
    assert_int_equal(len, expected);
    for (int i = 0; i < 40; i++) {
        CurlingHeader header;

        assert_int_equal(curling_frame_decode(wire + i * (len / 40), &header,
                                              NULL), 0);
        assert_int_equal(header.sequence, 40 + i);
    }
    free(wire);
}

/* Frames that ram.c shares are closed by whatever comes next. */
static void test_shared_room(void **state)
{
    static const size_t lens[] = { 300, 50, 7, 60, 10 };
    Fixture *f = *state;
    uint8_t expected[300];
    uint8_t payload[60];
    CurlingHeader header;
    uint8_t *wire;
    uint8_t *room;
    size_t len;

    begin(f->sender);
    fill(expected, 300, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(curling_round_room(f->sender, 100, &room, &len,
                                            NULL), 0);
        assert_true(len >= 100);
        memcpy(room, expected + 100 * i, 100);
        curling_round_fill(f->sender, 100);
        assert_true(curling_round_frames(f->sender) == 1);
        assert_true(curling_round_bytes(f->sender) == 100u * (i + 1));
    }
    stage(f->sender, 50, 1);
    assert_int_equal(curling_round_room(f->sender, 1, &room, &len, NULL), 0);
    fill(room, 7, 2);
    curling_round_fill(f->sender, 7);
    header = arriving(payload, 60, 3);
    assert_int_equal(curling_round_append(f->sender, &header, payload, NULL),
                     0);
    /* An unused room is none. */
    assert_int_equal(curling_round_room(f->sender, 99, &room, &len, NULL), 0);
    curling_round_finish_frames(f->sender);
    assert_int_equal(curling_round_room(f->sender, 99, &room, &len, NULL), 0);
    fill(room, 10, 4);
    curling_round_fill(f->sender, 10);
    curling_round_seal(f->sender);
    wire = gather(f->sender, &len);
    assert_stream(wire, len, lens, 5);
    free(wire);
}

/* A room of the tail of a chunk, and of the next one where it is too short */
static void test_shared_room_at_the_end_of_a_chunk(void **state)
{
    Fixture *f = *state;
    uint8_t *room;
    size_t len;

    begin(f->sender);
    for (int i = 0; i < 15; i++) {
        assert_int_equal(curling_round_room(f->sender, 5000, &room, &len,
                                            NULL), 0);
        assert_int_equal(len, CURLING_PAYLOAD_MAX);
        curling_round_fill(f->sender, len);
    }
    assert_int_equal(curling_round_room(f->sender, 5000, &room, &len, NULL),
                     0);
    assert_int_equal(len, CURLING_CHUNK_BYTES - 15 * CURLING_PAYLOAD_MAX -
                     16 * CURLING_HEADER_BYTES);
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    curling_round_fill(f->sender, len - 4999);
    assert_int_equal(curling_round_room(f->sender, 5000, &room, &len, NULL),
                     0);
    assert_int_equal(len, CURLING_PAYLOAD_MAX);
    assert_true(curling_pool_now(f->pool) == 2 * CURLING_CHUNK_BYTES);
}

/* What a rewriter makes of frames: what the next one is, call by call */
typedef struct Rewriter {
    const size_t *old_lens;
    const size_t *new_lens;     /* 0: nothing is left */
    unsigned int calls;
    unsigned int kept;
    uint8_t buffer[CURLING_PAYLOAD_MAX];
} Rewriter;

/* The next payload that is kept, in place and in a buffer in turns */
static const uint8_t *rewrite(void *opaque, const uint8_t *payload,
                              size_t *len)
{
    Rewriter *r = opaque;
    unsigned int call = r->calls++;

    assert_int_equal(*len, r->old_lens[call]);
    *len = r->new_lens[call];
    if (!*len) {
        return call % 2 ? payload : NULL;
    }
    fill(r->buffer, *len, r->kept++);
    if (call % 2) {
        assert_memory_equal(payload, r->buffer, *len);
        return payload;
    }
    return r->buffer;
}

/* All that a rewriter may do, to frames of one chunk and of several */
static void test_rewrite(void **state)
{
    static const size_t old_lens[] = {
        700, 5, 262144, 262144, 1, 262144, 200000, 9, 262144, 262144, 262144,
        262144, 262144, 262144, 262144, 262144, 262144, 262144, 262144,
        262144, 262144, 262144, 262144, 262144, 262144, 262144, 262144,
        262144, 262144, 262144, 262144, 262144, 262144, 262144, 262144, 3,
    };
    static const size_t new_lens[] = {
        0, 5, 262144, 0, 1, 1, 199999, 0, 0, 262143, 0,
        7, 262144, 262144, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 100, 0, 0, 0,
    };
    enum { FRAMES = sizeof(old_lens) / sizeof(old_lens[0]) };
    Fixture *f = *state;
    Rewriter *r = calloc(1, sizeof(*r));
    CurlingRoundIter iter = { 0 };
    uint64_t raw = 0, bytes = 0;
    size_t lens[FRAMES];
    const uint8_t *payload;
    unsigned int kept = 0;
    uint8_t *wire;
    size_t len;

    assert_non_null(r);
    begin(f->sender);
    for (unsigned int i = 0; i < FRAMES; i++) {
        stage(f->sender, old_lens[i], kept);
        raw += old_lens[i];
        bytes += new_lens[i];
        if (new_lens[i]) {
            lens[kept++] = new_lens[i];
        }
    }
    assert_true(curling_pool_now(f->pool) == 2 * CURLING_CHUNK_BYTES);
    assert_true(curling_round_raw_bytes(f->sender) == raw);
    r->old_lens = old_lens;
    r->new_lens = new_lens;
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, FRAMES);
    assert_int_equal(r->kept, kept);
    assert_true(curling_round_frames(f->sender) == kept);
    assert_true(curling_round_bytes(f->sender) == bytes);
    assert_true(curling_round_raw_bytes(f->sender) == raw);
    for (unsigned int i = 0; i < kept; i++) {
        assert_true(curling_round_next(f->sender, &iter, &payload, &len));
        assert_int_equal(len, lens[i]);
    }
    assert_false(curling_round_next(f->sender, &iter, &payload, &len));
    curling_round_seal(f->sender);
    wire = gather(f->sender, &len);
    assert_stream(wire, len, lens, kept);
    free(wire);
    /* Another round has saved nothing yet. */
    begin(f->sender);
    stage(f->sender, 10, 0);
    assert_true(curling_round_raw_bytes(f->sender) == 10);
    free(r);
}

/* Frames that are finished stay, shipped and dropped or not; a room that is
 * shared is a frame. */
static void test_rewrite_what_is_not_finished(void **state)
{
    static const size_t old_lens[] = { 100, 60, 30, 44, 500 };
    static const size_t new_lens[] = { 50, 0, 30, 0, 0 };
    static const size_t lens[] = { 70, 50, 30, 20 };
    Fixture *f = *state;
    Rewriter *r = calloc(1, sizeof(*r));
    uint8_t *first, *rest;
    size_t first_len, len;
    uint8_t *room;

    assert_non_null(r);
    r->old_lens = old_lens;
    r->new_lens = new_lens;
    r->kept = 1;
    begin(f->sender);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 0);
    stage(f->sender, 70, 0);
    curling_round_finish_frames(f->sender);
    first = gather(f->sender, &first_len);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 0);
    stage(f->sender, 100, 1);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 1);
    curling_round_finish_frames(f->sender);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 1);
    free(first);
    first = gather(f->sender, &first_len);
    curling_round_drop_frames(f->sender);
    stage(f->sender, 60, 9);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 2);
    assert_true(curling_round_frames(f->sender) == 2);
    assert_int_equal(curling_round_room(f->sender, 10, &room, &len, NULL), 0);
    fill(room, 30, 2);
    curling_round_fill(f->sender, 30);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 3);
    assert_true(curling_round_frames(f->sender) == 3);
    assert_true(curling_round_bytes(f->sender) == 150);
    assert_true(curling_round_raw_bytes(f->sender) == 70 + 100 + 60 + 30);
    curling_round_finish_frames(f->sender);
    stage(f->sender, 44, 9);
    stage(f->sender, 500, 9);
    curling_round_rewrite(f->sender, rewrite, r);
    assert_int_equal(r->calls, 5);
    stage(f->sender, 20, 3);
    curling_round_seal(f->sender);
    rest = gather(f->sender, &len);
    first = realloc(first, first_len + len);
    assert_non_null(first);
    memcpy(first + first_len, rest, len);
    assert_stream(first, first_len + len, lens, 4);
    assert_true(curling_round_bytes(f->sender) == 170);
    assert_true(curling_round_raw_bytes(f->sender) == 824);
    free(first);
    free(rest);
    free(r);
}

/*
 * A stream of three rounds, and a receiver of no more than this file: what
 * it holds at the end is the last round that came whole before the fault.
 */
enum { STREAM_ROUNDS = 3, STREAM_FRAMES = 4, STREAM_PAYLOAD = 61 };

typedef struct Stream {
    uint8_t bytes[8192];
    size_t len;
    size_t frame_at[64];        /* where each frame starts */
    size_t n_frames;
    size_t end_of[STREAM_ROUNDS];
} Stream;

static void record_frame(Stream *stream, uint8_t type, uint64_t number,
                         const uint8_t *payload, size_t len)
{
    CurlingHeader header = {
        .type = type,
        .generation = 3,
        .round = number,
    };

    stream->frame_at[stream->n_frames++] = stream->len;
    stream->len += curling_frame_build(&header, payload, len,
                                       stream->bytes + stream->len);
}

static void record_data(Stream *stream, const CurlingRound *round)
{
    uint8_t *wire;
    size_t len;

    wire = gather(round, &len);
    memcpy(stream->bytes + stream->len, wire, len);
    for (size_t at = 0; at < len; ) {
        stream->frame_at[stream->n_frames++] = stream->len + at;
        at += CURLING_HEADER_BYTES +
              curling_get_u32(wire + at + CURLING_HEADER_LENGTH);
    }
    stream->len += len;
    free(wire);
}

static void record(Stream *stream, CurlingRound *round)
{
    uint8_t payload[CURLING_END_SIZE];

    memset(stream, 0, sizeof(*stream));
    for (int number = 0; number < STREAM_ROUNDS; number++) {
        curling_round_begin(round, number, 3, CURLING_KIND_DELTA, number - 1);
        for (int i = 0; i < STREAM_FRAMES; i++) {
            stage(round, STREAM_PAYLOAD + i, number * 10 + i);
        }
        curling_round_seal(round);
        curling_round_get_begin(round, payload);
        record_frame(stream, CURLING_TYPE_ROUND_BEGIN, number, payload,
                     CURLING_BEGIN_BYTES);
        record_data(stream, round);
        curling_round_get_end(round, payload);
        record_frame(stream, CURLING_TYPE_ROUND_END, number, payload,
                     CURLING_END_SIZE);
        stream->end_of[number] = stream->len;
        curling_round_discard(round);
    }
}

/* A frame with its payload: -EPROTO if it is not what can come now */
static int take_frame(CurlingRound *round, const CurlingHeader *header,
                      const uint8_t *payload, int *held)
{
    int ret = curling_frame_check_type(header, NULL);

    if (!ret) {
        ret = curling_frame_check_payload(header, payload, NULL);
    }
    if (ret < 0) {
        return ret;
    }
    switch (header->type) {
    case CURLING_TYPE_ROUND_BEGIN:
        if (curling_round_state(round) != CURLING_ROUND_EMPTY ||
            header->round != (uint64_t)(*held + 1)) {
            return -EPROTO;
        }
        curling_round_begin(round, header->round, 3, CURLING_KIND_DELTA,
                            curling_get_u64(payload + CURLING_BEGIN_BASE));
        return 0;
    case CURLING_TYPE_DATA:
        return curling_round_append(round, header, payload, NULL);
    case CURLING_TYPE_ROUND_END:
        ret = curling_round_verify(round, payload, NULL);
        if (!ret) {
            *held = (int)header->round;
            curling_round_discard(round);
        }
        return ret;
    default:
        return -EPROTO;
    }
}

/* Which round is held after @bytes; -1 for none */
static int receive(CurlingRound *round, const uint8_t *bytes, size_t len)
{
    int held = -1;
    CurlingHeader header;

    while (len >= CURLING_HEADER_BYTES &&
           !curling_frame_decode(bytes, &header, NULL)) {
        bytes += CURLING_HEADER_BYTES;
        len -= CURLING_HEADER_BYTES;
        if (len < header.length_bytes ||
            take_frame(round, &header, bytes, &held)) {
            break;
        }
        bytes += header.length_bytes;
        len -= header.length_bytes;
    }
    curling_round_discard(round);
    return held;
}

/* What a fault at byte @at leaves */
static int whole_before(const Stream *stream, size_t at)
{
    int held = -1;

    while (held + 1 < STREAM_ROUNDS && stream->end_of[held + 1] <= at) {
        held++;
    }
    return held;
}

static void test_every_prefix(void **state)
{
    Fixture *f = *state;
    Stream stream;

    record(&stream, f->sender);
    assert_int_equal(receive(f->receiver, stream.bytes, stream.len), 2);
    for (size_t len = 0; len <= stream.len; len++) {
        /* In a buffer of its own, that a reader beyond it is found */
        uint8_t *copy = malloc(len ? len : 1);

        assert_non_null(copy);
        memcpy(copy, stream.bytes, len);
        assert_int_equal(receive(f->receiver, copy, len),
                         whole_before(&stream, len));
        free(copy);
    }
}

static void test_every_bit_flip(void **state)
{
    Fixture *f = *state;
    Stream stream;

    record(&stream, f->sender);
    for (size_t bit = 0; bit < 8 * stream.len; bit++) {
        stream.bytes[bit / 8] ^= 1 << bit % 8;
        assert_int_equal(receive(f->receiver, stream.bytes, stream.len),
                         whole_before(&stream, bit / 8));
        stream.bytes[bit / 8] ^= 1 << bit % 8;
    }
}

static size_t frame_end(const Stream *stream, size_t frame)
{
    return frame + 1 < stream->n_frames ? stream->frame_at[frame + 1]
                                        : stream->len;
}

/* The stream with frames @order[0], @order[1], ... */
static size_t rearrange(const Stream *stream, const size_t *order,
                        size_t count, uint8_t *to)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        size_t at = stream->frame_at[order[i]];
        size_t frame_len = frame_end(stream, order[i]) - at;

        memcpy(to + len, stream->bytes + at, frame_len);
        len += frame_len;
    }
    return len;
}

static void test_every_dropped_frame(void **state)
{
    Fixture *f = *state;
    Stream stream;
    uint8_t bytes[sizeof(stream.bytes)];
    size_t order[64];

    record(&stream, f->sender);
    assert_int_equal(stream.n_frames, STREAM_ROUNDS * (STREAM_FRAMES + 2));
    for (size_t gone = 0; gone < stream.n_frames; gone++) {
        size_t count = 0;
        size_t len;

        for (size_t i = 0; i < stream.n_frames; i++) {
            if (i != gone) {
                order[count++] = i;
            }
        }
        len = rearrange(&stream, order, count, bytes);
        assert_int_equal(receive(f->receiver, bytes, len),
                         whole_before(&stream, stream.frame_at[gone]));
    }
}

static void test_every_repeated_frame(void **state)
{
    Fixture *f = *state;
    Stream stream;
    uint8_t bytes[2 * sizeof(stream.bytes)];
    size_t order[65];

    record(&stream, f->sender);
    for (size_t twice = 0; twice < stream.n_frames; twice++) {
        size_t count = 0;
        size_t len;

        for (size_t i = 0; i < stream.n_frames; i++) {
            order[count++] = i;
            if (i == twice) {
                order[count++] = i;
            }
        }
        len = rearrange(&stream, order, count, bytes);
        assert_int_equal(receive(f->receiver, bytes, len),
                         whole_before(&stream, frame_end(&stream, twice)));
    }
}

static void test_every_pair_swapped(void **state)
{
    Fixture *f = *state;
    Stream stream;
    uint8_t bytes[sizeof(stream.bytes)];
    size_t order[64];

    record(&stream, f->sender);
    for (size_t a = 0; a < stream.n_frames; a++) {
        for (size_t b = a + 1; b < stream.n_frames; b++) {
            size_t len;

            for (size_t i = 0; i < stream.n_frames; i++) {
                order[i] = i == a ? b : i == b ? a : i;
            }
            len = rearrange(&stream, order, stream.n_frames, bytes);
            assert_int_equal(len, stream.len);
            assert_int_equal(receive(f->receiver, bytes, len),
                             whole_before(&stream, stream.frame_at[a]));
        }
    }
}

/* A frame of another round, in the same place, whole and with its number
 * changed, is for the digest or the payload's checksum to find. */
static void test_data_of_another_round(void **state)
{
    Fixture *f = *state;
    Stream stream;
    uint8_t *frame;

    record(&stream, f->sender);
    frame = stream.bytes + stream.frame_at[STREAM_FRAMES + 2 + 1];
    assert_int_equal(curling_get_u64(frame + CURLING_HEADER_ROUND), 1);
    memcpy(frame, stream.bytes + stream.frame_at[1],
           CURLING_HEADER_BYTES + STREAM_PAYLOAD);
    assert_int_equal(receive(f->receiver, stream.bytes, stream.len), 0);
    curling_put_u64(frame + CURLING_HEADER_ROUND, 1);
    curling_put_u32(frame + CURLING_HEADER_CRC,
                    curling_crc32c(0, frame, CURLING_HEADER_CRC));
    assert_int_equal(receive(f->receiver, stream.bytes, stream.len), 0);
}

/* Rounds of one pool that grow and go in several threads */
enum { WORKERS = 4, WORKER_ROUNDS = 60, WORKER_CHUNKS = 5 };

static void *grow_and_discard(void *opaque)
{
    CurlingRound *round = curling_round_new(opaque);
    uint64_t refused = 0;

    for (int i = 0; i < WORKER_ROUNDS; i++) {
        curling_round_begin(round, i, 0, CURLING_KIND_DELTA, 0);
        for (int j = 0; j < WORKER_CHUNKS * 15; j++) {
            uint8_t *room = curling_round_reserve(round, CURLING_PAYLOAD_MAX);

            if (room) {
                room[0] = 1;
                curling_round_commit(round, CURLING_PAYLOAD_MAX);
            } else {
                refused++;
            }
            if (curling_pool_now(opaque) > curling_pool_peak(opaque)) {
                refused = UINT64_MAX;
                break;
            }
        }
        curling_round_discard(round);
    }
    curling_round_free(round);
    return (void *)(uintptr_t)(refused == UINT64_MAX);
}

static void run_workers(CurlingPool *pool)
{
    pthread_t threads[WORKERS];
    void *failed;

    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, grow_and_discard,
                                        pool), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_true(curling_pool_now(pool) == CURLING_CHUNK_BYTES);
    assert_int_equal(chunks_mapped, 1);
}

static void test_rounds_in_several_threads(void **state)
{
    Fixture *f = *state;

    curling_pool_set_limit(f->pool, 10 * CURLING_CHUNK_BYTES);
    run_workers(f->pool);
    assert_true(curling_pool_peak(f->pool) <= 10 * CURLING_CHUNK_BYTES);
    assert_true(curling_pool_peak(f->pool) >= 5 * CURLING_CHUNK_BYTES);
    curling_pool_set_limit(f->pool, 0);
    run_workers(f->pool);
    assert_true(curling_pool_peak(f->pool) <= (WORKERS * WORKER_CHUNKS + 1) *
                CURLING_CHUNK_BYTES);
}

#define ROUND_TEST(name) \
    cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROUND_TEST(test_accessors),
        ROUND_TEST(test_octets_of_end_are_fixed),
        ROUND_TEST(test_round_of_no_frames),
        ROUND_TEST(test_staged_round_on_the_wire),
        ROUND_TEST(test_commit_of_less_and_of_nothing),
        ROUND_TEST(test_reserve_of_what_no_frame_holds),
        ROUND_TEST(test_frame_at_the_end_of_a_chunk),
        ROUND_TEST(test_frame_beyond_the_end_of_a_chunk),
        ROUND_TEST(test_iterate),
        ROUND_TEST(test_append),
        ROUND_TEST(test_stage_and_append_in_turns),
        ROUND_TEST(test_append_refuses),
        ROUND_TEST(test_verify_refuses_every_bit_flip),
        ROUND_TEST(test_verify_refuses_missing_and_more),
        ROUND_TEST(test_discard_in_every_state),
        ROUND_TEST(test_begin_in_every_state),
        ROUND_TEST(test_seal_in_every_state),
        ROUND_TEST(test_take_in_every_state),
        ROUND_TEST(test_other_calls_in_the_wrong_state),
        ROUND_TEST(test_limit),
        ROUND_TEST(test_lower_limit_takes_nothing_away),
        ROUND_TEST(test_no_memory),
        ROUND_TEST(test_pool_keeps_one_chunk),
        ROUND_TEST(test_pool_keeps_what_rounds_use),
        ROUND_TEST(test_pool_keeps_no_more_than_the_limit),
        ROUND_TEST(test_prepared_memory),
        ROUND_TEST(test_chunks_begin_where_huge_pages_can),
        ROUND_TEST(test_sequence_numbers_end),
        ROUND_TEST(test_large_round_does_not_move),
        ROUND_TEST(test_streaming),
        ROUND_TEST(test_streaming_receiver),
        ROUND_TEST(test_drop_keeps_what_is_not_finished),
        ROUND_TEST(test_drop_over_chunks),
        ROUND_TEST(test_shared_room),
        ROUND_TEST(test_shared_room_at_the_end_of_a_chunk),
        ROUND_TEST(test_rewrite),
        ROUND_TEST(test_rewrite_what_is_not_finished),
        ROUND_TEST(test_every_prefix),
        ROUND_TEST(test_every_bit_flip),
        ROUND_TEST(test_every_dropped_frame),
        ROUND_TEST(test_every_repeated_frame),
        ROUND_TEST(test_every_pair_swapped),
        ROUND_TEST(test_data_of_another_round),
        ROUND_TEST(test_rounds_in_several_threads),
    };

    return cmocka_run_group_tests_name("round", tests, NULL, NULL);
}
