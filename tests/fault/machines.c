/* The software Vulkan device posing as every described machine (tests/machines) and each of its variants: what is
 * planned is allocated on the heap it was planned for, weights lie in the device's own memory, staging where the CPU
 * sees it, the tokens are those of the device as it is, budgets are believed. Skipped without a driver. An argument
 * chooses files by part of their names. */
#include "fault/run.h"
#include "common/machine_host.h"

#include <glob.h>
#include <stdio.h>
#include <vulkan/vulkan_core.h>

static const char *chosen = "";

/* ---- what the layer counted ---- */

/* Bytes in memory types that have the flags `with` and none of `without`. */
static uint64_t bytes_in(const machine *m, uint32_t device, VkMemoryPropertyFlags with, VkMemoryPropertyFlags without)
{
    const VkPhysicalDeviceMemoryProperties *memory = &m->devices[device].memory;
    uint64_t n = 0;
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;
        if ((flags & with) == with && !(flags & without)) n += vklayer_type_bytes(device, i);
    }
    return n;
}

/* ---- the bill ---- */

static gemma_bill bill_of(const run *r, uint32_t line)
{
    gemma_bill bill = { .size = sizeof bill };
    assert_int_equal(gemma_plan_bill(r->plan, line, &bill), GEMMA_OK);
    return bill;
}

