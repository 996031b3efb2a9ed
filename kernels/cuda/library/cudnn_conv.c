/* 2D and 3D convolution and their gradients through cuDNN, in f32, bf16 and fp16, on dense NCHW and NCDHW as they are.
 *
 * Only engines with a fixed order of sums and without shortcuts in precision (Winograd, FFT; TF32 unless allowed) are
 * taken. The bias is added in the same graph where an engine offers that for these layouts, or the call is refused; an
 * activation runs afterwards, in place, by our kernel.  The bias gradient comes from our bwd_w, asked for db alone.
 * Grouped convolutions are refused: cuDNN's are slow for the few channels a group has in our models. */
#include "kernels/cuda/library/cudnn_graph.h"

/* MORE: bias or accumulate */
enum { RANK = 5, V_X = 0, V_W = RANK, V_Y = 2 * RANK, V_WINDOW = 3 * RANK, V_MORE = V_WINDOW + 10, V_ALIGN };
enum { X = 1, W, Y, BIAS };

typedef struct prep {
    kd_dnn_prep dnn; /* first: kd_dnn_prep_clear */
} prep;

static kd_dnn_shape dense(const int64_t *d, int64_t rank)
{
    kd_dnn_shape s = {{0}, {0}};
    int64_t stride = 1;
    for (int64_t i = rank - 1; i >= 0; i--) {
        s.dim[i] = d[i];
        s.stride[i] = stride;
        stride *= d[i];
    }
    return s;
}

static bool is_3d(kd_op op)
{
    return op == KD_OP_CONV3D || op == KD_OP_CONV3D_BWD_X || op == KD_OP_CONV3D_BWD_W;
}

/* The attributes of conv2d or conv3d; false: groups. One loop per rank: gcc miscompiles one loop over both. */
static bool window_of(kd_dnn_window *w, kd_op op, const void *attr)
{
    memset(w, 0, sizeof *w);
    if (is_3d(op)) {
        const kd_conv3d_attr *a = attr;
        w->dims = 3;
        for (int i = 0; i < 3; i++) {
            w->stride[i] = a->stride[i];
            w->pad[i] = a->pad[i];
            w->dilation[i] = a->dilation[i];
        }
        return a->groups == 1;
    }
    const kd_conv2d_attr *a = attr;
    w->dims = 2;
    for (int i = 0; i < 2; i++) {
        w->stride[i] = a->stride[i];
        w->pad[i] = a->pad[i];
        w->dilation[i] = a->dilation[i];
    }
    return a->groups == 1;
}

/* The op of a call, by the rank of its operands: the slots serve both. */
static kd_op op_of(const kd_call *c, kd_op flat, kd_op deep)
{
    return c->in[0].shape.rank == 5 ? deep : flat;
}

/* Key of a call; y are the dims of the result of forward. */
static bool key_of(kd_dnn_key *key, kd_op op, kd_dtype act, const void *attr, const kd_shape *x, const kd_shape *w,
                   const kd_shape *y)
{
    kd_dnn_window window;
    if (!window_of(&window, op, attr) || !kd_dnn_key_start(key, op, act)) {
        return false;
    }
    memcpy(key->v + V_WINDOW, &window, sizeof window);
    key->flags &= KD_CUDA_TF32;
    for (int i = 0; i < 2 + (int)window.dims; i++) {
        if (x->dim[i] < 1 || w->dim[i] < 1 || y->dim[i] < 1) {
            return false;
        }
        key->v[V_X + i] = x->dim[i];
        key->v[V_W + i] = w->dim[i];
        key->v[V_Y + i] = y->dim[i];
    }
    return true;
}

/* The smallest alignment of the operands, kept in the key. */
static void key_align(kd_dnn_key *key, const void *a, const void *b, const void *c)
{
    key->v[V_ALIGN] = KD_MIN(kd_dnn_align(a), KD_MIN(kd_dnn_align(b), kd_dnn_align(c)));
}

