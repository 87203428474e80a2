/* A device's speeds, measured with the kernels that steps use: programs of equal ops, timed from submit to the end of the
 * wait. The weights they read are one buffer full of ones. */
#include "backend/backend.h"

#define BUFFER_BYTES ((uint64_t)160 << 20) /* with scratch and staging less than 256 MiB */
#define LEAST_BYTES  ((uint64_t)16 << 20)
#define ENOUGH_NS    2000000u /* a program that takes so long does not grow any more */
#define REST_NS      500000u  /* until threads and clocks have gone to sleep */

enum {
    MAX_OPS = 192,
    WIDTH = 2048,   /* into products */
    SHORT = 512,    /* into products with short rows */
    NARROW = 32,    /* matrix rows of the smallest products, */
    SMALL = 256,    /* of small ones, */
    LARGE = 2048,   /* and of large ones */
    CONTEXT = 4096, /* positions seen */
    WINDOW = 512,   /* or only so many */
    HEADS = 4,      /* with one KV head */
    HEAD = 256,
    KV_LAYERS = 8, /* of 4 MiB: more than most caches hold */
    MAX_ROWS = 512,
    MAX_RUNS = 64,
    N_RESTS = 8,
    SLOTS = 3
};

/* A program: n_ops ops of a kind over n_rows rows. */
typedef struct load {
    gm_op_kind kind;      /* NORM: norms and products with one matrix in turn, each waiting for the one before */
    gm_type type;         /* of matrices, */
    uint32_t width;       /* whose rows are so long, */
    uint32_t matrix_rows; /* and which have so many of them */
    uint32_t n_ops, n_rows;
    uint32_t window; /* of attention; 0: the whole context */
    double op_ns;    /* measured: the median time by n_ops */
} load;

typedef struct bench {
    gm_backend *be;
    const gemma_cancel *cancel;
    gemma_error *error;
    gm_buffer *weights, *pages, *staging, *scratch;
    gm_step_limits limits;
    gm_step_block block;
    gm_program program;
    gm_kv_layer kv[KV_LAYERS];
    gm_op ops[MAX_OPS];
    gm_slot slots[SLOTS];
    gm_weight_shape shapes[MAX_OPS];
    gm_span spans[MAX_OPS], k[KV_LAYERS], v[KV_LAYERS];
    uint64_t slot_offset[SLOTS];
    gm_exec *exec;
} bench;

static int stopped(const bench *b)
{
    if (!b->cancel || !atomic_load(&b->cancel->raised)) return GEMMA_OK;
    return gm_fail(b->error, GEMMA_E_CANCELLED, "the probe was cancelled");
}

/* ---- memory ---- */

/* As much as the device has room for. Not as weights, which the CPU has in large pages where they are read, but in small
 * ones where the file is mapped: the slower of the two is measured. */
static int create_weights(bench *b)
{
    uint32_t heap = gm_backend_heap_of(b->be, GEMMA_TAG_WEIGHTS);
    int rc = GEMMA_E_DEVMEM;
    for (uint64_t n = BUFFER_BYTES; rc == GEMMA_E_DEVMEM && n >= LEAST_BYTES; n /= 2)
        rc = gm_buffer_create(b->be, heap, n, GEMMA_TAG_KV, &b->weights, b->error);
    return rc;
}

static int create_pages(bench *b)
{
    const gm_kv_layer layer = { .n_kv = 1, .head = HEAD, .format = gm_format_of(GM_F16) };
    uint64_t n_bytes = CONTEXT / GM_PAGE * gm_kv_page_bytes(&layer); /* of K, and again of V */
    uint32_t heap = gm_backend_heap_of(b->be, GEMMA_TAG_KV);
    int rc = gm_buffer_create(b->be, heap, 2 * KV_LAYERS * n_bytes, GEMMA_TAG_KV, &b->pages, b->error);
    if (rc) return rc;
    if (b->pages->host) memset(b->pages->host, 0, 2 * KV_LAYERS * n_bytes);
    for (uint32_t i = 0; i < KV_LAYERS; i++) {
        b->kv[i] = layer;
        b->k[i] = (gm_span){ .buffer = b->pages, .offset = 2 * i * n_bytes };
        b->v[i] = (gm_span){ .buffer = b->pages, .offset = (2 * i + 1) * n_bytes };
    }
    return GEMMA_OK;
}

