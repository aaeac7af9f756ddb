/*
 * CurlingError: the one place that holds the sentence a person reads
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

int curling_error_set(CurlingError *err, int code, const char *fmt, ...)
{
    char text[CURLING_ERROR_BYTES];
    va_list ap;

    if (!err) {
        return code;
    }
    /* Not straight into err->text: it may be among the arguments. */
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(err->text, text, sizeof(text));
    return code;
}

char *curling_error_quote(char *to, size_t size_bytes, const void *text,
                          size_t len_bytes)
{
    const unsigned char *from = text;
    size_t i;

    for (i = 0; i < len_bytes && i < size_bytes - 1; i++) {
        to[i] = isprint(from[i]) ? (char)from[i] : '?';
    }
    to[i] = 0;
    return to;
}
