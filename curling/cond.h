/*
 * Condition variables whose deadlines are points of curling_clock_ns()
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_COND_H
#define CURLING_COND_H

#include <pthread.h>
#include <stdint.h>

/* Freed with pthread_cond_destroy(). */
void curling_cond_init(pthread_cond_t *cond);

/*
 * Wait until @cond is signalled or @deadline_ns has come; may return before,
 * as all waits for a condition may.  Called with @lock held.  Returns 0 or
 * -ETIMEDOUT.
 */
int curling_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
                            int64_t deadline_ns);

#endif
