/*
 * CRC32C (Castagnoli): the checksum of frames and rounds
 *
 * A checksum is a polynomial over GF(2), and appending a zero byte to the
 * data multiplies it by x^8 modulo the generator.  Here the highest bit of a
 * word is the coefficient of x^0, as everywhere with a reflected CRC.
 *
 * The processor's crc32 instruction takes three cycles but starts one each
 * cycle: three streams side by side keep it busy.  A stream of n bytes is
 * joined to the next by multiplying with x^(8n), which four look-ups do.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "crc32c.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HAVE_SSE42_CODE 1
#else
#define HAVE_SSE42_CODE 0
#endif

#define POLYNOMIAL 0x82f63b78u

/* Constant after init_tables(). */
static uint32_t slices[8][256];

static uint64_t load_le64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 |
           (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

/* @state is the checksum without the final xor, here and below. */
static uint32_t update_table(uint32_t state, const uint8_t *p, size_t len)
{
    while (len >= 8) {
        uint64_t word = load_le64(p) ^ state;

        state = 0;
        for (int i = 0; i < 8; i++) {
            state ^= slices[7 - i][word >> (8 * i) & 0xff];
        }
        p += 8;
        len -= 8;
    }
    while (len--) {
        state = state >> 8 ^ slices[0][(state ^ *p++) & 0xff];
    }
    return state;
}

static void init_slices(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;

        for (int bit = 0; bit < 8; bit++) {
            state = state >> 1 ^ (state & 1 ? POLYNOMIAL : 0);
        }
        slices[0][byte] = state;
    }
    for (int i = 1; i < 8; i++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t state = slices[i - 1][byte];

            slices[i][byte] = state >> 8 ^ slices[0][state & 0xff];
        }
    }
}

#if HAVE_SSE42_CODE

/* Bytes of a stream: powers of two, multiples of 8 */
#define LONG_BYTES 4096
#define SHORT_BYTES 256

/* Multiplication with x^(8 * bytes), a byte of the factor at a time */
typedef struct ShiftTable {
    uint32_t product[4][256];
} ShiftTable;

/* Constant after init_tables(). */
static ShiftTable shift_long;
static ShiftTable shift_short;
static bool use_sse42;

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit) {
            product ^= b;
        }
        b = b >> 1 ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

static void init_shift(ShiftTable *table, size_t bytes)
{
    uint32_t factor = 1u << (31 - 8);   /* x^8 */

    for (; bytes > 1; bytes /= 2) {
        factor = multiply(factor, factor);
    }
    for (int i = 0; i < 4; i++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            table->product[i][byte] = multiply(factor, byte << (8 * i));
        }
    }
}

static uint32_t shift(const ShiftTable *table, uint32_t state)
{
    return table->product[0][state & 0xff] ^
           table->product[1][state >> 8 & 0xff] ^
           table->product[2][state >> 16 & 0xff] ^
           table->product[3][state >> 24];
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

/* Three streams of @bytes each, one behind the other at @p */
__attribute__((target("sse4.2")))
static inline uint32_t update_three(uint32_t state, const uint8_t *p,
                                    size_t bytes, const ShiftTable *table)
{
    uint64_t a = state;
    uint64_t b = 0;
    uint64_t c = 0;

    for (const uint8_t *end = p + bytes; p < end; p += 8) {
        a = _mm_crc32_u64(a, load64(p));
        b = _mm_crc32_u64(b, load64(p + bytes));
        c = _mm_crc32_u64(c, load64(p + 2 * bytes));
    }
    state = shift(table, (uint32_t)a) ^ (uint32_t)b;
    return shift(table, state) ^ (uint32_t)c;
}

__attribute__((target("sse4.2")))
static uint32_t update_sse42(uint32_t state, const uint8_t *p, size_t len)
{
    while (len && (uintptr_t)p % 8) {
        state = _mm_crc32_u8(state, *p++);
        len--;
    }
    while (len >= 3 * LONG_BYTES) {
        state = update_three(state, p, LONG_BYTES, &shift_long);
        p += 3 * LONG_BYTES;
        len -= 3 * LONG_BYTES;
    }
    while (len >= 3 * SHORT_BYTES) {
        state = update_three(state, p, SHORT_BYTES, &shift_short);
        p += 3 * SHORT_BYTES;
        len -= 3 * SHORT_BYTES;
    }
    while (len >= 8) {
        state = (uint32_t)_mm_crc32_u64(state, load64(p));
        p += 8;
        len -= 8;
    }
    while (len--) {
        state = _mm_crc32_u8(state, *p++);
    }
    return state;
}

static void init_sse42(void)
{
    init_shift(&shift_long, LONG_BYTES);
    init_shift(&shift_short, SHORT_BYTES);
    __builtin_cpu_init();
    use_sse42 = __builtin_cpu_supports("sse4.2");
}

static uint32_t update(uint32_t state, const uint8_t *p, size_t len)
{
    return use_sse42 ? update_sse42(state, p, len)
                     : update_table(state, p, len);
}

#else

static const bool use_sse42 = false;

static void init_sse42(void)
{
}

static uint32_t update(uint32_t state, const uint8_t *p, size_t len)
{
    return update_table(state, p, len);
}

#endif

static void init_tables(void)
{
    init_slices();
    init_sse42();
}

static void init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, init_tables);
}

uint32_t curling_crc32c(uint32_t crc, const void *data, size_t len_bytes)
{
    init_once();
    return ~update(~crc, data, len_bytes);
}

uint32_t curling_crc32c_portable(uint32_t crc, const void *data,
                                 size_t len_bytes)
{
    init_once();
    return ~update_table(~crc, data, len_bytes);
}

const char *curling_crc32c_implementation(void)
{
    init_once();
    return use_sse42 ? "sse4.2" : "table";
}
