/* `teacher eval`, `distill eval` and `teacher dump-logits`. */
#include "distill/eval/assess.h"
#include "distill/eval/calibrate.h"
#include "distill/eval/dump.h"
#include "distill/eval/quantize.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <math.h>
#include <stdio.h>

typedef struct opts {
    const char *weights, *views, *split, *features, *label, *logits, *shard, *calibrate;
    bool same_samples, int8;
    int64_t int8_samples;
} opts;

enum {
    COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_COMPUTE | KD_COMMON_WORKERS |
             KD_COMMON_BATCH_SIZE | KD_COMMON_LIMIT | KD_COMMON_FORCE | KD_COMMON_JSON
};

/* "CxR" into eval.clips and eval.crops; "CxRx2" into eval.flips too, which "CxR" leaves as it is. */
static kd_status set_views(kd_sets *sets, const char *views, bool dumps, kd_err *err)
{
    int c = 0, r = 0;
    bool flips = false;
    if (views == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_read_views(views, dumps ? ", or train:N" : "", &c, &r, &flips, err));
    KD_TRY(kd_sets_add_int(sets, "eval.clips", c, err));
    KD_TRY(kd_sets_add_int(sets, "eval.crops", r, err));
    return flips ? kd_sets_add_bool(sets, "eval.flips", true, err) : KD_OK;
}

/* "train:N": N; 0: another text. */
static int replay_of(const char *views)
{
    int n = 0, end = 0;
    const bool replay = views != NULL && sscanf(views, "train:%4d%n", &n, &end) == 1 && views[end] == '\0';
    return replay && n >= 1 && n <= KD_STORE_MAX_VIEWS ? n : 0;
}

static kd_status print_eval(const kd_assess_result *r, const kd_common *c, kd_err *err)
{
    const kd_figures *f = &r->figures;
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        for (int i = 0; i < f->n; i++) {
            kd_json_set_rounded(d, f->figure[i].name, f->figure[i].value, 6);
        }
        kd_json_set_i64(d, "listed", (int64_t)r->listed);
        kd_json_set_i64(d, "done", (int64_t)r->done);
        kd_json_set_i64(d, "failed", (int64_t)r->failed);
        kd_json_set_i64(d, "excluded", (int64_t)r->excluded);
        kd_json_set_str(d, "views", r->views);
        kd_json_set_rounded(d, "latency_ms", r->latency_ms, 3);
        if (r->int8.layers > 0) {
            kd_json_set_i64(d, "int8_layers", r->int8.layers);
            kd_json_set_rounded(d, "top1_f32", r->int8.figure_f32, 6);
            kd_json_set_rounded(d, "same_top1", r->int8.same, 6);
            kd_json_set_rounded(d, "largest_difference", r->int8.largest, 6);
        }
        return kd_print_json(d, err);
    }
    for (int i = 0; i < f->n; i++) {
        const kd_figure *x = &f->figure[i];
        printf(x->share ? "%s%s %.2f %%" : "%s%s %.4f", i != 0 ? "  " : "", x->text,
               x->share ? 100.0 * x->value : x->value);
    }
    printf("\n%zu samples listed: %zu done, %zu failed, %zu excluded; views %s; one view in %.2f ms\n", r->listed,
           r->done, r->failed, r->excluded, r->views, r->latency_ms);
    if (r->int8.layers > 0) {
        printf("int8: %d layers, ranges of %lld training samples; in f32 %s %.2f %%; the same first class of %.2f %%, "
               "logits differ by %.3g at most\n",
               r->int8.layers, (long long)r->int8.calibrated, f->figure[0].text, 100.0 * r->int8.figure_f32,
               100.0 * r->int8.same, r->int8.largest);
    }
    if (c->out != NULL) {
        printf("report %s\n", KD_SHOWN(c->out));
    }
    return KD_OK;
}

