/* pool_layernorm and its gradient.
 *
 * Forward is two launches: slices of a sample's tokens are summed into scratch by as many blocks as fill a card, then a
 * block a sample adds its slices in order and normalises.  Backward is one: what every token of a sample gets is worked
 * out by each block that writes some of them, and further blocks do dgamma and dbeta. */
#include "kernels/cuda/device/column_sum.cuh"

constexpr int LINES = 8;          /* tokens a block takes at a time */
constexpr int POOL_BLOCKS = 1024; /* of both grids, as far as the shape has work for them */

/* Slices of a sample's tokens, each of at least 2 x LINES. */
static int64_t pool_slices(int64_t B, int64_t tokens, int64_t column_blocks)
{
    const int64_t blocks = B * column_blocks, want = kd_div_up(POOL_BLOCKS, blocks < 1 ? 1 : blocks);
    const int64_t most = kd_div_up(tokens, 2 * LINES), n = want < most ? want : most;
    return n < 1 ? 1 : n;
}

/* A block a sample.  The mean over tokens stays in `row`: the pooled output, or the sample's first slice where none is
 * wanted. */
template <typename T>
static __global__ void pool_normalise(float *part, int slices, const float *gamma, const float *beta, T *y,
                                      float *pooled, float *mean_out, float *rstd_out, int64_t tokens, int C, float eps)
{
    const int64_t sample = blockIdx.x;
    float *slice = part + sample * slices * C, *row = pooled != nullptr ? pooled + sample * C : slice;
    float sum = 0.0f, sq = 0.0f;
    for (int j = (int)threadIdx.x; j < C; j += (int)blockDim.x) { /* a column is this thread's from here to the end */
        float s = 0.0f;
#pragma unroll 8
        for (int i = 0; i < slices; i++) {
            s += slice[(int64_t)i * C + j];
        }
        s /= (float)tokens;
        row[j] = s;
        sum += s;
    }
    const float mean = kd_block_sum(sum) / (float)C;
    for (int j = (int)threadIdx.x; j < C; j += (int)blockDim.x) {
        sq += (row[j] - mean) * (row[j] - mean);
    }
    const float rstd = 1.0f / sqrtf(kd_block_sum(sq) / (float)C + eps);
    for (int j = (int)threadIdx.x; y != nullptr && j < C; j += (int)blockDim.x) {
        st(y, sample * C + j, (row[j] - mean) * rstd * gamma[j] + beta[j]);
    }
    if (threadIdx.x == 0 && mean_out != nullptr) {
        mean_out[sample] = mean;
    }
    if (threadIdx.x == 0 && rstd_out != nullptr) {
        rstd_out[sample] = rstd;
    }
}

/* Neighbours a thread takes at once, and blocks side by side for a row of C. */
template <typename T> static int pool_width(int64_t C)
{
    return C % kd_width<T>::value == 0 ? kd_width<T>::value : 1;
}
template <typename T> static int64_t pool_columns(int64_t C)
{
    return kd_div_up(C, KD_WARP * pool_width<T>(C));
}

template <typename T> static int64_t pool_slices_of(const kd_call *c)
{
    const kd_shape *x = &c->in[0].shape;
    return pool_slices(x->dim[0], x->dim[1], pool_columns<T>(x->dim[2]));
}

static size_t pool_layernorm_scratch(const kd_call *c)
{
    const kd_shape *x = &c->in[0].shape;
    const int64_t slices = c->in[0].dtype == KD_F32 ? pool_slices_of<float>(c) : pool_slices_of<kd_bf16>(c);
    return (size_t)(x->dim[0] * slices * x->dim[2]) * sizeof(float);
}

/* part (B, slices, C): sums over the tokens of a slice. */
template <typename T, int N> static void launch_pool(const kd_call *c, int64_t slices, float *part)
{
    const int64_t B = c->in[0].shape.dim[0], tokens = c->in[0].shape.dim[1], C = c->in[0].shape.dim[2];
    const kd_column_terms<T> x = {kd_in<T>(c, 0)};
    KD_LAUNCH((kd_column_slice<N, float, kd_column_terms<T>>),
              dim3((unsigned)pool_columns<T>(C), (unsigned)slices, (unsigned)B), dim3(KD_WARP, KD_COLUMN_LINES), c, x,
              part, tokens, kd_div_up(tokens, slices), C, false);
}

