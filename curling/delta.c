/*
 * Deltas: what changed in a page, as runs of octets to write over it
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "delta.h"

#define WORD_BYTES sizeof(uint64_t)

/* Equal octets between two runs that are not worth a run of their own. */
#define JOIN_BYTES 4

/* What is compared at a time where nothing has changed. */
#define STEP_BYTES 64

typedef struct Writer {
    uint8_t *at;
    uint8_t *end;
} Writer;

static uint64_t word_at(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* Where the pages differ next, from @at on; @len if nowhere. */
static size_t next_difference(const uint8_t *old, const uint8_t *now,
                              size_t at, size_t len)
{
    while (at < len && at % WORD_BYTES) {
        if (old[at] != now[at]) {
            return at;
        }
        at++;
    }
    while (at + STEP_BYTES <= len &&
           !memcmp(old + at, now + at, STEP_BYTES)) {
        at += STEP_BYTES;
    }
    while (at + WORD_BYTES <= len && word_at(old + at) == word_at(now + at)) {
        at += WORD_BYTES;
    }
    while (at < len && old[at] == now[at]) {
        at++;
    }
    return at;
}

/* Does any octet of these two words equal the other's?  A word without a zero
 * octet is told by the borrow that each zero octet leaves in its top bit. */
static bool has_equal_octet(uint64_t a, uint64_t b)
{
    uint64_t x = a ^ b;

    return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

/* The end of a run of differing octets that begins at @at: where at least
 * JOIN_BYTES equal ones, or the end of the page, follow. */
static size_t end_of_run(const uint8_t *old, const uint8_t *now, size_t at,
                         size_t len)
{
    size_t end = at;

    while (at < len && at - end < JOIN_BYTES) {
        if (at + WORD_BYTES <= len &&
            !has_equal_octet(word_at(old + at), word_at(now + at))) {
            at += WORD_BYTES;
            end = at;
        } else {
            at++;
            if (old[at - 1] != now[at - 1]) {
                end = at;
            }
        }
    }
    return end;
}

static bool put_number(Writer *to, size_t number)
{
    do {
        if (to->at == to->end) {
            return false;
        }
        *to->at++ = (number & 0x7f) | (number > 0x7f ? 0x80 : 0);
        number >>= 7;
    } while (number);
    return true;
}

static bool put_octets(Writer *to, const uint8_t *from, size_t len)
{
    if ((size_t)(to->end - to->at) < len) {
        return false;
    }
    memcpy(to->at, from, len);
    to->at += len;
    return true;
}

ssize_t curling_delta_encode(const uint8_t *old, const uint8_t *now,
                             size_t page_bytes, uint8_t *to, size_t max_bytes)
{
    Writer writer = { .at = to, .end = to + max_bytes };
    size_t done = 0;
    size_t at;

    while ((at = next_difference(old, now, done, page_bytes)) < page_bytes) {
        size_t end = end_of_run(old, now, at, page_bytes);

        if (!put_number(&writer, at - done) ||
            !put_number(&writer, end - at) ||
            !put_octets(&writer, now + at, end - at)) {
            return -1;
        }
        done = end;
    }
    return writer.at - to;
}

/* False at the end of the delta, or for more than three octets. */
static bool get_number(const uint8_t **at, const uint8_t *end, size_t *number)
{
    *number = 0;
    for (unsigned int shift = 0; shift < 21; shift += 7) {
        uint8_t octet;

        if (*at == end) {
            return false;
        }
        octet = *(*at)++;
        *number |= (size_t)(octet & 0x7f) << shift;
        if (!(octet & 0x80)) {
            return true;
        }
    }
    return false;
}

int curling_delta_check(const uint8_t *delta, size_t len_bytes,
                        size_t page_bytes, CurlingError *err)
{
    const uint8_t *end = delta + len_bytes;
    size_t done = 0;

    while (delta < end) {
        size_t stay, fresh;

        if (!get_number(&delta, end, &stay) ||
            !get_number(&delta, end, &fresh) ||
            fresh > (size_t)(end - delta)) {
            return curling_error_set(err, -EPROTO, "a run of a delta is cut "
                                     "short: got %zu octets of it",
                                     (size_t)(end - delta));
        }
        if (!fresh || stay > page_bytes - done ||
            fresh > page_bytes - done - stay) {
            return curling_error_set(err, -EPROTO, "a run of a delta is not "
                                     "within its page: got %zu octets at %zu, "
                                     "expected at least 1 below %zu", fresh,
                                     done + stay, page_bytes);
        }
        done += stay + fresh;
        delta += fresh;
    }
    return 0;
}

void curling_delta_apply(const uint8_t *delta, size_t len_bytes,
                         uint8_t *page, size_t page_bytes)
{
    const uint8_t *end = delta + len_bytes;
    size_t done = 0;
    size_t stay, fresh;

    /* What was checked is right; whoever did not check writes no further
     * than the page all the same. */
    while (delta < end && get_number(&delta, end, &stay) &&
           get_number(&delta, end, &fresh) &&
           fresh <= (size_t)(end - delta) && stay <= page_bytes - done &&
           fresh <= page_bytes - done - stay) {
        memcpy(page + done + stay, delta, fresh);
        done += stay + fresh;
        delta += fresh;
    }
}
