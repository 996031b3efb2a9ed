/* Parity of pixels: RandAugment's operations and levels, resized bytes, random boxes, and the
 * whole path from pictures to the clips of a test. */
#include "formats/base/hash.h"
#include "formats/video/image.h"
#include "teacher/clip/augment.h"
#include "teacher/clip/clip.h"
#include "teacher/clip/crops.h"
#include "teacher/model/vit.h"
#include "tools/parity/parity.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <stdio.h>

enum { PICTURE_MAX = 4096 };

static kd_status room(void *p, kd_err *err)
{
    return p != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
}

static const kd_st_entry *bytes_of(const kd_st_file *f, const char *name, size_t n)
{
    const kd_st_entry *e = kd_st_find(f, name);
    return e != NULL && e->dtype == KD_ST_U8 && e->bytes == n ? e : NULL;
}

/* ---- RandAugment: operations ----------------------------------------------------------------- */

/* Fixture names that are not the operation's own name in small letters. */
static kd_status op_of(const char *key, kd_augment_op *op, kd_err *err)
{
    static const struct {
        const char *begin;
        kd_augment_op op;
    } NAME[] = {{"autocontrast", KD_AUGMENT_AUTO_CONTRAST},
                {"equalize", KD_AUGMENT_EQUALIZE},
                {"invert", KD_AUGMENT_INVERT},
                {"rotate", KD_AUGMENT_ROTATE},
                {"posterize", KD_AUGMENT_POSTERIZE},
                {"solarize_add", KD_AUGMENT_SOLARIZE_ADD},
                {"solarize", KD_AUGMENT_SOLARIZE},
                {"color", KD_AUGMENT_COLOR},
                {"contrast", KD_AUGMENT_CONTRAST},
                {"brightness", KD_AUGMENT_BRIGHTNESS},
                {"sharpness", KD_AUGMENT_SHARPNESS},
                {"shearx", KD_AUGMENT_SHEAR_X},
                {"sheary", KD_AUGMENT_SHEAR_Y},
                {"transx", KD_AUGMENT_TRANSLATE_X},
                {"transy", KD_AUGMENT_TRANSLATE_Y}};
    for (size_t i = 0; i < KD_COUNTOF(NAME); i++) {
        if (strncmp(key, NAME[i].begin, strlen(NAME[i].begin)) == 0) {
            *op = NAME[i].op;
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_DATA, "'%s': no operation of RandAugment", key);
}

static kd_status one_op(parity *p, const kd_json *c, const kd_st_file *f, uint8_t *const picture[3], int w, int h,
                        kd_err *err)
{
    static const char *const ARG[] = {"bits", "thresh", "add", "factor", "degrees", "pct"};
    const size_t bytes = (size_t)w * (size_t)h * 3;
    const char *text = "";
    kd_augment_step step = {.arg = 0.0};
    KD_TRY(op_of(kd_json_key(c), &step.op, err));
    for (size_t i = 0; i < KD_COUNTOF(ARG); i++) {
        /* SolarizeAdd has a threshold besides, always 128 */
        if (kd_json_get(c, ARG[i]) != NULL && !(step.op == KD_AUGMENT_SOLARIZE_ADD && i == 1)) {
            KD_TRY(kd_json_get_f64(c, ARG[i], &step.arg, err));
        }
    }
    if (!(fabs(step.arg) <= 360.0) || (step.op == KD_AUGMENT_POSTERIZE && step.arg < 0.0)) {
        return KD_FAIL(err, KD_E_DATA, "%s: an argument of %g", kd_json_key(c), step.arg);
    }
    const bool low = kd_json_get(c, "img") != NULL;
    if (kd_json_get(c, "resample") != NULL) {
        KD_TRY(kd_json_get_str(c, "resample", &text, err));
    }
    const kd_st_entry *e = bytes_of(f, kd_json_key(c), bytes);
    if (e == NULL) {
        return KD_FAIL(err, KD_E_DATA, "fixture tensor %s: expected %zu bytes", kd_json_key(c), bytes);
    }
    kd_augment_apply(&step, strcmp(text, "bilinear") == 0 ? KD_WARP_BILINEAR : KD_WARP_BICUBIC, picture[low ? 1 : 0], w,
                     h, picture[2]);
    kd_parity_check(p, kd_json_key(c), memcmp(picture[2], e->data, bytes) == 0, "bytes of the augmented picture");
    return KD_OK;
}

kd_status kd_parity_augment(parity *p, kd_err *err)
{
    int64_t hw[2];
    const char *name = NULL, *crc = NULL, *low_crc = NULL;
    kd_st_file *f = NULL;
    uint8_t *block = NULL;
    kd_status st;
    KD_GO(kd_json_get_i64s(p->manifest, "hw", hw, 2, err));
    KD_GO(kd_json_get_str(p->manifest, "image", &name, err));
    KD_GO(kd_json_get_str(p->manifest, "crc32", &crc, err));
    KD_GO(kd_json_get_str(p->manifest, "low_crc32", &low_crc, err));
    KD_GO(kd_parity_open(p, "invert", &f, err));
    if (hw[0] < 1 || hw[1] < 1 || KD_MAX(hw[0], hw[1]) > PICTURE_MAX) {
        st = KD_FAIL(err, KD_E_DATA, "hw: expected 1 to %d", PICTURE_MAX);
        goto done;
    }
    const size_t bytes = (size_t)hw[0] * (size_t)hw[1] * 3;
    block = kd_alloc(3 * bytes);
    KD_GO(room(block, err));
    uint8_t *const picture[3] = {block, block + bytes, block + 2 * bytes};
    kd_parity_gen_picture(kd_crc32(name, strlen(name)), (int)hw[0], (int)hw[1], picture[0]);
    for (size_t i = 0; i < bytes; i++) {
        picture[1][i] = (uint8_t)(40 + picture[0][i] / 2);
    }
    KD_GO(kd_parity_crc(p, "CRC of the picture", picture[0], bytes, crc));
    KD_GO(kd_parity_crc(p, "CRC of the low picture", picture[1], bytes, low_crc));
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *c = kd_json_at(p->manifest, i);
        if (kd_json_type_of(c) == KD_JSON_OBJECT) {
            KD_GO(one_op(p, c, f, picture, (int)hw[1], (int)hw[0], err));
        }
    }
done:
    kd_st_close(f);
    kd_free(block);
    return st;
}

