/*
 * Fuzz: the round buffer and the records in it
 *
 * Input: the limit of the pool in chunks (0: none), then operations, each an
 * octet (its number modulo OPERATIONS) and what it takes.  Frames are written
 * in short as in fuzz.h, with checksums that are right; FRAME takes an octet
 * of what is wrong with it (FRAME_*).
 * Invariants: the round holds exactly the frames that were accepted, in
 * order; only a ROUND_END that fits seals it, and what is sealed verifies on
 * the other side; records that validate write within RAM exactly what they
 * say; memory never exceeds the limit, and all of it comes back.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "fuzz.h"
#include "ram.h"
#include "round-private.h"

/* Of one input: bounds its time */
#define OPERATIONS_MAX 400
#define BYTES_MAX (12u << 20)

enum {
    BEGIN,
    FRAME,              /* arrives from a peer */
    VERIFY,
    STAGE_PAGES,
    STAGE_DEVICE,
    STAGE_RAW,          /* reserve and commit */
    FINISH,
    DROP,
    SEAL,
    TAKE,
    DISCARD,
    LIMIT,
    OPERATIONS,
};

#define FRAME_SEQUENCE 0x01
#define FRAME_ROUND 0x02
#define FRAME_GENERATION 0x04
#define FRAME_CRC 0x08
#define FRAME_TYPE 0x10
#define FRAME_IN_PLACE 0x20     /* into reserved room, as the receiver does */
#define FRAME_FULL 0x40         /* as long as a frame may be */

typedef struct Fuzz {
    FuzzInput in;
    FuzzRam ram;
    CurlingPool *pool;
    uint64_t limit;             /* the highest so far; 0: none */
    CurlingRound *round;
    size_t bytes;               /* handled so far */

    /* What the round must hold: payload behind payload, as not dropped */
    uint8_t *content;
    size_t content_bytes;
    size_t content_room;
    bool dropped;               /* some frames since BEGIN */
} Fuzz;

static void remember(Fuzz *f, const uint8_t *payload, size_t len)
{
    if (!len) {
        return;
    }
    if (f->content_room < f->content_bytes + len) {
        f->content_room = 2 * (f->content_bytes + len);
        f->content = realloc(f->content, f->content_room);
        must(f->content);
    }
    memcpy(f->content + f->content_bytes, payload, len);
    f->content_bytes += len;
    f->bytes += len;
}

static void check_memory(const Fuzz *f)
{
    uint64_t now = curling_pool_now(f->pool);

    must(now % CURLING_CHUNK_BYTES == 0);
    must(now <= curling_pool_peak(f->pool));
    must(!f->limit || curling_pool_peak(f->pool) <= f->limit);
}

/* Payload for payload: what is in the round is what was put into it. */
static void check_content(const Fuzz *f)
{
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t at = 0;
    size_t len;

    while (curling_round_next(f->round, &iter, &payload, &len)) {
        must(len > 0 && len <= CURLING_PAYLOAD_MAX);
        must(len <= f->content_bytes - at);
        must(!memcmp(f->content + at, payload, len));
        at += len;
    }
    /* What shares a frame is there once the frame is. */
    must(at == f->content_bytes || f->round->filled_bytes);
}

static void forget(Fuzz *f)
{
    f->content_bytes = 0;
    f->dropped = false;
}

static void do_begin(Fuzz *f)
{
    uint64_t number = fuzz_round(&f->in);

    curling_round_begin(f->round, number, fuzz_u8(&f->in), fuzz_u8(&f->in),
                        CURLING_ROUND_NONE);
    must(curling_round_state(f->round) == CURLING_ROUND_OPEN);
    must(curling_round_number(f->round) == number);
    forget(f);
}

/* A payload of a peer: one octet of length, or all there may be */
static size_t read_payload(Fuzz *f, uint8_t *payload, uint8_t what)
{
    FuzzInput content = fuzz_take(&f->in, fuzz_u8(&f->in));
    size_t len = fuzz_records(&content, payload, CURLING_PAYLOAD_MAX);

    if (what & FRAME_FULL) {
        memset(payload + len, (int)len, CURLING_PAYLOAD_MAX - len);
        len = CURLING_PAYLOAD_MAX;
    }
    return len;
}

