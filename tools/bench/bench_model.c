/* A model with random weights: one forward, or one training step with its optimiser. */
#include "kernels/kd_layers.h"
#include "kernels/kd_optim.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/model/student.h"
#include "teacher/model/vit.h"
#include "tools/bench/bench.h"

#include <stdio.h>

enum { CLASSES = 60, MAX_INPUTS = KD_STUDENT_MAX_STREAMS };

typedef struct bench_model {
    kd_backend *be;
    kd_params *params;
    kd_program *program;
    kd_optim *optim;
    const char *inputs[MAX_INPUTS];
    int n_inputs;
} bench_model;

static kd_status step(void *ctx)
{
    bench_model *m = ctx;
    KD_TRY(kd_program_run(m->program, NULL));
    return m->optim != NULL ? kd_optim_step(m->optim, 1e-6, NULL) : KD_OK;
}

/* Memory of the card that nobody has; 0 where there is no card. */
static size_t memory_left(kd_backend *be)
{
    size_t left = 0, all = 0;
    return be->ops->memory != NULL && be->ops->memory(be, &left, &all) == KD_OK ? left : 0;
}

static kd_status random_input(kd_program *p, const char *name, kd_err *err)
{
    const kd_tensor t = kd_program_tensor(p, name);
    const int64_t n = kd_shape_numel(&t.shape);
    const size_t bytes = (size_t)n * kd_dtype_size(t.dtype);
    void *x = kd_alloc(bytes);
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_rng r = kd_rng_make(1, KD_RNG_TEST, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t word = kd_rng_u32(&r);
        if (t.dtype == KD_U8) {
            ((uint8_t *)x)[i] = (uint8_t)(word >> 24);
        } else {
            ((float *)x)[i] = 2.0f * kd_rng_unit(word) - 1.0f;
        }
    }
    const kd_status st = kd_program_write(p, name, x, bytes);
    kd_free(x);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "input %s: %s", name, kd_status_text(st));
}

/* Teacher or student by name; the logits. */
static kd_status build(bench_model *m, kd_graph *g, const char *name, const kd_bench_opts *o, kd_val *logits,
                       kd_err *err)
{
    const kd_student_info *s = kd_student_find(name);
    kd_vit_cfg vit;
    if (s != NULL) {
        const kd_student_cfg cfg = {.model = s,
                                    .classes = CLASSES,
                                    .frames = 64,
                                    .bodies = (int)o->bodies,
                                    .dropout = -1.0f,
                                    .drop_path = -1.0f};
        kd_val x[KD_STUDENT_MAX_STREAMS];
        for (int i = 0; i < s->n_streams; i++) {
            x[i] = kd_input(g, s->streams[i], KD_F32, kd_shape5(o->batch, 3, 64, 25, o->bodies));
            m->inputs[m->n_inputs++] = s->streams[i];
        }
        *logits = kd_student_build(g, &cfg, x).logits;
        return KD_OK;
    }
    if (!kd_vit_preset(strncmp(name, "videomae2-", 10) == 0 ? name + 10 : name, &vit)) {
        return KD_FAIL(err, KD_E_ARG, "no model '%s'; `kd model info` lists the names", name);
    }
    vit.classes = CLASSES;
    const kd_val clip = kd_input(g, "clip", KD_U8, kd_shape5(o->batch, vit.frames, vit.img_size, vit.img_size, 3));
    m->inputs[m->n_inputs++] = "clip";
    *logits = kd_vit_build(g, &vit, &(kd_vit_input){.clip = clip}).logits;
    return KD_OK;
}

static kd_status prepare(bench_model *m, const char *name, kd_dtype t, const kd_bench_opts *o, kd_err *err)
{
    const bool train = strcmp(o->phase, "train") == 0;
    const kd_optim_cfg optim = {
        .kind = KD_OPTIM_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.05, .clip_grad = 1.0};
    kd_val logits = KD_NONE, loss = KD_NONE;
    m->params = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = m->params, .dtype = t, .training = train});
    if (m->params == NULL || g == NULL) {
        kd_graph_free(g);
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_status st = build(m, g, name, o, &logits, err);
    if (st == KD_OK && train) {
        loss = kd_ce(g, logits, kd_input(g, "target", KD_F32, kd_shape2(o->batch, CLASSES)), KD_NONE);
    } else if (st == KD_OK) {
        kd_output(g, "bench.logits", logits);
    }
    st = st == KD_OK ? kd_params_alloc(m->params, m->be, t, train, err) : st;
    st = st == KD_OK ? kd_params_init(m->params, 1, err) : st;
    if (st != KD_OK) {
        kd_graph_free(g);
        return st;
    }
    KD_TRY(kd_program_compile(g, m->be, &(kd_compile_opts){.loss = loss}, &m->program, err));
    for (int i = 0; i < m->n_inputs; i++) {
        KD_TRY(random_input(m->program, m->inputs[i], err));
    }
    if (train) {
        KD_TRY(random_input(m->program, "target", err));
        KD_TRY(kd_optim_create(m->params, &optim, &m->optim, err));
    }
    return KD_OK;
}

kd_status kd_bench_model(kd_bench *b, kd_backend *be, const char *name, kd_dtype t, const kd_bench_opts *o, kd_err *err)
{
    bench_model m = {.be = be};
    char label[128];
    kd_status st;
    const size_t before = memory_left(be);
    b->be = be;
    KD_GO(prepare(&m, name, t, o, err));
    (void)snprintf(label, sizeof label, "%s %s %s, batch %lld, %s", name, o->phase, kd_dtype_name(t),
                   (long long)o->batch, be->ops->name);
    KD_GO(kd_bench_time(b, label, (double)o->batch, "clips", step, &m, err));
    const size_t after = memory_left(be);
    kd_bench_row *row = &b->rows[b->count - 1];
    row->macs = (double)kd_program_macs(m.program);
    row->arena_bytes = kd_program_arena_bytes(m.program);
    row->device_bytes = before > after ? before - after : 0;
    row->params = kd_params_numel(m.params);
done:
    kd_optim_free(m.optim);
    kd_program_free(m.program);
    kd_params_free(m.params);
    return st;
}
