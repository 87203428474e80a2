/* What matvec and matmat share: bindings, push constants, epilogue. EPILOGUE is declared before. */
const uint GEGLU = 1u, GELU_MUL = 2u;
const uint MATRICES = EPILOGUE == GEGLU ? 2u : 1u;

layout(push_constant) uniform push_block {
    PUSH_HEAD;
    uint count_at, first, n_in, n_out, x_stride, y_stride, row_halfs, m_stride;
} push;
layout(set = 0, binding = 1, std430) readonly buffer matrix_words { uint w_words[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_rows { float x_values[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_rows_of_fours { vec4 x_fours[]; };
layout(set = 0, binding = 3, std430) writeonly buffer y_rows { float y_values[]; };
layout(set = 0, binding = 4, std430) readonly buffer second_words { uint w2_words[]; };
layout(set = 0, binding = 5, std430) readonly buffer m_rows { float m_values[]; };

uint word(uint matrix, uint i)
{
    if (matrix == 0u) return w_words[i];
    return w2_words[i];
}
#include "blocks.glsl"

/* In half-words. */
uint row_start(uint matrix, uint row) { return 2u * push.off[matrix == 0u ? 1 : 4] + row * push.row_halfs; }

/* Whether the elements below `end` can be had as units of weights and fours of x: always, with blocks. */
#ifdef HAS_ELEMENTS
bool in_units(uint end) { return end <= push.n_in && ((push.row_halfs & 1u) | (push.x_stride & 3u)) == 0u; }
#else
bool in_units(uint end) { return true; }
#endif

/* a: the product with the matrix, b: with the second one. */
void store(uint column, uint o, float a, float b)
{
    float y = a;
    if (EPILOGUE == GEGLU) y = gelu(a) * b;
    if (EPILOGUE == GELU_MUL) y = gelu(a) * m_values[push.off[5] + column * push.m_stride + o];
    y_values[push.off[3] + column * push.y_stride + o] = y;
}
