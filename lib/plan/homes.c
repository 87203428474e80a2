/* Who lies where: the proposed home, and the host's placement hook. */
#include "plan/layout.h"

#define CANDIDATES_MAX (2 * GM_SHARES_MAX)

typedef struct choice {
    uint8_t share, home;
} choice;

struct gemma_candidates {
    const gm_plan *plan;
    uint32_t n;
    choice of[CANDIDATES_MAX];
};

typedef struct group { /* weights of one class and layer */
    gemma_placement want;
    struct gemma_candidates candidates;
    bool mappable; /* all of it can be used in the mapped file, by a device that can */
    bool by_row;   /* a table that is only read row by row; one per plan */
} group;

static const char *const class_names[GEMMA_CLASS_COUNT] = {
    [GEMMA_CLASS_EMBEDDING] = "embedding", [GEMMA_CLASS_PLE] = "per-layer embedding",
    [GEMMA_CLASS_ATTENTION] = "attention", [GEMMA_CLASS_FFN] = "ffn",
    [GEMMA_CLASS_EXPERTS] = "experts",     [GEMMA_CLASS_HEAD] = "head",
    [GEMMA_CLASS_NORMS] = "norms",         [GEMMA_CLASS_KV_SLIDING] = "kv sliding",
    [GEMMA_CLASS_KV_GLOBAL] = "kv global", [GEMMA_CLASS_MARKS] = "marks",
    [GEMMA_CLASS_SCRATCH] = "scratch",     [GEMMA_CLASS_STAGING] = "staging",
    [GEMMA_CLASS_DRIVER] = "driver",
};

const char *gm_class_name(uint32_t bytes_class)
{
    return bytes_class < GEMMA_CLASS_COUNT ? class_names[bytes_class] : "unknown class";
}

/* ---- asking ---- */

static void offer(struct gemma_candidates *c, uint32_t share, uint32_t home)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->of[i].share == share && c->of[i].home == home) return;
    if (c->n < CANDIDATES_MAX) c->of[c->n++] = (choice){ (uint8_t)share, (uint8_t)home };
}

static int ask(const gm_plan *plan, gemma_placement *want, const struct gemma_candidates *candidates, choice *chosen,
               gemma_error *error)
{
    const gm_settings *s = &plan->settings;
    want->size = sizeof *want;
    want->n_candidates = candidates->n;
    want->candidates = candidates;
    uint32_t answer = s->place ? s->place(s->place_user, want) : 0;
    if (answer >= candidates->n)
        return gm_fail(error, GEMMA_E_ARG,
                       "gemma_plan_options.place answered %u for %s, layer %d, which has %u candidates", answer,
                       gm_class_name(want->bytes_class), (int)want->layer, candidates->n);
    *chosen = candidates->of[answer];
    return GEMMA_OK;
}

int gm_layout_ask(gm_plan *plan, uint32_t share, uint32_t bytes_class, uint64_t n_bytes, gemma_error *error)
{
    struct gemma_candidates candidates = { .plan = plan };
    gemma_placement want = { .bytes_class = bytes_class, .layer = -1, .n_bytes = n_bytes };
    choice chosen = { 0 };
    offer(&candidates, share, GEMMA_HOME_MEMORY);
    return n_bytes ? ask(plan, &want, &candidates, &chosen, error) : GEMMA_OK;
}

int gm_layout_ask_kv(gm_plan *plan, uint32_t kv, uint64_t n_bytes, uint64_t read_per_token, uint8_t *share,
                     gemma_error *error)
{
    struct gemma_candidates candidates = { .plan = plan };
    const gm_kv_layer *l = &plan->model->kv[kv];
    gemma_placement want = { .bytes_class = l->kind == GM_KV_SLIDING ? GEMMA_CLASS_KV_SLIDING : GEMMA_CLASS_KV_GLOBAL,
                             .layer = (int32_t)l->layer,
                             .n_bytes = n_bytes,
                             .read_per_token = read_per_token };
    choice chosen = { .share = *share };
    offer(&candidates, *share, GEMMA_HOME_MEMORY);
    for (uint32_t i = 0; i < plan->devices.n; i++) offer(&candidates, i, GEMMA_HOME_MEMORY);
    int rc = ask(plan, &want, &candidates, &chosen, error);
    *share = chosen.share;
    return rc;
}

