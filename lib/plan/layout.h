/* layout: one plan, laid out and billed, fitting or not. Private to plan. */
#ifndef GM_LAYOUT_H
#define GM_LAYOUT_H

#include "plan/plan.h"

#define GM_PLACE_ALIGN 64 /* of tensors, slots and parts of a block */

/* The plan for exactly these settings, without advice. Errors: NOMEM, ARG (the placement hook), UNSUPPORTED. */
int gm_layout_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, const gm_devices *devices,
                     const gm_settings *settings, gm_plan **out, gemma_error *error);

/* What plans are made from. */
typedef struct gm_maker {
    gm_mem *mem;
    const gm_gguf *gguf;
    const gm_model *model;
    const gm_devices *devices;
    gemma_error *error;
} gm_maker;

/* ---- plan.c ---- */
/* *out is the plan for s if it fits, else NULL. What a device lacks, a KV type say, counts as not fitting. */
int gm_plan_try(const gm_maker *k, gm_settings s, gm_plan **out);
/* The largest context from s.min_ctx up to below s.ctx, in whole pages, that fits; *out NULL: none does. */
int gm_plan_try_ctx(const gm_maker *k, gm_settings s, gm_plan **out);
/* The next smaller KV type for both kinds; false: there is none. */
bool gm_settings_smaller_kv(gm_settings *s);
/* ---- split.c ---- */
/* The fastest split that fits; *out NULL: none does, or there is one device. */
int gm_plan_split(const gm_maker *k, gm_settings s, gm_plan **out);
/* ---- advice.c ---- */
/* Fills the advice of a plan that does not fit in. */
int gm_plan_advise(const gm_maker *k, gm_plan *plan);
/* ---- held.c ---- */
/* plan->shapes as the program's ops can take them on a device. */
void gm_layout_hold(const gm_plan *plan, const gm_program *program, const gm_backend *backend);
/* Counts what is converted and says so in plan->warning, once weights have places. */
void gm_layout_warn(gm_plan *plan);
/* ---- homes.c ---- */
/* share[n_weights] and homes[n_weights] (GEMMA_HOME_…). Asks the hook once per group of (class, layer). */
int gm_layout_homes(gm_plan *plan, const gm_gguf *gguf, uint8_t *share, uint8_t *homes, gemma_error *error);
/* Asks the hook where an owning layer's KV goes; *share is proposed and becomes what it says. */
int gm_layout_ask_kv(gm_plan *plan, uint32_t kv, uint64_t n_bytes, uint64_t read_per_token, uint8_t *share,
                     gemma_error *error);
/* Tells the hook about memory that can only be where it is. */
int gm_layout_ask(gm_plan *plan, uint32_t share, uint32_t bytes_class, uint64_t n_bytes, gemma_error *error);
/* ---- cuts.c ---- */
/* The share that runs an op; `before`: that of the op in front of it. */
uint32_t gm_layout_share_of(const gm_plan *plan, const gm_op *op, const uint8_t *weight_share, uint32_t before);
/* The shares' programs and the cuts of plan->programs[which], from weight_share[n_weights] and plan->kv_share. */
int gm_layout_cut(gm_plan *plan, gm_which which, const uint8_t *weight_share, gemma_error *error);
void gm_cuts_clear(gm_mem *mem, gm_cuts *cuts);
/* ---- predict.c ---- */
/* K and V that one token more reads in a layer when the context is full. */
uint64_t gm_layout_full_read(const gm_plan *plan, uint32_t kv);

/* Changed settings, with what depends on them brought in line. */
void gm_settings_limit(gm_settings *s);
const gm_format *gm_settings_format(uint32_t type); /* of GEMMA_TYPE_… */

#endif
