/* Parity of the teacher: small models (forward, losses, every gradient) and forward passes of the
 * released sizes. */
#include "kernels/kd_layers.h"
#include "tools/parity/parity_net.h"

#include <math.h>
#include <stdio.h>

/* kd_parity_net_feed stops at an input of another CRC. */
static void input_is_right(parity *p)
{
    if (kd_json_get(kd_json_get(p->manifest, "input"), "crc32") != NULL) {
        kd_parity_check(p, "input: CRC", true, NULL);
    }
}

/* ---- tiny models ----------------------------------------------------------------------------- */

static kd_status one_loss(parity *p, kd_parity_net *n, const char *which, const float *target, kd_err *err)
{
    const kd_json *losses = kd_json_get(p->manifest, "losses");
    const size_t bytes = (size_t)n->batch * (size_t)n->cfg.classes * sizeof *target;
    double want = 0.0, ref = 0.0;
    float got = 0.0f;
    char name[64];
    if (kd_json_get(losses, which) == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_get_f64(losses, which, &want, err));
    KD_TRY(kd_json_opt_f64(kd_json_get(p->manifest, "losses_f32"), which, want, &ref, err));
    KD_TRY(kd_params_zero_grad(n->params));
    KD_TRY(kd_program_write(n->prog, "target", target, bytes));
    KD_TRY(kd_parity_net_run(n, err));
    KD_TRY(kd_program_read_f32(n->prog, "loss", &got, 1));
    (void)snprintf(name, sizeof name, "loss.%s", which);
    kd_parity_f32(p, name, &got, &want, 1, fabs(ref - want));
    return kd_json_get(kd_json_get(p->manifest, "grads"), which) != NULL ? kd_parity_net_grads(p, n, which, err)
                                                                         : KD_OK;
}

/* The gradient of the input has no recorded f32 difference: it lies at the same end of backward
 * as the patch embedding's gradient, whose difference is taken in proportion to the RMS. */
static kd_status input_gradient(parity *p, kd_parity_net *n, float *clip, kd_err *err)
{
    static const char PATCH[] = "patch_embed.proj.weight";
    const kd_json *grads = NULL, *soft = NULL, *patch = NULL;
    double diff = 0.0, l2 = 0.0, l2_input = 0.0, worst = 0.0;
    KD_TRY(kd_json_get_object(p->manifest, "grads", &grads, err));
    const kd_json *input = kd_json_get(grads, "soft_input");
    if (input == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_get_object(grads, "soft", &soft, err));
    KD_TRY(kd_json_get_object(soft, PATCH, &patch, err));
    KD_TRY(kd_json_get_f64(patch, "f32_maxabsdiff", &diff, err));
    KD_TRY(kd_json_get_f64(patch, "l2", &l2, err));
    KD_TRY(kd_json_get_f64(input, "l2", &l2_input, err));
    const double floats = (double)kd_parity_net_floats(n);
    const int at = kd_params_find(n->params, PATCH);
    const double numel = at >= 0 ? (double)kd_params_at(n->params, at)->numel : 1.0;
    const double rms = l2 / sqrt(numel), rms_input = l2_input / sqrt(floats);
    KD_TRY(kd_program_read_f32(n->prog, "grad:input", clip, (int64_t)kd_parity_net_floats(n)));
    /* The pixels of a patch are sums over the same rounded values, whose errors do not cancel between them. */
    const double deviations = p->dtype == KD_F32 ? 1.0 : 3.0;
    kd_parity_summary(p, "grad", "input", clip, (int64_t)kd_parity_net_floats(n), input,
                      rms > 0.0 ? diff * rms_input / rms : 0.0, deviations, &worst);
    kd_parity_item(p, "grads.soft_input: error / allowed", worst, 1.0);
    return KD_OK;
}

