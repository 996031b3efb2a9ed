/* The loss of a run: any number of weighted terms, one row of the table (terms.inc) and one file each.
 *
 *   loss = sum_i weight_i(epoch) * term_i
 *
 * A term is a mean over the rows of the batch that have all that the term reads: labels, a teacher's logits, a
 * teacher's features; what reads the latent distribution of the model that learns takes the rows with labels.  A mean
 * without such a row is 0 and has no gradient.  Each store gets its own copy of every term that reads stores.  Students
 * and teachers are trained by the same table: a run without stores keeps the terms that read none.
 *
 * Inputs of the training program.  Names of the second and later store end in _2, _3, ...
 *
 *   "target" (B,...), "valid" (B)    labels, smoothed and mixed; 1 a row that was read and has a label, else 0
 *   "teacher_valid" (B)              1 where the sample was read and the store has a record of it
 *   "teacher" (B,K)                  the store's logits.  Where batches are mixed: probabilities at the temperature of
 *                                    the term (of a raw term: the logits), mixed on the host; one input a term then,
 *                                    numbered by term
 *   "teacher_feature" (B,P)          the store's features
 *   "joined_valid" (B)               where stores are combined: 1 where one of them has a record; "teacher" is then fed
 *                                    as where batches are mixed
 *   "averaged" (B,K), "averaged_valid" (B)  logits of the model's running average for the same rows; 1 where the sample
 *                                    was read
 *   "peer" (B,K), "peer_2", ..., "peer_valid" (B)  logits of the students that learn with this one for the same rows; 1
 *                                    where the sample was read
 *   "class_embed" (K,E)              embeddings of the classes, written once
 *   "embed_target" (B,K), "embed_valid" (B)  labels as in "target" or, where a sample has none, the stores'
 *                                    probabilities; 1 where the sample has either
 *   "weight_<log name>" ()           of a term whose weight changes from epoch to epoch
 *
 * Where the training data stay on the device, "teacher_has" (S), "teacher_table" (S,K) and "feature_table" (S,P) are
 * written once in place of the three teacher inputs; mixed and combined probabilities are fed all the same.
 * Outputs: "loss", and each term under its log name ("loss_ce", "loss_kd", ...).
 */
#ifndef KD_DISTILL_KD_LOSS_H
#define KD_DISTILL_KD_LOSS_H

#include "distill/kd/loss_opts.h"
#include "kernels/kd_graph.h"
#include "kernels/kd_params.h"

enum { KD_TERM_PARAMS = 4, KD_TERM_NAME = 48, KD_STORES_MAX = KD_CFG_MAX_PATHS };
enum { KD_STORES_JOINED = -1 }; /* in the place of a store: all of them, as one teacher (kd.combine) */

struct kd_term;
struct kd_loss;

/* The values of a batch that terms are built from; those that a term does not read are KD_NONE. */
typedef struct kd_term_inputs {
    const struct kd_loss *loss;
    kd_val logits;                                  /* stat or activation (B,K) of the model that learns */
    kd_val features;                                /* (B,D), what its classifier reads */
    kd_val latent;                                  /* stat (B,2 dims): mean, log-variance; KD_NONE: it has none */
    kd_val target;                                  /* stat (B,K) */
    kd_val valid;                                   /* stat (B), 1: has a label */
    kd_val teacher, teacher_feature, teacher_valid; /* of the term's store */
    kd_val embed, embed_target, embed_valid;        /* of terms that read the embeddings of classes */
    kd_val taught_valid; /* stat (B), 1: has a label and an answer of the store; of terms that read both */
    kd_val *beside;      /* out: the KL term, when the cross-entropy's op also computes it; NULL otherwise */
} kd_term_inputs;

/* A row of the table. */
typedef struct kd_term_def {
    const char *name;  /* in recipes */
    const char *log;   /* "loss_ce": program output, log key, TensorBoard tag */
    const char *text;  /* in the line that states the loss: "CE" */
    unsigned reads;    /* KD_READS_*, of terms.inc */
    int coupled;       /* least rows of a batch that say anything, where they enter one another's terms and batches must
                        * not be cut into parts; 0: each row for itself */
    bool raw;          /* the teacher's logits of mixed samples are mixed themselves, not their probabilities */
    int temperature;   /* index of the parameter that softens the teacher; -1: none */
    double own_weight; /* in the place of a weight below 0 */
    void (*read)(const kd_loss_opts *o, struct kd_term *t); /* schedule and parameters */
    kd_val (*build)(kd_graph *g, const kd_term_inputs *in, const struct kd_term *t);
} kd_term_def;

