/* joint_mix and its gradients, group_sum and its gradient.
 *
 * Rows (one a sample, channel and frame) of V joints are contiguous, so a tile of rows is one piece of memory.  A block
 * brings a tile and the adjacency into shared memory; for the 25 joints of NTU a thread owns a joint and twelve rows,
 * so that an entry of the adjacency serves twelve products and four entries of a row come at once.  Any other V takes a
 * plain kernel.  The gradient of the adjacency is split over rows into partial matrices, which a second kernel adds in
 * order. */
#include "kernels/cuda/device/kd_cuda.cuh"

typedef kd_pack<float, 4> vec4;

struct mix_dims {
    int64_t n, k, c, rows; /* rows of one (sample, partition): channels of a slice x frames */
    int64_t xs, ys;        /* channels of x and y */
    int V, mode;
    bool transpose;
};

static mix_dims dims_of(const kd_call *c, const kd_shape *x, const kd_shape *adj)
{
    const kd_joint_mix_attr *a = static_cast<const kd_joint_mix_attr *>(c->attr);
    mix_dims d = {};
    d.n = x->dim[0];
    d.k = a->mode == KD_MIX_EXPAND || a->mode == KD_MIX_GROUPED ? adj->dim[0] : 1;
    d.xs = x->dim[1];
    d.c = a->mode == KD_MIX_GROUPED && d.k > 0 ? d.xs / d.k : d.xs;
    d.ys = d.c * d.k;
    d.rows = d.c * x->dim[2];
    d.V = (int)x->dim[3];
    d.mode = a->mode;
    d.transpose = a->transpose != 0;
    return d;
}

/* ---- y = x A --------------------------------------------------------------------------------- */

/* What one block does for slice s of `slices` (sample-major): rows [blockIdx.x * tile, ..) of
 *   outs products x A[k] -> y + k * step    (EXPAND forward), or
 *   ins  products x + k * step, A[k] -> y   (EXPAND backward: their sum), or one product (everything else). */
struct mix_job {
    int64_t rows, step;       /* step: elements between the slices of the operand that has several */
    int64_t x_slice, y_slice; /* elements between blocks' slices */
    int64_t adj_period;       /* slice s uses A[s % adj_period * adj_step] */
    int64_t adj_step;
    int ins, outs, V;
    bool transpose;
};

static mix_job job_of(const mix_dims &d, bool backward)
{
    const int64_t slice = d.rows * d.V;
    mix_job j = {};
    j.rows = d.rows;
    j.V = d.V;
    j.step = slice;
    j.ins = j.outs = 1;
    j.x_slice = j.y_slice = slice;
    j.adj_period = d.mode == KD_MIX_SAMPLE ? d.n : d.mode == KD_MIX_GROUPED ? d.k : 1;
    j.adj_step = (int64_t)d.V * d.V;
    j.transpose = d.transpose != backward;
    if (d.mode == KD_MIX_EXPAND) {
        (backward ? j.ins : j.outs) = (int)d.k;
        (backward ? j.x_slice : j.y_slice) = slice * d.k;
    }
    return j;
}

constexpr int V25 = 25, PITCH = 28, GROUPS = 10, ROWS_A_THREAD = 12, TILE_ROWS = GROUPS * ROWS_A_THREAD, BLOCK = 256;

/* Rows of x (contiguous, V25 each) to shared memory, PITCH apart; rows beyond `rows` become 0. */
template <typename T, int P> static __device__ __forceinline__ void fill(float *tile, const T *x, int rows)
{
#pragma unroll 2
    for (int e = (int)threadIdx.x * P; e < TILE_ROWS * V25; e += BLOCK * P) {
        float v[P] = {};
        if (e < rows * V25) { /* a pack never straddles the end: see launch_mix() */
            ld_pack<P>(v, x, e);
        }
#pragma unroll
        for (int j = 0; j < P; j++) {
            tile[(e + j) / V25 * PITCH + (e + j) % V25] = v[j];
        }
    }
}

/* A matrix to shared memory, V25 x V25, so that y's joint is the last index. */
template <typename A> static __device__ __forceinline__ void fill_matrix(float *m, const A *adj, bool transpose)
{
    for (int e = (int)threadIdx.x; e < V25 * V25; e += BLOCK) {
        m[transpose ? e % V25 * V25 + e / V25 : e] = ld(adj, e);
    }
}

/* sum[i] += row (group + i GROUPS) of the tile times column w of the matrix: four entries of the column at a time serve
 * all of the thread's rows. */
