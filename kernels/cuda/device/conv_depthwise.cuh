/* Geometry of a conv2d call, and depthwise convolutions (one channel in, one out, a group): part of conv2d.cu.
 *
 * The students' are over time, kernel (KH,1): a thread computes eight rows of one joint, spaced by the
 * dilation, so that 8 + KH - 1 loads serve 8 KH independent products.  All other shapes use a plain kernel. */
#ifndef KD_KERNELS_CUDA_DEVICE_CONV_DEPTHWISE_CUH
#define KD_KERNELS_CUDA_DEVICE_CONV_DEPTHWISE_CUH

#include "kernels/cuda/device/kd_cuda.cuh"

/* BACK: the kernel reads dy and writes dx; else it reads x and writes y. */
struct conv_geom {
    int64_t n;
    int ci, h, w, co, ho, wo, kh, kw, sh, sw, ph, pw, dh, dw, groups, cig, cog;

    __host__ __device__ bool depthwise() const
    {
        return cig == 1 && cog == 1;
    }
    __host__ __device__ bool point() const /* 1x1: positions of x and y coincide */
    {
        return kh == 1 && kw == 1 && sh == 1 && sw == 1 && ph == 0 && pw == 0;
    }
    template <bool BACK> __host__ __device__ int64_t out_plane() const
    {
        return BACK ? (int64_t)h * w : (int64_t)ho * wo;
    }
    template <bool BACK> __host__ __device__ int64_t in_plane() const
    {
        return out_plane<!BACK>();
    }
    /* Index in the input plane that output (row, col) reads through tap (ky, kx); -1: padding. */
    template <bool BACK> __device__ __forceinline__ int64_t source(int row, int col, int ky, int kx) const
    {
        int y, x, top, right;
        if (BACK) {
            y = row + ph - ky * dh;
            x = col + pw - kx * dw;
            if (y < 0 || x < 0 || y % sh != 0 || x % sw != 0) {
                return -1;
            }
            y /= sh;
            x /= sw;
            top = ho;
            right = wo;
        } else {
            y = row * sh + ky * dh - ph;
            x = col * sw + kx * dw - pw;
            top = h;
            right = w;
        }
        return y >= 0 && y < top && x >= 0 && x < right ? (int64_t)y * right + x : -1;
    }
};

static inline conv_geom conv_geometry(const kd_conv2d_attr *a, const kd_shape *x, const kd_shape *y, int64_t kh,
                                      int64_t kw)
{
    conv_geom g = {};
    g.n = x->dim[0];
    g.ci = (int)x->dim[1];
    g.h = (int)x->dim[2];
    g.w = (int)x->dim[3];
    g.co = (int)y->dim[1];
    g.ho = (int)y->dim[2];
    g.wo = (int)y->dim[3];
    g.kh = (int)kh;
    g.kw = (int)kw;
    g.sh = a->stride[0];
    g.sw = a->stride[1];
    g.ph = a->pad[0];
    g.pw = a->pad[1];
    g.dh = a->dilation[0];
    g.dw = a->dilation[1];
    g.groups = a->groups;
    g.cig = g.ci / g.groups;
    g.cog = g.co / g.groups;
    return g;
}

constexpr int DEEP_BLOCK = 256;

/* ---- any depthwise shape: a thread an element ------------------------------------------------ */

template <typename T, bool BACK>
static __global__ __launch_bounds__(DEEP_BLOCK) void deep_any(const T *src, const T *w, const float *bias,
                                                              const T *plus, T *out, conv_geom g, int act)
{
    const int64_t plane = g.template out_plane<BACK>(), in_plane = g.template in_plane<BACK>();
    const int width = BACK ? g.w : g.wo, taps = g.kh * g.kw;
    for (KD_EACH(e, g.n * g.co * plane)) {
        const int64_t s = kd_div(e, plane), p = e - s * plane, ch = kd_mod(s, g.co);
        const int row = (int)kd_div(p, width), col = (int)(p - (int64_t)row * width);
        float sum = bias != nullptr ? bias[ch] : 0.0f;
        for (int k = 0; k < taps; k++) {
            const int64_t at = g.template source<BACK>(row, col, k / g.kw, k % g.kw);
            sum += ld(w, ch * taps + k) * (at < 0 ? 0.0f : ld(src, s * in_plane + at));
        }
        sum = kd_act(act, sum);
        st(out, e, plus != nullptr ? sum + ld(plus, e) : sum);
    }
}

/* part (splits, C taps + C): sums of dy x over the samples of a split, then of dy.  blockIdx: (channel, tap or bias;
 * split). */
