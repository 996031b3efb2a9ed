/* Form pickle: the skeletons of pyskl and MMAction2.  See archive.h. */
#include "formats/base/python/ndarray.h"
#include "formats/skeleton/archive_internal.h"

#include <stdio.h>

typedef struct pickle {
    kd_map map;
    kd_pk *doc;
    const kd_pk_node **sample; /* the annotation of every row */
    size_t none;               /* annotations that are None */
} pickle;

static bool takes(const kdi_found *f)
{
    return !f->folder && f->magic[0] == 0x80 && f->magic[1] >= 2 && f->magic[1] <= 5;
}

static const char *said(const kd_pk_node *n, char text[160])
{
    kd_pk_describe(n, text, 160);
    return text;
}

/* Bytes of an array in the file, as far as they can be had without unpacking. */
static uint64_t bytes_of(const kd_pk_node *array)
{
    kd_npy a;
    uint8_t *own = NULL;
    const bool ok = kd_pk_array(array, "", &a, &own, NULL) == KD_OK;
    const uint64_t bytes = ok ? a.bytes : 0;
    kd_free(own);
    return bytes;
}

static kd_status add_sample(kdi_archive *a, pickle *p, const kd_pk_node *n, size_t i, const char *key, kd_err *err)
{
    char found[160];
    int64_t label = -1;
    if (n->type == KD_PK_NONE) { /* a clip without a skeleton: the split may still name it */
        p->none++;
        return KD_OK;
    }
    const kd_pk_node *id = kd_pk_get(n, key), *of = kd_pk_get(n, "label"), *x = kd_pk_get(n, "keypoint");
    if (n->type != KD_PK_DICT) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: annotation %zu: expected a dict, found %s", a->pub.path, i,
                       said(n, found));
    }
    if (id == NULL || id->type != KD_PK_STR) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: annotation %zu: '%s': expected a name, found %s", a->pub.path, i, key,
                       said(id, found));
    }
    if (of != NULL && of->type != KD_PK_NONE && (!kd_pk_whole(of, &label) || label < 0)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: annotation %zu: 'label': expected a class from 0 on, found %s",
                       a->pub.path, i, said(of, found));
    }
    if (!kd_pk_is_array(x)) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "%s: annotation %zu: 'keypoint': expected a NumPy array (M, T, V, C), found %s", a->pub.path, i,
                       said(x, found));
    }
    p->sample[a->pub.n] = n;
    return kdi_archive_row(a, id->u.s.text, id->u.s.size, label, bytes_of(x), err);
}

static kd_status add_samples(kdi_archive *a, pickle *p, const kd_pk_node *list, kd_err *err)
{
    char found[160];
    if (list == NULL || (list->type != KD_PK_LIST && list->type != KD_PK_TUPLE)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a list of annotations or a dict that holds one, found %s",
                       a->pub.path, said(list, found));
    }
    const size_t n = kd_pk_count(list);
    p->sample = kd_calloc(KD_MAX(n, 1), sizeof(const kd_pk_node *));
    if (p->sample == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu annotations", a->pub.path, n);
    }
    const char *key = kd_pk_get(kd_pk_at(list, 0), "filename") != NULL ? "filename" : "frame_dir";
    for (size_t i = 0; i < n; i++) {
        KD_TRY(add_sample(a, p, kd_pk_at(list, i), i, key, err));
    }
    if (p->none > 0) {
        kd_log(KD_LOG_WARN, "%s: %zu of %zu annotations are None: no sample", a->pub.path, p->none, n);
    }
    return KD_OK;
}

static kd_status add_split(kdi_archive *a, const kd_pk_node *name, const kd_pk_node *ids, kd_err *err)
{
    char found[160];
    kd_archive_half *half;
    if (name->type != KD_PK_STR || ids == NULL || (ids->type != KD_PK_LIST && ids->type != KD_PK_TUPLE)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: 'split': expected a list of names under a name, found %s", a->pub.path,
                       said(name->type != KD_PK_STR ? name : ids, found));
    }
    KD_TRY(kdi_archive_half(a, name->u.s.text, name->u.s.size, kd_pk_count(ids), &half, err));
    for (size_t i = 0; i < kd_pk_count(ids); i++) {
        const kd_pk_node *id = kd_pk_at(ids, i);
        if (id->type != KD_PK_STR || id->u.s.size == 0 || memchr(id->u.s.text, '\0', id->u.s.size) != NULL) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: split %s: item %zu: expected a name, found %s", a->pub.path,
                           half->name, i, said(id, found));
        }
        KD_TRY(kdi_archive_text(a, id->u.s.text, id->u.s.size, &half->id[i], err));
    }
    return KD_OK;
}

