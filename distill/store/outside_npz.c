/* Values of another program in a NumPy archive.  See outside.h. */
#include "distill/store/outside_internal.h"
#include "formats/base/python/npy.h"

enum { MEMBER_SHIFT = 35 }; /* at most 32 GiB an array */

static bool there(const kd_npz *z, const char *key)
{
    for (size_t i = 0; i < kd_npz_count(z); i++) {
        if (strcmp(kd_npz_name(z, i), key) == 0) {
            return true;
        }
    }
    return false;
}

/* The array of this key, or of its default name where the key is NULL; *found false: there is none of the default name.
 */
static kd_status get(kd_npz *z, const char *key, const char *fallback, kd_npy *a, bool *found, kd_err *err)
{
    kd_err why = {0};
    *found = key != NULL || there(z, fallback);
    const kd_status st = *found ? kd_npz_get(z, key != NULL ? key : fallback, a, &why) : KD_OK;
    return st == KD_OK ? KD_OK : KD_FAIL(err, st == KD_E_UNSUPPORTED ? KD_E_DATA : st, "%s", why.msg);
}

static kd_dtype dtype_of(const kd_npy *a)
{
    return a->kind == 'f' && a->item == 2 ? KD_F16 : KD_F32;
}

/* Strings of a one-dimensional array. */
static kd_status texts(const kd_outside *o, const char *key, const kd_npy *a, char ***out, kd_err *err)
{
    if (a->rank != 1 || (a->kind != 'S' && a->kind != 'U')) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: %s: expected a row of strings (<U or |S), found %zu dimensions of kind '%c'", o->path, key,
                       a->rank, a->kind);
    }
    char **text = kd_calloc(a->count + 1, sizeof *text);
    for (size_t i = 0; i < a->count && text != NULL; i++) {
        text[i] = kd_npy_text(a, i);
        if (text[i] == NULL) {
            kdi_outside_strings_free(text, a->count);
            return KD_FAIL(err, KD_E_DATA, "%s: %s: string %zu is no valid text, or out of memory", o->path, key, i);
        }
    }
    *out = text;
    return text != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
}

static kd_status floats(const kd_outside *o, const char *key, const kd_npy *a, float **out, kd_err *err)
{
    kd_err why = {0};
    KD_TRY(kdi_outside_floats(o, a->count, 1, out, err));
    const kd_status st = kd_npy_to_f32(a, *out, &why);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st == KD_E_DTYPE ? KD_E_DATA : st, "%s: %s: %s", o->path, key, why.msg);
}

static kd_status read_ids(kd_npz *z, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const char *key = names->ids != NULL ? names->ids : "ids";
    kd_npy a;
    bool found;
    if (names->ids == NULL && names->ids_file != NULL) {
        return KD_OK; /* the file's ids take the place of those that may stand here */
    }
    KD_TRY(get(z, names->ids, key, &a, &found, err));
    if (!found) {
        return KD_OK;
    }
    KD_TRY(kdi_outside_rows(o, key, a.rank, a.dim, err));
    return texts(o, key, &a, &o->id, err);
}

static kd_status read_labels(kd_npz *z, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const char *key = names->labels != NULL ? names->labels : "labels";
    kd_err why = {0};
    kd_npy a;
    bool found;
    KD_TRY(get(z, names->labels, key, &a, &found, err));
    if (!found) {
        return KD_OK;
    }
    if (a.rank != 1) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected a row of integers, found %zu dimensions", o->path, key,
                       a.rank);
    }
    KD_TRY(kdi_outside_rows(o, key, a.rank, a.dim, err));
    o->label = kd_calloc(o->n, sizeof *o->label);
    if (o->label == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
    }
    const kd_status st = kd_npy_to_i64(&a, o->label, &why);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st == KD_E_DTYPE ? KD_E_DATA : st, "%s: %s: %s", o->path, key, why.msg);
}

static kd_status read_values(kd_npz *z, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const char *logits = names->logits != NULL ? names->logits : "logits";
    const char *features = names->features != NULL ? names->features : "features";
    kd_npy a;
    bool found;
    KD_TRY(get(z, names->logits, logits, &a, &found, err));
    if (found) {
        KD_TRY(kdi_outside_logits_shape(o, logits, a.rank, a.dim, err));
        o->logit_dtype = dtype_of(&a);
        KD_TRY(floats(o, logits, &a, &o->logits, err));
    }
    KD_TRY(get(z, names->features, features, &a, &found, err));
    if (found) {
        KD_TRY(kdi_outside_features_shape(o, features, a.rank, a.dim, err));
        o->feature_dtype = dtype_of(&a);
        KD_TRY(floats(o, features, &a, &o->features, err));
    }
    return KD_OK;
}

static kd_status read_classes(kd_npz *z, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const char *key = names->classes != NULL ? names->classes : "classes";
    kd_npy a;
    bool found;
    KD_TRY(get(z, names->classes, key, &a, &found, err));
    if (!found) {
        return KD_OK;
    }
    KD_TRY(texts(o, key, &a, &o->name, err));
    o->names = a.count;
    return KD_OK;
}

kd_status kdi_outside_npz(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    kd_npz *z = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_npz_open(path, (size_t)1 << MEMBER_SHIFT, &z, err));
    KD_GO(read_ids(z, names, o, err));
    KD_GO(read_values(z, names, o, err));
    KD_GO(read_labels(z, names, o, err));
    KD_GO(read_classes(z, names, o, err));
done:
    kd_npz_close(z);
    return st;
}
