/* TensorBoard event files: what `tensorboard --logdir RUN` shows.
 *
 * One file a process start, `events.out.tfevents.<seconds>.<host>.<pid>.<n>`; TensorBoard joins the
 * files of a folder. Each record goes out in one write(2): readers drop a file for good when they
 * meet half a record.  Values that are not finite are written as they are.  Format: TFRecord
 * framing (masked CRC-32C) around protobuf Event messages. */
#ifndef KD_FORMATS_LOG_TFEVENTS_H
#define KD_FORMATS_LOG_TFEVENTS_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_tfevents kd_tfevents;

/* Create a new event file in `dir` (made if absent).  `resume_step` >= 0 says that a run goes on
 * from there: points of earlier files at later steps are hidden.  KD_E_WRITE. */
KD_NODISCARD kd_status kd_tfevents_open(const char *dir, int64_t resume_step, kd_tfevents **out, kd_err *err);
void kd_tfevents_close(kd_tfevents *t); /* NULL is legal, here and in every function below: nothing happens */

KD_NODISCARD kd_status kd_tfevents_scalar(kd_tfevents *t, const char *tag, int64_t step, double value, kd_err *err);
/* An encoded PNG of these dimensions; channels 1, 3 or 4. */
KD_NODISCARD kd_status kd_tfevents_image(kd_tfevents *t, const char *tag, int64_t step, const void *png, size_t bytes,
                                         int width, int height, int channels, kd_err *err);
/* How values are spread: bucket i holds count[i] of them, up to limit[i] and above the limit before. */
typedef struct kd_tf_histogram {
    double min, max, num, sum, sum_squares;
    const double *limit, *count; /* [buckets], limits ascending */
    size_t buckets;
} kd_tf_histogram;

KD_NODISCARD kd_status kd_tfevents_histogram(kd_tfevents *t, const char *tag, int64_t step, const kd_tf_histogram *h,
                                             kd_err *err);
/* Markdown. */
KD_NODISCARD kd_status kd_tfevents_text(kd_tfevents *t, const char *tag, int64_t step, const char *text, kd_err *err);

/* One hyper-parameter: text when `text` is set, else the number. */
typedef struct kd_tf_hparam {
    const char *name;
    const char *text;
    double number;
} kd_tf_hparam;

/* The session's hyper-parameters and the tags of the scalars that rate it ("val/top1"). */
KD_NODISCARD kd_status kd_tfevents_hparams(kd_tfevents *t, const char *session, const kd_tf_hparam *hp, size_t n,
                                           const char *const *metrics, size_t n_metrics, kd_err *err);
/* The session ended; `ok` false: it failed. */
KD_NODISCARD kd_status kd_tfevents_end(kd_tfevents *t, bool ok, kd_err *err);

/* ---- for tests ------------------------------------------------------------------------------- */
uint32_t kd_crc32c(const void *data, size_t bytes);
/* Later records carry this time instead of the clock's. */
void kd_tfevents_set_time(kd_tfevents *t, double seconds);
const char *kd_tfevents_path(const kd_tfevents *t);

#ifdef __cplusplus
}
#endif
#endif
