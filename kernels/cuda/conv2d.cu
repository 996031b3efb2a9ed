/* conv2d, conv2d_bwd_x, conv2d_bwd_w.
 *
 * Depthwise convolutions are in conv_depthwise.cuh.  Everything else is a product of matrices: forward W (Co x Ci)
 * times x (Ci x positions), backward W^T times dy, the gradient of W dy (Co x positions) times x^T.  Positions of all
 * samples count through, so that small planes fill tiles too.  A kernel of several taps is a sum of such products over
 * shifted inputs: taps are the outer loop, channels the inner one, so that a thread works out once a tap where its
 * positions read.
 * 1x1 without stride or padding (`POINT`) reads and writes packs of four positions. */
#include "kernels/cuda/device/conv_depthwise.cuh"
#include "kernels/cuda/device/conv_tile.cuh"

constexpr int DEPTH = 8; /* channels a step of the forward and backward product */
constexpr int THREADS = 128;

/* ---- y = W x, dx = W^T dy -------------------------------------------------------------------- */

/* The left operand's piece (BM rows x DEPTH channels of one tap), on its way from global to shared memory. */
template <typename T, int BM, bool BACK> struct weight_piece {
    static constexpr int N = BM * DEPTH / THREADS, PITCH = BM + 4; /* the padding keeps stores off each other's banks */
    float v[N];
    static __device__ __forceinline__ int row(int e) /* neighbours in memory go to neighbouring threads */
    {
        return BACK ? e % BM : e / DEPTH;
    }
    static __device__ __forceinline__ int depth(int e)
    {
        return BACK ? e / BM : e % DEPTH;
    }
    __device__ __forceinline__ void load(const T *w, const conv_geom &g, int group, int m0, int k0, int tap)
    {
        const int M = BACK ? g.cig : g.cog, K = BACK ? g.cog : g.cig, taps = g.kh * g.kw;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int e = (int)threadIdx.x + i * THREADS, m = m0 + row(e), k = k0 + depth(e);
            const int64_t o = (int64_t)group * g.cog + (BACK ? k : m);
            v[i] = m < M && k < K ? ld(w, (o * g.cig + (BACK ? m : k)) * taps + tap) : 0.0f;
        }
    }
    __device__ __forceinline__ void store(float *ws) const
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int e = (int)threadIdx.x + i * THREADS;
            ws[depth(e) * PITCH + row(e)] = v[i];
        }
    }
};

/* The right operand's piece (DEPTH channels x BN positions).  POINT: a thread has one pack of positions; otherwise one
 * position, or two where the tile is wider than the block. */
template <typename T, int BN, bool BACK, bool POINT> struct input_piece {
    static constexpr int WIDE = POINT ? 4 : 1;
    static constexpr int ACROSS = BN / WIDE < THREADS ? BN / WIDE : THREADS; /* threads side by side */
    static constexpr int COLUMNS = BN / WIDE / ACROSS, STEP = THREADS / ACROSS, ROWS = DEPTH / STEP;
    float v[ROWS][COLUMNS][WIDE];
    const T *sample[COLUMNS]; /* first channel of the group there; null: no such position */
    int row[COLUMNS], col[COLUMNS];
    int64_t from[COLUMNS]; /* what the tap reads in each plane; negative: nothing, a zero */

    __device__ __forceinline__ void open(const T *src, const conv_geom &g, int group, int64_t q0, int64_t positions)
    {
        const int64_t plane = g.template out_plane<BACK>(), in_plane = g.template in_plane<BACK>();
        const int64_t C = BACK ? g.co : g.ci, first = (int64_t)group * (BACK ? g.cog : g.cig);
        const int width = BACK ? g.w : g.wo;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const int64_t q = q0 + ((int)threadIdx.x % ACROSS + j * ACROSS) * WIDE, n = kd_div(q, plane),
                          p = q - n * plane;
            sample[j] = q < positions ? src + (n * C + first) * in_plane : nullptr;
            row[j] = POINT ? 0 : (int)kd_div(p, width);
            col[j] = POINT ? 0 : (int)(p - (int64_t)row[j] * width);
            from[j] = p;
        }
    }
    __device__ __forceinline__ void aim(const conv_geom &g, int tap)
    {
#pragma unroll
        for (int j = 0; !POINT && j < COLUMNS; j++) {
            from[j] = g.template source<BACK>(row[j], col[j], tap / g.kw, tap % g.kw);
        }
    }
    __device__ __forceinline__ void load(const conv_geom &g, int k0)
    {
        const int K = BACK ? g.cog : g.cig;
        const int64_t in_plane = g.template in_plane<BACK>();
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int k = k0 + (int)threadIdx.x / ACROSS + i * STEP;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                const bool there = k < K && sample[j] != nullptr && from[j] >= 0;
                if (there) {
                    ld_pack<WIDE>(v[i][j], sample[j], k * in_plane + from[j]);
                }
#pragma unroll
                for (int l = 0; l < WIDE; l++) {
                    v[i][j][l] = there ? v[i][j][l] : 0.0f;
                }
            }
        }
    }
    __device__ __forceinline__ void store(float *xs) const
    {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int k = (int)threadIdx.x / ACROSS + i * STEP;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                st_pack<WIDE>(xs, k * BN + ((int)threadIdx.x % ACROSS + j * ACROSS) * WIDE, v[i][j]);
            }
        }
    }
};

