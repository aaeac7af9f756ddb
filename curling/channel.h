/*
 * Full reads and writes with a deadline over whatever carries bytes
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CHANNEL_H
#define CURLING_CHANNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

/* A callback returns -EAGAIN after at most this long without a byte. */
#define CURLING_CHANNEL_TICK_MS 20

/*
 * Reading and writing may happen in two threads at once, each of them in
 * one at a time; shutdown in any.
 */
typedef struct CurlingChannel {
    /* Bytes read (1 to @len), 0 at the peer's end, -EAGAIN when nothing came
     * within the tick, -EACCES when the peer is not let in, but may be told
     * why, else another -errno. */
    ssize_t (*read)(void *opaque, void *buf, size_t len_bytes);
    /* Bytes written (1 to @len), -EAGAIN when nothing could be written
     * within the tick, else another -errno. */
    ssize_t (*write)(void *opaque, const void *buf, size_t len_bytes);
    /* Make reads and writes under way and later ones fail. */
    void (*shutdown)(void *opaque);
    void *opaque;
    /* Why a call failed, where its errno does not say it; set before the call
     * returns and constant from then on. */
    const char *reason;
} CurlingChannel;

/* CLOCK_MONOTONIC in ns; deadlines are points of this clock. */
int64_t curling_clock_ns(void);

/*
 * Read exactly @len_bytes.  Blocks until @deadline_ns at most, give or take a
 * tick; tries once even after it, so that who comes late gets what is there.
 * Returns 0; -ETIMEDOUT; -EPIPE at the peer's end or after a reset; another
 * -errno from the channel.
 */
int curling_channel_read(CurlingChannel *channel, void *buf, size_t len_bytes,
                         int64_t deadline_ns, CurlingError *err);

/* Write exactly @len_bytes; as curling_channel_read(). */
int curling_channel_write(CurlingChannel *channel, const void *buf,
                          size_t len_bytes, int64_t deadline_ns,
                          CurlingError *err);

/*
 * Over a stream socket or pipe @fd (borrowed; made non-blocking).  A pipe,
 * for tests, is not ended by shutdown, and raises SIGPIPE as pipes do.
 */
void curling_channel_init_fd(CurlingChannel *channel, int fd);

#endif
