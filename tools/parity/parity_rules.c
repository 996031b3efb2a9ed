/* Parity of what surrounds the models: parameter groups, schedules, position tables, crop rules, resizing, merging. */
#include "configs/schema/kd_config.h"
#include "formats/base/merge.h"
#include "formats/video/image.h"
#include "kernels/kd_schedule.h"
#include "teacher/clip/crops.h"
#include "tools/parity/parity_gen.h"
#include "tools/parity/parity_net.h"

#include <math.h>
#include <stdio.h>

/* ---- layer-wise learning rates --------------------------------------------------------------- */

kd_status kd_parity_declare_depth(const kd_json *list, int depth, kd_params *params, kd_err *err)
{
    const kd_vit_cfg cfg = {.img_size = 32,
                            .frames = 2,
                            .patch = 16,
                            .tubelet = 2,
                            .dim = 16,
                            .depth = depth,
                            .heads = 2,
                            .mlp_hidden = 32,
                            .classes = 3,
                            .eps = 1e-6f,
                            .fc_norm_eps = 1e-6f,
                            .init_scale = 1.0f,
                            .init_values = kd_json_get(list, "blocks.0.gamma_1") != NULL ? 0.1f : 0.0f,
                            .qkv_bias = kd_json_get(list, "blocks.0.attn.q_bias") != NULL,
                            .cos_attn = kd_json_get(list, "blocks.0.attn.scale") != NULL,
                            .learnable_pos = kd_json_get(list, "pos_embed") != NULL,
                            .cls_pooling = kd_json_get(list, "fc_norm.weight") == NULL};
    const kd_graph_opts go = {.params = params, .dtype = KD_F32};
    kd_graph *g = kd_graph_create(&go);
    if (g == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    (void)kd_vit_build(g, &cfg, &(kd_vit_input){.clip = kd_input(g, "input", KD_F32, kd_shape5(1, 3, 2, 32, 32))});
    const kd_err *bad = kd_graph_error(g);
    const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
    kd_graph_free(g);
    return st;
}

kd_status kd_parity_layer_decay(parity *p, kd_err *err)
{
    const kd_json *list = NULL;
    double decay = 1.0, worst = 0.0;
    int64_t depth = 0;
    int ids = 0, groups = 0, unknown = 0;
    kd_status st = KD_OK;
    kd_params *params = kd_params_create(KD_F32);
    if (params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    KD_GO(kd_json_get_object(p->manifest, "params", &list, err));
    KD_GO(kd_json_get_f64(p->manifest, "layer_decay", &decay, err));
    KD_GO(kd_json_get_range(p->manifest, "depth", 1, 200, &depth, err));
    KD_GO(kd_parity_declare_depth(list, (int)depth, params, err));
    kd_vit_param_groups(params, (int)depth, (float)decay);
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const kd_json *e = kd_json_at(list, i);
        const int at = kd_params_find(params, kd_json_key(e));
        int64_t layer = 0;
        double scale = 0.0, wd = 0.0;
        KD_GO(kd_json_get_i64(e, "layer", &layer, err));
        KD_GO(kd_json_get_f64(e, "scale", &scale, err));
        KD_GO(kd_json_get_f64(e, "wd", &wd, err));
        if (at < 0) {
            unknown++;
            continue;
        }
        const kd_param_info *info = kd_params_at(params, at);
        const double off = fabs((double)info->lr_scale - scale) / scale;
        worst = off <= worst ? worst : off;
        ids += kd_vit_layer_id(info->name, (int)depth) != (int)layer;
        groups += info->decay != (wd != 0.0);
    }
    kd_parity_check(p, "parameter names", unknown == 0 && (size_t)kd_params_count(params) == kd_json_count(list), NULL);
    kd_parity_check(p, "layer of every parameter", ids == 0, NULL);
    kd_parity_check(p, "weight decay of every parameter", groups == 0, NULL);
    kd_parity_item(p, "learning rate factors, relative", worst, 0x1p-24 * (double)(depth + 2));
done:
    kd_params_free(params);
    return st;
}

/* ---- schedules ------------------------------------------------------------------------------- */

static kd_status one_schedule(parity *p, const kd_json *c, kd_err *err)
{
    const char *name = kd_json_key(c);
    const kd_json *args = NULL;
    kd_st_file *f = NULL;
    int64_t *at = NULL, epochs = 0, steps = 0, warmup_epochs = 0, warmup_steps = -1;
    double *want = NULL, worst = 0.0;
    char key[128], val[128];
    kd_schedule s = {.kind = KD_SCHEDULE_COSINE_STEP};
    kd_status st = KD_OK;
    KD_GO(kd_json_get_object(c, "args", &args, err));
    KD_GO(kd_json_get_f64(args, "base_value", &s.lr, err));
    KD_GO(kd_json_get_f64(args, "final_value", &s.min_lr, err));
    KD_GO(kd_json_get_range(args, "epochs", 1, 100000, &epochs, err));
    KD_GO(kd_json_get_range(args, "niter_per_ep", 1, 10000000, &steps, err));
    KD_GO(kd_json_opt_i64(args, "warmup_epochs", 0, &warmup_epochs, err));
    KD_GO(kd_json_opt_i64(args, "warmup_steps", -1, &warmup_steps, err));
    KD_GO(kd_json_opt_f64(args, "start_warmup_value", 0.0, &s.warmup_lr, err));
    s.steps_per_epoch = steps;
    s.epochs = epochs;
    s.warmup_steps = warmup_steps > 0 ? warmup_steps : warmup_epochs * steps; /* the reference's own rule */
    (void)snprintf(key, sizeof key, "%s_idx", name);
    (void)snprintf(val, sizeof val, "%s_val", name);
    const bool sampled = kd_parity_open(p, key, &f, NULL) == KD_OK;
    if (!sampled) {
        KD_GO(kd_parity_open(p, name, &f, err));
    } else {
        KD_GO(kd_parity_ints(f, key, 0, &at, err));
    }
    const kd_st_entry *e = kd_st_find(f, sampled ? val : name);
    const size_t n = e != NULL ? e->count : 0;
    KD_GO(kd_parity_tensor(f, sampled ? val : name, n, &want, err));
    if (sampled && kd_st_find(f, key)->count != n) {
        st = KD_FAIL(err, KD_E_DATA, "%s and %s differ in length", key, val);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        const double off = fabs(kd_schedule_lr(&s, sampled ? at[i] : (int64_t)i) - want[i]);
        worst = off <= worst ? worst : off;
    }
    kd_parity_item(p, name, worst, 1e-14 * fmax(fabs(s.lr), fabs(s.min_lr)));
done:
    kd_free(at);
    kd_free(want);
    kd_st_close(f);
    return st;
}

kd_status kd_parity_cosine(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *c = kd_json_at(p->manifest, i);
        if (kd_json_get(kd_json_get(c, "args"), "base_value") == NULL) {
            kd_parity_skip(p, kd_json_key(c), "no schedule of this kind");
            continue;
        }
        KD_TRY(one_schedule(p, c, err));
    }
    return KD_OK;
}