template <typename T> static kd_status pool_layernorm_run(const kd_call *c)
{
    const int64_t B = c->in[0].shape.dim[0], tokens = c->in[0].shape.dim[1], C = c->in[0].shape.dim[2];
    const int64_t slices = pool_slices_of<T>(c), warps = kd_div_up(C, KD_WARP);
    float *part = static_cast<float *>(c->scratch);
    if (B * C > 0) {
        pool_width<T>(C) == 1 ? launch_pool<T, 1>(c, slices, part)
                              : launch_pool<T, kd_width<T>::value>(c, slices, part);
        KD_LAUNCH((pool_normalise<T>), dim3((unsigned)B), dim3((unsigned)((warps < 32 ? warps : 32) * KD_WARP)), c,
                  part, (int)slices, kd_in<float>(c, 1), kd_in<float>(c, 2), kd_out<T>(c, 0), kd_out<float>(c, 1),
                  kd_out<float>(c, 2), kd_out<float>(c, 3), tokens, (int)C,
                  static_cast<const kd_pool_layernorm_attr *>(c->attr)->eps);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(pool_layernorm, pool_layernorm_scratch)

struct pool_back {
    const float *x, *gamma, *mean, *rstd; /* x: the pooled rows */
    float *dgamma, *dbeta;
    int64_t B, tokens, C, per; /* per: tokens of a slice */
    bool add_g, add_b;
    unsigned columns, slices, spread; /* blocks: `spread` of them write dx, the others dgamma and dbeta */
};

/* dgamma and dbeta of a thread's channel, samples in order. */
template <typename T> static __device__ __forceinline__ void pool_params(const T *dy, const pool_back &p)
{
    const int64_t j = (int64_t)(blockIdx.x - p.spread) * blockDim.x + threadIdx.x;
    float g = 0.0f, b = 0.0f;
    for (int64_t s = 0; j < p.C && s < p.B; s++) {
        const float d = ld(dy, s * p.C + j);
        g += d * ((p.x[s * p.C + j] - p.mean[s]) * p.rstd[s]);
        b += d;
    }
    if (j < p.C && p.dgamma != nullptr) {
        put(p.dgamma, j, g, p.add_g);
    }
    if (j < p.C && p.dbeta != nullptr) {
        put(p.dbeta, j, b, p.add_b);
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) / tokens for every token, g = dy gamma. */
template <typename T, int N> static __global__ void pool_spread(const T *dy, T *dx, pool_back p)
{
    if (blockIdx.x >= p.spread) { /* a whole block */
        pool_params(dy, p);
        return;
    }
    const int64_t sample = blockIdx.x / (p.columns * p.slices), slice = blockIdx.x / p.columns % p.slices;
    const int lane = (int)threadIdx.x % KD_WARP, line = (int)threadIdx.x / KD_WARP;
    const int64_t column = ((int64_t)(blockIdx.x % p.columns) * KD_WARP + lane) * N;
    const int64_t from = slice * p.per, to = from + p.per < p.tokens ? from + p.per : p.tokens;
    const float m = p.mean[sample], s = p.rstd[sample], *x = p.x + sample * p.C;
    float s1 = 0.0f, s2 = 0.0f, v[N];
    dy += sample * p.C;
    for (int64_t j = threadIdx.x; j < p.C; j += blockDim.x) {
        const float g = ld(dy, j) * p.gamma[j];
        s1 += g;
        s2 += g * ((x[j] - m) * s);
    }
    s1 = kd_block_sum(s1) / (float)p.C;
    s2 = kd_block_sum(s2) / (float)p.C;
#pragma unroll
    for (int k = 0; k < N; k++) {
        const int64_t j = column + k;
        v[k] = j < p.C ? s * (ld(dy, j) * p.gamma[j] - s1 - (x[j] - m) * s * s2) / (float)p.tokens : 0.0f;
    }
    for (int64_t r = from + line; column < p.C && r < to; r += LINES) {
        st_pack<N>(dx, (sample * p.tokens + r) * p.C + column, v);
    }
}

template <typename T> static kd_status pool_layernorm_bwd_run(const kd_call *c)
{
    constexpr int BLOCK = KD_WARP * LINES;
    pool_back p = {};
    p.x = kd_in<float>(c, 1);
    p.gamma = kd_in<float>(c, 2);
    p.mean = kd_in<float>(c, 3);
    p.rstd = kd_in<float>(c, 4);
    p.dgamma = kd_out<float>(c, 1);
    p.dbeta = kd_out<float>(c, 2);
    p.B = c->in[0].shape.dim[0];
    p.tokens = static_cast<const kd_pool_layernorm_attr *>(c->attr)->tokens;
    p.C = c->in[0].shape.dim[1];
    p.add_g = kd_adds(c, 1);
    p.add_b = kd_adds(c, 2);
    p.columns = (unsigned)pool_columns<T>(p.C);
    p.slices = (unsigned)pool_slices(p.B, p.tokens, p.columns);
    p.per = kd_div_up(p.tokens, p.slices);
    p.spread = kd_out<T>(c, 0) != nullptr && p.tokens > 0 ? p.columns * p.slices * (unsigned)p.B : 0;
    const bool params = p.dgamma != nullptr || p.dbeta != nullptr;
    const unsigned blocks = p.spread + (params ? (unsigned)kd_div_up(p.C, BLOCK) : 0);
    if (p.C > 0 && blocks > 0) {
        if (pool_width<T>(p.C) == 1) {
            KD_LAUNCH((pool_spread<T, 1>), dim3(blocks), dim3(BLOCK), c, kd_in<T>(c, 0), kd_out<T>(c, 0), p);
        } else {
            KD_LAUNCH((pool_spread<T, kd_width<T>::value>), dim3(blocks), dim3(BLOCK), c, kd_in<T>(c, 0),
                      kd_out<T>(c, 0), p);
        }
    }
    return kd_launched();
}
KD_CUDA_OP(pool_layernorm_bwd)
