/*
 * Fault: an old copy that the receiver does not have, a page that is left out
 * though it changed, records that are packed in a wrong way, or where they
 * may not be.
 * Invariant: RAM and device state of a receiver are those of the sender after
 * each round, however it was packed; a packed round is never longer; what
 * cannot be unpacked is refused, with a sentence.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "copies.h"
#include "delta.h"
#include "pack.h"
#include "ram-private.h"
#include "round-private.h"
#include "toy-codec.h"

enum {
    BLOCKS = 3,
    BLOCK_PAGES_MAX = 40,
    DEVICE_MAX = 1 << 20,
    UNLIMITED = 1 << 30,
    METHODS = 8,                /* how many combinations there are */
};

static const uint64_t block_pages[BLOCKS] = { BLOCK_PAGES_MAX, 1, 23 };

/* The machine of one side */
typedef struct Machine {
    CurlingRamLayout layout;
    CurlingRamBlock blocks[BLOCKS];
    uint8_t *device;
    size_t device_bytes;
} Machine;

typedef struct Fixture {
    CurlingPool *pool;
    CurlingRound *round;        /* the sender's */
    CurlingRound *arrived;
    CurlingPacker *packer;
    CurlingUnpacker *unpacker;
    Machine from;
    Machine to;
    uint8_t *incoming;          /* device state of the round that arrived */
    size_t incoming_bytes;
    uint64_t seed;
    uint64_t number;
    unsigned int method;
    bool against;
    bool find_zeroes;           /* always; else now and then */
    bool dirty[BLOCKS][BLOCK_PAGES_MAX];
    /* of all rounds */
    uint64_t raw_bytes;
    uint64_t packed_bytes;
    uint64_t deltas;            /* of pages, that arrived */
    uint64_t device_deltas;
    uint64_t unpacked;          /* payloads */
} Fixture;

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 32;
}

static void fill_random(uint8_t *to, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = next_random(&seed) & 0xff;
    }
}

static void assert_message(const CurlingError *err, const char *part)
{
    if (!strstr(err->text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, part);
    }
}

/* ---- Copies -------------------------------------------------------------- */

/* Memory of the copies is by slabs of 2 MiB and something to know them by. */
#define SLAB (2u << 20)
#define COLD_ROUNDS 8

static const CurlingRamLayout layout_of_copies = {
    .page_bytes = 4096,
    .n_blocks = 2,
    .blocks = (CurlingRamBlock[]) { { .pages = 4000 }, { .pages = 3000 } },
};

/* Content by which a copy can be told from all others */
static void fill_copy(uint8_t *copy, uint32_t block, uint64_t page)
{
    for (size_t i = 0; i < 4096; i += 8) {
        curling_put_u64(copy + i, (uint64_t)block << 32 | page << 16 | i);
    }
}

static bool is_copy(const uint8_t *copy, uint32_t block, uint64_t page)
{
    uint8_t expected[4096];

    fill_copy(expected, block, page);
    return !memcmp(copy, expected, sizeof(expected));
}

/* As many from @first on as get one; how many did */
static uint64_t add_copies(CurlingCopies *copies, uint32_t block,
                           uint64_t first, uint64_t count)
{
    uint64_t added = 0;

    while (added < count) {
        uint8_t *copy = curling_copies_add(copies, block, first + added);

        if (!copy) {
            break;
        }
        fill_copy(copy, block, first + added);
        added++;
    }
    return added;
}

/* How many of these pages have a copy; each must be its own. */
static uint64_t count_copies(CurlingCopies *copies, uint32_t block,
                             uint64_t first, uint64_t count)
{
    uint64_t found = 0;

    for (uint64_t page = first; page < first + count; page++) {
        uint8_t *copy = curling_copies_find(copies, block, page);

        if (copy) {
            assert_true(is_copy(copy, block, page));
            found++;
        }
    }
    return found;
}

static void test_no_copies_without_a_limit(void **state)
{
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);

    (void)state;
    assert_non_null(copies);
    assert_null(curling_copies_find(copies, 1, 2999));
    curling_copies_drop(copies, 1, 2999);
    curling_copies_begin_round(copies);
    assert_null(curling_copies_add(copies, 0, 0));
    curling_copies_set_limit(copies, SLAB);     /* and nothing to know it by */
    assert_null(curling_copies_add(copies, 0, 0));
    assert_null(curling_copies_find(copies, 0, 0));
    assert_true(curling_copies_bytes(copies) == 0);
    curling_copies_forget(copies);
    curling_copies_free(copies);
    curling_copies_free(NULL);
}

static void test_copies_up_to_the_limit(void **state)
{
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);

    (void)state;
    curling_copies_set_limit(copies, 3 * SLAB + SLAB / 2);
    curling_copies_begin_round(copies);
    assert_true(add_copies(copies, 0, 0, 1000) == 1000);
    /* The same pages of another block are others. */
    assert_true(count_copies(copies, 1, 0, 3000) == 0);
    assert_true(curling_copies_bytes(copies) >= 2 * SLAB);
    assert_true(curling_copies_bytes(copies) < 2 * SLAB + SLAB / 4);
    assert_true(add_copies(copies, 1, 0, 1000) == 536);
    assert_true(curling_copies_bytes(copies) >= 3 * SLAB);
    assert_true(curling_copies_bytes(copies) <= 3 * SLAB + SLAB / 2);
    assert_true(count_copies(copies, 0, 0, 4000) == 1000);
    assert_true(count_copies(copies, 1, 0, 3000) == 536);
    /* A higher limit takes nothing away, and gives room. */
    curling_copies_set_limit(copies, 5 * SLAB);
    assert_true(add_copies(copies, 1, 536, 1000) == 512);
    assert_true(count_copies(copies, 0, 0, 4000) == 1000);
    assert_true(count_copies(copies, 1, 0, 3000) == 1048);
    curling_copies_free(copies);
}

static void test_copies_of_large_pages(void **state)
{
    CurlingRamLayout layout = layout_of_copies;
    CurlingCopies *copies;

    (void)state;
    layout.page_bytes = 65536;
    copies = curling_copies_new(&layout);
    curling_copies_set_limit(copies, SLAB + 65536);
    for (uint64_t page = 0; page < 33; page++) {
        uint8_t *copy = curling_copies_add(copies, 0, 100 * page);

        assert_true(!copy == (page == 32));
        if (copy) {
            memset(copy, (int)page, 65536);
        }
    }
    for (uint64_t page = 0; page < 32; page++) {
        uint8_t *copy = curling_copies_find(copies, 0, 100 * page);

        assert_true(copy[0] == page && copy[65535] == page);
    }
    curling_copies_free(copies);
}

/* Full: a page gets a copy in place of one that is cold, of no other. */
static void test_cold_copies_give_way(void **state)
{
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);

    (void)state;
    curling_copies_set_limit(copies, 3 * SLAB);
    curling_copies_begin_round(copies);
    assert_true(add_copies(copies, 0, 0, 4000) == 1024);
    for (int round = 0; round < COLD_ROUNDS; round++) {
        curling_copies_begin_round(copies);
        /* Every other page stays warm. */
        for (uint64_t page = 0; page < 1024; page += 2) {
            assert_non_null(curling_copies_find(copies, 0, page));
        }
        assert_null(curling_copies_add(copies, 1, 0));
    }
    curling_copies_begin_round(copies);
    assert_true(add_copies(copies, 1, 0, 3000) == 512);
    for (uint64_t page = 0; page < 1024; page++) {
        assert_true(count_copies(copies, 0, page, 1) == !(page % 2));
    }
    assert_true(count_copies(copies, 1, 0, 3000) == 512);
    assert_true(curling_copies_bytes(copies) <= 3 * SLAB);
    /* Whoever lost his place gets one no sooner than others get cold. */
    assert_null(curling_copies_add(copies, 0, 1));
    for (int round = 0; round < COLD_ROUNDS + 1; round++) {
        curling_copies_begin_round(copies);
    }
    assert_non_null(curling_copies_add(copies, 0, 1));
    curling_copies_free(copies);
}

