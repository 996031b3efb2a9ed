/* Registry of the students and what holds for all of them. */
#include "student/model/family.h"
#include "student/model/skeleton_graph.h"

/* clang-format off */
static const kd_student_info students[] = {
    {"last-v1-small", {"joint"}, 1, 128, "LAST v1 small: A-GCN, temporal shift, linear attention; joint stream",
     175176, 0.3f, 0.0f, &kd_family_last_v1, 0},
    {"last-v1-base", {"joint"}, 1, 256, "LAST v1 base: A-GCN, temporal shift, linear attention; joint stream",
     672912, 0.3f, 0.0f, &kd_family_last_v1, 1},
    {"last-v1-large", {"joint"}, 1, 512, "LAST v1 large: A-GCN, temporal shift, linear attention; joint stream",
     2643744, 0.3f, 0.0f, &kd_family_last_v1, 2},
    {"last-e3-nano", {"joint", "velocity", "bone"}, 3, 64,
     "LAST-E v3 nano: partition GCN, separable TCN, motion and joint gates; 3 streams",
     82847, 0.2f, 0.0f, &kd_family_last_e3, 0},
    {"last-e3-small", {"joint", "velocity", "bone"}, 3, 96,
     "LAST-E v3 small: two-hop partitions with subset attention; 3 streams",
     344727, 0.25f, 0.0f, &kd_family_last_e3, 1},
    {"sfz-nano", {"joint", "bone", "velocity"}, 3, 128,
     "ShiftFuse-Zero nano: joint shifts, body-part GCN, temporal landmarks; 3 streams",
     93947, 0.1f, 0.05f, &kd_family_sfz, 0},
};
/* clang-format on */

int kd_student_count(void)
{
    return (int)KD_COUNTOF(students);
}

const kd_student_info *kd_student_at(int i)
{
    return i >= 0 && i < kd_student_count() ? &students[i] : NULL;
}

const kd_student_info *kd_student_find(const char *name)
{
    for (int i = 0; i < kd_student_count(); i++) {
        if (strcmp(students[i].name, name) == 0) {
            return &students[i];
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
    if (c->classes < 1 || c->frames < 4 || c->joints != KD_JOINTS || c->bodies < 1 || !rate_ok(c->dropout) ||
        !rate_ok(c->drop_path)) {
        kd_graph_fail(g, KD_E_CONFIG,
                      "student %s: %d classes, %d frames, %d joints, %d bodies, dropout %g, drop path %g; "
                      "expected at least 1 class, 4 frames and 1 body, %d joints, rates in [0,1)",
                      c->model->name, c->classes, c->frames, c->joints, c->bodies, (double)c->dropout,
                      (double)c->drop_path, KD_JOINTS);
        return false;
    }
    const kd_shape first = kd_spec_of(g, streams[0]).shape;
    const kd_shape want = kd_shape5(first.rank > 0 ? first.dim[0] : 0, 3, c->frames, c->joints, c->bodies);
    for (int i = 0; i < c->model->n_streams; i++) {
        const kd_shape in = kd_spec_of(g, streams[i]).shape;
        if (!kd_shape_equal(&in, &want)) {
            kd_graph_fail(g, KD_E_SHAPE, "student %s: stream %s is %s, expected %s (N,3,frames,joints,bodies)",
                          c->model->name, c->model->streams[i], kd_shape_text(&in, a, sizeof a),
                          kd_shape_text(&want, b, sizeof b));
            return false;
        }
    }
    return true;
}

kd_student_out kd_student_build(kd_graph *g, const kd_student_cfg *c, const kd_val *streams)
{
    kd_student_cfg full = *c;
    kd_student_out out = {KD_NONE, KD_NONE};
    full.dropout = c->dropout < 0.0f ? c->model->dropout : c->dropout;
    full.drop_path = c->drop_path < 0.0f ? c->model->drop_path : c->drop_path;
    if (!check(g, &full, streams)) {
        return out;
    }
    out = c->model->family->build(g, &full, streams);
    kd_output(g, "logits", out.logits);
    kd_output(g, "features", out.feature);
    return out;
}

kd_status kd_student_constants(const kd_student_cfg *c,
                               kd_status (*visit)(void *user, const char *name, kd_dtype dtype, kd_shape shape,
                                                  const void *data),
                               void *user)
{
    return c->model->family->constants(c->model, visit, user);
}

const char *kd_student_canonical(const kd_student_info *model, const char *name, char *buf, size_t size)
{
    return model->family->canonical == NULL ? name : model->family->canonical(name, buf, size);
}

/* Fragments any family's rules contain, and the one they all forgot. */
static const char *const spared[] = {"bias",      "bn",       "norm", "alpha", "A_learned",     "a_learned",
                                     "pool_gate", "je.embed", "edge", ".gate", "anchor_logits", NULL};

static bool contains_any(const char *name, const char *const *fragments)
{
    for (; *fragments != NULL; fragments++) {
        if (strstr(name, *fragments) != NULL) {
            return true;
        }
    }
    return false;
}

void kd_student_param_groups(kd_params *p, const kd_student_info *model, bool parity)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        kd_param_info *info = kd_params_at(p, i);
        const bool norm = (info->flags & KD_PARAM_NO_DECAY) != 0;
        const bool weight = (info->flags & KD_PARAM_MATRIX) != 0;
        bool spare = norm || (!weight && contains_any(info->name, spared));
        if (parity) {
            spare = contains_any(info->name, model->family->no_decay) || (norm && !model->family->norms_decay);
        }
        info->decay = !spare && !info->buffer;
    }
}
