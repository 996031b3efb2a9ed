/* From a trained model to a report: see assess.h. */
#include "distill/eval/assess.h"

#include "distill/eval/int8_program.h"
#include "distill/eval/quantize.h"

#include <math.h>
#include <stdlib.h>

/* ---- latency --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

kd_status kd_assess_latency(kd_model *m, const kd_quant *q, kd_report_facts *facts, kd_err *err)
{
    enum { MOST = 50 };
    double t[MOST];
    int n = 0;
    kd_program *p = NULL;
    KD_TRY(kd_model_eval_program(m, 1, &p, err));
    kd_int8_program eight = {.n = 0};
    kd_status st = q != NULL ? kd_int8_program_open(p, q, &eight, err) : KD_OK;
    st = st == KD_OK ? kd_program_run(p, NULL) : st; /* warm-up: folds and packs the weights */
    const double start = kd_now();
    while (st == KD_OK && n < MOST && (n < 5 || kd_now() - start < 1.0)) {
        const double t0 = kd_now();
        st = kd_program_run(p, NULL);
        t[n++] = 1e3 * (kd_now() - t0);
    }
    facts->macs = kd_program_macs(p);
    kd_program_free(p);
    kd_int8_program_close(&eight);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "latency: forward pass failed: %s", kd_status_text(st));
    }
    qsort(t, (size_t)n, sizeof *t, by_value);
    facts->latency_ms = t[n / 2];
    facts->latency_p90_ms = t[n * 9 / 10];
    return KD_OK;
}

/* ---- eval ------------------------------------------------------------------------------------ */

typedef struct assessment {
    kd_dataset data;
    kd_model model;
    kd_source source;
    kd_program *program;
    kd_records records;
    kd_quant quant;
    kd_int8_program eight;
    kd_load_report load;
} assessment;

static void assessment_close(assessment *a)
{
    kd_records_free(&a->records);
    kd_program_free(a->program);
    kd_int8_program_close(&a->eight);
    kd_quant_free(&a->quant);
    if (a->source.close != NULL) {
        a->source.close(a->source.ctx);
    }
    kd_load_report_free(&a->load);
    kd_model_close(&a->model);
    kd_dataset_free(&a->data);
}

static kd_status assess_open(const kd_assess_opts *o, assessment *a, kd_err *err)
{
    const kd_task *task = o->task;
    kd_load_report *load = &a->load;
    KD_TRY(kd_dataset_open(&o->cfg->data, task->need, 1u << o->half, &a->data, err));
    KD_TRY(kd_half_leave_unlabelled(&a->data.half[o->half], err));
    KD_TRY(kd_model_open(task, o->cfg, a->data.n_classes, o->be, &a->model, err));
    KD_TRY(kd_model_declare(&a->model, NULL, err));
    KD_TRY(kd_model_load(&a->model, o->weights, "", false, a->data.classes, load, err));
    kd_log(KD_LOG_INFO, "weights %s: %d tensors, %d unused%s%s; sha256 %.12s", o->weights, load->matched,
           load->unexpected, load->unexpected > 0 ? ": " : "", load->unexpected_names, load->sha256);
    KD_TRY(kd_model_eval_program(&a->model, o->cfg->eval.batch_size, &a->program, err));
    return task->source(o->cfg, &a->model, &a->data.half[o->half], KD_PASS_TEST, true, &a->source, err);
}

/* ---- eight bits ------------------------------------------------------------------------------ */

static size_t first_of(const float *v, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = v[i] > v[best] ? i : best;
    }
    return best;
}

/* The same samples in f32 and in eight bits. */
static void compare_records(const kd_records *exact, const kd_records *eight, kd_int8_facts *facts)
{
    const size_t n = KD_MIN(exact->n, eight->n), width = exact->width;
    size_t same = 0;
    for (size_t i = 0; i < n; i++) {
        const float *a = exact->record + i * width, *b = eight->record + i * width;
        same += first_of(a, width) == first_of(b, width) ? 1 : 0;
        for (size_t k = 0; k < width; k++) {
            facts->largest = KD_MAX(facts->largest, fabs((double)a[k] - (double)b[k]));
        }
    }
    facts->same = n > 0 ? (double)same / (double)n : 0.0;
}

