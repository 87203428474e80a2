/* Files by the OS, by the host, mapped, and bytes in memory; and what Linux says of memory and cores. */
#define _DEFAULT_SOURCE

#include "base/os.h"
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#include <sys/resource.h>
#endif
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64] = "/tmp/gemma-source-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Makes the folders on the way, too. */
static const char *write_file(const char *name, const void *bytes, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
    return path_of(name);
}

static void write_text(const char *name, const char *text) { write_file(name, text, strlen(text)); }

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static gm_mem mem;
static gemma_error error;

static void assert_said(int rc, int expected, const char *part)
{
    assert_int_equal(rc, expected);
    assert_int_equal(error.code, expected);
    if (!strstr(error.message, part)) fail_msg("\"%s\" does not say \"%s\"", error.message, part);
}

static int fresh_mem(void **state)
{
    (void)state;
    gemma_host host;
    fault_host_init(&host);
    gm_mem_init(&mem, &host);
    gm_error_init(&error);
    return 0;
}

static int nothing_left(void **state)
{
    (void)state;
    return fault_live_blocks() == 0 && fault_mismatches() == 0 ? 0 : -1;
}

static void check_reads(gm_source *s, const uint8_t *expected, uint64_t n)
{
    uint8_t got[64];
    assert_true(gm_source_bytes(s) == n);
    for (uint64_t at = 0; at <= n; at++) {
        uint64_t count = gm_min_u64(n - at, sizeof got);
        memset(got, 0x77, sizeof got);
        assert_int_equal(gm_source_read(s, at, got, count, &error), GEMMA_OK);
        assert_memory_equal(got, expected + at, count);
    }
    assert_int_equal(gm_source_read(s, n, NULL, 0, &error), GEMMA_OK);
    assert_said(gm_source_read(s, n, got, 1, &error), GEMMA_E_FORMAT, "ends at");
    assert_said(gm_source_read(s, n + 1, got, 0, &error), GEMMA_E_FORMAT, gm_source_name(s));
    assert_said(gm_source_read(s, 1, got, UINT64_MAX, &error), GEMMA_E_FORMAT, "18446744073709551615");
    assert_said(gm_source_read(s, UINT64_MAX, got, 2, &error), GEMMA_E_FORMAT, "18446744073709551615");
}

static const uint8_t content[100] = "the file's content, then zeros";

static void test_file(void **state)
{
    (void)state;
    gm_source *s;
    const char *path = write_file("wörter.bin", content, sizeof content);
    for (int map = 0; map < 2; map++) {
        assert_int_equal(gm_source_open(&mem, path, map, &s, &error), GEMMA_OK);
        assert_string_equal(gm_source_name(s), path);
        assert_int_equal(gm_source_mapped(s) != NULL, map);
        if (map) assert_memory_equal(gm_source_mapped(s), content, sizeof content);
        check_reads(s, content, sizeof content);
        gm_source_close(s);
    }
    gm_source_close(NULL);
}

/* What is read of a mapped file is read from the file: a cut one ends in a sentence, not in a signal. */
static void test_cut_file(void **state)
{
    (void)state;
    gm_source *s;
    uint8_t *bytes = calloc(1, 1 << 20), some[64];
    assert_non_null(bytes);
    const char *path = write_file("cut", bytes, 1 << 20);
    free(bytes);
    assert_int_equal(gm_source_open(&mem, path, true, &s, &error), GEMMA_OK);
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(gm_source_read(s, 4000, some, sizeof some, &error), GEMMA_OK);
    assert_said(gm_source_read(s, 900000, some, sizeof some, &error), GEMMA_E_IO, "has become shorter");
    gm_map_fetch(gm_source_mapped(s), 1 << 20);
    gm_source_close(s);
}

static void test_refused_files(void **state)
{
    (void)state;
    gm_source *s = (gm_source *)&mem;
    assert_said(gm_source_open(&mem, path_of("missing"), false, &s, &error), GEMMA_E_IO, "missing: cannot open");
    assert_null(s);
    assert_said(gm_source_open(&mem, "", false, &s, &error), GEMMA_E_IO, "cannot open");
    assert_said(gm_source_open(&mem, folder, false, &s, &error), GEMMA_E_IO, "irectory");
    assert_said(gm_source_open(&mem, folder, true, &s, &error), GEMMA_E_IO, folder);
    assert_int_equal(mkfifo(path_of("pipe"), 0666), 0);
    assert_said(gm_source_open(&mem, path_of("pipe"), false, &s, &error), GEMMA_E_IO, "not a regular file");
    assert_said(gm_source_open(&mem, "/dev/zero", true, &s, &error), GEMMA_E_IO, "not a regular file");
    const char *empty = write_file("empty", "", 0);
    assert_said(gm_source_open(&mem, empty, true, &s, &error), GEMMA_E_IO, "empty");
    assert_null(s);
    assert_int_equal(gm_source_open(&mem, empty, false, &s, &error), GEMMA_OK);
    check_reads(s, content, 0);
    gm_source_close(s);
    assert_int_equal(gm_source_open(&mem, path_of("missing"), false, &s, NULL), GEMMA_E_IO);
}

