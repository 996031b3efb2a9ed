/* adj_norm, dyn_adj and their gradients: V x V matrices, V at most 256, far from any hot loop. */
#include "kernels/cuda/device/kd_cuda.cuh"

/* ---- adj_norm: one block, a warp a row ------------------------------------------------------- */

constexpr int NORM_WARPS = 16;
constexpr float MIN_DEGREE = 1e-6f;

/* The matrix that is normalised: L, or |fixed + L|. */
struct adjacency {
    const float *learned, *fixed;
    int mode;
    __device__ float raw(int i) const
    {
        return learned[i] + (fixed != nullptr ? fixed[i] : 0.0f);
    }
    __device__ float entry(int i) const
    {
        return mode == KD_ADJ_ABS ? fabsf(raw(i)) : raw(i);
    }
};

/* s[v] = rowsum^-1/2 under the mode's guard; d[v] = ds/d(rowsum).  Ends with a barrier. */
static __device__ void row_scales(const adjacency &m, int V, float *s, float *d)
{
    for (int i = (int)threadIdx.y; i < V; i += NORM_WARPS) {
        float sum = 0.0f;
        for (int j = (int)threadIdx.x; j < V; j += KD_WARP) {
            sum += m.entry(i * V + j);
        }
        sum = kd_warp_sum(sum);
        const bool low = m.mode == KD_ADJ_ABS && sum < MIN_DEGREE;
        /* an empty row is cut off, and no gradient crosses the cut */
        const bool cut = m.mode == KD_ADJ_V1 && sum == 0.0f;
        const float r = cut ? 0.0f : 1.0f / sqrtf(low ? MIN_DEGREE : sum);
        if (threadIdx.x == 0) {
            s[i] = r;
            d[i] = low ? 0.0f : -0.5f * r * r * r;
        }
    }
    __syncthreads();
}

static __global__ void adj_norm_kernel(adjacency m, float *a, int V)
{
    KD_SHARED(float, s, KD_MAX_JOINTS);
    KD_SHARED(float, d, KD_MAX_JOINTS);
    row_scales(m, V, s, d);
    for (int i = (int)threadIdx.y; i < V; i += NORM_WARPS) {
        for (int j = (int)threadIdx.x; j < V; j += KD_WARP) {
            a[i * V + j] = s[i] * m.entry(i * V + j) * s[j];
        }
    }
}

template <typename T> static kd_status adj_norm_run(const kd_call *c)
{
    const adjacency m = {kd_in<float>(c, 0), kd_in<float>(c, 1), static_cast<const kd_adj_norm_attr *>(c->attr)->mode};
    KD_LAUNCH(adj_norm_kernel, dim3(1), dim3(KD_WARP, NORM_WARPS), c, m, kd_out<float>(c, 0),
              (int)c->out[0].shape.dim[0]);
    return kd_launched();
}
KD_CUDA_OP(adj_norm)

static __global__ void adj_norm_back(const float *da, adjacency m, float *dl, int V, bool add)
{
    KD_SHARED(float, s, KD_MAX_JOINTS);
    KD_SHARED(float, d, KD_MAX_JOINTS);
    row_scales(m, V, s, d);
    for (int i = (int)threadIdx.y; i < V; i += NORM_WARPS) {
        float ds = 0.0f; /* gradient of s[i], through row i and through column i */
        for (int j = (int)threadIdx.x; j < V; j += KD_WARP) {
            ds += da[i * V + j] * m.entry(i * V + j) * s[j];
            ds += da[j * V + i] * m.entry(j * V + i) * s[j];
        }
        ds = kd_warp_sum(ds) * d[i];
        for (int j = (int)threadIdx.x; j < V; j += KD_WARP) {
            const float raw = m.raw(i * V + j), sign = raw > 0.0f ? 1.0f : raw < 0.0f ? -1.0f : 0.0f;
            const float db = s[i] * s[j] * da[i * V + j] + ds;
            put(dl, i * V + j, m.mode == KD_ADJ_ABS ? db * sign : db, add);
        }
    }
}

template <typename T> static kd_status adj_norm_bwd_run(const kd_call *c)
{
    const adjacency m = {kd_in<float>(c, 1), kd_in<float>(c, 2), static_cast<const kd_adj_norm_attr *>(c->attr)->mode};
    KD_LAUNCH(adj_norm_back, dim3(1), dim3(KD_WARP, NORM_WARPS), c, kd_in<float>(c, 0), m, kd_out<float>(c, 0),
              (int)c->out[0].shape.dim[0], kd_adds(c, 0));
    return kd_launched();
}
KD_CUDA_OP(adj_norm_bwd)

