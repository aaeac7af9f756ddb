/*
 * What the first process of a test guest needs
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

/* A number on the kernel's command line. */
typedef struct GuestOption {
    const char *name;           /* with its '=' */
    unsigned *value;
} GuestOption;

/* Mount what is needed and open the first serial port. */
void guest_begin(void);

void guest_read_options(const GuestOption *known, size_t len);

/* guest_say() also to the screen from now on. */
void guest_say_on_screen(void);

/* One write per line, so that the lines of several threads do not mix. */
void guest_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Say why and do nothing any more: the first process must not exit. */
void guest_give_up(const char *what) __attribute__((noreturn));

void guest_start(void *(*run)(void *opaque), void *opaque);

/* All of it, whatever signals come. */
void guest_write(int fd, const char *at, int len);

/* A serial port as it is; returns the descriptor, negative if there is none. */
int guest_open_serial(const char *path);

uint64_t guest_now_ns(void);
void guest_sleep_ns(uint64_t ns);

/*
 * Sleep until *@next, then move it on.  After a freeze neither a burst of
 * missed ticks nor, whatever the clock did, a long silence.
 */
void guest_wait_tick(uint64_t *next, uint64_t tick_ns);

#endif
