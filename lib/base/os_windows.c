#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0601
#endif

#include "base/os.h"

#include <windows.h>
#include <malloc.h>

enum { NS_PER_MS = 1000000, WIDE = 4096, STACK_BYTES = 2 << 20 };

/* UTF-8 to UTF-16; false: not UTF-8, or too long. */
static bool widen(const char *text, wchar_t wide[WIDE])
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, WIDE) > 0;
}

/* ---- memory ---- */

void *gm_os_alloc(void *user, size_t n_bytes, size_t align, uint32_t tag)
{
    (void)user, (void)tag;
    return _aligned_malloc(n_bytes, align);
}

void gm_os_free(void *user, void *block, size_t n_bytes, uint32_t tag)
{
    (void)user, (void)n_bytes, (void)tag;
    _aligned_free(block);
}

uint64_t gm_ram_total_bytes(void)
{
    MEMORYSTATUSEX status = { .dwLength = sizeof status };
    return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : 0;
}

uint64_t gm_ram_available_bytes(void)
{
    MEMORYSTATUSEX status = { .dwLength = sizeof status };
    return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : 0;
}

/* ---- clock and cores ---- */

uint64_t gm_now_ns(void)
{
    LARGE_INTEGER ticks, per_s;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_s);
    uint64_t t = (uint64_t)ticks.QuadPart, f = (uint64_t)per_s.QuadPart;
    return t / f * 1000000000u + t % f * 1000000000u / f;
}

void gm_sleep_ns(uint64_t ns) { Sleep((DWORD)gm_min_u64(gm_div_up(ns, NS_PER_MS), INFINITE - 1)); }

uint32_t gm_n_cores(void)
{
    DWORD_PTR ours, machine;
    uint32_t n = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &machine))
        for (; ours; ours &= ours - 1) n++;
    if (n == 0) n = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); /* a process in several groups has no mask */
    return gm_max_u32(1, n);
}

uint32_t gm_os_cpu_features(void)
{
#ifdef __aarch64__
    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE: not in every header */
    enum { DOTPROD = 43, I8MM = 66 };
    return GM_CPU_NEON | (IsProcessorFeaturePresent(DOTPROD) ? GM_CPU_DOTPROD : 0u) |
           (IsProcessorFeaturePresent(I8MM) ? GM_CPU_I8MM : 0u);
#else
    return 0;
#endif
}

/* ---- mutex with a condition ---- */

struct gm_mutex {
    SRWLOCK lock;
    CONDITION_VARIABLE condition;
};

int gm_mutex_create(gm_mem *mem, gm_mutex **out)
{
    gm_mutex *m = *out = gm_new(mem, sizeof *m, GEMMA_TAG_OBJECT);
    if (!m) return GEMMA_E_NOMEM;
    InitializeSRWLock(&m->lock);
    InitializeConditionVariable(&m->condition);
    return GEMMA_OK;
}

void gm_mutex_destroy(gm_mem *mem, gm_mutex *mutex) { gm_delete(mem, mutex); }
void gm_mutex_lock(gm_mutex *mutex) { AcquireSRWLockExclusive(&mutex->lock); }
void gm_mutex_unlock(gm_mutex *mutex) { ReleaseSRWLockExclusive(&mutex->lock); }
void gm_mutex_wake_all(gm_mutex *mutex) { WakeAllConditionVariable(&mutex->condition); }

bool gm_mutex_wait(gm_mutex *mutex, uint64_t timeout_ns)
{
    uint64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    return SleepConditionVariableSRW(&mutex->condition, &mutex->lock, (DWORD)gm_min_u64(ms, INFINITE), 0) != 0;
}

/* ---- threads ---- */

struct gm_thread {
    HANDLE handle;
    void (*run)(void *arg);
    void *arg;
};

static DWORD WINAPI thread_main(void *arg)
{
    gm_thread *thread = arg;
    thread->run(thread->arg);
    return 0;
}

