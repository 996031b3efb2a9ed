/* Tensors (N,C,T,V) as N*C planes of T*V elements, one block per plane; shared by joints.cu, gates.cu and stc_pool.cu.
 * Indices inside a plane are `int`, and sums over a plane stay in its block. */
#ifndef KD_KERNELS_CUDA_DEVICE_PLANES_CUH
#define KD_KERNELS_CUDA_DEVICE_PLANES_CUH

#include "kernels/cuda/device/kd_cuda.cuh"

struct kd_planes {
    int64_t n;      /* samples */
    int C, T, V, L; /* L = T * V */
};

/* The plane of a block. */
struct kd_plane {
    int64_t it, n; /* it = n * C + c */
    int c;
};

static inline kd_planes kd_planes_of(const kd_tensor *x)
{
    const int64_t *d = x->shape.dim;
    const kd_planes p = {d[0], (int)d[1], (int)d[2], (int)d[3], (int)(d[2] * d[3])};
    return p;
}

static __device__ __forceinline__ kd_plane kd_plane_here(const kd_planes &p)
{
    const int64_t it = (int64_t)blockIdx.x, n = it / p.C;
    const kd_plane here = {it, n, (int)(it - n * p.C)};
    return here;
}

/* Threads for a plane of `items`: whole warps, at most 256, as even as the rounds allow. */
static inline dim3 kd_plane_block(int64_t items)
{
    const int64_t rounds = kd_div_up(items < 1 ? 1 : items, 256);
    return dim3((unsigned)(kd_div_up(kd_div_up(items < 1 ? 1 : items, rounds), KD_WARP) * KD_WARP));
}

static inline dim3 kd_plane_grid(const kd_planes &p)
{
    return dim3((unsigned)(p.n * p.C));
}

/* Frames of a plane that a block holds in KD_TILE floats: a multiple of 8, so that packs stay aligned, and at least
 * 16. */
constexpr int KD_TILE = 4096;
static_assert(KD_TILE / KD_MAX_JOINTS >= 16, "a tile has 16 frames at least");
static __device__ __forceinline__ int kd_tile_frames(int V)
{
    return KD_TILE / V / 8 * 8;
}

/* y = fn(plane, frame, joint, x) element by element; y may be x. */
template <typename T, int W, typename F> static __global__ void kd_plane_map(const T *x, T *y, F fn, kd_planes p)
{
    const kd_plane here = kd_plane_here(p);
    for (int j = (int)threadIdx.x * W; j < p.L; j += (int)blockDim.x * W) {
        float u[W];
        int f = j / p.V, v = j - f * p.V;
        ld_pack<W>(u, x, here.it * p.L + j);
#pragma unroll
        for (int k = 0; k < W; k++) {
            u[k] = fn(here, f, v, u[k]);
            if (++v == p.V) {
                v = 0;
                f++;
            }
        }
        st_pack<W>(y, here.it * p.L + j, u);
    }
}

/* Launch kd_plane_map from input 0 to output 0 of the call. */
template <typename T, typename F> static kd_status kd_plane_map_run(const kd_call *c, const F &fn)
{
    constexpr int W = kd_width<T>::value;
    const kd_planes p = kd_planes_of(&c->in[0]);
    const T *x = kd_in<T>(c, 0);
    T *y = kd_out<T>(c, 0);
    if (numel(&c->in[0]) == 0) {
        return KD_OK;
    }
    if (p.L % W == 0) {
        KD_LAUNCH((kd_plane_map<T, W, F>), kd_plane_grid(p), kd_plane_block(p.L / W), c, x, y, fn, p);
    } else {
        KD_LAUNCH((kd_plane_map<T, 1, F>), kd_plane_grid(p), kd_plane_block(p.L), c, x, y, fn, p);
    }
    return kd_launched();
}

#endif
