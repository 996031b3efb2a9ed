/* distill compare: the teacher-versus-student report. */
#include "distill/report/compare.h"
#include "distill/report/text.h"
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/commands/compare_latency.h"
#include "tools/process/out.h"

#include <stdio.h>

typedef struct compare_args {
    int64_t draws;
    double confidence;
    bool latency, any_teacher;
} compare_args;

static const kd_arg ARGS[] = {
    KD_OPT_INT(compare_args, draws, "bootstrap", "N", "2000", 100, 1000000, "draws behind every interval"),
    KD_OPT_REAL(compare_args, confidence, "confidence", "P", "0.95", 0.5, 0.999, "of the intervals"),
    KD_OPT_FLAG(compare_args, latency, "latency",
                "measure all models by turns, here and now (their recipes are in the reports)"),
    KD_OPT_FLAG(compare_args, any_teacher, "any-teacher",
                "compare students, too, that other teacher weights have taught; said in the report"),
};

static const kd_cmd CMD = {
    .name = "distill compare",
    .operands = "TEACHER.json STUDENT.json...",
    .about = "Compares a teacher's report with its students' on the same samples: accuracy with intervals by clip\n"
             "and by person, classes, agreement, errors, learning curves, calibration, size and speed, as\n"
             "report.html (one file, no network), report.md, report.json and report.csv.",
    .args = ARGS,
    .arg_count = KD_COUNTOF(ARGS),
    .common = KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_SEED | KD_COMMON_JSON | KD_COMMON_COMPUTE,
    .min_operands = 2,
    .max_operands = 1023,
    .notes =
        "Reports are report.json files or run directories that hold one.  Students with the same label are seeds of\n"
        "one recipe and are averaged; with fewer than three seeds a side there are figures but no verdict.  The first\n"
        "student is the baseline of the others: give the one without distillation first.  Unlike protocols (data\n"
        "set, split, classes, samples, labels) are refused, exit code 3; so are students that were taught by other\n"
        "weights than those reported (--any-teacher), exit code 4.  Learning curves come from the log.jsonl beside a\n"
        "report.  --device, --dtype and --threads are for --latency.  --out DIR is where the four files go (compare\n"
        "without it).",
    .examples = "distill compare runs/teacher runs/ce-0 runs/ce-1 runs/ce-2 runs/kd-0 runs/kd-1 runs/kd-2 --latency "
                "--out report",
};

static kd_status read_one(const char *path, kd_report *r, kd_err *err)
{
    if (!kd_path_is_dir(path)) {
        return kd_report_read(path, r, err);
    }
    char *inner = kd_path_join(path, "report.json");
    const kd_status st =
        inner != NULL ? kd_report_read(inner, r, err) : KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    kd_free(inner);
    return st;
}

static const struct {
    const char *name;
    kd_status (*write)(const kd_comparison *c, const char *path, kd_err *err);
} FILES[] = {{"report.json", kd_compare_write_json},
             {"report.md", kd_compare_write_markdown},
             {"report.csv", kd_compare_write_csv},
             {"report.html", kd_compare_write_html}};

