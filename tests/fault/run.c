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

machine run_machine(const char *path, uint32_t variant)
{
    machine m;
    char error[256];
    if (!machine_read(path, variant, &m, error, sizeof error)) fail_msg("%s", error);
    return m;
}

uint32_t run_device(const run *r, const char *name)
{
    gemma_device_info info = { .size = sizeof info };
    for (uint32_t i = 0; i < gemma_device_count(r->runtime); i++) {
        assert_int_equal(gemma_device_describe(r->runtime, i, &info), GEMMA_OK);
        if (strcmp(info.name, name) == 0) return i;
    }
    fail_msg("%s is not listed", name);
    return 0;
}

static uint64_t planned_for(gemma_plan *plan, uint32_t device, uint32_t heap)
{
    for (uint32_t i = 0; plan && i < gemma_plan_n_heaps(plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        assert_int_equal(gemma_plan_bill(plan, i, &bill), GEMMA_OK);
        if (bill.device == device && bill.heap == heap) return bill.total_bytes;
    }
    return 0;
}

/* The library numbers heaps in its own order; its heap and the driver's have the same size. Heaps of one size are
 * counted together. */
static void check_device(const run *r, gemma_plan *plan, const machine *m, uint32_t number, const char *where)
{
    const VkPhysicalDeviceMemoryProperties *memory = &m->devices[number].memory;
    uint32_t device = run_device(r, m->devices[number].name);
    gemma_device_info info = { .size = sizeof info };
    assert_int_equal(gemma_device_describe(r->runtime, device, &info), GEMMA_OK);
    assert_int_equal(info.n_heaps, memory->memoryHeapCount);
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
        uint64_t counted = 0, planned = 0;
        for (uint32_t k = 0; k < memory->memoryHeapCount; k++) {
            gemma_heap_info heap = { .size = sizeof heap };
            assert_int_equal(gemma_heap_describe(r->runtime, device, k, &heap), GEMMA_OK);
            if (heap.total_bytes == memory->memoryHeaps[i].size) planned += planned_for(plan, device, k);
            if (memory->memoryHeaps[k].size == memory->memoryHeaps[i].size) counted += vklayer_heap_bytes(number, k);
        }
        if (counted != planned)
            fail_msg("%s: heap %u of %s has %llu bytes, and %llu were planned", where, i, info.name,
                     (unsigned long long)counted, (unsigned long long)planned);
    }
}

void run_check_bill(const run *r, gemma_plan *plan, const machine *m, const char *where)
{
    for (uint32_t i = 0; i < m->n_devices; i++) check_device(r, plan, m, i, where);
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
