/* Parity of what recipes of other toolkits do in training: learning rates of MMEngine, Hugging Face and the detection
 * code, losses with mixed, smoothed and weighted targets, mixed clips, merged views. */
#include "distill/batch/mixup.h"
#include "formats/base/merge.h"
#include "kernels/kd_layers.h"
#include "kernels/kd_schedule.h"
#include "teacher/model/vit.h"
#include "tools/parity/parity.h"

#include <math.h>
#include <stdio.h>

/* ---- schedules ------------------------------------------------------------------------------- */

static double worst_of(const kd_schedule *s, const double *want, size_t n, int64_t stride)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double off = fabs(kd_schedule_lr(s, (int64_t)i * stride) - want[i]);
        worst = off <= worst ? worst : off;
    }
    return worst;
}

/* Values of tensor `name`; kd_free. */
static kd_status values_of(parity *p, const char *name, double **out, size_t *n, kd_err *err)
{
    kd_st_file *f = NULL;
    KD_TRY(kd_parity_open(p, name, &f, err));
    *n = kd_st_find(f, name)->count;
    const kd_status st = kd_parity_tensor(f, name, 0, out, err);
    kd_st_close(f);
    return st;
}

/* LinearLR and CosineAnnealingLR in one list. */
static kd_status chained(parity *p, const kd_json *c, kd_err *err)
{
    double *want = NULL, start = 1.0, warmup = 0.0;
    bool by_step = false;
    size_t n = 0;
    kd_schedule s = {.kind = KD_SCHEDULE_MM_EPOCH};
    KD_TRY(kd_json_get_f64(c, "base", &s.lr, err));
    KD_TRY(kd_json_get_range(c, "L", 1, 1000000, &s.steps_per_epoch, err));
    KD_TRY(kd_json_get_f64(c, "warm_sf", &start, err));
    KD_TRY(kd_json_get_f64(c, "warm_end_epochs", &warmup, err));
    KD_TRY(kd_json_get_range(c, "T", 1, 1000000, &s.cosine_epochs, err));
    KD_TRY(kd_json_get_f64(c, "mn", &s.min_lr, err));
    KD_TRY(kd_json_get_range(c, "cend", 1, 1000000, &s.cosine_end, err));
    KD_TRY(kd_json_get_range(c, "epochs", 1, 1000000, &s.epochs, err));
    KD_TRY(kd_json_opt_i64(c, "cbegin", 0, &s.cosine_begin, err));
    KD_TRY(kd_json_opt_bool(c, "cos_iter", false, &by_step, err));
    s.kind = by_step ? KD_SCHEDULE_MM_STEP : KD_SCHEDULE_MM_EPOCH;
    s.warmup_lr = s.lr * start;
    s.warmup_steps = (int64_t)(warmup * (double)s.steps_per_epoch);
    KD_TRY(values_of(p, kd_json_key(c), &want, &n, err));
    kd_parity_check(p, "steps", n == (size_t)(s.epochs * s.steps_per_epoch), kd_json_key(c));
    kd_parity_item(p, kd_json_key(c), worst_of(&s, want, n, 1), 1e-14 * s.lr);
    kd_free(want);
    return KD_OK;
}

/* The peak rate is not stated: that of the first value that is not 0, by the schedule's own shape. */
static double fitted_peak(const kd_schedule *s, const double *want, size_t n, int64_t stride)
{
    for (size_t i = 0; i < n; i++) {
        const double shape = kd_schedule_lr(s, (int64_t)i * stride);
        if (shape > 0.0) {
            return want[i] / shape;
        }
    }
    return NAN;
}

