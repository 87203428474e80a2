#include "plan/layout.h"

#include <limits.h>

#define SHARED_BLOCK ((uint64_t)1 << 30) /* tensors, and layers' KV, share blocks up to this: devices limit a buffer */

enum { FURTHER_BLOCKS = 4 }; /* scratch, staging, transfer, small weights that other devices have too */

typedef struct layout {
    gm_plan *plan;
    const gm_gguf *gguf;
    gemma_error *error;
    uint8_t *share; /* [n_weights] the device that works on it; of small ones, where they would lie alone */
    uint8_t *homes; /* [n_weights] GEMMA_HOME_…, on that device */
} layout;

static uint32_t add_block(layout *y, uint32_t share, uint32_t tag)
{
    gm_plan *p = y->plan;
    p->blocks[p->n_blocks] =
        (gm_block){ .share = share, .heap = gm_backend_heap_of(p->devices.backends[share], tag), .tag = tag };
    return p->n_blocks++;
}

/* The bill's line of a heap; the first time it is asked for, a new one. */
static gm_bill_line *line_of(gm_plan *p, uint32_t share, uint32_t heap)
{
    const gm_backend *be = p->devices.backends[share];
    uint32_t i = 0;
    while (i < p->n_lines && (p->lines[i].share != share || p->lines[i].heap != heap)) i++;
    if (i < p->n_lines) return &p->lines[i];
    gm_bill_line *line = &p->lines[p->n_lines++];
    gm_heap_state state = { 0 };
    gemma_device_info device = { .size = sizeof device };
    be->fns->heap(be, heap, &state);
    be->fns->describe(be, &device);
    line->share = share;
    line->heap = heap;
    line->pool = state.pool;
    gm_text_format(line->name, sizeof line->name, "%s · %s", device.kind == GEMMA_DEVICE_CPU ? "CPU" : device.name,
                   state.name);
    if (heap == gm_backend_heap_of(be, GEMMA_TAG_WEIGHTS)) line->class_bytes[GEMMA_CLASS_DRIVER] = be->driver_bytes;
    return line;
}

static gm_bill_line *weights_line(gm_plan *p, uint32_t share)
{
    return line_of(p, share, gm_backend_heap_of(p->devices.backends[share], GEMMA_TAG_WEIGHTS));
}

/* Takes bytes at the end of a block and bills them. */
static gm_place take(layout *y, uint32_t block, uint64_t n_bytes, uint32_t bytes_class)
{
    gm_block *b = &y->plan->blocks[block];
    gm_place place = { .block = block, .offset = b->n_bytes };
    n_bytes = gm_align_up(n_bytes, GM_PLACE_ALIGN);
    b->n_bytes += n_bytes;
    gm_bill_line *line = line_of(y->plan, b->share, b->heap);
    line->class_bytes[bytes_class] += n_bytes;
    line->total_bytes += n_bytes;
    return place;
}

/* ---- programs ---- */

static int emit_programs(layout *y)
{
    gm_plan *p = y->plan;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < GM_PROGRAMS && !rc; i++) {
        gm_emit_options options = { .max_rows = p->settings.ubatch, .cut = i == GM_PROGRAM_CUT, .shapes = p->shapes };
        for (int kind = 0; kind < 2; kind++) options.kv_format[kind] = gm_settings_format(p->settings.kv_type[kind]);
        rc = gm_model_emit(p->model, &options, &p->programs[i], y->error);
        if (!rc) gm_layout_hold(p, p->programs[i], p->devices.backends[0]); /* what the hook is told */
    }
    return rc;
}

static int check_accepted(const layout *y)
{
    const gm_plan *p = y->plan;
    const gm_model *m = p->model;
    const char **names = gm_new_array(p->mem, m->n_weights, sizeof *names, GEMMA_TAG_OBJECT);
    if (!names) return gm_fail_nomem(y->error, "tensor names", m->n_weights * sizeof *names);
    for (uint32_t i = 0; i < m->n_weights; i++) names[i] = m->weights[i].tensor->name;
    int rc = GEMMA_OK;
    for (uint32_t s = 0; s < p->devices.n; s++)
        for (uint32_t i = 0; i < GM_PROGRAMS && !rc; i++)
            if (p->shares[s].programs[i])
                rc = gm_backend_accepts(p->shares[s].backend, p->shares[s].programs[i], names, y->error);
    gm_delete(p->mem, names);
    return rc;
}

