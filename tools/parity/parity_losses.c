/* Parity of the losses: value and gradient of cross-entropy (smoothed, mixed), T^2 KL, their weighted sum, the feature
 * losses behind a projector, and those of op match_loss. */
#include "distill/batch/mixup.h"
#include "kernels/kd_layers.h"
#include "tools/parity/parity.h"
#include "tools/parity/parity_match.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS_MAX = 4096, WIDTH_MAX = 65536 };

typedef struct loss_case {
    const char *name;
    double ce, smoothing, kd, temperature; /* ce and kd are weights; 0: absent */
    bool mixup;
    bool features;  /* its first operand: features, else logits */
    bool projected; /* features behind the projector */
    int feature;    /* -1: none, else kd_feature_kind */
    bool match;     /* by op match_loss */
    kd_match_loss_attr at;
} loss_case;

typedef struct loss_data {
    int rows, classes, student_dim, teacher_dim;
    float *z, *t, *s, *f, *w; /* logits s, t; features s, t; projector (teacher_dim, student_dim) */
    int32_t *label, *perm;
    float *lam;
    float *target, *grad;
} loss_data;

static void data_free(loss_data *d)
{
    void *all[] = {d->z, d->t, d->s, d->f, d->w, d->label, d->perm, d->lam, d->target, d->grad};
    for (size_t i = 0; i < KD_COUNTOF(all); i++) {
        kd_free(all[i]);
    }
}

static kd_status data_alloc(loss_data *d, kd_err *err)
{
    if (d->rows < 1 || d->rows > ROWS_MAX || d->classes < 1 || d->classes > WIDTH_MAX || d->student_dim < 0 ||
        d->student_dim > WIDTH_MAX || d->teacher_dim < 0 || d->teacher_dim > WIDTH_MAX) {
        return KD_FAIL(err, KD_E_DATA, "losses: %d rows of %d classes, features %d and %d", d->rows, d->classes,
                       d->student_dim, d->teacher_dim);
    }
    const size_t b = (size_t)d->rows, k = (size_t)d->classes;
    const size_t sd = (size_t)KD_MAX(d->student_dim, 1), td = (size_t)KD_MAX(d->teacher_dim, 1);
    d->z = kd_calloc(b * k, sizeof *d->z);
    d->t = kd_calloc(b * k, sizeof *d->t);
    d->s = kd_calloc(b * sd, sizeof *d->s);
    d->f = kd_calloc(b * td, sizeof *d->f);
    d->w = kd_calloc(td * sd, sizeof *d->w);
    d->label = kd_calloc(b, sizeof *d->label);
    d->perm = kd_calloc(b, sizeof *d->perm);
    d->lam = kd_calloc(b, sizeof *d->lam);
    d->target = kd_calloc(b * k, sizeof *d->target);
    d->grad = kd_calloc(KD_MAX(b * k, KD_MAX(b * sd, td * sd)), sizeof *d->grad);
    const bool ok = d->z && d->t && d->s && d->f && d->w && d->label && d->perm && d->lam && d->target && d->grad;
    return ok ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
}

/* ---- one loss -------------------------------------------------------------------------------- */

static kd_val logit_loss(kd_graph *g, const loss_case *c, const loss_data *d, kd_val z)
{
    const kd_shape shape = kd_shape2(d->rows, d->classes);
    if (c->match) {
        const bool labels = kd_parity_match_reads_class(&c->at);
        const kd_val label = labels ? kd_input(g, "target", KD_F32, shape) : KD_NONE;
        return kd_match_loss(g, z, kd_input(g, "teacher", KD_F32, shape), label, KD_NONE, &c->at);
    }
    kd_val part[2];
    float w[2];
    int n = 0;
    const kd_val target = c->ce != 0.0 ? kd_input(g, "target", KD_F32, shape) : KD_NONE;
    const kd_val teacher = c->kd != 0.0 ? kd_input(g, "teacher", KD_F32, shape) : KD_NONE;
    kd_val kd = KD_NONE;
    const kd_val ce = kd_ce_kl(g, z, target, KD_NONE, teacher, KD_NONE, (float)c->temperature, false, &kd);
    if (c->ce != 0.0) {
        w[n] = (float)c->ce;
        part[n++] = ce;
    }
    if (c->kd != 0.0) {
        w[n] = (float)c->kd;
        part[n++] = kd;
    }
    return n == 1 && w[0] == 1.0f ? part[0] : kd_weighted_sum(g, part, w, n);
}

