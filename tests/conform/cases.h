/* The table of cases, for any backend. */
#ifndef TESTS_CONFORM_CASES_H
#define TESTS_CONFORM_CASES_H

#include "conform/naive.h"

/* Of shaders: built-in exp and inversesqrt are good to a few units in the last place, and sums have fewer partial sums. */
extern const precision cases_of_shaders;

uint32_t cases_count(void);
uint32_t cases_count_large(void); /* cases behind those: as large as in models, for benches */
/* Builds case i; what it is called stays valid until the next. */
const char *cases_make(uint32_t i, scene *s);
/* Every case (`only` not NULL: those whose name has it) against the naive results. A case the backend refuses is skipped,
 * and said so. */
void cases_check(gm_backend *be, precision p, const char *only);
/* Every case the same bit by bit: on each of the backends, in one step, in odd pieces, row by row. */
void cases_check_bits(gm_backend *const *backends, uint32_t n);

#endif
