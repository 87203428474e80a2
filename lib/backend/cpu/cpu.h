/* backend/cpu: the plain-C reference and the production path, on the runtime's pool. */
#ifndef GM_CPU_H
#define GM_CPU_H

#include "backend/backend.h"

/* reference: float32 throughout, weights unpacked a row at a time by lib/quant, KV F32 by default: the oracle.
 * Otherwise Q8 activations and integer dots, KV F16 by default. `features` are GM_CPU_… bits that may be used.
 * ram_bytes: what its heap has, all of it free; 0: what the machine has. */
int gm_cpu_create(gm_mem *mem, gm_pool *pool, uint32_t features, bool reference, uint64_t ram_bytes, gm_backend **out,
                  gemma_error *error);

#endif
