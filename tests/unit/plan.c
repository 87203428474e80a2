/* Tests of lib/plan: settings, slots, the bill, the placement hook. */
#include "unit/plan_fixture.h"

#include <math.h>

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
    assert_false(s.mapped);
    assert_true(s.probes[0].read_gb_s == 0);
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
    const gm_devices devices = devices_of(f);
    int rc = gm_settings_read(f->m, &devices, &o, &s, &f->error);
    if (rc != GEMMA_E_ARG || !strstr(f->error.message, says)) fail_msg("%d: %s, not %s", rc, f->error.message, says);
}

static void test_bad_settings(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
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
    gemma_probe endless = { .size = sizeof endless, .device = 1, .read_gb_s = 10 };
    endless.next = &endless;
    check_refused(&f, (gemma_plan_options){ .probe = &endless }, "a chain of more than");
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
    const gm_share *s = &p->shares[0];
    for (int i = 0; i < GM_PROGRAMS; i++) check_apart(s->programs[i], s->slot_offset[i], s->workspace_offset);
    assert_true(s->peak_slot_bytes <= s->workspace_offset);
    assert_true(s->workspace_offset <= s->peak_slot_bytes + s->peak_slot_bytes / 4);
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

/* Devices limit how large a buffer is: layers' KV shares blocks of up to a GiB, as weights do. */
static void test_kv_of_many_layers(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    tiny_model_defaults(&t, 3);
    t.n_layers = 48;
    set_up(&f, &t);
    gemma_plan_options o = { .size = sizeof o, .n_sessions = 1024, .kv_global = GEMMA_TYPE_F32 };
    gm_plan *p = plan_of(&f, &o);
    check_bill(p);
    uint64_t n_bytes = 0, n_blocks = 0, most = 0;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        if (p->blocks[i].tag != GEMMA_TAG_KV) continue;
        n_bytes += p->blocks[i].n_bytes;
        most = gm_max_u64(most, p->blocks[i].n_bytes);
        n_blocks++;
    }
    assert_true(n_bytes ==
                p->lines[0].class_bytes[GEMMA_CLASS_KV_GLOBAL] + p->lines[0].class_bytes[GEMMA_CLASS_KV_SLIDING]);
    assert_true(n_blocks > 2 && most <= 1024 * MIB && most > 512 * MIB);
    for (uint32_t i = 0; i < f.m->n_kv; i++) {
        const gm_kv_layer *kv = &p->programs[GM_PROGRAM_FULL]->kv[i];
        uint64_t n = gm_kv_page_bytes(kv) * (kv->kind == GM_KV_GLOBAL ? p->kv_shape.n_global : p->kv_shape.n_sliding);
        assert_true(p->kv_k[i].offset + n <= p->blocks[p->kv_k[i].block].n_bytes);
        assert_true(p->kv_v[i].offset + n <= p->blocks[p->kv_v[i].block].n_bytes);
    }
    gm_plan_destroy(p);
    tear_down(&f);
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
        assert_memory_equal(a->shares[0].slot_offset[i], b->shares[0].slot_offset[i],
                            a->programs[i]->n_slots * sizeof(uint64_t));
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
        const gm_devices devices = devices_of(&f);
        int rc = gm_plan_create(&f.mem, f.gguf, f.m, &devices, &s, &p, &f.error);
        char class_text[32];
        gm_text_format(class_text, sizeof class_text, "%s,", gm_class_name(c));
        assert_int_equal(rc, GEMMA_E_ARG);
        assert_non_null(strstr(f.error.message, class_text));
        assert_null(p);
    }
    tear_down(&f);
}

/* ---- formats without a kernel ---- */

/* 256 values are 66 bytes in IQ2_XXS and 272 in Q8_0. */
static void wide(tiny_model *t, uint32_t family, gm_type type)
{
    tiny_model_defaults(t, family);
    t->n_embd = t->n_ff = t->n_ff_expert = 256;
    t->n_head = 4;
    t->head = 64;
    t->n_ple = family == 4 ? 256 : 0;
    t->type = type;
}

/* Weights of the type become Q8_0 with all that follows from it; others stay. */
static void test_converted(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    wide(&t, 4, GM_IQ2_XXS);
    t.n_expert = 3;
    t.n_ple = t.n_shared = 0;
    set_up(&f, &t);
    gm_plan *p = plan_of(&f, NULL);
    check_bill(p);
    assert_int_equal(p->n_converted, 0);
    assert_string_equal(p->warning, "");
    uint64_t native = p->lines[0].total_bytes, read = p->prediction.bytes_per_token, more = 0, more_read = 0, from = 0;
    gm_plan_destroy(p);
    gm_dummy_lack(f.be, 0, GM_IQ2_XXS);
    p = plan_of(&f, NULL);
    check_bill(p);
    uint32_t n = 0;
    for (uint32_t i = 0; i < f.m->n_weights; i++) {
        const gm_weight *w = &f.m->weights[i];
        bool iq2 = w->tensor->format->type == GM_IQ2_XXS;
        assert_int_equal(gm_plan_converts(p, i), iq2);
        assert_int_equal(p->shapes[i].format->type, iq2 ? GM_Q8_0 : w->tensor->format->type);
        assert_int_equal(f.m->shapes[i].format->type, w->tensor->format->type); /* the model is as it was */
        assert_ptr_equal(p->programs[0]->weights, p->shapes);
        if (!iq2) continue;
        uint64_t n_bytes = w->n_bytes / 66 * 272;
        assert_int_equal(gm_plan_held_bytes(p, i), n_bytes);
        more += gm_align_up(n_bytes, 64) - gm_align_up(w->n_bytes, 64);
        more_read += w->read_per_token / 66 * 272 - w->read_per_token;
        from += w->n_bytes;
        n++;
    }
    assert_true(n > 20);
    assert_int_equal(p->n_converted, n);
    assert_int_equal(p->converted_file_bytes, from);
    assert_int_equal(p->converted_bytes, from / 66 * 272);
    assert_int_equal(p->lines[0].total_bytes, native + more);
    assert_int_equal(p->prediction.bytes_per_token, read + more_read);
    assert_non_null(strstr(p->warning, "IQ2_XXS"));
    assert_non_null(strstr(p->warning, "dummy device"));
    gm_plan_destroy(p);
    gemma_plan_options tight = with_budget(native);
    p = plan_of(&f, &tight);
    assert_int_equal(gm_plan_check(p, &f.error), GEMMA_E_NOFIT);
    assert_non_null(strstr(f.error.message, "weights held as Q8_0)"));
    gm_plan_destroy(p);
    tear_down(&f);
}

