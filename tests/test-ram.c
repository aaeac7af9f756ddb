/*
 * Fault: records that lie about where their pages belong, or end too soon;
 * pages that are staged twice, half or not at all.
 * Invariant: what validates stays within the RAM, and RAM staged, shipped
 * and applied is the RAM of the sender.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "delta.h"
#include "ram.h"
#include "round-private.h"

enum { BLOCKS = 3, DEVICE_MAX = 1 << 20 };

static const uint64_t block_pages[BLOCKS] = { 300, 1, 77 };

/* The RAM of one side */
typedef struct Machine {
    CurlingRamLayout layout;
    CurlingRamBlock blocks[BLOCKS];
    uint8_t *device;
    size_t device_bytes;
    uint64_t named;             /* pages the sink heard of */
    uint64_t calls;
    uint64_t device_calls;
} Machine;

typedef struct Fixture {
    CurlingPool *pool;
    CurlingRound *round;
    Machine from;
    Machine to;
} Fixture;

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

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof(*f));

    f->pool = curling_pool_new(0);
    f->round = curling_round_new(f->pool);
    init_machine(&f->from, 4096);
    init_machine(&f->to, 4096);
    curling_round_begin(f->round, 1, 1, CURLING_KIND_DELTA, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    curling_round_free(f->round);
    curling_pool_free(f->pool);
    free_machine(&f->from);
    free_machine(&f->to);
    free(f);
    return 0;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 32;
}

static uint8_t *page_of(Machine *machine, uint32_t block, uint64_t page)
{
    return machine->blocks[block].host + page * machine->layout.page_bytes;
}

static void fill_page(Machine *machine, uint32_t block, uint64_t page,
                      uint64_t seed)
{
    uint8_t *p = page_of(machine, block, page);

    for (uint32_t i = 0; i < machine->layout.page_bytes; i++) {
        p[i] = next_random(&seed) & 0xff;
    }
}

