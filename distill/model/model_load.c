/* Weights into a model: every tensor accounted for.  See model.h. */
#include "distill/model/model.h"
#include "distill/model/task.h"
#include "formats/base/io.h"
#include "formats/weights/weights.h"

#include <math.h>
#include <stdio.h>

static void note(char *list, size_t size, const char *name)
{
    const size_t n = strlen(list);
    if (n + strlen(name) + 8 < size) {
        (void)snprintf(list + n, size - n, "%s%s", n != 0 ? ", " : "", name);
    } else if (n + 5 < size && strcmp(list + n - 3, "...") != 0) {
        (void)snprintf(list + n, size - n, ", ...");
    }
}

static bool is_head(const kd_model *m, const char *name)
{
    return m->task->is_head(name);
}

/* What only distillation adds to the model. */
static bool is_added(const char *name)
{
    return strncmp(name, "kd.", 3) == 0;
}

/* Tensors that a pre-trained file may lack. */
static bool may_be_fresh(const kd_model *m, const char *name)
{
    return is_added(name) || m->task->may_be_fresh(name);
}

static bool same_shape(const kd_weight *w, const kd_param_info *e)
{
    if (w->count != (size_t)e->numel || w->rank != (size_t)e->shape.rank) {
        return false;
    }
    for (size_t d = 0; d < w->rank; d++) {
        if (w->dim[d] != e->shape.dim[d]) {
            return false;
        }
    }
    return true;
}

/* How the classifier of the file is taken. */
typedef enum head_use { HEAD_EXACT, HEAD_IF_IT_FITS, HEAD_FRESH } head_use;

/* A load under way. */
typedef struct load {
    kd_model *m;
    kd_weights *w;
    head_use head;
    kd_load_report *r;
    int64_t backbone, found; /* parameters of the body: all, and those that the file holds */
} load;

static void list(kd_load_report *r, const char *which, const char *name)
{
    kd_json *l = (kd_json *)(uintptr_t)kd_json_get(r->keys, which);
    kd_json_push_str(l, name);
    kd_log(KD_LOG_VERBOSE, "weights: %s %s", which, name);
}

static bool of_backbone(const kd_model *m, const char *name)
{
    return !is_head(m, name) && !may_be_fresh(m, name);
}

static kd_status put_values(const load *l, int i, const float *v, kd_err *err)
{
    const kd_param_info *e = kd_params_at(l->m->params, i);
    for (int64_t k = 0; k < e->numel; k++) {
        if (!isfinite(v[k])) {
            return KD_FAIL(err, KD_E_NUMERIC, "%s: tensor %s: expected finite values, found %g at %lld",
                           kd_weights_file(l->w), e->name, (double)v[k], (long long)k);
        }
    }
    return kd_params_write(l->m->params, i, v, e->numel) == KD_OK
               ? KD_OK
               : KD_FAIL(err, KD_E_DEVICE, "weights: %s cannot be written to the device", e->name);
}

/* The rows of a head of more classes: out[i] = in[row[i]]. */
static bool cut_head(const load *l, const kd_param_info *e, const kd_weight *t, const float *in, float *out)
{
    const kd_model *m = l->m;
    if (m->head_row == NULL || !is_head(m, e->name) || t->rank != (size_t)e->shape.rank || t->dim[0] != m->head_of) {
        return false;
    }
    const size_t row = t->count / (size_t)t->dim[0];
    if (row * (size_t)m->classes != (size_t)e->numel) {
        return false;
    }
    for (int i = 0; i < m->classes; i++) {
        memcpy(out + (size_t)i * row, in + (size_t)m->head_row[i] * row, row * sizeof *out);
    }
    return true;
}

/* The parameter of a tensor of another shape; *done false: there is no such reading. */
static kd_status reshape(const load *l, const kd_param_info *e, const kd_weight *t, const float *in, float *out,
                         bool *done)
{
    const kd_task *task = l->m->task;
    *done = cut_head(l, e, t, in, out);
    return *done || task->reshape == NULL ? KD_OK : task->reshape(l->m, e->name, t->dim, t->rank, in, out, done);
}

