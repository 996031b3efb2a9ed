/* Task "teacher": a VideoMAE vision transformer on clips of video frames.
 *
 * Inputs: "clip" u8 (B,T,H,W,3), or f32 (B,3,T,H,W) where training clips are resized on the host; in training "place"
 * i32 (B, kd_clip_place_width) besides (teacher/clip/clip.h). */
#include "formats/video/video.h"

#include "distill/task/classify.h"
#include "distill/task/tasks.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip.h"
#include "teacher/model/teacher.h"
#include "teacher/model/vit_names.h"

#include <stdio.h>

/* ---- the model ------------------------------------------------------------------------------- */

static void clip_input(kd_model *m, const kd_vit_cfg *v, bool resized)
{
    const int64_t t = v->frames, side = v->img_size;
    m->n_inputs = 1;
    m->inputs[0] = "clip";
    m->item[0] = m->train_item[0] = (kd_spec){KD_U8, kd_shape4(t, side, side, 3)};
    if (resized) {
        m->train_item[0] = (kd_spec){KD_F32, kd_shape4(3, t, side, side)};
    }
}

static int video_head_rows(const kd_config *cfg, int rows)
{
    int taken = 0;
    const bool cut = rows == KD_KINETICS_710 && kd_kinetics_rows(cfg->teacher.head_rows, &taken) != NULL;
    return cut ? taken : rows;
}

static kd_status video_open(const kd_config *cfg, kd_model *m, kd_err *err)
{
    kd_vit_cfg *v = kd_calloc(1, sizeof *v);
    m->net = v;
    if (v == NULL) {
        return KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    m->min_match = cfg->teacher.min_match;
    int rows = 0;
    m->head_row = kd_kinetics_rows(cfg->teacher.head_rows, &rows);
    m->head_of = m->head_row != NULL ? KD_KINETICS_710 : 0;
    if (m->head_row != NULL && rows != m->classes) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "teacher.head_rows: takes %d rows, but the data set has %d classes; set it to none", rows,
                       m->classes);
    }
    for (int i = 0; i < cfg->video.flip_labels.n; i++) {
        if (cfg->video.flip_labels.v[i] >= m->classes) {
            return KD_FAIL(err, KD_E_CONFIG, "video.flip_labels: expected labels from 0 to %d, found %d",
                           m->classes - 1, cfg->video.flip_labels.v[i]);
        }
    }
    *v = kd_teacher_model(&cfg->teacher, m->classes, cfg->video.mean, cfg->video.std);
    (void)snprintf(m->name, sizeof m->name, "videomae2-%s", cfg->teacher.variant);
    m->feature_dim = v->dim;
    m->side = v->img_size;
    m->place_width = kd_clip_place_width(&cfg->video, v->frames);
    m->recompute = v->recompute;
    clip_input(m, v, kd_clip_resized(&cfg->video));
    kd_classify_outputs(m);
    return KD_OK;
}

static kd_built video_build(kd_model *m, kd_graph *g, const kd_build *b)
{
    const kd_spec *item = b->training || b->augmented ? &m->train_item[0] : &m->item[0];
    kd_shape clip = {item->shape.rank + 1, {b->batch}};
    memcpy(&clip.dim[1], item->shape.dim, (size_t)item->shape.rank * sizeof clip.dim[0]);
    kd_vit_input in = {.place = KD_NONE, .perm = KD_NONE, .lam = KD_NONE, .cut = KD_NONE};
    if (b->mixed) {
        in.perm = kd_input(g, "perm", KD_I32, kd_shape1(b->batch));
        in.lam = kd_input(g, "lam", KD_F32, kd_shape1(b->batch));
    }
    in.clip = kd_input(g, m->inputs[0], item->dtype, clip);
    if (b->training || b->augmented) {
        in.place = kd_input(g, "place", KD_I32, kd_shape2(b->batch, m->place_width));
    }
    if (b->mixed) {
        in.cut = kd_input(g, "cut", KD_I32, kd_shape2(b->batch, 4));
    }
    const kd_vit_out out = kd_vit_build(g, m->net, &in);
    return (kd_built){.logits = out.logits, .features = out.features};
}

static kd_status video_reshape(const kd_model *m, const char *name, const int64_t *dim, size_t rank, const float *in,
                               float *out, bool *done)
{
    const kd_vit_cfg *v = m->net;
    kd_vit_grid from;
    *done = strcmp(name, "pos_embed") == 0 && rank == 3 && dim[0] == 1 && dim[2] == v->dim &&
            kd_vit_grid_of_tokens(v, dim[1], &from);
    return *done ? kd_vit_table_resize(in, from, kd_vit_grid_of(v), v->dim, out) : KD_OK;
}

