/* linear_attention and its gradient.  A block has some heads of one sequence; their D x D states and a tile of frames
 * stay in its memory, so that qkv is read once forward (k, v, then q) and twice backward, and nothing but the result is
 * written.  Head widths are rounded up to D = 8, 16, 32, 64, 96; the columns in excess are zeros. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr float EPS = 1e-6f, FLOOR = 1e-4f; /* of the guards */
static_assert(KD_MAX_LINEAR_HEAD_DIM <= 96, "launch() has widths up to 96");

struct la_dims {
    int64_t s;
    int T, C, heads, d, groups; /* groups: blocks a sequence */
    bool clamp;                 /* KD_GUARD_CLAMP */
};

template <int D> struct la_shape {
    static constexpr int THREADS = D <= 64 ? 128 : 192;
    static constexpr int FRAMES = D <= 64 ? 32 : 8;             /* in a tile */
    static constexpr int OUTER = D <= 16 ? 4 : D * D / THREADS; /* elements of the state a thread sums: part of a row */
    static constexpr int HEADS = THREADS * OUTER / (D * D);     /* heads a block */
    static constexpr int COLS = HEADS * D;
    static constexpr int LINES = THREADS / COLS; /* frames at a time where a thread keeps to a column */
    /* of a state in shared memory: rows and columns are both read by neighbours */
    static constexpr int ROW = D + 1;
    static constexpr int STATE = HEADS * D * ROW;
    /* blocks a multiprocessor forward: registers for a column, none spilled */
    static constexpr int RESIDENT = D <= 32 ? 6 : D <= 64 ? 4 : 1;
};

/* The guard of q . ks; NaN passes. */
static __device__ __forceinline__ float guarded(const la_dims &n, float dot)
{
    return n.clamp ? (dot < FLOOR ? FLOOR : dot) : EPS + dot;
}

/* Tiles are read four floats at a time. */
typedef kd_pack<float, 4> quad;

/* The part of a block: its sequence, its first head, its number of heads. */
struct la_block {
    int64_t s;
    int head, heads;
};

template <int D> static __device__ __forceinline__ la_block la_here(const la_dims &n)
{
    const int64_t s = (int64_t)blockIdx.x / n.groups;
    const int head = (int)((int64_t)blockIdx.x - s * n.groups) * la_shape<D>::HEADS, left = n.heads - head;
    const la_block here = {s, head, left < la_shape<D>::HEADS ? left : la_shape<D>::HEADS};
    return here;
}

/* phi(u) = elu(u) + 1, and its derivative from the value: 1 where phi is u + 1 > 1, phi itself where it is an
 * exponential <= 1 */
static __device__ __forceinline__ float phi(float u)
{
    return u > 0.0f ? u + 1.0f : expf(u);
}
static __device__ __forceinline__ float phi_d(float p)
{
    return p > 1.0f ? 1.0f : p;
}

/* tile (rows, COLS) = the block's columns of `rows` rows of src, which are `stride` long; phi of them where PHI. */
template <typename T, int D, bool PHI>
static __device__ void load_tile(float *tile, const T *src, int rows, int stride, const la_dims &n,
                                 const la_block &here)
{
    constexpr int COLS = la_shape<D>::COLS, W = kd_width<T>::value < D ? kd_width<T>::value : D;
    if (n.d == D) { /* then C, and every row's start, is a multiple of W */
        for (int i = (int)threadIdx.x * W; i < rows * COLS; i += la_shape<D>::THREADS * W) {
            const int r = i / COLS, x = i % COLS;
            float v[W];
#pragma unroll
            for (int k = 0; k < W; k++) {
                v[k] = 0.0f;
            }
            if (x / D < here.heads) {
                ld_pack<W>(v, src, (int64_t)r * stride + x);
            }
#pragma unroll
            for (int k = 0; k < W; k++) {
                tile[i + k] = PHI ? phi(v[k]) : v[k];
            }
        }
        return;
    }
    for (int i = (int)threadIdx.x; i < rows * COLS; i += la_shape<D>::THREADS) {
        const int r = i / COLS, x = i % COLS, g = x / D, j = x % D;
        const bool real = g < here.heads && j < n.d;
        const float v = real ? ld(src, (int64_t)r * stride + g * n.d + j) : 0.0f;
        tile[i] = !real ? 0.0f : PHI ? phi(v) : v;
    }
}

/* acc += sum over the tile's rows of scale[r] a[r,i] b[r,j..] for this thread's part of its head's state; scale may be
 * null. */
