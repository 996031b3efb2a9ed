/* sum_lead, reduce, softmax.  A warp an output where what is summed lies together in memory, 8 lines of threads for 32
 * neighbouring outputs where the outputs do. */
#include "kernels/cuda/device/column_sum.cuh"

constexpr int BLOCK = 256;
constexpr int LINES = BLOCK / KD_WARP;

/* ---- sum_lead -------------------------------------------------------------------------------- */

static size_t sum_lead_scratch(const kd_call *c)
{
    const int64_t C = numel(&c->out[0]);
    return C > 0 ? kd_column_scratch(numel(&c->in[0]) / C, C) : 0;
}

template <typename T, typename U> static void sum_lead_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const int64_t C = numel(&c->out[0]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    const kd_column_terms<T> f = {kd_in<T>(c, 0)};
    if (C > 0) {
        C % N == 0 ? kd_column_sum<N>(c, f, kd_out<U>(c, 0), rows, C, kd_adds(c, 0))
                   : kd_column_sum<1>(c, f, kd_out<U>(c, 0), rows, C, kd_adds(c, 0));
    }
}

template <typename T> static kd_status sum_lead_run(const kd_call *c)
{
    if (c->in[0].dtype == KD_F32) {
        sum_lead_of<float, float>(c);
    } else {
        c->out[0].dtype == KD_F32 ? sum_lead_of<T, float>(c) : sum_lead_of<T, T>(c);
    }
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(sum_lead, sum_lead_scratch)

/* ---- reduce ---------------------------------------------------------------------------------- */

/* Dims with strides, the last one innermost; the first KD_MAX_RANK - rank entries are not used. */
struct walk {
    int rank;
    int64_t dim[KD_MAX_RANK], stride[KD_MAX_RANK];
};

static void walk_add(walk *w, int64_t dim, int64_t stride)
{
    const int last = KD_MAX_RANK - w->rank;
    if (dim == 1) {
        return;
    }
    if (w->rank > 0 && stride == w->dim[last] * w->stride[last]) { /* continues the dim added last */
        w->dim[last] *= dim;
        return;
    }
    w->rank++;
    w->dim[last - 1] = dim;
    w->stride[last - 1] = stride;
}

/* Where element i of the walk lies. */
static __device__ __forceinline__ int64_t walk_at(const walk &w, int64_t i)
{
    int64_t at = 0;
#pragma unroll
    for (int k = KD_MAX_RANK - 1; k >= 0; k--) {
        if (k >= KD_MAX_RANK - w.rank) {
            const int64_t up = i < w.dim[k] ? 0 : kd_div(i, w.dim[k]); /* always so in the outermost one */
            at += (i - up * w.dim[k]) * w.stride[k];
            i = up;
        }
    }
    return at;
}

struct reduction {
    walk kept, gone; /* dims of x */
    int64_t n_out, n_red;
    bool rows; /* the removed dims are contiguous in x */
    int packs; /* rows: removed elements are read this many at a time */
};

template <typename T> static reduction reduction_of(const kd_shape *x, uint32_t axes)
{
    reduction p = {};
    int64_t stride = 1, run = 1;
    int inner = -1; /* is the innermost dim that is not 1 removed? */
    p.n_out = p.n_red = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        const int gone = (int)((axes >> i) & 1u);
        walk_add(gone ? &p.gone : &p.kept, x->dim[i], stride);
        stride *= x->dim[i];
        *(gone ? &p.n_red : &p.n_out) *= x->dim[i];
        inner = inner < 0 && x->dim[i] > 1 ? gone : inner;
    }
    p.rows = inner != 0;
    run = p.gone.rank > 0 ? p.gone.dim[KD_MAX_RANK - 1] : 1;
    p.packs = p.rows && run % kd_width<T>::value == 0 ? kd_width<T>::value : 1;
    if (p.packs > 1) { /* all other strides are multiples of the innermost dim */
        p.gone.dim[KD_MAX_RANK - 1] /= p.packs;
        p.gone.stride[KD_MAX_RANK - 1] = p.packs;
    }
    return p;
}

/* The place of a thread: its output and which removed elements it takes.  A block is 32 x LINES. */
struct place {
    int64_t o, base;
    int first, step;
};

template <bool ROWS> static __device__ __forceinline__ place place_of(const walk &kept, int64_t n_out)
{
    place p;
    p.o = ROWS ? (int64_t)blockIdx.x * LINES + threadIdx.y : (int64_t)blockIdx.x * KD_WARP + threadIdx.x;
    p.base = p.o < n_out ? walk_at(kept, p.o) : 0;
    p.first = (int)(ROWS ? threadIdx.x : threadIdx.y);
    p.step = ROWS ? KD_WARP : LINES;
    return p;
}

