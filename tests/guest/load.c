/*
 * Init of the guest of the benchmark: so much work, and no more
 *
 * It writes to a number of pages each second, some words in each, all over a
 * working set, and counts them.  What it could not do in time it leaves out:
 * fewer pages than asked for are what somebody took from it.  At a higher
 * priority it beats: to the second serial port goes
 *     .           every 2 ms
 *     wN\n        every 100 ms: N pages written by now
 * A beat that was missed is left out as well.
 *
 * On the kernel's command line:
 *     load.mb=N       working set in MiB (16)
 *     load.rate=N     pages to write in a second (0)
 *     load.touch=N    MiB of other memory to fill first, which then rest (0)
 *     load.random=1   whole pages of random numbers, not a few words
 *
 * The first serial port says "ready" once memory is filled.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

#define PAGE_WORDS      512
#define WORDS_WRITTEN   8
#define BEAT_NS         2000000
#define BEATS_PER_LINE  50
#define TICK_NS         4000000         /* of the work */

/* Coprime to any number of pages that is a power of two: no two writes in a
 * row are neighbours, and all pages have their turn. */
#define PAGE_STEP       40503

static struct {
    unsigned mb, rate, touch_mb, random;
} option = { .mb = 16 };

static atomic_uint_fast64_t work_done;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) {
        guest_give_up("mmap");
    }
    return at;
}

static void fill(uint64_t *word, size_t bytes)
{
    uint64_t state = 88172645463325252ULL;

    for (size_t i = 0; i < bytes / sizeof(*word); i++) {
        word[i] = next_random(&state);
    }
}

static void *beat(void *opaque)
{
    struct sched_param first = { .sched_priority = 10 };
    int fd = guest_open_serial("/dev/ttyS1");
    uint64_t next = guest_now_ns();
    char line[32];

    (void)opaque;
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
    for (unsigned beats = 0;; beats++) {
        guest_wait_tick(&next, BEAT_NS);
        if (beats % BEATS_PER_LINE) {
            guest_write(fd, ".", 1);
        } else {
            guest_write(fd, line, snprintf(line, sizeof(line), ".w%llu\n",
                        (unsigned long long)atomic_load(&work_done)));
        }
    }
    return NULL;
}

static void write_page(uint64_t *page, uint64_t *state)
{
    uint64_t at = next_random(state);

    if (option.random) {
        for (unsigned i = 0; i < PAGE_WORDS; i++) {
            page[i] = next_random(state);
        }
        return;
    }
    for (unsigned i = 0; i < WORDS_WRITTEN; i++) {
        page[at % PAGE_WORDS] = at + i;
        at = at >> 7 | at << 57;
    }
}

static void work(uint64_t *set, uint64_t pages)
{
    uint64_t state = 2463534242ULL, at = 0, next = guest_now_ns(), owed = 0;

    for (;;) {
        guest_wait_tick(&next, TICK_NS);
        /* In parts of a page, so that low rates come out right */
        owed += (uint64_t)option.rate * TICK_NS;
        for (; owed >= 1000000000; owed -= 1000000000) {
            at = (at + PAGE_STEP) % pages;
            write_page(set + at * PAGE_WORDS, &state);
            atomic_fetch_add(&work_done, 1);
        }
    }
}

int main(void)
{
    static const GuestOption known[] = {
        { "load.mb=", &option.mb },
        { "load.rate=", &option.rate },
        { "load.touch=", &option.touch_mb },
        { "load.random=", &option.random },
    };
    size_t bytes;
    uint64_t *set;

    guest_begin();
    guest_read_options(known, sizeof(known) / sizeof(known[0]));
    bytes = (size_t)option.mb << 20;
    set = map(bytes);
    fill(set, bytes);
    if (option.touch_mb) {
        fill(map((size_t)option.touch_mb << 20), (size_t)option.touch_mb << 20);
    }
    guest_say("ready\n");
    guest_start(beat, NULL);
    work(set, bytes / PAGE_WORDS / sizeof(*set));
    return 0;
}
