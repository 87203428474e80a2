/* Tests of lib/plan: settings, slots, the bill, what fits and what would. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

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

static void set_up(fixture *f, const tiny_model *t)
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

static void tear_down(fixture *f)
{
    gm_backend_destroy(f->be);
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
    free(f->bytes);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static void set_up_family(fixture *f, uint32_t family)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    set_up(f, &t);
}

static gm_settings settings_of(fixture *f, const gemma_plan_options *options)
{
    gm_settings s;
    if (gm_settings_read(f->m, f->be, options, &s, &f->error)) fail_msg("%s", f->error.message);
    return s;
}

static gm_plan *plan_with(fixture *f, const gm_settings *s)
{
    gm_plan *p;
    if (gm_plan_create(&f->mem, f->gguf, f->m, f->be, s, &p, &f->error)) fail_msg("%s", f->error.message);
    return p;
}

static gm_plan *plan_of(fixture *f, const gemma_plan_options *options)
{
    gm_settings s = settings_of(f, options);
    return plan_with(f, &s);
}

/* ---- settings ---- */

static void test_defaults(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.ctx = 32768;
    set_up(&f, &t);
    gm_settings s = settings_of(&f, NULL);
    assert_int_equal(s.ctx, 4096);
    assert_int_equal(s.n_sessions, 1);
    assert_int_equal(s.kv_tokens, 4096);
    assert_int_equal(s.ubatch, 512);
    assert_int_equal(s.slack, 32);
    assert_int_equal(s.logit_rows, 1);
    assert_int_equal(s.min_ctx, 512);
    assert_int_equal(s.kv_type[0], GEMMA_TYPE_F16);
    assert_int_equal(s.kv_type[1], GEMMA_TYPE_F16);
    assert_int_equal(s.fit, GEMMA_FIT_REFUSE);
    assert_false(s.mapped || s.has_probe);
    s = settings_of(&f, &(gemma_plan_options){ .size = sizeof(gemma_plan_options), .ctx = 100, .n_sessions = 3 });
    assert_int_equal(s.ubatch, 100);
    assert_int_equal(s.kv_tokens, 384); /* whole pages for each session */
    assert_int_equal(s.min_ctx, 100);
    tear_down(&f);
}

static void check_refused(fixture *f, gemma_plan_options o, const char *says)
{
    gm_settings s;
    o.size = sizeof o;
    int rc = gm_settings_read(f->m, f->be, &o, &s, &f->error);
    if (rc != GEMMA_E_ARG || !strstr(f->error.message, says)) fail_msg("%d: %s, not %s", rc, f->error.message, says);
}

static void test_bad_settings(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_probe other = { .size = sizeof other, .device = 1, .read_gb_s = 10 };
    check_refused(&f, (gemma_plan_options){ .ctx = 513 }, "ctx is 513; at most 512");
    check_refused(&f, (gemma_plan_options){ .n_sessions = 1025 }, "n_sessions is 1025");
    check_refused(&f, (gemma_plan_options){ .n_marks = 5000 }, "n_marks is 5000");
    check_refused(&f, (gemma_plan_options){ .ubatch = 10000 }, "ubatch is 10000");
    check_refused(&f, (gemma_plan_options){ .slack = 513 }, "slack is 513");
    check_refused(&f, (gemma_plan_options){ .logit_rows = UINT32_MAX }, "logit_rows is 4294967295");
    check_refused(&f, (gemma_plan_options){ .min_ctx = 513 }, "min_ctx is 513");
    check_refused(&f, (gemma_plan_options){ .fit = 3 }, "fit is 3");
    check_refused(&f, (gemma_plan_options){ .kv_global = 5 }, "kv_global is 5, which is no KV type");
    check_refused(&f, (gemma_plan_options){ .kv_sliding = 99 }, "kv_sliding is 99");
    check_refused(&f, (gemma_plan_options){ .probe = &other }, "probe is of device 1");
    tear_down(&f);
}

/* ---- slots ---- */

typedef struct span {
    uint32_t first, last;
} span;

