/* `kd demo`: the whole path on the sample data set.  Every step is the command a user would type, printed first and
 * then run through the same function as from the shell; the recipes are written out, to be read and changed. */
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/progress.h"

#include <stdio.h>

typedef struct opts {
    int64_t seeds, teacher_epochs, student_epochs;
    const char *start;
} opts;

/* Where the weights that the teacher starts from lie: in the source tree, unless --teacher-weights names others. */
#define START KD_PRESETS "/teacher/tiny_pretrained.safetensors"

/* The teacher sees 8 frames of 96x96; cross-subject split of the sample data (people 1 2 4 5 8 9 train). */
static const char TEACHER[] = "# kd demo: a tiny VideoMAE that has seen the twelve actions done by other people in "
                              "other rooms (configs/teacher/tiny_pretrained.md)\n"
                              "name: tiny VideoMAE teacher\n"
                              "kind: teacher\n"
                              "data:\n"
                              "  split: {by: subject, train: [1, 2, 4, 5, 8, 9]}\n"
                              "teacher:\n"
                              "  variant: tiny\n"
                              "  img_size: 96\n"
                              "  patch: 16\n"
                              "  drop_path: 0\n"
                              "video:\n"
                              "  sampler: uniform_linspace\n"
                              "  spatial: short_side_crop\n"
                              "  train_short_side: 104\n"
                              "  flip_prob: 0\n"
                              "optim:\n"
                              "  name: adamw\n"
                              "  base_lr: 3e-4\n"
                              "  betas: [0.9, 0.98]\n"
                              "  weight_decay: 0.05\n"
                              "  clip_grad: 1\n"
                              "  warmup_epochs: 1\n"
                              "  min_lr: 1e-5\n"
                              "train:\n"
                              "  batch_size: 16\n"
                              "  eval_every: 2\n"
                              "eval:\n"
                              "  clips: 1\n"
                              "  crops: 1\n";

static const char STUDENT[] = "# kd demo: LAST-E v3 nano; the same recipe with and without the teacher\n"
                              "kind: student\n"
                              "data:\n"
                              "  split: {by: subject, train: [1, 2, 4, 5, 8, 9]}\n"
                              "student:\n"
                              "  name: last-e3-nano\n"
                              "skeleton:\n"
                              "  resample: linear\n"
                              "  normalize: center_spine\n"
                              "  frames: 32\n"
                              "  max_bodies: 1\n"
                              "skeleton_aug:\n"
                              "  rotate_deg: 15\n"
                              "  scale: [0.9, 1.1]\n"
                              "  shear: 0\n"
                              "  flip_prob: 0\n"
                              "  time_flip_prob: 0\n"
                              "  speed_prob: 0\n"
                              "  noise_joint: 0\n"
                              "  noise_velocity: 0\n"
                              "  noise_bone: 0\n"
                              "  joint_mask: 0\n"
                              "mixup:\n"
                              "  alpha: 0\n"
                              "optim:\n"
                              "  name: sgd\n"
                              "  base_lr: 0.1\n"
                              "  momentum: 0.9\n"
                              "  nesterov: true\n"
                              "  weight_decay: 1e-4\n"
                              "  clip_grad: 5\n"
                              "  schedule: cosine_epoch\n"
                              "  warmup_epochs: 2\n"
                              "  warmup_start_lr: 0.01\n"
                              "  min_lr: 0\n"
                              "train:\n"
                              "  batch_size: 32\n"
                              "  eval_every: 5\n";

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
        fprintf(stderr, "\n[%d/%d] %s\n  $ %s", step, steps, what, l->program);
        for (int i = 0; i < l->n; i++) {
            const char *quote = strchr(l->word[i], ' ') != NULL ? "'" : "";
            fprintf(stderr, " %s%s%s", quote, l->word[i], quote);
        }
        fprintf(stderr, "\n");
    }
    for (int i = 0; i < l->n; i++) {
        argv[i] = (char *)(uintptr_t)l->word[i];
    }
    argv[l->n] = NULL;
    /* "kd dataset sample" and the like: the function takes its own verb as argv[0] */
    const int skip = strcmp(l->program, "kd") == 0 ? 1 : 0;
    const int rc = run(l->n - skip, argv + skip);
    if (rc != 0) {
        fprintf(stderr, "kd demo: step %d (%s) ended with exit code %d\n", step, what, rc);
    }
    return rc;
}

