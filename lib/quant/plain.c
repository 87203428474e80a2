/* F32, F16, BF16: a block is one element. */
#include "quant/families.h"

void gm_unpack_f32(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) out[i] = gm_load_f32(b + 4 * i);
}

void gm_unpack_f16(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) out[i] = gm_load_f16(b + 2 * i);
}

void gm_unpack_bf16(const void *restrict blocks, float *restrict out, size_t n_blocks)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) out[i] = gm_f32_from_bf16(gm_load_u16(b + 2 * i));
}

static void store_u16(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

void gm_pack_f32(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++, b += 4) {
        uint32_t bits = gm_f32_bits(in[i]);
        store_u16(b, bits);
        store_u16(b + 2, bits >> 16);
    }
}

void gm_pack_f16(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) store_u16(b + 2 * i, gm_f16_from_f32(in[i]));
}

void gm_pack_bf16(const float *restrict in, void *restrict blocks, size_t n_blocks)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        uint32_t bits = gm_f32_bits(in[i]);
        bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1); /* ties to even; a carry into the exponent is right */
        store_u16(b + 2 * i, nan ? bits >> 16 | 0x40 : rounded >> 16);
    }
}
