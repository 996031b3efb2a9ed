/* Optimisers over the parameter slabs: see kd_optim.h. */
#include "kernels/kd_optim.h"

struct kd_optim {
    kd_params *params;
    kd_backend *be;
    kd_optim_cfg cfg;
    kd_dtype stat, act; /* of the parameters; of their low-precision copy (stat when there is none) */
    int64_t numel, buffers, segments;
    void *m, *v, *ema, *ema_buffers; /* SGD: m is the momentum buffer, v absent */
    int64_t *seg;                    /* device (S,2): offset, count */
    float *seg_f, *seg_f_host;       /* device and host (S,2): learning rate factor, weight decay */
    double *sum;                     /* device scalar: squared gradient norm */
    double *ctl;                     /* device (KD_CTL_COUNT) */
    kd_optim_control_attr control_attr;
    kd_adamw_attr adamw_attr;
    kd_sgd_attr sgd_attr;
    kd_ema_attr ema_attr;
    kd_bound norm, control, update, average;
    kd_recorded recorded;
};

static kd_status slab(kd_optim *o, void **out, int64_t numel, kd_err *err)
{
    if (numel == 0 || o->be->ops->alloc(o->be, (size_t)numel * kd_dtype_size(o->stat), out) == KD_OK) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_OOM, "optimiser: no memory for %lld values of state", (long long)numel);
}

/* One segment a trainable tensor. */
static kd_status segments(kd_optim *o, kd_err *err)
{
    const int n = kd_params_count(o->params);
    int64_t *seg = kd_calloc((size_t)n + 1, 2 * sizeof *seg);
    float *seg_f = o->seg_f_host = kd_calloc((size_t)n + 1, 2 * sizeof *seg_f);
    kd_status st = seg != NULL && seg_f != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "optimiser: out of memory");
    for (int i = 0; i < n && st == KD_OK; i++) {
        const kd_param_info *e = kd_params_at(o->params, i);
        if (e->buffer || (e->flags & KD_PARAM_FROZEN) != 0) {
            continue;
        }
        seg[2 * o->segments] = e->offset;
        seg[2 * o->segments + 1] = e->numel;
        seg_f[2 * o->segments] = e->lr_scale;
        seg_f[2 * o->segments + 1] = e->decay ? (float)o->cfg.weight_decay : 0.0f;
        o->segments++;
    }
    const size_t ns = (size_t)o->segments * 2 * sizeof *seg, nf = (size_t)o->segments * 2 * sizeof *seg_f;
    if (st == KD_OK && (o->be->ops->alloc(o->be, ns, (void **)&o->seg) != KD_OK ||
                        o->be->ops->alloc(o->be, nf, (void **)&o->seg_f) != KD_OK ||
                        o->be->ops->upload(o->be, o->seg, seg, ns) != KD_OK ||
                        o->be->ops->upload(o->be, o->seg_f, seg_f, nf) != KD_OK)) {
        st = KD_FAIL(err, KD_E_OOM, "optimiser: out of memory");
    }
    kd_free(seg);
    return st;
}

static kd_tensor flat(void *data, kd_dtype dtype, int64_t n)
{
    return (kd_tensor){data, dtype, kd_shape1(n)};
}

static kd_tensor control_block(const kd_optim *o)
{
    return flat(o->ctl, KD_F64, KD_CTL_COUNT);
}

static kd_status bind_norm(kd_optim *o)
{
    const kd_tensor g = flat(kd_params_grad_slab(o->params), o->stat, o->numel);
    const kd_tensor sum = {o->sum, KD_F64, kd_shape0()};
    const kd_tensor in[2] = {control_block(o), sum};
    const kd_call norm = {.in = &g, .out = &sum, .n_in = 1, .n_out = 1};
    const kd_call control = {.in = in, .out = in, .n_in = 2, .n_out = 1, .attr = &o->control_attr};
    KD_TRY(kd_bind(o->be, KD_OP_GRAD_NORM, o->act, &norm, &o->norm));
    return kd_bind(o->be, KD_OP_OPTIM_CONTROL, o->act, &control, &o->control);
}

static kd_status bind_update(kd_optim *o)
{
    const bool adam = o->cfg.kind == KD_OPTIM_ADAMW;
    kd_tensor in[KD_MAX_IN];
    int n = 0;
    in[n++] = flat(kd_params_value_slab(o->params), o->stat, o->numel);
    in[n++] = flat(o->m, o->stat, o->numel);
    if (adam) {
        in[n++] = flat(o->v, o->stat, o->numel);
    }
    in[n++] = flat(o->ema, o->stat, o->numel);
    in[n++] = flat(kd_params_shadow_slab(o->params), o->act, o->numel);
    const int n_out = n;
    in[n++] = flat(kd_params_grad_slab(o->params), o->stat, o->numel);
    in[n++] = (kd_tensor){o->seg, KD_I64, kd_shape2(o->segments, 2)};
    in[n++] = (kd_tensor){o->seg_f, KD_F32, kd_shape2(o->segments, 2)};
    in[n++] = control_block(o);
    const void *attr = adam ? (const void *)&o->adamw_attr : (const void *)&o->sgd_attr;
    const kd_call c = {.in = in, .out = in, .n_in = n, .n_out = n_out, .attr = attr};
    return kd_bind(o->be, adam ? KD_OP_ADAMW : KD_OP_SGD, o->act, &c, &o->update);
}

