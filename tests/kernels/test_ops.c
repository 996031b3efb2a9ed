/* Every op of the table: see op_driver.h.  The last test writes down what was covered and fails on an op nothing
 * exercised. */
#include "kernels/kd_rng.h"
#include "tests/check.h"
#include "tests/kernels/op_check.h"
#include "tests/kernels/op_driver.h"

#include <math.h>

static void test_control(void);
static void test_slabs(void);

/* A row in kd_op_list.inc without a TABLE_ in tests/cases/ does not compile.  An op has a table, or the name of the
 * test that covers it. */
typedef struct op_cases {
    const op_case *rows;
    size_t n;
    const char *by;
} op_cases;

/* clang-format off */
#define CASES(name)       {cases_##name, KD_COUNTOF(cases_##name), NULL}
#define GRADIENT_OF(name) {NULL, 0 * sizeof(cases_##name), "test_" #name}
#define BY_HAND(test)     {NULL, 0 * sizeof(&test), #test}
/* clang-format on */

/* trailing members left out on purpose: a row says what differs */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include "op_cases.inc" /* by CMake: tests/cases/<family>.inc of all families */

static const op_cases tables[KD_OP_COUNT] = {
#define KD_OP(ID, name, family, ins, outs, op_flags) [KD_OP_##ID] = TABLE_##ID,
#include "kernels/kd_op_list.inc"
#undef KD_OP
};