static void test_dropped_copies(void **state)
{
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);

    (void)state;
    curling_copies_set_limit(copies, 3 * SLAB);
    assert_true(add_copies(copies, 0, 0, 4000) == 1024);
    for (uint64_t page = 100; page < 300; page++) {
        curling_copies_drop(copies, 0, page);
        curling_copies_drop(copies, 0, page);
        curling_copies_drop(copies, 1, page);
    }
    assert_true(count_copies(copies, 0, 0, 4000) == 824);
    assert_true(count_copies(copies, 0, 100, 200) == 0);
    /* Their places are free, but each looks at a few of all only. */
    for (int i = 0; i < 200; i++) {
        add_copies(copies, 1, count_copies(copies, 1, 0, 3000), 3000);
    }
    assert_true(count_copies(copies, 1, 0, 3000) == 200);
    assert_true(count_copies(copies, 0, 0, 4000) == 824);
    curling_copies_free(copies);
}

static void test_copies_forgotten(void **state)
{
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);

    (void)state;
    curling_copies_set_limit(copies, 3 * SLAB);
    for (int lower = 0; lower < 2; lower++) {
        assert_true(add_copies(copies, 0, 0, 600) == 600);
        assert_true(add_copies(copies, 1, 0, 3000) == 424);
        if (lower) {
            curling_copies_set_limit(copies, SLAB);
        } else {
            curling_copies_forget(copies);
        }
        assert_true(curling_copies_bytes(copies) == 0);
        assert_true(count_copies(copies, 0, 0, 4000) == 0);
        assert_true(count_copies(copies, 1, 0, 3000) == 0);
        curling_copies_drop(copies, 0, 0);
    }
    assert_null(curling_copies_add(copies, 0, 0));
    curling_copies_set_limit(copies, 2 * SLAB);
    assert_true(add_copies(copies, 0, 0, 4000) == 512);
    curling_copies_free(copies);
}

/* Against a model: whatever is found is what was put there last. */
static void test_random_copies(void **state)
{
    static bool may_have[2][3000];
    CurlingCopies *copies = curling_copies_new(&layout_of_copies);
    uint64_t seed = 1;
    uint64_t found = 0;

    (void)state;
    curling_copies_set_limit(copies, 3 * SLAB);
    for (int i = 0; i < 60000; i++) {
        uint32_t block = next_random(&seed) % 2;
        uint64_t page = next_random(&seed) % 900;
        uint8_t *copy = curling_copies_find(copies, block, page);

        if (copy) {
            assert_true(may_have[block][page]);
            assert_true(is_copy(copy, block, page));
            found++;
        }
        if (!copy) {
            may_have[block][page] = add_copies(copies, block, page, 1);
        } else if (next_random(&seed) % 8 == 0) {
            curling_copies_drop(copies, block, page);
            may_have[block][page] = false;
        }
        if (i % 100 == 0) {
            curling_copies_begin_round(copies);
        }
        if (i % 20000 == 19999) {
            curling_copies_forget(copies);
            memset(may_have, 0, sizeof(may_have));
        }
    }
    assert_true(found > 10000);
    curling_copies_free(copies);
}

/* ---- A sender and a receiver --------------------------------------------- */

static void init_machine(Machine *machine, uint32_t page_bytes)
{
    memset(machine, 0, sizeof(*machine));
    machine->layout = (CurlingRamLayout) {
        .page_bytes = page_bytes,
        .n_blocks = BLOCKS,
        .blocks = machine->blocks,
        .device_max_bytes = DEVICE_MAX,
    };
    for (int i = 0; i < BLOCKS; i++) {
        machine->blocks[i].pages = block_pages[i];
        machine->blocks[i].host = calloc(block_pages[i], page_bytes);
        assert_non_null(machine->blocks[i].host);
    }
    machine->device = calloc(1, DEVICE_MAX);
    assert_non_null(machine->device);
}

static void free_machine(Machine *machine)
{
    for (int i = 0; i < BLOCKS; i++) {
        free(machine->blocks[i].host);
    }
    free(machine->device);
}

static Fixture *fixture_new(uint32_t page_bytes, uint64_t limit_bytes)
{
    Fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->pool = curling_pool_new(0);
    f->round = curling_round_new(f->pool);
    f->arrived = curling_round_new(f->pool);
    init_machine(&f->from, page_bytes);
    init_machine(&f->to, page_bytes);
    f->packer = curling_packer_new(&f->from.layout, &toy_codec);
    f->unpacker = curling_unpacker_new(&toy_codec);
    f->incoming = malloc(DEVICE_MAX);
    assert_true(f->packer && f->unpacker && f->incoming);
    curling_packer_set_limit(f->packer, limit_bytes);
    f->seed = page_bytes + limit_bytes;
    return f;
}

static void fixture_free(Fixture *f)
{
    curling_packer_free(f->packer);
    curling_unpacker_free(f->unpacker);
    curling_round_free(f->round);
    curling_round_free(f->arrived);
    curling_pool_free(f->pool);
    free_machine(&f->from);
    free_machine(&f->to);
    free(f->incoming);
    free(f);
}