static kd_val feature_loss(kd_graph *g, const parity *p, const loss_case *c, const loss_data *d, kd_val s)
{
    const kd_linear_opts lo = {.no_bias = true, .f32_out = true, .weight = kd_init_const(0.0f)};
    const kd_val y = c->projected ? kd_linear(g, kd_cast(g, s, p->dtype), "projector", d->teacher_dim, &lo) : s;
    const kd_val f = kd_input(g, "feature", KD_F32, kd_shape2(d->rows, d->teacher_dim));
    return c->match ? kd_match_loss(g, y, f, KD_NONE, KD_NONE, &c->at)
                    : kd_feature_loss(g, y, f, KD_NONE, (kd_feature_kind)c->feature);
}

static kd_status build(parity *p, const loss_case *c, const loss_data *d, kd_params *params, bool declare,
                       kd_program **out, kd_err *err)
{
    const kd_graph_opts go = {.params = params, .dtype = p->dtype, .training = true};
    kd_graph *g = kd_graph_create(&go);
    if (g == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    kd_compile_opts co = {.n_grad_inputs = 1};
    kd_val x;
    if (!c->features) {
        x = kd_input(g, "x", KD_F32, kd_shape2(d->rows, d->classes));
        co.loss = logit_loss(g, c, d, x);
    } else {
        x = kd_input(g, "x", KD_F32, kd_shape2(d->rows, d->student_dim));
        co.loss = feature_loss(g, p, c, d, x);
    }
    kd_output(g, "loss", co.loss);
    co.grad_inputs = &x;
    if (declare) {
        const kd_err *bad = kd_graph_error(g);
        const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
        kd_graph_free(g);
        return st;
    }
    return kd_program_compile(g, p->be, &co, out, err);
}

static kd_status feed(const loss_case *c, const loss_data *d, kd_program *prog)
{
    const size_t b = (size_t)d->rows, k = (size_t)d->classes;
    if (c->features) {
        KD_TRY(kd_program_write(prog, "x", d->s, b * (size_t)d->student_dim * sizeof(float)));
        return kd_program_write(prog, "feature", d->f, b * (size_t)d->teacher_dim * sizeof(float));
    }
    KD_TRY(kd_program_write(prog, "x", d->z, b * k * sizeof(float)));
    const bool labels = c->match && kd_parity_match_reads_class(&c->at);
    if (c->ce != 0.0 || labels) {
        kd_targets(d->label, NULL, d->rows, d->classes, c->smoothing, c->mixup ? d->perm : NULL,
                   c->mixup ? d->lam : NULL, d->target);
        KD_TRY(kd_program_write(prog, "target", d->target, b * k * sizeof(float)));
    }
    return c->kd != 0.0 || c->match ? kd_program_write(prog, "teacher", d->t, b * k * sizeof(float)) : KD_OK;
}

/* d->grad against tensor `key`, where the fixture has it. */
static kd_status compare_grad(parity *p, const loss_case *c, const loss_data *d, const kd_st_file *f, const char *key,
                              const char *what, size_t n, double diff, kd_err *err)
{
    double *want = NULL;
    char text[160];
    (void)snprintf(text, sizeof text, "%s %s", c->name, what);
    if (kd_st_find(f, key) == NULL) {
        kd_parity_skip(p, text, "the fixture has none");
        return KD_OK;
    }
    KD_TRY(kd_parity_tensor(f, key, n, &want, err));
    kd_parity_f32(p, text, d->grad, want, n, diff);
    kd_free(want);
    return KD_OK;
}

typedef struct loss_gold {
    const kd_st_file *file;
    const char *grad_format; /* "%s.grad" or "grad.%s" */
    double value, value_diff, grad_diff;
} loss_gold;

static kd_status run_case(parity *p, const loss_case *c, loss_data *d, const loss_gold *gold, kd_err *err)
{
    kd_params *params = kd_params_create(KD_F32);
    kd_program *prog = NULL;
    float loss = 0.0f;
    char key[160];
    kd_status st = params != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    const bool prefix = gold->grad_format[0] == 'g';
    const size_t n = (size_t)d->rows * (size_t)(c->features ? d->student_dim : d->classes);
    if (st != KD_OK) {
        return st;
    }
    if (c->projected) {
        KD_GO(build(p, c, d, params, true, NULL, err));
        KD_GO(kd_params_alloc(params, p->be, p->dtype, true, err));
        KD_GO(kd_params_write(params, 0, d->w, (int64_t)d->teacher_dim * d->student_dim));
        KD_GO(kd_params_changed(params));
    } else {
        KD_GO(kd_params_alloc(params, p->be, p->dtype, true, err));
    }
    KD_GO(build(p, c, d, params, false, &prog, err));
    KD_GO(feed(c, d, prog));
    KD_GO(kd_program_run(prog, NULL));
    KD_GO(kd_program_read_f32(prog, "loss", &loss, 1));
    KD_GO(kd_program_read_f32(prog, "grad:x", d->grad, (int64_t)n));
    (void)snprintf(key, sizeof key, "%s value", c->name);
    kd_parity_f32(p, key, &loss, &gold->value, 1, gold->value_diff);
    (void)snprintf(key, sizeof key, "%s%s%s", prefix ? "grad." : "", c->name, prefix ? "" : ".grad");
    KD_GO(compare_grad(p, c, d, gold->file, key, "gradient", n, gold->grad_diff, err));
    if (c->projected) {
        const size_t m = (size_t)d->teacher_dim * (size_t)d->student_dim;
        KD_GO(kd_params_read_grad(params, 0, d->grad, (int64_t)m));
        (void)snprintf(key, sizeof key, "%s.grad_projector", c->name);
        KD_GO(compare_grad(p, c, d, gold->file, key, "projector gradient", m, gold->grad_diff, err));
    }
done:
    kd_program_free(prog);
    kd_params_free(params);
    if (st != KD_OK && err != NULL && err->code == KD_OK) {
        return KD_FAIL(err, st, "%s: %s", c->name, kd_status_text(st));
    }
    return st;
}

/* ---- fixtures/losses ------------------------------------------------------------------------- */

/* Number after `tag` in a name like "ce_kd_w0.5_T4". */
static double after(const char *name, const char *tag)
{
    const char *at = strstr(name, tag);
    return at != NULL ? strtod(at + strlen(tag), NULL) : 0.0;
}

static bool parse_name(const char *name, loss_case *c)
{
    *c = (loss_case){.name = name, .feature = -1, .ce = 1.0};
    if (strcmp(name, "ce") == 0) {
        return true;
    }
    if (strncmp(name, "ce_smooth_", 10) == 0) {
        c->smoothing = after(name, "ce_smooth_");
        return true;
    }
    if (strncmp(name, "ce_kd_w", 7) == 0) {
        c->kd = after(name, "_w");
        c->ce = 1.0 - c->kd;
        c->temperature = after(name, "_T");
        return c->temperature > 0.0;
    }
    c->ce = 0.0;
    if (strncmp(name, "kl_T", 4) == 0) {
        c->kd = 1.0;
        c->temperature = after(name, "_T");
        return c->temperature > 0.0;
    }
    if (strcmp(name, "feature_mse") == 0 || strcmp(name, "feature_cosine") == 0) {
        c->feature = strcmp(name, "feature_mse") == 0 ? KD_FEATURE_MSE : KD_FEATURE_COSINE;
        c->features = c->projected = true;
        return true;
    }
    c->match = kd_parity_match_named(name, &c->at);
    c->features = c->match && kd_parity_match_reads_features(&c->at);
    c->projected = c->match && c->at.kind == KD_MATCH_INFONCE;
    return c->match;
}

static kd_status generate(parity *p, const char *name, float *out, size_t n, kd_err *err)
{
    const kd_json *inputs = NULL, *e = NULL;
    double scale = 1.0, offset = 0.0;
    int64_t crc = 0;
    char want[12];
    KD_TRY(kd_json_get_object(p->manifest, "inputs", &inputs, err));
    KD_TRY(kd_json_get_object(inputs, name, &e, err));
    KD_TRY(kd_json_get_f64(e, "scale", &scale, err));
    KD_TRY(kd_json_opt_f64(e, "offset", 0.0, &offset, err));
    KD_TRY(kd_json_get_range(e, "crc32", 0, UINT32_MAX, &crc, err));
    kd_parity_fill(name, (float)scale, (float)offset, out, n);
    char text[96];
    (void)snprintf(text, sizeof text, "input %s: CRC", name);
    (void)snprintf(want, sizeof want, "%08x", (unsigned)crc);
    KD_TRY(kd_parity_crc(p, text, out, n * sizeof *out, want));
    kd_parity_check(p, text, true, NULL);
    return KD_OK;
}

static kd_status read_losses(parity *p, loss_data *d, kd_err *err)
{
    int64_t b, k, s, t;
    KD_TRY(kd_json_get_range(p->manifest, "batch", 1, ROWS_MAX, &b, err));
    KD_TRY(kd_json_get_range(p->manifest, "classes", 1, WIDTH_MAX, &k, err));
    KD_TRY(kd_json_get_range(p->manifest, "student_dim", 1, WIDTH_MAX, &s, err));
    KD_TRY(kd_json_get_range(p->manifest, "teacher_dim", 1, WIDTH_MAX, &t, err));
    d->rows = (int)b;
    d->classes = (int)k;
    d->student_dim = (int)s;
    d->teacher_dim = (int)t;
    KD_TRY(data_alloc(d, err));
    KD_TRY(generate(p, "student.logits", d->z, (size_t)(b * k), err));
    KD_TRY(generate(p, "teacher.logits", d->t, (size_t)(b * k), err));
    KD_TRY(generate(p, "student.features", d->s, (size_t)(b * s), err));
    KD_TRY(generate(p, "teacher.features", d->f, (size_t)(b * t), err));
    KD_TRY(generate(p, "projector.weight", d->w, (size_t)(t * s), err));
    int64_t label[ROWS_MAX];
    const bool listed = kd_json_get(p->manifest, "label") != NULL;
    if (listed) {
        KD_TRY(kd_json_get_i64s(p->manifest, "label", label, (size_t)d->rows, err));
    }
    for (int i = 0; i < d->rows; i++) {
        d->label[i] =
            listed ? (int32_t)label[i] : (int32_t)(kd_parity_u24("label", (uint32_t)i) % (uint32_t)d->classes);
        if (listed && (label[i] < 0 || label[i] >= d->classes)) {
            return KD_FAIL(err, KD_E_DATA, "label: class %lld of %d", (long long)label[i], d->classes);
        }
    }
    return KD_OK;
}

kd_status kd_parity_losses(parity *p, kd_err *err)
{
    const kd_json *list = NULL;
    loss_data d = {0};
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_json_get_object(p->manifest, "losses", &list, err));
    KD_GO(read_losses(p, &d, err));
    KD_GO(kd_parity_open(p, "label", &f, err));
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const kd_json *e = kd_json_at(list, i);
        loss_case c;
        double ref = 0.0;
        loss_gold gold = {.file = f, .grad_format = "%s.grad"};
        if (!parse_name(kd_json_key(e), &c)) {
            kd_parity_skip(p, kd_json_key(e), "a loss this build does not have");
            continue;
        }
        KD_GO(kd_json_get_f64(e, "value", &gold.value, err));
        KD_GO(kd_json_get_f64(e, "value_f32", &ref, err));
        KD_GO(kd_json_get_f64(e, "grad_f32_maxabsdiff", &gold.grad_diff, err));
        gold.value_diff = fabs(ref - gold.value);
        KD_GO(run_case(p, &c, &d, &gold, err));
    }
