/* linear and its two gradients: one tiled matrix product, out(m, n) = sum_k a(m, k) b(n, k), for the three ways its
 * operands lie.
 *
 *   linear        m rows,  n Co, k Ci    x along k    W along k     + bias, activation
 *   linear_bwd_x  m rows,  n Ci, k Co    dy along k   W along n
 *   linear_bwd_w  m Co,    n Ci, k rows  dy along m   x along n     k in slices; db = sums of a over k
 *
 * A block of 16 x 16 threads makes one tile.  While it multiplies the operands in one half of its shared memory, the
 * next ones are on their way into registers.  Products are summed in the order of k.  Slices of k (linear_bwd_w) go to
 * scratch as partial results and are added in their order by a second kernel. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE;

/* M x N outputs a block, K products between two barriers.  A thread has groups of P neighbours in each direction: with
 * one group a half, its 8 rows are 4 + 4, so that neighbouring threads read neighbouring 16 bytes of shared memory. */
template <int M_, int N_, int K_, bool ANY_> struct tile {
    static constexpr int M = M_, N = N_, K = K_;
    static constexpr bool ANY = ANY_; /* takes operands that cannot be read in packs */
    static constexpr int RM = M / SIDE, RN = N / SIDE;
    static constexpr int P = RM < 4 ? RM : 4, GM = RM / P, GN = RN / P;
    static constexpr int FLOATS = 2 * K * (M + N);
    static_assert(RN >= P && FLOATS * 4 <= 48 * 1024 && M / GM * N <= FLOATS, "shared memory");
};
using tile_big = tile<128, 64, 16, false>;
using tile_mid = tile<64, 64, 32, true>;
using tile_small = tile<32, 32, 32, true>;

template <typename T> struct problem {
    const T *a, *b;
    int64_t M, N, K, per; /* per: products a slice; K when there is one */
    bool packed_a, packed_b;
    const float *bias; /* (N) or null */
    int act;
    T *pre;            /* (M,N) what act is applied to goes here, or null */
    const T *slope_at; /* (M,N) or null: multiply by act'(slope_at) instead of applying act */
    T *y;              /* (M,N) goes here */
    float *f;          /* or here, slice s at f + s * stride; both null: only the sums of a are wanted */
    float *sum_a;      /* (M), sum over k of a(m, k), slice s at sum_a + s * stride; or null */
    int64_t stride;
    bool add, add_sum;
};

/* Column of row k that holds element i: rows are as long as a tile is wide, and without this turn the threads that
 * store along k would meet in one bank.  Groups of four stay together. */
static __device__ __forceinline__ int turned(int k, int i)
{
    return i ^ (((k >> 2) & 7) << 2);
}

