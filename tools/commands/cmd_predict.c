/* `teacher predict`: top-k classes of single videos; of a list of ids as a submission. */
#include "distill/eval/submit.h"
#include "formats/base/io.h"
#include "formats/base/merge.h"
#include "formats/weights/weights.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <math.h>
#include <stdio.h>

typedef struct opts {
    const char *weights, *submission, *ids;
    int64_t top;
} opts;

enum {
    COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_COMPUTE | KD_COMMON_JSON,
    SUBMISSION = COMMON | KD_COMMON_DATA | KD_COMMON_WORKERS | KD_COMMON_BATCH_SIZE | KD_COMMON_FORCE
};

/* Class names that travel with a checkpoint; else A001... */
typedef struct names {
    kd_weights *w;
    const kd_json *list;
} names;

enum { NAME_BYTES = 32 };

/* buf [NAME_BYTES] holds a made name. */
static const char *class_name(const names *n, int label, char *buf)
{
    const char *name = NULL;
    if (kd_json_as_str(kd_json_at(n->list, (size_t)label), &name, NULL) == KD_OK) {
        return name;
    }
    (void)snprintf(buf, NAME_BYTES, "class %d", label);
    return buf;
}

typedef struct predictor {
    kd_session s;
    kd_model model;
    kd_program *program;
    names names;
    void *input[KD_MODEL_INPUTS]; /* [views] of the model's items */
    float *logits, *prob;
    double *work;
    int views;
} predictor;

static void predictor_close(predictor *p)
{
    kd_program_free(p->program);
    kd_model_close(&p->model);
    kd_weights_close(p->names.w);
    for (int i = 0; i < KD_MODEL_INPUTS; i++) {
        kd_free(p->input[i]);
    }
    kd_free(p->logits);
    kd_free(p->prob);
    kd_free(p->work);
    kd_session_close(&p->s);
}

static kd_status predictor_open(predictor *p, const opts *o, const kd_common *c, kd_err *err)
{
    kd_sets sets = {0};
    kd_load_report load = {0};
    int classes = 0;
    char protocol[24];
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "eval", &sets, err));
    KD_GO(kd_session_open(c, "teacher", o->weights, KD_WEIGHTS_MODEL, &sets, &p->s, err));
    KD_GO(kd_model_classes(p->s.task, p->s.cfg, o->weights, &p->names.w, &p->names.list, &classes, err));
    KD_GO(kd_model_open(p->s.task, p->s.cfg, classes, p->s.be, &p->model, err));
    KD_GO(kd_model_declare(&p->model, NULL, err));
    KD_GO(kd_model_load(&p->model, o->weights, "", false, NULL, &load, err));
    KD_GO(kd_model_eval_program(&p->model, 1, &p->program, err));
    p->views = p->s.task->views(p->s.cfg, protocol);
    p->logits = kd_calloc((size_t)p->views * (size_t)classes, sizeof *p->logits);
    p->prob = kd_calloc((size_t)classes, sizeof *p->prob);
    p->work = kd_calloc(2 * (size_t)classes, sizeof *p->work);
    st = p->logits != NULL && p->prob != NULL && p->work != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
    for (int i = 0; i < p->model.n_inputs && st == KD_OK; i++) {
        p->input[i] = kd_calloc((size_t)p->views, kd_spec_bytes(&p->model.item[i]));
        st = p->input[i] != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
    }
done:
    kd_load_report_free(&load);
    kd_sets_free(&sets);
    return st;
}

static kd_status forward(predictor *p, int view, float *logits, kd_err *err)
{
    for (int i = 0; i < p->model.n_inputs; i++) {
        const size_t n = kd_spec_bytes(&p->model.item[i]);
        KD_TRY(kd_program_write(p->program, p->model.inputs[i], (char *)p->input[i] + (size_t)view * n, n));
    }
    const kd_status st = kd_program_run(p->program, NULL);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "forward pass failed in %s", kd_program_where(p->program));
    }
    return kd_program_read_f32(p->program, "logits", logits, p->model.classes);
}

static kd_status print_top(predictor *p, const char *file, const opts *o, double ms, bool json, kd_err *err)
{
    const int k = p->model.classes, top = (int)KD_MIN(o->top > 0 ? o->top : 5, (int64_t)k);
    kd_ranked *ranked = kd_calloc((size_t)top, sizeof *ranked);
    char *name = kd_calloc((size_t)top, NAME_BYTES);
    kd_status st = ranked != NULL && name != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
    for (int j = 0; j < k; j++) {
        p->work[j] = (double)p->prob[j];
    }
    kd_probabilities(p->work, (size_t)k, 1.0);
    for (int r = 0; r < top && st == KD_OK; r++) {
        int best = 0;
        for (int j = 1; j < k; j++) {
            best = p->prob[j] > p->prob[best] ? j : best;
        }
        ranked[r] = (kd_ranked){best, class_name(&p->names, best, name + (size_t)r * NAME_BYTES), p->work[best]};
        p->prob[best] = -INFINITY;
    }
    const kd_prediction result = {.file = file, .ms = ms, .ranked = ranked, .n = top};
    st = st == KD_OK ? kd_print_prediction(&result, json, err) : st;
    kd_free(ranked);
    kd_free(name);
    return st;
}

