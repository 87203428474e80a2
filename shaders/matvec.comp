#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
/* Few columns: a workgroup forms ROWS × COLUMNS products, its invocations take turns at the units of a row. */
#include "common.glsl"

layout(constant_id = 1) const uint ROWS = 4;
layout(constant_id = 2) const uint COLUMNS = 1;
layout(constant_id = 3) const uint EPILOGUE = 0;
#include "common/matmul.glsl"

/* Sums of a pass over matrix rows, one per invocation: as many rows as fit in 16 KiB. */
const uint PER_ROW = MATRICES * COLUMNS;
const uint FIT = 4096u / (PER_ROW * GROUP);
const uint PASS = FIT < ROWS ? FIT : ROWS;
shared float sums[PASS * PER_ROW * GROUP];

/* Line m × ROWS + r is row r of matrix m. */
const uint LINES = MATRICES * ROWS;
float total[LINES * COLUMNS];

void add_units(uint start[LINES], uint column[COLUMNS])
{
    for (uint u = gl_LocalInvocationID.x; u < push.n_in / UNIT; u += GROUP) {
        unit w[LINES];
        [[unroll]] for (uint l = 0u; l < LINES; l++) w[l] = load_unit(l / ROWS, start[l], u);
        [[unroll]] for (uint g = 0u; g < GROUPS; g++) {
            float part[LINES * COLUMNS], ones[COLUMNS];
            [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
                ones[c] = 0.0;
                [[unroll]] for (uint l = 0u; l < LINES; l++) part[l * COLUMNS + c] = 0.0;
            }
            [[unroll]] for (uint k = 0u; k < FOURS / GROUPS; k++) {
                uint i = g * (FOURS / GROUPS) + k, at = unit_at(u, i) / 4u;
                vec4 codes[LINES];
                [[unroll]] for (uint l = 0u; l < LINES; l++) codes[l] = unit_codes(w[l], i);
                [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
                    vec4 x = x_fours[column[c] / 4u + at];
                    ones[c] += dot(x, vec4(1.0));
                    [[unroll]] for (uint l = 0u; l < LINES; l++) part[l * COLUMNS + c] += dot(codes[l], x);
                }
            }
            [[unroll]] for (uint l = 0u; l < LINES; l++) {
                float scale = unit_scale(w[l], g);
                [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
                    float sum = scale * part[l * COLUMNS + c];
#ifdef HAS_OFFSET
                    sum += unit_offset(w[l], g) * ones[c];
#endif
                    total[l * COLUMNS + c] += sum;
                }
            }
        }
    }
}

/* Rows that are no whole number of units: float formats only. */
void add_elements(uint start[LINES], uint column[COLUMNS])
{
    for (uint i = gl_LocalInvocationID.x; i < push.n_in; i += GROUP) {
        [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
            float x = x_values[column[c] + i];
            [[unroll]] for (uint l = 0u; l < LINES; l++)
                total[l * COLUMNS + c] += element(l / ROWS, start[l], i) * x;
        }
    }
}

void main()
{
    uint thread = gl_LocalInvocationID.x, count = STEP(push.count_at), row = group_index() * ROWS;
    if (count <= push.first || row >= push.n_out) return;
    uint live = min(count - push.first, COLUMNS);
#ifdef HAS_VALUES
    load_values(thread);
    barrier();
#endif
    /* What does not exist is worked on as the last that does, and not stored. */
    uint start[LINES], column[COLUMNS];
    [[unroll]] for (uint l = 0u; l < LINES; l++) start[l] = row_start(l / ROWS, min(row + l % ROWS, push.n_out - 1u));
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) column[c] = push.off[2] + min(c, live - 1u) * push.x_stride;
    [[unroll]] for (uint i = 0u; i < LINES * COLUMNS; i++) total[i] = 0.0;
    if (in_units((push.n_in + UNIT - 1u) / UNIT * UNIT)) add_units(start, column);
    else add_elements(start, column);

    for (uint pass = 0u; pass < ROWS / PASS; pass++) {
        if (pass > 0u) barrier();
        [[unroll]] for (uint l = 0u; l < LINES; l++) {
            uint m = l / ROWS, r = l % ROWS;
            [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
                uint sum = (r % PASS * MATRICES + m) * COLUMNS + c;
                if (r / PASS == pass) sums[sum * GROUP + thread] = total[l * COLUMNS + c];
            }
        }
        barrier();
        /* Eight invocations to a sum, then one. */
        for (uint j = thread; j < PASS * PER_ROW * 8u; j += GROUP) {
            uint at = j / 8u * GROUP + j % 8u;
            float sum = sums[at];
            for (uint k = 8u; k < GROUP; k += 8u) sum += sums[at + k];
            sums[at] = sum;
        }
        barrier();
        for (uint j = thread; j < PASS * COLUMNS; j += GROUP) {
            uint c = j % COLUMNS, r = j / COLUMNS, o = row + pass * PASS + r;
            float y[2];
            for (uint m = 0u; m < MATRICES; m++) {
                uint at = (r * PER_ROW + m * COLUMNS + c) * GROUP;
                y[m] = sums[at];
                for (uint k = 1u; k < 8u; k++) y[m] += sums[at + k];
            }
            if (c < live && o < push.n_out) store(c, o, y[0], y[MATRICES - 1u]);
        }
    }
}
