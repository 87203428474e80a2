/* The software Vulkan device posing as every described machine (tests/machines) and each of its variants: what is
 * planned is allocated on the heap it was planned for, weights lie in the device's own memory, staging where the CPU
 * sees it, the tokens are those of the device as it is, budgets are believed. Skipped without a driver. An argument
 * chooses files by part of their names. */
#include "fault/run.h"

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

static uint64_t planned_for(const run *r, uint32_t heap)
{
    for (uint32_t i = 0; i < gemma_plan_n_heaps(r->plan); i++)
        if (bill_of(r, i).heap == heap) return bill_of(r, i).total_bytes;
    return 0;
}

/* The library numbers heaps in its own order; its heap and the driver's have the same size. Heaps of one size are
 * counted together. */
static void check_bill(const run *r, const machine *m, uint32_t number, uint32_t device, const char *where)
{
    const VkPhysicalDeviceMemoryProperties *memory = &m->devices[number].memory;
    gemma_device_info info = { .size = sizeof info };
    assert_int_equal(gemma_device_describe(r->runtime, device, &info), GEMMA_OK);
    assert_int_equal(info.n_heaps, memory->memoryHeapCount);
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
        uint64_t counted = 0, planned = 0;
        for (uint32_t k = 0; k < memory->memoryHeapCount; k++) {
            gemma_heap_info heap = { .size = sizeof heap };
            assert_int_equal(gemma_heap_describe(r->runtime, device, k, &heap), GEMMA_OK);
            if (heap.total_bytes == memory->memoryHeaps[i].size) planned += planned_for(r, k);
            if (memory->memoryHeaps[k].size == memory->memoryHeaps[i].size) counted += vklayer_heap_bytes(number, k);
        }
        if (counted != planned)
            fail_msg("%s: heap %u has %llu bytes, and %llu were planned", where, i, (unsigned long long)counted,
                     (unsigned long long)planned);
    }
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

static uint32_t device_named(const run *r, const char *name, gemma_device_info *info)
{
    info->size = sizeof *info;
    for (uint32_t i = 0; i < gemma_device_count(r->runtime); i++) {
        assert_int_equal(gemma_device_describe(r->runtime, i, info), GEMMA_OK);
        if (strcmp(info->name, name) == 0) return i;
    }
    fail_msg("%s is not listed", name);
    return 0;
}

static void check_device(const world *w, const gemma_vulkan_host *vulkan, const machine *m, uint32_t number,
                         const int32_t ids[N_TOKENS])
{
    char where[512];
    run r;
    snprintf(where, sizeof where, "%s (%s), device %u", m->id, m->variant, number);
    assert_ok(run_open_runtime(&r, w, vulkan), r.error.message);
    gemma_plan_options po = run_small_plan;
    gemma_device_info info;
    po.device = device_named(&r, m->devices[number].name, &info);
    if (m->devices[number].shared_bytes < 32768) { /* a newer Raspberry Pi's: refused before anything is planned */
        assert_int_equal(info.usable, 0);
        assert_non_null(strstr(info.reason, "smaller than the kernels need"));
        return run_finish(&r);
    }
    if (!info.usable) fail_msg("%s cannot be used: %s", where, info.reason);
    if (run_open_model_on(&r, po)) fail_msg("%s: %s", where, r.error.message);
    check_bill(&r, m, number, po.device, where);
    check_places(&r, m, number, where);
    check_budgets(&r, m, number, po.device);
    uint64_t created = vklayer_created_objects(), allocations = fault_allocations();
    if (run_generate(&r)) fail_msg("%s: %s", where, r.error.message);
    assert_int_equal(vklayer_created_objects(), created);
    assert_int_equal(fault_allocations(), allocations);
    check_bill(&r, m, number, po.device, where);
    if (memcmp(r.ids, ids, sizeof r.ids)) fail_msg("%s: other tokens", where);
    run_finish(&r);
}

static uint32_t check_file(const world *w, const gemma_vulkan_host *vulkan, const char *path, const int32_t *ids)
{
    uint32_t variant = 0, n = 0;
    machine m;
    do {
        char error[256];
        if (!machine_read(path, variant, &m, error, sizeof error)) fail_msg("%s", error);
        vklayer_pose(&m);
        for (uint32_t i = 0; i < m.n_devices; i++, n++) check_device(w, vulkan, &m, i, ids);
    } while (variant++ < m.n_variants);
    return n;
}

static void every_machine(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r;
    glob_t files;
    uint32_t n = 0;
    run_begin(&vulkan);
    run_small_world(&w);
    assert_ok(run_open_runtime(&r, &w, &vulkan), r.error.message);
    assert_ok(run_open_model(&r, run_small_plan), r.error.message);
    assert_ok(run_generate(&r), r.error.message);
    run_finish(&r);
    assert_int_equal(glob("machines/*.json", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (strstr(files.gl_pathv[i], chosen)) n += check_file(&w, &vulkan, files.gl_pathv[i], r.ids);
    globfree(&files);
    print_message("%u devices\n", n);
    if (!*chosen) assert_true(n >= 23);
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (argc > 1) chosen = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_machine) };
    int n_failed = cmocka_run_group_tests_name("machines", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
