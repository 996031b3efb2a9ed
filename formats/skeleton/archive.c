/* Skeleton archives: which form a file has, its rows and halves, numbers to skeletons.  See archive.h. */
#include "formats/base/zip.h"
#include "formats/skeleton/archive_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define KD_ARCHIVE_FORM(name) extern const kdi_form kdi_form_##name;
#include "formats/skeleton/forms.inc"
#undef KD_ARCHIVE_FORM

#define KD_ARCHIVE_FORM(name) &kdi_form_##name,
static const kdi_form *const FORM[] = {
#include "formats/skeleton/forms.inc"
};
#undef KD_ARCHIVE_FORM

#define PIXELS_MAX 1e6f

static const char *const AXIS[KD_ARCHIVE_CHANNELS] = {"x", "y", "z"};

static kd_status no_memory(const kdi_archive *a, kd_err *err)
{
    return KD_FAIL(err, KD_E_OOM, "%s: no memory for its samples", a->pub.path);
}

/* ---- rows and halves ------------------------------------------------------------------------- */

static bool grow(void *array, size_t n, size_t *room, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof old);
    if (n < *room) {
        return true;
    }
    const size_t more = *room == 0 ? 64 : 2 * *room;
    void *p = kd_realloc(old, *room * size, more * size);
    if (p == NULL) {
        return false;
    }
    memcpy(array, &p, sizeof p);
    *room = more;
    return true;
}

kd_status kdi_archive_text(kdi_archive *a, const char *text, size_t bytes, const char **out, kd_err *err)
{
    char *copy = kd_alloc(bytes + 1);
    if (copy == NULL || !grow(&a->text, a->n_text, &a->text_room, sizeof *a->text)) {
        kd_free(copy);
        return no_memory(a, err);
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    a->text[a->n_text++] = copy;
    *out = copy;
    return KD_OK;
}

kd_status kdi_archive_row(kdi_archive *a, const char *id, size_t id_bytes, int64_t label, uint64_t bytes, kd_err *err)
{
    const char *copy;
    if (id_bytes == 0 || memchr(id, '\0', id_bytes) != NULL || memchr(id, '\n', id_bytes) != NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: sample %zu: expected a name of one line, found %s", a->pub.path, a->pub.n,
                       id_bytes == 0 ? "an empty one" : "a NUL or a line feed in it");
    }
    KD_TRY(kdi_archive_text(a, id, id_bytes, &copy, err));
    if (!grow(&a->pub.row, a->pub.n, &a->row_room, sizeof *a->pub.row)) {
        return no_memory(a, err);
    }
    a->pub.row[a->pub.n++] = (kd_archive_row){copy, label, bytes};
    return KD_OK;
}

kd_status kdi_archive_half(kdi_archive *a, const char *name, size_t name_bytes, size_t n, kd_archive_half **out,
                           kd_err *err)
{
    const char *copy;
    KD_TRY(kdi_archive_text(a, name, name_bytes, &copy, err));
    const char **id = kd_calloc(KD_MAX(n, 1), sizeof *id);
    if (id == NULL || !grow(&a->pub.half, a->pub.n_halves, &a->half_room, sizeof *a->pub.half)) {
        kd_free(id);
        return no_memory(a, err);
    }
    *out = &a->pub.half[a->pub.n_halves++];
    **out = (kd_archive_half){copy, id, n};
    return KD_OK;
}

kd_status kdi_archive_half_of(kdi_archive *a, const char *name, size_t first, size_t n, kd_err *err)
{
    kd_archive_half *half;
    KD_TRY(kdi_archive_half(a, name, strlen(name), n, &half, err));
    for (size_t i = 0; i < n; i++) {
        half->id[i] = a->pub.row[first + i].id;
    }
    return KD_OK;
}

kd_status kdi_archive_numbered(kdi_archive *a, const char *half, size_t n, uint64_t bytes, kd_err *err)
{
    char id[64];
    for (size_t i = 0; i < n; i++) {
        const int len = snprintf(id, sizeof id, "%s-%06zu", half, i);
        KD_TRY(kdi_archive_row(a, id, (size_t)len, -1, bytes, err));
    }
    a->pub.numbered = true;
    return KD_OK;
}

const kd_archive_half *kd_archive_find_half(const kd_archive *a, const char *name)
{
    for (size_t i = 0; i < a->n_halves; i++) {
        if (strcmp(a->half[i].name, name) == 0) {
            return &a->half[i];
        }
    }
    return NULL;
}

/* ---- ids ------------------------------------------------------------------------------------- */

typedef struct place {
    const char *id;
    size_t row;
} place;

