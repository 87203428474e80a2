/* What a GPU's driver compiled, kept from run to run in the user's cache folder; in silence where that cannot be. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A kernel is longer: less than this is a driver that keeps nothing, or one that counts its headers. */
enum { WORTH_WRITING = 1024 };

/* "FOLDER/libgemma/DEVICE.kernels" with what is no letter or digit of the device's name as '-'; NULL: nowhere. Caller
 * frees. */
static char *file_of(const cli *c)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/'; /* a relative one is to be ignored */
    gemma_device_info info = { .size = sizeof info };
    char *path = NULL;
    if (!own && (!home || !*home)) return NULL;
    if (gemma_device_describe(c->runtime, c->device, &info)) return NULL;
    for (char *p = info.name; *p; p++)
        if (!isalnum((unsigned char)*p)) *p = '-';
    if (asprintf(&path, "%s%s/libgemma/%s.kernels", own ? cache : home, own ? "" : "/.cache", info.name) < 0)
        return NULL;
    return path;
}

void cli_load_kernels(cli *c)
{
    size_t n = 0;
    char *path = file_of(c);
    FILE *f = path ? fopen(path, "rb") : NULL;
    char *bytes = f ? cli_read_all(f, &n) : NULL;
    if (bytes && !gemma_device_load_kernels(c->runtime, c->device, bytes, n, NULL)) c->kernel_bytes = n;
    if (f) fclose(f);
    free(bytes);
    free(path);
}

/* The folder of a path, and the one above it. */
static void make_folders(const char *path)
{
    char *folder = strdup(path), *last = folder ? strrchr(folder, '/') : NULL;
    if (!last) return;
    *last = '\0';
    char *above = strrchr(folder, '/');
    *above = '\0';
    mkdir(folder, 0700);
    *above = '/';
    mkdir(folder, 0700);
    free(folder);
}

/* Whole or not at all: another program may read it, or write it too. */
static void replace_file(const char *path, const void *bytes, size_t n)
{
    char *name = NULL;
    make_folders(path);
    if (asprintf(&name, "%s.XXXXXX", path) < 0) return;
    int fd = mkstemp(name);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    bool good = f && fwrite(bytes, 1, n, f) == n;
    if (f && fclose(f)) good = false;
    if (fd >= 0 && (!good || rename(name, path))) unlink(name);
    free(name);
}

void cli_keep_kernels(const cli *c)
{
    size_t n = 0;
    gemma_device_save_kernels(c->runtime, c->device, NULL, 0, &n, NULL);
    if (n < c->kernel_bytes + WORTH_WRITING) return;
    char *path = file_of(c), *bytes = malloc(n);
    if (path && bytes && !gemma_device_save_kernels(c->runtime, c->device, bytes, n, &n, NULL) && n)
        replace_file(path, bytes, n);
    free(bytes);
    free(path);
}
