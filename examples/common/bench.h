/* What gemma-bench measures, and how it is shown. */
#ifndef BENCH_H
#define BENCH_H

#include "cli.h"

typedef struct bench_result {
    char test[24];                /* "pp512", "tg128" */
    uint32_t n_prompt, n_gen;     /* one of them is 0 */
    uint32_t depth;               /* tokens in the context before */
    double best, median;          /* tok/s */
    double predicted, off_pct;    /* medians over repetitions, each with the devices as measured just before it */
    double measured_gb_s;         /* reading memory: likewise */
    double bytes_per_token;       /* weights and KV, at the middle of the run; of a prompt: a step's by its rows */
    uint32_t dispatches, submits; /* of the last step */
    double host_calls;            /* of parallel_for, a step; 0: the library's own threads */
} bench_result;

typedef struct bench_report {
    const cli *c;
    const bench_result *results;
    uint32_t n_results;
    bool sweep;
    uint32_t max_depth; /* SWEEP: that was asked for */
    uint32_t fits_ctx;  /* SWEEP: the longest context that fits; 0: every one the model was trained for */
    bool host_threads;
} bench_report;

static inline double bench_gb_s(const bench_result *r) { return r->bytes_per_token * r->median * 1e-9; }
static inline double bench_share(const bench_result *r) /* percent */
{
    return r->measured_gb_s > 0 ? 100 * bench_gb_s(r) / r->measured_gb_s : 0;
}

/* ---- bench_print.c ---- */
void bench_print(const bench_report *b, const char *format); /* "md", "json", "csv" */

/* ---- bench_picture.c ---- */
/* Decode over depth: measured, predicted, share of the bandwidth. 0, or an exit code with the sentence printed. */
int bench_draw(const bench_report *b, const char *path);

#endif
