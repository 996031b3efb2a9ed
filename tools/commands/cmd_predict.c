/* `teacher predict` and `distill predict`: top-k classes of single files. */
#include "formats/base/io.h"
#include "formats/base/merge.h"
#include "formats/weights/weights.h"
#include "tools/commands/commands.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <math.h>
#include <stdio.h>

typedef struct opts {
    const char *weights;
    int64_t top;
} opts;

enum { COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_COMPUTE | KD_COMMON_JSON };

/* Class names that travel with a checkpoint; else A001... */
typedef struct names {
    kd_weights *w;
    const kd_json *list;
    char buf[32];
} names;

static const char *class_name(names *n, int label)
{
    const char *name = NULL;
    if (kd_json_as_str(kd_json_at(n->list, (size_t)label), &name, NULL) == KD_OK) {
        return name;
    }
    (void)snprintf(n->buf, sizeof n->buf, "class %d", label);
    return n->buf;
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

static kd_status class_count(predictor *p, const char *weights, int *classes, kd_err *err)
{
    const kd_task *task = p->s.task;
    KD_TRY(kd_weights_open(weights, task->names, &p->names.w, err));
    p->names.list = kd_json_get(kd_weights_meta(p->names.w), "classes");
    for (size_t i = 0; i < kd_weights_count(p->names.w); i++) {
        const kd_weight *t = kd_weights_at(p->names.w, i);
        if (kd_path_has_suffix(t->name, ".bias") && task->is_head(t->name)) {
            *classes = (int)t->count;
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_DATA, "%s: has no classifier tensor (head, fc or classifier)", weights);
}

static kd_status predictor_open(predictor *p, const opts *o, const kd_common *c, const char *program, kd_err *err)
{
    kd_sets sets = {0};
    kd_load_report load;
    int classes = 0;
    char protocol[24];
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "eval", &sets, err));
    KD_GO(kd_session_open(c, program, o->weights, KD_WEIGHTS_MODEL, &sets, &p->s, err));
    KD_GO(class_count(p, o->weights, &classes, err));
    KD_GO(kd_model_open(p->s.task, p->s.cfg, classes, p->s.be, &p->model, err));
    KD_GO(kd_model_declare(&p->model, NULL, err));
    KD_GO(kd_model_load(&p->model, o->weights, false, NULL, &load, err));
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

static void print_top(predictor *p, const char *file, const opts *o, double ms, bool json)
{
    const int k = p->model.classes, top = (int)KD_MIN(o->top, (int64_t)k);
    for (int j = 0; j < k; j++) {
        p->work[j] = (double)p->prob[j];
    }
    kd_probabilities(p->work, (size_t)k, 1.0);
    kd_json *doc = json ? kd_json_object() : NULL, *list = NULL;
    if (json) {
        kd_json_set_str(doc, "file", file);
        kd_json_set_f64(doc, "latency_ms", ms);
        list = kd_json_set_array(doc, "top");
    } else {
        printf("%s  (%.2f ms)\n", KD_SHOWN(file), ms);
    }
    for (int r = 0; r < top; r++) {
        int best = 0;
        for (int j = 1; j < k; j++) {
            best = p->prob[j] > p->prob[best] ? j : best;
        }
        const double prob = p->work[best];
        if (json) {
            kd_json *item = kd_json_push_object(list);
            kd_json_set_i64(item, "class", best);
            kd_json_set_str(item, "name", class_name(&p->names, best));
            kd_json_set_f64(item, "probability", prob);
        } else {
            printf("  %2d. %-32s %6.2f %%\n", r + 1, KD_SHOWN(class_name(&p->names, best)), 100.0 * prob);
        }
        p->prob[best] = -INFINITY;
    }
    char *text = NULL;
    if (json && kd_json_dump(doc, KD_JSON_COMPACT, &text, NULL, NULL) == KD_OK) {
        printf("%s\n", text);
    }
    kd_free(text);
    kd_json_free(doc);
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
    print_top(p, file, o, 1e3 * spent, json);
    return KD_OK;
}

static int run(const kd_cmd *cmd, const char *program, int argc, char **argv)
{
    opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (o.weights == NULL) {
        return kd_usage(cmd, "--weights PATH is needed");
    }
    predictor p = {0};
    kd_status st = predictor_open(&p, &o, &c, program, &err);
    if (st == KD_OK) {
        st = kd_program_run(p.program, NULL); /* warm-up, so that the first file's time is a forward pass */
    }
    for (int i = 0; i < in.count && st == KD_OK; i++) {
        st = kd_interrupted() ? KD_FAIL(&err, KD_E_CANCELLED, "interrupted: %d of %d files done", i, in.count)
                              : predict(&p, in.item[i], &o, c.json, &err);
    }
    predictor_close(&p);
    return kd_cmd_end(cmd, st, &err);
}

#define PREDICT_ARGS                                                                            \
    KD_OPT_STR(opts, weights, "weights", "PATH", NULL,                                          \
               "run directory (its best checkpoint), checkpoint, safetensors or .pth; needed"), \
        KD_OPT_INT(opts, top, "top", "K", "5", 1, 1000, "classes to print")

int kd_cmd_teacher_predict(int argc, char **argv)
{
    static const kd_arg args[] = {PREDICT_ARGS};
    static const kd_cmd cmd = {.name = "teacher predict",
                               .operands = "VIDEO...",
                               .about = "Top-k classes of videos, all views of the recipe averaged.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .common = COMMON,
                               .min_operands = 1,
                               .max_operands = -1};
    return run(&cmd, "teacher", argc, argv);
}

int kd_cmd_distill_predict(int argc, char **argv)
{
    static const kd_arg args[] = {PREDICT_ARGS};
    static const kd_cmd cmd = {.name = "distill predict",
                               .operands = "FILE.skeleton...",
                               .about = "Top-k classes of skeleton sequences, with the latency of the forward pass.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .common = COMMON,
                               .min_operands = 1,
                               .max_operands = -1};
    return run(&cmd, "distill", argc, argv);
}
