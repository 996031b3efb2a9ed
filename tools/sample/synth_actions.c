/* The twelve actions: see synth_actions.h.  Amounts are metres and radians of a person of 1.70 m. */
#include "tools/sample/synth_actions.h"

static const double TURN = 6.283185307179586;

enum { M_MOUTH = 1, M_EAR, M_HAMMER, M_WAVE, M_THROW, M_LIFT, M_KICK, M_CLAP, M_JUMP };

static const kd_synth_action ACTIONS[KD_SYNTH_ACTIONS] = {
    {"drink", KD_PROP_CUP, M_MOUTH, 0.6},
    {"eat", KD_PROP_APPLE, M_MOUTH, -0.6},
    {"phone call", KD_PROP_PHONE, M_EAR, 0},
    {"hammer", KD_PROP_HAMMER, M_HAMMER, 0.6},
    {"ring a bell", KD_PROP_BELL, M_HAMMER, -0.6},
    {"wave", KD_PROP_NONE, M_WAVE, 0.6},
    {"wave a flag", KD_PROP_FLAG, M_WAVE, -0.6},
    {"throw a ball", KD_PROP_BALL, M_THROW, 0},
    {"pick up a box", KD_PROP_BOX, M_LIFT, 0},
    {"kick", KD_PROP_NONE, M_KICK, 0},
    {"clap", KD_PROP_NONE, M_CLAP, 0},
    {"jump", KD_PROP_NONE, M_JUMP, 0},
};

const kd_synth_action *kd_synth_action_row(int action)
{
    return action >= 1 && action <= KD_SYNTH_ACTIONS ? &ACTIONS[action - 1] : NULL;
}

const char *kd_synth_action_name(int action)
{
    const kd_synth_action *row = kd_synth_action_row(action);
    return row != NULL ? row->name : NULL;
}

static double smooth(double x) /* 0 below 0, 1 above 1, even speed at the ends */
{
    const double t = KD_MIN(1.0, KD_MAX(0.0, x));
    return t * t * (3.0 - 2.0 * t);
}

static double pulse(double u, double from, double to, double edge) /* up, stay, down */
{
    return smooth((u - from) / edge) * (1.0 - smooth((u - to + edge) / edge));
}

static double local(const kd_synth_script *s, double u) /* 0..1 within the action */
{
    return KD_MIN(1.0, KD_MAX(0.0, (u - s->begin) / (s->end - s->begin)));
}

static void move_hand(kd_synth_pose *p, int side, vec3 to, double part)
{
    p->hand[side] = v3_lerp(p->hand[side], to, part);
}

/* Drink and eat: the hand goes to the mouth once, twice or three times. */
static void act_mouth(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double w = local(s, u);
    const double whole = pulse(u, s->begin, s->end, 0.16);
    const double beat = 0.5 - 0.5 * kd_synth_cos(TURN * w * s->cycles);
    const vec3 ready = v3(-0.02, -0.22, 0.26);
    const vec3 mouth = v3(-0.10 - 0.03 * s->a, 0.13 + 0.03 * s->b, 0.20);
    move_hand(p, SYNTH_RIGHT, v3_lerp(ready, mouth, smooth(beat * 1.25)), whole);
    p->nod -= whole * smooth(beat * 1.25) * (0.16 + 0.10 * s->hint);
}

static void act_ear(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double whole = pulse(u, s->begin, s->end + 0.15 * s->a, 0.18);
    move_hand(p, SYNTH_RIGHT, v3(-0.02, 0.20 + 0.02 * s->b, 0.06), whole);
    p->nod += whole * (0.06 + 0.05 * kd_synth_sin(TURN * (u * s->cycles + s->c)));
    p->twist += whole * 0.08 * kd_synth_sin(TURN * (0.7 * u + s->a));
}

/* Hammer and bell: the forearm beats up and down in front. */
static void act_hammer(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double whole = pulse(u, s->begin, s->end, 0.12);
    const double swing = kd_synth_sin(TURN * local(s, u) * s->cycles * 2.0);
    const double reach = 0.15 * s->amount * (1.0 + 0.22 * s->hint);
    move_hand(p, SYNTH_RIGHT, v3(0.02 + 0.04 * s->a, -0.10 + reach * swing, 0.36 - 0.06 * swing * s->amount), whole);
    p->lean += whole * (0.08 + 0.03 * swing);
}

