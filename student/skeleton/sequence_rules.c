/* Skeletons to arrays: bodies, length, normalisation, draws, streams.  Arrays are x[c][t][v][m],
 * m fastest. */
#include "kernels/kd_skeleton.h"
#include "student/skeleton/sequence.h"

#include <math.h>
#include <stdlib.h>

enum { V = KD_SKEL_JOINTS, SPINE_BASE = 0, NECK = 2, LEFT_SHOULDER = 4, RIGHT_SHOULDER = 8 };

static size_t at(const kd_skeleton_opts *k, int c, int t, int v, int m)
{
    return (((size_t)c * (size_t)k->frames + (size_t)t) * V + (size_t)v) * (size_t)k->max_bodies + (size_t)m;
}

static size_t floats_of(const kd_skeleton_opts *k)
{
    return (size_t)3 * (size_t)k->frames * V * (size_t)k->max_bodies;
}

static bool present(const kd_skeleton_opts *k, const float *x, int t, int m)
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < V; v++) {
            if (x[at(k, c, t, v, m)] != 0.0f) {
                return true;
            }
        }
    }
    return false;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* Which bodies of a recording go to which slot. */
typedef struct cast {
    bool tracked;
    int n; /* tracked: people found, at most max_bodies */
    uint64_t id[2];
} cast;

typedef struct seen {
    uint64_t id;
    size_t first, count; /* body number of the first sight; frames */
} seen;

static int by_id(const void *a_, const void *b_)
{
    const seen *a = a_, *b = b_;
    if (a->id != b->id) {
        return a->id < b->id ? -1 : 1;
    }
    return a->first < b->first ? -1 : a->first > b->first;
}

static bool ranks_before(const seen *a, const seen *b)
{
    return a->count != b->count ? a->count > b->count : a->first < b->first;
}

/* The people seen in most frames; of equals, the one seen first. */
static kd_status choose_people(const kd_skeleton *s, int most, cast *out, kd_err *err)
{
    seen *list = kd_calloc(s->n_bodies, sizeof *list);
    if (list == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu bodies", s->n_bodies);
    }
    for (size_t i = 0; i < s->n_bodies; i++) {
        list[i] = (seen){.id = s->body[i].id, .first = i, .count = 1};
    }
    qsort(list, s->n_bodies, sizeof *list, by_id);
    seen best[2] = {{0}};
    for (size_t i = 0; i < s->n_bodies;) {
        seen p = list[i];
        for (i++; i < s->n_bodies && list[i].id == p.id; i++) {
            p.count++;
        }
        for (int k = 0; k < most; k++) {
            if (best[k].count == 0 || ranks_before(&p, &best[k])) {
                const seen pushed = best[k];
                best[k] = p;
                p = pushed;
            }
        }
    }
    out->n = 0;
    for (int k = 0; k < most && best[k].count > 0; k++) {
        out->id[out->n++] = best[k].id;
    }
    kd_free(list);
    return KD_OK;
}

static const kd_skel_body *body_at(const kd_skeleton *s, const cast *c, size_t t, int m)
{
    const uint32_t first = s->first[t], end = s->first[t + 1];
    if (!c->tracked) {
        return (uint32_t)m < end - first ? &s->body[first + (uint32_t)m] : NULL;
    }
    for (uint32_t i = first; m < c->n && i < end; i++) {
        if (s->body[i].id == c->id[m]) {
            return &s->body[i];
        }
    }
    return NULL;
}

/* ---- length ---------------------------------------------------------------------------------- */

void kd_sequence_index(size_t n, int frames, size_t *idx)
{
    const double step = (double)(n - 1) / (double)(frames - 1);
    for (int t = 0; t < frames; t++) {
        if (n <= (size_t)frames) {
            idx[t] = KD_MIN((size_t)t, n - 1);
        } else {
            idx[t] = t == frames - 1 ? n - 1 : (size_t)((double)t * step);
        }
    }
}

