/* Form LAST arrays: {train,val}_joint.npy and {train,val}_label.pkl in one folder.  See archive.h. */
#include "formats/base/python/ndarray.h"
#include "formats/skeleton/archive_internal.h"

#include <stdio.h>

enum { LABEL_BYTES_SHIFT = 28, CHANNELS = 3 };

typedef struct last {
    kd_npy_file *x[2];
    size_t first[3]; /* rows of half h: first[h] .. first[h + 1] - 1 */
} last;

static const char *const HALF[2] = {"train", "val"};

static bool has(const kdi_found *f, const char *half, const char *tail)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%s_%s", half, tail);
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool takes(const kdi_found *f)
{
    return f->folder && (has(f, HALF[0], "joint.npy") || has(f, HALF[1], "joint.npy"));
}

/* The rows of a half: named by the pickle, or numbered. */
static kd_status add_rows(kdi_archive *a, const char *path, int h, const kd_pk_node *root, const kd_npy *x, kd_err *err)
{
    KD_ASSERT(x->dim != NULL); /* open_half saw its rank */
    char found[160];
    const size_t first = a->pub.n, n = (size_t)x->dim[0];
    const bool pair = root->type == KD_PK_TUPLE && kd_pk_count(root) == 2;
    const kd_pk_node *names = pair ? kd_pk_at(root, 0) : NULL, *labels = pair ? kd_pk_at(root, 1) : root;
    const uint64_t bytes = n > 0 ? x->bytes / n : 0;
    kd_pk_describe(root, found, sizeof found);
    if (kd_pk_count(labels) != n || labels->type == KD_PK_DICT || (pair && kd_pk_count(names) != n)) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "%s: expected %zu labels, as %s_joint.npy has rows, alone or after as many names, found %s of "
                       "%zu",
                       path, n, HALF[h], found, kd_pk_count(labels));
    }
    if (!pair) {
        KD_TRY(kdi_archive_numbered(a, HALF[h], n, bytes, err));
    }
    for (size_t i = 0; i < n; i++) {
        int64_t label;
        const kd_pk_node *name = kd_pk_at(names, i);
        if (!kd_pk_whole(kd_pk_at(labels, i), &label) || label < 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: label %zu: expected a class from 0 on", path, i);
        }
        if (pair && name->type != KD_PK_STR) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: name %zu: expected text", path, i);
        }
        if (pair) {
            KD_TRY(kdi_archive_row(a, name->u.s.text, name->u.s.size, label, bytes, err));
        }
        a->pub.row[first + i].label = label;
    }
    return kdi_archive_half_of(a, HALF[h], first, n, err);
}

static kd_status read_labels(kdi_archive *a, const char *path, int h, const kd_npy *x, kd_err *err)
{
    uint8_t *data = NULL;
    size_t bytes = 0, used = 0;
    kd_pk *doc = NULL;
    kd_status st;
    KD_GO(kd_io_read_file(path, (size_t)1 << LABEL_BYTES_SHIFT, &data, &bytes, err));
    KD_GO(kd_pk_parse(data, bytes, path, &doc, &used, err));
    st = used == bytes ? add_rows(a, path, h, kd_pk_root(doc), x, err)
                       : KD_FAIL(err, KD_E_FORMAT, "%s: byte %zu: expected the end behind the pickle", path, used);
done:
    kd_pk_free(doc);
    kd_free(data);
    return st;
}

static kd_status open_half(kdi_archive *a, last *l, int h, kd_err *err)
{
    char *array = kd_strf("%s/%s_joint.npy", a->pub.path, HALF[h]);
    char *label = kd_strf("%s/%s_label.pkl", a->pub.path, HALF[h]);
    kd_status st = array != NULL && label != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory", a->pub.path);
    st = st == KD_OK ? kd_npy_open(array, &l->x[h], err) : st;
    const kd_npy *x = st == KD_OK ? kd_npy_array(l->x[h]) : NULL;
    if (x != NULL && (x->rank != 5 || x->kind != 'f' || x->fortran || x->dim[1] != CHANNELS)) {
        st = KD_FAIL(err, KD_E_FORMAT,
                     "%s: expected floats (N, 3, T, V, M), row-major, found %zu dimensions of kind '%c'", array,
                     x->rank, x->kind);
    }
    st = st == KD_OK ? read_labels(a, label, h, x, err) : st;
    kd_free(array);
    kd_free(label);
    return st;
}

static kd_status open_last(kdi_archive *a, const kdi_found *f, kd_err *err)
{
    last *l = kd_calloc(1, sizeof *l);
    a->own = l;
    if (l == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for an archive", f->path);
    }
    for (int h = 0; h < 2; h++) {
        l->first[h] = a->pub.n;
        KD_TRY(has(f, HALF[h], "joint.npy") ? open_half(a, l, h, err) : KD_OK);
    }
    l->first[2] = a->pub.n;
    return KD_OK;
}

static kd_status read_last(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err)
{
    const last *l = a->own;
    const int h = row >= l->first[1];
    kd_npy one;
    const bool there = kd_npy_row(kd_npy_array(l->x[h]), row - l->first[h], &one);
    KD_ASSERT(there);
    float *x = kd_alloc(KD_MAX(one.count, 1) * sizeof *x);
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu numbers", one.count);
    }
    kdi_numbers n = {.x = x,
                     .frames = (size_t)one.dim[1],
                     .joints = (size_t)one.dim[2],
                     .bodies = (size_t)one.dim[3],
                     .channels = CHANNELS,
                     .sm = 1};
    n.sv = n.bodies;
    n.st = n.joints * n.sv;
    n.sc = n.frames * n.st;
    kd_status st = kd_npy_to_f32(&one, x, err);
    st = st == KD_OK ? kdi_archive_skeleton(a, &n, o, out, err) : st;
    kd_free(x);
    return st;
}

static void close_last(kdi_archive *a)
{
    last *l = a->own;
    if (l != NULL) {
        kd_npy_close(l->x[0]);
        kd_npy_close(l->x[1]);
        kd_free(l);
    }
}

const kdi_form kdi_form_last = {"LAST arrays", takes, open_last, read_last, close_last};
