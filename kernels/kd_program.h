/* A compiled program: a flat list of kernel calls over one planned arena.  Running it is a loop; nothing else happens
 * in a step: no allocation, no lookup, no log.
 *
 * Life: graph -> kd_params_alloc -> (load or init) -> kd_program_compile -> write inputs, run, read outputs, ... ->
 * free. With `loss`, the program holds forward and backward; without, the forward alone ("eval" program), in which
 * whatever depends on parameters only (folded weights, normalised adjacencies) is computed once per change of the
 * parameters.
 */
#ifndef KD_KERNELS_KD_PROGRAM_H
#define KD_KERNELS_KD_PROGRAM_H

#include "kernels/kd_params.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_program kd_program;

typedef struct kd_compile_opts {
    kd_val loss;               /* scalar; absent: forward only */
    const kd_val *grad_inputs; /* inputs whose gradient is wanted too: output "grad:<input name>" */
    int n_grad_inputs;
    bool no_reuse;  /* every value keeps its own bytes */
    bool recompute; /* honour recompute segments */
    bool no_fuse;   /* leave the peephole rules out */
    bool check;     /* after every node scan its outputs; the first non-finite value ends the run */
    bool poison;    /* tests: fill the arena with NaN before each run */
    /* no memory and no kernels: for kd_program_arena_bytes alone (scratch not counted), never to be run */
    bool plan_only;
} kd_compile_opts;

/* Compile for `be`.  Takes the graph in every case.  Parameters must be allocated on `be` (kd_params_alloc) and stay
 * alive. */
KD_NODISCARD kd_status kd_program_compile(kd_graph *g, kd_backend *be, const kd_compile_opts *opts, kd_program **out,
                                          kd_err *err);
void kd_program_free(kd_program *p);

/* The only function in a step. `step` may be NULL (seed 0, step 0, grad_scale 1). */
KD_NODISCARD kd_status kd_program_run(kd_program *p, const kd_step *step);
/* The same in two calls, for an input whose value depends on the run: the nodes before the first one that reads
 * `input`, whose outputs can then be read; after the input has been written, the other nodes. */
KD_NODISCARD kd_status kd_program_run_until(kd_program *p, const kd_step *step, const char *input);
KD_NODISCARD kd_status kd_program_run_on(kd_program *p);
/* The program will not run for a while: what it holds besides its plan (values, packed weights) goes back to the system
 * where the device can do that.  The next run takes the memory again and gives the same results; outputs and inputs
 * written before are lost. */
void kd_program_rest(kd_program *p);
/* After a failed run: scope name of the node that failed. */
const char *kd_program_where(const kd_program *p);

/* Named inputs and outputs.  tensor(): device view, data NULL when there is no such name.  write/read copy whole
 * tensors (bytes must match: KD_E_SHAPE otherwise). */
kd_tensor kd_program_tensor(const kd_program *p, const char *name);
KD_NODISCARD kd_status kd_program_write(kd_program *p, const char *name, const void *src, size_t bytes);
KD_NODISCARD kd_status kd_program_read(kd_program *p, const char *name, void *dst, size_t bytes);
/* Read as f32 whatever the dtype; n elements must match. */
KD_NODISCARD kd_status kd_program_read_f32(kd_program *p, const char *name, float *dst, int64_t n);

size_t kd_program_arena_bytes(const kd_program *p);
size_t kd_program_sum_bytes(const kd_program *p); /* what the arena would be without reuse */
int kd_program_nodes(const kd_program *p);
/* Multiply-accumulates of one run (kd_op_def.macs), static nodes left out.  Not of a plan_only program. */
int64_t kd_program_macs(const kd_program *p);

/* Bytes of all operands of all nodes, read or written, once a node each: what a run moves at the least, but for
 * caches. */
size_t kd_program_operand_bytes(const kd_program *p);

/* Listing: one line a node: index, scope, op, operands, shapes, offset and lifetime of its outputs. */
void kd_program_dump(const kd_program *p, FILE *f);

/* Independent check of the plan: no two values that are alive at the same time share bytes.  KD_E_STATE otherwise. */
KD_NODISCARD kd_status kd_program_check_plan(const kd_program *p, kd_err *err);

const char *kd_program_node_name(const kd_program *p,
                                 int i); /* "blocks.0.attn.qkv linear" in a buffer of the program */

#ifdef __cplusplus
}
#endif
#endif