/* The four files may be written, and none of them is a report that is read. */
static kd_status check_out(const kd_common *c, const kd_operands *in, const char *dir, kd_err *err)
{
    const char *names[KD_COUNTOF(FILES)];
    kd_status st = KD_OK;
    char **inner = kd_calloc((size_t)in->count, sizeof *inner);
    kd_out *out = kd_calloc(1, sizeof *out);
    if (inner == NULL || out == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    out->force = c->force;
    for (int i = 0; i < in->count; i++) {
        inner[i] = kd_path_is_dir(in->item[i]) ? kd_path_join(in->item[i], "report.json") : kd_strdup(in->item[i]);
        kd_out_reads(out, inner[i]);
    }
    for (size_t i = 0; i < KD_COUNTOF(FILES); i++) {
        names[i] = FILES[i].name;
    }
    st = kd_out_dir(out, dir, names, KD_COUNTOF(FILES), err);
done:
    for (int i = 0; inner != NULL && i < in->count; i++) {
        kd_free(inner[i]);
    }
    kd_free(inner);
    kd_free(out);
    return st;
}

static kd_status write_files(const kd_comparison *c, const char *dir, kd_err *err)
{
    KD_TRY(kd_io_mkdirs(dir, err));
    for (size_t i = 0; i < KD_COUNTOF(FILES); i++) {
        char *path = kd_path_join(dir, FILES[i].name);
        const kd_status st =
            path != NULL ? FILES[i].write(c, path, err) : KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        kd_free(path);
        KD_TRY(st);
    }
    return KD_OK;
}

/* "(67.1 to 77.2)", as wide as its longest. */
static void print_interval(const kd_interval *v, const char *format)
{
    char text[48];
    (void)snprintf(text, sizeof text, format, 100.0 * v->low, 100.0 * v->high);
    (void)printf(" %-16s", text);
}

static void print_table(const kd_comparison *c, const char *dir)
{
    const bool people = kd_compare_by_person(c);
    (void)printf("%-34s %5s  %-14s %-16s %-16s %s\n", "", "seeds", "top-1, %", "by clip", people ? "by person" : "",
                 "to the first student, by clip");
    for (size_t i = 0; i < c->n_groups; i++) {
        const kd_group *g = &c->group[i];
        char figure[48];
        (void)snprintf(figure, sizeof figure, g->n_runs > 1 ? "%.1f +- %.1f" : "%.1f",
                       100.0 * g->figure[KD_FIG_TOP1].mean, 100.0 * g->figure[KD_FIG_TOP1].sd);
        (void)printf("%-34.34s %5zu  %-14s", KD_SHOWN(g->label), g->n_seeds, figure);
        print_interval(&g->top1, "%.1f to %.1f");
        print_interval(&g->top1_person, people ? "%.1f to %.1f" : "");
        if (i > 1) {
            (void)printf(" %+.1f (%+.1f to %+.1f)", 100.0 * g->to_baseline.mean, 100.0 * g->to_baseline.low,
                         100.0 * g->to_baseline.high);
        }
        (void)putchar('\n');
    }
    for (size_t i = 0; i < c->n_groups && c->latency.measured; i++) {
        const kd_latency *l = &c->group[i].latency;
        (void)printf("%-34.34s one view in %.3g ms (99 %% below %.3g ms)\n", KD_SHOWN(c->group[i].label), l->ms,
                     l->p99_ms);
    }
    char *verdict = kd_compare_verdict(c);
    (void)printf("\n%s\n\n%s/report.html\n", KD_SHOWN(verdict != NULL ? verdict : ""), KD_SHOWN(dir));
    kd_free(verdict);
}

/* The command line as it was typed, quoted where a shell needs it. */
static char *command_line(int argc, char *const *argv)
{
    kd_text t;
    memset(&t, 0, sizeof t);
    kd_text_add(&t, "distill");
    for (int i = 0; i < argc; i++) {
        const bool plain = argv[i][0] != '\0' && strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                 "0123456789-_./=,:+@%") == strlen(argv[i]);
        kd_text_add(&t, plain ? " " : " '");
        for (const char *p = argv[i]; *p != '\0'; p++) {
            const char one[2] = {*p, '\0'};
            kd_text_add(&t, *p == '\'' ? "'\\''" : one);
        }
        kd_text_add(&t, plain ? "" : "'");
    }
    if (t.failed) {
        kd_text_free(&t);
    }
    return t.data;
}

static kd_status compare(const kd_common *common, const compare_args *a, const kd_operands *in, const char *command,
                         kd_err *err)
{
    const size_t n = (size_t)in->count;
    kd_report *report = kd_calloc(n, sizeof *report);
    const kd_report **list = kd_calloc(n, sizeof *list);
    kd_comparison *c = kd_calloc(1, sizeof *c);
    const char *dir = common->out != NULL ? common->out : "compare";
    kd_status st = KD_OK;
    if (report == NULL || list == NULL || c == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        goto done;
    }
    KD_GO(check_out(common, in, dir, err));
    for (size_t i = 0; i < n; i++) {
        KD_GO(read_one(in->item[i], &report[i], err));
        list[i] = &report[i];
    }
    const kd_compare_opts opts = {(int)a->draws, a->confidence, (uint64_t)common->seed, command, a->any_teacher};
    KD_GO(kd_compare(list, n, &opts, c, err));
    KD_GO(kd_compare_curves(c, err));
    if (a->latency) {
        const kd_device_opts device = kd_device_from(common);
        KD_GO(kd_compare_latency(c, &device, err));
    }
    KD_GO(write_files(c, dir, err));
    if (common->json) {
        char *path = kd_path_join(dir, "report.json");
        kd_json *doc = NULL;
        char *text = NULL;
        st = path != NULL ? kd_json_load(path, &doc, err) : KD_E_OOM;
        if (st == KD_OK) {
            st = kd_json_dump(doc, KD_JSON_PRETTY, &text, NULL, err);
        }
        if (st == KD_OK) {
            (void)fputs(text, stdout);
        }
        kd_free(text);
        kd_json_free(doc);
        kd_free(path);
    } else {
        print_table(c, dir);
        for (size_t i = 0; i < c->n_warnings; i++) {
            kd_log(KD_LOG_WARN, "%s", c->warning[i]);
        }
    }
done:
    for (size_t i = 0; report != NULL && i < n; i++) {
        kd_report_free(&report[i]);
    }
    if (c != NULL) {
        kd_comparison_free(c);
    }
    kd_free(c);
    kd_free((void *)list);
    kd_free(report);
    return st;
}

int kd_cmd_compare(int argc, char **argv)
{
    compare_args a;
    kd_common common;
    kd_operands in;
    char *command = command_line(argc, argv); /* before options are taken out of argv */
    int rc = kd_args_parse(&CMD, argc, argv, &a, &common, &in);
    if (rc == KD_ARGS_RUN) {
        kd_err err = {0};
        rc = kd_cmd_end(&CMD, compare(&common, &a, &in, command, &err), &err);
    }
    kd_free(command);
    return rc;
}
