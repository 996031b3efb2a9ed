/* SiLU and sigmoid for AVX-512, where the plain loop calls expf once an element.  For liblast alone: the toolkit's own
 * programs keep the bits of expf. */
#include "kernels/fast/fast.h"
#include "kernels/int8/silu512.h"

static kd_status silu_run(const kd_call *c)
{
    const kd_act_attr *at = c->attr;
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    const int64_t n = kd_shape_numel(&c->in[0].shape);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = v_mask(i, n);
        _mm512_mask_storeu_ps(y + i, m, v_act_quick(at->kind, _mm512_maskz_loadu_ps(m, x + i)));
    }
    return KD_OK;
}

static kd_status silu_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const kd_act_attr *at = c->attr;
    const bool mine = at->kind == KD_ACT_SILU || at->kind == KD_ACT_SIGMOID;
    return mine && c->in[0].dtype == KD_F32 ? KD_OK : KD_E_UNSUPPORTED;
}

extern const kd_kernel_def kd_fast_silu_act_v4;
const kd_kernel_def kd_fast_silu_act_v4 = {.run = silu_run, .prepare = silu_prepare};
