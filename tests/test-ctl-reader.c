/*
 * Fault: what comes from a QMP server is cut at any octet, too long, nested
 * too deep, or no row of JSON objects at all.
 * Invariant: the same objects however they were cut, or an error that stays
 * one, with words that a terminal may see; memory does not grow.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include "ctl-assert.h"

#include "ctl-json.h"
#include "ctl-reader.h"

#define MIB ((size_t)1 << 20)

/* Take all that is whole into @objects, each with a "|" behind it */
static void take_all(CtlReader *reader, GString *objects, GError **err)
{
    const char *object;
    size_t len = 0;

    while ((object = ctl_reader_next(reader, &len, err))) {
        g_string_append_len(objects, object, len);
        g_string_append_c(objects, '|');
    }
}

/* Nothing is left, and no object has begun */
static void assert_empty(CtlReader *reader)
{
    GError *err = NULL;
    size_t len = 0;

    assert_null(ctl_reader_next(reader, &len, &err));
    assert_null(err);
    assert_false(ctl_reader_is_inside(reader));
}

/* The error of @reader stays, whatever comes after it */
static void assert_broken(CtlReader *reader, const char *part)
{
    for (int i = 0; i < 3; i++) {
        GError *err = NULL;
        size_t len = 0;

        assert_null(ctl_reader_next(reader, &len, &err));
        assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_BAD_PEER));
        assert_contains(err->message, part);
        assert_clean(err->message);
        g_error_free(err);
        ctl_reader_feed(reader, "{}\r\n", 4);
    }
}

/* ---- Objects ------------------------------------------------------------- */

typedef struct Row {
    const char *text;
    const char *objects;        /* as take_all() makes them */
    bool inside;                /* and another one has begun */
} Row;

static const Row rows[] = {
    { "", "", false },
    { " \t\r\n", "", false },
    { "{}", "{}|", false },
    { "{}{}{}", "{}|{}|{}|", false },
    { " {} \r\n\t{ }\n", "{}|{ }|", false },
    { "{\"a\": 1}\r\n{\"b\": 2}\r\n", "{\"a\": 1}|{\"b\": 2}|", false },
    { "{\n    \"return\": {\n        \"a\": [\n            1\n        ]\n"
      "    }\n}\n", "{\n    \"return\": {\n        \"a\": [\n            1\n"
      "        ]\n    }\n}|", false },
    { "{\"a\": [{\"b\": {}}, [], [[]]]}{}", "{\"a\": [{\"b\": {}}, [], [[]]]}|"
      "{}|", false },
    /* Braces in texts, and quotes that do not end one */
    { "{\"}\": \"{\"}", "{\"}\": \"{\"}|", false },
    { "{\"a\": \"]}]}\"}{}", "{\"a\": \"]}]}\"}|{}|", false },
    { "{\"a\": \"[[[{{{\"}{}", "{\"a\": \"[[[{{{\"}|{}|", false },
    { "{\"a\": \"\\\"}\"}{}", "{\"a\": \"\\\"}\"}|{}|", false },
    { "{\"a\": \"\\\\\"}{}", "{\"a\": \"\\\\\"}|{}|", false },
    { "{\"a\": \"\\\\\\\"}\"}{}", "{\"a\": \"\\\\\\\"}\"}|{}|", false },
    { "{\"a\": \"\\u007d\\n\"}", "{\"a\": \"\\u007d\\n\"}|", false },
    { "{\"\xc3\xa9\": \"\xe2\x82\xac}\"}", "{\"\xc3\xa9\": \"\xe2\x82\xac}\"}|",
      false },
    /* Not whole */
    { "{", "", true },
    { "{}{", "{}|", true },
    { "{\"a", "", true },
    { "{\"a\\", "", true },
    { "{\"a\": \"}", "", true },
    { "{\"a\": \"}\\\"}", "", true },
    { "{\"a\": [}", "", true },
    { "{}\n{\"return\": {}", "{}|", true },
};

