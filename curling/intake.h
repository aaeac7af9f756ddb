/*
 * Intake: frames of rounds in, whole rounds out
 *
 * What the receiver's reader does with ROUND_BEGIN, DATA and ROUND_END once
 * they are read and their checksums are right.  No I/O, no threads, no locks:
 * it says what is wrong with bytes, and leaves what to do about it to
 * receiver.c.  One thread.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_INTAKE_H
#define CURLING_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "frame.h"
#include "pack.h"
#include "ram.h"
#include "round.h"

typedef struct CurlingIntake {
    /* constant after init */
    const CurlingRamLayout *layout;     /* borrowed */
    CurlingPool *pool;                  /* borrowed */
    CurlingRound *round;                /* the one that is coming in */
    CurlingUnpacker *unpacker;

    /* about @round while it is OPEN */
    bool streaming;             /* goes straight into RAM, frame by frame */
    uint64_t device_bytes;      /* of device state so far */
} CurlingIntake;

/* @codec: borrowed, may be NULL.  Returns 0 or -ENOMEM; to be destroyed in
 * either case. */
int curling_intake_init(CurlingIntake *intake, const CurlingRamLayout *layout,
                        CurlingPool *pool, const CurlingCodec *codec);
void curling_intake_destroy(CurlingIntake *intake);

/* Is a round coming in? */
bool curling_intake_is_open(const CurlingIntake *intake);

/*
 * ROUND_BEGIN.  @held: the last whole round, or none; a receiver that holds
 * none has nothing to keep, so a SYNC round is streamed.
 * Returns 0 or -EPROTO.
 */
int curling_intake_begin(CurlingIntake *intake, const CurlingHeader *header,
                         const uint8_t *payload, uint64_t held,
                         CurlingError *err);

/*
 * DATA, its payload not read yet: *@room is where it goes.
 * Returns 0; -EPROTO outside of a round; -EOVERFLOW, -ENOMEM.
 */
int curling_intake_room(CurlingIntake *intake, const CurlingHeader *header,
                        uint8_t **room, CurlingError *err);

/*
 * DATA, its payload read into @room.  Returns 0, -EPROTO or -EOVERFLOW.  Of a
 * round that is streamed, @room is valid until curling_intake_streamed().
 */
int curling_intake_data(CurlingIntake *intake, const CurlingHeader *header,
                        const uint8_t *room, CurlingError *err);

/* The frame has been written into RAM. */
void curling_intake_streamed(CurlingIntake *intake);

/*
 * ROUND_END.  *@whole is a SEALED round then, the caller's to free; of one
 * that was streamed only number, kind and counters are left.
 * Returns 0, -EPROTO or -ENOMEM.
 */
int curling_intake_end(CurlingIntake *intake, const CurlingHeader *header,
                       const uint8_t *payload, CurlingRound **whole,
                       CurlingError *err);

/* Forget what came of a round.  True if there was one. */
bool curling_intake_discard(CurlingIntake *intake);

#endif
