/* The optimiser's kernels live in the op table but in no graph: they have no rules. */
#include "kernels/op/rule.h"

KD_OP_DEFINE(adamw, .attr_size = sizeof(kd_adamw_attr));
KD_OP_DEFINE(sgd, .attr_size = sizeof(kd_sgd_attr));
KD_OP_DEFINE(grad_norm, .attr_size = 0);
KD_OP_DEFINE(ema, .attr_size = sizeof(kd_ema_attr));
KD_OP_DEFINE(optim_control, .attr_size = sizeof(kd_optim_control_attr));
