/* `distill sweep`: a study from its plan. */
#include "distill/study/pool.h"
#include "distill/study/study.h"
#include "formats/base/io.h"
#include "kernels/kd_backend.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/study/sweep.h"

#include <stdio.h>

typedef struct sweep_args {
    int64_t jobs, draws;
    double confidence;
    const char *keep;
} sweep_args;

static const kd_arg ARGS[] = {
    KD_OPT_INT(sweep_args, jobs, "jobs", "N", "0", 0, 4096, "runs at once; 0: as many as --threads"),
    KD_OPT_CHOICE(sweep_args, keep, "keep", "all", "all|reports",
                  "of a finished run: everything, or report, log and recipe without weights and events"),
    KD_OPT_INT(sweep_args, draws, "bootstrap", "N", "2000", 100, 1000000, "draws behind every interval"),
    KD_OPT_REAL(sweep_args, confidence, "confidence", "P", "0.95", 0.5, 0.999, "of the intervals"),
};

static const kd_cmd CMD = {
    .name = "distill sweep",
    .operands = "PLAN.yaml",
    .about = "Runs a study: every cell of a plan (students x losses x whatever varies) with every fold and seed,\n"
             "several runs at once, and one table of all cells, paired with their baselines by seed and clip.",
    .args = ARGS,
    .arg_count = KD_COUNTOF(ARGS),
    .common = KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_THREADS | KD_COMMON_PLAIN | KD_COMMON_NO_GRAPHS |
              KD_COMMON_DRY_RUN | KD_COMMON_JSON,
    .min_operands = 1,
    .max_operands = 1,
    .notes =
        "A plan:\n"
        "  name: title of the table            seeds: [0, 1, 2]\n"
        "  base: [recipes]                     folds: {NAME: {keys}, ...}\n"
        "  recipe: {keys of every run}         baseline: {AXIS: VALUE, ...}\n"
        "  axes: {AXIS: {VALUE: {keys}, ...}}  exclude: [{AXIS: VALUE, ...}, ...]\n"
        "Keys are those of a recipe, dotted or nested, and `base`: recipes relative to the plan.  <AXIS>, <fold> and\n"
        "<seed> in a text stand for the value's name, the fold's and the seed.  --threads is shared by the runs at\n"
        "once.  The same command goes on after an interruption: finished runs are known by recipe, seed, data and\n"
        "stores; --force trains runs of another recipe anew.  A run that fails is named, the others go on, and the "
        "exit\n"
        "code is 1.  Test predictions of folds are pooled by seed.  --out DIR: runs/, pooled/, logs/, recipes/ and\n"
        "sweep.{html,md,csv,json}; `distill compare` reads every report of it.",
    .examples = "distill sweep study.yaml --dry-run --out study\n"
                "distill sweep study.yaml --jobs 2 --keep reports --out study",
};

/* ---- findings -------------------------------------------------------------------------------- */

/* "5 folds (f1, f2, ...)" */
static void name_folds(const kd_plan *p, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "%d folds (", p->fold.n);
    for (int f = 0; f < p->fold.n && at < size; f++) {
        at += (size_t)snprintf(out + at, size - at, "%s%s", f > 0 ? ", " : "", p->fold.value[f].name);
    }
    if (at < size) {
        (void)snprintf(out + at, size - at, ")");
    }
}

static int index_of(const kd_sweep *s, int cell, int fold, int seed)
{
    return (seed * KD_MAX(s->plan->fold.n, 1) + fold) * s->plan->n_cells + cell;
}