template <int D>
static __device__ __forceinline__ void add_outer(float *acc, const float *a, const float *b, const float *scale,
                                                 int rows)
{
    typedef la_shape<D> S;
    const int e = (int)threadIdx.x * S::OUTER, g = e / (D * D), i = e / D % D, j = e % D;
    for (int r = 0; r < rows; r++) {
        const float w = scale != nullptr ? scale[r * S::HEADS + g] : 1.0f;
        const float x = a[r * S::COLS + g * D + i] * w;
#pragma unroll
        for (int k = 0; k < S::OUTER; k += 4) {
            float y[4];
            ld_pack<4>(y, b, r * S::COLS + g * D + j + k);
#pragma unroll
            for (int m = 0; m < 4; m++) {
                acc[k + m] += x * y[m];
            }
        }
    }
}

/* The sums to the block's memory, zeros where the head is narrower than D. */
template <int D> static __device__ __forceinline__ void put_state(float *state, const float *acc, int d)
{
    typedef la_shape<D> S;
    const int e = (int)threadIdx.x * S::OUTER, i = e / D, j = e % D; /* i counts rows of all heads */
#pragma unroll
    for (int k = 0; k < S::OUTER; k++) {
        state[i * S::ROW + j + k] = i % D < d && j + k < d ? acc[k] : 0.0f;
    }
}

/* kv = sum_t phi(k_t) v_t^T and ks = sum_t phi(k_t) of the block's heads.  src: the sequence at the block's first
 * column. */
template <typename T, int D>
static __device__ void forward_state(const T *src, float *k, float *v, float *kv, float *ks, const la_dims &n,
                                     const la_block &here)
{
    typedef la_shape<D> S;
    float acc[S::OUTER], sum = 0.0f;
#pragma unroll
    for (int i = 0; i < S::OUTER; i++) {
        acc[i] = 0.0f;
    }
    for (int t = 0; t < n.T; t += S::FRAMES) {
        const int rows = n.T - t < S::FRAMES ? n.T - t : S::FRAMES;
        const T *at = src + (int64_t)t * 3 * n.C;
        __syncthreads();
        load_tile<T, D, true>(k, at + n.C, rows, 3 * n.C, n, here);
        load_tile<T, D, false>(v, at + 2 * n.C, rows, 3 * n.C, n, here);
        __syncthreads();
        add_outer<D>(acc, k, v, nullptr, rows);
        for (int r = 0; (int)threadIdx.x < S::COLS && r < rows; r++) {
            sum += k[r * S::COLS + (int)threadIdx.x];
        }
    }
    put_state<D>(kv, acc, n.d);
    if ((int)threadIdx.x < S::COLS) {
        ks[threadIdx.x] = sum;
    }
}

/* Item r * HEADS + g: sum_i a[r,g,i] b[r,g,i]; b has `step` elements a row (0: one row for all).  Rows start at
 * different i, else all of them would wait for one bank of shared memory. */
template <int D> static __device__ __forceinline__ float head_dot(const float *a, const float *b, int item, int step)
{
    typedef la_shape<D> S;
    const int r = item / S::HEADS, g = item % S::HEADS;
    float sum = 0.0f;
#pragma unroll 4
    for (int k = 0; k < D; k++) {
        const int i = (k + r) % D;
        sum += a[r * S::COLS + g * D + i] * b[r * step + g * D + i];
    }
    return sum;
}

/* sum_j a[j] w[j], w in registers */
template <int D> static __device__ __forceinline__ float row_dot(const float *a, const float *w)
{
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < D; j += 4) {
        float x[4];
        ld_pack<4>(x, a, j);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            sum += x[k] * w[j + k];
        }
    }
    return sum;
}