/* Read a tensor, of our shape or of one that can be made ours. */
static kd_status take(const load *l, const kd_weight *t, int i, bool same, bool *done, kd_err *err)
{
    const kd_param_info *e = kd_params_at(l->m->params, i);
    kd_status st = KD_OK;
    float *v = kd_alloc(t->count * sizeof *v + 1), *own = same ? NULL : kd_alloc((size_t)e->numel * sizeof *own);
    if (v == NULL || (own == NULL && !same)) {
        st = KD_FAIL(err, KD_E_OOM, "weights: out of memory for %s", e->name);
        goto done;
    }
    KD_GO(kd_weights_read_f32(l->w, t, v, err));
    *done = same;
    if (!same) {
        st = reshape(l, e, t, v, own, done);
        if (st != KD_OK) {
            st = KD_FAIL(err, st, "weights: out of memory for %s", e->name);
            goto done;
        }
    }
    st = *done ? put_values(l, i, same ? v : own, err) : KD_OK;
done:
    kd_free(v);
    kd_free(own);
    return st;
}

static kd_status leave_fresh(load *l, const kd_param_info *e, const char *which)
{
    *(strcmp(which, "missing") == 0 ? &l->r->missing : &l->r->reshaped) += 1;
    note(l->r->fresh_names, sizeof l->r->fresh_names, e->name);
    list(l->r, which, e->name);
    return KD_OK;
}

static kd_status refuse_shape(const load *l, const kd_param_info *e, const kd_weight *t, kd_err *err)
{
    char want[KD_SHAPE_TEXT_MAX], found[KD_SHAPE_TEXT_MAX];
    kd_shape have = {(int32_t)KD_MIN(t->rank, KD_MAX_RANK), {0}};
    for (int d = 0; d < have.rank; d++) {
        have.dim[d] = t->dim[d];
    }
    return KD_FAIL(err, KD_E_DATA, "%s: tensor %s: expected %s, found %s", kd_weights_file(l->w), e->name,
                   kd_shape_text(&e->shape, want, sizeof want), kd_shape_text(&have, found, sizeof found));
}

static kd_status load_one(load *l, int i, kd_err *err)
{
    const kd_param_info *e = kd_params_at(l->m->params, i);
    const kd_weight *t = kd_weights_find(l->w, e->name);
    const bool start = l->head != HEAD_EXACT, head = is_head(l->m, e->name), body = of_backbone(l->m, e->name);
    char want[KD_SHAPE_TEXT_MAX];
    bool done = false;
    l->backbone += body ? e->numel : 0;
    l->r->file_classes = t != NULL && head && t->rank > 0 ? (int)t->dim[0] : l->r->file_classes;
    if (t != NULL && l->head == HEAD_FRESH && head) {
        return leave_fresh(l, e, "reshaped");
    }
    if (t == NULL) {
        const bool table = l->m->task->table != NULL && strcmp(e->name, l->m->task->table) == 0; /* was asked for */
        /* how much of the body may be missing is judged when all of the body has been seen */
        const bool fresh = is_added(e->name) || (start && !table && (!body || l->m->task->match_key != NULL));
        if (!fresh && kd_weights_find(l->w, "int8.0.weight") != NULL) {
            return KD_FAIL(
                err, KD_E_DATA,
                "%s: expected weights in floating point, found those of `distill export --int8`, which liblast "
                "and `distill predict` read; give the run that was exported",
                kd_weights_file(l->w));
        }
        return fresh ? leave_fresh(l, e, "missing")
                     : KD_FAIL(err, KD_E_DATA, "%s: tensor %s %s is missing", kd_weights_file(l->w), e->name,
                               kd_shape_text(&e->shape, want, sizeof want));
    }
    const bool same = same_shape(t, e);
    KD_TRY(take(l, t, i, same, &done, err));
    if (!done) {
        return start && head && l->m->head_row == NULL ? leave_fresh(l, e, "reshaped") : refuse_shape(l, e, t, err);
    }
    l->found += body ? e->numel : 0;
    l->r->matched++;
    if (!same) {
        l->r->reshaped++;
        list(l->r, "reshaped", e->name);
    }
    return KD_OK;
}