static span life_of(const gm_program *p, uint16_t slot)
{
    span s = { UINT32_MAX, 0 };
    for (uint32_t i = 0; i < p->n_ops; i++) {
        bool named = false;
        for (size_t j = 0; j < GM_COUNT(p->ops[i].in); j++) named |= p->ops[i].in[j] == slot;
        for (size_t j = 0; j < GM_COUNT(p->ops[i].out); j++) named |= p->ops[i].out[j] == slot;
        if (!named) continue;
        s.first = gm_min_u32(s.first, i);
        s.last = i;
    }
    return s;
}

/* Any two slots that live at the same time, byte ranges compared. */
static void check_apart(const gm_program *p, const uint64_t *offset, uint64_t total)
{
    for (uint16_t a = 0; a < p->n_slots; a++) {
        uint64_t n_a = (uint64_t)p->slots[a].width * p->max_rows * sizeof(float);
        span life_a = life_of(p, a);
        assert_int_equal(offset[a] % 64, 0);
        assert_true(offset[a] + n_a <= total);
        for (uint16_t b = 0; b < a; b++) {
            uint64_t n_b = (uint64_t)p->slots[b].width * p->max_rows * sizeof(float);
            span life_b = life_of(p, b);
            bool together = life_a.first <= life_b.last && life_b.first <= life_a.last;
            bool overlap = offset[a] < offset[b] + n_b && offset[b] < offset[a] + n_a;
            if (together && overlap) fail_msg("slots %u and %u overlap", a, b);
        }
    }
}

static void check_slots(const tiny_model *t, uint32_t ubatch)
{
    fixture f;
    set_up(&f, t);
    gm_plan *p = plan_of(&f, &(gemma_plan_options){ .size = sizeof(gemma_plan_options), .ubatch = ubatch });
    for (int i = 0; i < GM_PROGRAMS; i++) check_apart(p->programs[i], p->slot_offset[i], p->workspace_offset);
    assert_true(p->peak_slot_bytes <= p->workspace_offset);
    assert_true(p->workspace_offset <= p->peak_slot_bytes + p->peak_slot_bytes / 4);
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_slots(void **state)
{
    (void)state;
    tiny_model t;
    tiny_model_defaults(&t, 3);
    check_slots(&t, 7);
    check_slots(&t, 512);
    tiny_model_defaults(&t, 4);
    check_slots(&t, 33);
    t.n_expert = 4;
    t.k_as_v = true;
    check_slots(&t, 33);
    t.n_ple = t.n_shared = 0;
    t.n_layers = 12;
    check_slots(&t, 64);
}

/* ---- the bill ---- */

/* The bill's classes sum to its total, and so do the blocks; places lie inside their blocks, apart and aligned. */
static void check_bill(const gm_plan *p)
{
    const gm_bill_line *line = &p->lines[0];
    uint64_t classes = 0, blocks = 0, *used = calloc(p->n_blocks, sizeof *used), mapped = 0;
    assert_int_equal(p->n_lines, 1);
    for (int c = 0; c < GEMMA_CLASS_COUNT; c++) classes += line->class_bytes[c];
    for (uint32_t i = 0; i < p->n_blocks; i++) blocks += p->blocks[i].n_bytes;
    assert_int_equal(classes, line->total_bytes);
    assert_int_equal(blocks, line->total_bytes);
    for (uint32_t i = 0; i < p->model->n_weights; i++) {
        const gm_place *place = &p->weights[i];
        if (place->block == GM_BLOCK_FILE) {
            mapped += p->model->weights[i].n_bytes;
            continue;
        }
        assert_int_equal(p->blocks[place->block].tag, GEMMA_TAG_WEIGHTS);
        assert_int_equal(place->offset % 64, 0);
        assert_int_equal(place->offset, used[place->block]); /* one behind the other */
        used[place->block] += gm_align_up(p->model->weights[i].n_bytes, 64);
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
    used[p->scratch.block] += p->workspace_offset + p->backend->fns->workspace_bytes(p->backend, p->programs[0], &p->limits);
    used[p->staging.block] += gm_step_block_layout(&p->limits, NULL, NULL);
    for (uint32_t i = 0; i < p->n_blocks; i++) assert_int_equal(used[i], p->blocks[i].n_bytes);
    free(used);
}

static void test_bill(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        fixture f;
        set_up_family(&f, family);
        gemma_plan_options o = {
            .size = sizeof o, .ctx = 300, .n_sessions = 2, .n_marks = 3, .ubatch = 70, .slack = 5
        };
        o.kv_global = GEMMA_TYPE_Q8_0;
        gm_plan *p = plan_of(&f, &o);
        check_bill(p);
        assert_string_equal(p->lines[0].name, "dummy device · RAM");
        /* (64 + 5) / 64 rounded up + 2 for each session, 70 / 64 rounded up; 64 / 64 + 1 for each mark */
        assert_int_equal(p->kv_shape.n_sliding, 2 * 4 + 2 + 3 * 2);
        assert_int_equal(p->kv_shape.n_global, 2 * 5);
        uint64_t owners = family == 3 ? 2 : 1, page = 64 * 32 * 2; /* one head of 32 in F16 */
        assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_KV_SLIDING], owners * 2 * 10 * page);
        assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_MARKS], owners * 2 * 6 * page);
        uint64_t head = family == 3 ? 32 : 64;
        assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_KV_GLOBAL], owners * 2 * 10 * 64 * head / 32 * 34);
        assert_int_equal(p->limits.n_tables, 2);
        assert_int_equal(p->limits.max_copies, 4);
        assert_true(p->fits && p->n_advice == 0);
        assert_int_equal(gm_plan_check(p, &f.error), GEMMA_OK);
        gm_plan_destroy(p);
        tear_down(&f);
    }
}

