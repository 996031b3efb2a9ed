/* The door for further kinds of models: a made task, unlike the two that are built in, is trained, resumed and assessed
 * by the same code.  Its samples have two labels, two inputs of which one is rectangular, a head that only training
 * has, an output that is no row of logits, and a figure of its own by which the best epoch is chosen. */
#include "distill/eval/assess.h"
#include "distill/task/tasks.h"
#include "distill/train/train.h"
#include "formats/base/io.h"
#include "formats/base/json.h"
#include "kernels/kd_layers.h"
#include "tools/sample/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define OUT KD_BUILD_DIR "/tests/task-out"

enum { ROWS = 3, COLUMNS = 5, PLACES = 4, LABELS = 2, HIDDEN = 24 };

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

/* ---- the data: what a sample holds follows from its two labels ------------------------------- */

typedef struct made {
    const kd_half *half;
    int classes;
} made;

static void labels_of(void *ctx, const kd_item *item, int32_t *dst)
{
    const made *s = ctx;
    const kd_data_sample *d = &s->half->sample[item->sample];
    dst[0] = d->label;
    dst[1] = (d->label + 1 + d->performer % 2) % s->classes;
}

static const char *id_of(void *ctx, uint32_t sample)
{
    return ((const made *)ctx)->half->sample[sample].id;
}

static kd_status fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    float *picture = dst[0], *place = dst[1];
    int32_t label[LABELS];
    (void)scratch, (void)err;
    labels_of(ctx, item, label);
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        picture[i] = i == label[0] ? 2.0f : 0.05f * (float)((item->sample + (uint32_t)i) % 7);
    }
    for (int i = 0; i < PLACES; i++) {
        place[i] = (label[1] >> i & 1) != 0 ? 1.0f : -1.0f;
    }
    return KD_OK;
}