/* ---- weights ---- */

static bool uses(const gm_share *s, int32_t weight)
{
    for (uint32_t i = 0; i < GM_PROGRAMS; i++)
        for (uint32_t k = 0; s->programs[i] && k < s->programs[i]->n_ops; k++)
            for (size_t j = 0; j < GM_COUNT(s->programs[i]->ops[k].w); j++)
                if (s->programs[i]->ops[k].w[j] == weight) return true;
    return false;
}

static void place_weights(layout *y, uint32_t share)
{
    gm_plan *p = y->plan;
    gm_share *s = &p->shares[share];
    uint32_t block = UINT32_MAX;
    for (uint32_t i = 0; i < p->model->n_weights; i++) {
        const gm_weight *w = &p->model->weights[i];
        uint32_t home = y->share[i] == share ? y->homes[i] : GEMMA_HOME_MEMORY;
        s->weights[i].block = GM_BLOCK_NONE;
        if (!uses(s, (int32_t)i)) continue;
        if (home == GEMMA_HOME_FILE) {
            s->weights[i] = (gm_place){ .block = GM_BLOCK_ROWS };
            s->limits.file_row_bytes = (uint32_t)(gm_plan_held_bytes(p, i) / w->n_out);
            weights_line(p, share)->file_bytes += w->n_bytes;
            continue;
        }
        if (home == GEMMA_HOME_MAPPED) {
            s->weights[i] = (gm_place){ .block = GM_BLOCK_FILE, .offset = w->offset };
            weights_line(p, share)->mapped_bytes += w->n_bytes;
            continue;
        }
        uint64_t n_bytes = gm_plan_held_bytes(p, i);
        if (block == UINT32_MAX || p->blocks[block].n_bytes + n_bytes > SHARED_BLOCK)
            block = add_block(y, share, GEMMA_TAG_WEIGHTS);
        s->weights[i] = take(y, block, n_bytes, w->bytes_class);
    }
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

static uint32_t kv_class(uint32_t kind)
{
    return kind == GM_KV_SLIDING ? GEMMA_CLASS_KV_SLIDING : GEMMA_CLASS_KV_GLOBAL;
}

typedef struct kv_pool { /* of one kind */
    uint32_t n_pages, mark_pages;
} kv_pool;

static kv_pool pool_of(const gm_plan *p, uint32_t kind)
{
    uint32_t window = gm_min_u32(p->model->window, p->settings.ctx);
    if (kind == GM_KV_GLOBAL) return (kv_pool){ p->kv_shape.n_global, 0 };
    return (kv_pool){ p->kv_shape.n_sliding, p->settings.n_marks * gm_kv_mark_pages(window) };
}

/* KV goes with its layer's attention, if the hook does not say otherwise. */
static int share_kv(layout *y)
{
    gm_plan *p = y->plan;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->model->n_kv && !rc; i++) {
        const gm_kv_layer *l = &p->programs[GM_PROGRAM_FULL]->kv[i];
        kv_pool pool = pool_of(p, l->kind);
        for (uint32_t w = 0; w < p->model->n_weights; w++)
            if (p->model->weights[w].layer == (int32_t)l->layer &&
                p->model->weights[w].bytes_class == GEMMA_CLASS_ATTENTION)
                p->kv_share[i] = y->share[w];
        uint64_t n_bytes = 2 * (pool.n_pages - pool.mark_pages) * gm_kv_page_bytes(l);
        rc = gm_layout_ask_kv(p, i, n_bytes, gm_layout_full_read(p, i), &p->kv_share[i], y->error);
    }
    return rc;
}

/* K or V of one layer, in the block of the kind's layers before or a new one. */
static gm_place take_kv(layout *y, uint32_t share, uint32_t *block, uint64_t n_bytes, uint32_t kind)
{
    if (*block == GM_BLOCK_NONE || y->plan->blocks[*block].n_bytes + n_bytes > SHARED_BLOCK)
        *block = add_block(y, share, GEMMA_TAG_KV);
    return take(y, *block, n_bytes, kv_class(kind));
}

