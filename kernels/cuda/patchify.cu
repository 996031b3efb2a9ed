/* patchify: normalised, placed, mixed and cut into rows in one pass over the clip.  A thread makes N neighbouring
 * pixels of all channels, so that each byte of a picture is read once; neighbouring threads write neighbouring packs of
 * a row. */
#include "kernels/cuda/device/kd_cuda.cuh"
#include "kernels/kd_pixels.h"

constexpr int BLOCK = 256;
constexpr int BYTES = 256; /* values a byte has */

struct patches {
    int C, T, H, W, t, p;
    int Gt, Gh, Gw; /* patches each way */
    int64_t count;  /* of the whole batch */
};

static patches patches_of(const kd_shape *x, bool pictures, const kd_patchify_attr *at)
{
    const int64_t *d = x->dim;
    patches g = {(int)d[1], (int)d[2], (int)d[3], (int)d[4], at->tubelet, at->patch, 0, 0, 0, 0};
    if (pictures) {
        g.C = (int)d[4];
        g.T = (int)d[1];
        g.H = (int)d[2];
        g.W = (int)d[3];
    }
    g.Gt = g.T / g.t;
    g.Gh = g.H / g.p;
    g.Gw = g.W / g.p;
    g.count = d[0] * g.Gt * g.Gh * g.Gw;
    return g;
}

/* Where something lies in the batch. */
struct spot {
    int64_t b;
    int t, y, x;
};

static __device__ __forceinline__ spot corner_of(const patches &g, int64_t k)
{
    const int64_t ky = kd_div(k, g.Gw), kt = kd_div(ky, g.Gh), b = kd_div(kt, g.Gt);
    spot s;
    s.b = b;
    s.t = (int)(kt - b * g.Gt) * g.t;
    s.y = (int)(ky - kt * g.Gh) * g.p;
    s.x = (int)(k - ky * g.Gw) * g.p;
    return s;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Operands of patchify; pointers may be null. */
struct clips {
    const float *table, *lam;
    const int32_t *place, *perm, *cut;
    int boxes; /* of a sample, in place */
};

/* N pixels of a row of a clip, channel by channel. */
template <int N, typename S> struct run_of {
    const S *p;
    int64_t plane;

    __device__ __forceinline__ void seek(const S *x, const patches &g, const spot &at, int col)
    {
        plane = (int64_t)g.T * g.H * g.W;
        p = x + at.b * g.C * plane + ((int64_t)at.t * g.H + at.y) * g.W + col;
    }
    __device__ __forceinline__ void get(float *v, int ch, const float *lut) const
    {
        (void)lut;
        ld_pack<N>(v, p, ch * plane);
    }
};
template <int N> struct run_of<N, uint8_t> {
    kd_pack<uint8_t, N> q[3];

    __device__ __forceinline__ void seek(const uint8_t *x, const patches &g, const spot &at, int col)
    {
        const uint8_t *p = x + (((at.b * g.T + at.t) * g.H + at.y) * g.W + col) * 3;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            q[i] = *reinterpret_cast<const kd_pack<uint8_t, N> *>(p + i * N);
        }
    }
    /* ch is the counter of an unrolled loop: no byte is looked up by a number known only at run time. */
    __device__ __forceinline__ void get(float *v, int ch, const float *lut) const
    {
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = lut[ch * BYTES + q[(3 * j + ch) / N].v[(3 * j + ch) % N]];
        }
    }
};

/* Rare and long: one copy, whoever calls. */
static __device__ KD_NOINLINE float fill_of(const int32_t *place, int64_t element, int64_t patch)
{
    return (float)kd_place_fill(place, element, patch);
}