struct add_up {
    template <typename A> __device__ A operator()(A a, A b) const
    {
        return a + b;
    }
};
struct greatest {
    __device__ float operator()(float a, float b) const
    {
        return kd_max_nan(a, b);
    }
};
struct least {
    __device__ int operator()(int a, int b) const
    {
        return a < b ? a : b;
    }
};

/* The partial results of the threads of one output, combined in a fixed order; all of them get the result.  Every
 * thread of the block calls. */
template <bool ROWS, typename A, typename Op> static __device__ A together(A v, Op op)
{
    if (ROWS) {
        for (int d = KD_WARP / 2; d > 0; d >>= 1) {
            v = op(v, __shfl_xor_sync(KD_FULL, v, d));
        }
        return v;
    }
    KD_SHARED(A, part, BLOCK);
    __syncthreads(); /* the last call's readers are done */
    part[threadIdx.y * KD_WARP + threadIdx.x] = v;
    __syncthreads();
    v = part[threadIdx.x];
    for (int l = 1; l < LINES; l++) {
        v = op(v, part[l * KD_WARP + (int)threadIdx.x]);
    }
    return v;
}

template <bool ROWS, int N, typename T>
static __global__ void reduce_group(const T *x, T *y, walk kept, walk gone, int64_t n_out, int n_red, int kind,
                                    float norm, bool add)
{
    const place p = place_of<ROWS>(kept, n_out);
    const bool max = kind == KD_REDUCE_MAX;
    float acc = max ? -INFINITY : 0.0f, v[N];
    for (int r = p.first; p.o < n_out && r < n_red; r += p.step) {
        ld_pack<N>(v, x, p.base + walk_at(gone, r));
#pragma unroll
        for (int j = 0; j < N; j++) {
            acc = max ? kd_max_nan(acc, v[j]) : acc + v[j];
        }
    }
    acc = max ? together<ROWS>(acc, greatest()) : together<ROWS>(acc, add_up());
    if (p.first == 0 && p.o < n_out) {
        put(y, p.o, acc * norm, add);
    }
}

static dim3 group_grid(const reduction &p)
{
    return dim3((unsigned)kd_div_up(p.n_out, p.rows ? LINES : KD_WARP));
}

static float norm_of(const kd_reduce_attr *at, const reduction &p)
{
    return at->kind == KD_REDUCE_MEAN ? 1.0f / (float)p.n_red : 1.0f;
}

template <bool ROWS, int N, typename T> static void launch_reduce(const kd_call *c, const reduction &p)
{
    const kd_reduce_attr *at = static_cast<const kd_reduce_attr *>(c->attr);
    KD_LAUNCH((reduce_group<ROWS, N, T>), group_grid(p), dim3(KD_WARP, LINES), c, kd_in<T>(c, 0), kd_out<T>(c, 0),
              p.kept, p.gone, p.n_out, (int)(p.n_red / N), at->kind, norm_of(at, p), kd_adds(c, 0));
}

template <typename T> static kd_status reduce_of(const kd_call *c)
{
    const kd_reduce_attr *at = static_cast<const kd_reduce_attr *>(c->attr);
    const reduction p = reduction_of<T>(&c->in[0].shape, at->axes);
    if (p.n_red > INT32_MAX) {
        return KD_E_UNSUPPORTED;
    }
    if (p.n_out == 0) {
        return KD_OK;
    }
    if (!p.rows) {
        launch_reduce<false, 1, T>(c, p);
    } else {
        p.packs > 1 ? launch_reduce<true, kd_width<T>::value, T>(c, p) : launch_reduce<true, 1, T>(c, p);
    }
    return kd_launched();
}

template <typename T> static kd_status reduce_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? reduce_of<float>(c) : reduce_of<T>(c);
}
KD_CUDA_OP(reduce)

/* ---- reduce_bwd of mean and sum: every element of x gets the gradient of its output ---------- */

/* `to` walks x in its own order and says where in dy; N elements share one gradient (SPREAD) or have N neighbouring
 * ones. */
template <int N, bool SPREAD, typename T>
static __global__ void reduce_spread(const T *dy, const T *plus, T *dx, int64_t n, walk to, float norm, bool add)
{
    for (KD_EACH(k, n / N)) {
        const int64_t o = walk_at(to, k);
        float v[N], more[N] = {};
        if (plus != nullptr) {
            ld_pack<N>(more, plus, k * N);
        }
        if (SPREAD) {
            v[0] = ld(dy, o);
        } else {
            ld_pack<N>(v, dy, o);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = (SPREAD && j > 0) ? v[0] : v[j] * norm;
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] += more[j];
        }
        put_upto<N>(dx, k * N, n, v, add);
    }
}