/* The half in f32, then the program computes in eight bits. */
static kd_status to_eight_bits(const kd_assess_opts *o, assessment *a, const kd_eval_opts *eo, kd_records *exact,
                               kd_int8_facts *facts, kd_err *err)
{
    const kd_quantize_opts co = {.cfg = o->cfg, .samples = o->int8, .progress = o->progress};
    kd_figures figures = {.n = 0};
    if (!o->be->ops->host || a->model.dtype != KD_F32) {
        return KD_FAIL(err, KD_E_ARG, "--int8 is measured against f32 on the CPU: --device cpu --dtype f32");
    }
    KD_TRY(kd_quantize(&co, &a->model, &a->quant, err));
    KD_TRY(kd_eval_fill(&a->model, a->program, o->cfg, eo, exact, err));
    KD_TRY(o->task->measure(&a->model, o->cfg, exact, &figures, err));
    facts->layers = a->quant.n;
    facts->calibrated = a->quant.samples;
    facts->figure_f32 = figures.figure[0].value;
    kd_figures_free(&figures);
    return kd_int8_program_open(a->program, &a->quant, &a->eight, err);
}

static kd_status evaluate(const kd_assess_opts *o, assessment *a, kd_int8_facts *facts, kd_err *err)
{
    const kd_eval_opts eo = {.producer = &a->source.producer,
                             .batch_size = o->cfg->eval.batch_size,
                             .workers = kd_loader_workers(o->cfg->train.workers),
                             .on_bad = o->cfg->data.on_bad_sample,
                             .progress = o->progress,
                             .phase = "evaluate"};
    kd_records exact = {.n = 0};
    kd_status st = o->int8 > 0 ? to_eight_bits(o, a, &eo, &exact, facts, err) : KD_OK;
    st = st == KD_OK ? kd_eval_fill(&a->model, a->program, o->cfg, &eo, &a->records, err) : st;
    if (st == KD_OK && o->int8 > 0) {
        compare_records(&exact, &a->records, facts);
    }
    kd_records_free(&exact);
    return st;
}

static kd_status assess(const kd_assess_opts *o, assessment *a, kd_assess_result *result, kd_err *err)
{
    KD_TRY(assess_open(o, a, err));
    const kd_load_report *load = &a->load;
    (void)o->task->views(o->cfg, result->views);
    KD_TRY(evaluate(o, a, &result->int8, err));
    KD_TRY(o->task->measure(&a->model, o->cfg, &a->records, &result->figures, err));
    kd_assessment found = {.cfg = o->cfg,
                           .data = &a->data,
                           .half = o->half,
                           .model = &a->model,
                           .records = &a->records,
                           .figures = &result->figures,
                           .facts = {.label = o->label,
                                     .command = o->command,
                                     .weights_hash = load->sha256,
                                     .origin = load->has_origin ? &load->origin : NULL,
                                     .views = result->views,
                                     .phase = load->phase[0] != '\0' ? load->phase : NULL,
                                     .selected_on = load->best ? load->selected_on : NULL,
                                     .int8 = result->int8}};
    KD_TRY(kd_assess_latency(&a->model, o->int8 > 0 ? &a->quant : NULL, &found.facts, err));
    result->latency_ms = found.facts.latency_ms;
    const kd_half *half = &a->data.half[o->half];
    result->done = a->records.n;
    result->failed = a->records.n_failed + kd_half_failures(half);
    result->listed = half->n + half->n_left;
    result->excluded = result->listed - result->done - result->failed;
    return o->out != NULL ? o->task->report(&found, o->out, err) : KD_OK;
}

kd_status kd_assess(const kd_assess_opts *o, kd_assess_result *result, kd_err *err)
{
    assessment a = {.program = NULL};
    *result = (kd_assess_result){.listed = 0};
    const kd_status st = assess(o, &a, result, err);
    assessment_close(&a);
    return st;
}
