#include "api/handles.h"

uint32_t gemma_device_count(const gemma_runtime *rt) { return rt ? rt->n_devices : 0; }

static void describe(const gm_backend *be, gemma_device_info *info)
{
    memset(info, 0, sizeof *info);
    info->size = sizeof *info;
    be->fns->describe(be, info);
    info->n_heaps = be->fns->n_heaps(be);
}

int gemma_device_describe(const gemma_runtime *rt, uint32_t device, gemma_device_info *info)
{
    if (!rt || !info || device >= rt->n_devices) return GEMMA_E_ARG;
    gemma_device_info full;
    describe(rt->devices[device], &full);
    return gm_result_write(info, &full, sizeof full);
}

int gemma_heap_describe(const gemma_runtime *rt, uint32_t device, uint32_t heap, gemma_heap_info *info)
{
    if (!rt || !info || device >= rt->n_devices) return GEMMA_E_ARG;
    const gm_backend *be = rt->devices[device];
    if (heap >= be->fns->n_heaps(be)) return GEMMA_E_ARG;
    gm_heap_state state = { 0 };
    be->fns->heap(be, heap, &state);
    gemma_heap_info full = {
        .size = sizeof full,
        .pool = state.pool,
        .total_bytes = state.total_bytes,
        .budget_bytes = state.budget_bytes,
        .used_bytes = state.used_bytes,
        .reported = state.budget_reported,
    };
    memcpy(full.name, state.name, sizeof full.name);
    return gm_result_write(info, &full, sizeof full);
}

/* "cpu (AMD EPYC 9354, avx512-vnni); reference (plain C, float32)" */
static void list_devices(const gemma_runtime *rt, char *buffer, size_t n)
{
    size_t at = 0;
    buffer[0] = '\0';
    for (uint32_t i = 0; i < rt->n_devices; i++) {
        gemma_device_info info;
        describe(rt->devices[i], &info);
        at += gm_text_format(buffer + at, n - at, "%s%s (%s%s%s)", i ? "; " : "", info.id, info.name,
                             info.usable ? "" : ": ", info.usable ? "" : info.reason);
    }
}

/* An id, a kind's first id ("vulkan" for "vulkan:0"), or part of a name; ids go before parts of names. */
static bool is_called(const gemma_device_info *info, const char *name, bool by_name)
{
    size_t n = strlen(name);
    if (by_name) return gm_text_contains(info->name, name);
    return !strncmp(info->id, name, n) && (info->id[n] == '\0' || info->id[n] == ':');
}

int gemma_device_find(const gemma_runtime *rt, const char *name, uint32_t *device, gemma_error *error)
{
    gm_error_clear(error);
    if (!rt || !device) return gm_fail(error, GEMMA_E_ARG, "gemma_device_find: NULL");
    if (!name || !*name || !strcmp(name, "auto")) {
        *device = GEMMA_DEVICE_AUTO;
        return GEMMA_OK;
    }
    char reason[224] = "", list[256];
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < rt->n_devices; i++) {
            gemma_device_info info;
            describe(rt->devices[i], &info);
            if (!is_called(&info, name, pass == 1)) continue;
            if (info.usable) {
                *device = i;
                return GEMMA_OK;
            }
            gm_text_format(reason, sizeof reason, "%s cannot be used: %s; ", info.id, info.reason);
        }
    }
    list_devices(rt, list, sizeof list);
    const char *why = rt->why_no_gpu.message;
    return gm_fail(error, GEMMA_E_DEVICE, "%sno device \"%s\"; there are: %s%s%s", reason, name, list, *why ? "; " : "",
                   why);
}

/* ---- speeds ---- */

enum { PART_NS = 5000 };

/* Enough work for each part that no thread does another's on the side. */
static void be_busy(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)arg, (void)phase, (void)part, (void)n_parts;
    uint64_t until = gm_now_ns() + PART_NS;
    while (gm_now_ns() < until) gm_cpu_relax();
}

/* What a phase takes beyond the work of one part, of phases one behind the other as ops have them: the median of runs of
 * some ms in all. */
static double dispatch_us(gm_pool *pool)
{
    enum { RUNS = 64, LEAST = 5, PHASES = 16, ENOUGH_NS = 4000000 };
    uint64_t times[RUNS], begun = gm_now_ns(); /* ascending */
    uint32_t n = 0;
    gm_pool_run(pool, be_busy, NULL, PHASES, NULL); /* wakes the threads */
    while (n < LEAST || (n < RUNS && gm_now_ns() - begun < ENOUGH_NS)) {
        uint64_t start = gm_now_ns();
        gm_pool_run(pool, be_busy, NULL, PHASES, NULL);
        uint64_t ns = gm_now_ns() - start;
        uint32_t at = n++;
        for (; at && times[at - 1] > ns; at--) times[at] = times[at - 1];
        times[at] = ns;
    }
    uint64_t work_ns = (uint64_t)PHASES * PART_NS;
    return 1e-3 * (double)(times[n / 2] > work_ns ? times[n / 2] - work_ns : 1) / PHASES;
}

int gemma_device_probe(gemma_runtime *rt, uint32_t device, gemma_cancel *cancel, gemma_probe *result,
                       gemma_error *error)
{
    gm_error_clear(error);
    if (!rt || !result || device >= rt->n_devices)
        return gm_fail(error, GEMMA_E_ARG, "gemma_device_probe: NULL, or no device %u", device);
    gm_backend *be = rt->devices[device];
    gemma_probe full = { .size = sizeof full, .device = device };
    int rc = gm_backend_probe(be, cancel, &full, error);
    gemma_device_info info;
    describe(be, &info);
    if (!rc && info.kind == GEMMA_DEVICE_CPU) full.dispatch_us = dispatch_us(rt->pool);
    return rc ? rc : gm_result_write(result, &full, sizeof full);
}

int gemma_device_save_kernels(gemma_runtime *rt, uint32_t device, void *buffer, size_t n_cap, size_t *n_bytes,
                              gemma_error *error)
{
    gm_error_clear(error);
    if (!rt || device >= rt->n_devices || !n_bytes || (n_cap && !buffer))
        return gm_fail(error, GEMMA_E_ARG, "gemma_device_save_kernels: NULL, or no device %u", device);
    return gm_backend_save_kernels(rt->devices[device], buffer, n_cap, n_bytes, error);
}

int gemma_device_load_kernels(gemma_runtime *rt, uint32_t device, const void *bytes, size_t n_bytes, gemma_error *error)
{
    gm_error_clear(error);
    if (!rt || device >= rt->n_devices || (n_bytes && !bytes))
        return gm_fail(error, GEMMA_E_ARG, "gemma_device_load_kernels: NULL, or no device %u", device);
    return gm_backend_load_kernels(rt->devices[device], bytes, n_bytes, error);
}
