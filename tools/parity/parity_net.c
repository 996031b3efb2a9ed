/* Teacher models built from manifests: see parity_net.h. */
#include "tools/parity/parity_net.h"

#include "kernels/kd_layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void kd_parity_net_close(kd_parity_net *n)
{
    kd_program_free(n->prog);
    kd_params_free(n->params);
    memset(n, 0, sizeof *n);
}

/* ---- configuration from the manifest --------------------------------------------------------- */

kd_status kd_parity_net_cfg(const kd_json *m, kd_vit_cfg *c, kd_err *err)
{
    const kd_json *j = NULL;
    int64_t img, patch, classes, dim, depth, heads, frames, tubelet;
    double ratio, init, eps, fc_eps;
    bool mean;
    KD_TRY(kd_json_get_object(m, "config", &j, err));
    KD_TRY(kd_json_get_range(j, "img_size", 1, 4096, &img, err));
    KD_TRY(kd_json_get_range(j, "patch_size", 1, 512, &patch, err));
    KD_TRY(kd_json_get_range(j, "num_classes", 1, 100000, &classes, err));
    KD_TRY(kd_json_get_range(j, "embed_dim", 1, 65536, &dim, err));
    KD_TRY(kd_json_get_range(j, "depth", 1, 1000, &depth, err));
    KD_TRY(kd_json_get_range(j, "num_heads", 1, 1000, &heads, err));
    KD_TRY(kd_json_get_range(j, "all_frames", 1, 4096, &frames, err));
    KD_TRY(kd_json_opt_i64(j, "tubelet_size", 2, &tubelet, err));
    KD_TRY(kd_json_opt_f64(j, "mlp_ratio", 4.0, &ratio, err));
    KD_TRY(kd_json_opt_f64(j, "init_values", 0.0, &init, err));
    KD_TRY(kd_json_opt_bool(j, "use_mean_pooling", true, &mean, err));
    KD_TRY(kd_json_opt_f64(m, "ln_eps", 1e-6, &eps, err));
    KD_TRY(kd_json_opt_f64(m, "fc_norm_eps", eps, &fc_eps, err));
    *c = (kd_vit_cfg){.img_size = (int)img,
                      .frames = (int)frames,
                      .patch = (int)patch,
                      .tubelet = (int)tubelet,
                      .dim = (int)dim,
                      .depth = (int)depth,
                      .heads = (int)heads,
                      .mlp_hidden = (int)((double)dim * ratio),
                      .classes = (int)classes,
                      .init_values = (float)init,
                      .cls_pooling = !mean,
                      .eps = (float)eps,
                      .fc_norm_eps = (float)fc_eps,
                      .init_scale = 1.0f,
                      .taps = true};
    KD_TRY(kd_json_opt_bool(j, "qkv_bias", true, &c->qkv_bias, err));
    KD_TRY(kd_json_opt_bool(j, "cos_attn", false, &c->cos_attn, err));
    return kd_json_opt_bool(j, "use_learnable_pos_emb", false, &c->learnable_pos, err);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Scale and offset of a parameter by its name: the rules of the fixtures' README. */
void kd_parity_net_rule(const char *name, int64_t fan_in, float *scale, float *offset)
{
    const char *dot = strrchr(name, '.');
    const char *leaf = dot != NULL ? dot + 1 : name;
    const size_t len = strlen(name);
    *offset = 0.0f;
    if (len >= 10 && strcmp(name + len - 10, "attn.scale") == 0) {
        *scale = 0.5f;
        *offset = 2.3025851f;
    } else if (strcmp(leaf, "gamma_1") == 0 || strcmp(leaf, "gamma_2") == 0) {
        *scale = 0.05f;
        *offset = 0.1f;
    } else if (strcmp(leaf, "q_bias") == 0 || strcmp(leaf, "v_bias") == 0 || strcmp(leaf, "bias") == 0) {
        *scale = 0.1f;
    } else if (strcmp(name, "pos_embed") == 0) {
        *scale = 0.5f;
    } else if (strstr(name, "norm") != NULL && strcmp(leaf, "weight") == 0) {
        *scale = 0.25f;
        *offset = 1.0f;
    } else if (len >= 15 && strcmp(name + len - 15, "attn.qkv.weight") == 0) {
        *scale = 2.5f / sqrtf((float)fan_in);
    } else {
        *scale = 1.25f / sqrtf((float)fan_in);
    }
}

static bool has_shape(const kd_json *list, const kd_shape *shape)
{
    bool same = (int)kd_json_count(list) == shape->rank;
    for (int i = 0; same && i < shape->rank; i++) {
        int64_t d = -1;
        same = kd_json_as_i64(kd_json_at(list, (size_t)i), &d, NULL) == KD_OK && d == shape->dim[i];
    }
    return same;
}

/* The model has the parameters that the manifest lists, by name and shape. */
static kd_status check_names(parity *p, const kd_parity_net *n, const kd_json *list)
{
    for (int i = 0; i < kd_params_count(n->params); i++) {
        const kd_param_info *e = kd_params_at(n->params, i);
        const kd_json *entry = kd_json_get(list, e->name);
        const kd_json *shape = kd_json_get(entry, "shape");
        if (entry == NULL || (shape != NULL && !has_shape(shape, &e->shape))) {
            char want[160], have[KD_SHAPE_TEXT_MAX];
            (void)kd_shape_text(&e->shape, have, sizeof have);
            (void)snprintf(want, sizeof want, "%s %s", e->name, have);
            return kd_parity_stop(p, "weights: names and shapes", want, entry == NULL ? "none" : "another shape");
        }
    }
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const char *name = kd_json_key(kd_json_at(list, i));
        if (kd_params_find(n->params, name) < 0) {
            return kd_parity_stop(p, "weights: names and shapes", name, "no such parameter");
        }
    }
    kd_parity_check(p, "weights: names are the reference's", true, NULL);
    return KD_OK;
}