static kd_status tiny_train(parity *p, kd_parity_net *n, kd_err *err)
{
    double label[64], lam = 1.0, smoothing = 0.0;
    const size_t b = (size_t)n->batch, k = (size_t)n->cfg.classes;
    kd_status st = KD_OK;
    float *target = kd_calloc(b * k, sizeof *target);
    float *clip = kd_calloc(kd_parity_net_floats(n), sizeof *clip);
    if (target == NULL || clip == NULL) {
        st = KD_E_OOM;
        goto done;
    }
    KD_GO(kd_parity_net_build(p, n, NET_TRAIN_INPUT, err));
    KD_GO(kd_parity_net_feed(p, n, clip, err));
    KD_GO(kd_json_get_f64s(p->manifest, "labels", label, KD_MIN(b, KD_COUNTOF(label)), err));
    KD_GO(kd_json_get_f64(p->manifest, "lam", &lam, err));
    KD_GO(kd_json_get_f64(p->manifest, "smoothing", &smoothing, err));
    kd_parity_targets(label, n->batch, n->cfg.classes, 0.0, 1.0, false, target);
    KD_GO(one_loss(p, n, "ce", target, err));
    kd_parity_targets(label, n->batch, n->cfg.classes, smoothing, 1.0, false, target);
    KD_GO(one_loss(p, n, "ls", target, err));
    kd_parity_targets(label, n->batch, n->cfg.classes, smoothing, lam, true, target);
    KD_GO(one_loss(p, n, "soft", target, err));
    KD_GO(input_gradient(p, n, clip, err));
done:
    kd_free(target);
    kd_free(clip);
    return st;
}

/* Every activation that the fixture holds, and the lengths that the manifest lists. */
static kd_status tiny_activations(parity *p, kd_parity_net *n, const kd_st_file *f, float *work, kd_err *err)
{
    const kd_json *lengths = kd_json_get(p->manifest, "act_l2");
    char name[96], text[128];
    for (size_t i = 0; i < kd_st_count(f); i++) {
        const kd_st_entry *e = kd_st_at(f, i);
        if (strncmp(e->name, "act.", 4) != 0) {
            continue;
        }
        if (kd_program_tensor(n->prog, e->name).data == NULL) {
            kd_parity_skip(p, e->name, "no activation that this build keeps");
        } else {
            KD_TRY(kd_parity_net_activation(p, n, f, e->name, e->name, err));
        }
    }
    for (size_t i = 0; i < kd_json_count(lengths); i++) {
        double want = 0.0, square = 0.0;
        (void)snprintf(name, sizeof name, "act.%s", kd_json_key(kd_json_at(lengths, i)));
        KD_TRY(kd_json_as_f64(kd_json_at(lengths, i), &want, err));
        const kd_tensor t = kd_program_tensor(n->prog, name);
        const int64_t count = t.data != NULL ? kd_shape_numel(&t.shape) : 0;
        if (count == 0 || (size_t)count > kd_parity_net_floats(n)) {
            continue; /* named above */
        }
        KD_TRY(kd_program_read_f32(n->prog, name, work, count));
        for (int64_t k = 0; k < count; k++) {
            square += (double)work[k] * (double)work[k];
        }
        (void)snprintf(text, sizeof text, "%s l2", name);
        kd_parity_item(p, text, fabs(sqrt(square) - want), kd_parity_net_allowed(p, n, name, want));
    }
    return KD_OK;
}