/* Wave, with and without a flag. */
static void act_wave(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double whole = pulse(u, s->begin, s->end, 0.14);
    const double swing = kd_synth_sin(TURN * local(s, u) * s->cycles * 1.5);
    const double reach = 0.17 * s->amount * (1.0 - 0.22 * s->hint);
    move_hand(p, SYNTH_RIGHT, v3(0.16 + reach * swing, 0.38 - 0.05 * swing * swing, 0.14), whole);
    p->twist += whole * 0.05 * swing;
}

static void act_throw(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double w = local(s, u);
    const double back = pulse(w, 0.0, 0.62, 0.28);
    const double out = pulse(w, 0.46, 1.0, 0.16);
    move_hand(p, SYNTH_RIGHT, v3(0.20, 0.28, -0.16), back * (1.0 - out));
    move_hand(p, SYNTH_RIGHT, v3(-0.05, 0.10, 0.50), out);
    move_hand(p, SYNTH_LEFT, v3(0.05, -0.15, 0.30), back * 0.7);
    p->twist += -0.45 * back * (1.0 - out) + 0.40 * out;
    p->lean += -0.08 * back * (1.0 - out) + 0.20 * out;
    p->foot[SYNTH_LEFT] = v3_mad(p->foot[SYNTH_LEFT], v3(0.02, 0.0, 0.22), smooth(w * 4.0) * s->amount);
}

static void act_lift(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double w = local(s, u);
    const double down = pulse(w, 0.0, 0.72, 0.32);
    const double carry = smooth((w - 0.45) / 0.25) * (1.0 - smooth((w - 1.0) / 0.1));
    p->lean += 0.95 * s->amount * down;
    p->crouch += (0.16 + 0.14 * s->a) * down;
    for (int side = SYNTH_LEFT; side <= SYNTH_RIGHT; side++) {
        move_hand(p, side, v3(-0.05, -0.42, 0.30), down);
        move_hand(p, side, v3(-0.05, -0.24, 0.34), carry * (1.0 - down));
    }
}

static void act_kick(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double w = local(s, u) * s->cycles * 0.5;
    const double in = w - (double)(int)w;
    const double back = pulse(in, 0.05, 0.45, 0.18);
    const double out = pulse(in, 0.35, 0.85, 0.18);
    const double live = pulse(u, s->begin, s->end, 0.06);
    vec3 *foot = &p->foot[SYNTH_RIGHT];
    *foot = v3_mad(*foot, v3(0.0, 0.20, -0.25), back * live * (1.0 - out));
    *foot = v3_mad(*foot, v3(0.0, 0.45 * s->amount, 0.55), out * live);
    p->lean += live * (0.06 * back - 0.18 * out);
    move_hand(p, SYNTH_LEFT, v3(0.15, -0.30, 0.28), 0.7 * out * live);
    move_hand(p, SYNTH_RIGHT, v3(0.20, -0.40, -0.15), 0.7 * out * live);
}

static void act_clap(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double whole = pulse(u, s->begin, s->end, 0.12);
    const double apart = 0.5 + 0.5 * kd_synth_cos(TURN * local(s, u) * s->cycles * 2.0);
    for (int side = SYNTH_LEFT; side <= SYNTH_RIGHT; side++) {
        move_hand(p, side, v3(-0.135 + 0.20 * s->amount * apart, -0.12 + 0.05 * s->a, 0.34), whole);
    }
}

static void act_jump(const kd_synth_script *s, double u, kd_synth_pose *p)
{
    const double w = local(s, u) * s->cycles * 0.6;
    const double in = w - (double)(int)w;
    const double live = pulse(u, s->begin, s->end, 0.05);
    const double squat = pulse(in, 0.0, 0.42, 0.18) + 0.7 * pulse(in, 0.68, 1.0, 0.14);
    const double air = KD_MIN(1.0, KD_MAX(0.0, (in - 0.38) / 0.32));
    p->crouch += 0.24 * live * squat;
    p->lean += 0.25 * live * squat;
    p->lift += live * 4.0 * air * (1.0 - air) * 0.22 * s->amount;
    for (int side = SYNTH_LEFT; side <= SYNTH_RIGHT; side++) {
        move_hand(p, side, v3(0.12, -0.35, -0.25), live * squat);
        move_hand(p, side, v3(0.14, 0.30, 0.25), live * smooth(4.0 * air * (1.0 - air)));
    }
}

