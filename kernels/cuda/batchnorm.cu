/* batchnorm (training), batchnorm_bwd, bn_update, batchnorm_eval.
 *
 * A channel's elements are cut into slices, a block each.  Two launches: the first leaves the slices' statistics in
 * scratch, the second merges them anew in every warp (a lane a slice, so at most 32) and writes its own slice.  Means
 * and squares are those of small groups, merged as Chan et al. do: x is read once and a large mean cancels exactly.
 * The fused nodes after the affine map (bn_tail.cuh) run in the second launch; kernels are templates over TAIL,
 * so that a batch norm by itself keeps its registers. */
#include "kernels/cuda/device/bn_tail.cuh"

constexpr int BLOCK = 256, MAX_SLICES = KD_WARP, SLICE_ELEMENTS = 2048, BLOCKS = 132 * 8;

/* x (rows, C, L) as the packs of one channel: `row` packs a plane, `per` a slice. */
struct bn_shape {
    int64_t C, L, row, packs, per;
    int slices;
};

template <typename T, int P> static bn_shape shape_of(const kd_tensor *x)
{
    bn_shape s = {};
    const int64_t rows = x->shape.dim[0];
    s.C = x->shape.dim[1];
    s.L = kd_shape_span(&x->shape, 2, x->shape.rank);
    s.row = s.L / P;
    s.packs = rows * s.row;
    const int64_t want = BLOCKS / (s.C > 0 ? s.C : 1), most = rows * s.L / SLICE_ELEMENTS;
    const int64_t n = want < most ? want : most;
    s.slices = (int)(n < 1 ? 1 : n < MAX_SLICES ? n : MAX_SLICES);
    s.per = kd_div_up(s.packs, s.slices);
    return s;
}

template <typename T> static bool packed(const kd_tensor *x)
{
    return kd_shape_span(&x->shape, 2, x->shape.rank) % kd_width<T>::value == 0;
}

/* This block's packs [from, to) of channel blockIdx.x, and where pack i lies: its sample and its first element.  The
 * second launch walks them from the last to the first: the end of what the first launch read is still in the cache. */
struct bn_slice {
    int64_t from, to;
    __device__ __forceinline__ int64_t last() const
    {
        return to > from ? from + (to - from - 1) / BLOCK * BLOCK : from - 1;
    }
    static __device__ __forceinline__ bn_slice mine(const bn_shape &s)
    {
        const int64_t from = (int64_t)blockIdx.y * s.per, to = from + s.per;
        return {from + threadIdx.x, to < s.packs ? to : s.packs};
    }
};
struct bn_place {
    int64_t sample, at;
};
template <int P> static __device__ __forceinline__ bn_place place(const bn_shape &s, int64_t i)
{
    const int64_t r = kd_div(i, s.row);
    return {r, (r * s.C + blockIdx.x) * s.L + (i - r * s.row) * P};
}

/* ---- statistics ------------------------------------------------------------------------------ */

struct moments {
    float n, mean, m2; /* count, mean, sum of squares about it */
};

static __device__ __forceinline__ moments merge(const moments &a, const moments &b)
{
    if (b.n == 0.0f) {
        return a;
    }
    const float n = a.n + b.n, d = b.mean - a.mean, f = b.n / n;
    return {n, a.mean + d * f, a.m2 + b.m2 + d * d * (a.n * f)};
}

/* Lane 0 gets the merger of the warp, in a fixed tree. */
static __device__ __forceinline__ moments warp_merge(moments m)
{
    for (unsigned d = KD_WARP / 2; d > 0; d >>= 1) {
        const moments o = {__shfl_down_sync(KD_FULL, m.n, d), __shfl_down_sync(KD_FULL, m.mean, d),
                           __shfl_down_sync(KD_FULL, m.m2, d)};
        m = merge(m, o);
    }
    return m;
}