/* Write this thread's part of a BM x BN tile of out: row m0 + .., position q0 + .. */
template <typename T, int BM, int BN, int R, bool BACK, bool POINT>
static __device__ __forceinline__ void write_tile(float (&sum)[R][R], const conv_geom &g, int group, int m0, int64_t q0,
                                                  int64_t positions, const float *bias, T *out, int act)
{
    constexpr int NT = BN / R, S = R / 4;
    const int tm = (int)threadIdx.x / NT, tn = (int)threadIdx.x % NT, M = BACK ? g.cig : g.cog;
    const int64_t plane = g.template out_plane<BACK>(), C = BACK ? g.ci : g.co, first = (int64_t)group * M;
#pragma unroll
    for (int i = 0; !BACK && i < R; i++) { /* gradients have neither, and 64 activations are long to compile */
        const int m = m0 + i / 4 * (BM / S) + tm * 4 + i % 4;
        const float b = bias != nullptr && m < M ? bias[first + m] : 0.0f;
#pragma unroll
        for (int j = 0; j < R; j++) {
            sum[i][j] = kd_act(act, sum[i][j] + b);
        }
    }
#pragma unroll
    for (int j = 0; j < R; j += POINT ? 4 : 1) {
        const int64_t q = q0 + j / 4 * (BN / S) + tn * 4 + j % 4, n = kd_div(q, plane), p = q - n * plane;
#pragma unroll
        for (int i = 0; i < R; i++) {
            const int m = m0 + i / 4 * (BM / S) + tm * 4 + i % 4;
            if (q < positions && m < M) {
                st_pack<POINT ? 4 : 1>(out, (n * C + first + m) * plane + p, &sum[i][j]);
            }
        }
    }
}

/* A block: BM channels x BN positions of one group; a thread R x R of them.  The next step's pieces travel while this
 * one's are multiplied, into the other of two buffers. */
template <typename T, int BM, int BN, int R, bool BACK, bool POINT>
static __global__ __launch_bounds__(THREADS, R == 8 ? 3 : 5) void conv_product(const T *src, const T *w,
                                                                               const float *bias, T *out, conv_geom g,
                                                                               int act)
{
    typedef weight_piece<T, BM, BACK> left;
    typedef input_piece<T, BN, BACK, POINT> right;
    static_assert(BM * BN == THREADS * R * R, "a thread has R x R");
    KD_SHARED(vec4, ws, 2 * DEPTH * left::PITCH / 4);
    KD_SHARED(vec4, xs, 2 * DEPTH * BN / 4);
    const int M = BACK ? g.cig : g.cog, K = BACK ? g.cog : g.cig, tiles = (M + BM - 1) / BM;
    const int64_t tile = blockIdx.x / (unsigned)tiles, q0 = kd_div(tile, g.groups) * BN,
                  positions = g.n * g.template out_plane<BACK>();
    const int m0 = (int)(blockIdx.x % (unsigned)tiles) * BM, group = (int)kd_mod(tile, g.groups);
    const int steps_a_tap = (K + DEPTH - 1) / DEPTH, steps = steps_a_tap * (POINT ? 1 : g.kh * g.kw);
    float sum[R][R] = {};
    left a;
    right b;
    b.open(src, g, group, q0, positions);
    for (int step = 0, tap = 0, k0 = 0; step <= steps; step++) {
        const int to = step % 2, from = 1 - to;
        if (step < steps) {
            if (k0 == 0) {
                b.aim(g, tap);
            }
            a.load(w, g, group, m0, k0, tap);
            b.load(g, k0);
        }
        if (step > 0) {
            multiply<DEPTH, BM, left::PITCH, BN, BN, R, R>(ws + from * (DEPTH * left::PITCH / 4),
                                                           xs + from * (DEPTH * BN / 4), sum);
        }
        if (step < steps) {
            a.store(reinterpret_cast<float *>(ws) + to * DEPTH * left::PITCH);
            b.store(reinterpret_cast<float *>(xs) + to * DEPTH * BN);
            k0 += DEPTH;
            tap += k0 >= K;
            k0 = k0 >= K ? 0 : k0;
        }
        __syncthreads();
    }
    write_tile<T, BM, BN, R, BACK, POINT>(sum, g, group, m0, q0, positions, bias, out, act);
}

