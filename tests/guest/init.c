/*
 * /init of the test guest: notices a torn, stale or mixed-up memory image
 *
 * The guest's working set is cut into one part per worker, a thread pinned
 * to its own vCPU.  Every tick a worker verifies pages of its part, writes
 * the next ones in round-robin order and counts on.  The content of a page is
 * a pure function of worker, page number and stamp, and the stamp which a
 * page must carry follows from the worker's counter alone, so a page that is
 * too old, too new, half one and half the other or in the wrong place is
 * seen.  Checked each tick: whatever the tick before wrote, and a window that
 * has slid over the whole part once in curling.verify milliseconds.
 *
 * The workers meet at the end of each tick, then worker 0 prints
 *     count N ok
 * to the first serial port; a vCPU that was lost stops the count.  After a
 * mismatch, and for ever:
 *     BAD worker W page P want S got S2 ...
 *     count N BAD
 *
 * On the kernel's command line:
 *     curling.mb=N        working set in MiB (16)
 *     curling.tick=MS     length of a tick (100)
 *     curling.pages=N     pages written per tick, by all workers (200)
 *     curling.workers=N   (one per vCPU)
 *     curling.verify=MS   time in which every page is verified once (2000)
 *     curling.screen=1    the same lines on the screen
 *     curling.beat=1      and a '.' to the second serial port every 2 ms
 *     curling.clock=1     or the time there, in ns, every 20 ms
 *     curling.poweroff=N  power off when the count is N
 *     curling.panic=N     tell a pvpanic device so when the count is N
 *     curling.sleep=N     suspend to RAM when the count is N
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "guest.h"

#define PAGE_BYTES      4096
#define PAGE_WORDS      (PAGE_BYTES / sizeof(uint64_t))
#define WORD_STAMP      0
#define WORD_PLACE      1
#define WORD_PATTERN    2               /* the first of the rest */
#define WORD_STEP       0x9e3779b97f4a7c15ULL

#define WORKERS_MAX     64
#define BAD_LINES_MAX   10              /* per worker */
#define BEAT_NS         2000000
#define CLOCK_NS        20000000

#define PVPANIC_PORT    0x505
#define PVPANIC_CRASHED 1

typedef struct Worker {
    unsigned index;
    uint64_t *part;                     /* its pages */
    uint64_t pages;                     /* how many */
    uint64_t per_tick;                  /* pages written each tick */
    uint64_t window;                    /* pages verified each tick */
    unsigned bad_lines;
} Worker;

/* Constant once the workers run */
static struct {
    unsigned mb, tick_ms, pages, workers, verify_ms, beat, clock, screen;
    unsigned poweroff_at, panic_at, sleep_at;
} option = {
    .mb = 16, .tick_ms = 100, .pages = 200, .verify_ms = 2000,
};
static Worker worker[WORKERS_MAX];
static pthread_barrier_t tick_done;
static atomic_bool bad;

/* What the pages hold */

static uint64_t place_of(unsigned index, uint64_t page)
{
    return (uint64_t)(index + 1) << 32 | page;
}

static uint64_t pattern_of(uint64_t place, uint64_t stamp)
{
    uint64_t x = (place ^ stamp * WORD_STEP) * 0xff51afd7ed558ccdULL;

    x ^= x >> 32;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 29;
}

static void page_write(uint64_t *word, uint64_t place, uint64_t stamp)
{
    uint64_t value = pattern_of(place, stamp);

    word[WORD_STAMP] = stamp;
    word[WORD_PLACE] = place;
    for (unsigned i = WORD_PATTERN; i < PAGE_WORDS; i++) {
        word[i] = value;
        value += WORD_STEP;
    }
}

static bool page_is(const uint64_t *word, uint64_t place, uint64_t stamp)
{
    uint64_t value = pattern_of(place, stamp);
    uint64_t differ;

    differ = (word[WORD_STAMP] ^ stamp) | (word[WORD_PLACE] ^ place);
    for (unsigned i = WORD_PATTERN; i < PAGE_WORDS; i++) {
        differ |= word[i] ^ value;
        value += WORD_STEP;
    }
    return differ == 0;
}