static kd_status open_session(const kd_common *c, const char *program, const opts *o, bool dumps, kd_sets *sets,
                              kd_session *s, kd_err *err)
{
    KD_TRY(kd_sets_make(c, "eval", sets, err));
    KD_TRY(dumps && replay_of(o->views) > 0 ? KD_OK : set_views(sets, o->views, dumps, err));
    return kd_session_open(c, program, o->weights, KD_WEIGHTS_MODEL, sets, s, err);
}

/* The temperature in force and kept with the weights. */
static kd_status calibrate(const opts *o, kd_session *s, kd_half_id half, kd_err *err)
{
    kd_calibration found;
    char *where = NULL;
    KD_TRY(kd_calibrate(o->calibrate, s->task, s->cfg, o->weights, half, o->same_samples, &found, err));
    s->cfg->eval.temperature = found.temperature;
    KD_TRY(kd_calibration_keep(o->weights, s->task, found.temperature, &where, err));
    if (found.n > 0) {
        kd_log(KD_LOG_INFO, "temperature %.4g, fitted on %zu samples: NLL %.4f before, %.4f after; ECE %.4f, %.4f%s",
               found.temperature, found.n, found.nll[0], found.nll[1], found.ece[0], found.ece[1],
               found.shared > 0 ? "; some of them are judged below, so those figures are flattered" : "");
    }
    if (where != NULL) {
        kd_log(KD_LOG_INFO, "kept with the weights: %s", where);
    } else {
        kd_log(KD_LOG_WARN,
               "%s: no checkpoint of a run, so the temperature is not kept; give --set "
               "eval.temperature=%.6g with these weights",
               o->weights, found.temperature);
    }
    kd_free(where);
    return KD_OK;
}

