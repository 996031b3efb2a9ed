/* `kd demo`: the whole path on the sample data set.  Every step is the command a user would type, printed first and
 * then run through the same function as from the shell; the recipes are presets, configs/demo. */
#include "tools/commands/commands.h"
#include "tools/presets.h"
#include "tools/progress.h"

#include <stdio.h>

typedef struct opts {
    int64_t seeds, teacher_epochs, student_epochs;
    const char *start;
} opts;

enum { MAX_ARGS = 40 };

/* One command line under construction; words are borrowed. */
typedef struct line {
    const char *program, *word[MAX_ARGS];
    int n;
} line;

static void add(line *l, const char *word)
{
    if (l->n < MAX_ARGS) {
        l->word[l->n++] = word;
    }
}

static int run_line(line *l, int step, int steps, const char *what, int (*run)(int argc, char **argv), bool quiet)
{
    char *argv[MAX_ARGS + 2];
    if (!quiet) {
        (void)fprintf(stderr, "\n[%d/%d] %s\n  $ %s", step, steps, what, l->program);
        for (int i = 0; i < l->n; i++) {
            const char *quote = strchr(l->word[i], ' ') != NULL ? "'" : "";
            (void)fprintf(stderr, " %s%s%s", quote, KD_SHOWN(l->word[i]), quote);
        }
        (void)fprintf(stderr, "\n");
    }
    for (int i = 0; i < l->n; i++) {
        argv[i] = (char *)(uintptr_t)l->word[i];
    }
    argv[l->n] = NULL;
    /* "kd dataset sample" and the like: the function takes its own verb as argv[0] */
    const int skip = strcmp(l->program, "kd") == 0 ? 1 : 0;
    const int rc = run(l->n - skip, argv + skip);
    if (rc != 0) {
        (void)fprintf(stderr, "kd demo: step %d (%s) ended with exit code %d\n", step, what, rc);
    }
    return rc;
}

typedef struct demo {
    const opts *o;
    const kd_common *c;
    char *teacher_yaml, *student_yaml, *start; /* presets */
    char data[600], teacher[600], last[640], store[600], report[600], threads[24];
    char run[16][640], seed[16][24], teacher_epochs[24], student_epochs[24];
    int step, steps;
} demo;

static kd_status prepare(demo *d, kd_err *err)
{
    const char *out = d->c->out;
    if (strlen(out) > 500) {
        return KD_FAIL(err, KD_E_ARG, "--out: path longer than 500 bytes");
    }
    (void)snprintf(d->data, sizeof d->data, "%s/sample", out);
    (void)snprintf(d->teacher, sizeof d->teacher, "%s/teacher", out);
    (void)snprintf(d->last, sizeof d->last, "%s/teacher/checkpoints/last", out);
    (void)snprintf(d->store, sizeof d->store, "%s/teacher.logits.zst", out);
    (void)snprintf(d->report, sizeof d->report, "%s/report", out);
    (void)snprintf(d->threads, sizeof d->threads, "%lld", (long long)d->c->threads);
    (void)snprintf(d->teacher_epochs, sizeof d->teacher_epochs, "%lld", (long long)d->o->teacher_epochs);
    (void)snprintf(d->student_epochs, sizeof d->student_epochs, "%lld", (long long)d->o->student_epochs);
    KD_TRY(kd_preset_path("demo/teacher.yaml", &d->teacher_yaml, err));
    KD_TRY(kd_preset_path("demo/student.yaml", &d->student_yaml, err));
    return d->o->start != NULL ? KD_OK : kd_preset_path("teacher/tiny_pretrained.safetensors", &d->start, err);
}

static void demo_free(demo *d)
{
    kd_free(d->teacher_yaml);
    kd_free(d->student_yaml);
    kd_free(d->start);
    kd_free(d);
}

static void add_common(const demo *d, line *l)
{
    add(l, "--threads");
    add(l, d->threads);
    if (d->c->json) {
        add(l, "--json");
    }
    if (d->c->quiet) {
        add(l, "--quiet");
    }
}

static int make_data(demo *d)
{
    line l = {.program = "kd"};
    add(&l, "dataset");
    add(&l, "sample");
    add(&l, "--out");
    add(&l, d->data);
    add(&l, "--resume");
    add_common(d, &l);
    return run_line(&l, ++d->step, d->steps, "make the sample data set: 12 actions, 10 people, 3 cameras",
                    kd_cmd_dataset_sample, d->c->quiet);
}