template <typename T, int BM, int BN, int R, bool BACK>
static void launch_tiles(const kd_call *c, const conv_geom &g, int act)
{
    const int64_t M = BACK ? g.cig : g.cog, plane = g.out_plane<BACK>(), q = kd_div_up(g.n * plane, BN);
    const dim3 grid((unsigned)(q * g.groups * kd_div_up(M, BM)));
    const float *bias = BACK ? nullptr : kd_in<float>(c, 2);
    if (g.point() && plane % 4 == 0) {
        KD_LAUNCH((conv_product<T, BM, BN, R, BACK, true>), grid, dim3(THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  bias, kd_out<T>(c, 0), g, act);
    } else {
        KD_LAUNCH((conv_product<T, BM, BN, R, BACK, false>), grid, dim3(THREADS), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
                  bias, kd_out<T>(c, 0), g, act);
    }
}

/* Tiles by shape alone: small ones where big ones would leave most of a card idle; 32 rows where 64 would be half
 * empty. */
template <typename T, bool BACK> static void launch_dense(const kd_call *c, const conv_geom &g, int act)
{
    const int64_t M = BACK ? g.cig : g.cog, positions = g.n * g.out_plane<BACK>();
    if (positions * M * g.groups == 0) {
        return;
    }
    if (kd_div_up(positions, 128) * kd_div_up(M, 64) * g.groups < 132) {
        launch_tiles<T, 32, 64, 4, BACK>(c, g, act);
    } else if (kd_div_up(M, 32) % 2 == 1) {
        launch_tiles<T, 32, 256, 8, BACK>(c, g, act);
    } else {
        launch_tiles<T, 64, 128, 8, BACK>(c, g, act);
    }
}

template <typename T> static kd_status conv2d_run(const kd_call *c)
{
    const kd_conv2d_attr *at = static_cast<const kd_conv2d_attr *>(c->attr);
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv_geometry(at, &c->in[0].shape, &c->out[0].shape, w->dim[2], w->dim[3]);
    g.depthwise() ? launch_depthwise<T, false>(c, g, at->act) : launch_dense<T, false>(c, g, at->act);
    return kd_launched();
}
KD_CUDA_OP(conv2d)

template <typename T> static kd_status conv2d_bwd_x_run(const kd_call *c)
{
    const kd_conv2d_attr *at = static_cast<const kd_conv2d_attr *>(c->attr);
    const kd_shape *w = &c->in[1].shape;
    const conv_geom g = conv_geometry(at, &at->x_shape, &c->in[0].shape, w->dim[2], w->dim[3]);
    g.depthwise() ? launch_depthwise<T, true>(c, g, KD_ACT_NONE) : launch_dense<T, true>(c, g, KD_ACT_NONE);
    return kd_launched();
}
KD_CUDA_OP(conv2d_bwd_x)

/* ---- dW = dy x^T ----------------------------------------------------------------------------- */

constexpr int RUN = 16; /* positions a step */

/* TILE rows (channels of dy, or pairs of channel and tap of x) at RUN positions.  POINT: packs of four positions. */
template <typename T, int TILE, int BLOCK, bool POINT> struct run_piece {
    static constexpr int WIDE = POINT ? 4 : 1, ACROSS = RUN / WIDE, STEP = BLOCK / ACROSS, ROWS = TILE / STEP,
                         PITCH = TILE + 4;
    float v[ROWS][WIDE];
    static __device__ __forceinline__ int position()
    {
        return (int)threadIdx.x % ACROSS * WIDE;
    }
    static __device__ __forceinline__ int row(int i)
    {
        return (int)threadIdx.x / ACROSS + i * STEP;
    }
    /* Rows of channels: `at` is the position in the first one, negative: none. */
    __device__ __forceinline__ void load(const T *p, int64_t at, int64_t plane, int rows)
    {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const bool there = at >= 0 && row(i) < rows;
            if (there) {
                ld_pack<WIDE>(v[i], p, at + row(i) * plane);
            }
#pragma unroll
            for (int l = 0; l < WIDE; l++) {
                v[i][l] = there ? v[i][l] : 0.0f;
            }
        }
    }
    /* Rows of (channel, tap) as `taps` lists them, read through the convolution by output position (y, x). */
    __device__ __forceinline__ void gather(const T *p, bool inside, const conv_geom &g, const int *taps, int y, int x,
                                           int rows)
    {
        const int64_t plane = g.in_plane<false>();
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            v[i][0] = 0.0f;
            if (inside && row(i) < rows) {
                const int *t = taps + 3 * row(i);
                const int64_t at = g.source<false>(y, x, t[1], t[2]);
                v[i][0] = at < 0 ? 0.0f : ld(p, t[0] * plane + at);
            }
        }
    }
    __device__ __forceinline__ void store(float *s) const
    {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int l = 0; l < WIDE; l++) {
                s[(position() + l) * PITCH + row(i)] = v[i][l];
            }
        }
    }
};

