/* conv3d, conv3d_bwd_x, conv3d_bwd_w: products of matrices whose right operand is gathered, one shape of tile for
 * everything.
 *
 * Forward W (Co x depth) times x (depth x positions), depth being (channel, tap) in the order of W; backward the same
 * with the channels of dy.  A thread gathers for one position, whose place in the volume it works out once, and walks
 * through the depth by counting, so that there is no division inside.  The gradient of W is dy (Co x positions) times
 * the gathered x transposed, in splits of the positions that a second launch adds in order. */
#include "kernels/cuda/device/kd_cuda.cuh"

typedef kd_pack<float, 4> vec4;

struct volume_geom { /* dims in the order T, H, W; in: x, out: y */
    int64_t n;
    int ci, co, cig, cog, groups, taps;
    int in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
    int64_t volume_in, volume_out;

    template <bool BACK> __host__ __device__ int64_t volume() const /* positions of the output */
    {
        return BACK ? volume_in : volume_out;
    }
};

static volume_geom volume_geometry(const kd_conv3d_attr *a, const kd_shape *x, const kd_shape *y, const int64_t *kernel)
{
    volume_geom g = {};
    g.n = x->dim[0];
    g.ci = (int)x->dim[1];
    g.co = (int)y->dim[1];
    g.groups = a->groups;
    g.cig = g.ci / g.groups;
    g.cog = g.co / g.groups;
    g.taps = 1;
    g.volume_in = g.volume_out = 1;
    for (int i = 0; i < 3; i++) {
        g.in[i] = (int)x->dim[2 + i];
        g.out[i] = (int)y->dim[2 + i];
        g.kernel[i] = (int)kernel[i];
        g.stride[i] = a->stride[i];
        g.pad[i] = a->pad[i];
        g.dilation[i] = a->dilation[i];
        g.taps *= g.kernel[i];
        g.volume_in *= g.in[i];
        g.volume_out *= g.out[i];
    }
    return g;
}

struct voxel {
    int t, y, x;
};

static __device__ __forceinline__ voxel voxel_of(const int *dims, int64_t p)
{
    const int64_t row = kd_div(p, dims[2]), plane = kd_div(row, dims[1]);
    return {(int)plane, (int)(row - plane * dims[1]), (int)(p - row * dims[2])};
}

/* One dim: the index that position `at` reads through tap k; false: padding.  BACK: `at` is in x, the index in dy. */
template <bool BACK>
static __device__ __forceinline__ bool source(const volume_geom &g, int dim, int at, int k, int *from)
{
    if (!BACK) {
        *from = at * g.stride[dim] + k * g.dilation[dim] - g.pad[dim];
        return *from >= 0 && *from < g.in[dim];
    }
    const int r = at + g.pad[dim] - k * g.dilation[dim];
    *from = g.stride[dim] == 1 ? r : r / g.stride[dim];
    return r >= 0 && *from < g.out[dim] && *from * g.stride[dim] == r;
}

/* Index in the volume read, -1: outside, a zero. */
template <bool BACK>
static __device__ __forceinline__ int64_t source(const volume_geom &g, const voxel &p, const voxel &tap)
{
    const int *dims = BACK ? g.out : g.in;
    int t, y, x;
    const bool inside =
        source<BACK>(g, 0, p.t, tap.t, &t) && source<BACK>(g, 1, p.y, tap.y, &y) && source<BACK>(g, 2, p.x, tap.x, &x);
    return inside ? ((int64_t)t * dims[1] + y) * dims[2] + x : -1;
}

/* A place in the depth: channel and tap, counted up. */
struct depth_at {
    int channel;
    voxel tap;
    __device__ __forceinline__ void next(const volume_geom &g)
    {
        tap.x++;
        if (tap.x == g.kernel[2]) {
            tap.x = 0;
            tap.y++;
        }
        if (tap.y == g.kernel[1]) {
            tap.y = 0;
            tap.t++;
        }
        if (tap.t == g.kernel[0]) {
            tap.t = 0;
            channel++;
        }
    }
};

/* ---- y = W x, dx = W^T dy -------------------------------------------------------------------- */

/* PITCH: off each other's banks */
constexpr int BM = 32, BN = 128, DEPTH = 8, THREADS = 128, RM = 4, RN = 8, PITCH = BM + 4;

