/*
 * CurlingError: the one place that holds the sentence a person reads
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_ERROR_H
#define CURLING_ERROR_H

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

#endif
