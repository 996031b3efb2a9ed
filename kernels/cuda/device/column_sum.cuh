/* Sums over the rows of a (rows, C) matrix: gradients of biases and scales.  A block sums 32 packs of columns over one
 * slice of the rows, 8 rows at a time.  Several slices are written to scratch and added by a second launch.  The
 * number of slices depends on the shape alone. */
#ifndef KD_KERNELS_CUDA_DEVICE_COLUMN_SUM_CUH
#define KD_KERNELS_CUDA_DEVICE_COLUMN_SUM_CUH

#include "kernels/cuda/device/kd_cuda.cuh"

constexpr int KD_COLUMN_LINES = 8;

/* Number of slices: of at least 64 rows each, enough to fill a card. */
static inline int64_t kd_column_slices(int64_t rows, int64_t C)
{
    const int64_t by_rows = kd_div_up(rows, 64), by_card = kd_div_up(4096, kd_div_up(C, KD_WARP));
    const int64_t n = by_rows < by_card ? by_rows : by_card;
    return n < 1 ? 1 : n < 256 ? n : 256;
}

/* Bytes of scratch: f32 partial sums; 0 where there is one slice. */
static inline size_t kd_column_scratch(int64_t rows, int64_t C)
{
    const int64_t slices = kd_column_slices(rows, C);
    return slices == 1 ? 0 : (size_t)(slices * C) * sizeof(float);
}

/* y[(matrix * slices + slice) * C + j] (+)= sum over the rows of the slice; blockIdx: columns, slice, matrix of `rows`
 * rows.  F: f.pack<N>(v, i, j) loads N terms into v, from element i of the matrix, which is in column j. */
template <int N, typename U, typename F>
static __global__ void kd_column_slice(F f, U *y, int64_t rows, int64_t per, int64_t C, bool add)
{
    KD_SHARED(float, line, KD_COLUMN_LINES * KD_WARP * N);
    const int64_t j = ((int64_t)blockIdx.x * KD_WARP + threadIdx.x) * N;
    const int64_t from = blockIdx.y * per, to = from + per < rows ? from + per : rows;
    float sum[N], v[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
        sum[k] = 0.0f;
    }
#pragma unroll 4
    for (int64_t r = from + threadIdx.y; j < C && r < to; r += KD_COLUMN_LINES) {
        f.template pack<N>(v, (blockIdx.z * rows + r) * C + j, j);
#pragma unroll
        for (int k = 0; k < N; k++) {
            sum[k] += v[k];
        }
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
        line[(threadIdx.y * N + (unsigned)k) * KD_WARP + threadIdx.x] = sum[k];
    }
    __syncthreads();
    /* one thread a column, neighbours side by side */
    for (int k = (int)(threadIdx.y * KD_WARP + threadIdx.x); k < KD_WARP * N; k += KD_WARP * KD_COLUMN_LINES) {
        const int lane = k / N, of = k % N;
        const int64_t at = (int64_t)blockIdx.x * (KD_WARP * N) + k;
        float s = 0.0f;
        for (int l = 0; l < KD_COLUMN_LINES; l++) {
            s += line[(l * N + of) * KD_WARP + lane];
        }
        if (at < C) {
            put(y, ((int64_t)blockIdx.z * gridDim.y + blockIdx.y) * C + at, s, add);
        }
    }
}

/* The terms are the elements themselves. */
template <typename T> struct kd_column_terms {
    const T *x;
    template <int N> __device__ void pack(float *v, int64_t i, int64_t column) const
    {
        (void)column;
        ld_pack<N>(v, x, i);
    }
};

/* y (C) = column sums.  C is a multiple of N.  Scratch: as large as the function above says. */
template <int N, typename U, typename F>
static void kd_column_sum(const kd_call *c, F f, U *y, int64_t rows, int64_t C, bool add)
{
    const int64_t slices = kd_column_slices(rows, C), per = kd_div_up(rows, slices);
    const dim3 grid((unsigned)kd_div_up(C, KD_WARP * N), (unsigned)slices), block(KD_WARP, KD_COLUMN_LINES);
    if (slices == 1) {
        KD_LAUNCH((kd_column_slice<N, U, F>), grid, block, c, f, y, rows, per, C, add);
        return;
    }
    float *part = static_cast<float *>(c->scratch);
    KD_LAUNCH((kd_column_slice<N, float, F>), grid, block, c, f, part, rows, per, C, false);
    const kd_column_terms<float> parts = {part}; /* the second launch sums the slices as rows */
    KD_LAUNCH((kd_column_slice<1, U, kd_column_terms<float>>), dim3((unsigned)kd_div_up(C, KD_WARP)), block, c, parts,
              y, slices, slices, C, add);
}

#endif