static void place_kv_kind(layout *y, uint32_t share, uint32_t kind)
{
    gm_plan *p = y->plan;
    const gm_kv_layer *kv = p->programs[GM_PROGRAM_FULL]->kv;
    kv_pool pool = pool_of(p, kind);
    uint64_t marks_bytes = 0;
    uint32_t block = GM_BLOCK_NONE;
    for (uint32_t i = 0; i < p->model->n_kv && pool.n_pages; i++) {
        if (kv[i].kind != kind || p->kv_share[i] != share) continue;
        uint64_t page_bytes = gm_kv_page_bytes(&kv[i]); /* 64 rows: a multiple of 64 */
        p->kv_k[i] = take_kv(y, share, &block, pool.n_pages * page_bytes, kind);
        p->kv_v[i] = take_kv(y, share, &block, pool.n_pages * page_bytes, kind);
        marks_bytes += 2 * pool.mark_pages * page_bytes;
    }
    if (block == GM_BLOCK_NONE) return;
    gm_bill_line *line = line_of(p, share, p->blocks[block].heap);
    line->class_bytes[kv_class(kind)] -= marks_bytes;
    line->class_bytes[GEMMA_CLASS_MARKS] += marks_bytes;
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

static int place_scratch(layout *y, uint32_t share)
{
    gm_plan *p = y->plan;
    gm_share *s = &p->shares[share];
    uint64_t workspace_bytes = 0;
    for (uint32_t i = 0; i < GM_PROGRAMS; i++) {
        const gm_program *program = s->programs[i];
        if (!program) continue;
        uint64_t peak_bytes, n_work = 4 * (uint64_t)program->n_slots;
        s->slot_offset[i] = gm_new_array(p->mem, program->n_slots, sizeof *s->slot_offset[i], GEMMA_TAG_OBJECT);
        uint32_t *work = gm_new_array(p->mem, n_work, sizeof *work, GEMMA_TAG_OBJECT);
        if (!s->slot_offset[i] || !work) {
            gm_delete(p->mem, work);
            return gm_fail_nomem(y->error, "the slots of a program", n_work * sizeof *work);
        }
        uint64_t slots = gm_plan_slots(program, program->max_rows, s->slot_offset[i], work, &peak_bytes);
        gm_delete(p->mem, work);
        s->workspace_offset = gm_max_u64(s->workspace_offset, slots);
        s->peak_slot_bytes = gm_max_u64(s->peak_slot_bytes, peak_bytes);
        workspace_bytes =
            gm_max_u64(workspace_bytes, s->backend->fns->workspace_bytes(s->backend, program, &s->limits));
    }
    uint64_t n_bytes = s->workspace_offset + workspace_bytes;
    s->scratch = take(y, add_block(y, share, GEMMA_TAG_SCRATCH), n_bytes, GEMMA_CLASS_SCRATCH);
    return gm_layout_ask(p, share, GEMMA_CLASS_SCRATCH, n_bytes, y->error);
}

static int place_staging(layout *y, uint32_t share)
{
    gm_plan *p = y->plan;
    gm_share *s = &p->shares[share];
    uint64_t n_bytes = gm_step_block_layout(&s->limits, NULL, NULL), transfer_bytes = s->backend->transfer_bytes;
    s->staging = take(y, add_block(y, share, GEMMA_TAG_STAGING), n_bytes, GEMMA_CLASS_STAGING);
    s->transfer.block = GM_BLOCK_NONE;
    if (transfer_bytes)
        s->transfer = take(y, add_block(y, share, GEMMA_TAG_STAGING), transfer_bytes, GEMMA_CLASS_STAGING);
    return gm_layout_ask(p, share, GEMMA_CLASS_STAGING, n_bytes + transfer_bytes, y->error);
}

/* ---- the whole ---- */

static int allocate(layout *y)
{
    gm_plan *p = y->plan;
    const gm_model *m = p->model;
    uint64_t n_blocks = 0;
    p->shares = gm_new_array(p->mem, p->devices.n, sizeof *p->shares, GEMMA_TAG_OBJECT);
    if (!p->shares) return gm_fail_nomem(y->error, "a plan's devices", p->devices.n * sizeof *p->shares);
    for (uint32_t i = 0; i < p->devices.n; i++)
        p->shares[i] = (gm_share){ .backend = p->devices.backends[i], .device = p->devices.numbers[i] };
    n_blocks = m->n_weights + 2 * (uint64_t)m->n_kv + (uint64_t)FURTHER_BLOCKS * p->devices.n;
    p->blocks = gm_new_array(p->mem, n_blocks, sizeof *p->blocks, GEMMA_TAG_OBJECT);
    p->shapes = gm_new_array(p->mem, m->n_weights, sizeof *p->shapes, GEMMA_TAG_OBJECT);
    p->kv_k = gm_new_array(p->mem, m->n_kv, sizeof *p->kv_k, GEMMA_TAG_OBJECT);
    p->kv_v = gm_new_array(p->mem, m->n_kv, sizeof *p->kv_v, GEMMA_TAG_OBJECT);
    p->kv_share = gm_new(p->mem, m->n_kv, GEMMA_TAG_OBJECT);
    y->share = gm_new(p->mem, m->n_weights, GEMMA_TAG_OBJECT);
    y->homes = gm_new(p->mem, m->n_weights, GEMMA_TAG_OBJECT);
    if (!p->blocks || !p->shapes || !p->kv_k || !p->kv_v || !p->kv_share || !y->share || !y->homes)
        return gm_fail_nomem(y->error, "a plan's tables", n_blocks * sizeof *p->blocks);
    memcpy(p->shapes, m->shapes, m->n_weights * sizeof *p->shapes);
    return GEMMA_OK;
}

/* Both programs cut by device; the bridge is as wide as the wider of the two needs it. */
static int cut_programs(layout *y)
{
    gm_plan *p = y->plan;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < GM_PROGRAMS && !rc; i++) rc = gm_layout_cut(p, (gm_which)i, y->share, y->error);
    memcpy(p->shapes, p->model->shapes, p->model->n_weights * sizeof *p->shapes);
    for (uint32_t i = 0; i < p->devices.n && !rc; i++) {
        for (uint32_t k = 0; k < GM_PROGRAMS; k++)
            if (p->shares[i].programs[k]) gm_layout_hold(p, p->shares[i].programs[k], p->devices.backends[i]);
        p->shares[i].limits = p->limits;
        p->shares[i].limits.bridge_width =
            gm_max_u32(p->cuts[GM_PROGRAM_FULL].bridge_width, p->cuts[GM_PROGRAM_CUT].bridge_width);
    }
    return rc ? rc : check_accepted(y);
}