static void test_shortened(void **state)
{
    (void)state;
    gm_source *s;
    uint8_t got[100];
    const char *path = write_file("shrinks", content, sizeof content);
    assert_int_equal(gm_source_open(&mem, path, false, &s, &error), GEMMA_OK);
    assert_int_equal(truncate(path, 60), 0);
    assert_int_equal(gm_source_read(s, 50, got, 10, &error), GEMMA_OK);
    assert_said(gm_source_read(s, 50, got, 20, &error), GEMMA_E_IO, "10 bytes at offset 60: the file has become");
    gm_source_close(s);
}

static void test_bytes(void **state)
{
    (void)state;
    gm_source *s;
    assert_int_equal(gm_source_from_bytes(&mem, content, sizeof content, &s, &error), GEMMA_OK);
    assert_string_equal(gm_source_name(s), "bytes in memory");
    assert_ptr_equal(gm_source_mapped(s), content);
    check_reads(s, content, sizeof content);
    gm_source_close(s);
    assert_int_equal(gm_source_from_bytes(&mem, NULL, 0, &s, &error), GEMMA_OK);
    check_reads(s, content, 0);
    gm_source_close(s);
}

/* ---- the host's read ---- */

static struct {
    uint64_t step;   /* bytes it gives at a time */
    int64_t answer;  /* instead, when not 0 */
    uint64_t length; /* where its file really ends */
} host_file;

static int64_t host_read(void *user, const char *path, uint64_t offset, void *dst, uint64_t n_bytes)
{
    assert_ptr_equal(user, &host_file);
    if (strcmp(path, "pack://model")) return -7;
    if (!dst) return sizeof content;
    if (host_file.answer) return host_file.answer;
    uint64_t n =
        gm_min_u64(gm_min_u64(n_bytes, host_file.step), host_file.length - gm_min_u64(host_file.length, offset));
    memcpy(dst, content + offset, n);
    return (int64_t)n;
}

static void test_host_read(void **state)
{
    (void)state;
    gm_source *s;
    uint8_t got[100];
    mem.host.read = host_read;
    mem.host.user = &host_file;
    host_file.step = 7;
    host_file.length = sizeof content;
    assert_said(gm_source_open(&mem, "pack://other", false, &s, &error), GEMMA_E_IO, "pack://other: the host cannot");
    assert_null(s);
    assert_int_equal(gm_source_open(&mem, "pack://model", true, &s, &error), GEMMA_OK);
    assert_null(gm_source_mapped(s));
    check_reads(s, content, sizeof content);
    host_file.length = 50;
    assert_said(gm_source_read(s, 45, got, 10, &error), GEMMA_E_IO, "5 bytes at offset 50: the file has become");
    host_file.answer = -3;
    assert_said(gm_source_read(s, 0, got, 10, &error), GEMMA_E_IO, "returned -3");
    host_file.answer = 11;
    assert_said(gm_source_read(s, 0, got, 10, &error), GEMMA_E_IO, "more bytes");
    host_file.answer = 0;
    gm_source_close(s);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const char *path = write_file("file", content, sizeof content);
    for (int kind = 0; kind < 3; kind++) {
        uint64_t nth = 0;
        int rc;
        do {
            gm_source *s;
            fault_fail_nth(++nth);
            rc = kind < 2 ? gm_source_open(&mem, path, kind, &s, &error)
                          : gm_source_from_bytes(&mem, content, sizeof content, &s, &error);
            assert_int_equal(rc, fault_fired() ? GEMMA_E_NOMEM : GEMMA_OK);
            assert_true((s != NULL) == (rc == GEMMA_OK));
            gm_source_close(s);
            assert_true(fault_live_blocks() == 0);
        } while (rc);
        assert_true(nth > 1);
    }
}

static void test_library(void **state)
{
    (void)state;
    assert_null(gm_library_open("libdoes-not-exist.so.7"));
    void *library = gm_library_open("libc.so.6");
    if (!library) skip();
    assert_non_null(gm_library_symbol(library, "strlen"));
    assert_null(gm_library_symbol(library, "no_such_symbol_at_all"));
}

/* ---- Linux: memory and cores from a made-up /proc and /sys ---- */

#ifdef __linux__
/* A sanitizer's own memory has faults as well. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = true };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif
#else
enum { SANITIZED = false };
#endif

static long minor_faults(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_minflt;
}

/* Pages that were fetched need no fault. */
static void test_map_fetch(void **state)
{
    (void)state;
    enum { N = 16 << 20, PAGE = 4096, POPULATE_READ = 22 };
    gm_source *s;
    uint8_t *bytes = calloc(1, N);
    assert_non_null(bytes);
    const char *path = write_file("mapped", bytes, N);
    free(bytes);
    assert_int_equal(gm_source_open(&mem, path, true, &s, &error), GEMMA_OK);
    const volatile uint8_t *mapped = gm_source_mapped(s);
    bool known = madvise((void *)(uintptr_t)mapped, PAGE, POPULATE_READ) == 0; /* Linux 5.14 */
    long faults[2];
    for (int fetched = 0; fetched < 2; fetched++) {
        const volatile uint8_t *half = mapped + (size_t)fetched * N / 2;
        if (fetched) gm_map_fetch((const char *)gm_source_mapped(s) + N / 2 + 3, N / 2 - 5);
        faults[fetched] = minor_faults();
        for (size_t i = 0; i < N / 2; i += PAGE) (void)half[i];
        faults[fetched] = minor_faults() - faults[fetched];
    }
    gm_source_close(s);
    if (!known || faults[0] < 4 || SANITIZED) skip(); /* whole files may be mapped with one fault */
    assert_true(faults[1] == 0);
}

