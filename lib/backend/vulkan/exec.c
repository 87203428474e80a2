/* Running a step: its pieces are submitted two at a time, so that the device is never idle and a cancel is soon heard. */
#include "backend/vulkan/exec.h"

#define AHEAD 2 /* pieces on the device at once */

static bool is_raised(const gm_exec *x)
{
    return x->cancel && atomic_load_explicit(&x->cancel->raised, memory_order_relaxed);
}

static bool wants_hidden(const gm_step_block *b)
{
    for (uint32_t i = 0; i < b->n_wanted; i++)
        if (b->want[i] & GEMMA_WANT_HIDDEN) return true;
    return false;
}

/* The next piece; the page copies go with the first one, and alone where the step is cancelled already. */
static int submit_piece(gm_exec *x, bool copies, gemma_error *error)
{
    VkCommandBuffer commands[2];
    uint32_t n = 0;
    if (copies) commands[n++] = x->copies;
    if (!x->cancelled) commands[n++] = x->running->pieces[x->n_submitted];
    int rc = n ? gm_vk_submit(x->vk, commands, n, &x->values[x->n_submitted], error) : GEMMA_OK;
    if (!rc && n) x->n_submitted++;
    x->n_submits += n > 0;
    return rc;
}

int gm_vk_exec_submit(gm_exec *x, const gemma_cancel *cancel, gemma_error *error)
{
    gm_step_block *b = x->block;
    if (b->n_rows > x->max_rows)
        return gm_fail(error, GEMMA_E_INTERNAL, "a step of %u rows for a program of %u", b->n_rows, x->max_rows);
    int rc = gm_step_block_check(b, &x->limits, error);
    if (!rc && atomic_load(&x->vk->lost)) rc = gm_vk_check(x->vk, VK_ERROR_DEVICE_LOST, "a step", error);
    if (!rc) rc = gm_vk_recording_get(x, b->n_rows, b->n_wanted, wants_hidden(b), &x->running, error);
    if (!rc && b->n_copies) rc = gm_vk_record_copies(x, error);
    if (rc) return rc;
    b->counts[0] = b->n_rows;
    b->counts[1] = b->n_wanted;
    x->cancel = cancel;
    x->cancelled = is_raised(x);
    x->n_submitted = x->n_done = x->n_submits = 0;
    x->n_dispatches = x->running->n_dispatches;
    x->begun_ns = gm_now_ns();
    rc = submit_piece(x, b->n_copies != 0, error);
    while (!rc && !x->cancelled && x->n_submitted < gm_min_u32(AHEAD, x->running->n_pieces))
        rc = submit_piece(x, false, error);
    return rc;
}

/* How fast the device multiplies, from a whole step: what pieces are cut by. A software driver compiles kernels when they
 * are first run, which would make it seem slow. */
static void learn(gm_exec *x)
{
    uint64_t work = 0, ms = (gm_now_ns() - x->begun_ns) / 1000000;
    for (uint32_t i = 0; i < x->running->n_pieces; i++) work += x->running->piece_work[i];
    if (ms >= 20 && x->running->has_run) x->vk->work_per_ms = gm_max_u64(1, work / ms);
    x->running->has_run = true;
}

int gm_vk_exec_wait(gm_exec *x, uint64_t timeout_ns, gemma_error *error)
{
    uint64_t begun = gm_now_ns();
    while (x->n_done < x->n_submitted) {
        uint64_t passed = gm_now_ns() - begun;
        uint64_t left = timeout_ns == UINT64_MAX ? UINT64_MAX : timeout_ns - gm_min_u64(passed, timeout_ns);
        int rc = gm_vk_wait(x->vk, x->values[x->n_done], left, error);
        if (rc) return rc;
        x->n_done++;
        bool more = x->n_submitted < x->running->n_pieces;
        if (more && is_raised(x)) x->cancelled = true;
        if (more && !x->cancelled) rc = submit_piece(x, false, error);
        if (rc) return rc;
    }
    x->cancel = NULL;
    if (x->cancelled) return gm_fail(error, GEMMA_E_CANCELLED, "the step was cancelled");
    learn(x);
    return GEMMA_OK;
}

void gm_vk_exec_counts(const gm_exec *x, uint32_t *n_dispatches, uint32_t *n_submits)
{
    *n_dispatches = x->n_dispatches;
    *n_submits = x->n_submits;
}