template <typename T>
static __global__ __launch_bounds__(DEEP_BLOCK) void deep_any_w(const T *dy, const T *x, float *part, conv_geom g,
                                                                int64_t per)
{
    const int taps = g.kh * g.kw, ch = (int)blockIdx.x / (taps + 1), k = (int)blockIdx.x % (taps + 1);
    const int64_t plane = g.out_plane<false>(), in_plane = g.in_plane<false>(), nw = (int64_t)g.co * taps;
    const int64_t from = blockIdx.y * per, to = from + per < g.n ? from + per : g.n;
    float sum = 0.0f;
    for (int64_t e = from * plane + threadIdx.x; e < to * plane; e += DEEP_BLOCK) {
        const int64_t n = kd_div(e, plane), p = e - n * plane, s = n * g.co + ch;
        float v = 1.0f;
        if (k < taps) {
            const int row = (int)kd_div(p, g.wo), col = (int)(p - (int64_t)row * g.wo);
            const int64_t at = g.source<false>(row, col, k / g.kw, k % g.kw);
            v = at < 0 ? 0.0f : ld(x, s * in_plane + at);
        }
        sum += v * ld(dy, s * plane + p);
    }
    sum = kd_block_sum(sum);
    if (threadIdx.x == 0) {
        part[blockIdx.y * (nw + g.co) + (k < taps ? (int64_t)ch * taps + k : nw + ch)] = sum;
    }
}

/* ---- over time: kernel (KH,1) ---------------------------------------------------------------- */

constexpr int DEEP_ROWS = 8;

/* Output rows o, o + step, .. read input rows (o stride - pad) + (i M + k) dilation, i the output, k the tap: M step
 * stride = ... = M dilation.  Forward, and backward without a stride, where it is the convolution with the taps
 * reversed. */
struct deep_job {
    int C, width, in_rows, out_rows, stride, pad, dilation, step;
    int threads; /* a plane: (groups of rows) x width */
    bool flip;
};

/* M (1 or 2), or 0 if the convolution is not of this form. */
static inline int deep_rows_form(const conv_geom &g, bool back, deep_job *j)
{
    if (g.kw != 1 || g.sw != 1 || g.pw != 0 || (back && g.sh != 1)) {
        return 0;
    }
    *j = {g.co, g.w, back ? g.ho : g.h, back ? g.h : g.ho, g.sh, back ? (g.kh - 1) * g.dh - g.ph : g.ph, g.dh, 1,
          0,    back};
    const int form = g.dh % g.sh == 0 ? 1 : g.sh == 2 * g.dh ? 2 : 0;
    j->step = form == 1 ? g.dh / g.sh : 1;
    j->threads = (int)kd_div_up(j->out_rows, DEEP_ROWS * j->step) * j->step * j->width;
    return form;
}

/* Thread `e` of a plane: its column and first output row. */
static __device__ __forceinline__ void deep_place(const deep_job &j, int e, int *col, int *first)
{
    const int group = e / j.width;
    *col = e - group * j.width;
    *first = group / j.step * (DEEP_ROWS * j.step) + group % j.step;
}

/* v[i] = rows first + i step of a plane's column, zero outside. */
template <int N, typename T>
static __device__ __forceinline__ void deep_read(float *v, const T *plane, int first, int step, int rows, int width,
                                                 int col)
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int r = first + i * step;
        v[i] = r >= 0 && r < rows ? ld(plane, (int64_t)r * width + col) : 0.0f;
    }
}

template <typename T, int KH, int M>
static __global__ __launch_bounds__(DEEP_BLOCK) void deep_rows(const T *src, const T *w, const float *bias,
                                                               const T *plus, T *out, deep_job j, int64_t planes,
                                                               int act)
{
    constexpr int WINDOW = (DEEP_ROWS - 1) * M + KH;
    for (KD_EACH(e, planes * j.threads)) {
        const int64_t s = kd_div(e, j.threads), ch = kd_mod(s, j.C);
        int col, first;
        deep_place(j, (int)(e - s * j.threads), &col, &first);
        float x[WINDOW], tap[KH], sum[DEEP_ROWS];
        deep_read<WINDOW>(x, src + s * j.in_rows * j.width, first * j.stride - j.pad, j.dilation, j.in_rows, j.width,
                          col);
#pragma unroll
        for (int k = 0; k < KH; k++) {
            tap[k] = ld(w, ch * KH + (j.flip ? KH - 1 - k : k));
        }
        const float b = bias != nullptr ? bias[ch] : 0.0f;
#pragma unroll
        for (int i = 0; i < DEEP_ROWS; i++) {
            sum[i] = b;
        }
        if (plus != nullptr) { /* only a gradient has plus, and it has no bias */
            deep_read<DEEP_ROWS>(sum, plus + s * j.out_rows * j.width, first, j.step, j.out_rows, j.width, col);
        }
#pragma unroll
        for (int i = 0; i < DEEP_ROWS; i++) {
            const int row = first + i * j.step;
#pragma unroll
            for (int k = 0; k < KH; k++) {
                sum[i] += tap[k] * x[i * M + k];
            }
            if (row < j.out_rows) {
                st(out, (s * j.out_rows + row) * j.width + col, kd_act(act, sum[i]));
            }
        }
    }
}

