/* The two lists of a split: see split_lists.h. */
#include "formats/data/split_lists.h"

#include "formats/base/io.h"
#include "formats/data/lists/lines.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#define MARKS "_test_split" /* behind the class in the names of HMDB51's files */

typedef struct reader {
    const kd_data_opts *cfg;
    const kd_archive *archive; /* NULL: none */
    kd_split_lists *out;
    kd_err *err;
} reader;

static kd_status no_memory(const reader *r)
{
    return KD_FAIL(r->err, KD_E_OOM, "%s: no memory for its lists", r->cfg->root);
}

/* ---- HMDB51: a file a class ------------------------------------------------------------------ */

/* Bytes of the class in the base name of one of HMDB51's files; 0: the name is no such file's. */
static size_t marks_class(const char *base)
{
    const char *tail = strstr(base, MARKS);
    const bool one = tail != NULL && tail > base && tail[sizeof MARKS - 1] >= '1' && tail[sizeof MARKS - 1] <= '9';
    return one && strcmp(tail + sizeof MARKS, ".txt") == 0 ? (size_t)(tail - base) : 0;
}

/* The rows of one half out of the files of all classes: paths CLASS/NAME. */
static kd_status gather_marks(const reader *r, char *const *path, const kd_listing *part, size_t n, kd_half_id which)
{
    kd_listing *to = &r->out->list[which];
    size_t rows = 0, bytes = 1;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < part[k].n; i++, rows++) {
            bytes += strlen(part[k].item[i].path) + 2 * strlen(kd_path_base(path[k]));
        }
    }
    to->text = kd_alloc(bytes);
    to->item = kd_alloc(KD_MAX(rows, 1) * sizeof *to->item);
    if (to->text == NULL || to->item == NULL) {
        return no_memory(r);
    }
    char *out = to->text;
    for (size_t k = 0; k < n; k++) {
        const char *class = kd_path_base(path[k]);
        const int len = (int)marks_class(class);
        for (size_t i = 0; i < part[k].n; i++) {
            const kd_list_item *row = &part[k].item[i];
            if (row->label < 0 || row->label > 2 || row->frames >= 0) {
                return KD_FAIL_LINE(r->err, KD_E_FORMAT, path[k], row->line,
                                    "expected a name and its mark (1 train, 2 test, 0 unused), found %d", row->label);
            }
            if (row->label == (which == KD_HALF_TRAIN ? 1 : 2)) {
                kd_list_item *it = &to->item[to->n++];
                *it = (kd_list_item){.label = -1, .frames = -1, .line = row->line};
                it->path = out;
                out += sprintf(out, "%.*s/%s", len, class, row->path) + 1;
                it->class = out;
                out += sprintf(out, "%.*s", len, class) + 1;
            }
        }
    }
    to->form = KD_LIST_MARKS;
    return to->n > 0 ? KD_OK
                     : KD_FAIL(r->err, KD_E_DATA, "%s: no row is marked %d (%s)", path[0],
                               which == KD_HALF_TRAIN ? 1 : 2, which == KD_HALF_TRAIN ? "train" : "test");
}

static kd_status read_marks(const reader *r, char *const *path, size_t n, kd_half_id which)
{
    kd_status st = KD_OK;
    kd_listing *part = kd_calloc(KD_MAX(n, 1), sizeof *part);
    if (part == NULL) {
        return no_memory(r);
    }
    for (size_t k = 0; k < n; k++) {
        if (marks_class(kd_path_base(path[k])) == 0) {
            st = KD_FAIL(r->err, KD_E_DATA, "%s: expected files CLASS" MARKS "N.txt, as HMDB51's splits are", path[k]);
            goto done;
        }
        KD_GO(kd_listing_read(path[k], &part[k], r->err));
    }
    KD_GO(gather_marks(r, path, part, n, which));
done:
    for (size_t k = 0; k < n; k++) {
        kd_listing_free(&part[k]);
    }
    kd_free(part);
    return st;
}

/* A folder of HMDB51's files: those of its one split. */
static kd_status read_folder(const reader *r, const char *dir, kd_half_id which)
{
    char *pattern = kd_strf("%s/*" MARKS "[1-9].txt", dir);
    glob_t found = {.gl_pathc = 0};
    kd_status st = KD_OK;
    if (pattern == NULL) {
        return no_memory(r);
    }
    const int rc = glob(strchr(dir, '*') != NULL ? dir : pattern, 0, NULL, &found);
    kd_free(pattern);
    if (rc != 0) {
        return rc == GLOB_NOSPACE
                   ? no_memory(r)
                   : KD_FAIL(r->err, KD_E_DATA,
                             "%s: expected a list, or the files CLASS" MARKS "N.txt of HMDB51, found none", dir);
    }
    for (size_t i = 1; i < found.gl_pathc && strchr(dir, '*') == NULL; i++) {
        const char *a = strstr(kd_path_base(found.gl_pathv[0]), MARKS),
                   *b = strstr(kd_path_base(found.gl_pathv[i]), MARKS);
        if (strcmp(a, b) != 0) {
            st = KD_FAIL(r->err, KD_E_DATA, "%s: holds several splits (%s, %s); name one: %s/*%s", dir, a + 1, b + 1,
                         dir, a);
            goto done;
        }
    }
    st = read_marks(r, found.gl_pathv, found.gl_pathc, which);
done:
    globfree(&found);
    return st;
}

