/*
 * What must match on both sides
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"

#define SHOWN_BYTES 96

typedef struct Line {
    const char *key;
    size_t key_bytes;
    const char *value;
    size_t value_bytes;
    const char *next;
} Line;

/* Split off the first line of @text; false at the end. */
static bool next_line(const char *text, Line *line)
{
    size_t len_bytes = strcspn(text, "\n");
    const char *equals = memchr(text, '=', len_bytes);

    if (!*text) {
        return false;
    }
    line->key = text;
    line->key_bytes = equals ? (size_t)(equals - text) : len_bytes;
    line->value = equals ? equals + 1 : text + len_bytes;
    line->value_bytes = len_bytes - (size_t)(line->value - text);
    line->next = text + len_bytes + (text[len_bytes] == '\n');
    return true;
}

static const char *shown(const char *text, size_t len_bytes, char *to)
{
    return curling_error_quote(to, SHOWN_BYTES, text, len_bytes);
}

static bool same(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    return a_bytes == b_bytes && !memcmp(a, b, a_bytes);
}

static bool has_key(const char *text, const Line *wanted)
{
    Line line;

    while (next_line(text, &line)) {
        if (same(line.key, line.key_bytes, wanted->key, wanted->key_bytes)) {
            return true;
        }
        text = line.next;
    }
    return false;
}

static int only_on(const char *side, const char *other, const Line *line,
                   CurlingError *err)
{
    char key[SHOWN_BYTES];
    char value[SHOWN_BYTES];

    return curling_error_set(err, -EINVAL, "%s has %s %s, the %s has none",
                             side, shown(line->key, line->key_bytes, key),
                             shown(line->value, line->value_bytes, value),
                             other);
}

int curling_describe_compare(const char *sender, const char *receiver,
                             CurlingError *err)
{
    char key[SHOWN_BYTES];
    char theirs[SHOWN_BYTES];
    char ours[SHOWN_BYTES];
    Line s;
    Line r;

    for (;;) {
        bool more_s = next_line(sender, &s);
        bool more_r = next_line(receiver, &r);

        if (!more_s && !more_r) {
            return 0;
        }
        if (more_s && !has_key(receiver, &s)) {
            return only_on("the sender", "receiver", &s, err);
        }
        if (more_r && !has_key(sender, &r)) {
            return only_on("the receiver", "sender", &r, err);
        }
        if (!more_s || !more_r ||
            !same(s.key, s.key_bytes, r.key, r.key_bytes)) {
            return curling_error_set(err, -EINVAL, "the sides name the same "
                                     "things in another order or number");
        }
        if (!same(s.value, s.value_bytes, r.value, r.value_bytes)) {
            return curling_error_set(err, -EINVAL, "%s differs: the sender "
                                     "has %s, the receiver has %s",
                                     shown(s.key, s.key_bytes, key),
                                     shown(s.value, s.value_bytes, theirs),
                                     shown(r.value, r.value_bytes, ours));
        }
        sender = s.next;
        receiver = r.next;
    }
}
