/* Tests of lib/plan/predict: the terms of the time of a token, one by one. Each probe has one figure that counts; the
 * others are so good that nothing is seen of them. */
#include "unit/plan_fixture.h"

#include <math.h>

#define FAST 1e15 /* GB/s */

static gemma_probe fast(uint32_t device)
{
    return (gemma_probe){ .size = sizeof(gemma_probe),
                          .device = device,
                          .read_gb_s = FAST,
                          .q4_gb_s = FAST,
                          .q5_gb_s = FAST,
                          .q6_gb_s = FAST,
                          .q8_gb_s = FAST,
                          .f16_gb_s = FAST };
}

static void check_near(double have, double want)
{
    if (!(fabs(have - want) <= 1e-6 * fabs(want))) fail_msg("%.9g where %.9g is due", have, want);
}

static gemma_prediction predict(fixture *f, const gemma_probe *probe, uint32_t depth)
{
    gm_plan *p = plan_of(f, &(gemma_plan_options){ .size = sizeof(gemma_plan_options), .ctx = 512, .probe = probe });
    gemma_prediction t = gm_plan_predict(p, depth);
    gm_plan_destroy(p);
    return t;
}

static void test_which_probe(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_probe other = fast(1), probe = fast(0), chained = fast(7);
    gemma_prediction t = predict(&f, NULL, 0);
    assert_false(t.measured);
    assert_true(t.decode_tok_s == 0.0 && t.bytes_per_token > 0);
    assert_false(predict(&f, &other, 0).measured); /* of another device */
    chained.next = &probe;
    assert_true(predict(&f, &chained, 0).measured);
    tear_down(&f);
}

/* With read_gb_s alone, as for a described machine. */
static void test_bytes(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_probe probe = { .size = sizeof probe, .read_gb_s = 2.0 };
    gemma_prediction t = predict(&f, &probe, 0);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f.m->n_weights; i++) bytes += f.m->weights[i].n_bytes;
    bytes += gm_row_bytes(gm_format_of(GM_Q8_0), 64); /* the tied table is read whole, and a row of it */
    assert_int_equal(t.bytes_per_token, bytes);
    assert_int_equal(t.kv_bytes_full, 2 * (2 * 64 * 64) + 2 * (2 * 512 * 64)); /* F16 heads of 32 */
    check_near(t.decode_tok_s, 2e9 / (double)bytes);
    check_near(t.decode_full_tok_s, 2e9 / (double)(bytes + t.kv_bytes_full));
    uint64_t table = 0; /* the largest of all, which a prompt reads by the row, as it skips what follows the last KV */
    for (uint32_t i = 0; i < f.m->n_weights; i++) table = gm_max_u64(table, f.m->weights[i].n_bytes);
    assert_in_range(t.prompt_bytes, (bytes - table) / 3, bytes - table - 1);
    assert_true(t.prefill_tok_s == 0.0); /* compute_gflops was not measured */
    tear_down(&f);
}

/* Bytes of formats below 5, 8, 16 bits and above go at rates of their own. */
static void test_formats(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 4);
    uint64_t bytes[4] = { 0 }, all = 0;
    for (uint32_t i = 0; i < f.m->n_weights; i++) {
        const gm_format *format = f.m->shapes[i].format;
        double bits = 8.0 * format->block_bytes / format->block;
        bytes[bits < 5 ? 0 : bits < 8 ? 1 : bits < 16 ? 2 : 3] += f.m->weights[i].read_per_token;
    }
    for (uint32_t k = 0; k < 4; k++) {
        gemma_probe probe = fast(0);
        double *const rates[] = { &probe.q4_gb_s, &probe.q6_gb_s, &probe.q8_gb_s, &probe.f16_gb_s };
        *rates[k] = 0.5;
        all += bytes[k];
        if (bytes[k]) check_near(predict(&f, &probe, 0).decode_tok_s, 0.5e9 / (double)bytes[k]);
    }
    assert_true(bytes[2] && bytes[3]);
    assert_int_equal(predict(&f, NULL, 0).bytes_per_token, all);
    tear_down(&f);
}

