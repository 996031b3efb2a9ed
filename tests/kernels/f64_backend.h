/* The f64 backend: the reference kernels compiled for double.  Tests only: the oracle of the f32 kernels, and the
 * ground gradient checks stand on. */
#ifndef KD_TESTS_KERNELS_F64_BACKEND_H
#define KD_TESTS_KERNELS_F64_BACKEND_H

#include "kernels/kd_backend.h"

/* Programs for it are built with dtype KD_F64 and kd_params_create(KD_F64).  NULL: out of memory. */
kd_backend *kd_f64_backend_open(void);

const kd_kernel_def *kd_cpu_table_ref_f64(kd_op op);

#endif
