/* Linear layers with a fused GELU through cuDNN, in bf16 and fp16: y = gelu(x W^T + b) in one kernel, with the f32 bias as it
 * is and the exact GELU, which cuBLASLt's epilogues do not have.  Forward-only programs ask for it (kd_fuse.c). */
#include "kernels/cuda/cudnn_graph.h"

enum { V_M, V_CO, V_CI, V_BIAS, V_ALIGN }; /* kd_dnn_key.v */
enum { X = 1, W, B, Y };

typedef struct prep {
    kd_dnn_prep dnn;
} prep;

static void describe(kd_dnn *g, const kd_dnn_key *key)
{
    const int64_t *v = key->v, M = v[V_M], co = v[V_CO], ci = v[V_CI];
    const cudnnDataType_t io = (cudnnDataType_t)key->type, f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_shape sx = {{1, M, ci}, {M * ci, ci, 1}}, sw = {{1, ci, co}, {ci * co, 1, ci}};
    const kd_dnn_shape sy = {{1, M, co}, {M * co, co, 1}}, sb = {{1, 1, co}, {co, co, 1}};
    const kd_dnn_desc x = kd_dnn_tensor(g, X, io, &sx, v[V_ALIGN]), w = kd_dnn_tensor(g, W, io, &sw, v[V_ALIGN]);
    const kd_dnn_desc y = kd_dnn_tensor(g, Y, io, &sy, v[V_ALIGN]);
    kd_dnn_desc sum = kd_dnn_temp(g, f32, &sy);
    kd_dnn_matmul(g, x, w, sum);
    if (v[V_BIAS] != 0) {
        const kd_dnn_desc b = kd_dnn_tensor(g, B, f32, &sb, 4), shifted = kd_dnn_temp(g, f32, &sy);
        kd_dnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, b, shifted);
        sum = shifted;
    }
    kd_dnn_pointwise(g, CUDNN_POINTWISE_GELU_FWD, sum, NULL, y);
}

static bool has_bias(const kd_call *c)
{
    return c->n_in > 2 && c->in[2].data != NULL;
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

static kd_status prepare(kd_call *c, kd_err *err)
{
    (void)err;
    kd_dnn_key key;
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    if (((const kd_linear_attr *)c->attr)->act != KD_ACT_GELU || c->in[0].dtype != c->out[0].dtype ||
        c->in[0].dtype != c->in[1].dtype || c->out[0].data == NULL || co < 1 || ci < 1 ||
        !kd_dnn_key_start(&key, KD_OP_LINEAR, c->in[0].dtype)) {
        return KD_E_UNSUPPORTED;
    }
    key.flags = 0;
    key.v[V_M] = kd_shape_numel(&c->in[0].shape) / ci;
    key.v[V_CO] = co;
    key.v[V_CI] = ci;
    key.v[V_BIAS] = has_bias(c);
    key.v[V_ALIGN] = KD_MIN(kd_dnn_align(c->in[0].data), KD_MIN(kd_dnn_align(c->in[1].data), kd_dnn_align(c->out[0].data)));
    const kd_dnn_plan *plan = key.v[V_M] > 0 ? kd_dnn_plan_for(&key, describe, true) : NULL;
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

static size_t scratch(const kd_call *c)
{
    return kd_dnn_workspace(((const prep *)c->prep)->dnn.plan);
}

static kd_status run(const kd_call *c)
{
    prep *p = c->prep;
    static const int64_t uid[4] = {X, W, Y, B};
    void *const ptr[4] = {c->in[0].data, c->in[1].data, c->out[0].data, has_bias(c) ? c->in[2].data : NULL};
    return kd_dnn_run(&p->dnn, has_bias(c) ? 4 : 3, uid, ptr, c->scratch, c->stream);
}

const kd_kernel_def kd_cudnn_linear = {
    .run = run, .scratch = scratch, .prepare = prepare, .release = release, .by_shape = true};
