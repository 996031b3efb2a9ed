/* The table of loss terms: every row against golden values and gradients (golden/terms/<row>.json, made by PyTorch in
 * f64), in f64 to rounding and in f32 as close as PyTorch's own f32 run; and what runs make of rows: pairs, several
 * stores, many terms, weights that change. */
#include "configs/schema/kd_config.h"
#include "distill/kd/loss.h"
#include "formats/base/json.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_program.h"
#include "tests/kernels/f64_backend.h"
#include "tests/train/loss_bench.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { B = 6, K = 11, S = 8, P = 12 };

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

/* ---- the inputs of the goldens --------------------------------------------------------------- */

static void draw(const char *name, float scale, int n, double *out)
{
    const uint32_t crc = kd_crc32(name, strlen(name));
    for (int i = 0; i < n; i++) {
        out[i] = (double)(kd_parity_gen_unit(crc, (uint32_t)i) * scale);
    }
}

typedef struct data {
    double e[K * P]; /* embeddings of the classes */
    double z[B * K], t[B * K], target[B * K], s[B * S], f[B * P], w[P * S];
} data;

static void make_data(double smoothing, data *d)
{
    const uint32_t label_crc = kd_crc32("label", strlen("label"));
    draw("student.logits", 3.0f, B * K, d->z);
    draw("teacher.logits", 5.0f, B * K, d->t);
    draw("student.features", 1.0f, B * S, d->s);
    draw("teacher.features", 1.0f, B * P, d->f);
    draw("projector.weight", 0.5f, P * S, d->w);
    draw("class.embeddings", 1.0f, K * P, d->e);
    for (int b = 0; b < B; b++) {
        const int label = (int)(kd_parity_gen_u24(label_crc, (uint32_t)b) % K);
        for (int k = 0; k < K; k++) {
            d->target[b * K + k] = smoothing / K + (k == label ? 1.0 - smoothing : 0.0);
        }
    }
}

/* ---- a loss of its own ----------------------------------------------------------------------- */

typedef struct bench {
    kd_dtype t;
    int rows; /* of the batch; 0: B */
    int lost; /* the last rows of the batch have no teacher */
    int bare; /* or no label */
    kd_backend *be;
    loss_bench of;
} bench;

static void *tensor(const bench *b, const char *name)
{
    return loss_bench_tensor(&b->of, name);
}

static void bench_open(bench *b, const kd_loss *l)
{
    kd_err err = {0};
    b->of = (loss_bench){.t = b->t, .rows = b->rows > 0 ? b->rows : B, .classes = K, .width = S, .be = b->be};
    ok(loss_bench_open(&b->of, l, &err), &err);
}

static void bench_close(bench *b)
{
    loss_bench_close(&b->of);
}

/* Feed everything; every store answers alike. */
static void bench_run(const bench *b, const kd_loss *l, const data *d)
{
    static const double ones[B] = {1, 1, 1, 1, 1, 1};
    double taught[B] = {0}, labelled[B] = {0};
    memcpy(taught, ones, (size_t)(b->of.rows - b->lost) * sizeof *taught);
    memcpy(labelled, ones, (size_t)(b->of.rows - b->bare) * sizeof *labelled);
    const loss_data fed = {.z = d->z,
                           .s = d->s,
                           .target = d->target,
                           .labelled = labelled,
                           .teacher = d->t,
                           .feature = d->f,
                           .taught = taught,
                           .embed = d->e,
                           .embed_target = d->target,
                           .embedded = labelled,
                           .projector = d->w};
    assert_int_equal(loss_bench_run(&b->of, l, &fed), KD_OK);
}

/* ---- every row against its goldens ----------------------------------------------------------- */

