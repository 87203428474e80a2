#include "conform/scene.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

gm_mem scene_mem;
static void *blocks[1024];
static size_t n_blocks;
static uint64_t state;

void *scene_alloc(size_t n_bytes)
{
    assert_true(n_blocks < GM_COUNT(blocks));
    void *block = calloc(1, n_bytes ? n_bytes : 1);
    assert_non_null(block);
    blocks[n_blocks++] = block;
    return block;
}

void scene_free_all(void)
{
    while (n_blocks) free(blocks[--n_blocks]);
}

uint64_t scene_random(scene *s)
{
    (void)s;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

float scene_normal(scene *s)
{
    double u = ((double)(scene_random(s) >> 11) + 1) * 0x1p-53, v = (double)(scene_random(s) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

void scene_init(scene *s, gm_op_kind kind, uint32_t n_rows, uint64_t seed)
{
    *s = (scene){ .n_rows = n_rows };
    state = seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull;
    for (int i = 0; i < 8; i++) scene_random(s);
    s->op = (gm_op){ .kind = (uint16_t)kind, .layer = 0, .kv = -1, .eps = 1e-6f, .scale = 1, .scale2 = 1 };
    for (unsigned i = 0; i < 4; i++) s->op.in[i] = GM_NONE, s->op.w[i] = -1;
    for (unsigned i = 0; i < 3; i++) s->op.out[i] = GM_NONE;
    for (uint32_t r = 0; r < n_rows; r++) {
        s->position[r] = s->angle[r] = s->last_seen[r] = r;
        s->token[r] = (int32_t)r;
        s->want[r] = 0;
    }
}

/* Random bits for a type that cannot be packed, but for the scale, which makes values of deviation about 1 / sqrt(n_in):
 * a block begins with it, as f16 (IQ…) or as an exponent (MXFP4). */
static void random_blocks(scene *s, const gm_format *f, uint8_t *block, uint64_t count, uint32_t n_in)
{
    float values[256];
    for (uint64_t i = 0; i < count * f->block_bytes; i++) block[i] = (uint8_t)scene_random(s);
    for (uint64_t b = 0; b < count; b++, block += f->block_bytes) {
        float d = 1;
        if (f->type == GM_MXFP4) {
            block[0] = (uint8_t)(126 - ilogb(sqrt((double)n_in)));
            continue;
        }
        for (int pass = 0; pass < 2; pass++) {
            uint16_t half = gm_f16_from_f32(d);
            memcpy(block, &half, 2);
            f->unpack(block, values, 1);
            double squares = 0;
            for (uint32_t i = 0; i < f->block; i++) squares += (double)values[i] * (double)values[i];
            d = (float)(1 / sqrt(squares / f->block * n_in));
        }
    }
}

static void keep_weight(scene *s, unsigned i, const float *values)
{
    const gm_weight_shape *w = &s->shapes[i];
    uint64_t n = (uint64_t)w->n_in * w->n_out * w->n_matrix;
    float *unpacked = malloc(n * sizeof *unpacked);
    assert_non_null(unpacked);
    s->weights[i] = scene_alloc(gm_row_bytes(w->format, n));
    s->w[i] = scene_alloc(n * sizeof(double));
    if (w->format->pack)
        w->format->pack(values, s->weights[i], n / w->format->block);
    else
        random_blocks(s, w->format, s->weights[i], n / w->format->block, w->n_in);
    w->format->unpack(s->weights[i], unpacked, n / w->format->block);
    for (uint64_t k = 0; k < n; k++) s->w[i][k] = (double)unpacked[k];
    free(unpacked);
    s->op.w[i] = (int32_t)i;
}

void scene_weight(scene *s, unsigned i, gm_type type, uint32_t n_in, uint32_t n_out, uint32_t n_matrix)
{
    s->shapes[i] = (gm_weight_shape){ gm_format_of(type), n_in, n_out, n_matrix, NULL };
    uint64_t n = (uint64_t)n_in * n_out * n_matrix;
    float *values = malloc(n * sizeof *values), scale = 1 / sqrtf((float)n_in);
    assert_non_null(values);
    for (uint64_t k = 0; k < n; k++) values[k] = scene_normal(s) * scale;
    keep_weight(s, i, values);
    free(values);
}

void scene_factors(scene *s, unsigned i)
{
    gm_weight_shape *w = &s->shapes[i];
    uint64_t n = (uint64_t)w->n_in * w->n_out;
    float *factors = scene_alloc(w->n_matrix * sizeof *factors);
    for (uint32_t m = 0; m < w->n_matrix; m++) {
        factors[m] = (scene_random(s) % 2 ? 1.0f : -1.0f) * (0.5f + (float)(scene_random(s) % 1024) / 1024);
        for (uint64_t k = 0; k < n; k++) s->w[i][m * n + k] *= (double)factors[m];
    }
    w->factors = factors;
}

void scene_vector(scene *s, unsigned i, uint32_t n)
{
    s->shapes[i] = (gm_weight_shape){ gm_format_of(GM_F32), n, 1, 1, NULL };
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (uint32_t k = 0; k < n; k++) values[k] = 1 + 0.25f * scene_normal(s);
    keep_weight(s, i, values);
    free(values);
}

void scene_input(scene *s, unsigned i, uint32_t width)
{
    s->in_width[i] = width;
    s->in[i] = scene_alloc((uint64_t)s->n_rows * width * sizeof(float));
    for (uint64_t k = 0; k < (uint64_t)s->n_rows * width; k++) s->in[i][k] = scene_normal(s);
    s->op.in[i] = (uint16_t)i;
}

void scene_output(scene *s, unsigned i, uint32_t width)
{
    s->out_width[i] = width;
    s->op.out[i] = (uint16_t)(4 + i);
}

void scene_kv(scene *s, gm_kv_kind kind, gm_type type, uint32_t n_kv, uint32_t head, uint32_t n_positions)
{
    s->kv = (gm_kv_layer){ .kind = kind, .n_kv = n_kv, .head = head, .format = gm_format_of(type) };
    s->op.kv = 0;
    s->op.n_kv = n_kv;
    s->op.head = head;
    s->n_positions = n_positions;
    uint32_t used = (uint32_t)gm_div_up(n_positions, GM_PAGE);
    s->n_pages = used + SCENE_PAGES_KEPT;
    assert_true(used <= GM_COUNT(s->table));
    for (uint32_t i = 0; i < used; i++) s->table[i] = i;
    for (uint32_t i = used; i > 1; i--) {
        uint32_t k = (uint32_t)(scene_random(s) % i), t = s->table[k];
        s->table[k] = s->table[i - 1];
        s->table[i - 1] = t;
    }
    uint64_t n = (uint64_t)s->n_pages * n_kv * GM_PAGE * head;
    uint8_t **pools[2] = { &s->k, &s->v };
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < 2; i++) {
        *pools[i] = scene_alloc(gm_row_bytes(s->kv.format, n));
        for (uint64_t k = 0; k < n; k++) values[k] = scene_normal(s) * (i ? 1 : 0.2f);
        if (type == GM_F32)
            memcpy(*pools[i], values, n * sizeof *values);
        else
            s->kv.format->pack(values, *pools[i], n / s->kv.format->block);
    }
    free(values);
    for (uint32_t r = 0; r < s->n_rows; r++) s->position[r] = s->last_seen[r] = n_positions - s->n_rows + r;
}

void scene_line(const scene *s, const uint8_t *pool, uint32_t kv_head, uint32_t position, float *out)
{
    uint64_t line = ((uint64_t)s->table[position / GM_PAGE] * s->kv.n_kv + kv_head) * GM_PAGE + position % GM_PAGE;
    s->kv.format->unpack(pool + line * gm_row_bytes(s->kv.format, s->kv.head), out, s->kv.head / s->kv.format->block);
}

static uint64_t pool_bytes(const scene *s) { return s->kv.format ? s->n_pages * gm_kv_page_bytes(&s->kv) : 0; }

results *scene_results(const scene *s)
{
    results *r = scene_alloc(sizeof *r);
    for (unsigned i = 0; i < 3; i++)
        if (s->out_width[i]) r->out[i] = scene_alloc((uint64_t)s->n_rows * s->out_width[i] * sizeof(float));
    if (s->kv.format) {
        r->k = scene_alloc(pool_bytes(s));
        r->v = scene_alloc(pool_bytes(s));
        memcpy(r->k, s->k, pool_bytes(s));
        memcpy(r->v, s->v, pool_bytes(s));
    }
    if (s->op.kind == GM_OP_HEAD) {
        r->logits = scene_alloc((uint64_t)s->n_rows * s->op.n_vocab * sizeof(float));
        r->hidden = scene_alloc((uint64_t)s->n_rows * s->in_width[0] * sizeof(float));
    }
    return r;
}

/* ---- a run ---- */

#define VIA_BYTES 65536u

typedef struct stage {
    const scene *s;
    gm_backend *be;
    gm_program program;
    gm_slot slots[7];
    gm_weight_shape shapes[4];
    uint64_t slot_offset[7], workspace_offset;
    gm_buffer *weights, *pools[2], *scratch, *staging, *via;
    gm_span spans[4], kv_spans[2];
    gm_step_limits limits;
    gm_step_block block;
    gm_exec *exec;
    gemma_error error;
} stage;

static void ok(stage *t, int rc)
{
    if (rc) fail_msg("%s: %s", gm_op_name(t->s->op.kind), t->error.message);
}

/* Memory that the host does not see is filled in small pieces, by way of memory that it sees. */
static gm_buffer *make(stage *t, uint64_t n_bytes, uint32_t tag)
{
    gm_buffer *b = NULL;
    ok(t, gm_buffer_create(t->be, gm_backend_heap_of(t->be, tag), n_bytes, tag, &b, &t->error));
    b->via = t->via;
    return b;
}

static gm_buffer *upload(stage *t, const void *data, uint64_t n_bytes, uint32_t tag)
{
    gm_buffer *b = make(t, n_bytes, tag);
    ok(t, gm_buffer_write(b, 0, data, n_bytes, &t->error));
    return b;
}

static void place_weights(stage *t)
{
    const scene *s = t->s;
    uint64_t at[5] = { 0 };
    for (unsigned i = 0; i < 4; i++) {
        uint64_t n = s->weights[i] ? gm_row_bytes(s->shapes[i].format, s->shapes[i].n_in) * s->shapes[i].n_out *
                                         s->shapes[i].n_matrix
                                   : 64;
        t->shapes[i] = s->weights[i] ? s->shapes[i] : (gm_weight_shape){ gm_format_of(GM_F32), 1, 1, 1, NULL };
        if (s->from_file) t->shapes[i] = s->shapes[0];
        at[i + 1] = gm_align_up(at[i] + n, 64);
    }
    t->weights = make(t, at[4], GEMMA_TAG_WEIGHTS);
    for (unsigned i = 0; i < 4; i++) {
        t->spans[i] = s->from_file ? (gm_span){ 0 } : (gm_span){ .buffer = t->weights, .offset = at[i] };
        if (!s->weights[i]) continue;
        uint64_t n = gm_row_bytes(s->shapes[i].format, s->shapes[i].n_in) * s->shapes[i].n_out * s->shapes[i].n_matrix;
        ok(t, gm_buffer_write(t->weights, at[i], s->weights[i], n, &t->error));
    }
}

static void make_program(stage *t, uint32_t max_rows)
{
    const scene *s = t->s;
    for (unsigned i = 0; i < 7; i++) {
        uint32_t width = i < 4 ? s->in_width[i] : s->out_width[i - 4];
        uint32_t rows = i >= 4 || s->op.kind != GM_OP_ROWS ? s->op.rows : (uint32_t)GM_ROWS_ALL;
        if (s->wanted_slot && i < 4) rows = GM_ROWS_ALL;
        t->slots[i] = (gm_slot){ .width = width ? width : 1, .rows = rows };
    }
    t->program = (gm_program){ .mem = &scene_mem,
                               .ops = scene_alloc(sizeof(gm_op)),
                               .n_ops = 1,
                               .slots = t->slots,
                               .n_slots = 7,
                               .max_rows = max_rows,
                               .cut = true,
                               .weights = t->shapes,
                               .n_weights = 4,
                               .kv = &s->kv,
                               .n_kv = s->kv.format ? 1 : 0,
                               .suppressed = s->suppressed,
                               .n_suppressed = s->n_suppressed };
    *t->program.ops = s->op;
    if (s->in_place) t->program.ops->out[0] = s->op.in[s->op.kind == GM_OP_NORM_ADD ? 1 : 0];
    t->limits = (gm_step_limits){ .max_rows = max_rows,
                                  .n_tables = 2,
                                  .global_pages = (uint32_t)gm_div_up(s->n_positions, GM_PAGE) + 1,
                                  .sliding_ring = (uint32_t)gm_div_up(s->n_positions, GM_PAGE) + 1,
                                  .result_rows = s->op.kind == GM_OP_HEAD ? max_rows : 0,
                                  .n_vocab = s->op.n_vocab,
                                  .n_embd = s->in_width[0],
                                  .max_copies = 1 };
    if (s->from_file) t->limits.file_row_bytes = (uint32_t)gm_row_bytes(s->shapes[0].format, s->shapes[0].n_in);
    if (!s->n_positions) t->limits.global_pages = 4096;
}

static void place_memory(stage *t, const results *r)
{
    uint64_t at = 0;
    for (unsigned i = 0; i < 7; i++) {
        t->slot_offset[i] = at;
        at = gm_align_up(at + (uint64_t)t->slots[i].width * t->program.max_rows * sizeof(float), 64);
    }
    t->workspace_offset = at;
    at += t->be->fns->workspace_bytes(t->be, &t->program, &t->limits);
    void *nan = scene_alloc(at);
    memset(nan, 0xff, at); /* what is read must have been written */
    t->scratch = upload(t, nan, at, GEMMA_TAG_SCRATCH);
    uint64_t staging = gm_step_block_layout(&t->limits, NULL, NULL);
    t->staging = make(t, staging, GEMMA_TAG_STAGING);
    memset(t->staging->host, 0xff, staging);
    gm_step_block_layout(&t->limits, t->staging->host, &t->block);
    if (!t->s->kv.format) return;
    t->pools[0] = upload(t, r->k, pool_bytes(t->s), GEMMA_TAG_KV);
    t->pools[1] = upload(t, r->v, pool_bytes(t->s), GEMMA_TAG_KV);
    t->kv_spans[0] = (gm_span){ .buffer = t->pools[0] };
    t->kv_spans[1] = (gm_span){ .buffer = t->pools[1] };
}

/* In a scene of wanted rows, every second row of the step is one; the step's other rows are copies. */
static void fill_block(stage *t, const uint32_t *rows, uint32_t n)
{
    const scene *s = t->s;
    bool all = s->op.kind != GM_OP_HEAD && s->op.kind != GM_OP_ROWS && s->op.rows == GM_ROWS_ALL;
    uint32_t stride = all ? 1 : 2;
    t->block.n_rows = n * stride;
    t->block.n_wanted = n;
    t->block.n_copies = 0;
    for (uint32_t i = 0; i < n * stride; i++) {
        uint32_t r = rows ? rows[i / stride] : i / stride;
        t->block.token[i] = s->token[r];
        t->block.position[i] = s->position[r];
        t->block.angle[i] = s->angle[r];
        t->block.last_seen[i] = s->last_seen[r];
        t->block.table[i] = 1;
        uint64_t row_bytes = t->limits.file_row_bytes;
        if (row_bytes)
            memcpy(t->block.file_rows + i * gm_file_row_stride(row_bytes), s->weights[0] + s->token[r] * row_bytes,
                   row_bytes);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t r = rows ? rows[i] : i;
        t->block.wanted[i] = i * stride + stride - 1;
        t->block.want[i] = s->want[r];
        t->block.target[i] = s->target[r];
        t->block.result_row[i] = n - 1 - i;
    }
    uint32_t *table = t->block.tables + gm_table_stride(&t->limits);
    uint32_t at = s->kv.kind == GM_KV_GLOBAL ? 0 : t->limits.global_pages;
    for (uint32_t i = 0; i * GM_PAGE < s->n_positions; i++) table[at + i] = s->table[i];
}

static void fill_slots(stage *t, const uint32_t *rows, uint32_t n)
{
    const scene *s = t->s;
    uint32_t stride = s->op.kind == GM_OP_ROWS || s->wanted_slot ? 2 : 1;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t n_bytes = s->in_width[i] * sizeof(float);
        for (uint32_t k = 0; s->in_width[i] && k < n; k++) {
            uint64_t at = t->slot_offset[i] + (k * stride + stride - 1) * n_bytes;
            const float *row = s->in[i] + (uint64_t)(rows ? rows[k] : k) * s->in_width[i];
            ok(t, gm_buffer_write(t->scratch, at, row, n_bytes, &t->error));
        }
    }
}

static void read_back(stage *t, uint32_t n, results *r)
{
    const scene *s = t->s;
    for (unsigned i = 0; i < 3; i++) {
        uint16_t slot = t->program.ops->out[i];
        if (slot == GM_NONE) continue;
        uint64_t n_bytes = (uint64_t)n * s->out_width[i] * sizeof(float);
        ok(t, gm_buffer_read(t->scratch, t->slot_offset[slot], r->out[i], n_bytes, &t->error));
    }
    if (s->kv.format) {
        ok(t, gm_buffer_read(t->pools[0], 0, r->k, pool_bytes(s), &t->error));
        ok(t, gm_buffer_read(t->pools[1], 0, r->v, pool_bytes(s), &t->error));
    }
    if (s->op.kind != GM_OP_HEAD) return;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t line = t->block.result_row[i], n_vocab = s->op.n_vocab, n_embd = s->in_width[0];
        r->n_candidates[i] = t->block.n_candidates[i];
        memcpy(r->candidates[i], t->block.candidates + i * GM_RESULTS_MAX, sizeof r->candidates[i]);
        r->log_sum[i] = t->block.log_sum[i];
        r->score[i] = t->block.score[i];
        memcpy(r->logits + (uint64_t)i * n_vocab, t->block.logits + (uint64_t)line * n_vocab, n_vocab * sizeof(float));
        memcpy(r->hidden + (uint64_t)i * n_embd, t->block.hidden + (uint64_t)line * n_embd, n_embd * sizeof(float));
    }
}

