#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/reduce.glsl"

layout(constant_id = 1) const uint FLAGS = 0;
const bool HAS_W0 = (FLAGS & 1u) != 0u, HAS_W1 = (FLAGS & 2u) != 0u, HAS_OUT1 = (FLAGS & 4u) != 0u,
           HAS_W2 = (FLAGS & 8u) != 0u;

layout(binding = 1, std430) readonly buffer in0_rows { float in0[]; };
layout(binding = 2, std430) readonly buffer in1_rows { float in1[]; };
layout(binding = 3, std430) readonly buffer w0_vector { float w0[]; };
layout(binding = 4, std430) readonly buffer w1_vector { float w1[]; };
layout(binding = 5, std430) readonly buffer w2_vector { float w2[]; };
layout(binding = 6, std430) buffer out0_rows { float out0[]; };
layout(binding = 7, std430) writeonly buffer out1_rows { float out1[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, width, in0_stride, in1_stride, out0_stride, out1_stride;
    float eps;
} push;

float scale_of(float squares) { return inversesqrt(reduce_sum(squares) / float(push.width) + push.eps); }

// A row a workgroup. Element i of out0 and in1, which may be one slot, is touched by one invocation only.
void main()
{
    uint r = gl_WorkGroupID.x;
    if (r >= STEP(push.count_at)) return;
    uint in0_at = push.off[1] + r * push.in0_stride, in1_at = push.off[2] + r * push.in1_stride;
    uint out0_at = push.off[6] + r * push.out0_stride, out1_at = push.off[7] + r * push.out1_stride;
    float squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.width; i += GROUP) squares += in0[in0_at + i] * in0[in0_at + i];
    float scale = scale_of(squares), by = 1.0;
    if (HAS_W1) by = w1[push.off[4]];
    squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.width; i += GROUP) {
        float value = in0[in0_at + i] * scale;
        if (HAS_W0) value *= w0[push.off[3] + i];
        value = (in1[in1_at + i] + value) * by;
        out0[out0_at + i] = value;
        squares += value * value;
    }
    if (!HAS_OUT1) return;
    scale = scale_of(squares);
    for (uint i = gl_LocalInvocationIndex; i < push.width; i += GROUP) {
        float value = out0[out0_at + i] * scale;
        if (HAS_W2) value *= w2[push.off[5] + i];
        out1[out1_at + i] = value;
    }
}
