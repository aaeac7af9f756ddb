/*
 * JSON values.  The only part of curlingctl that knows jansson.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_JSON_H
#define CURLING_CTL_JSON_H

#include "ctl.h"

typedef struct json_t CtlJson;

/* Parse @len_bytes of @text, which hold one value.  NULL: @err says where it
 * is no JSON.  Freed with ctl_json_free(). */
CtlJson *ctl_json_parse(const char *text, size_t len_bytes, GError **err);

/* One line of text, without a newline; freed with g_free(). */
char *ctl_json_dump(const CtlJson *value);

/* A value by jansson's pack format, such as "{s:s, s:I}"; integers are
 * json_int_t, that is long long.  NULL where a text is no UTF-8. */
CtlJson *ctl_json_new(const char *fmt, ...);
CtlJson *ctl_json_new_list(const char *fmt, va_list args);

/* Drop the caller's hold; NULL is fine. */
void ctl_json_free(CtlJson *value);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlJson, ctl_json_free)

/* Another hold on @value. */
CtlJson *ctl_json_ref(const CtlJson *value);

/* Set @object's @key to @value, which is taken. */
void ctl_json_set(CtlJson *object, const char *key, CtlJson *value);
void ctl_json_append(CtlJson *array, CtlJson *value);

/*
 * The value that a path such as "last-round.number" or "3.name" names, which
 * belongs to @value; NULL where there is none, or @value is NULL.  An empty
 * path or NULL is @value itself.
 */
const CtlJson *ctl_json_get(const CtlJson *value, const char *path);

/* What it holds, or the last argument where it is not there or no such.  The
 * text belongs to @value. */
const char *ctl_json_text(const CtlJson *value, const char *path,
                          const char *other);
int64_t ctl_json_int(const CtlJson *value, const char *path, int64_t other);
/* The same of what cannot be negative: -1 where it is missing or wrong, and
 * never so much that it overflows in smaller units. */
int64_t ctl_json_amount(const CtlJson *value, const char *path);
bool ctl_json_bool(const CtlJson *value, const char *path);

/* How many elements the array or object at @path has; 0 where there is
 * none. */
size_t ctl_json_count(const CtlJson *value, const char *path);
const CtlJson *ctl_json_at(const CtlJson *value, size_t index);

bool ctl_json_equal(const CtlJson *a, const CtlJson *b);

/* A scalar as a person writes it: text without quotes, true, 12; another
 * value as JSON.  Freed by the caller. */
char *ctl_json_plain(const CtlJson *value);

#endif
