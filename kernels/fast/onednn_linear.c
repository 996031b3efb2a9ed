/* linear, linear_bwd_x and linear_bwd_w as products of oneDNN (onednn.c). */
#include "kernels/fast/onednn.h"
#include "kernels/fast/rows.h"
#include "kernels/kd_ops.h"

static bool weight_is_static(const kd_call *c)
{
    return (c->static_in & 2u) != 0;
}

static kd_dnnl_product linear_of(const kd_call *c)
{
    const kd_linear_attr *at = c->attr;
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return (kd_dnnl_product){.m = kd_shape_numel(&c->in[0].shape) / ci,
                             .n = co,
                             .k = ci,
                             .b_t = true,
                             .in = c->in[0].dtype,
                             .out = c->out[0].dtype,
                             .act = at->act,
                             .bias = c->n_in > 2 && c->in[2].shape.rank >= 0 && c->in[2].data != NULL};
}

static size_t linear_scratch(const kd_call *c)
{
    kd_dnnl_product p = linear_of(c);
    p.bias = c->n_in > 2 && c->in[2].shape.rank >= 0;
    p.pack_b = weight_is_static(c);
    return kd_dnnl_scratch(&p);
}

static kd_status linear_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    if (kd_fast_keeps_pre(c) || ((const kd_linear_attr *)c->attr)->act == KD_ACT_RELU) { /* oneDNN's turns NaN into 0 */
        return KD_E_UNSUPPORTED;
    }
    return kd_dnnl_prepare(c, linear_of(c), weight_is_static(c) ? c->in[1].data : NULL);
}

static kd_status linear_run(const kd_call *c)
{
    void *bias = c->n_in > 2 ? c->in[2].data : NULL;
    return kd_dnnl_run(c, c->in[0].data, c->in[1].data, bias, c->out[0].data);
}

/* dx (m,ci) = dy (m,co) W (co,ci) */
static kd_dnnl_product bwd_x_of(const kd_call *c)
{
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return (kd_dnnl_product){
        .m = kd_shape_numel(&c->in[0].shape) / co, .n = ci, .k = co, .in = c->in[0].dtype, .out = c->out[0].dtype};
}

static size_t bwd_x_scratch(const kd_call *c)
{
    const kd_dnnl_product p = bwd_x_of(c);
    return kd_dnnl_scratch(&p);
}

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    /* dy of a layer whose output is stat while W is bf16: mixed products are the reference's
     * business */
    return c->in[0].dtype == c->in[1].dtype && !kd_fast_takes_pre(c) ? kd_dnnl_prepare(c, bwd_x_of(c), NULL)
                                                                     : KD_E_UNSUPPORTED;
}

static kd_status bwd_x_run(const kd_call *c)
{
    return kd_dnnl_run(c, c->in[0].data, c->in[1].data, NULL, c->out[0].data);
}

/* dW (co,ci) (+)= dy (m,co)^T x (m,ci) */
static kd_dnnl_product bwd_w_of(const kd_call *c)
{
    const kd_shape *dy = &c->in[0].shape, *x = &c->in[1].shape;
    const int64_t co = dy->dim[dy->rank - 1], ci = x->dim[x->rank - 1];
    return (kd_dnnl_product){.m = co,
                             .n = ci,
                             .k = kd_shape_numel(x) / ci,
                             .a_t = true,
                             .in = c->in[0].dtype,
                             .out = KD_F32,
                             .add = (c->accum & 1u) != 0};
}

static size_t bwd_w_scratch(const kd_call *c)
{
    const kd_dnnl_product p = bwd_w_of(c);
    return kd_dnnl_scratch(&p);
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_dnnl_product p = bwd_w_of(c);
    const int64_t divided = (int64_t)1 << 20; /* for smaller results oneDNN divides k among threads: other bits */
    if (c->in[0].dtype != c->in[1].dtype || c->out[0].data == NULL || p.m * p.n < divided) {
        return KD_E_UNSUPPORTED;
    }
    return kd_dnnl_prepare(c, p, NULL);
}

static kd_status bwd_w_run(const kd_call *c)
{
    const kd_dnnl_product p = bwd_w_of(c);
    KD_TRY(kd_dnnl_run(c, c->in[0].data, c->in[1].data, NULL, c->out[0].data));
    if (c->n_out > 1 && c->out[1].data != NULL) {
        kd_fast_column_sum(c->in[0].data, p.k, p.m, c->in[0].dtype == KD_BF16, (c->accum & 2u) != 0, c->out[1].data);
    }
    return KD_OK;
}

const kd_kernel_def kd_fast_linear_dnnl = {
    .run = linear_run, .scratch = linear_scratch, .prepare = linear_prepare, .release = kd_dnnl_release};
const kd_kernel_def kd_fast_linear_bwd_x_dnnl = {
    .run = bwd_x_run, .scratch = bwd_x_scratch, .prepare = bwd_x_prepare, .release = kd_dnnl_release};
const kd_kernel_def kd_fast_linear_bwd_w_dnnl = {
    .run = bwd_w_run, .scratch = bwd_w_scratch, .prepare = bwd_w_prepare, .release = kd_dnnl_release};
