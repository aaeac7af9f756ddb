/*
 * compress=auto: is it worth to pack the next round?
 *
 * Deltas, and a codec, are each worth it where they take less time than what
 * they save takes on the link.  All of it is measured: the link by the rounds
 * that are large enough, deltas by all pages or, while they are not in use, by
 * a sample of them that has copies all the same (pack.h), the codec by a trial
 * now and then while it is not in use.
 *
 * No clock, no lock: one thread.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_TUNER_H
#define CURLING_TUNER_H

#include <stdbool.h>
#include <stdint.h>

#include "pack.h"

/* One way of packing: of each octet that is handed to it. */
typedef struct CurlingTunerWay {
    bool known;
    bool used;
    double ns;                  /* what it takes */
    double left;                /* what is left of it */
} CurlingTunerWay;

/* Zeroed = knows nothing.  To be looked at through the functions only. */
typedef struct CurlingTuner {
    CurlingTunerWay delta;
    CurlingTunerWay codec;
    double link_ns;             /* of each octet on the wire; 0: not known */
    double least_ns;            /* what the smallest rounds took */
    uint64_t rounds;
} CurlingTuner;

/* How to pack the next round (CURLING_PACK_*), with the codec only if there
 * is one. */
unsigned int curling_tuner_choose(CurlingTuner *tuner, bool has_codec);

/* A round that was packed as chosen is committed: @packed says what came of
 * it, @sent_ns how long it took to send that, until it was RECEIVED. */
void curling_tuner_note(CurlingTuner *tuner, const CurlingPacked *packed,
                        int64_t sent_ns);

#endif
