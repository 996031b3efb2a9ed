/* Values of another program in a safetensors file.  See outside.h. */
#include "distill/store/outside_internal.h"
#include "formats/weights/safetensors.h"

/* Strings under this key: an entry of __metadata__, or rows of UTF-8.  *out NULL: neither. */
static kd_status texts(const kd_outside *o, const kd_st_file *f, const char *key, char ***out, size_t *n, kd_err *err)
{
    const char *meta = kd_st_meta(f, key);
    const kd_st_entry *e = kd_st_find(f, key);
    kd_json *list = NULL;
    *out = NULL;
    if (e == NULL && meta != NULL) {
        kd_status st = kd_json_parse(meta, strlen(meta), o->path, &list, err);
        if (st == KD_OK && kd_json_type_of(list) != KD_JSON_ARRAY) {
            st = KD_FAIL(err, KD_E_FORMAT, "%s: __metadata__.%s: expected a JSON list of strings", o->path, key);
        }
        st = st == KD_OK ? kdi_outside_strings(list, out, n, err) : st;
        kd_json_free(list);
        return st;
    }
    if (e == NULL) {
        return KD_OK;
    }
    if (e->dtype != KD_ST_U8 || e->rank != 2 || e->dim[0] < 1 || e->dim[1] < 1) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected rows of UTF-8 bytes, U8 (N,L), found %s of %zu dimensions",
                       o->path, key, kd_st_dtype_name(e->dtype), e->rank);
    }
    const size_t rows = (size_t)e->dim[0], width = (size_t)e->dim[1];
    char **text = kd_calloc(rows + 1, sizeof *text);
    for (size_t i = 0; i < rows && text != NULL; i++) {
        text[i] =
            kd_strf("%.*s", (int)strnlen((const char *)e->data + i * width, width), (const char *)e->data + i * width);
        if (text[i] == NULL) {
            kdi_outside_strings_free(text, rows);
            text = NULL;
        }
    }
    *out = text;
    *n = rows;
    return text != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
}

/* The tensor of this key, or of its default name; NULL: none of the default name. */
static kd_status get(const kd_outside *o, const kd_st_file *f, const char *key, const char *fallback,
                     const kd_st_entry **out, kd_err *err)
{
    *out = kd_st_find(f, key != NULL ? key : fallback);
    return *out != NULL || key == NULL ? KD_OK : KD_FAIL(err, KD_E_DATA, "%s: no tensor %s in it", o->path, key);
}

static kd_dtype dtype_of(const kd_st_entry *e)
{
    return e->dtype == KD_ST_F16 ? KD_F16 : e->dtype == KD_ST_BF16 ? KD_BF16 : KD_F32;
}

static kd_status floats(const kd_outside *o, const kd_st_entry *e, float **out, kd_err *err)
{
    KD_TRY(kdi_outside_floats(o, e->count, 1, out, err));
    if (!kd_st_to_f32(e->dtype, e->data, e->count, *out)) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected numbers, found %s", o->path, e->name,
                       kd_st_dtype_name(e->dtype));
    }
    return KD_OK;
}

static kd_status read_values(const kd_st_file *f, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const kd_st_entry *e = NULL;
    KD_TRY(get(o, f, names->logits, "logits", &e, err));
    if (e != NULL) {
        KD_TRY(kdi_outside_logits_shape(o, e->name, e->rank, e->dim, err));
        o->logit_dtype = dtype_of(e);
        KD_TRY(floats(o, e, &o->logits, err));
    }
    KD_TRY(get(o, f, names->features, "features", &e, err));
    if (e != NULL) {
        KD_TRY(kdi_outside_features_shape(o, e->name, e->rank, e->dim, err));
        o->feature_dtype = dtype_of(e);
        KD_TRY(floats(o, e, &o->features, err));
    }
    return KD_OK;
}

static kd_status read_labels(const kd_st_file *f, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const kd_st_entry *e = NULL;
    KD_TRY(get(o, f, names->labels, "labels", &e, err));
    if (e == NULL) {
        return KD_OK;
    }
    if (e->rank != 1 || (e->dtype != KD_ST_I64 && e->dtype != KD_ST_I32)) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected a row of I64 or I32, found %s of %zu dimensions", o->path,
                       e->name, kd_st_dtype_name(e->dtype), e->rank);
    }
    KD_TRY(kdi_outside_rows(o, e->name, e->rank, e->dim, err));
    o->label = kd_calloc(o->n, sizeof *o->label);
    if (o->label == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
    }
    for (size_t i = 0; i < o->n; i++) {
        int32_t narrow = 0;
        if (e->dtype == KD_ST_I64) {
            memcpy(&o->label[i], e->data + 8 * i, 8);
        } else {
            memcpy(&narrow, e->data + 4 * i, 4);
            o->label[i] = narrow;
        }
    }
    return KD_OK;
}

static kd_status read_texts(const kd_st_file *f, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    const char *ids = names->ids != NULL ? names->ids : "ids";
    const char *classes = names->classes != NULL ? names->classes : "classes";
    size_t n = 0;
    if (names->ids != NULL || names->ids_file == NULL) {
        char **id = NULL;
        KD_TRY(texts(o, f, ids, &id, &n, err));
        if (id != NULL && n != o->n) {
            kdi_outside_strings_free(id, n);
            return KD_FAIL(err, KD_E_DATA, "%s: %s: expected %zu ids as there are rows, found %zu", o->path, ids, o->n,
                           n);
        }
        o->id = id;
    }
    return texts(o, f, classes, &o->name, &o->names, err);
}

kd_status kdi_outside_tensors(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_st_open(path, &f, err));
    KD_GO(read_values(f, names, o, err));
    KD_GO(read_labels(f, names, o, err));
    KD_GO(read_texts(f, names, o, err));
done:
    kd_st_close(f);
    return st;
}
