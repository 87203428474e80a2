/* A layer between the library and the system's Vulkan loader: counts objects, bytes and submits, makes the nth call fail,
 * loses the device. It is put in by gemma_vulkan_host.get_instance_proc_addr and changes nothing else of what a driver
 * does, unless it poses as a described machine or slows blocks of memory. One per program, used by one runtime at a time;
 * steps may come from several threads. */
#ifndef VKLAYER_H
#define VKLAYER_H

#include "common/machine.h"
#include "gemma/vulkan.h"

#include <stdbool.h>

typedef enum vklayer_kind {
    VKLAYER_INSTANCE,
    VKLAYER_DEVICE,
    VKLAYER_MEMORY,
    VKLAYER_BUFFER,
    VKLAYER_SEMAPHORE,
    VKLAYER_SHADER_MODULE,
    VKLAYER_PIPELINE,
    VKLAYER_PIPELINE_CACHE,
    VKLAYER_PIPELINE_LAYOUT,
    VKLAYER_SET_LAYOUT,
    VKLAYER_SET_POOL,
    VKLAYER_SET,
    VKLAYER_COMMAND_POOL,
    VKLAYER_COMMAND_BUFFER,
    VKLAYER_KINDS
} vklayer_kind;

/* What the loader shows of itself. */
typedef enum vklayer_machine { VKLAYER_AS_IS, VKLAYER_NO_DRIVER, VKLAYER_NO_DEVICE, VKLAYER_OLD } vklayer_machine;

/* Fills *host in, and forgets counts, failures to come and the machine. False: there is no Vulkan loader. */
bool vklayer_host_init(gemma_vulkan_host *host);
void vklayer_show(vklayer_machine shown);

/* From now on the driver's devices pose as this machine's (copied; NULL: as themselves): names, kinds, limits, heaps and
 * types of memory, budgets, fewer features and extensions. Device i is played by the driver's device i, and again by the
 * first ones where there are fewer; it is number i in the counts below, and heaps and types are its own. Memory comes from
 * whatever the driver has, and is mapped only where its type says so. False: there is no driver. */
bool vklayer_pose(const machine *m);
void vklayer_budget(uint32_t device, uint32_t heap, uint64_t n_bytes); /* of the posed device, from now on */

/* ---- memory that is not what it seems ---- */

/* From now on every submit that touches one of the heap's n_blocks largest blocks takes what it binds of it / gb_s longer
 * (10^9 bytes a second). Returns their bytes. Of a posed device, and of memory that is there; at most 64 blocks are known. */
uint64_t vklayer_slow(uint32_t device, uint32_t heap, uint32_t n_blocks, double gb_s);
void vklayer_fast(uint32_t device, uint32_t heap); /* all of them are as fast as ever */
uint64_t vklayer_slow_bytes(uint32_t device, uint32_t heap);
void vklayer_sleep(uint64_t ns);
/* What the heap really holds, whatever its size and budget say (0: its size). Beyond it a machine that refuses fails the
 * allocation; of one that pages the block is slow from the first, at gb_s (0: 10); one that overcommits loses the device
 * when a submit touches more than that. */
void vklayer_limit(uint32_t device, uint32_t heap, uint64_t n_bytes, double gb_s);
/* From now on the driver's blocks have no more than so many bytes; those asked for are counted. Nothing can be run then:
 * it is for rehearsals of what no test machine could hold. 0: as asked. */
void vklayer_hollow(uint64_t most);

/* From now on the nth call that can fail (1 = the next) gives this VkResult, the others are carried out. 0: none fails.
 * Of the polls between two submits, only the first counts. */
void vklayer_fail_nth(uint64_t nth, int32_t result);
void vklayer_fail_from(uint64_t nth, uint64_t n, int32_t result); /* n of them in a row */
bool vklayer_fired(void);                                         /* since then */
const char *vklayer_victim(void);                                 /* the call that failed last, or "" */
/* The nth submit from now on (1 = the next) loses the device it goes to, which stays lost until it is destroyed. 0: none. */
void vklayer_lose_at(uint64_t nth_submit);
/* A call that can fail and was made, but was never the victim, since the program began; NULL: there is none. */
const char *vklayer_spared(void);

/* Since vklayer_host_init. */
uint64_t vklayer_live(vklayer_kind kind);
uint64_t vklayer_created(vklayer_kind kind);
uint64_t vklayer_live_objects(void);
uint64_t vklayer_created_objects(void);
/* Bytes allocated and not freed, by the device's own number of a heap or type. */
uint64_t vklayer_heap_bytes(uint32_t device, uint32_t heap);
uint64_t vklayer_type_bytes(uint32_t device, uint32_t type);
uint64_t vklayer_submits(void);
/* Destroyed twice, freed without having been allocated, mapped without being host-visible. */
uint64_t vklayer_mismatches(void);

#endif