static int setup(void **state)
{
    *state = fixture_new(4096, UNLIMITED);
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

static uint8_t *page_of(Machine *machine, uint32_t block, uint64_t page)
{
    return machine->blocks[block].host + page * machine->layout.page_bytes;
}

static void begin(Fixture *f, unsigned int method, bool against)
{
    f->number++;
    f->method = method;
    f->against = against;
    curling_round_begin(f->round, f->number, 1,
                        against ? CURLING_KIND_DELTA : CURLING_KIND_FULL,
                        against ? f->number - 1 : CURLING_ROUND_NONE);
    curling_round_begin(f->arrived, f->number, 1,
                        curling_round_kind(f->round),
                        curling_round_base(f->round));
    curling_packer_begin(f->packer, method, against);
}

static void put(Fixture *f, uint32_t block, uint64_t first, uint64_t count,
                bool find_zeroes)
{
    CurlingError err = { "" };

    if (curling_ram_put_pages(f->round, &f->from.layout, block, first, count,
                              find_zeroes, &err)) {
        fail_msg("%s", err.text);
    }
}

static void put_device(Fixture *f, size_t first, size_t len)
{
    assert_int_equal(curling_ram_put_device(f->round, f->from.device + first,
                                            len, NULL), 0);
}

/* What is staged gets shorter, and is the same to who counts what was. */
static void pack(Fixture *f)
{
    uint64_t frames = curling_round_frames(f->round);
    uint64_t bytes = curling_round_bytes(f->round);
    uint64_t raw_bytes = curling_round_raw_bytes(f->round);

    curling_packer_pack(f->packer, f->round);
    assert_true(curling_round_frames(f->round) <= frames);
    assert_true(curling_round_bytes(f->round) <= bytes);
    assert_true(curling_round_raw_bytes(f->round) == raw_bytes);
}

/* The finished frames, over the wire; their checksums are checked there. */
static void ship(Fixture *f)
{
    const uint8_t *span;
    size_t cursor = 0;
    size_t len;

    curling_round_finish_frames(f->round);
    while ((span = curling_round_span(f->round, &cursor, &len))) {
        for (size_t at = 0; at < len; ) {
            CurlingHeader header;
            CurlingError err = { "" };

            assert_int_equal(curling_frame_decode(span + at, &header, NULL),
                             0);
            at += CURLING_HEADER_BYTES;
            if (curling_round_append(f->arrived, &header, span + at, &err)) {
                fail_msg("%s", err.text);
            }
            at += header.length_bytes;
        }
    }
}

static void sink_pages(void *opaque, uint32_t block, uint64_t first,
                       uint64_t count)
{
    (void)opaque;
    assert_true(block < BLOCKS && count > 0);
    assert_true(first + count <= block_pages[block]);
}

static void sink_device(void *opaque, const uint8_t *data, size_t len)
{
    Fixture *f = opaque;

    assert_true(len > 0 && f->incoming_bytes + len <= DEVICE_MAX);
    memcpy(f->incoming + f->incoming_bytes, data, len);
    f->incoming_bytes += len;
}

/* Beyond the end of what the receiver has there are zeroes. */
static void sink_device_delta(void *opaque, uint32_t count,
                              const uint8_t *delta, size_t len)
{
    Fixture *f = opaque;
    uint8_t *to = f->incoming + f->incoming_bytes;

    assert_true(count > 0 && count <= CURLING_DELTA_MAX);
    assert_true(f->incoming_bytes + count <= DEVICE_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t at = f->incoming_bytes + i;

        to[i] = at < f->to.device_bytes ? f->to.device[at] : 0;
    }
    curling_delta_apply(delta, len, to, count);
    f->incoming_bytes += count;
    f->device_deltas++;
}

/* Is any of these records a delta?  Counts those of pages. */
static bool has_deltas(Fixture *f, const uint8_t *records, size_t len)
{
    bool has = false;

    for (size_t at = 0; at < len; ) {
        CurlingRecord record = curling_record_get(records + at);

        has |= record.type == CURLING_RECORD_DELTA ||
               record.type == CURLING_RECORD_DEVICE_DELTA;
        at += CURLING_RECORD_BYTES;
        switch (record.type) {
        case CURLING_RECORD_PAGES:
            at += (size_t)record.count * f->to.layout.page_bytes;
            break;
        case CURLING_RECORD_DEVICE:
            at += record.count;
            break;
        case CURLING_RECORD_DEVICE_DELTA:
            at += 4 + curling_get_u32(records + at);
            break;
        case CURLING_RECORD_DELTA:
            for (uint32_t i = 0; i < record.count; i++) {
                at += 2 + curling_get_u16(records + at);
            }
            f->deltas += record.count;
            break;
        }
    }
    return has;
}

static void apply_payload(Fixture *f, const uint8_t *payload, size_t len,
                          uint64_t *device_bytes)
{
    CurlingRamSink sink = {
        .pages = sink_pages,
        .device = sink_device,
        .device_delta = sink_device_delta,
        .opaque = f,
    };
    /* A copy of its own: ASan sees who reads beyond. */
    uint8_t *alone = malloc(len);
    const uint8_t *records = alone;
    uint64_t before = *device_bytes;
    CurlingError err = { "" };
    bool deltas;

    assert_non_null(alone);
    memcpy(alone, payload, len);
    if (curling_unpack(f->unpacker, &records, &len, &err) ||
        curling_ram_validate(&f->to.layout, f->against, records, len,
                             device_bytes, &err)) {
        fail_msg("round %" PRIu64 ": %s", f->number, err.text);
    }
    f->unpacked += records != alone;
    deltas = has_deltas(f, records, len);
    assert_int_equal(curling_ram_validate(&f->to.layout, false, records, len,
                                          &before, NULL),
                     deltas ? -EPROTO : 0);
    curling_ram_apply(&f->to.layout, records, len, &sink);
    assert_true(f->incoming_bytes == *device_bytes);
    free(alone);
}

/* The packer's own figures of the round that is sealed */
static void check_result(const Fixture *f)
{
    const CurlingPacked *result = curling_packer_result(f->packer);
    bool deltas = f->against &&
                  f->method & (CURLING_PACK_SAMPLE | CURLING_PACK_DELTA);

    assert_true(result->raw_bytes == curling_round_raw_bytes(f->round));
    assert_true(result->bytes == curling_round_bytes(f->round));
    assert_true(result->delta_ns >= 0);
    assert_true(result->codec_ns >= 0);
    assert_true(deltas || !result->delta_bytes);
    assert_true(result->delta_bytes % f->from.layout.page_bytes == 0);
    assert_true(result->judged_raw_bytes <= result->delta_bytes);
    assert_true(result->judged_bytes <= result->judged_raw_bytes);
    assert_true(f->method & CURLING_PACK_CODEC || !result->codec_raw_bytes);
    assert_true(result->codec_raw_bytes <= result->raw_bytes);
    assert_true(result->codec_bytes <= result->codec_raw_bytes);
}

/* The sealed round arrives whole, and is applied. */
static void receive(Fixture *f)
{
    CurlingRoundIter iter = { 0 };
    uint8_t end[CURLING_END_SIZE];
    uint64_t device_bytes = 0;
    CurlingError err = { "" };
    const uint8_t *payload;
    uint8_t *last;
    size_t len;

    curling_round_seal(f->round);
    check_result(f);
    ship(f);
    curling_round_get_end(f->round, end);
    if (curling_round_verify(f->arrived, end, &err)) {
        fail_msg("%s", err.text);
    }
    assert_true(curling_round_frames(f->arrived) ==
                curling_round_frames(f->round));
    assert_true(curling_round_bytes(f->arrived) ==
                curling_round_bytes(f->round));
    f->raw_bytes += curling_round_raw_bytes(f->round);
    f->packed_bytes += curling_round_bytes(f->round);
    f->incoming_bytes = 0;
    while (curling_round_next(f->arrived, &iter, &payload, &len)) {
        apply_payload(f, payload, len, &device_bytes);
    }
    last = f->to.device;
    f->to.device = f->incoming;
    f->to.device_bytes = f->incoming_bytes;
    f->incoming = last;
    curling_packer_end(f->packer);
}

static void assert_same(Fixture *f)
{
    for (int i = 0; i < BLOCKS; i++) {
        if (memcmp(f->from.blocks[i].host, f->to.blocks[i].host,
                   block_pages[i] * f->from.layout.page_bytes)) {
            fail_msg("round %" PRIu64 ": RAM block %d differs", f->number, i);
        }
    }
    assert_int_equal(f->from.device_bytes, f->to.device_bytes);
    if (memcmp(f->from.device, f->to.device, f->to.device_bytes)) {
        fail_msg("round %" PRIu64 ": device state differs", f->number);
    }
}

/* ---- What a guest does --------------------------------------------------- */

static void change_page(Fixture *f, uint32_t block, uint64_t page)
{
    uint32_t page_bytes = f->from.layout.page_bytes;
    uint8_t *p = page_of(&f->from, block, page);
    uint32_t n = 1 + next_random(&f->seed) % 10;

    switch (next_random(&f->seed) % 8) {
    case 0:
        memset(p, 0, page_bytes);
        break;
    case 1:
        fill_random(p, page_bytes, next_random(&f->seed));
        break;
    case 2:             /* one of a few contents that come again */
        fill_random(p, page_bytes, n % 3);
        break;
    case 3:
        memset(p, n, page_bytes);
        break;
    case 4:             /* written to, and nothing changed */
        break;
    case 5:             /* what may be so again in the next round */
        p[64 * n] ^= 0x80;
        break;
    default:
        while (n--) {
            p[next_random(&f->seed) % page_bytes] += 1 + n;
        }
        break;
    }
    f->dirty[block][page] = true;
}

static void change_device(Fixture *f)
{
    uint8_t *device = f->from.device;
    size_t len = f->from.device_bytes;
    size_t other = next_random(&f->seed) % 400;
    uint32_t n = next_random(&f->seed) % 6;

    switch (next_random(&f->seed) % 8) {
    case 0:             /* anything, also more than a delta is about */
        other = 1 + next_random(&f->seed) % 300000;
        break;
    case 1:
        other += len;
        break;
    case 2:
        other = len > other ? len - other : 1;
        break;
    default:
        other = len ? len : 3000;
        break;
    }
    other = other < DEVICE_MAX ? other : DEVICE_MAX;
    if (other > len) {
        if (n % 2) {
            fill_random(device + len, other - len, next_random(&f->seed));
        } else {
            memset(device + len, 0, other - len);
        }
    }
    f->from.device_bytes = other;
    while (n--) {
        device[next_random(&f->seed) % other]++;
    }
}

/* Some of the next octets of the device state; true when it is all there */
static bool put_some_device(Fixture *f, size_t *at)
{
    size_t left = f->from.device_bytes - *at;
    size_t len = next_random(&f->seed) % 3 ? left :
                 next_random(&f->seed) % (left + 1);

    put_device(f, *at, len);
    *at += len;
    return *at == f->from.device_bytes;
}

static bool finds_zeroes(Fixture *f)
{
    return next_random(&f->seed) % 2 || f->find_zeroes;
}

/* Some runs of dirty pages, which may be staged again */
static void put_dirty(Fixture *f, uint32_t block)
{
    uint64_t page = next_random(&f->seed) % block_pages[block];

    while (page < block_pages[block]) {
        uint64_t first = page;
        uint64_t most = 1 + next_random(&f->seed) % 20;

        while (page < block_pages[block] && f->dirty[block][page] &&
               page - first < most) {
            page++;
        }
        put(f, block, first, page - first, finds_zeroes(f));
        page += page == first;
    }
}

static void put_all_dirty(Fixture *f)
{
    for (uint32_t block = 0; block < BLOCKS; block++) {
        for (uint64_t page = 0; page < block_pages[block]; page++) {
            if (f->dirty[block][page]) {
                put(f, block, page, 1, finds_zeroes(f));
            }
        }
    }
}

/* What was shipped is done with. */
static void ship_part(Fixture *f)
{
    pack(f);
    ship(f);
    curling_round_drop_frames(f->round);
}

static void run_guest(Fixture *f)
{
    uint32_t n = next_random(&f->seed) % 30;

    while (n--) {
        uint32_t block = next_random(&f->seed) % BLOCKS;

        change_page(f, block, next_random(&f->seed) % block_pages[block]);
    }
    change_device(f);
}

/*
 * All that is dirty and the device state, in some order; with @parts, some is
 * packed and shipped before the rest comes.  Pages come twice, and in between
 * may be others again.
 */
static void stage(Fixture *f, bool parts)
{
    size_t at = 0;

    for (int i = 0; i < 4; i++) {
        if (next_random(&f->seed) % 2) {
            put_dirty(f, next_random(&f->seed) % BLOCKS);
        }
        if (next_random(&f->seed) % 3 == 0) {
            change_page(f, 0, next_random(&f->seed) % block_pages[0]);
        }
        if (next_random(&f->seed) % 3 == 0) {
            put_some_device(f, &at);
        }
        if (parts && next_random(&f->seed) % 2) {
            ship_part(f);
        }
    }
    put_all_dirty(f);
    while (!put_some_device(f, &at)) {
    }
}

/* One round, whole or lost on its way.  Of a lost one all pages are owed. */
static void one_round(Fixture *f, unsigned int method, bool against,
                      bool parts, bool lost)
{
    run_guest(f);
    begin(f, method, against);
    stage(f, parts);
    pack(f);
    if (lost) {
        curling_packer_forget(f->packer);
        assert_true(curling_packer_copies_bytes(f->packer) == 0);
        return;
    }
    receive(f);
    assert_same(f);
    memset(f->dirty, 0, sizeof(f->dirty));
}

static void assert_methods_seen(const Fixture *f, bool delta, bool codec)
{
    assert_true(!f->deltas == !delta);
    assert_true(!f->device_deltas == !delta);
    assert_true(!f->unpacked == !codec);
}

static void test_each_method(void **state)
{
    (void)state;
    for (unsigned int method = 0; method < METHODS; method++) {
        Fixture *f = fixture_new(4096, UNLIMITED);

        for (int i = 0; i < 200; i++) {
            one_round(f, method, i > 0, false, false);
        }
        assert_methods_seen(f, method & CURLING_PACK_DELTA,
                            method & CURLING_PACK_CODEC);
        /* Pages of zeroes are found in any case. */
        assert_true(f->packed_bytes < f->raw_bytes);
        assert_true(!(method & CURLING_PACK_DELTA) ||
                    f->packed_bytes < f->raw_bytes / 4 * 3);
        /* Copies are of no use to who makes no deltas. */
        assert_true(!curling_packer_copies_bytes(f->packer) ==
                    !(method & (CURLING_PACK_DELTA | CURLING_PACK_SAMPLE)));
        fixture_free(f);
    }
}

static void test_rounds_against_none(void **state)
{
    (void)state;
    for (unsigned int method = 0; method < METHODS; method++) {
        Fixture *f = fixture_new(4096, UNLIMITED);

        for (int i = 0; i < 50; i++) {
            one_round(f, method, false, i % 2, false);
        }
        assert_methods_seen(f, false, method & CURLING_PACK_CODEC);
        fixture_free(f);
    }
}

/* Method, base, parts and losses in any order; pages of three sizes, and
 * copies of all, some and none of them */
static void test_random_rounds(void **state)
{
    static const uint32_t sizes[] = { 4096, 16384, 65536 };
    static const uint64_t limits[] = { UNLIMITED, SLAB + SLAB / 2, SLAB };
    static const unsigned int methods[] = {
        CURLING_PACK_DELTA, CURLING_PACK_SAMPLE,
        CURLING_PACK_DELTA | CURLING_PACK_SAMPLE,
        CURLING_PACK_DELTA | CURLING_PACK_CODEC,
    };

    (void)state;
    for (int i = 0; i < 9; i++) {
        Fixture *f = fixture_new(sizes[i / 3], limits[i % 3]);
        unsigned int rounds = i / 3 == 0 ? 400 : 120;

        one_round(f, CURLING_PACK_NONE, false, false, false);
        for (unsigned int j = 0; j < rounds; j++) {
            unsigned int method = next_random(&f->seed) % METHODS;

            /* Mostly as in the round before, or no copy lives long */
            if (j % 20 > 1) {
                method = methods[j / 5 % 4];
            }
            one_round(f, method, next_random(&f->seed) % 12,
                      next_random(&f->seed) % 2,
                      next_random(&f->seed) % 8 == 0);
            assert_true(curling_packer_copies_bytes(f->packer) <=
                        limits[i % 3]);
        }
        one_round(f, CURLING_PACK_DELTA, true, false, false);
        assert_true(f->device_deltas > 0 && f->unpacked > 0);
        /* Without copies a page has no delta. */
        assert_true(!f->deltas == (limits[i % 3] == SLAB));
        assert_true(!curling_packer_copies_bytes(f->packer) == !f->deltas);
        fixture_free(f);
    }
}

/* ---- One thing at a time ------------------------------------------------- */

/* Pages 0 to 9 of block 0 with content, device state, at both sides */
static void begin_with(Fixture *f, size_t device_bytes)
{
    for (uint64_t page = 0; page < 10; page++) {
        fill_random(page_of(&f->from, 0, page), 4096, page + 1);
    }
    fill_random(f->from.device, device_bytes, 99);
    f->from.device_bytes = device_bytes;
    /* A copy is made when a page is in a round that may have deltas. */
    begin(f, CURLING_PACK_DELTA, true);
    put(f, 0, 0, 10, false);
    put_device(f, 0, device_bytes);
    pack(f);
    receive(f);
    assert_same(f);
}

/* The payload of the sealed round's only frame */
static const uint8_t *only_payload(const Fixture *f, size_t *len)
{
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload = NULL;
    const uint8_t *other;
    size_t other_len;

    assert_true(curling_round_next(f->round, &iter, &payload, len));
    assert_false(curling_round_next(f->round, &iter, &other, &other_len));
    return payload;
}

static void test_octets_of_packed_records_are_fixed(void **state)
{
    static const uint8_t expected[] = {
        /* Pages 3 to 5 of block 0, of which 4 did not change */
        4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3,
        0, 3, 7, 1, 'a',
        0, 0,
        0, 5, 0x80, 2, 2, 'b', 'c',
        /* Page 7 is zero. */
        2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7,
        /* 600 octets of device state */
        5, 0, 0, 0, 0, 0, 2, 0x58, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 4, 0xd7, 4, 1, 'd',
    };
    Fixture *f = *state;
    const uint8_t *payload;
    size_t len;

    begin_with(f, 600);
    page_of(&f->from, 0, 3)[7] = 'a';
    page_of(&f->from, 0, 5)[256] = 'b';
    page_of(&f->from, 0, 5)[257] = 'c';
    memset(page_of(&f->from, 0, 7), 0, 4096);
    f->from.device[599] = 'd';
    begin(f, CURLING_PACK_DELTA, true);
    put(f, 0, 2, 8, false);
    put_device(f, 0, 600);
    pack(f);
    receive(f);
    assert_same(f);
    payload = only_payload(f, &len);
    assert_int_equal(len, sizeof(expected));
    assert_memory_equal(payload, expected, sizeof(expected));
}

static void test_octets_of_a_codec_record_are_fixed(void **state)
{
    /* A record of device state, by our own codec */
    static const uint8_t expected[] = {
        6, 0, 0, 0, 0, 0, 4, 0x10, 0, 0, 0, 0, 0, 0, 0, 18,
        1, 3, 5, 0, 1, 4, 9, 0,
        255, 'x', 255, 'x', 255, 'x', 255, 'x', 4, 'x',
    };
    Fixture *f = *state;
    const uint8_t *payload;
    size_t len;

    memset(f->from.device, 'x', 1024);
    f->from.device_bytes = 1024;
    begin(f, CURLING_PACK_CODEC, true);
    put_device(f, 0, 1024);
    assert_true(curling_round_raw_bytes(f->round) == 1040);
    pack(f);
    assert_true(curling_round_raw_bytes(f->round) == 1040);
    receive(f);
    assert_same(f);
    payload = only_payload(f, &len);
    assert_int_equal(len, sizeof(expected));
    assert_memory_equal(payload, expected, sizeof(expected));
}

/* What is sent of a page that was only written to: nothing, and of a frame
 * full of them neither */
static void test_unchanged_pages_vanish(void **state)
{
    Fixture *f = *state;
    size_t len;

    begin_with(f, 600);
    begin(f, CURLING_PACK_DELTA, true);
    for (int i = 0; i < 40; i++) {
        put(f, 0, 0, 10, i % 2);        /* seven frames */
    }
    assert_true(curling_round_frames(f->round) == 7);
    pack(f);
    assert_true(curling_round_frames(f->round) == 0);
    assert_true(curling_round_bytes(f->round) == 0);
    assert_true(curling_round_raw_bytes(f->round) > 400 * 4096);
    put_device(f, 0, 600);
    pack(f);
    receive(f);
    assert_same(f);
    assert_true(curling_round_frames(f->round) == 1);
    only_payload(f, &len);
    assert_int_equal(len, CURLING_RECORD_BYTES + 4);
    assert_true(curling_round_raw_bytes(f->round) > 400 * 4096);
}

/* Frames that vanish between others, over several chunks */
static void test_frames_vanish_between_others(void **state)
{
    Fixture *f = *state;

    begin_with(f, 600);
    begin(f, CURLING_PACK_DELTA, true);
    for (int i = 0; i < 200; i++) {
        if (i % 7 == 3) {
            page_of(&f->from, 0, i % 10)[i]++;
        }
        for (int j = 0; j < 7; j++) {
            put(f, 0, 0, 10, false);
        }
    }
    put_device(f, 0, 600);
    assert_true(curling_pool_now(f->pool) > 10 * CURLING_CHUNK_BYTES);
    pack(f);
    assert_in_range(curling_round_frames(f->round), 20, 60);
    receive(f);
    assert_same(f);
}

/* The second one is against what the first one made of it. */
static void test_page_twice_in_a_round(void **state)
{
    Fixture *f = *state;
    uint8_t *p;

    begin_with(f, 600);
    p = page_of(&f->from, 0, 2);
    for (int i = 0; i < 20; i++) {
        begin(f, CURLING_PACK_DELTA, true);
        for (int j = 0; j < 3; j++) {
            p[100 * j + i]++;
            if ((i + j) % 4 == 0) {
                fill_random(p, 4096, 10 * i + j);
            }
            if ((i + j) % 7 == 0) {
                memset(p, 0, 4096);
            }
            put(f, 0, 2, 1, i % 2);
        }
        put_device(f, 0, 600);
        pack(f);
        receive(f);
        assert_same(f);
    }
    assert_true(f->deltas > 20);
}

static void test_zero_and_back(void **state)
{
    /* Of what kind the page is, and whether that is little against before */
    static const struct {
        bool zero;
        uint8_t last;
        bool delta;
    } steps[] = {
        { true, 0, false }, { true, 1, true }, { true, 0, false },
        { false, 0, false }, { false, 1, true }, { true, 0, false },
        { true, 2, true }, { false, 2, false }, { false, 2, false },
    };
    Fixture *f = *state;
    uint8_t *p = page_of(&f->from, 0, 4);

    for (int find_zeroes = 0; find_zeroes < 2; find_zeroes++) {
        begin_with(f, 600);
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            uint64_t deltas = f->deltas;

            fill_random(p, 4096, 5);
            if (steps[i].zero) {
                memset(p, 0, 4096);
            }
            p[4095] += steps[i].last;
            begin(f, CURLING_PACK_DELTA, true);
            put(f, 0, 4, 1, find_zeroes);
            put_device(f, 0, 600);
            pack(f);
            receive(f);
            assert_same(f);
            assert_true(f->deltas - deltas == steps[i].delta);
        }
    }
}

