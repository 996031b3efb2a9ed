/* From YAML text to kd_config: the --set texts, the walk over the merged tree. */
#include "configs/schema/config_files.h"
#include "configs/schema/config_hf.h"
#include "configs/schema/config_table.h"

#include <stdio.h>

/* ---- messages -------------------------------------------------------------------------------- */

/* "file:3:7: optim.lr", or the --set text itself. */
static void where(const kd_yaml_node *n, bool value, const char *path, char *buf, size_t size)
{
    if (strncmp(n->origin, "--set ", 6) == 0) {
        (void)snprintf(buf, size, "%.150s: %s", n->origin, path);
    } else {
        (void)snprintf(buf, size, "%.200s:%d:%d: %s", n->origin, value ? n->value_line : n->line,
                       value ? n->value_column : n->column, path);
    }
}

/* Dotted path of a node of the merged tree; false when it cannot be a key of ours because it is too
 * long. */
static bool path_of(const kd_yaml_node *n, char *buf, size_t size)
{
    const kd_yaml_node *chain[KD_YAML_MAX_DEPTH * 2];
    size_t depth = 0;
    size_t used = 0;
    for (; n != NULL && n->key != NULL && depth < KD_COUNTOF(chain); n = n->parent) {
        chain[depth++] = n;
    }
    buf[0] = '\0';
    while (depth > 0) {
        const int got = snprintf(buf + used, size - used, "%s%s", used > 0 ? "." : "", chain[--depth]->key);
        if (got < 0 || (size_t)got >= size - used) {
            return false;
        }
        used += (size_t)got;
    }
    return true;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* One key of item i of a list of maps. */
static kd_status bind_map_key(const kd_cfg_row *row, size_t i, const kd_yaml_node *n, void *item, kd_err *err)
{
    char path[KD_CFG_PATH_MAX + 80];
    char at[400];
    char what[KD_CFG_WHAT];
    const kd_cfg_row *field = NULL;
    for (size_t k = 0; k < row->item->n_rows && field == NULL; k++) {
        field = strcmp(row->item->row[k].path, n->key) == 0 ? &row->item->row[k] : NULL;
    }
    (void)snprintf(path, sizeof path, "%s[%zu].%.60s", row->path, i, n->key);
    where(n, field != NULL, path, at, sizeof at);
    if (field == NULL) {
        kd_cfg_expected(row, what, sizeof what);
        return KD_FAIL(err, KD_E_CONFIG, "%s: unknown key; expected %s", at, what);
    }
    if (n->kind != KD_YAML_SCALAR) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected a value, found %s", at, kd_cfg_kind_text(n));
    }
    if (!kd_cfg_set_item(field, item, 0, n->text, n->plain, what)) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: %s", at, what);
    }
    return KD_OK;
}

