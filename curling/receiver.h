/*
 * The receiver: takes rounds whole, applies them, and takes over
 *
 * Threads: curling_receiver_run() is the body of the reader thread and
 * starts one thread of its own, which applies; connections are offered from
 * threads of the caller, which may block in curling_receiver_offer() for
 * CURLING_HANDSHAKE_MS.  All other functions may be called in any thread and
 * do not block, unless they say so.
 *
 *      offer -> [reader: frames -> round buffer -> verify] -> RECEIVED
 *                                     |
 *                            [applier: RAM, then ops->applied] -> APPLIED
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_RECEIVER_H
#define CURLING_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "apply.h"
#include "beat.h"
#include "channel.h"
#include "error.h"
#include "failover.h"
#include "hello.h"
#include "pack.h"
#include "ram.h"
#include "round.h"
#include "wire.h"

typedef struct CurlingReceiver CurlingReceiver;

/* May change at any time; read and written atomically, field by field. */
typedef struct CurlingReceiverSettings {
    uint32_t peer_timeout_ms;
    uint32_t stall_ms;          /* what moves no more for so long is stuck */
    uint32_t close_grace_ms;
    uint32_t on_disconnect;     /* CurlingPolicy */
    uint32_t on_silence;        /* CurlingPolicy */
} CurlingReceiverSettings;

/* What happens in a session, for those who trace it. */
typedef enum CurlingReceiverStep {
    CURLING_STEP_CONNECTED,     /* a sender was let in */
    CURLING_STEP_BEGUN,         /* a round: ROUND_BEGIN */
    CURLING_STEP_COMMITTED,     /* a round is whole, RECEIVED goes out */
    CURLING_STEP_DISCARDED,     /* the round that was begun */
    CURLING_STEP_STOPPED,       /* STOP or POWEROFF came */
    CURLING_STEP_DISCONNECTED,
    CURLING_STEP__MAX,
} CurlingReceiverStep;

/*
 * Called in the reader or the applier thread, one at a time except
 * @state; none of them may call back into the receiver except
 * curling_receiver_query().
 */
typedef struct CurlingReceiverOps {
    /* Does a sender that so describes itself fit?  0, or -errno and a
     * sentence that names the difference. */
    int (*check)(void *opaque, const CurlingHello *hello, CurlingError *err);
    /* Pages were written.  May be NULL. */
    void (*pages)(void *opaque, uint32_t block, uint64_t first,
                  uint64_t count);
    /* RAM is that of @info's round; @device is its device state (borrowed).
     * Blocks as long as it likes.  -errno: the round cannot be loaded. */
    int (*applied)(void *opaque, const CurlingAppliedRound *info,
                   const uint8_t *device, size_t len_bytes, CurlingError *err);
    /* Start the guest from RAM as it is and @device, of round @number.
     * -EBUSY: it cannot be started now, but maybe later; any other -errno:
     * never. */
    int (*takeover)(void *opaque, uint64_t number, const uint8_t *device,
                    size_t len_bytes, CurlingError *err);
    /* @round: the one that is meant, else the one that is held, or none.  May
     * be NULL. */
    void (*step)(void *opaque, CurlingReceiverStep step, uint64_t round);
    /* The guest powered off at the sender. */
    void (*powered_off)(void *opaque);
    /* The state is another one now; @reason is one sentence. */
    void (*state)(void *opaque, CurlingState state, const char *reason);
    /* The sender was asked for its guest, and did not hand it over: @reason.
     * May be NULL. */
    void (*not_handed)(void *opaque, const char *reason);
    /* Something is stuck, here or at the sender (@reason is one sentence), or
     * moves again (NULL).  May be NULL. */
    CurlingLagging *lagging;
} CurlingReceiverOps;

typedef struct CurlingReceiverConfig {
    const CurlingRamLayout *layout;             /* borrowed */
    const CurlingCodec *codec;                  /* borrowed, may be NULL */
    const CurlingReceiverSettings *settings;    /* borrowed */
    const CurlingReceiverOps *ops;              /* borrowed */
    CurlingVitals *vitals;                      /* borrowed, may be NULL */
    uint64_t instance;                          /* random */
    void *opaque;
    uint64_t limit_bytes;                       /* max-round-bytes */
} CurlingReceiverConfig;

typedef struct CurlingReceiverInfo {
    CurlingState state;
    char peer[128];
    char session[CURLING_SESSION_NAME_BYTES];       /* empty: none */
    uint32_t generation;        /* after a takeover: one more */
    uint32_t lease_ms;          /* the sender's fence-after-ms; 0: none */
    /* of this session, or of the last one */
    uint64_t rounds_committed;
    uint64_t rounds_discarded;  /* begun, but never whole */
    uint64_t held;              /* last whole round, or CURLING_ROUND_NONE */
    int64_t held_ns;            /* when it was whole; 0: none */
    CurlingAppliedRound last;      /* last applied round */
    uint64_t memory_now;
    uint64_t memory_used;
    uint64_t memory_peak;
    uint64_t memory_limit;
    CurlingError last_error;    /* text is empty: none */
} CurlingReceiverInfo;

/* Copies @config; NULL without memory.  Freed with curling_receiver_free()
 * once curling_receiver_run() has returned. */
CurlingReceiver *curling_receiver_new(const CurlingReceiverConfig *config);
void curling_receiver_free(CurlingReceiver *receiver);

/* The reader thread: serves sessions until curling_receiver_quit(). */
void curling_receiver_run(CurlingReceiver *receiver);

/* Make curling_receiver_run() return; no takeover begins any more. */
void curling_receiver_quit(CurlingReceiver *receiver);

/*
 * A connection was accepted: read its HELLO and hand it to the reader.
 * Blocks for CURLING_HANDSHAKE_MS at most.  @release(@channel) is called
 * when @channel is needed no more, in any thread, also on failure.
 * @peer: what to call it.
 */
void curling_receiver_offer(CurlingReceiver *receiver, CurlingChannel *channel,
                            void (*release)(CurlingChannel *channel),
                            const char *peer);

/* How long the sender has to answer FENCE. */
#define CURLING_FENCE_MS 5000

/*
 * curling-failover.  Returns 0 when it began: its end is a state change, or
 * info.last_error.  A sender that is heard is asked to stop its guest first,
 * unless @force; if it does not, ops->not_handed() says so.  -EALREADY when the guest
 * runs, or a takeover is under way; -ENOENT with nothing to start; each with
 * a sentence.
 */
int curling_receiver_failover(CurlingReceiver *receiver, bool force,
                              CurlingError *err);

/*
 * curling-reset: discard the round that is held, and its session.  Returns 0
 * when that began (its end is a state change); -EBUSY while the sender is
 * heard; -ENOENT with nothing to discard; -EALREADY after a takeover; each
 * with a sentence.
 */
int curling_receiver_reset(CurlingReceiver *receiver, CurlingError *err);

/* Give up the connection that is being served, if there is one.  As when it
 * carried bad bytes, that says nothing about the sender's life. */
void curling_receiver_yank(CurlingReceiver *receiver);

void curling_receiver_set_limit(CurlingReceiver *receiver,
                                uint64_t limit_bytes);

void curling_receiver_query(CurlingReceiver *receiver,
                            CurlingReceiverInfo *info);

#endif
