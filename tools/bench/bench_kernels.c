/* Single kernels at the shapes that matter: what `kernels/PERF.md` quotes. */
#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"
#include "tools/bench/bench.h"

#include <stdio.h>

typedef struct kernel_case {
    const char *name;
    kd_op op;
    const void *attr;
    kd_shape in[KD_MAX_IN];
    uint32_t stat_in; /* bit i: in[i] is f32 whatever the activations are */
    int n_in;
    kd_shape out[KD_MAX_OUT];
    uint32_t stat_out;
    int n_out;
    double gflop; /* of one run; 0: bytes are what counts */
} kernel_case;

/* A token grid of ViT-L: 8 x 14 x 14 tubelets, 1024 channels, 16 heads of 64.  A leading 1 in a
 * shape stands for the batch. */
#define TOKENS       1568
#define SQUARE       8192   /* what rates of models on a card are told in shares of */
#define GFLOP_A_CPU  1000.0 /* cases beyond are for cards */
#define S(...)       KD_SHAPE(__VA_ARGS__)
#define GEMM(co, ci) (2e-9 * TOKENS * (double)(co) * (double)(ci))

static const kd_linear_attr bare = {0}, plain = {.has_bias = 1}, gelu = {.has_bias = 1, .act = KD_ACT_GELU};
static const kd_attention_attr heads = {.heads = 16};
static const kd_layernorm_attr norm = {.eps = 1e-6f};
static const kd_act_attr act = {.kind = KD_ACT_GELU};
static const kd_joint_mix_attr mix = {.mode = KD_MIX_EXPAND, .x_channels = 64, .parts = 3};
/* clang-format off */
static const kd_conv2d_attr
    point = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .kernel = {1, 1}, .x_shape = S(32, 192, 32, 25)},
    depth = {.stride = {1, 1}, .pad = {4, 0}, .dilation = {1, 1}, .groups = 64, .kernel = {9, 1},
             .x_shape = S(32, 64, 32, 25)};
static const kd_conv_separable_attr separable = {.stride = {1, 1}, .pad = {{4, 0}}, .dilation = {{1, 1}}};

#define X(ci)     S(1, TOKENS, ci)
#define ROWS      S(1, TOKENS)
#define SOFT      S(1, 16, TOKENS)
#define BODIES(c) S(32, c, 32, 25)
#define LINEAR(text, a, co, ci) \
    {text, KD_OP_LINEAR, a, {X(ci), S(co, ci), S(co)}, 4, 3, {X(co)}, 0, 1, GEMM(co, ci)}

