/*
 * For tests without zstd: a codec that counts how often an octet repeats
 *
 * What it makes is pairs of octets, how often (1 to 255) and which.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_TOY_CODEC_H
#define TESTS_TOY_CODEC_H

#include <stdlib.h>
#include <string.h>

#include "pack.h"

/* A context has nothing in it; a sanitizer sees whether it is given back. */
static void *toy_context_new(void)
{
    return calloc(1, 1);
}

static size_t toy_pack(void *context, const uint8_t *from, size_t len_bytes,
                       uint8_t *to, size_t max_bytes)
{
    size_t len = 0;

    (void)context;
    for (size_t at = 0; at < len_bytes; ) {
        size_t run = 1;

        while (run < 255 && at + run < len_bytes &&
               from[at + run] == from[at]) {
            run++;
        }
        if (max_bytes - len < 2) {
            return 0;
        }
        to[len++] = (uint8_t)run;
        to[len++] = from[at];
        at += run;
    }
    return len;
}

static ssize_t toy_unpack(void *context, const uint8_t *from,
                          size_t len_bytes, uint8_t *to, size_t max_bytes)
{
    size_t len = 0;

    (void)context;
    for (size_t at = 0; at < len_bytes; at += 2) {
        if (len_bytes - at < 2 || !from[at] || from[at] > max_bytes - len) {
            return -1;
        }
        memset(to + len, from[at + 1], from[at]);
        len += from[at];
    }
    return (ssize_t)len;
}

static const CurlingCodec toy_codec = {
    .context_new = toy_context_new,
    .context_free = free,
    .pack = toy_pack,
    .unpack = toy_unpack,
};

#endif
