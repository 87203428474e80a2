/* A described machine: what its GPUs' drivers report, read from one of the files of tests/machines (their README has the
 * format). Numbers are kept in Vulkan's own structures, so that a query is answered by copying. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vulkan/vulkan_core.h>

enum { MACHINE_DEVICES_MAX = 4 };

/* Name in the file, extension that stands for it (NULL: a feature of another one's). */
#define MACHINE_FEATURES(X)                                                                                            \
    X(BUDGET, "budget", "VK_EXT_memory_budget")                                                                        \
    X(PRIORITY, "priority", "VK_EXT_memory_priority")                                                                  \
    X(PAGEABLE, "pageable", "VK_EXT_pageable_device_local_memory")                                                     \
    X(IMPORT, "import", "VK_EXT_external_memory_host")                                                                 \
    X(S16, "s16", "VK_KHR_16bit_storage")                                                                              \
    X(S8, "s8", "VK_KHR_8bit_storage")                                                                                 \
    X(F16, "f16", NULL)                                                                                                \
    X(I8, "i8", NULL)                                                                                                  \
    X(DOT, "dot", "VK_KHR_shader_integer_dot_product")                                                                 \
    X(DOT_FAST, "dot_fast", NULL)                                                                                      \
    X(COOP, "coop", "VK_KHR_cooperative_matrix")                                                                       \
    X(COOP2, "coop2", "VK_NV_cooperative_matrix2")                                                                     \
    X(OVERALLOC, "overalloc", "VK_AMD_memory_overallocation_behavior")                                                 \
    X(BF16, "bf16", "VK_KHR_shader_bfloat16")                                                                          \
    X(I64IDX, "i64idx", "VK_EXT_shader_64bit_indexing")                                                                \
    X(FAULT, "fault", "VK_EXT_device_fault")                                                                           \
    X(PORTABILITY, "portability", "VK_KHR_portability_subset")

#define MACHINE_AS_FEATURE(name, text, extension) MACHINE_##name,
enum { MACHINE_FEATURES(MACHINE_AS_FEATURE) MACHINE_N_FEATURES };

/* What happens when more is allocated than a heap has. */
typedef enum machine_spill { MACHINE_REFUSES, MACHINE_PAGES, MACHINE_OVERCOMMITS } machine_spill;

typedef struct machine_device {
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    char driver[VK_MAX_DRIVER_INFO_SIZE];
    VkDriverId driver_id;
    VkPhysicalDeviceType type;
    uint32_t vendor, id, api_version;
    VkPhysicalDeviceMemoryProperties memory;
    uint64_t budgets[VK_MAX_MEMORY_HEAPS]; /* idle; without the feature BUDGET not told */
    bool constant_budget;                  /* usage reads 0 and the budget stays, whoever allocates */
    uint32_t shared_heaps;                 /* bits: heaps that are one pool with the RAM */
    uint64_t allocation_bytes, range_bytes;
    uint32_t storage_align, subgroup, shared_bytes, invocations, push_bytes;
    uint32_t features; /* bits 1 << MACHINE_… */
    double gb_s;       /* bandwidth of its memory, 10^9 bytes per second: measured, or the data sheet's; 0: unknown */
    machine_spill spill;
} machine_device;

typedef struct machine {
    char id[64];
    char variant[96]; /* "": as the file's own devices are */
    uint64_t ram_bytes;
    uint32_t n_devices, n_variants;
    machine_device devices[MACHINE_DEVICES_MAX];
} machine;

static inline bool machine_has(const machine_device *d, uint32_t feature) { return d->features >> feature & 1; }

/* Reads a file; variant 0 is the machine itself, 1 … n_variants its variants. False: error[n] says what is wrong, naming
 * file and key. */
bool machine_read(const char *path, uint32_t variant, machine *m, char *error, size_t n);

/* ---- what a driver of such a device answers ---- */

/* Changes a driver's answers, or ones set to zero, to the device's; what is not described stays. Structures of the chain
 * that are described are changed too. `number` tells devices of one machine apart. */
void machine_answer_properties(const machine_device *d, VkPhysicalDeviceProperties *p);
void machine_answer_properties2(const machine_device *d, uint32_t number, VkPhysicalDeviceProperties2 *p);
/* Features that are not described are taken away; the others stay. */
void machine_answer_features2(const machine_device *d, VkPhysicalDeviceFeatures2 *f);
/* used: bytes this process has of each heap. */
void machine_answer_memory2(const machine_device *d, const uint64_t used[VK_MAX_MEMORY_HEAPS],
                            VkPhysicalDeviceMemoryProperties2 *p);
/* Whether an extension that the driver has is shown; those that no feature stands for are. */
bool machine_shows_extension(const machine_device *d, const char *extension);
const char *machine_extension_of(uint32_t feature); /* NULL: none */

#endif