kd_status kd_parity_vit_tiny(parity *p, kd_err *err)
{
    kd_vit_cfg cfg;
    int64_t batch = 0, want_params = 0;
    double diff = 0.0;
    kd_parity_net n = {0};
    kd_st_file *f = NULL;
    float *clip = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_parity_net_cfg(p->manifest, &cfg, err));
    KD_GO(kd_json_get_range(p->manifest, "batch", 1, 64, &batch, err));
    KD_GO(kd_json_get_f64(p->manifest, "f32_logit_maxabsdiff", &diff, err));
    KD_GO(kd_parity_open(p, "logits_f64", &f, err));
    KD_GO(kd_parity_net_open(p, &cfg, (int)batch, true, &n, err));
    KD_GO(kd_json_get_i64(p->manifest, "n_params", &want_params, err));
    kd_parity_check(p, "parameter count", kd_params_numel(n.params) == want_params, NULL);
    KD_GO(kd_parity_net_build(p, &n, NET_EVAL, err));
    clip = kd_calloc(kd_parity_net_floats(&n), sizeof *clip);
    if (clip == NULL) {
        st = KD_E_OOM;
        goto done;
    }
    KD_GO(kd_parity_net_feed(p, &n, clip, err));
    input_is_right(p);
    KD_GO(kd_parity_net_run(&n, err));
    KD_GO(tiny_activations(p, &n, f, clip, err));
    KD_GO(kd_parity_net_activation(p, &n, f, "features", "features", err));
    KD_GO(kd_parity_net_compare(p, &n, f, "logits", "logits_f64", diff, err));
    KD_GO(tiny_train(p, &n, err));
done:
    kd_free(clip);
    kd_st_close(f);
    kd_parity_net_close(&n);
    return st;
}

/* ---- released sizes: the forward pass of one clip -------------------------------------------- */

static kd_status dims_of(const kd_json *params, const char *name, double *dim, size_t rank, kd_err *err)
{
    const kd_json *e = NULL;
    KD_TRY(kd_json_get_object(params, name, &e, err));
    KD_TRY(kd_json_get_f64s(e, "shape", dim, rank, err));
    for (size_t i = 0; i < rank; i++) {
        if (!(dim[i] >= 1.0 && dim[i] <= 1e6)) {
            return KD_FAIL(err, KD_E_DATA, "%s: dimension %zu of %s is %g", "params", i, name, dim[i]);
        }
    }
    return KD_OK;
}

/* The number of heads is in no shape: what the manifest says, what the released sizes have, else 64 channels a head. */
static kd_status heads_of(const kd_json *m, int dim, int *heads, kd_err *err)
{
    int64_t stated = 0;
    KD_TRY(kd_json_opt_i64(m, "num_heads", 0, &stated, err));
    KD_TRY(kd_json_opt_i64(kd_json_get(m, "config"), "num_heads", stated, &stated, err));
    *heads = (int)KD_MIN(KD_MAX(stated, (int64_t)0), (int64_t)dim);
    static const char *const SIZES[] = {"s", "b", "l", "h", "g"};
    for (size_t i = 0; i < KD_COUNTOF(SIZES) && *heads == 0; i++) {
        kd_vit_cfg c;
        if (kd_vit_preset(SIZES[i], &c) && c.dim == dim) {
            *heads = c.heads;
        }
    }
    *heads = *heads == 0 ? KD_MAX(dim / 64, 1) : *heads;
    return KD_OK;
}