int gm_thread_start(gm_mem *mem, void (*run)(void *arg), void *arg, gm_thread **out)
{
    *out = NULL;
    gm_thread *thread = gm_new(mem, sizeof *thread, GEMMA_TAG_OBJECT);
    if (!thread) return GEMMA_E_NOMEM;
    thread->run = run;
    thread->arg = arg;
    thread->handle = CreateThread(NULL, STACK_BYTES, thread_main, thread, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (!thread->handle) {
        gm_delete(mem, thread);
        return GEMMA_E_INTERNAL;
    }
    *out = thread;
    return GEMMA_OK;
}

void gm_thread_join(gm_mem *mem, gm_thread *thread)
{
    if (!thread) return;
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
    gm_delete(mem, thread);
}

/* ---- files ---- */

static int refuse(char *reason, DWORD error)
{
    wchar_t wide[GM_OS_REASON / 3]; /* one UTF-16 unit is at most three bytes */
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, wide,
                             GM_COUNT(wide), NULL);
    while (n && wide[n - 1] <= L' ') n--;
    int length = n ? WideCharToMultiByte(CP_UTF8, 0, wide, (int)n, reason, GM_OS_REASON - 1, NULL, NULL) : 0;
    if (length > 0)
        reason[length] = 0;
    else
        gm_text_format(reason, GM_OS_REASON, "system error %lu", error);
    return GEMMA_E_IO;
}

int gm_os_file_open(const char *path, gm_os_file *file, uint64_t *n_bytes, char *reason)
{
    wchar_t wide[WIDE];
    if (!widen(path, wide)) return refuse(reason, ERROR_INVALID_NAME);
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY) {
        gm_text_format(reason, GM_OS_REASON, "it is a directory");
        return GEMMA_E_IO;
    }
    HANDLE handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                                FILE_ATTRIBUTE_NORMAL, NULL);
    if (handle == INVALID_HANDLE_VALUE) return refuse(reason, GetLastError());
    LARGE_INTEGER size;
    int rc = GEMMA_OK;
    if (GetFileType(handle) != FILE_TYPE_DISK) {
        gm_text_format(reason, GM_OS_REASON, "not a regular file");
        rc = GEMMA_E_IO;
    } else if (!GetFileSizeEx(handle, &size)) {
        rc = refuse(reason, GetLastError());
    }
    if (rc) {
        CloseHandle(handle);
        return rc;
    }
    *file = (gm_os_file)handle;
    *n_bytes = (uint64_t)size.QuadPart;
    return GEMMA_OK;
}

void gm_os_file_close(gm_os_file file) { CloseHandle((HANDLE)file); }

int64_t gm_os_file_read(gm_os_file file, uint64_t offset, void *dst, uint64_t n_bytes, char *reason)
{
    OVERLAPPED at = { .Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32) };
    DWORD got = 0;
    if (ReadFile((HANDLE)file, dst, (DWORD)gm_min_u64(n_bytes, 1u << 30), &got, &at)) return got;
    DWORD error = GetLastError();
    if (error == ERROR_HANDLE_EOF) return 0;
    refuse(reason, error);
    return -1;
}

const void *gm_os_file_map(gm_os_file file, uint64_t n_bytes, char *reason)
{
    (void)n_bytes; /* 0 below: all of it */
    HANDLE mapping = CreateFileMappingW((HANDLE)file, NULL, PAGE_READONLY, 0, 0, NULL);
    const void *base = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0) : NULL;
    if (!base) refuse(reason, GetLastError());
    if (mapping) CloseHandle(mapping); /* the view keeps it */
    return base;
}

void gm_os_unmap(const void *base, uint64_t n_bytes)
{
    (void)n_bytes;
    UnmapViewOfFile(base);
}

void gm_map_fetch(const void *mapped, uint64_t n_bytes) { (void)mapped, (void)n_bytes; }

/* ---- shared libraries ---- */

void *gm_library_open(const char *name)
{
    wchar_t wide[WIDE];
    return widen(name, wide) ? (void *)LoadLibraryW(wide) : NULL;
}

void *gm_library_symbol(void *library, const char *name)
{
    FARPROC symbol = GetProcAddress(library, name);
    void *out;
    memcpy(&out, &symbol, sizeof out);
    return out;
}

#else
typedef int os_windows_is_not_used; /* ISO C wants a declaration in every file */
#endif
