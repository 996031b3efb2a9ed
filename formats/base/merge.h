/* Several views of one sample to one prediction, and the softmax that makes every probability on the host.
 *
 * One text for evaluation, the logit store and the loss: `kd logits verify` recomputes what evaluation averaged, so the
 * two must not drift.  Sums run in f64, views and classes in their order.
 */
#ifndef KD_FORMATS_BASE_MERGE_H
#define KD_FORMATS_BASE_MERGE_H

#include "kernels/kd_base.h"

/* x[0..k-1] becomes softmax(x / temperature). */
void kd_probabilities(double *x, size_t k, double temperature);

/* log sum_i exp(z[i] / temperature), without overflow. */
double kd_log_sum_exp(const float *z, size_t k, double temperature);

/* The mean over the views (n, k): of their softmax, or under `score` of the logits themselves.  `mean` [k], `work`
 * [k]. */
void kd_merge_mean(const float *views, int n, size_t k, bool score, double *work, double *mean);

/* One row of logits whose softmax is the merged prediction: one view is copied, otherwise the logarithm of the mean
 * probability, or under `score` the mean logit.  `work` [2 k]; `out` [k] may not overlap `views`. */
void kd_merge_logits(const float *views, int n, size_t k, bool score, double *work, float *out);

#endif
