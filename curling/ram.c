/*
 * Records: what the payload of a round's DATA frames means
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "delta.h"
#include "ram-private.h"
#include "round-private.h"

/* Less than this of the device state in a record is not worth its header. */
#define DEVICE_PIECE_BYTES 4096

void curling_record_put(uint8_t *to, const CurlingRecord *record)
{
    to[CURLING_RECORD_TYPE] = record->type;
    to[CURLING_RECORD_RESERVED] = record->reserved;
    curling_put_u16(to + CURLING_RECORD_BLOCK, record->block);
    curling_put_u32(to + CURLING_RECORD_COUNT, record->count);
    curling_put_u64(to + CURLING_RECORD_FIRST, record->first);
}

CurlingRecord curling_record_get(const uint8_t *from)
{
    return (CurlingRecord) {
        .type = from[CURLING_RECORD_TYPE],
        .reserved = from[CURLING_RECORD_RESERVED],
        .block = curling_get_u16(from + CURLING_RECORD_BLOCK),
        .count = curling_get_u32(from + CURLING_RECORD_COUNT),
        .first = curling_get_u64(from + CURLING_RECORD_FIRST),
    };
}

/* Most pages differ at once; the others equal themselves shifted. */
bool curling_page_is_zero(const uint8_t *page, size_t bytes)
{
    uint64_t head[8];
    uint64_t any = 0;

    memcpy(head, page, sizeof(head));
    for (int i = 0; i < 8; i++) {
        any |= head[i];
    }
    return !any &&
           !memcmp(page, page + sizeof(head), bytes - sizeof(head));
}

static uint8_t *host_page(const CurlingRamLayout *layout, uint32_t block,
                          uint64_t page)
{
    return layout->blocks[block].host + page * layout->page_bytes;
}

static bool in_block(const CurlingRamLayout *layout, uint32_t block,
                     uint64_t first, uint64_t count)
{
    uint64_t pages;

    if (block >= layout->n_blocks) {
        return false;
    }
    pages = layout->blocks[block].pages;
    return first < pages && count <= pages - first;
}

static int put_content(CurlingRound *round, const CurlingRamLayout *layout,
                       uint32_t block, uint64_t first, uint64_t count,
                       CurlingError *err)
{
    size_t page_bytes = layout->page_bytes;

    while (count) {
        uint8_t *room;
        size_t len;
        uint64_t fit;
        int ret;

        ret = curling_round_room(round, CURLING_RECORD_BYTES + page_bytes,
                                 &room, &len, err);
        if (ret) {
            return ret;
        }
        fit = (len - CURLING_RECORD_BYTES) / page_bytes;
        fit = fit < count ? fit : count;
        curling_record_put(room, &(CurlingRecord) {
            .type = CURLING_RECORD_PAGES,
            .block = (uint16_t)block,
            .count = (uint32_t)fit,
            .first = first,
        });
        memcpy(room + CURLING_RECORD_BYTES, host_page(layout, block, first),
               fit * page_bytes);
        curling_round_fill(round, CURLING_RECORD_BYTES + fit * page_bytes);
        first += fit;
        count -= fit;
    }
    return 0;
}

static int put_zeroes(CurlingRound *round, uint32_t block, uint64_t first,
                      uint64_t count, CurlingError *err)
{
    while (count) {
        uint64_t fit = count < UINT32_MAX ? count : UINT32_MAX;
        uint8_t *room;
        size_t len;
        int ret;

        ret = curling_round_room(round, CURLING_RECORD_BYTES, &room, &len,
                                 err);
        if (ret) {
            return ret;
        }
        curling_record_put(room, &(CurlingRecord) {
            .type = CURLING_RECORD_ZERO,
            .block = (uint16_t)block,
            .count = (uint32_t)fit,
            .first = first,
        });
        curling_round_fill(round, CURLING_RECORD_BYTES);
        first += fit;
        count -= fit;
    }
    return 0;
}

