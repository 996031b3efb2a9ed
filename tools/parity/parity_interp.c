/* Parity of interpolation: boxes of a clip resized as training clips are, position tables resized to another grid. */
#include "teacher/clip/crops.h"
#include "teacher/model/vit.h"
#include "tools/parity/parity.h"

#include <stdio.h>

/* ---- clips ----------------------------------------------------------------------------------- */

enum { CODES = 255 }; /* values that a byte can name besides 0 */

typedef struct clip {
    int frames, height, width;
    float *v; /* (3, frames, height, width), as the fixture has it */
} clip;

/* kd_clip_resize reads bytes through a table of 256 values, and a plane of the fixture has more.  Resizing is linear:
 * of one channel and frame, CODES pixels at a time keep their value while the others are 0, and the results are added.
 */
static kd_status resize_plane(const clip *in, int plane, const kd_crop_box *box, int side, float *out, kd_err *err)
{
    const int pixels = in->height * in->width;
    const float *v = in->v + (size_t)plane * (size_t)pixels;
    const size_t area = (size_t)side * (size_t)side;
    uint8_t *rgb = kd_calloc((size_t)pixels, 3);
    float *part = kd_calloc(3 * area, sizeof *part);
    float table[3 * 256];
    const kd_status st = rgb != NULL && part != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    for (int from = 0; st == KD_OK && from < pixels; from += CODES) {
        memset(table, 0, sizeof table);
        memset(rgb, 0, 3 * (size_t)pixels);
        for (int i = from; i < KD_MIN(from + CODES, pixels); i++) {
            rgb[3 * i] = (uint8_t)(i - from + 1);
            table[i - from + 1] = v[i];
        }
        kd_clip_resize(table, rgb, in->width, in->height, box, side, part, area);
        for (size_t k = 0; k < area; k++) {
            out[k] += part[k];
        }
    }
    kd_free(rgb);
    kd_free(part);
    return st;
}

static kd_status check_crop(parity *p, const clip *in, const kd_st_file *f, const kd_json *crops, const char *key,
                            kd_err *err)
{
    double c[5]; /* top, left, height, width, side */
    double *want = NULL;
    float *out = NULL;
    char name[120];
    KD_TRY(kd_json_get_f64s(crops, key, c, 5, err));
    const kd_crop_box box = {.y = (int)c[0], .x = (int)c[1], .height = (int)c[2], .width = (int)c[3]};
    const int side = (int)c[4];
    const size_t area = (size_t)side * (size_t)side, n = 3 * (size_t)in->frames * area;
    kd_status st = KD_OK;
    KD_GO(kd_parity_tensor(f, key, n, &want, err));
    out = kd_calloc(n, sizeof *out);
    if (out == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    for (int plane = 0; plane < 3 * in->frames; plane++) {
        KD_GO(resize_plane(in, plane, &box, side, out + (size_t)plane * area, err));
    }
    (void)snprintf(name, sizeof name, "clip, %.80s", key);
    kd_parity_f32(p, name, out, want, n, 0.0);
done:
    kd_free(out);
    kd_free(want);
    return st;
}

static kd_status check_clips(parity *p, kd_err *err)
{
    const kd_json *doc = NULL, *crops = NULL;
    const char *input = NULL;
    double shape[4], scale = 1.0;
    kd_st_file *f = NULL;
    clip in = {0};
    kd_status st = KD_OK;
    KD_GO(kd_json_get_object(p->manifest, "torch_bilinear", &doc, err));
    KD_GO(kd_json_get_str(doc, "input", &input, err));
    KD_GO(kd_json_get_f64s(doc, "shape", shape, 4, err));
    KD_GO(kd_json_get_f64(doc, "scale", &scale, err));
    KD_GO(kd_json_get_object(doc, "crops", &crops, err));
    in = (clip){.frames = (int)shape[1], .height = (int)shape[2], .width = (int)shape[3]};
    const size_t n = 3 * (size_t)in.frames * (size_t)in.height * (size_t)in.width;
    in.v = kd_calloc(n, sizeof *in.v);
    if (in.v == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    kd_parity_fill(input, (float)scale, 0.0f, in.v, n);
    for (size_t i = 0; i < kd_json_count(crops); i++) {
        const char *key = kd_json_key(kd_json_at(crops, i));
        if (f == NULL) {
            KD_GO(kd_parity_open(p, key, &f, err));
        }
        KD_GO(check_crop(p, &in, f, crops, key, err));
    }
done:
    kd_st_close(f);
    kd_free(in.v);
    return st;
}

/* ---- position tables ------------------------------------------------------------------------- */

/* The grids of "bicubic_4to6" (side) and "linear_T4to8" (time steps), from a table of `from`.  false: another name. */
static bool grid_of(const char *name, kd_vit_grid from, kd_vit_grid *to)
{
    int old = 0, wide = 0;
    *to = from;
    if (sscanf(name, "bicubic_%dto%d", &old, &wide) == 2 && old == from.side) {
        to->side = wide;
        return true;
    }
    if (sscanf(name, "linear_T%dto%d", &old, &wide) == 2 && old == from.steps) {
        to->steps = wide;
        return true;
    }
    return false;
}

static kd_status check_table(parity *p, const float *in, kd_vit_grid from, int64_t dim, const kd_st_entry *e,
                             const kd_st_file *f, kd_err *err)
{
    kd_vit_grid to;
    char name[120];
    double *want = NULL;
    float *out = NULL;
    kd_status st = KD_OK;
    if (!grid_of(e->name, from, &to)) {
        kd_parity_skip(p, e->name, "no such interpolation");
        return KD_OK;
    }
    const size_t n = (size_t)to.steps * (size_t)to.side * (size_t)to.side * (size_t)dim;
    KD_GO(kd_parity_tensor(f, e->name, n, &want, err));
    out = kd_calloc(n, sizeof *out);
    if (out == NULL || kd_vit_table_resize(in, from, to, dim, out) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    (void)snprintf(name, sizeof name, "position table, %.80s", e->name);
    kd_parity_f32(p, name, out, want, n, 0.0);
done:
    kd_free(out);
    kd_free(want);
    return st;
}

static kd_status check_tables(parity *p, kd_err *err)
{
    const kd_json *doc = NULL;
    const char *input = NULL;
    double shape[3], steps = 0, side = 0, scale = 1.0;
    kd_st_file *f = NULL;
    float *in = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_json_get_object(p->manifest, "pos", &doc, err));
    KD_GO(kd_json_get_str(doc, "input", &input, err));
    KD_GO(kd_json_get_f64s(doc, "shape", shape, 3, err));
    KD_GO(kd_json_get_f64(doc, "T", &steps, err));
    KD_GO(kd_json_get_f64(doc, "P", &side, err));
    KD_GO(kd_json_get_f64(doc, "scale", &scale, err));
    const kd_vit_grid from = {(int)steps, (int)side};
    const int64_t dim = (int64_t)shape[2];
    const size_t n = (size_t)from.steps * (size_t)from.side * (size_t)from.side * (size_t)dim;
    in = kd_calloc(n, sizeof *in);
    if (in == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    kd_parity_fill(input, (float)scale, 0.0f, in, n);
    KD_GO(kd_parity_open(p, "bicubic_4to6", &f, err));
    for (size_t i = 0; i < kd_st_count(f); i++) {
        KD_GO(check_table(p, in, from, dim, kd_st_at(f, i), f, err));
    }
done:
    kd_st_close(f);
    kd_free(in);
    return st;
}

kd_status kd_parity_interp(parity *p, kd_err *err)
{
    KD_TRY(check_clips(p, err));
    return check_tables(p, err);
}
