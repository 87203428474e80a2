/* Steps of the dummy device: no arithmetic of a model, but the same traffic over page tables and results. */
#include "backend/dummy/device.h"

#include <math.h>

struct gm_exec {
    gm_dummy *device;
    gm_program program;   /* a copy: what it points to outlives this */
    gm_span *kv_k, *kv_v; /* [n_kv] each, behind this struct */
    gm_step_block *block;
    gm_step_limits limits;
    uint32_t n_vocab;
    int result; /* what wait returns */
};

int32_t gm_dummy_best(int32_t token, uint32_t n_vocab) { return (int32_t)(((uint64_t)token * 7 + 1) % n_vocab); }

float gm_dummy_logit(int32_t token, int32_t id, uint32_t n_vocab)
{
    uint32_t behind = ((uint32_t)id + n_vocab - (uint32_t)gm_dummy_best(token, n_vocab)) % n_vocab;
    return 10 - 0.25f * (float)behind;
}

uint64_t gm_dummy_history(const int32_t *tokens, size_t n)
{
    uint64_t sum = 0;
    for (size_t p = 0; p < n; p++) sum += (uint64_t)tokens[p] * (p + 1);
    return sum;
}

int gm_dummy_compile(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error)
{
    gm_dummy *d = gm_dummy_of(be);
    const gm_program *p = desc->program;
    int rc = gm_dummy_attempt(d, (gm_dummy_entry){ .call = GM_DUMMY_COMPILE }, error);
    if (rc) return rc;
    uint64_t n_bytes = sizeof(gm_exec) + 2 * (uint64_t)p->n_kv * sizeof(gm_span);
    gm_exec *x = gm_new(be->mem, n_bytes, GEMMA_TAG_OBJECT);
    if (!x) return gm_fail_nomem(error, "a program of the dummy device", n_bytes);
    *x = (gm_exec){ .device = d, .program = *p, .block = desc->block, .limits = desc->limits };
    x->kv_k = (gm_span *)(x + 1);
    x->kv_v = x->kv_k + p->n_kv;
    if (p->n_kv) {
        memcpy(x->kv_k, desc->kv_k, p->n_kv * sizeof *x->kv_k);
        memcpy(x->kv_v, desc->kv_v, p->n_kv * sizeof *x->kv_v);
    }
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == GM_OP_HEAD) x->n_vocab = p->ops[i].n_vocab;
    if (!x->n_vocab) x->n_vocab = desc->limits.n_vocab;
    *out = x;
    return GEMMA_OK;
}

void gm_dummy_exec_destroy(gm_exec *x)
{
    if (!x) return;
    gm_dummy_record(x->device, (gm_dummy_entry){ .call = GM_DUMMY_EXEC_DESTROY });
    gm_delete(x->device->base.mem, x);
}

static char *page(const gm_exec *x, const gm_span *span, uint32_t kv, uint32_t number)
{
    return (char *)span->buffer->host + span->offset + number * gm_kv_page_bytes(&x->program.kv[kv]);
}

static void copy_pages(const gm_exec *x)
{
    for (uint32_t c = 0; c < x->block->n_copies; c++) {
        const gm_page_copy *copy = &x->block->copies[c];
        for (uint32_t i = 0; i < x->program.n_kv; i++) {
            const gm_kv_layer *kv = &x->program.kv[i];
            if (kv->kind != copy->kind || !x->kv_k[i].buffer) continue;
            memcpy(page(x, &x->kv_k[i], i, copy->to), page(x, &x->kv_k[i], i, copy->from), gm_kv_page_bytes(kv));
            memcpy(page(x, &x->kv_v[i], i, copy->to), page(x, &x->kv_v[i], i, copy->from), gm_kv_page_bytes(kv));
        }
    }
}

/* The first four bytes of a position's line of K, as the row's page table places it. */
static char *line(const gm_exec *x, uint32_t kv, uint32_t row, uint32_t position)
{
    const gm_kv_layer *l = &x->program.kv[kv];
    const uint32_t *table = x->block->tables + (uint64_t)x->block->table[row] * gm_table_stride(&x->limits);
    uint32_t at = position / GM_PAGE;
    uint32_t number = l->kind == GM_KV_GLOBAL ? table[at] : table[x->limits.global_pages + at % x->limits.sliding_ring];
    return page(x, &x->kv_k[kv], kv, number) + position % GM_PAGE * gm_row_bytes(l->format, l->head);
}

