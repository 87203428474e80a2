/* Compiled kernels kept by the host: saved, loaded again, refused where they do not fit, with each call and each allocation
 * failing once. The software drivers keep nothing in their caches but a header, so a layer of our own puts content behind
 * it, and looks whether it comes back. Skipped without a driver (VK_DRIVER_FILES names one). */
#include "api/world.h"
#include "base/base.h"
#include "common/cli.h"
#include "vklayer/vklayer.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vulkan/vulkan_core.h>

enum { N_ROWS = 6, MOST = 1 << 16, EXTRA = 1000, HEADER = 80, HASHED = 72, CACHE_HEADER = 32 };

static bool something_skipped;
static uint32_t device;
static float good[N_ROWS * 1024], logits[N_ROWS * 1024];

typedef struct blob {
    uint8_t bytes[MOST];
    size_t n;
} blob;
static blob kept;

/* ---- a driver with something in its cache ---- */

typedef void (*(*get_proc)(void *instance, const char *name))(void);

static struct {
    get_proc next;
    PFN_vkGetDeviceProcAddr device_proc;
    PFN_vkGetPipelineCacheData data;
    PFN_vkCreatePipelineCache create;
    enum { PLAIN, GROWS, STINGY, EMPTY } habit;
    uint64_t n_given; /* bytes of ours that came with a cache's creation */
} driver;

static uint8_t extra_byte(size_t i) { return (uint8_t)(37 * i + 11); }

