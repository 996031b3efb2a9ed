/* Optimisers over the parameter slabs: AdamW and SGD with Nesterov momentum, as PyTorch defines them, with layer-wise
 * learning rates, decay groups, global-norm clipping and an exponential moving average.
 *
 * One step is: gradient norm (f64 sum in slab order) -> clip factor -> one pass over the slab per parameter kind -> EMA ->
 * low-precision shadow -> gradients zeroed.  No allocation after create.
 */
#ifndef KD_OPTIM_H
#define KD_OPTIM_H

#include "kernels/kd_params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_optim_kind { KD_OPTIM_ADAMW, KD_OPTIM_SGD } kd_optim_kind;

typedef struct kd_optim_cfg {
    kd_optim_kind kind;
    double beta1, beta2, eps;   /* AdamW */
    double momentum;            /* SGD */
    bool nesterov;
    double weight_decay;        /* of the tensors whose kd_param_info.decay is set; AdamW: decoupled, SGD: added to the gradient */
    double clip_grad;           /* largest global L2 norm of the gradient; 0: off; factor clip / (norm + 1e-6) */
    double ema_decay;           /* 0: no EMA; ema = d ema + (1-d) value after each step, buffers included */
} kd_optim_cfg;

typedef struct kd_optim kd_optim;

/* params must be allocated with gradients; lr_scale and decay of its entries are read here and kept. */
KD_NODISCARD kd_status kd_optim_create(kd_params *params, const kd_optim_cfg *cfg, kd_optim **out, kd_err *err);
void kd_optim_free(kd_optim *o);

/* Apply the gradients at learning rate `lr` and zero them.  *norm (may be NULL): global gradient norm before clipping.
 * KD_E_NUMERIC when the norm is not finite: nothing is changed but the gradients, which are zeroed. */
KD_NODISCARD kd_status kd_optim_step(kd_optim *o, double lr, double *norm);

int64_t kd_optim_steps(const kd_optim *o); /* steps applied so far: the t of the bias correction */
void kd_optim_set_steps(kd_optim *o, int64_t t);

/* State slabs for checkpoints: "exp_avg", "exp_avg_sq" (AdamW), "momentum_buffer" (SGD), "ema" and "ema_buffers" (with EMA).
 * slot 0, 1, ...: name and slab; false past the last.  Entry of parameter i: slab + offset.  ema_buffers follows the
 * buffer slab, all others the parameter slab. */
bool kd_optim_state(const kd_optim *o, int slot, const char **name, void **slab, bool *of_buffers);

/* Exchange the parameters (and buffers) with their averages; twice is a no-op.  For evaluation of the EMA weights. */
KD_NODISCARD kd_status kd_optim_swap_ema(kd_optim *o);

#ifdef __cplusplus
}
#endif
#endif