static kd_status bind_average(kd_optim *o)
{
    if (o->ema_buffers == NULL) {
        return KD_OK;
    }
    const kd_tensor in[3] = {flat(o->ema_buffers, o->stat, o->buffers),
                             flat(kd_params_buffer_slab(o->params), o->stat, o->buffers), control_block(o)};
    const kd_call c = {.in = in, .out = in, .n_in = 3, .n_out = 1, .attr = &o->ema_attr};
    return kd_bind(o->be, KD_OP_EMA, o->act, &c, &o->average);
}

static kd_status allocate(kd_optim *o, kd_err *err)
{
    const kd_optim_cfg *cfg = &o->cfg;
    if (cfg->kind == KD_OPTIM_ADAMW || cfg->momentum != 0.0) {
        KD_TRY(slab(o, &o->m, o->numel, err));
    }
    if (cfg->kind == KD_OPTIM_ADAMW) {
        KD_TRY(slab(o, &o->v, o->numel, err));
    }
    if (cfg->ema_decay > 0.0) {
        const size_t size = kd_dtype_size(o->stat);
        kd_backend *be = o->be;
        KD_TRY(slab(o, &o->ema, o->numel, err));
        KD_TRY(slab(o, &o->ema_buffers, o->buffers, err));
        KD_TRY(be->ops->upload(be, o->ema, kd_params_value_slab(o->params), (size_t)o->numel * size));
        KD_TRY(be->ops->upload(be, o->ema_buffers, kd_params_buffer_slab(o->params), (size_t)o->buffers * size));
    }
    const double ctl[KD_CTL_COUNT] = {[KD_CTL_LOSS_SCALE] = cfg->loss_scale > 0.0 ? cfg->loss_scale : 1.0};
    if (o->be->ops->alloc(o->be, sizeof *o->sum, (void **)&o->sum) != KD_OK ||
        o->be->ops->alloc(o->be, sizeof ctl, (void **)&o->ctl) != KD_OK) {
        return KD_FAIL(err, KD_E_OOM, "optimiser: out of memory");
    }
    return kd_optim_write_control(o, ctl);
}

kd_status kd_optim_create(kd_params *params, const kd_optim_cfg *cfg, kd_optim **out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = NULL;
    kd_optim *o = kd_calloc(1, sizeof *o);
    if (o == NULL) {
        return KD_FAIL(err, KD_E_OOM, "optimiser: out of memory");
    }
    o->params = params;
    o->be = kd_params_backend(params);
    o->cfg = *cfg;
    o->stat = kd_params_dtype(params);
    o->act = kd_params_shadow_dtype(params);
    o->numel = kd_params_slab_numel(params);
    o->buffers = kd_params_buffer_numel(params);
    o->control_attr = (kd_optim_control_attr){cfg->clip_grad, cfg->beta1, cfg->beta2,
                                              cfg->loss_scale > 0.0 ? cfg->loss_scale_grow : 0};
    o->adamw_attr = (kd_adamw_attr){cfg->beta1, cfg->beta2, cfg->eps, cfg->ema_decay};
    o->sgd_attr = (kd_sgd_attr){cfg->momentum, cfg->nesterov, cfg->ema_decay};
    o->ema_attr = (kd_ema_attr){cfg->ema_decay};
    if (kd_params_grad_slab(params) == NULL) {
        st = KD_FAIL(err, KD_E_STATE, "optimiser: the parameters have no gradients");
        goto done;
    }
    KD_GO(segments(o, err));
    KD_GO(allocate(o, err));
    KD_GO(bind_norm(o));
    KD_GO(bind_update(o));
    KD_GO(bind_average(o));
done:
    if (st != KD_OK) {
        kd_optim_free(o);
        return err != NULL && err->code == KD_OK ? KD_FAIL(err, st, "optimiser: %s", kd_status_text(st)) : st;
    }
    *out = o;
    return KD_OK;
}

void kd_optim_free(kd_optim *o)
{
    if (o == NULL) {
        return;
    }
    kd_recorded_drop(o->be, &o->recorded);
    kd_bound_free(&o->norm);
    kd_bound_free(&o->control);
    kd_bound_free(&o->update);
    kd_bound_free(&o->average);
    kd_free(o->seg_f_host);
    void *const all[] = {o->m, o->v, o->ema, o->ema_buffers, o->seg, o->seg_f, o->sum, o->ctl};
    for (size_t i = 0; i < KD_COUNTOF(all); i++) {
        o->be->ops->free(o->be, all[i]);
    }
    kd_free(o);
}

