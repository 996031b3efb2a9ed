/* stc_pool and its gradient, each in one pass over x.  A block has FRAMES frames of one sample and all its channels:
 * the piece of a plane is one run of memory, a thread keeps W neighbouring positions of it and walks the channels;
 * `lines` such rows of threads share them. */
#include "kernels/cuda/device/planes.cuh"

constexpr int THREADS = 256, FRAMES = THREADS / KD_WARP; /* a warp a frame; packs of 8 stay aligned */
constexpr int MOST = FRAMES * KD_MAX_JOINTS;             /* positions of a piece, of all lines together */

struct pool_pieces {
    kd_planes p;
    int frames, per;  /* frames of a piece, pieces of a sample */
    int packs, lines; /* packs of a piece, rows of threads */
};

template <int W> static pool_pieces pieces_of(const kd_planes &p)
{
    const int frames = p.T < FRAMES ? p.T : FRAMES, packs = frames * p.V / W;
    const pool_pieces s = {p, frames, (p.T + FRAMES - 1) / FRAMES, packs, packs < THREADS ? THREADS / packs : 1};
    return s;
}

static dim3 piece_grid(const pool_pieces &s)
{
    return dim3((unsigned)(s.p.n * s.per));
}

/* The piece of a block, and where its thread starts. */
struct pool_piece {
    int64_t n, at; /* at: channel 0 of the first position */
    int from, frames, len;
    int line, first; /* packs first, first + THREADS, ... of channels line, line + lines, ... */
};

static __device__ __forceinline__ pool_piece piece_here(const pool_pieces &s)
{
    pool_piece h;
    h.n = kd_div((int64_t)blockIdx.x, s.per);
    h.from = (int)((int64_t)blockIdx.x - h.n * s.per) * FRAMES;
    h.frames = s.p.T - h.from < s.frames ? s.p.T - h.from : s.frames;
    h.len = h.frames * s.p.V;
    h.at = h.n * s.p.C * s.p.L + (int64_t)h.from * s.p.V;
    h.line = s.packs < THREADS ? (int)threadIdx.x / s.packs : 0;
    h.first = (int)threadIdx.x - h.line * s.packs;
    return h;
}

/* Offsets of channels c and c + lines, loaded together so that two loads are in flight.  Past the last channel, `other`
 * repeats `one`. */
struct two_channels {
    int64_t one, other;
    bool both;
};

