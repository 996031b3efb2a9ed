/* layernorm and its gradient, alone and with the residual sum and drop path in front of it.  A warp a row, N neighbours
 * a lane and access (16 bytes where the row length allows); the second and third pass over a row find it in the
 * first-level cache.  dgamma and dbeta: a first kernel sums slices of rows, a second adds the slices in order. */
#include "kernels/cuda/device/dropout.cuh"
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int ROWS = 8; /* rows (warps) a block */

/* ---- forward --------------------------------------------------------------------------------- */

/* Input row: x, or s = round(x + keep b) (add_layernorm); s is written to sum unless NULL. */
template <typename T> struct source {
    const T *x, *b;
    T *sum;
    const kd_step *step; /* p > 0 */
    uint32_t rng_id;
    float p;
    int64_t per; /* rows that share a draw */
};

static __device__ __forceinline__ float dropped(float keep, float v)
{
    return keep == 0.0f ? 0.0f : keep * v; /* a dropped value contributes 0, NaN included */
}

static __device__ __forceinline__ float keep_of(const kd_step *step, uint32_t rng_id, float p, int64_t sample)
{
    return p > 0.0f ? kd_drop_row(step, rng_id, p, sample).of(0, 1.0f) : 1.0f;
}

/* N terms of the sum, rounded as they are stored. */
template <int N, typename T>
static __device__ __forceinline__ void add_terms(float *v, const source<T> &s, int64_t i, float keep)
{
    float b[N];
    kd_pack<T, N> stored;
    ld_pack<N>(v, s.x, i);
    ld_pack<N>(b, s.b, i);
#pragma unroll
    for (int k = 0; k < N; k++) {
        st(stored.v, k, v[k] + dropped(keep, b[k]));
        v[k] = ld(stored.v, k);
    }
    if (s.sum != nullptr) {
        *reinterpret_cast<kd_pack<T, N> *>(s.sum + i) = stored;
    }
}

/* N terms again: each lane reads its own stores.  x may be sum, so x is read once where there is one. */
template <int N, bool ADD, typename T>
static __device__ __forceinline__ void terms(float *v, const source<T> &s, int64_t i, float keep)
{
    if (ADD && s.sum == nullptr) {
        add_terms<N>(v, s, i, keep);
    } else {
        ld_pack<N>(v, ADD ? s.sum : s.x, i);
    }
}

template <typename T, int N, bool ADD>
static __global__ void layernorm_rows(source<T> s, const float *gamma, const float *beta, T *y, float *mean_out,
                                      float *rstd_out, int64_t rows, int C, float eps)
{
    const int64_t r = (int64_t)blockIdx.x * ROWS + threadIdx.y;
    if (r >= rows) { /* a whole warp leaves: no barrier of the block follows */
        return;
    }
    const int first = (int)threadIdx.x * N;
    const float keep = ADD ? keep_of(s.step, s.rng_id, s.p, kd_div(r, s.per)) : 1.0f;
    float v[N], sum = 0.0f, sq = 0.0f;
    for (int j = first; j < C; j += KD_WARP * N) {
        if (ADD) {
            add_terms<N>(v, s, r * C + j, keep);
        } else {
            ld_pack<N>(v, s.x, r * C + j);
        }
        for (int k = 0; k < N; k++) {
            sum += v[k];
        }
    }
    const float mean = kd_warp_sum(sum) / (float)C;
    for (int j = first; j < C; j += KD_WARP * N) {
        terms<N, ADD>(v, s, r * C + j, keep);
        for (int k = 0; k < N; k++) {
            sq += (v[k] - mean) * (v[k] - mean);
        }
    }
    const float rstd = 1.0f / sqrtf(kd_warp_sum(sq) / (float)C + eps);
    for (int j = first; y != nullptr && j < C; j += KD_WARP * N) {
        terms<N, ADD>(v, s, r * C + j, keep);
        for (int k = 0; k < N; k++) {
            v[k] = (v[k] - mean) * rstd * gamma[j + k] + beta[j + k];
        }
        st_pack<N>(y, r * C + j, v);
    }
    if (threadIdx.x == 0 && mean_out != nullptr) {
        mean_out[r] = mean;
    }
    if (threadIdx.x == 0 && rstd_out != nullptr) {
        rstd_out[r] = rstd;
    }
}

/* gamma and beta are operands `params` and the next, y, mean and rstd outputs from `out` on. */
template <typename T, int N, bool ADD>
static void launch_rows(const kd_call *c, const source<T> &s, int params, int out, int64_t rows, float eps)
{
    KD_LAUNCH((layernorm_rows<T, N, ADD>), dim3((unsigned)kd_div_up(rows, ROWS)), dim3(KD_WARP, ROWS), c, s,
              kd_in<float>(c, params), kd_in<float>(c, params + 1), kd_out<T>(c, out), kd_out<float>(c, out + 1),
              kd_out<float>(c, out + 2), rows, (int)numel(&c->in[params]), eps);
}