/* ---- dyn_adj: a block 16 rows of a sample's matrix ------------------------------------------- */

constexpr int ROWS = 16, THREADS = KD_WARP * ROWS;
constexpr int PIECE = 4096; /* elements of u in the block's memory */

/* norm[v] = |e[:,v]| + 1e-8; e (E,V) is one sample.  As many whole rows of threads as fit.  Ends with a barrier. */
template <typename T> static __device__ void column_norms(const T *e, int E, int V, float *norm)
{
    KD_SHARED(float, squares, THREADS);
    const int t = (int)threadIdx.x, lines = THREADS / V, line = t / V, v = t % V;
    float sum = 0.0f;
    for (int k = line; line < lines && k < E; k += lines) {
        const float x = ld(e, (int64_t)k * V + v);
        sum += x * x;
    }
    squares[t] = sum;
    __syncthreads();
    if (t < V) {
        for (int l = 1; l < lines; l++) {
            sum += squares[l * V + t];
        }
        norm[t] = sqrtf(sum) + 1e-8f;
    }
    __syncthreads();
}

/* u (count,V) = rows of e over the norms.  Between two barriers. */
template <typename T> static __device__ void load_unit(float *u, const T *e, int count, int V, const float *norm)
{
    __syncthreads();
    for (int j = (int)threadIdx.x; j < count * V; j += THREADS) {
        u[j] = ld(e, j) / norm[j % V];
    }
    __syncthreads();
}

/* A warp a row, J columns a lane. */
template <typename T, int J> static __global__ void dyn_adj_rows(const T *e, float *a, int E, int V)
{
    KD_SHARED(float, norm, KD_MAX_JOINTS);
    KD_SHARED(float, u, PIECE);
    const int lane = (int)threadIdx.x % KD_WARP, i = (int)(blockIdx.y * ROWS + threadIdx.x / KD_WARP);
    const int step = PIECE / V;
    const int64_t n = (int64_t)blockIdx.x;
    float s[J];
#pragma unroll
    for (int k = 0; k < J; k++) {
        s[k] = 0.0f;
    }
    column_norms(e + n * E * V, E, V, norm);
    for (int from = 0; from < E; from += step) {
        const int count = E - from < step ? E - from : step;
        load_unit(u, e + (n * E + from) * V, count, V, norm);
        for (int r = 0; i < V && r < count; r++) {
            const float mine = u[r * V + i];
#pragma unroll
            for (int k = 0; k < J; k++) {
                const int j = lane + k * KD_WARP;
                s[k] += j < V ? mine * u[r * V + j] : 0.0f;
            }
        }
    }
    float top = s[0], sum = 0.0f;
#pragma unroll
    for (int k = 0; k < J; k++) {
        s[k] = lane + k * KD_WARP < V ? s[k] : -INFINITY;
        top = k == 0 ? s[0] : kd_max_nan(top, s[k]);
    }
    top = kd_warp_max(top);
#pragma unroll
    for (int k = 0; k < J; k++) {
        s[k] = expf(s[k] - top);
        sum += s[k];
    }
    sum = kd_warp_sum(sum);
#pragma unroll
    for (int k = 0; k < J; k++) {
        const int j = lane + k * KD_WARP;
        if (i < V && j < V) {
            a[(n * V + i) * V + j] = s[k] / sum;
        }
    }
}

template <typename T> static kd_status dyn_adj_run(const kd_call *c)
{
    const int64_t *d = c->in[0].shape.dim;
    const int E = (int)d[1], V = (int)d[2];
    const dim3 grid((unsigned)d[0], (unsigned)kd_div_up(V, ROWS));
    const T *e = kd_in<T>(c, 0);
    float *a = kd_out<float>(c, 0);
    if (d[0] == 0) {
        return KD_OK;
    }
    if (V <= KD_WARP) {
        KD_LAUNCH((dyn_adj_rows<T, 1>), grid, dim3(THREADS), c, e, a, E, V);
    } else if (V <= 2 * KD_WARP) {
        KD_LAUNCH((dyn_adj_rows<T, 2>), grid, dim3(THREADS), c, e, a, E, V);
    } else {
        KD_LAUNCH((dyn_adj_rows<T, KD_MAX_JOINTS / KD_WARP>), grid, dim3(THREADS), c, e, a, E, V);
    }
    return kd_launched();
}
KD_CUDA_OP(dyn_adj)

