/* One clip of the sample data set: draws, motion, cameras, and the errors of a Kinect.  See synth.h. */
#include "tools/sample/synth.h"

#include "kernels/kd_rng.h"
#include "tools/sample/synth_actions.h"

static const double TURN = 6.283185307179586;
static const double FPS = 30.0;

/* What a draw is for: the `epoch` word of its Philox counter. */
enum { DRAW_BODY, DRAW_MOTION, DRAW_CAMERA, DRAW_TRACKING };

static kd_rng draws(uint64_t seed, const kd_synth_id *id, uint32_t what)
{
    uint32_t item = (uint32_t)id->performer;
    if (what != DRAW_BODY) { /* the cameras film the same performance */
        item = item * 16u + (uint32_t)id->replication;
        item = item * 64u + (uint32_t)id->action;
        item = item * 16u + (what == DRAW_TRACKING ? (uint32_t)id->camera : 0u);
    }
    return kd_rng_make(seed, KD_RNG_SYNTH, item, what);
}

/* Nearly normal (sum of four uniforms): no logarithm, so the same bits everywhere. */
static double bell(kd_rng *r)
{
    double sum = -2.0;
    for (int i = 0; i < 4; i++) {
        sum += kd_rng_uniform(r);
    }
    return sum * 1.7320508075688772;
}

/* One after the other: the order in which a call's arguments are evaluated differs between compilers. */
static vec3 bell3(kd_rng *r)
{
    const double x = bell(r);
    const double y = bell(r);
    const double z = bell(r);
    return v3(x, y, z);
}

static kd_synth_body draw_body(uint64_t seed, const kd_synth_id *id)
{
    kd_rng r = draws(seed, id, DRAW_BODY);
    kd_synth_body b;
    b.scale = kd_rng_range(&r, 0.92, 1.10);
    b.arm = kd_rng_range(&r, 0.94, 1.06);
    b.leg = kd_rng_range(&r, 0.96, 1.04);
    b.shoulder = kd_rng_range(&r, 0.90, 1.12);
    b.hip = kd_rng_range(&r, 0.90, 1.12);
    b.tempo = kd_rng_range(&r, 0.85, 1.15);
    b.vigour = kd_rng_range(&r, 0.85, 1.15);
    return b;
}

typedef struct performance {
    kd_synth_body body;
    kd_synth_script script;
    double x, z, yaw; /* where and how the person stands */
    double sway[4];   /* phases of idle movement */
    int frames;
} performance;

static performance draw_performance(uint64_t seed, const kd_synth_id *id)
{
    performance p;
    p.body = draw_body(seed, id);
    kd_rng r = draws(seed, id, DRAW_MOTION);
    kd_synth_script *s = &p.script;
    s->action = id->action;
    s->begin = kd_rng_range(&r, 0.04, 0.18);
    s->end = kd_rng_range(&r, 0.82, 0.96);
    s->cycles = 1.0 + (double)kd_rng_below(&r, 3);
    s->amount = p.body.vigour * (1.0 + 0.10 * bell(&r));
    s->hint = kd_synth_action_row(id->action)->hint_mean + bell(&r);
    s->a = kd_rng_uniform(&r);
    s->b = kd_rng_uniform(&r);
    s->c = kd_rng_uniform(&r);
    const double length = kd_rng_range(&r, 56.0, 80.0) / p.body.tempo;
    p.frames = (int)KD_MIN((double)KD_SYNTH_MAX_FRAMES, KD_MAX((double)KD_SYNTH_MIN_FRAMES, length));
    p.x = 0.10 * bell(&r);
    p.z = 0.10 * bell(&r);
    /* As in NTU, the two replications face different cameras. */
    p.yaw = (id->replication % 2 == 1 ? 0.22 : -0.22) + 0.10 * bell(&r);
    for (size_t i = 0; i < KD_COUNTOF(p.sway); i++) {
        p.sway[i] = kd_rng_uniform(&r);
    }
    return p;
}

static kd_synth_pose rest_pose(const performance *p, double seconds)
{
    kd_synth_pose q;
    memset(&q, 0, sizeof q);
    q.x = p->x + 0.012 * kd_synth_sin(TURN * (0.31 * seconds + p->sway[0]));
    q.z = p->z + 0.010 * kd_synth_sin(TURN * (0.23 * seconds + p->sway[1]));
    q.yaw = p->yaw + 0.03 * kd_synth_sin(TURN * (0.17 * seconds + p->sway[2]));
    q.lean = 0.02 + 0.012 * kd_synth_sin(TURN * (0.27 * seconds + p->sway[3]));
    const double idle = 0.012 * kd_synth_sin(TURN * (0.4 * seconds + p->sway[1]));
    q.hand[SYNTH_LEFT] = v3(0.07, -0.52, 0.05 + idle);
    q.hand[SYNTH_RIGHT] = v3(0.07, -0.52, 0.05 - idle);
    if (kd_synth_action_row(p->script.action)->prop != KD_PROP_NONE &&
        kd_synth_action_row(p->script.action)->prop != KD_PROP_BOX) {
        q.hand[SYNTH_RIGHT] = v3(0.05, -0.40, 0.24); /* holds it ready */
    } else if (p->script.action == 6) {
        q.hand[SYNTH_RIGHT] = v3(0.05, -0.40, 0.24); /* "wave" starts like "wave a flag" */
    }
    return q;
}

