/* RandAugment's rotation, shears and translations: Pillow's affine transform; see augment.h.
 *
 * The arithmetic is Pillow's, in doubles, so that bytes agree.  Where a fraction is 0 the polynomial is its constant
 * term, so the other rows or columns need not be read: shears and translations along one axis cost a quarter. */
#include "teacher/clip/augment_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct picture {
    const uint8_t *rgb;
    int width, height;
    size_t stride;
} picture;

typedef struct affine {
    double a, b, c, d, e, f; /* source x = a x + b y + c, y = d x + e y + f, of pixel centres */
} affine;

/* Python's round(v, 15). */
static double round15(double v)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%.15f", v);
    return strtod(text, NULL);
}

/* Image.rotate about the centre. */
static affine rotation(double degrees, int width, int height)
{
    double turned = fmod(degrees, 360.0);
    turned += turned < 0.0 ? 360.0 : 0.0;
    const double angle = -(turned * (3.14159265358979323846 / 180.0));
    const double x = (double)width / 2.0, y = (double)height / 2.0;
    affine m = {
        .a = round15(cos(angle)), .b = round15(sin(angle)), .d = round15(-sin(angle)), .e = round15(cos(angle))};
    m.c = m.a * -x + m.b * -y + 0.0;
    m.f = m.d * -x + m.e * -y + 0.0;
    m.c += x;
    m.f += y;
    return m;
}

static affine matrix_of(const kd_augment_step *s, int width, int height)
{
    affine m = {.a = 1.0, .e = 1.0};
    switch (s->op) {
    case KD_AUGMENT_ROTATE:
        return rotation(s->arg, width, height);
    case KD_AUGMENT_SHEAR_X:
        m.b = s->arg;
        break;
    case KD_AUGMENT_SHEAR_Y:
        m.d = s->arg;
        break;
    case KD_AUGMENT_TRANSLATE_X:
        m.c = s->arg * (double)width;
        break;
    default:
        m.f = s->arg * (double)height;
        break;
    }
    return m;
}

/* ---- one pixel ------------------------------------------------------------------------------- */

/* floor() without a call where the machine has no instruction for it. */
static int whole(double v)
{
    return v >= 0.0 ? (int)v : (int)floor(v);
}

static int clamp(int v, int n)
{
    return KD_MIN(KD_MAX(v, 0), n - 1);
}

static void bilinear(const picture *p, int x, int y, double dx, double dy, uint8_t *out)
{
    const size_t x0 = 3 * (size_t)clamp(x, p->width), x1 = 3 * (size_t)clamp(x + 1, p->width);
    const uint8_t *r0 = p->rgb + (size_t)clamp(y, p->height) * p->stride;
    const uint8_t *r1 = y + 1 < p->height ? p->rgb + (size_t)(y + 1) * p->stride : r0;
    for (size_t c = 0; c < 3; c++) {
        const double v1 = r0[x0 + c] + (r0[x1 + c] - r0[x0 + c]) * dx;
        const double v2 = r1[x0 + c] + (r1[x1 + c] - r1[x0 + c]) * dx;
        out[c] = (uint8_t)(v1 + (v2 - v1) * dy);
    }
}

/* Cubic convolution with a = -1, Pillow's for warps (its resize has -0.5). */
static double cubic(double v1, double v2, double v3, double v4, double d)
{
    const double p2 = -v1 + v3;
    const double p3 = 2.0 * (v1 - v2) + v3 - v4;
    const double p4 = -v1 + v2 - v3 + v4;
    return v2 + d * (p2 + d * (p3 + d * p4));
}

/* Four columns of one row to the value between the middle two, per channel. */
static void across(const uint8_t *row, const size_t at[4], double d, double v[3])
{
    for (size_t c = 0; c < 3; c++) {
        v[c] = d == 0.0 ? row[at[1] + c] : cubic(row[at[0] + c], row[at[1] + c], row[at[2] + c], row[at[3] + c], d);
    }
}

static uint8_t to_byte(double v)
{
    return v <= 0.0 ? 0 : v >= 255.0 ? 255 : (uint8_t)v;
}

/* All 16 neighbours are inside and neither fraction is 0: the same sums without a question asked. */
static void bicubic_inside(const uint8_t *corner, size_t stride, double dx, double dy, uint8_t *out)
{
    for (size_t c = 0; c < 3; c++) {
        double v[4];
        for (size_t k = 0; k < 4; k++) {
            const uint8_t *q = corner + k * stride + c;
            v[k] = cubic(q[0], q[3], q[6], q[9], dx);
        }
        out[c] = to_byte(cubic(v[0], v[1], v[2], v[3], dy));
    }
}

/* Row y - 1 is clamped; a row past the picture repeats the value of the row before. */
static void bicubic(const picture *p, int x, int y, double dx, double dy, uint8_t *out)
{
    size_t at[4];
    double v[4][3];
    if (x > 0 && y > 0 && x + 2 < p->width && y + 2 < p->height && dx != 0.0 && dy != 0.0) {
        bicubic_inside(p->rgb + (size_t)(y - 1) * p->stride + 3 * (size_t)(x - 1), p->stride, dx, dy, out);
        return;
    }
    for (int k = 0; k < 4; k++) {
        at[k] = 3 * (size_t)clamp(x - 1 + k, p->width);
    }
    if (dy == 0.0) {
        across(p->rgb + (size_t)y * p->stride, at, dx, v[1]);
    }
    for (int k = 0; k < 4 && dy != 0.0; k++) {
        const int row = y - 1 + k;
        if (k > 0 && (row < 0 || row >= p->height)) {
            memcpy(v[k], v[k - 1], sizeof v[k]);
        } else {
            across(p->rgb + (size_t)clamp(row, p->height) * p->stride, at, dx, v[k]);
        }
    }
    for (size_t c = 0; c < 3; c++) {
        out[c] = to_byte(dy == 0.0 ? v[1][c] : cubic(v[0][c], v[1][c], v[2][c], v[3][c], dy));
    }
}

void kdi_augment_warp(const kd_augment_step *step, kd_warp warp, const uint8_t *src, int width, int height,
                      uint8_t *dst)
{
    const picture p = {.rgb = src, .width = width, .height = height, .stride = (size_t)width * 3};
    const affine m = matrix_of(step, width, height);
    for (int y = 0; y < height; y++) {
        const double yin = (double)y + 0.5, by = m.b * yin, ey = m.e * yin;
        for (int x = 0; x < width; x++, dst += 3) {
            const double xin = (double)x + 0.5;
            double xs = m.a * xin + by + m.c;
            double ys = m.d * xin + ey + m.f;
            if (!(xs >= 0.0 && xs < (double)width && ys >= 0.0 && ys < (double)height)) {
                memset(dst, KDI_FILL, 3);
                continue;
            }
            xs -= 0.5;
            ys -= 0.5;
            const int fx = whole(xs), fy = whole(ys);
            if (warp == KD_WARP_BILINEAR) {
                bilinear(&p, fx, fy, xs - (double)fx, ys - (double)fy, dst);
            } else {
                bicubic(&p, fx, fy, xs - (double)fx, ys - (double)fy, dst);
            }
        }
    }
}
