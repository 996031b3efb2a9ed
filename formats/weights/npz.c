/* NumPy archives and writers: see npy.h. */
#include "formats/base/io.h"
#include "formats/base/zip.h"
#include "formats/weights/npy.h"

#include <stdio.h>

struct kd_npz {
    kd_map map;
    kd_zip *zip;
    char *path;
    size_t max_bytes;
    uint8_t **unpacked; /* by member of the archive; NULL: stored, or not used yet */
    bool *checked;
    char **name; /* without ".npy" */
    size_t count;
};

static kd_status read_names(kd_npz *z, kd_err *err)
{
    const size_t n = kd_zip_count(z->zip);
    z->unpacked = kd_calloc(n + 1, sizeof *z->unpacked);
    z->checked = kd_calloc(n + 1, sizeof *z->checked);
    z->name = kd_calloc(n + 1, sizeof *z->name);
    if (z->unpacked == NULL || z->checked == NULL || z->name == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", z->path);
    }
    for (size_t i = 0; i < n; i++) {
        char *name = kd_strdup(kd_zip_at(z->zip, i)->name);
        if (name == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", z->path);
        }
        z->name[i] = name;
        z->count = i + 1;
        const size_t len = strlen(name);
        if (len <= 4 || strcmp(name + len - 4, ".npy") != 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: member %s is not an array", z->path, name);
        }
        name[len - 4] = '\0';
    }
    return KD_OK;
}

kd_status kd_npz_open(const char *path, size_t max_bytes, kd_npz **out, kd_err *err)
{
    *out = NULL;
    kd_status st = KD_OK;
    kd_npz *z = kd_calloc(1, sizeof *z);
    if (z != NULL) {
        z->path = kd_strdup(path);
    }
    if (z == NULL || z->path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    z->max_bytes = max_bytes;
    KD_GO(kd_io_map(path, &z->map, err));
    KD_GO(kd_zip_parse(z->map.data, z->map.bytes, path, &z->zip, err));
    KD_GO(kd_zip_check_claims(z->zip, err));
    KD_GO(read_names(z, err));
    *out = z;
    z = NULL;
done:
    kd_npz_close(z);
    return st;
}

void kd_npz_close(kd_npz *z)
{
    if (z == NULL) {
        return;
    }
    for (size_t i = 0; i < z->count; i++) {
        kd_free(z->name[i]);
        kd_free(z->unpacked[i]);
    }
    kd_free(z->name);
    kd_free(z->unpacked);
    kd_free(z->checked);
    kd_zip_close(z->zip);
    kd_io_unmap(&z->map);
    kd_free(z->path);
    kd_free(z);
}

size_t kd_npz_count(const kd_npz *z)
{
    return z->count;
}

const char *kd_npz_name(const kd_npz *z, size_t i)
{
    return i < z->count ? z->name[i] : NULL;
}

kd_status kd_npz_get(kd_npz *z, const char *name, kd_npy *out, kd_err *err)
{
    size_t i = 0;
    while (i < z->count && strcmp(z->name[i], name) != 0) {
        i++;
    }
    if (i == z->count) {
        return KD_FAIL(err, KD_E_DATA, "%s: no array %s in it", z->path, name);
    }
    const kd_zip_entry *e = kd_zip_at(z->zip, i);
    const uint8_t *data = e->data;
    if (e->method != 0) {
        if (z->unpacked[i] == NULL) {
            KD_TRY(kd_zip_read(z->zip, e, z->max_bytes, &z->unpacked[i], err));
        }
        data = z->unpacked[i];
    } else if (!z->checked[i]) {
        KD_TRY(kd_zip_check_stored(z->zip, e, err));
        z->checked[i] = true;
    }
    kd_err why = {0};
    const kd_status st = kd_npy_parse(data, (size_t)e->bytes, e->name, out, &why);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "%s: %s", z->path, why.msg);
}

/* ---- writing --------------------------------------------------------------------------------- */

size_t kd_npy_header(char *buf, size_t cap, const char *descr, size_t rank, const int64_t *dim)
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
    *used = kd_npy_header(header, cap, descr, t->rank, t->dim);
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
