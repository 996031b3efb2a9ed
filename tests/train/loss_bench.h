/* A loss by itself, for tests: the student's logits and features are inputs of a program, so that their gradients can
 * be read.  Everything is handed over in f64 and computed in the dtype of the bench. */
#ifndef KD_TESTS_TRAIN_LOSS_BENCH_H
#define KD_TESTS_TRAIN_LOSS_BENCH_H

#include "distill/kd/loss.h"
#include "kernels/kd_backend.h"
#include "kernels/kd_program.h"

/* Terms that the student's features have the gradient of. */
#define KD_LOSS_OF_FEATURES (KD_READS_FEATURES | KD_READS_CLASSES | KD_READS_LATENT)

typedef struct loss_bench {
    kd_dtype t;
    int rows, classes, width; /* B, K, and the width of the student's features */
    kd_backend *be;
    kd_params *params; /* the projections */
    kd_program *p;     /* outputs as kd_loss_build names them, and "grad:z", "grad:s" */
} loss_bench;

/* What a run is fed, row-major; what no term of the loss reads may be NULL.  Every store answers alike. */
typedef struct loss_data {
    const double *z, *s;                   /* (B,K), (B,width): the student's */
    const double *target, *labelled;       /* (B,K), (B) */
    const double *teacher, *feature;       /* (B,K), (B,P) */
    const double *taught;                  /* (B): of stores and of the running average */
    const double *embed;                   /* (K,E) */
    const double *embed_target, *embedded; /* (B,K), (B) */
    const double *projector, *bias;        /* (P,width), (P); bias NULL: zeros */
} loss_data;

/* b has its first five fields; loss_bench_close frees what a failure leaves, too. */
KD_NODISCARD kd_status loss_bench_open(loss_bench *b, const kd_loss *l, kd_err *err);
KD_NODISCARD kd_status loss_bench_run(const loss_bench *b, const kd_loss *l, const loss_data *d);
void loss_bench_close(loss_bench *b);

/* An input or output of the program; NULL: it has none of this name. */
void *loss_bench_tensor(const loss_bench *b, const char *name);
/* n numbers into a tensor of dtype t; a dst of NULL takes none. */
void loss_bench_put(void *dst, kd_dtype t, const double *src, int n);
double loss_bench_at(const void *p, kd_dtype t, int i);

#endif
