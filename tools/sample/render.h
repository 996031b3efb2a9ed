/* Pictures of skeletons: a small software renderer that turns 25 joints into a person in a room.
 *
 * Ray casting of spheres, capsules and boxes inside their screen rectangles, a depth buffer, one light, a shadow on the
 * floor.  Coordinates are Kinect's (metres, x right, y up, z away from the camera), the camera is a pinhole at the
 * origin. Used for the sample data set and for `kd dataset render`, where real motion capture becomes video.
 *
 *     KD_GO(kd_renderer_open(&view, &look, &r, err));
 *     for each frame:
 *         kd_renderer_begin(r);
 *         kd_renderer_body(r, joints, &clothes);
 *         kd_renderer_prop(r, KD_PROP_CUP, at, axis);
 *         use(kd_renderer_rgb(r));         rgb[height][width][3]
 *     kd_renderer_close(r);
 */
#ifndef KD_TOOLS_SAMPLE_RENDER_H
#define KD_TOOLS_SAMPLE_RENDER_H

#include "tools/sample/synth.h"

typedef struct kd_render_view {
    int width, height;    /* pixels, 16..4096 */
    double focal, cx, cy; /* pixels; a point (x, y, z) is seen at (cx + focal x / z, cy - focal y / z) */
    double up[3];         /* the world's up in camera coordinates, a unit vector */
    double above;         /* metres from the camera down to the floor */
} kd_render_view;

/* Linear colours, 0..1. */
typedef struct kd_render_clothes {
    float skin[3], hair[3], shirt[3], trousers[3], shoes[3];
    float bulk; /* 1: average build */
} kd_render_clothes;

typedef struct kd_render_room {
    float floor_a[3], floor_b[3], wall[3], shelf[3];
    float wall_distance;                                /* metres from the camera */
    float shelf_at[3], shelf_width[3], shelf_height[3]; /* three pieces of furniture before the wall; width 0: none */
    float light[3];                                     /* direction towards the light, unit */
} kd_render_room;

/* Everybody and every room looks different, always the same for the same numbers. */
void kd_render_dress(uint64_t seed, uint32_t person, kd_render_clothes *clothes);
void kd_render_furnish(uint64_t seed, uint32_t place, kd_render_room *room);

typedef struct kd_renderer kd_renderer;

KD_NODISCARD kd_status kd_renderer_open(const kd_render_view *view, const kd_render_room *room, kd_renderer **out,
                                        kd_err *err);
void kd_renderer_close(kd_renderer *r); /* NULL is legal */
void kd_renderer_begin(kd_renderer *r); /* the empty room */
/* 25 joints x (x, y, z). A body whose torso is no torso (lost tracking) is not drawn. */
void kd_renderer_body(kd_renderer *r, const double *joint, const kd_render_clothes *clothes);
void kd_renderer_prop(kd_renderer *r, kd_prop prop, const double at[3], const double axis[3]);
const uint8_t *kd_renderer_rgb(const kd_renderer *r); /* valid until the next begin */

#endif