static void test_device_state_of_all_lengths(void **state)
{
    static const size_t lengths[] = {
        600, 601, 511, 512, 513, 1, 4096, 65535, 65536, 65537, 66100, 66047,
        66048, 131072, 131073, 300000, DEVICE_MAX, 300000, 299999, 700, 699,
    };
    Fixture *f = *state;

    begin_with(f, 600);
    fill_random(f->from.device, DEVICE_MAX, 7);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint64_t deltas = f->device_deltas;

        f->from.device_bytes = lengths[i];
        for (int again = 0; again < 2; again++) {
            f->from.device[lengths[i] / 2]++;
            f->from.device[lengths[i] - 1]++;
            begin(f, CURLING_PACK_DELTA, true);
            put_device(f, 0, lengths[i]);
            pack(f);
            receive(f);
            assert_same(f);
        }
        /* The second time all of it was there before. */
        assert_true(lengths[i] < 512 || f->device_deltas > deltas);
        assert_true(lengths[i] < 512 || curling_round_bytes(f->round) <
                    600 + lengths[i] / 65536 * 24 + 100);
    }
}

/* A state that is too short for a delta does not get longer either. */
static void test_short_device_state(void **state)
{
    Fixture *f = *state;

    for (size_t len = 1; len < 600; len++) {
        for (size_t piece = 1; piece <= len; piece += 1 + len / 3) {
            f->from.device_bytes = len;
            begin(f, CURLING_PACK_DELTA, true);
            for (size_t at = 0; at < len; at += piece) {
                put_device(f, at, len - at < piece ? len - at : piece);
            }
            pack(f);
            receive(f);
            assert_same(f);
        }
    }
}