static __device__ __forceinline__ void walk(const vec4 *tile, const float *m, float *sum, int group, int w)
{
    const vec4 *row = tile + group * (PITCH / 4);
    for (int q = 0; q < V25 / 4; q++, row++) {
        float column[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            column[j] = m[(q * 4 + j) * V25 + w];
        }
#pragma unroll
        for (int i = 0; i < ROWS_A_THREAD; i++) {
            const vec4 x = row[i * GROUPS * (PITCH / 4)];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum[i] += x.v[j] * column[j];
            }
        }
    }
    const float last = m[(V25 - 1) * V25 + w];
#pragma unroll
    for (int i = 0; i < ROWS_A_THREAD; i++) {
        sum[i] += row[i * GROUPS * (PITCH / 4)].v[0] * last;
    }
}

/* Threads 0..249: ten rows at a time, a thread a joint.  blockIdx: (tile of rows, slice). */
template <typename T, typename A, int P>
static __global__ __launch_bounds__(BLOCK, 3) void mix25(const T *x, const A *adj, const T *plus, T *y, mix_job j)
{
    KD_SHARED(vec4, tile, TILE_ROWS * PITCH / 4);
    KD_SHARED(float, matrix, V25 *V25);
    const int group = (int)threadIdx.x / V25, w = (int)threadIdx.x % V25;
    const bool works = group < GROUPS;
    const int64_t tiles = kd_div_up(j.rows, TILE_ROWS), s = blockIdx.x / tiles, first = blockIdx.x % tiles * TILE_ROWS;
    const int rows = (int)(j.rows - first < TILE_ROWS ? j.rows - first : TILE_ROWS);
    const A *a = adj + s % j.adj_period * j.adj_step;
    x += s * j.x_slice + first * V25;
    y += s * j.y_slice + first * V25;
    plus += plus != nullptr ? s * j.y_slice + first * V25 : 0;
    float sum[ROWS_A_THREAD];
#pragma unroll
    for (int i = 0; i < ROWS_A_THREAD; i++) {
        sum[i] = 0.0f;
    }
    for (int k = 0; k < j.ins * j.outs; k++) {
        __syncthreads(); /* the readers of the last tile and matrix are done */
        if (k == 0 || j.ins > 1) {
            fill<T, P>(reinterpret_cast<float *>(tile), x + k * j.step, rows);
        }
        fill_matrix(matrix, a + (int64_t)k * j.adj_step, j.transpose);
        __syncthreads();
        if (!works) {
            continue;
        }
        walk(tile, matrix, sum, group, w);
        if (k + 1 == j.ins || j.ins == 1) {
#pragma unroll
            for (int i = 0; plus != nullptr && i < ROWS_A_THREAD; i++) { /* of a gradient: one slice */
                const int r = group + i * GROUPS;
                sum[i] += r < rows ? ld(plus, (int64_t)r * V25 + w) : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < ROWS_A_THREAD; i++) {
                const int r = group + i * GROUPS;
                if (r < rows) {
                    st(y + (j.outs > 1 ? k * j.step : 0), (int64_t)r * V25 + w, sum[i]);
                }
                sum[i] = 0.0f;
            }
        }
    }
}

/* Any V: a thread an element of y. */
template <typename T, typename A>
static __global__ __launch_bounds__(BLOCK) void mix_any(const T *x, const A *adj, const T *plus, T *y, mix_job j,
                                                        int64_t slices)
{
    const int64_t vv = (int64_t)j.V * j.V, plane = j.rows * j.V;
    for (KD_EACH(e, slices * j.outs * plane)) {
        const int64_t so = kd_div(e, plane), in = e - so * plane, s = kd_div(so, j.outs), o = so - s * j.outs;
        const int64_t r = kd_div(in, j.V), w = in - r * j.V;
        const A *a = adj + (s % j.adj_period * j.adj_step + o * vv);
        const T *row = x + s * j.x_slice + r * j.V;
        float sum = 0.0f;
        for (int k = 0; k < j.ins; k++, a += vv, row += j.step) {
            for (int v = 0; v < j.V; v++) {
                sum += ld(row, v) * ld(a, j.transpose ? w * j.V + v : (int64_t)v * j.V + w);
            }
        }
        const int64_t to = s * j.y_slice + o * j.step + in;
        st(y, to, plus != nullptr ? sum + ld(plus, to) : sum);
    }
}