/* ---- UCF101: classInd.txt -------------------------------------------------------------------- */

/* The class of a clip: its folder, or what stands between "v_" and "_g" in its name. */
static int class_of(const kd_class_names *c, const char *path)
{
    char name[KD_SAMPLE_KEY_MAX];
    const char *base = kd_path_base(path), *start = path, *end = base > path ? base - 1 : path;
    if (base == path) {
        const char *g = strstr(base, "_g");
        start = strncmp(base, "v_", 2) == 0 && g != NULL ? base + 2 : base;
        end = start > base ? g : base;
    } else {
        for (const char *p = path; p < end; p++) {
            start = *p == '/' ? p + 1 : start;
        }
    }
    const size_t n = (size_t)(end - start);
    if (n == 0 || n >= sizeof name) {
        return -1;
    }
    memcpy(name, start, n);
    name[n] = '\0';
    return kd_class_names_find(c, name);
}

/* classInd.txt beside the list or in the root; *path NULL: it is nowhere. */
static kd_status find_beside(const reader *r, const char *list, const char *name, char **path)
{
    char *dir = kd_path_dir(list);
    char *beside = dir != NULL ? kd_path_join(dir, name) : NULL;
    char *below = kd_path_join(r->cfg->root, name);
    kd_status st = beside != NULL && below != NULL ? KD_OK : no_memory(r);
    *path = st != KD_OK ? NULL : kd_path_is_file(beside) ? beside : kd_path_is_file(below) ? below : NULL;
    kd_free(dir);
    if (*path != beside) {
        kd_free(beside);
    }
    if (*path != below) {
        kd_free(below);
    }
    return st;
}

/* Labels of a list whose clips lie in classInd.txt's folders.  Numbers in the list must be those of the file. */
static kd_status label_by_folder(const reader *r, kd_half_id which, const kd_class_names *c)
{
    kd_listing *list = &r->out->list[which];
    size_t known = 0, from_0 = 0;
    for (size_t i = 0; i < list->n; i++) {
        const int class = class_of(c, list->item[i].path);
        known += class >= 0;
        from_0 += class >= 0 && (list->item[i].label == class || list->item[i].label == KD_LIST_NO_LABEL);
    }
    if (known == 0 && list->form == KD_LIST_ROWS) {
        return KD_OK; /* a list of something else */
    }
    const int base = from_0 == list->n ? 0 : 1;
    for (size_t i = 0; i < list->n; i++) {
        kd_list_item *it = &list->item[i];
        const int class = class_of(c, it->path);
        if (it->label == KD_LIST_NO_LABEL) {
            continue;
        }
        if (class < 0) {
            return KD_FAIL_LINE(r->err, KD_E_DATA, r->out->path[which], it->line,
                                "%s: its folder is no class of classInd.txt", it->path);
        }
        if (it->label >= 0 && it->label != class + base) {
            return KD_FAIL_LINE(r->err, KD_E_DATA, r->out->path[which], it->line,
                                "%s has label %d; classInd.txt numbers its class %d", it->path, it->label,
                                class + base);
        }
        it->label = class;
        it->class = c->name[class];
    }
    return KD_OK;
}

static kd_status read_class_ind(const reader *r, kd_half_id which)
{
    const kd_listing *list = &r->out->list[which];
    kd_class_names *c = &r->out->classes;
    char *path = NULL;
    if (list->form != KD_LIST_UNLABELLED &&
        (list->form != KD_LIST_ROWS || list->n == 0 || list->item[0].class != NULL)) {
        return KD_OK;
    }
    KD_TRY(find_beside(r, r->out->path[which], "classInd.txt", &path));
    if (path == NULL && list->form == KD_LIST_UNLABELLED) {
        return KD_FAIL_LINE(r->err, KD_E_FORMAT, r->out->path[which], list->item[0].line,
                            "expected a path, a tab, comma or blank, and a label (a whole number), found '%.*s'; lists "
                            "without labels need UCF101's classInd.txt beside them",
                            KD_LINES_SHOWN, list->item[0].path);
    }
    kd_status st = KD_OK;
    if (path != NULL && c->n == 0) {
        st = kd_class_names_read(path, true, c, r->err);
    }
    kd_free(path);
    return st == KD_OK && c->n > 0 ? label_by_folder(r, which, c) : st;
}

