/* What is said when the card is too small, before training starts; on the SIMT shim, whose memory is what a test
 * says. */
#include "distill/task/tasks.h"
#include "kernels/kd_ops.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

#include <cuda_runtime.h> /* tests/simt/ */

enum { BATCH = 64, CLASSES = 7 };

typedef struct bed {
    kd_backend *be;
    kd_config *cfg;
    kd_model model;
    kd_loss loss;
    kd_memory_need need;
} bed;

static void set_up(bed *b)
{
    static const char *const sets[] = {"kind=student", "student.name=sfz-nano", "skeleton.frames=16"};
    kd_err err = {0};
    memset(b, 0, sizeof *b);
    b->cfg = kd_calloc(1, sizeof *b->cfg);
    assert_non_null(b->cfg);
    assert_int_equal(kd_backend_cuda_open(NULL, &b->be, &err), KD_OK);
    assert_int_equal(kd_config_load(NULL, 0, sets, KD_COUNTOF(sets), b->cfg, &err), KD_OK);
    assert_int_equal(kd_model_open(kd_task_of(b->cfg), b->cfg, CLASSES, b->be, &b->model, &err), KD_OK);
    assert_int_equal(kd_loss_own(false, false, &b->loss, &err), KD_OK);
    assert_int_equal(kd_model_init(&b->model, &b->loss, 1, &err), KD_OK);
    b->need = (kd_memory_need){.loss = &b->loss, .batch = BATCH, .eval_batch = 8, .optimiser_slabs = 1};
}

static void tear_down(bed *b)
{
    simt_memory_limit(0);
    kd_loss_free(&b->loss);
    kd_model_close(&b->model);
    kd_backend_close(b->be);
    kd_free(b->cfg);
}

/* The batch the message names does fit, the next one does not. */
static void the_largest_batch_is_named(void **state)
{
    (void)state;
    bed b;
    set_up(&b);
    kd_err err = {0};
    assert_int_equal(kd_model_check_memory(&b.model, &b.need, &err), KD_OK);
    simt_memory_limit((size_t)200 << 20);
    assert_int_equal(kd_model_check_memory(&b.model, &b.need, &err), KD_E_OOM);
    print_message("  %s\n", err.msg);
    const char *at = strstr(err.msg, "largest batch that fits is ");
    assert_non_null(at);
    const int fits = atoi(at + strlen("largest batch that fits is "));
    assert_in_range(fits, 1, BATCH - 1);
    assert_non_null(strstr(err.msg, "GiB free of 0.20"));
    b.need.batch = fits;
    assert_int_equal(kd_model_check_memory(&b.model, &b.need, NULL), KD_OK);
    kd_program *p = NULL; /* and what was promised is kept */
    assert_int_equal(kd_model_train_program(&b.model, &b.loss, fits, &p, NULL), KD_OK);
    kd_program_free(p);
    b.need.batch = fits + 1;
    assert_int_equal(kd_model_check_memory(&b.model, &b.need, NULL), KD_E_OOM);
    tear_down(&b);
}

static void a_card_for_nothing(void **state)
{
    (void)state;
    bed b;
    set_up(&b);
    kd_err err = {0};
    simt_memory_limit((size_t)8 << 20);
    assert_int_equal(kd_model_check_memory(&b.model, &b.need, &err), KD_E_OOM);
    assert_non_null(strstr(err.msg, "not even a batch of 1 fits"));
    tear_down(&b);
}

static void a_plan_does_not_run(void **state)
{
    (void)state;
    bed b;
    set_up(&b);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = b.model.params, .dtype = KD_F32});
    const kd_scale_attr two = {2.0f};
    kd_output(g, "y", kd_node1(g, KD_OP_SCALE, &two, kd_input(g, "x", KD_F32, kd_shape1(1000))));
    kd_program *p = NULL;
    assert_int_equal(kd_program_compile(g, b.be, &(kd_compile_opts){.plan_only = true}, &p, NULL), KD_OK);
    assert_true(kd_program_arena_bytes(p) >= 8000);
    assert_int_equal(kd_program_run(p, NULL), KD_E_STATE);
    kd_program_free(p);
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_batch_is_named),
        cmocka_unit_test(a_card_for_nothing),
        cmocka_unit_test(a_plan_does_not_run),
    };
    return cmocka_run_group_tests_name("cuda memory", tests, NULL, NULL);
}