/* ---- cameras --------------------------------------------------------------------------------- */

typedef struct view {
    vec3 eye, x, y, z; /* axes of the camera in the world */
} view;

static view camera_view(int camera)
{
    static const double YAW[KD_SYNTH_CAMERAS] = {-0.70, 0.0, 0.70};
    const double distance = 2.9;
    view v;
    v.eye = v3(distance * kd_synth_sin(YAW[camera - 1]), 1.45, distance * kd_synth_cos(YAW[camera - 1]));
    v.z = v3_unit(v3_sub(v3(0.0, 1.08, 0.0), v.eye), v3(0.0, 0.0, -1.0));
    v.x = v3_unit(v3_cross(v3(0.0, 1.0, 0.0), v.z), v3(-1.0, 0.0, 0.0));
    v.y = v3_cross(v.z, v.x);
    return v;
}

static vec3 turn_into(const view *v, vec3 d)
{
    return v3(v3_dot(d, v->x), v3_dot(d, v->y), v3_dot(d, v->z));
}

static void store(double out[3], vec3 v)
{
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
}

static void film(const performance *p, const view *v, kd_synth_clip *clip)
{
    const double seconds = p->frames / FPS;
    vec3 released = v3(0.0, 1.0, 0.0);
    for (int t = 0; t < p->frames; t++) {
        const double u = (double)t / (double)(p->frames - 1);
        kd_synth_pose pose = rest_pose(p, t / FPS);
        kd_synth_act(&p->script, u, &pose);
        vec3 joint[KD_SYNTH_JOINTS];
        kd_synth_solve(&p->body, &pose, joint);
        kd_synth_frame *f = &clip->frame[t];
        for (int j = 0; j < KD_SYNTH_JOINTS; j++) {
            store(f->joint[j], turn_into(v, v3_sub(joint[j], v->eye)));
        }
        vec3 at = joint[0];
        vec3 axis = v3(0.0, 1.0, 0.0);
        const vec3 ahead = v3(kd_synth_sin(p->yaw), 0.0, kd_synth_cos(p->yaw));
        f->prop_seen = kd_synth_prop_place(&p->script, u, seconds, joint, ahead, &released, &at, &axis);
        store(f->prop_at, turn_into(v, v3_sub(at, v->eye)));
        store(f->prop_axis, turn_into(v, axis));
    }
}

/* ---- what the Kinect makes of it ------------------------------------------------------------- */

enum { LIMBS = 4 };

/* Joints of the limbs that get lost, by limb: left arm, right arm, left leg, right leg. */
static int limb_of(int joint)
{
    switch (joint) {
    case 5:
    case 6:
    case 7:
    case 21:
    case 22:
        return 0;
    case 9:
    case 10:
    case 11:
    case 23:
    case 24:
        return 1;
    case 13:
    case 14:
    case 15:
        return 2;
    case 17:
    case 18:
    case 19:
        return 3;
    default:
        return -1;
    }
}

typedef struct tracking {
    double jitter;                        /* metres, standard deviation of one frame */
    int lost_from[LIMBS], lost_to[LIMBS]; /* frames in which a limb is guessed */
    int gone_from, gone_to;               /* frames without a body */
    double drop;                          /* probability that a joint of a frame is lost */
} tracking;

static tracking draw_tracking(kd_rng *r, int frames, bool bad)
{
    tracking k;
    memset(&k, 0, sizeof k);
    k.jitter = bad ? kd_rng_range(r, 0.018, 0.035) : kd_rng_range(r, 0.004, 0.009);
    k.drop = bad ? 0.04 : 0.004;
    for (int limb = 0; limb < LIMBS; limb++) {
        const double chance = !bad ? 0.05 : limb == 1 ? 0.60 : 0.25;
        const double part = bad ? kd_rng_range(r, 0.4, 0.9) : kd_rng_range(r, 0.1, 0.2);
        const int length = (int)(part * frames);
        const int from = (int)kd_rng_below(r, (uint32_t)(frames - length + 1));
        if (kd_rng_uniform(r) < chance) {
            k.lost_from[limb] = from;
            k.lost_to[limb] = from + length;
        }
    }
    const int gone = 1 + (int)kd_rng_below(r, 3);
    const int from = 1 + (int)kd_rng_below(r, (uint32_t)(frames - 4));
    if (kd_rng_uniform(r) < (bad ? 0.15 : 0.02)) {
        k.gone_from = from;
        k.gone_to = KD_MIN(frames, from + gone);
    }
    return k;
}