template <typename T> static kd_status layernorm_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const float eps = static_cast<const kd_layernorm_attr *>(c->attr)->eps;
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    source<T> s = {};
    s.x = kd_in<T>(c, 0);
    if (rows > 0) {
        C % W == 0 ? launch_rows<T, W, false>(c, s, 1, 0, rows, eps) : launch_rows<T, 1, false>(c, s, 1, 0, rows, eps);
    }
    return kd_launched();
}
KD_CUDA_OP(layernorm)

template <typename T> static kd_status add_layernorm_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_add_layernorm_attr *at = static_cast<const kd_add_layernorm_attr *>(c->attr);
    const int64_t C = numel(&c->in[2]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    if (rows > 0) {
        const source<T> s = {
            kd_in<T>(c, 0), kd_in<T>(c, 1), kd_out<T>(c, 0), c->step, at->rng_id, at->p, rows / c->in[0].shape.dim[0]};
        C % W == 0 ? launch_rows<T, W, true>(c, s, 2, 1, rows, at->eps)
                   : launch_rows<T, 1, true>(c, s, 2, 1, rows, at->eps);
    }
    return kd_launched();
}
KD_CUDA_OP(add_layernorm)

/* ---- backward -------------------------------------------------------------------------------- */

/* Where the gradient of the rows goes: dx += more where there is more, db = keep dx where that is wanted. */
template <typename T> struct sink {
    T *dx, *db;
    const T *more;
    const kd_step *step;
    uint32_t rng_id;
    float p;
    int64_t per;
};

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma.  dx may be dy: a lane writes only elements it alone has
 * read. */
template <typename T, int N>
static __global__ void layernorm_dx(const T *dy, const T *x, const float *gamma, const float *mean, const float *rstd,
                                    sink<T> to, int64_t rows, int C)
{
    const int64_t r = (int64_t)blockIdx.x * ROWS + threadIdx.y;
    if (r >= rows) {
        return;
    }
    const int first = (int)threadIdx.x * N;
    const float m = mean[r], s = rstd[r];
    float a[N], d[N], s1 = 0.0f, s2 = 0.0f;
    for (int j = first; j < C; j += KD_WARP * N) {
        ld_pack<N>(a, x, r * C + j);
        ld_pack<N>(d, dy, r * C + j);
        for (int k = 0; k < N; k++) {
            const float g = d[k] * gamma[j + k];
            s1 += g;
            s2 += g * ((a[k] - m) * s);
        }
    }
    s1 = kd_warp_sum(s1) / (float)C;
    s2 = kd_warp_sum(s2) / (float)C;
    const float keep = to.db != nullptr ? keep_of(to.step, to.rng_id, to.p, kd_div(r, to.per)) : 1.0f;
    for (int j = first; j < C; j += KD_WARP * N) {
        ld_pack<N>(a, x, r * C + j);
        ld_pack<N>(d, dy, r * C + j);
        for (int k = 0; k < N; k++) {
            d[k] = s * (d[k] * gamma[j + k] - s1 - (a[k] - m) * s * s2);
        }
        if (to.more != nullptr) {
            ld_pack<N>(a, to.more, r * C + j);
            for (int k = 0; k < N; k++) {
                d[k] += a[k];
            }
        }
        if (to.dx != nullptr) {
            st_pack<N>(to.dx, r * C + j, d);
        }
        if (to.db != nullptr) {
            for (int k = 0; k < N; k++) {
                d[k] = dropped(keep, d[k]);
            }
            st_pack<N>(to.db, r * C + j, d);
        }
    }
}