/*
 * The write with number w (from 0) goes to page w modulo pages and stamps it
 * w + 1; the first fill stamped all pages 0.  So after @written writes:
 */
static uint64_t stamp_of(const Worker *w, uint64_t page, uint64_t written)
{
    if (written <= page) {
        return 0;
    }
    return page + (written - 1 - page) / w->pages * w->pages + 1;
}

static const char *what_is_wrong(const uint64_t *word, uint64_t place,
                                 uint64_t stamp)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        any |= word[i];
    }
    if (any == 0) {
        return "zero";
    }
    if (!page_is(word, word[WORD_PLACE], word[WORD_STAMP])) {
        return "torn";
    }
    if (word[WORD_PLACE] != place) {
        return "misplaced";
    }
    return word[WORD_STAMP] < stamp ? "old" : "new";
}

static void verify(Worker *w, uint64_t page, uint64_t written)
{
    const uint64_t *word = w->part + page * PAGE_WORDS;
    uint64_t place = place_of(w->index, page);
    uint64_t stamp = stamp_of(w, page, written);

    if (page_is(word, place, stamp)) {
        return;
    }
    atomic_store(&bad, true);
    if (w->bad_lines++ < BAD_LINES_MAX) {
        guest_say("BAD worker %u page %llu want %llu got %llu (%s, place %llx, "
                  "written %llu)\n", w->index, (unsigned long long)page,
                  (unsigned long long)stamp,
                  (unsigned long long)word[WORD_STAMP],
                  what_is_wrong(word, place, stamp),
                  (unsigned long long)word[WORD_PLACE],
                  (unsigned long long)written);
    }
}

/* What is to happen at this count. */
static void act_at(uint64_t count)
{
    if (option.poweroff_at && count == option.poweroff_at) {
        reboot(RB_POWER_OFF);
    }
    if (option.panic_at && count == option.panic_at &&
        ioperm(PVPANIC_PORT, 1, 1) == 0) {
        outb(PVPANIC_CRASHED, PVPANIC_PORT);
    }
    if (option.sleep_at && count == option.sleep_at) {
        int fd = open("/sys/power/state", O_WRONLY);

        if (fd < 0 || write(fd, "mem", 3) != 3) {
            guest_give_up("/sys/power/state");
        }
        close(fd);
    }
}

/* Where in RAM a page is. */
static uint64_t physical(const void *page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;

    if (pread(fd, &entry, sizeof(entry), (uintptr_t)page / PAGE_BYTES *
              sizeof(entry)) != sizeof(entry)) {
        entry = 0;
    }
    close(fd);
    return (entry & ((1ULL << 55) - 1)) * PAGE_BYTES;
}

static void *work(void *opaque)
{
    Worker *w = opaque;
    uint64_t tick_ns = option.tick_ms * 1000000ULL;
    uint64_t count = 0, written = 0, window_at = 0, next;
    uint64_t recent = w->per_tick < w->pages ? w->per_tick : w->pages;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(w->index % get_nprocs(), &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);

    for (uint64_t page = 0; page < w->pages; page++) {
        page_write(w->part + page * PAGE_WORDS, place_of(w->index, page), 0);
    }
    pthread_barrier_wait(&tick_done);
    if (w->index == 0) {
        guest_say("curling-guest ready ws=%uMiB workers=%u tick=%ums "
                  "at=%lluMiB\n", option.mb, option.workers, option.tick_ms,
                  (unsigned long long)physical(w->part) >> 20);
    }

    next = guest_now_ns();
    for (;;) {
        guest_wait_tick(&next, tick_ns);
        for (uint64_t i = 1; i <= recent && i <= written; i++) {
            verify(w, (written - i) % w->pages, written);
        }
        for (uint64_t i = 0; i < w->window; i++) {
            verify(w, window_at, written);
            window_at = (window_at + 1) % w->pages;
        }
        for (uint64_t i = 0; i < w->per_tick; i++) {
            uint64_t page = written % w->pages;

            written++;
            page_write(w->part + page * PAGE_WORDS,
                       place_of(w->index, page), written);
        }
        count++;
        pthread_barrier_wait(&tick_done);
        if (w->index == 0) {
            guest_say("count %llu %s\n", (unsigned long long)count,
                      atomic_load(&bad) ? "BAD" : "ok");
            act_at(count);
        }
    }
    return NULL;
}

