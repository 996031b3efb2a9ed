/* RandAugment on pictures of bytes, bit for bit what timm's operations give with Pillow.
 *
 * A policy is written as timm writes one, "rand-m7-n4-mstd0.5-inc1".  Every clip draws `n` of 15 operations, with
 * replacement; each is left out with probability 0.5, or works at a level drawn around m; all frames of the clip get
 * the same operations at the same levels.  A level is clipped to 0..10.
 *
 * Source: VideoMAE's rand_augment.py (timm's auto_augment.py for videos) and Pillow 9.4, whose arithmetic Pillow 13.0
 * still has, but for Posterize to 0 bits, which it refuses (black here, as before); tests/golden/parity/randaugment.
 * What a warp uncovers is (128, 128, 128): the reference passes no mean.
 */
#ifndef KD_TEACHER_CLIP_AUGMENT_H
#define KD_TEACHER_CLIP_AUGMENT_H

#include "kernels/kd_base.h"
#include "kernels/kd_rng.h"
#include "teacher/clip/clip_opts.h"

/* In the reference's order, which a weighted choice follows. */
#define KD_AUGMENT_MAP(X)                       \
    X(KD_AUGMENT_AUTO_CONTRAST, "AutoContrast") \
    X(KD_AUGMENT_EQUALIZE, "Equalize")          \
    X(KD_AUGMENT_INVERT, "Invert")              \
    X(KD_AUGMENT_ROTATE, "Rotate")              \
    X(KD_AUGMENT_POSTERIZE, "Posterize")        \
    X(KD_AUGMENT_SOLARIZE, "Solarize")          \
    X(KD_AUGMENT_SOLARIZE_ADD, "SolarizeAdd")   \
    X(KD_AUGMENT_COLOR, "Color")                \
    X(KD_AUGMENT_CONTRAST, "Contrast")          \
    X(KD_AUGMENT_BRIGHTNESS, "Brightness")      \
    X(KD_AUGMENT_SHARPNESS, "Sharpness")        \
    X(KD_AUGMENT_SHEAR_X, "ShearX")             \
    X(KD_AUGMENT_SHEAR_Y, "ShearY")             \
    X(KD_AUGMENT_TRANSLATE_X, "TranslateXRel")  \
    X(KD_AUGMENT_TRANSLATE_Y, "TranslateYRel")

KD_ENUM_OF(kd_augment_op, KD_AUGMENT_MAP);
enum { KD_AUGMENT_OPS = KD_AUGMENT_TRANSLATE_Y + 1, KD_AUGMENT_MAX = 16 /* operations of a policy */ };

typedef struct kd_rand_augment {
    int magnitude;   /* m: level, 0 to 10 */
    int ops;         /* n; 0: no augmentation */
    double std;      /* mstd: of the level */
    bool increasing; /* inc: severity rises with the level for every operation */
    bool weighted;   /* w0: operations by timm's weights, without replacement */
} kd_rand_augment;

/* Empty text: no augmentation.  A part that is unknown, malformed or given twice is refused by name. KD_E_CONFIG. */
KD_NODISCARD kd_status kd_rand_augment_parse(const char *text, kd_rand_augment *out, kd_err *err);

/* What the operation does at a level: degrees, bits kept, threshold, amount added, factor, shear, share of the width or
 * height; 0 where it takes nothing.  `negate` turns the direction of those that have one. */
double kd_augment_arg(kd_augment_op op, bool increasing, double level, bool negate);

typedef struct kd_augment_step {
    kd_augment_op op;
    double arg;
} kd_augment_step;

/* The operations of one clip, those left out not among them. */
typedef struct kd_augment_plan {
    int n;
    kd_augment_step step[KD_AUGMENT_MAX];
} kd_augment_plan;

void kd_augment_draw(const kd_rand_augment *policy, kd_rng *rng, kd_augment_plan *out);

/* One operation on rgb[height][width][3]; dst must not overlap src.  warp: KD_WARP_BICUBIC or KD_WARP_BILINEAR.
 * Allocates nothing. */
void kd_augment_apply(const kd_augment_step *step, kd_warp warp, const uint8_t *src, int width, int height,
                      uint8_t *dst);

#endif
