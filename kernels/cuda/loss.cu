/* class_loss, feature_loss, weighted_sum: (B,K) of f32 in every program.  A warp a row, a block a row where rows are
 * long; a row that is not valid is not read.  A batch of class scores is one launch forward, for both terms: one block
 * walks its rows. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int BLOCK = 256;
constexpr int64_t LONG_ROW = 2048;     /* from here on a block a row */
constexpr int64_t ONE_BLOCK = 1 << 14; /* elements that one block of 1024 threads takes in a few microseconds */
constexpr int64_t MOST_PARTS = 1024;

/* ---- teams: the threads of one row ----------------------------------------------------------- */

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

/* ---- the sum over rows: what all losses share ------------------------------------------------ */

/* A loss is a struct with TERMS, means over rows with a factor and a mask each: valid[t], factor[t], out[t] (null: not
 * wanted), add[t], and row<Team>(t, b), the loss of a row (every thread of the team calls and gets it). */

static __device__ __forceinline__ void put_mean(float *loss, float factor, float sum, float count, bool add)
{
    put(loss, 0, count > 0.0f ? factor * sum / count : 0.0f, add);
}

/* The means over valid rows by the only block, or the sum and the number of this block's rows into part[t][block]. */
template <bool WIDE, typename Loss> static __global__ void loss_rows(Loss f, int64_t B, float *part)
{
    typedef team<WIDE> Team;
    const bool lead = Team::rank() == 0; /* all of a team have the same numbers */
#pragma unroll
    for (int t = 0; t < Loss::TERMS; t++) {
        if (f.out[t] == nullptr) { /* for all threads */
            continue;
        }
        float sum = 0.0f, count = 0.0f;
        for (int64_t b = Team::first_row(); b < B; b += Team::row_step()) {
            if (row_valid(f.valid[t], b)) {
                sum += f.template row<Team>(t, b);
                count += 1.0f;
            }
        }
        sum = kd_block_sum(lead ? sum : 0.0f);
        count = kd_block_sum(lead ? count : 0.0f);
        if (threadIdx.x == 0 && gridDim.x == 1) {
            put_mean(f.out[t], f.factor[t], sum, count, f.add[t]);
        } else if (threadIdx.x == 0) {
            part[2 * ((unsigned)t * gridDim.x + blockIdx.x)] = sum;
            part[2 * ((unsigned)t * gridDim.x + blockIdx.x) + 1] = count;
        }
    }
}

template <typename Loss> static __global__ void loss_means(Loss f, const float *part, int parts)
{
#pragma unroll
    for (int t = 0; t < Loss::TERMS; t++) {
        float sum = 0.0f, count = 0.0f;
        for (int i = (int)threadIdx.x; f.out[t] != nullptr && i < parts; i += (int)blockDim.x) {
            sum += part[2 * (t * parts + i)];
            count += part[2 * (t * parts + i) + 1];
        }
        sum = kd_block_sum(sum);
        count = kd_block_sum(count);
        if (threadIdx.x == 0 && f.out[t] != nullptr) {
            put_mean(f.out[t], f.factor[t], sum, count, f.add[t]);
        }
    }
}

static int64_t parts_of(int64_t B, int64_t K)
{
    const int64_t n = K >= LONG_ROW ? B : kd_div_up(B, BLOCK / KD_WARP);
    return B * K <= ONE_BLOCK || n < 1 ? 1 : n < MOST_PARTS ? n : MOST_PARTS;
}

template <int TERMS> static size_t loss_scratch(const kd_call *c)
{
    return (size_t)(2 * TERMS * parts_of(c->in[0].shape.dim[0], c->in[0].shape.dim[1])) * sizeof(float);
}

template <bool WIDE, typename Loss> static void launch_rows(const kd_call *c, Loss f)
{
    const int64_t B = c->in[0].shape.dim[0], K = c->in[0].shape.dim[1], parts = parts_of(B, K);
    const int64_t warps = WIDE || B > KD_WARP ? KD_WARP : B > 0 ? B : 1;
    float *part = static_cast<float *>(c->scratch);
    KD_LAUNCH((loss_rows<WIDE, Loss>), dim3((unsigned)parts), dim3((unsigned)(parts > 1 ? BLOCK : warps * KD_WARP)), c,
              f, B, part);
    if (parts > 1) {
        KD_LAUNCH((loss_means<Loss>), dim3(1), dim3(BLOCK), c, f, part, (int)parts);
    }
}

template <typename Loss> static kd_status loss_forward(const kd_call *c, const Loss &f)
{
    c->in[0].shape.dim[1] >= LONG_ROW ? launch_rows<true>(c, f) : launch_rows<false>(c, f);
    return kd_launched();
}

/* factor * dloss over the number of valid rows, 0 without any.  Every thread of the block calls. */
static __device__ float row_gradient(const float *dloss, const float *valid, int64_t B, float factor)
{
    float count = 0.0f;
    for (int64_t b = threadIdx.x; b < B; b += blockDim.x) { /* a count is the same in any order */
        count += row_valid(valid, b) ? 1.0f : 0.0f;
    }
    count = kd_block_sum(count);
    return count > 0.0f ? dloss[0] * factor / count : 0.0f;
}

