/* joint_gather for AVX-512: a row of at most 32 joints is two registers, and its gather one permutation of both.  The
 * bits are those of the plain loops. */
#include "kernels/fast/fast.h"
#include "kernels/fast/vmath512.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

enum { LANES = 16, MOST = 2 * LANES };

static kd_status gather_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const bool mine = c->in[0].dtype == KD_F32 && c->in[0].shape.dim[3] <= MOST;
    return mine && kd_cpu_has(KD_CPU_V4) ? KD_OK : KD_E_UNSUPPORTED;
}

/* Frames of one channel; from, e [32]: source and embedding of each joint. */
static void gather_rows(const float *x, const int32_t *from, const float *e, int64_t t, int64_t v, float *y)
{
    const __mmask16 low = v_mask(0, v), high = v > LANES ? v_mask(LANES, v) : 0;
    const __m512i at0 = _mm512_loadu_si512(from), at1 = _mm512_loadu_si512(from + LANES);
    const __m512 e0 = _mm512_loadu_ps(e), e1 = _mm512_loadu_ps(e + LANES);
    for (int64_t r = 0; r < t; r++, x += v, y += v) {
        const __m512 a = _mm512_maskz_loadu_ps(low, x), b = _mm512_maskz_loadu_ps(high, x + LANES);
        _mm512_mask_storeu_ps(y, low, _mm512_add_ps(_mm512_permutex2var_ps(a, at0, b), e0));
        _mm512_mask_storeu_ps(y + LANES, high, _mm512_add_ps(_mm512_permutex2var_ps(a, at1, b), e1));
    }
}

static kd_status gather_run(const kd_call *c)
{
    const kd_shape *s = &c->in[0].shape;
    const int64_t ch = s->dim[1], t = s->dim[2], v = s->dim[3];
    const float *x = c->in[0].data, *w = c->n_in > 2 ? c->in[2].data : NULL;
    const int32_t *idx = c->in[1].data;
    float *y = c->out[0].data;
    KD_FAST_FOR
    for (int64_t it = 0; it < s->dim[0] * ch; it++) {
        int32_t from[MOST] = {0};
        float e[MOST];
        for (int64_t j = 0; j < MOST; j++) {
            from[j] = j < v ? idx[it % ch * v + j] : 0;
            e[j] = w != NULL && j < v ? w[j * ch + it % ch] : -0.0f; /* x + -0 is x, bit by bit */
        }
        gather_rows(x + it * t * v, from, e, t, v, y + it * t * v);
    }
    return KD_OK;
}

const kd_kernel_def kd_fast_joint_gather_v4 = {.run = gather_run, .prepare = gather_prepare};
