// What every kernel begins with: see docs/vulkan.md. The kernel declares its push block with PUSH_HEAD as first member.
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
#define GROUP gl_WorkGroupSize.x

#define BINDINGS  10
#define PUSH_HEAD uint off[BINDINGS]
#define NO_WANTED 0xffffffffu
#define LOWEST    (-3.4e38)

layout(set = 0, binding = 0, std430) readonly buffer step_copy { uint step_words[]; };
#define STEP(at) step_words[at]

uint group_index() { return gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x; }

// The step's row behind row r of the op's domain.
uint step_row_of(uint wanted_at, uint r) { return wanted_at == NO_WANTED ? r : STEP(wanted_at + r); }

// x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), written so that no intermediate overflows.
float gelu(float x)
{
    float u = clamp(0.7978845608 * x * (1.0 + 0.044715 * x * x), -15.0, 15.0);
    return x - x / (exp(2.0 * u) + 1.0);
}

float bf16_to_float(uint bits) { return uintBitsToFloat(bits << 16); }
float half_to_float(uint bits) { return unpackHalf2x16(bits & 0xffffu).x; }
uint halves_from(vec2 v) { return packHalf2x16(clamp(v, vec2(-65504.0), vec2(65504.0))); }
