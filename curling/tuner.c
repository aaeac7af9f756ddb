/*
 * compress=auto: is it worth to pack the next round?
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "tuner.h"

/* Less says nothing of the link, nor of a way of packing. */
#define LINK_BYTES_MIN 65536
#define WAY_BYTES_MIN 16384

/* Rounds from one trial of the codec to the next. */
#define TRIAL_ROUNDS 64

/* Weight of what is new. */
#define NEW 0.2

/* What is in use stays so until it costs so much more than it saves, and
 * comes into use when it costs so much less. */
#define WORTH 1.1

static void mix(double *mean, double now, bool known)
{
    *mean = known ? *mean * (1 - NEW) + now * NEW : now;
}

static void note_way(CurlingTunerWay *way, uint64_t given, uint64_t left,
                     double ns)
{
    if (given < WAY_BYTES_MIN) {
        return;
    }
    mix(&way->ns, ns / (double)given, way->known);
    mix(&way->left, (double)left / (double)given, way->known);
    way->known = true;
}

static bool is_worth(CurlingTunerWay *way, double link_ns)
{
    double saved_ns = (1 - way->left) * link_ns;

    if (!way->known) {
        return false;
    }
    way->used = way->used ? way->ns < saved_ns * WORTH
                          : way->ns * WORTH < saved_ns;
    return way->used;
}

unsigned int curling_tuner_choose(CurlingTuner *t, bool has_codec)
{
    bool trial = t->rounds++ % TRIAL_ROUNDS == 1;
    unsigned int method = CURLING_PACK_SAMPLE;

    if (is_worth(&t->delta, t->link_ns) || !t->delta.known) {
        method |= CURLING_PACK_DELTA;
    }
    if (has_codec && (is_worth(&t->codec, t->link_ns) || trial)) {
        method |= CURLING_PACK_CODEC;
    }
    return method;
}

void curling_tuner_note(CurlingTuner *t, const CurlingPacked *packed,
                        int64_t sent_ns)
{
    double took_ns = (double)sent_ns;
    double judged = (double)packed->judged_raw_bytes;

    /* The way there and back, which rounds of any size take; it may have
     * become longer. */
    if (packed->bytes < LINK_BYTES_MIN &&
        (!t->least_ns || took_ns < t->least_ns)) {
        t->least_ns = took_ns;
    }
    t->least_ns *= 1.002;
    if (packed->bytes >= LINK_BYTES_MIN && took_ns > t->least_ns) {
        mix(&t->link_ns, (took_ns - t->least_ns) / (double)packed->bytes,
            t->link_ns > 0);
    }
    if (packed->delta_bytes) {
        note_way(&t->delta, packed->judged_raw_bytes, packed->judged_bytes,
                 (double)packed->delta_ns * judged /
                 (double)packed->delta_bytes);
    }
    note_way(&t->codec, packed->codec_raw_bytes, packed->codec_bytes,
             (double)packed->codec_ns);
}