static kd_status open_pickle(kdi_archive *a, const kdi_found *f, kd_err *err)
{
    size_t used = 0;
    pickle *p = kd_calloc(1, sizeof *p);
    a->own = p;
    if (p == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for an archive", f->path);
    }
    KD_TRY(kd_io_map(f->path, &p->map, err));
    KD_TRY(kd_pk_parse(p->map.data, p->map.bytes, f->path, &p->doc, &used, err));
    if (used != p->map.bytes) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: byte %zu: expected the end behind the pickle, found %zu bytes more",
                       f->path, used, p->map.bytes - used);
    }
    const kd_pk_node *root = kd_pk_root(p->doc), *split = kd_pk_get(root, "split");
    KD_TRY(add_samples(a, p, root->type == KD_PK_DICT ? kd_pk_get(root, "annotations") : root, err));
    if (split != NULL && split->type != KD_PK_DICT) {
        char found[160];
        return KD_FAIL(err, KD_E_FORMAT, "%s: 'split': expected a dict, found %s", f->path, said(split, found));
    }
    for (size_t i = 0; i + 1 < kd_pk_count(split); i += 2) {
        KD_TRY(add_split(a, kd_pk_at(split, i), kd_pk_at(split, i + 1), err));
    }
    return KD_OK;
}

/* total_frames says how many frames there are. */
static kd_status check_frames(const kd_pk_node *n, const kd_npy *x, kd_err *err)
{
    int64_t frames = 0;
    const kd_pk_node *total = kd_pk_get(n, "total_frames");
    if (total != NULL && (!kd_pk_whole(total, &frames) || frames != x->dim[1])) {
        return KD_FAIL(err, KD_E_DATA, "'total_frames' is %lld, 'keypoint' has %lld frames", (long long)frames,
                       (long long)x->dim[1]);
    }
    return KD_OK;
}

/* Joints (x, y) and their scores side by side. */
static kd_status add_scores(const kd_npy *xy, const kd_pk_node *scores, float **x, kd_err *err)
{
    uint8_t *own = NULL;
    kd_npy a;
    kd_status st;
    const size_t n = xy->count / 2;
    float *all = kd_alloc(3 * n * sizeof *all + 1), *s = kd_alloc(n * sizeof *s + 1);
    KD_GO(all != NULL && s != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for %zu joints", n));
    KD_GO(kd_pk_array(scores, "'keypoint_score'", &a, &own, err));
    if (a.rank != 3 || a.dim[0] != xy->dim[0] || a.dim[1] != xy->dim[1] || a.dim[2] != xy->dim[2]) {
        st = KD_FAIL(err, KD_E_DATA,
                     "'keypoint_score': expected (M, T, V) of 'keypoint', found %zu dimensions, %zu scores", a.rank,
                     a.count);
        goto done;
    }
    KD_GO(kd_npy_to_f32(&a, s, err));
    for (size_t i = 0; i < n; i++) {
        all[3 * i] = (*x)[2 * i];
        all[3 * i + 1] = (*x)[2 * i + 1];
        all[3 * i + 2] = s[i];
    }
    kd_free(*x);
    *x = all;
    all = NULL;
done:
    kd_free(own);
    kd_free(all);
    kd_free(s);
    return st;
}

static kd_status skeleton_of(const kdi_archive *a, const kd_pk_node *sample, const kd_npy *array, const kd_skel_opts *o,
                             kd_skeleton *out, kd_err *err)
{
    const kd_pk_node *scores = kd_pk_get(sample, "keypoint_score");
    const bool scored = array->dim[3] == 2 && scores != NULL && (o->scored || o->joints == KD_ARCHIVE_ANY_JOINTS);
    float *x = kd_alloc(KD_MAX(array->count, 1) * sizeof *x);
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu numbers", array->count);
    }
    kd_status st = kd_npy_to_f32(array, x, err);
    st = st == KD_OK && scored ? add_scores(array, scores, &x, err) : st;
    kdi_numbers n = {.x = x,
                     .bodies = (size_t)array->dim[0],
                     .frames = (size_t)array->dim[1],
                     .joints = (size_t)array->dim[2],
                     .channels = scored ? 3 : (size_t)array->dim[3],
                     .sc = 1,
                     .scored = scored};
    n.sv = n.channels;
    n.st = n.joints * n.sv;
    n.sm = n.frames * n.st;
    st = st == KD_OK ? kdi_archive_skeleton(a, &n, o, out, err) : st;
    kd_free(x);
    return st;
}

static kd_status read_pickle(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err)
{
    const pickle *p = a->own;
    const kd_pk_node *n = p->sample[row];
    uint8_t *own = NULL;
    kd_npy array;
    kd_status st;
    KD_GO(kd_pk_array(kd_pk_get(n, "keypoint"), "'keypoint'", &array, &own, err));
    if (array.rank != 4 || array.kind == 'S' || array.kind == 'U') {
        st = KD_FAIL(err, KD_E_DATA, "'keypoint': expected numbers (M, T, V, C), found %zu dimensions of kind '%c'",
                     array.rank, array.kind);
        goto done;
    }
    KD_GO(check_frames(n, &array, err));
    st = skeleton_of(a, n, &array, o, out, err);
done:
    kd_free(own);
    return st;
}

static void close_pickle(kdi_archive *a)
{
    pickle *p = a->own;
    if (p != NULL) {
        kd_free(p->sample);
        kd_pk_free(p->doc);
        kd_io_unmap(&p->map);
        kd_free(p);
    }
}

const kdi_form kdi_form_pickle = {"skeleton pickle", takes, open_pickle, read_pickle, close_pickle};
