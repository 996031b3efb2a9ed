/* Checks every kernel of the table against the f64 reference, on the operands it meets in a real program.
 *
 * A case becomes a graph: operands, the op, a weighted sum of its first output as loss.  The graph is compiled
 *   in f64: gradients against central differences;
 *   in every dtype of the tested kernels (op_cpu.c, op_simt.c), on a backend whose kernels are recorders: each call,
 *   forward or backward, is repeated with every candidate and compared with the f64 reference on the same operands.
 *   Per candidate: value, guard bytes and unwritten elements, inputs untouched, same bits twice and for other schedules
 *   (threads; orders of a GPU's threads), in place where the op allows it, absent outputs, NaN propagation,
 *   accumulation where the program does.
 */
#ifndef KD_TESTS_KERNELS_OP_DRIVER_H
#define KD_TESTS_KERNELS_OP_DRIVER_H

#include "tests/kernels/op_case.h"

#include <stdio.h>

enum { SLOT_REF, SLOT_V3, SLOT_V4, SLOT_FAST, SLOT_COUNT, SLOT_SIMT = 0 };

/* Run one case in all dtypes; failures are printed and counted.  `index` only names it. */
void op_run_case(kd_op op, const op_case *c, int index);
int op_failures(void);
/* Calls checked so far of this op. */
long op_hits(kd_op op, kd_dtype act, int slot);
/* Lines "op dtype slot calls" (coverage.sh makes a table of them); how often the first slot has an op without a
 * call. */
int op_coverage(FILE *f);

#endif