/* m (ROWS,V): rows first.. of ds + ds^T, ds the gradient of the scores (they are symmetric in u: both sides count). */
static __device__ void score_gradients(const float *da, const float *a, int V, int first, float *dot, float *m)
{
    const int lane = (int)threadIdx.x % KD_WARP, warp = (int)threadIdx.x / KD_WARP;
    for (int i = warp; i < V; i += ROWS) {
        float sum = 0.0f;
        for (int j = lane; j < V; j += KD_WARP) {
            sum += da[i * V + j] * a[i * V + j];
        }
        sum = kd_warp_sum(sum);
        if (lane == 0) {
            dot[i] = sum;
        }
    }
    __syncthreads();
    const int i = first + warp;
    for (int j = lane; i < V && j < V; j += KD_WARP) {
        m[warp * V + j] = a[i * V + j] * (da[i * V + j] - dot[i]) + a[j * V + i] * (da[j * V + i] - dot[j]);
    }
    __syncthreads();
}

static __device__ __forceinline__ float dot_of(const float *m, const float *u, int V)
{
    float sum = 0.0f;
    for (int j = 0; j < V; j++) {
        sum += m[j] * u[j];
    }
    return sum;
}

/* A block 16 columns of a sample's de.  A thread keeps to its column i; du[k,i] = m[i] . u[k] is found twice, once for
 * its part along u, which the normalisation takes away, once for the result: cheaper than keeping it. */
template <typename T>
static __global__ void dyn_adj_back(const float *da, const T *e, const float *a, T *de, int E, int V)
{
    KD_SHARED(float, norm, KD_MAX_JOINTS);
    KD_SHARED(float, dot, KD_MAX_JOINTS);
    KD_SHARED(float, m, ROWS *KD_MAX_JOINTS);
    KD_SHARED(float, u, PIECE);
    KD_SHARED(float, parts, THREADS);
    const int t = (int)threadIdx.x, own = t % ROWS, line = t / ROWS, lines = THREADS / ROWS;
    const int first = (int)blockIdx.y * ROWS, i = first + own, step = PIECE / V;
    const int64_t n = (int64_t)blockIdx.x;
    column_norms(e + n * E * V, E, V, norm);
    score_gradients(da + n * V * V, a + n * V * V, V, first, dot, m);
    float along = 0.0f;
    for (int from = 0; from < E; from += step) {
        const int count = E - from < step ? E - from : step;
        load_unit(u, e + (n * E + from) * V, count, V, norm);
        for (int k = line; i < V && k < count; k += lines) {
            along += dot_of(m + own * V, u + k * V, V) * u[k * V + i];
        }
    }
    parts[t] = along;
    __syncthreads();
    along = 0.0f;
    for (int l = 0; l < lines; l++) {
        along += parts[l * ROWS + own];
    }
    for (int from = 0; from < E; from += step) {
        const int count = E - from < step ? E - from : step;
        if (step < E) { /* else all of u is still there */
            load_unit(u, e + (n * E + from) * V, count, V, norm);
        }
        for (int k = line; i < V && k < count; k += lines) {
            const float len = norm[i] - 1e-8f; /* d|e|/de is e/|e|, and 0 at |e| = 0 */
            const float ray = len > 0.0f ? u[k * V + i] * norm[i] / len : 0.0f;
            st(de, (n * E + from + k) * V + i, (dot_of(m + own * V, u + k * V, V) - along * ray) / norm[i]);
        }
    }
}

template <typename T> static kd_status dyn_adj_bwd_run(const kd_call *c)
{
    const int64_t *d = c->in[1].shape.dim;
    if (d[0] > 0) {
        KD_LAUNCH((dyn_adj_back<T>), dim3((unsigned)d[0], (unsigned)kd_div_up(d[2], ROWS)), dim3(THREADS), c,
                  kd_in<float>(c, 0), kd_in<T>(c, 1), kd_in<float>(c, 2), kd_out<T>(c, 0), (int)d[1], (int)d[2]);
    }
    return kd_launched();
}
KD_CUDA_OP(dyn_adj_bwd)
