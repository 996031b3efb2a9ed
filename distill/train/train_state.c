/* Training, checkpoints: what is written, and how a run is put back to where it was. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- counters -------------------------------------------------------------------------------- */

/* One list for writing and reading: a counter cannot be saved and forgotten. */
#define KD_STATE_INTS(X) X(epoch) X(batch) X(step) X(micro) X(skipped) X(broken) X(sum_batches) X(best_epoch)
#define KD_STATE_REALS(X)             \
    X(sum_loss, "sum_loss", "")       \
    X(sum_squares, "sum_squares", "") \
    X(best, "best_", t->figure)       \
    X(last, "last_", t->figure)       \
    X(first_loss, "first_loss", "")   \
    X(first_error, "first_error", "") \
    X(last_loss, "last_loss", "")
/* Of phases, patience and select: train; a counter that is 0 is not written. */
#define KD_STATE_MORE(X) X(phase) X(epoch0) X(step0) X(stale) X(stopped) X(hits) X(seen)

/* The key of a figure carries its name: "best_top1". */
static const char *key(const char *prefix, const char *name, char buf[64])
{
    (void)snprintf(buf, 64, "%s%s", prefix, name);
    return buf;
}

static kd_json *state_json(kd_trainer *t, const double *ctl)
{
    kd_json *doc = kd_json_object();
    char *yaml = kd_config_yaml(t->o->cfg, false, false);
    char hash[KD_CFG_HASH] = "", buf[64];
    (void)!kd_identity_recipe(&t->origin, t->o->cfg, hash, NULL);
    kd_json_set_str(doc, "kind", t->model.task->kind);
    kd_json_set_str(doc, "model", t->model.name);
    kd_json_set_str(doc, "lastkd", kd_version());
    kd_json_set_str(doc, "config_hash", hash);
    kd_json_set_str(doc, "config", yaml != NULL ? yaml : "");
    kd_json_set_str(doc, "data_set", t->data.name);
    kd_json_set_str(doc, "split", t->data.split);
    if (kdi_train_phase(t) != NULL) {
        kd_json_set_str(doc, "phase", kdi_train_phase(t));
    }
    if (t->cfg->train.select != KD_SELECT_VAL) {
        char select[KD_CFG_NAME];
        kd_json_set_str(doc, "selected_on", kd_config_enum_name("train.select", (int)t->cfg->train.select, select));
    }
    kd_json *names = kd_json_set_array(doc, "classes");
    for (int i = 0; i < t->data.n_classes; i++) {
        kd_json_push_str(names, t->data.classes[i]);
    }
    kd_identity_put(&t->origin, doc);
    kd_json *s = kd_json_set_object(doc, "training");
#define KD_PUT_INT(name) kd_json_set_i64(s, #name, t->s.name);
    KD_STATE_INTS(KD_PUT_INT)
#undef KD_PUT_INT
#define KD_PUT_MORE(name)                     \
    if (t->s.name != 0) {                     \
        kd_json_set_i64(s, #name, t->s.name); \
    }
    KD_STATE_MORE(KD_PUT_MORE)
#undef KD_PUT_MORE
#define KD_PUT_REAL(name, prefix, figure) kd_json_set_f64(s, key(prefix, figure, buf), t->s.name);
    KD_STATE_REALS(KD_PUT_REAL)
#undef KD_PUT_REAL
    kd_json_set_i64(s, "log_bytes", (int64_t)kd_run_log_bytes(t->run));
    kd_json_set_i64(s, "optimiser_steps", (int64_t)ctl[KD_CTL_T]);
    kd_json_set_f64(s, "loss_scale", ctl[KD_CTL_LOSS_SCALE]);
    kd_json_set_i64(s, "loss_scale_good_steps", (int64_t)ctl[KD_CTL_GOOD]);
    kd_free(yaml);
    return doc;
}

static kd_status read_counters(kd_trainer *t, const kd_json *state, kd_err *err)
{
    const kd_json *s = NULL;
    int64_t v = 0;
    double ctl[KD_CTL_COUNT] = {0.0};
    char buf[64];
    KD_TRY(kd_json_get_object(state, "training", &s, err));
#define KD_GET_INT(name) KD_TRY(kd_json_get_i64(s, #name, &t->s.name, err));
    KD_STATE_INTS(KD_GET_INT)
#undef KD_GET_INT
#define KD_GET_MORE(name) KD_TRY(kd_json_opt_i64(s, #name, 0, &t->s.name, err));
    KD_STATE_MORE(KD_GET_MORE)
#undef KD_GET_MORE
#define KD_GET_REAL(name, prefix, figure) KD_TRY(kd_json_get_f64(s, key(prefix, figure, buf), &t->s.name, err));
    KD_STATE_REALS(KD_GET_REAL)
#undef KD_GET_REAL
    KD_TRY(kd_json_get_range(s, "log_bytes", 0, INT64_MAX, &v, err));
    t->s.log_bytes = (uint64_t)v;
    KD_TRY(kd_json_get_range(s, "optimiser_steps", 0, INT64_MAX, &v, err));
    ctl[KD_CTL_T] = (double)v;
    KD_TRY(kd_json_get_f64(s, "loss_scale", &ctl[KD_CTL_LOSS_SCALE], err));
    KD_TRY(kd_json_get_range(s, "loss_scale_good_steps", 0, INT64_MAX, &v, err));
    ctl[KD_CTL_GOOD] = (double)v;
    return kd_optim_write_control(t->optim, ctl);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* A slab of the run (parameter values, buffers, one kind of optimiser state), its host copy, its place in a group. */
typedef struct slab_copy {
    const char *prefix; /* "exp_avg"; NULL: tensors have the parameters' own names */
    void *device;
    float *host; /* the slab itself, where the device's memory is the host's */
    size_t bytes;
    bool of_buffers;
} slab_copy;

/* The tensors of one checkpoint file. */
typedef struct group {
    slab_copy slab[4];
    int n_slabs;
    kd_st_tensor *tensor;
    char **names; /* owned */
    size_t n;
} group;

static void group_free(group *g)
{
    for (size_t i = 0; g->names != NULL && i < g->n; i++) {
        kd_free(g->names[i]);
    }
    for (int i = 0; i < g->n_slabs; i++) {
        kd_free(g->slab[i].host != g->slab[i].device ? g->slab[i].host : NULL);
    }
    kd_free(g->names);
    kd_free(g->tensor);
}

static kd_status add_slab(group *g, kd_params *p, const char *prefix, void *device, bool of_buffers)
{
    const int64_t numel = of_buffers ? kd_params_buffer_numel(p) : kd_params_slab_numel(p);
    if (numel == 0) {
        return KD_OK;
    }
    slab_copy *s = &g->slab[g->n_slabs++];
    float *host = kd_params_backend(p)->ops->host ? device : kd_calloc((size_t)numel, sizeof(float));
    *s = (slab_copy){prefix, device, host, (size_t)numel * sizeof(float), of_buffers};
    for (int i = 0; i < kd_params_count(p) && s->host != NULL; i++) {
        const kd_param_info *e = kd_params_at(p, i);
        if (e->buffer != of_buffers) {
            continue;
        }
        g->names[g->n] = kd_strf("%s%s%s", prefix != NULL ? prefix : "", prefix != NULL ? "." : "", e->name);
        if (g->names[g->n] == NULL) {
            return KD_E_OOM;
        }
        g->tensor[g->n] = (kd_st_tensor){.name = g->names[g->n],
                                         .dtype = KD_ST_F32,
                                         .rank = (size_t)e->shape.rank,
                                         .dim = e->shape.dim,
                                         .data = s->host + e->offset};
        g->n++;
    }
    return s->host != NULL ? KD_OK : KD_E_OOM;
}

static kd_status group_open(group *g, kd_trainer *t, bool optimiser)
{
    kd_params *p = t->model.params;
    const size_t most = 4 * (size_t)kd_params_count(p) + 1;
    g->tensor = kd_calloc(most, sizeof *g->tensor);
    g->names = kd_calloc(most, sizeof *g->names);
    if (g->tensor == NULL || g->names == NULL) {
        return KD_E_OOM;
    }
    if (!optimiser) {
        KD_TRY(add_slab(g, p, NULL, kd_params_value_slab(p), false));
        return add_slab(g, p, NULL, kd_params_buffer_slab(p), true);
    }
    const char *name;
    void *slab;
    bool of_buffers;
    for (int slot = 0; kd_optim_state(t->optim, slot, &name, &slab, &of_buffers); slot++) {
        KD_TRY(add_slab(g, p, name, slab, of_buffers));
    }
    return KD_OK;
}

static kd_status group_copy(const group *g, kd_backend *be, bool to_host)
{
    for (int i = 0; i < g->n_slabs; i++) {
        const slab_copy *s = &g->slab[i];
        if (s->host == s->device) {
            continue;
        }
        KD_TRY(to_host ? be->ops->download(be, s->host, s->device, s->bytes)
                       : be->ops->upload(be, s->device, s->host, s->bytes));
    }
    return KD_OK;
}

/* Weights that are not finite never replace those that are. */
static kd_status check_finite(const group *g, const char *kept, kd_err *err)
{
    for (size_t i = 0; i < g->n; i++) {
        const kd_st_tensor *x = &g->tensor[i];
        const float *v = x->data;
        size_t n = 1;
        for (size_t d = 0; d < x->rank; d++) {
            n *= (size_t)x->dim[d];
        }
        for (size_t k = 0; k < n; k++) {
            if (!isfinite(v[k])) {
                return KD_FAIL(err, KD_E_NUMERIC,
                               "weights: %s is not finite (value %zu): the run diverged; the last "
                               "good state is in %s",
                               x->name, k, kept);
            }
        }
    }
    return KD_OK;
}

kd_status kdi_train_save(kd_trainer *t, const char *name, kd_err *err)
{
    char sub[80];
    group model = {0}, optim = {0};
    double ctl[KD_CTL_COUNT];
    kd_json *state = NULL;
    kd_status st = KD_OK;
    (void)snprintf(sub, sizeof sub, "checkpoints/%s", name);
    if (group_open(&model, t, false) != KD_OK || group_open(&optim, t, true) != KD_OK ||
        group_copy(&model, t->o->be, true) != KD_OK || group_copy(&optim, t->o->be, true) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "checkpoint %s: out of memory", sub);
        goto done;
    }
    KD_GO(check_finite(&model, kd_run_path(t->run, "checkpoints"), err));
    if (kd_optim_read_control(t->optim, ctl) != KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "checkpoint %s: the device does not answer", sub);
        goto done;
    }
    state = state_json(t, ctl);
    const bool last = strcmp(name, "last") == 0;
    if (last && t->origin.peer > 0) {
        KD_GO(kdi_mutual_set_aside(t, err));
    }
    const kd_ckpt_group groups[2] = {{"model", model.tensor, model.n}, {"optim", optim.tensor, optim.n}};
    KD_GO(kd_ckpt_save(kd_run_path(t->run, sub), groups, last ? 2 : 1, state, last, err));
    kd_log(KD_LOG_VERBOSE, "%s: written at epoch %lld, batch %lld, step %lld", kd_run_path(t->run, sub),
           (long long)t->s.epoch + 1, (long long)t->s.batch, (long long)t->s.step);
done:
    kd_json_free(state);
    group_free(&model);
    group_free(&optim);
    return st;
}

