/* Phases of a recipe: their keys as text, as a recipe, from --set; what they may not say. */
#include "configs/schema/config_files.h"
#include "configs/schema/config_table.h"

#include <stdio.h>

static kd_status place(const kd_yaml_node *n, size_t i, const char *key, kd_err *err, const char *what)
{
    const bool typed = strncmp(n->origin, "--set ", 6) == 0;
    return typed ? KD_FAIL(err, KD_E_CONFIG, "%.150s: phases[%zu].%s: %s", n->origin, i, key, what)
                 : KD_FAIL(err, KD_E_CONFIG, "%.200s:%d:%d: phases[%zu].%s: %s", n->origin, n->line, n->column, i, key,
                           what);
}

/* ---- keys as text ---------------------------------------------------------------------------- */

typedef struct line {
    char *text;
    size_t used, size;
} line;

/* `used` counts on where there is no room. */
static void add(line *l, const char *text)
{
    if (l->used < l->size) {
        (void)snprintf(l->text + l->used, l->size - l->used, "%s", text);
    }
    l->used += strlen(text);
}

/* A name or a text, with quotes where it needs them; all need them where documents are read as JSON. */
static void add_text(line *l, const char *text)
{
    char quoted[2 * KD_CFG_PATH + 8];
#if defined(KD_HAVE_YAML)
    const char *mark = "";
#else
    const char *mark = strpbrk(text, "\"\\") == NULL ? "\"" : "";
#endif
    kd_cfg_quoted(text, quoted, sizeof quoted);
    mark = quoted[0] == '"' ? "" : mark;
    add(l, mark);
    add(l, quoted);
    add(l, mark);
}

/* A scalar that reads back to the same text, quoted where it was. */
static void add_scalar(line *l, const kd_yaml_node *n)
{
    static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (kd_yaml_is_null(n)) {
        add(l, "null");
    } else if (n->plain && strspn(n->text, PLAIN) == strlen(n->text)) {
        add(l, n->text);
    } else {
        add_text(l, n->text);
    }
}

/* A map or a list that was begun is ended, and so are those that end with it. */
static const kd_yaml_node *next_of(line *l, const kd_yaml_node *n, const kd_yaml_node *root)
{
    while (n->next == NULL && n->parent != root) {
        n = n->parent;
        add(l, n->kind == KD_YAML_MAP ? "}" : "]");
    }
    return n->next;
}

static void add_key(line *l, const kd_yaml_node *n)
{
    if (n->key != NULL) {
        add_text(l, n->key);
        add(l, ": ");
    }
}

static const kd_cfg_row *field_of(const kd_cfg_row *row, const char *key)
{
    for (size_t k = 0; k < row->item->n_rows; k++) {
        const kd_cfg_row *field = &row->item->row[k];
        if (field->type != KD_CFG_REST && strcmp(field->path, key) == 0) {
            return field;
        }
    }
    return NULL;
}

/* What is below `top`, with commas, without the keys that are fields of the row; row NULL: all. */
static void add_below(line *l, const kd_yaml_node *top, const kd_cfg_row *row)
{
    const size_t start = l->used;
    for (const kd_yaml_node *n = top->child; n != NULL;) {
        if (row != NULL && n->parent == top && field_of(row, n->key) != NULL) {
            n = n->next;
            continue;
        }
        if (n->parent == top ? l->used > start : n != n->parent->child) {
            add(l, ", ");
        }
        add_key(l, n);
        if (n->kind == KD_YAML_SCALAR) {
            add_scalar(l, n);
        } else if (n->child == NULL) {
            add(l, n->kind == KD_YAML_MAP ? "{}" : "[]");
        } else {
            add(l, n->kind == KD_YAML_MAP ? "{" : "[");
            n = n->child;
            continue;
        }
        n = next_of(l, n, top);
    }
}

