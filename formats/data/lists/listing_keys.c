/* Split lists: keys of their rows, and writing.  See listing.h. */
#include "formats/base/io.h"
#include "formats/data/lists/lines.h"
#include "formats/data/lists/listing.h"

#include <stdlib.h>

/* ---- keys ------------------------------------------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
    const kd_list_item *x = *(const kd_list_item *const *)a;
    const kd_list_item *y = *(const kd_list_item *const *)b;
    const int c = strcmp(x->key, y->key);
    return c != 0 ? c : x->line < y->line ? -1 : x->line > y->line;
}

static kd_status refuse_duplicates(const kd_listing *list, const char *name, kd_err *err)
{
    kd_status st = KD_OK;
    const kd_list_item **order = kd_alloc(list->n * sizeof *order);
    if (order == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to compare %zu samples", name, list->n);
    }
    for (size_t i = 0; i < list->n; i++) {
        order[i] = &list->item[i];
    }
    qsort(order, list->n, sizeof *order, by_key);
    for (size_t i = 1; i < list->n && st == KD_OK; i++) {
        const kd_list_item *a = order[i - 1];
        const kd_list_item *b = order[i];
        if (strcmp(a->key, b->key) == 0) {
            st = KD_FAIL_LINE(err, KD_E_DATA, name, b->line, "sample %s stands in line %u already (%s and %s)", b->key,
                              a->line, a->path, b->path);
        }
    }
    kd_free(order);
    return st;
}

/* The path below `root`: what is left of it when it begins with the root. */
static const char *below(const char *path, const char *root)
{
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/') {
        n--;
    }
    const bool inside = n > 0 && strncmp(path, root, n) == 0 && path[n] == '/';
    return inside ? path + n + 1 : path;
}

/* How keys are made of paths. */
typedef struct key_maker {
    kd_key_rule rule;
    const char *dir, *real; /* the folder that path keys are relative to, and its real path */
} key_maker;

static size_t key_of(const key_maker *m, const char *path, const char **key)
{
    return m->rule == KD_KEY_PATH ? kd_sample_path_key(below(below(path, m->dir), m->real), key)
                                  : kd_sample_key(path, key);
}

static kd_status measure(const kd_listing *list, const char *name, const key_maker *m, size_t *bytes, kd_err *err)
{
    *bytes = 1;
    for (size_t i = 0; i < list->n; i++) {
        const char *key;
        const size_t n = key_of(m, list->item[i].path, &key);
        if (n == 0 || n >= KD_SAMPLE_KEY_MAX) {
            const bool path = m->rule == KD_KEY_PATH;
            return KD_FAIL_LINE(err, KD_E_FORMAT, name, list->item[i].line,
                                "expected a %s of 1 to %d bytes before its ending, found %zu in '%.*s'%s",
                                path ? "path" : "file name", KD_SAMPLE_KEY_MAX - 1, n, KD_LINES_SHOWN,
                                list->item[i].path,
                                n > 0 && path ? "; data.key: stem names samples by file names alone" : "");
        }
        *bytes += n + 1;
    }
    return KD_OK;
}

kd_status kd_listing_keys(kd_listing *list, const char *name, kd_key_rule rule, const char *dir, kd_err *err)
{
    char *real = realpath(dir, NULL);
    const key_maker m = {rule, dir, real != NULL ? real : dir};
    size_t bytes = 0;
    kd_status st;
    KD_GO(measure(list, name, &m, &bytes, err));
    char *out = kd_alloc(bytes);
    if (out == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu names", name, list->n);
        goto done;
    }
    kd_free(list->keys);
    list->keys = out;
    for (size_t i = 0; i < list->n; i++) {
        const char *key;
        const size_t n = key_of(&m, list->item[i].path, &key);
        memcpy(out, key, n);
        out[n] = '\0';
        list->item[i].key = out;
        out += n + 1;
    }
    st = list->n > 1 ? refuse_duplicates(list, name, err) : KD_OK;
done:
    free(real); /* realpath's own */
    return st;
}

typedef struct stem {
    const char *at, *path;
    size_t len;
} stem;

