/*
 * What the first process of a test guest needs
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static int serial_fd;
static int screen_fd = -1;

void guest_begin(void)
{
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    serial_fd = guest_open_serial("/dev/ttyS0");
    if (serial_fd < 0) {
        serial_fd = STDOUT_FILENO;
    }
    klogctl(8, NULL, 1);        /* the kernel's words would cut our lines */
}

void guest_read_options(const GuestOption *known, size_t len)
{
    char line[4096];
    char *save, *token;
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t done = read(fd, line, sizeof(line) - 1);

    close(fd);
    line[done > 0 ? done : 0] = '\0';
    for (token = strtok_r(line, " \n", &save); token;
         token = strtok_r(NULL, " \n", &save)) {
        for (size_t i = 0; i < len; i++) {
            size_t name_len = strlen(known[i].name);

            if (strncmp(token, known[i].name, name_len) == 0) {
                *known[i].value = strtoul(token + name_len, NULL, 10);
            }
        }
    }
}

void guest_say_on_screen(void)
{
    screen_fd = open("/dev/tty0", O_WRONLY | O_NOCTTY);
}

void guest_write(int fd, const char *at, int len)
{
    while (len > 0) {
        ssize_t done = write(fd, at, len);

        if (done < 0 && errno != EINTR) {
            return;
        }
        if (done > 0) {
            at += done;
            len -= done;
        }
    }
}

void guest_say(const char *format, ...)
{
    char line[200];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (len >= (int)sizeof(line)) {
        len = sizeof(line) - 1;
    }
    guest_write(serial_fd, line, len);
    if (screen_fd >= 0) {
        guest_write(screen_fd, line, len);
    }
}

void guest_give_up(const char *what)
{
    guest_say("curling-guest error: %s: %s\n", what, strerror(errno));
    for (;;) {
        pause();
    }
}

void guest_start(void *(*run)(void *opaque), void *opaque)
{
    pthread_t thread;

    errno = pthread_create(&thread, NULL, run, opaque);
    if (errno) {
        guest_give_up("pthread_create");
    }
}

int guest_open_serial(const char *path)
{
    struct termios mode;
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd >= 0 && tcgetattr(fd, &mode) == 0) {
        cfmakeraw(&mode);
        tcsetattr(fd, TCSANOW, &mode);
    }
    return fd;
}

uint64_t guest_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void guest_sleep_ns(uint64_t ns)
{
    struct timespec t = { ns / 1000000000, ns % 1000000000 };

    nanosleep(&t, NULL);
}

void guest_wait_tick(uint64_t *next, uint64_t tick_ns)
{
    uint64_t now = guest_now_ns();

    if (*next > now) {
        guest_sleep_ns(*next - now < tick_ns ? *next - now : tick_ns);
    } else if (now - *next > tick_ns) {
        *next = now;
    }
    *next += tick_ns;
    if (*next > now + 2 * tick_ns) {
        *next = now + 2 * tick_ns;
    }
}
