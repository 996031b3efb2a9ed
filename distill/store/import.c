/* Values made elsewhere become a store.  See import.h. */
#include "distill/store/import.h"

#include "distill/store/class_map.h"
#include "distill/store/store_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct import {
    const kd_import_opts *o;
    kd_import_result *r;
    kd_outside in;
    kd_dataset data;  /* empty without a data set */
    int classes;      /* of the store */
    uint32_t *column; /* [classes] of the file's logits; class_map.h */
    uint8_t *used;    /* [in.n] rows of samples */
    float *logits;    /* [in.views, classes] of one record */
    kd_store_view *view;
    char views[40]; /* "5x3" */
    kd_store_writer *writer;
} import;

static void import_close(import *m)
{
    if (m->writer != NULL) {
        kd_store_writer_discard(m->writer);
    }
    kd_outside_free(&m->in);
    kd_dataset_free(&m->data);
    kd_free(m->column);
    kd_free(m->used);
    kd_free(m->logits);
    kd_free(m->view);
}

static void tell(const import *m, const char *id, const char *why)
{
    if (m->o->left != NULL) {
        m->o->left(m->o->user, id, why);
    }
}

/* ---- before anything is written -------------------------------------------------------------- */

static bool takes(const import *m, int half)
{
    return half == KD_HALF_TRAIN ? m->o->train : m->o->val;
}

/* Class names of the store, in label order. */
static const char *const *class_names(const import *m)
{
    return (const char *const *)(m->o->data != NULL ? m->data.classes : m->in.name);
}

static kd_status without_data(import *m, kd_err *err)
{
    if (m->in.label == NULL || m->in.name == NULL) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: no %s in it: name the data set with --data or --config, or bring them in the file",
                       m->in.path, m->in.label == NULL ? "labels" : "class list");
    }
    for (size_t i = 0; i < m->in.n; i++) {
        if (m->in.label[i] < KD_NO_LABEL || m->in.label[i] >= m->classes) {
            return KD_FAIL(err, KD_E_DATA, "%s: row %zu, %s: expected a label below %d, found %lld", m->in.path, i,
                           m->in.id[i], m->classes, (long long)m->in.label[i]);
        }
    }
    return KD_OK;
}

/* The label that the file gives a sample, if it gives one, is the data set's: a label counts columns. */
static kd_status check_label(const import *m, size_t row, int label, kd_err *err)
{
    if (label == KD_NO_LABEL) {
        return KD_OK;
    }
    const uint32_t column = m->column != NULL ? m->column[label] : (uint32_t)label;
    if (m->in.label == NULL || (m->in.label[row] >= 0 && m->in.label[row] == (int64_t)column)) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%s: row %zu, %s: label %lld, in the data set it is %d (%s), column %u of the file",
                   m->in.path, row, m->in.id[row], (long long)m->in.label[row], label, m->data.classes[label], column);
}

/* Finds the row of every sample; those without one are left out, or refused. */
static kd_status join_half(import *m, kd_half *half, kd_err *err)
{
    uint8_t *lacks = kd_calloc(KD_MAX(half->n, 1), 1);
    const char *first = NULL;
    size_t lacking = 0;
    kd_status st = lacks != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "import: out of memory");
    for (size_t i = 0; i < half->n && st == KD_OK; i++) {
        const int64_t row = kd_outside_find(&m->in, half->sample[i].id);
        if (row < 0) {
            lacks[i] = 1;
            first = lacking++ == 0 ? half->sample[i].id : first;
            tell(m, half->sample[i].id, kd_fate_text(KD_FATE_NO_TEACHER));
        } else {
            m->used[row] = 1;
            st = check_label(m, (size_t)row, half->sample[i].label, err);
        }
    }
    if (st == KD_OK && lacking > 0 && m->o->data->on_bad_sample == KD_BAD_FAIL) {
        st = KD_FAIL(
            err, KD_E_DATA,
            "%s: no row for %zu of %zu samples, the first: %s; --split takes one half, data.on_bad_sample: skip "
            "leaves them out",
            m->in.path, lacking, half->n, first);
    } else if (st == KD_OK && lacking > 0) {
        st = kd_half_leave_out(half, lacks, KD_FATE_NO_TEACHER, err);
    }
    kd_free(lacks);
    return st;
}

/* Rows of the other half, and of samples that were left out, are samples all the same. */
static void know_listed(import *m)
{
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &m->data.half[h];
        for (size_t i = 0; i < half->n + half->n_left; i++) {
            const char *id = i < half->n ? half->sample[i].id : half->left[i - half->n].id;
            const int64_t row = kd_outside_find(&m->in, id);
            if (row >= 0) {
                m->used[row] = 1;
            }
        }
    }
}

