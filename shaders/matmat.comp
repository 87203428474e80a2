#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
/* Many columns: a workgroup of 256 forms a tile of 64 matrix rows × 64 columns, each invocation 4 × 4 of it, from slices
 * of 32 elements of both sides in shared memory. A slice is 32 / UNIT units of the weights, which need not be neighbours
 * in the row; the columns follow the same order. */
#include "common.glsl"

layout(constant_id = 3) const uint EPILOGUE = 0;
#include "common/matmul.glsl"

const uint TILE = 64u, SIDE = 16u, SLICE = 32u, SLICE_FOURS = SLICE / 4u, SLICE_UNITS = SLICE / UNIT;
shared vec4 weights[SLICE_FOURS * TILE]; /* [four][row] */
shared vec4 columns[SLICE_FOURS * TILE]; /* [four][column ^ four]: neither stores nor loads meet in a bank */

/* Element of the row where four f of slice s begins. */
uint slice_at(uint s, uint f) { return unit_at(s * SLICE_UNITS + f / FOURS, f % FOURS); }

vec4 four_of_elements(uint matrix, uint row, uint at)
{
    vec4 v = vec4(0.0);
    [[unroll]] for (uint k = 0u; k < 4u; k++)
        if (at + k < push.n_in) v[k] = element(matrix, row, at + k);
    return v;
}

void load_weights(uint matrix, uint first_row, uint s)
{
    for (uint j = gl_LocalInvocationID.x; j < TILE * SLICE_UNITS; j += GROUP) {
        uint r = j % TILE, n = j / TILE, u = s * SLICE_UNITS + n;
        uint row = row_start(matrix, min(first_row + r, push.n_out - 1u));
        vec4 fours[FOURS];
        if (in_units((u + 1u) * UNIT)) {
            unit w = load_unit(matrix, row, u);
            [[unroll]] for (uint i = 0u; i < FOURS; i++) fours[i] = unit_weights(w, i);
        } else {
            [[unroll]] for (uint i = 0u; i < FOURS; i++) fours[i] = four_of_elements(matrix, row, unit_at(u, i));
        }
        [[unroll]] for (uint i = 0u; i < FOURS; i++) weights[(n * FOURS + i) * TILE + r] = fours[i];
    }
}

void load_columns(uint first_column, uint count, uint s)
{
    for (uint j = gl_LocalInvocationID.x; j < TILE * SLICE_FOURS; j += GROUP) {
        uint f = j % SLICE_FOURS, c = j / SLICE_FOURS, at = slice_at(s, f);
        uint x = push.off[2] + (first_column + c) * push.x_stride + at;
        vec4 v = vec4(0.0);
        if (first_column + c < count) {
            if (in_units(at + 4u)) v = x_fours[x / 4u];
            else
                [[unroll]] for (uint k = 0u; k < 4u; k++)
                    if (at + k < push.n_in) v[k] = x_values[x + k];
        }
        columns[f * TILE + (c ^ f)] = v;
    }
}

void main()
{
    uint thread = gl_LocalInvocationID.x, count = STEP(push.count_at);
    uint row = group_index() * TILE, column = gl_WorkGroupID.z * TILE, tx = thread % SIDE, ty = thread / SIDE;
    if (column >= count || row >= push.n_out) return;
#ifdef HAS_VALUES
    load_values(thread);
    barrier();
#endif
    /* Rows ty + 16 r, columns tx + 16 c. */
    float total[MATRICES * 16u];
    [[unroll]] for (uint i = 0u; i < MATRICES * 16u; i++) total[i] = 0.0;
    for (uint s = 0u; s < (push.n_in + SLICE - 1u) / SLICE; s++) {
        load_columns(column, count, s);
        [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
            load_weights(m, row, s);
            barrier();
            for (uint f = 0u; f < SLICE_FOURS; f++) {
                vec4 w[4], x[4];
                [[unroll]] for (uint r = 0u; r < 4u; r++) w[r] = weights[f * TILE + ty + SIDE * r];
                [[unroll]] for (uint c = 0u; c < 4u; c++) x[c] = columns[f * TILE + (tx + SIDE * c ^ f)];
                [[unroll]] for (uint r = 0u; r < 4u; r++)
                    [[unroll]] for (uint c = 0u; c < 4u; c++) total[m * 16u + r * 4u + c] += dot(w[r], x[c]);
            }
            barrier();
        }
    }
    [[unroll]] for (uint r = 0u; r < 4u; r++) {
        [[unroll]] for (uint c = 0u; c < 4u; c++) {
            uint o = row + ty + SIDE * r, y = column + tx + SIDE * c, i = r * 4u + c;
            if (o < push.n_out && y < count) store(y, o, total[i], total[(MATRICES - 1u) * 16u + i]);
        }
    }
}
