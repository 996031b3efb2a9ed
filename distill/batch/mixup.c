/* Mixed pairs and soft targets. */
#include "distill/batch/mixup.h"

#include <math.h>

static void identity(int rows, kd_mix *m)
{
    memset(m->cut, 0, sizeof m->cut);
    for (int i = 0; i < rows; i++) {
        m->perm[i] = i;
        m->lam[i] = 1.0f;
    }
}

double kd_cut_box(int height, int width, double lam, int cy, int cx, int32_t box[4])
{
    const double side = sqrt(1.0 - lam);
    const int h = (int)((double)height * side) / 2, w = (int)((double)width * side) / 2;
    const int top = KD_MAX(cy - h, 0), left = KD_MAX(cx - w, 0);
    box[0] = top;
    box[1] = left;
    box[2] = KD_MIN(cy + h, height) - top;
    box[3] = KD_MIN(cx + w, width) - left;
    return 1.0 - (double)box[2] * (double)box[3] / ((double)height * (double)width);
}

/* Positions in a batch's random sequence; the permutation's lie from 2^32 on. */
enum { DRAW_MIXUP = 0, DRAW_CUT = 1 << 20 };

/* lambda of a batch that is mixed; CutMix sets the box. */
static double draw_lam(const kd_mixup_opts *cfg, kd_rng rng, int side, int32_t box[4])
{
    kd_rng cut = rng;
    cut.pos = DRAW_CUT;
    const bool both = cfg->alpha > 0.0 && cfg->cutmix_alpha > 0.0;
    if (both ? !(kd_rng_uniform(&cut) < cfg->switch_prob) : cfg->alpha > 0.0) {
        return kd_rng_beta(&rng, cfg->alpha, cfg->alpha);
    }
    const int cy = (int)kd_rng_below(&cut, (uint32_t)side), cx = (int)kd_rng_below(&cut, (uint32_t)side);
    const double lam = kd_rng_beta(&cut, cfg->cutmix_alpha, cfg->cutmix_alpha);
    return lam >= 0.0 && lam <= 1.0 ? kd_cut_box(side, side, lam, cy, cx, box) : lam;
}

float kd_mix_draw(const kd_mixup_opts *cfg, uint64_t seed, uint32_t epoch, uint32_t batch, int rows, const float *valid,
                  int side, kd_mix *out)
{
    int32_t *perm = out->perm;
    float *lam = out->lam;
    KD_ASSERT(side > 0 || !(cfg->cutmix_alpha > 0.0));
    identity(rows, out);
    if (!(cfg->alpha > 0.0 || cfg->cutmix_alpha > 0.0) || rows < 1) {
        return 1.0f;
    }
    kd_rng rng = kd_rng_make(seed, KD_RNG_BATCH, batch, epoch);
    if (!(kd_rng_uniform(&rng) < cfg->prob)) {
        return 1.0f;
    }
    const float l = (float)draw_lam(cfg, rng, side, out->cut);
    if (!(l >= 0.0f && l <= 1.0f)) {
        return 1.0f; /* a tiny alpha can give 0 / 0 */
    }
    for (int i = 0; i < rows; i++) {
        perm[i] = cfg->partner == KD_PARTNER_FLIP
                      ? rows - 1 - i
                      : (int32_t)kd_rng_permute(seed, KD_RNG_BATCH, batch, epoch, (uint32_t)rows, (uint32_t)i);
    }
    for (int i = 0; i < rows; i++) {
        const bool whole = valid == NULL || (valid[i] > 0.0f && valid[perm[i]] > 0.0f);
        if (whole) {
            lam[i] = l;
        } else {
            perm[i] = i;
        }
    }
    return l;
}

void kd_targets(const int32_t *label, const float *valid, int rows, int classes, double smoothing, const int32_t *perm,
                const float *lam, float *target)
{
    const float off = (float)(smoothing / (double)classes);
    const float on = (float)(1.0 - smoothing + smoothing / (double)classes);
    for (int i = 0; i < rows; i++) {
        float *t = target + (size_t)i * (size_t)classes;
        if (valid != NULL && !(valid[i] > 0.0f)) {
            memset(t, 0, (size_t)classes * sizeof *t);
            continue;
        }
        const float a = lam == NULL ? 1.0f : lam[i];
        const float b = 1.0f - a;
        const int32_t first = label[i];
        const int32_t second = perm == NULL ? first : label[perm[i]];
        for (int k = 0; k < classes; k++) {
            t[k] = (k == first ? on : off) * a + (k == second ? on : off) * b;
        }
    }
}

void kd_mix_rows(const float *src, int rows, size_t floats, const int32_t *perm, const float *lam, float *dst)
{
    for (int i = 0; i < rows; i++) {
        const float *x = src + (size_t)i * floats;
        const float *p = src + (size_t)perm[i] * floats;
        float *y = dst + (size_t)i * floats;
        const float a = lam[i];
        const float b = 1.0f - a;
        if (a == 1.0f) { /* an invalid partner may hold anything */
            memcpy(y, x, floats * sizeof *y);
            continue;
        }
        for (size_t k = 0; k < floats; k++) {
            y[k] = x[k] * a + p[k] * b;
        }
    }
}