static void compare(const kd_json *c, const char *key, const void *got, kd_dtype t, double tol)
{
    const kd_json *list = kd_json_get(c, key);
    const char *name = "";
    (void)!kd_json_get_str(c, "name", &name, NULL);
    for (size_t i = 0; i < kd_json_count(list); i++) {
        double want = NAN;
        assert_int_equal(kd_json_as_f64(kd_json_at(list, i), &want, NULL), KD_OK);
        if (!(fabs(loss_bench_at(got, t, (int)i) - want) <= tol)) {
            fail_msg("%s: %s[%zu] is %.17g, golden %.17g, allowed %.2g (%s)", name, key, i,
                     loss_bench_at(got, t, (int)i), want, tol, kd_dtype_name(t));
        }
    }
}

static void golden_case(int row, const kd_json *c, kd_backend *be, kd_dtype t)
{
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    const char *sets[8] = {"kind=student"};
    const kd_json *options = kd_json_get(c, "options");
    double smoothing = 0.0, value = NAN, value_f32 = NAN, grad_f32 = NAN;
    size_t n = 1;
    data *d = kd_calloc(1, sizeof *d);
    assert_true(cfg != NULL && d != NULL && kd_json_count(options) < KD_COUNTOF(sets));
    for (size_t i = 0; i < kd_json_count(options); i++) {
        ok(kd_json_as_str(kd_json_at(options, i), &sets[n++], &err), &err);
    }
    ok(kd_config_load(NULL, 0, sets, n, cfg, &err), &err);
    ok(kd_json_get_f64(c, "smoothing", &smoothing, &err), &err);
    ok(kd_json_get_f64(c, "value", &value, &err), &err);
    ok(kd_json_get_f64(c, "value_f32", &value_f32, &err), &err);
    ok(kd_json_get_f64(c, "grad_f32_maxabsdiff", &grad_f32, &err), &err);

    kd_loss l = {.stores = 1, .feature_dim = {P}, .embed_dim = P};
    const kd_term_def *def = kd_term_at(row);
    kd_term term = kd_term_read(row, &cfg->kd);
    assert_true(term.weight > 0.0); /* the options of a golden turn the term on */
    term.weight = 1.0;
    ok(kd_loss_add(&l, &term, &err), &err);
    bench b = {.t = t, .be = be};
    bench_open(&b, &l);
    make_data(smoothing, d);
    bench_run(&b, &l, d);

    const double got = loss_bench_at(tensor(&b, term.def->log), t, 0);
    const double tol = t == KD_F64 ? 1e-13 * fabs(value) : 4.0 * fabs(value_f32 - value) + 0x1p-22 * fabs(value);
    if (!(fabs(got - value) <= tol)) {
        fail_msg("%s is %.17g, golden %.17g, allowed %.2g (%s)", def->name, got, value, tol, kd_dtype_name(t));
    }
    const double grad_tol = t == KD_F64 ? 1e-14 : 4.0 * grad_f32;
    const bool features = (def->reads & KD_LOSS_OF_FEATURES) != 0;
    compare(c, "grad", tensor(&b, features ? "grad:s" : "grad:z"), t, grad_tol);
    if (kd_json_get(c, "grad_projector") != NULL) {
        const char *const name = strcmp(def->name, "infonce") == 0       ? "kd.contrast.weight"
                                 : strcmp(def->name, "class_embed") == 0 ? "kd.class_projector.weight"
                                                                         : "kd.projector.weight";
        const int w = kd_params_find(b.of.params, name);
        compare(c, "grad_projector", kd_params_grad(b.of.params, w), t, grad_tol);
    }
    bench_close(&b);
    kd_loss_free(&l);
    kd_free(d);
    kd_free(cfg);
}

static void every_row(kd_backend *be, kd_dtype t)
{
    assert_non_null(be);
    for (int i = 0; i < kd_term_count(); i++) {
        const kd_term_def *def = kd_term_at(i);
        kd_json *doc = NULL;
        kd_err err = {0};
        char path[512];
        (void)snprintf(path, sizeof path, "%s/terms/%s.json", KD_GOLDEN_DIR, def->name);
        ok(kd_json_load(path, &doc, &err), &err); /* a row without goldens fails here */
        assert_true(kd_json_count(doc) > 0);
        for (size_t c = 0; c < kd_json_count(doc); c++) {
            golden_case(i, kd_json_at(doc, c), be, t);
        }
        kd_json_free(doc);
    }
    kd_backend_close(be);
}

