/* `kd parity`: build what a fixture describes, run it, compare with its golden values.
 *
 * A fixture is a directory with a manifest.json and safetensors; weights and inputs come from
 * bit-exact generators named by tensor.  Their CRCs are checked before anything is run: the first
 * that differs ends the fixture, with one line.  Each kind of fixture has one checker; the
 * manifest's own keys say which.  Every compared item prints one line: name, error, allowed, ok or
 * FAIL; a NaN never passes.  A key of the manifest that the checker does not read is named.
 *
 * Tolerances.  f32: PARITY_FACTOR times the difference the fixture itself records between the
 * reference's f32 and f64 runs (another summation order moves an f32 result by about that much),
 * but at least PARITY_FLOOR units of the last place of the item's largest value.  bf16, fp16:
 * that difference grown by the ratio of the units of the last place (2^16, 2^13), but at least
 * PARITY_HALF units of the last place of the largest value.  A recorded difference counts up to
 * PARITY_CREDIBLE of the largest value: a golden value that is wrong differs from the reference's
 * f32 run and would excuse itself.
 *
 * Activations inside a model have no recorded difference, and that of the logits says nothing about
 * them.  The rounding errors of a sum of k terms grow like a random walk, sqrt(k) units of the last
 * place of its largest value, and those of n branches added one after the other like sqrt(n).
 * Allowed in f32: PARITY_SUM x 2^-24 x sqrt(k n) x largest value, k the terms of the model's longest
 * sum.  PyTorch's own f32 run needs up to a third of that over the fixtures of teachers.  In half
 * precision sums are kept in f32, so k does not count: PARITY_HALF units x sqrt(n).
 */
#ifndef KD_TOOLS_PARITY_PARITY_H
#define KD_TOOLS_PARITY_PARITY_H

#include "formats/base/json.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_program.h"

#define PARITY_FACTOR   10.0
#define PARITY_FLOOR    16.0 /* x 2^-24 x largest magnitude */
#define PARITY_CREDIBLE 0x1p-14
#define PARITY_HALF     8.0 /* x 2^-8 (bf16) or 2^-11 (fp16) x largest magnitude */
#define PARITY_SUM      2.0 /* x 2^-24 x sqrt(terms x branches) x largest magnitude */

typedef struct parity {
    const char *dir;
    const char *label;       /* what reports call it: dir, and the file when it is not manifest.json */
    const kd_json *manifest; /* NULL for tables without one */
    kd_backend *be;
    kd_dtype dtype;
    bool json;
    int items, failed;
    bool stopped; /* by kd_parity_stop */
} parity;

/* One compared item.  `allowed` and `error` in the same unit; NaN fails. */
void kd_parity_item(parity *p, const char *name, double error, double allowed);
/* A yes/no item (an argmax, a CRC, an exact table). */
void kd_parity_check(parity *p, const char *name, bool ok, const char *detail);

/* The fixture is not what its manifest says: one failed item, after which the checker returns this status (KD_E_DATA).
 * what: "weights: CRC of blocks.0.norm1.weight". */
KD_NODISCARD kd_status kd_parity_stop(parity *p, const char *what, const char *expected, const char *found);
/* CRC-32 of `bytes` bytes against the manifest's, hexadecimal; differs: kd_parity_stop. */
KD_NODISCARD kd_status kd_parity_crc(parity *p, const char *what, const void *data, size_t bytes, const char *crc);

/* Name the keys of the manifest that no pattern fits: a line each, not counted.  A pattern is keys with '/' between,
 * '*' for any key; all below it is read.  Patterns are separated by blanks. */
void kd_parity_unread(parity *p, const char *patterns);

/* Something the fixture holds and no part of this build computes: a line, not counted. */
void kd_parity_skip(parity *p, const char *name, const char *why);

