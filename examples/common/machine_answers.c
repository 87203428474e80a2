/* What the driver of a described device answers. */
#include "machine.h"

#include <string.h>

#define AS_EXTENSION(name, text, extension) extension,
static const char *const extensions[] = { MACHINE_FEATURES(AS_EXTENSION) };

const char *machine_extension_of(uint32_t feature) { return extensions[feature]; }

bool machine_shows_extension(const machine_device *d, const char *extension)
{
    for (uint32_t i = 0; i < MACHINE_N_FEATURES; i++)
        if (extensions[i] && strcmp(extensions[i], extension) == 0) return machine_has(d, i);
    return true;
}

void machine_answer_properties(const machine_device *d, VkPhysicalDeviceProperties *p)
{
    VkPhysicalDeviceLimits *l = &p->limits;
    p->apiVersion = d->api_version;
    p->vendorID = d->vendor;
    p->deviceID = d->id;
    p->deviceType = d->type;
    memcpy(p->deviceName, d->name, sizeof p->deviceName);
    l->maxStorageBufferRange = (uint32_t)d->range_bytes;
    l->minStorageBufferOffsetAlignment = d->storage_align;
    l->maxComputeSharedMemorySize = d->shared_bytes;
    l->maxComputeWorkGroupInvocations = d->invocations;
    for (int i = 0; i < 2; i++) l->maxComputeWorkGroupSize[i] = d->invocations;
    l->maxPushConstantsSize = d->push_bytes;
}

static void answer_id(const machine_device *d, uint32_t number, VkPhysicalDeviceIDProperties *id)
{
    const uint32_t words[] = { d->vendor, d->id, number };
    memset(id->deviceUUID, 0, sizeof id->deviceUUID);
    memcpy(id->deviceUUID, words, sizeof words);
}

/* "radv Mesa 25.2": Mesa's drivers say which version they are of; elsewhere name and version are one text. */
static void answer_driver(const machine_device *d, VkPhysicalDeviceDriverProperties *driver)
{
    const char *mesa = strstr(d->driver, "Mesa ");
    driver->driverID = d->driver_id;
    memcpy(driver->driverName, d->driver, sizeof driver->driverName);
    memset(driver->driverInfo, 0, sizeof driver->driverInfo);
    strcpy(driver->driverInfo, mesa ? mesa : d->driver);
}

void machine_answer_properties2(const machine_device *d, uint32_t number, VkPhysicalDeviceProperties2 *p)
{
    machine_answer_properties(d, &p->properties);
    for (VkBaseOutStructure *s = p->pNext; s; s = s->pNext) {
        switch (s->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES: answer_id(d, number, (void *)s); break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES: answer_driver(d, (void *)s); break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES:
            ((VkPhysicalDeviceMaintenance3Properties *)s)->maxMemoryAllocationSize = d->allocation_bytes;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES:
            ((VkPhysicalDeviceSubgroupProperties *)s)->subgroupSize = d->subgroup;
            break;
        default: break;
        }
    }
}

static void keep(VkBool32 *feature, bool described) { *feature = *feature && described; }

void machine_answer_features2(const machine_device *d, VkPhysicalDeviceFeatures2 *f)
{
    for (VkBaseOutStructure *s = f->pNext; s; s = s->pNext) {
        switch (s->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES:
            keep(&((VkPhysicalDevice16BitStorageFeatures *)s)->storageBuffer16BitAccess, machine_has(d, MACHINE_S16));
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES:
            keep(&((VkPhysicalDevice8BitStorageFeatures *)s)->storageBuffer8BitAccess, machine_has(d, MACHINE_S8));
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES:
            keep(&((VkPhysicalDeviceShaderFloat16Int8Features *)s)->shaderFloat16, machine_has(d, MACHINE_F16));
            keep(&((VkPhysicalDeviceShaderFloat16Int8Features *)s)->shaderInt8, machine_has(d, MACHINE_I8));
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES:
            keep(&((VkPhysicalDeviceShaderIntegerDotProductFeatures *)s)->shaderIntegerDotProduct,
                 machine_has(d, MACHINE_DOT));
            break;
        default: break;
        }
    }
}

/* ---- memory ---- */

/* Heaps that are one pool with the RAM lose what is taken from any of them. */
static uint64_t budget_of(const machine_device *d, uint32_t heap, const uint64_t used[VK_MAX_MEMORY_HEAPS])
{
    uint64_t budget = d->budgets[heap];
    for (uint32_t i = 0; i < d->memory.memoryHeapCount && !d->constant_budget; i++)
        if (i != heap && d->shared_heaps >> heap & 1 && d->shared_heaps >> i & 1)
            budget -= used[i] < budget ? used[i] : budget;
    return budget;
}

void machine_answer_memory2(const machine_device *d, const uint64_t used[VK_MAX_MEMORY_HEAPS],
                            VkPhysicalDeviceMemoryProperties2 *p)
{
    p->memoryProperties = d->memory;
    for (VkBaseOutStructure *s = p->pNext; s; s = s->pNext) {
        if (s->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT) continue;
        VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = (void *)s;
        for (uint32_t i = 0; i < VK_MAX_MEMORY_HEAPS; i++) {
            bool there = i < d->memory.memoryHeapCount && machine_has(d, MACHINE_BUDGET);
            budget->heapBudget[i] = there ? budget_of(d, i, used) : 0;
            budget->heapUsage[i] = there && !d->constant_budget ? used[i] : 0;
        }
    }
}