static int place_share(layout *y, uint32_t share)
{
    gm_plan *p = y->plan;
    p->shares[share].weights =
        gm_new_array(p->mem, p->model->n_weights, sizeof *p->shares[share].weights, GEMMA_TAG_OBJECT);
    if (!p->shares[share].weights)
        return gm_fail_nomem(y->error, "a device's weights", p->model->n_weights * sizeof *p->shares[share].weights);
    weights_line(p, share);
    place_weights(y, share);
    place_kv_kind(y, share, GM_KV_SLIDING);
    place_kv_kind(y, share, GM_KV_GLOBAL);
    int rc = place_scratch(y, share);
    return rc ? rc : place_staging(y, share);
}

static int ask_marks(gm_plan *p, gemma_error *error)
{
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->n_lines && !rc; i++)
        rc = gm_layout_ask(p, p->lines[i].share, GEMMA_CLASS_MARKS, p->lines[i].class_bytes[GEMMA_CLASS_MARKS], error);
    return rc;
}

static int lay_out(layout *y)
{
    gm_plan *p = y->plan;
    int rc = allocate(y);
    if (!rc) rc = emit_programs(y);
    if (rc) return rc;
    shape_kv(p);
    limit_steps(p);
    rc = gm_layout_homes(p, y->gguf, y->share, y->homes, y->error);
    if (!rc) rc = share_kv(y);
    if (!rc) rc = cut_programs(y);
    for (uint32_t i = 0; i < p->devices.n && !rc; i++)
        if (gm_share_used(&p->shares[i])) rc = place_share(y, i);
    if (!rc) rc = ask_marks(p, y->error);
    if (rc) return rc;
    gm_layout_warn(p);
    gm_plan_weigh(p);
    p->prediction = gm_plan_predict(p, 0);
    return GEMMA_OK;
}

int gm_layout_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, const gm_devices *devices,
                     const gm_settings *settings, gm_plan **out, gemma_error *error)
{
    *out = NULL;
    gm_plan *p = gm_new(mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return gm_fail_nomem(error, "a plan", sizeof *p);
    p->mem = mem;
    p->model = model;
    p->devices = *devices;
    p->settings = *settings;
    layout y = { .plan = p, .gguf = gguf, .error = error };
    int rc = lay_out(&y);
    gm_delete(mem, y.share);
    gm_delete(mem, y.homes);
    if (rc) {
        gm_plan_destroy(p);
        return rc;
    }
    *out = p;
    return GEMMA_OK;
}
