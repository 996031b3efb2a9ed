/* Table of the teachers: see teacher.h.  Sizes s to g are the published ones of VideoMAE v1 and v2. */
#include "teacher/model/teacher.h"

/* clang-format off */
static const kd_teacher_info TEACHERS[] = {
    {"s", 224, 16, 2, 16, 384, 12, 6, 1536},
    {"b", 224, 16, 2, 16, 768, 12, 12, 3072},
    {"l", 224, 16, 2, 16, 1024, 24, 16, 4096},
    {"h", 224, 16, 2, 16, 1280, 32, 16, 5120},
    {"g", 224, 14, 2, 16, 1408, 40, 16, 6144},
    {"tiny", 64, 8, 2, 8, 96, 4, 3, 384}, /* for the sample data set */
    {"custom", 224, 16, 2, 16, 0, 0, 0, 0},
};
/* clang-format on */

const kd_teacher_info *kd_teacher_at(int i)
{
    return i >= 0 && i < (int)KD_COUNTOF(TEACHERS) ? &TEACHERS[i] : NULL;
}

const kd_teacher_info *kd_teacher_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNTOF(TEACHERS); i++) {
        if (strcmp(TEACHERS[i].name, name) == 0) {
            return &TEACHERS[i];
        }
    }
    return NULL;
}

const char *kd_teacher_name(int i)
{
    const kd_teacher_info *t = kd_teacher_at(i);
    return t != NULL ? t->name : NULL;
}

static void fill(int *field, int value)
{
    if (*field == 0) {
        *field = value;
    }
}

/* The table to interpolate must exist, and differ from the exact one. */
static kd_status check_table(const kd_vit_cfg *m, kd_err *err)
{
    const kd_vit_grid own = kd_vit_grid_of(m), published = kd_vit_grid_published(m);
    if (!m->table_resized) {
        return KD_OK;
    }
    if (16 % m->tubelet != 0 || 224 % m->patch != 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "teacher.pos_table: interpolate needs a tubelet that divides 16 frames and a patch that divides "
                       "224 pixels, found %d and %d; set it to exact",
                       m->tubelet, m->patch);
    }
    if (own.steps == published.steps && own.side == published.side) {
        return KD_FAIL(
            err, KD_E_CONFIG,
            "teacher.pos_table: interpolate, but clips of %d frames of %d pixels have the published grid and "
            "nothing is interpolated; set it to exact",
            m->frames, m->img_size);
    }
    return KD_OK;
}

kd_status kd_teacher_finish(kd_teacher_opts *t, kd_err *err)
{
    static const double zero[3] = {0.0, 0.0, 0.0}, one[3] = {1.0, 1.0, 1.0};
    const kd_teacher_info *size = kd_teacher_find(t->variant);
    if (size == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.variant: no teacher is called '%s'", t->variant);
    }
    fill(&t->img_size, size->img_size);
    fill(&t->patch, size->patch);
    fill(&t->tubelet, size->tubelet);
    fill(&t->frames, size->frames);
    fill(&t->dim, size->dim);
    fill(&t->depth, size->depth);
    fill(&t->heads, size->heads);
    fill(&t->mlp_hidden, size->mlp_hidden > 0 ? size->mlp_hidden : 4 * t->dim);
    if (t->fc_norm_eps == 0.0) {
        t->fc_norm_eps = t->norm_eps;
    }
    if (t->dim == 0 || t->depth == 0 || t->heads == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher: variant %s needs dim, depth and heads; found %d, %d, %d", t->variant,
                       t->dim, t->depth, t->heads);
    }
    const kd_vit_cfg model = kd_teacher_model(t, 1, zero, one);
    KD_TRY(kd_vit_check(&model, err));
    return check_table(&model, err);
}

kd_vit_cfg kd_teacher_model(const kd_teacher_opts *t, int classes, const double mean[3], const double std[3])
{
    kd_vit_cfg c = {.img_size = t->img_size,
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
                    .learnable_pos = t->pos_table == KD_POS_TABLE_STORED,
                    .table_resized = t->pos_table == KD_POS_TABLE_INTERPOLATE,
                    .cls_pooling = t->pooling == KD_POOL_CLS,
                    .drop_path = t->drops == KD_TEACHER_DROPS_APPLIED ? (float)t->drop_path : 0.0f,
                    .head_drop = t->drops == KD_TEACHER_DROPS_APPLIED ? (float)t->head_drop : 0.0f,
                    .eps = (float)t->norm_eps,
                    .fc_norm_eps = (float)(t->fc_norm_eps > 0.0 ? t->fc_norm_eps : t->norm_eps),
                    .init_scale = (float)t->init_scale,
                    .xavier = t->init == KD_TEACHER_INIT_XAVIER,
                    .recompute = t->recompute};
    for (int i = 0; i < 3; i++) {
        c.mean[i] = (float)mean[i];
        c.std[i] = (float)std[i];
    }
    return c;
}