kd_status kd_cfg_rest(const kd_cfg_row *row, const kd_yaml_node *item, size_t i, char *out, size_t size, kd_err *err)
{
    line l = {out, 0, size};
    memset(out, 0, size);
    add_below(&l, item, row);
    return l.used < size ? KD_OK : place(item, i, "keys", err, "more than 2047 bytes of keys");
}

char *kd_yaml_flow(const kd_yaml_node *n)
{
    line l = {NULL, 0, 0};
    for (int pass = 0; pass < 2; pass++) {
        l.used = 0;
        if (n->kind == KD_YAML_SCALAR) {
            add_scalar(&l, n);
        } else {
            add(&l, n->kind == KD_YAML_MAP ? "{" : "[");
            add_below(&l, n, NULL);
            add(&l, n->kind == KD_YAML_MAP ? "}" : "]");
        }
        if (pass == 0) { /* the first pass counts */
            l.size = l.used + 1;
            l.text = kd_calloc(1, l.size);
        }
        if (l.text == NULL) {
            return NULL;
        }
    }
    return l.text;
}

/* ---- what a phase may not say ---------------------------------------------------------------- */

/* Keys that all phases share: what is trained on what, where, and by which draws. */
static const char *const SHARED[] = {
    "name",   "kind",       "phases",          "base",         "data",          "skeleton",           "kd.store",
    "mutual", "train.seed", "train.init_seed", "train.device", "train.threads", "train.deterministic"};

/* Keys of the model's sections that a phase may set: the others say which model. */
static const char *const OWN[] = {"teacher.drop_path", "teacher.head_drop", "teacher.drops",
                                  "teacher.recompute", "student.dropout",   "student.drop_path"};

/* The node of "a.b" below a map; NULL: none.  within: also one that is above it and is no map. */
static const kd_yaml_node *find(const kd_yaml_node *map, const char *path, bool within)
{
    char name[KD_CFG_PATH_MAX];
    const kd_yaml_node *n = map;
    while (n != NULL && *path != '\0') {
        const size_t len = strcspn(path, ".");
        if (len >= sizeof name || n->kind != KD_YAML_MAP) {
            return within ? n : NULL;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        n = kd_yaml_get(n, name);
        path += len + (path[len] == '.');
    }
    return n;
}

static kd_status check_keys(const kd_yaml_node *item, size_t i, const kd_cfg_phase *p, kd_err *err)
{
    for (size_t k = 1; k < KD_COUNTOF(SHARED); k++) { /* `name` is the phase's own */
        const kd_yaml_node *n = find(item, SHARED[k], false);
        if (n != NULL) {
            return place(n, i, SHARED[k], err, "all phases share it: set it outside of phases");
        }
    }
    if (i == 0 && (p->start != KD_START_BEST || p->keep_best)) {
        const char *key = p->keep_best ? "keep_best" : "start";
        return place(kd_yaml_get(item, key), i, key, err, "there is no phase before the first; remove it");
    }
    return KD_OK;
}

/* The weights of a phase go on into the next one, and keep_best lets them be the run's: all are of one model. */
static kd_status check_model(const kd_yaml_node *item, size_t i, kd_err *err)
{
    static const char *const model[] = {"teacher", "student"};
    char key[KD_CFG_PATH_MAX];
    for (size_t m = 0; m < KD_COUNTOF(model); m++) {
        const kd_yaml_node *section = kd_yaml_get(item, model[m]);
        for (const kd_yaml_node *n = section != NULL ? section->child : NULL; n != NULL; n = n->next) {
            bool own = false;
            (void)snprintf(key, sizeof key, "%s.%s", model[m], n->key);
            for (size_t k = 0; k < KD_COUNTOF(OWN) && !own; k++) {
                own = strcmp(OWN[k], key) == 0;
            }
            if (!own) {
                return place(n, i, key, err, "all phases share it: set it outside of phases");
            }
        }
    }
    return KD_OK;
}

static kd_status check_name(const kd_yaml_node *item, size_t i, const kd_cfg_phases *p, kd_err *err)
{
    const char *name = p->v[i].name;
    if (name[0] == '\0' || strpbrk(name, "./ ") != NULL) {
        return place(item, i, "name", err, "expected a name without blanks, points and slashes");
    }
    for (size_t k = 0; k < i; k++) {
        if (strcmp(p->v[k].name, name) == 0) {
            return place(item, i, "name", err, "another phase has the same");
        }
    }
    return KD_OK;
}

/* Figures that are compared must be of one kind. */
static kd_status check_best(const kd_config *before, const kd_config *now, size_t i, kd_err *err)
{
    const kd_cfg_train *a = &before->train, *b = &now->train;
    if (now->phases.v[i].keep_best && (a->select != b->select || a->metric != b->metric)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "phases[%zu].keep_best: expected the train.select and train.metric of the phase "
                       "before, found others; remove keep_best",
                       i);
    }
    return KD_OK;
}

