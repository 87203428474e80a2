/* The software Vulkan device under tests/vklayer: what is planned is allocated, a token is one submit and creates
 * nothing; each call that can fail fails once; the device is lost; there is no device. Skipped without a driver
 * (VK_DRIVER_FILES names one). */
#include "api/world.h"
#include "vklayer/vklayer.h"

#include <vulkan/vulkan_core.h>

enum { N_TOKENS = 5, N_LONG = 100, PROMPT = TINY_ASCII + 40 };

static bool something_skipped;

typedef struct run {
    gemma_runtime *runtime;
    gemma_file *file;
    gemma_plan *plan;
    gemma_model *model;
    gemma_session *session;
    gemma_step *step;
    int32_t ids[N_TOKENS];
    gemma_error error;
    int first_rc; /* of a step that was done again */
    bool all;     /* tokens are there */
} run;

/* ---- a run ---- */

static int open_runtime(run *r, const world *w, const gemma_vulkan_host *vulkan)
{
    *r = (run){ .error = { .size = sizeof r->error } };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .vulkan = vulkan };
    gemma_file_options fo = { .size = sizeof fo, .bytes = w->bytes, .n_bytes = w->n_bytes };
    int rc = gemma_runtime_create(&w->host, &ro, &r->runtime, &r->error);
    return rc ? rc : gemma_file_open(r->runtime, NULL, &fo, &r->file, &r->error);
}

static int open_model(run *r, gemma_plan_options po)
{
    int rc = gemma_device_find(r->runtime, "vulkan", &po.device, &r->error);
    if (!rc) rc = gemma_plan_create(r->file, &po, &r->plan, &r->error);
    if (!rc) rc = gemma_model_load(r->plan, NULL, &r->model, &r->error);
    if (!rc) rc = gemma_session_create(r->model, NULL, &r->session, &r->error);
    if (!rc) rc = gemma_step_create(r->model, &r->step, &r->error);
    return rc;
}

/* One token in, the likeliest out. */
static int next(run *r, int32_t id, int32_t *best)
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

/* A step that failed and did not lose the device is done again: it must have changed nothing. */
static int generate(run *r)
{
    int32_t id = PROMPT;
    for (int i = 0; i < N_TOKENS; i++) {
        int rc = next(r, id, &r->ids[i]);
        if (rc == GEMMA_E_LOST) return rc;
        if (rc) {
            assert_int_equal(r->first_rc, GEMMA_OK);
            r->first_rc = rc;
            assert_true(strlen(r->error.message) > 10);
            rc = next(r, id, &r->ids[i]);
        }
        if (rc) return rc;
        id = r->ids[i];
    }
    r->all = true;
    return GEMMA_OK;
}

static void finish(run *r)
{
    gemma_step_destroy(r->step);
    gemma_session_destroy(r->session);
    gemma_model_close(r->model);
    gemma_plan_destroy(r->plan);
    gemma_file_close(r->file);
    gemma_runtime_destroy(r->runtime);
    for (int kind = 0; kind < VKLAYER_KINDS; kind++) assert_int_equal(vklayer_live(kind), 0);
    for (uint32_t heap = 0; heap < VK_MAX_MEMORY_HEAPS; heap++) assert_int_equal(vklayer_heap_bytes(0, heap), 0);
    assert_int_equal(vklayer_mismatches(), 0);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_mismatches(), 0);
}

/* Two layers, as few kernels as there can be. */
static void small_world(world *w)
{
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.n_layers = 2;
    world_init(w, &t);
}

static const gemma_plan_options small_plan = { .size = sizeof small_plan, .ctx = 64, .ubatch = 1 };

static int run_whole(run *r, const world *w, const gemma_vulkan_host *vulkan)
{
    int rc = open_runtime(r, w, vulkan);
    if (!rc) rc = open_model(r, small_plan);
    if (!rc) rc = generate(r);
    if (rc) assert_true(strlen(r->error.message) > 10);
    finish(r);
    return rc ? rc : r->first_rc;
}

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
    something_skipped = true;
    skip();
}

static void begin(gemma_vulkan_host *vulkan)
{
    if (vklayer_host_init(vulkan)) return need_device(vulkan);
    print_message("SKIPPED: no Vulkan loader\n");
    something_skipped = true;
    skip();
}

/* ---- the bill ---- */

