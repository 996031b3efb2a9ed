/* The plan of a study, from YAML: see plan.h. */
#include "distill/study/plan.h"

#include "configs/yaml/yaml_tree.h"
#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- messages and values --------------------------------------------------------------------- */

/* Where a node stands and what it should be; `found` may be NULL. */
static kd_status wrong(const kd_yaml_node *n, const char *path, const char *expected, kd_err *err)
{
    return KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: %s: expected %s%s%.60s", n->origin, n->value_line, n->value_column,
                   path, expected, n->kind == KD_YAML_SCALAR && n->text[0] != '\0' ? ", found " : "",
                   n->kind == KD_YAML_SCALAR ? n->text : "");
}

/* Names become folders, rows of tables and the text of <...>. */
static bool is_name(const char *s)
{
    static const char LEGAL[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    return s[0] != '\0' && s[0] != '.' && s[0] != '-' && strspn(s, LEGAL) == strlen(s) && strlen(s) < KD_PLAN_NAME;
}

static kd_status take_name(const kd_yaml_node *n, const char *path, char out[KD_PLAN_NAME], kd_err *err)
{
    if (!is_name(n->key)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "%s:%d:%d: %s: expected a name of letters, digits, '_', '+', '-' and '.', at most %d bytes "
                       "long, found '%.80s'",
                       n->origin, n->line, n->column, path, KD_PLAN_NAME - 1, n->key);
    }
    (void)snprintf(out, KD_PLAN_NAME, "%s", n->key);
    return KD_OK;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static kd_status add_base(kd_plan_part *p, const kd_yaml_node *n, const char *dir, const char *path, kd_err *err)
{
    if (n->kind != KD_YAML_SCALAR || n->text[0] == '\0') {
        return wrong(n, path, "the path of a recipe, or a list of paths", err);
    }
    if (p->n_base == KD_PLAN_BASES) {
        return wrong(n, path, "at most 8 recipes", err);
    }
    p->base[p->n_base] = kd_path_join(dir, n->text);
    return p->base[p->n_base++] != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "plan: out of memory");
}