/* Blocks of 32 with 5 to 8 bits a weight have a rate of their own. */
static void test_short_blocks(void **state)
{
    (void)state;
    fixture f;
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.type = GM_Q5_0;
    set_up(&f, &t);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f.m->n_weights; i++)
        if (f.m->shapes[i].format->type == GM_Q5_0) bytes += f.m->weights[i].read_per_token;
    gemma_probe probe = fast(0);
    probe.q5_gb_s = 0.5;
    assert_true(bytes > 0);
    check_near(predict(&f, &probe, 0).decode_tok_s, 0.5e9 / (double)bytes);
    tear_down(&f);
}

static void test_ops(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gm_plan *p = plan_of(&f, NULL);
    uint32_t n_ops = p->programs[GM_PROGRAM_FULL]->n_ops,
             n_products = 4 * f.m->n_layers + 1; /* q|k|v, o, up, down; head */
    gm_plan_destroy(p);
    gemma_probe probe = fast(0);
    probe.product_us = 10;
    check_near(predict(&f, &probe, 0).decode_tok_s, 1e5 / n_products);
    probe.product_us = 0;
    probe.row_ns = 10; /* q, k, v, o, gate, up, down; head */
    check_near(predict(&f, &probe, 0).decode_tok_s, 1e8 / (4 * (64 + 32 + 32 + 64 + 96 + 96 + 64) + 384));
    probe.row_ns = 0;
    probe.op_us = 10;
    check_near(predict(&f, &probe, 0).decode_tok_s, 1e5 / (n_ops - n_products - f.m->n_layers));
    probe.op_us = 0;
    probe.attention_us = 10;
    check_near(predict(&f, &probe, 0).decode_tok_s, 1e5 / f.m->n_layers);
    probe.attention_us = 0;
    probe.submit_us = 10;
    check_near(predict(&f, &probe, 0).decode_tok_s, 1e5);
    tear_down(&f);
}

/* Two layers see 64 tokens at the most, the other two all, with two query heads of 32 and one KV head of F16. */
static void test_depth(void **state)
{
    (void)state;
    static const uint32_t depths[] = { 0, 1, 63, 64, 100, 511, 512, 100000 };
    fixture f;
    set_up_family(&f, 3);
    gemma_probe probe = fast(0), slow_memory = fast(0);
    probe.attention_gflops = 1e-3;
    slow_memory.read_gb_s = 1e-3;
    slow_memory.attention_gflops = 1e-3;
    for (size_t i = 0; i < GM_COUNT(depths); i++) {
        uint32_t depth = gm_min_u32(depths[i], 512), seen = 2 * depth + 2 * gm_min_u32(depth, 64);
        gemma_prediction t = predict(&f, &probe, depths[i]), slow = predict(&f, &slow_memory, depths[i]);
        assert_int_equal(t.depth, depth);
        assert_int_equal(t.kv_bytes, 2 * 64 * seen);
        if (!depth) continue;
        check_near(t.decode_tok_s, 1e6 / (4.0 * 64 * seen));
        check_near(slow.decode_tok_s, 1e6 / (4.0 * 64 * seen)); /* 256 operations a token and layer, 128 bytes */
        slow_memory.attention_gflops = 0;
        check_near(predict(&f, &slow_memory, depths[i]).decode_tok_s, 1e6 / (2.0 * 64 * seen));
        slow_memory.attention_gflops = 1e-3;
        if (depth == 512) check_near(t.decode_full_tok_s, t.decode_tok_s);
    }
    tear_down(&f);
}

