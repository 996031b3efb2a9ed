/* Students that learn from each other: what a recipe with `mutual` may say, and the recipe of each of them. */
#include "configs/schema/config_table.h"
#include "student/model/student.h"

#include <stdio.h>

/* Keys that belong to an architecture of the item's own. */
static kd_status check_peer(const kd_cfg_peer *p, int i, kd_err *err)
{
    if (p->student[0] != '\0' && kd_student_find(p->student) == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "mutual[%d].student: expected a name as of student.name, found %s", i,
                       p->student);
    }
    const char *idle = p->dropout != -1.0                          ? "dropout"
                       : p->drop_path != -1.0                      ? "drop_path"
                       : strcmp(p->stream, kd_stream_name(0)) != 0 ? "stream"
                       : p->fix[0] != '\0'                         ? "fix"
                                                                   : NULL;
    return p->student[0] != '\0' || idle == NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG,
                         "mutual[%d].%s: one more of the recipe's own student has the keys of section student; name "
                         "another in mutual[%d].student, or remove it",
                         i, idle, i);
}

/* Keys of the term, and keys that a group of students cannot obey. */
static kd_status check_group(const kd_config *c, kd_err *err)
{
    if (c->kd.mutual_weight == 0.0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.mutual_weight: 0, so that no student of mutual learns from another; expected it above 0, or "
                       "remove mutual");
    }
    if (c->phases.n > 0) {
        return KD_FAIL(err, KD_E_CONFIG, "mutual: students that learn from each other have one phase; remove phases");
    }
    if (c->student.weights[0] != '\0') {
        return KD_FAIL(err, KD_E_CONFIG,
                       "student.weights: all students of mutual begin with drawn weights; remove it, found %s",
                       c->student.weights);
    }
    if (c->train.patience > 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.patience: %d, but students of mutual train as long as each other; set it to 0",
                       c->train.patience);
    }
    return KD_OK;
}

kd_status kd_cfg_finish_mutual(kd_config *c, kd_err *err)
{
    for (int i = 0; i < c->mutual.n; i++) {
        KD_TRY(check_peer(&c->mutual.v[i], i, err));
    }
    if (c->mutual.n > 0) {
        return check_group(c, err);
    }
    const kd_loss_opts *k = &c->kd;
    const char *idle = k->mutual_weight > 0.0                     ? "weight"
                       : k->mutual_temperature != 1.0             ? "temperature"
                       : k->mutual_schedule != KD_WEIGHT_CONSTANT ? "schedule"
                       : k->mutual_warmup_epochs > 0.0            ? "warmup_epochs"
                       : k->mutual_stop_epoch > 0.0               ? "stop_epoch"
                                                                  : NULL;
    return idle == NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG,
                         "kd.mutual_%s: there is no other student to learn from; name one in mutual, or remove "
                         "it",
                         idle);
}

/* ---- the recipe of one ----------------------------------------------------------------------- */

static int64_t seed_of(const kd_config *recipe, int i)
{
    const int64_t own = recipe->mutual.v[i].init_seed;
    return own >= 0 ? own : (int64_t)kd_config_init_seed(recipe) + 1000 * (int64_t)(i + 1);
}

/* The recipe's own student as an item of the list. */
static kd_cfg_peer own_item(const kd_config *c)
{
    kd_cfg_peer p;
    memset(&p, 0, sizeof p); /* equal recipes are equal bytes */
    (void)snprintf(p.student, sizeof p.student, "%s", c->student.name);
    (void)snprintf(p.stream, sizeof p.stream, "%s", c->student.stream);
    (void)snprintf(p.fix, sizeof p.fix, "%s", c->student.fix);
    p.dropout = c->student.dropout;
    p.drop_path = c->student.drop_path;
    p.base_lr = c->optim.base_lr;
    p.init_seed = (int64_t)kd_config_init_seed(c);
    return p;
}

static void take(const kd_config *recipe, int i, kd_config *c)
{
    const kd_cfg_peer *p = &recipe->mutual.v[i];
    if (p->student[0] != '\0') {
        (void)snprintf(c->student.name, sizeof c->student.name, "%s", p->student);
        (void)snprintf(c->student.stream, sizeof c->student.stream, "%s", p->stream);
        (void)snprintf(c->student.fix, sizeof c->student.fix, "%s", p->fix);
        c->student.dropout = p->dropout;
        c->student.drop_path = p->drop_path;
    }
    c->optim.base_lr = p->base_lr > 0.0 ? p->base_lr : recipe->optim.base_lr;
    c->train.init_seed = seed_of(recipe, i);
}

kd_status kd_config_peer(const kd_config *recipe, int i, kd_config *out, kd_err *err)
{
    *out = *recipe;
    KD_ASSERT(i >= 0 && i < recipe->mutual.n);
    take(recipe, i, out);
    out->mutual.v[0] = own_item(recipe);
    for (int k = 0, at = 1; k < recipe->mutual.n; k++) {
        if (k != i) {
            kd_config *other = kd_alloc(sizeof *other);
            if (other == NULL) {
                return KD_FAIL(err, KD_E_OOM, "config: out of memory");
            }
            *other = *recipe;
            take(recipe, k, other);
            out->mutual.v[at++] = own_item(other);
            kd_free(other);
        }
    }
    const kd_status st = kd_config_finish(out, err);
    return st == KD_OK ? st : kd_err_prefix(err, st, "student %d of mutual", i);
}
