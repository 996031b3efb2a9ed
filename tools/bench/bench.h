/* `kd bench`: timed runs and how they are told. */
#ifndef KD_TOOLS_BENCH_BENCH_H
#define KD_TOOLS_BENCH_BENCH_H

#include "kernels/kd_backend.h"
#include "tools/args.h"

typedef struct kd_bench_row {
    char name[128];
    double median, best, worst, p99; /* wall seconds of one run; p99: 99 of 100 take no longer */
    double cpu;                      /* processor seconds of one run, all threads, median */
    int runs;                        /* times that were taken */
    int burst;                       /* runs in each of them, waited for once at its end */
    double work;                     /* of one run, in `unit`s; 0: no rate */
    const char *unit;                /* "GFLOP", "clips", "MB": the rate is told per second */
    double macs;                     /* of one run; this and the following 0: not told */
    size_t arena_bytes;              /* activations and scratch of the program */
    size_t device_bytes;             /* what the card had less free afterwards than before, all of it */
    int64_t params;
} kd_bench_row;

typedef struct kd_bench {
    const char *what;   /* "kernels", "model", ... */
    double seconds;     /* time to spend on a row */
    kd_backend *be;     /* what the runs ask things of and are waited for; NULL: host code */
    kd_bench_row *rows; /* owned */
    int count, cap;
} kd_bench;

void kd_bench_free(kd_bench *b);

/* Untimed runs, then timed ones until `seconds` are spent, 3 at least and 10000 at most; the row is
 * appended.  run() only asks: on a device that queues what it is asked, one time is taken over so
 * many runs that the wait at their end does not show, as in training, where nobody waits for a
 * step. */
KD_NODISCARD kd_status kd_bench_time(kd_bench *b, const char *name, double work, const char *unit,
                                     kd_status (*run)(void *ctx), void *ctx, kd_err *err);

/* Table or JSON on stdout. */
KD_NODISCARD kd_status kd_bench_print(const kd_bench *b, bool json, kd_err *err);

/* The parts: each appends its rows. */
typedef struct kd_bench_opts {
    const char *phase;
    int64_t batch, bodies;
    double seconds;
} kd_bench_opts;

KD_NODISCARD kd_status kd_bench_kernels(kd_bench *b, kd_backend *be, kd_dtype t, int64_t batch, kd_err *err);
KD_NODISCARD kd_status kd_bench_model(kd_bench *b, kd_backend *be, const char *name, kd_dtype t, const kd_bench_opts *o,
                                      kd_err *err);
KD_NODISCARD kd_status kd_bench_decode(kd_bench *b, char *const *paths, int count, kd_err *err);
KD_NODISCARD kd_status kd_bench_store(kd_bench *b, const char *dir, kd_err *err);

#endif