static __device__ __forceinline__ two_channels channels_at(const pool_pieces &s, const pool_piece &h, int c,
                                                           int position)
{
    two_channels at;
    at.both = c + s.lines < s.p.C;
    at.one = h.at + (int64_t)c * s.p.L + position;
    at.other = at.one + (at.both ? (int64_t)s.lines * s.p.L : 0);
    return at;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Sum, maximum and how often the maximum occurs. */
struct pool_mark {
    float sum, top, ties;
};

static __device__ __forceinline__ pool_mark no_mark(void)
{
    const pool_mark m = {0.0f, -INFINITY, 0.0f};
    return m;
}

static __device__ __forceinline__ void add_mark(pool_mark &m, const pool_mark &b)
{
    const bool up = !(b.top <= m.top) & (m.top == m.top); /* larger, or the first NaN */
    m.ties = up ? b.ties : kd_is_max(b.top, m.top) ? m.ties + b.ties : m.ties;
    m.top = up ? b.top : m.top;
    m.sum += b.sum;
}

template <int W> static __device__ __forceinline__ void add_values(pool_mark *m, const float *x)
{
#pragma unroll
    for (int j = 0; j < W; j++) {
        const pool_mark one = {x[j], x[j], 1.0f};
        add_mark(m[j], one);
    }
}

/* The lines' marks of position i, in order. */
static __device__ __forceinline__ pool_mark all_lines(const float *sum, const float *top, const float *ties, int i,
                                                      int lines, int step)
{
    pool_mark all = no_mark();
    for (int l = 0; l < lines; l++, i += step) {
        const pool_mark m = {sum[i], top[i], ties[i]};
        add_mark(all, m);
    }
    return all;
}

/* The joints' marks put together by a warp. */
static __device__ __forceinline__ pool_mark whole_frame(const float *sum, const float *top, const float *ties, int V)
{
    pool_mark m = no_mark();
    for (int v = (int)threadIdx.x % KD_WARP; v < V; v += KD_WARP) {
        const pool_mark one = {sum[v], top[v], ties[v]};
        add_mark(m, one);
    }
    const float best = kd_warp_max(m.top);
    m.ties = kd_warp_sum(kd_is_max(m.top, best) ? m.ties : 0.0f);
    m.sum = kd_warp_sum(m.sum);
    m.top = best;
    return m;
}

/* time (N,2,T), ties (N,T); part (N,pieces,V): sums of the joints over the piece's frames. */
template <typename T, int W>
static __global__ void stc_pool_piece(const T *x, T *time, float *ties_out, float *part, pool_pieces s)
{
    KD_SHARED(float, sum, MOST);
    KD_SHARED(float, top, MOST);
    KD_SHARED(float, ties, MOST);
    const pool_piece h = piece_here(s);
    const int tid = (int)threadIdx.x, V = s.p.V, row = s.packs * W;
    for (int q = h.first; h.line < s.lines && q * W < h.len; q += THREADS) {
        pool_mark m[W];
#pragma unroll
        for (int j = 0; j < W; j++) {
            m[j] = no_mark();
        }
        for (int c = h.line; c < s.p.C; c += 2 * s.lines) {
            const two_channels at = channels_at(s, h, c, q * W);
            float v[W], u[W];
            ld_pack<W>(v, x, at.one);
            ld_pack<W>(u, x, at.other);
            add_values<W>(m, v);
            if (at.both) {
                add_values<W>(m, u);
            }
        }
#pragma unroll
        for (int j = 0; j < W; j++) {
            const int i = h.line * row + q * W + j;
            sum[i] = m[j].sum;
            top[i] = m[j].top;
            ties[i] = m[j].ties;
        }
    }
    __syncthreads();
    for (int i = tid; i < h.len; i += THREADS) { /* no other thread reads position i of any line */
        const pool_mark m = all_lines(sum, top, ties, i, s.lines, row);
        sum[i] = m.sum;
        top[i] = m.top;
        ties[i] = m.ties;
    }
    __syncthreads();
    const int f = tid / KD_WARP, lane = tid % KD_WARP;
    if (f < h.frames) { /* a whole warp */
        const pool_mark m = whole_frame(sum + f * V, top + f * V, ties + f * V, V);
        const int64_t at = h.n * 2 * s.p.T + h.from + f;
        if (lane == 0 && time != nullptr) {
            st(time, at, m.sum / ((float)s.p.C * (float)V));
            st(time, at + s.p.T, m.top);
        }
        if (lane == 0 && ties_out != nullptr) {
            ties_out[h.n * s.p.T + h.from + f] = m.ties;
        }
    }
    for (int v = tid; part != nullptr && v < V; v += THREADS) {
        float all = 0.0f;
        for (int k = 0; k < h.frames; k++) {
            all += sum[k * V + v];
        }
        part[(int64_t)blockIdx.x * V + v] = all;
    }
}

/* joint (N,V): a sample's pieces in order. */
template <typename T> static __global__ void stc_pool_joint(const float *part, T *joint, pool_pieces s)
{
    for (KD_EACH(i, s.p.n * s.p.V)) {
        const int64_t n = kd_div(i, s.p.V), at = n * s.per * s.p.V + (i - n * s.p.V);
        float sum = 0.0f;
#pragma unroll 8
        for (int k = 0; k < s.per; k++) {
            sum += part[at + (int64_t)k * s.p.V];
        }
        st(joint, i, sum / ((float)s.p.C * (float)s.p.T));
    }
}

template <typename T, int W> static void launch_pool(const kd_call *c, const kd_planes &p)
{
    const pool_pieces s = pieces_of<W>(p);
    T *joint = kd_out<T>(c, 1);
    float *part = joint != nullptr ? static_cast<float *>(c->scratch) : nullptr;
    KD_LAUNCH((stc_pool_piece<T, W>), piece_grid(s), dim3(THREADS), c, kd_in<T>(c, 0), kd_out<T>(c, 0),
              kd_out<float>(c, 2), part, s);
    if (joint != nullptr) {
        KD_LAUNCH((stc_pool_joint<T>), dim3(kd_grid(p.n * p.V, 128)), dim3(128), c, part, joint, s);
    }
}

template <typename T> static kd_status stc_pool_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_planes p = kd_planes_of(&c->in[0]);
    if (p.n > 0) {
        p.L % W == 0 ? launch_pool<T, W>(c, p) : launch_pool<T, 1>(c, p);
    }
    return kd_launched();
}