/* Everything in the backend's memory, the rows chosen, the program compiled. */
static void open_stage(stage *t, const scene *s, gm_backend *be, const uint32_t *rows, uint32_t n, const results *r)
{
    *t = (stage){ .s = s, .be = be, .error = { .size = sizeof(gemma_error) } };
    make_program(t, 2 * s->n_rows);
    ok(t, gm_backend_accepts(be, &t->program, NULL, &t->error));
    t->via = make(t, VIA_BYTES, GEMMA_TAG_STAGING);
    place_weights(t);
    place_memory(t, r);
    gm_exec_desc desc = { .program = &t->program,
                          .weights = t->spans,
                          .kv_k = &t->kv_spans[0],
                          .kv_v = &t->kv_spans[1],
                          .scratch = t->scratch,
                          .slot_offset = t->slot_offset,
                          .workspace_offset = t->workspace_offset,
                          .block = &t->block,
                          .limits = t->limits };
    ok(t, gm_exec_create(be, &desc, &t->exec, &t->error));
    fill_block(t, rows, n);
    fill_slots(t, rows, n);
}

static void run_stage(stage *t)
{
    ok(t, t->be->fns->submit(t->exec, NULL, &t->error));
    ok(t, t->be->fns->wait(t->exec, UINT64_MAX, &t->error));
}

