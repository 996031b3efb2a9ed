/* Parity of the students: logits in both modes, loss, every parameter's gradient, running
 * statistics after one step. */
#include "distill/kd/loss.h"
#include "student/model/student.h"
#include "tools/parity/parity.h"

#include <math.h>
#include <stdio.h>

enum {
    BATCH_MAX = 64,
    GENERATED = 4,  /* clips drawn at least, by the fixtures' README */
    CUT_FRAME = 40, /* of sample 1: from this frame on body 0 is empty; a manifest may say another */
    SAMPLES = 16    /* of a tensor's gradient */
};

typedef struct pupil {
    kd_student_cfg cfg;
    int eval_batch, train_batch, generated;
    int64_t cut_frame;
    int64_t stream; /* floats of one sample of a stream */
    bool rectified; /* ReLU on whole activations after every block */
    kd_loss loss;   /* cross-entropy, and the information bottleneck of a model that has one */
    kd_params *params;
    kd_program *prog;
    kd_st_file *file;
} pupil;

/* ---- model and weights ----------------------------------------------------------------------- */

static kd_status read_pupil(const kd_json *m, pupil *s, kd_err *err)
{
    const char *family = NULL, *variant = NULL;
    const kd_json *input = NULL;
    int64_t shape[5], classes, eval_batch, train_batch, generated;
    char name[96];
    KD_TRY(kd_json_get_str(m, "family", &family, err));
    KD_TRY(kd_json_get_str(m, "variant", &variant, err));
    KD_TRY(kd_json_get_object(m, "input", &input, err));
    KD_TRY(kd_json_get_i64s(input, "shape", shape, KD_COUNTOF(shape), err));
    KD_TRY(kd_json_get_range(m, "classes", 1, 100000, &classes, err));
    KD_TRY(kd_json_get_range(m, "eval_batch", 1, BATCH_MAX, &eval_batch, err));
    KD_TRY(kd_json_get_range(m, "train_batch", 1, BATCH_MAX, &train_batch, err));
    KD_TRY(kd_json_opt_i64(input, "generated", KD_MAX(KD_MAX(eval_batch, train_batch), (int64_t)GENERATED), &generated,
                           err));
    KD_TRY(kd_json_opt_i64(input, "cut_frame", CUT_FRAME, &s->cut_frame, err));
    if (generated < KD_MAX(eval_batch, train_batch) || generated > BATCH_MAX) {
        return KD_FAIL(err, KD_E_DATA, "input.generated: expected the larger batch to %d clips, found %lld", BATCH_MAX,
                       (long long)generated);
    }
    const bool zero = strcmp(family, "zero") == 0;
    (void)snprintf(name, sizeof name, "%s%s-%s", zero ? "sfz" : "last-", zero ? "" : family, variant);
    const kd_student_info *info = kd_student_find(name);
    if (info == NULL) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "student %s", name);
    }
    for (size_t i = 1; i < KD_COUNTOF(shape); i++) {
        if (shape[i] < 1 || shape[i] > 4096 || (i == 1 && shape[i] != 3)) {
            return KD_FAIL(err, KD_E_DATA, "input.shape: expected (N,3,T,V,M)");
        }
    }
    if (shape[3] != kd_layout_ntu25()->joints) {
        return KD_FAIL(err, KD_E_DATA, "input.shape: expected %d joints (ntu25), found %lld", kd_layout_ntu25()->joints,
                       (long long)shape[3]);
    }
    s->cfg = (kd_student_cfg){.model = info,
                              .layout = kd_layout_ntu25(),
                              .classes = (int)classes,
                              .frames = (int)shape[2],
                              .bodies = (int)shape[4]};
    s->rectified = strcmp(family, "e1") == 0 || strcmp(family, "e2") == 0 || strcmp(family, "v2") == 0;
    s->eval_batch = (int)eval_batch;
    s->train_batch = (int)train_batch;
    s->generated = (int)generated;
    s->stream = 3 * shape[2] * shape[3] * shape[4];
    return kd_loss_own(false, info->latent > 0, &s->loss, err);
}

typedef enum pupil_mode { DECLARE, TRAIN, EVAL } pupil_mode;

