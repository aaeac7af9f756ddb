/*
 * Fuzz: deltas, packed payloads, and what a packer makes of rounds
 *
 * Input: an octet, what to do (its number modulo MODES), and what that takes.
 *
 *      OCTETS          length of the page less one (2 octets); a delta
 *      PAGES           length of the page less one, room (2 octets each), an
 *                      octet that fills the old page; then changes: where (2
 *                      octets), how many octets, and what to add to them
 *      PAYLOADS        payloads: 1: a round begins, length (2 octets), records
 *                      in short as in fuzz.h
 *      ROUNDS          operations, each an octet (its number modulo
 *                      OPERATIONS) and what it takes
 *
 * Invariants: what passes the check writes what it says, and nothing ever
 * writes outside of its page, its room or RAM; what was encoded is what comes
 * out; what validates without deltas does with them; RAM and device state of
 * a receiver are those of the sender, and no packed round is longer.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "delta.h"
#include "fuzz.h"
#include "pack.h"
#include "toy-codec.h"

/* Of one input: bounds its time */
#define OPERATIONS_MAX 200
#define PAYLOADS_MAX 50

enum {
    OCTETS,
    PAGES,
    PAYLOADS,
    ROUNDS,
    MODES,
};

static size_t read_u16(FuzzInput *in)
{
    size_t high = fuzz_u8(in);

    return high << 8 | fuzz_u8(in);
}

/* Exactly as long as it is: ASan sees who goes beyond. */
static uint8_t *copy_of(const uint8_t *from, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    must(copy);
    if (len) {
        memcpy(copy, from, len);
    }
    return copy;
}

/* ---- Deltas -------------------------------------------------------------- */

static void do_octets(FuzzInput *in)
{
    size_t page_bytes = read_u16(in) + 1;
    size_t len = in->left;
    uint8_t *delta = copy_of(in->at, len);
    uint8_t *page = malloc(page_bytes);
    uint8_t *expected;
    CurlingError err = { "" };
    int ret;

    must(page);
    memset(page, 0xee, page_bytes);
    expected = copy_of(page, page_bytes);
    ret = curling_delta_check(delta, len, page_bytes, &err);
    must(ret == 0 || (ret == -EPROTO && err.text[0]));
    /* Without a check as well, it stays within the page. */
    curling_delta_apply(delta, len, page, page_bytes);
    if (ret == 0) {
        fuzz_delta_model(delta, len, expected, page_bytes);
        must(!memcmp(page, expected, page_bytes));
        curling_delta_apply(delta, len, page, page_bytes);
        must(!memcmp(page, expected, page_bytes));
    }
    free(delta);
    free(page);
    free(expected);
}

/* Into exactly so much room; free() it */
static uint8_t *encode(const uint8_t *old, const uint8_t *now, size_t page,
                       size_t room_bytes, ssize_t *len)
{
    uint8_t *delta = malloc(room_bytes ? room_bytes : 1);

    must(delta);
    *len = curling_delta_encode(old, now, page, delta, room_bytes);
    must(*len >= -1 && *len <= (ssize_t)room_bytes);
    return delta;
}

static void do_pages(FuzzInput *in)
{
    size_t page = read_u16(in) + 1;
    size_t room_bytes = read_u16(in);
    uint8_t *old = malloc(page);
    uint8_t *delta, *other;
    uint8_t *now;
    ssize_t len, other_len;

    must(old);
    memset(old, fuzz_u8(in), page);
    now = copy_of(old, page);
    while (in->left) {
        size_t at = read_u16(in) % page;
        size_t count = fuzz_u8(in);
        uint8_t add = fuzz_u8(in);

        for (size_t i = at; i < page && count; i++, count--) {
            now[i] += add;
        }
    }
    delta = encode(old, now, page, 3 * page, &len);
    must(len >= 0);
    must(!len == !memcmp(old, now, page));
    must(curling_delta_check(delta, (size_t)len, page, NULL) == 0);
    other = encode(old, now, page, room_bytes, &other_len);
    must(other_len == ((size_t)len <= room_bytes ? len : -1));
    must(other_len < 1 || !memcmp(other, delta, (size_t)len));
    curling_delta_apply(delta, (size_t)len, old, page);
    must(!memcmp(old, now, page));
    free(delta);
    free(other);
    free(old);
    free(now);
}

