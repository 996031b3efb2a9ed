/* One label a sample: see classify.h. */
#include "distill/task/classify.h"

#include "distill/report/report.h"
#include "formats/base/merge.h"

#include <stdio.h>

void kd_classify_outputs(kd_model *m)
{
    m->n_outputs = 2;
    m->output[0] = (kd_model_output){"logits", m->classes};
    m->output[1] = (kd_model_output){"features", m->feature_dim};
}

void kd_classify_target(const kd_model *m, const kd_config *cfg, const kd_batch *b, const kd_mix *mix, float *target)
{
    kd_targets(b->label, b->valid, b->rows, m->classes, cfg->label_smoothing, mix != NULL ? mix->perm : NULL,
               mix != NULL ? mix->lam : NULL, target);
}

void kd_classify_gather(const kd_model *m, const kd_config *cfg, const float *const *out, int views, double *work,
                        float *record)
{
    kd_merge_logits(out[0], views, (size_t)m->classes, cfg->eval.merge == KD_MERGE_SCORE, work, record);
}

/* ---- figures --------------------------------------------------------------------------------- */

static void free_metrics(void *metrics)
{
    kd_metrics_free(metrics);
    kd_free(metrics);
}

/* What the model's own logits would give. */
static kd_status add_uncalibrated(const kd_scores *s, const kd_config *cfg, kd_figures *out, kd_err *err)
{
    kd_metrics raw;
    const kd_status st = kd_metrics_compute(s, 1.0 / cfg->eval.temperature, cfg->report.ece_bins, &raw, err);
    if (st != KD_OK) {
        kd_figures_free(out);
        return st;
    }
    out->figure[out->n++] = (kd_figure){"nll_uncalibrated", "NLL before calibration", raw.nll, .lower = true};
    out->figure[out->n++] = (kd_figure){"ece_uncalibrated", "ECE before calibration", raw.ece, .lower = true};
    kd_metrics_free(&raw);
    return KD_OK;
}

kd_status kd_classify_measure(const kd_model *m, const kd_config *cfg, const kd_records *r, kd_figures *out,
                              kd_err *err)
{
    const kd_scores scores = {r->record, r->label, r->n, m->classes};
    kd_metrics *k = kd_calloc(1, sizeof *k);
    *out = (kd_figures){.detail = k, .detail_free = free_metrics};
    if (k == NULL) {
        *out = (kd_figures){.n = 0};
        return KD_FAIL(err, KD_E_OOM, "metrics: out of memory");
    }
    const kd_status st = kd_metrics_compute(&scores, 1.0, cfg->report.ece_bins, k, err);
    if (st != KD_OK) {
        kd_figures_free(out);
        return st;
    }
    const kd_figure figure[] = {{"top1", "top-1", k->top1, .share = true},
                                {"top5", "top-5", k->top5, .share = true},
                                {"mean_class_accuracy", "mean class", k->mean_class_accuracy, .share = true},
                                {"macro_f1", "macro F1", k->macro_f1, .share = true},
                                {"nll", "NLL", k->nll, .lower = true},
                                {"ece", "ECE", k->ece, .lower = true}};
    memcpy(out->figure, figure, sizeof figure);
    out->n = (int)KD_COUNTOF(figure);
    out->confusion = k->confusion;
    out->classes = k->classes;
    return cfg->eval.temperature != 1.0 ? add_uncalibrated(&scores, cfg, out, err) : KD_OK;
}

/* ---- report ---------------------------------------------------------------------------------- */

/* Ids of the samples at index[0..n-1]; kd_free. */
static const char **ids_of(const kd_half *h, const uint32_t *index, size_t n)
{
    const char **ids = kd_calloc(n + 1, sizeof *ids);
    for (size_t i = 0; i < n && ids != NULL; i++) {
        ids[i] = h->sample[index[i]].id;
    }
    return ids;
}

/* Every listed sample without a record: those that were left out before, and those that could not be read. */
static kd_report_left *left_of(const kd_half *h, const kd_records *r)
{
    size_t n = 0;
    kd_report_left *left = kd_calloc(h->n_left + r->n_failed + 1, sizeof *left);
    for (size_t i = 0; i < h->n_left && left != NULL; i++) {
        left[n++] = (kd_report_left){h->left[i].id, kd_fate_text(h->left[i].why), kd_fate_is_failure(h->left[i].why)};
    }
    for (size_t i = 0; i < r->n_failed && left != NULL; i++) {
        left[n++] = (kd_report_left){h->sample[r->failed[i]].id, kd_fate_text(r->why[i]), true};
    }
    return left;
}