/* ---- one list -------------------------------------------------------------------------------- */

/* Rows of the other half leave a list that holds both. */
static kd_status keep_part(const reader *r, kd_half_id which)
{
    kd_listing *list = &r->out->list[which];
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        const char *part = list->item[i].part;
        const bool train = part != NULL && strcmp(part, "train") == 0;
        if (part == NULL || train == (which == KD_HALF_TRAIN)) {
            list->item[n++] = list->item[i];
        }
    }
    list->n = n;
    return n > 0 ? KD_OK
                 : KD_FAIL(r->err, KD_E_DATA, "%s: no row of the %s half (column split)", r->out->path[which],
                           which == KD_HALF_TRAIN ? "training" : "validation");
}

/* Labels from data.label_base on become labels from 0. */
static kd_status shift_labels(const reader *r, kd_half_id which)
{
    kd_listing *list = &r->out->list[which];
    for (size_t i = 0; i < list->n && r->cfg->label_base > 0; i++) {
        kd_list_item *it = &list->item[i];
        if (it->class == NULL && it->label != KD_LIST_NO_LABEL && --it->label < 0) {
            return KD_FAIL_LINE(r->err, KD_E_DATA, r->out->path[which], it->line,
                                "label 0, but data.label_base is 1: the first class is number 1");
        }
    }
    return KD_OK;
}

/* Is the path a pattern of files that are there? */
static bool matches(const char *path)
{
    glob_t found = {.gl_pathc = 0};
    const bool some = strchr(path, '*') != NULL && glob(path, 0, NULL, &found) == 0;
    globfree(&found);
    return some;
}

static kd_status read_list(const reader *r, kd_half_id which, const char *path)
{
    kd_split_lists *o = r->out;
    kd_listing *list = &o->list[which];
    const kd_archive_half *half = r->archive != NULL ? kd_archive_find_half(r->archive, path) : NULL;
    if (half != NULL) {
        o->path[which] = kd_strf("%s: split %s", r->archive->path, path);
        KD_TRY(o->path[which] != NULL ? kd_listing_of_archive(r->archive, half, list, r->err) : no_memory(r));
        return shift_labels(r, which);
    }
    o->path[which] = kd_path_exists(path) || matches(path) ? kd_strdup(path) : kd_path_join(r->cfg->root, path);
    if (o->path[which] == NULL) {
        return no_memory(r);
    }
    char *file = o->path[which];
    if (kd_path_is_dir(file) || (strchr(file, '*') != NULL && !kd_path_exists(file))) {
        return read_folder(r, file, which);
    }
    if (marks_class(kd_path_base(file)) > 0) {
        return read_marks(r, &file, 1, which);
    }
    KD_TRY(kd_listing_read(file, list, r->err));
    if (list->form == KD_LIST_MARKS) {
        return KD_FAIL(r->err, KD_E_DATA,
                       "%s: looks like a split file of HMDB51 (NAME 1|2|0: train, test, unused); expected its name to "
                       "be CLASS" MARKS "N.txt, which tells the class (of a list of labels, remove the blanks behind "
                       "them)",
                       file);
    }
    if (list->form == KD_LIST_KINETICS) {
        return keep_part(r, which);
    }
    KD_TRY(read_class_ind(r, which));
    return shift_labels(r, which);
}

/* ---- names to labels ------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of both lists, each once, in the order of the alphabet. */
static kd_status collect_names(const reader *r)
{
    kd_split_lists *o = r->out;
    const size_t all = o->list[0].n + o->list[1].n;
    const char **name = kd_alloc(KD_MAX(all, 1) * sizeof *name);
    size_t n = 0;
    if (name == NULL) {
        return no_memory(r);
    }
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < o->list[h].n; i++) {
            if (o->list[h].item[i].label != KD_LIST_NO_LABEL) {
                name[n++] = o->list[h].item[i].class;
            }
        }
    }
    qsort(name, n, sizeof *name, by_text);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(name[i], name[kept - 1]) != 0) {
            name[kept++] = name[i];
        }
    }
    o->classes.name = kd_calloc(KD_MAX(kept, 1), sizeof *o->classes.name);
    o->classes.n = o->classes.name != NULL ? (int)kept : 0;
    kd_status st = o->classes.name != NULL ? KD_OK : no_memory(r);
    for (int i = 0; i < o->classes.n && st == KD_OK; i++) {
        o->classes.name[i] = kd_strdup(name[i]);
        st = o->classes.name[i] != NULL ? KD_OK : no_memory(r);
    }
    kd_free(name);
    return st;
}