/* ---- class_loss ------------------------------------------------------------------------------ */

struct class_rows {
    const float *z, *target, *teacher;
    int64_t K;
    float inv_t;
    bool is_prob; /* teacher holds probabilities, used as they are */

    __device__ __forceinline__ float teacher_p(int64_t i, float lt) const
    {
        return is_prob ? teacher[i] : expf(teacher[i] * inv_t - lt);
    }
    template <typename Team> __device__ float cross_entropy(int64_t b) const
    {
        const float *zb = z + b * K, *tb = target + b * K;
        const float lse = log_sum_exp<Team>(zb, K, 1.0f);
        float sum = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            sum += tb[k] * (lse - zb[k]);
        }
        return Team::sum(sum);
    }
    template <typename Team> __device__ float divergence(int64_t b) const
    {
        const float *zb = z + b * K, *tb = teacher + b * K;
        const float lz = log_sum_exp<Team>(zb, K, inv_t), lt = is_prob ? 0.0f : log_sum_exp<Team>(tb, K, inv_t);
        float sum = 0.0f;
        for (int64_t k = Team::rank(); k < K; k += Team::size()) {
            const float logp = is_prob ? logf(tb[k]) : tb[k] * inv_t - lt, p = is_prob ? tb[k] : expf(logp);
            sum += p == 0.0f ? 0.0f : p * (logp - (zb[k] * inv_t - lz)); /* 0 log 0 is 0 */
        }
        return Team::sum(sum);
    }
};

static class_rows class_rows_of(const kd_call *c, int z)
{
    const kd_class_loss_attr *at = static_cast<const kd_class_loss_attr *>(c->attr);
    const float *teacher = kd_in<float>(c, z + 3);
    return {kd_in<float>(c, z),
            kd_in<float>(c, z + 1),
            teacher,
            c->in[z].shape.dim[1],
            teacher != nullptr ? 1.0f / at->temperature : 1.0f,
            at->t_is_prob != 0};
}

struct class_means {
    static constexpr int TERMS = 2;
    class_rows rows;
    const float *valid[2];
    float *out[2], factor[2];
    bool add[2];
    template <typename Team> __device__ float row(int term, int64_t b) const
    {
        return term == 0 ? rows.cross_entropy<Team>(b) : rows.divergence<Team>(b);
    }
};

template <typename T> static kd_status class_loss_run(const kd_call *c)
{
    const float t = static_cast<const kd_class_loss_attr *>(c->attr)->temperature;
    const class_means f = {class_rows_of(c, 0),
                           {kd_in<float>(c, 2), kd_in<float>(c, 4)},
                           {kd_out<float>(c, 0), kd_out<float>(c, 1)},
                           {1.0f, t * t},
                           {kd_adds(c, 0), kd_adds(c, 1)}};
    return loss_forward(c, f);
}
KD_CUDA_OP_SCRATCH(class_loss, loss_scratch<2>)

/* A term of the gradient of row b, d (mass softmax(z/T) - p): what it takes to write an element.  CE: p is target, T is
 * 1. */
struct class_term {
    float d, lse, mass, lt;
};

template <typename Team, bool CE>
static __device__ __forceinline__ class_term term_of(const class_rows &r, int64_t b, float d)
{
    class_term s = {d, log_sum_exp<Team>(r.z + b * r.K, r.K, CE ? 1.0f : r.inv_t), 0.0f, 0.0f};
    if (!CE && !r.is_prob) {
        s.lt = log_sum_exp<Team>(r.teacher + b * r.K, r.K, r.inv_t);
    }
    for (int64_t k = Team::rank(); k < r.K; k += Team::size()) {
        s.mass += CE ? r.target[b * r.K + k] : r.teacher_p(b * r.K + k, s.lt);
    }
    s.mass = Team::sum(s.mass);
    return s;
}

/* Both terms of dz; dce or dkd null: no gradient comes from that term. */
template <bool WIDE>
static __global__ void class_gradient(class_rows r, const float *dce, const float *dkd, const float *valid,
                                      const float *teacher_valid, int64_t B, float t, float *dz, bool add)
{
    typedef team<WIDE> Team;
    const float ce_d = dce != nullptr ? row_gradient(dce, valid, B, 1.0f) : 0.0f;
    const float kd_d = dkd != nullptr ? row_gradient(dkd, teacher_valid, B, t) : 0.0f;
    for (int64_t b = Team::first_row(); b < B; b += Team::row_step()) { /* a team decides as one */
        const bool has_ce = dce != nullptr && row_valid(valid, b),
                   has_kd = dkd != nullptr && row_valid(teacher_valid, b);
        class_term ce = {}, kd = {};
        if (has_ce) {
            ce = term_of<Team, true>(r, b, ce_d);
        }
        if (has_kd) {
            kd = term_of<Team, false>(r, b, kd_d);
        }
        for (int64_t i = b * r.K + Team::rank(); i < (b + 1) * r.K; i += Team::size()) {
            float g = 0.0f;
            if (has_kd) {
                g = kd.d * (kd.mass * expf(r.z[i] * r.inv_t - kd.lse) - r.teacher_p(i, kd.lt));
            }
            if (has_ce) {
                g += ce.d * (ce.mass * expf(r.z[i] - ce.lse) - r.target[i]);
            }
            put(dz, i, g, add);
        }
    }
}

