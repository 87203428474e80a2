/* Tests of lib/weights: what lies where after loading, and that nothing is left when it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "backend/dummy/dummy.h"
#include "support/fault.h"
#include "support/tiny_model.h"
#include "weights/weights.h"

#define MIB ((uint64_t)1 << 20)

typedef struct fixture {
    gm_mem mem;
    gguf_writer *w;
    uint8_t *bytes; /* the file, 64-byte aligned */
    size_t n_bytes;
    uint32_t fail_read; /* the nth read from now fails; 0: none */
    gm_gguf *gguf;
    gm_model *m;
    gm_backend *be;
    gm_pool *pool; /* NULL in most tests */
    gm_plan *plan;
    gm_resident *r;
    gemma_error error;
} fixture;

static int64_t read_file(void *user, const char *path, uint64_t offset, void *dst, uint64_t n_bytes)
{
    fixture *f = user;
    (void)path;
    if (!dst) return (int64_t)f->n_bytes;
    if (f->fail_read && --f->fail_read == 0) return -1;
    uint64_t n = offset < f->n_bytes ? gm_min_u64(n_bytes, f->n_bytes - offset) : 0;
    memcpy(dst, f->bytes + offset, n);
    return (int64_t)n;
}

/* In place of the one there is. */
static void make_plan(fixture *f, bool mapped)
{
    gm_settings s;
    gemma_plan_options o = { .size = sizeof o, .ctx = 128, .ubatch = 16 };
    const gm_devices devices = { .backends = { f->be }, .n = 1 };
    gm_plan_destroy(f->plan);
    f->plan = NULL;
    int rc = gm_settings_read(f->m, &devices, &o, &s, &f->error);
    s.mapped = mapped;
    if (!rc) rc = gm_plan_create(&f->mem, f->gguf, f->m, &devices, &s, &f->plan, &f->error);
    if (rc) fail_msg("%s", f->error.message);
}

/* in_memory: opened from bytes, so that weights can stay where they are; else read through the host. */
static void set_up(fixture *f, const tiny_model *t, bool in_memory)
{
    *f = (fixture){ .error = { .size = sizeof f->error } };
    gemma_host host;
    fault_host_init(&host);
    host.read = in_memory ? NULL : read_file;
    gemma_host with_user = host;
    with_user.user = f;
    gm_mem_init(&f->mem, &with_user);
    f->w = tiny_model_write(t);
    const uint8_t *bytes = gguf_writer_finish(f->w, &f->n_bytes);
    f->bytes = aligned_alloc(64, (f->n_bytes + 63) / 64 * 64);
    memcpy(f->bytes, bytes, f->n_bytes);
    gm_gguf_input input = { .path = in_memory ? NULL : "tiny.gguf", .bytes = f->bytes, .n_bytes = f->n_bytes };
    if (!in_memory) input.bytes = NULL;
    int rc = gm_gguf_open(&f->mem, &input, &f->gguf, &f->error);
    if (!rc) rc = gm_model_create(&f->mem, f->gguf, &f->m, &f->error);
    if (!rc) rc = gm_dummy_create(&f->mem, NULL, &f->be, &f->error);
    if (rc) fail_msg("%s", f->error.message);
    make_plan(f, in_memory);
}

static void set_up_family(fixture *f, uint32_t family, bool in_memory)
{
    tiny_model t;
    tiny_model_defaults(&t, family);
    set_up(f, &t, in_memory);
}

