/* Rules on parameters by name: see param_rules.h. */
#include "kernels/optim/param_rules.h"

bool kd_param_match(const char *pattern, const char *name)
{
    if (strchr(pattern, '*') == NULL) {
        return strncmp(name, pattern, strlen(pattern)) == 0;
    }
    const char *star = NULL, *from = NULL; /* the last '*' met, and where its run of letters ends */
    while (*name != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star != NULL) { /* the run takes one letter more */
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

kd_param_group kd_param_group_of(const char *name, const kd_shape *shape, kd_param_group own, kd_decay decay,
                                 const kd_param_rules *rules)
{
    kd_param_group g = own;
    if (decay != KD_DECAY_MODEL) {
        g.decay = decay == KD_DECAY_ALL || shape->rank >= 2;
    }
    for (int i = 0; i < rules->n; i++) {
        const kd_param_rule *r = &rules->v[i];
        if (kd_param_match(r->match, name)) {
            g.lr_scale *= r->lr_scale;
            g.decay = r->decay == KD_RULE_DECAY_KEEP ? g.decay : r->decay == KD_RULE_DECAY_ON;
        }
    }
    return g;
}

kd_status kd_param_rules_apply(kd_params *p, kd_decay decay, const kd_param_rules *rules, kd_err *err)
{
    bool used[KD_PARAM_RULES] = {false};
    for (int i = 0; i < kd_params_count(p); i++) {
        kd_param_info *e = kd_params_at(p, i);
        if (e->buffer) {
            continue;
        }
        const kd_param_group own = {(double)e->lr_scale, e->decay};
        const kd_param_group g = kd_param_group_of(e->name, &e->shape, own, decay, rules);
        e->lr_scale = (float)g.lr_scale;
        e->decay = g.decay;
        for (int k = 0; k < rules->n; k++) {
            used[k] |= kd_param_match(rules->v[k].match, e->name);
        }
    }
    for (int k = 0; k < rules->n; k++) {
        if (!used[k]) {
            return KD_FAIL(err, KD_E_CONFIG, "optim.rules[%d].match: no parameter of the model is called %s", k,
                           rules->v[k].match);
        }
    }
    return KD_OK;
}
