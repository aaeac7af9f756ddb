/*
 * Packing: the records of a round in fewer octets
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "copies.h"
#include "delta.h"
#include "pack.h"
#include "ram-private.h"
#include "round-private.h"

/* A page whose delta is longer than this part of it goes as it is. */
#define DELTA_WORTH(bytes) ((bytes) / 4 * 3)

/* Nor has less device state than this a delta: two more records for a quarter
 * of it must not be longer than it is. */
#define DEVICE_BYTES_MIN 512

/* Nothing smaller is worth a codec's time. */
#define CODEC_BYTES_MIN 512

/* Device state of one round */
typedef struct Device {
    uint8_t *data;
    size_t len_bytes;
    size_t room_bytes;
} Device;

struct CurlingPacker {
    /* constant after init */
    const CurlingRamLayout *layout;
    const CurlingCodec *codec;
    void *context;              /* of @codec */
    CurlingCopies *copies;
    uint8_t *records;           /* CURLING_PAYLOAD_MAX each */
    uint8_t *packed;
    uint8_t *delta;             /* CURLING_DELTA_MAX each */
    uint8_t *piece;

    /* of the round at hand */
    unsigned int method;
    bool against;
    CurlingPacked result;

    Device base;                /* of the round before */
    Device device;
    bool device_lost;           /* there was no memory for it */
};

/* Where records are written to; there is always room, for they get fewer. */
typedef struct Out {
    uint8_t *at;
    uint8_t *open;              /* header of the record that may go on... */
    CurlingRecord record;       /* ... and what will be in it */
    unsigned int unchanged;     /* pages at its end that say nothing */
} Out;

CurlingPacker *curling_packer_new(const CurlingRamLayout *layout,
                                  const CurlingCodec *codec)
{
    CurlingPacker *p = calloc(1, sizeof(*p));

    if (!p) {
        return NULL;
    }
    p->layout = layout;
    p->codec = codec;
    p->copies = curling_copies_new(layout);
    p->records = malloc(CURLING_PAYLOAD_MAX);
    p->packed = malloc(CURLING_PAYLOAD_MAX);
    p->delta = malloc(CURLING_DELTA_MAX);
    p->piece = malloc(CURLING_DELTA_MAX);
    if (!p->copies || !p->records || !p->packed || !p->delta || !p->piece) {
        curling_packer_free(p);
        return NULL;
    }
    return p;
}

void curling_packer_free(CurlingPacker *p)
{
    if (!p) {
        return;
    }
    if (p->codec) {
        p->codec->context_free(p->context);
    }
    curling_copies_free(p->copies);
    free(p->records);
    free(p->packed);
    free(p->delta);
    free(p->piece);
    free(p->base.data);
    free(p->device.data);
    free(p);
}

void curling_packer_set_limit(CurlingPacker *p, uint64_t limit_bytes)
{
    curling_copies_set_limit(p->copies, limit_bytes);
}

uint64_t curling_packer_copies_bytes(const CurlingPacker *p)
{
    return curling_copies_bytes(p->copies);
}

void curling_packer_forget(CurlingPacker *p)
{
    curling_copies_forget(p->copies);
    p->base.len_bytes = 0;
}

void curling_packer_begin(CurlingPacker *p, unsigned int method, bool against)
{
    unsigned int deltas = p->against ? p->method & CURLING_PACK_DELTA : 0;

    p->method = method;
    p->against = against;
    p->result = (CurlingPacked) { 0 };
    p->device.len_bytes = 0;
    p->device_lost = false;
    curling_copies_begin_round(p->copies);
    if (!against || !(method & (CURLING_PACK_DELTA | CURLING_PACK_SAMPLE)) ||
        (deltas && !(method & CURLING_PACK_DELTA))) {
        /* What a round without deltas carries makes copies wrong, and to
         * look for each of them costs more than to begin anew. */
        curling_copies_forget(p->copies);
    }
    if ((method & CURLING_PACK_CODEC) && p->codec && !p->context) {
        p->context = p->codec->context_new();
    }
}

void curling_packer_end(CurlingPacker *p)
{
    Device device = p->base;

    p->base = p->device;
    p->device = device;
    if (p->device_lost) {
        p->base.len_bytes = 0;
    }
}

/* ---- Records out -------------------------------------------------------- */

/* Write the header of the record that was open; pages at its end that did not
 * change are left out. */
static void close_record(Out *out)
{
    if (!out->open) {
        return;
    }
    if (out->record.type == CURLING_RECORD_DELTA) {
        out->record.count -= out->unchanged;
        out->at -= 2 * out->unchanged;
    }
    curling_record_put(out->open, &out->record);
    out->open = NULL;
}