/* ---- RandAugment: levels --------------------------------------------------------------------- */

/* "PosterizeIncreasing" is Posterize of an increasing policy. */
static bool op_named(const char *key, kd_augment_op *op, bool *increasing)
{
    static const char *const NAME[] = {
#define NAME_OF(value, text) [(value)] = (text),
        KD_AUGMENT_MAP(NAME_OF)
#undef NAME_OF
    };
    for (size_t i = 0; i < KD_COUNTOF(NAME); i++) {
        const size_t n = strlen(NAME[i]);
        if (strncmp(key, NAME[i], n) == 0 && (key[n] == '\0' || strcmp(key + n, "Increasing") == 0)) {
            *op = (kd_augment_op)i;
            *increasing = key[n] != '\0';
            return true;
        }
    }
    return false;
}

kd_status kd_parity_augment_levels(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *levels = kd_json_at(p->manifest, i);
        kd_augment_op op;
        bool increasing, ok = true;
        if (!op_named(kd_json_key(levels), &op, &increasing)) {
            return KD_FAIL(err, KD_E_DATA, "'%s': no operation of RandAugment", kd_json_key(levels));
        }
        for (size_t k = 0; k < kd_json_count(levels); k++) {
            const kd_json *c = kd_json_at(levels, k);
            double level = 0.0, want = 0.0;
            if (sscanf(kd_json_key(c), "%lf", &level) != 1 || !(level >= 0.0 && level <= 10.0) ||
                kd_json_count(c) > 1) {
                return KD_FAIL(err, KD_E_DATA, "%s: expected a level of 0 to 10 and at most one argument",
                               kd_json_key(levels));
            }
            KD_TRY(kd_json_get_f64s(levels, kd_json_key(c), &want, kd_json_count(c), err));
            ok = ok && kd_augment_arg(op, increasing, level, false) == want;
        }
        kd_parity_check(p, kd_json_key(levels), ok, "arguments by level");
    }
    return KD_OK;
}

/* ---- from pictures to clips ------------------------------------------------------------------ */

static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};

/* The pictures NAME.0, NAME.1, ... one after the other, made so that the short side is `side` (0: as they are). */
static kd_status make_frames(const char *name, int frames, int h, int w, int side, int *rh, int *rw, uint8_t **out,
                             kd_err *err)
{
    uint8_t *picture = NULL;
    kd_status st;
    *rw = w;
    *rh = h;
    if (side > 0) {
        kd_image_short_side(w, h, side, rw, rh);
    }
    *out = NULL;
    if (KD_MAX(*rw, *rh) > PICTURE_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: pictures of %dx%d, expected sides of at most %d", name, *rw, *rh,
                       PICTURE_MAX);
    }
    const size_t small = (size_t)*rh * (size_t)*rw * 3;
    *out = kd_alloc((size_t)frames * small);
    picture = kd_alloc((size_t)h * (size_t)w * 3);
    KD_GO(room(*out, err));
    KD_GO(room(picture, err));
    for (int t = 0; t < frames; t++) {
        char full[96];
        (void)snprintf(full, sizeof full, "%.64s.%d", name, t);
        kd_parity_gen_picture(kd_crc32(full, strlen(full)), h, w, picture);
        KD_GO(kd_image_resize_once(KD_RESIZER_OPENCV, picture, w, h, 0, *out + (size_t)t * small, *rw, *rh, 0, err));
    }
