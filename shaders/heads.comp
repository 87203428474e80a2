#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/number.glsl"
#include "common/reduce.glsl"

layout(constant_id = 1) const uint HEAD = 256;
layout(constant_id = 2) const uint KV_TYPE = 1;
layout(constant_id = 3) const uint FLAGS = 0;
const bool HAS_Q = (FLAGS & 1u) != 0u, HAS_W0 = (FLAGS & 4u) != 0u, HAS_W1 = (FLAGS & 8u) != 0u,
           V_NORM = (FLAGS & 16u) != 0u;

layout(binding = 1, std430) readonly buffer q_rows { float q[]; };
layout(binding = 2, std430) readonly buffer k_rows { float k[]; };
layout(binding = 3, std430) readonly buffer v_rows { float v[]; };
layout(binding = 4, std430) readonly buffer rope_rows { float rope[]; };
layout(binding = 5, std430) readonly buffer w0_vector { float w0[]; };
layout(binding = 6, std430) readonly buffer w1_vector { float w1[]; };
layout(binding = 7, std430) writeonly buffer out_rows { float q_out[]; };
layout(binding = 8, std430) writeonly buffer k_pages { uint k_words[]; };
layout(binding = 9, std430) writeonly buffer v_pages { uint v_words[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, position_at, table_at, tables_at, table_stride, table_first, ring, n_q, n_kv;
    uint q_stride, k_stride, v_stride, rope_stride, out_stride;
    float eps, scale;
} push;

#include "common/kv.glsl"

shared float x[HEAD];
shared uint scales[(HEAD + 31u) / 32u]; // of a quantised line's blocks, as F16

#define QUERY 0u
#define KEY   1u
#define VALUE 2u

void load(uint what, uint r, uint h)
{
    uint q_at = push.off[1] + r * push.q_stride + h * HEAD, k_at = push.off[2] + r * push.k_stride + h * HEAD;
    uint v_at = push.off[3] + r * push.v_stride + h * HEAD;
    for (uint i = gl_LocalInvocationIndex; i < HEAD; i += GROUP)
        x[i] = what == QUERY ? q[q_at + i] : what == KEY ? k[k_at + i] : v[v_at + i];
}

// Of the elements that the invocation holds.
void normalize(uint what)
{
    float squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < HEAD; i += GROUP) squares += x[i] * x[i];
    float scale = inversesqrt(reduce_sum(squares) / float(HEAD) + push.eps);
    for (uint i = gl_LocalInvocationIndex; i < HEAD; i += GROUP) {
        float w = 1.0;
        if (HAS_W0 && what == QUERY) w = w0[push.off[5] + i];
        if (HAS_W1 && what == KEY) w = w1[push.off[6] + i];
        x[i] = x[i] * scale * w;
    }
}

// Pairs of elements half a head apart, turned by the row's angles.
void rotate(uint r)
{
    const uint middle = HEAD / 2u;
    uint rope_at = push.off[4] + r * push.rope_stride;
    for (uint j = gl_LocalInvocationIndex; j < middle; j += GROUP) {
        float c = rope[rope_at + j], s = rope[rope_at + middle + j], a = x[j], b = x[j + middle];
        x[j] = a * c - b * s;
        x[j + middle] = b * c + a * s;
    }
}

// A block's largest magnitude by 127; or, so that it gets code -8, its element of largest magnitude by -8.
void find_scales()
{
    for (uint b = gl_LocalInvocationIndex; b < HEAD / 32u; b += GROUP) {
        uint most = 0u;
        bool negative = false;
        for (uint i = 32u * b; i < 32u * b + 32u; i++) most = max(most, floatBitsToUint(x[i]) & 0x7fffffffu);
        for (uint i = 32u * b; i < 32u * b + 32u; i++) negative = negative || x[i] == -uintBitsToFloat(most);
        float by = KV_TYPE == KV_Q8_0 ? 127.0 : negative ? 8.0 : -8.0;
        scales[b] = halves_or_nan(uintBitsToFloat(most) / by, 0.0) & 0xffffu;
    }
}

// The code of a value for a scale: 0 for a scale of 0, the lowest for NaN.
uint code_of(uint i, float scale)
{
    float low = KV_TYPE == KV_Q8_0 ? -127.0 : -8.0, high = KV_TYPE == KV_Q8_0 ? 127.0 : 7.0;
    if (scale == 0.0) return 0u;
    float code = x[i] / scale;
    code = code > low ? code : low;
    return uint(int(roundEven(code < high ? code : high)));
}

// Half-word h of a quantised line.
uint half_of_blocks(uint h)
{
    uint b = h / BLOCK_HALFS, n = h % BLOCK_HALFS;
    if (n == 0u) return scales[b];
    float scale = half_to_float(scales[b]);
    uint i = 32u * b + 2u * (n - 1u);
    if (KV_TYPE == KV_Q8_0) return (code_of(i, scale) & 255u) | (code_of(i + 1u, scale) & 255u) << 8;
    uint low = (code_of(i, scale) + 8u) | (code_of(i + 1u, scale) + 8u) << 8;
    return low | (code_of(i + 16u, scale) + 8u) << 4 | (code_of(i + 17u, scale) + 8u) << 12;
}

uint line_word(uint i)
{
    if (KV_BLOCKS) return half_of_blocks(2u * i) | half_of_blocks(2u * i + 1u) << 16;
    return KV_TYPE == KV_F16 ? halves_or_nan(x[2u * i], x[2u * i + 1u]) : floatBitsToUint(x[i]);
}

// x as whole words to the row's position in the pages of K or V.
void write_line(uint what, uint r, uint h)
{
    uint position = STEP(push.position_at + r);
    uint line = page_words(STEP(push.table_at + r), position / PAGE, h) + position % PAGE * HEAD_WORDS;
    if (KV_BLOCKS) {
        find_scales();
        barrier();
    }
    for (uint i = gl_LocalInvocationIndex; i < HEAD_WORDS; i += GROUP) {
        uint word = line_word(i);
        if (what == KEY)
            k_words[push.off[8] + line + i] = word;
        else
            v_words[push.off[9] + line + i] = word;
    }
}

// A head of a row a workgroup: queries, then keys, then values.
void main()
{
    uint h = gl_WorkGroupID.x, r = gl_WorkGroupID.y, n_q = HAS_Q ? push.n_q : 0u, what = QUERY;
    if (r >= STEP(push.count_at)) return;
    if (h >= n_q) {
        h -= n_q;
        what = h < push.n_kv ? KEY : VALUE;
        if (what == VALUE) h -= push.n_kv;
    }
    load(what, r, h);
    if (what != VALUE || V_NORM) normalize(what);
    barrier();
    if (what != VALUE) rotate(r);
    barrier();
    if (what != QUERY) {
        write_line(what, r, h);
        return;
    }
    uint out_at = push.off[7] + r * push.out_stride + h * HEAD;
    for (uint i = gl_LocalInvocationIndex; i < HEAD; i += GROUP) q_out[out_at + i] = x[i] * push.scale;
}