/* Is this the next page of the record that is open? */
static bool continues(const Out *out, uint8_t type, uint32_t block,
                      uint64_t page)
{
    return out->open && out->record.type == type &&
           out->record.block == block &&
           out->record.first + out->record.count == page;
}

/* The next page of @block goes into a record of @type. */
static void open_record(Out *out, uint8_t type, uint32_t block, uint64_t page)
{
    if (continues(out, type, block, page)) {
        out->record.count++;
        return;
    }
    close_record(out);
    out->open = out->at;
    out->at += CURLING_RECORD_BYTES;
    out->unchanged = 0;
    out->record = (CurlingRecord) {
        .type = type,
        .block = (uint16_t)block,
        .count = 1,
        .first = page,
    };
}

static void put_delta(Out *out, uint32_t block, uint64_t page,
                      const uint8_t *delta, size_t len)
{
    /* To begin a record with a page that says nothing is of no use. */
    if (!len && !continues(out, CURLING_RECORD_DELTA, block, page)) {
        close_record(out);
        return;
    }
    open_record(out, CURLING_RECORD_DELTA, block, page);
    curling_put_u16(out->at, (uint16_t)len);
    memcpy(out->at + 2, delta, len);
    out->at += 2 + len;
    out->unchanged = len ? 0 : out->unchanged + 1;
}

static void put_page(Out *out, uint32_t block, uint64_t page,
                     const uint8_t *content, size_t page_bytes)
{
    open_record(out, CURLING_RECORD_PAGES, block, page);
    memcpy(out->at, content, page_bytes);
    out->at += page_bytes;
}

/* ---- Deltas ------------------------------------------------------------- */

/* Pages are numbered by those who use them, in any step: mix first. */
static bool is_sampled(const CurlingPacker *p, uint64_t page)
{
    return (p->method & CURLING_PACK_SAMPLE) &&
           (uint32_t)(page * 2654435761u) >> 16 < 65536 / CURLING_SAMPLE;
}

/*
 * The delta of a page that is not all zero, into p->delta; its copy is that of
 * @content then, if it has one.  Returns its length, -1 if it is to go as it
 * is.  A page that has its first copy now says nothing about deltas.
 */
static ssize_t delta_of(CurlingPacker *p, uint32_t block, uint64_t page,
                        const uint8_t *content)
{
    size_t page_bytes = p->layout->page_bytes;
    uint8_t *copy = curling_copies_find(p->copies, block, page);
    bool judged = true;
    ssize_t len = -1;

    if (copy) {
        len = curling_delta_encode(copy, content, page_bytes, p->delta,
                                   DELTA_WORTH(page_bytes));
    } else {
        copy = curling_copies_add(p->copies, block, page);
        judged = !copy;
    }
    if (len >= 0) {
        curling_delta_apply(p->delta, (size_t)len, copy, page_bytes);
    } else if (copy) {
        memcpy(copy, content, page_bytes);
    }
    p->result.delta_bytes += page_bytes;
    if (judged) {
        p->result.judged_raw_bytes += page_bytes;
        p->result.judged_bytes += len < 0 ? page_bytes : (size_t)len;
    }
    return len;
}

static void note_zero(CurlingPacker *p, uint32_t block, uint64_t page)
{
    uint8_t *copy = curling_copies_find(p->copies, block, page);

    if (copy) {
        memset(copy, 0, p->layout->page_bytes);
    }
}

static bool has_deltas(const CurlingPacker *p)
{
    return (p->method & CURLING_PACK_DELTA) && p->against;
}

static void pack_page(CurlingPacker *p, Out *out, uint32_t block,
                      uint64_t page, const uint8_t *content)
{
    size_t page_bytes = p->layout->page_bytes;
    ssize_t len = -1;

    if (curling_page_is_zero(content, page_bytes)) {
        note_zero(p, block, page);
        open_record(out, CURLING_RECORD_ZERO, block, page);
        return;
    }
    if (has_deltas(p)) {
        len = delta_of(p, block, page, content);
    }
    if (len >= 0) {
        put_delta(out, block, page, p->delta, (size_t)len);
    } else {
        put_page(out, block, page, content, page_bytes);
    }
}

/* Pages of zeroes: where there is a copy it is one of zeroes now. */
static void pack_zeroes(CurlingPacker *p, Out *out,
                        const CurlingRecord *record)
{
    for (uint32_t i = 0; i < record->count; i++) {
        note_zero(p, record->block, record->first + i);
    }
    close_record(out);
    curling_record_put(out->at, record);
    out->at += CURLING_RECORD_BYTES;
}

static bool append_device(Device *device, const uint8_t *data, size_t len)
{
    if (device->len_bytes + len > device->room_bytes) {
        size_t room_bytes = 2 * device->room_bytes + len;
        uint8_t *grown = realloc(device->data, room_bytes);

        if (!grown) {
            return false;
        }
        device->data = grown;
        device->room_bytes = room_bytes;
    }
    memcpy(device->data + device->len_bytes, data, len);
    device->len_bytes += len;
    return true;
}