static const kernel_case cases[] = {
    {"matmul 8192x8192x8192", KD_OP_LINEAR, &bare, {S(SQUARE, SQUARE), S(SQUARE, SQUARE)}, 0, 2,
     {S(SQUARE, SQUARE)}, 0, 1, 2e-9 * SQUARE * SQUARE * SQUARE},
    LINEAR("linear qkv 1568x3072x1024", &plain, 3072, 1024),
    LINEAR("linear proj 1568x1024x1024", &plain, 1024, 1024),
    LINEAR("linear fc1 + GELU 1568x4096x1024", &gelu, 4096, 1024),
    LINEAR("linear fc2 1568x1024x4096", &plain, 1024, 4096),
    {"linear_bwd_x fc1", KD_OP_LINEAR_BWD_X, &plain,
     {X(4096), S(4096, 1024)}, 0, 2, {X(1024)}, 0, 1, GEMM(4096, 1024)},
    {"linear_bwd_w fc1", KD_OP_LINEAR_BWD_W, &plain,
     {X(4096), X(1024)}, 0, 2, {S(4096, 1024), S(4096)}, 3, 2, GEMM(4096, 1024)},
    {"attention 16 heads x 64, 1568 tokens", KD_OP_ATTENTION, &heads,
     {X(3072)}, 0, 1, {X(1024), SOFT}, 2, 2, 4e-9 * 1024 * TOKENS * TOKENS},
    {"attention_bwd", KD_OP_ATTENTION_BWD, &heads,
     {X(1024), X(3072), X(1024), SOFT}, 8, 4, {X(3072)}, 0, 1, 10e-9 * 1024 * TOKENS * TOKENS},
    {"layernorm 1568x1024", KD_OP_LAYERNORM, &norm,
     {X(1024), S(1024), S(1024)}, 6, 3, {X(1024), ROWS, ROWS}, 6, 3, 0},
    {"layernorm_bwd", KD_OP_LAYERNORM_BWD, &norm,
     {X(1024), X(1024), S(1024), ROWS, ROWS}, 28, 5, {X(1024), S(1024), S(1024)}, 6, 3, 0},
    {"gelu 1568x4096", KD_OP_ACT, &act, {X(4096)}, 0, 1, {X(4096)}, 0, 1, 0},
    {"gelu_bwd", KD_OP_ACT_BWD, &act, {X(4096), X(4096)}, 0, 2, {X(4096)}, 0, 1, 0},
    {"conv 1x1 192 to 64, 32 bodies", KD_OP_CONV2D, &point,
     {BODIES(192), S(64, 192, 1, 1)}, 0, 2, {BODIES(64)}, 0, 1, 2e-9 * 32 * 800 * 192 * 64},
    {"conv 1x1 bwd_x", KD_OP_CONV2D_BWD_X, &point,
     {BODIES(64), S(64, 192, 1, 1)}, 0, 2, {BODIES(192)}, 0, 1, 2e-9 * 32 * 800 * 192 * 64},
    {"conv 1x1 bwd_w", KD_OP_CONV2D_BWD_W, &point,
     {BODIES(64), BODIES(192)}, 0, 2, {S(64, 192, 1, 1)}, 1, 1, 2e-9 * 32 * 800 * 192 * 64},
    {"depthwise conv 9x1, 64 channels, 32 bodies", KD_OP_CONV2D, &depth,
     {BODIES(64), S(64, 1, 9, 1)}, 0, 2, {BODIES(64)}, 0, 1, 2e-9 * 32 * 800 * 64 * 9},
    {"conv 1x1 64 to 32 behind it", KD_OP_CONV2D, &point,
     {BODIES(64), S(32, 64, 1, 1)}, 0, 2, {BODIES(32)}, 0, 1, 2e-9 * 32 * 800 * 64 * 32},
    {"conv_separable, the two as one", KD_OP_CONV_SEPARABLE, &separable,
     {BODIES(64), S(64, 1, 9, 1), S(64), S(32, 64, 1, 1), S(32)}, 20, 5, {BODIES(32), BODIES(64)}, 0, 2,
     2e-9 * 32 * 800 * 64 * 41},
    {"joint_mix 3 partitions, 64 channels, 32 bodies", KD_OP_JOINT_MIX, &mix,
     {BODIES(64), S(3, 25, 25)}, 2, 2, {BODIES(192)}, 0, 1, 2e-9 * 32 * 64 * 32 * 3 * 625},
};
/* clang-format on */

typedef struct bound {
    kd_backend *be;
    const kd_kernel_def *def;
    kd_call call;
    kd_tensor in[KD_MAX_IN], out[KD_MAX_OUT];
} bound;

static kd_status run(void *ctx)
{
    const bound *b = ctx;
    return b->def->run(&b->call);
}

static kd_shape with_batch(kd_shape s, int64_t batch, bool *found)
{
    if (s.rank > 1 && s.dim[0] == 1) {
        s.dim[0] = batch;
        *found = true;
    }
    return s;
}

static kernel_case at_batch(const kernel_case *c, int64_t batch)
{
    kernel_case k = *c;
    bool found = false;
    for (int i = 0; i < k.n_in; i++) {
        k.in[i] = with_batch(k.in[i], batch, &found);
    }
    for (int i = 0; i < k.n_out; i++) {
        k.out[i] = with_batch(k.out[i], batch, &found);
    }
    k.gflop *= found ? (double)batch : 1.0;
    return k;
}