#define KD_OP(ID, op_name, family, ins, outs, op_flags)                   \
    static void test_##op_name(void)                                      \
    {                                                                     \
        const int before = op_failures();                                 \
        for (size_t i = 0; i < tables[KD_OP_##ID].n; i++) {               \
            op_run_case(KD_OP_##ID, &tables[KD_OP_##ID].rows[i], (int)i); \
        }                                                                 \
        CHECK(op_failures() == before);                                   \
    }
#include "kernels/kd_op_list.inc"
#undef KD_OP

/* Run the cases of an op, or name the test that covers an op without cases.  test_coverage checks that it does. */
static void run_op(kd_op op, const char *name, void (*test)(void))
{
    if (tables[op].by == NULL) {
        check_run(name, test);
    } else if (check_state.filter == NULL) {
        printf("covered %s: by %s\n", name, tables[op].by);
    }
}

/* ---- optimiser: hand-made calls over a slab with padding between its segments ---------------- */

enum { SLAB = 10007 };

/* Operands: slabs (which[i] < 0: absent), the low-precision copy where `shadow` says, segments, control. */
static void slab_call(kd_op op, const void *attr, const int *which, int n_slabs, int shadow, float *const *slab,
                      const kd_tensor *tail, int n_tail)
{
    static uint16_t low[2 * SLAB]; /* room for f32 */
    for (int d = 0; d < op_dtype_count; d++) {
        kd_tensor in[KD_MAX_IN], out[KD_MAX_OUT];
        for (int i = 0; i < n_slabs; i++) {
            in[i] = (kd_tensor){which[i] < 0 ? NULL : slab[which[i]], KD_F32, kd_shape1(SLAB)};
        }
        if (shadow >= 0) {
            in[shadow] = (kd_tensor){d == 0 ? NULL : (void *)low, op_dtypes[d], kd_shape1(SLAB)};
        }
        memcpy(in + n_slabs, tail, (size_t)n_tail * sizeof *tail);
        memcpy(out, in, sizeof out);
        const int n_out = op == KD_OP_EMA ? 1 : n_slabs - 1; /* all but the gradient */
        const kd_call c = {.in = in, .out = out, .n_in = n_slabs + n_tail, .n_out = n_out, .attr = attr};
        const int before = op_failures();
        CHECK(op_check_call(op, op_dtypes[d], &c, 64.0) == KD_OK);
        CHECK(op_failures() == before);
    }
}

/* One step of the control block after another, compared with the f64 kernel and with what they must come to. */
static void control_step(double *ctl, double sum)
{
    static const kd_optim_control_attr attr = {.clip = 5.0, .beta1 = 0.9, .beta2 = 0.999, .grow_every = 2};
    const int before = op_failures();
    double copy[KD_CTL_COUNT];
    for (int d = 0; d < op_dtype_count; d++) { /* the last one's step is the one that counts */
        double *block = d + 1 < op_dtype_count ? memcpy(copy, ctl, sizeof copy) : ctl;
        const kd_tensor in[2] = {{block, KD_F64, kd_shape1(KD_CTL_COUNT)}, {&sum, KD_F64, kd_shape0()}};
        const kd_call c = {.in = in, .out = in, .n_in = 2, .n_out = 1, .attr = &attr};
        CHECK(op_check_call(KD_OP_OPTIM_CONTROL, op_dtypes[d], &c, 1.0) == KD_OK);
    }
    CHECK(op_failures() == before);
}

static void test_control(void)
{
    double ctl[KD_CTL_COUNT] = {[KD_CTL_LOSS_SCALE] = 8.0};
    control_step(ctl, 6400.0); /* norm 80 / 8 = 10: clipped to half */
    CHECK(ctl[KD_CTL_NORM] == 10.0 && ctl[KD_CTL_APPLY] == 1.0 && ctl[KD_CTL_T] == 1.0);
    CHECK(fabs(ctl[KD_CTL_MULT] - 0.5 / 8.0) < 1e-7 && fabs(ctl[KD_CTL_BIAS1] - 0.1) < 1e-12);
    control_step(ctl, 64.0); /* the second good one: the scale doubles */
    CHECK(ctl[KD_CTL_MULT] == 0.125 && ctl[KD_CTL_LOSS_SCALE] == 16.0 && ctl[KD_CTL_GOOD] == 0.0);
    control_step(ctl, (double)INFINITY); /* skipped: the scale halves, t stays */
    CHECK(ctl[KD_CTL_APPLY] == 0.0 && ctl[KD_CTL_T] == 2.0 && ctl[KD_CTL_SKIPPED] == 1.0);
    CHECK(ctl[KD_CTL_LOSS_SCALE] == 8.0);
    control_step(ctl, (double)NAN);
    CHECK(ctl[KD_CTL_APPLY] == 0.0 && ctl[KD_CTL_LOSS_SCALE] == 4.0);
}

static void test_slabs(void)
{
    static float p[SLAB], m[SLAB], v[SLAB], ema[SLAB], g[SLAB];
    float *const slab[] = {p, m, v, ema, g};
    int64_t at[] = {0, 5, 16, 4080, 4112, 1, 4128, 5000, 9136, SLAB - 9136};
    float f[] = {1.0f, 0.05f, 0.5f, 0.0f, 1.0f, 0.1f, 0.75f, 0.05f, 1.0f, 0.0f};
    double ctl[KD_CTL_COUNT] = {[KD_CTL_LR] = 1e-3,
                                [KD_CTL_T] = 2.0,
                                [KD_CTL_APPLY] = 1.0,
                                [KD_CTL_MULT] = 0.3,
                                [KD_CTL_BIAS1] = 1.0 - 0.9 * 0.9,
                                [KD_CTL_BIAS2] = 1.0 - 0.999 * 0.999};
    const kd_tensor tail[] = {
        {at, KD_I64, kd_shape2(5, 2)}, {f, KD_F32, kd_shape2(5, 2)}, {ctl, KD_F64, kd_shape1(KD_CTL_COUNT)}};
    kd_rng r = kd_rng_make(1, KD_RNG_TEST, 8, 0);
    for (int i = 0; i < SLAB; i++) {
        p[i] = (float)kd_rng_normal(&r);
        m[i] = 0.1f * (float)kd_rng_normal(&r);
        v[i] = 0.01f * (float)kd_rng_uniform(&r);
        ema[i] = p[i] + 0.01f;
        g[i] = (float)kd_rng_normal(&r);
    }
    const float pad = p[10];
    float pad_ema = ema[4100];
    const kd_adamw_attr adamw = {0.9, 0.999, 1e-8, 0.99};
    slab_call(KD_OP_ADAMW, &adamw, (const int[]){0, 1, 2, 3, -1, 4}, 6, 4, slab, tail, 3);
    slab_call(KD_OP_ADAMW, &adamw, (const int[]){0, 1, 2, -1, -1, 4}, 6, 4, slab, tail, 3);
    ctl[KD_CTL_LR] = 0.1;
    ctl[KD_CTL_MULT] = 0.5;
    for (int k = 0; k < 6; k++) {
        const kd_sgd_attr sgd = {k < 4 ? 0.9 : 0.0, k & 1, 0.9};
        ctl[KD_CTL_T] = k < 2 ? 1.0 : 7.0;
        slab_call(KD_OP_SGD, &sgd, (const int[]){0, k < 5 ? 1 : -1, k & 1 ? 3 : -1, -1, 4}, 5, 3, slab, tail, 3);
    }
    const float keep = p[20];
    ctl[KD_CTL_APPLY] = 0.0; /* a step that is not to happen */
    slab_call(KD_OP_ADAMW, &adamw, (const int[]){0, 1, 2, 3, -1, 4}, 6, 4, slab, tail, 3);
    slab_call(KD_OP_SGD, &(kd_sgd_attr){0.9, 1, 0.9}, (const int[]){0, 1, 3, -1, 4}, 5, 3, slab, tail, 3);
    slab_call(KD_OP_EMA, &(kd_ema_attr){0.5}, (const int[]){3, 0}, 2, -1, slab, tail + 2, 1);
    CHECK(p[20] == keep);
    ctl[KD_CTL_APPLY] = 1.0;
    const kd_ema_attr decay = {0.999};
    slab_call(KD_OP_EMA, &decay, (const int[]){3, 0}, 2, -1, slab, tail + 2, 1);
    CHECK(p[10] == pad);                       /* between segments */
    for (int k = 0; k < op_dtype_count; k++) { /* called once a dtype; it knows no segments */
        pad_ema = 0.999f * pad_ema + (float)(1.0 - 0.999) * p[4100];
    }
    CHECK(fabsf(ema[4100] - pad_ema) <= 1e-6f);

    double sum = 0.0;
    const kd_tensor in = {g, KD_F32, kd_shape1(SLAB)}, out = {&sum, KD_F64, kd_shape0()};
    const kd_call norm = {.in = &in, .out = &out, .n_in = 1, .n_out = 1};
    const int before = op_failures();
    for (int d = 0; d < op_dtype_count; d++) {
        CHECK(op_check_call(KD_OP_GRAD_NORM, op_dtypes[d], &norm, 1.0) == KD_OK);
    }
    CHECK(op_failures() == before);
    double want = 0.0;
    for (int i = 0; i < SLAB; i++) {
        want += (double)g[i] * (double)g[i];
    }
    CHECK(fabs(sum - want) <= 1e-9 * want);
}

static void test_coverage(void)
{
    char name[64];
    (void)snprintf(name, sizeof name, "coverage_%s.txt", op_suite);
    FILE *f = fopen(name, "w");
    CHECK(f != NULL);
    const int missing = op_coverage(f);
    CHECK(fclose(f) == 0);
    CHECK(missing == 0);
}

/* Argument: a pattern of test names, e.g. 'test_linear*'. */
int main(int argc, char **argv)
{
    check_filter(argc > 1 ? argv[1] : NULL);
#define KD_OP(ID, op_name, family, ins, outs, op_flags) run_op(KD_OP_##ID, "test_" #op_name, test_##op_name);
#include "kernels/kd_op_list.inc"
#undef KD_OP
    CHECK_RUN(test_control);
    CHECK_RUN(test_slabs);
    CHECK_RUN(test_coverage);
    return check_end();
}
