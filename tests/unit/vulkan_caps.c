/* What is made of drivers' reports: two software drivers as they answered, cards and APUs by their published limits. */
#include "backend/vulkan/caps.h"
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum {
    D = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    V = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
    C = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
    H = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
};

typedef struct machine {
    const char *name, *info;
    VkPhysicalDeviceType type;
    uint32_t vendor, driver, api;
    uint32_t range, align, invocations, shared, push, groups, subgroup;
    uint64_t allocation;
    struct {
        uint64_t n_bytes;
        bool local;
    } heaps[4];
    struct {
        uint32_t heap, flags;
    } types[6];
    VkQueueFlags queues[4];
    const char *extensions[4];
} machine;

#define GRAPHICS (VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_TRANSFER_BIT)
#define COMPUTE  (VK_QUEUE_COMPUTE_BIT | VK_QUEUE_TRANSFER_BIT)
#define TRANSFER VK_QUEUE_TRANSFER_BIT
#define BUDGET   "VK_EXT_memory_budget"
#define OVER     "VK_AMD_memory_overallocation_behavior"

static const machine lavapipe = { .name = "llvmpipe (LLVM 15.0.6, 256 bits)",
                                  .info = "Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)",
                                  .type = VK_PHYSICAL_DEVICE_TYPE_CPU,
                                  .vendor = 0x10005,
                                  .driver = VK_DRIVER_ID_MESA_LLVMPIPE,
                                  .api = VK_MAKE_API_VERSION(0, 1, 4, 305),
                                  .range = 134217728,
                                  .align = 16,
                                  .invocations = 1024,
                                  .shared = 32768,
                                  .push = 256,
                                  .groups = 65535,
                                  .subgroup = 8,
                                  .allocation = 2147483648,
                                  .heaps = { { 25283874816, true } },
                                  .types = { { 0, D | V | C | H } },
                                  .queues = { GRAPHICS },
                                  .extensions = { BUDGET } };

static const machine swiftshader = { .name = "SwiftShader Device (Subzero)",
                                     .info = "",
                                     .type = VK_PHYSICAL_DEVICE_TYPE_CPU,
                                     .vendor = 0x1ae0,
                                     .driver = VK_DRIVER_ID_GOOGLE_SWIFTSHADER,
                                     .api = VK_MAKE_API_VERSION(0, 1, 3, 0),
                                     .range = 1073741824,
                                     .align = 256,
                                     .invocations = 256,
                                     .shared = 32768,
                                     .push = 128,
                                     .groups = 65535,
                                     .subgroup = 4,
                                     .allocation = 1073741824,
                                     .heaps = { { 2147483648, true } },
                                     .types = { { 0, D | V | C | H } },
                                     .queues = { GRAPHICS } };

/* Without resizable BAR: a window of 214 MiB as a third heap. */
static const machine geforce = { .name = "NVIDIA GeForce RTX 3060",
                                 .info = "560.94",
                                 .type = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
                                 .vendor = 0x10de,
                                 .driver = VK_DRIVER_ID_NVIDIA_PROPRIETARY,
                                 .api = VK_MAKE_API_VERSION(0, 1, 3, 280),
                                 .range = 4294967295,
                                 .align = 16,
                                 .invocations = 1024,
                                 .shared = 49152,
                                 .push = 256,
                                 .groups = 2147483647,
                                 .subgroup = 32,
                                 .allocation = 4292870144,
                                 .heaps = { { 12703498240, true }, { 17147654144, false }, { 224395264, true } },
                                 .types = { { 1, 0 }, { 0, D }, { 1, V | C }, { 1, V | C | H }, { 2, D | V | C } },
                                 .queues = { GRAPHICS, TRANSFER, COMPUTE },
                                 .extensions = { BUDGET } };

/* The device-local heap is the second one. */
static const machine radeon_apu = { .name = "AMD Radeon 680M (RADV REMBRANDT)",
                                    .info = "Mesa 24.2.8",
                                    .type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
                                    .vendor = 0x1002,
                                    .driver = VK_DRIVER_ID_MESA_RADV,
                                    .api = VK_MAKE_API_VERSION(0, 1, 3, 289),
                                    .range = 4294967295,
                                    .align = 4,
                                    .invocations = 1024,
                                    .shared = 65536,
                                    .push = 256,
                                    .groups = 4294967295,
                                    .subgroup = 64,
                                    .allocation = 4294967292,
                                    .heaps = { { 2916786176, false }, { 5833580544, true } },
                                    .types = { { 1, D }, { 1, D | V | C }, { 0, V | C }, { 0, V | C | H } },
                                    .queues = { GRAPHICS, COMPUTE },
                                    .extensions = { BUDGET, OVER } };