static kd_status take_bases(kd_plan_part *p, const kd_yaml_node *n, const char *dir, const char *path, kd_err *err)
{
    if (n->kind != KD_YAML_LIST) {
        return add_base(p, n, dir, path, err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        KD_TRY(add_base(p, c, dir, path, err));
    }
    return KD_OK;
}

static kd_status take_part(kd_plan_part *p, const kd_yaml_node *n, const char *dir, const char *path, kd_err *err)
{
    if (kd_yaml_is_null(n)) {
        return KD_OK;
    }
    if (n->kind != KD_YAML_MAP) {
        return wrong(n, path, "a map of keys of a recipe ({} changes nothing)", err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        char inner[3 * KD_PLAN_NAME];
        (void)snprintf(inner, sizeof inner, "%.120s.%.60s", path, c->key);
        if (strcmp(c->key, "base") == 0) {
            KD_TRY(take_bases(p, c, dir, inner, err));
            continue;
        }
        if (strcmp(c->key, "train.seed") == 0 || strcmp(c->key, "name") == 0) {
            return KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: %s: the plan gives it to every run; remove the key", c->origin,
                           c->line, c->column, inner);
        }
        if (p->n_set == KD_PLAN_SETS) {
            return wrong(n, path, "at most 24 keys", err);
        }
        char *value = kd_yaml_flow(c);
        p->set[p->n_set] = value != NULL ? kd_strf("%s=%s", c->key, value) : NULL;
        kd_free(value);
        if (p->set[p->n_set++] == NULL) {
            return KD_FAIL(err, KD_E_OOM, "plan: out of memory");
        }
    }
    return KD_OK;
}

static kd_status take_axis(kd_plan_axis *a, const kd_yaml_node *n, const char *dir, const char *path, kd_err *err)
{
    if (n->kind != KD_YAML_MAP || n->count == 0 || n->count > KD_PLAN_VALUES) {
        return wrong(n, path, "a map of 1 to 64 names, each with keys of a recipe", err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        char inner[2 * KD_PLAN_NAME];
        KD_TRY(take_name(c, path, a->value[a->n].name, err));
        (void)snprintf(inner, sizeof inner, "%.60s.%.60s", path, c->key);
        KD_TRY(take_part(&a->value[a->n++], c, dir, inner, err));
    }
    return KD_OK;
}

/* ---- axes, seeds, choices -------------------------------------------------------------------- */

static kd_status take_axes(kd_plan *p, const kd_yaml_node *n, const char *dir, kd_err *err)
{
    if (n->kind != KD_YAML_MAP || n->count == 0 || n->count > KD_PLAN_AXES) {
        return wrong(n, "axes", "a map of 1 to 8 axes, each a map of named values", err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        char path[KD_PLAN_NAME + 8];
        kd_plan_axis *a = &p->axis[p->n_axes++];
        KD_TRY(take_name(c, "axes", a->name, err));
        if (strcmp(a->name, "fold") == 0 || strcmp(a->name, "seed") == 0) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s:%d:%d: axes.%s: expected another name: folds and seeds have keys of "
                           "their own, `folds` and `seeds`",
                           c->origin, c->line, c->column, a->name);
        }
        (void)snprintf(path, sizeof path, "axes.%s", a->name);
        KD_TRY(take_axis(a, c, dir, path, err));
    }
    return KD_OK;
}

static kd_status take_seeds(kd_plan *p, const kd_yaml_node *n, kd_err *err)
{
    static const char WANT[] = "a list of 1 to 64 different whole numbers from 0 on";
    if (n->kind != KD_YAML_LIST || n->count == 0 || n->count > KD_PLAN_SEEDS) {
        return wrong(n, "seeds", WANT, err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        char *end = NULL;
        const bool digits = c->kind == KD_YAML_SCALAR && c->text[0] >= '0' && c->text[0] <= '9' && strlen(c->text) < 16;
        const int64_t seed = digits ? strtoll(c->text, &end, 10) : -1;
        bool fresh = digits && *end == '\0';
        for (int i = 0; i < p->n_seeds; i++) {
            fresh = fresh && p->seed[i] != seed;
        }
        if (!fresh) {
            return wrong(c, "seeds", WANT, err);
        }
        p->seed[p->n_seeds++] = seed;
    }
    return KD_OK;
}

/* {axis: value, ...} */
static kd_status take_choice(const kd_plan *p, const kd_yaml_node *n, const char *path, kd_plan_choice *out,
                             kd_err *err)
{
    for (int a = 0; a < KD_PLAN_AXES; a++) {
        out->value[a] = -1;
    }
    if (n->kind != KD_YAML_MAP || n->count == 0) {
        return wrong(n, path, "a map {axis: value}", err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        int axis = 0, value = 0;
        while (axis < p->n_axes && strcmp(p->axis[axis].name, c->key) != 0) {
            axis++;
        }
        if (axis == p->n_axes) {
            return KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: %s: expected the name of an axis, found '%.60s'", c->origin,
                           c->line, c->column, path, c->key);
        }
        const kd_plan_axis *a = &p->axis[axis];
        while (value < a->n && strcmp(a->value[value].name, c->text) != 0) {
            value++;
        }
        if (value == a->n) {
            char expected[2 * KD_PLAN_NAME];
            (void)snprintf(expected, sizeof expected, "a value of axis %s", a->name);
            return wrong(c, path, expected, err);
        }
        out->value[axis] = value;
    }
    return KD_OK;
}

static kd_status take_excluded(kd_plan *p, const kd_yaml_node *n, kd_err *err)
{
    if (n->kind != KD_YAML_LIST || n->count > KD_PLAN_EXCLUDED) {
        return wrong(n, "exclude", "a list of at most 64 maps {axis: value}", err);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        KD_TRY(take_choice(p, c, "exclude", &p->exclude[p->n_exclude++], err));
    }
    return KD_OK;
}

/* ---- cells ----------------------------------------------------------------------------------- */

static bool holds(const kd_plan *p, const kd_plan_choice *cell, const kd_plan_choice *choice)
{
    for (int a = 0; a < p->n_axes; a++) {
        if (choice->value[a] >= 0 && choice->value[a] != cell->value[a]) {
            return false;
        }
    }
    return true;
}

/* The names of the last cell fit in the label of a report, and no cell before has its folder ("a_b" and "c" beside "a"
 * and "b_c"). */
static kd_status check_names(const kd_plan *p, kd_err *err)
{
    const int last = p->n_cells - 1;
    size_t n = 0;
    for (int a = 0; a < p->n_axes; a++) {
        n += strlen(p->axis[a].value[p->cell[last].value[a]].name) + 1;
    }
    if (n > KD_CFG_NAME) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "%s: axes: expected names of a cell's values of at most %d bytes together, found %zu; shorten "
                       "them",
                       p->path, KD_CFG_NAME - 1, n - 1);
    }
    char label[2][KD_CFG_NAME], folder[2][KD_CFG_NAME];
    kd_plan_label(p, last, label[0]);
    kd_plan_folder(p, last, folder[0]);
    for (int i = 0; i < last; i++) {
        kd_plan_label(p, i, label[1]);
        kd_plan_folder(p, i, folder[1]);
        if (strcmp(folder[0], folder[1]) == 0) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s: axes: expected a folder of its own for every cell, found %s for '%s' and for '%s'; "
                           "rename a value",
                           p->path, folder[0], label[1], label[0]);
        }
    }
    return KD_OK;
}

static kd_status make_cells(kd_plan *p, kd_err *err)
{
    kd_plan_choice at = {{0}};
    for (int a = 0; a >= 0;) {
        bool excluded = false;
        for (int i = 0; i < p->n_exclude; i++) {
            excluded = excluded || holds(p, &at, &p->exclude[i]);
        }
        if (!excluded && p->n_cells == KD_PLAN_CELLS) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: axes: expected at most %d cells, found more", p->path, KD_PLAN_CELLS);
        }
        if (!excluded) {
            p->cell[p->n_cells++] = at;
            KD_TRY(check_names(p, err));
        }
        a = p->n_axes - 1; /* the last axis runs fastest */
        while (a >= 0 && ++at.value[a] == p->axis[a].n) {
            at.value[a--] = 0;
        }
    }
    if (p->n_cells == 0) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: exclude: expected that a cell is left, found all excluded", p->path);
    }
    return KD_OK;
}

