/* Where rays meet spheres, capsules and boxes; what cups and flags are made of.  See render_shapes.h. */
#include "tools/sample/render_shapes.h"

#include "kernels/kd_rng.h"
#include "tools/sample/render.h"

kd_render_shape kd_render_capsule(vec3 a, vec3 b, double radius)
{
    kd_render_shape s;
    memset(&s, 0, sizeof s);
    s.kind = RENDER_CAPSULE;
    s.a = a;
    s.b = b;
    s.radius = radius;
    return s;
}

kd_render_shape kd_render_box(vec3 centre, vec3 long_axis, vec3 toward, double length, double width, double thickness)
{
    kd_render_shape s;
    memset(&s, 0, sizeof s);
    s.kind = RENDER_BOX;
    s.a = centre;
    s.b = centre;
    s.side[0] = v3_unit(long_axis, v3(0.0, 1.0, 0.0));
    const vec3 flat = v3_mad(toward, s.side[0], -v3_dot(toward, s.side[0]));
    s.side[2] = v3_unit(flat, v3(0.0, 0.0, -1.0));
    s.side[1] = v3_cross(s.side[2], s.side[0]);
    s.half[0] = 0.5 * length;
    s.half[1] = 0.5 * width;
    s.half[2] = 0.5 * thickness;
    return s;
}

double kd_render_shape_reach(const kd_render_shape *s)
{
    if (s->kind == RENDER_CAPSULE) {
        return s->radius;
    }
    return v3_len(v3(s->half[0], s->half[1], s->half[2]));
}

/* Smallest root of |t ray - c| = radius. */
static double hit_sphere(vec3 c, double radius, vec3 ray)
{
    const double rr = v3_dot(ray, ray);
    const double rc = v3_dot(ray, c);
    const double disc = rc * rc - rr * (v3_dot(c, c) - radius * radius);
    return disc < 0.0 ? -1.0 : (rc - sqrt(disc)) / rr;
}

/* The cylinder is solved in the plane across the axis; beyond its ends the spheres count. */
static double hit_capsule(const kd_render_shape *s, vec3 ray, vec3 *normal)
{
    const vec3 axis = v3_sub(s->b, s->a);
    const double length2 = v3_dot(axis, axis);
    vec3 centre = s->a;
    double t = -1.0;
    if (length2 > 1e-10) {
        const double ray_along = v3_dot(ray, axis) / length2;
        const double start_along = -v3_dot(s->a, axis) / length2;
        const vec3 across = v3_mad(ray, axis, -ray_along);
        const vec3 start = v3_mad(v3_scale(s->a, -1.0), axis, -start_along);
        const double qa = v3_dot(across, across);
        const double qb = v3_dot(across, start);
        const double qc = v3_dot(start, start) - s->radius * s->radius;
        const double disc = qb * qb - qa * qc;
        if (disc < 0.0) {
            return -1.0;
        }
        double along = qc <= 0.0 ? start_along : 0.5;
        if (qa > 1e-14) {
            t = (-qb - sqrt(disc)) / qa;
            along = start_along + t * ray_along;
        }
        if (along > 0.0 && along < 1.0 && t > 0.0) {
            centre = v3_mad(s->a, axis, along);
        } else {
            centre = along <= 0.0 ? s->a : s->b;
            t = hit_sphere(centre, s->radius, ray);
        }
    } else {
        t = hit_sphere(s->a, s->radius, ray);
    }
    if (t > 0.0) {
        *normal = v3_scale(v3_sub(v3_scale(ray, t), centre), 1.0 / s->radius);
    }
    return t;
}

