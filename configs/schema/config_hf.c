/* Hugging Face's config.json and a teacher's keys: see config_hf.h.  Values that config.json leaves out are those of
 * transformers' VideoMAEConfig. */
#include "configs/schema/config_hf.h"

#include "formats/weights/hf.h"
#include "teacher/model/teacher.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FC_NORM_EPS "1e-5" /* torch.nn.LayerNorm's default: transformers builds fc_norm without an epsilon */

static const struct pair {
    const char *key, *hf; /* hf NULL: always `absent` */
    const char *absent;
    bool size;        /* that a variant stands for */
    bool may;         /* be another where training starts from the weights */
    const char *also; /* what transformers 5 writes instead; NULL: the same */
} PAIR[] = {
    {"teacher.dim", "hidden_size", "768", true, false, NULL},
    {"teacher.depth", "num_hidden_layers", "12", true, false, NULL},
    {"teacher.heads", "num_attention_heads", "12", true, false, NULL},
    {"teacher.mlp_hidden", "intermediate_size", "3072", true, false, NULL},
    {"teacher.img_size", "image_size", "224", true, true, NULL},
    {"teacher.patch", "patch_size", "16", true, false, NULL},
    {"teacher.frames", "num_frames", "16", true, true, NULL},
    {"teacher.tubelet", "tubelet_size", "2", true, false, NULL},
    {"teacher.norm_eps", "layer_norm_eps", "1e-12", false, false, NULL},
    {"teacher.fc_norm_eps", NULL, FC_NORM_EPS, false, false, NULL},
    {"teacher.qkv_bias", "qkv_bias", "true", false, false, "qv_bias"},
    {"teacher.pooling", "use_mean_pooling", "mean", false, false, NULL},
};

static const char *const PIXELS[][2] = {{"video.mean", "image_mean"}, {"video.std", "image_std"}};

void kd_cfg_hf_free(kd_cfg_hf *hf)
{
    kd_json_free(hf->config);
    kd_json_free(hf->processor);
    *hf = (kd_cfg_hf){NULL, NULL};
}

/* ---- what config.json says ------------------------------------------------------------------- */

static kd_status unfit(const kd_json *v, const char *expected, kd_err *err)
{
    char at[200];
    kd_json_where(v, at, sizeof at);
    return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s", at, expected);
}

/* Value of a pair as the recipe would spell it. */
static kd_status value_of(const kd_json *config, const struct pair *p, char *buf, size_t size, kd_err *err)
{
    const kd_json *v = p->hf != NULL ? kd_json_get(config, p->hf) : NULL;
    v = v == NULL && p->also != NULL ? kd_json_get(config, p->also) : v;
    int64_t n = 0;
    double x = 0;
    bool yes = false;
    if (kd_json_type_of(v) == KD_JSON_ARRAY && kd_json_count(v) == 2) { /* [224, 224] */
        int64_t other = 0;
        if (kd_json_as_i64(kd_json_at(v, 0), &n, NULL) != KD_OK ||
            kd_json_as_i64(kd_json_at(v, 1), &other, NULL) != KD_OK || n != other) {
            return unfit(v, "a square", err);
        }
        v = kd_json_at(v, 0);
    }
    if (v == NULL || kd_json_type_of(v) == KD_JSON_NULL) {
        (void)snprintf(buf, size, "%s", p->absent);
    } else if (kd_json_as_bool(v, &yes, NULL) == KD_OK) {
        (void)snprintf(buf, size, "%s",
                       strcmp(p->key, "teacher.pooling") != 0 ? (yes ? "true" : "false")
                       : yes                                  ? "mean"
                                                              : "cls");
    } else if (kd_json_as_i64(v, &n, NULL) == KD_OK) {
        (void)snprintf(buf, size, "%lld", (long long)n);
    } else if (kd_json_as_f64(v, &x, NULL) == KD_OK) {
        (void)snprintf(buf, size, "%.17g", x);
    } else {
        return unfit(v, "a number or true or false", err);
    }
    return KD_OK;
}

