/* Teacher models built from manifests, with generated weights, for the checkers of parity.h. */
#ifndef KD_TOOLS_PARITY_PARITY_NET_H
#define KD_TOOLS_PARITY_PARITY_NET_H

#include "teacher/model/vit.h"
#include "tools/parity/parity.h"

typedef struct kd_parity_net {
    kd_vit_cfg cfg;
    int batch;
    kd_params *params;
    kd_program *prog; /* the one built last */
} kd_parity_net;

/* declare: only parameters.  train: loss = CE(target) with backward, and the input's gradient
 * when asked. */
typedef enum kd_parity_net_mode { NET_DECLARE, NET_TRAIN, NET_TRAIN_INPUT, NET_EVAL } kd_parity_net_mode;

/* `config` and ln_eps of a manifest. */
KD_NODISCARD kd_status kd_parity_net_cfg(const kd_json *m, kd_vit_cfg *c, kd_err *err);

/* Scale and offset of a parameter that no manifest describes, by its name and the product of its dimensions after the
 * first: the rules of the fixtures' README. */
void kd_parity_net_rule(const char *name, int64_t fan_in, float *scale, float *offset);

/* Declare, allocate and fill the parameters.  Where the manifest lists `params`, scale, offset, shape, CRC and the name
 * that the generator takes (gen_name; else the parameter's own) are those of the list; the first that differs stops the
 * fixture. */
KD_NODISCARD kd_status kd_parity_net_open(parity *p, const kd_vit_cfg *cfg, int batch, bool grads, kd_parity_net *n,
                                          kd_err *err);
void kd_parity_net_close(kd_parity_net *n); /* zeroed is legal */

/* Replace n->prog.  Inputs "input", and "target" (B,K) when training; outputs "loss", "logits",
 * "features", act.*. */
KD_NODISCARD kd_status kd_parity_net_build(parity *p, kd_parity_net *n, kd_parity_net_mode mode, kd_err *err);
size_t kd_parity_net_floats(const kd_parity_net *n); /* of "input" */
/* Generate the input that the manifest describes (by default "input", scale 2, offset 0) into clip and the program; a
 * CRC or shape that differs stops the fixture. */
KD_NODISCARD kd_status kd_parity_net_feed(parity *p, kd_parity_net *n, float *clip, kd_err *err);
KD_NODISCARD kd_status kd_parity_net_run(kd_parity_net *n, kd_err *err);

/* What is allowed of activation `name` ("act.block3.attn", "features") whose largest value is `largest`. */
double kd_parity_net_allowed(const parity *p, const kd_parity_net *n, const char *name, double largest);
/* Activation `name` against tensor `golden` of f. */
KD_NODISCARD kd_status kd_parity_net_activation(parity *p, kd_parity_net *n, const kd_st_file *f, const char *name,
                                                const char *golden, kd_err *err);
/* Output `name` against tensor `golden` of f. */
KD_NODISCARD kd_status kd_parity_net_compare(parity *p, kd_parity_net *n, const kd_st_file *f, const char *name,
                                             const char *golden, double diff, kd_err *err);
/* All gradients against manifest.grads.<which>: one line, the worst tensor in units of its
 * allowance. */
KD_NODISCARD kd_status kd_parity_net_grads(parity *p, kd_parity_net *n, const char *which, kd_err *err);

/* Label smoothing s and, with mix, plain mixup with the flipped batch: t (batch, classes). */
void kd_parity_targets(const double *label, int batch, int classes, double s, double lam, bool mix, float *t);

#endif