static void test_same_again(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4);
    gm_plan *a = plan_of(&f, NULL), *b = plan_of(&f, NULL);
    assert_int_equal(a->n_blocks, b->n_blocks);
    assert_memory_equal(a->blocks, b->blocks, a->n_blocks * sizeof *a->blocks);
    for (int i = 0; i < GM_PROGRAMS; i++)
        assert_memory_equal(a->slot_offset[i], b->slot_offset[i], a->programs[i]->n_slots * sizeof(uint64_t));
    gm_plan_destroy(a);
    gm_plan_destroy(b);
    tear_down(&f);
}

static void test_kinds_that_are_not_there(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.pattern = 0; /* all slide */
    set_up(&f, &t);
    gm_plan *p = plan_of(&f, NULL);
    check_bill(p);
    assert_int_equal(p->kv_shape.n_global, 0);
    assert_int_equal(p->limits.global_pages, 0);
    gm_plan_destroy(p);
    tear_down(&f);
    t.pattern = 1; /* none does */
    set_up(&f, &t);
    p = plan_of(&f, &(gemma_plan_options){ .size = sizeof(gemma_plan_options), .n_marks = 2 });
    check_bill(p);
    assert_int_equal(p->kv_shape.n_sliding, 0);
    assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_MARKS], 0);
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_mapped(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4);
    gm_settings s = settings_of(&f, NULL);
    s.mapped = true;
    gm_plan *p = plan_with(&f, &s);
    check_bill(p);
    uint64_t weights = 0, all = 0;
    for (int c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) weights += p->lines[0].class_bytes[c];
    for (uint32_t i = 0; i < f.m->n_weights; i++) all += f.m->weights[i].n_bytes;
    assert_int_equal(weights, 0);
    assert_int_equal(p->lines[0].mapped_bytes, all);
    gm_plan_destroy(p);
    f.be->can_map = false;
    p = plan_with(&f, &s);
    assert_int_equal(p->lines[0].mapped_bytes, 0);
    gm_plan_destroy(p);
    tear_down(&f);
}

/* ---- budgets ---- */

static void check_budget(fixture *f, gm_heap_state heap, gemma_plan_options o, uint64_t expected)
{
    gm_backend *be;
    gm_dummy_options options = { .n_heaps = 1, .heaps = { heap } };
    o.size = sizeof o;
    assert_int_equal(gm_dummy_create(&f->mem, &options, &be, &f->error), GEMMA_OK);
    gm_settings s = settings_of(f, &o);
    assert_int_equal(gm_plan_budget(be, 0, &s), expected);
    gm_backend_destroy(be);
}