static kd_status build(parity *p, pupil *s, pupil_mode mode, kd_err *err)
{
    const int batch = mode == EVAL ? s->eval_batch : s->train_batch;
    const kd_graph_opts go = {.params = s->params, .dtype = p->dtype, .training = mode != EVAL};
    kd_graph *g = kd_graph_create(&go);
    kd_val in[KD_STUDENT_MAX_STREAMS] = {{0}};
    kd_compile_opts co = {0};
    if (g == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    for (int i = 0; i < s->cfg.model->n_streams; i++) {
        in[i] = kd_input(g, s->cfg.model->streams[i], KD_F32,
                         kd_shape5(batch, 3, s->cfg.frames, s->cfg.layout->joints, s->cfg.bodies));
    }
    const kd_student_out o = kd_student_build(g, &s->cfg, in);
    if (mode != EVAL) {
        const kd_loss_batch b = {.batch = batch,
                                 .classes = s->cfg.classes,
                                 .target = kd_shape1(s->cfg.classes),
                                 .logits = o.logits,
                                 .features = o.feature,
                                 .latent = o.latent};
        co.loss = kd_loss_build(g, &s->loss, &b);
    }
    if (mode == DECLARE) {
        const kd_err *bad = kd_graph_error(g);
        const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
        kd_graph_free(g);
        return st;
    }
    kd_program_free(s->prog);
    s->prog = NULL;
    return kd_program_compile(g, p->be, &co, &s->prog, err);
}

static bool same_shape(const kd_json *shape, const kd_shape *have)
{
    bool same = (int)kd_json_count(shape) == have->rank;
    for (int i = 0; same && i < have->rank; i++) {
        int64_t d = -1;
        same = kd_json_as_i64(kd_json_at(shape, (size_t)i), &d, NULL) == KD_OK && d == have->dim[i];
    }
    return same;
}

/* CRC of n floats against member `key` of the manifest's object, an integer. */
static kd_status check_crc(parity *p, const kd_json *of, const char *key, const char *what, const float *v, size_t n,
                           kd_err *err)
{
    int64_t crc = 0;
    char want[12];
    KD_TRY(kd_json_get_range(of, key, 0, UINT32_MAX, &crc, err));
    (void)snprintf(want, sizeof want, "%08x", (unsigned)crc);
    return kd_parity_crc(p, what, v, n * sizeof *v, want);
}

static kd_status fill(parity *p, pupil *s, kd_err *err)
{
    const kd_json *all = NULL;
    char text[300];
    KD_TRY(kd_json_get_array(p->manifest, "tensors", &all, err));
    for (size_t t = 0; t < kd_json_count(all); t++) {
        const kd_json *e = kd_json_at(all, t);
        const char *name = NULL;
        int64_t ko = 0, ks = 0;
        KD_TRY(kd_json_get_str(e, "name", &name, err));
        KD_TRY(kd_json_get_range(e, "ko", -1048576, 1048576, &ko, err));
        KD_TRY(kd_json_get_range(e, "ks", -1048576, 1048576, &ks, err));
        const int i = kd_params_find(s->params, name);
        const kd_param_info *info = i >= 0 ? kd_params_at(s->params, i) : NULL;
        if (info == NULL || !same_shape(kd_json_get(e, "shape"), &info->shape)) {
            return kd_parity_stop(p, "weights: names and shapes", name,
                                  info == NULL ? "no such tensor in the model" : "another shape in the model");
        }
        float *v = kd_alloc((size_t)info->numel * sizeof *v);
        if (v == NULL) {
            return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        }
        kd_parity_fill_last(name, ko, ks, v, (size_t)info->numel);
        (void)snprintf(text, sizeof text, "weights: CRC of %s", name);
        kd_status st = check_crc(p, e, "data_crc32", text, v, (size_t)info->numel, err);
        st = st == KD_OK ? kd_params_write(s->params, i, v, info->numel) : st;
        kd_free(v);
        KD_TRY(st);
    }
    if ((size_t)kd_params_count(s->params) != kd_json_count(all)) {
        char want[40], have[40];
        (void)snprintf(want, sizeof want, "%zu tensors", kd_json_count(all));
        (void)snprintf(have, sizeof have, "%d in the model", kd_params_count(s->params));
        return kd_parity_stop(p, "weights: names and shapes", want, have);
    }
    (void)snprintf(text, sizeof text, "weights: CRC of %zu tensors", kd_json_count(all));
    kd_parity_check(p, text, true, NULL);
    kd_parity_check(p, "weights: names and shapes are the reference's", true, NULL);
    return kd_params_changed(s->params);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Sample 0: body 1 is empty.  Sample 1: body 0 is empty from the cut on. */
static void edit(const pupil *s, float *x)
{
    const kd_student_cfg *c = &s->cfg;
    const int64_t cells = s->stream / c->bodies;
    for (int64_t i = 0; i < cells; i++) {
        if (c->bodies > 1) {
            x[i * c->bodies + 1] = 0.0f;
        }
        if (s->generated > 1 && i / c->layout->joints % c->frames >= s->cut_frame) {
            x[s->stream + i * c->bodies] = 0.0f;
        }
    }
}

static kd_status feed(parity *p, pupil *s, pupil_mode mode, bool check, kd_err *err)
{
    const int batch = mode == EVAL ? s->eval_batch : s->train_batch;
    const kd_json *input = kd_json_get(p->manifest, "input");
    const char *prefix = NULL;
    int64_t label[BATCH_MAX];
    const size_t all = (size_t)(s->generated * s->stream), k = (size_t)s->cfg.classes;
    float *x = kd_calloc(KD_MAX(all, (size_t)batch * k), sizeof *x);
    kd_status st = x != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    if (st != KD_OK) {
        return st;
    }
    KD_GO(kd_json_opt_str(input, "name_prefix", "input.", &prefix, err));
    for (int i = 0; i < s->cfg.model->n_streams; i++) {
        const char *stream = s->cfg.model->streams[i];
        int64_t ks = 0, ko = 0;
        char name[128];
        KD_GO(kd_json_get_range(kd_json_get(input, "ks"), stream, -1048576, 1048576, &ks, err));
        KD_GO(kd_json_opt_i64(kd_json_get(input, "ko"), stream, 0, &ko, err));
        (void)snprintf(name, sizeof name, "%s%s", prefix, stream);
        kd_parity_fill_last(name, ko, ks, x, all);
        edit(s, x);
        (void)snprintf(name, sizeof name, "input %s: CRC", stream);
        KD_GO(check_crc(p, kd_json_get(input, "data_crc32"), stream, name, x, all, err));
        if (check) {
            kd_parity_check(p, name, true, NULL);
        }
        KD_GO(kd_program_write(s->prog, stream, x, (size_t)batch * (size_t)s->stream * sizeof *x));
    }
    if (mode == TRAIN) {
        KD_GO(kd_json_get_i64s(p->manifest, "labels", label, (size_t)batch, err));
        memset(x, 0, (size_t)batch * k * sizeof *x);
        for (int i = 0; i < batch; i++) {
            if (label[i] < 0 || label[i] >= (int64_t)k) {
                st = KD_FAIL(err, KD_E_DATA, "labels: class %lld of %zu", (long long)label[i], k);
                goto done;
            }
            x[(size_t)i * k + (size_t)label[i]] = 1.0f;
        }
        KD_GO(kd_program_write(s->prog, "target", x, (size_t)batch * k * sizeof *x));
        for (int i = 0; i < batch; i++) {
            x[i] = 1.0f;
        }
        KD_GO(kd_program_write(s->prog, "valid", x, (size_t)batch * sizeof *x));
    }
done:
    kd_free(x);
    return st;
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static double recorded(const parity *p, const char *key)
{
    double v = 0.0;
    (void)!kd_json_get_f64(kd_json_get(p->manifest, "f32_vs_f64"), key, &v, NULL);
    return v;
}

static kd_status run_logits(parity *p, pupil *s, pupil_mode mode, kd_err *err)
{
    const char *key = mode == EVAL ? "logits_eval.ref64" : "logits_train.ref64";
    const size_t n = (size_t)(mode == EVAL ? s->eval_batch : s->train_batch) * (size_t)s->cfg.classes;
    double *want = NULL;
    float *got = kd_calloc(n, sizeof *got);
    kd_status st = got != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    if (st != KD_OK) {
        return st;
    }
    KD_GO(build(p, s, mode, err));
    KD_GO(feed(p, s, mode, mode == EVAL, err));
    KD_GO(kd_params_zero_grad(s->params));
    st = kd_program_run(s->prog, NULL);
    if (st != KD_OK) {
        st = KD_FAIL(err, st, "parity: %s: %s", kd_program_where(s->prog), kd_status_text(st));
        goto done;
    }
    KD_GO(kd_program_read_f32(s->prog, "logits", got, (int64_t)n));
    KD_GO(kd_parity_tensor(s->file, key, n, &want, err));
    kd_parity_f32(p, mode == EVAL ? "logits, evaluation" : "logits, training", got, want, n,
                  recorded(p, mode == EVAL ? "logits_eval_maxabs" : "logits_train_maxabs"));
done:
    kd_free(got);
    kd_free(want);
    return st;
}

static bool listed(const kd_json *names, const char *name)
{
    for (size_t i = 0; i < kd_json_count(names); i++) {
        const char *s = NULL;
        if (kd_json_as_str(kd_json_at(names, i), &s, NULL) == KD_OK && strcmp(s, name) == 0) {
            return true;
        }
    }
    return false;
}

typedef struct grad_gold {
    double *l2, *sum, *sample, *diff; /* in param_order; diff: l2 distance of the reference's own f32 gradient */
    double global, relative;          /* global: of all gradients; relative: largest diff / l2 of a tensor */
} grad_gold;

/* Error of one tensor's gradient in units of its allowance: length, sum, samples. */
static double grad_ratio(const parity *p, const pupil *s, const grad_gold *gold, const char *name, size_t i,
                         const float *g, int64_t n, double *error, double *allowed)
{
    char key[300];
    double square = 0.0, sum = 0.0;
    for (int64_t j = 0; j < n; j++) {
        square += (double)g[j] * (double)g[j];
        sum += (double)g[j];
    }
    *error = fabs(sqrt(square) - gold->l2[i]);
    const double e = fabs(sum - gold->sum[i]) / sqrt((double)n);
    *error = e <= *error ? *error : e;
    (void)snprintf(key, sizeof key, "idx:%s", name);
    const uint32_t crc = kd_crc32(key, strlen(key));
    for (uint32_t j = 0; j < SAMPLES; j++) {
        const uint32_t at = (uint32_t)((crc + j * 2654435761u) % (uint32_t)n);
        const double d = fabs((double)g[at] - gold->sample[i * SAMPLES + j]);
        *error = d <= *error ? *error : d;
    }
    const bool zero = listed(kd_json_get(p->manifest, "analytically_zero_grad_params"), name);
    /* A ReLU that rounding switches moves the gradients of all layers below it at once, so a
     * tensor may be off by the relative difference of the worst tensor.  In half precision every
     * tensor meets such switches: its own difference, one draw of a random quantity,
     * times eight. */
    const double diff = p->dtype == KD_F32 ? fmax(gold->diff[i], gold->relative * gold->l2[i]) : 8.0 * gold->diff[i];
    *allowed =
        zero ? (p->dtype == KD_F32 ? 1e-5 : 0x1p-6) * gold->global
             : kd_parity_allowed(p, diff, p->dtype == KD_F32 ? 4.0 * gold->l2[i] : gold->l2[i] + 0.01 * gold->global);
    /* With ReLU on millions of elements f32 rounding switches one or two in every other model (f64 programs agree to
     * 1e-6, see test_student): a small part of the whole gradient, and of the tensor. */
    if (s->rectified && p->dtype == KD_F32) {
        *allowed = fmax(*allowed, fmin(0x1p-12 * gold->global, 0x1p-5 * gold->l2[i]));
    }
    return *error / *allowed;
}

static kd_status compare_grads(parity *p, pupil *s, kd_err *err)
{
    const kd_json *order = NULL;
    grad_gold gold = {0};
    double worst = 0.0;
    char text[300];
    kd_status st = KD_OK;
    KD_GO(kd_json_get_array(p->manifest, "param_order", &order, err));
    KD_GO(kd_json_get_f64(p->manifest, "grad_global_l2", &gold.global, err));
    gold.relative = recorded(p, "grad_rel_l2_max_over_nonzero_tensors");
    const size_t n = kd_json_count(order);
    KD_GO(kd_parity_tensor(s->file, "grad_l2.ref64", n, &gold.l2, err));
    KD_GO(kd_parity_tensor(s->file, "grad_sum.ref64", n, &gold.sum, err));
    KD_GO(kd_parity_tensor(s->file, "grad_samples.ref64", n * SAMPLES, &gold.sample, err));
    KD_GO(kd_parity_tensor(s->file, "grad_err_f32_abs_l2", n, &gold.diff, err));
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        double error = NAN, allowed = 0.0, ratio = NAN;
        KD_GO(kd_json_as_str(kd_json_at(order, i), &name, err));
        const int at = kd_params_find(s->params, name);
        const int64_t numel = at >= 0 ? kd_params_at(s->params, at)->numel : 0;
        float *g = kd_calloc((size_t)numel + 1, sizeof *g);
        if (g != NULL && at >= 0 && kd_params_read_grad(s->params, at, g, numel) == KD_OK) {
            ratio = grad_ratio(p, s, &gold, name, i, g, numel, &error, &allowed);
        }
        kd_free(g);
        if (!(ratio <= 1.0)) {
            (void)snprintf(text, sizeof text, "gradient %s", name);
            kd_parity_item(p, text, error, allowed);
        }
        worst = ratio <= worst ? worst : ratio;
    }
    (void)snprintf(text, sizeof text, "gradients: worst of %zu tensors / allowed", n);
    kd_parity_item(p, text, worst, 1.0);
done:
    kd_free(gold.l2);
    kd_free(gold.sum);
    kd_free(gold.sample);
    kd_free(gold.diff);
    return st;
}

/* The golden statistics are an f32 run's: both may be off by what it differed from f64, relative
 * to 1/100 and more. */
static kd_status compare_statistics(parity *p, pupil *s, kd_err *err)
{
    double worst = 0.0;
    int compared = 0;
    char text[300];
    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_info *e = kd_params_at(s->params, i);
        double *want = NULL, ratio = 0.0;
        if (!e->buffer) {
            continue;
        }
        (void)snprintf(text, sizeof text, "bn_after.%s", e->name);
        KD_TRY(kd_parity_tensor(s->file, text, (size_t)e->numel, &want, err));
        float *got = kd_calloc((size_t)e->numel, sizeof *got);
        const kd_status st = got != NULL ? kd_params_read(s->params, i, got, e->numel) : KD_E_OOM;
        for (int64_t k = 0; st == KD_OK && k < e->numel; k++) {
            const double scale = (p->dtype == KD_F32 ? 0.01 : 0.1) + fabs(want[k]);
            const double r =
                fabs((double)got[k] - want[k]) / kd_parity_allowed(p, recorded(p, "bn_maxrel") * scale, scale);
            ratio = r <= ratio ? ratio : r;
        }
        kd_free(want);
        kd_free(got);
        KD_TRY(st);
        if (!(ratio <= 1.0)) {
            kd_parity_item(p, text, ratio, 1.0);
        }
        worst = ratio <= worst ? worst : ratio;
        compared++;
    }
    (void)snprintf(text, sizeof text, "running statistics: worst of %d tensors / allowed", compared);
    kd_parity_item(p, text, worst, 1.0);
    return KD_OK;
}

/* The whole loss, and its terms where it has several: golden "loss" holds both in the order of kd_loss. */
static kd_status compare_losses(parity *p, pupil *s, kd_err *err)
{
    double *want = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_parity_tensor(s->file, "loss.ref64", 3, &want, err));
    for (int i = -1; i < (s->loss.n > 1 ? s->loss.n : 0); i++) {
        const char *name = i < 0 ? "loss" : s->loss.term[i].log;
        float got = NAN;
        KD_GO(kd_program_read_f32(s->prog, name, &got, 1));
        kd_parity_f32(p, name, &got, &want[i + 1], 1, recorded(p, "logits_train_maxabs"));
    }
done:
    kd_free(want);
    return st;
}

kd_status kd_parity_student(parity *p, kd_err *err)
{
    pupil s = {.params = NULL};
    int64_t params = 0;
    kd_status st = KD_OK;
    KD_GO(read_pupil(p->manifest, &s, err));
    s.params = kd_params_create(KD_F32);
    if (s.params == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    KD_GO(kd_parity_open(p, "logits_eval.ref64", &s.file, err));
    KD_GO(build(p, &s, DECLARE, err));
    KD_GO(kd_params_alloc(s.params, p->be, p->dtype, true, err));
    KD_GO(fill(p, &s, err));
    KD_GO(kd_json_get_i64(p->manifest, "params", &params, err));
    kd_parity_check(p, "parameter count", kd_params_numel(s.params) == params, s.cfg.model->name);
    KD_GO(run_logits(p, &s, EVAL, err));
    KD_GO(run_logits(p, &s, TRAIN, err));
    KD_GO(compare_losses(p, &s, err));
    KD_GO(compare_grads(p, &s, err));
    KD_GO(compare_statistics(p, &s, err));
done:
    kd_loss_free(&s.loss);
    kd_program_free(s.prog);
    kd_params_free(s.params);
    kd_st_close(s.file);
    return st;
}