static void put_device(Out *out, uint64_t first, const uint8_t *data,
                       size_t len)
{
    if (!len) {
        return;
    }
    curling_record_put(out->at, &(CurlingRecord) {
        .type = CURLING_RECORD_DEVICE,
        .count = (uint32_t)len,
        .first = first,
    });
    memcpy(out->at + CURLING_RECORD_BYTES, data, len);
    out->at += CURLING_RECORD_BYTES + len;
}

/* As much of the round before as there is at this place, and zeroes. */
static const uint8_t *device_base(CurlingPacker *p, uint64_t first, size_t len)
{
    size_t known = first < p->base.len_bytes ? p->base.len_bytes - first : 0;

    if (known >= len) {
        return p->base.data + first;
    }
    memset(p->piece, 0, len);
    if (known) {
        memcpy(p->piece, p->base.data + first, known);
    }
    return p->piece;
}

/*
 * Device state against that of the round before, piece by piece; those that
 * hardly have a delta go as they are, in one record for all of a row.
 */
static void pack_device(CurlingPacker *p, Out *out,
                        const CurlingRecord *record, const uint8_t *content)
{
    size_t raw = 0;             /* where the row begins */
    size_t at = 0;

    close_record(out);
    if (!has_deltas(p)) {
        put_device(out, record->first, content, record->count);
        return;
    }
    if (!append_device(&p->device, content, record->count)) {
        p->device_lost = true;
    }
    while (p->base.len_bytes && at < record->count) {
        size_t left = record->count - at;
        size_t len = left < CURLING_DELTA_MAX ? left : CURLING_DELTA_MAX;
        ssize_t delta_len =
            curling_delta_encode(device_base(p, record->first + at, len),
                                 content + at, len, p->delta,
                                 DELTA_WORTH(len));

        if (len >= DEVICE_BYTES_MIN && delta_len >= 0) {
            put_device(out, record->first + raw, content + raw, at - raw);
            curling_record_put(out->at, &(CurlingRecord) {
                .type = CURLING_RECORD_DEVICE_DELTA,
                .count = (uint32_t)len,
                .first = record->first + at,
            });
            out->at += CURLING_RECORD_BYTES;
            curling_put_u32(out->at, (uint32_t)delta_len);
            memcpy(out->at + 4, p->delta, (size_t)delta_len);
            out->at += 4 + delta_len;
            raw = at + len;
        }
        at += len;
    }
    put_device(out, record->first + raw, content + raw, record->count - raw);
}

/* The payload without zeroes and with deltas, in p->records; its length. */
static size_t pack_records(CurlingPacker *p, const uint8_t *payload,
                           size_t len)
{
    size_t page_bytes = p->layout->page_bytes;
    Out out = { .at = p->records };
    const uint8_t *end = payload + len;

    /* They are our own, and right. */
    while (payload < end) {
        CurlingRecord record = curling_record_get(payload);

        payload += CURLING_RECORD_BYTES;
        switch (record.type) {
        case CURLING_RECORD_PAGES:
            for (uint32_t i = 0; i < record.count; i++) {
                pack_page(p, &out, record.block, record.first + i, payload);
                payload += page_bytes;
            }
            break;
        case CURLING_RECORD_ZERO:
            pack_zeroes(p, &out, &record);
            break;
        case CURLING_RECORD_DEVICE:
            pack_device(p, &out, &record, payload);
            payload += record.count;
            break;
        }
    }
    close_record(&out);
    return (size_t)(out.at - p->records);
}

/* ---- A payload ---------------------------------------------------------- */

/*
 * Look at the pages of a payload that gets no deltas: is one of them all zero?
 * Of the sample, what would deltas do?
 */
static bool look_at_pages(CurlingPacker *p, const uint8_t *payload, size_t len)
{
    size_t page_bytes = p->layout->page_bytes;
    const uint8_t *end = payload + len;
    bool any_zero = false;

    while (payload < end) {
        CurlingRecord record = curling_record_get(payload);

        payload += CURLING_RECORD_BYTES;
        for (uint32_t i = 0; record.type != CURLING_RECORD_DEVICE &&
                             i < record.count; i++) {
            const uint8_t *content = payload + i * page_bytes;
            bool given = record.type == CURLING_RECORD_ZERO;
            bool zero = given || curling_page_is_zero(content, page_bytes);

            any_zero |= zero && !given;
            if (!p->against || !is_sampled(p, record.first + i)) {
                continue;
            }
            if (zero) {
                note_zero(p, record.block, record.first + i);
            } else {
                delta_of(p, record.block, record.first + i, content);
            }
        }
        payload += record.type == CURLING_RECORD_DEVICE ? record.count :
                   record.type == CURLING_RECORD_PAGES ?
                   record.count * page_bytes : 0;
    }
    return any_zero;
}

