/* Joints from a pose: a chain for the spine, two-bone triangles for arms and legs.  See synth_body.h. */
#include "tools/sample/synth_body.h"

/* Sine by reduction to [-pi/2, pi/2] and a Taylor polynomial: + - * only, so every machine gives the same bits. */
double kd_synth_sin(double x)
{
    const double pi = 3.14159265358979323846;
    const double turns = x / (2.0 * pi);
    double r = x - 2.0 * pi * (double)(int64_t)(turns >= 0.0 ? turns + 0.5 : turns - 0.5);
    if (r > 0.5 * pi) {
        r = pi - r;
    } else if (r < -0.5 * pi) {
        r = -pi - r;
    }
    const double q = r * r;
    double term = r;
    double sum = r;
    for (int k = 1; k <= 8; k++) {
        term *= -q / (double)((2 * k) * (2 * k + 1));
        sum += term;
    }
    return sum;
}

double kd_synth_cos(double x)
{
    return kd_synth_sin(x + 0.5 * 3.14159265358979323846);
}

/* The three axes of a part of the body. */
typedef struct axes {
    vec3 left, up, forward;
} axes;

static vec3 turn(vec3 a, vec3 b, double angle) /* a towards b, both unit and orthogonal */
{
    return v3_add(v3_scale(a, kd_synth_cos(angle)), v3_scale(b, kd_synth_sin(angle)));
}

static axes axes_standing(double yaw)
{
    axes s;
    s.forward = v3(kd_synth_sin(yaw), 0.0, kd_synth_cos(yaw));
    s.up = v3(0.0, 1.0, 0.0);
    s.left = v3_cross(s.up, s.forward);
    return s;
}

static axes axes_bent(axes s, double lean, double twist)
{
    axes t;
    t.left = turn(s.left, s.forward, -twist);
    const vec3 ahead = v3_cross(t.left, s.up);
    t.up = turn(s.up, ahead, lean);
    t.forward = v3_cross(t.left, t.up);
    return t;
}

/* Middle joint of two bones of lengths a, b from `root` towards *tip, bent to the side of `pole`; *tip is pulled back
 * to what the bones reach. */
static vec3 bend(vec3 root, vec3 *tip, double a, double b, vec3 pole)
{
    const vec3 to = v3_sub(*tip, root);
    const vec3 dir = v3_unit(to, v3(0.0, -1.0, 0.0));
    double d = v3_len(to);
    d = KD_MIN(d, (a + b) * 0.995);
    d = KD_MAX(d, 0.35 * (a + b));
    *tip = v3_mad(root, dir, d);
    const double along = (a * a + d * d - b * b) / (2.0 * d);
    const double off = sqrt(KD_MAX(0.0, a * a - along * along));
    const vec3 side = v3_unit(v3_mad(pole, dir, -v3_dot(pole, dir)), v3(1.0, 0.0, 0.0));
    return v3_mad(v3_mad(root, dir, along), side, off);
}

static void solve_arm(const kd_synth_body *body, const axes *chest, const vec3 want, int side,
                      vec3 joint[KD_SYNTH_JOINTS])
{
    const double s = body->scale * body->arm;
    const vec3 out = side == SYNTH_LEFT ? chest->left : v3_scale(chest->left, -1.0);
    vec3 *arm = joint + (side == SYNTH_LEFT ? 4 : 8);
    vec3 wrist = arm[0];
    wrist = v3_mad(wrist, out, want.x * body->scale);
    wrist = v3_mad(wrist, chest->up, want.y * body->scale);
    wrist = v3_mad(wrist, chest->forward, want.z * body->scale);
    const vec3 pole = v3_add(v3_mad(v3_scale(out, 0.6), chest->up, -1.0), v3_scale(chest->forward, -0.5));
    arm[1] = bend(arm[0], &wrist, 0.29 * s, 0.26 * s, pole);
    arm[2] = wrist;
    const vec3 dir = v3_unit(v3_sub(arm[2], arm[1]), chest->forward);
    arm[3] = v3_mad(arm[2], dir, 0.08 * s);
    const int tip = side == SYNTH_LEFT ? 21 : 23;
    joint[tip] = v3_mad(arm[3], dir, 0.08 * s);
    joint[tip + 1] = v3_mad(v3_mad(arm[2], dir, 0.05 * s), kd_synth_thumb(joint, side), 0.06 * s);
}