static void describe(kd_dnn *g, const kd_dnn_key *key)
{
    kd_dnn_window at;
    memcpy(&at, key->v + V_WINDOW, sizeof at);
    const int64_t rank = 2 + at.dims, align = key->v[V_ALIGN];
    const kd_dnn_shape x = dense(key->v + V_X, rank), w = dense(key->v + V_W, rank), y = dense(key->v + V_Y, rank);
    const cudnnDataType_t io = (cudnnDataType_t)key->type;
    const kd_op op = (kd_op)key->op;
    const bool filter = op == KD_OP_CONV2D_BWD_W || op == KD_OP_CONV3D_BWD_W;
    const kd_dnn_desc dx = kd_dnn_tensor(g, X, io, &x, align);
    const kd_dnn_desc dw = kd_dnn_tensor(g, W, filter ? CUDNN_DATA_FLOAT : io, &w, align);
    const kd_dnn_desc dy = kd_dnn_tensor(g, Y, io, &y, align);
    if (filter) {
        kd_dnn_conv(g, KD_DNN_FILTER, &at, dx, dw, dy, key->v[V_MORE] != 0);
    } else if (op == KD_OP_CONV2D_BWD_X || op == KD_OP_CONV3D_BWD_X) {
        kd_dnn_conv(g, KD_DNN_DATA, &at, dx, dw, dy, false);
    } else if (key->v[V_MORE] == 0) {
        kd_dnn_conv(g, KD_DNN_FORWARD, &at, dx, dw, dy, false);
    } else {
        const int64_t one[RANK] = {1, y.dim[1], 1, 1, 1};
        const kd_dnn_shape per_channel = dense(one, rank);
        const kd_dnn_desc sum = kd_dnn_temp(g, CUDNN_DATA_FLOAT, &y);
        const kd_dnn_desc bias = kd_dnn_tensor(g, BIAS, CUDNN_DATA_FLOAT, &per_channel, 4);
        kd_dnn_conv(g, KD_DNN_FORWARD, &at, dx, dw, sum, false);
        kd_dnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, bias, dy);
    }
}

static void release(kd_call *c)
{
    prep *p = c->prep;
    if (p != NULL) {
        kd_dnn_prep_clear(&p->dnn);
        kd_free(p);
        c->prep = NULL;
    }
}

static kd_status settle(kd_call *c, const kd_dnn_key *key)
{
    const kd_dnn_plan *plan = kd_dnn_plan_for(key, describe, true);
    if (plan == NULL) {
        return KD_E_UNSUPPORTED;
    }
    prep *p = kd_calloc(1, sizeof *p);
    if (p == NULL) {
        return KD_E_OOM;
    }
    p->dnn.plan = plan;
    c->prep = p;
    return KD_OK;
}

static size_t workspace_of(const kd_call *c)
{
    return kd_dnn_workspace(((const prep *)c->prep)->dnn.plan);
}

/* ---- forward --------------------------------------------------------------------------------- */

static bool has_bias(const kd_call *c)
{
    return c->n_in > 2 && c->in[2].data != NULL;
}

static kd_status forward_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    if (c->out[0].data == NULL || !key_of(&key, op_of(c, KD_OP_CONV2D, KD_OP_CONV3D), c->in[0].dtype, c->attr,
                                          &c->in[0].shape, &c->in[1].shape, &c->out[0].shape)) {
        return KD_E_UNSUPPORTED;
    }
    key.v[V_MORE] = has_bias(c);
    key_align(&key, c->in[0].data, c->in[1].data, c->out[0].data);
    return settle(c, &key);
}

static kd_status forward_run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[4] = {X, W, Y, BIAS};
    void *const ptr[4] = {c->in[0].data, c->in[1].data, c->out[0].data, has_bias(c) ? c->in[2].data : NULL};
    const bool flat = op_of(c, KD_OP_CONV2D, KD_OP_CONV3D) == KD_OP_CONV2D;
    const kd_act_attr act = {.kind = flat ? ((const kd_conv2d_attr *)c->attr)->act : KD_ACT_NONE};
    KD_TRY(kd_dnn_run(&p->dnn, has_bias(c) ? 4 : 3, uid, ptr, c->scratch, c->stream));
    return act.kind == KD_ACT_NONE
               ? KD_OK
               : kd_cuda_run_own(KD_OP_ACT, c->out[0].dtype, &act, &c->out[0], 1, &c->out[0], false, NULL, c);
}

/* ---- gradient of x --------------------------------------------------------------------------- */

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    const bool plus = c->n_in > 2 && c->in[2].data != NULL; /* depthwise, of one channel perhaps */
    if (plus || !key_of(&key, op_of(c, KD_OP_CONV2D_BWD_X, KD_OP_CONV3D_BWD_X), c->in[0].dtype, c->attr,
                        &c->out[0].shape, &c->in[1].shape, &c->in[0].shape)) {
        return KD_E_UNSUPPORTED;
    }
    key_align(&key, c->in[0].data, c->in[1].data, c->out[0].data);
    return settle(c, &key);
}

