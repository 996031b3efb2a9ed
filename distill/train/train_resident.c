/* Training data that stay on the device: the normalised sequences of the training half and the teacher's rows go there
 * once; a batch is then a few numbers a sample (which one, its draws), and the device makes the streams of them. */
#include "distill/train/train_internal.h"
#include "formats/data/cache.h"

#include <stdio.h>

/* ---- does it? -------------------------------------------------------------------------------- */

typedef struct sizes {
    size_t samples, teacher;
} sizes;

/* Does the training program hold a table of the store's logits?  Mixed probabilities are fed batch by batch instead. */
static bool keeps_logits(const kd_trainer *t, int store)
{
    return !kd_loss_fed(&t->loss) && kd_loss_reads(&t->loss, store, KD_READS_LOGITS);
}

static bool keeps_features(const kd_trainer *t, int store)
{
    return kd_loss_reads(&t->loss, store, KD_READS_FEATURES);
}

static bool measure(const kd_trainer *t, sizes *out)
{
    const size_t n = t->data.half[KD_HALF_TRAIN].n;
    size_t row = 0;
    for (int s = 0; s < t->loss.stores; s++) {
        row += 1 + (keeps_logits(t, s) ? (size_t)t->model.classes : 0) +
               (keeps_features(t, s) ? (size_t)t->teacher[s].feature_dim : 0);
    }
    out->teacher = 0;
    if (row > 0 && !kd_size_mul(n, row * sizeof(float), &out->teacher)) {
        return false;
    }
    return n <= INT32_MAX && kd_size_mul(n, (size_t)kd_spec_bytes(&t->model.item[0]), &out->samples) &&
           out->samples < SIZE_MAX / 4 - out->teacher;
}

/* Free bytes where the tables would lie; false: nobody knows. */
static bool free_bytes(kd_backend *be, size_t *have)
{
    size_t total = 0;
    if (be->ops->memory != NULL) {
        return be->ops->memory(be, have, &total) == KD_OK;
    }
    const uint64_t host = kd_memory_available();
    *have = host > SIZE_MAX ? SIZE_MAX : (size_t)host;
    return host > 0;
}

static void keep(kd_trainer *t)
{
    kd_model_keep(&t->model, (int64_t)t->data.half[KD_HALF_TRAIN].n);
}

kd_status kdi_resident_plan(kd_trainer *t, const kd_memory_need *need, kd_err *err)
{
    const kd_cfg_resident asked = t->cfg->train.resident;
    const double mib = 1048576.0;
    kd_backend *be = t->o->be;
    sizes s = {0, 0};
    size_t have = 0;
    for (int i = 0; i < t->loss.stores; i++) {
        if (t->teacher[i].views > 1 || t->replay.cut != NULL) { /* an answer an epoch is fed batch by batch */
            return asked == KD_RESIDENT_ON ? KD_FAIL(err, KD_E_CONFIG,
                                                     "train.resident: expected off or auto with a store of training "
                                                     "views (train:%d), found on",
                                                     t->teacher[i].views)
                                           : KD_OK;
        }
    }
    if (kd_loss_reads(&t->loss, 0, KD_READS_AVERAGE)) { /* whose program is fed, too */
        return asked == KD_RESIDENT_ON
                   ? KD_FAIL(err, KD_E_CONFIG, "train.resident: expected off or auto with kd.self_weight, found on")
                   : KD_OK;
    }
    if (t->o->task->resident == NULL || asked == KD_RESIDENT_OFF || t->data.half[KD_HALF_TRAIN].n == 0 ||
        (asked == KD_RESIDENT_AUTO && strcmp(be->ops->name, "cpu") == 0)) {
        return KD_OK;
    }
    const bool countable = measure(t, &s), known = free_bytes(be, &have);
    const size_t bytes = s.samples + s.teacher;
    if (asked == KD_RESIDENT_ON) {
        if (!countable || (known && bytes > have)) {
            return KD_FAIL(err, KD_E_OOM,
                           "train.resident: on: %zu sequences take %.1f MiB and the teacher's rows %.1f MiB; %s has "
                           "%.1f MiB free: "
                           "set train.resident to off",
                           t->data.half[KD_HALF_TRAIN].n, (double)s.samples / mib, (double)s.teacher / mib,
                           be->ops->name, (double)have / mib);
        }
        keep(t);
        return KD_OK;
    }
    if (countable && known && bytes <= have / 2) {
        keep(t);
        kd_err why = {0};
        const kd_status st = kd_model_check_memory(&t->model, need, &why);
        if (st == KD_OK) {
            return KD_OK;
        }
        kd_model_keep(&t->model, 0); /* is there room without? the caller asks */
        if (st != KD_E_OOM) {
            return KD_FAIL(err, st, "%s", why.msg);
        }
    }
    kd_log(KD_LOG_INFO,
           "training data: %.1f MiB do not fit beside the training in the %.1f MiB free on %s: fed batch by batch",
           (double)bytes / mib, (double)have / mib, be->ops->name);
    return KD_OK;
}