static kd_status hugging_face(parity *p, const kd_json *h, int phase, kd_err *err)
{
    static const char *const FIELD[] = {"total", "warmup", "updates_done"};
    int64_t v[3], batches = 0, accumulation = 0;
    double *want = NULL;
    size_t n = 0;
    char name[64];
    for (size_t i = 0; i < KD_COUNTOF(FIELD); i++) {
        (void)snprintf(name, sizeof name, "phase%d_%s", phase, FIELD[i]);
        KD_TRY(kd_json_get_range(h, name, 0, INT32_MAX, &v[i], err));
    }
    KD_TRY(kd_json_get_range(h, "batches_per_epoch", 1, INT32_MAX, &batches, err));
    KD_TRY(kd_json_get_range(h, "accum", 1, INT32_MAX, &accumulation, err));
    (void)snprintf(name, sizeof name, "hmdb_phase%d_lr", phase);
    KD_TRY(values_of(p, name, &want, &n, err));
    const int64_t steps = batches / accumulation, stride = n > 0 ? v[2] / (int64_t)n : 1;
    kd_schedule s = {.kind = KD_SCHEDULE_HF_COSINE,
                     .lr = 1.0,
                     .steps_per_epoch = steps,
                     .epochs = v[2] / KD_MAX(steps, 1),
                     .warmup_steps = v[1],
                     .total_steps = v[0]};
    kd_parity_check(p, "updates: micro-batches that fill no step are left out", s.epochs * steps == v[2], name);
    kd_parity_check(p, "length: they count for it", batches * s.epochs / accumulation == v[0], name);
    s.lr = fitted_peak(&s, want, n, stride);
    kd_parity_item(p, name, worst_of(&s, want, n, stride), 1e-14 * s.lr);
    kd_free(want);
    return KD_OK;
}

static kd_status detection(parity *p, const kd_json *a, kd_err *err)
{
    double *want = NULL, warmup = 0.0;
    size_t n = 0;
    kd_schedule s = {.kind = KD_SCHEDULE_COSINE_STEP};
    KD_TRY(kd_json_get_f64(a, "lr", &s.lr, err));
    KD_TRY(kd_json_get_f64(a, "min_lr", &s.min_lr, err));
    KD_TRY(kd_json_get_f64(a, "warmup_start", &s.warmup_lr, err));
    KD_TRY(kd_json_get_f64(a, "warmup_epochs", &warmup, err));
    KD_TRY(kd_json_get_range(a, "epochs", 1, 1000000, &s.epochs, err));
    KD_TRY(kd_json_get_range(a, "L", 1, 1000000, &s.steps_per_epoch, err));
    s.warmup_steps = (int64_t)(warmup * (double)s.steps_per_epoch);
    KD_TRY(values_of(p, "ava_lr", &want, &n, err));
    kd_parity_item(p, "ava_lr", worst_of(&s, want, n, 1), 1e-14 * s.lr);
    kd_free(want);
    return KD_OK;
}

/* The member "layer_decay_0.75_depth12": a factor on the rate of each layer. */
static kd_status layer_factors(parity *p, const kd_json *member, kd_err *err)
{
    double decay = 1.0, want[202], worst = 0.0;
    int depth = 0;
    kd_status st = KD_OK;
    if (sscanf(kd_json_key(member), "layer_decay_%lf_depth%d", &decay, &depth) != 2 || depth < 1 || depth > 200) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected layer_decay_X_depthN", kd_json_key(member));
    }
    kd_params *params = kd_params_create(KD_F32);
    if (params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    KD_GO(kd_json_get_f64s(p->manifest, kd_json_key(member), want, (size_t)depth + 2, err));
    KD_GO(kd_parity_declare_depth(NULL, depth, params, err));
    kd_vit_param_groups(params, depth, (float)decay);
    for (int i = 0; i < kd_params_count(params); i++) {
        const kd_param_info *e = kd_params_at(params, i);
        const double factor = want[kd_vit_layer_id(e->name, depth)];
        const double off = fabs((double)e->lr_scale - factor) / factor;
        worst = off <= worst ? worst : off;
    }
    kd_parity_item(p, kd_json_key(member), worst, 0x1p-24 * (double)(depth + 2));
done:
    kd_params_free(params);
    return st;
}

