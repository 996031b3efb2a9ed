/* A compiled forward program as data: its nodes and values, for who writes the program in another form (ONNX) or
 * measures what flows through it (int8 ranges).
 *
 * Values are numbered from 1 on, 0 is an absent operand.  Nodes are numbered in the order they run.  Everything handed
 * out is borrowed from the program.
 */
#ifndef KD_KERNELS_KD_WALK_H
#define KD_KERNELS_KD_WALK_H

#include "kernels/kd_program.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_walk_kind { KD_WALK_INPUT, KD_WALK_CONST, KD_WALK_PARAM, KD_WALK_NODE, KD_WALK_VIEW } kd_walk_kind;

typedef struct kd_walk_value {
    kd_walk_kind kind; /* PARAM: buffers too; VIEW: the same bytes as another value, of another shape */
    kd_spec spec;
    const char *name; /* of an input, a constant, a parameter or a buffer, or of a view that is an output; else NULL */
    int32_t of;       /* VIEW: the viewed value; NODE: the node that writes the value */
    bool fixed;       /* follows from parameters and constants alone */
    const void *data; /* its bytes on the device; those of a fixed value are there after the first run; NULL: none */
} kd_walk_value;

typedef struct kd_walk_node {
    kd_op op;
    const void *attr;  /* kd_<op>_attr, NULL where the op has none */
    const char *scope; /* "stages.0.0.gcn" */
    int32_t n_in, n_out;
    const int32_t *in, *out; /* values; 0: absent */
    bool fixed;              /* runs once per change of the parameters */
} kd_walk_node;

int32_t kd_walk_values(const kd_program *p); /* values are 1 .. kd_walk_values(p) - 1 */
kd_walk_value kd_walk_value_at(const kd_program *p, int32_t v);
kd_walk_node kd_walk_node_at(const kd_program *p, int32_t k); /* k in 0 .. kd_program_nodes(p) - 1 */

/* Run the program as kd_program_run does, and call `see` before each node that is not fixed, with its operands bound:
 * on the CPU their bytes may be read there.  Stops at the first failure of `see`. */
typedef kd_status (*kd_walk_see)(void *user, int32_t k, const kd_call *c);
KD_NODISCARD kd_status kd_walk_run(kd_program *p, kd_walk_see see, void *user);

/* Node k computes by `def` from now on, with call.prep = prep, which stays the caller's: for who has a kernel of his
 * own for one node (liblast's layers in eight bits).  def has neither prepare nor scratch nor release.  The node is not
 * fixed. */
void kd_walk_replace(kd_program *p, int32_t k, const kd_kernel_def *def, void *prep);

#ifdef __cplusplus
}
#endif
#endif