/* part (3, slices, C): count, mean and squares of each slice. */
template <typename T, int P>
static __global__ __launch_bounds__(BLOCK) void bn_moments(const T *x, float *part, bn_shape s)
{
    KD_SHARED(moments, warps, BLOCK / KD_WARP);
    const bn_slice mine = bn_slice::mine(s);
    moments all = {0.0f, 0.0f, 0.0f};
    for (int64_t i = mine.from; i < mine.to; i += BLOCK) {
        float v[P];
        ld_pack<P>(v, x, place<P>(s, i).at);
        moments m = {(float)P, 0.0f, 0.0f};
#pragma unroll
        for (int k = 0; k < P; k++) {
            m.mean += v[k];
        }
        m.mean *= 1.0f / (float)P;
#pragma unroll
        for (int k = 0; k < P; k++) {
            m.m2 += (v[k] - m.mean) * (v[k] - m.mean);
        }
        all = merge(all, m);
    }
    all = warp_merge(all);
    if (threadIdx.x % KD_WARP == 0) {
        warps[threadIdx.x / KD_WARP] = all;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < BLOCK / KD_WARP; w++) {
            all = merge(all, warps[w]);
        }
        const int64_t slot = blockIdx.y * s.C + blockIdx.x, plane = s.slices * s.C;
        part[slot] = all.n;
        part[plane + slot] = all.mean;
        part[2 * plane + slot] = all.m2;
    }
}

/* ---- y from z = (x - m) a + b ---------------------------------------------------------------- */

/* The subtraction comes first so that a large mean cancels exactly.  f(v, where): z to y. */
template <typename T, int P, typename F>
static __device__ __forceinline__ void affine(const T *x, T *y, const bn_shape &s, float m, float a, float b,
                                              const F &f)
{
    const bn_slice mine = bn_slice::mine(s);
    for (int64_t i = mine.last(); i >= mine.from; i -= BLOCK) {
        const bn_place w = place<P>(s, i);
        float v[P];
        ld_pack<P>(v, x, w.at);
#pragma unroll
        for (int k = 0; k < P; k++) {
            v[k] = (v[k] - m) * a + b;
        }
        f(v, w);
        st_pack<P>(y, w.at, v);
    }
}

/* Where a channel's statistics go; any of the pointers may be null. */
struct bn_stats {
    float *mean, *var, *rm, *rv;
    float momentum, unbias;
    __device__ void put(int64_t ch, float m, float v) const
    {
        if (mean != nullptr) {
            mean[ch] = m;
        }
        if (var != nullptr) {
            var[ch] = v;
        }
        if (rm != nullptr) {
            rm[ch] = (1.0f - momentum) * rm[ch] + momentum * m;
            rv[ch] = (1.0f - momentum) * rv[ch] + momentum * (v * unbias);
        }
    }
};

static bn_stats running_of(const kd_call *c, int rm)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    bn_stats g = {};
    g.rm = rm < c->n_in ? static_cast<float *>(c->in[rm].data) : nullptr;
    g.rv = rm + 1 < c->n_in ? static_cast<float *>(c->in[rm + 1].data) : nullptr;
    g.momentum = at->momentum;
    g.unbias = at->count > 1 ? (float)at->count / (float)(at->count - 1) : 1.0f;
    return g;
}

template <typename T, int P, bool TAIL>
static __global__ __launch_bounds__(BLOCK) void bn_apply(const T *x, const float *part, const float *gamma,
                                                         const float *beta, T *y, bn_stats to, bn_shape s, float eps,
                                                         bn_tail<T> tail)
{
    const int lane = (int)threadIdx.x % KD_WARP;
    const int64_t ch = blockIdx.x, slot = lane * s.C + ch, plane = s.slices * s.C;
    moments m = {0.0f, 0.0f, 0.0f};
    if (lane < s.slices) {
        m = {part[slot], part[plane + slot], part[2 * plane + slot]};
    }
    m = warp_merge(m);
    const float mu = __shfl_sync(KD_FULL, m.mean, 0), v = __shfl_sync(KD_FULL, m.m2 / m.n, 0);
    if (y != nullptr) {
        affine<T, P>(x, y, s, mu, gamma[ch] / sqrtf(v + eps), beta[ch], [&](float *z, const bn_place &w) {
            if (TAIL) {
                tail.template forward<P>(z, w.sample, w.at);
            }
        });
    }
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        to.put(ch, mu, v);
    }
}

template <typename T, int P, bool TAIL>
static void launch_apply(const kd_call *c, const bn_shape &s, const bn_tail<T> &tail)
{
    bn_stats to = running_of(c, 4);
    to.mean = kd_out<float>(c, 1);
    to.var = kd_out<float>(c, 2);
    KD_LAUNCH((bn_apply<T, P, TAIL>), dim3((unsigned)s.C, (unsigned)s.slices), dim3(BLOCK), c, kd_in<T>(c, 0),
              static_cast<const float *>(c->scratch), kd_in<float>(c, 1), kd_in<float>(c, 2), kd_out<T>(c, 0), to, s,
              static_cast<const kd_batchnorm_attr *>(c->attr)->eps, tail);
}

