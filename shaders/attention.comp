#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint HEAD = 256;
layout(constant_id = 2) const uint KV_TYPE = 1;
layout(constant_id = 3) const uint HEADS = 4;
layout(constant_id = 4) const uint ROWS = 1;
const uint VECTORS = HEADS * ROWS; // queries: row / HEADS, head % HEADS

layout(binding = 1, std430) readonly buffer q_rows { float q[]; };
layout(binding = 2, std430) readonly buffer k_pages { uint k_words[]; };
layout(binding = 2, std430) readonly buffer k_pages4 { uvec4 k_words4[]; };
layout(binding = 3, std430) readonly buffer v_pages { uint v_words[]; };
layout(binding = 4, std430) writeonly buffer out_rows { float result[]; };
layout(binding = 5, std430) writeonly buffer partial_rows { float partials[]; };

layout(push_constant) uniform push_block
{
    PUSH_HEAD;
    uint count_at, wanted_at, position_at, last_at, table_at, tables_at, table_stride, table_first, ring;
    uint n_head, n_kv, q_stride, out_stride, window, n_splits;
} push;

#include "common/kv.glsl"

// Scores: LANES invocations share a key, and each takes every LANES-th quad of its line (4 words; 8 values of blocks) for
// KEYS keys.
// The first STORED of them leave their parts in shared memory, and the others add theirs.
#define LANES 4u
const uint STORED = VECTORS > 4u ? 2u : LANES;
const uint QUADS = KV_BLOCKS ? HEAD / 8u : (HEAD_WORDS + 3u) / 4u;
const uint KEY_STEP = GROUP / LANES;
const uint KEYS = PAGE / KEY_STEP;
// Values: COLUMNS invocations share a line, WORDS words (pairs of values, F32: single ones) each; SLICES such sets take
// turns at quads of keys.
const uint LINE = KV_TYPE == KV_F32 ? HEAD : HEAD / 2u;
const uint COLUMNS_WISHED = LINE > 128u ? 256u : LINE > 64u ? 128u : LINE > 32u ? 64u : 32u;
const uint COLUMNS = COLUMNS_WISHED < GROUP ? COLUMNS_WISHED : GROUP;
const uint WORDS = (LINE + COLUMNS - 1u) / COLUMNS;
const uint SLICES = GROUP / COLUMNS;
// Softmax: TEAM invocations share a query, TEAM_KEYS keys each.
const uint TEAM = GROUP / VECTORS < 16u ? GROUP / VECTORS : 16u;
const uint TEAM_KEYS = (PAGE + TEAM - 1u) / TEAM;

const uint QUERY_QUADS = QUADS * (KV_TYPE == KV_F32 ? 1u : 2u);
const uint SCORES = VECTORS * PAGE * STORED;

shared vec4 query[VECTORS * QUERY_QUADS]; // zeros behind HEAD
shared float scores[SCORES > 2u * GROUP ? SCORES : 2u * GROUP]; // [VECTORS][PAGE][STORED]; then weights [VECTORS][PAGE]
shared float team_values[VECTORS * TEAM];
shared float rescale[VECTORS]; // of what is summed already

vec2 acc[VECTORS * WORDS]; // sums of weight x value: the two values of a word, or x alone

void load_query(uint r, uint h, uint n_rows)
{
    for (uint i = gl_LocalInvocationIndex; i < VECTORS * QUERY_QUADS; i += GROUP) {
        uint g = i / QUERY_QUADS, first = 4u * (i % QUERY_QUADS), row = r + g / HEADS;
        uint at = push.off[1] + row * push.q_stride + (h + g % HEADS) * HEAD + first;
        vec4 quad = vec4(0.0);
        for (uint j = 0u; j < 4u; j++)
            if (row < n_rows && first + j < HEAD) quad[j] = q[at + j];
        query[i] = quad;
    }
}

uvec4 key_quad(uint line, uint quad)
{
    if (HEAD_WORDS % 4u == 0u) return k_words4[line / 4u + quad];
    uvec4 words = uvec4(0u);
    for (uint j = 0u; j < 4u; j++)
        if (4u * quad + j < HEAD_WORDS) words[j] = k_words[line + 4u * quad + j];
    return words;
}

