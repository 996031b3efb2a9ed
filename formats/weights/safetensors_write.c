/* safetensors writer: see safetensors.h. */
#include "formats/base/io.h"
#include "formats/weights/safetensors.h"

#include <stdlib.h>

struct kd_st_writer {
    kd_writer *file;
    size_t *order;
    size_t count;
    uint64_t expected; /* bytes of data all tensors together have */
    uint64_t put;
};

static int file_order(const void *a, const void *b, void *ctx)
{
    const kd_st_tensor *t = ctx;
    const kd_st_tensor *x = &t[*(const size_t *)a];
    const kd_st_tensor *y = &t[*(const size_t *)b];
    if (x->dtype != y->dtype) {
        return x->dtype > y->dtype ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static kd_status tensor_bytes(const kd_st_tensor *t, size_t *bytes, kd_err *err)
{
    size_t n = kd_st_dtype_bits(t->dtype);
    for (size_t k = 0; k < t->rank; k++) {
        if (t->dim[k] < 0 || !kd_size_mul(n, (size_t)t->dim[k], &n)) {
            return KD_FAIL(err, KD_E_ARG, "tensor %s: dimension %zu (%lld) is out of range", t->name, k,
                           (long long)t->dim[k]);
        }
    }
    if (n % 8 != 0) {
        return KD_FAIL(err, KD_E_ARG, "tensor %s: no whole number of bytes", t->name);
    }
    *bytes = n / 8;
    return KD_OK;
}

static kd_status build_header(kd_st_writer *w, const kd_st_tensor *t, const kd_json *meta, kd_json *doc, kd_err *err)
{
    if (kd_json_count(meta) > 0) {
        kd_json_set_copy(doc, "__metadata__", meta);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < w->count; i++) {
        const kd_st_tensor *x = &t[w->order[i]];
        if (kd_json_get(doc, x->name) != NULL || strcmp(x->name, "__metadata__") == 0) {
            return KD_FAIL(err, KD_E_ARG, "tensor name \"%s\" is used twice or reserved", x->name);
        }
        size_t bytes = 0;
        KD_TRY(tensor_bytes(x, &bytes, err));
        kd_json *e = kd_json_set_object(doc, x->name);
        kd_json_set_str(e, "dtype", kd_st_dtype_name(x->dtype));
        kd_json_set_i64s(e, "shape", x->dim, x->rank);
        const int64_t range[2] = {(int64_t)at, (int64_t)(at + bytes)};
        kd_json_set_i64s(e, "data_offsets", range, 2);
        at += bytes;
    }
    w->expected = at;
    return KD_OK;
}

/* The length of the header, the header, its padding: *out (kd_free). */
static kd_status format_header(const kd_json *doc, char **out, size_t *bytes, kd_err *err)
{
    char *text = NULL;
    size_t n = 0;
    KD_TRY(kd_json_dump(doc, KD_JSON_COMPACT, &text, &n, err));
    const size_t padded = (n + 7) & ~(size_t)7;
    char *head = kd_alloc(8 + padded);
    if (head == NULL) {
        kd_free(text);
        return KD_FAIL(err, KD_E_OOM, "safetensors: out of memory");
    }
    for (unsigned i = 0; i < 8; i++) {
        head[i] = (char)(uint8_t)((uint64_t)padded >> (8 * i));
    }
    memcpy(head + 8, text, n);
    memset(head + 8 + n, ' ', padded - n);
    kd_free(text);
    *out = head;
    *bytes = 8 + padded;
    return KD_OK;
}

static kd_status put_header(kd_st_writer *w, const kd_json *doc, kd_err *err)
{
    char *head = NULL;
    size_t n = 0;
    KD_TRY(format_header(doc, &head, &n, err));
    const kd_status st = kd_writer_put(w->file, head, n, err);
    kd_free(head);
    return st;
}

/* Without a file.  *doc is the header, kd_json_free. */
static kd_status describe(const kd_st_tensor *t, size_t n, const kd_json *meta, kd_st_writer **out, kd_json **doc,
                          kd_err *err)
{
    kd_st_writer *w = kd_calloc(1, sizeof *w);
    *out = w;
    *doc = kd_json_object();
    if (w != NULL) {
        w->order = kd_calloc(n + 1, sizeof *w->order);
    }
    if (w == NULL || w->order == NULL || *doc == NULL) {
        return KD_FAIL(err, KD_E_OOM, "safetensors: out of memory");
    }
    w->count = n;
    for (size_t i = 0; i < n; i++) {
        w->order[i] = i;
    }
    if (n > 1) {
        qsort_r(w->order, n, sizeof *w->order, file_order, (void *)(uintptr_t)t);
    }
    return build_header(w, t, meta, *doc, err);
}

kd_status kd_st_writer_open(const char *path, const kd_st_tensor *t, size_t n, const kd_json *meta, kd_st_writer **out,
                            kd_err *err)
{
    *out = NULL;
    kd_status st = KD_OK;
    kd_json *doc = NULL;
    kd_st_writer *w = NULL;
    KD_GO(describe(t, n, meta, &w, &doc, err));
    KD_GO(kd_writer_open(path, &w->file, err));
    KD_GO(put_header(w, doc, err));
    *out = w;
    w = NULL;
done:
    kd_json_free(doc);
    kd_st_writer_abort(w);
    return st;
}

size_t kd_st_writer_order(const kd_st_writer *w, size_t i)
{
    KD_ASSERT(i < w->count);
    return w->order[i];
}

kd_status kd_st_writer_put(kd_st_writer *w, const void *data, size_t bytes, kd_err *err)
{
    if (bytes > w->expected - w->put) {
        return KD_FAIL(err, KD_E_ARG, "more bytes of tensor data than the header declares (%llu)",
                       (unsigned long long)w->expected);
    }
    w->put += bytes;
    return kd_writer_put(w->file, data, bytes, err);
}

kd_status kd_st_writer_commit(kd_st_writer *w, kd_err *err)
{
    kd_status st = KD_OK;
    if (w->put != w->expected) {
        st = KD_FAIL(err, KD_E_ARG, "%llu bytes of tensor data given, the header declares %llu",
                     (unsigned long long)w->put, (unsigned long long)w->expected);
    } else {
        st = kd_writer_commit(w->file, err);
        w->file = NULL;
    }
    kd_st_writer_abort(w);
    return st;
}

void kd_st_writer_abort(kd_st_writer *w)
{
    if (w == NULL) {
        return;
    }
    kd_writer_abort(w->file);
    kd_free(w->order);
    kd_free(w);
}

kd_status kd_st_write(const char *path, const kd_st_tensor *t, size_t n, const kd_json *meta, kd_err *err)
{
    kd_st_writer *w = NULL;
    KD_TRY(kd_st_writer_open(path, t, n, meta, &w, err));
    for (size_t i = 0; i < n; i++) {
        const kd_st_tensor *x = &t[kd_st_writer_order(w, i)];
        size_t bytes = 0;
        kd_status st = tensor_bytes(x, &bytes, err);
        if (st == KD_OK) {
            st = kd_st_writer_put(w, x->data, bytes, err);
        }
        if (st != KD_OK) {
            kd_st_writer_abort(w);
            return st;
        }
    }
    return kd_st_writer_commit(w, err);
}

kd_status kd_st_image(const kd_st_tensor *t, size_t n, const kd_json *meta, void **out, size_t *bytes, kd_err *err)
{
    kd_status st = KD_OK;
    kd_json *doc = NULL;
    kd_st_writer *w = NULL;
    char *head = NULL, *image = NULL;
    size_t at = 0;
    *out = NULL;
    KD_GO(describe(t, n, meta, &w, &doc, err));
    KD_GO(format_header(doc, &head, &at, err));
    image = kd_alloc(at + (size_t)w->expected);
    if (image == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "safetensors: out of memory");
        goto done;
    }
    memcpy(image, head, at);
    for (size_t i = 0; i < n; i++) {
        const kd_st_tensor *x = &t[w->order[i]];
        size_t size = 0;
        KD_GO(tensor_bytes(x, &size, err));
        if (size > 0) {
            memcpy(image + at, x->data, size);
        }
        at += size;
    }
    *out = image;
    *bytes = at;
    image = NULL;
done:
    kd_free(image);
    kd_free(head);
    kd_json_free(doc);
    kd_st_writer_abort(w);
    return st;
}
