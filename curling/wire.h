/*
 * What goes over the wire: the twin of the chapter "Wire format" in
 * docs/curling.txt, and nothing else
 *
 * All integers are big-endian.  Reserved fields are written as 0 and
 * refused otherwise.  tests/test-docs-wire.sh holds the two together.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_WIRE_H
#define CURLING_WIRE_H

#include <stdint.h>

#define CURLING_WIRE_MAGIC              0x4355524c      /* "CURL" */
#define CURLING_WIRE_VERSION            1

/* Frame header: offsets in bytes */
#define CURLING_HEADER_MAGIC            0       /* u32 */
#define CURLING_HEADER_VERSION          4       /* u16 */
#define CURLING_HEADER_TYPE             6       /* u8 */
#define CURLING_HEADER_FLAGS            7       /* u8 */
#define CURLING_HEADER_GENERATION       8       /* u32 */
#define CURLING_HEADER_SEQUENCE         12      /* u32 */
#define CURLING_HEADER_ROUND            16      /* u64 */
#define CURLING_HEADER_LENGTH           24      /* u32 */
#define CURLING_HEADER_PAYLOAD_CRC      28      /* u32 */
#define CURLING_HEADER_RESERVED         32      /* u32 */
#define CURLING_HEADER_CRC              36      /* u32, of bytes 0 to 35 */
#define CURLING_HEADER_BYTES            40

/* Flags */
#define CURLING_FLAG_OPTIONAL           0x01    /* unknown type: skip it */

/* Frame types */
#define CURLING_TYPE_HELLO              1
#define CURLING_TYPE_WELCOME            2
#define CURLING_TYPE_REJECT             3
#define CURLING_TYPE_ROUND_BEGIN        4
#define CURLING_TYPE_DATA               5
#define CURLING_TYPE_ROUND_END          6
#define CURLING_TYPE_RECEIVED           7
#define CURLING_TYPE_APPLIED            8
#define CURLING_TYPE_FAILED             9
#define CURLING_TYPE_HEARTBEAT          10
#define CURLING_TYPE_STOP               11
#define CURLING_TYPE_STOP_ACK           12
#define CURLING_TYPE_SUPERSEDED         13
#define CURLING_TYPE_POWEROFF           14
#define CURLING_TYPE_FENCE              15
#define CURLING_TYPE_FENCED             16

/* Limits */
#define CURLING_PAYLOAD_MAX             262144  /* of any frame */
#define CURLING_TEXT_MAX                1024    /* REJECT, FAILED */
#define CURLING_DESCRIPTION_MAX         65536   /* in HELLO */
#define CURLING_SESSION_ID_BYTES        16

/* "No round": in HELLO, WELCOME and ROUND_BEGIN */
#define CURLING_ROUND_NONE              UINT64_MAX

/* HELLO, sender to receiver: fixed part, then the description */
#define CURLING_HELLO_SESSION           0       /* 16 octets */
#define CURLING_HELLO_HEARTBEAT_MS      16      /* u32: how often I beat */
#define CURLING_HELLO_PEER_TIMEOUT_MS   20      /* u32 */
#define CURLING_HELLO_COMMITTED         24      /* u64: last round known to
                                                 * be whole, or none */
#define CURLING_HELLO_FENCE_AFTER_MS    32      /* u32: my lease, 0: none */
#define CURLING_HELLO_RESERVED          36      /* u32 */
#define CURLING_HELLO_DESCRIPTION       40      /* "key=value\n" lines */

/* WELCOME, receiver to sender */
#define CURLING_WELCOME_SESSION         0       /* 16 octets, as in HELLO */
#define CURLING_WELCOME_HEARTBEAT_MS    16      /* u32 */
#define CURLING_WELCOME_PEER_TIMEOUT_MS 20      /* u32 */
#define CURLING_WELCOME_HELD            24      /* u64: last whole round */
#define CURLING_WELCOME_INSTANCE        32      /* u64: which process I am */
#define CURLING_WELCOME_BYTES           40

/* REJECT: kind, then text */
#define CURLING_REJECT_KIND             0       /* u32 */
#define CURLING_REJECT_TEXT             4
#define CURLING_REJECT_FINAL            1       /* do not come back */
#define CURLING_REJECT_BUSY             2       /* come back later */

/* ROUND_BEGIN */
#define CURLING_BEGIN_KIND              0       /* u32 */
#define CURLING_BEGIN_RESERVED          4       /* u32 */
#define CURLING_BEGIN_BASE              8       /* u64: a delta's base */
#define CURLING_BEGIN_BYTES             16

/* Kinds of a round */
#define CURLING_KIND_SYNC               0       /* all of RAM, taken live */
#define CURLING_KIND_DELTA              1       /* what changed since base */
#define CURLING_KIND_FULL               2       /* all of RAM, one instant */

/* ROUND_END */
#define CURLING_END_FRAMES              0       /* u64: DATA frames */
#define CURLING_END_BYTES               8       /* u64: their payload */
#define CURLING_END_DIGEST              16      /* u32: CRC32C of their
                                                 * headers, in order */
#define CURLING_END_RESERVED            20      /* u32 */
#define CURLING_END_SIZE                24

/* APPLIED */
#define CURLING_APPLIED_US              0       /* u64: time it took */
#define CURLING_APPLIED_BYTES           8

/* HEARTBEAT (optional frame) */
#define CURLING_HEARTBEAT_INTERVAL_MS   0       /* u32: how often I beat */
#define CURLING_HEARTBEAT_LOOP_AGE_MS   4       /* u32: of my main loop's
                                                 * last tick */
#define CURLING_HEARTBEAT_ROUND_AGE_MS  8       /* u32: of my last round */
#define CURLING_HEARTBEAT_LATE_MS       12      /* u32: since one is due */
#define CURLING_HEARTBEAT_STAMP         16      /* u64: my clock */
#define CURLING_HEARTBEAT_ECHO          24      /* u64: your last stamp, 0:
                                                 * none yet */
#define CURLING_HEARTBEAT_BYTES         32

/* FENCE */
#define CURLING_FENCE_TIMEOUT_MS        0       /* u32: no answer is of use
                                                 * later than that */
#define CURLING_FENCE_RESERVED          4       /* u32 */
#define CURLING_FENCE_BYTES             8

/* DATA holds whole records; a record never continues in the next frame */
#define CURLING_RECORD_TYPE             0       /* u8 */
#define CURLING_RECORD_RESERVED         1       /* u8 */
#define CURLING_RECORD_BLOCK            2       /* u16: RAM block, by its
                                                 * place in the description */
#define CURLING_RECORD_COUNT            4       /* u32: pages or octets */
#define CURLING_RECORD_FIRST            8       /* u64: page or octet */
#define CURLING_RECORD_BYTES            16

#define CURLING_RECORD_PAGES            1       /* COUNT pages follow */
#define CURLING_RECORD_ZERO             2       /* COUNT pages of zeroes */
#define CURLING_RECORD_DEVICE           3       /* COUNT octets of device
                                                 * state, from FIRST on */
#define CURLING_RECORD_DELTA            4       /* COUNT pages: u16 length
                                                 * and delta of each */
#define CURLING_RECORD_DEVICE_DELTA     5       /* as DEVICE: u32 length and
                                                 * delta */
#define CURLING_RECORD_ZSTD             6       /* FIRST octets follow that
                                                 * unpack to COUNT octets of
                                                 * other records */

/* Octets of a page, or of device state, that one delta is about */
#define CURLING_DELTA_MAX               65536

#endif
