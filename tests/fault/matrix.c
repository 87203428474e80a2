/* Every described machine and device × sizes of models × quants × contexts: what is planned is allocated on every heap, to
 * the byte; what does not fit says so, and its advice fits. Memory is hollow (tests/vklayer), models are headers. Skipped
 * without a software device. An argument chooses machines by part of their files' names. */
#include "fault/header.h"

#include <glob.h>
#include <stdio.h>

static const char *chosen = "";
static gemma_vulkan_host vulkan;
static struct {
    uint32_t cases, fit, refused, unsupported, advised;
} count;

static const struct {
    const char *size, *mix;
} models[] = {
    { "gemma4-e2b", "Q4_0" },       { "gemma4-e4b", "Q4_K_M" }, { "gemma4-12b", "Q4_K_M" },
    { "gemma4-26b-a4b", "Q4_K_M" }, { "gemma4-31b", "Q6_K" },   { "gemma3-270m", "Q8_0" },
    { "gemma3-1b", "BF16" },        { "gemma3-4b", "Q4_0" },    { "gemma4-26b-a4b", "Q8_0" },
};
static const struct {
    uint32_t ctx, kv;
} contexts[] = { { 4096, GEMMA_TYPE_F16 }, { 32768, GEMMA_TYPE_Q8_0 }, { 131072, GEMMA_TYPE_F16 } };

/* With the first piece of advice. */
static void follow(run *r, gemma_plan_options po, const machine *m, const char *where)
{
    gemma_advice a = { .size = sizeof a };
    if (!gemma_plan_n_advice(r->plan)) return;
    assert_int_equal(gemma_plan_advice(r->plan, 0, &a), GEMMA_OK);
    po.ctx = a.ctx;
    po.kv_global = a.kv_global;
    po.kv_sliding = a.kv_sliding;
    po.n_sessions = a.n_sessions;
    po.ubatch = a.ubatch;
    po.fit = a.fit;
    if (header_rehearse(r, &po, m, where)) fail_msg("%s: the advice for it: %s", where, r->error.message);
    count.advised++;
}

static void check_case(run *r, const machine *m, uint32_t number, size_t model)
{
    size_t context = (count.cases + count.cases / COUNT(models)) % COUNT(contexts); /* in turn */
    gemma_file_info file = { .size = sizeof file };
    char where[512];
    gemma_device_info info = { .size = sizeof info };
    gemma_plan_options po = { .size = sizeof po, .ctx = contexts[context].ctx, .kv_global = contexts[context].kv };
    po.device = run_device(r, m->devices[number].name);
    po.kv_sliding = po.kv_global;
    assert_int_equal(gemma_file_describe(r->file, &file), GEMMA_OK);
    if (po.ctx > file.ctx_trained) po.ctx = file.ctx_trained;
    assert_int_equal(gemma_device_describe(r->runtime, po.device, &info), GEMMA_OK);
    if (!info.usable) return;
    snprintf(where, sizeof where, "%s (%s), device %u, %s %s, context %u", m->id, m->variant, number,
             models[model].size, models[model].mix, po.ctx);
    int rc = header_rehearse(r, &po, m, where);
    count.cases++;
    count.fit += rc == GEMMA_OK;
    count.refused += rc == GEMMA_E_NOFIT;
    count.unsupported += rc == GEMMA_E_UNSUPPORTED;
    if (rc && rc != GEMMA_E_NOFIT && rc != GEMMA_E_UNSUPPORTED) fail_msg("%s: %s", where, r->error.message);
    if (rc) assert_true(strlen(r->error.message) > 30);
    if (rc == GEMMA_E_NOFIT) assert_non_null(strstr(r->error.message, "may be used"));
    if (rc == GEMMA_E_NOFIT) follow(r, po, m, where);
}

static void check_machine(const machine *m, header *headers)
{
    run r;
    header in_turn = { 0 };
    vklayer_pose(m);
    header_runtime(&r, &vulkan, &in_turn, m);
    for (size_t i = 0; i < COUNT(models); i++) {
        in_turn = headers[i];
        header_open(&r);
        for (uint32_t d = 0; d < m->n_devices; d++) check_case(&r, m, d, i);
        gemma_plan_destroy(r.plan);
        gemma_file_close(r.file);
        r.plan = NULL;
        r.file = NULL;
    }
    run_finish(&r);
}

static void matrix(void **state)
{
    (void)state;
    header headers[COUNT(models)];
    glob_t files;
    run_begin(&vulkan);
    vklayer_hollow(1 << 20);
    for (size_t i = 0; i < COUNT(models); i++) header_make(&headers[i], models[i].size, models[i].mix);
    assert_int_equal(glob("machines/*.json", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        if (!strstr(files.gl_pathv[i], chosen)) continue;
        machine m = run_machine(files.gl_pathv[i], 0);
        for (uint32_t v = 0; v <= m.n_variants; v++) {
            machine variant = run_machine(files.gl_pathv[i], v);
            check_machine(&variant, headers);
        }
    }
    globfree(&files);
    for (size_t i = 0; i < COUNT(models); i++) header_drop(&headers[i]);
    print_message("%u cases: %u fit, %u do not, %u cannot be; %u followed advice\n", count.cases, count.fit,
                  count.refused, count.unsupported, count.advised);
    if (!*chosen) assert_true(count.cases >= 300 && count.fit >= 150 && count.refused >= 50);
}

int main(int argc, char **argv)
{
    if (argc > 1) chosen = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(matrix) };
    int n_failed = cmocka_run_group_tests_name("matrix", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
