/* slice, concat, permute, qkv_bias: elements moved, perhaps converted or added.  Neighbouring threads write
 * neighbouring packs. */
#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int BLOCK = 256;

/* ---- slice, concat --------------------------------------------------------------------------- */

/* A window of `part` elements at `start` in each of `outer` runs of `full`. */
struct window {
    int64_t outer, full, start, part;
};

static window window_of(const kd_shape *s, int axis, int64_t full, int64_t start, int64_t len)
{
    const int64_t inner = kd_shape_span(s, axis + 1, s->rank);
    const window w = {kd_shape_span(s, 0, axis), full * inner, start * inner, len * inner};
    return w;
}

static bool aligned(const window *w, int N)
{
    return (w->full | w->start | w->part) % N == 0; /* N is a power of two */
}

template <int N, typename T> static __global__ void slice_copy(const T *x, T *y, window w, bool add)
{
    const int64_t packs = w.part / N;
    for (KD_EACH(k, w.outer * packs)) {
        const int64_t o = kd_div(k, packs);
        float v[N];
        ld_pack<N>(v, x, o * w.full + w.start + (k - o * packs) * N);
        put_upto<N>(y, k * N, w.outer * w.part, v, add);
    }
}

template <int N, typename T> static void launch_slice(const kd_call *c, window w)
{
    KD_LAUNCH((slice_copy<N, T>), dim3(kd_grid(w.outer * w.part / N, BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
              kd_out<T>(c, 0), w, kd_adds(c, 0));
}

template <typename T> static kd_status slice_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const kd_slice_attr *at = static_cast<const kd_slice_attr *>(c->attr);
    const kd_shape *s = &c->in[0].shape;
    const window w = window_of(s, at->axis, s->dim[at->axis], at->start, at->len);
    if (numel(&c->out[0]) > 0) {
        aligned(&w, N) ? launch_slice<N, T>(c, w) : launch_slice<1, T>(c, w);
    }
    return kd_launched();
}

template <typename T> static kd_status slice_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? slice_of<float>(c) : slice_of<T>(c);
}
KD_CUDA_OP(slice)

template <int N, typename T> static __global__ void slice_spread(const T *dy, T *dx, window w, bool add)
{
    const int64_t packs = w.full / N;
    for (KD_EACH(k, w.outer * packs)) {
        const int64_t o = kd_div(k, packs), at = (k - o * packs) * N - w.start;
        float v[N];
        if (at >= 0 && at < w.part) {
            ld_pack<N>(v, dy, o * w.part + at);
        } else {
#pragma unroll
            for (int j = 0; j < N; j++) {
                v[j] = 0.0f;
            }
        }
        put_upto<N>(dx, k * N, w.outer * w.full, v, add);
    }
}

template <int N, typename T> static void launch_spread(const kd_call *c, window w)
{
    KD_LAUNCH((slice_spread<N, T>), dim3(kd_grid(w.outer * w.full / N, BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
              kd_out<T>(c, 0), w, kd_adds(c, 0));
}

template <typename T> static kd_status slice_bwd_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const kd_slice_attr *at = static_cast<const kd_slice_attr *>(c->attr);
    const window w = window_of(&c->in[0].shape, at->axis, at->full, at->start, at->len);
    if (numel(&c->out[0]) > 0) {
        aligned(&w, N) ? launch_spread<N, T>(c, w) : launch_spread<1, T>(c, w);
    }
    return kd_launched();
}

template <typename T> static kd_status slice_bwd_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? slice_bwd_of<float>(c) : slice_bwd_of<T>(c);
}
KD_CUDA_OP(slice_bwd)

/* The operands of concat, or the outputs of its gradient. */
struct pieces {
    void *x[KD_CONCAT_MOST];
    int64_t start[KD_CONCAT_MOST], part[KD_CONCAT_MOST]; /* in the runs of the whole */
    unsigned add;                                        /* gradient: bit i, add to x[i] */
    int n;
    int64_t outer, full, widest;
    bool packed;
};

/* grid.y is the piece, so that one launch copies all of them: JOIN from the pieces to the whole, else from the whole to
 * them. */