static const machine intel = { .name = "Intel(R) Iris(R) Xe Graphics",
                               .info = "101.5186",
                               .type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
                               .vendor = 0x8086,
                               .driver = VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS,
                               .api = VK_MAKE_API_VERSION(0, 1, 3, 271),
                               .range = 1073741824,
                               .align = 16,
                               .invocations = 1024,
                               .shared = 32768,
                               .push = 256,
                               .groups = 65536,
                               .subgroup = 32,
                               .allocation = 1073741824,
                               .heaps = { { 8470106112, true } },
                               .types = { { 0, D }, { 0, D | V | C }, { 0, D | V | C | H } },
                               .queues = { GRAPHICS, COMPUTE },
                               .extensions = { BUDGET } };

typedef struct told {
    gm_vk_report report;
    VkExtensionProperties extensions[4];
} told;

static void tell_memory(const machine *m, VkPhysicalDeviceMemoryProperties *p)
{
    for (; p->memoryHeapCount < GM_COUNT(m->heaps) && m->heaps[p->memoryHeapCount].n_bytes; p->memoryHeapCount++)
        p->memoryHeaps[p->memoryHeapCount] =
            (VkMemoryHeap){ m->heaps[p->memoryHeapCount].n_bytes,
                            m->heaps[p->memoryHeapCount].local ? VK_MEMORY_HEAP_DEVICE_LOCAL_BIT : 0 };
    for (size_t i = 0; i < GM_COUNT(m->types); i++)
        p->memoryTypes[p->memoryTypeCount++] = (VkMemoryType){ m->types[i].flags, m->types[i].heap };
}

static void tell(const machine *m, told *t)
{
    *t = (told){ 0 };
    gm_vk_report *r = &t->report;
    VkPhysicalDeviceLimits *l = &r->properties.limits;
    r->properties.apiVersion = m->api;
    r->properties.vendorID = m->vendor;
    r->properties.deviceType = m->type;
    gm_text_format(r->properties.deviceName, sizeof r->properties.deviceName, "%s", m->name);
    gm_text_format(r->driver.driverInfo, sizeof r->driver.driverInfo, "%s", m->info);
    r->driver.driverID = (VkDriverId)m->driver;
    l->maxStorageBufferRange = m->range;
    l->minStorageBufferOffsetAlignment = m->align;
    l->maxComputeWorkGroupInvocations = l->maxComputeWorkGroupSize[0] = m->invocations;
    l->maxComputeSharedMemorySize = m->shared;
    l->maxPushConstantsSize = m->push;
    l->maxPerStageDescriptorStorageBuffers = 16;
    for (int i = 0; i < 3; i++) l->maxComputeWorkGroupCount[i] = i ? 65535 : m->groups;
    r->maintenance3.maxMemoryAllocationSize = m->allocation;
    r->subgroup.subgroupSize = m->subgroup;
    r->timeline_semaphore = 1;
    tell_memory(m, &r->memory);
    for (; r->n_queue_families < GM_COUNT(m->queues) && m->queues[r->n_queue_families]; r->n_queue_families++)
        r->queue_families[r->n_queue_families] =
            (VkQueueFamilyProperties){ .queueFlags = m->queues[r->n_queue_families], .queueCount = 1 };
    for (; r->n_extensions < GM_COUNT(m->extensions) && m->extensions[r->n_extensions]; r->n_extensions++)
        gm_text_format(t->extensions[r->n_extensions].extensionName, VK_MAX_EXTENSION_NAME_SIZE, "%s",
                       m->extensions[r->n_extensions]);
    r->extensions = t->extensions;
}

static gm_vk_caps caps_of(const machine *m)
{
    told t;
    gm_vk_caps c;
    tell(m, &t);
    gm_vk_caps_read(&t.report, &c);
    return c;
}

static void software(void **state)
{
    (void)state;
    gm_vk_caps c = caps_of(&lavapipe);
    assert_true(c.usable);
    assert_string_equal(c.reason, "");
    assert_int_equal(c.kind, GEMMA_DEVICE_SOFTWARE);
    assert_int_equal(c.storage_range, 134217728);
    assert_int_equal(c.storage_align, 16);
    assert_true(c.memory_budget && c.shares_ram && !c.overallocation);
    c = caps_of(&swiftshader);
    assert_true(c.usable);
    assert_int_equal(c.kind, GEMMA_DEVICE_SOFTWARE);
    assert_int_equal(c.storage_align, 256);
    assert_int_equal(c.buffer_bytes, 1073741824);
    assert_int_equal(c.max_groups_x, 65535);
    assert_false(c.memory_budget);
}