static void tear_down(fixture *f)
{
    gm_resident_destroy(f->r);
    assert_int_equal(gm_dummy_held(f->be, 0), 0);
    gm_plan_destroy(f->plan);
    gm_pool_destroy(f->pool);
    gm_backend_destroy(f->be);
    gm_model_destroy(f->m);
    gm_gguf_close(f->gguf);
    gguf_writer_destroy(f->w);
    free(f->bytes);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

static int load(fixture *f, gemma_progress progress, void *user, const gemma_cancel *cancel)
{
    gemma_load_options o = { .size = sizeof o, .progress = progress, .progress_user = user };
    o.cancel = (gemma_cancel *)(uintptr_t)cancel;
    return gm_weights_load(f->plan, f->gguf, f->pool, &o, &f->r, &f->error);
}

static void load_well(fixture *f)
{
    if (load(f, NULL, NULL, NULL)) fail_msg("%s", f->error.message);
}

/* ---- content ---- */

static const void *bytes_of(const gm_span *s, uint64_t n, void *room)
{
    if (!s->buffer) return s->mapped;
    assert_int_equal(gm_buffer_read(s->buffer, s->offset, room, n, NULL), GEMMA_OK);
    return room;
}

static void check_content(fixture *f)
{
    uint8_t *is = malloc(64 * MIB), *should = malloc(64 * MIB);
    for (uint32_t i = 0; i < f->m->n_weights; i++) {
        const gm_weight *w = &f->m->weights[i];
        if (f->plan->shares[0].weights[i].block == GM_BLOCK_ROWS) continue; /* read with every step */
        if (w->made)
            memcpy(should, w->made, w->n_bytes);
        else
            assert_int_equal(gm_gguf_read(f->gguf, w->tensor, w->offset, should, w->n_bytes, NULL), GEMMA_OK);
        assert_memory_equal(bytes_of(&f->r->shares[0].weights[i], w->n_bytes, is), should, w->n_bytes);
    }
    memset(should, 0, 64 * MIB);
    for (uint32_t i = 0; i < f->plan->n_blocks; i++) {
        gm_buffer *b = f->r->buffers[i];
        assert_int_equal(b->n_bytes, f->plan->blocks[i].n_bytes);
        assert_int_equal(b->tag, f->plan->blocks[i].tag);
        if (b->tag != GEMMA_TAG_KV) continue;
        assert_int_equal(gm_buffer_read(b, 0, is, b->n_bytes, NULL), GEMMA_OK);
        assert_memory_equal(is, should, b->n_bytes);
    }
    free(is);
    free(should);
}

static void test_content(void **state)
{
    (void)state;
    for (uint32_t family = 3; family <= 4; family++) {
        tiny_model t;
        fixture f;
        tiny_model_defaults(&t, family);
        t.fused_qkv = family == 3;
        t.skip[0] = "rope_freqs.weight";
        set_up(&f, &t, false);
        load_well(&f);
        check_content(&f);
        assert_int_equal(f.r->allocated_bytes, f.plan->lines[0].total_bytes);
        assert_int_equal(f.r->allocated_bytes, gm_dummy_held(f.be, 0));
        uint64_t bulk = 0;
        for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++) bulk += fault_live_bytes(tag);
        assert_int_equal(bulk, f.plan->lines[0].total_bytes);
        assert_int_equal(fault_live_bytes(GEMMA_TAG_KV), f.plan->lines[0].class_bytes[GEMMA_CLASS_KV_SLIDING] +
                                                             f.plan->lines[0].class_bytes[GEMMA_CLASS_KV_GLOBAL]);
        assert_int_equal(f.r->shares[0].scratch->tag, GEMMA_TAG_SCRATCH);
        assert_int_equal(f.r->shares[0].staging->tag, GEMMA_TAG_STAGING);
        tear_down(&f);
    }
}

static void test_mapped(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4, true);
    load_well(&f);
    check_content(&f);
    assert_int_equal(f.r->read_bytes, 0);
    assert_int_equal(fault_live_bytes(GEMMA_TAG_WEIGHTS), 0);
    for (uint32_t i = 0; i < f.m->n_weights; i++) {
        const uint8_t *at = f.r->shares[0].weights[i].mapped;
        assert_true(at >= f.bytes && at + f.m->weights[i].n_bytes <= f.bytes + f.n_bytes);
    }
    tear_down(&f);
}

/* ---- a device whose memory the CPU does not see ---- */

enum { MAX_HIDDEN = 16 };
static gm_backend_fns hidden_fns;
static const gm_backend_fns *seen_fns;
static struct {
    gm_buffer *buffer;
    void *host;
} hidden[MAX_HIDDEN];

static size_t hidden_at(const gm_buffer *b)
{
    size_t i = 0;
    while (i < MAX_HIDDEN && hidden[i].buffer != b) i++;
    assert_true(i < MAX_HIDDEN);
    return i;
}

enum { TRANSFER_BYTES = 4096 };