/* ---- A receiver ---------------------------------------------------------- */

typedef struct Side {
    FuzzRam ram;
    CurlingUnpacker *unpacker;
    uint64_t validated_bytes;   /* of device state, in this round */
    size_t device_bytes;
    uint8_t device[FUZZ_DEVICE_MAX];    /* as fuzz_ram_model() has it */
} Side;

static void side_init(Side *side)
{
    memset(side, 0, sizeof(*side));
    fuzz_ram_init(&side->ram);
    side->unpacker = curling_unpacker_new(&toy_codec);
    must(side->unpacker);
}

static void side_destroy(Side *side)
{
    curling_unpacker_free(side->unpacker);
    fuzz_ram_destroy(&side->ram);
}

static void side_begin(Side *side)
{
    memset(side->device + side->device_bytes, 0,
           sizeof(side->device) - side->device_bytes);
    side->device_bytes = 0;
    side->validated_bytes = 0;
}

static void sink_pages(void *opaque, uint32_t block, uint64_t first,
                       uint64_t count)
{
    (void)opaque;
    must(block < 2 && count > 0);
    must(first + count <= (block ? FUZZ_PAGES_1 : FUZZ_PAGES_0));
}

static void sink_device(void *opaque, const uint8_t *data, size_t len)
{
    Side *side = opaque;

    must(len > 0 && len <= FUZZ_DEVICE_MAX - side->device_bytes);
    memcpy(side->device + side->device_bytes, data, len);
    side->device_bytes += len;
}

static void sink_device_delta(void *opaque, uint32_t count,
                              const uint8_t *delta, size_t len)
{
    Side *side = opaque;

    must(count > 0 && count <= FUZZ_DEVICE_MAX - side->device_bytes);
    curling_delta_apply(delta, len, side->device + side->device_bytes, count);
    side->device_bytes += count;
}

/* Apply what validates, and model it; returns whether it did. */
static bool receive(Side *side, const uint8_t *payload, size_t len)
{
    static uint8_t image[FUZZ_RAM_BYTES];
    static uint8_t after[FUZZ_RAM_BYTES];
    CurlingRamSink sink = {
        .pages = sink_pages,
        .device = sink_device,
        .device_delta = sink_device_delta,
        .opaque = side,
    };
    const CurlingRamLayout *layout = &side->ram.layout;
    uint8_t device[FUZZ_DEVICE_MAX];
    uint8_t *alone = copy_of(payload, len);
    const uint8_t *records = alone;
    size_t records_len = len;
    size_t device_bytes = side->device_bytes;
    uint64_t plain_bytes = side->validated_bytes;
    CurlingError err = { "" };
    int ret;

    ret = curling_unpack(side->unpacker, &records, &records_len, &err);
    if (ret == 0) {
        bool plain = curling_ram_validate(layout, false, records, records_len,
                                          &plain_bytes, NULL) == 0;

        ret = curling_ram_validate(layout, true, records, records_len,
                                   &side->validated_bytes, &err);
        must(ret == 0 || !plain);
        must(!plain || plain_bytes == side->validated_bytes);
    }
    must(ret == 0 || ret == -EPROTO || ret == -EOVERFLOW);
    must(ret == 0 || err.text[0]);
    if (ret == 0) {
        fuzz_ram_copy(&side->ram, image);
        memcpy(device, side->device, sizeof(device));
        fuzz_ram_model(alone, len, image, device, &device_bytes);
        curling_ram_walk(layout, records, records_len, NULL);
        curling_ram_apply(layout, records, records_len, &sink);
        fuzz_ram_copy(&side->ram, after);
        must(!memcmp(image, after, sizeof(image)));
        must(!memcmp(device, side->device, sizeof(device)));
        must(device_bytes == side->device_bytes);
        must(device_bytes == side->validated_bytes);
    }
    free(alone);
    return ret == 0;
}

