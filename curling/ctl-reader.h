/*
 * Cut what comes from a QMP server into JSON objects
 *
 * QMP is a row of JSON objects.  QEMU ends each with a newline, but one with
 * pretty=on has more of them inside, so that objects are told by their braces.
 * Nothing is parsed here: a whole object goes to ctl_json_parse().
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_READER_H
#define CURLING_CTL_READER_H

#include "ctl.h"

/* The longest object that is taken.  QEMU's longest answer, its own schema,
 * has a quarter of a megabyte. */
#define CTL_READER_MAX_BYTES (8 << 20)

/* Braces and brackets in each other: jansson's own limit is twice that. */
#define CTL_READER_MAX_DEPTH 1024

typedef struct CtlReader CtlReader;

CtlReader *ctl_reader_new(void);
void ctl_reader_free(CtlReader *reader);

/* Take @len_bytes that came. */
void ctl_reader_feed(CtlReader *reader, const char *bytes, size_t len_bytes);

/*
 * The next whole object, not NUL-terminated, of *@len_bytes; it stays valid
 * until the next call on @reader.  NULL: without @err set, more must be fed;
 * with it, what came is no row of objects, or too long (CTL_ERROR_BAD_PEER),
 * and nothing of this reader can be used any more.
 */
const char *ctl_reader_next(CtlReader *reader, size_t *len_bytes,
                            GError **err);

/* Has an object begun that is not whole? */
bool ctl_reader_is_inside(const CtlReader *reader);

#endif
