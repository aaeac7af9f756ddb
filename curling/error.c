/*
 * CurlingError: the one place that holds the sentence a person reads
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

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
