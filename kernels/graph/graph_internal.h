/* Inside of the graph: values, nodes, and the passes of kd_program_compile.  Private to kernels/graph/. */
#ifndef KD_KERNELS_GRAPH_GRAPH_INTERNAL_H
#define KD_KERNELS_GRAPH_GRAPH_INTERNAL_H

#include "kernels/kd_graph.h"
#include "kernels/kd_params.h"

typedef enum kdi_kind {
    KDI_ABSENT,
    KDI_INPUT,
    KDI_CONST,
    KDI_PARAM,
    KDI_BUFFER,
    KDI_NODE,
    KDI_VIEW,
    KDI_PGRAD
} kdi_kind;

typedef struct kdi_value {
    kd_spec spec;
    kdi_kind kind;
    int32_t src;     /* KDI_VIEW: the viewed value */
    int32_t root;    /* end of the view chain; itself otherwise */
    int32_t node;    /* KDI_NODE: producer */
    int32_t param;   /* KDI_PARAM, KDI_BUFFER, KDI_PGRAD: index in kd_params */
    bool detached;   /* KDI_VIEW: no gradient passes */
    bool keep;       /* named output */
    bool needs_grad; /* computed by compile, roots only */
    char *name;      /* inputs, constants, outputs */
    void *data;      /* KDI_CONST: host bytes */
} kdi_value;

typedef struct kdi_node {
    kd_op op;
    int32_t n_in, n_out;
    int32_t in[KD_MAX_IN], out[KD_MAX_OUT];
    void *attr;  /* owned by the graph; clones share the original's */
    char *scope; /* shared with the graph's scope strings */
    uint32_t accum;
    int32_t segment; /* recompute segment, 0: none */
    bool backward;
    bool dead;
} kdi_node;

struct kd_graph {
    kd_graph_opts opts;
    kdi_value *values;
    int32_t n_values, cap_values;
    kdi_node *nodes;
    int32_t n_nodes, cap_nodes;
    char **strings; /* scope names, freed with the graph */
    int32_t n_strings, cap_strings;
    void **attrs; /* of nodes, those of dropped nodes too; freed with the graph */
    int32_t n_attrs, cap_attrs;
    char scope[256];
    int32_t scope_len[32];
    int scope_depth;
    int32_t segment, n_segments;
    uint32_t rng_id;
    bool in_backward;
    kd_err err;
};

int32_t kdi_value_add(kd_graph *g, kdi_kind kind, const kd_spec *spec); /* 0 on failure */
int32_t kdi_node_add(kd_graph *g, const kdi_node *node);                /* -1 on failure */
int32_t kdi_view_add(kd_graph *g, int32_t src, const kd_shape *shape, bool detached);
const char *kdi_intern(kd_graph *g, const char *text);
void *kdi_attr_add(kd_graph *g, const void *attr, size_t size); /* a copy that lives as long as the graph; NULL: OOM */
/* Input specs of a node and its outputs by the op's rule; failures become the graph's sticky error. */
kd_status kdi_infer(kd_graph *g, kd_op op, const int32_t *in, int n_in, const void *attr, kd_spec *out);

/* grad.c: append the backward part. */
kd_status kdi_backward(kd_graph *g, kd_val loss, const kd_val *grad_inputs, int n, bool recompute, kd_err *err);
/* fuse*.c: peephole rules, named after when they run. */
kd_status kdi_fuse_before_backward(kd_graph *g, uint32_t fuses, bool trains, bool recompute, kd_err *err);
kd_status kdi_fuse_after_backward(kd_graph *g, uint32_t fuses, kd_err *err);
kd_status kdi_fuse_eval(kd_graph *g, uint32_t fuses, kd_err *err); /* forward-only programs */

/* live.c: remove the nodes that no output, parameter gradient or effect depends on, and the outputs nobody reads. */
kd_status kdi_drop_dead(kd_graph *g, kd_val loss);
void kdi_sweep(kd_graph *g); /* remove the nodes marked dead */

/* plan.c: lifetimes to offsets. */
#define KDI_ALIGN 256u
typedef struct kdi_slot {
    size_t bytes;
    int32_t first, last; /* inclusive positions in the program */
    size_t offset;       /* result */
} kdi_slot;
/* Greedy by size: big slots first, each at the lowest offset free during its life.  *total: bytes of the arena. */
kd_status kdi_plan(kdi_slot *slots, int n, bool reuse, size_t *total);

#endif
