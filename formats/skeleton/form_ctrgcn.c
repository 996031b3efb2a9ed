/* Form CTR-GCN npz: x_train, y_train, x_test, y_test.  See archive.h. */
#include "formats/base/python/npy.h"
#include "formats/skeleton/archive_internal.h"

#include <stdio.h>

enum { MEMBER_SHIFT = 36, BODIES = 2, CHANNELS = 3 }; /* x_train of NTU120 has about 12 GiB */

typedef struct ctrgcn {
    kd_npz *z;
    kd_npy x[2];
    size_t first[3]; /* rows of half h: first[h] .. first[h + 1] - 1 */
} ctrgcn;

static const char *const HALF[2] = {"train", "test"};

static bool has(const kdi_found *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool takes(const kdi_found *f)
{
    return !f->folder && has(f, "x_train.npy") && has(f, "y_train.npy");
}

/* One-hot rows, or numbers. */
static kd_status labels(kdi_archive *a, const char *half, const kd_npy *y, size_t first, size_t n, kd_err *err)
{
    if (y->rank < 1 || y->rank > 2 || (size_t)y->dim[0] != n || y->kind == 'S' || y->kind == 'U') {
        return KD_FAIL(err, KD_E_FORMAT, "%s: y_%s: expected %zu rows of labels, as x_%s has", a->pub.path, half, n,
                       half);
    }
    const size_t classes = y->rank == 2 ? (size_t)y->dim[1] : 1;
    float *v = kd_alloc(KD_MAX(y->count, 1) * sizeof *v);
    kd_status st = v != NULL ? kd_npy_to_f32(y, v, err) : KD_FAIL(err, KD_E_OOM, "%s: no memory", a->pub.path);
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        int64_t label = -1;
        bool whole = true;
        for (size_t k = 0; k < classes; k++) {
            const float p = v[i * classes + k];
            if (y->rank == 1) {
                label = p >= 0.0f && p < 1e6f && p == (float)(int64_t)p ? (int64_t)p : -1;
            } else if (p != 0.0f) {
                whole = whole && p == 1.0f && label < 0;
                label = (int64_t)k;
            }
        }
        if (label < 0 || !whole) {
            st = KD_FAIL(err, KD_E_FORMAT, "%s: y_%s: row %zu: expected one class, found none or several", a->pub.path,
                         half, i);
        }
        a->pub.row[first + i].label = label;
    }
    kd_free(v);
    return st;
}

static kd_status open_half(kdi_archive *a, ctrgcn *c, int h, kd_err *err)
{
    char name[16];
    kd_npy *x = &c->x[h], y;
    (void)snprintf(name, sizeof name, "x_%s", HALF[h]);
    KD_TRY(kd_npz_get(c->z, name, x, err));
    (void)snprintf(name, sizeof name, "y_%s", HALF[h]);
    KD_TRY(kd_npz_get(c->z, name, &y, err));
    if (x->rank != 3 || x->kind != 'f' || x->fortran || x->dim[2] % (BODIES * CHANNELS) != 0) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "%s: x_%s: expected floats (N, T, 2 bodies x joints x 3), row-major, found %zu dimensions of "
                       "kind '%c', the last of %lld",
                       a->pub.path, HALF[h], x->rank, x->kind, x->rank > 0 ? (long long)x->dim[x->rank - 1] : 0);
    }
    const size_t n = (size_t)x->dim[0];
    KD_TRY(kdi_archive_numbered(a, HALF[h], n, n > 0 ? x->bytes / n : 0, err));
    c->first[h + 1] = a->pub.n;
    KD_TRY(kdi_archive_half_of(a, HALF[h], c->first[h], n, err));
    return labels(a, HALF[h], &y, c->first[h], n, err);
}

static kd_status open_ctrgcn(kdi_archive *a, const kdi_found *f, kd_err *err)
{
    ctrgcn *c = kd_calloc(1, sizeof *c);
    a->own = c;
    if (c == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for an archive", f->path);
    }
    KD_TRY(kd_npz_open(f->path, (size_t)1 << MEMBER_SHIFT, &c->z, err));
    KD_TRY(open_half(a, c, 0, err));
    c->first[2] = c->first[1];
    return has(f, "x_test.npy") ? open_half(a, c, 1, err) : KD_OK;
}

static kd_status read_ctrgcn(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err)
{
    const ctrgcn *c = a->own;
    const int h = row >= c->first[1];
    kd_npy one;
    const bool there = kd_npy_row(&c->x[h], row - c->first[h], &one);
    KD_ASSERT(there);
    float *x = kd_alloc(KD_MAX(one.count, 1) * sizeof *x);
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu numbers", one.count);
    }
    kdi_numbers n = {.x = x,
                     .frames = (size_t)one.dim[0],
                     .bodies = BODIES,
                     .joints = (size_t)one.dim[1] / (BODIES * CHANNELS),
                     .channels = CHANNELS,
                     .st = (size_t)one.dim[1],
                     .sv = CHANNELS,
                     .sc = 1,
                     .padded = true};
    n.sm = n.joints * CHANNELS;
    kd_status st = kd_npy_to_f32(&one, x, err);
    st = st == KD_OK ? kdi_archive_skeleton(a, &n, o, out, err) : st;
    kd_free(x);
    return st;
}

static void close_ctrgcn(kdi_archive *a)
{
    ctrgcn *c = a->own;
    if (c != NULL) {
        kd_npz_close(c->z);
        kd_free(c);
    }
}

const kdi_form kdi_form_ctrgcn = {"CTR-GCN npz", takes, open_ctrgcn, read_ctrgcn, close_ctrgcn};