static void rows_in_f64(void **state)
{
    (void)state;
    every_row(kd_f64_backend_open(), KD_F64);
}

static void rows_in_f32(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(0, &be, NULL), KD_OK);
    every_row(be, KD_F32);
}

static void rows_in_f32_plain(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    be->plain = true;
    every_row(be, KD_F32);
}

/* ---- what a run makes of them ---------------------------------------------------------------- */

/* The loss is the weighted sum of its terms, whatever their number. */
static void expect_sum(const bench *b, const kd_loss *l, const double *weight)
{
    double sum = 0.0;
    for (int i = 0; i < l->n; i++) {
        sum += weight[i] * loss_bench_at(tensor(b, l->term[i].log), b->t, 0);
    }
    const double got = loss_bench_at(tensor(b, "loss"), b->t, 0);
    if (!(fabs(got - sum) <= 1e-13 * fabs(sum))) {
        fail_msg("the loss of %d terms is %.17g, their weighted sum %.17g", l->n, got, sum);
    }
}

static void make_loss(const char *const *sets, size_t n, int stores, kd_loss *out)
{
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    ok(kd_config_load(NULL, 0, sets, n, cfg, &err), &err);
    *out = (kd_loss){.stores = stores};
    for (int s = 0; s < stores; s++) {
        out->feature_dim[s] = P;
    }
    ok(kd_loss_make(&cfg->kd, out, &err), &err);
    kd_free(cfg);
}

static void terms_of_many_stores(void **state)
{
    (void)state;
    static const char *const sets[] = {"kind=student", "kd.weight=0.25", "kd.ce_weight=2", "kd.feature=mse",
                                       "kd.feature_weight=0.125"};
    double weight[32] = {2.0};
    kd_loss l;
    make_loss(sets, KD_COUNTOF(sets), KD_STORES_MAX, &l);
    assert_int_equal(l.n, 1 + 2 * KD_STORES_MAX); /* the sum op takes six at a time */
    for (int i = 1; i < l.n; i++) {
        weight[i] = i <= KD_STORES_MAX ? 0.25 : 0.125;
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(l.term[i].log, l.term[j].log);
        }
    }
    assert_string_equal(l.term[1].log, "loss_kd");
    assert_string_equal(l.term[2].log, "loss_kd_2");
    assert_string_equal(l.term[2].input, "teacher_2");
    data *d = kd_calloc(1, sizeof *d);
    assert_non_null(d);
    make_data(0.0, d);
    bench b = {.t = KD_F64, .be = kd_f64_backend_open()};
    bench_open(&b, &l);
    bench_run(&b, &l, d);
    expect_sum(&b, &l, weight);
    const double first = loss_bench_at(tensor(&b, "loss_kd"), KD_F64, 0);
    for (int s = 1; s < KD_STORES_MAX; s++) { /* stores that answer alike give alike terms */
        assert_true(fabs(loss_bench_at(tensor(&b, l.term[1 + s].log), KD_F64, 0) - first) <= 1e-13 * first);
    }
    bench_close(&b);
    kd_backend_close(b.be);
    kd_loss_free(&l);
    kd_free(d);
}

