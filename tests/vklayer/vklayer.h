/* A layer between the library and the system's Vulkan loader: counts objects, bytes and submits, makes the nth call fail,
 * loses the device. It is put in by gemma_vulkan_host.get_instance_proc_addr and changes nothing else of what a driver
 * does. One per program; used by one thread at a time. */
#ifndef VKLAYER_H
#define VKLAYER_H

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
void vklayer_show(vklayer_machine machine);

/* From now on the nth call that can fail (1 = the next) gives this VkResult, the others are carried out. 0: none fails.
 * Of the polls between two submits, only the first counts. */
void vklayer_fail_nth(uint64_t nth, int32_t result);
bool vklayer_fired(void);         /* since vklayer_fail_nth */
const char *vklayer_victim(void); /* the call that failed last, or "" */
/* The nth submit from now on (1 = the next) loses the device, which stays lost until it is destroyed. 0: none. */
void vklayer_lose_at(uint64_t nth_submit);
/* A call that can fail and was made, but was never the victim, since the program began; NULL: there is none. */
const char *vklayer_spared(void);

/* Since vklayer_host_init. */
uint64_t vklayer_live(vklayer_kind kind);
uint64_t vklayer_created(vklayer_kind kind);
uint64_t vklayer_live_objects(void);
uint64_t vklayer_created_objects(void);
uint64_t vklayer_heap_bytes(uint32_t heap); /* allocated and not freed; the driver's heap number */
uint64_t vklayer_submits(void);
/* Destroyed twice, or freed without having been allocated. */
uint64_t vklayer_mismatches(void);

#endif
