/* Inside of fusion.  Private to kernels/graph/fuse*.c. */
#ifndef KD_KERNELS_GRAPH_FUSE_INTERNAL_H
#define KD_KERNELS_GRAPH_FUSE_INTERNAL_H

#include "kernels/graph/graph_internal.h"

/* The node that reads value v, if v has one reader, is read directly (not through a view) and is no output; else -1. */
int32_t kdi_only_reader(const kd_graph *g, int32_t v);
int32_t kdi_single_reader(const kd_graph *g, int32_t v); /* the same, and v is operand 0 of that node */
/* True if node k alone reads v and v is no output. */
bool kdi_read_by_only(const kd_graph *g, int32_t v, int32_t k);
/* Is node k an activation that other ops compute on their results, or the gradient of one? */
bool kdi_is_fusable_act(const kd_graph *g, int32_t k);
bool kdi_is_node(const kd_graph *g, int32_t v);
bool kdi_same_spec(const kd_graph *g, int32_t a, int32_t b);
/* Replace node k by `now` with a copy of attr.  The scope, segment and backward mark of node k stay. */
kd_status kdi_become(kd_graph *g, int32_t k, const kdi_node *now, const void *attr, size_t size);
/* Move node `from` to position `to`, which is later; the nodes between move up by one. */
void kdi_move(kd_graph *g, int32_t from, int32_t to);

/* One rule per function.  k is a live node, tried as the first node of the pattern (kdi_fuse_branches, kdi_fuse_sum:
 * as the last).  recompute: the program honours segments, so a rule must not fuse across the border of one. */
kd_status kdi_fuse_norm(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_kept_act(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_pool(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_separable(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_branches(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_batchnorm(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_act_bwd(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_sum(kd_graph *g, int32_t k, bool recompute);
kd_status kdi_fuse_running(kd_graph *g, int32_t k, bool recompute);

#endif
