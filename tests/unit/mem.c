/* Memory through the host's hooks: sizes, tags, alignment, growth, and every allocation failing once. */
#include "base/base.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_all_freed(const gm_mem *mem)
{
    for (uint32_t tag = 0; tag < GEMMA_TAG_COUNT; tag++) {
        assert_true(gm_mem_live(mem, tag) == 0);
        assert_true(fault_live_bytes(tag) == 0);
    }
    assert_true(fault_live_blocks() == 0);
    assert_true(fault_mismatches() == 0);
}

static bool all_zero(const void *block, size_t n)
{
    const uint8_t *b = block;
    for (size_t i = 0; i < n; i++) {
        if (b[i]) return false;
    }
    return true;
}

static void test_heap(void **state)
{
    (void)state;
    gm_mem mem;
    gm_mem_init(&mem, NULL);
    assert_non_null(mem.host.alloc);
    assert_non_null(mem.host.free);
    assert_non_null(mem.host.log);
    assert_null(mem.host.read);
    assert_null(mem.host.parallel_for);
    for (size_t align = 1; align <= 4096; align *= 2) {
        void *block = gm_mem_alloc(&mem, 1000, align, GEMMA_TAG_KV);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % align, 0);
        memset(block, 1, 1000);
        assert_true(gm_mem_live(&mem, GEMMA_TAG_KV) == 1000);
        gm_mem_free(&mem, block, 1000, GEMMA_TAG_KV);
    }
    assert_true(gm_mem_live(&mem, GEMMA_TAG_KV) == 0);
    assert_null(gm_mem_alloc(&mem, 0, 16, GEMMA_TAG_KV));
    assert_null(gm_mem_alloc(&mem, UINT64_MAX, 16, GEMMA_TAG_KV));
    gm_mem_free(&mem, NULL, 1000, GEMMA_TAG_KV);
    assert_true(gm_mem_live(&mem, GEMMA_TAG_KV) == 0);
}

static void test_host_hooks(void **state)
{
    (void)state;
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    uint8_t *block = gm_new(&mem, 100, GEMMA_TAG_VOCAB);
    assert_true(all_zero(block, 100));
    assert_int_equal((uintptr_t)block % 16, 0);
    assert_true(fault_live_bytes(GEMMA_TAG_VOCAB) >= 100);
    assert_true(fault_live_bytes(GEMMA_TAG_VOCAB) == gm_mem_live(&mem, GEMMA_TAG_VOCAB));
    char *copy = gm_copy_string(&mem, "Grüße, mehr", 7, GEMMA_TAG_FILE);
    assert_string_equal(copy, "Grüße");
    char *empty = gm_copy_string(&mem, NULL, 0, GEMMA_TAG_FILE);
    assert_string_equal(empty, "");
    void *nothing = gm_new(&mem, 0, GEMMA_TAG_FILE);
    assert_non_null(nothing);
    gm_delete(&mem, block);
    gm_delete(&mem, copy);
    gm_delete(&mem, empty);
    gm_delete(&mem, nothing);
    gm_delete(&mem, NULL);
    assert_all_freed(&mem);

    host.free = NULL; /* one hook of the pair: both are ours */
    gm_mem_init(&mem, &host);
    uint64_t before = fault_allocations();
    gm_delete(&mem, gm_new(&mem, 10, GEMMA_TAG_OBJECT));
    assert_true(fault_allocations() == before);
}

/* A host compiled against an older, shorter struct: what lies behind its size is not read. */
static void test_short_host(void **state)
{
    (void)state;
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    host.log_level = GEMMA_LOG_DEBUG;
    host.read = (int64_t(*)(void *, const char *, uint64_t, void *, uint64_t))(uintptr_t)1;
    host.size = offsetof(gemma_host, log);
    gm_mem_init(&mem, &host);
    assert_null(mem.host.read);
    assert_true(mem.host.alloc == host.alloc);
    assert_int_equal(mem.host.log_level, GEMMA_LOG_NONE); /* no log hook */
    assert_int_equal(mem.host.size, sizeof(gemma_host));
}

static void test_arrays_and_growth(void **state)
{
    (void)state;
    gemma_host host;
    gm_mem mem;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    uint64_t before = fault_allocations();
    assert_null(gm_new_array(&mem, UINT64_MAX / 4, 8, GEMMA_TAG_FILE));
    assert_null(gm_new(&mem, UINT64_MAX - 4, GEMMA_TAG_FILE));
    assert_null(gm_copy_string(&mem, "x", SIZE_MAX, GEMMA_TAG_FILE));
    assert_true(fault_allocations() == before);
    uint32_t *n = gm_new_array(&mem, 10, sizeof *n, GEMMA_TAG_FILE);
    for (uint32_t i = 0; i < 10; i++) n[i] = i + 1;
    assert_ptr_equal(gm_grow(&mem, n, 40, GEMMA_TAG_FILE), n);
    fault_fail_nth(1);
    assert_null(gm_grow(&mem, n, 4000, GEMMA_TAG_FILE));
    assert_true(fault_fired());
    for (uint32_t i = 0; i < 10; i++) assert_int_equal(n[i], i + 1);
    n = gm_grow(&mem, n, 4000, GEMMA_TAG_FILE);
    for (uint32_t i = 0; i < 10; i++) assert_int_equal(n[i], i + 1);
    assert_true(all_zero(n + 10, 4000 - 40));
    assert_true(fault_live_blocks() == 1);
    gm_delete(&mem, n);
    uint8_t *fresh = gm_grow(&mem, NULL, 50, GEMMA_TAG_FILE);
    assert_true(all_zero(fresh, 50));
    gm_delete(&mem, fresh);
    assert_all_freed(&mem);
}

/* The tool itself must see what it is there to see. */
static void test_fault_sees(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    char *block = host.alloc(NULL, 10, 64, GEMMA_TAG_KV);
    assert_int_equal((uintptr_t)block % 64, 0);
    host.free(NULL, block, 11, GEMMA_TAG_KV);
    assert_true(fault_mismatches() == 1);
    host.free(NULL, host.alloc(NULL, 10, 8, GEMMA_TAG_KV), 10, GEMMA_TAG_FILE);
    assert_true(fault_mismatches() == 2);
    block = host.alloc(NULL, 10, 8, GEMMA_TAG_KV);
    block[10] = 0;
    host.free(NULL, block, 10, GEMMA_TAG_KV);
    assert_true(fault_mismatches() == 3);
    assert_null(host.alloc(NULL, 10, 24, GEMMA_TAG_KV));
    assert_true(fault_mismatches() == 4);
    fault_fail_nth(2);
    block = host.alloc(NULL, 10, 8, GEMMA_TAG_KV);
    assert_non_null(block);
    assert_false(fault_fired());
    assert_null(host.alloc(NULL, 10, 8, GEMMA_TAG_KV));
    assert_true(fault_fired());
    assert_true(fault_live_blocks() == 1 && fault_live_bytes(GEMMA_TAG_KV) == 10);
    host.free(NULL, block, 10, GEMMA_TAG_KV);
    assert_true(fault_live_blocks() == 0);
}

static void test_refs(void **state)
{
    (void)state;
    gm_ref ref;
    gm_ref_init(&ref);
    gm_ref_take(&ref);
    assert_false(gm_ref_drop(&ref));
    assert_true(gm_ref_drop(&ref));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap),       cmocka_unit_test(test_host_hooks),
        cmocka_unit_test(test_short_host), cmocka_unit_test(test_arrays_and_growth),
        cmocka_unit_test(test_fault_sees), cmocka_unit_test(test_refs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
