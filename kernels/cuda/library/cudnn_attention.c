/* Attention through cuDNN, forward and backward, in bf16 and fp16: one fused kernel each, reading q, k and v where the
 * packed (B,N,3,H,D) rows hold them, and writing dq, dk and dv there.
 *
 * cuDNN knows attention as a pattern: the graph spells out the formula and must be the one its engine was written for,
 * with every intermediate in f32 except the two that enter a matrix product.  Its `stats` are max + log(sum of exp) of
 * the scaled logits in natural logarithms: our lse, (B,H,N,1) f32.
 *
 * Backward has two forms.  Without KD_CUDA_ATOMICS dq is a matrix product of the whole ds, which the engine keeps in
 * its workspace (2 bytes for each of B H N N): fixed order, same bits.  With it dq is summed in f32 in order of
 * arrival. */
#include "kernels/cuda/library/cudnn_graph.h"

#include <math.h>

enum { V_B, V_H, V_N, V_D, V_SCALE, V_STATS, V_ALIGN }; /* kd_dnn_key.v; V_ALIGN: the smallest of all operands */
enum { Q = 1, K, V, O, STATS, SCALE, D_O, D_Q, D_K, D_V, ONE, ROW_SUM, DQ_SUM };

typedef struct prep {
    kd_dnn_prep dnn; /* first: kd_dnn_prep_clear */
    float scale, one;
    int64_t B, H, N, D;
    bool atomics;
} prep;

/* ---- shapes ---------------------------------------------------------------------------------- */

/* q, k or v in packed rows: (B,H,N,D). */
static kd_dnn_shape third(const int64_t *v)
{
    const int64_t C = v[V_H] * v[V_D];
    return (kd_dnn_shape){{v[V_B], v[V_H], v[V_N], v[V_D]}, {v[V_N] * 3 * C, v[V_D], 3 * C, 1}};
}

/* o in rows: (B,H,N,D). */
static kd_dnn_shape rows(const int64_t *v)
{
    const int64_t C = v[V_H] * v[V_D];
    return (kd_dnn_shape){{v[V_B], v[V_H], v[V_N], v[V_D]}, {v[V_N] * C, v[V_D], C, 1}};
}

static kd_dnn_shape packed(const int64_t *v, int64_t a, int64_t b)
{
    return (kd_dnn_shape){{v[V_B], v[V_H], a, b}, {v[V_H] * a * b, a * b, b, 1}};
}

static kd_dnn_shape transposed(kd_dnn_shape s)
{
    const kd_dnn_shape t = {{s.dim[0], s.dim[1], s.dim[3], s.dim[2]},
                            {s.stride[0], s.stride[1], s.stride[3], s.stride[2]}};
    return t;
}

/* ---- forward --------------------------------------------------------------------------------- */

static void describe_forward(kd_dnn *g, const kd_dnn_key *key)
{
    const int64_t *v = key->v, align = v[V_ALIGN];
    const cudnnDataType_t io = (cudnnDataType_t)key->type, f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_shape head = third(v), head_t = transposed(head), out = rows(v);
    const kd_dnn_shape square = packed(v, v[V_N], v[V_N]), row = packed(v, v[V_N], 1);
    const kd_dnn_desc q = kd_dnn_tensor(g, Q, io, &head, align), k_t = kd_dnn_tensor(g, K, io, &head_t, align);
    const kd_dnn_desc vv = kd_dnn_tensor(g, V, io, &head, align), o = kd_dnn_tensor(g, O, io, &out, align);
    const kd_dnn_desc stats = v[V_STATS] != 0 ? kd_dnn_tensor(g, STATS, f32, &row, 4) : kd_dnn_temp(g, f32, &row);
    const kd_dnn_desc scale = kd_dnn_scalar(g, SCALE);
    const kd_dnn_desc dots = kd_dnn_temp(g, f32, &square), logits = kd_dnn_temp(g, f32, &square);
    const kd_dnn_desc top = kd_dnn_temp(g, f32, &row), below = kd_dnn_temp(g, f32, &square);
    const kd_dnn_desc e = kd_dnn_temp(g, f32, &square), sum = kd_dnn_temp(g, f32, &row);
    const kd_dnn_desc log_sum = kd_dnn_temp(g, f32, &row), p = kd_dnn_temp(g, io, &square);
    kd_dnn_matmul(g, q, k_t, dots);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, dots, scale, logits);
    kd_dnn_reduce(g, CUDNN_REDUCE_TENSOR_MAX, logits, top);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_SUB, logits, top, below);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_EXP, below, NULL, e);
    kd_dnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, e, sum);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_LOG, sum, NULL, log_sum);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_ADD, top, log_sum, stats);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_DIV, e, sum, p);
    kd_dnn_matmul(g, p, vv, o);
}

static int64_t smallest_align(const void *const *p, int n)
{
    int64_t a = 16;
    for (int i = 0; i < n; i++) {
        a = p[i] == NULL ? a : KD_MIN(a, kd_dnn_align(p[i]));
    }
    return a;
}

