/* kd weights: describe, convert and compare weights in any of the forms formats/weights/weights.h reads. */
#include "formats/base/io.h"
#include "formats/weights/weights.h"
#include "teacher/model/vit_names.h"
#include "tools/commands/commands.h"

#include <math.h>
#include <stdio.h>

/* ---- info ------------------------------------------------------------------------------------ */

typedef struct info_opts {
    const char *key;
    bool tensors;
} info_opts;

static const kd_arg INFO_ARGS[] = {
    KD_OPT_STR(info_opts, key, "key", "KEY", NULL,
               "which weights of a file that holds several: model_ema, ema, teacher, ..."),
    KD_OPT_FLAG(info_opts, tensors, "tensors", "list every tensor with shape and dtype"),
};

static const kd_cmd INFO = {
    .name = "kd weights info",
    .operands = "PATH...",
    .about = "Describe weights: container, naming, SHA-256, parameters, the VideoMAE they belong to.",
    .args = INFO_ARGS,
    .arg_count = KD_COUNTOF(INFO_ARGS),
    .common = KD_COMMON_JSON,
    .min_operands = 1,
    .max_operands = -1,
    .notes = "PATH: a run or checkpoint directory, a safetensors file, a .pth/.pt/.bin of PyTorch, "
             "a\n"
             ".npz of NumPy, or a directory as Hugging Face writes it. Pickles are read without executing anything.",
};

static void shape_text(const kd_weight *t, char *buf, size_t cap)
{
    size_t n = (size_t)snprintf(buf, cap, "[");
    for (size_t k = 0; k < t->rank; k++) {
        n += (size_t)snprintf(buf + n, cap - n, "%s%lld", k > 0 ? ", " : "", (long long)t->dim[k]);
    }
    (void)snprintf(buf + n, cap - n, "]");
}

/* What the shapes say about the VideoMAE: width, depth, patch, classes. */
static void describe_videomae(const kd_weights *w, kd_json *out)
{
    const kd_weight *patch = kd_weights_find(w, "patch_embed.proj.weight");
    const kd_weight *head = kd_weights_find(w, "head.weight");
    const kd_weight *fc1 = kd_weights_find(w, "blocks.0.mlp.fc1.weight");
    if (!kd_weights_mapped(w) || patch == NULL || patch->rank != 5) {
        return;
    }
    int64_t depth = 0;
    for (;; depth++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blocks.%lld.norm1.weight", (long long)depth);
        if (kd_weights_find(w, name) == NULL) {
            break;
        }
    }
    kd_json *v = kd_json_set_object(out, "videomae");
    kd_json_set_i64(v, "dim", patch->dim[0]);
    kd_json_set_i64(v, "depth", depth);
    kd_json_set_i64(v, "mlp", fc1 != NULL && fc1->rank == 2 ? fc1->dim[0] : 0);
    kd_json_set_i64(v, "tubelet", patch->dim[2]);
    kd_json_set_i64(v, "patch", patch->dim[3]);
    kd_json_set_i64(v, "classes", head != NULL && head->rank == 2 ? head->dim[0] : 0);
    kd_json_set_bool(v, "mean_pooling", kd_weights_find(w, "fc_norm.weight") != NULL);
}

static kd_status describe(const char *path, const info_opts *o, kd_json *out, kd_err *err)
{
    const bool tensors = o->tensors;
    kd_weights *w = NULL;
    KD_TRY(kd_weights_open_key(path, o->key != NULL ? o->key : "", &kd_vit_names, &w, err));
    char sha[KD_SHA256_HEX];
    const kd_status st = kd_weights_sha256(w, sha, err);
    if (st == KD_OK) {
        int64_t elements = 0;
        int64_t bytes = 0;
        int64_t by_dtype[KD_ST_DTYPE_COUNT] = {0};
        for (size_t i = 0; i < kd_weights_count(w); i++) {
            const kd_weight *t = kd_weights_at(w, i);
            elements += (int64_t)t->count;
            bytes += (int64_t)t->bytes;
            by_dtype[t->dtype]++;
        }
        kd_json_set_str(out, "path", path);
        kd_json_set_str(out, "file", kd_weights_file(w));
        kd_json_set_str(out, "format", kd_weights_format(w));
        kd_json_set_str(out, "key", kd_weights_key(w));
        kd_json_set_str(out, "naming", kd_vit_names.dialect[kd_weights_dialect(w)]);
        kd_json_set_str(out, "sha256", sha);
        kd_json_set_i64(out, "tensors", (int64_t)kd_weights_count(w));
        kd_json_set_i64(out, "dropped", (int64_t)kd_weights_dropped(w));
        kd_json_set_i64(out, "elements", elements);
        kd_json_set_i64(out, "bytes", bytes);
        kd_json *d = kd_json_set_object(out, "dtypes");
        for (int k = 0; k < KD_ST_DTYPE_COUNT; k++) {
            if (by_dtype[k] > 0) {
                kd_json_set_i64(d, kd_st_dtype_name((kd_st_dtype)k), by_dtype[k]);
            }
        }
        describe_videomae(w, out);
        kd_json *list = tensors ? kd_json_set_array(out, "list") : NULL;
        for (size_t i = 0; list != NULL && i < kd_weights_count(w); i++) {
            const kd_weight *t = kd_weights_at(w, i);
            kd_json *e = kd_json_push_object(list);
            kd_json_set_str(e, "name", t->name);
            kd_json_set_str(e, "file_name", t->file_name);
            kd_json_set_str(e, "dtype", kd_st_dtype_name(t->dtype));
            kd_json_set_i64s(e, "shape", t->dim, t->rank);
        }
    }
    kd_weights_close(w);
    return st;
}

