/* What Linux tells in /proc and /sys: memory and cores, the control group's limits included. A group's limits hold
 * for all its descendants, so each path is walked up to the root. */
#ifdef __linux__

#define _GNU_SOURCE

#include "base/os.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

void gm_os_use_huge_pages(void *block, size_t n_bytes) { (void)!madvise(block, n_bytes, MADV_HUGEPAGE); }

void gm_map_fetch(const void *mapped, uint64_t n_bytes)
{
    enum { POPULATE_READ = 22 }; /* uapi/asm-generic/mman-common.h; since Linux 5.14 */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)mapped / page * page;
    size_t n = (uintptr_t)mapped + (size_t)n_bytes - first;
    (void)!madvise((void *)first, n, MADV_WILLNEED); /* the disk reads ahead as far as it will */
    (void)!madvise((void *)first, n, POPULATE_READ);
}

enum { TEXT = 8192, PATH = 1024 }; /* bytes of a small file, of a path */

/* The file's beginning as a string; false: not there. */
static bool read_text(const char *root, const char *path, const char *name, char text[TEXT])
{
    char full[PATH];
    gm_text_format(full, sizeof full, "%s%s%s", root, path, name);
    int file = open(full, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    size_t length = 0;
    for (ssize_t got = 1; got > 0 && length<TEXT - 1; length += got> 0 ? (size_t)got : 0)
        got = read(file, text + length, TEXT - 1 - length);
    close(file);
    text[length] = 0;
    return true;
}

/* A decimal number, spaces before it skipped; false: there is none ("max", "-1"). */
static bool parse_u64(const char *text, uint64_t *value)
{
    while (*text == ' ' || *text == '\t') text++;
    if (*text < '0' || *text > '9') return false;
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (!gm_mul_u64(v, 10, &v) || !gm_add_u64(v, (uint64_t)(*text - '0'), &v)) return false;
    }
    *value = v;
    return true;
}

/* The number after `key` at the beginning of a line. */
static bool find_u64(const char *text, const char *key, uint64_t *value)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0) return parse_u64(line + n, value);
    }
    return false;
}

static bool read_u64(const char *root, const char *path, const char *name, uint64_t *value)
{
    char text[TEXT];
    return read_text(root, path, name, text) && parse_u64(text, value);
}

/* ---- control groups ---- */

/* The process's group in the hierarchy of `controller` (v1), or in the unified one (v2: controller ""), as a directory
 * under `mount`. Lines are "number:controller,controller:/path". */
static bool group_path(const char *root, const char *controller, const char *mount, char path[PATH])
{
    char text[TEXT];
    size_t n = strlen(controller);
    if (!read_text(root, "/proc/self/cgroup", "", text)) return false;
    for (char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        char *names = strchr(line, ':'), *where = names ? strchr(names + 1, ':') : NULL;
        if (!where) break;
        size_t end = strcspn(where + 1, "\n");
        for (char *name = names + 1; name <= where; name += strcspn(name, ",:") + 1) {
            if (strncmp(name, controller, n) || strcspn(name, ",:") != n) continue;
            gm_text_format(path, PATH, "%s%.*s", mount, (int)end, where + 1);
            return true;
        }
    }
    return false;
}

/* path becomes its parent, down to `mount` itself; false: it was the mount. */
static bool go_up(char *path, const char *mount)
{
    char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) < strlen(mount)) return false;
    *slash = 0;
    return true;
}

typedef struct group_files {
    const char *controller, *mount, *limit, *used, *inactive, *active;
} group_files;

static const group_files memory_files[] = {
    { "", "/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file", "active_file" },
    { "memory", "/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file",
      "total_active_file" },
};

/* What is left below `limit`: file pages can be dropped, so they count as free, as in MemAvailable. */
static uint64_t group_left(const char *root, const char *path, const group_files *files, uint64_t limit)
{
    char text[TEXT];
    uint64_t used = 0, inactive = 0, active = 0;
    if (!read_u64(root, path, files->used, &used)) return limit;
    if (read_text(root, path, "/memory.stat", text)) {
        find_u64(text, files->inactive, &inactive);
        find_u64(text, files->active, &active);
    }
    used -= gm_min_u64(used, inactive);
    used -= gm_min_u64(used, active);
    return limit - gm_min_u64(limit, used);
}