/* x, gamma, mean, rstd are operands `first` and following. */
template <typename T> static void launch_dx(const kd_call *c, int first, const sink<T> &to)
{
    constexpr int W = kd_width<T>::value;
    const int64_t C = numel(&c->in[first + 1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    if (rows == 0 || (to.dx == nullptr && to.db == nullptr)) {
        return;
    }
    const dim3 grid((unsigned)kd_div_up(rows, ROWS)), block(KD_WARP, ROWS);
    const T *dy = kd_in<T>(c, 0), *x = kd_in<T>(c, first);
    const float *gamma = kd_in<float>(c, first + 1), *mean = kd_in<float>(c, first + 2),
                *rstd = kd_in<float>(c, first + 3);
    if (C % W == 0) {
        KD_LAUNCH((layernorm_dx<T, W>), grid, block, c, dy, x, gamma, mean, rstd, to, rows, (int)C);
    } else {
        KD_LAUNCH((layernorm_dx<T, 1>), grid, block, c, dy, x, gamma, mean, rstd, to, rows, (int)C);
    }
}

/* slices of rows at most; a block: 32 channels x 8 rows at a time */
constexpr int SLICES = 256, COLUMNS = 32, LINES = 8;

/* part (2, slices, C): sums over one slice of rows. */
template <typename T>
static __global__ void layernorm_slice(const T *dy, const T *x, const float *mean, const float *rstd, float *part,
                                       int64_t rows, int64_t per, int C)
{
    KD_SHARED(float, dg, LINES * COLUMNS);
    KD_SHARED(float, db, LINES * COLUMNS);
    const int j = (int)(blockIdx.x * COLUMNS + threadIdx.x), at = (int)(threadIdx.y * COLUMNS + threadIdx.x);
    const int64_t from = blockIdx.y * per, to = from + per < rows ? from + per : rows;
    float g = 0.0f, b = 0.0f;
    for (int64_t r = from + threadIdx.y; j < C && r < to; r += LINES) {
        const float d = ld(dy, r * C + j);
        g += d * ((ld(x, r * C + j) - mean[r]) * rstd[r]);
        b += d;
    }
    dg[at] = g;
    db[at] = b;
    __syncthreads();
    if (threadIdx.y == 0 && j < C) {
        for (int l = 1; l < LINES; l++) {
            g += dg[at + l * COLUMNS];
            b += db[at + l * COLUMNS];
        }
        part[(int64_t)blockIdx.y * C + j] = g;
        part[((int64_t)gridDim.y + blockIdx.y) * C + j] = b;
    }
}

static __global__ void layernorm_params(const float *part, int slices, float *dgamma, float *dbeta, int C, bool add_g,
                                        bool add_b)
{
    for (KD_EACH(j, C)) {
        float g = 0.0f, b = 0.0f;
        for (int s = 0; s < slices; s++) {
            g += part[(int64_t)s * C + j];
            b += part[((int64_t)slices + s) * C + j];
        }
        if (dgamma != nullptr) {
            put(dgamma, j, g, add_g);
        }
        if (dbeta != nullptr) {
            put(dbeta, j, b, add_b);
        }
    }
}

static int64_t slices_for(int64_t rows)
{
    const int64_t n = kd_div_up(rows, 64);
    return n < 1 ? 1 : n < SLICES ? n : SLICES;
}

/* dgamma and dbeta, outputs `out` and the next; operands as in launch_dx. */
template <typename T> static void launch_params(const kd_call *c, int first, int out)
{
    const int64_t C = numel(&c->in[first + 1]), rows = C > 0 ? numel(&c->in[0]) / C : 0, slices = slices_for(rows);
    float *part = static_cast<float *>(c->scratch);
    if (C == 0 || (c->out[out].data == nullptr && c->out[out + 1].data == nullptr)) {
        return;
    }
    KD_LAUNCH((layernorm_slice<T>), dim3((unsigned)kd_div_up(C, COLUMNS), (unsigned)slices), dim3(COLUMNS, LINES), c,
              kd_in<T>(c, 0), kd_in<T>(c, first), kd_in<float>(c, first + 2), kd_in<float>(c, first + 3), part, rows,
              kd_div_up(rows, slices), (int)C);
    KD_LAUNCH(layernorm_params, dim3(kd_grid(C, 128)), dim3(128), c, part, (int)slices, kd_out<float>(c, out),
              kd_out<float>(c, out + 1), (int)C, kd_adds(c, out), kd_adds(c, out + 1));
}

static size_t params_scratch(const kd_call *c)
{
    const kd_shape &dy = c->in[0].shape;
    const int64_t C = dy.dim[dy.rank - 1], rows = C > 0 ? numel(&c->in[0]) / C : 0;
    return (size_t)(2 * slices_for(rows) * C) * sizeof(float);
}

template <typename T> static kd_status layernorm_bwd_run(const kd_call *c)
{
    sink<T> to = {};
    to.dx = kd_out<T>(c, 0);
    launch_params<T>(c, 1, 1);
    launch_dx<T>(c, 1, to);
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(layernorm_bwd, params_scratch)

template <typename T> static kd_status add_layernorm_bwd_run(const kd_call *c)
{
    const kd_add_layernorm_attr *at = static_cast<const kd_add_layernorm_attr *>(c->attr);
    const int64_t C = numel(&c->in[3]), B = c->in[0].shape.dim[0];
    sink<T> to = {kd_out<T>(c, 0), kd_out<T>(c, 1), kd_in<T>(c, 1), c->step, at->rng_id, at->p, 1};
    if (B * C > 0) {
        to.per = numel(&c->in[0]) / (B * C);
    }
    launch_params<T>(c, 2, 2); /* first: da may be dy */
    launch_dx<T>(c, 2, to);
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(add_layernorm_bwd, params_scratch)
