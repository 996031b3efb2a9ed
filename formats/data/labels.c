/* Labels of lists: do they make sense?  See split_lists.h. */
#include "formats/base/io.h"
#include "formats/data/lists/lines.h"
#include "formats/data/split_lists.h"

#include <stdlib.h>

typedef struct range {
    int least, most;
    size_t n; /* rows that have a label */
} range;

static const char *const HALF[KD_HALVES] = {"training", "validation"};

static range range_of(const kd_listing *list)
{
    range r = {INT32_MAX, -1, 0};
    for (size_t i = 0; i < list->n; i++) {
        if (list->item[i].label != KD_LIST_NO_LABEL) {
            r.least = KD_MIN(r.least, list->item[i].label);
            r.most = KD_MAX(r.most, list->item[i].label);
            r.n++;
        }
    }
    return r;
}

/* ---- NTU names ------------------------------------------------------------------------------- */

/* Labels of NTU names against their actions.  A list may number some of the actions anew; then every action has one
 * label. */
static kd_status check_ntu(const kd_listing *list, const char *path, kd_err *err)
{
    enum { ACTIONS = 1000 };
    int label_of[ACTIONS];
    size_t minus_1 = 0, equal = 0, rows = 0, odd = list->n;
    bool one_label = true;
    memset(label_of, -1, sizeof label_of);
    for (size_t i = 0; i < list->n; i++) {
        const kd_list_item *it = &list->item[i];
        kd_sample_id id;
        if (it->label == KD_LIST_NO_LABEL) {
            continue;
        }
        if (it->class != NULL || !kd_sample_id_from_path(it->path, &id)) {
            return KD_OK; /* other names too: the list has its own numbers */
        }
        one_label = one_label && (label_of[id.action] < 0 || label_of[id.action] == it->label);
        label_of[id.action] = it->label;
        minus_1 += it->label == id.action - 1;
        equal += it->label == id.action;
        rows++;
        odd = odd == list->n && it->label != id.action - 1 ? i : odd;
    }
    const kd_list_item *first = odd < list->n ? &list->item[odd] : NULL;
    if (first != NULL && equal == rows) {
        return KD_FAIL_LINE(err, KD_E_DATA, path, first->line,
                            "label %d of %s is the number of its action, and so are all labels of the list; labels "
                            "count from 0: expected the action minus 1 (data.label_base: 1 reads the list as it is)",
                            first->label, first->path);
    }
    if (first != NULL && !one_label && 2 * minus_1 > rows) {
        return KD_FAIL_LINE(
            err, KD_E_DATA, path, first->line,
            "label %d of %s: expected the action of the name minus 1, as %zu of %zu rows have; %zu rows "
            "are wrong",
            first->label, first->path, minus_1, rows, rows - minus_1);
    }
    return KD_OK;
}

/* ---- folders --------------------------------------------------------------------------------- */

typedef struct folder {
    const char *at; /* the folder of a clip, in its path */
    size_t len;
    int half;
    const kd_list_item *item;
} folder;

static int by_folder(const void *a_, const void *b_)
{
    const folder *a = a_, *b = b_;
    const int c = memcmp(a->at, b->at, KD_MIN(a->len, b->len));
    if (c != 0 || a->len != b->len) {
        return c != 0 ? c : a->len < b->len ? -1 : 1;
    }
    return a->half - b->half;
}

static size_t folders_of(const kd_split_lists *s, folder *f)
{
    size_t n = 0;
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < s->list[h].n; i++) {
            const char *path = s->list[h].item[i].path, *base = kd_path_base(path);
            if (base > path && s->list[h].item[i].label != KD_LIST_NO_LABEL) {
                f[n++] = (folder){path, (size_t)(base - path), h, &s->list[h].item[i]};
            }
        }
    }
    return n;
}

static bool same_folder(const folder *a, const folder *b)
{
    return a->len == b->len && memcmp(a->at, b->at, a->len) == 0;
}

/* Are the sorted folders those of classes: in each half one label a folder and one folder a label, more clips than
 * folders? */
static kd_status are_classes(const folder *f, size_t n, int most, bool *yes, kd_err *err)
{
    const size_t labels = (size_t)most + 1;
    uint8_t *seen = kd_calloc(2 * labels, 1);
    size_t folders = 0;
    if (seen == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to compare the labels of the lists");
    }
    *yes = true;
    for (size_t i = 0; i < n; i++) {
        const bool next = i == 0 || !same_folder(&f[i], &f[i - 1]) || f[i].half != f[i - 1].half;
        uint8_t *mine = &seen[(size_t)f[i].half * labels + (size_t)f[i].item->label];
        *yes = *yes && (next ? *mine == 0 : f[i].item->label == f[i - 1].item->label);
        *mine = 1;
        folders += next;
    }
    *yes = *yes && n > folders;
    kd_free(seen);
    return KD_OK;
}

