/* Training, what a batch is fed with: rows, mixing, labels, the teachers' answers, weights of the terms. */
#include "distill/train/train_internal.h"
#include "formats/base/merge.h"

#include <math.h>
#include <stdio.h>

kd_status kdi_feed_open(kd_trainer *t, kd_err *err)
{
    const size_t b = (size_t)kdi_train_rows(t->cfg), k = (size_t)t->model.classes;
    int dim = 1;
    for (int s = 0; s < t->loss.stores; s++) {
        dim = KD_MAX(dim, t->teacher[s].feature_dim);
    }
    t->mix.perm = kd_calloc(b, sizeof *t->mix.perm);
    t->mix.lam = kd_calloc(b, sizeof *t->mix.lam);
    t->mix.cut = kd_calloc(4 * b, sizeof *t->mix.cut);
    t->mix.frames = t->model.cut_frames;
    t->mix.frame_lam = kd_calloc(b * (size_t)t->mix.frames + 1, sizeof *t->mix.frame_lam);
    t->kept = kd_calloc(b, sizeof *t->kept);
    t->labelled = kd_calloc(b, sizeof *t->labelled);
    t->kind = kd_calloc(b, sizeof *t->kind);
    t->label = kd_calloc(b * (size_t)kdi_train_labels(t), sizeof *t->label);
    t->answered = kd_calloc(b, sizeof *t->answered);
    t->target = kd_calloc(b * (size_t)kd_shape_numel(&t->model.target), sizeof *t->target);
    t->teacher_rows = kd_calloc(b * k, sizeof *t->teacher_rows);
    t->mixed_rows = kd_calloc(b * k, sizeof *t->mixed_rows);
    t->feature_rows = kd_calloc(b * (size_t)dim, sizeof *t->feature_rows);
    t->work = kd_calloc(3 * k, sizeof *t->work);
    const bool ok = t->mix.perm && t->mix.lam && t->mix.cut && t->mix.frame_lam && t->kept && t->labelled && t->kind &&
                    t->label && t->answered && t->target && t->teacher_rows && t->mixed_rows && t->feature_rows &&
                    t->work;
    return ok ? KD_OK : KD_FAIL(err, KD_E_OOM, "training: out of memory for a batch");
}

/* n / (K n_k), scikit-learn's "balanced", over the n samples that have a label; a class without one weighs nothing. */
static void balance(const kd_half *half, const int32_t *pseudo, int classes, double *w)
{
    int present = 0;
    double n = 0.0;
    for (size_t i = 0; i < half->n; i++) {
        const int own = half->sample[i].label, label = own == KD_NO_LABEL && pseudo != NULL ? pseudo[i] : own;
        if (label != KD_NO_LABEL) {
            present += w[label]++ == 0.0;
            n += 1.0;
        }
    }
    for (int k = 0; k < classes; k++) {
        w[k] = w[k] > 0.0 ? n / ((double)present * w[k]) : 0.0;
    }
}

kd_status kdi_feed_check_weights(const kd_config *c, int classes, kd_err *err)
{
    if (c->class_weights.n > 0 && c->class_weights.n != classes) {
        return KD_FAIL(err, KD_E_CONFIG, "class_weights: expected %d numbers, one a class, found %d", classes,
                       c->class_weights.n);
    }
    return KD_OK;
}

kd_status kdi_feed_weights(kd_trainer *t, kd_err *err)
{
    const kd_cfg_numbers *list = &t->cfg->class_weights;
    if (list->n == 0 && !t->cfg->class_balance) {
        return KD_OK;
    }
    KD_TRY(kdi_feed_check_weights(t->cfg, t->model.classes, err));
    t->class_weight = kd_calloc((size_t)t->model.classes, sizeof *t->class_weight);
    if (t->class_weight == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory for class weights");
    }
    for (int k = 0; k < list->n; k++) {
        t->class_weight[k] = list->v[k];
    }
    if (list->n == 0) {
        balance(&t->data.half[KD_HALF_TRAIN], t->pseudo, t->model.classes, t->class_weight);
    }
    return KD_OK;
}

void kdi_feed_close(kd_trainer *t)
{
    kd_free(t->mix.perm);
    kd_free(t->mix.lam);
    kd_free(t->mix.cut);
    kd_free(t->mix.frame_lam);
    kd_free(t->kept);
    kd_free(t->labelled);
    kd_free(t->kind);
    kd_free(t->label);
    kd_free(t->answered);
    kd_free(t->pseudo);
    kd_free(t->target);
    kd_free(t->teacher_rows);
    kd_free(t->mixed_rows);
    kd_free(t->feature_rows);
    kd_free(t->work);
    kd_free(t->class_weight);
}

static kd_status put(kd_trainer *t, const char *name, const void *data, size_t bytes, kd_err *err)
{
    kd_status st = kd_program_write(t->program, name, data, bytes);
    if (st == KD_OK && t->self_program != NULL && kd_program_tensor(t->self_program, name).data != NULL) {
        st = kd_program_write(t->self_program, name, data, bytes);
    }
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "training input %s: the data's shape is not the model's", name);
}

