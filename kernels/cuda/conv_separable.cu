/* conv_separable: y = Wp h, h the depthwise convolution of x; one branch, or two with their outputs side by side.
 *
 * A block makes all channels of h at 200 positions of a sample, eight channels at a time, in shared memory, writes them
 * out when they are wanted, and multiplies them with Wp: h is read from memory never, x once a tile of BM outputs.  200
 * positions are eight frames of 25 joints, and the 200 threads of a block then own a joint of a channel each in the
 * first half, 4 positions x BM / 4 outputs in the second.  While one step's channels are multiplied, the next step's x
 * travels.
 *
 * Two branches of the students' kind, dilation 1 and 2, are one launch: neighbouring blocks take the same x, which the
 * second of them finds in the cache.  Other pairs are two launches.
 *
 * The students' kernel, 9 taps over time, keeps the window that eight frames share in registers; any other shape is
 * summed tap by tap.  Products are f32 FMA: with more than some 64 outputs a library's tensor cores and a pass over h
 * are faster, and graph/fuse.c leaves such pairs alone. */
#include "kernels/cuda/device/conv_depthwise.cuh"
#include "kernels/cuda/device/conv_tile.cuh"

constexpr int FRAMES = 8, JOINTS = 25, TAPS = 9;
constexpr int SPAN = FRAMES * JOINTS, BLOCK = SPAN; /* positions, threads */
constexpr int STEP = 8;                             /* channels at a time */
constexpr int WIDE = 4;                             /* positions of a thread in the product */

/* One branch. */
template <typename T> struct separable_job {
    const T *x, *wd, *wp;
    const float *bd, *bp;
    T *y, *h; /* either may be null; y: the branch's first channel of the first sample */
    conv_geom g;
    int co, width;  /* channels: of this branch, of y */
    int act, tiles; /* blocks of a plane */
};

/* ---- eight channels of h --------------------------------------------------------------------- */

/* hs[0], hs[every], ..: eight values that this thread wrote.  Once, not in the unrolled loops: activations are long. */
static __device__ __forceinline__ void activate(int act, float *hs, int every)
{
#pragma unroll 1
    for (int i = 0; act != KD_ACT_NONE && i < STEP; i++) {
        hs[i * every] = kd_act(act, hs[i * every]);
    }
}

/* Kernel (9,1), 25 joints, stride S and dilation D over time: a thread has one channel and joint, FRAMES frames.  The
 * filters of a step's channels go ahead of it into shared memory. */
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
    __device__ __forceinline__ void store(const separable_job<T> &j, int n, int k0, bool keep, const float *taps,
                                          float *hs) const
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
    __device__ __forceinline__ void store(const separable_job<T> &j, int n, int k0, bool keep, const float *,
                                          float *hs) const
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

/* ---- Wp h ------------------------------------------------------------------------------------ */

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
static __device__ __forceinline__ void write_outputs(const separable_job<T> &j, const float (&sum)[RM][WIDE], int n,
                                                     int m0, int p0)
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
        const int64_t to = (int64_t)(n * j.width + m) * plane + p;
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