/* Does an item of a list of maps have a row of that name? */
static bool names(const kd_cfg_row *row, const char *key)
{
    for (size_t k = 0; k < row->item->n_rows; k++) {
        if (row->item->row[k].type != KD_CFG_REST && strcmp(row->item->row[k].path, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Item i of a list of maps. */
static kd_status bind_map(const kd_cfg_row *row, size_t i, const kd_yaml_node *n, void *item, kd_err *err)
{
    const kd_cfg_row *rest = &row->item->row[row->item->n_rows - 1];
    char at[400];
    kd_cfg_map_defaults(row, item);
    if (n->kind != KD_YAML_MAP) {
        where(n, true, row->path, at, sizeof at);
        return KD_FAIL(err, KD_E_CONFIG, "%s[%zu]: expected a map, found %s", at, i, kd_cfg_kind_text(n));
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        if (rest->type != KD_CFG_REST || names(row, c->key)) {
            KD_TRY(bind_map_key(row, i, c, item, err));
        }
    }
    return rest->type == KD_CFG_REST ? kd_cfg_rest(row, n, i, (char *)item + rest->offset, rest->cap, err) : KD_OK;
}

static kd_status bind_list(const kd_cfg_row *row, const kd_yaml_node *n, kd_config *cfg, kd_err *err)
{
    char at[400];
    char what[KD_CFG_WHAT];
    const bool fits = row->type == KD_CFG_REALS ? n->count == row->cap : n->count <= row->cap;
    if (n->kind != KD_YAML_LIST || !fits) {
        where(n, true, row->path, at, sizeof at);
        kd_cfg_expected(row, what, sizeof what);
        if (n->kind != KD_YAML_LIST) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, found %s", at, what, kd_cfg_kind_text(n));
        }
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, found %zu items%s", at, what, n->count,
                       row->type == KD_CFG_REALS && n->count == 2 * row->cap ? "; a decimal comma? write points" : "");
    }
    kd_cfg_list_set_count(row, cfg, (int)n->count);
    size_t i = 0;
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next, i++) {
        if (row->type == KD_CFG_MAPS) {
            KD_TRY(bind_map(row, i, c, kd_cfg_map_at(row, cfg, i), err));
            continue;
        }
        where(c, true, row->path, at, sizeof at);
        if (c->kind != KD_YAML_SCALAR) {
            return KD_FAIL(err, KD_E_CONFIG, "%s[%zu]: expected a value, found %s", at, i, kd_cfg_kind_text(c));
        }
        if (!kd_cfg_set_item(row, cfg, i, c->text, c->plain, what)) {
            return KD_FAIL(err, KD_E_CONFIG, "%s[%zu]: %s", at, i, what);
        }
    }
    return KD_OK;
}

/* One path in place of a list; an empty one is no path. */
static kd_status bind_path(const kd_cfg_row *row, const kd_yaml_node *n, kd_config *cfg, kd_err *err)
{
    char at[400];
    char what[KD_CFG_WHAT];
    const bool empty = kd_yaml_is_null(n) || n->text[0] == '\0';
    kd_cfg_list_set_count(row, cfg, empty ? 0 : 1);
    if (empty || kd_cfg_set_item(row, cfg, 0, n->text, n->plain, what)) {
        return KD_OK;
    }
    where(n, true, row->path, at, sizeof at);
    return KD_FAIL(err, KD_E_CONFIG, "%s: %s", at, what);
}

static kd_status bind_value(const kd_cfg_row *row, const kd_yaml_node *n, kd_config *cfg, kd_err *err)
{
    char at[400];
    char what[KD_CFG_WHAT];
    if (row->type == KD_CFG_PATHS && n->kind == KD_YAML_SCALAR) {
        return bind_path(row, n, cfg, err);
    }
    if (kd_cfg_is_list(row)) {
        return bind_list(row, n, cfg, err);
    }
    where(n, true, row->path, at, sizeof at);
    if (n->kind != KD_YAML_SCALAR) {
        kd_cfg_expected(row, what, sizeof what);
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, found %s", at, what, kd_cfg_kind_text(n));
    }
    if (kd_yaml_is_null(n) && row->type != KD_CFG_STR) {
        kd_cfg_expected(row, what, sizeof what);
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected %s, found nothing", at, what);
    }
    const char *text = kd_yaml_is_null(n) ? "" : n->text;
    if (!kd_cfg_set_item(row, cfg, 0, text, n->plain, what)) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: %s", at, what);
    }
    return KD_OK;
}

/* The key before an unknown one, where both came of "{base_lr: 0,001}": key 001 without a value. */
static const kd_yaml_node *cut_by_comma(const kd_yaml_node *n)
{
    const kd_yaml_node *before = NULL;
    for (const kd_yaml_node *c = n->parent->child; c != n; c = c->next) {
        before = c;
    }
    const bool digits = strspn(n->key, "0123456789") > 0 && strspn(n->key, "0123456789eE+-") == strlen(n->key);
    const bool half = before != NULL && before->kind == KD_YAML_SCALAR && before->plain && before->text[0] != '\0' &&
                      strspn(before->text, "+-0123456789") == strlen(before->text);
    return digits && half && kd_yaml_is_null(n) ? before : NULL;
}

static kd_status unknown_key(const kd_yaml_node *n, const char *path, kd_err *err)
{
    static const char *const base[] = {"_base_", "__base__", "BASE", "_BASE_", "extends", "defaults", "include"};
    char at[400];
    where(n, false, path, at, sizeof at);
    const kd_yaml_node *cut = cut_by_comma(n);
    if (cut != NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: unknown key; '%s: %s,%s' has a decimal comma: write %s.%s", at, cut->key,
                       cut->text, n->key, cut->text, n->key);
    }
    for (size_t i = 0; i < KD_COUNTOF(base); i++) {
        if (strcmp(path, base[i]) == 0) {
            return KD_FAIL(err, KD_E_CONFIG, "%s: unknown key; did you mean 'base', the path of a recipe?", at);
        }
    }
    const char *near = kd_cfg_nearest(path);
    if (near != NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: unknown key; did you mean '%s'?", at, near);
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: unknown key; `kd config show` lists all keys", at);
}

