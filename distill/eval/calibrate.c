/* A fitted temperature: see calibrate.h. */
#include "distill/eval/calibrate.h"

#include "distill/report/report.h"
#include "formats/base/io.h"

#include <math.h>
#include <stdlib.h>

static kd_status same_weights(const kd_report *r, const kd_task *task, const char *weights, kd_err *err)
{
    kd_weights *w = NULL;
    char hash[KD_SHA256_HEX] = "";
    KD_TRY(kd_weights_open(weights, task->names, &w, err));
    const kd_status st = kd_weights_sha256(w, hash, err);
    kd_weights_close(w);
    if (st != KD_OK) {
        return st;
    }
    if (r->weights_hash == NULL || strcmp(r->weights_hash, hash) != 0) {
        return KD_FAIL(
            err, KD_E_INTEGRITY,
            "--calibrate %s: expected a report of the weights %s (%.12s), found one of %.12s: evaluate these "
            "weights on the samples to fit on",
            r->path, weights, hash, r->weights_hash != NULL ? r->weights_hash : "unknown ones");
    }
    return KD_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Samples of the half that the report has. */
static kd_status count_shared(const kd_report *r, const kd_task *task, const kd_config *cfg, kd_half_id half,
                              size_t *shared, kd_err *err)
{
    kd_dataset ds;
    const char **id = kd_calloc(r->n, sizeof *id);
    kd_status st = id != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "calibrate: out of memory");
    *shared = 0;
    memset(&ds, 0, sizeof ds);
    KD_GO(st);
    memcpy((void *)id, (const void *)r->ids, r->n * sizeof *id);
    qsort((void *)id, r->n, sizeof *id, by_id);
    KD_GO(kd_dataset_open(&cfg->data, task->need, 1u << half, &ds, err));
    for (size_t i = 0; i < ds.half[half].n; i++) {
        const char *key = ds.half[half].sample[i].id;
        *shared += bsearch((const void *)&key, (const void *)id, r->n, sizeof *id, by_id) != NULL;
    }
done:
    kd_dataset_free(&ds);
    kd_free((void *)id);
    return st;
}

/* What the report's logits were divided by. */
static kd_status divided_by(const kd_report *r, double *temperature, kd_err *err)
{
    *temperature = 1.0;
    if (r->config == NULL) {
        return KD_OK;
    }
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_status st = cfg != NULL ? kd_config_parse(r->config, strlen(r->config), r->path, NULL, 0, cfg, err)
                               : KD_FAIL(err, KD_E_OOM, "calibrate: out of memory");
    *temperature = st == KD_OK ? cfg->eval.temperature : 1.0;
    kd_free(cfg);
    return st;
}

static kd_status fit(const kd_report *r, kd_calibration *c, kd_err *err)
{
    const kd_scores s = {r->logits, r->labels, r->n, r->classes};
    double found = 1.0, before = 1.0;
    KD_TRY(divided_by(r, &before, err));
    KD_TRY(kd_temperature_fit(&s, &found, err));
    c->temperature = fmin(fmax(before * found, KD_CFG_TEMPERATURE_LEAST), KD_CFG_TEMPERATURE_MOST);
    c->n = r->n;
    for (int i = 0; i < 2; i++) { /* the report's logits times `before` are the model's */
        kd_metrics m;
        KD_TRY(kd_metrics_compute(&s, (i == 0 ? 1.0 : c->temperature) / before, KD_ECE_BINS, &m, err));
        c->nll[i] = m.nll;
        c->ece[i] = m.ece;
        kd_metrics_free(&m);
    }
    return KD_OK;
}

kd_status kd_calibrate(const char *from, const kd_task *task, const kd_config *cfg, const char *weights,
                       kd_half_id half, bool same_samples, kd_calibration *out, kd_err *err)
{
    char *end = NULL;
    kd_report r;
    kd_status st = KD_OK;
    *out = (kd_calibration){.temperature = 1.0};
    if (!kd_path_exists(from)) {
        out->temperature = strtod(from, &end);
        if (end == from || *end != '\0' ||
            !(out->temperature >= KD_CFG_TEMPERATURE_LEAST && out->temperature <= KD_CFG_TEMPERATURE_MOST)) {
            return KD_FAIL(err, KD_E_ARG, "--calibrate %s: expected a report or a temperature from 0.05 to 20", from);
        }
        return KD_OK;
    }
    KD_TRY(kd_report_read(from, &r, err));
    KD_GO(same_weights(&r, task, weights, err));
    KD_GO(count_shared(&r, task, cfg, half, &out->shared, err));
    if (out->shared > 0 && !same_samples) {
        st = KD_FAIL(err, KD_E_DATA,
                     "--calibrate %s: expected other samples than those that are judged, found %zu of them; fit on a "
                     "report of the other half (--split), or give --same-samples",
                     from, out->shared);
        goto done;
    }
    st = fit(&r, out, err);
done:
    kd_report_free(&r);
    return st;
}

kd_status kd_calibration_keep(const char *weights, const kd_task *task, double temperature, char **where, kd_err *err)
{
    kd_weights *w = NULL;
    char *dir = NULL, *state = NULL, *yaml = NULL;
    char *set = kd_strf("eval.temperature=%.17g", temperature);
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    *where = NULL;
    kd_status st = kd_weights_open(weights, task->names, &w, err);
    KD_GO(st);
    dir = kd_path_dir(kd_weights_file(w));
    state = dir != NULL ? kd_path_join(dir, "state.json") : NULL;
    if (state == NULL || cfg == NULL || set == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "calibrate: out of memory");
        goto done;
    }
    if (!kd_path_is_file(state)) {
        goto done; /* no checkpoint */
    }
    KD_GO(kd_config_of_weights(NULL, 0, weights, &(const char *){set}, 1, cfg, err));
    yaml = kd_config_yaml(cfg, false, false);
    *where = kd_path_join(dir, "config.yaml");
    st = yaml != NULL && *where != NULL ? kd_io_write_file(*where, yaml, strlen(yaml), err)
                                        : KD_FAIL(err, KD_E_OOM, "calibrate: out of memory");
done:
    kd_weights_close(w);
    kd_free(set);
    kd_free(cfg);
    kd_free(dir);
    kd_free(state);
    kd_free(yaml);
    return st;
}
