#include "base/os.h"

typedef enum source_kind { SOURCE_FILE, SOURCE_HOST, SOURCE_MEMORY } source_kind;

struct gm_source {
    gm_mem *mem;
    char *name;
    uint64_t n_bytes;
    source_kind kind;
    gm_os_file file;      /* SOURCE_FILE */
    const uint8_t *bytes; /* SOURCE_MEMORY; of a mapped SOURCE_FILE the mapping */
};

static gm_source *source_new(gm_mem *mem, const char *name, source_kind kind, gemma_error *error)
{
    gm_source *s = gm_new(mem, sizeof *s, GEMMA_TAG_FILE);
    char *copy = gm_copy_string(mem, name, strlen(name), GEMMA_TAG_FILE);
    if (!s || !copy) {
        gm_fail_nomem(error, "an open file", sizeof *s + strlen(name));
        gm_delete(mem, copy);
        gm_delete(mem, s);
        return NULL;
    }
    s->mem = mem;
    s->name = copy;
    s->kind = kind;
    return s;
}

static void source_delete(gm_source *s)
{
    gm_delete(s->mem, s->name);
    gm_delete(s->mem, s);
}

static int open_by_host(gm_source *s, gemma_error *error)
{
    const gemma_host *host = &s->mem->host;
    int64_t n = host->read(host->user, s->name, 0, NULL, 0);
    if (n < 0) return gm_fail(error, GEMMA_E_IO, "%s: the host cannot read it (%lld)", s->name, (long long)n);
    s->n_bytes = (uint64_t)n;
    return GEMMA_OK;
}

/* The file stays open: what is read from it takes no page of the mapping, and cannot fault. */
static int map_file(gm_source *s, gemma_error *error)
{
    char reason[GM_OS_REASON];
    if (s->n_bytes == 0) return gm_fail(error, GEMMA_E_IO, "%s: the file is empty and cannot be mapped", s->name);
    s->bytes = gm_os_file_map(s->file, s->n_bytes, reason);
    if (!s->bytes) {
        char size[24];
        return gm_fail(error, GEMMA_E_IO, "%s: cannot map %s: %s", s->name, gm_text_bytes(size, s->n_bytes), reason);
    }
    return GEMMA_OK;
}

static int open_by_os(gm_source *s, bool map, gemma_error *error)
{
    char reason[GM_OS_REASON];
    if (gm_os_file_open(s->name, &s->file, &s->n_bytes, reason))
        return gm_fail(error, GEMMA_E_IO, "%s: cannot open the file: %s", s->name, reason);
    int rc = map ? map_file(s, error) : GEMMA_OK;
    if (rc) gm_os_file_close(s->file);
    return rc;
}

int gm_source_open(gm_mem *mem, const char *path, bool map, gm_source **out, gemma_error *error)
{
    bool by_host = mem->host.read;
    *out = NULL;
    gm_source *s = source_new(mem, path, by_host ? SOURCE_HOST : SOURCE_FILE, error);
    if (!s) return GEMMA_E_NOMEM;
    int rc = by_host ? open_by_host(s, error) : open_by_os(s, map, error);
    if (rc) {
        source_delete(s);
        return rc;
    }
    *out = s;
    return GEMMA_OK;
}

int gm_source_from_bytes(gm_mem *mem, const void *bytes, uint64_t n_bytes, gm_source **out, gemma_error *error)
{
    gm_source *s = *out = source_new(mem, "bytes in memory", SOURCE_MEMORY, error);
    if (!s) return GEMMA_E_NOMEM;
    s->bytes = bytes;
    s->n_bytes = n_bytes;
    return GEMMA_OK;
}

void gm_source_close(gm_source *source)
{
    if (!source) return;
    if (source->kind == SOURCE_FILE) {
        if (source->bytes) gm_os_unmap(source->bytes, source->n_bytes);
        gm_os_file_close(source->file);
    }
    source_delete(source);
}

uint64_t gm_source_bytes(const gm_source *source) { return source->n_bytes; }
const char *gm_source_name(const gm_source *source) { return source->name; }
const void *gm_source_mapped(const gm_source *source) { return source->bytes; }

/* One step of a read: bytes got, 0 at the end, < 0 with the reason. */
static int64_t read_some(gm_source *s, uint64_t offset, void *dst, uint64_t n, char *reason)
{
    const gemma_host *host = &s->mem->host;
    if (s->kind == SOURCE_FILE) return gm_os_file_read(s->file, offset, dst, n, reason);
    int64_t got = host->read(host->user, s->name, offset, dst, n);
    if (got < 0) gm_text_format(reason, GM_OS_REASON, "the host's read returned %lld", (long long)got);
    if (got <= 0 || (uint64_t)got <= n) return got;
    gm_text_format(reason, GM_OS_REASON, "the host's read returned more bytes than were asked for");
    return -1;
}

int gm_source_read(gm_source *source, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    if (offset > source->n_bytes || n > source->n_bytes - offset)
        return gm_fail(error, GEMMA_E_FORMAT, "%s: %llu bytes are wanted at offset %llu, but the file ends at %llu",
                       source->name, (unsigned long long)n, (unsigned long long)offset,
                       (unsigned long long)source->n_bytes);
    if (source->kind == SOURCE_MEMORY) {
        if (n) memcpy(dst, source->bytes + offset, (size_t)n);
        return GEMMA_OK;
    }
    for (uint64_t done = 0; done < n;) {
        char reason[GM_OS_REASON] = "the file has become shorter";
        int64_t got = read_some(source, offset + done, (uint8_t *)dst + done, n - done, reason);
        if (got <= 0)
            return gm_fail(error, GEMMA_E_IO, "%s: cannot read %llu bytes at offset %llu: %s", source->name,
                           (unsigned long long)(n - done), (unsigned long long)(offset + done), reason);
        done += (uint64_t)got;
    }
    return GEMMA_OK;
}