static size_t stc_pool_scratch(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[0]);
    return (size_t)(p.n * pieces_of<1>(p).per * p.V) * sizeof(float);
}
KD_CUDA_OP_SCRATCH(stc_pool, stc_pool_scratch)

/* ---- backward: a map ------------------------------------------------------------------------- */

template <typename T> struct pool_grads {
    const T *dtime, *djoint, *time;
    const float *ties;
};

/* What every channel gets at frame t and joint v, what the maximum is there, and what it gets on top: nothing without
 * dtime. */
template <typename T>
static __device__ __forceinline__ void share_at(const pool_grads<T> &g, const kd_planes &p, int64_t n, int t, int v,
                                                float *all, float *top, float *tied)
{
    const int64_t mean = n * 2 * p.T + t, max = mean + p.T;
    *all = g.djoint != nullptr ? ld(g.djoint, n * p.V + v) / ((float)p.C * (float)p.T) : 0.0f;
    *top = *tied = 0.0f;
    if (g.dtime != nullptr) {
        *all += ld(g.dtime, mean) / ((float)p.C * (float)p.V);
        *top = ld(g.time, max);
        *tied = ld(g.dtime, max) / g.ties[n * p.T + t];
    }
}

/* The share of W values x, and more where there is more. */
template <int W, bool PLUS>
static __device__ __forceinline__ void shared_out(float *x, const float *more, const float *all, const float *top,
                                                  const float *tied)
{
#pragma unroll
    for (int j = 0; j < W; j++) {
        x[j] = all[j] + (kd_is_max(x[j], top[j]) ? tied[j] : 0.0f);
        x[j] = PLUS ? x[j] + more[j] : x[j];
    }
}

template <typename T, int W, bool PLUS>
static __global__ void stc_pool_dx(const T *x, const T *plus, T *dx, pool_grads<T> g, pool_pieces s)
{
    const pool_piece h = piece_here(s);
    for (int q = h.first; h.line < s.lines && q * W < h.len; q += THREADS) {
        float all[W], top[W], tied[W];
        int f = q * W / s.p.V, v = q * W - f * s.p.V;
#pragma unroll
        for (int j = 0; j < W; j++) {
            share_at(g, s.p, h.n, h.from + f, v, &all[j], &top[j], &tied[j]);
            if (++v == s.p.V) {
                v = 0;
                f++;
            }
        }
        for (int c = h.line; c < s.p.C; c += 2 * s.lines) {
            const two_channels at = channels_at(s, h, c, q * W);
            float a[W], b[W], more_a[W], more_b[W];
            ld_pack<W>(a, x, at.one);
            ld_pack<W>(b, x, at.other);
            if (PLUS) {
                ld_pack<W>(more_a, plus, at.one);
                ld_pack<W>(more_b, plus, at.other);
            }
            shared_out<W, PLUS>(a, more_a, all, top, tied);
            shared_out<W, PLUS>(b, more_b, all, top, tied);
            st_pack<W>(dx, at.one, a);
            if (at.both) {
                st_pack<W>(dx, at.other, b);
            }
        }
    }
}

template <typename T, int W> static void launch_dx(const kd_call *c, const kd_planes &p)
{
    const pool_pieces s = pieces_of<W>(p);
    const pool_grads<T> g = {kd_in<T>(c, 0), kd_in<T>(c, 1), kd_in<T>(c, 3), kd_in<float>(c, 4)};
    const T *x = kd_in<T>(c, 2), *plus = kd_in<T>(c, 5);
    T *dx = kd_out<T>(c, 0);
    if (plus != nullptr) {
        KD_LAUNCH((stc_pool_dx<T, W, true>), piece_grid(s), dim3(THREADS), c, x, plus, dx, g, s);
    } else {
        KD_LAUNCH((stc_pool_dx<T, W, false>), piece_grid(s), dim3(THREADS), c, x, plus, dx, g, s);
    }
}

template <typename T> static kd_status stc_pool_bwd_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_planes p = kd_planes_of(&c->in[2]);
    if (p.n > 0 && kd_out<T>(c, 0) != nullptr) {
        p.L % W == 0 ? launch_dx<T, W>(c, p) : launch_dx<T, 1>(c, p);
    }
    return kd_launched();
}
KD_CUDA_OP(stc_pool_bwd)
