/* Eight bits for a trained model: ranges of what its layers read over samples of the training half
 * (kernels/kd_quant.h).
 */
#ifndef KD_DISTILL_EVAL_QUANTIZE_H
#define KD_DISTILL_EVAL_QUANTIZE_H

#include "distill/model/model.h"
#include "distill/model/task.h"
#include "distill/run/progress.h"
#include "kernels/kd_quant.h"

enum { KD_QUANTIZE_SAMPLES = 128 }; /* where nobody says how many */

typedef struct kd_quantize_opts {
    const kd_config *cfg; /* resolved */
    int64_t samples;      /* at most so many, spread evenly over the listing */
    const kd_progress *progress;
} kd_quantize_opts;

/* m: loaded, on a CPU.  Samples are read as evaluation reads them.  q: kd_quant_free, after a failure too.  What
 * reading samples and kd_quant_observe fail with; a sample that cannot be read is left out where the recipe says skip.
 */
KD_NODISCARD kd_status kd_quantize(const kd_quantize_opts *o, kd_model *m, kd_quant *q, kd_err *err);

#endif
