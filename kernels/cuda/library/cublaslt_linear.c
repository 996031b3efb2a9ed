/* linear, linear_bwd_x and linear_bwd_w through cuBLASLt.
 *
 * cuBLASLt is column-major, we are row-major: a row-major (r,c) matrix is its column-major (c,r) transpose, so every
 * product is written for its transpose and nothing is moved.  With x (M,Ci), W (Co,Ci), y and dy (M,Co):
 *
 *   linear        y^T  (Co,M)  = W x^T     A = W, stored (Ci,Co), T     B = x, stored (Ci,M), N     m Co, n M,  k Ci
 *   linear_bwd_x  dx^T (Ci,M)  = W^T dy^T  A = W, stored (Ci,Co), N     B = dy, stored (Co,M), N    m Ci, n M,  k Co
 *   linear_bwd_w  dW^T (Ci,Co) = x^T dy    A = x, stored (Ci,M), N      B = dy, stored (Co,M), T    m Ci, n Co, k M
 *
 * The bias has m elements, one a row of D: epilogue BIAS.  Its type must be that of D, ours is f32: beside a half-width
 * D it is cast into scratch first.  Activations run afterwards, in place, by our own kernel: the library's GELU is the
 * tanh form (ours is exact), its ReLU makes 0 of NaN.  The bias gradient is the sum of dy over k, B's side: epilogue
 * BGRADB (which writes, never adds), or our column sum where that is faster. */
#include "kernels/cuda/library/cublaslt.h"
/* ---- linear ---------------------------------------------------------------------------------- */

static bool has_bias(const kd_call *c)
{
    return c->n_in > 2 && c->in[2].data != NULL;
}

/* A bias in another type than the output's is cast into scratch, after the workspace. */
static bool casts_bias(const kd_call *c)
{
    return has_bias(c) && c->in[2].dtype != c->out[0].dtype;
}

/* The product itself.  With an activation that also stores pre, a second kernel computes y. */
static const kd_tensor *product_of(const kd_call *c)
{
    return c->n_out > 1 && c->out[1].data != NULL ? &c->out[1] : &c->out[0];
}

static kd_status linear_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    kd_gemm g;
    memset(&g, 0, sizeof g);
    g.m = co;
    g.n = ci > 0 ? kd_shape_numel(&c->in[0].shape) / ci : 0;
    g.k = ci;
    g.lda = g.ldb = ci;
    g.ta = CUBLAS_OP_T;
    g.tb = CUBLAS_OP_N;
    g.epilogue = has_bias(c) ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (c->in[0].dtype != c->in[1].dtype ||
        !kd_lt_complete(&g, c->in[0].dtype, product_of(c)->dtype, c->in[1].data, c->in[0].data, product_of(c)->data,
                        has_bias(c) && !casts_bias(c) ? c->in[2].data : NULL)) {
        return KD_E_UNSUPPORTED;
    }
    return kd_lt_prepare(c, &g, c->in[1].data, c->in[0].data);
}

static size_t linear_scratch(const kd_call *c)
{
    const size_t bias = casts_bias(c) ? (size_t)c->in[1].shape.dim[0] * kd_dtype_size(c->out[0].dtype) : 0;
    return kd_cuda_round(((const kd_lt_prep *)c->prep)->workspace) + bias;
}

static kd_status linear_run(const kd_call *c)
{
    const kd_lt_prep *p = c->prep;
    const int32_t act = ((const kd_linear_attr *)c->attr)->act;
    const kd_tensor *product = product_of(c);
    const kd_dtype out = product->dtype;
    if (has_bias(c)) {
        const void *bias = c->in[2].data;
        if (casts_bias(c)) {
            const kd_cast_attr to = {.to = (int32_t)out};
            const kd_tensor cast = {(char *)c->scratch + kd_cuda_round(p->workspace), out, c->in[2].shape};
            KD_TRY(kd_cuda_run_own(KD_OP_CAST, c->in[0].dtype, &to, &c->in[2], 1, &cast, false, NULL, c));
            bias = cast.data;
        }
        KD_TRY(kd_lt_set_vector(p, bias));
    }
    KD_TRY(kd_lt_run(c, c->in[1].data, c->in[0].data, product->data));
    if (act != KD_ACT_NONE && c->out[0].data != NULL) {
        const kd_act_attr how = {.kind = act};
        return kd_cuda_run_own(KD_OP_ACT, out, &how, product, 1, &c->out[0], false, NULL, c);
    }
    return KD_OK;
}