static void weights_that_change(void **state)
{
    (void)state;
    static const char *const sets[] = {"kind=student",       "kd.weight=0.5",      "kd.ce_weight=1",
                                       "kd.schedule=linear", "kd.warmup_epochs=4", "kd.stop_epoch=9"};
    kd_loss l;
    make_loss(sets, KD_COUNTOF(sets), 1, &l);
    assert_int_equal(l.n, 2);
    const kd_term *kl = &l.term[1];
    assert_true(kd_term_is_scheduled(kl) && !kd_term_is_scheduled(&l.term[0]));
    assert_true(kd_term_weight(kl, 0.0, 10.0) == 0.0);
    assert_true(fabs(kd_term_weight(kl, 2.0, 10.0) - 0.5 * 0.5 * 0.8) <
                1e-15); /* half of the warm-up, 0.8 of the line */
    assert_true(fabs(kd_term_weight(kl, 5.0, 10.0) - 0.5 * 0.5) < 1e-15);
    assert_true(kd_term_weight(kl, 9.0, 10.0) == 0.0);
    const kd_term cosine = {.def = kl->def, .weight = 2.0, .shape = KD_WEIGHT_COSINE};
    assert_true(fabs(kd_term_weight(&cosine, 5.0, 10.0) - 1.0) < 1e-15 && kd_term_weight(&cosine, 10.0, 10.0) < 1e-15);

    data *d = kd_calloc(1, sizeof *d);
    assert_non_null(d);
    make_data(0.0, d);
    bench b = {.t = KD_F64, .be = kd_f64_backend_open()};
    bench_open(&b, &l);
    for (int i = 0; i < 3; i++) {
        const double w[2] = {1.0, 0.3 * i};
        loss_bench_put(tensor(&b, "weight_loss_kd"), KD_F64, &w[1], 1);
        bench_run(&b, &l, d);
        expect_sum(&b, &l, w);
    }
    bench_close(&b);
    kd_backend_close(b.be);
    kd_loss_free(&l);
    kd_free(d);
}

/* A term makes of the batch `holed` what it makes of `d` without the last rows, which lack a teacher or a label. */
static void compare_without(kd_backend *be, const kd_loss *l, int lost, int bare, const data *holed, const data *d)
{
    const kd_term_def *def = l->term[0].def;
    const bool features = (def->reads & KD_LOSS_OF_FEATURES) != 0;
    const int width = features ? S : K, kept = B - lost - bare;
    bench whole = {.t = KD_F64, .be = be, .lost = lost, .bare = bare}, less = {.t = KD_F64, .be = be, .rows = kept};
    bench_open(&whole, l);
    bench_open(&less, l);
    bench_run(&whole, l, holed);
    bench_run(&less, l, d);
    const double *have = tensor(&whole, features ? "grad:s" : "grad:z");
    const double *want = tensor(&less, features ? "grad:s" : "grad:z");
    const double value = loss_bench_at(tensor(&less, "loss"), KD_F64, 0);
    if (!(value != 0.0 && fabs(loss_bench_at(tensor(&whole, "loss"), KD_F64, 0) - value) <= 1e-13 * fabs(value))) {
        fail_msg("%s: %.17g, without these rows %.17g", def->name, loss_bench_at(tensor(&whole, "loss"), KD_F64, 0),
                 value);
    }
    for (int k = 0; k < B * width; k++) {
        const double wanted = k < kept * width ? want[k] : 0.0;
        if (!(fabs(have[k] - wanted) <= 1e-14)) {
            fail_msg("%s: gradient %d is %.17g, without these rows %.17g", def->name, k, have[k], wanted);
        }
    }
    bench_close(&whole);
    bench_close(&less);
}

/* No row of the batch has a label: the term is 0 and has no gradient. */
static void compare_none(kd_backend *be, const kd_loss *l, const data *d)
{
    bench b = {.t = KD_F64, .be = be, .bare = B};
    bench_open(&b, l);
    bench_run(&b, l, d);
    assert_true(loss_bench_at(tensor(&b, "loss"), KD_F64, 0) == 0.0);
    const bool features = (l->term[0].def->reads & KD_LOSS_OF_FEATURES) != 0;
    for (int k = 0; k < B * (features ? S : K); k++) {
        assert_true(loss_bench_at(tensor(&b, features ? "grad:s" : "grad:z"), KD_F64, k) == 0.0);
    }
    bench_close(&b);
}

