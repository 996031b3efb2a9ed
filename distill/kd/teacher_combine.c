/* Several stores as one teacher: their probabilities averaged, sample by sample (average: You et al. 2017; weights by
 * confidence and by what a teacher knows: Zhang et al. 2022). */
#include "distill/kd/teacher_table.h"
#include "formats/base/merge.h"

#include <math.h>

/* x = softmax(logits / T) */
static void soften(const float *logits, size_t k, double temperature, double *x)
{
    for (size_t i = 0; i < k; i++) {
        x[i] = (double)logits[i];
    }
    kd_probabilities(x, k, temperature);
}

static size_t largest(const float *v, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = v[i] > v[best] ? i : best;
    }
    return best;
}

/* Shannon's entropy in nats. */
static double entropy(const double *q, size_t k)
{
    double h = 0.0;
    for (size_t i = 0; i < k; i++) {
        h -= q[i] > 0.0 ? q[i] * log(q[i]) : 0.0;
    }
    return h;
}

/* g_s of teacher_table.h. */
static double gate(kd_combine how, const float *logits, size_t k, int label, double *q)
{
    switch (how) {
    case KD_COMBINE_CONFIDENCE:
        soften(logits, k, 1.0, q);
        return q[largest(logits, k)];
    case KD_COMBINE_ENTROPY:
        soften(logits, k, 1.0, q);
        return k > 1 ? fmax(1.0 - entropy(q, k) / log((double)k), 0.0) : 1.0;
    case KD_COMBINE_CORRECTNESS:
        return label == KD_NO_LABEL || largest(logits, k) == (size_t)label ? 1.0 : 0.0;
    case KD_COMBINE_EACH:
    case KD_COMBINE_AVERAGE:
    default:
        return 1.0;
    }
}

static const float *logits_of(const kd_teacher_table *t, size_t sample, uint32_t epoch)
{
    const size_t views = (size_t)t->views;
    return t->logits + (sample * views + epoch % views) * (size_t)t->n_classes;
}

static double own_weight(const kd_teachers *t, int s, size_t sample)
{
    return t->table[s].has[sample] == 0 ? 0.0 : t->weight != NULL ? t->weight[s] : 1.0;
}

bool kd_teachers_answer(const kd_teachers *t, size_t sample, uint32_t epoch, int label, double temperature, double *p)
{
    enum { MOST = KD_CFG_MAX_PATHS };
    const size_t k = (size_t)t->table[0].n_classes;
    double w[MOST], gated = 0.0, plain = 0.0;
    KD_ASSERT(t->n >= 1 && t->n <= MOST);
    for (int s = 0; s < t->n; s++) {
        const double own = own_weight(t, s, sample);
        w[s] = own > 0.0 ? own * gate(t->how, logits_of(&t->table[s], sample, epoch), k, label, t->work) : 0.0;
        gated += w[s];
        plain += own;
    }
    if (plain <= 0.0) {
        return false;
    }
    memset(p, 0, k * sizeof *p);
    for (int s = 0; s < t->n; s++) {
        const double share = gated > 0.0 ? w[s] / gated : own_weight(t, s, sample) / plain;
        if (share > 0.0) {
            soften(logits_of(&t->table[s], sample, epoch), k, temperature, t->work);
            for (size_t i = 0; i < k; i++) {
                p[i] += share * t->work[i];
            }
        }
    }
    return true;
}
