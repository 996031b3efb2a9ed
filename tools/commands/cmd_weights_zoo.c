/* kd weights zoo: the weights that others publish, and which of them a file is. */
#include "formats/weights/weights.h"
#include "teacher/model/vit_names.h"
#include "teacher/model/zoo.h"
#include "tools/commands/commands.h"
#include "tools/print.h"

#include <stdio.h>

typedef struct zoo_opts {
    const char *check;
} zoo_opts;

static const kd_arg ZOO_ARGS[] = {
    KD_OPT_STR(zoo_opts, check, "check", "PATH", NULL, "say which entry these weights are, by hash and by shape"),
};

static const kd_cmd ZOO = {
    .name = "kd weights zoo",
    .operands = "[NAME]",
    .about = "List the VideoMAE weights that others publish: sizes, training, licence, where they are to be had.",
    .args = ZOO_ARGS,
    .arg_count = KD_COUNTOF(ZOO_ARGS),
    .common = KD_COMMON_JSON,
    .max_operands = 1,
    .notes =
        "Nothing is fetched.  A hash stands where the publisher gives one, MMAction2 the first eight digits, else\n"
        "'unknown'.  --check ends with 1 when the weights fit no entry (with NAME: not this one).",
};

static const char *or_unknown(const char *text)
{
    return text[0] != '\0' ? text : "unknown";
}

/* ---- the list -------------------------------------------------------------------------------- */

static void put_entry(kd_json *o, const kd_zoo_entry *e)
{
    const kd_teacher_info *t = kd_teacher_find(e->variant);
    kd_json_set_str(o, "name", e->name);
    kd_json_set_str(o, "variant", e->variant);
    kd_json_set_i64(o, "classes", e->classes);
    kd_json_set_i64(o, "parameters", kd_zoo_parameters(t, e->classes));
    kd_json_set_i64(o, "dim", t->dim);
    kd_json_set_i64(o, "depth", t->depth);
    kd_json_set_i64(o, "heads", t->heads);
    kd_json_set_i64(o, "img_size", t->img_size);
    kd_json_set_i64(o, "frames", t->frames);
    kd_json_set_str(o, "data", e->data);
    kd_json_set_str(o, "layout", e->layout);
    kd_json_set_str(o, "file", or_unknown(e->file));
    kd_json_set_str(o, "sha256", or_unknown(e->sha256));
    kd_json_set_str(o, "top1", or_unknown(e->top1));
    kd_json_set_str(o, "licence", e->licence);
    kd_json_set_str(o, "where", e->page);
}

static void print_entry(const kd_zoo_entry *e)
{
    const kd_teacher_info *t = kd_teacher_find(e->variant);
    printf("%s\n  model     VideoMAE %s: dim %d, depth %d, heads %d, patch %d, %d frames of %d pixels\n", e->name,
           e->variant, t->dim, t->depth, t->heads, t->patch, t->frames, t->img_size);
    printf("  weights   %lld parameters, ", (long long)kd_zoo_parameters(t, e->classes));
    printf(e->classes > 0 ? "%d classes" : "no head", e->classes);
    printf(", %s names\n  trained   %s\n", e->layout, e->data);
    printf("  top-1     %s\n  file      %s\n  sha256    %s%s\n  licence   %s\n  where     %s\n", or_unknown(e->top1),
           or_unknown(e->file), or_unknown(e->sha256),
           e->sha256[0] != '\0' && strlen(e->sha256) < KD_SHA256_HEX - 1 ? "..." : "", e->licence, e->page);
}

static void print_row(const kd_zoo_entry *e)
{
    char classes[12] = "-";
    if (e->classes > 0) {
        (void)snprintf(classes, sizeof classes, "%d", e->classes);
    }
    printf("%-30s %-4s %7s %13lld  %-9s  %-12s  %s\n", e->name, e->variant, classes,
           (long long)kd_zoo_parameters(kd_teacher_find(e->variant), e->classes), e->layout, e->licence, e->page);
}

static kd_status list(const char *name, bool json, kd_err *err)
{
    const kd_zoo_entry *one = name != NULL ? kd_zoo_find(name) : NULL;
    if (name != NULL && one == NULL) {
        return KD_FAIL(err, KD_E_ARG, "%s: no entry of the zoo has this name; `kd weights zoo` lists them", name);
    }
    if (json) {
        kd_json *all = one != NULL ? kd_json_object() : kd_json_array();
        if (one != NULL) {
            put_entry(all, one);
        }
        for (int i = 0; one == NULL && kd_zoo_at(i) != NULL; i++) {
            put_entry(kd_json_push_object(all), kd_zoo_at(i));
        }
        return kd_print_json(all, err);
    }
    if (one != NULL) {
        print_entry(one);
        return KD_OK;
    }
    printf("%-30s %-4s %7s %13s  %-9s  %-12s  %s\n", "name", "size", "classes", "parameters", "names", "licence",
           "where");
    for (int i = 0; kd_zoo_at(i) != NULL; i++) {
        print_row(kd_zoo_at(i));
    }
    return KD_OK;
}

/* ---- which one is a file --------------------------------------------------------------------- */

/* What the shapes of weights say. */
typedef struct found {
    const kd_teacher_info *size; /* NULL: none of the published */
    int64_t dim, depth, hidden, patch;
    int classes; /* 0: no head */
    char sha[KD_SHA256_HEX];
} found;

