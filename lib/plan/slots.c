/* Where activations lie: slots alive at the same time lie apart, others may share bytes. */
#include "plan/layout.h"

typedef struct lives {
    const gm_program *p;
    uint32_t max_rows;
    uint32_t *first, *last; /* op that names the slot; first > last: none does */
    uint32_t *order;        /* slots by size, largest first */
    uint32_t *placed;       /* slots by offset */
} lives;

static uint64_t slot_bytes(const lives *l, uint32_t slot)
{
    if (l->first[slot] > l->last[slot]) return 0;
    return gm_align_up((uint64_t)l->p->slots[slot].width * sizeof(float) * l->max_rows, GM_PLACE_ALIGN);
}

static void touch(const lives *l, uint16_t slot, uint32_t op)
{
    if (slot == GM_NONE) return;
    l->first[slot] = gm_min_u32(l->first[slot], op);
    l->last[slot] = op;
}

static void find_lives(const lives *l)
{
    for (uint32_t i = 0; i < l->p->n_slots; i++) {
        l->first[i] = UINT32_MAX;
        l->last[i] = 0;
    }
    for (uint32_t i = 0; i < l->p->n_ops; i++) {
        const gm_op *op = &l->p->ops[i];
        for (size_t j = 0; j < GM_COUNT(op->in); j++) touch(l, op->in[j], i);
        for (size_t j = 0; j < GM_COUNT(op->out); j++) touch(l, op->out[j], i);
    }
}

/* Stable, so that equal programs get equal offsets. Sizes repeat from layer to layer: few moves. */
static void sort_by_size(const lives *l)
{
    for (uint32_t i = 0; i < l->p->n_slots; i++) {
        uint64_t n_bytes = slot_bytes(l, i);
        uint32_t at = i;
        for (; at > 0 && slot_bytes(l, l->order[at - 1]) < n_bytes; at--) l->order[at] = l->order[at - 1];
        l->order[at] = i;
    }
}

/* The lowest gap between placed slots that live when this one does. */
static uint64_t lowest_gap(const lives *l, uint32_t slot, uint32_t n_placed, const uint64_t *offset)
{
    uint64_t at = 0, n_bytes = slot_bytes(l, slot);
    for (uint32_t i = 0; i < n_placed; i++) {
        uint32_t other = l->placed[i];
        if (l->last[other] < l->first[slot] || l->last[slot] < l->first[other]) continue;
        if (offset[other] >= at + n_bytes) break; /* and so are all behind it */
        at = gm_max_u64(at, offset[other] + slot_bytes(l, other));
    }
    return at;
}

static uint64_t find_peak(const lives *l)
{
    uint64_t peak = 0;
    for (uint32_t i = 0; i < l->p->n_ops; i++) {
        uint64_t alive = 0;
        for (uint32_t s = 0; s < l->p->n_slots; s++)
            if (l->first[s] <= i && i <= l->last[s]) alive += slot_bytes(l, s);
        peak = gm_max_u64(peak, alive);
    }
    return peak;
}

uint64_t gm_plan_slots(const gm_program *program, uint32_t max_rows, uint64_t *slot_offset, uint32_t *work,
                       uint64_t *peak_bytes)
{
    uint32_t n = program->n_slots;
    lives l = { program, max_rows, work, work + n, work + 2 * (size_t)n, work + 3 * (size_t)n };
    uint64_t total = 0;
    find_lives(&l);
    sort_by_size(&l);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = l.order[i], at = i;
        slot_offset[slot] = lowest_gap(&l, slot, i, slot_offset);
        total = gm_max_u64(total, slot_offset[slot] + slot_bytes(&l, slot));
        for (; at > 0 && slot_offset[l.placed[at - 1]] > slot_offset[slot]; at--) l.placed[at] = l.placed[at - 1];
        l.placed[at] = slot;
    }
    if (peak_bytes) *peak_bytes = find_peak(&l);
    return total;
}
