/* NumPy archives: see npy.h. */
#include "formats/base/io.h"
#include "formats/base/python/npy.h"
#include "formats/base/zip.h"

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