/* Rows that lack what a term reads take no part in the term; what stands in their place is not read. */
static void lacking_rows_take_no_part(void **state)
{
    (void)state;
    enum { KEPT = 4 };
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    data *d = kd_calloc(1, sizeof *d), *holed = kd_calloc(1, sizeof *holed);
    kd_backend *be = kd_f64_backend_open();
    assert_true(cfg != NULL && d != NULL && holed != NULL && be != NULL);
    ok(kd_config_load(NULL, 0, (const char *const[]){"kind=student"}, 1, cfg, &err), &err);
    make_data(0.0, d);
    *holed = *d;
    for (int b = KEPT; b < B; b++) {
        holed->t[b * K] = holed->f[b * P] = NAN;
    }
    for (int i = 0; i < kd_term_count(); i++) {
        const unsigned reads = kd_term_at(i)->reads;
        kd_loss l = {.stores = 1, .feature_dim = {P}, .embed_dim = P};
        kd_term term = kd_term_read(i, &cfg->kd);
        if ((reads & KD_READS_LATENT) != 0) {
            continue;
        }
        term.weight = 1.0;
        ok(kd_loss_add(&l, &term, &err), &err);
        if ((reads & (KD_READS_STORE | KD_READS_AVERAGE | KD_READS_PEERS)) != 0) {
            compare_without(be, &l, B - KEPT, 0, holed, d);
        }
        if ((reads & (KD_READS_LABELS | KD_READS_CLASSES)) != 0) {
            compare_without(be, &l, 0, B - KEPT, d, d);
            compare_none(be, &l, d);
        }
        kd_loss_free(&l);
    }
    kd_backend_close(be);
    kd_free(holed);
    kd_free(d);
    kd_free(cfg);
}

/* A term that compares the samples of a batch is named as such. */
static void coupled_terms_are_named(void **state)
{
    (void)state;
    const kd_term_def def = {.name = "made", .log = "loss_made", .reads = KD_READS_FEATURES, .coupled = true};
    const kd_term term = {.def = &def, .weight = 1.0};
    kd_err err = {0};
    kd_loss l;
    ok(kd_loss_own(false, false, &l, &err), &err);
    assert_null(kd_loss_coupled(&l));
    ok(kd_loss_add(&l, &term, &err), &err);
    assert_string_equal(kd_loss_coupled(&l), "made");
    kd_loss_free(&l);
}

/* Cross-entropy and KL come from one op; their gradient is that of both terms apart. */
static void a_pair_is_its_parts(void **state)
{
    (void)state;
    static const char *const both[] = {"kind=student", "kd.weight=0.75", "kd.ce_weight=0.5", "kd.temperature=3"};
    double whole[B * K], parts[B * K] = {0};
    data *d = kd_calloc(1, sizeof *d);
    kd_backend *be = kd_f64_backend_open();
    kd_err err = {0};
    assert_true(d != NULL && be != NULL);
    make_data(0.1, d);
    kd_loss l;
    make_loss(both, KD_COUNTOF(both), 1, &l);
    for (int part = 0; part < 3; part++) { /* 0: both; 1 and 2: each alone */
        kd_loss one = {.stores = 1, .feature_dim = {P}};
        if (part > 0) {
            ok(kd_loss_add(&one, &l.term[part - 1], &err), &err);
        }
        bench b = {.t = KD_F64, .be = be};
        bench_open(&b, part == 0 ? &l : &one);
        bench_run(&b, part == 0 ? &l : &one, d);
        const double *grad = tensor(&b, "grad:z");
        for (int i = 0; i < B * K; i++) {
            if (part == 0) {
                whole[i] = grad[i];
            } else {
                parts[i] += grad[i];
            }
        }
        bench_close(&b);
        kd_loss_free(&one);
    }
    for (int i = 0; i < B * K; i++) {
        assert_true(fabs(whole[i] - parts[i]) <= 1e-15);
    }
    kd_backend_close(be);
    kd_loss_free(&l);
    kd_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_in_f64),
        cmocka_unit_test(rows_in_f32),
        cmocka_unit_test(rows_in_f32_plain),
        cmocka_unit_test(terms_of_many_stores),
        cmocka_unit_test(weights_that_change),
        cmocka_unit_test(a_pair_is_its_parts),
        cmocka_unit_test(coupled_terms_are_named),
        cmocka_unit_test(lacking_rows_take_no_part),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