/* The payload in a ZSTD record, in p->packed; NULL if that is no shorter. */
static const uint8_t *pack_by_codec(CurlingPacker *p, const uint8_t *payload,
                                    size_t *len)
{
    int64_t began_ns = curling_clock_ns();
    size_t packed = p->codec->pack(p->context, payload, *len,
                                   p->packed + CURLING_RECORD_BYTES,
                                   *len - CURLING_RECORD_BYTES - 1);

    p->result.codec_ns += curling_clock_ns() - began_ns;
    p->result.codec_raw_bytes += *len;
    p->result.codec_bytes += packed ? CURLING_RECORD_BYTES + packed : *len;
    if (!packed) {
        return NULL;
    }
    curling_record_put(p->packed, &(CurlingRecord) {
        .type = CURLING_RECORD_ZSTD,
        .count = (uint32_t)*len,
        .first = packed,
    });
    *len = CURLING_RECORD_BYTES + packed;
    return p->packed;
}

static const uint8_t *pack_payload(void *opaque, const uint8_t *payload,
                                   size_t *len)
{
    CurlingPacker *p = opaque;
    const uint8_t *packed = NULL;
    int64_t began_ns = curling_clock_ns();

    p->result.raw_bytes += *len;
    if (has_deltas(p) || look_at_pages(p, payload, *len)) {
        *len = pack_records(p, payload, *len);
        payload = p->records;
    }
    p->result.delta_ns += curling_clock_ns() - began_ns;
    if ((p->method & CURLING_PACK_CODEC) && p->context &&
        *len >= CODEC_BYTES_MIN) {
        packed = pack_by_codec(p, payload, len);
    }
    p->result.bytes += *len;
    return packed ? packed : payload;
}

void curling_packer_pack(CurlingPacker *p, CurlingRound *round)
{
    curling_round_rewrite(round, pack_payload, p);
}

const CurlingPacked *curling_packer_result(const CurlingPacker *p)
{
    return &p->result;
}

/* ---- At the receiver ---------------------------------------------------- */

struct CurlingUnpacker {
    const CurlingCodec *codec;
    void *context;
    uint8_t *payload;
};

CurlingUnpacker *curling_unpacker_new(const CurlingCodec *codec)
{
    CurlingUnpacker *u = calloc(1, sizeof(*u));

    if (!u || !codec) {
        return u;
    }
    /* All at once: a whole round must not fail for want of memory. */
    u->codec = codec;
    u->context = codec->context_new();
    u->payload = malloc(CURLING_PAYLOAD_MAX);
    if (!u->context || !u->payload) {
        curling_unpacker_free(u);
        return NULL;
    }
    return u;
}

void curling_unpacker_free(CurlingUnpacker *u)
{
    if (u) {
        if (u->codec) {
            u->codec->context_free(u->context);
        }
        free(u->payload);
        free(u);
    }
}

static int check_packed(const CurlingUnpacker *u, const CurlingRecord *record,
                        size_t left, CurlingError *err)
{
    if (!u->codec) {
        return curling_error_set(err, -EPROTO, "got a round packed by zstd, "
                                 "and this side was built without; set "
                                 "compress to none or delta at the sender");
    }
    if (record->reserved || record->block || record->first != left ||
        !record->count || record->count > CURLING_PAYLOAD_MAX) {
        return curling_error_set(err, -EPROTO, "got a ZSTD record of %" PRIu64
                                 " octets for %" PRIu32 " of block %u, "
                                 "expected one of %zu for 1 to %d of block 0",
                                 record->first, record->count, record->block,
                                 left, CURLING_PAYLOAD_MAX);
    }
    return 0;
}

int curling_unpack(CurlingUnpacker *u, const uint8_t **payload,
                   size_t *len_bytes, CurlingError *err)
{
    CurlingRecord record;
    ssize_t len;
    int ret;

    if (*len_bytes < CURLING_RECORD_BYTES ||
        (*payload)[CURLING_RECORD_TYPE] != CURLING_RECORD_ZSTD) {
        return 0;
    }
    record = curling_record_get(*payload);
    ret = check_packed(u, &record, *len_bytes - CURLING_RECORD_BYTES, err);
    if (ret < 0) {
        return ret;
    }
    len = u->codec->unpack(u->context, *payload + CURLING_RECORD_BYTES,
                           record.first, u->payload, record.count);
    if (len != record.count) {
        return curling_error_set(err, -EPROTO, "a ZSTD record does not unpack "
                                 "to the %" PRIu32 " octets that it says",
                                 record.count);
    }
    *payload = u->payload;
    *len_bytes = record.count;
    return 0;
}