/* A section: descend (true in *into), or the short form of data.split, or nothing written. */
static kd_status bind_section(const kd_cfg_row *row, const kd_yaml_node *n, kd_config *cfg, bool *into, kd_err *err)
{
    char at[400];
    if (n->kind == KD_YAML_MAP) {
        *into = n->child != NULL;
        return KD_OK;
    }
    if (kd_yaml_is_null(n)) {
        return KD_OK;
    }
    if (n->kind == KD_YAML_SCALAR && strcmp(row->path, "data.split") == 0) {
        return bind_value(kd_cfg_find("data.split.by"), n, cfg, err);
    }
    where(n, true, row->path, at, sizeof at);
    return KD_FAIL(err, KD_E_CONFIG, "%s: expected a map of keys, found %s", at, kd_cfg_kind_text(n));
}

static kd_status bind_node(const kd_yaml_node *n, kd_config *cfg, bool *into, kd_err *err)
{
    char path[KD_CFG_PATH_MAX];
    char at[400];
    *into = false;
    const bool whole = path_of(n, path, sizeof path);
    const kd_cfg_row *row = whole ? kd_cfg_find(path) : NULL;
    if (row == NULL) {
        return unknown_key(n, path, err);
    }
    if ((kd_cfg_kinds_of(row) & kd_cfg_kind_flag(cfg)) == 0) {
        char kind[KD_CFG_NAME];
        where(n, false, path, at, sizeof at);
        return KD_FAIL(err, KD_E_CONFIG, "%s: this key does nothing in a %s recipe; remove it or set kind", at,
                       kd_config_enum_name("kind", (int)cfg->kind, kind));
    }
    return row->type == KD_CFG_SECTION ? bind_section(row, n, cfg, into, err) : bind_value(row, n, cfg, err);
}

kd_status kd_cfg_bind(const kd_yaml_node *root, kd_config *cfg, kd_err *err)
{
    const kd_yaml_node *kind = kd_yaml_get(root, "kind");
    if (kind != NULL) {
        KD_TRY(bind_value(kd_cfg_find("kind"), kind, cfg, err));
    }
    const kd_yaml_node *n = root->child;
    while (n != NULL) {
        bool into = false;
        KD_TRY(bind_node(n, cfg, &into, err));
        if (into) {
            n = n->child;
            continue;
        }
        while (n->next == NULL && n->parent != root) {
            n = n->parent;
        }
        n = n->next;
    }
    return KD_OK;
}

/* ---- --set ----------------------------------------------------------------------------------- */

/* Lay "a.b=value" upon the tree. */
static kd_status apply_set(kd_yaml_tree *t, kd_yaml_node *root, const char *text, kd_err *err)
{
    char path[KD_CFG_PATH_MAX];
    const char *eq = strchr(text, '=');
    const size_t n = eq == NULL ? 0 : (size_t)(eq - text);
    if (n == 0 || text[0] == '.' || text[n - 1] == '.' || n >= sizeof path || strlen(text) > KD_YAML_MAX_BYTES) {
        return KD_FAIL(err, KD_E_CONFIG, "--set %.100s: expected key.name=value", text);
    }
    memcpy(path, text, n);
    path[n] = '\0';
    const bool of_phase = strncmp(path, "phases.", 7) == 0;
    if (!of_phase) {
        KD_TRY(kd_cfg_set_is_clear(root, path, text, err));
    }
    char *origin = kd_strf("--set %s", text);
    if (origin == NULL) {
        return KD_FAIL(err, KD_E_OOM, "--set: out of memory");
    }
    kd_yaml_node *value = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_yaml_parse(t, eq + 1, strlen(eq + 1), origin, &value, err));
    if (eq[1] == '\0') { /* an empty value clears a text; the parser gives an empty map */
        KD_GO(kd_yaml_parse(t, "''", 2, origin, &value, err));
    }
    kd_yaml_node *top = kd_yaml_new_map(t, origin);
    kd_yaml_node *at = top;
    char *save = NULL;
    for (char *part = strtok_r(path, ".", &save); part != NULL && at != NULL;) {
        char *next = strtok_r(NULL, ".", &save);
        kd_yaml_node *child = next == NULL ? value : kd_yaml_new_map(t, origin);
        if (child == NULL || !kd_yaml_put(t, at, part, child)) {
            at = NULL;
            break;
        }
        at = child;
        part = next;
    }
    if (at == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "--set: out of memory");
        goto done;
    }
    if (of_phase) {
        st = kd_cfg_set_phase(root, top, text, err);
    } else {
        kd_cfg_lay_upon(&root, top);
    }
