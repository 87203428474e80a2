#include "plan/layout.h"

#include <limits.h>

#define WEIGHT_BLOCK ((uint64_t)1 << 30) /* tensors share blocks up to this */

enum { FURTHER_BLOCKS = 5 }; /* KV of two kinds, scratch, staging, transfer */

typedef struct layout {
    gm_plan *plan;
    const gm_gguf *gguf;
    gemma_error *error;
    uint8_t *homes; /* [n_weights] gm_home */
} layout;

static uint32_t add_block(layout *y, uint32_t tag)
{
    gm_plan *p = y->plan;
    p->blocks[p->n_blocks] = (gm_block){ .heap = gm_backend_heap_of(p->backend, tag), .tag = tag };
    return p->n_blocks++;
}

/* The bill's line of a heap; the first time it is asked for, a new one. The heap of weights has the first. */
static gm_bill_line *line_of(gm_plan *p, uint32_t heap)
{
    uint32_t i = 0;
    while (i < p->n_lines && p->lines[i].heap != heap) i++;
    if (i < p->n_lines) return &p->lines[i];
    gm_bill_line *line = &p->lines[p->n_lines++];
    gm_heap_state state = { 0 };
    gemma_device_info device = { .size = sizeof device };
    p->backend->fns->heap(p->backend, heap, &state);
    p->backend->fns->describe(p->backend, &device);
    line->heap = heap;
    line->pool = state.pool;
    gm_text_format(line->name, sizeof line->name, "%s · %s", device.kind == GEMMA_DEVICE_CPU ? "CPU" : device.name,
                   state.name);
    return line;
}

/* Takes bytes at the end of a block and bills them. */
static gm_place take(layout *y, uint32_t block, uint64_t n_bytes, uint32_t bytes_class)
{
    gm_block *b = &y->plan->blocks[block];
    gm_place place = { .block = block, .offset = b->n_bytes };
    n_bytes = gm_align_up(n_bytes, GM_PLACE_ALIGN);
    b->n_bytes += n_bytes;
    gm_bill_line *line = line_of(y->plan, b->heap);
    line->class_bytes[bytes_class] += n_bytes;
    line->total_bytes += n_bytes;
    return place;
}

/* ---- programs ---- */

static int emit_programs(layout *y)
{
    gm_plan *p = y->plan;
    const gm_model *m = p->model;
    const gm_settings *s = &p->settings;
    const char **names = gm_new_array(p->mem, m->n_weights, sizeof *names, GEMMA_TAG_OBJECT);
    if (!names) return gm_fail_nomem(y->error, "tensor names", m->n_weights * sizeof *names);
    for (uint32_t i = 0; i < m->n_weights; i++) names[i] = m->weights[i].tensor->name;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < GM_PROGRAMS && !rc; i++) {
        gm_emit_options options = { .max_rows = s->ubatch, .cut = i == GM_PROGRAM_CUT, .shapes = p->shapes };
        for (int kind = 0; kind < 2; kind++) options.kv_format[kind] = gm_settings_format(s->kv_type[kind]);
        rc = gm_model_emit(m, &options, &p->programs[i], y->error);
        if (rc) break;
        gm_layout_hold(p, p->programs[i]);
        rc = gm_backend_accepts(p->backend, p->programs[i], names, y->error);
    }
    gm_delete(p->mem, names);
    return rc;
}

/* ---- weights ---- */

static int place_weights(layout *y)
{
    gm_plan *p = y->plan;
    uint32_t block = UINT32_MAX;
    int rc = gm_layout_homes(p, y->gguf, y->homes, y->error);
    for (uint32_t i = 0; i < p->model->n_weights && !rc; i++) {
        const gm_weight *w = &p->model->weights[i];
        if (y->homes[i] == GM_HOME_ROWS) {
            p->weights[i] = (gm_place){ .block = GM_BLOCK_ROWS };
            p->limits.file_row_bytes = (uint32_t)(gm_plan_held_bytes(p, i) / w->n_out);
            p->lines[0].file_bytes += w->n_bytes;
            continue;
        }
        if (y->homes[i] == GM_HOME_MAPPED) {
            p->weights[i] = (gm_place){ .block = GM_BLOCK_FILE, .offset = w->offset };
            p->lines[0].mapped_bytes += w->n_bytes;
            continue;
        }
        uint64_t n_bytes = gm_plan_held_bytes(p, i);
        if (block == UINT32_MAX || p->blocks[block].n_bytes + n_bytes > WEIGHT_BLOCK)
            block = add_block(y, GEMMA_TAG_WEIGHTS);
        p->weights[i] = take(y, block, n_bytes, w->bytes_class);
    }
    if (!rc) gm_layout_warn(p);
    return rc;
}

/* ---- KV ---- */