static kd_status given_names(const reader *r)
{
    const kd_cfg_names *given = &r->cfg->classes;
    kd_class_names *c = &r->out->classes;
    c->name = kd_calloc((size_t)given->n, sizeof *c->name);
    c->n = c->name != NULL ? given->n : 0;
    kd_status st = c->name != NULL ? KD_OK : no_memory(r);
    for (int i = 0; i < c->n && st == KD_OK; i++) {
        c->name[i] = kd_strdup(given->v[i]);
        st = c->name[i] != NULL ? KD_OK : no_memory(r);
    }
    return st;
}

/* The numbers of the classes: from the recipe, a file, or the names themselves. */
static kd_status number_names(const reader *r)
{
    static const char *const FILES[] = {"something-something-v2-labels.json", "labels.json"};
    kd_split_lists *o = r->out;
    char *path = NULL;
    if (r->cfg->classes.n > 0) {
        return given_names(r);
    }
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < KD_COUNTOF(FILES) && o->list[h].form == KD_LIST_SSV2; i++) {
            KD_TRY(find_beside(r, o->path[h], FILES[i], &path));
            if (path != NULL) {
                const kd_status st = kd_class_names_read_json(path, &o->classes, r->err);
                kd_free(path);
                return st;
            }
        }
    }
    path = kd_path_join(r->cfg->root, KD_CLASSES_FILE);
    if (path == NULL) {
        return no_memory(r);
    }
    const bool there = kd_path_is_file(path);
    kd_status st = there ? kd_class_names_read(path, false, &o->classes, r->err) : KD_OK;
    kd_free(path);
    if (there || st != KD_OK) {
        return st;
    }
    if (o->path[KD_HALF_TRAIN] == NULL) {
        return KD_FAIL(r->err, KD_E_DATA,
                       "%s: its labels are class names; their numbers come from the training list (data.train_list), "
                       "data.classes or <root>/" KD_CLASSES_FILE ", and none is there",
                       o->path[KD_HALF_VAL]);
    }
    return collect_names(r);
}

static kd_status label_by_name(const reader *r)
{
    kd_split_lists *o = r->out;
    bool names = false, numbers = false;
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < o->list[h].n; i++) {
            names |= o->list[h].item[i].label == -1;
            numbers |= o->list[h].item[i].label >= 0;
        }
    }
    if (!names) {
        return KD_OK;
    }
    if (numbers) {
        return KD_FAIL(r->err, KD_E_DATA, "%s, %s: one list has numbers of classes, the other names",
                       o->path[KD_HALF_TRAIN], o->path[KD_HALF_VAL]);
    }
    KD_TRY(number_names(r));
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < o->list[h].n; i++) {
            kd_list_item *it = &o->list[h].item[i];
            if (it->label == KD_LIST_NO_LABEL) {
                continue;
            }
            it->label = kd_class_names_find(&o->classes, it->class);
            if (it->label < 0) {
                return KD_FAIL_LINE(r->err, KD_E_DATA, o->path[h], it->line, "'%s' is none of the %d classes",
                                    it->class, o->classes.n);
            }
        }
    }
    return KD_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static kd_status read_both(const reader *r)
{
    const char *path[KD_HALVES] = {r->cfg->train_list, r->cfg->val_list};
    for (int h = 0; h < KD_HALVES; h++) {
        const bool same = h == KD_HALF_VAL && path[h][0] == '\0' && r->out->list[KD_HALF_TRAIN].form == KD_LIST_MARKS;
        const char *from = same ? path[KD_HALF_TRAIN] : path[h];
        if (from[0] != '\0') {
            KD_TRY(read_list(r, (kd_half_id)h, from));
        }
    }
    const kd_listing *val = &r->out->list[KD_HALF_VAL];
    for (size_t i = 0; i < val->n; i++) {
        if (val->item[i].label == KD_LIST_NO_LABEL) {
            return KD_FAIL_LINE(r->err, KD_E_DATA, r->out->path[KD_HALF_VAL], val->item[i].line,
                                "%s has no label: expected one, the validation half is measured by its labels",
                                val->item[i].path);
        }
    }
    return label_by_name(r);
}

kd_status kd_split_lists_read(const kd_data_opts *cfg, const kd_archive *archive, kd_split_lists *out, kd_err *err)
{
    const reader r = {.cfg = cfg, .archive = archive, .out = out, .err = err};
    *out = (kd_split_lists){.classes.n = 0};
    const kd_status st = read_both(&r);
    if (st != KD_OK) {
        kd_split_lists_free(out);
    }
    return st;
}

void kd_split_lists_free(kd_split_lists *s)
{
    if (s == NULL) {
        return;
    }
    for (int h = 0; h < KD_HALVES; h++) {
        kd_listing_free(&s->list[h]);
        kd_free(s->path[h]);
    }
    kd_class_names_free(&s->classes);
    *s = (kd_split_lists){.classes.n = 0};
}