static kd_status bwd_x_run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[3] = {X, W, Y};
    void *const ptr[3] = {c->out[0].data, c->in[1].data, c->in[0].data};
    return kd_dnn_run(&p->dnn, 3, uid, ptr, c->scratch, c->stream);
}

/* ---- gradients of W and b -------------------------------------------------------------------- */

static kd_op bwd_w_op(const kd_call *c)
{
    return op_of(c, KD_OP_CONV2D_BWD_W, KD_OP_CONV3D_BWD_W);
}

/* The same call with dW absent. */
static kd_call only_db(const kd_call *c, kd_tensor out[2])
{
    kd_call sub = *c;
    out[0] = c->out[0];
    out[0].data = NULL;
    out[1] = c->out[1];
    sub.out = out;
    sub.prep = NULL;
    return sub;
}

static bool wants_db(const kd_call *c)
{
    return c->n_out > 1 && c->out[1].data != NULL;
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    if (c->out[0].data == NULL ||
        !key_of(&key, bwd_w_op(c), c->in[0].dtype, c->attr, &c->in[1].shape, &c->out[0].shape, &c->in[0].shape)) {
        return KD_E_UNSUPPORTED;
    }
    key.v[V_MORE] = c->accum & 1u;
    key_align(&key, c->in[0].data, c->in[1].data, c->out[0].data);
    return settle(c, &key);
}

static size_t bwd_w_scratch(const kd_call *c)
{
    size_t own = 0;
    const kd_kernel_def *def = kd_cuda_own(bwd_w_op(c), c->in[0].dtype);
    if (wants_db(c) && def != NULL && def->scratch != NULL) {
        kd_tensor out[2];
        const kd_call sub = only_db(c, out);
        own = def->scratch(&sub);
    }
    return KD_MAX(workspace_of(c), own); /* one after the other */
}

static kd_status bwd_w_run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[3] = {X, W, Y};
    void *const ptr[3] = {c->in[1].data, c->out[0].data, c->in[0].data};
    KD_TRY(kd_dnn_run(&p->dnn, 3, uid, ptr, c->scratch, c->stream));
    if (wants_db(c)) {
        kd_tensor out[2];
        const kd_call sub = only_db(c, out);
        return kd_cuda_own(bwd_w_op(c), c->in[0].dtype)->run(&sub);
    }
    return KD_OK;
}

const kd_kernel_def kd_cudnn_conv = {
    .run = forward_run, .scratch = workspace_of, .prepare = forward_prepare, .release = release, .by_shape = true};
const kd_kernel_def kd_cudnn_conv_bwd_x = {
    .run = bwd_x_run, .scratch = workspace_of, .prepare = bwd_x_prepare, .release = release, .by_shape = true};
const kd_kernel_def kd_cudnn_conv_bwd_w = {
    .run = bwd_w_run, .scratch = bwd_w_scratch, .prepare = bwd_w_prepare, .release = release, .by_shape = true};

const kd_kernel_def *kd_cudnn_kernel(kd_op op, kd_dtype act)
{
    const bool half = act == KD_BF16 || act == KD_F16;
    if (!half && act != KD_F32) {
        return NULL;
    }
    switch (op) {
    case KD_OP_ATTENTION:
        return half ? &kd_cudnn_attention : NULL;
    case KD_OP_ATTENTION_BWD:
        return half ? &kd_cudnn_attention_bwd : NULL;
    case KD_OP_LINEAR:
        return half ? &kd_cudnn_linear : NULL;
    case KD_OP_LINEAR_BWD_X:
        return half ? &kd_cudnn_linear_bwd_x : NULL;
    case KD_OP_CONV2D:
    case KD_OP_CONV3D:
        return &kd_cudnn_conv;
    case KD_OP_CONV2D_BWD_X:
    case KD_OP_CONV3D_BWD_X:
        return &kd_cudnn_conv_bwd_x;
    case KD_OP_CONV2D_BWD_W:
    case KD_OP_CONV3D_BWD_W:
        return &kd_cudnn_conv_bwd_w;
    default:
        return NULL;
    }
}