static kd_status eval(const char *program, const opts *o, const kd_common *c, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_assess_result r = {.listed = 0};
    kd_out out;
    kd_status st = KD_OK;
    KD_GO(open_session(c, program, o, false, &sets, &s, err));
    kd_session_out(&s, c, o->weights, &out);
    if (c->out != NULL) {
        KD_GO(kd_out_file(&out, c->out, err));
    }
    const kd_half_id half = strcmp(o->split, "train") == 0 ? KD_HALF_TRAIN : KD_HALF_VAL;
    KD_GO(o->calibrate != NULL ? calibrate(o, &s, half, err) : KD_OK);
    const kd_assess_opts ao = {.task = s.task,
                               .cfg = s.cfg,
                               .weights = o->weights,
                               .out = c->out,
                               .label = o->label,
                               .command = c->typed,
                               .half = half,
                               .int8 = o->int8 ? (o->int8_samples > 0 ? o->int8_samples : KD_QUANTIZE_SAMPLES) : 0,
                               .be = s.be,
                               .progress = &s.progress};
    KD_GO(kd_assess(&ao, &r, err));
    KD_GO(print_eval(&r, c, err));
done:
    kd_figures_free(&r.figures);
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

#define OPT_WEIGHTS                                    \
    KD_OPT_STR(opts, weights, "weights", "PATH", NULL, \
               "run directory (its best checkpoint), checkpoint, safetensors or .pth; needed")

static int run_eval(const kd_cmd *cmd, const char *program, int argc, char **argv)
{
    opts o = {0};
    kd_common c;
    kd_err err = {0};
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (o.weights == NULL) {
        return kd_usage(cmd, "--weights PATH is needed");
    }
    if (o.same_samples && o.calibrate == NULL) {
        return kd_usage(cmd, "--same-samples does nothing without --calibrate");
    }
    if (o.int8_samples > 0 && !o.int8) {
        return kd_usage(cmd, "--int8-samples sets the ranges of --int8, which is not given");
    }
    if (c.out != NULL) {
        kd_process_outlive_reader();
    }
    return kd_cmd_end(cmd, eval(program, &o, &c, &err), &err);
}

int kd_cmd_teacher_eval(int argc, char **argv)
{
    static const kd_arg args[] = {
        OPT_WEIGHTS,
        KD_OPT_STR(
            opts, views, "views", "CxR", NULL,
            "clips x crops of each video, x2: mirrored too, as where the recipe has eval.flips (default: the recipe's "
            "eval.clips, crops, flips)"),
        KD_OPT_CHOICE(opts, split, "split", "val", "train|val", "half to evaluate"),
        KD_OPT_STR(opts, label, "label", "TEXT", NULL, "name in comparisons (default: the recipe's)"),
    };
    static const kd_cmd cmd = {.name = "teacher eval",
                               .about = "Multi-view test of the teacher; --out writes report.json.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .common = COMMON};
    return run_eval(&cmd, "teacher", argc, argv);
}

int kd_cmd_distill_eval(int argc, char **argv)
{
    static const kd_arg args[] = {
        OPT_WEIGHTS,
        KD_OPT_CHOICE(opts, split, "split", "val", "train|val", "half to evaluate"),
        KD_OPT_STR(opts, label, "label", "TEXT", NULL, "name in comparisons (default: the recipe's)"),
        KD_OPT_STR(
            opts, calibrate, "calibrate", "REPORT|T", NULL,
            "divide logits by a temperature: T, or the one with the least NLL on a report of these weights; kept "
            "with the weights, for every command that reads them"),
        KD_OPT_FLAG(opts, same_samples, "same-samples", "let the report of --calibrate have samples that are judged"),
        KD_OPT_FLAG(opts, int8, "int8",
                    "convolutions and linear layers in eight bits, and beside them the same in f32"),
        KD_OPT_INT(opts, int8_samples, "int8-samples", "N", NULL, 1, 1000000,
                   "--int8: training samples whose activations set the ranges (default: 128)"),
    };
    static const kd_cmd cmd = {
        .name = "distill eval",
        .about = "Evaluate a student; --out writes report.json.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = COMMON,
        .notes = "A checkpoint keeps its temperature until training writes it anew; --calibrate 1 takes it away.",
        .examples =
            "distill eval --weights runs/kd-0/checkpoints/last --data sample --split train --out fit.json\n"
            "distill eval --weights runs/kd-0/checkpoints/last --data sample --calibrate fit.json --out test.json"};
    return run_eval(&cmd, "distill", argc, argv);
}

/* ---- dump-logits ----------------------------------------------------------------------------- */

static kd_status print_dump(const kd_dump_result *r, const kd_common *c, kd_err *err)
{
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_i64(d, "listed", (int64_t)r->listed);
        kd_json_set_i64(d, "done", (int64_t)r->done);
        kd_json_set_i64(d, "failed", (int64_t)r->failed);
        kd_json_set_i64(d, "excluded", (int64_t)r->excluded);
        kd_json_set_i64(d, "resumed", (int64_t)r->resumed);
        kd_json_set_i64(d, "bytes", (int64_t)r->bytes);
        kd_json_set_rounded(d, "seconds", r->seconds, 1);
        kd_json_set_rounded(d, "top1_train", r->top1_train, 6); /* null: a half that was not dumped */
        kd_json_set_rounded(d, "top1_val", r->top1_val, 6);
        return kd_print_json(d, err);
    }
    printf("%zu samples listed: %zu done, %zu failed, %zu excluded; %.2f MiB in %.1f s\n", r->listed, r->done,
           r->failed, r->excluded, (double)r->bytes / 1048576.0, r->seconds);
    kd_print_store(c->out, r->top1_train, r->top1_val);
    return KD_OK;
}

/* "2/4" into shard and shards. */
static kd_status parse_shard(const char *text, kd_dump_opts *o, kd_err *err)
{
    int end = 0;
    if (text == NULL) {
        return KD_OK;
    }
    if (sscanf(text, "%6d/%6d%n", &o->shard, &o->shards, &end) != 2 || text[end] != '\0' || o->shard < 1 ||
        o->shard > o->shards) {
        return KD_FAIL(err, KD_E_ARG, "--shard: expected K/N with 1 <= K <= N such as 2/4, got '%s'", text);
    }
    return KD_OK;
}

static kd_status dump(const char *program, const opts *o, const kd_common *c, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_dump_result r = {0};
    kd_out out;
    kd_status st = KD_OK;
    KD_GO(open_session(c, program, o, true, &sets, &s, err));
    kd_session_out(&s, c, o->weights, &out);
    if (c->out != NULL) {
        KD_GO(kd_out_store(&out, c->out, err));
    }
    kd_dump_opts dopts = {.task = s.task,
                          .cfg = s.cfg,
                          .weights = o->weights,
                          .out = c->out,
                          .train = strstr(o->split, "train") != NULL,
                          .val = strstr(o->split, "val") != NULL,
                          .replay = replay_of(o->views),
                          .features = o->features,
                          .logit_dtype = strcmp(o->logits, "f16") == 0 ? KD_F16 : KD_F32,
                          .start = c->resume  ? KD_STORE_RESUME
                                   : c->force ? KD_STORE_REPLACE
                                              : KD_STORE_NEW,
                          .dry_run = c->dry_run,
                          .be = s.be,
                          .progress = &s.progress};
    KD_GO(parse_shard(o->shard, &dopts, err));
    KD_GO(kd_dump(&dopts, &r, err));
    if (!c->dry_run) {
        KD_GO(print_dump(&r, c, err));
    }
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

static int run_dump(const kd_cmd *cmd, const char *program, int argc, char **argv)
{
    opts o = {0};
    kd_common c;
    kd_err err = {0};
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (o.weights == NULL || (c.out == NULL && !c.dry_run)) {
        return kd_usage(cmd, "%s is needed", o.weights == NULL ? "--weights PATH" : "--out NAME.logits.zst");
    }
    kd_process_outlive_reader();
    return kd_cmd_end(cmd, dump(program, &o, &c, &err), &err);
}

#define OPT_HALVES KD_OPT_CHOICE(opts, split, "split", "train,val", "train|val|train,val", "halves to dump")
#define OPT_LOGITS KD_OPT_CHOICE(opts, logits, "logits", "f16", "f16|f32", "how logits are stored")
#define OPT_SHARD                                 \
    KD_OPT_STR(opts, shard, "shard", "K/N", NULL, \
               "only the K-th of N parts of each half; `kd logits merge` joins the N stores to that of one run")
#define DUMP_COMMON (COMMON | KD_COMMON_RESUME | KD_COMMON_DRY_RUN)
#define DUMP_NOTES  "A kill loses at most the record being written; --resume continues to the same bytes."

int kd_cmd_teacher_dump_logits(int argc, char **argv)
{
    static const kd_arg args[] = {
        OPT_WEIGHTS,
        OPT_HALVES,
        KD_OPT_STR(
            opts, views, "views", "CxR|train:N", NULL,
            "clips x crops of each video, x2: mirrored too, as where the recipe has eval.flips (default: the recipe's "
            "eval.clips, crops, flips); "
            "train:N: N rows of training, augmented, which a video student is fed with again"),
        KD_OPT_STR(opts, features, "features", "NAME,...", NULL,
                   "store features too: fc_norm (pooled, what the head reads), temporal (a row a time step), tokens"),
        OPT_LOGITS,
        OPT_SHARD,
    };
    static const kd_cmd cmd = {
        .name = "teacher dump-logits",
        .about = "Run the teacher over a data set and write the logit store.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = DUMP_COMMON,
        .notes = DUMP_NOTES,
        .examples = "teacher dump-logits --weights runs/teacher --data sample --split train --features fc_norm "
                    "--out teacher.logits.zst"};
    return run_dump(&cmd, "teacher", argc, argv);
}

int kd_cmd_distill_dump_logits(int argc, char **argv)
{
    static const kd_arg args[] = {
        OPT_WEIGHTS,
        OPT_HALVES,
        KD_OPT_STR(opts, features, "features", "NAME", NULL, "store features too: pool (what the classifier reads)"),
        OPT_LOGITS,
        OPT_SHARD,
    };
    static const kd_cmd cmd = {
        .name = "distill dump-logits",
        .about = "Run a student over a data set and write its logit store, so that it can teach.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = DUMP_COMMON,
        .notes = DUMP_NOTES,
        .examples = "distill dump-logits --weights runs/kd-0 --data sample --split train --out student.logits.zst"};
    return run_dump(&cmd, "distill", argc, argv);
}
