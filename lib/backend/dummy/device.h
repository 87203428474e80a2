/* The dummy device's own fields. */
#ifndef GM_DUMMY_DEVICE_H
#define GM_DUMMY_DEVICE_H

#include "backend/dummy/dummy.h"

typedef struct gm_dummy {
    gm_backend base;
    gm_dummy_options options;
    uint64_t held[GM_DUMMY_HEAPS];
    gm_dummy_entry log[GM_DUMMY_LOG]; /* a ring */
    uint32_t n_entries;
    uint32_t counts[GM_DUMMY_CALLS];
    gm_dummy_call fail_call;
    uint32_t fail_nth;
    int fail_code;
    uint32_t delay;
    const char *refusal;
    uint32_t lacked_by; /* gm_op_kind; 0: any */
    gm_type lacked_type;
} gm_dummy;

static inline gm_dummy *gm_dummy_of(gm_backend *be) { return (gm_dummy *)be; }
static inline const gm_dummy *gm_dummy_of_const(const gm_backend *be) { return (const gm_dummy *)be; }

/* Writes a call down and returns what it shall return: OK, or the failure it was told to be. */
int gm_dummy_record(gm_dummy *d, gm_dummy_entry entry);
int gm_dummy_attempt(gm_dummy *d, gm_dummy_entry entry, gemma_error *error); /* the same, with a sentence */

int gm_dummy_compile(gm_backend *be, const gm_exec_desc *desc, gm_exec **out, gemma_error *error);
void gm_dummy_exec_destroy(gm_exec *exec);
int gm_dummy_submit(gm_exec *exec, const gemma_cancel *cancel, gemma_error *error);
int gm_dummy_wait(gm_exec *exec, uint64_t timeout_ns, gemma_error *error);
void gm_dummy_counts(const gm_exec *exec, uint32_t *n_dispatches, uint32_t *n_submits);

#endif