/* dx for stride 2: input row 2 t + odd - pad gets tap k from output row t - k D / 2 where k D % 2 is `odd`.  A thread
 * computes four t, that is eight rows.  A tap that a row skips counts as a product with 0, so a NaN tap shows. */
template <typename T, int KH, int D>
static __global__ __launch_bounds__(DEEP_BLOCK) void deep_rows_back2(const T *dy, const T *w, const T *plus, T *dx,
                                                                     conv_geom g, int64_t planes)
{
    constexpr int HALF = DEEP_ROWS / 2, REACH = (KH - 1) * D / 2;
    const int t_first = g.ph / 2, threads = ((g.h - 1 + g.ph) / 2 - t_first + HALF) / HALF * g.w;
    for (KD_EACH(e, planes * threads)) {
        const int64_t s = kd_div(e, threads), ch = kd_mod(s, g.co);
        const int in = (int)(e - s * threads), group = in / g.w, col = in - group * g.w, t = t_first + group * HALF;
        float v[HALF + REACH], sum[DEEP_ROWS] = {}, skipped[2] = {};
        deep_read<HALF + REACH>(v, dy + s * g.ho * g.w, t - REACH, 1, g.ho, g.w, col);
        if (plus != nullptr) {
            deep_read<DEEP_ROWS>(sum, plus + s * g.h * g.w, 2 * t - g.ph, 1, g.h, g.w, col);
        }
#pragma unroll
        for (int k = 0; k < KH; k++) {
            const float tap = ld(w, ch * KH + k);
            skipped[1 - k * D % 2] += tap * 0.0f;
#pragma unroll
            for (int i = 0; i < HALF; i++) {
                sum[2 * i + k * D % 2] += tap * v[i + REACH - k * D / 2];
            }
        }
#pragma unroll
        for (int i = 0; i < DEEP_ROWS; i++) {
            const int row = 2 * t + i - g.ph;
            if (row >= 0 && row < g.h) {
                st(dx, (s * g.h + row) * g.w + col, sum[i] + skipped[i % 2]);
            }
        }
    }
}