/* What was once at a place is of no account when that is beyond the end. */
static void test_device_state_that_comes_back(void **state)
{
    static const size_t lengths[] = { 30000, 60000, 1000, 60000, 1, 60000 };
    Fixture *f = *state;

    fill_random(f->from.device, 60000, 8);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        f->from.device_bytes = lengths[i];
        begin(f, CURLING_PACK_DELTA, true);
        put_device(f, 0, lengths[i]);
        pack(f);
        receive(f);
        assert_same(f);
    }
}

/* A page is as it was two rounds ago, but not as the receiver has it: every
 * way to pack that round, and the one in between. */
static void test_page_as_before_the_last_round(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < METHODS * METHODS * 2; i++) {
        Fixture *f = fixture_new(4096, UNLIMITED);
        unsigned int methods[] = {
            i % METHODS, i / METHODS % METHODS, CURLING_PACK_DELTA,
        };

        begin_with(f, 600);
        for (int j = 0; j < 6; j++) {
            bool against = j % 3 != 1 || i / METHODS / METHODS;

            for (uint64_t page = 0; page < 40; page++) {
                page_of(&f->from, 0, page)[page] ^= 0x40;
            }
            f->from.device[7] ^= 0x40;
            begin(f, methods[j % 3], against);
            put(f, 0, 0, 40, j % 2);
            put_device(f, 0, 600);
            pack(f);
            receive(f);
            assert_same(f);
        }
        fixture_free(f);
    }
}

