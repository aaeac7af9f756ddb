/*
 * Intake: frames of rounds in, whole rounds out
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>

#include "intake.h"

int curling_intake_init(CurlingIntake *intake, const CurlingRamLayout *layout,
                        CurlingPool *pool, const CurlingCodec *codec)
{
    *intake = (CurlingIntake) { .layout = layout, .pool = pool };
    intake->round = curling_round_new(pool);
    intake->unpacker = curling_unpacker_new(codec);
    return intake->round && intake->unpacker ? 0 : -ENOMEM;
}

void curling_intake_destroy(CurlingIntake *intake)
{
    curling_round_free(intake->round);
    curling_unpacker_free(intake->unpacker);
    intake->round = NULL;
    intake->unpacker = NULL;
}

bool curling_intake_is_open(const CurlingIntake *intake)
{
    return curling_round_state(intake->round) != CURLING_ROUND_EMPTY;
}

static int check_begin(const CurlingHeader *header, const uint8_t *payload,
                       uint64_t held, CurlingError *err)
{
    uint32_t kind = curling_get_u32(payload + CURLING_BEGIN_KIND);
    uint64_t base = curling_get_u64(payload + CURLING_BEGIN_BASE);
    bool holds = held != CURLING_ROUND_NONE;

    if (curling_get_u32(payload + CURLING_BEGIN_RESERVED)) {
        return curling_error_set(err, -EPROTO, "got a reserved field of "
                                 "ROUND_BEGIN that is not 0");
    }
    if (kind > CURLING_KIND_FULL) {
        return curling_error_set(err, -EPROTO, "got a round of kind %" PRIu32
                                 ", expected 0 to %d", kind,
                                 CURLING_KIND_FULL);
    }
    if (header->round == CURLING_ROUND_NONE) {
        return curling_error_set(err, -EPROTO, "got a round with no number");
    }
    if (holds && header->round <= held) {
        return curling_error_set(err, -EPROTO, "got round %" PRIu64
                                 ", expected one after %" PRIu64,
                                 header->round, held);
    }
    if (kind == CURLING_KIND_DELTA && !holds) {
        return curling_error_set(err, -EPROTO, "got a delta against round %"
                                 PRIu64 ", but no round is held", base);
    }
    /* Only a SYNC round is loaded on trial before it counts as held. */
    if (kind == CURLING_KIND_FULL && !holds) {
        return curling_error_set(err, -EPROTO, "got a first round of kind %"
                                 PRIu32 ", expected %d", kind,
                                 CURLING_KIND_SYNC);
    }
    if (kind == CURLING_KIND_DELTA && base != held) {
        return curling_error_set(err, -EPROTO, "got a delta against round %"
                                 PRIu64 ", but round %" PRIu64 " is held",
                                 base, held);
    }
    return 0;
}

int curling_intake_begin(CurlingIntake *intake, const CurlingHeader *header,
                         const uint8_t *payload, uint64_t held,
                         CurlingError *err)
{
    uint32_t kind;
    int ret;

    if (curling_intake_is_open(intake)) {
        return curling_error_set(err, -EPROTO, "got ROUND_BEGIN of round %"
                                 PRIu64 " inside round %" PRIu64,
                                 header->round,
                                 curling_round_number(intake->round));
    }
    ret = check_begin(header, payload, held, err);
    if (ret < 0) {
        return ret;
    }
    kind = curling_get_u32(payload + CURLING_BEGIN_KIND);
    intake->streaming = kind == CURLING_KIND_SYNC &&
                        held == CURLING_ROUND_NONE;
    intake->device_bytes = 0;
    curling_round_begin(intake->round, header->round, header->generation, kind,
                        curling_get_u64(payload + CURLING_BEGIN_BASE));
    return 0;
}

int curling_intake_room(CurlingIntake *intake, const CurlingHeader *header,
                        uint8_t **room, CurlingError *err)
{
    int ret;

    if (!curling_intake_is_open(intake)) {
        return curling_error_set(err, -EPROTO,
                                 "got DATA, expected ROUND_BEGIN");
    }
    do {
        *room = curling_round_reserve(intake->round, header->length_bytes);
        if (*room) {
            return 0;
        }
        /* Says why; -EAGAIN: a round was freed in this very moment. */
        ret = curling_round_append(intake->round, header, NULL, err);
    } while (ret == -EAGAIN);
    if (ret != -EOVERFLOW) {
        return ret;
    }
    return curling_error_set(err, ret, "round %" PRIu64 " does not fit into "
                             "max-round-bytes (%" PRIu64 "); raise it at the "
                             "receiver", header->round,
                             curling_pool_limit(intake->pool));
}

int curling_intake_data(CurlingIntake *intake, const CurlingHeader *header,
                        const uint8_t *room, CurlingError *err)
{
    bool deltas = curling_round_kind(intake->round) == CURLING_KIND_DELTA;
    const uint8_t *records = room;
    size_t len_bytes = header->length_bytes;
    int ret;

    ret = curling_unpack(intake->unpacker, &records, &len_bytes, err);
    if (ret == 0) {
        ret = curling_ram_validate(intake->layout, deltas, records, len_bytes,
                                   &intake->device_bytes, err);
    }
    return ret < 0 ? ret : curling_round_append(intake->round, header, room,
                                                err);
}

void curling_intake_streamed(CurlingIntake *intake)
{
    curling_round_drop_frames(intake->round);
}

int curling_intake_end(CurlingIntake *intake, const CurlingHeader *header,
                       const uint8_t *payload, CurlingRound **whole,
                       CurlingError *err)
{
    int ret;

    if (!curling_intake_is_open(intake) ||
        header->round != curling_round_number(intake->round)) {
        return curling_error_set(err, -EPROTO, "got ROUND_END of round %"
                                 PRIu64 " outside of it", header->round);
    }
    if (!intake->device_bytes) {
        return curling_error_set(err, -EPROTO, "round %" PRIu64
                                 " has no device state", header->round);
    }
    ret = curling_round_verify(intake->round, payload, err);
    if (ret < 0) {
        return ret;
    }
    *whole = curling_round_take(intake->round);
    if (!*whole) {
        return curling_error_set(err, -ENOMEM, "no memory for a round");
    }
    return 0;
}

bool curling_intake_discard(CurlingIntake *intake)
{
    bool was_open = curling_intake_is_open(intake);

    curling_round_discard(intake->round);
    intake->streaming = false;
    return was_open;
}
