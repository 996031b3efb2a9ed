/* Augmentation of sequences: the draws of a sample, and the streams they make.  The formulas are kernels/kd_skeleton.h,
 * which the device uses too. */
#include "kernels/kd_skeleton.h"
#include "student/skeleton/sequence.h"

#include <math.h>

/* ---- draws ----------------------------------------------------------------------------------- */

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

kd_sequence_draw kd_sequence_draw_make(const kd_sequence_spec *spec, kd_rng rng)
{
    const kd_skeleton_aug_opts *aug = &spec->aug;
    const int frames = spec->skeleton.frames, joints = kd_sequence_layout(spec)->joints;
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
    int joint[KD_LAYOUT_JOINTS] = {0};
    const int masked = (int)((double)joints * aug->joint_mask);
    for (int v = 0; v < joints; v++) {
        joint[v] = v;
    }
    r = moved(rng, DRAW_MASK);
    for (int i = 0; i < masked; i++) { /* the front of a shuffle */
        const int j = i + (int)kd_rng_below(&r, (uint32_t)(joints - i));
        const int chosen = joint[j];
        joint[j] = joint[i];
        d.masked |= (uint64_t)1 << chosen;
    }
    return d;
}

/* ---- streams --------------------------------------------------------------------------------- */

kd_skeleton_streams_attr kd_sequence_attr(const kd_sequence_spec *spec)
{
    const kd_layout *l = kd_sequence_layout(spec);
    const kd_skeleton_aug_opts *aug = &spec->aug;
    kd_skeleton_streams_attr a = {
        .sigma = {aug->noise_joint, aug->noise_velocity, aug->noise_bone, aug->noise_bone_velocity},
        .clamp = spec->skeleton.clamp,
        .scored = spec->skeleton.channels == KD_CHANNELS_XY_SCORE};
    for (int v = 0; v < l->joints; v++) {
        a.parent[v] = l->joint[v].bone;
        a.mirror[v] = l->joint[v].mirror;
    }
    return a;
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
    whole[KD_SKEL_MASKED_LOW] = (int32_t)(uint32_t)d.masked;
    whole[KD_SKEL_MASKED_HIGH] = (int32_t)(uint32_t)(d.masked >> 32);
    whole[KD_SKEL_SEED_LOW] = (int32_t)(uint32_t)d.noise.seed;
    whole[KD_SKEL_SEED_HIGH] = (int32_t)(uint32_t)(d.noise.seed >> 32);
    whole[KD_SKEL_ITEM] = (int32_t)d.noise.item;
    whole[KD_SKEL_EPOCH] = (int32_t)d.noise.epoch;
}

void kd_sequence_streams(const kd_sequence_spec *spec, const kd_sequence_draw *draw, const float *x, unsigned streams,
                         float *const *dst)
{
    const kd_skel_form form = {spec->skeleton.frames, kd_sequence_layout(spec)->joints, spec->skeleton.max_bodies};
    const kd_skeleton_streams_attr attr = kd_sequence_attr(spec);
    const kd_skel_draw d = draw != NULL ? skel_draw(draw) : (kd_skel_draw){.flags = 0};
    float *y[KD_SKEL_STREAMS] = {NULL};
    int i = 0;
    for (int stream = 0; stream < KD_SKEL_STREAMS; stream++) {
        if ((streams >> stream & 1) != 0) {
            y[stream] = dst[i++];
        }
    }
    kd_skel_streams(&form, &attr, &d, x, y);
}
