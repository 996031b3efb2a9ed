/* Values of another program as a JSON object a line.  See outside.h. */
#include "distill/store/outside_internal.h"
#include "formats/base/io.h"

#include <stdio.h>

typedef struct lines {
    const kd_outside_names *names;
    kd_outside *o;
    const char *id, *logits, *features, *label, *classes; /* keys */
    size_t room;                                          /* rows that the arrays have room for */
} lines;

static const char *or_default(const char *key, const char *fallback)
{
    return key != NULL ? key : fallback;
}

/* Shape of a line's logits: one list of numbers, or a list of such lists. */
static void logits_shape(const kd_json *list, int64_t dim[3])
{
    const kd_json *first = kd_json_at(list, 0);
    const bool views = kd_json_type_of(first) == KD_JSON_ARRAY;
    dim[1] = views ? (int64_t)kd_json_count(list) : 1;
    dim[2] = (int64_t)kd_json_count(views ? first : list);
}

static kd_status number(const kd_json *node, float *out, kd_err *err)
{
    double v = 0.0;
    KD_TRY(kd_json_as_f64(node, &v, err));
    *out = (float)v;
    return KD_OK;
}

/* The list `node` of `n` numbers. */
static kd_status numbers(const kd_json *node, size_t n, float *out, kd_err *err)
{
    char where[200];
    if (kd_json_type_of(node) != KD_JSON_ARRAY || kd_json_count(node) != n) {
        kd_json_where(node, where, sizeof where);
        return KD_FAIL(err, KD_E_DATA, "%s: expected a list of %zu numbers as in the first line, found %zu", where, n,
                       kd_json_count(node));
    }
    for (size_t i = 0; i < n; i++) {
        KD_TRY(number(kd_json_at(node, i), &out[i], err));
    }
    return KD_OK;
}

/* What the user named is there; a class list is not that of one row. */
static kd_status check_named(const lines *l, const kd_json *doc, kd_err *err)
{
    const kd_outside_names *n = l->names;
    const char *const named[] = {n->logits, n->features, n->labels};
    for (size_t i = 0; i < KD_COUNTOF(named); i++) {
        if (named[i] != NULL && kd_json_get(doc, named[i]) == NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: expected '%s' in every line, found none in the first", l->o->path,
                           named[i]);
        }
    }
    if (kd_json_get(doc, l->classes) != NULL || (n->classes != NULL && l->o->name == NULL)) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected '%s', the names of the columns, in a first line of its own, found %s", l->o->path,
                       l->classes, kd_json_get(doc, l->classes) != NULL ? "it beside an id" : "none");
    }
    return KD_OK;
}

/* What the first line has, all have. */
static kd_status first_line(lines *l, const kd_json *doc, kd_err *err)
{
    kd_outside *o = l->o;
    KD_TRY(check_named(l, doc, err));
    const kd_json *logits = kd_json_get(doc, l->logits), *features = kd_json_get(doc, l->features);
    int64_t dim[3] = {(int64_t)l->room, 0, 0};
    o->n = l->room;
    if (logits != NULL) {
        logits_shape(logits, dim);
        KD_TRY(kdi_outside_logits_shape(o, l->logits, 3, dim, err));
        KD_TRY(kdi_outside_floats(o, l->room, (size_t)o->views * (size_t)o->classes, &o->logits, err));
    }
    if (features != NULL) {
        dim[1] = (int64_t)kd_json_count(features);
        KD_TRY(kdi_outside_features_shape(o, l->features, 2, dim, err));
        KD_TRY(kdi_outside_floats(o, l->room, (size_t)o->dim, &o->features, err));
    }
    if (kd_json_get(doc, l->label) != NULL) {
        o->label = kd_calloc(l->room, sizeof *o->label);
        if (o->label == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
        }
    }
    o->id = kd_calloc(l->room + 1, sizeof *o->id);
    return o->id != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
}

static kd_status one_row(lines *l, const kd_json *doc, size_t row, kd_err *err)
{
    kd_outside *o = l->o;
    const char *id = NULL;
    const kd_json *list = NULL;
    KD_TRY(kd_json_get_str(doc, l->id, &id, err));
    o->id[row] = kd_strdup(id);
    if (o->id[row] == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
    }
    if (o->logits != NULL) {
        const size_t k = (size_t)o->classes, views = (size_t)o->views;
        float *to = o->logits + row * views * k;
        KD_TRY(kd_json_get_array(doc, l->logits, &list, err));
        const bool nested = kd_json_type_of(kd_json_at(list, 0)) == KD_JSON_ARRAY;
        if (nested ? kd_json_count(list) != views : views != 1) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s: %s: expected %zu views as in the first line, found %zu", o->path,
                           id, l->logits, views, nested ? kd_json_count(list) : 1);
        }
        for (size_t v = 0; v < views; v++) {
            KD_TRY(numbers(nested ? kd_json_at(list, v) : list, k, to + v * k, err));
        }
    }
    if (o->features != NULL) {
        KD_TRY(kd_json_get_array(doc, l->features, &list, err));
        KD_TRY(numbers(list, (size_t)o->dim, o->features + row * (size_t)o->dim, err));
    }
    return o->label != NULL ? kd_json_get_i64(doc, l->label, &o->label[row], err) : KD_OK;
}

static kd_status one_line(lines *l, const kd_json *doc, size_t *rows, kd_err *err)
{
    kd_outside *o = l->o;
    const kd_json *classes = kd_json_get(doc, l->classes);
    if (classes != NULL && kd_json_get(doc, l->id) == NULL && *rows == 0 && o->name == NULL) {
        return kdi_outside_strings(classes, &o->name, &o->names, err);
    }
    if (*rows == 0) {
        KD_TRY(first_line(l, doc, err));
    }
    return one_row(l, doc, (*rows)++, err);
}

static kd_status read_lines(lines *l, const kd_map *map, kd_err *err)
{
    const char *p = (const char *)map->data, *end = p + map->bytes;
    size_t rows = 0;
    kd_status st = KD_OK;
    p += map->bytes >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* of editors on Windows */
    for (size_t line = 1; p < end && st == KD_OK; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop != NULL ? stop : end;
        if (stop > p && !(stop == p + 1 && *p == '\r')) {
            char origin[400];
            kd_json *doc = NULL;
            (void)snprintf(origin, sizeof origin, "%.360s: line %zu", l->o->path, line);
            st = kd_json_parse(p, (size_t)(stop - p), origin, &doc, err);
            st = st == KD_OK ? one_line(l, doc, &rows, err) : st;
            kd_json_free(doc);
        }
        p = stop + 1;
    }
    if (st == KD_OK && rows == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected a JSON object a line, found none with an id", l->o->path);
    }
    l->o->n = l->o->id != NULL ? rows : 0;
    return st;
}

kd_status kdi_outside_lines(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    lines l = {.names = names,
               .o = o,
               .id = or_default(names->ids, "id"),
               .logits = or_default(names->logits, "logits"),
               .features = or_default(names->features, "features"),
               .label = or_default(names->labels, "label"),
               .classes = or_default(names->classes, "classes"),
               .room = 1};
    kd_map map;
    KD_TRY(kd_io_map(path, &map, err));
    for (size_t i = 0; i < map.bytes; i++) {
        l.room += map.data[i] == '\n';
    }
    const kd_status st = read_lines(&l, &map, err);
    kd_io_unmap(&map);
    return st;
}
