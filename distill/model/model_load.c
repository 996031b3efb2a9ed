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

static kd_status read_values(kd_model *m, kd_weights *w, const kd_weight *t, int i, kd_err *err)
{
    const kd_param_info *e = kd_params_at(m->params, i);
    kd_status st = KD_OK;
    float *v = kd_alloc((size_t)e->numel * sizeof *v);
    if (v == NULL) {
        return KD_FAIL(err, KD_E_OOM, "weights: out of memory for %s", e->name);
    }
    KD_GO(kd_weights_read_f32(w, t, v, err));
    for (int64_t k = 0; k < e->numel; k++) {
        if (!isfinite(v[k])) {
            st = KD_FAIL(err, KD_E_NUMERIC, "%s: tensor %s: expected finite values, found %g at %lld",
                         kd_weights_file(w), e->name, (double)v[k], (long long)k);
            goto done;
        }
    }
    if (kd_params_write(m->params, i, v, e->numel) != KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "weights: %s cannot be written to the device", e->name);
    }
done:
    kd_free(v);
    return st;
}

static kd_status load_one(kd_model *m, kd_weights *w, int i, head_use head, kd_load_report *r, kd_err *err)
{
    const kd_param_info *e = kd_params_at(m->params, i);
    const kd_weight *t = kd_weights_find(w, e->name);
    const bool fresh_head = head != HEAD_EXACT;
    char want[KD_SHAPE_TEXT_MAX];
    if (t != NULL && head == HEAD_FRESH && is_head(m, e->name)) {
        r->reshaped++;
        note(r->missing_names, sizeof r->missing_names, e->name);
        return KD_OK;
    }
    if (t == NULL) {
        const bool fresh = is_added(e->name) || (fresh_head && may_be_fresh(m, e->name));
        r->missing++;
        note(r->missing_names, sizeof r->missing_names, e->name);
        return fresh ? KD_OK
                     : KD_FAIL(err, KD_E_DATA, "%s: tensor %s %s is missing", kd_weights_file(w), e->name,
                               kd_shape_text(&e->shape, want, sizeof want));
    }
    if (!same_shape(t, e)) {
        kd_shape have = {(int32_t)KD_MIN(t->rank, KD_MAX_RANK), {0}};
        char found[KD_SHAPE_TEXT_MAX];
        for (int d = 0; d < have.rank; d++) {
            have.dim[d] = t->dim[d];
        }
        if (fresh_head && is_head(m, e->name)) {
            r->reshaped++;
            note(r->missing_names, sizeof r->missing_names, e->name);
            return KD_OK;
        }
        return KD_FAIL(err, KD_E_DATA, "%s: tensor %s: expected %s, found %s", kd_weights_file(w), e->name,
                       kd_shape_text(&e->shape, want, sizeof want), kd_shape_text(&have, found, sizeof found));
    }
    KD_TRY(read_values(m, w, t, i, err));
    r->matched++;
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

kd_status kd_model_load(kd_model *m, const char *path, bool fresh_head, char *const *classes, kd_load_report *report,
                        kd_err *err)
{
    kd_weights *w = NULL;
    head_use head = fresh_head ? HEAD_IF_IT_FITS : HEAD_EXACT;
    kd_status st = KD_OK;
    memset(report, 0, sizeof *report);
    KD_GO(kd_weights_open(path, m->task->names, &w, err));
    KD_GO(compare_classes(m, w, classes, &head, err));
    for (int i = 0; i < kd_params_count(m->params); i++) {
        KD_GO(load_one(m, w, i, head, report, err));
    }
    for (size_t i = 0; i < kd_weights_count(w); i++) {
        const char *name = kd_weights_at(w, i)->name;
        const bool constant = m->task->is_constant != NULL && m->task->is_constant(m, name);
        if (kd_params_find(m->params, name) < 0 && !is_added(name) && !constant) {
            report->unexpected++;
            note(report->unexpected_names, sizeof report->unexpected_names, name);
        }
    }
    if (report->matched == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: no tensor belongs to model %s (the file starts with %s)", kd_weights_file(w),
                     m->name, kd_weights_count(w) != 0 ? kd_weights_at(w, 0)->name : "nothing");
        goto done;
    }
    KD_GO(kd_weights_sha256(w, report->sha256, err));
    report->has_origin = kd_json_get(kd_weights_meta(w), "identity") != NULL;
    if (report->has_origin) {
        KD_GO(kd_identity_get(kd_weights_meta(w), &report->origin, err));
    }
    report->best = of_best(w);
    KD_GO(read_selection(w, report, err));
    st = kd_params_changed(m->params);
done:
    kd_weights_close(w);
    return st;
}

kd_status kd_model_classes(const kd_task *task, const char *weights, kd_weights **out, int *classes, kd_err *err)
{
    KD_TRY(kd_weights_open(weights, task->names, out, err));
    for (size_t i = 0; i < kd_weights_count(*out); i++) {
        const kd_weight *t = kd_weights_at(*out, i);
        if (kd_path_has_suffix(t->name, ".bias") && task->is_head(t->name)) {
            *classes = (int)t->count;
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_DATA, "%s: has no classifier tensor (head, fc or classifier)", weights);
}
