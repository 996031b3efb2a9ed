/* Names of the losses of op match_loss: see parity_match.h. */
#include "tools/parity/parity_match.h"

#include <stdlib.h>
#include <string.h>

/* A loss: how its name begins, and the tags of its numbers; NULL: it has none. */
typedef struct match_name {
    const char *begins;
    kd_match_kind kind;
    const char *tag[3];
    double fallback[3]; /* of a number whose tag is not in the name */
} match_name;

static const match_name names[] = {
    {"dkd_", KD_MATCH_DKD, {"_T", "_a", "_b"}, {0.0, 0.0, 0.0}},
    {"dist_", KD_MATCH_DIST, {"_tau", "_b", "_g"}, {0.0, 1.0, 1.0}},
    {"nkd_", KD_MATCH_NKD, {"_T", "_g", NULL}, {0.0, 0.0, 0.0}},
    {"logit_std_", KD_MATCH_LOGIT_STD, {"_T", NULL, NULL}, {0.0, 0.0, 0.0}},
    {"logit_mse", KD_MATCH_LOGIT_MSE, {NULL, NULL, NULL}, {0.0, 0.0, 0.0}},
    {"topk", KD_MATCH_TOPK, {"_T", NULL, NULL}, {0.0, 0.0, 0.0}},
    {"rkd_distance", KD_MATCH_RKD_DISTANCE, {NULL, NULL, NULL}, {0.0, 0.0, 0.0}},
    {"rkd_angle", KD_MATCH_RKD_ANGLE, {NULL, NULL, NULL}, {0.0, 0.0, 0.0}},
    {"sp", KD_MATCH_SP, {NULL, NULL, NULL}, {0.0, 0.0, 0.0}},
    {"infonce_", KD_MATCH_INFONCE, {"infonce_", NULL, NULL}, {0.0, 0.0, 0.0}},
};

static bool tail_of(const char *name, kd_match_loss_attr *out)
{
    static const char *const tails[] = {"_zero", "_renorm", "_uniform"}; /* in the order of kd_tail */
    out->k = (int32_t)strtol(name + strlen("topk"), NULL, 10);
    for (int32_t i = 0; i < (int32_t)KD_COUNTOF(tails); i++) {
        if (strstr(name, tails[i]) != NULL) {
            out->tail = i;
            return out->k > 0;
        }
    }
    return false;
}

bool kd_parity_match_named(const char *name, kd_match_loss_attr *out)
{
    for (size_t i = 0; i < KD_COUNTOF(names); i++) {
        const match_name *n = &names[i];
        const size_t length = strlen(n->begins);
        const bool whole = n->tag[0] == NULL; /* a name without numbers is the whole name */
        if (whole ? strcmp(name, n->begins) != 0 : strncmp(name, n->begins, length) != 0) {
            continue;
        }
        *out = (kd_match_loss_attr){.kind = (int32_t)n->kind};
        for (int k = 0; k < 3 && n->tag[k] != NULL; k++) {
            const char *at = strstr(name, n->tag[k]);
            out->p[k] = at != NULL ? strtod(at + strlen(n->tag[k]), NULL) : n->fallback[k];
        }
        if (!whole && !(out->p[0] > 0.0)) {
            return false;
        }
        return n->kind != KD_MATCH_TOPK || tail_of(name, out);
    }
    return false;
}
