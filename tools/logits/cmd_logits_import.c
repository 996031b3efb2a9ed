/* kd logits import and report: stores of teachers that ran elsewhere, and what a store says about its teacher. */
#include "distill/store/import.h"
#include "distill/store/store_report.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/out.h"
#include "tools/session.h"

#include <math.h>
#include <stdio.h>

/* The recipe whose `data` section says what the samples are; *cfg NULL: none of --config, --data, --set was given.
 * kd_free(*cfg), also after an error. */
static kd_status open_data(const kd_common *c, kd_config **cfg, kd_err *err)
{
    kd_sets sets;
    *cfg = NULL;
    if (c->config.count == 0 && c->set.count == 0 && c->data == NULL) {
        return KD_OK;
    }
    *cfg = kd_calloc(1, sizeof **cfg);
    if (*cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_status st = kd_sets_make(c, "eval", &sets, err);
    st = st == KD_OK ? kd_config_load(c->config.item, (size_t)c->config.count, sets.text, sets.n, *cfg, err) : st;
    kd_sets_free(&sets);
    return st;
}

/* What the command reads. */
static void reads(kd_out *out, const kd_common *c, const kd_config *cfg, const char *file)
{
    out->force = c->force;
    kd_out_reads(out, file);
    for (int i = 0; i < c->config.count; i++) {
        kd_out_reads(out, c->config.item[i]);
    }
    if (cfg != NULL) {
        out->data = cfg->data.root[0] != '\0' ? cfg->data.root : NULL;
        kd_out_reads(out, cfg->data.train_list);
        kd_out_reads(out, cfg->data.val_list);
        kd_out_reads(out, cfg->data.quarantine);
    }
}

/* ---- import ---------------------------------------------------------------------------------- */

typedef struct import_args {
    const char *ids, *logits, *features, *labels, *classes, *ids_file, *classes_file, *class_map;
    const char *teacher, *provenance, *views, *merge, *split, *stored;
    bool prob;
} import_args;

static const kd_arg IMPORT_ARGS[] = {
    KD_OPT_STR(import_args, teacher, "teacher", "NAME", NULL, "what the teacher is called; needed"),
    KD_OPT_STR(import_args, provenance, "provenance", "TEXT", NULL,
               "where the values come from: model, weights, licence, script"),
    KD_OPT_STR(import_args, ids, "ids", "KEY", NULL, "array of ids (default: ids; in .jsonl: id)"),
    KD_OPT_STR(import_args, logits, "logits", "KEY", NULL, "array of logits (default: logits)"),
    KD_OPT_STR(import_args, features, "features", "KEY", NULL, "array of features (default: features, if there)"),
    KD_OPT_STR(import_args, labels, "labels", "KEY", NULL,
               "array of labels (default: labels, if there; in .jsonl: label)"),
    KD_OPT_STR(import_args, classes, "classes", "KEY", NULL, "names of the columns (default: classes, if there)"),
    KD_OPT_STR(import_args, ids_file, "ids-file", "FILE", NULL, "ids in row order, one a line or as a JSON list"),
    KD_OPT_STR(import_args, classes_file, "classes-file", "FILE", NULL,
               "names of the columns in order, one a line or as a JSON list"),
    KD_OPT_STR(import_args, class_map, "class-map", "FILE", NULL,
               "'column<TAB>class of the data set' a line, where names differ or columns are chosen"),
    KD_OPT_FLAG(import_args, prob, "prob", "the values are probabilities; their logarithms are stored"),
    KD_OPT_STR(import_args, views, "views", "CxR", NULL,
               "clips x crops of the views in logits (N,V,K), x2: mirrored too (default: V clips)"),
    KD_OPT_CHOICE(import_args, merge, "merge", "prob", "prob|score",
                  "how views are averaged: softmax first, or logits"),
    KD_OPT_CHOICE(import_args, split, "split", NULL, "train|val|train,val",
                  "halves of the data set to import (default: both)"),
    KD_OPT_CHOICE(import_args, stored, "store-as", "file", "file|f16|f32",
                  "how numbers are stored; file: f16 stays f16, wider ones become f32"),
};

static const kd_cmd IMPORT = {
    .name = "kd logits import",
    .operands = "FILE",
    .about = "Makes a logit store of logits and features that another program computed.",
    .args = IMPORT_ARGS,
    .arg_count = KD_COUNTOF(IMPORT_ARGS),
    .common = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_JSON,
    .min_operands = 1,
    .max_operands = 1,
    .notes =
        "FILE: .npz, .safetensors or .jsonl with ids (N), logits (N,K) or (N,V,K), and maybe features (N,D),\n"
        "labels (N), classes (K); distill/store/README.md has an example in Python.\n"
        "The data set of --config, --data and --set gives labels, split and class order, as it does to a store that "
        "is\n"
        "dumped; without one, labels and classes must stand in FILE, and the store names no split.\n"
        "Every sample is accounted for: done + failed + excluded = listed.  data.on_bad_sample says whether a sample\n"
        "without a row is refused (fail) or named and left out (skip); a row that is no sample is named.",
};

enum { SHOWN = 20 };

/* Who is told of what was left out. */
typedef struct audience {
    kd_json *list; /* of {id, why}; NULL: nobody wants JSON */
    size_t told;
} audience;

static void left_out(void *user, const char *id, const char *why)
{
    audience *a = user;
    if (a->told++ < SHOWN) {
        kd_log(KD_LOG_WARN, "left out: %s: %s", id, why);
    }
    if (a->list != NULL) {
        kd_json *one = kd_json_push_object(a->list);
        kd_json_set_str(one, "id", id);
        kd_json_set_str(one, "why", why);
    }
}

static kd_status print_import(const kd_import_result *r, const kd_common *c, kd_json **doc, kd_err *err)
{
    if (c->json) {
        kd_json *d = *doc;
        *doc = NULL;
        kd_json_set_str(d, "type", "result");
        kd_json_set_i64(d, "rows", (int64_t)r->rows);
        kd_json_set_i64(d, "unknown", (int64_t)r->unknown);
        kd_json_set_i64(d, "listed", (int64_t)r->listed);
        kd_json_set_i64(d, "done", (int64_t)r->done);
        kd_json_set_i64(d, "failed", (int64_t)r->failed);
        kd_json_set_i64(d, "excluded", (int64_t)r->excluded);
        kd_json_set_i64(d, "bytes", (int64_t)r->bytes);
        kd_json_set_rounded(d, "top1_train", r->top1_train, 6); /* null: a half that was not imported */
        kd_json_set_rounded(d, "top1_val", r->top1_val, 6);
        return kd_print_json(d, err);
    }
    printf("%zu rows, %zu of them of no sample; %zu samples listed: %zu done, %zu failed, %zu excluded; %.2f MiB\n",
           r->rows, r->unknown, r->listed, r->done, r->failed, r->excluded, (double)r->bytes / 1048576.0);
    kd_print_store(c->out, r->top1_train, r->top1_val);
    return KD_OK;
}

static kd_status import(const import_args *a, const kd_common *c, const char *file, kd_err *err)
{
    kd_config *cfg = NULL;
    kd_import_result r;
    kd_out out = {.force = c->force};
    kd_json *doc = c->json ? kd_json_object() : NULL;
    audience told = {.list = c->json ? kd_json_set_array(doc, "left_out") : NULL};
    kd_import_opts o = {.path = file,
                        .names = {.ids = a->ids,
                                  .logits = a->logits,
                                  .features = a->features,
                                  .labels = a->labels,
                                  .classes = a->classes,
                                  .ids_file = a->ids_file,
                                  .classes_file = a->classes_file,
                                  .prob = a->prob},
                        .class_map = a->class_map,
                        .train = a->split == NULL || strstr(a->split, "train") != NULL,
                        .val = a->split == NULL || strstr(a->split, "val") != NULL,
                        .out = c->out,
                        .teacher = a->teacher,
                        .provenance = a->provenance,
                        .merge = a->merge,
                        .stored = strcmp(a->stored, "f16") == 0   ? KD_F16
                                  : strcmp(a->stored, "f32") == 0 ? KD_F32
                                                                  : KD_DTYPE_COUNT,
                        .user = &told,
                        .left = left_out};
    kd_status st = KD_OK;
    if (a->views != NULL) {
        KD_GO(kd_read_views(a->views, "", &o.clips, &o.crops, &o.flips, err));
    }
    KD_GO(open_data(c, &cfg, err));
    o.data = cfg != NULL ? &cfg->data : NULL;
    if (cfg == NULL && a->split != NULL) {
        st = KD_FAIL(err, KD_E_ARG, "--split: %s, but no data set says which half an id is of; give --config or --data",
                     a->split);
        goto done;
    }
    reads(&out, c, cfg, file);
    kd_out_reads(&out, a->ids_file);
    kd_out_reads(&out, a->classes_file);
    kd_out_reads(&out, a->class_map);
    KD_GO(kd_out_store(&out, c->out, err));
    KD_GO(kd_import(&o, &r, err));
    if (told.told > SHOWN) {
        kd_log(KD_LOG_WARN, "left out: %zu in all; --json lists them", told.told);
    }
    KD_GO(print_import(&r, c, &doc, err));
done:
    kd_json_free(doc);
    kd_free(cfg);
    return st;
}

int kd_cmd_logits_import(int argc, char **argv)
{
    import_args a;
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&IMPORT, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL || a.teacher == NULL) {
        return kd_usage(&IMPORT, "%s is needed", c.out == NULL ? "--out NAME.logits.zst" : "--teacher NAME");
    }
    return kd_cmd_end(&IMPORT, import(&a, &c, in.item[0], &err), &err);
}

