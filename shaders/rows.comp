#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 1, std430) readonly buffer x_rows { float x[]; };
layout(binding = 3, std430) writeonly buffer y_rows { float y[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, wanted_at, first, width, x_stride, y_stride;
} push;

// 1024 values of a row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.y;
    if (push.first + r >= STEP(push.count_at)) return;
    uint x_at = push.off[1] + step_row_of(push.wanted_at, push.first + r) * push.x_stride;
    uint y_at = push.off[3] + r * push.y_stride;
    uint end = min(push.width, gl_WorkGroupID.x * 1024u + 1024u);
    for (uint i = gl_WorkGroupID.x * 1024u + gl_LocalInvocationIndex; i < end; i += GROUP) y[y_at + i] = x[x_at + i];
}
