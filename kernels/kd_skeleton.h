/* From a normalised skeleton sequence x (3, T, V, M) to what a student reads: augmentation, streams, noise, mask,
 * clamp.
 *
 * One text for every place that does it: the data path (student/skeleton/sequence_make.c skeleton/sequence_augment.c),
 * the CPU kernel and the CUDA kernel of skeleton_streams.  Each number of a frame is a function of (x, the sample's
 * draws, frame, element), so frames and samples may be made in any order, by any number of threads.  Frames are kept as
 * f[c][v][m], m fastest.
 *
 *   joint       the coordinates, rotated about y, scaled, sheared (x += shear y), reversed in time, mirrored
 *   velocity    joint[t+1] - joint[t]; the last frame 0
 *   bone        joint - its parent; 0 where a joint is its own parent
 *   bone velocity  bone[t+1] - bone[t]; the last frame 0
 * then speed (part of the recording, its last frame repeated), noise per stream on bodies that are there, mask, clamp.
 *
 * Where joints are x, y and a confidence (kd_skeleton_streams_attr.scored), the confidence is neither scaled nor
 * disturbed, and nothing is turned.  That of a velocity or a bone is the mean of its two ends (PYSKL's JointToBone and
 * ToMotion: that of the last velocity is 0, that of a joint without a bone its own); where an end was not seen, all
 * three numbers are 0.
 */
#ifndef KD_KERNELS_KD_SKELETON_H
#define KD_KERNELS_KD_SKELETON_H

#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The type of all arithmetic: float; double in the f64 kernels of the tests. */
#ifdef KD_SKELETON_F64
typedef double kd_skel_real;
#else
typedef float kd_skel_real;
#endif

enum { KD_SKEL_FRAME = 3 * KD_SKELETON_MAX_JOINTS * KD_SKELETON_MAX_BODIES }; /* numbers of a frame at most */

typedef struct kd_skel_form {
    int frames, joints, bodies;
} kd_skel_form;

/* The draws of one sample. */
typedef struct kd_skel_draw {
    kd_skel_real cs, sn, scale, shear; /* cosine and sine of the angle */
    uint32_t flags;                    /* KD_SKEL_* of kd_ops.h */
    int speed_frames, speed_start;     /* length and start of the part kept; speed_frames 0: all */
    uint64_t masked;                   /* bit j: joint j is zeroed */
    kd_rng noise;                      /* whose sequence noise is drawn from; pos is not used */
} kd_skel_draw;

/* The frame of the augmented sequence that frame t of a stream shows. */
KD_RNG_FN int kd_skel_source(const kd_skel_form *f, const kd_skel_draw *d, int t)
{
    int64_t from = t;
    if (d->speed_frames > 0) {
        from = (int64_t)d->speed_start + (t < d->speed_frames - 1 ? t : d->speed_frames - 1);
    }
    return from < 0 ? 0 : from < f->frames ? (int)from : f->frames - 1; /* whatever the draw says */
}

/* Joint v of body m in frame t of the augmented sequence: p[c], c = x, y, z (or x, y, confidence). */
KD_RNG_FN void kd_skel_point(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                             const kd_skel_real *x, int t, int v, int m, kd_skel_real *p)
{
    const int t0 = (d->flags & KD_SKEL_REVERSED) != 0 ? f->frames - 1 - t : t;
    const int v0 = (d->flags & KD_SKEL_MIRRORED) != 0 ? a->mirror[v] : v;
    const int64_t plane = (int64_t)f->frames * f->joints * f->bodies;
    const int64_t i = ((int64_t)t0 * f->joints + v0) * f->bodies + m;
    p[0] = x[i];
    p[1] = x[plane + i];
    p[2] = x[2 * plane + i];
    if ((d->flags & KD_SKEL_AUGMENTED) == 0) {
        return;
    }
    if ((d->flags & KD_SKEL_TURNED) != 0 && a->scored == 0) {
        const kd_skel_real x0 = p[0], z0 = p[2];
        p[0] = x0 * d->cs + z0 * d->sn;
        p[2] = z0 * d->cs - x0 * d->sn;
    }
    p[0] *= d->scale;
    p[1] *= d->scale;
    p[2] *= a->scored != 0 ? (kd_skel_real)1 : d->scale;
    p[0] += d->shear * p[1];
    p[0] = (d->flags & KD_SKEL_MIRRORED) != 0 ? -p[0] : p[0];
}

