/* The device is lost at a random submit between the first byte of the weights and the last token: the call under way says
 * LOST, what came before stands, nothing is left behind, and a new runtime does it all again. The seed is printed and can
 * be given as the argument. Skipped without a driver. */
#include "fault/run.h"

#include <stdio.h>
#include <time.h>
#include <vulkan/vulkan_core.h>

enum { ROUNDS = 8, N_PROMPT = 80, UBATCH = 32 };

static uint64_t seed;

static uint64_t draw(void) /* splitmix64 */
{
    uint64_t x = seed += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* Submits so far, at the end of each part. */
typedef struct parts {
    uint64_t loaded, prompted, all;
} parts;

static const gemma_plan_options plan = { .size = sizeof plan, .ctx = 128, .ubatch = UBATCH };

static int go(run *r, const world *w, const gemma_vulkan_host *vulkan, parts *p)
{
    assert_ok(run_open_runtime(r, w, vulkan), r->error.message);
    int rc = run_open_model(r, plan);
    p->loaded = p->prompted = p->all = vklayer_submits();
    if (!rc) rc = run_prompt(r, N_PROMPT);
    p->prompted = p->all = vklayer_submits();
    if (!rc) rc = run_generate(r);
    p->all = vklayer_submits();
    return rc;
}

/* How a step is cut depends on how fast the device seemed, so that only the run itself knows in which part it was lost. */
static void check_lost(run *r, const run *good, const parts *p)
{
    uint32_t device;
    assert_non_null(strstr(r->error.message, "lost"));
    assert_int_equal(gemma_device_find(r->runtime, "vulkan", &device, &r->error), GEMMA_E_DEVICE);
    if (!r->model) return;
    gemma_model_status status = { .size = sizeof status };
    assert_int_equal(gemma_model_query(r->model, &status), GEMMA_OK);
    assert_int_equal(status.lost, 1);
    uint32_t position = gemma_session_position(r->session);
    if (p->all > p->prompted) { /* tokens that were made are as they should be */
        assert_in_range(position, N_PROMPT, N_PROMPT + N_TOKENS - 1);
        assert_memory_equal(r->ids, good->ids, (position - N_PROMPT) * sizeof *r->ids);
    } else {
        assert_int_equal(position % UBATCH, 0);
        assert_true(position < N_PROMPT);
    }
}

static void at_any_submit(void **state)
{
    (void)state;
    gemma_vulkan_host vulkan;
    world w;
    run r, good;
    parts whole, p;
    machine m;
    char why[256];
    run_begin(&vulkan);
    tiny_model t;
    tiny_model_defaults(&t, 3);
    t.n_embd = 256;
    t.n_ff = 2048;
    world_init(&w, &t);
    /* Memory that the CPU does not see, so that loading submits; software, so that a step is cut into pieces. */
    if (!machine_read("machines/rtx3050-680m-16-linux.json", 0, &m, why, sizeof why)) fail_msg("%s", why);
    m.n_devices = 1;
    m.devices[0].type = VK_PHYSICAL_DEVICE_TYPE_CPU;
    m.devices[0].memory.memoryTypeCount = 5;
    vklayer_pose(&m);
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_ok(go(&good, &w, &vulkan, &whole), good.error.message);
    run_finish(&good);
    print_message("submits: %u of loading, %u of the prompt, %u of tokens\n", (unsigned)whole.loaded,
                  (unsigned)(whole.prompted - whole.loaded), (unsigned)(whole.all - whole.prompted));
    assert_true(whole.loaded > 1);
    assert_true(whole.prompted - whole.loaded > (N_PROMPT + UBATCH - 1) / UBATCH);
    int n_lost = 0;
    for (int i = 0; n_lost < ROUNDS; i++) {
        assert_true(i < 4 * ROUNDS);
        vklayer_host_init(&vulkan);
        vklayer_pose(&m);
        /* one of each part, then any */
        uint64_t first = i == 1 ? whole.loaded : i == 2 ? whole.prompted : 0;
        uint64_t last = i == 0 ? whole.loaded : i == 1 ? whole.prompted : whole.all;
        uint64_t nth = first + 1 + draw() % (last - first);
        print_message("lost at submit %u\n", (unsigned)nth);
        vklayer_lose_at(nth);
        int rc = go(&r, &w, &vulkan, &p);
        if (!rc) assert_true(p.all < nth); /* fewer pieces this time */
        vklayer_lose_at(0);
        if (rc) {
            assert_int_equal(rc, GEMMA_E_LOST);
            assert_int_equal(p.all, nth);
            check_lost(&r, &good, &p);
            n_lost++;
        }
        run_finish(&r);
        assert_ok(go(&r, &w, &vulkan, &p), r.error.message);
        assert_memory_equal(r.ids, good.ids, sizeof r.ids);
        run_finish(&r);
    }
    world_close(&w);
}

int main(int argc, char **argv)
{
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    const struct CMUnitTest tests[] = { cmocka_unit_test(at_any_submit) };
    int n_failed = cmocka_run_group_tests_name("lost", tests, NULL, NULL);
    return n_failed ? n_failed : run_skipped ? 77 : 0;
}
