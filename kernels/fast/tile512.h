/* Register tiles of a float matrix product (AVX-512), the inner loop of attention.
 *
 *   C[r][0 .. 16 nv)  (+)=  sum over k of  A[r * ra + k * ka] * B[k * ldb + 0 .. 16 nv)
 *
 * A is read one element at a time (broadcast), so ra and ka may transpose it; B rows are
 * contiguous.  A tile of R rows by NV vectors keeps R * NV <= 24 accumulators in registers. Include
 * only in files compiled for x86-64-v4.
 */
#ifndef KD_KERNELS_FAST_TILE512_H
#define KD_KERNELS_FAST_TILE512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kd_tile_args {
    const float *a;
    int64_t ra, ka;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    int64_t k;
    bool add; /* C += instead of C = */
} kd_tile_args;

#define KD_TILE(R, NV)                                                \
    static void kd_tile_##R##x##NV(const kd_tile_args *t)             \
    {                                                                 \
        const float *a = t->a, *b = t->b;                             \
        const int64_t ra = t->ra, ka = t->ka, ldb = t->ldb;           \
        __m512 acc[R][NV];                                            \
        _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)          \
        {                                                             \
            _Pragma("GCC unroll 8") for (int v = 0; v < NV; v++)      \
            {                                                         \
                acc[r][v] = _mm512_setzero_ps();                      \
            }                                                         \
        }                                                             \
        for (int64_t k = t->k; k > 0; k--, a += ka, b += ldb) {       \
            __m512 bv[NV];                                            \
            _Pragma("GCC unroll 8") for (int v = 0; v < NV; v++)      \
            {                                                         \
                bv[v] = _mm512_loadu_ps(b + 16 * v);                  \
            }                                                         \
            _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)      \
            {                                                         \
                const __m512 x = _mm512_set1_ps(a[r * ra]);           \
                _Pragma("GCC unroll 8") for (int v = 0; v < NV; v++)  \
                {                                                     \
                    acc[r][v] = _mm512_fmadd_ps(x, bv[v], acc[r][v]); \
                }                                                     \
            }                                                         \
        }                                                             \
        _Pragma("GCC unroll 12") for (int r = 0; r < R; r++)          \
        {                                                             \
            _Pragma("GCC unroll 8") for (int v = 0; v < NV; v++)      \
            {                                                         \
                float *c = t->c + r * t->ldc + 16 * v;                \
                __m512 y = acc[r][v];                                 \
                if (t->add) {                                         \
                    y = _mm512_add_ps(y, _mm512_loadu_ps(c));         \
                }                                                     \
                _mm512_storeu_ps(c, y);                               \
            }                                                         \
        }                                                             \
    }

KD_TILE(12, 1)
KD_TILE(12, 2)
KD_TILE(8, 3)
KD_TILE(6, 4)
KD_TILE(4, 5)
KD_TILE(4, 6)
KD_TILE(3, 7)
KD_TILE(3, 8)

typedef struct kd_tile_fn {
    void (*run)(const kd_tile_args *t);
    int rows;
} kd_tile_fn;

/* The tile for B rows of nv vectors, 1 <= nv <= 8.  Its rows divide 48. */
static inline kd_tile_fn kd_tile_pick(int nv)
{
    static const kd_tile_fn fn[8] = {
        {kd_tile_12x1, 12}, {kd_tile_12x2, 12}, {kd_tile_8x3, 8}, {kd_tile_6x4, 6},
        {kd_tile_4x5, 4},   {kd_tile_4x6, 4},   {kd_tile_3x7, 3}, {kd_tile_3x8, 3},
    };
    return fn[nv - 1];
}

/* All rows of C, rows a multiple of the tile's. */
static inline void kd_tile_rows(kd_tile_fn fn, kd_tile_args t, int64_t rows)
{
    for (int64_t r = 0; r < rows; r += fn.rows) {
        fn.run(&t);
        t.a += fn.rows * t.ra;
        t.c += fn.rows * t.ldc;
    }
}

#endif