/* A block: BM channels x BN positions of one group; a thread RM x RN of them, positions in two strips of 4. */
template <typename T, bool BACK>
static __global__ __launch_bounds__(THREADS) void conv_product(const T *src, const T *w, const float *bias, T *out,
                                                               volume_geom g)
{
    KD_SHARED(vec4, ws, DEPTH *PITCH / 4);
    KD_SHARED(vec4, xs, DEPTH *BN / 4);
    const int M = BACK ? g.cig : g.cog, K = (BACK ? g.cog : g.cig) * g.taps, tiles = (M + BM - 1) / BM;
    const int64_t tile = blockIdx.x / (unsigned)tiles, positions = g.n * g.template volume<BACK>(),
                  volume = g.template volume<BACK>();
    const int m0 = (int)(blockIdx.x % (unsigned)tiles) * BM, group = (int)kd_mod(tile, g.groups),
              tid = (int)threadIdx.x;
    const int64_t q0 = kd_div(tile, g.groups) * BN, q = q0 + tid, sample = kd_div(q, volume);
    const int64_t src_volume = g.template volume<!BACK>();
    const voxel at = voxel_of(BACK ? g.in : g.out, q - sample * volume);
    const int64_t from = (sample * (BACK ? g.co : g.ci) + (int64_t)group * (BACK ? g.cog : g.cig)) * src_volume;
    depth_at d = {};
    float sum[RM][RN] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
#pragma unroll
        for (int i = 0; i < BM * DEPTH / THREADS; i++) { /* neighbours in memory go to neighbouring threads */
            const int e = tid + i * THREADS, m = e / DEPTH, k = k0 + e % DEPTH;
            const int64_t o = (int64_t)group * g.cog + (BACK ? k / g.taps : m0 + m);
            const int64_t c = BACK ? (int64_t)(m0 + m) * g.taps + k % g.taps : k;
            const bool there = m0 + m < M && k < K;
            reinterpret_cast<float *>(ws)[(e % DEPTH) * PITCH + m] = there ? ld(w, o * g.cig * g.taps + c) : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < DEPTH; i++, d.next(g)) {
            const int64_t p = q < positions && k0 + i < K ? source<BACK>(g, at, d.tap) : -1;
            reinterpret_cast<float *>(xs)[i * BN + tid] = p < 0 ? 0.0f : ld(src, from + d.channel * src_volume + p);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float a[RM], b[RN];
            ld_pack<4>(a, ws[k * PITCH / 4 + tid / 16].v, 0);
            ld_pack<4>(b, xs[k * BN / 4 + tid % 16].v, 0);
            ld_pack<4>(b + 4, xs[k * BN / 4 + 16 + tid % 16].v, 0);
#pragma unroll
            for (int i = 0; i < RM; i++) {
#pragma unroll
                for (int j = 0; j < RN; j++) {
                    sum[i][j] += a[i] * b[j];
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < RN; j++) {
        const int64_t to = q0 + j / 4 * (BN / 2) + tid % 16 * 4 + j % 4, n = kd_div(to, volume);
#pragma unroll
        for (int i = 0; i < RM; i++) {
            const int m = m0 + tid / 16 * RM + i;
            if (to < positions && m < M) {
                const int64_t c = (int64_t)group * M + m;
                st(out, (n * (BACK ? g.ci : g.co) + c) * volume + to - n * volume,
                   sum[i][j] + (bias != nullptr ? bias[c] : 0.0f));
            }
        }
    }
}

template <typename T, bool BACK> static kd_status launch_product(const kd_call *c, const volume_geom &g)
{
    const int64_t M = BACK ? g.cig : g.cog, positions = g.n * g.volume<BACK>();
    if (positions * M > 0) {
        KD_LAUNCH((conv_product<T, BACK>), dim3((unsigned)(kd_div_up(positions, BN) * g.groups * kd_div_up(M, BM))),
                  dim3(THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1), BACK ? nullptr : kd_in<float>(c, 2),
                  kd_out<T>(c, 0), g);
    }
    return kd_launched();
}

template <typename T> static kd_status conv3d_run(const kd_call *c)
{
    const kd_conv3d_attr *at = static_cast<const kd_conv3d_attr *>(c->attr);
    return launch_product<T, false>(c, volume_geometry(at, &c->in[0].shape, &c->out[0].shape, c->in[1].shape.dim + 2));
}
KD_CUDA_OP(conv3d)

template <typename T> static kd_status conv3d_bwd_x_run(const kd_call *c)
{
    const kd_conv3d_attr *at = static_cast<const kd_conv3d_attr *>(c->attr);
    return launch_product<T, true>(c, volume_geometry(at, &at->x_shape, &c->in[0].shape, c->in[1].shape.dim + 2));
}
KD_CUDA_OP(conv3d_bwd_x)

/* ---- dW = dy x^T ----------------------------------------------------------------------------- */

constexpr int WM = 32, WN = 64, RUN = 16; /* rows of dW, columns, positions a step; 4 x 4 a thread */
constexpr int PM = WM + 4, PN = WN + 4;

struct conv_split { /* of the positions; part (splits, dW then db) */
    int64_t splits, per;
};

static conv_split split_of(const volume_geom &g)
{
    const int64_t positions = g.n * g.volume_out;
    const int64_t tiles = kd_div_up(g.cog, WM) * kd_div_up((int64_t)g.cig * g.taps, WN) * g.groups;
    const int64_t want = kd_div_up(132 * 4, tiles > 0 ? tiles : 1), most = kd_div_up(positions, 8 * RUN);
    const int64_t n = want < most ? want : most;
    conv_split s = {};
    s.per = kd_div_up(kd_div_up(positions, n < 1 ? 1 : n), RUN) * RUN;
    s.splits = s.per > 0 ? kd_div_up(positions, s.per) : 1;
    return s;
}

/* A block: WM channels of dy x WN (channel, tap) columns of one group, over one split of the positions. */
template <typename T>
static __global__ __launch_bounds__(THREADS) void conv_outer(const T *dy, const T *x, float *part, volume_geom g,
                                                             int64_t per)
{
    KD_SHARED(vec4, ds, RUN *PM / 4);
    KD_SHARED(vec4, xs, RUN *PN / 4);
    KD_SHARED(depth_at, taps, WN);
    const int depth = g.cig * g.taps, tm = (g.cog + WM - 1) / WM, tn = (depth + WN - 1) / WN, tid = (int)threadIdx.x;
    const int n0 = (int)blockIdx.x % tn * WN, m0 = (int)blockIdx.x / tn % tm * WM, group = (int)blockIdx.x / tn / tm;
    const int64_t positions = g.n * g.volume_out;
    const int64_t from = blockIdx.y * per, to = from + per < positions ? from + per : positions;
    for (int i = tid; i < WN; i += THREADS) {
        taps[i] = {(n0 + i) / g.taps, voxel_of(g.kernel, (n0 + i) % g.taps)};
    }
    __syncthreads();
    const int lane = tid % RUN, line = tid / RUN; /* position of the step, first row */
    float sum[4][4] = {}, bias[WM / 8] = {};
    for (int64_t step = from; step < to; step += RUN) {
        const int64_t q = step + lane, sample = kd_div(q, g.volume_out), p = q - sample * g.volume_out;
        const voxel at = voxel_of(g.out, p);
        const int64_t dyq = (sample * g.co + (int64_t)group * g.cog + m0) * g.volume_out + p;
        const int64_t xq = (sample * g.ci + (int64_t)group * g.cig) * g.volume_in;
#pragma unroll
        for (int i = 0; i < WM / 8; i++) {
            const int m = line + 8 * i;
            const float v = q < to && m0 + m < g.cog ? ld(dy, dyq + m * g.volume_out) : 0.0f;
            bias[i] += v;
            reinterpret_cast<float *>(ds)[lane * PM + m] = v;
        }
#pragma unroll
        for (int i = 0; i < WN / 8; i++) {
            const int n = line + 8 * i;
            const int64_t s = q < to && n0 + n < depth ? source<false>(g, at, taps[n].tap) : -1;
            reinterpret_cast<float *>(xs)[lane * PN + n] = s < 0 ? 0.0f : ld(x, xq + taps[n].channel * g.volume_in + s);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < RUN; k++) {
            float a[4], b[4];
            ld_pack<4>(a, ds[k * PM / 4 + tid / 16].v, 0);
            ld_pack<4>(b, xs[k * PN / 4 + tid % 16].v, 0);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    sum[i][j] += a[i] * b[j];
                }
            }
        }
        __syncthreads();
    }
    part += blockIdx.y * ((int64_t)g.co * depth + g.co);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int m = m0 + tid / 16 * 4 + i, n = n0 + tid % 16 * 4 + j;
            if (m < g.cog && n < depth) {
                part[((int64_t)group * g.cog + m) * depth + n] = sum[i][j];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < WM / 8; i++) { /* the 16 neighbours hold the same row's other positions */
        for (int s = RUN / 2; s > 0; s >>= 1) {
            bias[i] += __shfl_xor_sync(KD_FULL, bias[i], s);
        }
        const int m = m0 + line + 8 * i;
        if (n0 == 0 && lane == 0 && m < g.cog) {
            part[(int64_t)g.co * depth + (int64_t)group * g.cog + m] = bias[i];
        }
    }
}