/* ---- resume ---------------------------------------------------------------------------------- */

static kd_status copy_tensors(const kd_st_file *f, const group *l, const char *dir, const char *name, kd_err *err)
{
    if (f == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: has no %s.safetensors", dir, name);
    }
    for (size_t i = 0; i < l->n; i++) {
        const kd_st_tensor *want = &l->tensor[i];
        const kd_st_entry *e = NULL;
        const kd_status st = kd_st_need(f, want->name, KD_ST_F32, (int)want->rank, want->dim, &e, err);
        if (st != KD_OK) {
            return kd_err_prefix(err, st, "%s/%s.safetensors", dir, name);
        }
        memcpy((void *)(uintptr_t)want->data, e->data, e->bytes); /* points into our own host copy */
    }
    return KD_OK;
}

kd_status kdi_train_peek_phase(kd_trainer *t, kd_err *err)
{
    const kd_json *s = NULL;
    KD_TRY(kd_json_get_object(kd_ckpt_state(t->before), "training", &s, err));
    KD_TRY(kd_json_opt_i64(s, "phase", 0, &t->s.phase, err));
    if (t->s.phase < 0 || t->s.phase >= KD_MAX(t->o->cfg->phases.n, 1)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: phase %lld of %d", kd_ckpt_dir(t->before), (long long)t->s.phase,
                       t->o->cfg->phases.n);
    }
    return KD_OK;
}

