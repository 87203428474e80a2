/* From a program and its places to calls with bindings, pipelines and descriptor sets. */
#include "backend/vulkan/exec.h"

#include <math.h>

/* ---- calls ---- */

static void fail(gm_vk_compiler *c, int rc)
{
    if (!c->rc) c->rc = rc;
}

gm_vk_call *gm_vk_add(gm_vk_compiler *c, const char *kernel, const gm_format *format, gm_vk_domain domain,
                      uint32_t group)
{
    gm_exec *x = c->x;
    if (x->n_calls == x->cap_calls) {
        uint32_t cap = x->cap_calls ? 2 * x->cap_calls : 128;
        gm_vk_call *more = gm_grow(x->vk->base.mem, x->calls, cap * sizeof *more, GEMMA_TAG_OBJECT);
        if (!more) {
            if (!c->rc) c->rc = gm_fail_nomem(c->error, "a compiled program", cap * sizeof *more);
            return &c->spare;
        }
        x->calls = more;
        x->cap_calls = cap;
    }
    gm_vk_call *call = &x->calls[x->n_calls++];
    *call = (gm_vk_call){ .module = gm_vk_kernel(kernel, format), .domain = domain, .phase = c->phase };
    if (!call->module && !c->rc) c->rc = gm_fail(c->error, GEMMA_E_INTERNAL, "the kernel %s is not there", kernel);
    call->spec[0] = group;
    gm_vk_bind(c, call, 0, x->inputs, x->inputs_offset, x->input_bytes, false);
    call->push[0] = 0; /* it is in every index of the step copy already */
    call->push[GM_VK_BINDINGS] = c->at.counts + (domain == GM_VK_ALL ? 0 : 1);
    return call;
}

void gm_vk_bind(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, const gm_vk_buffer *buffer, uint64_t offset,
                uint64_t n_bytes, bool write)
{
    const gm_vk_caps *caps = &c->x->vk->caps;
    char have[24], can[24];
    if (!buffer || offset % sizeof(uint32_t)) {
        if (!c->rc)
            c->rc = gm_fail(c->error, GEMMA_E_INTERNAL, "binding %u of %s lies nowhere", binding, call->module->name);
        return;
    }
    uint64_t bound = offset / caps->storage_align * caps->storage_align;
    if (offset + n_bytes - bound > caps->storage_range)
        fail(c, gm_fail(c->error, GEMMA_E_UNSUPPORTED, "%s: %s in one piece, %s can have %s", call->module->name,
                        gm_text_bytes(have, n_bytes), caps->name, gm_text_bytes(can, caps->storage_range)));
    call->push[binding] = (uint32_t)((offset - bound) / sizeof(uint32_t));
    call->operands[binding] = (gm_vk_operand){
        .buffer = buffer->handle, .first = offset, .last = offset + n_bytes, .bound = bound, .write = write
    };
}

static gm_vk_buffer *buffer_of(gm_buffer *b) { return (gm_vk_buffer *)b; }

void gm_vk_bind_slot(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, uint16_t slot, bool write)
{
    uint64_t n_bytes = (uint64_t)gm_vk_width(c, slot) * c->x->max_rows * sizeof(float);
    gm_vk_bind(c, call, binding, c->x->scratch, c->d->slot_offset[slot], n_bytes, write);
}

void gm_vk_bind_work(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, uint64_t offset, uint64_t n_bytes,
                     bool write)
{
    if (!n_bytes) return; /* the step copy will stand there */
    gm_vk_bind(c, call, binding, c->x->scratch, c->x->workspace_offset + offset, n_bytes, write);
}

void gm_vk_bind_weight(gm_vk_compiler *c, gm_vk_call *call, uint32_t binding, int32_t w, uint64_t first_row,
                       uint64_t n_rows)
{
    const gm_weight_shape *s = &c->d->program->weights[w];
    const gm_span *span = &c->d->weights[w];
    uint64_t row_bytes = gm_row_bytes(s->format, s->n_in);
    gm_vk_bind(c, call, binding, buffer_of(span->buffer), span->offset + first_row * row_bytes, n_rows * row_bytes,
               false);
}

