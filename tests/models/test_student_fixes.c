/* What the repairs of students change (KD_FIX_*): the logits of a sample with one body, the gradient of an adjacency
 * that starts at zero. */
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/model/student.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { CLASSES = 5, FRAMES = 16, JOINTS = 25, BATCH = 2, CELLS = 3 * FRAMES * JOINTS, BODIES = 2 };

typedef struct net {
    kd_backend *be;
    kd_params *params;
    kd_program *program;
    const kd_student_info *student;
} net;

static net make(const char *name, unsigned fix, int bodies, bool training)
{
    net n = {.student = kd_student_find(name), .params = kd_params_create(KD_F32)};
    const kd_student_cfg cfg = {.model = n.student, .classes = CLASSES, .frames = FRAMES, .bodies = bodies, .fix = fix};
    kd_err err = {0};
    assert_int_equal(kd_backend_cpu_open(1, &n.be, &err), KD_OK);
    for (int pass = 0; pass < 2; pass++) {
        kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = n.params, .dtype = KD_F32, .training = training});
        kd_val in[KD_STUDENT_MAX_STREAMS] = {{0}};
        for (int i = 0; i < n.student->n_streams; i++) {
            in[i] = kd_input(g, n.student->streams[i], KD_F32, kd_shape5(BATCH, 3, FRAMES, JOINTS, bodies));
        }
        kd_val loss = kd_student_build(g, &cfg, in).logits;
        loss = kd_ce(g, loss, kd_input(g, "target", KD_F32, kd_shape2(BATCH, CLASSES)), KD_NONE);
        kd_output(g, "loss", loss);
        if (pass == 0) {
            assert_null(kd_graph_error(g));
            kd_graph_free(g);
            assert_int_equal(kd_params_alloc(n.params, n.be, KD_F32, true, &err), KD_OK);
            assert_int_equal(kd_params_init(n.params, 3, &err), KD_OK);
            continue;
        }
        const kd_compile_opts o = {.loss = training ? loss : KD_NONE, .poison = true};
        assert_int_equal(kd_program_compile(g, n.be, &o, &n.program, &err), KD_OK);
    }
    return n;
}

static void done(net *n)
{
    kd_program_free(n->program);
    kd_params_free(n->params);
    kd_backend_close(n->be);
}

/* Body 0 is drawn from the stream's name, the others are zero. */
static void run(const net *n, int bodies, float logits[BATCH * CLASSES])
{
    static float x[BATCH * CELLS * BODIES];
    float target[BATCH * CLASSES] = {0};
    for (int s = 0; s < n->student->n_streams; s++) {
        const char *name = n->student->streams[s];
        kd_rng r = kd_rng_make(kd_crc32(name, strlen(name)), KD_RNG_INIT, 0, 0);
        memset(x, 0, sizeof x);
        for (int i = 0; i < BATCH * CELLS; i++) {
            x[i * bodies] = (float)kd_rng_normal(&r);
        }
        assert_int_equal(kd_program_write(n->program, name, x, (size_t)(BATCH * CELLS * bodies) * sizeof *x), KD_OK);
    }
    target[1] = target[CLASSES + 2] = 1.0f;
    assert_int_equal(kd_program_write(n->program, "target", target, sizeof target), KD_OK);
    assert_int_equal(kd_params_zero_grad(n->params), KD_OK);
    assert_int_equal(kd_program_run(n->program, NULL), KD_OK);
    if (logits != NULL) {
        assert_int_equal(kd_program_read_f32(n->program, "logits", logits, BATCH * CLASSES), KD_OK);
    }
}

/* A sample whose second body is absent gets the logits of its one body. */
static void absent_bodies(void **state)
{
    (void)state;
    static const char *const names[] = {"sfz-nano", "sfz-small", "sfz-large", "last-v2-small"};
    for (size_t k = 0; k < KD_COUNTOF(names); k++) {
        float logits[3][BATCH * CLASSES], off = 0.0f, apart = 0.0f;
        for (int i = 0; i < 3; i++) { /* one body; two with the repair; two as the reference */
            net n = make(names[k], i == 1 ? KD_FIX_EMPTY_BODY : 0, i == 0 ? 1 : BODIES, false);
            run(&n, i == 0 ? 1 : BODIES, logits[i]);
            done(&n);
        }
        for (int i = 0; i < BATCH * CLASSES; i++) {
            off = fmaxf(off, fabsf(logits[1][i] - logits[0][i]));
            apart = fmaxf(apart, fabsf(logits[2][i] - logits[0][i]));
        }
        if (!(off <= 2e-6f && apart > 1e-4f)) {
            fail_msg("%s: off by %g with the repair, %g without", names[k], (double)off, (double)apart);
        }
    }
}

/* Entries of learned adjacencies that have a gradient. */
static int moving(const char *name, unsigned fix, const char *param)
{
    float g[JOINTS * JOINTS];
    int count = 0;
    net n = make(name, fix, BODIES, true);
    run(&n, BODIES, NULL);
    assert_int_equal(kd_params_read_grad(n.params, kd_params_find(n.params, param), g, JOINTS * JOINTS), KD_OK);
    for (int i = 0; i < JOINTS * JOINTS; i++) {
        count += g[i] != 0.0f;
    }
    done(&n);
    return count;
}

static void adjacencies_that_move(void **state)
{
    (void)state;
    static const char *const of[][2] = {{"last-e1-nano", "stage1.0.gcn.A_learned"},
                                        {"last-v2-small", "backbone.0.gcn.A_learned"}};
    for (size_t k = 0; k < KD_COUNTOF(of); k++) {
        assert_int_equal(moving(of[k][0], 0, of[k][1]), 0);
        assert_true(moving(of[k][0], KD_FIX_ADJACENCY_START, of[k][1]) > 600);
    }
    assert_int_equal(moving("sfz-nano", 0, "shared_a_learned.1"), 10); /* the edges between adjacent parts */
    assert_true(moving("sfz-nano", KD_FIX_ADJACENCY_START, "shared_a_learned.1") > 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_bodies),
        cmocka_unit_test(adjacencies_that_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
