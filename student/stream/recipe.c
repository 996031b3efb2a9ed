/* The recipe as text: see recipe.h. */
#include "student/stream/recipe.h"

#include "student/stream/layout_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STUDENT = 1, LOCAL = 2, HERE = 4 }; /* flags of rows (kernels/kd_options.h) */
enum { MOST_CLASSES = 65536, MOST_LAYERS = 1024, VALUE_BYTES = 512 };

typedef enum kind { KIND_INT, KIND_REAL, KIND_BOOL, KIND_ENUM, KIND_TEXT } kind;

typedef struct row {
    const char *key, *fallback;
    kind kind;
    int flags;
    size_t at, size;
    double lo, hi;
    const char *names; /* of an enum: "none|reference|corrected" */
    const int *values;
} row;

#define BOTH STUDENT
#define ROW(field, what, d, flag_bits)                                                                          \
    .key = SECTION_TEXT #field, .fallback = (d), .kind = (what), .at = offsetof(kd_last_recipe, SECTION.field), \
    .size = sizeof(((kd_last_recipe *)0)->SECTION.field), .flags = (flag_bits)
#define INT(field, d, low, high, flags, doc)  {ROW(field, KIND_INT, d, flags), .lo = (low), .hi = (high)},
#define REAL(field, d, low, high, flags, doc) {ROW(field, KIND_REAL, d, flags), .lo = (low), .hi = (high)},
#define BOOL(field, d, flags, doc)            {ROW(field, KIND_BOOL, d, flags)},
#define ENUM(field, type, map, d, flags, doc) \
    {ROW(field, KIND_ENUM, d, flags), .names = KD_ENUM_NAMES(map), .values = KD_ENUM_VALUES(map)},
#define NAME(field, d, registry, flags, doc) {ROW(field, KIND_TEXT, d, flags)},
#define STR(field, bytes, d, flags, doc)     {ROW(field, KIND_TEXT, d, flags)},

static const row ROWS[] = {
#define SECTION      student
#define SECTION_TEXT "student."
#include "student/model/student_opts.inc"
#undef SECTION
#undef SECTION_TEXT
#define SECTION      skeleton
#define SECTION_TEXT "skeleton."
#include "student/skeleton/skeleton_opts.inc"
#undef SECTION
#undef SECTION_TEXT
};

/* ---- text to values -------------------------------------------------------------------------- */

static bool number(const char *text, double *out)
{
    char *end = NULL;
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) {
        return false;
    }
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static kd_status refuse(const char *key, const char *value, const char *expected, kd_err *err)
{
    return KD_FAIL(err, KD_E_FORMAT, "%s: expected %s, found '%.80s'", key, expected, value);
}

static kd_status set_number(const row *w, char *at, const char *value, kd_err *err)
{
    char expected[96];
    double v = 0.0;
    const bool whole = w->kind == KIND_INT;
    if (!number(value, &v) || !(v >= w->lo && v <= w->hi) || (whole && v != floor(v))) {
        (void)snprintf(expected, sizeof expected, "a %snumber from %g to %g", whole ? "whole " : "", w->lo, w->hi);
        return refuse(w->key, value, expected, err);
    }
    const int i = whole ? (int)v : 0;
    memcpy(at, whole ? (const void *)&i : (const void *)&v, w->size);
    return KD_OK;
}

/* Place of `value` among "a|b|c", -1: not there. */
static int place(const char *names, const char *value)
{
    const size_t n = strlen(value);
    int i = 0;
    for (const char *p = names; p != NULL; i++) {
        const size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, value, n) == 0) {
            return i;
        }
        p = p[len] == '|' ? p + len + 1 : NULL;
    }
    return -1;
}

static kd_status set_row(const row *w, kd_last_recipe *r, const char *value, kd_err *err)
{
    char *at = (char *)r + w->at;
    if (w->kind == KIND_INT || w->kind == KIND_REAL) {
        return set_number(w, at, value, err);
    }
    if (w->kind == KIND_BOOL) {
        const bool yes = strcmp(value, "true") == 0;
        if (!yes && strcmp(value, "false") != 0) {
            return refuse(w->key, value, "true or false", err);
        }
        memcpy(at, &yes, sizeof yes);
        return KD_OK;
    }
    if (w->kind == KIND_ENUM) {
        const int i = place(w->names, value);
        if (i < 0) {
            return refuse(w->key, value, w->names, err);
        }
        KD_ASSERT(w->size == sizeof(int)); /* enums of C are ints here */
        memcpy(at, &w->values[i], w->size);
        return KD_OK;
    }
    if (strlen(value) >= w->size) {
        return refuse(w->key, value, "a shorter text", err);
    }
    (void)snprintf(at, w->size, "%s", value);
    return KD_OK;
}