static void write_tokens(const gm_exec *x)
{
    const gm_step_block *b = x->block;
    for (uint32_t r = 0; r < b->n_rows; r++)
        for (uint32_t i = 0; i < x->program.n_kv; i++)
            if (x->kv_k[i].buffer) memcpy(line(x, i, r, b->position[r]), &b->token[r], 4);
}

static uint64_t history(const gm_exec *x, uint32_t row)
{
    uint64_t sum = 0;
    uint32_t kv = 0;
    while (kv < x->program.n_kv && (x->program.kv[kv].kind != GM_KV_GLOBAL || !x->kv_k[kv].buffer)) kv++;
    for (uint32_t p = 0; kv < x->program.n_kv && p <= x->block->position[row]; p++)
        sum += (uint64_t)gm_load_u32(line(x, kv, row, p)) * (p + 1);
    return sum;
}

static void write_results(const gm_exec *x, uint32_t i)
{
    gm_step_block *b = x->block;
    uint32_t want = b->want[i], n_vocab = x->n_vocab;
    int32_t token = b->token[b->wanted[i]], best = gm_dummy_best(token, n_vocab);
    double sum = 0;
    for (uint32_t k = 0; k < n_vocab; k++) sum += exp(-0.25 * k);
    b->log_sum[i] = (float)(10 + log(sum));
    b->n_candidates[i] = want & GEMMA_WANT_CANDIDATES ? gm_min_u32(n_vocab, GM_RESULTS_MAX) : 0;
    for (uint32_t k = 0; k < b->n_candidates[i]; k++) {
        int32_t id = (int32_t)(((uint32_t)best + k) % n_vocab);
        b->candidates[(uint64_t)i * GM_RESULTS_MAX + k] = (gm_candidate){ id, gm_dummy_logit(token, id, n_vocab) };
    }
    if (want & GEMMA_WANT_SCORE) b->score[i] = gm_dummy_logit(token, b->target[i], n_vocab);
    if (want & GEMMA_WANT_LOGITS) {
        float *logits = b->logits + (uint64_t)b->result_row[i] * x->limits.n_vocab;
        for (uint32_t id = 0; id < n_vocab; id++) logits[id] = gm_dummy_logit(token, (int32_t)id, n_vocab);
    }
    if (want & GEMMA_WANT_HIDDEN) {
        float *hidden = b->hidden + (uint64_t)b->result_row[i] * x->limits.n_embd;
        memset(hidden, 0, x->limits.n_embd * sizeof *hidden);
        hidden[0] = (float)token;
        if (x->limits.n_embd > 1) hidden[1] = (float)(history(x, b->wanted[i]) % 65536);
    }
}

int gm_dummy_submit(gm_exec *x, const gemma_cancel *cancel, gemma_error *error)
{
    const gm_step_block *b = x->block;
    int rc = gm_step_block_check(b, &x->limits, error);
    if (rc) return rc;
    x->result = gm_dummy_record(x->device, (gm_dummy_entry){ .call = GM_DUMMY_SUBMIT,
                                                             .n_rows = b->n_rows,
                                                             .n_wanted = b->n_wanted,
                                                             .n_copies = b->n_copies });
    copy_pages(x);
    if (!x->result && cancel && atomic_load(&cancel->raised)) x->result = GEMMA_E_CANCELLED;
    if (x->result) return GEMMA_OK;
    write_tokens(x);
    for (uint32_t i = 0; i < b->n_wanted; i++) write_results(x, i);
    return GEMMA_OK;
}

int gm_dummy_wait(gm_exec *x, uint64_t timeout_ns, gemma_error *error)
{
    if (x->device->delay && timeout_ns != UINT64_MAX) {
        x->device->delay--;
        return GEMMA_E_TIMEOUT;
    }
    int rc = gm_dummy_attempt(x->device, (gm_dummy_entry){ .call = GM_DUMMY_WAIT }, error);
    if (rc) return rc;
    if (x->result == GEMMA_E_CANCELLED) return gm_fail(error, x->result, "the step was cancelled");
    if (x->result) return gm_fail(error, x->result, "dummy device: submit was told to fail");
    return GEMMA_OK;
}

void gm_dummy_counts(const gm_exec *x, uint32_t *n_dispatches, uint32_t *n_submits)
{
    *n_dispatches = x->program.n_ops;
    *n_submits = 1;
}