/* The folds of a cell and seed, all of which are done, as one report; *path (kd_free). */
static kd_status pool(const kd_sweep *s, int cell, int seed, char **path, kd_err *err)
{
    const kd_plan *p = s->plan;
    kd_report *part = kd_calloc((size_t)p->fold.n, sizeof *part);
    char folds[2048];
    char *dir = NULL;
    kd_status st = part != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    KD_GO(st);
    for (int f = 0; f < p->fold.n; f++) {
        char *report = kd_sweep_path(s, "runs", s->run[index_of(s, cell, f, seed)].path, "/report.json");
        st = report != NULL ? kd_report_read(report, &part[f], err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        kd_free(report);
        KD_GO(st);
    }
    /* the path of the cell without its fold */
    const char *run = s->run[index_of(s, cell, 0, seed)].path;
    dir = kd_strf("%s/pooled/%.*s", s->out, (int)strcspn(run, "/"), run);
    *path = dir != NULL ? kd_strf("%s/seed-%lld.json", dir, (long long)p->seed[seed]) : NULL;
    if (*path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    KD_GO(kd_io_mkdirs(dir, err));
    name_folds(p, folds, sizeof folds);
    st = kd_report_pool(part, (size_t)p->fold.n, folds, *path, err);
done:
    for (int f = 0; part != NULL && f < p->fold.n; f++) {
        kd_report_free(&part[f]);
    }
    kd_free(part);
    kd_free(dir);
    return st;
}

static kd_status add_seed(const kd_sweep *s, kd_study *study, int cell, int seed, kd_err *err)
{
    kd_report r;
    char *path = NULL;
    kd_status st = KD_OK;
    for (int f = 0; f < KD_MAX(s->plan->fold.n, 1); f++) {
        if (s->run[index_of(s, cell, f, seed)].state != KD_SWEEP_DONE) {
            return KD_OK;
        }
    }
    if (s->plan->fold.n > 0) {
        KD_GO(pool(s, cell, seed, &path, err));
    } else {
        path = kd_sweep_path(s, "runs", s->run[index_of(s, cell, 0, seed)].path, "/report.json");
    }
    KD_GO(path != NULL ? kd_report_read(path, &r, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory"));
    st = kd_study_add(study, (size_t)cell, &r, err);
done:
    kd_free(path);
    return st;
}

static kd_status print_findings(const kd_sweep *s, const kd_study *study, kd_err *err)
{
    char *table = NULL;
    if (!s->json) {
        table = kd_study_table(study);
        (void)printf("\n%s\n%s/sweep.html\n", table != NULL ? table : "", KD_SHOWN(s->out));
        kd_free(table);
        return KD_OK;
    }
    char *path = kd_path_join(s->out, "sweep.json");
    kd_json *doc = NULL;
    kd_status st = path != NULL ? kd_json_load(path, &doc, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    kd_free(path);
    return st == KD_OK ? kd_print_json(doc, err) : st;
}

static kd_status find(const kd_sweep *s, const sweep_args *a, const kd_common *c, kd_err *err)
{
    const int n = s->plan->n_cells;
    char(*label)[KD_CFG_NAME] = kd_calloc((size_t)n, sizeof *label);
    const char **names = kd_calloc((size_t)n, sizeof *names);
    int *baseline = kd_calloc((size_t)n, sizeof *baseline);
    kd_study study = {.cell = NULL};
    kd_status st = KD_OK;
    if (label == NULL || names == NULL || baseline == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    for (int i = 0; i < n; i++) {
        kd_plan_label(s->plan, i, label[i]);
        names[i] = label[i];
        baseline[i] = kd_plan_baseline(s->plan, i);
    }
    KD_GO(kd_study_open(&study, names, baseline, (size_t)n, err));
    study.name = s->plan->name;
    study.command = c->typed;
    study.draws = (int)a->draws;
    study.confidence = a->confidence;
    for (int i = 0; i < n * s->plan->n_seeds; i++) {
        KD_GO(add_seed(s, &study, i % n, i / n, err));
    }
    if (study.order == NULL) {
        goto done; /* no cell has a whole seed */
    }
    KD_GO(kd_study_measure(&study, err));
    KD_GO(kd_study_write(&study, s->out, err));
    st = print_findings(s, &study, err);
done:
    kd_study_free(&study);
    kd_free(label);
    kd_free((void *)names);
    kd_free(baseline);
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

static kd_status train_and_find(kd_sweep *s, const sweep_args *a, const kd_common *c, kd_err *err)
{
    int failed = 0;
    if (s->done > 0 && !c->quiet && !c->json) {
        (void)fprintf(stderr, "%d of %d runs are done\n", s->done, s->n);
    }
    KD_TRY(kd_sweep_work(s, &failed, err));
    KD_TRY(find(s, a, c, err));
    if (failed > 0) {
        return KD_FAIL(err, KD_E_STATE, "%d of %d runs failed, named above; what they said is in %s/logs", failed, s->n,
                       s->out);
    }
    return KD_OK;
}

static kd_status sweep(const sweep_args *a, const kd_common *c, const char *file, kd_err *err)
{
    kd_plan *plan = NULL;
    kd_lock *lock = NULL;
    const int cores = c->threads > 0 ? (int)c->threads : kd_cores();
    kd_sweep s = {.out = c->out,
                  .cores = cores,
                  .force = c->force,
                  .json = c->json,
                  .quiet = c->quiet,
                  .reports_only = strcmp(a->keep, "reports") == 0};
    kd_status st = KD_OK;
    KD_GO(kd_plan_load(file, &plan, err));
    s.plan = plan;
    s.jobs = KD_MIN(a->jobs > 0 ? (int)a->jobs : cores, kd_plan_runs(plan));
    if (c->dry_run) {
        KD_GO(kd_sweep_look(&s, c, err));
        st = kd_sweep_forecast(&s, c, err);
        goto done;
    }
    char *path = kd_path_join(c->out, "lock");
    st = path != NULL ? kd_io_mkdirs(c->out, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    st = st == KD_OK ? kd_io_lock(path, &lock, err) : st;
    kd_free(path);
    KD_GO(st);
    KD_GO(kd_sweep_look(&s, c, err));
    st = train_and_find(&s, a, c, err);
done:
    kd_sweep_close(&s);
    kd_io_unlock(lock);
    kd_plan_free(plan);
    return st;
}

int kd_cmd_distill_sweep(int argc, char **argv)
{
    sweep_args a;
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&CMD, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&CMD, "--out DIR is needed: the folder of the study");
    }
    return kd_cmd_end(&CMD, sweep(&a, &c, in.item[0], &err), &err);
}
