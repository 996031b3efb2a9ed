/* Run directory: config.yaml, log.jsonl, TensorBoard events, checkpoints/, report.json, lock.
 *
 * One process writes into it (flock; KD_E_LOCKED names the holder).  log.jsonl is append-only, one write(2) a line; a
 * resumed run first cuts it back to the length its checkpoint recorded, so that log and weights tell the same story.
 */
#ifndef KD_DISTILL_RUN_RUN_H
#define KD_DISTILL_RUN_RUN_H

#include "configs/schema/kd_config.h"
#include "formats/base/json.h"

typedef struct kd_run kd_run;

/* May a run go on, or start, in `dir`?  Writes nothing.  Without `resume` a directory that already holds a run is
 * refused (KD_E_ARG), but not one that ended before its first batch.  With it, an existing run must have its checkpoint
 * and its config.yaml (KD_E_DATA), and an empty or absent directory starts a new one, which the log says.  *begun:
 * there is a checkpoint to go on from. */
KD_NODISCARD kd_status kd_run_check(const char *dir, bool resume, bool *begun, kd_err *err);

/* Is `cfg` the recipe that the run's last checkpoint was trained with, which its state holds?  config.yaml may have
 * been edited since.  KD_E_CONFIG names the first difference among portable keys; more epochs are legal and said. */
KD_NODISCARD kd_status kd_run_same_recipe(const char *dir, const kd_json *state, const kd_config *cfg, kd_err *err);

/* kd_run_check, then make or reopen `dir`.  With `force` an existing run is not asked about and stays as it is until
 * kd_run_replace.  A directory with files that no run left is refused in every case (KD_E_ARG), a run without its
 * config.yaml likewise (KD_E_CONFIG). */
KD_NODISCARD kd_status kd_run_open(const char *dir, bool resume, bool force, kd_run **out, kd_err *err);
/* After kd_run_open with `force`, once the new run can start: log, report, events and checkpoints of the old one go. */
KD_NODISCARD kd_status kd_run_replace(kd_run *r, kd_err *err);
void kd_run_close(kd_run *r); /* NULL is legal */

/* config.yaml: once nothing is left that could refuse the run. */
KD_NODISCARD kd_status kd_run_write_config(kd_run *r, const kd_config *cfg, kd_err *err);

bool kd_run_begun(const kd_run *r); /* as kd_run_check found it */
/* "<dir>/<name>" into a buffer of the run that the next call overwrites. */
const char *kd_run_path(kd_run *r, const char *name);

/* Append one record to log.jsonl (compact JSON); frees the document. */
KD_NODISCARD kd_status kd_run_log(kd_run *r, kd_json *record, kd_err *err);
uint64_t kd_run_log_bytes(const kd_run *r);
KD_NODISCARD kd_status kd_run_log_cut(kd_run *r, uint64_t bytes, kd_err *err);

/* Start the TensorBoard file; `step` > 0 marks a restart (later points of an earlier file are void). */
KD_NODISCARD kd_status kd_run_events(kd_run *r, int64_t step, kd_err *err);
/* Scalar point; a failure to write is reported once as a warning, training goes on. */
void kd_run_scalar(kd_run *r, const char *tag, int64_t step, double value);
/* The recipe: as text, and its main numbers as hyper-parameters. */
void kd_run_recipe(kd_run *r, const kd_config *cfg, const char *model);
/* Confusion matrix (K,K), row = truth, as an image; name: [K] class names, or NULL. */
void kd_run_confusion(kd_run *r, const char *tag, int64_t step, const int64_t *counts, int classes,
                      const char *const *name);
/* How n values are spread. */
void kd_run_histogram(kd_run *r, const char *tag, int64_t step, const float *value, int64_t n);

#endif
