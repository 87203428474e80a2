/* kv: which page holds which positions of which session. Arithmetic on page numbers; the bytes are elsewhere.
 * Not thread-safe: the engine's lock is held around every call. Allocates in create calls only. */
#ifndef GM_KV_H
#define GM_KV_H

#include "op/op.h"

typedef struct gm_kv gm_kv;         /* the pools of a model */
typedef struct gm_kv_seq gm_kv_seq; /* the pages of one session */

typedef struct gm_kv_shape {
    uint32_t n_global;   /* pages of the global pool; 0: the model has no global layer */
    uint32_t n_sliding;  /* pages of the sliding pool; 0: no sliding layer */
    uint32_t ctx;        /* most tokens of a session */
    uint32_t window;     /* positions a sliding layer sees, the query included */
    uint32_t slack;      /* tokens that can be rewound without a mark */
    uint32_t ubatch;     /* most rows of one step */
    uint32_t n_sessions; /* page tables there are */
    uint32_t n_marks;
} gm_kv_shape;

/* Pool sizes by the rule of design: global kv_tokens / 64; sliding n_sessions × (⌈(window + slack) / 64⌉ + 2) +
 * ⌈ubatch / 64⌉; each mark ⌈window / 64⌉ + 1 more. With kv_tokens = n_sessions × 64 × ⌈ctx / 64⌉ (whole pages for each
 * session) n_sessions sessions that were not forked never meet NOPAGES. */
uint32_t gm_kv_global_pages(uint64_t kv_tokens);
uint32_t gm_kv_sliding_pages(uint32_t window, uint32_t slack, uint32_t ubatch, uint32_t n_sessions);
uint32_t gm_kv_mark_pages(uint32_t window); /* of one mark */
/* Entries of a session's page tables. */
uint32_t gm_kv_table_global(const gm_kv_shape *s);
uint32_t gm_kv_table_ring(const gm_kv_shape *s);

int gm_kv_create(gm_mem *mem, const gm_kv_shape *shape, gm_kv **out);
void gm_kv_destroy(gm_kv *kv);
uint32_t gm_kv_free_pages(const gm_kv *kv, gm_kv_kind kind);

/* NOPAGES: every page table is in use. */
int gm_kv_seq_create(gm_kv *kv, gm_kv_seq **out);
void gm_kv_seq_destroy(gm_kv_seq *seq);             /* gives every page back */
uint64_t gm_kv_seq_bytes(const gm_kv_shape *shape); /* host memory of one sequence */
uint32_t gm_kv_seq_table(const gm_kv_seq *seq);     /* index of its page tables */
uint32_t gm_kv_seq_length(const gm_kv_seq *seq);    /* committed positions */

/* Makes room for the n positions behind the committed ones: takes pages, splits shared pages that will be written
 * (each split is appended to copies, at most 2 per call, *n_copies raised). ARG (n > ubatch), FULL (beyond ctx) or
 * NOPAGES: nothing has changed. One prepare at a time: then commit or drop. */
int gm_kv_prepare(gm_kv_seq *seq, uint32_t n, gm_page_copy *copies, uint32_t *n_copies);
/* The first n prepared positions count; pages beyond go back, sliding pages that leave the window too. */
void gm_kv_commit(gm_kv_seq *seq, uint32_t n);
void gm_kv_drop(gm_kv_seq *seq); /* exactly as before prepare; splits are undone, so copies need not have been made */

/* Keeps the global pages of the next n positions for this sequence, so that several prepares in a row meet no NOPAGES.
 * FULL, NOPAGES: nothing has changed. Ends with unreserve. */
int gm_kv_reserve(gm_kv_seq *seq, uint32_t n);
void gm_kv_unreserve(gm_kv_seq *seq);

/* To 0, to a mark, or to where the window's pages are still held: at least the slack below the longest position
 * reached since the sequence last went back to 0 or a mark (not below that). Marks beyond `position` go. REWIND: nothing has changed;
 * *nearest (may be NULL) is the longest position below that can be had. */
int gm_kv_rewind(gm_kv_seq *seq, uint32_t position, uint32_t *nearest);
/* The longest position ≤ `position` that rewind would accept. */
uint32_t gm_kv_reachable(const gm_kv_seq *seq, uint32_t position);
/* First position whose sliding page is held. */
uint32_t gm_kv_window_first(const gm_kv_seq *seq);
/* Pins the window's pages. The sequence's oldest mark goes when all marks are its own; NOPAGES: other sequences hold
 * some. A mark at the same position twice is one. */
int gm_kv_mark(gm_kv_seq *seq);
int gm_kv_unmark(gm_kv_seq *seq, uint32_t position); /* ARG: no mark there */
int gm_kv_fork(gm_kv_seq *seq, gm_kv_seq **out);     /* marks are not inherited */

/* For saving: the committed positions lie in pages number *first … *end - 1 of the kind (none: both 0); page number
 * `index` of them is this page of the pool. */
void gm_kv_held(const gm_kv_seq *seq, gm_kv_kind kind, uint32_t *first, uint32_t *end);
uint32_t gm_kv_page(const gm_kv_seq *seq, gm_kv_kind kind, uint32_t index);
/* For loading: an empty sequence takes pages for `length` positions, whose content the caller brings; sliding pages from
 * number sliding_first on, or as few as the slack needs. Rewinding to 0 gives them back. ARG (not empty; sliding_first
 * is beyond the window), FULL (beyond ctx), NOPAGES: nothing has changed. */
int gm_kv_adopt(gm_kv_seq *seq, uint32_t length, uint32_t sliding_first);

/* Gives `to`, which is empty, sequences like those of `from`: the same positions on pages of its own, shared where they
 * were shared, and as many marks as it has room for. map[kind][old page] becomes the new page, or UINT32_MAX where there
 * is none; arrays as long as `from`'s pools. No prepare is under way. FULL (a sequence is longer than to's ctx), NOPAGES
 * (pages or tables), NOMEM: `from` is as before, `to` is to be abandoned. */
int gm_kv_rehouse(gm_kv *from, gm_kv *to, uint32_t *map[2]);
gm_kv_seq *gm_kv_seq_moved(const gm_kv_seq *seq); /* what became of it in the last rehouse */
bool gm_kv_page_used(const gm_kv *kv, gm_kv_kind kind, uint32_t page);
void gm_kv_abandon(gm_kv *kv); /* destroys it with its sequences */

/* Writes the changed entries of the page tables to `table` (this sequence's line of the step block). */
void gm_kv_sync(gm_kv_seq *seq, uint32_t *table);

#endif
