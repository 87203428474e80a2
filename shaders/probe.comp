#version 450
// Reads `push.n_quads` 16-byte words once and leaves one sum per workgroup, so that the reads cannot be left out.
#include "common.glsl"
layout(push_constant) uniform push_block { PUSH_HEAD; uint n_quads; } push;
layout(set = 0, binding = 1, std430) readonly buffer source { uvec4 quads[]; };
layout(set = 0, binding = 2, std430) writeonly buffer sums { uint sum[]; };

shared uint partial[256];

void main()
{
    uint n_groups = gl_NumWorkGroups.x * gl_NumWorkGroups.y, group = group_index();
    uvec4 total = uvec4(0);
    for (uint i = group * GROUP + gl_LocalInvocationID.x; i < push.n_quads; i += n_groups * GROUP) total += quads[i];
    partial[gl_LocalInvocationID.x] = total.x + total.y + total.z + total.w;
    barrier();
    for (uint n = GROUP / 2; n > 0; n /= 2) {
        if (gl_LocalInvocationID.x < n) partial[gl_LocalInvocationID.x] += partial[gl_LocalInvocationID.x + n];
        barrier();
    }
    if (gl_LocalInvocationID.x == 0) sum[group] = partial[0];
}
