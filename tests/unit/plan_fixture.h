/* Plans for a model in memory over the dummy device. */
#ifndef PLAN_FIXTURE_H
#define PLAN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "backend/dummy/dummy.h"
#include "plan/plan.h"
#include "support/fault.h"
#include "support/tiny_model.h"

#define MIB ((uint64_t)1 << 20)

typedef struct fixture {
    gm_mem mem;
    gguf_writer *w;
    uint8_t *bytes; /* 64-byte aligned, as a mapped file is */
    gm_gguf *gguf;
    gm_model *m;
    gm_backend *be;
    gemma_error error;
} fixture;

static inline void set_up(fixture *f, const tiny_model *t)
{
    *f = (fixture){ .error = { .size = sizeof f->error } };
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&f->mem, &host);
    f->w = tiny_model_write(t);
    size_t n_bytes;
    const uint8_t *bytes = gguf_writer_finish(f->w, &n_bytes);
    f->bytes = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    memcpy(f->bytes, bytes, n_bytes);
    gm_gguf_input input = { .bytes = f->bytes, .n_bytes = n_bytes };
    int rc = gm_gguf_open(&f->mem, &input, &f->gguf, &f->error);
    if (!rc) rc = gm_model_create(&f->mem, f->gguf, &f->m, &f->error);
    gm_dummy_options options = { .n_heaps = 1, .can_map = true, .workspace_bytes = 4096 };
    options.heaps[0] = (gm_heap_state){
        .name = "RAM", .total_bytes = 1024 * MIB, .budget_bytes = 1024 * MIB, .budget_reported = true
    };
    if (!rc) rc = gm_dummy_create(&f->mem, &options, &f->be, &f->error);
    if (rc) fail_msg("%s", f->error.message);
}

static inline void tear_down(fixture *f)
{
    gm_backend_destroy(f->be);
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
    free(f->bytes);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static inline void set_up_family(fixture *f, uint32_t family)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    set_up(f, &t);
}

static inline gm_devices devices_of(const fixture *f) { return (gm_devices){ .backends = { f->be }, .n = 1 }; }

static inline gm_settings settings_of(fixture *f, const gemma_plan_options *options)
{
    gm_settings s;
    const gm_devices devices = devices_of(f);
    if (gm_settings_read(f->m, &devices, options, &s, &f->error)) fail_msg("%s", f->error.message);
    return s;
}

static inline gm_plan *plan_with(fixture *f, const gm_settings *s)
{
    gm_plan *p;
    const gm_devices devices = devices_of(f);
    if (gm_plan_create(&f->mem, f->gguf, f->m, &devices, s, &p, &f->error)) fail_msg("%s", f->error.message);
    return p;
}

static inline gm_plan *plan_of(fixture *f, const gemma_plan_options *options)
{
    gm_settings s = settings_of(f, options);
    return plan_with(f, &s);
}

/* Options with the budget that leaves `may_use` bytes. */
static inline gemma_plan_options with_budget(uint64_t may_use)
{
    return (gemma_plan_options){ .size = sizeof(gemma_plan_options), .headroom_bytes = 1, .budget_bytes = may_use + 1 };
}

static inline uint64_t total_with(fixture *f, gemma_plan_options o)
{
    gm_plan *p = plan_of(f, &o);
    uint64_t total = p->lines[0].total_bytes;
    gm_plan_destroy(p);
    return total;
}

/* The bill's classes sum to its total, and so do the blocks; places lie inside their blocks, apart and aligned. */
static inline void check_bill(const gm_plan *p)
{
    const gm_bill_line *line = &p->lines[0];
    uint64_t classes = 0, blocks = 0, *used = calloc(p->n_blocks, sizeof *used), mapped = 0;
    assert_int_equal(p->n_lines, 1);
    for (int c = 0; c < GEMMA_CLASS_COUNT; c++) classes += line->class_bytes[c];
    for (uint32_t i = 0; i < p->n_blocks; i++) blocks += p->blocks[i].n_bytes;
    assert_int_equal(classes, line->total_bytes);
    assert_int_equal(blocks, line->total_bytes);
    for (uint32_t i = 0; i < p->model->n_weights; i++) {
        const gm_place *place = &p->shares[0].weights[i];
        if (place->block == GM_BLOCK_FILE) {
            mapped += p->model->weights[i].n_bytes;
            continue;
        }
        assert_int_equal(p->blocks[place->block].tag, GEMMA_TAG_WEIGHTS);
        assert_int_equal(place->offset % 64, 0);
        assert_int_equal(place->offset, used[place->block]); /* one behind the other */
        used[place->block] += gm_align_up(gm_plan_held_bytes(p, i), 64);
    }
    assert_int_equal(mapped, line->mapped_bytes);
    const gm_kv_layer *kv = p->programs[0]->kv;
    for (uint32_t i = 0; i < p->model->n_kv; i++) {
        uint64_t n_pages = kv[i].kind == GM_KV_SLIDING ? p->kv_shape.n_sliding : p->kv_shape.n_global;
        uint64_t n_bytes = n_pages * gm_kv_page_bytes(&kv[i]);
        assert_int_equal(p->blocks[p->kv_k[i].block].tag, GEMMA_TAG_KV);
        assert_int_equal(p->kv_k[i].offset, used[p->kv_k[i].block]);
        assert_int_equal(p->kv_v[i].offset, p->kv_k[i].offset + n_bytes);
        used[p->kv_k[i].block] += 2 * n_bytes;
    }
    const gm_share *share = &p->shares[0];
    used[share->scratch.block] +=
        share->workspace_offset + share->backend->fns->workspace_bytes(share->backend, p->programs[0], &share->limits);
    used[share->staging.block] += gm_step_block_layout(&share->limits, NULL, NULL);
    for (uint32_t i = 0; i < p->n_blocks; i++) assert_int_equal(used[i], p->blocks[i].n_bytes);
    free(used);
}

#endif