/* In two pieces, the first one of @first octets; look in between or not */
static void try_split(const Row *row, size_t first, bool look)
{
    g_autoptr(GString) objects = g_string_new(NULL);
    CtlReader *reader = ctl_reader_new();
    size_t len = strlen(row->text);
    GError *err = NULL;

    ctl_reader_feed(reader, row->text, first);
    if (look) {
        take_all(reader, objects, &err);
        assert_null(err);
    }
    ctl_reader_feed(reader, row->text + first, len - first);
    take_all(reader, objects, &err);
    assert_null(err);
    assert_string_equal(objects->str, row->objects);
    assert_int_equal(ctl_reader_is_inside(reader), row->inside);
    ctl_reader_free(reader);
}

static void test_every_split_point(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (size_t first = 0; first <= strlen(rows[i].text); first++) {
            try_split(&rows[i], first, true);
            try_split(&rows[i], first, false);
        }
    }
}

static void test_octet_by_octet(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GString) objects = g_string_new(NULL);
        CtlReader *reader = ctl_reader_new();
        GError *err = NULL;

        for (const char *c = rows[i].text; *c; c++) {
            /* Of its own, so that ASan sees who reads beyond */
            char *piece = g_memdup2(c, 1);

            ctl_reader_feed(reader, piece, 1);
            g_free(piece);
            take_all(reader, objects, &err);
            assert_null(err);
        }
        assert_string_equal(objects->str, rows[i].objects);
        assert_int_equal(ctl_reader_is_inside(reader), rows[i].inside);
        ctl_reader_free(reader);
    }
}

/* An object stays what it is until the next call */
static void test_object_is_valid_until_the_next_call(void **state)
{
    CtlReader *reader = ctl_reader_new();
    const char *object;
    GError *err = NULL;
    size_t len = 0;

    (void)state;
    ctl_reader_feed(reader, "{\"a\": 1} {\"b\": 22} {", 20);
    object = ctl_reader_next(reader, &len, &err);
    assert_int_equal(len, 8);
    assert_memory_equal(object, "{\"a\": 1}", 8);
    object = ctl_reader_next(reader, &len, &err);
    assert_int_equal(len, 9);
    assert_memory_equal(object, "{\"b\": 22}", 9);
    assert_null(ctl_reader_next(reader, &len, &err));
    assert_null(err);
    assert_true(ctl_reader_is_inside(reader));
    ctl_reader_free(reader);
    ctl_reader_free(NULL);
}

/* ---- Limits -------------------------------------------------------------- */

/* An object of exactly @len octets; freed by the caller */
static char *object_of(size_t len)
{
    char *text = g_malloc(len);

    memset(text, 'x', len);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + len - 2, "\"}", 2);
    return text;
}

/* Before it, something that is taken already */
static CtlReader *fed_with(const char *text, size_t len, size_t piece)
{
    CtlReader *reader = ctl_reader_new();
    size_t taken = 0;

    ctl_reader_feed(reader, "\r\n{}\r\n", 6);
    assert_non_null(ctl_reader_next(reader, &taken, NULL));
    assert_empty(reader);
    for (size_t at = 0; at < len; at += piece) {
        ctl_reader_feed(reader, text + at, MIN(piece, len - at));
        if (at + piece < len && piece < len) {
            GError *err = NULL;

            /* The last piece is the caller's to look at. */
            assert_null(ctl_reader_next(reader, &taken, &err));
            assert_null(err);
        }
    }
    return reader;
}

static void test_size_at_the_limit(void **state)
{
    static const size_t pieces[] = { CTL_READER_MAX_BYTES, 65536, 1000003 };
    g_autofree char *text = object_of(CTL_READER_MAX_BYTES);

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(pieces); i++) {
        CtlReader *reader = fed_with(text, CTL_READER_MAX_BYTES, pieces[i]);
        GError *err = NULL;
        size_t len = 0;
        const char *object = ctl_reader_next(reader, &len, &err);

        assert_null(err);
        assert_int_equal(len, CTL_READER_MAX_BYTES);
        assert_memory_equal(object, text, len);
        assert_empty(reader);
        ctl_reader_feed(reader, "{}", 2);
        assert_non_null(ctl_reader_next(reader, &len, &err));
        ctl_reader_free(reader);
    }
}

