/* A host allocator for tests: fails on demand, counts what is alive, checks every free. Any thread; one per program.
 * Tests name the module `support`: gm_test(unit/mem base support), and include "support/fault.h". */
#ifndef FAULT_H
#define FAULT_H

#include "gemma.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroes *host, sets its size, alloc and free, and forgets failures to come and the counts below. */
void fault_host_init(gemma_host *host);
/* From now on the nth allocation (1 = the next) gives NULL, the others succeed. 0 = none fails. */
void fault_fail_nth(uint64_t nth);
bool fault_fired(void);           /* since fault_fail_nth: that allocation was asked for */
uint64_t fault_allocations(void); /* asked for since fault_host_init, the failed ones included */
uint64_t fault_live_blocks(void); /* of all tags */
uint64_t fault_live_bytes(uint32_t tag);
uint64_t fault_peak_bytes(void); /* the most that was alive at once since fault_host_init */
/* Frees with a wrong size or tag or of what is no block of ours, writes just behind a block, bad arguments of alloc. */
uint64_t fault_mismatches(void);

#endif