static int create_block(bench *b)
{
    b->limits = (gm_step_limits){ .max_rows = MAX_ROWS, .n_tables = 1, .global_pages = CONTEXT / GM_PAGE };
    uint32_t heap = gm_backend_heap_of(b->be, GEMMA_TAG_STAGING);
    uint64_t n_bytes = gm_step_block_layout(&b->limits, NULL, NULL);
    int rc = gm_buffer_create(b->be, heap, n_bytes, GEMMA_TAG_STAGING, &b->staging, b->error);
    if (rc) return rc;
    memset(b->staging->host, 0, n_bytes);
    gm_step_block_layout(&b->limits, b->staging->host, &b->block);
    b->block.n_rows = b->block.n_wanted = b->block.n_copies = 0;
    for (uint32_t r = 0; r < MAX_ROWS; r++) b->block.position[r] = b->block.last_seen[r] = CONTEXT - 1;
    for (uint32_t i = 0; i < b->limits.global_pages; i++) b->block.tables[i] = i;
    return GEMMA_OK;
}

/* ---- programs ---- */

static void add_op(bench *b, gm_op_kind kind, uint16_t in, uint16_t out)
{
    gm_op *op = &b->ops[b->program.n_ops++];
    *op = (gm_op){ .kind = (uint16_t)kind, .layer = -1, .kv = -1, .width = WIDTH, .eps = 1e-6f, .scale = 1 };
    for (size_t i = 0; i < GM_COUNT(op->in); i++) op->in[i] = i ? GM_NONE : in;
    for (size_t i = 0; i < GM_COUNT(op->out); i++) op->out[i] = i ? GM_NONE : out;
    for (size_t i = 0; i < GM_COUNT(op->w); i++) op->w[i] = -1;
}

/* A product with matrix w; false: the buffer ends before it. */
static bool add_product(bench *b, const load *l, uint32_t w, uint16_t in, uint16_t out)
{
    gm_weight_shape s = { gm_format_of(l->type), l->width, l->matrix_rows, 1, NULL };
    uint64_t n_bytes = gm_weight_bytes(&s), at = w * n_bytes; /* 32 rows of whole blocks: multiples of 64 */
    if (at + n_bytes > b->weights->n_bytes) return false;
    add_op(b, GM_OP_MATMUL, in, out);
    b->ops[b->program.n_ops - 1].n_weights = 1;
    b->ops[b->program.n_ops - 1].w[0] = (int32_t)w;
    b->shapes[w] = s;
    b->spans[w] = (gm_span){ .buffer = b->weights, .offset = at };
    b->program.n_weights = w + 1;
    return true;
}

static void add_attention(bench *b, const load *l, uint32_t kv)
{
    add_op(b, GM_OP_ATTENTION, 0, 1);
    gm_op *op = &b->ops[b->program.n_ops - 1];
    op->kv = (int32_t)kv;
    op->n_head = HEADS;
    op->n_kv = 1;
    op->head = HEAD;
    op->window = l->window;
}

static void write_program(bench *b, const load *l)
{
    b->program = (gm_program){ .mem = b->be->mem,
                               .ops = b->ops,
                               .slots = b->slots,
                               .n_slots = SLOTS,
                               .max_rows = l->n_rows,
                               .weights = b->shapes,
                               .kv = b->kv,
                               .n_kv = l->kind == GM_OP_ATTENTION ? KV_LAYERS : 0 };
    for (uint32_t i = 0; i < SLOTS; i++) b->slots[i] = (gm_slot){ .width = i < 2 ? l->width : l->matrix_rows };
    bool more = true;
    for (uint32_t i = 0; more && i < l->n_ops; i++) {
        if (l->kind == GM_OP_ATTENTION)
            add_attention(b, l, i % KV_LAYERS);
        else if (l->kind == GM_OP_MATMUL)
            more = add_product(b, l, i, 0, 2);
        else if (i % 2)
            more = add_product(b, l, 0, 1, 2);
        else
            add_op(b, GM_OP_NORM, 0, 1);
    }
}

