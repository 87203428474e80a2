/* quant: the block formats of GGUF tensors and their plain-C decoding, which is the oracle for every kernel.
 * One file per family of formats; layouts as in docs/formats.md. */
#ifndef GM_QUANT_H
#define GM_QUANT_H

#include "base/base.h"

/* The numbers are the GGUF file's. */
typedef enum gm_type {
    GM_F32 = 0,
    GM_F16 = 1,
    GM_Q4_0 = 2,
    GM_Q4_1 = 3,
    GM_Q5_0 = 6,
    GM_Q5_1 = 7,
    GM_Q8_0 = 8,
    GM_Q8_1 = 9, /* this and Q8_K: other runtimes' activations, in no file */
    GM_Q2_K = 10,
    GM_Q3_K = 11,
    GM_Q4_K = 12,
    GM_Q5_K = 13,
    GM_Q6_K = 14,
    GM_Q8_K = 15,
    GM_IQ2_XXS = 16,
    GM_IQ2_XS = 17,
    GM_IQ3_XXS = 18,
    GM_IQ1_S = 19,
    GM_IQ4_NL = 20,
    GM_IQ3_S = 21,
    GM_IQ2_S = 22,
    GM_IQ4_XS = 23,
    GM_I8 = 24,
    GM_I16 = 25,
    GM_I32 = 26,
    GM_I64 = 27,
    GM_F64 = 28,
    GM_IQ1_M = 29,
    GM_BF16 = 30,
    GM_TQ1_0 = 34,
    GM_TQ2_0 = 35,
    GM_MXFP4 = 39,
    GM_NVFP4 = 40,
    GM_Q1_0 = 41,
    GM_Q2_0 = 42,
    GM_TYPE_LIMIT = 64
} gm_type;

typedef struct gm_format {
    gm_type type;
    const char *name; /* "Q4_K" */
    uint32_t block;   /* elements */
    uint32_t block_bytes;
    /* n_blocks blocks to n_blocks × block floats. NULL: a known type that this library cannot decode. */
    void (*unpack)(const void *blocks, float *out, size_t n_blocks);
    /* Round-to-nearest packing for tests, generators and the KV cache; NULL where there is none. */
    void (*pack)(const float *in, void *blocks, size_t n_blocks);
    /* One block as integers, -127 at the least, with a scale for each 16: element i is scale[i / 16] × q[i], and unpack
     * gives just that. NULL for formats that every kernel takes apart itself. */
    void (*expand)(const void *block, int8_t *q, float *scale);
} gm_format;

/* NULL: not a type GGUF knows. */
const gm_format *gm_format_of(uint32_t type);
/* Bytes of a row of n elements; n is a multiple of the block. */
static inline uint64_t gm_row_bytes(const gm_format *f, uint64_t n) { return n / f->block * f->block_bytes; }

/* The blocks as files hold them: bytes only, so any address will do. d, dmin and m are f16. Which element a bit belongs
 * to is in docs/formats.md. */