/* ---- report ---------------------------------------------------------------------------------- */

typedef struct report_args {
    const char *split, *label;
} report_args;

static const kd_arg REPORT_ARGS[] = {
    KD_OPT_CHOICE(report_args, split, "split", "val", "train|val", "half to report"),
    KD_OPT_STR(report_args, label, "label", "TEXT", NULL, "name in comparisons (default: the teacher's)"),
};

static const kd_cmd REPORT = {
    .name = "kd logits report",
    .operands = "STORE",
    .about = "Writes the teacher's report.json of a store, as `distill compare` reads it.",
    .args = REPORT_ARGS,
    .arg_count = KD_COUNTOF(REPORT_ARGS),
    .common = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_JSON,
    .min_operands = 1,
    .max_operands = 1,
    .notes = "The samples are those of the data set that --config, --data and --set name; without them, those of the\n"
             "store, where its records are provably the whole half.  Parameters, multiply-adds and latency are 0: the\n"
             "model is not here.",
};

static kd_status print_report(const kd_store_report_result *r, const kd_common *c, kd_err *err)
{
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_rounded(d, "top1", r->top1, 6);
        kd_json_set_rounded(d, "top5", r->top5, 6);
        kd_json_set_rounded(d, "mean_class_accuracy", r->mean_class_accuracy, 6);
        kd_json_set_rounded(d, "nll", r->nll, 6);
        kd_json_set_rounded(d, "ece", r->ece, 6);
        kd_json_set_i64(d, "listed", (int64_t)r->listed);
        kd_json_set_i64(d, "done", (int64_t)r->done);
        kd_json_set_i64(d, "failed", (int64_t)r->failed);
        kd_json_set_i64(d, "excluded", (int64_t)r->excluded);
        return kd_print_json(d, err);
    }
    printf("top-1 %.2f %%  top-5 %.2f %%  mean class %.2f %%  NLL %.4f  ECE %.2f %%\n", 100.0 * r->top1,
           100.0 * r->top5, 100.0 * r->mean_class_accuracy, r->nll, 100.0 * r->ece);
    printf("%zu samples listed: %zu done, %zu failed, %zu excluded\nreport %s\n", r->listed, r->done, r->failed,
           r->excluded, KD_SHOWN(c->out));
    return KD_OK;
}

