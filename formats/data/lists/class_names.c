/* Names of classes in files: see class_names.h. */
#include "formats/data/lists/class_names.h"

#include "formats/base/io.h"
#include "formats/base/json.h"
#include "formats/data/lists/lines.h"

#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define CLASSES_MAX    65536

void kd_class_names_free(kd_class_names *c)
{
    if (c != NULL) {
        for (int i = 0; c->name != NULL && i < c->n; i++) {
            kd_free(c->name[i]);
        }
        kd_free(c->name);
        *c = (kd_class_names){0};
    }
}

int kd_class_names_find(const kd_class_names *c, const char *name)
{
    for (int i = 0; i < c->n; i++) {
        if (strcmp(c->name[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Lines up to the last that is not empty. */
static int count_lines(kd_lines in)
{
    const char *line;
    size_t len;
    int n = 0, last = 0;
    while (kd_lines_next(&in, &line, &len)) {
        n++;
        last = len > 0 ? n : last;
    }
    return last;
}

/* The number in front of a name, and what is behind it; -1: there is none. */
static long leading_number(const char *line, size_t len, size_t *behind)
{
    long v = 0;
    size_t i = 0;
    while (i < len && i < 6 && line[i] >= '0' && line[i] <= '9') {
        v = v * 10 + (line[i++] - '0');
    }
    const bool number = i > 0 && i < len && strchr(" \t,;:", line[i]) != NULL;
    while (number && i < len && strchr(" \t,;:", line[i]) != NULL) {
        i++;
    }
    *behind = i;
    return number && i < len ? v : -1;
}

static kd_status read_names(kd_lines in, const char *path, bool numbered, kd_class_names *c, kd_err *err)
{
    const char *line;
    size_t len, behind = 0;
    long first = 0;
    for (int i = 0; i < c->n && kd_lines_next(&in, &line, &len); i++) {
        const long number = numbered ? leading_number(line, len, &behind) : i;
        first = i == 0 ? number : first;
        if (number != first + i || first < 0 || first > 1) {
            return KD_FAIL_LINE(
                err, KD_E_FORMAT, path, in.number,
                "expected the number of the class (the next one, from 0 or 1) and its name, found '%.*s'",
                (int)KD_MIN(len, (size_t)KD_LINES_SHOWN), line);
        }
        if (len == 0) {
            return KD_FAIL_LINE(err, KD_E_FORMAT, path, in.number, "an empty class name");
        }
        char *name = kd_strf("%.*s", (int)(len - behind), line + behind);
        if (name == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for %d names", path, c->n);
        }
        const int twin = kd_class_names_find(&(kd_class_names){c->name, i}, name);
        c->name[i] = name;
        if (twin >= 0) {
            return KD_FAIL_LINE(err, KD_E_FORMAT, path, in.number, "class '%s' stands there already, as number %d",
                                name, twin);
        }
    }
    return KD_OK;
}

/* Names that are numbered from 0 or 1, each number once, but not in the order of their lines, mean that order. */
static kd_status check_order(const kd_class_names *c, const char *path, kd_err *err)
{
    long low = c->n, sum = 0;
    int moved = -1;
    size_t behind = 0;
    for (int i = 0; i < c->n; i++) {
        const long number = leading_number(c->name[i], strlen(c->name[i]), &behind);
        if (number < 0 || number > c->n) {
            return KD_OK;
        }
        low = KD_MIN(low, number);
        sum += number;
    }
    for (int i = 0; i < c->n && moved < 0; i++) {
        moved = leading_number(c->name[i], strlen(c->name[i]), &behind) != low + i ? i : -1;
    }
    if (moved < 0 || low > 1 || 2 * sum != (long)c->n * (2 * low + c->n - 1)) {
        return KD_OK;
    }
    return KD_FAIL_LINE(err, KD_E_FORMAT, path, moved + 1,
                        "'%s': names are numbered by their lines, this would be class %d: sort the lines and remove "
                        "the numbers",
                        c->name[moved], moved);
}

kd_status kd_class_names_read(const char *path, bool numbered, kd_class_names *out, kd_err *err)
{
    kd_class_names c = {0};
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_lines in;
    kd_status st;
    *out = c;
    KD_GO(kd_io_read_file(path, FILE_BYTES_MAX, &data, &bytes, err));
    KD_GO(kd_lines_open((const char *)data, bytes, path, &in, err));
    c.n = count_lines(in);
    if (c.n < 1 || c.n > CLASSES_MAX) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: expected one class name a line, found %d lines", path, c.n);
        c.n = 0;
        goto done;
    }
    c.name = kd_calloc((size_t)c.n, sizeof *c.name);
    if (c.name == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %d names", path, c.n);
        goto done;
    }
    KD_GO(read_names(in, path, numbered, &c, err));
    if (!numbered) {
        KD_GO(check_order(&c, path, err));
    }
    *out = c;
    c = (kd_class_names){0};
done:
    kd_class_names_free(&c);
    kd_free(data);
    return st;
}

static kd_status read_members(const kd_json *doc, const char *path, kd_class_names *c, kd_err *err)
{
    for (int i = 0; i < c->n; i++) {
        const kd_json *m = kd_json_at(doc, (size_t)i);
        const char *text = NULL;
        char *end = NULL;
        KD_TRY(kd_json_as_str(m, &text, err));
        const long label = strtol(text, &end, 10);
        if (end == text || *end != '\0' || label < 0 || label >= c->n || c->name[label] != NULL) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: '%s': expected a number of its own from 0 to %d, found '%s'", path,
                           kd_json_key(m), c->n - 1, text);
        }
        c->name[label] = kd_strdup(kd_json_key(m));
        if (c->name[label] == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for %d names", path, c->n);
        }
    }
    return KD_OK;
}

kd_status kd_class_names_read_json(const char *path, kd_class_names *out, kd_err *err)
{
    kd_class_names c = {0};
    kd_json *doc = NULL;
    kd_status st;
    *out = c;
    KD_GO(kd_json_load(path, &doc, err));
    const size_t n = kd_json_count(doc);
    if (kd_json_type_of(doc) != KD_JSON_OBJECT || n < 1 || n > CLASSES_MAX) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: expected an object of class names and their numbers", path);
        goto done;
    }
    c.name = kd_calloc(n, sizeof *c.name);
    if (c.name == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu names", path, n);
        goto done;
    }
    c.n = (int)n;
    KD_GO(read_members(doc, path, &c, err));
    *out = c;
    c = (kd_class_names){0};
done:
    kd_class_names_free(&c);
    kd_json_free(doc);
    return st;
}