kd_status kd_last_recipe_default(kd_last_recipe *out, kd_err *err)
{
    *out = (kd_last_recipe){.temperature = 1.0};
    for (size_t i = 0; i < KD_COUNTOF(ROWS); i++) {
        KD_TRY(set_row(&ROWS[i], out, ROWS[i].fallback, err));
    }
    return KD_OK;
}

static kd_status set_other(kd_last_recipe *r, const char *key, const char *value, bool *known, kd_err *err)
{
    double v = 0.0;
    if (strcmp(key, "lastkd") == 0) {
        return strcmp(value, KD_LAST_FORMAT) == 0
                   ? KD_OK
                   : KD_FAIL(err, KD_E_UNSUPPORTED, "lastkd: expected format " KD_LAST_FORMAT ", found '%.40s'", value);
    }
    if (strcmp(key, "classes") == 0) {
        if (!number(value, &v) || v != floor(v) || v < 1.0 || v > MOST_CLASSES) {
            return refuse(key, value, "a whole number from 1 to 65536", err);
        }
        r->classes = (int)v;
        return KD_OK;
    }
    if (strcmp(key, "int8") == 0) {
        if (!number(value, &v) || v != floor(v) || v < 1.0 || v > MOST_LAYERS) {
            return refuse(key, value, "a whole number from 1 to 1024", err);
        }
        r->int8 = (int)v;
        return KD_OK;
    }
    if (strcmp(key, "temperature") == 0) {
        if (!number(value, &v) || v < 1e-3 || v > 1e3) {
            return refuse(key, value, "a number from 0.001 to 1000", err);
        }
        r->temperature = v;
        return KD_OK;
    }
    if (strcmp(key, "layout") == 0 || strcmp(key, "file_layout") == 0) {
        const kd_status st = kd_layout_scan(value, key[0] == 'l' ? &r->layout : &r->file_layout, err);
        return st == KD_OK ? KD_OK : kd_err_prefix(err, st, "%s", key);
    }
    if (strcmp(key, "class_names") == 0) {
        r->class_names = value;
        return KD_OK;
    }
    *known = false;
    return KD_OK;
}

kd_status kd_last_recipe_set(kd_last_recipe *r, const char *key, const char *value, bool *known, kd_err *err)
{
    *known = true;
    for (size_t i = 0; i < KD_COUNTOF(ROWS); i++) {
        if (strcmp(ROWS[i].key, key) == 0 && (ROWS[i].flags & LOCAL) == 0) {
            return set_row(&ROWS[i], r, value, err);
        }
    }
    if (strncmp(key, "student.", 8) == 0 || strncmp(key, "skeleton.", 9) == 0) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "%.80s: this library has no such option; a newer one wrote the file",
                       key);
    }
    return set_other(r, key, value, known, err);
}

/* ---- values to text -------------------------------------------------------------------------- */

static void row_text(const row *w, const kd_last_recipe *r, char *out, size_t size)
{
    const char *at = (const char *)r + w->at;
    int i = 0;
    double v = 0.0;
    if (w->kind == KIND_INT || w->kind == KIND_ENUM) {
        memcpy(&i, at, sizeof i);
    }
    if (w->kind == KIND_INT) {
        (void)snprintf(out, size, "%d", i);
    } else if (w->kind == KIND_REAL) {
        memcpy(&v, at, sizeof v);
        (void)snprintf(out, size, "%.17g", v);
    } else if (w->kind == KIND_BOOL) {
        (void)snprintf(out, size, "%s", *at != 0 ? "true" : "false");
    } else if (w->kind == KIND_TEXT) {
        (void)snprintf(out, size, "%s", at);
    } else {
        const char *name = w->names;
        for (const int *value = w->values; *value != i; value++) {
            name += strcspn(name, "|") + 1;
        }
        (void)snprintf(out, size, "%.*s", (int)strcspn(name, "|"), name);
    }
}

static kd_status visit_layout(const char *key, const kd_layout *l,
                              kd_status (*visit)(void *user, const char *key, const char *value), void *user)
{
    char text[KD_LAYOUT_TEXT];
    if (l->joints == 0) {
        return KD_OK;
    }
    kd_layout_print(l, text);
    return visit(user, key, text);
}