/* "Hand Clap", "hand_clap" and "hand-clap" are one name. */
static char plain(char c)
{
    return c == ' ' || c == '-' ? '_' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The class that the folder is named after, -1: none. */
static int class_of(const folder *f, const char *const *names, int n_classes)
{
    const size_t end = f->len - 1; /* of the name, at the slash */
    size_t begin = end;
    while (begin > 0 && f->at[begin - 1] != '/') {
        begin--;
    }
    for (int k = 0; k < n_classes; k++) {
        size_t i = 0;
        while (begin + i < end && names[k][i] != '\0' && plain(names[k][i]) == plain(f->at[begin + i])) {
            i++;
        }
        if (begin + i == end && names[k][i] == '\0') {
            return k;
        }
    }
    return -1;
}

/* A class folder whose name is that of another class. */
static kd_status check_name(const kd_split_lists *s, const folder *f, const char *const *names, int n_classes,
                            kd_err *err)
{
    const int k = class_of(f, names, n_classes), label = f->item->label;
    if (k < 0 || k == label || label >= n_classes) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA,
                   "%s:%u: %.*s has label %d, which is '%s'; its name is that of class %d: the names (data.classes or "
                   "classes.txt) and the lists number the classes differently",
                   s->path[f->half], f->item->line, (int)f->len, f->at, label, names[label], k);
}

/* Class folders to which the lists give different numbers, or numbers other than the class names do. */
static kd_status check_folders(const kd_split_lists *s, const char *const *names, int n_classes, int most, kd_err *err)
{
    bool classes = false;
    kd_status st;
    folder *f = kd_alloc(KD_MAX(s->list[0].n + s->list[1].n, 1) * sizeof *f);
    if (f == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to compare the labels of the lists");
    }
    const size_t n = folders_of(s, f);
    if (n > 1) {
        qsort(f, n, sizeof *f, by_folder);
    }
    KD_GO(are_classes(f, n, most, &classes, err));
    for (size_t i = 0; i < n && classes && names != NULL; i++) {
        KD_GO(check_name(s, &f[i], names, n_classes, err));
    }
    for (size_t i = 1; i < n && classes; i++) {
        const folder *a = &f[i - 1], *b = &f[i];
        if (same_folder(a, b) && a->item->label != b->item->label) {
            st = KD_FAIL(err, KD_E_DATA,
                         "%s:%u: %.*s holds class %d, and in %s:%u class %d: the lists number the classes differently",
                         s->path[a->half], a->item->line, (int)a->len, a->at, a->item->label, s->path[b->half],
                         b->item->line, b->item->label);
            goto done;
        }
    }
done:
    kd_free(f);
    return st;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static kd_status refuse_beyond(const kd_listing *list, const char *path, int n_classes, bool from_1, kd_err *err)
{
    size_t bad = 0;
    const kd_list_item *first = NULL;
    for (size_t i = 0; i < list->n; i++) {
        if (list->item[i].label >= n_classes) {
            first = first == NULL ? &list->item[i] : first;
            bad++;
        }
    }
    return bad == 0 ? KD_OK
                    : KD_FAIL_LINE(err, KD_E_DATA, path, first->line,
                                   "label %d of %s: expected 0 to %d (%d classes); %zu of %zu labels are beyond%s",
                                   first->label, first->path, n_classes - 1, n_classes, bad, list->n,
                                   from_1 ? "; no label is 0: do they count from 1 (data.label_base: 1)?" : "");
}

static kd_status check_numbers(const kd_split_lists *s, const range r[KD_HALVES], int n_classes, kd_err *err)
{
    const int least = KD_MIN(r[0].least, r[1].least), most = KD_MAX(r[0].most, r[1].most);
    const range *t = &r[KD_HALF_TRAIN], *v = &r[KD_HALF_VAL];
    const int shift = t->n > 0 && v->n > 0 ? t->least - v->least : 0;
    if ((shift == 1 || shift == -1) && t->most - v->most == shift) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s has labels %d to %d, %s %d to %d: one list counts from 0 and the other from 1",
                       s->path[KD_HALF_TRAIN], t->least, t->most, s->path[KD_HALF_VAL], v->least, v->most);
    }
    for (int h = 0; h < KD_HALVES && n_classes > 0; h++) {
        KD_TRY(refuse_beyond(&s->list[h], s->path[h], n_classes, least == 1, err));
    }
    if (least == 1 && n_classes == 0) {
        const int h = t->n > 0 ? KD_HALF_TRAIN : KD_HALF_VAL;
        return KD_FAIL(err, KD_E_DATA,
                       "%s: labels from 1 to %d, none is 0: labels count from 0; data.label_base: 1 reads lists that "
                       "count from 1, data.num_classes: %d says that class 0 is empty",
                       s->path[h], most, most + 1);
    }
    if (t->n > 0 && v->n > 0 && (t->most < v->least || v->most < t->least)) {
        return KD_FAIL(err, KD_E_DATA, "%s has labels %d to %d, %s %d to %d: the %s half has no class of the %s half",
                       s->path[KD_HALF_TRAIN], t->least, t->most, s->path[KD_HALF_VAL], v->least, v->most,
                       HALF[KD_HALF_VAL], HALF[KD_HALF_TRAIN]);
    }
    return KD_OK;
}

kd_status kd_split_lists_check(const kd_split_lists *s, const char *const *names, int n_classes, kd_err *err)
{
    const range r[KD_HALVES] = {range_of(&s->list[0]), range_of(&s->list[1])};
    for (int h = 0; h < KD_HALVES; h++) {
        if (r[h].n > 0) {
            KD_TRY(check_ntu(&s->list[h], s->path[h], err));
        }
    }
    KD_TRY(check_numbers(s, r, n_classes, err));
    return check_folders(s, names, n_classes, KD_MAX(r[0].most, r[1].most), err);
}