static void close_stage(stage *t)
{
    gm_exec_destroy(t->be, t->exec);
    gm_buffer *buffers[] = { t->weights, t->pools[0], t->pools[1], t->scratch, t->staging, t->via };
    for (size_t i = 0; i < GM_COUNT(buffers); i++) gm_buffer_destroy(buffers[i]);
}

void scene_run(const scene *s, gm_backend *be, const uint32_t *rows, uint32_t n, results *r)
{
    stage t;
    if (!rows) n = s->n_rows;
    open_stage(&t, s, be, rows, n, r);
    run_stage(&t);
    read_back(&t, n, r);
    close_stage(&t);
}

uint32_t scene_time(const scene *s, gm_backend *be, void (*before)(void), uint64_t for_ns, uint64_t *ns, uint32_t n_cap)
{
    stage t;
    uint32_t n = 0;
    open_stage(&t, s, be, NULL, s->n_rows, scene_results(s));
    run_stage(&t); /* compiles kernels, where drivers put that off, and fetches what is small */
    for (uint64_t begun = gm_now_ns(); n < n_cap && (n < 5 || gm_now_ns() - begun < for_ns); n++) {
        if (before) before();
        uint64_t start = gm_now_ns();
        run_stage(&t);
        ns[n] = gm_now_ns() - start;
    }
    close_stage(&t);
    return n;
}
