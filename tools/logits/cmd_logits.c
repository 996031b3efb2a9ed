/* kd logits: describe, check, merge and export logit stores. */
#include "distill/eval/recompute.h"
#include "formats/base/io.h"
#include "formats/base/json.h"
#include "formats/store/logit_store.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/out.h"
#include "tools/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- info ------------------------------------------------------------------------------------ */

static const kd_cmd INFO = {
    .name = "kd logits info",
    .operands = "STORE",
    .about = "Describes a logit store: manifest, counts, sizes, the teacher's top-1 and top-5 on "
             "its records.",
    .common = KD_COMMON_JSON,
    .min_operands = 1,
    .max_operands = 1,
};

typedef struct tally {
    int64_t records, views, top1, top5;
    int64_t least, most; /* records of the rarest and of the commonest class that occurs */
    int absent;          /* classes without a record */
} tally;

/* Place of the label among the probabilities; a tie counts against it. */
static int rank_of(const float *prob, int n, int label)
{
    int rank = 0;
    for (int k = 0; k < n; k++) {
        rank += k != label && prob[k] >= prob[label];
    }
    return rank;
}

static kd_status count_records(const kd_store *s, tally *t, kd_err *err)
{
    const int classes = kd_store_get_manifest(s)->n_classes;
    kd_store_cursor *c = NULL;
    int64_t *per_class = kd_calloc((size_t)classes, sizeof *per_class);
    if (per_class == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", kd_store_path(s));
    }
    kd_status st = kd_store_cursor_new(s, &c, err);
    for (int64_t i = 0; st == KD_OK && i < kd_store_count(s); i++) {
        kd_store_record r;
        st = kd_store_read(c, i, &r, err);
        if (st != KD_OK) {
            break;
        }
        const int rank = rank_of(r.prob, classes, r.label);
        t->records++;
        t->views += r.n_views;
        t->top1 += rank < 1;
        t->top5 += rank < 5;
        per_class[r.label]++;
    }
    for (int k = 0; k < classes; k++) {
        if (per_class[k] == 0) {
            t->absent++;
            continue;
        }
        t->least = t->least == 0 ? per_class[k] : KD_MIN(t->least, per_class[k]);
        t->most = KD_MAX(t->most, per_class[k]);
    }
    kd_store_cursor_free(c);
    kd_free(per_class);
    return st;
}

static kd_status info_json(const kd_store *s, const tally *t, kd_err *err)
{
    kd_json *manifest = NULL;
    const char *text = kd_store_manifest_json(s);
    KD_TRY(kd_json_parse(text, strlen(text), kd_store_path(s), &manifest, err));
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "path", kd_store_path(s));
    kd_json_set_copy(d, "manifest", manifest);
    kd_json_set_i64(d, "records", t->records);
    kd_json_set_i64(d, "views", t->views);
    kd_json_set_i64(d, "blocks", kd_store_block_count(s));
    kd_json_set_i64(d, "file_bytes", (int64_t)kd_store_file_bytes(s));
    kd_json_set_i64(d, "raw_bytes", (int64_t)kd_store_raw_bytes(s));
    const bool answers = t->records > 0 && !kd_store_get_manifest(s)->features_only;
    kd_json_set_f64(d, "top1", answers ? (double)t->top1 / (double)t->records : 0.0);
    kd_json_set_f64(d, "top5", answers ? (double)t->top5 / (double)t->records : 0.0);
    kd_json_set_i64(d, "classes_without_records", t->absent);
    char *out = NULL;
    const kd_status st = kd_json_dump(d, KD_JSON_PRETTY, &out, NULL, err);
    if (st == KD_OK) {
        (void)fputs(out, stdout);
    }
    kd_free(out);
    kd_json_free(d);
    kd_json_free(manifest);
    return st;
}

/* Text of a manifest, as it may be shown. */
#define SHOWN_OR_DASH(text) ((text)[0] == '\0' ? "-" : KD_SHOWN(text))