static int by_id(const void *a_, const void *b_)
{
    const place *a = a_, *b = b_;
    const int c = strcmp(a->id, b->id);
    return c != 0 ? c : a->row < b->row ? -1 : a->row > b->row;
}

/* Rows are joined by their ids: one id is one row. */
static kd_status sort_ids(kdi_archive *a, kd_err *err)
{
    place *p = kd_alloc(a->pub.n * sizeof *p);
    a->by_id = kd_alloc(a->pub.n * sizeof *a->by_id);
    kd_status st = p != NULL && a->by_id != NULL ? KD_OK : no_memory(a, err);
    for (size_t i = 0; i < a->pub.n && st == KD_OK; i++) {
        p[i] = (place){a->pub.row[i].id, i};
    }
    if (st == KD_OK) {
        qsort(p, a->pub.n, sizeof *p, by_id);
    }
    for (size_t i = 0; i < a->pub.n && st == KD_OK; i++) {
        a->by_id[i] = p[i].row;
        if (i > 0 && strcmp(p[i].id, p[i - 1].id) == 0) {
            st = KD_FAIL(err, KD_E_DATA, "%s: sample %s is there twice, as row %zu and %zu", a->pub.path, p[i].id,
                         p[i - 1].row, p[i].row);
        }
    }
    kd_free(p);
    return st;
}

