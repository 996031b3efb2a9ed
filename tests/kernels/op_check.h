/* One kernel call, repeated with every candidate and compared with the f64 reference. */
#ifndef KD_TESTS_KERNELS_OP_CHECK_H
#define KD_TESTS_KERNELS_OP_CHECK_H

#include "kernels/kd_op.h"
#include "kernels/kd_rng.h"

/* Called in place of the kernel: leaves the plain result in c->out, reports what is wrong through op_complain.  k:
 * tolerance in units of f32 rounding of the largest output. */
kd_status op_check_call(kd_op op, kd_dtype act, const kd_call *c, double k);

/* Given by what is tested: op_cpu.c or op_simt.c. */
/* rounds: the kernel may round the operands of inner products to the activation dtype. */
typedef void (*op_visit)(void *user, const kd_kernel_def *def, int slot, bool rounds, const char *name);
void op_candidates(kd_op op, kd_dtype act, op_visit visit, void *user); /* every kernel to check */
bool op_has(kd_op op, kd_dtype act, int slot); /* is there a kernel in that slot that has to be checked? */
/* What a program goes on with, on host memory; NULL: the f64 reference, rounded. */
const kd_kernel_def *op_plain(kd_op op, kd_dtype act);
/* Where kernels run: the bytes over there (the same address where that is here), and back after waiting for the
 * kernel. */
void *op_to_device(const void *host, size_t bytes);
void op_from_device(void *host, const void *there, size_t bytes);
void *op_stream(void);
/* From now on run kernels another way that must not change a bit: its name, NULL past the last; 0: the usual way. */
const char *op_schedule(int way);
extern const char op_suite[];   /* "cpu", "simt" */
extern const bool op_gradients; /* check the gradient rules too */
extern const kd_dtype op_dtypes[];
extern const int op_dtype_count;
extern const char *const op_slot_names[]; /* NULL at the end */

/* Given by the driver. */
void op_complain(const char *what, const char *where);
void op_count(kd_op op, kd_dtype act, int slot);

void op_fill_normal(kd_rng *r, double *v, int64_t n);
void op_from_f64(kd_dtype t, void *dst, const double *src, int64_t n); /* i32, i64, u8 too */
void op_to_f64(kd_dtype t, double *dst, const void *src, int64_t n);

#endif
