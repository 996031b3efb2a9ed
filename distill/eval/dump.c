/* `dump-logits`: see dump.h. */
#include "distill/eval/dump.h"

#include "distill/eval/evaluate.h"
#include "distill/store/store_report.h"
#include "formats/store/logit_store.h"

#include <math.h>
#include <stdio.h>

enum { FEATURES = 1 }; /* the output of what the classifier reads (kd_classify_outputs) */

typedef struct dump {
    const kd_dump_opts *o;
    kd_dataset data;
    kd_model model;
    kd_program *program;
    kd_store_writer *writer;
    kd_source source;
    int n_views;
    char protocol[24]; /* "5x3" */
    /* the half being dumped */
    const kd_half *half;
    size_t from, to; /* its samples that this store gets */
    uint64_t order_base;
    kd_store_view *views;
    int32_t *frames; /* [views, view_frames] */
    float *feature;  /* [feature_dim], mean of the views */
    /* what is stored besides the logits */
    kd_store_tap tap[KD_STORE_TAPS];
    int output[KD_STORE_TAPS]; /* of the model, by tap */
    int n_taps, feature_dim;
    char *names;          /* owns the taps' names */
    const kd_config *cfg; /* o->cfg, or */
    kd_config *repeated;  /* with as many repeats of a training sample as are stored */
    kd_dump_result *r;
} dump;

static void close_source(dump *d)
{
    if (d->source.close != NULL) {
        d->source.close(d->source.ctx);
    }
    d->source = (kd_source){.ctx = NULL};
}

static void dump_close(dump *d)
{
    close_source(d);
    kd_program_free(d->program);
    kd_model_close(&d->model);
    kd_dataset_free(&d->data);
    kd_free(d->views);
    kd_free(d->frames);
    kd_free(d->feature);
    kd_free(d->names);
    kd_free(d->repeated);
}

/* First sample of a half that belongs to shard `k` of the store's shards, from 0. */
static size_t shard_start(const kd_dump_opts *o, const kd_half *h, int k)
{
    return o->shards > 0 ? h->n * (size_t)k / (size_t)o->shards : k > 0 ? h->n : 0;
}

/* Samples that the store gets, those that cannot be read among them. */
static size_t samples_of(const kd_dump_opts *o, const kd_dataset *ds)
{
    size_t n = 0;
    const int k = o->shards > 0 ? o->shard - 1 : 0;
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &ds->half[h];
        n += (h == KD_HALF_TRAIN ? o->train : o->val) ? shard_start(o, half, k + 1) - shard_start(o, half, k) : 0;
    }
    return n;
}

/* "taught by ..." of weights that were distilled: a chain of teachers can be read off its last store.  kd_free. */
static char *taught_by(const kd_load_report *load)
{
    char *teachers = load->has_origin ? kd_identity_teachers(&load->origin) : kd_strdup("");
    char *text = teachers == NULL || teachers[0] == '\0' ? teachers : kd_strf("taught by %s", teachers);
    if (text != teachers) {
        kd_free(teachers);
    }
    return text;
}