int kd_plan_baseline(const kd_plan *p, int cell)
{
    kd_plan_choice want = p->cell[cell];
    for (int a = 0; a < p->n_axes; a++) {
        want.value[a] = p->baseline.value[a] >= 0 ? p->baseline.value[a] : want.value[a];
    }
    for (int i = 0; i < p->n_cells && p->has_baseline; i++) {
        if (holds(p, &p->cell[i], &want)) {
            return i;
        }
    }
    return -1;
}

/* ---- the file -------------------------------------------------------------------------------- */

static kd_status take_plan(kd_plan *p, const kd_yaml_node *root, const char *dir, kd_err *err)
{
    static const char *const KEYS[] = {"name", "base", "recipe", "axes", "folds", "seeds", "baseline", "exclude"};
    const kd_yaml_node *at[KD_COUNTOF(KEYS)] = {NULL};
    if (root->kind != KD_YAML_MAP) {
        return wrong(root, "plan", "a map with axes and seeds", err);
    }
    for (const kd_yaml_node *n = root->child; n != NULL; n = n->next) {
        size_t k = 0;
        while (k < KD_COUNTOF(KEYS) && strcmp(KEYS[k], n->key) != 0) {
            k++;
        }
        if (k == KD_COUNTOF(KEYS)) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s:%d:%d: %.60s: unknown key; a plan has name, base, recipe (keys of every run), axes, "
                           "folds, seeds, baseline, exclude",
                           n->origin, n->line, n->column, n->key);
        }
        at[k] = n;
    }
    if (at[3] == NULL || at[5] == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected the key %s, found none", p->path,
                       at[3] == NULL ? "axes" : "seeds");
    }
    if (at[0] != NULL && (at[0]->kind != KD_YAML_SCALAR || strlen(at[0]->text) >= sizeof p->name)) {
        return wrong(at[0], "name", "a text of at most 63 bytes", err);
    }
    (void)snprintf(p->name, sizeof p->name, "%s", at[0] != NULL ? at[0]->text : "study");
    KD_TRY(at[1] != NULL ? take_bases(&p->recipe, at[1], dir, "base", err) : KD_OK);
    KD_TRY(at[2] != NULL ? take_part(&p->recipe, at[2], dir, "recipe", err) : KD_OK);
    KD_TRY(take_axes(p, at[3], dir, err));
    KD_TRY(at[4] != NULL ? take_axis(&p->fold, at[4], dir, "folds", err) : KD_OK);
    KD_TRY(take_seeds(p, at[5], err));
    p->has_baseline = at[6] != NULL;
    KD_TRY(at[6] != NULL ? take_choice(p, at[6], "baseline", &p->baseline, err) : KD_OK);
    KD_TRY(at[7] != NULL ? take_excluded(p, at[7], err) : KD_OK);
    return make_cells(p, err);
}

kd_status kd_plan_load(const char *path, kd_plan **out, kd_err *err)
{
    kd_yaml_tree *t = kd_yaml_tree_new();
    kd_plan *p = kd_calloc(1, sizeof *p);
    kd_yaml_node *root = NULL;
    uint8_t *text = NULL;
    size_t len = 0;
    char *dir = kd_path_dir(path);
    kd_status st = KD_OK;
    *out = NULL;
    if (t == NULL || p == NULL || dir == NULL || (p->path = kd_strdup(path)) == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "plan: out of memory");
        goto done;
    }
    KD_GO(kd_io_read_file(path, KD_YAML_MAX_BYTES, &text, &len, err));
    KD_GO(kd_yaml_parse(t, text, len, path, &root, err));
    KD_GO(take_plan(p, root, strcmp(dir, ".") == 0 ? "" : dir, err));
done:
    kd_free(text);
    kd_free(dir);
    kd_yaml_tree_free(t);
    if (st != KD_OK) {
        kd_plan_free(p);
        return st;
    }
    *out = p;
    return KD_OK;
}

static void free_part(kd_plan_part *p)
{
    for (int i = 0; i < p->n_base; i++) {
        kd_free(p->base[i]);
    }
    for (int i = 0; i < p->n_set; i++) {
        kd_free(p->set[i]);
    }
}

void kd_plan_free(kd_plan *p)
{
    if (p == NULL) {
        return;
    }
    free_part(&p->recipe);
    for (int a = 0; a <= p->n_axes; a++) {
        kd_plan_axis *x = a < p->n_axes ? &p->axis[a] : &p->fold;
        for (int v = 0; v < x->n; v++) {
            free_part(&x->value[v]);
        }
    }
    kd_free(p->path);
    kd_free(p);
}
