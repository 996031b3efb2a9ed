/* time_shift, joint_gather, body_select and their gradients. */
#include "kernels/cuda/device/planes.cuh"

/* ---- time_shift ------------------------------------------------------------------------------ */

/* Element j of a plane whose frames move by one. */
template <typename T>
static __device__ __forceinline__ float shifted(const T *src, int j, const kd_planes &p, bool later, bool reverse)
{
    const bool first = j < p.V, last = j >= p.L - p.V;
    if (!reverse) {
        return ld(src, later ? (first ? j : j - p.V) : (last ? j : j + p.V));
    }
    /* the frame that stayed got two gradients, the one at the other end none */
    const bool moved = later ? !last : !first, stayed = later ? first : last;
    return (moved ? ld(src, later ? j + p.V : j - p.V) : 0.0f) + (stayed ? ld(src, j) : 0.0f);
}

template <typename T, int W>
static __global__ void time_shift_plane(const T *x, T *y, kd_planes p, int channels, bool reverse)
{
    const kd_plane here = kd_plane_here(p);
    const T *src = x + here.it * p.L;
    const bool moves = here.c < 2 * channels, later = here.c < channels;
    for (int j = (int)threadIdx.x * W; j < p.L; j += (int)blockDim.x * W) {
        float u[W];
        if (moves) {
#pragma unroll
            for (int k = 0; k < W; k++) {
                u[k] = shifted(src, j + k, p, later, reverse);
            }
        } else {
            ld_pack<W>(u, src, j);
        }
        st_pack<W>(y, here.it * p.L + j, u);
    }
}

template <typename T> static kd_status time_shift_run(const kd_call *c)
{
    constexpr int W = kd_width<T>::value;
    const kd_time_shift_attr *at = static_cast<const kd_time_shift_attr *>(c->attr);
    const kd_planes p = kd_planes_of(&c->in[0]);
    const T *x = kd_in<T>(c, 0);
    T *y = kd_out<T>(c, 0);
    const bool reverse = at->reverse != 0;
    if (numel(&c->in[0]) == 0) {
        return KD_OK;
    }
    if (p.L % W == 0) {
        KD_LAUNCH((time_shift_plane<T, W>), kd_plane_grid(p), kd_plane_block(p.L / W), c, x, y, p, at->channels,
                  reverse);
    } else {
        KD_LAUNCH((time_shift_plane<T, 1>), kd_plane_grid(p), kd_plane_block(p.L), c, x, y, p, at->channels, reverse);
    }
    return kd_launched();
}
KD_CUDA_OP(time_shift)

/* ---- joint_gather ---------------------------------------------------------------------------- */

/* The plane in the block's memory, packs in and packs out; what a row is gathered from stays inside the row. */
template <typename T, int W> static __device__ void load_frames(float *tile, const T *src, int count)
{
    for (int j = (int)threadIdx.x * W; j < count; j += (int)blockDim.x * W) {
        float u[W];
        ld_pack<W>(u, src, j);
#pragma unroll
        for (int k = 0; k < W; k++) {
            tile[j + k] = u[k];
        }
    }
}

/* w (V,C) or null. */
template <typename T, int W>
static __global__ void joint_gather_plane(const T *x, const int32_t *idx, const float *w, T *y, kd_planes p)
{
    KD_SHARED(float, tile, KD_TILE);
    KD_SHARED(int, from, KD_MAX_JOINTS);
    KD_SHARED(float, plus, KD_MAX_JOINTS);
    const kd_plane here = kd_plane_here(p);
    for (int v = (int)threadIdx.x; v < p.V; v += (int)blockDim.x) {
        from[v] = idx[(int64_t)here.c * p.V + v];
        plus[v] = w != nullptr ? w[(int64_t)v * p.C + here.c] : 0.0f;
    }
    const int step = kd_tile_frames(p.V) * p.V;
    for (int at = 0; at < p.L; at += step) {
        const int count = p.L - at < step ? p.L - at : step;
        __syncthreads();
        load_frames<T, W>(tile, x + here.it * p.L + at, count);
        __syncthreads();
        for (int j = (int)threadIdx.x * W; j < count; j += (int)blockDim.x * W) {
            float u[W];
            int v = j % p.V, row = j - v;
#pragma unroll
            for (int k = 0; k < W; k++) {
                u[k] = tile[row + from[v]] + plus[v];
                if (++v == p.V) {
                    v = 0;
                    row += p.V;
                }
            }
            st_pack<W>(y, here.it * p.L + at + j, u);
        }
    }
}

