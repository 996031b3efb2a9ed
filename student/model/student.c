/* Registry of the students and what holds for all of them. */
#include "kernels/kd_layers.h"
#include "student/model/family.h"
#include "student/model/skeleton_graph.h"

#include <stdio.h>

static const kd_student_family *const FAMILIES[] = {&kd_family_last_v1, &kd_family_last_v2, &kd_family_last_e12,
                                                    &kd_family_last_e3, &kd_family_sfz,     &kd_family_sfz_b4};

const kd_student_info *kd_student_at(int i)
{
    for (size_t f = 0; f < KD_COUNTOF(FAMILIES) && i >= 0; f++) {
        if (i < FAMILIES[f]->n_models) {
            return &FAMILIES[f]->models[i];
        }
        i -= FAMILIES[f]->n_models;
    }
    return NULL;
}

int kd_student_count(void)
{
    int n = 0;
    for (size_t f = 0; f < KD_COUNTOF(FAMILIES); f++) {
        n += FAMILIES[f]->n_models;
    }
    return n;
}

const char *kd_student_name(int i)
{
    const kd_student_info *s = kd_student_at(i);
    return s != NULL ? s->name : NULL;
}

const char *kd_stream_name(int i)
{
    static const char *const NAME[] = {"joint", "velocity", "bone", "bone_velocity"};
    return i >= 0 && (size_t)i < KD_COUNTOF(NAME) ? NAME[i] : NULL;
}

const char *kd_student_stream(const kd_student_info *model, const char *chosen, int i)
{
    return model->n_streams == 1 ? chosen : model->streams[i];
}

