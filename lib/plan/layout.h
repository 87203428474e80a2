/* layout: one plan, laid out and billed, fitting or not. Private to plan. */
#ifndef GM_LAYOUT_H
#define GM_LAYOUT_H

#include "plan/plan.h"

#define GM_PLACE_ALIGN 64 /* of tensors, slots and parts of a block */

/* The plan for exactly these settings, without advice. Errors: NOMEM, ARG (the placement hook), UNSUPPORTED. */
int gm_layout_create(gm_mem *mem, const gm_gguf *gguf, const gm_model *model, gm_backend *backend,
                     const gm_settings *settings, gm_plan **out, gemma_error *error);

/* plan->shapes as the program's ops can take them. */
void gm_layout_hold(const gm_plan *plan, const gm_program *program);
/* Counts what is converted and says so in plan->warning, once weights have places. */
void gm_layout_warn(gm_plan *plan);

/* Where a weight lies: in memory, in place in the mapped file, or in the file with its rows read for each step. */
typedef enum gm_home { GM_HOME_MEMORY = 0, GM_HOME_MAPPED = 1, GM_HOME_ROWS = 2 } gm_home;
/* homes[n_weights]. Asks the hook once per group of (class, layer). */
int gm_layout_homes(const gm_plan *plan, const gm_gguf *gguf, uint8_t *homes, gemma_error *error);
/* Asks the hook about memory that can only be at its proposed home. */
int gm_layout_ask(const gm_plan *plan, uint32_t bytes_class, int32_t layer, uint64_t n_bytes, uint64_t read_per_token,
                  gemma_error *error);

/* Changed settings, with what depends on them brought in line. */
void gm_settings_limit(gm_settings *s);
const gm_format *gm_settings_format(uint32_t type); /* of GEMMA_TYPE_… */

#endif
