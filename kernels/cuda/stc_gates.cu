/* stc_gates and its gradient: a block a sample.  All there is of a sample are some hundred numbers, so what counts is
 * the number of launches: one forward, two backward, the second for the sums over samples. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int BLOCK = 128;

template <typename T> struct gates {
    const T *time, *joint, *wt, *ws;
    int64_t t;
    int v, taps;
};

template <typename T> static gates<T> gates_of(const kd_call *c, int first)
{
    return {kd_in<T>(c, first),
            kd_in<T>(c, first + 1),
            kd_in<T>(c, first + 2),
            kd_in<T>(c, first + 3),
            c->in[first].shape.dim[2],
            (int)c->in[first + 1].shape.dim[1],
            (int)c->in[first + 2].shape.dim[2]};
}

/* The argument of the sigmoid of this sample's frame i. */
template <typename T> static __device__ __forceinline__ float before_sigmoid(const gates<T> &g, int64_t i)
{
    const T *x = g.time + blockIdx.x * 2 * g.t;
    float sum = 0.0f;
    for (int k = 0; k < g.taps; k++) {
        const int64_t at = i + k - g.taps / 2;
        if (at >= 0 && at < g.t) {
            sum += ld(g.wt, k) * ld(x, at) + ld(g.wt, g.taps + k) * ld(x, g.t + at);
        }
    }
    return sum;
}

/* z (V) = this sample's row of softmax(ws joint); every thread has written, and may read, what it strides over. */
template <typename T> static __device__ __forceinline__ void probabilities(const gates<T> &g, float *z)
{
    const T *x = g.joint + (int64_t)blockIdx.x * g.v;
    float top = -INFINITY, sum = 0.0f;
    for (int v = (int)threadIdx.x; v < g.v; v += BLOCK) {
        float dot = 0.0f;
        for (int u = 0; u < g.v; u++) {
            dot += ld(g.ws, (int64_t)v * g.v + u) * ld(x, u);
        }
        z[v] = dot;
        top = kd_max_nan(dot, top);
    }
    top = kd_block_max(top);
    for (int v = (int)threadIdx.x; v < g.v; v += BLOCK) {
        z[v] = expf(z[v] - top);
        sum += z[v];
    }
    sum = kd_block_sum(sum);
    for (int v = (int)threadIdx.x; v < g.v; v += BLOCK) {
        z[v] /= sum;
    }
}

/* probs (N,V): scratch. */
template <typename T> static __global__ __launch_bounds__(BLOCK) void stc_gates(gates<T> g, T *at, T *av, float *probs)
{
    float *p = probs + (int64_t)blockIdx.x * g.v;
    for (int64_t i = threadIdx.x; at != nullptr && i < g.t; i += BLOCK) {
        st(at, blockIdx.x * g.t + i, kd_sigmoid(before_sigmoid(g, i)));
    }
    if (av != nullptr) { /* the same for all threads */
        probabilities(g, p);
        for (int v = (int)threadIdx.x; v < g.v; v += BLOCK) {
            st(av, (int64_t)blockIdx.x * g.v + v, (float)g.v * p[v]);
        }
    }
}

static size_t stc_gates_scratch(const kd_call *c)
{
    return (size_t)numel(&c->in[1]) * sizeof(float);
}

