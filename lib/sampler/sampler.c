#include "sampler/state.h"

#include <math.h>

static int check_options(const gemma_sampler_options *o, gemma_error *error)
{
    const struct {
        const char *name;
        float value;
        bool may_be_negative;
    } fields[] = {
        { "temperature", o->temperature, false },
        { "top_p", o->top_p, false },
        { "min_p", o->min_p, false },
        { "repetition", o->repetition, false },
        { "frequency", o->frequency, true },
        { "presence", o->presence, true },
    };
    for (size_t i = 0; i < GM_COUNT(fields); i++) {
        const char *name = fields[i].name;
        float value = fields[i].value;
        if (!isfinite(value)) return gm_fail(error, GEMMA_E_ARG, "sampler: %s is not a finite number", name);
        if (value < 0 && !fields[i].may_be_negative)
            return gm_fail(error, GEMMA_E_ARG, "sampler: %s is %.3f, less than 0", name, (double)value);
    }
    if (o->min_p > 1) return gm_fail(error, GEMMA_E_ARG, "sampler: min_p is %.3f, more than 1", (double)o->min_p);
    if (o->penalty_last > GM_PENALTY_LAST_MAX)
        return gm_fail(error, GEMMA_E_ARG, "sampler: penalty_last is %u, more than %d", o->penalty_last,
                       GM_PENALTY_LAST_MAX);
    return GEMMA_OK;
}

int gm_sampler_create(gm_mem *mem, const gemma_sampler_options *options, gm_sampler **out, gemma_error *error)
{
    *out = NULL;
    gemma_sampler_options o = { .size = sizeof o };
    int rc = options ? gm_options_read(&o, sizeof o, options, "gemma_sampler_options", error) : GEMMA_OK;
    if (!rc) rc = check_options(&o, error);
    if (rc) return rc;
    if (o.penalty_last == 0) o.penalty_last = GM_PENALTY_LAST;
    if (o.repetition == 0) o.repetition = 1;

    gm_sampler *s = gm_new(mem, sizeof *s, GEMMA_TAG_OBJECT);
    if (!s) return gm_fail_nomem(error, "a sampler", sizeof *s);
    s->mem = mem;
    s->options = o;
    s->penalties = o.repetition != 1 || o.frequency != 0 || o.presence != 0;
    if (s->penalties) {
        s->ring = gm_new_array(mem, o.penalty_last, sizeof *s->ring, GEMMA_TAG_OBJECT);
        s->tallies.rows = gm_new_array(mem, o.penalty_last, sizeof *s->tallies.rows, GEMMA_TAG_OBJECT);
        if (!s->ring || !s->tallies.rows) {
            gm_sampler_destroy(s);
            return gm_fail_nomem(error, "a sampler's penalties",
                                 o.penalty_last * (sizeof *s->ring + sizeof *s->tallies.rows));
        }
    }
    uint32_t n = gm_max_u32(o.n_vocab, GM_CANDIDATES);
    if (gm_sampler_reserve(s, n)) {
        gm_sampler_destroy(s);
        return gm_fail_nomem(error, "a sampler's candidates", n * sizeof(entry));
    }
    gm_sampler_reset(s);
    *out = s;
    return GEMMA_OK;
}

void gm_sampler_destroy(gm_sampler *s)
{
    if (!s) return;
    gm_delete(s->mem, s->entries);
    gm_delete(s->mem, s->tallies.rows);
    gm_delete(s->mem, s->ring);
    gm_delete(s->mem, s->biases.rows);
    gm_delete(s->mem, s);
}

/* Index of the first row whose id is not below `id`. */
static uint32_t table_place(const id_table *t, int32_t id)
{
    uint32_t low = 0, high = t->n;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (t->rows[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool table_has(const id_table *t, uint32_t at, int32_t id) { return at < t->n && t->rows[at].id == id; }

/* The caller knows that there is room. */
static void table_insert(id_table *t, uint32_t at, id_value row)
{
    memmove(t->rows + at + 1, t->rows + at, (t->n - at) * sizeof *t->rows);
    t->rows[at] = row;
    t->n++;
}

static void table_remove(id_table *t, uint32_t at)
{
    t->n--;
    memmove(t->rows + at, t->rows + at + 1, (t->n - at) * sizeof *t->rows);
}

static int grow_biases(gm_sampler *s)
{
    uint32_t cap = s->biases_cap ? s->biases_cap * 2 : 16;
    id_value *rows = gm_grow(s->mem, s->biases.rows, cap * sizeof *rows, GEMMA_TAG_OBJECT);
    if (!rows) return GEMMA_E_NOMEM;
    s->biases.rows = rows;
    s->biases_cap = cap;
    return GEMMA_OK;
}

int gm_sampler_bias(gm_sampler *s, int32_t id, float bias)
{
    if (id < 0 || isnan(bias) || bias == INFINITY) return GEMMA_E_ARG;
    uint32_t at = table_place(&s->biases, id);
    if (table_has(&s->biases, at, id)) {
        s->biases.rows[at].value = bias;
        if (bias == 0) table_remove(&s->biases, at);
        return GEMMA_OK;
    }
    if (bias == 0) return GEMMA_OK;
    if (s->biases.n == GM_BIAS_MAX) return GEMMA_E_SMALL;
    int rc = s->biases.n == s->biases_cap ? grow_biases(s) : GEMMA_OK;
    if (!rc) table_insert(&s->biases, at, (id_value){ id, bias });
    return rc;
}

bool gm_sampler_needs_row(const gm_sampler *s)
{
    const gemma_sampler_options *o = &s->options;
    if (s->biases.n || s->penalties) return true;
    return o->temperature > 0 && (o->top_k == 0 || o->top_k > GM_CANDIDATES);
}

int gm_sampler_reserve(gm_sampler *s, uint32_t n_vocab)
{
    if (n_vocab <= s->n_entries) return GEMMA_OK;
    entry *entries = gm_new_array(s->mem, n_vocab, sizeof *entries, GEMMA_TAG_OBJECT);
    if (!entries) return GEMMA_E_NOMEM;
    gm_delete(s->mem, s->entries);
    s->entries = entries;
    s->n_entries = n_vocab;
    return GEMMA_OK;
}

static void tally_drop(id_table *tallies, int32_t id)
{
    uint32_t at = table_place(tallies, id);
    tallies->rows[at].value -= 1;
    if (tallies->rows[at].value == 0) table_remove(tallies, at);
}

static void tally_add(id_table *tallies, int32_t id)
{
    uint32_t at = table_place(tallies, id);
    if (table_has(tallies, at, id))
        tallies->rows[at].value += 1;
    else
        table_insert(tallies, at, (id_value){ id, 1 });
}

void gm_sampler_accept(gm_sampler *s, int32_t id)
{
    if (!s->penalties || id < 0) return;
    if (s->n_ring == s->options.penalty_last)
        tally_drop(&s->tallies, s->ring[s->ring_next]);
    else
        s->n_ring++;
    s->ring[s->ring_next] = id;
    s->ring_next = (s->ring_next + 1) % s->options.penalty_last;
    tally_add(&s->tallies, id);
}

void gm_sampler_reset(gm_sampler *s)
{
    s->n_ring = s->ring_next = s->tallies.n = 0;
    gm_rng_seed(&s->rng, s->options.seed);
}
