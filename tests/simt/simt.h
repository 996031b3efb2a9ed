/* A GPU on the CPU: the part of CUDA C that kernels/cuda/ uses, for tests (README.md).
 *
 * One block runs at a time, each of its threads a fiber.  A thread runs until it waits (__syncthreads, __syncwarp, a
 * warp shuffle) or ends; then the next one in the current order runs.  Orders are adversarial: ascending, descending,
 * shuffled anew at every turn; blocks follow the same rule.  A barrier left out makes a thread read what another has
 * not written yet (or has overwritten) in at least one of them, and shared memory starts as NaN, so the results differ.
 * Refused with a message and abort: a barrier that some threads never reach, a shuffle whose mask names a lane that has
 * ended or asks otherwise, blocks or shared memory larger than any card has.
 */
#ifndef KD_TESTS_SIMT_SIMT_H
#define KD_TESTS_SIMT_SIMT_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_runtime.h> /* tests/simt/cuda_runtime.h */
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct simt_uint3 {
    unsigned x, y, z;
};
extern simt_uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

enum simt_order { SIMT_ASCENDING, SIMT_DESCENDING, SIMT_SHUFFLED };

/* Order of threads and blocks of all launches from now on. */
extern "C" void simt_set_order(int order);
extern "C" long simt_kernels(void); /* that have run, those of captured graphs each time */

void simt_launch(const char *name, dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> body);
/* Arguments by value, as on a card. */
template <typename... P, typename... A>
static inline void simt_start(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream,
                              A... args)
{
    simt_launch(name, grid, block, stream, [=] { kernel(static_cast<P>(args)...); });
}
void *simt_shared_bytes(const void *site, size_t bytes); /* this block's memory for one declaration; starts as 0xFF */
void simt_barrier(const char *where);
void simt_warp_barrier(unsigned mask);
/* Every lane of the mask gives 8 bytes and takes those of lane `from`. */
uint64_t simt_exchange(unsigned mask, uint64_t mine, int from);
int simt_lane(void);

#define __syncthreads() simt_barrier(__func__)
#define __syncwarp(...) simt_warp_barrier(0xffffffffu)

template <typename T> static inline T simt_shuffle(unsigned mask, T v, int from)
{
    static_assert(sizeof(T) <= 8, "a shuffle carries up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = simt_exchange(mask, bits, from);
    memcpy(&v, &bits, sizeof v);
    return v;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int from)
{
    return simt_shuffle(mask, v, from & 31);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits)
{
    return simt_shuffle(mask, v, simt_lane() ^ bits);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
    const int from = simt_lane() + (int)by;
    return simt_shuffle(mask, v, from < 32 ? from : simt_lane());
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
    const int from = simt_lane() - (int)by;
    return simt_shuffle(mask, v, from >= 0 ? from : simt_lane());
}
static inline unsigned __ballot_sync(unsigned mask, int pred)
{
    unsigned all = 0;
    for (int lane = 0; lane < 32; lane++) {
        all |= simt_shuffle(mask, pred != 0 ? 1u : 0u, lane) << lane;
    }
    return all;
}
static inline int __any_sync(unsigned mask, int pred)
{
    return __ballot_sync(mask, pred) != 0;
}

/* Threads interleave only where they wait, so an atomic is a plain update. */
template <typename T> static inline T atomicAdd(T *p, T v)
{
    const T old = *p;
    *p = old + v;
    return old;
}
template <typename T> static inline T atomicMax(T *p, T v)
{
    const T old = *p;
    *p = old > v ? old : v;
    return old;
}
template <typename T> static inline T atomicMin(T *p, T v)
{
    const T old = *p;
    *p = old < v ? old : v;
    return old;
}
template <typename T> static inline T atomicExch(T *p, T v)
{
    const T old = *p;
    *p = v;
    return old;
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}

#endif
