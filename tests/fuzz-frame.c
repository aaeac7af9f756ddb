/*
 * Fuzz: one frame, as it comes from a peer
 *
 * Input: an octet, then a header of 40 octets and a payload, as they are on
 * the wire.  Bits of the first octet: 1 magic and version as they are (else
 * right), 2 the header's checksum, 4 the payload's, 8 the length (else that
 * of the payload).
 * Invariants: what is decoded comes out the same when it is encoded again;
 * what is refused writes nothing but a sentence; no length is above the
 * limit; what has the right length and checksum is taken.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "fuzz.h"

#define AS_IT_IS_MAGIC 1
#define AS_IT_IS_CRC 2
#define AS_IT_IS_PAYLOAD_CRC 4
#define AS_IT_IS_LENGTH 8

static void mend(uint8_t *wire, size_t payload_bytes, uint8_t as_it_is)
{
    if (!(as_it_is & AS_IT_IS_MAGIC)) {
        curling_put_u32(wire + CURLING_HEADER_MAGIC, CURLING_WIRE_MAGIC);
        curling_put_u16(wire + CURLING_HEADER_VERSION, CURLING_WIRE_VERSION);
    }
    if (!(as_it_is & AS_IT_IS_LENGTH)) {
        curling_put_u32(wire + CURLING_HEADER_LENGTH,
                        (uint32_t)payload_bytes);
    }
    if (!(as_it_is & AS_IT_IS_PAYLOAD_CRC)) {
        curling_put_u32(wire + CURLING_HEADER_PAYLOAD_CRC,
                        curling_crc32c(0, wire + CURLING_HEADER_BYTES,
                                       payload_bytes));
    }
    if (!(as_it_is & AS_IT_IS_CRC)) {
        curling_put_u32(wire + CURLING_HEADER_CRC,
                        curling_crc32c(0, wire, CURLING_HEADER_CRC));
    }
}

static void check_refusal(int ret, const CurlingError *err)
{
    must(ret == -EPROTO);
    must(memchr(err->text, 0, sizeof(err->text)));
    must(strlen(err->text) > 0);
}

static void check_payload(const CurlingHeader *header, const uint8_t *payload,
                          size_t payload_bytes)
{
    CurlingError err = { "" };
    int ret;

    /* Whoever reads a frame has as much as its header says. */
    if (header->length_bytes > payload_bytes) {
        return;
    }
    ret = curling_frame_check_payload(header, payload, &err);
    if (curling_crc32c_portable(0, payload, header->length_bytes) ==
        header->payload_crc) {
        must(ret == 0);
    } else {
        check_refusal(ret, &err);
    }
}

static void check_type(const CurlingHeader *header)
{
    CurlingError err = { "" };
    int ret = curling_frame_check_type(header, &err);
    bool known = strcmp(curling_frame_type_name(header->type), "unknown");

    if (ret < 0) {
        check_refusal(ret, &err);
    } else {
        must(ret == !known);
        must(known || (header->flags & CURLING_FLAG_OPTIONAL));
    }
}

static void build_again(const CurlingHeader *header, const uint8_t *payload)
{
    uint8_t *wire = malloc(CURLING_HEADER_BYTES + header->length_bytes);
    CurlingHeader built = *header;
    CurlingHeader again;

    must(curling_frame_build(&built, payload, header->length_bytes, wire) ==
         CURLING_HEADER_BYTES + header->length_bytes);
    must(curling_frame_decode(wire, &again, NULL) == 0);
    must(again.round == header->round && again.type == header->type);
    must(curling_frame_check_payload(&again, wire + CURLING_HEADER_BYTES,
                                     NULL) == 0);
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    FuzzInput in = { data, len_bytes };
    uint8_t as_it_is = fuzz_u8(&in);
    size_t payload_bytes = in.left > CURLING_HEADER_BYTES ?
                           in.left - CURLING_HEADER_BYTES : 0;
    uint8_t *wire = calloc(1, CURLING_HEADER_BYTES + payload_bytes);
    uint8_t again[CURLING_HEADER_BYTES];
    CurlingHeader header;
    CurlingHeader untouched;
    CurlingError err = { "" };
    int ret;

    if (in.left) {
        memcpy(wire, in.at, in.left);
    }
    mend(wire, payload_bytes, as_it_is);
    memset(&header, 0xa5, sizeof(header));
    memset(&untouched, 0xa5, sizeof(untouched));
    ret = curling_frame_decode(wire, &header, &err);
    if (ret < 0) {
        check_refusal(ret, &err);
        must(!memcmp(&header, &untouched, sizeof(header)));
    } else {
        must(header.length_bytes <= CURLING_PAYLOAD_MAX);
        curling_frame_encode(&header, again);
        must(!memcmp(wire, again, sizeof(again)));
        check_type(&header);
        check_payload(&header, wire + CURLING_HEADER_BYTES, payload_bytes);
        if (header.length_bytes <= payload_bytes) {
            build_again(&header, wire + CURLING_HEADER_BYTES);
        }
    }
    free(wire);
    return 0;
}
