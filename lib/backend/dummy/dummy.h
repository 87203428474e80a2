/* backend/dummy: a device without kernels, for the tests of what stands above backends. Buffers are host memory,
 * calls are recorded, the nth can be made to fail, and a step writes results that follow from tokens alone. */
#ifndef GM_DUMMY_H
#define GM_DUMMY_H

#include "backend/backend.h"

typedef enum gm_dummy_call {
    GM_DUMMY_BUFFER_CREATE,
    GM_DUMMY_BUFFER_DESTROY,
    GM_DUMMY_WRITE,
    GM_DUMMY_READ,
    GM_DUMMY_COMPILE,
    GM_DUMMY_EXEC_DESTROY,
    GM_DUMMY_SUBMIT,
    GM_DUMMY_WAIT,
    GM_DUMMY_PROBE,
    GM_DUMMY_CALLS
} gm_dummy_call;

#define GM_DUMMY_LOG   256
#define GM_DUMMY_HEAPS 4

typedef struct gm_dummy_entry {
    gm_dummy_call call;
    uint32_t heap, tag;                  /* BUFFER_… */
    uint64_t n_bytes;                    /* BUFFER_…, WRITE, READ */
    uint32_t n_rows, n_wanted, n_copies; /* SUBMIT */
    int result;
} gm_dummy_entry;

typedef struct gm_dummy_options {
    uint32_t n_heaps; /* 1 … GM_DUMMY_HEAPS */
    gm_heap_state heaps[GM_DUMMY_HEAPS];
    uint32_t default_kv; /* GEMMA_TYPE_…; 0: F16 */
    bool can_map;
    uint64_t workspace_bytes; /* what every program is said to need */
} gm_dummy_options;

/* options NULL: one heap "RAM" of 1 GiB. */
int gm_dummy_create(gm_mem *mem, const gm_dummy_options *options, gm_backend **out, gemma_error *error);

/* The nth call from now that can fail (1: the next) fails with `code` (for submit, the wait reports it, as a device
 * does); 0 = none. `which` GM_DUMMY_CALLS counts calls of every sort. */
void gm_dummy_fail(gm_backend *be, gm_dummy_call which, uint32_t nth, int code);
/* The next n waits with a timeout time out. */
void gm_dummy_delay(gm_backend *be, uint32_t n);
void gm_dummy_set_budget(gm_backend *be, uint32_t heap, uint64_t budget_bytes);
/* A phrase every op is refused with; NULL: none is. */
void gm_dummy_refuse(gm_backend *be, const char *why);

/* Ops of this kind (0: of any) have no kernel for weights of this type; of one type at a time, GM_TYPE_LIMIT: of none. */
void gm_dummy_lack(gm_backend *be, uint32_t op_kind, gm_type type);

uint32_t gm_dummy_count(const gm_backend *be, gm_dummy_call call);
/* The ith call ever made, as long as it is among the last GM_DUMMY_LOG; NULL otherwise. */
const gm_dummy_entry *gm_dummy_entry_at(const gm_backend *be, uint32_t i);
uint32_t gm_dummy_n_entries(const gm_backend *be);
uint64_t gm_dummy_held(const gm_backend *be, uint32_t heap); /* bytes of live buffers */

/* What a step does: each row's token is written to the first four bytes of its line of every K (page table and all, as
 * a real step would), and a wanted row predicts best(token) = (7 token + 1) mod n_vocab with logit 10; the id k further
 * on, modulo n_vocab, has logit 10 - k / 4. hidden[0] = token, hidden[1] = gm_dummy_history mod 65536, rest 0. */
int32_t gm_dummy_best(int32_t token, uint32_t n_vocab);
float gm_dummy_logit(int32_t token, int32_t id, uint32_t n_vocab);
/* Σ token[p] × (p + 1) over the n first positions; hidden[1] takes them from the pages of the first global KV. */
uint64_t gm_dummy_history(const int32_t *tokens, size_t n);

#endif