static void info_text(const kd_store *s, const tally *t)
{
    const kd_store_manifest *m = kd_store_get_manifest(s);
    const double mib = 1024.0 * 1024.0;
    const double n = t->records > 0 ? (double)t->records : 1.0;
    printf("store      %s\n", KD_SHOWN(kd_store_path(s)));
    printf("teacher    %s, weights %.16s, config %.16s\n", SHOWN_OR_DASH(m->teacher), SHOWN_OR_DASH(m->teacher_sha256),
           SHOWN_OR_DASH(m->config_hash));
    if (m->source_sha256[0] == '\0' && m->provenance[0] != '\0') {
        printf("chain      %s\n", KD_SHOWN(m->provenance));
    }
    if (m->source_sha256[0] != '\0') {
        printf("imported   from a file of SHA-256 %.16s: %s\n", KD_SHOWN(m->source_sha256),
               SHOWN_OR_DASH(m->provenance));
    }
    if (m->shard[0] != '\0') {
        printf("shard      %s\n", KD_SHOWN(m->shard));
    }
    char split[160];
    printf("data       %s, split %s, %s, %d classes\n", SHOWN_OR_DASH(m->data_set),
           m->split[0] != '\0' ? kd_show_lists(split, sizeof split, m->split) : "-", SHOWN_OR_DASH(m->parts),
           m->n_classes);
    printf("lists      training %.16s, validation %.16s\n", SHOWN_OR_DASH(m->train_ids), SHOWN_OR_DASH(m->val_ids));
    printf("views      %s, merged by %s, decoded by %s\n", SHOWN_OR_DASH(m->views), SHOWN_OR_DASH(m->merge),
           SHOWN_OR_DASH(m->decoder));
    printf("stored     logits %s", kd_dtype_name(m->logit_dtype));
    for (int i = 0; i < m->n_taps; i++) {
        printf(", %s [%d,%d]", KD_SHOWN(m->tap[i].name), m->tap[i].rows, m->tap[i].width);
    }
    if (m->feature_dim > 0 && m->n_taps == 0) {
        printf(", %s[%d]", KD_SHOWN(m->feature), m->feature_dim);
    }
    printf("%s%s", m->feature_dim > 0 ? " " : "", m->feature_dim > 0 ? kd_dtype_name(m->feature_dtype) : "");
    printf("\nrecords    %" PRId64 " with %" PRId64 " views in %" PRId64 " blocks\n", t->records, t->views,
           kd_store_block_count(s));
    printf("classes    %" PRId64 " to %" PRId64 " records each, %d without any\n", t->least, t->most, t->absent);
    printf("size       %.2f MiB, unpacked %.2f MiB\n", (double)kd_store_file_bytes(s) / mib,
           (double)kd_store_raw_bytes(s) / mib);
    if (m->features_only) {
        printf("accuracy   none: features alone\n");
        return;
    }
    printf("accuracy   top-1 %.2f %%, top-5 %.2f %%\n", 100.0 * (double)t->top1 / n, 100.0 * (double)t->top5 / n);
}

int kd_cmd_logits_info(int argc, char **argv)
{
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&INFO, argc, argv, NULL, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    kd_store *s = NULL;
    tally t = {0};
    kd_status st = KD_OK;
    KD_GO(kd_store_open(in.item[0], &s, &err));
    KD_GO(count_records(s, &t, &err));
    if (c.json) {
        KD_GO(info_json(s, &t, &err));
    } else {
        info_text(s, &t);
    }
done:
    kd_store_close(s);
    return kd_cmd_end(&INFO, st, &err);
}

/* ---- verify ---------------------------------------------------------------------------------- */

typedef struct verify_args {
    const char *recompute, *weights;
} verify_args;

static const kd_arg VERIFY_ARGS[] = {
    KD_OPT_STR(verify_args, recompute, "recompute", "N|P%", NULL,
               "run the model again over N records, or P per cent of them, and compare the logits"),
    KD_OPT_STR(verify_args, weights, "weights", "PATH", NULL, "with --recompute: the weights that the store names"),
};

enum {
    WITH_MODEL =
        KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_COMPUTE | KD_COMMON_WORKERS | KD_COMMON_BATCH_SIZE
};

static const kd_cmd VERIFY = {
    .name = "kd logits verify",
    .operands = "STORE...",
    .about = "Checks every checksum, id, label and number of logit stores; names each fault.",
    .args = VERIFY_ARGS,
    .arg_count = KD_COUNTOF(VERIFY_ARGS),
    .common = KD_COMMON_JSON | WITH_MODEL,
    .min_operands = 1,
    .max_operands = -1,
    .notes =
        "Faults are printed on stderr, at most 20 a store.  Exit code 4 when there is any, 3 for\nwhat is no store.\n"
        "--recompute takes one store and always the same records of it, evenly spread; recipe, data set and device\n"
        "options belong to it.  A logit may differ by the rounding of its dtype and of the arithmetic.",
};

static void print_fault(void *user, const char *line)
{
    int *count = user;
    if ((*count)++ < 20) {
        kd_log(KD_LOG_ERROR, "%s", line);
    }
}