/* Where q (0), k (1), v (2) start in packed rows. */
static void *part(const kd_tensor *qkv, size_t i)
{
    return (char *)qkv->data + i * ((size_t)qkv->shape.dim[2] / 3) * kd_dtype_size(qkv->dtype);
}

static kd_status start(const kd_call *c, kd_op op, const kd_tensor *qkv, kd_dnn_key *key, prep **out)
{
    const kd_attention_attr *at = c->attr;
    const int64_t B = qkv->shape.dim[0], N = qkv->shape.dim[1], H = at->heads, D = qkv->shape.dim[2] / 3 / H;
    *out = NULL;
    if (!kd_dnn_key_start(key, op, qkv->dtype) || B < 1 || N < 1 || D % 8 != 0 || cudnnGetVersion() < 90600) {
        return KD_E_UNSUPPORTED; /* below 9.6 the engine wants its sums cleared by the caller */
    }
    prep *p = kd_calloc(1, sizeof *p);
    if (p == NULL) {
        return KD_E_OOM;
    }
    p->B = B;
    p->H = H;
    p->N = N;
    p->D = D;
    p->scale = at->scale == 0.0f ? 1.0f / sqrtf((float)D) : at->scale;
    p->one = 1.0f;
    p->atomics = (key->flags & KD_CUDA_ATOMICS) != 0;
    key->v[V_B] = B;
    key->v[V_H] = H;
    key->v[V_N] = N;
    key->v[V_D] = D;
    *out = p;
    return KD_OK;
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

static kd_status settle(kd_call *c, prep *p, const kd_dnn_plan *plan)
{
    p->dnn.plan = plan;
    c->prep = p;
    if (plan == NULL) {
        release(c);
        return KD_E_UNSUPPORTED;
    }
    return KD_OK;
}

static kd_status forward_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    prep *p = NULL;
    if (c->out[0].data == NULL) {
        return KD_E_UNSUPPORTED;
    }
    KD_TRY(start(c, KD_OP_ATTENTION, &c->in[0], &key, &p));
    const void *const at[4] = {part(&c->in[0], 0), part(&c->in[0], 1), part(&c->in[0], 2), c->out[0].data};
    key.v[V_STATS] = c->out[1].data != NULL;
    key.v[V_ALIGN] = smallest_align(at, 4);
    key.flags = 0; /* none matters to this graph */
    return settle(c, p, kd_dnn_plan_for(&key, describe_forward, false));
}

static size_t forward_scratch(const kd_call *c)
{
    return kd_dnn_workspace(((const prep *)c->prep)->dnn.plan);
}

static kd_status forward_run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[6] = {Q, K, V, O, SCALE, STATS};
    void *const ptr[6] = {part(&c->in[0], 0), part(&c->in[0], 1), part(&c->in[0], 2),
                          c->out[0].data,     &p->scale,          c->out[1].data};
    return kd_dnn_run(&p->dnn, c->out[1].data != NULL ? 6 : 5, uid, ptr, c->scratch, c->stream);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* delta = rowsum(do o);  p = exp(scale q k^T - lse);  dv = p^T do;  ds = scale p (do v^T - delta);  dk = ds^T q;  dq =
 * ds k. */
