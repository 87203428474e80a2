/* The device: heaps, buffers, the record of calls. */
#include "backend/dummy/device.h"

static void push(gm_dummy *d, const gm_dummy_entry *entry)
{
    d->log[d->n_entries++ % GM_DUMMY_LOG] = *entry;
    d->counts[entry->call]++;
}

int gm_dummy_record(gm_dummy *d, gm_dummy_entry entry)
{
    if (d->fail_nth && (d->fail_call == GM_DUMMY_CALLS || d->fail_call == entry.call) && --d->fail_nth == 0)
        entry.result = d->fail_code;
    push(d, &entry);
    return entry.result;
}

static const char *const call_names[GM_DUMMY_CALLS] = { "buffer_create", "buffer_destroy", "buffer_write",
                                                        "buffer_read",   "compile",        "exec_destroy",
                                                        "submit",        "wait",           "probe" };

int gm_dummy_attempt(gm_dummy *d, gm_dummy_entry entry, gemma_error *error)
{
    int rc = gm_dummy_record(d, entry);
    return rc ? gm_fail(error, rc, "dummy device: %s was told to fail", call_names[entry.call]) : GEMMA_OK;
}

static void dummy_destroy(gm_backend *be) { gm_delete(be->mem, gm_dummy_of(be)); }

static void dummy_describe(const gm_backend *be, gemma_device_info *info)
{
    info->kind = GEMMA_DEVICE_SOFTWARE;
    info->n_heaps = gm_dummy_of_const(be)->options.n_heaps;
    info->usable = 1;
    gm_text_format(info->id, sizeof info->id, "dummy");
    gm_text_format(info->name, sizeof info->name, "dummy device");
    info->reason[0] = 0;
}

static uint32_t dummy_n_heaps(const gm_backend *be) { return gm_dummy_of_const(be)->options.n_heaps; }

static void dummy_heap(const gm_backend *be, uint32_t heap, gm_heap_state *state)
{
    const gm_dummy *d = gm_dummy_of_const(be);
    *state = d->options.heaps[heap];
    state->used_bytes = d->held[heap];
}

static const char *dummy_refuses(const gm_backend *be, const gm_program *p, const gm_op *op)
{
    (void)p, (void)op;
    return gm_dummy_of_const(be)->refusal;
}

static bool dummy_has_kernel(const gm_backend *be, const gm_op *op, uint32_t i, const gm_weight_shape *s)
{
    const gm_dummy *d = gm_dummy_of_const(be);
    (void)i;
    return s->format->type != d->lacked_type || (d->lacked_by && d->lacked_by != op->kind);
}

static uint64_t dummy_workspace_bytes(const gm_backend *be, const gm_program *p, const gm_step_limits *limits)
{
    (void)limits;
    (void)p;
    return gm_dummy_of_const(be)->options.workspace_bytes;
}

static int dummy_buffer_create(gm_backend *be, uint32_t heap, uint64_t n_bytes, uint32_t tag, gm_buffer **out,
                               gemma_error *error)
{
    gm_dummy *d = gm_dummy_of(be);
    gm_dummy_entry entry = { .call = GM_DUMMY_BUFFER_CREATE, .heap = heap, .tag = tag, .n_bytes = n_bytes };
    int rc = gm_dummy_attempt(d, entry, error);
    if (rc) return rc;
    gm_buffer *b = gm_new(be->mem, sizeof *b, GEMMA_TAG_OBJECT);
    void *memory = gm_mem_alloc(be->mem, n_bytes, 64, tag);
    if (!b || !memory) {
        gm_delete(be->mem, b);
        gm_mem_free(be->mem, memory, n_bytes, tag);
        return gm_fail_nomem(error, "a buffer of the dummy device", n_bytes);
    }
    *b = (gm_buffer){ .backend = be, .n_bytes = n_bytes, .heap = heap, .tag = tag, .host = memory };
    d->held[heap] += n_bytes;
    *out = b;
    return GEMMA_OK;
}

static void dummy_buffer_destroy(gm_buffer *b)
{
    if (!b) return;
    gm_dummy *d = gm_dummy_of(b->backend);
    push(d,
         &(gm_dummy_entry){ .call = GM_DUMMY_BUFFER_DESTROY, .heap = b->heap, .tag = b->tag, .n_bytes = b->n_bytes });
    d->held[b->heap] -= b->n_bytes;
    gm_mem_free(d->base.mem, b->host, b->n_bytes, b->tag);
    gm_delete(d->base.mem, b);
}

static int dummy_buffer_write(gm_buffer *b, uint64_t offset, const void *src, uint64_t n, gemma_error *error)
{
    gm_dummy_entry entry = { .call = GM_DUMMY_WRITE, .heap = b->heap, .tag = b->tag, .n_bytes = n };
    int rc = gm_dummy_attempt(gm_dummy_of(b->backend), entry, error);
    if (!rc) memcpy((char *)b->host + offset, src, n);
    return rc;
}