/* Values of parameter e into v. */
static kd_status generate(parity *p, const kd_param_info *e, const kd_json *entry, float *v, kd_err *err)
{
    float scale, offset;
    double s = 0.0, o = 0.0;
    const char *name = NULL, *crc = NULL;
    char what[200];
    kd_parity_net_rule(e->name, e->shape.rank > 0 ? e->numel / e->shape.dim[0] : 1, &scale, &offset);
    KD_TRY(kd_json_opt_f64(entry, "scale", (double)scale, &s, err));
    KD_TRY(kd_json_opt_f64(entry, "offset", (double)offset, &o, err));
    KD_TRY(kd_json_opt_str(entry, "gen_name", e->name, &name, err));
    kd_parity_fill(name, (float)s, (float)o, v, (size_t)e->numel);
    if (entry == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_get_str(entry, "crc32", &crc, err));
    (void)snprintf(what, sizeof what, "weights: CRC of %s", e->name);
    return kd_parity_crc(p, what, v, (size_t)e->numel * sizeof *v, crc);
}

static kd_status fill_params(parity *p, kd_parity_net *n, kd_err *err)
{
    const kd_json *list = NULL;
    if (kd_json_get(p->manifest, "params") != NULL) {
        KD_TRY(kd_json_get_object(p->manifest, "params", &list, err));
        KD_TRY(check_names(p, n, list));
    }
    for (int i = 0; i < kd_params_count(n->params); i++) {
        const kd_param_info *e = kd_params_at(n->params, i);
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        if (v == NULL) {
            return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        }
        kd_status st = generate(p, e, kd_json_get(list, e->name), v, err);
        st = st == KD_OK ? kd_params_write(n->params, i, v, e->numel) : st;
        kd_free(v);
        KD_TRY(st);
    }
    if (list != NULL) {
        char text[80];
        (void)snprintf(text, sizeof text, "(%d parameters)", kd_params_count(n->params));
        kd_parity_check(p, "weights: CRC of every tensor", true, text);
    }
    return kd_params_changed(n->params);
}

/* ---- programs -------------------------------------------------------------------------------- */

