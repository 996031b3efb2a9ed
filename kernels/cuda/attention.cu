/* attention and its gradient without the N x N matrix in memory.
 *
 * A block of 16 x 16 threads has 64 queries of one head (64 keys where dk, dv are wanted) and walks over the keys
 * (queries) 64 at a time.  Shared memory holds three 64 x 64 tiles: x and y, pieces of 64 channels of two operands,
 * [channel][row]; and w, the weights between the two sides.  Thread (tx, ty) has rows 4 ty.. and columns 4 tx.. of
 * every product.  Heads wider than 64 channels go piece by piece; accumulators stay in registers.
 *
 * Backward: p = exp(scale q.k - lse) again; dv = p^T do, ds = p (do.v - delta) scale with delta = do.o, dq = ds k, dk =
 * ds^T q. The kernel of dq leaves delta for the one of dk and dv. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE, TILE = 4 * SIDE, AREA = TILE * TILE;
static_assert(3 * AREA * sizeof(float) <= 48 * 1024, "static shared memory");

struct heads {
    int64_t B, N, C;
    int H, D;
    float scale;
    bool packed; /* rows of a head can be read in packs */
};

/* Rows of one operand: row r at p + r * stride, `rows` of them. */
template <typename T> struct side {
    const T *p;
    int64_t stride;
    int rows;
};

/* Element (row, col) of a tile.  Columns of four rows are turned against those of the next four: without it, threads
 * that store or read along rows would meet in one bank. */
static __device__ __forceinline__ int at(int row, int col)
{
    return row * TILE + (col ^ (((row >> 2) & 7) << 2));
}

/* Channels [c, c + 64) of up to 64 rows to tile[channel][row]: zero beyond the rows and, to the end of a pack, beyond
 * D. */
template <typename T>
static __device__ __forceinline__ void load(float *tile, const side<T> &s, int c, const heads &h, int tid)
{
    constexpr int W = kd_width<T>::value, LINE = TILE / W;
#pragma unroll
    for (int i = 0; i < TILE * LINE / THREADS; i++) {
        const int p = tid + i * THREADS, r = p / LINE, d = p % LINE * W, left = r < s.rows ? h.D - c - d : 0;
        if (c + d >= h.D) {
            continue;
        }
        const T *from = s.p + r * s.stride + c + d;
        float v[W];
        if (h.packed && left > 0) {
            ld_pack<W>(v, from, 0);
        } else {
#pragma unroll
            for (int j = 0; j < W; j++) {
                v[j] = j < left ? ld(from, j) : 0.0f;
            }
        }
#pragma unroll
        for (int j = 0; j < W; j++) {
            tile[at(d + j, r)] = v[j];
        }
    }
}

/* acc[i][j] += sum over channels c of x[c][4 ty + i] y[c][4 tx + j]. */
static __device__ __forceinline__ void multiply(float (&acc)[4][4], const float *x, const float *y, int channels,
                                                int tx, int ty)
{
#pragma unroll 4
    for (int c = 0; c < channels; c += 4) {
#pragma unroll
        for (int l = 0; l < 4; l++) {
            float a[4], b[4];
            ld_pack<4>(a, x, at(c + l, 4 * ty));
            ld_pack<4>(b, y, at(c + l, 4 * tx));
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    acc[i][j] += a[i] * b[j];
                }
            }
        }
    }
}

/* acc[i][j] += sum over k < n of w[k][4 ty + i] y[4 tx + j][k]: y is the tile that multiply() reads along the other
 * dim. */
static __device__ __forceinline__ void weigh(float (&acc)[4][4], const float *w, const float *y, int n, int tx, int ty)
{
#pragma unroll 2
    for (int k = 0; k < n; k += 4) {
        float b[4][4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            ld_pack<4>(b[j], y, at(4 * tx + j, k));
        }
#pragma unroll
        for (int l = 0; l < 4; l++) {
            float a[4];
            ld_pack<4>(a, w, at(k + l, 4 * ty));
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    acc[i][j] += a[i] * b[j][l];
                }
            }
        }
    }
}

/* s = inner products of 64 x 64 rows.  The last piece of both stays in x and y.  Begins with a barrier. */
template <typename T>
static __device__ __forceinline__ void inner(float (&s)[4][4], float *x, float *y, const side<T> &a, const side<T> &b,
                                             const heads &h, int tid, bool have_a)
{
#pragma unroll
    for (int i = 0; i < 16; i++) {
        s[i / 4][i % 4] = 0.0f;
    }
#pragma unroll 1
    for (int c = 0; c < h.D; c += TILE) {
        __syncthreads();
        if (!have_a) {
            load(x, a, c, h, tid);
        }
        load(y, b, c, h, tid);
        __syncthreads();
        multiply(s, x, y, h.D - c < TILE ? h.D - c : TILE, tid % SIDE, tid / SIDE);
    }
}

