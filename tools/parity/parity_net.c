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
    double ratio, init, eps;
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
                      .fc_norm_eps = (float)eps,
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

static kd_status fill_params(parity *p, kd_parity_net *n, kd_err *err)
{
    const kd_json *list = NULL;
    int bad = 0, unknown = 0;
    const bool listed = kd_json_get(p->manifest, "params") != NULL;
    if (listed) {
        KD_TRY(kd_json_get_object(p->manifest, "params", &list, err));
    }
    for (int i = 0; i < kd_params_count(n->params); i++) {
        const kd_param_info *e = kd_params_at(n->params, i);
        float scale, offset;
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        if (v == NULL) {
            return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        }
        kd_parity_net_rule(e->name, e->shape.rank > 0 ? e->numel / e->shape.dim[0] : 1, &scale, &offset);
        kd_parity_fill(e->name, scale, offset, v, (size_t)e->numel);
        const kd_json *entry = kd_json_get(list, e->name);
        const char *crc = NULL;
        if (listed && (entry == NULL || kd_json_get_str(entry, "crc32", &crc, NULL) != KD_OK)) {
            unknown++;
        } else if (listed) {
            char have[12];
            (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(v, (size_t)e->numel * sizeof *v));
            bad += strcmp(have, crc) != 0;
        }
        const kd_status st = kd_params_write(n->params, i, v, e->numel);
        kd_free(v);
        KD_TRY(st);
    }
    if (listed) {
        char text[80];
        (void)snprintf(text, sizeof text, "(%d parameters)", kd_params_count(n->params));
        kd_parity_check(p, "weights: CRC of every tensor", bad == 0, text);
        kd_parity_check(p, "weights: names are the reference's",
                        unknown == 0 && (size_t)kd_params_count(n->params) == kd_json_count(list), NULL);
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

kd_status kd_parity_net_feed(const parity *p, kd_parity_net *n, float *clip, kd_err *err)
{
    const kd_json *input = kd_json_get(p->manifest, "input");
    const char *name = "input";
    double scale = 2.0, offset = 0.0;
    if (kd_json_get(input, "name") != NULL) {
        KD_TRY(kd_json_get_str(input, "name", &name, err));
        KD_TRY(kd_json_get_f64(input, "scale", &scale, err));
        KD_TRY(kd_json_get_f64(input, "offset", &offset, err));
    }
    kd_parity_fill(name, (float)scale, (float)offset, clip, kd_parity_net_floats(n));
    const kd_status st = kd_program_write(n->prog, "input", clip, kd_parity_net_floats(n) * sizeof *clip);
    return st == KD_OK ? st : KD_FAIL(err, st, "parity: input %s does not fit", name);
}

kd_status kd_parity_net_run(kd_parity_net *n, kd_err *err)
{
    const kd_status st = kd_program_run(n->prog, NULL);
    return st == KD_OK ? st : KD_FAIL(err, st, "parity: %s: %s", kd_program_where(n->prog), kd_status_text(st));
}

/* Compare output `name` with tensor `golden` of the fixture. */
kd_status kd_parity_net_compare(parity *p, kd_parity_net *n, const kd_st_file *f, const char *name, const char *golden,
                                double diff, kd_err *err)
{
    const kd_tensor t = kd_program_tensor(n->prog, name);
    const size_t count = (size_t)kd_shape_numel(&t.shape);
    double *want = NULL;
    float *got = kd_calloc(count + 1, sizeof *got);
    kd_status st = KD_OK;
    if (got == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: no memory for %s", name);
        goto done;
    }
    KD_GO(kd_parity_tensor(f, golden, count, &want, err));
    KD_GO(kd_program_read_f32(n->prog, name, got, (int64_t)count));
    kd_parity_f32(p, name, got, want, count, diff);
done:
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
            kd_parity_summary(p, which, e->name, v, e->numel, s, diff, &worst);
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