/* What deltas would do to a part of the pages, for which alone there are
 * copies, is about what they do to all. */
static void test_sample(void **state)
{
    Fixture *f[2] = {
        fixture_new(4096, UNLIMITED), fixture_new(4096, UNLIMITED),
    };
    uint64_t raw[2] = { 0 }, left[2] = { 0 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        const CurlingPacked *result = curling_packer_result(f[i]->packer);

        begin_with(f[i], 600);
        curling_packer_forget(f[i]->packer);
        for (int again = 0; again < 2; again++) {
            page_of(&f[i]->from, 0, 0)[5] ^= again;
            begin(f[i], CURLING_PACK_SAMPLE | (i ? CURLING_PACK_DELTA : 0),
                  true);
            put(f[i], 0, 0, again ? 1 : 10, false);
            put_device(f[i], 0, 600);
            pack(f[i]);
            receive(f[i]);
            /* A page's first copy is no verdict. */
            assert_true(again || !result->judged_raw_bytes);
        }
        /* Page 0, which is always one of them: an octet */
        assert_true(result->judged_raw_bytes == 4096);
        assert_true(result->judged_bytes == 3);
    }
    for (int i = 0; i < 400; i++) {
        for (int k = 0; k < 2; k++) {
            const CurlingPacked *result = curling_packer_result(f[k]->packer);

            one_round(f[k], CURLING_PACK_SAMPLE | (k ? CURLING_PACK_DELTA : 0),
                      true, false, false);
            raw[k] += result->judged_raw_bytes;
            left[k] += result->judged_bytes;
        }
    }
    assert_methods_seen(f[0], false, false);
    assert_in_range(raw[0], raw[1] / CURLING_SAMPLE / 4,
                    raw[1] / CURLING_SAMPLE * 4);
    assert_in_range(100 * left[0] / raw[0], 100 * left[1] / raw[1] * 2 / 3,
                    100 * left[1] / raw[1] * 3 / 2);
    /* As for those that a round of deltas finds copies of: a few */
    begin(f[0], CURLING_PACK_DELTA, true);
    put(f[0], 0, 0, 40, false);
    put(f[0], 2, 0, 23, false);
    put_device(f[0], 0, f[0]->from.device_bytes);
    pack(f[0]);
    receive(f[0]);
    assert_same(f[0]);
    assert_in_range(curling_round_bytes(f[0]->round),
                    curling_round_raw_bytes(f[0]->round) / 10 * 2,
                    curling_round_raw_bytes(f[0]->round) - 4096);
    fixture_free(f[0]);
    fixture_free(f[1]);
}

/* After a lost round nothing of it counts, nor of those before it. */
static void test_lost_round(void **state)
{
    Fixture *f = *state;

    begin_with(f, 600);
    page_of(&f->from, 0, 1)[5]++;
    f->from.device[5]++;
    begin(f, CURLING_PACK_DELTA, true);
    put(f, 0, 1, 1, false);
    put_device(f, 0, 600);
    pack(f);
    curling_packer_forget(f->packer);

    page_of(&f->from, 0, 1)[6]++;
    begin(f, CURLING_PACK_DELTA, true);
    put(f, 0, 1, 1, false);
    put_device(f, 0, 600);
    pack(f);
    receive(f);
    assert_same(f);
    assert_true(curling_round_bytes(f->round) == 16 + 4096 + 16 + 600);
    assert_int_equal(f->deltas, 0);
    assert_int_equal(f->device_deltas, 0);
}

/* A limit that is lowered takes the copies away, not the device state. */
static void test_limit_lowered(void **state)
{
    Fixture *f = *state;

    begin_with(f, 600);
    assert_true(curling_packer_copies_bytes(f->packer) > 0);
    curling_packer_set_limit(f->packer, 0);
    assert_true(curling_packer_copies_bytes(f->packer) == 0);
    page_of(&f->from, 0, 1)[5]++;
    begin(f, CURLING_PACK_DELTA, true);
    put(f, 0, 0, 10, false);
    put_device(f, 0, 600);
    pack(f);
    receive(f);
    assert_same(f);
    assert_true(curling_round_bytes(f->round) == 16 + 10 * 4096 + 20);
}

/* What does not get shorter stays as it is. */
static void test_packing_in_vain(void **state)
{
    Fixture *f = *state;

    for (unsigned int method = 0; method < METHODS; method++) {
        for (uint64_t page = 0; page < 40; page++) {
            fill_random(page_of(&f->from, 0, page), 4096, page + 100 * method);
        }
        fill_random(f->from.device, 3000, method);
        f->from.device_bytes = 3000;
        begin(f, method, true);
        put(f, 0, 0, 40, true);
        put_device(f, 0, 3000);
        pack(f);
        receive(f);
        assert_same(f);
        assert_true(curling_round_bytes(f->round) ==
                    curling_round_raw_bytes(f->round));
    }
}