template <typename T, typename A> static void launch_mix(const kd_call *c, const mix_dims &d, bool backward)
{
    const mix_job j = job_of(d, backward);
    const int64_t slices = d.mode == KD_MIX_GROUPED ? d.n * d.k : d.n;
    const T *x = kd_in<T>(c, 0);
    const A *a = kd_in<A>(c, 1);
    const T *plus = backward ? kd_in<T>(c, 2) : nullptr;
    T *y = kd_out<T>(c, 0);
    if (slices * j.rows == 0 || j.ins * j.outs == 0) {
        return;
    }
    const dim3 grid((unsigned)(slices * kd_div_up(j.rows, TILE_ROWS)));
    if (d.V != V25) {
        KD_LAUNCH((mix_any<T, A>), dim3(kd_grid(slices * j.outs * j.rows * d.V, BLOCK)), dim3(BLOCK), c, x, a, plus, y,
                  j, slices);
    } else if (j.rows % 4 == 0) { /* then every slice and tile begins and ends on a pack of 4 */
        KD_LAUNCH((mix25<T, A, 4>), grid, dim3(BLOCK), c, x, a, plus, y, j);
    } else {
        KD_LAUNCH((mix25<T, A, 1>), grid, dim3(BLOCK), c, x, a, plus, y, j);
    }
}

template <typename T> static kd_status mix(const kd_call *c, const mix_dims &d, bool backward)
{
    c->in[1].dtype == KD_F32 ? launch_mix<T, float>(c, d, backward) : launch_mix<T, T>(c, d, backward);
    return kd_launched();
}
template <typename T> static kd_status joint_mix_run(const kd_call *c)
{
    return mix<T>(c, dims_of(c, &c->in[0].shape, &c->in[1].shape), false);
}
template <typename T> static kd_status joint_mix_bwd_x_run(const kd_call *c)
{
    return mix<T>(c, dims_of(c, &c->out[0].shape, &c->in[1].shape), true);
}
KD_CUDA_OP(joint_mix)
KD_CUDA_OP(joint_mix_bwd_x)

/* ---- dA = x^T dy ----------------------------------------------------------------------------- */

/* A block: a PITCH x PITCH piece of one matrix, summed over the rows of some samples.  QUADS x QUADS threads hold 4 x 4
 * of it each; LINES such groups take rows in turn. */
constexpr int QUADS = PITCH / 4, LINES = 5, OUTER_BLOCK = QUADS * QUADS * LINES, OUTER_ROWS = 80;

struct outer_job {
    int64_t rows;             /* of one sample and partition */
    int64_t units, per;       /* rows summed into one matrix altogether, and by one block */
    int64_t x_sample, x_part; /* elements between samples, between partitions */
    int64_t dy_sample, dy_part;
    int V, splits, per_sample; /* per_sample: matrices are the samples */
    bool transpose;
};

static outer_job outer_of(const mix_dims &d)
{
    const int64_t slice = d.rows * d.V, matrices = d.mode == KD_MIX_SAMPLE ? d.n : d.k;
    outer_job j = {};
    j.rows = d.rows;
    j.V = d.V;
    j.per_sample = d.mode == KD_MIX_SAMPLE;
    j.units = j.per_sample ? d.rows : d.rows * d.n;
    j.x_sample = d.mode == KD_MIX_GROUPED ? slice * d.k : slice;
    j.x_part = d.mode == KD_MIX_GROUPED ? slice : 0;
    j.dy_sample = slice * d.k;
    j.dy_part = slice;
    j.transpose = d.transpose;
    const int64_t pieces = kd_div_up(d.V, PITCH), want = 132 * 4 / (matrices * pieces * pieces + 1) + 1;
    const int64_t most = kd_div_up(j.units, 4 * OUTER_ROWS), n = want < most ? want : most;
    j.splits = (int)(n < 1 ? 1 : n);
    j.per = kd_div_up(j.units, j.splits);
    return j;
}

/* Rows [first, first + OUTER_ROWS) below `to`, columns [v0, v0 + PITCH), zeros outside. */
template <typename T>
static __device__ __forceinline__ void fill_piece(float *tile, const T *p, const outer_job &j, int64_t sample,
                                                  int64_t first, int64_t to, int v0)
{
    const int width = j.V - v0 < PITCH ? j.V - v0 : PITCH, n = (int)(to - first < OUTER_ROWS ? to - first : OUTER_ROWS);
    const int64_t s0 = kd_div(first, j.rows), r0 = first - s0 * j.rows;
    for (int e = (int)threadIdx.x; e < OUTER_ROWS * PITCH; e += OUTER_BLOCK) {
        const int r = e / PITCH, v = e % PITCH;
        float x = 0.0f;
        if (r < n && v < width) {
            int64_t s = s0, in = r0 + r;
            if (in >= j.rows) { /* seldom: a tile that reaches into the next sample */
                s += kd_div(in, j.rows);
                in = kd_mod(in, j.rows);
            }
            x = ld(p, s * sample + in * j.V + v0 + v);
        }
        tile[e] = x;
    }
}

