/* Rules of a recipe on parameters by name: learning rate and weight decay. */
#ifndef KD_KERNELS_OPTIM_PARAM_RULES_H
#define KD_KERNELS_OPTIM_PARAM_RULES_H

#include "kernels/kd_options.h"
#include "kernels/kd_params.h"

/* Which parameters decay before rules by name are applied; buffers never do. */
#define KD_DECAY_MAP(X)              \
    X(KD_DECAY_MODEL, "model")       \
    X(KD_DECAY_MATRICES, "matrices") \
    X(KD_DECAY_ALL, "all")
#define KD_RULE_DECAY_MAP(X)      \
    X(KD_RULE_DECAY_KEEP, "keep") \
    X(KD_RULE_DECAY_ON, "on")     \
    X(KD_RULE_DECAY_OFF, "off")

KD_ENUM_OF(kd_decay, KD_DECAY_MAP);
KD_ENUM_OF(kd_rule_decay, KD_RULE_DECAY_MAP);

typedef struct kd_param_rule {
#define KD_OPTIONS "kernels/optim/param_rule.inc"
#include "kernels/kd_options_struct.inc"
} kd_param_rule;

#define KD_PARAM_RULES 16

typedef struct kd_param_rules {
    int n;
    kd_param_rule v[KD_PARAM_RULES];
} kd_param_rules;

typedef struct kd_param_group {
    double lr_scale; /* factor on the rate of the schedule */
    bool decay;      /* weight decay applies */
} kd_param_group;

/* Does a rule apply?  Pattern without '*': the name begins with it.  Else the whole name: '*' is any run of letters. */
bool kd_param_match(const char *pattern, const char *name);

/* The group of one parameter.  own: what the model says (layer decay, the reference's no-decay rule).
 * First `decay`: the model's own, tensors of two dims or more, or all.  Then every rule that applies, in order: factors
 * multiply, the last on or off wins. */
kd_param_group kd_param_group_of(const char *name, const kd_shape *shape, kd_param_group own, kd_decay decay,
                                 const kd_param_rules *rules);

/* The same for all parameters, after the model has set its own groups; buffers keep theirs.  Before kd_optim_create.
 * KD_E_CONFIG: a rule applies to no parameter. */
KD_NODISCARD kd_status kd_param_rules_apply(kd_params *p, kd_decay decay, const kd_param_rules *rules, kd_err *err);

#endif
