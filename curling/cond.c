/*
 * Condition variables whose deadlines are points of curling_clock_ns()
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <time.h>

#include "cond.h"

#define NS_PER_S 1000000000LL

void curling_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int curling_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                            int64_t deadline_ns)
{
    struct timespec until = {
        .tv_sec = deadline_ns / NS_PER_S,
        .tv_nsec = deadline_ns % NS_PER_S,
    };

    return -pthread_cond_timedwait(cond, lock, &until);
}
