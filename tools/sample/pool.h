/* Independent pieces of work on several threads, in any order: checking files, drawing clips. Not for kernels, which
 * have their own. */
#ifndef KD_TOOLS_SAMPLE_POOL_H
#define KD_TOOLS_SAMPLE_POOL_H

#include "distill/run/progress.h"

/* Does piece `i`; called from any thread.  A failure ends the run. */
typedef kd_status (*kd_pool_fn)(void *ctx, size_t i, kd_err *err);

/* Runs fn(ctx, 0 .. n-1) on `threads` threads (the caller is one of them, and alone reports progress).  The first
 * failure wins; KD_E_CANCELLED after an interrupt. */
KD_NODISCARD kd_status kd_pool_run(kd_pool_fn fn, void *ctx, size_t n, int threads, const kd_progress *progress,
                                   kd_err *err);

/* Threads for --threads N: N, or every core this process may use when N is 0. */
int kd_pool_threads(int64_t asked);

#endif