static kd_status predict(predictor *p, const char *file, const opts *o, bool json, kd_err *err)
{
    double spent = 0.0;
    KD_TRY(p->s.task->read(p->s.cfg, &p->model, file, p->input, err));
    for (int v = 0; v < p->views; v++) {
        const double t0 = kd_now();
        KD_TRY(forward(p, v, p->logits + (size_t)v * (size_t)p->model.classes, err));
        spent += kd_now() - t0;
    }
    const float *const out[] = {p->logits};
    p->s.task->gather(&p->model, p->s.cfg, out, p->views, p->work, p->prob);
    for (int i = 0; i < p->model.classes; i++) {
        if (!isfinite(p->prob[i])) {
            return KD_FAIL(err, KD_E_NUMERIC, "%s: expected finite logits, the model gave %g for class %d", file,
                           (double)p->prob[i], i);
        }
    }
    return print_top(p, file, o, 1e3 * spent, json, err);
}

static kd_status submit(const opts *o, const kd_common *c, kd_submit_result *r, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_out out;
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "eval", &sets, err));
    KD_GO(kd_session_open(c, "teacher", o->weights, KD_WEIGHTS_MODEL, &sets, &s, err));
    kd_session_out(&s, c, o->weights, &out);
    kd_out_reads(&out, o->ids);
    KD_GO(kd_out_file(&out, o->submission, err));
    const kd_submit_opts so = {.task = s.task,
                               .cfg = s.cfg,
                               .weights = o->weights,
                               .ids = o->ids,
                               .out = o->submission,
                               .be = s.be,
                               .progress = &s.progress};
    st = kd_submit(&so, r, err);
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

static int run_submission(const kd_cmd *cmd, const opts *o, const kd_common *c)
{
    kd_err err = {0};
    kd_submit_result r;
    kd_status st = submit(o, c, &r, &err);
    if (st == KD_OK && c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_str(d, "submission", o->submission);
        kd_json_set_i64(d, "listed", (int64_t)r.listed);
        kd_json_set_i64(d, "done", (int64_t)r.done);
        kd_json_set_i64(d, "failed", (int64_t)r.failed);
        st = kd_print_json(d, &err);
    } else if (st == KD_OK) {
        printf("%zu ids listed: %zu rows written, %zu failed and without a row; submission %s\n", r.listed, r.done,
               r.failed, KD_SHOWN(o->submission));
    }
    return kd_cmd_end(cmd, st, &err);
}

/* NULL: the options fit. */
static const char *misused(const opts *o, const kd_common *c, const kd_operands *in)
{
    enum { SUBMISSION_ONLY = SUBMISSION & ~COMMON };
    if (o->weights == NULL) {
        return "--weights PATH is needed";
    }
    if (o->submission == NULL) {
        return o->ids != NULL || (c->given & SUBMISSION_ONLY) != 0
                   ? "--ids, --data, --workers, --batch-size and --force belong to --submission"
               : in->count == 0 ? "expected a file to classify, or --submission and --ids"
                                : NULL;
    }
    return o->ids == NULL   ? "--submission needs --ids"
           : o->top > 0     ? "--top: a submission holds the first class alone"
           : in->count != 0 ? "--submission takes its videos from --ids, not from the command line"
                            : NULL;
}

int kd_cmd_teacher_predict(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_STR(opts, weights, "weights", "PATH", NULL,
                   "run directory (its best checkpoint), checkpoint, safetensors or .pth; needed"),
        KD_OPT_INT(opts, top, "top", "K", "0", 0, 1000, "classes to print; 0: 5"),
        KD_OPT_STR(opts, submission, "submission", "FILE", NULL,
                   "classes of the videos of --ids as a CSV `id,class`, sorted by id"),
        KD_OPT_STR(opts, ids, "ids", "LIST", NULL,
                   "ids or paths below --data, one a line, without labels; or a folder of videos or of folders of "
                   "pictures"),
    };
    static const kd_cmd cmd = {.name = "teacher predict",
                               .operands = "VIDEO...",
                               .about = "Top-k classes of videos, all views of the recipe averaged; or, with "
                                        "--submission, the class of each of a list.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .common = SUBMISSION,
                               .min_operands = 0,
                               .max_operands = -1};
    opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&cmd, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const char *wrong = misused(&o, &c, &in);
    if (wrong != NULL) {
        return kd_usage(&cmd, "%s", wrong);
    }
    if (o.submission != NULL) {
        return run_submission(&cmd, &o, &c);
    }
    predictor p = {0};
    kd_status st = predictor_open(&p, &o, &c, &err);
    if (st == KD_OK) {
        st = kd_program_run(p.program, NULL); /* warm-up, so that the first file's time is a forward pass */
    }
    for (int i = 0; i < in.count && st == KD_OK; i++) {
        st = kd_interrupted() ? KD_FAIL(&err, KD_E_CANCELLED, "interrupted: %d of %d files done", i, in.count)
                              : predict(&p, in.item[i], &o, c.json, &err);
    }
    predictor_close(&p);
    return kd_cmd_end(&cmd, st, &err);
}