/* One operand of a tile, ROWS x K of it, on its way from global to shared memory ([k][row], f32). */
template <typename T, bool ALONG_K, int ROWS, int K, bool ANY> struct carrier {
    static constexpr int W = kd_width<T>::value, PACKS = ROWS * K / W, COUNT = (PACKS + THREADS - 1) / THREADS;
    /* A thread's next pack lies so many rows or products further. */
    static constexpr int STEP = THREADS / (ALONG_K ? K / W : ROWS / W);
    kd_pack<T, W> raw[COUNT];
    const T *at;  /* this thread's first pack of the next tile */
    int64_t step; /* elements from one of its packs to the next, and from tile to tile */
    int64_t advance;
    int rows; /* that exist in this block's tile */

    static __device__ __forceinline__ int row_of(int p)
    {
        return ALONG_K ? p / (K / W) : p % (ROWS / W) * W;
    }
    static __device__ __forceinline__ int k_of(int p)
    {
        return ALONG_K ? p % (K / W) * W : p / (ROWS / W);
    }
    /* Length: of the dim along which the operand lies, a multiple of W if packed. */
    __device__ __forceinline__ void start(const T *from, int tid, int64_t row0, int64_t all_rows, int64_t k0,
                                          int64_t length)
    {
        const int64_t r = row0 + row_of(tid), k = k0 + k_of(tid);
        at = from + (ALONG_K ? r * length + k : k * length + r);
        step = STEP * length;
        advance = ALONG_K ? K : K * length;
        rows = (int)(all_rows - row0 < ROWS ? all_rows - row0 : ROWS);
    }
    /* The next tile, zero beyond its rows and beyond its `products` (<= K) products. */
    __device__ __forceinline__ void fetch(int tid, int products, bool packed)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int p = tid + i * THREADS, r = row_of(p), k = k_of(p);
            const bool inside = (PACKS % THREADS == 0 || p < PACKS) && r < rows && k < products;
            const int left = !inside ? 0 : ALONG_K ? products - k : rows - r;
            if ((packed || !ANY) && inside) {
                raw[i] = *reinterpret_cast<const kd_pack<T, W> *>(at + i * step);
            } else {
#pragma unroll
                for (int j = 0; j < W; j++) {
                    st(raw[i].v, j, ANY && j < left ? ld(at, i * step + j) : 0.0f);
                }
            }
        }
        at += advance;
    }
    __device__ __forceinline__ void store(float *to, int tid) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int p = tid + i * THREADS, r = row_of(ALONG_K ? tid : p), k = k_of(ALONG_K ? tid : p);
            if (PACKS % THREADS != 0 && p >= PACKS) {
                break;
            }
#pragma unroll
            for (int j = 0; j < W; j += 4) {
                const float v[4] = {ld(raw[i].v, j), ld(raw[i].v, j + 1), ld(raw[i].v, j + 2), ld(raw[i].v, j + 3)};
                if constexpr (ALONG_K) {
                    static_assert(STEP % 32 == 0 || COUNT == 1, "i * STEP passes through turned()");
#pragma unroll
                    for (int l = 0; l < 4; l++) {
                        to[(k + j + l) * ROWS + turned(k + j, r) + i * STEP] = v[l];
                    }
                } else {
                    st_pack<4>(to, k * ROWS + turned(k, r + j), v);
                }
            }
        }
    }
};

/* acc += the products of one tile's operands. */
template <class G>
static __device__ __forceinline__ void multiply(float (&acc)[G::RM][G::RN], const float *a, const float *b, int tx,
                                                int ty)
{
#pragma unroll
    for (int k = 0; k < G::K; k++) {
        float x[G::RM], y[G::RN];
#pragma unroll
        for (int g = 0; g < G::GM; g++) {
            ld_pack<G::P>(x + g * G::P, a, k * G::M + turned(k, g * (G::M / G::GM) + ty * G::P));
        }
#pragma unroll
        for (int g = 0; g < G::GN; g++) {
            ld_pack<G::P>(y + g * G::P, b, k * G::N + turned(k, g * (G::N / G::GN) + tx * G::P));
        }
#pragma unroll
        for (int i = 0; i < G::RM; i++) {
#pragma unroll
            for (int j = 0; j < G::RN; j++) {
                acc[i][j] += x[i] * y[j];
            }
        }
    }
}

/* Four neighbours of a row (fewer at its end) to global memory. */
template <typename O>
static __device__ __forceinline__ void emit(O *to, int64_t at, float *v, int64_t left, bool whole, bool add)
{
    if (whole) {
        if (add) {
            float old[4];
            ld_pack<4>(old, to, at);
            for (int j = 0; j < 4; j++) {
                v[j] += old[j];
            }
        }
        st_pack<4>(to, at, v);
        return;
    }
    for (int j = 0; j < 4; j++) {
        if (j < left) {
            put(to, at + j, v[j], add);
        }
    }
}

/* Four neighbours of a row; 0 past its end. */
template <typename T>
static __device__ __forceinline__ void load_quad(float *v, const T *from, int64_t at, int64_t left, bool whole)
{
    if (whole) {
        ld_pack<4>(v, from, at);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        v[j] = j < left ? ld(from, at + j) : 0.0f;
    }
}

