#version 450
#extension GL_GOOGLE_include_directive : require
/* ROUTER, behind its logits: the best experts of a row and their weights. */
#include "common.glsl"
#include "common/number.glsl"

layout(constant_id = 1) const uint HAS_W = 0;

layout(binding = 1, std430) readonly buffer logit_rows { float logits[]; };
layout(binding = 2, std430) readonly buffer w_vector { float w[]; };
layout(binding = 3, std430) buffer out_rows { float result[]; }; // ids, then weights

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, n_expert, n_used, in_stride, out_stride;
} push;

shared uint keys[GROUP], ids[GROUP];

// Orders floats as integers above 0, both zeros alike; a NaN comes behind all.
uint key_of(float x)
{
    uint bits = floatBitsToUint(x);
    if (is_nan(x)) return 0u;
    if (bits == 0x80000000u) bits = 0u;
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

bool comes_before(uint key, uint id, uint other_key, uint other_id)
{
    return key > other_key || (key == other_key && id < other_id);
}

// The first of the row's experts behind (key, id), in both.
void next_best(uint at, bool any, inout uint key, inout uint id)
{
    uint i = gl_LocalInvocationIndex, best = 0u, best_id = 0xffffffffu;
    for (uint e = i; e < push.n_expert; e += GROUP) {
        uint one = key_of(logits[at + e]);
        if (any && !comes_before(key, id, one, e)) continue;
        if (comes_before(one, e, best, best_id)) {
            best = one;
            best_id = e;
        }
    }
    keys[i] = best;
    ids[i] = best_id;
    barrier();
    for (uint half_of = GROUP / 2u; half_of > 0u; half_of /= 2u) {
        if (i < half_of && comes_before(keys[i + half_of], ids[i + half_of], keys[i], ids[i])) {
            keys[i] = keys[i + half_of];
            ids[i] = ids[i + half_of];
        }
        barrier();
    }
    key = keys[0];
    id = ids[0];
    barrier();
}

// A row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.x, key = 0u, id = 0u;
    if (r >= STEP(push.count_at)) return;
    uint at = push.off[1] + r * push.in_stride, out_at = push.off[3] + r * push.out_stride;
    float top = 0.0, sum = 0.0;
    for (uint u = 0u; u < push.n_used; u++) {
        next_best(at, u > 0u, key, id);
        float logit = logits[at + id];
        if (u == 0u) top = logit;
        float weight = is_nan(logit) || is_nan(top) ? logit + top : exp(max(logit - top, -80.0));
        sum += weight;
        if (gl_LocalInvocationIndex == 0u) {
            result[out_at + u] = float(id);
            result[out_at + push.n_used + u] = weight;
        }
    }
    if (gl_LocalInvocationIndex != 0u) return;
    for (uint u = 0u; u < push.n_used; u++) {
        float weight = result[out_at + push.n_used + u] / sum;
        if (HAS_W != 0u) weight *= w[push.off[2] + uint(result[out_at + u])];
        result[out_at + push.n_used + u] = weight;
    }
}