/* Hashes of what the weights came from. */
typedef struct hashes {
    char config[KD_CFG_HASH], store[KD_IDENTITY_ROW], teacher_weights[KD_IDENTITY_ROW];
    char decoder[KD_IDENTITY_DECODER];
    char *teachers; /* kd_identity_teachers */
} hashes;

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static kd_status put_hashes(const kd_assessment *a, hashes *h, kd_report *rep, kd_err *err)
{
    const kd_identity *o = a->facts.origin;
    KD_TRY(kd_identity_recipe(o, a->cfg, h->config, err));
    rep->config_hash = h->config;
    rep->decoder = kd_identity_decoder(rep->decoder, a->data, h->decoder);
    if (o == NULL) {
        return KD_OK;
    }
    kd_identity_stores(o, h->store, h->teacher_weights);
    rep->store_hash = or_null(h->store);
    rep->teacher_weights_hash = or_null(h->teacher_weights);
    rep->start_weights_hash = or_null(o->weights);
    rep->train_ids_hash = o->half[KD_HALF_TRAIN].ids;
    rep->val_ids_hash = o->half[KD_HALF_VAL].ids;
    h->teachers = kd_identity_teachers(o);
    if (h->teachers == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    rep->taught_by = or_null(h->teachers);
    rep->unlabelled = o->half[KD_HALF_TRAIN].unlabelled;
    rep->pseudo = o->half[KD_HALF_TRAIN].pseudo;
    return KD_OK;
}

static kd_report describe(const kd_assessment *a)
{
    const kd_config *cfg = a->cfg;
    const kd_model *m = a->model;
    const kd_report_facts *f = &a->facts;
    return (kd_report){.kind = m->task->kind,
                       .label = f->label != NULL       ? f->label
                                : cfg->name[0] != '\0' ? cfg->name
                                                       : m->name,
                       .command = f->command,
                       .seed = cfg->train.seed,
                       .dataset = a->data->name,
                       .split = a->data->split,
                       .half = a->half == KD_HALF_TRAIN ? "train" : "val",
                       .modality = m->task->modality,
                       .layout = m->layout[0] != '\0' ? m->layout : NULL,
                       .views = f->views,
                       .class_names = (const char *const *)a->data->classes,
                       .classes = a->data->n_classes,
                       .root = cfg->data.root,
                       .n_left = a->data->half[a->half].n_left + a->records->n_failed,
                       .weights_hash = f->weights_hash,
                       .decoder = m->task->decoder != NULL ? m->task->decoder() : NULL,
                       .model = m->name,
                       .phase = f->phase,
                       .selected_on = f->selected_on,
                       .parameters = kd_params_numel(m->params),
                       .macs = f->macs,
                       .bytes = kd_params_numel(m->params) * 4,
                       .latency_ms = f->latency_ms,
                       .latency_p90_ms = f->latency_p90_ms,
                       .latency_batch = 1,
                       .threads = m->be->threads,
                       .device = m->be->ops->name,
                       .dtype = f->int8.layers > 0 ? "int8" : kd_dtype_name(m->dtype),
                       .int8_layers = f->int8.layers,
                       .int8_calibrated = f->int8.calibrated,
                       .int8_top1_f32 = f->int8.figure_f32,
                       .int8_same_top1 = f->int8.same,
                       .int8_largest_difference = f->int8.largest,
                       .labels = a->records->label,
                       .logits = a->records->record,
                       .n = a->records->n,
                       .ece_bins = cfg->report.ece_bins,
                       .temperature = cfg->eval.temperature,
                       .measured = a->figures->detail};
}

kd_status kd_classify_report(const kd_assessment *a, const char *path, kd_err *err)
{
    const kd_half *h = &a->data->half[a->half];
    char merge[KD_CFG_NAME];
    hashes hash = {.config = ""};
    const char **ids = ids_of(h, a->records->sample, a->records->n);
    kd_report_left *left = left_of(h, a->records);
    char *yaml = kd_config_yaml(a->cfg, false, false);
    kd_status st = KD_OK;
    kd_report rep = describe(a);
    if (ids == NULL || left == NULL || yaml == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "report: out of memory");
        goto done;
    }
    KD_GO(put_hashes(a, &hash, &rep, err));
    rep.merge = kd_config_enum_name("eval.merge", (int)a->cfg->eval.merge, merge);
    rep.config = yaml;
    rep.ids = ids;
    rep.left = left;
    st = kd_report_write(&rep, path, err);
done:
    kd_free(ids);
    kd_free(left);
    kd_free(yaml);
    kd_free(hash.teachers);
    return st;
}
