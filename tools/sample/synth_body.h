/* Inside the sample data set: a body, what it is asked to do at one moment, and the joints that follow from it.
 * World coordinates: metres, y up, floor at 0, right-handed; a person at yaw 0 looks along +z. */
#ifndef KD_TOOLS_SAMPLE_SYNTH_BODY_H
#define KD_TOOLS_SAMPLE_SYNTH_BODY_H

#include "tools/sample/synth.h"
#include "tools/sample/vec3.h"

enum { SYNTH_LEFT = 0, SYNTH_RIGHT = 1 };

/* One person's proportions and habits. */
typedef struct kd_synth_body {
    double scale;                   /* 1 at 1.70 m */
    double arm, leg, shoulder, hip; /* relative lengths */
    double tempo, vigour;           /* this person's speed and amplitude */
} kd_synth_body;

/* Where everything should be.  Hands: metres at scale 1 from the shoulder, (out, up, forward) in the frame of the
 * chest; feet: offsets from where they stand, (out, up, forward). */
typedef struct kd_synth_pose {
    double x, z, yaw;        /* on the floor */
    double lean, twist, nod; /* radians: chest forward, chest to the left, head forward */
    double crouch, lift;     /* metres: pelvis down with the feet standing, everything up */
    vec3 hand[2], foot[2];
} kd_synth_pose;

void kd_synth_solve(const kd_synth_body *body, const kd_synth_pose *pose, vec3 joint[KD_SYNTH_JOINTS]);

/* Unit direction of the thumb side of a hand. */
vec3 kd_synth_thumb(const vec3 joint[KD_SYNTH_JOINTS], int side);

#endif
