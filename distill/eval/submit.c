/* From ids to a CSV of classes: see submit.h. */
#include "distill/eval/submit.h"

#include "distill/eval/evaluate.h"
#include "distill/eval/submit_ids.h"
#include "distill/report/text.h"

#include <math.h>

typedef struct submission {
    const kd_submit_opts *o;
    kd_weights *weights;
    const kd_json *classes; /* names of the weights; NULL: those of the recipe */
    kd_id_list ids;
    kd_model model;
    kd_program *program;
    kd_source source;
    float *record;
    double *work;
    kd_text csv;
} submission;

static void field(kd_text *t, const char *s)
{
    const char *const plain = strpbrk(s, ",\"\r\n") == NULL ? "" : "\"";
    kd_text_add(t, plain);
    for (; *s != '\0'; s++) {
        const char c[3] = {*s, *s == '"' ? '"' : '\0', '\0'};
        kd_text_add(t, c);
    }
    kd_text_add(t, plain);
}

static const char *class_name(const submission *s, int label)
{
    const char *name = NULL;
    if (s->classes == NULL) {
        return s->o->cfg->data.classes.v[label];
    }
    return kd_json_as_str(kd_json_at(s->classes, (size_t)label), &name, NULL) == KD_OK ? name : NULL;
}

static kd_status find_names(submission *s, int classes, kd_err *err)
{
    const int of_recipe = s->o->cfg->data.classes.n;
    for (int i = 0; s->classes != NULL && i < classes; i++) {
        s->classes = class_name(s, i) != NULL ? s->classes : NULL;
    }
    if (s->classes != NULL || of_recipe == classes) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA,
                   "%s: expected the names of its %d classes in the weights or in data.classes, found %d; a submission "
                   "names classes",
                   s->o->weights, classes, of_recipe);
}

static kd_status emit(void *user, uint32_t sample, int views, const float *const *out, kd_err *err)
{
    submission *s = user;
    int best = 0;
    s->o->task->gather(&s->model, s->o->cfg, out, views, s->work, s->record);
    for (int k = 1; k < s->model.classes; k++) {
        best = s->record[k] > s->record[best] ? k : best;
    }
    field(&s->csv, s->ids.half.sample[sample].id);
    kd_text_add(&s->csv, ",");
    field(&s->csv, class_name(s, best));
    kd_text_add(&s->csv, "\n");
    return s->csv.failed ? KD_FAIL(err, KD_E_OOM, "submission: out of memory") : KD_OK;
}

static void failure(void *user, uint32_t sample, const char *message)
{
    (void)user;
    (void)sample;
    kd_log(KD_LOG_WARN, "left out: %s", message);
}

static kd_status open_model(submission *s, kd_err *err)
{
    const kd_submit_opts *o = s->o;
    kd_load_report load;
    int classes = 0;
    KD_TRY(kd_model_classes(o->task, o->cfg, o->weights, &s->weights, &s->classes, &classes, err));
    KD_TRY(find_names(s, classes, err));
    KD_TRY(kd_model_open(o->task, o->cfg, classes, o->be, &s->model, err));
    KD_TRY(kd_model_declare(&s->model, NULL, err));
    KD_TRY(kd_model_load(&s->model, o->weights, "", false, NULL, &load, err));
    kd_load_report_free(&load);
    KD_TRY(kd_model_eval_program(&s->model, o->cfg->eval.batch_size, &s->program, err));
    s->record = kd_calloc((size_t)s->model.record, sizeof *s->record);
    s->work = kd_calloc(2 * (size_t)s->model.record, sizeof *s->work);
    return s->record != NULL && s->work != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "submission: out of memory");
}

kd_status kd_submit(const kd_submit_opts *o, kd_submit_result *result, kd_err *err)
{
    submission s = {.o = o};
    kd_eval_counts counts;
    const kd_eval_sink sink = {.user = &s, .emit = emit, .failure = failure};
    const kd_data_opts *data = &o->cfg->data;
    kd_status st = KD_OK;
    *result = (kd_submit_result){.listed = 0};
    KD_GO(kd_id_list_open(o->ids, data->root, data->key, data->on_bad_sample, &s.ids, err));
    KD_GO(open_model(&s, err));
    KD_GO(o->task->source(o->cfg, &s.model, &s.ids.half, KD_PASS_TEST, false, &s.source, err));
    const kd_eval_opts eo = {.producer = &s.source.producer,
                             .batch_size = o->cfg->eval.batch_size,
                             .workers = kd_loader_workers(o->cfg->train.workers),
                             .on_bad = data->on_bad_sample,
                             .progress = o->progress,
                             .phase = "predict"};
    kd_text_add(&s.csv, "id,class\n");
    KD_GO(kd_eval_run(&s.model, s.program, &eo, &sink, &counts, err));
    *result = (kd_submit_result){
        .listed = s.ids.half.n + s.ids.n_absent, .done = counts.done, .failed = counts.failed + s.ids.n_absent};
    st = kd_text_write(&s.csv, o->out, err);
done:
    if (s.source.close != NULL) {
        s.source.close(s.source.ctx);
    }
    kd_text_free(&s.csv);
    kd_free(s.record);
    kd_free(s.work);
    kd_program_free(s.program);
    kd_model_close(&s.model);
    kd_weights_close(s.weights);
    kd_id_list_free(&s.ids);
    return st;
}