/* The configuration from the shapes of input and parameters. */
static kd_status shapes_cfg(const kd_json *m, kd_vit_cfg *c, int *batch, kd_err *err)
{
    const kd_json *params = NULL, *input = NULL;
    double in[5], patch[5], fc1[2], head[2], eps = 0.0, fc_eps = 0.0;
    KD_TRY(kd_json_get_object(m, "params", &params, err));
    KD_TRY(kd_json_get_object(m, "input", &input, err));
    KD_TRY(kd_json_get_f64s(input, "shape", in, KD_COUNTOF(in), err));
    KD_TRY(dims_of(params, "patch_embed.proj.weight", patch, KD_COUNTOF(patch), err));
    KD_TRY(dims_of(params, "blocks.0.mlp.fc1.weight", fc1, KD_COUNTOF(fc1), err));
    KD_TRY(dims_of(params, "head.weight", head, KD_COUNTOF(head), err));
    KD_TRY(kd_json_opt_f64(m, "ln_eps", 1e-6, &eps, err));
    KD_TRY(kd_json_opt_f64(m, "fc_norm_eps", eps, &fc_eps, err));
    if (!(in[0] >= 1.0 && in[0] <= 64.0 && in[2] >= 1.0 && in[2] <= 4096.0 && in[4] >= 1.0 && in[4] <= 4096.0)) {
        return KD_FAIL(err, KD_E_DATA, "manifest input.shape: expected (B,3,T,H,W), B up to 64, T, H, W up to 4096");
    }
    *c = (kd_vit_cfg){.img_size = (int)in[4],
                      .frames = (int)in[2],
                      .patch = (int)patch[4],
                      .tubelet = (int)patch[2],
                      .dim = (int)patch[0],
                      .mlp_hidden = (int)fc1[0],
                      .classes = (int)head[0],
                      .eps = (float)eps,
                      .fc_norm_eps = (float)fc_eps,
                      .init_scale = 1.0f,
                      .taps = true};
    KD_TRY(heads_of(m, c->dim, &c->heads, err));
    char name[64];
    for (; c->depth < 1000; c->depth++) {
        (void)snprintf(name, sizeof name, "blocks.%d.norm1.weight", c->depth);
        if (kd_json_get(params, name) == NULL) {
            break;
        }
    }
    c->init_values = kd_json_get(params, "blocks.0.gamma_1") != NULL ? 0.1f : 0.0f;
    c->qkv_bias = kd_json_get(params, "blocks.0.attn.q_bias") != NULL;
    c->cos_attn = kd_json_get(params, "blocks.0.attn.scale") != NULL;
    c->learnable_pos = kd_json_get(params, "pos_embed") != NULL;
    c->cls_pooling = kd_json_get(params, "fc_norm.weight") == NULL;
    *batch = (int)in[0];
    return KD_OK;
}

typedef struct full_places {
    double idx[64];
    size_t k;
} full_places;

/* Reference activations: norm, sum and samples of every tensor.  Samples are allowed what an activation is; the sum of
 * many values of either sign is bounded from the norm. */
static kd_status full_tap(parity *p, kd_parity_net *n, const kd_json *golden, const full_places *at, kd_err *err)
{
    const char *tap = kd_json_key(golden);
    const kd_json *f64 = kd_json_get(p->manifest, "act_norms_f64"), *f32 = kd_json_get(p->manifest, "act_norms_f32");
    char name[96], text[128];
    double want_l2 = 0.0, ref_l2 = 0.0, want_sum = 0.0, ref_sum = 0.0, l2 = 0.0, sum = 0.0, worst = 0.0, largest = 0.0;
    (void)snprintf(name, sizeof name, "act.%s", tap);
    (void)snprintf(text, sizeof text, "%s.sum", tap);
    KD_TRY(kd_json_get_f64(f64, tap, &want_l2, err));
    KD_TRY(kd_json_get_f64(f32, tap, &ref_l2, err));
    KD_TRY(kd_json_get_f64(f64, text, &want_sum, err));
    KD_TRY(kd_json_get_f64(f32, text, &ref_sum, err));
    const kd_tensor t = kd_program_tensor(n->prog, name);
    const size_t count = t.data != NULL ? (size_t)kd_shape_numel(&t.shape) : 0;
    float *v = kd_calloc(count + 1, sizeof *v);
    if (v == NULL || count == 0 || kd_program_read_f32(n->prog, name, v, (int64_t)count) != KD_OK) {
        kd_free(v);
        kd_parity_check(p, name, false, "is no activation of this model");
        return KD_OK;
    }
    for (size_t i = 0; i < count; i++) {
        l2 += (double)v[i] * (double)v[i];
        sum += (double)v[i];
    }
    const double rms = want_l2 / sqrt((double)count);
    /* The roundings of a sum's terms add up like a random walk; in half precision they share a sign
     * within a channel (weights are rounded once for all tokens), which shows in the sum. */
    const double walk = p->dtype == KD_F32 ? 4.0 : 64.0;
    for (size_t j = 0; j < at->k; j++) {
        double want = NAN;
        (void)!kd_json_as_f64(kd_json_at(golden, j), &want, NULL);
        const double e =
            at->idx[j] >= 0.0 && at->idx[j] < (double)count ? fabs((double)v[(size_t)at->idx[j]] - want) : NAN;
        worst = e <= worst ? worst : e;
        largest = fmax(largest, fabs(want));
    }
    kd_free(v);
    (void)snprintf(text, sizeof text, "%s l2", name);
    kd_parity_item(p, text, fabs(sqrt(l2) - want_l2), kd_parity_allowed(p, fabs(ref_l2 - want_l2), want_l2));
    (void)snprintf(text, sizeof text, "%s sum", name);
    kd_parity_item(p, text, fabs(sum - want_sum),
                   fmax(kd_parity_allowed(p, fabs(ref_sum - want_sum), walk * want_l2),
                        kd_parity_net_allowed(p, n, name, want_l2)));
    (void)snprintf(text, sizeof text, "%s samples", name);
    largest = fmax(largest, 4.0 * rms);
    kd_parity_item(p, text, worst, kd_parity_net_allowed(p, n, name, largest));
    return KD_OK;
}