static int make_teacher(demo *d)
{
    line l = {.program = "teacher"};
    add(&l, "finetune");
    add(&l, "--config");
    add(&l, d->teacher_yaml);
    add(&l, "--weights");
    add(&l, d->start != NULL ? d->start : d->o->start);
    add(&l, "--data");
    add(&l, d->data);
    add(&l, "--out");
    add(&l, d->teacher);
    add(&l, "--epochs");
    add(&l, d->teacher_epochs);
    add(&l, "--resume");
    add_common(d, &l);
    int rc = run_line(&l, ++d->step, d->steps, "fine-tune the video teacher from weights that saw other people",
                      kd_cmd_finetune, d->c->quiet);
    if (rc != 0) {
        return rc;
    }
    l = (line){.program = "teacher"};
    add(&l, "dump-logits");
    add(&l, "--weights");
    add(&l, d->last);
    add(&l, "--data");
    add(&l, d->data);
    add(&l, "--split");
    add(&l, "train");
    add(&l, "--features");
    add(&l, "fc_norm");
    add(&l, "--out");
    add(&l, d->store);
    add(&l, "--resume");
    add_common(d, &l);
    return run_line(&l, ++d->step, d->steps, "run the teacher once, keep its logits", kd_cmd_teacher_dump_logits,
                    d->c->quiet);
}

static int make_student(demo *d, int i, bool distilled)
{
    line l = {.program = "distill"};
    char what[96];
    (void)snprintf(d->seed[i], sizeof d->seed[i], "%lld", (long long)(i % (int)d->o->seeds));
    (void)snprintf(d->run[i], sizeof d->run[i], "%s/student-%s-%s", d->c->out, distilled ? "kd" : "ce", d->seed[i]);
    (void)snprintf(what, sizeof what, "train the skeleton student, %s, seed %s",
                   distilled ? "cross-entropy and distillation" : "cross-entropy alone", d->seed[i]);
    add(&l, "train");
    add(&l, "--config");
    add(&l, d->student_yaml);
    add(&l, "--data");
    add(&l, d->data);
    if (distilled) {
        add(&l, "--teacher-logits");
        add(&l, d->store);
    }
    add(&l, "--set");
    add(&l, distilled ? "name=last-e3-nano CE+KD" : "name=last-e3-nano CE");
    add(&l, "--seed");
    add(&l, d->seed[i]);
    add(&l, "--epochs");
    add(&l, d->student_epochs);
    add(&l, "--out");
    add(&l, d->run[i]);
    add(&l, "--resume");
    add_common(d, &l);
    return run_line(&l, ++d->step, d->steps, what, kd_cmd_distill_train, d->c->quiet);
}

static int compare(demo *d, int runs)
{
    line l = {.program = "distill"};
    add(&l, "compare");
    add(&l, d->teacher);
    for (int i = 0; i < runs; i++) {
        add(&l, d->run[i]);
    }
    add(&l, "--latency");
    add(&l, "--threads");
    add(&l, d->threads);
    add(&l, "--out");
    add(&l, d->report);
    add(&l, "--force"); /* the report of an interrupted demo is made again */
    if (d->c->quiet) {
        add(&l, "--quiet");
    }
    return run_line(&l, ++d->step, d->steps, "compare teacher and students", kd_cmd_compare, d->c->quiet);
}

static int run_demo(demo *d)
{
    const int seeds = (int)d->o->seeds;
    const double t0 = kd_now();
    int rc = make_data(d);
    rc = rc == 0 ? make_teacher(d) : rc;
    for (int i = 0; i < 2 * seeds && rc == 0; i++) {
        rc = make_student(d, i, i >= seeds);
    }
    rc = rc == 0 ? compare(d, 2 * seeds) : rc;
    if (rc == 0 && !d->c->json) {
        printf("\ndemo finished in %.0f s; synthetic data: these numbers mean nothing outside it\nreport: "
               "%s/report.html\n",
               kd_now() - t0, KD_SHOWN(d->report));
    }
    return rc;
}

int kd_cmd_demo(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_INT(opts, seeds, "seeds", "N", "3", 1, 8, "students of each kind"),
        KD_OPT_INT(opts, teacher_epochs, "teacher-epochs", "N", "4", 2, 1000, "epochs of the teacher"),
        KD_OPT_INT(opts, student_epochs, "student-epochs", "N", "10", 2, 1000, "epochs of each student"),
        KD_OPT_STR(opts, start, "teacher-weights", "PATH", NULL,
                   "weights the teacher starts from (default: a tiny VideoMAE that has seen other people)"),
    };
    static const kd_cmd cmd = {
        .name = "kd demo",
        .about = "The whole path on the sample data set: videos and skeletons, a video teacher, its logits,\n"
                 "skeleton students with and without distillation, the comparison as an HTML page.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = KD_COMMON_OUT | KD_COMMON_THREADS | KD_COMMON_JSON,
        .notes = "Interrupted, the same command goes on where it was.",
        .examples = "kd demo --out demo-out"};
    opts o = {0};
    kd_common c;
    kd_err err = {0};
    const int rc = kd_args_parse(&cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&cmd, "--out DIR is needed");
    }
    demo *d = kd_calloc(1, sizeof *d);
    if (d == NULL) {
        return kd_cmd_end(&cmd, KD_E_OOM, &err);
    }
    d->o = &o;
    d->c = &c;
    d->steps = 4 + 2 * (int)o.seeds;
    const kd_status st = prepare(d, &err);
    const int end = st == KD_OK ? run_demo(d) : kd_cmd_end(&cmd, st, &err);
    demo_free(d);
    return end;
}
