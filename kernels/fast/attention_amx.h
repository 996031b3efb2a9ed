/* Attention in bf16 on AMX tiles, what forward and backward share.  Products in bf16 with f32 sums,
 * softmax in f32; the method is attention_v4.c's.
 *
 * A tile product multiplies A (16 rows of 32 bf16) by B (32 x 16), B stored as 16 rows of 16 pairs:
 * row i holds, for each column, the elements 2i and 2i+1 of that column.  Two layouts of B are
 * needed, each packed once a head as tiles of 1 KiB:
 *   - "across": B = X^T for rows of X (n, d); per 16 rows of X, d/32 tiles;
 *   - "down": B = X; per 32 rows of X, d/16 tiles.
 * d is padded with zeros to a multiple of 32 (dp), rows to a multiple of 64 (np).
 */
#ifndef KD_KERNELS_FAST_ATTENTION_AMX_H
#define KD_KERNELS_FAST_ATTENTION_AMX_H

#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <math.h>

enum { BB = 64, DMAX = 128, GROUP = 64, TILE = 512 /* bf16 elements */ };

static const float log2e = 1.44269504088896f, ln2 = 0.693147180559945f;

typedef struct geometry {
    int64_t batch, n, heads, d, dp, np;
    int64_t row; /* elements between tokens of qkv: 3 C */
    float scale;
} geometry;

static inline geometry geometry_of(const kd_tensor *qkv, const kd_attention_attr *at)
{
    const int64_t c = qkv->shape.dim[2] / 3;
    geometry g = {.batch = qkv->shape.dim[0], .n = qkv->shape.dim[1], .heads = at->heads};
    g.d = c / g.heads;
    g.dp = (g.d + 31) / 32 * 32;
    g.np = (g.n + BB - 1) / BB * BB;
    g.row = 3 * c;
    g.scale = at->scale != 0.0f ? at->scale : 1.0f / sqrtf((float)g.d);
    return g;
}

static inline kd_status supported(const kd_tensor *qkv, const kd_attention_attr *at)
{
    const geometry g = geometry_of(qkv, at);
    return qkv->dtype == KD_BF16 && g.d <= DMAX && g.n > 0 && g.scale > 0.0f && kd_cpu_has(KD_CPU_AMX)
               ? KD_OK
               : KD_E_UNSUPPORTED;
}

static inline int64_t group_of(const geometry *g)
{
    return KD_MIN(g->batch * g->heads, (int64_t)GROUP);
}

static inline int64_t part_at(const geometry *g, int64_t bh, int part)
{
    const int64_t b = bh / g->heads, h = bh % g->heads;
    return b * g->n * g->row + part * (g->row / 3) + h * g->d;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

static inline void tiles_begin(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } cfg = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        cfg.bytes[i] = 64;
        cfg.rows[i] = 16;
    }
    _tile_loadconfig(&cfg);
}

static inline void tiles_end(void)
{
    _tile_release();
}

typedef struct block {
    const uint16_t *a;
    int64_t a_row; /* elements between rows of A; tiles follow every 32 elements */
    const uint16_t *b;
    int64_t b_right, b_down; /* elements to the next tile in n and in k */
    float *c;
    int64_t c_row;
    int64_t steps; /* k / 32 */
    bool add;
} block;

/* C (32, 32) = A (32, 32 steps) B, or += . */
static inline void multiply(const block *t)
{
    const size_t ar = (size_t)t->a_row * 2, cr = (size_t)t->c_row * 4;
    const uint16_t *a = t->a, *b = t->b;
    float *low = t->c + 16 * t->c_row;
    __asm__ volatile("" ::: "memory"); /* tile loads do not tell the compiler what they read */
    if (t->add) {
        _tile_loadd(0, t->c, cr);
        _tile_loadd(1, t->c + 16, cr);
        _tile_loadd(2, low, cr);
        _tile_loadd(3, low + 16, cr);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < t->steps; k++, a += 32, b += t->b_down) {
        _tile_loadd(4, a, ar);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + t->b_right, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * t->a_row, ar);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, t->c, cr);
    _tile_stored(1, t->c + 16, cr);
    _tile_stored(2, low, cr);
    _tile_stored(3, low + 16, cr);
    __asm__ volatile("" ::: "memory");
}

/* ---- packing --------------------------------------------------------------------------------- */

/* A matrix (n, d) of bf16 inside a larger tensor. */
typedef struct matrix {
    const uint16_t *data; /* first element */
    int64_t ld;
} matrix;

static inline matrix part(const geometry *g, const kd_tensor *qkv, int64_t bh, int which)
{
    return (matrix){(const uint16_t *)qkv->data + part_at(g, bh, which), g->row};
}

static inline matrix head_of(const geometry *g, const kd_tensor *o, int64_t bh)
{
    const int64_t cols = g->row / 3;
    return (matrix){(const uint16_t *)o->data + bh / g->heads * g->n * cols + bh % g->heads * g->d, cols};
}

/* rows [r0, r0 + rows) densely, dp elements each, zero beyond (n, d). */
static inline void pack_rows(const geometry *g, matrix x, int64_t r0, int64_t rows, uint16_t *dst)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < g->dp; i += 16) {
            const __mmask16 m = r0 + r < g->n && i < g->d ? v_mask(i, g->d) : 0;
            const __m256i v =
                m != 0 ? _mm256_maskz_loadu_epi16(m, x.data + (r0 + r) * x.ld + i) : _mm256_setzero_si256();
            _mm256_storeu_si256((__m256i *)(void *)(dst + r * g->dp + i), v);
        }
    }
}

/* 16 dense rows to dp/32 "across" tiles; `turned` (dp, np), when wanted, receives the plain
 * transpose at column r0. */
static inline void pack_across(const geometry *g, const uint16_t *rows, uint16_t *dst, uint16_t *turned, int64_t r0)
{
    const __m512i step = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32((int)g->dp * 2));
    for (int64_t i = 0; i < g->dp; i += 2) {
        const __m512i pair = _mm512_i32gather_epi32(step, rows + i, 1);
        _mm512_storeu_si512(dst + i * 16, pair);
        if (turned != NULL) {
            _mm256_storeu_si256((__m256i *)(void *)(turned + i * g->np + r0), _mm512_cvtepi32_epi16(pair));
            _mm256_storeu_si256((__m256i *)(void *)(turned + (i + 1) * g->np + r0),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(pair, 16)));
        }
    }
}

static inline __m512i interleave(__m256i even, __m256i odd)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

/* 32 dense rows to dp/16 "down" tiles. */
static inline void pack_down(const geometry *g, const uint16_t *rows, uint16_t *dst)
{
    for (int64_t i = 0; i < g->dp; i += 16) {
        for (int64_t r = 0; r < 16; r++) {
            const uint16_t *a = rows + 2 * r * g->dp + i;
            const __m256i even = _mm256_loadu_si256((const __m256i *)(const void *)a);
            const __m256i odd = _mm256_loadu_si256((const __m256i *)(const void *)(a + g->dp));
            _mm512_storeu_si512(dst + i / 16 * TILE + r * 32, interleave(even, odd));
        }
    }
}

#endif