/* A run at a time: pages of zeroes, or pages that are not */
static int put_runs(CurlingRound *round, const CurlingRamLayout *layout,
                    uint32_t block, uint64_t first, uint64_t count,
                    CurlingError *err)
{
    uint64_t end = first + count;
    uint64_t next = first;
    bool zero = curling_page_is_zero(host_page(layout, block, next),
                                     layout->page_bytes);

    while (first < end) {
        bool run_zero = zero;
        int ret;

        while (zero == run_zero && ++next < end) {
            zero = curling_page_is_zero(host_page(layout, block, next),
                                        layout->page_bytes);
        }
        if (run_zero) {
            ret = put_zeroes(round, block, first, next - first, err);
        } else {
            ret = put_content(round, layout, block, first, next - first, err);
        }
        if (ret) {
            return ret;
        }
        first = next;
    }
    return 0;
}

int curling_ram_put_pages(CurlingRound *round, const CurlingRamLayout *layout,
                          uint32_t block, uint64_t first, uint64_t count,
                          bool find_zeroes, CurlingError *err)
{
    if (!count) {
        return 0;
    }
    if (block > UINT16_MAX || !in_block(layout, block, first, count)) {
        return curling_error_set(err, -EINVAL,
                                 "no RAM to stage: got %" PRIu64
                                 " pages from %" PRIu64 " of block %" PRIu32,
                                 count, first, block);
    }
    if (find_zeroes) {
        return put_runs(round, layout, block, first, count, err);
    }
    return put_content(round, layout, block, first, count, err);
}

int curling_ram_put_device(CurlingRound *round, const void *data,
                           size_t len_bytes, CurlingError *err)
{
    const uint8_t *from = data;

    while (len_bytes) {
        size_t piece = len_bytes < DEVICE_PIECE_BYTES ? len_bytes
                                                      : DEVICE_PIECE_BYTES;
        uint8_t *room;
        size_t fit;
        int ret;

        ret = curling_round_room(round, CURLING_RECORD_BYTES + piece, &room,
                                 &fit, err);
        if (ret) {
            return ret;
        }
        fit -= CURLING_RECORD_BYTES;
        fit = fit < len_bytes ? fit : len_bytes;
        curling_record_put(room, &(CurlingRecord) {
            .type = CURLING_RECORD_DEVICE,
            .count = (uint32_t)fit,
            .first = round->device_bytes,
        });
        memcpy(room + CURLING_RECORD_BYTES, from, fit);
        curling_round_fill(round, CURLING_RECORD_BYTES + fit);
        round->device_bytes += fit;
        from += fit;
        len_bytes -= fit;
    }
    return 0;
}

static uint64_t all_pages(const CurlingRamLayout *layout)
{
    uint64_t pages = 0;

    for (uint32_t i = 0; i < layout->n_blocks; i++) {
        pages += layout->blocks[i].pages;
    }
    return pages;
}

/* @pages_left: what one payload may have; records of zeroes cost it nothing,
 * but whoever applies them looks at each page. */
static int validate_pages(const CurlingRamLayout *layout,
                          const CurlingRecord *record, uint64_t *pages_left,
                          CurlingError *err)
{
    if (record->block >= layout->n_blocks) {
        return curling_error_set(err, -EPROTO,
                                 "record for RAM block %u, expected less "
                                 "than %" PRIu32, record->block,
                                 layout->n_blocks);
    }
    if (!record->count ||
        !in_block(layout, record->block, record->first, record->count)) {
        return curling_error_set(err, -EPROTO,
                                 "record outside of RAM block %u: got %" PRIu32
                                 " pages from %" PRIu64 ", expected at least "
                                 "1 of %" PRIu64, record->block,
                                 record->count, record->first,
                                 layout->blocks[record->block].pages);
    }
    if (record->count > *pages_left) {
        return curling_error_set(err, -EPROTO,
                                 "more pages in one payload than RAM has: got "
                                 "%" PRIu32 " and %" PRIu64 " before, expected "
                                 "at most %" PRIu64, record->count,
                                 all_pages(layout) - *pages_left,
                                 all_pages(layout));
    }
    *pages_left -= record->count;
    return 0;
}

static int validate_device(const CurlingRamLayout *layout,
                           const CurlingRecord *record, uint64_t *device_bytes,
                           CurlingError *err)
{
    if (record->block || !record->count) {
        return curling_error_set(err, -EPROTO,
                                 "record of device state: got %" PRIu32
                                 " octets of block %u, expected at least 1 "
                                 "of block 0", record->count, record->block);
    }
    if (record->first != *device_bytes) {
        return curling_error_set(err, -EPROTO,
                                 "device state out of order: got octet %"
                                 PRIu64 ", expected %" PRIu64, record->first,
                                 *device_bytes);
    }
    if (*device_bytes > layout->device_max_bytes ||
        record->count > layout->device_max_bytes - *device_bytes) {
        return curling_error_set(err, -EOVERFLOW,
                                 "device state too large: got %" PRIu64
                                 " bytes and %" PRIu32 " more, expected at "
                                 "most %" PRIu64, *device_bytes,
                                 record->count, layout->device_max_bytes);
    }
    *device_bytes += record->count;
    return 0;
}