const kd_student_info *kd_student_find(const char *name)
{
    const kd_student_info *s = NULL;
    for (int i = 0; (s = kd_student_at(i)) != NULL; i++) {
        if (strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

static bool rate_ok(float p)
{
    return p >= 0.0f && p < 1.0f;
}

static bool check(kd_graph *g, const kd_student_cfg *c, const kd_val *streams)
{
    char a[KD_SHAPE_TEXT_MAX], b[KD_SHAPE_TEXT_MAX];
    if (c->classes < 1 || c->frames < 4 || c->bodies < 1 || !rate_ok(c->dropout) || !rate_ok(c->drop_path)) {
        kd_graph_fail(g, KD_E_CONFIG,
                      "student %s: %d classes, %d frames, %d bodies, dropout %g, drop path %g; "
                      "expected at least 1 class, 4 frames and 1 body, rates in [0,1)",
                      c->model->name, c->classes, c->frames, c->bodies, (double)c->dropout, (double)c->drop_path);
        return false;
    }
    if ((c->fix & KD_FIX_PART_JOINTS) != 0) {
        int32_t as_is[KD_LAYOUT_JOINTS], mended[KD_LAYOUT_JOINTS];
        kd_skel_parts(c->layout, false, as_is);
        kd_skel_parts(c->layout, true, mended);
        if (memcmp(as_is, mended, (size_t)c->layout->joints * sizeof *mended) == 0) {
            kd_graph_fail(g, KD_E_CONFIG, "student %s: part_joints does nothing with layout %s; remove it",
                          c->model->name, c->layout->name);
            return false;
        }
    }
    const kd_shape first = kd_spec_of(g, streams[0]).shape;
    const kd_shape want = kd_shape5(first.rank > 0 ? first.dim[0] : 0, 3, c->frames, c->layout->joints, c->bodies);
    for (int i = 0; i < c->model->n_streams; i++) {
        const kd_shape in = kd_spec_of(g, streams[i]).shape;
        if (!kd_shape_equal(&in, &want)) {
            kd_graph_fail(g, KD_E_SHAPE, "student %s: stream %s is %s, expected %s (N,3,frames,joints of %s,bodies)",
                          c->model->name, c->model->streams[i], kd_shape_text(&in, a, sizeof a),
                          kd_shape_text(&want, b, sizeof b), c->layout->name);
            return false;
        }
    }
    return true;
}

kd_student_out kd_student_build(kd_graph *g, const kd_student_cfg *c, const kd_val *streams)
{
    kd_student_cfg full = *c;
    kd_student_out out = {KD_NONE, KD_NONE, KD_NONE};
    full.layout = c->layout != NULL ? c->layout : kd_layout_ntu25();
    full.dropout = c->dropout < 0.0f ? c->model->dropout : c->dropout;
    full.drop_path = c->drop_path < 0.0f ? KD_MAX(c->model->drop_path, 0.0f) : c->drop_path;
    if (!check(g, &full, streams)) {
        return out;
    }
    out = c->model->family->build(g, &full, streams);
    if (c->temperature > 0.0f && c->temperature != 1.0f) {
        out.logits = kd_scale(g, out.logits, 1.0f / c->temperature);
    }
    kd_output(g, "logits", out.logits);
    kd_output(g, "features", out.feature);
    return out;
}

static bool can_be_built(const kd_student_cfg *c)
{
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = p != NULL ? kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32}) : NULL;
    bool ok = g != NULL;
    if (ok) {
        const kd_layout *layout = c->layout != NULL ? c->layout : kd_layout_ntu25();
        kd_val x[KD_STUDENT_MAX_STREAMS];
        for (int i = 0; i < c->model->n_streams; i++) {
            x[i] = kd_input(g, c->model->streams[i], KD_F32, kd_shape5(1, 3, c->frames, layout->joints, c->bodies));
        }
        (void)kd_student_build(g, c, x);
        ok = kd_graph_error(g) == NULL;
    }
    kd_graph_free(g);
    kd_params_free(p);
    return ok;
}

int kd_student_least_frames(const kd_student_cfg *c)
{
    enum { ENOUGH = 64 }; /* for every student */
    kd_student_cfg more = *c;
    for (; more.frames < ENOUGH; more.frames++) {
        if (can_be_built(&more)) {
            return more.frames;
        }
    }
    return c->frames;
}

/* ---- state_dicts of the reference ------------------------------------------------------------ */

typedef kd_status (*extra_visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data,
                                 const char *of);

typedef struct extras {
    extra_visit visit;
    void *user;
    kd_params *params;
} extras;

static kd_status visit_constant(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data)
{
    const extras *x = user;
    return x->visit(x->user, name, dtype, shape, data, NULL);
}

static kd_status visit_alias(void *user, const char *name, const char *of)
{
    const extras *x = user;
    return x->visit(x->user, name, KD_F32, kd_params_at(x->params, kd_params_find(x->params, of))->shape, NULL, of);
}

/* A batch counter beside every running mean. */
static kd_status visit_counters(const extras *x)
{
    static const char last[] = ".running_mean";
    const int64_t zero = 0;
    for (int i = 0; i < kd_params_count(x->params); i++) {
        const char *of = kd_params_at(x->params, i)->name;
        const size_t n = strlen(of), tail = strlen(last);
        char name[160];
        if (n > tail && strcmp(of + n - tail, last) == 0) {
            (void)snprintf(name, sizeof name, "%.*s.num_batches_tracked", (int)(n - tail), of);
            KD_TRY(x->visit(x->user, name, KD_I64, kd_shape0(), &zero, NULL));
        }
    }
    return KD_OK;
}

static kd_status visit_constants(const kd_student_cfg *c, kd_student_visit visit, void *user)
{
    kd_student_cfg full = *c;
    full.layout = c->layout != NULL ? c->layout : kd_layout_ntu25();
    return c->model->family->constants(&full, visit, user);
}

kd_status kd_student_extras(const kd_student_cfg *c, kd_params *p, extra_visit visit, void *user)
{
    extras x = {visit, user, p};
    const kd_student_family *f = c->model->family;
    KD_TRY(visit_constants(c, visit_constant, &x));
    KD_TRY(visit_counters(&x));
    return f->aliases != NULL ? f->aliases(c->model, visit_alias, &x) : KD_OK;
}

typedef struct search {
    const char *name;
    bool found;
} search;

static kd_status compare(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data)
{
    (void)dtype;
    (void)shape;
    (void)data;
    search *s = user;
    s->found |= strcmp(name, s->name) == 0;
    return KD_OK;
}

static kd_status compare_alias(void *user, const char *name, const char *of)
{
    (void)of;
    return compare(user, name, KD_F32, kd_shape0(), NULL);
}

bool kd_student_is_constant(const kd_student_info *model, const char *name)
{
    const kd_student_family *f = model->family;
    const char *dot = strrchr(name, '.');
    search s = {.name = name};
    if (strcmp(dot != NULL ? dot + 1 : name, "num_batches_tracked") == 0 ||
        (f->aliases != NULL && f->aliases(model, compare_alias, &s) == KD_OK && s.found)) {
        return true;
    }
    return visit_constants(&(kd_student_cfg){.model = model}, compare, &s) == KD_OK && s.found;
}

bool kd_student_is_head(const char *name)
{
    const char *dot = strchr(name, '.');
    const bool of_backbone = strncmp(name, "backbone_", 9) == 0 && dot != NULL; /* "backbone_a.classifier.1.weight" */
    const char *rest = of_backbone ? dot + 1 : name;
    return strncmp(rest, "classifier.", 11) == 0 || strncmp(rest, "fc.", 3) == 0;
}

static bool contains_any(const char *name, const char *const *fragments)
{
    for (; *fragments != NULL; fragments++) {
        if (strstr(name, *fragments) != NULL) {
            return true;
        }
    }
    return false;
}

void kd_student_param_groups(kd_params *p, const kd_student_info *model, unsigned fix)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        kd_param_info *info = kd_params_at(p, i);
        const bool norm = (info->flags & KD_PARAM_NO_DECAY) != 0 && !model->family->norms_decay;
        const bool spared = (fix & KD_FIX_SHARED_DECAY) != 0 && strstr(info->name, "shared_a_learned") != NULL;
        info->decay = !norm && !info->buffer && !spared && !contains_any(info->name, model->family->no_decay);
    }
}