static void test_budget(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_heap_state heap = {
        .name = "VRAM", .total_bytes = 10000 * MIB, .budget_bytes = 8000 * MIB, .budget_reported = true
    };
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 7760 * MIB); /* 3 % */
    heap.budget_bytes = 2000 * MIB;
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 1872 * MIB); /* 128 MiB */
    check_budget(&f, heap, (gemma_plan_options){ .headroom_bytes = MIB }, 1999 * MIB);
    check_budget(&f, heap, (gemma_plan_options){ .budget_bytes = 500 * MIB }, 372 * MIB);
    check_budget(&f, heap, (gemma_plan_options){ .budget_bytes = 100 * MIB }, 0);
    check_budget(&f, heap, (gemma_plan_options){ .headroom_bytes = UINT64_MAX }, 0);
    heap.budget_reported = false;
    check_budget(&f, heap, (gemma_plan_options){ 0 }, 8000 * MIB); /* 20 % of the heap */
    tear_down(&f);
}

/* Options with the budget that leaves `may_use` bytes. */
static gemma_plan_options with_budget(uint64_t may_use)
{
    return (gemma_plan_options){ .size = sizeof(gemma_plan_options), .headroom_bytes = 1, .budget_bytes = may_use + 1 };
}

static uint64_t total_with(fixture *f, gemma_plan_options o)
{
    gm_plan *p = plan_of(f, &o);
    uint64_t total = p->lines[0].total_bytes;
    gm_plan_destroy(p);
    return total;
}

