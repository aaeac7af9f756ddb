/*
 * Full reads and writes with a deadline over whatever carries bytes
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"

int64_t curling_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What a callback returned instead of bytes, as the caller hears it */
static int set_failure(ssize_t code, const char *verb, size_t done,
                       size_t len, CurlingError *err)
{
    switch (code) {
    case 0:
        return curling_error_set(err, -EPIPE,
                                 "the peer closed the connection: %s %zu of "
                                 "%zu bytes", verb, done, len);
    case -EPIPE:
        return curling_error_set(err, -EPIPE,
                                 "the connection is closed: %s %zu of %zu "
                                 "bytes", verb, done, len);
    case -ECONNRESET:
        return curling_error_set(err, -EPIPE,
                                 "the peer reset the connection: %s %zu of "
                                 "%zu bytes", verb, done, len);
    default:
        return curling_error_set(err, (int)code, "%s: %s %zu of %zu bytes",
                                 strerror((int)-code), verb, done, len);
    }
}

/*
 * After a callback: 0 to go on, else what the caller hears.  The deadline
 * counts after the attempt, so that who comes late still gets what is there.
 */
static int check_progress(ssize_t ret, size_t done, size_t len,
                          int64_t deadline_ns, const char *verb,
                          CurlingError *err)
{
    if (ret <= 0 && ret != -EAGAIN && ret != -EINTR) {
        return set_failure(ret, verb, done, len, err);
    }
    if (done < len && curling_clock_ns() >= deadline_ns) {
        return curling_error_set(err, -ETIMEDOUT,
                                 "out of time: %s %zu of %zu bytes",
                                 verb, done, len);
    }
    return 0;
}

int curling_channel_read(CurlingChannel *channel, void *buf, size_t len_bytes,
                         int64_t deadline_ns, CurlingError *err)
{
    size_t done = 0;
    int ret = 0;

    while (!ret && done < len_bytes) {
        ssize_t n = channel->read(channel->opaque, (uint8_t *)buf + done,
                                  len_bytes - done);

        done += n > 0 ? (size_t)n : 0;
        ret = check_progress(n, done, len_bytes, deadline_ns, "read", err);
    }
    return ret;
}

int curling_channel_write(CurlingChannel *channel, const void *buf,
                          size_t len_bytes, int64_t deadline_ns,
                          CurlingError *err)
{
    size_t done = 0;
    int ret = 0;

    while (!ret && done < len_bytes) {
        ssize_t n = channel->write(channel->opaque,
                                   (const uint8_t *)buf + done,
                                   len_bytes - done);

        /* Nothing written is no end, unlike nothing read. */
        if (n == 0) {
            n = -EAGAIN;
        }
        done += n > 0 ? (size_t)n : 0;
        ret = check_progress(n, done, len_bytes, deadline_ns, "wrote", err);
    }
    return ret;
}

static int fd_of(void *opaque)
{
    return (int)(intptr_t)opaque;
}

static bool would_block(ssize_t ret)
{
    return ret < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* A tick at most; a signal, like the tick's end, only makes it try again. */
static void wait_for(int fd, short events)
{
    struct pollfd pfd = { .fd = fd, .events = events };

    poll(&pfd, 1, CURLING_CHANNEL_TICK_MS);
}

static ssize_t receive(int fd, void *buf, size_t len)
{
    ssize_t ret = recv(fd, buf, len, MSG_DONTWAIT);

    return ret < 0 && errno == ENOTSOCK ? read(fd, buf, len) : ret;
}

/* A pipe without a reader raises SIGPIPE all the same. */
static ssize_t transmit(int fd, const void *buf, size_t len)
{
    ssize_t ret = send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    return ret < 0 && errno == ENOTSOCK ? write(fd, buf, len) : ret;
}

static ssize_t fd_read(void *opaque, void *buf, size_t len_bytes)
{
    int fd = fd_of(opaque);
    ssize_t ret = receive(fd, buf, len_bytes);

    if (would_block(ret)) {
        wait_for(fd, POLLIN);
        ret = receive(fd, buf, len_bytes);
    }
    return ret < 0 ? -errno : ret;
}

static ssize_t fd_write(void *opaque, const void *buf, size_t len_bytes)
{
    int fd = fd_of(opaque);
    ssize_t ret = transmit(fd, buf, len_bytes);

    if (would_block(ret)) {
        wait_for(fd, POLLOUT);
        ret = transmit(fd, buf, len_bytes);
    }
    return ret < 0 ? -errno : ret;
}

static void fd_shutdown(void *opaque)
{
    shutdown(fd_of(opaque), SHUT_RDWR);
}

void curling_channel_init_fd(CurlingChannel *channel, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    /* Should this fail, so does the first read or write. */
    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    *channel = (CurlingChannel) {
        .read = fd_read,
        .write = fd_write,
        .shutdown = fd_shutdown,
        .opaque = (void *)(intptr_t)fd,
    };
}
