#include "fault/run.h"

#include <vulkan/vulkan_core.h>

bool run_skipped;

int run_open_runtime(run *r, const world *w, const gemma_vulkan_host *vulkan)
{
    *r = (run){ .error = { .size = sizeof r->error } };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .vulkan = vulkan };
    gemma_file_options fo = { .size = sizeof fo, .bytes = w->bytes, .n_bytes = w->n_bytes };
    int rc = gemma_runtime_create(&w->host, &ro, &r->runtime, &r->error);
    return rc ? rc : gemma_file_open(r->runtime, NULL, &fo, &r->file, &r->error);
}

int run_open_model(run *r, gemma_plan_options po)
{
    int rc = gemma_device_find(r->runtime, "vulkan", &po.device, &r->error);
    return rc ? rc : run_open_model_on(r, po);
}

int run_open_model_on(run *r, gemma_plan_options po)
{
    int rc = gemma_plan_create(r->file, &po, &r->plan, &r->error);
    if (!rc) rc = gemma_model_load(r->plan, NULL, &r->model, &r->error);
    if (!rc) rc = gemma_session_create(r->model, NULL, &r->session, &r->error);
    if (!rc) rc = gemma_step_create(r->model, &r->step, &r->error);
    return rc;
}

int run_token(run *r, int32_t id, int32_t *best)
{
    gemma_row row = { .size = sizeof row, .token = id, .want = GEMMA_WANT_CANDIDATES };
    uint32_t index;
    int rc = gemma_step_clear(r->step);
    if (!rc) rc = gemma_step_add(r->step, r->session, &row, &index);
    if (!rc) rc = gemma_step_submit(r->step, NULL);
    if (!rc) rc = gemma_step_wait(r->step, FOREVER);
    if (!rc) rc = gemma_step_candidate(r->step, 0, 0, best, NULL);
    if (rc) gemma_step_message(r->step, r->error.message, sizeof r->error.message);
    return rc;
}

int run_prompt(run *r, size_t n)
{
    int32_t ids[512];
    assert_true(n <= COUNT(ids));
    world_ids(ids, n, 7);
    int rc = gemma_session_feed(r->session, ids, n, NULL);
    if (rc) gemma_session_message(r->session, r->error.message, sizeof r->error.message);
    return rc;
}

int run_generate(run *r)
{
    int32_t id = PROMPT;
    for (int i = 0; i < N_TOKENS; i++) {
        int rc = run_token(r, id, &r->ids[i]);
        if (rc == GEMMA_E_LOST) return rc;
        if (rc) {
            assert_int_equal(r->first_rc, GEMMA_OK);
            r->first_rc = rc;
            assert_true(strlen(r->error.message) > 10);
            rc = run_token(r, id, &r->ids[i]);
        }
        if (rc) return rc;
        id = r->ids[i];
    }
    r->all = true;
    return GEMMA_OK;
}

void run_finish(run *r)
{
    gemma_step_destroy(r->step);
    gemma_session_destroy(r->session);
    gemma_model_close(r->model);
    gemma_plan_destroy(r->plan);
    gemma_file_close(r->file);
    gemma_runtime_destroy(r->runtime);
    for (int kind = 0; kind < VKLAYER_KINDS; kind++) assert_int_equal(vklayer_live(kind), 0);
    for (uint32_t heap = 0; heap < VK_MAX_MEMORY_HEAPS; heap++)
        for (uint32_t device = 0; device < MACHINE_DEVICES_MAX; device++)
            assert_int_equal(vklayer_heap_bytes(device, heap), 0);
    assert_int_equal(vklayer_mismatches(), 0);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

void run_small_world(world *w)
{
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.n_layers = 2;
    world_init(w, &t);
}

const gemma_plan_options run_small_plan = { .size = sizeof run_small_plan, .ctx = 64, .ubatch = 1 };

/* Skips the test where there is no software device to test on. */
static void need_device(const gemma_vulkan_host *vulkan)
{
    gemma_runtime *runtime;
    gemma_error error = { .size = sizeof error };
    gemma_device_info info = { .size = sizeof info };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .vulkan = vulkan };
    uint32_t device;
    assert_ok(gemma_runtime_create(NULL, &ro, &runtime, &error), error.message);
    int rc = gemma_device_find(runtime, "vulkan", &device, &error);
    if (!rc) assert_ok(gemma_device_describe(runtime, device, &info), "describe");
    gemma_runtime_destroy(runtime);
    if (info.kind == GEMMA_DEVICE_SOFTWARE) return;
    print_message("SKIPPED: no software Vulkan device: %s\n", rc ? error.message : info.name);
    run_skipped = true;
    skip();
}

void run_begin(gemma_vulkan_host *vulkan)
{
    if (vklayer_host_init(vulkan)) return need_device(vulkan);
    print_message("SKIPPED: no Vulkan loader\n");
    run_skipped = true;
    skip();
}
