/* add, scale, mul, act, dropout, scale_last, cast, mixup, grad_seed: one pass over memory each, a 16-byte pack a thread
 * and access. */
#include "kernels/cuda/device/column_sum.cuh"
#include "kernels/cuda/device/dropout.cuh"

constexpr int BLOCK = 256;

/* ---- y = f(x) and y = f(a, b) ---------------------------------------------------------------- */

/* No restrict anywhere here: y may be x (or a, or a b of the same length). */
template <int N, typename T, typename U, typename F>
static __global__ void unary(const T *x, U *y, int64_t n, bool add, F f)
{
    for (KD_EACH(k, kd_div_up(n, N))) {
        float v[N];
        ld_upto<N>(v, x, k * N, n);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = f(v[j]);
        }
        put_upto<N>(y, k * N, n, v, add);
    }
}

template <typename T, typename U, typename F> static kd_status map_unary(const kd_call *c, F f)
{
    constexpr int N = sizeof(T) > sizeof(U) ? kd_width<T>::value : kd_width<U>::value;
    const int64_t n = numel(&c->in[0]);
    if (n > 0) {
        KD_LAUNCH((unary<N, T, U, F>), dim3(kd_grid(kd_div_up(n, N), BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
                  kd_out<U>(c, 0), n, kd_adds(c, 0), f);
    }
    return kd_launched();
}

/* b repeats every nb elements; nb is n or a multiple of N. */
template <int N, typename T, typename U, typename F>
static __global__ void binary(const T *a, const U *b, T *y, int64_t n, int64_t nb, bool add, F f)
{
    for (KD_EACH(k, kd_div_up(n, N))) {
        const int64_t i = k * N;
        float v[N], w[N];
        ld_upto<N>(v, a, i, n);
        ld_upto<N>(w, b, nb == n ? i : kd_mod(i, nb), nb);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = f(v[j], w[j]);
        }
        put_upto<N>(y, i, n, v, add);
    }
}

template <int N, typename T, typename U, typename F>
static void launch_binary(const kd_call *c, const T *a, const kd_tensor *b, F f)
{
    const int64_t n = numel(&c->out[0]), nb = numel(b);
    KD_LAUNCH((binary<N, T, U, F>), dim3(kd_grid(kd_div_up(n, N), BLOCK)), dim3(BLOCK), c, a,
              static_cast<const U *>(b->data), kd_out<T>(c, 0), n, nb, kd_adds(c, 0), f);
}

/* out[0] = f(a, b); b may be broadcast over leading dims. */
template <typename T, typename U, typename F>
static void map_binary(const kd_call *c, const T *a, const kd_tensor *b, F f)
{
    constexpr int N = kd_width<T>::value;
    const int64_t n = numel(&c->out[0]), nb = numel(b);
    if (n > 0) {
        nb == n || nb % N == 0 ? launch_binary<N, T, U, F>(c, a, b, f) : launch_binary<1, T, U, F>(c, a, b, f);
    }
}

struct sum_of {
    __device__ float operator()(float a, float b) const
    {
        return a + b;
    }
};
struct product_of {
    __device__ float operator()(float a, float b) const
    {
        return a * b;
    }
};

template <typename T> static kd_status add_run(const kd_call *c)
{
    if (c->in[0].dtype == KD_F32) {
        map_binary<float, float>(c, kd_in<float>(c, 0), &c->in[1], sum_of());
    } else {
        map_binary<T, T>(c, kd_in<T>(c, 0), &c->in[1], sum_of());
    }
    return kd_launched();
}
KD_CUDA_OP(add)

template <typename T> static kd_status mul_run(const kd_call *c)
{
    if (c->in[0].dtype == KD_F32) {
        map_binary<float, float>(c, kd_in<float>(c, 0), &c->in[1], product_of());
    } else {
        map_binary<T, T>(c, kd_in<T>(c, 0), &c->in[1], product_of());
    }
    return kd_launched();
}
KD_CUDA_OP(mul)

struct times {
    float value;
    __device__ float operator()(float x) const
    {
        return value * x;
    }
};

template <typename T> static kd_status scale_run(const kd_call *c)
{
    const times f = {static_cast<const kd_scale_attr *>(c->attr)->value};
    return c->in[0].dtype == KD_F32 ? map_unary<float, float>(c, f) : map_unary<T, T>(c, f);
}
KD_CUDA_OP(scale)

struct same {
    __device__ float operator()(float x) const
    {
        return x;
    }
};

template <typename T> static kd_status cast_run(const kd_call *c)
{
    const kd_dtype from = c->in[0].dtype, to = c->out[0].dtype, low = kd_act_dtype<T>::value;
    const bool from_f32 = from == KD_F32, to_f32 = to == KD_F32;
    if ((!from_f32 && from != low) || (!to_f32 && to != low)) {
        return KD_E_UNSUPPORTED; /* between bf16 and fp16: no program mixes them */
    }
    return from_f32 ? (to_f32 ? map_unary<float, float>(c, same()) : map_unary<float, T>(c, same()))
                    : (to_f32 ? map_unary<T, float>(c, same()) : map_unary<T, T>(c, same()));
}
KD_CUDA_OP(cast)

/* ---- act ------------------------------------------------------------------------------------- */

struct activation {
    int kind;
    __device__ float operator()(float x) const
    {
        return kd_act(kind, x);
    }
};

template <typename T> static kd_status act_run(const kd_call *c)
{
    const activation f = {static_cast<const kd_act_attr *>(c->attr)->kind};
    return c->in[0].dtype == KD_F32 ? map_unary<float, float>(c, f) : map_unary<T, T>(c, f);
}
KD_CUDA_OP(act)

struct activation_gradient {
    int kind;
    __device__ float operator()(float x, float dy) const
    {
        return kd_act_grad(kind, x, dy);
    }
};

template <typename T> static kd_status act_bwd_run(const kd_call *c)
{
    const activation_gradient f = {static_cast<const kd_act_attr *>(c->attr)->kind};
    if (c->in[0].dtype == KD_F32) {
        map_binary<float, float>(c, kd_in<float>(c, 0), &c->in[1], f);
    } else {
        map_binary<T, T>(c, kd_in<T>(c, 0), &c->in[1], f);
    }
    return kd_launched();
}
KD_CUDA_OP(act_bwd)

/* ---- dropout --------------------------------------------------------------------------------- */

template <int N, typename T>
static __global__ void dropout_elements(const T *x, T *y, int64_t n, bool add, const kd_step *step, uint32_t item,
                                        float p)
{
    for (KD_EACH(k, kd_div_up(n, N))) {
        float v[N];
        ld_upto<N>(v, x, k * N, n);
        const kd_mask m = kd_drop_elements<N>(step, item, p, k * N);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = m.of(j, v[j]);
        }
        put_upto<N>(y, k * N, n, v, add);
    }
}

