/* The software Vulkan device under tests/vklayer: what is planned is allocated, a token is one submit and creates
 * nothing; each call that can fail fails once; the device is lost; there is no device. Skipped without a driver
 * (VK_DRIVER_FILES names one). */
#include "fault/run.h"

#include <vulkan/vulkan_core.h>

enum { N_LONG = 100 };

static int run_whole(run *r, const world *w, const gemma_vulkan_host *vulkan)
{
    int rc = run_open_runtime(r, w, vulkan);
    if (!rc) rc = run_open_model(r, run_small_plan);
    if (!rc) rc = run_generate(r);
    if (rc) assert_true(strlen(r->error.message) > 10);
    run_finish(r);
    return rc ? rc : r->first_rc;
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

/* A model whose matrices are Q8_0 on the device and half as much in the file. */
static void converted_world(world *w)
{
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.n_layers = 2;
    t.n_ff = 128;
    t.type = t.table_type = GM_NVFP4;
    world_init(w, &t);
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
    run_begin(&vulkan);
    for (size_t i = 0; i < 2 * COUNT(plans); i++) {
        world w;
        run r;
        i % 2 ? converted_world(&w) : run_small_world(&w);
        vklayer_host_init(&vulkan);
        assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
        assert_int_equal(vklayer_live(VKLAYER_DEVICE), 0); /* listing is cheap */
        gemma_plan_info info = { .size = sizeof info };
        assert_ok(run_open_model(&r, plans[i / 2]), r.error.message);
        assert_int_equal(gemma_plan_describe(r.plan, &info), GEMMA_OK);
        assert_int_equal(info.n_converted > 0, i % 2);
        check_bill(&r);
        run_finish(&r);
        world_close(&w);
    }
}

static void tokens_create_nothing(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    run_begin(&vulkan);
    run_small_world(&w);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    gemma_plan_options po = run_small_plan;
    po.ctx = N_LONG + 28;
    assert_ok(run_open_model(&r, po), r.error.message);
    uint64_t created = vklayer_created_objects(), submits = vklayer_submits(), allocations = fault_allocations();
    int32_t id = PROMPT;
    for (uint64_t i = 1; i <= N_LONG; i++) {
        assert_ok(run_token(&r, id, &id), r.error.message);
        assert_int_equal(vklayer_submits() - submits, i);
    }
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    check_bill(&r);
    run_finish(&r);
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
    run_begin(&vulkan);
    run_small_world(&w);
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
    assert_int_equal(run_token(r, PROMPT, &id), GEMMA_E_LOST);
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
    run_begin(&vulkan);
    run_small_world(&w);
    assert_ok(run_whole(&good, &w, &vulkan), good.error.message);
    for (uint64_t nth = 1; nth <= N_TOKENS; nth++) {
        vklayer_host_init(&vulkan);
        assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
        assert_ok(run_open_model(&r, run_small_plan), r.error.message);
        uint64_t loaded = vklayer_submits();
        vklayer_lose_at(nth);
        assert_int_equal(run_generate(&r), GEMMA_E_LOST);
        assert_int_equal(vklayer_submits() - loaded, nth);
        assert_memory_equal(r.ids, good.ids, (nth - 1) * sizeof *r.ids);
        stays_lost(&r);
        run_finish(&r);
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
    run_small_world(&w);
    assert_ok(run_open_runtime(&r, &w, vulkan), r.error.message);
    gemma_plan_options po = run_small_plan;
    assert_ok(gemma_device_find(r.runtime, "auto", &po.device, &r.error), r.error.message);
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_int_equal(gemma_plan_describe(r.plan, &info), GEMMA_OK);
    assert_int_equal(info.device, 0);
    assert_non_null(strstr(info.note, why));
    assert_int_equal(gemma_device_find(r.runtime, "vulkan", &device, &r.error), GEMMA_E_DEVICE);
    assert_non_null(strstr(r.error.message, why));
    run_finish(&r);
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
    run_begin(&vulkan); /* a list needs an instance */
    vklayer_show(VKLAYER_NO_DEVICE);
    check_without(&vulkan, "Vulkan has no device here; on Linux the process needs access to /dev/dri/renderD*");
}

/* What a user sees who may not open a GPU's file, where a software driver is installed too. */
static void software_only(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    run_begin(&vulkan);
    run_small_world(&w);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    gemma_plan_info info = { .size = sizeof info };
    gemma_plan_options po = run_small_plan;
    po.device = GEMMA_DEVICE_AUTO;
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_int_equal(gemma_plan_describe(r.plan, &info), GEMMA_OK);
    assert_int_equal(info.device, 0);
    assert_non_null(strstr(info.note, "Vulkan has only software here ("));
    assert_non_null(strstr(info.note, "needs access to /dev/dri/renderD*"));
    run_finish(&r);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_loader),       cmocka_unit_test(without_driver),
        cmocka_unit_test(without_device),       cmocka_unit_test(software_only),
        cmocka_unit_test(planned_is_allocated), cmocka_unit_test(tokens_create_nothing),
        cmocka_unit_test(each_call_fails),      cmocka_unit_test(device_lost),
    };
    int n_failed = cmocka_run_group_tests_name("vulkan", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