template <int N, bool JOIN, typename T> static __global__ void copy_pieces(pieces s, T *whole, bool add)
{
    T *x = nullptr;
    int64_t start = 0, part = 0;
#pragma unroll
    /* not s.x[blockIdx.y]: an array indexed at run time is copied to local memory */
    for (int i = 0; i < KD_CONCAT_MOST; i++) {
        if (i == (int)blockIdx.y) {
            x = static_cast<T *>(s.x[i]);
            start = s.start[i];
            part = s.part[i];
        }
    }
    if (x == nullptr) { /* this gradient is not needed */
        return;
    }
    const int64_t packs = part / N;
    for (KD_EACH(k, s.outer * packs)) {
        const int64_t o = kd_div(k, packs), at = o * s.full + start + (k - o * packs) * N;
        float v[N];
        if (JOIN) {
            ld_pack<N>(v, x, k * N);
            put_upto<N>(whole, at, s.outer * s.full, v, add);
        } else {
            ld_pack<N>(v, whole, at);
            put_upto<N>(x, k * N, s.outer * part, v, ((s.add >> blockIdx.y) & 1u) != 0);
        }
    }
}

template <typename T> static void append(pieces *s, void *x, int64_t part)
{
    s->x[s->n] = x;
    s->start[s->n] = s->n > 0 ? s->start[s->n - 1] + s->part[s->n - 1] : 0;
    s->part[s->n++] = part;
    s->packed = s->packed && part % kd_width<T>::value == 0;
    s->widest = part > s->widest ? part : s->widest;
}

/* No pieces yet of a whole of shape `w`. */
template <typename T> static pieces pieces_of(const kd_shape *w, int axis)
{
    pieces s = {};
    s.outer = kd_shape_span(w, 0, axis);
    s.full = kd_shape_span(w, axis, w->rank);
    s.packed = s.full % kd_width<T>::value == 0;
    return s;
}

template <bool JOIN, typename T> static void launch_pieces(const kd_call *c, const pieces &s, T *whole)
{
    constexpr int N = kd_width<T>::value;
    const int64_t most = s.outer * s.widest;
    if (most > 0 && s.packed) {
        KD_LAUNCH((copy_pieces<N, JOIN, T>), dim3(kd_grid(most / N, BLOCK), (unsigned)s.n), dim3(BLOCK), c, s, whole,
                  kd_adds(c, 0));
    } else if (most > 0) {
        KD_LAUNCH((copy_pieces<1, JOIN, T>), dim3(kd_grid(most, BLOCK), (unsigned)s.n), dim3(BLOCK), c, s, whole,
                  kd_adds(c, 0));
    }
}

template <typename T> static kd_status concat_of(const kd_call *c)
{
    const int axis = static_cast<const kd_concat_attr *>(c->attr)->axis;
    pieces s = pieces_of<T>(&c->out[0].shape, axis);
    for (int i = 0; i < c->n_in && i < KD_CONCAT_MOST && c->in[i].data != nullptr; i++) {
        append<T>(&s, c->in[i].data, kd_shape_span(&c->in[i].shape, axis, c->in[i].shape.rank));
    }
    launch_pieces<true>(c, s, kd_out<T>(c, 0));
    return kd_launched();
}

template <typename T> static kd_status concat_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? concat_of<float>(c) : concat_of<T>(c);
}
KD_CUDA_OP(concat)

template <typename T> static kd_status concat_bwd_of(const kd_call *c)
{
    const kd_concat_attr *at = static_cast<const kd_concat_attr *>(c->attr);
    const kd_shape *w = &c->in[0].shape;
    pieces s = pieces_of<T>(w, at->axis);
    s.add = c->accum;
    for (int i = 0; i < at->n; i++) {
        append<T>(&s, c->out[i].data, at->part[i] * kd_shape_span(w, at->axis + 1, w->rank));
    }
    launch_pieces<false>(c, s, static_cast<T *>(c->in[0].data));
    return kd_launched();
}

