/*
 * CurlingError: the one place that holds the sentence a person reads
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_ERROR_H
#define CURLING_ERROR_H

#include <stddef.h>

#define CURLING_ERROR_BYTES 512

/*
 * Owned by the caller, usually on its stack, and passed as the last
 * parameter; NULL where nobody will read the sentence.  Valid only after
 * the call returned an error.
 */
typedef struct CurlingError {
    char text[CURLING_ERROR_BYTES];
} CurlingError;

/*
 * Write one sentence into @err, cut to fit; @err may be NULL.
 *
 * Returns @code unchanged, a negative errno, so that a caller can write
 * "return curling_error_set(err, -EPROTO, ...)".
 */
int curling_error_set(CurlingError *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * A peer's text (@len_bytes, no NUL needed) as a person may safely see it, in
 * @to: printable, cut to @size_bytes with its NUL.  Returns @to.
 */
char *curling_error_quote(char *to, size_t size_bytes, const void *text,
                          size_t len_bytes);

#endif