/* Latest entry before the earliest exit of three slabs. */
static double hit_box(const kd_render_shape *s, vec3 ray, vec3 *normal)
{
    double enter = -1e30;
    double leave = 1e30;
    for (int i = 0; i < 3; i++) {
        const double speed = v3_dot(ray, s->side[i]);
        const double offset = v3_dot(s->a, s->side[i]);
        if (fabs(speed) < 1e-12) {
            if (fabs(offset) > s->half[i]) {
                return -1.0;
            }
            continue;
        }
        const double t0 = (offset - s->half[i]) / speed;
        const double t1 = (offset + s->half[i]) / speed;
        const double first = KD_MIN(t0, t1);
        if (first > enter) {
            enter = first;
            *normal = v3_scale(s->side[i], speed > 0.0 ? -1.0 : 1.0);
        }
        leave = KD_MIN(leave, KD_MAX(t0, t1));
    }
    return enter <= leave && enter > 0.0 ? enter : -1.0;
}

double kd_render_shape_hit(const kd_render_shape *s, vec3 ray, vec3 *normal)
{
    return s->kind == RENDER_CAPSULE ? hit_capsule(s, ray, normal) : hit_box(s, ray, normal);
}

/* ---- objects: a little larger than life, as the pictures are small --------------------------- */

static const float BLUE[3] = {0.05f, 0.20f, 0.85f};
static const float WHITE[3] = {0.85f, 0.85f, 0.85f};
static const float RED[3] = {0.80f, 0.04f, 0.04f};
static const float GREEN[3] = {0.10f, 0.50f, 0.08f};
static const float BLACK[3] = {0.03f, 0.03f, 0.04f};
static const float GLASS[3] = {0.30f, 0.65f, 0.80f};
static const float WOOD[3] = {0.40f, 0.20f, 0.07f};
static const float STEEL[3] = {0.10f, 0.11f, 0.13f};
static const float BRASS[3] = {0.90f, 0.62f, 0.04f};
static const float ORANGE[3] = {0.95f, 0.30f, 0.02f};
static const float LIME[3] = {0.65f, 0.90f, 0.05f};
static const float CARTON[3] = {0.50f, 0.33f, 0.16f};

int kd_render_prop_shapes(kd_prop prop, vec3 at, vec3 axis, kd_render_shape shape[RENDER_PROP_SHAPES],
                          const float *color[RENDER_PROP_SHAPES])
{
    const vec3 view = v3_scale(v3_unit(at, v3(0.0, 0.0, 1.0)), -1.0);
    const vec3 across = v3_unit(v3_cross(axis, view), v3(1.0, 0.0, 0.0));
    int n = 0;
    switch (prop) {
    case KD_PROP_NONE:
        break;
    case KD_PROP_CUP:
        shape[n] = kd_render_capsule(v3_mad(at, axis, -0.04), v3_mad(at, axis, 0.05), 0.050);
        color[n++] = BLUE;
        shape[n] = kd_render_capsule(v3_mad(at, axis, 0.07), v3_mad(at, axis, 0.075), 0.046);
        color[n++] = WHITE;
        break;
    case KD_PROP_APPLE:
        shape[n] = kd_render_capsule(at, at, 0.066);
        color[n++] = RED;
        shape[n] = kd_render_capsule(v3_mad(at, axis, 0.06), v3_mad(at, axis, 0.085), 0.016);
        color[n++] = GREEN;
        break;
    case KD_PROP_PHONE:
        shape[n] = kd_render_box(at, axis, across, 0.19, 0.03, 0.10);
        color[n++] = BLACK;
        shape[n] = kd_render_box(v3_mad(at, view, 0.012), axis, across, 0.15, 0.02, 0.07);
        color[n++] = GLASS;
        break;
    case KD_PROP_HAMMER:
        shape[n] = kd_render_capsule(v3_mad(at, axis, -0.06), v3_mad(at, axis, 0.24), 0.018);
        color[n++] = WOOD;
        shape[n] = kd_render_capsule(v3_mad(v3_mad(at, axis, 0.25), across, -0.07),
                                     v3_mad(v3_mad(at, axis, 0.25), across, 0.07), 0.040);
        color[n++] = STEEL;
        break;
    case KD_PROP_BELL:
        shape[n] = kd_render_capsule(v3_mad(at, axis, -0.10), at, 0.018);
        color[n++] = WOOD;
        shape[n] = kd_render_capsule(at, v3_mad(at, axis, 0.05), 0.060);
        color[n++] = BRASS;
        shape[n] = kd_render_capsule(v3_mad(at, axis, 0.07), v3_mad(at, axis, 0.075), 0.075);
        color[n++] = BRASS;
        break;
    case KD_PROP_FLAG:
        shape[n] = kd_render_capsule(v3_mad(at, axis, -0.26), v3_mad(at, axis, 0.28), 0.016);
        color[n++] = WOOD;
        shape[n] = kd_render_box(v3_mad(v3_mad(at, axis, 0.15), across, 0.17), axis, view, 0.25, 0.34, 0.02);
        color[n++] = ORANGE;
        break;
    case KD_PROP_BALL:
        shape[n] = kd_render_capsule(at, at, 0.105);
        color[n++] = LIME;
        break;
    case KD_PROP_BOX:
        shape[n] = kd_render_box(at, axis, view, 0.36, 0.26, 0.26);
        color[n++] = CARTON;
        break;
    }
    return n;
}