static void test_size_over_the_limit(void **state)
{
    static const size_t pieces[] = { CTL_READER_MAX_BYTES + 1, 65536 };
    g_autofree char *text = object_of(CTL_READER_MAX_BYTES + 1);

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(pieces); i++) {
        CtlReader *reader;

        /* Without its end as well: nobody waits for that. */
        for (size_t less = 0; less < 2; less++) {
            size_t len = CTL_READER_MAX_BYTES + 1 - less;

            reader = ctl_reader_new();
            ctl_reader_feed(reader, text, len);
            assert_broken(reader, "more than 8 MiB");
            ctl_reader_free(reader);
        }
        reader = ctl_reader_new();
        for (size_t at = 0; at <= CTL_READER_MAX_BYTES; at += pieces[i]) {
            ctl_reader_feed(reader, text + at,
                            MIN(pieces[i], CTL_READER_MAX_BYTES + 1 - at));
        }
        assert_broken(reader, "more than 8 MiB");
        ctl_reader_free(reader);
    }
}

/* Objects that are short each may be long together */
static void test_many_objects_are_no_long_one(void **state)
{
    g_autofree char *text = object_of(MIB);
    CtlReader *reader = ctl_reader_new();
    GError *err = NULL;
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 12; i++) {
        ctl_reader_feed(reader, text, MIB);
    }
    for (int i = 0; i < 12; i++) {
        const char *object = ctl_reader_next(reader, &len, &err);

        assert_non_null(object);
        assert_int_equal(len, MIB);
        assert_memory_equal(object, text, MIB);
    }
    assert_empty(reader);
    ctl_reader_free(reader);
}

/* @depth braces and brackets in each other, @depth >= 2; freed by the
 * caller */
static char *nested(size_t depth)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < depth; i++) {
        g_string_append(text, i == 0 ? "{\"a\":" : "[");
    }
    for (size_t i = 0; i < depth; i++) {
        g_string_append_c(text, i == depth - 1 ? '}' : ']');
    }
    return g_string_free(text, FALSE);
}

static void test_depth_at_and_over_the_limit(void **state)
{
    g_autofree char *at = nested(CTL_READER_MAX_DEPTH);
    g_autofree char *over = nested(CTL_READER_MAX_DEPTH + 1);
    CtlReader *reader = ctl_reader_new();
    const char *object;
    GError *err = NULL;
    size_t len = 0;
    CtlJson *value;

    (void)state;
    ctl_reader_feed(reader, at, strlen(at));
    object = ctl_reader_next(reader, &len, &err);
    assert_null(err);
    assert_int_equal(len, strlen(at));
    value = ctl_json_parse(object, len, &err);
    assert_null(err);
    assert_non_null(value);
    ctl_json_free(value);
    assert_empty(reader);
    /* The next object begins at no depth. */
    ctl_reader_feed(reader, at, strlen(at));
    assert_non_null(ctl_reader_next(reader, &len, &err));
    ctl_reader_feed(reader, over, strlen(over));
    assert_broken(reader, "1025 levels deep, expected 1024 at most");
    ctl_reader_free(reader);
    /* In a text they are none. */
    reader = ctl_reader_new();
    ctl_reader_feed(reader, "{\"", 2);
    for (int i = 0; i < 3000; i++) {
        ctl_reader_feed(reader, "[{", 2);
    }
    ctl_reader_feed(reader, "\":1}", 4);
    assert_non_null(ctl_reader_next(reader, &len, &err));
    assert_int_equal(len, 6006);
    ctl_reader_free(reader);
}

/* ---- What is no row of objects ------------------------------------------- */