static void forget_own(kd_yaml_node *item)
{
    static const char *const own[] = {"name", "start", "keep_best"};
    for (size_t k = 0; k < KD_COUNTOF(own); k++) {
        kd_yaml_node *n = kd_yaml_get(item, own[k]);
        if (n != NULL) {
            kd_yaml_unlink(n);
        }
    }
}

/* ---- one phase ------------------------------------------------------------------------------- */

/* What kd_config_finish took from other keys is taken anew, unless the recipe says it. */
static void take_anew(kd_config *c)
{
    if (c->eval.batch_size == c->train.batch_size) {
        c->eval.batch_size = 0;
    }
    if (c->kd.ce_weight == 1.0 - c->kd.weight) {
        c->kd.ce_weight = -1.0;
    }
}

static kd_status phase_of(const kd_config *recipe, int i, kd_config *out, kd_err *err)
{
    const kd_cfg_phase *p = &recipe->phases.v[i];
    char origin[KD_CFG_NAME + 32];
    kd_yaml_node *root = NULL;
    kd_status st = KD_OK;
    (void)snprintf(origin, sizeof origin, "phase %s", p->name);
    kd_yaml_tree *t = kd_yaml_tree_new();
    char *text = kd_strf("{%s}", p->keys);
    if (t == NULL || text == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "config: out of memory");
        goto done;
    }
    *out = *recipe;
    take_anew(out);
    KD_GO(kd_yaml_parse(t, text, strlen(text), origin, &root, err));
    KD_GO(kd_cfg_bind(root, out, err));
    out->phases.n = 0; /* checked as the recipe that the phase is */
    st = kd_config_finish(out, err);
    out->phases.n = recipe->phases.n;
    if (st != KD_OK) {
        st = kd_err_prefix(err, st, "phase %s", p->name);
    }
done:
    kd_free(text);
    kd_yaml_tree_free(t);
    return st;
}

kd_status kd_config_phase(const kd_config *recipe, int i, kd_config *out, kd_err *err)
{
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(KD_LOG_ERROR); /* the recipe's check has warned */
    const kd_status st = phase_of(recipe, i, out, err);
    kd_log_set_level(level);
    return st;
}

/* ---- all phases ------------------------------------------------------------------------------ */

