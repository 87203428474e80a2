/* Private to lib/base: what mem.c, source.c and cpu.c need from the operating system. */
#ifndef GM_OS_H
#define GM_OS_H

#include "base/base.h"

/* The default hooks of gemma_host. */
void *gm_os_alloc(void *user, size_t n_bytes, size_t align, uint32_t tag);
void gm_os_free(void *user, void *block, size_t n_bytes, uint32_t tag);
/* Asks for large pages in [block, block + n_bytes), a place and a length in such pages; the system may refuse. */
void gm_os_use_huge_pages(void *block, size_t n_bytes);

typedef intptr_t gm_os_file; /* a descriptor or HANDLE */
enum { GM_OS_REASON = 160 }; /* bytes of a `reason` buffer: why the OS refused, always filled on failure */

/* Regular files only. IO on failure. */
int gm_os_file_open(const char *path, gm_os_file *file, uint64_t *n_bytes, char *reason);
void gm_os_file_close(gm_os_file file);
/* Bytes read, at least one; 0 = end of file, -1 = failed. */
int64_t gm_os_file_read(gm_os_file file, uint64_t offset, void *dst, uint64_t n_bytes, char *reason);
/* Read-only, the whole file, n_bytes > 0; NULL = failed. */
const void *gm_os_file_map(gm_os_file file, uint64_t n_bytes, char *reason);
void gm_os_unmap(const void *base, uint64_t n_bytes);

/* GM_CPU_… of processors that tell only the OS what they can (Arm); 0 elsewhere. */
uint32_t gm_os_cpu_features(void);

#ifdef __linux__
/* os_linux.c; `root` is put in front of /proc and /sys (tests: a made-up tree). UINT64_MAX = no limit found. */
uint64_t gm_linux_ram_total(const char *root);
uint64_t gm_linux_ram_available(const char *root);
uint32_t gm_linux_cpu_quota(const char *root); /* cores, rounded up; UINT32_MAX = none */
#endif

#endif
