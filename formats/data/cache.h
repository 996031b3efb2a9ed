/* Blocks of memory by sample number, kept as long as a budget lasts.
 *
 * First come, first kept, nothing is evicted: every epoch reads every sample once, so any order
 * of eviction would do as well.  Several threads may get and put; a block that was put stays
 * until the cache is freed.
 */
#ifndef KD_FORMATS_DATA_CACHE_H
#define KD_FORMATS_DATA_CACHE_H

#include "kernels/kd_base.h"

typedef struct kd_cache kd_cache;

kd_cache *kd_cache_new(size_t slots, uint64_t budget); /* NULL when memory runs out */
void kd_cache_free(kd_cache *c);                       /* and all blocks; NULL is legal */

const void *kd_cache_get(const kd_cache *c, size_t slot); /* NULL: not kept */

/* Take `bytes` from the budget; false when they are not there.  Then either put or give back. */
bool kd_cache_reserve(kd_cache *c, uint64_t bytes);
void kd_cache_give_back(kd_cache *c, uint64_t bytes);

/* Hand over a block from kd_alloc whose bytes are reserved; the block to use is returned: where
 * another thread was faster, its block, and ours is freed. */
const void *kd_cache_put(kd_cache *c, size_t slot, void *block, uint64_t bytes);

/* Memory that can be had without swapping; free pages alone where the system does not say; 0: nobody knows. */
uint64_t kd_memory_available(void);

/* The most memory that was resident in this process so far; 0: nobody knows. */
uint64_t kd_memory_peak(void);

/* A quarter of the memory that is available now, at most `most`. */
uint64_t kd_cache_default(uint64_t most);

#endif
