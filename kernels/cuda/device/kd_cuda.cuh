/* The language of all kernels in cuda/: the subset of CUDA C that nvcc and the SIMT shim (tests/simt/) both compile.
 *
 * Allowed: thread and block indices, KD_SHARED memory, __syncthreads, __syncwarp, warp shuffles, __ballot_sync, integer
 * atomics, the maths of <cmath> in f32.  Not used: float atomics (their order is not fixed, so their sum is not),
 * dynamic parallelism, textures, inline PTX.  A kernel that needs more (wgmma, TMA) gets a plain twin in the same slot.
 * Every kernel is static; every thread of a block reaches every barrier; reductions run in an order fixed by the
 * shapes.
 *
 * Kernels are templates over T, how activations are stored (float, kd_bf16, kd_half); they compute in f32.  KD_CUDA_OP
 * at the end of a file makes the three slots of an op.
 */
#ifndef KD_KERNELS_CUDA_DEVICE_KD_CUDA_CUH
#define KD_KERNELS_CUDA_DEVICE_KD_CUDA_CUH

#include "kernels/kd_ops.h"

#include <cmath>
#include <cuda_runtime.h>

#if defined(__CUDACC__)
#    include <cuda_bf16.h>
#    include <cuda_fp16.h>
typedef __nv_bfloat16 kd_bf16;
typedef __half kd_half;
#else
struct kd_bf16 {
    uint16_t bits;
};
struct kd_half {
    uint16_t bits;
};
#endif

/* ---- launching ------------------------------------------------------------------------------- */

/* KD_LAUNCH((kernel<T, 4>), grid, block, stream of the call, arguments...): the only way a kernel starts. */
#if defined(__CUDACC__)
#    define KD_LAUNCH(kernel, grid, block, c, ...)                                      \
        do {                                                                            \
            const auto kd_kernel_ = kernel;                                             \
            kd_kernel_<<<(grid), (block), 0, (cudaStream_t)(c)->stream>>>(__VA_ARGS__); \
        } while (0)
