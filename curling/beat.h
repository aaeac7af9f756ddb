/*
 * What a beat says: how its side is, and what it has heard
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_BEAT_H
#define CURLING_BEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "wire.h"

/* How this side is; written by whoever knows and read by who beats, each
 * field atomically.  Points of curling_clock_ns(). */
typedef struct CurlingVitals {
    int64_t loop_ns;            /* the main loop's last tick; 0: not known */
    int64_t round_ns;           /* when the last round was taken; 0: none */
    int64_t due_ns;             /* when the next one is to be; 0: none is */
} CurlingVitals;

typedef struct CurlingBeat {
    uint32_t interval_ms;       /* how often its side beats */
    uint32_t loop_age_ms;
    uint32_t round_age_ms;
    uint32_t late_ms;           /* how long a round has been due */
    uint64_t stamp_ns;          /* of its own curling_lease_clock_ns() */
    uint64_t echo_ns;           /* the last stamp that it heard; 0: none */
} CurlingBeat;

/* A clock for leases: goes on while the host sleeps (CLOCK_BOOTTIME). */
int64_t curling_lease_clock_ns(void);

/* How this side is at @now_ns (of curling_clock_ns()).  @vitals: NULL if
 * nobody knows.  Stamp and echo are the caller's. */
CurlingBeat curling_beat_look(const CurlingVitals *vitals, int64_t now_ns);

/* @payload has CURLING_HEARTBEAT_BYTES octets. */
void curling_beat_put(const CurlingBeat *beat, uint8_t *payload);
CurlingBeat curling_beat_get(const uint8_t *payload);

/* What can be stuck. */
typedef enum CurlingStuck {
    CURLING_STUCK_NOTHING,
    CURLING_STUCK_LOOP,
    CURLING_STUCK_ROUNDS,
} CurlingStuck;

/* What is known to be stuck on either side of a connection. */
typedef struct CurlingWatch {
    CurlingBeat peer;           /* its last beat; all zero: none yet */
    CurlingStuck here;
    CurlingStuck there;
} CurlingWatch;

/* Who hears that something is stuck (@reason is one sentence), or that nothing
 * is any more (NULL). */
typedef void CurlingLagging(void *opaque, const char *reason);

/*
 * Look at both sides once more, and tell (may be NULL) what changed.  @vitals:
 * of this side, may be NULL; @peer: what to call the other one; @stall_ms: 0
 * if nothing counts as stuck.
 */
void curling_watch_look(CurlingWatch *watch, const CurlingVitals *vitals,
                        const char *peer, uint32_t stall_ms,
                        CurlingLagging *tell, void *opaque);

/* Nobody is watched any more: nothing is stuck. */
void curling_watch_end(CurlingWatch *watch, CurlingLagging *tell,
                       void *opaque);

#endif