/* acc += weights times rows, every piece; y may hold the last one already.  Begins with a barrier. */
template <typename T, int PIECES>
static __device__ __forceinline__ void outer(float (&acc)[PIECES][4][4], const float *w, float *y, const side<T> &b,
                                             const heads &h, int tid, bool have_last)
{
#pragma unroll
    for (int i = PIECES - 1; i >= 0; i--) {
        if (i * TILE >= h.D) {
            continue;
        }
        __syncthreads();
        if (!have_last || (i + 1) * TILE < h.D) {
            load(y, b, i * TILE, h, tid);
            __syncthreads();
        }
        weigh(acc[i], w, y, b.rows, tid % SIDE, tid / SIDE);
    }
}

static __device__ __forceinline__ void put_weights(float *w, const float (&p)[4][4], int tx, int ty)
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float column[4] = {p[0][j], p[1][j], p[2][j], p[3][j]};
        st_pack<4>(w, at(4 * tx + j, 4 * ty), column);
    }
}

/* Row i of a thread's accumulators to the head's D channels at `to`. */
template <typename T, int PIECES>
static __device__ __forceinline__ void put_row(T *to, const float (&acc)[PIECES][4][4], int i, float f, const heads &h,
                                               int tx)
{
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int d = p * TILE + 4 * tx;
        const float v[4] = {acc[p][i][0] * f, acc[p][i][1] * f, acc[p][i][2] * f, acc[p][i][3] * f};
        if (h.packed && d < h.D) {
            st_pack<4>(to, d, v);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (d + j < h.D) {
                    st(to, d + j, v[j]);
                }
            }
        }
    }
}

/* Over the 16 threads that share rows. */
static __device__ __forceinline__ float row_sum(float v)
{
    for (int d = SIDE / 2; d > 0; d >>= 1) {
        v += __shfl_xor_sync(KD_FULL, v, d);
    }
    return v;
}
static __device__ __forceinline__ float row_max(float v)
{
    for (int d = SIDE / 2; d > 0; d >>= 1) {
        v = kd_max_nan(v, __shfl_xor_sync(KD_FULL, v, d));
    }
    return v;
}

/* What a block works on: rows [first, first + 64) of head hd of sample b. */
struct place {
    int64_t b, first, stat; /* stat: index of (b, hd, 0) in (B,H,N) */
    int hd, rows;
};

static __device__ __forceinline__ int rows_from(const heads &h, int64_t first)
{
    return (int)(h.N - first < TILE ? h.N - first : TILE);
}

static __device__ __forceinline__ place here(const heads &h)
{
    const unsigned tiles = (unsigned)((h.N + TILE - 1) / TILE), head = blockIdx.x / tiles;
    place p;
    p.first = (int64_t)(blockIdx.x % tiles) * TILE;
    p.hd = (int)(head % (unsigned)h.H);
    p.b = head / (unsigned)h.H;
    p.stat = head * h.N;
    p.rows = rows_from(h, p.first);
    return p;
}

/* Rows from n on of third `part` (0 q, 1 k, 2 v) of packed qkv. */
template <typename T>
static __device__ __forceinline__ side<T> third(const T *qkv, const heads &h, const place &at_head, int part, int64_t n)
{
    return {qkv + (at_head.b * h.N + n) * 3 * h.C + part * h.C + (int64_t)at_head.hd * h.D, 3 * h.C, rows_from(h, n)};
}
/* Rows from n on of o or do. */
template <typename T>
static __device__ __forceinline__ side<T> single(const T *o, const heads &h, const place &at_head, int64_t n)
{
    return {o + (at_head.b * h.N + n) * h.C + (int64_t)at_head.hd * h.D, h.C, rows_from(h, n)};
}

/* ---- forward --------------------------------------------------------------------------------- */

/* One more tile of logits s: s becomes its weights, the running maximum, sum and accumulators follow. */
template <int PIECES>
static __device__ __forceinline__ void soften(float (&s)[4][4], float (&acc)[PIECES][4][4], float *top, float *sum,
                                              float scale, int keys, int tx)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float high = -INFINITY, add = 0.0f;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = 4 * tx + j < keys ? s[i][j] * scale : -INFINITY;
            high = kd_max_nan(high, s[i][j]);
        }
        high = kd_max_nan(top[i], row_max(high));
        const float keep = expf(top[i] - high);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = expf(s[i][j] - high);
            add += s[i][j];
        }
        top[i] = high;
        sum[i] = sum[i] * keep + row_sum(add);