static size_t workspace_of(const kd_call *c)
{
    return ((const kd_lt_prep *)c->prep)->workspace;
}

/* The activation whose gradient is taken along. */
static int32_t act_before(const kd_call *c)
{
    return ((const kd_linear_attr *)c->attr)->act;
}

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    kd_gemm g;
    memset(&g, 0, sizeof g);
    g.m = ci;
    g.n = co > 0 ? kd_shape_numel(&c->in[0].shape) / co : 0;
    g.k = co;
    g.lda = ci;
    g.ldb = co;
    g.ta = g.tb = CUBLAS_OP_N;
    g.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (c->in[0].dtype != c->in[1].dtype || (act_before(c) != KD_ACT_NONE && c->accum != 0) ||
        !kd_lt_complete(&g, c->in[0].dtype, c->out[0].dtype, c->in[1].data, c->in[0].data, c->out[0].data, NULL)) {
        return KD_E_UNSUPPORTED;
    }
    return kd_lt_prepare(c, &g, c->in[1].data, c->in[0].data);
}

static kd_status bwd_x_run(const kd_call *c)
{
    const kd_act_attr how = {.kind = act_before(c)};
    KD_TRY(kd_lt_run(c, c->in[1].data, c->in[0].data, c->out[0].data));
    if (how.kind == KD_ACT_NONE) {
        return KD_OK;
    }
    const kd_tensor in[2] = {c->in[2], c->out[0]};
    return kd_cuda_run_own(KD_OP_ACT_BWD, c->out[0].dtype, &how, in, 2, &c->out[0], false, NULL, c);
}

/* ---- linear_bwd_w ---------------------------------------------------------------------------- */

static int64_t outputs_of(const kd_call *c) /* Co */
{
    return c->in[0].shape.dim[c->in[0].shape.rank - 1];
}

static bool wants_db(const kd_call *c)
{
    return c->n_out > 1 && c->out[1].data != NULL;
}

static bool adds_db(const kd_call *c)
{
    return (c->accum & 2u) != 0;
}

/* c->prep is the product without the epilogue: is the one with it faster than a column sum besides? */
static kd_status try_fused(kd_call *c, kd_gemm g)
{
    kd_lt_prep *plain = c->prep;
    const float sum = kd_lt_time_column_sum(g.device, &c->in[0], outputs_of(c));
    const kd_tensor row = {c->in[0].data, KD_F32, kd_shape2(1, outputs_of(c))}; /* as long as the vector to add */
    const float extra = adds_db(c) ? kd_lt_time_column_sum(g.device, &row, outputs_of(c)) : 0.0f;
    g.epilogue = CUBLASLT_EPILOGUE_BGRADB;
    c->prep = NULL;
    const kd_status st = kd_lt_prepare(c, &g, c->in[1].data, c->in[0].data);
    const kd_lt_prep *fused = c->prep;
    kd_call loser = *c;
    if (st == KD_OK && plain->ms > 0.0f && fused->ms > 0.0f && sum >= 0.0f && extra >= 0.0f &&
        fused->ms + extra < plain->ms + sum) {
        loser.prep = plain;
    } else {
        c->prep = plain;
    }
    kd_lt_release(&loser);
    return st == KD_E_UNSUPPORTED ? KD_OK : st;
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const int64_t co = outputs_of(c), ci = c->in[1].shape.dim[c->in[1].shape.rank - 1];
    kd_gemm g;
    memset(&g, 0, sizeof g);
    g.m = ci;
    g.n = co;
    g.k = ci > 0 ? kd_shape_numel(&c->in[1].shape) / ci : 0;
    g.lda = ci;
    g.ldb = co;
    g.ta = CUBLAS_OP_N;
    g.tb = CUBLAS_OP_T;
    g.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    g.add = (c->accum & 1u) != 0;
    if (c->in[0].dtype != c->in[1].dtype || c->out[0].data == NULL ||
        !kd_lt_complete(&g, c->in[0].dtype, c->out[0].dtype, c->in[1].data, c->in[0].data, c->out[0].data,
                        wants_db(c) && !adds_db(c) ? c->out[1].data : NULL)) {
        return KD_E_UNSUPPORTED;
    }
    KD_TRY(kd_lt_prepare(c, &g, c->in[1].data, c->in[0].data));
    return wants_db(c) && g.timed && g.k >= 64 ? try_fused(c, g) : KD_OK;
}

