/* optim_control, adamw, sgd, grad_norm, ema over flat slabs: one launch for all tensors.  A block takes a run of the
 * slab and looks up once which segments lie in it; a thread takes 4 neighbours at a time. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int BLOCK = 256, N = 4;
constexpr int64_t PIECE = BLOCK * N * 4; /* elements of a short run */

/* Elements a block takes: more of a large slab, so that the look-up is paid less often. */
static int64_t run_of(int64_t n)
{
    const int64_t pieces = n / (PIECE * 132 * 32);
    return PIECE * (pieces < 1 ? 1 : pieces < 8 ? pieces : 8);
}

/* ---- control: one thread --------------------------------------------------------------------- */

static __global__ void control(double *ctl, const double *sum, kd_optim_control_attr at)
{
    const double norm = sqrt(*sum) / ctl[KD_CTL_LOSS_SCALE];
    const bool finite = norm - norm == 0.0;
    const double clip = at.clip > 0.0 ? at.clip / (norm + 1e-6) : 1.0;
    ctl[KD_CTL_NORM] = norm;
    ctl[KD_CTL_APPLY] = finite ? 1.0 : 0.0;
    ctl[KD_CTL_MULT] = (clip < 1.0 ? clip : 1.0) / ctl[KD_CTL_LOSS_SCALE];
    if (finite) {
        ctl[KD_CTL_T] += 1.0;
        ctl[KD_CTL_BIAS1] = 1.0 - pow(at.beta1, ctl[KD_CTL_T]);
        ctl[KD_CTL_BIAS2] = 1.0 - pow(at.beta2, ctl[KD_CTL_T]);
    } else {
        ctl[KD_CTL_SKIPPED] += 1.0;
    }
    if (at.grow_every > 0) {
        ctl[KD_CTL_GOOD] = finite ? ctl[KD_CTL_GOOD] + 1.0 : 0.0;
        const bool grow = ctl[KD_CTL_GOOD] >= (double)at.grow_every;
        if (!finite) {
            ctl[KD_CTL_LOSS_SCALE] = fmax(1.0, 0.5 * ctl[KD_CTL_LOSS_SCALE]);
        } else if (grow) {
            ctl[KD_CTL_LOSS_SCALE] = fmin(0x1p24, 2.0 * ctl[KD_CTL_LOSS_SCALE]);
            ctl[KD_CTL_GOOD] = 0.0;
        }
    }
}

template <typename T> static kd_status optim_control_run(const kd_call *c)
{
    KD_LAUNCH(control, dim3(1), dim3(1), c, kd_out<double>(c, 0), kd_in<double>(c, 1),
              *static_cast<const kd_optim_control_attr *>(c->attr));
    return kd_launched();
}
KD_CUDA_OP(optim_control)

/* ---- segments -------------------------------------------------------------------------------- */

struct segments {
    const int64_t *at; /* (S,2) */
    const float *f;    /* (S,2) */
    int64_t n;
};

static __device__ __forceinline__ int64_t end_of(const segments &s, int64_t k)
{
    return s.at[2 * k] + s.at[2 * k + 1];
}

