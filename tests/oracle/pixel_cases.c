/* Random cases of the pixel path for pixels.py: pixel_cases FOLDER writes FOLDER/cases.jsonl, one case a line with its
 * draws, and FOLDER/bytes.bin, the pictures before and after, one after the other; "at" is where those of a case
 * begin. */
#include "formats/video/image.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_pixels.h"
#include "kernels/kd_program.h"
#include "teacher/clip/augment.h"
#include "teacher/clip/clip_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { AUGMENTED = 200, RESIZED = 120, ERASED = 200, FRAMES = 4, SIDE = 48, LARGEST = 200 };

typedef struct output {
    FILE *lines, *bytes;
    size_t at;
} output;

static void must(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "pixel_cases: %s\n", what);
        exit(2);
    }
}

static void put(output *o, const void *data, size_t n)
{
    must(fwrite(data, 1, n, o->bytes) == n, "bytes.bin cannot be written");
    o->at += n;
}

static kd_rng draws_of(uint32_t kind, uint32_t number)
{
    return kd_rng_make(20261130, KD_RNG_TEST, kind, number);
}

static int below(kd_rng *r, int n)
{
    return (int)kd_rng_below(r, (uint32_t)n);
}

/* Noise, or waves with noise, or few colours: what histograms, warps and thresholds each need. */
static void make_picture(kd_rng *r, int w, int h, uint8_t *rgb)
{
    const int kind = below(r, 3), levels = 2 + below(r, 6), fx = 1 + below(r, 9), fy = 1 + below(r, 9);
    for (int i = 0; i < w * h * 3; i++) {
        const int wave = (fx * (i / 3 % w) + fy * (i / 3 / w) + 60 * (i % 3)) % 256, noise = below(r, 256);
        const int v = kind == 0 ? noise : kind == 1 ? (3 * wave + noise) / 4 : wave * levels / 256 * 255 / levels;
        rgb[i] = (uint8_t)v;
    }
}

/* ---- RandAugment ----------------------------------------------------------------------------- */

/* The same numbers that kd_augment_draw takes from the sequence, as timm's code asks for them. */
static void put_draws(output *o, const kd_rand_augment *policy, kd_rng rng)
{
    (void)fprintf(o->lines, "\"ops\": [");
    for (int k = 0; k < policy->ops; k++) {
        const int op = below(&rng, KD_AUGMENT_OPS);
        const double out = kd_rng_uniform(&rng);
        const double level = (double)policy->magnitude + policy->std * kd_rng_normal(&rng);
        const double negate = kd_rng_uniform(&rng);
        (void)fprintf(o->lines, "%s[%d, %.17g, %.17g, %.17g]", k > 0 ? ", " : "", op, out, level, negate);
    }
    (void)fprintf(o->lines, "]");
}

static void augmented(output *o, uint32_t number)
{
    static const char *const POLICY[] = {"rand-m7-n4-mstd0.5-inc1", "rand-m9-n3-mstd0.5", "rand-m10-n6-mstd2-inc1"};
    static uint8_t picture[3][LARGEST * LARGEST * 3];
    kd_rng r = draws_of(1, number);
    const int w = 1 + below(&r, LARGEST), h = 1 + below(&r, LARGEST);
    const size_t n = (size_t)(w * h) * 3;
    const char *text = POLICY[number % KD_COUNTOF(POLICY)];
    const kd_warp warp = number / 3 % 2 != 0 ? KD_WARP_BILINEAR : KD_WARP_BICUBIC;
    kd_rand_augment policy;
    kd_augment_plan plan;
    must(kd_rand_augment_parse(text, &policy, NULL) == KD_OK, text);
    make_picture(&r, w, h, picture[0]);
    (void)fprintf(o->lines, "{\"kind\": \"augment\", \"at\": %zu, \"w\": %d, \"h\": %d, \"policy\": \"%s\", ", o->at, w,
                  h, text);
    (void)fprintf(o->lines, "\"warp\": \"%s\", ", warp == KD_WARP_BILINEAR ? "bilinear" : "bicubic");
    put_draws(o, &policy, r);
    (void)fprintf(o->lines, "}\n");
    kd_augment_draw(&policy, &r, &plan);
    put(o, picture[0], n);
    int at = 0;
    for (int k = 0; k < plan.n; k++) {
        const int next = at == 1 ? 2 : 1;
        kd_augment_apply(&plan.step[k], warp, picture[at], w, h, picture[next]);
        at = next;
    }
    put(o, picture[at], n);
}