template <int N, typename T> static void launch_spread(const kd_call *c, walk to, float norm)
{
    const int last = KD_MAX_RANK - 1;
    const int64_t n = numel(&c->out[0]);
    const bool spread = to.stride[last] == 0;
    to.dim[last] /= N; /* in packs */
    to.stride[last] *= N;
    if (spread) {
        KD_LAUNCH((reduce_spread<N, true, T>), dim3(kd_grid(n / N, BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
                  kd_in<T>(c, 3), kd_out<T>(c, 0), n, to, norm, kd_adds(c, 0));
    } else {
        KD_LAUNCH((reduce_spread<N, false, T>), dim3(kd_grid(n / N, BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
                  kd_in<T>(c, 3), kd_out<T>(c, 0), n, to, norm, kd_adds(c, 0));
    }
}

template <typename T> static void spread(const kd_call *c, const kd_reduce_attr *at, float norm)
{
    constexpr int N = kd_width<T>::value;
    const kd_shape *x = &at->x_shape;
    walk to = {};
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        const bool gone = ((at->axes >> i) & 1u) != 0;
        walk_add(&to, x->dim[i], gone ? 0 : stride);
        stride *= gone ? 1 : x->dim[i];
    }
    if (to.rank == 0) { /* one element */
        to.rank = 1;
        to.dim[KD_MAX_RANK - 1] = to.stride[KD_MAX_RANK - 1] = 1;
    }
    to.dim[KD_MAX_RANK - 1] % N == 0 ? launch_spread<N, T>(c, to, norm) : launch_spread<1, T>(c, to, norm);
}

/* ---- reduce_bwd of max ----------------------------------------------------------------------- */

/* The first maximum takes it all when one dim was removed (`first`), else all ties share evenly. */
template <bool ROWS, int N, typename T>
static __global__ void reduce_max_bwd(const T *dy, const T *x, const T *y, const T *plus, T *dx, walk kept, walk gone,
                                      int64_t n_out, int n_red, bool first, bool add)
{
    const place p = place_of<ROWS>(kept, n_out);
    const bool in = p.o < n_out;
    const float d = in ? ld(dy, p.o) : 0.0f, top = in ? ld(y, p.o) : 0.0f;
    float v[N];
    int ties = 0, leader = INT32_MAX;
    for (int r = p.first; in && r < n_red; r += p.step) {
        ld_pack<N>(v, x, p.base + walk_at(gone, r));
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (kd_is_max(v[j], top)) {
                ties++;
                leader = r * N + j < leader ? r * N + j : leader;
            }
        }
    }
    if (first) {
        leader = together<ROWS>(leader, least());
    } else {
        ties = together<ROWS>(ties, add_up());
    }
    const float share = first ? d : d / (float)(ties > 1 ? ties : 1);
    for (int r = p.first; in && r < n_red; r += p.step) { /* x comes from the cache now */
        const int64_t at = p.base + walk_at(gone, r);
        float more[N] = {};
        ld_pack<N>(v, x, at);
        if (plus != nullptr) {
            ld_pack<N>(more, plus, at);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = (kd_is_max(v[j], top) && (!first || r * N + j == leader) ? share : 0.0f) + more[j];
        }
        put_upto<N>(dx, at, at + N, v, add);
    }
}

template <bool ROWS, int N, typename T> static void launch_max_bwd(const kd_call *c, const reduction &p, bool first)
{
    KD_LAUNCH((reduce_max_bwd<ROWS, N, T>), group_grid(p), dim3(KD_WARP, LINES), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              kd_in<T>(c, 2), kd_in<T>(c, 3), kd_out<T>(c, 0), p.kept, p.gone, p.n_out, (int)(p.n_red / N), first,
              kd_adds(c, 0));
}

template <typename T> static kd_status reduce_bwd_of(const kd_call *c)
{
    const kd_reduce_attr *at = static_cast<const kd_reduce_attr *>(c->attr);
    const reduction p = reduction_of<T>(&at->x_shape, at->axes);
    const bool first = (at->axes & (at->axes - 1u)) == 0;
    if (p.n_red > INT32_MAX) {
        return KD_E_UNSUPPORTED;
    }
    if (p.n_out * p.n_red == 0) {
        return KD_OK;
    }
    if (at->kind != KD_REDUCE_MAX) {
        spread<T>(c, at, norm_of(at, p));
    } else if (!p.rows) {
        launch_max_bwd<false, 1, T>(c, p, first);
    } else {
        p.packs > 1 ? launch_max_bwd<true, kd_width<T>::value, T>(c, p, first)
                    : launch_max_bwd<true, 1, T>(c, p, first);
    }
    return kd_launched();
}

template <typename T> static kd_status reduce_bwd_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? reduce_bwd_of<float>(c) : reduce_bwd_of<T>(c);
}
KD_CUDA_OP(reduce_bwd)

/* ---- softmax: a warp a row; later passes find it in the first-level cache -------------------- */

/* y may be x: a lane writes only elements it alone reads. */
template <int N, typename T>
static __global__ void softmax_rows(const T *x, T *y, int64_t rows, int64_t K, float out_scale, bool add)
{
    const int64_t r = (int64_t)blockIdx.x * LINES + threadIdx.y;
    if (r >= rows) { /* a whole warp leaves: no barrier of the block follows */
        return;
    }
    const int64_t first = r * K + (int64_t)threadIdx.x * N, end = (r + 1) * K;
    float v[N], top = -INFINITY, sum = 0.0f;
    for (int64_t i = first; i < end; i += KD_WARP * N) {
        ld_pack<N>(v, x, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            top = kd_max_nan(top, v[j]);
        }
    }
    top = kd_warp_max(top);
    for (int64_t i = first; i < end; i += KD_WARP * N) {
        ld_pack<N>(v, x, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum += expf(v[j] - top);
        }
    }
    const float norm = out_scale / kd_warp_sum(sum);
    for (int64_t i = first; i < end; i += KD_WARP * N) {
        ld_pack<N>(v, x, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = expf(v[j] - top) * norm;
        }
        put_upto<N>(y, i, end, v, add);
    }
}

template <int N, typename T> static void launch_softmax(const kd_call *c, int64_t rows, int64_t K)
{
    const kd_softmax_attr *at = static_cast<const kd_softmax_attr *>(c->attr);
    KD_LAUNCH((softmax_rows<N, T>), dim3((unsigned)kd_div_up(rows, LINES)), dim3(KD_WARP, LINES), c, kd_in<T>(c, 0),
              kd_out<T>(c, 0), rows, K, at->out_scale, kd_adds(c, 0));
}

template <typename T> static kd_status softmax_of(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t K = s->dim[s->rank - 1], rows = K > 0 ? numel(&c->in[0]) / K : 0;
    if (rows > 0) {
        K % kd_width<T>::value == 0 ? launch_softmax<kd_width<T>::value, T>(c, rows, K)
                                    : launch_softmax<1, T>(c, rows, K);
    }
    return kd_launched();
}

template <typename T> static kd_status softmax_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? softmax_of<float>(c) : softmax_of<T>(c);
}
KD_CUDA_OP(softmax)