static int dummy_buffer_read(gm_buffer *b, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    gm_dummy_entry entry = { .call = GM_DUMMY_READ, .heap = b->heap, .tag = b->tag, .n_bytes = n };
    int rc = gm_dummy_attempt(gm_dummy_of(b->backend), entry, error);
    if (!rc) memcpy(dst, (const char *)b->host + offset, n);
    return rc;
}

static int dummy_read_rate(gm_backend *be, gm_buffer *buffer, const gemma_cancel *cancel, double *gb_s,
                           gemma_error *error)
{
    (void)buffer;
    int rc = gm_dummy_attempt(gm_dummy_of(be), (gm_dummy_entry){ .call = GM_DUMMY_PROBE }, error);
    if (rc) return rc;
    if (cancel && atomic_load(&cancel->raised)) return gm_fail(error, GEMMA_E_CANCELLED, "the probe was cancelled");
    *gb_s = 10;
    return GEMMA_OK;
}

static const gm_backend_fns dummy_fns = {
    .destroy = dummy_destroy,
    .describe = dummy_describe,
    .n_heaps = dummy_n_heaps,
    .heap = dummy_heap,
    .has_kernel = dummy_has_kernel,
    .refuses = dummy_refuses,
    .workspace_bytes = dummy_workspace_bytes,
    .buffer_create = dummy_buffer_create,
    .buffer_destroy = dummy_buffer_destroy,
    .buffer_write = dummy_buffer_write,
    .buffer_read = dummy_buffer_read,
    .compile = gm_dummy_compile,
    .exec_destroy = gm_dummy_exec_destroy,
    .submit = gm_dummy_submit,
    .wait = gm_dummy_wait,
    .read_rate = dummy_read_rate,
    .counts = gm_dummy_counts,
};

int gm_dummy_create(gm_mem *mem, const gm_dummy_options *options, gm_backend **out, gemma_error *error)
{
    static const gm_dummy_options defaults = {
        .n_heaps = 1,
        .heaps = { { .name = "RAM", .total_bytes = 1ull << 30, .budget_bytes = 1ull << 30, .budget_reported = true } },
        .can_map = true,
    };
    *out = NULL;
    if (!options) options = &defaults;
    if (options->n_heaps < 1 || options->n_heaps > GM_DUMMY_HEAPS || options->workspace_bytes % 64)
        return gm_fail(error, GEMMA_E_ARG, "a dummy device has 1 to %d heaps", GM_DUMMY_HEAPS);
    gm_dummy *d = gm_new(mem, sizeof *d, GEMMA_TAG_OBJECT);
    if (!d) return gm_fail_nomem(error, "the dummy device", sizeof *d);
    d->base = (gm_backend){ .fns = &dummy_fns,
                            .mem = mem,
                            .default_kv = options->default_kv ? options->default_kv : GEMMA_TYPE_F16,
                            .can_map = options->can_map };
    d->options = *options;
    d->lacked_type = GM_TYPE_LIMIT;
    *out = &d->base;
    return GEMMA_OK;
}

void gm_dummy_fail(gm_backend *be, gm_dummy_call which, uint32_t nth, int code)
{
    gm_dummy *d = gm_dummy_of(be);
    d->fail_call = which;
    d->fail_nth = nth;
    d->fail_code = code;
}

void gm_dummy_delay(gm_backend *be, uint32_t n) { gm_dummy_of(be)->delay = n; }
void gm_dummy_refuse(gm_backend *be, const char *why) { gm_dummy_of(be)->refusal = why; }
void gm_dummy_lack(gm_backend *be, uint32_t op_kind, gm_type type)
{
    gm_dummy_of(be)->lacked_by = op_kind;
    gm_dummy_of(be)->lacked_type = type;
}
void gm_dummy_set_budget(gm_backend *be, uint32_t heap, uint64_t budget_bytes)
{
    gm_dummy_of(be)->options.heaps[heap].budget_bytes = budget_bytes;
}

uint32_t gm_dummy_count(const gm_backend *be, gm_dummy_call call) { return gm_dummy_of_const(be)->counts[call]; }
uint32_t gm_dummy_n_entries(const gm_backend *be) { return gm_dummy_of_const(be)->n_entries; }
uint64_t gm_dummy_held(const gm_backend *be, uint32_t heap) { return gm_dummy_of_const(be)->held[heap]; }

const gm_dummy_entry *gm_dummy_entry_at(const gm_backend *be, uint32_t i)
{
    const gm_dummy *d = gm_dummy_of_const(be);
    bool kept = i < d->n_entries && d->n_entries - i <= GM_DUMMY_LOG;
    return kept ? &d->log[i % GM_DUMMY_LOG] : NULL;
}
