/* Columns of another program's logits and classes of the data set.  See class_map.h. */
#include "distill/store/class_map.h"

#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

#define NO_COLUMN UINT32_MAX

/* Place of a name; n: nobody has this one. */
static size_t find(char *const *name, size_t n, const char *wanted)
{
    size_t i = 0;
    while (i < n && strcmp(name[i], wanted) != 0) {
        i++;
    }
    return i;
}

/* Columns by name: the names of the file are those of the data set, in whatever order. */
static kd_status by_name(const kd_outside *in, const kd_dataset *data, uint32_t *column, kd_err *err)
{
    bool moved = false;
    for (int k = 0; k < data->n_classes; k++) {
        const size_t at = find(in->name, in->names, data->classes[k]);
        if (at == in->names) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s: class '%s' of the data set is none of its %d (the first: '%s'): --class-map FILE says "
                           "which is which, 'column<TAB>class' a line",
                           in->path, data->classes[k], in->classes, in->name[0]);
        }
        column[k] = (uint32_t)at;
        moved = moved || at != (size_t)k;
    }
    if (in->classes != data->n_classes) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: %d classes, the data set has %d of them: --class-map FILE says which columns are taken",
                       in->path, in->classes, data->n_classes);
    }
    if (moved) {
        kd_log(KD_LOG_INFO, "%s: its classes are in another order: columns put into that of the data set, by name",
               in->path);
    }
    return KD_OK;
}

static kd_status in_order(const kd_outside *in, const kd_dataset *data, uint32_t *column, kd_err *err)
{
    const int n = data != NULL ? data->n_classes : in->classes;
    if (in->classes != n) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected the %d classes of the data set, found %d columns of logits: --classes-file and "
                       "--class-map say which is which",
                       in->path, n, in->classes);
    }
    if (data != NULL) {
        kd_log(KD_LOG_INFO, "%s: no class list: its columns are taken to be in label order, '%s' first", in->path,
               data->classes[0]);
    }
    for (int k = 0; k < n; k++) {
        column[k] = (uint32_t)k;
    }
    return KD_OK;
}

/* ---- a map ----------------------------------------------------------------------------------- */

static kd_status column_of(const kd_outside *in, const char *path, size_t line, const char *text, uint32_t *out,
                           kd_err *err)
{
    char *end = NULL;
    const unsigned long number = strtoul(text, &end, 10);
    const size_t at = in->name != NULL ? find(in->name, in->names, text)
                      : *text >= '0' && *text <= '9' && *end == '\0' && number < (size_t)in->classes
                          ? number
                          : (size_t)in->classes;
    if (at >= (size_t)in->classes) {
        return KD_FAIL(err, KD_E_DATA, "%s:%zu: expected %s of %s, found '%s'", path, line,
                       in->name != NULL ? "a class" : "the number of a column, from 0,", in->path, text);
    }
    *out = (uint32_t)at;
    return KD_OK;
}

static kd_status map_line(const kd_outside *in, const char *path, size_t line, char *text, const kd_dataset *data,
                          uint32_t *column, kd_err *err)
{
    char *tab = strchr(text, '\t');
    if (tab == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s:%zu: expected 'column<TAB>class', found '%s'", path, line, text);
    }
    *tab = '\0';
    const size_t k = find(data->classes, (size_t)data->n_classes, tab + 1);
    if (k == (size_t)data->n_classes) {
        return KD_FAIL(err, KD_E_DATA, "%s:%zu: expected a class of the data set, found '%s'", path, line, tab + 1);
    }
    if (column[k] != NO_COLUMN) {
        return KD_FAIL(err, KD_E_DATA, "%s:%zu: class '%s' has a column already", path, line, tab + 1);
    }
    return column_of(in, path, line, text, &column[k], err);
}

/* Number of columns that are taken; one that stands for two classes is named, as it cannot tell them apart. */
static int warn_of_shared(const kd_outside *in, const char *path, const kd_dataset *data, const uint32_t *column)
{
    int taken = 0, first = -1, second = -1;
    for (int k = 0; k < data->n_classes; k++) {
        int other = 0;
        while (column[other] != column[k]) {
            other++;
        }
        taken += other == k;
        if (other < k && first < 0) {
            first = other;
            second = k;
        }
    }
    if (first >= 0) {
        kd_log(KD_LOG_WARN, "%s: %d columns for %d classes: column %u of %s stands for '%s' and for '%s'", path, taken,
               data->n_classes, column[first], in->path, data->classes[first], data->classes[second]);
    }
    return taken;
}

static kd_status by_map(const kd_outside *in, const char *path, const kd_dataset *data, uint32_t *column, kd_err *err)
{
    enum { MOST = 16 << 20 };
    uint8_t *text = NULL;
    size_t bytes = 0, line = 0;
    int taken = 0;
    kd_status st = KD_OK;
    for (int k = 0; k < data->n_classes; k++) {
        column[k] = NO_COLUMN;
    }
    KD_GO(kd_io_read_file(path, MOST, &text, &bytes, err));
    for (char *at = (char *)text, *next; at != NULL && *at != '\0'; at = next) {
        next = strchr(at, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        at[strcspn(at, "\r")] = '\0';
        line++;
        if (*at != '\0') {
            KD_GO(map_line(in, path, line, at, data, column, err));
        }
    }
    for (int k = 0; k < data->n_classes; k++) {
        if (column[k] == NO_COLUMN) {
            st = KD_FAIL(err, KD_E_DATA, "%s: no column for class '%s' of the data set", path, data->classes[k]);
            goto done;
        }
    }
    taken = warn_of_shared(in, path, data, column);
    kd_log(KD_LOG_INFO, "%s: %d of the %d columns of %s are taken", path, taken, in->classes, in->path);
done:
    kd_free(text);
    return st;
}

kd_status kdi_class_columns(const kd_outside *in, const char *path, const kd_dataset *data, uint32_t **column,
                            kd_err *err)
{
    *column = kd_calloc((size_t)(data != NULL ? data->n_classes : in->classes), sizeof **column);
    if (*column == NULL) {
        return KD_FAIL(err, KD_E_OOM, "import: out of memory");
    }
    if (data != NULL && path != NULL) {
        return by_map(in, path, data, *column, err);
    }
    return data != NULL && in->name != NULL ? by_name(in, data, *column, err) : in_order(in, data, *column, err);
}