/* ---- position tables ------------------------------------------------------------------------- */

static kd_status one_table(parity *p, const kd_json *c, kd_err *err)
{
    const char *name = kd_json_key(c);
    int64_t shape[2], *rows = NULL, *cols = NULL;
    double l2 = 0.0, sum = 0.0, want_l2 = 0.0, want_sum = 0.0, worst = 0.0, *want = NULL;
    char key[3][128];
    float *table = NULL;
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_json_get_i64s(c, "shape", shape, 2, err));
    KD_GO(kd_json_get_f64(c, "l2", &want_l2, err));
    KD_GO(kd_json_get_f64(c, "sum", &want_sum, err));
    if (shape[0] < 1 || shape[1] < 1 || shape[0] > 1 << 20 || shape[1] > 1 << 14) {
        st = KD_FAIL(err, KD_E_DATA, "%s: table of %lld x %lld", name, (long long)shape[0], (long long)shape[1]);
        goto done;
    }
    const size_t n = (size_t)shape[0] * (size_t)shape[1];
    static const char *const PART[] = {"rows", "cols", "vals"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(key[i], sizeof key[i], "%s_%s", name, PART[i]);
    }
    KD_GO(kd_parity_open(p, key[0], &f, err));
    KD_GO(kd_parity_ints(f, key[0], 0, &rows, err));
    KD_GO(kd_parity_ints(f, key[1], 0, &cols, err));
    const size_t nr = kd_st_find(f, key[0])->count, nc = kd_st_find(f, key[1])->count;
    KD_GO(kd_parity_tensor(f, key[2], nr * nc, &want, err));
    table = kd_alloc(n * sizeof *table);
    if (table == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    kd_vit_sinusoid(shape[0], shape[1], table);
    for (size_t i = 0; i < nr * nc; i++) {
        const int64_t r = rows[i / nc], k = cols[i % nc];
        const bool inside = r >= 0 && r < shape[0] && k >= 0 && k < shape[1];
        const double off = inside ? fabs((double)table[r * shape[1] + k] - want[i]) : NAN;
        worst = off <= worst ? worst : off;
    }
    for (size_t i = 0; i < n; i++) {
        l2 += (double)table[i] * (double)table[i];
        sum += (double)table[i];
    }
    char text[160];
    (void)snprintf(text, sizeof text, "%s values", name);
    kd_parity_item(p, text, worst, 1e-7);
    (void)snprintf(text, sizeof text, "%s l2", name);
    kd_parity_item(p, text, fabs(sqrt(l2) - want_l2), 1e-7 * want_l2);
    (void)snprintf(text, sizeof text, "%s sum", name);
    kd_parity_item(p, text, fabs(sum - want_sum), 1e-7 * sqrt((double)n));
done:
    kd_free(rows);
    kd_free(cols);
    kd_free(want);
    kd_free(table);
    kd_st_close(f);
    return st;
}