/* The sources of every joint, ascending: those of joint v are list[start[v] .. start[v + 1]). */
static __device__ void invert(const int32_t *idx, int V, int *from, int *start, int *list)
{
    for (int v = (int)threadIdx.x; v < V; v += (int)blockDim.x) {
        from[v] = idx[v];
    }
    __syncthreads();
    for (int v = (int)threadIdx.x; v <= V; v += (int)blockDim.x) {
        int at = 0;
        for (int j = 0; j < V; j++) {
            at += from[j] < v;
        }
        start[v] = at;
        for (int j = 0; j < V; j++) {
            if (from[j] == v) {
                list[at++] = j;
            }
        }
    }
}

/* dx[v] = plus + sum of dy over the joints that read v: a gather too, in a fixed order. */
template <typename T, int W>
static __global__ void joint_gather_back(const T *dy, const int32_t *idx, const T *plus, T *dx, kd_planes p)
{
    KD_SHARED(float, tile, KD_TILE);
    KD_SHARED(int, from, KD_MAX_JOINTS);
    KD_SHARED(int, start, KD_MAX_JOINTS + 1);
    KD_SHARED(int, list, KD_MAX_JOINTS);
    const kd_plane here = kd_plane_here(p);
    invert(idx + (int64_t)here.c * p.V, p.V, from, start, list);
    const int step = kd_tile_frames(p.V) * p.V;
    for (int at = 0; at < p.L; at += step) {
        const int count = p.L - at < step ? p.L - at : step;
        __syncthreads();
        load_frames<T, W>(tile, dy + here.it * p.L + at, count);
        __syncthreads();
        for (int j = (int)threadIdx.x * W; j < count; j += (int)blockDim.x * W) {
            float u[W] = {};
            int v = j % p.V, row = j - v;
            if (plus != nullptr) {
                ld_pack<W>(u, plus, here.it * p.L + at + j);
            }
#pragma unroll
            for (int k = 0; k < W; k++) {
                for (int i = start[v]; i < start[v + 1]; i++) {
                    u[k] += tile[row + list[i]];
                }
                if (++v == p.V) {
                    v = 0;
                    row += p.V;
                }
            }
            st_pack<W>(dx, here.it * p.L + at + j, u);
        }
    }
}

template <typename T, int W> static void launch_gather(const kd_call *c, const kd_planes &p, bool back)
{
    const T *x = kd_in<T>(c, 0);
    const int32_t *idx = kd_in<int32_t>(c, 1);
    T *y = kd_out<T>(c, 0);
    if (back) {
        KD_LAUNCH((joint_gather_back<T, W>), kd_plane_grid(p), kd_plane_block(p.L / W), c, x, idx, kd_in<T>(c, 2), y,
                  p);
    } else {
        KD_LAUNCH((joint_gather_plane<T, W>), kd_plane_grid(p), kd_plane_block(p.L / W), c, x, idx, kd_in<float>(c, 2),
                  y, p);
    }
}

template <typename T> static kd_status gather_run(const kd_call *c, bool back)
{
    const kd_planes p = kd_planes_of(&c->in[0]);
    if (numel(&c->in[0]) == 0) {
        return KD_OK;
    }
    p.L % kd_width<T>::value == 0 ? launch_gather<T, kd_width<T>::value>(c, p, back) : launch_gather<T, 1>(c, p, back);
    return kd_launched();
}

template <typename T> static kd_status joint_gather_run(const kd_call *c)
{
    return gather_run<T>(c, false);
}
KD_CUDA_OP(joint_gather)

template <typename T> static kd_status joint_gather_bwd_x_run(const kd_call *c)
{
    return gather_run<T>(c, true);
}
KD_CUDA_OP(joint_gather_bwd_x)

constexpr int EMBED_THREADS = 256, EMBED_SAMPLES = 8, EMBED_SLICES = 64;

static int64_t embed_slices(const kd_call *c)
{
    const int64_t n = kd_div_up(c->in[0].shape.dim[0], EMBED_SAMPLES);
    return n < 1 ? 1 : n < EMBED_SLICES ? n : EMBED_SLICES;
}

/* part (slices, C, V): sums over the frames of a slice of samples.  As many whole rows of V threads as fit: a thread
 * keeps to its joint, and neighbours read neighbours. */
template <typename T> static __global__ void joint_gather_w_slice(const T *dy, float *part, kd_planes p, int64_t per)
{
    KD_SHARED(float, sums, EMBED_THREADS);
    const int t = (int)threadIdx.x, lines = EMBED_THREADS / p.V, line = t / p.V, v = t % p.V;
    const int c = (int)blockIdx.x;
    const int64_t from = (int64_t)blockIdx.y * per, to = from + per < p.n ? from + per : p.n;
    float sum = 0.0f;
    for (int64_t n = from; line < lines && n < to; n++) {
        const T *src = dy + (n * p.C + c) * p.L;
        for (int f = line; f < p.T; f += lines) {
            sum += ld(src, f * p.V + v);
        }
    }
    sums[t] = sum;
    __syncthreads();
    if (t < p.V) {
        for (int l = 1; l < lines; l++) {
            sum += sums[l * p.V + t];
        }
        part[((int64_t)blockIdx.y * p.C + c) * p.V + t] = sum;
    }
}

