/* ce, kd_kl, feature_loss, weighted_sum: (B,K) of f32 in every program.  A warp a row, a block a row where rows are long; a row
 * that is not valid is not read.  A batch of class scores is one launch: one block walks its rows. */
#include "kernels/cuda/kd_cuda.cuh"

constexpr int BLOCK = 256;
constexpr int64_t LONG_ROW = 2048;    /* from here on a block a row */
constexpr int64_t ONE_BLOCK = 1 << 14; /* elements that one block of 1024 threads takes in a few microseconds */
constexpr int64_t MOST_PARTS = 1024;

/* ---- teams: the threads of one row ------------------------------------------------------------------------------------------ */

template <bool WIDE> struct team { /* a block */
    static __device__ int rank()
    {
        return (int)threadIdx.x;
    }
    static __device__ int size()
    {
        return (int)blockDim.x;
    }
    static __device__ int64_t first_row()
    {
        return blockIdx.x;
    }
    static __device__ int64_t row_step()
    {
        return gridDim.x;
    }
    static __device__ float sum(float v)
    {
        return kd_block_sum(v);
    }
    static __device__ float max(float v)
    {
        return kd_block_max(v);
    }
};
template <> struct team<false> { /* a warp */
    static __device__ int rank()
    {
        return (int)threadIdx.x % KD_WARP;
    }
    static __device__ int size()
    {
        return KD_WARP;
    }
    static __device__ int64_t first_row()
    {
        return (int64_t)blockIdx.x * (blockDim.x / KD_WARP) + threadIdx.x / KD_WARP;
    }
    static __device__ int64_t row_step()
    {
        return (int64_t)gridDim.x * (blockDim.x / KD_WARP);
    }
    static __device__ float sum(float v)
    {
        return kd_warp_sum(v);
    }
    static __device__ float max(float v)
    {
        return kd_warp_max(v);
    }
};

/* log sum exp of z/T over a row. */
template <typename Team> static __device__ float log_sum_exp(const float *z, int64_t K, float inv_t)
{
    float top = -INFINITY, sum = 0.0f;
    for (int64_t k = Team::rank(); k < K; k += Team::size()) {
        top = kd_max_nan(top, z[k]);
    }
    top = Team::max(top);
    for (int64_t k = Team::rank(); k < K; k += Team::size()) {
        sum += expf((z[k] - top) * inv_t);
    }
    return top * inv_t + logf(Team::sum(sum));
}

static __device__ __forceinline__ bool row_valid(const float *valid, int64_t b)
{
    return valid == nullptr || valid[b] != 0.0f;
}

/* ---- the sum over rows: what all losses share ------------------------------------------------------------------------------- */

/* A loss is a struct with row<Team>(b), the loss of a row (every thread of the team calls and gets it), and
 * gradient<Team>(b, d, dz, add), which writes d times its gradient. */

/* The mean over valid rows by the only block, or the sum and the number of this block's rows into part[2 * block]. */
template <bool WIDE, typename Loss>
static __global__ void loss_rows(Loss f, const float *valid, int64_t B, float factor, float *part, float *loss, bool add)
{
    typedef team<WIDE> Team;
    float sum = 0.0f, count = 0.0f;
    for (int64_t b = Team::first_row(); b < B; b += Team::row_step()) {
        if (row_valid(valid, b)) {
            sum += f.template row<Team>(b);
            count += 1.0f;
        }
    }
    const bool lead = Team::rank() == 0; /* all of a team have the same numbers */
    sum = kd_block_sum(lead ? sum : 0.0f);
    count = kd_block_sum(lead ? count : 0.0f);
    if (threadIdx.x == 0 && gridDim.x == 1) {
        put(loss, 0, count > 0.0f ? factor * sum / count : 0.0f, add);
    } else if (threadIdx.x == 0) {
        part[2 * blockIdx.x] = sum;
        part[2 * blockIdx.x + 1] = count;
    }
}

static __global__ void loss_mean(const float *part, int parts, float factor, float *loss, bool add)
{
    float sum = 0.0f, count = 0.0f;
    for (int i = (int)threadIdx.x; i < parts; i += (int)blockDim.x) {
        sum += part[2 * i];
        count += part[2 * i + 1];
    }
    sum = kd_block_sum(sum);
    count = kd_block_sum(count);
    if (threadIdx.x == 0) {
        put(loss, 0, count > 0.0f ? factor * sum / count : 0.0f, add);
    }
}