static kd_status report(const report_args *a, const kd_common *c, const char *path, kd_err *err)
{
    kd_config *cfg = NULL;
    kd_store *s = NULL;
    kd_store_report_result r;
    kd_out out = {.force = c->force};
    kd_status st = KD_OK;
    KD_GO(open_data(c, &cfg, err));
    reads(&out, c, cfg, path);
    KD_GO(kd_out_file(&out, c->out, err));
    KD_GO(kd_store_open(path, &s, err));
    const kd_store_report_opts o = {.data = cfg != NULL ? &cfg->data : NULL,
                                    .half = strcmp(a->split, "train") == 0 ? KD_HALF_TRAIN : KD_HALF_VAL,
                                    .label = a->label,
                                    .command = c->typed,
                                    .out = c->out,
                                    .ece_bins = cfg != NULL ? cfg->report.ece_bins : 0};
    KD_GO(kd_store_report(s, &o, &r, err));
    KD_GO(print_report(&r, c, err));
done:
    kd_store_close(s);
    kd_free(cfg);
    return st;
}

int kd_cmd_logits_report(int argc, char **argv)
{
    report_args a;
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&REPORT, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&REPORT, "--out REPORT.json is needed");
    }
    return kd_cmd_end(&REPORT, report(&a, &c, in.item[0], &err), &err);
}
