/* The renderer: see render.h.  Rays leave the origin with direction ((px - cx) / f, (cy - py) / f, 1), so that the ray
 * parameter is the depth z. */
#include "tools/sample/render.h"

#include "tools/sample/render_shapes.h"

struct kd_renderer {
    kd_render_view view;
    kd_render_room room;
    vec3 up, right, ahead; /* the room's axes in camera coordinates */
    size_t pixels;
    float *depth;         /* [height][width] of the frame */
    uint8_t *rgb, *empty; /* the frame, and the room without anybody */
    float *empty_depth;
    float *ground; /* [height][width][2]: where on the floor a pixel looks; x > 1e8: not at the floor */
};

static uint8_t to_byte(double linear) /* a plain gamma of 2 */
{
    const double v = sqrt(KD_MIN(1.0, KD_MAX(0.0, linear)));
    return (uint8_t)(v * 255.0 + 0.5);
}

static vec3 ray_of(const kd_render_view *v, int px, int py)
{
    return v3((px + 0.5 - v->cx) / v->focal, (v->cy - py - 0.5) / v->focal, 1.0);
}

/* ---- drawing a shape ------------------------------------------------------------------------- */

typedef struct rect {
    int x0, y0, x1, y1; /* half open */
} rect;

static rect bounds_of(const kd_renderer *r, const kd_render_shape *s)
{
    const kd_render_view *v = &r->view;
    double lo_x = 1e9, lo_y = 1e9, hi_x = -1e9, hi_y = -1e9;
    vec3 ends[2] = {s->a, s->b};
    const double reach = kd_render_shape_reach(s);
    for (int i = 0; i < 2; i++) {
        const double z = KD_MAX(0.1, ends[i].z - reach);
        const double x = v->cx + v->focal * ends[i].x / ends[i].z;
        const double y = v->cy - v->focal * ends[i].y / ends[i].z;
        const double m = v->focal * reach / z * 1.15 + 1.0;
        lo_x = KD_MIN(lo_x, x - m);
        hi_x = KD_MAX(hi_x, x + m);
        lo_y = KD_MIN(lo_y, y - m);
        hi_y = KD_MAX(hi_y, y + m);
    }
    rect b = {0, 0, 0, 0};
    if (ends[0].z > 0.2 && ends[1].z > 0.2 && hi_x > 0 && hi_y > 0 && lo_x < v->width && lo_y < v->height) {
        b.x0 = (int)KD_MAX(0.0, lo_x);
        b.y0 = (int)KD_MAX(0.0, lo_y);
        b.x1 = (int)KD_MIN((double)v->width, hi_x + 1.0);
        b.y1 = (int)KD_MIN((double)v->height, hi_y + 1.0);
    }
    return b;
}

static void shade(const kd_renderer *r, uint8_t *px, vec3 normal, const float color[3])
{
    const float *l = r->room.light;
    const double lit = v3_dot(normal, v3(l[0], l[1], l[2]));
    const double facing = KD_MAX(0.0, -normal.z);
    const double k = 0.30 + 0.60 * KD_MAX(0.0, lit) + 0.14 * facing;
    for (int c = 0; c < 3; c++) {
        px[c] = to_byte(k * (double)color[c]);
    }
}

static void draw(kd_renderer *r, const kd_render_shape *s, const float color[3])
{
    const rect b = bounds_of(r, s);
    for (int y = b.y0; y < b.y1; y++) {
        for (int x = b.x0; x < b.x1; x++) {
            const size_t at = (size_t)y * (size_t)r->view.width + (size_t)x;
            const vec3 ray = ray_of(&r->view, x, y);
            vec3 normal;
            const double t = kd_render_shape_hit(s, ray, &normal);
            if (t > 0.0 && (float)t < r->depth[at]) {
                r->depth[at] = (float)t;
                shade(r, r->rgb + 3 * at, normal, color);
            }
        }
    }
}

static void draw_capsule(kd_renderer *r, vec3 a, vec3 b, double radius, const float color[3])
{
    const kd_render_shape s = kd_render_capsule(a, b, radius);
    draw(r, &s, color);
}

/* ---- the room -------------------------------------------------------------------------------- */

static void put(kd_renderer *r, size_t at, const float color[3], double k)
{
    for (int c = 0; c < 3; c++) {
        r->empty[3 * at + (size_t)c] = to_byte(k * (double)color[c]);
    }
}

