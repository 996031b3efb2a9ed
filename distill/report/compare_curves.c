/* Learning curves of the runs, from the logs beside their reports: see compare.h. */
#include "distill/report/compare_internal.h"
#include "formats/base/io.h"
#include "formats/base/json.h"

#include <math.h>

enum { LOG_BYTES_MAX = 256 << 20, EPOCHS_MAX = 1000000 };

static void free_curve(kd_curve *v)
{
    kd_free(v->train_loss);
    kd_free(v->val_top1);
    for (size_t i = 0; i < v->n_terms; i++) {
        kd_free(v->term[i].value);
    }
    memset(v, 0, sizeof *v);
}

void kdi_compare_curves_free(kd_comparison *c)
{
    for (size_t i = 0; c->curve != NULL && i < c->n_reports; i++) {
        free_curve(&c->curve[i]);
    }
    kd_free(c->curve);
    c->curve = NULL;
}

/* ---- one log --------------------------------------------------------------------------------- */

/* The log's epochs are counted first, then its numbers are filed. */
typedef struct log_reader {
    kd_curve *curve; /* NULL: counting */
    size_t epochs;
    double *steps; /* [epochs] logged steps of the epoch so far */
} log_reader;

static double *nans(size_t n)
{
    double *v = kd_calloc(n, sizeof *v);
    for (size_t i = 0; v != NULL && i < n; i++) {
        v[i] = (double)NAN;
    }
    return v;
}

static double *term_of(kd_curve *v, const char *name)
{
    size_t i = 0;
    while (i < v->n_terms && strcmp(v->term[i].name, name) != 0) {
        i++;
    }
    if (i == v->n_terms && i < KD_CURVE_TERMS && strlen(name) < sizeof v->term[i].name) {
        memcpy(v->term[i].name, name, strlen(name) + 1);
        v->term[i].value = nans(v->n);
        v->n_terms += v->term[i].value != NULL ? 1 : 0;
    }
    return i < v->n_terms ? v->term[i].value : NULL;
}

/* The terms of a logged step ("loss_ce", ...), into the mean of its epoch. */
static void file_step(log_reader *r, const kd_json *rec, size_t epoch)
{
    const double before = r->steps[epoch]++;
    for (size_t i = 0; i < kd_json_count(rec); i++) {
        const kd_json *member = kd_json_at(rec, i);
        const char *key = kd_json_key(member);
        double x = 0.0;
        if (strncmp(key, "loss_", 5) != 0 || strcmp(key, "loss_scale") == 0 ||
            kd_json_as_f64(member, &x, NULL) != KD_OK) {
            continue;
        }
        double *value = term_of(r->curve, key);
        if (value != NULL) {
            value[epoch] = before == 0.0 ? x : (value[epoch] * before + x) / (before + 1.0);
        }
    }
}

static kd_status file_record(log_reader *r, const kd_json *rec, kd_err *err)
{
    const char *type = "";
    int64_t epoch = 0;
    double x = 0.0;
    KD_TRY(kd_json_opt_str(rec, "type", "", &type, err));
    const bool is_epoch = strcmp(type, "epoch") == 0, is_val = strcmp(type, "val") == 0;
    if (!is_epoch && !is_val && strcmp(type, "train") != 0) {
        return KD_OK;
    }
    KD_TRY(kd_json_get_range(rec, "epoch", 0, EPOCHS_MAX, &epoch, err));
    if (r->curve == NULL) {
        r->epochs = is_epoch ? KD_MAX(r->epochs, (size_t)epoch + 1) : r->epochs;
        return KD_OK;
    }
    if ((size_t)epoch >= r->epochs) {
        return KD_OK; /* an epoch that did not end */
    }
    if (is_epoch) {
        KD_TRY(kd_json_get_f64(rec, "train_loss", &x, err));
        r->curve->train_loss[epoch] = x;
    } else if (is_val) {
        KD_TRY(kd_json_opt_f64(rec, "top1", (double)NAN, &x, err));
        r->curve->val_top1[epoch] = x;
    } else {
        file_step(r, rec, (size_t)epoch);
    }
    return KD_OK;
}

static kd_status each_record(const char *path, const char *text, size_t bytes, log_reader *r, kd_err *err)
{
    size_t line = 0;
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t length = end != NULL ? (size_t)(end - text) - at : bytes - at;
        kd_json *rec = NULL;
        kd_err own = {0};
        line++;
        kd_status st = length > 0 ? kd_json_parse(text + at, length, NULL, &rec, &own) : KD_OK;
        st = st == KD_OK && length > 0 ? file_record(r, rec, &own) : st;
        kd_json_free(rec);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "%s: line %zu: %s", path, line, own.msg);
        }
        at += length + 1;
    }
    return KD_OK;
}

static kd_status read_log(const char *path, kd_curve *v, kd_err *err)
{
    uint8_t *data = NULL;
    size_t bytes = 0;
    log_reader r = {.curve = NULL};
    kd_status st;
    KD_TRY(kd_io_read_file(path, LOG_BYTES_MAX, &data, &bytes, err));
    KD_GO(each_record(path, (const char *)data, bytes, &r, err));
    if (r.epochs == 0) {
        goto done;
    }
    v->train_loss = nans(r.epochs);
    v->val_top1 = nans(r.epochs);
    r.steps = kd_calloc(r.epochs, sizeof *r.steps);
    if (v->train_loss == NULL || v->val_top1 == NULL || r.steps == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    v->n = r.epochs;
    r.curve = v;
    st = each_record(path, (const char *)data, bytes, &r, err);
done:
    kd_free(r.steps);
    kd_free(data);
    return st;
}

/* ---- all runs -------------------------------------------------------------------------------- */

kd_status kd_compare_curves(kd_comparison *c, kd_err *err)
{
    kdi_compare_curves_free(c);
    c->curve = kd_calloc(c->n_reports, sizeof *c->curve);
    if (c->curve == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < c->n_reports; i++) {
        char *dir = c->report[i]->path != NULL ? kd_path_dir(c->report[i]->path) : NULL;
        char *path = dir != NULL ? kd_path_join(dir, "log.jsonl") : NULL;
        kd_err own = {0};
        kd_status st = KD_OK;
        if (path != NULL && kd_path_is_file(path)) {
            st = read_log(path, &c->curve[i], &own);
        }
        kd_free(dir);
        kd_free(path);
        if (st == KD_E_OOM) {
            return KD_FAIL(err, st, "%s", own.msg);
        }
        if (st != KD_OK) {
            free_curve(&c->curve[i]);
            kdi_compare_warning(c, kd_strf("%s (seed %lld): no learning curve: %s.", c->report[i]->label,
                                           (long long)c->report[i]->seed, own.msg));
        }
    }
    return KD_OK;
}