/* In a word: a file that is not there, or is no store, is not a damaged one. */
static const char *verdict(kd_status found)
{
    return found == KD_OK ? "ok" : found == KD_E_INTEGRITY ? "DAMAGED" : "UNREADABLE";
}

static kd_status verify_json(const char *path, kd_status found, const kd_store_verify_report *r, int faults,
                             kd_err *err)
{
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "path", path);
    kd_json_set_str(d, "status", verdict(found));
    kd_json_set_i64(d, "records", r->records);
    kd_json_set_i64(d, "blocks", r->blocks);
    kd_json_set_i64(d, "bad_records", r->bad_records);
    kd_json_set_i64(d, "bad_blocks", r->bad_blocks);
    kd_json_set_i64(d, "faults", faults);
    return kd_print_json(d, err);
}

/* "25", or "1%" of the records, at least one; 0: neither. */
static int64_t records_of(const char *text, int64_t all)
{
    char *end = NULL;
    const double v = strtod(text, &end);
    const bool share = *end == '%';
    if (end == text || end[share] != '\0' || !(v > 0.0) || (share && v > 100.0) || (!share && v != floor(v))) {
        return 0;
    }
    const double n = share ? ceil(v * (double)all / 100.0) : v;
    return n >= (double)all ? all : (int64_t)n;
}

static kd_status recompute(const verify_args *a, const kd_common *c, const char *path, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_store *store = NULL;
    kd_recompute_result r;
    int faults = 0;
    kd_status st = KD_OK;
    KD_GO(kd_store_open(path, &store, err));
    const int64_t count = records_of(a->recompute, kd_store_count(store));
    if (count < 1) {
        st = KD_FAIL(err, KD_E_ARG, "--recompute: expected a number of records or a share such as 1%%, got '%s'",
                     a->recompute);
        goto done;
    }
    KD_GO(kd_sets_make(c, "eval", &sets, err));
    KD_GO(kd_session_open(c, NULL, a->weights, KD_WEIGHTS_MODEL, &sets, &s, err));
    const kd_recompute_opts o = {.task = s.task,
                                 .cfg = s.cfg,
                                 .weights = a->weights,
                                 .store = store,
                                 .count = count,
                                 .be = s.be,
                                 .progress = &s.progress,
                                 .user = &faults,
                                 .differs = print_fault};
    st = kd_recompute(&o, &r, err);
    if ((st == KD_OK || st == KD_E_INTEGRITY) && !c->json) {
        printf("%s: %zu of %" PRId64 " records computed again: %zu differ; the largest difference is %.2g of what is "
               "allowed\n",
               KD_SHOWN(path), r.records, kd_store_count(store), r.differing, r.worst);
    } else if (st == KD_OK || st == KD_E_INTEGRITY) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "path", path);
        kd_json_set_i64(d, "recomputed", (int64_t)r.records);
        kd_json_set_i64(d, "differing", (int64_t)r.differing);
        kd_json_set_rounded(d, "worst", r.worst, 6);
        const kd_status printed = kd_print_json(d, err);
        st = st == KD_OK ? printed : st;
    }
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    kd_store_close(store);
    return st;
}

int kd_cmd_logits_verify(int argc, char **argv)
{
    verify_args a;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&VERIFY, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (a.recompute == NULL && (a.weights != NULL || (c.given & WITH_MODEL) != 0)) {
        return kd_usage(&VERIFY, "options of a model are for --recompute, which was not given");
    }
    if (a.recompute != NULL && (a.weights == NULL || in.count != 1)) {
        return kd_usage(&VERIFY, "--recompute: expected %s", a.weights == NULL ? "--weights PATH" : "one store");
    }
    kd_status worst = KD_OK;
    kd_err first = {0};
    for (int i = 0; i < in.count; i++) {
        kd_store_verify_report r;
        kd_err err = {0};
        int faults = 0;
        const kd_status st = kd_store_verify(in.item[i], print_fault, &faults, &r, &err);
        if (st != KD_OK && worst == KD_OK) {
            worst = st == KD_E_INTEGRITY
                        ? KD_FAIL(&first, st, "%.300s: %d fault%s", in.item[i], faults, faults == 1 ? "" : "s")
                        : KD_FAIL(&first, st, "%.300s: expected a logit store", in.item[i]);
        }
        if (c.json) {
            const kd_status printed = verify_json(in.item[i], st, &r, faults, &first);
            worst = worst == KD_OK ? printed : worst;
            continue;
        }
        printf("%s: %s, %" PRId64 " records in %" PRId64 " blocks good, %" PRId64 " records in %" PRId64
               " blocks bad, %d faults\n",
               KD_SHOWN(in.item[i]), verdict(st), r.records, r.blocks, r.bad_records, r.bad_blocks, faults);
    }
    if (a.recompute != NULL && worst == KD_OK) {
        worst = recompute(&a, &c, in.item[0], &first);
    }
    return kd_cmd_end(&VERIFY, worst, &first);
}