kd_status kd_parity_net_build(parity *p, kd_parity_net *n, kd_parity_net_mode mode, kd_err *err)
{
    const kd_graph_opts go = {.params = n->params, .dtype = p->dtype, .training = mode != NET_EVAL};
    kd_graph *g = kd_graph_create(&go);
    if (g == NULL) {
        return KD_E_OOM;
    }
    const kd_vit_cfg *c = &n->cfg;
    const kd_val x = kd_input(g, "input", KD_F32, kd_shape5(n->batch, 3, c->frames, c->img_size, c->img_size));
    const kd_vit_out o = kd_vit_build(g, c, &(kd_vit_input){.clip = x});
    kd_compile_opts co = {0};
    if (mode == NET_TRAIN || mode == NET_TRAIN_INPUT) {
        co.loss = kd_ce(g, o.logits, kd_input(g, "target", KD_F32, kd_shape2(n->batch, c->classes)), KD_NONE);
        kd_output(g, "loss", co.loss);
        co.grad_inputs = &x;
        co.n_grad_inputs = mode == NET_TRAIN_INPUT;
    }
    if (mode == NET_DECLARE) {
        const kd_err *bad = kd_graph_error(g);
        const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
        kd_graph_free(g);
        return st;
    }
    kd_program_free(n->prog);
    n->prog = NULL;
    return kd_program_compile(g, p->be, &co, &n->prog, err);
}

kd_status kd_parity_net_open(parity *p, const kd_vit_cfg *cfg, int batch, bool grads, kd_parity_net *n, kd_err *err)
{
    memset(n, 0, sizeof *n);
    n->cfg = *cfg;
    n->batch = batch;
    n->params = kd_params_create(KD_F32);
    if (n->params == NULL) {
        return KD_E_OOM;
    }
    KD_TRY(kd_parity_net_build(p, n, NET_DECLARE, err));
    KD_TRY(kd_params_alloc(n->params, p->be, p->dtype, grads, err));
    return fill_params(p, n, err);
}

size_t kd_parity_net_floats(const kd_parity_net *n)
{
    return (size_t)n->batch * 3 * (size_t)n->cfg.frames * (size_t)n->cfg.img_size * (size_t)n->cfg.img_size;
}

static kd_status check_input(parity *p, const kd_parity_net *n, const kd_json *input, const float *clip, kd_err *err)
{
    const kd_vit_cfg *c = &n->cfg;
    const kd_shape want = kd_shape5(n->batch, 3, c->frames, c->img_size, c->img_size);
    const kd_json *shape = kd_json_get(input, "shape");
    const char *crc = NULL;
    if (shape != NULL && !has_shape(shape, &want)) {
        char text[KD_SHAPE_TEXT_MAX];
        (void)kd_shape_text(&want, text, sizeof text);
        return kd_parity_stop(p, "input: shape", text, "another in the manifest");
    }
    if (kd_json_get(input, "crc32") == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_get_str(input, "crc32", &crc, err));
    return kd_parity_crc(p, "input: CRC", clip, kd_parity_net_floats(n) * sizeof *clip, crc);
}

kd_status kd_parity_net_feed(parity *p, kd_parity_net *n, float *clip, kd_err *err)
{
    const kd_json *input = kd_json_get(p->manifest, "input");
    const char *name = NULL;
    double scale = 0.0, offset = 0.0;
    KD_TRY(kd_json_opt_str(input, "name", "input", &name, err));
    KD_TRY(kd_json_opt_f64(input, "scale", 2.0, &scale, err));
    KD_TRY(kd_json_opt_f64(input, "offset", 0.0, &offset, err));
    kd_parity_fill(name, (float)scale, (float)offset, clip, kd_parity_net_floats(n));
    KD_TRY(check_input(p, n, input, clip, err));
    const kd_status st = kd_program_write(n->prog, "input", clip, kd_parity_net_floats(n) * sizeof *clip);
    return st == KD_OK ? st : KD_FAIL(err, st, "parity: input %s does not fit", name);
}

kd_status kd_parity_net_run(kd_parity_net *n, kd_err *err)
{
    const kd_status st = kd_program_run(n->prog, NULL);
    return st == KD_OK ? st : KD_FAIL(err, st, "parity: %s: %s", kd_program_where(n->prog), kd_status_text(st));
}

double kd_parity_net_allowed(const parity *p, const kd_parity_net *n, const char *name, double largest)
{
    const kd_vit_cfg *c = &n->cfg;
    const int row = 3 * c->tubelet * c->patch * c->patch, wide = KD_MAX(c->mlp_hidden, c->dim);
    int block = c->depth - 1;
    double branches = 1.0; /* at the patches */
    if (sscanf(name, "act.block%d", &block) == 1 || strcmp(name, "features") == 0) {
        branches = 2.0 * (double)(block + 1);
    }
    return kd_parity_allowed_sum(p, (double)KD_MAX(row, wide), branches, largest);
}