kd_status kd_parity_schedules(parity *p, kd_err *err)
{
    const kd_json *cases = kd_json_get(p->manifest, "cases"), *hmdb = kd_json_get(p->manifest, "hmdb");
    const kd_json *ava = kd_json_get(p->manifest, "ava");
    for (size_t i = 0; i < kd_json_count(cases); i++) {
        KD_TRY(chained(p, kd_json_at(cases, i), err));
    }
    for (int phase = 1; hmdb != NULL && phase <= 2; phase++) {
        KD_TRY(hugging_face(p, hmdb, phase, err));
    }
    if (ava != NULL) {
        KD_TRY(detection(p, ava, err));
    }
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *e = kd_json_at(p->manifest, i);
        if (strncmp(kd_json_key(e), "layer_decay_", 12) == 0) {
            KD_TRY(layer_factors(p, e, err));
        }
    }
    return KD_OK;
}

/* ---- losses ---------------------------------------------------------------------------------- */

enum { SIZE_MAX_HERE = 1 << 20 };

typedef struct batch {
    int rows, classes, views, videos;
    size_t clip; /* values of one video */
    float *logits, *video, *mixed, *tta, *weight, *target, *grad, *lam;
    double *work, *class_weight;
    int32_t *label, *perm;
} batch;

static void batch_free(batch *b)
{
    void *all[] = {b->logits, b->video, b->mixed, b->tta,   b->weight, b->target,
                   b->grad,   b->lam,   b->work,  b->label, b->perm,   b->class_weight};
    for (size_t i = 0; i < KD_COUNTOF(all); i++) {
        kd_free(all[i]);
    }
}

/* Shape of an input: `rank` dims into dim. */
static kd_status shape_of(const parity *p, const char *name, int64_t *dim, size_t rank, kd_err *err)
{
    const kd_json *in = kd_json_get(kd_json_get(p->manifest, "inputs"), name);
    size_t all = 1;
    KD_TRY(kd_json_get_i64s(in, "shape", dim, rank, err));
    for (size_t i = 0; i < rank; i++) {
        all = dim[i] > 0 && all < SIZE_MAX_HERE ? all * (size_t)dim[i] : SIZE_MAX_HERE + 1;
    }
    return all <= SIZE_MAX_HERE ? KD_OK : KD_FAIL(err, KD_E_DATA, "%s: a shape of this size", name);
}

static kd_status fill(parity *p, const char *name, float *out, size_t n, kd_err *err)
{
    const kd_json *in = kd_json_get(kd_json_get(p->manifest, "inputs"), name);
    double scale = 1.0, offset = 0.0;
    const char *crc = NULL;
    KD_TRY(kd_json_get_f64(in, "scale", &scale, err));
    KD_TRY(kd_json_get_f64(in, "offset", &offset, err));
    KD_TRY(kd_json_get_str(in, "crc32", &crc, err));
    kd_parity_fill(name, (float)scale, (float)offset, out, n);
    return kd_parity_crc(p, name, out, n * sizeof *out, crc);
}

static kd_status index_list(const parity *p, const char *key, int limit, int32_t *out, size_t n, kd_err *err)
{
    const kd_json *list = NULL;
    KD_TRY(kd_json_get_array(p->manifest, key, &list, err));
    for (size_t i = 0; i < n; i++) {
        int64_t v = -1;
        if (i >= kd_json_count(list) || kd_json_as_i64(kd_json_at(list, i), &v, NULL) != KD_OK || v < 0 || v >= limit) {
            return KD_FAIL(err, KD_E_DATA, "%s: expected %zu numbers below %d", key, n, limit);
        }
        out[i] = (int32_t)v;
    }
    return KD_OK;
}