/* A lost limb is reported near where a resting limb would hang, with large slow errors. */
static vec3 guessed(const kd_synth_frame *f, int joint, const vec3 *drift)
{
    const int limb = limb_of(joint);
    KD_ASSERT(limb >= 0);
    static const int ROOT[LIMBS] = {4, 8, 12, 16};
    static const double BELOW[KD_SYNTH_JOINTS] = {
        [5] = 0.26,  [6] = 0.45,  [7] = 0.50,  [21] = 0.55, [22] = 0.50, [9] = 0.26,  [10] = 0.45, [11] = 0.50,
        [23] = 0.55, [24] = 0.50, [13] = 0.38, [14] = 0.76, [15] = 0.80, [17] = 0.38, [18] = 0.76, [19] = 0.80};
    KD_ASSERT(limb >= 0);
    const double *root = f->joint[ROOT[limb]];
    const double *real = f->joint[joint];
    const vec3 hang = v3(root[0], root[1] - BELOW[joint], root[2]);
    return v3_add(v3_lerp(hang, v3(real[0], real[1], real[2]), 0.25), drift[limb]);
}

static void track(uint64_t seed, kd_synth_clip *clip)
{
    kd_rng r = draws(seed, &clip->id, DRAW_TRACKING);
    clip->badly_tracked = kd_rng_uniform(&r) < 0.25;
    clip->body_id = 72057594037927936u + kd_rng_below(&r, 1u << 20);
    const tracking k = draw_tracking(&r, clip->frames, clip->badly_tracked);
    vec3 error[KD_SYNTH_JOINTS];
    vec3 drift[LIMBS];
    memset(error, 0, sizeof error);
    memset(drift, 0, sizeof drift);
    for (int t = 0; t < clip->frames; t++) {
        const kd_synth_frame *f = &clip->frame[t];
        kd_synth_tracked *out = &clip->tracked[t];
        for (int limb = 0; limb < LIMBS; limb++) {
            const vec3 push = bell3(&r);
            drift[limb] = v3_add(v3_scale(drift[limb], 0.92), v3_scale(push, 0.025));
        }
        out->body = !(t >= k.gone_from && t < k.gone_to);
        for (int j = 0; j < KD_SYNTH_JOINTS; j++) {
            const int limb = limb_of(j);
            const bool end = j == 7 || j == 11 || j >= 21 || j == 15 || j == 19;
            vec3 push = bell3(&r);
            push.z *= 1.5; /* depth is the worst */
            error[j] = v3_add(v3_scale(error[j], 0.6), v3_scale(push, 0.8 * k.jitter * (end ? 1.6 : 1.0)));
            const bool drop = kd_rng_uniform(&r) < k.drop;
            const bool lost = limb >= 0 && t >= k.lost_from[limb] && t < k.lost_to[limb];
            const vec3 real = v3(f->joint[j][0], f->joint[j][1], f->joint[j][2]);
            const vec3 seen = v3_add(lost ? guessed(f, j, drift) : real, error[j]);
            out->state[j] = drop ? 0 : lost ? 1 : 2;
            if (drop && t > 0) {
                memcpy(out->joint[j], clip->tracked[t - 1].joint[j], sizeof out->joint[j]);
            } else {
                out->joint[j][0] = (float)seen.x;
                out->joint[j][1] = (float)seen.y;
                out->joint[j][2] = (float)seen.z;
            }
        }
    }
}

kd_status kd_synth_make(uint64_t seed, kd_synth_id id, kd_synth_clip *clip, kd_err *err)
{
    if (kd_synth_action_row(id.action) == NULL || id.camera < 1 || id.camera > KD_SYNTH_CAMERAS || id.performer < 1 ||
        id.performer > 999 || id.replication < 1 || id.replication > 15) {
        return KD_FAIL(err, KD_E_ARG,
                       "sample clip C%03dP%03dR%03dA%03d: expected camera 1..%d, performer 1..999, "
                       "replication 1..15, action 1..%d",
                       id.camera, id.performer, id.replication, id.action, KD_SYNTH_CAMERAS, KD_SYNTH_ACTIONS);
    }
    memset(clip, 0, sizeof *clip);
    clip->id = id;
    const performance p = draw_performance(seed, &id);
    const view v = camera_view(id.camera);
    clip->frames = p.frames;
    clip->prop = kd_synth_action_row(id.action)->prop;
    clip->camera_above = v.eye.y;
    store(clip->up, turn_into(&v, v3(0.0, 1.0, 0.0)));
    film(&p, &v, clip);
    track(seed, clip);
    return KD_OK;
}