/* The same N pixels placed: mirrored, erased. */
template <int N, typename S> struct seen {
    run_of<N, S> run;
    const int32_t *place; /* of this sample, where an erase box meets the run */
    bool flip;
    int boxes, t, y, x;
    int64_t pixel; /* of the clip, the first of the run */

    __device__ __forceinline__ void seek(const S *src, const clips &s, const patches &g, const spot &at)
    {
        const int32_t *l = s.place == nullptr ? nullptr : s.place + at.b * (KD_PLACE + KD_BOX * s.boxes);
        flip = l != nullptr && l[KD_PLACE_FLIP] != 0;
        run.seek(src, g, at, flip ? g.W - N - at.x : at.x);
        bool erased = false;
        for (int k = 0; l != nullptr && k < s.boxes; k++) {
            erased = erased || kd_box_meets(kd_place_box(l, k), at.t, at.y, at.x, N);
        }
        place = erased ? l : nullptr;
        boxes = s.boxes;
        t = at.t;
        y = at.y;
        x = at.x;
        pixel = ((int64_t)at.t * g.H + at.y) * g.W + at.x;
    }
    __device__ __forceinline__ void get(float *v, int ch, int channels, const float *lut) const
    {
        run.get(v, ch, lut);
#pragma unroll
        for (int j = 0; j < N / 2; j++) {
            const float a = v[j], b = v[N - 1 - j];
            v[j] = flip ? b : a;
            v[N - 1 - j] = flip ? a : b;
        }
        for (int k = 0; place != nullptr && k < boxes; k++) {
            const int32_t *box = kd_place_box(place, k);
            if (!kd_box_meets(box, t, y, x, N)) {
                continue;
            }
#pragma unroll
            for (int j = 0; j < N; j++) {
                if (kd_within(x + j, box[KD_BOX_LEFT], box[KD_BOX_WIDTH])) {
                    v[j] = fill_of(place, (pixel + j) * channels + ch, ((int64_t)t * boxes + k) * channels + ch);
                }
            }
        }
    }
};

/* PLAIN: no places, no mixing; a third of the registers. */
template <int N, bool PLAIN, typename S, typename D>
static __global__ void __launch_bounds__(BLOCK) patch_rows(const S *x, clips s, patches g, D *dst)
{
    s.place = PLAIN ? nullptr : s.place;
    s.perm = PLAIN ? nullptr : s.perm;
    constexpr bool pictures = sizeof(S) == 1;
    KD_SHARED(float, lut, pictures ? 3 * BYTES : 1);
    if (pictures) {
        for (int i = (int)threadIdx.x; i < 3 * BYTES; i += BLOCK) {
            lut[i] = s.table[i];
        }
        __syncthreads();
    }
    const int packs = g.p / N, cells = g.t * g.p * packs, channels = pictures ? 3 : g.C;
    for (KD_EACH(i, g.count * cells)) {
        const int64_t k = kd_div(i, cells);
        const int r = (int)(i - k * cells), line = r / packs;
        spot at = corner_of(g, k);
        at.x += (r - line * packs) * N;
        at.y += line % g.p;
        at.t += line / g.p;
        const int32_t *box = s.perm != nullptr && s.cut != nullptr ? s.cut + 4 * at.b : nullptr;
        const bool cut = box != nullptr && box[2] > 0 && box[3] > 0;
        const bool boxed = cut && kd_within(at.y, box[0], box[2]) && kd_meets(at.x, N, box[1], box[3]);
        const bool mixed = s.perm != nullptr && (!cut || boxed);
        const float a = mixed ? s.lam[at.b] : 1.0f, b = 1.0f - a;
        seen<N, S> own, other = {}; /* g++ does not see that both uses of other ask for mixed */
        own.seek(x, s, g, at);
        if (mixed) {
            spot there = at;
            there.b = s.perm[at.b];
            other.seek(x, s, g, there);
        }
        const int64_t to = k * channels * cells * N + (int64_t)r * N;
#pragma unroll
        for (int ch = 0; ch < channels; ch++) {
            float v[N], w[N];
            own.get(v, ch, channels, lut);
            if (mixed) {
                other.get(w, ch, channels, lut);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    v[j] = !cut ? a * v[j] + b * w[j] : kd_within(at.x + j, box[1], box[3]) ? w[j] : v[j];
                }
            }
            st_pack<N>(dst, to + (int64_t)ch * cells * N, v);
        }
    }
}

