/* landmark_interp, landmark_attention and their gradients: a few frames, a few landmarks, a few channels. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int THREADS = 256, WARPS = THREADS / KD_WARP;

/* ---- landmark_interp ------------------------------------------------------------------------- */

/* An anchor's place among T frames: frame f and fraction; slope = d(place)/d(anchor). */
struct landmark_place {
    int f;
    float fraction, slope;
};

static __device__ __forceinline__ landmark_place place_of(float anchor, int T)
{
    const float sg = kd_sigmoid(anchor), p = sg * (float)(T - 1);
    const int f = p >= 0.0f && p < (float)T ? (int)p : 0; /* NaN: frame 0, and a NaN fraction */
    const int at = f < T - 2 ? f : T - 2;
    const landmark_place here = {at, p - (float)at, sg * (1.0f - sg) * (float)(T - 1)};
    return here;
}

template <typename T, int W>
static __global__ void landmark_interp_each(const T *u, const float *anchors, T *l, int64_t packs, int frames, int C,
                                            int K)
{
    const int row = C / W;
    for (KD_EACH(i, packs)) {
        const int64_t it = i / row, n = it / K;
        const int j = (int)(i - it * row) * W;
        const landmark_place at = place_of(anchors[it - n * K], frames);
        float a[W], b[W];
        ld_pack<W>(a, u, (n * frames + at.f) * C + j);
        ld_pack<W>(b, u, (n * frames + at.f + 1) * C + j);
#pragma unroll
        for (int k = 0; k < W; k++) {
            a[k] += at.fraction * (b[k] - a[k]);
        }
        st_pack<W>(l, it * C + j, a);
    }
}

template <typename T, int W> static void launch_interp(const kd_call *c, int64_t packs)
{
    const int64_t *d = c->in[0].shape.dim;
    KD_LAUNCH((landmark_interp_each<T, W>), dim3(kd_grid(packs, 128)), dim3(128), c, kd_in<T>(c, 0), kd_in<float>(c, 1),
              kd_out<T>(c, 0), packs, (int)d[1], (int)d[2], (int)c->in[1].shape.dim[0]);
}

template <typename T> static kd_status landmark_interp_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const int64_t n = numel(&c->out[0]);
    if (n > 0) {
        c->in[0].shape.dim[2] % W == 0 ? launch_interp<T, W>(c, n / W) : launch_interp<T, 1>(c, n);
    }
    return kd_launched();
}
KD_CUDA_OP(landmark_interp)

/* A block a sample.  du: every frame gathers from the landmarks that read it.  part (N,K): what the sample says about
 * places. */
template <typename T, int W>
static __global__ void landmark_interp_back(const T *dl, const T *u, const float *anchors, T *du, float *part,
                                            int frames, int C, int K)
{
    const int64_t n = (int64_t)blockIdx.x;
    const int row = C / W, lane = (int)threadIdx.x % KD_WARP;
    for (int k = (int)threadIdx.x / KD_WARP; part != nullptr && k < K; k += WARPS) {
        const T *a = u + (n * frames + place_of(anchors[k], frames).f) * C, *g = dl + (n * K + k) * C;
        float sum = 0.0f;
        for (int j = lane; j < C; j += KD_WARP) {
            sum += ld(g, j) * (ld(a, C + j) - ld(a, j));
        }
        sum = kd_warp_sum(sum);
        if (lane == 0) {
            part[n * K + k] = sum;
        }
    }
    for (int i = (int)threadIdx.x; du != nullptr && i < frames * row; i += THREADS) {
        const int f = i / row, j = (i - f * row) * W;
        float acc[W], g[W];
#pragma unroll
        for (int e = 0; e < W; e++) {
            acc[e] = 0.0f;
        }
        for (int k = 0; k < K; k++) {
            const landmark_place at = place_of(anchors[k], frames);
            if (f == at.f || f == at.f + 1) {
                const float w = f == at.f ? 1.0f - at.fraction : at.fraction;
                ld_pack<W>(g, dl, (n * K + k) * C + j);
#pragma unroll
                for (int e = 0; e < W; e++) {
                    acc[e] += w * g[e];
                }
            }
        }
        st_pack<W>(du, (n * frames + f) * C + j, acc);
    }
}

/* A warp a landmark: the samples' parts in a fixed order, times the slope of its place. */
static __global__ void landmark_anchors(const float *part, const float *anchors, float *danchors, int64_t n, int frames,
                                        int K, bool add)
{
    const int k = (int)blockIdx.x;
    float sum = 0.0f;
    for (int64_t b = (int64_t)threadIdx.x; b < n; b += KD_WARP) {
        sum += part[b * K + k];
    }
    sum = kd_warp_sum(sum);
    if (threadIdx.x == 0) {
        put(danchors, k, sum * place_of(anchors[k], frames).slope, add);
    }
}