template <typename T, int P> static void launch_batchnorm(const kd_call *c)
{
    const bn_shape s = shape_of<T, P>(&c->in[0]);
    const bn_tail<T> tail = bn_tail_of<T>(c, 3);
    KD_LAUNCH((bn_moments<T, P>), dim3((unsigned)s.C, (unsigned)s.slices), dim3(BLOCK), c, kd_in<T>(c, 0),
              static_cast<float *>(c->scratch), s);
    tail.any() ? launch_apply<T, P, true>(c, s, tail) : launch_apply<T, P, false>(c, s, tail);
}

static size_t batchnorm_scratch(const kd_call *c)
{
    const bn_shape s = shape_of<float, 1>(&c->in[0]);
    return (size_t)(3 * s.slices * s.C) * sizeof(float);
}

template <typename T> static kd_status batchnorm_run(const kd_call *c)
{
    if (c->in[0].shape.dim[1] > 0) {
        packed<T>(&c->in[0]) ? launch_batchnorm<T, kd_width<T>::value>(c) : launch_batchnorm<T, 1>(c);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(batchnorm, batchnorm_scratch)

template <typename T, int P>
static __global__ __launch_bounds__(BLOCK) void bn_eval(const T *x, const float *gamma, const float *beta,
                                                        const float *rm, const float *rv, T *y, bn_shape s, float eps,
                                                        int act)
{
    const int64_t ch = blockIdx.x;
    affine<T, P>(x, y, s, rm[ch], gamma[ch] / sqrtf(rv[ch] + eps), beta[ch],
                 [&](float *z, const bn_place &) { bn_act<P>(act, z); });
}

template <typename T, int P> static void launch_eval(const kd_call *c)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    const bn_shape s = shape_of<T, P>(&c->in[0]);
    KD_LAUNCH((bn_eval<T, P>), dim3((unsigned)s.C, (unsigned)s.slices), dim3(BLOCK), c, kd_in<T>(c, 0),
              kd_in<float>(c, 1), kd_in<float>(c, 2), kd_in<float>(c, 3), kd_in<float>(c, 4), kd_out<T>(c, 0), s,
              at->eps, at->act);
}

template <typename T> static kd_status batchnorm_eval_run(const kd_call *c)
{
    if (numel(&c->in[0]) > 0) {
        packed<T>(&c->in[0]) ? launch_eval<T, kd_width<T>::value>(c) : launch_eval<T, 1>(c);
    }
    return kd_launched();
}
KD_CUDA_OP(batchnorm_eval)

/* ---- gradient -------------------------------------------------------------------------------- */

struct bn_bwd_args {
    const float *gamma, *mean, *var, *beta;
    float *dgamma, *dbeta;
    bool add_gamma, add_beta;
    float eps;
};

/* Blocks a multiprocessor: left to itself the compiler spills to make it four of half-width packs of eight. */
template <typename T, bool TAIL> constexpr int BWD_BLOCKS = !TAIL ? 6 : sizeof(T) == sizeof(float) ? 4 : 3;

/* v = x - m, g = dz of the pack at w.  z is forward's, bit for bit, so that both see a kink on the same side. */
template <typename T, int P, bool TAIL>
static __device__ __forceinline__ void bn_dz(const T *dy, const T *x, T *dres, const bn_tail<T> &tail,
                                             const bn_place &w, float m, float a, float b, float *v, float *g)
{
    ld_pack<P>(v, x, w.at);
    ld_pack<P>(g, dy, w.at);
    float z[P];
#pragma unroll
    for (int k = 0; k < P; k++) {
        v[k] -= m;
        z[k] = v[k] * a + b;
    }
    if (TAIL) {
        tail.template backward<P>(z, g, w.sample, w.at, dres);
    }
}

/* part (2, slices, C): sums of dz and of dz (x - mean) over each slice; dresidual on the way. */
template <typename T, int P, bool TAIL>
static __global__ __launch_bounds__(BLOCK, (BWD_BLOCKS<T, TAIL>)) void bn_bwd_sums(const T *dy, const T *x, T *dres,
                                                                                   float *part, bn_shape s,
                                                                                   bn_bwd_args g, bn_tail<T> tail)
{
    const bn_slice mine = bn_slice::mine(s);
    const int64_t ch = blockIdx.x;
    const float m = g.mean[ch];
    const float a = TAIL ? g.gamma[ch] / sqrtf(g.var[ch] + g.eps) : 0.0f,
                b = TAIL && g.beta != nullptr ? g.beta[ch] : 0.0f;
    float sum = 0.0f, dot = 0.0f;
    for (int64_t i = mine.from; i < mine.to; i += BLOCK) {
        float v[P], d[P];
        bn_dz<T, P, TAIL>(dy, x, dres, tail, place<P>(s, i), m, a, b, v, d);
#pragma unroll
        for (int k = 0; k < P; k++) {
            sum += d[k];
            dot += d[k] * v[k];
        }
    }
    sum = kd_block_sum(sum);
    dot = kd_block_sum(dot);
    if (threadIdx.x == 0) {
        const int64_t slot = blockIdx.y * s.C + ch;
        part[slot] = sum;
        part[s.slices * s.C + slot] = dot;
    }
}

/* dx = a (dz - sum/n - k (x - mean)), a = gamma rstd, k = dgamma rstd / n. */
template <typename T, int P, bool TAIL>
static __global__ __launch_bounds__(BLOCK, (BWD_BLOCKS<T, TAIL>)) void bn_bwd_apply(const T *dy, const T *x, T *dx,
                                                                                    const float *part, bn_shape s,
                                                                                    bn_bwd_args g, bn_tail<T> tail)
{
    const int lane = (int)threadIdx.x % KD_WARP;
    const int64_t ch = blockIdx.x, slot = lane * s.C + ch;
    const bool holds = lane < s.slices;
    const float sum = kd_warp_sum(holds ? part[slot] : 0.0f);
    const float dot = kd_warp_sum(holds ? part[s.slices * s.C + slot] : 0.0f);
    const float root = sqrtf(g.var[ch] + g.eps), m = g.mean[ch], rstd = 1.0f / root, dgamma = dot * rstd;
    const float count = (float)(s.packs * P), a = g.gamma[ch] * rstd, k = dgamma * rstd / count, mu = sum / count;
    const float scale = TAIL ? g.gamma[ch] / root : 0.0f, shift = TAIL && g.beta != nullptr ? g.beta[ch] : 0.0f;
    const bn_slice mine = bn_slice::mine(s);
    for (int64_t i = mine.last(); dx != nullptr && i >= mine.from; i -= BLOCK) {
        const bn_place w = place<P>(s, i);
        float v[P], d[P];
        bn_dz<T, P, TAIL>(dy, x, nullptr, tail, w, m, scale, shift, v, d);
#pragma unroll
        for (int j = 0; j < P; j++) {
            d[j] = a * (d[j] - mu - k * v[j]);
        }
        st_pack<P>(dx, w.at, d);
    }
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        if (g.dgamma != nullptr) {
            put(g.dgamma, ch, dgamma, g.add_gamma);
        }
        if (g.dbeta != nullptr) {
            put(g.dbeta, ch, sum, g.add_beta);
        }
    }
}