static volume_geom geometry_of_bwd_w(const kd_call *c)
{
    const kd_conv3d_attr *at = static_cast<const kd_conv3d_attr *>(c->attr);
    const int64_t kernel[3] = {at->kernel[0], at->kernel[1], at->kernel[2]};
    return volume_geometry(at, &c->in[1].shape, &c->in[0].shape, kernel);
}

static size_t conv3d_bwd_w_scratch(const kd_call *c)
{
    const volume_geom g = geometry_of_bwd_w(c);
    return (size_t)(split_of(g).splits * ((int64_t)g.co * g.cig * g.taps + g.co)) * sizeof(float);
}

template <typename T> static kd_status conv3d_bwd_w_run(const kd_call *c)
{
    const volume_geom g = geometry_of_bwd_w(c);
    const conv_split s = split_of(g);
    const int64_t depth = (int64_t)g.cig * g.taps, nw = g.co * depth;
    float *part = static_cast<float *>(c->scratch), *dw = kd_out<float>(c, 0), *db = kd_out<float>(c, 1);
    if (nw == 0 || (dw == nullptr && db == nullptr)) {
        return kd_launched();
    }
    KD_LAUNCH((conv_outer<T>),
              dim3((unsigned)(kd_div_up(g.cog, WM) * kd_div_up(depth, WN) * g.groups), (unsigned)s.splits),
              dim3(THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, g, s.per);
    kd_sum_parts(c, part, s.splits, dw, nw, kd_adds(c, 0), db, g.co, kd_adds(c, 1));
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(conv3d_bwd_w, conv3d_bwd_w_scratch)
