/* Blocks that are slow, or that the device cannot have: which memory a submit touches is followed from buffers by way of
 * descriptor sets to command buffers. */
#define _POSIX_C_SOURCE 200809L

#include "vklayer/layer.h"

#include <stdlib.h>
#include <time.h>

#define it vklayer_it

/* ---- what lies on what ---- */

typedef enum note_kind { NOTE_BUFFER = 1, NOTE_SET, NOTE_COMMANDS } note_kind;

/* Handles are addresses: their upper bits are free for the kind. Nothing is taken out; a handle that comes again is
 * written over. */
static uint64_t key_of(note_kind kind, uint64_t handle) { return handle ^ (uint64_t)kind << 56; }

static note *note_of(note_kind kind, uint64_t handle)
{
    uint64_t key = key_of(kind, handle), at = key * 0x9e3779b97f4a7c15u >> 40;
    for (uint64_t i = 0; i < NOTES; i++) {
        note *n = &it.notes[(at + i) % NOTES];
        if (n->key == key) return n;
        if (n->key) continue;
        if (it.n_notes >= NOTES - NOTES / 8) break;
        it.n_notes++;
        n->key = key;
        return n;
    }
    it.mismatches++;
    return &it.notes[0];
}

/* ---- blocks ---- */

uint32_t vklayer_block_add(physical *p, uint32_t type, uint64_t n_bytes, double gb_s)
{
    uint32_t i = 0;
    while (i < BLOCKS && it.blocks[i].of) i++;
    if (i < BLOCKS) it.blocks[i] = (block){ .of = p, .type = type, .n_bytes = n_bytes, .gb_s = gb_s };
    return i; /* BLOCKS: one too many to be followed */
}

void vklayer_block_drop(uint32_t i)
{
    if (i < BLOCKS) it.blocks[i] = (block){ 0 };
}

static bool lies_in(const block *b, const physical *p, uint32_t heap)
{
    return b->of == p && p->memory.memoryTypes[b->type].heapIndex == heap;
}

uint64_t vklayer_limit_of(const physical *p, uint32_t heap)
{
    uint64_t limit = it.limits[p - it.physicals][heap];
    return limit ? limit : p->memory.memoryHeaps[heap].size;
}

/* ---- a submit ---- */

/* What a command buffer reads of each block. */
static uint64_t *reads_of(VkCommandBuffer c)
{
    note *n = note_of(NOTE_COMMANDS, (uint64_t)c);
    if (!n->reads && it.n_commands == COMMANDS) {
        it.mismatches++;
        n->reads = 1;
    }
    if (!n->reads) n->reads = ++it.n_commands;
    return it.reads[n->reads - 1];
}

static uint64_t less(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t vklayer_weigh_submit(vkdevice *d, uint32_t n, const VkSubmitInfo *infos)
{
    uint64_t heaps[VK_MAX_MEMORY_HEAPS] = { 0 };
    double ns = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        const block *b = &it.blocks[i];
        uint64_t n_read = 0;
        if (b->of != d->of) continue;
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t c = 0; c < infos[k].commandBufferCount; c++)
                n_read += reads_of(infos[k].pCommandBuffers[c])[i];
        if (n_read) heaps[b->of->memory.memoryTypes[b->type].heapIndex] += b->n_bytes;
        if (b->gb_s > 0) ns += (double)less(n_read, b->n_bytes) / b->gb_s;
    }
    bool over = d->of->described && d->of->described->spill == MACHINE_OVERCOMMITS;
    for (uint32_t i = 0; over && i < d->of->memory.memoryHeapCount; i++)
        if (heaps[i] > vklayer_limit_of(d->of, i)) d->lost = true;
    return (uint64_t)ns;
}

void vklayer_sleep(uint64_t ns)
{
    struct timespec t = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
    while (ns && nanosleep(&t, &t) != 0) {}
}

/* ---- buffers; hollow ones are shorter than was asked for ---- */

