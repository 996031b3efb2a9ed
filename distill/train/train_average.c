/* Training, the average of the last epochs' weights (train.average_last): one more checkpoint, `average`, which the
 * run's report is of. */
#include "distill/train/train_internal.h"
#include "formats/base/io.h"

#include <stdio.h>

#define BN_MOMENTUM 0.1 /* of every batch norm: kernels/kd_layers.h */

static int wanted(const kd_trainer *t)
{
    return t->cfg->train.average_last;
}

static const char *epoch_path(kd_trainer *t, int64_t epoch, char name[64])
{
    (void)snprintf(name, 64, "checkpoints/epoch-%lld", (long long)epoch);
    return kd_run_path(t->run, name);
}

/* Does the recipe keep the checkpoint of this epoch anyway? */
static bool keeps(const kd_trainer *t, int64_t epoch)
{
    return t->cfg->train.keep > 0 && (epoch + 1 - t->s.epoch0) % t->cfg->train.checkpoint_every == 0;
}

static kd_status forget(kd_trainer *t, int64_t epoch, kd_err *err)
{
    char name[64];
    return epoch < t->s.epoch0 || keeps(t, epoch) ? KD_OK : kd_io_remove_tree(epoch_path(t, epoch, name), err);
}

kd_status kdi_train_average_epoch(kd_trainer *t, kd_err *err)
{
    char name[64];
    const int64_t epoch = t->s.epoch - 1;
    const bool may_be_last = t->cfg->train.patience > 0 || t->s.epoch > kdi_train_end(t) - wanted(t);
    if (wanted(t) == 0 || !kdi_train_last_phase(t) || !may_be_last) {
        return KD_OK;
    }
    if (!keeps(t, epoch)) {
        (void)epoch_path(t, epoch, name);
        KD_TRY(kdi_train_save(t, name + strlen("checkpoints/"), err));
    }
    return forget(t, epoch - wanted(t), err);
}

/* ---- weights into the model ------------------------------------------------------------------ */

static kd_status take(kd_trainer *t, kd_weights *w, kd_err *err)
{
    kd_params *p = t->model.params;
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *e = kd_params_at(p, i);
        const kd_weight *x = kd_weights_find(w, e->name);
        if (x == NULL || x->count != (size_t)e->numel) {
            return KD_FAIL(err, KD_E_DATA, "%s: expected %s of %lld values", kd_weights_file(w), e->name,
                           (long long)e->numel);
        }
        float *v = kd_alloc((x->count + 1) * sizeof *v);
        kd_status st = v != NULL ? kd_weights_read_f32(w, x, v, err) : KD_FAIL(err, KD_E_OOM, "average: no memory");
        if (st == KD_OK && kd_params_write(p, i, v, e->numel) != KD_OK) {
            st = KD_FAIL(err, KD_E_DEVICE, "average: %s cannot be written", e->name);
        }
        kd_free(v);
        KD_TRY(st);
    }
    return kd_params_changed(p) == KD_OK ? KD_OK : KD_FAIL(err, KD_E_DEVICE, "average: the weights cannot be written");
}

static kd_status mean_of_epochs(kd_trainer *t, kd_err *err)
{
    enum { MOST = 64 }; /* train.average_last */
    kd_weights *w[MOST] = {NULL};
    char name[64];
    size_t n = 0;
    kd_status st = KD_OK;
    for (int64_t e = KD_MAX(t->s.epoch - wanted(t), t->s.epoch0); e < t->s.epoch && st == KD_OK; e++) {
        st = kd_weights_open(epoch_path(t, e, name), NULL, &w[n], err);
        n += st == KD_OK;
    }
    st = st == KD_OK ? kd_weights_average(w, n, err) : st;
    st = st == KD_OK ? take(t, w[n - 1], err) : st;
    for (size_t i = 0; i < n; i++) {
        kd_weights_close(w[i]);
    }
    if (st == KD_OK) {
        kd_log(KD_LOG_INFO, "weights of the last %zu epochs averaged: %s", n,
               kd_run_path(t->run, "checkpoints/average"));
    }
    return st;
}

/* ---- batch norm ------------------------------------------------------------------------------ */

static bool is_statistic(const kd_param_info *e)
{
    const char *dot = strrchr(e->name, '.');
    return e->buffer && dot != NULL && (strcmp(dot, ".running_mean") == 0 || strcmp(dot, ".running_var") == 0);
}