static int64_t parts_of(int64_t B, int64_t K)
{
    const int64_t n = K >= LONG_ROW ? B : kd_div_up(B, BLOCK / KD_WARP);
    return B * K <= ONE_BLOCK || n < 1 ? 1 : n < MOST_PARTS ? n : MOST_PARTS;
}

static size_t loss_scratch(const kd_call *c)
{
    return (size_t)(2 * parts_of(c->in[0].shape.dim[0], c->in[0].shape.dim[1])) * sizeof(float);
}

template <bool WIDE, typename Loss> static void launch_rows(const kd_call *c, Loss f, float factor)
{
    const int64_t B = c->in[0].shape.dim[0], K = c->in[0].shape.dim[1], parts = parts_of(B, K);
    const int64_t warps = WIDE || B > KD_WARP ? KD_WARP : B > 0 ? B : 1;
    float *part = static_cast<float *>(c->scratch);
    KD_LAUNCH((loss_rows<WIDE, Loss>), dim3((unsigned)parts), dim3((unsigned)(parts > 1 ? BLOCK : warps * KD_WARP)), c, f,
              kd_in<float>(c, 2), B, factor, part, kd_out<float>(c, 0), kd_adds(c, 0));
    if (parts > 1) {
        KD_LAUNCH(loss_mean, dim3(1), dim3(BLOCK), c, part, (int)parts, factor, kd_out<float>(c, 0), kd_adds(c, 0));
    }
}

/* loss = factor * mean over valid rows of f. */
template <typename Loss> static kd_status loss_forward(const kd_call *c, Loss f, float factor)
{
    c->in[0].shape.dim[1] >= LONG_ROW ? launch_rows<true>(c, f, factor) : launch_rows<false>(c, f, factor);
    return kd_launched();
}

template <bool WIDE, typename Loss>
static __global__ void loss_gradient(Loss f, const float *dloss, const float *valid, int64_t B, int64_t K, float factor, float *dz,
                                     bool add)
{
    typedef team<WIDE> Team;
    float count = 0.0f;
    for (int64_t b = threadIdx.x; b < B; b += blockDim.x) { /* a count is the same in any order */
        count += row_valid(valid, b) ? 1.0f : 0.0f;
    }
    count = kd_block_sum(count);
    const float d = count > 0.0f ? dloss[0] * factor / count : 0.0f;
    for (int64_t b = Team::first_row(); b < B; b += Team::row_step()) {
        if (row_valid(valid, b)) {
            f.template gradient<Team>(b, d, dz + b * K, add);
        } else {
            for (int64_t k = Team::rank(); k < K; k += Team::size()) {
                put(dz, b * K + k, 0.0f, add);
            }
        }
    }
}

template <bool WIDE, typename Loss> static void launch_gradient(const kd_call *c, Loss f, float factor)
{
    const int64_t B = c->in[1].shape.dim[0], K = c->in[1].shape.dim[1], n = WIDE ? B : kd_div_up(B, BLOCK / KD_WARP);
    KD_LAUNCH((loss_gradient<WIDE, Loss>), dim3((unsigned)(n < 1 << 20 ? n : 1 << 20)), dim3(BLOCK), c, f, kd_in<float>(c, 0),
              kd_in<float>(c, 3), B, K, factor, kd_out<float>(c, 0), kd_adds(c, 0));
}

template <typename Loss> static kd_status loss_backward(const kd_call *c, Loss f, float factor)
{
    const int64_t B = c->in[1].shape.dim[0], K = c->in[1].shape.dim[1];
    if (B * K > 0) {
        K >= LONG_ROW ? launch_gradient<true>(c, f, factor) : launch_gradient<false>(c, f, factor);
    }
    return kd_launched();
}

/* ---- ce ------------------------------------------------------------------------------------------------------------------------ */