static void put_body(const kd_skeleton_opts *k, float *x, int t, int m, const kd_skel_body *a, const kd_skel_body *b,
                     float w)
{
    for (int v = 0; v < V; v++) {
        for (int c = 0; c < 3; c++) {
            const float p = a->xyz[v][c];
            x[at(k, c, t, v, m)] = b == NULL || w == 0.0f ? p : p + (b->xyz[v][c] - p) * w;
        }
    }
}

static void resample_linear(const kd_skeleton_opts *k, const kd_skeleton *s, const cast *c, float *x)
{
    const double step = (double)(s->frames - 1) / (double)(k->frames - 1);
    for (int t = 0; t < k->frames; t++) {
        const double pos = t == k->frames - 1 ? (double)(s->frames - 1) : (double)t * step;
        const size_t lo = (size_t)pos, hi = KD_MIN(lo + 1, s->frames - 1);
        const float w = (float)(pos - (double)lo);
        for (int m = 0; m < k->max_bodies; m++) {
            const kd_skel_body *a = body_at(s, c, lo, m), *b = body_at(s, c, hi, m);
            const kd_skel_body *nearer = w > 0.5f ? b : a;
            if (a != NULL && b != NULL) {
                put_body(k, x, t, m, a, b, w);
            } else if (nearer != NULL) {
                put_body(k, x, t, m, nearer, NULL, 0.0f);
            }
        }
    }
}

static void resample_pad(const kd_skeleton_opts *k, const kd_skeleton *s, const cast *c, float *x)
{
    size_t idx[1024]; /* skeleton.frames is at most that */
    KD_ASSERT(k->frames >= 2 && (size_t)k->frames <= KD_COUNTOF(idx));
    kd_sequence_index(s->frames, k->frames, idx);
    for (int t = 0; t < k->frames; t++) {
        for (int m = 0; m < k->max_bodies; m++) {
            const kd_skel_body *b = body_at(s, c, idx[t], m);
            if (b != NULL) {
                put_body(k, x, t, m, b, NULL, 0.0f);
            }
        }
    }
}

/* ---- normalisation --------------------------------------------------------------------------- */

static void centre(const kd_skeleton_opts *k, float *x, int m, int first)
{
    float origin[3];
    for (int c = 0; c < 3; c++) {
        origin[c] = x[at(k, c, first, SPINE_BASE, m)];
    }
    for (int t = first; t < k->frames; t++) {
        if (!present(k, x, t, m)) {
            continue;
        }
        for (int c = 0; c < 3; c++) {
            const float o = k->normalize == KD_NORM_CENTER_SPINE ? x[at(k, c, t, SPINE_BASE, m)] : origin[c];
            for (int v = 0; v < V; v++) {
                x[at(k, c, t, v, m)] -= o;
            }
        }
    }
}

static void rotate_y(const kd_skeleton_opts *k, float *x, int m, float cs, float sn)
{
    for (int t = 0; t < k->frames; t++) {
        for (int v = 0; v < V; v++) {
            float *px = &x[at(k, 0, t, v, m)], *pz = &x[at(k, 2, t, v, m)];
            const float x0 = *px, z0 = *pz;
            *px = x0 * cs + z0 * sn;
            *pz = z0 * cs - x0 * sn;
        }
    }
}

static void face_camera(const kd_skeleton_opts *k, float *x, int m, int first)
{
    const double dx = (double)x[at(k, 0, first, RIGHT_SHOULDER, m)] - (double)x[at(k, 0, first, LEFT_SHOULDER, m)];
    const double dz = (double)x[at(k, 2, first, RIGHT_SHOULDER, m)] - (double)x[at(k, 2, first, LEFT_SHOULDER, m)];
    /* x' = x cos + z sin, z' = z cos - x sin nulls dz for +angle; the reference turns by -angle */
    const double angle = k->yaw == KD_YAW_CORRECTED ? atan2(dz, dx) : -atan2(dz, dx);
    rotate_y(k, x, m, (float)cos(angle), (float)sin(angle));
}

/* file_order counts frames without the body as length 0, as the reference does; tracked leaves
 * them out. */
