/* A training step allocates nothing: inputs, program, loss, optimiser (clipping, EMA) of a teacher and of every
 * student, after the first steps, by the count of allocating calls. */
#include "distill/task/tasks.h"
#include "kernels/kd_optim.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { BATCH = 2, CLASSES = 6, WARM = 2, STEPS = 4 };

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

typedef struct step_case {
    const char *name;
    const char *sets[8];
} step_case;

static const step_case cases[] = {
    {"teacher f32", {"kind=teacher", "teacher.variant=tiny", "teacher.depth=2", "teacher.drop_path=0.1"}},
    {"teacher bf16", {"kind=teacher", "teacher.variant=tiny", "teacher.depth=2", "train.dtype=bf16"}},
    {"teacher of bytes", {"kind=teacher", "teacher.variant=tiny", "teacher.depth=2", "video.spatial=short_side_crop"}},
    {"teacher recompute", {"kind=teacher", "teacher.variant=tiny", "teacher.depth=2", "teacher.recompute=true"}},
    {"last-v1-base", {"kind=student", "student.name=last-v1-base", "skeleton.frames=16"}},
    {"last-e3-nano", {"kind=student", "student.name=last-e3-nano", "skeleton.frames=16"}},
    {"sfz-nano", {"kind=student", "student.name=sfz-nano", "skeleton.frames=16", "optim.name=sgd"}},
};

static void write_all(kd_program *p, const kd_model *m, const float *x, const float *target)
{
    static const float ones[BATCH] = {1.0f, 1.0f};
    static const int32_t place[BATCH][KD_PLACE + KD_BOX] = {
        {[KD_PLACE_FLIP] = 1},
        {[KD_PLACE + KD_BOX_FRAME] = -1, [KD_PLACE + KD_BOX_HEIGHT] = 20, [KD_PLACE + KD_BOX_WIDTH] = 9}};
    for (int i = 0; i < m->n_inputs; i++) {
        const size_t bytes = kd_spec_bytes(&m->train_item[i]) * BATCH;
        assert_int_equal(kd_program_write(p, m->inputs[i], x, bytes), KD_OK);
    }
    if (m->side > 0) {
        assert_int_equal(kd_program_write(p, "place", place, sizeof place), KD_OK);
    }
    assert_int_equal(kd_program_write(p, "target", target, sizeof(float) * BATCH * CLASSES), KD_OK);
    assert_int_equal(kd_program_write(p, "valid", ones, sizeof ones), KD_OK);
}

static void one_case(const step_case *c, kd_backend *be)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_model m;
    kd_program *p = NULL;
    kd_optim *o = NULL;
    kd_err err = {0};
    size_t n = 0, floats = 0;
    float target[BATCH * CLASSES], loss = 0.0f;
    assert_non_null(cfg);
    while (n < KD_COUNTOF(c->sets) && c->sets[n] != NULL) {
        n++;
    }
    must(kd_config_load(NULL, 0, c->sets, n, cfg, &err), &err);
    must(kd_model_open(kd_task_of(cfg), cfg, CLASSES, be, &m, &err), &err);
    kd_loss loss_terms;
    must(kd_loss_own(false, false, &loss_terms, &err), &err);
    must(kd_model_init(&m, &loss_terms, 1, &err), &err);
    must(kd_model_train_program(&m, &loss_terms, BATCH, &p, &err), &err);
    const kd_optim_cfg oc = {.kind = cfg->optim.name,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .momentum = 0.9,
                             .nesterov = true,
                             .weight_decay = 0.05,
                             .clip_grad = 1.0,
                             .ema_decay = 0.99};
    must(kd_optim_create(m.params, &oc, &o, &err), &err);
    for (int i = 0; i < m.n_inputs; i++) {
        floats = KD_MAX(floats, (size_t)kd_shape_numel(&m.train_item[i].shape) * BATCH);
    }
    float *x = kd_calloc(floats, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < floats; i++) {
        x[i] = (float)(i % 17) * 0.1f - 0.8f;
    }
    for (int i = 0; i < BATCH * CLASSES; i++) {
        target[i] = i % CLASSES == i / CLASSES ? 1.0f : 0.0f;
    }
    uint64_t before = 0;
    for (int s = 0; s < WARM + STEPS; s++) {
        if (s == WARM) {
            before = kd_alloc_calls();
        }
        const kd_step step = {.seed = 1, .step = (uint64_t)s, .grad_scale = 1.0f};
        double norm = 0.0;
        write_all(p, &m, x, target);
        assert_int_equal(kd_program_run(p, &step), KD_OK);
        assert_int_equal(kd_program_read_f32(p, "loss", &loss, 1), KD_OK);
        assert_true(isfinite(loss));
        assert_int_equal(kd_optim_step(o, 1e-3, &norm), KD_OK);
        assert_true(norm > 0.0);
    }
    const uint64_t calls = kd_alloc_calls() - before;
    if (calls != 0) {
        fail_msg("%s: %llu allocations in %d steps", c->name, (unsigned long long)calls, STEPS);
    }
    kd_free(x);
    kd_optim_free(o);
    kd_program_free(p);
    kd_loss_free(&loss_terms);
    kd_model_close(&m);
    kd_free(cfg);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    const uint64_t before = kd_alloc_calls();
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        one_case(&cases[i], be);
    }
    assert_true(kd_alloc_calls() > before + 100); /* the counter counts */
    kd_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_allocate_nothing)};
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