/* A term of one run. */
typedef struct kd_term {
    const kd_term_def *def;
    double weight;                /* at its full height */
    double param[KD_TERM_PARAMS]; /* of the row, in its order */
    kd_weight_shape shape;        /* over the epochs of the run: flat, or falling to 0 in a line or half a cosine */
    double warmup_epochs;         /* the weight rises from 0 in a line; 0: at once */
    double stop_epoch;            /* the weight is 0 from this epoch on; 0: never */
    int store;                    /* which store, or which of the other students, it reads, or KD_STORES_JOINED; 0 for
                                     terms that read labels alone */
    char log[KD_TERM_NAME];       /* def->log, numbered by store */
    char input[KD_TERM_NAME];     /* the logits it reads */
} kd_term;

typedef struct kd_loss {
    kd_term *term; /* owned; [n] */
    int n;
    int stores;
    int feature_dim[KD_STORES_MAX]; /* of each store; 0: it has none */
    int peers;                      /* students that learn with this one */
    int embed_dim;                  /* E, of the embeddings of classes; 0: there are none */
    bool mixed;                     /* batches are mixed (mixup, CutMix) */
    bool joined;                    /* the stores are one teacher of the terms on logits */
    bool latent;                    /* the model that learns has an information bottleneck */
} kd_loss;

/* Are the teacher's answers fed term by term, as probabilities? */
static inline bool kd_loss_fed(const kd_loss *l)
{
    return l->mixed || l->joined;
}

/* The loss that the options describe, for the stores of `out` (its stores, feature_dim, peers, mixed and latent are
 * set). Without stores: the cross-entropy with weight 1, and what the model's own terms add.  KD_E_OOM. */
KD_NODISCARD kd_status kd_loss_make(const kd_loss_opts *o, kd_loss *out, kd_err *err);

/* The loss of a model without a teacher and without options: cross-entropy, and with `latent` the information
 * bottleneck.  KD_E_OOM. */
KD_NODISCARD kd_status kd_loss_own(bool mixed, bool latent, kd_loss *out, kd_err *err);
/* Append a term; fills its names. */
KD_NODISCARD kd_status kd_loss_add(kd_loss *l, const kd_term *t, kd_err *err);
void kd_loss_free(kd_loss *l); /* zeroed is legal */

int kd_term_count(void);
const kd_term_def *kd_term_at(int i);
/* Row i as the options describe it, of the first store; weight 0: the term is off. */
kd_term kd_term_read(int i, const kd_loss_opts *o);

/* Does any term of store `store` (or KD_STORES_JOINED) read one of these?  KD_READS_* bits. */
bool kd_loss_reads(const kd_loss *l, int store, unsigned reads);

/* Weight of a term at a point of the run, in epochs (fractions count). */
double kd_term_weight(const kd_term *t, double epoch, double epochs);
bool kd_term_is_scheduled(const kd_term *t);

/* Name of the first term that is coupled across the batch; NULL: there is none. */
const char *kd_loss_coupled(const kd_loss *l);

/* "0.5 CE + 0.5 T^2 KL(teacher || student) at T = 4" */
void kd_loss_text(const kd_loss *l, char *out, size_t size);

/* `name` and the number of a store: "teacher", "teacher_2". */
void kd_loss_name(const char *name, int store, char out[KD_TERM_NAME]);

/* Where the values of a batch come from. */
typedef struct kd_loss_batch {
    int batch, classes;
    kd_shape target;         /* of one sample: (K) */
    kd_val logits, features; /* of the model that learns */
    kd_val latent;           /* KD_NONE: it has no information bottleneck */
    kd_val sample;           /* i32 (B), rows of the tables on the device; KD_NONE: everything is fed */
    int64_t kept;            /* S, rows of those tables */
} kd_loss_batch;

/* Append the loss to g: inputs, terms, outputs.  Returns the loss; errors are the graph's. */
kd_val kd_loss_build(kd_graph *g, const kd_loss *l, const kd_loss_batch *b);

#endif
