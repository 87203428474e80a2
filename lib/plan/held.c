/* What weights are held as: the file's format, or Q8_0 where the device has no kernel for that. */
#include "plan/layout.h"

enum { TYPES_BYTES = 72 }; /* with all the rest, less than a warning */

uint64_t gm_plan_held_bytes(const gm_plan *plan, uint32_t w) { return gm_weight_bytes(&plan->shapes[w]); }

uint64_t gm_plan_read_bytes(const gm_plan *plan, uint32_t w)
{
    const gm_weight_shape *as = &plan->shapes[w], *in_file = &plan->model->shapes[w];
    uint64_t n_rows = plan->model->weights[w].read_per_token / gm_row_bytes(in_file->format, in_file->n_in);
    return n_rows * gm_row_bytes(as->format, as->n_in);
}

void gm_layout_hold(const gm_plan *plan, const gm_program *program, const gm_backend *backend)
{
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const gm_op *op = &program->ops[i];
        for (uint32_t j = 0; j < GM_COUNT(op->w); j++) {
            gm_weight_shape *s = op->w[j] < 0 ? NULL : &plan->shapes[op->w[j]];
            bool can = s && s->format->type != GM_F32 && s->format->type != GM_Q8_0 && s->n_in % 32 == 0;
            if (!can || gm_backend_has_kernel(backend, op, j, s)) continue;
            s->format = gm_format_of(GM_Q8_0);
            s->factors = NULL; /* they go into the values */
        }
    }
}

/* Adds a type's name to a list "IQ2_XXS, TQ1_0" unless it is there. */
static void add_type(char list[TYPES_BYTES], const char *name)
{
    size_t length = strlen(list), n = strlen(name);
    for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
        if (at[n] == 0 || at[n] == ',') return;
    gm_text_format(list + length, TYPES_BYTES - length, "%s%s", length ? ", " : "", name);
}

/* The device in whose memory the weight lies; devices.n: it stays in the file. */
static uint32_t share_in_memory(const gm_plan *plan, uint32_t w)
{
    uint32_t i = 0;
    while (i < plan->devices.n && (!plan->shares[i].weights || plan->shares[i].weights[w].block >= GM_BLOCK_NONE)) i++;
    return i;
}

void gm_layout_warn(gm_plan *plan)
{
    char types[TYPES_BYTES] = "", as[24], in_file[24];
    gemma_device_info device = { .size = sizeof device };
    const gm_backend *by = NULL; /* the last to hold one */
    for (uint32_t i = 0; i < plan->model->n_weights; i++) {
        uint32_t share = share_in_memory(plan, i);
        if (!gm_plan_converts(plan, i) || share == plan->devices.n) continue;
        by = plan->devices.backends[share];
        plan->n_converted++;
        plan->converted_bytes += gm_plan_held_bytes(plan, i);
        plan->converted_file_bytes += plan->model->weights[i].n_bytes;
        add_type(types, plan->model->shapes[i].format->name);
    }
    if (!plan->n_converted) return;
    by->fns->describe(by, &device);
    gm_text_format(plan->warning, sizeof plan->warning,
                   "%u weight%s of type %s, for which %.60s has no kernel, %s held as Q8_0: %s instead of %s",
                   plan->n_converted, plan->n_converted == 1 ? "" : "s", types, device.name,
                   plan->n_converted == 1 ? "is" : "are", gm_text_bytes(as, plan->converted_bytes),
                   gm_text_bytes(in_file, plan->converted_file_bytes));
}
