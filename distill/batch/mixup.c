/* Mixed pairs and soft targets. */
#include "distill/batch/mixup.h"

#include <math.h>

/* The shares of row i, frame by frame. */
static void spread(kd_mix *m, int i)
{
    const int32_t *cut = m->cut + (size_t)i * 4;
    for (int t = 0; t < m->frames; t++) {
        const bool other = t >= cut[0] && t < cut[0] + cut[2];
        m->frame_lam[(size_t)i * (size_t)m->frames + (size_t)t] = cut[2] == 0 ? m->lam[i] : other ? 0.0f : 1.0f;
    }
}

static void identity(int rows, kd_mix *m)
{
    memset(m->cut, 0, (size_t)rows * 4 * sizeof *m->cut);
    for (int i = 0; i < rows; i++) {
        m->perm[i] = i;
        m->lam[i] = 1.0f;
        spread(m, i);
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

int kd_cut_frames(int frames, double lam)
{
    return KD_MAX(1, (int)((double)frames * (1.0 - lam)));
}

/* Positions in a batch's random sequence; the permutation's lie from 2^32 on, row i's own from (i + 1) 2^40 on. */
enum { DRAW_MIXUP = 0, DRAW_CUT = 1 << 20, ROW_SHIFT = 40 };

/* A run of frames, and the share that it leaves. */
static double draw_frames(const kd_mixup_opts *cfg, kd_rng cut, int frames, int32_t box[4])
{
    const double lam = kd_rng_beta(&cut, cfg->cutmix_alpha, cfg->cutmix_alpha);
    if (!(lam >= 0.0 && lam <= 1.0)) {
        return lam;
    }
    box[2] = kd_cut_frames(frames, lam);
    box[0] = (int32_t)kd_rng_below(&cut, (uint32_t)(frames - box[2] + 1));
    return 1.0 - (double)box[2] / (double)frames;
}

/* lambda of what is mixed; CutMix sets the box. */
static double draw_lam(const kd_mixup_opts *cfg, kd_rng rng, kd_rng cut, int side, int frames, int32_t box[4])
{
    const bool both = cfg->alpha > 0.0 && cfg->cutmix_alpha > 0.0;
    if (both ? !(kd_rng_uniform(&cut) < cfg->switch_prob) : cfg->alpha > 0.0) {
        return kd_rng_beta(&rng, cfg->alpha, cfg->alpha);
    }
    if (frames > 0) {
        return draw_frames(cfg, cut, frames, box);
    }
    const int cy = (int)kd_rng_below(&cut, (uint32_t)side), cx = (int)kd_rng_below(&cut, (uint32_t)side);
    const double lam = kd_rng_beta(&cut, cfg->cutmix_alpha, cfg->cutmix_alpha);
    return lam >= 0.0 && lam <= 1.0 ? kd_cut_box(side, side, lam, cy, cx, box) : lam;
}

/* One draw, whose positions begin at `from`: lambda, 1 where nothing is mixed. */
static float draw_at(const kd_mixup_opts *cfg, kd_rng rng, uint64_t from, int side, int frames, int32_t box[4])
{
    kd_rng cut = rng;
    rng.pos = from + DRAW_MIXUP;
    cut.pos = from + DRAW_CUT;
    memset(box, 0, 4 * sizeof *box);
    if (!(kd_rng_uniform(&rng) < cfg->prob)) {
        return 1.0f;
    }
    const float l = (float)draw_lam(cfg, rng, cut, side, frames, box);
    return l >= 0.0f && l <= 1.0f ? l : 1.0f; /* a tiny alpha can give 0 / 0 */
}

void kd_mix_draw(const kd_mixup_opts *cfg, uint64_t seed, uint32_t epoch, uint32_t batch, int rows, const float *kind,
                 int side, kd_mix *out)
{
    const kd_rng rng = kd_rng_make(seed, KD_RNG_BATCH, batch, epoch);
    const bool each = cfg->mode != KD_MIXUP_BATCH;
    int32_t box[4];
    float l = 1.0f;
    KD_ASSERT(side > 0 || out->frames > 0 || !(cfg->cutmix_alpha > 0.0));
    identity(rows, out);
    if (!(cfg->alpha > 0.0 || cfg->cutmix_alpha > 0.0) || rows < 1) {
        return;
    }
    for (int i = 0; i < rows; i++) {
        const int partner = cfg->partner == KD_PARTNER_FLIP
                                ? rows - 1 - i
                                : (int)kd_rng_permute(seed, KD_RNG_BATCH, batch, epoch, (uint32_t)rows, (uint32_t)i);
        const int shared = cfg->mode == KD_MIXUP_PAIR ? KD_MIN(i, partner) : i; /* whose draw */
        if (each || i == 0) {
            l = draw_at(cfg, rng, each ? (uint64_t)(shared + 1) << ROW_SHIFT : 0, side, out->frames, box);
        }
        if (l < 1.0f && (kind == NULL || (kind[i] > 0.0f && kind[i] == kind[partner]))) {
            out->perm[i] = partner;
            out->lam[i] = l;
            memcpy(out->cut + (size_t)i * 4, box, sizeof box);
            spread(out, i);
        }
    }
}

void kd_targets(const int32_t *label, const float *valid, int rows, int classes, double smoothing, const int32_t *perm,
                const float *lam, float *target)
{
    const float off = (float)(smoothing / (double)classes);
    const float on = (float)(1.0 - smoothing + smoothing / (double)classes);
    for (int i = 0; i < rows; i++) {
        float *t = target + (size_t)i * (size_t)classes;
        if (label[i] < 0 || (valid != NULL && !(valid[i] > 0.0f))) {
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

void kd_targets_weigh(const double *w, const int32_t *label, const float *valid, int rows, int classes,
                      const int32_t *perm, const float *lam, float *target)
{
    double sum = 0.0;
    int n = 0;
    for (int i = 0; i < rows; i++) {
        if (valid == NULL || valid[i] > 0.0f) {
            const double a = lam == NULL ? 1.0 : (double)lam[i];
            sum += a * w[label[i]] + (1.0 - a) * w[perm == NULL ? label[i] : label[perm[i]]];
            n++;
        }
    }
    const double scale = sum > 0.0 ? (double)n / sum : 0.0; /* the loss is a mean over the valid rows */
    for (int i = 0; i < rows; i++) {
        for (int k = 0; k < classes; k++) {
            float *t = &target[(size_t)i * (size_t)classes + (size_t)k];
            *t = (float)((double)*t * w[k] * scale);
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
