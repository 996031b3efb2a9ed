/* layernorm and its gradient.  A warp a row, N neighbours a lane and access (16 bytes where the row length allows); the second
 * and third pass over a row find it in the first-level cache.  dgamma and dbeta: a first kernel sums slices of rows, a second
 * adds the slices in order. */
#include "kernels/cuda/kd_cuda.cuh"

constexpr int ROWS = 8; /* rows (warps) a block */

template <typename T, int N>
static __global__ void layernorm_rows(const T *x, const float *gamma, const float *beta, T *y, float *mean_out, float *rstd_out,
                                      int64_t rows, int C, float eps)
{
    const int64_t r = (int64_t)blockIdx.x * ROWS + threadIdx.y;
    if (r >= rows) { /* a whole warp leaves: no barrier of the block follows */
        return;
    }
    const int first = (int)threadIdx.x * N;
    const T *row = x + r * C;
    float v[N], sum = 0.0f, sq = 0.0f;
    for (int j = first; j < C; j += KD_WARP * N) {
        ld_pack<N>(v, row, j);
        for (int k = 0; k < N; k++) {
            sum += v[k];
        }
    }
    const float mean = kd_warp_sum(sum) / (float)C;
    for (int j = first; j < C; j += KD_WARP * N) {
        ld_pack<N>(v, row, j);
        for (int k = 0; k < N; k++) {
            sq += (v[k] - mean) * (v[k] - mean);
        }
    }
    const float rstd = 1.0f / sqrtf(kd_warp_sum(sq) / (float)C + eps);
    for (int j = first; y != nullptr && j < C; j += KD_WARP * N) {
        ld_pack<N>(v, row, j);
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

template <typename T, int N> static void launch_rows(const kd_call *c, int64_t rows, int64_t C)
{
    const kd_layernorm_attr *at = static_cast<const kd_layernorm_attr *>(c->attr);
    KD_LAUNCH((layernorm_rows<T, N>), dim3((unsigned)kd_div_up(rows, ROWS)), dim3(KD_WARP, ROWS), c, kd_in<T>(c, 0),
              kd_in<float>(c, 1), kd_in<float>(c, 2), kd_out<T>(c, 0), kd_out<float>(c, 1), kd_out<float>(c, 2), rows, (int)C,
              at->eps);
}

template <typename T> static kd_status layernorm_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    if (rows > 0) {
        C % kd_width<T>::value == 0 ? launch_rows<T, kd_width<T>::value>(c, rows, C) : launch_rows<T, 1>(c, rows, C);
    }
    return kd_launched();
}
KD_CUDA_OP(layernorm)

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma. */
template <typename T, int N>
static __global__ void layernorm_dx(const T *dy, const T *x, const float *gamma, const float *mean, const float *rstd, T *dx,
                                    int64_t rows, int C)
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
    for (int j = first; j < C; j += KD_WARP * N) {
        ld_pack<N>(a, x, r * C + j);
        ld_pack<N>(d, dy, r * C + j);
        for (int k = 0; k < N; k++) {
            d[k] = s * (d[k] * gamma[j + k] - s1 - (a[k] - m) * s * s2);
        }
        st_pack<N>(dx, r * C + j, d);
    }
}

template <typename T, int N> static void launch_dx(const kd_call *c, int64_t rows, int64_t C)
{
    KD_LAUNCH((layernorm_dx<T, N>), dim3((unsigned)kd_div_up(rows, ROWS)), dim3(KD_WARP, ROWS), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              kd_in<float>(c, 2), kd_in<float>(c, 3), kd_in<float>(c, 4), kd_out<T>(c, 0), rows, (int)C);
}

constexpr int SLICES = 256, COLUMNS = 32, LINES = 8; /* slices of rows at most; a block: 32 channels x 8 rows at a time */

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

static __global__ void layernorm_params(const float *part, int slices, float *dgamma, float *dbeta, int C, bool add_g, bool add_b)
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

static int64_t slices_of(const kd_call *c)
{
    const int64_t C = numel(&c->in[2]), rows = C > 0 ? numel(&c->in[1]) / C : 0;
    const int64_t n = kd_div_up(rows, 64);
    return n < 1 ? 1 : n < SLICES ? n : SLICES;
}

static size_t layernorm_bwd_scratch(const kd_call *c)
{
    return (size_t)(2 * slices_of(c) * numel(&c->in[2])) * sizeof(float);
}

template <typename T> static kd_status layernorm_bwd_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[2]), rows = C > 0 ? numel(&c->in[1]) / C : 0;
    const T *dy = kd_in<T>(c, 0), *x = kd_in<T>(c, 1);
    const float *mean = kd_in<float>(c, 3), *rstd = kd_in<float>(c, 4);
    if (rows > 0 && c->out[0].data != nullptr) {
        C % kd_width<T>::value == 0 ? launch_dx<T, kd_width<T>::value>(c, rows, C) : launch_dx<T, 1>(c, rows, C);
    }
    if (C > 0 && (c->out[1].data != nullptr || c->out[2].data != nullptr)) {
        const int64_t slices = slices_of(c);
        float *part = static_cast<float *>(c->scratch);
        KD_LAUNCH((layernorm_slice<T>), dim3((unsigned)kd_div_up(C, COLUMNS), (unsigned)slices), dim3(COLUMNS, LINES), c, dy, x,
                  mean, rstd, part, rows, kd_div_up(rows, slices), (int)C);
        KD_LAUNCH(layernorm_params, dim3(kd_grid(C, 128)), dim3(128), c, part, (int)slices, kd_out<float>(c, 1),
                  kd_out<float>(c, 2), (int)C, kd_adds(c, 1), kd_adds(c, 2));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(layernorm_bwd, layernorm_bwd_scratch)