done:
    kd_st_close(f);
    data_free(&d);
    return st;
}

/* ---- fixtures/last/losses -------------------------------------------------------------------- */

/* ce_hard, ce_ls0.1, ce_mixup_lam0.75, ce_mixup_lam0.75_ls0.1, kd_T4, total_a0.5_T4,
 * total_a0.5_T4_mixup */
static bool parse_last(const char *name, loss_case *c)
{
    *c = (loss_case){.name = name, .feature = -1, .mixup = strstr(name, "mixup") != NULL};
    c->temperature = after(name, "_T");
    if (strncmp(name, "ce_", 3) == 0) {
        c->ce = 1.0;
        c->smoothing = after(name, "_ls");
        return true;
    }
    c->kd = strncmp(name, "total_a", 7) == 0 ? after(name, "_a") : 1.0;
    c->ce = 1.0 - c->kd;
    return c->temperature > 0.0 && (strncmp(name, "kd_T", 4) == 0 || strncmp(name, "total_a", 7) == 0);
}

static kd_status generate_last(parity *p, const char *key, float *out, size_t n, kd_err *err)
{
    const kd_json *e = NULL;
    const char *name = NULL;
    int64_t ko = 0, ks = 0;
    KD_TRY(kd_json_get_object(p->manifest, key, &e, err));
    KD_TRY(kd_json_get_str(e, "name", &name, err));
    KD_TRY(kd_json_get_range(e, "ko", -1048576, 1048576, &ko, err));
    KD_TRY(kd_json_get_range(e, "ks", -1048576, 1048576, &ks, err));
    kd_parity_fill_last(name, ko, ks, out, n);
    return KD_OK;
}

