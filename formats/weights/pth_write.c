/* PyTorch file writer: a protocol 2 pickle of four globals, and one zip member a storage.  See pth.h. */
#include "formats/base/zip.h"
#include "formats/weights/pth.h"

#include <stdio.h>

typedef struct text {
    uint8_t *p;
    size_t used;
    size_t cap;
    bool failed;
} text;

static void put(text *t, const void *data, size_t n)
{
    if (t->failed) {
        return;
    }
    if (n > t->cap - t->used) {
        const size_t cap = KD_MAX(t->cap * 2, t->used + n + 4096);
        uint8_t *p = kd_realloc(t->p, t->used, cap);
        if (p == NULL) {
            t->failed = true;
            return;
        }
        t->p = p;
        t->cap = cap;
    }
    memcpy(t->p + t->used, data, n);
    t->used += n;
}

static void op(text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_str(text *t, const char *s)
{
    const size_t n = strlen(s);
    const uint8_t head[5] = {'X', (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    put(t, head, sizeof head);
    put(t, s, n);
}

static void put_int(text *t, int64_t v)
{
    uint8_t b[10] = {0x8a, 8};
    for (unsigned i = 0; i < 8; i++) {
        b[2 + i] = (uint8_t)((uint64_t)v >> (8 * i));
    }
    if (v >= 0 && v < 256) {
        const uint8_t k[2] = {'K', (uint8_t)v};
        put(t, k, sizeof k);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        b[1] = 'J';
        put(t, b + 1, 5);
    } else {
        put(t, b, sizeof b);
    }
}

static const char *storage_name(kd_st_dtype t)
{
    switch (t) {
    case KD_ST_F32:
        return "FloatStorage";
    case KD_ST_F16:
        return "HalfStorage";
    case KD_ST_BF16:
        return "BFloat16Storage";
    case KD_ST_F64:
        return "DoubleStorage";
    case KD_ST_I64:
        return "LongStorage";
    case KD_ST_I32:
        return "IntStorage";
    case KD_ST_I16:
        return "ShortStorage";
    case KD_ST_I8:
        return "CharStorage";
    case KD_ST_U8:
        return "ByteStorage";
    case KD_ST_BOOL:
        return "BoolStorage";
    case KD_ST_C64:
        return "ComplexFloatStorage";
    default:
        return NULL;
    }
}

static kd_status tensor_size(const kd_st_tensor *t, size_t *count, kd_err *err)
{
    size_t n = 1;
    for (size_t k = 0; k < t->rank; k++) {
        if (t->dim[k] < 0 || !kd_size_mul(n, (size_t)t->dim[k], &n)) {
            return KD_FAIL(err, KD_E_ARG, "tensor %s: its shape is out of range", t->name);
        }
    }
    if (storage_name(t->dtype) == NULL || t->rank > KD_PTH_MAX_RANK) {
        return KD_FAIL(err, KD_E_DTYPE, "tensor %s: %s of rank %zu has no form in a .pth file", t->name,
                       kd_st_dtype_name(t->dtype), t->rank);
    }
    *count = n;
    return KD_OK;
}

static kd_status put_tensor(text *out, const kd_st_tensor *t, size_t index, kd_err *err)
{
    size_t count = 0;
    KD_TRY(tensor_size(t, &count, err));
    int64_t stride[KD_PTH_MAX_RANK];
    int64_t step = 1;
    for (size_t k = t->rank; k-- > 0;) {
        stride[k] = step;
        step *= KD_MAX(t->dim[k], (int64_t)1);
    }
    char key[32];
    (void)snprintf(key, sizeof key, "%zu", index);
    put_str(out, t->name);
    op(out, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_str(out, "storage");
    op(out, "ctorch\n");
    op(out, storage_name(t->dtype));
    op(out, "\n");
    put_str(out, key);
    put_str(out, "cpu");
    put_int(out, (int64_t)count);
    op(out, "tQ");
    put_int(out, 0);
    op(out, "(");
    for (size_t k = 0; k < t->rank; k++) {
        put_int(out, t->dim[k]);
    }
    op(out, "t(");
    for (size_t k = 0; k < t->rank; k++) {
        put_int(out, stride[k]);
    }
    op(out, "t\x89"
            "ccollections\nOrderedDict\n)RtR"); /* no gradient, no hooks */
    return KD_OK;
}

static kd_status put_pickle(text *out, const char *key, const kd_st_tensor *t, size_t n, kd_err *err)
{
    op(out, "\x80\x02");
    if (key != NULL) {
        op(out, "}");
        put_str(out, key);
    }
    op(out, "ccollections\nOrderedDict\n)R(");
    for (size_t i = 0; i < n; i++) {
        KD_TRY(put_tensor(out, &t[i], i, err));
    }
    op(out, key != NULL ? "us." : "u.");
    return out->failed ? KD_FAIL(err, KD_E_OOM, "no memory for the pickle of a .pth") : KD_OK;
}

kd_status kd_pth_write_from(const char *path, const char *key, const kd_st_tensor *t, size_t n, kd_pth_source source,
                            void *ctx, kd_err *err)
{
    kd_status st = KD_OK;
    kd_zip_writer *w = NULL;
    text pickle = {NULL, 0, 0, false};
    KD_GO(put_pickle(&pickle, key, t, n, err));
    KD_GO(kd_zip_writer_open(path, &w, err));
    KD_GO(kd_zip_writer_add(w, "archive/data.pkl", pickle.p, pickle.used, err));
    KD_GO(kd_zip_writer_add(w, "archive/byteorder", "little", 6, err));
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        const void *data = NULL;
        char name[48];
        (void)snprintf(name, sizeof name, "archive/data/%zu", i);
        KD_GO(tensor_size(&t[i], &count, err));
        KD_GO(source(ctx, i, &data, err));
        KD_GO(kd_zip_writer_add(w, name, data, count * (kd_st_dtype_bits(t[i].dtype) / 8), err));
    }
    KD_GO(kd_zip_writer_add(w, "archive/version", "3\n", 2, err));
    st = kd_zip_writer_commit(w, err);
    w = NULL;
done:
    kd_zip_writer_abort(w);
    kd_free(pickle.p);
    return st;
}

static kd_status from_memory(void *ctx, size_t i, const void **data, kd_err *err)
{
    (void)err;
    *data = ((const kd_st_tensor *)ctx)[i].data;
    return KD_OK;
}

kd_status kd_pth_write(const char *path, const char *key, const kd_st_tensor *t, size_t n, kd_err *err)
{
    return kd_pth_write_from(path, key, t, n, from_memory, (void *)(uintptr_t)t, err);
}