static kd_status open_writer(dump *d, const kd_load_report *load, const char *provenance, kd_err *err)
{
    const kd_dump_opts *o = d->o;
    char decoder[KD_IDENTITY_DECODER];
    char hash[KD_CFG_HASH] = "", merge[KD_CFG_NAME], ids[KD_HALVES][KD_SHA256_HEX], shard[24] = "", rows[KD_CFG_HASH];
    if (o->shards > 0) {
        (void)snprintf(shard, sizeof shard, "%d/%d", o->shard, o->shards);
    }
    KD_TRY(kd_identity_recipe(load->has_origin ? &load->origin : NULL, o->cfg, hash, err));
    for (int h = 0; h < KD_HALVES; h++) {
        KD_TRY(kd_half_list_digest(&d->data.half[h], ids[h], err));
    }
    const size_t total = samples_of(o, &d->data);
    kd_store_manifest m = {
        .teacher = d->model.name,
        .teacher_sha256 = load->sha256,
        .config_hash = hash,
        .data_set = d->data.name,
        .split = d->data.split,
        .train_ids = ids[KD_HALF_TRAIN],
        .val_ids = ids[KD_HALF_VAL],
        .parts = o->train && o->val ? "train,val"
                 : o->train         ? "train"
                                    : "val",
        .views = d->protocol,
        .merge = kd_config_enum_name("eval.merge", (int)o->cfg->eval.merge, merge),
        .decoder = kd_identity_decoder(o->task->decoder != NULL ? o->task->decoder() : NULL, &d->data, decoder),
        .feature = o->features,
        .classes = (const char *const *)d->data.classes,
        .n_classes = d->data.n_classes,
        .logit_dtype = o->logit_dtype,
        .feature_dim = d->feature_dim,
        .feature_dtype = KD_F16,
        .provenance = provenance,
        .expected = o->cfg->data.on_bad_sample == KD_BAD_FAIL ? (int64_t)total : 0,
        .shard = shard};
    if (d->n_taps > 1 || (d->n_taps == 1 && d->output[0] != FEATURES)) { /* one vector needs no description */
        memcpy(m.tap, d->tap, sizeof m.tap);
        m.n_taps = d->n_taps;
    }
    if (o->replay > 0) {
        KD_TRY(kd_config_rows_hash(o->cfg, rows));
        m.replay_rows = rows;
        m.replay_seed = o->cfg->train.seed;
    }
    kd_store_resume_info info;
    KD_TRY(kd_store_writer_open(o->out, &m, o->start, &d->writer, &info, err));
    if (info.records != 0) {
        kd_log(KD_LOG_INFO, "resume: %lld records are there, %llu bytes of an unfinished end dropped",
               (long long)info.records, (unsigned long long)info.dropped_bytes);
    }
    d->r->resumed = (size_t)info.records;
    return KD_OK;
}

/* Mean of the views' features, summed in f64 in view order, tap after tap. */
static void mean_feature(const dump *d, const float *const *out, int n)
{
    float *to = d->feature;
    for (int t = 0; t < d->n_taps; t++) {
        const float *views = out[d->output[t]];
        const size_t dim = (size_t)d->tap[t].rows * (size_t)d->tap[t].width;
        for (size_t i = 0; i < dim; i++) {
            double sum = 0.0;
            for (int v = 0; v < n; v++) {
                sum += (double)views[(size_t)v * dim + i];
            }
            *to++ = (float)(sum / (double)n);
        }
    }
}

static kd_status describe_views(const dump *d, uint32_t sample, int views, kd_err *err)
{
    for (int v = 0; v < views && d->source.view != NULL; v++) {
        int32_t *f = d->frames + (size_t)v * (size_t)d->source.view_frames;
        KD_TRY(d->source.view(d->source.ctx, sample, (uint32_t)v, &d->views[v], f, err));
        d->views[v].frames = f;
    }
    return KD_OK;
}

static kd_status emit(void *user, uint32_t sample, int views, const float *const *out, kd_err *err)
{
    dump *d = user;
    const kd_data_sample *s = &d->half->sample[sample];
    if (kd_store_has(d->writer, s->id)) {
        return KD_OK;
    }
    KD_TRY(describe_views(d, sample, views, err));
    mean_feature(d, out, views);
    const kd_store_record rec = {.id = s->id,
                                 .order = d->order_base + sample,
                                 .label = s->label,
                                 .n_views = views,
                                 .logits = out[0],
                                 .feature = d->n_taps > 0 ? d->feature : NULL,
                                 .views = d->views};
    return kd_store_append(d->writer, &rec, err);
}

static void failure(void *user, uint32_t sample, const char *message)
{
    (void)user;
    (void)sample;
    kd_log(KD_LOG_WARN, "left out: %s", message);
}

/* Samples left out before anything was read: of the first shard, so that all shards together account for all. */
static void account(dump *d, size_t before, const kd_eval_counts *c)
{
    const kd_half *h = d->half;
    const bool first = d->o->shards == 0 || d->o->shard == 1;
    const size_t left = first ? h->n_left : 0, unread = first ? kd_half_failures(h) : 0;
    d->r->listed += d->to - d->from + left;
    d->r->done += before + c->done;
    d->r->failed += c->failed + unread;
    d->r->excluded += left - unread;
}