static void solve_leg(const kd_synth_body *body, const axes *stand, const kd_synth_pose *pose, int side,
                      vec3 joint[KD_SYNTH_JOINTS])
{
    const double s = body->scale;
    const vec3 out = side == SYNTH_LEFT ? stand->left : v3_scale(stand->left, -1.0);
    const vec3 want = pose->foot[side];
    vec3 *leg = joint + (side == SYNTH_LEFT ? 12 : 16);
    leg[0] = v3_mad(v3_mad(joint[0], out, 0.09 * s * body->hip), stand->up, -0.04 * s);
    vec3 ankle = v3(pose->x, 0.08 * s + pose->lift, pose->z);
    ankle = v3_mad(ankle, out, 0.11 * s + want.x * s);
    ankle = v3_mad(ankle, stand->up, want.y * s);
    ankle = v3_mad(ankle, stand->forward, want.z * s);
    leg[1] = bend(leg[0], &ankle, 0.41 * s * body->leg, 0.40 * s * body->leg, stand->forward);
    leg[2] = ankle;
    /* A standing foot lies flat; a raised one hangs at a right angle to its shin. */
    const double raised = KD_MIN(1.0, KD_MAX(0.0, want.y / 0.15));
    const vec3 down = v3(0.0, -1.0, 0.0);
    const vec3 shin = v3_unit(v3_lerp(down, v3_sub(leg[2], leg[1]), raised), down);
    const vec3 toe = v3_unit(v3_mad(stand->forward, shin, -v3_dot(stand->forward, shin)), stand->forward);
    leg[3] = v3_mad(v3_mad(leg[2], toe, 0.14 * s), shin, 0.05 * s);
}

void kd_synth_solve(const kd_synth_body *body, const kd_synth_pose *pose, vec3 joint[KD_SYNTH_JOINTS])
{
    const double s = body->scale;
    const axes stand = axes_standing(pose->yaw);
    const axes chest = axes_bent(stand, pose->lean, pose->twist);
    const axes waist = axes_bent(stand, 0.5 * pose->lean, 0.5 * pose->twist);
    const axes head = axes_bent(stand, pose->lean + pose->nod, pose->twist);
    const double reach = 0.81 * s * body->leg + 0.08 * s + 0.04 * s;
    joint[0] = v3(pose->x, reach * 0.985 - pose->crouch * s + pose->lift, pose->z);
    joint[0] = v3_mad(joint[0], stand.forward, -0.35 * s * kd_synth_sin(pose->lean) * 0.6);
    joint[1] = v3_mad(joint[0], waist.up, 0.24 * s);
    joint[20] = v3_mad(joint[1], chest.up, 0.26 * s);
    joint[2] = v3_mad(joint[20], chest.up, 0.08 * s);
    joint[3] = v3_mad(joint[2], head.up, 0.15 * s);
    joint[4] = v3_mad(v3_mad(joint[20], chest.left, 0.17 * s * body->shoulder), chest.up, -0.03 * s);
    joint[8] = v3_mad(v3_mad(joint[20], chest.left, -0.17 * s * body->shoulder), chest.up, -0.03 * s);
    for (int side = SYNTH_LEFT; side <= SYNTH_RIGHT; side++) {
        solve_arm(body, &chest, pose->hand[side], side, joint);
        solve_leg(body, &stand, pose, side, joint);
    }
}

vec3 kd_synth_thumb(const vec3 joint[KD_SYNTH_JOINTS], int side)
{
    const vec3 *arm = joint + (side == SYNTH_LEFT ? 4 : 8);
    const vec3 dir = v3_unit(v3_sub(arm[2], arm[1]), v3(0.0, -1.0, 0.0));
    const vec3 spine = v3_unit(v3_sub(joint[20], joint[0]), v3(0.0, 1.0, 0.0));
    const vec3 across = v3_sub(joint[4], joint[8]);
    const vec3 ahead = v3_unit(v3_cross(across, spine), v3(0.0, 0.0, 1.0));
    const vec3 want = v3_mad(spine, ahead, 0.6); /* a relaxed fist holds things up and forward */
    return v3_unit(v3_mad(want, dir, -v3_dot(want, dir)), ahead);
}