/* block: (sample, tile of positions, tile of outputs).  The first tile of outputs writes h. */
template <typename T, int BM, typename DEEP>
static __device__ __forceinline__ void separable_block(const separable_job<T> &j, unsigned block, vec4 *ws, vec4 *hs,
                                                       float *taps)
{
    /* 64 outputs leave no registers for it; another block's product hides these loads */
    constexpr bool AHEAD = BM < 64;
    constexpr int RM = BM / 4, PITCH = point_piece<T, BM>::PITCH;
    const int outs = BM == 16 ? 1 : (j.co + BM - 1) / BM, m0 = (int)(block % (unsigned)outs) * BM; /* 16: for no more */
    const int n = (int)(block / (unsigned)outs / (unsigned)j.tiles);
    const int p0 = (int)(block / (unsigned)outs % (unsigned)j.tiles) * SPAN, steps = (j.g.ci + STEP - 1) / STEP;
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
            multiply<STEP, BM, PITCH, SPAN, SPAN, RM, WIDE>(ws + from * (STEP * PITCH / 4),
                                                            hs + from * (STEP * SPAN / 4), sum);
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

template <typename T, int BM, typename DEEP>
static __global__ __launch_bounds__(BLOCK, BM == 16 ? 3 : 2) void separable_tile(separable_job<T> j)
{
    constexpr int PITCH = point_piece<T, BM>::PITCH;
    KD_SHARED(vec4, ws, 2 * STEP * PITCH / 4);
    KD_SHARED(vec4, hs, 2 * STEP * SPAN / 4);
    KD_SHARED(float, taps, 2 * STEP * TAPS);
    separable_block<T, BM, DEEP>(j, blockIdx.x, ws, hs, taps);
}

/* Two branches of as many outputs each: the even blocks one, the odd ones the other. */
template <typename T, int BM, int S>
static __global__ __launch_bounds__(BLOCK, BM == 16 ? 3 : 2) void separable_pair(separable_job<T> even,
                                                                                 separable_job<T> odd)
{
    constexpr int PITCH = point_piece<T, BM>::PITCH;
    KD_SHARED(vec4, ws, 2 * STEP * PITCH / 4);
    KD_SHARED(vec4, hs, 2 * STEP * SPAN / 4);
    KD_SHARED(float, taps, 2 * STEP * TAPS);
    if (blockIdx.x % 2 == 0) {
        separable_block<T, BM, deep_window<T, S, 1>>(even, blockIdx.x / 2, ws, hs, taps);
    } else {
        separable_block<T, BM, deep_window<T, S, 2>>(odd, blockIdx.x / 2, ws, hs, taps);
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

template <int BM, typename T> static unsigned blocks_of(const separable_job<T> &j)
{
    return (unsigned)(j.g.n * j.tiles * kd_div_up(j.co, BM));
}

template <typename T, int BM, typename DEEP> static void launch_tiles(const kd_call *c, const separable_job<T> &j)
{
    KD_LAUNCH((separable_tile<T, BM, DEEP>), dim3(blocks_of<BM>(j)), dim3(BLOCK), c, j);
}

static bool is_window(const conv_geom &g)
{
    return g.kh == TAPS && g.kw == 1 && g.sw == 1 && g.pw == 0 && g.w == JOINTS && g.sh <= 2 && g.dh <= 2;
}

template <typename T, int BM> static void launch_one(const kd_call *c, const separable_job<T> &j)
{
    const conv_geom &g = j.g;
    if (!is_window(g)) {
        launch_tiles<T, BM, deep_taps<T>>(c, j);
    } else if (g.sh == 1) {
        g.dh == 1 ? launch_tiles<T, BM, deep_window<T, 1, 1>>(c, j) : launch_tiles<T, BM, deep_window<T, 1, 2>>(c, j);
    } else {
        g.dh == 1 ? launch_tiles<T, BM, deep_window<T, 2, 1>>(c, j) : launch_tiles<T, BM, deep_window<T, 2, 2>>(c, j);
    }
}

template <typename T, int BM>
static void launch_pair(const kd_call *c, const separable_job<T> &even, const separable_job<T> &odd)
{
    const dim3 grid(2 * blocks_of<BM>(even));
    if (even.g.sh == 1) {
        KD_LAUNCH((separable_pair<T, BM, 1>), grid, dim3(BLOCK), c, even, odd);
    } else {
        KD_LAUNCH((separable_pair<T, BM, 2>), grid, dim3(BLOCK), c, even, odd);
    }
}

/* One branch, or two at once. */
template <typename T, int BM> static void launch_width(const kd_call *c, const separable_job<T> *j, int branches)
{
    branches == 2 ? launch_pair<T, BM>(c, j[0], j[1]) : launch_one<T, BM>(c, j[0]);
}

template <typename T> static void launch_separable(const kd_call *c, const separable_job<T> *j, int branches)
{
    if (j->co <= 16) {
        launch_width<T, 16>(c, j, branches);
    } else if (kd_div_up(j->co, 32) % 2 == 1) {
        launch_width<T, 32>(c, j, branches);
    } else {
        launch_width<T, 64>(c, j, branches);
    }
}

/* Branch b of the call; false: nothing of it is wanted. */
template <typename T> static bool job_of(const kd_call *c, int b, separable_job<T> *j)
{
    const kd_conv_separable_attr *at = static_cast<const kd_conv_separable_attr *>(c->attr);
    const int first = 1 + 4 * b; /* Wd, bd, Wp, bp */
    const kd_shape *x = &c->in[0].shape, *w = &c->in[first].shape;
    *j = {};
    j->x = kd_in<T>(c, 0);
    j->wd = kd_in<T>(c, first);
    j->bd = kd_in<float>(c, first + 1);
    j->wp = kd_in<T>(c, first + 2);
    j->bp = kd_in<float>(c, first + 3);
    j->y = kd_out<T>(c, 0);
    j->h = kd_out<T>(c, 1 + b);
    j->co = j->y != nullptr ? (int)c->in[first + 2].shape.dim[0] : 1;
    j->act = at->act;
    if (j->y == nullptr && j->h == nullptr) {
        return false;
    }
    kd_shape h = c->out[j->y != nullptr ? 0 : 1 + b].shape; /* either result has the positions */
    j->width = (int)h.dim[1];
    kd_conv2d_attr deep = {};
    for (int i = 0; i < 2; i++) {
        deep.stride[i] = at->stride[i];
        deep.pad[i] = at->pad[b][i];
        deep.dilation[i] = at->dilation[b][i];
    }
    deep.groups = (int)x->dim[1];
    h.dim[1] = x->dim[1];
    j->g = conv_geometry(&deep, x, &h, w->dim[2], w->dim[3]);
    j->tiles = (int)kd_div_up((int64_t)j->g.ho * j->g.wo, SPAN);
    if (j->y != nullptr && b > 0) {
        j->y += c->in[3].shape.dim[0] * h.dim[2] * h.dim[3];
    }
    return kd_shape_numel(&h) != 0 && j->co != 0;
}

template <typename T> static kd_status conv_separable_run(const kd_call *c)
{
    separable_job<T> j[2];
    const bool one = job_of(c, 0, &j[0]), two = kd_in<T>(c, 5) != nullptr && job_of(c, 1, &j[1]);
    if (one && two && j[0].co == j[1].co && is_window(j[0].g) && is_window(j[1].g) && j[0].g.dh == 1 &&
        j[1].g.dh == 2) {
        launch_separable<T>(c, j, 2);
        return kd_launched();
    }
    if (one) {
        launch_separable<T>(c, &j[0], 1);
    }
    if (two) {
        launch_separable<T>(c, &j[1], 1);
    }
    return kd_launched();
}
KD_CUDA_OP(conv_separable)
