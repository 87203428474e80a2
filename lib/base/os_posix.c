#ifndef _WIN32

#define _POSIX_C_SOURCE   200809L /* and no more: strerror_r is the one that returns int */
#define _FILE_OFFSET_BITS 64
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif

#include "base/os.h"

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    NS_PER_S = 1000000000,
    STACK_BYTES = 2 << 20, /* of our threads; musl's default is too small for kernels */
};

/* ---- memory ---- */

/* Weights are read from end to end for every token: in pages of 2 MiB they need a five-hundredth of the address
 * translations. The tables of a vocabulary and a file's header are filled from end to end: they need as few faults. The
 * system may refuse; nothing else changes then. */
#define HUGE_PAGE ((size_t)2 << 20)

void *gm_os_alloc(void *user, size_t n_bytes, size_t align, uint32_t tag)
{
    (void)user;
    bool filled = tag == GEMMA_TAG_WEIGHTS || tag == GEMMA_TAG_VOCAB || tag == GEMMA_TAG_FILE;
    bool huge = filled && n_bytes >= 2 * HUGE_PAGE;
    void *block;
    if (huge) align = HUGE_PAGE;
    if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, n_bytes)) return NULL;
    if (huge) gm_os_use_huge_pages(block, n_bytes / HUGE_PAGE * HUGE_PAGE);
    return block;
}

void gm_os_free(void *user, void *block, size_t n_bytes, uint32_t tag)
{
    (void)user, (void)n_bytes, (void)tag;
    free(block);
}

/* ---- clock ---- */

uint64_t gm_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct timespec timespec_from_ns(uint64_t ns)
{
    return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

void gm_sleep_ns(uint64_t ns)
{
    struct timespec left = timespec_from_ns(ns);
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

/* ---- mutex with a condition ---- */

struct gm_mutex {
    pthread_mutex_t lock;
    pthread_cond_t condition;
};

static int condition_init(pthread_cond_t *condition)
{
#ifdef __APPLE__
    return pthread_cond_init(condition, NULL);
#else
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes)) return -1;
    int rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!rc) rc = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return rc;
#endif
}

int gm_mutex_create(gm_mem *mem, gm_mutex **out)
{
    *out = NULL;
    gm_mutex *m = gm_new(mem, sizeof *m, GEMMA_TAG_OBJECT);
    if (!m) return GEMMA_E_NOMEM;
    if (pthread_mutex_init(&m->lock, NULL)) goto fail;
    if (condition_init(&m->condition)) {
        pthread_mutex_destroy(&m->lock);
        goto fail;
    }
    *out = m;
    return GEMMA_OK;
fail:
    gm_delete(mem, m);
    return GEMMA_E_INTERNAL;
}

void gm_mutex_destroy(gm_mem *mem, gm_mutex *mutex)
{
    if (!mutex) return;
    pthread_cond_destroy(&mutex->condition);
    pthread_mutex_destroy(&mutex->lock);
    gm_delete(mem, mutex);
}

void gm_mutex_lock(gm_mutex *mutex) { pthread_mutex_lock(&mutex->lock); }
void gm_mutex_unlock(gm_mutex *mutex) { pthread_mutex_unlock(&mutex->lock); }
void gm_mutex_wake_all(gm_mutex *mutex) { pthread_cond_broadcast(&mutex->condition); }

bool gm_mutex_wait(gm_mutex *mutex, uint64_t timeout_ns)
{
    if (timeout_ns > (uint64_t)INT32_MAX * NS_PER_S) return pthread_cond_wait(&mutex->condition, &mutex->lock) == 0;
#ifdef __APPLE__
    struct timespec t = timespec_from_ns(timeout_ns);
    return pthread_cond_timedwait_relative_np(&mutex->condition, &mutex->lock, &t) == 0;
#else
    struct timespec t = timespec_from_ns(gm_now_ns() + timeout_ns);
    return pthread_cond_timedwait(&mutex->condition, &mutex->lock, &t) == 0;
#endif
}

/* ---- threads ---- */

struct gm_thread {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    gm_thread *thread = arg;
    thread->run(thread->arg);
    return NULL;
}

/* The host's signals are handled on the host's threads: ours block them all. */
static int start_without_signals(gm_thread *thread)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return -1;
    int rc = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    if (!rc) rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!rc) {
        rc = pthread_create(&thread->id, &attributes, thread_main, thread);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return rc;
}

