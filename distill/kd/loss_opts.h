/* Options of the loss: config section `kd`; each is documented in terms.inc and loss_opts.inc. */
#ifndef KD_DISTILL_KD_LOSS_OPTS_H
#define KD_DISTILL_KD_LOSS_OPTS_H

#include "kernels/kd_options.h"

/* How the weight of a term goes over the epochs of the run. */
#define KD_WEIGHT_SHAPE_MAP(X)        \
    X(KD_WEIGHT_CONSTANT, "constant") \
    X(KD_WEIGHT_LINEAR, "linear")     \
    X(KD_WEIGHT_COSINE, "cosine")

#define KD_FEATURE_MATCH_MAP(X)      \
    X(KD_FEATURE_MATCH_NONE, "none") \
    X(KD_FEATURE_MATCH_MSE, "mse")   \
    X(KD_FEATURE_MATCH_COSINE, "cosine")

/* In the order of kd_tail (kernels/kd_ops.h). */
#define KD_TOPK_TAIL_MAP(X)     \
    X(KD_TOPK_ZERO, "zero")     \
    X(KD_TOPK_RENORM, "renorm") \
    X(KD_TOPK_UNIFORM, "uniform")

#define KD_COMBINE_MAP(X)                  \
    X(KD_COMBINE_EACH, "each")             \
    X(KD_COMBINE_AVERAGE, "average")       \
    X(KD_COMBINE_CONFIDENCE, "confidence") \
    X(KD_COMBINE_ENTROPY, "entropy")       \
    X(KD_COMBINE_CORRECTNESS, "correctness")

KD_ENUM_OF(kd_combine, KD_COMBINE_MAP);
KD_ENUM_OF(kd_topk_tail, KD_TOPK_TAIL_MAP);
KD_ENUM_OF(kd_weight_shape, KD_WEIGHT_SHAPE_MAP);
KD_ENUM_OF(kd_feature_match, KD_FEATURE_MATCH_MAP);

typedef struct kd_loss_opts {
#define KD_OPTIONS "distill/kd/loss_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_loss_opts;

/* What a term reads. */
enum {
    KD_READS_LABELS = 1,
    KD_READS_LOGITS = 2,
    KD_READS_FEATURES = 4,
    KD_READS_STORE = KD_READS_LOGITS | KD_READS_FEATURES,
    KD_READS_LATENT = 8,   /* of the model that learns: its information bottleneck */
    KD_READS_AVERAGE = 16, /* the answers of the model's running average */
    KD_READS_PEERS = 64,   /* the answers of the students that learn with this one */
    KD_READS_CLASSES = 32  /* embeddings of the classes, beside labels or, without one, the stores' probabilities */
};

/* Does a term that these options weigh read one of these?  KD_READS_* bits. */
static inline bool kd_loss_wants(const kd_loss_opts *o, unsigned what)
{
    bool any = false;
#define ENUM(...)
#define REAL(...)
#define INT(...)
#define BOOL(...)
#define KD_TERM_SCHEDULE(...)
#define KD_TERM(name, file, reads, weight) any = any || ((what & (reads)) != 0 && (weight) > 0.0);
#include "distill/kd/terms.inc"
#undef ENUM
#undef REAL
#undef INT
#undef BOOL
#undef KD_TERM_SCHEDULE
#undef KD_TERM
    return any;
}

#endif
