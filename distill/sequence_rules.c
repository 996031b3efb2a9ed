/* Skeletons to arrays: bodies, length, normalisation, draws, streams.  Arrays are x[c][t][v][m],
 * m fastest. */
#include "distill/sequence.h"

#include <math.h>
#include <stdlib.h>

enum { V = KD_SKEL_JOINTS, SPINE_BASE = 0, NECK = 2, LEFT_SHOULDER = 4, RIGHT_SHOULDER = 8 };

static size_t at(const kd_cfg_skeleton *k, int c, int t, int v, int m)
{
    return (((size_t)c * (size_t)k->frames + (size_t)t) * V + (size_t)v) * (size_t)k->max_bodies +
           (size_t)m;
}

static size_t floats_of(const kd_cfg_skeleton *k)
{
    return (size_t)3 * (size_t)k->frames * V * (size_t)k->max_bodies;
}

static bool present(const kd_cfg_skeleton *k, const float *x, int t, int m)
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < V; v++) {
            if (x[at(k, c, t, v, m)] != 0.0f) return true;
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
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
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
    if (list == NULL) return KD_FAIL(err, KD_E_OOM, "no memory for %zu bodies", s->n_bodies);
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
    if (!c->tracked) return (uint32_t)m < end - first ? &s->body[first + (uint32_t)m] : NULL;
    for (uint32_t i = first; m < c->n && i < end; i++) {
        if (s->body[i].id == c->id[m]) return &s->body[i];
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

static void put_body(const kd_cfg_skeleton *k, float *x, int t, int m, const kd_skel_body *a,
                     const kd_skel_body *b, float w)
{
    for (int v = 0; v < V; v++) {
        for (int c = 0; c < 3; c++) {
            const float p = a->xyz[v][c];
            x[at(k, c, t, v, m)] = b == NULL || w == 0.0f ? p : p + (b->xyz[v][c] - p) * w;
        }
    }
}

static void resample_linear(const kd_cfg_skeleton *k, const kd_skeleton *s, const cast *c, float *x)
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

static void resample_pad(const kd_cfg_skeleton *k, const kd_skeleton *s, const cast *c, float *x)
{
    size_t idx[1024]; /* skeleton.frames is at most that */
    KD_ASSERT(k->frames >= 2 && (size_t)k->frames <= KD_COUNTOF(idx));
    kd_sequence_index(s->frames, k->frames, idx);
    for (int t = 0; t < k->frames; t++) {
        for (int m = 0; m < k->max_bodies; m++) {
            const kd_skel_body *b = body_at(s, c, idx[t], m);
            if (b != NULL) put_body(k, x, t, m, b, NULL, 0.0f);
        }
    }
}

/* ---- normalisation --------------------------------------------------------------------------- */

static void centre(const kd_cfg_skeleton *k, float *x, int m, int first)
{
    float origin[3];
    for (int c = 0; c < 3; c++) {
        origin[c] = x[at(k, c, first, SPINE_BASE, m)];
    }
    for (int t = first; t < k->frames; t++) {
        if (!present(k, x, t, m)) continue;
        for (int c = 0; c < 3; c++) {
            const float o =
                k->normalize == KD_NORM_CENTER_SPINE ? x[at(k, c, t, SPINE_BASE, m)] : origin[c];
            for (int v = 0; v < V; v++) {
                x[at(k, c, t, v, m)] -= o;
            }
        }
    }
}

static void rotate_y(const kd_cfg_skeleton *k, float *x, int m, float cs, float sn)
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

static void face_camera(const kd_cfg_skeleton *k, float *x, int m, int first)
{
    const double dx = (double)x[at(k, 0, first, RIGHT_SHOULDER, m)] -
                      (double)x[at(k, 0, first, LEFT_SHOULDER, m)];
    const double dz = (double)x[at(k, 2, first, RIGHT_SHOULDER, m)] -
                      (double)x[at(k, 2, first, LEFT_SHOULDER, m)];
    /* x' = x cos + z sin, z' = z cos - x sin nulls dz for +angle; the reference turns by -angle */
    const double angle = k->yaw == KD_YAW_CORRECTED ? atan2(dz, dx) : -atan2(dz, dx);
    rotate_y(k, x, m, (float)cos(angle), (float)sin(angle));
}

/* file_order counts frames without the body as length 0, as the reference does; tracked leaves
 * them out. */
static void unit_torso(const kd_cfg_skeleton *k, float *x, int m)
{
    double sum = 0.0;
    int n = 0;
    for (int t = 0; t < k->frames; t++) {
        if (k->bodies == KD_BODIES_TRACKED && !present(k, x, t, m)) continue;
        double d2 = 0.0;
        for (int c = 0; c < 3; c++) {
            const double d =
                (double)x[at(k, c, t, NECK, m)] - (double)x[at(k, c, t, SPINE_BASE, m)];
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

void kd_sequence_normalize(const kd_cfg_skeleton *cfg, float *x)
{
    for (int m = 0; m < cfg->max_bodies; m++) {
        int first = 0;
        while (first < cfg->frames && !present(cfg, x, first, m)) {
            first++;
        }
        if (first == cfg->frames) continue;
        if (cfg->normalize != KD_NORM_NONE) centre(cfg, x, m, first);
        if (cfg->yaw != KD_YAW_NONE) face_camera(cfg, x, m, first);
        if (cfg->bone_scale) unit_torso(cfg, x, m);
    }
}

kd_status kd_sequence_make(const kd_cfg_skeleton *cfg, const kd_skeleton *skel, float *x,
                           kd_err *err)
{
    if (skel->frames == 0 || skel->n_bodies == 0) {
        return KD_FAIL(err, KD_E_DATA, "no frame of %zu has a body", skel->frames);
    }
    cast c = {.tracked = cfg->bodies == KD_BODIES_TRACKED};
    if (c.tracked) KD_TRY(choose_people(skel, cfg->max_bodies, &c, err));
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
};
#define DRAW_NOISE ((uint64_t)1 << 34) /* x (stream + 1) */

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

kd_sequence_draw kd_sequence_draw_make(const kd_cfg_skeleton_aug *aug, int frames, kd_rng rng)
{
    kd_sequence_draw d = {.angle_deg = range_at(rng, DRAW_ANGLE, -aug->rotate_deg, aug->rotate_deg),
                          .scale = range_at(rng, DRAW_SCALE, aug->scale[0], aug->scale[1]),
                          .shear = range_at(rng, DRAW_SHEAR, -aug->shear, aug->shear),
                          .time_flip =
                              range_at(rng, DRAW_TIME_FLIP, 0.0, 1.0) < aug->time_flip_prob,
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

static void rotate_scale_shear(const kd_cfg_skeleton *k, const kd_sequence_draw *d, float *x)
{
    const double angle = d->angle_deg * (3.14159265358979323846 / 180.0);
    const float scale = (float)d->scale, shear = (float)d->shear;
    for (int m = 0; m < k->max_bodies; m++) {
        if (angle != 0.0) rotate_y(k, x, m, (float)cos(angle), (float)sin(angle));
    }
    const size_t plane = (size_t)k->frames * V * (size_t)k->max_bodies;
    for (size_t i = 0; i < 3 * plane; i++) {
        x[i] *= scale;
    }
    for (size_t i = 0; i < plane; i++) {
        x[i] += shear * x[plane + i];
    }
}

static void swap_floats(float *a, float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float v = a[i];
        a[i] = b[i];
        b[i] = v;
    }
}

static void reverse_time(const kd_cfg_skeleton *k, float *x)
{
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames / 2; t++) {
            swap_floats(&x[at(k, c, t, 0, 0)], &x[at(k, c, k->frames - 1 - t, 0, 0)],
                        (size_t)V * (size_t)k->max_bodies);
        }
    }
}

static void mirror(const kd_cfg_skeleton *k, float *x)
{
    static const uint8_t pair[][2] = {{4, 8},   {5, 9},   {6, 10},  {7, 11},  {12, 16},
                                      {13, 17}, {14, 18}, {15, 19}, {21, 23}, {22, 24}};
    const size_t plane = (size_t)k->frames * V * (size_t)k->max_bodies;
    for (size_t i = 0; i < plane; i++) {
        x[i] = -x[i];
    }
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames; t++) {
            for (size_t p = 0; p < KD_COUNTOF(pair); p++) {
                swap_floats(&x[at(k, c, t, pair[p][0], 0)], &x[at(k, c, t, pair[p][1], 0)],
                            (size_t)k->max_bodies);
            }
        }
    }
}

/* Frames of the part kept, then its last one again and again; in place, since sources never lie
 * before. */
static void change_speed(const kd_cfg_skeleton *k, const kd_sequence_draw *d, float *x)
{
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames; t++) {
            const int from = d->speed_start + KD_MIN(t, d->speed_frames - 1);
            if (from != t) {
                memcpy(&x[at(k, c, t, 0, 0)], &x[at(k, c, from, 0, 0)],
                       (size_t)V * (size_t)k->max_bodies * sizeof *x);
            }
        }
    }
}