static void shape_kv(gm_plan *p)
{
    const gm_settings *s = &p->settings;
    bool has[2] = { false, false };
    for (uint32_t i = 0; i < p->model->n_kv; i++) has[p->model->kv[i].kind] = true;
    /* No window is longer than a session. */
    uint32_t window = gm_min_u32(p->model->window, s->ctx);
    p->kv_shape = (gm_kv_shape){ .ctx = s->ctx,
                                 .window = p->model->window,
                                 .slack = s->slack,
                                 .ubatch = s->ubatch,
                                 .n_sessions = s->n_sessions,
                                 .n_marks = s->n_marks };
    if (has[GM_KV_GLOBAL]) p->kv_shape.n_global = gm_kv_global_pages(s->kv_tokens);
    if (has[GM_KV_SLIDING])
        p->kv_shape.n_sliding =
            gm_kv_sliding_pages(window, s->slack, s->ubatch, s->n_sessions) + s->n_marks * gm_kv_mark_pages(window);
}

/* K and V that one token more reads in a layer when the context is full. */
static uint64_t full_read_bytes(const gm_plan *p, const gm_kv_layer *kv)
{
    uint32_t tokens = p->settings.ctx;
    if (kv->kind == GM_KV_SLIDING) tokens = gm_min_u32(tokens, p->model->window);
    return 2 * (uint64_t)tokens * kv->n_kv * gm_row_bytes(kv->format, kv->head);
}

static int place_kv_kind(layout *y, uint32_t kind)
{
    gm_plan *p = y->plan;
    const gm_kv_layer *kv = p->programs[GM_PROGRAM_FULL]->kv;
    uint32_t n_pages = kind == GM_KV_SLIDING ? p->kv_shape.n_sliding : p->kv_shape.n_global;
    uint32_t n_marks = kind == GM_KV_SLIDING ? p->settings.n_marks : 0;
    uint32_t mark_pages = n_marks * gm_kv_mark_pages(gm_min_u32(p->model->window, p->settings.ctx));
    uint32_t bytes_class = kind == GM_KV_SLIDING ? GEMMA_CLASS_KV_SLIDING : GEMMA_CLASS_KV_GLOBAL;
    uint64_t marks_bytes = 0;
    if (n_pages == 0) return GEMMA_OK;
    uint32_t block = add_block(y, GEMMA_TAG_KV);
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->model->n_kv && !rc; i++) {
        if (kv[i].kind != kind) continue;
        uint64_t page_bytes = gm_kv_page_bytes(&kv[i]); /* 64 rows: a multiple of 64 */
        p->kv_k[i] = take(y, block, n_pages * page_bytes, bytes_class);
        p->kv_v[i] = take(y, block, n_pages * page_bytes, bytes_class);
        marks_bytes += 2 * mark_pages * page_bytes;
        rc = gm_layout_ask(p, bytes_class, (int32_t)kv[i].layer, 2 * (n_pages - mark_pages) * page_bytes,
                           full_read_bytes(p, &kv[i]), y->error);
    }
    gm_bill_line *line = line_of(p, p->blocks[block].heap);
    line->class_bytes[bytes_class] -= marks_bytes;
    line->class_bytes[GEMMA_CLASS_MARKS] += marks_bytes;
    return rc ? rc : gm_layout_ask(p, GEMMA_CLASS_MARKS, -1, marks_bytes, 0, y->error);
}

/* ---- scratch and staging ---- */

static void limit_steps(gm_plan *p)
{
    const gm_settings *s = &p->settings;
    p->limits = (gm_step_limits){ .max_rows = s->ubatch,
                                  .n_tables = s->n_sessions,
                                  .global_pages = p->kv_shape.n_global ? gm_kv_table_global(&p->kv_shape) : 0,
                                  .sliding_ring = p->kv_shape.n_sliding ? gm_kv_table_ring(&p->kv_shape) : 0,
                                  .result_rows = s->logit_rows,
                                  .n_vocab = p->model->n_vocab,
                                  .n_embd = p->model->n_embd,
                                  .max_copies = 2 * s->n_sessions };
}

static int place_scratch(layout *y)
{
    gm_plan *p = y->plan;
    uint64_t workspace_bytes = 0;
    for (uint32_t i = 0; i < GM_PROGRAMS; i++) {
        const gm_program *program = p->programs[i];
        uint64_t peak_bytes, n_work = 4 * (uint64_t)program->n_slots;
        p->slot_offset[i] = gm_new_array(p->mem, program->n_slots, sizeof *p->slot_offset[i], GEMMA_TAG_OBJECT);
        uint32_t *work = gm_new_array(p->mem, n_work, sizeof *work, GEMMA_TAG_OBJECT);
        if (!p->slot_offset[i] || !work) {
            gm_delete(p->mem, work);
            return gm_fail_nomem(y->error, "the slots of a program", n_work * sizeof *work);
        }
        uint64_t slots = gm_plan_slots(program, program->max_rows, p->slot_offset[i], work, &peak_bytes);
        gm_delete(p->mem, work);
        p->workspace_offset = gm_max_u64(p->workspace_offset, slots);
        p->peak_slot_bytes = gm_max_u64(p->peak_slot_bytes, peak_bytes);
        workspace_bytes =
            gm_max_u64(workspace_bytes, p->backend->fns->workspace_bytes(p->backend, program, &p->limits));
    }
    uint64_t n_bytes = p->workspace_offset + workspace_bytes;
    p->scratch = take(y, add_block(y, GEMMA_TAG_SCRATCH), n_bytes, GEMMA_CLASS_SCRATCH);
    return gm_layout_ask(p, GEMMA_CLASS_SCRATCH, -1, n_bytes, 0, y->error);
}