struct cross_entropy {
    const float *z, *t;
    int64_t K;
    template <typename Team> __device__ float row(int64_t b) const
    {
        const float *zb = z + b * K, *tb = t + b * K;
        const float lse = log_sum_exp<Team>(zb, K, 1.0f);
        float sum = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            sum += tb[k] * (lse - zb[k]);
        }
        return Team::sum(sum);
    }
    template <typename Team> __device__ void gradient(int64_t b, float d, float *dz, bool add) const
    {
        const float *zb = z + b * K, *tb = t + b * K;
        const float lse = log_sum_exp<Team>(zb, K, 1.0f);
        float mass = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            mass += tb[k];
        }
        mass = Team::sum(mass);
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            put(dz, k, d * (mass * expf(zb[k] - lse) - tb[k]), add);
        }
    }
};

template <typename T> static kd_status ce_run(const kd_call *c)
{
    const cross_entropy f = {kd_in<float>(c, 0), kd_in<float>(c, 1), c->in[0].shape.dim[1]};
    return loss_forward(c, f, 1.0f);
}
KD_CUDA_OP_SCRATCH(ce, loss_scratch)

template <typename T> static kd_status ce_bwd_run(const kd_call *c)
{
    const cross_entropy f = {kd_in<float>(c, 1), kd_in<float>(c, 2), c->in[1].shape.dim[1]};
    return loss_backward(c, f, 1.0f);
}
KD_CUDA_OP(ce_bwd)

/* ---- kd_kl --------------------------------------------------------------------------------------------------------------------- */

struct divergence {
    const float *z, *t;
    int64_t K;
    float inv_t;
    bool is_prob; /* t holds probabilities, used as they are */
    template <typename Team> __device__ float row(int64_t b) const
    {
        const float *zb = z + b * K, *tb = t + b * K;
        const float lz = log_sum_exp<Team>(zb, K, inv_t), lt = is_prob ? 0.0f : log_sum_exp<Team>(tb, K, inv_t);
        float sum = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            const float logp = is_prob ? logf(tb[k]) : tb[k] * inv_t - lt, p = is_prob ? tb[k] : expf(logp);
            sum += p == 0.0f ? 0.0f : p * (logp - (zb[k] * inv_t - lz)); /* 0 log 0 is 0 */
        }
        return Team::sum(sum);
    }
    template <typename Team> __device__ void gradient(int64_t b, float d, float *dz, bool add) const
    {
        const float *zb = z + b * K, *tb = t + b * K;
        const float lz = log_sum_exp<Team>(zb, K, inv_t), lt = is_prob ? 0.0f : log_sum_exp<Team>(tb, K, inv_t);
        float mass = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            mass += is_prob ? tb[k] : expf(tb[k] * inv_t - lt);
        }
        mass = Team::sum(mass);
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            const float p = is_prob ? tb[k] : expf(tb[k] * inv_t - lt);
            put(dz, k, d * (mass * expf(zb[k] * inv_t - lz) - p), add);
        }
    }
};

template <typename T> static kd_status kd_kl_run(const kd_call *c)
{
    const kd_kl_attr *at = static_cast<const kd_kl_attr *>(c->attr);
    const float t = at->temperature;
    const divergence f = {kd_in<float>(c, 0), kd_in<float>(c, 1), c->in[0].shape.dim[1], 1.0f / t, at->t_is_prob != 0};
    return loss_forward(c, f, t * t);
}
KD_CUDA_OP_SCRATCH(kd_kl, loss_scratch)

template <typename T> static kd_status kd_kl_bwd_run(const kd_call *c)
{
    const kd_kl_attr *at = static_cast<const kd_kl_attr *>(c->attr);
    const float t = at->temperature;
    const divergence f = {kd_in<float>(c, 1), kd_in<float>(c, 2), c->in[1].shape.dim[1], 1.0f / t, at->t_is_prob != 0};
    return loss_backward(c, f, t);
}
KD_CUDA_OP(kd_kl_bwd)

/* ---- feature_loss ---------------------------------------------------------------------------------------------------------------- */