/* part as in deep_any_w.  blockIdx: (channel, split). */
template <typename T, int KH, int M>
static __global__ __launch_bounds__(DEEP_BLOCK) void deep_rows_w(const T *dy, const T *x, float *part, deep_job j,
                                                                 int64_t n, int64_t per)
{
    constexpr int WINDOW = (DEEP_ROWS - 1) * M + KH;
    const int64_t ch = blockIdx.x, nw = (int64_t)j.C * KH;
    const int64_t from = blockIdx.y * per, to = from + per < n ? from + per : n;
    float tap[KH] = {}, all = 0.0f;
    for (int64_t e = from * j.threads + threadIdx.x; e < to * j.threads; e += DEEP_BLOCK) {
        const int64_t sample = kd_div(e, j.threads), s = sample * j.C + ch;
        int col, first;
        deep_place(j, (int)(e - sample * j.threads), &col, &first);
        float v[WINDOW], d[DEEP_ROWS];
        deep_read<WINDOW>(v, x + s * j.in_rows * j.width, first * j.stride - j.pad, j.dilation, j.in_rows, j.width,
                          col);
        deep_read<DEEP_ROWS>(d, dy + s * j.out_rows * j.width, first, j.step, j.out_rows, j.width, col);
#pragma unroll
        for (int i = 0; i < DEEP_ROWS; i++) {
            all += d[i];
#pragma unroll
            for (int k = 0; k < KH; k++) {
                tap[k] += d[i] * v[i * M + k];
            }
        }
    }
    part += blockIdx.y * (nw + j.C);
#pragma unroll
    for (int k = 0; k <= KH; k++) {
        const float sum = kd_block_sum(k < KH ? tap[k < KH ? k : 0] : all);
        if (threadIdx.x == 0) {
            part[k < KH ? ch * KH + k : nw + ch] = sum;
        }
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

template <typename T, int KH> static bool launch_deep_rows(const kd_call *c, const conv_geom &g, bool back, int act)
{
    deep_job j = {};
    const int form = deep_rows_form(g, back, &j);
    const int64_t planes = g.n * g.co;
    const T *src = kd_in<T>(c, 0), *w = kd_in<T>(c, 1);
    const float *bias = back ? nullptr : kd_in<float>(c, 2);
    const T *plus = back ? kd_in<T>(c, 2) : nullptr;
    T *out = kd_out<T>(c, 0);
    if (form == 1) {
        KD_LAUNCH((deep_rows<T, KH, 1>), dim3(kd_grid(planes * j.threads, DEEP_BLOCK)), dim3(DEEP_BLOCK), c, src, w,
                  bias, plus, out, j, planes, act);
    } else if (form == 2) {
        KD_LAUNCH((deep_rows<T, KH, 2>), dim3(kd_grid(planes * j.threads, DEEP_BLOCK)), dim3(DEEP_BLOCK), c, src, w,
                  bias, plus, out, j, planes, act);
    }
    return form != 0;
}

template <typename T, int KH> static bool launch_deep_back2(const kd_call *c, const conv_geom &g)
{
    const dim3 grid(kd_grid(g.n * g.co * kd_div_up(g.h + 2, DEEP_ROWS) * g.w, DEEP_BLOCK)), block(DEEP_BLOCK);
    if (g.kw != 1 || g.sw != 1 || g.pw != 0 || g.sh != 2 || g.dh > 2) {
        return false;
    }
    if (g.dh == 1) {
        KD_LAUNCH((deep_rows_back2<T, KH, 1>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), kd_in<T>(c, 2),
                  kd_out<T>(c, 0), g, g.n * g.co);
    } else {
        KD_LAUNCH((deep_rows_back2<T, KH, 2>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), kd_in<T>(c, 2),
                  kd_out<T>(c, 0), g, g.n * g.co);
    }
    return true;
}

template <typename T, int KH, bool BACK> static bool launch_deep(const kd_call *c, const conv_geom &g, int act)
{
    return launch_deep_rows<T, KH>(c, g, BACK, act) || (BACK && launch_deep_back2<T, KH>(c, g));
}

template <typename T, bool BACK> static void launch_depthwise(const kd_call *c, const conv_geom &g, int act)
{
    const int64_t n = g.n * g.co * g.out_plane<BACK>();
    if (n == 0 || (g.kh == 9 && launch_deep<T, 9, BACK>(c, g, act)) ||
        (g.kh == 5 && launch_deep<T, 5, BACK>(c, g, act)) || (g.kh == 3 && launch_deep<T, 3, BACK>(c, g, act)) ||
        (g.kh == 1 && launch_deep<T, 1, BACK>(c, g, act))) {
        return;
    }
    KD_LAUNCH((deep_any<T, BACK>), dim3(kd_grid(n, DEEP_BLOCK)), dim3(DEEP_BLOCK), c, kd_in<T>(c, 0), kd_in<T>(c, 1),
              BACK ? nullptr : kd_in<float>(c, 2), BACK ? kd_in<T>(c, 2) : nullptr, kd_out<T>(c, 0), g, act);
}

/* Splits of the samples for the weights' gradient. */
static inline int64_t deep_splits(const conv_geom &g)
{
    const int64_t want = 132 * 8 / (g.co + 1) + 1;
    return g.n < 1 ? 1 : want < g.n ? want : g.n;
}

template <typename T, int KH> static bool launch_deep_w(const kd_call *c, const conv_geom &g, float *part)
{
    deep_job j = {};
    const int form = deep_rows_form(g, false, &j);
    const int64_t splits = deep_splits(g), per = kd_div_up(g.n, splits);
    const dim3 grid((unsigned)g.co, (unsigned)splits), block(DEEP_BLOCK);
    if (form == 1) {
        KD_LAUNCH((deep_rows_w<T, KH, 1>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, j, g.n, per);
    } else if (form == 2) {
        KD_LAUNCH((deep_rows_w<T, KH, 2>), grid, block, c, kd_in<T>(c, 0), kd_in<T>(c, 1), part, j, g.n, per);
    }
    return form != 0;
}

/* Partial sums of dW and db: part (deep_splits, Co taps + Co). */
template <typename T> static void launch_depthwise_w(const kd_call *c, const conv_geom &g, float *part)
{
    if ((g.kh == 9 && launch_deep_w<T, 9>(c, g, part)) || (g.kh == 5 && launch_deep_w<T, 5>(c, g, part)) ||
        (g.kh == 3 && launch_deep_w<T, 3>(c, g, part)) || (g.kh == 1 && launch_deep_w<T, 1>(c, g, part))) {
        return;
    }
    const int64_t splits = deep_splits(g);
    KD_LAUNCH((deep_any_w<T>), dim3((unsigned)(g.co * (g.kh * g.kw + 1)), (unsigned)splits), dim3(DEEP_BLOCK), c,
              kd_in<T>(c, 0), kd_in<T>(c, 1), part, g, kd_div_up(g.n, splits));
}

#endif
