#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/number.glsl"
#include "common/reduce.glsl"
#include "common/top.glsl"
#include "common/want.glsl"

layout(binding = 3, std430) readonly buffer chunk_lists { uint lists[]; };
layout(binding = 4, std430) readonly buffer chunk_sums { float sums[]; };
layout(binding = 5, std430) writeonly buffer result_words { uint results[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, first, want_at, n_chunks, candidates_at, n_candidates_at, log_sum_at;
} push;

// Place n of the invocation: chunks' lists of the row, one behind the other.
bool candidate(uint n, out uint key, out uint tie)
{
    uint place = n * GROUP + gl_LocalInvocationIndex, end = push.n_chunks * TOP;
    uint at = push.off[3] + 2u * (gl_WorkGroupID.x * end + min(place, end - 1u));
    tie = lists[at];
    key = key_of(lists[at + 1u]);
    return place < end && tie != NO_ID;
}

float log_sum(uint r)
{
    uint at = push.off[4] + 2u * r * push.n_chunks;
    float top = LOWEST, sum = 0.0;
    for (uint c = gl_LocalInvocationIndex; c < push.n_chunks; c += GROUP) top = max(top, sums[at + 2u * c]);
    top = reduce_max(top);
    for (uint c = gl_LocalInvocationIndex; c < push.n_chunks; c += GROUP) {
        float part = sums[at + 2u * c + 1u];
        if (part != 0.0) sum += part * exp(sums[at + 2u * c] - top);
    }
    sum = reduce_sum(sum);
    if (is_nan(sum)) return sum; // log of it is a number in some drivers
    return sum == 0.0 ? uintBitsToFloat(MINUS_INFINITY) : top + log(sum);
}

// A row of the group a workgroup.
void main()
{
    uint r = gl_WorkGroupID.x, w = push.first + r;
    if (w >= STEP(push.count_at)) return;
    uint want = STEP(push.want_at + w), found = 0u;
    if ((want & WANT_CANDIDATES) != 0u) {
        found = select_top((push.n_chunks * TOP + GROUP - 1u) / GROUP);
        uint at = push.off[5] + push.candidates_at + 2u * TOP * w;
        for (uint i = gl_LocalInvocationIndex; i < found; i += GROUP) {
            uint place = at + 2u * rank_of(i, found);
            results[place] = top_list[i].y;
            results[place + 1u] = bits_of_key(top_list[i].x);
        }
    }
    bool wants_sum = (want & (WANT_CANDIDATES | WANT_SCORE)) != 0u;
    float sum = 0.0;
    if (wants_sum) sum = log_sum(r);
    if (gl_LocalInvocationIndex != 0u) return;
    results[push.off[5] + push.n_candidates_at + w] = found;
    if (wants_sum) results[push.off[5] + push.log_sum_at + w] = floatBitsToUint(sum);
}
