/* Form npz: one array a sample, id -> (T, V, C) or (M, T, V, C).  See archive.h. */
#include "formats/base/python/npy.h"
#include "formats/base/zip.h"
#include "formats/skeleton/archive_internal.h"

enum { MEMBER_SHIFT = 30 }; /* at most 1 GiB a sample */

typedef struct npz {
    kd_map map;
    kd_zip *zip; /* its members are the rows, in their order */
} npz;

static bool takes(const kdi_found *f)
{
    return !f->folder && f->n > 0;
}

static kd_status open_npz(kdi_archive *a, const kdi_found *f, kd_err *err)
{
    npz *z = kd_calloc(1, sizeof *z);
    a->own = z;
    if (z == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for an archive", f->path);
    }
    KD_TRY(kd_io_map(f->path, &z->map, err));
    KD_TRY(kd_zip_parse(z->map.data, z->map.bytes, f->path, &z->zip, err));
    KD_TRY(kd_zip_check_claims(z->zip, err));
    for (size_t i = 0; i < kd_zip_count(z->zip); i++) {
        const kd_zip_entry *e = kd_zip_at(z->zip, i);
        const size_t n = strlen(e->name);
        if (n <= 4 || strcmp(e->name + n - 4, ".npy") != 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: expected arrays, found the member %s", f->path, e->name);
        }
        KD_TRY(kdi_archive_row(a, e->name, n - 4, -1, e->bytes, err));
    }
    return KD_OK;
}

static kd_status skeleton_of(const kdi_archive *a, const kd_npy *array, const kd_skel_opts *o, kd_skeleton *out,
                             kd_err *err)
{
    if ((array->rank != 3 && array->rank != 4) || array->kind == 'S' || array->kind == 'U') {
        return KD_FAIL(err, KD_E_DATA, "expected numbers (T, V, C) or (M, T, V, C), found %zu dimensions of kind '%c'",
                       array->rank, array->kind);
    }
    float *x = kd_alloc(KD_MAX(array->count, 1) * sizeof *x);
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu numbers", array->count);
    }
    const int64_t *d = array->dim + (array->rank - 3);
    kdi_numbers n = {.x = x,
                     .frames = (size_t)d[0],
                     .bodies = array->rank == 4 ? (size_t)array->dim[0] : 1,
                     .joints = (size_t)d[1],
                     .channels = (size_t)d[2],
                     .sc = 1};
    n.sv = n.channels;
    n.st = n.joints * n.sv;
    n.sm = n.frames * n.st;
    kd_status st = kd_npy_to_f32(array, x, err);
    st = st == KD_OK ? kdi_archive_skeleton(a, &n, o, out, err) : st;
    kd_free(x);
    return st;
}

static kd_status read_npz(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err)
{
    const npz *z = a->own;
    const kd_zip_entry *e = kd_zip_at(z->zip, row);
    uint8_t *unpacked = NULL;
    kd_npy array;
    kd_status st;
    if (e->method != 0) {
        KD_GO(kd_zip_read(z->zip, e, (size_t)1 << MEMBER_SHIFT, &unpacked, err));
    } else {
        KD_GO(kd_zip_check_stored(z->zip, e, err));
    }
    KD_GO(kd_npy_parse(unpacked != NULL ? unpacked : e->data, (size_t)e->bytes, "array", &array, err));
    st = skeleton_of(a, &array, o, out, err);
done:
    kd_free(unpacked);
    return st;
}

static void close_npz(kdi_archive *a)
{
    npz *z = a->own;
    if (z != NULL) {
        kd_zip_close(z->zip);
        kd_io_unmap(&z->map);
        kd_free(z);
    }
}

const kdi_form kdi_form_npz = {"npz", takes, open_npz, read_npz, close_npz};