static kd_status dump_half(dump *d, kd_half_id id, kd_err *err)
{
    const kd_half *h = &d->data.half[id];
    const kd_eval_sink sink = {.user = d, .emit = emit, .failure = failure};
    const int k = d->o->shards > 0 ? d->o->shard - 1 : 0;
    kd_eval_counts counts = {.listed = 0};
    d->half = h;
    d->from = shard_start(d->o, h, k);
    d->to = shard_start(d->o, h, k + 1);
    const kd_pass pass = d->o->replay > 0 ? KD_PASS_TRAIN : KD_PASS_TEST;
    KD_TRY(d->o->task->source(d->cfg, &d->model, h, pass, false, &d->source, err));
    kd_free(d->frames);
    d->frames = kd_calloc((size_t)d->n_views * (size_t)d->source.view_frames + 1, sizeof *d->frames);
    if (d->frames == NULL) {
        return KD_FAIL(err, KD_E_OOM, "dump: out of memory");
    }
    size_t first = d->from; /* records are appended in this order: what comes before the first gap is done */
    while (first < d->to && kd_store_has(d->writer, h->sample[first].id)) {
        first++;
    }
    const kd_eval_opts eo = {.producer = &d->source.producer,
                             .batch_size = d->o->cfg->eval.batch_size,
                             .workers = kd_loader_workers(d->o->cfg->train.workers),
                             .on_bad = d->o->cfg->data.on_bad_sample,
                             .progress = d->o->progress,
                             .phase = id == KD_HALF_TRAIN ? "dump train" : "dump val",
                             .first_item = (uint64_t)first * d->source.producer.views,
                             .from = d->from,
                             .to = d->to};
    const kd_status st =
        d->to > d->from ? kd_eval_run(&d->model, d->program, &eo, &sink, &counts, err) : KD_OK; /* a small half */
    close_source(d);
    d->order_base += h->n;
    account(d, first - d->from, &counts);
    return st;
}

/* What the finished store holds. */
static kd_status measure(const dump *d, kd_dump_result *result, kd_err *err)
{
    kd_store *s = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_store_open(d->o->out, &s, err));
    result->bytes = kd_store_file_bytes(s);
    if (d->o->train) {
        KD_GO(kd_store_top1(s, &d->data.half[KD_HALF_TRAIN], &result->top1_train, err));
    }
    if (d->o->val) {
        KD_GO(kd_store_top1(s, &d->data.half[KD_HALF_VAL], &result->top1_val, err));
    }
done:
    kd_store_close(s);
    return st;
}

static void forecast(const dump *d)
{
    const kd_dump_opts *o = d->o;
    const size_t n = samples_of(o, &d->data);
    const size_t views = (size_t)d->n_views, classes = (size_t)d->model.classes;
    const size_t each =
        views * classes * kd_dtype_size(o->logit_dtype) + classes * 4 + (size_t)d->feature_dim * 2 + views * 100 + 64;
    kd_log(KD_LOG_INFO, "dump: %zu samples x %zu views; about %.1f MiB before compression", n, views,
           (double)(n * each) / 1048576.0);
}

/* The feature of this name is an output of the model; rows 0: it has none of this name. */
static void open_tap(dump *d, const char *name, kd_store_tap *tap, int *output)
{
    const kd_task *task = d->o->task;
    *tap = (kd_store_tap){.name = name};
    *output = FEATURES;
    if (strcmp(name, task->feature) == 0 && d->model.feature_dim > 0) {
        tap->rows = 1;
        tap->width = d->model.feature_dim;
    } else if (task->tap != NULL && task->tap(&d->model, name, &tap->rows, &tap->width)) {
        *output = d->model.n_outputs - 1;
    }
}

/* Takes --features apart. */
static kd_status open_taps(dump *d, kd_err *err)
{
    const kd_task *task = d->o->task;
    d->names = kd_strdup(d->o->features != NULL ? d->o->features : "");
    if (d->names == NULL) {
        return KD_FAIL(err, KD_E_OOM, "dump: out of memory");
    }
    int64_t values = 0;
    for (char *name = d->names, *next = name; d->o->features != NULL && next != NULL; name = next) {
        next = strchr(name, ',');
        if (next != NULL) {
            *next++ = '\0';
        }
        kd_store_tap tap = {.rows = 0};
        bool twice = d->n_taps >= KD_STORE_TAPS;
        for (int i = 0; i < d->n_taps; i++) {
            twice = twice || strcmp(d->tap[i].name, name) == 0;
        }
        if (!twice) {
            open_tap(d, name, &tap, &d->output[d->n_taps]);
        }
        if (tap.rows == 0) {
            return KD_FAIL(err, KD_E_ARG, "--features: expected %s%s%s, each once, with commas between, got '%s'",
                           task->feature, task->taps != NULL ? ", " : "", task->taps != NULL ? task->taps : "",
                           d->o->features);
        }
        values += (int64_t)tap.rows * tap.width;
        d->tap[d->n_taps++] = tap;
    }
    if (values > KD_STORE_MAX_DIM) {
        return KD_FAIL(err, KD_E_ARG, "--features %s: %lld values a sample, a store takes %d", d->o->features,
                       (long long)values, KD_STORE_MAX_DIM);
    }
    d->feature_dim = (int)values;
    return KD_OK;
}