/* "name" of a store. */
static kd_status put_of(kd_trainer *t, const char *name, int store, const void *data, size_t bytes, kd_err *err)
{
    char text[KD_TERM_NAME];
    kd_loss_name(name, store, text);
    return put(t, text, data, bytes, err);
}

/* ---- teachers -------------------------------------------------------------------------------- */

/* Rows of a store's table for the batch, the answer to this epoch of several; zeros for a sample that was lost. */
static void gather_rows(const kd_batch *b, const float *table, size_t views, size_t width, float *dst)
{
    const size_t view = b->epoch % views;
    for (int i = 0; i < b->rows; i++) {
        float *row = dst + (size_t)i * width;
        if (b->valid[i] != 0.0f) {
            memcpy(row, table + ((size_t)b->sample[i] * views + view) * width, width * sizeof *row);
        } else {
            memset(row, 0, width * sizeof *row);
        }
    }
}

/* Row by row softmax(logits / temperature). */
static void soften(kd_trainer *t, float *rows, int n, double temperature)
{
    const size_t k = (size_t)t->model.classes;
    for (int i = 0; i < n; i++) {
        float *row = rows + (size_t)i * k;
        for (size_t j = 0; j < k; j++) {
            t->work[j] = (double)row[j];
        }
        kd_probabilities(t->work, k, temperature);
        for (size_t j = 0; j < k; j++) {
            row[j] = (float)t->work[j];
        }
    }
}

/* Mixed samples get mixed probabilities, at the temperature of each term that reads them; a raw term, mixed logits. */
static kd_status put_mixed(kd_trainer *t, const kd_batch *b, int store, kd_err *err)
{
    const size_t k = (size_t)t->model.classes;
    for (int i = 0; i < t->loss.n; i++) {
        const kd_term *term = &t->loss.term[i];
        if (term->store != store || (term->def->reads & KD_READS_LOGITS) == 0) {
            continue;
        }
        gather_rows(b, t->teacher[store].logits, (size_t)t->teacher[store].views, k, t->teacher_rows);
        if (!term->def->raw) {
            soften(t, t->teacher_rows, b->rows,
                   term->def->temperature >= 0 ? term->param[term->def->temperature] : 1.0);
        }
        kd_mix_rows(t->teacher_rows, b->rows, k, t->mix.perm, t->mix.lam, t->mixed_rows);
        KD_TRY(put(t, term->input, t->mixed_rows, (size_t)b->rows * k * sizeof(float), err));
    }
    return KD_OK;
}

/* What a store answers to the batch.  Mixed probabilities are fed even where all else stays on the device. */
static kd_status put_teacher(kd_trainer *t, const kd_batch *b, int store, kd_err *err)
{
    const kd_teacher_table *table = &t->teacher[store];
    const size_t n = (size_t)b->rows, k = (size_t)t->model.classes, dim = (size_t)table->feature_dim;
    const bool logits = kd_loss_reads(&t->loss, store, KD_READS_LOGITS);
    const bool features = kd_loss_reads(&t->loss, store, KD_READS_FEATURES);
    if (logits && t->loss.mixed) {
        KD_TRY(put_mixed(t, b, store, err));
    }
    if (t->model.kept > 0 || !(logits || features)) {
        return KD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        t->answered[i] = b->valid[i] > 0.0f && table->has[b->sample[i]] != 0 ? 1.0f : 0.0f;
    }
    KD_TRY(put_of(t, "teacher_valid", store, t->answered, n * sizeof(float), err));
    if (logits && !t->loss.mixed) {
        gather_rows(b, table->logits, (size_t)table->views, k, t->teacher_rows);
        KD_TRY(put_of(t, "teacher", store, t->teacher_rows, n * k * sizeof(float), err));
    }
    if (features) {
        gather_rows(b, table->feature, 1, dim, t->feature_rows);
        KD_TRY(put_of(t, "teacher_feature", store, t->feature_rows, n * dim * sizeof(float), err));
    }
    return KD_OK;
}

/* The answer of all stores to a term, row by row; a raw term gets the logarithms of the probabilities at T = 1. */
static void join_rows(kd_trainer *t, const kd_batch *b, const kd_term *term)
{
    const size_t k = (size_t)t->model.classes;
    const kd_teachers all = kdi_teachers(t, t->work + k);
    const bool warm = !term->def->raw && term->def->temperature >= 0;
    const double temperature = warm ? term->param[term->def->temperature] : 1.0;
    for (int i = 0; i < b->rows; i++) {
        float *row = t->teacher_rows + (size_t)i * k;
        t->answered[i] = 0.0f;
        memset(row, 0, k * sizeof *row);
        if (b->valid[i] > 0.0f && kd_teachers_answer(&all, b->sample[i], b->epoch, b->label[i], temperature, t->work)) {
            t->answered[i] = 1.0f;
            for (size_t j = 0; j < k; j++) {
                row[j] = (float)(term->def->raw ? log(fmax(t->work[j], 1e-30)) : t->work[j]);
            }
        }
    }
}