kd_status kd_last_recipe_each(const kd_last_recipe *r,
                              kd_status (*visit)(void *user, const char *key, const char *value), void *user)
{
    char value[VALUE_BYTES];
    KD_TRY(visit(user, "lastkd", KD_LAST_FORMAT));
    for (size_t i = 0; i < KD_COUNTOF(ROWS); i++) {
        if ((ROWS[i].flags & LOCAL) == 0) {
            row_text(&ROWS[i], r, value, sizeof value);
            KD_TRY(visit(user, ROWS[i].key, value));
        }
    }
    (void)snprintf(value, sizeof value, "%d", r->classes);
    KD_TRY(visit(user, "classes", value));
    if (r->int8 != 0) {
        (void)snprintf(value, sizeof value, "%d", r->int8);
        KD_TRY(visit(user, "int8", value));
    }
    if (r->temperature != 1.0) {
        (void)snprintf(value, sizeof value, "%.17g", r->temperature);
        KD_TRY(visit(user, "temperature", value));
    }
    KD_TRY(visit_layout("layout", &r->layout, visit, user));
    KD_TRY(visit_layout("file_layout", &r->file_layout, visit, user));
    return r->class_names != NULL ? visit(user, "class_names", r->class_names) : KD_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

static kd_status check_names(const kd_last_recipe *r, kd_err *err)
{
    int lines = 0;
    for (const char *p = r->class_names; p != NULL; lines++) {
        p = strchr(p, '\n');
        p = p != NULL ? p + 1 : NULL;
    }
    return lines == 0 || lines == r->classes
               ? KD_OK
               : KD_FAIL(err, KD_E_FORMAT, "class_names: expected %d lines, as classes says, found %d", r->classes,
                         lines);
}

/* The file's own layout, else the one of this name. */
static kd_status find_layout(const char *key, const char *name, const kd_layout *own, const kd_layout **out,
                             kd_err *err)
{
    *out = own->joints > 0 ? own : kd_layout_find(name);
    return *out != NULL ? KD_OK
                        : KD_FAIL(err, KD_E_UNSUPPORTED,
                                  "%s: this library has no joint layout '%.64s', and the file brings none", key, name);
}

kd_status kd_last_recipe_sequence(const kd_last_recipe *r, kd_sequence_spec *out, kd_err *err)
{
    const kd_layout *l = NULL, *file = NULL;
    KD_TRY(find_layout("skeleton.layout", r->skeleton.layout, &r->layout, &l, err));
    *out = (kd_sequence_spec){.skeleton = r->skeleton, .layout = *l};
    if (r->skeleton.file_layout[0] != '\0') {
        KD_TRY(find_layout("skeleton.file_layout", r->skeleton.file_layout, &r->file_layout, &file, err));
        out->file_layout = *file;
    }
    return KD_OK;
}

static kd_status check_stream(const kd_last_recipe *r, const kd_student_info *info, kd_err *err)
{
    const char *name = NULL;
    for (int i = 0; (name = kd_stream_name(i)) != NULL && strcmp(name, r->student.stream) != 0; i++) {
    }
    if (name == NULL || (info->n_streams > 1 && strcmp(name, kd_stream_name(0)) != 0)) {
        return KD_FAIL(err, KD_E_FORMAT, "student.stream: expected %s, found '%.40s'",
                       info->n_streams > 1 ? "joint, since the student reads several streams" : "the name of a stream",
                       r->student.stream);
    }
    return KD_OK;
}

kd_status kd_last_recipe_model(const kd_last_recipe *r, kd_student_cfg *out, kd_err *err)
{
    const kd_layout *layout = NULL;
    const kd_student_info *info = kd_student_find(r->student.name);
    if (info == NULL) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "student.name: this library has no student '%.64s'", r->student.name);
    }
    if (r->classes == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "classes: the key is missing");
    }
    KD_TRY(check_names(r, err));
    KD_TRY(find_layout("skeleton.layout", r->skeleton.layout, &r->layout, &layout, err));
    KD_TRY(check_stream(r, info, err));
    *out = (kd_student_cfg){.model = info,
                            .classes = r->classes,
                            .frames = r->skeleton.frames,
                            .layout = layout,
                            .bodies = r->skeleton.max_bodies};
    return kd_student_fixes(info, r->student.fix, "student.fix", &out->fix, err);
}
