/* VideoMAE fine-tuning model: see vit.h. */
#include "teacher/model/vit.h"

#include "kernels/kd_layers.h"
#include "teacher/model/teacher.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool kd_vit_preset(const char *size, kd_vit_cfg *out)
{
    const kd_teacher_info *t = kd_teacher_find(size);
    if (t == NULL || t->dim == 0) {
        return false;
    }
    *out = (kd_vit_cfg){.img_size = t->img_size,
                        .frames = t->frames,
                        .patch = t->patch,
                        .tubelet = t->tubelet,
                        .dim = t->dim,
                        .depth = t->depth,
                        .heads = t->heads,
                        .mlp_hidden = t->mlp_hidden,
                        .classes = 60,
                        .qkv_bias = true,
                        .mean = {0.485f, 0.456f, 0.406f}, /* ImageNet's */
                        .std = {0.229f, 0.224f, 0.225f},
                        .eps = 1e-6f,
                        .fc_norm_eps = 1e-6f,
                        .init_scale = 0.001f};
    return true;
}

int64_t kd_vit_tokens(const kd_vit_cfg *c)
{
    const int64_t side = c->img_size / c->patch;
    return c->frames / c->tubelet * side * side;
}

/* One size is a positive multiple of another. */
static kd_status multiple(const char *key, int size, const char *of_key, int of, kd_err *err)
{
    if (size >= 1 && of >= 1 && size % of == 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "teacher.%s: expected a positive multiple of %s (%d), found %d", key, of_key, of,
                   size);
}

kd_status kd_vit_check(const kd_vit_cfg *c, kd_err *err)
{
    KD_TRY(multiple("img_size", c->img_size, "patch", c->patch, err));
    KD_TRY(multiple("frames", c->frames, "tubelet", c->tubelet, err));
    KD_TRY(multiple("dim", c->dim, "heads", c->heads, err));
    if (c->dim % 2 != 0) {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.dim: expected an even number, found %d", c->dim);
    }
    if (c->depth < 1 || c->mlp_hidden < 1 || c->classes < 1) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "teacher: expected at least 1 block, 1 hidden unit and 1 class, found %d, %d and %d", c->depth,
                       c->mlp_hidden, c->classes);
    }
    return KD_OK;
}

void kd_vit_pixel_table(const float mean[3], const float std[3], float *table)
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            table[256 * c + v] = ((float)v / 255.0f - mean[c]) / std[c];
        }
    }
}

