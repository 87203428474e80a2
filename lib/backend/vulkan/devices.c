/* The devices there are, each as a light backend: no VkDevice until one is needed. */
#include "backend/vulkan/exec.h"

#define TRANSFER_BYTES ((uint64_t)8 << 20)
/* Pipelines, command buffers and what allocations are rounded up by: a guess, until a loaded model was measured. */
#define DRIVER_BYTES ((uint64_t)16 << 20)

/* ---- the table ---- */

static void vk_destroy(gm_backend *be)
{
    gm_vk *vk = gm_vk_of(be);
    gm_vk_close(vk);
    gm_mutex_destroy(be->mem, vk->lock);
    gm_vk_instance_drop(vk->instance);
    gm_delete(be->mem, vk);
}

static void vk_describe(const gm_backend *be, gemma_device_info *info)
{
    const gm_vk *vk = gm_vk_of_const(be);
    info->kind = vk->caps.kind;
    info->n_heaps = vk->caps.n_heaps;
    info->usable = vk->caps.usable && !atomic_load(&vk->lost);
    gm_text_format(info->id, sizeof info->id, "vulkan:%u", vk->number);
    gm_text_format(info->name, sizeof info->name, "%s", vk->caps.name);
    const char *reason = vk->caps.reason;
    if (vk->caps.usable && !info->usable) reason = "the device was lost";
    gm_text_format(info->reason, sizeof info->reason, "%s", reason);
}

static uint32_t vk_n_heaps(const gm_backend *be) { return gm_vk_of_const(be)->caps.n_heaps; }

static const gm_backend_fns vk_fns = {
    .destroy = vk_destroy,
    .describe = vk_describe,
    .n_heaps = vk_n_heaps,
    .heap_of = gm_vk_heap_of,
    .heap = gm_vk_heap_state,
    .has_kernel = gm_vk_has_kernel,
    .refuses = gm_vk_refuses,
    .workspace_bytes = gm_vk_workspace_bytes,
    .buffer_create = gm_vk_buffer_create,
    .buffer_destroy = gm_vk_buffer_destroy,
    .buffer_write = gm_vk_buffer_write,
    .buffer_read = gm_vk_buffer_read,
    .send = gm_vk_send,
    .sent = gm_vk_sent,
    .compile = gm_vk_compile,
    .exec_destroy = gm_vk_exec_destroy,
    .submit = gm_vk_exec_submit,
    .wait = gm_vk_exec_wait,
    .read_rate = gm_vk_read_rate,
    .counts = gm_vk_exec_counts,
    .reader_create = gm_vk_reader_create,
    .reader_destroy = gm_vk_reader_destroy,
    .reader_time = gm_vk_reader_time,
    .save_kernels = gm_vk_save_kernels,
    .load_kernels = gm_vk_load_kernels,
};

/* ---- the list ---- */

/* Which of two drivers of one GPU is taken: the smaller number. */
static uint32_t driver_rank(uint32_t driver_id)
{
    switch (driver_id) {
    case VK_DRIVER_ID_MESA_RADV:
    case VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA:
    case VK_DRIVER_ID_NVIDIA_PROPRIETARY: return 0;
    case VK_DRIVER_ID_AMD_OPEN_SOURCE: return 1;
    default: return 2;
    }
}

static uint32_t rank(const gm_vk *vk)
{
    const gm_vk_caps *c = &vk->caps;
    if (!c->usable) return 3;
    return c->kind == GEMMA_DEVICE_DISCRETE ? 0 : c->kind == GEMMA_DEVICE_INTEGRATED ? 1 : 2;
}

static bool same_gpu(const gm_vk *a, const gm_vk *b)
{
    bool moltenvk = a->caps.driver_id == VK_DRIVER_ID_MOLTENVK; /* repeats UUIDs of different GPUs */
    return !moltenvk && memcmp(a->caps.uuid, b->caps.uuid, sizeof a->caps.uuid) == 0;
}

/* Of two that are one GPU, whether a is the one to keep. */
static bool is_better(const gm_vk *a, const gm_vk *b)
{
    if (a->caps.usable != b->caps.usable) return a->caps.usable;
    return driver_rank(a->caps.driver_id) < driver_rank(b->caps.driver_id);
}