/* ---- class names ----------------------------------------------------------------------------- */

/* Names that say no more than the label's number: "class-3", "LABEL_3", "A004". */
static bool is_number(const char *name, int label)
{
    static const char *const FORM[] = {"class-%d", "class %d", "class_%d", "LABEL_%d", "%d"};
    char text[40];
    for (size_t i = 0; i < KD_COUNTOF(FORM); i++) {
        (void)snprintf(text, sizeof text, FORM[i], label);
        if (strcmp(text, name) == 0) {
            return true;
        }
    }
    (void)snprintf(text, sizeof text, "A%03d", label + 1);
    return strcmp(text, name) == 0;
}

static bool all_numbers(const char *const *name, int n)
{
    int i = 0;
    while (i < n && is_number(name[i], i)) {
        i++;
    }
    return i == n;
}

static bool same_set(const char *const *a, char *const *b, int n)
{
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < n && strcmp(a[i], b[k]) != 0) {
            k++;
        }
        if (k == n) {
            return false;
        }
    }
    return true;
}

/* Whether the classes of the weights are those of the data set; `text` says what is not. */
static bool classes_differ(const kd_model *m, const char *const *theirs, char *const *ours, const char *file,
                           char *text, size_t size)
{
    const int n = m->classes;
    if (all_numbers(theirs, n) != all_numbers((const char *const *)ours, n)) {
        kd_log(KD_LOG_INFO, "%s: %s, so that the class names cannot be compared", file,
               all_numbers(theirs, n) ? "the weights number their classes" : "the data set numbers its classes");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (strcmp(theirs[i], ours[i]) != 0) {
            (void)snprintf(text, size, "class %d is '%.60s' in the weights, '%.60s' in the data set%s", i, theirs[i],
                           ours[i], same_set(theirs, ours, n) ? " (the same names in another order)" : "");
            return true;
        }
    }
    return false;
}

/* Whether the classifier of the file has as many rows as that of the model. */
static bool head_fits(const kd_model *m, const kd_weights *w)
{
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_info *e = kd_params_at(m->params, i);
        const kd_weight *t = kd_weights_find(w, e->name);
        if (t != NULL && is_head(m, e->name) && same_shape(t, e)) {
            return true;
        }
    }
    return false;
}

static kd_status compare_classes(kd_model *m, const kd_weights *w, char *const *ours, head_use *head, kd_err *err)
{
    char text[300];
    const kd_json *list = kd_json_get(kd_weights_meta(w), "classes");
    const size_t named = kd_json_type_of(list) == KD_JSON_ARRAY ? kd_json_count(list) : 0;
    if (named > 0 && named != (size_t)m->classes && head_fits(m, w)) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected as many class names as the classifier has classes, %d, found %zu",
                       kd_weights_file(w), m->classes, named);
    }
    if (ours == NULL || named != (size_t)m->classes) {
        return KD_OK; /* the size of the head says the rest */
    }
    const char **theirs = kd_calloc((size_t)m->classes, sizeof *theirs);
    if (theirs == NULL) {
        return KD_FAIL(err, KD_E_OOM, "weights: out of memory");
    }
    kd_status st = KD_OK;
    for (int i = 0; i < m->classes; i++) {
        KD_GO(kd_json_as_str(kd_json_at(list, (size_t)i), &theirs[i], err));
    }
    if (classes_differ(m, theirs, ours, kd_weights_file(w), text, sizeof text)) {
        if (*head == HEAD_EXACT) {
            st = KD_FAIL(err, KD_E_DATA, "%s: %s; see classes.txt and data.classes", kd_weights_file(w), text);
            goto done;
        }
        kd_log(KD_LOG_WARN, "%s: %s: the classifier starts fresh", kd_weights_file(w), text);
        *head = HEAD_FRESH;
    }