#    define KD_SHARED(type, name, count) __shared__ type name[count]
#else
#    define KD_LAUNCH(kernel, grid, block, c, ...) \
        simt_start(#kernel, kernel, (grid), (block), (cudaStream_t)(c)->stream, __VA_ARGS__)
/* Shared memory of the block, `count` elements.  The same declaration is the same memory for all threads of a block. */
#    define KD_SHARED(type, name, count)      \
        static const char kd_site_##name = 0; \
        type *const name = static_cast<type *>(simt_shared_bytes(&kd_site_##name, (count) * sizeof(type)))
#endif

/* Status of the launches, for run().  It does not wait; an error inside a kernel shows at the next wait. */
static inline kd_status kd_launched(void)
{
    return cudaPeekAtLastError() == cudaSuccess ? KD_OK : KD_E_DEVICE;
}

/* A device function that is not inlined: for long code on rare paths. */
#if defined(__CUDACC__)
#    define KD_NOINLINE __noinline__
#else
#    define KD_NOINLINE
#endif

#define KD_WARP 32
#define KD_FULL 0xffffffffu

static __host__ __device__ inline int64_t kd_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Blocks for n items of a grid-stride loop: enough to fill any card, never more than there is work. */
static inline unsigned kd_grid(int64_t n, int block)
{
    const int64_t blocks = kd_div_up(n, block);
    return (unsigned)(blocks < 1 ? 1 : blocks < 132 * 32 ? blocks : 132 * 32);
}

/* for (KD_EACH(i, n)) inside a kernel: this thread's items of [0, n) over the whole grid. */
#define KD_EACH(i, n)                                           \
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; \
    i < (n);                                                    \
    i += (int64_t)gridDim.x * blockDim.x

/* ---- numbers --------------------------------------------------------------------------------- */

static __device__ __forceinline__ float ld(const float *p, int64_t i)
{
    return p[i];
}
static __device__ __forceinline__ void st(float *p, int64_t i, float v)
{
    p[i] = v;
}
#if defined(__CUDACC__)
static __device__ __forceinline__ float ld(const kd_bf16 *p, int64_t i)
{
    return __bfloat162float(p[i]);
}
static __device__ __forceinline__ void st(kd_bf16 *p, int64_t i, float v)
{
    p[i] = __float2bfloat16_rn(v);
}
static __device__ __forceinline__ float ld(const kd_half *p, int64_t i)
{
    return __half2float(p[i]);
}
static __device__ __forceinline__ void st(kd_half *p, int64_t i, float v)
{
    p[i] = __float2half_rn(v);
}
#else
static inline float ld(const kd_bf16 *p, int64_t i)
{
    return kd_bf16_to_f32(p[i].bits);
}
static inline void st(kd_bf16 *p, int64_t i, float v)
{
    p[i].bits = kd_f32_to_bf16(v);
}
static inline float ld(const kd_half *p, int64_t i)
{
    return kd_f16_to_f32(p[i].bits);
}
static inline void st(kd_half *p, int64_t i, float v)
{
    p[i].bits = kd_f32_to_f16(v);
}
#endif

/* Store v, or add it to the stored value (kd_call.accum). */
template <typename T> static __device__ __forceinline__ void put(T *p, int64_t i, float v, bool add)
{
    st(p, i, add ? ld(p, i) + v : v);
}

/* N neighbours at once: one 16-byte access for 8 bf16 or 4 f32.  p + i must be aligned to N * sizeof(T). */
template <typename T, int N> struct alignas(N * sizeof(T)) kd_pack {
    T v[N];
};
template <typename T> struct kd_width {
    static constexpr int value = 16 / (int)sizeof(T);
};
template <int N, typename T> static __device__ __forceinline__ void ld_pack(float *dst, const T *p, int64_t i)
{
    const kd_pack<T, N> k = *reinterpret_cast<const kd_pack<T, N> *>(p + i);
#pragma unroll
    for (int j = 0; j < N; j++) {
        dst[j] = ld(k.v, j);
    }
}
template <int N, typename T> static __device__ __forceinline__ void st_pack(T *p, int64_t i, const float *src)
{
    kd_pack<T, N> k;
#pragma unroll
    for (int j = 0; j < N; j++) {
        st(k.v, j, src[j]);
    }
    *reinterpret_cast<kd_pack<T, N> *>(p + i) = k;
}

/* The same at a ragged end: elements from n on are read as 0 and not written.  p is aligned, i a multiple of N. */
template <int N, typename T>
static __device__ __forceinline__ void ld_upto(float *dst, const T *p, int64_t i, int64_t n)
{
    if (i + N <= n) {
        ld_pack<N>(dst, p, i);
        return;
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        dst[j] = i + j < n ? ld(p, i + j) : 0.0f;
    }
}
/* Store a pack, or add it to the stored one. */
template <int N, typename T>
static __device__ __forceinline__ void put_upto(T *p, int64_t i, int64_t n, const float *src, bool add)
{
    float v[N];
    if (add) {
        ld_upto<N>(v, p, i, n);
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        v[j] = add ? v[j] + src[j] : src[j];
    }
    if (i + N <= n) {
        st_pack<N>(p, i, v);
        return;
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        if (i + j < n) {
            st(p, i + j, v[j]);
        }
    }
}

/* a / b and a % b of numbers that are not negative: in 32 bits where they fit, which is several times faster on a
 * card. */
static __device__ __forceinline__ int64_t kd_div(int64_t a, int64_t b)
{
    return ((a | b) >> 32) == 0 ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}
static __device__ __forceinline__ int64_t kd_mod(int64_t a, int64_t b)
{
    return ((a | b) >> 32) == 0 ? (int64_t)((uint32_t)a % (uint32_t)b) : a % b;
}

/* ---- reductions: butterflies and fixed trees, so the order is always the same ---------------- */

static __device__ __forceinline__ float kd_warp_sum(float v)
{
    for (int d = 16; d > 0; d >>= 1) {
        v += __shfl_xor_sync(KD_FULL, v, d);
    }
    return v;
}
static __device__ __forceinline__ double kd_warp_sum(double v)
{
    for (int d = 16; d > 0; d >>= 1) {
        v += __shfl_xor_sync(KD_FULL, v, d);
    }
    return v;
}
/* NaN wins over every number. */
static __device__ __forceinline__ float kd_max_nan(float a, float b)
{
    return a > b || a != a ? a : b;
}
/* Is x the maximum y?  NaN equals NaN. */
static __device__ __forceinline__ bool kd_is_max(float x, float y)
{
    return (x == y) | ((x != x) & (y != y));
}
static __device__ __forceinline__ float kd_warp_max(float v)
{
    for (int d = 16; d > 0; d >>= 1) {
        v = kd_max_nan(v, __shfl_xor_sync(KD_FULL, v, d));
    }
    return v;
}

/* Sum over a block of up to 1024 threads, a whole number of warps; every thread gets it.  All threads must call. */
template <typename A> static __device__ A kd_block_sum(A v)
{
    KD_SHARED(A, part, KD_WARP);
    const int lane = (int)threadIdx.x % KD_WARP, warp = (int)threadIdx.x / KD_WARP;
    const int warps = ((int)blockDim.x + KD_WARP - 1) / KD_WARP;
    v = kd_warp_sum(v);
    __syncthreads(); /* wait for readers of the previous call */
    if (lane == 0) {
        part[warp] = v;
    }
    __syncthreads();
    A sum = 0;
    for (int w = 0; w < warps; w++) {
        sum += part[w];
    }
    return sum;
}
static __device__ inline float kd_block_max(float v)
{
    KD_SHARED(float, part, KD_WARP);
    const int lane = (int)threadIdx.x % KD_WARP, warp = (int)threadIdx.x / KD_WARP;
    const int warps = ((int)blockDim.x + KD_WARP - 1) / KD_WARP;
    v = kd_warp_max(v);
    __syncthreads();
    if (lane == 0) {
        part[warp] = v;
    }
    __syncthreads();
    float top = part[0];
    for (int w = 1; w < warps; w++) {
        top = kd_max_nan(top, part[w]);
    }
    return top;
}

/* ---- activations (kd_act_kind) --------------------------------------------------------------- */

static __device__ inline float kd_sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static __device__ inline float kd_act(int kind, float x)
{
    switch (kind) {
    case KD_ACT_RELU:
        return x < 0.0f ? 0.0f : x; /* NaN stays */
    case KD_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case KD_ACT_HARDSWISH: {
        const float r = x + 3.0f;
        return x * (r < 0.0f ? 0.0f : r > 6.0f ? 6.0f : r) * (1.0f / 6.0f);
    }
    case KD_ACT_SILU:
        return x * kd_sigmoid(x);
    case KD_ACT_SIGMOID:
        return kd_sigmoid(x);
    case KD_ACT_EXP:
        return expf(x);
    case KD_ACT_LOG:
        return logf(x);
    default:
        return x;
    }
}

/* act'(x). */
static __device__ inline float kd_act_slope(int kind, float x)
{
    switch (kind) {
    case KD_ACT_RELU:
        return x > 0.0f ? 1.0f : x == x ? 0.0f : x;
    case KD_ACT_GELU:
        return 0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * 0.39894228040143268f * expf(-0.5f * x * x);
    case KD_ACT_HARDSWISH:
        return x < -3.0f ? 0.0f : x > 3.0f ? 1.0f : x * (1.0f / 3.0f) + 0.5f;
    case KD_ACT_SILU: {
        const float s = kd_sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    case KD_ACT_SIGMOID: {
        const float s = kd_sigmoid(x);
        return s * (1.0f - s);
    }
    case KD_ACT_EXP:
        return expf(x);
    case KD_ACT_LOG:
        return 1.0f / x;
    default:
        return 1.0f;
    }
}

/* dy act'(x). */
static __device__ inline float kd_act_grad(int kind, float x, float dy)
{
    if (kind == KD_ACT_RELU) { /* 0 where x <= 0, even if dy is NaN */
        return x > 0.0f ? dy : x <= 0.0f ? 0.0f : x;
    }
    return dy * kd_act_slope(kind, x);
}

/* ---- host side: operands of a call ----------------------------------------------------------- */

static inline int64_t numel(const kd_tensor *t)
{
    return kd_shape_numel(&t->shape);
}
/* Operand i as T*, null when absent. */
template <typename T> static inline const T *kd_in(const kd_call *c, int i)
{
    return i < c->n_in ? static_cast<const T *>(c->in[i].data) : nullptr;
}
template <typename T> static inline T *kd_out(const kd_call *c, int i)
{
    return i < c->n_out ? static_cast<T *>(c->out[i].data) : nullptr;
}
static inline bool kd_adds(const kd_call *c, int o)
{
    return ((c->accum >> o) & 1u) != 0;
}

template <typename T> struct kd_act_dtype;
template <> struct kd_act_dtype<float> {
    static constexpr kd_dtype value = KD_F32;
};
template <> struct kd_act_dtype<kd_bf16> {
    static constexpr kd_dtype value = KD_BF16;
};
template <> struct kd_act_dtype<kd_half> {
    static constexpr kd_dtype value = KD_F16;
};

/* ---- sums over blocks ------------------------------------------------------------------------ */

/* out[i] (+)= sum over p of part[p][i], p ascending within each of LINES runs, the runs in order. */
template <int LINES>
static __global__ void kd_parts_kernel(const float *part, int64_t parts, int64_t n, float *a, int64_t na, float *b,
                                       bool add_a, bool add_b)
{
    KD_SHARED(float, runs, LINES *KD_WARP);
    const int64_t i = (int64_t)blockIdx.x * KD_WARP + threadIdx.x, per = kd_div_up(parts, LINES);
    const int64_t from = threadIdx.y * per, to = from + per < parts ? from + per : parts;
    float sum = 0.0f;
#pragma unroll 8
    for (int64_t p = from; p < to; p++) {
        sum += i < n ? part[p * n + i] : 0.0f;
    }
    runs[threadIdx.y * KD_WARP + threadIdx.x] = sum;
    __syncthreads();
    for (int l = 1; l < LINES; l++) {
        sum += runs[(unsigned)(l * KD_WARP) + threadIdx.x]; /* only line 0's is used */
    }
    if (threadIdx.y == 0 && i < na && a != nullptr) {
        put(a, i, sum, add_a);
    }
    if (threadIdx.y == 0 && i >= na && i < n && b != nullptr) {
        put(b, i - na, sum, add_b);
    }
}

/* Column sums of part (parts, na + nb): the first na into a, the others into b; either may be null. */
static inline void kd_sum_parts(const kd_call *c, const float *part, int64_t parts, float *a, int64_t na, bool add_a,
                                float *b, int64_t nb, bool add_b)
{
    const int64_t n = na + nb;
    if (n > 0) {
        KD_LAUNCH((kd_parts_kernel<16>), dim3((unsigned)kd_div_up(n, KD_WARP)), dim3(KD_WARP, 16), c, part, parts, n, a,
                  na, b, add_a, add_b);
    }
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* The order of the three: kd_cuda_own() in table.c. */
#define KD_CUDA_OP_SCRATCH(name, scratch_fn)                                                              \
    extern "C" {                                                                                          \
    extern const kd_kernel_def kd_cuda_##name[3];                                                         \
    const kd_kernel_def kd_cuda_##name[3] = {{name##_run<float>, scratch_fn, nullptr, nullptr, false},    \
                                             {name##_run<kd_bf16>, scratch_fn, nullptr, nullptr, false},  \
                                             {name##_run<kd_half>, scratch_fn, nullptr, nullptr, false}}; \
    }
/* KD_CUDA_OP(layernorm): kd_status layernorm_run<T>(const kd_call *) in f32, bf16 and fp16. */
#define KD_CUDA_OP(name) KD_CUDA_OP_SCRATCH(name, nullptr)

#endif
