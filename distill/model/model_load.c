/* Weights into a model: every tensor accounted for.  See model.h. */
#include "distill/model/model.h"
#include "distill/model/task.h"
#include "formats/weights/weights.h"

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

static kd_status load_one(kd_model *m, kd_weights *w, int i, bool fresh_head, kd_load_report *r, kd_err *err)
{
    const kd_param_info *e = kd_params_at(m->params, i);
    const kd_weight *t = kd_weights_find(w, e->name);
    char want[KD_SHAPE_TEXT_MAX];
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
    float *v = kd_alloc((size_t)e->numel * sizeof *v);
    if (v == NULL) {
        return KD_FAIL(err, KD_E_OOM, "weights: out of memory for %s", e->name);
    }
    kd_status st = kd_weights_read_f32(w, t, v, err);
    if (st == KD_OK && kd_params_write(m->params, i, v, e->numel) != KD_OK) {
        st = KD_FAIL(err, KD_E_DEVICE, "weights: %s cannot be written to the device", e->name);
    }
    kd_free(v);
    r->matched += st == KD_OK ? 1 : 0;
    return st;
}

kd_status kd_model_load(kd_model *m, const char *path, bool fresh_head, kd_load_report *report, kd_err *err)
{
    kd_weights *w = NULL;
    kd_status st = KD_OK;
    memset(report, 0, sizeof *report);
    KD_GO(kd_weights_open(path, m->task->names, &w, err));
    for (int i = 0; i < kd_params_count(m->params); i++) {
        KD_GO(load_one(m, w, i, fresh_head, report, err));
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
    st = kd_params_changed(m->params);
done:
    kd_weights_close(w);
    return st;
}