template <typename T> static kd_status concat_bwd_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? concat_bwd_of<float>(c) : concat_bwd_of<T>(c);
}
KD_CUDA_OP(concat_bwd)

/* ---- permute --------------------------------------------------------------------------------- */

/* Dims of y, the last one innermost, and how far apart their elements lie in x.  Dims of 1 are gone and those that stay
 * together are one; the first KD_MAX_RANK - rank entries are not used. */
struct walk {
    int rank;
    int64_t dim[KD_MAX_RANK], stride[KD_MAX_RANK];
};

static walk walk_of(const kd_shape *xs, const kd_permute_attr *at)
{
    walk w = {};
    for (int i = xs->rank - 1; i >= 0; i--) {
        const int64_t n = xs->dim[at->perm[i]], stride = kd_shape_span(xs, at->perm[i] + 1, xs->rank);
        const int last = KD_MAX_RANK - w.rank; /* the dim added last, if any */
        if (n == 1) {
            continue;
        }
        if (w.rank > 0 && stride == w.dim[last] * w.stride[last]) {
            w.dim[last] *= n;
        } else {
            w.rank++;
            w.dim[last - 1] = n;
            w.stride[last - 1] = stride;
        }
    }
    if (w.rank == 0) { /* one element */
        w.rank = 1;
        w.dim[KD_MAX_RANK - 1] = w.stride[KD_MAX_RANK - 1] = 1;
    }
    return w;
}

/* Where element i of the dims before `end` lies in x; `skip` is left out of them. */
static __device__ __forceinline__ int64_t source_of(const walk &w, int64_t i, int end, int skip)
{
    int64_t at = 0;
#pragma unroll
    for (int k = KD_MAX_RANK - 1; k >= 0; k--) {
        if (k < end && k != skip && k >= KD_MAX_RANK - w.rank) {
            const int64_t up = kd_div(i, w.dim[k]);
            at += (i - up * w.dim[k]) * w.stride[k];
            i = up;
        }
    }
    return at;
}

/* The innermost dim of y is that of x (N divides it), or short enough for reads to share sectors. */
template <int N, typename T> static __global__ void permute_gather(const T *x, T *y, int64_t n, walk w, bool add)
{
    const int64_t inner = w.dim[KD_MAX_RANK - 1] / N;
    for (KD_EACH(k, n / N)) {
        const int64_t row = kd_div(k, inner);
        float v[N];
        ld_pack<N>(v, x, source_of(w, row, KD_MAX_RANK - 1, -1) + (k - row * inner) * N * w.stride[KD_MAX_RANK - 1]);
        put_upto<N>(y, k * N, n, v, add);
    }
}

constexpr int TILE = 32, TILE_ROWS = 8;

/* Two long dims change places: `a`, innermost in x, and the innermost of y, through a tile in shared memory. */
template <typename T>
static __global__ void permute_tile(const T *x, T *y, walk w, int a, int64_t y_stride_a, int64_t tiles_a,
                                    int64_t tiles_b, bool add)
{
    KD_SHARED(float, tile, TILE * (TILE + 1)); /* + 1: columns fall on different banks */
    const int64_t t = blockIdx.x, rest = kd_div(t, tiles_a * tiles_b), in = t - rest * (tiles_a * tiles_b);
    const int64_t ta = kd_div(in, tiles_b), tb = in - ta * tiles_b;
    const int64_t b_dim = w.dim[KD_MAX_RANK - 1], b_stride = w.stride[KD_MAX_RANK - 1];
    int64_t a_dim = 1, from = 0, to = 0, i = rest, y_stride = b_dim;
#pragma unroll
    for (int k = KD_MAX_RANK - 2; k >= 0; k--) { /* the other dims */
        if (k >= KD_MAX_RANK - w.rank) {
            if (k == a) {
                a_dim = w.dim[k];
            } else {
                const int64_t up = kd_div(i, w.dim[k]), at = i - up * w.dim[k];
                from += at * w.stride[k];
                to += at * y_stride;
                i = up;
            }
            y_stride *= w.dim[k];
        }
    }
    const int tx = (int)threadIdx.x;
    for (int l = (int)threadIdx.y; l < TILE; l += TILE_ROWS) {
        const int64_t ia = ta * TILE + tx, ib = tb * TILE + l;
        if (ia < a_dim && ib < b_dim) {
            tile[l * (TILE + 1) + tx] = ld(x, from + ib * b_stride + ia);
        }
    }
    __syncthreads();
    for (int l = (int)threadIdx.y; l < TILE; l += TILE_ROWS) {
        const int64_t ia = ta * TILE + l, ib = tb * TILE + tx;
        if (ia < a_dim && ib < b_dim) {
            put(y, to + ia * y_stride_a + ib, tile[tx * (TILE + 1) + l], add);
        }
    }
}