/* max |got - want| against tolerance(reference f32-f64 difference `diff`, largest |want|). */
void kd_parity_f32(parity *p, const char *name, const float *got, const double *want, size_t n, double diff);
double kd_parity_allowed(const parity *p, double diff, double largest);
/* Of an activation: `terms` of the longest sum, `branches` added before it. */
double kd_parity_allowed_sum(const parity *p, double terms, double branches, double largest);

/* {l2, idx, val, and sum where it is there} of a tensor in the manifest against v: error in units of the allowance is
 * kept in *worst; a tensor that fails gets a line of its own, and *worst NaN.  deviations: that the sum may be off; 1
 * where the errors of its terms are independent. */
void kd_parity_summary(parity *p, const char *what, const char *name, const float *v, int64_t n, const kd_json *s,
                       double diff, double deviations, double *worst);

/* Open the safetensors file of the fixture's directory that holds `tensor`, whatever the file is
 * called. */
KD_NODISCARD kd_status kd_parity_open(const parity *p, const char *tensor, kd_st_file **out, kd_err *err);
/* Integers of any width, n values; kd_free. */
KD_NODISCARD kd_status kd_parity_ints(const kd_st_file *f, const char *name, size_t n, int64_t **out, kd_err *err);
/* Tensor as f64, n values; kd_free.  KD_E_DATA when absent or of another size. */
KD_NODISCARD kd_status kd_parity_tensor(const kd_st_file *f, const char *name, size_t n, double **out, kd_err *err);

/* ---- generators (formulas: the fixtures' READMEs) -------------------------------------------- */
uint32_t kd_parity_u24(const char *name, uint32_t i);                                     /* videomae, losses */
void kd_parity_fill(const char *name, float scale, float offset, float *out, size_t n);   /* videomae, losses */
void kd_parity_fill_last(const char *name, int64_t ko, int64_t ks, float *out, size_t n); /* last */

/* Parameters of a teacher of that depth; sizes do not matter to their groups.  list: names that say what else it has
 * (layer scale, biases, a table); NULL: nothing. */
KD_NODISCARD kd_status kd_parity_declare_depth(const kd_json *list, int depth, struct kd_params *params, kd_err *err);

/* ---- checkers: run all items of one fixture; a status other than KD_OK means not run */
typedef kd_status (*kd_parity_checker)(parity *p, kd_err *err);
kd_status kd_parity_vit_tiny(parity *p, kd_err *err);
kd_status kd_parity_vit_full(parity *p, kd_err *err);
kd_status kd_parity_vit_traj(parity *p, kd_err *err);
kd_status kd_parity_layer_decay(parity *p, kd_err *err);
kd_status kd_parity_cosine(parity *p, kd_err *err);
kd_status kd_parity_schedules(parity *p, kd_err *err);
kd_status kd_parity_recipe_losses(parity *p, kd_err *err);
kd_status kd_parity_sinusoid(parity *p, kd_err *err);
kd_status kd_parity_sampling(parity *p, kd_err *err);
kd_status kd_parity_sample_frames(parity *p, kd_err *err);
kd_status kd_parity_uniform_sample(parity *p, kd_err *err);
kd_status kd_parity_mixup(parity *p, kd_err *err);
kd_status kd_parity_spatial(parity *p, kd_err *err);
kd_status kd_parity_resize(parity *p, kd_err *err);
kd_status kd_parity_interp(parity *p, kd_err *err);
kd_status kd_parity_merge(parity *p, kd_err *err);
kd_status kd_parity_augment(parity *p, kd_err *err);
kd_status kd_parity_augment_levels(parity *p, kd_err *err);
kd_status kd_parity_crops(parity *p, kd_err *err);
kd_status kd_parity_pipeline(parity *p, kd_err *err);
kd_status kd_parity_pth(parity *p, kd_err *err);
kd_status kd_parity_student(parity *p, kd_err *err);
kd_status kd_parity_sequence(parity *p, kd_err *err);
kd_status kd_parity_student_losses(parity *p, kd_err *err);
kd_status kd_parity_losses(parity *p, kd_err *err);
kd_status kd_parity_constants(parity *p, kd_err *err);

#endif
