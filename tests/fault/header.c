#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "fault/header.h"

#include <sys/mman.h>

enum { N_VOCAB = 262144, LARGE = 1 << 20 };

void header_make(header *h, const char *size, const char *mix)
{
    h->model = synth_create(size, mix, 0, N_VOCAB);
    assert_non_null(h->model);
    h->writer = gguf_writer_create();
    h->bytes = synth_header(h->model, h->writer, &h->n_bytes);
    h->file_bytes = h->n_bytes + synth_data_bytes(h->model);
}

void header_drop(header *h)
{
    gguf_writer_destroy(h->writer);
    synth_destroy(h->model);
    *h = (header){ 0 };
}

static const header *in_use;

static int64_t read_header(void *user, const char *path, uint64_t offset, void *dst, uint64_t n)
{
    (void)user, (void)path;
    if (!dst) return (int64_t)in_use->file_bytes;
    if (offset >= in_use->file_bytes) return 0;
    if (n > in_use->file_bytes - offset) n = in_use->file_bytes - offset;
    memset(dst, 0, n);
    uint64_t left = offset < in_use->n_bytes ? in_use->n_bytes - offset : 0;
    if (left) memcpy(dst, in_use->bytes + offset, left < n ? left : n);
    return (int64_t)n;
}

/* ---- large blocks of the host: address space that nobody writes to ---- */

static gemma_host small;
static uint64_t large_bytes[GEMMA_TAG_COUNT];

static void *take(void *user, size_t n_bytes, size_t align, uint32_t tag)
{
    if (n_bytes < LARGE) return small.alloc(user, n_bytes, align, tag);
    void *block = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) return NULL;
    large_bytes[tag] += n_bytes;
    return block;
}

static void give(void *user, void *block, size_t n_bytes, uint32_t tag)
{
    if (n_bytes < LARGE || !block) return small.free(user, block, n_bytes, tag);
    assert_true(large_bytes[tag] >= n_bytes);
    large_bytes[tag] -= n_bytes;
    assert_int_equal(munmap(block, n_bytes), 0);
}

/* The CPU's heap has what is billed for it. */
static void check_host(const run *r, gemma_plan *plan, const char *where)
{
    uint64_t billed = 0, held = 0;
    for (uint32_t i = 0; plan && i < gemma_plan_n_heaps(plan); i++) {
        gemma_bill bill = { .size = sizeof bill };
        gemma_device_info info = { .size = sizeof info };
        assert_int_equal(gemma_plan_bill(plan, i, &bill), GEMMA_OK);
        assert_int_equal(gemma_device_describe(r->runtime, bill.device, &info), GEMMA_OK);
        if (info.kind == GEMMA_DEVICE_CPU) billed += bill.total_bytes;
    }
    for (uint32_t tag = GEMMA_TAG_WEIGHTS; tag <= GEMMA_TAG_STAGING; tag++)
        held += large_bytes[tag] + fault_live_bytes(tag);
    if (held != billed)
        fail_msg("%s: the host has %llu bytes, and %llu were planned", where, (unsigned long long)held,
                 (unsigned long long)billed);
}

gemma_host header_host(header *h)
{
    gemma_host host;
    fault_host_init(&host);
    small = host;
    in_use = h;
    host.read = read_header;
    host.alloc = take;
    host.free = give;
    return host;
}

void header_runtime(run *r, const gemma_vulkan_host *vulkan, header *h, const machine *m)
{
    gemma_host host = header_host(h);
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .vulkan = vulkan, .ram_bytes = m->ram_bytes };
    *r = (run){ .error = { .size = sizeof r->error } };
    assert_ok(gemma_runtime_create(&host, &ro, &r->runtime, &r->error), r->error.message);
}

void header_open(run *r)
{
    assert_ok(gemma_file_open(r->runtime, "header", NULL, &r->file, &r->error), r->error.message);
}

int header_rehearse(run *r, const gemma_plan_options *po, const machine *m, const char *where)
{
    gemma_load_options lo = { .size = sizeof lo, .flags = GEMMA_LOAD_REHEARSE };
    gemma_plan_destroy(r->plan);
    int rc = gemma_plan_create(r->file, po, &r->plan, &r->error);
    if (!rc) rc = gemma_model_load(r->plan, &lo, &r->model, &r->error);
    run_check_bill(r, rc ? NULL : r->plan, m, where);
    check_host(r, rc ? NULL : r->plan, where);
    gemma_model_close(r->model);
    r->model = NULL;
    run_check_bill(r, NULL, m, where);
    check_host(r, NULL, where);
    return rc;
}