/* A delta that is almost as long as its page is not worth to be one. */
static void test_long_deltas(void **state)
{
    static const size_t changed[] = { 2000, 3500, 2000, 4096, 1 };
    Fixture *f = *state;

    begin_with(f, 600);
    for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
        uint8_t *p = page_of(&f->from, 0, 1);
        uint64_t deltas = f->deltas;

        for (size_t j = 0; j < changed[i]; j++) {
            p[j] ^= 0xff;
        }
        begin(f, CURLING_PACK_DELTA, true);
        put(f, 0, 1, 1, false);
        put_device(f, 0, 600);
        pack(f);
        receive(f);
        assert_same(f);
        assert_true(f->deltas - deltas == (changed[i] < 3000));
    }
}

/* A run of pages in turns with and without a delta, zero, and unchanged: more
 * records than before, and still no longer */
static void test_every_pattern_of_pages(void **state)
{
    Fixture *f = *state;

    for (unsigned int pattern = 0; pattern < 1024; pattern++) {
        begin_with(f, 600);
        begin(f, CURLING_PACK_DELTA, true);
        for (unsigned int i = 0; i < 5; i++) {
            uint8_t *p = page_of(&f->from, 0, i);

            switch (pattern >> 2 * i & 3) {
            case 0:
                fill_random(p, 4096, pattern);
                break;
            case 1:
                p[i] ^= 1;
                break;
            case 2:
                memset(p, 0, 4096);
                break;
            }
        }
        put(f, 0, 0, 5, false);
        put_device(f, 0, 600);
        pack(f);
        receive(f);
        assert_same(f);
    }
}

/* ---- Codecs -------------------------------------------------------------- */

static void *no_context(void)
{
    return NULL;
}

static void test_codec_without_memory(void **state)
{
    static CurlingCodec codec;
    Fixture *f = *state;

    codec = toy_codec;
    codec.context_new = no_context;
    assert_null(curling_unpacker_new(&codec));
    curling_packer_free(f->packer);
    f->packer = curling_packer_new(&f->from.layout, &codec);
    curling_packer_set_limit(f->packer, UNLIMITED);
    for (int i = 0; i < 20; i++) {
        one_round(f, CURLING_PACK_DELTA | CURLING_PACK_CODEC, true, false,
                  false);
    }
    assert_methods_seen(f, true, false);
}

static void test_no_codec(void **state)
{
    Fixture *f = *state;

    curling_packer_free(f->packer);
    curling_unpacker_free(f->unpacker);
    f->packer = curling_packer_new(&f->from.layout, NULL);
    f->unpacker = curling_unpacker_new(NULL);
    curling_packer_set_limit(f->packer, UNLIMITED);
    for (int i = 0; i < 20; i++) {
        one_round(f, CURLING_PACK_DELTA | CURLING_PACK_CODEC, true, false,
                  false);
    }
    assert_methods_seen(f, true, false);
    curling_packer_free(NULL);
    curling_unpacker_free(NULL);
}

/* Says how much it was given; for what a codec must never be asked. */
static ssize_t count_only(void *context, const uint8_t *from, size_t len_bytes,
                          uint8_t *to, size_t max_bytes)
{
    (void)context;
    (void)from;
    (void)to;
    assert_in_range(max_bytes, 1, CURLING_PAYLOAD_MAX);
    return (ssize_t)len_bytes;
}

typedef struct BadPacked {
    uint8_t octets[32];
    size_t len;
    const char *part;
} BadPacked;

static const BadPacked bad_packed[] = {
    /* Each field of the header */
    { { 6, 1, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "got a ZSTD record" },
    { { 6, 0x80, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "got a ZSTD record" },
    { { 6, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "of block 1, expected" },
    { { 6, 0, 0xff, 0xff, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "of block 65535" },
    { { 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "2 octets for 0 of block 0" },
    { { 6, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "for 262145 of block 0, expected one of 2 for 1 to 262144" },
    { { 6, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "for 4294967295" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 16, 0 }, 18,
      "of 1 octets for 16 of block 0, expected one of 2" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 3, 16, 0 }, 18,
      "of 3 octets" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0x80, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "of 9223372036854775810 octets" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0 }, 18,
      "of 0 octets" },
    /* What the codec has to say */
    { { 6, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "does not unpack to the 17 octets" },
    { { 6, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 2, 16, 0 }, 18,
      "does not unpack to the 15 octets" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 16 }, 17,
      "does not unpack" },
    { { 6, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 4, 16, 0, 0, 0 }, 20,
      "does not unpack" },
    { { 6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 16,
      "does not unpack to the 1 octets" },
};

static void test_unpack_refuses(void **state)
{
    CurlingCodec codec = toy_codec;
    CurlingUnpacker *counting;
    Fixture *f = *state;

    codec.unpack = count_only;
    counting = curling_unpacker_new(&codec);
    assert_non_null(counting);
    for (size_t i = 0; i < sizeof(bad_packed) / sizeof(bad_packed[0]); i++) {
        const BadPacked *bad = &bad_packed[i];
        uint8_t *alone = malloc(bad->len);
        const uint8_t *payload = alone;
        size_t len = bad->len;
        CurlingError err = { "" };

        assert_non_null(alone);
        memcpy(alone, bad->octets, len);
        assert_int_equal(curling_unpack(f->unpacker, &payload, &len, &err),
                         -EPROTO);
        assert_message(&err, bad->part);
        assert_true(payload == alone && len == bad->len);
        assert_int_equal(curling_unpack(f->unpacker, &payload, &len, NULL),
                         -EPROTO);
        assert_int_equal(curling_unpack(counting, &payload, &len, NULL),
                         -EPROTO);
        free(alone);
    }
    curling_unpacker_free(counting);
}

/* Short payloads, and those of other types: as they are */
static void test_unpack_leaves_others_alone(void **state)
{
    Fixture *f = *state;

    for (unsigned int type = 0; type < 256; type++) {
        for (size_t bytes = 0; bytes <= 20; bytes++) {
            uint8_t *alone = calloc(1, bytes ? bytes : 1);
            const uint8_t *payload = alone;
            size_t len = bytes;

            assert_non_null(alone);
            alone[0] = bytes ? type : 0;
            if (type != CURLING_RECORD_ZSTD || bytes < CURLING_RECORD_BYTES) {
                assert_int_equal(curling_unpack(f->unpacker, &payload, &len,
                                                NULL), 0);
            } else {
                assert_int_equal(curling_unpack(f->unpacker, &payload, &len,
                                                NULL), -EPROTO);
            }
            assert_true(payload == alone && len == bytes);
            free(alone);
        }
    }
}

/* @records in a ZSTD record at @to; its length */
static size_t wrap(const uint8_t *records, size_t len, uint8_t *to, size_t max)
{
    size_t packed = toy_pack(NULL, records, len, to + CURLING_RECORD_BYTES,
                             max - CURLING_RECORD_BYTES);

    assert_true(packed > 0);
    curling_record_put(to, &(CurlingRecord) {
        .type = CURLING_RECORD_ZSTD,
        .count = (uint32_t)len,
        .first = packed,
    });
    return CURLING_RECORD_BYTES + packed;
}

/* A few octets of zeroes that claim to be all that there may be */
static void test_unpack_the_most(void **state)
{
    Fixture *f = *state;
    uint8_t *zeroes = calloc(1, CURLING_PAYLOAD_MAX + 1);
    uint8_t packed[4096];
    const uint8_t *payload = packed;
    size_t len;

    assert_non_null(zeroes);
    len = wrap(zeroes, CURLING_PAYLOAD_MAX, packed, sizeof(packed));
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, NULL), 0);
    assert_int_equal(len, CURLING_PAYLOAD_MAX);
    assert_int_equal(memcmp(payload, zeroes, len), 0);
    payload = packed;
    len = wrap(zeroes, CURLING_PAYLOAD_MAX + 1, packed, sizeof(packed));
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, NULL),
                     -EPROTO);
    /* That many, and says one less */
    curling_put_u32(packed + CURLING_RECORD_COUNT, CURLING_PAYLOAD_MAX);
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, NULL),
                     -EPROTO);
    free(zeroes);
}