template <bool WIDE> static void launch_class_gradient(const kd_call *c)
{
    const float t = static_cast<const kd_class_loss_attr *>(c->attr)->temperature;
    const int64_t B = c->in[2].shape.dim[0], n = WIDE ? B : kd_div_up(B, BLOCK / KD_WARP);
    KD_LAUNCH((class_gradient<WIDE>), dim3((unsigned)(n < 1 << 20 ? n : 1 << 20)), dim3(BLOCK), c, class_rows_of(c, 2),
              kd_in<float>(c, 0), kd_in<float>(c, 1), kd_in<float>(c, 4), kd_in<float>(c, 6), B, t, kd_out<float>(c, 0),
              kd_adds(c, 0));
}

template <typename T> static kd_status class_loss_bwd_run(const kd_call *c)
{
    const int64_t B = c->in[2].shape.dim[0], K = c->in[2].shape.dim[1];
    if (B * K > 0) {
        K >= LONG_ROW ? launch_class_gradient<true>(c) : launch_class_gradient<false>(c);
    }
    return kd_launched();
}
KD_CUDA_OP(class_loss_bwd)

/* ---- feature_loss ---------------------------------------------------------------------------- */

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

/* The mean over valid rows of either. */
template <typename Rows> struct feature_mean {
    static constexpr int TERMS = 1;
    Rows rows;
    const float *valid[1];
    float *out[1], factor[1];
    bool add[1];
    template <typename Team> __device__ float row(int, int64_t b) const
    {
        return rows.template row<Team>(b);
    }
};

template <typename Rows> static kd_status feature_forward(const kd_call *c, Rows rows)
{
    const feature_mean<Rows> f = {rows, {kd_in<float>(c, 2)}, {kd_out<float>(c, 0)}, {1.0f}, {kd_adds(c, 0)}};
    return loss_forward(c, f);
}

template <typename T> static kd_status feature_loss_run(const kd_call *c)
{
    const squared_error mse = {kd_in<float>(c, 0), kd_in<float>(c, 1), c->in[0].shape.dim[1]};
    const angle cosine = {mse.s, mse.f, mse.P};
    return static_cast<const kd_feature_loss_attr *>(c->attr)->kind == KD_FEATURE_COSINE ? feature_forward(c, cosine)
                                                                                         : feature_forward(c, mse);
}
KD_CUDA_OP_SCRATCH(feature_loss, loss_scratch<1>)

template <bool WIDE, typename Rows>
static __global__ void feature_gradient(Rows f, const float *dloss, const float *valid, int64_t B, int64_t P, float *ds,
                                        bool add)
{
    typedef team<WIDE> Team;
    const float d = row_gradient(dloss, valid, B, 1.0f);
    for (int64_t b = Team::first_row(); b < B; b += Team::row_step()) {
        if (row_valid(valid, b)) {
            f.template gradient<Team>(b, d, ds + b * P, add);
        } else {
            for (int64_t k = Team::rank(); k < P; k += Team::size()) {
                put(ds, b * P + k, 0.0f, add);
            }
        }
    }
}

template <bool WIDE, typename Rows> static void launch_feature_gradient(const kd_call *c, Rows f)
{
    const int64_t B = c->in[1].shape.dim[0], P = c->in[1].shape.dim[1], n = WIDE ? B : kd_div_up(B, BLOCK / KD_WARP);
    KD_LAUNCH((feature_gradient<WIDE, Rows>), dim3((unsigned)(n < 1 << 20 ? n : 1 << 20)), dim3(BLOCK), c, f,
              kd_in<float>(c, 0), kd_in<float>(c, 3), B, P, kd_out<float>(c, 0), kd_adds(c, 0));
}

template <typename Rows> static kd_status feature_backward(const kd_call *c, Rows f)
{
    const int64_t B = c->in[1].shape.dim[0], P = c->in[1].shape.dim[1];
    if (B * P > 0) {
        P >= LONG_ROW ? launch_feature_gradient<true>(c, f) : launch_feature_gradient<false>(c, f);
    }
    return kd_launched();
}

template <typename T> static kd_status feature_loss_bwd_run(const kd_call *c)
{
    const squared_error mse = {kd_in<float>(c, 1), kd_in<float>(c, 2), c->in[1].shape.dim[1]};
    const angle cosine = {mse.s, mse.f, mse.P};
    return static_cast<const kd_feature_loss_attr *>(c->attr)->kind == KD_FEATURE_COSINE ? feature_backward(c, cosine)
                                                                                         : feature_backward(c, mse);
}
KD_CUDA_OP(feature_loss_bwd)

/* ---- weighted_sum ---------------------------------------------------------------------------- */

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
