/* The product inside conv2d: acc[m][j] += sum_k w[m][k] x[k][j] on tiles that fit the first-level
 * cache.  Whoever calls it packs a piece of the left operand (scalars) and of the right one (rows
 * of up to KD_TILE_N positions); the inner loop is 4 x 4 rows over contiguous positions, so it
 * vectorises whatever the tile's width. */
#ifndef KD_KERNELS_CPU_CONV_TILE_H
#define KD_KERNELS_CPU_CONV_TILE_H

#include "kernels/cpu/chunk.h"
#include "kernels/cpu/kd_real.h"

#define KD_TILE_M 32  /* rows of a tile, a multiple of 4 */
#define KD_TILE_N 128 /* positions of a tile */
#define KD_TILE_K 32  /* depth packed at a time, a multiple of 4 */

typedef struct kd_tile {
    real acc[KD_TILE_M][KD_TILE_N];
    real x[KD_TILE_K][KD_TILE_N];
    real w[KD_TILE_M][KD_TILE_K];
} kd_tile;

static inline int64_t kd_tiles(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* The m rows, and what the 4 x 4 steps add to beyond them. */
static inline void kd_tile_clear(kd_tile *t, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m || i % 4 != 0; i++) {
        for (int64_t j = 0; j < n; j++) {
            t->acc[i][j] = R(0.0);
        }
    }
}

/* Zero what the 4 x 4 steps read beyond (m, k). */
static inline void kd_tile_pad(kd_tile *t, int64_t m, int64_t k, int64_t n)
{
    const int64_t m4 = (m + 3) / 4 * 4, k4 = (k + 3) / 4 * 4;
    for (int64_t i = 0; i < m4; i++) {
        for (int64_t j = i < m ? k : 0; j < k4; j++) {
            t->w[i][j] = R(0.0);
        }
    }
    for (int64_t i = k; i < k4; i++) {
        for (int64_t j = 0; j < n; j++) {
            t->x[i][j] = R(0.0);
        }
    }
}

static inline void kd_tile_step(real *restrict a0, real *restrict a1, real *restrict a2, real *restrict a3,
                                const real *w, const real *restrict x, int64_t n)
{
    const real *restrict x0 = x, *restrict x1 = x + KD_TILE_N, *restrict x2 = x + 2 * KD_TILE_N,
                         *restrict x3 = x + 3 * KD_TILE_N;
    const real *w1 = w + KD_TILE_K, *w2 = w + 2 * KD_TILE_K, *w3 = w + 3 * KD_TILE_K;
    const real w00 = w[0], w01 = w[1], w02 = w[2], w03 = w[3];
    const real w10 = w1[0], w11 = w1[1], w12 = w1[2], w13 = w1[3];
    const real w20 = w2[0], w21 = w2[1], w22 = w2[2], w23 = w2[3];
    const real w30 = w3[0], w31 = w3[1], w32 = w3[2], w33 = w3[3];
    for (int64_t j = 0; j < n; j++) {
        const real p = x0[j], q = x1[j], r = x2[j], s = x3[j];
        a0[j] += w00 * p + w01 * q + w02 * r + w03 * s;
        a1[j] += w10 * p + w11 * q + w12 * r + w13 * s;
        a2[j] += w20 * p + w21 * q + w22 * r + w23 * s;
        a3[j] += w30 * p + w31 * q + w32 * r + w33 * s;
    }
}

/* acc (m,n) += w (m,k) x (k,n). */
static inline void kd_tile_product(kd_tile *t, int64_t m, int64_t k, int64_t n)
{
    kd_tile_pad(t, m, k, n);
    for (int64_t i = 0; i < m; i += 4) {
        for (int64_t l = 0; l < k; l += 4) {
            kd_tile_step(t->acc[i], t->acc[i + 1], t->acc[i + 2], t->acc[i + 3], &t->w[i][l], t->x[l], n);
        }
    }
}

#endif
