/* Small reports made in place: 8 samples, 3 classes.  Every helper ends the test when something fails. */
#ifndef KD_TESTS_REPORT_MADE_REPORTS_H
#define KD_TESTS_REPORT_MADE_REPORTS_H

#include "distill/report/compare.h"
#include "formats/base/io.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static inline void near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol)) {
        fail_msg("got %.12g, expected %.12g within %g", got, want, tol);
    }
}

static inline void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

static inline void says(const kd_err *err, const char *part)
{
    if (strstr(err->msg, part) == NULL) {
        fail_msg("the message '%s' does not say '%s'", err->msg, part);
    }
}

enum { N = 8, K = 3 };

static const char *const IDS[N] = {"S003C001P003R001A001", "S003C001P003R001A002", "S003C001P003R001A003",
                                   "S003C002P003R001A001", "S003C002P003R001A002", "S003C002P003R001A003",
                                   "S003C003P003R001A001", "S003C003P003R001A002"};
static const int32_t LABELS[N] = {0, 1, 2, 0, 1, 2, 0, 1};
static const char *const NAMES[K] = {"drink", "eat", "wave"};

typedef struct maker {
    kd_report r;
    float logits[N * K];
    const char *ids[N];
    int32_t labels[N];
} maker;

/* A report whose prediction for sample i is guess[i]; samples are written in the order (i * step + shift) mod N. */
static inline void make(maker *m, const char *kind, const char *label, int64_t seed, const int guess[N], int step)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < N; i++) {
        const int from = i * step % N;
        m->ids[i] = IDS[from];
        m->labels[i] = LABELS[from];
        m->logits[i * K + guess[from]] = 2.0f;
    }
    kd_report *r = &m->r;
    r->kind = kind;
    r->label = label;
    r->seed = seed;
    r->created = "2026-01-01T00:00:00Z";
    r->tool = "test";
    r->dataset = "sample";
    r->split = "ntu60-xsub";
    r->half = "val";
    r->modality = "skeleton";
    r->views = "1x1";
    r->model = "m";
    r->class_names = NAMES;
    r->classes = K;
    r->ids = m->ids;
    r->labels = m->labels;
    r->logits = m->logits;
    r->n = N;
}

static const int TEACHER[N] = {0, 1, 2, 0, 1, 2, 1, 1};   /* one wrong: sample 6 */
static const int STUDENT_A[N] = {1, 1, 2, 1, 1, 2, 0, 1}; /* wrong: 0, 3; right where the teacher is not: 6 */
static const int STUDENT_B[N] = {1, 1, 2, 0, 1, 2, 1, 1}; /* wrong: 0, 6 */
static const int STUDENT_C[N] = {0, 1, 2, 0, 1, 2, 0, 1}; /* all right */

static inline void written(maker *m, const char *path, kd_report *back)
{
    kd_err err = {0};
    ok(kd_report_write(&m->r, path, &err), &err);
    kd_metrics_free(&m->r.metrics);
    if (back != NULL) {
        ok(kd_report_read(path, back, &err), &err);
    }
}

#endif
