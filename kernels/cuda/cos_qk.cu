/* cos_qk, the cosine form of queries and keys, and its gradient: a warp a head's row. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int WARPS = 8;
constexpr float MAX_LOG_SCALE = 4.6052f; /* log 100, as the source rounds it */
constexpr float MIN_NORM = 1e-12f;

static __device__ __forceinline__ float clamped_scale(float log_scale)
{
    return expf(log_scale > MAX_LOG_SCALE ? MAX_LOG_SCALE : log_scale);
}
static __device__ __forceinline__ float clamped_norm(float norm)
{
    return norm < MIN_NORM ? MIN_NORM : norm;
}

/* Item i of a row's 3 H: head i of q, then of k, then of v. */
template <typename T>
static __global__ void cos_rows(const T *x, const float *log_scale, T *y, float *norms, int64_t items, int H, int D)
{
    const int64_t item = (int64_t)blockIdx.x * WARPS + threadIdx.y, at_x = item * D;
    if (item >= items) {
        return; /* the whole warp; no barrier follows */
    }
    const int64_t r = item / (3 * H);
    const int i = (int)(item % (3 * H)), lane = (int)threadIdx.x;
    if (i >= 2 * H) {
        for (int d = lane; y != nullptr && d < D; d += KD_WARP) {
            y[at_x + d] = x[at_x + d];
        }
        return;
    }
    float sq = 0.0f;
    for (int d = lane; d < D; d += KD_WARP) {
        const float v = ld(x, at_x + d);
        sq += v * v;
    }
    const float norm = sqrtf(kd_warp_sum(sq)), f = (i < H ? clamped_scale(log_scale[i]) : 1.0f) / clamped_norm(norm);
    for (int d = lane; y != nullptr && d < D; d += KD_WARP) {
        st(y, at_x + d, ld(x, at_x + d) * f);
    }
    if (lane == 0 && norms != nullptr) {
        norms[r * 2 * H + i] = norm;
    }
}

template <typename T> static kd_status cos_qk_run(const kd_call *c)
{
    const int H = static_cast<const kd_cos_qk_attr *>(c->attr)->heads, D = (int)(c->in[0].shape.dim[2] / 3 / H);
    const int64_t items = c->in[0].shape.dim[0] * c->in[0].shape.dim[1] * 3 * H;
    if (items > 0) {
        KD_LAUNCH((cos_rows<T>), dim3((unsigned)kd_div_up(items, WARPS)), dim3(KD_WARP, WARPS), c, kd_in<T>(c, 0),
                  kd_in<float>(c, 1), kd_out<T>(c, 0), kd_out<float>(c, 1), items, H, D);
    }
    return kd_launched();
}
KD_CUDA_OP(cos_qk)

/* x' = s x/|x|: dx = s/|x| (dx' - x (x . dx') / |x|^2); a clamped norm is a constant.
 * along (H, rows), or null: q . dq' / |q|, what dlog_scale sums up. */
template <typename T>
static __global__ void cos_rows_bwd(const T *dy, const T *x, const float *log_scale, const float *norms, T *dx,
                                    float *along, int64_t items, int H, int D)
{
    const int64_t item = (int64_t)blockIdx.x * WARPS + threadIdx.y, at_x = item * D;
    if (item >= items) {
        return;
    }
    const int64_t r = item / (3 * H);
    const int i = (int)(item % (3 * H)), lane = (int)threadIdx.x;
    if (i >= 2 * H) {
        for (int d = lane; dx != nullptr && d < D; d += KD_WARP) {
            dx[at_x + d] = dy[at_x + d];
        }
        return;
    }
    float dot = 0.0f;
    for (int d = lane; d < D; d += KD_WARP) {
        dot += ld(dy, at_x + d) * ld(x, at_x + d);
    }
    dot = kd_warp_sum(dot);
    const float norm = clamped_norm(norms[r * 2 * H + i]);
    const float f = (i < H ? clamped_scale(log_scale[i]) : 1.0f) / norm;
    const float back = norms[r * 2 * H + i] < MIN_NORM ? 0.0f : dot / norm / norm;
    for (int d = lane; dx != nullptr && d < D; d += KD_WARP) {
        st(dx, at_x + d, f * (ld(dy, at_x + d) - back * ld(x, at_x + d)));
    }
    if (lane == 0 && i < H && along != nullptr) {
        along[i * (items / (3 * H)) + r] = dot / norm;
    }
}

/* d q'/d log_scale = q' where the scale is not clamped.  A block a head. */
static __global__ void cos_scale_grad(const float *along, const float *log_scale, float *dlog, int64_t rows, bool add)
{
    const int i = (int)blockIdx.x;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t r = threadIdx.x; r < rows; r += blockDim.x) {
        sum += along[i * rows + r];
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        put(dlog, i, sum * (log_scale[i] > MAX_LOG_SCALE ? 0.0f : clamped_scale(log_scale[i])), add);
    }
}

static size_t cos_qk_bwd_scratch(const kd_call *c)
{
    return (size_t)(numel(&c->in[3]) / 2) * sizeof(float);
}

template <typename T> static kd_status cos_qk_bwd_run(const kd_call *c)
{
    const int H = static_cast<const kd_cos_qk_attr *>(c->attr)->heads, D = (int)(c->in[1].shape.dim[2] / 3 / H);
    const int64_t rows = c->in[1].shape.dim[0] * c->in[1].shape.dim[1], items = rows * 3 * H;
    float *along = c->out[1].data == nullptr ? nullptr : static_cast<float *>(c->scratch);
    if (items > 0) {
        KD_LAUNCH((cos_rows_bwd<T>), dim3((unsigned)kd_div_up(items, WARPS)), dim3(KD_WARP, WARPS), c, kd_in<T>(c, 0),
                  kd_in<T>(c, 1), kd_in<float>(c, 2), kd_in<float>(c, 3), kd_out<T>(c, 0), along, items, H, D);
    }
    if (along != nullptr || (rows == 0 && c->out[1].data != nullptr)) {
        KD_LAUNCH(cos_scale_grad, dim3((unsigned)H), dim3(1024), c, along, kd_in<float>(c, 2), kd_out<float>(c, 1),
                  rows, kd_adds(c, 1));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(cos_qk_bwd, cos_qk_bwd_scratch)
