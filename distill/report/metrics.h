/* Figures of merit of a classifier, from scores (logits) and labels alone.
 *
 * Scores are f32 [n][classes], row-major; softmax(score / temperature) are the class probabilities.  Labels are
 * 0-based. A score that is NaN or infinite is refused (KD_E_NUMERIC), a label outside [0, classes) too (KD_E_DATA).
 *
 * Definitions, where usage differs:
 *   prediction           the class of the highest score; the lowest index among equals
 *   top-5                fewer than five classes come before the label (higher score, or equal and lower index)
 *   mean class accuracy  mean recall over the classes that have samples (scikit-learn's balanced accuracy)
 *   macro F1             mean F1 over the classes that occur as a label or as a prediction (scikit-learn's)
 *   micro F1             equals top-1 for one label a sample; reported because people look for it
 *   ECE                  equal-width bins of the predicted class's probability, bin i = (i/B, (i+1)/B]
 *   Brier                mean over samples of sum over classes of (p - [label])^2: 0 to 2
 */
#ifndef KD_DISTILL_REPORT_METRICS_H
#define KD_DISTILL_REPORT_METRICS_H

#include "kernels/kd_base.h"

enum { KD_ECE_BINS = 15, KD_ECE_BINS_MAX = 100 };

typedef struct kd_scores {
    const float *score;   /* [n][classes] */
    const int32_t *label; /* [n] */
    size_t n;
    int classes;
} kd_scores;

typedef struct kd_class_metrics {
    int64_t support, predicted, correct;
    double recall, precision, f1; /* NAN where undefined: no sample, no prediction, neither */
} kd_class_metrics;

typedef struct kd_calibration_bin {
    int64_t count;
    double confidence, accuracy; /* means; NAN in an empty bin */
} kd_calibration_bin;

typedef struct kd_metrics {
    size_t n;
    int classes, bins;
    double temperature;
    double top1, top5, mean_class_accuracy, macro_f1, micro_f1; /* 0..1 */
    double nll, ece, brier;
    kd_class_metrics *per_class; /* [classes] */
    int64_t *confusion;          /* [classes][classes], row: label, column: prediction */
    int32_t *prediction;         /* [n] */
    kd_calibration_bin bin[KD_ECE_BINS_MAX];
} kd_metrics;

/* bins 1..KD_ECE_BINS_MAX, temperature > 0.  *out is freed by kd_metrics_free, also after a failure. */
KD_NODISCARD kd_status kd_metrics_compute(const kd_scores *s, double temperature, int bins, kd_metrics *out,
                                          kd_err *err);
void kd_metrics_free(kd_metrics *m); /* zeroed is legal */

/* The temperature in [0.05, 20] with the lowest NLL (Guo et al. 2017). */
KD_NODISCARD kd_status kd_temperature_fit(const kd_scores *s, double *temperature, kd_err *err);

/* Mean NLL of the scores at a temperature. */
double kd_nll(const kd_scores *s, double temperature);

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct kd_interval {
    double mean, low, high;
} kd_interval;

/* Percentile bootstrap of mean_i mean_g value[g][i]: samples are drawn again with replacement, and groups (seeds) too
 * when there are several, so that both sources of chance are in the interval.  value is [groups][n].  Philox draws: the
 * same numbers give the same interval. `draws` >= 100, confidence in (0, 1). */
KD_NODISCARD kd_status kd_bootstrap(const float *value, size_t groups, size_t n, int draws, double confidence,
                                    uint64_t seed, kd_interval *out, kd_err *err);

/* The same for the difference mean(a) - mean(b) on the same n samples; a has ga groups, b gb. */
KD_NODISCARD kd_status kd_bootstrap_difference(const float *a, size_t ga, const float *b, size_t gb, size_t n,
                                               int draws, double confidence, uint64_t seed, kd_interval *out,
                                               kd_err *err);

/* Samples that belong together: of one person, of one camera. */
typedef struct kd_clusters {
    const uint32_t *of; /* [samples] index of the sample's cluster, below n */
    size_t n;
} kd_clusters;

/* The same with whole clusters drawn instead of samples (Field and Welsh 2007, the cluster bootstrap): people move in
 * their own way, so that clips of one person are no independent samples.  A draw's mean is over the samples of the
 * drawn clusters.  gb 0: the mean of `a` alone.  KD_E_ARG also for fewer than two clusters. */
KD_NODISCARD kd_status kd_bootstrap_clusters(const float *a, size_t ga, const float *b, size_t gb, size_t n,
                                             const kd_clusters *clusters, int draws, double confidence, uint64_t seed,
                                             kd_interval *out, kd_err *err);

/* Student's t: probability of a value at least as far from zero with `df` > 0 degrees of freedom, and the value that is
 * exceeded on both sides together with probability `p` in (0, 1). */
double kd_student_p(double t, double df);
double kd_student_t(double p, double df);

/* Paired t test: are n differences (of pairs of runs with equal seeds) zero on average?  *out: mean and interval of the
 * mean, *p two-sided.  With one difference nothing is known: an interval of NAN and p 1.  Differences that are all the
 * same and not zero give p 0. */
void kd_paired_t(const double *difference, size_t n, double confidence, kd_interval *out, double *p);

/* Holm's correction of n p values for their number (Holm 1979, Scandinavian Journal of Statistics 6, 65): adjusted[i]
 * below a level means that test i holds while the chance of even one false finding among the n stays below the level.
 * A p that is NAN is no test and stays NAN.  KD_E_OOM. */
KD_NODISCARD kd_status kd_holm(const double *p, size_t n, double *adjusted, kd_err *err);

/* What sample ids tell of a recording. */
typedef enum kd_factor_id { KD_FACTOR_PERSON, KD_FACTOR_CAMERA, KD_FACTOR_SETUP, KD_FACTOR_COUNT } kd_factor_id;

const char *kd_factor_key(kd_factor_id f); /* "person": in JSON and on the page */

/* The samples by the values of one factor; n 0 where not every id names one. */
typedef struct kd_factor {
    size_t n;
    uint32_t *of;     /* [samples] index of the sample's value */
    char (*name)[16]; /* [n] "P003", in ascending order */
    size_t *support;  /* [n] samples */
} kd_factor;

/* Of n >= 1 samples.  kd_factors_free ends zeroed ones too, and what a failure left. */
KD_NODISCARD kd_status kd_factors_of(const char *const *ids, size_t n, kd_factor out[KD_FACTOR_COUNT], kd_err *err);
void kd_factors_free(kd_factor factor[KD_FACTOR_COUNT]);

/* Exact two-sided McNemar test: of the samples on which two classifiers differ in being right, `a` went one way and `b`
 * the other; probability of a split at least as uneven when both ways are equally likely. */
double kd_mcnemar(int64_t a, int64_t b);

/* McNemar's question with clusters as units: difference[k] is, among the samples of cluster k, how often only the first
 * classifier is right minus how often only the second one is.  Probability of a sum at least as far from zero when the
 * sign of every cluster's difference is a coin (the exact randomization test of Gail et al. 1996, Statistics in
 * Medicine 15, 1069).  With one sample a cluster the result is kd_mcnemar's.  Never below 2^(1 - n): few people cannot
 * prove much. */
KD_NODISCARD kd_status kd_mcnemar_clusters(const int64_t *difference, size_t n, double *p, kd_err *err);

typedef struct kd_agreement {
    int64_t both_right, only_first, only_second, both_wrong;
} kd_agreement;

/* `label` decides what is right. */
kd_agreement kd_agree(const int32_t *first, const int32_t *second, const int32_t *label, size_t n);

#endif