template <typename T, int P, bool TAIL>
static void launch_bwd_apply(const kd_call *c, const T *dy, const bn_shape &s, const bn_bwd_args &g,
                             const bn_tail<T> &tail)
{
    const unsigned slices = c->out[0].data != nullptr ? (unsigned)s.slices : 1u;
    KD_LAUNCH((bn_bwd_apply<T, P, TAIL>), dim3((unsigned)s.C, slices), dim3(BLOCK), c, dy, kd_in<T>(c, 1),
              kd_out<T>(c, 0), static_cast<const float *>(c->scratch), s, g, tail);
}

template <typename T, int P, bool TAIL>
static void launch_bwd_sums(const kd_call *c, const bn_shape &s, const bn_bwd_args &g, const bn_tail<T> &tail)
{
    KD_LAUNCH((bn_bwd_sums<T, P, TAIL>), dim3((unsigned)s.C, (unsigned)s.slices), dim3(BLOCK), c, kd_in<T>(c, 0),
              kd_in<T>(c, 1), kd_out<T>(c, 3), static_cast<float *>(c->scratch), s, g, tail);
}

template <typename T, int P> static void launch_bwd(const kd_call *c)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    const bn_shape s = shape_of<T, P>(&c->in[1]);
    const bn_bwd_args g = {kd_in<float>(c, 2), kd_in<float>(c, 3),  kd_in<float>(c, 4),
                           kd_in<float>(c, 5), kd_out<float>(c, 1), kd_out<float>(c, 2),
                           kd_adds(c, 1),      kd_adds(c, 2),       at->eps};
    bn_tail<T> tail = bn_tail_of<T>(c, 6);
    tail.any() ? launch_bwd_sums<T, P, true>(c, s, g, tail) : launch_bwd_sums<T, P, false>(c, s, g, tail);
    const T *dy = kd_in<T>(c, 0), *dres = kd_out<T>(c, 3);
    /* dy act_out' is there, not rounded: no need of the residual again */
    if (dres != nullptr && sizeof(T) == sizeof(float)) {
        dy = dres;
        tail.act_out = KD_ACT_NONE;
        tail.residual = nullptr;
    }
    tail.any() ? launch_bwd_apply<T, P, true>(c, dy, s, g, tail) : launch_bwd_apply<T, P, false>(c, dy, s, g, tail);
}

