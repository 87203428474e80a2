/* One op with its operands: what a case of the conformance suite is made of. A scene holds everything as the host sees
 * it; scene_run puts it into a backend's memory, runs any choice of its rows there and brings the results back. */
#ifndef TESTS_CONFORM_SCENE_H
#define TESTS_CONFORM_SCENE_H

#include "backend/backend.h"

#define SCENE_ROWS       80 /* at most */
#define SCENE_PAGES_KEPT 2  /* pages at the end of a pool that no row may touch */

typedef struct scene {
    gm_op op;                           /* in[i] is slot i, out[i] is slot 4 + i, w[i] is weight i */
    uint32_t in_width[4], out_width[3]; /* 0: no such slot */
    gm_weight_shape shapes[4];          /* format NULL: absent */
    uint8_t *weights[4];                /* packed, as a file holds them */
    double *w[4];                       /* the same numbers, unpacked */
    uint32_t n_rows;
    float *in[4]; /* [n_rows][in_width] */
    int32_t token[SCENE_ROWS], target[SCENE_ROWS];
    uint32_t position[SCENE_ROWS], angle[SCENE_ROWS], last_seen[SCENE_ROWS], want[SCENE_ROWS];
    bool wanted_slot; /* HEAD: in0 holds all rows, of which every second is wanted */
    bool from_file;   /* w0 has no place: its rows come with the step */
    bool in_place;    /* out0 is in0 (HEADS) or in1 (NORM_ADD) */
    gm_kv_layer kv;   /* format NULL: none */
    uint32_t n_pages, n_positions;
    uint8_t *k, *v; /* the pools */
    uint32_t table[512];
    int32_t suppressed[8];
    uint32_t n_suppressed;
} scene;

/* What a run leaves. Rows in the order they were run; pools carry over from run to run. */
typedef struct results {
    float *out[3]; /* [n_rows][out_width] */
    uint8_t *k, *v;
    uint32_t n_candidates[SCENE_ROWS];
    gm_candidate candidates[SCENE_ROWS][GM_RESULTS_MAX];
    float log_sum[SCENE_ROWS], score[SCENE_ROWS];
    float *logits, *hidden; /* [n_rows][…] */
} results;

void scene_init(scene *s, gm_op_kind kind, uint32_t n_rows, uint64_t seed);
/* A random matrix [n_matrix][n_out][n_in], normal values of deviation about 1 / sqrt(n_in). */
void scene_weight(scene *s, unsigned i, gm_type type, uint32_t n_in, uint32_t n_out, uint32_t n_matrix);
/* Factors for weight i, from 0.5 to 1.5 and of both signs. */
void scene_factors(scene *s, unsigned i);
/* A vector around 1, as norm weights are. */
void scene_vector(scene *s, unsigned i, uint32_t n);
void scene_input(scene *s, unsigned i, uint32_t width); /* normal values */
void scene_output(scene *s, unsigned i, uint32_t width);
/* KV of n_positions positions on shuffled pages, filled with random values. Rows are the last positions. */
void scene_kv(scene *s, gm_kv_kind kind, gm_type type, uint32_t n_kv, uint32_t head, uint32_t n_positions);
float scene_normal(scene *s);
uint64_t scene_random(scene *s);

results *scene_results(const scene *s);
/* Runs rows[0 … n-1] (NULL: all) of the scene as one step. Fails the test on any error. */
void scene_run(const scene *s, gm_backend *be, const uint32_t *rows, uint32_t n, results *r);
/* Times the whole scene as one step, over and over for about for_ns, at least five times and at most n_cap; returns how
 * often. `before` (may be NULL) is called before each run, and is not timed. */
uint32_t scene_time(const scene *s, gm_backend *be, void (*before)(void), uint64_t for_ns, uint64_t *ns,
                    uint32_t n_cap);
/* A line of K or V of a head, unpacked. */
void scene_line(const scene *s, const uint8_t *pool, uint32_t kv_head, uint32_t position, float *out);

/* Memory that lives until scene_free_all. */
void *scene_alloc(size_t n_bytes);
void scene_free_all(void);
extern gm_mem scene_mem;

#endif