static void check_bill(const run *r)
{
    uint64_t all = 0, billed = 0;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(r->plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        assert_int_equal(gemma_plan_bill(r->plan, i, &bill), GEMMA_OK);
        assert_true(bill.total_bytes > 0);
        assert_int_equal(vklayer_heap_bytes(0, bill.heap), bill.total_bytes);
        billed += bill.total_bytes;
    }
    for (uint32_t heap = 0; heap < VK_MAX_MEMORY_HEAPS; heap++) all += vklayer_heap_bytes(0, heap);
    assert_int_equal(all, billed);
}

static void planned_is_allocated(void **state)
{
    (void)state;
    static const gemma_plan_options plans[] = {
        { .size = sizeof *plans, .ctx = 64, .ubatch = 1 },
        { .size = sizeof *plans, .ctx = 200, .ubatch = 3, .n_sessions = 3, .n_marks = 1, .logit_rows = 2 },
        { .size = sizeof *plans, .ctx = 512, .ubatch = 1, .kv_global = GEMMA_TYPE_F32, .kv_sliding = GEMMA_TYPE_F32 },
    };
    gemma_vulkan_host vulkan;
    begin(&vulkan);
    for (size_t i = 0; i < COUNT(plans); i++) {
        world w;
        run r;
        small_world(&w);
        vklayer_host_init(&vulkan);
        assert_ok(open_runtime(&r, &w, &vulkan), r.error.message);
        assert_int_equal(vklayer_live(VKLAYER_DEVICE), 0); /* listing is cheap */
        assert_ok(open_model(&r, plans[i]), r.error.message);
        check_bill(&r);
        finish(&r);
        world_close(&w);
    }
}

static void tokens_create_nothing(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    begin(&vulkan);
    small_world(&w);
    assert_ok(open_runtime(&r, &w, &vulkan), r.error.message);
    gemma_plan_options po = small_plan;
    po.ctx = N_LONG + 28;
    assert_ok(open_model(&r, po), r.error.message);
    uint64_t created = vklayer_created_objects(), submits = vklayer_submits(), allocations = fault_allocations();
    int32_t id = PROMPT;
    for (uint64_t i = 1; i <= N_LONG; i++) {
        assert_ok(next(&r, id, &id), r.error.message);
        assert_int_equal(vklayer_submits() - submits, i);
    }
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    check_bill(&r);
    finish(&r);
    world_close(&w);
}

/* ---- calls that fail ---- */

/* Without their answer the device is used with less. */
static bool can_be_missed(const char *call)
{
    return !strcmp(call, "vkEnumerateInstanceExtensionProperties") ||
           !strcmp(call, "vkEnumerateDeviceExtensionProperties");
}

static void check_failure(const run *r, const run *good, int rc, int32_t result)
{
    const char *call = vklayer_victim();
    if (!rc && can_be_missed(call)) return assert_memory_equal(r->ids, good->ids, sizeof r->ids);
    bool host = result == VK_ERROR_OUT_OF_HOST_MEMORY;
    /* What the device still does could not be waited for. */
    if (!strcmp(call, "vkQueueWaitIdle")) return assert_int_equal(rc, GEMMA_E_LOST);
    if (rc != (host ? GEMMA_E_NOMEM : GEMMA_E_DEVMEM) && rc != GEMMA_E_DEVICE)
        fail_msg("%s failed with %d, and the run ended with %d: %s", call, (int)result, rc, r->error.message);
    if (r->all) assert_memory_equal(r->ids, good->ids, sizeof r->ids);
}

static void each_call_fails(void **state)
{
    (void)state;
    static const struct {
        uint64_t n; /* in a row: the second is the wait for the device to settle, or what cleans up */
        int32_t result;
    } failures[] = { { 1, VK_ERROR_OUT_OF_DEVICE_MEMORY },
                     { 1, VK_ERROR_OUT_OF_HOST_MEMORY },
                     { 2, VK_ERROR_OUT_OF_DEVICE_MEMORY } };
    gemma_vulkan_host vulkan;
    world w;
    run r, good;
    begin(&vulkan);
    small_world(&w);
    assert_ok(run_whole(&good, &w, &vulkan), good.error.message);
    for (size_t i = 0; i < COUNT(failures); i++) {
        uint64_t n_failed = 0;
        for (uint64_t nth = 1;; nth++) {
            vklayer_host_init(&vulkan);
            vklayer_fail_from(nth, failures[i].n, failures[i].result);
            int rc = run_whole(&r, &w, &vulkan);
            if (!vklayer_fired()) break;
            n_failed++;
            check_failure(&r, &good, rc, failures[i].result);
        }
        print_message("%u calls failed\n", (unsigned)n_failed);
        assert_true(n_failed > 50);
    }
    const char *spared = vklayer_spared();
    if (spared) fail_msg("%s was called and never failed", spared);
    vklayer_host_init(&vulkan);
    assert_ok(run_whole(&r, &w, &vulkan), r.error.message);
    assert_memory_equal(r.ids, good.ids, sizeof r.ids);
    world_close(&w);
}