static uint64_t groups_memory(const char *root, bool left)
{
    char path[PATH];
    uint64_t least = UINT64_MAX, limit;
    for (size_t i = 0; i < GM_COUNT(memory_files); i++) {
        const group_files *files = &memory_files[i];
        if (!group_path(root, files->controller, files->mount, path)) continue;
        do {
            if (!read_u64(root, path, files->limit, &limit)) continue;
            least = gm_min_u64(least, left ? group_left(root, path, files, limit) : limit);
        } while (go_up(path, files->mount));
    }
    return least;
}

static uint32_t cores_of(uint64_t quota, uint64_t period)
{
    return period ? (uint32_t)gm_max_u64(1, gm_min_u64(gm_div_up(quota, period), UINT32_MAX)) : UINT32_MAX;
}

uint32_t gm_linux_cpu_quota(const char *root)
{
    static const char mount[] = "/sys/fs/cgroup", mount_1[] = "/sys/fs/cgroup/cpu";
    char path[PATH], text[TEXT];
    uint32_t least = UINT32_MAX;
    uint64_t quota, period;
    if (group_path(root, "", mount, path)) {
        do { /* "quota period" in µs, or "max period" */
            if (!read_text(root, path, "/cpu.max", text) || !parse_u64(text, &quota)) continue;
            if (parse_u64(text + strcspn(text, " "), &period)) least = gm_min_u32(least, cores_of(quota, period));
        } while (go_up(path, mount));
    }
    if (group_path(root, "cpu", mount_1, path)) {
        do {
            if (read_u64(root, path, "/cpu.cfs_quota_us", &quota) &&
                read_u64(root, path, "/cpu.cfs_period_us", &period))
                least = gm_min_u32(least, cores_of(quota, period));
        } while (go_up(path, mount_1));
    }
    return least;
}

/* ---- memory and cores ---- */

static uint64_t machine_memory(const char *root, const char *key)
{
    char text[TEXT];
    uint64_t kib, bytes;
    if (!read_text(root, "/proc/meminfo", "", text) || !find_u64(text, key, &kib)) return UINT64_MAX;
    return gm_mul_u64(kib, 1024, &bytes) ? bytes : UINT64_MAX;
}

uint64_t gm_linux_ram_total(const char *root)
{
    return gm_min_u64(machine_memory(root, "MemTotal:"), groups_memory(root, false));
}

uint64_t gm_linux_ram_available(const char *root)
{
    uint64_t machine = machine_memory(root, "MemAvailable:");
    if (machine == UINT64_MAX) machine = machine_memory(root, "MemTotal:");
    return gm_min_u64(machine, groups_memory(root, true));
}

static uint64_t physical_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

/* Without /proc the machine's size is all there is to know. */
uint64_t gm_ram_total_bytes(void) { return gm_min_u64(gm_linux_ram_total(""), physical_bytes()); }
uint64_t gm_ram_available_bytes(void) { return gm_min_u64(gm_linux_ram_available(""), physical_bytes()); }

uint32_t gm_n_cores(void)
{
    cpu_set_t sets[8]; /* room for 8192 processors; the call fails where there are more */
    uint32_t n = 1;
    if (sched_getaffinity(0, sizeof sets, sets) == 0) n = (uint32_t)CPU_COUNT_S(sizeof sets, sets);
    return gm_max_u32(1, gm_min_u32(n, gm_linux_cpu_quota("")));
}

uint32_t gm_os_cpu_features(void)
{
#ifdef __aarch64__
    enum { ASIMD = 1u << 1, DOTPROD = 1u << 20, I8MM = 1u << 13 }; /* arch/arm64/include/uapi/asm/hwcap.h */
    unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    return (first & ASIMD ? GM_CPU_NEON : 0u) | (first & DOTPROD ? GM_CPU_DOTPROD : 0u) |
           (second & I8MM ? GM_CPU_I8MM : 0u);
#else
    return 0;
#endif
}

#else
typedef int os_linux_is_not_used; /* ISO C wants a declaration in every file */
#endif
