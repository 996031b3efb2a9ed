/* Recipe files and their bases as one tree: see config_files.h. */
#include "configs/schema/config_files.h"

#include "formats/base/io.h"

#include <limits.h>
#include <stdlib.h>

enum { MAX_DEPTH = 16, MAX_FILES = 64 }; /* bases of bases; files that one file leads to */

const char *kd_cfg_kind_text(const kd_yaml_node *n)
{
    return n->kind == KD_YAML_MAP ? "a map" : n->kind == KD_YAML_LIST ? "a list" : "a value";
}

/* ---- files ----------------------------------------------------------------------------------- */

kd_status kd_cfg_expect_map(const kd_yaml_node *root, kd_err *err)
{
    if (root->kind == KD_YAML_MAP) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: expected `key: value` lines, found %s", root->origin, root->value_line,
                   root->value_column, kd_cfg_kind_text(root));
}

static kd_status read_yaml(kd_yaml_tree *t, const char *path, kd_yaml_node **root, kd_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    KD_TRY(kd_io_read_file(path, KD_YAML_MAX_BYTES, &text, &len, err));
    kd_status st = kd_yaml_parse(t, text, len, path, root, err);
    kd_free(text);
    return st == KD_OK ? kd_cfg_expect_map(*root, err) : st;
}

/* A file whose bases are being read. */
typedef struct open_file {
    char *path;               /* as the file that names it leads to it */
    char *real;               /* from realpath: a cycle is recognised whatever the spelling */
    kd_yaml_node *own;        /* the file's keys without `base` */
    const kd_yaml_node *base; /* the next base to read; NULL: none is left */
    kd_yaml_node *merged;     /* the bases read so far; NULL: none yet */
} open_file;

typedef struct loader {
    kd_yaml_tree *tree;
    open_file stack[MAX_DEPTH];
    int depth, files; /* open now, read in all */
} loader;

/* Take `base` out of a file's keys: the first of the values that name files; NULL where there is none. */
static kd_status take_base(kd_yaml_node *own, const kd_yaml_node **first, kd_err *err)
{
    kd_yaml_node *base = kd_yaml_get(own, "base");
    *first = NULL;
    if (base == NULL) {
        return KD_OK;
    }
    kd_yaml_unlink(base);
    const bool list = base->kind == KD_YAML_LIST && base->child != NULL;
    *first = list ? base->child : base;
    for (const kd_yaml_node *n = *first; n != NULL; n = list ? n->next : NULL) {
        if (n->kind != KD_YAML_SCALAR || n->text[0] == '\0') {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s:%d:%d: base: expected the path of a YAML file or a list of paths, found %s", n->origin,
                           n->value_line, n->value_column, n->kind == KD_YAML_SCALAR ? "nothing" : kd_cfg_kind_text(n));
        }
    }
    return KD_OK;
}

/* Read a file (path: owned from here on) that `by` names; NULL: the command line does. */
static kd_status push(loader *l, char *path, const kd_yaml_node *by, kd_err *err)
{
    if (l->depth == MAX_DEPTH || l->files == MAX_FILES) {
        const kd_status st =
            KD_FAIL(err, KD_E_CONFIG, "%s: more than %d files, or bases %d deep", path, MAX_FILES, MAX_DEPTH);
        kd_free(path);
        return st;
    }
    open_file *f = &l->stack[l->depth++];
    *f = (open_file){.path = path, .real = realpath(path, NULL)};
    l->files++;
    for (int i = 0; i + 1 < l->depth && f->real != NULL; i++) {
        if (l->stack[i].real != NULL && strcmp(l->stack[i].real, f->real) == 0) {
            return KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: base: %s leads back to itself", by->origin, by->line,
                           by->column, path);
        }
    }
    kd_status st = read_yaml(l->tree, path, &f->own, err);
    if (st == KD_E_IO) { /* a recipe that is not there is the command line's fault, or that of the file that names it */
        st = KD_E_CONFIG;
        if (err != NULL) {
            err->code = st;
        }
        if (by != NULL) {
            (void)kd_err_prefix(err, st, "%s:%d:%d: base", by->origin, by->line, by->column);
        }
    }
    KD_TRY(st);
    return take_base(f->own, &f->base, err);
}

