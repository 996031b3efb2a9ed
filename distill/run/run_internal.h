/* Inside of a run directory, shared by run.c and run_events.c. */
#ifndef KD_DISTILL_RUN_RUN_INTERNAL_H
#define KD_DISTILL_RUN_RUN_INTERNAL_H

#include "distill/run/run.h"
#include "formats/base/io.h"

enum { KD_RUN_PATH = 1024 };

struct kd_tfevents;

struct kd_run {
    char dir[KD_RUN_PATH];
    char path[KD_RUN_PATH + 128];
    kd_lock *lock;
    int log_fd;
    uint64_t log_bytes;
    bool begun;
    struct kd_tfevents *events;
    bool events_failed; /* said once */
};

/* run_claim.c: KD_E_ARG: the directory holds files of somebody else; KD_E_CONFIG: a run without its config.yaml. */
KD_NODISCARD kd_status kdi_run_claim(const char *dir, kd_err *err);
/* Remove what runs write: report, events, checkpoints. */
KD_NODISCARD kd_status kdi_run_remove(kd_run *r, kd_err *err);
void kdi_run_events_close(kd_run *r);

typedef struct kdi_picture {
    int width, height;
    uint8_t *rgb; /* [height][width][3]; kd_free */
} kdi_picture;

/* Rows of `counts` (K,K) as shares in shades from white to blue; class names left of the rows and below the columns
 * (NULL, or more than 160 classes: none). */
KD_NODISCARD kd_status kdi_run_draw_confusion(const int64_t *counts, int classes, const char *const *name,
                                              kdi_picture *p, kd_err *err);

#endif
