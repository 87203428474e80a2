/* The backend in builds without it. */
#include "backend/vulkan/vulkan.h"

int gm_vulkan_enumerate(gm_mem *mem, const gm_vulkan_host *host, gm_backend **devices, uint32_t cap, uint32_t *n,
                        gemma_error *why_none)
{
    (void)mem, (void)host, (void)devices, (void)cap;
    *n = 0;
    gm_fail(why_none, GEMMA_E_DEVICE, "this library was built without Vulkan");
    return GEMMA_OK;
}