/* The outputs, a group of rows at a time: by way of shared memory, so that rows leave in whole lines and the activation
 * is there once, not once an accumulator. */
template <typename T, class G>
static __device__ __forceinline__ void finish(const problem<T> &g, const float (&acc)[G::RM][G::RN], float *mem,
                                              int64_t m0, int64_t n0, int tid)
{
    constexpr int ROWS = G::M / G::GM, QUADS = ROWS * G::N / 4;
    const int tx = tid % SIDE, ty = tid / SIDE;
    const bool whole = g.N % 4 == 0;
#pragma unroll
    for (int part = 0; part < G::GM; part++) {
        __syncthreads(); /* the last products, or the part before, are read */
#pragma unroll
        for (int i = 0; i < G::P; i++) {
#pragma unroll
            for (int q = 0; q < G::GN; q++) {
                st_pack<G::P>(mem, (ty * G::P + i) * G::N + q * (G::N / G::GN) + tx * G::P,
                              &acc[part * G::P + i][q * G::P]);
            }
        }
        __syncthreads();
#pragma unroll 1
        for (int p = tid; p < QUADS; p += THREADS) {
            const int64_t m = m0 + part * ROWS + p / (G::N / 4), n = n0 + p % (G::N / 4) * 4;
            if (m >= g.M || n >= g.N) {
                continue;
            }
            float v[4], x[4];
            ld_pack<4>(v, mem, (int64_t)p * 4);
            if (g.slope_at != nullptr) {
                load_quad(x, g.slope_at, m * g.N + n, g.N - n, whole);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[j] += g.bias != nullptr && n + j < g.N ? g.bias[n + j] : 0.0f;
            }
            if (g.pre != nullptr) {
                emit(g.pre, m * g.N + n, v, g.N - n, whole, false);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[j] = g.slope_at != nullptr ? kd_act_grad(g.act, x[j], v[j]) : kd_act(g.act, v[j]);
            }
            if (g.f == nullptr && g.y == nullptr) {
                continue;
            }
            g.f != nullptr ? emit(g.f + blockIdx.y * g.stride, m * g.N + n, v, g.N - n, whole, g.add)
                           : emit(g.y, m * g.N + n, v, g.N - n, whole, g.add);
        }
    }
}

template <typename T, bool A_ALONG_K, bool B_ALONG_K, class G>
static __global__ void __launch_bounds__(THREADS, 2) product(problem<T> g)
{
    KD_SHARED(float, mem, G::FLOATS);
    const int tid = (int)threadIdx.x, tx = tid % SIDE, ty = tid / SIDE;
    const unsigned across = (unsigned)(g.N > 0 ? (g.N + G::N - 1) / G::N : 1); /* neighbouring blocks share rows of a */
    const int64_t m0 = (int64_t)(blockIdx.x / across) * G::M, n0 = (int64_t)(blockIdx.x % across) * G::N;
    const int64_t from = blockIdx.y * g.per, to = from + g.per < g.K ? from + g.per : g.K;
    const bool products = g.y != nullptr || g.f != nullptr || g.pre != nullptr,
               sums = g.sum_a != nullptr && n0 == 0 && tid < G::M;
    float acc[G::RM][G::RN] = {}, sum = 0.0f;
    carrier<T, A_ALONG_K, G::M, G::K, G::ANY> a;
    carrier<T, B_ALONG_K, G::N, G::K, G::ANY> b;
    a.start(g.a, tid, m0, g.M, from, A_ALONG_K ? g.K : g.M);
    b.start(g.b, tid, n0, g.N, from, B_ALONG_K ? g.K : g.N);
    int tiles = (int)((to - from + G::K - 1) / G::K);
    const int tail = (int)(to - from - (int64_t)(tiles - 1) * G::K); /* products of the last tile */
    a.fetch(tid, tiles > 1 ? G::K : tail, g.packed_a);
    b.fetch(tid, tiles > 1 ? G::K : tail, g.packed_b);
    int half = 0;
#pragma unroll 1
    for (; tiles > 0; tiles--) {
        float *as = mem + half * (G::FLOATS / 2), *bs = as + G::K * G::M;
        a.store(as, tid);
        b.store(bs, tid);
        __syncthreads(); /* and all threads are done with the other half */
        const int next = tiles > 2 ? G::K : tiles == 2 ? tail : 0;
        a.fetch(tid, next, g.packed_a);
        b.fetch(tid, next, g.packed_b);
        if (products) {
            multiply<G>(acc, as, bs, tx, ty);
        }
        if (sums) {
            for (int k = 0; k < G::K; k++) {
                sum += as[k * G::M + turned(k, tid)];
            }
        }
        half ^= 1;
    }
    if (products) {
        finish<T, G>(g, acc, mem, m0, n0, tid);
    }
    if (sums && m0 + tid < g.M) {
        put(g.sum_a + blockIdx.y * g.stride, m0 + tid, sum, g.add_sum);
    }
}