/* An even number, so that spans start at whole words. */
uint64_t gm_vk_rows_bound(const gm_vk_compiler *c, int32_t w)
{
    const gm_weight_shape *s = &c->d->program->weights[w];
    const gm_vk_caps *caps = &c->x->vk->caps;
    uint64_t rows = (caps->storage_range - caps->storage_align - 16) / gm_row_bytes(s->format, s->n_in);
    return gm_max_u64(2, rows / 2 * 2);
}

/* ---- pipelines and sets ---- */

static int create_variants(gm_vk_compiler *c, gm_vk_call *call)
{
    gm_vk *vk = c->x->vk;
    int rc = GEMMA_OK;
    if (call->grid != GM_VK_GRID_MATRIX) {
        rc = gm_vk_pipeline_get(vk, call->module, call->spec, &call->pipelines[0], c->error);
        if (rc || call->grid != GM_VK_GRID_SPLITS) return rc;
        uint32_t spec[GM_VK_SPECS] = { 256, call->spec[1], call->spec[2], call->spec[3], call->many_rows };
        return gm_vk_pipeline_get(vk, call->module, spec, &call->pipelines[1], c->error);
    }
    uint32_t most = call->domain == GM_VK_GROUP ? gm_min_u32(c->x->max_rows, GM_VK_FEW_ROWS) : c->x->max_rows;
    for (uint32_t i = 0; i < 4 && !rc && (i == 0 || 1u << (i - 1) < most); i++) {
        call->spec[2] = 1u << i;
        call->spec[1] = gm_vk_matvec_rows(&vk->caps, 1u << i, call->spec[3]);
        rc = gm_vk_pipeline_get(vk, call->module, call->spec, &call->pipelines[i], c->error);
    }
    if (rc || most <= GM_VK_FEW_ROWS) return rc;
    uint32_t spec[GM_VK_SPECS] = { 256, 0, 0, call->spec[3] };
    return gm_vk_pipeline_get(vk, call->tiles, spec, &call->pipelines[4], c->error);
}

static int create_sets(gm_vk_compiler *c)
{
    gm_exec *x = c->x;
    gm_vk *vk = x->vk;
    VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, x->n_calls * GM_VK_BINDINGS };
    VkDescriptorPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                        .maxSets = x->n_calls,
                                        .poolSizeCount = 1,
                                        .pPoolSizes = &size };
    if (!x->n_calls) return GEMMA_OK;
    VkResult r = vk->fn.CreateDescriptorPool(vk->handle, &info, NULL, &x->sets);
    for (uint32_t i = 0; i < x->n_calls && !r; i++) {
        VkDescriptorSetAllocateInfo one = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                            .descriptorPool = x->sets,
                                            .descriptorSetCount = 1,
                                            .pSetLayouts = &vk->set_layout };
        r = vk->fn.AllocateDescriptorSets(vk->handle, &one, &x->calls[i].set);
    }
    return gm_vk_check(vk, r, "descriptor sets", c->error);
}

/* Bindings that a call does not use get the step copy, so that none is left undefined. */
static void write_set(gm_vk *vk, const gm_vk_call *call)
{
    VkDescriptorBufferInfo buffers[GM_VK_BINDINGS];
    VkWriteDescriptorSet write = { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                   .dstSet = call->set,
                                   .descriptorCount = GM_VK_BINDINGS,
                                   .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                   .pBufferInfo = buffers };
    for (uint32_t i = 0; i < GM_VK_BINDINGS; i++) {
        const gm_vk_operand *o = &call->operands[call->operands[i].buffer ? i : 0];
        buffers[i] = (VkDescriptorBufferInfo){ o->buffer, o->bound, gm_align_up(o->last - o->bound, 16) };
    }
    vk->fn.UpdateDescriptorSets(vk->handle, 1, &write, 0, NULL);
}

/* ---- constants: the turns of ROPE, and suppressed ids ---- */

/* Turns per position as a 64-bit fraction: exact to the last bit of a double for any position. */
static void put_turns(double frequency, uint8_t *out)
{
    double turns = frequency / 6.283185307179586476925, high, low;
    if (!(fabs(turns) < 1e15)) turns = 0;
    turns = (turns - floor(turns)) * 4294967296.0;
    high = floor(turns);
    low = floor((turns - high) * 4294967296.0);
    uint32_t words[2] = { (uint32_t)low, (uint32_t)high };
    memcpy(out, words, sizeof words);
}