static void test_prefill(void **state)
{
    (void)state;
    fixture f;
    set_up_family(&f, 3);
    gemma_probe probe = fast(0);
    probe.compute_gflops = 1e-3;
    /* Three whole layers; of the last one, as nothing is wanted, its keys and values. Norms have weights too. */
    const double attention = 64 * 64 + 2 * 64 * 32 + 64 * 64, ffn = 3 * 64 * 96, norms = 4 * 64 + 2 * 32;
    const double values = 3 * (attention + ffn + norms) + 2 * 64 * 32 + 64 + 32;
    gemma_prediction t = predict(&f, &probe, 0);
    check_near(t.prefill_tok_s, 1e6 / (2 * values));
    probe.compute_gflops = 1e15;
    probe.attention_gflops = 1e-3;
    t = predict(&f, &probe, 100); /* prompts of 512 rows end at the context's end: 356 before each, 64 on two layers */
    assert_true(t.prefill_tok_s > 0);
    check_near(t.prefill_tok_s, 1e6 / (256.0 * (356 + 2 * 64)));
    tear_down(&f);
}

/* ---- two devices ---- */

typedef struct pair {
    fixture f;
    gm_backend *other;
} pair;

static uint32_t odd_layers(void *user, const gemma_placement *want)
{
    (void)user;
    gemma_home home = { .size = sizeof home };
    for (uint32_t i = 0; i < want->n_candidates && want->layer % 2 == 1; i++)
        if (!gm_placement_home(want, i, &home) && home.device == 1) return i;
    return 0;
}

static gm_plan *plan_of_pair(pair *d, const gemma_probe *probe)
{
    const gm_devices devices = { .backends = { d->f.be, d->other }, .numbers = { 0, 1 }, .n = 2 };
    gm_settings s;
    gm_plan *p = NULL;
    gemma_plan_options o = { .size = sizeof o, .ctx = 512, .probe = probe, .place = odd_layers };
    int rc = gm_settings_read(d->f.m, &devices, &o, &s, &d->f.error);
    if (!rc) rc = gm_plan_create(&d->f.mem, d->f.gguf, d->f.m, &devices, &s, &p, &d->f.error);
    if (rc) fail_msg("%s", d->f.error.message);
    return p;
}

static double decode_of_pair(pair *d, gemma_probe *first, gemma_probe *second)
{
    first->next = second;
    gm_plan *p = plan_of_pair(d, first);
    double tok_s = gm_plan_predict(p, 0).decode_tok_s;
    gm_plan_destroy(p);
    return tok_s;
}

static void test_two_devices(void **state)
{
    (void)state;
    pair d;
    set_up_family(&d.f, 3);
    assert_int_equal(gm_dummy_create(&d.f.mem, NULL, &d.other, &d.f.error), GEMMA_OK);
    gemma_probe first = fast(0), second = fast(1);
    assert_true(decode_of_pair(&d, &first, NULL) == 0.0); /* the other one was not measured */
    first.submit_us = 10;                                 /* layers 0, 2, head */
    check_near(decode_of_pair(&d, &first, &second), 1e5 / 3);
    first.submit_us = 0;
    second.submit_us = 10; /* 1, 3 */
    check_near(decode_of_pair(&d, &first, &second), 1e5 / 2);
    second.submit_us = 0;
    second.product_us = 10;
    check_near(decode_of_pair(&d, &first, &second), 1e5 / 8);
    second.product_us = 0;
    /* Each odd layer gets the stream, its norm and angles: floats at the rate of memory. */
    second.read_gb_s = 1e-3;
    gm_plan *p = plan_of_pair(&d, &first);
    const gm_cuts *cuts = &p->cuts[GM_PROGRAM_FULL];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < cuts->n_crossings; i++)
        if (cuts->crossings[i].to == 1) bytes += 4 * p->programs[GM_PROGRAM_FULL]->slots[cuts->crossings[i].slot].width;
    gm_plan_destroy(p);
    assert_true(bytes >= 2 * 64 * 4);
    check_near(decode_of_pair(&d, &first, &second), 1e6 / (double)bytes);
    gm_backend_destroy(d.other);
    tear_down(&d.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_probe),  cmocka_unit_test(test_bytes),       cmocka_unit_test(test_formats),
        cmocka_unit_test(test_short_blocks), cmocka_unit_test(test_ops),         cmocka_unit_test(test_depth),
        cmocka_unit_test(test_prefill),      cmocka_unit_test(test_two_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
