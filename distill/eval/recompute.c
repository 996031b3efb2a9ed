/* A model once more over some records of its store.  See recompute.h. */
#include "distill/eval/recompute.h"

#include "distill/eval/evaluate.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct recompute {
    const kd_recompute_opts *o;
    kd_recompute_result *r;
    kd_dataset data;
    kd_model model;
    kd_program *program;
    kd_store_cursor *cursor;
    double rounding; /* allowed, in units of the largest logit */
    /* the half at hand */
    const kd_half *half;
    uint32_t *index; /* [n] samples of it that are computed again */
    size_t n;
    kd_producer all; /* of the whole half */
} recompute;

static void recompute_close(recompute *c)
{
    kd_store_cursor_free(c->cursor);
    kd_program_free(c->program);
    kd_model_close(&c->model);
    kd_dataset_free(&c->data);
    kd_free(c->index);
}

/* ---- what must agree before a number is compared --------------------------------------------- */

static kd_status same(const kd_store *s, const char *what, const char *then, const char *now, kd_err *err)
{
    if (strcmp(then, now) == 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%s: it was made with the %s '%.120s', found '%.120s'", kd_store_path(s), what, then,
                   now);
}

static kd_status check_data(const recompute *c, kd_err *err)
{
    const kd_store *s = c->o->store;
    const kd_store_manifest *m = kd_store_get_manifest(s);
    char hex[KD_SHA256_HEX];
    KD_TRY(same(s, "split", m->split, c->data.split, err));
    KD_TRY(kd_half_list_digest(&c->data.half[KD_HALF_TRAIN], hex, err));
    KD_TRY(same(s, "list of training samples", m->train_ids, hex, err));
    KD_TRY(kd_half_list_digest(&c->data.half[KD_HALF_VAL], hex, err));
    KD_TRY(same(s, "list of validation samples", m->val_ids, hex, err));
    if (m->n_classes != c->data.n_classes) {
        return KD_FAIL(err, KD_E_DATA, "%s: %d classes, the data set has %d", kd_store_path(s), m->n_classes,
                       c->data.n_classes);
    }
    for (int k = 0; k < m->n_classes; k++) {
        KD_TRY(same(s, "class", m->classes[k], c->data.classes[k], err));
    }
    return KD_OK;
}

/* The videos are those of the same pack, or of none. */
static kd_status check_pack(const kd_store *s, const char *stored, const char *here, kd_err *err)
{
    const char *then = strstr(stored, "; pack "), *now = strstr(here, "; pack ");
    if (then == NULL ? now == NULL : now != NULL && strcmp(then, now) == 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA,
                   "%s: it was made with the videos of %.17s, this run reads those of %.17s: data.video_dir says which",
                   kd_store_path(s), then != NULL ? then + 2 : "the data set", now != NULL ? now + 2 : "the data set");
}

static kd_status check_model(const recompute *c, const kd_load_report *load, kd_err *err)
{
    const kd_store *s = c->o->store;
    const kd_store_manifest *m = kd_store_get_manifest(s);
    char hash[KD_CFG_HASH], protocol[24];
    KD_TRY(same(s, "model", m->teacher, c->model.name, err));
    KD_TRY(same(s, "weights of SHA-256", m->teacher_sha256, load->sha256, err));
    (void)c->o->task->views(c->o->cfg, protocol);
    KD_TRY(same(s, "views", m->views, protocol, err));
    KD_TRY(kd_identity_recipe(load->has_origin ? &load->origin : NULL, c->o->cfg, hash, err));
    if (strcmp(hash, m->config_hash) != 0) {
        kd_log(KD_LOG_WARN, "%s: made with another recipe (hash %.12s, this one has %.12s)", kd_store_path(s),
               m->config_hash, hash);
    }
    char own[KD_IDENTITY_DECODER];
    const char *decoder = c->o->task->decoder != NULL ? c->o->task->decoder() : NULL;
    decoder = kd_identity_decoder(decoder, &c->data, own);
    decoder = decoder != NULL ? decoder : "";
    KD_TRY(check_pack(s, m->decoder, decoder, err));
    if (strcmp(decoder, m->decoder) != 0) {
        kd_log(KD_LOG_WARN, "%s: decoded by %s, here by %s", kd_store_path(s), m->decoder, decoder);
    }
    return KD_OK;
}