kd_status kd_parity_sinusoid(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        KD_TRY(one_table(p, kd_json_at(p->manifest, i), err));
    }
    return KD_OK;
}

/* ---- sizes and crops ------------------------------------------------------------------------- */

static kd_status one_picture(parity *p, const kd_json *c, kd_err *err)
{
    int64_t rh = 0, rw = 0, cx = 0, cy = 0, offset[64];
    int height = 0, width = 0, w = 0, h = 0;
    const char *axis = NULL;
    KD_TRY(kd_json_get_i64(c, "resized_h", &rh, err));
    KD_TRY(kd_json_get_i64(c, "resized_w", &rw, err));
    KD_TRY(kd_json_get_str(c, "axis", &axis, err));
    KD_TRY(kd_json_get_i64(c, "val_center_x", &cx, err));
    KD_TRY(kd_json_get_i64(c, "val_center_y", &cy, err));
    const size_t crops = KD_MIN(kd_json_count(kd_json_get(c, "offsets")), KD_COUNTOF(offset));
    KD_TRY(kd_json_get_i64s(c, "offsets", offset, crops, err));
    if (sscanf(kd_json_key(c), "%dx%d", &height, &width) != 2 || height < 1 || width < 1) {
        return KD_FAIL(err, KD_E_DATA, "'%s': expected a size as HxW", kd_json_key(c));
    }
    const int side = (int)KD_MIN(rh, rw);
    kd_image_short_side(width, height, side, &w, &h);
    bool ok = w == (int)rw && h == (int)rh;
    for (size_t i = 0; i < crops; i++) {
        const kd_crop_box b = kd_crop_test(KD_CROPS_VIDEOMAE, (int)rw, (int)rh, side, (int)i, (int)crops);
        ok = ok && b.x == (axis[0] == 'x' ? (int)offset[i] : 0) && b.y == (axis[0] == 'y' ? (int)offset[i] : 0);
    }
    const kd_crop_box b = kd_crop_center((int)rw, (int)rh, side);
    ok = ok && b.x == (int)cx && b.y == (int)cy && b.width == side && b.height == side;
    kd_parity_check(p, kd_json_key(c), ok, "size, crops, centre");
    return KD_OK;
}

kd_status kd_parity_spatial(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        KD_TRY(one_picture(p, kd_json_at(p->manifest, i), err));
    }
    return KD_OK;
}