static void unit_torso(const kd_skeleton_opts *k, float *x, int m)
{
    double sum = 0.0;
    int n = 0;
    for (int t = 0; t < k->frames; t++) {
        if (k->bodies == KD_BODIES_TRACKED && !present(k, x, t, m)) {
            continue;
        }
        double d2 = 0.0;
        for (int c = 0; c < 3; c++) {
            const double d = (double)x[at(k, c, t, NECK, m)] - (double)x[at(k, c, t, SPINE_BASE, m)];
            d2 += d * d;
        }
        sum += sqrt(d2);
        n++;
    }
    const float scale = (float)fmax(n > 0 ? sum / n : 0.0, 1e-6);
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames; t++) {
            for (int v = 0; v < V; v++) {
                x[at(k, c, t, v, m)] /= scale;
            }
        }
    }
}

void kd_sequence_normalize(const kd_skeleton_opts *cfg, float *x)
{
    for (int m = 0; m < cfg->max_bodies; m++) {
        int first = 0;
        while (first < cfg->frames && !present(cfg, x, first, m)) {
            first++;
        }
        if (first == cfg->frames) {
            continue;
        }
        if (cfg->normalize != KD_NORM_NONE) {
            centre(cfg, x, m, first);
        }
        if (cfg->yaw != KD_YAW_NONE) {
            face_camera(cfg, x, m, first);
        }
        if (cfg->bone_scale) {
            unit_torso(cfg, x, m);
        }
    }
}

kd_status kd_sequence_make(const kd_skeleton_opts *cfg, const kd_skeleton *skel, float *x, kd_err *err)
{
    if (skel->frames == 0 || skel->n_bodies == 0) {
        return KD_FAIL(err, KD_E_DATA, "no frame of %zu has a body", skel->frames);
    }
    cast c = {.tracked = cfg->bodies == KD_BODIES_TRACKED};
    if (c.tracked) {
        KD_TRY(choose_people(skel, cfg->max_bodies, &c, err));
    }
    memset(x, 0, floats_of(cfg) * sizeof *x);
    if (cfg->resample == KD_RESAMPLE_LINEAR) {
        resample_linear(cfg, skel, &c, x);
    } else {
        resample_pad(cfg, skel, &c, x);
    }
    kd_sequence_normalize(cfg, x);
    return KD_OK;
}

/* ---- augmentation ---------------------------------------------------------------------------- */

/* Positions in a sample's random sequence. */
enum {
    DRAW_ANGLE = 0,
    DRAW_SCALE = 2,
    DRAW_SHEAR = 4,
    DRAW_TIME_FLIP = 6,
    DRAW_FLIP = 8,
    DRAW_SPEED = 10,
    DRAW_START = 14,
    DRAW_MASK = 16
    /* noise: from 2^34 on, kernels/kd_skeleton.h */
};

static kd_rng moved(kd_rng r, uint64_t position)
{
    r.pos = position;
    return r;
}

static double range_at(kd_rng r, uint64_t position, double lo, double hi)
{
    r = moved(r, position);
    return kd_rng_range(&r, lo, hi);
}

kd_sequence_draw kd_sequence_draw_make(const kd_skeleton_aug_opts *aug, int frames, kd_rng rng)
{
    kd_sequence_draw d = {.angle_deg = range_at(rng, DRAW_ANGLE, -aug->rotate_deg, aug->rotate_deg),
                          .scale = range_at(rng, DRAW_SCALE, aug->scale[0], aug->scale[1]),
                          .shear = range_at(rng, DRAW_SHEAR, -aug->shear, aug->shear),
                          .time_flip = range_at(rng, DRAW_TIME_FLIP, 0.0, 1.0) < aug->time_flip_prob,
                          .flip = range_at(rng, DRAW_FLIP, 0.0, 1.0) < aug->flip_prob,
                          .noise = rng};
    kd_rng r = moved(rng, DRAW_SPEED);
    if (kd_rng_uniform(&r) < aug->speed_prob) {
        const double rate = fmin(kd_rng_range(&r, aug->speed[0], aug->speed[1]), 1.0);
        d.speed_frames = KD_MAX(1, (int)((double)frames * rate));
        r = moved(rng, DRAW_START);
        d.speed_start = (int)kd_rng_below(&r, (uint32_t)(frames - d.speed_frames + 1));
    }
    int joint[V];
    const int masked = (int)((double)V * aug->joint_mask);
    for (int v = 0; v < V; v++) {
        joint[v] = v;
    }
    r = moved(rng, DRAW_MASK);
    for (int i = 0; i < masked; i++) { /* the front of a shuffle */
        const int j = i + (int)kd_rng_below(&r, (uint32_t)(V - i));
        const int chosen = joint[j];
        joint[j] = joint[i];
        d.masked |= (uint32_t)1 << chosen;
    }
    return d;
}

