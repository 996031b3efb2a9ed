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

void kd_frames_ends(const kd_frame_rule *rule, size_t n, size_t *low, size_t *high)
{
    const bool choice = n > window(rule);
    *low = choice ? window(rule) : 0;
    *high = choice ? n : 0;
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

/* ---- one frame of each part of the video ------------------------------------------------------- */

/* Frame j of clip `clip` of `clips`: parts of n / T frames, each entered clip / clips of its length behind its start.
 */
static size_t part_frame(const kd_frame_rule *r, size_t n, int j, int clip, int clips)
{
    const double tick = (double)n / (double)r->frames;
    return KD_MIN((size_t)((double)clip * tick / (double)clips + tick * (double)j), n - 1);
}

/* Where part j of UniformSample begins. */
static size_t uniform_start(const kd_frame_rule *r, size_t n, int j)
{
    return (size_t)rint((double)(n - 1) / (double)r->frames * (double)j); /* half to even */
}

static size_t uniform_test(const kd_frame_rule *r, size_t n, int j, int clip, int clips)
{
    const double duration = (double)(n - 1) / (double)r->frames / (double)(clips + 1);
    return uniform_start(r, n, j) + (size_t)(duration * (double)(clip + 1));
}

void kd_frames_range(const kd_frame_rule *rule, size_t n, int j, size_t *low, size_t *high)
{
    const size_t t = (size_t)rule->frames, part = n / t, at = (size_t)j;
    if (rule->sampler == KD_SAMPLER_MMACTION2_UNIFORM) {
        *low = uniform_start(rule, n, j);
        *high = uniform_start(rule, n, j + 1);
    } else if (part == 0) { /* SSv2's loader puts the first frame in front */
        *low = rule->sampler == KD_SAMPLER_SPARSE ? part_frame(rule, n, j, 0, 1) : at + n < t ? 0 : at + n - t;
        *high = *low;
    } else {
        *low = at * part;
        *high = *low + part - (rule->sampler == KD_SAMPLER_SPARSE && part > 1 ? 2 : 1); /* never a part's last frame */
    }
}

/* The middle of each part. */
static void parts_val(const kd_frame_rule *r, size_t n, size_t *idx)
{
    for (int j = 0; j < r->frames; j++) {
        const size_t part = n / (size_t)r->frames;
        size_t low, high;
        kd_frames_range(r, n, j, &low, &high);
        idx[j] = part < 2 ? low : low + (r->sampler == KD_SAMPLER_SPARSE ? (part + 1) / 2 - 1 : part / 2);
    }
}

/* ---- MMAction2's SampleFrames ------------------------------------------------------------------ */

void kd_frames_offsets(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *low, size_t *high)
{
    const size_t span = window(rule), k = (size_t)clip, c = (size_t)clips;
    const size_t starts = n + 1 > span ? n + 1 - span : 0; /* windows that lie inside */
    *low = *high = 0;
    if (starts >= c) {
        *low = k * (starts / c);
        *high = *low + starts / c - 1;
    } else if (n > KD_MAX(c, span)) {
        *high = starts - 1; /* sorted draws */
    } else if (starts > 0) {
        *low = *high = (size_t)rint((double)k * (double)starts / (double)c);
    }
}

double kd_frames_test_offset(const kd_frame_rule *rule, size_t n, int clip, int clips)
{
    const size_t span = (size_t)(rule->frames - 1) * (size_t)rule->rate + 1, spare = n > span ? n - span : 0;
    if (rule->frames == 1) {
        const double tick = (double)n / (double)clips;
        return (double)clip * tick + tick / 2.0;
    }
    return clips > 1 ? rint((double)clip * (double)spare / (double)(clips - 1)) : floor((double)spare / 2.0);
}

void kd_frames_from(const kd_frame_rule *rule, size_t n, double offset, size_t *idx)
{
    size_t last = 0; /* sampled inside */
    for (int j = 0; j < rule->frames; j++) {
        idx[j] = (size_t)(offset + (double)j * (double)rule->rate);
        last = idx[j] < n ? idx[j] : last;
    }
    for (int j = 0; j < rule->frames; j++) {
        idx[j] = idx[j] < n ? idx[j] : rule->out_of_bound == KD_BOUND_LOOP ? idx[j] % n : last;
    }
}

/* ---- training, validation, test ---------------------------------------------------------------- */

/* Uniform in [low, high]; without a choice nothing is drawn. */
static size_t draw_in(kd_rng *rng, size_t low, size_t high)
{
    return high > low ? low + kd_rng_below(rng, (uint32_t)(high - low + 1)) : low;
}

void kd_frames_train(const kd_frame_rule *rule, size_t n, kd_rng *rng, size_t *idx)
{
    const size_t w = window(rule);
    size_t low, high;
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
        seed_window(rule, n, n > w ? kd_rng_below(rng, (uint32_t)(n - w + 1)) : 0, idx);
        return;
    case KD_SAMPLER_SPARSE:
    case KD_SAMPLER_SEGMENTS:
    case KD_SAMPLER_MMACTION2_UNIFORM:
        for (int j = 0; j < rule->frames; j++) {
            kd_frames_range(rule, n, j, &low, &high);
            idx[j] = draw_in(rng, low, high);
        }
        return;
    case KD_SAMPLER_MMACTION2:
        kd_frames_offsets(rule, n, 0, 1, &low, &high);
        kd_frames_from(rule, n, (double)draw_in(rng, low, high), idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_ends(rule, n, &low, &high);
    kd_frames_window(rule, n, high > low ? low + kd_rng_below(rng, (uint32_t)(high - low)) : 0, idx);
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
    case KD_SAMPLER_SPARSE:
    case KD_SAMPLER_SEGMENTS:
        parts_val(rule, n, idx);
        return;
    case KD_SAMPLER_MMACTION2:
    case KD_SAMPLER_MMACTION2_UNIFORM:
        kd_frames_test(rule, n, 0, 1, idx);
        return;
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    kd_frames_window(rule, n, (w + n) / 2, idx);
}

/* Every rate-th frame, windows spread over the video. */
static void dense_test(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *idx)
{
    const size_t listed = (n - 1) / (size_t)rule->rate + 1;
    const double spare = (double)listed - (double)rule->frames;
    double step = 0.0;
    if (clips > 1 && spare > 0.0) {
        step = spare / (double)(clips - 1);
    }
    strided(rule, n, (size_t)((double)clip * step), idx);
}

void kd_frames_test(const kd_frame_rule *rule, size_t n, int clip, int clips, size_t *idx)
{
    switch (rule->sampler) {
    case KD_SAMPLER_UNIFORM_LINSPACE:
        whole_video(rule, n, idx);
        return;
    case KD_SAMPLER_SPARSE:
    case KD_SAMPLER_SEGMENTS:
        for (int j = 0; j < rule->frames; j++) {
            idx[j] = part_frame(rule, n, j, clip, clips);
        }
        return;
    case KD_SAMPLER_MMACTION2_UNIFORM:
        for (int j = 0; j < rule->frames; j++) {
            idx[j] = uniform_test(rule, n, j, clip, clips);
        }
        return;
    case KD_SAMPLER_MMACTION2:
        kd_frames_from(rule, n, kd_frames_test_offset(rule, n, clip, clips), idx);
        return;
    case KD_SAMPLER_SEED_RANDOM_WINDOW:
    case KD_SAMPLER_OFFICIAL_DENSE:
        break;
    }
    dense_test(rule, n, clip, clips, idx);
}