static int64_t dim_of(const kd_weights *w, const char *name, size_t rank, size_t which)
{
    const kd_weight *t = kd_weights_find(w, name);
    return t != NULL && t->rank == rank ? t->dim[which] : 0;
}

static void measure(const kd_weights *w, found *f)
{
    char name[64];
    f->dim = dim_of(w, "patch_embed.proj.weight", 5, 0);
    f->patch = dim_of(w, "patch_embed.proj.weight", 5, 3);
    f->hidden = dim_of(w, "blocks.0.mlp.fc1.weight", 2, 0);
    f->classes = (int)dim_of(w, "head.weight", 2, 0);
    for (f->depth = 0; f->depth < 1000; f->depth++) {
        (void)snprintf(name, sizeof name, "blocks.%d.norm1.weight", (int)f->depth);
        if (kd_weights_find(w, name) == NULL) {
            break;
        }
    }
    for (int i = 0; kd_teacher_at(i) != NULL; i++) {
        const kd_teacher_info *t = kd_teacher_at(i);
        if (t->dim == f->dim && t->depth == f->depth && t->mlp_hidden == f->hidden && t->patch == f->patch) {
            f->size = t;
        }
    }
}

typedef enum verdict { OTHER, DIFFERS, MAY_BE, IS } verdict;

static verdict judge(const found *f, const kd_zoo_entry *e)
{
    if (f->size == NULL || strcmp(f->size->name, e->variant) != 0 || f->classes != e->classes) {
        return OTHER;
    }
    return e->sha256[0] == '\0' ? MAY_BE : strncmp(f->sha, e->sha256, strlen(e->sha256)) == 0 ? IS : DIFFERS;
}

static void say(const found *f, const char *path, const char *name, int count[4])
{
    static const char *const TEXT[] = {
        [IS] = "is", [MAY_BE] = "may be (the shapes fit, no hash is published)", [DIFFERS] = "is not (another hash)"};
    printf("%s\n  sha256  %s\n  shapes  dim %lld, depth %lld, mlp %lld, patch %lld, classes %d", KD_SHOWN(path), f->sha,
           (long long)f->dim, (long long)f->depth, (long long)f->hidden, (long long)f->patch, f->classes);
    printf("%s%s\n", f->size != NULL ? ": VideoMAE " : ": no published size", f->size != NULL ? f->size->name : "");
    for (int v = IS; v >= DIFFERS; v--) {
        for (int i = 0; kd_zoo_at(i) != NULL; i++) {
            const kd_zoo_entry *e = kd_zoo_at(i);
            if ((name == NULL || strcmp(e->name, name) == 0) && (int)judge(f, e) == v) {
                printf("%s %s\n", TEXT[v], e->name);
                count[v]++;
            }
        }
    }
    if (count[IS] + count[MAY_BE] + count[DIFFERS] == 0) {
        printf("fits %s\n", name != NULL ? "this entry not: another shape" : "no entry of the zoo");
    }
}

static kd_status say_json(const found *f, const char *path, const char *name, int count[4], kd_err *err)
{
    static const char *const KEY[] = {[IS] = "is", [MAY_BE] = "may_be", [DIFFERS] = "is_not"};
    kd_json *o = kd_json_object();
    kd_json_set_str(o, "path", path);
    kd_json_set_str(o, "sha256", f->sha);
    kd_json_set_str(o, "variant", f->size != NULL ? f->size->name : "unknown");
    kd_json_set_i64(o, "classes", f->classes);
    for (int v = IS; v >= DIFFERS; v--) {
        kd_json *names = kd_json_set_array(o, KEY[v]);
        for (int i = 0; kd_zoo_at(i) != NULL; i++) {
            const kd_zoo_entry *e = kd_zoo_at(i);
            if ((name == NULL || strcmp(e->name, name) == 0) && (int)judge(f, e) == v) {
                kd_json_push_str(names, e->name);
                count[v]++;
            }
        }
    }
    return kd_print_json(o, err);
}

static kd_status check(const char *path, const char *name, bool json, bool *fits, kd_err *err)
{
    kd_weights *w = NULL;
    found f = {.size = NULL};
    int count[4] = {0};
    kd_status st = KD_OK;
    if (name != NULL && kd_zoo_find(name) == NULL) {
        return list(name, json, err); /* refuses the name */
    }
    KD_GO(kd_weights_open(path, &kd_vit_names, &w, err));
    if (!kd_weights_mapped(w)) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected weights of a VideoMAE, found none of its tensors", path);
        goto done;
    }
    KD_GO(kd_weights_sha256(w, f.sha, err));
    measure(w, &f);
    if (json) {
        st = say_json(&f, path, name, count, err);
    } else {
        say(&f, path, name, count);
    }
    *fits = count[IS] + count[MAY_BE] > 0;
done:
    kd_weights_close(w);
    return st;
}

int kd_cmd_weights_zoo(int argc, char **argv)
{
    zoo_opts o;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&ZOO, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    bool fits = true;
    const char *name = in.count > 0 ? in.item[0] : NULL;
    const kd_status st = o.check != NULL ? check(o.check, name, c.json, &fits, &err) : list(name, c.json, &err);
    return st == KD_OK && !fits ? 1 : kd_cmd_end(&ZOO, st, &err);
}
