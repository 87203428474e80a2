#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 1, std430) readonly buffer turn_pairs { uvec2 turns[]; };
layout(binding = 3, std430) writeonly buffer y_rows { float y[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, wanted_at, angle_at, width, y_stride;
} push;

// Cosine and sine of turn / 2^32 of a full turn: a quadrant, and a rest within 1/8 turn either way, where minimax
// polynomials are right to 4e-9.
vec2 cos_sin(uint turn)
{
    uint quadrant = (turn + 0x20000000u) >> 30;
    float x = float(int(turn - (quadrant << 30))) * 1.46291807926715968e-9; // 2 pi / 2^32
    float xx = x * x;
    float s = x + x * xx * (-0.16666655 + xx * (0.00833218 + xx * -0.00019517));
    float c = 1.0 - 0.5 * xx + xx * xx * (0.0416666469 + xx * (-0.00138873675 + xx * 2.44384504e-5));
    vec2 turned = (quadrant & 1u) != 0u ? vec2(-s, c) : vec2(c, s);
    return (quadrant & 2u) != 0u ? -turned : turned;
}

// Pair j of a row an invocation.
void main()
{
    uint r = gl_WorkGroupID.y, j = gl_GlobalInvocationID.x, half_width = push.width / 2u;
    if (r >= STEP(push.count_at) || j >= half_width) return;
    uint position = STEP(push.angle_at + step_row_of(push.wanted_at, r));
    uvec2 frequency = turns[push.off[1] / 2u + j];
    uint carry, low;
    umulExtended(position, frequency.x, carry, low);
    vec2 value = cos_sin(position * frequency.y + carry);
    uint y_at = push.off[3] + r * push.y_stride;
    y[y_at + j] = value.x;
    y[y_at + half_width + j] = value.y;
}
