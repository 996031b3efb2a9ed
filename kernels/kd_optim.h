/* Optimisers over the parameter slabs: AdamW and SGD with Nesterov momentum, as PyTorch defines them, with layer-wise
 * learning rates, decay groups, global-norm clipping and an exponential moving average.
 *
 * One step is: gradient norm (f64 sum in slab order) -> control block (finite? clip factor, bias corrections, loss
 * scale) -> one pass over the slab: update, EMA, low-precision shadow -> averages of the buffers -> gradients zeroed.
 * All of it happens on the device: the host need not wait, nothing is allocated after kd_optim_create, and the step is
 * captured as one graph.
 */
#ifndef KD_KERNELS_KD_OPTIM_H
#define KD_KERNELS_KD_OPTIM_H

#include "kernels/kd_ops.h"
#include "kernels/kd_params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_optim_kind { KD_OPTIM_ADAMW, KD_OPTIM_SGD } kd_optim_kind;

typedef struct kd_optim_cfg {
    kd_optim_kind kind;
    double beta1, beta2, eps; /* AdamW */
    double momentum;          /* SGD */
    bool nesterov;
    /* for tensors whose kd_param_info.decay is set; AdamW: decoupled, SGD: added to the gradient */
    double weight_decay;
    double clip_grad;        /* largest global L2 norm of the gradient; 0: off; factor clip / (norm + 1e-6) */
    double ema_decay;        /* 0: no EMA; ema = d ema + (1-d) value after each step, buffers included */
    double loss_scale;       /* first loss scale (fp16: 65536); 0: none */
    int64_t loss_scale_grow; /* finite steps before it doubles; 0: constant */
} kd_optim_cfg;

typedef struct kd_optim kd_optim;

/* params must be allocated with gradients.  lr_scale and decay of its entries are read here, once. */
KD_NODISCARD kd_status kd_optim_create(kd_params *params, const kd_optim_cfg *cfg, kd_optim **out, kd_err *err);
void kd_optim_free(kd_optim *o);

/* Apply the gradients at learning rate `lr` and zero them.
 * norm not NULL: waits; *norm is the global gradient norm before clipping.  KD_E_NUMERIC: the norm is not finite,
 * nothing but the gradients (zeroed) was changed.
 * norm NULL: does not wait; read the outcome from the control block. */
KD_NODISCARD kd_status kd_optim_step(kd_optim *o, double lr, double *norm);

/* Weight decay of the steps to come, in place of kd_optim_cfg.weight_decay; tensors without decay stay without.  Does
 * not wait. */
KD_NODISCARD kd_status kd_optim_set_decay(kd_optim *o, double weight_decay);

/* The control block: KD_CTL_COUNT doubles in device memory (kd_ops.h).  Fetch it for the norm and outcome of a step. */
const double *kd_optim_control(const kd_optim *o);
/* The value for kd_step.loss_scale; NULL without a loss scale. */
const double *kd_optim_loss_scale(const kd_optim *o);
/* The same block for checkpoints; waits. */
KD_NODISCARD kd_status kd_optim_read_control(kd_optim *o, double ctl[KD_CTL_COUNT]);
KD_NODISCARD kd_status kd_optim_write_control(kd_optim *o, const double ctl[KD_CTL_COUNT]);

/* State slabs for checkpoints: "exp_avg", "exp_avg_sq" (AdamW), "momentum_buffer" (SGD), "ema" and "ema_buffers" (with
 * EMA).  slot 0, 1, ...; false past the last.  ema_buffers has the layout of the buffer slab, the others have the
 * layout of the parameter slab. */
bool kd_optim_state(const kd_optim *o, int slot, const char **name, void **slab, bool *of_buffers);

/* Exchange the parameters (and buffers) with their averages; twice is a no-op.  For evaluation of the EMA weights. */
KD_NODISCARD kd_status kd_optim_swap_ema(kd_optim *o);

#ifdef __cplusplus
}
#endif
#endif
