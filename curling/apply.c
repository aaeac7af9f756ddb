/*
 * The applier: a thread that writes whole rounds into RAM
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "channel.h"
#include "cond.h"
#include "delta.h"

/* Device state of one round. */
typedef struct Device {
    uint8_t *data;
    size_t len_bytes;
    size_t room_bytes;
    bool incomplete;            /* something of it is missing, for @why */
    CurlingError why;
} Device;

struct CurlingApplier {
    /* constant after init */
    const CurlingRamLayout *layout;
    CurlingUnpacker *unpacker;  /* used as @device is */
    CurlingApplierOps ops;
    pthread_t thread;

    /* the applier's thread, or the reader's while @round is NULL */
    Device device;              /* of the last applied round */
    Device incoming;            /* of the one being applied */
    uint64_t pages;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* protected by @lock */
    CurlingRound *round;        /* the one to apply */
    bool streamed;
    uint64_t device_bytes;
    bool broken;
    CurlingError broken_error;
    bool quit;
};

/* Something is missing: the first reason counts. */
static void device_spoil(Device *device, const CurlingError *why)
{
    if (!device->incomplete) {
        device->incomplete = true;
        device->why = *why;
    }
}

/* Where the next @len_bytes go; NULL without memory. */
static uint8_t *device_grow(Device *device, size_t len_bytes)
{
    uint8_t *at;

    if (device->len_bytes + len_bytes > device->room_bytes) {
        size_t room_bytes = 2 * device->room_bytes + len_bytes;
        uint8_t *grown = realloc(device->data, room_bytes);

        if (!grown) {
            CurlingError err;

            curling_error_set(&err, -ENOMEM, "no memory for %zu bytes of "
                              "device state", room_bytes);
            device_spoil(device, &err);
            return NULL;
        }
        device->data = grown;
        device->room_bytes = room_bytes;
    }
    at = device->data + device->len_bytes;
    device->len_bytes += len_bytes;
    return at;
}

static void sink_pages(void *opaque, uint32_t block, uint64_t first,
                       uint64_t count)
{
    CurlingApplier *a = opaque;

    a->pages += count;
    if (a->ops.pages) {
        a->ops.pages(a->ops.opaque, block, first, count);
    }
}

static void sink_device(void *opaque, const uint8_t *data, size_t len_bytes)
{
    CurlingApplier *a = opaque;
    uint8_t *to = device_grow(&a->incoming, len_bytes);

    if (to) {
        memcpy(to, data, len_bytes);
    }
}

static void sink_device_delta(void *opaque, uint32_t count,
                              const uint8_t *delta, size_t len_bytes)
{
    CurlingApplier *a = opaque;
    size_t first = a->incoming.len_bytes;
    size_t known = first < a->device.len_bytes ? a->device.len_bytes - first
                                               : 0;
    uint8_t *to = device_grow(&a->incoming, count);

    if (!to) {
        return;
    }
    memset(to, 0, count);
    if (known) {
        memcpy(to, a->device.data + first, known < count ? known : count);
    }
    curling_delta_apply(delta, len_bytes, to, count);
}

void curling_applier_stream_begin(CurlingApplier *a)
{
    a->pages = 0;
    a->incoming.len_bytes = 0;
    a->incoming.incomplete = false;
}

void curling_applier_stream(CurlingApplier *a, const uint8_t *payload,
                            size_t len_bytes)
{
    CurlingRamSink sink = {
        .pages = sink_pages,
        .device = sink_device,
        .device_delta = sink_device_delta,
        .opaque = a,
    };
    CurlingError err;

    /* The reader has unpacked it before, to see what is in it. */
    if (curling_unpack(a->unpacker, &payload, &len_bytes, &err) < 0) {
        device_spoil(&a->incoming, &err);
        return;
    }
    curling_ram_apply(a->layout, payload, len_bytes, &sink);
}

/*
 * Write @round into RAM and let the caller load it.  Of a round that was
 * streamed there is nothing left to write.
 */