static VKAPI_ATTR VkResult VKAPI_CALL on_CreateBuffer(VkDevice d, const VkBufferCreateInfo *info,
                                                      const VkAllocationCallbacks *a, VkBuffer *out)
{
    VkBufferCreateInfo real = *info;
    *out = VK_NULL_HANDLE;
    VkResult r = vklayer_fate(AT_CreateBuffer);
    if (it.hollow && real.size > it.hollow) real.size = it.hollow;
    if (!r) r = REAL(CreateBuffer)(d, &real, a, out);
    if (r) return r;
    vklayer_made(VKLAYER_BUFFER, 1);
    vklayer_remember(VKLAYER_BUFFER, (uint64_t)*out);
    note *n = note_of(NOTE_BUFFER, (uint64_t)*out);
    n->block[0] = 0;
    n->missing = info->size - real.size;
    return r;
}

/* A described device's buffers may lie in any memory that is neither protected nor for tiles. */
static VKAPI_ATTR void VKAPI_CALL on_GetBufferMemoryRequirements(VkDevice d, VkBuffer buffer, VkMemoryRequirements *out)
{
    const VkMemoryPropertyFlags never = VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT;
    const physical *p = vklayer_device_of(d)->of;
    REAL(GetBufferMemoryRequirements)(d, buffer, out);
    out->size += note_of(NOTE_BUFFER, (uint64_t)buffer)->missing;
    if (!p->described) return;
    out->memoryTypeBits = 0;
    for (uint32_t i = 0; i < p->memory.memoryTypeCount; i++)
        if (!(p->memory.memoryTypes[i].propertyFlags & never)) out->memoryTypeBits |= 1u << i;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_BindBufferMemory(VkDevice d, VkBuffer buffer, VkDeviceMemory memory,
                                                          VkDeviceSize offset)
{
    VkResult r = vklayer_fate(AT_BindBufferMemory);
    uint32_t i = vklayer_block_of(memory);
    if (i < BLOCKS) note_of(NOTE_BUFFER, (uint64_t)buffer)->block[0] = (uint8_t)(i + 1);
    return r ? r : REAL(BindBufferMemory)(d, buffer, memory, offset);
}

/* ---- sets and commands ---- */

void vklayer_set_made(VkDescriptorSet set)
{
    if (!it.hollow) memset(note_of(NOTE_SET, (uint64_t)set)->block, 0, BINDINGS);
}

/* A block that several bindings have counts once: where a kernel needs fewer, the others have what is there. */
static void note_binding(note *set, uint32_t at, const VkDescriptorBufferInfo *info)
{
    uint8_t on = note_of(NOTE_BUFFER, (uint64_t)info->buffer)->block[0];
    uint64_t n_bytes = less(info->range, UINT32_MAX);
    for (uint32_t i = 0; i < BINDINGS && on; i++) {
        if (i == at || set->block[i] != on) continue;
        if (set->n_bytes[i] < n_bytes) set->n_bytes[i] = (uint32_t)n_bytes;
        on = 0;
    }
    set->block[at] = on;
    set->n_bytes[at] = (uint32_t)n_bytes;
}

/* Where buffers are hollow nothing is run, and ranges end beyond them. */
static VKAPI_ATTR void VKAPI_CALL on_UpdateDescriptorSets(VkDevice d, uint32_t n, const VkWriteDescriptorSet *writes,
                                                          uint32_t n_copies, const VkCopyDescriptorSet *copies)
{
    if (it.hollow) return;
    for (uint32_t i = 0; i < n; i++) {
        note *set = note_of(NOTE_SET, (uint64_t)writes[i].dstSet);
        for (uint32_t k = 0; k < writes[i].descriptorCount; k++)
            if (writes[i].dstBinding + k < BINDINGS)
                note_binding(set, writes[i].dstBinding + k, &writes[i].pBufferInfo[k]);
    }
    REAL(UpdateDescriptorSets)(d, n, writes, n_copies, copies);
}

static VKAPI_ATTR VkResult VKAPI_CALL on_BeginCommandBuffer(VkCommandBuffer c, const VkCommandBufferBeginInfo *info)
{
    VkResult r = vklayer_fate(AT_BeginCommandBuffer);
    if (!it.hollow) memset(reads_of(c), 0, sizeof it.reads[0]);
    return r ? r : REAL(BeginCommandBuffer)(c, info);
}

static VKAPI_ATTR void VKAPI_CALL on_CmdBindDescriptorSets(VkCommandBuffer c, VkPipelineBindPoint point,
                                                           VkPipelineLayout layout, uint32_t first, uint32_t n,
                                                           const VkDescriptorSet *sets, uint32_t n_offsets,
                                                           const uint32_t *offsets)
{
    for (uint32_t i = 0; i < n && !it.hollow; i++) {
        const note *set = note_of(NOTE_SET, (uint64_t)sets[i]);
        for (uint32_t k = 0; k < BINDINGS; k++)
            if (set->block[k]) reads_of(c)[set->block[k] - 1] += set->n_bytes[k];
    }
    REAL(CmdBindDescriptorSets)(c, point, layout, first, n, sets, n_offsets, offsets);
}

/* ---- the test's side ---- */

uint64_t vklayer_slow(uint32_t device, uint32_t heap, uint32_t n_blocks, double gb_s)
{
    uint64_t sum = 0;
    vklayer_lock();
    for (uint32_t n = 0; n < n_blocks; n++) {
        block *largest = NULL;
        for (uint32_t i = 0; i < BLOCKS; i++) {
            block *b = &it.blocks[i];
            if (!lies_in(b, &it.physicals[device], heap) || b->gb_s > 0) continue;
            if (!largest || b->n_bytes > largest->n_bytes) largest = b;
        }
        if (!largest) break;
        largest->gb_s = gb_s;
        sum += largest->n_bytes;
    }
    vklayer_unlock();
    return sum;
}

void vklayer_fast(uint32_t device, uint32_t heap)
{
    vklayer_lock();
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (lies_in(&it.blocks[i], &it.physicals[device], heap)) it.blocks[i].gb_s = 0;
    vklayer_unlock();
}

uint64_t vklayer_slow_bytes(uint32_t device, uint32_t heap)
{
    uint64_t sum = 0;
    vklayer_lock();
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (lies_in(&it.blocks[i], &it.physicals[device], heap) && it.blocks[i].gb_s > 0) sum += it.blocks[i].n_bytes;
    vklayer_unlock();
    return sum;
}

void vklayer_limit(uint32_t device, uint32_t heap, uint64_t n_bytes, double gb_s)
{
    vklayer_lock();
    it.limits[device][heap] = n_bytes;
    it.paged_gb_s = gb_s;
    vklayer_unlock();
}

void vklayer_hollow(uint64_t most) { it.hollow = most; }

void vklayer_speed_clear(void)
{
    memset(it.notes, 0, sizeof it.notes);
    memset(it.blocks, 0, sizeof it.blocks);
    memset(it.limits, 0, sizeof it.limits);
    memset(it.reads, 0, sizeof it.reads);
    it.n_notes = it.hollow = it.n_commands = 0;
    it.paged_gb_s = 0;
}

#define AS_WRAPPER(name) [AT_##name] = (PFN_vkVoidFunction)on_##name,
#define SPEED_CALLS(X)                                                                                                 \
    X(CreateBuffer)                                                                                                    \
    X(GetBufferMemoryRequirements)                                                                                     \
    X(BindBufferMemory)                                                                                                \
    X(UpdateDescriptorSets)                                                                                            \
    X(BeginCommandBuffer)                                                                                              \
    X(CmdBindDescriptorSets)

const PFN_vkVoidFunction vklayer_speed_calls[N_CALLS] = { SPEED_CALLS(AS_WRAPPER) };