template <typename T, int W> static void launch_interp_back(const kd_call *c, float *part)
{
    const int64_t *d = c->in[1].shape.dim;
    KD_LAUNCH((landmark_interp_back<T, W>), dim3((unsigned)d[0]), dim3(THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              kd_in<float>(c, 2), kd_out<T>(c, 0), part, (int)d[1], (int)d[2], (int)c->in[2].shape.dim[0]);
}

static size_t landmark_interp_bwd_scratch(const kd_call *c)
{
    return (size_t)(c->in[1].shape.dim[0] * c->in[2].shape.dim[0]) * sizeof(float);
}

template <typename T> static kd_status landmark_interp_bwd_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const int64_t *d = c->in[1].shape.dim, K = c->in[2].shape.dim[0];
    float *danchors = kd_out<float>(c, 1), *part = danchors != nullptr ? static_cast<float *>(c->scratch) : nullptr;
    if (d[0] > 0) {
        d[2] % W == 0 ? launch_interp_back<T, W>(c, part) : launch_interp_back<T, 1>(c, part);
    }
    if (danchors != nullptr && K > 0) {
        KD_LAUNCH(landmark_anchors, dim3((unsigned)K), dim3(KD_WARP), c, part, kd_in<float>(c, 2), danchors, d[0],
                  (int)d[1], (int)K, kd_adds(c, 1));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(landmark_interp_bwd, landmark_interp_bwd_scratch)

/* ---- landmark_attention ---------------------------------------------------------------------- */

/* Scores stay in the block where they fit, else they go through scratch. */
constexpr int ROW_SCORES = 256, SAMPLE_SCORES = 4096;

template <typename T, int W> static __device__ __forceinline__ float dot_of(const T *a, const T *b, int D)
{
    float x[W], y[W], sum = 0.0f;
    for (int j = 0; j < D; j += W) {
        ld_pack<W>(x, a, j);
        ld_pack<W>(y, b, j);
#pragma unroll
        for (int k = 0; k < W; k++) {
            sum += x[k] * y[k];
        }
    }
    return sum;
}

/* s (K) = softmax of the scores of one row, by one warp; also to p unless null. */
template <typename T, int W>
static __device__ void landmark_softmax(const T *q, const T *key, float *s, T *p, int K, int D)
{
    const int lane = (int)threadIdx.x % KD_WARP;
    const float scale = 1.0f / sqrtf((float)D);
    float top = -INFINITY, sum = 0.0f;
    for (int i = lane; i < K; i += KD_WARP) {
        s[i] = scale * dot_of<T, W>(q, key + (int64_t)i * D, D);
        top = kd_max_nan(top, s[i]);
    }
    top = kd_warp_max(top);
    for (int i = lane; i < K; i += KD_WARP) {
        s[i] = expf(s[i] - top);
        sum += s[i];
    }
    sum = kd_warp_sum(sum);
    for (int i = lane; i < K; i += KD_WARP) {
        s[i] /= sum;
        if (p != nullptr) {
            st(p, i, s[i]);
        }
    }
}

/* A warp a frame. */
template <typename T, int W>
static __global__ void landmark_attention_rows(const T *q, const T *key, const T *v, T *o, T *p, float *scratch,
                                               int64_t rows, int frames, int K, int D)
{
    KD_SHARED(float, scores, WARPS *ROW_SCORES);
    const int warp = (int)threadIdx.x / KD_WARP, lane = (int)threadIdx.x % KD_WARP;
    const int64_t it = (int64_t)blockIdx.x * WARPS + warp, n = it / frames;
    if (it >= rows) { /* a whole warp leaves: no barrier of the block follows */
        return;
    }
    float *s = K <= ROW_SCORES ? scores + warp * ROW_SCORES : scratch + it * K;
    landmark_softmax<T, W>(q + it * D, key + n * K * D, s, p != nullptr ? p + it * K : nullptr, K, D);
    __syncwarp();
    for (int j = lane; o != nullptr && j < D; j += KD_WARP) {
        float sum = 0.0f;
        for (int i = 0; i < K; i++) {
            sum += s[i] * ld(v, (n * K + i) * D + j);
        }
        st(o, it * D + j, sum);
    }
}

template <typename T, int W> static void launch_attention(const kd_call *c, int64_t rows)
{
    const int64_t *d = c->in[0].shape.dim;
    KD_LAUNCH((landmark_attention_rows<T, W>), dim3((unsigned)kd_div_up(rows, WARPS)), dim3(THREADS), c, kd_in<T>(c, 0),
              kd_in<T>(c, 1), kd_in<T>(c, 2), kd_out<T>(c, 0), kd_out<T>(c, 1), static_cast<float *>(c->scratch), rows,
              (int)d[1], (int)c->in[1].shape.dim[1], (int)d[2]);
}

static size_t landmark_attention_scratch(const kd_call *c)
{
    const int64_t *d = c->in[0].shape.dim, K = c->in[1].shape.dim[1];
    return K <= ROW_SCORES ? 0 : (size_t)(d[0] * d[1] * K) * sizeof(float);
}

template <typename T> static kd_status landmark_attention_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const int64_t *d = c->in[0].shape.dim, rows = d[0] * d[1];
    if (rows > 0) {
        d[2] % W == 0 ? launch_attention<T, W>(c, rows) : launch_attention<T, 1>(c, rows);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(landmark_attention, landmark_attention_scratch)

template <typename T> struct landmark_sample { /* operands of one sample */
    const T *dout, *q, *key, *v, *p;
    T *dq, *dk, *dv;
};

/* ds (T,K): gradient of the scaled scores, a warp a frame. */
template <typename T, int W>
static __device__ void score_gradients(const landmark_sample<T> &b, float *ds, int frames, int K, int D)
{
    const int lane = (int)threadIdx.x % KD_WARP;
    for (int f = (int)threadIdx.x / KD_WARP; f < frames; f += WARPS) {
        float *row = ds + (int64_t)f * K, dot = 0.0f;
        const T *p = b.p + (int64_t)f * K;
        for (int i = lane; i < K; i += KD_WARP) {
            row[i] = dot_of<T, W>(b.dout + (int64_t)f * D, b.v + (int64_t)i * D, D);
            dot += row[i] * ld(p, i);
        }
        dot = kd_warp_sum(dot);
        for (int i = lane; i < K; i += KD_WARP) {
            row[i] = ld(p, i) * (row[i] - dot);
        }
    }
}

/* A block a sample. */
template <typename T, int W>
static __global__ void landmark_attention_back(landmark_sample<T> b, float *scratch, int frames, int K, int D)
{
    KD_SHARED(float, kept, SAMPLE_SCORES);
    const int64_t n = (int64_t)blockIdx.x, q0 = n * frames * D, k0 = n * K * D, p0 = n * frames * K;
    const float scale = 1.0f / sqrtf((float)D);
    float *ds = (int64_t)frames * K <= SAMPLE_SCORES ? kept : scratch + p0;
    const landmark_sample<T> at = {b.dout + q0, b.q + q0, b.key + k0, b.v + k0, b.p + p0, b.dq, b.dk, b.dv};
    score_gradients<T, W>(at, ds, frames, K, D);
    __syncthreads();
    for (int64_t i = (int64_t)threadIdx.x; b.dq != nullptr && i < (int64_t)frames * D; i += THREADS) {
        const int64_t f = i / D, j = i - f * D;
        float sum = 0.0f;
        for (int k = 0; k < K; k++) {
            sum += ds[f * K + k] * ld(at.key, (int64_t)k * D + j);
        }
        st(b.dq, q0 + i, scale * sum);
    }
    for (int64_t i = (int64_t)threadIdx.x; i < (int64_t)K * D; i += THREADS) {
        const int64_t k = i / D, j = i - k * D;
        float gk = 0.0f, gv = 0.0f;
        for (int64_t f = 0; f < frames; f++) {
            gk += ds[f * K + k] * ld(at.q, f * D + j);
            gv += ld(at.p, f * K + k) * ld(at.dout, f * D + j);
        }
        if (b.dk != nullptr) {
            st(b.dk, k0 + i, scale * gk);
        }
        if (b.dv != nullptr) {
            st(b.dv, k0 + i, gv);
        }
    }
}

static size_t landmark_attention_bwd_scratch(const kd_call *c)
{
    const int64_t *d = c->in[4].shape.dim;
    return d[1] * d[2] <= SAMPLE_SCORES ? 0 : (size_t)numel(&c->in[4]) * sizeof(float);
}

template <typename T> static kd_status landmark_attention_bwd_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const int64_t *d = c->in[1].shape.dim, K = c->in[2].shape.dim[1];
    const landmark_sample<T> b = {kd_in<T>(c, 0), kd_in<T>(c, 1),  kd_in<T>(c, 2),  kd_in<T>(c, 3),
                                  kd_in<T>(c, 4), kd_out<T>(c, 0), kd_out<T>(c, 1), kd_out<T>(c, 2)};
    float *scratch = static_cast<float *>(c->scratch);
    if (d[0] == 0) {
        return KD_OK;
    }
    if (d[2] % W == 0) {
        KD_LAUNCH((landmark_attention_back<T, W>), dim3((unsigned)d[0]), dim3(THREADS), c, b, scratch, (int)d[1],
                  (int)K, (int)d[2]);
    } else {
        KD_LAUNCH((landmark_attention_back<T, 1>), dim3((unsigned)d[0]), dim3(THREADS), c, b, scratch, (int)d[1],
                  (int)K, (int)d[2]);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(landmark_attention_bwd, landmark_attention_bwd_scratch)
