/* Which frames: the rules of a clip without any file. */
#include "teacher/clip/clip.h"

#include <math.h>

/* NumPy's linspace(lo, hi, num)[j], the end point forced. */
static double linspace(double lo, double hi, int num, int j)
{
    if (num > 1 && j == num - 1) {
        return hi;
    }
    return num > 1 ? (double)j * ((hi - lo) / (double)(num - 1)) + lo : lo;
}

static size_t clamp_index(double x, double lo, double hi)
{
    return (size_t)fmin(fmax(x, lo), hi);
}

static void strided(const kd_frame_rule *r, size_t n, size_t first, size_t *idx)
{
    const size_t last = (n - 1) / (size_t)r->rate; /* of the list 0, rate, 2 rate, ... */
    for (int j = 0; j < r->frames; j++) {
        idx[j] = KD_MIN(first + (size_t)j, last) * (size_t)r->rate;
    }
}

static void short_video(const kd_frame_rule *r, size_t n, size_t *idx)
{
    if (r->short_video == KD_SHORT_STRIDE_REPEAT) {
        strided(r, n, 0, idx);
        return;
    }
    const int real = (int)KD_MIN(n / (size_t)r->rate, (size_t)r->frames);
    for (int j = 0; j < r->frames; j++) {
        const double x = j < real ? linspace(0.0, (double)n, real, j) : (double)n;
        idx[j] = clamp_index(x, 0.0, (double)(n - 1));
    }
}

static void whole_video(const kd_frame_rule *r, size_t n, size_t *idx)
{
    for (int j = 0; j < r->frames; j++) {
        idx[j] = clamp_index(linspace(0.0, (double)(n - 1), r->frames, j), 0.0, (double)(n - 1));
    }
}

static size_t window(const kd_frame_rule *r)
{
    return (size_t)r->frames * (size_t)r->rate;
}

void kd_frames_window(const kd_frame_rule *rule, size_t n, size_t end, size_t *idx)
{
    if (n <= window(rule)) {
        short_video(rule, n, idx);
        return;
    }
    const double hi = (double)end;
    const double lo = (double)(end - window(rule));
    for (int j = 0; j < rule->frames; j++) {
        idx[j] = clamp_index(linspace(lo, hi, rule->frames, j), lo, hi - 1.0);
    }
}

static void seed_window(const kd_frame_rule *r, size_t n, size_t start, size_t *idx)
{
    if (n < window(r)) {
        short_video(r, n, idx);
        return;
    }
    for (int j = 0; j < r->frames; j++) {
        idx[j] = start + (size_t)j * (size_t)r->rate;
    }
}

void kd_frames_train(const kd_frame_rule *rule, size_t n, kd_rng *rng, size_t *idx)
{
    const size_t w = window(rule);
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
        seed_window(rule, n, n > w ? kd_rng_below(rng, (uint32_t)(n - w + 1)) : 0, idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_window(rule, n, n > w ? w + kd_rng_below(rng, (uint32_t)(n - w)) : 0, idx);
}

void kd_frames_val(const kd_frame_rule *rule, size_t n, size_t *idx)
{
    const size_t w = window(rule);
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
        seed_window(rule, n, n > w ? (n - w) / 2 : 0, idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_window(rule, n, (w + n) / 2, idx);
}

void kd_frames_test(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *idx)
{
    if (rule->sampler == KD_SAMPLER_UNIFORM_LINSPACE) {
        whole_video(rule, n, idx);
        return;
    }
    const size_t listed = (n - 1) / (size_t)rule->rate + 1;
    const double spare = (double)listed - (double)rule->frames;
    double step = 0.0;
    if (clips > 1 && spare > 0.0) {
        step = spare / (double)(clips - 1);
    }
    strided(rule, n, (size_t)((double)clip * step), idx);
}