template <typename T> static kd_status stc_gates_run(const kd_call *c)
{
    const int64_t n = c->in[0].shape.dim[0];
    if (n > 0) {
        KD_LAUNCH((stc_gates<T>), dim3((unsigned)n), dim3(BLOCK), c, gates_of<T>(c, 0), kd_out<T>(c, 0),
                  kd_out<T>(c, 1), static_cast<float *>(c->scratch));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(stc_gates, stc_gates_scratch)

/* ---- gradient -------------------------------------------------------------------------------- */

/* Scratch: da (N,T), dz (N,V), and each sample's part of the weights' gradients (N, V V + 2 K). */
struct gates_scratch {
    float *da, *dz, *part;
};

static int64_t weights_of(const kd_call *c)
{
    return numel(&c->in[4]) + numel(&c->in[5]);
}

static gates_scratch scratch_of(const kd_call *c)
{
    float *p = static_cast<float *>(c->scratch);
    const int64_t n = c->in[2].shape.dim[0];
    return {p, p + n * c->in[2].shape.dim[2], p + n * (c->in[2].shape.dim[2] + c->in[3].shape.dim[1])};
}

static size_t stc_gates_bwd_scratch(const kd_call *c)
{
    const int64_t a_sample = c->in[2].shape.dim[2] + c->in[3].shape.dim[1] + weights_of(c);
    return (size_t)(c->in[2].shape.dim[0] * a_sample) * sizeof(float);
}

template <typename T> static __device__ __forceinline__ void frames_bwd(const gates<T> &g, const float *da, T *dtime)
{
    for (int64_t i = threadIdx.x; dtime != nullptr && i < 2 * g.t; i += BLOCK) {
        const int64_t ch = i / g.t, t = i - ch * g.t;
        float sum = 0.0f;
        for (int k = 0; k < g.taps; k++) {
            const int64_t from = t - k + g.taps / 2;
            sum += from >= 0 && from < g.t ? ld(g.wt, ch * g.taps + k) * da[from] : 0.0f;
        }
        st(dtime, blockIdx.x * 2 * g.t + i, sum);
    }
}

/* A warp an entry of wt: its sum over this sample's frames. */
template <typename T> static __device__ __forceinline__ void taps_bwd(const gates<T> &g, const float *da, float *dwt)
{
    const T *x = g.time + blockIdx.x * 2 * g.t;
    for (int i = (int)threadIdx.x / KD_WARP; i < 2 * g.taps; i += BLOCK / KD_WARP) {
        const int64_t ch = i / g.taps, off = i % g.taps - g.taps / 2;
        float sum = 0.0f;
        for (int64_t t = threadIdx.x % KD_WARP; t < g.t; t += KD_WARP) {
            sum += t + off >= 0 && t + off < g.t ? da[t] * ld(x, ch * g.t + t + off) : 0.0f;
        }
        sum = kd_warp_sum(sum);
        if (threadIdx.x % KD_WARP == 0) {
            dwt[i] = sum;
        }
    }
}

template <typename T>
static __global__ __launch_bounds__(BLOCK) void stc_gates_bwd(gates<T> g, const T *dat, const T *dav, T *dtime,
                                                              T *djoint, gates_scratch s)
{
    const int64_t n = blockIdx.x;
    float *da = s.da + n * g.t, *dz = s.dz + n * g.v;
    for (int64_t i = threadIdx.x; i < g.t; i += BLOCK) {
        const float a = kd_sigmoid(before_sigmoid(g, i));
        da[i] = dat != nullptr ? ld(dat, n * g.t + i) * a * (1.0f - a) : 0.0f;
    }
    probabilities(g, dz);
    float dot = 0.0f;
    for (int v = (int)threadIdx.x; dav != nullptr && v < g.v; v += BLOCK) {
        dot += dz[v] * ld(dav, n * g.v + v);
    }
    dot = kd_block_sum(dot);
    for (int v = (int)threadIdx.x; v < g.v; v += BLOCK) {
        dz[v] = dav != nullptr ? (float)g.v * dz[v] * (ld(dav, n * g.v + v) - dot) : 0.0f;
    }
    __syncthreads(); /* da and dz are read by all */
    float *part = s.part + n * ((int64_t)g.v * g.v + 2 * g.taps);
    frames_bwd(g, da, dtime);
    for (int i = (int)threadIdx.x; i < g.v * g.v; i += BLOCK) {
        part[i] = dz[i / g.v] * ld(g.joint, n * g.v + i % g.v);
    }
    taps_bwd(g, da, part + g.v * g.v);
    for (int u = (int)threadIdx.x; djoint != nullptr && u < g.v; u += BLOCK) {
        float sum = 0.0f;
        for (int v = 0; v < g.v; v++) {
            sum += dz[v] * ld(g.ws, (int64_t)v * g.v + u);
        }
        st(djoint, n * g.v + u, sum);
    }
}

template <typename T> static kd_status stc_gates_bwd_run(const kd_call *c)
{
    const gates<T> g = gates_of<T>(c, 2);
    const gates_scratch s = scratch_of(c);
    const int64_t n = c->in[2].shape.dim[0];
    float *dwt = kd_out<float>(c, 2), *dws = kd_out<float>(c, 3);
    if (n > 0) {
        KD_LAUNCH((stc_gates_bwd<T>), dim3((unsigned)n), dim3(BLOCK), c, g, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  kd_out<T>(c, 0), kd_out<T>(c, 1), s);
    }
    if (dwt != nullptr || dws != nullptr) { /* of an empty batch they are 0 */
        kd_sum_parts(c, s.part, n, dws, numel(&c->in[5]), kd_adds(c, 3), dwt, numel(&c->in[4]), kd_adds(c, 2));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(stc_gates_bwd, stc_gates_bwd_scratch)
