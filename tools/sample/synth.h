/* The sample data set's motion: ten people, twelve actions, three cameras, as NTU RGB+D would have recorded them.
 *
 * What it is for.  A data set that anyone can make in a minute, with which the whole path from videos and skeletons to
 * the teacher-versus-student report runs, and on which a video teacher knows things that a skeleton cannot show:
 *   - three pairs of actions share their motion and differ in what the hand holds (drink / eat, hammer / ring a bell,
 *     wave / wave a flag).  Within a pair, the skeleton carries only a weak hint (a tilt of the head, an amplitude),
 *     drawn from overlapping distributions: a skeleton model is right on about three of four such clips at best, the
 *     video shows the object.
 *   - one clip in four has a badly tracked skeleton (an arm lost, strong jitter) while the video is clear.
 * Accuracies on it mean nothing outside it.
 *
 * Reproducibility.  A clip is a pure function of (seed, performer, replication, action, camera): Philox draws, and own
 * sine and square root of IEEE arithmetic without contraction, so the joints are the same bits on every machine.
 *
 * Coordinates are Kinect's: metres, x to the right of the picture, y up, z away from the camera.  As with Kinect, the
 * picture is a mirror: somebody facing the camera has the left hand at the left.
 */
#ifndef KD_TOOLS_SAMPLE_SYNTH_H
#define KD_TOOLS_SAMPLE_SYNTH_H

#include "kernels/kd_base.h"

enum {
    KD_SYNTH_ACTIONS = 12,
    KD_SYNTH_PERFORMERS = 10,
    KD_SYNTH_CAMERAS = 3,
    KD_SYNTH_REPLICATIONS = 2,
    KD_SYNTH_JOINTS = 25,
    KD_SYNTH_MAX_FRAMES = 90,
    KD_SYNTH_MIN_FRAMES = 50
};

typedef enum kd_prop {
    KD_PROP_NONE,
    KD_PROP_CUP,
    KD_PROP_APPLE,
    KD_PROP_PHONE,
    KD_PROP_HAMMER,
    KD_PROP_BELL,
    KD_PROP_FLAG,
    KD_PROP_BALL,
    KD_PROP_BOX
} kd_prop;

/* All numbers from 1, as in NTU names. */
typedef struct kd_synth_id {
    int performer, replication, action, camera;
} kd_synth_id;

/* What the camera would see, without any error: for the renderer. */
typedef struct kd_synth_frame {
    double joint[KD_SYNTH_JOINTS][3];
    double prop_at[3], prop_axis[3]; /* centre and long axis (unit) of the held or flying object */
    bool prop_seen;
} kd_synth_frame;

/* What a Kinect would report. */
typedef struct kd_synth_tracked {
    bool body;                       /* false: this frame has no body */
    float joint[KD_SYNTH_JOINTS][3]; /* metres */
    uint8_t state[KD_SYNTH_JOINTS];  /* 2 tracked, 1 inferred, 0 lost (the last seen position is repeated) */
} kd_synth_tracked;

typedef struct kd_synth_clip {
    kd_synth_id id;
    int frames;
    kd_prop prop;
    bool badly_tracked;
    uint64_t body_id;
    double up[3];        /* the world's up in camera coordinates (the camera looks slightly down) */
    double camera_above; /* metres from the floor */
    kd_synth_frame frame[KD_SYNTH_MAX_FRAMES];
    kd_synth_tracked tracked[KD_SYNTH_MAX_FRAMES];
} kd_synth_clip; /* about 120 KB: allocate it, one per thread */

/* "drink", ... for action 1..12; NULL outside. */
const char *kd_synth_action_name(int action);

/* Fills *clip.  KD_E_ARG when the id is outside the tables. */
KD_NODISCARD kd_status kd_synth_make(uint64_t seed, kd_synth_id id, kd_synth_clip *clip, kd_err *err);

/* Own sine, in the same bits everywhere; |x| < 1e6, error below 1e-10. */
double kd_synth_sin(double x);
double kd_synth_cos(double x);

#endif