typedef struct Garbage {
    const char *text;
    size_t len;
    const char *objects;        /* that come before */
    const char *part;           /* of the sentence */
} Garbage;

#define GARBAGE(bytes, objects, part) \
    { bytes, sizeof(bytes) - 1, objects, part }

static const Garbage garbage[] = {
    GARBAGE("x", "", "it says \"x\" where a JSON object should begin"),
    GARBAGE("HTTP/1.1 400 Bad Request\r\n\r\n", "",
            "it says \"HTTP/1.1 400 Bad Request"),
    GARBAGE("SSH-2.0-OpenSSH_9.2p1\r\n", "", "\"SSH-2.0-OpenSSH_9.2p1"),
    GARBAGE("  \r\n\tGET / HTTP/1.0", "", "\"GET / HTTP/1.0\""),
    GARBAGE("[{}]", "", "where a JSON object should begin"),
    GARBAGE("]", "", "where a JSON object should begin"),
    GARBAGE("}", "", "where a JSON object should begin"),
    GARBAGE("\"{}\"", "", "where a JSON object should begin"),
    GARBAGE("1 {}", "", "where a JSON object should begin"),
    GARBAGE("{}x", "{}|", "\"x\""),
    GARBAGE("{}}{}", "{}|", "where a JSON object should begin"),
    GARBAGE("{}\r\n{\"a\": 1},{}", "{}|{\"a\": 1}|",
            "where a JSON object should begin"),
    GARBAGE("\0\0\0", "", "where a JSON object should begin"),
    GARBAGE("\xff\xfe{\0}\0", "", "where a JSON object should begin"),
    GARBAGE("\xef\xbb\xbf{}", "", "where a JSON object should begin"),
    GARBAGE("\x16\x03\x01\x02\x00\x01\x00", "",
            "where a JSON object should begin"),
    GARBAGE("\v{}", "", "where a JSON object should begin"),
    GARBAGE("\x1b[2J\x1b]0;owned\x07", "", "owned"),
    GARBAGE("\xc2\x9b" "31mred \xe2\x80\xae" "ver", "", "31mred"),
};

static void test_garbage(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        const Garbage *g = &garbage[i];

        for (size_t first = 0; first <= g->len; first++) {
            g_autoptr(GString) objects = g_string_new(NULL);
            CtlReader *reader = ctl_reader_new();
            g_autoptr(GError) err = NULL;

            ctl_reader_feed(reader, g->text, first);
            take_all(reader, objects, &err);
            ctl_reader_feed(reader, g->text + first, g->len - first);
            if (!err) {
                take_all(reader, objects, &err);
            }
            assert_non_null(err);
            assert_clean(err->message);
            assert_string_equal(objects->str, g->objects);
            assert_broken(reader, first == 0 ? g->part :
                          "where a JSON object should begin");
            ctl_reader_free(reader);
        }
    }
}

/* However much of it comes, the sentence is one that is read */
static void test_long_garbage_makes_a_short_sentence(void **state)
{
    g_autofree char *text = g_strnfill(100000, 'x');
    CtlReader *reader = ctl_reader_new();
    g_autoptr(GError) err = NULL;
    size_t len = 0;

    (void)state;
    ctl_reader_feed(reader, text, 100000);
    assert_null(ctl_reader_next(reader, &len, &err));
    assert_non_null(err);
    assert_true(strlen(err->message) < 200);
    ctl_reader_free(reader);
}

/* The reader tells objects by their braces alone; what it hands out that is
 * none is refused by who parses it. */