static __device__ __forceinline__ void outer_rows(const vec4 *a, const vec4 *b, float (&sum)[4][4])
{
    for (int r = 0; r < OUTER_ROWS; r += LINES, a += LINES * QUADS, b += LINES * QUADS) {
        const vec4 p = *a, q = *b;
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                sum[i][k] += p.v[i] * q.v[k];
            }
        }
    }
}

/* part (splits, matrices, V, V).  blockIdx: (split, matrix, piece). */
template <typename T>
static __global__ __launch_bounds__(OUTER_BLOCK, 3) void mix_outer(const T *dy, const T *x, float *part, outer_job j)
{
    KD_SHARED(vec4, xt, OUTER_ROWS *QUADS);
    KD_SHARED(vec4, gt, OUTER_ROWS *QUADS);
    const int t = (int)threadIdx.x, line = t / (QUADS * QUADS), row = t / QUADS % QUADS, col = t % QUADS;
    const int pieces = (int)kd_div_up(j.V, PITCH);
    const int v0 = (int)blockIdx.z / pieces * PITCH, w0 = (int)blockIdx.z % pieces * PITCH;
    const int64_t from = blockIdx.x * j.per, to = from + j.per < j.units ? from + j.per : j.units;
    x += blockIdx.y * (j.per_sample ? j.x_sample : j.x_part);
    dy += blockIdx.y * (j.per_sample ? j.dy_sample : j.dy_part);
    float sum[4][4] = {};
    for (int64_t first = from; first < to; first += OUTER_ROWS) {
        __syncthreads();
        fill_piece(reinterpret_cast<float *>(xt), x, j, j.x_sample, first, to, v0);
        fill_piece(reinterpret_cast<float *>(gt), dy, j, j.dy_sample, first, to, w0);
        __syncthreads();
        outer_rows(xt + line * QUADS + row, gt + line * QUADS + col, sum);
    }
    /* the lines' sums, one line after another */
    float *all = reinterpret_cast<float *>(xt);
    for (int l = 0; l < LINES; l++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int at = (row * 4 + i) * PITCH + col * 4 + k;
                if (line == l) {
                    all[at] = l == 0 ? sum[i][k] : all[at] + sum[i][k];
                }
            }
        }
    }
    __syncthreads();
    part += ((int64_t)blockIdx.x * gridDim.y + blockIdx.y) * j.V * j.V;
    for (int e = t; e < PITCH * PITCH; e += OUTER_BLOCK) {
        const int v = v0 + e / PITCH, w = w0 + e % PITCH;
        if (v < j.V && w < j.V) {
            part[j.transpose ? (int64_t)w * j.V + v : (int64_t)v * j.V + w] = all[e];
        }
    }
}

static size_t joint_mix_bwd_a_scratch(const kd_call *c)
{
    const outer_job j = outer_of(dims_of(c, &c->in[1].shape, &c->out[0].shape));
    return (size_t)(j.splits * numel(&c->out[0])) * sizeof(float);
}

