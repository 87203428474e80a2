#include "quant/families.h"

#define DECODED(TYPE, name, block, type, unpack, pack)                                                                 \
    [GM_##TYPE] = { GM_##TYPE, name, block, sizeof(type), unpack, pack, NULL }
#define EXPANDED(TYPE, name, block, lower)                                                                             \
    [GM_##TYPE] = { GM_##TYPE, name, block, sizeof(gm_block_##lower), gm_unpack_##lower, NULL, gm_expand_##lower }
#define KNOWN(TYPE, name, block, block_bytes) [GM_##TYPE] = { GM_##TYPE, name, block, block_bytes, NULL, NULL, NULL }

static const gm_format formats[GM_TYPE_LIMIT] = {
    DECODED(F32, "F32", 1, float, gm_unpack_f32, gm_pack_f32),
    DECODED(F16, "F16", 1, uint16_t, gm_unpack_f16, gm_pack_f16),
    DECODED(BF16, "BF16", 1, uint16_t, gm_unpack_bf16, gm_pack_bf16),
    DECODED(Q4_0, "Q4_0", 32, gm_block_q4_0, gm_unpack_q4_0, gm_pack_q4_0),
    DECODED(Q4_1, "Q4_1", 32, gm_block_q4_1, gm_unpack_q4_1, gm_pack_q4_1),
    DECODED(Q5_0, "Q5_0", 32, gm_block_q5_0, gm_unpack_q5_0, gm_pack_q5_0),
    DECODED(Q5_1, "Q5_1", 32, gm_block_q5_1, gm_unpack_q5_1, gm_pack_q5_1),
    DECODED(Q8_0, "Q8_0", 32, gm_block_q8_0, gm_unpack_q8_0, gm_pack_q8_0),
    DECODED(Q2_K, "Q2_K", 256, gm_block_q2_k, gm_unpack_q2_k, gm_pack_q2_k),
    DECODED(Q3_K, "Q3_K", 256, gm_block_q3_k, gm_unpack_q3_k, gm_pack_q3_k),
    DECODED(Q4_K, "Q4_K", 256, gm_block_q4_k, gm_unpack_q4_k, gm_pack_q4_k),
    DECODED(Q5_K, "Q5_K", 256, gm_block_q5_k, gm_unpack_q5_k, gm_pack_q5_k),
    DECODED(Q6_K, "Q6_K", 256, gm_block_q6_k, gm_unpack_q6_k, gm_pack_q6_k),
    DECODED(IQ4_NL, "IQ4_NL", 32, gm_block_q4_0, gm_unpack_iq4_nl, gm_pack_iq4_nl),
    DECODED(IQ4_XS, "IQ4_XS", 256, gm_block_iq4_xs, gm_unpack_iq4_xs, NULL),
    EXPANDED(IQ2_XXS, "IQ2_XXS", 256, iq2_xxs),
    EXPANDED(IQ2_XS, "IQ2_XS", 256, iq2_xs),
    EXPANDED(IQ2_S, "IQ2_S", 256, iq2_s),
    EXPANDED(IQ3_XXS, "IQ3_XXS", 256, iq3_xxs),
    EXPANDED(IQ3_S, "IQ3_S", 256, iq3_s),
    EXPANDED(IQ1_S, "IQ1_S", 256, iq1_s),
    EXPANDED(IQ1_M, "IQ1_M", 256, iq1_m),
    EXPANDED(TQ1_0, "TQ1_0", 256, tq1_0),
    EXPANDED(TQ2_0, "TQ2_0", 256, tq2_0),
    EXPANDED(MXFP4, "MXFP4", 32, mxfp4),
    EXPANDED(NVFP4, "NVFP4", 64, nvfp4),
    KNOWN(Q8_1, "Q8_1", 32, 36),
    KNOWN(Q8_K, "Q8_K", 256, 292),
    KNOWN(Q1_0, "Q1_0", 128, 18),
    KNOWN(Q2_0, "Q2_0", 64, 18),
    KNOWN(I8, "I8", 1, 1),
    KNOWN(I16, "I16", 1, 2),
    KNOWN(I32, "I32", 1, 4),
    KNOWN(I64, "I64", 1, 8),
    KNOWN(F64, "F64", 1, 8),
};

const gm_format *gm_format_of(uint32_t type)
{
    return type < GM_TYPE_LIMIT && formats[type].name ? &formats[type] : NULL;
}