#pragma unroll
        for (int k = 0; k < PIECES * 4; k++) {
            acc[k / 4][i][k % 4] *= keep;
        }
    }
}

template <typename T, int PIECES>
static __global__ void __launch_bounds__(THREADS, PIECES == 4 ? 1 : 2)
    attention_rows(const T *qkv, T *o, float *lse, heads h)
{
    KD_SHARED(float, mem, 3 * AREA);
    float *const x = mem, *const y = mem + AREA, *const w = mem + 2 * AREA;
    const int tid = (int)threadIdx.x, tx = tid % SIDE, ty = tid / SIDE;
    const place me = here(h);
    const side<T> q = third(qkv, h, me, 0, me.first);
    float acc[PIECES][4][4] = {}, top[4], sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < 4; i++) {
        top[i] = -INFINITY;
    }
#pragma unroll 1
    for (int64_t n = 0; n < h.N; n += TILE) {
        const side<T> k = third(qkv, h, me, 1, n), v = third(qkv, h, me, 2, n);
        float s[4][4];
        inner(s, x, y, q, k, h, tid, PIECES == 1 && n > 0);
        soften<PIECES>(s, acc, top, sum, h.scale, k.rows, tx);
        put_weights(w, s, tx, ty);
        outer<T, PIECES>(acc, w, y, v, h, tid, false);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t n = me.first + 4 * ty + i;
        if (n < h.N && o != nullptr) {
            put_row<T, PIECES>(o + (me.b * h.N + n) * h.C + (int64_t)me.hd * h.D, acc, i, 1.0f / sum[i], h, tx);
        }
        if (n < h.N && lse != nullptr && tx == 0) {
            lse[me.stat + n] = top[i] + logf(sum[i]);
        }
    }
}

template <typename T> static heads heads_of(const kd_call *c, const kd_tensor *qkv)
{
    const kd_attention_attr *a = static_cast<const kd_attention_attr *>(c->attr);
    heads h;
    h.B = qkv->shape.dim[0];
    h.N = qkv->shape.dim[1];
    h.C = qkv->shape.dim[2] / 3;
    h.H = a->heads;
    h.D = (int)(h.C / h.H);
    h.scale = a->scale == 0.0f ? 1.0f / sqrtf((float)h.D) : a->scale;
    uintptr_t bits = 0;
    for (int i = 0; i < c->n_in; i++) {
        bits |= (uintptr_t)c->in[i].data;
    }
    for (int i = 0; i < c->n_out; i++) {
        bits |= (uintptr_t)c->out[i].data;
    }
    h.packed = h.D % kd_width<T>::value == 0 && bits % 16 == 0;
    return h;
}

static unsigned tiles_of(const heads &h)
{
    return (unsigned)(h.B * h.H * kd_div_up(h.N, TILE));
}

template <typename T, int PIECES> static void launch_forward(const kd_call *c, const heads &h)
{
    KD_LAUNCH((attention_rows<T, PIECES>), dim3(tiles_of(h)), dim3(THREADS), c, kd_in<T>(c, 0), kd_out<T>(c, 0),
              kd_out<float>(c, 1), h);
}

template <typename T> static kd_status attention_run(const kd_call *c)
{
    const heads h = heads_of<T>(c, &c->in[0]);
    if (tiles_of(h) > 0) {
        h.D <= TILE       ? launch_forward<T, 1>(c, h)
        : h.D <= 2 * TILE ? launch_forward<T, 2>(c, h)
                          : launch_forward<T, 4>(c, h);
    }
    return kd_launched();
}
KD_CUDA_OP(attention)

/* ---- backward -------------------------------------------------------------------------------- */

template <typename T> struct saved {
    const T *dO, *qkv, *o;
    const float *lse;
    float *delta; /* (B,H,N) */
    T *dqkv;
};