static int fill_turns(gm_vk_compiler *c, const gm_op *op, uint64_t *at)
{
    uint32_t half = op->width / 2;
    float *factor = NULL;
    int rc = GEMMA_OK;
    if (op->w[0] >= 0) {
        const gm_span *span = &c->d->weights[op->w[0]];
        factor = gm_new_array(c->x->vk->base.mem, half, sizeof *factor, GEMMA_TAG_OBJECT);
        if (!factor) return gm_fail_nomem(c->error, "factors of an angle", half * sizeof *factor);
        rc = gm_vk_buffer_read(span->buffer, span->offset, factor, half * sizeof *factor, c->error);
    }
    for (uint32_t j = 0; j < half && !rc; j++) {
        double f = (double)op->scale * pow(op->base, -2.0 * j / op->width);
        put_turns(factor ? f / (double)factor[j] : f, c->x->constants + *at + j * 2 * sizeof(uint32_t));
    }
    *at += gm_align_up(half * 2 * sizeof(uint32_t), 64);
    gm_delete(c->x->vk->base.mem, factor);
    return rc;
}

static int fill_constants(gm_vk_compiler *c)
{
    const gm_program *p = c->d->program;
    gm_exec *x = c->x;
    uint64_t at = 0;
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->n_ops && !rc; i++)
        if (p->ops[i].kind == GM_OP_ROPE) rc = fill_turns(c, &p->ops[i], &at);
    if (p->n_suppressed)
        memcpy(x->constants + (x->work.suppressed - x->work.turns), p->suppressed, p->n_suppressed * sizeof(uint32_t));
    return rc;
}

/* ---- the whole ---- */

/* Where an array of the step copy is, from the start of its binding. */
static uint32_t word_of(const gm_vk_compiler *c, const void *array)
{
    const gm_exec *x = c->x;
    uint64_t start = x->inputs_offset % x->vk->caps.storage_align;
    return (uint32_t)((start + (size_t)((const char *)array - (const char *)c->d->block->counts)) / sizeof(uint32_t));
}

static int find_places(gm_vk_compiler *c)
{
    const gm_exec_desc *d = c->d;
    const gm_step_block *b = d->block;
    gm_exec *x = c->x;
    x->staging = gm_vk_buffer_at(x->vk, b->counts, &x->staging_offset);
    x->scratch = buffer_of(d->scratch);
    x->input_bytes = (uint64_t)((const char *)b->candidates - (const char *)b->counts);
    x->file_rows_offset = (uint64_t)((const char *)b->file_rows - (const char *)b->counts);
    if (!x->staging || !x->scratch || x->staging_offset % sizeof(uint32_t))
        return gm_fail(c->error, GEMMA_E_INTERNAL, "the step block does not lie in the device's staging memory");
    bool copied = gm_vk_copies_inputs(x->vk);
    x->inputs = copied ? x->scratch : x->staging;
    x->inputs_offset = copied ? x->workspace_offset + x->work.step : x->staging_offset;
    c->at = (gm_vk_step_words){ .counts = word_of(c, b->counts),
                                .token = word_of(c, b->token),
                                .position = word_of(c, b->position),
                                .angle = word_of(c, b->angle),
                                .last_seen = word_of(c, b->last_seen),
                                .table = word_of(c, b->table),
                                .wanted = word_of(c, b->wanted),
                                .want = word_of(c, b->want),
                                .target = word_of(c, b->target),
                                .result_row = word_of(c, b->result_row),
                                .tables = word_of(c, b->tables) };
    for (uint32_t i = 0; i < x->n_kv; i++) {
        const gm_kv_layer *l = &d->program->kv[i];
        if (!d->kv_k[i].buffer) continue; /* on another device */
        x->kv[i] = (gm_vk_kv){ .k = buffer_of(d->kv_k[i].buffer),
                               .v = buffer_of(d->kv_v[i].buffer),
                               .k_offset = d->kv_k[i].offset,
                               .v_offset = d->kv_v[i].offset,
                               .page_bytes = gm_kv_page_bytes(l),
                               .kind = l->kind };
    }
    return GEMMA_OK;
}

