#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "common/want.glsl"

layout(binding = 1, std430) readonly buffer x_rows { float x[]; };
layout(binding = 3, std430) writeonly buffer hidden_rows { float hidden[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, wanted_at, want_at, result_row_at, width, x_stride;
} push;

// 1024 values of a wanted row a workgroup.
void main()
{
    uint w = gl_WorkGroupID.y;
    if (w >= STEP(push.count_at)) return;
    if ((STEP(push.want_at + w) & WANT_HIDDEN) == 0u) return;
    uint x_at = push.off[1] + step_row_of(push.wanted_at, w) * push.x_stride;
    uint y_at = push.off[3] + STEP(push.result_row_at + w) * push.width;
    uint end = min(push.width, gl_WorkGroupID.x * 1024u + 1024u);
    for (uint i = gl_WorkGroupID.x * 1024u + gl_LocalInvocationIndex; i < end; i += GROUP)
        hidden[y_at + i] = x[x_at + i];
}
