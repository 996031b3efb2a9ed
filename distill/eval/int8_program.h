/* A forward program whose convolutions and linear layers compute in eight bits (kernels/int8). */
#ifndef KD_DISTILL_EVAL_INT8_PROGRAM_H
#define KD_DISTILL_EVAL_INT8_PROGRAM_H

#include "kernels/kd_quant.h"

struct kd_int8;

typedef struct kd_int8_program {
    int32_t n;
    struct kd_int8 *layer; /* [n] */
    void *scratch;         /* of all layers, which run one after the other */
} kd_int8_program;

/* The layers of q take the places of their nodes in p, a program of the model that q describes, on a CPU in f32, at any
 * batch size.  kd_int8_program_close ends *out, after a failure too, once p has run for the last time. */
KD_NODISCARD kd_status kd_int8_program_open(kd_program *p, const kd_quant *q, kd_int8_program *out, kd_err *err);
void kd_int8_program_close(kd_int8_program *e); /* zeroed is legal */

#endif
