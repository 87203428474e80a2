/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: 32 elements, one scale. Byte i of q holds element i low and element i + 16 high. */
#include "quant/families.h"

void gm_unpack_q4_0(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q4_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) {
        float d = gm_load_f16(b->d);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((b->q[i] & 15) - 8);
            out[i + 16] = d * (float)((b->q[i] >> 4) - 8);
        }
    }
}

void gm_unpack_q4_1(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q4_1 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) {
        float d = gm_load_f16(b->d), m = gm_load_f16(b->m);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(b->q[i] & 15) + m;
            out[i + 16] = d * (float)(b->q[i] >> 4) + m;
        }
    }
}

/* The fifth bits: bit i of `high` belongs to element i. */
static void join_q5(const uint8_t q[16], uint32_t high, int32_t out[32])
{
    for (int i = 0; i < 16; i++) {
        out[i] = (q[i] & 15) | (int32_t)(high >> i & 1) << 4;
        out[i + 16] = q[i] >> 4 | (int32_t)(high >> (i + 16) & 1) << 4;
    }
}

void gm_unpack_q5_0(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q5_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) {
        float d = gm_load_f16(b->d);
        int32_t q[32];
        join_q5(b->q, gm_load_u32(b->high), q);
        for (int i = 0; i < 32; i++) out[i] = d * (float)(q[i] - 16);
    }
}

void gm_unpack_q5_1(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q5_1 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) {
        float d = gm_load_f16(b->d), m = gm_load_f16(b->m);
        int32_t q[32];
        join_q5(b->q, gm_load_u32(b->high), q);
        for (int i = 0; i < 32; i++) out[i] = d * (float)q[i] + m;
    }
}

void gm_unpack_q8_0(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const gm_block_q8_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, out += 32) {
        float d = gm_load_f16(b->d);
        for (int i = 0; i < 32; i++) out[i] = d * (float)b->q[i];
    }
}

static void min_max(const float x[32], float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < 32; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

static void split_q4(const uint8_t code[32], uint8_t q[16])
{
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
}

static void split_q5(const uint8_t code[32], uint8_t q[16], uint8_t high[4])
{
    split_q4(code, q);
    memset(high, 0, 4);
    for (int i = 0; i < 32; i++) high[i >> 3] = (uint8_t)(high[i >> 3] | (code[i] >> 4) << (i & 7));
}

void gm_pack_q4_0(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q4_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float d = gm_store_f16(b->d, gm_extreme(in, 32) / -8);
        uint8_t code[32];
        for (int i = 0; i < 32; i++) code[i] = (uint8_t)(gm_code(in[i], d, -8, 7) + 8);
        split_q4(code, b->q);
    }
}

void gm_pack_q5_0(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q5_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float d = gm_store_f16(b->d, gm_extreme(in, 32) / -16);
        uint8_t code[32];
        for (int i = 0; i < 32; i++) code[i] = (uint8_t)(gm_code(in[i], d, -16, 15) + 16);
        split_q5(code, b->q, b->high);
    }
}

void gm_pack_q4_1(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q4_1 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float min, max;
        min_max(in, &min, &max);
        float d = gm_store_f16(b->d, (max - min) / 15), m = gm_store_f16(b->m, min);
        uint8_t code[32];
        for (int i = 0; i < 32; i++) code[i] = (uint8_t)gm_code(in[i] - m, d, 0, 15);
        split_q4(code, b->q);
    }
}

void gm_pack_q5_1(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q5_1 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float min, max;
        min_max(in, &min, &max);
        float d = gm_store_f16(b->d, (max - min) / 31), m = gm_store_f16(b->m, min);
        uint8_t code[32];
        for (int i = 0; i < 32; i++) code[i] = (uint8_t)gm_code(in[i] - m, d, 0, 31);
        split_q5(code, b->q, b->high);
    }
}

void gm_pack_q8_0(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    gm_block_q8_0 *b = blocks;
    for (size_t n = 0; n < n_blocks; n++, b++, in += 32) {
        float d = gm_store_f16(b->d, gm_absmax(in, 32) / 127);
        /* Within gm_round's range for any d but 0, and as integers so that compilers make vectors of it. */
        for (int i = 0; i < 32; i++) {
            int32_t q = d == 0 ? 0 : gm_round(in[i] / d);
            q = q < 127 ? q : 127;
            b->q[i] = (int8_t)(q > -127 ? q : -127);
        }
    }
}