/* ---- merge and export ------------------------------------------------------------------------ */

typedef struct write_args {
    const char *out;
} write_args;

static const kd_arg MERGE_ARGS[] = {
    KD_OPT_STR(write_args, out, "out", "FILE", NULL, "the store to write, NAME.logits.zst"),
};

/* --out may be written and is none of the stores that are read. */
static kd_status check_out(const write_args *a, const kd_common *c, const kd_operands *in, kd_err *err)
{
    kd_out *out = kd_calloc(1, sizeof *out);
    if (out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    out->force = c->force;
    kd_status st = KD_OK;
    if (in->count > KD_OUT_INPUTS) {
        st = KD_FAIL(err, KD_E_ARG, "expected at most %d stores, found %d", KD_OUT_INPUTS, in->count);
    }
    for (int i = 0; i < in->count && st == KD_OK; i++) {
        kd_out_reads(out, in->item[i]);
    }
    st = st == KD_OK ? kd_out_file(out, a->out, err) : st;
    kd_free(out);
    return st;
}

static const kd_cmd MERGE = {
    .name = "kd logits merge",
    .operands = "STORE...",
    .about = "Merges the stores of several ranks into one, in the order of the listing.",
    .args = MERGE_ARGS,
    .arg_count = KD_COUNTOF(MERGE_ARGS),
    .common = KD_COMMON_FORCE,
    .min_operands = 1,
    .max_operands = -1,
    .notes = "The manifests must agree; an id that occurs twice is refused.",
};

int kd_cmd_logits_merge(int argc, char **argv)
{
    write_args a;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&MERGE, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (a.out == NULL) {
        return kd_usage(&MERGE, "--out: expected the store to write");
    }
    kd_err err = {0};
    kd_status st = check_out(&a, &c, &in, &err);
    if (st == KD_OK) {
        st = kd_out_store_name(a.out, &err);
    }
    if (st == KD_OK) {
        st = kd_store_merge((const char *const *)in.item, (size_t)in.count, a.out, c.force, &err);
    }
    if (st == KD_OK) {
        printf("%s: merged from %d stores\n", KD_SHOWN(a.out), in.count);
    }
    return kd_cmd_end(&MERGE, st, &err);
}

static const kd_arg EXPORT_ARGS[] = {
    KD_OPT_STR(write_args, out, "out", "FILE", NULL, "the archive to write, NAME.npz"),
};

static const kd_cmd EXPORT = {
    .name = "kd logits export",
    .operands = "STORE",
    .about = "Writes a logit store as a NumPy archive (.npz).",
    .args = EXPORT_ARGS,
    .arg_count = KD_COUNTOF(EXPORT_ARGS),
    .common = KD_COMMON_FORCE,
    .min_operands = 1,
    .max_operands = 1,
    .notes = "Arrays: ids, labels, order, n_views, view_offset, logits, view, seed, frame_offset, "
             "frames, prob,\n"
             "feature (when stored), manifest (JSON bytes).",
};

int kd_cmd_logits_export(int argc, char **argv)
{
    write_args a;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&EXPORT, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (a.out == NULL) {
        return kd_usage(&EXPORT, "--out: expected the .npz to write");
    }
    kd_err err = {0};
    kd_status st = check_out(&a, &c, &in, &err);
    if (st == KD_OK && !kd_path_has_suffix(a.out, ".npz")) {
        st = KD_FAIL(&err, KD_E_ARG, "%s: expected a name ending in .npz", a.out);
    }
    if (st == KD_OK) {
        st = kd_store_export_npz(in.item[0], a.out, &err);
    }
    if (st == KD_OK) {
        printf("%s: written\n", KD_SHOWN(a.out));
    }
    return kd_cmd_end(&EXPORT, st, &err);
}

int kd_cmd_logits(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"info", kd_cmd_logits_info, "describe a store"},
        {"verify", kd_cmd_logits_verify, "check every record"},
        {"merge", kd_cmd_logits_merge, "merge the stores of several ranks"},
        {"export", kd_cmd_logits_export, "write a store as .npz"},
        {"import", kd_cmd_logits_import, "make a store of values from elsewhere"},
        {"report", kd_cmd_logits_report, "write the teacher's report of a store"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd logits", "Describe, check, merge, export, import and report logit stores.", VERBS, argc,
                       argv);
}
