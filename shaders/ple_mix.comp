#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/reduce.glsl"

layout(constant_id = 1) const uint HAS_W = 0;

layout(binding = 1, std430) readonly buffer in0_rows { float in0[]; };
layout(binding = 2, std430) readonly buffer in1_rows { float in1[]; };
layout(binding = 3, std430) writeonly buffer out0_rows { float out0[]; };
layout(binding = 4, std430) readonly buffer w_vector { float w[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, slice, in0_stride, in1_stride, out_stride;
    float eps, scale, scale2;
} push;

// A slice of a row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.y, first = gl_WorkGroupID.x * push.slice;
    if (r >= STEP(push.count_at)) return;
    uint in0_at = push.off[1] + r * push.in0_stride + first, in1_at = push.off[2] + r * push.in1_stride + first;
    uint out_at = push.off[3] + r * push.out_stride + first;
    float squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.slice; i += GROUP) {
        float t = in0[in0_at + i] * push.scale;
        squares += t * t;
    }
    float scale = inversesqrt(reduce_sum(squares) / float(push.slice) + push.eps);
    for (uint i = gl_LocalInvocationIndex; i < push.slice; i += GROUP) {
        float value = in0[in0_at + i] * push.scale * scale;
        if (HAS_W != 0u) value *= w[push.off[4] + i];
        out0[out_at + i] = (value + in1[in1_at + i]) * push.scale2;
    }
}
