/* From a trained model to a report: see assess.h. */
#include "distill/eval/assess.h"

#include "distill/report/report.h"
#include "formats/base/hash.h"
#include "formats/base/io.h"
#include "formats/video/video.h"
#include "formats/weights/weights.h"
#include "student/skeleton/sequence.h"
#include "teacher/clip/clip.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- latency --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

kd_status kd_assess_latency(kd_model *m, double *median_ms, double *p90_ms, int64_t *macs, kd_err *err)
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
    *macs = kd_program_macs(p);
    kd_program_free(p);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "latency: forward pass failed: %s", kd_status_text(st));
    }
    qsort(t, (size_t)n, sizeof *t, by_value);
    *median_ms = t[n / 2];
    *p90_ms = t[n * 9 / 10];
    return KD_OK;
}

/* ---- report ---------------------------------------------------------------------------------- */

/* Rows of the report: done samples in order; the ids of the others. */
typedef struct rows {
    const char **ids, **excluded;
    int32_t *label;
    float *logits;
    size_t n, n_excluded;
} rows;

static void rows_free(rows *r)
{
    kd_free(r->ids);
    kd_free(r->excluded);
    kd_free(r->label);
    kd_free(r->logits);
}

static kd_status rows_make(const kd_half *h, const kd_eval_table *t, rows *r, kd_err *err)
{
    const size_t k = (size_t)t->classes;
    r->ids = kd_calloc(t->n + 1, sizeof *r->ids);
    r->excluded = kd_calloc(t->n + 1, sizeof *r->excluded);
    r->label = kd_calloc(t->n + 1, sizeof *r->label);
    r->logits = kd_calloc((t->n + 1) * k, sizeof *r->logits);
    if (r->ids == NULL || r->excluded == NULL || r->label == NULL || r->logits == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    for (size_t i = 0; i < t->n; i++) {
        if (!t->done[i]) {
            r->excluded[r->n_excluded++] = h->sample[i].id;
            continue;
        }
        r->ids[r->n] = h->sample[i].id;
        r->label[r->n] = t->label[i];
        memcpy(r->logits + r->n * k, t->logits + i * k, k * sizeof(float));
        r->n++;
    }
    return KD_OK;
}

kd_status kd_assess_write(const kd_config *cfg, const kd_dataset *data, kd_half_id half, kd_model *m,
                          const kd_eval_table *table, int64_t macs, const kd_assess_facts *facts, const char *path,
                          kd_err *err)
{
    const kd_half *h = &data->half[half];
    const kd_half_counts *c = &h->counts;
    char hash[KD_CFG_HASH] = "", store_hash[KD_SHA256_HEX] = "", merge[KD_CFG_NAME];
    rows r = {0};
    kd_status st = KD_OK;
    char *yaml = kd_config_yaml(cfg, false, false);
    KD_GO(kd_config_hash(cfg, hash));
    KD_GO(rows_make(h, table, &r, err));
    if (m->is_student && cfg->kd.store[0] != '\0') {
        KD_GO(kd_sha256_file(cfg->kd.store, store_hash, err));
    }
    const size_t excluded = c->no_video + c->no_skeleton + c->known_missing + c->over_limit;
    kd_report rep = {.kind = m->is_student ? "student" : "teacher",
                     .label = facts->label != NULL   ? facts->label
                              : cfg->name[0] != '\0' ? cfg->name
                                                     : m->name,
                     .command = facts->command,
                     .seed = cfg->train.seed,
                     .dataset = data->name,
                     .split = data->split,
                     .half = half == KD_HALF_TRAIN ? "train" : "val",
                     .modality = m->is_student ? "skeleton" : "rgb",
                     .views = facts->views,
                     .merge = kd_config_enum_name("eval.merge", (int)cfg->eval.merge, merge),
                     .class_names = (const char *const *)data->classes,
                     .classes = data->n_classes,
                     .root = cfg->data.root,
                     .listed = (int64_t)(table->n + excluded),
                     .failed = (int64_t)r.n_excluded,
                     .excluded = (int64_t)excluded,
                     .excluded_ids = r.excluded,
                     .n_excluded_ids = r.n_excluded,
                     .config_hash = hash,
                     .weights_hash = facts->weights_hash,
                     .store_hash = store_hash[0] != '\0' ? store_hash : NULL,
                     .decoder = m->is_student ? NULL : kd_video_decoder_version(),
                     .model = m->name,
                     .parameters = kd_params_numel(m->params),
                     .macs = macs,
                     .bytes = kd_params_numel(m->params) * 4,
                     .latency_ms = facts->latency_ms,
                     .latency_p90_ms = facts->latency_p90_ms,
                     .latency_batch = 1,
                     .threads = m->be->threads,
                     .device = m->be->ops->name,
                     .dtype = kd_dtype_name(m->dtype),
                     .config = yaml,
                     .ids = r.ids,
                     .labels = r.label,
                     .logits = r.logits,
                     .n = r.n,
                     .ece_bins = cfg->report.ece_bins};
    st = kd_report_write(&rep, path, err);
    kd_metrics_free(&rep.metrics);
done:
    rows_free(&r);
    kd_free(yaml);
    return st;
}

/* ---- config of weights ----------------------------------------------------------------------- */

static bool try_config(const char *dir, const char *rest, char *out, size_t size)
{
    (void)snprintf(out, size, "%s%s/config.yaml", dir, rest);
    return kd_path_is_file(out);
}

kd_status kd_assess_config(const char *config, const char *weights, const char *const *sets, size_t n_sets,
                           kd_config *out, kd_err *err)
{
    char path[1200];
    if (config != NULL) {
        return kd_config_load(config, sets, n_sets, out, err);
    }
    if (weights != NULL && !kd_path_exists(weights)) {
        return KD_FAIL(err, KD_E_IO,
                       "%s: no such weights: expected a run directory, a checkpoint, a safetensors file or a .pth",
                       weights);
    }
    if (weights != NULL && kd_path_is_dir(weights) &&
        (try_config(weights, "", path, sizeof path) || try_config(weights, "/../..", path, sizeof path))) {
        return kd_config_load(path, sets, n_sets, out, err);
    }
    if (weights != NULL) {
        char *dir = kd_path_dir(weights); /* .../run/checkpoints/best/model.safetensors */
        const bool found =
            dir != NULL && (try_config(dir, "/../..", path, sizeof path) || try_config(dir, "", path, sizeof path));
        kd_free(dir);
        if (found) {
            return kd_config_load(path, sets, n_sets, out, err);
        }
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: no config.yaml beside these weights: name the recipe with --config",
                   weights != NULL ? weights : "--weights");
}

/* ---- eval ------------------------------------------------------------------------------------ */

typedef struct assessment {
    kd_dataset data;
    kd_model model;
    kd_clip_source *clips;
    kd_sequence_source *sequences;
    kd_program *program;
    kd_eval_table table;
    kd_metrics metrics;
} assessment;

static void assessment_close(assessment *a)
{
    kd_metrics_free(&a->metrics);
    kd_eval_table_free(&a->table);
    kd_program_free(a->program);
    kd_clip_source_close(a->clips);
    kd_sequence_source_close(a->sequences);
    kd_model_close(&a->model);
    kd_dataset_free(&a->data);
}

static kd_status assess_open(const kd_assess_opts *o, assessment *a, kd_load_report *load, kd_producer *producer,
                             kd_err *err)
{
    const bool student = o->cfg->kind == KD_KIND_STUDENT;
    KD_TRY(kd_dataset_open(&o->cfg->data, student ? KD_NEED_SKELETON : KD_NEED_VIDEO, 1u << o->half, &a->data, err));
    KD_TRY(kd_model_open(o->cfg, a->data.n_classes, o->be, &a->model, err));
    KD_TRY(kd_model_declare(&a->model, NULL, err));
    KD_TRY(kd_model_load(&a->model, o->weights, false, load, err));
    kd_log(KD_LOG_INFO, "weights %s: %d tensors, sha256 %.12s", o->weights, load->matched, load->sha256);
    KD_TRY(kd_model_eval_program(&a->model, o->cfg->eval.batch_size, &a->program, err));
    if (student) {
        KD_TRY(kd_sequence_source_open(o->cfg, &a->data.half[o->half], false, a->model.inputs, a->model.n_inputs,
                                       kd_sequence_default_cache(), &a->sequences, err));
        *producer = kd_sequence_producer(a->sequences);
        return KD_OK;
    }
    KD_TRY(kd_clip_source_open(o->cfg, &a->data.half[o->half], KD_CLIP_TEST, kd_clip_default_cache(), &a->clips, err));
    *producer = kd_clip_producer(a->clips);
    return KD_OK;
}

kd_status kd_assess(const kd_assess_opts *o, kd_assess_result *result, kd_err *err)
{
    assessment a = {0};
    kd_load_report load;
    kd_producer producer;
    rows r = {0};
    kd_status st = KD_OK;
    int64_t macs = 0;
    kd_assess_facts facts = {
        .label = o->label, .command = o->command, .weights_hash = load.sha256, .views = result->views};
    memset(result, 0, sizeof *result);
    KD_GO(assess_open(o, &a, &load, &producer, err));
    (void)snprintf(result->views, sizeof result->views, "%dx%d", a.model.is_student ? 1 : o->cfg->eval.clips,
                   a.model.is_student ? 1 : o->cfg->eval.crops);
    const kd_eval_opts eo = {.producer = &producer,
                             .batch_size = o->cfg->eval.batch_size,
                             .workers = kd_loader_workers(o->cfg->train.workers),
                             .on_bad = o->cfg->data.on_bad_sample,
                             .progress = o->progress,
                             .phase = "evaluate"};
    KD_GO(kd_eval_fill(&a.model, a.program, &eo, o->cfg->eval.merge, &a.table, err));
    KD_GO(rows_make(&a.data.half[o->half], &a.table, &r, err));
    const kd_scores scores = {r.logits, r.label, r.n, a.table.classes};
    KD_GO(kd_metrics_compute(&scores, 1.0, o->cfg->report.ece_bins, &a.metrics, err));
    KD_GO(kd_assess_latency(&a.model, &facts.latency_ms, &facts.latency_p90_ms, &macs, err));
    if (o->out != NULL) {
        KD_GO(kd_assess_write(o->cfg, &a.data, o->half, &a.model, &a.table, macs, &facts, o->out, err));
    }
    result->top1 = a.metrics.top1;
    result->top5 = a.metrics.top5;
    result->mean_class_accuracy = a.metrics.mean_class_accuracy;
    result->nll = a.metrics.nll;
    result->ece = a.metrics.ece;
    result->listed = a.table.counts.listed;
    result->done = a.table.counts.done;
    result->failed = a.table.counts.failed;
    result->latency_ms = facts.latency_ms;
done:
    rows_free(&r);
    assessment_close(&a);
    return st;
}