/* A tied table has two roles: one without a kernel is enough. */
static void test_converted_for_a_role(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_dummy_lack(f.be, GM_OP_EMBED, GM_Q8_0); /* what it would become: nothing changes, and it is no loop */
    gm_plan *p = plan_of(&f, NULL);
    assert_int_equal(p->n_converted, 0);
    gm_plan_destroy(p);
    tear_down(&f);
    tiny_model t;
    wide(&t, 3, GM_Q4_0);
    t.table_type = GM_Q4_0;
    set_up(&f, &t);
    for (uint32_t kind = GM_OP_EMBED; kind <= GM_OP_HEAD; kind += GM_OP_HEAD - GM_OP_EMBED) {
        gm_dummy_lack(f.be, kind, GM_Q4_0);
        p = plan_of(&f, NULL);
        check_bill(p);
        assert_int_equal(p->n_converted, 1);
        assert_non_null(strstr(p->warning, "1 weight of type Q4_0"));
        uint64_t row = 256 / 32 * 34;
        assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_HEAD], TINY_VOCAB_MIN * row);
        gm_plan_destroy(p);
    }
    gm_dummy_lack(f.be, GM_OP_NORM, GM_F32); /* nor is F32 ever turned into less */
    p = plan_of(&f, NULL);
    assert_int_equal(p->n_converted, 0);
    gm_plan_destroy(p);
    tear_down(&f);
}

/* Not in place in a mapped file; a table read by row stays there, with rows as they will come. */
static void test_converted_and_mapped(void **state)
{
    (void)state;
    tiny_model t;
    fixture f;
    wide(&t, 4, GM_Q8_0);
    t.table_type = GM_IQ2_XXS;
    t.untied = true;
    set_up(&f, &t);
    gm_dummy_lack(f.be, 0, GM_IQ2_XXS);
    gm_settings s = settings_of(&f, NULL);
    s.mapped = true;
    gm_plan *p = plan_with(&f, &s);
    uint64_t rows = 4 * 256 / 256 * TINY_VOCAB_MIN;
    assert_int_equal(p->n_converted, 1); /* the embedding; rows of the other cost nothing */
    assert_int_equal(p->converted_bytes, TINY_VOCAB_MIN * 272);
    assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_EMBEDDING], TINY_VOCAB_MIN * 272);
    assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_PLE], 0);
    assert_int_equal(p->lines[0].file_bytes, rows * 66);
    assert_int_equal(p->shares[0].limits.file_row_bytes, 4 * 272);
    for (uint32_t i = 0; i < f.m->n_weights; i++)
        if (gm_plan_converts(p, i)) assert_int_not_equal(p->shares[0].weights[i].block, GM_BLOCK_FILE);
    gm_plan_destroy(p);
    asked a = { .file_class = GEMMA_CLASS_PLE, .wrong_class = UINT32_MAX }; /* in memory, then */
    s.place = hook;
    s.place_user = &a;
    p = plan_with(&f, &s);
    assert_int_equal(p->n_converted, 2);
    assert_int_equal(p->lines[0].class_bytes[GEMMA_CLASS_PLE], rows * 272);
    assert_int_equal(p->lines[0].file_bytes, 0);
    assert_int_equal(a.read_per_token, p->prediction.bytes_per_token);
    gm_plan_destroy(p);
    tear_down(&f);
}

/* ---- the rest ---- */

static void test_refused_by_the_device(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_dummy_refuse(f.be, "everything is not supported");
    gm_settings s = settings_of(&f, NULL);
    gm_plan *p;
    const gm_devices devices = devices_of(&f);
    assert_int_equal(gm_plan_create(&f.mem, f.gguf, f.m, &devices, &s, &p, &f.error), GEMMA_E_UNSUPPORTED);
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
    const gm_devices devices = devices_of(&f);
    uint64_t before = fault_live_blocks(), nth;
    gm_plan *p = NULL;
    int rc = GEMMA_E_NOMEM;
    for (nth = 1; rc; nth++) {
        fault_fail_nth(nth);
        rc = gm_plan_create(&f.mem, f.gguf, f.m, &devices, &s, &p, &f.error);
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
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_bill),
        cmocka_unit_test(test_kv_of_many_layers),
        cmocka_unit_test(test_same_again),
        cmocka_unit_test(test_kinds_that_are_not_there),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_hook),
        cmocka_unit_test(test_refused_by_the_device),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_converted),
        cmocka_unit_test(test_converted_for_a_role),
        cmocka_unit_test(test_converted_and_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
