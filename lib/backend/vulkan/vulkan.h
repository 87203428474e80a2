/* backend/vulkan: GPUs through Vulkan 1.2 compute. The contract with the shaders is docs/vulkan.md. */
#ifndef GM_VULKAN_H
#define GM_VULKAN_H

#include "backend/backend.h"
#include "gemma/vulkan.h"

#define GM_VULKAN_DEVICES_MAX 16

typedef gemma_vulkan_host gm_vulkan_host;

/* One backend per physical device, at most cap of them, best first: discrete, integrated, software. A GPU that two
 * drivers offer is listed once. Devices that cannot be used are listed behind the others, usable = 0 with the reason.
 * Ids are "vulkan:0" …. Without any device *n = 0 and the result is OK. *why_none then says why, and also where
 * there is only software (NULL: do not care).
 * `host` (may be NULL) is copied, its extension names are not kept. A device's own VkDevice is created on the first
 * buffer, so listing devices is cheap. Errors: NOMEM, ARG (a host's device without its parts). */
int gm_vulkan_enumerate(gm_mem *mem, const gm_vulkan_host *host, gm_backend **devices, uint32_t cap, uint32_t *n,
                        gemma_error *why_none);

#endif