static void check_places(const run *r, const machine *m, uint32_t number, const char *where)
{
    const machine_device *d = &m->devices[number];
    uint64_t all = 0, staging = 0, own, seen, unseen;
    for (uint32_t i = 0; i < gemma_plan_n_heaps(r->plan); i++) {
        all += bill_of(r, i).total_bytes;
        staging += gemma_plan_class_bytes(r->plan, i, GEMMA_CLASS_STAGING);
    }
    own = bytes_in(m, number, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0);
    seen = bytes_in(m, number, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, 0);
    unseen = bytes_in(m, number, 0, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    if (own < all - staging) fail_msg("%s: weights lie outside the device's memory", where);
    if (seen < staging) fail_msg("%s: staging is unseen", where);
    if (d->type != VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU) return;
    /* A card's own memory is for the card alone, and what the CPU writes does not take any of it. */
    if (unseen != all - staging) fail_msg("%s: %llu bytes unseen", where, (unsigned long long)unseen);
    if (own != all - staging) fail_msg("%s: staging lies in the card's memory", where);
}

static void check_budgets(const run *r, const machine *m, uint32_t number, uint32_t device)
{
    const machine_device *d = &m->devices[number];
    for (uint32_t i = 0; i < d->memory.memoryHeapCount; i++) {
        gemma_heap_info heap = { .size = sizeof heap };
        bool found = false;
        assert_int_equal(gemma_heap_describe(r->runtime, device, i, &heap), GEMMA_OK);
        for (uint32_t k = 0; k < d->memory.memoryHeapCount && !found; k++) {
            uint64_t size = d->memory.memoryHeaps[k].size, budget = size < d->budgets[k] ? size : d->budgets[k];
            uint64_t used = d->constant_budget ? 0 : vklayer_heap_bytes(number, k);
            bool pooled = d->shared_heaps >> k & 1 && !d->constant_budget;
            found = heap.total_bytes == size && heap.used_bytes == used &&
                    (heap.budget_bytes == budget || (pooled && heap.budget_bytes < budget));
        }
        assert_true(found);
    }
}

/* ---- a machine ---- */

/* What is asked of a device: a model, a plan, how many tokens it reads in front, and what it must then say. */
typedef struct job {
    const world *w;
    gemma_plan_options plan;
    size_t n_prompt;
    int32_t ids[N_TOKENS];
} job;

static int work(run *r, const job *j)
{
    int rc = j->n_prompt ? run_prompt(r, j->n_prompt) : GEMMA_OK;
    return rc ? rc : run_generate(r);
}

/* On the device as it is. */
static void ask(job *j, const gemma_vulkan_host *vulkan)
{
    run r;
    vklayer_pose(NULL);
    assert_ok(run_open_runtime(&r, j->w, vulkan), r.error.message);
    assert_ok(run_open_model(&r, j->plan), r.error.message);
    assert_ok(work(&r, j), r.error.message);
    memcpy(j->ids, r.ids, sizeof j->ids);
    run_finish(&r);
}

/* What gemma-plan says of the machine without a driver is what the posing device is billed. */
static void check_described(const job *j, const machine *m, uint32_t number, const gemma_bill *bills, uint32_t n)
{
    gemma_vulkan_host described = machine_host(m);
    gemma_plan_options po = j->plan;
    run r;
    assert_ok(run_open_runtime(&r, j->w, &described), r.error.message);
    po.device = run_device(&r, m->devices[number].name);
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_int_equal(gemma_plan_n_heaps(r.plan), n);
    for (uint32_t i = 0; i < n; i++) {
        gemma_bill bill = bill_of(&r, i);
        assert_memory_equal(&bill, &bills[i], sizeof bill);
    }
    assert_int_equal(gemma_model_load(r.plan, NULL, &r.model, &r.error), GEMMA_E_INTERNAL);
    assert_non_null(strstr(r.error.message, "vkCreateDevice"));
    run_finish(&r);
}

static void check_device(const job *j, const gemma_vulkan_host *vulkan, const machine *m, uint32_t number)
{
    char where[512];
    run r;
    snprintf(where, sizeof where, "%s (%s), device %u", m->id, m->variant, number);
    assert_ok(run_open_runtime(&r, j->w, vulkan), r.error.message);
    gemma_plan_options po = j->plan;
    gemma_device_info info = { .size = sizeof info };
    po.device = run_device(&r, m->devices[number].name);
    assert_int_equal(gemma_device_describe(r.runtime, po.device, &info), GEMMA_OK);
    if (m->devices[number].shared_bytes < 32768) { /* a newer Raspberry Pi's: refused before anything is planned */
        assert_int_equal(info.usable, 0);
        assert_non_null(strstr(info.reason, "smaller than the kernels need"));
        return run_finish(&r);
    }
    if (!info.usable) fail_msg("%s cannot be used: %s", where, info.reason);
    if (run_open_model_on(&r, po)) fail_msg("%s: %s", where, r.error.message);
    gemma_bill bills[4];
    uint32_t n_bills = gemma_plan_n_heaps(r.plan);
    assert_in_range(n_bills, 1, COUNT(bills));
    for (uint32_t i = 0; i < n_bills; i++) bills[i] = bill_of(&r, i);
    run_check_bill(&r, r.plan, m, where);
    check_places(&r, m, number, where);
    check_budgets(&r, m, number, po.device);
    uint64_t created = vklayer_created_objects(), allocations = fault_allocations();
    if (work(&r, j)) fail_msg("%s: %s", where, r.error.message);
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    run_check_bill(&r, r.plan, m, where);
    if (memcmp(r.ids, j->ids, sizeof r.ids)) fail_msg("%s: other tokens", where);
    run_finish(&r);
    check_described(j, m, number, bills, n_bills);
}

static uint32_t check_file(const job *j, const gemma_vulkan_host *vulkan, const char *path)
{
    uint32_t variant = 0, n = 0;
    machine m;
    do {
        m = run_machine(path, variant);
        vklayer_pose(&m);
        for (uint32_t i = 0; i < m.n_devices; i++, n++) check_device(j, vulkan, &m, i);
    } while (variant++ < m.n_variants);
    return n;
}

static void every_machine(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    glob_t files;
    uint32_t n = 0;
    run_begin(&vulkan);
    run_small_world(&w);
    job j = { .w = &w, .plan = run_small_plan };
    ask(&j, &vulkan);
    assert_int_equal(glob("machines/*.json", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (strstr(files.gl_pathv[i], chosen)) n += check_file(&j, &vulkan, files.gl_pathv[i]);
    globfree(&files);
    print_message("%u devices\n", n);
    if (!*chosen) assert_true(n >= 23);
    world_close(&w);
}

/* A card without a window into its memory, one with a small window, memory that is all shared. */
static const char *const kinds[] = { "machines/rtx3050-680m-16-windows.json", "machines/rx580-8-linux.json",
                                     "machines/adreno-750-12-android.json" };

/* Gemma 4 with per-layer embeddings that stay in the file, and with experts; a prompt of several steps. */
static void every_kind_of_model(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    run_begin(&vulkan);
    for (int experts = 0; experts <= 1; experts++) {
        world w;
        tiny_model t;
        tiny_model_defaults(&t, 4);
        if (experts) {
            t.n_ple = t.n_shared = 0;
            t.n_expert = 8;
            t.n_used = 2;
            t.n_ff_expert = 64;
        }
        world_init(&w, &t);
        job j = { .w = &w, .plan = { .size = sizeof j.plan, .ctx = 64, .ubatch = 8 }, .n_prompt = 20 };
        ask(&j, &vulkan);
        for (size_t i = 0; i < COUNT(kinds); i++) {
            machine m = run_machine(kinds[i], 0);
            vklayer_pose(&m);
            for (uint32_t d = 0; d < m.n_devices; d++) check_device(&j, &vulkan, &m, d);
        }
        world_close(&w);
    }
}

/* AMD's types for debuggers, although they come first here. */
static void types_never_taken(void **state)
{
    (void)state;
    const VkMemoryPropertyFlags never =
        VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    run_begin(&vulkan);
    run_small_world(&w);
    machine m = run_machine("machines/780m-32-windows.json", 0);
    VkPhysicalDeviceMemoryProperties *memory = &m.devices[0].memory;
    VkMemoryType types[VK_MAX_MEMORY_TYPES];
    memcpy(types, memory->memoryTypes, sizeof types);
    for (uint32_t i = 0, n = memory->memoryTypeCount; i < n; i++) memory->memoryTypes[i] = types[n - 1 - i];
    assert_true(memory->memoryTypes[0].propertyFlags & never);
    vklayer_pose(&m);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    assert_ok(run_open_model(&r, run_small_plan), r.error.message);
    assert_true(vklayer_live(VKLAYER_MEMORY) > 0);
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++)
        if (memory->memoryTypes[i].propertyFlags & never) assert_int_equal(vklayer_type_bytes(0, i), 0);
    run_finish(&r);
    world_close(&w);
}

/* ---- budgets and refusals ---- */

/* A budget that shrinks is seen by the next plan, and by the load of one made before. */
static void budgets_change(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    run_begin(&vulkan);
    run_small_world(&w);
    machine m = run_machine("machines/rtx3050-680m-16-linux.json", 0);
    vklayer_pose(&m);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    gemma_plan_options po = run_small_plan;
    gemma_plan *late;
    po.device = run_device(&r, m.devices[0].name);
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_ok(gemma_plan_check(r.plan, &r.error), r.error.message);
    vklayer_budget(0, 0, 1 << 20);
    assert_int_equal(gemma_model_load(r.plan, NULL, &r.model, &r.error), GEMMA_E_STALE);
    assert_non_null(strstr(r.error.message, m.devices[0].name));
    assert_ok(gemma_plan_create(r.file, &po, &late, &r.error), r.error.message);
    assert_int_equal(gemma_plan_check(late, &r.error), GEMMA_E_NOFIT);
    gemma_plan_destroy(late);
    assert_int_equal(vklayer_created(VKLAYER_MEMORY), 0);
    vklayer_budget(0, 0, m.devices[0].budgets[0]);
    assert_ok(gemma_model_load(r.plan, NULL, &r.model, &r.error), r.error.message);
    run_finish(&r);
    world_close(&w);
}

/* What the driver refuses, although the plan was told there is room. */
static void past_the_heap(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    run_begin(&vulkan);
    run_small_world(&w);
    machine m = run_machine("machines/rtx3050-680m-16-linux.json", 0);
    m.devices[0].memory.memoryHeaps[0].size = 64 << 10;
    vklayer_pose(&m);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    gemma_plan_options po = run_small_plan;
    po.device = run_device(&r, m.devices[0].name);
    po.budget_bytes = (uint64_t)1 << 30;
    assert_int_equal(run_open_model_on(&r, po), GEMMA_E_DEVMEM);
    assert_null(r.model);
    assert_non_null(strstr(r.error.message, m.devices[0].name));
    assert_int_equal(vklayer_live(VKLAYER_MEMORY), 0);
    run_finish(&r);
    world_close(&w);
}

/* ---- which device ---- */

static void check_auto(const world *w, const gemma_vulkan_host *vulkan, const char *name, const char *passed_over)
{
    run r;
    gemma_plan_info info = { .size = sizeof info };
    gemma_device_info device = { .size = sizeof device };
    gemma_plan_options po = run_small_plan;
    po.device = GEMMA_DEVICE_AUTO;
    assert_ok(run_open_runtime(&r, w, vulkan), r.error.message);
    assert_ok(gemma_plan_create(r.file, &po, &r.plan, &r.error), r.error.message);
    assert_int_equal(gemma_plan_describe(r.plan, &info), GEMMA_OK);
    assert_int_equal(gemma_device_describe(r.runtime, info.device, &device), GEMMA_OK);
    if (name) assert_string_equal(device.name, name);
    if (!name) assert_int_equal(device.kind, GEMMA_DEVICE_CPU);
    if (passed_over) assert_non_null(strstr(info.note, passed_over));
    run_finish(&r);
}

/* The card of a laptop, in whichever order its two GPUs are listed; the other one where the card is full; the CPU. */
static void the_best_is_taken(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run_begin(&vulkan);
    run_small_world(&w);
    for (uint32_t card = 0; card <= 1; card++) {
        machine m = run_machine("machines/rtx3050-680m-16-windows.json", 0);
        if (card) {
            machine_device first = m.devices[0];
            m.devices[0] = m.devices[1];
            m.devices[1] = first;
        }
        const char *names[2] = { m.devices[card].name, m.devices[!card].name };
        vklayer_pose(&m);
        check_auto(&w, &vulkan, names[0], NULL);
        vklayer_budget(card, 0, 1 << 20);
        check_auto(&w, &vulkan, names[1], names[0]);
        vklayer_budget(!card, 1, 1 << 20);
        check_auto(&w, &vulkan, NULL, names[1]);
    }
    machine small = run_machine("machines/raspberry-pi-5-8-linux.json", 1);
    vklayer_pose(&small);
    check_auto(&w, &vulkan, NULL, "V3D 7.1.10.2: its compute limits are smaller than the kernels need");
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (argc > 1) chosen = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_machine),     cmocka_unit_test(every_kind_of_model),
                                        cmocka_unit_test(types_never_taken), cmocka_unit_test(budgets_change),
                                        cmocka_unit_test(past_the_heap),     cmocka_unit_test(the_best_is_taken) };
    int n_failed = cmocka_run_group_tests_name("machines", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