/* First segment of [lo, hi) that ends after element i; hi when none does. */
static __device__ __forceinline__ int64_t first_after(const segments &s, int64_t lo, int64_t hi, int64_t i)
{
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (end_of(s, mid) > i) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

/* Update the elements of [0, n) that lie in a segment.  U: start(ctl) once a thread, segment(factor, decay) before
 * step<1 or N>(i). */
template <typename U> static __global__ void over_segments(U u, segments s, const double *ctl, int64_t n, int64_t run)
{
    KD_SHARED(int64_t, range, 2);
    if (ctl[KD_CTL_APPLY] == 0.0) { /* the whole grid */
        return;
    }
    const int64_t from = blockIdx.x * run, to = from + run < n ? from + run : n;
    if (threadIdx.x % KD_WARP == 0 && threadIdx.x / KD_WARP < 2) { /* two warps search at once */
        range[threadIdx.x / KD_WARP] = first_after(s, 0, s.n, threadIdx.x == 0 ? from : to - 1);
    }
    __syncthreads();
    u.start(ctl);
    for (int64_t i = from + (int64_t)threadIdx.x * N; i < to; i += (int64_t)blockDim.x * N) {
        int64_t k = first_after(s, range[0], range[1], i);
        if (k < s.n && s.at[2 * k] <= i && i + N <= end_of(s, k)) {
            u.segment(s.f[2 * k], s.f[2 * k + 1]);
            u.template step<N>(i);
            continue;
        }
        for (int64_t j = i; j < i + N && j < to; j++) { /* the edge of a segment */
            while (k < s.n && end_of(s, k) <= j) {
                k++;
            }
            if (k < s.n && s.at[2 * k] <= j) {
                u.segment(s.f[2 * k], s.f[2 * k + 1]);
                u.template step<1>(j);
            }
        }
    }
}

/* The operands from `at` on are seg, seg_f, ctl. */
template <typename U> static kd_status update(const kd_call *c, int at, U u)
{
    const segments s = {kd_in<int64_t>(c, at), kd_in<float>(c, at + 1), c->in[at].shape.dim[0]};
    const int64_t n = numel(&c->in[0]), run = run_of(n);
    if (n > 0 && s.n > 0) {
        KD_LAUNCH((over_segments<U>), dim3((unsigned)kd_div_up(n, run)), dim3(BLOCK), c, u, s, kd_in<double>(c, at + 2),
                  n, run);
    }
    return kd_launched();
}

/* The average and the low-precision copy of a parameter; either may be null. */
template <typename T> struct followers {
    float *ema;
    T *low;
    float keep, take;
    template <int W> __device__ void step(int64_t i, const float *p) const
    {
        if (ema != nullptr) {
            float e[W];
            ld_pack<W>(e, ema, i);
#pragma unroll
            for (int j = 0; j < W; j++) {
                e[j] = keep * e[j] + take * p[j];
            }
            st_pack<W>(ema, i, e);
        }
        if (low != nullptr) {
            st_pack<W>(low, i, p);
        }
    }
};

template <typename T> static followers<T> followers_of(const kd_call *c, int ema, double decay)
{
    const followers<T> f = {kd_out<float>(c, ema), kd_out<T>(c, ema + 1), (float)decay, (float)(1.0 - decay)};
    return f;
}

/* ---- adamw ----------------------------------------------------------------------------------- */

/* Scalars are rounded to f32 where PyTorch rounds them. */
template <typename T> struct adamw_update {
    float *p, *m, *v;
    const float *g;
    followers<T> after;
    float w1, b2, w2, eps;
    /* set in the kernel */
    double lr, ahead;
    float mult, root, keep, rate;

    __device__ void start(const double *ctl)
    {
        lr = ctl[KD_CTL_LR];
        ahead = -lr / ctl[KD_CTL_BIAS1];
        mult = (float)ctl[KD_CTL_MULT];
        root = (float)sqrt(ctl[KD_CTL_BIAS2]);
    }
    __device__ void segment(float factor, float decay)
    {
        keep = (float)(1.0 - lr * (double)factor * (double)decay);
        rate = (float)(ahead * (double)factor);
    }
    template <int W> __device__ void step(int64_t i) const
    {
        float pw[W], mw[W], vw[W], gw[W];
        ld_pack<W>(pw, p, i);
        ld_pack<W>(mw, m, i);
        ld_pack<W>(vw, v, i);
        ld_pack<W>(gw, g, i);
#pragma unroll
        for (int j = 0; j < W; j++) {
            const float d = mult * gw[j];
            mw[j] += w1 * (d - mw[j]);
            vw[j] = vw[j] * b2 + w2 * d * d;
            pw[j] = pw[j] * keep + rate * mw[j] / (sqrtf(vw[j]) / root + eps);
        }
        st_pack<W>(p, i, pw);
        st_pack<W>(m, i, mw);
        st_pack<W>(v, i, vw);
        after.template step<W>(i, pw);
    }
};

template <typename T> static kd_status adamw_run(const kd_call *c)
{
    const kd_adamw_attr *at = static_cast<const kd_adamw_attr *>(c->attr);
    adamw_update<T> u = {};
    u.p = kd_out<float>(c, 0);
    u.m = kd_out<float>(c, 1);
    u.v = kd_out<float>(c, 2);
    u.g = kd_in<float>(c, 5);
    u.after = followers_of<T>(c, 3, at->ema_decay);
    u.w1 = (float)(1.0 - at->beta1);
    u.b2 = (float)at->beta2;
    u.w2 = (float)(1.0 - at->beta2);
    u.eps = (float)at->eps;
    return update(c, 6, u);
}
KD_CUDA_OP(adamw)

/* ---- sgd ------------------------------------------------------------------------------------- */

template <typename T> struct sgd_update {
    float *p, *buf; /* buf null: no momentum */
    const float *g;
    followers<T> after;
    float momentum;
    bool nesterov;
    /* set in the kernel */
    double base;
    float mult, lr, wd;
    bool first;

    __device__ void start(const double *ctl)
    {
        base = ctl[KD_CTL_LR];
        mult = (float)ctl[KD_CTL_MULT];
        first = ctl[KD_CTL_T] == 1.0;
    }
    __device__ void segment(float factor, float decay)
    {
        lr = (float)(base * (double)factor);
        wd = decay;
    }
    template <int W> __device__ void step(int64_t i) const
    {
        float pw[W], d[W], b[W];
        ld_pack<W>(pw, p, i);
        ld_pack<W>(d, g, i);
#pragma unroll
        for (int j = 0; j < W; j++) {
            d[j] = mult * d[j] + wd * pw[j];
            b[j] = d[j];
        }
        if (buf != nullptr) {
            float old[W];
            if (!first) { /* the first step starts the buffer without reading it */
                ld_pack<W>(old, buf, i);
            }
#pragma unroll
            for (int j = 0; j < W; j++) {
                b[j] = first ? d[j] : momentum * old[j] + d[j];
            }
            st_pack<W>(buf, i, b);
        }
#pragma unroll
        for (int j = 0; j < W; j++) {
            pw[j] -= lr * (nesterov ? d[j] + momentum * b[j] : b[j]);
        }
        st_pack<W>(p, i, pw);
        after.template step<W>(i, pw);
    }
};

template <typename T> static kd_status sgd_run(const kd_call *c)
{
    const kd_sgd_attr *at = static_cast<const kd_sgd_attr *>(c->attr);
    sgd_update<T> u = {};
    u.p = kd_out<float>(c, 0);
    u.buf = at->momentum == 0.0 ? nullptr : kd_out<float>(c, 1);
    u.g = kd_in<float>(c, 4);
    u.after = followers_of<T>(c, 2, at->ema_decay);
    u.momentum = (float)at->momentum;
    u.nesterov = at->nesterov != 0 && u.buf != nullptr;
    return update(c, 5, u);
}
KD_CUDA_OP(sgd)

/* ---- grad_norm: sums of runs in f64, then their sum ------------------------------------------ */

constexpr int64_t NORM_PARTS = 1024;

static int64_t norm_parts(int64_t n)
{
    const int64_t parts = kd_div_up(n, PIECE);
    return parts < 1 ? 1 : parts < NORM_PARTS ? parts : NORM_PARTS;
}

static size_t grad_norm_scratch(const kd_call *c)
{
    return (size_t)norm_parts(numel(&c->in[0])) * sizeof(double);
}

/* out[block] = sum of squares of the block's run; `run` is a multiple of N. */
static __global__ void sum_squares(const float *g, double *out, int64_t n, int64_t run)
{
    const int64_t from = blockIdx.x * run, to = from + run < n ? from + run : n;
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = from + (int64_t)threadIdx.x * N; i < to; i += (int64_t)blockDim.x * N) {
        float v[N];
        ld_upto<N>(v, g, i, n);
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum += (double)v[j] * (double)v[j];
        }
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = sum;
    }
}