template <typename T> static kd_status joint_mix_bwd_a_run(const kd_call *c)
{
    const mix_dims d = dims_of(c, &c->in[1].shape, &c->out[0].shape);
    const outer_job j = outer_of(d);
    const int64_t pieces = kd_div_up(d.V, PITCH), matrices = j.per_sample ? d.n : d.k;
    float *part = static_cast<float *>(c->scratch);
    if (matrices > 0) {
        KD_LAUNCH((mix_outer<T>), dim3((unsigned)j.splits, (unsigned)matrices, (unsigned)(pieces * pieces)),
                  dim3(OUTER_BLOCK), c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, j);
        kd_sum_parts(c, part, j.splits, kd_out<float>(c, 0), numel(&c->out[0]), kd_adds(c, 0), nullptr, 0, false);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(joint_mix_bwd_a, joint_mix_bwd_a_scratch)

/* ---- group_sum ------------------------------------------------------------------------------- */

struct group_dims {
    int64_t n, k, plane; /* plane: channels of y x frames x joints, one piece of memory */
    float scale;
};

static group_dims groups_of(const kd_call *c, const kd_shape *y)
{
    const kd_group_sum_attr *at = static_cast<const kd_group_sum_attr *>(c->attr);
    return {y->dim[0], at->parts, y->dim[1] * y->dim[2] * y->dim[3], at->scale};
}

template <typename T, int P>
static __global__ __launch_bounds__(BLOCK) void group_sum(const T *z, const T *a, T *y, group_dims d)
{
    const int64_t row = d.plane / P;
    for (KD_EACH(i, d.n * row)) {
        const int64_t n = kd_div(i, row), p = (i - n * row) * P;
        float sum[P] = {}, v[P];
        for (int64_t k = n * d.k; k < (n + 1) * d.k; k++) {
            const float w = d.scale * (a != nullptr ? ld(a, k) : 1.0f);
            ld_pack<P>(v, z, k * d.plane + p);
#pragma unroll
            for (int j = 0; j < P; j++) {
                sum[j] += w * v[j];
            }
        }
        st_pack<P>(y, i * P, sum);
    }
}

template <typename T> static kd_status group_sum_run(const kd_call *c)
{
    constexpr int P = kd_width<T>::value;
    const group_dims d = groups_of(c, &c->out[0].shape);
    const T *z = kd_in<T>(c, 0), *a = kd_in<T>(c, 1);
    if (d.n * d.plane > 0 && d.plane % P == 0) {
        KD_LAUNCH((group_sum<T, P>), dim3(kd_grid(d.n * d.plane / P, BLOCK)), dim3(BLOCK), c, z, a, kd_out<T>(c, 0), d);
    } else if (d.n * d.plane > 0) {
        KD_LAUNCH((group_sum<T, 1>), dim3(kd_grid(d.n * d.plane, BLOCK)), dim3(BLOCK), c, z, a, kd_out<T>(c, 0), d);
    }
    return kd_launched();
}
KD_CUDA_OP(group_sum)

constexpr int GROUP_BLOCK = 512;

/* A block a (sample, part): it scales dy into dz and sums dy z into da.  blockIdx.y: a piece of the plane; da needs
 * one. */
template <typename T, int P>
static __global__ __launch_bounds__(GROUP_BLOCK) void group_sum_bwd(const T *dy, const T *z, const T *a, T *dz, T *da,
                                                                    group_dims d)
{
    const int64_t it = blockIdx.x, n = it / d.k, row = d.plane / P;
    const float w = d.scale * (a != nullptr ? ld(a, it) : 1.0f);
    float sum = 0.0f;
    for (int64_t i = (int64_t)blockIdx.y * GROUP_BLOCK + threadIdx.x; i < row; i += (int64_t)gridDim.y * GROUP_BLOCK) {
        float g[P], v[P];
        ld_pack<P>(g, dy, n * d.plane + i * P);
        if (da != nullptr) {
            ld_pack<P>(v, z, it * d.plane + i * P);
#pragma unroll
            for (int j = 0; j < P; j++) {
                sum += g[j] * v[j];
            }
        }
#pragma unroll
        for (int j = 0; j < P; j++) {
            g[j] *= w;
        }
        if (dz != nullptr) {
            st_pack<P>(dz, it * d.plane + i * P, g);
        }
    }
    if (da != nullptr) { /* the same for all threads */
        sum = kd_block_sum(sum);
        if (threadIdx.x == 0) {
            st(da, it, d.scale * sum);
        }
    }
}

template <typename T> static kd_status group_sum_bwd_run(const kd_call *c)
{
    constexpr int P = kd_width<T>::value;
    const group_dims d = groups_of(c, &c->in[0].shape);
    const bool packs = d.plane % P == 0;
    const int64_t most = kd_div_up(d.plane / (packs ? P : 1), 4 * GROUP_BLOCK);
    T *da = kd_out<T>(c, 1);
    const dim3 grid((unsigned)(d.n * d.k), (unsigned)(da != nullptr || most < 1 ? 1 : most < 64 ? most : 64));
    if (d.n * d.k > 0) {
        const T *dy = kd_in<T>(c, 0), *z = kd_in<T>(c, 1), *a = kd_in<T>(c, 2);
        if (packs) {
            KD_LAUNCH((group_sum_bwd<T, P>), grid, dim3(GROUP_BLOCK), c, dy, z, a, kd_out<T>(c, 0), da, d);
        } else {
            KD_LAUNCH((group_sum_bwd<T, 1>), grid, dim3(GROUP_BLOCK), c, dy, z, a, kd_out<T>(c, 0), da, d);
        }
    }
    return kd_launched();
}
KD_CUDA_OP(group_sum_bwd)