/* The db that the epilogue wrote, as a matrix of one row: a column sum adds it to db. */
static kd_tensor row_of(const kd_call *c, void *data)
{
    return (kd_tensor){data, KD_F32, kd_shape2(1, outputs_of(c))};
}

static size_t row_bytes(const kd_call *c)
{
    return kd_cuda_round((size_t)outputs_of(c) * sizeof(float));
}

/* Scratch: workspace; the row to be added; partials of the column sum. */
static size_t bwd_w_scratch(const kd_call *c)
{
    const kd_lt_prep *p = c->prep;
    const kd_tensor row = row_of(c, NULL);
    const int64_t co = outputs_of(c);
    size_t more = 0;
    if (wants_db(c) && p->bgrad) {
        more = adds_db(c) ? row_bytes(c) + kd_cuda_column_sum_scratch(&row, co, &c->out[1]) : 0;
    } else if (wants_db(c)) {
        more = kd_cuda_column_sum_scratch(&c->in[0], co, &c->out[1]);
    }
    return kd_cuda_round(p->workspace) + more;
}

static kd_status bwd_w_run(const kd_call *c)
{
    const kd_lt_prep *p = c->prep;
    const int64_t co = outputs_of(c);
    void *const tail = (char *)c->scratch + kd_cuda_round(p->workspace);
    const bool by_way = p->bgrad && adds_db(c);
    if (p->bgrad) {
        KD_TRY(kd_lt_set_vector(p, by_way ? tail : c->out[1].data));
    }
    KD_TRY(kd_lt_run(c, c->in[1].data, c->in[0].data, c->out[0].data));
    if (by_way) {
        const kd_tensor row = row_of(c, tail);
        return kd_cuda_column_sum(&row, co, &c->out[1], true, (char *)tail + row_bytes(c), c);
    }
    return wants_db(c) && !p->bgrad ? kd_cuda_column_sum(&c->in[0], co, &c->out[1], adds_db(c), tail, c) : KD_OK;
}

/* ---- slots ----------------------------------------------------------------------------------- */

const kd_kernel_def *kd_cublaslt_kernel(kd_op op, kd_dtype act)
{
#define SLOT(name, run_fn, scratch_fn, prepare_fn) \
    static const kd_kernel_def name = {            \
        .run = run_fn, .scratch = scratch_fn, .prepare = prepare_fn, .release = kd_lt_release, .by_shape = true}
    SLOT(linear, linear_run, linear_scratch, linear_prepare);
    SLOT(bwd_x, bwd_x_run, workspace_of, bwd_x_prepare);
    SLOT(bwd_w, bwd_w_run, bwd_w_scratch, bwd_w_prepare);
#undef SLOT
    if (act != KD_F32 && act != KD_BF16 && act != KD_F16) {
        return NULL;
    }
    switch (op) {
    case KD_OP_LINEAR:
        return &linear;
    case KD_OP_LINEAR_BWD_X:
        return &bwd_x;
    case KD_OP_LINEAR_BWD_W:
        return &bwd_w;
    default:
        return NULL;
    }
}
