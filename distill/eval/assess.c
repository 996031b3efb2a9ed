/* From a trained model to a report: see assess.h. */
#include "distill/eval/assess.h"

#include <stdlib.h>

/* ---- latency --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

kd_status kd_assess_latency(kd_model *m, kd_report_facts *facts, kd_err *err)
{
    enum { MOST = 50 };
    double t[MOST];
    int n = 0;
    kd_program *p = NULL;
    KD_TRY(kd_model_eval_program(m, 1, &p, err));
    kd_status st = kd_program_run(p, NULL); /* warm-up: folds and packs the weights */
    const double start = kd_now();
    while (st == KD_OK && n < MOST && (n < 5 || kd_now() - start < 1.0)) {
        const double t0 = kd_now();
        st = kd_program_run(p, NULL);
        t[n++] = 1e3 * (kd_now() - t0);
    }
    facts->macs = kd_program_macs(p);
    kd_program_free(p);
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
    kd_load_report load;
} assessment;

static void assessment_close(assessment *a)
{
    kd_records_free(&a->records);
    kd_program_free(a->program);
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

static kd_status assess(const kd_assess_opts *o, assessment *a, kd_assess_result *result, kd_err *err)
{
    KD_TRY(assess_open(o, a, err));
    const kd_load_report *load = &a->load;
    (void)o->task->views(o->cfg, result->views);
    const kd_eval_opts eo = {.producer = &a->source.producer,
                             .batch_size = o->cfg->eval.batch_size,
                             .workers = kd_loader_workers(o->cfg->train.workers),
                             .on_bad = o->cfg->data.on_bad_sample,
                             .progress = o->progress,
                             .phase = "evaluate"};
    KD_TRY(kd_eval_fill(&a->model, a->program, o->cfg, &eo, &a->records, err));
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
                                     .selected_on = load->best ? load->selected_on : NULL}};
    KD_TRY(kd_assess_latency(&a->model, &found.facts, err));
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
