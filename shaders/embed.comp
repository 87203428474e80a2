#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
/* Rows of a table by token id, unpacked and scaled. */
#include "common.glsl"

layout(push_constant) uniform push_block {
    PUSH_HEAD;
    uint count_at, wanted_at, token_at, n_in, n_rows, span_first, span_rows, y_stride, row_halfs;
    float scale;
} push;
layout(set = 0, binding = 1, std430) readonly buffer table_words { uint w_words[]; };
layout(set = 0, binding = 3, std430) writeonly buffer y_rows { float y_values[]; };

uint word(uint matrix, uint i) { return w_words[i]; }
#include "common/blocks.glsl"

const uint PART = 1024u; /* elements of a workgroup */
/* token_at: W is not a table, but has a row for every row of the step. */
const uint NO_TOKENS = 0xffffffffu;

void main()
{
    uint thread = gl_LocalInvocationID.x, r = gl_WorkGroupID.y, begin = gl_WorkGroupID.x * PART;
    if (r >= STEP(push.count_at)) return;
    uint id = step_row_of(push.wanted_at, r);
    if (push.token_at != NO_TOKENS) id = STEP(push.token_at + id);
    uint y = push.off[3] + r * push.y_stride, end = min(begin + PART, push.n_in);
    bool beyond = id >= push.n_rows;
    if (beyond ? push.span_first != 0u : id - push.span_first >= push.span_rows) return;
#ifdef HAS_VALUES
    load_values(thread);
    barrier();
#endif
    uint row = beyond ? 0u : 2u * push.off[1] + (id - push.span_first) * push.row_halfs;
#ifdef HAS_ELEMENTS
    for (uint i = begin + thread; i < end; i += GROUP)
        y_values[y + i] = beyond ? 0.0 : element(0u, row, i) * push.scale;
#else
    for (uint u = begin / UNIT + thread; u < end / UNIT; u += GROUP) {
        unit w = load_unit(0u, row, u);
        [[unroll]] for (uint i = 0u; i < FOURS; i++) {
            vec4 v = beyond ? vec4(0.0) : unit_weights(w, i) * push.scale;
            uint at = y + unit_at(u, i);
            [[unroll]] for (uint k = 0u; k < 4u; k++) y_values[at + k] = v[k];
        }
    }
#endif
}