static kd_status read_last(parity *p, loss_data *d, kd_err *err)
{
    const kd_json *student = NULL;
    int64_t shape[2], row[ROWS_MAX];
    double lam = 1.0;
    KD_TRY(kd_json_get_object(p->manifest, "student", &student, err));
    KD_TRY(kd_json_get_i64s(student, "shape", shape, 2, err));
    d->rows = (int)KD_MIN(shape[0], (int64_t)ROWS_MAX + 1);
    d->classes = (int)KD_MIN(shape[1], (int64_t)WIDTH_MAX + 1);
    KD_TRY(data_alloc(d, err));
    KD_TRY(kd_json_get_f64(p->manifest, "lam", &lam, err));
    KD_TRY(kd_json_get_i64s(p->manifest, "labels", row, (size_t)d->rows, err));
    for (int i = 0; i < d->rows; i++) {
        d->label[i] = (int32_t)row[i];
        d->lam[i] = (float)lam;
        if (row[i] < 0 || row[i] >= d->classes) {
            return KD_FAIL(err, KD_E_DATA, "labels: class %lld of %d", (long long)row[i], d->classes);
        }
    }
    KD_TRY(kd_json_get_i64s(p->manifest, "perm", row, (size_t)d->rows, err));
    for (int i = 0; i < d->rows; i++) {
        d->perm[i] = (int32_t)row[i];
        if (row[i] < 0 || row[i] >= d->rows) {
            return KD_FAIL(err, KD_E_DATA, "perm: row %lld of %d", (long long)row[i], d->rows);
        }
    }
    const size_t n = (size_t)d->rows * (size_t)d->classes;
    KD_TRY(generate_last(p, "student", d->z, n, err));
    return generate_last(p, "teacher", d->t, n, err);
}

