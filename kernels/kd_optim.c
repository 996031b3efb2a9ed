/* Optimisers over the parameter slabs: see kd_optim.h. */
#include "kernels/kd_optim.h"

#include "kernels/kd_ops.h"

#include <math.h>

struct kd_optim {
    kd_params *params;
    kd_backend *be;
    kd_optim_cfg cfg;
    int64_t t; /* steps applied */
    kd_dtype stat;
    int64_t numel, buffers, segments;
    void *m, *v, *ema, *ema_buffers; /* SGD: m is the momentum buffer, v absent */
    int64_t *seg;                    /* device (S,2): offset, count */
    float *seg_f;                    /* device (S,2): learning rate factor, weight decay */
    double *norm;                    /* device scalar */
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
    float *seg_f = kd_calloc((size_t)n + 1, 2 * sizeof *seg_f);
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
    if (st == KD_OK &&
        (o->be->ops->alloc(o->be, ns, (void **)&o->seg) != KD_OK ||
         o->be->ops->alloc(o->be, nf, (void **)&o->seg_f) != KD_OK ||
         o->be->ops->alloc(o->be, sizeof *o->norm, (void **)&o->norm) != KD_OK ||
         o->be->ops->upload(o->be, o->seg, seg, ns) != KD_OK || o->be->ops->upload(o->be, o->seg_f, seg_f, nf) != KD_OK)) {
        st = KD_FAIL(err, KD_E_OOM, "optimiser: out of memory");
    }
    kd_free(seg);
    kd_free(seg_f);
    return st;
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
    o->numel = kd_params_slab_numel(params);
    o->buffers = kd_params_buffer_numel(params);
    if (kd_params_grad_slab(params) == NULL) {
        st = KD_FAIL(err, KD_E_STATE, "optimiser: the parameters have no gradients");
        goto done;
    }
    KD_GO(segments(o, err));
    if (cfg->kind == KD_OPTIM_ADAMW || cfg->momentum != 0.0) {
        KD_GO(slab(o, &o->m, o->numel, err));
    }
    if (cfg->kind == KD_OPTIM_ADAMW) {
        KD_GO(slab(o, &o->v, o->numel, err));
    }
    if (cfg->ema_decay > 0.0) {
        const size_t size = kd_dtype_size(o->stat);
        KD_GO(slab(o, &o->ema, o->numel, err));
        KD_GO(slab(o, &o->ema_buffers, o->buffers, err));
        KD_GO(o->be->ops->upload(o->be, o->ema, kd_params_value_slab(params), (size_t)o->numel * size));
        KD_GO(o->be->ops->upload(o->be, o->ema_buffers, kd_params_buffer_slab(params), (size_t)o->buffers * size));
    }
done:
    if (st != KD_OK) {
        kd_optim_free(o);
        return st;
    }
    *out = o;
    return KD_OK;
}

void kd_optim_free(kd_optim *o)
{
    if (o == NULL) {
        return;
    }
    void *const all[] = {o->m, o->v, o->ema, o->ema_buffers, o->seg, o->seg_f, o->norm};
    for (size_t i = 0; i < KD_COUNTOF(all); i++) {
        o->be->ops->free(o->be, all[i]);
    }
    kd_free(o);
}

/* ---- one step --------------------------------------------------------------------------------------------------------- */

static kd_tensor flat(void *data, kd_dtype dtype, int64_t n)
{
    return (kd_tensor){data, dtype, kd_shape1(n)};
}

static kd_status gradient_norm(kd_optim *o, double *norm)
{
    const kd_tensor in = flat(kd_params_grad_slab(o->params), o->stat, o->numel);
    const kd_tensor out = {o->norm, KD_F64, kd_shape0()};
    kd_call c = {.in = &in, .out = &out, .n_in = 1, .n_out = 1};
    double sum = 0.0;
    KD_TRY(kd_backend_call(o->be, KD_OP_GRAD_NORM, o->stat, &c));
    KD_TRY(o->be->ops->download(o->be, &sum, o->norm, sizeof sum));
    *norm = sqrt(sum);
    return KD_OK;
}

static kd_status update(kd_optim *o, double lr, double grad_mult)
{
    const kd_optim_cfg *g = &o->cfg;
    const bool adam = g->kind == KD_OPTIM_ADAMW;
    const double t = (double)o->t;
    const kd_adamw_attr aa = {.lr = lr, .beta1 = g->beta1, .beta2 = g->beta2, .eps = g->eps,
                              .bias1 = 1.0 - pow(g->beta1, t), .bias2 = 1.0 - pow(g->beta2, t),
                              .grad_mult = grad_mult, .ema_decay = g->ema_decay};
    const kd_sgd_attr sa = {.lr = lr, .momentum = g->momentum, .nesterov = g->nesterov, .first = o->t == 1,
                            .grad_mult = grad_mult, .ema_decay = g->ema_decay};
    kd_tensor in[7];
    int n = 0;
    in[n++] = flat(kd_params_value_slab(o->params), o->stat, o->numel);
    in[n++] = flat(o->m, o->stat, o->numel);
    if (adam) {
        in[n++] = flat(o->v, o->stat, o->numel);
    }
    in[n++] = flat(o->ema, o->stat, o->numel);
    const int n_out = n;
    in[n++] = flat(kd_params_grad_slab(o->params), o->stat, o->numel);
    in[n++] = (kd_tensor){o->seg, KD_I64, kd_shape2(o->segments, 2)};
    in[n++] = (kd_tensor){o->seg_f, KD_F32, kd_shape2(o->segments, 2)};
    kd_call c = {.in = in, .out = in, .n_in = n, .n_out = n_out, .attr = adam ? (const void *)&aa : (const void *)&sa};
    return kd_backend_call(o->be, adam ? KD_OP_ADAMW : KD_OP_SGD, o->stat, &c);
}

static kd_status average_buffers(kd_optim *o)
{
    if (o->ema_buffers == NULL) {
        return KD_OK;
    }
    const kd_ema_attr attr = {o->cfg.ema_decay};
    const kd_tensor in[2] = {flat(o->ema_buffers, o->stat, o->buffers),
                             flat(kd_params_buffer_slab(o->params), o->stat, o->buffers)};
    kd_call c = {.in = in, .out = in, .n_in = 2, .n_out = 1, .attr = &attr};
    return kd_backend_call(o->be, KD_OP_EMA, o->stat, &c);
}

kd_status kd_optim_step(kd_optim *o, double lr, double *norm)
{
    double n = 0.0;
    KD_TRY(gradient_norm(o, &n));
    if (norm != NULL) {
        *norm = n;
    }
    if (!isfinite(n)) {
        KD_TRY(kd_params_zero_grad(o->params));
        return KD_E_NUMERIC;
    }
    const double clip = o->cfg.clip_grad > 0.0 ? o->cfg.clip_grad / (n + 1e-6) : 1.0;
    o->t++;
    KD_TRY(update(o, lr, clip < 1.0 ? clip : 1.0));
    KD_TRY(average_buffers(o));
    KD_TRY(kd_params_zero_grad(o->params));
    return kd_params_changed(o->params);
}

int64_t kd_optim_steps(const kd_optim *o)
{
    return o->t;
}

void kd_optim_set_steps(kd_optim *o, int64_t t)
{
    o->t = t;
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
