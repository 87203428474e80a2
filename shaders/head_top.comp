#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/number.glsl"
#include "common/reduce.glsl"
#include "common/top.glsl"
#include "common/want.glsl"

layout(constant_id = 1) const uint CHUNK = 4096;
const uint PLACES = CHUNK / GROUP;

layout(binding = 1, std430) readonly buffer z_rows { float z[]; };
layout(binding = 2, std430) readonly buffer suppressed_ids { uint suppressed[]; };
layout(binding = 3, std430) writeonly buffer chunk_lists { uint lists[]; };
layout(binding = 4, std430) writeonly buffer chunk_sums { float sums[]; };
layout(binding = 5, std430) writeonly buffer logit_rows { uint logits[]; };
layout(binding = 6, std430) writeonly buffer score_rows { uint scores[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, first, want_at, target_at, result_row_at, n_vocab, z_stride, n_chunks, n_suppressed;
    float softcap;
} push;

shared uint left_out[CHUNK / 32u]; // a bit for each id of the chunk

uint logit_bits[PLACES]; // of the invocation's ids; MINUS_INFINITY: left out or beyond the vocabulary

uint id_of(uint n) { return gl_WorkGroupID.x * CHUNK + n * GROUP + gl_LocalInvocationIndex; }

// tanh from exp loses its digits near 0, where a minimax polynomial is right to 4e-10.
float capped(float value)
{
    if (is_nan(value)) return value;
    float y = value / push.softcap, a = min(abs(y), 20.0), yy = y * y;
    if (a < 0.5)
        return value * (1.0 + yy * (-0.33333327 + yy * (0.133329702 + yy * (-0.0538998967 +
                                                        yy * (0.0213013012 + yy * -0.00665283709)))));
    float e = exp(-2.0 * a), t = push.softcap * ((1.0 - e) / (1.0 + e));
    return y < 0.0 ? -t : t;
}

bool candidate(uint n, out uint key, out uint tie)
{
    key = key_of(logit_bits[n]);
    tie = id_of(n);
    return logit_bits[n] != MINUS_INFINITY && !is_nan(uintBitsToFloat(logit_bits[n]));
}

void find_left_out()
{
    uint first = gl_WorkGroupID.x * CHUNK;
    for (uint i = gl_LocalInvocationIndex; i < CHUNK / 32u; i += GROUP) left_out[i] = 0u;
    barrier();
    for (uint s = gl_LocalInvocationIndex; s < push.n_suppressed; s += GROUP) {
        uint place = suppressed[push.off[2] + s] - first;
        if (place < CHUNK) atomicOr(left_out[place / 32u], 1u << (place & 31u));
    }
    barrier();
}

void load_logits(uint r)
{
    uint at = push.off[1] + r * push.z_stride;
    for (uint n = 0u; n < PLACES; n++) {
        uint id = id_of(n), place = n * GROUP + gl_LocalInvocationIndex;
        logit_bits[n] = MINUS_INFINITY;
        if (id < push.n_vocab && (left_out[place / 32u] >> (place & 31u) & 1u) == 0u) {
            float value = z[at + id];
            if (push.softcap > 0.0) value = capped(value);
            logit_bits[n] = floatBitsToUint(value);
        }
    }
}

void store_sum(uint at)
{
    float top = LOWEST, sum = 0.0;
    for (uint n = 0u; n < PLACES; n++)
        if (logit_bits[n] != MINUS_INFINITY && !is_nan(uintBitsToFloat(logit_bits[n])))
            top = max(top, uintBitsToFloat(logit_bits[n]));
    top = reduce_max(top);
    for (uint n = 0u; n < PLACES; n++) {
        float value = uintBitsToFloat(logit_bits[n]);
        if (logit_bits[n] != MINUS_INFINITY) sum += is_nan(value) ? value : exp(value - top);
    }
    sum = reduce_sum(sum);
    if (gl_LocalInvocationIndex != 0u) return;
    sums[at] = top;
    sums[at + 1u] = sum;
}

void store_list(uint at)
{
    uint found = select_top(PLACES);
    for (uint i = gl_LocalInvocationIndex; i < TOP; i += GROUP) {
        uint place = at + 2u * (i < found ? rank_of(i, found) : i);
        lists[place] = i < found ? top_list[i].y : NO_ID;
        lists[place + 1u] = i < found ? bits_of_key(top_list[i].x) : MINUS_INFINITY;
    }
}

// CHUNK ids of a wanted row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.y, w = push.first + r;
    if (w >= STEP(push.count_at)) return;
    uint want = STEP(push.want_at + w), part = r * push.n_chunks + gl_WorkGroupID.x;
    if ((want & (WANT_CANDIDATES | WANT_LOGITS | WANT_SCORE)) == 0u) return;
    find_left_out();
    load_logits(r);
    uint row_at = push.off[5], target = STEP(push.target_at + w);
    if ((want & WANT_LOGITS) != 0u) row_at += STEP(push.result_row_at + w) * push.n_vocab;
    for (uint n = 0u; n < PLACES; n++) {
        uint id = id_of(n);
        if (id >= push.n_vocab) break;
        if ((want & WANT_LOGITS) != 0u) logits[row_at + id] = logit_bits[n];
        if ((want & WANT_SCORE) != 0u && id == target) scores[push.off[6] + w] = logit_bits[n];
    }
    if ((want & (WANT_CANDIDATES | WANT_SCORE)) != 0u) store_sum(push.off[4] + 2u * part);
    if ((want & WANT_CANDIDATES) != 0u) store_list(push.off[3] + 2u * TOP * part);
}