/* w = row x % D, or column, of the state of column x's head. */
template <int D, bool COLUMN> static __device__ __forceinline__ void take(float *w, const float *state, int x)
{
    typedef la_shape<D> S;
    const float *head = state + x / D * D * S::ROW;
#pragma unroll
    for (int j = 0; j < D; j++) {
        w[j] = COLUMN ? head[j * S::ROW + x % D] : head[x % D * S::ROW + j];
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

template <typename T, int D>
static __global__ void __launch_bounds__(la_shape<D>::THREADS, la_shape<D>::RESIDENT)
    linear_attention_heads(const T *qkv, T *o, la_dims n)
{
    typedef la_shape<D> S;
    KD_SHARED(quad, q4, S::FRAMES * S::COLS / 4);
    KD_SHARED(quad, v4, S::FRAMES * S::COLS / 4);
    KD_SHARED(float, kv, S::STATE);
    KD_SHARED(float, ks, S::COLS);
    KD_SHARED(float, z, S::FRAMES *S::HEADS);
    float *const q = q4[0].v, *const v = v4[0].v;
    const la_block here = la_here<D>(n);
    const int first = here.head * n.d, x = (int)threadIdx.x % S::COLS, g = x / D;
    const bool real = g < here.heads && x % D < n.d;
    const T *src = qkv + here.s * n.T * 3 * n.C + first;
    T *dst = o + here.s * n.T * n.C + first + g * n.d + x % D;
    forward_state<T, D>(src, q, v, kv, ks, n, here);
    __syncthreads();
    float w[D];
    take<D, true>(w, kv, x);
    for (int t = 0; t < n.T; t += S::FRAMES) {
        const int rows = n.T - t < S::FRAMES ? n.T - t : S::FRAMES;
        __syncthreads();
        load_tile<T, D, true>(q, src + (int64_t)t * 3 * n.C, rows, 3 * n.C, n, here);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < rows * S::HEADS; i += S::THREADS) {
            z[i] = guarded(n, head_dot<D>(q, ks, i, 0));
        }
        __syncthreads();
        for (int r = (int)threadIdx.x / S::COLS; real && r < rows; r += S::LINES) {
            st(dst, (int64_t)(t + r) * n.C, row_dot<D>(q + r * S::COLS + g * D, w) / z[r * S::HEADS + g]);
        }
    }
}

/* ---- backward -------------------------------------------------------------------------------- */

/* dz of the tile's rows: with dq' = kv dn in `dq`, o is not needed: dn . o = q . dq'. */
template <int D>
static __device__ __forceinline__ void normaliser_gradients(const float *q, const float *dq, const float *rz, float *dz,
                                                            int rows, bool clamp)
{
    for (int i = (int)threadIdx.x; i < rows * la_shape<D>::HEADS; i += la_shape<D>::THREADS) {
        dz[i] = clamp && rz[i] >= 1.0f / FLOOR ? 0.0f : -rz[i] * head_dot<D>(q, dq, i, la_shape<D>::COLS);
    }
}

/* First pass over t: dq, and the gradients of the state, dkv over kv and dks over ks. */
template <typename T, int D>
static __device__ void backward_queries(const T *src, const T *dout, T *dst, float *q, float *g, float *dq, float *kv,
                                        float *ks, const la_dims &n, const la_block &here)
{
    typedef la_shape<D> S;
    KD_SHARED(float, rz, S::FRAMES *S::HEADS);
    KD_SHARED(float, dz, S::FRAMES *S::HEADS);
    const int x = (int)threadIdx.x % S::COLS, h = x / D, line = (int)threadIdx.x / S::COLS;
    const bool real = h < here.heads && x % D < n.d;
    const float sum_k = ks[x];
    float acc[S::OUTER], dks = 0.0f, w[D];
    take<D, false>(w, kv, x);
#pragma unroll
    for (int i = 0; i < S::OUTER; i++) {
        acc[i] = 0.0f;
    }
    for (int t = 0; t < n.T; t += S::FRAMES) {
        const int rows = n.T - t < S::FRAMES ? n.T - t : S::FRAMES;
        __syncthreads();
        load_tile<T, D, true>(q, src + (int64_t)t * 3 * n.C, rows, 3 * n.C, n, here);
        load_tile<T, D, false>(g, dout + (int64_t)t * n.C, rows, n.C, n, here);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < rows * S::HEADS; i += S::THREADS) {
            rz[i] = 1.0f / guarded(n, head_dot<D>(q, ks, i, 0));
        }
        __syncthreads();
        for (int r = line; r < rows; r += S::LINES) {
            dq[r * S::COLS + x] = rz[r * S::HEADS + h] * row_dot<D>(g + r * S::COLS + h * D, w);
        }
        add_outer<D>(acc, q, g, rz, rows);
        __syncthreads();
        normaliser_gradients<D>(q, dq, rz, dz, rows, n.clamp);
        __syncthreads();
        for (int r = line; real && r < rows; r += S::LINES) {
            const float grad = dq[r * S::COLS + x] + dz[r * S::HEADS + h] * sum_k;
            st(dst, (int64_t)(t + r) * 3 * n.C, grad * phi_d(q[r * S::COLS + x]));
        }
        for (int r = 0; (int)threadIdx.x < S::COLS && r < rows; r++) {
            dks += dz[r * S::HEADS + h] * q[r * S::COLS + x];
        }
    }
    __syncthreads();
    put_state<D>(kv, acc, n.d);
    if ((int)threadIdx.x < S::COLS) {
        ks[x] = dks;
    }
    __syncthreads();
}

