#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/reduce.glsl"

layout(constant_id = 1) const uint HAS_W = 0;

layout(binding = 1, std430) readonly buffer x_rows { float x[]; };
layout(binding = 2, std430) readonly buffer w_vector { float w[]; };
layout(binding = 3, std430) writeonly buffer y_rows { float y[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, width, x_stride, y_stride;
    float eps, scale;
} push;

// A row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.x;
    if (r >= STEP(push.count_at)) return;
    uint x_at = push.off[1] + r * push.x_stride, y_at = push.off[3] + r * push.y_stride;
    float squares = 0.0;
    for (uint i = gl_LocalInvocationIndex; i < push.width; i += GROUP) squares += x[x_at + i] * x[x_at + i];
    float scale = inversesqrt(reduce_sum(squares) / float(push.width) + push.eps) * push.scale;
    for (uint i = gl_LocalInvocationIndex; i < push.width; i += GROUP) {
        float value = x[x_at + i] * scale;
        if (HAS_W != 0u) value *= w[push.off[2] + i];
        y[y_at + i] = value;
    }
}