static kd_status batch_open(parity *p, batch *b, kd_err *err)
{
    int64_t z[2], v[5], t[3];
    double lam = 1.0;
    KD_TRY(shape_of(p, "hmdb.logits", z, 2, err));
    KD_TRY(shape_of(p, "hmdb.video", v, 5, err));
    KD_TRY(shape_of(p, "hmdb.tta", t, 3, err));
    if (v[0] != z[0] || t[2] != z[1]) {
        return KD_FAIL(err, KD_E_DATA, "inputs: shapes do not belong together");
    }
    *b = (batch){.rows = (int)z[0], .classes = (int)z[1], .views = (int)t[1], .videos = (int)t[0]};
    b->clip = (size_t)(v[1] * v[2] * v[3] * v[4]);
    const size_t n = (size_t)(z[0] * z[1]), video = (size_t)z[0] * b->clip, tta = (size_t)(t[0] * t[1] * t[2]);
    b->logits = kd_calloc(n, sizeof(float));
    b->target = kd_calloc(n, sizeof(float));
    b->grad = kd_calloc(n, sizeof(float));
    b->video = kd_calloc(video, sizeof(float));
    b->mixed = kd_calloc(KD_MAX(video, tta), sizeof(float));
    b->tta = kd_calloc(tta, sizeof(float));
    b->weight = kd_calloc((size_t)z[1], sizeof(float));
    b->class_weight = kd_calloc((size_t)z[1], sizeof(double));
    b->work = kd_calloc(2 * (size_t)z[1], sizeof(double));
    b->lam = kd_calloc((size_t)z[0], sizeof(float));
    b->label = kd_calloc((size_t)z[0], sizeof(int32_t));
    b->perm = kd_calloc((size_t)z[0], sizeof(int32_t));
    if (!(b->logits && b->target && b->grad && b->video && b->mixed && b->tta && b->weight && b->class_weight &&
          b->work && b->lam && b->label && b->perm)) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    KD_TRY(fill(p, "hmdb.logits", b->logits, n, err));
    KD_TRY(fill(p, "hmdb.video", b->video, video, err));
    KD_TRY(fill(p, "hmdb.tta", b->tta, tta, err));
    KD_TRY(fill(p, "hmdb.classweight", b->weight, (size_t)z[1], err));
    KD_TRY(index_list(p, "labels", b->classes, b->label, (size_t)b->rows, err));
    KD_TRY(index_list(p, "perm", b->rows, b->perm, (size_t)b->rows, err));
    KD_TRY(kd_json_get_f64(p->manifest, "lam", &lam, err));
    for (int i = 0; i < b->rows; i++) {
        b->lam[i] = (float)lam;
    }
    for (int k = 0; k < b->classes; k++) {
        b->class_weight[k] = (double)b->weight[k];
    }
    return KD_OK;
}

/* Tensor `name` against n values. */
static kd_status compare(parity *p, const char *name, const float *got, size_t n, kd_err *err)
{
    double *want = NULL;
    kd_st_file *f = NULL;
    KD_TRY(kd_parity_open(p, name, &f, err));
    const kd_status st = kd_parity_tensor(f, name, n, &want, err);
    if (st == KD_OK) {
        kd_parity_f32(p, name, got, want, n, 0.0);
    }
    kd_free(want);
    kd_st_close(f);
    return st;
}

