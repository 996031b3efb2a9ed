/* Task "student": a model of the LAST family on skeleton sequences.
 *
 * Inputs: the streams the model names ("joint", "velocity", "bone"), f32 (B,3,frames,joints,bodies).  Where the
 * training sequences stay on the device: "table" (S,3,frames,joints,bodies), "sample" i32 (B), "draw" and "idraw"
 * (skeleton_streams of kernels/kd_ops.h). */
#include "distill/task/classify.h"
#include "distill/task/tasks.h"
#include "kernels/kd_ops.h"
#include "student/model/student.h"
#include "student/skeleton/sequence.h"

#include <stdio.h>

typedef struct net {
    kd_sequence_spec sequence;
    kd_student_cfg student;           /* its layout is that of `sequence` */
    char stream[KD_CFG_NAME];         /* student.stream */
    kd_skeleton_streams_attr streams; /* how kept sequences become streams */
    float temperature;                /* eval.temperature */
} net;

/* ---- the model ------------------------------------------------------------------------------- */

static bool takes(const kd_config *cfg, const kd_student_info *info, const char *stream)
{
    int i = 0;
    while (i < info->n_streams && strcmp(kd_student_stream(info, cfg->student.stream, i), stream) != 0) {
        i++;
    }
    return i < info->n_streams;
}

/* Keys that do nothing for this model. */
static kd_status check_idle(const kd_config *cfg, const kd_student_info *info, kd_err *err)
{
    const struct {
        const char *key, *lacks;
        double value;
        bool idle;
    } key[] = {
        {"student.drop_path", "has no residual branch to drop", cfg->student.drop_path, info->drop_path < 0.0f},
        {"kd.ib_weight", "has no information bottleneck", cfg->kd.ib_weight, info->latent == 0},
        {"skeleton_aug.noise_velocity", "takes no velocities", cfg->skeleton_aug.noise_velocity,
         !takes(cfg, info, "velocity")},
        {"skeleton_aug.noise_joint", "takes no joints", cfg->skeleton_aug.noise_joint, !takes(cfg, info, "joint")},
        {"skeleton_aug.noise_bone", "takes no bones", cfg->skeleton_aug.noise_bone, !takes(cfg, info, "bone")},
        {"skeleton_aug.noise_bone_velocity", "takes no velocities of bones", cfg->skeleton_aug.noise_bone_velocity,
         !takes(cfg, info, "bone_velocity")},
    };
    for (size_t i = 0; i < KD_COUNTOF(key); i++) {
        if (key[i].value > 0.0 && key[i].idle) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: %g, but %s %s; set it to 0", key[i].key, key[i].value, info->name,
                           key[i].lacks);
        }
    }
    if (info->n_streams > 1 && strcmp(cfg->student.stream, kd_stream_name(0)) != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "student.stream: %s, but %s reads %d streams of its own; leave it at %s",
                       cfg->student.stream, info->name, info->n_streams, kd_stream_name(0));
    }
    return KD_OK;
}

static kd_status skeleton_open(const kd_config *cfg, kd_model *m, kd_err *err)
{
    const kd_student_info *info = kd_student_find(cfg->student.name);
    net *n = kd_calloc(1, sizeof *n);
    m->net = n;
    if (info == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "student.name: %s is not in this build", cfg->student.name);
    }
    if (n == NULL) {
        return KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    KD_TRY(check_idle(cfg, info, err));
    (void)snprintf(n->stream, sizeof n->stream, "%s", cfg->student.stream);
    n->sequence = kd_config_sequence(cfg);
    n->student = (kd_student_cfg){.model = info,
                                  .classes = m->classes,
                                  .frames = cfg->skeleton.frames,
                                  .layout = kd_sequence_layout(&n->sequence),
                                  .bodies = cfg->skeleton.max_bodies,
                                  .dropout = (float)cfg->student.dropout,
                                  .drop_path = (float)cfg->student.drop_path,
                                  .seed = kd_config_init_seed(cfg)};
    KD_TRY(kd_student_fixes(info, cfg->student.fix, "student.fix", &n->student.fix, err));
    n->temperature = (float)cfg->eval.temperature;
    n->streams = kd_sequence_attr(&n->sequence);
    (void)kd_layout_identity(n->student.layout, m->layout);
    (void)snprintf(m->name, sizeof m->name, "%s", info->name);
    m->feature_dim = info->feature_dim;
    m->latent = info->latent > 0;
    m->cut_frames = cfg->mixup.cutmix_alpha > 0.0 ? cfg->skeleton.frames : 0;
    m->n_inputs = info->n_streams;
    for (int i = 0; i < info->n_streams; i++) {
        m->inputs[i] = kd_student_stream(info, n->stream, i);
        m->item[i] = (kd_spec){KD_F32, kd_shape4(3, n->student.frames, n->student.layout->joints, n->student.bodies)};
        m->train_item[i] = m->item[i];
    }
    kd_classify_outputs(m);
    const int least = kd_student_least_frames(&n->student);
    return least == n->student.frames
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG, "skeleton.frames: expected at least %d for %s, found %d", least, info->name,
                         n->student.frames);
}

static kd_shape rows_of(int64_t rows, const kd_spec *item)
{
    return kd_shape5(rows, item->shape.dim[0], item->shape.dim[1], item->shape.dim[2], item->shape.dim[3]);
}