static void test_refuse(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    uint64_t total = total_with(&f, with_budget(1));
    gemma_plan_options o = with_budget(total);
    gm_plan *p = plan_of(&f, &o);
    assert_true(p->fits); /* to the byte */
    gm_plan_destroy(p);

    o = with_budget(total - 1);
    o.min_ctx = 64;
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_int_equal(p->lines[0].budget_bytes, total - 1);
    assert_int_equal(gm_plan_check(p, &f.error), GEMMA_E_NOFIT);
    assert_non_null(strstr(f.error.message, "dummy device · RAM: needs "));
    assert_non_null(strstr(f.error.message, "may be used; it would fit with ctx 448"));
    assert_true(p->n_advice >= 3);
    for (uint32_t i = 0; i < p->n_advice; i++) { /* each piece of advice is true */
        const gemma_advice *a = &p->advice[i];
        gemma_plan_options advised = with_budget(total - 1);
        advised.ctx = a->ctx;
        advised.n_sessions = a->n_sessions;
        advised.ubatch = a->ubatch;
        advised.kv_global = a->kv_global;
        advised.kv_sliding = a->kv_sliding;
        assert_int_equal(total_with(&f, advised), a->total_bytes);
        assert_true(a->total_bytes <= total - 1);
        assert_int_equal(a->budget_bytes, total - 1);
    }
    assert_int_equal(p->advice[0].ctx, 448); /* the largest */
    gm_plan_destroy(p);

    o.fit = GEMMA_FIT_SPLIT;
    p = plan_of(&f, &o);
    gm_plan_check(p, &f.error);
    assert_non_null(strstr(f.error.message, "no second device"));
    gm_plan_destroy(p);

    o = with_budget(1000);
    p = plan_of(&f, &o);
    assert_int_equal(p->n_advice, 0);
    assert_false(p->fits_mapped);
    assert_int_equal(gm_plan_check(p, &f.error), GEMMA_E_NOFIT);
    assert_null(strstr(f.error.message, "would fit"));
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_advice(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_plan_options o = with_budget(1);
    o.n_sessions = 8;
    uint64_t total = total_with(&f, o);
    o = with_budget(total - 1000);
    o.n_sessions = 8;
    gm_plan *p = plan_of(&f, &o);
    bool sessions = false, ubatch = false, kv = false;
    for (uint32_t i = 0; i < p->n_advice; i++) {
        sessions |= p->advice[i].n_sessions == 4;
        ubatch |= p->advice[i].ubatch == 256;
        kv |= p->advice[i].kv_global == GEMMA_TYPE_Q8_0 && p->advice[i].kv_sliding == GEMMA_TYPE_Q8_0;
    }
    assert_true(sessions && ubatch && kv);
    assert_non_null(strstr((gm_plan_check(p, &f.error), f.error.message), "it would fit with n_sessions 4"));
    gm_plan_destroy(p);

    /* All but the weights fits: a mapped file is the way. */
    uint64_t weights = 0;
    gm_plan *whole = plan_of(&f, NULL);
    for (int c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) weights += whole->lines[0].class_bytes[c];
    o = with_budget(whole->lines[0].total_bytes - weights);
    o.ubatch = o.ctx = 512;
    gm_plan_destroy(whole);
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_true(p->fits_mapped);
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_shrink(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_plan_options o = with_budget(1);
    o.ctx = 256;
    o.ubatch = 64;
    uint64_t at_256 = total_with(&f, o);
    o.ctx = 320;
    uint64_t at_320 = total_with(&f, o);
    assert_true(at_320 > at_256);
    for (uint64_t spare = 0; spare <= 1; spare++) {
        o = with_budget(at_320 - spare);
        o.fit = GEMMA_FIT_SHRINK;
        o.min_ctx = 64;
        o.ubatch = 64;
        gm_plan *p = plan_of(&f, &o);
        assert_true(p->fits);
        check_bill(p);
        assert_int_equal(p->settings.ctx, spare ? 256 : 320);
        assert_int_equal(p->settings.kv_type[0], GEMMA_TYPE_F16);
        gm_plan_destroy(p);
    }
    /* Never below min_ctx: then the types shrink. */
    o = with_budget(at_256);
    o.fit = GEMMA_FIT_SHRINK;
    o.min_ctx = 320;
    o.ubatch = 64;
    gm_plan *p = plan_of(&f, &o);
    assert_true(p->fits);
    assert_true(p->settings.ctx >= 320);
    assert_int_equal(p->settings.kv_type[0], GEMMA_TYPE_Q8_0);
    gm_plan_destroy(p);
    o = with_budget(1000);
    o.fit = GEMMA_FIT_SHRINK;
    p = plan_of(&f, &o);
    assert_false(p->fits);
    assert_int_equal(p->settings.ctx, 512); /* what was asked */
    gm_plan_destroy(p);
    tear_down(&f);
}

/* ---- the hook ---- */

typedef struct asked {
    uint32_t n, n_classes[GEMMA_CLASS_COUNT];
    uint64_t n_bytes, read_per_token;
    uint32_t file_class; /* its groups go to candidate 1 */
    uint32_t wrong_class;
} asked;

static uint32_t hook(void *user, const gemma_placement *want)
{
    asked *a = user;
    assert_int_equal(want->size, sizeof *want);
    assert_true(want->n_candidates >= 1 && want->n_bytes > 0);
    a->n++;
    a->n_classes[want->bytes_class]++;
    if (want->bytes_class <= GEMMA_CLASS_NORMS) {
        a->n_bytes += want->n_bytes;
        a->read_per_token += want->read_per_token;
    }
    if (want->bytes_class == a->wrong_class) return want->n_candidates;
    return want->bytes_class == a->file_class ? 1 : 0;
}

static void test_hook(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    asked a = { .file_class = GEMMA_CLASS_FFN, .wrong_class = UINT32_MAX };
    gemma_plan_options o = { .size = sizeof o, .place = hook, .place_user = &a, .n_marks = 1 };
    gm_plan *p = plan_of(&f, &o);
    check_bill(p);
    assert_int_equal(a.n_classes[GEMMA_CLASS_ATTENTION], 4); /* one a layer */
    assert_int_equal(a.n_classes[GEMMA_CLASS_FFN], 4);
    assert_int_equal(a.n_classes[GEMMA_CLASS_NORMS], 5);
    assert_int_equal(a.n_classes[GEMMA_CLASS_HEAD], 1);
    assert_int_equal(a.n_classes[GEMMA_CLASS_KV_SLIDING], 2);
    assert_int_equal(a.n_classes[GEMMA_CLASS_KV_GLOBAL], 2);
    assert_int_equal(a.n_classes[GEMMA_CLASS_MARKS], 1);
    assert_int_equal(a.n_classes[GEMMA_CLASS_SCRATCH], 1);
    assert_int_equal(a.n_classes[GEMMA_CLASS_STAGING], 1);
    assert_int_equal(a.read_per_token, p->prediction.bytes_per_token);
    assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_FFN], 0);
    assert_int_equal(p->lines[0].mapped_bytes, 4 * 3 * 64 * 96 / 32 * 34);
    gm_plan_destroy(p);

    for (uint32_t c = GEMMA_CLASS_ATTENTION; c <= GEMMA_CLASS_STAGING; c++) {
        if (c == GEMMA_CLASS_EXPERTS) continue;
        a = (asked){ .file_class = UINT32_MAX, .wrong_class = c };
        gm_settings s = settings_of(&f, &o);
        int rc = gm_plan_create(&f.mem, f.gguf, f.m, f.be, &s, &p, &f.error);
        char class_text[16];
        gm_text_format(class_text, sizeof class_text, "class %u,", c);
        assert_int_equal(rc, GEMMA_E_ARG);
        assert_non_null(strstr(f.error.message, class_text));
        assert_null(p);
    }
    tear_down(&f);
}

