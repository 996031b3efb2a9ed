/* motion, channel_gate, st_gate, stc_gate, gated_add, gate_mix and their gradients.  A block a plane; gradients of what
 * planes share are sums of one partial sum a plane, in order, by a second kernel. */
#include "kernels/cuda/device/gate_back.cuh"

/* One float a plane. */
static size_t plane_scratch(const kd_tensor *x)
{
    return (size_t)(x->shape.dim[0] * x->shape.dim[1]) * sizeof(float);
}

/* ---- motion ---------------------------------------------------------------------------------- */

template <typename T> static __global__ void motion_plane(const T *x, T *m, kd_planes p)
{
    const int64_t it = (int64_t)blockIdx.x;
    const int n = p.L - p.V;
    const T *a = x + it * p.L;
    float sum = 0.0f;
    for (int j = (int)threadIdx.x; j < n; j += (int)blockDim.x) {
        sum += fabsf(ld(a, j + p.V) - ld(a, j));
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        st(m, it, sum / (float)n);
    }
}

template <typename T> static kd_status motion_run(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[0]);
    if (p.n * p.C > 0) {
        KD_LAUNCH((motion_plane<T>), kd_plane_grid(p), kd_plane_block(p.L), c, kd_in<T>(c, 0), kd_out<T>(c, 0), p);
    }
    return kd_launched();
}
KD_CUDA_OP(motion)

static __device__ __forceinline__ float sign_of(float x)
{
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; /* zero stays zero, NaN stays NaN */
}

template <typename T> static __global__ void motion_back(const T *dm, const T *x, const T *plus, T *dx, kd_planes p)
{
    const int64_t it = (int64_t)blockIdx.x;
    const int n = p.L - p.V;
    const T *a = x + it * p.L;
    const float w = ld(dm, it) / (float)n;
    for (int j = (int)threadIdx.x; j < p.L; j += (int)blockDim.x) {
        const float here = ld(a, j);
        const float before = j >= p.V ? sign_of(here - ld(a, j - p.V)) : 0.0f;
        const float after = j < n ? sign_of(ld(a, j + p.V) - here) : 0.0f;
        const float more = plus != nullptr ? ld(plus, it * p.L + j) : 0.0f;
        st(dx, it * p.L + j, w * (before - after) + more);
    }
}

template <typename T> static kd_status motion_bwd_run(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[1]);
    if (p.n * p.C > 0) {
        KD_LAUNCH((motion_back<T>), kd_plane_grid(p), kd_plane_block(p.L), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  kd_in<T>(c, 2), kd_out<T>(c, 0), p);
    }
    return kd_launched();
}
KD_CUDA_OP(motion_bwd)

/* ---- channel_gate ---------------------------------------------------------------------------- */

template <typename T> struct channel_gate_value {
    const T *g;
    const float *alpha;
    __device__ float operator()(const kd_plane &here, int, int, float x) const
    {
        return x + alpha[here.c] * (x * ld(g, here.it) - x);
    }
};

template <typename T> static kd_status channel_gate_run(const kd_call *c)
{
    const channel_gate_value<T> fn = {kd_in<T>(c, 1), kd_in<float>(c, 2)};
    return kd_plane_map_run<T>(c, fn);
}
KD_CUDA_OP(channel_gate)

template <typename T, int W>
static __global__ void channel_gate_back(const T *dy, const T *x, const T *g, const float *alpha, T *dx, T *dg,
                                         float *part, kd_planes p)
{
    const kd_plane here = kd_plane_here(p);
    const float a = alpha[here.c], gate = ld(g, here.it), w = 1.0f + a * (gate - 1.0f);
    float dot = 0.0f;
    for (int j = (int)threadIdx.x * W; j < p.L; j += (int)blockDim.x * W) {
        float d[W], u[W];
        ld_pack<W>(d, dy, here.it * p.L + j);
        ld_pack<W>(u, x, here.it * p.L + j);
#pragma unroll
        for (int k = 0; k < W; k++) {
            dot += d[k] * u[k];
            d[k] *= w;
        }
        if (dx != nullptr) {
            st_pack<W>(dx, here.it * p.L + j, d);
        }
    }
    dot = kd_block_sum(dot);
    if (threadIdx.x == 0) {
        part[here.it] = dot * (gate - 1.0f);
        if (dg != nullptr) {
            st(dg, here.it, a * dot);
        }
    }
}

