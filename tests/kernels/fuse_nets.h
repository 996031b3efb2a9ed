/* Small networks in which rules of fusion apply, or must not, as in no model: x (BATCH,3,FRAMES,JOINTS) -> logits,
 * which are an output as "features" is. */
#ifndef KD_TESTS_KERNELS_FUSE_NETS_H
#define KD_TESTS_KERNELS_FUSE_NETS_H

#include "kernels/kd_graph.h"

enum { BATCH = 3, CLASSES = 5, FRAMES = 9, JOINTS = 25 };

typedef kd_val (*fuse_net)(kd_graph *g, kd_val x);

/* A depthwise and a pointwise convolution; what is between them is an output. */
kd_val two_convolutions(kd_graph *g, kd_val x);
/* Two separable branches side by side, one of them an output in the second. */
kd_val two_branches(kd_graph *g, kd_val x);
kd_val kept_branch(kd_graph *g, kd_val x);
/* Gradients in sums: one that is an output, one that cannot add. */
kd_val shared_gradient(kd_graph *g, kd_val x);
kd_val pooled_twice(kd_graph *g, kd_val x);
/* Batch norms with much to fuse after them, and some that must stay by themselves. */
kd_val norms(kd_graph *g, kd_val x);
/* Activations that stay nodes of their own. */
kd_val exponentials(kd_graph *g, kd_val x);

#endif