static int allocate(gm_exec *x, const gm_program *p, gemma_error *error)
{
    gm_vk *vk = x->vk;
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                         .commandPool = vk->pool,
                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                         .commandBufferCount = 1 };
    x->kv = gm_new_array(vk->base.mem, (uint64_t)p->n_kv + 1, sizeof *x->kv, GEMMA_TAG_OBJECT);
    x->constants = gm_new(vk->base.mem, x->work.constants_bytes + 64, GEMMA_TAG_OBJECT);
    if (!x->kv || !x->constants) return gm_fail_nomem(error, "a compiled program", x->work.constants_bytes);
    gm_mutex_lock(vk->lock);
    VkResult r = vk->fn.AllocateCommandBuffers(vk->handle, &info, &x->copies);
    info.commandBufferCount = GM_VK_PIECES;
    for (uint32_t i = 0; i < GM_VK_SHAPES && !r; i++)
        r = vk->fn.AllocateCommandBuffers(vk->handle, &info, x->recordings[i].pieces);
    gm_mutex_unlock(vk->lock);
    return gm_vk_check(vk, r, "vkAllocateCommandBuffers", error);
}

static int emit(gm_vk_compiler *c)
{
    const gm_program *p = c->d->program;
    for (uint32_t i = 0; i < p->n_ops && !c->rc; i++) {
        c->phase++;
        gm_vk_emit(c, &p->ops[i]);
    }
    for (uint32_t i = 0; i < c->x->n_calls && !c->rc; i++) fail(c, create_variants(c, &c->x->calls[i]));
    if (!c->rc) fail(c, create_sets(c));
    for (uint32_t i = 0; i < c->x->n_calls && !c->rc; i++) write_set(c->x->vk, &c->x->calls[i]);
    return c->rc;
}

int gm_vk_compile(gm_backend *be, const gm_exec_desc *d, gm_exec **out, gemma_error *error)
{
    gm_vk *vk = gm_vk_of(be);
    *out = NULL;
    int rc = gm_vk_open(vk, error);
    if (rc) return rc;
    gm_exec *x = gm_new(be->mem, sizeof *x, GEMMA_TAG_OBJECT);
    gm_vk_compiler *c = gm_new(be->mem, sizeof *c, GEMMA_TAG_OBJECT);
    if (!x || !c) {
        rc = gm_fail_nomem(error, "a compiled program", sizeof *x + sizeof *c);
        goto done;
    }
    *c = (gm_vk_compiler){ .x = x, .d = d, .error = error };
    *x = (gm_exec){ .vk = vk,
                    .n_kv = d->program->n_kv,
                    .max_rows = d->program->max_rows,
                    .block = d->block,
                    .limits = d->limits,
                    .workspace_offset = d->workspace_offset,
                    .work = gm_vk_work_of(vk, d->program, &d->limits) };
    rc = allocate(x, d->program, error);
    if (!rc) rc = find_places(c);
    if (!rc) rc = fill_constants(c);
    if (!rc) rc = emit(c);
done:
    if (rc && x) {
        if (x->vk)
            gm_vk_exec_destroy(x);
        else
            gm_delete(be->mem, x);
        x = NULL;
    }
    gm_delete(be->mem, c);
    *out = x;
    return rc;
}

void gm_vk_exec_destroy(gm_exec *x)
{
    if (!x) return;
    gm_vk *vk = x->vk;
    gemma_error error;
    gm_error_init(&error);
    if (x->n_submitted) gm_vk_wait(vk, x->values[x->n_submitted - 1], UINT64_MAX, &error);
    gm_mutex_lock(vk->lock);
    if (x->copies) vk->fn.FreeCommandBuffers(vk->handle, vk->pool, 1, &x->copies);
    for (uint32_t i = 0; i < GM_VK_SHAPES; i++)
        if (x->recordings[i].pieces[0])
            vk->fn.FreeCommandBuffers(vk->handle, vk->pool, GM_VK_PIECES, x->recordings[i].pieces);
    gm_mutex_unlock(vk->lock);
    if (x->sets) vk->fn.DestroyDescriptorPool(vk->handle, x->sets, NULL);
    gm_delete(vk->base.mem, x->calls);
    gm_delete(vk->base.mem, x->kv);
    gm_delete(vk->base.mem, x->constants);
    gm_delete(vk->base.mem, x);
}