static kd_status one_resize(parity *p, const kd_json *c, kd_err *err)
{
    int64_t in[2], out[2];
    const char *name = NULL, *crc = NULL, *in_crc = NULL;
    uint8_t *src = NULL, *dst = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_json_get_i64s(c, "in_hw", in, 2, err));
    KD_GO(kd_json_get_i64s(c, "out_hw", out, 2, err));
    KD_GO(kd_json_get_str(c, "name", &name, err));
    KD_GO(kd_json_get_str(c, "in_crc32", &in_crc, err));
    KD_GO(kd_json_get_str(c, "out_crc32", &crc, err));
    if (in[0] < 1 || in[1] < 1 || out[0] < 1 || out[1] < 1 ||
        KD_MAX(KD_MAX(in[0], in[1]), KD_MAX(out[0], out[1])) > 8192) {
        st = KD_FAIL(err, KD_E_DATA, "%s: sizes of 1 to 8192 expected", name);
        goto done;
    }
    const size_t n = 3 * (size_t)in[0] * (size_t)in[1], m = 3 * (size_t)out[0] * (size_t)out[1];
    src = kd_alloc(n);
    dst = kd_alloc(m);
    if (src == NULL || dst == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    kd_parity_gen_picture(kd_crc32(name, strlen(name)), (int)in[0], (int)in[1], src);
    char have[12], what[160];
    (void)snprintf(what, sizeof what, "%s: CRC of picture %s", kd_json_key(c), name);
    KD_GO(kd_parity_crc(p, what, src, n, in_crc));
    KD_GO(kd_image_resize_once(KD_RESIZER_OPENCV, src, (int)in[1], (int)in[0], 3 * (size_t)in[1], dst, (int)out[1],
                               (int)out[0], 3 * (size_t)out[1], err));
    (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(dst, m));
    kd_parity_check(p, kd_json_key(c), strcmp(have, crc) == 0, "bytes of the resized picture");
done:
    kd_free(src);
    kd_free(dst);
    return st;
}

kd_status kd_parity_resize(parity *p, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        KD_TRY(one_resize(p, kd_json_at(p->manifest, i), err));
    }
    return KD_OK;
}

/* ---- merging of views ------------------------------------------------------------------------ */

static kd_status one_merge(parity *p, const kd_st_file *f, const kd_st_entry *logits, kd_cfg_merge rule, kd_err *err)
{
    const size_t videos = (size_t)logits->dim[0], views = (size_t)logits->dim[1], k = (size_t)logits->dim[2];
    const bool prob = rule == KD_MERGE_PROB;
    const kd_json *pred = kd_json_get(kd_json_get(p->manifest, prob ? "prob" : "score"), "pred");
    double *want = NULL, *rows = NULL;
    float *in = kd_calloc(views * k, sizeof *in), *got = kd_calloc(videos * k, sizeof *got);
    double *work = kd_calloc(2 * k, sizeof *work);
    size_t wrong = 0;
    kd_status st = in != NULL && got != NULL && work != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    if (st != KD_OK) {
        goto done;
    }
    KD_GO(kd_parity_tensor(f, prob ? "mean_prob" : "mean_score", videos * k, &want, err));
    KD_GO(kd_parity_tensor(f, "logits", videos * views * k, &rows, err));
    for (size_t v = 0; v < videos; v++) {
        float *row = got + v * k;
        for (size_t i = 0; i < views * k; i++) {
            in[i] = (float)rows[v * views * k + i];
        }
        kd_merge_logits(in, (int)views, k, !prob, work, row);
        size_t best = 0;
        for (size_t i = 0; i < k; i++) {
            row[i] = prob ? (float)exp((double)row[i]) : row[i];
            best = row[i] > row[best] ? i : best;
        }
        int64_t expected = -1;
        wrong += pred != NULL &&
                 (kd_json_as_i64(kd_json_at(pred, v), &expected, NULL) != KD_OK || (int64_t)best != expected);
    }
    kd_parity_f32(p, prob ? "mean of probabilities" : "mean of scores", got, want, videos * k, 0.0);
    kd_parity_item(p, prob ? "classes by probability" : "classes by score", (double)wrong, 0.0);
done:
    kd_free(want);
    kd_free(rows);
    kd_free(work);
    kd_free(in);
    kd_free(got);
    return st;
}

kd_status kd_parity_merge(parity *p, kd_err *err)
{
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_parity_open(p, "mean_prob", &f, err));
    const kd_st_entry *e = kd_st_find(f, "logits");
    if (e == NULL || e->rank != 3 || e->count == 0) {
        st = KD_FAIL(err, KD_E_DATA, "logits: expected (videos, views, classes)");
        goto done;
    }
    KD_GO(one_merge(p, f, e, KD_MERGE_PROB, err));
    KD_GO(one_merge(p, f, e, KD_MERGE_SCORE, err));
done:
    kd_st_close(f);
    return st;
}