/* What no teacher of ours can be. */
static kd_status check_kind(const kd_json *config, kd_err *err)
{
    static const char *const must[][2] = {{"model_type", "videomae"}, {"hidden_act", "gelu"}};
    for (size_t i = 0; i < KD_COUNTOF(must); i++) {
        const kd_json *v = kd_json_get(config, must[i][0]);
        const char *text = "";
        char at[200];
        if (v == NULL || (kd_json_as_str(v, &text, NULL) == KD_OK && strcmp(text, must[i][1]) == 0)) {
            continue;
        }
        kd_json_where(v, at, sizeof at);
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, found '%.60s'", at, must[i][1], text);
    }
    int64_t channels = 3;
    const kd_json *v = kd_json_get(config, "num_channels");
    return v == NULL || (kd_json_as_i64(v, &channels, NULL) == KD_OK && channels == 3) ? KD_OK : unfit(v, "3", err);
}

/* The published size that has all these sizes; else "custom". */
static const char *variant_of(const kd_json *config)
{
    const char *name = "custom";
    const kd_teacher_info *t = NULL;
    for (int i = 0; (t = kd_teacher_at(i)) != NULL; i++) {
        const int own[] = {t->dim, t->depth, t->heads, t->mlp_hidden, t->img_size, t->patch, t->frames, t->tubelet};
        bool same = true;
        for (size_t k = 0; k < KD_COUNTOF(own) && same; k++) {
            char text[40], want[40];
            (void)snprintf(want, sizeof want, "%d", own[k]);
            same = value_of(config, &PAIR[k], text, sizeof text, NULL) == KD_OK && strcmp(text, want) == 0;
        }
        name = same ? t->name : name;
    }
    return name;
}

/* "[0.485, 0.456, 0.406]" of the processor; false: it says nothing. */
static bool pixels_of(const kd_json *processor, const char *hf, char *buf, size_t size)
{
    double v[3];
    if (kd_json_get(processor, hf) == NULL || kd_json_get_f64s(processor, hf, v, 3, NULL) != KD_OK) {
        return false;
    }
    (void)snprintf(buf, size, "[%.17g, %.17g, %.17g]", v[0], v[1], v[2]);
    return true;
}

static int short_side_of(const kd_config *cfg)
{
    return cfg->video.short_side > 0 ? cfg->video.short_side : cfg->teacher.img_size;
}

/* Pillow's number. */
static int resample_of(const kd_config *cfg)
{
    enum { BILINEAR = 2, BICUBIC = 3 };
    return cfg->video.resizer == KD_RESIZER_PILLOW_BICUBIC ? BICUBIC : BILINEAR;
}

/* ---- under the recipe ------------------------------------------------------------------------ */

/* Words are quoted in JSON, which a build without libyaml reads too; numbers, true, false and lists are not. */
static const char *quote_of(const char *text)
{
    const bool bare =
        strchr("-.0123456789[", text[0]) != NULL || strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
    return bare ? "" : "\"";
}

static size_t put_member(char *buf, size_t size, bool first, const char *path, const char *text)
{
    const char *q = quote_of(text);
    return (size_t)snprintf(buf, size, "%s\"%s\": %s%s%s", first ? "" : ", ", strchr(path, '.') + 1, q, text, q);
}

/* What the recipe may leave out, as JSON. */
static kd_status layer_text(const kd_cfg_hf *hf, bool variant, char *buf, size_t size, kd_err *err)
{
    char text[100];
    bool first = true;
    size_t n = (size_t)snprintf(buf, size, "{\"teacher\": {");
    if (!variant) {
        n += put_member(buf + n, size - n, first, "teacher.variant", variant_of(hf->config));
        first = false;
    }
    for (size_t i = 0; i < KD_COUNTOF(PAIR); i++) {
        KD_TRY(value_of(hf->config, &PAIR[i], text, sizeof text, err));
        if (!variant || !PAIR[i].size) {
            n += put_member(buf + n, size - n, first, PAIR[i].key, text);
            first = false;
        }
    }
    n += (size_t)snprintf(buf + n, size - n, "}, \"video\": {");
    first = true;
    for (size_t i = 0; i < KD_COUNTOF(PIXELS); i++) {
        if (pixels_of(hf->processor, PIXELS[i][1], text, sizeof text)) {
            n += put_member(buf + n, size - n, first, PIXELS[i][0], text);
            first = false;
        }
    }
    (void)snprintf(buf + n, size - n, "}}");
    return KD_OK;
}