/* Packed twice, or with others beside it, it is a record of unknown type. */
static void test_nested_and_mixed(void **state)
{
    Fixture *f = *state;
    uint8_t records[2 * CURLING_RECORD_BYTES];
    uint8_t once[128];
    uint8_t twice[256];
    const uint8_t *payload = once;
    uint64_t device_bytes = 0;
    CurlingError err = { "" };
    size_t once_len, len;

    curling_record_put(records, &(CurlingRecord) {
        .type = CURLING_RECORD_ZERO, .count = 40,
    });
    curling_record_put(records + CURLING_RECORD_BYTES, &(CurlingRecord) {
        .type = CURLING_RECORD_ZERO, .block = 2, .count = 23,
    });
    once_len = wrap(records, sizeof(records), once, sizeof(once));
    len = once_len;
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, &err), 0);
    assert_int_equal(len, sizeof(records));
    assert_memory_equal(payload, records, len);
    assert_int_equal(curling_ram_validate(&f->to.layout, true, payload, len,
                                          &device_bytes, &err), 0);

    payload = twice;
    len = wrap(once, once_len, twice, sizeof(twice));
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, &err), 0);
    assert_int_equal(len, once_len);
    assert_int_equal(curling_ram_validate(&f->to.layout, true, payload, len,
                                          &device_bytes, &err), -EPROTO);
    assert_message(&err, "got 6, expected 1 to 5");

    payload = twice;
    memcpy(twice, records, CURLING_RECORD_BYTES);
    memcpy(twice + CURLING_RECORD_BYTES, once, once_len);
    len = CURLING_RECORD_BYTES + once_len;
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, &err), 0);
    assert_int_equal(len, CURLING_RECORD_BYTES + once_len);
    assert_int_equal(curling_ram_validate(&f->to.layout, true, payload, len,
                                          &device_bytes, &err), -EPROTO);
    assert_message(&err, "got 6, expected 1 to 5");

    payload = twice;
    memcpy(twice, once, once_len);
    memcpy(twice + once_len, records, CURLING_RECORD_BYTES);
    len = once_len + CURLING_RECORD_BYTES;
    assert_int_equal(curling_unpack(f->unpacker, &payload, &len, &err),
                     -EPROTO);
    assert_message(&err, "got a ZSTD record");
}

static void test_receiver_without_codec(void **state)
{
    CurlingUnpacker *unpacker = curling_unpacker_new(NULL);
    uint8_t record[CURLING_RECORD_BYTES];
    uint8_t packed[64];
    const uint8_t *payload = packed;
    CurlingError err = { "" };
    size_t len;

    (void)state;
    assert_non_null(unpacker);
    curling_record_put(record, &(CurlingRecord) {
        .type = CURLING_RECORD_ZERO, .count = 1,
    });
    len = wrap(record, sizeof(record), packed, sizeof(packed));
    assert_int_equal(curling_unpack(unpacker, &payload, &len, &err), -EPROTO);
    assert_message(&err, "packed by zstd");
    assert_message(&err, "set compress to none or delta");
    payload = record;
    len = sizeof(record);
    assert_int_equal(curling_unpack(unpacker, &payload, &len, &err), 0);
    assert_true(payload == record && len == sizeof(record));
    curling_unpacker_free(unpacker);
}

/* Packed as they are, and by the codec: a round against none has none. */
static void test_delta_where_none_may_be(void **state)
{
    Fixture *f = *state;

    begin_with(f, 600);
    for (int codec = 0; codec < 2; codec++) {
        CurlingRoundIter iter = { 0 };
        uint64_t device_bytes = 0;
        CurlingError err = { "" };
        const uint8_t *payload;
        size_t len;

        page_of(&f->from, 0, 1)[5]++;
        begin(f, CURLING_PACK_DELTA | (codec ? CURLING_PACK_CODEC : 0), true);
        /* Zero pages one by one: enough records for a codec to do something */
        put(f, 0, 0, 2, false);
        for (uint64_t page = 10; page < 40; page++) {
            put(f, 0, page, 1, true);
        }
        put_device(f, 0, 600);
        pack(f);
        curling_round_seal(f->round);
        assert_true(curling_round_next(f->round, &iter, &payload, &len));
        assert_int_equal(payload[0], codec ? CURLING_RECORD_ZSTD :
                                             CURLING_RECORD_DELTA);
        assert_int_equal(curling_unpack(f->unpacker, &payload, &len, NULL), 0);
        assert_int_equal(curling_ram_validate(&f->to.layout, false, payload,
                                              len, &device_bytes, &err),
                         -EPROTO);
        assert_message(&err, "got a delta in a round that is against no "
                       "other");
        assert_true(device_bytes == 0);
        receive(f);
        assert_same(f);
    }
}

#define PACK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_copies_without_a_limit),
        cmocka_unit_test(test_copies_up_to_the_limit),
        cmocka_unit_test(test_copies_of_large_pages),
        cmocka_unit_test(test_cold_copies_give_way),
        cmocka_unit_test(test_dropped_copies),
        cmocka_unit_test(test_copies_forgotten),
        cmocka_unit_test(test_random_copies),
        cmocka_unit_test(test_each_method),
        cmocka_unit_test(test_rounds_against_none),
        cmocka_unit_test(test_random_rounds),
        PACK_TEST(test_octets_of_packed_records_are_fixed),
        PACK_TEST(test_octets_of_a_codec_record_are_fixed),
        PACK_TEST(test_unchanged_pages_vanish),
        PACK_TEST(test_frames_vanish_between_others),
        PACK_TEST(test_page_twice_in_a_round),
        PACK_TEST(test_zero_and_back),
        PACK_TEST(test_device_state_of_all_lengths),
        PACK_TEST(test_short_device_state),
        PACK_TEST(test_device_state_that_comes_back),
        cmocka_unit_test(test_page_as_before_the_last_round),
        cmocka_unit_test(test_sample),
        PACK_TEST(test_lost_round),
        PACK_TEST(test_limit_lowered),
        PACK_TEST(test_packing_in_vain),
        PACK_TEST(test_long_deltas),
        PACK_TEST(test_every_pattern_of_pages),
        PACK_TEST(test_codec_without_memory),
        PACK_TEST(test_no_codec),
        PACK_TEST(test_unpack_refuses),
        PACK_TEST(test_unpack_leaves_others_alone),
        PACK_TEST(test_unpack_the_most),
        PACK_TEST(test_nested_and_mixed),
        cmocka_unit_test(test_receiver_without_codec),
        PACK_TEST(test_delta_where_none_may_be),
    };

    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