done:
    kd_free(picture);
    return st;
}

typedef struct video {
    int64_t frames, h, w, side, crop, clip, rate, segs, crops;
} video;

static kd_status read_video(const kd_json *c, video *v, kd_err *err)
{
    KD_TRY(kd_json_get_range(c, "frames", 1, 256, &v->frames, err));
    KD_TRY(kd_json_get_range(c, "h", 1, 1024, &v->h, err));
    KD_TRY(kd_json_get_range(c, "w", 1, 1024, &v->w, err));
    KD_TRY(kd_json_get_range(c, "short_side", 1, 256, &v->side, err));
    KD_TRY(kd_json_get_range(c, "crop", v->side, v->side, &v->crop, err));
    KD_TRY(kd_json_get_range(c, "clip_len", 1, 64, &v->clip, err));
    KD_TRY(kd_json_get_range(c, "rate", 1, 64, &v->rate, err));
    KD_TRY(kd_json_get_range(c, "segs", 1, 64, &v->segs, err));
    return kd_json_get_range(c, "crops", 1, 64, &v->crops, err);
}

/* The box of frames idx as the floats (3, T, side, side) that the model's first op makes of the cut bytes. */
static void clip_floats(const video *v, const uint8_t *rgb, int w, int h, const size_t *idx, const kd_crop_box *box,
                        float *out)
{
    float table[3 * 256];
    const size_t plane = (size_t)(v->side * v->side);
    kd_vit_pixel_table(MEAN, STD, table);
    for (int64_t j = 0; j < v->clip; j++) {
        kd_clip_resize(table, rgb + idx[j] * (size_t)w * (size_t)h * 3, w, h, box, (int)v->side,
                       out + (size_t)j * plane, (size_t)v->clip * plane);
    }
}

/* A view against the fixture's CRC and against the tensor of that name, as far as they are there. */
static kd_status one_view(parity *p, const char *name, const char *crc, const float *got, size_t n, kd_err *err)
{
    char have[12];
    kd_st_file *f = NULL;
    double *want = NULL;
    kd_status st = KD_OK;
    (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(got, n * sizeof *got));
    if (crc != NULL) {
        kd_parity_check(p, name, strcmp(have, crc) == 0, "bytes of the view");
    }
    if (kd_parity_open(p, name, &f, NULL) == KD_OK) {
        KD_GO(kd_parity_tensor(f, name, n, &want, err));
        kd_parity_f32(p, name, got, want, n, 0.0);
    } else if (crc == NULL) {
        kd_parity_skip(p, name, "no file of the fixture holds this tensor");
    }
done:
    kd_st_close(f);
    kd_free(want);
    return st;
}

static kd_status test_video(parity *p, const kd_json *c, kd_err *err)
{
    video v;
    size_t idx[64];
    int w, h;
    uint8_t *rgb = NULL;
    float *clip = NULL;
    kd_status st;
    KD_GO(read_video(c, &v, err));
    KD_GO(make_frames(kd_json_key(c), (int)v.frames, (int)v.h, (int)v.w, (int)v.side, &h, &w, &rgb, err));
    const size_t n = (size_t)(3 * v.clip * v.side * v.side);
    const kd_json *crc = kd_json_get(c, "crc32");
    clip = kd_calloc(n, sizeof *clip);
    KD_GO(room(clip, err));
    const kd_frame_rule rule = {.frames = (int)v.clip, .rate = (int)v.rate};
    for (int view = 0; view < (int)(v.segs * v.crops); view++) {
        const int seg = view / (int)v.crops, crop = view % (int)v.crops;
        char name[96];
        const char *text = NULL;
        (void)snprintf(name, sizeof name, "%.64s.test.%d.%d", kd_json_key(c), seg, crop);
        KD_GO(kd_json_as_str(kd_json_at(crc, (size_t)view), &text, err));
        kd_frames_test(&rule, (size_t)v.frames, seg, (int)v.segs, idx);
        const kd_crop_box box = kd_crop_test(KD_CROPS_VIDEOMAE, w, h, (int)v.side, crop, (int)v.crops);
        clip_floats(&v, rgb, w, h, idx, &box, clip);
        KD_GO(one_view(p, name, text, clip, n, err));
    }
    char name[96];
    (void)snprintf(name, sizeof name, "%.64s.val", kd_json_key(c));
    kd_frames_val(&rule, (size_t)v.frames, idx);
    const kd_crop_box box = kd_crop_center(w, h, (int)v.side);
    clip_floats(&v, rgb, w, h, idx, &box, clip);
    KD_GO(one_view(p, name, NULL, clip, n, err));
done:
    kd_free(rgb);
    kd_free(clip);
    return st;
}

