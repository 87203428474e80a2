/* Command buffers for a number of rows. */
#include "backend/vulkan/exec.h"

#define ACCESSES     64                /* remembered since the last barrier */
#define UPDATE_BYTES ((uint64_t)65536) /* most that one vkCmdUpdateBuffer takes */

enum {
    WORK = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
    WRITES = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    ACCESS = WRITES | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT,
};

/* What calls since the last barrier have touched. */
typedef struct touched {
    gm_vk_operand operand;
    uint32_t phase;
} touched;

typedef struct recorder {
    gm_exec *x;
    gm_vk_recording *r;
    VkCommandBuffer c; /* the piece under way */
    uint32_t n_touched, phase;
    uint64_t piece_limit; /* multiplications */
    touched touched[ACCESSES];
} recorder;

static uint32_t shape_of(uint32_t n, uint32_t max_rows)
{
    uint32_t shape = 1;
    if (n == 0) return 0;
    while (shape < n) shape *= 2;
    return gm_min_u32(shape, max_rows);
}

/* ---- barriers ---- */

static void barrier(const gm_vk *vk, VkCommandBuffer c, VkPipelineStageFlags from, VkAccessFlags writes,
                    VkPipelineStageFlags to, VkAccessFlags access)
{
    VkMemoryBarrier b = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = writes, .dstAccessMask = access };
    vk->fn.CmdPipelineBarrier(c, from, to, 0, 1, &b, 0, NULL, 0, NULL);
}

static bool in_conflict(const touched *t, const gm_vk_operand *o, uint32_t phase)
{
    return t->phase != phase && t->operand.buffer == o->buffer && (t->operand.write || o->write) &&
           t->operand.first < o->last && o->first < t->operand.last;
}