kd_status kd_cfg_check_phases(const kd_yaml_node *root, const kd_config *cfg, kd_err *err)
{
    const kd_yaml_node *list = kd_yaml_get(root, "phases");
    kd_config *two = cfg->phases.n > 0 ? kd_calloc(2, sizeof *two) : NULL;
    kd_status st = KD_OK;
    if (cfg->phases.n == 0) {
        return KD_OK;
    }
    if (two == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    size_t i = 0;
    for (kd_yaml_node *item = list->child; item != NULL; item = item->next, i++) {
        kd_config *now = &two[i % 2];
        KD_GO(check_name(item, i, &cfg->phases, err));
        KD_GO(check_keys(item, i, &cfg->phases.v[i], err));
        forget_own(item);
        *now = *cfg;
        KD_GO(kd_cfg_bind(item, now, err)); /* for the places of faults */
        KD_GO(check_model(item, i, err));
        KD_GO(phase_of(cfg, (int)i, now, err));
        if (i > 0) {
            KD_GO(check_best(&two[(i + 1) % 2], now, i, err));
        }
    }
done:
    kd_free(two);
    return st;
}

/* ---- --set ----------------------------------------------------------------------------------- */

static const char *name_of(const kd_yaml_node *item)
{
    const kd_yaml_node *name = kd_yaml_get(item, "name");
    return name != NULL && name->kind == KD_YAML_SCALAR ? name->text : "";
}

kd_status kd_cfg_set_phase(const kd_yaml_node *root, const kd_yaml_node *set, const char *text, kd_err *err)
{
    kd_yaml_node *over = kd_yaml_get(set, "phases")->child; /* NAME: {a: {b: value}} */
    const kd_yaml_node *list = kd_yaml_get(root, "phases");
    char names[300] = "";
    if (over->kind != KD_YAML_MAP) {
        return KD_FAIL(err, KD_E_CONFIG, "--set %.100s: expected phases.NAME.key=value", text);
    }
    for (kd_yaml_node *item = list != NULL ? list->child : NULL; item != NULL; item = item->next) {
        if (item->kind == KD_YAML_MAP && strcmp(name_of(item), over->key) == 0) {
            kd_yaml_merge(item, over);
            return KD_OK;
        }
        const size_t n = strlen(names);
        (void)snprintf(names + n, sizeof names - n, "%s%s", n > 0 ? ", " : "", name_of(item));
    }
    return KD_FAIL(err, KD_E_CONFIG, "--set %.100s: expected the name of a phase (%s), found %s", text,
                   names[0] != '\0' ? names : "the recipe has none", over->key);
}

kd_status kd_cfg_set_is_clear(const kd_yaml_node *root, const char *path, const char *text, kd_err *err)
{
    const kd_yaml_node *list = kd_yaml_get(root, "phases");
    for (const kd_yaml_node *item = list != NULL ? list->child : NULL; item != NULL; item = item->next) {
        if (find(item, path, true) != NULL && item->kind == KD_YAML_MAP && strcmp(path, "name") != 0) {
            return KD_FAIL(err, KD_E_CONFIG, "--set %.100s: phase %s has a %s of its own; use --set phases.%s.%.100s",
                           text, name_of(item), path, name_of(item), text);
        }
    }
    return KD_OK;
}

/* ---- difference ------------------------------------------------------------------------------ */

static bool phase_differs(const kd_config *a, const kd_config *b, int i, char *text, size_t size)
{
    const kd_cfg_phase *pa = &a->phases.v[i], *pb = &b->phases.v[i];
    char diff[400];
    bool differ = true;
    if (strcmp(pa->name, pb->name) != 0 || pa->start != pb->start || pa->keep_best != pb->keep_best) {
        (void)snprintf(text, size, "phases[%d]: name, start or keep_best are others: %s then, %s now", i, pa->name,
                       pb->name);
        return true;
    }
    kd_config *two = kd_calloc(2, sizeof *two);
    if (two == NULL || kd_config_phase(a, i, &two[0], NULL) != KD_OK || kd_config_phase(b, i, &two[1], NULL) != KD_OK) {
        (void)snprintf(text, size, "phases[%d]: cannot be compared", i);
    } else {
        two[0].phases.n = two[1].phases.n = 0;
        differ = kd_config_diff(&two[0], &two[1], diff, sizeof diff);
        if (differ) {
            (void)snprintf(text, size, "phases[%d] (%s): %.300s", i, pa->name, diff);
        }
    }
    kd_free(two);
    return differ;
}

bool kd_cfg_phases_differ(const kd_config *a, const kd_config *b, char *text, size_t size)
{
    if (a->phases.n != b->phases.n) {
        (void)snprintf(text, size, "phases: %d then, %d now", a->phases.n, b->phases.n);
        return true;
    }
    bool differ = false;
    for (int i = 0; i < a->phases.n && !differ; i++) {
        differ = phase_differs(a, b, i, text, size);
    }
    return differ;
}
