/*
 * What the fuzz harnesses share: their input, frames made of it, a clock
 *
 * A harness, fuzz-NAME.c, has LLVMFuzzerTestOneInput() and asserts with
 * must().  "make fuzz" links it with libFuzzer; "make check" with
 * fuzz-replay.c, which feeds it the files of corpus/NAME.
 *
 * No fuzzer guesses a checksum, so what a peer says is written down in short:
 * fuzz_stream_read() makes frames of it that are right in all that the input
 * does not want to be wrong.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_FUZZ_H
#define CURLING_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "ram.h"

/* The entry point; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* Ends the process with @what unless @holds; NDEBUG or not. */
#define must(holds) fuzz_must(holds, #holds, __FILE__, __LINE__)
void fuzz_must(bool holds, const char *what, const char *file, int line);

/* ---- Input: what is beyond its end reads as 0 ---------------------------- */

typedef struct FuzzInput {
    const uint8_t *at;
    size_t left;
} FuzzInput;

uint8_t fuzz_u8(FuzzInput *in);
/* A number of a round: 0 to 253, 255: none, 254: the last there is. */
uint64_t fuzz_round(FuzzInput *in);
/* At most @len_bytes, taken off the input. */
FuzzInput fuzz_take(FuzzInput *in, size_t len_bytes);

/* ---- A clock ------------------------------------------------------------- */

/*
 * Takes the place of channel.c's: half a millisecond passes with each look
 * at it, and what fuzz_clock_pass() adds.  So nothing ever takes long, and no
 * result depends on how busy the machine is.
 */
void fuzz_clock_reset(void);
void fuzz_clock_pass(unsigned int ms);

/* ---- RAM: two blocks, with ASan's guard around each ---------------------- */

#define FUZZ_PAGE 4096
#define FUZZ_PAGES_0 5
#define FUZZ_PAGES_1 2
#define FUZZ_RAM_BYTES ((FUZZ_PAGES_0 + FUZZ_PAGES_1) * FUZZ_PAGE)
#define FUZZ_DEVICE_MAX 512

typedef struct FuzzRam {
    CurlingRamBlock blocks[2];
    CurlingRamLayout layout;
} FuzzRam;

void fuzz_ram_init(FuzzRam *ram);
void fuzz_ram_destroy(FuzzRam *ram);
/* All of it, block behind block; @to has FUZZ_RAM_BYTES. */
void fuzz_ram_copy(const FuzzRam *ram, uint8_t *to);
/* What delta.c is held against: write @delta, which is right, over @page. */
void fuzz_delta_model(const uint8_t *delta, size_t len_bytes, uint8_t *page,
                      size_t page_bytes);
/*
 * What ram.c is held against: write the pages of @payload, which is right and
 * may be packed by the toy codec, into @image, as from fuzz_ram_copy(), and
 * its device state to @device (FUZZ_DEVICE_MAX bytes) from *@device_bytes on,
 * where there is that of the round before, and zeroes beyond its end.
 */
void fuzz_ram_model(const uint8_t *payload, size_t len_bytes, uint8_t *image,
                    uint8_t *device, size_t *device_bytes);

/* ---- A peer's frames ----------------------------------------------------- */

#define FUZZ_FRAMES_MAX 128
#define FUZZ_STREAM_MAX (6u << 20)

/* What else may happen between two frames; types that are none. */
#define FUZZ_EVENT_FIRST 240

typedef struct FuzzFrame {
    CurlingHeader header;
    size_t start;               /* in the stream */
    size_t payload;
    size_t end;
    bool broken;                /* in a way that ends the connection */
    uint8_t argument;           /* of an event, which has no bytes */
} FuzzFrame;

typedef struct FuzzStream {
    uint8_t *bytes;
    size_t len_bytes;
    FuzzFrame frames[FUZZ_FRAMES_MAX];
    unsigned int n_frames;
} FuzzStream;

/*
 * Frames until the input ends or octet 255 comes as a type.  A frame is
 *
 *      type, how, fault, round, length (2 octets), payload
 *
 * and an event (types 240 to 254) type and argument.  @how has FUZZ_HOW_*;
 * @fault is one of FUZZ_FAULT_*, greater: none.  Without FUZZ_HOW_RAW the
 * payload is written in short as well:
 *
 *      HELLO           session, generation, peer timeout in 8 ms, round;
 *                      then a description, or none for @description
 *      WELCOME         session, peer timeout in 8 ms, round
 *      ROUND_BEGIN     kind, base
 *      DATA            records; each of their pages is one octet
 *      ROUND_END       (nothing: it fits the frames before it)
 *      other types     as it is, and zeroes up to the length that they have
 *
 * Free with fuzz_stream_free().
 */
void fuzz_stream_read(FuzzStream *stream, FuzzInput *in,
                      const char *description);
void fuzz_stream_free(FuzzStream *stream);

#define FUZZ_HOW_OPTIONAL 0x01          /* the frame's flag */
#define FUZZ_HOW_RAW 0x02
#define FUZZ_HOW_SEQUENCE 0x04          /* another one than is next */
#define FUZZ_HOW_GENERATION 0x08        /* another one than HELLO's */

enum {
    FUZZ_FAULT_NONE,
    FUZZ_FAULT_MAGIC,
    FUZZ_FAULT_VERSION,
    FUZZ_FAULT_FLAGS,
    FUZZ_FAULT_RESERVED,
    FUZZ_FAULT_HEADER_CRC,
    FUZZ_FAULT_PAYLOAD_CRC,
    FUZZ_FAULT_LONGER,
    FUZZ_FAULT_SHORTER,
    FUZZ_FAULT_HUGE,
    FUZZ_FAULT_END,             /* ROUND_END does not fit */
    FUZZ_FAULT_CUT,             /* and nothing comes any more */
};

/*
 * Records in short: of pages, an octet each that fills the page (0: zeroes);
 * a ZSTD record whose FIRST is 0 takes all that follows, in short too, through
 * the toy codec; all else as it is.  Returns how many of @max_bytes were
 * written to @to.
 */
size_t fuzz_records(FuzzInput *in, uint8_t *to, size_t max_bytes);

#endif
