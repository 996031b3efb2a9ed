/* conv_separable: y = Wp h, h the depthwise convolution of x.
 *
 * A block makes all channels of h at 200 positions of a sample, eight channels at a time, in shared memory, writes them out when
 * they are wanted, and multiplies them with Wp: h is read from memory never, x once a tile of BM outputs.  200 positions are eight
 * frames of 25 joints, and the 200 threads of a block then own a joint of a channel each in the first half, 4 positions x BM / 4
 * outputs in the second.  While one step's channels are multiplied, the next step's x travels.
 *
 * The students' kernel, 9 taps over time, keeps the window that eight frames share in registers; any other shape is summed tap by
 * tap.  Products are f32 FMA: with more than some 64 outputs a library's tensor cores and a pass over h are faster, and kd_fuse.c
 * leaves such pairs alone. */
#include "kernels/cuda/conv_depthwise.cuh"
#include "kernels/cuda/conv_tile.cuh"

constexpr int FRAMES = 8, JOINTS = 25, TAPS = 9;
constexpr int SPAN = FRAMES * JOINTS, BLOCK = SPAN; /* positions, threads */
constexpr int STEP = 8;                             /* channels at a time */
constexpr int WIDE = 4;                             /* positions of a thread in the product */

template <typename T> struct separable_job {
    const T *x, *wd, *wp;
    const float *bd, *bp;
    T *y, *h; /* either may be null */
    conv_geom g;
    int co, act, tiles; /* blocks of a plane */
};

/* ---- eight channels of h ------------------------------------------------------------------------------------------------------ */

/* hs[0], hs[every], ..: eight values that this thread wrote.  Once, not in the unrolled loops: activations are long. */
static __device__ __forceinline__ void activate(int act, float *hs, int every)
{
#pragma unroll 1
    for (int i = 0; act != KD_ACT_NONE && i < STEP; i++) {
        hs[i * every] = kd_act(act, hs[i * every]);
    }
}

/* Kernel (9,1), 25 joints, stride S and dilation D over time: a thread has one channel and joint, FRAMES frames.  The filters of a step's
 * channels go ahead of it into shared memory. */
template <typename T, int S, int D> struct deep_window {
    static constexpr int EVERY = S == 2 && D == 2 ? 2 : 1; /* rows that no tap reads are not loaded */
    static constexpr int WINDOW = ((FRAMES - 1) * S + (TAPS - 1) * D) / EVERY + 1;
    float v[WINDOW], tap;
    int ch, col, first;
    uint32_t inside; /* bit i: row i of the window exists */

    __device__ __forceinline__ void open(const separable_job<T> &j, int p0)
    {
        ch = (int)threadIdx.x / JOINTS;
        col = (int)threadIdx.x % JOINTS;
        first = p0 / JOINTS;
        inside = 0;
        for (int i = 0, r = first * S - j.g.ph; i < WINDOW; i++, r += EVERY) {
            inside |= r >= 0 && r < j.g.h ? 1u << i : 0u;
        }
    }
    __device__ __forceinline__ void load_filters(const separable_job<T> &j, int k0)
    {
        const int e = (int)threadIdx.x; /* (channel, tap) */
        tap = e < STEP * TAPS && k0 + e / TAPS < j.g.ci ? ld(j.wd, (int64_t)k0 * TAPS + e) : 0.0f;
    }
    __device__ __forceinline__ void store_filters(float *taps) const
    {
        if (threadIdx.x < STEP * TAPS) {
            taps[threadIdx.x] = tap;
        }
    }
    __device__ __forceinline__ void load(const separable_job<T> &j, int n, int k0)
    {
        const int c = k0 + ch;
        const uint32_t rows = c < j.g.ci ? inside : 0u;
        const int64_t at = ((int64_t)(n * j.g.ci + c) * j.g.h + first * S - j.g.ph) * JOINTS + col;
#pragma unroll
        for (int i = 0; i < WINDOW; i++) {
            v[i] = (rows >> i & 1u) != 0 ? ld(j.x, at + i * (EVERY * JOINTS)) : 0.0f;
        }
    }
    __device__ __forceinline__ void store(const separable_job<T> &j, int n, int k0, bool keep, const float *taps, float *hs) const
    {
        const int c = k0 + ch;
        const float b = j.bd != nullptr && c < j.g.ci ? j.bd[c] : 0.0f;
        float sum[FRAMES];
#pragma unroll
        for (int i = 0; i < FRAMES; i++) {
            sum[i] = b;
        }
#pragma unroll
        for (int k = 0; k < TAPS; k++) {
            const float f = taps[ch * TAPS + k];
#pragma unroll
            for (int i = 0; i < FRAMES; i++) {
                sum[i] += f * v[(i * S + k * D) / EVERY];
            }
        }
        hs += ch * SPAN + col;
#pragma unroll
        for (int i = 0; i < FRAMES; i++) {
            hs[i * JOINTS] = sum[i];
        }
        activate(j.act, hs, JOINTS);
        if (keep && c < j.g.ci) {
            const int64_t to = ((int64_t)(n * j.g.ci + c) * j.g.ho + first) * JOINTS + col;
            for (int i = 0; i < FRAMES && first + i < j.g.ho; i++) {
                st(j.h, to + i * JOINTS, hs[i * JOINTS]);
            }
        }
    }
};