static VKAPI_ATTR VkResult VKAPI_CALL on_data(VkDevice d, VkPipelineCache cache, size_t *n, void *data)
{
    enum { WHOLE = CACHE_HEADER + EXTRA };
    uint8_t all[MOST];
    size_t cap = *n, n_own = 0;
    VkResult r = driver.data(d, cache, &n_own, NULL);
    assert_true(r || (n_own >= CACHE_HEADER && n_own <= MOST));
    if (!r && data) r = driver.data(d, cache, &n_own, all);
    if (r) return r;
    *n = driver.habit == EMPTY ? 0 : driver.habit == GROWS ? WHOLE - 10 : WHOLE;
    if (!data || driver.habit == EMPTY) return VK_SUCCESS;
    *n = driver.habit == STINGY ? 0 : cap < WHOLE ? cap : WHOLE;
    for (size_t i = 0; i < EXTRA; i++) all[CACHE_HEADER + i] = extra_byte(i);
    memcpy(data, all, *n);
    return *n < WHOLE ? VK_INCOMPLETE : VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL on_create(VkDevice d, const VkPipelineCacheCreateInfo *info,
                                                const VkAllocationCallbacks *a, VkPipelineCache *out)
{
    VkPipelineCacheCreateInfo own = *info;
    const uint8_t *bytes = info->pInitialData;
    if (bytes) {
        assert_true(info->initialDataSize >= CACHE_HEADER);
        own.initialDataSize = CACHE_HEADER;
        driver.n_given += info->initialDataSize - CACHE_HEADER;
        for (size_t i = CACHE_HEADER; i < info->initialDataSize; i++)
            assert_int_equal(bytes[i], extra_byte(i - CACHE_HEADER));
    }
    return driver.create(d, &own, a, out);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL on_device_proc(VkDevice d, const char *name)
{
    PFN_vkVoidFunction f = driver.device_proc(d, name);
    if (!strcmp(name, "vkGetPipelineCacheData")) {
        driver.data = (PFN_vkGetPipelineCacheData)f;
        return (PFN_vkVoidFunction)on_data;
    }
    if (!strcmp(name, "vkCreatePipelineCache")) {
        driver.create = (PFN_vkCreatePipelineCache)f;
        return (PFN_vkVoidFunction)on_create;
    }
    return f;
}

static void (*on_proc(void *instance, const char *name))(void)
{
    PFN_vkVoidFunction f = driver.next(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0) return f;
    driver.device_proc = (PFN_vkGetDeviceProcAddr)f;
    return (PFN_vkVoidFunction)on_device_proc;
}

/* ---- a run ---- */

static void skip_without(const char *why)
{
    print_message("SKIPPED: %s\n", why);
    something_skipped = true;
    skip();
}

/* A runtime with a software device; nothing of it is open yet. */
static void begin(world *w)
{
    gemma_vulkan_host vulkan;
    gemma_device_info info = { .size = sizeof info };
    gemma_runtime_options ro = { .size = sizeof ro, .n_threads = 1, .vulkan = &vulkan };
    tiny_model t;
    bool found = vklayer_host_init(&vulkan);
    driver.next = vulkan.get_instance_proc_addr;
    driver.habit = PLAIN;
    driver.n_given = 0;
    vulkan.get_instance_proc_addr = on_proc;
    tiny_model_defaults(&t, 3);
    t.n_layers = 2; /* as few kernels as there can be */
    world_init(w, &t);
    w->device = "vulkan";
    if (found) {
        assert_ok(gemma_runtime_create(&w->host, &ro, &w->runtime, &w->error), w->error.message);
        found = !gemma_device_find(w->runtime, w->device, &device, &w->error);
        if (found) assert_int_equal(gemma_device_describe(w->runtime, device, &info), GEMMA_OK);
    }
    if (info.kind == GEMMA_DEVICE_SOFTWARE) return;
    world_close(w);
    skip_without("no software Vulkan device");
}

static void run(world *w, float *out)
{
    gemma_plan_options o = { .size = sizeof o, .ctx = 64, .ubatch = 1 };
    int32_t ids[N_ROWS];
    world_ids(ids, N_ROWS, 5);
    world_open(w, &o);
    assert_true(w->n_vocab <= 1024);
    gemma_session *s = world_session(w);
    gemma_step *step = world_step(w);
    world_rows(w, step, s, ids, N_ROWS, 1, true, out);
    gemma_step_destroy(step);
    gemma_session_destroy(s);
}

static void run_as_ever(world *w)
{
    run(w, logits);
    assert_same_rows(w, "with kernels", good, logits, N_ROWS);
}

static void end(world *w)
{
    world_close(w);
    assert_int_equal(vklayer_live_objects(), 0);
    assert_int_equal(vklayer_mismatches(), 0);
}

static int save(world *w, blob *b)
{
    return gemma_device_save_kernels(w->runtime, device, b->bytes, sizeof b->bytes, &b->n, &w->error);
}

static int load(world *w, const uint8_t *bytes, size_t n)
{
    return gemma_device_load_kernels(w->runtime, device, bytes, n, &w->error);
}

/* A first run's results and kernels, for the tests that come after. */
static void need_kept(void)
{
    world w;
    if (kept.n) return;
    begin(&w);
    run(&w, good);
    assert_ok(save(&w, &kept), w.error.message);
    assert_int_equal(kept.n, HEADER + CACHE_HEADER + EXTRA);
    assert_int_equal(driver.n_given, 0);
    end(&w);
}

/* ---- without a GPU ---- */

static void cpu_has_none(void **state)
{
    (void)state;
    world w;
    blob b = { .n = 7 };
    world_init_family(&w, 3);
    world_open(&w, NULL);
    device = 0;
    assert_ok(save(&w, &b), w.error.message);
    assert_int_equal(b.n, 0);
    assert_ok(load(&w, NULL, 0), w.error.message);
    assert_int_equal(load(&w, b.bytes, 1), GEMMA_E_UNSUPPORTED);
    assert_true(strlen(w.error.message) > 10);
    world_close(&w);
}

/* ---- kept ---- */

static void handed_back(void **state)
{
    (void)state;
    world w;
    blob again = { .n = 7 };
    need_kept();
    begin(&w);
    assert_ok(save(&w, &again), w.error.message);
    assert_int_equal(again.n, 0); /* nothing was compiled, and the device is not opened for it */
    assert_int_equal(vklayer_live(VKLAYER_DEVICE), 0);
    assert_ok(load(&w, kept.bytes, kept.n), w.error.message);
    assert_int_equal(driver.n_given, EXTRA);
    assert_ok(save(&w, &again), w.error.message);
    assert_int_equal(again.n, 0);
    run_as_ever(&w);
    assert_ok(save(&w, &again), w.error.message);
    assert_int_equal(again.n, kept.n);
    assert_memory_equal(again.bytes, kept.bytes, kept.n);
    end(&w);
}

/* Between two models, and twice; at an odd address. */
static void added_later(void **state)
{
    (void)state;
    world w;
    gemma_model *second;
    need_kept();
    begin(&w);
    run_as_ever(&w);
    uint8_t *odd = malloc(kept.n + 1);
    assert_non_null(odd);
    memcpy(odd + 1, kept.bytes, kept.n);
    assert_ok(load(&w, odd + 1, kept.n), w.error.message);
    assert_ok(load(&w, kept.bytes, kept.n), w.error.message);
    assert_int_equal(driver.n_given, 2 * EXTRA);
    assert_int_equal(vklayer_live(VKLAYER_PIPELINE_CACHE), 1);
    free(odd);
    assert_ok(gemma_model_load(w.plan, NULL, &second, &w.error), w.error.message);
    gemma_model_close(w.model);
    w.model = second;
    int32_t ids[N_ROWS];
    world_ids(ids, N_ROWS, 5);
    gemma_session *s = world_session(&w);
    gemma_step *step = world_step(&w);
    world_rows(&w, step, s, ids, N_ROWS, 1, true, logits);
    assert_same_rows(&w, "a second model", good, logits, N_ROWS);
    gemma_step_destroy(step);
    gemma_session_destroy(s);
    end(&w);
}

static void small_buffers(void **state)
{
    (void)state;
    world w;
    size_t n;
    blob b;
    need_kept();
    begin(&w);
    run_as_ever(&w);
    for (size_t cap = 0; cap < kept.n; cap += cap < 200 ? 1 : 97) {
        memset(b.bytes, 0x5a, sizeof b.bytes);
        n = 0;
        int rc = gemma_device_save_kernels(w.runtime, device, cap ? b.bytes : NULL, cap, &n, &w.error);
        assert_int_equal(rc, GEMMA_E_SMALL);
        assert_int_equal(n, kept.n);
        assert_non_null(strstr(w.error.message, "there is room for"));
        for (size_t i = cap; i < kept.n; i++) assert_int_equal(b.bytes[i], 0x5a);
    }
    memset(b.bytes, 0x5a, sizeof b.bytes);
    assert_ok(gemma_device_save_kernels(w.runtime, device, b.bytes, kept.n, &n, &w.error), w.error.message);
    assert_memory_equal(b.bytes, kept.bytes, kept.n);
    assert_int_equal(b.bytes[kept.n], 0x5a);
    end(&w);
}

/* Drivers whose cache grows between two questions, or that give nothing. */
static void odd_drivers(void **state)
{
    (void)state;
    world w;
    blob b;
    need_kept();
    begin(&w);
    run_as_ever(&w);
    driver.habit = GROWS;
    assert_ok(save(&w, &b), w.error.message);
    assert_int_equal(b.n, kept.n - 10);
    driver.habit = EMPTY;
    blob none = { .n = 7 };
    assert_ok(save(&w, &none), w.error.message);
    assert_int_equal(none.n, 0);
    driver.habit = STINGY;
    none.n = 7;
    assert_int_equal(save(&w, &none), GEMMA_E_INTERNAL);
    assert_int_equal(none.n, 0);
    end(&w);
    begin(&w);
    assert_ok(load(&w, b.bytes, b.n), w.error.message);
    assert_int_equal(driver.n_given, EXTRA - 10);
    run_as_ever(&w);
    end(&w);
}

/* ---- refused ---- */

/* An exact copy, so that a read behind it is seen under the address sanitizer. */
static void refused(world *w, const uint8_t *bytes, size_t n, const char *part)
{
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    w->error.message[0] = '\0';
    assert_int_equal(load(w, copy, n), GEMMA_E_FORMAT);
    if (!strstr(w->error.message, part)) fail_msg("\"%s\" has no \"%s\"", w->error.message, part);
    free(copy);
}

static void seal(uint8_t *b, size_t n)
{
    gm_store_u64(b + 16, n);
    gm_store_u64(b + HASHED, gm_hash64(b + HEADER, n - HEADER, gm_hash64(b, HASHED, 0)));
}

static void of_others(world *w)
{
    static const struct {
        size_t at;
        const char *part;
    } cases[] = {
        { 0, "no saved kernels" },
        { 8, "of version" },
        { 12, "of version" },
        { 24, "are of device" },
        { 28, "are of device" },
        { 32, "are of driver" },
        { 36, "are of driver" },
        { 40, "are of driver" },
        { 48, "are of driver" },
        { 63, "are of driver" },
        { 64, "another version of this library" },
        { 71, "another version of this library" },
        { HEADER, "a header that is not of" },
        { HEADER + 3, "a header that is not of" },
        { HEADER + 4, "a header that is not of" },
        { HEADER + 8, "a header that is not of" },
        { HEADER + 12, "a header that is not of" },
        { HEADER + 16, "a header that is not of" },
        { HEADER + 31, "a header that is not of" },
    };
    blob b;
    for (size_t i = 0; i < COUNT(cases); i++) {
        b = kept;
        b.bytes[cases[i].at] ^= 0x20;
        seal(b.bytes, b.n);
        refused(w, b.bytes, b.n, cases[i].part);
    }
    b = kept;
    seal(b.bytes, HEADER + CACHE_HEADER - 1);
    refused(w, b.bytes, HEADER + CACHE_HEADER - 1, "no saved kernels");
}

static void damaged(world *w)
{
    blob b = kept;
    uint32_t x = 1;
    for (size_t n = 1; n < kept.n; n++) refused(w, kept.bytes, n, "");
    b.bytes[b.n] = 0;
    refused(w, b.bytes, b.n + 1, "are damaged");
    for (size_t i = 0; i < kept.n; i++) {
        b.bytes[i] ^= (uint8_t)(1 << i % 8);
        refused(w, b.bytes, b.n, "");
        b.bytes[i] = kept.bytes[i];
    }
    for (int round = 0; round < 5000; round++) {
        for (int k = 0; k < 1 + round % 8; k++) {
            x = x * 1664525u + 1013904223u;
            b.bytes[(x >> 8) % b.n] ^= (uint8_t)(1 + (x >> 4) % 255);
        }
        if (memcmp(b.bytes, kept.bytes, kept.n)) refused(w, b.bytes, b.n, "");
        memcpy(b.bytes, kept.bytes, kept.n);
    }
}

static void refused_cases(void **state)
{
    (void)state;
    world w;
    need_kept();
    begin(&w);
    of_others(&w);
    damaged(&w);
    assert_ok(load(&w, NULL, 0), w.error.message);
    assert_int_equal(vklayer_live(VKLAYER_DEVICE), 0); /* nothing was opened for them */
    assert_int_equal(driver.n_given, 0);
    run_as_ever(&w);
    of_others(&w); /* and into an open device */
    blob again;
    assert_ok(save(&w, &again), w.error.message);
    assert_memory_equal(again.bytes, kept.bytes, kept.n);
    end(&w);
}

/* ---- failures ---- */

static const struct {
    int32_t result;
    int code;
} failures[] = { { VK_ERROR_OUT_OF_HOST_MEMORY, GEMMA_E_NOMEM }, { VK_ERROR_OUT_OF_DEVICE_MEMORY, GEMMA_E_DEVMEM } };

/* Whichever call of load fails: the next load and the model do as ever. */
static void loading_fails(void **state)
{
    (void)state;
    world w;
    need_kept();
    for (size_t i = 0; i < COUNT(failures); i++) {
        bool merged = false, fired = true;
        for (uint64_t nth = 1; fired; nth++) {
            begin(&w);
            vklayer_fail_nth(nth, failures[i].result);
            int rc = load(&w, kept.bytes, kept.n);
            fired = vklayer_fired();
            vklayer_fail_nth(0, 0);
            assert_int_equal(rc, fired ? failures[i].code : GEMMA_OK);
            if (fired) {
                assert_true(strlen(w.error.message) > 10);
                merged |= !strcmp(vklayer_victim(), "vkMergePipelineCaches");
                if (nth % 2) assert_ok(load(&w, kept.bytes, kept.n), w.error.message);
            }
            run_as_ever(&w);
            end(&w);
        }
        assert_true(merged);
    }
}

static void saving_fails(void **state)
{
    (void)state;
    world w;
    blob b;
    need_kept();
    begin(&w);
    run_as_ever(&w);
    for (size_t i = 0; i < COUNT(failures); i++) {
        for (uint64_t nth = 1;; nth++) {
            vklayer_fail_nth(nth, failures[i].result);
            b.n = 7;
            int rc = save(&w, &b);
            bool fired = vklayer_fired();
            vklayer_fail_nth(0, 0);
            assert_int_equal(rc, fired ? failures[i].code : GEMMA_OK);
            assert_int_equal(b.n, fired ? 0 : kept.n);
            if (!fired) break;
            assert_string_equal(vklayer_victim(), "vkGetPipelineCacheData");
            assert_non_null(strstr(w.error.message, "vkGetPipelineCacheData"));
        }
    }
    assert_memory_equal(b.bytes, kept.bytes, kept.n);
    end(&w);
}

static void no_memory(void **state)
{
    (void)state;
    world w;
    blob b;
    need_kept();
    for (int saving = 0; saving < 2; saving++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth++) {
            begin(&w);
            if (saving) run_as_ever(&w);
            fault_fail_nth(nth);
            int rc = saving ? save(&w, &b) : load(&w, kept.bytes, kept.n);
            fired = fault_fired();
            fault_fail_nth(0);
            assert_int_equal(rc, fired ? GEMMA_E_NOMEM : GEMMA_OK);
            if (!saving) run_as_ever(&w);
            end(&w);
        }
    }
}

static void device_lost(void **state)
{
    (void)state;
    world w;
    blob b = { .n = 7 };
    gemma_plan_options o = { .size = sizeof o, .ctx = 64, .ubatch = 1 };
    need_kept();
    begin(&w);
    world_open(&w, &o);
    gemma_session *s = world_session(&w);
    int32_t id = TINY_ASCII + 40;
    vklayer_lose_at(1);
    assert_int_equal(gemma_session_feed(s, &id, 1, NULL), GEMMA_E_LOST);
    assert_int_equal(save(&w, &b), GEMMA_E_LOST);
    assert_int_equal(b.n, 0);
    assert_int_equal(load(&w, kept.bytes, kept.n), GEMMA_E_LOST);
    gemma_session_destroy(s);
    end(&w);
}

/* ---- the programs' file ---- */

/* The one file of a folder that a program keeps its kernels in, and how long it is; 0: there is none. */
static size_t program_runs(const char *folder, size_t n_loaded)
{
    world w;
    char path[256];
    struct stat file = { 0 };
    gemma_device_info info = { .size = sizeof info };
    begin(&w);
    cli c = { .runtime = w.runtime, .device = device };
    cli_load_kernels(&c);
    assert_int_equal(c.kernel_bytes, n_loaded);
    run_as_ever(&w);
    cli_keep_kernels(&c);
    assert_int_equal(gemma_device_describe(w.runtime, device, &info), GEMMA_OK);
    for (char *p = info.name; *p; p++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *p)) *p = '-';
    snprintf(path, sizeof path, "%s/libgemma/%s.kernels", folder, info.name);
    end(&w);
    return stat(path, &file) ? 0 : (size_t)file.st_size;
}

