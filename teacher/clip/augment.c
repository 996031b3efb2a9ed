/* RandAugment: the policy's text, levels, and what a clip draws; see augment.h. */
#include "teacher/clip/augment.h"

#include "teacher/clip/augment_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- text ------------------------------------------------------------------------------------ */

#define FORM "expected a policy such as rand-m7-n4-mstd0.5-inc1"

typedef struct part {
    const char *key, *what;
    double lo, hi;
    bool whole; /* an integer */
} part;

enum { M, N, MSTD, INC, W, PARTS };
static const part PART[PARTS] = {{"m", "level", 0, 10, true},
                                 {"n", "number of operations", 1, KD_AUGMENT_MAX, true},
                                 {"mstd", "standard deviation of the level", 0, 10, false},
                                 {"inc", "increasing severity", 1, 1, true},
                                 {"w", "set of weights", 0, 0, true}};

/* One part, "mstd0.5": its name is what stands before the first digit. */
static kd_status read_part(const char *text, size_t length, double value[PARTS], bool given[PARTS], kd_err *err)
{
    char word[64], *end;
    if (length == 0 || length >= sizeof word) {
        return KD_FAIL(err, KD_E_CONFIG, "video.rand_augment: " FORM ", found '%.*s'", (int)KD_MIN(length, 80), text);
    }
    memcpy(word, text, length);
    word[length] = '\0';
    const size_t letters = strcspn(word, "0123456789");
    for (int k = 0; k < PARTS; k++) {
        const part *p = &PART[k];
        if (strlen(p->key) != letters || strncmp(p->key, word, letters) != 0) {
            continue;
        }
        if (given[k]) {
            return KD_FAIL(err, KD_E_CONFIG, "video.rand_augment: %s is there twice, the second time as '%s'", p->key,
                           word);
        }
        value[k] = strtod(word + letters, &end);
        const bool number =
            letters < length && *end == '\0' && strspn(word + letters, "0123456789.") == strlen(word + letters);
        if (!number || !(value[k] >= p->lo && value[k] <= p->hi) || (p->whole && strchr(word, '.') != NULL)) {
            return KD_FAIL(err, KD_E_CONFIG, "video.rand_augment: %s (%s) expects %s from %g to %g, found '%s'%s",
                           p->key, p->what, p->whole ? "a whole number" : "a number", p->lo, p->hi, word,
                           p->lo < p->hi ? "" : "; leave the part out to turn it off");
        }
        given[k] = true;
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "video.rand_augment: expected the parts m, n, mstd, inc and w, found '%s'", word);
}

kd_status kd_rand_augment_parse(const char *text, kd_rand_augment *out, kd_err *err)
{
    double value[PARTS] = {[M] = 10, [N] = 2}; /* timm's */
    bool given[PARTS] = {false};
    *out = (kd_rand_augment){.ops = 0};
    if (text[0] == '\0') {
        return KD_OK;
    }
    if (strncmp(text, "rand", 4) != 0 || (text[4] != '-' && text[4] != '\0')) {
        return KD_FAIL(err, KD_E_CONFIG, "video.rand_augment: " FORM ", found '%s'", text);
    }
    for (const char *p = text + 4; *p == '-';) {
        const char *word = p + 1;
        const size_t length = strcspn(word, "-");
        KD_TRY(read_part(word, length, value, given, err));
        p = word + length;
    }
    *out = (kd_rand_augment){.magnitude = (int)value[M],
                             .ops = (int)value[N],
                             .std = value[MSTD],
                             .increasing = given[INC],
                             .weighted = given[W]};
    if (out->weighted && out->ops > 13) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "video.rand_augment: w0 draws without replacement among 13 operations, found n%d", out->ops);
    }
    return KD_OK;
}

/* ---- levels ---------------------------------------------------------------------------------- */

