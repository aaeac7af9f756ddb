/*
 * Fuzz: what comes from a QMP server, or from somebody who is none
 *
 * Input: an octet, how many pieces there are (its number modulo 8); for each
 * an octet, how long it is, 0 being 256: they are taken in turn, again and
 * again; then the octets that come.
 * Invariants: objects do not depend on how they are cut; each begins with a
 * brace and ends with one, or is no JSON; an error stays one; what is parsed
 * comes back from its own text; no sentence, and nothing that is shown, does
 * anything to a terminal.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>

#include "ctl-json.h"
#include "ctl-reader.h"
#include "fuzz.h"

#define PIECES_MAX 7

/* ---- Words --------------------------------------------------------------- */

static void check_clean(const char *text)
{
    must(g_utf8_validate(text, -1, NULL));
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        must(g_unichar_isprint(g_utf8_get_char(c)));
    }
}

static void check_error(GError *err)
{
    must(g_error_matches(err, CTL_ERROR, CTL_ERROR_BAD_PEER));
    must(*err->message && strlen(err->message) < 1000);
    check_clean(err->message);
}

static void check_quote(const char *text)
{
    static const size_t most[] = { 0, 1, 10, 500 };

    for (size_t i = 0; i < G_N_ELEMENTS(most); i++) {
        char *quoted = ctl_quote(text, most[i]);

        check_clean(quoted);
        must((size_t)g_utf8_strlen(quoted, -1) <= most[i] + strlen("..."));
        g_free(quoted);
    }
}

/* ---- Values -------------------------------------------------------------- */

/* Of an array its elements; members of an object are asked for by name. */
static void check_value(const CtlJson *value, unsigned int depth)
{
    const char *text = ctl_json_text(value, NULL, NULL);
    size_t count = ctl_json_count(value, NULL);
    char *plain = ctl_json_plain(value);

    must(ctl_json_get(value, NULL) == value);
    must(ctl_json_get(value, "") == value);
    check_clean(plain);
    g_free(plain);
    if (text) {
        must(g_utf8_validate(text, -1, NULL));
        check_quote(text);
    }
    must(!ctl_json_at(value, count));
    for (size_t i = 0; ctl_json_at(value, 0) && i < count; i++) {
        char *path = g_strdup_printf("%zu", i);

        must(ctl_json_get(value, path) == ctl_json_at(value, i));
        check_value(ctl_json_at(value, i), depth + 1);
        g_free(path);
    }
    must(depth <= 2 * CTL_READER_MAX_DEPTH);
}

/* What curlingctl looks for, and what is on the way there something else */
static void check_paths(const CtlJson *value)
{
    static const char *const paths[] = {
        "QMP.version", "return", "error", "error.class", "error.desc", "event",
        "id", "return.status", "return.state", "return.last-round.number",
        "return.warnings.0", "return.0.name", "return.00", "return.-1",
        ".", "..", "return.", "0", "a.b.c",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        const CtlJson *found = ctl_json_get(value, paths[i]);
        size_t count = ctl_json_count(value, paths[i]);

        must(found || count == 0);
        must(found || ctl_json_int(value, paths[i], -77) == -77);
        must(found || !ctl_json_text(value, paths[i], NULL));
        must(found || !ctl_json_bool(value, paths[i]));
    }
}

static void check_parse(const char *text, size_t len, bool is_whole)
{
    GError *err = NULL;
    CtlJson *value = ctl_json_parse(text, len, &err);
    CtlJson *again;
    char *dump;

    must(!value == !!err);
    if (!value) {
        check_error(err);
        g_error_free(err);
        return;
    }
    must(!is_whole || text[len - 1] == '}');
    dump = ctl_json_dump(value);
    must(!strpbrk(dump, "\r\n"));
    again = ctl_json_parse(dump, strlen(dump), &err);
    must(again && !err);
    must(ctl_json_equal(value, again));
    check_paths(value);
    check_value(value, 0);
    g_free(dump);
    ctl_json_free(again);
    ctl_json_free(value);
}

/* ---- A row of objects ---------------------------------------------------- */

typedef struct Row {
    CtlReader *reader;
    GPtrArray *objects;         /* of GBytes */
    bool broken;
} Row;

static void row_init(Row *row)
{
    row->reader = ctl_reader_new();
    row->objects = g_ptr_array_new_with_free_func((GDestroyNotify)
                                                  g_bytes_unref);
    row->broken = false;
}

static void row_destroy(Row *row)
{
    ctl_reader_free(row->reader);
    g_ptr_array_unref(row->objects);
}

static void row_feed(Row *row, const uint8_t *bytes, size_t len)
{
    /* Exactly as long as it is: ASan sees who goes beyond, or comes late. */
    char *piece = malloc(len ? len : 1);
    const char *object;
    GError *err = NULL;
    size_t object_len = 0;

    must(piece);
    if (len) {
        memcpy(piece, bytes, len);
    }
    ctl_reader_feed(row->reader, piece, len);
    free(piece);
    while ((object = ctl_reader_next(row->reader, &object_len, &err))) {
        must(!err && !row->broken);
        must(object_len >= 2 && object_len <= CTL_READER_MAX_BYTES);
        must(object[0] == '{');
        must(object[object_len - 1] == '}' || object[object_len - 1] == ']');
        g_ptr_array_add(row->objects, g_bytes_new(object, object_len));
    }
    if (err) {
        check_error(err);
        g_error_free(err);
        row->broken = true;
    } else {
        /* Once an error, always one */
        must(!row->broken);
    }
}

static void must_be_same(const Row *a, const Row *b)
{
    must(a->broken == b->broken);
    must(a->objects->len == b->objects->len);
    for (size_t i = 0; i < a->objects->len; i++) {
        must(g_bytes_equal(g_ptr_array_index(a->objects, i),
                           g_ptr_array_index(b->objects, i)));
    }
    must(a->broken || ctl_reader_is_inside(a->reader) ==
                      ctl_reader_is_inside(b->reader));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    FuzzInput in = { data, len_bytes };
    size_t lengths[PIECES_MAX + 1] = { 0 };
    size_t number = fuzz_u8(&in) % (PIECES_MAX + 1);
    Row whole, pieces, octets;

    for (size_t i = 0; i < number; i++) {
        size_t length = fuzz_u8(&in);

        lengths[i] = length ? length : 256;
    }
    row_init(&whole);
    row_init(&pieces);
    row_init(&octets);
    row_feed(&whole, in.at, in.left);
    for (size_t i = 0; i < in.left; i++) {
        row_feed(&octets, in.at + i, 1);
    }
    for (size_t i = 0, at = 0; at < in.left; i++) {
        size_t len = number ? MIN(lengths[i % number], in.left - at) : 1;

        row_feed(&pieces, in.at + at, len);
        at += len;
    }
    must_be_same(&whole, &octets);
    must_be_same(&whole, &pieces);
    for (size_t i = 0; i < whole.objects->len; i++) {
        size_t len;
        const char *text = g_bytes_get_data(g_ptr_array_index(whole.objects,
                                                              i), &len);

        check_parse(text, len, true);
    }
    /* And what nobody has cut */
    check_parse((const char *)in.at, in.left, false);
    row_destroy(&whole);
    row_destroy(&pieces);
    row_destroy(&octets);
    return 0;
}