static void do_frame(Fuzz *f)
{
    static uint8_t payload[CURLING_PAYLOAD_MAX];
    uint8_t what = fuzz_u8(&f->in);
    uint8_t wrong = what & (FRAME_IN_PLACE - 1);
    size_t len = read_payload(f, payload, what);
    CurlingHeader header = {
        .type = what & FRAME_TYPE ? CURLING_TYPE_HEARTBEAT : CURLING_TYPE_DATA,
        .generation = curling_round_generation(f->round) +
                      !!(what & FRAME_GENERATION),
        .sequence = (uint32_t)curling_round_frames(f->round) +
                    !!(what & FRAME_SEQUENCE),
        .round = curling_round_number(f->round) + !!(what & FRAME_ROUND),
        .length_bytes = (uint32_t)len,
        .payload_crc = curling_crc32c(0, payload, len) ^
                       !!(what & FRAME_CRC),
    };
    CurlingRoundState state = curling_round_state(f->round);
    const uint8_t *from = payload;
    uint8_t *room;
    CurlingError err = { "" };
    int ret;

    if (what & FRAME_IN_PLACE) {
        room = curling_round_reserve(f->round, len);
        must(!room || (len && state == CURLING_ROUND_OPEN));
        if (room) {
            memcpy(room, payload, len);
            from = room;
        }
    }
    ret = curling_round_append(f->round, &header, from, &err);
    if (ret == 0) {
        must(!wrong && len && state == CURLING_ROUND_OPEN);
        remember(f, payload, len);
    } else {
        must(err.text[0]);
        must(ret == -EPROTO ||
             (ret == -EOVERFLOW && curling_pool_limit(f->pool)));
        must(wrong || !len || state != CURLING_ROUND_OPEN ||
             ret == -EOVERFLOW);
    }
}

/* Apply what is sealed, each payload only if it validates, and model it. */
static void apply(Fuzz *f, const CurlingRound *round)
{
    static uint8_t image[FUZZ_RAM_BYTES];
    static uint8_t after[FUZZ_RAM_BYTES];
    bool deltas = curling_round_kind(round) == CURLING_KIND_DELTA;
    uint8_t device[FUZZ_DEVICE_MAX];
    size_t modelled_bytes = 0;
    uint64_t device_bytes = 0;
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len;

    fuzz_ram_copy(&f->ram, image);
    while (curling_round_next(round, &iter, &payload, &len)) {
        /* A copy of its own: ASan sees who reads beyond. */
        uint8_t *alone = malloc(len);
        uint64_t before = device_bytes;
        CurlingError err = { "" };
        int ret;

        memcpy(alone, payload, len);
        ret = curling_ram_validate(&f->ram.layout, deltas, alone, len,
                                   &device_bytes, &err);
        if (ret == 0) {
            must(device_bytes <= FUZZ_DEVICE_MAX);
            curling_ram_walk(&f->ram.layout, alone, len, NULL);
            curling_ram_apply(&f->ram.layout, alone, len, NULL);
            fuzz_ram_model(alone, len, image, device, &modelled_bytes);
            must(modelled_bytes == device_bytes);
        } else {
            must(ret == -EPROTO || ret == -EOVERFLOW);
            must(err.text[0] && device_bytes == before);
        }
        free(alone);
    }
    fuzz_ram_copy(&f->ram, after);
    must(!memcmp(image, after, sizeof(image)));
}

/* Over the wire: what one side sealed, the other side accepts. */
static void ship(const CurlingRound *round)
{
    CurlingPool *pool = curling_pool_new(0);
    CurlingRound *copy = curling_round_new(pool);
    uint8_t end[CURLING_END_SIZE];
    const uint8_t *span;
    size_t cursor = 0;
    size_t len;

    curling_round_begin(copy, curling_round_number(round),
                        curling_round_generation(round),
                        curling_round_kind(round), curling_round_base(round));
    while ((span = curling_round_span(round, &cursor, &len))) {
        while (len) {
            CurlingHeader header;
            size_t frame_bytes;

            must(curling_frame_decode(span, &header, NULL) == 0);
            must(curling_round_append(copy, &header,
                                      span + CURLING_HEADER_BYTES, NULL) == 0);
            frame_bytes = CURLING_HEADER_BYTES + header.length_bytes;
            must(frame_bytes <= len);
            span += frame_bytes;
            len -= frame_bytes;
        }
    }
    curling_round_get_end(round, end);
    must(curling_round_verify(copy, end, NULL) == 0);
    curling_round_free(copy);
    curling_pool_free(pool);
}

/* The octet says which octet of ROUND_END is wrong: from 24 on, none. */
static void do_verify(Fuzz *f)
{
    CurlingRoundState state = curling_round_state(f->round);
    uint8_t at = fuzz_u8(&f->in);
    uint8_t end[CURLING_END_SIZE];
    CurlingError err = { "" };
    int ret;

    curling_round_finish_frames(f->round);
    curling_round_get_end(f->round, end);
    if (at < sizeof(end)) {
        end[at] ^= 1;
    }
    ret = curling_round_verify(f->round, end, &err);
    if (at >= sizeof(end) && state == CURLING_ROUND_OPEN) {
        must(ret == 0);
        must(curling_round_state(f->round) == CURLING_ROUND_SEALED);
        check_content(f);
    } else {
        must(ret == -EPROTO && err.text[0]);
        must(curling_round_state(f->round) == state);
    }
}