/* ---- looks ----------------------------------------------------------------------------------- */

enum { DRAW_CLOTHES = 16, DRAW_ROOM = 17 }; /* `epoch` of the draws; synth.c uses 0..3 */

static void mix_color(kd_rng *r, double dark, double bright, double spread, float out[3])
{
    const double level = kd_rng_range(r, dark, bright);
    for (int c = 0; c < 3; c++) {
        out[c] = (float)KD_MAX(0.01, level * (1.0 + spread * (2.0 * kd_rng_uniform(r) - 1.0)));
    }
}

void kd_render_dress(uint64_t seed, uint32_t person, kd_render_clothes *clothes)
{
    kd_rng r = kd_rng_make(seed, KD_RNG_SYNTH, person, DRAW_CLOTHES);
    const double tan = kd_rng_range(&r, 0.10, 0.62);
    clothes->skin[0] = (float)tan;
    clothes->skin[1] = (float)(tan * 0.64);
    clothes->skin[2] = (float)(tan * 0.46);
    mix_color(&r, 0.02, 0.22, 0.3, clothes->hair);
    mix_color(&r, 0.08, 0.45, 0.6, clothes->shirt);
    mix_color(&r, 0.04, 0.25, 0.4, clothes->trousers);
    mix_color(&r, 0.02, 0.40, 0.2, clothes->shoes);
    clothes->bulk = (float)kd_rng_range(&r, 0.90, 1.18);
}

void kd_render_furnish(uint64_t seed, uint32_t place, kd_render_room *room)
{
    kd_rng r = kd_rng_make(seed, KD_RNG_SYNTH, place, DRAW_ROOM);
    memset(room, 0, sizeof *room);
    mix_color(&r, 0.22, 0.45, 0.12, room->floor_a);
    for (int c = 0; c < 3; c++) {
        room->floor_b[c] = room->floor_a[c] * 0.86f;
    }
    mix_color(&r, 0.45, 0.70, 0.12, room->wall);
    mix_color(&r, 0.10, 0.30, 0.35, room->shelf);
    room->wall_distance = (float)kd_rng_range(&r, 4.4, 5.4);
    for (int i = 0; i < 3; i++) {
        room->shelf_at[i] = (float)kd_rng_range(&r, -2.6, 2.6);
        const double width = kd_rng_range(&r, 0.5, 1.1);
        room->shelf_width[i] = (float)(kd_rng_uniform(&r) < 0.6 ? width : 0.0);
        room->shelf_height[i] = (float)kd_rng_range(&r, 0.7, 1.9);
    }
    const vec3 light = v3_unit(v3(kd_rng_range(&r, -0.6, 0.6), 0.8, -0.55), v3(0.0, 1.0, 0.0));
    room->light[0] = (float)light.x;
    room->light[1] = (float)light.y;
    room->light[2] = (float)light.z;
}