static __global__ void joint_gather_w_params(const float *part, int slices, float *dw, int C, int V, bool add)
{
    for (KD_EACH(i, (int64_t)C * V)) {
        float sum = 0.0f;
        for (int s = 0; s < slices; s++) {
            sum += part[(int64_t)s * C * V + i];
        }
        put(dw, i % V * C + i / V, sum, add);
    }
}

static size_t joint_gather_bwd_w_scratch(const kd_call *c)
{
    return (size_t)(embed_slices(c) * c->in[0].shape.dim[1] * c->in[0].shape.dim[3]) * sizeof(float);
}

template <typename T> static kd_status joint_gather_bwd_w_run(const kd_call *c)
{
    const kd_planes p = kd_planes_of(&c->in[0]);
    const int64_t slices = embed_slices(c);
    float *part = static_cast<float *>(c->scratch);
    if (p.C == 0) {
        return KD_OK;
    }
    KD_LAUNCH((joint_gather_w_slice<T>), dim3((unsigned)p.C, (unsigned)slices), dim3(EMBED_THREADS), c, kd_in<T>(c, 0),
              part, p, kd_div_up(p.n, slices));
    KD_LAUNCH(joint_gather_w_params, dim3(kd_grid((int64_t)p.C * p.V, 128)), dim3(128), c, part, (int)slices,
              kd_out<float>(c, 0), p.C, p.V, kd_adds(c, 0));
    return kd_launched();
}
KD_CUDA_OP_SCRATCH(joint_gather_bwd_w, joint_gather_bwd_w_scratch)

/* ---- body_select: the input may be act or stat ----------------------------------------------- */

constexpr int BODY_THREADS = 256;

/* y (copies * n, size): copy m takes body m. */
template <typename X>
static __global__ void body_copy(const X *x, X *y, int64_t n, int64_t size, int64_t copies, int64_t bodies)
{
    for (KD_EACH(i, copies * n * size)) {
        const int64_t it = i / size, m = it / n;
        st(y, i, ld(x, ((it - m * n) * size + i % size) * bodies + m));
    }
}

/* Frames of body m in which anything is non-zero; x is one sample. */
template <typename X> static __device__ double active_frames(const X *x, int C, int T, int V, int64_t bodies, int64_t m)
{
    double frames = 0.0;
    for (int f = (int)threadIdx.x; f < T; f += BODY_THREADS) {
        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            for (int v = 0; v < V; v++) {
                sum += fabsf(ld(x, (((int64_t)c * T + f) * V + v) * bodies + m));
            }
        }
        frames += sum > 0.0f ? 1.0 : 0.0;
    }
    return kd_block_sum(frames);
}

/* A block a sample. */
template <typename X> static __global__ void body_active(const X *x, X *y, int C, int T, int V, int64_t bodies)
{
    const int64_t size = (int64_t)C * T * V;
    const X *src = x + (int64_t)blockIdx.x * size * bodies;
    int64_t body = 0;
    double best = -1.0;
    for (int64_t m = 0; m < bodies; m++) {
        const double frames = active_frames(src, C, T, V, bodies, m);
        if (frames > best) {
            best = frames;
            body = m;
        }
    }
    for (int64_t j = (int64_t)threadIdx.x; j < size; j += BODY_THREADS) {
        st(y, (int64_t)blockIdx.x * size + j, ld(src, j * bodies + body));
    }
}

template <typename X> static kd_status select_bodies(const kd_call *c)
{
    const kd_body_select_attr *at = static_cast<const kd_body_select_attr *>(c->attr);
    const int64_t *d = c->in[0].shape.dim, size = d[1] * d[2] * d[3];
    const X *x = kd_in<X>(c, 0);
    X *y = kd_out<X>(c, 0);
    if (numel(&c->in[0]) == 0) {
        return KD_OK;
    }
    if (at->mode == KD_BODY_ACTIVE) {
        KD_LAUNCH((body_active<X>), dim3((unsigned)d[0]), dim3(BODY_THREADS), c, x, y, (int)d[1], (int)d[2], (int)d[3],
                  d[4]);
    } else {
        const int64_t copies = at->mode == KD_BODY_STACK ? d[4] : 1;
        KD_LAUNCH((body_copy<X>), dim3(kd_grid(copies * d[0] * size, BODY_THREADS)), dim3(BODY_THREADS), c, x, y, d[0],
                  size, copies, d[4]);
    }
    return kd_launched();
}

template <typename T> static kd_status body_select_run(const kd_call *c)
{
    return c->in[0].dtype == KD_F32 ? select_bodies<float>(c) : select_bodies<T>(c);
}
KD_CUDA_OP(body_select)