typedef struct demo {
    const opts *o;
    const kd_common *c;
    char data[600], teacher_yaml[600], student_yaml[600], teacher[600], last[640], store[600], report[600], threads[24];
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
    (void)snprintf(d->teacher_yaml, sizeof d->teacher_yaml, "%s/recipes/teacher.yaml", out);
    (void)snprintf(d->student_yaml, sizeof d->student_yaml, "%s/recipes/student.yaml", out);
    (void)snprintf(d->teacher, sizeof d->teacher, "%s/teacher", out);
    (void)snprintf(d->last, sizeof d->last, "%s/teacher/checkpoints/last", out);
    (void)snprintf(d->store, sizeof d->store, "%s/teacher.logits.zst", out);
    (void)snprintf(d->report, sizeof d->report, "%s/report", out);
    (void)snprintf(d->threads, sizeof d->threads, "%lld", (long long)d->c->threads);
    (void)snprintf(d->teacher_epochs, sizeof d->teacher_epochs, "%lld", (long long)d->o->teacher_epochs);
    (void)snprintf(d->student_epochs, sizeof d->student_epochs, "%lld", (long long)d->o->student_epochs);
    char *dir = kd_path_join(out, "recipes");
    kd_status st = dir != NULL ? kd_io_mkdirs(dir, err) : KD_E_OOM;
    kd_free(dir);
    KD_TRY(st);
    KD_TRY(kd_io_write_file(d->teacher_yaml, TEACHER, sizeof TEACHER - 1, err));
    return kd_io_write_file(d->student_yaml, STUDENT, sizeof STUDENT - 1, err);
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
                    cmd_dataset_sample, d->c->quiet);
}

static int make_teacher(demo *d)
{
    line l = {.program = "teacher"};
    add(&l, "finetune");
    add(&l, "--config");
    add(&l, d->teacher_yaml);
    add(&l, "--weights");
    add(&l, d->o->start);
    add(&l, "--data");
    add(&l, d->data);
    add(&l, "--out");
    add(&l, d->teacher);
    add(&l, "--epochs");
    add(&l, d->teacher_epochs);
    add(&l, "--resume");
    add_common(d, &l);
    int rc = run_line(&l, ++d->step, d->steps, "fine-tune the video teacher from weights that saw other people",
                      cmd_finetune, d->c->quiet);
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
    return run_line(&l, ++d->step, d->steps, "run the teacher once, keep its logits", cmd_dump_logits, d->c->quiet);
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
    return run_line(&l, ++d->step, d->steps, what, cmd_distill_train, d->c->quiet);
}

static int compare(demo *d, int runs)
{
    line l = {.program = "distill"};
    add(&l, "compare");
    add(&l, d->teacher);
    for (int i = 0; i < runs; i++) {
        add(&l, d->run[i]);
    }
    add(&l, "--out");
    add(&l, d->report);
    if (d->c->quiet) {
        add(&l, "--quiet");
    }
    return run_line(&l, ++d->step, d->steps, "compare teacher and students", cmd_compare, d->c->quiet);
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
               kd_now() - t0, d->report);
    }
    return rc;
}

int cmd_demo(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_INT(opts, seeds, "seeds", "N", "3", 1, 8, "students of each kind"),
        KD_OPT_INT(opts, teacher_epochs, "teacher-epochs", "N", "4", 2, 1000, "epochs of the teacher"),
        KD_OPT_INT(opts, student_epochs, "student-epochs", "N", "10", 2, 1000, "epochs of each student"),
        KD_OPT_STR(opts, start, "teacher-weights", "PATH", START, "weights the teacher starts from"),
    };
    static const kd_cmd cmd = {
        .name = "kd demo",
        .about = "The whole path on the sample data set: videos and skeletons, a video teacher, its logits,\n"
                 "skeleton students with and without distillation, the comparison as an HTML page.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = KD_COMMON_OUT | KD_COMMON_THREADS | KD_COMMON_JSON,
        .notes = "Interrupted, the same command goes on where it was.  example: kd demo --out demo-out\n"};
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
    kd_free(d);
    return end;
}