/* ---- a lost device ---- */

static void stays_lost(run *r)
{
    int32_t id;
    uint32_t device;
    gemma_model *model;
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(next(r, PROMPT, &id), GEMMA_E_LOST);
    assert_true(strlen(r->error.message) > 10);
    assert_int_equal(gemma_model_query(r->model, &status), GEMMA_OK);
    assert_int_equal(status.lost, 1);
    assert_int_equal(gemma_model_load(r->plan, NULL, &model, &r->error), GEMMA_E_LOST);
    assert_null(model);
    assert_int_equal(gemma_device_find(r->runtime, "vulkan", &device, &r->error), GEMMA_E_DEVICE);
    assert_non_null(strstr(r->error.message, "lost"));
}

static void device_lost(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r, good;
    begin(&vulkan);
    small_world(&w);
    assert_ok(run_whole(&good, &w, &vulkan), good.error.message);
    for (uint64_t nth = 1; nth <= N_TOKENS; nth++) {
        vklayer_host_init(&vulkan);
        vklayer_lose_at(nth);
        assert_ok(open_runtime(&r, &w, &vulkan), r.error.message);
        assert_ok(open_model(&r, small_plan), r.error.message);
        assert_int_equal(generate(&r), GEMMA_E_LOST);
        assert_int_equal(vklayer_submits(), nth);
        assert_memory_equal(r.ids, good.ids, (nth - 1) * sizeof *r.ids);
        stays_lost(&r);
        finish(&r);
        assert_ok(run_whole(&r, &w, &vulkan), r.error.message);
        assert_memory_equal(r.ids, good.ids, sizeof r.ids);
    }
    world_close(&w);
}

/* ---- no device ---- */

static bool no_loader;

/* The linker puts these around dlopen (--wrap). */
void *__real_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags) { return no_loader ? NULL : __real_dlopen(name, flags); }

static void check_without(const gemma_vulkan_host *vulkan, const char *why)
{
    world w;
    run r;
    uint32_t device;
    gemma_plan_info info = { .size = sizeof info };
    small_world(&w);
    assert_ok(open_runtime(&r, &w, vulkan), r.error.message);
    gemma_plan_options po = small_plan;
    assert_ok(gemma_device_find(r.runtime, "auto", &po.device, &r.error), r.error.message);
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_int_equal(gemma_plan_describe(r.plan, &info), GEMMA_OK);
    assert_int_equal(info.device, 0);
    assert_non_null(strstr(info.note, why));
    assert_int_equal(gemma_device_find(r.runtime, "vulkan", &device, &r.error), GEMMA_E_DEVICE);
    assert_non_null(strstr(r.error.message, why));
    finish(&r);
    world_close(&w);
}

static void without_loader(void **state)
{
    (void)state;
    no_loader = true;
    check_without(NULL, "no Vulkan loader is installed");
    no_loader = false;
}

static void without_driver(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    if (!vklayer_host_init(&vulkan)) skip();
    vklayer_show(VKLAYER_NO_DRIVER);
    check_without(&vulkan, "no Vulkan driver is installed");
    vklayer_show(VKLAYER_OLD);
    check_without(&vulkan, "older than Vulkan 1.2");
}

static void without_device(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    begin(&vulkan); /* a list needs an instance */
    vklayer_show(VKLAYER_NO_DEVICE);
    check_without(&vulkan, "Vulkan has no device here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_loader),        cmocka_unit_test(without_driver),
        cmocka_unit_test(without_device),        cmocka_unit_test(planned_is_allocated),
        cmocka_unit_test(tokens_create_nothing), cmocka_unit_test(each_call_fails),
        cmocka_unit_test(device_lost),
    };
    int n_failed = cmocka_run_group_tests_name("vulkan", tests, NULL, NULL);
    return n_failed ? n_failed : something_skipped ? 77 : 0;
}