/* dx = y (dy - sum_k dy y / out_scale): y is out_scale times the probabilities. */
template <int N, typename T>
static __global__ void softmax_dx(const T *dy, const T *y, T *dx, int64_t rows, int64_t K, float out_scale, bool add)
{
    const int64_t r = (int64_t)blockIdx.x * LINES + threadIdx.y;
    if (r >= rows) {
        return;
    }
    const int64_t first = r * K + (int64_t)threadIdx.x * N, end = (r + 1) * K;
    float p[N], d[N], dot = 0.0f;
    for (int64_t i = first; i < end; i += KD_WARP * N) {
        ld_pack<N>(p, y, i);
        ld_pack<N>(d, dy, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            dot += p[j] * d[j];
        }
    }
    dot = kd_warp_sum(dot) / out_scale;
    for (int64_t i = first; i < end; i += KD_WARP * N) {
        ld_pack<N>(p, y, i);
        ld_pack<N>(d, dy, i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            d[j] = p[j] * (d[j] - dot);
        }
        put_upto<N>(dx, i, end, d, add);
    }
}

template <int N, typename T> static void launch_softmax_dx(const kd_call *c, int64_t rows, int64_t K)
{
    const kd_softmax_attr *at = static_cast<const kd_softmax_attr *>(c->attr);
    KD_LAUNCH((softmax_dx<N, T>), dim3((unsigned)kd_div_up(rows, LINES)), dim3(KD_WARP, LINES), c, kd_in<T>(c, 0),
              kd_in<T>(c, 1), kd_out<T>(c, 0), rows, K, at->out_scale, kd_adds(c, 0));
}

template <typename T> static kd_status softmax_bwd_of(const kd_call *c)
{
    const kd_shape *s = &c->in[1].shape;
    const int64_t K = s->dim[s->rank - 1], rows = K > 0 ? numel(&c->in[1]) / K : 0;
    if (rows > 0) {
        K % kd_width<T>::value == 0 ? launch_softmax_dx<kd_width<T>::value, T>(c, rows, K)
                                    : launch_softmax_dx<1, T>(c, rows, K);
    }
    return kd_launched();
}

template <typename T> static kd_status softmax_bwd_run(const kd_call *c)
{
    return c->in[1].dtype == KD_F32 ? softmax_bwd_of<float>(c) : softmax_bwd_of<T>(c);
}
KD_CUDA_OP(softmax_bwd)