void kd_vit_sinusoid(int64_t tokens, int64_t dim, float *out)
{
    for (int64_t n = 0; n < tokens; n++) {
        for (int64_t j = 0; j < dim; j++) {
            const int64_t pair = j / 2;
            const double angle = (double)n / pow(10000.0, 2.0 * (double)pair / (double)dim);
            out[n * dim + j] = (float)(j % 2 == 0 ? sin(angle) : cos(angle));
        }
    }
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void tap(kd_graph *g, const kd_vit_cfg *c, kd_val v, const char *fmt, int i)
{
    if (c->taps) {
        char name[64];
        (void)snprintf(name, sizeof name, fmt, i);
        kd_output(g, name, v);
    }
}

static kd_init matrix_init(const kd_vit_cfg *c, int64_t rows, int64_t cols)
{
    return c->xavier ? kd_init_uniform(sqrtf(6.0f / (float)(rows + cols))) : kd_init_trunc_normal(0.02f);
}

static kd_linear_opts linear_opts(const kd_vit_cfg *c, int64_t rows, int64_t cols)
{
    return (kd_linear_opts){.weight = matrix_init(c, rows, cols), .bias = kd_init_const(0.0f)};
}

/* f32 numbers as a constant in the program's stat dtype. */
static kd_val constant(kd_graph *g, const char *name, kd_shape shape, const float *table)
{
    const kd_dtype stat = kd_stat_dtype(kd_graph_dtype(g));
    const size_t n = (size_t)kd_shape_numel(&shape);
    if (stat != KD_F64) {
        return kd_const(g, name, stat, shape, table);
    }
    double *wide = kd_alloc(n * sizeof *wide);
    if (wide == NULL) {
        kd_graph_fail(g, KD_E_OOM, "%s: out of memory", name);
        return KD_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        wide[i] = (double)table[i];
    }
    const kd_val v = kd_const(g, name, stat, shape, wide);
    kd_free(wide);
    return v;
}

static kd_val patch_rows(kd_graph *g, const kd_vit_cfg *c, const kd_vit_input *in)
{
    const kd_patchify_attr pa = {.tubelet = c->tubelet, .patch = c->patch};
    kd_val operand[6] = {in->clip, KD_NONE, in->place, in->perm, in->lam, in->cut};
    if (kd_spec_of(g, in->clip).dtype == KD_U8) {
        float table[3 * 256];
        if (!(c->std[0] > 0.0f && c->std[1] > 0.0f && c->std[2] > 0.0f)) {
            kd_graph_fail(g, KD_E_CONFIG, "teacher model: pictures need mean and std");
            return KD_NONE;
        }
        kd_vit_pixel_table(c->mean, c->std, table);
        operand[1] = constant(g, "pixel_table", kd_shape2(3, 256), table);
    }
    return kd_node(g, KD_OP_PATCHIFY, &pa, operand, (int)KD_COUNTOF(operand), NULL);
}

/* A 3-D convolution whose kernel equals its stride is a linear map of tubelet rows. */
static kd_val patch_embed(kd_graph *g, const kd_vit_cfg *c, const kd_vit_input *in)
{
    const int64_t row = (int64_t)3 * c->tubelet * c->patch * c->patch;
    const kd_init fan = kd_init_torch(row);
    const kd_val rows = patch_rows(g, c, in);
    const kd_val w = kd_param(g, "patch_embed.proj.weight", kd_shape5(c->dim, 3, c->tubelet, c->patch, c->patch), fan,
                              KD_PARAM_MATRIX);
    const kd_val b = kd_param(g, "patch_embed.proj.bias", kd_shape1(c->dim), fan, KD_PARAM_NO_DECAY);
    const kd_linear_attr la = {.has_bias = 1};
    return kd_node3(g, KD_OP_LINEAR, &la, rows, kd_reshape(g, w, kd_shape2(c->dim, row)), b);
}

kd_status kd_vit_fixed_table(const kd_vit_cfg *c, float *table)
{
    const kd_vit_grid from = kd_vit_grid_published(c);
    const int64_t tokens = (int64_t)from.steps * from.side * from.side;
    if (!c->table_resized) {
        kd_vit_sinusoid(kd_vit_tokens(c), c->dim, table);
        return KD_OK;
    }
    float *published = kd_alloc((size_t)(tokens * c->dim) * sizeof *published);
    if (published == NULL) {
        return KD_E_OOM;
    }
    kd_vit_sinusoid(tokens, c->dim, published);
    const kd_status st = kd_vit_table_resize(published, from, kd_vit_grid_of(c), c->dim, table);
    kd_free(published);
    return st;
}

static kd_val position(kd_graph *g, const kd_vit_cfg *c)
{
    const int64_t n = kd_vit_tokens(c);
    if (c->learnable_pos) {
        const kd_val p =
            kd_param(g, "pos_embed", kd_shape3(1, n, c->dim), kd_init_trunc_normal(0.02f), KD_PARAM_NO_DECAY);
        return kd_cast(g, kd_reshape(g, kd_detach(g, p), kd_shape2(n, c->dim)), kd_graph_dtype(g));
    }
    float *table = kd_alloc((size_t)(n * c->dim) * sizeof(float));
    kd_val v = KD_NONE;
    if (table == NULL || kd_vit_fixed_table(c, table) != KD_OK) {
        kd_graph_fail(g, KD_E_OOM, "position table of %lld tokens", (long long)n);
    } else {
        v = constant(g, "pos_table", kd_shape2(n, c->dim), table);
    }
    kd_free(table);
    return kd_cast(g, v, kd_graph_dtype(g));
}

static kd_val attention(kd_graph *g, const kd_vit_cfg *c, kd_val x)
{
    const int64_t d = c->dim;
    kd_scope_push(g, "attn");
    const kd_val w = kd_param(g, "qkv.weight", kd_shape2(3 * d, d), matrix_init(c, 3 * d, d), KD_PARAM_MATRIX);
    kd_val bias = KD_NONE;
    if (c->qkv_bias) {
        const kd_val q = kd_param(g, "q_bias", kd_shape1(d), kd_init_const(0.0f), KD_PARAM_NO_DECAY);
        const kd_val v = kd_param(g, "v_bias", kd_shape1(d), kd_init_const(0.0f), KD_PARAM_NO_DECAY);
        bias = kd_node2(g, KD_OP_QKV_BIAS, NULL, q, v);
    }
    const kd_linear_attr la = {.has_bias = c->qkv_bias};
    kd_val qkv = kd_node3(g, KD_OP_LINEAR, &la, x, w, bias);
    kd_attention_attr aa = {.heads = c->heads, .scale = 0.0f};
    if (c->cos_attn) {
        const kd_val s = kd_param(g, "scale", kd_shape3(c->heads, 1, 1), kd_init_const(2.302585f), KD_PARAM_NO_DECAY);
        const kd_cos_qk_attr ca = {c->heads};
        qkv = kd_node2(g, KD_OP_COS_QK, &ca, qkv, kd_reshape(g, s, kd_shape1(c->heads)));
        aa.scale = 1.0f;
    }
    const kd_val o = kd_node1(g, KD_OP_ATTENTION, &aa, qkv);
    const kd_linear_opts lo = linear_opts(c, d, d);
    const kd_val y = kd_dropout(g, kd_linear(g, o, "proj", d, &lo), c->drop);
    kd_scope_pop(g);
    return y;
}

static kd_val mlp(kd_graph *g, const kd_vit_cfg *c, kd_val x)
{
    const kd_linear_opts lo = linear_opts(c, c->mlp_hidden, c->dim); /* fc1 and fc2 have the same two sides */
    kd_scope_push(g, "mlp");
    x = kd_act(g, kd_linear(g, x, "fc1", c->mlp_hidden, &lo), KD_ACT_GELU);
    x = kd_dropout(g, kd_linear(g, x, "fc2", c->dim, &lo), c->drop);
    kd_scope_pop(g);
    return x;
}

static kd_val branch(kd_graph *g, const kd_vit_cfg *c, kd_val h, const char *gamma, float rate)
{
    if (c->init_values > 0.0f) {
        const kd_val s = kd_param(g, gamma, kd_shape1(c->dim), kd_init_const(c->init_values), KD_PARAM_NO_DECAY);
        h = kd_node2(g, KD_OP_SCALE_LAST, NULL, h, s);
    }
    return kd_drop_path(g, h, rate);
}

/* x (B,N,C) -> y (B,N,C): y = x + attn(norm1 x), then y + mlp(norm2 y). */
static kd_val block(kd_graph *g, const kd_vit_cfg *c, kd_val x, int i)
{
    const float rate = c->depth > 1 ? c->drop_path * (float)i / (float)(c->depth - 1) : 0.0f;
    kd_scope_push(g, "blocks.%d", i);
    if (c->recompute) {
        kd_recompute_begin(g);
    }
    const kd_val a = attention(g, c, kd_layernorm(g, x, "norm1", c->eps));
    tap(g, c, a, "act.block%d.attn", i);
    x = kd_add(g, x, branch(g, c, a, "gamma_1", rate));
    const kd_val m = mlp(g, c, kd_layernorm(g, x, "norm2", c->eps));
    tap(g, c, m, "act.block%d.mlp", i);
    x = kd_add(g, x, branch(g, c, m, "gamma_2", rate));
    if (c->recompute) {
        kd_recompute_end(g);
    }
    kd_scope_pop(g);
    tap(g, c, x, "act.block%d", i);
    return x;
}

/* x (B,N,dim), what the last block gives. */
static void keep_features(kd_graph *g, const kd_vit_cfg *c, kd_val x)
{
    const int64_t b = kd_spec_of(g, x).shape.dim[0], n = kd_vit_tokens(c), steps = c->frames / c->tubelet;
    if (c->temporal) {
        const kd_val by_time = kd_reshape(g, x, kd_shape4(b, steps, n / steps, c->dim));
        kd_output(g, "temporal", kd_reduce(g, by_time, KD_REDUCE_MEAN, 1u << 2));
    }
    if (c->tokens) {
        kd_output(g, "tokens", x);
    }
}

kd_vit_out kd_vit_build(kd_graph *g, const kd_vit_cfg *c, const kd_vit_input *input)
{
    kd_vit_out out = {{0}, {0}};
    kd_err bad = {0};
    if (kd_vit_check(c, &bad) != KD_OK) {
        kd_graph_fail(g, KD_E_CONFIG, "%s", bad.msg);
        return out;
    }
    const kd_spec in = kd_spec_of(g, input->clip);
    kd_val x = patch_embed(g, c, input);
    tap(g, c, x, "act.patch_embed", 0);
    x = kd_dropout(g, kd_add(g, x, position(g, c)), c->drop);
    for (int i = 0; i < c->depth; i++) {
        x = block(g, c, x, i);
    }
    keep_features(g, c, x);
    if (c->cls_pooling) {
        x = kd_reshape(g, kd_slice(g, x, 1, 0, 1), kd_shape2(in.shape.dim[0], c->dim));
        x = kd_layernorm(g, x, "norm", c->eps);
    } else {
        x = kd_reduce(g, x, KD_REDUCE_MEAN, 1u << 1);
        x = kd_layernorm(g, x, "fc_norm", c->fc_norm_eps);
    }
    kd_linear_opts head = {.weight = kd_init_trunc_normal(0.02f), .bias = kd_init_const(0.0f), .f32_out = true};
    head.weight.scale = c->init_scale;
    out.features = x;
    out.logits = kd_linear(g, kd_dropout(g, x, c->head_drop), "head", c->classes, &head);
    kd_output(g, "features", out.features);
    kd_output(g, "logits", out.logits);
    return out;
}

/* ---- parameter groups ------------------------------------------------------------------------ */

int kd_vit_layer_id(const char *name, int depth)
{
    if (strncmp(name, "patch_embed", 11) == 0 || strcmp(name, "pos_embed") == 0 || strcmp(name, "cls_token") == 0 ||
        strcmp(name, "mask_token") == 0) {
        return 0;
    }
    if (strncmp(name, "blocks.", 7) == 0) {
        return (int)strtol(name + 7, NULL, 10) + 1;
    }
    return depth + 1;
}

void kd_vit_param_groups(kd_params *p, int depth, float layer_decay)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        kd_param_info *e = kd_params_at(p, i);
        const size_t len = strlen(e->name);
        const bool bias = len >= 5 && strcmp(e->name + len - 5, ".bias") == 0;
        const bool scale = len >= 6 && strcmp(e->name + len - 6, ".scale") == 0;
        e->decay = !(e->shape.rank <= 1 || bias || scale || strcmp(e->name, "pos_embed") == 0);
        e->lr_scale = layer_decay >= 1.0f
                          ? 1.0f
                          : (float)pow((double)layer_decay, (double)(depth + 1 - kd_vit_layer_id(e->name, depth)));
    }
}
