/* Training, what a run came from: written at its start, compared when it is resumed. */
#include "distill/run/samples.h"
#include "distill/train/train_internal.h"
#include "formats/base/io.h"

#include <stdio.h>

/* ---- the run before -------------------------------------------------------------------------- */

kd_status kdi_train_open_before(kd_trainer *t, kd_err *err)
{
    bool begun = false;
    char *last = NULL;
    if (t->o->out_dir == NULL) {
        return KD_OK; /* a dry run without --out */
    }
    if (t->run != NULL) {
        begun = kd_run_begun(t->run);
    } else if (!t->o->force) {
        KD_TRY(kd_run_check(t->o->out_dir, t->o->resume, &begun, err));
    }
    if (!begun) {
        return KD_OK;
    }
    last = kd_strf("%s/checkpoints/last", t->o->out_dir);
    const kd_status st =
        last != NULL ? kd_ckpt_open_last(last, &t->before, err) : KD_FAIL(err, KD_E_OOM, "resume: out of memory");
    kd_free(last);
    return st == KD_OK ? kd_run_same_recipe(t->o->out_dir, kd_ckpt_state(t->before), t->cfg, err) : st;
}

kd_status kdi_train_same_origin(kd_trainer *t, kd_err *err)
{
    kd_identity then;
    char diff[400], which[300];
    if (t->before == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_identity_get(kd_ckpt_state(t->before), &then, err));
    if (!kd_identity_differs(&then, &t->origin, diff, sizeof diff)) {
        return KD_OK;
    }
    char *path = kd_strf("%s/samples.tsv", t->o->out_dir);
    which[0] = '\0';
    if (path != NULL) {
        kd_samples_differ(path, &t->data, t->o->task->need, which, sizeof which);
    }
    kd_free(path);
    return KD_FAIL(err, KD_E_DATA, "%s: --resume expects what the run began with: %s%s%s", t->o->out_dir, diff,
                   which[0] != '\0' ? "; " : "", which);
}

/* ---- weights --------------------------------------------------------------------------------- */

static const char *start_key(const kd_trainer *t)
{
    return t->o->task->start_key_of != NULL ? t->o->task->start_key_of(t->cfg) : "";
}

/* The start of a run that is resumed lies behind it; other weights than its own are refused, not ignored. */
static kd_status resumed_start(kd_trainer *t, const char *path, kd_err *err)
{
    kd_identity then;
    kd_weights *w = NULL;
    char hash[KD_SHA256_HEX] = "";
    KD_TRY(kd_identity_get(kd_ckpt_state(t->before), &then, err));
    memcpy(t->origin.weights, then.weights, sizeof then.weights);
    if (path[0] == '\0') {
        return KD_OK;
    }
    if (then.weights[0] == '\0') {
        return KD_FAIL(err, KD_E_CONFIG, "%s: the run began with random weights; leave --weights %s out to resume it",
                       t->o->out_dir, path);
    }
    bool there = false;
    KD_TRY(kd_io_exists(path, &there, err));
    if (!there) {
        kd_log(KD_LOG_INFO, "weights %s: not there and not needed, the run goes on from its checkpoint", path);
        return KD_OK;
    }
    KD_TRY(kd_weights_open_key(path, start_key(t), t->o->task->names, &w, err));
    kd_status st = kd_weights_sha256(w, hash, err);
    kd_weights_close(w);
    if (st == KD_OK && strcmp(hash, then.weights) != 0) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s: the run began with weights of sha256 %.12s, %s has %.12s", t->o->out_dir,
                     then.weights, path, hash);
    }
    return st;
}