static void drop_program(bench *b)
{
    gm_exec_destroy(b->be, b->exec);
    gm_buffer_destroy(b->scratch);
    b->exec = NULL;
    b->scratch = NULL;
}

static int create_program(bench *b, const load *l)
{
    write_program(b, l);
    uint64_t at = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        b->slot_offset[i] = at;
        at += (uint64_t)b->slots[i].width * l->n_rows * sizeof(float);
    }
    gm_exec_desc d = { .program = &b->program,
                       .weights = b->spans,
                       .kv_k = b->k,
                       .kv_v = b->v,
                       .slot_offset = b->slot_offset,
                       .workspace_offset = at,
                       .block = &b->block,
                       .limits = b->limits };
    uint64_t n_bytes = at + b->be->fns->workspace_bytes(b->be, &b->program, &b->limits);
    uint32_t heap = gm_backend_heap_of(b->be, GEMMA_TAG_SCRATCH);
    int rc = gm_buffer_create(b->be, heap, n_bytes, GEMMA_TAG_SCRATCH, &b->scratch, b->error);
    if (rc) return rc;
    if (b->scratch->host) memset(b->scratch->host, 0, n_bytes); /* no strange numbers, which can be slow */
    d.scratch = b->scratch;
    b->block.n_rows = l->n_rows;
    return gm_exec_create(b->be, &d, &b->exec, b->error);
}

/* ---- timing ---- */

static int run(bench *b, uint64_t *ns)
{
    int rc = stopped(b);
    if (rc) return rc;
    uint64_t begun = gm_now_ns();
    rc = b->be->fns->submit(b->exec, b->cancel, b->error);
    if (!rc) rc = b->be->fns->wait(b->exec, UINT64_MAX, b->error);
    *ns = gm_max_u64(gm_now_ns() - begun, 1);
    return rc;
}

static uint64_t median_of(uint64_t *values, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k && values[k - 1] > values[k]; k--) {
            uint64_t t = values[k];
            values[k] = values[k - 1];
            values[k - 1] = t;
        }
    return values[n / 2];
}

/* Runs until the time is over, once where the program is too short and a longer one follows. *ns is the median: on a
 * machine that others use as well a step is not spared either. */
static int run_for(bench *b, uint64_t for_ns, bool is_last, uint64_t *ns)
{
    uint64_t times[MAX_RUNS], begun = gm_now_ns();
    uint32_t n = 0;
    int rc = run(b, &times[0]); /* compiles kernels, where drivers put that off, and fetches what is small */
    do {
        if (!rc) rc = run(b, &times[n]);
        n++;
    } while (!rc && (is_last || times[0] >= ENOUGH_NS) && n < MAX_RUNS && gm_now_ns() - begun + times[n - 1] < for_ns);
    *ns = rc ? 0 : median_of(times, n);
    return rc;
}

/* Times the first of steps[n_steps] that is long enough, or the last. *best becomes that step, with the ops it came to,
 * unless it has been faster before (op_ns, 0: never). */
static int measure(bench *b, const load *steps, uint32_t n_steps, uint64_t for_ns, load *best)
{
    int rc = GEMMA_OK;
    uint64_t ns = 0;
    load l = { 0 };
    for (uint32_t i = 0; !rc && i < n_steps && ns < ENOUGH_NS; i++) {
        l = steps[i];
        rc = create_program(b, &l);
        l.n_ops = b->program.n_ops;
        if (!rc) rc = run_for(b, for_ns, i + 1 == n_steps, &ns);
        drop_program(b);
    }
    l.op_ns = (double)ns / l.n_ops;
    if (!rc && (best->op_ns == 0 || l.op_ns < best->op_ns)) *best = l;
    return rc;
}

static int measure_products(bench *b, gm_type type, uint32_t width, uint32_t matrix_rows, load *best)
{
    const load steps[] = { { GM_OP_MATMUL, type, width, matrix_rows, 1, 1, 0, 0 },
                           { GM_OP_MATMUL, type, width, matrix_rows, 12, 1, 0, 0 },
                           { GM_OP_MATMUL, type, width, matrix_rows, 48, 1, 0, 0 },
                           { GM_OP_MATMUL, type, width, matrix_rows, MAX_OPS, 1, 0, 0 } };
    return measure(b, steps, GM_COUNT(steps), 8000000, best);
}