/*
 * Octets that follow the header of @record, whose content begins at @content
 * with @left octets to the end of the payload; more than @left if it is cut
 * short.
 */
static uint64_t content_bytes(const CurlingRamLayout *layout,
                              const CurlingRecord *record,
                              const uint8_t *content, size_t left)
{
    uint64_t bytes = 0;

    switch (record->type) {
    case CURLING_RECORD_PAGES:
        return (uint64_t)record->count * layout->page_bytes;
    case CURLING_RECORD_DEVICE:
        return record->count;
    case CURLING_RECORD_DEVICE_DELTA:
        return left < 4 ? 4 : 4 + (uint64_t)curling_get_u32(content);
    case CURLING_RECORD_DELTA:
        for (uint32_t i = 0; i < record->count; i++) {
            if (left - bytes < 2) {
                return left + 1;
            }
            bytes += 2 + curling_get_u16(content + bytes);
            if (bytes > left) {
                break;
            }
        }
        return bytes;
    default:
        return 0;
    }
}

/* The content of a DELTA record that is all there */
static int validate_deltas(const CurlingRamLayout *layout,
                           const CurlingRecord *record,
                           const uint8_t *content, CurlingError *err)
{
    int ret = 0;

    for (uint32_t i = 0; i < record->count && ret == 0; i++) {
        uint16_t len = curling_get_u16(content);

        ret = curling_delta_check(content + 2, len, layout->page_bytes, err);
        content += 2 + len;
    }
    return ret;
}

static int validate_device_delta(const CurlingRecord *record,
                                 const uint8_t *content, CurlingError *err)
{
    if (record->count > CURLING_DELTA_MAX) {
        return curling_error_set(err, -EPROTO, "delta of device state: got "
                                 "one of %" PRIu32 " octets, expected at most "
                                 "%d", record->count, CURLING_DELTA_MAX);
    }
    return curling_delta_check(content + 4, curling_get_u32(content),
                               record->count, err);
}

static bool is_delta(const CurlingRecord *record)
{
    return record->type == CURLING_RECORD_DELTA ||
           record->type == CURLING_RECORD_DEVICE_DELTA;
}

/* Its header alone */
static int validate_header(const CurlingRamLayout *layout, bool deltas,
                           const CurlingRecord *record, uint64_t *pages_left,
                           uint64_t *device_bytes, CurlingError *err)
{
    if (record->reserved) {
        return curling_error_set(err, -EPROTO,
                                 "reserved field of a record: got 0x%02x, "
                                 "expected 0", record->reserved);
    }
    if (is_delta(record) && !deltas) {
        return curling_error_set(err, -EPROTO, "got a delta in a round that is "
                                 "against no other, expected none");
    }
    switch (record->type) {
    case CURLING_RECORD_PAGES:
    case CURLING_RECORD_ZERO:
    case CURLING_RECORD_DELTA:
        return validate_pages(layout, record, pages_left, err);
    case CURLING_RECORD_DEVICE:
    case CURLING_RECORD_DEVICE_DELTA:
        return validate_device(layout, record, device_bytes, err);
    default:
        return curling_error_set(err, -EPROTO,
                                 "record of unknown type: got %u, expected "
                                 "%u to %u", record->type,
                                 CURLING_RECORD_PAGES,
                                 CURLING_RECORD_DEVICE_DELTA);
    }
}

static int validate_content(const CurlingRamLayout *layout,
                            const CurlingRecord *record,
                            const uint8_t *content, size_t left,
                            CurlingError *err)
{
    uint64_t needed = content_bytes(layout, record, content, left);

    if (needed > left) {
        return curling_error_set(err, -EPROTO,
                                 "record cut short: got %zu bytes of content, "
                                 "expected %" PRIu64, left, needed);
    }
    if (record->type == CURLING_RECORD_DELTA) {
        return validate_deltas(layout, record, content, err);
    }
    if (record->type == CURLING_RECORD_DEVICE_DELTA) {
        return validate_device_delta(record, content, err);
    }
    return 0;
}

