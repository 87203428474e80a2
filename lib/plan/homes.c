/* Who lies where: the proposed home, and the host's placement hook. */
#include "plan/layout.h"

typedef struct group { /* weights of one class and layer */
    gemma_placement want;
    bool in_place; /* all of it can be used in the mapped file */
    bool by_row;   /* a table that is only read row by row; one per plan */
} group;

static int ask(const gm_plan *plan, const gemma_placement *want, uint32_t *answer, gemma_error *error)
{
    const gm_settings *s = &plan->settings;
    *answer = s->place ? s->place(s->place_user, want) : 0;
    if (*answer < want->n_candidates) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_ARG,
                   "gemma_plan_options.place answered %u for class %u, layer %d, which has %u candidates", *answer,
                   want->bytes_class, (int)want->layer, want->n_candidates);
}

int gm_layout_ask(const gm_plan *plan, uint32_t bytes_class, int32_t layer, uint64_t n_bytes, uint64_t read_per_token,
                  gemma_error *error)
{
    uint32_t answer;
    gemma_placement want = { .size = sizeof want,
                             .bytes_class = bytes_class,
                             .layer = layer,
                             .n_candidates = 1,
                             .n_bytes = n_bytes,
                             .read_per_token = read_per_token };
    return n_bytes ? ask(plan, &want, &answer, error) : GEMMA_OK;
}

static bool usable_in_place(const gm_plan *plan, const gm_gguf *gguf, uint32_t i)
{
    enum { FILE_ALIGN = 32 }; /* what GGUF files have; kernels count on no more */
    const gm_weight *w = &plan->model->weights[i];
    if (!plan->backend->can_map || w->made || gm_plan_converts(plan, i)) return false;
    const char *mapped = gm_gguf_mapped(gguf, w->tensor);
    return mapped && (uintptr_t)(mapped + w->offset) % FILE_ALIGN == 0;
}

static bool same_group(const gm_weight *a, const gm_weight *b)
{
    return a->bytes_class == b->bytes_class && a->layer == b->layer;
}

/* The group that weight `first` opens. */
static group gather(const gm_plan *plan, const gm_gguf *gguf, uint32_t first)
{
    const gm_weight *w = plan->model->weights;
    group g = { .want = { .size = sizeof g.want, .bytes_class = w[first].bytes_class, .layer = w[first].layer },
                .in_place = true,
                .by_row = w[first].bytes_class == GEMMA_CLASS_PLE };
    for (uint32_t i = first; i < plan->model->n_weights; i++) {
        if (!same_group(&w[first], &w[i])) continue;
        g.want.n_bytes += gm_plan_held_bytes(plan, i);
        g.want.read_per_token += gm_plan_read_bytes(plan, i);
        g.in_place = g.in_place && usable_in_place(plan, gguf, i);
    }
    g.want.n_candidates = g.in_place || g.by_row ? 2 : 1;
    return g;
}

/* Candidate 0 is as proposed, candidate 1 the other of file and memory. A table read by row is left in the file. */
static gm_home home_of(const gm_plan *plan, const group *g, uint32_t answer)
{
    bool in_file = plan->settings.mapped || g->by_row;
    if (g->want.n_candidates == 1 || in_file == (answer == 1)) return GM_HOME_MEMORY;
    return g->in_place ? GM_HOME_MAPPED : GM_HOME_ROWS;
}

int gm_layout_homes(const gm_plan *plan, const gm_gguf *gguf, uint8_t *homes, gemma_error *error)
{
    const gm_model *m = plan->model;
    for (uint32_t i = 0; i < m->n_weights; i++) {
        const gm_weight *w = m->weights;
        uint32_t before = 0, answer;
        while (before < i && !same_group(&w[before], &w[i])) before++;
        if (before < i) {
            homes[i] = homes[before];
            continue;
        }
        group g = gather(plan, gguf, i);
        int rc = ask(plan, &g.want, &answer, error);
        if (rc) return rc;
        homes[i] = (uint8_t)home_of(plan, &g, answer);
    }
    return GEMMA_OK;
}
