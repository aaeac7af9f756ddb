/*
 * What the fuzz harnesses share
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "crc32c.h"
#include "fuzz.h"
#include "toy-codec.h"

void fuzz_must(bool holds, const char *what, const char *file, int line)
{
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        abort();
    }
}

/* ---- Input --------------------------------------------------------------- */

uint8_t fuzz_u8(FuzzInput *in)
{
    if (!in->left) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

uint64_t fuzz_round(FuzzInput *in)
{
    uint8_t octet = fuzz_u8(in);

    return octet < 254 ? octet : CURLING_ROUND_NONE - (255 - octet);
}

FuzzInput fuzz_take(FuzzInput *in, size_t len_bytes)
{
    FuzzInput taken = { in->at, len_bytes < in->left ? len_bytes : in->left };

    in->at += taken.left;
    in->left -= taken.left;
    return taken;
}

/* ---- A clock ------------------------------------------------------------- */

#define LOOK_NS 500000LL
#define BEGIN_NS 1000000000LL

static int64_t clock_ns = BEGIN_NS;       /* atomic */

int64_t curling_clock_ns(void)
{
    return __atomic_add_fetch(&clock_ns, LOOK_NS, __ATOMIC_RELAXED);
}

void fuzz_clock_reset(void)
{
    __atomic_store_n(&clock_ns, BEGIN_NS, __ATOMIC_RELAXED);
}

void fuzz_clock_pass(unsigned int ms)
{
    __atomic_add_fetch(&clock_ns, ms * 1000000LL, __ATOMIC_RELAXED);
}

/* ---- RAM ----------------------------------------------------------------- */

void fuzz_ram_init(FuzzRam *ram)
{
    static const uint64_t pages[2] = { FUZZ_PAGES_0, FUZZ_PAGES_1 };

    for (int i = 0; i < 2; i++) {
        ram->blocks[i].pages = pages[i];
        ram->blocks[i].host = malloc(pages[i] * FUZZ_PAGE);
        memset(ram->blocks[i].host, 0xee, pages[i] * FUZZ_PAGE);
    }
    ram->layout = (CurlingRamLayout) {
        .page_bytes = FUZZ_PAGE,
        .n_blocks = 2,
        .blocks = ram->blocks,
        .device_max_bytes = FUZZ_DEVICE_MAX,
    };
}

void fuzz_ram_destroy(FuzzRam *ram)
{
    free(ram->blocks[0].host);
    free(ram->blocks[1].host);
}

void fuzz_ram_copy(const FuzzRam *ram, uint8_t *to)
{
    memcpy(to, ram->blocks[0].host, FUZZ_PAGES_0 * FUZZ_PAGE);
    memcpy(to + FUZZ_PAGES_0 * FUZZ_PAGE, ram->blocks[1].host,
           FUZZ_PAGES_1 * FUZZ_PAGE);
}

static size_t number_at(const uint8_t **at, const uint8_t *end)
{
    size_t number = 0;
    unsigned int shift = 0;
    uint8_t octet;

    do {
        must(*at < end && shift < 21);
        octet = *(*at)++;
        number |= (size_t)(octet & 0x7f) << shift;
        shift += 7;
    } while (octet & 0x80);
    return number;
}

void fuzz_delta_model(const uint8_t *delta, size_t len_bytes, uint8_t *page,
                      size_t page_bytes)
{
    const uint8_t *end = delta + len_bytes;
    size_t at = 0;

    while (delta < end) {
        size_t fresh;

        at += number_at(&delta, end);
        fresh = number_at(&delta, end);
        must(fresh > 0);
        while (fresh--) {
            must(delta < end && at < page_bytes);
            page[at++] = *delta++;
        }
    }
}

/* Returns how many octets follow the record's header. */
static size_t model_device(uint8_t type, const uint8_t *content, size_t count,
                           uint8_t *to)
{
    size_t len;

    if (type == CURLING_RECORD_DEVICE) {
        memcpy(to, content, count);
        return count;
    }
    len = curling_get_u32(content);
    fuzz_delta_model(content + 4, len, to, count);
    return 4 + len;
}

static size_t model_pages(uint8_t type, const uint8_t *content, size_t count,
                          uint8_t *to)
{
    size_t at = 0;

    switch (type) {
    case CURLING_RECORD_PAGES:
        memcpy(to, content, count * FUZZ_PAGE);
        return count * FUZZ_PAGE;
    case CURLING_RECORD_DELTA:
        for (size_t i = 0; i < count; i++) {
            size_t len = curling_get_u16(content + at);

            fuzz_delta_model(content + at + 2, len, to + i * FUZZ_PAGE,
                             FUZZ_PAGE);
            at += 2 + len;
        }
        return at;
    default:
        must(type == CURLING_RECORD_ZERO);
        memset(to, 0, count * FUZZ_PAGE);
        return 0;
    }
}

static void model_packed(const uint8_t *payload, size_t len_bytes,
                         uint8_t *image, uint8_t *device, size_t *device_bytes)
{
    size_t count = curling_get_u32(payload + CURLING_RECORD_COUNT);
    uint8_t *records = malloc(count);

    must(records);
    must(toy_unpack(NULL, payload + CURLING_RECORD_BYTES,
                    len_bytes - CURLING_RECORD_BYTES, records, count) ==
         (ssize_t)count);
    must(count < CURLING_RECORD_BYTES ||
         records[CURLING_RECORD_TYPE] != CURLING_RECORD_ZSTD);
    fuzz_ram_model(records, count, image, device, device_bytes);
    free(records);
}

void fuzz_ram_model(const uint8_t *payload, size_t len_bytes, uint8_t *image,
                    uint8_t *device, size_t *device_bytes)
{
    const uint8_t *end = payload + len_bytes;

    if (len_bytes && payload[CURLING_RECORD_TYPE] == CURLING_RECORD_ZSTD) {
        model_packed(payload, len_bytes, image, device, device_bytes);
        return;
    }
    while (payload < end) {
        uint8_t type = payload[CURLING_RECORD_TYPE];
        size_t block = curling_get_u16(payload + CURLING_RECORD_BLOCK);
        size_t count = curling_get_u32(payload + CURLING_RECORD_COUNT);
        size_t first = curling_get_u64(payload + CURLING_RECORD_FIRST);
        size_t at = (first + block * FUZZ_PAGES_0) * FUZZ_PAGE;

        payload += CURLING_RECORD_BYTES;
        if (type == CURLING_RECORD_DEVICE ||
            type == CURLING_RECORD_DEVICE_DELTA) {
            must(first == *device_bytes && count <= FUZZ_DEVICE_MAX - first);
            payload += model_device(type, payload, count, device + first);
            *device_bytes += count;
            continue;
        }
        must(block < 2 && count > 0 && first < FUZZ_PAGES_0);
        must(first + count <= (block ? FUZZ_PAGES_1 : FUZZ_PAGES_0));
        payload += model_pages(type, payload, count, image + at);
    }
    must(payload == end);
}

/* ---- Payloads ------------------------------------------------------------ */

static size_t copy(FuzzInput *in, uint8_t *to, size_t max_bytes)
{
    FuzzInput taken = fuzz_take(in, max_bytes);

    if (taken.left) {
        memcpy(to, taken.at, taken.left);
    }
    return taken.left;
}

/* Pages that can be told from each other, even if an octet is all there is */
static size_t put_pages(FuzzInput *in, uint8_t *to, size_t pages)
{
    for (size_t i = 0; i < pages; i++) {
        uint8_t octet = fuzz_u8(in);

        memset(to + i * FUZZ_PAGE, octet, FUZZ_PAGE);
        if (octet) {
            to[i * FUZZ_PAGE + octet] = (uint8_t)i;
        }
    }
    return pages * FUZZ_PAGE;
}

static size_t copy_some(FuzzInput *in, uint8_t *to, size_t len,
                        size_t max_bytes)
{
    return copy(in, to, len < max_bytes ? len : max_bytes);
}

/* @count times a length of @length_bytes and as much as it says */
static size_t put_deltas(FuzzInput *in, uint8_t *to, size_t max_bytes,
                         uint32_t count, size_t length_bytes)
{
    size_t len = 0;

    while (count-- && in->left >= length_bytes &&
           max_bytes - len >= length_bytes) {
        const uint8_t *length = to + len;

        len += copy(in, to + len, length_bytes);
        len += copy_some(in, to + len, length_bytes == 2 ?
                         curling_get_u16(length) : curling_get_u32(length),
                         max_bytes - len);
    }
    return len;
}

/* Behind the header at @record, which is made right */
static size_t put_packed(FuzzInput *in, uint8_t *record, size_t max_bytes)
{
    uint8_t *records = malloc(CURLING_PAYLOAD_MAX);
    size_t len, packed;

    must(records);
    len = fuzz_records(in, records, CURLING_PAYLOAD_MAX);
    packed = toy_pack(NULL, records, len, record + CURLING_RECORD_BYTES,
                      max_bytes);
    curling_put_u32(record + CURLING_RECORD_COUNT, (uint32_t)len);
    curling_put_u64(record + CURLING_RECORD_FIRST, packed);
    free(records);
    return packed;
}

/* What follows the header at @record: of PAGES, if it fits */
static size_t put_content(FuzzInput *in, uint8_t *record, size_t max_bytes)
{
    uint32_t count = curling_get_u32(record + CURLING_RECORD_COUNT);
    uint8_t *to = record + CURLING_RECORD_BYTES;

    switch (record[CURLING_RECORD_TYPE]) {
    case CURLING_RECORD_PAGES:
        return count <= max_bytes / FUZZ_PAGE ? put_pages(in, to, count) : 0;
    case CURLING_RECORD_DEVICE:
        return copy_some(in, to, count, max_bytes);
    case CURLING_RECORD_DELTA:
        return put_deltas(in, to, max_bytes, count, 2);
    case CURLING_RECORD_DEVICE_DELTA:
        return put_deltas(in, to, max_bytes, 1, 4);
    case CURLING_RECORD_ZSTD:
        return curling_get_u64(record + CURLING_RECORD_FIRST) ? 0 :
               put_packed(in, record, max_bytes);
    default:
        return 0;
    }
}

size_t fuzz_records(FuzzInput *in, uint8_t *to, size_t max_bytes)
{
    size_t len = 0;

    while (in->left >= CURLING_RECORD_BYTES &&
           max_bytes - len >= CURLING_RECORD_BYTES) {
        uint8_t *record = to + len;

        len += copy(in, record, CURLING_RECORD_BYTES);
        len += put_content(in, record, max_bytes - len);
    }
    return len + copy(in, to + len, max_bytes - len);
}

/* What a stream is made with: the round that is under way in it */
typedef struct Maker {
    FuzzStream *stream;
    size_t room_bytes;
    const char *description;
    uint32_t generation;
    uint64_t frames;
    uint64_t bytes;
    uint32_t digest;
} Maker;

static size_t put_hello(Maker *m, FuzzInput *in, uint8_t *to)
{
    FuzzInput theirs = {
        (const uint8_t *)m->description, strlen(m->description),
    };

    memset(to, 0, CURLING_HELLO_DESCRIPTION);
    to[CURLING_HELLO_SESSION] = fuzz_u8(in);
    m->generation = fuzz_u8(in);
    curling_put_u32(to + CURLING_HELLO_PEER_TIMEOUT_MS, fuzz_u8(in) * 8);
    curling_put_u64(to + CURLING_HELLO_COMMITTED, fuzz_round(in));
    curling_put_u32(to + CURLING_HELLO_FENCE_AFTER_MS,
                    m->generation & 0x80 ? 240 : 0);
    return CURLING_HELLO_DESCRIPTION +
           copy(in->left ? in : &theirs, to + CURLING_HELLO_DESCRIPTION,
                CURLING_DESCRIPTION_MAX);
}

static size_t put_welcome(FuzzInput *in, uint8_t *to)
{
    memset(to, 0, CURLING_WELCOME_BYTES);
    to[CURLING_WELCOME_SESSION] = fuzz_u8(in);
    curling_put_u32(to + CURLING_WELCOME_PEER_TIMEOUT_MS, fuzz_u8(in) * 8);
    curling_put_u64(to + CURLING_WELCOME_HELD, fuzz_round(in));
    return CURLING_WELCOME_BYTES;
}

static size_t put_begin(Maker *m, FuzzInput *in, uint8_t *to)
{
    m->frames = 0;
    m->bytes = 0;
    m->digest = 0;
    curling_put_u32(to + CURLING_BEGIN_KIND, fuzz_u8(in));
    curling_put_u64(to + CURLING_BEGIN_BASE, fuzz_round(in));
    curling_put_u32(to + CURLING_BEGIN_RESERVED, fuzz_u8(in));
    return CURLING_BEGIN_BYTES;
}

static size_t put_end(const Maker *m, FuzzInput *in, uint8_t *to, bool wrong)
{
    unsigned int which = wrong ? fuzz_u8(in) % 4 : 4;

    curling_put_u64(to + CURLING_END_FRAMES, m->frames + (which == 0));
    curling_put_u64(to + CURLING_END_BYTES, m->bytes + (which == 1));
    curling_put_u32(to + CURLING_END_DIGEST, m->digest ^ (which == 2));
    curling_put_u32(to + CURLING_END_RESERVED, which == 3);
    return CURLING_END_SIZE;
}

/* With zeroes up to @min_bytes */
static size_t put_plain(FuzzInput *in, uint8_t *to, size_t min_bytes)
{
    size_t len = copy(in, to, CURLING_PAYLOAD_MAX);

    if (len < min_bytes) {
        memset(to + len, 0, min_bytes - len);
        len = min_bytes;
    }
    return len;
}

static size_t put_payload(Maker *m, uint8_t type, uint8_t fault,
                          FuzzInput *in, uint8_t *to)
{
    switch (type) {
    case CURLING_TYPE_HELLO:
        return put_hello(m, in, to);
    case CURLING_TYPE_WELCOME:
        return put_welcome(in, to);
    case CURLING_TYPE_ROUND_BEGIN:
        return put_begin(m, in, to);
    case CURLING_TYPE_DATA:
        return fuzz_records(in, to, CURLING_PAYLOAD_MAX);
    case CURLING_TYPE_ROUND_END:
        return put_end(m, in, to, fault == FUZZ_FAULT_END);
    case CURLING_TYPE_REJECT:
        return put_plain(in, to, CURLING_REJECT_TEXT);
    case CURLING_TYPE_APPLIED:
        return put_plain(in, to, CURLING_APPLIED_BYTES);
    case CURLING_TYPE_HEARTBEAT:
        return put_plain(in, to, CURLING_HEARTBEAT_BYTES);
    case CURLING_TYPE_FENCE:
        return put_plain(in, to, CURLING_FENCE_BYTES);
    default:
        return put_plain(in, to, 0);
    }
}

/* ---- Frames -------------------------------------------------------------- */

static void set_checksum(uint8_t *wire)
{
    curling_put_u32(wire + CURLING_HEADER_CRC,
                    curling_crc32c(0, wire, CURLING_HEADER_CRC));
}

/* Nobody checks the payload of a frame that is only skipped. */
static bool is_skipped(const CurlingHeader *header)
{
    return !strcmp(curling_frame_type_name(header->type), "unknown");
}

static void spoil_length(FuzzFrame *frame, uint8_t *wire, uint32_t len_bytes)
{
    curling_put_u32(wire + CURLING_HEADER_LENGTH, len_bytes);
    set_checksum(wire);
    frame->broken = true;
}

/* Returns how many octets of the frame come. */
static size_t spoil(FuzzFrame *frame, uint8_t *wire, uint8_t fault)
{
    uint32_t len = frame->header.length_bytes;

    switch (fault) {
    case FUZZ_FAULT_MAGIC:
        wire[CURLING_HEADER_MAGIC] ^= 1;
        break;
    case FUZZ_FAULT_VERSION:
        wire[CURLING_HEADER_VERSION] ^= 1;
        break;
    case FUZZ_FAULT_FLAGS:
        wire[CURLING_HEADER_FLAGS] |= 2;
        break;
    case FUZZ_FAULT_RESERVED:
        wire[CURLING_HEADER_RESERVED] = 1;
        break;
    case FUZZ_FAULT_HEADER_CRC:
        wire[CURLING_HEADER_CRC] ^= 1;
        frame->broken = true;
        return CURLING_HEADER_BYTES + len;
    case FUZZ_FAULT_PAYLOAD_CRC:
        wire[CURLING_HEADER_PAYLOAD_CRC] ^= 1;
        set_checksum(wire);
        frame->broken = !is_skipped(&frame->header);
        return CURLING_HEADER_BYTES + len;
    case FUZZ_FAULT_LONGER:
        spoil_length(frame, wire, len + 1);
        return CURLING_HEADER_BYTES + len;
    case FUZZ_FAULT_SHORTER:
        spoil_length(frame, wire, len - 1);
        return CURLING_HEADER_BYTES + len;
    case FUZZ_FAULT_HUGE:
        spoil_length(frame, wire, CURLING_PAYLOAD_MAX + 1 + len);
        return CURLING_HEADER_BYTES + len;
    case FUZZ_FAULT_CUT:
        frame->broken = true;
        return (CURLING_HEADER_BYTES + len) * (frame->header.round % 8) / 8;
    default:
        return CURLING_HEADER_BYTES + len;
    }
    frame->broken = true;
    set_checksum(wire);
    return CURLING_HEADER_BYTES + len;
}

static uint8_t *make_room(Maker *m)
{
    FuzzStream *stream = m->stream;
    size_t wanted = stream->len_bytes + CURLING_HEADER_BYTES +
                    CURLING_PAYLOAD_MAX;

    if (m->room_bytes < wanted) {
        m->room_bytes = 2 * wanted;
        stream->bytes = realloc(stream->bytes, m->room_bytes);
        must(stream->bytes);
    }
    return stream->bytes + stream->len_bytes;
}

/* Returns false when no frame can follow. */
static bool read_frame(Maker *m, FuzzFrame *frame, FuzzInput *in, uint8_t type)
{
    uint8_t how = fuzz_u8(in);
    uint8_t fault = fuzz_u8(in);
    uint64_t round = fuzz_round(in);
    size_t short_bytes = (size_t)fuzz_u8(in) << 8;
    uint8_t *wire = make_room(m);
    uint8_t *payload = wire + CURLING_HEADER_BYTES;
    FuzzInput content;
    size_t len;

    short_bytes |= fuzz_u8(in);
    content = fuzz_take(in, short_bytes);
    len = how & FUZZ_HOW_RAW ? put_plain(&content, payload, 0) :
          put_payload(m, type, fault, &content, payload);
    frame->header = (CurlingHeader) {
        .type = type,
        .flags = how & FUZZ_HOW_OPTIONAL ? CURLING_FLAG_OPTIONAL : 0,
        .generation = m->generation + !!(how & FUZZ_HOW_GENERATION),
        .sequence = !!(how & FUZZ_HOW_SEQUENCE),
        .round = round,
        .length_bytes = (uint32_t)len,
        .payload_crc = curling_crc32c(0, payload, len),
    };
    if (type == CURLING_TYPE_DATA) {
        frame->header.sequence += (uint32_t)m->frames;
    }
    curling_frame_encode(&frame->header, wire);
    frame->payload = frame->start + CURLING_HEADER_BYTES;
    frame->end = frame->start + spoil(frame, wire, fault);
    /* As it goes over the wire: nothing but the fault gives it away. */
    if (type == CURLING_TYPE_DATA) {
        m->frames++;
        m->bytes += len;
        m->digest = curling_crc32c(m->digest, wire, CURLING_HEADER_BYTES);
    }
    return fault != FUZZ_FAULT_CUT;
}

void fuzz_stream_read(FuzzStream *stream, FuzzInput *in,
                      const char *description)
{
    Maker m = { .stream = stream, .description = description };
    bool more = true;

    memset(stream, 0, sizeof(*stream));
    while (more && in->left && stream->n_frames < FUZZ_FRAMES_MAX &&
           stream->len_bytes < FUZZ_STREAM_MAX) {
        FuzzFrame *frame = &stream->frames[stream->n_frames];
        uint8_t type = fuzz_u8(in);

        frame->start = stream->len_bytes;
        if (type == 255) {
            break;
        }
        if (type >= FUZZ_EVENT_FIRST) {
            frame->header.type = type;
            frame->argument = fuzz_u8(in);
            frame->payload = frame->start;
            frame->end = frame->start;
        } else {
            more = read_frame(&m, frame, in, type);
        }
        stream->len_bytes = frame->end;
        stream->n_frames++;
    }
}

void fuzz_stream_free(FuzzStream *stream)
{
    free(stream->bytes);
}