/* Any kernel: a thread has one position, all channels of the step. */
template <typename T> struct deep_taps {
    float sum[STEP];
    int p, row, col; /* p: -1 beyond the plane */

    __device__ __forceinline__ void open(const separable_job<T> &j, int p0)
    {
        p = p0 + (int)threadIdx.x;
        row = p / j.g.wo;
        col = p - row * j.g.wo;
        p = row < j.g.ho ? p : -1;
    }
    __device__ __forceinline__ void load_filters(const separable_job<T> &, int)
    {
    }
    __device__ __forceinline__ void store_filters(float *) const
    {
    }
    __device__ __forceinline__ void load(const separable_job<T> &j, int n, int k0)
    {
        const int64_t in_plane = j.g.template in_plane<false>(), first = (int64_t)(n * j.g.ci + k0) * in_plane;
        const int taps = j.g.kh * j.g.kw, channels = j.g.ci - k0 < STEP ? j.g.ci - k0 : STEP;
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            sum[i] = j.bd != nullptr && i < channels ? j.bd[k0 + i] : 0.0f;
        }
        for (int k = 0; k < taps && p >= 0; k++) {
            const int64_t at = j.g.template source<false>(row, col, k / j.g.kw, k % j.g.kw);
            int64_t from = first + at, f = (int64_t)k0 * taps + k;
#pragma unroll
            for (int i = 0; i < STEP; i++, from += in_plane, f += taps) {
                if (i < channels) {
                    sum[i] += ld(j.wd, f) * (at < 0 ? 0.0f : ld(j.x, from));
                }
            }
        }
    }
    __device__ __forceinline__ void store(const separable_job<T> &j, int n, int k0, bool keep, const float *, float *hs) const
    {
        hs += threadIdx.x;
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            hs[i * SPAN] = sum[i];
        }
        activate(j.act, hs, SPAN);
        for (int i = 0; keep && p >= 0 && i < STEP && k0 + i < j.g.ci; i++) {
            st(j.h, (int64_t)(n * j.g.ci + k0 + i) * j.g.template out_plane<false>() + p, hs[i * SPAN]);
        }
    }
};

/* ---- Wp h ---------------------------------------------------------------------------------------------------------------------- */

