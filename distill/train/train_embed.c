/* Training, embeddings of the classes (kd.class_embed): read by name, and what a batch is drawn to. */
#include "distill/train/train_internal.h"
#include "formats/weights/weights.h"

#include <math.h>
#include <stdio.h>

/* Row k: the vector of class k.  The first class says how long all are. */
static kd_status read_class(kd_trainer *t, kd_weights *w, int k, kd_err *err)
{
    const char *name = t->data.classes[k], *file = kd_weights_file(w);
    const kd_weight *v = kd_weights_find(w, name);
    const size_t dim = (size_t)t->loss.embed_dim;
    if (v == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected a vector for each of the %d classes, found none for '%s'", file,
                       t->data.n_classes, name);
    }
    if (v->rank != 1 || v->count < 1 || v->count > 65536 || (k > 0 && v->count != dim)) {
        return KD_FAIL(err, KD_E_DATA, "%s: '%s': expected a vector of %zu numbers, found %zu in %zu dimensions", file,
                       name, k > 0 ? dim : 1, v->count, v->rank);
    }
    if (k == 0) {
        size_t all = 0;
        t->loss.embed_dim = (int)v->count;
        if (kd_size_mul(v->count, (size_t)t->data.n_classes, &all)) {
            t->embed = kd_calloc(all, sizeof *t->embed);
        }
        if (t->embed == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for %d embeddings", file, t->data.n_classes);
        }
    }
    float *row = t->embed + (size_t)k * (size_t)t->loss.embed_dim;
    double length = 0.0;
    KD_TRY(kd_weights_read_f32(w, v, row, err));
    for (int i = 0; i < t->loss.embed_dim; i++) {
        length += (double)row[i] * (double)row[i];
    }
    return length > 0.0 && isfinite(length)
               ? KD_OK
               : KD_FAIL(err, KD_E_DATA, "%s: '%s': expected a vector that points somewhere, found %s", file, name,
                         length == 0.0 ? "zeros alone" : "numbers that are not finite");
}

kd_status kdi_embed_open(kd_trainer *t, kd_err *err)
{
    const char *path = t->cfg->kd.class_embed;
    kd_weights *w = NULL;
    if (path[0] == '\0') {
        return KD_OK;
    }
    KD_TRY(kd_weights_open(path, NULL, &w, err));
    kd_status st = kd_weights_sha256(w, t->origin.class_embed, err);
    for (int k = 0; k < t->data.n_classes && st == KD_OK; k++) {
        st = read_class(t, w, k, err);
    }
    kd_weights_close(w);
    if (st == KD_OK) {
        kd_log(KD_LOG_INFO, "embeddings of %d classes: %d numbers each, sha256 %.12s", t->data.n_classes,
               t->loss.embed_dim, t->origin.class_embed);
    }
    return st;
}

kd_status kdi_embed_write(kd_trainer *t, kd_err *err)
{
    const size_t n = (size_t)t->model.classes * (size_t)t->loss.embed_dim;
    if (t->embed == NULL) {
        return KD_OK;
    }
    const kd_tensor table = kd_program_tensor(t->program, "class_embed");
    KD_ASSERT(table.data != NULL);
    const kd_status st = t->o->be->ops->upload(t->o->be, table.data, t->embed, n * sizeof *t->embed);
    return st == KD_OK ? st : KD_FAIL(err, st, "embeddings of the classes did not reach the device");
}

kd_status kdi_embed_feed(kd_trainer *t, const kd_batch *b, kd_err *err)
{
    const size_t k = (size_t)t->model.classes, n = (size_t)b->rows;
    if (t->embed == NULL) {
        return KD_OK;
    }
    const kd_teachers all = kdi_teachers(t, t->work + k);
    memset(t->teacher_rows, 0, n * k * sizeof *t->teacher_rows);
    for (size_t i = 0; i < n; i++) { /* rows without a label are mixed among themselves, as their inputs are */
        const bool bare = b->valid[i] > 0.0f && t->labelled[i] == 0.0f;
        t->answered[i] = t->labelled[i];
        if (bare && all.n > 0 && kd_teachers_answer(&all, b->sample[i], b->epoch, KD_NO_LABEL, 1.0, t->work)) {
            t->answered[i] = 1.0f;
            for (size_t j = 0; j < k; j++) {
                t->teacher_rows[i * k + j] = (float)t->work[j];
            }
        }
    }
    if (t->loss.mixed) {
        kd_mix_rows(t->teacher_rows, b->rows, k, t->mix.perm, t->mix.lam, t->mixed_rows);
    }
    float *rows = t->loss.mixed ? t->mixed_rows : t->teacher_rows;
    for (size_t i = 0; i < n; i++) {
        if (t->labelled[i] > 0.0f) {
            memcpy(rows + i * k, t->target + i * k, k * sizeof *rows);
        }
    }
    kd_status st = kd_program_write(t->program, "embed_target", rows, n * k * sizeof *rows);
    st = st == KD_OK ? kd_program_write(t->program, "embed_valid", t->answered, n * sizeof *t->answered) : st;
    return st == KD_OK ? st : KD_FAIL(err, st, "training input embed_target: the data's shape is not the model's");
}
