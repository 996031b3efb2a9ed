/* The matrix product inside convolutions: a block's tile, accumulated from two pieces in shared memory. */
#ifndef KD_KERNELS_CUDA_DEVICE_CONV_TILE_CUH
#define KD_KERNELS_CUDA_DEVICE_CONV_TILE_CUH

#include "kernels/cuda/device/kd_cuda.cuh"

typedef kd_pack<float, 4> vec4;

/* sum += ws xs over DEPTHS steps.  A thread's rows and columns come in strips of 4, so that a warp reads shared memory
 * side by side. */
template <int DEPTHS, int BM, int PM, int BN, int PN, int RM, int RN>
static __device__ __forceinline__ void multiply(const vec4 *ws, const vec4 *xs, float (&sum)[RM][RN])
{
    constexpr int NT = BN / RN, SM = RM / 4, SN = RN / 4;
    const int tm = (int)threadIdx.x / NT, tn = (int)threadIdx.x % NT;
#pragma unroll
    for (int k = 0; k < DEPTHS; k++) {
        float a[RM], b[RN];
#pragma unroll
        for (int s = 0; s < SM; s++) {
            ld_pack<4>(a + 4 * s, ws[(k * PM + s * (BM / SM)) / 4 + tm].v, 0);
        }
#pragma unroll
        for (int s = 0; s < SN; s++) {
            ld_pack<4>(b + 4 * s, xs[(k * PN + s * (BN / SN)) / 4 + tn].v, 0);
        }
#pragma unroll
        for (int i = 0; i < RM; i++) {
#pragma unroll
            for (int j = 0; j < RN; j++) {
                sum[i][j] += a[i] * b[j];
            }
        }
    }
}

#endif