static void programs_keep_them(void **state)
{
    (void)state;
    char folder[] = "/tmp/kernels.XXXXXX", inner[64], command[128];
    need_kept();
    assert_non_null(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/new", folder);
    assert_int_equal(setenv("XDG_CACHE_HOME", inner, 1), 0);
    assert_int_equal(program_runs(inner, 0), kept.n);
    assert_int_equal(program_runs(inner, kept.n), kept.n);
    /* A damaged file is passed over and written anew; nothing else is left in the folder. */
    snprintf(command, sizeof command, "for f in %s/libgemma/*; do echo damaged >\"$f\"; done", inner);
    assert_int_equal(system(command), 0);
    assert_int_equal(program_runs(inner, 0), kept.n);
    snprintf(command, sizeof command, "test $(ls %s/libgemma | wc -l) = 1", inner);
    assert_int_equal(system(command), 0);
    /* A folder that cannot be made, and no folder at all. */
    assert_int_equal(setenv("XDG_CACHE_HOME", "/dev/null", 1), 0);
    assert_int_equal(program_runs("/dev/null", 0), 0);
    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    assert_int_equal(unsetenv("HOME"), 0);
    assert_int_equal(chdir(folder), 0); /* drivers take it, though */
    assert_int_equal(program_runs("relative", 0), 0);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_has_none),  cmocka_unit_test(handed_back),        cmocka_unit_test(added_later),
        cmocka_unit_test(small_buffers), cmocka_unit_test(odd_drivers),        cmocka_unit_test(refused_cases),
        cmocka_unit_test(loading_fails), cmocka_unit_test(saving_fails),       cmocka_unit_test(no_memory),
        cmocka_unit_test(device_lost),   cmocka_unit_test(programs_keep_them),
    };
    int n_failed = cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
    return n_failed ? n_failed : something_skipped ? 77 : 0;
}