static int measure_compute(bench *b, load *best)
{
    const load steps[] = { { GM_OP_MATMUL, GM_Q4_K, WIDTH, LARGE, 1, 64, 0, 0 },
                           { GM_OP_MATMUL, GM_Q4_K, WIDTH, LARGE, 1, MAX_ROWS, 0, 0 },
                           { GM_OP_MATMUL, GM_Q4_K, WIDTH, LARGE, 16, MAX_ROWS, 0, 0 } };
    return measure(b, steps, GM_COUNT(steps), 8000000, best);
}

static int measure_attention(bench *b, uint32_t window, load *best)
{
    const load steps[] = { { GM_OP_ATTENTION, GM_F16, HEADS * HEAD, NARROW, 1, 1, window, 0 },
                           { GM_OP_ATTENTION, GM_F16, HEADS * HEAD, NARROW, KV_LAYERS, 1, window, 0 },
                           { GM_OP_ATTENTION, GM_F16, HEADS * HEAD, NARROW, 4 * KV_LAYERS, 1, window, 0 } };
    return measure(b, steps, GM_COUNT(steps), 5000000, best);
}

static int measure_ops(bench *b, load *best)
{
    const load steps[] = { { GM_OP_NORM, GM_Q8_0, WIDTH, NARROW, 16, 1, 0, 0 },
                           { GM_OP_NORM, GM_Q8_0, WIDTH, NARROW, MAX_OPS, 1, 0, 0 } };
    return measure(b, steps, GM_COUNT(steps), 4000000, best);
}

/* A program of two ops, with all at rest before. */
static int measure_submit(bench *b, uint64_t *ns)
{
    const load two = { GM_OP_NORM, GM_Q8_0, WIDTH, NARROW, 2, 1, 0, 0 };
    uint64_t times[N_RESTS] = { 0 };
    int rc = create_program(b, &two);
    for (uint32_t i = 0; !rc && i < N_RESTS; i++) {
        uint64_t until = gm_now_ns() + REST_NS;
        while (gm_now_ns() < until) gm_cpu_relax();
        rc = run(b, &times[i]);
    }
    *ns = median_of(times, N_RESTS);
    drop_program(b);
    return rc;
}

/* ---- the whole ---- */

enum { OPS, SMALL_Q4, SHORT_Q4, Q4, Q5, Q6, Q8, HALF, COMPUTE, ATTENTION, ATTENTION_WINDOW, N_LOADS };

/* What is short is measured twice, apart: another program may be in the way. */
static int measure_all(bench *b, load best[N_LOADS], uint64_t *submit_ns)
{
    int rc = measure_ops(b, &best[OPS]);
    if (!rc) rc = measure_products(b, GM_Q4_K, WIDTH, SMALL, &best[SMALL_Q4]);
    if (!rc) rc = measure_products(b, GM_Q4_K, WIDTH, LARGE, &best[Q4]);
    if (!rc) rc = measure_products(b, GM_Q4_K, SHORT, WIDTH / SHORT * LARGE, &best[SHORT_Q4]);
    if (!rc) rc = measure_products(b, GM_Q5_0, WIDTH, LARGE, &best[Q5]);
    if (!rc) rc = measure_products(b, GM_Q6_K, WIDTH, LARGE, &best[Q6]);
    if (!rc) rc = measure_products(b, GM_Q8_0, WIDTH, LARGE, &best[Q8]);
    if (!rc) rc = measure_products(b, GM_F16, WIDTH, LARGE, &best[HALF]);
    if (!rc) rc = measure_compute(b, &best[COMPUTE]);
    if (!rc) rc = measure_attention(b, WINDOW, &best[ATTENTION_WINDOW]);
    if (!rc) rc = measure_attention(b, 0, &best[ATTENTION]);
    if (!rc) rc = measure_ops(b, &best[OPS]);
    if (!rc) rc = measure_products(b, GM_Q4_K, WIDTH, SMALL, &best[SMALL_Q4]);
    return rc ? rc : measure_submit(b, submit_ns);
}