void kd_synth_act(const kd_synth_script *script, double u, kd_synth_pose *pose)
{
    switch (ACTIONS[script->action - 1].motion) {
    case M_MOUTH:
        act_mouth(script, u, pose);
        break;
    case M_EAR:
        act_ear(script, u, pose);
        break;
    case M_HAMMER:
        act_hammer(script, u, pose);
        break;
    case M_WAVE:
        act_wave(script, u, pose);
        break;
    case M_THROW:
        act_throw(script, u, pose);
        break;
    case M_LIFT:
        act_lift(script, u, pose);
        break;
    case M_KICK:
        act_kick(script, u, pose);
        break;
    case M_CLAP:
        act_clap(script, u, pose);
        break;
    default:
        act_jump(script, u, pose);
        break;
    }
}

/* ---- objects --------------------------------------------------------------------------------- */

static bool place_ball(const kd_synth_script *s, double u, double seconds, vec3 hand, vec3 ahead, vec3 *released,
                       vec3 *at)
{
    const double w = local(s, u);
    const double let_go = 0.56;
    if (w < let_go) {
        *at = hand;
        *released = hand;
        return true;
    }
    const double t = (w - let_go) * (s->end - s->begin) * seconds;
    *at = v3_mad(*released, ahead, 4.0 * t);
    at->y += 1.6 * t - 4.9 * t * t;
    return at->y > 0.06 && t < 0.7;
}

bool kd_synth_prop_place(const kd_synth_script *script, double u, double seconds, const vec3 joint[KD_SYNTH_JOINTS],
                         vec3 ground_ahead, vec3 *released, vec3 *at, vec3 *axis)
{
    const vec3 palm = v3_lerp(joint[10], joint[23], 0.6);
    const vec3 thumb = kd_synth_thumb(joint, SYNTH_RIGHT);
    const vec3 fingers = v3_unit(v3_sub(joint[23], joint[10]), v3(0.0, -1.0, 0.0));
    const vec3 down = v3(0.0, -1.0, 0.0);
    *at = palm;
    *axis = thumb;
    switch (ACTIONS[script->action - 1].prop) {
    case KD_PROP_NONE:
        return false;
    case KD_PROP_CUP:
    case KD_PROP_HAMMER:
        *at = v3_mad(palm, thumb, 0.05);
        return true;
    case KD_PROP_FLAG:
        *axis = v3_unit(v3_mad(thumb, fingers, 0.8), thumb);
        *at = v3_mad(palm, *axis, 0.19);
        return true;
    case KD_PROP_APPLE:
        *at = v3_mad(palm, fingers, 0.03);
        return true;
    case KD_PROP_PHONE:
        *axis = fingers;
        return true;
    case KD_PROP_BELL:
        *axis = v3_unit(v3_lerp(down, thumb, 0.25), down);
        *at = v3_mad(palm, *axis, 0.09);
        return true;
    case KD_PROP_BALL:
        *at = v3_mad(palm, fingers, 0.05);
        return place_ball(script, u, seconds, *at, ground_ahead, released, at);
    case KD_PROP_BOX: {
        const bool held = local(script, u) > 0.42;
        const vec3 hands = v3_lerp(joint[7], joint[11], 0.5);
        const vec3 floor_at = v3_mad(v3(joint[0].x, 0.13, joint[0].z), ground_ahead, 0.48);
        *axis = v3_unit(v3_sub(joint[4], joint[8]), v3(1.0, 0.0, 0.0));
        *at = held ? v3_mad(hands, ground_ahead, 0.06) : floor_at;
        if (held) { /* comes up with the hands, never through the floor */
            at->y = KD_MAX(at->y, 0.13);
        }
        return true;
    }
    }
    return false;
}