struct squared_error {
    const float *s, *f;
    int64_t P;
    template <typename Team> __device__ float row(int64_t b) const
    {
        const float *sb = s + b * P, *fb = f + b * P;
        float sum = 0.0f;
        for (int64_t k = Team::rank(); k < P; k += Team::size()) {
            sum += (sb[k] - fb[k]) * (sb[k] - fb[k]);
        }
        return Team::sum(sum) / (float)P;
    }
    template <typename Team> __device__ void gradient(int64_t b, float d, float *ds, bool add) const
    {
        const float *sb = s + b * P, *fb = f + b * P;
        for (int64_t k = Team::rank(); k < P; k += Team::size()) {
            put(ds, k, d * 2.0f * (sb[k] - fb[k]) / (float)P, add);
        }
    }
};

struct angle {
    const float *s, *f;
    int64_t P;
    struct parts {
        float ss, sf, ns, nf, root; /* |s|^2, s.f, norms not below 1e-8, |s| as it is */
    };
    template <typename Team> __device__ parts of(int64_t b) const
    {
        const float *sb = s + b * P, *fb = f + b * P, least = 1e-8f;
        float ss = 0.0f, ff = 0.0f, sf = 0.0f;
        for (int64_t k = Team::rank(); k < P; k += Team::size()) {
            ss += sb[k] * sb[k];
            ff += fb[k] * fb[k];
            sf += sb[k] * fb[k];
        }
        parts v = {Team::sum(ss), Team::sum(sf), 0.0f, sqrtf(Team::sum(ff)), 0.0f};
        v.root = sqrtf(v.ss);
        v.ns = v.root < least ? least : v.root; /* NaN stays */
        v.nf = v.nf < least ? least : v.nf;
        return v;
    }
    template <typename Team> __device__ float row(int64_t b) const
    {
        const parts v = of<Team>(b);
        return 1.0f - v.sf / (v.ns * v.nf);
    }
    template <typename Team> __device__ void gradient(int64_t b, float d, float *ds, bool add) const
    {
        const float *sb = s + b * P, *fb = f + b * P;
        const parts v = of<Team>(b);
        const float down = v.root < v.ns ? 0.0f : v.sf / (v.ns * v.nf * v.ss); /* a clamped norm is constant */
        for (int64_t k = Team::rank(); k < P; k += Team::size()) {
            put(ds, k, -d * (fb[k] / (v.ns * v.nf) - sb[k] * down), add);
        }
    }
};

template <typename T> static kd_status feature_loss_run(const kd_call *c)
{
    const squared_error mse = {kd_in<float>(c, 0), kd_in<float>(c, 1), c->in[0].shape.dim[1]};
    const angle cosine = {mse.s, mse.f, mse.P};
    return static_cast<const kd_feature_loss_attr *>(c->attr)->kind == KD_FEATURE_COSINE ? loss_forward(c, cosine, 1.0f)
                                                                                         : loss_forward(c, mse, 1.0f);
}
KD_CUDA_OP_SCRATCH(feature_loss, loss_scratch)

template <typename T> static kd_status feature_loss_bwd_run(const kd_call *c)
{
    const squared_error mse = {kd_in<float>(c, 1), kd_in<float>(c, 2), c->in[1].shape.dim[1]};
    const angle cosine = {mse.s, mse.f, mse.P};
    return static_cast<const kd_feature_loss_attr *>(c->attr)->kind == KD_FEATURE_COSINE ? loss_backward(c, cosine, 1.0f)
                                                                                         : loss_backward(c, mse, 1.0f);
}
KD_CUDA_OP(feature_loss_bwd)

/* ---- weighted_sum ---------------------------------------------------------------------------------------------------------------- */

constexpr int TERMS = 6;

struct terms {
    const float *x[TERMS];
    float w[TERMS];
};

static __global__ void sum_terms(terms t, float *y, bool add)
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < TERMS; i++) {
        sum += t.x[i] != nullptr ? t.w[i] * t.x[i][0] : 0.0f;
    }
    put(y, 0, sum, add);
}

template <typename T> static kd_status weighted_sum_run(const kd_call *c)
{
    const kd_weighted_sum_attr *at = static_cast<const kd_weighted_sum_attr *>(c->attr);
    terms t;
    for (int i = 0; i < TERMS; i++) {
        t.x[i] = kd_in<float>(c, i);
        t.w[i] = at->w[i];
    }
    KD_LAUNCH(sum_terms, dim3(1), dim3(1), c, t, kd_out<float>(c, 0), kd_adds(c, 0));
    return kd_launched();
}
KD_CUDA_OP(weighted_sum)
