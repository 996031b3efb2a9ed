/* Inside of a program.  Private to kernels/graph/. */
#ifndef KD_KERNELS_GRAPH_PROGRAM_INTERNAL_H
#define KD_KERNELS_GRAPH_PROGRAM_INTERNAL_H

#include "kernels/graph/graph_internal.h"
#include "kernels/kd_program.h"

/* What is captured of a program: a whole run, the two parts of one that stops in between. */
enum { KDI_RUN_WHOLE, KDI_RUN_BEFORE, KDI_RUN_AFTER, KDI_RUNS };

struct kd_program {
    kd_graph *g; /* owned; nodes are in execution order after compile */
    kd_backend *be;
    bool trains, reuse, check, poison, plan_only;
    bool rests; /* constants are to be uploaded again */
    kdi_slot *slots;
    int32_t n_slots;
    int32_t *storage; /* root value -> slot, -1: none */
    bool *is_static;  /* node -> runs once per change of the parameters */
    kd_call *calls;
    const kd_kernel_def **defs;
    kd_tensor *tensors;
    char *arena;
    void *scratch;
    kd_step *step;                  /* device copy */
    kd_recorded recorded[KDI_RUNS]; /* nodes of one run, captured: all of them, or a part */
    size_t arena_bytes, scratch_bytes, sum_bytes;
    uint64_t version; /* of the parameters the static nodes were computed from */
    int32_t at;       /* node that runs, or failed */
    int32_t from, to; /* nodes of the run or of its part */
    char text[320];
};

/* live.c.  In a forward-only program, nodes that depend on parameters, buffers and constants alone are static: they run
 * once per change of the parameters.  Fills is_static. */
void kdi_mark_static(kd_program *p);
/* Fills slots (bytes, first and last node) and storage (the slot of each root value, -1 where it has none). */
void kdi_lifetimes(kd_program *p, kd_val loss);
/* Let out[0] take over an operand's bytes where the op allows that and no later node reads the operand. */
void kdi_share_in_place(kd_program *p);

/* Where value v lies; NULL when it has no bytes. */
void *kdi_address(const kd_program *p, int32_t v);

/* Debug mode: are all floating outputs of node k finite? */
bool kdi_finite_outputs(kd_program *p, int32_t k);

#endif
