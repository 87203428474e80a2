#include "sampler/state.h"

static bool is_finite(float f) { return (gm_f32_bits(f) & 0x7f800000u) != 0x7f800000u; }

static int check_options(const gemma_sampler_options *o, gemma_error *error)
{
    const struct {
        const char *name;
        float value, least, most;
    } fields[] = {
        { "temperature", o->temperature, 0, 3.4e38f },
        { "top_p", o->top_p, 0, 3.4e38f },
        { "min_p", o->min_p, 0, 1 },
        { "repetition", o->repetition, 0, 3.4e38f },
        { "frequency", o->frequency, -1e6f, 1e6f },
        { "presence", o->presence, -1e6f, 1e6f },
    };
    for (size_t i = 0; i < GM_COUNT(fields); i++) {
        const char *name = fields[i].name;
        float value = fields[i].value;
        if (!is_finite(value)) return gm_fail(error, GEMMA_E_ARG, "sampler: %s is not a finite number", name);
        if (value < fields[i].least)
            return gm_fail(error, GEMMA_E_ARG, "sampler: %s is %.3f, less than %.0f", name, (double)value,
                           (double)fields[i].least);
        if (value > fields[i].most)
            return gm_fail(error, GEMMA_E_ARG, "sampler: %s is %.3f, more than %.0f", name, (double)value,
                           (double)fields[i].most);
    }
    if (o->penalty_last > GM_PENALTY_LAST_MAX)
        return gm_fail(error, GEMMA_E_ARG, "sampler: penalty_last is %u, more than %d", o->penalty_last,
                       GM_PENALTY_LAST_MAX);
    if (o->reserved) return gm_fail(error, GEMMA_E_VERSION, "sampler: reserved is %u, not 0", o->reserved);
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
        s->tallies = gm_new_array(mem, o.penalty_last, sizeof *s->tallies, GEMMA_TAG_OBJECT);
        if (!s->ring || !s->tallies) {
            gm_sampler_destroy(s);
            return gm_fail_nomem(error, "a sampler's penalties",
                                 o.penalty_last * (sizeof *s->ring + sizeof *s->tallies));
        }
    }
    gm_sampler_reset(s);
    *out = s;
    return GEMMA_OK;
}

void gm_sampler_destroy(gm_sampler *s)
{
    if (!s) return;
    gm_delete(s->mem, s->entries);
    gm_delete(s->mem, s->tallies);
    gm_delete(s->mem, s->ring);
    gm_delete(s->mem, s->biases);
    gm_delete(s->mem, s);
}

/* Index of the first bias whose id is not below `id`. */
static uint32_t bias_place(const gm_sampler *s, int32_t id)
{
    uint32_t low = 0, high = s->n_biases;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->biases[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int bias_insert(gm_sampler *s, uint32_t at, id_bias bias)
{
    if (s->n_biases == GM_BIAS_MAX) return GEMMA_E_SMALL;
    if (s->n_biases == s->biases_cap) {
        uint32_t cap = s->biases_cap ? s->biases_cap * 2 : 16;
        id_bias *grown = gm_grow(s->mem, s->biases, cap * sizeof *grown, GEMMA_TAG_OBJECT);
        if (!grown) return GEMMA_E_NOMEM;
        s->biases = grown;
        s->biases_cap = cap;
    }
    memmove(s->biases + at + 1, s->biases + at, (s->n_biases - at) * sizeof *s->biases);
    s->biases[at] = bias;
    s->n_biases++;
    return GEMMA_OK;
}

int gm_sampler_bias(gm_sampler *s, int32_t id, float bias)
{
    if (id < 0 || (!is_finite(bias) && !(bias < 0))) return GEMMA_E_ARG;
    uint32_t at = bias_place(s, id);
    bool there = at < s->n_biases && s->biases[at].id == id;
    if (there && bias == 0) {
        s->n_biases--;
        memmove(s->biases + at, s->biases + at + 1, (s->n_biases - at) * sizeof *s->biases);
    } else if (there) {
        s->biases[at].bias = bias;
    } else if (bias != 0) {
        return bias_insert(s, at, (id_bias){ id, bias });
    }
    return GEMMA_OK;
}

bool gm_sampler_needs_row(const gm_sampler *s)
{
    const gemma_sampler_options *o = &s->options;
    if (s->n_biases || s->penalties) return true;
    return o->temperature > 0 && (o->top_k == 0 || o->top_k > GM_CANDIDATES);
}

int gm_sampler_reserve(gm_sampler *s, uint32_t n_vocab)
{
    uint32_t n = gm_max_u32(n_vocab, GM_CANDIDATES);
    if (n <= s->n_entries) return GEMMA_OK;
    entry *entries = gm_new_array(s->mem, n, sizeof *entries, GEMMA_TAG_OBJECT);
    if (!entries) return GEMMA_E_NOMEM;
    gm_delete(s->mem, s->entries);
    s->entries = entries;
    s->n_entries = n;
    return GEMMA_OK;
}

/* Index of the first tally whose id is not below `id`. */
static uint32_t tally_place(const gm_sampler *s, int32_t id)
{
    uint32_t low = 0, high = s->n_tallies;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->tallies[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void tally_add(gm_sampler *s, int32_t id)
{
    uint32_t at = tally_place(s, id);
    if (at < s->n_tallies && s->tallies[at].id == id) {
        s->tallies[at].count++;
        return;
    }
    memmove(s->tallies + at + 1, s->tallies + at, (s->n_tallies - at) * sizeof *s->tallies);
    s->tallies[at] = (id_tally){ id, 1 };
    s->n_tallies++;
}

static void tally_drop(gm_sampler *s, int32_t id)
{
    uint32_t at = tally_place(s, id);
    if (--s->tallies[at].count) return;
    s->n_tallies--;
    memmove(s->tallies + at, s->tallies + at + 1, (s->n_tallies - at) * sizeof *s->tallies);
}

void gm_sampler_accept(gm_sampler *s, int32_t id)
{
    if (!s->penalties || id < 0) return;
    uint32_t cap = s->options.penalty_last;
    if (s->n_ring == cap)
        tally_drop(s, s->ring[s->ring_next]);
    else
        s->n_ring++;
    s->ring[s->ring_next] = id;
    s->ring_next = (s->ring_next + 1) % cap;
    tally_add(s, id);
}

void gm_sampler_reset(gm_sampler *s)
{
    s->n_ring = s->ring_next = s->n_tallies = 0;
    gm_rng_seed(&s->rng, s->options.seed);
}
