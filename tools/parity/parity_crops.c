/* Parity of boxes and resized bytes outside VideoMAE's own code: OpenCV, Pillow, MMAction2's random boxes. */
#include "formats/base/hash.h"
#include "formats/video/image.h"
#include "teacher/clip/crops.h"
#include "tools/parity/parity.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <stdio.h>

/* The pictures of the fixture, u24 >> 16 of these names: its manifest has neither their names nor their sizes. */
typedef struct resized {
    const char *tensor, *input;
    int h, w;
    kd_resizer rule;
    kd_crop_box box; /* what is resized; width 0: all of the picture */
    int oh, ow;
} resized;

#define CROP                                      \
    {                                             \
        .x = 5, .y = 3, .width = 21, .height = 17 \
    }
static const resized RESIZED[] = {
    {"cv2_up", "cv2.up", 7, 9, KD_RESIZER_OPENCV, {0}, 16, 20},
    {"cv2_down", "cv2.down", 40, 60, KD_RESIZER_OPENCV, {0}, 17, 23},
    {"cv2_half", "cv2.half", 32, 48, KD_RESIZER_OPENCV, {0}, 16, 24},
    {"cv2_same_w", "cv2.same_w", 20, 30, KD_RESIZER_OPENCV, {0}, 33, 30},
    {"pil_a_short20", "pil.pil_a", 30, 47, KD_RESIZER_PILLOW_BILINEAR, {0}, 20, 31},
    {"pil_b_short20", "pil.pil_b", 47, 30, KD_RESIZER_PILLOW_BILINEAR, {0}, 31, 20},
    {"pil_a_resized_crop_3_5_17_21_to12", "pil.pil_a", 30, 47, KD_RESIZER_PILLOW_BILINEAR, CROP, 12, 12},
    {"pil_b_resized_crop_3_5_17_21_to12", "pil.pil_b", 47, 30, KD_RESIZER_PILLOW_BILINEAR, CROP, 12, 12}};