done:
    kd_free(theirs);
    return st;
}

/* Of .../checkpoints/best/model.safetensors. */
static bool of_best(const kd_weights *w)
{
    char *dir = kd_path_dir(kd_weights_file(w));
    const bool best = dir != NULL && strcmp(kd_weights_format(w), "checkpoint") == 0 &&
                      (strcmp(kd_path_base(dir), "best") == 0 || strcmp(kd_path_base(dir), "best.prev") == 0);
    kd_free(dir);
    return best;
}

/* What a checkpoint says of how it was chosen. */
static kd_status read_selection(const kd_weights *w, kd_load_report *r, kd_err *err)
{
    const char *half = NULL, *phase = NULL;
    if (kd_weights_meta(w) == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_opt_str(kd_weights_meta(w), "selected_on", "val", &half, err));
    KD_TRY(kd_json_opt_str(kd_weights_meta(w), "phase", "", &phase, err));
    (void)snprintf(r->selected_on, sizeof r->selected_on, "%s", half);
    (void)snprintf(r->phase, sizeof r->phase, "%s", phase);
    return KD_OK;
}

/* Equal but for their numbers: blocks.3.norm1.weight, blocks.11.norm1.weight. */
static bool same_kind(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        const size_t i = strspn(a, "0123456789"), k = strspn(b, "0123456789");
        if ((i > 0) != (k > 0) || (i == 0 && *a != *b)) {
            return false;
        }
        a += i > 0 ? i : 1;
        b += k > 0 ? k : 1;
    }
    return *a == *b;
}

static bool is_one_more(kd_params *p, const char *name)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        if (same_kind(kd_params_at(p, i)->name, name)) {
            return true;
        }
    }
    return false;
}

/* What the file holds and the model has no place for. */
static kd_status find_unexpected(load *l, kd_err *err)
{
    const kd_task *task = l->m->task;
    for (size_t i = 0; i < kd_weights_count(l->w); i++) {
        const char *name = kd_weights_at(l->w, i)->name;
        const bool constant = task->is_constant != NULL && task->is_constant(l->m, name);
        if (kd_params_find(l->m->params, name) >= 0 || is_added(name) || constant) {
            continue;
        }
        if (task->table != NULL && strcmp(name, task->table) == 0) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s: holds a table %s of its own, which the model of the recipe does not read; set %s",
                           kd_weights_file(l->w), name, task->table_key);
        }
        if (l->head == HEAD_EXACT && is_one_more(l->m->params, name)) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s: expected no more layers than the recipe's model has, found %s; give the recipe of "
                           "these weights",
                           kd_weights_file(l->w), name);
        }
        l->r->unexpected++;
        note(l->r->unexpected_names, sizeof l->r->unexpected_names, name);
        list(l->r, "unexpected", name);
    }
    return KD_OK;
}

/* Is there enough of the backbone, and is what the recipe asks of the head there? */
static kd_status judge(const load *l, kd_err *err)
{
    const kd_load_report *r = l->r;
    const kd_model *m = l->m;
    if (r->matched == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: no tensor belongs to model %s (the file starts with %s)",
                       kd_weights_file(l->w), m->name,
                       kd_weights_count(l->w) != 0 ? kd_weights_at(l->w, 0)->name : "nothing");
    }
    if (!(r->share >= m->min_match) && l->head != HEAD_EXACT) {
        return KD_FAIL(
            err, KD_E_DATA,
            "%s: holds %.1f %% of the backbone's parameters, %s asks for %g %%; first missing: %s; not used: %s",
            kd_weights_file(l->w), 100.0 * r->share, m->task->match_key, 100.0 * m->min_match, r->fresh_names,
            r->unexpected_names[0] != '\0' ? r->unexpected_names : "nothing");
    }
    bool head = false;
    for (int i = 0; i < kd_params_count(m->params) && m->head_row != NULL; i++) {
        const char *name = kd_params_at(m->params, i)->name;
        head = head || (is_head(m, name) && kd_weights_find(l->w, name) != NULL);
    }
    if (m->head_row != NULL && !head) {
        return KD_FAIL(err, KD_E_DATA, "%s: holds no head, of which %s takes rows; set it to none",
                       kd_weights_file(l->w), m->task->head_key);
    }
    return KD_OK;
}