/* What the generator made against the copy in the fixture. */
static kd_status same_logits(parity *p, const kd_st_file *f, const char *name, const float *have, size_t n, kd_err *err)
{
    double *want = NULL;
    KD_TRY(kd_parity_tensor(f, name, n, &want, err));
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        wrong += (double)have[i] != want[i];
    }
    kd_free(want);
    kd_parity_item(p, name, (double)wrong, 0.0);
    return KD_OK;
}

kd_status kd_parity_student_losses(parity *p, kd_err *err)
{
    const kd_json *list = NULL;
    loss_data d = {0};
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_json_get_object(p->manifest, "values_f64", &list, err));
    KD_GO(read_last(p, &d, err));
    KD_GO(kd_parity_open(p, "student", &f, err));
    const size_t n = (size_t)d.rows * (size_t)d.classes;
    KD_GO(same_logits(p, f, "student", d.z, n, err));
    KD_GO(same_logits(p, f, "teacher", d.t, n, err));
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const kd_json *e = kd_json_at(list, i);
        loss_case c;
        loss_gold gold = {.file = f, .grad_format = "grad.%s"};
        if (!parse_last(kd_json_key(e), &c)) {
            kd_parity_skip(p, kd_json_key(e), "a loss this build does not have");
            continue;
        }
        KD_GO(kd_json_as_f64(e, &gold.value, err));
        /* no recorded difference: half a unit of the last place of a probability of 1 in (T
         * p_student - T p_teacher) / B */
        gold.grad_diff = 0x1p-25 * fmax(c.temperature, 1.0) / (double)d.rows;
        KD_GO(run_case(p, &c, &d, &gold, err));
    }
done:
    kd_st_close(f);
    data_free(&d);
    return st;
}
