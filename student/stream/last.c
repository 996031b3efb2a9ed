/* liblast: opening a student.  Frames and results are in last_run.c. */
#include "student/stream/last.h"

#include "kernels/kd_program.h"
#include "student/stream/backend.h"
#include "student/stream/file.h"
#include "student/stream/last_state.h"

#include <stdio.h>

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "the codes of last.h are those of kd_base.h")
SAME(KD_LAST_E_ARG, KD_E_ARG);
SAME(KD_LAST_E_IO, KD_E_IO);
SAME(KD_LAST_E_FORMAT, KD_E_FORMAT);
SAME(KD_LAST_E_DATA, KD_E_DATA);
SAME(KD_LAST_E_MEMORY, KD_E_OOM);
SAME(KD_LAST_E_UNSUPPORTED, KD_E_UNSUPPORTED);
SAME(KD_LAST_E_STATE, KD_E_STATE);
SAME(KD_LAST_E_NUMERIC, KD_E_NUMERIC);
SAME(KD_LAST_MESSAGE, sizeof((kd_err *)0)->msg);

enum { DEFAULT_SEQUENCE = 1024, DEFAULT_BODIES = 6, MOST_FRAMES = 1 << 20, STREAM_KINDS = 4 };

static const char *const STREAM[STREAM_KINDS] = {"joint", "velocity", "bone",
                                                 "bone_velocity"}; /* in the order of kd_sequence_streams */

/* ---- the model ------------------------------------------------------------------------------- */

static kd_graph *build(kd_last *l, bool training, kd_err *err)
{
    const kd_graph_opts o = {.params = l->params, .dtype = KD_F32, .training = training};
    const kd_student_cfg *c = &l->model;
    kd_graph *g = kd_graph_create(&o);
    if (g == NULL) {
        (void)KD_FAIL(err, KD_E_OOM, "out of memory");
        return NULL;
    }
    kd_val x[KD_STUDENT_MAX_STREAMS] = {{0}};
    for (int i = 0; i < c->model->n_streams; i++) {
        x[i] = kd_input(g, kd_last_stream_name(l, i), KD_F32, kd_shape5(1, 3, c->frames, c->layout->joints, c->bodies));
    }
    (void)kd_student_build(g, c, x);
    const kd_err *bad = kd_graph_error(g);
    if (bad != NULL) {
        (void)KD_FAIL(err, bad->code, "%s", bad->msg);
        kd_graph_free(g);
        return NULL;
    }
    return g;
}

static kd_status fetch(const kd_last_file *f, const kd_param_info *info, float *dst, kd_err *err)
{
    const kd_last_tensor *t = kd_last_file_find(f, info->name);
    char expected[KD_SHAPE_TEXT_MAX], found[KD_SHAPE_TEXT_MAX];
    if (t == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s is missing", info->name);
    }
    kd_shape shape = {.rank = KD_MIN(t->rank, KD_MAX_RANK)};
    memcpy(shape.dim, t->dim, (size_t)shape.rank * sizeof *shape.dim);
    if (t->rank > KD_MAX_RANK || !kd_shape_equal(&shape, &info->shape) || strcmp(t->dtype, "F32") != 0) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: expected F32 %s, found %s %s", info->name,
                       kd_shape_text(&info->shape, expected, sizeof expected), t->dtype,
                       kd_shape_text(&shape, found, sizeof found));
    }
    memcpy(dst, f->data + t->begin, t->end - t->begin);
    for (int64_t i = 0; i < info->numel; i++) {
        if (!(dst[i] - dst[i] == 0.0f)) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s: value %lld is not finite", info->name, (long long)i);
        }
    }
    return KD_OK;
}

