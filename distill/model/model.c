/* A model under training or evaluation: see model.h. */
#include "distill/model/model.h"

#include "kernels/kd_layers.h"
#include "kernels/kd_ops.h"
#include "teacher/clip/clip.h"

#include <stdio.h>

/* ---- opening --------------------------------------------------------------------------------- */

void kd_model_clip_input(kd_model *m, bool resized)
{
    const int64_t t = m->vit.frames, side = m->vit.img_size;
    m->n_inputs = 1;
    m->inputs[0] = "clip";
    m->item[0] = m->train_item[0] = (kd_spec){KD_U8, kd_shape4(t, side, side, 3)};
    if (resized) {
        m->train_item[0] = (kd_spec){KD_F32, kd_shape4(3, t, side, side)};
    }
}

static void open_teacher(const kd_config *cfg, int classes, kd_model *m)
{
    const kd_cfg_teacher *t = &cfg->teacher;
    m->vit = (kd_vit_cfg){.img_size = t->img_size,
                          .frames = t->frames,
                          .patch = t->patch,
                          .tubelet = t->tubelet,
                          .dim = t->dim,
                          .depth = t->depth,
                          .heads = t->heads,
                          .mlp_hidden = t->mlp_hidden,
                          .classes = classes,
                          .init_values = (float)t->init_values,
                          .qkv_bias = t->qkv_bias,
                          .cos_attn = t->cos_attn,
                          .cls_pooling = t->pooling == KD_POOL_CLS,
                          .drop_path = (float)t->drop_path,
                          .head_drop = (float)t->head_drop,
                          .eps = (float)t->norm_eps,
                          .fc_norm_eps = (float)t->norm_eps,
                          .init_scale = (float)t->init_scale,
                          .xavier = t->init == KD_TEACHER_INIT_XAVIER,
                          .recompute = t->recompute};
    for (int c = 0; c < 3; c++) {
        m->vit.mean[c] = (float)cfg->video.mean[c];
        m->vit.std[c] = (float)cfg->video.std[c];
    }
    char variant[KD_CFG_NAME];
    (void)snprintf(m->name, sizeof m->name, "videomae2-%s",
                   kd_config_enum_name("teacher.variant", (int)t->variant, variant));
    m->feature_dim = t->dim;
    kd_model_clip_input(m, kd_clip_resized(cfg));
}

static kd_status open_student(const kd_config *cfg, int classes, kd_model *m, kd_err *err)
{
    char name[KD_CFG_NAME];
    const kd_student_info *info = kd_student_find(kd_config_enum_name("student.name", (int)cfg->student.name, name));
    if (info == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "student.name: %s is not in this build", name);
    }
    m->student = (kd_student_cfg){.model = info,
                                  .classes = classes,
                                  .frames = cfg->skeleton.frames,
                                  .joints = 25,
                                  .bodies = cfg->skeleton.max_bodies,
                                  .dropout = (float)cfg->student.dropout,
                                  .drop_path = (float)cfg->student.drop_path,
                                  .seed = (uint64_t)cfg->train.seed};
    (void)snprintf(m->name, sizeof m->name, "%s", info->name);
    m->feature_dim = info->feature_dim;
    m->n_inputs = info->n_streams;
    for (int i = 0; i < info->n_streams; i++) {
        m->inputs[i] = info->streams[i];
        m->item[i] = (kd_spec){KD_F32, kd_shape4(3, m->student.frames, m->student.joints, m->student.bodies)};
        m->train_item[i] = m->item[i];
    }
    return KD_OK;
}