/* The streams of the batch, made on the device; returns which samples they are. */
static kd_val kept_streams(kd_model *m, kd_graph *g, int batch, kd_val *x)
{
    const net *n = m->net;
    const kd_val in[4] = {kd_input(g, "table", KD_F32, rows_of(m->kept, &m->item[0])),
                          kd_input(g, "sample", KD_I32, kd_shape1(batch)),
                          kd_input(g, "draw", KD_F32, kd_shape2(batch, KD_SKEL_DRAW)),
                          kd_input(g, "idraw", KD_I32, kd_shape2(batch, KD_SKEL_IDRAW))};
    kd_val out[KD_SKEL_STREAMS] = {{0}};
    (void)kd_node(g, KD_OP_SKELETON_STREAMS, &n->streams, in, 4, out);
    for (int i = 0; i < m->n_inputs; i++) {
        for (int k = 0; k < KD_SKEL_STREAMS; k++) {
            x[i] = strcmp(m->inputs[i], kd_stream_name(k)) == 0 ? out[k] : x[i];
        }
    }
    return in[1];
}

static kd_built skeleton_build(kd_model *m, kd_graph *g, const kd_build *b)
{
    const net *n = m->net;
    kd_val x[KD_STUDENT_MAX_STREAMS] = {{0}}, perm = KD_NONE, lam = KD_NONE;
    if (b->mixed) {
        perm = kd_input(g, "perm", KD_I32, kd_shape1(b->batch));
        lam = kd_input(g, "lam", KD_F32, m->cut_frames > 0 ? kd_shape2(b->batch, m->cut_frames) : kd_shape1(b->batch));
    }
    const kd_val sample = b->kept ? kept_streams(m, g, b->batch, x) : KD_NONE;
    for (int i = 0; i < m->n_inputs; i++) {
        if (!b->kept) {
            x[i] = kd_input(g, m->inputs[i], KD_F32, rows_of(b->batch, &m->item[i]));
        }
        if (b->mixed) {
            x[i] = kd_node3(g, KD_OP_MIXUP, NULL, x[i], perm, lam);
        }
    }
    kd_student_cfg student = n->student;
    student.temperature = b->training ? 0.0f : n->temperature;
    const kd_student_out out = kd_student_build(g, &student, x);
    return (kd_built){.logits = out.logits, .features = out.feature, .latent = out.latent, .sample = sample};
}

static void skeleton_groups(kd_model *m, const kd_config *cfg)
{
    (void)cfg;
    const kd_student_cfg *c = &((const net *)m->net)->student;
    kd_student_param_groups(m->params, c->model, c->fix);
}

static const char *skeleton_start(const kd_config *cfg)
{
    return cfg->student.weights;
}

static const char *skeleton_name(int i)
{
    const kd_student_info *info = kd_student_at(i);
    return info != NULL ? info->name : NULL;
}

static bool is_constant(const kd_model *m, const char *name)
{
    return kd_student_is_constant(((const net *)m->net)->student.model, name);
}

static kd_status extras(const kd_model *m,
                        kd_status (*visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape,
                                           const void *data, const char *of),
                        void *user)
{
    return kd_student_extras(&((const net *)m->net)->student, m->params, visit, user);
}

/* ---- the data -------------------------------------------------------------------------------- */

static int skeleton_views(const kd_config *cfg, char text[24])
{
    (void)cfg;
    (void)snprintf(text, 24, "1x1");
    return 1;
}

static void close_source(void *ctx)
{
    kd_sequence_source_close(ctx);
}

static kd_status cut_source(void *ctx, const kd_store_cut *cut, int n, kd_err *err)
{
    return kd_sequence_source_cut(ctx, cut, n, err);
}

static kd_status skeleton_source(const kd_config *cfg, const kd_model *m, const kd_half *half, kd_pass pass,
                                 bool cached, kd_source *out, kd_err *err)
{
    const kd_sequence_spec spec = kd_config_sequence(cfg);
    kd_sequence_source *s = NULL;
    *out = (kd_source){.ctx = NULL};
    KD_TRY(kd_sequence_source_open(&spec, half, pass == KD_PASS_TRAIN, m->inputs, m->n_inputs,
                                   cached ? kd_sequence_default_cache() : 0, &s, err));
    *out = (kd_source){.ctx = s, .producer = kd_sequence_producer(s), .close = close_source, .cut = cut_source};
    return KD_OK;
}

static kd_status skeleton_read(const kd_config *cfg, const kd_model *m, const char *path, void *const *dst, kd_err *err)
{
    const kd_sequence_spec spec = kd_config_sequence(cfg);
    return kd_sequence_read(&spec, path, m->inputs, m->n_inputs, dst, err);
}

static kd_status resident_rows(void *source, kd_producer *out, kd_err *err)
{
    return kd_sequence_rows(source, out, err);
}

static kd_producer resident_draws(void *source)
{
    return kd_sequence_draws(source);
}

static const kd_resident resident = {resident_rows, resident_draws};

const kd_task kd_task_skeleton = {.kind = "student",
                                  .program = "distill",
                                  .modality = "skeleton",
                                  .need = KD_NEED_SKELETON,
                                  .start_key = "student.weights",
                                  .example = "distill/sfz-nano_ce_kd.yaml",
                                  .taught = true,
                                  .name_key = "student.name",
                                  .name_prefix = "",
                                  .name_at = skeleton_name,
                                  .open = skeleton_open,
                                  .build = skeleton_build,
                                  .groups = skeleton_groups,
                                  .start = skeleton_start,
                                  .is_head = kd_student_is_head,
                                  .may_be_fresh = kd_student_is_head,
                                  .is_constant = is_constant,
                                  .extras = extras,
                                  .views = skeleton_views,
                                  .source = skeleton_source,
                                  .read = skeleton_read,
                                  .resident = &resident,
                                  .target = kd_classify_target,
                                  .figure = "top1",
                                  .figure_text = "top-1",
                                  .gather = kd_classify_gather,
                                  .measure = kd_classify_measure,
                                  .report = kd_classify_report,
                                  .feature = "pool"};