/* How positions are split over blocks.  part (splits, dW then db). */
struct conv_split {
    int64_t splits, per;
    int tile;
};

static conv_split dense_split(const conv_geom &g)
{
    const int64_t depth = (int64_t)g.cig * g.kh * g.kw, positions = g.n * g.out_plane<false>();
    const int64_t small = kd_div_up(g.cog, 32) * kd_div_up(depth, 32),
                  big = kd_div_up(g.cog, 64) * kd_div_up(depth, 64);
    conv_split s = {};
    s.tile = small * 3 < big * 4 * 2 ? 32 : 64; /* big tiles do half again as much in the same time */
    const int64_t tiles = (s.tile == 32 ? small : big) * g.groups;
    const int64_t want = kd_div_up(132 * 4, tiles > 0 ? tiles : 1), most = kd_div_up(positions, 8 * RUN);
    const int64_t n = want < most ? want : most;
    s.per = kd_div_up(kd_div_up(positions, n < 1 ? 1 : n), RUN) * RUN;
    s.splits = s.per > 0 ? kd_div_up(positions, s.per) : 1;
    return s;
}

template <typename T, int TILE, int RM, int RN, bool POINT>
static __global__ __launch_bounds__(TILE *TILE / (RM * RN),
                                    TILE == 64 ? 4 : 8) void conv_outer(const T *dy, const T *x, float *part,
                                                                        conv_geom g, int64_t per)
{
    constexpr int BLOCK = TILE * TILE / (RM * RN), NT = TILE / RN;
    typedef run_piece<T, TILE, BLOCK, POINT> piece;
    constexpr int BUFFER = RUN * piece::PITCH;
    KD_SHARED(vec4, ds, 2 * BUFFER / 4);
    KD_SHARED(vec4, xs, 2 * BUFFER / 4);
    KD_SHARED(int, taps, 3 * TILE);
    const int t = (int)threadIdx.x, kk = g.kh * g.kw, depth = g.cig * kk;
    const int tm = (g.cog + TILE - 1) / TILE, tn = (depth + TILE - 1) / TILE;
    const int n0 = (int)blockIdx.x % tn * TILE, m0 = (int)blockIdx.x / tn % tm * TILE,
              group = (int)blockIdx.x / tn / tm;
    const int64_t plane = g.out_plane<false>(), positions = g.n * plane;
    const int64_t from = blockIdx.y * per, to = from + per < positions ? from + per : positions;
    for (int i = t; i < TILE; i += BLOCK) {
        taps[3 * i] = (n0 + i) / kk;
        taps[3 * i + 1] = (n0 + i) % kk / g.kw;
        taps[3 * i + 2] = (n0 + i) % kk % g.kw;
    }
    __syncthreads();
    float sum[RM][RN] = {}, bias[piece::ROWS] = {};
    piece a, b;
    const int steps = (int)kd_div_up(to - from, RUN);
    for (int step = 0; step <= steps; step++) {
        const int into = step % 2, of = 1 - into;
        if (step < steps) {
            const int64_t q = from + (int64_t)step * RUN + piece::position(), n = kd_div(q, plane), p = q - n * plane;
            const bool inside = q < to;
            a.load(dy, inside ? (n * g.co + (int64_t)group * g.cog + m0) * plane + p : -1, plane, g.cog - m0);
            const int64_t first = n * g.ci + (int64_t)group * g.cig;
            if (POINT) {
                b.load(x, inside ? (first + n0) * plane + p : -1, plane, depth - n0);
            } else {
                const int row = (int)kd_div(p, g.wo);
                b.gather(x + first * g.in_plane<false>(), inside, g, taps, row, (int)(p - (int64_t)row * g.wo),
                         depth - n0);
            }
        }
        if (step > 0) {
            multiply<RUN, TILE, piece::PITCH, TILE, piece::PITCH, RM, RN>(ds + of * BUFFER / 4, xs + of * BUFFER / 4,
                                                                          sum);
        }
        if (step < steps) {
            a.store(reinterpret_cast<float *>(ds) + into * BUFFER);
            b.store(reinterpret_cast<float *>(xs) + into * BUFFER);
#pragma unroll
            for (int i = 0; i < piece::ROWS; i++) {
#pragma unroll
                for (int l = 0; l < piece::WIDE; l++) {
                    bias[i] += a.v[i][l];
                }
            }
        }
        __syncthreads();
    }
    part += blockIdx.y * ((int64_t)g.co * depth + g.co);
#pragma unroll
    for (int i = 0; i < RM; i++) {
#pragma unroll
        for (int j = 0; j < RN; j++) {
            const int m = m0 + i / 4 * (TILE * 4 / RM) + t / NT * 4 + i % 4,
                      k = n0 + j / 4 * (TILE * 4 / RN) + t % NT * 4 + j % 4;
            if (m < g.cog && k < depth) {
                part[((int64_t)group * g.cog + m) * depth + k] = sum[i][j];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < piece::ROWS; i++) { /* neighbours hold the same row's other positions */
        for (int d = piece::ACROSS / 2; d > 0; d >>= 1) {
            bias[i] += __shfl_xor_sync(KD_FULL, bias[i], d);
        }
        if (n0 == 0 && piece::position() == 0 && m0 + piece::row(i) < g.cog) {
            part[(int64_t)g.co * depth + (int64_t)group * g.cog + m0 + piece::row(i)] = bias[i];
        }
    }
}

template <typename T, int TILE, int RM, int RN>
static void launch_outer(const kd_call *c, const conv_geom &g, const conv_split &s, float *part)
{
    const int64_t depth = (int64_t)g.cig * g.kh * g.kw;
    const dim3 grid((unsigned)(kd_div_up(g.cog, TILE) * kd_div_up(depth, TILE) * g.groups), (unsigned)s.splits);
    const dim3 block(TILE * TILE / (RM * RN));
    if (g.point() && g.out_plane<false>() % 4 == 0) {
        KD_LAUNCH((conv_outer<T, TILE, RM, RN, true>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, g, s.per);
    } else {
        KD_LAUNCH((conv_outer<T, TILE, RM, RN, false>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, g, s.per);
    }
}

static conv_geom geometry_of_bwd_w(const kd_call *c)
{
    const kd_conv2d_attr *at = static_cast<const kd_conv2d_attr *>(c->attr);
    return conv_geometry(at, &c->in[1].shape, &c->in[0].shape, at->kernel[0], at->kernel[1]);
}

static size_t conv2d_bwd_w_scratch(const kd_call *c)
{
    const conv_geom g = geometry_of_bwd_w(c);
    const int64_t n = (int64_t)g.co * g.cig * g.kh * g.kw + g.co;
    return (size_t)((g.depthwise() ? deep_splits(g) : dense_split(g).splits) * n) * sizeof(float);
}

template <typename T> static kd_status conv2d_bwd_w_run(const kd_call *c)
{
    const conv_geom g = geometry_of_bwd_w(c);
    const conv_split s = dense_split(g);
    const int64_t nw = (int64_t)g.co * g.cig * g.kh * g.kw;
    float *part = static_cast<float *>(c->scratch), *dw = kd_out<float>(c, 0), *db = kd_out<float>(c, 1);
    if (nw == 0 || (dw == nullptr && db == nullptr)) {
        return kd_launched();
    }
    if (g.depthwise()) {
        launch_depthwise_w<T>(c, g, part);
    } else if (s.tile == 32) {
        launch_outer<T, 32, 4, 4>(c, g, s, part);
    } else {
        launch_outer<T, 64, 8, 4>(c, g, s, part);
    }
    kd_sum_parts(c, part, g.depthwise() ? deep_splits(g) : s.splits, dw, nw, kd_adds(c, 0), db, g.co, kd_adds(c, 1));
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(conv2d_bwd_w, conv2d_bwd_w_scratch)
