/*
 * What a beat says
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <time.h>

#include "beat.h"
#include "channel.h"
#include "frame.h"

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

int64_t curling_lease_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* 0 for what has not been, and what is yet to come. */
static uint32_t age_ms(const int64_t *since_ns, int64_t now_ns)
{
    int64_t since = __atomic_load_n(since_ns, __ATOMIC_RELAXED);
    int64_t ms = (now_ns - since) / NS_PER_MS;

    if (!since || ms < 0) {
        return 0;
    }
    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

CurlingBeat curling_beat_look(const CurlingVitals *vitals, int64_t now_ns)
{
    CurlingBeat beat = { 0 };

    if (vitals) {
        beat.loop_age_ms = age_ms(&vitals->loop_ns, now_ns);
        beat.round_age_ms = age_ms(&vitals->round_ns, now_ns);
        beat.late_ms = age_ms(&vitals->due_ns, now_ns);
    }
    return beat;
}

void curling_beat_put(const CurlingBeat *beat, uint8_t *payload)
{
    curling_put_u32(payload + CURLING_HEARTBEAT_INTERVAL_MS,
                    beat->interval_ms);
    curling_put_u32(payload + CURLING_HEARTBEAT_LOOP_AGE_MS,
                    beat->loop_age_ms);
    curling_put_u32(payload + CURLING_HEARTBEAT_ROUND_AGE_MS,
                    beat->round_age_ms);
    curling_put_u32(payload + CURLING_HEARTBEAT_LATE_MS, beat->late_ms);
    curling_put_u64(payload + CURLING_HEARTBEAT_STAMP, beat->stamp_ns);
    curling_put_u64(payload + CURLING_HEARTBEAT_ECHO, beat->echo_ns);
}

CurlingBeat curling_beat_get(const uint8_t *payload)
{
    return (CurlingBeat) {
        .interval_ms = curling_get_u32(payload +
                                       CURLING_HEARTBEAT_INTERVAL_MS),
        .loop_age_ms = curling_get_u32(payload +
                                       CURLING_HEARTBEAT_LOOP_AGE_MS),
        .round_age_ms = curling_get_u32(payload +
                                        CURLING_HEARTBEAT_ROUND_AGE_MS),
        .late_ms = curling_get_u32(payload + CURLING_HEARTBEAT_LATE_MS),
        .stamp_ns = curling_get_u64(payload + CURLING_HEARTBEAT_STAMP),
        .echo_ns = curling_get_u64(payload + CURLING_HEARTBEAT_ECHO),
    };
}

static CurlingStuck find_stuck(const CurlingBeat *beat, uint32_t stall_ms)
{
    if (stall_ms && beat->loop_age_ms >= stall_ms) {
        return CURLING_STUCK_LOOP;
    }
    return stall_ms && beat->late_ms >= stall_ms ? CURLING_STUCK_ROUNDS :
                                                   CURLING_STUCK_NOTHING;
}

void curling_watch_look(CurlingWatch *watch, const CurlingVitals *vitals,
                        const char *peer, uint32_t stall_ms,
                        CurlingLagging *tell, void *opaque)
{
    CurlingBeat own = curling_beat_look(vitals, curling_clock_ns());
    CurlingStuck here = find_stuck(&own, stall_ms);
    CurlingStuck there = find_stuck(&watch->peer, stall_ms);
    CurlingError reason;

    if (here == watch->here && there == watch->there) {
        return;
    }
    watch->here = here;
    watch->there = there;
    if ((here ? here : there) == CURLING_STUCK_ROUNDS) {
        curling_error_set(&reason, 0, "a round has been due for %" PRIu32
                          " ms (stall-ms) and is not taken", stall_ms);
    } else {
        curling_error_set(&reason, 0, "the main loop of %s%s has not run for "
                          "%" PRIu32 " ms (stall-ms)",
                          here ? "this QEMU" : "the ", here ? "" : peer,
                          stall_ms);
    }
    if (tell) {
        tell(opaque, here || there ? reason.text : NULL);
    }
}

void curling_watch_end(CurlingWatch *watch, CurlingLagging *tell,
                       void *opaque)
{
    if ((watch->here || watch->there) && tell) {
        tell(opaque, NULL);
    }
    *watch = (CurlingWatch) { 0 };
}
