/* Heaps and buffers: one VkDeviceMemory and one VkBuffer each, exactly what was planned. */
#include "backend/vulkan/device.h"

/* ---- heaps ---- */

void gm_vk_heap_state(const gm_backend *be, uint32_t heap, gm_heap_state *state)
{
    const gm_vk *vk = gm_vk_of_const(be);
    const gm_vk_heap *h = &vk->caps.heaps[heap];
    *state = (gm_heap_state){ .total_bytes = h->n_bytes, .used_bytes = vk->held_bytes[heap] };
    /* Pool 0 is the host's memory; a discrete card's own is a pool of its own. */
    if (!vk->caps.shares_ram && h->device_local) state->pool = 1 + vk->number;
    const char *name = vk->caps.shares_ram ? "shared memory" : h->device_local ? "VRAM" : "host memory";
    gm_text_format(state->name, sizeof state->name, "%s", name);
    state->budget_bytes = h->n_bytes;
    if (!vk->caps.memory_budget) return;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT
    };
    VkPhysicalDeviceMemoryProperties2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                              .pNext = &budget };
    vk->instance->fn.GetPhysicalDeviceMemoryProperties2(vk->physical, &all);
    state->budget_bytes = gm_min_u64(budget.heapBudget[h->index], h->n_bytes);
    state->used_bytes = budget.heapUsage[h->index];
    state->budget_reported = true;
}

/* ---- which type of memory ---- */

enum { SEEN = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT };

/* How well a type suits: the host writes and reads staging, and sees nothing else of a card's own memory, which is
 * slower through the window. Where memory is shared everything is seen, so that weights are read straight into it. */
static int suits(const gm_vk *vk, VkMemoryPropertyFlags flags, uint32_t tag)
{
    bool seen = (flags & SEEN) == SEEN;
    int points = 1;
    if (tag == GEMMA_TAG_STAGING) {
        if (!seen) return 0;
        return points + (flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT ? 4 : 0);
    }
    if (flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) points += 4;
    if (seen == vk->caps.shares_ram) points += 2;
    if (flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) points += vk->caps.shares_ram;
    return points;
}

/* Types that AMD offers for debuggers, and protected ones, are never it. */
#define NEVER                                                                                                          \
    (VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT |                                      \
     VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD)

static uint32_t find_type(const gm_vk *vk, uint32_t heap, uint32_t tag, uint32_t allowed)
{
    uint32_t best = UINT32_MAX;
    int best_points = 0;
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
        const VkMemoryType *t = &vk->memory.memoryTypes[i];
        if (t->heapIndex != vk->caps.heaps[heap].index || !(allowed >> i & 1) || t->propertyFlags & NEVER) continue;
        int points = suits(vk, t->propertyFlags, tag);
        if (points <= best_points) continue;
        best = i;
        best_points = points;
    }
    return best;
}

/* Staging lies where the CPU sees it: in the last such heap of a card, which is the host's memory rather than a window
 * into the card's. */
uint32_t gm_vk_heap_of(const gm_backend *be, uint32_t tag)
{
    const gm_vk *vk = gm_vk_of_const(be);
    if (tag != GEMMA_TAG_STAGING || vk->caps.n_heaps == 0) return 0;
    if (vk->caps.shares_ram && find_type(vk, 0, tag, UINT32_MAX) != UINT32_MAX) return 0;
    uint32_t heap = vk->caps.n_heaps - 1;
    while (heap && find_type(vk, heap, tag, UINT32_MAX) == UINT32_MAX) heap--;
    return heap;
}

bool gm_vk_is_seen(const gm_vk *vk, uint32_t tag)
{
    uint32_t type = find_type(vk, gm_vk_heap_of(&vk->base, tag), tag, UINT32_MAX);
    return type != UINT32_MAX && (vk->memory.memoryTypes[type].propertyFlags & SEEN) == SEEN;
}

/* ---- buffers ---- */

/* What a driver under pressure is to move last: what every token reads whole. */
static float priority_of(uint32_t tag)
{
    if (tag == GEMMA_TAG_WEIGHTS) return 1.0f;
    return tag == GEMMA_TAG_STAGING ? 0.5f : 0.9f;
}