static kd_status source(const kd_config *cfg, const kd_model *m, const kd_half *half, kd_pass pass, bool cached,
                        kd_source *out, kd_err *err)
{
    made *s = kd_calloc(1, sizeof *s);
    (void)cfg, (void)pass, (void)cached;
    if (s == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    *s = (made){half, m->classes};
    *out = (kd_source){.ctx = s,
                       .close = kd_free,
                       .producer = {.ctx = s,
                                    .samples = half->n,
                                    .views = 1,
                                    .n_tensors = 2,
                                    .grain = 4,
                                    .fill = fill,
                                    .n_labels = LABELS,
                                    .label = labels_of,
                                    .id = id_of}};
    out->producer.tensor[0] = kd_row_spec_of("picture", KD_F32, 2, (const int64_t[]){ROWS, COLUMNS});
    out->producer.tensor[1] = kd_row_spec_of("place", KD_F32, 1, (const int64_t[]){PLACES});
    return KD_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

static kd_status open_model(const kd_config *cfg, kd_model *m, kd_err *err)
{
    (void)cfg, (void)err;
    (void)snprintf(m->name, sizeof m->name, "made");
    m->feature_dim = HIDDEN;
    m->n_inputs = 2;
    m->inputs[0] = "picture";
    m->inputs[1] = "place";
    m->item[0] = m->train_item[0] = (kd_spec){KD_F32, kd_shape2(ROWS, COLUMNS)};
    m->item[1] = m->train_item[1] = (kd_spec){KD_F32, kd_shape1(PLACES)};
    m->n_outputs = 2;
    m->output[0] = (kd_model_output){"scores", m->classes};
    m->output[1] = (kd_model_output){"tokens", HIDDEN};
    m->record = m->classes + 1; /* the scores, and how sure the model is of the first label */
    return KD_OK;
}

static kd_built build(kd_model *m, kd_graph *g, const kd_build *b)
{
    const kd_linear_opts lo = {.weight = kd_init_torch(ROWS * COLUMNS), .bias = kd_init_torch(ROWS * COLUMNS)};
    const kd_linear_opts head = {.weight = kd_init_torch(HIDDEN), .bias = kd_init_torch(HIDDEN), .f32_out = true};
    const kd_val picture = kd_input(g, "picture", KD_F32, kd_shape3(b->batch, ROWS, COLUMNS));
    const kd_val place = kd_input(g, "place", KD_F32, kd_shape2(b->batch, PLACES));
    kd_val wide = kd_linear(g, picture, "rows", HIDDEN, &lo);
    wide = kd_reduce(g, wide, KD_REDUCE_MEAN, 1u << 1);
    wide = kd_act(g, kd_add(g, wide, kd_linear(g, place, "places", HIDDEN, &lo)), KD_ACT_RELU);
    kd_val logits = kd_linear(g, wide, "head", m->classes, &head);
    kd_output(g, "scores", logits);
    kd_output(g, "tokens", wide);
    if (b->training) {
        logits = kd_add(g, logits, kd_scale(g, kd_linear(g, wide, "aux", m->classes, &head), 0.1f));
    }
    return (kd_built){.logits = logits, .features = wide};
}

static void groups(kd_model *m, const kd_config *cfg)
{
    (void)m, (void)cfg;
}

static const char *start(const kd_config *cfg)
{
    (void)cfg;
    return "";
}

/* Half of the mass on each label. */
static void target(const kd_model *m, const kd_config *cfg, const kd_batch *b, const kd_mix *mix, float *t)
{
    (void)cfg, (void)mix;
    memset(t, 0, (size_t)b->rows * (size_t)m->classes * sizeof *t);
    for (int i = 0; i < b->rows; i++) {
        for (int k = 0; k < LABELS && b->valid[i] != 0.0f; k++) {
            t[i * m->classes + b->label[LABELS * i + k]] += 0.5f;
        }
    }
}

/* ---- the results ----------------------------------------------------------------------------- */

static int views(const kd_config *cfg, char text[24])
{
    (void)cfg;
    (void)snprintf(text, 24, "1x1");
    return 1;
}

static void gather(const kd_model *m, const kd_config *cfg, const float *const *out, int n, double *work, float *record)
{
    (void)cfg, (void)n, (void)work;
    float most = out[0][0];
    for (int k = 0; k < m->classes; k++) {
        record[k] = out[0][k];
        most = fmaxf(most, out[0][k]);
    }
    record[m->classes] = most;
}

/* Share of the labels that are among the two highest scores. */
static kd_status measure(const kd_model *m, const kd_config *cfg, const kd_records *r, kd_figures *out, kd_err *err)
{
    size_t found = 0;
    (void)cfg, (void)err;
    assert_int_equal(r->width, m->classes + 1);
    assert_int_equal(r->n_labels, LABELS);
    for (size_t i = 0; i < r->n; i++) {
        const float *score = r->record + i * r->width;
        for (int k = 0; k < LABELS; k++) {
            int before = 0;
            for (int c = 0; c < m->classes; c++) {
                before += score[c] > score[r->label[i * LABELS + (size_t)k]];
            }
            found += before < LABELS;
        }
    }
    const double share = (double)found / (double)(r->n * LABELS);
    *out = (kd_figures){.figure = {{"found", "found", share, true, false}, {"lost", "lost", 1.0 - share, true, false}},
                        .n = 2};
    return KD_OK;
}

static kd_status report(const kd_assessment *a, const char *path, kd_err *err)
{
    kd_json *doc = kd_json_object();
    kd_json_set_str(doc, "kind", a->model->task->kind);
    kd_json_set_i64(doc, "samples", (int64_t)a->records->n);
    kd_json_set_f64(doc, "found", a->figures->figure[0].value);
    const kd_status st = kd_json_write(doc, path, err);
    kd_json_free(doc);
    return st;
}

static bool is_head(const char *name)
{
    return strncmp(name, "head.", 5) == 0;
}

static const kd_task made_task = {.kind = "made",
                                  .program = "distill",
                                  .modality = "made",
                                  .need = KD_NEED_SKELETON,
                                  .start_key = "",
                                  .open = open_model,
                                  .build = build,
                                  .groups = groups,
                                  .start = start,
                                  .is_head = is_head,
                                  .may_be_fresh = is_head,
                                  .views = views,
                                  .source = source,
                                  .target = target,
                                  .figure = "found",
                                  .figure_text = "found",
                                  .gather = gather,
                                  .measure = measure,
                                  .report = report};

/* ---- the test -------------------------------------------------------------------------------- */

static const char *const recipe[] = {
    "kind=student",       "data.root=" OUT "/data", "data.split.by=subject", "data.split.train=[1, 2]",
    "optim.name=adamw",   "optim.base_lr=0.02",     "optim.warmup_epochs=1", "optim.weight_decay=0",
    "train.epochs=30",    "train.batch_size=8",     "train.workers=1",       "eval.batch_size=5",
    "optim.min_lr=0.0001"};

static double number(const char *path, const char *key)
{
    kd_json *doc = NULL;
    kd_err err = {0};
    double v = NAN;
    ok(kd_json_load(path, &doc, &err), &err);
    ok(kd_json_get_f64(doc, key, &v, &err), &err);
    kd_json_free(doc);
    return v;
}

static void trained_and_assessed(void **state)
{
    (void)state;
    const kd_sample_opts so = {.seed = 7,
                               .performers = 3,
                               .cameras = 1,
                               .replications = 1,
                               .width = 64,
                               .height = 48,
                               .threads = 1,
                               .skeletons_only = true};
    kd_sample_result made_data;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_backend *be = NULL;
    kd_err err = {0};
    kd_train_result r;
    assert_non_null(cfg);
    kd_log_set_level(KD_LOG_WARN);
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_sample_write(OUT "/data", &so, NULL, &made_data, &err), &err);
    ok(kd_config_load(NULL, 0, recipe, KD_COUNTOF(recipe), cfg, &err), &err);
    ok(kd_backend_cpu_open(1, &be, &err), &err);

    kd_train_opts to = {.task = &made_task, .cfg = cfg, .out_dir = OUT "/run", .command = "test", .be = be};
    ok(kd_train(&to, &r, &err), &err);
    assert_int_equal(r.epochs, 30);
    assert_true(r.best > 0.9); /* two random classes of twelve would be 0.17 */
    assert_true(number(OUT "/run/report.json", "found") == r.last);

    kd_assess_result a;
    const kd_assess_opts ao = {.task = &made_task,
                               .cfg = cfg,
                               .weights = OUT "/run/checkpoints/last",
                               .out = OUT "/again.json",
                               .command = "test",
                               .half = KD_HALF_VAL,
                               .be = be};
    ok(kd_assess(&ao, &a, &err), &err); /* the head that only training has is an unused tensor here */
    assert_true(a.figures.figure[0].value == r.last);
    assert_int_equal(a.done, 12);
    assert_true(number(OUT "/again.json", "found") == r.last);
    kd_figures_free(&a.figures);
    kd_backend_close(be);
    kd_free(cfg);
}

/* The kinds of recipes and the rows of the table are the same. */
static void every_kind_has_a_task(void **state)
{
    (void)state;
#define ONE(value, name) +1
    static const int kinds = 0 KD_CFG_KIND_MAP(ONE);
#undef ONE
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    kd_config_defaults(cfg);
    assert_int_equal(kd_task_count(), kinds);
    for (int i = 0; i < kinds; i++) {
        char kind[KD_CFG_NAME];
        cfg->kind = (kd_cfg_kind)i;
        assert_string_equal(kd_task_of(cfg)->kind, kd_config_enum_name("kind", i, kind));
    }
    kd_free(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind_has_a_task), cmocka_unit_test(trained_and_assessed)};
    return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
