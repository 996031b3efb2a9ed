/* kd parity: run every fixture that is found and compare with its golden values (parity.h). */
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/device.h"
#include "tools/parity/parity.h"

#include <stdio.h>

/* ---- which checker --------------------------------------------------------------------------- */

/* A fixture is known by the keys of its document: all of `keys` at the top, and `member` in one
 * of the objects at the top.  The first row that fits wins. */
typedef struct kind {
    const char *name;
    kd_parity_checker run;
    const char *keys[4];
    const char *member;
} kind;

static const kind KINDS[] = {
    {"teacher model", kd_parity_vit_tiny, {"config", "losses", "grads", "params"}, NULL},
    {"teacher forward pass", kd_parity_vit_full, {"act_norms_f64", "params", "input", NULL}, NULL},
    {"teacher training", kd_parity_vit_traj, {"config", "history", "final", "layer_decay"}, NULL},
    {"layer-wise learning rates", kd_parity_layer_decay, {"layer_decay", "depth", "params", NULL}, NULL},
    {"learning rate schedules", kd_parity_cosine, {NULL}, "args"},
    {"position tables", kd_parity_sinusoid, {NULL}, "crc32_bytes"},
    {"frame sampling", kd_parity_sampling, {"test_seg5_starts_in_strided_list", NULL}, NULL},
    {"picture sizes and crops", kd_parity_spatial, {NULL}, "resized_h"},
    {"resized pictures", kd_parity_resize, {NULL}, "in_hw"},
    {"merging of views", kd_parity_merge, {"logits", "prob", "score", NULL}, NULL},
    {"PyTorch files", kd_parity_pth, {"keys", "shapes", "crc32", "pretrain_keys"}, NULL},
    {"distillation losses", kd_parity_losses, {"losses", "inputs", "student_dim", "teacher_dim"}, NULL},
    {"LAST losses", kd_parity_student_losses, {"student", "teacher", "values_f64", "perm"}, NULL},
    {"student model", kd_parity_student, {"family", "variant", "param_order", "tensors"}, NULL},
};

static bool fits(const kind *k, const kd_json *doc)
{
    for (size_t i = 0; i < KD_COUNTOF(k->keys) && k->keys[i] != NULL; i++) {
        if (kd_json_get(doc, k->keys[i]) == NULL) {
            return false;
        }
    }
    bool found = k->member == NULL;
    for (size_t i = 0; i < kd_json_count(doc) && !found; i++) {
        found = kd_json_get(kd_json_at(doc, i), k->member) != NULL;
    }
    return found;
}

static const kind *classify(const kd_json *doc)
{
    for (size_t i = 0; i < KD_COUNTOF(KINDS) && kd_json_type_of(doc) == KD_JSON_OBJECT; i++) {
        if (fits(&KINDS[i], doc)) {
            return &KINDS[i];
        }
    }
    return NULL;
}

/* ---- the walk -------------------------------------------------------------------------------- */

enum { DIRS_MAX = 4096 };

typedef struct walk {
    kd_backend *be;
    kd_dtype dtype;
    bool json, quiet;
    int fixtures, items, failed, not_covered, unusable;
    int covered_here; /* of the present operand */
    kd_err first;     /* what made the first unusable fixture so */
} walk;

static void headline(const walk *w, const char *dir, const char *what, const char *why)
{
    if (!w->json) {
        printf("%s%s: %s%s%s\n", w->fixtures > 0 ? "\n" : "", dir, what, why[0] != '\0' ? ": " : "", why);
    }
}

static void run_fixture(walk *w, const char *dir, const char *file, const char *name, kd_parity_checker run,
                        const kd_json *doc)
{
    kd_err err = {0};
    char label[1024];
    const bool plain = strcmp(file, "manifest.json") == 0;
    (void)snprintf(label, sizeof label, "%s%s%s", dir, plain ? "" : "/", plain ? "" : file);
    parity p = {.dir = dir, .label = label, .manifest = doc, .be = w->be, .dtype = w->dtype, .json = w->json};
    const double start = kd_now();
    headline(w, label, name, "");
    const kd_status st = run(&p, &err);
    w->fixtures++;
    w->covered_here++;
    w->items += p.items;
    w->failed += p.failed;
    if (st == KD_E_UNSUPPORTED) {
        w->covered_here--;
        w->fixtures--;
        w->not_covered++;
        headline(w, label, "not covered", err.msg);
        return;
    }
    if (st != KD_OK) {
        w->unusable++;
        headline(w, label, "could not be run", err.msg);
        kd_log(KD_LOG_ERROR, "%s: %s", label, err.msg);
        if (w->first.code == KD_OK) {
            w->first = err;
            w->first.code = st;
        }
    } else if (!w->json) {
        printf("%s: %d items, %d failed, %.1f s\n", label, p.items, p.failed, kd_now() - start);
    }
    (void)fflush(stdout);
}

