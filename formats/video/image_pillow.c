/* Pillow's antialiased resize: see image_pillow.h. */
#include "formats/video/image_pillow.h"

#include <math.h>

enum { BITS = 32 - 8 - 2 }; /* of a weight's fraction: Pillow's PRECISION_BITS */

/* Weights of one axis.  Output position i is the sum of `count` source positions from `first` on. */
typedef struct axis {
    int in, out, room; /* room: weights an output position has */
    int *first, *count;
    int32_t *weight; /* [out][room] */
} axis;

struct kdi_pillow {
    axis x, y;
    int top, rows;  /* source rows that the second pass reads */
    uint8_t *pass;  /* [rows][x.out * 3] after the first pass */
    int32_t *total; /* [x.out * 3] of one row of the second pass */
};

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -0.5. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

/* `share` is work space of `room` values. */
static void fill_axis(axis *a, double (*filter)(double), double support, double *share)
{
    const double scale = (double)a->in / (double)a->out;
    const double wide = scale < 1.0 ? 1.0 : scale;
    const double reach = support * wide;
    for (int i = 0; i < a->out; i++) {
        const double center = ((double)i + 0.5) * scale;
        const int lo = KD_MAX((int)(center - reach + 0.5), 0);
        const int n = KD_MIN((int)(center + reach + 0.5), a->in) - lo;
        double sum = 0.0;
        for (int k = 0; k < n; k++) {
            share[k] = filter(((double)(k + lo) - center + 0.5) * (1.0 / wide));
            sum += share[k];
        }
        for (int k = 0; k < n; k++) {
            const double w = sum != 0.0 ? share[k] / sum : share[k];
            a->weight[(size_t)i * (size_t)a->room + (size_t)k] =
                (int32_t)(w * (double)(1 << BITS) + (w < 0 ? -0.5 : 0.5));
        }
        a->first[i] = lo;
        a->count[i] = n;
    }
}

static bool make_axis(axis *a, kd_resizer rule, int in, int out)
{
    const bool bicubic = rule == KD_RESIZER_PILLOW_BICUBIC;
    const double support = bicubic ? 2.0 : 1.0;
    const double reach = support * fmax((double)in / (double)out, 1.0);
    *a = (axis){.in = in, .out = out, .room = (int)ceil(reach) * 2 + 1};
    double *share = kd_calloc((size_t)a->room, sizeof *share);
    a->first = kd_calloc((size_t)out, sizeof *a->first);
    a->count = kd_calloc((size_t)out, sizeof *a->count);
    a->weight = kd_calloc((size_t)out * (size_t)a->room, sizeof *a->weight);
    const bool good = share != NULL && a->first != NULL && a->count != NULL && a->weight != NULL;
    if (good) {
        fill_axis(a, bicubic ? cubic : triangle, support, share);
    }
    kd_free(share);
    return good;
}

static void drop_axis(axis *a)
{
    kd_free(a->first);
    kd_free(a->count);
    kd_free(a->weight);
}

kd_status kdi_pillow_create(kd_resizer rule, int width, int height, int out_width, int out_height, kdi_pillow **out,
                            kd_err *err)
{
    *out = NULL;
    kdi_pillow *p = kd_calloc(1, sizeof *p);
    bool good = p != NULL && make_axis(&p->x, rule, width, out_width) && make_axis(&p->y, rule, height, out_height);
    if (good) {
        const int last = out_height - 1;
        p->top = p->y.first[0];
        p->rows = p->y.first[last] + p->y.count[last] - p->top;
        p->total = kd_calloc((size_t)out_width * 3, sizeof *p->total);
        p->pass = kd_calloc((size_t)p->rows * (size_t)out_width, 3);
        good = p->total != NULL && p->pass != NULL;
    }
    if (!good) {
        kdi_pillow_free(p);
        return KD_FAIL(err, KD_E_OOM, "resize %dx%d to %dx%d: no memory", width, height, out_width, out_height);
    }
    *out = p;
    return KD_OK;
}

void kdi_pillow_free(kdi_pillow *p)
{
    if (p != NULL) {
        drop_axis(&p->x);
        drop_axis(&p->y);
        kd_free(p->pass);
        kd_free(p->total);
        kd_free(p);
    }
}

static uint8_t to_byte(int32_t v)
{
    return (uint8_t)KD_MIN(KD_MAX(v >> BITS, 0), 255);
}

static void across(const axis *a, const uint8_t *restrict src, uint8_t *restrict dst)
{
    for (int i = 0; i < a->out; i++) {
        const int32_t *w = a->weight + (size_t)i * (size_t)a->room;
        const uint8_t *p = src + 3 * (size_t)a->first[i];
        int32_t r = 1 << (BITS - 1), g = r, b = r;
        for (int k = 0; k < a->count[i]; k++) {
            r += w[k] * p[3 * k];
            g += w[k] * p[3 * k + 1];
            b += w[k] * p[3 * k + 2];
        }
        dst[3 * i] = to_byte(r);
        dst[3 * i + 1] = to_byte(g);
        dst[3 * i + 2] = to_byte(b);
    }
}

static void add_row(int32_t *restrict total, const uint8_t *restrict row, int32_t w, int n)
{
    for (int i = 0; i < n; i++) {
        total[i] += w * row[i];
    }
}

void kdi_pillow_resize(kdi_pillow *p, const uint8_t *src, size_t src_stride, uint8_t *dst, size_t dst_stride)
{
    const int n = p->x.out * 3;
    const bool same_width = p->x.in == p->x.out, same_height = p->y.in == p->y.out;
    for (int y = 0; y < p->rows; y++) {
        const uint8_t *from = src + (size_t)(p->top + y) * src_stride;
        uint8_t *to = same_height ? dst + (size_t)y * dst_stride : p->pass + (size_t)y * (size_t)n;
        if (same_width) {
            memcpy(to, from, (size_t)n);
        } else {
            across(&p->x, from, to);
        }
    }
    for (int y = 0; y < p->y.out && !same_height; y++) {
        for (int i = 0; i < n; i++) {
            p->total[i] = 1 << (BITS - 1);
        }
        for (int k = 0; k < p->y.count[y]; k++) {
            add_row(p->total, p->pass + (size_t)(p->y.first[y] - p->top + k) * (size_t)n,
                    p->y.weight[(size_t)y * (size_t)p->y.room + (size_t)k], n);
        }
        uint8_t *o = dst + (size_t)y * dst_stride;
        for (int i = 0; i < n; i++) {
            o[i] = to_byte(p->total[i]);
        }
    }
}