/* ---- choice of tile: from shapes alone ------------------------------------------------------- */

/* Blocks that give every multiprocessor of a big card something to do.  Few on the shim, where small shapes shall try
 * all. */
#if defined(__CUDACC__)
constexpr int64_t FULL = 132;
#else
constexpr int64_t FULL = 4;
#endif

template <class G> static int64_t tiles_of(int64_t M, int64_t N)
{
    return kd_div_up(M > 0 ? M : 1, G::M) * kd_div_up(N > 0 ? N : 1, G::N);
}

/* Big tiles read shared memory a third less a product; not where their overhang or an idle card costs more. */
static bool big_fits(int64_t M, int64_t N, int64_t slices)
{
    const int64_t big = tiles_of<tile_big>(M, N);
    return big * slices >= FULL && big * 7 <= tiles_of<tile_mid>(M, N) * 4;
}

template <typename T> static bool packable(const T *p, int64_t length)
{
    return length % kd_width<T>::value == 0 && (uintptr_t)p % 16 == 0;
}

template <typename T, bool AK, bool BK> static void launch(const kd_call *c, problem<T> g, int64_t slices)
{
    g.packed_a = packable(g.a, AK ? g.K : g.M);
    g.packed_b = packable(g.b, BK ? g.K : g.N);
    const unsigned s = (unsigned)slices;
    if (g.packed_a && g.packed_b && big_fits(g.M, g.N, slices)) {
        KD_LAUNCH((product<T, AK, BK, tile_big>), dim3((unsigned)tiles_of<tile_big>(g.M, g.N), s), dim3(THREADS), c, g);
    } else if (tiles_of<tile_mid>(g.M, g.N) * slices * 2 >= FULL) {
        KD_LAUNCH((product<T, AK, BK, tile_mid>), dim3((unsigned)tiles_of<tile_mid>(g.M, g.N), s), dim3(THREADS), c, g);
    } else {
        KD_LAUNCH((product<T, AK, BK, tile_small>), dim3((unsigned)tiles_of<tile_small>(g.M, g.N), s), dim3(THREADS), c,
                  g);
    }
}

/* ---- the three ops --------------------------------------------------------------------------- */

template <typename T> static kd_status linear_run(const kd_call *c)
{
    const kd_linear_attr *at = static_cast<const kd_linear_attr *>(c->attr);
    const int64_t Co = c->in[1].shape.dim[0], Ci = c->in[1].shape.dim[1], rows = Co > 0 ? numel(&c->out[0]) / Co : 0;
    const bool wide = c->out[0].dtype != kd_act_dtype<T>::value;
    problem<T> g = {};
    g.a = kd_in<T>(c, 0), g.b = kd_in<T>(c, 1);
    g.M = rows, g.N = Co, g.K = Ci, g.per = Ci;
    g.bias = kd_in<float>(c, 2), g.act = at->act;
    g.y = wide ? nullptr : kd_out<T>(c, 0);
    g.f = wide ? kd_out<float>(c, 0) : nullptr;
    g.pre = kd_out<T>(c, 1);
    g.add = kd_adds(c, 0);
    if (rows > 0 && (c->out[0].data != nullptr || g.pre != nullptr)) {
        launch<T, true, true>(c, g, 1);
    }
    return kd_launched();
}
KD_CUDA_OP(linear)