template <int N, typename T> static void launch_gather(const kd_call *c, const walk &w)
{
    const int64_t n = numel(&c->out[0]);
    KD_LAUNCH((permute_gather<N, T>), dim3(kd_grid(n / N, BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0), kd_out<T>(c, 0), n,
              w, kd_adds(c, 0));
}

template <typename T> static kd_status permute_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const int64_t n = numel(&c->out[0]);
    if (n == 0) {
        return KD_OK;
    }
    const walk w = walk_of(&c->in[0].shape, static_cast<const kd_permute_attr *>(c->attr));
    const int last = KD_MAX_RANK - 1;
    int a = last;
    int64_t y_stride = 1;
    while (w.stride[a] != 1) { /* x's innermost dim is somewhere */
        y_stride *= w.dim[a--];
    }
    const int64_t tiles_a = kd_div_up(w.dim[a], TILE), tiles_b = kd_div_up(w.dim[last], TILE);
    const int64_t tiles = n / (w.dim[a] * w.dim[last]) * tiles_a * tiles_b;
    if (a == last) {
        w.dim[last] % N == 0 ? launch_gather<N, T>(c, w) : launch_gather<1, T>(c, w);
    } else if (w.dim[a] < 8 || w.dim[last] < 8 || tiles > INT32_MAX) {
        launch_gather<1, T>(c, w);
    } else {
        KD_LAUNCH((permute_tile<T>), dim3((unsigned)tiles), dim3(TILE, TILE_ROWS), c, kd_in<T>(c, 0), kd_out<T>(c, 0),
                  w, a, y_stride, tiles_a, tiles_b, kd_adds(c, 0));
    }
    return kd_launched();
}

template <typename T> static kd_status permute_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? permute_of<float>(c) : permute_of<T>(c);
}
KD_CUDA_OP(permute)

/* ---- qkv_bias -------------------------------------------------------------------------------- */

static __global__ void bias_join(const float *q, const float *v, float *y, int64_t C, bool add)
{
    for (KD_EACH(j, 3 * C)) {
        put(y, j, j < C ? q[j] : j < 2 * C ? 0.0f : v[j - 2 * C], add);
    }
}

template <typename T> static kd_status qkv_bias_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[0]);
    if (C > 0) {
        KD_LAUNCH(bias_join, dim3(kd_grid(3 * C, BLOCK)), dim3(BLOCK), c, kd_in<float>(c, 0), kd_in<float>(c, 1),
                  kd_out<float>(c, 0), C, kd_adds(c, 0));
    }
    return kd_launched();
}
KD_CUDA_OP(qkv_bias)

static __global__ void bias_split(const float *d, float *dq, float *dv, int64_t C, bool add_q, bool add_v)
{
    for (KD_EACH(j, C)) {
        if (dq != nullptr) {
            put(dq, j, d[j], add_q);
        }
        if (dv != nullptr) {
            put(dv, j, d[2 * C + j], add_v);
        }
    }
}

template <typename T> static kd_status qkv_bias_bwd_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[0]) / 3;
    if (C > 0) {
        KD_LAUNCH(bias_split, dim3(kd_grid(C, BLOCK)), dim3(BLOCK), c, kd_in<float>(c, 0), kd_out<float>(c, 0),
                  kd_out<float>(c, 1), C, kd_adds(c, 0), kd_adds(c, 1));
    }
    return kd_launched();
}
KD_CUDA_OP(qkv_bias_bwd)