/* BM outputs x STEP channels of Wp, on their way from global to shared memory. */
template <typename T, int BM> struct point_piece {
    static constexpr int N = (BM * STEP + BLOCK - 1) / BLOCK, PITCH = BM + 4;
    float v[N];
    __device__ __forceinline__ void load(const separable_job<T> &j, int m0, int k0)
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int e = (int)threadIdx.x + i * BLOCK, m = m0 + e / STEP, k = k0 + e % STEP;
            v[i] = e < BM * STEP && m < j.co && k < j.g.ci ? ld(j.wp, (int64_t)m * j.g.ci + k) : 0.0f;
        }
    }
    __device__ __forceinline__ void store(float *ws) const
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int e = (int)threadIdx.x + i * BLOCK;
            if (e < BM * STEP) {
                ws[e % STEP * PITCH + e / STEP] = v[i];
            }
        }
    }
};

/* This thread's BM / 4 outputs at its positions. */
template <typename T, int RM>
static __device__ __forceinline__ void write_outputs(const separable_job<T> &j, const float (&sum)[RM][WIDE], int n, int m0,
                                                     int p0)
{
    constexpr int ACROSS = SPAN / WIDE, LINES = BLOCK / ACROSS;
    const int tm = (int)threadIdx.x / ACROSS, p = p0 + (int)threadIdx.x % ACROSS * WIDE, plane = j.g.ho * j.g.wo;
    const bool packs = plane % WIDE == 0 && p < plane;
#pragma unroll
    for (int i = 0; i < RM; i++) {
        const int m = m0 + i / 4 * (4 * LINES) + tm * 4 + i % 4;
        if (m >= j.co) {
            continue;
        }
        const float b = j.bp != nullptr ? j.bp[m] : 0.0f;
        const int64_t to = (int64_t)(n * j.co + m) * plane + p;
        float v[WIDE];
#pragma unroll
        for (int l = 0; l < WIDE; l++) {
            v[l] = sum[i][l] + b;
        }
        if (packs) {
            st_pack<WIDE>(j.y, to, v);
            continue;
        }
#pragma unroll
        for (int l = 0; l < WIDE; l++) {
            if (p + l < plane) {
                st(j.y, to + l, v[l]);
            }
        }
    }
}

/* blockIdx: (sample, tile of positions, tile of outputs).  The first tile of outputs writes h. */
template <typename T, int BM, typename DEEP>
static __global__ __launch_bounds__(BLOCK, BM == 16 ? 3 : 2) void separable_tile(separable_job<T> j)
{
    constexpr bool AHEAD = BM < 64; /* 64 outputs leave no registers for it; another block's product hides these loads */
    constexpr int RM = BM / 4, PITCH = point_piece<T, BM>::PITCH;
    KD_SHARED(vec4, ws, 2 * STEP * PITCH / 4);
    KD_SHARED(vec4, hs, 2 * STEP * SPAN / 4);
    KD_SHARED(float, taps, 2 * STEP * TAPS);
    const int outs = (j.co + BM - 1) / BM, m0 = (int)(blockIdx.x % (unsigned)outs) * BM;
    const int n = (int)(blockIdx.x / (unsigned)outs / (unsigned)j.tiles);
    const int p0 = (int)(blockIdx.x / (unsigned)outs % (unsigned)j.tiles) * SPAN, steps = (j.g.ci + STEP - 1) / STEP;
    const bool keep = m0 == 0 && j.h != nullptr;
    float sum[RM][WIDE] = {};
    point_piece<T, BM> w;
    DEEP deep;
    deep.open(j, p0);
    deep.load_filters(j, 0);
    deep.store_filters(taps);
    __syncthreads();
    for (int step = 0; step <= steps; step++) {
        const int to = step % 2, from = 1 - to, k0 = step * STEP;
        if (AHEAD && step < steps) {
            w.load(j, m0, k0);
            deep.load(j, n, k0);
        }
        if (step > 0 && j.y != nullptr) {
            multiply<STEP, BM, PITCH, SPAN, SPAN, RM, WIDE>(ws + from * (STEP * PITCH / 4), hs + from * (STEP * SPAN / 4), sum);
        }
        if (step < steps) {
            if (!AHEAD) {
                w.load(j, m0, k0);
                deep.load(j, n, k0);
            }
            deep.load_filters(j, k0 + STEP);
            w.store(reinterpret_cast<float *>(ws) + to * STEP * PITCH);
            deep.store(j, n, k0, keep, taps + to * STEP * TAPS, reinterpret_cast<float *>(hs) + to * STEP * SPAN);
            deep.store_filters(taps + from * STEP * TAPS);
        }
        __syncthreads();
    }
    if (j.y != nullptr) {
        write_outputs<T, RM>(j, sum, n, m0, p0);
    }
}