static void describe_backward(kd_dnn *g, const kd_dnn_key *key)
{
    const int64_t *v = key->v, align = v[V_ALIGN], N = v[V_N];
    const cudnnDataType_t io = (cudnnDataType_t)key->type, f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_shape head = third(v), head_t = transposed(head), out = rows(v);
    const kd_dnn_shape square = packed(v, N, N), square_t = transposed(square), row = packed(v, N, 1),
                       wide = packed(v, N, v[V_D]);
    const kd_dnn_desc q = kd_dnn_tensor(g, Q, io, &head, align), k_t = kd_dnn_tensor(g, K, io, &head_t, align);
    const kd_dnn_desc v_t = kd_dnn_tensor(g, V, io, &head_t, align), o = kd_dnn_tensor(g, O, io, &out, align);
    const kd_dnn_desc d_o = kd_dnn_tensor(g, D_O, io, &out, align), stats = kd_dnn_tensor(g, STATS, f32, &row, 4);
    const kd_dnn_desc dq = kd_dnn_tensor(g, D_Q, io, &head, align), dk = kd_dnn_tensor(g, D_K, io, &head, align);
    const kd_dnn_desc dv = kd_dnn_tensor(g, D_V, io, &head, align);
    const kd_dnn_desc scale = kd_dnn_scalar(g, SCALE), one = kd_dnn_scalar(g, ONE);

    const kd_dnn_desc products = kd_dnn_temp(g, f32, &out), delta0 = kd_dnn_temp(g, f32, &row);
    const kd_dnn_desc delta = kd_dnn_tensor(g, ROW_SUM, f32, &row, 16); /* kept in memory: the engine reads it twice */
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, d_o, o, products);
    kd_dnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, products, delta0);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, delta0, one, delta);

    const kd_dnn_desc dots = kd_dnn_temp(g, f32, &square), logits = kd_dnn_temp(g, f32, &square);
    const kd_dnn_desc below = kd_dnn_temp(g, f32, &square), p = kd_dnn_temp(g, f32, &square),
                      p_t = kd_dnn_temp(g, io, &square_t);
    kd_dnn_matmul(g, q, k_t, dots);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, dots, scale, logits);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_SUB, logits, stats, below);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_EXP, below, NULL, p);
    kd_dnn_reshape(g, p, p_t);
    kd_dnn_matmul(g, p_t, d_o, dv);

    const kd_dnn_desc dp = kd_dnn_temp(g, f32, &square), centred = kd_dnn_temp(g, f32, &square);
    const kd_dnn_desc ds0 = kd_dnn_temp(g, f32, &square), ds = kd_dnn_temp(g, f32, &square),
                      ds_t = kd_dnn_temp(g, io, &square_t);
    kd_dnn_matmul(g, d_o, v_t, dp);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_SUB, dp, delta, centred);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, centred, p, ds0);
    kd_dnn_pointwise(g, CUDNN_POINTWISE_MUL, ds0, scale, ds);
    kd_dnn_reshape(g, ds, ds_t);
    kd_dnn_matmul(g, ds_t, q, dk);

    const kd_dnn_desc k = kd_dnn_temp(g, io, &head);
    kd_dnn_reshape(g, k_t, k);
    if ((key->flags & KD_CUDA_ATOMICS) != 0) {
        const kd_dnn_desc sum = kd_dnn_tensor(g, DQ_SUM, f32, &wide, 16);
        kd_dnn_matmul(g, ds, k, sum);
        kd_dnn_pointwise(g, CUDNN_POINTWISE_IDENTITY, sum, NULL, dq);
    } else {
        kd_dnn_matmul(g, ds, k, dq);
    }
}

static kd_status backward_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    prep *p = NULL;
    KD_TRY(start(c, KD_OP_ATTENTION_BWD, &c->in[1], &key, &p));
    const void *const at[8] = {part(&c->in[1], 0), part(&c->in[1], 1),  part(&c->in[1], 2),  c->in[0].data,
                               c->in[2].data,      part(&c->out[0], 0), part(&c->out[0], 1), part(&c->out[0], 2)};
    key.v[V_ALIGN] = smallest_align(at, 8);
    key.flags &= KD_CUDA_ATOMICS;
    return settle(c, p, kd_dnn_plan_for(&key, describe_backward, false));
}

static size_t delta_bytes(const prep *p)
{
    return kd_cuda_round((size_t)(p->B * p->H * p->N) * sizeof(float));
}

static size_t sum_bytes(const prep *p)
{
    return p->atomics ? kd_cuda_round((size_t)(p->B * p->H * p->N * p->D) * sizeof(float)) : 0;
}

/* Scratch: delta, the f32 dq, cuDNN's workspace. */
static size_t backward_scratch(const kd_call *c)
{
    const prep *p = c->prep;
    return delta_bytes(p) + sum_bytes(p) + kd_dnn_workspace(p->dnn.plan);
}

static kd_status backward_run(const kd_call *c)
{
    prep *p = c->prep;
    char *const delta = c->scratch, *const sum = delta + delta_bytes(p), *const rest = sum + sum_bytes(p);
    static const int64_t uid[12] = {Q, K, V, O, D_O, STATS, D_Q, D_K, D_V, SCALE, ONE, ROW_SUM};
    const kd_tensor *qkv = &c->in[1], *dqkv = &c->out[0];
    void *const ptr[12] = {part(qkv, 0),  part(qkv, 1),  part(qkv, 2),  c->in[2].data, c->in[0].data, c->in[3].data,
                           part(dqkv, 0), part(dqkv, 1), part(dqkv, 2), &p->scale,     &p->one,       delta};
    if (!p->atomics) {
        return kd_dnn_run(&p->dnn, 12, uid, ptr, rest, c->stream);
    }
    int64_t uids[13];
    void *ptrs[13];
    memcpy(uids, uid, sizeof uid);
    memcpy(ptrs, ptr, sizeof ptr);
    uids[12] = DQ_SUM;
    ptrs[12] = sum;
    return kd_dnn_run(&p->dnn, 13, uids, ptrs, rest, c->stream);
}

const kd_kernel_def kd_cudnn_attention = {
    .run = forward_run, .scratch = forward_scratch, .prepare = forward_prepare, .release = release, .by_shape = true};
const kd_kernel_def kd_cudnn_attention_bwd = {.run = backward_run,
                                              .scratch = backward_scratch,
                                              .prepare = backward_prepare,
                                              .release = release,
                                              .by_shape = true};
