/* Layers in eight bits of a deployment file (kernels/kd_quant.h says what the numbers mean).
 *
 * __metadata__ "int8" is the number n of layers; layer i, in the order of kd_quant, is three tensors:
 *   int8.<i>.weight  I8 (rows, cols)
 *   int8.<i>.scale   F32 (rows)
 *   int8.<i>.input   F32 (2): scale and zero point of what the layer reads
 * Parameters that only these layers read are left out of such a file. */
#ifndef KD_STUDENT_STREAM_INT8_H
#define KD_STUDENT_STREAM_INT8_H

#include "kernels/int8/int8.h"
#include "kernels/kd_quant.h"
#include "student/stream/file.h"

/* [kd_params_count], kd_free: does the program read the parameter through nothing but the weights of the layers of q?
 * NULL: out of memory. */
bool *kd_last_unread(const kd_program *p, const kd_quant *q, const kd_params *params);

typedef struct kd_last_int8 {
    int32_t n;
    kd_int8 *layer;
    void *scratch; /* of all layers */
} kd_last_int8;

/* The layers of the file take the places of their nodes.  q: the layers of the program, whose numbers the file has to
 * bring.  kd_last_int8_close ends *out, after a failure too, after the program.  KD_E_FORMAT: absent, of another shape,
 * a scale that is no positive number. */
KD_NODISCARD kd_status kd_last_int8_open(kd_program *p, const kd_quant *q, const kd_last_file *f, kd_last_int8 *out,
                                         kd_err *err);
void kd_last_int8_close(kd_last_int8 *e); /* zeroed is legal */

#endif
