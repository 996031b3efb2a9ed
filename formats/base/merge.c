/* Several views of one sample to one prediction: see merge.h. */
#include "formats/base/merge.h"

#include <math.h>

void kd_probabilities(double *x, size_t k, double temperature)
{
    double top = x[0], sum = 0.0;
    for (size_t i = 1; i < k; i++) {
        top = fmax(top, x[i]);
    }
    for (size_t i = 0; i < k; i++) {
        x[i] = exp((x[i] - top) / temperature);
        sum += x[i];
    }
    for (size_t i = 0; i < k; i++) {
        x[i] /= sum;
    }
}

double kd_log_sum_exp(const float *z, size_t k, double temperature)
{
    double top = (double)z[0] / temperature, sum = 0.0;
    for (size_t i = 1; i < k; i++) {
        top = fmax(top, (double)z[i] / temperature);
    }
    for (size_t i = 0; i < k; i++) {
        sum += exp((double)z[i] / temperature - top);
    }
    return top + log(sum);
}

void kd_merge_mean(const float *views, int n, size_t k, bool score, double *work, double *mean)
{
    memset(mean, 0, k * sizeof *mean);
    for (int v = 0; v < n; v++) {
        const float *z = views + (size_t)v * k;
        for (size_t i = 0; i < k; i++) {
            work[i] = (double)z[i];
        }
        if (!score) {
            kd_probabilities(work, k, 1.0);
        }
        for (size_t i = 0; i < k; i++) {
            mean[i] += work[i];
        }
    }
    for (size_t i = 0; i < k; i++) {
        mean[i] /= (double)n;
    }
}

void kd_merge_logits(const float *views, int n, size_t k, bool score, double *work, float *out)
{
    if (n == 1) {
        memcpy(out, views, k * sizeof *out);
        return;
    }
    double *mean = work + k;
    kd_merge_mean(views, n, k, score, work, mean);
    for (size_t i = 0; i < k; i++) {
        out[i] = (float)(score ? mean[i] : log(fmax(mean[i], 1e-300)));
    }
}