static void print_tensors(const char *path, const info_opts *o)
{
    kd_weights *w = NULL;
    if (kd_weights_open_key(path, o->key != NULL ? o->key : "", &kd_vit_names, &w, NULL) != KD_OK) {
        return; /* described a moment ago */
    }
    for (size_t i = 0; i < kd_weights_count(w); i++) {
        const kd_weight *t = kd_weights_at(w, i);
        char shape[192];
        shape_text(t, shape, sizeof shape);
        const bool renamed = strcmp(t->name, t->file_name) != 0;
        printf("  %-40s %-5s %s%s%s\n", KD_SHOWN(t->name), kd_st_dtype_name(t->dtype), shape, renamed ? "  <- " : "",
               renamed ? KD_SHOWN(t->file_name) : "");
    }
    kd_weights_close(w);
}

static int64_t member_i64(const kd_json *o, const char *key)
{
    int64_t v = 0;
    return kd_json_get_i64(o, key, &v, NULL) == KD_OK ? v : 0;
}

static const char *member_str(const kd_json *o, const char *key)
{
    const char *s = "";
    return kd_json_get_str(o, key, &s, NULL) == KD_OK ? s : "";
}

static void print_info(const kd_json *o)
{
    const char *key = member_str(o, "key");
    printf("%s\n", KD_SHOWN(member_str(o, "path")));
    printf("  file      %s (%s%s%s)\n", KD_SHOWN(member_str(o, "file")), member_str(o, "format"),
           key[0] != '\0' ? ", key " : "", KD_SHOWN(key));
    printf("  sha256    %s\n", member_str(o, "sha256"));
    printf("  tensors   %lld, %lld elements, %.1f MB", (long long)member_i64(o, "tensors"),
           (long long)member_i64(o, "elements"), (double)member_i64(o, "bytes") / 1e6);
    const kd_json *d = kd_json_get(o, "dtypes");
    for (size_t i = 0; i < kd_json_count(d); i++) {
        printf("%s%s", i == 0 ? ", " : " + ", kd_json_key(kd_json_at(d, i)));
    }
    printf("\n");
    const kd_json *v = kd_json_get(o, "videomae");
    if (v == NULL) {
        return;
    }
    printf("  naming    %s", member_str(o, "naming"));
    if (member_i64(o, "dropped") > 0) {
        printf(" (%lld tensors without meaning left out)", (long long)member_i64(o, "dropped"));
    }
    printf("\n");
    printf("  videomae  dim %lld, depth %lld, mlp %lld, patch %lldx%lldx%lld, classes %lld%s\n",
           (long long)member_i64(v, "dim"), (long long)member_i64(v, "depth"), (long long)member_i64(v, "mlp"),
           (long long)member_i64(v, "tubelet"), (long long)member_i64(v, "patch"), (long long)member_i64(v, "patch"),
           (long long)member_i64(v, "classes"),
           member_i64(v, "classes") == 0 ? " (no head: a pre-trained encoder)" : "");
}

static kd_status info(const info_opts *o, const kd_common *c, const kd_operands *in, kd_err *err)
{
    kd_status st = KD_OK;
    kd_json *all = kd_json_array();
    char *text = NULL;
    for (int i = 0; i < in->count; i++) {
        kd_json *one = kd_json_push_object(all);
        KD_GO(describe(in->item[i], o, one, err));
        if (c->json) {
            continue;
        }
        print_info(one);
        if (o->tensors) {
            print_tensors(in->item[i], o);
        }
    }
    if (c->json) {
        KD_GO(kd_json_dump(all, KD_JSON_PRETTY, &text, NULL, err));
        (void)fputs(text, stdout);
    }
done:
    kd_free(text);
    kd_json_free(all);
    return st;
}

static int kd_cmd_info(int argc, char **argv)
{
    info_opts o;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&INFO, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    return kd_cmd_end(&INFO, info(&o, &c, &in, &err), &err);
}

/* ---- diff ------------------------------------------------------------------------------------ */

typedef struct diff_opts {
    double tolerance;
} diff_opts;