static void do_payloads(FuzzInput *in)
{
    static uint8_t payload[CURLING_PAYLOAD_MAX];
    Side side;

    side_init(&side);
    for (unsigned int i = 0; i < PAYLOADS_MAX && in->left; i++) {
        FuzzInput content;

        if (fuzz_u8(in) & 1) {
            side_begin(&side);
        }
        content = fuzz_take(in, read_u16(in));
        receive(&side, payload,
                fuzz_records(&content, payload, sizeof(payload)));
    }
    side_destroy(&side);
}

/* ---- A sender and a receiver --------------------------------------------- */

enum {
    CHANGE,             /* where (page, 2 octets), how many, what to add */
    ZERO,               /* page */
    STAGE,              /* page, how many; 128: find zeroes */
    DEVICE,             /* length / 2; then as CHANGE, without a page */
    PACK,
    ROUND,              /* ends; the next one: how it is packed; 8: against
                         * none */
    LOSE,               /* the round, and the next one begins as ROUND */
    LIMIT,              /* of old copies, in MiB */
    OPERATIONS,
};

typedef struct Fuzz {
    FuzzInput in;
    FuzzRam from;
    Side to;
    CurlingPool *pool;
    CurlingRound *round;
    CurlingPacker *packer;
    uint64_t staged;            /* pages, in the open frame */
    bool dirty[2][FUZZ_PAGES_0];
    uint8_t device[FUZZ_DEVICE_MAX];
    size_t device_bytes;
} Fuzz;

static uint8_t *read_page(Fuzz *f, uint32_t *block, uint64_t *page)
{
    uint8_t number = fuzz_u8(&f->in) % (FUZZ_PAGES_0 + FUZZ_PAGES_1);

    *block = number >= FUZZ_PAGES_0;
    *page = *block ? number - FUZZ_PAGES_0 : number;
    return f->from.blocks[*block].host + *page * FUZZ_PAGE;
}

static void change(Fuzz *f, uint8_t *to, size_t len)
{
    size_t at = read_u16(&f->in) % len;
    size_t count = fuzz_u8(&f->in);
    uint8_t add = fuzz_u8(&f->in);

    for (size_t i = at; i < len && count; i++, count--) {
        to[i] += (uint8_t)(add + (add & 1 ? i : 0));
    }
}

static void change_device(Fuzz *f)
{
    size_t len = 2 * (fuzz_u8(&f->in) + 1);

    if (len > f->device_bytes) {
        memset(f->device + f->device_bytes, 0x11, len - f->device_bytes);
    }
    f->device_bytes = len;
    change(f, f->device, len);
}

static void pack(Fuzz *f)
{
    uint64_t bytes = curling_round_bytes(f->round);
    uint64_t raw_bytes = curling_round_raw_bytes(f->round);

    curling_packer_pack(f->packer, f->round);
    must(curling_round_bytes(f->round) <= bytes);
    must(curling_round_raw_bytes(f->round) == raw_bytes);
    curling_round_finish_frames(f->round);
    f->staged = 0;
}

static void stage(Fuzz *f, uint32_t block, uint64_t first, uint64_t count,
                  bool find_zeroes)
{
    uint64_t left = f->from.blocks[block].pages - first;

    count = count < left ? count : left;
    /* A payload may not have more pages than there are. */
    if (f->staged + count > FUZZ_PAGES_0 + FUZZ_PAGES_1) {
        pack(f);
    }
    f->staged += count;
    must(curling_ram_put_pages(f->round, &f->from.layout, block, first, count,
                               find_zeroes, NULL) == 0);
    for (uint64_t i = 0; i < count; i++) {
        f->dirty[block][first + i] = false;
    }
}

