/* Linear layers with an exact GELU in the same kernel through cuDNN, in bf16 and fp16, which cuBLASLt's epilogues do
 * not have (graph/fuse.c asks for them):
 *
 *   linear         pre = x W^T + b, y = gelu(pre); the f32 bias as it is; pre is written where training keeps it
 *   linear_bwd_x   dx = (dy W) gelu'(pre) */
#include "kernels/cuda/library/cudnn_graph.h"

enum { V_M, V_N, V_K, V_BIAS, V_KEEP, V_ALIGN }; /* kd_dnn_key.v: result (M,N), K products each */
enum { A = 1, W, BIAS, PRE, Y };

typedef struct prep {
    kd_dnn_prep dnn;
} prep;

typedef struct sides {
    kd_dnn_shape a, w, y; /* (M,K), (K,N), (M,N) */
} sides;

/* W lies (N,K) for linear, (K,N) for its gradient. */
static sides sides_of(const int64_t *v, bool transposed)
{
    const int64_t M = v[V_M], N = v[V_N], K = v[V_K];
    return (sides){.a = {{1, M, K}, {M * K, K, 1}},
                   .w = {{1, K, N}, {N * K, transposed ? 1 : N, transposed ? K : 1}},
                   .y = {{1, M, N}, {M * N, N, 1}}};
}

/* A W in f32, never in memory. */
static kd_dnn_desc product(kd_dnn *g, const kd_dnn_key *key, const sides *s)
{
    const cudnnDataType_t io = (cudnnDataType_t)key->type;
    const kd_dnn_desc a = kd_dnn_tensor(g, A, io, &s->a, key->v[V_ALIGN]),
                      w = kd_dnn_tensor(g, W, io, &s->w, key->v[V_ALIGN]);
    const kd_dnn_desc sum = kd_dnn_temp(g, CUDNN_DATA_FLOAT, &s->y);
    kd_dnn_matmul(g, a, w, sum);
    return sum;
}

static void describe_forward(kd_dnn *g, const kd_dnn_key *key)
{
    const int64_t *v = key->v;
    const cudnnDataType_t io = (cudnnDataType_t)key->type, f32 = CUDNN_DATA_FLOAT;
    const sides s = sides_of(v, true);
    const kd_dnn_shape row = {{1, 1, v[V_N]}, {v[V_N], v[V_N], 1}};
    kd_dnn_desc sum = product(g, key, &s);
    if (v[V_BIAS] != 0) {
        const kd_dnn_desc b = kd_dnn_tensor(g, BIAS, f32, &row, 4);
        const kd_dnn_desc shifted =
            v[V_KEEP] != 0 ? kd_dnn_tensor(g, PRE, io, &s.y, v[V_ALIGN]) : kd_dnn_temp(g, f32, &s.y);
        kd_dnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, b, shifted);
        sum = shifted;
    } else if (v[V_KEEP] != 0) {
        const kd_dnn_desc kept = kd_dnn_tensor(g, PRE, io, &s.y, v[V_ALIGN]);
        kd_dnn_pointwise(g, CUDNN_POINTWISE_IDENTITY, sum, NULL, kept);
        sum = kept;
    }
    kd_dnn_pointwise(g, CUDNN_POINTWISE_GELU_FWD, sum, NULL, kd_dnn_tensor(g, Y, io, &s.y, v[V_ALIGN]));
}

static void describe_backward(kd_dnn *g, const kd_dnn_key *key)
{
    const cudnnDataType_t io = (cudnnDataType_t)key->type;
    const sides s = sides_of(key->v, false);
    const kd_dnn_desc sum = product(g, key, &s), pre = kd_dnn_tensor(g, PRE, io, &s.y, key->v[V_ALIGN]);
    kd_dnn_pointwise_bwd(g, CUDNN_POINTWISE_GELU_BWD, sum, pre, kd_dnn_tensor(g, Y, io, &s.y, key->v[V_ALIGN]));
}

static void *in(const kd_call *c, int i)
{
    return i < c->n_in ? c->in[i].data : NULL;
}

static void *kept(const kd_call *c)
{
    return c->n_out > 1 ? c->out[1].data : NULL;
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

/* `other`: an address besides those of operands 0 and 1 and output 0, or NULL. */
static kd_status prepare(kd_call *c, kd_dnn_key *key, const void *other, kd_dnn_describe describe)
{
    int64_t align =
        KD_MIN(kd_dnn_align(c->in[0].data), KD_MIN(kd_dnn_align(c->in[1].data), kd_dnn_align(c->out[0].data)));
    align = other != NULL ? KD_MIN(align, kd_dnn_align(other)) : align;
    key->v[V_ALIGN] = align;
    const kd_dnn_plan *plan = key->v[V_M] > 0 ? kd_dnn_plan_for(key, describe, true) : NULL;
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

/* Starts the key; false: not this kernel's business. */
static bool takes(const kd_call *c, kd_op op, kd_dnn_key *key)
{
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    if (((const kd_linear_attr *)c->attr)->act != KD_ACT_GELU || c->in[0].dtype != c->out[0].dtype ||
        c->in[0].dtype != c->in[1].dtype || c->out[0].data == NULL || c->accum != 0 || co < 1 || ci < 1 ||
        !kd_dnn_key_start(key, op, c->in[0].dtype)) {
        return false;
    }
    const bool forward = op == KD_OP_LINEAR;
    key->flags = 0;
    key->v[V_N] = forward ? co : ci;
    key->v[V_K] = forward ? ci : co;
    key->v[V_M] = kd_shape_numel(&c->in[0].shape) / key->v[V_K];
    return true;
}

static kd_status forward_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    if (!takes(c, KD_OP_LINEAR, &key)) {
        return KD_E_UNSUPPORTED;
    }
    key.v[V_BIAS] = in(c, 2) != NULL;
    key.v[V_KEEP] = kept(c) != NULL;
    return prepare(c, &key, kept(c), describe_forward);
}

static kd_status backward_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    if (!takes(c, KD_OP_LINEAR_BWD_X, &key)) {
        return KD_E_UNSUPPORTED;
    }
    return prepare(c, &key, in(c, 2), describe_backward);
}

static size_t scratch(const kd_call *c)
{
    return kd_dnn_workspace(((const prep *)c->prep)->dnn.plan);
}

static kd_status forward_run(const kd_call *c)
{
    prep *p = c->prep;
    int64_t uid[5] = {A, W, Y};
    void *ptr[5] = {c->in[0].data, c->in[1].data, c->out[0].data};
    int n = 3;
    if (in(c, 2) != NULL) {
        uid[n] = BIAS;
        ptr[n++] = in(c, 2);
    }
    if (kept(c) != NULL) {
        uid[n] = PRE;
        ptr[n++] = kept(c);
    }
    return kd_dnn_run(&p->dnn, n, uid, ptr, c->scratch, c->stream);
}

static kd_status backward_run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[4] = {A, W, PRE, Y};
    void *const ptr[4] = {c->in[0].data, c->in[1].data, c->in[2].data, c->out[0].data};
    return kd_dnn_run(&p->dnn, 4, uid, ptr, c->scratch, c->stream);
}

const kd_kernel_def kd_cudnn_linear = {
    .run = forward_run, .scratch = scratch, .prepare = forward_prepare, .release = release, .by_shape = true};
const kd_kernel_def kd_cudnn_linear_bwd_x = {
    .run = backward_run, .scratch = scratch, .prepare = backward_prepare, .release = release, .by_shape = true};
