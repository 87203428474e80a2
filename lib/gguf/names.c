#include "gguf/header.h"

static uint32_t hash_of(gm_str name) /* FNV-1a */
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.n; i++) hash = (hash ^ (uint8_t)name.data[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* The slot that holds the name, or the free one where it belongs. */
static uint32_t slot_of(const gm_names *names, const void *table, gm_name_of name_of, gm_str name, uint32_t hash)
{
    uint32_t slot = hash & names->mask;
    for (; names->slots[slot]; slot = (slot + 1) & names->mask) {
        if (names->hashes[slot] != hash) continue;
        gm_str other = name_of(table, names->slots[slot] - 1);
        if (other.n == name.n && memcmp(other.data, name.data, name.n) == 0) break;
    }
    return slot;
}

int gm_names_build(gm_mem *mem, gm_names *names, const void *table, uint32_t n, gm_name_of name_of, uint32_t *twin)
{
    uint32_t n_slots = 4;
    while (n_slots < 2 * (uint64_t)n) n_slots *= 2;
    names->slots = gm_new_array(mem, n_slots, sizeof *names->slots, GEMMA_TAG_FILE);
    names->hashes = gm_new_array(mem, n_slots, sizeof *names->hashes, GEMMA_TAG_FILE);
    if (!names->slots || !names->hashes) return GEMMA_E_NOMEM;
    names->mask = n_slots - 1;

    *twin = GM_NAMES_NONE;
    for (uint32_t i = 0; i < n; i++) {
        gm_str name = name_of(table, i);
        uint32_t hash = hash_of(name), slot = slot_of(names, table, name_of, name, hash);
        if (names->slots[slot]) {
            *twin = i;
            break;
        }
        names->slots[slot] = i + 1;
        names->hashes[slot] = hash;
    }
    return GEMMA_OK;
}

uint32_t gm_names_find(const gm_names *names, const void *table, gm_name_of name_of, gm_str name)
{
    return names->slots[slot_of(names, table, name_of, name, hash_of(name))] - 1; /* a free slot: NONE */
}

void gm_names_finish(gm_mem *mem, gm_names *names)
{
    gm_delete(mem, names->slots);
    gm_delete(mem, names->hashes);
    *names = (gm_names){ 0 };
}