kd_status kd_model_open(const kd_config *cfg, int classes, kd_backend *be, kd_model *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    out->is_student = cfg->kind == KD_KIND_STUDENT;
    out->classes = classes;
    out->be = be;
    out->dtype = cfg->train.dtype;
    out->params = kd_params_create(KD_F32);
    if (out->params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    if (!out->is_student) {
        open_teacher(cfg, classes, out);
        return KD_OK;
    }
    const kd_status st = open_student(cfg, classes, out, err);
    if (st != KD_OK) {
        kd_model_close(out);
    }
    return st;
}

void kd_model_close(kd_model *m)
{
    if (m != NULL) {
        kd_params_free(m->params);
        memset(m, 0, sizeof *m);
    }
}

/* ---- graphs ---------------------------------------------------------------------------------- */

typedef struct built {
    kd_val logits, features;
    kd_val sample; /* where the data stay on the device: which of them the batch is */
} built;

static kd_shape batched(int batch, const kd_shape *item)
{
    kd_shape s = {item->rank + 1, {batch}};
    for (int i = 0; i < item->rank; i++) {
        s.dim[i + 1] = item->dim[i];
    }
    return s;
}

/* The streams of the batch, made on the device; returns which samples they are. */
static kd_val kept_streams(kd_model *m, kd_graph *g, int batch, kd_val *x)
{
    static const char *const name[] = {"joint", "velocity", "bone"};
    const kd_val in[4] = {kd_input(g, "table", KD_F32, batched((int)m->kept, &m->item[0].shape)),
                          kd_input(g, "sample", KD_I32, kd_shape1(batch)),
                          kd_input(g, "draw", KD_F32, kd_shape2(batch, KD_SKEL_DRAW)),
                          kd_input(g, "idraw", KD_I32, kd_shape2(batch, KD_SKEL_IDRAW))};
    kd_val out[3] = {{0}};
    (void)kd_node(g, KD_OP_SKELETON_STREAMS, &m->kept_streams, in, 4, out);
    for (int i = 0; i < m->n_inputs; i++) {
        for (size_t k = 0; k < KD_COUNTOF(name); k++) {
            x[i] = strcmp(m->inputs[i], name[k]) == 0 ? out[k] : x[i];
        }
    }
    return in[1];
}

/* What mixes the samples of a batch; KD_NONE where nothing does. */
typedef struct mixing {
    kd_val perm, lam;
} mixing;

static mixing mixing_of(kd_graph *g, int batch, const kd_objective *o)
{
    mixing x = {KD_NONE, KD_NONE};
    if (o != NULL && o->mixup) {
        x.perm = kd_input(g, "perm", KD_I32, kd_shape1(batch));
        x.lam = kd_input(g, "lam", KD_F32, kd_shape1(batch));
    }
    return x;
}

static built build_teacher(kd_model *m, kd_graph *g, int batch, const kd_objective *o)
{
    const kd_spec *item = o != NULL ? &m->train_item[0] : &m->item[0];
    const mixing mix = mixing_of(g, batch, o);
    kd_vit_input in = {.clip = kd_input(g, m->inputs[0], item->dtype, batched(batch, &item->shape)),
                       .place = KD_NONE,
                       .perm = mix.perm,
                       .lam = mix.lam,
                       .cut = KD_NONE};
    if (o != NULL) {
        in.place = kd_input(g, "place", KD_I32, kd_shape2(batch, KD_PLACE));
        in.cut = o->mixup ? kd_input(g, "cut", KD_I32, kd_shape1(4)) : KD_NONE;
    }
    const kd_vit_out out = kd_vit_build(g, &m->vit, &in);
    return (built){out.logits, out.features, KD_NONE};
}

static built build_student(kd_model *m, kd_graph *g, int batch, const kd_objective *o, bool kept)
{
    kd_val x[KD_STUDENT_MAX_STREAMS] = {{0}};
    const mixing mix = mixing_of(g, batch, o);
    const kd_val sample = kept ? kept_streams(m, g, batch, x) : KD_NONE;
    for (int i = 0; i < m->n_inputs; i++) {
        if (!kept) {
            x[i] = kd_input(g, m->inputs[i], KD_F32, batched(batch, &m->item[i].shape));
        }
        if (mix.perm.id != 0) {
            x[i] = kd_node3(g, KD_OP_MIXUP, NULL, x[i], mix.perm, mix.lam);
        }
    }
    const kd_student_out out = kd_student_build(g, &m->student, x);
    return (built){out.logits, out.feature, sample};
}

/* o: what is trained for; NULL: evaluation.  kept: the training data stay on the device. */
static built build(kd_model *m, kd_graph *g, int batch, const kd_objective *o, bool kept)
{
    return m->is_student ? build_student(m, g, batch, o, kept) : build_teacher(m, g, batch, o);
}

static kd_val projector(kd_graph *g, kd_val feature, const kd_objective *o)
{
    const kd_spec s = kd_spec_of(g, feature);
    const kd_init fan = kd_init_torch(s.shape.rank == 2 ? s.shape.dim[1] : 1);
    const kd_linear_opts lo = {.weight = fan, .bias = fan, .f32_out = true};
    return kd_linear(g, feature, "kd.projector", o->teacher_dim, &lo);
}

/* A row a sample of the batch: fed under `name`, or taken out of `table` on the device. */
static kd_val rows(kd_model *m, kd_graph *g, const built *b, const char *name, const char *table, int batch,
                   kd_shape item)
{
    if (b->sample.id == 0) {
        return kd_input(g, name, KD_F32, batched(batch, &item));
    }
    return kd_node2(g, KD_OP_TAKE_ROWS, NULL, kd_input(g, table, KD_F32, batched((int)m->kept, &item)), b->sample);
}

/* The loss of a batch: w_ce CE(targets) + w_kd T^2 KL(teacher || student) + w_f feature term. */
static kd_val objective(kd_model *m, kd_graph *g, const built *b, const kd_objective *o, int batch)
{
    kd_val term[3];
    float w[3];
    int n = 0;
    const kd_val target = kd_input(g, "target", KD_F32, kd_shape2(batch, m->classes));
    const kd_val valid = kd_input(g, "valid", KD_F32, kd_shape1(batch));
    const bool kd = o->kd_weight > 0.0f;
    const bool feature = o->feature != KD_CFG_FEATURE_NONE && o->feature_weight > 0.0f;
    kd_val teacher_valid = KD_NONE, teacher = KD_NONE, divergence = KD_NONE;
    if (kd || feature) {
        teacher_valid = rows(m, g, b, "teacher_valid", "teacher_has", batch, kd_shape0());
    }
    if (kd) {
        const built fed = {.sample = KD_NONE}; /* mixed probabilities are made batch by batch */
        teacher = rows(m, g, o->teacher_is_prob ? &fed : b, "teacher", "teacher_table", batch, kd_shape1(m->classes));
    }
    term[n] = kd_ce_kl(g, b->logits, target, valid, teacher, kd ? teacher_valid : KD_NONE, o->temperature,
                       o->teacher_is_prob, &divergence);
    w[n++] = o->ce_weight;
    kd_output(g, "loss_ce", term[0]);
    if (kd) {
        term[n] = divergence;
        kd_output(g, "loss_kd", term[n]);
        w[n++] = o->kd_weight;
    }
    if (feature) {
        const kd_val f = rows(m, g, b, "teacher_feature", "feature_table", batch, kd_shape1(o->teacher_dim));
        term[n] = kd_feature_loss(g, projector(g, b->features, o), f, teacher_valid,
                                  o->feature == KD_CFG_FEATURE_MSE ? KD_FEATURE_MSE : KD_FEATURE_COSINE);
        kd_output(g, "loss_feature", term[n]);
        w[n++] = o->feature_weight;
    }
    const kd_val loss = kd_weighted_sum(g, term, w, n);
    kd_output(g, "loss", loss);
    return loss;
}

static kd_graph *graph(kd_model *m, bool training, kd_err *err)
{
    const kd_graph_opts o = {.params = m->params, .dtype = m->dtype, .training = training};
    kd_graph *g = kd_graph_create(&o);
    if (g == NULL) {
        (void)KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    return g;
}

void kd_model_keep(kd_model *m, int64_t samples, const kd_skeleton_streams_attr *streams)
{
    m->kept = samples;
    if (samples > 0) {
        m->kept_streams = *streams;
    }
}

kd_status kd_model_declare(kd_model *m, const kd_objective *o, kd_err *err)
{
    kd_graph *g = graph(m, true, err);
    if (g == NULL) {
        return KD_E_OOM;
    }
    const built b = build(m, g, 1, NULL, false); /* declares every parameter; the graph itself is thrown away */
    if (o != NULL) {
        (void)objective(m, g, &b, o, 1);
    }
    const kd_err *bad = kd_graph_error(g);
    const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
    kd_graph_free(g);
    KD_TRY(st);
    return kd_params_alloc(m->params, m->be, m->dtype, o != NULL, err);
}

kd_status kd_model_init(kd_model *m, const kd_objective *o, uint64_t seed, kd_err *err)
{
    KD_TRY(kd_model_declare(m, o, err));
    return kd_params_init(m->params, seed, err);
}

static kd_status compile_train(kd_model *m, const kd_objective *o, int batch, bool recompute, bool plan_only,
                               kd_program **out, kd_err *err)
{
    kd_graph *g = graph(m, true, err);
    *out = NULL;
    if (g == NULL) {
        return KD_E_OOM;
    }
    const built b = build(m, g, batch, o, m->kept > 0);
    const kd_compile_opts co = {.loss = objective(m, g, &b, o, batch), .recompute = recompute, .plan_only = plan_only};
    return kd_program_compile(g, m->be, &co, out, err);
}

static kd_status compile_eval(kd_model *m, int batch, bool plan_only, kd_program **out, kd_err *err)
{
    kd_graph *g = graph(m, false, err);
    *out = NULL;
    if (g == NULL) {
        return KD_E_OOM;
    }
    (void)build(m, g, batch, NULL, false);
    const kd_compile_opts co = {.loss = KD_NONE, .plan_only = plan_only};
    return kd_program_compile(g, m->be, &co, out, err);
}

kd_status kd_model_train_program(kd_model *m, const kd_objective *o, int batch, bool recompute, kd_program **out,
                                 kd_err *err)
{
    return compile_train(m, o, batch, recompute, false, out, err);
}

kd_status kd_model_eval_program(kd_model *m, int batch, kd_program **out, kd_err *err)
{
    return compile_eval(m, batch, false, out, err);
}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { WORKSPACE = 64 << 20 }; /* kernels' scratch, libraries, staging of inputs beyond their own size */

/* Activations and inputs of a training step at this batch, in bytes. */
static kd_status training_bytes(kd_model *m, const kd_memory_need *n, int batch, size_t *bytes, kd_err *err)
{
    kd_program *p = NULL;
    size_t input = 0;
    KD_TRY(compile_train(m, n->objective, batch, n->recompute, true, &p, err));
    for (int i = 0; i < m->n_inputs && m->kept == 0; i++) {
        input += kd_spec_bytes(&m->train_item[i]) * (size_t)batch;
    }
    *bytes = kd_program_arena_bytes(p) + 2 * input; /* two staging blocks an input */
    kd_program_free(p);
    return KD_OK;
}

kd_status kd_model_check_memory(kd_model *m, const kd_memory_need *n, kd_err *err)
{
    const double gib = 1073741824.0;
    size_t have = 0, total = 0, step = 0, at = 0;
    kd_program *eval = NULL;
    char device[300];
    if (m->be->ops->memory == NULL) {
        return KD_OK;
    }
    KD_TRY(m->be->ops->memory(m->be, &have, &total));
    KD_TRY(compile_eval(m, n->eval_batch, true, &eval, err));
    const size_t slabs = (size_t)n->optimiser_slabs * (size_t)kd_params_slab_numel(m->params) * sizeof(float);
    const size_t fixed = slabs + kd_program_arena_bytes(eval) + WORKSPACE;
    kd_program_free(eval);
    KD_TRY(training_bytes(m, n, n->batch, &step, err));
    if (fixed + step <= have) {
        return KD_OK;
    }
    int fits = 0, too_large = n->batch;
    while (too_large - fits > 1) {
        const int mid = fits + (too_large - fits) / 2;
        KD_TRY(training_bytes(m, n, mid, &at, err));
        *(fixed + at <= have ? &fits : &too_large) = mid;
    }
    m->be->ops->describe(m->be, device, sizeof device);
    char advice[120];
    if (fits > 0) {
        (void)snprintf(advice, sizeof advice, "the largest batch that fits is %d (optim.accumulation makes up for it)",
                       fits);
    } else {
        (void)snprintf(advice, sizeof advice, "not even a batch of 1 fits");
    }
    return KD_FAIL(
        err, KD_E_OOM,
        "training %s at batch %d needs %.2f GiB more (%s %.2f, optimiser %.2f, evaluation at batch %d and workspace "
        "%.2f); %s has %.2f GiB free of %.2f: %s",
        m->name, n->batch, (double)(fixed + step) / gib, m->kept > 0 ? "activations and resident data" : "activations",
        (double)step / gib, (double)slabs / gib, n->eval_batch, (double)(fixed - slabs) / gib, device,
        (double)have / gib, (double)total / gib, advice);
}
