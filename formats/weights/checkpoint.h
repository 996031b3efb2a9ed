/* Checkpoint directories: named tensors in safetensors files and the state of a run in state.json.
 *
 *     checkpoints/last/model.safetensors   one file a group ("model", "optim", "ema", ...)
 *                      optim.safetensors
 *                      state.json
 * state.json: {"format": "lastkd-checkpoint", "version": 1,
 *              "files": {"model.safetensors": {"bytes": 1234, "xxh64": "..."}, ...},
 *              "state": <the caller's object>, "xxh64": "<of this file>"}
 *
 * Saving writes a temporary directory beside `dir`, flushes every file, then exchanges directories: a kill at any point
 * leaves at `dir` (or, on file systems without an atomic exchange, at `<dir>.prev`) a complete old
 * or a complete new checkpoint, never a mixture.  Opening checks every byte of every file: one
 * flipped bit anywhere is KD_E_INTEGRITY, naming the file. state.json covers itself: its "xxh64" is
 * the hash of the file's text with those 16 digits set to 0.
 *
 * What a checkpoint of training holds: distill/train/train_state.c.
 */
#ifndef KD_FORMATS_WEIGHTS_CHECKPOINT_H
#define KD_FORMATS_WEIGHTS_CHECKPOINT_H

#include "formats/base/json.h"
#include "formats/weights/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_ckpt_group {
    const char *name; /* letters, digits, '_' and '-': the file is <name>.safetensors */
    const kd_st_tensor *tensor;
    size_t count;
} kd_ckpt_group;

/* Write a checkpoint to `dir` (its parent is made).  keep_prev: what was there becomes
 * `<dir>.prev`, else it is removed. `state` is copied into state.json.  KD_E_WRITE (disk full, ...)
 * leaves the old checkpoint as it was. */
KD_NODISCARD kd_status kd_ckpt_save(const char *dir, const kd_ckpt_group *group, size_t groups, const kd_json *state,
                                    bool keep_prev, kd_err *err);

typedef struct kd_ckpt kd_ckpt;

/* Open and verify.  KD_E_IO: there is none; KD_E_INTEGRITY: damaged; KD_E_FORMAT: of another
 * version. */
KD_NODISCARD kd_status kd_ckpt_open(const char *dir, kd_ckpt **out, kd_err *err);

/* The same, but when `dir` is absent or damaged, `<dir>.prev` is taken if it is whole, which a
 * warning in the log says.  Another failure (memory, a disk that does not answer) never leads to
 * another checkpoint.  When both fail the error is that of `dir`. */
KD_NODISCARD kd_status kd_ckpt_open_last(const char *dir, kd_ckpt **out, kd_err *err);
void kd_ckpt_close(kd_ckpt *c); /* NULL is legal; tensors and state end with it */

/* Is there a checkpoint directory `dir` or `<dir>.prev`, whole or not?  KD_E_IO, KD_E_OOM: nobody can say. */
KD_NODISCARD kd_status kd_ckpt_exists(const char *dir, bool *yes, kd_err *err);

const char *kd_ckpt_dir(const kd_ckpt *c);                             /* the directory really used */
bool kd_ckpt_fell_back(const kd_ckpt *c);                              /* `.prev` was taken */
const kd_json *kd_ckpt_state(const kd_ckpt *c);                        /* the caller's object */
const kd_st_file *kd_ckpt_tensors(const kd_ckpt *c, const char *name); /* a group; NULL when absent */

#ifdef __cplusplus
}
#endif
#endif
