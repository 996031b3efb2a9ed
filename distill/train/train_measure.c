/* Training, what is measured: the validation half, and the report of the last weights. */
#include "distill/eval/assess.h"
#include "distill/train/train_internal.h"
#include "formats/base/io.h"

#include <stdio.h>

static bool averaged(const kd_trainer *t)
{
    return t->cfg->train.eval_ema && t->cfg->optim.ema_decay > 0.0;
}

/* ---- validation ------------------------------------------------------------------------------ */

/* A validation has no line of its own (the epoch's is still open), but the user may stop it. */
static kd_progress stop_only(const kd_progress *p)
{
    return p != NULL ? (kd_progress){.user = p->user, .stop = p->stop} : (kd_progress){.user = NULL};
}

kd_status kdi_train_validate(kd_trainer *t, kd_records *records, kd_figures *figures, kd_err *err)
{
    const kd_config *c = t->cfg;
    const kd_progress progress = stop_only(t->o->progress);
    const kd_eval_opts eo = {.producer = &t->val.producer,
                             .batch_size = c->eval.batch_size,
                             .workers = kd_loader_workers(c->train.workers),
                             .on_bad = c->data.on_bad_sample,
                             .progress = &progress,
                             .quiet = t->failed_named};
    if (averaged(t)) {
        KD_TRY(kd_optim_swap_ema(t->optim));
    }
    kdi_train_rest(t);
    kd_status st = kd_eval_fill(&t->model, t->eval_program, c, &eo, records, err);
    kdi_train_rest_validation(t);
    t->failed_named = true;
    if (st == KD_OK) {
        st = t->o->task->measure(&t->model, c, records, figures, err);
    }
    if (averaged(t) && kd_optim_swap_ema(t->optim) != KD_OK && st == KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "exchange of the averaged weights failed");
    }
    return st;
}

kd_status kdi_train_log_validation(kd_trainer *t, const kd_records *records, const kd_figures *f, kd_err *err)
{
    char tag[64];
    kd_json *rec = kdi_train_record(t, "val");
    kd_json_set_i64(rec, "epoch", t->s.epoch);
    kd_json_set_i64(rec, "step", t->s.step);
    kd_json_set_i64(rec, "samples", (int64_t)records->n);
    kd_json_set_i64(rec, "failed", (int64_t)records->n_failed);
    kd_json *ids = records->n_failed > 0 ? kd_json_set_array(rec, "failed_ids") : NULL;
    for (size_t i = 0; i < records->n_failed; i++) {
        kd_json_push_str(ids, t->data.half[KD_HALF_VAL].sample[records->failed[i]].id);
    }
    for (int i = 0; i < f->n; i++) {
        kd_json_set_f64(rec, f->figure[i].name, f->figure[i].value);
        (void)snprintf(tag, sizeof tag, "val/%s", f->figure[i].name);
        kd_run_scalar(t->run, tag, t->s.step, f->figure[i].value);
    }
    kd_log(KD_LOG_VERBOSE, "epoch %lld: %zu samples measured, %zu failed; %s %.6g", (long long)t->s.epoch + 1,
           records->n, records->n_failed, f->figure[0].text, f->figure[0].value);
    if (f->confusion != NULL) {
        kd_run_confusion(t->run, "val/confusion", t->s.step, f->confusion, f->classes,
                         (const char *const *)t->data.classes);
    }
    return kd_run_log(t->run, rec, err);
}

/* ---- the report ------------------------------------------------------------------------------ */

/* SHA-256 of the checkpoint that holds the measured weights; "" where none does (averaged weights are kept only as the
 * best ones). */
static kd_status hash_measured(kd_trainer *t, char hash[KD_SHA256_HEX], kd_err *err)
{
    hash[0] = '\0';
    if (averaged(t) && t->s.best_epoch + 1 != t->s.epoch) {
        return KD_OK;
    }
    const char *name = averaged(t)                      ? "checkpoints/best/model.safetensors"
                       : t->cfg->train.average_last > 0 ? "checkpoints/average/model.safetensors"
                                                        : "checkpoints/last/model.safetensors";
    return kd_sha256_file(kd_run_path(t->run, name), hash, err);
}

kd_status kdi_train_report(kd_trainer *t, const kd_records *records, const kd_figures *figures, kd_err *err)
{
    char hash[KD_SHA256_HEX];
    KD_TRY(hash_measured(t, hash, err));
    kd_assessment found = {.cfg = t->cfg,
                           .data = &t->data,
                           .half = KD_HALF_VAL,
                           .model = &t->model,
                           .records = records,
                           .figures = figures,
                           .facts = {.command = t->o->command,
                                     .origin = &t->origin,
                                     .weights_hash = hash[0] != '\0' ? hash : NULL,
                                     .phase = kdi_train_phase(t),
                                     .views = "1x1"}};
    KD_TRY(kd_assess_latency(&t->model, NULL, &found.facts, err));
    return t->o->task->report(&found, kd_run_path(t->run, "report.json"), err);
}

/* Does report.json speak of the run's last weights?  A kill between the checkpoint and the report leaves an old one. */
static kd_status is_reported(kd_trainer *t, bool *yes, kd_err *err)
{
    char hash[KD_SHA256_HEX];
    const char *reported = NULL;
    kd_json *doc = NULL;
    *yes = false;
    KD_TRY(hash_measured(t, hash, err));
    if (!kd_path_is_file(kd_run_path(t->run, "report.json"))) {
        return KD_OK;
    }
    KD_TRY(kd_json_load(kd_run_path(t->run, "report.json"), &doc, err));
    const kd_json *hashes = kd_json_get(doc, "hashes");
    *yes = hash[0] == '\0' ||
           (kd_json_get_str(hashes, "weights", &reported, NULL) == KD_OK && strcmp(reported, hash) == 0);
    kd_json_free(doc);
    return KD_OK;
}

kd_status kdi_train_report_late(kd_trainer *t, kd_err *err)
{
    kd_records records = {.n = 0};
    kd_figures figures = {.n = 0};
    bool reported = false;
    kd_status st = KD_OK;
    KD_GO(is_reported(t, &reported, err));
    if (!reported) {
        KD_GO(kdi_train_validate(t, &records, &figures, err));
        KD_GO(kdi_train_report(t, &records, &figures, err));
    }
done:
    kd_figures_free(&figures);
    kd_records_free(&records);
    return st;
}
