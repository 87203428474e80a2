#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint HEAD = 256;

layout(binding = 4, std430) writeonly buffer out_rows { float result[]; };
layout(binding = 5, std430) readonly buffer partial_rows { float partials[]; }; // [row][head][split] of m, l, -, -, o

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, n_head, n_splits, out_stride;
} push;

// A head of a row a workgroup; every invocation finds the common maximum and sum for itself.
void main()
{
    uint h = gl_WorkGroupID.x, r = gl_WorkGroupID.y;
    if (r >= STEP(push.count_at)) return;
    const uint stride = HEAD + 4u;
    uint at = push.off[5] + (r * push.n_head + h) * push.n_splits * stride;
    float top = LOWEST, sum = 0.0;
    for (uint s = 0u; s < push.n_splits; s++)
        if (partials[at + s * stride + 1u] != 0.0) top = max(top, partials[at + s * stride]);
    for (uint s = 0u; s < push.n_splits; s++) {
        float l = partials[at + s * stride + 1u];
        if (l != 0.0) sum += l * exp(partials[at + s * stride] - top);
    }
    uint out_at = push.off[4] + r * push.out_stride + h * HEAD;
    for (uint i = gl_LocalInvocationIndex; i < HEAD; i += GROUP) {
        float value = 0.0;
        for (uint s = 0u; s < push.n_splits; s++) {
            uint one = at + s * stride;
            if (partials[one + 1u] != 0.0) value += partials[one + 4u + i] * exp(partials[one] - top);
        }
        result[out_at + i] = sum == 0.0 ? 0.0 : value / sum;
    }
}
