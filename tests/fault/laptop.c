/* The story's laptop: an RTX 3050 with 4 GB and a Radeon 680M, posed by the software device. Gemma 4 E4B goes onto the card
 * as a header of full size and is rehearsed; tiny models are split over both GPUs and give the tokens of one. */
#include "fault/header.h"

#include <stdio.h>

static const char path[] = "machines/rtx3050-680m-16-windows.json";
enum { CARD = 0, RADEON = 1 };
#define MIB (1ull << 20)

/* ---- E4B, Q4_K_M ---- */

typedef struct laptop {
    gemma_vulkan_host vulkan;
    machine m;
    header model;
    run r;
    uint32_t card, radeon; /* numbers in the runtime */
} laptop;

static void open_laptop(laptop *l)
{
    run_begin(&l->vulkan);
    vklayer_hollow(MIB);
    l->m = run_machine(path, 0);
    vklayer_pose(&l->m);
    vklayer_budget(CARD, 0, 3369 * MIB); /* its idle budget, as the story has it */
    header_make(&l->model, "gemma4-e4b", "Q4_K_M");
    header_runtime(&l->r, &l->vulkan, &l->model, &l->m);
    header_open(&l->r);
    l->card = run_device(&l->r, l->m.devices[CARD].name);
    l->radeon = run_device(&l->r, l->m.devices[RADEON].name);
}

static void close_laptop(laptop *l)
{
    run_finish(&l->r);
    header_drop(&l->model);
}

/* A line for each heap, none of which adds two GPUs up. */
static void check_lines(const laptop *l)
{
    gemma_plan *plan = l->r.plan;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        assert_int_equal(gemma_plan_bill(plan, i, &bill), GEMMA_OK);
        gemma_heap_info heap = { .size = sizeof heap };
        assert_int_equal(gemma_heap_describe(l->r.runtime, bill.device, bill.heap, &heap), GEMMA_OK);
        assert_true(bill.total_bytes <= bill.budget_bytes && bill.budget_bytes < heap.total_bytes);
        for (uint32_t k = 0; k < i; k++) {
            gemma_bill other = { .size = sizeof other };
            assert_int_equal(gemma_plan_bill(plan, k, &other), GEMMA_OK);
            assert_true(other.device != bill.device || other.heap != bill.heap);
        }
    }
}

static void whole_on_the_card(void **state)
{
    (void)state;
    static laptop l;
    open_laptop(&l);
    gemma_plan_options po = { .size = sizeof po, .device = GEMMA_DEVICE_AUTO, .ctx = 8192, .n_marks = 1 };
    assert_ok(header_rehearse(&l.r, &po, &l.m, "E4B on the card"), l.r.error.message);
    gemma_plan_info info = { .size = sizeof info };
    assert_int_equal(gemma_plan_describe(l.r.plan, &info), GEMMA_OK);
    assert_int_equal(info.device, l.card);
    assert_int_equal(info.n_converted, 0);
    check_lines(&l);
    uint64_t on_card = 0, in_file = 0;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(l.r.plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        assert_int_equal(gemma_plan_bill(l.r.plan, i, &bill), GEMMA_OK);
        assert_int_equal(bill.device, l.card);
        if (i) assert_int_equal(bill.total_bytes, bill.staging_bytes); /* the host's memory: what it writes */
        if (!i) on_card = bill.total_bytes;
        in_file += bill.file_bytes;
    }
    assert_in_range(on_card, 2700 * MIB, 3369 * MIB - 128 * MIB);
    assert_in_range(in_file, 2000 * MIB, 2400 * MIB); /* per-layer embeddings: rows of them are read */
    print_message("E4B Q4_K_M, 8k: %llu MiB on the card, %llu MiB stay in the file\n",
                  (unsigned long long)(on_card / MIB), (unsigned long long)(in_file / MIB));
    close_laptop(&l);
}

static bool same_advice(const gemma_advice *a, const gemma_advice *b)
{
    return a->ctx == b->ctx && a->kv_global == b->kv_global && a->kv_sliding == b->kv_sliding && a->fit == b->fit &&
           a->ubatch == b->ubatch && a->n_sessions == b->n_sessions;
}

