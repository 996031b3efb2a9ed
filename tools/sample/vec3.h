/* Three doubles, for the sample data set and the renderer.  Only + - * / sqrt: the same bits on every IEEE machine. */
#ifndef KD_TOOLS_SAMPLE_VEC3_H
#define KD_TOOLS_SAMPLE_VEC3_H

#include <math.h>

typedef struct vec3 {
    double x, y, z;
} vec3;

static inline vec3 v3(double x, double y, double z)
{
    const vec3 v = {x, y, z};
    return v;
}

static inline vec3 v3_add(vec3 a, vec3 b)
{
    return v3(a.x + b.x, a.y + b.y, a.z + b.z);
}

static inline vec3 v3_sub(vec3 a, vec3 b)
{
    return v3(a.x - b.x, a.y - b.y, a.z - b.z);
}

static inline vec3 v3_scale(vec3 a, double s)
{
    return v3(a.x * s, a.y * s, a.z * s);
}

static inline vec3 v3_mad(vec3 a, vec3 b, double s)
{
    return v3(a.x + b.x * s, a.y + b.y * s, a.z + b.z * s);
}

static inline double v3_dot(vec3 a, vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

static inline vec3 v3_cross(vec3 a, vec3 b)
{
    return v3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

static inline double v3_len(vec3 a)
{
    return sqrt(v3_dot(a, a));
}

/* Unit vector; `otherwise` for a vector too short to have a direction. */
static inline vec3 v3_unit(vec3 a, vec3 otherwise)
{
    const double n = v3_len(a);
    return n > 1e-9 ? v3_scale(a, 1.0 / n) : otherwise;
}

static inline vec3 v3_lerp(vec3 a, vec3 b, double t)
{
    return v3_mad(a, v3_sub(b, a), t);
}

#endif