/* Output `name` and tensor `golden` of the fixture; kd_free both. */
static kd_status read_both(kd_parity_net *n, const kd_st_file *f, const char *name, const char *golden, float **got,
                           double **want, size_t *count, kd_err *err)
{
    const kd_tensor t = kd_program_tensor(n->prog, name);
    *count = t.data != NULL ? (size_t)kd_shape_numel(&t.shape) : 0;
    *want = NULL;
    *got = kd_calloc(*count + 1, sizeof **got);
    if (*got == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: no memory for %s", name);
    }
    if (*count == 0) {
        return KD_FAIL(err, KD_E_DATA, "parity: %s is no activation of this model", name);
    }
    KD_TRY(kd_parity_tensor(f, golden, *count, want, err));
    return kd_program_read_f32(n->prog, name, *got, (int64_t)*count);
}

kd_status kd_parity_net_compare(parity *p, kd_parity_net *n, const kd_st_file *f, const char *name, const char *golden,
                                double diff, kd_err *err)
{
    float *got = NULL;
    double *want = NULL;
    size_t count = 0;
    const kd_status st = read_both(n, f, name, golden, &got, &want, &count, err);
    if (st == KD_OK) {
        kd_parity_f32(p, name, got, want, count, diff);
    }
    kd_free(got);
    kd_free(want);
    return st;
}

kd_status kd_parity_net_activation(parity *p, kd_parity_net *n, const kd_st_file *f, const char *name,
                                   const char *golden, kd_err *err)
{
    float *got = NULL;
    double *want = NULL, worst = 0.0, largest = 0.0;
    size_t count = 0;
    const kd_status st = read_both(n, f, name, golden, &got, &want, &count, err);
    for (size_t i = 0; st == KD_OK && i < count; i++) {
        const double e = fabs((double)got[i] - want[i]);
        worst = e <= worst ? worst : e; /* keeps NaN */
        largest = fmax(largest, fabs(want[i]));
    }
    if (st == KD_OK) {
        kd_parity_item(p, name, worst, kd_parity_net_allowed(p, n, name, largest));
    }
    kd_free(got);
    kd_free(want);
    return st;
}

/* All gradients against manifest.grads.<which>: one line, the worst tensor in units of its
 * allowance. */
kd_status kd_parity_net_grads(parity *p, kd_parity_net *n, const char *which, kd_err *err)
{
    const kd_json *grads = NULL, *list = NULL;
    double worst = 0.0;
    int compared = 0, absent = 0;
    char text[96];
    KD_TRY(kd_json_get_object(p->manifest, "grads", &grads, err));
    KD_TRY(kd_json_get_object(grads, which, &list, err));
    for (int i = 0; i < kd_params_count(n->params); i++) {
        const kd_param_info *e = kd_params_at(n->params, i);
        const kd_json *s = kd_json_get(list, e->name);
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        if (v == NULL || kd_params_read_grad(n->params, i, v, e->numel) != KD_OK) {
            kd_free(v);
            return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        }
        if (s == NULL) { /* the reference gives it no gradient: ours must be exactly zero */
            bool zero = true;
            for (int64_t k = 0; k < e->numel; k++) {
                zero = zero && v[k] == 0.0f;
            }
            absent++;
            if (!zero) {
                kd_parity_check(p, e->name, false, "has a gradient, the reference gives none");
            }
        } else {
            double diff = 0.0;
            (void)!kd_json_get_f64(s, "f32_maxabsdiff", &diff, NULL);
            kd_parity_summary(p, which, e->name, v, e->numel, s, diff, 1.0, &worst);
            compared++;
        }
        kd_free(v);
    }
    (void)snprintf(text, sizeof text, "grads.%s: worst of %d tensors / allowed", which, compared);
    kd_parity_item(p, text, worst, 1.0);
    kd_parity_check(p, "grads: every listed tensor compared", (size_t)compared == kd_json_count(list), NULL);
    (void)absent;
    return KD_OK;
}

void kd_parity_targets(const double *label, int batch, int classes, double s, double lam, bool mix, float *t)
{
    const double off = s / (double)classes, on = 1.0 - s + off;
    for (int i = 0; i < batch; i++) {
        const int partner = batch - 1 - i;
        for (int k = 0; k < classes; k++) {
            const double a = (int)label[i] == k ? on : off;
            const double b = (int)label[partner] == k ? on : off;
            t[i * classes + k] = (float)(mix ? a * lam + b * (1.0 - lam) : a);
        }
    }
}
