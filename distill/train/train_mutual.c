/* Training, students that learn from each other (Zhang et al. 2018): each of them, besides what its recipe says of
 * labels and stores, from the answers of the others to the same rows.
 *
 * Each student is a kd_trainer with a run of its own; all have the seed of the first, so that order, augmentation and
 * mixing are the same, and initial weights, dropout and drop path of their own.  A micro-batch runs forward for all
 * students, the answers are exchanged, and it runs backward for all: every student learns from the answers that the
 * others gave before this step.  (The paper's algorithm 1 updates one student after the other, each from answers that
 * are computed again after the updates before; that takes one more forward pass a student.) */
#include "distill/train/train_internal.h"
#include "formats/base/io.h"

#include <stdio.h>

/* ---- set-up ---------------------------------------------------------------------------------- */

/* Does the checkpoint stand where the first student stands? */
static bool in_step(const kd_ckpt *c, const kd_ckpt *first)
{
    static const char *const at[] = {"epoch", "batch", "step", "micro"};
    for (size_t i = 0; i < KD_COUNTOF(at); i++) {
        int64_t a = -1, b = -2;
        if (kd_json_get_i64(kd_json_get(kd_ckpt_state(c), "training"), at[i], &a, NULL) != KD_OK ||
            kd_json_get_i64(kd_json_get(kd_ckpt_state(first), "training"), at[i], &b, NULL) != KD_OK || a != b) {
            return false;
        }
    }
    return true;
}

/* The first student is saved after the others, so that a kill in between leaves theirs a checkpoint ahead, and the one
 * of the first beside it. */
static kd_status open_before(kd_trainer *p, const kd_ckpt *first, kd_err *err)
{
    static const char *const name[] = {"last", "last.prev"};
    for (size_t i = 0; i < KD_COUNTOF(name) && p->before == NULL; i++) {
        char *path = kd_strf("%s/checkpoints/%s", p->o->out_dir, name[i]);
        if (path == NULL) {
            return KD_FAIL(err, KD_E_OOM, "resume: out of memory");
        }
        if (kd_path_is_dir(path) && kd_ckpt_open(path, &p->before, NULL) == KD_OK && !in_step(p->before, first)) {
            kd_ckpt_close(p->before);
            p->before = NULL;
        }
        kd_free(path);
    }
    return p->before != NULL ? KD_OK
                             : KD_FAIL(err, KD_E_DATA,
                                       "%s: expected a checkpoint of the same step as that of the first student (%s), "
                                       "found none: restore checkpoints/last or checkpoints/last.prev",
                                       p->o->out_dir, kd_ckpt_dir(first));
}

static kd_status open_peer(kd_trainer *first, int i, kd_err *err)
{
    kd_peer *own = &first->own_peer[i];
    kd_trainer *p = &first->peer[i];
    KD_TRY(kd_config_peer(first->cfg, i, &own->cfg, err));
    own->o = *first->o;
    own->o.cfg = &own->cfg;
    if (first->o->out_dir != NULL) {
        own->dir = kd_strf("%s/peer-%d", first->o->out_dir, i + 2);
        own->o.out_dir = own->dir;
        if (own->dir == NULL) {
            return KD_FAIL(err, KD_E_OOM, "mutual: out of memory");
        }
    }
    *p = (kd_trainer){.o = &own->o, .cfg = &own->cfg, .s = first->s, .origin = {.peer = i + 2}};
    if (first->before != NULL) {
        KD_TRY(open_before(p, first->before, err));
    }
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(KD_MIN(level, KD_LOG_ERROR)); /* data and stores are those of the first student, and said */
    const kd_status st = kdi_train_setup(p, err);
    kd_log_set_level(level);
    return st == KD_OK ? st : kd_err_prefix(err, st, "mutual[%d]", i);
}

static kd_status open_shown(kd_trainer *t, kd_err *err)
{
    t->shown = kd_calloc((size_t)kdi_train_rows(t->cfg) * (size_t)t->model.classes, sizeof *t->shown);
    return t->shown != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "training: out of memory for a batch");
}

kd_status kdi_mutual_open(kd_trainer *first, kd_err *err)
{
    const int n = first->cfg->mutual.n;
    if (n == 0) {
        return KD_OK;
    }
    if (first->o->find_lr != NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "--find-lr: the rate of one student is looked for; remove mutual");
    }
    first->peer = kd_calloc((size_t)n, sizeof *first->peer);
    first->own_peer = kd_calloc((size_t)n, sizeof *first->own_peer);
    if (first->peer == NULL || first->own_peer == NULL) {
        return KD_FAIL(err, KD_E_OOM, "mutual: out of memory");
    }
    KD_TRY(open_shown(first, err));
    for (int i = 0; i < n; i++) {
        first->peers = i + 1;
        KD_TRY(open_peer(first, i, err));
        kd_trainer *p = &first->peer[i];
        KD_TRY(open_shown(p, err));
        kd_log(KD_LOG_INFO, "peer-%d: %s, %lld parameters, seed %llu, lr = %g", i + 2, p->model.name,
               (long long)kd_params_numel(p->model.params), (unsigned long long)kd_config_init_seed(p->cfg),
               p->schedule.lr);
    }
    kdi_train_say_group_memory(first);
    return KD_OK;
}