template <typename T, int PIECES>
static __global__ void __launch_bounds__(THREADS, PIECES == 4 ? 1 : 2) attention_dq(saved<T> g, heads h)
{
    KD_SHARED(float, mem, 3 * AREA);
    float *const x = mem, *const y = mem + AREA, *const w = mem + 2 * AREA;
    const int tid = (int)threadIdx.x, tx = tid % SIDE, ty = tid / SIDE;
    const place me = here(h);
    const side<T> q = third(g.qkv, h, me, 0, me.first), d_o = single(g.dO, h, me, me.first),
                  o = single(g.o, h, me, me.first);
    float acc[PIECES][4][4] = {}, lse[4], delta[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = 4 * ty + i;
        float dot = 0.0f;
        for (int d = tx; r < me.rows && d < h.D; d += SIDE) {
            dot += ld(d_o.p, r * d_o.stride + d) * ld(o.p, r * o.stride + d);
        }
        delta[i] = row_sum(dot);
        lse[i] = r < me.rows ? g.lse[me.stat + me.first + r] : 0.0f;
        if (r < me.rows && tx == 0) {
            g.delta[me.stat + me.first + r] = delta[i];
        }
    }
#pragma unroll 1
    for (int64_t n = 0; n < h.N; n += TILE) {
        const side<T> k = third(g.qkv, h, me, 1, n), v = third(g.qkv, h, me, 2, n);
        float s[4][4], dp[4][4];
        inner(dp, x, y, d_o, v, h, tid, false);
        inner(s, x, y, q, k, h, tid, false);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float p = 4 * tx + j < k.rows ? expf(h.scale * s[i][j] - lse[i]) : 0.0f;
                s[i][j] = p * (dp[i][j] - delta[i]) * h.scale;
            }
        }
        put_weights(w, s, tx, ty);
        outer<T, PIECES>(acc, w, y, k, h, tid, true);
    }
    T *dq = g.dqkv + (q.p - g.qkv);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (4 * ty + i < me.rows) {
            put_row<T, PIECES>(dq + (4 * ty + i) * q.stride, acc, i, 1.0f, h, tx);
        }
    }
}

/* Rows are keys here, columns queries. */
template <typename T, int PIECES>
static __global__ void __launch_bounds__(THREADS, PIECES == 1 ? 2 : 1) attention_dkv(saved<T> g, heads h)
{
    KD_SHARED(float, mem, 3 * AREA);
    float *const x = mem, *const y = mem + AREA, *const w = mem + 2 * AREA;
    const int tid = (int)threadIdx.x, tx = tid % SIDE, ty = tid / SIDE;
    const place me = here(h);
    const side<T> k = third(g.qkv, h, me, 1, me.first), v = third(g.qkv, h, me, 2, me.first);
    float dk[PIECES][4][4] = {}, dv[PIECES][4][4] = {};
#pragma unroll 1
    for (int64_t n = 0; n < h.N; n += TILE) {
        const side<T> q = third(g.qkv, h, me, 0, n), d_o = single(g.dO, h, me, n);
        float p[4][4], dp[4][4];
        inner(p, x, y, k, q, h, tid, false);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const bool inside = 4 * tx + j < q.rows;
            const float lse = inside ? g.lse[me.stat + n + 4 * tx + j] : 0.0f;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i][j] = inside ? expf(h.scale * p[i][j] - lse) : 0.0f;
            }
        }
        put_weights(w, p, tx, ty);
        inner(dp, x, y, v, d_o, h, tid, false);
        outer<T, PIECES>(dv, w, y, d_o, h, tid, true);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float delta = 4 * tx + j < q.rows ? g.delta[me.stat + n + 4 * tx + j] : 0.0f;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i][j] *= (dp[i][j] - delta) * h.scale;
            }
        }
        __syncthreads(); /* p is read */
        put_weights(w, p, tx, ty);
        outer<T, PIECES>(dk, w, y, q, h, tid, false);
    }
    T *to = g.dqkv + (k.p - g.qkv);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (4 * ty + i < me.rows) {
            put_row<T, PIECES>(to + (4 * ty + i) * k.stride, dk, i, 1.0f, h, tx);
            put_row<T, PIECES>(to + (4 * ty + i) * k.stride + h.C, dv, i, 1.0f, h, tx);
        }
    }
}

static size_t attention_bwd_scratch(const kd_call *c)
{
    return (size_t)numel(&c->in[3]) * sizeof(float);
}

template <typename T, int PIECES> static void launch_backward(const kd_call *c, const heads &h)
{
    const saved<T> g = {
        kd_in<T>(c, 0), kd_in<T>(c, 1), kd_in<T>(c, 2), kd_in<float>(c, 3), static_cast<float *>(c->scratch),
        kd_out<T>(c, 0)};
    KD_LAUNCH((attention_dq<T, PIECES>), dim3(tiles_of(h)), dim3(THREADS), c, g, h);
    KD_LAUNCH((attention_dkv<T, PIECES>), dim3(tiles_of(h)), dim3(THREADS), c, g, h);
}

template <typename T> static kd_status attention_bwd_run(const kd_call *c)
{
    const heads h = heads_of<T>(c, &c->in[1]);
    if (tiles_of(h) > 0 && c->out[0].data != nullptr) {
        h.D <= TILE       ? launch_backward<T, 1>(c, h)
        : h.D <= 2 * TILE ? launch_backward<T, 2>(c, h)
                          : launch_backward<T, 4>(c, h);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(attention_bwd, attention_bwd_scratch)