static size_t batchnorm_bwd_scratch(const kd_call *c)
{
    const bn_shape s = shape_of<float, 1>(&c->in[1]);
    return (size_t)(2 * s.slices * s.C) * sizeof(float);
}

template <typename T> static kd_status batchnorm_bwd_run(const kd_call *c)
{
    if (c->in[1].shape.dim[1] > 0) { /* an empty batch has gradients of 0 */
        packed<T>(&c->in[1]) ? launch_bwd<T, kd_width<T>::value>(c) : launch_bwd<T, 1>(c);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(batchnorm_bwd, batchnorm_bwd_scratch)

/* ---- running statistics ---------------------------------------------------------------------- */

static __global__ void bn_running(const float *mean, const float *var, bn_stats to, int64_t C)
{
    for (KD_EACH(i, C)) {
        to.put(i, mean[i], var[i]);
    }
}

template <typename T> static kd_status bn_update_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[0]);
    if (C > 0) {
        KD_LAUNCH(bn_running, dim3(kd_grid(C, 128)), dim3(128), c, kd_in<float>(c, 0), kd_in<float>(c, 1),
                  running_of(c, 2), C);
    }
    return kd_launched();
}
KD_CUDA_OP(bn_update)

/* ---- bn_fold: W' = s W, b' = s (b - rm) + beta, s = gamma / sqrt(rv + eps) --------------------- */

struct fold_args {
    const float *b, *gamma, *beta, *rm, *rv; /* b: may be null */
    float eps;
};

/* A block an output channel. */
template <typename T>
static __global__ __launch_bounds__(BLOCK) void fold(const T *w, T *wf, float *bf, int64_t row, fold_args a)
{
    const int64_t o = blockIdx.x;
    const float s = a.gamma[o] / sqrtf(a.rv[o] + a.eps);
    for (int64_t i = threadIdx.x; wf != nullptr && i < row; i += BLOCK) {
        st(wf, o * row + i, ld(w, o * row + i) * s);
    }
    if (threadIdx.x == 0 && bf != nullptr) {
        bf[o] = ((a.b != nullptr ? a.b[o] : 0.0f) - a.rm[o]) * s + a.beta[o];
    }
}

template <typename T> static kd_status bn_fold_run(const kd_call *c)
{
    const kd_batchnorm_attr *at = static_cast<const kd_batchnorm_attr *>(c->attr);
    const int64_t co = c->in[0].shape.dim[0], row = kd_shape_span(&c->in[0].shape, 1, c->in[0].shape.rank);
    const fold_args a = {kd_in<float>(c, 1), kd_in<float>(c, 2), kd_in<float>(c, 3),
                         kd_in<float>(c, 4), kd_in<float>(c, 5), at->eps};
    if (co > 0) {
        KD_LAUNCH((fold<T>), dim3((unsigned)co), dim3(BLOCK), c, kd_in<T>(c, 0), kd_out<T>(c, 0), kd_out<float>(c, 1),
                  row, a);
    }
    return kd_launched();
}
KD_CUDA_OP(bn_fold)
