/* Mixed batches (mixup, CutMix) on the host: pairs, their lambda, smoothed and mixed targets.
 *
 * Source: timm's Mixup (partner flip; lambda is always corrected to the share that a clipped box leaves) and LAST's
 * trainer (partner permute; temporal CutMix); both give
 *     t = lam * smooth(y_i) + (1 - lam) * smooth(y_partner)
 *     smooth(y) = 1 - s + s / K at y, s / K elsewhere
 * also when a batch is not mixed (lam = 1).  The inputs are mixed on the device, by the op `mixup`
 * (skeletons) or `patchify` (clips), which take perm, lam and cut as they are here; teacher
 * probabilities are mixed by kd_mix_rows.
 *
 * What shares one draw of (mixed at all, mixup or CutMix, lambda, box) is mixup.mode: the batch, each row by itself
 * (elem), or a row and its partner B-1-i (pair).
 *
 * Draws come from KD_RNG_BATCH, keyed by (seed, epoch, batch).  Rows are mixed with rows of their kind, with a label or
 * without one.  A row that is invalid or has no label gets a zero target; a row whose partner is invalid or of the
 * other kind is not mixed (its lam is 1).
 */
#ifndef KD_DISTILL_BATCH_MIXUP_H
#define KD_DISTILL_BATCH_MIXUP_H

#include "distill/batch/mixup_opts.h"
#include "kernels/kd_rng.h"

/* What a batch is mixed by. */
typedef struct kd_mix {
    int32_t *perm; /* [rows] */
    float *lam;    /* [rows] */
    int32_t *cut; /* [rows, 4]; CutMix: top, left, height, width of the row's box; zeros: mixup, or none.  Of sequences:
                      first frame, 0, frames, 0 */
    int frames;   /* T, of sequences, which CutMix cuts in time; 0: rows are no sequences */
    float
        *frame_lam; /* [rows, T] share of its own in each frame of a row: lam where it is mixed, 0 where it is cut, 1 */
} kd_mix;

/* Fill the mix of a batch of pictures of side x side (without pictures: 0; CutMix must be off then).
 * out->frames above 0: CutMix takes a run of frames of the partner, as LAST's trainer does, and frame_lam is filled.
 * mixup.alpha and cutmix_alpha 0, or what is not drawn: identity and ones.  Partner flip needs
 * an even number of rows (kd_config_finish checks); with an odd one the middle row is its own partner.
 * Mode pair has partner flip.  kind[i]: 0 for an invalid row; rows of unequal kinds are not mixed; NULL: all are of
 * one. */
void kd_mix_draw(const kd_mixup_opts *cfg, uint64_t seed, uint32_t epoch, uint32_t batch, int rows, const float *kind,
                 int side, kd_mix *out);

/* The box of CutMix round (cy, cx): sides int(height sqrt(1 - lam)), int(width sqrt(1 - lam)), an odd
 * one loses a pixel, cut off at the edges.  Returns the share of the picture that is left. */
double kd_cut_box(int height, int width, double lam, int cy, int cx, int32_t box[4]);

/* LAST's temporal CutMix: how many of T frames are cut, max(1, int(T (1 - lam))).  The share that is left is
 * 1 - cut / T. */
int kd_cut_frames(int frames, double lam);

/* target (rows, classes).  perm / lam NULL: not mixed.  label < classes where valid; below 0: the row has none, and
 * neither has its partner. */
void kd_targets(const int32_t *label, const float *valid, int rows, int classes, double smoothing, const int32_t *perm,
                const float *lam, float *target);

/* Class weights upon targets of kd_targets, so that the mean of their cross-entropy over the valid rows is
 *     sum_i sum_k -w[k] t[i][k] log p[i][k] / sum_i (lam w[y_i] + (1 - lam) w[y_partner])
 * which is torch's CrossEntropyLoss(weight, label_smoothing) where nothing is mixed. */
void kd_targets_weigh(const double *w, const int32_t *label, const float *valid, int rows, int classes,
                      const int32_t *perm, const float *lam, float *target);

/* dst[i] = lam[i] src[i] + (1 - lam[i]) src[perm[i]]; dst must not overlap src.  floats: of a
 * row. */
void kd_mix_rows(const float *src, int rows, size_t floats, const int32_t *perm, const float *lam, float *dst);

#endif