vec4 signed_bytes(uint v)
{
    int q = int(v);
    return vec4(bitfieldExtract(q, 0, 8), bitfieldExtract(q, 8, 8), bitfieldExtract(q, 16, 8), q >> 24);
}
vec4 nibbles(uint v) { return vec4(v & 15u, v >> 8 & 15u, v >> 16 & 15u, v >> 24 & 15u) - 8.0; }

// Values 8 c ... 8 c + 7 of a quantised key whose line is at word `line`.
void key_values(uint line, uint c, out vec4 low, out vec4 high)
{
    uint block = c / 4u * BLOCK_HALFS, at = block + 1u + 4u * (KV_TYPE == KV_Q8_0 ? c % 4u : c % 2u), i = line + at / 2u;
    uint first = k_words[i], middle = k_words[i + 1u], last = k_words[line + (at + 3u) / 2u];
    uvec2 codes = uvec2(first, middle);
    if (at % 2u == 1u) codes = uvec2(first >> 16 | middle << 16, middle >> 16 | last << 16);
    float scale = half_to_float(k_words[line + block / 2u] >> 16u * (block % 2u));
    if (KV_TYPE == KV_Q8_0) {
        low = scale * signed_bytes(codes.x);
        high = scale * signed_bytes(codes.y);
    } else {
        uint shift = c % 4u / 2u * 4u;
        low = scale * nibbles(codes.x >> shift);
        high = scale * nibbles(codes.y >> shift);
    }
}

// Values 2 i and 2 i + 1 of a line of quantised values.
vec2 value_pair(uint line, uint i)
{
    uint block = i / 16u * BLOCK_HALFS, at = block + 1u + i % (KV_TYPE == KV_Q8_0 ? 16u : 8u);
    uint codes = v_words[line + at / 2u] >> 16u * (at % 2u), shift = i % 16u / 8u * 4u;
    float scale = half_to_float(v_words[line + block / 2u] >> 16u * (block % 2u));
    if (KV_TYPE == KV_Q8_0) return scale * vec2(bitfieldExtract(int(codes), 0, 8), bitfieldExtract(int(codes), 8, 8));
    return scale * (vec2(codes >> shift & 15u, codes >> shift + 8u & 15u) - 8.0);
}

// Values of a word of a line that stand for one column.
vec2 values_at(uint line, uint word)
{
    if (KV_BLOCKS) return value_pair(line, word);
    uint bits = v_words[line + word];
    return KV_TYPE == KV_F16 ? unpackHalf2x16(bits) : vec2(uintBitsToFloat(bits), 0.0);
}

// Parts of q . k of the keys first <= key < end of a page whose first line is at `page`.
void add_scores(uint page, uint first, uint end)
{
    uint lane = gl_LocalInvocationIndex % LANES, key = gl_LocalInvocationIndex / LANES;
    float sums[VECTORS * KEYS];
    for (uint i = 0u; i < VECTORS * KEYS; i++) sums[i] = 0.0;
    for (uint quad = lane; quad < QUADS; quad += LANES) {
        if (KV_BLOCKS) {
            for (uint n = 0u; n < KEYS; n++) {
                uint at = key + n * KEY_STEP;
                vec4 low = vec4(0.0), high = vec4(0.0);
                if (at >= first && at < end) key_values(page + at * HEAD_WORDS, quad, low, high);
                for (uint g = 0u; g < VECTORS; g++) {
                    uint from = g * QUERY_QUADS + 2u * quad;
                    sums[g * KEYS + n] += dot(query[from], low) + dot(query[from + 1u], high);
                }
            }
            continue;
        }
        uvec4 words[KEYS];
        for (uint n = 0u; n < KEYS; n++) {
            uint at = key + n * KEY_STEP;
            words[n] = uvec4(0u);
            if (at >= first && at < end) words[n] = key_quad(page + at * HEAD_WORDS, quad);
        }
        if (KV_TYPE == KV_F16) {
            for (uint g = 0u; g < VECTORS; g++) {
                vec4 low = query[g * QUERY_QUADS + 2u * quad], high = query[g * QUERY_QUADS + 2u * quad + 1u];
                for (uint n = 0u; n < KEYS; n++)
                    sums[g * KEYS + n] += dot(low, vec4(unpackHalf2x16(words[n].x), unpackHalf2x16(words[n].y))) +
                                          dot(high, vec4(unpackHalf2x16(words[n].z), unpackHalf2x16(words[n].w)));
            }
        } else {
            for (uint g = 0u; g < VECTORS; g++)
                for (uint n = 0u; n < KEYS; n++)
                    sums[g * KEYS + n] += dot(query[g * QUERY_QUADS + quad], uintBitsToFloat(words[n]));
        }
    }
    for (uint turn = 0u; turn < LANES; turn += STORED) {
        if (turn > 0u) barrier();
        if (lane < turn || lane >= turn + STORED) continue;
        for (uint g = 0u; g < VECTORS; g++)
            for (uint n = 0u; n < KEYS; n++) {
                uint at = (g * PAGE + key + n * KEY_STEP) * STORED + lane - turn;
                scores[at] = turn == 0u ? sums[g * KEYS + n] : scores[at] + sums[g * KEYS + n];
            }
    }
}