done:
    kd_free(origin);
    return st;
}

static kd_status apply_sets(kd_yaml_tree *t, kd_yaml_node *root, const char *const *sets, size_t n_sets, kd_err *err)
{
    for (size_t i = 0; i < n_sets; i++) {
        KD_TRY(apply_set(t, root, sets[i], err));
    }
    return KD_OK;
}

static kd_status bind_all(const kd_yaml_node *root, kd_config *out, kd_err *err)
{
    kd_config_defaults(out);
    KD_TRY(kd_cfg_bind(root, out, err));
    KD_TRY(kd_config_finish(out, err));
    return kd_cfg_check_phases(root, out, err);
}

/* Bind a tree over the config.json of its weights. */
static kd_status bind_with_hf(kd_yaml_tree *t, kd_yaml_node *root, const char *model, kd_config *out, kd_err *err)
{
    const kd_yaml_node *kind = kd_yaml_get(root, "kind");
    const kd_yaml_node *start = kd_yaml_get(kd_yaml_get(root, "teacher"), "weights");
    const bool teacher = kind == NULL || strcmp(kind->text, "teacher") == 0;
    const char *weights = model != NULL ? model : start != NULL && !kd_yaml_is_null(start) ? start->text : "";
    kd_cfg_hf hf = {NULL, NULL};
    kd_status st = KD_OK;
    if (teacher && weights[0] != '\0') {
        KD_GO(kd_cfg_hf_under(t, weights, &root, &hf, err));
    }
    KD_GO(bind_all(root, out, err));
    st = kd_cfg_hf_check(&hf, out, model == NULL, err);
done:
    kd_cfg_hf_free(&hf);
    return st;
}

kd_status kd_cfg_load(const char *const *paths, size_t n_paths, const char *const *sets, size_t n_sets,
                      const char *model, kd_config *out, kd_err *err)
{
    kd_yaml_tree *t = kd_yaml_tree_new();
    if (t == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    kd_yaml_node *root = NULL;
    kd_status st = KD_OK;
    for (size_t i = 0; i < n_paths; i++) {
        KD_GO(kd_cfg_read_file(t, paths[i], &root, err));
    }
    if (root == NULL) {
        root = kd_yaml_new_map(t, "config");
    }
    if (root == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "config: out of memory");
        goto done;
    }
    KD_GO(apply_sets(t, root, sets, n_sets, err));
    KD_GO(bind_with_hf(t, root, model, out, err));
done:
    kd_yaml_tree_free(t);
    return st;
}

kd_status kd_config_load(const char *const *paths, size_t n_paths, const char *const *sets, size_t n_sets,
                         kd_config *out, kd_err *err)
{
    return kd_cfg_load(paths, n_paths, sets, n_sets, NULL, out, err);
}

kd_status kd_config_parse(const void *text, size_t len, const char *name, const char *const *sets, size_t n_sets,
                          kd_config *out, kd_err *err)
{
    kd_yaml_tree *t = kd_yaml_tree_new();
    if (t == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", name);
    }
    kd_yaml_node *root = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_yaml_parse(t, text, len, name, &root, err));
    KD_GO(kd_cfg_expect_map(root, err));
    const kd_yaml_node *base = kd_yaml_get(root, "base");
    if (base != NULL) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s:%d:%d: base: only files can have one", name, base->line, base->column);
        goto done;
    }
    KD_GO(apply_sets(t, root, sets, n_sets, err));
    KD_GO(bind_all(root, out, err));
done:
    kd_yaml_tree_free(t);
    return st;
}