/* Noise of element (c, v, m) of frame t of a stream. */
KD_RNG_FN kd_skel_real kd_skel_noise(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                                     int stream, int t, int c, int v, int m)
{
    kd_rng r = d->noise;
    r.pos = ((uint64_t)(stream + 1) << 34) + (uint64_t)(t * f->bodies + m) * 4 * 3 * (uint64_t)f->joints +
            (uint64_t)(c * f->joints + v) * 4;
    return (kd_skel_real)(a->sigma[stream] * kd_rng_normal(&r));
}

KD_RNG_FN kd_skel_real kd_skel_clamp(kd_skel_real y, kd_skel_real hi)
{
    return y > hi ? hi : y < -hi ? -hi : y; /* NaN stays */
}

/* What stands for joints with a confidence: the value, and *seen: the confidence of what it was made of is not 0. */
KD_RNG_FN kd_skel_real kd_skel_scored(const kd_skel_form *f, const kd_skeleton_streams_attr *a, int stream,
                                      const kd_skel_real *now, const kd_skel_real *next, bool last, int c, int v, int m,
                                      bool *seen)
{
    const int row = f->joints * f->bodies, from = v * f->bodies + m;
    const int to = stream >= 2 ? a->parent[v] * f->bodies + m : from;
    const kd_skel_real *other = stream == 1 ? next : now;
    *seen = now[2 * row + from] != (kd_skel_real)0 && other[2 * row + to] != (kd_skel_real)0 &&
            !((stream & 1) != 0 && last);
    if (stream == 3) {
        *seen = *seen && next[2 * row + from] != (kd_skel_real)0 && next[2 * row + to] != (kd_skel_real)0;
    }
    if (!*seen) {
        return (kd_skel_real)0;
    }
    if (stream == 3 && c == 2) {
        return (now[2 * row + from] + now[2 * row + to] + next[2 * row + from] + next[2 * row + to]) / (kd_skel_real)4;
    }
    if (stream == 3) {
        return (next[c * row + from] - next[c * row + to]) - (now[c * row + from] - now[c * row + to]);
    }
    if (c == 2) {
        return (now[2 * row + from] + other[2 * row + to]) / (kd_skel_real)2;
    }
    const kd_skel_real p = now[c * row + from], q = other[c * row + to];
    return stream == 0 ? p : stream == 1 ? q - p : p - q;
}

/* Element (c, v, m) of frame t of a stream (0 joint, 1 velocity, 2 bone, 3 bone velocity).  `now` is the frame it
 * shows, `next` the one after it in the augmented sequence (`now` itself at its end, which `last` says); `there`: body
 * m is in `now`. */
KD_RNG_FN kd_skel_real kd_skel_value(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                                     int stream, const kd_skel_real *now, const kd_skel_real *next, bool last,
                                     bool there, int t, int c, int v, int m)
{
    const int i = (c * f->joints + v) * f->bodies + m;
    kd_skel_real y = now[i];
    if (a->scored != 0) {
        bool seen = false;
        y = kd_skel_scored(f, a, stream, now, next, last, c, v, m, &seen);
        there = seen && c < 2;
    } else if (stream == 1) {
        y = next[i] - now[i];
    } else if (stream == 2) {
        y = a->parent[v] == v ? (kd_skel_real)0 : now[i] - now[(c * f->joints + a->parent[v]) * f->bodies + m];
    } else if (stream == 3) {
        const int p = (c * f->joints + a->parent[v]) * f->bodies + m;
        y = a->parent[v] == v ? (kd_skel_real)0 : (next[i] - next[p]) - (now[i] - now[p]);
    }
    if ((d->flags & KD_SKEL_AUGMENTED) != 0) {
        /* noise on an absent body would make it a person that no test sample has */
        if (a->sigma[stream] > 0.0 && there) {
            y += kd_skel_noise(f, a, d, stream, t, c, v, m);
        }
        y = (d->masked >> v & 1u) != 0 ? (kd_skel_real)0 : y;
    }
    return a->clamp > 0.0 ? kd_skel_clamp(y, (kd_skel_real)a->clamp) : y;
}