size_t kd_archive_find(const kd_archive *a, const char *id)
{
    const kdi_archive *own = (const kdi_archive *)a;
    size_t lo = 0, hi = a->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(a->row[own->by_id[mid]].id, id);
        if (order == 0) {
            return own->by_id[mid];
        }
        if (order < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return a->n;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Names and their array in one block, as kd_io_list_dir has them. */
static kd_status member_names(kdi_found *f, const kd_map *map, kd_err *err)
{
    kd_zip *zip = NULL;
    KD_TRY(kd_zip_parse(map->data, map->bytes, f->path, &zip, err));
    const size_t n = kd_zip_count(zip);
    size_t bytes = (n + 1) * sizeof *f->name;
    for (size_t i = 0; i < n; i++) {
        bytes += strlen(kd_zip_at(zip, i)->name) + 1;
    }
    f->name = kd_alloc(bytes);
    char *to = f->name != NULL ? (char *)(f->name + n + 1) : NULL;
    for (size_t i = 0; to != NULL && i < n; i++) {
        const size_t len = strlen(kd_zip_at(zip, i)->name) + 1;
        f->name[f->n++] = memcpy(to, kd_zip_at(zip, i)->name, len);
        to += len;
    }
    kd_zip_close(zip);
    return to != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory for the names in it", f->path);
}

static kd_status look(kdi_found *f, kd_err *err)
{
    kd_map map = {0};
    f->folder = kd_path_is_dir(f->path);
    if (f->folder) {
        return kd_io_list_dir(f->path, &f->name, &f->n, err);
    }
    KD_TRY(kd_io_map(f->path, &map, err));
    if (map.bytes > 0) {
        memcpy(f->magic, map.data, KD_MIN(map.bytes, sizeof f->magic));
    }
    const kd_status st = memcmp(f->magic, "PK\x03\x04", 4) == 0 ? member_names(f, &map, err) : KD_OK;
    kd_io_unmap(&map);
    return st;
}

static kd_status unknown(const kdi_found *f, kd_err *err)
{
    static const char SAYS[] = "expected skeletons as a CTR-GCN npz, an npz of id -> (T, V, C), a pickle of pyskl or "
                               "MMAction2, or a folder of LAST's arrays or of NW-UCLA's json";
    const char *found = f->folder                                  ? "a folder without them"
                        : memcmp(f->magic, "\x93NUMPY", 6) == 0    ? "one NumPy array; LAST's arrays go by their folder"
                        : memcmp(f->magic, "\x89HDF", 4) == 0      ? "an HDF5 file"
                        : f->magic[0] == '{' || f->magic[0] == '[' ? "one JSON file; NW-UCLA's go by their folder"
                                                                   : "a file of another kind";
    return KD_FAIL(err, KD_E_FORMAT, "%s: %s; found %s", f->path, SAYS, found);
}

static kd_status set_options(kdi_archive *a, const kd_archive_opts *o, kd_err *err)
{
    a->opts = o != NULL ? *o : (kd_archive_opts){0};
    a->opts.names = NULL; /* read once */
    a->opts.scale = a->opts.scale == 0.0 ? 1.0 : a->opts.scale;
    a->opts.score_scale = a->opts.score_scale == 0.0 ? 1.0 : a->opts.score_scale;
    for (int c = 0; c < KD_ARCHIVE_CHANNELS && !a->opts.channels; c++) {
        a->opts.channel[c] = c;
    }
    a->pub.row = NULL;
    return a->pub.path != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for a skeleton archive");
}

/* NULL: no form takes it. */
static const kdi_form *form_of(const kdi_found *f)
{
    for (size_t i = 0; i < KD_COUNTOF(FORM); i++) {
        if (FORM[i]->takes(f)) {
            return FORM[i];
        }
    }
    return NULL;
}

bool kd_archive_is(const char *path)
{
    kdi_found f = {.path = path};
    const bool is = look(&f, NULL) == KD_OK && form_of(&f) != NULL;
    kd_free(f.name);
    return is;
}

static kd_status open_form(kdi_archive *a, const kdi_found *f, const kd_archive_opts *o, kd_err *err)
{
    a->form = form_of(f);
    if (a->form == NULL) {
        return unknown(f, err);
    }
    a->pub.form = a->form->name;
    KD_TRY(a->form->open(a, f, err));
    if (a->pub.n == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected skeletons, found an archive without a sample", a->pub.path);
    }
    KD_TRY(kdi_archive_names(a, o, err));
    return sort_ids(a, err);
}

kd_status kd_archive_open(const char *path, const kd_archive_opts *opts, kd_archive **out, kd_err *err)
{
    kdi_found f = {.path = path};
    kd_status st;
    *out = NULL;
    kdi_archive *a = kd_calloc(1, sizeof *a);
    if (a == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for a skeleton archive", path);
    }
    a->pub.path = kd_strdup(path);
    KD_GO(set_options(a, opts, err));
    KD_GO(look(&f, err));
    KD_GO(open_form(a, &f, opts, err));
    *out = &a->pub;
    a = NULL;
done:
    kd_free(f.name);
    kd_archive_close(a != NULL ? &a->pub : NULL);
    return st;
}

void kd_archive_close(kd_archive *a)
{
    if (a == NULL) {
        return;
    }
    kdi_archive *own = (kdi_archive *)a; /* its first member */
    if (own->form != NULL) {
        own->form->close(own);
    }
    for (size_t i = 0; i < a->n_halves; i++) {
        kd_free(a->half[i].id);
    }
    for (size_t i = 0; i < own->n_text; i++) {
        kd_free(own->text[i]);
    }
    kd_free(own->text);
    kd_free(own->by_id);
    kd_free(a->half);
    kd_free(a->row);
    kd_free((void *)(uintptr_t)a->path);
    kd_free(own);
}

kd_status kd_archive_read(const kd_archive *pub, size_t row, const kd_skel_opts *opts, kd_skeleton *out, kd_err *err)
{
    const kd_skel_opts plain = {0};
    const kdi_archive *a = (const kdi_archive *)pub;
    *out = (kd_skeleton){0};
    KD_ASSERT(row < pub->n);
    kd_err own = {0};
    const kd_status st = a->form->read(a, row, opts != NULL ? opts : &plain, out, &own);
    const bool bad = st == KD_E_UNSUPPORTED || st == KD_E_INTEGRITY || st == KD_E_DTYPE; /* the data of one sample */
    return st == KD_OK ? KD_OK : KD_FAIL(err, bad ? KD_E_DATA : st, "%s: %s: %s", pub->path, pub->row[row].id, own.msg);
}

/* ---- numbers to skeletons -------------------------------------------------------------------- */

static float at(const kdi_archive *a, const kdi_numbers *x, bool scored, size_t t, size_t m, size_t v, int c)
{
    const float raw = x->x[t * x->st + m * x->sm + v * x->sv + (size_t)a->opts.channel[c] * x->sc];
    const double scale = scored && c == 2 ? a->opts.score_scale : a->opts.scale; /* a confidence has no unit */
    return (double)raw == a->opts.missing ? 0.0f : scale == 1.0 ? raw : (float)((double)raw * scale);
}

/* One joint.  A joint of a picture is seen where its confidence is above 0, another one where it is not at the
 * origin. */
static kd_status joint(const kdi_archive *a, const kdi_numbers *x, bool scored, size_t t, size_t m, size_t v,
                       float p[3], bool *seen, kd_err *err)
{
    const float most = scored ? PIXELS_MAX : KD_SKEL_MAX_METRES;
    *seen = false;
    for (int c = 0; c < KD_ARCHIVE_CHANNELS; c++) {
        p[c] = at(a, x, scored, t, m, v, c);
        if (!(fabsf(p[c]) <= most)) {
            return KD_FAIL(err, KD_E_FORMAT,
                           "frame %zu, body %zu, joint %zu: expected a finite %s of at most %g%s, found %g%s", t, m, v,
                           scored && c == 2 ? "confidence" : AXIS[c], (double)most, scored ? "" : " m", (double)p[c],
                           isfinite(p[c]) ? "; data.skeleton_scale makes metres of other units" : "");
        }
        *seen = *seen || p[c] != 0.0f;
    }
    *seen = scored ? p[2] > 0.0f : *seen;
    if (!*seen) {
        memset(p, 0, KD_ARCHIVE_CHANNELS * sizeof *p);
    }
    return KD_OK;
}

/* One body in one frame; *there: one of its joints is seen. */
static kd_status body(const kdi_archive *a, const kdi_numbers *x, bool scored, size_t t, size_t m, kd_skel_body *b,
                      bool *there, kd_err *err)
{
    memset(b, 0, sizeof *b);
    b->id = m;
    *there = false;
    for (size_t v = 0; v < x->joints; v++) {
        bool seen;
        KD_TRY(joint(a, x, scored, t, m, v, b->xyz[v], &seen, err));
        b->tracking[v] = seen ? 2 : 0;
        *there = *there || seen;
    }
    return KD_OK;
}

static kd_status check_shape(const kdi_archive *a, const kdi_numbers *x, const kd_skel_opts *o, kd_err *err)
{
    const int joints = o->joints > 0 ? o->joints : KD_SKEL_JOINTS;
    if (o->joints == KD_ARCHIVE_ANY_JOINTS ? x->joints < 1 || x->joints > KD_SKEL_MAX_JOINTS
                                           : x->joints != (size_t)joints) {
        return KD_FAIL(err, KD_E_DATA, "expected %d joints%s%s%s, found %zu", joints,
                       o->layout != NULL ? " (layout " : "", o->layout != NULL ? o->layout : "",
                       o->layout != NULL ? ")" : "", x->joints);
    }
    if (x->frames == 0 || x->frames > KD_SKEL_MAX_FRAMES || x->bodies == 0 || x->bodies > KD_SKEL_MAX_BODIES) {
        return KD_FAIL(err, KD_E_DATA, "expected 1 to %d frames and 1 to %d bodies, found %zu and %zu",
                       KD_SKEL_MAX_FRAMES, KD_SKEL_MAX_BODIES, x->frames, x->bodies);
    }
    if (!a->opts.channels && x->channels != KD_ARCHIVE_CHANNELS) {
        return KD_FAIL(err, KD_E_DATA,
                       "expected x, y and z of a joint, found %zu numbers; data.skeleton_channels says which they are, "
                       "skeleton.channels: xy_score that they are x, y and a confidence",
                       x->channels);
    }
    for (int c = 0; c < KD_ARCHIVE_CHANNELS; c++) {
        if ((size_t)a->opts.channel[c] >= x->channels) {
            return KD_FAIL(err, KD_E_DATA, "data.skeleton_channels: %d, but a joint has %zu numbers, counted from 0",
                           a->opts.channel[c], x->channels);
        }
    }
    return KD_OK;
}

kd_status kdi_archive_skeleton(const kdi_archive *a, const kdi_numbers *x, const kd_skel_opts *o, kd_skeleton *out,
                               kd_err *err)
{
    kd_skeleton s = {0};
    size_t last = 0, n = 0;
    kd_status st;
    const bool scored = o->scored || (o->joints == KD_ARCHIVE_ANY_JOINTS && x->scored);
    KD_TRY(check_shape(a, x, o, err));
    KD_TRY(kd_skeleton_alloc(x->frames, x->frames * x->bodies, &s, err));
    s.joints = (int)x->joints;
    s.scored = scored;
    for (size_t t = 0; t < x->frames; t++) {
        s.first[t] = (uint32_t)n;
        for (size_t m = 0; m < x->bodies; m++) {
            bool there;
            KD_GO(body(a, x, scored, t, m, &s.body[n], &there, err));
            n += there;
        }
        s.empty_frames += s.first[t] == n;
        last = s.first[t] != n ? t : last;
    }
    if (n == 0) {
        st = KD_FAIL(err, KD_E_DATA, "no body: expected a body, found none in %zu frames", x->frames);
        goto done;
    }
    if (x->padded) {
        s.empty_frames -= x->frames - (last + 1);
        s.frames = last + 1;
    }
    s.first[s.frames] = (uint32_t)n;
    s.n_bodies = n;
    *out = s;
    s = (kd_skeleton){0};
    st = KD_OK;
done:
    kd_skeleton_free(&s);
    return st;
}