/* On bodies that are there: noise on an absent one would make it a person that no test sample
 * has. */
static void add_noise(const kd_cfg_skeleton *k, const kd_sequence_draw *d, const float *joints,
                      int stream, double sigma, float *x)
{
    kd_rng r = d->noise;
    for (int t = 0; t < k->frames; t++) {
        const int from = d->speed_frames > 0 ? d->speed_start + KD_MIN(t, d->speed_frames - 1) : t;
        for (int m = 0; m < k->max_bodies; m++) {
            if (!present(k, joints, from, m)) continue;
            r.pos =
                DRAW_NOISE * (uint64_t)(stream + 1) + (uint64_t)(t * k->max_bodies + m) * 4 * 75;
            for (int c = 0; c < 3; c++) {
                for (int v = 0; v < V; v++) {
                    x[at(k, c, t, v, m)] += (float)(sigma * kd_rng_normal(&r));
                }
            }
        }
    }
}

static void mask_joints(const kd_cfg_skeleton *k, uint32_t masked, float *x)
{
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames; t++) {
            for (int v = 0; v < V; v++) {
                if ((masked >> v & 1) == 0) continue;
                for (int m = 0; m < k->max_bodies; m++) {
                    x[at(k, c, t, v, m)] = 0.0f;
                }
            }
        }
    }
}