/* visit = 0: to zero before a batch; 1: what the batch left, added up; 2: the mean of `batches` of them. */
static kd_status statistics(kd_trainer *t, double *sum, float *row, int visit, int64_t batches)
{
    kd_params *p = t->model.params;
    size_t at = 0;
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *e = kd_params_at(p, i);
        if (!is_statistic(e)) {
            continue;
        }
        if (visit == 1) {
            KD_TRY(kd_params_read(p, i, row, e->numel));
        }
        for (int64_t k = 0; k < e->numel; k++, at++) {
            sum[at] += visit == 1 ? (double)row[k] / BN_MOMENTUM : 0.0;
            row[k] = visit == 0 ? 0.0f : (float)(sum[at] / (double)KD_MAX(batches, 1));
        }
        if (visit != 1) {
            KD_TRY(kd_params_write(p, i, row, e->numel));
        }
    }
    return KD_OK;
}

static kd_status run_batch(kd_trainer *t, double *sum, float *row, kd_err *err)
{
    const kd_batch *b = NULL;
    const kd_step step = {.seed = kd_config_init_seed(t->cfg), .step = (uint64_t)t->s.micro++, .grad_scale = 1.0f};
    KD_TRY(kd_loader_next(t->loader, &b, err));
    KD_TRY(kdi_feed(t, b, err));
    kd_status st = statistics(t, sum, row, 0, 0);
    st = st == KD_OK ? kd_program_run(t->program, &step) : st;
    st = st == KD_OK ? t->o->be->ops->sync(t->o->be) : st;
    st = st == KD_OK ? statistics(t, sum, row, 1, 0) : st;
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "batch norm: %s", kd_status_text(st));
}

/* The running statistics become the means over the batches of one more pass, whose gradients nobody uses. */
static kd_status recompute(kd_trainer *t, kd_err *err)
{
    kd_params *p = t->model.params;
    size_t count = 0, widest = 1;
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *e = kd_params_at(p, i);
        count += is_statistic(e) ? (size_t)e->numel : 0;
        widest = is_statistic(e) ? KD_MAX(widest, (size_t)e->numel) : widest;
    }
    if (count == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "train.average_bn: recompute, but %s has no batch norm; set it to average",
                       t->model.name);
    }
    double *sum = kd_calloc(count, sizeof *sum);
    float *row = kd_calloc(widest, sizeof *row);
    kd_status st = sum != NULL && row != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "batch norm: out of memory");
    st = st == KD_OK ? kd_loader_seek(t->loader, (uint32_t)t->s.epoch, 0, err) : st;
    for (int64_t i = 0; i < t->batches && st == KD_OK; i++) {
        st = run_batch(t, sum, row, err);
    }
    if (st == KD_OK && (statistics(t, sum, row, 2, t->batches) != KD_OK || kd_params_changed(p) != KD_OK)) {
        st = KD_FAIL(err, KD_E_DEVICE, "batch norm: the statistics cannot be written");
    }
    kd_free(sum);
    kd_free(row);
    return st;
}

/* ---- at the end ------------------------------------------------------------------------------ */

/* Is the average of these epochs there already?  A run that is resumed when it is done asks. */
static bool is_there(kd_trainer *t, const char *path)
{
    kd_ckpt *c = NULL;
    int64_t epoch = -1;
    const bool whole = kd_path_is_dir(path) && kd_ckpt_open(path, &c, NULL) == KD_OK &&
                       kd_json_get_i64(kd_json_get(kd_ckpt_state(c), "training"), "epoch", &epoch, NULL) == KD_OK;
    kd_ckpt_close(c);
    return whole && epoch == t->s.epoch;
}

kd_status kdi_train_average(kd_trainer *t, kd_err *err)
{
    if (wanted(t) == 0 || !kdi_train_last_phase(t)) {
        return KD_OK;
    }
    if (is_there(t, kd_run_path(t->run, "checkpoints/average"))) {
        kd_weights *w = NULL;
        KD_TRY(kd_weights_open(kd_run_path(t->run, "checkpoints/average"), NULL, &w, err));
        const kd_status st = take(t, w, err);
        kd_weights_close(w);
        KD_TRY(st);
    } else {
        KD_TRY(mean_of_epochs(t, err));
        if (t->cfg->train.average_bn == KD_AVERAGE_BN_RECOMPUTE) {
            const int64_t micro = t->s.micro; /* a run that goes on knows nothing of the pass */
            KD_TRY(recompute(t, err));
            t->s.micro = micro;
        }
        KD_TRY(kdi_train_save(t, "average", err));
    }
    return KD_OK; /* the epochs' checkpoints stay: a run that goes on averages some of them again */
}