static void pop(loader *l)
{
    open_file *f = &l->stack[--l->depth];
    kd_free(f->path);
    free(f->real);
}

/* The next base of the file on top; relative to that file. */
static kd_status push_base(loader *l, kd_err *err)
{
    open_file *f = &l->stack[l->depth - 1];
    const kd_yaml_node *by = f->base;
    const bool list = by->parent != NULL;
    f->base = list ? by->next : NULL;
    char *dir = kd_path_dir(f->path);
    char *path = dir == NULL ? NULL : kd_path_join(dir, by->text);
    kd_free(dir);
    return path != NULL ? push(l, path, by, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", f->path);
}

/* The ids of a split belong to its `by`: another one in `over` leaves those of `base` behind. */
static void forget_split(const kd_yaml_node *base, const kd_yaml_node *over)
{
    kd_yaml_node *old = kd_yaml_get(kd_yaml_get(base, "data"), "split");
    const kd_yaml_node *was = kd_yaml_get(old, "by");
    const kd_yaml_node *by = kd_yaml_get(kd_yaml_get(kd_yaml_get(over, "data"), "split"), "by");
    if (by == NULL || (was != NULL && strcmp(was->text, by->text) == 0)) {
        return;
    }
    static const char *const ids[] = {"train", "val"};
    for (size_t i = 0; i < KD_COUNTOF(ids); i++) {
        kd_yaml_node *n = kd_yaml_get(old, ids[i]);
        if (n != NULL) {
            kd_yaml_unlink(n);
        }
    }
}

void kd_cfg_lay_upon(kd_yaml_node **to, kd_yaml_node *over)
{
    if (*to == NULL) {
        *to = over;
    } else {
        forget_split(*to, over);
        kd_yaml_merge(*to, over);
    }
}

/* A recipe put together of several that have names is called after all of them: "sfz-nano" and "ce-kd" make
 * "sfz-nano-ce-kd", so that runs of different losses do not share a name. */
static kd_status join_names(kd_yaml_tree *t, const kd_yaml_node *before, kd_yaml_node *after, kd_err *err)
{
    const kd_yaml_node *a = before != NULL ? kd_yaml_get(before, "name") : NULL;
    const kd_yaml_node *b = kd_yaml_get(after, "name");
    if (a == NULL || b == NULL || a->kind != KD_YAML_SCALAR || b->kind != KD_YAML_SCALAR || a->text[0] == '\0' ||
        b->text[0] == '\0') {
        return KD_OK;
    }
    char *text = kd_strf("\"%s-%s\"", a->text, b->text);
    kd_yaml_node *joined = NULL;
    kd_status st = text != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", b->origin);
    KD_GO(st);
    KD_GO(kd_yaml_parse(t, text, strlen(text), b->origin, &joined, err));
    kd_yaml_node *top = kd_yaml_new_map(t, b->origin);
    if (top == NULL || !kd_yaml_put(t, top, "name", joined)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", b->origin);
        goto done;
    }
    kd_yaml_merge(after, top);
done:
    kd_free(text);
    return st;
}

kd_status kd_cfg_read_file(kd_yaml_tree *tree, const char *path, kd_yaml_node **root, kd_err *err)
{
    loader l = {.tree = tree};
    kd_status st = KD_OK;
    char *first = kd_strdup(path);
    if (first == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    KD_GO(push(&l, first, NULL, err));
    while (l.depth > 0) {
        open_file *f = &l.stack[l.depth - 1];
        if (f->base != NULL) {
            KD_GO(push_base(&l, err));
            continue;
        }
        kd_yaml_node *whole = f->merged;
        kd_cfg_lay_upon(&whole, f->own);
        pop(&l);
        kd_yaml_node **to = l.depth > 0 ? &l.stack[l.depth - 1].merged : root;
        KD_GO(join_names(tree, *to, whole, err));
        kd_cfg_lay_upon(to, whole);
    }
done:
    while (l.depth > 0) {
        pop(&l);
    }
    return st;
}
