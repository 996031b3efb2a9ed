/* See compare_latency.h.  Times of different sessions differ by what else the machine did then; taken by turns within
 * one process, whatever disturbs one network disturbs them all. */
#include "tools/commands/compare_latency.h"

#include "distill/task/tasks.h"

#include <stdlib.h>

enum { PASSES_MIN = 10, PASSES_MAX = 200, WARM_UP = 2 };
static const double SECONDS = 30.0;

typedef struct network {
    kd_model model;
    kd_program *program;
    double ms[PASSES_MAX];
} network;

static kd_status of_report(const kd_report *r, kd_err *err)
{
    return KD_FAIL(err, KD_E_DATA,
                   "%s: no recipe of a network in it: its latency cannot be measured, leave --latency out",
                   r->path != NULL ? r->path : r->label);
}

static kd_status build(const kd_report *r, const kd_device_opts *device, kd_backend *be, network *n, kd_err *err)
{
    kd_status st = KD_OK;
    if (r->config == NULL || r->config[0] == '\0') {
        return of_report(r, err);
    }
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_GO(kd_config_parse(r->config, strlen(r->config), r->path != NULL ? r->path : r->label, NULL, 0, cfg, err));
    cfg->train.dtype = device->dtype;
    KD_GO(kd_model_open(kd_task_of(cfg), cfg, r->classes, be, &n->model, err));
    KD_GO(kd_model_init(&n->model, NULL, 0, err));
    KD_GO(kd_model_eval_program(&n->model, 1, &n->program, err));
    if (r->macs > 0 && r->macs != kd_program_macs(n->program)) {
        st = KD_FAIL(err, KD_E_DATA, "%s: reports a network of %lld multiply-adds, but its recipe builds one of %lld",
                     r->path != NULL ? r->path : r->label, (long long)r->macs, (long long)kd_program_macs(n->program));
    }
done:
    kd_free(cfg);
    return st;
}

static kd_status pass(network *n, double *ms, kd_err *err)
{
    const double t0 = kd_now();
    const kd_status st = kd_program_run(n->program, NULL);
    *ms = 1e3 * (kd_now() - t0);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "latency: forward pass failed: %s", kd_status_text(st));
}

/* Rounds in which every network runs once; each begins with the next one. */
static kd_status measure(network *n, size_t networks, int *passes, kd_err *err)
{
    double ignored = 0.0;
    for (size_t i = 0; i < networks * WARM_UP; i++) {
        KD_TRY(pass(&n[i % networks], &ignored, err));
    }
    const double start = kd_now();
    int round = 0;
    for (; round < PASSES_MAX && (round < PASSES_MIN || kd_now() - start < SECONDS); round++) {
        for (size_t i = 0; i < networks; i++) {
            network *x = &n[((size_t)round + i) % networks];
            KD_TRY(pass(x, &x->ms[round], err));
        }
    }
    *passes = round;
    return KD_OK;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

kd_status kd_compare_latency(kd_comparison *c, const kd_device_opts *device, kd_err *err)
{
    network *n = kd_calloc(c->n_groups, sizeof *n);
    kd_backend *be = NULL;
    kd_status st = KD_OK;
    int passes = 0;
    if (n == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_GO(kd_device_open(device, &be, err));
    for (size_t g = 0; g < c->n_groups; g++) {
        KD_GO(build(c->report[c->group[g].typical], device, be, &n[g], err));
    }
    KD_GO(measure(n, c->n_groups, &passes, err));
    for (size_t g = 0; g < c->n_groups; g++) {
        qsort(n[g].ms, (size_t)passes, sizeof *n[g].ms, by_value);
        c->group[g].latency = (kd_latency){n[g].ms[passes / 2], n[g].ms[(99 * passes - 1) / 100], passes};
    }
    char about[sizeof c->latency.device - 16];
    be->ops->describe(be, about, sizeof about);
    (void)snprintf(c->latency.device, sizeof c->latency.device, "%.12s, %s", be->ops->name, about);
    (void)snprintf(c->latency.dtype, sizeof c->latency.dtype, "%s", kd_dtype_name(device->dtype));
    c->latency.threads = be->threads;
    c->latency.measured = true;
done:
    for (size_t g = 0; g < c->n_groups; g++) {
        kd_program_free(n[g].program);
        kd_model_close(&n[g].model);
    }
    kd_backend_close(be);
    kd_free(n);
    return st;
}