static void fill_all(Machine *machine, uint64_t seed)
{
    for (uint32_t block = 0; block < BLOCKS; block++) {
        for (uint64_t page = 0; page < block_pages[block]; page++) {
            fill_page(machine, block, page, seed++);
        }
    }
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

static void sink_pages(void *opaque, uint32_t block, uint64_t first,
                       uint64_t count)
{
    Machine *machine = opaque;

    assert_true(block < BLOCKS);
    assert_true(count > 0);
    assert_true(first + count <= block_pages[block]);
    machine->named += count;
    machine->calls++;
}

static void sink_device(void *opaque, const uint8_t *data, size_t len)
{
    Machine *machine = opaque;

    assert_true(len > 0);
    assert_true(machine->device_bytes + len <= DEVICE_MAX);
    memcpy(machine->device + machine->device_bytes, data, len);
    machine->device_bytes += len;
    machine->device_calls++;
}

/* What is at this place from the round before is still there. */
static void sink_device_delta(void *opaque, uint32_t count,
                              const uint8_t *delta, size_t len)
{
    Machine *machine = opaque;

    assert_true(count > 0 && count <= CURLING_DELTA_MAX);
    assert_true(machine->device_bytes + count <= DEVICE_MAX);
    curling_delta_apply(delta, len, machine->device + machine->device_bytes,
                        count);
    machine->device_bytes += count;
    machine->device_calls++;
}

static CurlingRamSink sink_of(Machine *machine)
{
    return (CurlingRamSink) {
        .pages = sink_pages,
        .device = sink_device,
        .device_delta = sink_device_delta,
        .opaque = machine,
    };
}

/* Validate and apply all of the sealed round, as a receiver does */
static void apply_round(Fixture *f)
{
    CurlingRamSink sink = sink_of(&f->to);
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    uint64_t device_bytes = 0;
    size_t len;

    f->to.named = 0;
    f->to.calls = 0;
    f->to.device_calls = 0;
    f->to.device_bytes = 0;
    while (curling_round_next(f->round, &iter, &payload, &len)) {
        CurlingError err = { "" };

        if (curling_ram_validate(&f->to.layout, false, payload, len,
                                 &device_bytes, &err)) {
            fail_msg("%s", err.text);
        }
        curling_ram_apply(&f->to.layout, payload, len, &sink);
    }
    assert_true(device_bytes == f->to.device_bytes);
}

static void assert_same_ram(Fixture *f)
{
    for (int i = 0; i < BLOCKS; i++) {
        assert_int_equal(memcmp(f->from.blocks[i].host, f->to.blocks[i].host,
                                block_pages[i] * f->from.layout.page_bytes),
                         0);
    }
}

static void assert_message(const CurlingError *err, const char *part)
{
    if (!strstr(err->text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err->text, part);
    }
}

/* The payload of the sealed round's only frame */
static const uint8_t *only_payload(Fixture *f, size_t *len)
{
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload = NULL;
    const uint8_t *other;
    size_t other_len;

    curling_round_seal(f->round);
    assert_true(curling_round_next(f->round, &iter, &payload, len));
    assert_false(curling_round_next(f->round, &iter, &other, &other_len));
    return payload;
}

static void test_octets_of_records_are_fixed(void **state)
{
    static const uint8_t pages[] = {
        1, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3,
    };
    static const uint8_t zeroes[] = {
        2, 0, 0, 0, 0, 0, 1, 0x2c, 0, 0, 0, 0, 0, 0, 0, 0,
    };
    static const uint8_t device[] = {
        3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 'h', 'e', 'l', 'l',
        'o',
        3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, '!', '?',
    };
    Fixture *f = *state;
    const uint8_t *payload;
    size_t len;

    fill_page(&f->from, 2, 3, 1);
    fill_page(&f->from, 2, 4, 2);
    put(f, 2, 3, 2, false);
    put(f, 0, 0, 300, true);
    assert_int_equal(curling_ram_put_device(f->round, "hello", 5, NULL), 0);
    assert_int_equal(curling_ram_put_device(f->round, "", 0, NULL), 0);
    assert_int_equal(curling_ram_put_device(f->round, "!?", 2, NULL), 0);
    payload = only_payload(f, &len);
    assert_int_equal(len, 16 + 8192 + 16 + sizeof(device));
    assert_memory_equal(payload, pages, 16);
    assert_memory_equal(payload + 16, page_of(&f->from, 2, 3), 8192);
    assert_memory_equal(payload + 16 + 8192, zeroes, 16);
    assert_memory_equal(payload + 32 + 8192, device, sizeof(device));
}

static void test_contiguous_pages_are_few_records(void **state)
{
    Fixture *f = *state;

    fill_all(&f->from, 1);
    put(f, 0, 0, 300, false);
    curling_round_seal(f->round);
    /* 63 pages of 4 KiB and their record fit a frame. */
    assert_true(curling_round_frames(f->round) == 5);
    assert_true(curling_round_bytes(f->round) == 300 * 4096 + 5 * 16);
    apply_round(f);
    assert_true(f->to.named == 300);
    assert_true(f->to.calls == 5);
}

static void test_single_pages_share_frames(void **state)
{
    Fixture *f = *state;

    fill_all(&f->from, 1);
    for (uint64_t page = 0; page < 300; page += 2) {
        put(f, 0, page, 1, false);
    }
    curling_round_seal(f->round);
    assert_true(curling_round_frames(f->round) == 3);   /* 63 in each */
    assert_true(curling_round_bytes(f->round) == 150 * (4096 + 16));
    assert_true(curling_pool_now(f->pool) == CURLING_CHUNK_BYTES);
    apply_round(f);
    assert_true(f->to.named == 150);
    for (uint64_t page = 0; page < 300; page++) {
        static const uint8_t zero[4096];

        assert_memory_equal(page_of(&f->to, 0, page),
                            page % 2 ? zero : page_of(&f->from, 0, page),
                            4096);
    }
}

/* Nothing of the last chunk is left over but what no page fits into. */
static void test_many_runs_fill_chunks(void **state)
{
    Fixture *f = *state;
    uint64_t runs = 0;

    fill_all(&f->from, 1);
    while (curling_pool_now(f->pool) <= 3 * CURLING_CHUNK_BYTES) {
        put(f, 0, runs++ * 3 % 299, 2, false);
    }
    /* Three full chunks, and the first run of the fourth */
    assert_true((runs - 1) * (2 * 4096 + 32) >
                3 * (CURLING_CHUNK_BYTES - 17 * (4096 + 16 + 40)));
    curling_round_seal(f->round);
    apply_round(f);
    assert_true(f->to.named == 2 * runs);
}

static void test_zero_runs(void **state)
{
    static const bool patterns[][8] = {
        { 0, 0, 0, 0, 0, 0, 0, 0 },
        { 1, 1, 1, 1, 1, 1, 1, 1 },
        { 1, 0, 1, 0, 1, 0, 1, 0 },
        { 0, 1, 0, 1, 0, 1, 0, 1 },
        { 0, 0, 0, 1, 1, 1, 0, 0 },
        { 1, 1, 0, 0, 0, 0, 1, 1 },
        { 1, 0, 0, 0, 0, 0, 0, 1 },
        { 0, 1, 1, 1, 1, 1, 1, 0 },
    };
    static const uint64_t records[] = { 1, 1, 8, 8, 3, 3, 3, 3 };
    Fixture *f = *state;

    for (int i = 0; i < 8; i++) {
        uint64_t bytes = 0;

        for (int page = 0; page < 8; page++) {
            memset(page_of(&f->from, 0, page), 0, 4096);
            if (patterns[i][page]) {
                fill_page(&f->from, 0, page, i * 8 + page);
                bytes += 4096;
            }
        }
        fill_all(&f->to, 3);
        curling_round_begin(f->round, i, 1, CURLING_KIND_DELTA, 0);
        put(f, 0, 0, 8, true);
        curling_round_seal(f->round);
        assert_true(curling_round_bytes(f->round) == bytes + 16 * records[i]);
        apply_round(f);
        assert_true(f->to.calls == records[i]);
        assert_true(f->to.named == 8);
        assert_memory_equal(page_of(&f->from, 0, 0), page_of(&f->to, 0, 0),
                            8 * 4096);
    }
}

/* A single bit, wherever it is, makes a page one that must be sent. */
static void test_almost_zero_pages(void **state)
{
    static const uint32_t sizes[] = { 4096, 65536 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        CurlingPool *pool = curling_pool_new(0);
        CurlingRound *round = curling_round_new(pool);
        uint8_t *page = calloc(1, sizes[i]);
        CurlingRamBlock block = { .host = page, .pages = 1 };
        CurlingRamLayout layout = {
            .page_bytes = sizes[i], .n_blocks = 1, .blocks = &block,
        };

        assert_non_null(page);
        for (uint32_t at = 0; at < sizes[i]; at += i ? 61 : 1) {
            page[at] = 1 << at % 8;
            curling_round_begin(round, 0, 0, CURLING_KIND_SYNC, 0);
            assert_int_equal(curling_ram_put_pages(round, &layout, 0, 0, 1,
                                                   true, NULL), 0);
            assert_true(curling_round_bytes(round) == sizes[i] + 16);
            page[at] = 0;
        }
        curling_round_begin(round, 0, 0, CURLING_KIND_SYNC, 0);
        assert_int_equal(curling_ram_put_pages(round, &layout, 0, 0, 1, true,
                                               NULL), 0);
        assert_true(curling_round_bytes(round) == 16);
        free(page);
        curling_round_free(round);
        curling_pool_free(pool);
    }
}

/* Pages that may not be written at all: zero ones are left alone. */
static void test_zeroes_over_zeroes_write_nothing(void **state)
{
    Fixture *f = *state;
    CurlingRamBlock block = { .pages = 64 };
    CurlingRamLayout layout = {
        .page_bytes = 4096, .n_blocks = 1, .blocks = &block,
    };
    const uint8_t *payload;
    size_t len;

    block.host = mmap(NULL, 64 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    assert_true(block.host != MAP_FAILED);
    put(f, 0, 0, 64, true);
    payload = only_payload(f, &len);
    curling_ram_apply(&layout, payload, len, NULL);
    munmap(block.host, 64 * 4096);
}

static void test_whole_machine(void **state)
{
    static const uint32_t sizes[] = { 4096, 8192, 65536 };
    Fixture *f = *state;
    uint64_t seed = 5;

    for (int i = 0; i < 3; i++) {
        free_machine(&f->from);
        free_machine(&f->to);
        init_machine(&f->from, sizes[i]);
        init_machine(&f->to, sizes[i]);
        fill_all(&f->to, 99);
        for (uint32_t block = 0; block < BLOCKS; block++) {
            for (uint64_t page = 0; page < block_pages[block]; page++) {
                if (next_random(&seed) % 3) {
                    fill_page(&f->from, block, page, page);
                }
            }
        }
        curling_round_begin(f->round, i, 1, CURLING_KIND_FULL, 0);
        for (uint32_t block = 0; block < BLOCKS; block++) {
            put(f, block, 0, block_pages[block], i % 2);
        }
        curling_round_seal(f->round);
        apply_round(f);
        assert_same_ram(f);
        assert_true(f->to.named == 378);
    }
}

/* Rounds of random runs and device state, checked as the wire does */
static void test_random_rounds(void **state)
{
    Fixture *f = *state;
    uint8_t *device = malloc(DEVICE_MAX);
    uint64_t seed = 6;

    assert_non_null(device);
    for (int i = 0; i < DEVICE_MAX; i++) {
        device[i] = next_random(&seed) & 0xff;
    }
    fill_all(&f->to, 5);
    fill_all(&f->from, 5);
    for (int number = 0; number < 100; number++) {
        uint64_t staged = 0;
        size_t device_bytes = 0;

        curling_round_begin(f->round, number, 1, CURLING_KIND_DELTA, 0);
        for (int run = 0; run < 30; run++) {
            uint32_t block = next_random(&seed) % BLOCKS;
            uint64_t first = next_random(&seed) % block_pages[block];
            uint64_t count = next_random(&seed) %
                             (block_pages[block] - first + 1);
            size_t len = next_random(&seed) % (run % 7 ? 30 : 30000);

            for (uint64_t page = first; page < first + count; page += 5) {
                if (next_random(&seed) % 2) {
                    fill_page(&f->from, block, page, number);
                } else {
                    memset(page_of(&f->from, block, page), 0, 4096);
                }
            }
            put(f, block, first, count, next_random(&seed) % 2);
            staged += count;
            assert_int_equal(curling_ram_put_device(f->round,
                                                    device + device_bytes,
                                                    len, NULL), 0);
            device_bytes += len;
        }
        curling_round_seal(f->round);
        apply_round(f);
        assert_same_ram(f);
        assert_true(f->to.named == staged);
        assert_int_equal(f->to.device_bytes, device_bytes);
        assert_int_equal(memcmp(f->to.device, device, device_bytes), 0);
    }
    free(device);
}

/* Larger than a frame, than a chunk; after pages that leave odd rests */
static void test_large_device_state(void **state)
{
    Fixture *f = *state;
    uint8_t *device = malloc(DEVICE_MAX);
    uint64_t seed = 7;

    assert_non_null(device);
    for (int i = 0; i < DEVICE_MAX; i++) {
        device[i] = next_random(&seed) & 0xff;
    }
    for (uint64_t pages = 0; pages < 70; pages++) {
        curling_round_begin(f->round, pages, 1, CURLING_KIND_DELTA, 0);
        put(f, 0, 0, pages, false);
        assert_int_equal(curling_ram_put_device(f->round, device, DEVICE_MAX,
                                                NULL), 0);
        curling_round_seal(f->round);
        apply_round(f);
        assert_int_equal(f->to.device_bytes, DEVICE_MAX);
        assert_true(f->to.device_calls <= DEVICE_MAX / CURLING_PAYLOAD_MAX +
                    2);
        assert_int_equal(memcmp(f->to.device, device, DEVICE_MAX), 0);
    }
    free(device);
}

static void test_walk_touches_nothing(void **state)
{
    Fixture *f = *state;
    CurlingRamSink sink = sink_of(&f->to);
    CurlingRamBlock nowhere[BLOCKS] = {
        { .pages = 300 }, { .pages = 1 }, { .pages = 77 },
    };
    CurlingRamLayout layout = f->to.layout;
    const uint8_t *payload;
    size_t len;

    layout.blocks = nowhere;
    fill_page(&f->from, 0, 1, 1);
    put(f, 0, 0, 10, true);
    assert_int_equal(curling_ram_put_device(f->round, "state", 5, NULL), 0);
    payload = only_payload(f, &len);
    curling_ram_walk(&layout, payload, len, &sink);
    assert_true(f->to.named == 10);
    assert_true(f->to.calls == 3);
    assert_int_equal(f->to.device_bytes, 5);
    assert_memory_equal(f->to.device, "state", 5);
    /* Who does not listen is not told. */
    curling_ram_walk(&layout, payload, len, &(CurlingRamSink) { 0 });
    curling_ram_walk(&layout, payload, len, NULL);
}

static void test_apply_without_a_sink(void **state)
{
    Fixture *f = *state;
    const uint8_t *payload;
    size_t len;

    fill_page(&f->from, 0, 1, 1);
    put(f, 0, 0, 10, true);
    assert_int_equal(curling_ram_put_device(f->round, "state", 5, NULL), 0);
    payload = only_payload(f, &len);
    curling_ram_apply(&f->to.layout, payload, len, &(CurlingRamSink) { 0 });
    assert_same_ram(f);
}

static void test_put_out_of_range(void **state)
{
    Fixture *f = *state;
    CurlingError err = { "" };
    static const uint64_t cases[][3] = {
        { 3, 0, 1 }, { UINT32_MAX, 0, 1 }, { 0, 300, 1 }, { 0, 0, 301 },
        { 0, 299, 2 }, { 0, UINT64_MAX, 1 }, { 0, 1, UINT64_MAX },
        { 1, UINT64_MAX, UINT64_MAX }, { 65536, 0, 1 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int find_zeroes = 0; find_zeroes < 2; find_zeroes++) {
            assert_int_equal(curling_ram_put_pages(f->round, &f->from.layout,
                                                   cases[i][0], cases[i][1],
                                                   cases[i][2], find_zeroes,
                                                   &err), -EINVAL);
        }
    }
    assert_true(curling_round_frames(f->round) == 0);
    put(f, 0, 0, 0, false);
    put(f, 0, 300, 0, true);
    assert_true(curling_round_frames(f->round) == 0);
}

/* A record has 16 bits for the block. */
static void test_put_into_too_many_blocks(void **state)
{
    Fixture *f = *state;
    uint32_t n_blocks = 65537;
    CurlingRamBlock *blocks = calloc(n_blocks, sizeof(*blocks));
    CurlingRamLayout layout = {
        .page_bytes = 4096, .n_blocks = n_blocks, .blocks = blocks,
    };

    assert_non_null(blocks);
    for (uint32_t i = 0; i < n_blocks; i++) {
        blocks[i] = f->from.blocks[1];
    }
    assert_int_equal(curling_ram_put_pages(f->round, &layout, 65536, 0, 1,
                                           false, NULL), -EINVAL);
    assert_int_equal(curling_ram_put_pages(f->round, &layout, 65535, 0, 1,
                                           false, NULL), 0);
    free(blocks);
}

static void test_put_in_no_round(void **state)
{
    Fixture *f = *state;
    CurlingError err = { "" };

    for (int sealed = 0; sealed < 2; sealed++) {
        if (sealed) {
            curling_round_begin(f->round, 1, 1, CURLING_KIND_DELTA, 0);
            curling_round_seal(f->round);
        } else {
            curling_round_discard(f->round);
        }
        assert_int_equal(curling_ram_put_pages(f->round, &f->from.layout, 0,
                                               0, 1, false, &err), -EINVAL);
        assert_message(&err, "no round is open");
        assert_int_equal(curling_ram_put_pages(f->round, &f->from.layout, 0,
                                               0, 1, true, &err), -EINVAL);
        assert_int_equal(curling_ram_put_device(f->round, "x", 1, &err),
                         -EINVAL);
    }
}

static void test_put_reaches_the_limit(void **state)
{
    Fixture *f = *state;
    CurlingError err = { "" };
    int ret = 0;

    curling_pool_set_limit(f->pool, 2 * CURLING_CHUNK_BYTES);
    fill_all(&f->from, 1);
    for (int i = 0; i < 100 && !ret; i++) {
        ret = curling_ram_put_pages(f->round, &f->from.layout, 0, 0, 300,
                                    true, &err);
    }
    assert_int_equal(ret, -EOVERFLOW);
    assert_message(&err, "8388608");
    assert_message(&err, "12582912");
    do {
        ret = curling_ram_put_device(f->round, f->from.device, 5000, &err);
    } while (!ret);
    assert_int_equal(ret, -EOVERFLOW);
    /* What is in there is a round all the same. */
    curling_round_seal(f->round);
    f->to.layout.device_max_bytes = UINT64_MAX;
    apply_round(f);
    assert_true(f->to.named > 1900);
}

/* A record by hand; returns the bytes behind it */
static size_t craft(uint8_t *to, uint8_t type, uint8_t reserved,
                    uint16_t block, uint32_t count, uint64_t first)
{
    to[0] = type;
    to[1] = reserved;
    curling_put_u16(to + 2, block);
    curling_put_u32(to + 4, count);
    curling_put_u64(to + 8, first);
    return CURLING_RECORD_BYTES;
}

typedef struct BadRecord {
    uint8_t type;
    uint8_t reserved;
    uint16_t block;
    uint32_t count;
    uint64_t first;
    size_t content;             /* bytes that follow */
    uint64_t device_bytes;      /* so far */
    int expected;
    const char *part;
} BadRecord;

static const BadRecord bad_records[] = {
    { 0, 0, 0, 1, 0, 0, 0, -EPROTO, "got 0, expected 1 to 5" },
    { 7, 0, 0, 1, 0, 0, 0, -EPROTO, "got 7, expected 1 to 5" },
    { 6, 0, 0, 1, 0, 0, 0, -EPROTO, "got 6, expected 1 to 5" },
    { 4, 0, 0, 1, 0, 2, 0, -EPROTO, "got a delta in a round that is against" },
    { 5, 0, 0, 1, 0, 4, 0, -EPROTO, "got a delta in a round that is against" },
    { 255, 0, 0, 1, 0, 4096, 0, -EPROTO, "got 255" },
    { 1, 1, 0, 1, 0, 4096, 0, -EPROTO, "got 0x01, expected 0" },
    { 2, 0x80, 0, 1, 0, 0, 0, -EPROTO, "got 0x80, expected 0" },
    { 3, 255, 0, 1, 0, 1, 0, -EPROTO, "got 0xff, expected 0" },
    /* Blocks and pages that are not there */
    { 1, 0, 3, 1, 0, 4096, 0, -EPROTO, "block 3, expected less than 3" },
    { 2, 0, 65535, 1, 0, 0, 0, -EPROTO, "block 65535" },
    { 1, 0, 0, 0, 0, 0, 0, -EPROTO, "got 0 pages" },
    { 2, 0, 0, 0, 0, 0, 0, -EPROTO, "got 0 pages" },
    { 1, 0, 0, 1, 300, 4096, 0, -EPROTO, "from 300, expected" },
    { 1, 0, 1, 2, 0, 8192, 0, -EPROTO, "got 2 pages from 0" },
    { 2, 0, 0, 301, 0, 0, 0, -EPROTO, "at least 1 of 300" },
    { 2, 0, 0, 2, 299, 0, 0, -EPROTO, "from 299" },
    { 2, 0, 0, UINT32_MAX, 0, 0, 0, -EPROTO, "got 4294967295 pages" },
    { 2, 0, 0, UINT32_MAX, UINT64_MAX, 0, 0, -EPROTO, "got 4294967295" },
    { 2, 0, 0, 1, UINT64_MAX, 0, 0, -EPROTO, "from 18446744073709551615" },
    { 2, 0, 0, 2, UINT64_MAX - 1, 0, 0, -EPROTO, "got 2 pages" },
    { 1, 0, 0, 1, 1ull << 52, 4096, 0, -EPROTO, "from 4503599627370496" },
    /* Content that is not there */
    { 1, 0, 0, 1, 0, 0, 0, -EPROTO, "got 0 bytes" },
    { 1, 0, 0, 1, 0, 4095, 0, -EPROTO, "got 4095 bytes" },
    { 1, 0, 0, 2, 0, 8191, 0, -EPROTO, "expected 8192" },
    { 1, 0, 0, 300, 0, 8192, 0, -EPROTO, "expected 1228800" },
    { 3, 0, 0, 1, 0, 0, 0, -EPROTO, "got 0 bytes" },
    { 3, 0, 0, 100, 0, 99, 0, -EPROTO, "expected 100" },
    /* A record too many bytes long is one too short for the next. */
    { 1, 0, 0, 1, 0, 4097, 0, -EPROTO, "got 1 bytes, expected at least 16" },
    { 2, 0, 0, 1, 0, 15, 0, -EPROTO, "got 15 bytes, expected at least 16" },
    /* Device state */
    { 3, 0, 1, 1, 0, 1, 0, -EPROTO, "block 1" },
    { 3, 0, 0, 0, 0, 0, 0, -EPROTO, "got 0 octets" },
    { 3, 0, 0, 1, 1, 1, 0, -EPROTO, "got octet 1, expected 0" },
    { 3, 0, 0, 1, 0, 1, 5, -EPROTO, "got octet 0, expected 5" },
    { 3, 0, 0, 1, UINT64_MAX, 1, 5, -EPROTO, "expected 5" },
    { 3, 0, 0, 2, DEVICE_MAX - 1, 2, DEVICE_MAX - 1, -EOVERFLOW,
      "expected at most 1048576" },
    { 3, 0, 0, UINT32_MAX, 0, 4, 0, -EOVERFLOW, "4294967295 more" },
    { 3, 0, 0, 1, UINT64_MAX, 1, UINT64_MAX, -EOVERFLOW, "too large" },
};

/* Alone, and behind a good record */
static void test_validate_refuses(void **state)
{
    Fixture *f = *state;
    uint8_t *payload = calloc(1, 65536);

    assert_non_null(payload);
    for (size_t i = 0; i < sizeof(bad_records) / sizeof(bad_records[0]);
         i++) {
        const BadRecord *bad = &bad_records[i];

        for (int good = 0; good < 2; good++) {
            uint64_t device_bytes = bad->device_bytes;
            CurlingError err = { "" };
            size_t len = 0;

            if (good) {
                len += craft(payload, CURLING_RECORD_ZERO, 0, 1, 1, 0);
            }
            len += craft(payload + len, bad->type, bad->reserved, bad->block,
                         bad->count, bad->first);
            memset(payload + len, 0, bad->content);
            len += bad->content;
            assert_int_equal(curling_ram_validate(&f->to.layout, false,
                                                  payload, len, &device_bytes,
                                                  &err), bad->expected);
            assert_message(&err, bad->part);
            assert_message(&err, "expected");
            assert_true(device_bytes == bad->device_bytes);
            assert_int_equal(curling_ram_validate(&f->to.layout, false,
                                                  payload, len, &device_bytes,
                                                  NULL), bad->expected);
        }
    }
    free(payload);
}

typedef struct BadDelta {
    uint8_t octets[40];
    size_t len;
    int expected;
    const char *part;
} BadDelta;

/* In a round that may have deltas */
static const BadDelta bad_deltas[] = {
    { { 4, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 18, -EPROTO,
      "got 0x01, expected 0" },
    { { 4, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 18, -EPROTO,
      "block 3, expected less than 3" },
    { { 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 16, -EPROTO,
      "got 0 pages" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x2c, 0, 0 }, 18,
      -EPROTO, "got 1 pages from 300, expected" },
    { { 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0x2b, 0, 0, 0, 0 }, 20,
      -EPROTO, "got 2 pages from 299, expected" },
    { { 4, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 18,
      -EPROTO, "got 4294967295 pages" },
    /* Deltas, or their lengths, that are not there */
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 16, -EPROTO,
      "cut short: got 0 bytes of content, expected 1" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 17, -EPROTO,
      "cut short: got 1 bytes" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1 }, 20,
      -EPROTO, "cut short: got 4 bytes of content, expected 5" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0 }, 19,
      -EPROTO, "cut short: got 3 bytes of content, expected 65537" },
    { { 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 18, -EPROTO,
      "cut short: got 2 bytes" },
    { { 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 'a', 0 },
      22, -EPROTO, "cut short: got 6 bytes" },
    /* Those that are wrong, the first or a later one */
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, 19,
      -EPROTO, "a run of a delta is cut short" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 2, 'a' }, 21,
      -EPROTO, "a run of a delta is cut short: got 1 octets" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 9, 0 }, 20,
      -EPROTO, "got 0 octets at 9, expected at least 1 below 4096" },
    { { 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 'a',
        0, 4, 0x80, 0x20, 1, 'a' }, 27, -EPROTO, "got 1 octets at 4096" },
    { { 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 'a', 0 },
      22, -EPROTO, "got 1 bytes, expected at least 16" },
    /* Of device state */
    { { 5, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 20,
      -EPROTO, "got 0x80, expected 0" },
    { { 5, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 20,
      -EPROTO, "block 1" },
    { { 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 20,
      -EPROTO, "got 0 octets" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 }, 20,
      -EPROTO, "got octet 1, expected 0" },
    { { 5, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 20,
      -EPROTO, "got one of 65537 octets, expected at most 65536" },
    { { 5, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
      20, -EOVERFLOW, "4294967295 more" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 16, -EPROTO,
      "cut short: got 0 bytes of content, expected 4" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 19,
      -EPROTO, "cut short: got 3 bytes of content, expected 4" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1 },
      22, -EPROTO, "cut short: got 6 bytes of content, expected 7" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255 },
      20, -EPROTO, "got 4 bytes of content, expected 4294967299" },
    { { 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, 21,
      -EPROTO, "a run of a delta is cut short" },
    { { 5, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 3, 'a',
        'b', 'c' }, 25, -EPROTO, "got 3 octets at 0, expected at least 1 "
      "below 2" },
};

static void test_validate_refuses_deltas(void **state)
{
    Fixture *f = *state;

    for (size_t i = 0; i < sizeof(bad_deltas) / sizeof(bad_deltas[0]); i++) {
        const BadDelta *bad = &bad_deltas[i];
        uint8_t *alone = malloc(bad->len);
        uint64_t device_bytes = 0;
        CurlingError err = { "" };

        assert_non_null(alone);
        memcpy(alone, bad->octets, bad->len);
        assert_int_equal(curling_ram_validate(&f->to.layout, true, alone,
                                              bad->len, &device_bytes, &err),
                         bad->expected);
        assert_message(&err, bad->part);
        assert_true(device_bytes == 0);
        assert_int_equal(curling_ram_validate(&f->to.layout, false, alone,
                                              bad->len, &device_bytes, NULL),
                         -EPROTO);
        free(alone);
    }
}

/* Pages 298 and 299, what is between their deltas, and device state */
static void test_apply_deltas(void **state)
{
    static const uint8_t payload[] = {
        4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0x29,
        0, 3, 1, 1, 'a',
        0, 0,
        0, 8, 0, 1, 'b', 0xfd, 0x1f, 2, 'c', 'd',
        3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 'e',
        5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0, 0, 0, 5, 0xff, 0xff, 3, 1, 'f',
        5, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0,
    };
    Fixture *f = *state;
    CurlingRamSink sink = sink_of(&f->to);
    CurlingError err = { "" };
    uint64_t device_bytes = 0;

    fill_all(&f->from, 1);
    fill_all(&f->to, 1);
    page_of(&f->from, 0, 297)[1] = 'a';
    page_of(&f->from, 0, 299)[0] = 'b';
    page_of(&f->from, 0, 299)[4094] = 'c';
    page_of(&f->from, 0, 299)[4095] = 'd';
    memset(f->to.device, 'x', DEVICE_MAX);
    if (curling_ram_validate(&f->to.layout, true, payload, sizeof(payload),
                             &device_bytes, &err)) {
        fail_msg("%s", err.text);
    }
    assert_true(device_bytes == 65539);
    /* Who only looks, and who does not listen */
    curling_ram_walk(&f->from.layout, payload, sizeof(payload), NULL);
    curling_ram_walk(&f->from.layout, payload, sizeof(payload),
                     &(CurlingRamSink) { 0 });
    curling_ram_apply(&f->from.layout, payload, sizeof(payload),
                      &(CurlingRamSink) { 0 });
    curling_ram_apply(&f->to.layout, payload, sizeof(payload), &sink);
    assert_same_ram(f);
    assert_true(f->to.named == 3);
    assert_true(f->to.calls == 1);
    assert_true(f->to.device_calls == 3);
    assert_int_equal(f->to.device_bytes, 65539);
    assert_int_equal(f->to.device[0], 'e');
    assert_int_equal(f->to.device[65536], 'f');
    for (size_t i = 1; i < 65539; i++) {
        assert_int_equal(f->to.device[i], i == 65536 ? 'f' : 'x');
    }
}

static void test_validate_at_the_edges(void **state)
{
    Fixture *f = *state;
    uint8_t *payload = calloc(1, 65536);
    uint64_t device_bytes = 0;
    size_t len = 0;

    assert_non_null(payload);
    assert_int_equal(curling_ram_validate(&f->to.layout, false, payload, 0,
                                          &device_bytes, NULL), 0);
    len += craft(payload + len, CURLING_RECORD_ZERO, 0, 0, 300, 0);
    assert_int_equal(curling_ram_validate(&f->to.layout, false, payload, len,
                                          &device_bytes, NULL), 0);
    len = craft(payload, CURLING_RECORD_ZERO, 0, 0, 1, 299);
    len += craft(payload + len, CURLING_RECORD_ZERO, 0, 2, 77, 0);
    len += craft(payload + len, CURLING_RECORD_PAGES, 0, 1, 1, 0) + 4096;
    len += craft(payload + len, CURLING_RECORD_PAGES, 0, 0, 2, 298) + 8192;
    len += craft(payload + len, CURLING_RECORD_DEVICE, 0, 0, 1,
                 DEVICE_MAX - 2) + 1;
    len += craft(payload + len, CURLING_RECORD_DEVICE, 0, 0, 1,
                 DEVICE_MAX - 1) + 1;
    device_bytes = DEVICE_MAX - 2;
    assert_int_equal(curling_ram_validate(&f->to.layout, false, payload, len,
                                          &device_bytes, NULL), 0);
    assert_true(device_bytes == DEVICE_MAX);
    free(payload);
}

/* A few octets may not keep a receiver busy with all of RAM again and again. */
static void test_validate_more_pages_than_ram(void **state)
{
    Fixture *f = *state;
    uint8_t payload[64 * CURLING_RECORD_BYTES];
    uint64_t device_bytes = 0;
    CurlingError err;
    size_t len = 0;

    for (uint32_t i = 0; i < f->to.layout.n_blocks; i++) {
        len += craft(payload + len, CURLING_RECORD_ZERO, 0, i,
                     (uint32_t)f->to.layout.blocks[i].pages, 0);
    }
    assert_int_equal(curling_ram_validate(&f->to.layout, false, payload, len,
                                          &device_bytes, &err), 0);
    len += craft(payload + len, CURLING_RECORD_ZERO, 0, 0, 1, 0);
    assert_int_equal(curling_ram_validate(&f->to.layout, false, payload, len,
                                          &device_bytes, &err), -EPROTO);
    assert_message(&err, "more pages in one payload than RAM has");
    len -= CURLING_RECORD_BYTES;
    len += craft(payload + len, CURLING_RECORD_DELTA, 0, 0, 1, 0);
    curling_put_u16(payload + len, 0);
    assert_int_equal(curling_ram_validate(&f->to.layout, true, payload,
                                          len + 2, &device_bytes, &err),
                     -EPROTO);
    assert_message(&err, "more pages in one payload than RAM has");
}

/* A machine without RAM, a block without pages: nothing fits */
static void test_validate_against_empty_layouts(void **state)
{
    CurlingRamBlock block = { .pages = 0 };
    CurlingRamLayout none = { .page_bytes = 4096, .n_blocks = 0 };
    CurlingRamLayout empty = {
        .page_bytes = 4096, .n_blocks = 1, .blocks = &block,
    };
    uint8_t payload[CURLING_RECORD_BYTES];
    uint64_t device_bytes = 0;

    (void)state;
    craft(payload, CURLING_RECORD_ZERO, 0, 0, 1, 0);
    assert_int_equal(curling_ram_validate(&none, false, payload,
                                          sizeof(payload), &device_bytes,
                                          NULL), -EPROTO);
    assert_int_equal(curling_ram_validate(&empty, false, payload,
                                          sizeof(payload), &device_bytes,
                                          NULL), -EPROTO);
    craft(payload, CURLING_RECORD_DEVICE, 0, 0, 1, 0);
    assert_int_equal(curling_ram_validate(&none, false, payload,
                                          sizeof(payload), &device_bytes,
                                          NULL), -EOVERFLOW);
}

/* What follows a header at @record, which is whole */
static size_t content_of(const uint8_t *record)
{
    const uint8_t *content = record + CURLING_RECORD_BYTES;
    uint32_t count = curling_get_u32(record + CURLING_RECORD_COUNT);
    size_t len = 0;

    switch (record[CURLING_RECORD_TYPE]) {
    case CURLING_RECORD_PAGES:
        return (size_t)count * 4096;
    case CURLING_RECORD_DEVICE:
        return count;
    case CURLING_RECORD_DEVICE_DELTA:
        return 4 + curling_get_u32(content);
    case CURLING_RECORD_DELTA:
        while (count--) {
            len += 2 + curling_get_u16(content + len);
        }
        return len;
    default:
        return 0;
    }
}

/* A payload with records of all kinds, the last two of them deltas; *@ends:
 * where one may stop */
static uint8_t *mixed_payload(Fixture *f, size_t *len, size_t *ends,
                              size_t *n_ends)
{
    static const uint8_t deltas[] = {
        4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7,
        0, 3, 1, 1, 'a',
        0, 0,
        0, 9, 0x80, 0x01, 2, 'b', 'c', 0xed, 0x1e, 1, 'd',
        0, 4, 0xff, 0x1f, 1, 'e',
        5, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 18,
        0, 0, 0, 7, 0, 1, 'f', 37, 2, 'g', 'h',
    };
    const uint8_t *payload;
    uint8_t *copy;
    size_t at = 0;

    fill_page(&f->from, 0, 0, 1);
    fill_page(&f->from, 0, 7, 2);
    put(f, 0, 0, 20, true);
    assert_int_equal(curling_ram_put_device(f->round, "some state", 10,
                                            NULL), 0);
    put(f, 2, 70, 7, true);
    assert_int_equal(curling_ram_put_device(f->round, "and more", 8, NULL),
                     0);
    payload = only_payload(f, len);
    copy = malloc(*len + sizeof(deltas));
    assert_non_null(copy);
    memcpy(copy, payload, *len);
    memcpy(copy + *len, deltas, sizeof(deltas));
    *len += sizeof(deltas);
    *n_ends = 0;
    while (at < *len) {
        ends[(*n_ends)++] = at;
        at += CURLING_RECORD_BYTES + content_of(copy + at);
    }
    ends[(*n_ends)++] = at;
    assert_int_equal(at, *len);
    return copy;
}

static void test_every_prefix_of_a_payload(void **state)
{
    Fixture *f = *state;
    size_t ends[32];
    size_t n_ends;
    size_t end = 0;
    size_t whole;
    uint8_t *payload = mixed_payload(f, &whole, ends, &n_ends);

    assert_int_equal(n_ends, 10);
    for (size_t len = 0; len <= whole; len++) {
        uint8_t *copy = malloc(len ? len : 1);
        uint64_t device_bytes = 0;
        int ret;

        assert_non_null(copy);
        memcpy(copy, payload, len);
        ret = curling_ram_validate(&f->to.layout, true, copy, len,
                                   &device_bytes, NULL);
        if (len == ends[end]) {
            uint64_t none = 0;

            assert_int_equal(ret, 0);
            ret = curling_ram_validate(&f->to.layout, false, copy, len, &none,
                                       NULL);
            assert_int_equal(ret, end < 8 ? 0 : -EPROTO);
            end++;
        } else {
            assert_int_equal(ret, -EPROTO);
            assert_true(device_bytes == 0);
        }
        free(copy);
    }
    assert_int_equal(end, n_ends);
    free(payload);
}

/* Checksums aside: whatever bit is wrong, what validates can be applied. */
static void apply_if_valid(Fixture *f, const uint8_t *payload, size_t len,
                           uint64_t *valid)
{
    CurlingRamSink sink = sink_of(&f->to);
    uint64_t device_bytes = 0;

    f->to.device_bytes = 0;
    if (!curling_ram_validate(&f->to.layout, true, payload, len,
                              &device_bytes, NULL)) {
        curling_ram_apply(&f->to.layout, payload, len, &sink);
        assert_true(device_bytes == f->to.device_bytes);
        ++*valid;
    }
}

static void test_every_bit_flip_of_records(void **state)
{
    Fixture *f = *state;
    size_t ends[32];
    size_t n_ends;
    size_t len;
    uint8_t *payload = mixed_payload(f, &len, ends, &n_ends);
    uint64_t valid = 0;

    for (size_t record = 0; record + 1 < n_ends; record++) {
        size_t octets = CURLING_RECORD_BYTES;

        /* Of a delta, what follows means something too. */
        if (record + 3 >= n_ends) {
            octets = ends[record + 1] - ends[record];
        }
        for (size_t bit = 0; bit < 8 * octets; bit++) {
            payload[ends[record] + bit / 8] ^= 1 << bit % 8;
            apply_if_valid(f, payload, len, &valid);
            payload[ends[record] + bit / 8] ^= 1 << bit % 8;
        }
    }
    assert_true(valid > 0);
    free(payload);
}

static void test_random_records(void **state)
{
    Fixture *f = *state;
    uint64_t seed = 11;
    uint64_t valid = 0;

    for (int i = 0; i < 20000; i++) {
        size_t records = 1 + next_random(&seed) % 4;
        size_t extra = next_random(&seed) % 9000;
        size_t room = records * CURLING_RECORD_BYTES + extra;
        uint8_t *payload = calloc(1, room);
        size_t len = 0;

        assert_non_null(payload);
        for (size_t j = 0; j < records; j++) {
            uint8_t type = next_random(&seed) % 7;
            uint32_t count = next_random(&seed) % 3;

            len += craft(payload + len, type, next_random(&seed) % 16 == 0,
                         next_random(&seed) % 4, count,
                         next_random(&seed) % 302);
        }
        if (next_random(&seed) % 2) {
            /* Pages last, and as many as follow */
            craft(payload + len - CURLING_RECORD_BYTES, CURLING_RECORD_PAGES,
                  0, next_random(&seed) % 3, extra / 4096,
                  next_random(&seed) % 302);
            len += extra / 4096 * 4096;
        } else {
            len += next_random(&seed) % (extra + 1);
        }
        apply_if_valid(f, payload, len, &valid);
        free(payload);
    }
    assert_true(valid > 100);
}

static void test_random_octets(void **state)
{
    Fixture *f = *state;
    uint64_t seed = 12;
    uint64_t valid = 0;

    for (int i = 0; i < 20000; i++) {
        uint8_t payload[64];

        for (size_t j = 0; j < sizeof(payload); j++) {
            payload[j] = next_random(&seed) & (i % 2 ? 0xff : 0x03);
        }
        apply_if_valid(f, payload, sizeof(payload), &valid);
    }
}

/* Shipped while it is staged, as the first round is: nothing is lost */
static void test_streamed_sync(void **state)
{
    Fixture *f = *state;
    uint8_t end[CURLING_END_SIZE];
    CurlingRound *arrived = curling_round_new(f->pool);
    CurlingRamSink sink = sink_of(&f->to);
    uint64_t device_bytes = 0;

    fill_all(&f->from, 1);
    fill_all(&f->to, 500);
    memset(page_of(&f->from, 0, 100), 0, 50 * 4096);
    curling_round_begin(arrived, 1, 1, CURLING_KIND_DELTA, 0);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        for (uint64_t page = 0; page < block_pages[block]; page += 10) {
            uint64_t left = block_pages[block] - page;
            const uint8_t *span;
            size_t cursor = 0;
            size_t len;

            put(f, block, page, left < 10 ? left : 10, true);
            curling_round_finish_frames(f->round);
            while ((span = curling_round_span(f->round, &cursor, &len))) {
                for (size_t at = 0; at < len; ) {
                    const uint8_t *payload = span + at + CURLING_HEADER_BYTES;
                    CurlingHeader header;

                    assert_int_equal(curling_frame_decode(span + at, &header,
                                                          NULL), 0);
                    assert_int_equal(curling_round_append(arrived, &header,
                                                          payload, NULL), 0);
                    assert_int_equal(curling_ram_validate(&f->to.layout,
                                                          false, payload,
                                                          header.length_bytes,
                                                          &device_bytes,
                                                          NULL), 0);
                    curling_ram_apply(&f->to.layout, payload,
                                      header.length_bytes, &sink);
                    curling_round_drop_frames(arrived);
                    at += CURLING_HEADER_BYTES + header.length_bytes;
                }
            }
            curling_round_drop_frames(f->round);
        }
    }
    curling_round_seal(f->round);
    curling_round_get_end(f->round, end);
    assert_int_equal(curling_round_verify(arrived, end, NULL), 0);
    assert_same_ram(f);
    curling_round_free(arrived);
}

#define RAM_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAM_TEST(test_octets_of_records_are_fixed),
        RAM_TEST(test_contiguous_pages_are_few_records),
        RAM_TEST(test_single_pages_share_frames),
        RAM_TEST(test_many_runs_fill_chunks),
        RAM_TEST(test_zero_runs),
        cmocka_unit_test(test_almost_zero_pages),
        RAM_TEST(test_zeroes_over_zeroes_write_nothing),
        RAM_TEST(test_whole_machine),
        RAM_TEST(test_random_rounds),
        RAM_TEST(test_large_device_state),
        RAM_TEST(test_walk_touches_nothing),
        RAM_TEST(test_apply_without_a_sink),
        RAM_TEST(test_put_out_of_range),
        RAM_TEST(test_put_into_too_many_blocks),
        RAM_TEST(test_put_in_no_round),
        RAM_TEST(test_put_reaches_the_limit),
        RAM_TEST(test_validate_refuses),
        RAM_TEST(test_validate_refuses_deltas),
        RAM_TEST(test_apply_deltas),
        RAM_TEST(test_validate_at_the_edges),
        RAM_TEST(test_validate_more_pages_than_ram),
        cmocka_unit_test(test_validate_against_empty_layouts),
        RAM_TEST(test_every_prefix_of_a_payload),
        RAM_TEST(test_every_bit_flip_of_records),
        RAM_TEST(test_random_records),
        RAM_TEST(test_random_octets),
        RAM_TEST(test_streamed_sync),
    };

    return cmocka_run_group_tests_name("ram", tests, NULL, NULL);
}
