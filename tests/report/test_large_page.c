/* A page as large as NTU's: 60 classes with long names, five students over three seeds, 20 persons, 3 cameras, 17
 * setups, learning curves.  ../browser prints it. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */

#include "kernels/kd_rng.h"
#include "tests/report/made_reports.h"

#define OUT KD_BUILD_DIR "/tests/large-out"

enum { CLASSES = 60, PERSONS = 20, SAMPLES = CLASSES * PERSONS, STUDENTS = 5, SEEDS = 3, RUNS = 1 + STUDENTS * SEEDS };

static const char *const LABEL[STUDENTS] = {"sfz-nano cross-entropy alone", "sfz-nano CE+KD, temperature 4",
                                            "last-e3-base CE", "last-e3-base CE+KD features and relations",
                                            "v1-base CE+KD"};

typedef struct page {
    char class_text[CLASSES][64], id_text[SAMPLES][24], path[RUNS][300];
    const char *class_name[CLASSES], *id[SAMPLES];
    int32_t label[SAMPLES];
    float logits[RUNS][SAMPLES * CLASSES];
    kd_report r[RUNS];
    const kd_report *list[RUNS];
} page;

static void name_everything(page *p)
{
    for (int k = 0; k < CLASSES; k++) {
        (void)snprintf(p->class_text[k], sizeof p->class_text[k], "put on or take off something %d (towards a person)",
                       k);
        p->class_name[k] = p->class_text[k];
    }
    for (int i = 0; i < SAMPLES; i++) {
        (void)snprintf(p->id_text[i], sizeof p->id_text[i], "S%03dC%03dP%03dR001A%03d", 1 + i % 17, 1 + i % 3,
                       3 + i / CLASSES, 1 + i % CLASSES);
        p->id[i] = p->id_text[i];
        p->label[i] = i % CLASSES;
    }
}

static void write_log(const char *dir, int run)
{
    char path[400], text[8192];
    size_t at = 0;
    kd_err err = {0};
    for (int e = 0; e < 30; e++) {
        const double loss = 4.0 / (1.0 + 0.2 * e) + 0.03 * run;
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "{\"type\":\"train\",\"epoch\":%d,\"loss_ce\":%.3f,\"loss_kd\":%.3f}\n"
                               "{\"type\":\"epoch\",\"epoch\":%d,\"train_loss\":%.3f}\n"
                               "{\"type\":\"val\",\"epoch\":%d,\"top1\":%.3f}\n",
                               e, loss, 2.0 * loss, e, loss, e, 0.8 - 0.15 * loss);
    }
    (void)snprintf(path, sizeof path, "%s/log.jsonl", dir);
    ok(kd_io_mkdirs(dir, &err), &err);
    ok(kd_io_write_file(path, text, at, &err), &err);
}

static void make_run(page *p, int run)
{
    kd_report *r = &p->r[run];
    const int student = (run - 1) / SEEDS;
    char dir[256];
    kd_rng g = kd_rng_make(9, KD_RNG_TEST, (uint32_t)run, 0);
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < CLASSES; k++) {
            p->logits[run][i * CLASSES + k] = (float)kd_rng_normal(&g);
        }
        p->logits[run][i * CLASSES + p->label[i]] += (run == 0 ? 3.2f : 2.6f + 0.1f * (float)student) - (i % 7 == 0);
    }
    (void)snprintf(dir, sizeof dir, OUT "/run-%d", run);
    write_log(dir, run);
    (void)snprintf(p->path[run], sizeof p->path[run], "%s/report.json", dir);
    *r = (kd_report){.kind = run == 0 ? "teacher" : "student",
                     .label = run == 0 ? "VideoMAE-2 Large, 5x3 views" : LABEL[student],
                     .seed = run == 0 ? 0 : (run - 1) % SEEDS,
                     .dataset = "ntu60",
                     .split = "ntu60-xsub",
                     .half = "val",
                     .modality = "skeleton",
                     .views = "1x1",
                     .class_names = p->class_name,
                     .classes = CLASSES,
                     .model = "m",
                     .parameters = run == 0 ? 303000000 : 84000,
                     .macs = run == 0 ? 597000000000 : 9100000,
                     .bytes = run == 0 ? 1212000000 : 336000,
                     .weights_hash = p->path[run], /* any text that differs */
                     .command = "distill train --config configs/distill/sfz-nano_ce_kd.yaml --data /data/ntu",
                     .config = "name: x\n",
                     .ids = p->id,
                     .labels = p->label,
                     .logits = p->logits[run],
                     .n = SAMPLES,
                     .path = p->path[run]};
    const kd_scores s = {r->logits, r->labels, r->n, r->classes};
    assert_int_equal(kd_metrics_compute(&s, 1.0, KD_ECE_BINS, &r->metrics, NULL), KD_OK);
    p->list[run] = r;
}

static void test_large_page(void **state)
{
    (void)state;
    page *p = kd_calloc(1, sizeof *p);
    kd_comparison *c = kd_calloc(1, sizeof *c);
    kd_err err = {0};
    assert_non_null(p);
    assert_non_null(c);
    ok(kd_io_remove_tree(OUT, &err), &err);
    name_everything(p);
    for (int run = 0; run < RUNS; run++) {
        make_run(p, run);
    }
    const kd_compare_opts opts = {200, 0.95, 0, "distill compare runs/*", false};
    ok(kd_compare(p->list, RUNS, &opts, c, &err), &err);
    ok(kd_compare_curves(c, &err), &err);
    assert_int_equal(c->n_groups, 1 + STUDENTS);
    assert_int_equal(c->factor[KD_FACTOR_SETUP].n, 17);
    assert_int_equal(c->curve[3].n, 30);
    ok(kd_compare_write_html(c, OUT "/report.html", &err), &err);
    kd_comparison_free(c);
    kd_free(c);
    for (int run = 0; run < RUNS; run++) {
        kd_metrics_free(&p->r[run].metrics);
    }
    kd_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large_page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
