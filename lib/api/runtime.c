#include "api/handles.h"
#include "backend/cpu/cpu.h"
#include "backend/vulkan/vulkan.h"

uint32_t gemma_version(void) { return GEMMA_VERSION_MAJOR << 16 | GEMMA_VERSION_MINOR << 8 | GEMMA_VERSION_PATCH; }

const char *gemma_error_name(int code) { return gm_error_name(code); }
const char *gemma_error_text(int code) { return gm_error_text(code); }

/* The runtime holds the allocator it was allocated with, so its own block goes back through a copy of the hooks. */
static void release(gemma_runtime *rt)
{
    for (uint32_t i = 0; i < rt->n_devices; i++) gm_backend_destroy(rt->devices[i]);
    gm_pool_destroy(rt->pool);
    gm_mem mem;
    gm_mem_init(&mem, &rt->mem.host);
    gm_mem_free(&mem, rt, sizeof *rt, GEMMA_TAG_OBJECT);
}

void gm_runtime_drop(gemma_runtime *rt)
{
    if (rt && gm_ref_drop(&rt->ref)) release(rt);
}

static int add_cpu_devices(gemma_runtime *rt, uint32_t features, uint64_t ram_bytes, gemma_error *error)
{
    for (int reference = 0; reference <= 1; reference++) {
        gm_backend **device = &rt->devices[rt->n_devices];
        int rc = gm_cpu_create(&rt->mem, rt->pool, features, reference, ram_bytes, device, error);
        if (rc) return rc;
        rt->n_devices++;
    }
    return GEMMA_OK;
}

/* A machine without Vulkan has no such devices, and the reason is kept. */
static int add_vulkan_devices(gemma_runtime *rt, const gemma_runtime_options *o, gemma_error *error)
{
    gm_error_init(&rt->why_no_gpu);
    if (o->flags & GEMMA_RUNTIME_NO_VULKAN) return GEMMA_OK;
    gemma_vulkan_host host;
    int rc = gm_options_read(&host, sizeof host, o->vulkan, "gemma_vulkan_host", error);
    if (rc) return rc;
    uint32_t n = 0;
    rc = gm_vulkan_enumerate(&rt->mem, o->vulkan ? &host : NULL, rt->devices + rt->n_devices,
                             GM_DEVICES_MAX - rt->n_devices, &n, &rt->why_no_gpu);
    if (rc) return gm_fail(error, rc, "%s", rt->why_no_gpu.message);
    rt->n_devices += n;
    return GEMMA_OK;
}

int gemma_runtime_create(const gemma_host *host, const gemma_runtime_options *options, gemma_runtime **out,
                         gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_runtime_create: out is NULL");
    *out = NULL;
    gemma_host hooks;
    gemma_runtime_options o;
    int rc = gm_options_read(&hooks, sizeof hooks, host, "gemma_host", error);
    if (!rc) rc = gm_options_read(&o, sizeof o, options, "gemma_runtime_options", error);
    if (rc) return rc;
    if (o.flags & ~(uint32_t)GEMMA_RUNTIME_NO_VULKAN)
        return gm_fail(error, GEMMA_E_VERSION, "gemma_runtime_options: unknown flags 0x%x", o.flags);
    if (!hooks.alloc != !hooks.free)
        return gm_fail(error, GEMMA_E_ARG, "gemma_host: alloc and free must be given together");

    gm_mem boot;
    gm_mem_init(&boot, &hooks);
    gemma_runtime *rt = gm_mem_alloc(&boot, sizeof *rt, 64, GEMMA_TAG_OBJECT);
    if (!rt) return gm_fail_nomem(error, "the runtime", sizeof *rt);
    memset(rt, 0, sizeof *rt);
    gm_mem_init(&rt->mem, &hooks);
    gm_ref_init(&rt->ref);
    uint32_t n_threads = o.n_threads ? o.n_threads : gm_n_cores();
    rc = gm_pool_create(&rt->mem, n_threads, &rt->pool, error);
    if (!rc) rc = add_cpu_devices(rt, gm_cpu_features() & ~o.cpu_mask, o.ram_bytes, error);
    if (!rc) rc = add_vulkan_devices(rt, &o, error);
    if (rc) {
        release(rt);
        return rc;
    }
    *out = rt;
    return GEMMA_OK;
}

void gemma_runtime_destroy(gemma_runtime *runtime) { gm_runtime_drop(runtime); }

int gemma_cancel_create(gemma_runtime *rt, gemma_cancel **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_cancel_create: out is NULL");
    *out = NULL;
    if (!rt) return gm_fail(error, GEMMA_E_ARG, "gemma_cancel_create: runtime is NULL");
    *out = gm_new(&rt->mem, sizeof **out, GEMMA_TAG_OBJECT);
    if (!*out) return gm_fail_nomem(error, "a cancel object", sizeof **out);
    (*out)->mem = &rt->mem;
    (*out)->owner = rt;
    gm_ref_take(&rt->ref);
    return GEMMA_OK;
}

void gemma_cancel_raise(gemma_cancel *c)
{
    if (c) atomic_store_explicit(&c->raised, 1, memory_order_relaxed);
}

void gemma_cancel_clear(gemma_cancel *c)
{
    if (c) atomic_store_explicit(&c->raised, 0, memory_order_relaxed);
}

int gemma_cancel_raised(const gemma_cancel *c) { return c && atomic_load_explicit(&c->raised, memory_order_relaxed); }

void gemma_cancel_destroy(gemma_cancel *c)
{
    if (!c) return;
    gemma_runtime *rt = c->owner;
    gm_delete(&rt->mem, c);
    gm_runtime_drop(rt);
}
