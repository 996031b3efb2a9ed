/* A logit store as a NumPy archive. */
#include "formats/base/zip.h"
#include "formats/store/store_reader.h"

#include <stdio.h>

/* One array being gathered. */
typedef struct column {
    const char *name;
    const char *descr; /* NumPy's dtype */
    size_t item;       /* bytes of a row */
    size_t width;      /* second dimension; 0: none */
    uint8_t *data;
    size_t rows, used;
} column;

typedef struct table {
    column col[13];
    size_t n;
} table;

enum { LABEL, ORDER, VIEWS, VIEW_AT, LOGITS, PROB, FEATURE, VIEW, SEED, FRAME_AT, FRAMES, IDS, MANIFEST };

static kd_status put(column *c, const void *row, kd_err *err)
{
    if (c->used == c->rows) {
        const size_t rows = c->rows == 0 ? 256 : 2 * c->rows;
        size_t bytes = 0;
        uint8_t *p = NULL;
        if (kd_size_mul(rows, c->item, &bytes)) {
            p = kd_realloc(c->data, c->rows * c->item, bytes);
        }
        if (p == NULL) {
            return KD_FAIL(err, KD_E_OOM, "export: no memory for '%s'", c->name);
        }
        c->data = p;
        c->rows = rows;
    }
    memcpy(c->data + c->used * c->item, row, c->item);
    c->used++;
    return KD_OK;
}

static kd_status put_view(table *t, const kd_store_view *v, const float *logits, kd_err *err)
{
    const int32_t row[5] = {v->clip, v->crop, v->crop_x, v->crop_y, v->flip};
    KD_TRY(put(&t->col[LOGITS], logits, err));
    KD_TRY(put(&t->col[VIEW], row, err));
    KD_TRY(put(&t->col[SEED], &v->seed, err));
    for (int f = 0; f < v->n_frames; f++) {
        KD_TRY(put(&t->col[FRAMES], &v->frames[f], err));
    }
    const int64_t at = (int64_t)t->col[FRAMES].used;
    return put(&t->col[FRAME_AT], &at, err);
}

static kd_status put_record(table *t, const kd_store_record *r, int n_classes, kd_err *err)
{
    const int32_t label = r->label;
    const int32_t views = r->n_views;
    char id[KD_STORE_ID_MAX] = {0}; /* the column takes the first bytes of it, at least strlen(r->id) */
    memcpy(id, r->id, strlen(r->id));
    KD_TRY(put(&t->col[IDS], id, err));
    KD_TRY(put(&t->col[LABEL], &label, err));
    KD_TRY(put(&t->col[ORDER], &r->order, err));
    KD_TRY(put(&t->col[VIEWS], &views, err));
    KD_TRY(put(&t->col[PROB], r->prob, err));
    if (r->feature != NULL) {
        KD_TRY(put(&t->col[FEATURE], r->feature, err));
    }
    for (int v = 0; v < r->n_views; v++) {
        KD_TRY(put_view(t, &r->views[v], r->logits + (size_t)v * (size_t)n_classes, err));
    }
    const int64_t at = (int64_t)t->col[VIEW].used;
    return put(&t->col[VIEW_AT], &at, err);
}

/* NPY 1.0 header: magic, version, length, dict, blanks so that the data start at a multiple of 64.
 */
