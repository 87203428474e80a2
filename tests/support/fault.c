#include "support/fault.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A block lies between its header and GUARD bytes:  base … header | n_bytes | guard. */
typedef struct header {
    uint64_t magic, n_bytes;
    void *base;
    uint32_t tag, unused;
} header;

enum { GUARD = 16, GUARD_BYTE = 0x5a, FRESH_BYTE = 0xa5, FREED_BYTE = 0xdd };
static const uint64_t magic_live = 0x6c69766562796765, magic_freed = 0x6465616462796765;

static struct {
    atomic_uint_least64_t n_allocations, countdown, n_live, n_mismatches, live_bytes[GEMMA_TAG_COUNT], all_bytes,
        peak_bytes;
    atomic_bool fired;
} state;

/* Counts down to the one that fails; true at that one. */
static bool fails_now(void)
{
    uint64_t left = atomic_load(&state.countdown);
    while (left && !atomic_compare_exchange_weak(&state.countdown, &left, left - 1)) continue;
    if (left == 1) atomic_store(&state.fired, true);
    return left == 1;
}

static void *fault_alloc(void *user, size_t n_bytes, size_t align, uint32_t tag)
{
    (void)user;
    atomic_fetch_add(&state.n_allocations, 1);
    if (n_bytes == 0 || align == 0 || align & (align - 1) || align > 4096 || tag >= GEMMA_TAG_COUNT) {
        atomic_fetch_add(&state.n_mismatches, 1);
        return NULL;
    }
    if (fails_now() || n_bytes > SIZE_MAX / 2) return NULL;
    char *base = malloc(sizeof(header) + align + n_bytes + GUARD);
    if (!base) return NULL;
    char *block = base + sizeof(header);
    block += (align - (uintptr_t)block % align) % align;
    header h = { .magic = magic_live, .n_bytes = n_bytes, .base = base, .tag = tag };
    memcpy(block - sizeof h, &h, sizeof h);
    memset(block, FRESH_BYTE, n_bytes);
    memset(block + n_bytes, GUARD_BYTE, GUARD);
    atomic_fetch_add(&state.n_live, 1);
    atomic_fetch_add(&state.live_bytes[tag], n_bytes);
    uint64_t all = atomic_fetch_add(&state.all_bytes, n_bytes) + n_bytes, peak = atomic_load(&state.peak_bytes);
    while (all > peak && !atomic_compare_exchange_weak(&state.peak_bytes, &peak, all)) continue;
    return block;
}

static void fault_free(void *user, void *block, size_t n_bytes, uint32_t tag)
{
    (void)user;
    header h = { 0 };
    char *at = block;
    if (at) memcpy(&h, at - sizeof h, sizeof h);
    if (h.magic != magic_live) { /* not freed: what it is is not known */
        atomic_fetch_add(&state.n_mismatches, 1);
        return;
    }
    bool right = h.n_bytes == n_bytes && h.tag == tag;
    for (size_t i = 0; i < GUARD; i++) right &= at[h.n_bytes + i] == GUARD_BYTE;
    if (!right) atomic_fetch_add(&state.n_mismatches, 1);
    atomic_fetch_sub(&state.n_live, 1);
    atomic_fetch_sub(&state.live_bytes[h.tag], h.n_bytes);
    atomic_fetch_sub(&state.all_bytes, h.n_bytes);
    memset(at, FREED_BYTE, (size_t)h.n_bytes);
    memcpy(at - sizeof h, &magic_freed, sizeof magic_freed);
    free(h.base);
}

void fault_host_init(gemma_host *host)
{
    memset(host, 0, sizeof *host);
    host->size = sizeof *host;
    host->alloc = fault_alloc;
    host->free = fault_free;
    fault_fail_nth(0);
    atomic_store(&state.n_allocations, 0);
    atomic_store(&state.n_live, 0);
    atomic_store(&state.n_mismatches, 0);
    atomic_store(&state.all_bytes, 0);
    atomic_store(&state.peak_bytes, 0);
    for (size_t i = 0; i < GEMMA_TAG_COUNT; i++) atomic_store(&state.live_bytes[i], 0);
}

void fault_fail_nth(uint64_t nth)
{
    atomic_store(&state.fired, false);
    atomic_store(&state.countdown, nth);
}

bool fault_fired(void) { return atomic_load(&state.fired); }
uint64_t fault_allocations(void) { return atomic_load(&state.n_allocations); }
uint64_t fault_live_blocks(void) { return atomic_load(&state.n_live); }
uint64_t fault_live_bytes(uint32_t tag) { return tag < GEMMA_TAG_COUNT ? atomic_load(&state.live_bytes[tag]) : 0; }
uint64_t fault_peak_bytes(void) { return atomic_load(&state.peak_bytes); }
uint64_t fault_mismatches(void) { return atomic_load(&state.n_mismatches); }