/* Furniture hides the wall where a ray meets its front. */
static bool shelf_pixel(const kd_renderer *r, vec3 local, double *t)
{
    const kd_render_room *m = &r->room;
    const double front = (double)m->wall_distance - 0.4;
    const double hit = front / local.z;
    const double x = hit * local.x;
    const double y = hit * local.y + r->view.above;
    for (int i = 0; i < 3; i++) {
        const double off = x - (double)m->shelf_at[i];
        if (m->shelf_width[i] > 0.0f && fabs(off) < 0.5 * (double)m->shelf_width[i] && y > 0.0 &&
            y < (double)m->shelf_height[i]) {
            *t = hit;
            return true;
        }
    }
    return false;
}

static void paint_pixel(kd_renderer *r, int px, int py)
{
    const size_t at = (size_t)py * (size_t)r->view.width + (size_t)px;
    const vec3 ray = ray_of(&r->view, px, py);
    const vec3 local = v3(v3_dot(ray, r->right), v3_dot(ray, r->up), v3_dot(ray, r->ahead));
    const kd_render_room *m = &r->room;
    r->ground[2 * at] = 1e9f;
    r->ground[2 * at + 1] = 0.0f;
    r->empty_depth[at] = 1e9f;
    const double wall = local.z > 1e-6 ? (double)m->wall_distance / local.z : 1e9;
    const double floor = local.y < -1e-6 ? -r->view.above / local.y : 1e9;
    double shelf = 1e9;
    if (local.z > 1e-6 && shelf_pixel(r, local, &shelf) && shelf < floor) {
        const double y = shelf * local.y + r->view.above;
        const double board = y * 2.5 - (double)(int)(y * 2.5);
        put(r, at, m->shelf, board < 0.12 ? 0.45 : 0.75);
    } else if (wall < floor) {
        const double y = wall * local.y + r->view.above;
        put(r, at, m->wall, y < 0.12 ? 0.4 : 0.70 + 0.08 * KD_MIN(2.0, y));
    } else if (floor < 1e8) {
        const double x = floor * local.x;
        const double z = floor * local.z;
        const int cell = (int)(x / 0.6 + 100.0) + (int)(z / 0.6 + 100.0);
        put(r, at, cell % 2 == 0 ? m->floor_a : m->floor_b, 0.8);
        r->ground[2 * at] = (float)x;
        r->ground[2 * at + 1] = (float)z;
    } else {
        put(r, at, m->wall, 0.8);
    }
}

kd_status kd_renderer_open(const kd_render_view *view, const kd_render_room *room, kd_renderer **out, kd_err *err)
{
    *out = NULL;
    if (view->width < 16 || view->width > 4096 || view->height < 16 || view->height > 4096 || !(view->focal > 0.0)) {
        return KD_FAIL(err, KD_E_ARG, "picture of %dx%d: expected 16..4096 pixels a side", view->width, view->height);
    }
    kd_renderer *r = kd_calloc(1, sizeof *r);
    if (r == NULL) {
        return KD_FAIL(err, KD_E_OOM, "renderer: out of memory");
    }
    r->view = *view;
    r->room = *room;
    r->up = v3(view->up[0], view->up[1], view->up[2]);
    r->right = v3_unit(v3_mad(v3(1.0, 0.0, 0.0), r->up, -r->up.x), v3(1.0, 0.0, 0.0));
    r->ahead = v3_cross(r->right, r->up);
    r->pixels = (size_t)view->width * (size_t)view->height;
    r->depth = kd_alloc(r->pixels * sizeof *r->depth);
    r->empty_depth = kd_alloc(r->pixels * sizeof *r->empty_depth);
    r->ground = kd_alloc(r->pixels * 2 * sizeof *r->ground);
    r->rgb = kd_alloc(r->pixels * 3);
    r->empty = kd_alloc(r->pixels * 3);
    if (r->depth == NULL || r->empty_depth == NULL || r->ground == NULL || r->rgb == NULL || r->empty == NULL) {
        kd_renderer_close(r);
        return KD_FAIL(err, KD_E_OOM, "renderer: out of memory");
    }
    for (int y = 0; y < view->height; y++) {
        for (int x = 0; x < view->width; x++) {
            paint_pixel(r, x, y);
        }
    }
    kd_renderer_begin(r);
    *out = r;
    return KD_OK;
}

void kd_renderer_close(kd_renderer *r)
{
    if (r != NULL) {
        kd_free(r->depth);
        kd_free(r->empty_depth);
        kd_free(r->ground);
        kd_free(r->rgb);
        kd_free(r->empty);
        kd_free(r);
    }
}

void kd_renderer_begin(kd_renderer *r)
{
    memcpy(r->rgb, r->empty, r->pixels * 3);
    memcpy(r->depth, r->empty_depth, r->pixels * sizeof *r->depth);
}

