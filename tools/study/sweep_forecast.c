/* What a study will take: see sweep.h. */
#include "distill/task/tasks.h"
#include "tools/device.h"
#include "tools/study/sweep.h"

#include <stdio.h>

/* Does a run of `a` take as long as one of `b`?  The draws (seeds, augmentations, rates) cost nothing. */
static bool alike(const kd_config *a, const kd_config *b)
{
    return memcmp(&a->student, &b->student, sizeof a->student) == 0 &&
           memcmp(&a->skeleton, &b->skeleton, sizeof a->skeleton) == 0 &&
           memcmp(&a->data, &b->data, sizeof a->data) == 0 && memcmp(&a->kd, &b->kd, sizeof a->kd) == 0 &&
           a->train.epochs == b->train.epochs && a->train.batch_size == b->train.batch_size &&
           a->optim.accumulation == b->optim.accumulation && a->phases.n == 0 && b->phases.n == 0;
}

kd_status kd_sweep_try(const kd_common *c, const kd_config *cfg, bool measure, kd_train_result *r, kd_err *err)
{
    char name[KD_CFG_NAME];
    kd_backend *be = NULL;
    const kd_device_opts device = {.device = kd_config_enum_name("train.device", (int)cfg->train.device, name),
                                   .dtype = cfg->train.dtype,
                                   .threads = 1,
                                   .deterministic = cfg->train.deterministic,
                                   .plain = c->plain_kernels,
                                   .no_graphs = c->no_graphs};
    KD_TRY(kd_device_open(&device, &be, err));
    const kd_train_opts o = {.task = kd_task_of(cfg), .cfg = cfg, .dry_run = true, .unmeasured = !measure, .be = be};
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(KD_LOG_ERROR);
    const kd_status st = kd_train(&o, r, err);
    kd_log_set_level(level);
    kd_backend_close(be);
    return st;
}

typedef struct kind {
    kd_config cfg;
    double seconds;
} kind;

/* Mean processor time of the finished runs of a cell; 0: none is known. */
static double known(const kd_sweep *s, int cell)
{
    double sum = 0.0;
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->run[i].at.cell == cell && s->run[i].state == KD_SWEEP_DONE && s->run[i].cpu > 0.0) {
            sum += s->run[i].cpu;
            n++;
        }
    }
    return n > 0 ? sum / n : 0.0;
}

static kd_status estimate(kd_sweep *s, const kd_common *c, int cell, kind *k, int *n_kinds, double *seconds,
                          kd_err *err)
{
    kind *now = &k[*n_kinds];
    *seconds = known(s, cell);
    if (*seconds > 0.0) {
        return KD_OK;
    }
    KD_TRY(kd_plan_recipe(s->plan, (kd_plan_run){.cell = cell}, &now->cfg, err));
    for (int i = 0; i < *n_kinds; i++) {
        if (alike(&k[i].cfg, &now->cfg)) {
            *seconds = k[i].seconds;
            return KD_OK;
        }
    }
    kd_train_result r = {0};
    KD_TRY(kd_sweep_try(c, &now->cfg, true, &r, err));
    *seconds = now->seconds = r.forecast;
    (*n_kinds)++;
    return KD_OK;
}

static int open_runs(const kd_sweep *s, int cell)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        n += s->run[i].at.cell == cell && s->run[i].state != KD_SWEEP_DONE;
    }
    return n;
}

static void say(const kd_sweep *s, const double *seconds)
{
    double all = 0.0;
    bool measured = false;
    (void)printf("%-40s %6s %6s  %s\n", "cell", "runs", "open", "processor hours of the open ones");
    for (int cell = 0; cell < s->plan->n_cells; cell++) {
        char label[KD_CFG_NAME];
        const int n = open_runs(s, cell);
        const double hours = seconds[cell] * n / 3600.0;
        kd_plan_label(s->plan, cell, label);
        all += hours;
        measured = measured || known(s, cell) > 0.0;
        (void)printf("%-40s %6d %6d  %.3g%s\n", label, s->n / s->plan->n_cells, n, hours,
                     kd_plan_baseline(s->plan, cell) == cell ? "  (baseline)" : "");
    }
    (void)printf("%d cells, %d runs, %d done, %d open: about %.3g processor hours, %.3g hours with %d run%s at once on "
                 "%d processor%s\n",
                 s->plan->n_cells, s->n, s->done, s->n - s->done, all, all / s->cores, s->jobs, s->jobs == 1 ? "" : "s",
                 s->cores, s->cores == 1 ? "" : "s");
    (void)printf("%s; dry run: nothing was trained or written\n",
                 measured ? "cells with a finished run by its time, the others by a few steps: reading and validation "
                            "come on top of those"
                          : "by a few steps of each kind of run: reading and validation come on top");
}

kd_status kd_sweep_forecast(kd_sweep *s, const kd_common *c, kd_err *err)
{
    const size_t n = (size_t)s->plan->n_cells;
    kind *k = kd_calloc(n, sizeof *k);
    double *seconds = kd_calloc(n, sizeof *seconds);
    int n_kinds = 0;
    kd_status st = KD_OK;
    if (k == NULL || seconds == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    for (int cell = 0; cell < s->plan->n_cells; cell++) {
        if (open_runs(s, cell) > 0) {
            KD_GO(estimate(s, c, cell, k, &n_kinds, &seconds[cell], err));
        }
    }
    say(s, seconds);
done:
    kd_free(k);
    kd_free(seconds);
    return st;
}