/* ---- streams --------------------------------------------------------------------------------- */

kd_skeleton_streams_attr kd_sequence_attr(const kd_skeleton_opts *cfg, const kd_skeleton_aug_opts *aug)
{
    return (kd_skeleton_streams_attr){
        .sigma = {aug->noise_joint, aug->noise_velocity, aug->noise_bone},
        .clamp = cfg->clamp,
        .parent = {0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10},
        .mirror = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22}};
}

static kd_skel_draw skel_draw(const kd_sequence_draw *d)
{
    const double angle = d->angle_deg * (3.14159265358979323846 / 180.0);
    uint32_t flags = KD_SKEL_AUGMENTED;
    flags |= angle != 0.0 ? (uint32_t)KD_SKEL_TURNED : 0u;
    flags |= d->time_flip ? (uint32_t)KD_SKEL_REVERSED : 0u;
    flags |= d->flip ? (uint32_t)KD_SKEL_MIRRORED : 0u;
    return (kd_skel_draw){.cs = (float)cos(angle),
                          .sn = (float)sin(angle),
                          .scale = (float)d->scale,
                          .shear = (float)d->shear,
                          .flags = flags,
                          .speed_frames = d->speed_frames,
                          .speed_start = d->speed_start,
                          .masked = d->masked,
                          .noise = d->noise};
}

void kd_sequence_draw_pack(const kd_sequence_draw *draw, float *real, int32_t *whole)
{
    const kd_skel_draw d = skel_draw(draw);
    KD_ASSERT(d.noise.stream == KD_RNG_SAMPLE);
    real[0] = d.cs;
    real[1] = d.sn;
    real[2] = d.scale;
    real[3] = d.shear;
    whole[KD_SKEL_FLAGS] = (int32_t)d.flags;
    whole[KD_SKEL_SPEED_FRAMES] = d.speed_frames;
    whole[KD_SKEL_SPEED_START] = d.speed_start;
    whole[KD_SKEL_MASKED] = (int32_t)d.masked;
    whole[KD_SKEL_SEED_LOW] = (int32_t)(uint32_t)d.noise.seed;
    whole[KD_SKEL_SEED_HIGH] = (int32_t)(uint32_t)(d.noise.seed >> 32);
    whole[KD_SKEL_ITEM] = (int32_t)d.noise.item;
    whole[KD_SKEL_EPOCH] = (int32_t)d.noise.epoch;
}

void kd_sequence_streams(const kd_skeleton_opts *cfg, const kd_skeleton_aug_opts *aug, const kd_sequence_draw *draw,
                         const float *x, unsigned streams, float *const *dst)
{
    const kd_skel_form form = {cfg->frames, V, cfg->max_bodies};
    const kd_skeleton_streams_attr attr = kd_sequence_attr(cfg, aug);
    const kd_skel_draw d = draw != NULL ? skel_draw(draw) : (kd_skel_draw){.flags = 0};
    float *y[3] = {NULL, NULL, NULL};
    int i = 0;
    for (int stream = 0; stream < 3; stream++) {
        if ((streams >> stream & 1) != 0) {
            y[stream] = dst[i++];
        }
    }
    kd_skel_streams(&form, &attr, &d, x, y);
}