static size_t npy_header(const column *c, char *buf, size_t size)
{
    char shape[64];
    if (c->width > 0) {
        (void)snprintf(shape, sizeof shape, "(%zu, %zu)", c->used, c->width);
    } else {
        (void)snprintf(shape, sizeof shape, "(%zu,)", c->used);
    }
    memset(buf, ' ', size);
    memcpy(buf, "\x93NUMPY\x01\x00", 8);
    const int n =
        snprintf(buf + 10, size - 10, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", c->descr, shape);
    buf[10 + n] = ' ';
    const size_t total = ((size_t)n + 11 + 63) / 64 * 64;
    KD_ASSERT(total <= size);
    buf[total - 1] = '\n';
    kd_put16((uint8_t *)buf + 8, (uint16_t)(total - 10));
    return total;
}

static kd_status write_columns(const table *t, const char *path, kd_err *err)
{
    kd_zip_writer *z = NULL;
    KD_TRY(kd_zip_writer_open(path, &z, err));
    for (size_t i = 0; i < t->n; i++) {
        const column *c = &t->col[i];
        char header[256];
        char name[64];
        if (c->item == 0) {
            continue; /* no features */
        }
        (void)snprintf(name, sizeof name, "%s.npy", c->name);
        const size_t n = npy_header(c, header, sizeof header);
        const kd_status st = kd_zip_writer_add2(z, name, header, n, c->data, c->used * c->item, err);
        if (st != KD_OK) {
            kd_zip_writer_abort(z);
            return st;
        }
    }
    return kd_zip_writer_commit(z, err);
}

/* Has a record an id of more than 64 bytes? */
static bool long_ids(const kd_store_index *ix)
{
    size_t longest = 0;
    for (size_t i = 0; i < ix->n; i++) {
        longest = KD_MAX(longest, strlen(ix->id[i]));
    }
    return longest > 64;
}

static void name_columns(table *t, const kd_store_manifest *m, bool wide)
{
    const size_t c = (size_t)m->n_classes;
    const size_t d = (size_t)m->feature_dim;
    t->n = KD_COUNTOF(t->col);
    t->col[IDS] = (column){.name = "ids", .descr = wide ? "|S255" : "|S64", .item = wide ? KD_STORE_ID_MAX : 64};
    t->col[LABEL] = (column){.name = "labels", .descr = "<i4", .item = 4};
    t->col[ORDER] = (column){.name = "order", .descr = "<u8", .item = 8};
    t->col[VIEWS] = (column){.name = "n_views", .descr = "<i4", .item = 4};
    t->col[VIEW_AT] = (column){.name = "view_offset", .descr = "<i8", .item = 8};
    t->col[LOGITS] = (column){.name = "logits", .descr = "<f4", .item = 4 * c, .width = c};
    t->col[PROB] = (column){.name = "prob", .descr = "<f4", .item = 4 * c, .width = c};
    t->col[FEATURE] = (column){.name = "feature", .descr = "<f4", .item = 4 * d, .width = d};
    t->col[VIEW] = (column){.name = "view", .descr = "<i4", .item = 20, .width = 5};
    t->col[SEED] = (column){.name = "seed", .descr = "<u8", .item = 8};
    t->col[FRAME_AT] = (column){.name = "frame_offset", .descr = "<i8", .item = 8};
    t->col[FRAMES] = (column){.name = "frames", .descr = "<i4", .item = 4};
    t->col[MANIFEST] = (column){.name = "manifest", .descr = "|u1", .item = 1};
}

kd_status kd_store_export_npz(const char *path, const char *out_path, kd_err *err)
{
    kd_store *s = NULL;
    kd_store_cursor *c = NULL;
    table t = {0};
    const int64_t zero = 0;
    kd_status st = KD_OK;
    KD_GO(kd_store_open(path, &s, err));
    KD_GO(kd_store_cursor_new(s, &c, err));
    name_columns(&t, &s->head.m, long_ids(&s->index));
    KD_GO(put(&t.col[VIEW_AT], &zero, err));
    KD_GO(put(&t.col[FRAME_AT], &zero, err));
    for (size_t i = 0; i < s->head.json_bytes; i++) {
        KD_GO(put(&t.col[MANIFEST], &s->head.json[i], err));
    }
    for (int64_t i = 0; i < kd_store_count(s); i++) {
        kd_store_record r;
        KD_GO(kd_store_read(c, i, &r, err));
        KD_GO(put_record(&t, &r, s->head.m.n_classes, err));
    }
    KD_GO(write_columns(&t, out_path, err));
done:
    for (size_t i = 0; i < KD_COUNTOF(t.col); i++) {
        kd_free(t.col[i].data);
    }
    kd_store_cursor_free(c);
    kd_store_close(s);
    return st;
}
