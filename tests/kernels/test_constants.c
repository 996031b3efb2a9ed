/* A linear layer whose weight is a constant: results and the gradient of what it reads, in training and forward-only
 * programs, by all kernels and by the plain ones. */
#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { M = 33, IN = 24, OUT = 20 };

static float w[OUT * IN], x[M * IN], target[M * OUT];

static void fill(void)
{
    for (int i = 0; i < OUT * IN; i++) {
        w[i] = 0.25f * (float)sin(0.7 * i);
    }
    for (int i = 0; i < M * IN; i++) {
        x[i] = (float)cos(0.37 * i);
    }
    for (int i = 0; i < M; i++) {
        target[i * OUT + i % OUT] = 1.0f;
    }
}

/* y = x w^T, and dx of the mean cross-entropy unless dx is NULL. */
static void run(bool plain, float *y, float *dx)
{
    const bool training = dx != NULL;
    kd_err err = {0};
    kd_backend *be = NULL;
    kd_program *prog = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, &err), KD_OK);
    be->plain = plain;
    kd_params *p = kd_params_create(KD_F32);
    assert_int_equal(kd_params_alloc(p, be, KD_F32, training, &err), KD_OK);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = training});
    const kd_val in = kd_input(g, "x", KD_F32, kd_shape2(M, IN));
    const kd_linear_attr at = {.stat_out = 1};
    const kd_val out = kd_node2(g, KD_OP_LINEAR, &at, in, kd_const(g, "w", KD_F32, kd_shape2(OUT, IN), w));
    const kd_val loss = kd_ce(g, out, kd_input(g, "target", KD_F32, kd_shape2(M, OUT)), KD_NONE);
    kd_output(g, "y", out);
    kd_output(g, "loss", loss);
    const kd_compile_opts co = {
        .loss = training ? loss : KD_NONE, .grad_inputs = &in, .n_grad_inputs = training ? 1 : 0, .poison = true};
    assert_int_equal(kd_program_compile(g, be, &co, &prog, &err), KD_OK);
    assert_int_equal(kd_program_write(prog, "x", x, sizeof x), KD_OK);
    assert_int_equal(kd_program_write(prog, "target", target, sizeof target), KD_OK);
    assert_int_equal(kd_program_run(prog, NULL), KD_OK);
    assert_int_equal(kd_program_read_f32(prog, "y", y, M * OUT), KD_OK);
    if (training) {
        assert_int_equal(kd_program_read_f32(prog, "grad:x", dx, M * IN), KD_OK);
    }
    kd_program_free(prog);
    kd_params_free(p);
    kd_backend_close(be);
}

/* Row i by plain loops in f64. */
static void check_row(int i, const float *y, const float *dx)
{
    double share[OUT], all = 0.0;
    for (int o = 0; o < OUT; o++) {
        double sum = 0.0;
        for (int c = 0; c < IN; c++) {
            sum += (double)x[i * IN + c] * (double)w[o * IN + c];
        }
        assert_true(fabs(sum - (double)y[i * OUT + o]) <= 1e-5);
        share[o] = exp(sum);
        all += share[o];
    }
    for (int c = 0; dx != NULL && c < IN; c++) {
        double want = 0.0;
        for (int o = 0; o < OUT; o++) {
            want += (share[o] / all - (double)target[i * OUT + o]) / M * (double)w[o * IN + c];
        }
        assert_true(fabs(want - (double)dx[i * IN + c]) <= 1e-6);
    }
}

static void constants_serve_as_weights(void **state)
{
    (void)state;
    static float y[M * OUT], dx[M * IN];
    fill();
    for (int how = 0; how < 4; how++) {
        float *grad = how % 2 == 1 ? dx : NULL;
        run(how >= 2, y, grad);
        for (int i = 0; i < M; i++) {
            check_row(i, y, grad);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(constants_serve_as_weights)};
    return cmocka_run_group_tests_name("constants", tests, NULL, NULL);
}