/* Cross-entropy with b->target: its value against the manifest's, its gradient against NAME.grad. */
static kd_status cross_entropy(parity *p, batch *b, const char *name, kd_err *err)
{
    const kd_shape shape = kd_shape2(b->rows, b->classes);
    const size_t n = (size_t)b->rows * (size_t)b->classes;
    kd_params *params = kd_params_create(KD_F32);
    const kd_graph_opts go = {.params = params, .dtype = p->dtype, .training = true};
    kd_graph *g = params != NULL ? kd_graph_create(&go) : NULL;
    kd_program *prog = NULL;
    double want = 0.0;
    float loss = 0.0f;
    char key[64];
    kd_status st = g != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    KD_GO(st);
    const kd_val x = kd_input(g, "x", KD_F32, shape);
    const kd_val ce = kd_ce(g, x, kd_input(g, "target", KD_F32, shape), KD_NONE);
    kd_output(g, "loss", ce);
    const kd_compile_opts co = {.loss = ce, .grad_inputs = &x, .n_grad_inputs = 1};
    KD_GO(kd_params_alloc(params, p->be, p->dtype, true, err));
    KD_GO(kd_program_compile(g, p->be, &co, &prog, err));
    KD_GO(kd_program_write(prog, "x", b->logits, n * sizeof(float)));
    KD_GO(kd_program_write(prog, "target", b->target, n * sizeof(float)));
    KD_GO(kd_program_run(prog, NULL));
    KD_GO(kd_program_read_f32(prog, "loss", &loss, 1));
    KD_GO(kd_program_read_f32(prog, "grad:x", b->grad, (int64_t)n));
    KD_GO(kd_json_get_f64(p->manifest, name, &want, err));
    kd_parity_f32(p, name, &loss, &want, 1, 0.0);
    (void)snprintf(key, sizeof key, "%s.grad", name);
    st = compare(p, key, b->grad, n, err);
done:
    kd_program_free(prog);
    kd_params_free(params);
    if (st != KD_OK && err != NULL && err->code == KD_OK) {
        return KD_FAIL(err, st, "%s: %s", name, kd_status_text(st));
    }
    return st;
}

static kd_status merged_views(parity *p, batch *b, kd_err *err)
{
    const kd_json *best = NULL;
    const size_t k = (size_t)b->classes;
    bool same = true;
    KD_TRY(kd_json_get_array(p->manifest, "tta_pred", &best, err));
    for (int i = 0; i < b->videos; i++) {
        float *mean = b->mixed + (size_t)i * k;
        int64_t want = -1;
        int first = 0;
        kd_merge_logits(b->tta + (size_t)i * (size_t)b->views * k, b->views, k, true, b->work, mean);
        for (int c = 1; c < b->classes; c++) {
            first = mean[c] > mean[first] ? c : first;
        }
        same = same && kd_json_as_i64(kd_json_at(best, (size_t)i), &want, NULL) == KD_OK && want == first;
    }
    KD_TRY(compare(p, "tta_mean_logits", b->mixed, (size_t)b->videos * k, err));
    kd_parity_check(p, "tta_pred", same, NULL);
    return KD_OK;
}

kd_status kd_parity_recipe_losses(parity *p, kd_err *err)
{
    const double smoothing = 0.1; /* of the recipe's second phase; the manifest does not say */
    batch b = {.rows = 0};
    kd_status st = KD_OK;
    KD_GO(batch_open(p, &b, err));
    kd_targets(b.label, NULL, b.rows, b.classes, 0.0, b.perm, b.lam, b.target);
    KD_GO(compare(p, "soft_targets", b.target, (size_t)b.rows * (size_t)b.classes, err));
    KD_GO(cross_entropy(p, &b, "soft_ce", err));
    kd_targets(b.label, NULL, b.rows, b.classes, smoothing, NULL, NULL, b.target);
    KD_GO(cross_entropy(p, &b, "ls_ce", err));
    kd_targets(b.label, NULL, b.rows, b.classes, 0.0, NULL, NULL, b.target);
    kd_targets_weigh(b.class_weight, b.label, NULL, b.rows, b.classes, NULL, NULL, b.target);
    KD_GO(cross_entropy(p, &b, "weighted_ce", err));
    kd_mix_rows(b.video, b.rows, b.clip, b.perm, b.lam, b.mixed);
    KD_GO(compare(p, "mixed_video", b.mixed, (size_t)b.rows * b.clip, err));
    st = merged_views(p, &b, err);
done:
    batch_free(&b);
    return st;
}