static kd_status load_all(load *l, kd_err *err)
{
    kd_load_report *r = l->r;
    for (int i = 0; i < kd_params_count(l->m->params); i++) {
        KD_TRY(load_one(l, i, err));
    }
    r->share = l->backbone > 0 ? (double)l->found / (double)l->backbone : 1.0;
    KD_TRY(find_unexpected(l, err));
    KD_TRY(judge(l, err));
    if (l->found < l->backbone) {
        kd_log(KD_LOG_WARN, "%s: holds %.1f %% of the backbone's parameters; drawn afresh: %s", kd_weights_file(l->w),
               100.0 * r->share, r->fresh_names);
    }
    return kd_json_ok(r->keys) ? KD_OK : KD_FAIL(err, KD_E_OOM, "weights: out of memory");
}

void kd_load_report_free(kd_load_report *r)
{
    kd_json_free(r->keys);
    r->keys = NULL;
}

static kd_status compare_layouts(const kd_model *m, const kd_weights *w, const kd_identity *origin, kd_err *err)
{
    if (m->layout[0] == '\0' || strcmp(kd_identity_layout(origin), m->layout) == 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA,
                   "%s: these weights were trained on skeletons of layout %s, the recipe's are of %s (skeleton.layout)",
                   kd_weights_file(w), kd_identity_layout(origin), m->layout);
}

kd_status kd_model_load(kd_model *m, const char *path, const char *key, bool fresh_head, char *const *classes,
                        kd_load_report *report, kd_err *err)
{
    static const char *const LIST[] = {"missing", "unexpected", "reshaped"};
    load l = {.m = m, .head = fresh_head ? HEAD_IF_IT_FITS : HEAD_EXACT, .r = report};
    kd_status st = KD_OK;
    *report = (kd_load_report){.keys = kd_json_object()};
    for (size_t i = 0; i < KD_COUNTOF(LIST); i++) {
        (void)kd_json_set_array(report->keys, LIST[i]);
    }
    KD_GO(kd_weights_open_key(path, key, m->task->names, &l.w, err));
    KD_GO(compare_classes(m, l.w, classes, &l.head, err));
    report->has_origin = kd_json_get(kd_weights_meta(l.w), "identity") != NULL;
    if (report->has_origin) {
        KD_GO(kd_identity_get(kd_weights_meta(l.w), &report->origin, err));
        KD_GO(compare_layouts(m, l.w, &report->origin, err));
    }
    KD_GO(load_all(&l, err));
    KD_GO(kd_weights_sha256(l.w, report->sha256, err));
    report->best = of_best(l.w);
    KD_GO(read_selection(l.w, report, err));
    st = kd_params_changed(m->params);
done:
    kd_weights_close(l.w);
    if (st != KD_OK) {
        kd_load_report_free(report);
    }
    return st;
}

kd_status kd_model_classes(const kd_task *task, const kd_config *cfg, const char *weights, kd_weights **out,
                           const kd_json **names, int *classes, kd_err *err)
{
    KD_TRY(kd_weights_open(weights, task->names, out, err));
    for (size_t i = 0; i < kd_weights_count(*out); i++) {
        const kd_weight *t = kd_weights_at(*out, i);
        if (kd_path_has_suffix(t->name, ".bias") && task->is_head(t->name)) {
            const int rows = (int)t->count;
            *classes = task->head_rows != NULL ? task->head_rows(cfg, rows) : rows;
            *names = *classes == rows ? kd_json_get(kd_weights_meta(*out), "classes") : NULL;
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_DATA, "%s: has no classifier tensor (head, fc or classifier)", weights);
}