/* ---- one step -------------------------------------------------------------------------------- */

/* The captured part of a step: it reads no number from the host. */
static kd_status apply(void *user)
{
    kd_optim *o = user;
    KD_TRY(kd_bound_run(&o->norm));
    KD_TRY(kd_bound_run(&o->control));
    KD_TRY(kd_bound_run(&o->update));
    if (o->average.def != NULL) {
        KD_TRY(kd_bound_run(&o->average));
    }
    return kd_params_zero_grad(o->params);
}

kd_status kd_optim_step(kd_optim *o, double lr, double *norm)
{
    double ctl[KD_CTL_COUNT];
    KD_TRY(o->be->ops->feed(o->be, o->ctl + KD_CTL_LR, &lr, sizeof lr));
    KD_TRY(kd_recorded_run(o->be, &o->recorded, apply, o));
    kd_params_updated(o->params);
    if (norm == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_optim_read_control(o, ctl));
    *norm = ctl[KD_CTL_NORM];
    return ctl[KD_CTL_APPLY] != 0.0 ? KD_OK : KD_E_NUMERIC;
}

kd_status kd_optim_set_decay(kd_optim *o, double weight_decay)
{
    o->cfg.weight_decay = weight_decay;
    int64_t s = 0;
    for (int i = 0; i < kd_params_count(o->params); i++) {
        const kd_param_info *e = kd_params_at(o->params, i);
        if (!e->buffer && (e->flags & KD_PARAM_FROZEN) == 0) {
            o->seg_f_host[2 * s++ + 1] = e->decay ? (float)weight_decay : 0.0f;
        }
    }
    return o->be->ops->feed(o->be, o->seg_f, o->seg_f_host, (size_t)o->segments * 2 * sizeof *o->seg_f_host);
}

const double *kd_optim_control(const kd_optim *o)
{
    return o->ctl;
}

const double *kd_optim_loss_scale(const kd_optim *o)
{
    return o->cfg.loss_scale > 0.0 ? o->ctl + KD_CTL_LOSS_SCALE : NULL;
}

kd_status kd_optim_read_control(kd_optim *o, double ctl[KD_CTL_COUNT])
{
    return o->be->ops->download(o->be, ctl, o->ctl, KD_CTL_COUNT * sizeof *ctl);
}

kd_status kd_optim_write_control(kd_optim *o, const double ctl[KD_CTL_COUNT])
{
    return o->be->ops->upload(o->be, o->ctl, ctl, KD_CTL_COUNT * sizeof *ctl);
}

bool kd_optim_state(const kd_optim *o, int slot, const char **name, void **slab_out, bool *of_buffers)
{
    const bool adam = o->cfg.kind == KD_OPTIM_ADAMW;
    const struct {
        const char *name;
        void *slab;
        bool of_buffers;
    } all[] = {{adam ? "exp_avg" : "momentum_buffer", o->m, false},
               {"exp_avg_sq", o->v, false},
               {"ema", o->ema, false},
               {"ema_buffers", o->ema_buffers, true}};
    for (size_t i = 0; i < KD_COUNTOF(all); i++) {
        if (all[i].slab == NULL) {
            continue;
        }
        if (slot-- == 0) {
            *name = all[i].name;
            *slab_out = all[i].slab;
            *of_buffers = all[i].of_buffers;
            return true;
        }
    }
    return false;
}

static kd_status exchange(kd_optim *o, void *a, void *b, int64_t n)
{
    const size_t bytes = (size_t)n * kd_dtype_size(o->stat);
    char *x = kd_alloc(2 * bytes);
    if (x == NULL) {
        return KD_E_OOM;
    }
    kd_status st = o->be->ops->download(o->be, x, a, bytes);
    st = st == KD_OK ? o->be->ops->download(o->be, x + bytes, b, bytes) : st;
    st = st == KD_OK ? o->be->ops->upload(o->be, a, x + bytes, bytes) : st;
    st = st == KD_OK ? o->be->ops->upload(o->be, b, x, bytes) : st;
    kd_free(x);
    return st;
}

kd_status kd_optim_swap_ema(kd_optim *o)
{
    if (o->ema == NULL) {
        return KD_E_STATE;
    }
    KD_TRY(exchange(o, kd_params_value_slab(o->params), o->ema, o->numel));
    if (o->ema_buffers != NULL) {
        KD_TRY(exchange(o, kd_params_buffer_slab(o->params), o->ema_buffers, o->buffers));
    }
    return kd_params_changed(o->params);
}