int curling_ram_validate(const CurlingRamLayout *layout, bool deltas,
                         const uint8_t *payload, size_t len_bytes,
                         uint64_t *device_bytes, CurlingError *err)
{
    uint64_t pages_left = all_pages(layout);
    uint64_t device = *device_bytes;

    while (len_bytes) {
        CurlingRecord record;
        size_t content;
        int ret;

        if (len_bytes < CURLING_RECORD_BYTES) {
            return curling_error_set(err, -EPROTO,
                                     "record cut short: got %zu bytes, "
                                     "expected at least %u", len_bytes,
                                     CURLING_RECORD_BYTES);
        }
        record = curling_record_get(payload);
        payload += CURLING_RECORD_BYTES;
        len_bytes -= CURLING_RECORD_BYTES;
        ret = validate_header(layout, deltas, &record, &pages_left, &device,
                              err);
        if (ret == 0) {
            ret = validate_content(layout, &record, payload, len_bytes, err);
        }
        if (ret) {
            return ret;
        }
        content = content_bytes(layout, &record, payload, len_bytes);
        payload += content;
        len_bytes -= content;
    }
    *device_bytes = device;
    return 0;
}

/* Pages that are zero already may be unallocated: let them be so. */
static void apply_zeroes(const CurlingRamLayout *layout,
                         const CurlingRecord *record)
{
    uint8_t *page = host_page(layout, record->block, record->first);

    for (uint32_t i = 0; i < record->count; i++) {
        if (!curling_page_is_zero(page, layout->page_bytes)) {
            memset(page, 0, layout->page_bytes);
        }
        page += layout->page_bytes;
    }
}

static void apply_deltas(const CurlingRamLayout *layout,
                         const CurlingRecord *record, const uint8_t *content)
{
    uint8_t *page = host_page(layout, record->block, record->first);

    for (uint32_t i = 0; i < record->count; i++) {
        uint16_t len = curling_get_u16(content);

        curling_delta_apply(content + 2, len, page, layout->page_bytes);
        content += 2 + len;
        page += layout->page_bytes;
    }
}

static void apply_record(const CurlingRamLayout *layout,
                         const CurlingRecord *record, const uint8_t *content)
{
    switch (record->type) {
    case CURLING_RECORD_PAGES:
        memcpy(host_page(layout, record->block, record->first), content,
               (size_t)record->count * layout->page_bytes);
        break;
    case CURLING_RECORD_ZERO:
        apply_zeroes(layout, record);
        break;
    case CURLING_RECORD_DELTA:
        apply_deltas(layout, record, content);
        break;
    }
}

static void report_record(const CurlingRamSink *sink,
                          const CurlingRecord *record, const uint8_t *content)
{
    switch (record->type) {
    case CURLING_RECORD_DEVICE:
        if (sink->device) {
            sink->device(sink->opaque, content, record->count);
        }
        break;
    case CURLING_RECORD_DEVICE_DELTA:
        if (sink->device_delta) {
            sink->device_delta(sink->opaque, record->count, content + 4,
                               curling_get_u32(content));
        }
        break;
    default:
        if (sink->pages) {
            sink->pages(sink->opaque, record->block, record->first,
                        record->count);
        }
        break;
    }
}

static void walk(const CurlingRamLayout *layout, const uint8_t *payload,
                 size_t len, const CurlingRamSink *sink, bool apply)
{
    const uint8_t *end = payload + len;

    while (payload < end) {
        CurlingRecord record = curling_record_get(payload);

        payload += CURLING_RECORD_BYTES;
        if (apply) {
            apply_record(layout, &record, payload);
        }
        if (sink) {
            report_record(sink, &record, payload);
        }
        payload += content_bytes(layout, &record, payload, end - payload);
    }
}

void curling_ram_apply(const CurlingRamLayout *layout, const uint8_t *payload,
                       size_t len_bytes, const CurlingRamSink *sink)
{
    walk(layout, payload, len_bytes, sink, true);
}

void curling_ram_walk(const CurlingRamLayout *layout, const uint8_t *payload,
                      size_t len_bytes, const CurlingRamSink *sink)
{
    walk(layout, payload, len_bytes, sink, false);
}