/* A training crop: the box is given, the mirror is the model's first op's. */
static kd_status train_crop(parity *p, const kd_json *c, kd_err *err)
{
    int64_t frames, h, w, flip, b[4], side;
    static const char *const KEY[] = {"j", "i", "cw", "ch"};
    const char *name = NULL;
    char begin[64];
    size_t idx[64];
    int rw, rh;
    uint8_t *rgb = NULL;
    float *clip = NULL;
    kd_status st;
    KD_GO(kd_json_get_range(c, "frames", 1, 64, &frames, err));
    KD_GO(kd_json_get_range(c, "h", 1, 1024, &h, err));
    KD_GO(kd_json_get_range(c, "w", 1, 1024, &w, err));
    KD_GO(kd_json_get_range(c, "flip", 0, 1, &flip, err));
    KD_GO(kd_json_get_range(c, "out", 1, 256, &side, err));
    KD_GO(kd_json_get_str(c, "name", &name, err));
    for (int i = 0; i < 4; i++) {
        KD_GO(kd_json_get_range(c, KEY[i], i < 2 ? 0 : 1, i % 2 == 0 ? w : h, &b[i], err));
    }
    if (b[0] + b[2] > w || b[1] + b[3] > h) {
        return KD_FAIL(err, KD_E_DATA, "%s: the box leaves the picture of %dx%d", kd_json_key(c), (int)w, (int)h);
    }
    (void)snprintf(begin, sizeof begin, "%.*s", (int)KD_MIN(strcspn(name, "."), sizeof begin - 1), name);
    KD_GO(make_frames(begin, (int)frames, (int)h, (int)w, 0, &rh, &rw, &rgb, err));
    const video v = {.side = side, .clip = frames};
    const size_t n = (size_t)(3 * frames * side * side);
    clip = kd_calloc(n, sizeof *clip);
    KD_GO(room(clip, err));
    for (size_t t = 0; t < (size_t)frames; t++) {
        idx[t] = t;
    }
    const kd_crop_box box = {.x = (int)b[0], .y = (int)b[1], .width = (int)b[2], .height = (int)b[3]};
    clip_floats(&v, rgb, rw, rh, idx, &box, clip);
    for (size_t row = 0; row < n / (size_t)side && flip != 0; row++) {
        for (size_t x = 0; x < (size_t)side / 2; x++) {
            float *a = &clip[row * (size_t)side + x], *z = &clip[row * (size_t)side + (size_t)side - 1 - x];
            const float keep = *a;
            *a = *z;
            *z = keep;
        }
    }
    KD_GO(one_view(p, kd_json_key(c), NULL, clip, n, err));
done:
    kd_free(rgb);
    kd_free(clip);
    return st;
}

static kd_status area_sizes(parity *p, const kd_json *list, kd_err *err)
{
    int w = 0, h = 0, high = 0, wide = 0;
    if (sscanf(kd_json_key(list), "rrc_size_examples_%dx%d", &high, &wide) != 2) {
        return KD_FAIL(err, KD_E_DATA, "'%s': expected rrc_size_examples_HxW", kd_json_key(list));
    }
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const kd_json *c = kd_json_at(list, i);
        double share = 0.0, log_ratio = 0.0;
        int64_t ww = 0, hh = 0;
        char name[64];
        KD_TRY(kd_json_get_f64(c, "frac", &share, err));
        KD_TRY(kd_json_get_f64(c, "log_ratio", &log_ratio, err));
        KD_TRY(kd_json_get_i64(c, "w", &ww, err));
        KD_TRY(kd_json_get_i64(c, "h", &hh, err));
        (void)kd_crop_area_size(wide, high, share, log_ratio, &w, &h);
        (void)snprintf(name, sizeof name, "box of %g of the area", share);
        kd_parity_check(p, name, w == ww && h == hh, NULL);
    }
    return KD_OK;
}

kd_status kd_parity_pipeline(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *c = kd_json_at(p->manifest, i);
        if (kd_json_type_of(c) == KD_JSON_ARRAY) {
            KD_TRY(area_sizes(p, c, err));
        } else if (kd_json_get(c, "segs") != NULL) {
            KD_TRY(test_video(p, c, err));
        } else {
            KD_TRY(train_crop(p, c, err));
        }
    }
    return KD_OK;
}