const uint8_t *kd_renderer_rgb(const kd_renderer *r)
{
    return r->rgb;
}

/* Darkens the floor around a point; the squares of bytes stand for light. */
static void cast_shadow(kd_renderer *r, vec3 p, double size, double strength)
{
    const float x = (float)v3_dot(p, r->right);
    const float z = (float)v3_dot(p, r->ahead);
    const float reach = (float)(size * size);
    for (size_t i = 0; i < r->pixels; i++) {
        const float dx = r->ground[2 * i] - x;
        const float dz = r->ground[2 * i + 1] - z;
        const float d = dx * dx + dz * dz;
        if (d < reach && r->depth[i] > 1e8f) {
            const float part = 1.0f - d / reach;
            const float k = 1.0f - (float)strength * part * part;
            for (size_t c = 0; c < 3; c++) {
                r->rgb[3 * i + c] = (uint8_t)((float)r->rgb[3 * i + c] * k);
            }
        }
    }
}

/* ---- people ---------------------------------------------------------------------------------- */

typedef enum cloth { SKIN, SHIRT, TROUSERS, SHOES } cloth;

typedef struct limb {
    int8_t from, to;
    float radius; /* metres of a person of 1.70 m */
    cloth wears;
} limb;

static const limb LIMBS[] = {
    {20, 1, 0.125f, SHIRT},     {1, 0, 0.115f, SHIRT},      {4, 8, 0.070f, SHIRT},      {12, 16, 0.095f, TROUSERS},
    {2, 20, 0.055f, SKIN},      {4, 5, 0.052f, SHIRT},      {5, 6, 0.042f, SKIN},       {8, 9, 0.052f, SHIRT},
    {9, 10, 0.042f, SKIN},      {6, 21, 0.042f, SKIN},      {10, 23, 0.042f, SKIN},     {12, 13, 0.078f, TROUSERS},
    {13, 14, 0.058f, TROUSERS}, {16, 17, 0.078f, TROUSERS}, {17, 18, 0.058f, TROUSERS}, {14, 15, 0.050f, SHOES},
    {18, 19, 0.050f, SHOES},
};

static const float *wear(const kd_render_clothes *c, cloth what)
{
    switch (what) {
    case SHIRT:
        return c->shirt;
    case TROUSERS:
        return c->trousers;
    case SHOES:
        return c->shoes;
    default:
        return c->skin;
    }
}

void kd_renderer_body(kd_renderer *r, const double *joint, const kd_render_clothes *clothes)
{
    vec3 j[KD_SYNTH_JOINTS];
    for (int i = 0; i < KD_SYNTH_JOINTS; i++) {
        j[i] = v3(joint[3 * i], joint[3 * i + 1], joint[3 * i + 2]);
    }
    const double torso = v3_len(v3_sub(j[20], j[0]));
    if (!(torso > 0.1 && torso < 2.0)) { /* lost tracking: nobody to draw */
        return;
    }
    const double size = torso / 0.50;
    const double bulk = size * (double)clothes->bulk;
    cast_shadow(r, j[0], 0.55, 0.45);
    cast_shadow(r, j[15], 0.22, 0.35);
    cast_shadow(r, j[19], 0.22, 0.35);
    for (size_t i = 0; i < KD_COUNTOF(LIMBS); i++) {
        const limb *l = &LIMBS[i];
        draw_capsule(r, j[l->from], j[l->to], (double)l->radius * bulk, wear(clothes, l->wears));
    }
    const vec3 up = v3_unit(v3_sub(j[3], j[2]), r->up);
    const vec3 left = v3_sub(j[4], j[8]);
    const vec3 face = v3_unit(v3_cross(left, up), v3(0.0, 0.0, -1.0));
    const vec3 head = v3_mad(j[3], up, -0.01 * size);
    draw_capsule(r, head, v3_mad(head, up, 0.03 * size), 0.098 * size, clothes->skin);
    const vec3 crown = v3_mad(v3_mad(head, up, 0.045 * size), face, -0.028 * size);
    draw_capsule(r, crown, v3_mad(crown, up, -0.03 * size), 0.100 * size, clothes->hair);
}

void kd_renderer_prop(kd_renderer *r, kd_prop prop, const double at[3], const double axis[3])
{
    kd_render_shape shape[RENDER_PROP_SHAPES];
    const float *color[RENDER_PROP_SHAPES];
    const int n = kd_render_prop_shapes(prop, v3(at[0], at[1], at[2]), v3(axis[0], axis[1], axis[2]), shape, color);
    for (int i = 0; i < n; i++) {
        draw(r, &shape[i], color[i]);
    }
}