static bool video_tap(kd_model *m, const char *name, int *rows, int *width)
{
    kd_vit_cfg *v = m->net;
    const bool temporal = strcmp(name, "temporal") == 0;
    if ((!temporal && strcmp(name, "tokens") != 0) || m->n_outputs >= KD_MODEL_OUTPUTS) {
        return false;
    }
    v->temporal = v->temporal || temporal;
    v->tokens = v->tokens || !temporal;
    *rows = temporal ? v->frames / v->tubelet : (int)kd_vit_tokens(v);
    *width = v->dim;
    m->output[m->n_outputs++] = (kd_model_output){temporal ? "temporal" : "tokens", (int64_t)*rows * *width};
    return true;
}

static void video_groups(kd_model *m, const kd_config *cfg)
{
    kd_vit_param_groups(m->params, ((const kd_vit_cfg *)m->net)->depth, (float)cfg->optim.layer_decay);
}

static const char *video_start(const kd_config *cfg)
{
    return cfg->teacher.weights;
}

static const char *video_start_key(const kd_config *cfg)
{
    return cfg->teacher.weights_key;
}

static const char *video_name(int i)
{
    static const char *const size[] = {"s", "b", "l", "h", "g", "tiny"};
    return i >= 0 && i < (int)KD_COUNTOF(size) ? size[i] : NULL;
}

/* ---- the data -------------------------------------------------------------------------------- */

static int video_views(const kd_config *cfg, char text[24])
{
    const kd_clip_spec spec = kd_config_clip(cfg);
    (void)snprintf(text, 24, "%dx%d%s", spec.clips, spec.crops, spec.flips ? "x2" : "");
    return (int)kd_clip_views(&spec, KD_CLIP_TEST);
}

static void close_source(void *ctx)
{
    kd_clip_source_close(ctx);
}

static kd_status view_of(const void *ctx, uint32_t sample, uint32_t view, kd_store_view *out, int32_t *frames,
                         kd_err *err)
{
    return kd_clip_view(ctx, sample, view, out, frames, err);
}

static kd_status video_source(const kd_config *cfg, const kd_model *m, const kd_half *half, kd_pass pass, bool cached,
                              kd_source *out, kd_err *err)
{
    static const kd_clip_mode mode[] = {
        [KD_PASS_TRAIN] = KD_CLIP_TRAIN, [KD_PASS_VAL] = KD_CLIP_VAL, [KD_PASS_TEST] = KD_CLIP_TEST};
    const kd_clip_spec spec = kd_config_clip(cfg);
    kd_clip_source *s = NULL;
    (void)m;
    *out = (kd_source){.ctx = NULL};
    KD_TRY(kd_clip_source_open(&spec, half, mode[pass], cached ? kd_clip_default_cache() : 0, &s, err));
    *out = (kd_source){.ctx = s,
                       .producer = kd_clip_producer(s),
                       .close = close_source,
                       .view = view_of,
                       .view_frames = cfg->teacher.frames,
                       .memory = kd_clip_memory(s, kd_loader_workers(cfg->train.workers))};
    return KD_OK;
}

static kd_status video_read(const kd_config *cfg, const kd_model *m, const char *path, void *const *dst, kd_err *err)
{
    const kd_clip_spec spec = kd_config_clip(cfg);
    (void)m;
    return kd_clip_read(&spec, path, KD_CLIP_TEST, dst[0], err);
}

/* A named model stands as published: no drop path, clips of bytes. */
static const char *const plain[] = {"teacher.drop_path=0", "video.spatial=short_side_crop",
                                    "video.train_short_side=1024", NULL};

const kd_task kd_task_video = {.kind = "teacher",
                               .program = "teacher",
                               .modality = "rgb",
                               .need = KD_NEED_VIDEO,
                               .replays = true,
                               .start_key = "teacher.weights",
                               .example = "teacher/tiny.yaml",
                               .name_key = "teacher.variant",
                               .name_prefix = "videomae2-",
                               .name_at = video_name,
                               .plain = plain,
                               .depth_key = "teacher.depth",
                               .recompute_key = "teacher.recompute",
                               .open = video_open,
                               .build = video_build,
                               .groups = video_groups,
                               .start = video_start,
                               .start_key_of = video_start_key,
                               .names = &kd_vit_names,
                               .is_head = kd_vit_is_head,
                               .may_be_fresh = kd_vit_may_be_fresh,
                               .match_key = "teacher.min_match",
                               .head_key = "teacher.head_rows",
                               .head_rows = video_head_rows,
                               .table = "pos_embed",
                               .table_key = "teacher.pos_table: stored",
                               .reshape = video_reshape,
                               .views = video_views,
                               .source = video_source,
                               .read = video_read,
                               .target = kd_classify_target,
                               .figure = "top1",
                               .figure_text = "top-1",
                               .gather = kd_classify_gather,
                               .measure = kd_classify_measure,
                               .report = kd_classify_report,
                               .decoder = kd_video_decoder_version,
                               .feature = "fc_norm",
                               .tap = video_tap,
                               .taps = "temporal, tokens"};
