/*
 * What must match on both sides, as "key=value\n" lines
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_DESCRIBE_H
#define CURLING_DESCRIBE_H

#include "error.h"

/*
 * Do the descriptions of the two sides agree, line by line and in order?
 * @sender comes from a peer and may hold anything up to its NUL.
 *
 * Returns 0, or -EINVAL with a sentence that names the first difference and
 * both values.
 */
int curling_describe_compare(const char *sender, const char *receiver,
                             CurlingError *err);

#endif