static void begin(Fuzz *f)
{
    uint8_t how = fuzz_u8(&f->in);
    bool against = !(how & 8);

    curling_round_begin(f->round, 1, 1, against ? CURLING_KIND_DELTA :
                        CURLING_KIND_FULL, CURLING_ROUND_NONE);
    curling_packer_begin(f->packer, how % 8, against);
}

static void stage_rest(Fuzz *f)
{
    for (uint32_t block = 0; block < 2; block++) {
        for (uint64_t page = 0; page < f->from.blocks[block].pages; page++) {
            if (f->dirty[block][page]) {
                stage(f, block, page, 1, false);
            }
        }
    }
    must(curling_ram_put_device(f->round, f->device, f->device_bytes,
                                NULL) == 0);
}

static void end_round(Fuzz *f)
{
    static uint8_t from[FUZZ_RAM_BYTES];
    static uint8_t to[FUZZ_RAM_BYTES];
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len;

    stage_rest(f);
    pack(f);
    side_begin(&f->to);
    while (curling_round_next(f->round, &iter, &payload, &len)) {
        must(receive(&f->to, payload, len));
    }
    curling_packer_end(f->packer);
    fuzz_ram_copy(&f->from, from);
    fuzz_ram_copy(&f->to.ram, to);
    must(!memcmp(from, to, sizeof(from)));
    must(f->to.device_bytes == f->device_bytes);
    must(!memcmp(f->to.device, f->device, f->device_bytes));
}

/* All of it is owed. */
static void lose_round(Fuzz *f)
{
    pack(f);
    curling_packer_forget(f->packer);
    memset(f->dirty, true, sizeof(f->dirty));
}

static void operate(Fuzz *f)
{
    uint32_t block;
    uint64_t page;
    uint8_t *at;
    uint8_t count;

    switch (fuzz_u8(&f->in) % OPERATIONS) {
    case CHANGE:
        at = read_page(f, &block, &page);
        change(f, at, FUZZ_PAGE);
        f->dirty[block][page] = true;
        break;
    case ZERO:
        at = read_page(f, &block, &page);
        memset(at, 0, FUZZ_PAGE);
        f->dirty[block][page] = true;
        break;
    case STAGE:
        read_page(f, &block, &page);
        count = fuzz_u8(&f->in);
        stage(f, block, page, count % 128, count & 128);
        break;
    case DEVICE:
        change_device(f);
        break;
    case PACK:
        pack(f);
        break;
    case ROUND:
        end_round(f);
        begin(f);
        break;
    case LOSE:
        lose_round(f);
        begin(f);
        break;
    case LIMIT:
        curling_packer_set_limit(f->packer, (uint64_t)fuzz_u8(&f->in) << 20);
        break;
    }
}

static void do_rounds(FuzzInput *in)
{
    Fuzz f = { .in = *in, .device_bytes = FUZZ_DEVICE_MAX };

    fuzz_ram_init(&f.from);
    side_init(&f.to);
    f.pool = curling_pool_new(0);
    f.round = curling_round_new(f.pool);
    f.packer = curling_packer_new(&f.from.layout, &toy_codec);
    must(f.round && f.packer);
    curling_packer_set_limit(f.packer, 4 << 20);
    begin(&f);
    for (unsigned int i = 0; i < OPERATIONS_MAX && f.in.left; i++) {
        operate(&f);
    }
    end_round(&f);
    curling_packer_free(f.packer);
    curling_round_free(f.round);
    curling_pool_free(f.pool);
    side_destroy(&f.to);
    fuzz_ram_destroy(&f.from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    FuzzInput in = { data, len_bytes };

    switch (fuzz_u8(&in) % MODES) {
    case OCTETS:
        do_octets(&in);
        break;
    case PAGES:
        do_pages(&in);
        break;
    case PAYLOADS:
        do_payloads(&in);
        break;
    case ROUNDS:
        do_rounds(&in);
        break;
    }
    return 0;
}