/* The views are rows of training. */
static kd_status open_replay(dump *d, kd_err *err)
{
    const kd_dump_opts *o = d->o;
    if (!o->task->replays || o->val || !o->train) {
        return KD_FAIL(err, KD_E_ARG, "--views train:%d: %s", o->replay,
                       o->task->replays ? "training rows are of the training half: --split train"
                                        : "this kind of model has no rows that another run could make again");
    }
    d->repeated = kd_alloc(sizeof *d->repeated);
    if (d->repeated == NULL) {
        return KD_FAIL(err, KD_E_OOM, "dump: out of memory");
    }
    *d->repeated = *o->cfg;
    d->repeated->train.num_sample = o->replay;
    d->cfg = d->repeated;
    d->n_views = o->replay;
    (void)snprintf(d->protocol, sizeof d->protocol, "train:%d", o->replay);
    return KD_OK;
}

/* Data, model, weights: everything that can be refused before anything is written. */
static kd_status dump_open(dump *d, kd_load_report *load, kd_err *err)
{
    const kd_dump_opts *o = d->o;
    const unsigned halves = (o->train ? 1u << KD_HALF_TRAIN : 0u) | (o->val ? 1u << KD_HALF_VAL : 0u);
    KD_TRY(kd_dataset_open(&o->cfg->data, o->task->need, halves, &d->data, err));
    KD_TRY(kd_model_open(o->task, o->cfg, d->data.n_classes, o->be, &d->model, err));
    if (d->model.record != d->model.classes) {
        return KD_FAIL(err, KD_E_UNSUPPORTED,
                       "dump: a store holds a row of logits a sample; model %s has other predictions", d->model.name);
    }
    KD_TRY(open_taps(d, err));
    KD_TRY(kd_model_declare(&d->model, NULL, err));
    KD_TRY(kd_model_load(&d->model, o->weights, "", false, d->data.classes, load, err));
    d->n_views = o->task->views(o->cfg, d->protocol);
    return o->replay > 0 ? open_replay(d, err) : KD_OK;
}

static kd_status make_buffers(dump *d, kd_err *err)
{
    d->views = kd_calloc((size_t)d->n_views, sizeof *d->views);
    d->feature = kd_calloc((size_t)KD_MAX(d->feature_dim, 1), sizeof *d->feature);
    return d->views != NULL && d->feature != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "dump: out of memory");
}

kd_status kd_dump(const kd_dump_opts *o, kd_dump_result *result, kd_err *err)
{
    dump d = {.o = o, .r = result, .cfg = o->cfg};
    kd_load_report load = {0};
    kd_status st = KD_OK;
    char *provenance = NULL;
    const double t0 = kd_now();
    *result = (kd_dump_result){.top1_train = NAN, .top1_val = NAN};
    KD_GO(dump_open(&d, &load, err));
    forecast(&d);
    if (o->dry_run) {
        kd_log(KD_LOG_INFO, "dry run: nothing was dumped or written");
        goto done;
    }
    const int rows = o->cfg->eval.batch_size;
    KD_GO(o->replay > 0 ? kd_model_replay_program(&d.model, false, rows, &d.program, err)
                        : kd_model_eval_program(&d.model, rows, &d.program, err));
    KD_GO(make_buffers(&d, err));
    provenance = taught_by(&load);
    if (provenance == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "dump: out of memory");
        goto done;
    }
    KD_GO(open_writer(&d, &load, provenance, err));
    if (o->train) {
        KD_GO(dump_half(&d, KD_HALF_TRAIN, err));
    }
    if (o->val) {
        KD_GO(dump_half(&d, KD_HALF_VAL, err));
    }
    st = kd_store_writer_close(d.writer, err);
    d.writer = NULL;
    if (st == KD_OK) {
        st = measure(&d, result, err);
    }
done:
    kd_store_writer_abandon(d.writer); /* what was appended stays for --resume */
    result->seconds = kd_now() - t0;
    kd_free(provenance);
    kd_load_report_free(&load);
    dump_close(&d);
    return st;
}
