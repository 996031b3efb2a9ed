/* Dropout inside other kernels, with the draws of the `dropout` op.  Masks are recomputed, never stored. */
#ifndef KD_KERNELS_CUDA_DEVICE_DROPOUT_CUH
#define KD_KERNELS_CUDA_DEVICE_DROPOUT_CUH

#include "kernels/cuda/device/kd_cuda.cuh"
#include "kernels/kd_rng.h"

/* Mask of N neighbours.  Bit j of `kept` set: v[j] is multiplied by `up`.  Not set: the result is 0, even for NaN. */
struct kd_mask {
    uint32_t kept;
    float up;
    __device__ __forceinline__ float of(int j, float v) const
    {
        return ((kept >> j) & 1u) != 0 ? v * up : 0.0f;
    }
};

/* Dropout of elements i .. i + N - 1, i a multiple of N.  Four draws a Philox block where N is a multiple of 4. */
template <int N>
static __device__ __forceinline__ kd_mask kd_drop_elements(const kd_step *step, uint32_t item, float p, int64_t i)
{
    const uint64_t seed = step->seed, at = (uint64_t)i;
    const uint32_t epoch = (uint32_t)step->step;
    kd_mask m = {0, 1.0f / (1.0f - p)};
    if constexpr (N % 4 != 0) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float u = kd_rng_unit(kd_rng_at(seed, KD_RNG_DROPOUT, item, epoch, at + (uint64_t)j));
            m.kept |= u >= p ? 1u << j : 0u;
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; j += 4) {
            const uint64_t block = (at + (uint64_t)j) >> 2;
            const kd_philox b = kd_philox_block(seed, (uint32_t)block, item, epoch,
                                                (uint32_t)KD_RNG_DROPOUT | ((uint32_t)(block >> 32) << 8));
#pragma unroll
            for (int l = 0; l < 4; l++) {
                m.kept |= kd_rng_unit(b.v[l]) >= p ? 1u << (j + l) : 0u;
            }
        }
    }
    return m;
}

/* Drop path: one draw for row r. */
static __device__ __forceinline__ kd_mask kd_drop_row(const kd_step *step, uint32_t item, float p, int64_t r)
{
    const float u = kd_rng_unit(kd_rng_at(step->seed, KD_RNG_DROPOUT, item, (uint32_t)step->step, (uint64_t)r));
    return {u >= p ? ~0u : 0u, 1.0f / (1.0f - p)};
}

#endif
