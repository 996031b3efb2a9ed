/* Pieces that several fast kernels share.  Each chooses its instructions at run time or names the
 * level it needs. */
#ifndef KD_KERNELS_FAST_ROWS_H
#define KD_KERNELS_FAST_ROWS_H

#include "kernels/kd_base.h"

/* y[i] = GELU(x[i]), erf form; y may be x.  bf16: both are bf16, computed in f32.  Needs KD_CPU_V4.
 */
void kd_fast_gelu_v4(const void *x, void *y, int64_t n, bool bf16);

/* out[j] (+)= sum over the rows of x (rows, cols), rows in order.  Any machine. */
void kd_fast_column_sum(const void *x, int64_t rows, int64_t cols, bool bf16, bool add, float *out);
void kd_fast_column_sum_v4(const void *x, int64_t rows, int64_t cols, bool bf16, bool add, float *out);

#endif
