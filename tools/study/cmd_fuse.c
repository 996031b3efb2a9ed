/* `distill fuse`: score fusion of reports. */
#include "distill/study/fuse.h"
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct fuse_args {
    const char *space, *label;
    kd_arg_list fit;
    bool same_samples;
} fuse_args;

static const kd_arg ARGS[] = {
    KD_OPT_CHOICE(fuse_args, space, "space", "logits", "logits|prob",
                  "what is summed: logits (2s-AGCN, CTR-GCN) or softmax probabilities (pyskl)"),
    KD_OPT_STR(fuse_args, label, "label", "TEXT", NULL,
               "name in comparisons (default: the reports' with their weights)"),
    KD_OPT_LIST(fuse_args, fit, "fit", "REPORT",
                "choose the weights on these reports, one for each fused one in their order (repeatable)"),
    KD_OPT_FLAG(fuse_args, same_samples, "same-samples",
                "let --fit have samples that are judged; the report says so, and its figures are flattered"),
};

static const kd_cmd CMD = {
    .name = "distill fuse",
    .operands = "REPORT[:WEIGHT] REPORT[:WEIGHT]...",
    .about = "Fuses the scores of several models about the same samples, joined by id, and writes a report of it.",
    .args = ARGS,
    .arg_count = KD_COUNTOF(ARGS),
    .common = KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_JSON,
    .min_operands = 2,
    .max_operands = KD_FUSE_MAX,
    .notes =
        "REPORT is a report.json or a run directory that holds one; WEIGHT is 1 unless given.  Other classes, halves,\n"
        "data sets or labels are refused, exit code 3; samples that a report lacks are counted and left out.  The\n"
        "four streams of CTR-GCN: joint:0.6 bone:0.6 joint_motion:0.4 bone_motion:0.4, space logits.\n"
        "--fit looks for weights from 0 to 1 in steps of 0.1 with the best top-1, then the least NLL.",
    .examples =
        "distill fuse runs/joint:0.6 runs/bone:0.6 runs/joint_motion:0.4 runs/bone_motion:0.4 --out four.json\n"
        "distill fuse runs/teacher runs/kd-0 --space prob --fit val/teacher.json --fit val/kd-0.json --out both.json",
};

/* "PATH:WEIGHT" where `weighted`, or a path that is there as it stands; *path: kd_free. */
static kd_status read_operand(const char *text, bool weighted, char **path, double *weight, kd_err *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    *weight = 1.0;
    *path = NULL;
    if (colon != NULL && !kd_path_exists(text) && !weighted) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a report without a weight, since --fit chooses the weights", text);
    }
    if (colon != NULL && !kd_path_exists(text)) {
        *weight = strtod(colon + 1, &end);
        if (end == colon + 1 || *end != '\0' || !isfinite(*weight) || *weight < 0.0) {
            return KD_FAIL(err, KD_E_ARG, "%s: expected REPORT:WEIGHT with a weight of 0 or more, found '%s'", text,
                           colon + 1);
        }
        *path = kd_strf("%.*s", (int)(colon - text), text);
    } else {
        *path = kd_strdup(text);
    }
    if (*path != NULL && kd_path_is_dir(*path)) {
        char *inner = kd_path_join(*path, "report.json");
        kd_free(*path);
        *path = inner;
    }
    return *path != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
}

typedef struct fuse_state {
    size_t n;
    char *path[KD_FUSE_MAX], *fit_path[KD_FUSE_MAX];
    double weight[KD_FUSE_MAX];
    kd_report part[KD_FUSE_MAX], fit[KD_FUSE_MAX];
    kd_fusion fusion, fit_fusion;
    kd_metrics metrics, fit_metrics;
    bool judged;
} fuse_state;

static void close_state(fuse_state *s)
{
    kd_fusion_free(&s->fusion);
    kd_fusion_free(&s->fit_fusion);
    kd_metrics_free(&s->metrics);
    kd_metrics_free(&s->fit_metrics);
    for (size_t i = 0; i < KD_FUSE_MAX; i++) {
        kd_report_free(&s->part[i]);
        kd_report_free(&s->fit[i]);
        kd_free(s->path[i]);
        kd_free(s->fit_path[i]);
    }
    kd_free(s);
}

/* The i-th report of --fit is of the model that the i-th fused report is of. */
static kd_status same_model(const kd_report *part, const kd_report *fit, kd_err *err)
{
    if (part->weights_hash == NULL || fit->weights_hash == NULL || strcmp(part->weights_hash, fit->weights_hash) == 0) {
        return KD_OK;
    }
    return KD_FAIL(
        err, KD_E_DATA,
        "--fit %s: expected a report of the weights of %s (%.12s), found one of %.12s; give the reports in the "
        "order of those that are fused",
        fit->path, part->path, part->weights_hash, fit->weights_hash);
}

