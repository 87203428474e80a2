#include "weights/weights.h"

#define SLOW      0.35 /* of what is expected: a card reads its own memory many times as fast as the host's */
#define TIMED_MIN ((uint64_t)1 << 16) /* of smaller blocks only the submit would be timed */
#define COSTS_NS  ((uint64_t)1000000) /* less than this longer is not worth telling, and may be noise */
#define TRIES     10
#define TRIED_NS  ((uint64_t)50000000) /* for so long blocks are tried more than twice */

typedef struct timed {     /* one block */
    uint32_t block, index; /* of the plan; of the device's reader */
    uint64_t ns, expected_ns;
} timed;

struct gm_proof {
    gm_mem *mem;
    const gm_plan *plan;
    gm_reader **readers; /* [devices.n]; NULL: cannot, or has nothing to read */
    timed *blocks;
    uint32_t n_blocks;
    gm_buffer **list; /* of one device, while readers are made */
};

static gm_backend *backend_of(const gm_proof *p, uint32_t share) { return p->plan->devices.backends[share]; }

void gm_proof_destroy(gm_proof *p)
{
    if (!p) return;
    for (uint32_t i = 0; p->readers && i < p->plan->devices.n; i++)
        if (p->readers[i]) backend_of(p, i)->fns->reader_destroy(p->readers[i]);
    gm_delete(p->mem, p->readers);
    gm_delete(p->mem, p->blocks);
    gm_delete(p->mem, p->list);
    gm_delete(p->mem, p);
}

static bool is_timed(const gm_block *b)
{
    return (b->tag == GEMMA_TAG_WEIGHTS || b->tag == GEMMA_TAG_KV) && b->n_bytes >= TIMED_MIN;
}

static int create_reader(gm_proof *p, const gm_resident *r, uint32_t share, gemma_error *error)
{
    gm_backend *be = backend_of(p, share);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->plan->n_blocks; i++) {
        if (p->plan->blocks[i].share != share || !is_timed(&p->plan->blocks[i])) continue;
        p->blocks[p->n_blocks++] = (timed){ .block = i, .index = n };
        p->list[n++] = r->buffers[i];
    }
    return n ? be->fns->reader_create(be, p->list, n, r->shares[share].scratch, &p->readers[share], error) : GEMMA_OK;
}

static double rate(const gm_proof *p, const timed *t, uint64_t ns)
{
    return (double)p->plan->blocks[t->block].n_bytes / (double)gm_max_u64(ns, 1);
}

static bool is_slow(const timed *t)
{
    return (double)t->ns * SLOW > (double)t->expected_ns && t->ns > t->expected_ns + COSTS_NS;
}

static int time_block(gm_proof *p, timed *t, gemma_error *error)
{
    uint32_t share = p->plan->blocks[t->block].share;
    uint64_t ns, all = 0;
    t->ns = UINT64_MAX;
    for (int i = 0; i < 2 || (i < TRIES && all < TRIED_NS); i++) { /* once where it is as fast as ever */
        int rc = backend_of(p, share)->fns->reader_time(p->readers[share], t->index, &ns, error);
        if (rc) return rc;
        t->ns = gm_min_u64(t->ns, ns);
        all += ns;
        if (t->expected_ns && !is_slow(t)) break;
    }
    return GEMMA_OK;
}

/* The rate that half of the blocks of the device reach. */
static double median(const gm_proof *p, uint32_t share)
{
    double best = 0;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        if (p->plan->blocks[p->blocks[i].block].share != share) continue;
        double r = rate(p, &p->blocks[i], p->blocks[i].ns);
        uint32_t as_fast = 0, n = 0;
        for (uint32_t k = 0; k < p->n_blocks; k++) {
            if (p->plan->blocks[p->blocks[k].block].share != share) continue;
            n++;
            as_fast += rate(p, &p->blocks[k], p->blocks[k].ns) >= r;
        }
        if (2 * as_fast >= n) best = gm_max_f64(best, r);
    }
    return best;
}

/* Against what is expected of each; the slowest is the one that costs most. */
static void judge(const gm_proof *p, gm_proof_result *result)
{
    double worst = -1e300;
    *result = (gm_proof_result){ .n_read = p->n_blocks };
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        const timed *t = &p->blocks[i];
        const gm_block *b = &p->plan->blocks[t->block];
        double longer = (double)t->ns - (double)t->expected_ns;
        if (is_slow(t)) result->slow_bytes += b->n_bytes;
        if (longer <= worst) continue;
        worst = longer;
        result->share = b->share;
        result->heap = b->heap;
        result->slowest_gb_s = rate(p, t, t->ns);
        result->expected_gb_s = rate(p, t, t->expected_ns);
        result->median_gb_s = median(p, b->share);
    }
}

int gm_proof_again(gm_proof *p, gm_proof_result *result, gemma_error *error)
{
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->n_blocks && !rc; i++) rc = time_block(p, &p->blocks[i], error);
    if (!rc) judge(p, result);
    return rc;
}

/* Of the first reading what the device's probe measured is expected, and of each block what half of them reach. Later
 * ones are held against the first, or against that where the first was slow. */
static int first_reading(gm_proof *p, gm_proof_result *result, gemma_error *error)
{
    int rc = GEMMA_OK;
    for (uint32_t i = 0; i < p->n_blocks && !rc; i++) rc = time_block(p, &p->blocks[i], error);
    if (rc) return rc;
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        timed *t = &p->blocks[i];
        const gm_block *b = &p->plan->blocks[t->block];
        double usual = gm_max_f64(median(p, b->share), p->plan->settings.probes[b->share].read_gb_s);
        t->expected_ns = gm_max_u64(1, (uint64_t)((double)b->n_bytes / usual));
    }
    judge(p, result);
    for (uint32_t i = 0; i < p->n_blocks; i++)
        if (!is_slow(&p->blocks[i])) p->blocks[i].expected_ns = p->blocks[i].ns;
    return GEMMA_OK;
}

int gm_proof_create(const gm_plan *plan, const gm_resident *r, gm_proof **out, gm_proof_result *result,
                    gemma_error *error)
{
    *out = NULL;
    *result = (gm_proof_result){ 0 };
    gm_proof *p = gm_new(plan->mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return gm_fail_nomem(error, "the proof of a load", sizeof *p);
    p->mem = plan->mem;
    p->plan = plan;
    p->readers = gm_new_array(p->mem, plan->devices.n, sizeof(gm_reader *), GEMMA_TAG_OBJECT);
    p->blocks = gm_new_array(p->mem, plan->n_blocks, sizeof *p->blocks, GEMMA_TAG_OBJECT);
    p->list = gm_new_array(p->mem, plan->n_blocks, sizeof(gm_buffer *), GEMMA_TAG_OBJECT);
    int rc = p->readers && p->blocks && p->list
                 ? GEMMA_OK
                 : gm_fail_nomem(error, "the proof of a load", plan->n_blocks * sizeof *p->blocks);
    for (uint32_t i = 0; i < plan->devices.n && !rc; i++)
        if (gm_share_used(&plan->shares[i]) && plan->devices.backends[i]->fns->reader_create)
            rc = create_reader(p, r, i, error);
    if (!rc) rc = first_reading(p, result, error);
    if (rc) {
        gm_proof_destroy(p);
        return rc;
    }
    *out = p;
    return GEMMA_OK;
}