static int create_device(gm_vk_instance *in, VkPhysicalDevice physical, gm_vk **out)
{
    gm_vk_report report;
    gm_vk *vk = gm_new(in->mem, sizeof *vk, GEMMA_TAG_OBJECT);
    int rc = vk ? gm_mutex_create(in->mem, &vk->lock) : GEMMA_E_NOMEM;
    if (!rc) rc = gm_vk_report_read(in, physical, &report);
    if (rc) {
        if (vk) gm_mutex_destroy(in->mem, vk->lock);
        gm_delete(in->mem, vk);
        return rc;
    }
    gm_vk_caps_read(&report, &vk->caps);
    if (in->host.device) vk->caps.queue_family = in->host.queue_family;
    gm_delete(in->mem, (void *)report.extensions);
    vk->base = (gm_backend){ .fns = &vk_fns, .mem = in->mem, .default_kv = GEMMA_TYPE_F16 };
    gm_ref_take(&in->ref);
    vk->instance = in;
    vk->physical = physical;
    vk->memory = report.memory;
    if (!gm_vk_is_seen(vk, GEMMA_TAG_WEIGHTS)) vk->base.transfer_bytes = TRANSFER_BYTES;
    if (vk->caps.kind != GEMMA_DEVICE_SOFTWARE) vk->base.driver_bytes = DRIVER_BYTES;
    vk->work_per_ms = vk->caps.kind == GEMMA_DEVICE_SOFTWARE ? 2000000 : 500000000; /* a guess, until one is timed */
    *out = vk;
    return GEMMA_OK;
}

/* Puts a device into its place in the list, or drops it, or what it is better than. */
static void enter(gm_vk **list, uint32_t *n, gm_vk *vk)
{
    for (uint32_t i = 0; i < *n; i++) {
        if (!same_gpu(list[i], vk)) continue;
        gm_vk *worse = is_better(vk, list[i]) ? list[i] : vk;
        if (worse == vk) {
            vk_destroy(&vk->base);
            return;
        }
        for (--*n; i < *n; i++) list[i] = list[i + 1];
        vk_destroy(&worse->base);
        break;
    }
    uint32_t at = (*n)++;
    for (; at && rank(vk) < rank(list[at - 1]); at--) list[at] = list[at - 1];
    list[at] = vk;
}

/* Drivers of GPUs list none where they may not open its file. */
#define ACCESS "on Linux the process needs access to /dev/dri/renderD*"

static void say_why_no_gpu(gm_vk *const *list, uint32_t n, gemma_error *why_none)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i]->caps.kind != GEMMA_DEVICE_SOFTWARE) return;
    if (n) gm_fail(why_none, GEMMA_E_DEVICE, "Vulkan has only software here (%s); " ACCESS, list[0]->caps.name);
}

static int list_physical(gm_vk_instance *in, VkPhysicalDevice *all, uint32_t *n, gemma_error *why_none)
{
    if (in->host.device) {
        all[0] = in->host.physical_device;
        *n = 1;
        return GEMMA_OK;
    }
    VkResult r = in->fn.EnumeratePhysicalDevices(in->handle, n, all); /* INCOMPLETE: more than we list */
    if (r == VK_ERROR_OUT_OF_HOST_MEMORY) return GEMMA_E_NOMEM;
    if (r < 0 || *n == 0) {
        *n = 0;
        gm_fail(why_none, GEMMA_E_DEVICE, "Vulkan has no device here; " ACCESS);
    }
    return GEMMA_OK;
}

static int check_host(const gm_vulkan_host *h, gemma_error *error)
{
    bool some = h->physical_device || h->device || h->queue, all = h->physical_device && h->device && h->queue;
    if (some && !(all && h->instance))
        return gm_fail(error, GEMMA_E_ARG, "a Vulkan device of the host needs its instance, physical device and queue");
    if (!h->lock != !h->unlock) return gm_fail(error, GEMMA_E_ARG, "a queue's lock and unlock go together");
    return GEMMA_OK;
}

int gm_vulkan_enumerate(gm_mem *mem, const gm_vulkan_host *host, gm_backend **devices, uint32_t cap, uint32_t *n,
                        gemma_error *why_none)
{
    VkPhysicalDevice all[GM_VULKAN_DEVICES_MAX];
    gm_vk *list[GM_VULKAN_DEVICES_MAX];
    gm_vk_instance *in = NULL;
    uint32_t n_all = GM_COUNT(all), n_list = 0;
    *n = 0;
    int rc = host ? check_host(host, why_none) : GEMMA_OK;
    if (rc) return rc;
    rc = gm_vk_instance_create(mem, host, &in, why_none);
    if (rc == GEMMA_E_DEVICE) return GEMMA_OK;
    if (!rc) rc = list_physical(in, all, &n_all, why_none);
    for (uint32_t i = 0; !rc && i < n_all; i++) {
        gm_vk *vk = NULL;
        rc = create_device(in, all[i], &vk);
        if (!rc) enter(list, &n_list, vk);
    }
    gm_vk_instance_drop(in);
    if (!rc) say_why_no_gpu(list, n_list, why_none);
    for (uint32_t i = 0; i < n_list; i++) {
        if (rc || i >= cap) {
            vk_destroy(&list[i]->base);
            continue;
        }
        list[i]->number = i;
        devices[(*n)++] = &list[i]->base;
    }
    return rc ? gm_fail(why_none, rc, "out of host memory while Vulkan devices were listed") : GEMMA_OK;
}