/* Not as asked, and three ways out of it, each of which can be had. */
static void too_long(void **state)
{
    (void)state;
    static laptop l;
    gemma_advice all[8];
    open_laptop(&l);
    gemma_plan_options po = { .size = sizeof po, .device = l.card, .ctx = 131072, .kv_global = GEMMA_TYPE_F16 };
    assert_int_equal(header_rehearse(&l.r, &po, &l.m, "128k"), GEMMA_E_NOFIT);
    assert_non_null(strstr(l.r.error.message, "it would fit with"));
    print_message("%s\n", l.r.error.message);
    uint32_t n = gemma_plan_n_advice(l.r.plan);
    assert_in_range(n, 3, COUNT(all));
    for (uint32_t i = 0; i < n; i++) {
        all[i] = (gemma_advice){ .size = sizeof *all };
        assert_int_equal(gemma_plan_advice(l.r.plan, i, &all[i]), GEMMA_OK);
        for (uint32_t k = 0; k < i; k++) assert_false(same_advice(&all[k], &all[i]));
    }
    for (uint32_t i = 0; i < n; i++) {
        gemma_plan_options as = po;
        as.ctx = all[i].ctx;
        as.kv_global = all[i].kv_global;
        as.kv_sliding = all[i].kv_sliding;
        as.n_sessions = all[i].n_sessions;
        as.ubatch = all[i].ubatch;
        as.fit = all[i].fit;
        assert_ok(header_rehearse(&l.r, &as, &l.m, "advice"), l.r.error.message);
        check_lines(&l);
        gemma_plan_info info = { .size = sizeof info };
        assert_int_equal(gemma_plan_describe(l.r.plan, &info), GEMMA_OK);
        assert_int_equal(info.ctx, all[i].ctx);
        print_message("advice: ctx %u, KV %u/%u, fit %u, %u layers on device %u\n", info.ctx, info.kv_global,
                      info.kv_sliding, all[i].fit, info.split_layers, info.second_device);
    }
    close_laptop(&l);
}

/* ---- tiny models over both GPUs ---- */

static uint32_t odd_layers_there(void *user, const gemma_placement *want)
{
    const uint32_t *radeon = user;
    for (uint32_t i = 0; i < want->n_candidates && want->layer % 2 == 1; i++) {
        gemma_home home = { .size = sizeof home };
        if (gemma_placement_home(want, i, &home) == GEMMA_OK && home.device == *radeon) return i;
    }
    return 0;
}

static void tiny_world(world *w, int kind)
{
    tiny_model t;
    tiny_model_defaults(&t, kind ? 4 : 3);
    t.n_layers = 6;
    if (kind == 2) {
        t.n_ple = t.n_shared = 0;
        t.n_expert = 8;
        t.n_used = 2;
        t.n_ff_expert = 64;
    }
    world_init(w, &t);
}

/* Everything on the card, and the same split. */
static void check_split(const world *w, const gemma_vulkan_host *vulkan, const machine *m, bool by_hook)
{
    int32_t want[N_TOKENS];
    run r;
    gemma_plan_options po = { .size = sizeof po, .ctx = 128, .ubatch = 8, .headroom_bytes = 1 };
    assert_ok(run_open_runtime(&r, w, vulkan), r.error.message);
    uint32_t radeon = run_device(&r, m->devices[RADEON].name);
    po.device = run_device(&r, m->devices[CARD].name);
    assert_ok(run_open_model_on(&r, po), r.error.message);
    run_check_bill(&r, r.plan, m, "on one");
    assert_ok(run_prompt(&r, 40), r.error.message);
    assert_ok(run_generate(&r), r.error.message);
    memcpy(want, r.ids, sizeof want);
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_bill(r.plan, 0, &bill), GEMMA_OK);
    run_finish(&r);

    assert_ok(run_open_runtime(&r, w, vulkan), r.error.message);
    const gemma_probe probes[3] = {
        { .size = sizeof *probes, .device = po.device, .read_gb_s = 192, .next = &probes[1] },
        { .size = sizeof *probes, .device = radeon, .read_gb_s = 46, .next = &probes[2] },
        { .size = sizeof *probes, .device = 0, .read_gb_s = 5 },
    };
    if (by_hook) {
        po.place = odd_layers_there;
        po.place_user = &radeon;
    } else {
        po.fit = GEMMA_FIT_SPLIT;
        po.budget_bytes = bill.total_bytes / 3 * 2;
        po.probe = &probes[0];
    }
    assert_ok(run_open_model_on(&r, po), r.error.message);
    uint32_t n_radeon = 0;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(r.plan); i++) {
        assert_int_equal(gemma_plan_bill(r.plan, i, &bill), GEMMA_OK);
        n_radeon += bill.device == radeon && bill.total_bytes > 0;
    }
    assert_true(n_radeon > 0);
    run_check_bill(&r, r.plan, m, "split");
    uint64_t created = vklayer_created_objects(), allocations = fault_allocations();
    assert_ok(run_prompt(&r, 40), r.error.message);
    assert_ok(run_generate(&r), r.error.message);
    assert_memory_equal(r.ids, want, sizeof want);
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    run_check_bill(&r, r.plan, m, "split, in use");
    run_finish(&r);
}

static void split_over_both(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    run_begin(&vulkan);
    machine m = run_machine(path, 0);
    machine_device *card = &m.devices[CARD], *radeon = &m.devices[RADEON];
    radeon->subgroup = card->subgroup; /* so that both take the same kernels, and compute alike */
    radeon->features = card->features;
    radeon->shared_bytes = card->shared_bytes;
    radeon->invocations = card->invocations;
    radeon->storage_align = card->storage_align;
    vklayer_pose(&m);
    for (int kind = 0; kind < 3; kind++) {
        world w;
        tiny_world(&w, kind);
        check_split(&w, &vulkan, &m, false);
        check_split(&w, &vulkan, &m, true);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(whole_on_the_card), cmocka_unit_test(too_long),
                                        cmocka_unit_test(split_over_both) };
    int n_failed = cmocka_run_group_tests_name("laptop", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