static int bind_memory(gm_vk *vk, gm_vk_buffer *b, uint32_t heap, gemma_error *error)
{
    VkMemoryRequirements needs;
    char size[24];
    vk->fn.GetBufferMemoryRequirements(vk->handle, b->handle, &needs);
    uint32_t type = find_type(vk, heap, b->base.tag, needs.memoryTypeBits);
    if (type == UINT32_MAX) return gm_fail(error, GEMMA_E_DEVMEM, "%s has no memory of this kind", vk->caps.name);
    VkMemoryPriorityAllocateInfoEXT priority = { .sType = VK_STRUCTURE_TYPE_MEMORY_PRIORITY_ALLOCATE_INFO_EXT,
                                                 .priority = priority_of(b->base.tag) };
    bool told = vk->caps.memory_priority && !vk->instance->host.device; /* a host may not have asked for it */
    VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                  .pNext = told ? &priority : NULL,
                                  .allocationSize = needs.size,
                                  .memoryTypeIndex = type };
    VkResult r = vk->fn.AllocateMemory(vk->handle, &info, NULL, &b->memory);
    if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return gm_fail(error, GEMMA_E_DEVMEM, "%s has no %s left", vk->caps.name, gm_text_bytes(size, needs.size));
    if (r) return gm_vk_check(vk, r, "vkAllocateMemory", error);
    b->held_bytes = needs.size;
    r = vk->fn.BindBufferMemory(vk->handle, b->handle, b->memory, 0);
    if (!r && (vk->memory.memoryTypes[type].propertyFlags & SEEN) == SEEN)
        r = vk->fn.MapMemory(vk->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &b->base.host);
    return gm_vk_check(vk, r, "vkMapMemory", error);
}

int gm_vk_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                        gemma_error *error)
{
    gm_vk *vk = gm_vk_of(be);
    int rc = gm_vk_open(vk, error);
    if (rc) return rc;
    char asked[24], can[24];
    if (n_bytes > vk->caps.buffer_bytes)
        return gm_fail(error, GEMMA_E_DEVMEM, "a buffer of %s, but %s allows %s", gm_text_bytes(asked, n_bytes),
                       vk->caps.name, gm_text_bytes(can, vk->caps.buffer_bytes));
    gm_vk_buffer *b = gm_new(be->mem, sizeof *b, GEMMA_TAG_OBJECT);
    if (!b) return gm_fail_nomem(error, "a buffer", sizeof *b);
    b->base = (gm_buffer){ .backend = be, .n_bytes = n_bytes, .heap = heap, .tag = tag };
    VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                .size = gm_align_up(n_bytes, 16), /* bindings end at whole 16 bytes */
                                .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                         VK_BUFFER_USAGE_TRANSFER_DST_BIT };
    VkResult r = vk->fn.CreateBuffer(vk->handle, &info, NULL, &b->handle);
    rc = gm_vk_check(vk, r, "vkCreateBuffer", error);
    if (!rc) rc = bind_memory(vk, b, heap, error);
    if (rc) {
        if (b->handle) vk->fn.DestroyBuffer(vk->handle, b->handle, NULL);
        if (b->memory) vk->fn.FreeMemory(vk->handle, b->memory, NULL);
        gm_delete(be->mem, b);
        return rc;
    }
    gm_mutex_lock(vk->lock);
    b->next = vk->buffers;
    vk->buffers = b;
    vk->held_bytes[b->base.heap] += b->held_bytes;
    gm_mutex_unlock(vk->lock);
    *out = &b->base;
    return GEMMA_OK;
}

void gm_vk_buffer_destroy(gm_buffer *buffer)
{
    if (!buffer) return;
    gm_vk *vk = gm_vk_of(buffer->backend);
    gm_vk_buffer *b = (gm_vk_buffer *)buffer;
    gm_mutex_lock(vk->lock);
    gm_vk_buffer **at = &vk->buffers;
    while (*at && *at != b) at = &(*at)->next;
    if (*at) *at = b->next;
    vk->held_bytes[buffer->heap] -= b->held_bytes;
    gm_mutex_unlock(vk->lock);
    vk->fn.DestroyBuffer(vk->handle, b->handle, NULL);
    vk->fn.FreeMemory(vk->handle, b->memory, NULL); /* unmaps */
    gm_delete(vk->base.mem, b);
}

gm_vk_buffer *gm_vk_buffer_at(gm_vk *vk, const void *address, uint64_t *offset)
{
    uintptr_t at = (uintptr_t)address;
    gm_vk_buffer *found = NULL;
    gm_mutex_lock(vk->lock);
    for (gm_vk_buffer *b = vk->buffers; b && !found; b = b->next) {
        uintptr_t host = (uintptr_t)b->base.host;
        if (!host || at < host || at - host >= b->base.n_bytes) continue;
        *offset = at - host;
        found = b;
    }
    gm_mutex_unlock(vk->lock);
    return found;
}