void kdi_mutual_close(kd_trainer *first)
{
    for (int i = 0; i < first->peers; i++) {
        kd_run *run = first->peer[i].run;
        kdi_train_close(&first->peer[i]);
        kd_run_close(run);
        kd_free(first->own_peer[i].dir);
    }
    kd_free(first->peer);
    kd_free(first->own_peer);
}

/* A checkpoint that is ahead makes room for the one that the run goes on from. */
static kd_status step_back(kd_trainer *p, kd_err *err)
{
    char *last = kd_strf("%s/checkpoints/last", p->o->out_dir);
    char *prev = kd_strf("%s/checkpoints/last.prev", p->o->out_dir);
    kd_status st = last != NULL && prev != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "resume: out of memory");
    if (st == KD_OK && strcmp(kd_ckpt_dir(p->before), prev) == 0) {
        st = kd_io_remove_tree(last, err);
        st = st == KD_OK ? kd_io_rename(prev, last, err) : st;
    }
    kd_free(last);
    kd_free(prev);
    return st;
}

kd_status kdi_mutual_set_aside(kd_trainer *peer, kd_err *err)
{
    char *last = kd_strf("%s/checkpoints/last", peer->o->out_dir);
    char *prev = kd_strf("%s/checkpoints/last.prev", peer->o->out_dir);
    kd_status st = last != NULL && prev != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "checkpoint: out of memory");
    if (st == KD_OK && kd_path_is_dir(last)) {
        st = kd_io_remove_tree(prev, err);
        st = st == KD_OK ? kd_io_rename(last, prev, err) : st;
    }
    kd_free(last);
    kd_free(prev);
    return st;
}

kd_status kdi_mutual_begin(kd_trainer *first, kd_err *err)
{
    for (int i = 0; i < first->peers; i++) {
        kd_trainer *p = &first->peer[i];
        const bool resumed = p->before != NULL;
        KD_TRY(kd_run_open(p->o->out_dir, resumed, !resumed, &p->run, err));
        KD_TRY(resumed ? step_back(p, err) : kd_run_replace(p->run, err));
        KD_TRY(kd_run_write_config(p->run, p->cfg, err));
    }
    return KD_OK;
}

kd_status kdi_mutual_each(kd_trainer *first, kd_status (*does)(kd_trainer *t, kd_err *err), kd_err *err)
{
    for (int i = 0; i < first->peers; i++) {
        KD_TRY(does(&first->peer[i], err));
    }
    return does(first, err);
}

/* ---- a batch --------------------------------------------------------------------------------- */

/* Student `to` of the group (0: the first) is given the answers of the others, in the order of its own recipe. */
static kd_status give(kd_trainer *const *student, int n, int to, const kd_batch *b, size_t values, kd_err *err)
{
    kd_program *program = student[to]->program;
    char name[KD_TERM_NAME];
    kd_status st = kd_program_write(program, "peer_valid", b->valid, (size_t)b->rows * sizeof *b->valid);
    for (int from = 0, at = 0; from < n && st == KD_OK; from++) {
        if (from != to) {
            kd_loss_name("peer", at++, name);
            st = kd_program_write(program, name, student[from]->shown, values * sizeof *student[from]->shown);
        }
    }
    return st == KD_OK ? st : KD_FAIL(err, st, "student %d was not given the answers of the others", to + 1);
}

kd_status kdi_mutual_answer(kd_trainer *first, const kd_batch *b, kd_err *err)
{
    kd_trainer *student[KD_CFG_PEERS + 1] = {first};
    const int n = first->peers + 1;
    const size_t values = (size_t)b->rows * (size_t)first->model.classes;
    for (int i = 0; i < n; i++) {
        student[i] = i > 0 ? &first->peer[i - 1] : first;
        KD_TRY(kdi_train_forward(student[i], err));
    }
    for (int i = 0; i < n; i++) {
        const void *logits = kd_program_tensor(student[i]->program, "logits").data;
        const kd_status st =
            first->o->be->ops->download(first->o->be, student[i]->shown, logits, values * sizeof *student[i]->shown);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "student %d gave no answer", i + 1);
        }
    }
    for (int i = 0; i < n; i++) {
        KD_TRY(give(student, n, i, b, values, err));
    }
    return KD_OK;
}
