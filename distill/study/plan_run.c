/* The runs of a plan: names, order, recipes.  See plan.h. */
#include "distill/study/plan.h"

#include <stdio.h>

enum { PARTS = KD_PLAN_AXES + 2 };

int kd_plan_runs(const kd_plan *p)
{
    return p->n_cells * KD_MAX(p->fold.n, 1) * p->n_seeds;
}

kd_plan_run kd_plan_at(const kd_plan *p, int i)
{
    const int folds = KD_MAX(p->fold.n, 1);
    return (kd_plan_run){.cell = i % p->n_cells, .fold = i / p->n_cells % folds, .seed = i / p->n_cells / folds};
}

/* Names of a cell's values with `between` between them. */
static void join_names(const kd_plan *p, int cell, char between, char *out, size_t size)
{
    size_t at = 0;
    for (int a = 0; a < p->n_axes && at < size; a++) {
        const char mark[2] = {between, '\0'};
        at += (size_t)snprintf(out + at, size - at, "%s%s", a > 0 ? mark : "",
                               p->axis[a].value[p->cell[cell].value[a]].name);
    }
}

void kd_plan_label(const kd_plan *p, int cell, char out[KD_CFG_NAME])
{
    join_names(p, cell, ' ', out, KD_CFG_NAME);
}

void kd_plan_folder(const kd_plan *p, int cell, char out[KD_CFG_NAME])
{
    join_names(p, cell, '_', out, KD_CFG_NAME);
}

char *kd_plan_path(const kd_plan *p, kd_plan_run run)
{
    char cell[KD_CFG_NAME];
    kd_plan_folder(p, run.cell, cell);
    return kd_strf("%s/%s%sseed-%lld", cell, p->fold.n > 0 ? p->fold.value[run.fold].name : "",
                   p->fold.n > 0 ? "/" : "", (long long)p->seed[run.seed]);
}

/* ---- <axis>, <fold>, <seed> ------------------------------------------------------------------ */

/* What stands for the name [n]; NULL: no such name. */
static const char *stands_for(const kd_plan *p, kd_plan_run run, const char *name, size_t n, char seed[24])
{
    if (n == 4 && strncmp(name, "seed", n) == 0) {
        (void)snprintf(seed, 24, "%lld", (long long)p->seed[run.seed]);
        return seed;
    }
    if (n == 4 && strncmp(name, "fold", n) == 0) {
        return p->fold.n > 0 ? p->fold.value[run.fold].name : NULL;
    }
    for (int a = 0; a < p->n_axes; a++) {
        if (strlen(p->axis[a].name) == n && strncmp(name, p->axis[a].name, n) == 0) {
            return p->axis[a].value[p->cell[run.cell].value[a]].name;
        }
    }
    return NULL;
}

/* `text` with the names replaced (kd_free). */
static kd_status replace(const kd_plan *p, kd_plan_run run, const char *text, char **out, kd_err *err)
{
    char seed[24];
    char *made = kd_strdup(text);
    for (char *at = made != NULL ? strchr(made, '<') : NULL; at != NULL;) {
        const size_t n = strcspn(at + 1, ">");
        const char *value = at[1 + n] == '>' ? stands_for(p, run, at + 1, n, seed) : NULL;
        if (value == NULL) {
            const kd_status st = KD_FAIL(err, KD_E_CONFIG,
                                         "%s: %s: expected <seed>, <fold> of a plan with folds, or <AXIS>, found %.40s",
                                         p->path, text, at);
            kd_free(made);
            return st;
        }
        const size_t before = (size_t)(at - made);
        char *next = kd_strf("%.*s%s%s", (int)before, made, value, at + n + 2);
        at = next != NULL ? strchr(next + before + strlen(value), '<') : NULL;
        kd_free(made);
        made = next;
    }
    *out = made;
    return made != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "plan: out of memory");
}

/* ---- recipes --------------------------------------------------------------------------------- */

typedef struct lines {
    char *base[PARTS * KD_PLAN_BASES], *set[PARTS * KD_PLAN_SETS + 2];
    size_t n_base, n_set;
} lines;

static kd_status add_part(const kd_plan *p, kd_plan_run run, const kd_plan_part *part, lines *l, kd_err *err)
{
    for (int i = 0; i < part->n_base; i++) {
        KD_TRY(replace(p, run, part->base[i], &l->base[l->n_base], err));
        l->n_base++;
    }
    for (int i = 0; i < part->n_set; i++) {
        KD_TRY(replace(p, run, part->set[i], &l->set[l->n_set], err));
        l->n_set++;
    }
    return KD_OK;
}

static kd_status add_own(const kd_plan *p, kd_plan_run run, const char *label, lines *l, kd_err *err)
{
    l->set[l->n_set++] = kd_strf("name='%s'", label);
    l->set[l->n_set++] = kd_strf("train.seed=%lld", (long long)p->seed[run.seed]);
    return l->set[l->n_set - 1] != NULL && l->set[l->n_set - 2] != NULL ? KD_OK
                                                                        : KD_FAIL(err, KD_E_OOM, "plan: out of memory");
}

kd_status kd_plan_recipe(const kd_plan *p, kd_plan_run run, kd_config *out, kd_err *err)
{
    char label[KD_CFG_NAME];
    kd_status st = KD_OK;
    lines *l = kd_calloc(1, sizeof *l);
    if (l == NULL) {
        return KD_FAIL(err, KD_E_OOM, "plan: out of memory");
    }
    kd_plan_label(p, run.cell, label);
    KD_GO(add_part(p, run, &p->recipe, l, err));
    for (int a = 0; a < p->n_axes; a++) {
        KD_GO(add_part(p, run, &p->axis[a].value[p->cell[run.cell].value[a]], l, err));
    }
    if (p->fold.n > 0) {
        KD_GO(add_part(p, run, &p->fold.value[run.fold], l, err));
    }
    KD_GO(add_own(p, run, label, l, err));
    KD_GO(kd_config_load((const char *const *)l->base, l->n_base, (const char *const *)l->set, l->n_set, out, err));
    st = kd_config_absolute(out, err);
done:
    for (size_t i = 0; i < l->n_base; i++) {
        kd_free(l->base[i]);
    }
    for (size_t i = 0; i < l->n_set; i++) {
        kd_free(l->set[i]);
    }
    kd_free(l);
    return st == KD_OK ? st : kd_err_prefix(err, st, "%s: cell %s", p->path, label);
}
