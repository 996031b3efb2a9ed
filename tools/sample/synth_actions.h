/* Inside the sample data set: the twelve actions as functions of time. */
#ifndef KD_TOOLS_SAMPLE_SYNTH_ACTIONS_H
#define KD_TOOLS_SAMPLE_SYNTH_ACTIONS_H

#include "tools/sample/synth_body.h"

/* What one performance draws before it starts; the same for the three cameras that film it. */
typedef struct kd_synth_script {
    int action;        /* 1..12 */
    double begin, end; /* part of the clip in which something happens, 0..1 */
    double cycles;     /* repetitions */
    double amount;     /* amplitude, about 1 */
    double hint;       /* standard normal with a small offset: all that tells the actions of a pair apart */
    double a, b, c;    /* uniform in [0, 1): small variations */
} kd_synth_script;

typedef struct kd_synth_action {
    const char *name;
    kd_prop prop;
    int motion;       /* actions of a pair have the same */
    double hint_mean; /* +0.6 and -0.6 within a pair */
} kd_synth_action;

/* Row action - 1. */
const kd_synth_action *kd_synth_action_row(int action);

/* Adds the action at time u in [0, 1] to a pose at rest. */
void kd_synth_act(const kd_synth_script *script, double u, kd_synth_pose *pose);

/* Where the object is at time u, given the joints now and, for a thrown ball, the clip's length in seconds and the
 * place where the hand let go. False: out of sight. */
bool kd_synth_prop_place(const kd_synth_script *script, double u, double seconds, const vec3 joint[KD_SYNTH_JOINTS],
                         vec3 ground_ahead, vec3 *released, vec3 *at, vec3 *axis);

#endif
