/* The judgement of a range test, against the same definitions worked out with NumPy. */
/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#include "distill/train/find_lr.h"

#include <string.h>

enum { N = 40 };

static const double LOSS[N] = {2.60105,  2.37075,  2.51876,  2.46846,  2.47274,  2.48243,  2.38905,  2.47382,
                               2.4354,   2.63497,  2.46586,  2.41641,  2.39068,  2.33005,  2.25354,  2.20958,
                               2.1524,   1.99025,  1.90053,  1.67628,  1.51494,  1.42464,  1.22508,  1.04644,
                               0.961739, 0.920725, 0.933299, 0.781774, 0.753778, 0.795544, 0.686852, 0.706753,
                               0.758708, 0.738969, 0.711362, 18.3722,  36.375,   73.4871,  148.37,   300.618};

typedef struct made {
    double rate[N], loss[N], smooth[N];
    kd_lr_curve c;
} made;

static void make(made *m, const double *loss)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < N; i++) {
        m->rate[i] = 1e-5 * pow(1e6, (double)i / (N - 1));
        m->loss[i] = loss[i];
    }
    m->c = (kd_lr_curve){.rate = m->rate, .loss = m->loss, .smooth = m->smooth, .n = N};
    kd_lr_judge(&m->c);
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-5)) {
        fail_msg("got %.12g, expected %.12g", got, want);
    }
}

static void test_curve(void **state)
{
    (void)state;
    made m;
    make(&m, LOSS);
    assert_true(m.c.diverged);
    assert_int_equal(m.c.n, 39);
    assert_int_equal(m.c.least, 34);
    assert_int_equal(m.c.steepest, 23);
    near(m.smooth[5], 2.48514659504719);
    near(m.smooth[34], 1.58818222229768);
}

/* A loss that never falls has no suggestion; one that is not finite ends the test before it. */
static void test_ends(void **state)
{
    (void)state;
    made m;
    double loss[N];
    for (int i = 0; i < N; i++) {
        loss[i] = 1.0 + 0.01 * i;
    }
    make(&m, loss);
    assert_false(m.c.diverged);
    assert_int_equal(m.c.n, N);
    assert_int_equal(m.c.least, 0);
    assert_int_equal(m.c.steepest, -1);
    loss[7] = (double)NAN;
    make(&m, loss);
    assert_true(m.c.diverged);
    assert_int_equal(m.c.n, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_curve), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
