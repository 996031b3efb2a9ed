/* Inside the renderer: shapes a ray can meet, and the objects made of them. */
#ifndef KD_TOOLS_SAMPLE_RENDER_SHAPES_H
#define KD_TOOLS_SAMPLE_RENDER_SHAPES_H

#include "tools/sample/synth.h"
#include "tools/sample/vec3.h"

typedef enum kd_render_kind { RENDER_CAPSULE, RENDER_BOX } kd_render_kind;

typedef struct kd_render_shape {
    kd_render_kind kind;
    vec3 a, b;      /* capsule: the ends of its axis; box: both its centre */
    double radius;  /* capsule */
    vec3 side[3];   /* box: unit axes ... */
    double half[3]; /* ... and half lengths */
} kd_render_shape;

kd_render_shape kd_render_capsule(vec3 a, vec3 b, double radius);
kd_render_shape kd_render_box(vec3 centre, vec3 long_axis, vec3 toward, double length, double width, double thickness);

/* Radius of a sphere around `a` (and one around `b`) that together hold the shape. */
double kd_render_shape_reach(const kd_render_shape *s);

/* Depth at which a ray from the origin meets the shape, and the outward normal there; negative: it misses. */
double kd_render_shape_hit(const kd_render_shape *s, vec3 ray, vec3 *normal);

enum { RENDER_PROP_SHAPES = 4 };

/* The shapes and (static) colours of an object; returns how many. */
int kd_render_prop_shapes(kd_prop prop, vec3 at, vec3 axis, kd_render_shape shape[RENDER_PROP_SHAPES],
                          const float *color[RENDER_PROP_SHAPES]);

#endif