static int place_staging(layout *y)
{
    gm_plan *p = y->plan;
    uint64_t n_bytes = gm_step_block_layout(&p->limits, NULL, NULL);
    p->staging = take(y, add_block(y, GEMMA_TAG_STAGING), n_bytes, GEMMA_CLASS_STAGING);
    p->transfer.block = GM_BLOCK_NONE;
    if (p->backend->transfer_bytes)
        p->transfer = take(y, add_block(y, GEMMA_TAG_STAGING), p->backend->transfer_bytes, GEMMA_CLASS_STAGING);
    return gm_layout_ask(p, GEMMA_CLASS_STAGING, -1, n_bytes + p->backend->transfer_bytes, 0, y->error);
}

/* ---- the bill ---- */

static void predict(gm_plan *p)
{
    gemma_prediction *t = &p->prediction;
    const gm_model *m = p->model;
    *t = (gemma_prediction){ .size = sizeof *t, .measured = p->settings.has_probe };
    for (uint32_t i = 0; i < m->n_weights; i++) t->bytes_per_token += gm_plan_read_bytes(p, i);
    for (uint32_t i = 0; i < m->n_layers; i++)
        t->kv_bytes_full += full_read_bytes(p, &p->programs[GM_PROGRAM_FULL]->kv[m->layers[i].kv]);
    if (!p->settings.has_probe) return;
    double bytes_s = p->settings.probe.read_gb_s * 1e9;
    t->decode_tok_s = bytes_s / (double)t->bytes_per_token;
    t->decode_full_tok_s = bytes_s / (double)(t->bytes_per_token + t->kv_bytes_full);
}

static int lay_out(layout *y)
{
    gm_plan *p = y->plan;
    const gm_model *m = p->model;
    p->blocks = gm_new_array(p->mem, (uint64_t)m->n_weights + FURTHER_BLOCKS, sizeof *p->blocks, GEMMA_TAG_OBJECT);
    p->weights = gm_new_array(p->mem, m->n_weights, sizeof *p->weights, GEMMA_TAG_OBJECT);
    p->shapes = gm_new_array(p->mem, m->n_weights, sizeof *p->shapes, GEMMA_TAG_OBJECT);
    p->kv_k = gm_new_array(p->mem, m->n_kv, sizeof *p->kv_k, GEMMA_TAG_OBJECT);
    p->kv_v = gm_new_array(p->mem, m->n_kv, sizeof *p->kv_v, GEMMA_TAG_OBJECT);
    y->homes = gm_new(p->mem, m->n_weights, GEMMA_TAG_OBJECT);
    if (!p->blocks || !p->weights || !p->shapes || !p->kv_k || !p->kv_v || !y->homes)
        return gm_fail_nomem(y->error, "a plan's tables", (uint64_t)m->n_weights * sizeof *p->blocks);
    memcpy(p->shapes, m->shapes, m->n_weights * sizeof *p->shapes);
    line_of(p, gm_backend_heap_of(p->backend, GEMMA_TAG_WEIGHTS))->class_bytes[GEMMA_CLASS_DRIVER] =
        p->backend->driver_bytes;
    int rc = emit_programs(y);
    if (rc) return rc;
    shape_kv(p);
    limit_steps(p);
    rc = place_weights(y);
    if (!rc) rc = place_kv_kind(y, GM_KV_SLIDING);
    if (!rc) rc = place_kv_kind(y, GM_KV_GLOBAL);
    if (!rc) rc = place_scratch(y);
    if (!rc) rc = place_staging(y);
    if (rc) return rc;
    p->fits = true;
    for (uint32_t i = 0; i < p->n_lines; i++) {
        gm_bill_line *line = &p->lines[i];
        line->budget_bytes = gm_plan_budget(p->backend, line->heap, &p->settings);
        if (line->total_bytes > line->budget_bytes) p->fits = false;
    }
    predict(p);
    return GEMMA_OK;
}

int gm_layout_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, gm_backend *backend,
                     const gm_settings *settings, gm_plan **out, gemma_error *error)
{
    *out = NULL;
    gm_plan *p = gm_new(mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return gm_fail_nomem(error, "a plan", sizeof *p);
    p->mem = mem;
    p->model = model;
    p->backend = backend;
    p->settings = *settings;
    layout y = { .plan = p, .gguf = gguf, .error = error };
    int rc = lay_out(&y);
    gm_delete(mem, y.homes);
    if (rc) {
        gm_plan_destroy(p);
        return rc;
    }
    *out = p;
    return GEMMA_OK;
}