static int create_hidden(gm_backend *be, uint32_t heap, uint64_t n, uint32_t tag, gm_buffer **out, gemma_error *error)
{
    int rc = seen_fns->buffer_create(be, heap, n, tag, out, error);
    if (rc || tag == GEMMA_TAG_STAGING) return rc;
    size_t i = hidden_at(NULL);
    hidden[i].buffer = *out;
    hidden[i].host = (*out)->host;
    (*out)->host = NULL;
    return GEMMA_OK;
}

static void destroy_hidden(gm_buffer *b)
{
    if (!b) return;
    if (b->tag == GEMMA_TAG_STAGING) {
        seen_fns->buffer_destroy(b);
        return;
    }
    size_t i = hidden_at(b);
    b->host = hidden[i].host;
    hidden[i].buffer = NULL;
    seen_fns->buffer_destroy(b);
}

static int write_hidden(gm_buffer *b, uint64_t offset, const void *src, uint64_t n, gemma_error *error)
{
    (void)error;
    assert_true(b->via && n <= TRANSFER_BYTES && src == b->via->host);
    memcpy((char *)hidden[hidden_at(b)].host + offset, src, n);
    return GEMMA_OK;
}

static int read_hidden(gm_buffer *b, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    (void)error;
    memcpy(dst, (const char *)hidden[hidden_at(b)].host + offset, n);
    return GEMMA_OK;
}

static void hide_memory(fixture *f)
{
    seen_fns = f->be->fns;
    hidden_fns = *seen_fns;
    hidden_fns.buffer_create = create_hidden;
    hidden_fns.buffer_destroy = destroy_hidden;
    hidden_fns.buffer_write = write_hidden;
    hidden_fns.buffer_read = read_hidden;
    f->be->fns = &hidden_fns;
    f->be->transfer_bytes = TRANSFER_BYTES;
    make_plan(f, f->plan->settings.mapped);
    assert_int_equal(f->plan->lines[0].class_bytes[GEMMA_CLASS_STAGING],
                     f->plan->blocks[f->plan->shares[0].staging.block].n_bytes + TRANSFER_BYTES);
}

static void test_unseen_memory(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4, false);
    hide_memory(&f);
    load_well(&f);
    check_content(&f);
    tear_down(&f);
}

/* ---- weights in Q8_0 that are something else in the file ---- */

static const gm_type lacked[] = { GM_IQ2_XXS, GM_IQ2_XS, GM_IQ1_M, GM_TQ1_0, GM_TQ2_0, GM_NVFP4, GM_Q2_K, GM_BF16 };

static void set_up_lacked(fixture *f, gm_type type, bool split, bool in_memory)
{
    tiny_model t;
    tiny_model_defaults(&t, split ? 4 : 3);
    t.n_embd = t.n_ff = t.n_ff_expert = 256;
    t.n_head = 4;
    t.head = 64;
    t.n_layers = 2;
    t.type = type;
    t.factors = type == GM_NVFP4;
    t.n_ple = t.n_shared = 0;
    t.n_expert = split ? 3 : 0;
    t.split_experts = split;
    t.fused_qkv = !split;
    set_up(f, &t, in_memory);
    gm_dummy_lack(f->be, 0, type);
    make_plan(f, in_memory);
    assert_true(f->plan->n_converted > 10);
}

/* Each value is the file's, times its matrix's factor, to what Q8_0 can hold; ternary ones are just that. */
static void check_converted(const fixture *f, uint32_t i)
{
    const gm_weight *w = &f->m->weights[i];
    const gm_format *from = w->tensor->format;
    uint64_t n = w->n_bytes / from->block_bytes * from->block, n_bytes = n / 32 * 34, n_matrix = n / w->tensor->ne[2];
    uint8_t *raw = malloc(w->n_bytes), *room = malloc(n_bytes);
    float *is = malloc(n * sizeof *is), *should = malloc(n * sizeof *should);
    assert_int_equal(n_bytes, gm_plan_held_bytes(f->plan, i));
    assert_int_equal(gm_gguf_read(f->gguf, w->tensor, w->offset, raw, w->n_bytes, NULL), GEMMA_OK);
    from->unpack(raw, should, n / from->block);
    gm_format_of(GM_Q8_0)->unpack(bytes_of(&f->r->shares[0].weights[i], n_bytes, room), is, n / 32);
    bool exact = from->type == GM_TQ1_0 || from->type == GM_TQ2_0;
    for (uint64_t at = 0; at < n; at += 32) {
        float factor = w->factors ? w->factors[at / n_matrix] : 1, most = 0;
        for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(should[at + j] * factor));
        for (int j = 0; j < 32; j++) {
            float off = fabsf(is[at + j] - should[at + j] * factor);
            if (off > (exact ? 0 : most / 127 * 0.57f)) fail_msg("%s: %g off at %g", w->tensor->name, off, most);
        }
    }
    free(raw);
    free(room);
    free(is);
    free(should);
}