static const kd_arg DIFF_ARGS[] = {
    KD_OPT_REAL(diff_opts, tolerance, "tolerance", "X", "0", 0, 1e30,
                "largest difference of an element that counts as equal"),
};

static const kd_cmd DIFF = {
    .name = "kd weights diff",
    .operands = "A B",
    .about = "Compare two sets of weights tensor by tensor; exit code 1 when they differ.",
    .args = DIFF_ARGS,
    .arg_count = KD_COUNTOF(DIFF_ARGS),
    .min_operands = 2,
    .max_operands = 2,
    .notes = "Names are compared after translation, values as f32, so containers and namings may "
             "differ.",
};

static bool same_shape(const kd_weight *a, const kd_weight *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0;
}

/* Largest |a - b| and where; NaN against NaN counts as equal, NaN against a number as infinite. */
static kd_status largest_difference(kd_weights *wa, const kd_weight *a, kd_weights *wb, const kd_weight *b,
                                    double *worst, size_t *at, kd_err *err)
{
    kd_status st = KD_OK;
    float *x = kd_alloc(a->count * sizeof *x + 1);
    float *y = kd_alloc(b->count * sizeof *y + 1);
    *worst = 0.0;
    *at = 0;
    if (x == NULL || y == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for %s", a->name);
        goto done;
    }
    KD_GO(kd_weights_read_f32(wa, a, x, err));
    KD_GO(kd_weights_read_f32(wb, b, y, err));
    for (size_t i = 0; i < a->count; i++) {
        if (x[i] == y[i] || (isnan(x[i]) && isnan(y[i]))) {
            continue;
        }
        double d = fabs((double)x[i] - (double)y[i]);
        if (isnan(d)) {
            d = (double)INFINITY;
        }
        if (d > *worst) {
            *worst = d;
            *at = i;
        }
    }
done:
    kd_free(x);
    kd_free(y);
    return st;
}

static size_t report_absent(const kd_weights *in, const kd_weights *from, const char *where)
{
    size_t n = 0;
    for (size_t i = 0; i < kd_weights_count(in); i++) {
        const char *name = kd_weights_at(in, i)->name;
        if (kd_weights_find(from, name) != NULL) {
            continue;
        }
        printf("only in %s  %s\n", where, KD_SHOWN(name));
        n++;
    }
    return n;
}

static kd_status diff(const diff_opts *o, const kd_operands *in, bool *differ, kd_err *err)
{
    kd_weights *a = NULL;
    kd_weights *b = NULL;
    kd_status st = KD_OK;
    size_t equal = 0;
    size_t other = 0;
    KD_GO(kd_weights_open(in->item[0], &kd_vit_names, &a, err));
    KD_GO(kd_weights_open(in->item[1], &kd_vit_names, &b, err));
    for (size_t i = 0; i < kd_weights_count(a); i++) {
        const kd_weight *x = kd_weights_at(a, i);
        const kd_weight *y = kd_weights_find(b, x->name);
        if (y == NULL) {
            continue;
        }
        if (!same_shape(x, y)) {
            char sx[192];
            char sy[192];
            shape_text(x, sx, sizeof sx);
            shape_text(y, sy, sizeof sy);
            printf("shape      %s  %s against %s\n", KD_SHOWN(x->name), sx, sy);
            other++;
            continue;
        }
        double worst = 0.0;
        size_t at = 0;
        KD_GO(largest_difference(a, x, b, y, &worst, &at, err));
        if (!(worst <= o->tolerance)) {
            printf("value      %s  largest difference %.6g at element %zu\n", KD_SHOWN(x->name), worst, at);
            other++;
        } else {
            equal++;
        }
    }
    other += report_absent(a, b, "A");
    other += report_absent(b, a, "B");
    printf("%zu tensors equal%s, %zu differ\n", equal, o->tolerance > 0 ? " within tolerance" : "", other);
    *differ = other > 0;
done:
    kd_weights_close(a);
    kd_weights_close(b);
    return st;
}

static int kd_cmd_diff(int argc, char **argv)
{
    diff_opts o;
    kd_operands in;
    const int rc = kd_args_parse(&DIFF, argc, argv, &o, NULL, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    bool differ = false;
    const kd_status st = diff(&o, &in, &differ, &err);
    return st == KD_OK && differ ? 1 : kd_cmd_end(&DIFF, st, &err);
}

int kd_cmd_weights(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"info", kd_cmd_info, "container, naming, hash, parameters, model"},
        {"convert", kd_cmd_weights_convert, "other names, another container or dtype"},
        {"average", kd_cmd_weights_average, "the mean of several checkpoints"},
        {"diff", kd_cmd_diff, "compare two sets of weights"},
        {"zoo", kd_cmd_weights_zoo, "the weights that others publish"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd weights", "Describe, convert and compare weights.", VERBS, argc, argv);
}