/* ---- filling the tables ---------------------------------------------------------------------- */

static kd_status upload(kd_trainer *t, const char *name, size_t offset, const void *src, size_t bytes, kd_err *err)
{
    const kd_tensor table = kd_program_tensor(t->program, name);
    KD_ASSERT(table.data != NULL);
    const kd_status st = t->o->be->ops->upload(t->o->be, (char *)table.data + offset, src, bytes);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "training data: %s did not reach the device", name);
}

static kd_status upload_of(kd_trainer *t, const char *name, int store, const void *src, size_t floats, kd_err *err)
{
    char text[KD_TERM_NAME];
    kd_loss_name(name, store, text);
    return upload(t, text, 0, src, floats * sizeof(float), err);
}

static kd_status upload_teacher(kd_trainer *t, int store, kd_err *err)
{
    const kd_teacher_table *table = &t->teacher[store];
    const size_t n = table->n;
    if (!kd_loss_reads(&t->loss, store, KD_READS_STORE)) {
        return KD_OK;
    }
    float *valid = kd_calloc(n, sizeof *valid);
    if (valid == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training data: out of memory for %zu samples", n);
    }
    for (size_t i = 0; i < n; i++) {
        valid[i] = table->has[i] != 0 ? 1.0f : 0.0f; /* a lost sample gathers a zero */
    }
    const kd_status st = upload_of(t, "teacher_has", store, valid, n, err);
    kd_free(valid);
    KD_TRY(st);
    if (keeps_logits(t, store)) {
        KD_TRY(upload_of(t, "teacher_table", store, table->logits, n * (size_t)t->model.classes, err));
    }
    if (keeps_features(t, store)) {
        KD_TRY(upload_of(t, "feature_table", store, table->feature, n * (size_t)table->feature_dim, err));
    }
    return KD_OK;
}

enum { ROWS = 64 }; /* sequences read and uploaded at once */

static kd_status upload_samples(kd_trainer *t, kd_err *err)
{
    const size_t n = t->data.half[KD_HALF_TRAIN].n;
    const kd_loader_opts lo = {.batch_size = ROWS, .workers = kd_loader_workers(t->cfg->train.workers)};
    kd_loader *l = NULL;
    kd_producer p;
    kd_status st;
    KD_TRY(t->o->task->resident->rows(t->train.ctx, &p, err));
    KD_GO(kd_loader_open(&lo, &p, &l, err));
    KD_GO(kd_loader_seek(l, 0, 0, err));
    kd_progress_begin(t->o->progress, "skeletons to the device", "samples", 0, n);
    for (size_t first = 0; first < n; first += ROWS) {
        const kd_batch *b = NULL;
        const size_t rows = KD_MIN((size_t)ROWS, n - first), row = p.tensor[0].bytes;
        KD_GO(kd_loader_next(l, &b, err));
        KD_GO(upload(t, "table", first * row, b->tensor[0], rows * row, err));
        kd_progress_step(t->o->progress, first + rows, NAN);
        if (kd_progress_stop(t->o->progress)) {
            st = KD_FAIL(err, KD_E_CANCELLED, "interrupted while the skeletons were read: nothing was trained");
            goto done;
        }
    }
    kd_progress_end(t->o->progress, NULL);
done:
    kd_loader_close(l);
    return st;
}

kd_status kdi_resident_open(kd_trainer *t, kd_err *err)
{
    const kd_task *task = t->o->task;
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    sizes s;
    KD_TRY(task->source(t->cfg, &t->model, half, KD_PASS_TRAIN, false, &t->train, err));
    if (!t->o->dry_run) {
        KD_TRY(upload_samples(t, err));
        for (int store = 0; store < t->loss.stores; store++) {
            KD_TRY(upload_teacher(t, store, err));
        }
    }
    t->train.producer = task->resident->draws(t->train.ctx);
    if (measure(t, &s)) {
        kd_log(KD_LOG_INFO, "training data on the device: %zu sequences in %.1f MiB, the teacher's rows in %.1f MiB",
               half->n, (double)s.samples / 1048576.0, (double)s.teacher / 1048576.0);
    }
    return KD_OK;
}
