/* The student family by name: what each model reads, how it is built, how its parameters are
 * grouped.
 *
 * Names are those of spec'd releases ("last-v1-base", "last-e3-nano", "sfz-nano"); a bare "LAST"
 * never occurs.  Parameter and buffer names are the state_dict names of the reference modules, so
 * weights travel both ways.  Known oddities of the references are kept unless an option of
 * kd_student_cfg says otherwise.
 */
#ifndef KD_STUDENT_MODEL_STUDENT_H
#define KD_STUDENT_MODEL_STUDENT_H

#include "kernels/kd_graph.h"
#include "kernels/kd_params.h"
#include "student/layout/layout.h"

#define KD_STUDENT_MAX_STREAMS 4

struct kd_student_family;

typedef struct kd_student_info {
    const char *name;
    /* Inputs in the order kd_student_build takes them: "joint", "velocity", "bone". */
    const char *streams[KD_STUDENT_MAX_STREAMS];
    int n_streams;
    int feature_dim;                        /* of the pooled vector the classifier reads */
    int latent;                             /* dims of its information bottleneck; 0: it has none */
    const char *about;                      /* one line for `kd model info` */
    int64_t params;                         /* trainable scalars with 60 classes and ntu25 */
    float dropout, drop_path;               /* the reference's rates; drop_path negative: nothing to drop */
    const struct kd_student_family *family; /* internal: who builds it, */
    const void *size;                       /* and its widths, in a struct of that family */
} kd_student_info;

/* Repairs.  Weights are those of a reference module all the same, but it does not compute what the repaired model does.
 */
enum {
    KD_FIX_PART_JOINTS = 1, /* sfz with PartAttention: every joint of ntu25 belongs to its own part */
    KD_FIX_EMPTY_BODY = 2,  /* sfz, last-v2: an absent body is body 0 again, neither a sample of zeros nor half of the
                                   averaged logits */
    KD_FIX_ADJACENCY_START =
        4,                  /* sfz-nano, -small, -medium, last-v2, last-e1: learned adjacencies start above zero, where
                                   the absolute value has a gradient */
    KD_FIX_SHARED_DECAY = 8 /* sfz-nano, -small: shared_a_learned is not decayed, as other adjacencies are not */
};

/* KD_FIX_* of names separated by commas.  KD_E_CONFIG: a name that is unknown, twice there, or does nothing for the
 * model; `key` is what the message calls the list. */
KD_NODISCARD kd_status kd_student_fixes(const kd_student_info *model, const char *names, const char *key, unsigned *out,
                                        kd_err *err);

int kd_student_count(void);
const kd_student_info *kd_student_at(int i);              /* NULL past the end */
const kd_student_info *kd_student_find(const char *name); /* NULL: unknown */
const char *kd_student_name(int i);                       /* of kd_student_at */

/* Input i of the model.  `chosen` (student.stream) takes the place of the only one of a model that reads one stream. */
const char *kd_student_stream(const kd_student_info *model, const char *chosen, int i);
const char *kd_stream_name(int i); /* "joint", "velocity", "bone", "bone_velocity"; NULL past the last */

typedef struct kd_student_cfg {
    const kd_student_info *model;
    const kd_layout *layout;     /* of the skeletons, of kd_layout_check; NULL: ntu25; outlives the call */
    int classes, frames, bodies; /* 60, 64, 2 */
    float dropout, drop_path;    /* negative: the model's own; dropout 0 turns all off */
    bool taps;                   /* keep module outputs as "act.<module path>" outputs where the model names them */
    unsigned fix;                /* KD_FIX_*: repairs of the reference's known bugs; 0: as the reference */
    float temperature;           /* logits are divided by it: a calibration; 0: they are left as they are */
    uint64_t seed;               /* last-v1: noise of the adjacencies that start as identity + noise */
} kd_student_cfg;

typedef struct kd_student_out {
    kd_val logits;  /* (N,classes) stat dtype; output "logits".  last-v2: log-probabilities */
    kd_val feature; /* (N,feature_dim): what the classifier reads, mean of bodies; "features" */
    kd_val latent;  /* stat (N,2 latent): mean and log-variance of the information bottleneck; absent: it has none */
} kd_student_out;

/* Append the model to g.  streams[i] (N,3,frames,joints,bodies) in the order of model->streams,
 * stat or activation dtype. A failure (configuration, shapes) is the graph's sticky error; the
 * result then holds absent values. */
kd_student_out kd_student_build(kd_graph *g, const kd_student_cfg *c, const kd_val *streams);

/* The least number of frames, from c->frames on, that the model can be built on: strides leave too few of a short
 * sequence.  c->frames too where frames are not what is wrong. */
int kd_student_least_frames(const kd_student_cfg *c);

/* Weight-decay groups of the reference's recipe, which goes by names (bias, bn, norm, alpha, ...).  Its misses are
 * kept: shared_a_learned decays (unless KD_FIX_SHARED_DECAY is in `fix`), and normalisation weights inside sequences of
 * LAST v1 and LAST-E do.  A recipe changes groups by optim.decay and optim.rules. */
void kd_student_param_groups(kd_params *p, const kd_student_info *model, unsigned fix);

/* What the reference's state_dict holds besides the parameters and running statistics of p, for writing a complete one:
 *   constants (graph matrices, shift tables)       dtype KD_F32 or KD_I64, data
 *   the batch counters of its batch norms          KD_I64 (), 0: nothing reads them where the momentum is a number
 *   second names of shared parameters              `of`, the parameter; data NULL
 * Name and data last for the call.  Stops at visit's first failure and returns it. */
kd_status kd_student_extras(const kd_student_cfg *c, kd_params *p,
                            kd_status (*visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape,
                                               const void *data, const char *of),
                            void *user);

/* Does the reference's state_dict carry a tensor of this name that is no parameter here: a constant, a batch counter, a
 * second name of a shared parameter? */
bool kd_student_is_constant(const kd_student_info *model, const char *name);

/* Is the parameter one of the classifier, whose shape follows the number of classes? */
bool kd_student_is_head(const char *name);

#endif