int gm_thread_start(gm_mem *mem, void (*run)(void *arg), void *arg, gm_thread **out)
{
    *out = NULL;
    gm_thread *thread = gm_new(mem, sizeof *thread, GEMMA_TAG_OBJECT);
    if (!thread) return GEMMA_E_NOMEM;
    thread->run = run;
    thread->arg = arg;
    if (start_without_signals(thread)) {
        gm_delete(mem, thread);
        return GEMMA_E_INTERNAL;
    }
    *out = thread;
    return GEMMA_OK;
}

void gm_thread_join(gm_mem *mem, gm_thread *thread)
{
    if (!thread) return;
    pthread_join(thread->id, NULL);
    gm_delete(mem, thread);
}

/* ---- files ---- */

static int refuse(char *reason, int error)
{
    if (strerror_r(error, reason, GM_OS_REASON)) gm_text_format(reason, GM_OS_REASON, "system error %d", error);
    return GEMMA_E_IO;
}

int gm_os_file_open(const char *path, gm_os_file *file, uint64_t *n_bytes, char *reason)
{
    struct stat status;
    int descriptor;
    do descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang us */
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return refuse(reason, errno);
    int rc = GEMMA_OK;
    if (fstat(descriptor, &status))
        rc = refuse(reason, errno);
    else if (S_ISDIR(status.st_mode))
        rc = refuse(reason, EISDIR);
    else if (!S_ISREG(status.st_mode)) {
        gm_text_format(reason, GM_OS_REASON, "not a regular file");
        rc = GEMMA_E_IO;
    }
    if (rc) {
        close(descriptor);
        return rc;
    }
    *file = descriptor;
    *n_bytes = (uint64_t)status.st_size;
    return GEMMA_OK;
}

void gm_os_file_close(gm_os_file file) { close((int)file); }

int64_t gm_os_file_read(gm_os_file file, uint64_t offset, void *dst, uint64_t n_bytes, char *reason)
{
    size_t n = (size_t)gm_min_u64(n_bytes, 1u << 30); /* Linux reads at most 2 GiB at once, macOS refuses more */
    ssize_t got;
    do got = pread((int)file, dst, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    if (got < 0) refuse(reason, errno);
    return got;
}

const void *gm_os_file_map(gm_os_file file, uint64_t n_bytes, char *reason)
{
    if (n_bytes > PTRDIFF_MAX) {
        refuse(reason, EFBIG);
        return NULL;
    }
    void *base = mmap(NULL, (size_t)n_bytes, PROT_READ, MAP_PRIVATE, (int)file, 0);
    if (base != MAP_FAILED) return base;
    refuse(reason, errno);
    return NULL;
}

void gm_os_unmap(const void *base, uint64_t n_bytes) { munmap((void *)(uintptr_t)base, (size_t)n_bytes); }

/* ---- shared libraries ---- */

void *gm_library_open(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void *gm_library_symbol(void *library, const char *name) { return dlsym(library, name); }

/* ---- what os_linux.c knows better ---- */

#ifndef __linux__
void gm_os_use_huge_pages(void *block, size_t n_bytes) { (void)block, (void)n_bytes; }
void gm_map_fetch(const void *mapped, uint64_t n_bytes) { (void)mapped, (void)n_bytes; }

uint32_t gm_n_cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 1 ? (uint32_t)n : 1;
}

uint64_t gm_ram_total_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

uint64_t gm_ram_available_bytes(void) { return gm_ram_total_bytes(); }

#if defined(__APPLE__) && defined(__aarch64__)
static bool has(const char *feature)
{
    int32_t value = 0;
    size_t n = sizeof value;
    return sysctlbyname(feature, &value, &n, NULL, 0) == 0 && value;
}

uint32_t gm_os_cpu_features(void)
{
    return GM_CPU_NEON | (has("hw.optional.arm.FEAT_DotProd") ? GM_CPU_DOTPROD : 0u) |
           (has("hw.optional.arm.FEAT_I8MM") ? GM_CPU_I8MM : 0u);
}
#elif defined(__aarch64__)
uint32_t gm_os_cpu_features(void) { return GM_CPU_NEON; }
#else
uint32_t gm_os_cpu_features(void) { return 0; }
#endif
#endif

#else
typedef int os_posix_is_not_used; /* ISO C wants a declaration in every file */
#endif
