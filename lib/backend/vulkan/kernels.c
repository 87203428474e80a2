/* Compiled kernels for the host to keep: the driver's pipeline cache behind a header of ours, which says whose it is.
 * docs/formats.md has the form in words. */
#include "backend/vulkan/device.h"

#define KERNELS_MAGIC   "GEMMAKRN"
#define KERNELS_VERSION 1
#define HEADER_BYTES    80 /* a multiple of 16: what is behind it lies as its buffer does */
#define HASHED_BYTES    72 /* of the header; the hash follows */
#define CACHE_BYTES     32 /* of the driver's own header, VkPipelineCacheHeaderVersionOne */

typedef unsigned long long ull;

/* Of everything that was compiled: another library's kernels are dead weight. */
static uint64_t hash_modules(void)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < gm_spirv_n_modules; i++)
        hash = gm_hash64(gm_spirv_modules[i].words, gm_spirv_modules[i].n_bytes, hash);
    return hash;
}

static uint64_t hash_all(const uint8_t *b, uint64_t n_bytes)
{
    return gm_hash64(b + HEADER_BYTES, n_bytes - HEADER_BYTES, gm_hash64(b, HASHED_BYTES, 0));
}

/* The header of this device for a whole of n_bytes, but for its hash. */
static void write_header(const gm_vk *vk, uint64_t n_bytes, uint8_t *b)
{
    VkPhysicalDeviceProperties p;
    vk->instance->fn.GetPhysicalDeviceProperties(vk->physical, &p);
    memset(b, 0, HEADER_BYTES);
    memcpy(b, KERNELS_MAGIC, 8);
    gm_store_u32(b + 8, KERNELS_VERSION);
    gm_store_u32(b + 12, HEADER_BYTES);
    gm_store_u64(b + 16, n_bytes);
    gm_store_u32(b + 24, p.vendorID);
    gm_store_u32(b + 28, p.deviceID);
    gm_store_u32(b + 32, vk->caps.driver_id);
    gm_store_u32(b + 36, p.driverVersion);
    gm_store_u32(b + 40, sizeof(void *));
    memcpy(b + 48, p.pipelineCacheUUID, VK_UUID_SIZE);
    gm_store_u64(b + 64, hash_modules());
}

/* ---- saving ---- */

static int save(gm_vk *vk, uint8_t *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error)
{
    size_t n = 0;
    if (atomic_load(&vk->lost)) return gm_fail(error, GEMMA_E_LOST, "%s was lost", vk->caps.name);
    if (!vk->n_pipelines) return GEMMA_OK;
    VkResult r = vk->fn.GetPipelineCacheData(vk->handle, vk->cache, &n, NULL);
    if (r) return gm_vk_check(vk, r, "vkGetPipelineCacheData", error);
    if (n < CACHE_BYTES) return GEMMA_OK; /* this driver gives nothing away */
    *n_bytes = HEADER_BYTES + n;
    if (*n_bytes > n_cap)
        return gm_fail(error, GEMMA_E_SMALL, "the kernels of %s have %llu bytes; there is room for %llu", vk->caps.name,
                       (ull)*n_bytes, (ull)n_cap);
    r = vk->fn.GetPipelineCacheData(vk->handle, vk->cache, &n, buffer + HEADER_BYTES);
    if (r == VK_INCOMPLETE && n >= CACHE_BYTES)
        r = VK_SUCCESS; /* what was written is valid, the rest is compiled again */
    *n_bytes = r || n < CACHE_BYTES ? 0 : HEADER_BYTES + n;
    if (r) return gm_vk_check(vk, r, "vkGetPipelineCacheData", error);
    if (!*n_bytes) return GEMMA_OK;
    write_header(vk, *n_bytes, buffer);
    gm_store_u64(buffer + HASHED_BYTES, hash_all(buffer, *n_bytes));
    return GEMMA_OK;
}

int gm_vk_save_kernels(gm_backend *be, void *buffer, size_t n_cap, size_t *n_bytes, gemma_error *error)
{
    gm_vk *vk = gm_vk_of(be);
    gm_mutex_lock(vk->lock);
    int rc = save(vk, buffer, n_cap, n_bytes, error);
    gm_mutex_unlock(vk->lock);
    return rc;
}

/* ---- loading ---- */