kd_status kdi_train_load(kd_trainer *t, kd_err *err)
{
    group model = {0}, optim = {0};
    kd_ckpt *const c = t->before;
    kd_status st = KD_OK;
    if (group_open(&model, t, false) != KD_OK || group_open(&optim, t, true) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "resume: out of memory");
        goto done;
    }
    KD_GO(copy_tensors(kd_ckpt_tensors(c, "model"), &model, kd_ckpt_dir(c), "model", err));
    KD_GO(copy_tensors(kd_ckpt_tensors(c, "optim"), &optim, kd_ckpt_dir(c), "optim", err));
    KD_GO(read_counters(t, kd_ckpt_state(c), err));
    KD_GO(group_copy(&model, t->o->be, false));
    KD_GO(group_copy(&optim, t->o->be, false));
    KD_GO(kd_params_changed(t->model.params));
    KD_GO(kd_run_log_cut(t->run, t->s.log_bytes, err));
    if (t->s.stopped != 0) {
        kd_log(KD_LOG_INFO, "resumed from %s: the %s ended early, in epoch %lld (train.patience)", kd_ckpt_dir(c),
               kdi_train_phase(t) != NULL ? "phase" : "run", (long long)t->s.epoch);
    } else if (t->s.epoch >= kdi_train_end(t) && kdi_train_phase(t) != NULL) {
        kd_log(KD_LOG_INFO, "resumed from %s: all %d epochs of phase %s are done", kd_ckpt_dir(c), t->cfg->train.epochs,
               kdi_train_phase(t));
    } else if (t->s.epoch >= kdi_train_end(t)) {
        kd_log(KD_LOG_INFO, "resumed from %s: all %d epochs are done; --epochs N with a larger N trains on",
               kd_ckpt_dir(c), t->cfg->train.epochs);
    } else {
        kd_log(KD_LOG_INFO, "resumed from %s: epoch %lld, batch %lld, step %lld", kd_ckpt_dir(c),
               (long long)t->s.epoch + 1, (long long)t->s.batch, (long long)t->s.step);
    }
done:
    group_free(&model);
    group_free(&optim);
    return st;
}