static kd_status recompute_open(recompute *c, kd_err *err)
{
    const kd_recompute_opts *o = c->o;
    const kd_store_manifest *m = kd_store_get_manifest(o->store);
    kd_load_report load = {0};
    if (m->teacher_sha256[0] == '\0') {
        return KD_FAIL(err, KD_E_DATA, "%s: it names no weights%s: nothing can be computed again",
                       kd_store_path(o->store), m->source_sha256[0] != '\0' ? " (imported)" : "");
    }
    if (m->replay_rows[0] != '\0') {
        return KD_FAIL(err, KD_E_DATA, "%s: its views are rows of training, which are not computed again; dump it anew",
                       kd_store_path(o->store));
    }
    KD_TRY(kd_dataset_open(&o->cfg->data, o->task->need, 0, &c->data, err));
    KD_TRY(check_data(c, err));
    KD_TRY(kd_model_open(o->task, o->cfg, c->data.n_classes, o->be, &c->model, err));
    KD_TRY(kd_model_declare(&c->model, NULL, err));
    KD_TRY(kd_model_load(&c->model, o->weights, "", false, c->data.classes, &load, err));
    const kd_status st = check_model(c, &load, err);
    kd_load_report_free(&load);
    KD_TRY(st);
    KD_TRY(kd_model_eval_program(&c->model, o->cfg->eval.batch_size, &c->program, err));
    const double stored = m->logit_dtype == KD_F16 ? 0x1p-11 : 0x1p-24;
    const double run = c->model.dtype == KD_BF16 ? 0x1p-6 : c->model.dtype == KD_F16 ? 0x1p-9 : 1e-4;
    c->rounding = stored + run;
    return kd_store_cursor_new(o->store, &c->cursor, err);
}

/* ---- some samples of a half ------------------------------------------------------------------ */

static kd_status some_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    const recompute *c = ctx;
    const kd_item of_half = {.sample = c->index[item->sample], .view = item->view, .epoch = item->epoch};
    return c->all.fill(c->all.ctx, &of_half, scratch, dst, err);
}

static kd_status some_scratch(void *ctx, void **scratch, kd_err *err)
{
    const recompute *c = ctx;
    return c->all.scratch_new(c->all.ctx, scratch, err);
}

static void some_scratch_free(void *ctx, void *scratch)
{
    const recompute *c = ctx;
    c->all.scratch_free(c->all.ctx, scratch);
}

static void some_label(void *ctx, const kd_item *item, int32_t *dst)
{
    const recompute *c = ctx;
    const kd_item of_half = {.sample = c->index[item->sample], .view = item->view, .epoch = item->epoch};
    c->all.label(c->all.ctx, &of_half, dst);
}

static const char *some_id(void *ctx, uint32_t sample)
{
    const recompute *c = ctx;
    return c->all.id(c->all.ctx, c->index[sample]);
}