static __global__ void sum_runs(const double *part, int parts, double *out)
{
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < parts; i += (int)blockDim.x) {
        sum += part[i];
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        out[0] = sum;
    }
}

template <typename T> static kd_status grad_norm_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]), parts = norm_parts(n), run = kd_div_up(kd_div_up(n, parts), N) * N;
    double *out = kd_out<double>(c, 0), *part = static_cast<double *>(c->scratch);
    KD_LAUNCH(sum_squares, dim3((unsigned)parts), dim3(BLOCK), c, kd_in<float>(c, 0), parts == 1 ? out : part, n, run);
    if (parts > 1) {
        KD_LAUNCH(sum_runs, dim3(1), dim3(BLOCK), c, part, (int)parts, out);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(grad_norm, grad_norm_scratch)

/* ---- ema ------------------------------------------------------------------------------------- */

static __global__ void average(float *avg, const float *x, const double *ctl, int64_t n, float keep, float take)
{
    if (ctl[KD_CTL_APPLY] == 0.0) {
        return;
    }
    for (KD_EACH(k, kd_div_up(n, N))) {
        float a[N], v[N];
        ld_upto<N>(a, avg, k * N, n);
        ld_upto<N>(v, x, k * N, n);
#pragma unroll
        for (int j = 0; j < N; j++) {
            a[j] = keep * a[j] + take * v[j];
        }
        put_upto<N>(avg, k * N, n, a, false);
    }
}

template <typename T> static kd_status ema_run(const kd_call *c)
{
    const double decay = static_cast<const kd_ema_attr *>(c->attr)->decay;
    const int64_t n = numel(&c->in[0]);
    if (n > 0) {
        KD_LAUNCH(average, dim3(kd_grid(kd_div_up(n, N), BLOCK)), dim3(BLOCK), c, kd_out<float>(c, 0),
                  kd_in<float>(c, 1), kd_in<double>(c, 2), n, (float)decay, (float)(1.0 - decay));
    }
    return kd_launched();
}
KD_CUDA_OP(ema)