#ifndef __cplusplus
/* The frame t of the augmented sequence; there[m]: anything of body m is not 0. */
static inline void kd_skel_frame(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                                 const kd_skel_real *x, int t, kd_skel_real *frame, bool *there)
{
    for (int m = 0; m < f->bodies; m++) {
        there[m] = false;
    }
    for (int v = 0; v < f->joints; v++) {
        for (int m = 0; m < f->bodies; m++) {
            kd_skel_real p[3];
            kd_skel_point(f, a, d, x, t, v, m, p);
            for (int c = 0; c < 3; c++) {
                frame[(c * f->joints + v) * f->bodies + m] = p[c];
                there[m] = there[m] || p[c] != (kd_skel_real)0;
            }
        }
    }
}

/* kd_skel_value for all (v, m) of one c, for joints without a confidence step by step over the row: several times
 * faster on a processor. */
static inline void kd_skel_row(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                               int stream, const kd_skel_real *now, const kd_skel_real *next, bool last,
                               const bool *there, int t, int c, kd_skel_real *restrict y)
{
    const int plane = f->joints * f->bodies;
    for (int i = 0; i < plane && a->scored != 0; i++) {
        const int v = i / f->bodies, m = i % f->bodies;
        y[i] = kd_skel_value(f, a, d, stream, now, next, last, there[m], t, c, v, m);
    }
    if (a->scored != 0) {
        return;
    }
    now += c * plane;
    next += c * plane;
    for (int i = 0; i < plane && stream < 2; i++) {
        y[i] = stream == 0 ? now[i] : next[i] - now[i];
    }
    for (int v = 0; v < f->joints && stream >= 2; v++) {
        for (int m = 0; m < f->bodies; m++) {
            const int i = v * f->bodies + m, p = a->parent[v] * f->bodies + m;
            const kd_skel_real bone = now[i] - now[p], moved = stream == 2 ? bone : (next[i] - next[p]) - bone;
            y[i] = a->parent[v] == v ? (kd_skel_real)0 : moved;
        }
    }
    const bool augmented = (d->flags & KD_SKEL_AUGMENTED) != 0;
    for (int i = 0; i < plane && augmented && a->sigma[stream] > 0.0; i++) {
        if (there[i % f->bodies]) {
            y[i] += kd_skel_noise(f, a, d, stream, t, c, i / f->bodies, i % f->bodies);
        }
    }
    for (int v = 0; v < f->joints && augmented && d->masked != 0; v++) {
        for (int m = 0; m < f->bodies && (d->masked >> v & 1u) != 0; m++) {
            y[v * f->bodies + m] = (kd_skel_real)0;
        }
    }
    for (int i = 0; i < plane && a->clamp > 0.0; i++) {
        y[i] = kd_skel_clamp(y[i], (kd_skel_real)a->clamp);
    }
}

static inline void kd_skel_streams_of(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d,
                                      const kd_skel_real *x, kd_skel_real *const *y)
{
    kd_skel_real frame[2][KD_SKEL_FRAME] = {{(kd_skel_real)0}};
    bool there[2][KD_SKELETON_MAX_BODIES] = {{false}};
    int held[2] = {-1, -1}; /* frames of the augmented sequence in the two places: t is in place t mod 2 */
    const int64_t plane = (int64_t)f->joints * f->bodies;
    for (int t = 0; t < f->frames; t++) {
        const int from = kd_skel_source(f, d, t), after = from + 1 < f->frames ? from + 1 : from;
        for (int k = from; k <= after; k++) {
            if (held[k & 1] != k) {
                kd_skel_frame(f, a, d, x, k, frame[k & 1], there[k & 1]);
                held[k & 1] = k;
            }
        }
        for (int c = 0; c < 3; c++) {
            for (int stream = 0; stream < KD_SKEL_STREAMS; stream++) {
                if (y[stream] != NULL) {
                    kd_skel_row(f, a, d, stream, frame[from & 1], frame[after & 1], after == from, there[from & 1], t,
                                c, y[stream] + ((int64_t)c * f->frames + t) * plane);
                }
            }
        }
    }
}
#endif

/* All streams of one sample: y[0] joint, y[1] velocity, y[2] bone, y[3] bone velocity, each (3, T, V, M) or NULL.  In
 * f32 and in one place, so that the numbers do not depend on the instruction set a caller was compiled for. */
#ifndef KD_SKELETON_F64
void kd_skel_streams(const kd_skel_form *f, const kd_skeleton_streams_attr *a, const kd_skel_draw *d, const float *x,
                     float *const *y);
#endif

#ifdef __cplusplus
}
#endif
#endif