static kd_status join(import *m, kd_err *err)
{
    size_t done = 0;
    const kd_half *any = NULL;
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_half *half = &m->data.half[h];
        if (takes(m, h)) {
            for (size_t i = 0; i < half->n; i++) {
                done += kd_outside_find(&m->in, half->sample[i].id) >= 0;
            }
            any = any == NULL || any->n == 0 ? half : any;
        }
    }
    if (done == 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: none of its %zu ids is a sample of the data set: it has %s, the data set %s", m->in.path,
                       m->in.n, m->in.id[0], any != NULL && any->n > 0 ? any->sample[0].id : "none");
    }
    for (int h = 0; h < KD_HALVES; h++) {
        kd_half *half = &m->data.half[h];
        if (!takes(m, h)) {
            continue;
        }
        for (size_t i = 0; i < half->n_left; i++) {
            tell(m, half->left[i].id, kd_fate_text(half->left[i].why));
        }
        KD_TRY(join_half(m, half, err));
        m->r->listed += half->n + half->n_left;
        m->r->done += half->n;
        m->r->failed += kd_half_failures(half);
        m->r->excluded += half->n_left - kd_half_failures(half);
    }
    know_listed(m);
    for (size_t i = 0; i < m->in.n; i++) {
        if (m->used[i] == 0) {
            m->r->unknown++;
            tell(m, m->in.id[i], "no sample of the data set");
        }
    }
    return KD_OK;
}

static kd_status make_buffers(import *m, kd_err *err)
{
    const kd_import_opts *o = m->o;
    const int views = m->in.views, clips = o->clips > 0 ? o->clips : views, crops = o->clips > 0 ? o->crops : 1;
    const int flips = o->flips ? 2 : 1;
    (void)snprintf(m->views, sizeof m->views, "%dx%d%s", clips, crops, o->flips ? "x2" : "");
    if (clips * crops * flips != views) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected %s views of a sample, found %d", m->in.path, m->views, views);
    }
    m->used = kd_calloc(m->in.n, 1);
    m->view = kd_calloc((size_t)views, sizeof *m->view);
    m->logits = kd_calloc((size_t)views * (size_t)m->classes, sizeof *m->logits);
    if (m->used == NULL || m->view == NULL || m->logits == NULL) {
        return KD_FAIL(err, KD_E_OOM, "import: out of memory");
    }
    for (int v = 0; v < views; v++) {
        m->view[v] = (kd_store_view){.clip = v / (crops * flips), .crop = v % crops, .flip = v / crops % flips != 0};
    }
    return KD_OK;
}