static void *beat(void *opaque)
{
    int fd = guest_open_serial("/dev/ttyS1");
    uint64_t next = guest_now_ns();

    (void)opaque;
    while (fd >= 0) {
        guest_wait_tick(&next, BEAT_NS);
        if (write(fd, ".", 1) < 0 && errno != EINTR) {
            close(fd);                  /* no such port */
            fd = -1;
        }
    }
    return NULL;
}

/* CLOCK_MONOTONIC: nobody corrects it here. */
static void *tell_time(void *opaque)
{
    int fd = guest_open_serial("/dev/ttyS1");
    char line[24];

    (void)opaque;
    for (;;) {
        guest_sleep_ns(CLOCK_NS);
        snprintf(line, sizeof(line), "%llu\n",
                 (unsigned long long)guest_now_ns());
        guest_write(fd, line, strlen(line));
    }
    return NULL;
}

static void read_options(void)
{
    static const GuestOption known[] = {
        { "curling.mb=", &option.mb },
        { "curling.tick=", &option.tick_ms },
        { "curling.pages=", &option.pages },
        { "curling.workers=", &option.workers },
        { "curling.verify=", &option.verify_ms },
        { "curling.beat=", &option.beat },
        { "curling.clock=", &option.clock },
        { "curling.screen=", &option.screen },
        { "curling.poweroff=", &option.poweroff_at },
        { "curling.panic=", &option.panic_at },
        { "curling.sleep=", &option.sleep_at },
    };

    guest_read_options(known, sizeof(known) / sizeof(known[0]));
    if (option.workers == 0) {
        option.workers = get_nprocs();
    }
    if (option.workers > WORKERS_MAX) {
        option.workers = WORKERS_MAX;
    }
    if (option.mb == 0) {
        option.mb = 1;
    }
    if (option.tick_ms == 0) {
        option.tick_ms = 1;
    }
    if (option.verify_ms < option.tick_ms) {
        option.verify_ms = option.tick_ms;
    }
}

static void map_working_set(void)
{
    size_t bytes = (size_t)option.mb << 20;
    uint64_t pages = bytes / PAGE_BYTES / option.workers;
    struct sysinfo info;
    uint64_t *set;

    if (sysinfo(&info) == 0 &&
        (uint64_t)info.freeram * info.mem_unit < bytes + (8 << 20)) {
        errno = ENOMEM;
        guest_give_up("curling.mb is more than this guest has");
    }
    set = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (set == MAP_FAILED) {
        guest_give_up("mmap");
    }
    for (unsigned i = 0; i < option.workers; i++) {
        Worker *w = &worker[i];

        w->index = i;
        w->part = set + i * pages * PAGE_WORDS;
        w->pages = pages;
        w->per_tick = option.pages / option.workers +
                      (i < option.pages % option.workers);
        w->window = (pages * option.tick_ms + option.verify_ms - 1) /
                    option.verify_ms;
    }
}

int main(void)
{
    guest_begin();
    read_options();
    if (option.screen) {
        guest_say_on_screen();
    }
    map_working_set();
    pthread_barrier_init(&tick_done, NULL, option.workers);
    if (option.beat) {
        guest_start(beat, NULL);
    }
    if (option.clock) {
        guest_start(tell_time, NULL);
    }
    for (unsigned i = 1; i < option.workers; i++) {
        guest_start(work, &worker[i]);
    }
    work(&worker[0]);
    return 0;
}
