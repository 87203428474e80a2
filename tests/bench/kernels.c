/* How fast each op of the conformance table is, on every CPU level and on Vulkan devices that are named:
 *
 *     bench_kernels [--large] [--cold] [--csv] [--threads N] [--device TEXT] [TEXT]
 *
 * TEXT: only cases whose name has it ("matmul Q4_K"); --large: only those as large as in models; --cold: the caches are
 * filled with something else before each run, as a step finds them; --device: only devices whose name has it, those of
 * Vulkan among them. Run by hand: nothing is checked here. */
#include "conform/cases.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#ifdef HAVE_VULKAN
#include "backend/vulkan/vulkan.h"
#endif

#include <stdio.h>
#include <stdlib.h>

enum { DEVICES_MAX = 32, RUNS = 2001 };
#define RATE_BYTES  ((uint64_t)160 << 20)
#define FLUSH_BYTES ((size_t)128 << 20)
#define CASE_NS     UINT64_C(30000000)

typedef struct device {
    gm_backend *be;
    char name[160];
    double read_gb_s; /* 0: cannot be measured */
} device;

typedef struct settings {
    bool large, cold, csv;
    uint32_t n_threads;
    const char *device, *only;
} settings;

static device devices[DEVICES_MAX];
static uint32_t n_devices;
static gm_pool *pool;
static uint8_t *other; /* what caches are filled with */

/* ---- devices ---- */

static double read_rate(gm_backend *be)
{
    gemma_error error = { .size = sizeof error };
    gm_buffer *buffer = NULL;
    double gb_s = 0;
    if (!be->fns->read_rate) return 0;
    if (gm_buffer_create(be, gm_backend_heap_of(be, GEMMA_TAG_KV), RATE_BYTES, GEMMA_TAG_KV, &buffer, &error)) return 0;
    if (be->fns->read_rate(be, buffer, NULL, &gb_s, &error)) gb_s = 0;
    gm_buffer_destroy(buffer);
    return gb_s;
}

/* Takes the backend over; one that is not asked for goes. */
static void add_device(const settings *s, gm_backend *be, const char *kind)
{
    gemma_device_info info = { .size = sizeof info };
    device *d = &devices[n_devices];
    be->fns->describe(be, &info);
    gm_text_format(d->name, sizeof d->name, "%s%s%s", info.id, *kind ? " " : ": ", *kind ? kind : info.name);
    bool asked = !s->device || gm_text_contains(d->name, s->device);
    if (!asked || !info.usable || n_devices == DEVICES_MAX - 1) {
        gm_backend_destroy(be);
        return;
    }
    d->be = be;
    d->read_gb_s = n_devices && info.kind == GEMMA_DEVICE_CPU ? devices[0].read_gb_s : read_rate(be);
    n_devices++;
}

static void add_level(const settings *s, uint32_t features, bool reference, const char *name)
{
    gemma_error error = { .size = sizeof error };
    gm_backend *be;
    if (!gm_cpu_create(&scene_mem, pool, features, reference, 0, &be, &error)) add_device(s, be, name);
}

static void add_cpu(const settings *s)
{
    static const uint32_t masks[] = { 0,
                                      GM_CPU_AVX2,
                                      GM_CPU_AVX2 | GM_CPU_AVX_VNNI,
                                      GM_CPU_AVX2 | GM_CPU_AVX512,
                                      GM_CPU_AVX2 | GM_CPU_AVX512 | GM_CPU_AVX512_VNNI,
                                      GM_CPU_NEON,
                                      GM_CPU_NEON | GM_CPU_DOTPROD,
                                      UINT32_MAX };
    const char *seen[GM_COUNT(masks)];
    size_t n_seen = 0;
    add_level(s, 0, true, "plain C");
    for (size_t i = 0; i < GM_COUNT(masks); i++) {
        gm_kernels k;
        uint32_t features = masks[i] & gm_cpu_features();
        gm_kernels_pick(&k, features);
        size_t at = 0;
        while (at < n_seen && strcmp(k.level, seen[at])) at++;
        if (at < n_seen) continue;
        seen[n_seen++] = k.level;
        add_level(s, features, false, k.level);
    }
}

static void add_vulkan(const settings *s)
{
#ifdef HAVE_VULKAN
    gm_backend *list[GM_VULKAN_DEVICES_MAX];
    gemma_error error = { .size = sizeof error };
    uint32_t n = 0;
    if (s->device && !gm_vulkan_enumerate(&scene_mem, NULL, list, GM_VULKAN_DEVICES_MAX, &n, &error))
        for (uint32_t i = 0; i < n; i++) add_device(s, list[i], "");
#else
    (void)s;
#endif
}

/* ---- bytes ---- */

/* Of the experts those that some row takes. */
static uint32_t n_matrices(const scene *s, uint32_t weight)
{
    uint8_t taken[4096] = { 0 };
    uint32_t n = 0;
    if (s->op.kind != GM_OP_EXPERTS) return s->shapes[weight].n_matrix;
    for (uint32_t r = 0; r < s->n_rows; r++)
        for (uint32_t u = 0; u < s->op.n_used; u++) {
            uint8_t *t = &taken[(uint32_t)s->in[1][(uint64_t)r * 2 * s->op.n_used + u] % sizeof taken];
            n += !*t;
            *t = 1;
        }
    return n;
}

static uint64_t weight_bytes(const scene *s)
{
    bool by_row = s->op.kind == GM_OP_EMBED || s->op.kind == GM_OP_PLE_ROWS;
    uint64_t n = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const gm_weight_shape *w = &s->shapes[i];
        if (s->weights[i])
            n += gm_row_bytes(w->format, w->n_in) * (by_row ? s->n_rows : (uint64_t)w->n_out * n_matrices(s, i));
    }
    return n;
}