static double at_least(double value, double least) { return value > least ? value : least; }

static double product_bytes(const load *l)
{
    return (double)gm_row_bytes(gm_format_of(l->type), l->width) * l->matrix_rows;
}

/* 10^9 units a second, of ops that have so many each, but for what they cost anyway: no more than half. */
static double rate(const load *l, double units, double fixed_ns)
{
    return units / at_least(l->op_ns - fixed_ns, l->op_ns / 2);
}

static double product_rate(const gemma_probe *p, const load *l)
{
    return rate(l, product_bytes(l), 1e3 * p->product_us + p->row_ns * l->matrix_rows);
}

static void conclude(const load best[N_LOADS], uint64_t submit_ns, gemma_probe *p)
{
    const double least_ns = 10; /* what clocks can tell */
    const load *small = &best[SMALL_Q4], *large = &best[Q4], *shorter = &best[SHORT_Q4];
    double op_ns = at_least(best[OPS].op_ns, least_ns);
    /* A product's time is a straight line over its bytes and rows; memory is not faster than it was read before. */
    double row_ns = (shorter->op_ns - large->op_ns) / (shorter->matrix_rows - large->matrix_rows);
    p->row_ns = at_least(row_ns, 1e-3 * least_ns);
    double byte_ns = (large->op_ns - small->op_ns - p->row_ns * (large->matrix_rows - small->matrix_rows)) /
                     (product_bytes(large) - product_bytes(small));
    double moved_ns = at_least(byte_ns, 1 / p->read_gb_s) * product_bytes(small) + p->row_ns * small->matrix_rows;
    p->op_us = 1e-3 * op_ns;
    p->product_us = 1e-3 * at_least(small->op_ns - moved_ns, op_ns);
    p->submit_us = 1e-3 * at_least((double)submit_ns - 2 * op_ns, least_ns);
    p->q4_gb_s = product_rate(p, large);
    p->q5_gb_s = product_rate(p, &best[Q5]);
    p->q6_gb_s = product_rate(p, &best[Q6]);
    p->q8_gb_s = product_rate(p, &best[Q8]);
    p->f16_gb_s = product_rate(p, &best[HALF]);
    p->compute_gflops = rate(&best[COMPUTE], 2.0 * WIDTH * LARGE * best[COMPUTE].n_rows, 1e3 * p->product_us);
    /* So is that of attention over what a row sees. */
    const load *near = &best[ATTENTION_WINDOW], *far = &best[ATTENTION];
    double position_ns = at_least((far->op_ns - near->op_ns) / (CONTEXT - WINDOW), far->op_ns / (2 * CONTEXT));
    p->attention_us = 1e-3 * at_least(near->op_ns - position_ns * WINDOW, op_ns);
    p->attention_gflops = 4.0 * HEADS * HEAD / position_ns; /* a multiply-add for a key and a value */
}

int gm_backend_probe(gm_backend *be, const gemma_cancel *cancel, gemma_probe *p, gemma_error *error)
{
    if (!be->fns->read_rate) return gm_fail(error, GEMMA_E_UNSUPPORTED, "this device cannot be measured");
    bench *b = gm_new(be->mem, sizeof *b, GEMMA_TAG_OBJECT);
    if (!b) return gm_fail_nomem(error, "the probe", sizeof *b);
    b->be = be;
    b->cancel = cancel;
    b->error = error;
    load best[N_LOADS] = { 0 };
    uint64_t submit_ns = 0;
    int rc = create_weights(b);
    if (!rc) rc = create_pages(b);
    if (!rc) rc = create_block(b);
    if (!rc) rc = stopped(b);
    if (!rc) rc = be->fns->read_rate(be, b->weights, cancel, &p->read_gb_s, error);
    if (!rc) rc = measure_all(b, best, &submit_ns);
    if (!rc) conclude(best, submit_ns, p);
    gm_buffer_destroy(b->staging);
    gm_buffer_destroy(b->pages);
    gm_buffer_destroy(b->weights);
    gm_delete(be->mem, b);
    return rc;
}