static void cards(void **state)
{
    (void)state;
    gm_vk_caps c = caps_of(&geforce);
    assert_true(c.usable);
    assert_int_equal(c.kind, GEMMA_DEVICE_DISCRETE);
    assert_false(c.shares_ram);
    assert_int_equal(c.queue_family, 2); /* compute without graphics */
    assert_int_equal(c.n_heaps, 3);
    assert_int_equal(c.heaps[0].index, 0);
    assert_int_equal(c.heaps[1].index, 2); /* the window, behind the memory it looks into */
    assert_int_equal(c.heaps[2].index, 1);
    assert_false(c.heaps[2].device_local);
}

static void integrated(void **state)
{
    (void)state;
    gm_vk_caps c = caps_of(&radeon_apu);
    assert_true(c.usable && c.shares_ram && c.overallocation);
    assert_int_equal(c.kind, GEMMA_DEVICE_INTEGRATED);
    assert_int_equal(c.heaps[0].index, 1);
    assert_true(c.heaps[0].device_local);
    assert_int_equal(c.storage_align, 16); /* whole 16-byte groups, whatever the driver allows */
    assert_int_equal(c.queue_family, 1);
    c = caps_of(&intel);
    assert_true(c.usable && c.shares_ram && !c.overallocation);
    assert_int_equal(c.storage_range, 1073741824);
    assert_int_equal(c.n_heaps, 1);
}

static void assert_refused(const machine *m, const char *part)
{
    gm_vk_caps c = caps_of(m);
    assert_false(c.usable);
    if (!gm_text_contains(c.reason, part)) fail_msg("\"%s\" lacks \"%s\"", c.reason, part);
}

static void unusable(void **state)
{
    (void)state;
    machine m = lavapipe;
    m.info = "Mesa 22.3.6 (LLVM 15.0.6)";
    assert_refused(&m, "lavapipe before Mesa 24");
    m.info = "";
    assert_refused(&m, "lavapipe before Mesa 24"); /* no version is an old one */
    m.info = "Mesa 24.0.1 (LLVM 17.0.6)";
    assert_true(caps_of(&m).usable);
    m = geforce;
    m.api = VK_API_VERSION_1_1;
    assert_refused(&m, "older than Vulkan 1.2");
    m = geforce;
    m.range = (1u << 27) - 1;
    assert_refused(&m, "limits");
    m = swiftshader;
    m.shared = 16384;
    assert_refused(&m, "limits");
    m = swiftshader;
    m.invocations = 128;
    assert_refused(&m, "limits");
    m = intel;
    m.queues[0] = VK_QUEUE_GRAPHICS_BIT;
    m.queues[1] = 0;
    assert_refused(&m, "no queue for compute");
    m = intel;
    for (size_t i = 0; i < GM_COUNT(m.types); i++) m.types[i].flags = D;
    assert_refused(&m, "CPU can write");
    told t;
    gm_vk_caps c;
    tell(&geforce, &t);
    t.report.timeline_semaphore = 0;
    gm_vk_caps_read(&t.report, &c);
    assert_false(c.usable);
}

/* Every field is set by the report alone. */
static void pure(void **state)
{
    (void)state;
    told t;
    gm_vk_caps a, b;
    memset(&a, 0x55, sizeof a);
    memset(&b, 0xaa, sizeof b);
    tell(&radeon_apu, &t);
    gm_vk_caps_read(&t.report, &a);
    gm_vk_caps_read(&t.report, &b);
    assert_string_equal(a.name, b.name);
    assert_int_equal(a.n_heaps, b.n_heaps);
    assert_memory_equal(a.uuid, b.uuid, sizeof a.uuid);
    assert_int_equal(a.matvec_rows, b.matvec_rows);
    assert_int_equal(a.matvec_group, b.matvec_group);
    assert_int_equal(a.max_groups_x, b.max_groups_x);
    assert_int_equal(a.queue_family, b.queue_family);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(software), cmocka_unit_test(cards),
                                        cmocka_unit_test(integrated), cmocka_unit_test(unusable),
                                        cmocka_unit_test(pure) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