static kd_status one_picture(parity *p, const kd_st_file *f, const resized *r, kd_err *err)
{
    const kd_crop_box box = r->box.width > 0 ? r->box : (kd_crop_box){.width = r->w, .height = r->h};
    const size_t n = (size_t)r->h * (size_t)r->w * 3, m = (size_t)r->oh * (size_t)r->ow * 3;
    const kd_st_entry *e = kd_st_find(f, r->tensor);
    const uint32_t crc = kd_crc32(r->input, strlen(r->input));
    kd_image_resizer *resizer = NULL;
    uint8_t *src = kd_alloc(n), *dst = kd_alloc(m);
    kd_status st;
    if (src == NULL || dst == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    if (e == NULL || e->dtype != KD_ST_U8 || e->bytes != m) {
        st = KD_FAIL(err, KD_E_DATA, "fixture tensor %s: expected %zu bytes", r->tensor, m);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        src[i] = (uint8_t)(kd_parity_gen_u24(crc, (uint32_t)i) >> 16);
    }
    KD_GO(kd_image_resizer_create(r->rule, box.width, box.height, r->ow, r->oh, &resizer, err));
    kd_image_resize(resizer, src + ((size_t)box.y * (size_t)r->w + (size_t)box.x) * 3, (size_t)r->w * 3, dst, 0);
    kd_parity_check(p, r->tensor, memcmp(dst, e->data, m) == 0, "bytes of the resized picture");
done:
    kd_image_resizer_free(resizer);
    kd_free(src);
    kd_free(dst);
    return st;
}

/* A number of [0, 1): element i of the table of that name. */
static double unit(const char *table, int i)
{
    const float half = kd_parity_gen_unit(kd_crc32(table, strlen(table)), (uint32_t)i) * 0.5f;
    return (double)(half + 0.5f);
}

/* Random boxes with given draws.  Where no try fits MMAction2 takes a square, which is no rule of video.spatial. */
static kd_status random_box(parity *p, const kd_json *c, int number, kd_err *err)
{
    int64_t h, w, attempt, want[4];
    double area[2], ratio[2];
    const char *u_ratio = NULL, *u_area = NULL, *u_offset = NULL;
    char name[64];
    int at = 0, bw = 0, bh = 0;
    KD_TRY(kd_json_get_range(c, "h", 1, 4096, &h, err));
    KD_TRY(kd_json_get_range(c, "w", 1, 4096, &w, err));
    KD_TRY(kd_json_get_range(c, "attempt", -1, 9, &attempt, err));
    KD_TRY(kd_json_get_f64s(c, "area", area, 2, err));
    KD_TRY(kd_json_get_f64s(c, "ratio", ratio, 2, err));
    KD_TRY(kd_json_get_i64s(c, "box_xyxy", want, 4, err));
    KD_TRY(kd_json_get_str(c, "u_ratio", &u_ratio, err));
    KD_TRY(kd_json_get_str(c, "u_area", &u_area, err));
    KD_TRY(kd_json_get_str(c, "u_offset", &u_offset, err));
    (void)snprintf(name, sizeof name, "random box %d of %dx%d", number, (int)w, (int)h);
    for (bool fits = false; at < 10 && !fits; at += fits ? 0 : 1) {
        const double share = area[0] + (area[1] - area[0]) * unit(u_area, at);
        const double lo = log(ratio[0]), hi = log(ratio[1]);
        fits = kd_crop_area_size((int)w, (int)h, share, lo + (hi - lo) * unit(u_ratio, at), &bw, &bh);
    }
    if (at == 10) {
        kd_parity_check(p, name, attempt == -1, "no try fits");
        return KD_OK;
    }
    const int x = (int)(unit(u_offset, 0) * (double)(w - bw + 1)), y = (int)(unit(u_offset, 1) * (double)(h - bh + 1));
    kd_parity_check(p, name, at == attempt && x == want[0] && y == want[1] && x + bw == want[2] && y + bh == want[3],
                    NULL);
    return KD_OK;
}

/* "320x240": [341, 256], the short side brought to 256. */
static kd_status short_side(parity *p, const kd_json *list, const kd_json *c, kd_err *err)
{
    int64_t want[2];
    int w = 0, h = 0, rw = 0, rh = 0;
    KD_TRY(kd_json_get_i64s(list, kd_json_key(c), want, 2, err));
    if (sscanf(kd_json_key(c), "%dx%d", &w, &h) != 2) {
        return KD_FAIL(err, KD_E_DATA, "'%s': expected a size as WxH", kd_json_key(c));
    }
    kd_image_short_side(w, h, (int)KD_MIN(want[0], want[1]), &rw, &rh);
    kd_parity_check(p, kd_json_key(c), rw == want[0] && rh == want[1], "short side");
    return KD_OK;
}

static kd_status center(parity *p, const kd_json *c, kd_err *err)
{
    int64_t w, h, side, left, top;
    char name[64];
    KD_TRY(kd_json_get_i64(c, "w", &w, err));
    KD_TRY(kd_json_get_i64(c, "h", &h, err));
    KD_TRY(kd_json_get_i64(c, "crop", &side, err));
    KD_TRY(kd_json_get_i64(c, "left", &left, err));
    KD_TRY(kd_json_get_i64(c, "top", &top, err));
    const kd_crop_box b = kd_crop_center((int)w, (int)h, (int)side);
    (void)snprintf(name, sizeof name, "centre %d of %dx%d", (int)side, (int)w, (int)h);
    kd_parity_check(p, name, b.x == left && b.y == top, NULL);
    return KD_OK;
}

/* ThreeCrop's boxes "crop", "offsets_xy"; HMDB51's "views_top_left" of 224 pixels, whose mirrored ones are these. */
static kd_status three_boxes(parity *p, const kd_json *c, bool hmdb, kd_err *err)
{
    int64_t w = 0, h = 0, side = 224;
    const kd_json *list = kd_json_get(c, hmdb ? "views_top_left" : "offsets_xy");
    char name[96];
    KD_TRY(kd_json_get_range(c, "w", 1, 8192, &w, err));
    KD_TRY(kd_json_get_range(c, "h", 1, 8192, &h, err));
    KD_TRY(hmdb ? KD_OK : kd_json_get_range(c, "crop", 1, KD_MIN(w, h), &side, err));
    bool same = kd_json_count(list) == 3;
    for (int i = 0; i < 3 && same; i++) {
        const kd_json *at = kd_json_at(list, (size_t)i);
        const kd_crop_box b =
            kd_crop_test(hmdb ? KD_CROPS_CORNERS : KD_CROPS_MMACTION2, (int)w, (int)h, (int)side, i, 3);
        int64_t first = -1, second = -1;
        KD_TRY(kd_json_as_i64(kd_json_at(at, 0), &first, err));
        KD_TRY(kd_json_as_i64(kd_json_at(at, 1), &second, err));
        same = hmdb ? b.y == first && b.x == second : b.x == first && b.y == second;
    }
    (void)snprintf(name, sizeof name, "%s %d of %dx%d", hmdb ? "six views" : "three crops", (int)side, (int)w, (int)h);
    kd_parity_check(p, name, same, NULL);
    return KD_OK;
}

/* The short side as MMAction2's Resize makes it; its sizes within two limits are no rule here. */
static kd_status rounded_side(parity *p, const kd_json *c, kd_err *err)
{
    static const int SIDE[] = {256, 224};
    int64_t w, h, want[2];
    bool ok = true;
    char name[64];
    KD_TRY(kd_json_get_range(c, "w", 1, 8192, &w, err));
    KD_TRY(kd_json_get_range(c, "h", 1, 8192, &h, err));
    for (size_t i = 0; i < KD_COUNTOF(SIDE); i++) {
        int rw, rh;
        (void)snprintf(name, sizeof name, "short%d", SIDE[i]);
        KD_TRY(kd_json_get_i64s(c, name, want, 2, err));
        kd_image_short_side_rounded((int)w, (int)h, SIDE[i], &rw, &rh);
        ok = ok && rw == want[0] && rh == want[1];
    }
    (void)snprintf(name, sizeof name, "rounded sides of %dx%d", (int)w, (int)h);
    kd_parity_check(p, name, ok, NULL);
    return KD_OK;
}

/* Of the resized pictures a and b: the centre of 16. */
static kd_status center_of(parity *p, const char *size_key, const char *at_key, kd_err *err)
{
    int64_t size[2], at[2];
    KD_TRY(kd_json_get_i64s(p->manifest, size_key, size, 2, err));
    KD_TRY(kd_json_get_i64s(p->manifest, at_key, at, 2, err));
    const kd_crop_box b = kd_crop_center((int)size[0], (int)size[1], 16);
    kd_parity_check(p, at_key, b.y == at[0] && b.x == at[1], NULL);
    return KD_OK;
}

kd_status kd_parity_crops(parity *p, kd_err *err)
{
    const kd_json *threes = kd_json_get(p->manifest, "three_crop"), *six = kd_json_get(p->manifest, "hmdb_views");
    const kd_json *centers = kd_json_get(p->manifest, "center_crop");
    const kd_json *boxes = kd_json_get(p->manifest, "random_resized_crop");
    const kd_json *sizes = kd_json_get(p->manifest, "tf_resize_long_side");
    const kd_json *rounded = kd_json_get(p->manifest, "mmcv_rescale_size");
    kd_st_file *f = NULL;
    kd_status st;
    KD_GO(kd_parity_open(p, RESIZED[0].tensor, &f, err));
    for (size_t i = 0; i < KD_COUNTOF(RESIZED); i++) {
        KD_GO(one_picture(p, f, &RESIZED[i], err));
    }
    for (size_t i = 0; i < kd_json_count(centers); i++) {
        KD_GO(center(p, kd_json_at(centers, i), err));
    }
    for (size_t i = 0; i < kd_json_count(threes); i++) {
        KD_GO(three_boxes(p, kd_json_at(threes, i), false, err));
    }
    for (size_t i = 0; i < kd_json_count(six); i++) {
        KD_GO(three_boxes(p, kd_json_at(six, i), true, err));
    }
    for (size_t i = 0; i < kd_json_count(rounded); i++) {
        KD_GO(rounded_side(p, kd_json_at(rounded, i), err));
    }
    KD_GO(center_of(p, "pil_a_size_wh", "pil_a_center_crop16_top_left", err));
    KD_GO(center_of(p, "pil_b_size_wh", "pil_b_center_crop16_top_left", err));
    for (size_t i = 0; i < kd_json_count(boxes); i++) {
        KD_GO(random_box(p, kd_json_at(boxes, i), (int)i, err));
    }
    for (size_t i = 0; i < kd_json_count(sizes); i++) {
        KD_GO(short_side(p, sizes, kd_json_at(sizes, i), err));
    }
done:
    kd_st_close(f);
    return st;
}
