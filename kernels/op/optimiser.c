/* The optimiser's kernels live in the op table but in no graph: they have no rules. */
#include "kernels/op/rule.h"

const kd_op_rule kd_op_rule_adamw = {sizeof(kd_adamw_attr), NULL, NULL};
const kd_op_rule kd_op_rule_sgd = {sizeof(kd_sgd_attr), NULL, NULL};
const kd_op_rule kd_op_rule_grad_norm = {0, NULL, NULL};
const kd_op_rule kd_op_rule_ema = {sizeof(kd_ema_attr), NULL, NULL};
const kd_op_rule kd_op_rule_optim_control = {sizeof(kd_optim_control_attr), NULL, NULL};