/* File, data set, classes, rows: everything that can be refused. */
static kd_status import_open(import *m, kd_err *err)
{
    const kd_import_opts *o = m->o;
    const unsigned halves = (o->train ? 1u << KD_HALF_TRAIN : 0u) | (o->val ? 1u << KD_HALF_VAL : 0u);
    KD_TRY(kd_outside_read(o->path, &o->names, &m->in, err));
    m->r->rows = m->in.n;
    m->classes = m->in.classes;
    if (o->data == NULL && o->class_map != NULL) {
        return KD_FAIL(err, KD_E_ARG, "%s: a class map names classes of a data set: --data or --config says which",
                       o->class_map);
    }
    if (o->data != NULL) {
        KD_TRY(kd_dataset_open(o->data, 0, halves, &m->data, err));
        m->classes = m->data.n_classes;
    }
    if (o->data == NULL) {
        KD_TRY(without_data(m, err));
    }
    if (m->in.logits == NULL && (o->class_map != NULL || o->clips > 0)) {
        return KD_FAIL(err, KD_E_ARG, "%s: %s says something of logits, the file holds features alone", o->path,
                       o->class_map != NULL ? "--class-map" : "--views");
    }
    if (m->in.logits != NULL || o->data == NULL) {
        KD_TRY(kdi_class_columns(&m->in, o->class_map, o->data != NULL ? &m->data : NULL, &m->column, err));
    }
    KD_TRY(make_buffers(m, err));
    if (o->data != NULL) {
        return join(m, err);
    }
    m->r->listed = m->r->done = m->in.n;
    return KD_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static kd_dtype stored_as(const import *m, kd_dtype of_file, bool bf16)
{
    if (m->o->stored != KD_DTYPE_COUNT) {
        return m->o->stored;
    }
    return of_file == KD_BF16 && !bf16 ? KD_F32 : of_file;
}

static kd_status open_writer(import *m, kd_err *err)
{
    const kd_import_opts *o = m->o;
    char ids[KD_HALVES][KD_SHA256_HEX] = {"", ""};
    for (int h = 0; h < KD_HALVES && o->data != NULL; h++) {
        KD_TRY(kd_half_list_digest(&m->data.half[h], ids[h], err));
    }
    const bool whole = o->data == NULL || o->data->on_bad_sample == KD_BAD_FAIL;
    const kd_store_manifest manifest = {.teacher = o->teacher,
                                        .data_set = m->data.name,
                                        .split = m->data.split,
                                        .train_ids = ids[KD_HALF_TRAIN],
                                        .val_ids = ids[KD_HALF_VAL],
                                        .parts = o->data == NULL      ? ""
                                                 : o->train && o->val ? "train,val"
                                                 : o->train           ? "train"
                                                                      : "val",
                                        .views = m->views,
                                        .merge = o->merge,
                                        .feature = m->in.features != NULL ? "imported" : NULL,
                                        .classes = class_names(m),
                                        .n_classes = m->classes,
                                        .logit_dtype = stored_as(m, m->in.logit_dtype, false),
                                        .feature_dim = m->in.features != NULL ? m->in.dim : 0,
                                        .feature_dtype = stored_as(m, m->in.feature_dtype, true),
                                        .expected = whole ? (int64_t)m->r->done : 0,
                                        .features_only = m->in.logits == NULL,
                                        .provenance = o->provenance,
                                        .source_sha256 = m->in.sha256};
    return kd_store_writer_open(o->out, &manifest, KD_STORE_ONCE, &m->writer, NULL, err);
}

static kd_status put(import *m, size_t row, int label, uint64_t order, kd_err *err)
{
    const size_t from = (size_t)m->in.classes, to = (size_t)m->classes, views = (size_t)m->in.views;
    for (size_t v = 0; v < views; v++) {
        for (size_t k = 0; k < to; k++) {
            m->logits[v * to + k] = m->in.logits != NULL ? m->in.logits[(row * views + v) * from + m->column[k]] : 0.0f;
        }
    }
    const kd_store_record rec = {.id = m->in.id[row],
                                 .order = order,
                                 .label = label,
                                 .n_views = m->in.views,
                                 .logits = m->logits,
                                 .feature = m->in.features != NULL ? m->in.features + row * (size_t)m->in.dim : NULL,
                                 .views = m->view};
    return kd_store_append(m->writer, &rec, err);
}

static kd_status write_records(import *m, kd_err *err)
{
    uint64_t base = 0;
    for (size_t i = 0; i < m->in.n && m->o->data == NULL; i++) {
        KD_TRY(put(m, i, (int)m->in.label[i], i, err));
    }
    for (int h = 0; h < KD_HALVES && m->o->data != NULL; h++) {
        const kd_half *half = &m->data.half[h];
        for (size_t i = 0; i < half->n && takes(m, h); i++) {
            const kd_data_sample *s = &half->sample[i];
            KD_TRY(put(m, (size_t)kd_outside_find(&m->in, s->id), s->label, base + i, err));
        }
        base += takes(m, h) ? half->n : 0;
    }
    const kd_status st = kd_store_writer_close(m->writer, err);
    m->writer = NULL;
    return st;
}

/* What the finished store holds. */
static kd_status measure(const import *m, kd_err *err)
{
    kd_store *s = NULL;
    kd_status st = KD_OK;
    double *const top1[] = {[KD_HALF_TRAIN] = &m->r->top1_train, [KD_HALF_VAL] = &m->r->top1_val};
    KD_GO(kd_store_open(m->o->out, &s, err));
    m->r->bytes = kd_store_file_bytes(s);
    for (int h = 0; h < KD_HALVES && m->o->data != NULL && m->in.logits != NULL; h++) {
        if (takes(m, h)) {
            KD_GO(kd_store_top1(s, &m->data.half[h], top1[h], err));
        }
    }
done:
    kd_store_close(s);
    return st;
}

kd_status kd_import(const kd_import_opts *o, kd_import_result *result, kd_err *err)
{
import m = {.o = o, .r = result };
    *result = (kd_import_result){.top1_train = NAN, .top1_val = NAN};
    kd_status st = import_open(&m, err);
    st = st == KD_OK ? open_writer(&m, err) : st;
    st = st == KD_OK ? write_records(&m, err) : st;
    st = st == KD_OK ? measure(&m, err) : st;
    import_close(&m);
    return st;
}