static int apply_round(CurlingApplier *a, const CurlingRound *round,
                       bool streamed, uint64_t device_bytes,
                       CurlingAppliedRound *applied, CurlingError *err)
{
    int64_t began_ns = curling_clock_ns();
    CurlingRoundIter iter = { 0 };
    const uint8_t *payload;
    size_t len_bytes;
    Device last;
    int ret;

    if (!streamed) {
        curling_applier_stream_begin(a);
    }
    while (curling_round_next(round, &iter, &payload, &len_bytes)) {
        curling_applier_stream(a, payload, len_bytes);
    }
    *applied = (CurlingAppliedRound) {
        .number = curling_round_number(round),
        .kind = curling_round_kind(round),
        .bytes = curling_round_bytes(round),
        .pages = a->pages,
    };
    if (a->incoming.incomplete) {
        *err = a->incoming.why;
        return -ENOMEM;
    }
    if (a->incoming.len_bytes != device_bytes) {
        return curling_error_set(err, -EIO, "got %zu bytes of device state, "
                                 "expected %" PRIu64, a->incoming.len_bytes,
                                 device_bytes);
    }
    last = a->device;
    a->device = a->incoming;
    a->incoming = last;
    ret = a->ops.load(a->ops.opaque, applied, a->device.data,
                      a->device.len_bytes, err);
    applied->apply_us = (uint64_t)(curling_clock_ns() - began_ns) / 1000;
    return ret;
}

static void *run(void *opaque)
{
    CurlingApplier *a = opaque;

    pthread_mutex_lock(&a->lock);
    for (;;) {
        CurlingAppliedRound applied;
        CurlingRound *round;
        CurlingError err;
        uint64_t device_bytes;
        bool streamed;
        int ret;

        while (!a->round && !a->quit) {
            pthread_cond_wait(&a->cond, &a->lock);
        }
        round = a->round;
        streamed = a->streamed;
        device_bytes = a->device_bytes;
        if (!round) {
            break;
        }
        pthread_mutex_unlock(&a->lock);

        ret = apply_round(a, round, streamed, device_bytes, &applied, &err);
        curling_round_free(round);

        pthread_mutex_lock(&a->lock);
        if (ret < 0) {
            a->broken = true;
            a->broken_error = err;
        }
        pthread_mutex_unlock(&a->lock);
        a->ops.done(a->ops.opaque, &applied, ret, &err);

        pthread_mutex_lock(&a->lock);
        a->round = NULL;
        pthread_cond_broadcast(&a->cond);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

CurlingApplier *curling_applier_new(const CurlingRamLayout *layout,
                                    const CurlingCodec *codec,
                                    const CurlingApplierOps *ops)
{
    CurlingApplier *a = calloc(1, sizeof(*a));

    if (!a) {
        return NULL;
    }
    a->unpacker = curling_unpacker_new(codec);
    if (!a->unpacker) {
        free(a);
        return NULL;
    }
    a->layout = layout;
    a->ops = *ops;
    pthread_mutex_init(&a->lock, NULL);
    curling_cond_init(&a->cond);
    if (pthread_create(&a->thread, NULL, run, a)) {
        pthread_cond_destroy(&a->cond);
        pthread_mutex_destroy(&a->lock);
        curling_unpacker_free(a->unpacker);
        free(a);
        return NULL;
    }
    return a;
}

void curling_applier_free(CurlingApplier *a)
{
    if (!a) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->quit = true;
    pthread_cond_broadcast(&a->cond);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->cond);
    pthread_mutex_destroy(&a->lock);
    free(a->device.data);
    free(a->incoming.data);
    curling_unpacker_free(a->unpacker);
    free(a);
}

void curling_applier_submit(CurlingApplier *a, CurlingRound *whole,
                            bool streamed, uint64_t device_bytes)
{
    pthread_mutex_lock(&a->lock);
    a->round = whole;
    a->streamed = streamed;
    a->device_bytes = device_bytes;
    pthread_cond_broadcast(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

bool curling_applier_wait(CurlingApplier *a, int64_t deadline_ns)
{
    bool idle;

    pthread_mutex_lock(&a->lock);
    while (a->round &&
           curling_cond_wait_until(&a->cond, &a->lock,
                                   deadline_ns) != -ETIMEDOUT) {
    }
    idle = !a->round;
    pthread_mutex_unlock(&a->lock);
    return idle;
}

bool curling_applier_is_broken(CurlingApplier *a, CurlingError *err)
{
    bool broken;

    pthread_mutex_lock(&a->lock);
    broken = a->broken;
    if (broken && err) {
        *err = a->broken_error;
    }
    pthread_mutex_unlock(&a->lock);
    return broken;
}

void curling_applier_mend(CurlingApplier *a)
{
    pthread_mutex_lock(&a->lock);
    a->broken = false;
    pthread_mutex_unlock(&a->lock);
}

const uint8_t *curling_applier_device(const CurlingApplier *a,
                                      size_t *len_bytes)
{
    *len_bytes = a->device.len_bytes;
    return a->device.data;
}