// Scores to weights exp(score - top) of the keys first <= key < end, which the invocation's query sees, and 0 of the
// others; `top` is the query's, `sum` goes over the invocation's own keys.
void add_weights(uint first, uint end, inout float top, inout float sum)
{
    uint g = gl_LocalInvocationIndex / TEAM, member = gl_LocalInvocationIndex % TEAM;
    float mine[TEAM_KEYS], best = LOWEST;
    if (g < VECTORS) {
        for (uint n = 0u; n < TEAM_KEYS; n++) {
            uint key = member + n * TEAM, at = (g * PAGE + min(key, PAGE - 1u)) * STORED;
            mine[n] = scores[at] + scores[at + 1u];
            if (STORED == 4u) mine[n] += scores[at + 2u] + scores[at + 3u];
            if (key >= first && key < end) best = max(best, mine[n]);
        }
        team_values[g * TEAM + member] = best;
    }
    barrier();
    if (g < VECTORS) {
        float before = top;
        for (uint k = 0u; k < TEAM; k++) top = max(top, team_values[g * TEAM + k]);
        float by = before == LOWEST ? 0.0 : exp(before - top);
        sum *= by;
        for (uint n = 0u; n < TEAM_KEYS; n++) {
            uint key = member + n * TEAM;
            float weight = key >= first && key < end ? exp(mine[n] - top) : 0.0;
            sum += weight;
            if (key < PAGE) scores[g * PAGE + key] = weight;
        }
        if (member == 0u) rescale[g] = by;
    }
    barrier();
}

// acc = acc x rescale + weights x values of the keys first <= key < end.
void add_values(uint page, uint first, uint end)
{
    uint column = gl_LocalInvocationIndex % COLUMNS, slice = gl_LocalInvocationIndex / COLUMNS;
    for (uint g = 0u; g < VECTORS; g++)
        for (uint n = 0u; n < WORDS; n++) acc[g * WORDS + n] *= rescale[g];
    for (uint key = (first & ~3u) + 4u * slice; key < end; key += 4u * SLICES) {
        vec2 values[4u * WORDS];
        for (uint k = 0u; k < 4u; k++)
            for (uint n = 0u; n < WORDS; n++) {
                uint at = column + n * COLUMNS;
                values[k * WORDS + n] = vec2(0.0);
                if (key + k >= first && key + k < end && at < LINE)
                    values[k * WORDS + n] = values_at(page + (key + k) * HEAD_WORDS, at);
            }
        for (uint g = 0u; g < VECTORS; g++)
            for (uint k = 0u; k < 4u; k++) {
                float weight = scores[g * PAGE + key + k];
                for (uint n = 0u; n < WORDS; n++) acc[g * WORDS + n] += weight * values[k * WORDS + n];
            }
    }
}

// The sum of a query over its team.
float team_sum(uint g)
{
    float sum = team_values[g * TEAM];
    for (uint k = 1u; k < TEAM; k++) sum += team_values[g * TEAM + k];
    return sum;
}

void store(uint at, uint word, vec2 values, bool whole)
{
    uint i = KV_TYPE == KV_F32 ? at + word : at + 2u * word;
    if (whole) {
        result[i] = values.x;
        if (KV_TYPE != KV_F32) result[i + 1u] = values.y;
    } else {
        partials[i] = values.x;
        if (KV_TYPE != KV_F32) partials[i + 1u] = values.y;
    }
}