static void test_what_only_looks_like_an_object_is_not_parsed(void **state)
{
    static const char *const texts[] = {
        "{]", "{[}}", "{[)]}", "{\"a\"}", "{\"a\": }", "{\"a\": 1,}",
        "{'a': 1}", "{\"a\": 01}", "{\"a\": \"\xff\"}", "{\"a\": \"\n\"}",
        "{\"a\": \"\\x\"}", "{\"a\": \"\\ud800\"}", "{\"a\": \"\\u0000\"}",
        "{\"a\": 1, \"a\": 2}", "{\"a\": 1e999}", "{\"a\": NaN}",
        "{\"a\": \"\xed\xa0\x80\"}", "{\"a\": \"\xc0\x80\"}", "{\x1b: 1}",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        CtlReader *reader = ctl_reader_new();
        GError *err = NULL;
        size_t len = 0;
        const char *object;

        ctl_reader_feed(reader, texts[i], strlen(texts[i]));
        object = ctl_reader_next(reader, &len, &err);
        assert_null(err);
        if (!object) {
            fail_msg("\"%s\" is not handed out", texts[i]);
        }
        if (ctl_json_parse(object, len, &err)) {
            fail_msg("\"%s\" is taken for JSON", texts[i]);
        }
        assert_true(g_error_matches(err, CTL_ERROR, CTL_ERROR_BAD_PEER));
        assert_contains(err->message, "no JSON: ");
        assert_clean(err->message);
        g_error_free(err);
        ctl_reader_free(reader);
    }
}

/* ---- Memory -------------------------------------------------------------- */

static size_t peak_bytes(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (size_t)usage.ru_maxrss * 1024;
}

/* Nothing but space, and then more than anybody hears */
static void test_memory_does_not_grow(void **state)
{
    g_autofree char *spaces = g_strnfill(65536, ' ');
    g_autofree char *letters = g_strnfill(65536, 'x');
    CtlReader *reader = ctl_reader_new();
    size_t before = peak_bytes();
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 1024; i++) {
        ctl_reader_feed(reader, spaces, 65536);
        assert_null(ctl_reader_next(reader, &len, NULL));
    }
    assert_empty(reader);
    ctl_reader_feed(reader, "x", 1);
    assert_null(ctl_reader_next(reader, &len, NULL));
    for (int i = 0; i < 1024; i++) {
        ctl_reader_feed(reader, letters, 65536);
    }
    assert_broken(reader, "where a JSON object should begin");
    assert_true(peak_bytes() - before < 16 * MIB);
    ctl_reader_free(reader);
}

/* ---- Values -------------------------------------------------------------- */

static CtlJson *parsed(const char *text)
{
    GError *err = NULL;
    CtlJson *value = ctl_json_parse(text, strlen(text), &err);

    if (err) {
        fail_msg("%s: %s", text, err->message);
    }
    return value;
}

typedef struct Path {
    const char *path;
    const char *plain;          /* of what is there; NULL: nothing is */
} Path;

