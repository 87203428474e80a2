#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
/* Rows of the matrices of experts that a row's router chose: a workgroup forms ROWS products, its invocations take turns
 * at the units of a row. SUM: of all experts of the row, weighted and added up. */
#include "common.glsl"

layout(constant_id = 1) const uint ROWS = 4;
layout(constant_id = 2) const uint SUM = 0;
layout(constant_id = 3) const uint EPILOGUE = 0;
const uint GEGLU = 1u;
const uint MATRICES = EPILOGUE == GEGLU ? 2u : 1u;

layout(push_constant) uniform push_block {
    PUSH_HEAD;
    uint count_at, first, n_in, n_out, x_stride, y_stride, row_halfs, chosen_stride, n_used, first_expert, n_experts;
    uint expert_rows, second_row;
} push;
layout(set = 0, binding = 1, std430) readonly buffer matrix_words { uint w_words[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_rows { float x_values[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_rows_of_fours { vec4 x_fours[]; };
layout(set = 0, binding = 3, std430) buffer y_rows { float y_values[]; };
layout(set = 0, binding = 4, std430) readonly buffer second_words { uint w2_words[]; };
layout(set = 0, binding = 5, std430) readonly buffer chosen_rows { float chosen[]; };

uint word(uint matrix, uint i)
{
    if (matrix == 0u) return w_words[i];
    return w2_words[i];
}
#include "common/blocks.glsl"

/* Line m × ROWS + r is row r of matrix m. */
const uint LINES = MATRICES * ROWS;
float total[LINES];
shared float sums[LINES * GROUP];

bool in_units()
{
#ifdef HAS_ELEMENTS
    return ((push.n_in % UNIT) | (push.row_halfs & 1u) | (push.x_stride & 3u)) == 0u;
#else
    return true;
#endif
}

/* The expert in place u of a row, counted from the first of the binding; n_experts: none of them. */
uint expert_of(uint r, uint u)
{
    float id = chosen[push.off[5] + r * push.chosen_stride + u];
    if (!(id >= float(push.first_expert) && id < float(push.first_expert + push.n_experts))) return push.n_experts;
    return uint(id) - push.first_expert;
}

/* In half-words; a row that is not there is the last one. */
uint row_start(uint matrix, uint expert, uint row)
{
    row = min(row, push.n_out - 1u) + (matrix == 0u ? 0u : push.second_row);
    return 2u * push.off[matrix == 0u ? 1 : 4] + (expert * push.expert_rows + row) * push.row_halfs;
}

/* total += weight × W x, the invocation's part of it. */
void add(uint expert, uint row, uint x, float weight)
{
    uint start[LINES];
    [[unroll]] for (uint l = 0u; l < LINES; l++) start[l] = row_start(l / ROWS, expert, row + l % ROWS);
    if (!in_units()) {
        for (uint i = gl_LocalInvocationID.x; i < push.n_in; i += GROUP)
            [[unroll]] for (uint l = 0u; l < LINES; l++)
                total[l] += weight * (element(l / ROWS, start[l], i) * x_values[x + i]);
        return;
    }
    for (uint u = gl_LocalInvocationID.x; u < push.n_in / UNIT; u += GROUP) {
        vec4 fours[FOURS];
        [[unroll]] for (uint i = 0u; i < FOURS; i++) fours[i] = x_fours[(x + unit_at(u, i)) / 4u];
        [[unroll]] for (uint l = 0u; l < LINES; l++) {
            unit w = load_unit(l / ROWS, start[l], u);
            float part = 0.0;
            [[unroll]] for (uint i = 0u; i < FOURS; i++) part += dot(unit_weights(w, i), fours[i]);
            total[l] += weight * part;
        }
    }
}

float sum_of(uint line)
{
    float sum = sums[line * GROUP];
    for (uint k = 1u; k < 8u; k++) sum += sums[line * GROUP + k];
    return sum;
}

void main()
{
    uint thread = gl_LocalInvocationID.x, row = group_index() * ROWS, places = SUM != 0u ? 1u : push.n_used;
    uint r = push.first + gl_WorkGroupID.z / places, place = gl_WorkGroupID.z % places;
    if (r >= STEP(push.count_at) || row >= push.n_out) return;
    if (SUM == 0u && expert_of(r, place) == push.n_experts) return;
#ifdef HAS_VALUES
    load_values(thread);
    barrier();
#endif
    [[unroll]] for (uint l = 0u; l < LINES; l++) total[l] = 0.0;
    uint y = push.off[3] + (r * places + place) * push.y_stride;
    if (SUM == 0u) {
        add(expert_of(r, place), row, push.off[2] + r * push.x_stride, 1.0);
    } else {
        for (uint u = 0u; u < push.n_used; u++) {
            uint expert = expert_of(r, u);
            float weight = chosen[push.off[5] + r * push.chosen_stride + push.n_used + u];
            if (expert < push.n_experts) add(expert, row, push.off[2] + (r * push.n_used + u) * push.x_stride, weight);
        }
    }
    [[unroll]] for (uint l = 0u; l < LINES; l++) sums[l * GROUP + thread] = total[l];
    barrier();
    /* Eight invocations to a sum, then one. */
    for (uint j = thread; j < LINES * 8u; j += GROUP) {
        uint at = j / 8u * GROUP + j % 8u;
        float sum = sums[at];
        for (uint k = 8u; k < GROUP; k += 8u) sum += sums[at + k];
        sums[at] = sum;
    }
    barrier();
    for (uint j = thread; j < ROWS && row + j < push.n_out; j += GROUP) {
        float value = sum_of(j);
        if (EPILOGUE == GEGLU) value = gelu(value) * sum_of(ROWS + j);
        /* A binding that does not begin with the first expert is one more of several. */
        if (SUM != 0u && push.first_expert > 0u) value += y_values[y + row + j];
        y_values[y + row + j] = value;
    }
}