/* A phase goes on from the phase before: its best weights or its last ones.  A dry run has none. */
static kd_status phase_start(kd_trainer *t, kd_err *err)
{
    const bool last = t->o->cfg->phases.v[t->s.phase].start == KD_START_LAST;
    char *path = kd_strf("%s/checkpoints/%s", t->o->out_dir, last ? "last" : "best");
    kd_load_report r = {0};
    if (path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    kd_status st = KD_OK;
    if (!t->o->dry_run) {
        st = kd_model_load(&t->model, path, "", false, t->data.classes, &r, err);
        kd_load_report_free(&r);
        kd_log(KD_LOG_INFO, "weights: %s of the phase before", last ? "the last ones" : "the best ones");
    }
    kd_free(path);
    return st;
}

/* A head of Kinetics-710 begins afresh for Kinetics-400, unless the recipe takes its rows. */
static void hint_of_rows(const kd_trainer *t)
{
    const int classes = t->model.classes;
    if (t->o->task->head_key != NULL && t->model.head_row == NULL && t->start.file_classes == 710 &&
        (classes == 400 || classes == 600 || classes == 700)) {
        kd_log(KD_LOG_INFO, "%s: k%d takes the rows of a head of Kinetics-710 instead of a fresh one",
               t->o->task->head_key, classes);
    }
}

kd_status kdi_train_start_weights(kd_trainer *t, kd_err *err)
{
    const char *path = t->o->task->start(t->cfg);
    if (t->before != NULL) {
        return resumed_start(t, path, err);
    }
    if (t->s.phase > 0) {
        return phase_start(t, err);
    }
    if (path[0] == '\0' && start_key(t)[0] != '\0') {
        return KD_FAIL(err, KD_E_CONFIG, "teacher.weights_key: %s, but the run starts from no weights; remove it",
                       start_key(t));
    }
    if (path[0] == '\0') {
        kd_log(KD_LOG_INFO, "weights: random start, seed %lld", (long long)kd_config_init_seed(t->cfg));
        return KD_OK;
    }
    kd_load_report *r = &t->start;
    KD_TRY(kd_model_load(&t->model, path, start_key(t), true, t->data.classes, r, err));
    memcpy(t->origin.weights, r->sha256, sizeof t->origin.weights);
    const int fresh = kd_params_count(t->model.params) - r->matched;
    kd_log(KD_LOG_INFO,
           "weights %s: %d tensors matched (%.1f %% of the backbone), %d left fresh%s%s, %d reshaped, %d "
           "unused%s%s; sha256 %.12s",
           path, r->matched, 100.0 * r->share, fresh, r->fresh_names[0] != '\0' ? ": " : "", r->fresh_names,
           r->reshaped, r->unexpected, r->unexpected_names[0] != '\0' ? ": " : "", r->unexpected_names, r->sha256);
    hint_of_rows(t);
    return KD_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

kd_json *kdi_train_record(const kd_trainer *t, const char *type)
{
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", type);
    if (kdi_train_phase(t) != NULL) {
        kd_json_set_str(rec, "phase", kdi_train_phase(t));
    }
    return rec;
}

static kd_status log_half(kd_trainer *t, kd_half_id which, kd_err *err)
{
    const kd_half *half = &t->data.half[which];
    kd_json *rec = kdi_train_record(t, "data");
    kd_json_set_str(rec, "half", which == KD_HALF_TRAIN ? "train" : "val");
    kd_json_set_i64(rec, "listed", (int64_t)(half->n + half->n_left));
    kd_json_set_i64(rec, "used", (int64_t)half->n);
    if (half->counts.unlabelled > 0) {
        kd_json_set_i64(rec, "unlabelled", (int64_t)half->counts.unlabelled);
    }
    if (t->origin.half[which].pseudo > 0) {
        kd_json_set_i64(rec, "pseudo_labelled", t->origin.half[which].pseudo);
    }
    kd_json *left = kd_json_set_array(rec, "left_out");
    for (size_t i = 0; i < half->n_left; i++) {
        const kd_left_out *l = &half->left[i];
        kd_json *one = kd_json_push_object(left);
        kd_json_set_str(one, "id", l->id);
        kd_json_set_str(one, "why", kd_fate_text(l->why));
        if (l->file != NULL) {
            kd_json_set_str(one, "file", l->file);
        }
    }
    return kd_run_log(t->run, rec, err);
}

static kd_status log_start(kd_trainer *t, kd_err *err)
{
    const kd_load_report *r = &t->start;
    if (r->keys == NULL) {
        return KD_OK;
    }
    kd_json *rec = kd_json_object();
    kd_json_set_str(rec, "type", "weights");
    kd_json_set_str(rec, "path", t->o->task->start(t->cfg));
    kd_json_set_str(rec, "sha256", r->sha256);
    kd_json_set_i64(rec, "matched", r->matched);
    kd_json_set_f64(rec, "share", r->share);
    for (size_t i = 0; i < kd_json_count(r->keys); i++) {
        const kd_json *names = kd_json_at(r->keys, i);
        kd_json_set_copy(rec, kd_json_key(names), names);
    }
    return kd_run_log(t->run, rec, err);
}

kd_status kdi_train_log_data(kd_trainer *t, kd_err *err)
{
    KD_TRY(log_start(t, err));
    KD_TRY(log_half(t, KD_HALF_TRAIN, err));
    return log_half(t, KD_HALF_VAL, err);
}

kd_status kdi_train_log_phase(kd_trainer *t, kd_err *err)
{
    if (kdi_train_phase(t) == NULL) {
        return KD_OK;
    }
    kd_json *rec = kdi_train_record(t, "phase");
    kd_json_set_i64(rec, "number", t->s.phase + 1);
    kd_json_set_i64(rec, "of", t->o->cfg->phases.n);
    kd_json_set_i64(rec, "epoch", t->s.epoch0);
    kd_json_set_i64(rec, "epochs", t->cfg->train.epochs);
    return kd_run_log(t->run, rec, err);
}