/* ---- the rest ---- */

static void test_prediction(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_probe probe = { .size = sizeof probe, .read_gb_s = 2.0 };
    gm_plan *p = plan_of(&f, NULL);
    assert_false(p->prediction.measured);
    assert_true(p->prediction.decode_tok_s == 0.0);
    gm_plan_destroy(p);
    p = plan_of(&f, &(gemma_plan_options){ .size = sizeof(gemma_plan_options), .probe = &probe });
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f.m->n_weights; i++) bytes += f.m->weights[i].n_bytes;
    bytes += gm_row_bytes(gm_format_of(GM_Q8_0), 64); /* the tied table is read whole, and a row of it */
    assert_int_equal(p->prediction.bytes_per_token, bytes);
    assert_int_equal(p->prediction.kv_bytes_full, 2 * (2 * 64 * 64) + 2 * (2 * 512 * 64)); /* F16 heads of 32 */
    assert_true(fabs(p->prediction.decode_tok_s * (double)bytes - 2e9) < 1.0);
    assert_true(p->prediction.decode_full_tok_s < p->prediction.decode_tok_s);
    gm_plan_destroy(p);
    tear_down(&f);
}

static void test_refused_by_the_device(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_dummy_refuse(f.be, "everything is not supported");
    gm_settings s = settings_of(&f, NULL);
    gm_plan *p;
    assert_int_equal(gm_plan_create(&f.mem, f.gguf, f.m, f.be, &s, &p, &f.error), GEMMA_E_UNSUPPORTED);
    assert_non_null(strstr(f.error.message, "token_embd.weight"));
    assert_null(p);
    tear_down(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4);
    gemma_plan_options o = with_budget(total_with(&f, with_budget(1)) - 1);
    gm_settings s = settings_of(&f, &o);
    uint64_t before = fault_live_blocks(), nth;
    gm_plan *p = NULL;
    int rc = GEMMA_E_NOMEM;
    for (nth = 1; rc; nth++) {
        fault_fail_nth(nth);
        rc = gm_plan_create(&f.mem, f.gguf, f.m, f.be, &s, &p, &f.error);
        assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
        if (rc) assert_int_equal(fault_live_blocks(), before);
    }
    assert_true(nth > 50);
    fault_fail_nth(0);
    gm_plan_destroy(p);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_slots),      cmocka_unit_test(test_bill),
        cmocka_unit_test(test_same_again), cmocka_unit_test(test_kinds_that_are_not_there),
        cmocka_unit_test(test_mapped),     cmocka_unit_test(test_budget),
        cmocka_unit_test(test_refuse),     cmocka_unit_test(test_advice),
        cmocka_unit_test(test_shrink),     cmocka_unit_test(test_hook),
        cmocka_unit_test(test_prediction), cmocka_unit_test(test_refused_by_the_device),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