kd_status kd_cfg_hf_under(kd_yaml_tree *t, const char *weights, kd_yaml_node **root, kd_cfg_hf *out, kd_err *err)
{
    char text[1600];
    char *origin = NULL;
    kd_yaml_node *layer = NULL;
    kd_status st = KD_OK;
    *out = (kd_cfg_hf){NULL, NULL};
    KD_GO(kd_hf_config(weights, &out->config, &out->processor, err));
    if (out->config == NULL) {
        return KD_OK;
    }
    KD_GO(check_kind(out->config, err));
    const bool variant = kd_yaml_get(kd_yaml_get(*root, "teacher"), "variant") != NULL;
    KD_GO(layer_text(out, variant, text, sizeof text, err));
    origin = kd_strf("%s: config.json", weights);
    if (origin == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", weights);
        goto done;
    }
    KD_GO(kd_yaml_parse(t, text, strlen(text), origin, &layer, err));
    if (*root != NULL) {
        kd_yaml_merge(layer, *root);
    }
    *root = layer;
done:
    kd_free(origin);
    if (st != KD_OK) {
        kd_cfg_hf_free(out);
    }
    return st;
}

/* ---- against the recipe ---------------------------------------------------------------------- */

/* `text` as the value of a key, spelt as kd_config_yaml spells it; `room`: a config to parse it into. */
static void spelt(const kd_cfg_row *row, const char *text, kd_config *room, char *buf, size_t size)
{
    char what[KD_CFG_WHAT];
    if (kd_cfg_set_item(row, room, 0, text, true, what)) {
        kd_cfg_item_text(row, room, 0, buf, size);
    } else {
        (void)snprintf(buf, size, "%s", text); /* beyond what a recipe may say */
    }
}

static kd_status differs(const char *key, const char *hf, const char *want, const char *found, bool may, kd_err *err)
{
    if (may) {
        kd_log(KD_LOG_WARN, "%s: %s, where the weights were made with %s (%s of their folder)", key, found, want, hf);
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, as %s of the weights' folder says, found %s in the recipe", key,
                   want, hf, found);
}

static kd_status check_pixels(const kd_cfg_hf *hf, const kd_config *cfg, bool start, kd_err *err)
{
    const double *own[] = {cfg->video.mean, cfg->video.std};
    for (size_t i = 0; i < KD_COUNTOF(PIXELS); i++) {
        char want[100], found[100];
        double v[3];
        if (!pixels_of(hf->processor, PIXELS[i][1], want, sizeof want)) {
            continue;
        }
        KD_TRY(kd_json_get_f64s(hf->processor, PIXELS[i][1], v, 3, err));
        if (memcmp(v, own[i], sizeof v) != 0) {
            (void)snprintf(want, sizeof want, "[%g, %g, %g]", v[0], v[1], v[2]);
            (void)snprintf(found, sizeof found, "[%g, %g, %g]", own[i][0], own[i][1], own[i][2]);
            KD_TRY(differs(PIXELS[i][0], PIXELS[i][1], want, found, start, err));
        }
    }
    return KD_OK;
}