/* One JSON document of a directory; *known: it was a fixture or a manifest. */
static void visit_json(walk *w, const char *dir, const char *file, bool *known)
{
    kd_err err = {0};
    kd_json *doc = NULL;
    char *path = kd_path_join(dir, file);
    if (path == NULL || kd_json_load(path, &doc, &err) != KD_OK) {
        w->unusable++;
        headline(w, dir, "could not be read", err.msg);
        kd_log(KD_LOG_ERROR, "%s", err.msg);
        if (w->first.code == KD_OK) {
            w->first = err;
            w->first.code = err.code != KD_OK ? err.code : KD_E_OOM;
        }
    } else {
        const kind *k = classify(doc);
        if (k != NULL) {
            *known = true;
            run_fixture(w, dir, file, k->name, k->run, doc);
        } else if (strcmp(file, "manifest.json") == 0) {
            *known = true;
            w->not_covered++;
            headline(w, dir, "not covered", "");
        }
    }
    kd_json_free(doc);
    kd_free(path);
}

/* Tables without a manifest are known by their tensors. */
static bool is_constants(const char *path)
{
    kd_st_file *f = NULL;
    const bool yes = kd_st_open(path, &f, NULL) == KD_OK && kd_st_find(f, "semantic_raw") != NULL;
    kd_st_close(f);
    return yes;
}

static kd_status visit_dir(walk *w, const char *dir, char **pending, int *n_pending, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    bool known = false;
    kd_status st = kd_io_list_dir(dir, &names, &n, err);
    for (size_t i = 0; st == KD_OK && i < n; i++) {
        if (kd_path_has_suffix(names[i], ".json")) {
            visit_json(w, dir, names[i], &known);
        }
    }
    for (size_t i = 0; st == KD_OK && i < n; i++) {
        char *path = kd_path_join(dir, names[i]);
        if (path == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        } else if (!known && kd_path_has_suffix(path, ".safetensors") && is_constants(path)) {
            run_fixture(w, dir, names[i], "graph constants", kd_parity_constants, NULL);
        } else if (kd_path_is_dir(path) && *n_pending < DIRS_MAX) {
            pending[(*n_pending)++] = path;
            path = NULL;
        }
        kd_free(path);
    }
    kd_free(names);
    return st;
}

/* Depth first, names in order: what was pushed last is turned round. */
static kd_status visit_tree(walk *w, const char *root, kd_err *err)
{
    int n = 1;
    char **pending = kd_calloc(DIRS_MAX, sizeof *pending);
    kd_status st = pending != NULL && (pending[0] = kd_strdup(root)) != NULL ? KD_OK : KD_E_OOM;
    w->covered_here = 0;
    while (st == KD_OK && n > 0) {
        char *dir = pending[--n];
        const int from = n;
        st = visit_dir(w, dir, pending, &n, err);
        for (int a = from, b = n - 1; a < b; a++, b--) {
            char *t = pending[a];
            pending[a] = pending[b];
            pending[b] = t;
        }
        kd_free(dir);
    }
    while (pending != NULL && n > 0) {
        kd_free(pending[--n]);
    }
    kd_free(pending);
    if (st == KD_OK && w->covered_here == 0 && w->unusable == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: no fixture that this build covers (expected a directory with manifest.json)",
                     root);
    }
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void summary(const walk *w)
{
    if (w->json) {
        printf("{\"fixtures\":%d,\"items\":%d,\"failed\":%d,\"not_covered\":%d,\"unusable\":%d}\n", w->fixtures,
               w->items, w->failed, w->not_covered, w->unusable);
        return;
    }
    printf("\n%d fixtures on %s in %s: %d items compared, %d failed; %d not covered by this build, "
           "%d unusable\n",
           w->fixtures, w->be->ops->name, kd_dtype_name(w->dtype), w->items, w->failed, w->not_covered, w->unusable);
}

int kd_cmd_parity(int argc, char **argv)
{
    static const kd_cmd CMD = {
        .name = "kd parity",
        .operands = "DIR...",
        .about = "Build what a fixture describes, run it, compare with its golden values.\n"
                 "A fixture is a directory with a manifest.json and safetensors; a folder of "
                 "fixtures may be given.\n"
                 "One line per compared item: name, error, allowed, ok or FAIL.  Exit code 1 if "
                 "any item fails.",
        .common = KD_COMMON_COMPUTE | KD_COMMON_JSON,
        .min_operands = 1,
        .max_operands = -1,
        .notes = "allowed, f32: 10 x the difference between the reference's own f32 and f64 runs, "
                 "at least 16 x 2^-24 x\n"
                 "the largest value.  bf16: 2^16 x that difference, at least 8 x 2^-8 x the "
                 "largest value.  A NaN never passes.",
    };
    kd_common common;
    kd_operands in;
    const int rc = kd_args_parse(&CMD, argc, argv, NULL, &common, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    const kd_device_opts device = kd_device_from(&common);
    walk w = {.json = common.json, .dtype = device.dtype};
    kd_status st = KD_OK;
    KD_GO(kd_device_open(&device, &w.be, &err));
    for (int i = 0; i < in.count; i++) {
        KD_GO(visit_tree(&w, in.item[i], &err));
    }
    summary(&w);
    if (w.failed == 0 && w.unusable > 0) {
        st = w.first.code;
        err = w.first;
    }
done:
    kd_backend_close(w.be);
    if (st == KD_OK && w.failed > 0) {
        return 1;
    }
    return kd_cmd_end(&CMD, st, &err);
}