/* Reports that the weights are chosen on, which must not be those that are judged. */
static kd_status choose_weights(fuse_state *s, const fuse_args *a, kd_err *err)
{
    double one;
    for (size_t i = 0; i < s->n; i++) {
        KD_TRY(read_operand(a->fit.item[i], false, &s->fit_path[i], &one, err));
        KD_TRY(kd_report_read(s->fit_path[i], &s->fit[i], err));
        KD_TRY(same_model(&s->part[i], &s->fit[i], err));
        size_t shared = 0;
        KD_TRY(kd_report_shared(&s->part[0], &s->fit[i], &shared, err));
        if (shared > 0 && !a->same_samples) {
            return KD_FAIL(err, KD_E_DATA,
                           "--fit %s: expected other samples than those that are judged, found %zu of them; give a "
                           "report of another half, or --same-samples",
                           s->fit_path[i], shared);
        }
        s->judged = s->judged || shared > 0;
    }
    KD_TRY(kd_fusion_open(s->fit, s->n, &s->fit_fusion, err));
    return kd_fuse_search(&s->fit_fusion, strcmp(a->space, "prob") == 0, s->weight, &s->fit_metrics, err);
}

/* "joint 0.6 + bone 0.6" */
static void make_label(const fuse_state *s, char *out, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n && at < size; i++) {
        at += (size_t)snprintf(out + at, size - at, "%s%.40s %.3g", i > 0 ? " + " : "", s->part[i].label, s->weight[i]);
    }
}

static kd_status print_fused(const fuse_state *s, const kd_common *c, const fuse_args *a, kd_err *err)
{
    const kd_metrics *m = &s->metrics;
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_f64s(d, "weights", s->weight, s->n);
        kd_json_set_i64(d, "samples", (int64_t)s->fusion.n);
        kd_json_set_i64(d, "left_out", (int64_t)s->fusion.n_left);
        kd_json_set_rounded(d, "top1", m->top1, 6);
        kd_json_set_rounded(d, "nll", m->nll, 6);
        kd_json_set_rounded(d, "ece", m->ece, 6);
        return kd_print_json(d, err);
    }
    for (size_t i = 0; i < s->n; i++) {
        (void)printf("%-40s weight %-5.3g top-1 %.2f %%\n", KD_SHOWN(s->path[i]), s->weight[i],
                     100.0 * s->part[i].metrics.top1);
    }
    if (a->fit.count > 0) {
        (void)printf("weights chosen on %zu samples: top-1 %.2f %% there%s\n", s->fit_fusion.n,
                     100.0 * s->fit_metrics.top1, s->judged ? "; they are among the judged ones" : "");
    }
    (void)printf("fused %-34s              top-1 %.2f %%  NLL %.4f  ECE %.4f\n", a->space, 100.0 * m->top1, m->nll,
                 m->ece);
    (void)printf("%zu samples that all %zu reports have, %zu others left out\nreport %s\n", s->fusion.n, s->n,
                 s->fusion.n_left, KD_SHOWN(c->out));
    return KD_OK;
}

static kd_status check_out(const fuse_state *s, const kd_common *c, kd_err *err)
{
    kd_out *out = kd_calloc(1, sizeof *out);
    if (out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    }
    out->force = c->force;
    for (size_t i = 0; i < s->n; i++) {
        kd_out_reads(out, s->path[i]);
    }
    const kd_status st = kd_out_file(out, c->out, err);
    kd_free(out);
    return st;
}

static kd_status fuse(const fuse_args *a, const kd_common *c, const kd_operands *in, kd_err *err)
{
    char label[KD_FUSE_MAX * 64];
    double all = 0.0;
    fuse_state *s = kd_calloc(1, sizeof *s);
    kd_status st = s != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "fuse: out of memory");
    if (st != KD_OK) {
        return st;
    }
    s->n = (size_t)in->count;
    for (size_t i = 0; i < s->n; i++) {
        KD_GO(read_operand(in->item[i], a->fit.count == 0, &s->path[i], &s->weight[i], err));
        all += s->weight[i];
    }
    if (all <= 0.0) {
        st = KD_FAIL(err, KD_E_ARG, "weights: expected one above 0, found none");
        goto done;
    }
    KD_GO(check_out(s, c, err));
    for (size_t i = 0; i < s->n; i++) {
        KD_GO(kd_report_read(s->path[i], &s->part[i], err));
    }
    KD_GO(a->fit.count > 0 ? choose_weights(s, a, err) : KD_OK);
    KD_GO(kd_fusion_open(s->part, s->n, &s->fusion, err));
    make_label(s, label, sizeof label);
    const kd_fuse_opts o = {.prob = strcmp(a->space, "prob") == 0,
                            .label = a->label != NULL ? a->label : label,
                            .command = c->typed,
                            .judged = s->judged};
    KD_GO(kd_fuse_write(&s->fusion, s->weight, &o, c->out, &s->metrics, err));
    st = print_fused(s, c, a, err);
done:
    close_state(s);
    return st;
}

int kd_cmd_distill_fuse(int argc, char **argv)
{
    fuse_args a;
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&CMD, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&CMD, "--out FILE.json is needed: the report");
    }
    if (a.fit.count > 0 && a.fit.count != in.count) {
        return kd_usage(&CMD, "--fit: expected one report for each of the %d fused ones, got %d", in.count,
                        a.fit.count);
    }
    if (a.same_samples && a.fit.count == 0) {
        return kd_usage(&CMD, "--same-samples does nothing without --fit");
    }
    return kd_cmd_end(&CMD, fuse(&a, &c, &in, &err), &err);
}
