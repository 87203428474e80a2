/* The conformance table on a software Vulkan device that poses as a card whose memory the CPU does not see: everything
 * goes there and back through staging, in pieces. Skipped without a driver. With an argument: only the cases whose name
 * has it. */
#include "backend/vulkan/vulkan.h"
#include "conform/cases.h"
#include "vklayer/vklayer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *chosen;
static bool skipped;

/* A driver that could not run the table as itself cannot as another. */
static bool has_usable_device(const gemma_vulkan_host *host)
{
    gm_backend *devices[GM_VULKAN_DEVICES_MAX];
    gemma_error error = { .size = sizeof error };
    uint32_t n = 0;
    assert_int_equal(gm_vulkan_enumerate(&scene_mem, host, devices, GM_VULKAN_DEVICES_MAX, &n, &error), GEMMA_OK);
    gemma_device_info info = { .size = sizeof info };
    if (n > 0) devices[0]->fns->describe(devices[0], &info);
    for (uint32_t i = 0; i < n; i++) gm_backend_destroy(devices[i]);
    return info.usable;
}

static void unseen_memory(void **state)
{
    (void)state;
    gm_backend *devices[GM_VULKAN_DEVICES_MAX];
    gemma_error error = { .size = sizeof error };
    gemma_vulkan_host host;
    machine laptop;
    char why[256];
    uint32_t n = 0;
    if (!machine_read("machines/rtx3050-680m-16-windows.json", 0, &laptop, why, sizeof why)) fail_msg("%s", why);
    laptop.n_devices = 1;
    if (vklayer_host_init(&host) && has_usable_device(&host) && vklayer_pose(&laptop))
        assert_int_equal(gm_vulkan_enumerate(&scene_mem, &host, devices, GM_VULKAN_DEVICES_MAX, &n, &error), GEMMA_OK);
    skipped = n == 0;
    if (skipped) skip();
    gemma_device_info info = { .size = sizeof info };
    devices[0]->fns->describe(devices[0], &info);
    print_message("as %s\n", info.name);
    assert_true(info.usable);
    assert_int_equal(info.kind, GEMMA_DEVICE_DISCRETE);
    cases_check(devices[0], cases_of_shaders, chosen);
    gm_backend_destroy(devices[0]);
    assert_int_equal(vklayer_live_objects(), 0);
    assert_int_equal(vklayer_mismatches(), 0);
}

int main(int argc, char **argv)
{
    chosen = argc > 1 ? argv[1] : NULL;
    gm_mem_init(&scene_mem, NULL);
    const struct CMUnitTest tests[] = { cmocka_unit_test(unseen_memory) };
    int n_failed = cmocka_run_group_tests_name("unseen", tests, NULL, NULL);
    return n_failed ? n_failed : skipped ? 77 : 0;
}