static void test_no_groups(void **state)
{
    (void)state;
    char root[128];
    snprintf(root, sizeof root, "%s/bare", folder);
    assert_true(gm_linux_ram_total(root) == UINT64_MAX);
    assert_int_equal(gm_linux_cpu_quota(root), UINT32_MAX);
    write_text("bare/proc/meminfo", "MemTotal:        1000 kB\nMemFree:          100 kB\n");
    assert_true(gm_linux_ram_total(root) == 1024000);
    assert_true(gm_linux_ram_available(root) == 1024000); /* old kernels do not tell */
    write_text("bare/proc/meminfo", "MemTotal:        1000 kB\nMemAvailable:     400 kB\n");
    assert_true(gm_linux_ram_available(root) == 409600);
}

static void test_group_v2(void **state)
{
    (void)state;
    char root[128];
    snprintf(root, sizeof root, "%s/two", folder);
    write_text("two/proc/meminfo", "MemTotal:  1000 kB\nMemAvailable: 900 kB\n");
    write_text("two/proc/self/cgroup", "0::/a/b\n");
    write_text("two/sys/fs/cgroup/a/b/memory.max", "max\n");
    write_text("two/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_true(gm_linux_ram_total(root) == 1024000);
    assert_int_equal(gm_linux_cpu_quota(root), UINT32_MAX);
    write_text("two/sys/fs/cgroup/a/memory.max", "500000\n"); /* the parent's limit counts */
    write_text("two/sys/fs/cgroup/a/memory.current", "300000\n");
    write_text("two/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 40000\nactive_file 60000\n");
    assert_true(gm_linux_ram_total(root) == 500000);
    assert_true(gm_linux_ram_available(root) == 300000);
    write_text("two/sys/fs/cgroup/a/memory.current", "700000\n"); /* over it */
    assert_true(gm_linux_ram_available(root) == 0);
    write_text("two/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    assert_int_equal(gm_linux_cpu_quota(root), 3);
    write_text("two/sys/fs/cgroup/a/b/cpu.max", "1000 100000\n");
    assert_int_equal(gm_linux_cpu_quota(root), 1);
}

static void test_group_v1(void **state)
{
    (void)state;
    char root[128];
    snprintf(root, sizeof root, "%s/one", folder);
    write_text("one/proc/meminfo", "MemTotal:  1000 kB\nMemAvailable: 900 kB\n");
    write_text("one/proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n");
    /* seen from inside a container: the path is the outside's, only the mount's root is there */
    write_text("one/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n");
    write_text("one/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
    write_text("one/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 70000\n");
    write_text("one/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    write_text("one/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_true(gm_linux_ram_total(root) == 600000);
    assert_true(gm_linux_ram_available(root) == 170000);
    assert_int_equal(gm_linux_cpu_quota(root), UINT32_MAX);
    write_text("one/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(gm_linux_cpu_quota(root), 4);
    write_text("one/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* v1's "none" */
    assert_true(gm_linux_ram_total(root) == 1024000);
}

static void test_group_damaged(void **state)
{
    (void)state;
    static const char *const texts[] = { "", ":", "0", "0:", "0::", "0:::\n", "\n\n", "0:memory", "4:memory:/a\n0::/" };
    char root[128];
    snprintf(root, sizeof root, "%s/odd", folder);
    write_text("odd/proc/meminfo", "MemTotal:  99999999999999999999999 kB\n");
    for (size_t i = 0; i < GM_COUNT(texts); i++) {
        write_text("odd/proc/self/cgroup", texts[i]);
        assert_true(gm_linux_ram_total(root) == UINT64_MAX);
        assert_true(gm_linux_ram_available(root) == UINT64_MAX);
        assert_int_equal(gm_linux_cpu_quota(root), UINT32_MAX);
    }
}
#endif

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fresh_mem, nothing_left)
    const struct CMUnitTest tests[] = {
        TEST(test_file),          TEST(test_cut_file),  TEST(test_refused_files), TEST(test_shortened),
        TEST(test_bytes),         TEST(test_host_read), TEST(test_out_of_memory), TEST(test_library),
#ifdef __linux__
        TEST(test_map_fetch),     TEST(test_no_groups), TEST(test_group_v2),      TEST(test_group_v1),
        TEST(test_group_damaged),
#endif
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