typedef struct gm_block_q4_0 {
    uint8_t d[2], q[16];
} gm_block_q4_0; /* 32 elements; IQ4_NL is laid out the same */
typedef struct gm_block_q4_1 {
    uint8_t d[2], m[2], q[16];
} gm_block_q4_1; /* 32 */
typedef struct gm_block_q5_0 {
    uint8_t d[2], high[4], q[16];
} gm_block_q5_0; /* 32 */
typedef struct gm_block_q5_1 {
    uint8_t d[2], m[2], high[4], q[16];
} gm_block_q5_1; /* 32 */
typedef struct gm_block_q8_0 {
    uint8_t d[2];
    int8_t q[32];
} gm_block_q8_0; /* 32 */
typedef struct gm_block_q2_k {
    uint8_t scales[16], q[64], d[2], dmin[2];
} gm_block_q2_k; /* 256 */
typedef struct gm_block_q3_k {
    uint8_t high[32], q[64], scales[12], d[2];
} gm_block_q3_k; /* 256 */
typedef struct gm_block_q4_k {
    uint8_t d[2], dmin[2], scales[12], q[128];
} gm_block_q4_k; /* 256 */
typedef struct gm_block_q5_k {
    uint8_t d[2], dmin[2], scales[12], high[32], q[128];
} gm_block_q5_k; /* 256 */
typedef struct gm_block_q6_k {
    uint8_t low[128], high[64];
    int8_t scales[16];
    uint8_t d[2];
} gm_block_q6_k; /* 256 */
typedef struct gm_block_iq4_xs {
    uint8_t d[2], scales_high[2], scales_low[4], q[128];
} gm_block_iq4_xs; /* 256 */
typedef struct gm_block_iq2_xxs {
    uint8_t d[2], q[64];
} gm_block_iq2_xxs; /* 256 */
typedef struct gm_block_iq2_xs {
    uint8_t d[2], q[64], scales[8];
} gm_block_iq2_xs; /* 256 */
typedef struct gm_block_iq2_s {
    uint8_t d[2], q[32], signs[32], high[8], scales[8];
} gm_block_iq2_s; /* 256 */
typedef struct gm_block_iq3_xxs {
    uint8_t d[2], q[64], rest[32];
} gm_block_iq3_xxs; /* 256 */
typedef struct gm_block_iq3_s {
    uint8_t d[2], q[64], high[8], signs[32], scales[4];
} gm_block_iq3_s; /* 256 */
typedef struct gm_block_iq1_s {
    uint8_t d[2], q[32], rest[16];
} gm_block_iq1_s; /* 256 */
typedef struct gm_block_iq1_m {
    uint8_t q[32], high[16], scales[8];
} gm_block_iq1_m; /* 256 */
typedef struct gm_block_mxfp4 {
    uint8_t e, q[16];
} gm_block_mxfp4; /* 32 */
typedef struct gm_block_nvfp4 {
    uint8_t d[4], q[32];
} gm_block_nvfp4; /* 64 */
typedef struct gm_block_tq1_0 {
    uint8_t q[48], last[4], d[2];
} gm_block_tq1_0; /* 256 */
typedef struct gm_block_tq2_0 {
    uint8_t q[64], d[2];
} gm_block_tq2_0; /* 256 */

static inline float gm_load_f16(const void *p) { return gm_f32_from_f16(gm_load_u16(p)); }
/* The 6-bit scales and minima of the eight 32-element runs of Q4_K and Q5_K. */
static inline void gm_scales_q4_k(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = packed[j] & 63;
        min[j] = packed[j + 4] & 63;
        scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
        min[j + 4] = (uint8_t)((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
}
/* The sixteen values of IQ4_NL and IQ4_XS, ascending. */
extern const int8_t gm_iq4_values[16];
/* The sixteen values of MXFP4 and NVFP4, doubled: 0 … 12 and the same negated. */
extern const int8_t gm_fp4_values[16];
/* The scale of an MXFP4 block for these values, 2^(e - 128). */
static inline float gm_scale_mxfp4(uint32_t e) { return gm_f32_from_bits(e < 2 ? 0x200000u << e : (e - 1) << 23); }
/* The scale of 16 elements of an NVFP4 block for these values: half of an unsigned E4M3, whose NaN counts as zero. */
static inline float gm_scale_nvfp4(uint32_t code)
{
    uint32_t exponent = code >> 3 & 15, normal = exponent != 0, fraction = (code & 7) | normal << 3;
    return (float)(code == 0x7f ? 0 : (int32_t)(fraction << (exponent - normal))) * 0x1p-10f;
}

/* n values × factor as Q8_0, from any format with a decoder; n is a multiple of 32 and of its block. The caller's
 * floating-point modes do not matter. */
void gm_requant_q8_0(const gm_format *f, const void *blocks, float factor, gm_block_q8_0 *out, size_t n);

/* Q8 activations, the right-hand side of integer dots: 32 int8 with one scale, and the sum for formats with a minimum.
 * A vector of K elements (K a multiple of 32) is K/32 of these. */
typedef struct gm_q8a {
    float d;   /* absmax / 127 */
    float sum; /* d × Σ q, at most ±FLT_MAX */
    int8_t q[32];
} gm_q8a;
/* Plain C: q = round to nearest even (x / d); d = 0 for a block of zeros, or so near zero that d would be subnormal.
 * A block with an infinity or a NaN gets such a d, so that it is not lost. */
void gm_q8a_pack(const float *x, gm_q8a *out, size_t n_blocks);

#endif
