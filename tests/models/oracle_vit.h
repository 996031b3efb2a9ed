/* A ViT training step written by hand in double: no graph, no kernels, plain loops from the formulas.  The oracle of
 * what the graph builder, the gradient rules, the fusion and the memory plan make of teacher/model/vit.h. */
#ifndef KD_TESTS_MODELS_ORACLE_VIT_H
#define KD_TESTS_MODELS_ORACLE_VIT_H

#include "teacher/model/vit.h"

/* Forward, soft-target cross-entropy averaged over the batch, backward.  p: f64 parameters, allocated.  clip
 * (B,3,T,H,W), target (B,classes).  grad: slab in the layout of kd_params (kd_params_slab_numel doubles), added to.
 * Covers the plain model: biases on q and v, mean pooling, no gammas, no dropout.  Returns the loss. */
double oracle_vit_step(const kd_vit_cfg *c, kd_params *p, int batch, const double *clip, const double *target,
                       double *grad);

/* One AdamW step as published (decoupled decay), on one tensor; t counts from 1. */
void oracle_adamw(double *w, const double *g, double *m, double *v, int64_t n, double lr, double b1, double b2,
                  double eps, double decay, int t);

#endif
