/* The conformance table on every usable Vulkan device that the loader lists (VK_DRIVER_FILES chooses). */
#include "conform/cases.h"
#include "backend/vulkan/device.h"
#include "backend/vulkan/vulkan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static bool something_skipped;
static const char *chosen; /* part of the names of the cases to run; NULL: all */

/* Runs the cases on every device, which `prepare` (may be NULL) has changed before. */
static void on_devices(void (*prepare)(gm_vk *vk), const char *only)
{
    gm_backend *devices[GM_VULKAN_DEVICES_MAX];
    uint32_t n, n_checked = 0;
    gemma_error error = { .size = sizeof error };
    assert_int_equal(gm_vulkan_enumerate(&scene_mem, NULL, devices, GM_VULKAN_DEVICES_MAX, &n, &error), GEMMA_OK);
    for (uint32_t i = 0; i < n; i++) {
        gemma_device_info info = { .size = sizeof info };
        devices[i]->fns->describe(devices[i], &info);
        print_message("%s: %s%s%s\n", info.id, info.name, info.usable ? "" : ": ", info.reason);
        if (info.usable && prepare) prepare(gm_vk_of(devices[i]));
        if (info.usable) cases_check(devices[i], cases_of_shaders, only);
        n_checked += info.usable;
    }
    for (uint32_t i = 0; i < n; i++) gm_backend_destroy(devices[i]);
    if (n_checked) return;
    print_message("SKIPPED: no Vulkan device: %s\n", error.message);
    something_skipped = true;
    skip();
}

static void every_device(void **state)
{
    (void)state;
    on_devices(NULL, chosen);
}

/* Memory apart from the host's, bindings so short that experts are cut into spans, submits so short that their rows are
 * cut too. */
static void make_small(gm_vk *vk)
{
    vk->caps.shares_ram = false;
    vk->caps.storage_range = 1u << 18;
    vk->work_per_ms = 1;
}

static void small_pieces(void **state)
{
    (void)state;
    on_devices(make_small, "experts");
    on_devices(make_small, "ple_rows");
}

static int setup(void **state)
{
    (void)state;
    gm_mem_init(&scene_mem, NULL);
    return 0;
}

static int nothing_left(void **state)
{
    (void)state;
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++)
        if (gm_mem_live(&scene_mem, tag)) return 1;
    return 0;
}

/* With an argument: only the cases whose name has it. */
int main(int argc, char **argv)
{
    chosen = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_device), cmocka_unit_test(small_pieces) };
    int n_failed = cmocka_run_group_tests(tests, setup, nothing_left);
    return n_failed ? n_failed : something_skipped ? 77 : 0;
}