static kd_status fill(kd_backend *be, kd_tensor *t, uint32_t item, kd_err *err)
{
    const int64_t n = kd_shape_numel(&t->shape);
    const size_t size = kd_dtype_size(t->dtype), bytes = (size_t)n * size;
    kd_status st;
    char *host = kd_alloc(bytes);
    kd_rng r = kd_rng_make(1, KD_RNG_TEST, item, 0);
    if (host == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    for (int64_t i = 0; i < n; i++) {
        const float x = 2.0f * kd_rng_unit(kd_rng_u32(&r)) - 1.0f;
        const uint16_t h = t->dtype == KD_F16 ? kd_f32_to_f16(x) : kd_f32_to_bf16(x);
        memcpy(host + (size_t)i * size, size == 4 ? (const void *)&x : (const void *)&h, size);
    }
    st = be->ops->alloc(be, bytes, &t->data);
    st = st == KD_OK ? be->ops->upload(be, t->data, host, bytes) : st;
    kd_free(host);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "%zu bytes on the device: %s", bytes, kd_status_text(st));
}

static kd_status bind(bound *b, const kernel_case *k, kd_dtype t, kd_err *err)
{
    b->call = (kd_call){
        .in = b->in, .out = b->out, .n_in = k->n_in, .n_out = k->n_out, .attr = k->attr, .stream = b->be->stream};
    for (int i = 0; i < KD_MAX_IN; i++) {
        b->in[i] = (kd_tensor){NULL, t, kd_shape_absent()};
    }
    for (int i = 0; i < k->n_in; i++) {
        b->in[i] = (kd_tensor){NULL, ((k->stat_in >> i) & 1u) != 0 ? KD_F32 : t, k->in[i]};
        KD_TRY(fill(b->be, &b->in[i], (uint32_t)i, err));
    }
    for (int i = 0; i < k->n_out; i++) {
        b->out[i] = (kd_tensor){NULL, ((k->stat_out >> i) & 1u) != 0 ? KD_F32 : t, k->out[i]};
        KD_TRY(fill(b->be, &b->out[i], 16, err));
    }
    return KD_OK;
}

static void unbind(bound *b)
{
    if (b->def != NULL && b->def->release != NULL) {
        b->def->release(&b->call);
    }
    if (b->call.scratch != NULL) {
        b->be->ops->free(b->be, b->call.scratch);
    }
    for (int i = 0; i < KD_MAX_IN; i++) {
        if (b->in[i].data != NULL) {
            b->be->ops->free(b->be, b->in[i].data);
        }
    }
    for (int i = 0; i < KD_MAX_OUT; i++) {
        if (b->out[i].data != NULL) {
            b->be->ops->free(b->be, b->out[i].data);
        }
    }
}

/* The best candidate that takes the call, as compile chooses it. */
static kd_status choose(bound *b, const kernel_case *k, kd_dtype t, kd_err *err)
{
    for (int rank = 0;; rank++) {
        b->def = b->be->ops->find(b->be, k->op, t, rank);
        if (b->def == NULL || b->def->run == NULL) {
            b->def = NULL;
            return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: no kernel for %s", k->name, kd_dtype_name(t));
        }
        const kd_status st = b->def->prepare != NULL ? b->def->prepare(&b->call, err) : KD_OK;
        if (st == KD_E_UNSUPPORTED) {
            continue;
        }
        const size_t bytes = st == KD_OK && b->def->scratch != NULL ? b->def->scratch(&b->call) : 0;
        return st == KD_OK && bytes > 0 ? b->be->ops->alloc(b->be, bytes, &b->call.scratch) : st;
    }
}

kd_status kd_bench_kernels(kd_bench *b, kd_backend *be, kd_dtype t, int64_t batch, kd_err *err)
{
    kd_status st = KD_OK;
    b->be = be;
    for (size_t i = 0; i < KD_COUNTOF(cases) && st == KD_OK; i++) {
        char label[128];
        bound k = {.be = be};
        const kernel_case c = at_batch(&cases[i], batch);
        if (cases[i].gflop > GFLOP_A_CPU && be->ops->memory == NULL) {
            continue;
        }
        (void)snprintf(label, sizeof label, "%s, %s", c.name, kd_dtype_name(t));
        st = bind(&k, &c, t, err);
        st = st == KD_OK ? choose(&k, &c, t, err) : st;
        st = st == KD_OK ? kd_bench_time(b, label, c.gflop, "GFLOP", run, &k, err) : st;
        unbind(&k);
    }
    return st;
}