/* Steps of the processor that our pictures always take. */
static kd_status check_steps(const kd_json *processor, kd_err *err)
{
    static const char *const step[] = {"do_resize", "do_center_crop", "do_rescale", "do_normalize"};
    for (size_t i = 0; i < KD_COUNTOF(step); i++) {
        const kd_json *v = kd_json_get(processor, step[i]);
        bool yes = true;
        if (v != NULL && kd_json_as_bool(v, &yes, NULL) == KD_OK && !yes) {
            return unfit(v, "true", err);
        }
    }
    const kd_json *v = kd_json_get(processor, "rescale_factor");
    double factor = 1.0 / 255.0;
    const bool ok = v == NULL || (kd_json_as_f64(v, &factor, NULL) == KD_OK && fabs(factor * 255.0 - 1.0) < 1e-6);
    return ok ? KD_OK : unfit(v, "1/255", err);
}

/* Sizes and filter of the processor beside those of the recipe, which are taken. */
static void warn_of_geometry(const kd_json *processor, const kd_config *cfg)
{
    const kd_json *edge = kd_json_get(kd_json_get(processor, "size"), "shortest_edge");
    const kd_json *crop = kd_json_get(processor, "crop_size"), *filter = kd_json_get(processor, "resample");
    int64_t n = 0;
    crop = kd_json_get(crop, "height") != NULL ? kd_json_get(crop, "height") : crop;
    if (kd_json_as_i64(edge, &n, NULL) == KD_OK && n != short_side_of(cfg)) {
        kd_log(KD_LOG_WARN,
               "video.short_side: %d, where the processor of the weights' folder has size.shortest_edge %lld",
               short_side_of(cfg), (long long)n);
    }
    if (kd_json_as_i64(crop, &n, NULL) == KD_OK && n != cfg->teacher.img_size) {
        kd_log(KD_LOG_WARN, "teacher.img_size: %d, where the processor of the weights' folder has crop_size %lld",
               (int)cfg->teacher.img_size, (long long)n);
    }
    if (kd_json_as_i64(filter, &n, NULL) == KD_OK && n != resample_of(cfg)) {
        kd_log(KD_LOG_WARN,
               "video.resizer: as resample %d, where the processor of the weights' folder has resample %lld "
               "(2: bilinear, 3: bicubic)",
               resample_of(cfg), (long long)n);
    }
}