/* Positions that some row sees, or (HEADS) that are written. */
static uint64_t kv_bytes(const scene *s)
{
    if (!s->kv.format) return 0;
    uint64_t seen = s->n_rows;
    if (s->op.kind == GM_OP_ATTENTION)
        seen = s->op.window ? gm_min_u64(s->n_positions, s->op.window + s->n_rows - 1) : s->n_positions;
    return 2 * seen * s->kv.n_kv * gm_row_bytes(s->kv.format, s->kv.head);
}

/* What must be read and written once: weights, KV, rows in and out. */
static uint64_t bytes_moved(const scene *s)
{
    uint64_t width = s->op.kind == GM_OP_HEAD ? s->op.n_vocab : 0;
    for (uint32_t i = 0; i < 4; i++) width += s->in_width[i];
    for (uint32_t i = 0; i < 3; i++) width += s->out_width[i];
    return weight_bytes(s) + kv_bytes(s) + width * s->n_rows * sizeof(float);
}

/* ---- timing ---- */

static void fill_part(void *arg, uint32_t phase, uint32_t part, uint32_t n_parts)
{
    (void)arg, (void)phase;
    for (size_t i = 64 * (size_t)part; i < FLUSH_BYTES; i += 64 * (size_t)n_parts) other[i]++;
}

/* On all threads: each core's caches, and none of them has gone to sleep when the op begins. */
static void fill_caches(void) { gm_pool_run(pool, fill_part, NULL, 1, NULL); }

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_head(const settings *s)
{
    if (s->csv) {
        puts("case,device,best_ns,median_ns,bytes,gb_s,read_gb_s,share_pct");
        return;
    }
    printf("%u threads, caches %s; GB/s and %% by the median\n\n", s->n_threads,
           s->cold ? "filled with something else before each run" : "warm");
    for (uint32_t i = 0; i < n_devices; i++)
        printf("%s: memory reads at %.1f GB/s\n", devices[i].name, devices[i].read_gb_s);
    puts("\n| case | device | best ns | median ns | bytes | GB/s | % of memory |\n|---|---|---:|---:|---:|---:|---:|");
}

static void time_case(const settings *s, const char *name, scene *x, const device *d)
{
    static uint64_t ns[RUNS];
    gm_program program = { .ops = &x->op, .n_ops = 1, .weights = x->shapes, .n_weights = 4, .kv = &x->kv, .n_kv = 1 };
    if (d->be->fns->refuses && d->be->fns->refuses(d->be, &program, &x->op)) return;
    uint32_t n = scene_time(x, d->be, s->cold ? fill_caches : NULL, CASE_NS, ns, RUNS);
    qsort(ns, n, sizeof *ns, ascending);
    uint64_t bytes = bytes_moved(x), median = gm_max_u64(ns[n / 2], 1);
    double gb_s = (double)bytes / (double)median, share = d->read_gb_s > 0 ? 100 * gb_s / d->read_gb_s : 0;
    unsigned long long figures[3] = { ns[0], median, bytes };
    if (s->csv)
        printf("\"%s\",\"%s\",%llu,%llu,%llu,%.3f,%.2f,%.1f\n", name, d->name, figures[0], figures[1], figures[2], gb_s,
               d->read_gb_s, share);
    else
        printf("| %s | %s | %llu | %llu | %llu | %.2f | %.0f |\n", name, d->name, figures[0], figures[1], figures[2],
               gb_s, share);
    fflush(stdout);
}

static void time_all(const settings *s)
{
    uint32_t first = s->large ? cases_count() : 0;
    print_head(s);
    for (uint32_t i = first; i < cases_count() + cases_count_large(); i++) {
        scene x;
        const char *name = cases_make(i, &x);
        if (!s->only || gm_text_contains(name, s->only))
            for (uint32_t d = 0; d < n_devices; d++) time_case(s, name, &x, &devices[d]);
        scene_free_all();
    }
}

static bool read_arguments(int argc, char **argv, settings *s)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--large"))
            s->large = true;
        else if (!strcmp(argv[i], "--cold"))
            s->cold = true;
        else if (!strcmp(argv[i], "--csv"))
            s->csv = true;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            s->n_threads = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            s->device = argv[++i];
        else if (argv[i][0] != '-' && !s->only)
            s->only = argv[i];
        else
            return false;
    }
    return s->n_threads > 0;
}

int main(int argc, char **argv)
{
    settings s = { .n_threads = gm_n_cores() };
    gemma_error error = { .size = sizeof error };
    if (!read_arguments(argc, argv, &s)) {
        fputs("Usage: bench_kernels [--large] [--cold] [--csv] [--threads N] [--device TEXT] [TEXT]\n", stderr);
        return 2;
    }
    gm_mem_init(&scene_mem, NULL);
    other = s.cold ? calloc(FLUSH_BYTES, 1) : NULL;
    if ((s.cold && !other) || gm_pool_create(&scene_mem, s.n_threads, &pool, &error)) {
        fprintf(stderr, "bench_kernels: %s\n", s.cold && !other ? "out of memory" : error.message);
        return 1;
    }
    add_cpu(&s);
    add_vulkan(&s);
    if (n_devices)
        time_all(&s);
    else
        fputs("bench_kernels: no device has that in its name\n", stderr);
    for (uint32_t i = 0; i < n_devices; i++) gm_backend_destroy(devices[i].be);
    gm_pool_destroy(pool);
    free(other);
    return n_devices ? 0 : 1;
}
