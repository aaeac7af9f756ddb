/*
 * Records, for ram.c and pack.c
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_RAM_PRIVATE_H
#define CURLING_RAM_PRIVATE_H

#include "ram.h"

/* A record's header in the host's own byte order */
typedef struct CurlingRecord {
    uint8_t type;
    uint8_t reserved;
    uint16_t block;
    uint32_t count;
    uint64_t first;
} CurlingRecord;

/* @to and @from have CURLING_RECORD_BYTES. */
void curling_record_put(uint8_t *to, const CurlingRecord *record);
CurlingRecord curling_record_get(const uint8_t *from);

/* @bytes: a multiple of 64 */
bool curling_page_is_zero(const uint8_t *page, size_t bytes);

#endif
