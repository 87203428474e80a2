/* The CPU as a device: one heap, buffers of host memory. */
#include "backend/cpu/exec.h"

static gm_cpu *cpu_of(gm_backend *be) { return (gm_cpu *)be; }
static const gm_cpu *cpu_of_const(const gm_backend *be) { return (const gm_cpu *)be; }

static void cpu_destroy(gm_backend *be) { gm_delete(be->mem, cpu_of(be)); }

static void cpu_describe(const gm_backend *be, gemma_device_info *info)
{
    const gm_cpu *cpu = cpu_of_const(be);
    char name[96];
    gm_cpu_name(name, sizeof name);
    info->kind = GEMMA_DEVICE_CPU;
    info->n_heaps = 1;
    info->usable = 1;
    gm_text_format(info->id, sizeof info->id, "%s", cpu->reference ? "reference" : "cpu");
    gm_text_format(info->name, sizeof info->name, "%s (%s)", name, cpu->kernels.level);
    info->reason[0] = 0;
}

static uint32_t cpu_n_heaps(const gm_backend *be)
{
    (void)be;
    return 1;
}

static void cpu_heap(const gm_backend *be, uint32_t heap, gm_heap_state *state)
{
    (void)heap;
    uint64_t used = 0, described = cpu_of_const(be)->ram_bytes;
    for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++) used += gm_mem_live(be->mem, tag);
    *state = (gm_heap_state){ .name = "RAM",
                              .pool = 0,
                              .total_bytes = described ? described : gm_ram_total_bytes(),
                              .budget_bytes = described ? described : gm_ram_available_bytes() + used,
                              .used_bytes = used,
                              .budget_reported = true };
}

static uint64_t cpu_workspace_bytes(const gm_backend *be, const gm_program *p, const gm_step_limits *limits)
{
    (void)limits;
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->n_ops; i++)
        most = gm_max_u64(most, gm_cpu_op_work(cpu_of_const(be), p, &p->ops[i]).total_bytes);
    return most;
}

static int cpu_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                             gemma_error *error)
{
    gm_buffer *b = gm_new(be->mem, sizeof *b, GEMMA_TAG_OBJECT);
    void *memory = gm_mem_alloc(be->mem, n_bytes, 64, tag);
    if (!b || !memory) {
        gm_delete(be->mem, b);
        gm_mem_free(be->mem, memory, n_bytes, tag);
        return gm_fail_nomem(error, "a buffer", n_bytes);
    }
    *b = (gm_buffer){ .backend = be, .n_bytes = n_bytes, .heap = heap, .tag = tag, .host = memory };
    *out = b;
    return GEMMA_OK;
}

static void cpu_buffer_destroy(gm_buffer *b)
{
    if (!b) return;
    gm_mem *mem = b->backend->mem;
    gm_mem_free(mem, b->host, b->n_bytes, b->tag);
    gm_delete(mem, b);
}

static int cpu_buffer_write(gm_buffer *b, uint64_t offset, const void *src, uint64_t n, gemma_error *error)
{
    (void)error;
    memcpy((uint8_t *)b->host + offset, src, n);
    return GEMMA_OK;
}

static int cpu_buffer_read(gm_buffer *b, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    (void)error;
    memcpy(dst, (const uint8_t *)b->host + offset, n);
    return GEMMA_OK;
}

static const gm_backend_fns cpu_fns = {
    .destroy = cpu_destroy,
    .describe = cpu_describe,
    .n_heaps = cpu_n_heaps,
    .heap = cpu_heap,
    .refuses = gm_cpu_refuses,
    .workspace_bytes = cpu_workspace_bytes,
    .buffer_create = cpu_buffer_create,
    .buffer_destroy = cpu_buffer_destroy,
    .buffer_write = cpu_buffer_write,
    .buffer_read = cpu_buffer_read,
    .compile = gm_cpu_compile,
    .exec_destroy = gm_cpu_exec_destroy,
    .submit = gm_cpu_submit,
    .wait = gm_cpu_wait,
    .read_rate = gm_cpu_read_rate,
    .counts = gm_cpu_counts,
};

int gm_cpu_create(gm_mem *mem, gm_pool *pool, uint32_t features, bool reference, uint64_t ram_bytes, gm_backend **out,
                  gemma_error *error)
{
    *out = NULL;
    gm_cpu *cpu = gm_new(mem, sizeof *cpu, GEMMA_TAG_OBJECT);
    if (!cpu) return gm_fail_nomem(error, "the CPU device", sizeof *cpu);
    cpu->base = (gm_backend){
        .fns = &cpu_fns, .mem = mem, .default_kv = reference ? GEMMA_TYPE_F32 : GEMMA_TYPE_F16, .can_map = true
    };
    cpu->pool = pool;
    cpu->n_parts = gm_pool_n_threads(pool);
    cpu->reference = reference;
    cpu->ram_bytes = ram_bytes;
    if (reference)
        gm_cpu_reference_kernels(&cpu->kernels);
    else
        gm_kernels_pick(&cpu->kernels, features);
    *out = &cpu->base;
    return GEMMA_OK;
}
