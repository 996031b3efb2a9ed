/* Skeletons to arrays: bodies, length, normalisation.  Arrays are x[c][t][v][m], m fastest. */
#include "kernels/kd_skeleton.h"
#include "student/skeleton/sequence.h"

#include <math.h>

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

static bool sorts_before(const seen *a, const seen *b)
{
    return a->id != b->id ? a->id < b->id : a->first < b->first;
}

/* Moves list[i] down the heap of n until nothing below it sorts behind it. */
static void sift(seen *list, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && sorts_before(&list[child], &list[child + 1]);
        if (!sorts_before(&list[i], &list[child])) {
            return;
        }
        const seen up = list[child];
        list[child] = list[i];
        list[i] = up;
    }
}

/* qsort() of the C library may take memory, which kd_sequence_make_in promises not to. */
static void sort_seen(seen *list, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift(list, i, n);
    }
    for (size_t left = n; left > 1;) {
        const seen last = list[--left];
        list[left] = list[0];
        list[0] = last;
        sift(list, 0, left);
    }
}

static bool ranks_before(const seen *a, const seen *b)
{
    return a->count != b->count ? a->count > b->count : a->first < b->first;
}

/* The people seen in most frames; of equals, the one seen first.  list [s->n_bodies] is scratch. */
static void choose_people(const kd_skeleton *s, int most, seen *list, cast *out)
{
    for (size_t i = 0; i < s->n_bodies; i++) {
        list[i] = (seen){.id = s->body[i].id, .first = i, .count = 1};
    }
    sort_seen(list, s->n_bodies);
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

size_t kd_sequence_scratch(size_t n_bodies)
{
    return (n_bodies + 1) * sizeof(seen);
}

kd_status kd_sequence_make_in(const kd_skeleton_opts *cfg, const kd_skeleton *skel, void *scratch, float *x,
                              kd_err *err)
{
    if (skel->frames == 0 || skel->n_bodies == 0) {
        return KD_FAIL(err, KD_E_DATA, "no frame of %zu has a body", skel->frames);
    }
    cast c = {.tracked = cfg->bodies == KD_BODIES_TRACKED};
    if (c.tracked) {
        choose_people(skel, cfg->max_bodies, scratch, &c);
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

kd_status kd_sequence_make(const kd_skeleton_opts *cfg, const kd_skeleton *skel, float *x, kd_err *err)
{
    void *scratch = kd_alloc(kd_sequence_scratch(skel->n_bodies));
    if (scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu bodies", skel->n_bodies);
    }
    const kd_status st = kd_sequence_make_in(cfg, skel, scratch, x, err);
    kd_free(scratch);
    return st;
}
