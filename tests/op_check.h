/* One kernel call, repeated with every candidate and compared with the f64 reference. */
#ifndef TESTS_OP_CHECK_H
#define TESTS_OP_CHECK_H

#include "kernels/kd_op.h"
#include "kernels/kd_rng.h"

/* Called in place of the kernel: leaves the plain result in c->out, reports what is wrong through op_complain.  k: tolerance
 * in units of f32 rounding of the largest output. */
kd_status op_check_call(kd_op op, kd_dtype act, const kd_call *c, double k);

/* Given by the driver. */
void op_complain(const char *what, const char *where);
void op_count(kd_op op, kd_dtype act, int slot);

void op_fill_normal(kd_rng *r, double *v, int64_t n);
void op_from_f64(kd_dtype t, void *dst, const double *src, int64_t n); /* i32 too */
void op_to_f64(kd_dtype t, double *dst, const void *src, int64_t n);

#endif