/* ---- resizes --------------------------------------------------------------------------------- */

static void resized(output *o, uint32_t number)
{
    static uint8_t in[LARGEST * LARGEST * 3], out[LARGEST * LARGEST * 3];
    static const char *const NAME[] = {"opencv", "pillow_bilinear", "pillow_bicubic"};
    kd_rng r = draws_of(2, number);
    const int w = 1 + below(&r, LARGEST), h = 1 + below(&r, LARGEST);
    const int bw = 1 + below(&r, w), bh = 1 + below(&r, h), x = below(&r, w - bw + 1), y = below(&r, h - bh + 1);
    const int ow = number % 5 == 0 ? bw : 1 + below(&r, LARGEST), oh = number % 7 == 0 ? bh : 1 + below(&r, LARGEST);
    const int rule = (int)number % 3;
    kd_image_resizer *resizer = NULL;
    make_picture(&r, w, h, in);
    must(kd_image_resizer_create((kd_resizer)rule, bw, bh, ow, oh, &resizer, NULL) == KD_OK, "no resizer");
    kd_image_resize(resizer, in + (y * w + x) * 3, (size_t)w * 3, out, 0);
    kd_image_resizer_free(resizer);
    (void)fprintf(
        o->lines,
        "{\"kind\": \"resize\", \"at\": %zu, \"rule\": \"%s\", \"w\": %d, \"h\": %d, \"box\": [%d, %d, %d, %d], "
        "\"ow\": %d, \"oh\": %d}\n",
        o->at, NAME[rule], w, h, x, y, bw, bh, ow, oh);
    put(o, in, (size_t)(w * h) * 3);
    put(o, out, (size_t)(ow * oh) * 3);
}

/* ---- random erasing -------------------------------------------------------------------------- */

/* The numbers that a frame's boxes take from the sequence, as timm's code asks for them. */
static void put_erase(output *o, const kd_clip_opts *v, kd_rng r)
{
    const double u = kd_rng_uniform(&r);
    int boxes = 0;
    (void)fprintf(o->lines, "{\"u\": %.17g", u);
    if (u < v->erase_prob) {
        boxes = v->erase_count > 1 ? 1 + below(&r, v->erase_count) : 1;
        (void)fprintf(o->lines, ", \"count\": %d", boxes);
    }
    (void)fprintf(o->lines, ", \"tries\": [");
    const char *comma = "";
    for (int k = 0; k < boxes; k++) {
        for (int attempt = 0; attempt < 10; attempt++) {
            const double share = kd_rng_range(&r, 0.02, 1.0 / 3.0);
            const double log_ratio = kd_rng_range(&r, log(0.3), log(1.0 / 0.3));
            int bw, bh;
            (void)fprintf(o->lines, "%s[%.17g, %.17g", comma, share, log_ratio);
            comma = ", ";
            if (kd_crop_area_size(SIDE, SIDE, share / (double)boxes, log_ratio, &bh, &bw) && bh < SIDE && bw < SIDE) {
                const int top = below(&r, SIDE - bh + 1);
                (void)fprintf(o->lines, ", %d, %d]", top, below(&r, SIDE - bw + 1));
                break;
            }
            (void)fprintf(o->lines, "]");
        }
    }
    (void)fprintf(o->lines, "]}");
}

/* Erased by the model's first op: patches of one pixel are the picture. */
static void erase(const float *clip, const int32_t *place, int width, float *out)
{
    const kd_patchify_attr attr = {.tubelet = 1, .patch = 1};
    kd_backend *be = NULL;
    kd_program *p = NULL;
    kd_err err = {0};
    must(kd_backend_cpu_open(1, &be, &err) == KD_OK, err.msg);
    kd_params *params = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = params, .dtype = KD_F32});
    kd_val in[6] = {{0}};
    in[0] = kd_input(g, "clip", KD_F32, kd_shape5(1, 3, FRAMES, SIDE, SIDE));
    in[2] = kd_input(g, "place", KD_I32, kd_shape2(1, width));
    kd_output(g, "rows", kd_node(g, KD_OP_PATCHIFY, &attr, in, 6, NULL));
    must(kd_program_compile(g, be, &(kd_compile_opts){0}, &p, &err) == KD_OK, err.msg);
    const size_t n = (size_t)3 * FRAMES * SIDE * SIDE;
    must(kd_program_write(p, "clip", clip, n * sizeof *clip) == KD_OK, "clip");
    must(kd_program_write(p, "place", place, (size_t)width * sizeof *place) == KD_OK, "place");
    must(kd_program_run(p, NULL) == KD_OK && kd_program_read_f32(p, "rows", out, n) == KD_OK, "rows");
    kd_program_free(p);
    kd_params_free(params);
    kd_backend_close(be);
}