template <int N, typename S, typename D> static void launch_rows(const kd_call *c, const patches &g)
{
    const bool placed = kd_in<int32_t>(c, 2) != nullptr;
    const clips s = {kd_in<float>(c, 1),   kd_in<float>(c, 4),
                     kd_in<int32_t>(c, 2), kd_in<int32_t>(c, 3),
                     kd_in<int32_t>(c, 5), placed ? (int)((c->in[2].shape.dim[1] - KD_PLACE) / KD_BOX) : 0};
    const unsigned blocks = kd_grid(g.count * g.t * g.p * (g.p / N), BLOCK), most = 132 * 8; /* each reads the table */
    const dim3 grid(blocks < most ? blocks : most);
    if (s.place == nullptr && s.perm == nullptr) {
        KD_LAUNCH((patch_rows<N, true, S, D>), grid, dim3(BLOCK), c, kd_in<S>(c, 0), s, g, kd_out<D>(c, 0));
    } else {
        KD_LAUNCH((patch_rows<N, false, S, D>), grid, dim3(BLOCK), c, kd_in<S>(c, 0), s, g, kd_out<D>(c, 0));
    }
}

template <typename S, typename D> static void rows_of(const kd_call *c)
{
    constexpr int N = sizeof(S) > 1 && sizeof(S) < sizeof(D) ? kd_width<S>::value : kd_width<D>::value;
    const patches g = patches_of(&c->in[0].shape, sizeof(S) == 1, static_cast<const kd_patchify_attr *>(c->attr));
    if (g.count > 0) {
        g.p % N == 0 ? launch_rows<N, S, D>(c, g) : launch_rows<1, S, D>(c, g); /* W is whole patches */
    }
}

template <typename T> static kd_status patchify_run(const kd_call *c)
{
    switch (c->in[0].dtype) {
    case KD_U8:
        rows_of<uint8_t, T>(c);
        break;
    case KD_F32:
        rows_of<float, T>(c);
        break;
    default:
        rows_of<T, T>(c);
    }
    return kd_launched();
}
KD_CUDA_OP(patchify)

/* ---- backward -------------------------------------------------------------------------------- */

/* A block a patch, rows of p pixels in packs of N. */
template <int N, typename S, typename D>
static __global__ void patch_back(const S *src, D *dst, int64_t clip, patches g, bool add)
{
    const int packs = g.p / N, row = g.C * g.t * g.p * g.p;
    for (int64_t k = blockIdx.x; k < g.count; k += gridDim.x) {
        const spot s = corner_of(g, k);
        for (int i = (int)threadIdx.x; i < row / N; i += (int)blockDim.x) {
            const int dx = i % packs * N, dy = i / packs % g.p, plane = i / (packs * g.p), dt = plane % g.t,
                      ch = plane / g.t;
            const int64_t px = (((s.b * g.C + ch) * g.T + s.t + dt) * g.H + s.y + dy) * g.W + s.x + dx;
            float v[N];
            ld_pack<N>(v, src, k * row + (int64_t)i * N);
            put_upto<N>(dst, px, clip, v, add);
        }
    }
}

template <int N, typename S, typename D> static void launch_back(const kd_call *c, const patches &g)
{
    const int64_t packs = (int64_t)g.C * g.t * g.p * g.p / N,
                  block = packs < BLOCK ? kd_div_up(packs, KD_WARP) * KD_WARP : BLOCK;
    const int64_t grid = g.count < 1 << 20 ? g.count : 1 << 20;
    KD_LAUNCH((patch_back<N, S, D>), dim3((unsigned)grid), dim3((unsigned)block), c, kd_in<S>(c, 0), kd_out<D>(c, 0),
              numel(&c->in[0]), g, kd_adds(c, 0));
}

template <typename S, typename D> static void back_of(const kd_call *c)
{
    constexpr int N = sizeof(S) < sizeof(D) ? kd_width<S>::value : kd_width<D>::value;
    const kd_patchify_attr *at = static_cast<const kd_patchify_attr *>(c->attr);
    const patches g = patches_of(&at->x_shape, false, at);
    if (g.count > 0) {
        g.p % N == 0 ? launch_back<N, S, D>(c, g) : launch_back<1, S, D>(c, g);
    }
}

template <typename T> static kd_status patchify_bwd_run(const kd_call *c)
{
    const bool from_f32 = c->in[0].dtype == KD_F32, to_f32 = c->out[0].dtype == KD_F32;
    if (from_f32) {
        to_f32 ? back_of<float, float>(c) : back_of<float, T>(c);
    } else {
        to_f32 ? back_of<T, float>(c) : back_of<T, T>(c);
    }
    return kd_launched();
}
KD_CUDA_OP(patchify_bwd)