kd_status kd_cfg_hf_check(const kd_cfg_hf *hf, const kd_config *cfg, bool start, kd_err *err)
{
    char want[2 * KD_CFG_PATH + 8], found[sizeof want], text[100];
    kd_status st = KD_OK;
    if (hf->config == NULL) {
        return KD_OK;
    }
    kd_config *room = kd_alloc(sizeof *room);
    if (room == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    *room = *cfg;
    for (size_t i = 0; i < KD_COUNTOF(PAIR); i++) {
        const struct pair *p = &PAIR[i];
        const kd_cfg_row *row = kd_cfg_find(p->key);
        KD_ASSERT(row != NULL);
        KD_GO(value_of(hf->config, p, text, sizeof text, err));
        spelt(row, text, room, want, sizeof want);
        kd_cfg_item_text(row, cfg, 0, found, sizeof found);
        if (strcmp(want, found) != 0) {
            KD_GO(differs(p->key, p->hf != NULL ? p->hf : "transformers' fc_norm", want, found, start && p->may, err));
        }
    }
    KD_GO(check_steps(hf->processor, err));
    if (!start) {
        warn_of_geometry(hf->processor, cfg);
    }
    st = check_pixels(hf, cfg, start, err);
done:
    kd_free(room);
    return st;
}

/* ---- the other way --------------------------------------------------------------------------- */

static void put_value(kd_json *to, const struct pair *p, const kd_config *cfg)
{
    char text[2 * KD_CFG_PATH + 8];
    const kd_cfg_row *row = kd_cfg_find(p->key);
    KD_ASSERT(row != NULL);
    kd_cfg_item_text(row, cfg, 0, text, sizeof text);
    switch (row->type) {
    case KD_CFG_INT:
        kd_json_set_i64(to, p->hf, strtoll(text, NULL, 10));
        break;
    case KD_CFG_REAL:
        kd_json_set_f64(to, p->hf, strtod(text, NULL));
        break;
    default: /* qkv_bias, pooling */
        kd_json_set_bool(to, p->hf, strcmp(text, "true") == 0 || strcmp(text, "mean") == 0);
        break;
    }
}

static void put_labels(kd_json *to, const kd_json *names, int classes)
{
    kd_json *labels = kd_json_set_object(to, "id2label");
    kd_json *back = kd_json_set_object(to, "label2id");
    for (int i = 0; i < classes; i++) {
        char key[32], own[32];
        const char *label = own;
        (void)snprintf(key, sizeof key, "%d", i);
        (void)snprintf(own, sizeof own, "LABEL_%d", i);
        if (kd_json_as_str(kd_json_at(names, (size_t)i), &label, NULL) != KD_OK) {
            label = own;
        }
        kd_json_set_str(labels, key, label);
        kd_json_set_i64(back, label, i);
    }
}

kd_status kd_config_to_hf(const kd_config *cfg, const kd_json *names, int classes, kd_json *config, kd_json *processor,
                          kd_err *err)
{
    const bool table = cfg->teacher.pos_table != KD_POS_TABLE_EXACT; /* transformers computes its own */
    if (cfg->kind != KD_KIND_TEACHER || cfg->teacher.init_values > 0.0 || cfg->teacher.cos_attn || table) {
        return KD_FAIL(err, KD_E_ARG, "%s: transformers' VideoMAE has no such model (%s)", cfg->name,
                       cfg->kind != KD_KIND_TEACHER     ? "a student"
                       : cfg->teacher.init_values > 0.0 ? "teacher.init_values"
                       : cfg->teacher.cos_attn          ? "teacher.cos_attn"
                                                        : "teacher.pos_table");
    }
    kd_json *arch = kd_json_set_array(config, "architectures");
    kd_json_push_str(arch, classes > 0 ? "VideoMAEForVideoClassification" : "VideoMAEModel");
    kd_json_set_str(config, "model_type", "videomae");
    for (size_t i = 0; i < KD_COUNTOF(PAIR); i++) {
        if (PAIR[i].hf != NULL) {
            put_value(config, &PAIR[i], cfg);
        }
    }
    kd_json_set_i64(config, "num_channels", 3);
    kd_json_set_str(config, "hidden_act", "gelu");
    kd_json_set_f64(config, "hidden_dropout_prob", 0.0);
    kd_json_set_f64(config, "attention_probs_dropout_prob", 0.0);
    kd_json_set_f64(config, "initializer_range", 0.02);
    if (classes > 0) {
        put_labels(config, names, classes);
    }
    kd_json_set_str(processor, "image_processor_type", "VideoMAEImageProcessor");
    kd_json_set_bool(processor, "do_resize", true);
    kd_json_set_i64(kd_json_set_object(processor, "size"), "shortest_edge", short_side_of(cfg));
    kd_json_set_i64(processor, "resample", resample_of(cfg));
    if (cfg->video.resizer == KD_RESIZER_OPENCV) {
        kd_log(KD_LOG_INFO, "video.resizer: opencv, which transformers' image processor does not have; the folder says "
                            "bilinear with antialiasing, so pictures made smaller differ a little");
    }
    kd_json_set_bool(processor, "do_center_crop", true);
    kd_json *crop = kd_json_set_object(processor, "crop_size");
    kd_json_set_i64(crop, "height", cfg->teacher.img_size);
    kd_json_set_i64(crop, "width", cfg->teacher.img_size);
    kd_json_set_bool(processor, "do_rescale", true);
    kd_json_set_f64(processor, "rescale_factor", 1.0 / 255.0);
    kd_json_set_bool(processor, "do_normalize", true);
    kd_json_set_f64s(processor, "image_mean", cfg->video.mean, 3);
    kd_json_set_f64s(processor, "image_std", cfg->video.std, 3);
    return kd_json_ok(config) && kd_json_ok(processor) ? KD_OK : KD_FAIL(err, KD_E_OOM, "config.json: out of memory");
}