/* The producer of c->index's samples. */
static kd_producer some_of(recompute *c)
{
    kd_producer p = c->all;
    p.ctx = c;
    p.samples = c->n;
    p.fill = some_fill;
    p.scratch_new = p.scratch_new != NULL ? some_scratch : NULL;
    p.scratch_free = p.scratch_free != NULL ? some_scratch_free : NULL;
    p.label = some_label;
    p.id = some_id;
    return p;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void KD_PRINTF(2, 3) tell(recompute *c, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    c->r->differing++;
    c->o->differs(c->o->user, line);
}

static kd_status compare(void *user, uint32_t sample, int views, const float *const *out, kd_err *err)
{
    recompute *c = user;
    kd_store_record rec;
    const char *id = c->half->sample[c->index[sample]].id;
    const size_t k = (size_t)c->model.classes;
    double top = 0.0, most = 0.0;
    size_t at = 0;
    KD_TRY(kd_store_read_id(c->cursor, id, &rec, err));
    if (rec.n_views != views) {
        tell(c, "%s: %d views, computed again %d", id, rec.n_views, views);
        return KD_OK;
    }
    for (size_t i = 0; i < (size_t)views * k; i++) {
        const double d = fabs((double)rec.logits[i] - (double)out[0][i]);
        top = KD_MAX(top, fabs((double)out[0][i]));
        at = d > most ? i : at;
        most = KD_MAX(most, d);
    }
    const double allowed = c->rounding * KD_MAX(top, 0x1p-14);
    c->r->worst = KD_MAX(c->r->worst, most / allowed);
    if (!(most <= allowed)) {
        tell(c, "%s: view %zu: logit of class %zu is %.6g, computed again %.6g; %.3g apart, %.3g allowed", id, at / k,
             at % k, (double)rec.logits[at], (double)out[0][at], most, allowed);
    }
    return KD_OK;
}

static void unreadable(void *user, uint32_t sample, const char *message)
{
    recompute *c = user;
    (void)sample;
    tell(c, "%s", message);
}

static kd_status compare_half(recompute *c, kd_err *err)
{
    const kd_config *cfg = c->o->cfg;
    const kd_eval_sink sink = {.user = c, .emit = compare, .failure = unreadable};
    kd_source source;
    kd_eval_counts counts;
    if (c->n == 0) {
        return KD_OK;
    }
    KD_TRY(c->o->task->source(cfg, &c->model, c->half, KD_PASS_TEST, false, &source, err));
    c->all = source.producer;
    const kd_producer some = some_of(c);
    const kd_eval_opts eo = {.producer = &some,
                             .batch_size = cfg->eval.batch_size,
                             .workers = kd_loader_workers(cfg->train.workers),
                             .on_bad = KD_BAD_SKIP, /* each is told as a record that cannot be computed again */
                             .progress = c->o->progress,
                             .phase = "recompute"};
    const kd_status st = kd_eval_run(&c->model, c->program, &eo, &sink, &counts, err);
    source.close(source.ctx);
    return st;
}

/* The chosen records that are samples of this half; `known` marks them. */
static kd_status choose(recompute *c, kd_half_id h, uint8_t *known, kd_err *err)
{
    const int64_t all = kd_store_count(c->o->store), count = c->o->count;
    c->half = &c->data.half[h];
    c->n = 0;
    for (int64_t j = 0; j < count; j++) {
        kd_store_record rec;
        const int64_t record = (int64_t)(((double)j + 0.5) * (double)all / (double)count);
        KD_TRY(kd_store_read(c->cursor, KD_MIN(record, all - 1), &rec, err));
        const int64_t at = kd_half_find(c->half, rec.id);
        if (at >= 0) {
            c->index[c->n++] = (uint32_t)at;
            known[j] = 1;
        } else if (h == KD_HALF_VAL && known[j] == 0) {
            tell(c, "%s: no sample of the data set that can be read", rec.id);
        }
    }
    return KD_OK;
}

kd_status kd_recompute(const kd_recompute_opts *o, kd_recompute_result *result, kd_err *err)
{
    recompute c = {.o = o, .r = result};
    uint8_t *known = kd_calloc((size_t)o->count, 1);
    kd_status st = KD_OK;
    *result = (kd_recompute_result){.records = (size_t)o->count};
    c.index = kd_calloc((size_t)o->count, sizeof *c.index);
    if (c.index == NULL || known == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "recompute: out of memory");
        goto done;
    }
    KD_GO(recompute_open(&c, err));
    for (int h = 0; h < KD_HALVES; h++) {
        KD_GO(choose(&c, (kd_half_id)h, known, err));
        KD_GO(compare_half(&c, err));
    }
    if (result->differing > 0) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "%s: %zu of %zu records are not what the weights give",
                     kd_store_path(o->store), result->differing, result->records);
    }
done:
    kd_free(known);
    recompute_close(&c);
    return st;
}