/* Staging remembers nothing: records are cut to fit, so it is read back. */
static void read_back(Fuzz *f)
{
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len;

    curling_round_finish_frames(f->round);
    f->content_bytes = 0;
    while (curling_round_next(f->round, &iter, &payload, &len)) {
        remember(f, payload, len);
    }
}

static void do_stage_pages(Fuzz *f)
{
    uint8_t block = fuzz_u8(&f->in);
    uint64_t first = fuzz_round(&f->in);
    uint64_t count = fuzz_round(&f->in);
    bool open = curling_round_state(f->round) == CURLING_ROUND_OPEN;
    CurlingError err = { "" };
    int ret;

    ret = curling_ram_put_pages(f->round, &f->ram.layout, block, first, count,
                                fuzz_u8(&f->in) & 1, &err);
    must(ret == 0 || err.text[0]);
    must(ret == 0 || ret == -EINVAL ||
         (ret == -EOVERFLOW && curling_pool_limit(f->pool)));
    must(ret || !count || (open && block < 2 && first < FUZZ_PAGES_0 &&
                           count <= FUZZ_PAGES_0));
    read_back(f);
}

static void do_stage_device(Fuzz *f)
{
    static uint8_t state[255 * 64];
    size_t len = fuzz_u8(&f->in) * 64;
    CurlingError err = { "" };
    int ret = curling_ram_put_device(f->round, state, len, &err);

    must(ret == 0 || (err.text[0] && (ret == -EINVAL || ret == -EOVERFLOW)));
    read_back(f);
}

static void do_stage_raw(Fuzz *f)
{
    size_t want = fuzz_u8(&f->in) * 1032;       /* up to above the maximum */
    size_t len = fuzz_u8(&f->in) * 1032;
    uint8_t *room = curling_round_reserve(f->round, want);

    must(!room || (want && want <= CURLING_PAYLOAD_MAX));
    if (room && len <= want) {
        memset(room, (int)len, len);
        curling_round_commit(f->round, len);
        remember(f, room, len);
    }
}

static void do_drop(Fuzz *f)
{
    if (curling_round_state(f->round) == CURLING_ROUND_OPEN) {
        curling_round_finish_frames(f->round);
        curling_round_drop_frames(f->round);
        f->content_bytes = 0;
        f->dropped = true;
    }
}

static void do_take(Fuzz *f)
{
    bool sealed = curling_round_state(f->round) == CURLING_ROUND_SEALED;
    CurlingRound *taken;

    if (sealed) {
        check_content(f);
        apply(f, f->round);
        if (!f->dropped) {
            ship(f->round);
        }
    }
    taken = curling_round_take(f->round);
    must(!!taken == sealed);
    if (taken) {
        must(curling_round_state(f->round) == CURLING_ROUND_EMPTY);
        curling_round_free(taken);
        forget(f);
    }
}

static void do_limit(Fuzz *f)
{
    uint64_t limit = fuzz_u8(&f->in) % 4 * CURLING_CHUNK_BYTES;

    curling_pool_set_limit(f->pool, limit);
    f->limit = !limit || !f->limit ? 0 : limit > f->limit ? limit : f->limit;
}

static void operate(Fuzz *f)
{
    switch (fuzz_u8(&f->in) % OPERATIONS) {
    case BEGIN:
        do_begin(f);
        break;
    case FRAME:
        do_frame(f);
        break;
    case VERIFY:
        do_verify(f);
        break;
    case STAGE_PAGES:
        do_stage_pages(f);
        break;
    case STAGE_DEVICE:
        do_stage_device(f);
        break;
    case STAGE_RAW:
        do_stage_raw(f);
        break;
    case FINISH:
        curling_round_finish_frames(f->round);
        break;
    case DROP:
        do_drop(f);
        break;
    case SEAL:
        curling_round_seal(f->round);
        break;
    case TAKE:
        do_take(f);
        break;
    case DISCARD:
        curling_round_discard(f->round);
        forget(f);
        break;
    case LIMIT:
        do_limit(f);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    Fuzz f = { .in = { data, len_bytes } };

    f.limit = fuzz_u8(&f.in) % 4 * CURLING_CHUNK_BYTES;
    f.pool = curling_pool_new(f.limit);
    f.round = curling_round_new(f.pool);
    fuzz_ram_init(&f.ram);
    for (unsigned int i = 0; i < OPERATIONS_MAX && f.in.left &&
                             f.bytes < BYTES_MAX; i++) {
        operate(&f);
        check_memory(&f);
        must(curling_round_state(f.round) != CURLING_ROUND_EMPTY ||
             !f.content_bytes);
    }
    check_content(&f);
    curling_round_discard(f.round);
    /* A spare chunk at most, which goes with the pool. */
    must(curling_pool_now(f.pool) <= CURLING_CHUNK_BYTES);
    curling_round_free(f.round);
    curling_pool_free(f.pool);
    fuzz_ram_destroy(&f.ram);
    free(f.content);
    return 0;
}