/* A barrier where the call reads what was written, or writes what was read or written, since the last one. */
static void order(recorder *w, const gm_vk_call *call, uint32_t phase)
{
    const gm_vk *vk = w->x->vk;
    bool wait = w->n_touched + GM_VK_BINDINGS > ACCESSES;
    for (uint32_t b = 1; b < GM_VK_BINDINGS && !wait; b++)
        for (uint32_t i = 0; i < w->n_touched && !wait; i++)
            wait = call->operands[b].buffer && in_conflict(&w->touched[i], &call->operands[b], phase);
    if (wait) {
        barrier(vk, w->c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
                VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
        w->n_touched = 0;
    }
    for (uint32_t b = 1; b < GM_VK_BINDINGS; b++)
        if (call->operands[b].buffer) w->touched[w->n_touched++] = (touched){ call->operands[b], phase };
}

/* ---- pieces ---- */

static int begin_piece(recorder *w, gemma_error *error)
{
    gm_vk *vk = w->x->vk;
    VkCommandBufferBeginInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    w->c = w->r->pieces[w->r->n_pieces];
    w->r->piece_work[w->r->n_pieces] = 0;
    w->n_touched = 0;
    VkResult r = vk->fn.BeginCommandBuffer(w->c, &info);
    if (r) return gm_vk_check(vk, r, "vkBeginCommandBuffer", error);
    w->r->n_pieces++;
    barrier(vk, w->c, WORK, WRITES, WORK, ACCESS);
    return GEMMA_OK;
}

static int end_piece(recorder *w, gemma_error *error)
{
    gm_vk *vk = w->x->vk;
    barrier(vk, w->c, WORK, WRITES, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return gm_vk_check(vk, vk->fn.EndCommandBuffer(w->c), "vkEndCommandBuffer", error);
}

static void copy_inputs(const recorder *w)
{
    const gm_exec *x = w->x;
    /* Of rows from the file only as many as there are; what comes behind them is copied whole. */
    uint64_t stride = gm_file_row_stride(x->limits.file_row_bytes);
    uint64_t head = x->file_rows_offset + w->r->n_all * stride,
             tail = x->file_rows_offset + x->limits.max_rows * stride;
    uint64_t from = x->staging_offset, to = x->inputs_offset;
    VkBufferCopy copies[2] = { { from, to, head }, { from + tail, to + tail, x->input_bytes - tail } };
    x->vk->fn.CmdCopyBuffer(w->c, x->staging->handle, x->inputs->handle, 2, copies);
}

/* The step block's inputs and the constants, to where kernels read them. */
static void bring_inputs(recorder *w)
{
    const gm_exec *x = w->x;
    const gm_vk *vk = x->vk;
    if (gm_vk_copies_inputs(vk)) copy_inputs(w);
    for (uint64_t at = 0; at < x->work.constants_bytes; at += UPDATE_BYTES) {
        uint64_t n = gm_min_u64(UPDATE_BYTES, x->work.constants_bytes - at);
        vk->fn.CmdUpdateBuffer(w->c, x->scratch->handle, x->workspace_offset + x->work.turns + at, n,
                               x->constants + at);
    }
    barrier(vk, w->c, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
            VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
}

/* ---- calls ---- */

/* The columns' variant: index of {1, 2, 4, 8, more}. */
static uint32_t variant_of(uint32_t n_rows)
{
    uint32_t v = 0;
    if (n_rows > GM_VK_FEW_ROWS) return 4;
    while (1u << v < n_rows) v++;
    return v;
}

typedef struct grid {
    uint32_t x, y, z, variant;
} grid;

/* x items of so many a workgroup, those beyond the device's limit in y. */
static void fold(const gm_vk *vk, uint32_t per_group, grid *g)
{
    g->x = (uint32_t)gm_div_up(g->x, per_group);
    g->y = (uint32_t)gm_max_u64(1, gm_div_up(g->x, vk->caps.max_groups_x));
    g->x = (uint32_t)gm_div_up(g->x, g->y);
}

/* False: there is nothing to do. */
static bool grid_of(const gm_vk *vk, const gm_vk_call *call, uint32_t n_rows, uint32_t push[GM_VK_PUSH_WORDS], grid *g)
{
    *g = (grid){ call->items, n_rows, 1, 0 };
    uint32_t splits = call->splits_word ? gm_vk_attention_splits(vk, n_rows, call->groups) : 1;
    if (call->splits_word) push[call->splits_word] = splits;
    switch (call->grid) {
    case GM_VK_GRID_ROWS: *g = (grid){ n_rows, 1, 1, 0 }; break;
    case GM_VK_GRID_SPLITS:
        g->variant = splits == 1 && n_rows > GM_VK_FEW_ROWS;
        g->y = splits;
        g->z = (uint32_t)gm_div_up(n_rows, g->variant ? call->many_rows : 1);
        break;
    case GM_VK_GRID_MERGE: return splits > 1;
    case GM_VK_GRID_MATRIX:
        g->variant = variant_of(n_rows);
        fold(vk, g->variant == 4 ? 64 : gm_vk_matvec_rows(&vk->caps, 1u << g->variant, call->spec[3]), g);
        g->z = g->variant == 4 ? (uint32_t)gm_div_up(n_rows, 64) : 1;
        break;
    case GM_VK_GRID_EXPERTS:
        fold(vk, call->spec[1], g);
        g->z = n_rows * call->groups;
        break;
    default: break;
    }
    return g->x && g->y && g->z;
}

static void record_call(recorder *w, const gm_vk_call *call, uint32_t n_rows, uint32_t first, uint32_t phase)
{
    const gm_vk *vk = w->x->vk;
    uint32_t push[GM_VK_PUSH_WORDS];
    grid g;
    memcpy(push, call->push, sizeof push);
    if (!grid_of(vk, call, n_rows, push, &g)) return;
    if (call->first_word) push[call->first_word] = first;
    push[2] += first * call->row_words;
    order(w, call, phase);
    vk->fn.CmdBindPipeline(w->c, VK_PIPELINE_BIND_POINT_COMPUTE, call->pipelines[g.variant]);
    vk->fn.CmdBindDescriptorSets(w->c, VK_PIPELINE_BIND_POINT_COMPUTE, vk->layout, 0, 1, &call->set, 0, NULL);
    vk->fn.CmdPushConstants(w->c, vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof push, push);
    vk->fn.CmdDispatch(w->c, g.x, g.y, g.z);
    w->r->n_dispatches++;
    w->r->piece_work[w->r->n_pieces - 1] += call->work * n_rows;
}

/* The calls from `at` on that work on groups of wanted rows, once for each group. */
static uint32_t record_groups(recorder *w, uint32_t at)
{
    const gm_exec *x = w->x;
    uint32_t last = at;
    while (last < x->n_calls && x->calls[last].domain == GM_VK_GROUP) last++;
    for (uint32_t first = 0; first < w->r->n_wanted; first += GM_VK_FEW_ROWS) {
        uint32_t n = gm_min_u32(GM_VK_FEW_ROWS, w->r->n_wanted - first);
        for (uint32_t i = at; i < last; i++) {
            if (i == at || x->calls[i].phase != x->calls[i - 1].phase) w->phase++;
            record_call(w, &x->calls[i], n, first, w->phase);
        }
    }
    return last;
}

/* Before work that may wait: a new piece where the one under way has enough. */
static int cut(recorder *w, gemma_error *error)
{
    const gm_vk_recording *r = w->r;
    if (r->piece_work[r->n_pieces - 1] <= w->piece_limit || r->n_pieces == GM_VK_PIECES) return GEMMA_OK;
    int rc = end_piece(w, error);
    return rc ? rc : begin_piece(w, error);
}

/* Every row reads its own experts, so that a dispatch of all rows may take long. */
static int record_experts(recorder *w, const gm_vk_call *call, uint32_t n_rows, gemma_error *error)
{
    uint64_t most = gm_min_u64(w->piece_limit / gm_max_u64(1, call->work), w->x->vk->caps.max_groups_yz / call->groups);
    uint32_t step = (uint32_t)gm_max_u64(1, gm_min_u64(most, n_rows));
    int rc = GEMMA_OK;
    for (uint32_t first = 0; first < n_rows && !rc; first += step) {
        if (first) rc = cut(w, error);
        if (!rc) record_call(w, call, gm_min_u32(step, n_rows - first), first, w->phase);
    }
    return rc;
}

static int record_calls(recorder *w, gemma_error *error)
{
    const gm_exec *x = w->x;
    gm_vk_recording *r = w->r;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < x->n_calls && !rc;) {
        const gm_vk_call *call = &x->calls[i];
        uint32_t n_rows = call->domain == GM_VK_ALL ? r->n_all : r->n_wanted;
        bool new_phase = i == 0 || call->phase != x->calls[i - 1].phase;
        if (new_phase) rc = cut(w, error);
        if (rc) break;
        if (call->domain == GM_VK_GROUP) {
            i = record_groups(w, i);
            continue;
        }
        w->phase += new_phase;
        if (call->grid == GM_VK_GRID_EXPERTS)
            rc = record_experts(w, call, n_rows, error);
        else if (!call->for_hidden || r->hidden)
            record_call(w, call, n_rows, 0, w->phase);
        i++;
    }
    return rc;
}

static int record(gm_exec *x, gm_vk_recording *r, gemma_error *error)
{
    recorder w = { .x = x, .r = r };
    uint64_t total = 0, ms = r->n_all > GM_VK_FEW_ROWS ? 50 : 250;
    for (uint32_t i = 0; i < x->n_calls; i++)
        total += x->calls[i].work * (x->calls[i].domain == GM_VK_ALL ? r->n_all : r->n_wanted);
    /* Submits of so many milliseconds, but for the last of too many. */
    w.piece_limit = gm_max_u64(x->vk->work_per_ms * ms, total / (GM_VK_PIECES - 1));
    r->n_pieces = r->n_dispatches = 0;
    int rc = begin_piece(&w, error);
    if (rc) return rc;
    bring_inputs(&w);
    rc = record_calls(&w, error);
    return rc ? rc : end_piece(&w, error);
}

int gm_vk_recording_get(gm_exec *x, uint32_t n_rows, uint32_t n_wanted, bool hidden, gm_vk_recording **out,
                        gemma_error *error)
{
    uint32_t n_all = shape_of(n_rows, x->max_rows);
    gm_vk_recording *oldest = &x->recordings[0];
    n_wanted = shape_of(n_wanted, x->max_rows);
    x->n_runs++;
    for (uint32_t i = 0; i < GM_VK_SHAPES; i++) {
        gm_vk_recording *r = &x->recordings[i];
        if (r->used < oldest->used) oldest = r;
        if (!r->used || r->n_all != n_all || r->n_wanted != n_wanted || r->hidden != hidden) continue;
        r->used = x->n_runs;
        *out = r;
        return GEMMA_OK;
    }
    oldest->n_all = n_all;
    oldest->n_wanted = n_wanted;
    oldest->hidden = hidden;
    oldest->has_run = false;
    oldest->used = 0;
    gm_mutex_lock(x->vk->lock); /* of the command pool */
    int rc = record(x, oldest, error);
    gm_mutex_unlock(x->vk->lock);
    if (!rc) oldest->used = x->n_runs;
    *out = oldest;
    return rc;
}

/* ---- page copies ---- */

static void copy_page(gm_exec *x, const gm_vk_buffer *pages, uint64_t offset, uint64_t page_bytes,
                      const gm_page_copy *copy)
{
    VkBufferCopy region = { offset + copy->from * page_bytes, offset + copy->to * page_bytes, page_bytes };
    x->vk->fn.CmdCopyBuffer(x->copies, pages->handle, pages->handle, 1, &region);
}

static int record_copies(gm_exec *x, gemma_error *error)
{
    gm_vk *vk = x->vk;
    VkCommandBufferBeginInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };
    VkResult r = vk->fn.BeginCommandBuffer(x->copies, &info);
    if (r) return gm_vk_check(vk, r, "vkBeginCommandBuffer", error);
    for (uint32_t i = 0; i < x->block->n_copies; i++) {
        const gm_page_copy *copy = &x->block->copies[i];
        barrier(vk, x->copies, WORK, WRITES, WORK, ACCESS);
        for (uint32_t l = 0; l < x->n_kv; l++) {
            const gm_vk_kv *kv = &x->kv[l];
            if (!kv->k || kv->kind != copy->kind || copy->from == copy->to) continue;
            copy_page(x, kv->k, kv->k_offset, kv->page_bytes, copy);
            copy_page(x, kv->v, kv->v_offset, kv->page_bytes, copy);
        }
    }
    return gm_vk_check(vk, vk->fn.EndCommandBuffer(x->copies), "vkEndCommandBuffer", error);
}

int gm_vk_record_copies(gm_exec *x, gemma_error *error)
{
    gm_mutex_lock(x->vk->lock);
    int rc = record_copies(x, error);
    gm_mutex_unlock(x->vk->lock);
    return rc;
}