/* Second pass: what the state passes on to k and v. */
template <typename T, int D>
static __device__ void backward_state(const T *src, T *dst, float *k, float *v, const float *dkv, const float *dks,
                                      const la_dims &n, const la_block &here)
{
    typedef la_shape<D> S;
    const int x = (int)threadIdx.x % S::COLS, h = x / D, line = (int)threadIdx.x / S::COLS;
    const bool real = h < here.heads && x % D < n.d;
    float w[D];
    for (int t = 0; t < n.T; t += S::FRAMES) {
        const int rows = n.T - t < S::FRAMES ? n.T - t : S::FRAMES;
        const T *at = src + (int64_t)t * 3 * n.C;
        __syncthreads();
        load_tile<T, D, true>(k, at + n.C, rows, 3 * n.C, n, here);
        load_tile<T, D, false>(v, at + 2 * n.C, rows, 3 * n.C, n, here);
        __syncthreads();
        take<D, false>(w, dkv, x);
        for (int r = line; real && r < rows; r += S::LINES) {
            const float grad = row_dot<D>(v + r * S::COLS + h * D, w) + dks[x];
            st(dst, (int64_t)(t + r) * 3 * n.C + n.C, grad * phi_d(k[r * S::COLS + x]));
        }
        take<D, true>(w, dkv, x);
        for (int r = line; real && r < rows; r += S::LINES) {
            st(dst, (int64_t)(t + r) * 3 * n.C + 2 * n.C, row_dot<D>(k + r * S::COLS + h * D, w));
        }
    }
}

template <typename T, int D>
static __global__ void __launch_bounds__(la_shape<D>::THREADS)
    linear_attention_back(const T *dout, const T *qkv, T *dqkv, la_dims n)
{
    typedef la_shape<D> S;
    KD_SHARED(quad, a4, S::FRAMES * S::COLS / 4);
    KD_SHARED(quad, b4, S::FRAMES * S::COLS / 4);
    KD_SHARED(quad, dq4, S::FRAMES * S::COLS / 4);
    KD_SHARED(float, kv, S::STATE);
    KD_SHARED(float, ks, S::COLS);
    float *const a = a4[0].v, *const b = b4[0].v, *const dq = dq4[0].v;
    const la_block here = la_here<D>(n);
    const int first = here.head * n.d, x = (int)threadIdx.x % S::COLS;
    const T *src = qkv + here.s * n.T * 3 * n.C + first;
    T *dst = dqkv + here.s * n.T * 3 * n.C + first + x / D * n.d + x % D;
    forward_state<T, D>(src, a, b, kv, ks, n, here);
    __syncthreads();
    backward_queries<T, D>(src, dout + here.s * n.T * n.C + first, dst, a, b, dq, kv, ks, n, here);
    backward_state<T, D>(src, dst, a, b, kv, ks, n, here);
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, int D> static void launch(const kd_call *c, la_dims n, bool back)
{
    n.groups = (int)kd_div_up(n.heads, la_shape<D>::HEADS);
    const dim3 grid((unsigned)(n.s * n.groups));
    if (back) {
        KD_LAUNCH((linear_attention_back<T, D>), grid, dim3(la_shape<D>::THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  kd_out<T>(c, 0), n);
    } else {
        KD_LAUNCH((linear_attention_heads<T, D>), grid, dim3(la_shape<D>::THREADS), c, kd_in<T>(c, 0), kd_out<T>(c, 0),
                  n);
    }
}

template <typename T> static kd_status run_heads(const kd_call *c, const kd_tensor *qkv, bool back)
{
    const int64_t *d = qkv->shape.dim;
    const kd_linear_attention_attr *a = static_cast<const kd_linear_attention_attr *>(c->attr);
    const int C = (int)(d[2] / 3);
    const la_dims n = {d[0], (int)d[1], C, a->heads, C / a->heads, 0, a->guard == KD_GUARD_CLAMP};
    if (n.s == 0 || n.T == 0) {
        return KD_OK;
    }
    n.d <= 8    ? launch<T, 8>(c, n, back)
    : n.d <= 16 ? launch<T, 16>(c, n, back)
    : n.d <= 32 ? launch<T, 32>(c, n, back)
    : n.d <= 64 ? launch<T, 64>(c, n, back)
                : launch<T, 96>(c, n, back);
    return kd_launched();
}

template <typename T> static kd_status linear_attention_run(const kd_call *c)
{
    return run_heads<T>(c, &c->in[0], false);
}
KD_CUDA_OP(linear_attention)

template <typename T> static kd_status linear_attention_bwd_run(const kd_call *c)
{
    return run_heads<T>(c, &c->in[1], true);
}
KD_CUDA_OP(linear_attention_bwd)
