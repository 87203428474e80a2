#include "base/os.h"

/* In front of every small block; 16 bytes keep the block 16-byte aligned. */
typedef struct prefix {
    uint64_t n_bytes; /* of the whole allocation */
    uint32_t tag;
    uint32_t unused;
} prefix;
_Static_assert(sizeof(prefix) == GM_NEW_EXTRA, "gm_new's alignment");

static void log_nothing(void *user, uint32_t level, const char *line) { (void)user, (void)level, (void)line; }

void gm_mem_init(gm_mem *mem, const gemma_host *host)
{
    memset(&mem->host, 0, sizeof mem->host);
    if (host) memcpy(&mem->host, host, gm_min_u32(host->size, sizeof *host));
    mem->host.size = sizeof mem->host;
    if (!mem->host.alloc || !mem->host.free) { /* only as a pair */
        mem->host.alloc = gm_os_alloc;
        mem->host.free = gm_os_free;
    }
    if (!mem->host.log) {
        mem->host.log = log_nothing;
        mem->host.log_level = GEMMA_LOG_NONE;
    }
    for (uint32_t i = 0; i < GEMMA_TAG_COUNT; i++) atomic_init(&mem->live_bytes[i], 0);
}

uint64_t gm_mem_live(const gm_mem *mem, uint32_t tag)
{
    return atomic_load_explicit(&mem->live_bytes[tag], memory_order_relaxed);
}

void *gm_mem_alloc(gm_mem *mem, uint64_t n_bytes, size_t align, uint32_t tag)
{
    if (n_bytes == 0 || n_bytes > PTRDIFF_MAX) return NULL;
    void *block = mem->host.alloc(mem->host.user, (size_t)n_bytes, align, tag);
    if (block) atomic_fetch_add_explicit(&mem->live_bytes[tag], n_bytes, memory_order_relaxed);
    return block;
}

void gm_mem_free(gm_mem *mem, void *block, uint64_t n_bytes, uint32_t tag)
{
    if (!block) return;
    atomic_fetch_sub_explicit(&mem->live_bytes[tag], n_bytes, memory_order_relaxed);
    mem->host.free(mem->host.user, block, (size_t)n_bytes, tag);
}

void *gm_new(gm_mem *mem, uint64_t n_bytes, uint32_t tag)
{
    uint64_t total;
    if (!gm_add_u64(n_bytes, sizeof(prefix), &total)) return NULL;
    prefix *p = gm_mem_alloc(mem, total, 16, tag);
    if (!p) return NULL;
    memset(p, 0, (size_t)total);
    p->n_bytes = total;
    p->tag = tag;
    return p + 1;
}

void *gm_new_array(gm_mem *mem, uint64_t n, size_t element_bytes, uint32_t tag)
{
    uint64_t n_bytes;
    return gm_mul_u64(n, element_bytes, &n_bytes) ? gm_new(mem, n_bytes, tag) : NULL;
}

void *gm_grow(gm_mem *mem, void *block, uint64_t n_bytes, uint32_t tag)
{
    uint64_t old_bytes = block ? ((prefix *)block - 1)->n_bytes - sizeof(prefix) : 0;
    if (block && n_bytes <= old_bytes) return block;
    void *grown = gm_new(mem, n_bytes, tag);
    if (!grown || !block) return grown;
    memcpy(grown, block, (size_t)old_bytes);
    gm_delete(mem, block);
    return grown;
}

void gm_delete(gm_mem *mem, void *block)
{
    if (!block) return;
    prefix *p = (prefix *)block - 1;
    gm_mem_free(mem, p, p->n_bytes, p->tag);
}

char *gm_copy_string(gm_mem *mem, const char *text, size_t n_bytes, uint32_t tag)
{
    uint64_t total;
    if (!gm_add_u64(n_bytes, 1, &total)) return NULL;
    char *copy = gm_new(mem, total, tag);
    if (copy && n_bytes) memcpy(copy, text, n_bytes);
    return copy;
}