static kd_status put_joined(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const size_t n = (size_t)b->rows, k = (size_t)t->model.classes;
    bool any = false;
    for (int i = 0; i < t->loss.n; i++) {
        const kd_term *term = &t->loss.term[i];
        if (term->store == KD_STORES_JOINED) {
            const float *rows = t->teacher_rows;
            join_rows(t, b, term);
            if (t->loss.mixed) {
                kd_mix_rows(t->teacher_rows, b->rows, k, t->mix.perm, t->mix.lam, t->mixed_rows);
                rows = t->mixed_rows;
            }
            KD_TRY(put(t, term->input, rows, n * k * sizeof *rows, err));
            any = true;
        }
    }
    return any ? put(t, "joined_valid", t->answered, n * sizeof(float), err) : KD_OK;
}

/* ---- the batch ------------------------------------------------------------------------------- */

static kd_status put_rows(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const kd_producer *src = &t->train.producer;
    const size_t n = (size_t)b->rows;
    for (int i = 0; i < src->n_tensors; i++) {
        KD_TRY(put(t, src->tensor[i].name, b->tensor[i], src->tensor[i].bytes * n, err));
    }
    if (t->model.kept == 0) {
        return KD_OK;
    }
    for (int i = 0; i < b->rows; i++) {
        t->kept[i] = b->valid[i] > 0.0f ? (int32_t)b->sample[i] : -1;
    }
    return put(t, "sample", t->kept, n * sizeof *t->kept, err);
}

static kd_status put_mix(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const kd_config *c = t->cfg;
    const size_t n = (size_t)b->rows;
    kd_mix_draw(&c->mixup, (uint64_t)c->train.seed, b->epoch, (uint32_t)b->index, b->rows, t->kind, t->model.side,
                &t->mix);
    KD_TRY(put(t, "perm", t->mix.perm, n * sizeof *t->mix.perm, err));
    if (t->mix.frames > 0) {
        KD_TRY(put(t, "lam", t->mix.frame_lam, n * (size_t)t->mix.frames * sizeof *t->mix.frame_lam, err));
    } else {
        KD_TRY(put(t, "lam", t->mix.lam, n * sizeof *t->mix.lam, err));
    }
    return t->model.side > 0 ? put(t, "cut", t->mix.cut, 4 * n * sizeof *t->mix.cut, err) : KD_OK;
}

/* Weights that change from epoch to epoch. */
static kd_status put_weights(kd_trainer *t, kd_err *err)
{
    const double epoch = (double)(t->s.epoch - t->s.epoch0) + (double)t->s.batch / (double)t->batches;
    char name[KD_TERM_NAME + 8];
    for (int i = 0; i < t->loss.n; i++) {
        const kd_term *term = &t->loss.term[i];
        if (kd_term_is_scheduled(term)) {
            const float w = (float)kd_term_weight(term, epoch, (double)t->cfg->train.epochs);
            (void)snprintf(name, sizeof name, "weight_%s", term->log);
            KD_TRY(put(t, name, &w, sizeof w, err));
        }
    }
    return KD_OK;
}

/* The labels of each row: its own, or the one that teachers gave the sample. */
static void take_labels(kd_trainer *t, const kd_batch *b)
{
    const int n = kdi_train_labels(t);
    for (int i = 0; i < b->rows; i++) {
        const int32_t *own = b->label + i * n;
        int32_t *label = t->label + i * n;
        const bool read = b->valid[i] > 0.0f;
        memcpy(label, own, (size_t)n * sizeof *label);
        if (read && own[0] == KD_NO_LABEL && t->pseudo != NULL) {
            label[0] = t->pseudo[b->sample[i]];
        }
        const bool labelled = read && label[0] != KD_NO_LABEL;
        t->labelled[i] = labelled ? 1.0f : 0.0f;
        t->kind[i] = labelled ? 2.0f : read ? 1.0f : 0.0f;
    }
}

kd_status kdi_feed(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const size_t n = (size_t)b->rows;
    KD_TRY(put_rows(t, b, err));
    kd_batch own = *b; /* with the labels that samples without one are taught */
    own.label = t->label;
    take_labels(t, b);
    if (t->loss.mixed) {
        KD_TRY(put_mix(t, b, err));
    }
    const kd_mix *mix = t->loss.mixed ? &t->mix : NULL;
    t->model.task->target(&t->model, t->cfg, &own, mix, t->target);
    if (t->logits != NULL) {
        kdi_select_expect(t, b, &t->pending[t->s.micro & 1]);
    }
    KD_TRY(kdi_embed_feed(t, b, err));
    if (t->class_weight != NULL) {
        kd_targets_weigh(t->class_weight, t->label, t->labelled, b->rows, t->model.classes,
                         mix != NULL ? mix->perm : NULL, mix != NULL ? mix->lam : NULL, t->target);
    }
    KD_TRY(put(t, "target", t->target, n * (size_t)kd_shape_numel(&t->model.target) * sizeof(float), err));
    KD_TRY(put(t, "valid", t->labelled, n * sizeof(float), err));
    for (int s = 0; s < t->loss.stores; s++) {
        KD_TRY(put_teacher(t, b, s, err));
    }
    KD_TRY(put_joined(t, b, err));
    return put_weights(t, err);
}
