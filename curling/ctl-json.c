/*
 * JSON values over jansson
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <jansson.h>
#include "ctl-json.h"

/* A double has all integers up to this. */
#define EXACT_REALS 0x1p53

CtlJson *ctl_json_parse(const char *text, size_t len_bytes, GError **err)
{
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_error_t where;
    json_t *value = json_loadb(text, len_bytes, flags, &where);

    /* QEMU's unsigned numbers may be larger than jansson's integers. */
    if (!value && json_error_code(&where) == json_error_numeric_overflow) {
        value = json_loadb(text, len_bytes, flags | JSON_DECODE_INT_AS_REAL,
                           &where);
    }
    if (!value) {
        g_autofree char *reason = ctl_quote(where.text, 100);

        g_set_error(err, CTL_ERROR, CTL_ERROR_BAD_PEER, "no JSON: %s", reason);
    }
    return value;
}

char *ctl_json_dump(const CtlJson *value)
{
    /* In ASCII nothing in it can do anything to a terminal. */
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY |
                            JSON_ENSURE_ASCII);
    GString *copy = g_string_new(text);

    free(text);
    g_string_replace(copy, "\x7f", "\\u007f", 0);
    return g_string_free(copy, FALSE);
}

CtlJson *ctl_json_new_list(const char *fmt, va_list args)
{
    json_error_t where;

    return json_vpack_ex(&where, 0, fmt, args);
}

CtlJson *ctl_json_new(const char *fmt, ...)
{
    CtlJson *value;
    va_list args;

    va_start(args, fmt);
    value = ctl_json_new_list(fmt, args);
    va_end(args);
    return value;
}

void ctl_json_free(CtlJson *value)
{
    json_decref(value);
}

CtlJson *ctl_json_ref(const CtlJson *value)
{
    return json_incref((json_t *)value);
}

void ctl_json_set(CtlJson *object, const char *key, CtlJson *value)
{
    json_object_set_new(object, key, value);
}

void ctl_json_append(CtlJson *array, CtlJson *value)
{
    json_array_append_new(array, value);
}

const CtlJson *ctl_json_get(const CtlJson *value, const char *path)
{
    g_auto(GStrv) keys = NULL;

    if (!path || !*path) {
        return value;
    }
    keys = g_strsplit(path, ".", -1);
    for (char **key = keys; *key && value; key++) {
        if (json_is_array(value)) {
            guint64 index;

            value = g_ascii_string_to_unsigned(*key, 10, 0, G_MAXINT32, &index,
                                               NULL) ?
                    json_array_get(value, index) : NULL;
        } else {
            value = json_object_get(value, *key);
        }
    }
    return value;
}

const char *ctl_json_text(const CtlJson *value, const char *path,
                          const char *other)
{
    const char *text = json_string_value(ctl_json_get(value, path));

    return text ? text : other;
}

int64_t ctl_json_int(const CtlJson *value, const char *path, int64_t other)
{
    const json_t *number = ctl_json_get(value, path);

    if (json_is_real(number) &&
        ABS(json_real_value(number)) < EXACT_REALS &&
        json_real_value(number) == (int64_t)json_real_value(number)) {
        return json_real_value(number);
    }
    return json_is_integer(number) ? json_integer_value(number) : other;
}

int64_t ctl_json_amount(const CtlJson *value, const char *path)
{
    int64_t amount = ctl_json_int(value, path, -1);

    return amount < 0 ? -1 : MIN(amount, INT64_MAX / 1000000);
}

bool ctl_json_bool(const CtlJson *value, const char *path)
{
    return json_is_true(ctl_json_get(value, path));
}

size_t ctl_json_count(const CtlJson *value, const char *path)
{
    const json_t *found = ctl_json_get(value, path);

    return json_is_array(found) ? json_array_size(found) :
           json_object_size(found);
}

const CtlJson *ctl_json_at(const CtlJson *value, size_t index)
{
    return json_array_get(value, index);
}

bool ctl_json_equal(const CtlJson *a, const CtlJson *b)
{
    return json_equal(a, b);
}

char *ctl_json_plain(const CtlJson *value)
{
    return json_is_string(value) ? ctl_quote(json_string_value(value), 500) :
           ctl_json_dump(value);
}