static int by_stem(const void *a_, const void *b_)
{
    const stem *a = a_, *b = b_;
    const int c = memcmp(a->at, b->at, KD_MIN(a->len, b->len));
    return c != 0 ? c : a->len < b->len ? -1 : a->len > b->len;
}

kd_status kd_listing_stems_differ(const kd_listing *list, size_t n, bool *differ, kd_err *err)
{
    size_t all = 0, k = 0;
    for (size_t h = 0; h < n; h++) {
        all += list[h].n;
    }
    stem *s = kd_alloc(KD_MAX(all, 1) * sizeof *s);
    if (s == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to compare %zu samples", all);
    }
    for (size_t h = 0; h < n; h++) {
        for (size_t i = 0; i < list[h].n; i++) {
            s[k].path = list[h].item[i].path;
            s[k].len = kd_sample_key(s[k].path, &s[k].at);
            k++;
        }
    }
    qsort(s, all, sizeof *s, by_stem);
    *differ = true;
    for (size_t i = 1; i < all; i++) { /* one file in both lists is another fault, told elsewhere */
        *differ = *differ && (by_stem(&s[i - 1], &s[i]) != 0 || strcmp(s[i - 1].path, s[i].path) == 0);
    }
    kd_free(s);
    return KD_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool has_control(const char *path)
{
    const char *c = path;
    while (*c != '\0' && (unsigned char)*c >= ' ' && *c != 0x7f) {
        c++;
    }
    return *c != '\0';
}

/* Would a reader that splits at blanks, or ours at a first line, see another path? */
static bool needs_quotes(const char *path)
{
    return strpbrk(path, " ,;\"") != NULL || path[0] == '#';
}

kd_list_shape kd_listing_shape(const kd_list_item *item, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (needs_quotes(item[i].path)) {
            return KD_LIST_CSV;
        }
    }
    return KD_LIST_BLANK;
}

static kd_status writable(const char *name, const char *path, kd_list_shape shape, kd_err *err)
{
    if (has_control(path)) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: '%s' holds a control character, which ends a line or a field; rename the file", name, path);
    }
    if (shape == KD_LIST_BLANK && strchr(path, ' ') != NULL) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: '%s' holds a blank, at which readers of this form cut a path; rename the file, or write "
                       "CSV (--format csv)",
                       name, path);
    }
    return KD_OK;
}

static kd_status put_path(kd_writer *w, const char *path, bool csv, kd_err *err)
{
    if (!csv || !needs_quotes(path)) {
        return kd_writer_put(w, path, strlen(path), err);
    }
    KD_TRY(kd_writer_put(w, "\"", 1, err));
    for (const char *c = path; *c != '\0'; c++) {
        KD_TRY(kd_writer_put(w, "\"\"", *c == '"' ? 1 : 0, err));
        KD_TRY(kd_writer_put(w, c, 1, err));
    }
    return kd_writer_put(w, "\"", 1, err);
}

kd_status kd_listing_write(const char *path, const kd_list_item *item, size_t n, kd_list_shape shape, kd_err *err)
{
    static const char heading[] = "path,label\n";
    kd_writer *w = NULL;
    kd_status st;
    for (size_t i = 0; i < n; i++) {
        KD_TRY(writable(path, item[i].path, shape, err));
    }
    KD_TRY(kd_writer_open(path, &w, err));
    if (shape == KD_LIST_CSV) {
        KD_GO(kd_writer_put(w, heading, sizeof heading - 1, err));
    }
    for (size_t i = 0; i < n; i++) {
        KD_GO(put_path(w, item[i].path, shape == KD_LIST_CSV, err));
        char *label = kd_strf("%c%d\n", shape == KD_LIST_CSV ? ',' : ' ', item[i].label);
        st = label != NULL ? kd_writer_put(w, label, strlen(label), err)
                           : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        kd_free(label);
        if (st != KD_OK) {
            goto done;
        }
    }
    st = kd_writer_commit(w, err);
    w = NULL;
done:
    kd_writer_abort(w);
    return st;
}