template <typename T, int W> static void launch_channel_gate_back(const kd_call *c, const kd_planes &p)
{
    KD_LAUNCH((channel_gate_back<T, W>), kd_plane_grid(p), kd_plane_block(p.L / W), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              kd_in<T>(c, 2), kd_in<float>(c, 3), kd_out<T>(c, 0), kd_out<T>(c, 1), static_cast<float *>(c->scratch),
              p);
}

static size_t channel_gate_bwd_scratch(const kd_call *c)
{
    return plane_scratch(&c->in[1]);
}

template <typename T> static kd_status channel_gate_bwd_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_planes p = kd_planes_of(&c->in[1]);
    if (p.n * p.C > 0) {
        p.L % W == 0 ? launch_channel_gate_back<T, W>(c, p) : launch_channel_gate_back<T, 1>(c, p);
    }
    if (p.C > 0 && kd_out<float>(c, 2) != nullptr) {
        kd_sum_parts(c, static_cast<const float *>(c->scratch), p.n, kd_out<float>(c, 2), p.C, kd_adds(c, 2), nullptr,
                     0, false);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(channel_gate_bwd, channel_gate_bwd_scratch)

/* ---- st_gate --------------------------------------------------------------------------------- */

template <typename T> struct st_gate_value {
    const T *at, *av;
    const float *alpha;
    int frames, joints;
    __device__ float operator()(const kd_plane &here, int f, int v, float x) const
    {
        return x + alpha[here.c] * (x * ld(at, here.it * frames + f) * ld(av, here.it * joints + v) - x);
    }
};

template <typename T> static kd_status st_gate_run(const kd_call *c)
{
    const int64_t *d = c->in[0].shape.dim;
    const st_gate_value<T> fn = {kd_in<T>(c, 1), kd_in<T>(c, 2), kd_in<float>(c, 3), (int)d[2], (int)d[3]};
    return kd_plane_map_run<T>(c, fn);
}
KD_CUDA_OP(st_gate)

static size_t st_gate_bwd_scratch(const kd_call *c)
{
    return plane_scratch(&c->in[1]);
}

template <typename T> static kd_status st_gate_bwd_run(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[1]);
    float *part = static_cast<float *>(c->scratch);
    const st_gate_sums<T> gate = {
        kd_in<T>(c, 2), kd_in<T>(c, 3), kd_in<float>(c, 4), kd_out<T>(c, 1), kd_out<T>(c, 2), part, p.T, p.V};
    if (p.n * p.C > 0) {
        launch_gate_back<T>(c, p, gate);
    }
    if (p.C > 0 && kd_out<float>(c, 3) != nullptr) {
        kd_sum_parts(c, part, p.n, kd_out<float>(c, 3), p.C, kd_adds(c, 3), nullptr, 0, false);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(st_gate_bwd, st_gate_bwd_scratch)

/* ---- stc_gate -------------------------------------------------------------------------------- */

template <typename T> static stc_factors<T> stc_factors_of(const kd_call *c, int first, const kd_planes &p)
{
    const stc_factors<T> s = {
        kd_in<T>(c, first), kd_in<T>(c, first + 1), kd_in<T>(c, first + 2), kd_in<float>(c, first + 3), p.T, p.V};
    return s;
}

template <typename T> struct stc_gate_value {
    stc_factors<T> by;
    __device__ float operator()(const kd_plane &here, int f, int v, float x) const
    {
        const float s = by.weight(here);
        return x * (1.0f - s) + x * by.joint(here, v) * (s * by.channel(here) * by.time(here, f));
    }
};

template <typename T> static kd_status stc_gate_run(const kd_call *c)
{
    const stc_gate_value<T> fn = {stc_factors_of<T>(c, 1, kd_planes_of(&c->in[0]))};
    return kd_plane_map_run<T>(c, fn);
}
KD_CUDA_OP(stc_gate)

static size_t stc_gate_bwd_scratch(const kd_call *c)
{
    const int64_t *d = c->in[1].shape.dim;
    return (size_t)(d[0] * d[1] * (d[2] + d[3] + 1)) * sizeof(float);
}

template <typename T> static kd_status stc_gate_bwd_run(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[1]);
    float *part_gate = static_cast<float *>(c->scratch), *part = part_gate + p.n * p.C;
    T *dat = kd_out<T>(c, 1), *dav = kd_out<T>(c, 2);
    stc_gate_sums<T> sums = {};
    static_cast<stc_factors<T> &>(sums) = stc_factors_of<T>(c, 2, p);
    sums.dac = kd_out<T>(c, 3);
    sums.part = part;
    sums.part_gate = part_gate;
    if (p.n * p.C > 0) {
        launch_gate_back<T>(c, p, sums);
    }
    const int64_t columns = dat != nullptr || dav != nullptr ? p.n * kd_div_up((int64_t)p.T + p.V, SUM_COLUMNS) : 0;
    if (columns > 0 || kd_out<float>(c, 4) != nullptr) {
        KD_LAUNCH((stc_gate_finish<T>), dim3((unsigned)(columns + 1)), dim3(SUM_THREADS), c, part, part_gate,
                  kd_in<float>(c, 5), dat, dav, kd_out<float>(c, 4), kd_adds(c, 4), p);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(stc_gate_bwd, stc_gate_bwd_scratch)

/* ---- gated_add ------------------------------------------------------------------------------- */

template <typename T> struct gated_add_value {
    const T *o;
    const float *gate;
    int frames;
    __device__ float operator()(const kd_plane &here, int f, int, float x) const
    {
        return x + kd_sigmoid(gate[0]) * ld(o, here.it * frames + f);
    }
};

template <typename T> static kd_status gated_add_run(const kd_call *c)
{
    const gated_add_value<T> fn = {kd_in<T>(c, 1), kd_in<float>(c, 2), (int)c->in[0].shape.dim[2]};
    return kd_plane_map_run<T>(c, fn);
}
KD_CUDA_OP(gated_add)

/* do = s sum_v dy; part (planes) = sum_t o sum_v dy. */
template <typename T, int W>
static __global__ void gated_add_back(const T *dy, const T *o, const float *gate, T *d_o, float *part, kd_planes p)
{
    KD_SHARED(float, tile, KD_TILE);
    const int64_t it = (int64_t)blockIdx.x;
    const float s = kd_sigmoid(gate[0]);
    const int step = kd_tile_frames(p.V);
    float sum = 0.0f;
    for (int from = 0; from < p.T; from += step) {
        const int frames = p.T - from < step ? p.T - from : step;
        __syncthreads(); /* the last tile's readers are done */
        for (int j = (int)threadIdx.x * W; j < frames * p.V; j += (int)blockDim.x * W) {
            float d[W];
            ld_pack<W>(d, dy, it * p.L + (int64_t)from * p.V + j);
#pragma unroll
            for (int k = 0; k < W; k++) {
                tile[j + k] = d[k];
            }
        }
        __syncthreads();
        for (int f = (int)threadIdx.x; f < frames; f += (int)blockDim.x) {
            const int64_t at = it * p.T + from + f;
            float row = 0.0f;
            for (int v = 0; v < p.V; v++) {
                row += tile[f * p.V + v];
            }
            sum += row * ld(o, at);
            if (d_o != nullptr) {
                st(d_o, at, s * row);
            }
        }
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        part[it] = sum;
    }
}

static __global__ void gate_finish(const float *part, int64_t n, const float *gate, float *dgate, bool add)
{
    gate_gradient(part, n, gate, dgate, add);
}

static size_t gated_add_bwd_scratch(const kd_call *c)
{
    return plane_scratch(&c->in[0]);
}

template <typename T, int W> static void launch_gated_add_back(const kd_call *c, const kd_planes &p)
{
    KD_LAUNCH((gated_add_back<T, W>), kd_plane_grid(p), kd_plane_block(p.L / W), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              kd_in<float>(c, 2), kd_out<T>(c, 0), static_cast<float *>(c->scratch), p);
}

template <typename T> static kd_status gated_add_bwd_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_planes p = kd_planes_of(&c->in[0]);
    if (p.n * p.C > 0) {
        p.L % W == 0 ? launch_gated_add_back<T, W>(c, p) : launch_gated_add_back<T, 1>(c, p);
    }
    if (kd_out<float>(c, 1) != nullptr) {
        KD_LAUNCH(gate_finish, dim3(1), dim3(SUM_THREADS), c, static_cast<const float *>(c->scratch), p.n * p.C,
                  kd_in<float>(c, 2), kd_out<float>(c, 1), kd_adds(c, 1));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(gated_add_bwd, gated_add_bwd_scratch)

/* ---- gate_mix -------------------------------------------------------------------------------- */

template <typename T>
static __global__ void gate_mix_each(const T *a, const T *b, const float *gate, T *y, int64_t n, int C, bool one)
{
    for (KD_EACH(i, n)) {
        const float s = kd_sigmoid(gate[one ? 0 : i % C]);
        st(y, i, s * ld(a, i) + (1.0f - s) * ld(b, i));
    }
}

template <typename T> static kd_status gate_mix_run(const kd_call *c)
{
    const int64_t n = numel(&c->in[0]);
    if (n > 0) {
        KD_LAUNCH((gate_mix_each<T>), dim3(kd_grid(n, 256)), dim3(256), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  kd_in<float>(c, 2), kd_out<T>(c, 0), n, (int)c->in[0].shape.dim[1], numel(&c->in[2]) == 1);
    }
    return kd_launched();
}
KD_CUDA_OP(gate_mix)

/* A block all samples of 32 channels: with a gate a channel that is all there is to sum. */
template <typename T>
static __global__ void gate_mix_back(const T *dy, const T *a, const T *b, const float *gate, T *da, T *db, float *dgate,
                                     bool add, float *part, int64_t n, int C)
{
    KD_SHARED(float, line_sums, SUM_THREADS);
    const int t = (int)threadIdx.x, c = (int)(blockIdx.x * SUM_COLUMNS) + t % SUM_COLUMNS;
    const float s = c < C ? kd_sigmoid(gate[part != nullptr ? 0 : c]) : 0.0f;
    float sum = 0.0f;
    for (int64_t r = t / SUM_COLUMNS; c < C && r < n; r += SUM_THREADS / SUM_COLUMNS) {
        const float g = ld(dy, r * C + c);
        sum += g * (ld(a, r * C + c) - ld(b, r * C + c));
        if (da != nullptr) {
            st(da, r * C + c, s * g);
        }
        if (db != nullptr) {
            st(db, r * C + c, (1.0f - s) * g);
        }
    }
    line_sums[t] = sum;
    __syncthreads();
    if (t >= SUM_COLUMNS || c >= C) {
        return;
    }
    for (int l = 1; l < SUM_THREADS / SUM_COLUMNS; l++) {
        sum += line_sums[t + l * SUM_COLUMNS];
    }
    if (part != nullptr) {
        part[c] = sum;
    } else if (dgate != nullptr) {
        put(dgate, c, sum * s * (1.0f - s), add);
    }
}

static size_t gate_mix_bwd_scratch(const kd_call *c)
{
    return numel(&c->in[3]) == 1 ? (size_t)c->in[1].shape.dim[1] * sizeof(float) : 0;
}

template <typename T> static kd_status gate_mix_bwd_run(const kd_call *c)
{
    const int64_t n = c->in[1].shape.dim[0], C = c->in[1].shape.dim[1];
    const float *gate = kd_in<float>(c, 3);
    float *part = numel(&c->in[3]) == 1 ? static_cast<float *>(c->scratch) : nullptr, *dgate = kd_out<float>(c, 2);
    if (C > 0) {
        KD_LAUNCH((gate_mix_back<T>), dim3((unsigned)kd_div_up(C, SUM_COLUMNS)), dim3(SUM_THREADS), c, kd_in<T>(c, 0),
                  kd_in<T>(c, 1), kd_in<T>(c, 2), gate, kd_out<T>(c, 0), kd_out<T>(c, 1), dgate, kd_adds(c, 2), part, n,
                  (int)C);
    }
    if (part != nullptr && dgate != nullptr) {
        KD_LAUNCH(gate_finish, dim3(1), dim3(128), c, part, C, gate, dgate, kd_adds(c, 2));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(gate_mix_bwd, gate_mix_bwd_scratch)
