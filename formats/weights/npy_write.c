/* NumPy files of tensors: see npy_write.h. */
#include "formats/weights/npy_write.h"

#include "formats/base/io.h"
#include "formats/base/zip.h"

#include <stdio.h>

bool kd_npy_dtype(const kd_npy *a, kd_st_dtype *out)
{
    static const struct {
        char kind;
        kd_st_dtype t;
        size_t item;
    } map[] = {
        {'b', KD_ST_BOOL, 1}, {'i', KD_ST_I8, 1},  {'i', KD_ST_I16, 2}, {'i', KD_ST_I32, 4},
        {'i', KD_ST_I64, 8},  {'u', KD_ST_U8, 1},  {'u', KD_ST_U16, 2}, {'u', KD_ST_U32, 4},
        {'u', KD_ST_U64, 8},  {'f', KD_ST_F16, 2}, {'f', KD_ST_F32, 4}, {'f', KD_ST_F64, 8},
    };
    for (size_t i = 0; i < KD_COUNTOF(map); i++) {
        if (map[i].kind == a->kind && map[i].item == a->item) {
            *out = map[i].t;
            return true;
        }
    }
    return false;
}

/* Header for `descr` ("<f4") and shape into buf; bytes used, 0 when it does not fit. */
static size_t npy_header(char *buf, size_t cap, const char *descr, size_t rank, const int64_t *dim)
{
    char shape[24 * KD_NPY_MAX_RANK + 4] = "";
    size_t n = 0;
    if (rank > KD_NPY_MAX_RANK) {
        return 0;
    }
    for (size_t k = 0; k < rank; k++) {
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%lld", k > 0 ? ", " : "", (long long)dim[k]);
    }
    if (rank == 1) {
        (void)snprintf(shape + n, sizeof shape - n, ",");
    }
    char text[sizeof shape + 128];
    const int len =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    if (len < 0 || (size_t)len >= sizeof text) {
        return 0;
    }
    const size_t total = (10 + (size_t)len + 1 + 63) / 64 * 64;
    if (total > cap) {
        return 0;
    }
    memset(buf, ' ', total);
    memcpy(buf, "\x93NUMPY\x01\x00", 8);
    buf[8] = (char)((total - 10) & 0xff);
    buf[9] = (char)((total - 10) >> 8);
    memcpy(buf + 10, text, (size_t)len);
    buf[total - 1] = '\n';
    return total;
}

static kd_status describe(const kd_st_tensor *t, char *header, size_t cap, size_t *used, size_t *bytes, kd_err *err)
{
    static const struct {
        kd_st_dtype t;
        const char *descr;
    } map[] = {
        {KD_ST_BOOL, "|b1"}, {KD_ST_I8, "|i1"},  {KD_ST_U8, "|u1"},  {KD_ST_I16, "<i2"},
        {KD_ST_U16, "<u2"},  {KD_ST_F16, "<f2"}, {KD_ST_I32, "<i4"}, {KD_ST_U32, "<u4"},
        {KD_ST_F32, "<f4"},  {KD_ST_I64, "<i8"}, {KD_ST_U64, "<u8"}, {KD_ST_F64, "<f8"},
    };
    const char *descr = NULL;
    for (size_t i = 0; i < KD_COUNTOF(map); i++) {
        if (map[i].t == t->dtype) {
            descr = map[i].descr;
        }
    }
    if (descr == NULL) {
        return KD_FAIL(err, KD_E_DTYPE, "array %s: NumPy has no %s; convert to f32 first", t->name,
                       kd_st_dtype_name(t->dtype));
    }
    size_t n = kd_st_dtype_bits(t->dtype) / 8;
    for (size_t k = 0; k < t->rank; k++) {
        if (t->dim[k] < 0 || !kd_size_mul(n, (size_t)t->dim[k], &n)) {
            return KD_FAIL(err, KD_E_ARG, "array %s: its shape is out of range", t->name);
        }
    }
    *bytes = n;
    *used = npy_header(header, cap, descr, t->rank, t->dim);
    return *used > 0 ? KD_OK : KD_FAIL(err, KD_E_ARG, "array %s: more than %d dimensions", t->name, KD_NPY_MAX_RANK);
}

kd_status kd_npy_write(const char *path, const kd_st_tensor *t, kd_err *err)
{
    char header[512];
    size_t used = 0;
    size_t bytes = 0;
    kd_writer *w = NULL;
    KD_TRY(describe(t, header, sizeof header, &used, &bytes, err));
    KD_TRY(kd_writer_open(path, &w, err));
    kd_status st = kd_writer_put(w, header, used, err);
    if (st == KD_OK) {
        st = kd_writer_put(w, t->data, bytes, err);
    }
    if (st != KD_OK) {
        kd_writer_abort(w);
        return st;
    }
    return kd_writer_commit(w, err);
}

kd_status kd_npz_write(const char *path, const kd_st_tensor *t, size_t n, kd_err *err)
{
    kd_status st = KD_OK;
    kd_zip_writer *w = NULL;
    KD_TRY(kd_zip_writer_open(path, &w, err));
    for (size_t i = 0; i < n; i++) {
        char header[512];
        size_t used = 0;
        size_t bytes = 0;
        KD_GO(describe(&t[i], header, sizeof header, &used, &bytes, err));
        char *name = kd_strf("%s.npy", t[i].name);
        if (name == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
            goto done;
        }
        st = kd_zip_writer_add2(w, name, header, used, t[i].data, bytes, err);
        kd_free(name);
        if (st != KD_OK) {
            goto done;
        }
    }
    st = kd_zip_writer_commit(w, err);
    w = NULL;
done:
    kd_zip_writer_abort(w);
    return st;
}