// Sums over slices, to `out` or to the partial results of the split.
void write_out(uint r, uint h, uint n_rows, float top, float sum)
{
    uint tid = gl_LocalInvocationIndex, column = tid % COLUMNS;
    if (tid < VECTORS * TEAM) team_values[tid] = sum;
    barrier();
    bool whole = push.n_splits == 1u;
    for (uint g = 0u; g < VECTORS; g++) {
        uint row = r + g / HEADS, head = h + g % HEADS;
        uint at = whole ? push.off[4] + row * push.out_stride + head * HEAD
                        : push.off[5] + ((row * push.n_head + head) * push.n_splits + gl_WorkGroupID.y) * (HEAD + 4u);
        for (uint n = 0u; n < WORDS; n++) {
            vec2 values = acc[g * WORDS + n];
            if (SLICES > 1u) {
                scores[2u * tid] = values.x;
                scores[2u * tid + 1u] = values.y;
                barrier();
                for (uint s = 1u; s < SLICES; s++)
                    values += vec2(scores[2u * (column + s * COLUMNS)], scores[2u * (column + s * COLUMNS) + 1u]);
                barrier();
            }
            float l = team_sum(g);
            if (whole) values = l == 0.0 ? vec2(0.0) : values / l;
            uint word = column + n * COLUMNS;
            if (tid < COLUMNS && word < LINE && row < n_rows) store(whole ? at : at + 4u, word, values, whole);
        }
        if (!whole && tid == g * TEAM && row < n_rows) {
            partials[at] = top;
            partials[at + 1u] = team_sum(g);
        }
    }
}

// What a row sees: first <= position < end.
uvec2 view_of(uint row)
{
    uint position = STEP(push.position_at + row);
    uint first = push.window > 0u && position >= push.window ? position - push.window + 1u : 0u;
    return uvec2(first, STEP(push.last_at + row) + 1u);
}

// The end of the run of rows that begins at r: rows with one page table. Sets what any of them sees.
uint run_of(uint r, uint n_rows, out uint table, out uvec2 view)
{
    uint row = step_row_of(push.wanted_at, r), n = 1u;
    table = STEP(push.table_at + row);
    view = view_of(row);
    for (uint k = 1u; k < ROWS; k++) {
        row = step_row_of(push.wanted_at, min(r + k, n_rows - 1u));
        if (n == k && r + k < n_rows && STEP(push.table_at + row) == table) {
            uvec2 one = view_of(row);
            view = uvec2(min(view.x, one.x), max(view.y, one.y));
            n++;
        }
    }
    return r + n;
}

// HEADS heads of ROWS rows a workgroup. The rows of a run go over its pages together; a split is of the run's pages.
void main()
{
    uint h = gl_WorkGroupID.x * HEADS, r = gl_WorkGroupID.z * ROWS, n_rows = STEP(push.count_at);
    if (r >= n_rows) return;
    uint kv_head = h / (push.n_head / push.n_kv), own_row = r + gl_LocalInvocationIndex / (TEAM * HEADS);
    uvec2 own = view_of(step_row_of(push.wanted_at, min(own_row, n_rows - 1u)));
    uint r_end = min(r + ROWS, n_rows), run_end = r;

    load_query(r, h, n_rows);
    for (uint i = 0u; i < VECTORS * WORDS; i++) acc[i] = vec2(0.0);
    float top = LOWEST, sum = 0.0;
    barrier();
    for (uint k = 0u; k < ROWS; k++) {
        uint run = r + k, table = 0u;
        uvec2 view = uvec2(0u);
        if (run == run_end && run < r_end) run_end = run_of(run, r_end, table, view);
        bool in_run = own_row >= run && own_row < run_end;
        uint page_first = view.x / PAGE, n_pages = view.x < view.y ? (view.y - 1u) / PAGE - page_first + 1u : 0u;
        uint split_end = page_first + (gl_WorkGroupID.y + 1u) * n_pages / push.n_splits;
        for (uint e = page_first + gl_WorkGroupID.y * n_pages / push.n_splits; e < split_end; e++) {
            uint page = page_words(table, e, kv_head);
            uvec2 bounds = uvec2(e * PAGE, e * PAGE + PAGE), keys = clamp(view, bounds.xx, bounds.yy) - bounds.xx;
            uvec2 seen = in_run ? clamp(own, bounds.xx, bounds.yy) - bounds.xx : uvec2(0u);
            add_scores(push.off[2] + page, keys.x, keys.y);
            barrier();
            add_weights(seen.x, seen.y, top, sum);
            add_values(push.off[3] + page, keys.x, keys.y);
            barrier();
        }
    }
    write_out(r, h, n_rows, top, sum);
}
