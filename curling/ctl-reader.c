/*
 * Cut what comes from a QMP server into JSON objects
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-reader.h"

struct CtlReader {
    GByteArray *bytes;          /* what came and is not taken yet */
    size_t taken;               /* so much of it was handed out */
    size_t seen;                /* so much of it was looked at */
    unsigned int depth;
    bool in_text;
    bool escaped;
    bool broken;
};

CtlReader *ctl_reader_new(void)
{
    CtlReader *reader = g_new0(CtlReader, 1);

    reader->bytes = g_byte_array_new();
    return reader;
}

void ctl_reader_free(CtlReader *reader)
{
    if (reader) {
        g_byte_array_unref(reader->bytes);
        g_free(reader);
    }
}

void ctl_reader_feed(CtlReader *reader, const char *bytes, size_t len_bytes)
{
    if (!reader->broken) {
        g_byte_array_append(reader->bytes, (const guint8 *)bytes, len_bytes);
    }
}

bool ctl_reader_is_inside(const CtlReader *reader)
{
    return reader->depth > 0;
}

static const char *fail(CtlReader *reader, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* Returns the sentence, of which the caller makes an error. */
static const char *fail(CtlReader *reader, const char *fmt, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    reader->broken = true;
    g_byte_array_set_size(reader->bytes, 0);
    g_byte_array_append(reader->bytes, (const guint8 *)text, strlen(text) + 1);
    return (const char *)reader->bytes->data;
}

/* Look at one byte.  True: an object ends with it. */
static bool see(CtlReader *reader, char byte)
{
    if (reader->in_text) {
        if (reader->escaped) {
            reader->escaped = false;
        } else if (byte == '\\') {
            reader->escaped = true;
        } else if (byte == '"') {
            reader->in_text = false;
        }
        return false;
    }
    switch (byte) {
    case '"':
        reader->in_text = true;
        return false;
    case '{':
    case '[':
        reader->depth++;
        return false;
    case '}':
    case ']':
        reader->depth--;
        return reader->depth == 0;
    }
    return false;
}

/* What is left of @reader's bytes moves to their start, now and then. */
static void drop_taken(CtlReader *reader)
{
    if (reader->taken > reader->bytes->len / 2) {
        g_byte_array_remove_range(reader->bytes, 0, reader->taken);
        reader->seen -= reader->taken;
        reader->taken = 0;
    }
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Something that is no object stands where one should begin. */
static const char *fail_start(CtlReader *reader)
{
    size_t len = MIN(reader->bytes->len - reader->seen, 60);
    g_autofree char *text = g_strndup((const char *)reader->bytes->data +
                                      reader->seen, len);
    g_autofree char *quoted = ctl_quote(text, 60);

    return fail(reader, "it says \"%s\" where a JSON object should begin",
                quoted);
}

/* Look at what came.  The length of an object that ends in it, or 0; then
 * @failure may be set. */
static size_t scan(CtlReader *reader, const char **failure)
{
    while (reader->seen < reader->bytes->len) {
        char byte = reader->bytes->data[reader->seen];

        if (reader->depth == 0) {
            if (is_space(byte)) {
                reader->seen++;
                reader->taken = reader->seen;
                continue;
            }
            if (byte != '{') {
                *failure = fail_start(reader);
                return 0;
            }
        }
        reader->seen++;
        if (see(reader, byte)) {
            return reader->seen - reader->taken;
        }
        if (reader->depth > CTL_READER_MAX_DEPTH) {
            *failure = fail(reader, "it says JSON that is nested %u levels "
                            "deep, expected %u at most", reader->depth,
                            CTL_READER_MAX_DEPTH);
            return 0;
        }
        if (reader->seen - reader->taken >= CTL_READER_MAX_BYTES) {
            *failure = fail(reader, "it says more than %d MiB at "
                            "once", CTL_READER_MAX_BYTES >> 20);
            return 0;
        }
    }
    return 0;
}

const char *ctl_reader_next(CtlReader *reader, size_t *len_bytes, GError **err)
{
    const char *failure = NULL;
    const char *object;

    if (reader->broken) {
        failure = (const char *)reader->bytes->data;
    } else {
        drop_taken(reader);
        *len_bytes = scan(reader, &failure);
    }
    if (failure) {
        g_set_error_literal(err, CTL_ERROR, CTL_ERROR_BAD_PEER, failure);
        return NULL;
    }
    if (*len_bytes == 0) {
        return NULL;
    }
    object = (const char *)reader->bytes->data + reader->taken;
    reader->taken = reader->seen;
    return object;
}