/* Colours of the boxes of a frame, three numbers each. */
static void put_colours(output *o, const int32_t *place, int frame, int count)
{
    (void)fprintf(o->lines, ", \"colours\": [");
    for (int i = 0; i < 3 * count; i++) {
        const int slot = frame * count + i / 3, all = FRAMES * count;
        const float v = (float)kd_place_fill(place, 0, ((int64_t)frame * all + slot) * 3 + i % 3);
        (void)fprintf(o->lines, "%s%.9g", i > 0 ? ", " : "", (double)v);
    }
    (void)fprintf(o->lines, "]");
}

static void erased(output *o, uint32_t number)
{
    static const char *const MODE[] = {"pixel", "rand", "const"};
    static float clip[3 * FRAMES * SIDE * SIDE], out[3 * FRAMES * SIDE * SIDE];
    kd_clip_source s = {.mode = KD_CLIP_TRAIN, .spec.side = SIDE, .rule.frames = FRAMES};
    kd_clip_opts *v = &s.spec.video;
    const kd_item item = {.sample = number, .epoch = 3};
    int32_t place[KD_PLACE + KD_BOX * FRAMES * 8];
    s.spec.seed = 7;
    v->erase_prob = 0.7;
    v->erase_mode = (kd_erase_mode)(number % 3);
    v->erase_count = 1 + (int)(number / 3 % 4);
    kdi_clip_place(&s, &item, place);
    kd_rng r = draws_of(3, number);
    for (size_t i = 0; i < KD_COUNTOF(clip); i++) {
        clip[i] = (float)kd_rng_range(&r, -2.0, 2.0);
    }
    erase(clip, place, kd_clip_place_width(v, FRAMES), out);
    (void)fprintf(o->lines, "{\"kind\": \"erase\", \"at\": %zu, \"mode\": \"%s\", \"max_count\": %d, \"prob\": %.17g, ",
                  o->at, MODE[number % 3], v->erase_count, v->erase_prob);
    (void)fprintf(o->lines, "\"frames\": %d, \"side\": %d, \"draws\": [", FRAMES, SIDE);
    for (int t = 0; t < FRAMES; t++) {
        (void)fprintf(o->lines, "%s", t > 0 ? ", " : "");
        put_erase(o, v, kdi_clip_draws(&s, &item, KDI_DRAW_ERASE_FRAMES + (uint64_t)t * KDI_DRAWS_PER_FRAME));
    }
    (void)fprintf(o->lines, "], \"fills\": [");
    for (int t = 0; t < FRAMES; t++) {
        (void)fprintf(o->lines, "%s{\"frame\": %d", t > 0 ? ", " : "", t);
        put_colours(o, place, t, v->erase_count);
        (void)fprintf(o->lines, "}");
    }
    (void)fprintf(o->lines, "]}\n");
    put(o, clip, sizeof clip);
    put(o, out, sizeof out);
}

int main(int argc, char **argv)
{
    char path[1024];
    output o = {0};
    must(argc == 2, "expected a folder");
    (void)snprintf(path, sizeof path, "%s/cases.jsonl", argv[1]);
    o.lines = fopen(path, "w");
    (void)snprintf(path, sizeof path, "%s/bytes.bin", argv[1]);
    o.bytes = fopen(path, "wb");
    must(o.lines != NULL && o.bytes != NULL, "the folder cannot be written to");
    for (uint32_t i = 0; i < AUGMENTED; i++) {
        augmented(&o, i);
    }
    for (uint32_t i = 0; i < RESIZED; i++) {
        resized(&o, i);
    }
    for (uint32_t i = 0; i < ERASED; i++) {
        erased(&o, i);
    }
    must(fclose(o.lines) == 0 && fclose(o.bytes) == 0, "the files cannot be written");
    return 0;
}