template <typename T> static kd_status linear_bwd_x_run(const kd_call *c)
{
    const int64_t Co = c->in[1].shape.dim[0], Ci = c->in[1].shape.dim[1], rows = Ci > 0 ? numel(&c->out[0]) / Ci : 0;
    problem<T> g = {};
    g.a = kd_in<T>(c, 0), g.b = kd_in<T>(c, 1);
    g.M = rows, g.N = Ci, g.K = Co, g.per = Co;
    g.y = kd_out<T>(c, 0);
    g.act = static_cast<const kd_linear_attr *>(c->attr)->act;
    g.slope_at = g.act != KD_ACT_NONE ? kd_in<T>(c, 2) : nullptr;
    g.add = kd_adds(c, 0);
    if (rows > 0 && c->out[0].data != nullptr) {
        launch<T, true, false>(c, g, 1);
    }
    return kd_launched();
}
KD_CUDA_OP(linear_bwd_x)

struct weight_shape {
    int64_t Co, Ci, rows, slices, per;
};

/* Slices fill the card twice; each has rows enough to be worth its partial result. */
static weight_shape weight_of(const kd_call *c)
{
    constexpr int64_t LEAST = 256, ROUND = 32;
    const kd_shape &dy = c->in[0].shape, &x = c->in[1].shape;
    weight_shape w = {dy.dim[dy.rank - 1], x.dim[x.rank - 1], 0, 1, 0};
    w.rows = w.Co > 0 ? numel(&c->in[0]) / w.Co : 0;
    const int64_t wanted = 2 * FULL / tiles_of<tile_mid>(w.Co, w.Ci), most = w.rows / LEAST;
    const int64_t slices = wanted < most ? wanted : most;
    w.per = slices > 1 ? kd_div_up(kd_div_up(w.rows, slices), ROUND) * ROUND : w.rows;
    w.slices = w.per > 0 ? kd_div_up(w.rows, w.per) : 1;
    return w;
}

static size_t linear_bwd_w_scratch(const kd_call *c)
{
    const weight_shape w = weight_of(c);
    return w.slices > 1 ? (size_t)(w.slices * w.Co * (w.Ci + 1)) * sizeof(float) : 0;
}

template <typename T> static kd_status linear_bwd_w_run(const kd_call *c)
{
    const weight_shape w = weight_of(c);
    const int64_t matrix = w.Co * w.Ci, all = matrix + w.Co;
    float *dw = kd_out<float>(c, 0), *db = kd_out<float>(c, 1), *part = static_cast<float *>(c->scratch);
    if (w.Co == 0 || (dw == nullptr && db == nullptr)) {
        return KD_OK;
    }
    const bool split = w.slices > 1;
    problem<T> g = {};
    g.a = kd_in<T>(c, 0), g.b = kd_in<T>(c, 1);
    g.M = w.Co, g.N = w.Ci, g.K = w.rows, g.per = w.per;
    g.f = dw == nullptr ? nullptr : split ? part : dw;
    g.sum_a = db == nullptr ? nullptr : split ? part + matrix : db;
    g.stride = split ? all : 0;
    g.add = !split && kd_adds(c, 0);
    g.add_sum = !split && kd_adds(c, 1);
    launch<T, false, false>(c, g, w.slices);
    if (split) {
        kd_sum_parts(c, part, w.slices, dw, matrix, kd_adds(c, 0), db, w.Co, kd_adds(c, 1));
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(linear_bwd_w, linear_bwd_w_scratch)
