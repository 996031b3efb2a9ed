/* Inside of fusion, shared by kd_fuse*.c. */
#ifndef KD_KERNELS_GRAPH_FUSE_INTERNAL_H
#define KD_KERNELS_GRAPH_FUSE_INTERNAL_H

#include "kernels/graph/graph_internal.h"

/* The one node that reads value v directly as operand 0, -1 when there are others, views of it, or it is kept. */
int32_t kdi_single_reader(const kd_graph *g, int32_t v);
int32_t kdi_only_reader(const kd_graph *g, int32_t v); /* the same, as whichever operand */
/* Is node k the only one that reads v, and v no output? */
bool kdi_read_by_only(const kd_graph *g, int32_t v, int32_t k);
bool kdi_is_node(const kd_graph *g, int32_t v);
bool kdi_same_spec(const kd_graph *g, int32_t a, int32_t b);
/* Node k becomes `now`, which has its own attr of `size` bytes at `attr`; scope and segment stay. */
kd_status kdi_become(kd_graph *g, int32_t k, const kdi_node *now, const void *attr, size_t size);
/* Node `from` goes behind node `to`, which comes after it; those between move up. */
void kdi_move(kd_graph *g, int32_t from, int32_t to);
/* Dead nodes leave. */
void kdi_sweep(kd_graph *g);

/* A rule a function: node k, which is alive, is looked at as the first of those that become one.  recompute: the
 * program honours segments, and what crosses their border has to be kept. */
kd_status kdi_fuse_norm(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_kept_act(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_pool(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_separable(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_branches(kd_graph *g, int32_t k, bool recompute); /* node k is the last of them here */
kd_status kdi_fuse_act_bwd(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_sum(kd_graph *g, int32_t k, bool recompute); /* node k is the last of them here */
kd_status kdi_fuse_batchnorm(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_act_bwd(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_running(kd_graph *g, int32_t k, bool recompute);

#endif