/* grid.y walks the rows, so a thread draws once a row.  A row starts on a pack: N divides it. */
template <int N, typename T>
static __global__ void dropout_rows(const T *x, T *y, int64_t rows, int64_t row, bool add, const kd_step *step,
                                    uint32_t item, float p)
{
    for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
        const kd_mask m = kd_drop_row(step, item, p, r);
        for (KD_EACH(k, row / N)) {
            float v[N];
            ld_pack<N>(v, x, r * row + k * N);
#pragma unroll
            for (int j = 0; j < N; j++) {
                v[j] = m.of(j, v[j]);
            }
            put_upto<N>(y, r * row + k * N, rows * row, v, add);
        }
    }
}

/* Blocks for `rows` rows of `packs` packs each: rows in y, all of them together as many as kd_grid would take. */
static dim3 row_grid(int64_t rows, int64_t packs)
{
    const int64_t y = rows < 65535 ? rows : 65535, most = kd_div_up(132 * 32, y), x = kd_div_up(packs, BLOCK);
    return dim3((unsigned)(x < most ? x : most), (unsigned)y);
}

template <int N, typename T> static void launch_dropout_rows(const kd_call *c, int64_t rows, int64_t row)
{
    const kd_dropout_attr *at = static_cast<const kd_dropout_attr *>(c->attr);
    KD_LAUNCH((dropout_rows<N, T>), row_grid(rows, row / N), dim3(BLOCK), c, kd_in<T>(c, 0), kd_out<T>(c, 0), rows, row,
              kd_adds(c, 0), c->step, at->rng_id, at->p);
}

template <typename T> static kd_status dropout_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const kd_dropout_attr *at = static_cast<const kd_dropout_attr *>(c->attr);
    const int64_t n = numel(&c->in[0]), rows = at->per_row ? c->in[0].shape.dim[0] : 1;
    if (n > 0 && at->per_row) {
        n / rows % N == 0 ? launch_dropout_rows<N, T>(c, rows, n / rows) : launch_dropout_rows<1, T>(c, rows, n / rows);
    } else if (n > 0) {
        KD_LAUNCH((dropout_elements<N, T>), dim3(kd_grid(kd_div_up(n, N), BLOCK)), dim3(BLOCK), c, kd_in<T>(c, 0),
                  kd_out<T>(c, 0), n, kd_adds(c, 0), c->step, at->rng_id, at->p);
    }
    return kd_launched();
}

template <typename T> static kd_status dropout_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? dropout_of<float>(c) : dropout_of<T>(c);
}
KD_CUDA_OP(dropout)

/* ---- scale_last ------------------------------------------------------------------------------ */

template <typename T> static kd_status scale_last_run(const kd_call *c)
{
    if (c->in[0].dtype == KD_F32) {
        map_binary<float, float>(c, kd_in<float>(c, 0), &c->in[1], product_of());
    } else {
        map_binary<T, float>(c, kd_in<T>(c, 0), &c->in[1], product_of());
    }
    return kd_launched();
}
KD_CUDA_OP(scale_last)