/* ---- launches ------------------------------------------------------------------------------------------------------------------ */

template <typename T, int BM, typename DEEP> static void launch_tiles(const kd_call *c, const separable_job<T> &j)
{
    const int64_t outs = kd_div_up(j.co, BM);
    KD_LAUNCH((separable_tile<T, BM, DEEP>), dim3((unsigned)(j.g.n * j.tiles * outs)), dim3(BLOCK), c, j);
}

template <typename T, int BM> static void launch_separable(const kd_call *c, const separable_job<T> &j)
{
    const conv_geom &g = j.g;
    const bool window = g.kh == TAPS && g.kw == 1 && g.sw == 1 && g.pw == 0 && g.w == JOINTS && g.sh <= 2 && g.dh <= 2;
    if (!window) {
        launch_tiles<T, BM, deep_taps<T>>(c, j);
    } else if (g.sh == 1) {
        g.dh == 1 ? launch_tiles<T, BM, deep_window<T, 1, 1>>(c, j) : launch_tiles<T, BM, deep_window<T, 1, 2>>(c, j);
    } else {
        g.dh == 1 ? launch_tiles<T, BM, deep_window<T, 2, 1>>(c, j) : launch_tiles<T, BM, deep_window<T, 2, 2>>(c, j);
    }
}

template <typename T> static kd_status conv_separable_run(const kd_call *c)
{
    const kd_conv_separable_attr *at = static_cast<const kd_conv_separable_attr *>(c->attr);
    const kd_shape *x = &c->in[0].shape, *w = &c->in[1].shape;
    separable_job<T> j = {};
    j.x = kd_in<T>(c, 0);
    j.wd = kd_in<T>(c, 1);
    j.bd = kd_in<float>(c, 2);
    j.wp = kd_in<T>(c, 3);
    j.bp = kd_in<float>(c, 4);
    j.y = kd_out<T>(c, 0);
    j.h = kd_out<T>(c, 1);
    j.co = j.y != nullptr ? (int)c->in[3].shape.dim[0] : 1;
    j.act = at->act;
    if (j.y == nullptr && j.h == nullptr) {
        return KD_OK;
    }
    kd_shape h = c->out[j.y != nullptr ? 0 : 1].shape; /* either result has the positions */
    kd_conv2d_attr deep = {};
    for (int i = 0; i < 2; i++) {
        deep.stride[i] = at->stride[i];
        deep.pad[i] = at->pad[i];
        deep.dilation[i] = at->dilation[i];
    }
    deep.groups = (int)x->dim[1];
    h.dim[1] = x->dim[1];
    j.g = conv_geometry(&deep, x, &h, w->dim[2], w->dim[3]);
    if (kd_shape_numel(&h) == 0 || j.co == 0) {
        return KD_OK;
    }
    j.tiles = (int)kd_div_up((int64_t)j.g.ho * j.g.wo, SPAN);
    if (j.co <= 16) {
        launch_separable<T, 16>(c, j);
    } else if (kd_div_up(j.co, 32) % 2 == 1) {
        launch_separable<T, 32>(c, j);
    } else {
        launch_separable<T, 64>(c, j);
    }
    return kd_launched();
}
KD_CUDA_OP(conv_separable)