/* They are whole, and as they were written. */
static int check_form(const uint8_t *b, uint64_t n_bytes, gemma_error *error)
{
    if (n_bytes < HEADER_BYTES + CACHE_BYTES || memcmp(b, KERNELS_MAGIC, 8))
        return gm_fail(error, GEMMA_E_FORMAT, "%llu bytes that are no saved kernels", (ull)n_bytes);
    uint32_t version = gm_load_u32(b + 8), n_header = gm_load_u32(b + 12);
    if (version != KERNELS_VERSION || n_header != HEADER_BYTES)
        return gm_fail(error, GEMMA_E_FORMAT, "saved kernels of version %u (%u); this library knows %u (%u)", version,
                       n_header, KERNELS_VERSION, HEADER_BYTES);
    if (gm_load_u64(b + 16) != n_bytes)
        return gm_fail(error, GEMMA_E_FORMAT, "the saved kernels are damaged: %llu bytes of %llu", (ull)n_bytes,
                       (ull)gm_load_u64(b + 16));
    if (gm_load_u64(b + HASHED_BYTES) != hash_all(b, n_bytes))
        return gm_fail(error, GEMMA_E_FORMAT, "the saved kernels are damaged: their checksum is wrong");
    return GEMMA_OK;
}

/* They are of this device, its driver and this library. */
static int check_origin(const gm_vk *vk, const uint8_t *b, uint64_t n_bytes, gemma_error *error)
{
    const char *name = vk->caps.name;
    const uint8_t *cache = b + HEADER_BYTES;
    uint8_t own[HEADER_BYTES];
    write_header(vk, n_bytes, own);
    if (memcmp(b + 24, own + 24, 8) != 0)
        return gm_fail(error, GEMMA_E_FORMAT, "the saved kernels are of device %x:%x; %s is %x:%x", gm_load_u32(b + 24),
                       gm_load_u32(b + 28), name, gm_load_u32(own + 24), gm_load_u32(own + 28));
    if (memcmp(b + 32, own + 32, 32) != 0)
        return gm_fail(
            error, GEMMA_E_FORMAT,
            "the saved kernels are of driver %u, version %x; %s has driver %u, version %x (or another build)",
            gm_load_u32(b + 32), gm_load_u32(b + 36), name, gm_load_u32(own + 32), gm_load_u32(own + 36));
    if (memcmp(b + 64, own + 64, 8) != 0)
        return gm_fail(error, GEMMA_E_FORMAT, "the saved kernels are of another version of this library");
    if (gm_load_u32(cache) < CACHE_BYTES || gm_load_u32(cache) > n_bytes - HEADER_BYTES ||
        gm_load_u32(cache + 4) != VK_PIPELINE_CACHE_HEADER_VERSION_ONE || memcmp(cache + 8, own + 24, 8) != 0 ||
        memcmp(cache + 16, own + 48, VK_UUID_SIZE) != 0)
        return gm_fail(error, GEMMA_E_FORMAT, "the saved kernels have a header that is not of %s", name);
    return GEMMA_OK;
}

/* A cache with what was loaded and what is there takes the old one's place. */
static int adopt(gm_vk *vk, const uint8_t *cache, uint64_t n_bytes, gemma_error *error)
{
    VkPipelineCacheCreateInfo info = { .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                       .initialDataSize = (size_t)n_bytes,
                                       .pInitialData = cache };
    VkPipelineCache more = VK_NULL_HANDLE;
    VkResult r = vk->fn.CreatePipelineCache(vk->handle, &info, NULL, &more);
    if (r) return gm_vk_check(vk, r, "vkCreatePipelineCache", error);
    r = vk->fn.MergePipelineCaches(vk->handle, more, 1, &vk->cache);
    vk->fn.DestroyPipelineCache(vk->handle, r ? more : vk->cache, NULL);
    if (!r) vk->cache = more;
    return gm_vk_check(vk, r, "vkMergePipelineCaches", error);
}

int gm_vk_load_kernels(gm_backend *be, const void *bytes, size_t n_bytes, gemma_error *error)
{
    gm_vk *vk = gm_vk_of(be);
    const uint8_t *b = bytes;
    int rc = check_form(b, n_bytes, error);
    if (!rc) rc = check_origin(vk, b, n_bytes, error);
    if (!rc) rc = gm_vk_open(vk, error);
    if (rc) return rc;
    gm_mutex_lock(vk->lock);
    rc = adopt(vk, b + HEADER_BYTES, n_bytes - HEADER_BYTES, error);
    gm_mutex_unlock(vk->lock);
    return rc;
}
