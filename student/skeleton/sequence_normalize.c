/* Normalisation of sequences.  Arrays are x[c][t][v][m], m fastest. */
#include "student/skeleton/sequence_internal.h"

#include <math.h>

static bool seen(const kdi_frames *f, const float *x, int t, int v, int m)
{
    return !f->scored || x[kdi_at(f, 2, t, v, m)] != 0.0f;
}

/* A point of the layout, the middle of two joints (of one, where the other was not seen); false: neither was seen. */
static bool point(const kdi_frames *f, const float *x, const uint8_t joint[2], int t, int m, float p[3])
{
    const bool first = seen(f, x, t, joint[0], m), second = joint[1] != joint[0] && seen(f, x, t, joint[1], m);
    for (int c = 0; c < 3; c++) {
        const float a = x[kdi_at(f, c, t, joint[0], m)], b = x[kdi_at(f, c, t, joint[1], m)];
        p[c] = first && second ? (a + b) * 0.5f : first ? a : b;
    }
    return first || second;
}

/* The mean of the joints seen. */
static void middle(const kdi_frames *f, const float *x, int t, int m, float p[3])
{
    int n = 0;
    memset(p, 0, 3 * sizeof *p);
    for (int v = 0; v < f->l->joints; v++) {
        for (int c = 0; c < 3 && seen(f, x, t, v, m); c++) {
            p[c] += x[kdi_at(f, c, t, v, m)];
            n += c == 0;
        }
    }
    for (int c = 0; c < 3; c++) {
        p[c] /= (float)KD_MAX(n, 1);
    }
}

/* Coordinates that are moved: not the confidence. */
static int moved(const kdi_frames *f)
{
    return f->scored ? 2 : 3;
}

/* Frames in which the origin was not seen have that of the frame before, the first ones that of the first that has one;
 * where there is none at all, the middle of the joints of the first frame is the origin. */
static void centre(const kdi_frames *f, float *x, int m, int first)
{
    float origin[3] = {0};
    int t0 = first;
    while (t0 < f->k->frames && !(kdi_present(f, x, t0, m) && point(f, x, f->l->origin, t0, m, origin))) {
        t0++;
    }
    if (t0 == f->k->frames) {
        middle(f, x, first, m, origin);
    }
    for (int t = first; t < f->k->frames; t++) {
        float own[3];
        if (!kdi_present(f, x, t, m)) {
            continue;
        }
        if (f->k->normalize == KD_NORM_CENTER_SPINE && point(f, x, f->l->origin, t, m, own)) {
            memcpy(origin, own, sizeof origin);
        }
        for (int c = 0; c < moved(f); c++) {
            for (int v = 0; v < f->l->joints; v++) {
                x[kdi_at(f, c, t, v, m)] -= seen(f, x, t, v, m) ? origin[c] : 0.0f;
            }
        }
    }
}

static void rotate_y(const kdi_frames *f, float *x, int m, float cs, float sn)
{
    for (int t = 0; t < f->k->frames; t++) {
        for (int v = 0; v < f->l->joints; v++) {
            float *px = &x[kdi_at(f, 0, t, v, m)], *pz = &x[kdi_at(f, 2, t, v, m)];
            const float x0 = *px, z0 = *pz;
            *px = x0 * cs + z0 * sn;
            *pz = z0 * cs - x0 * sn;
        }
    }
}

static void face_camera(const kdi_frames *f, float *x, int m, int first)
{
    const int left = f->l->shoulder[0], right = f->l->shoulder[1];
    const double dx = (double)x[kdi_at(f, 0, first, right, m)] - (double)x[kdi_at(f, 0, first, left, m)];
    const double dz = (double)x[kdi_at(f, 2, first, right, m)] - (double)x[kdi_at(f, 2, first, left, m)];
    /* x' = x cos + z sin, z' = z cos - x sin nulls dz for +angle; the reference turns by -angle */
    const double angle = f->k->yaw == KD_YAW_CORRECTED ? atan2(dz, dx) : -atan2(dz, dx);
    rotate_y(f, x, m, (float)cos(angle), (float)sin(angle));
}

static double distance(const float *a, const float *b, int channels)
{
    double d2 = 0.0;
    for (int c = 0; c < channels; c++) {
        const double d = (double)a[c] - (double)b[c];
        d2 += d * d;
    }
    return sqrt(d2);
}

/* Mean distance of the joints seen from their middle: the size of a body whose torso was never seen. */
static double spread(const kdi_frames *f, const float *x, int m)
{
    double sum = 0.0;
    int n = 0;
    for (int t = 0; t < f->k->frames; t++) {
        float mid[3];
        middle(f, x, t, m, mid);
        for (int v = 0; v < f->l->joints; v++) {
            if (seen(f, x, t, v, m)) {
                const float p[2] = {x[kdi_at(f, 0, t, v, m)], x[kdi_at(f, 1, t, v, m)]};
                sum += distance(p, mid, 2);
                n++;
            }
        }
    }
    return n > 0 ? sum / n : 0.0;
}

/* file_order counts frames without the body as length 0, as the reference does; tracked leaves
 * them out.  A frame whose torso was not seen is left out. */
static void unit_torso(const kdi_frames *f, float *x, int m)
{
    double sum = 0.0;
    int n = 0;
    for (int t = 0; t < f->k->frames; t++) {
        float top[3], origin[3];
        if (f->k->bodies == KD_BODIES_TRACKED && !kdi_present(f, x, t, m)) {
            continue;
        }
        if (point(f, x, f->l->top, t, m, top) && point(f, x, f->l->origin, t, m, origin)) {
            sum += distance(top, origin, moved(f));
            n++;
        }
    }
    const double length = n > 0 ? sum / n : f->scored ? spread(f, x, m) : 0.0;
    const float scale = (float)fmax(length, 1e-6);
    for (int c = 0; c < moved(f); c++) {
        for (int t = 0; t < f->k->frames; t++) {
            for (int v = 0; v < f->l->joints; v++) {
                x[kdi_at(f, c, t, v, m)] /= scale;
            }
        }
    }
}

void kd_sequence_normalize(const kd_sequence_spec *spec, float *x)
{
    const kdi_frames f = kdi_frames_of(spec);
    for (int m = 0; m < f.k->max_bodies; m++) {
        int first = 0;
        while (first < f.k->frames && !kdi_present(&f, x, first, m)) {
            first++;
        }
        if (first == f.k->frames) {
            continue;
        }
        if (f.k->normalize != KD_NORM_NONE) {
            centre(&f, x, m, first);
        }
        if (f.k->yaw != KD_YAW_NONE) {
            face_camera(&f, x, m, first);
        }
        if (f.k->bone_scale) {
            unit_torso(&f, x, m);
        }
    }
}
