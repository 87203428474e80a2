/* pages: the private half of kv. A page is held by the tables of sequences, by marks, and by unfinished splits; its
 * count of holders says when it goes back and who may write to it. Both kinds of table are rings over page numbers
 * (position / GM_PAGE); the global one is as long as the context and never wraps. */
#ifndef GM_KV_PAGES_H
#define GM_KV_PAGES_H

#include "kv/kv.h"

#define KINDS   2 /* of gm_kv_kind */
#define NO_PAGE UINT32_MAX

typedef struct pool {
    uint32_t n_pages, n_free;
    uint32_t *free_pages; /* a stack, [n_pages] */
    uint32_t *holders;    /* [n_pages] */
} pool;

/* Sliding pages first … first + n_pages - 1, pinned so that `position` can be rewound to. */
typedef struct mark {
    gm_kv_seq *seq; /* NULL: the record is free */
    uint32_t position, first, n_pages;
    uint32_t *pages; /* [gm_kv_mark_pages] */
} mark;

struct gm_kv {
    gm_mem *mem;
    gm_kv_shape shape;
    pool pools[KINDS];
    gm_kv_seq **seqs; /* [n_sessions] by page table */
    mark *marks;      /* [n_marks] */
    uint32_t *mark_pages;
};

/* One page table: pages first … end - 1 are held. */
typedef struct ring {
    uint32_t size; /* 0: the model has no layer of this kind */
    uint32_t first, end;
    uint32_t split_from; /* page that prepare replaced, kept until commit or drop; or NO_PAGE */
    uint32_t dirty_low, dirty_high;
    uint32_t *entries; /* [size] */
} ring;

struct gm_kv_seq {
    gm_kv *kv;
    uint32_t table;
    uint32_t length;   /* committed positions */
    uint32_t prepared; /* positions behind them */
    uint32_t reserved; /* global pages kept beyond the length */
    gm_kv_seq *moved;  /* by rehouse */
    ring rings[KINDS];
};

static inline uint32_t pages_for(uint32_t n_positions) { return (uint32_t)gm_div_up(n_positions, GM_PAGE); }
static inline uint32_t *entry_of(const ring *r, uint32_t page_index) { return &r->entries[page_index % r->size]; }
/* Lowest position that a query at `position` sees through a window. */
static inline uint32_t window_start(const gm_kv_shape *s, uint32_t position)
{
    return position >= s->window ? position - s->window + 1 : 0;
}

uint32_t gm_kv_take(gm_kv *kv, uint32_t kind); /* a free page, of which there is one */
void gm_kv_hold(gm_kv *kv, uint32_t kind, uint32_t page);
void gm_kv_release(gm_kv *kv, uint32_t kind, uint32_t page);
void gm_kv_set_entry(ring *r, uint32_t page_index, uint32_t page);
/* The first sliding page that a position still to be had can see. */
uint32_t gm_kv_first_seen(const gm_kv_shape *s, uint32_t length);
/* Gives back the pages from page number `end` on. */
void gm_kv_trim(gm_kv_seq *seq, uint32_t kind, uint32_t end);
/* Gives back every page; the ring then starts at page number 0. */
void gm_kv_empty(gm_kv_seq *seq, uint32_t kind);
void gm_kv_free_mark(gm_kv *kv, mark *m);
/* Frees the sequence's marks beyond `position`. */
void gm_kv_unmark_beyond(gm_kv_seq *seq, uint32_t position);
void gm_kv_unmark_all(gm_kv_seq *seq);
/* How many of the sequence's marks pin `page`. */
uint32_t gm_kv_marks_on(const gm_kv_seq *seq, uint32_t page_index, uint32_t page);

#endif