static void test_paths(void **state)
{
    static const Path paths[] = {
        { "", "{\"a\":{\"b\":[1,\"two\",{\"c\":null}],\"\":7},\"0\":true}" },
        { "a.b.0", "1" }, { "a.b.1", "two" }, { "a.b.2.c", "null" },
        { "0", "true" }, { "a.", "7" },
        { "b", NULL }, { "a.c", NULL }, { "a.b.3", NULL }, { "a.b.-1", NULL },
        { "a.b.+1", NULL }, { "a.b.x", NULL }, { "a.b.", NULL },
        { "a.b.0.c", NULL }, { "a.b.1.0", NULL }, { "0.0", NULL },
        { ".a", NULL }, { ".", NULL }, { "a.b.2147483648", NULL },
        { "a.b.99999999999999999999999", NULL },
    };
    g_autoptr(CtlJson) value = parsed(paths[0].plain);

    (void)state;
    assert_ptr_equal(ctl_json_get(value, NULL), value);
    assert_null(ctl_json_get(NULL, "a"));
    assert_null(ctl_json_get(NULL, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        const CtlJson *found = ctl_json_get(value, paths[i].path);
        g_autofree char *plain = found ? ctl_json_plain(found) : NULL;

        if (g_strcmp0(plain, paths[i].plain)) {
            fail_msg("at \"%s\": %s", paths[i].path, plain ? plain : "nothing");
        }
    }
}

static void test_other_types_are_not_taken(void **state)
{
    g_autoptr(CtlJson) value = parsed("{\"i\": 12, \"t\": \"x\", \"r\": 1.5, "
                                      "\"b\": true, \"n\": null, "
                                      "\"a\": [1, 2], \"o\": {\"k\": 1}}");

    (void)state;
    assert_string_equal(ctl_json_text(value, "t", "-"), "x");
    assert_string_equal(ctl_json_text(value, "i", "-"), "-");
    assert_string_equal(ctl_json_text(value, "n", "-"), "-");
    assert_string_equal(ctl_json_text(NULL, "t", "-"), "-");
    assert_int_equal(ctl_json_int(value, "i", -5), 12);
    assert_int_equal(ctl_json_int(value, "r", -5), -5);
    assert_int_equal(ctl_json_int(value, "t", -5), -5);
    assert_true(ctl_json_bool(value, "b"));
    assert_false(ctl_json_bool(value, "i"));
    assert_false(ctl_json_bool(NULL, "b"));
    assert_int_equal(ctl_json_count(value, "a"), 2);
    assert_int_equal(ctl_json_count(value, "o"), 1);
    assert_int_equal(ctl_json_count(value, "t"), 0);
    assert_int_equal(ctl_json_count(NULL, NULL), 0);
    assert_null(ctl_json_at(ctl_json_get(value, "a"), 2));
    assert_null(ctl_json_at(value, 0));
    assert_null(ctl_json_at(NULL, 0));
}

/* What a peer said is printed: it must do nothing to a terminal. */
static void test_plain_is_clean(void **state)
{
    static const char *const texts[] = {
        "\"\\u001b[31m\\u0007\"", "\"\\u009b31m\"", "\"a\\nb\"",
        "\"\\u202exyz\"", "\"\\u007f\"",
        /* jansson escapes only what is below U+0020. */
        "[\"\\u001b[31m\"]", "{\"\\u001b\": 1}",
        "[\"\\u009b31m\"]", "{\"\\u009b31m\": 1}", "[\"\\u007f\"]",
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(CtlJson) value = parsed(texts[i]);
        g_autofree char *plain = ctl_json_plain(value);

        assert_clean(plain);
    }
}

/* QMP has numbers up to 2^64 - 1, as in GUEST_PANICKED of a Windows guest. */
static void test_large_numbers_are_json(void **state)
{
    static const char text[] =
        "{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"pause\", "
        "\"info\": {\"type\": \"hyper-v\", \"arg1\": 18446735293831475712, "
        "\"arg2\": 5}}}";
    g_autoptr(CtlJson) value = parsed(text);

    (void)state;
    assert_string_equal(ctl_json_text(value, "event", ""), "GUEST_PANICKED");
    assert_int_equal(ctl_json_int(value, "data.info.arg2", 0), 5);
}

static int set_alarm(void **state)
{
    (void)state;
    alarm(300);
    return 0;
}

static int stop_alarm(void **state)
{
    (void)state;
    alarm(0);
    return 0;
}

#define CASE(name) \
    cmocka_unit_test_setup_teardown(name, set_alarm, stop_alarm)

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* The first one: it looks at the most that was ever used. */
        CASE(test_memory_does_not_grow),
        CASE(test_every_split_point),
        CASE(test_octet_by_octet),
        CASE(test_object_is_valid_until_the_next_call),
        CASE(test_size_at_the_limit),
        CASE(test_size_over_the_limit),
        CASE(test_many_objects_are_no_long_one),
        CASE(test_depth_at_and_over_the_limit),
        CASE(test_garbage),
        CASE(test_long_garbage_makes_a_short_sentence),
        CASE(test_what_only_looks_like_an_object_is_not_parsed),
        CASE(test_paths),
        CASE(test_other_types_are_not_taken),
        CASE(test_plain_is_clean),
        CASE(test_large_numbers_are_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