/* ---- streams --------------------------------------------------------------------------------- */

static void derive(const kd_cfg_skeleton *k, const float *x, int stream, float *y)
{
    static const uint8_t parent[V] = {0,  0,  20, 2, 20, 4,  5,  6, 20, 8, 9,  10, 0,
                                      12, 13, 14, 0, 16, 17, 18, 1, 7,  6, 11, 10};
    const size_t frame = (size_t)V * (size_t)k->max_bodies;
    if (stream == 0) {
        memcpy(y, x, floats_of(k) * sizeof *y);
        return;
    }
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < k->frames; t++) {
            float *out = &y[at(k, c, t, 0, 0)];
            const float *in = &x[at(k, c, t, 0, 0)];
            if (stream == 1) {
                const float *after = t + 1 < k->frames ? in + frame : in;
                for (size_t i = 0; i < frame; i++) {
                    out[i] = after[i] - in[i];
                }
                continue;
            }
            for (int v = 0; v < V; v++) {
                for (int m = 0; m < k->max_bodies; m++) {
                    const size_t i = (size_t)v * (size_t)k->max_bodies + (size_t)m;
                    const size_t p = (size_t)parent[v] * (size_t)k->max_bodies + (size_t)m;
                    out[i] = v == 0 ? 0.0f : in[i] - in[p];
                }
            }
        }
    }
}

void kd_sequence_streams(const kd_cfg_skeleton *cfg, const kd_cfg_skeleton_aug *aug,
                         const kd_sequence_draw *draw, const float *x, unsigned streams,
                         float *work, float *const *dst)
{
    const size_t n = floats_of(cfg);
    memcpy(work, x, n * sizeof *work);
    if (draw != NULL) {
        rotate_scale_shear(cfg, draw, work);
        if (draw->time_flip) reverse_time(cfg, work);
        if (draw->flip) mirror(cfg, work);
    }
    int i = 0;
    for (int stream = 0; stream < 3; stream++) {
        if ((streams >> stream & 1) == 0) continue;
        float *y = dst[i++];
        derive(cfg, work, stream, y);
        if (draw != NULL) {
            const double sigma[] = {aug->noise_joint, aug->noise_velocity, aug->noise_bone};
            if (draw->speed_frames > 0) change_speed(cfg, draw, y);
            if (sigma[stream] > 0.0) add_noise(cfg, draw, work, stream, sigma[stream], y);
            if (draw->masked != 0) mask_joints(cfg, draw->masked, y);
        }
        if (cfg->clamp > 0.0) {
            const float hi = (float)cfg->clamp;
            for (size_t j = 0; j < n; j++) {
                y[j] = y[j] > hi ? hi : y[j] < -hi ? -hi : y[j];
            }
        }
    }
}