static kd_status full_argmax(parity *p, kd_parity_net *n, const float *logits, kd_err *err)
{
    int64_t want = 0;
    int best = 0;
    char text[48];
    KD_TRY(kd_json_get_i64(p->manifest, "argmax", &want, err));
    for (int k = 1; k < n->cfg.classes; k++) {
        best = logits[k] > logits[best] ? k : best;
    }
    (void)snprintf(text, sizeof text, "(class %d, expected %d)", best, (int)want);
    kd_parity_check(p, "argmax", best == want, text);
    return KD_OK;
}

kd_status kd_parity_vit_full(parity *p, kd_err *err)
{
    kd_vit_cfg cfg;
    int batch = 0;
    int64_t want_params = 0;
    double logit_diff = 0.0, feature_diff = 0.0;
    full_places at;
    kd_parity_net n = {0};
    kd_st_file *f = NULL;
    float *buf = NULL;
    kd_status st = KD_OK;
    KD_GO(shapes_cfg(p->manifest, &cfg, &batch, err));
    KD_GO(kd_json_get_f64(p->manifest, "f32_logit_maxabsdiff", &logit_diff, err));
    KD_GO(kd_json_get_f64(p->manifest, "f32_feature_maxabsdiff", &feature_diff, err));
    const kd_json *where = kd_json_get(p->manifest, "act_sample_idx");
    at.k = KD_MIN(kd_json_count(where), KD_COUNTOF(at.idx));
    KD_GO(kd_json_get_f64s(p->manifest, "act_sample_idx", at.idx, at.k, err));
    KD_GO(kd_parity_open(p, "logits_f64", &f, err));
    KD_GO(kd_parity_net_open(p, &cfg, batch, false, &n, err));
    KD_GO(kd_json_get_i64(p->manifest, "n_params", &want_params, err));
    kd_parity_check(p, "parameter count", kd_params_numel(n.params) == want_params, NULL);
    KD_GO(kd_parity_net_build(p, &n, NET_EVAL, err));
    buf = kd_calloc(kd_parity_net_floats(&n), sizeof *buf);
    if (buf == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    KD_GO(kd_parity_net_feed(p, &n, buf, err));
    input_is_right(p);
    KD_GO(kd_parity_net_run(&n, err));
    const kd_json *samples = kd_json_get(p->manifest, "act_samples_f64");
    for (size_t i = 0; i < kd_json_count(samples); i++) {
        KD_GO(full_tap(p, &n, kd_json_at(samples, i), &at, err));
    }
    KD_GO(kd_parity_net_compare(p, &n, f, "features", "features_f64", feature_diff, err));
    KD_GO(kd_parity_net_compare(p, &n, f, "logits", "logits_f64", logit_diff, err));
    KD_GO(kd_program_read_f32(n.prog, "logits", buf, (int64_t)batch * cfg.classes));
    KD_GO(full_argmax(p, &n, buf, err));
done:
    kd_free(buf);
    kd_st_close(f);
    kd_parity_net_close(&n);
    return st;
}