/* unread (NULL: none): parameters that may be absent, because nothing reads them. */
static kd_status fill(kd_last *l, const kd_last_file *f, const bool *unread, kd_err *err)
{
    kd_status st = KD_OK;
    int64_t most = 1;
    for (int i = 0; i < kd_params_count(l->params); i++) {
        most = KD_MAX(most, kd_params_at(l->params, i)->numel);
    }
    float *values = kd_alloc((size_t)most * sizeof *values);
    if (values == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    for (int i = 0; i < kd_params_count(l->params); i++) {
        const kd_param_info *info = kd_params_at(l->params, i);
        if (unread != NULL && unread[i] && kd_last_file_find(f, info->name) == NULL) {
            continue; /* zero since kd_params_alloc */
        }
        KD_GO(fetch(f, info, values, err));
        KD_GO(kd_params_write(l->params, i, values, info->numel));
    }
done:
    kd_free(values);
    return st;
}

/* Parameters, and the layers in eight bits of a file that has them. */
static kd_status load(kd_last *l, const kd_last_file *f, kd_err *err)
{
    kd_quant q = {.n = 0};
    bool *unread = NULL;
    kd_status st = KD_OK;
    if (l->recipe.int8 == 0) {
        return fill(l, f, NULL, err);
    }
    KD_GO(kd_quant_open(l->program, &q, err));
    if (q.n != l->recipe.int8) {
        st = KD_FAIL(err, KD_E_FORMAT, "int8: expected %d, the layers of %s, found %d", (int)q.n, l->model.model->name,
                     l->recipe.int8);
        goto done;
    }
    unread = kd_last_unread(l->program, &q, l->params);
    st = unread != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
    if (st == KD_OK) {
        st = fill(l, f, unread, err);
    }
    if (st == KD_OK) {
        st = kd_last_int8_open(l->program, &q, f, &l->int8, err);
    }
done:
    kd_free(unread);
    kd_quant_free(&q);
    return st;
}

/* Where each stream goes: the program's own inputs, in the order of kd_sequence_streams. */
static void bind_streams(kd_last *l)
{
    int n = 0;
    for (int k = 0; k < STREAM_KINDS; k++) {
        const kd_tensor t = kd_program_tensor(l->program, STREAM[k]);
        if (t.data != NULL) {
            l->bits |= 1u << k;
            l->stream[n++] = t.data;
        }
    }
    KD_ASSERT(n == l->model.model->n_streams);
}

static kd_status prepare(kd_last *l, const kd_last_file *f, kd_err *err)
{
    const kd_compile_opts eval = {.loss = KD_NONE};
    l->be = kd_last_backend_open();
    l->params = kd_params_create(KD_F32);
    if (l->be == NULL || l->params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_graph *g = build(l, true, err); /* declares every parameter; the graph itself is thrown away */
    kd_graph_free(g);
    if (g == NULL) {
        return err->code;
    }
    KD_TRY(kd_params_alloc(l->params, l->be, KD_F32, false, err));
    g = build(l, false, err);
    if (g == NULL) {
        return err->code;
    }
    KD_TRY(kd_program_compile(g, l->be, &eval, &l->program, err));
    bind_streams(l);
    KD_TRY(load(l, f, err));
    const kd_status st = kd_program_run(l->program, NULL); /* folds and packs weights: takes the last memory */
    return st == KD_OK ? st : KD_FAIL(err, st, "forward pass failed in %s", kd_program_where(l->program));
}

/* ---- memory ---------------------------------------------------------------------------------- */

static kd_status reel_open(kd_reel *r, int frames, int bodies, kd_err *err)
{
    r->frames = frames;
    r->bodies = bodies;
    r->first = kd_calloc((size_t)frames + 1, sizeof *r->first);
    r->body = kd_calloc((size_t)frames, (size_t)bodies * sizeof *r->body);
    return r->first != NULL && r->body != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for %d frames", frames);
}

static void reel_close(kd_reel *r)
{
    kd_free(r->first);
    kd_free(r->body);
}

static kd_status rooms(kd_last *l, const kd_last_options *o, kd_err *err)
{
    const kd_student_cfg *c = &l->model;
    const int window = o != NULL && o->window != 0 ? o->window : c->frames;
    const int sequence = o != NULL && o->max_frames != 0 ? o->max_frames : DEFAULT_SEQUENCE;
    const int bodies = o != NULL && o->max_bodies != 0 ? o->max_bodies : DEFAULT_BODIES;
    if (window < 1 || sequence < 1 || bodies < 1 || window > MOST_FRAMES || sequence > MOST_FRAMES ||
        bodies > KD_SKEL_MAX_BODIES) {
        return KD_FAIL(err, KD_E_ARG,
                       "options: expected 1 to %d frames and 1 to %d bodies, found window %d, "
                       "max_frames %d, max_bodies %d",
                       MOST_FRAMES, KD_SKEL_MAX_BODIES, window, sequence, bodies);
    }
    l->window = window;
    l->most_bodies = bodies;
    KD_TRY(reel_open(&l->pushed, 2 * window, bodies, err));
    KD_TRY(reel_open(&l->sequence, sequence, bodies, err));
    const size_t most = (size_t)KD_MAX(2 * window, sequence) * (size_t)bodies;
    l->scratch = kd_alloc(kd_sequence_scratch(most));
    l->x = kd_calloc((size_t)3 * (size_t)c->frames, (size_t)c->layout->joints * (size_t)c->bodies * sizeof *l->x);
    l->logits = kd_calloc(2 * (size_t)c->classes, sizeof *l->logits);
    l->prob = l->logits != NULL ? l->logits + c->classes : NULL;
    return l->scratch != NULL && l->x != NULL && l->logits != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
}

/* Class names, each with its zero. */
static kd_status names(kd_last *l, kd_err *err)
{
    const int classes = l->model.classes;
    const char *text = l->recipe.class_names;
    const size_t bytes = text != NULL ? strlen(text) + 1 : (size_t)classes * sizeof "class 65536";
    l->name = kd_calloc((size_t)classes, sizeof *l->name);
    l->name_text = kd_alloc(bytes);
    if (l->name == NULL || l->name_text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    l->recipe.class_names = NULL; /* the caller's */
    if (text != NULL) {
        memcpy(l->name_text, text, bytes);
    }
    char *at = l->name_text;
    for (int i = 0; i < classes; i++) {
        l->name[i] = at;
        at += text != NULL ? (int)strcspn(at, "\n") : snprintf(at, sizeof "class 65536", "class %d", i);
        *at++ = '\0';
    }
    return KD_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* On failure *out may be there, for kd_last_close. */
static kd_status open_instance(const kd_last_recipe *recipe, const kd_last_file *f, const kd_last_options *options,
                               kd_last **out, kd_err *err)
{
    kd_last *l = kd_calloc(1, sizeof *l);
    *out = l;
    if (l == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    l->recipe = *recipe;
    KD_TRY(kd_last_recipe_model(recipe, &l->model, err));
    KD_TRY(kd_last_recipe_sequence(recipe, &l->spec, err));
    l->joints = kd_sequence_file_opts(&l->spec).joints;
    KD_TRY(names(l, err));
    KD_TRY(rooms(l, options, err));
    return prepare(l, f, err);
}

void kd_last_close(kd_last *l)
{
    if (l == NULL) {
        return;
    }
    kd_program_free(l->program);
    kd_last_int8_close(&l->int8);
    kd_params_free(l->params);
    kd_backend_close(l->be);
    reel_close(&l->pushed);
    reel_close(&l->sequence);
    kd_free(l->scratch);
    kd_free(l->x);
    kd_free(l->logits);
    kd_free(l->name);
    kd_free(l->name_text);
    kd_free(l);
}

/* ---- from a file ----------------------------------------------------------------------------- */

/* No tensor but the student's own and the constants that reference checkpoints hold. */
static kd_status check_extra(const kd_last *l, const kd_last_file *f, kd_err *err)
{
    for (int i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensor[i].name;
        const bool layer = l->recipe.int8 > 0 && strncmp(name, "int8.", 5) == 0;
        if (!layer && kd_params_find(l->params, name) < 0 && !kd_student_is_constant(l->model.model, name)) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s: %s has none of this name", name, l->model.model->name);
        }
    }
    return KD_OK;
}

static kd_status open_file(const void *bytes, size_t n, const kd_last_options *options, kd_last **out, kd_err *err)
{
    kd_last_file f = {.n_pairs = 0};
    kd_last_recipe recipe;
    kd_status st = KD_OK;
    bool ours = false;
    KD_GO(kd_last_file_parse(bytes, n, &f, err));
    KD_GO(kd_last_recipe_default(&recipe, err));
    for (int i = 0; i < f.n_pairs; i++) {
        bool known;
        ours = ours || strcmp(f.pair[i].key, "lastkd") == 0;
        KD_GO(kd_last_recipe_set(&recipe, f.pair[i].key, f.pair[i].value, &known, err));
    }
    if (!ours) {
        st =
            KD_FAIL(err, KD_E_FORMAT, "no recipe: expected the key lastkd in __metadata__; `distill export` writes it");
        goto done;
    }
    KD_GO(open_instance(&recipe, &f, options, out, err));
    st = check_extra(*out, &f, err);
done:
    kd_last_file_free(&f);
    if (st != KD_OK) {
        kd_last_close(*out);
        *out = NULL;
    }
    return st;
}

static int answer(kd_status st, const kd_err *err, char *message, size_t size)
{
    if (message != NULL && size > 0) {
        (void)snprintf(message, size, "%s", st == KD_OK ? "" : err->msg);
    }
    return (int)(st == KD_E_CONFIG || st == KD_E_SHAPE ? KD_E_FORMAT : st);
}

int kd_last_open_memory(const void *file, size_t bytes, const kd_last_options *options, kd_last **out, char *message,
                        size_t size)
{
    kd_err err = {0};
    *out = NULL;
    return answer(open_file(file, bytes, options, out, &err), &err, message, size);
}

int kd_last_open(const char *path, const kd_last_options *options, kd_last **out, char *message, size_t size)
{
    kd_err err = {0};
    void *file = NULL;
    size_t bytes = 0;
    *out = NULL;
    kd_status st = kd_last_file_read(path, &file, &bytes, &err);
    if (st == KD_OK) {
        st = open_file(file, bytes, options, out, &err);
    }
    if (st != KD_OK) {
        (void)kd_err_prefix(&err, st, "%s", path);
    }
    kd_free(file);
    return answer(st, &err, message, size);
}