static void test_converted(void **state)
{
    (void)state;
    for (size_t k = 0; k < 8 * GM_COUNT(lacked); k++) {
        fixture f;
        uint32_t n = 0;
        set_up_lacked(&f, lacked[k / 8], k & 1, k & 2);
        if (k & 4) hide_memory(&f);
        if (k & 1) assert_int_equal(gm_pool_create(&f.mem, 3, &f.pool, &f.error), GEMMA_OK);
        load_well(&f);
        for (uint32_t i = 0; i < f.m->n_weights; i++) {
            if (!gm_plan_converts(f.plan, i)) continue;
            check_converted(&f, i);
            n++;
        }
        assert_int_equal(n, f.plan->n_converted);
        assert_int_equal(gm_dummy_held(f.be, 0), f.plan->lines[0].total_bytes);
        tear_down(&f);
    }
}

/* ---- progress and cancelling ---- */

typedef struct watch {
    uint32_t n, stop_at; /* call that answers 1; 0: none */
    uint64_t last, total, longest;
    gemma_cancel *cancel; /* raised instead */
} watch;

static int watch_progress(void *user, uint64_t done, uint64_t total)
{
    watch *w = user;
    assert_true(done > w->last && done <= total && total > 0);
    w->longest = gm_max_u64(w->longest, done - w->last);
    w->last = done;
    w->total = total;
    if (++w->n != w->stop_at) return 0;
    if (!w->cancel) return 1;
    atomic_store(&w->cancel->raised, 1);
    return 0;
}

static void test_progress(void **state)
{
    (void)state;
    tiny_model t;
    for (int in_memory = 0; in_memory <= 1; in_memory++) {
        fixture f;
        watch w = { 0 };
        tiny_model_defaults(&t, 3);
        t.n_vocab = 80000;
        t.table_type = GM_F32; /* 20 MiB */
        set_up(&f, &t, in_memory);
        assert_int_equal(load(&f, watch_progress, &w, NULL), GEMMA_OK);
        uint64_t all = 0;
        for (uint32_t i = 0; i < f.m->n_weights; i++) all += f.m->weights[i].n_bytes;
        assert_int_equal(w.total, all);
        assert_int_equal(w.last, all);
        if (!in_memory) assert_int_equal(w.longest, 16 * MIB);
        assert_int_equal(f.r->read_bytes, in_memory ? 0 : all);
        tear_down(&f);
    }
    fixture f;
    watch w = { 0 };
    set_up_lacked(&f, GM_IQ1_M, true, false);
    assert_int_equal(load(&f, watch_progress, &w, NULL), GEMMA_OK);
    assert_int_equal(w.last, w.total);
    assert_int_equal(f.r->read_bytes, w.total); /* the file's bytes, not what they become */
    tear_down(&f);
}

static void test_cancel(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        fixture f;
        gemma_cancel cancel = { 0 };
        bool by_object = k & 1;
        if (k & 2)
            set_up_lacked(&f, GM_TQ2_0, true, false);
        else
            set_up_family(&f, 3, false);
        uint64_t before = fault_live_blocks();
        watch all = { 0 };
        load(&f, watch_progress, &all, NULL);
        gm_resident_destroy(f.r);
        for (uint32_t at = 1; at <= all.n; at++) {
            watch w = { .stop_at = at, .cancel = by_object ? &cancel : NULL };
            atomic_store(&cancel.raised, 0);
            assert_int_equal(load(&f, watch_progress, &w, &cancel), GEMMA_E_CANCELLED);
            assert_null(f.r);
            assert_int_equal(w.n, at);
            assert_int_equal(fault_live_blocks(), before);
        }
        atomic_store(&cancel.raised, 1); /* before it began */
        assert_int_equal(load(&f, NULL, NULL, &cancel), GEMMA_E_CANCELLED);
        assert_int_equal(fault_live_blocks(), before);
        tear_down(&f);
    }
}

