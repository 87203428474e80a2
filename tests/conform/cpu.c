/* The conformance table on the CPU: the reference, every level the machine has, any number of threads. With the name of a
 * level only that, once through the table: for emulators. */
#include "conform/cases.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const precision of_reference = { .packs = false, .slack = 1 };
/* Kernels may keep fewer partial sums than 16 and use polynomials of about 2e-7 for exp and tanh. */
static const precision of_production = { .packs = true, .slack = 4 };

static const struct level {
    const char *name;
    uint32_t features;
} levels[] = {
    { "plain", 0 },
    { "AVX2", GM_CPU_AVX2 },
    { "AVX2 with AVX-VNNI", GM_CPU_AVX2 | GM_CPU_AVX_VNNI },
    { "AVX-512 without VNNI", GM_CPU_AVX2 | GM_CPU_AVX512 },
    { "AVX-512 with VNNI", GM_CPU_AVX2 | GM_CPU_AVX512 | GM_CPU_AVX512_VNNI },
    { "NEON", GM_CPU_NEON },
    { "NEON with dot product", GM_CPU_NEON | GM_CPU_DOTPROD },
    { "NEON with I8MM", GM_CPU_NEON | GM_CPU_DOTPROD | GM_CPU_I8MM },
};

typedef struct device {
    gm_pool *pool;
    gm_backend *be;
} device;

static device open_device(uint32_t n_threads, uint32_t features, bool reference)
{
    device d = { 0 };
    gemma_error error = { .size = sizeof error };
    assert_int_equal(gm_pool_create(&scene_mem, n_threads, &d.pool, &error), GEMMA_OK);
    assert_int_equal(gm_cpu_create(&scene_mem, d.pool, features, reference, 0, &d.be, &error), GEMMA_OK);
    return d;
}

static void close_device(device *d)
{
    gm_backend_destroy(d->be);
    gm_pool_destroy(d->pool);
}

static const char *only; /* NULL: every level */

static bool has_level(const struct level *l)
{
    if (only && strcmp(l->name, only) != 0) return false;
    bool has = (l->features & ~gm_cpu_features()) == 0;
    if (!has) print_message("SKIPPED level %s: not on this machine\n", l->name);
    return has;
}

static void reference(void **state)
{
    (void)state;
    device d = open_device(2, 0, true);
    cases_check(d.be, of_reference, NULL);
    close_device(&d);
}

static void production_levels(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(levels); i++) {
        if (!has_level(&levels[i])) continue;
        device d = open_device(2, levels[i].features, false);
        gm_kernels k;
        gm_kernels_pick(&k, levels[i].features);
        print_message("level %s (kernels: %s)\n", levels[i].name, k.level);
        cases_check(d.be, of_production, NULL);
        close_device(&d);
    }
}

static void same_bits(uint32_t features, bool is_reference)
{
    device d[3];
    gm_backend *backends[3];
    for (uint32_t i = 0; i < 3; i++) {
        d[i] = open_device(i + 1, features, is_reference);
        backends[i] = d[i].be;
    }
    cases_check_bits(backends, 3);
    for (uint32_t i = 0; i < 3; i++) close_device(&d[i]);
}

static void reference_bits(void **state)
{
    (void)state;
    same_bits(0, true);
}

static void production_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < GM_COUNT(levels); i++)
        if (has_level(&levels[i])) same_bits(levels[i].features, false);
}

/* A host whose tasks run one after another, backwards. */
static void backwards(void *user, uint32_t n_tasks, gemma_task task, void *arg)
{
    (void)user;
    while (n_tasks) task(arg, --n_tasks);
}

static void host_threads(void **state)
{
    (void)state;
    gemma_host host = { .size = sizeof host, .parallel_for = backwards };
    gm_mem mem;
    gm_mem_init(&mem, &host);
    gemma_error error = { .size = sizeof error };
    gm_pool *pool = NULL;
    gm_backend *of_host = NULL;
    assert_int_equal(gm_pool_create(&mem, 3, &pool, &error), GEMMA_OK);
    assert_int_equal(gm_cpu_create(&mem, pool, gm_cpu_features(), false, 0, &of_host, &error), GEMMA_OK);
    device own = open_device(2, gm_cpu_features(), false);
    cases_check_bits((gm_backend *[]){ own.be, of_host }, 2);
    close_device(&own);
    gm_backend_destroy(of_host);
    gm_pool_destroy(pool);
}

static int setup(void **state)
{
    (void)state;
    gm_mem_init(&scene_mem, NULL);
    return 0;
}

static int nothing_left(void **state)
{
    (void)state;
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++)
        if (gm_mem_live(&scene_mem, tag)) return 1;
    return 0;
}

/* The level named, which must be there: another's name, or another's processor, is no success. */
static void only_level(void **state)
{
    bool known = false;
    for (size_t i = 0; i < GM_COUNT(levels); i++) {
        if (strcmp(levels[i].name, only) != 0) continue;
        known = true;
        if (!has_level(&levels[i])) skip();
    }
    assert_true(known);
    production_levels(state);
}

int main(int argc, char **argv)
{
    only = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest one[] = { cmocka_unit_test(only_level) };
    if (only) return cmocka_run_group_tests_name("cpu, one level", one, setup, nothing_left);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),       cmocka_unit_test(production_levels), cmocka_unit_test(reference_bits),
        cmocka_unit_test(production_bits), cmocka_unit_test(host_threads),
    };
    return cmocka_run_group_tests(tests, setup, nothing_left);
}
