/* Inside of a program, shared by kd_program.c and kd_dump.c. */
#ifndef KD_KERNELS_GRAPH_PROGRAM_INTERNAL_H
#define KD_KERNELS_GRAPH_PROGRAM_INTERNAL_H

#include "kernels/graph/graph_internal.h"
#include "kernels/kd_program.h"

struct kd_program {
    kd_graph *g; /* owned; nodes are in execution order after compile */
    kd_backend *be;
    bool trains, reuse, check, poison, plan_only;
    kdi_slot *slots;
    int32_t n_slots;
    int32_t *storage; /* root value -> slot, -1: none */
    bool *is_static;  /* node -> runs once per change of the parameters */
    kd_call *calls;
    const kd_kernel_def **defs;
    kd_tensor *tensors;
    char *arena;
    void *scratch;
    kd_step *step;        /* device copy */
    kd_recorded recorded; /* all nodes of one run, captured */
    size_t arena_bytes, scratch_bytes, sum_bytes;
    uint64_t version; /* of the parameters the static nodes were computed from */
    int32_t at;       /* node that runs, or failed */
    char text[320];
};

/* Where value v lies; NULL when it has no bytes. */
void *kdi_address(const kd_program *p, int32_t v);

/* Debug mode: are all floating outputs of node k finite? */
bool kdi_finite_outputs(kd_program *p, int32_t k);

#endif