/* Terms of dg, and dx on the way where it is wanted: x and dy are read once. */
template <typename T> struct scale_last_terms {
    const T *x, *dy;
    const float *g;
    T *dx;
    bool add;
    template <int N> __device__ void pack(float *v, int64_t i, int64_t column) const
    {
        float d[N], s[N];
        ld_pack<N>(v, x, i);
        ld_pack<N>(d, dy, i);
        ld_pack<N>(s, g, column);
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] *= d[j];
            d[j] *= s[j];
        }
        if (dx != nullptr) {
            put_upto<N>(dx, i, i + N, d, add);
        }
    }
};

static size_t scale_last_bwd_scratch(const kd_call *c)
{
    const int64_t C = numel(&c->in[1]);
    return C > 0 ? kd_column_scratch(numel(&c->in[0]) / C, C) : 0;
}

template <typename T> static void scale_last_bwd_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const int64_t C = numel(&c->in[1]), rows = C > 0 ? numel(&c->in[0]) / C : 0;
    const T *dy = kd_in<T>(c, 2);
    float *dg = kd_out<float>(c, 1);
    if (dg == nullptr) {
        map_binary<T, float>(c, dy, &c->in[1], product_of());
        return;
    }
    const scale_last_terms<T> f = {kd_in<T>(c, 0), dy, kd_in<float>(c, 1), kd_out<T>(c, 0), kd_adds(c, 0)};
    if (C > 0) {
        C % N == 0 ? kd_column_sum<N>(c, f, dg, rows, C, kd_adds(c, 1))
                   : kd_column_sum<1>(c, f, dg, rows, C, kd_adds(c, 1));
    }
}

template <typename T> static kd_status scale_last_bwd_run(const kd_call *c)
{
    c->in[0].dtype == KD_F32 ? scale_last_bwd_of<float>(c) : scale_last_bwd_of<T>(c);
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(scale_last_bwd, scale_last_bwd_scratch)

/* ---- mixup, grad_seed ------------------------------------------------------------------------ */

template <int N, typename T>
static __global__ void mixup_rows(const T *x, const int32_t *perm, const float *lam, T *y, int64_t rows, int64_t row,
                                  int64_t frames, int64_t inner, bool add)
{
    for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
        const T *other = x + (int64_t)perm[r] * row;
        const float *share = lam + r * frames;
        for (KD_EACH(k, row / N)) {
            float v[N], w[N];
            ld_pack<N>(v, x, r * row + k * N);
            ld_pack<N>(w, other, k * N);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float a = frames == 1 ? share[0] : share[(k * N + j) / inner % frames], b = 1.0f - a;
                v[j] = a * v[j] + b * w[j];
            }
            put_upto<N>(y, r * row + k * N, rows * row, v, add);
        }
    }
}

template <int N, typename T> static void launch_mixup(const kd_call *c, int64_t rows, int64_t row)
{
    const int64_t frames = c->in[2].shape.rank == 2 ? c->in[0].shape.dim[2] : 1;
    const int64_t inner = c->in[2].shape.rank == 2 ? row / (c->in[0].shape.dim[1] * frames) : row;
    KD_LAUNCH((mixup_rows<N, T>), row_grid(rows, row / N), dim3(BLOCK), c, kd_in<T>(c, 0), kd_in<int32_t>(c, 1),
              kd_in<float>(c, 2), kd_out<T>(c, 0), rows, row, frames, inner, kd_adds(c, 0));
}

template <typename T> static kd_status mixup_of(const kd_call *c)
{
    constexpr int N = kd_width<T>::value;
    const int64_t n = numel(&c->in[0]), rows = c->in[0].shape.dim[0];
    if (n > 0) {
        n / rows % N == 0 ? launch_mixup<N, T>(c, rows, n / rows) : launch_mixup<1, T>(c, rows, n / rows);
    }
    return kd_launched();
}

template <typename T> static kd_status mixup_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? mixup_of<float>(c) : mixup_of<T>(c);
}
KD_CUDA_OP(mixup)

template <typename T> static __global__ void seed(T *y, const kd_step *step)
{
    st(y, 0, step->grad_scale * (step->loss_scale != nullptr ? (float)*step->loss_scale : 1.0f));
}

template <typename T> static kd_status grad_seed_run(const kd_call *c)
{
    if (c->out[0].dtype == KD_F32) {
        KD_LAUNCH((seed<float>), dim3(1), dim3(1), c, kd_out<float>(c, 0), c->step);
    } else {
        KD_LAUNCH((seed<T>), dim3(1), dim3(1), c, kd_out<T>(c, 0), c->step);
    }
    return kd_launched();
}
KD_CUDA_OP(grad_seed)