int gm_placement_home(const gemma_placement *want, uint32_t index, gemma_home *home)
{
    const struct gemma_candidates *c = want->candidates;
    if (!c || index >= c->n) return GEMMA_E_ARG;
    const gm_plan *p = c->plan;
    uint32_t share = c->of[index].share;
    const gm_backend *be = p->devices.backends[share];
    *home = (gemma_home){ .size = sizeof *home,
                          .kind = c->of[index].home,
                          .device = p->devices.numbers[share],
                          .gb_s = p->settings.probes[share].read_gb_s };
    if (home->kind != GEMMA_HOME_MEMORY) return GEMMA_OK;
    gm_bill_line none = { .share = share, .heap = gm_backend_heap_of(be, GEMMA_TAG_WEIGHTS) };
    const gm_bill_line *line = &none;
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].share == share && p->lines[i].heap == none.heap) line = &p->lines[i];
    uint64_t budget = gm_line_budget(p, line);
    home->heap = none.heap;
    home->free_bytes = budget - gm_min_u64(budget, line->total_bytes);
    return GEMMA_OK;
}

/* ---- weights ---- */

static bool usable_in_place(const gm_gguf *gguf, const gm_weight *w)
{
    enum { FILE_ALIGN = 32 }; /* what GGUF files have; kernels count on no more */
    if (w->made) return false;
    const char *mapped = gm_gguf_mapped(gguf, w->tensor);
    return mapped && (uintptr_t)(mapped + w->offset) % FILE_ALIGN == 0;
}

static bool same_group(const gm_weight *a, const gm_weight *b)
{
    return a->bytes_class == b->bytes_class && a->layer == b->layer;
}

/* A split's second device, or the one that the plan is for. */
static uint32_t proposed_share(const gm_plan *plan, const gemma_placement *want)
{
    const gm_settings *s = &plan->settings;
    bool layer = want->layer >= 0 && (uint32_t)want->layer < s->split_layers;
    bool experts =
        want->bytes_class == GEMMA_CLASS_EXPERTS && want->layer >= 0 && (uint32_t)want->layer < s->split_experts;
    return layer || experts ? s->second : 0;
}

/* The homes a device has for the group: in the file where that is proposed, and else in memory, come first. */
static void offer_device(const gm_plan *plan, group *g, uint32_t share)
{
    bool mapped = g->mappable && plan->devices.backends[share]->can_map, first = plan->settings.mapped;
    if (mapped && first) offer(&g->candidates, share, GEMMA_HOME_MAPPED);
    if (!mapped && g->by_row) offer(&g->candidates, share, GEMMA_HOME_FILE);
    offer(&g->candidates, share, GEMMA_HOME_MEMORY);
    if (mapped) offer(&g->candidates, share, GEMMA_HOME_MAPPED);
}

/* The group that weight `first` opens. */
static void gather(const gm_plan *plan, const gm_gguf *gguf, uint32_t first, group *g)
{
    const gm_weight *w = plan->model->weights;
    *g = (group){ .want = { .bytes_class = w[first].bytes_class, .layer = w[first].layer },
                  .candidates = { .plan = plan },
                  .mappable = true,
                  .by_row = w[first].bytes_class == GEMMA_CLASS_PLE };
    for (uint32_t i = first; i < plan->model->n_weights; i++) {
        if (!same_group(&w[first], &w[i])) continue;
        g->want.n_bytes += gm_plan_held_bytes(plan, i);
        g->want.read_per_token += gm_plan_read_bytes(plan, i);
        g->mappable = g->mappable && !gm_plan_converts(plan, i) && usable_in_place(gguf, &w[i]);
    }
    uint32_t proposed = proposed_share(plan, &g->want);
    bool elsewhere = g->want.bytes_class != GEMMA_CLASS_NORMS;
    offer_device(plan, g, proposed);
    for (uint32_t i = 0; i < plan->devices.n && elsewhere; i++)
        if (i != proposed) offer_device(plan, g, i);
}

int gm_layout_homes(gm_plan *plan, const gm_gguf *gguf, uint8_t *share, uint8_t *homes, gemma_error *error)
{
    const gm_model *m = plan->model;
    for (uint32_t i = 0; i < m->n_weights; i++) {
        const gm_weight *w = m->weights;
        uint32_t before = 0;
        while (before < i && !same_group(&w[before], &w[i])) before++;
        if (before < i) {
            homes[i] = homes[before];
            share[i] = share[before];
            continue;
        }
        group g;
        choice chosen = { 0 };
        gather(plan, gguf, i, &g);
        int rc = ask(plan, &g.want, &g.candidates, &chosen, error);
        if (rc) return rc;
        homes[i] = chosen.home;
        share[i] = chosen.share;
    }
    return GEMMA_OK;
}
