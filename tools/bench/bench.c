#include "tools/bench/bench.h"

#include "formats/base/json.h"
#include "kernels/kd_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MIN_RUNS = 3, MAX_RUNS = 10000, MAX_BURST = 1000 };

#define BURST_SECONDS 0.05 /* one time on a device: a wait costs some 20 us */

void kd_bench_free(kd_bench *b)
{
    kd_free(b->rows);
    b->rows = NULL;
    b->count = b->cap = 0;
}

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static kd_status add_row(kd_bench *b, const kd_bench_row *row, kd_err *err)
{
    if (b->count == b->cap) {
        const int cap = b->cap == 0 ? 32 : 2 * b->cap;
        kd_bench_row *rows = kd_realloc(b->rows, (size_t)b->cap * sizeof *rows, (size_t)cap * sizeof *rows);
        if (rows == NULL) {
            return KD_FAIL(err, KD_E_OOM, "out of memory");
        }
        b->rows = rows;
        b->cap = cap;
    }
    b->rows[b->count++] = *row;
    return KD_OK;
}

/* n runs and the wait for them. */
static kd_status burst(const kd_bench *b, kd_status (*run)(void *ctx), void *ctx, int n)
{
    for (int i = 0; i < n; i++) {
        KD_TRY(run(ctx));
    }
    return b->be != NULL ? b->be->ops->sync(b->be) : KD_OK;
}

/* Runs before the first timed one, and how many go into one time.  A device that queues what it is
 * asked captures the second run of a program and replays it from the third on. */
static kd_status warm_up(const kd_bench *b, kd_status (*run)(void *ctx), void *ctx, int *n)
{
    *n = 1;
    if (b->be == NULL || b->be->ops->capture_begin == NULL) {
        return burst(b, run, ctx, 1);
    }
    KD_TRY(burst(b, run, ctx, 3));
    const double t = kd_now();
    KD_TRY(burst(b, run, ctx, 1));
    *n = (int)KD_MIN(KD_MAX(BURST_SECONDS / (kd_now() - t + 1e-9), 1.0), (double)MAX_BURST);
    return KD_OK;
}

kd_status kd_bench_time(kd_bench *b, const char *name, double work, const char *unit, kd_status (*run)(void *ctx),
                        void *ctx, kd_err *err)
{
    kd_bench_row row = {.work = work, .unit = unit};
    kd_status st = KD_OK;
    double *wall = kd_calloc(2 * MAX_RUNS, sizeof *wall), *cpu = wall != NULL ? wall + MAX_RUNS : NULL;
    (void)snprintf(row.name, sizeof row.name, "%s", name);
    if (wall == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_GO(warm_up(b, run, ctx, &row.burst));
    const double start = kd_now();
    while (row.runs < MAX_RUNS && (row.runs < MIN_RUNS || kd_now() - start < b->seconds)) {
        const double t = kd_now(), c = cpu_seconds();
        KD_GO(burst(b, run, ctx, row.burst));
        wall[row.runs] = (kd_now() - t) / row.burst;
        cpu[row.runs++] = (cpu_seconds() - c) / row.burst;
    }
    qsort(wall, (size_t)row.runs, sizeof *wall, by_value);
    qsort(cpu, (size_t)row.runs, sizeof *cpu, by_value);
    row.median = wall[row.runs / 2];
    row.best = wall[0];
    row.worst = wall[row.runs - 1];
    row.p99 = wall[(size_t)row.runs * 99 / 100];
    row.cpu = cpu[row.runs / 2];
    st = add_row(b, &row, err);
done:
    kd_free(wall);
    return st != KD_OK && (err == NULL || err->code == KD_OK) ? KD_FAIL(err, st, "%s: %s", name, kd_status_text(st))
                                                              : st;
}

static double load_average(void)
{
    double load = 0.0;
    return getloadavg(&load, 1) == 1 ? load : 0.0;
}

static void row_json(const kd_bench_row *r, kd_json *o)
{
    kd_json_set_str(o, "name", r->name);
    kd_json_set_i64(o, "runs", r->runs);
    kd_json_set_i64(o, "burst", r->burst);
    kd_json_set_f64(o, "median_s", r->median);
    kd_json_set_f64(o, "best_s", r->best);
    kd_json_set_f64(o, "p99_s", r->p99);
    kd_json_set_f64(o, "worst_s", r->worst);
    kd_json_set_f64(o, "cpu_s", r->cpu);
    if (r->work > 0.0) {
        kd_json_set_f64(o, "per_second", r->work / r->median);
        kd_json_set_str(o, "unit", r->unit);
    }
    if (r->macs > 0.0) {
        kd_json_set_f64(o, "macs", r->macs);
        kd_json_set_i64(o, "arena_bytes", (int64_t)r->arena_bytes);
        kd_json_set_i64(o, "params", r->params);
    }
    if (r->device_bytes > 0) {
        kd_json_set_i64(o, "device_bytes", (int64_t)r->device_bytes);
    }
}

static kd_status print_json(const kd_bench *b, kd_err *err)
{
    char features[64], device[320];
    char *text = NULL;
    kd_json *doc = kd_json_object();
    kd_json_set_str(doc, "bench", b->what);
    kd_json_set_str(doc, "version", kd_version());
    kd_json_set_str(doc, "cpu", kd_cpu_text(features, sizeof features));
    kd_json_set_i64(doc, "cores", kd_cores());
    kd_json_set_f64(doc, "load", load_average());
    if (b->be != NULL) {
        b->be->ops->describe(b->be, device, sizeof device);
        kd_json_set_str(doc, "device", device);
    }
    kd_json *rows = kd_json_set_array(doc, "rows");
    for (int i = 0; i < b->count; i++) {
        row_json(&b->rows[i], kd_json_push_object(rows));
    }
    const kd_status st = kd_json_dump(doc, KD_JSON_PRETTY, &text, NULL, err);
    if (st == KD_OK) {
        (void)fputs(text, stdout);
    }
    kd_free(text);
    kd_json_free(doc);
    return st;
}

kd_status kd_bench_print(const kd_bench *b, bool json, kd_err *err)
{
    if (json) {
        return print_json(b, err);
    }
    char features[64];
    printf("%d cores (%s), load %.1f\n", kd_cores(), kd_cpu_text(features, sizeof features), load_average());
    printf("%-58s %11s %11s %11s %11s %6s  %s\n", "", "median ms", "best ms", "p99 ms", "cpu ms", "runs", "rate");
    for (int i = 0; i < b->count; i++) {
        const kd_bench_row *r = &b->rows[i];
        printf("%-58s %11.3f %11.3f %11.3f %11.3f %6d", r->name, r->median * 1e3, r->best * 1e3, r->p99 * 1e3,
               r->cpu * 1e3, r->runs);
        if (r->work > 0.0) {
            printf("  %.5g %s/s", r->work / r->median, r->unit);
        }
        printf("\n");
        if (r->macs > 0.0) {
            printf("  %.3f GMAC, %lld parameters, activations and scratch %.1f MiB", r->macs * 1e-9,
                   (long long)r->params, (double)r->arena_bytes / 1048576.0);
        }
        if (r->device_bytes > 0) {
            printf(", %.1f MiB of the card", (double)r->device_bytes / 1048576.0);
        }
        printf("%s", r->macs > 0.0 ? "\n" : "");
    }
    return KD_OK;
}