double kd_augment_arg(kd_augment_op op, bool increasing, double level, bool negate)
{
    const double share = level / 10.0, sign = negate ? -1.0 : 1.0;
    switch (op) {
    case KD_AUGMENT_AUTO_CONTRAST:
    case KD_AUGMENT_EQUALIZE:
    case KD_AUGMENT_INVERT:
        return 0.0;
    case KD_AUGMENT_ROTATE:
        return sign * (share * 30.0);
    case KD_AUGMENT_POSTERIZE:
        return increasing ? 4 - (int)(share * 4) : (int)(share * 4);
    case KD_AUGMENT_SOLARIZE:
        return increasing ? 256 - (int)(share * 256) : (int)(share * 256);
    case KD_AUGMENT_SOLARIZE_ADD:
        return (int)(share * 110);
    case KD_AUGMENT_COLOR:
    case KD_AUGMENT_CONTRAST:
    case KD_AUGMENT_BRIGHTNESS:
    case KD_AUGMENT_SHARPNESS:
        return increasing ? 1.0 + sign * (share * 0.9) : share * 1.8 + 0.1;
    case KD_AUGMENT_SHEAR_X:
    case KD_AUGMENT_SHEAR_Y:
        return sign * (share * 0.3);
    case KD_AUGMENT_TRANSLATE_X:
    case KD_AUGMENT_TRANSLATE_Y:
        return sign * (share * 0.45);
    }
    return 0.0;
}

/* ---- draws ----------------------------------------------------------------------------------- */

/* timm's _RAND_CHOICE_WEIGHTS_0. */
static const double WEIGHT[KD_AUGMENT_OPS] = {0.025, 0.005, 0.0,   0.3, 0.0, 0.005, 0.005, 0.025,
                                              0.005, 0.005, 0.025, 0.2, 0.2, 0.1,   0.1};

/* By weight among the operations not taken yet. */
static kd_augment_op choose(bool taken[KD_AUGMENT_OPS], kd_rng *rng)
{
    double sum = 0.0;
    int op = 0;
    for (int k = 0; k < KD_AUGMENT_OPS; k++) {
        sum += taken[k] ? 0.0 : WEIGHT[k];
    }
    double at = kd_rng_uniform(rng) * sum;
    for (int k = 0; k < KD_AUGMENT_OPS; k++) {
        if (!taken[k] && WEIGHT[k] > 0.0) {
            op = k; /* the last one, should rounding leave `at` above the sum */
            if (at < WEIGHT[k]) {
                break;
            }
            at -= WEIGHT[k];
        }
    }
    taken[op] = true;
    return (kd_augment_op)op;
}

void kd_augment_draw(const kd_rand_augment *policy, kd_rng *rng, kd_augment_plan *out)
{
    bool taken[KD_AUGMENT_OPS] = {false};
    *out = (kd_augment_plan){.n = 0};
    for (int k = 0; k < policy->ops; k++) {
        const kd_augment_op op =
            policy->weighted ? choose(taken, rng) : (kd_augment_op)kd_rng_below(rng, KD_AUGMENT_OPS);
        const bool left_out = kd_rng_uniform(rng) > 0.5;
        const double level = (double)policy->magnitude + policy->std * kd_rng_normal(rng);
        const bool negate = kd_rng_uniform(rng) > 0.5;
        if (!left_out) {
            const double arg = kd_augment_arg(op, policy->increasing, fmin(fmax(level, 0.0), 10.0), negate);
            out->step[out->n++] = (kd_augment_step){.op = op, .arg = arg};
        }
    }
}

void kd_augment_apply(const kd_augment_step *step, kd_warp warp, const uint8_t *src, int width, int height,
                      uint8_t *dst)
{
    switch (step->op) {
    case KD_AUGMENT_ROTATE:
    case KD_AUGMENT_SHEAR_X:
    case KD_AUGMENT_SHEAR_Y:
    case KD_AUGMENT_TRANSLATE_X:
    case KD_AUGMENT_TRANSLATE_Y:
        kdi_augment_warp(step, warp, src, width, height, dst);
        return;
    case KD_AUGMENT_AUTO_CONTRAST:
    case KD_AUGMENT_EQUALIZE:
    case KD_AUGMENT_INVERT:
    case KD_AUGMENT_POSTERIZE:
    case KD_AUGMENT_SOLARIZE:
    case KD_AUGMENT_SOLARIZE_ADD:
    case KD_AUGMENT_COLOR:
    case KD_AUGMENT_CONTRAST:
    case KD_AUGMENT_BRIGHTNESS:
    case KD_AUGMENT_SHARPNESS:
        kdi_augment_colour(step, src, width, height, dst);
        return;
    }
}
