/* The rows of the table of terms; private to distill/kd. */
#ifndef KD_DISTILL_KD_TERMS_H
#define KD_DISTILL_KD_TERMS_H

#include "distill/kd/loss.h"

/* A term's schedule from options that begin with `prefix`. */
#define KD_TERM_READ_SCHEDULE(t, o, prefix)              \
    do {                                                 \
        (t)->shape = (o)->prefix##schedule;              \
        (t)->warmup_epochs = (o)->prefix##warmup_epochs; \
        (t)->stop_epoch = (o)->prefix##stop_epoch;       \
    } while (0)

/* The student's features through the run's linear projection `name`, (B,width). */
kd_val kdi_projected(kd_graph *g, const kd_term_inputs *in, int width, const char *name);

/* terms.inc without the options: the rows, what they read and their weights. */
#define ENUM(...)
#define REAL(...)
#define INT(...)
#define BOOL(...)
#define KD_TERM_SCHEDULE(...)
#define KD_TERM(name, file, reads, weight)                            \
    extern const kd_term_def kd_term_##name;                          \
    enum { kd_term_reads_##name = (reads) };                          \
    static inline double kd_term_weight_##name(const kd_loss_opts *o) \
    {                                                                 \
        return weight;                                                \
    }
#include "distill/kd/terms.inc"
#undef ENUM
#undef REAL
#undef INT
#undef BOOL
#undef KD_TERM_SCHEDULE
#undef KD_TERM

#endif
