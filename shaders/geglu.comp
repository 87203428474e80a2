#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 1, std430) readonly buffer a_rows { float a[]; };
layout(binding = 2, std430) readonly buffer b_rows { float b[]; };
layout(binding = 3, std430) writeonly buffer y_rows { float y[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, width, a_stride, b_stride, y_stride;
} push;

// 1024 values of a row a workgroup.
void main()
{
    uint r = gl_WorkGroupID.y;
    if (r >= STEP(push.count_at)) return;
    uint a_at = push.off[1] + r * push.a_stride, b_at = push.off[2] + r * push.b_stride;
    uint y_at = push.off[3] + r * push.y_stride;
    uint end = min(push.width, gl_WorkGroupID.x * 1024u + 1024u);
    for (uint i = gl_WorkGroupID.x * 1024u + gl_LocalInvocationIndex; i < end; i += GROUP)
        y[y_at + i] = gelu(a[a_at + i]) * b[b_at + i];
}