/* ---- failures ---- */

static void check_read_errors(fixture *f)
{
    uint32_t nth;
    int rc = GEMMA_E_IO;
    uint64_t before = fault_live_blocks();
    for (nth = 1; rc; nth++) {
        f->fail_read = nth;
        rc = load(f, NULL, NULL, NULL);
        if (f->fail_read == 0) assert_int_equal(rc, GEMMA_E_IO);
        if (rc) assert_int_equal(fault_live_blocks(), before);
        if (!rc) continue;
        assert_non_null(strstr(f->error.message, "tiny.gguf"));
        assert_true(strstr(f->error.message, ".weight: ") || strstr(f->error.message, ".scale: "));
    }
    assert_true(nth > f->m->n_weights);
    tear_down(f);
}

static void test_read_errors(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3, false);
    check_read_errors(&f);
    set_up_lacked(&f, GM_IQ2_XXS, true, false);
    check_read_errors(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        fixture f;
        uint64_t nth;
        int rc = GEMMA_E_NOMEM;
        if (k & 1)
            set_up_lacked(&f, GM_NVFP4, true, false);
        else
            set_up_family(&f, 4, false);
        if (k & 2) hide_memory(&f);
        uint64_t before = fault_live_blocks();
        for (nth = 1; rc; nth++) {
            fault_fail_nth(nth);
            rc = load(&f, NULL, NULL, NULL);
            assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
            if (rc) assert_int_equal(fault_live_blocks(), before);
            if (rc) assert_null(f.r);
        }
        assert_true(nth > 5 + f.plan->n_blocks);
        fault_fail_nth(0);
        tear_down(&f);
    }
}

static void test_device_errors(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3, false);
    uint64_t before = fault_live_blocks();
    for (uint32_t nth = 1; nth <= f.plan->n_blocks; nth++) {
        gm_dummy_fail(f.be, GM_DUMMY_BUFFER_CREATE, nth, GEMMA_E_DEVMEM);
        assert_int_equal(load(&f, NULL, NULL, NULL), GEMMA_E_DEVMEM);
        assert_int_equal(fault_live_blocks(), before);
        assert_int_equal(gm_dummy_held(f.be, 0), 0);
    }
    gm_dummy_fail(f.be, GM_DUMMY_CALLS, 0, 0);
    load_well(&f);
    tear_down(&f);
}

static void test_stale(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3, false);
    uint64_t needs = f.plan->lines[0].total_bytes;
    gm_dummy_set_budget(f.be, 0, needs + 128 * MIB - 1);
    assert_int_equal(load(&f, NULL, NULL, NULL), GEMMA_E_STALE);
    assert_non_null(strstr(f.error.message, "dummy device · RAM: the plan needs"));
    gm_dummy_set_budget(f.be, 0, needs + 128 * MIB);
    load_well(&f);
    gm_resident *first = f.r; /* a second one finds the budget used */
    assert_int_equal(load(&f, NULL, NULL, NULL), GEMMA_E_STALE);
    f.r = first;
    tear_down(&f);
}

static void test_no_fit(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3, false);
    const gm_devices devices = { .backends = { f.be }, .n = 1 };
    gm_settings s = f.plan->settings;
    gm_plan_destroy(f.plan);
    s.budget_bytes = 129 * MIB;
    s.headroom_bytes = 129 * MIB - 1000;
    assert_int_equal(gm_plan_create(&f.mem, f.gguf, f.m, &devices, &s, &f.plan, &f.error), GEMMA_OK);
    assert_int_equal(load(&f, NULL, NULL, NULL), GEMMA_E_NOFIT);
    assert_null(f.r);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),   cmocka_unit_test(test_mapped),        cmocka_unit_test(test_unseen_memory),
        cmocka_unit_test(test_progress),  cmocka_unit_test(test_cancel),        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_device_errors), cmocka_unit_test(test_stale),
        cmocka_unit_test(test_no_fit),    cmocka_unit_test(test_converted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
